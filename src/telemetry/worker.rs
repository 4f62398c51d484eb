//! The metrics of one worker: shards that are found or made once, when a worker takes up a `State`, and then kept as
//! handles. The locks here are never taken for a request.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};

use super::labels::{
    CacheResult, Handshake, MethodLabel, Outcome, RefusedReason, RetryReason, StatusClass,
};
use super::metrics::Names;
use super::shard::{Counter, Gauge, Histogram};
use crate::semantics::coding::Coding;
use crate::units::{ListenName, RouteName, ServerAddr, UpstreamName};

/// What a request is counted under besides method and status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouteKey {
    pub(crate) listen: ListenName,
    pub(crate) route: RouteName,
    /// `None` where the route answers by itself.
    pub(crate) upstream: Option<UpstreamName>,
}

/// A server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServerKey {
    pub(crate) upstream: UpstreamName,
    pub(crate) server: ServerAddr,
}

/// What one worker counts for a route on a listener, towards one upstream.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct RouteShard {
    requests: [[Counter; StatusClass::COUNT]; MethodLabel::COUNT],
    /// Of the route, whatever the listener and the upstream.
    duration: Arc<Histogram>,
}

impl RouteShard {
    fn new(duration: Arc<Histogram>) -> Self {
        Self {
            requests: Default::default(),
            duration,
        }
    }

    /// Counts an exchange that ended. No status: it broke before there was one.
    pub(crate) fn ended(&self, method: &Method, status: Option<StatusCode>, duration: Duration) {
        self.requests[MethodLabel::of(method) as usize][StatusClass::of(status) as usize].add(1);
        self.duration.observe(duration);
    }

    pub(super) fn requests(&self) -> [[u64; StatusClass::COUNT]; MethodLabel::COUNT] {
        self.requests
            .each_ref()
            .map(|classes| classes.each_ref().map(Counter::get))
    }
}

/// What one worker counts of the requests that a route with a cache gets.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct CacheShard {
    requests: [Counter; CacheResult::COUNT],
}

impl CacheShard {
    /// Counts a request.
    pub(crate) fn request(&self, result: CacheResult) {
        self.requests[result as usize].add(1);
    }

    pub(super) fn requests(&self) -> [u64; CacheResult::COUNT] {
        self.requests.each_ref().map(Counter::get)
    }
}

/// What one worker counts of the responses that a route encodes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct CompressShard {
    responses: [Counter; Coding::COUNT],
    /// Bytes before and after.
    pub(crate) plain: Counter,
    pub(crate) encoded: Counter,
    /// Responses that were to be encoded, without memory for an encoder.
    pub(crate) skipped: Counter,
}

impl CompressShard {
    /// Counts a response that is sent with that coding.
    pub(crate) fn response(&self, coding: Coding) {
        self.responses[coding as usize].add(1);
    }

    pub(super) fn responses(&self) -> [u64; Coding::COUNT] {
        self.responses.each_ref().map(Counter::get)
    }
}

/// What one worker counts for a server.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct ServerShard {
    /// From the request's start on the connection to the response head.
    pub(crate) response: Histogram,
    requests: [Counter; Outcome::COUNT],
}

impl ServerShard {
    /// Counts an attempt.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.requests[outcome as usize].add(1);
    }

    pub(super) fn requests(&self) -> [u64; Outcome::COUNT] {
        self.requests.each_ref().map(Counter::get)
    }
}

/// What one worker counts for an upstream.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct UpstreamShard {
    retries: [Counter; RetryReason::COUNT],
    /// How long requests waited that got a server in the end.
    pub(crate) queued: Histogram,
    /// Attempts that the retry budget did not allow.
    pub(crate) budget_exhausted: Counter,
}

impl UpstreamShard {
    pub(crate) fn retried(&self, reason: RetryReason) {
        self.retries[reason as usize].add(1);
    }

    pub(super) fn retries(&self) -> [u64; RetryReason::COUNT] {
        self.retries.each_ref().map(Counter::get)
    }
}

/// What one worker counts for a listener.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct ListenShard {
    /// Open client connections.
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    /// Bytes from and to clients.
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    handshakes: [Counter; Handshake::COUNT],
    refused: [Counter; RefusedReason::COUNT],
}

impl ListenShard {
    pub(crate) fn handshake(&self, result: Handshake) {
        self.handshakes[result as usize].add(1);
    }

    pub(crate) fn refused(&self, reason: RefusedReason) {
        self.refused[reason as usize].add(1);
    }

    pub(super) fn handshakes(&self) -> [u64; Handshake::COUNT] {
        self.handshakes.each_ref().map(Counter::get)
    }

    pub(super) fn refusals(&self) -> [u64; RefusedReason::COUNT] {
        self.refused.each_ref().map(Counter::get)
    }
}

