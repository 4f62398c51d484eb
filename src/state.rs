//! What a [`Config`] becomes while running: immutable, shared by all workers, swapped whole.
//!
//! Names are resolved to indices, routes compiled into tables, durations into ticks, certificates into TLS settings. What
//! survives a reload is carried over by identity: servers by upstream and address, listeners by name.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::HeaderValue;
use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64;

use crate::balance;
use crate::cache::Caching;
use crate::config::{
    self, Balance, Compress, Concurrency, Config, FieldEdits, HealthCheck, HostHeader, OnAllDown,
    RedirectToHttps, RetryOn,
};
use crate::deadline::{Clock, Ticks};
use crate::memory;
use crate::route::Table;
use crate::semantics::methods::Methods;
use crate::telemetry::metrics::Names;
use crate::units::{ByteSize, ListenName, RouteName, ServerAddr, ServerName, Share, UpstreamName};
use crate::upstream::ejection::Rules;
use crate::upstream::group::{Ejections, Group};
use crate::upstream::pool::PoolLimits;
use crate::upstream::resolve::{Found, resolved};
use crate::upstream::server::Server;
use crate::upstream::sticky::Stickiness;
use crate::upstream::tls::{self, ServerTls};

/// The label of requests that no route matches.
pub(crate) const NO_ROUTE: &str = "-";

/// A whole configuration, ready to serve requests.
pub(crate) struct State {
    /// By listener number; `None` where a listener was removed by a reload.
    pub(crate) listeners: Vec<Option<Arc<Listener>>>,
    /// By listener number: the places in [`State::routes`] of what stands on it. Not part of it: connections and requests
    /// hold on to their listener, and may do so for days.
    tables: Arc<[Option<Table<usize>>]>,
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// What is stored of responses, for all routes; `None` if none has a cache.
    pub(crate) caching: Option<Arc<Caching>>,
    /// Every way in which routes make keys, once.
    pub(crate) key_rules: Vec<Arc<config::Cache>>,
    /// The place of each route.
    numbers: Arc<HashMap<RouteName, usize>>,
    /// What it was built from.
    pub(crate) config: Arc<Config>,
    /// Since when it runs.
    pub(crate) loaded_at: SystemTime,
}

/// `[listen.NAME]` at work.
pub(crate) struct Listener {
    /// Its place in [`State::listeners`], kept over reloads for as long as the process lives.
    pub(crate) number: usize,
    pub(crate) name: ListenName,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) http2: bool,
    pub(crate) redirect_to_https: Option<RedirectToHttps>,
    /// `Strict-Transport-Security`, where it is to be sent.
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) limits: ListenLimits,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Its connections, over all workers and states.
    pub(crate) open: Arc<AtomicUsize>,
}

/// The limits of a listener, in the units that the data plane counts in.
pub(crate) struct ListenLimits {
    pub(crate) header_timeout: Ticks,
    pub(crate) stall_timeout: Ticks,
    pub(crate) keepalive: Ticks,
    pub(crate) max_connection_age: Option<Ticks>,
    pub(crate) max_header_size: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_target_size: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_concurrent_streams: u32,
}

/// `[route.NAME]` at work.
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) action: Action,
    pub(crate) strip_prefix: Option<String>,
    pub(crate) add_prefix: Option<String>,
    pub(crate) request_headers: FieldEdits,
    pub(crate) response_headers: FieldEdits,
    pub(crate) timeout: Option<Ticks>,
    pub(crate) max_body: Option<u64>,
    /// Read that much of the body before a server is chosen.
    pub(crate) buffer_request: Option<usize>,
    /// Shared with what is stored by it and outlives the state.
    pub(crate) cache: Option<Arc<config::Cache>>,
    /// Tells what is stored for this route, by the rules that it has now, from what is for others.
    pub(crate) scope: Box<[u8]>,
    pub(crate) compress: Option<Compress>,
}

