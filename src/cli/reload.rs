//! `weir reload`

use std::process::ExitCode;

use http::{Method, StatusCode};

use super::{RunningWeir, admin_client};

pub(super) fn reload(weir: &RunningWeir) -> anyhow::Result<ExitCode> {
    let answer = admin_client::ask(weir, Method::POST, "/api/reload")?;
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = |name: &str| {
        told.get(name)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    if answer.status == StatusCode::OK {
        eprintln!("taken, hash {}", word("hash"));
        let changes = told.get("changes").and_then(serde_json::Value::as_array);
        for change in changes.into_iter().flatten() {
            eprintln!("{}", change.as_str().unwrap_or_default());
        }
        if !word("message").is_empty() {
            eprintln!("{}", word("message"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let message = if word("message").is_empty() {
        word("error")
    } else {
        word("message")
    };
    eprintln!("refused, the config before runs on: {message}");
    Ok(ExitCode::from(1))
}
