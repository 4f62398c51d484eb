//! `/api/status`: what runs, as JSON. The names are a contract.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::core::Control;
use crate::config;
use crate::telemetry::cache::{Figures, Requests};
use crate::telemetry::labels::CacheResult;
use crate::units::{ListenName, ServerName};
use crate::upstream::resolve::Resolution;

#[derive(Serialize)]
pub(crate) struct Status {
    version: &'static str,
    /// Its id; `weir upgrade` puts another in its place.
    process: u32,
    ready: bool,
    workers: Vec<Worker>,
    config: ConfigStatus,
    certificates: Vec<Certificate>,
    /// The last upgrade that has failed; null if none has.
    failed_upgrade: Option<FailedUpgrade>,
    listeners: Vec<Listener>,
    upstreams: Vec<Upstream>,
    cache: Cache,
}

#[derive(Serialize)]
struct FailedUpgrade {
    at: String,
    message: String,
}

#[derive(Serialize)]
struct Worker {
    connections: i64,
}

#[derive(Serialize)]
struct ConfigStatus {
    hash: String,
    file: String,
    loaded_at: String,
    /// `file`; `rolled_back` if an earlier one runs; `last_good` if the file was bad at the start and has been since.
    source: &'static str,
    last_reload: Reload,
    /// Those that can run again, the one that runs first.
    kept: Vec<Good>,
}

#[derive(Serialize)]
struct Good {
    hash: String,
    taken_at: String,
}

#[derive(Serialize)]
struct Reload {
    result: &'static str,
    at: String,
    message: String,
    /// What it changed, line by line; the last line tells how many more there are.
    changes: Vec<String>,
}

/// A certificate that clients see.
#[derive(Serialize)]
struct Certificate {
    listen: String,
    cert: String,
    names: Vec<String>,
    expires: Option<String>,
    /// Below zero when it has expired.
    days_left: Option<i64>,
    /// Why its files were refused when they changed; null where they are what is in use.
    error: Option<String>,
}

#[derive(Serialize)]
struct Listener {
    name: String,
    address: String,
    connections: i64,
}

/// The store that all routes share, and what it was good for; all zero where no route has a cache.
#[derive(Serialize)]
struct Cache {
    entries: u64,
    bytes: u64,
    max_bytes: u64,
    /// The share of requests that no server was asked for (`hit`, `stale`, `collapsed`) of all that were looked for in the
    /// store; null while there was none.
    hit_ratio: Option<f64>,
    requests: BTreeMap<&'static str, u64>,
    fills: u64,
    evictions: u64,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    /// Requests that wait for a server with room.
    queued: usize,
    servers: Vec<Server>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<Name>,
}

/// A name among the servers.
#[derive(Serialize)]
struct Name {
    name: String,
    /// Those in use.
    addresses: Vec<String>,
    /// When they were answered.
    resolved_at: Option<String>,
    /// When that answer's time is over.
    expires: Option<String>,
    /// Why the last attempt failed; null after one that did not.
    error: Option<String>,
}

#[derive(Serialize)]
struct Server {
    address: String,
    state: &'static str,
    reason: String,
    since: String,
    in_flight: u32,
    /// The most requests at once, where there is a limit.
    max_in_flight: Option<u32>,
    /// The most requests without an answer at once, where that is learned.
    learned_limit: Option<u32>,
    requests: u64,
    failures: u64,
    latency_ms: Latency,
}

/// Milliseconds to the response head; absent while there was no response.
#[derive(Serialize)]
struct Latency {
    p50: Option<f64>,
    p95: Option<f64>,
}

impl Status {
    pub(crate) fn of(control: &Control) -> Self {
        let state = control.published.state();
        let last = control.last_reload();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
            ready: control.is_ready(),
            workers: control
                .metrics
                .worker_connections()
                .into_iter()
                .map(|connections| Worker { connections })
                .collect(),
            config: ConfigStatus {
                hash: state.config.hash.clone(),
                file: state.config.file.display().to_string(),
                loaded_at: time(state.loaded_at),
                source: control.standing().word(),
                last_reload: Reload {
                    result: last.result.label(),
                    at: time(last.at),
                    message: last.message,
                    changes: last.changes,
                },
                kept: control
                    .kept()
                    .all()
                    .map(|good| Good {
                        hash: good.hash.clone(),
                        taken_at: time(good.taken_at),
                    })
                    .collect(),
            },
            certificates: state
                .config
                .certificates()
                .filter_map(|(place, _, certificate)| {
                    let listener = state.config.listeners.get(place)?;
                    Some(Certificate::of(control, &listener.name, certificate))
                })
                .collect(),
            failed_upgrade: control
                .failed_upgrade()
                .as_ref()
                .map(|failed| FailedUpgrade {
                    at: time(failed.at),
                    message: failed.message.clone(),
                }),
            listeners: state
                .config
                .listeners
                .iter()
                .flat_map(|listener| Listener::all(control, listener))
                .collect(),
            upstreams: state
                .upstreams
                .iter()
                .zip(&state.config.upstreams)
                .map(|(upstream, config)| Upstream::of(control, upstream, config))
                .collect(),
            cache: Cache::of(
                control.metrics.cache_figures(),
                control.metrics.cache_requests(),
            ),
        }
    }
}