/// What a route does with a request.
pub(crate) enum Action {
    /// Places in [`State::upstreams`], each with the sum of the weights up to and including it.
    Forward(Vec<(usize, u64)>),
    Redirect {
        to: String,
        status: http::StatusCode,
    },
    Respond {
        status: http::StatusCode,
        body: bytes::Bytes,
        content_type: HeaderValue,
    },
}

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

/// What a build needs beside the config.
pub(crate) struct Surroundings<'p> {
    /// What runs now, if anything does.
    pub(crate) previous: Option<&'p State>,
    /// What a name among the servers of an upstream stands for now.
    pub(crate) found: &'p dyn Fn(&UpstreamName, &ServerName) -> Vec<Found>,
    /// Workers among which limits are shared out.
    pub(crate) workers: usize,
    /// The limit of open files, from which `max_connections = "auto"` follows.
    pub(crate) max_files: u64,
    /// TLS settings of a listener.
    pub(crate) tls: &'p dyn Fn(&config::Listener, &config::Tls) -> Arc<rustls::ServerConfig>,
    pub(crate) now: SystemTime,
    pub(crate) clock: Clock,
    /// Whether there is traffic already, which servers that come now are to be eased into.
    pub(crate) warm: bool,
}

impl<'p> Surroundings<'p> {
    /// Those of a state that nothing runs by: one worker, and no servers of names.
    pub(crate) fn alone(
        tls: &'p dyn Fn(&config::Listener, &config::Tls) -> Arc<rustls::ServerConfig>,
        clock: Clock,
    ) -> Self {
        Self {
            previous: None,
            found: &unknown,
            workers: 1,
            max_files: 1024,
            tls,
            now: SystemTime::now(),
            clock,
            warm: false,
        }
    }
}

fn unknown(_: &UpstreamName, _: &ServerName) -> Vec<Found> {
    Vec::new()
}

impl State {
    /// Compiles `config`. Cannot fail: a `Config` is valid.
    pub(crate) fn build(config: Arc<Config>, around: &Surroundings<'_>) -> Self {
        let upstreams = Upstream::build_all(&config, around);
        let upstream_numbers: HashMap<_, _> = config
            .upstreams
            .iter()
            .enumerate()
            .map(|(number, upstream)| (&upstream.name, number))
            .collect();
        let routes: Vec<_> = config
            .routes
            .iter()
            .map(|route| Arc::new(Route::build(route, &upstream_numbers)))
            .collect();
        let mut key_rules: Vec<Arc<config::Cache>> = Vec::new();
        for rules in routes.iter().filter_map(|route| route.cache.as_ref()) {
            let same = |known: &Arc<config::Cache>| {
                known.key_query == rules.key_query && known.key_query_sort == rules.key_query_sort
            };
            if !key_rules.iter().any(same) {
                key_rules.push(Arc::clone(rules));
            }
        }
        let listeners = Listener::build_all(&config, around);
        let tables = listeners.iter().map(|slot| {
            let listener = slot.as_ref()?;
            let routes = config.routes.iter().enumerate();
            let standing = routes.filter(|(_, route)| route.listen.contains(&listener.name));
            Some(Table::build(
                standing.map(|(number, route)| (route, number)),
            ))
        });
        let numbers = routes.iter().enumerate();
        let numbers = numbers.map(|(number, route)| (route.name.clone(), number));
        Self {
            numbers: Arc::new(numbers.collect()),
            tables: tables.collect(),
            listeners,
            routes,
            upstreams,
            loaded_at: around.now,
            caching: caching(&config, around),
            key_rules,
            config,
        }
    }

    /// The same config with what its names stand for now.
    pub(crate) fn with_servers(&self, around: &Surroundings<'_>) -> Self {
        Self {
            listeners: self.listeners.clone(),
            tables: Arc::clone(&self.tables),
            routes: self.routes.clone(),
            upstreams: Upstream::build_all(&self.config, around),
            caching: self.caching.clone(),
            key_rules: self.key_rules.clone(),
            numbers: Arc::clone(&self.numbers),
            config: Arc::clone(&self.config),
            loaded_at: self.loaded_at,
        }
    }

