//! `weir purge`

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{RunningWeir, admin_client, refused};

/// What to forget.
#[derive(Args, Serialize)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// One target, with all its representations, by its whole URL as clients ask for it.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Every target whose URL begins so, such as `https://shop.example.com/images/`.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// What came with this tag in `Cache-Tag` or `Surrogate-Key`.
    #[arg(long, value_name = "TAG")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    /// Everything.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

#[derive(Serialize)]
struct Asked<'a> {
    #[serde(flatten)]
    what: &'a What,
    soft: bool,
}

#[derive(Deserialize)]
struct Told {
    purged: u64,
}

pub(super) fn purge(weir: &RunningWeir, what: &What, soft: bool) -> anyhow::Result<ExitCode> {
    let body = serde_json::to_vec(&Asked { what, soft })?;
    let weir = admin_client::reach(weir)?;
    let answer = weir.send(Method::POST, "/api/cache/purge", body.into())?;
    if answer.status != StatusCode::OK {
        return Ok(refused(&answer.reason()));
    }
    let told: Told = serde_json::from_slice(&answer.body).context(admin_client::NOT_WEIR)?;
    say!("purged: {}", told.purged);
    Ok(ExitCode::SUCCESS)
}
