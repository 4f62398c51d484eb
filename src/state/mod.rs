//! What a [`Config`] becomes while running: immutable, shared by all workers, swapped whole.
//!
//! Names are resolved to indices, routes compiled into tables, durations into ticks, certificates into TLS settings. What
//! survives a reload is carried over by identity: servers by upstream and address, listeners by name.

mod listener;
mod published;
mod route;
mod upstream;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use self::listener::{ListenLimits, Listener};
pub(crate) use self::published::Published;
pub(crate) use self::route::{Action, Route};
pub(crate) use self::upstream::Upstream;
use self::upstream::has_names;
use crate::cache::Caching;
use crate::config::{self, Config, HealthCheck};
use crate::deadline::Clock;
use crate::memory;
use crate::route::Table;
use crate::telemetry::metrics::Names;
use crate::units::{RouteName, ServerName, UpstreamName};
use crate::upstream::resolve::Found;
use crate::upstream::server::Server;
use crate::upstream::tls::ServerTls;

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