    /// The same with the certificates of `config`, which differs from the one that runs in nothing else.
    pub(crate) fn with_certificates(&self, config: Arc<Config>, around: &Surroundings<'_>) -> Self {
        let renew = |listener: &Arc<Listener>| {
            let is_it = |each: &&config::Listener| each.name == listener.name;
            let before = self.config.listeners.iter().find(is_it);
            match config.listeners.iter().find(is_it) {
                Some(now) if before != Some(now) => {
                    Arc::new(Listener::build(now, listener.number, around))
                }
                _ => Arc::clone(listener),
            }
        };
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|slot| slot.as_ref().map(renew)).collect();
        Self {
            listeners,
            tables: Arc::clone(&self.tables),
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
            caching: self.caching.clone(),
            key_rules: self.key_rules.clone(),
            numbers: Arc::clone(&self.numbers),
            config,
            loaded_at: self.loaded_at,
        }
    }

    /// The listener of that number, unless a reload has removed it.
    pub(crate) fn listener(&self, number: usize) -> Option<&Arc<Listener>> {
        self.listeners.get(number)?.as_ref()
    }

    /// The routes on the listener of that number, by what they ask of a request.
    pub(crate) fn table(&self, listener: usize) -> Option<&Table<usize>> {
        self.tables.get(listener)?.as_ref()
    }

    /// Whether there is a route of that name on that listener.
    pub(crate) fn stands(&self, route: &RouteName, listener: usize) -> bool {
        let route = self.numbers.get(route);
        let route = route.and_then(|&number| self.config.routes.get(number));
        let listener = self.listener(listener);
        route
            .zip(listener)
            .is_some_and(|(route, listener)| route.listen.contains(&listener.name))
    }

    /// All servers, with their upstreams.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&Arc<Upstream>, &Arc<Server>)> {
        self.upstreams.iter().flat_map(|upstream| {
            upstream
                .servers
                .iter()
                .map(move |member| (upstream, &member.server))
        })
    }

    /// Tells the servers of `before` that are no part of their upstream any more. Those of an upstream that is gone as a
    /// whole still serve whoever waits for them.
    pub(crate) fn remove_from(&self, before: &Self) {
        let upstreams: HashMap<_, _> = self
            .upstreams
            .iter()
            .map(|upstream| (&upstream.name, upstream))
            .collect();
        for old in &before.upstreams {
            let Some(new) = upstreams.get(&old.name) else {
                continue;
            };
            let stay: HashSet<_> = new
                .servers
                .iter()
                .map(|member| Arc::as_ptr(&member.server))
                .collect();
            let gone = old
                .servers
                .iter()
                .filter(|member| !stay.contains(&Arc::as_ptr(&member.server)));
            gone.for_each(|member| member.server.set_removed(true));
        }
    }

    /// The servers with health checks: how each is asked, and over which TLS.
    pub(crate) fn probed(
        &self,
    ) -> impl Iterator<Item = (&HealthCheck, &Arc<Server>, Option<&Arc<ServerTls>>)> {
        let upstreams = self.upstreams.iter();
        let checked = upstreams.filter_map(|upstream| {
            let check = upstream.health_check.as_ref()?;
            Some((check, &upstream.servers))
        });
        checked.flat_map(|(check, members)| {
            let members = members.iter();
            members.map(move |member| (check, &member.server, member.tls.as_ref()))
        })
    }

    /// Every name that may become a label.
    pub(crate) fn names(&self) -> Names {
        let mut names = Names::default();
        for listener in &self.config.listeners {
            names.listener(&listener.name);
            names.route(&listener.name, &NO_ROUTE.into(), None);
        }
        for (route, compiled) in self.config.routes.iter().zip(&self.routes) {
            for listen in &route.listen {
                match &compiled.action {
                    Action::Forward(choices) => {
                        for upstream in choices
                            .iter()
                            .filter_map(|(number, _)| self.upstreams.get(*number))
                        {
                            names.route(listen, &route.name, Some(&upstream.name));
                        }
                    }
                    Action::Redirect { .. } | Action::Respond { .. } => {
                        names.route(listen, &route.name, None)
                    }
                }
            }
            if compiled.cache.is_some() {
                names.caching(&route.name);
            }
            if compiled.compress.is_some() {
                names.compressing(&route.name);
            }
        }
        for upstream in &self.upstreams {
            names.upstream(&upstream.name);
        }
        for upstream in self.config.upstreams.iter().filter(|it| has_names(it)) {
            names.resolving(&upstream.name);
        }
        for (upstream, server) in self.servers() {
            names.server(&upstream.name, &server.address);
        }
        names
    }
}

