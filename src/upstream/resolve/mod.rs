//! Names as servers: what DNS says becomes a set of servers. Here are the rules, without I/O and clock; [`dns`] asks.
//!
//! - The set of a name is that of its last answer, asked for again when the answer's TTL is over, clamped to 1 s .. 5 min.
//! - While DNS fails (no answer, SERVFAIL), the last set stays for as long as it takes: an outage of DNS is none of the
//!   servers. Retries begin after 1 s and are never more than 30 s apart.
//! - "No such name" and "no addresses" may be a blip: a record that is replaced, a zone that is loaded. The last set stays
//!   for five minutes of such answers. Not for ever: in a cluster, the addresses of what was taken down soon belong to
//!   something else.
//! - Where only one of A and AAAA is answered, the addresses of the other family stay as they were, for five minutes.

pub(crate) mod dns;
mod questions;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::config::{ServerConfig, ServerPlace};
use crate::units::{ServerAddr, ServerName, Weight};

/// Servers of one name that are used.
pub(crate) const MAX_SERVERS: usize = 256;
/// No answer is used for less, or for longer.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The time between retries.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long servers stay that DNS says are no more, without saying what is in their place.
const GRACE: Duration = Duration::from_secs(300);

/// A server that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Behind those of the best priority of SRV records.
    pub(crate) backup: bool,
    pub(crate) address: SocketAddr,
    /// Among the servers of the name.
    pub(crate) weight: u16,
}

/// What DNS said of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Not empty.
    pub(crate) servers: Vec<Found>,
    pub(crate) ttl: Duration,
    /// What of it could not be asked for.
    pub(crate) missing: Option<Missing>,
    /// What was beyond [`MAX_SERVERS`] and not even asked for.
    pub(crate) cut: usize,
}

/// A part of an answer that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) error: String,
}

/// Why a name has no answer, in few words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// DNS knows for sure that there is nothing.
    #[error("{0}")]
    Absent(String),
    /// Nobody knows.
    #[error("{0}")]
    Failed(String),
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolution {
    /// The set in use, in a stable order.
    servers: Vec<Found>,
    /// When `servers` was answered.
    pub(crate) resolved_at: Option<SystemTime>,
    /// When the TTL of that answer is over.
    pub(crate) expires: Option<SystemTime>,
    /// Why the last attempt got no whole answer.
    pub(crate) error: Option<String>,
    /// Attempts in a row that got no whole answer.
    failures: u32,
    /// Since when DNS says that there is nothing.
    absent_since: Option<SystemTime>,
    /// Since when answers do not speak of one family of addresses.
    missing_since: Option<SystemTime>,
    /// Servers of the last answer beyond [`MAX_SERVERS`].
    pub(crate) cut: usize,
}

/// What an attempt changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) came: Vec<SocketAddr>,
    pub(crate) went: Vec<SocketAddr>,
    /// The servers are not what they were: others, or with other weights.
    pub(crate) servers: bool,
}

impl Resolution {
    /// The set in use.
    pub(crate) fn servers(&self) -> &[Found] {
        &self.servers
    }

    /// Whether it was asked for at all, with whatever result.
    pub(crate) fn is_tried(&self) -> bool {
        self.resolved_at.is_some() || self.error.is_some()
    }

    /// Takes the outcome of an attempt.
    pub(crate) fn take(&mut self, outcome: Result<Answer, Unresolved>, now: SystemTime) -> Change {
        let servers = match outcome {
            Ok(answer) => self.answered(answer, now),
            Err(unresolved) => {
                self.failures = self.failures.saturating_add(1);
                let error = unresolved.to_string();
                let absent = matches!(unresolved, Unresolved::Absent(_));
                self.error = Some(error);
                match absent && is_over(&mut self.absent_since, now) {
                    true => Vec::new(),
                    false => self.servers.clone(),
                }
            }
        };
        self.replace(servers)
    }

