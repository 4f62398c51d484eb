//! `weir reload` and `weir rollback`

use std::process::ExitCode;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::admin_client::{self, Answer};
use super::{RunningWeir, refused};

pub(super) fn reload(weir: &RunningWeir) -> anyhow::Result<ExitCode> {
    let answer = admin_client::ask(weir, Method::POST, "/api/reload")?;
    Ok(tell(&answer, "taken"))
}

pub(super) fn rollback(weir: &RunningWeir, hash: Option<&str>) -> anyhow::Result<ExitCode> {
    let body = hash.map(|hash| json!({ "hash": hash }).to_string());
    let weir = admin_client::reach(weir)?;
    let body = body.unwrap_or_default().into();
    let answer = weir.send(Method::POST, "/api/rollback", body)?;
    Ok(match answer.status {
        StatusCode::CONFLICT => refused(&answer.reason()),
        _ => tell(&answer, "rolled back"),
    })
}

/// What became of a config, and what it changed.
fn tell(answer: &Answer, done: &str) -> ExitCode {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default();
    if answer.status == StatusCode::OK {
        say!("{done}, hash {}", word("hash"));
        let changes = told.get("changes").and_then(Value::as_array);
        for change in changes.into_iter().flatten() {
            say!("{}", change.as_str().unwrap_or_default());
        }
        if !word("message").is_empty() {
            say!("{}", word("message"));
        }
        return ExitCode::SUCCESS;
    }
    let message = match word("message") {
        "" => word("error"),
        message => message,
    };
    say!("refused, the config before runs on: {message}");
    ExitCode::from(1)
}