/// The cache that runs, if its settings are the same; else an empty one.
fn caching(config: &Config, around: &Surroundings<'_>) -> Option<Arc<Caching>> {
    if config.routes.iter().all(|route| route.cache.is_none()) {
        return None;
    }
    let before = around
        .previous
        .filter(|previous| previous.config.cache == config.cache)
        .and_then(|previous| previous.caching.clone());
    let build = || {
        let max_size = memory::for_cache(&config.cache);
        Arc::new(Caching::new(max_size, config.cache.max_object_size.0))
    };
    Some(before.unwrap_or_else(build))
}

impl Listener {
    fn build_all(config: &Config, around: &Surroundings<'_>) -> Vec<Option<Arc<Self>>> {
        let known = around
            .previous
            .map(|state| state.listeners.as_slice())
            .unwrap_or_default();
        let mut numbers: HashMap<&ListenName, usize> = known
            .iter()
            .flatten()
            .map(|listener| (&listener.name, listener.number))
            .collect();
        let mut next = known.len();
        for listener in &config.listeners {
            numbers.entry(&listener.name).or_insert_with(|| {
                next += 1;
                next - 1
            });
        }
        let mut all: Vec<Option<Arc<Self>>> = std::iter::repeat_with(|| None).take(next).collect();
        for listener in &config.listeners {
            let Some((number, slot)) = numbers
                .get(&listener.name)
                .and_then(|&number| Some((number, all.get_mut(number)?)))
            else {
                continue;
            };
            *slot = Some(Arc::new(Self::build(listener, number, around)));
        }
        all
    }

    fn build(listener: &config::Listener, number: usize, around: &Surroundings<'_>) -> Self {
        let hsts = listener.tls.as_ref().and_then(|tls| tls.hsts);
        let before = around.previous.and_then(|state| state.listener(number));
        Self {
            number,
            name: listener.name.clone(),
            trusted_proxies: listener.trusted_proxies.clone(),
            http2: listener.http2,
            redirect_to_https: listener.redirect_to_https,
            hsts: hsts
                .and_then(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok()),
            limits: ListenLimits::build(&listener.limits, around),
            tls: listener.tls.as_ref().map(|tls| (around.tls)(listener, tls)),
            open: before
                .map(|before| Arc::clone(&before.open))
                .unwrap_or_default(),
        }
    }
}

impl ListenLimits {
    fn build(limits: &config::ListenLimits, around: &Surroundings<'_>) -> Self {
        Self {
            header_timeout: Ticks::of(limits.header_timeout),
            stall_timeout: Ticks::of(limits.stall_timeout),
            keepalive: Ticks::of(limits.keepalive),
            max_connection_age: limits.max_connection_age.map(Ticks::of),
            max_header_size: limits.max_header_size.as_usize(),
            max_headers: limits.max_headers,
            max_target_size: limits.max_target_size.as_usize(),
            max_connections: limits
                .max_connections
                .unwrap_or_else(|| auto_max_connections(around.max_files)),
            max_concurrent_streams: limits.max_concurrent_streams,
        }
    }
}