    fn answered(&mut self, answer: Answer, now: SystemTime) -> Vec<Found> {
        self.resolved_at = Some(now);
        self.expires = now.checked_add(clamp(answer.ttl));
        let mut servers = answer.servers;
        self.absent_since = None;
        match answer.missing {
            None => {
                self.failures = 0;
                self.error = None;
                self.missing_since = None;
            }
            Some(missing) => {
                self.failures = self.failures.saturating_add(1);
                if !is_over(&mut self.missing_since, now) {
                    let unanswered = |found: &&Found| match found.address.ip() {
                        IpAddr::V4(_) => missing.ipv4,
                        IpAddr::V6(_) => missing.ipv6,
                    };
                    servers.extend(self.servers.iter().filter(unanswered).cloned());
                }
                self.error = Some(missing.error);
            }
        }
        // A server of two priorities or weights is what comes first: never a backup of itself.
        servers.sort();
        let mut seen = HashSet::new();
        servers.retain(|found| seen.insert(found.address));
        self.cut = answer.cut + servers.len().saturating_sub(MAX_SERVERS);
        servers.truncate(MAX_SERVERS);
        servers
    }

    fn replace(&mut self, servers: Vec<Found>) -> Change {
        let before = std::mem::replace(&mut self.servers, servers);
        Change {
            came: difference(&self.servers, &before),
            went: difference(&before, &self.servers),
            servers: self.servers != before,
        }
    }

    /// How long to wait before the name is asked for again.
    pub(crate) fn wait(&self) -> Duration {
        let ttl = match (self.resolved_at, self.expires) {
            (Some(from), Some(to)) => to.duration_since(from).unwrap_or(TTL.0),
            _ => TTL.1,
        };
        match self.failures {
            0 => ttl,
            failures => ttl.min(backoff(failures)),
        }
    }
}

/// Whether the grace is over that a doubt gets which came up `since` then, or now.
fn is_over(since: &mut Option<SystemTime>, now: SystemTime) -> bool {
    let since = *since.get_or_insert(now);
    now.duration_since(since).is_ok_and(|time| time >= GRACE)
}

/// The addresses of `these` that are not among `those`.
fn difference(these: &[Found], those: &[Found]) -> Vec<SocketAddr> {
    let known: HashSet<_> = those.iter().map(|found| found.address).collect();
    let addresses = these.iter().map(|found| found.address);
    addresses
        .filter(|address| !known.contains(address))
        .collect()
}

fn clamp(ttl: Duration) -> Duration {
    ttl.clamp(TTL.0, TTL.1)
}

/// The wait after that many failures in a row: doubles each time.
fn backoff(failures: u32) -> Duration {
    let factor = 1 << failures.saturating_sub(1).min(10);
    (BACKOFF.0 * factor).min(BACKOFF.1)
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// With the dot at its end.
    pub(crate) host: String,
}

/// What SRV records come to where a host has these addresses. Hosts of the lowest priority are the servers, the others
/// their backups. Every address of a host has the host's weight; weight 0, "no choice to make", is 1.
fn servers_of(services: &[Service], addresses: impl Fn(&str) -> Vec<IpAddr>) -> Vec<Found> {
    let best = services.iter().map(|service| service.priority).min();
    let found = services.iter().flat_map(|service| {
        addresses(&service.host)
            .into_iter()
            .map(move |address| Found {
                backup: Some(service.priority) != best,
                address: (address, service.port).into(),
                weight: service.weight.max(1),
            })
    });
    found.collect()
}

/// The names to ask for, in order, each with the dot at its end: what `search` and `ndots` of `resolv.conf(5)` make of a
/// relative name.
fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let whole = format!("{name}.");
    let below = search.iter().map(|domain| match domain.trim_matches('.') {
        "" => whole.clone(),
        domain => format!("{name}.{domain}."),
    });
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    let mut names = Vec::new();
    if dots >= ndots {
        names.push(whole.clone());
    }
    names.extend(below);
    names.push(whole);
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Whether a server can have this address: what stands for none, for many or for all is none.
fn is_of_a_server(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// A server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) address: ServerAddr,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    /// Requests at once, in place of the upstream's; `Some(None)`: off.
    pub(crate) limit: Option<Option<u32>>,
    /// What its certificate must be for, where there is TLS.
    pub(crate) tls_name: Option<rustls::pki_types::ServerName<'static>>,
}

