//! `weir upgrade`

use std::process::ExitCode;

use anyhow::Context;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{RunningWeir, admin_client};

pub(super) fn upgrade(weir: &RunningWeir) -> anyhow::Result<ExitCode> {
    let answer = admin_client::ask(weir, Method::POST, "/api/upgrade")?;
    let told: Value =
        serde_json::from_slice(&answer.body).context("the admin address is not weir's")?;
    if answer.status == StatusCode::OK {
        say!("process {} has taken over", told["process"]);
        return Ok(ExitCode::SUCCESS);
    }
    let message = told["message"].as_str().map(str::to_owned);
    let message = message.unwrap_or_else(|| answer.reason());
    say!("failed, the process before runs on: {message}");
    Ok(ExitCode::from(1))
}