/// Each client may need a connection to a server; some files are for everything else.
fn auto_max_connections(max_files: u64) -> usize {
    usize::try_from(max_files.saturating_sub(200) / 2)
        .unwrap_or(usize::MAX)
        .max(64)
}

impl Route {
    fn build(route: &config::Route, upstreams: &HashMap<&UpstreamName, usize>) -> Self {
        let action = match &route.action {
            config::Action::Forward(choices) => {
                let mut sum = 0;
                let choices = choices.iter().filter_map(|(name, weight)| {
                    sum += u64::from(*weight);
                    Some((*upstreams.get(name)?, sum))
                });
                Action::Forward(choices.collect())
            }
            config::Action::Redirect { to, status } => Action::Redirect {
                to: to.clone(),
                status: *status,
            },
            config::Action::Respond {
                status,
                body,
                content_type,
            } => Action::Respond {
                status: *status,
                body: body.clone().into(),
                content_type: content_type.clone(),
            },
        };
        Self {
            name: route.name.clone(),
            action,
            strip_prefix: route
                .strip_prefix
                .clone()
                .filter(|prefix| !prefix.is_empty()),
            add_prefix: route.add_prefix.clone().filter(|prefix| !prefix.is_empty()),
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            timeout: route.timeout.map(Ticks::of),
            max_body: route.max_body.map(|size| size.0),
            buffer_request: route.buffer_request.map(ByteSize::as_usize),
            cache: route.cache.clone().map(Arc::new),
            scope: scope(route),
            compress: route.compress.clone(),
        }
    }
}

/// Its name, and a digest of its rules: what was stored by others may not be stored by these.
fn scope(route: &config::Route) -> Box<[u8]> {
    let rules = format!("{:?}", route.cache);
    let mut scope = route.name.as_str().as_bytes().to_vec();
    scope.push(0);
    scope.extend_from_slice(&xxh3_64(rules.as_bytes()).to_be_bytes());
    scope.into()
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

    fn build_all(config: &Config, around: &Surroundings<'_>) -> Vec<Arc<Self>> {
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
fn has_names(upstream: &config::Upstream) -> bool {
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

/// Where the running `State` is published. Workers compare the generation, a cache line that only a reload writes, and
/// take the `State` itself only when that has changed.
pub(crate) struct Published {
    state: ArcSwap<State>,
    /// Those before that a request may still live with. To take one apart that has thousands of routes takes milliseconds,
    /// which no worker has: whoever publishes does it.
    replaced: Mutex<Vec<Arc<State>>>,
    generation: AtomicU64,
    pub(crate) clock: Clock,
}

impl Published {
    pub(crate) fn new(state: Arc<State>, clock: Clock) -> Self {
        Self {
            clock,
            state: ArcSwap::new(state),
            replaced: Mutex::default(),
            generation: AtomicU64::new(1),
        }
    }

    /// From here on every new request sees `state`. Returns how many there are now.
    pub(crate) fn publish(&self, state: Arc<State>) -> usize {
        let before = self.state.swap(state);
        let mut replaced = self.lock_replaced();
        replaced.push(before);
        self.generation.fetch_add(1, Ordering::Release);
        replaced.len() + 1
    }

    /// Lets go of what nobody lives with any more; returns how many are left. Not for a worker's thread.
    pub(crate) fn let_go(&self) -> usize {
        let mut replaced = self.lock_replaced();
        let (in_use, over): (Vec<_>, Vec<_>) = std::mem::take(&mut *replaced)
            .into_iter()
            .partition(|state| Arc::strong_count(state) > 1);
        *replaced = in_use;
        let left = replaced.len() + 1;
        drop(replaced);
        drop(over);
        left
    }

    fn lock_replaced(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with every publication.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }
}