impl Certificate {
    fn of(control: &Control, listen: &ListenName, certificate: &config::Certificate) -> Self {
        let expires = certificate.expires();
        Self {
            listen: listen.to_string(),
            cert: certificate.cert.display().to_string(),
            names: certificate.names.clone(),
            expires: expires.map(time),
            days_left: expires.map(|at| days(SystemTime::now(), at)),
            error: control
                .refused()
                .why(listen, certificate)
                .map(str::to_owned),
        }
    }
}

/// Whole days from `now` to `at`, rounded down.
fn days(now: SystemTime, at: SystemTime) -> i64 {
    let seconds = match at.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(over) => i64::try_from(over.duration().as_secs()).map_or(i64::MIN, |past| -past),
    };
    seconds.div_euclid(86_400)
}

impl Listener {
    fn all(control: &Control, listener: &config::Listener) -> Vec<Self> {
        let connections = control.metrics.connections(&listener.name);
        let addresses = control.addresses(listener.name.as_str());
        addresses
            .into_iter()
            .map(|address| Self {
                name: listener.name.to_string(),
                address: address.to_string(),
                connections,
            })
            .collect()
    }
}

impl Cache {
    fn of(figures: Figures, requests: Requests) -> Self {
        let counted = || CacheResult::ALL.into_iter().zip(requests);
        let sum = |counts: fn(CacheResult) -> bool| {
            let counted = counted().filter(|(result, _)| counts(*result));
            counted.map(|(_, count)| count).sum::<u64>()
        };
        let looked_for = sum(|result| result != CacheResult::Bypass);
        let spared = sum(CacheResult::spared_a_server);
        Self {
            entries: figures.entries,
            bytes: figures.bytes,
            max_bytes: figures.max_bytes,
            hit_ratio: (looked_for > 0).then(|| spared as f64 / looked_for as f64),
            requests: counted()
                .map(|(result, count)| (result.label(), count))
                .collect(),
            fills: figures.fills,
            evictions: figures.evictions,
        }
    }
}

impl Upstream {
    fn of(control: &Control, upstream: &crate::state::Upstream, config: &config::Upstream) -> Self {
        let names = control.names.of(config).into_iter();
        let servers = upstream.servers.iter().map(|member| {
            let server = &member.server;
            let standing = server.standing();
            let totals = control
                .metrics
                .server_totals(&upstream.name, &server.address);
            let quantile = |share| {
                totals
                    .response
                    .quantile(share)
                    .map(|time| time.as_secs_f64() * 1000.0)
            };
            Server {
                address: server.address.to_string(),
                state: standing.state,
                reason: standing.reason,
                since: time(standing.since),
                in_flight: server.in_flight(),
                max_in_flight: server.limit(),
                learned_limit: server.learned.limit(),
                requests: totals.requests,
                failures: totals.failures,
                latency_ms: Latency {
                    p50: quantile(0.5),
                    p95: quantile(0.95),
                },
            }
        });
        Self {
            name: upstream.name.to_string(),
            queued: upstream.group.queue.length(),
            servers: servers.collect(),
            names: names
                .map(|(name, resolution)| Name::of(&name, resolution))
                .collect(),
        }
    }
}

impl Name {
    fn of(name: &ServerName, resolution: Resolution) -> Self {
        let addresses = resolution.servers().iter();
        Self {
            name: name.to_string(),
            addresses: addresses.map(|found| found.address.to_string()).collect(),
            resolved_at: resolution.resolved_at.map(time),
            expires: resolution.expires.map(time),
            error: resolution.error,
        }
    }
}

/// RFC 3339, UTC, to the second.
fn time(time: SystemTime) -> String {
    // Outside the years that can be written so, which no clock shows: the epoch.
    let shown = if time < UNIX_EPOCH { UNIX_EPOCH } else { time };
    humantime::format_rfc3339_seconds(shown).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache(requests: &[(CacheResult, u64)]) -> Cache {
        let mut counts = Requests::default();
        for (result, count) in requests {
            counts[*result as usize] = *count;
        }
        Cache::of(Figures::default(), counts)
    }

    #[test]
    fn the_hit_ratio_is_the_share_that_spared_a_server() {
        let all = CacheResult::ALL.map(|result| (result, 1));
        assert_eq!(cache(&all).hit_ratio, Some(3.0 / 5.0));
        let hits = [(CacheResult::Hit, 3), (CacheResult::Miss, 1)];
        assert_eq!(cache(&hits).hit_ratio, Some(0.75));
        assert_eq!(cache(&hits).requests["miss"], 1);
    }

    #[test]
    fn days_are_whole_and_below_zero_when_they_are_over() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(days(now, after(86_399)), 0);
        assert_eq!(days(now, after(86_400 * 3 + 5)), 3);
        assert_eq!(days(now, now - Duration::from_secs(1)), -1);
        assert_eq!(days(now, UNIX_EPOCH), -12);
    }

    #[test]
    fn where_nothing_was_looked_for_there_is_no_ratio() {
        assert_eq!(cache(&[]).hit_ratio, None);
        assert_eq!(cache(&[(CacheResult::Bypass, 7)]).hit_ratio, None);
    }
}
