//! Upstreams with their servers, which are carried over by address.

use std::collections::HashMap;
use std::sync::Arc;

use super::Surroundings;
use crate::balance;
use crate::config::{
    self, Balance, Concurrency, Config, HealthCheck, HostHeader, OnAllDown, RetryOn,
};
use crate::deadline::Ticks;
use crate::semantics::methods::Methods;
use crate::units::{ServerAddr, ServerName, Share, UpstreamName};
use crate::upstream::ejection::Rules;
use crate::upstream::group::{Ejections, Group};
use crate::upstream::pool::PoolLimits;
use crate::upstream::resolve::resolved;
use crate::upstream::server::Server;
use crate::upstream::sticky::Stickiness;
use crate::upstream::tls::{self, ServerTls};

/// `[upstream.NAME]` at work.
pub(crate) struct Upstream {
    pub(crate) name: UpstreamName,
    /// Backups last.
    pub(crate) servers: Vec<Member>,
    pub(crate) balance: Balance,
    /// Where each key belongs; only with `balance = "hash"`.
    pub(crate) table: Option<Arc<balance::Table>>,
    pub(crate) host_header: HostHeader,
    pub(crate) connect_timeout: Ticks,
    pub(crate) response_timeout: Ticks,
    pub(crate) stall_timeout: Ticks,
    pub(crate) stream_timeout: Ticks,
    pub(crate) on_all_down: OnAllDown,
    pub(crate) pool: PoolLimits,
    pub(crate) health_check: Option<HealthCheck>,
    /// What its workers share.
    pub(crate) group: Arc<Group>,
    pub(crate) ejections: Option<Ejections>,
    /// How long a server may take for the request that is its trial.
    pub(crate) longest_trial: Ticks,
    pub(crate) retries: Option<Retries>,
    /// The methods of requests that may be sent twice.
    pub(crate) replayable: Methods,
    pub(crate) sticky: Option<Stickiness>,
    pub(crate) slow_start: Option<Ticks>,
    pub(crate) queue: QueueLimits,
    pub(crate) concurrency: Concurrency,
    /// Use all, when a smaller share of them accepts traffic.
    pub(crate) panic_below: Option<Share>,
    /// What its servers have in common of TLS; `None`: cleartext.
    tls: Option<Arc<tls::Settings>>,
}

/// A server with what its upstream says of it.
pub(crate) struct Member {
    pub(crate) server: Arc<Server>,
    pub(crate) weight: u32,
    /// Gets traffic only where no other does.
    pub(crate) backup: bool,
    /// The most requests at once.
    pub(crate) limit: Option<u32>,
    /// `None`: cleartext.
    pub(crate) tls: Option<Arc<ServerTls>>,
}

/// How many requests may wait for a server, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    pub(crate) size: usize,
    pub(crate) timeout: Ticks,
}

/// `[upstream.NAME.retry]` at work.
pub(crate) struct Retries {
    pub(crate) max: u32,
    pub(crate) budget: Share,
    pub(crate) on: Vec<RetryOn>,
}

impl Upstream {
    /// Whether what failed so may go to another server. Without `retry`, a failed connect alone does.
    pub(crate) fn moves_on(&self, on: RetryOn) -> bool {
        let rules = self.retries.as_ref();
        rules.map_or(on == RetryOn::Connect, |rules| rules.on.contains(&on))
    }

    /// Whether a request that failed so after that many retries may be sent once more. `replayable`: twice does no harm.
    pub(crate) fn may_retry(&self, on: RetryOn, replayable: bool, retries: u32) -> bool {
        let left = self
            .retries
            .as_ref()
            .is_some_and(|rules| retries < rules.max);
        replayable && left && self.moves_on(on)
    }

    pub(super) fn build_all(config: &Config, around: &Surroundings<'_>) -> Vec<Arc<Self>> {
        let previous = around.previous.into_iter();
        let known: HashMap<_, _> = previous
            .flat_map(|previous| previous.config.upstreams.iter().zip(&previous.upstreams))
            .map(|(config, upstream)| (&upstream.name, (config, upstream)))
            .collect();
        let upstreams = config.upstreams.iter();
        upstreams
            .map(|upstream| match known.get(&upstream.name) {
                // What workers know of it needs not be made anew either.
                Some((was, before)) if *was == upstream && !has_names(upstream) => {
                    Arc::clone(before)
                }
                before => {
                    let before = before.map(|(_, before)| *before);
                    Arc::new(Self::build(upstream, before, around))
                }
            })
            .collect()
    }