/// All that one worker counts.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct WorkerMetrics {
    /// Client connections that this worker serves.
    pub(crate) connections: Gauge,
    /// Client connections that this worker accepted and handed to another.
    pub(crate) handed_over: Counter,
    pub(super) routes: Shards<RouteKey, RouteShard>,
    pub(super) durations: Shards<RouteName, Histogram>,
    pub(super) caches: Shards<RouteName, CacheShard>,
    pub(super) compressions: Shards<RouteName, CompressShard>,
    pub(super) servers: Shards<ServerKey, ServerShard>,
    pub(super) upstreams: Shards<UpstreamName, UpstreamShard>,
    pub(super) listeners: Shards<ListenName, ListenShard>,
}

impl WorkerMetrics {
    /// `upstream` is `None` for a route that answers by itself.
    pub(crate) fn route(
        &self,
        listen: &ListenName,
        route: &RouteName,
        upstream: Option<&UpstreamName>,
    ) -> Arc<RouteShard> {
        let key = RouteKey {
            listen: listen.clone(),
            route: route.clone(),
            upstream: upstream.cloned(),
        };
        self.routes.find_or_make(key, || {
            RouteShard::new(
                self.durations
                    .find_or_make(route.clone(), Histogram::default),
            )
        })
    }

    pub(crate) fn cache(&self, route: &RouteName) -> Arc<CacheShard> {
        self.caches.find_or_make(route.clone(), CacheShard::default)
    }

    pub(crate) fn compress(&self, route: &RouteName) -> Arc<CompressShard> {
        self.compressions
            .find_or_make(route.clone(), CompressShard::default)
    }

    pub(crate) fn server(&self, upstream: &UpstreamName, server: &ServerAddr) -> Arc<ServerShard> {
        self.servers.find_or_make(
            ServerKey {
                upstream: upstream.clone(),
                server: server.clone(),
            },
            ServerShard::default,
        )
    }

    pub(crate) fn upstream(&self, upstream: &UpstreamName) -> Arc<UpstreamShard> {
        self.upstreams
            .find_or_make(upstream.clone(), UpstreamShard::default)
    }

    pub(crate) fn listener(&self, listen: &ListenName) -> Arc<ListenShard> {
        self.listeners
            .find_or_make(listen.clone(), ListenShard::default)
    }

    /// Forgets what has no name any more. A worker that still holds a forgotten shard counts into it unseen.
    pub(super) fn retain(&self, names: &Names) {
        // Histograms before the routes that hold them: a worker that makes a route's shard in between must not leave
        // one behind whose histogram is no longer found under its name.
        self.durations
            .retain(|name| names.route_names.contains(name));
        self.routes.retain(|key| names.routes.contains(key));
        self.caches.retain(|name| names.caching.contains(name));
        self.compressions
            .retain(|name| names.compressing.contains(name));
        self.servers.retain(|key| names.servers.contains(key));
        self.upstreams.retain(|name| names.upstreams.contains(name));
        self.listeners.retain(|name| names.listeners.contains(name));
    }
}

/// Shards by name.
#[derive(Debug)]
pub(super) struct Shards<K, S>(Mutex<HashMap<K, Arc<S>>>);

impl<K, S> Default for Shards<K, S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, S> Shards<K, S> {
    fn find_or_make(&self, key: K, make: impl FnOnce() -> S) -> Arc<S> {
        Arc::clone(self.lock().entry(key).or_insert_with(|| Arc::new(make())))
    }

    pub(super) fn find(&self, key: &K) -> Option<Arc<S>> {
        self.lock().get(key).cloned()
    }

    /// The shards as they are now, so that a scrape adds them up without holding the lock.
    pub(super) fn all(&self) -> Vec<(K, Arc<S>)> {
        self.lock()
            .iter()
            .map(|(key, shard)| (key.clone(), Arc::clone(shard)))
            .collect()
    }

    fn retain(&self, keep: impl Fn(&K) -> bool) {
        // A worker that makes a shard is not to wait until thousands of names are looked up.
        let mut keys: Vec<K> = self.lock().keys().cloned().collect();
        keys.retain(|key| !keep(key));
        if keys.is_empty() {
            return;
        }
        let mut shards = self.lock();
        for key in &keys {
            shards.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<S>>> {
        // Nothing under the lock leaves the map half changed, so a panic elsewhere does not make it unusable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_shard() {
        let worker = WorkerMetrics::default();
        let (listen, route, upstream) = ("web".into(), "site".into(), UpstreamName::from("app"));
        let first = worker.route(&listen, &route, Some(&upstream));
        let again = worker.route(&listen, &route, Some(&upstream));
        let alone = worker.route(&listen, &route, None);
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &alone));
        assert!(
            Arc::ptr_eq(&first.duration, &alone.duration),
            "one histogram for the route"
        );
    }

    #[test]
    fn no_shard_shares_a_cache_line() {
        assert_eq!(align_of::<RouteShard>(), 64);
        assert_eq!(align_of::<ServerShard>(), 64);
        assert_eq!(align_of::<CacheShard>(), 64);
        assert_eq!(align_of::<CompressShard>(), 64);
        assert_eq!(align_of::<UpstreamShard>(), 64);
        assert_eq!(align_of::<ListenShard>(), 64);
        assert_eq!(align_of::<WorkerMetrics>(), 64);
    }
}
