//! `weir upgrade`

use std::process::ExitCode;

use anyhow::Context;
use http::{Method, StatusCode};
use serde_json::Value;

use super::RunningWeir;
use super::admin_client::{self, NOT_WEIR};

pub(super) fn upgrade(weir: &RunningWeir) -> anyhow::Result<ExitCode> {
    let answer = admin_client::ask(weir, Method::POST, "/api/upgrade")?;
    let told: Value = serde_json::from_slice(&answer.body).context(NOT_WEIR)?;
    let message = told["message"].as_str().unwrap_or_default();
    if answer.status == StatusCode::OK {
        let process = told["process"].as_u64().context(NOT_WEIR)?;
        say!("process {process} has taken over");
        if !message.is_empty() {
            say!("{message}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let message = match message {
        "" => answer.reason(),
        message => message.to_owned(),
    };
    say!("failed, the process before runs on: {message}");
    Ok(ExitCode::from(1))
}
