//! Asking DNS, as the system is configured to: `/etc/hosts` first, then the servers of `/etc/resolv.conf` (or the one of
//! `process.resolver`), with its search domains. Both files are read again when they change.
//!
//! The library's own search, hosts file and cache are not used: a name is one question for each candidate, of which we see
//! how long it holds and which family failed.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::questions::{Addresses, addresses_in};
use super::{Answer, Found, Unresolved};
use crate::units::ServerName;

/// How long one attempt may take, over all its questions.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a question waits before it is sent again, where `resolv.conf` does not say less: a datagram that is lost must
/// not make a start miss its answers.
const QUESTION: Duration = Duration::from_millis(1500);
/// How long an entry of `/etc/hosts` holds: nothing tells when the file changes.
const HOSTS_TTL: Duration = Duration::from_secs(5);
/// Failures in a row after which nothing of the connections to the DNS servers is kept.
const GIVE_UP_AFTER: u32 = 3;

/// Whom to ask. Lives for as long as `process.resolver` says the same.
pub(crate) struct Dns {
    /// `None`: the servers of `/etc/resolv.conf`.
    pub(crate) server: Option<SocketAddr>,
    system: Mutex<Option<Arc<System>>>,
    /// Attempts in a row that DNS did not answer.
    failures: AtomicU32,
}

/// `/etc/resolv.conf`, read.
pub(super) struct System {
    pub(super) resolver: TokioResolver,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    stamp: Stamp,
}

/// Which version of a file it was; `None`: there was none.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Dns {
    pub(crate) fn new(server: Option<SocketAddr>) -> Self {
        Self {
            server,
            system: Mutex::default(),
            failures: AtomicU32::new(0),
        }
    }

    /// Asks once.
    pub(crate) async fn resolve(&self, name: &ServerName) -> Result<Answer, Unresolved> {
        let answer = timeout(ATTEMPT, self.ask(name)).await.unwrap_or_else(|_| {
            let message = format!("no answer within {}", humantime::format_duration(ATTEMPT));
            Err(Unresolved::Failed(message))
        });
        match &answer {
            Err(Unresolved::Failed(_)) => self.failures.fetch_add(1, Ordering::Relaxed),
            Ok(_) | Err(Unresolved::Absent(_)) => self.failures.swap(0, Ordering::Relaxed),
        };
        answer
    }

    async fn ask(&self, name: &ServerName) -> Result<Answer, Unresolved> {
        match name {
            ServerName::Host { name, port } => {
                let addresses = match hosts_entry(name).await {
                    Some(addresses) => addresses,
                    None => self.system().await?.addresses(name).await?,
                };
                let found = |address| Found {
                    backup: false,
                    address: (address, *port).into(),
                    weight: 1,
                };
                Ok(Answer {
                    servers: addresses.all.into_iter().map(found).collect(),
                    ttl: addresses.ttl,
                    missing: addresses.missing,
                    cut: 0,
                })
            }
            ServerName::Service(name) => self.system().await?.service(name).await,
        }
    }

    /// The configuration as it is now.
    async fn system(&self) -> Result<Arc<System>, Unresolved> {
        let mut current = self.system.lock().await;
        let server = self.server;
        let stamp = blocking(|| stamp_of(RESOLV_CONF)).await?;
        let gave_up = self.failures.load(Ordering::Relaxed) >= GIVE_UP_AFTER;
        if let Some(system) = current.as_ref().filter(|_| !gave_up)
            && system.stamp == stamp
        {
            return Ok(Arc::clone(system));
        }
        match blocking(move || System::read(server, stamp)).await? {
            Ok(system) => {
                self.failures.store(0, Ordering::Relaxed);
                Ok(Arc::clone(current.insert(Arc::new(system))))
            }
            // A file that is just being written.
            Err(error) => current.clone().ok_or_else(|| {
                Unresolved::Failed(format!("no DNS server in {RESOLV_CONF}: {error}"))
            }),
        }
    }
}

impl System {
    fn read(server: Option<SocketAddr>, stamp: Stamp) -> Result<Self, NetError> {
        let (mut config, mut options) = match (system_conf::read_system_conf(), server) {
            (Ok(read), _) => read,
            (Err(_), Some(_)) => (ResolverConfig::default(), ResolverOpts::default()),
            (Err(error), None) => return Err(error),
        };
        let mut search: Vec<_> = config.search().iter().map(Name::to_ascii).collect();
        if search.is_empty() {
            search.extend(config.domain().map(Name::to_ascii));
        }
        if let Some(server) = server {
            let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut name_server.connections {
                connection.port = server.port();
            }
            config = ResolverConfig::from_name_servers(vec![name_server]);
        }
        let ndots = options.ndots;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        options.timeout = options.timeout.min(QUESTION);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self {
            resolver: builder.build()?,
            search,
            ndots,
            stamp,
        })
    }
}

/// What `/etc/hosts` says, which ends the search for a name.
pub(super) async fn hosts_entry(name: &str) -> Option<Addresses> {
    let whole = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()?;
    let lookup = move || {
        let hosts = Hosts::from_system().ok()?;
        let kinds = [RecordType::A, RecordType::AAAA];
        let entries = kinds
            .into_iter()
            .filter_map(|kind| hosts.lookup_static_host(&Query::query(whole.clone(), kind)));
        let all: Vec<_> = entries
            .flat_map(|lookup| addresses_in(&lookup).collect::<Vec<_>>())
            .collect();
        (!all.is_empty()).then_some(all)
    };
    let all = blocking(lookup).await.ok()??;
    Some(Addresses {
        all,
        ttl: HOSTS_TTL,
        missing: None,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unresolved> {
    spawn_blocking(work)
        .await
        .map_err(|_| Unresolved::Failed("weir is stopping".into()))
}

fn stamp_of(path: &str) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hosts_file_has_the_machine_itself() {
        let Ok(text) = std::fs::read_to_string("/etc/hosts") else {
            return;
        };
        if text.contains("localhost") {
            assert!(hosts_entry("localhost").await.is_some());
        }
        assert_eq!(hosts_entry("not-in-the-hosts-file.example").await, None);
    }
}
