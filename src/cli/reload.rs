//! `weir reload` and `weir rollback`

use std::process::ExitCode;

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::admin_client::{self, Answer, NOT_WEIR};
use super::{RunningWeir, refused};

pub(super) fn reload(weir: &RunningWeir) -> anyhow::Result<ExitCode> {
    let ask = || {
        let answer = admin_client::ask(weir, Method::POST, "/api/reload")?;
        Told::of(answer)
    };
    let mut told = ask()?;
    if told.process.is_some() {
        // An upgrade came first: at that address there is another process now.
        told = ask()?;
    }
    told.tell("taken")
}

pub(super) fn rollback(weir: &RunningWeir, hash: Option<&str>) -> anyhow::Result<ExitCode> {
    let body = hash.map(|hash| json!({ "hash": hash }).to_string());
    let weir = admin_client::reach(weir)?;
    let body = body.unwrap_or_default().into();
    let answer = weir.send(Method::POST, "/api/rollback", body)?;
    match answer.status {
        StatusCode::CONFLICT => Ok(refused(&answer.reason())),
        _ => Told::of(answer)?.tell("rolled back"),
    }
}

/// What became of a config, and what it changed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    #[serde(skip)]
    status: StatusCode,
    hash: Option<String>,
    changes: Vec<String>,
    message: String,
    error: String,
    /// The one that has taken over from the one that was asked.
    process: Option<u32>,
}

impl Told {
    fn of(answer: Answer) -> anyhow::Result<Self> {
        let told: Self = serde_json::from_slice(&answer.body).context(NOT_WEIR)?;
        let status = answer.status;
        Ok(Self { status, ..told })
    }

    fn tell(&self, done: &str) -> anyhow::Result<ExitCode> {
        if self.status == StatusCode::OK {
            say!("{done}, hash {}", self.hash.as_ref().context(NOT_WEIR)?);
            for line in self.changes.iter().chain([&self.message]) {
                if !line.is_empty() {
                    say!("{line}");
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        let why = match self.message.as_str() {
            "" => &self.error,
            message => message,
        };
        if why.is_empty() {
            bail!("{NOT_WEIR}: it answered {}", self.status);
        }
        if self.process.is_some() {
            return Ok(refused(why));
        }
        say!("refused, the config before runs on: {why}");
        Ok(ExitCode::from(1))
    }
}