/// What the servers of a config come to. A server that several entries lead to belongs to the first.
pub(crate) fn resolved(
    servers: &[ServerConfig],
    found: impl Fn(&ServerName) -> Vec<Found>,
) -> Vec<Resolved> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for server in servers {
        let weight = server.weight.0.get();
        match &server.place {
            ServerPlace::Address(address) => all.push(Resolved {
                address: address.clone(),
                weight,
                backup: server.backup,
                limit: server.max_in_flight,
                tls_name: server.tls_name.clone(),
            }),
            ServerPlace::Name(name) => all.extend(found(name).into_iter().map(|found| {
                Resolved {
                    address: ServerAddr::Ip(found.address),
                    weight: weight
                        .saturating_mul(u32::from(found.weight))
                        .min(Weight::MAX),
                    backup: server.backup || found.backup,
                    limit: server.max_in_flight,
                    tls_name: server.tls_name.clone(),
                }
            })),
        }
    }
    all.retain(|server| seen.insert(server.address.clone()));
    all
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn after(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(seconds)
    }

    fn found(address: &str) -> Found {
        Found {
            backup: false,
            address: address.parse().unwrap(),
            weight: 1,
        }
    }

    fn answer(addresses: &[&str]) -> Result<Answer, Unresolved> {
        Ok(Answer {
            servers: addresses.iter().map(|address| found(address)).collect(),
            ttl: Duration::from_secs(60),
            missing: None,
            cut: 0,
        })
    }

    fn without(addresses: &[&str], ipv4: bool, ipv6: bool) -> Result<Answer, Unresolved> {
        answer(addresses).map(|answer| Answer {
            missing: Some(Missing {
                ipv4,
                ipv6,
                error: "SERVFAIL".into(),
            }),
            ..answer
        })
    }

    fn addresses(resolution: &Resolution) -> Vec<String> {
        let servers = resolution.servers().iter();
        servers.map(|found| found.address.to_string()).collect()
    }

    fn failed() -> Result<Answer, Unresolved> {
        Err(Unresolved::Failed("no answer".into()))
    }

    fn absent() -> Result<Answer, Unresolved> {
        Err(Unresolved::Absent("no such name".into()))
    }

    #[test]
    fn an_answer_replaces_the_one_before_in_a_stable_order() {
        let mut name = Resolution::default();
        assert!(!name.is_tried());
        let change = name.take(answer(&["[::2]:1", "10.0.0.2:1", "10.0.0.1:1"]), NOW);
        assert_eq!(addresses(&name), ["10.0.0.1:1", "10.0.0.2:1", "[::2]:1"]);
        assert_eq!(change.came.len(), 3);
        let change = name.take(answer(&["10.0.0.1:1", "[::2]:1", "10.0.0.2:1"]), NOW);
        assert_eq!(change, Change::default());
        let change = name.take(answer(&["10.0.0.3:1", "10.0.0.1:1"]), NOW);
        assert_eq!(change.came, ["10.0.0.3:1".parse().unwrap()]);
        assert_eq!(
            change.went,
            ["10.0.0.2:1".parse().unwrap(), "[::2]:1".parse().unwrap()]
        );
        assert!(change.servers);
    }

    #[test]
    fn another_weight_is_a_change() {
        let mut name = Resolution::default();
        name.take(answer(&["10.0.0.1:1"]), NOW);
        let mut heavier = answer(&["10.0.0.1:1"]).unwrap();
        heavier.servers[0].weight = 5;
        let change = name.take(Ok(heavier), NOW);
        assert!(change.servers && change.came.is_empty() && change.went.is_empty());
    }

    #[test]
    fn waits_follow_the_ttl_within_bounds() {
        for (ttl, wait) in [(0, 1), (1, 1), (60, 60), (300, 300), (86_400, 300)] {
            let mut name = Resolution::default();
            let mut answer = answer(&["10.0.0.1:1"]).unwrap();
            answer.ttl = Duration::from_secs(ttl);
            name.take(Ok(answer), NOW);
            assert_eq!(name.wait(), Duration::from_secs(wait));
            assert_eq!(name.expires, Some(after(wait)));
        }
    }

    #[test]
    fn failures_are_retried_further_and_further_apart() {
        let mut name = Resolution::default();
        let waits: Vec<_> = (0..8)
            .map(|_| {
                name.take(failed(), NOW);
                name.wait().as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        name.take(answer(&["10.0.0.1:1"]), NOW);
        assert_eq!((name.wait().as_secs(), &name.error), (60, &None));
        name.take(failed(), NOW);
        assert_eq!(name.wait().as_secs(), 1, "the count began anew");
    }

    #[test]
    fn the_last_set_outlives_any_outage_of_dns() {
        let mut name = Resolution::default();
        name.take(answer(&["10.0.0.1:1"]), NOW);
        for hour in 1..100 {
            assert_eq!(name.take(failed(), after(3600 * hour)), Change::default());
        }
        assert_eq!(addresses(&name), ["10.0.0.1:1"]);
        assert_eq!(name.error.as_deref(), Some("no answer"));
        assert_eq!(name.resolved_at, Some(NOW));
    }

    #[test]
    fn servers_that_are_no_more_stay_for_a_while() {
        let mut name = Resolution::default();
        name.take(answer(&["10.0.0.1:1"]), NOW);
        for seconds in [60, 61, 359] {
            assert_eq!(name.take(absent(), after(seconds)), Change::default());
        }
        let change = name.take(absent(), after(360));
        assert_eq!(change.went, ["10.0.0.1:1".parse().unwrap()]);
        assert_eq!(addresses(&name), [""; 0]);
        name.take(answer(&["10.0.0.1:1"]), after(400));
        assert_eq!(
            name.take(absent(), after(500)),
            Change::default(),
            "an answer begins it anew"
        );
    }

    /// The time that one of them has lasted is none of the other's.
    #[test]
    fn a_family_that_is_missing_does_not_shorten_the_stay_of_all() {
        let mut name = Resolution::default();
        name.take(answer(&["10.0.0.1:1", "[::1]:1"]), NOW);
        for seconds in [60, 300, 600] {
            name.take(without(&["10.0.0.1:1"], false, true), after(seconds));
        }
        assert_eq!(addresses(&name), ["10.0.0.1:1"]);
        for seconds in [601, 900] {
            assert_eq!(name.take(absent(), after(seconds)), Change::default());
        }
        assert!(name.take(absent(), after(901)).servers);
    }

    #[test]
    fn a_family_that_was_not_answered_stays_for_a_while() {
        let mut name = Resolution::default();
        name.take(answer(&["10.0.0.1:1", "[::1]:1"]), NOW);
        let change = name.take(without(&["[::2]:1"], true, false), after(60));
        assert_eq!(addresses(&name), ["10.0.0.1:1", "[::2]:1"]);
        assert_eq!(change.went, ["[::1]:1".parse().unwrap()]);
        assert_eq!(name.error.as_deref(), Some("SERVFAIL"));
        assert_eq!(name.wait(), Duration::from_secs(1));
        name.take(without(&["[::2]:1"], true, false), after(359));
        assert_eq!(addresses(&name), ["10.0.0.1:1", "[::2]:1"]);
        name.take(without(&["[::2]:1"], true, false), after(360));
        assert_eq!(addresses(&name), ["[::2]:1"]);
    }

    #[test]
    fn too_many_addresses_are_cut() {
        let mut name = Resolution::default();
        let many: Vec<_> = (0..300_u32)
            .map(|number| Found {
                backup: false,
                address: (Ipv4Addr::from(0x0a00_0000 + number), 1).into(),
                weight: 1,
            })
            .collect();
        let answer = Answer {
            servers: many,
            ttl: Duration::ZERO,
            missing: None,
            cut: 0,
        };
        name.take(Ok(answer), NOW);
        assert_eq!((name.servers().len(), name.cut), (256, 44));
    }

    #[test]
    fn srv_records_become_servers_and_backups() {
        let service = |priority, weight, port, host: &str| Service {
            priority,
            weight,
            port,
            host: host.into(),
        };
        let services = [
            service(20, 5, 81, "b."),
            service(10, 0, 80, "a."),
            service(10, 7, 82, "gone."),
            service(30, 1, 80, "a."),
        ];
        let addresses_of = |host: &str| match host {
            "a." => vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
            "b." => vec![[10, 0, 0, 3].into()],
            _ => Vec::new(),
        };
        let servers = servers_of(&services, addresses_of);
        let mut name = Resolution::default();
        let ttl = Duration::ZERO;
        name.take(
            Ok(Answer {
                servers,
                ttl,
                missing: None,
                cut: 0,
            }),
            NOW,
        );
        let shown: Vec<_> = name
            .servers()
            .iter()
            .map(|found| (found.address.to_string(), found.weight, found.backup))
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.1:80".to_owned(), 1, false),
                ("10.0.0.2:80".to_owned(), 1, false),
                ("10.0.0.3:81".to_owned(), 5, true),
            ]
        );
    }

    #[test]
    fn relative_names_are_searched_as_resolv_conf_says() {
        let search = ["ns.svc.cluster.local".to_owned(), "lan.".to_owned()];
        for (name, ndots, expected) in [
            (
                "app",
                1,
                &["app.ns.svc.cluster.local.", "app.lan.", "app."][..],
            ),
            (
                "app.x",
                1,
                &["app.x.", "app.x.ns.svc.cluster.local.", "app.x.lan."],
            ),
            (
                "app.x",
                5,
                &["app.x.ns.svc.cluster.local.", "app.x.lan.", "app.x."],
            ),
            ("app.x.", 5, &["app.x."]),
        ] {
            assert_eq!(candidates(name, &search, ndots), expected, "{name} {ndots}");
        }
        assert_eq!(candidates("app", &[], 1), ["app."]);
        assert_eq!(candidates("app", &[".".into()], 1), ["app."]);
    }

    #[test]
    fn a_server_belongs_to_the_first_entry_that_leads_to_it() {
        let name = ServerName::Host {
            name: "app".into(),
            port: 1,
        };
        let weight = |weight| Weight(NonZeroU32::new(weight).unwrap());
        let entries = [
            ServerConfig {
                place: ServerPlace::Address(ServerAddr::Ip("10.0.0.2:1".parse().unwrap())),
                weight: weight(9),
                backup: false,
                max_in_flight: None,
                tls_name: None,
            },
            ServerConfig {
                place: ServerPlace::Name(name),
                weight: weight(1_000_000),
                backup: false,
                max_in_flight: None,
                tls_name: None,
            },
        ];
        let found = |_: &ServerName| {
            vec![
                found("10.0.0.1:1"),
                found("10.0.0.2:1"),
                Found {
                    backup: true,
                    weight: 5,
                    ..found("10.0.0.3:1")
                },
            ]
        };
        let servers: Vec<_> = resolved(&entries, found)
            .into_iter()
            .map(|server| (server.address.to_string(), server.weight, server.backup))
            .collect();
        assert_eq!(
            servers,
            [
                ("10.0.0.2:1".to_owned(), 9, false),
                ("10.0.0.1:1".to_owned(), 1_000_000, false),
                ("10.0.0.3:1".to_owned(), 1_000_000, true),
            ]
        );
    }

    #[test]
    fn what_is_no_address_of_a_server_is_left_out() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(!is_of_a_server(address.parse().unwrap()), "{address}");
        }
        assert!(is_of_a_server("127.0.0.1".parse().unwrap()));
    }
}
