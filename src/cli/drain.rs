//! `weir drain` and `weir ready`

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::admin_client::{self, Reached};
use super::{RunningWeir, refused};

/// How often a running weir is asked whether the server is empty.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Which server.
#[derive(Args)]
pub(super) struct Named {
    /// The name of its upstream.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    upstream: String,
    /// Its address, `HOST:PORT`, as `weir status` shows it.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    server: String,
}

/// How long to wait until the server is empty.
#[derive(Args)]
pub(super) struct Wait {
    /// Does not wait until the server is empty.
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
    /// Waits that long and no longer, such as `30s` or `5m`. Default: until the server is empty.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

/// What weir tells of a server after it has done as asked.
#[derive(Deserialize)]
struct Told {
    upstream: String,
    server: String,
    state: String,
    in_flight: u64,
    process: u32,
}

#[derive(Deserialize)]
struct Status {
    process: u32,
    upstreams: Vec<Upstream>,
}

#[derive(Deserialize)]
struct Upstream {
    name: String,
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    address: String,
    state: String,
    in_flight: u64,
}

pub(super) fn drain(weir: &RunningWeir, named: &Named, wait: &Wait) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let weir = admin_client::reach(weir)?;
    let told = match ask_for(&weir, named, "drain")? {
        Ok(told) => told,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let (server, upstream) = (&told.server, &told.upstream);
    say!(
        "{server} of {upstream} takes no new requests; {}",
        left(told.in_flight)
    );
    let mut in_flight = told.in_flight;
    while in_flight > 0 && !wait.no_wait {
        let rest = wait
            .timeout
            .map(|timeout| timeout.saturating_sub(began.elapsed()));
        if rest == Some(Duration::ZERO) {
            say!(
                "not empty in time; {}. It stays drained until `weir ready {upstream} {server}`",
                left(in_flight)
            );
            return Ok(ExitCode::from(1));
        }
        sleep(rest.map_or(ASK_EVERY, |rest| rest.min(ASK_EVERY)));
        let status = status(&weir)?;
        if status.process != told.process {
            say!(
                "process {} has taken over; how many requests the one before still has is not known",
                status.process
            );
            return Ok(ExitCode::from(1));
        }
        in_flight = match status.server(&told) {
            Some(now) if now.state == told.state => now.in_flight,
            Some(now) => {
                say!(
                    "somebody has taken it back: its state is `{}`, {}",
                    now.state,
                    left(now.in_flight)
                );
                return Ok(ExitCode::from(1));
            }
            None => {
                say!("it is gone from the config; whether it is empty is not known");
                return Ok(ExitCode::from(1));
            }
        };
        if in_flight == 0 {
            say!("{}", left(in_flight));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn ready(weir: &RunningWeir, named: &Named) -> anyhow::Result<ExitCode> {
    let told = match ask_for(&admin_client::reach(weir)?, named, "ready")? {
        Ok(told) => told,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let takes = match told.state.as_str() {
        "up" | "starting" => "takes requests again".to_owned(),
        state => format!("is no longer drained; its state is `{state}`"),
    };
    say!("{} of {} {takes}", told.server, told.upstream);
    Ok(ExitCode::SUCCESS)
}

/// What weir says when it has done so, or why it has not.
fn ask_for(weir: &Reached, named: &Named, action: &str) -> anyhow::Result<Result<Told, String>> {
    let path = format!(
        "/api/upstreams/{}/servers/{}/{action}",
        encoded(&named.upstream),
        encoded(&named.server)
    );
    let answer = weir.ask(Method::POST, &path)?;
    if answer.status != StatusCode::OK {
        return Ok(Err(answer.reason()));
    }
    let told = serde_json::from_slice(&answer.body).context(admin_client::NOT_WEIR)?;
    Ok(Ok(told))
}

fn status(weir: &Reached) -> anyhow::Result<Status> {
    let answer = weir.ask(Method::GET, "/api/status")?;
    if answer.status != StatusCode::OK {
        anyhow::bail!("{}", answer.reason());
    }
    serde_json::from_slice(&answer.body).context(admin_client::NOT_WEIR)
}

impl Status {
    /// How that server stands now, if it is still there.
    fn server(self, told: &Told) -> Option<Server> {
        let mut servers = self
            .upstreams
            .into_iter()
            .filter(|upstream| upstream.name == told.upstream)
            .flat_map(|upstream| upstream.servers);
        servers.find(|server| server.address == told.server)
    }
}

fn left(in_flight: u64) -> String {
    match in_flight {
        0 => "empty".to_owned(),
        left => format!("{left} left"),
    }
}

/// As one segment of a path (RFC 3986 §3.3).
fn encoded(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte));
            }
            _ => segment.push_str(&format!("%{byte:02X}")),
        }
    }
    segment
}

/// The same notation as in the config, and zero.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        // humantime takes `M` for months, a slip of one key away from minutes.
        Ok(duration) if !text.contains('M') => Ok(duration),
        Ok(_) | Err(_) => {
            Err("write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `30s`".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_one_segment() {
        assert_eq!(encoded("[::1]:80"), "%5B%3A%3A1%5D%3A80");
        assert_eq!(encoded("a-b.c_d~"), "a-b.c_d~");
        assert_eq!(encoded("../a b?ü"), "..%2Fa%20b%3F%C3%BC");
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "5M", "soon"] {
            assert!(duration(wrong).unwrap_err().contains("unit"), "{wrong}");
        }
    }
}
