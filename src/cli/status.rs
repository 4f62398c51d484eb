//! `weir status`

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use serde_json::Value;

use super::{RunningWeir, admin_client};

pub(super) fn status(weir: &RunningWeir, json: bool) -> anyhow::Result<ExitCode> {
    let answer = admin_client::ask(weir, Method::GET, "/api/status")?;
    if answer.status != StatusCode::OK {
        bail!("{}", answer.reason());
    }
    let status: Value = serde_json::from_slice(&answer.body).context(admin_client::NOT_WEIR)?;
    if !status["version"].is_string() {
        bail!(admin_client::NOT_WEIR);
    }
    super::out(&if json {
        format!("{status:#}\n")
    } else {
        table(&status)
    })?;
    Ok(if status["ready"] == Value::Bool(true) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// What an operator looks for first.
fn table(status: &Value) -> String {
    let mut out = String::new();
    let config = &status["config"];
    let last = &config["last_reload"];
    let _ = writeln!(
        out,
        "weir {}, process {}, {}",
        text(&status["version"]),
        status["process"],
        if status["ready"] == true {
            "ready"
        } else {
            "not ready"
        }
    );
    let _ = writeln!(
        out,
        "config {} ({}), since {}",
        text(&config["hash"]),
        text(&config["file"]),
        text(&config["loaded_at"])
    );
    let said = match config["source"].as_str() {
        Some("rolled_back") => Some("ROLLED BACK"),
        Some("last_good") => Some("THE FILE WAS BAD AT THE START, the last good config runs"),
        _ => None,
    };
    if let Some(said) = said {
        let _ = writeln!(out, "{said}: {} is not what runs", text(&config["file"]));
    }
    match (last["result"].as_str(), text(&last["message"])) {
        (Some("refused"), message) => {
            let _ = writeln!(
                out,
                "LAST RELOAD REFUSED at {}: {message}",
                text(&last["at"])
            );
        }
        (_, "") => {}
        (_, message) => {
            let _ = writeln!(out, "{message}");
        }
    }
    for certificate in items(&status["certificates"]) {
        let left = match certificate["days_left"].as_i64() {
            Some(days @ 0..) => format!("expires in {days} days"),
            Some(_) => "HAS EXPIRED".to_owned(),
            None => "expires at a time that cannot be read".to_owned(),
        };
        let _ = writeln!(
            out,
            "certificate {:<24} of {:<16} {left}",
            text(&certificate["cert"]),
            text(&certificate["listen"])
        );
        if let Some(error) = certificate["error"].as_str() {
            let _ = writeln!(
                out,
                "  ITS FILES WERE REFUSED, the one before stays: {error}"
            );
        }
    }
    if let Some(message) = status["failed_upgrade"]["message"].as_str() {
        let at = text(&status["failed_upgrade"]["at"]);
        let _ = writeln!(out, "AN UPGRADE HAS FAILED at {at}: {message}");
    }
    for listener in items(&status["listeners"]) {
        let _ = writeln!(
            out,
            "listen {:<16} {:<24} {} connections",
            text(&listener["name"]),
            text(&listener["address"]),
            listener["connections"]
        );
    }
    for upstream in items(&status["upstreams"]) {
        let _ = writeln!(out, "upstream {}", text(&upstream["name"]));
        for server in items(&upstream["servers"]) {
            let latency = |name: &str| {
                server["latency_ms"][name]
                    .as_f64()
                    .map_or("-".to_owned(), |ms| format!("{ms:.1} ms"))
            };
            let _ = writeln!(
                out,
                "  {:<24} {:<9} in flight {:<5} requests {:<9} failures {:<7} p50 {:<9} p95 {:<9} {}",
                text(&server["address"]),
                text(&server["state"]),
                server["in_flight"].to_string(),
                server["requests"].to_string(),
                server["failures"].to_string(),
                latency("p50"),
                latency("p95"),
                text(&server["reason"])
            );
        }
        for name in items(&upstream["names"]) {
            if let Some(error) = name["error"].as_str() {
                let _ = writeln!(
                    out,
                    "  name {} IS NOT RESOLVED: {error}",
                    text(&name["name"])
                );
            }
        }
    }
    cache(&mut out, &status["cache"]);
    out
}

/// Nothing where there is none.
fn cache(out: &mut String, cache: &Value) {
    if cache["max_bytes"].as_u64().unwrap_or_default() == 0 {
        return;
    }
    let mib = |name: &str| cache[name].as_f64().unwrap_or_default() / f64::from(1 << 20);
    let ratio = cache["hit_ratio"]
        .as_f64()
        .map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let _ = writeln!(
        out,
        "cache {} entries, {:.1} of {:.0} MiB, hit ratio {ratio}, fills {}, evictions {}",
        cache["entries"],
        mib("bytes"),
        mib("max_bytes"),
        cache["fills"],
        cache["evictions"]
    );
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_that_has_failed_is_told() {
        let told = |failed: Value| table(&serde_json::json!({ "failed_upgrade": failed }));
        let failed = serde_json::json!({ "at": "2026-01-01T00:00:00Z", "message": "too slow" });
        let line = "AN UPGRADE HAS FAILED at 2026-01-01T00:00:00Z: too slow\n";
        assert!(told(failed).contains(line));
        assert!(!told(Value::Null).contains("UPGRADE"));
    }

    #[test]
    fn a_cache_has_its_line() {
        let told = |ratio: Value| {
            table(&serde_json::json!({ "cache": {
                "entries": 12, "bytes": 3_300_000, "max_bytes": 64 << 20, "hit_ratio": ratio, "fills": 2, "evictions": 1,
            } }))
        };
        let line = "cache 12 entries, 3.1 of 64 MiB, hit ratio 93.4 %, fills 2, evictions 1\n";
        assert!(told(0.934.into()).ends_with(line), "{}", told(0.934.into()));
        assert!(told(Value::Null).contains("hit ratio -,"));
        let none = serde_json::json!({ "cache": { "max_bytes": 0 } });
        assert!(!table(&none).contains("cache"));
    }

    #[test]
    fn a_certificate_tells_how_long_it_is_good() {
        let told = |days: Value, error: Value| {
            let certificate = serde_json::json!({ "cert": "site.pem", "listen": "web", "days_left": days, "error": error });
            table(&serde_json::json!({ "certificates": [certificate] }))
        };
        assert!(told(12.into(), Value::Null).contains("expires in 12 days\n"));
        assert!(told((-1).into(), Value::Null).contains("HAS EXPIRED\n"));
        let refused = told(12.into(), "`site.key` has no private key".into());
        assert!(
            refused.contains("REFUSED, the one before stays: `site.key` has"),
            "{refused}"
        );
    }

    #[test]
    fn a_name_without_an_answer_is_told() {
        let name = |error: Value| serde_json::json!({ "name": "app.internal:80", "error": error });
        let status = |error| serde_json::json!({ "upstreams": [{ "name": "app", "servers": [], "names": [name(error)] }] });
        let told = "  name app.internal:80 IS NOT RESOLVED: no such name\n";
        assert!(table(&status("no such name".into())).contains(told));
        assert!(!table(&status(Value::Null)).contains("app.internal"));
    }
}
