//! The questions that a name comes to, and what their answers come to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::task::JoinSet;

use super::dns::{System, hosts_entry};
use super::{
    Answer, MAX_SERVERS, Missing, Service, Unresolved, candidates, is_of_a_server, servers_of,
};

/// Hosts of one service that are asked for at once.
const AT_ONCE: usize = 8;

/// What hosts are found at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) all: Vec<IpAddr>,
    pub(super) ttl: Duration,
    pub(super) missing: Option<Missing>,
}

impl System {
    /// Those of the first candidate that has any.
    pub(super) async fn addresses(&self, name: &str) -> Result<Addresses, Unresolved> {
        let mut why = None;
        for candidate in candidates(name, &self.search, self.ndots) {
            let (ipv4, ipv6) = tokio::join!(
                self.family(&candidate, RecordType::A),
                self.family(&candidate, RecordType::AAAA),
            );
            match both(ipv4, ipv6) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => why = Some(worse(why, error)),
            }
        }
        Err(why.unwrap_or_else(not_a_name))
    }

    /// The same for SRV records.
    async fn services(&self, name: &str) -> Result<Lookup, Unresolved> {
        let mut why = None;
        for candidate in candidates(name, &self.search, self.ndots) {
            match self.lookup(&candidate, RecordType::SRV).await {
                Ok(lookup) => return Ok(lookup),
                Err(error) => why = Some(worse(why, error)),
            }
        }
        Err(why.unwrap_or_else(not_a_name))
    }

    async fn family(
        &self,
        name: &str,
        kind: RecordType,
    ) -> Result<(Vec<IpAddr>, Duration), Unresolved> {
        let lookup = self.lookup(name, kind).await?;
        let addresses: Vec<_> = addresses_in(&lookup)
            .filter(|ip| is_of_a_server(*ip))
            .collect();
        if addresses.is_empty() {
            return Err(Unresolved::Absent("no addresses".into()));
        }
        Ok((addresses, ttl(&lookup)))
    }

    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Lookup, Unresolved> {
        let name = Name::from_ascii(name).map_err(|_| not_a_name())?;
        self.resolver
            .lookup(name, kind)
            .await
            .map_err(|error| reason(&error))
    }

    pub(super) async fn service(self: &Arc<Self>, name: &str) -> Result<Answer, Unresolved> {
        let lookup = self.services(name).await?;
        let mut services: Vec<_> = services_in(&lookup).collect();
        if services.is_empty() {
            return Err(Unresolved::Absent("no such service".into()));
        }
        services.sort_by_key(|service| service.priority);
        let cut = services.len().saturating_sub(MAX_SERVERS);
        services.truncate(MAX_SERVERS);

        let mut ttl = ttl(&lookup);
        let mut missing: Option<Missing> = None;
        let mut found = HashMap::new();
        for (host, outcome) in self.hosts(&services).await {
            match outcome {
                Ok(addresses) => {
                    ttl = ttl.min(addresses.ttl);
                    missing = more_missing(missing, addresses.missing);
                    found.insert(host, addresses.all);
                }
                Err(Unresolved::Absent(_)) => {}
                Err(Unresolved::Failed(error)) => {
                    let both = Missing {
                        ipv4: true,
                        ipv6: true,
                        error: format!("{host}: {error}"),
                    };
                    missing = more_missing(missing, Some(both));
                }
            }
        }
        let servers = servers_of(&services, |host| {
            found.get(host).cloned().unwrap_or_default()
        });
        match (servers.is_empty(), missing) {
            (false, missing) => Ok(Answer {
                servers,
                ttl,
                missing,
                cut,
            }),
            (true, Some(missing)) => Err(Unresolved::Failed(missing.error)),
            (true, None) => Err(Unresolved::Absent("its hosts have no addresses".into())),
        }
    }

    async fn hosts(
        self: &Arc<Self>,
        services: &[Service],
    ) -> Vec<(String, Result<Addresses, Unresolved>)> {
        let mut names: Vec<_> = services.iter().map(|service| &service.host).collect();
        names.sort();
        names.dedup();
        let mut hosts = Vec::new();
        for some in names.chunks(AT_ONCE) {
            let mut asking = JoinSet::new();
            for host in some {
                let (system, host) = (Arc::clone(self), String::clone(host));
                asking.spawn(async move {
                    let outcome = match hosts_entry(&host).await {
                        Some(addresses) => Ok(addresses),
                        None => system.addresses(&host).await,
                    };
                    (host, outcome)
                });
            }
            while let Some(asked) = asking.join_next().await {
                hosts.extend(asked);
            }
        }
        hosts
    }
}

/// That one candidate failed matters more than that others are not there.
fn worse(why: Option<Unresolved>, error: Unresolved) -> Unresolved {
    match why {
        Some(failed @ Unresolved::Failed(_)) => failed,
        Some(Unresolved::Absent(_)) | None => error,
    }
}

