//! Active health checks: one prober per server and process. Probes use connections of their own.

mod grpc;
mod http;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::server::{Closed, HealthState, Server};
use super::stream::Stream;
use super::tls::{Protocol, ServerTls};
use crate::config::{HealthCheck, HealthCheckKind};
use crate::units::{ServerAddr, UpstreamName};

/// How much of a probe's response is looked at.
const MAX_BODY: usize = 64 * 1024;
/// What probes call themselves where the config says nothing else.
const USER_AGENT: &str = "weir-health-check";

/// The probers of all servers.
#[derive(Default)]
pub(crate) struct Probers(HashMap<(UpstreamName, ServerAddr), Prober>);

struct Prober {
    check: HealthCheck,
    tls: Option<Arc<ServerTls>>,
    task: AbortHandle,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probers {
    /// Probes exactly these from now on. Who is probed the same way as before is not disturbed.
    pub(crate) fn probe<'s>(
        &mut self,
        servers: impl Iterator<Item = (&'s HealthCheck, &'s Arc<Server>, Option<&'s Arc<ServerTls>>)>,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for (check, server, tls) in servers {
            let identity = (server.upstream.clone(), server.address.clone());
            let prober = before
                .remove(&identity)
                .filter(|prober| prober.check == *check && same(prober.tls.as_ref(), tls))
                .unwrap_or_else(|| Prober {
                    check: check.clone(),
                    tls: tls.cloned(),
                    task: tokio::spawn(keep_probing(
                        check.clone(),
                        Arc::clone(server),
                        tls.cloned(),
                    ))
                    .abort_handle(),
                });
            self.0.insert(identity, prober);
        }
    }
}

fn same(one: Option<&Arc<ServerTls>>, other: Option<&Arc<ServerTls>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

async fn keep_probing(check: HealthCheck, server: Arc<Server>, tls: Option<Arc<ServerTls>>) {
    let mut jitter = Jitter::new(&server);
    loop {
        let began = server.group.clock.now();
        let result = match timeout(
            check.timeout,
            probe(&check, &server.address, tls.as_deref()),
        )
        .await
        {
            Ok(result) => result,
            Err(_) => Err(format!(
                "timed out after {}",
                humantime::format_duration(check.timeout)
            )),
        };
        let failed = result.as_ref().err().cloned();
        match server.checked(result, began, check.rise, check.fall, SystemTime::now()) {
            Some(HealthState::Down) => tracing::warn!(
                upstream = %server.upstream,
                server = %server.address,
                reason = failed.as_deref().unwrap_or_default(),
                "server is down"
            ),
            Some(HealthState::Up) => {
                tracing::info!(upstream = %server.upstream, server = %server.address, "server is up")
            }
            Some(HealthState::Starting) | None => {}
        }
        let health = server.health();
        let steady = match health.state {
            HealthState::Up => {
                health.last_passed == Some(true) && !server.is_closed_by(Closed::Ejected)
            }
            HealthState::Down => health.last_passed == Some(false),
            HealthState::Starting => false,
        };
        let soon = jitter.spread(check.fast_interval.min(check.interval));
        let wait = if steady {
            jitter.spread(check.interval).max(soon)
        } else {
            soon
        };
        sleep(soon).await;
        // A request went well on a server that is down: no need to wait for the rest.
        let _ = timeout(wait - soon, server.hurry.notified()).await;
    }
}

/// Shifts each interval by up to 10 %, so that the probes of many proxies and servers do not march in step.
struct Jitter(u64);

impl Jitter {
    fn new(server: &Server) -> Self {
        Self(seed(server) | 1)
    }

    fn spread(&mut self, interval: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let share = (self.0 % 2001) as f64 / 10_000.0;
        interval.mul_f64(0.9 + share)
    }
}

#[cfg(not(test))]
fn seed(server: &Server) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(&server.address)
}

/// The same each time, so that a simulation can be repeated.
#[cfg(test)]
fn seed(server: &Server) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    server.address.hash(&mut hasher);
    hasher.finish()
}

/// One check. The error is its reason, in few words.
async fn probe(
    check: &HealthCheck,
    server: &ServerAddr,
    tls: Option<&ServerTls>,
) -> Result<(), String> {
    let mut server = server.clone();
    if let (ServerAddr::Ip(address), Some(port)) = (&mut server, check.port) {
        address.set_port(port);
    }
    let mut stream = Stream::connect(&server)
        .await
        .map_err(|error| reason(&error))?;
    if let Some(tls) = tls {
        let protocol = match &check.kind {
            HealthCheckKind::Tcp | HealthCheckKind::Http(_) => Protocol::Http1,
            HealthCheckKind::Grpc(_) => Protocol::Http2,
        };
        let secured = tls.secure(stream, check.tls_name.as_ref(), protocol).await;
        stream = secured.map_err(|error| error.fault().to_string())?;
    }
    match &check.kind {
        HealthCheckKind::Tcp => {
            stream.end();
            Ok(())
        }
        HealthCheckKind::Http(expected) => http::probe(expected, stream, &server.host()).await,
        HealthCheckKind::Grpc(expected) => grpc::probe(expected, stream, &server.host()).await,
    }
}

/// Ends the task of a probe's connection, however the probe ends.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::NotFound => "no such socket".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "connecting timed out".to_owned(),
        _ => "connecting failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::Group;
    use super::*;
    use crate::deadline::Clock;

    #[test]
    fn jitter_stays_within_a_tenth() {
        let server = Server::new(
            UpstreamName::from("app"),
            ServerAddr::Ip("127.0.0.1:1".parse().unwrap()),
            Arc::new(Group::new(Clock::start())),
            true,
            SystemTime::now(),
        );
        let mut jitter = Jitter::new(&server);
        let spread: Vec<_> = (0..1000)
            .map(|_| jitter.spread(Duration::from_secs(10)))
            .collect();
        assert!(
            spread
                .iter()
                .all(|wait| (9.0..=11.0).contains(&wait.as_secs_f64()))
        );
        assert!(spread.iter().max() > spread.iter().min());
    }
}