    fn build(
        upstream: &config::Upstream,
        before: Option<&Arc<Self>>,
        around: &Surroundings<'_>,
    ) -> Self {
        let known: HashMap<&ServerAddr, &Member> = before
            .into_iter()
            .flat_map(|before| &before.servers)
            .map(|member| (&member.server.address, member))
            .collect();
        let eased_in = around.warm && !known.is_empty();
        let group = before.map_or_else(
            || Arc::new(Group::new(around.clock)),
            |before| Arc::clone(&before.group),
        );
        let probed = upstream.health_check.is_some();
        let tls = upstream.tls.as_ref().map(|settings| {
            let kept = before.and_then(|before| before.tls.as_ref());
            let kept = kept.filter(|kept| kept.are_of(settings)).map(Arc::clone);
            kept.unwrap_or_else(|| Arc::new(tls::Settings::new(settings)))
        });
        let found = |name: &ServerName| (around.found)(&upstream.name, name);
        let servers = resolved(&upstream.servers, found)
            .into_iter()
            .map(|server| {
                let limit = server.limit.unwrap_or(upstream.max_in_flight);
                let before = known.get(&server.address).copied();
                // Each server has a name where its upstream has TLS, else the config would have been refused.
                let tls = tls
                    .as_ref()
                    .zip(server.tls_name.as_ref())
                    .map(|(tls, name)| {
                        let kept = before.and_then(|before| before.tls.as_ref());
                        let kept = kept.filter(|kept| kept.is_of(tls, name)).map(Arc::clone);
                        kept.unwrap_or_else(|| Arc::new(ServerTls::new(tls, name.clone())))
                    });
                let known = before.map(|before| Arc::clone(&before.server));
                let known = known.or_else(|| {
                    let known = group.known(&server.address)?;
                    known.grow();
                    Some(known)
                });
                let made = || {
                    let name = upstream.name.clone();
                    let made =
                        Server::new(name, server.address, Arc::clone(&group), probed, around.now);
                    made.set_limit(limit);
                    made.set_backup(server.backup);
                    // The others are warm and carry the load.
                    if eased_in {
                        made.grow();
                    }
                    let made = Arc::new(made);
                    group.remember(&made);
                    made
                };
                Member {
                    server: known.unwrap_or_else(made),
                    weight: server.weight,
                    backup: server.backup,
                    limit,
                    tls,
                }
            });
        let mut servers: Vec<_> = servers.collect();
        servers.sort_by_key(|member| member.backup);
        let sticky = upstream.sticky.as_ref().map(|sticky| {
            let addresses = servers.iter().map(|member| &member.server.address);
            Stickiness::new(sticky, &upstream.name, addresses)
        });
        let retry = upstream.retry.as_ref();
        let default = config::Retry::default();
        Self {
            name: upstream.name.clone(),
            table: table_of_keys(upstream, &servers, before),
            servers,
            balance: upstream.balance.clone(),
            host_header: upstream.host_header.clone(),
            longest_trial: Ticks::of(
                upstream
                    .connect_timeout
                    .saturating_add(upstream.response_timeout),
            ),
            connect_timeout: Ticks::of(upstream.connect_timeout),
            response_timeout: Ticks::of(upstream.response_timeout),
            stall_timeout: Ticks::of(upstream.stall_timeout),
            stream_timeout: Ticks::of(upstream.stream_timeout),
            on_all_down: upstream.on_all_down,
            pool: PoolLimits {
                max_idle: upstream.keepalive.max_idle.div_ceil(around.workers.max(1)),
                idle: Ticks::of(upstream.keepalive.idle),
                max_age: Ticks::of(upstream.keepalive.max_age),
            },
            health_check: upstream.health_check.clone(),
            ejections: upstream.ejection.map(|ejection| Ejections {
                rules: Rules {
                    failures: ejection.failures,
                    base: Ticks::of(ejection.base),
                    max: Ticks::of(ejection.max),
                },
                max_share: ejection.max_share,
                may_eject_all: upstream.on_all_down == OnAllDown::TryAnyway,
            }),
            retries: retry.map(|retry| Retries {
                max: retry.max_retries,
                budget: retry.budget,
                on: retry.on.clone(),
            }),
            replayable: retry.unwrap_or(&default).methods.iter().cloned().collect(),
            sticky,
            slow_start: upstream.slow_start.map(Ticks::of),
            queue: QueueLimits {
                size: upstream.queue.size,
                timeout: Ticks::of(upstream.queue.timeout),
            },
            concurrency: upstream.concurrency,
            panic_below: upstream.panic_below,
            tls,
            group,
        }
    }
}

/// Whether it depends on DNS which servers it has.
pub(super) fn has_names(upstream: &config::Upstream) -> bool {
    let mut servers = upstream.servers.iter();
    servers.any(|server| matches!(server.place, config::ServerPlace::Name(_)))
}

/// Where the keys of requests belong; that of before while the servers are the same.
fn table_of_keys(
    upstream: &config::Upstream,
    members: &[Member],
    before: Option<&Arc<Upstream>>,
) -> Option<Arc<balance::Table>> {
    let Balance::Hash(_) = upstream.balance else {
        return None;
    };
    let primaries = |members: &[Member]| {
        let primaries = members.iter().filter(|member| !member.backup);
        primaries
            .map(|member| (member.server.address.to_string(), member.weight * 100))
            .collect::<Vec<_>>()
    };
    let servers = primaries(members);
    let known = before.filter(|before| primaries(&before.servers) == servers);
    if let Some(table) = known.and_then(|before| before.table.as_ref()) {
        return Some(Arc::clone(table));
    }
    let servers: Vec<_> = servers
        .iter()
        .map(|(identity, weight)| (identity.as_str(), *weight))
        .collect();
    Some(Arc::new(balance::Table::new(&servers)))
}