fn not_a_name() -> Unresolved {
    Unresolved::Failed("not a name".into())
}

/// A and AAAA together.
fn both(
    ipv4: Result<(Vec<IpAddr>, Duration), Unresolved>,
    ipv6: Result<(Vec<IpAddr>, Duration), Unresolved>,
) -> Result<Addresses, Unresolved> {
    let failed = |result: &Result<_, Unresolved>| match result {
        Err(Unresolved::Failed(error)) => Some(error.clone()),
        Err(Unresolved::Absent(_)) | Ok(_) => None,
    };
    let (no_ipv4, no_ipv6) = (failed(&ipv4), failed(&ipv6));
    let missing = Missing {
        ipv4: no_ipv4.is_some(),
        ipv6: no_ipv6.is_some(),
        error: no_ipv4
            .as_ref()
            .or(no_ipv6.as_ref())
            .cloned()
            .unwrap_or_default(),
    };
    let missing = (missing.ipv4 || missing.ipv6).then_some(missing);
    let (all, ttl) = match (ipv4, ipv6) {
        (Ok((mut all, ttl)), Ok((more, other))) => {
            all.extend(more);
            (all, ttl.min(other))
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => one,
        (Err(ipv4), Err(ipv6)) => {
            let failed = matches!(ipv6, Unresolved::Failed(_));
            return Err(if failed { ipv6 } else { ipv4 });
        }
    };
    Ok(Addresses { all, ttl, missing })
}

fn more_missing(one: Option<Missing>, other: Option<Missing>) -> Option<Missing> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Missing {
            ipv4: one.ipv4 || other.ipv4,
            ipv6: one.ipv6 || other.ipv6,
            error: one.error,
        }),
        (one, other) => one.or(other),
    }
}

pub(super) fn addresses_in(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0.into()),
            RData::AAAA(address) => Some(address.0.into()),
            _ => None,
        })
}

/// Without those whose host is the root: "decidedly not available at this domain".
fn services_in(lookup: &Lookup) -> impl Iterator<Item = Service> {
    let records = lookup.answers().iter();
    let services = records.filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    services
        .filter(|service| !service.target.is_root() && service.port != 0)
        .map(|service| {
            let mut host = service.target.to_lowercase();
            host.set_fqdn(true);
            Service {
                priority: service.priority,
                weight: service.weight,
                port: service.port,
                host: host.to_ascii(),
            }
        })
}

/// The least of all records that the answer rests on.
fn ttl(lookup: &Lookup) -> Duration {
    let ttls = lookup.answers().iter().map(|record| record.ttl);
    Duration::from_secs(ttls.min().unwrap_or_default().into())
}

/// In few words, for an operator.
fn reason(error: &NetError) -> Unresolved {
    Unresolved::Failed(match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => return Unresolved::Absent("no such name".into()),
            ResponseCode::NoError => return Unresolved::Absent("no addresses".into()),
            code => format!("the DNS server answered `{code}`"),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            format!("the DNS server answered `{code}`")
        }
        NetError::Timeout => "no answer in time".into(),
        NetError::NoConnections => "the DNS server cannot be reached".into(),
        NetError::Io(error) => format!("the DNS server cannot be reached: {error}"),
        error => format!("no usable answer: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Family = Result<(Vec<IpAddr>, Duration), Unresolved>;

    fn some(address: &str, seconds: u64) -> Family {
        Ok((vec![address.parse().unwrap()], Duration::from_secs(seconds)))
    }

    fn absent() -> Family {
        Err(Unresolved::Absent("no addresses".into()))
    }

    fn failed() -> Family {
        Err(Unresolved::Failed("no answer in time".into()))
    }

    #[test]
    fn both_families_are_one_answer() {
        let answer = both(some("10.0.0.1", 60), some("::1", 30)).unwrap();
        assert_eq!(answer.all.len(), 2);
        assert_eq!(
            (answer.ttl, answer.missing),
            (Duration::from_secs(30), None)
        );
        let answer = both(some("10.0.0.1", 60), absent()).unwrap();
        assert_eq!(
            (answer.ttl, answer.missing),
            (Duration::from_secs(60), None)
        );
    }

    #[test]
    fn a_family_that_failed_is_told_apart_from_one_that_is_not_there() {
        let missing = both(failed(), some("::1", 30)).unwrap().missing.unwrap();
        assert_eq!((missing.ipv4, missing.ipv6), (true, false));
        let missing = both(some("10.0.0.1", 1), failed())
            .unwrap()
            .missing
            .unwrap();
        assert_eq!((missing.ipv4, missing.ipv6), (false, true));
        for (ipv4, ipv6) in [
            (failed(), absent()),
            (absent(), failed()),
            (failed(), failed()),
        ] {
            assert!(matches!(both(ipv4, ipv6), Err(Unresolved::Failed(_))));
        }
        assert!(matches!(
            both(absent(), absent()),
            Err(Unresolved::Absent(_))
        ));
    }
}
