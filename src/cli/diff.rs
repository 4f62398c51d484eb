//! `weir diff`

use std::fmt::Write as _;
use std::io::stdout;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::Format;
use super::{RunningWeir, admin_client};
use crate::config::{self, Comparison, LoadError};

/// What `GET /api/config` says.
#[derive(Deserialize)]
struct Runs {
    hash: String,
    file: String,
    config: Value,
}

pub(super) fn diff(weir: &RunningWeir, format: Format) -> anyhow::Result<ExitCode> {
    let loaded = config::find(weir.config.config.clone()).and_then(|file| config::load(&file));
    let config = match loaded {
        Ok(config) => config,
        // 1 would say that it is valid and differs.
        Err(error @ LoadError::Invalid(_)) => {
            super::report(&error.into());
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error.into()),
    };
    let answer = admin_client::ask(weir, Method::GET, "/api/config")?;
    if answer.status != StatusCode::OK {
        bail!("{}", answer.reason());
    }
    let runs: Runs = serde_json::from_slice(&answer.body).context(admin_client::NOT_WEIR)?;
    let same_text = runs.hash == config.hash;
    let comparison = if same_text {
        Comparison::default()
    } else {
        Comparison::between(&runs.config, &config.tree())
    };
    match format {
        Format::Json => {
            let mut told = json!({
                "same": comparison.is_empty(),
                "runs": { "hash": runs.hash, "file": runs.file },
                "file": { "hash": config.hash, "file": config.file.display().to_string() },
            });
            if let (Some(told), Value::Object(comparison)) =
                (told.as_object_mut(), serde_json::to_value(&comparison)?)
            {
                told.extend(comparison);
            }
            super::out(&format!("{told:#}\n"))?;
        }
        Format::Text => super::out(&text(&comparison, super::colours(&stdout())))?,
    }
    if comparison.is_empty() {
        if same_text {
            say!("no difference, hash {}", config.hash);
        } else {
            say!(
                "no key differs; the texts do, in comments, order or what is masked ({} runs, the file is {})",
                runs.hash,
                config.hash
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(1))
}

fn text(comparison: &Comparison, colours: bool) -> String {
    let mut out = String::new();
    for line in comparison.lines() {
        let colour = match line.as_bytes().first() {
            Some(b'+') => GREEN,
            Some(b'-') => RED,
            _ => YELLOW,
        };
        let _ = match colours {
            true => writeln!(out, "{colour}{line}{RESET}"),
            false => writeln!(out, "{line}"),
        };
    }
    if !comparison.needs_restart.is_empty() {
        let keys = comparison.needs_restart.join(", ");
        let _ = writeln!(out, "taken only by a restart: {keys}");
    }
    if !comparison.ends.is_empty() {
        let gone = comparison.ends.join(", ");
        let _ = writeln!(out, "get `process.drain` to end: what is on {gone}");
    }
    out
}

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const RESET: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_its_colour_and_what_follows_is_told() {
        let before = json!({ "process": { "workers": 1 }, "route": { "old": {} } });
        let after = json!({ "process": { "workers": 2 }, "route": { "new": {} } });
        let comparison = Comparison::between(&before, &after);
        assert_eq!(
            text(&comparison, false),
            "~ process.workers: 1 -> 2\n+ route.new\n- route.old\ntaken only by a restart: process.workers\n\
             get `process.drain` to end: what is on route.old\n"
        );
        let coloured = text(&comparison, true);
        for part in [
            "\u{1b}[33m~ ",
            "\u{1b}[32m+ ",
            "\u{1b}[31m- ",
            "old\u{1b}[0m\n",
        ] {
            assert!(coloured.contains(part), "{part:?} in {coloured:?}");
        }
    }
}
