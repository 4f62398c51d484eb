//! A route on a listener as one worker uses it.
//!
//! It is all that a request holds of the state that it began by, once its course is known. A WebSocket may last for days,
//! over any number of reloads: if it held on to the whole state, with thousands of routes, each reload would cost the
//! memory of one more.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::state::{Listener, NO_ROUTE, Route};
use crate::telemetry::worker::{CacheShard, CompressShard, RouteShard, WorkerMetrics};
use crate::units::{RouteName, UpstreamName};

/// Where a request came in, which route took it, and where that sends it.
pub(crate) struct LocalRoute {
    pub(crate) listener: Arc<Listener>,
    /// `None`: what no route takes.
    pub(crate) route: Option<Arc<Route>>,
    /// That of the route's upstreams which gets the request; `None` where the route answers by itself.
    pub(crate) upstream: Option<UpstreamName>,
    /// The place of the route in its state, and of the upstream among those of the route: of use with that state only.
    pub(crate) number: Option<usize>,
    pub(crate) choice: usize,
    /// Made at first use: a route is seldom one of thousands that are asked for before the next reload.
    shard: OnceCell<Arc<RouteShard>>,
    cache: OnceCell<Arc<CacheShard>>,
    compress: OnceCell<Arc<CompressShard>>,
}

impl LocalRoute {
    /// What no route takes.
    pub(super) fn none(listener: &Arc<Listener>) -> Self {
        Self {
            listener: Arc::clone(listener),
            route: None,
            upstream: None,
            number: None,
            choice: 0,
            shard: OnceCell::new(),
            cache: OnceCell::new(),
            compress: OnceCell::new(),
        }
    }

    /// A route by its number, to one of its upstreams if it has any.
    pub(super) fn new(
        listener: &Arc<Listener>,
        (number, route): (usize, &Arc<Route>),
        (choice, upstream): (usize, Option<UpstreamName>),
    ) -> Self {
        Self {
            route: Some(Arc::clone(route)),
            upstream,
            number: Some(number),
            choice,
            ..Self::none(listener)
        }
    }

    /// The counters of its requests.
    pub(super) fn shard(&self, metrics: &WorkerMetrics) -> &RouteShard {
        self.shard.get_or_init(|| {
            let route = self.route.as_ref();
            let name = route.map_or_else(|| RouteName::from(NO_ROUTE), |route| route.name.clone());
            metrics.route(&self.listener.name, &name, self.upstream.as_ref())
        })
    }

    /// The counters of what its cache does; `None` if it has none.
    pub(super) fn cache_shard(&self, metrics: &WorkerMetrics) -> Option<&CacheShard> {
        let route = self.route.as_ref()?;
        route.cache.as_ref()?;
        Some(self.cache.get_or_init(|| metrics.cache(&route.name)))
    }

    /// The counters of what it encodes; `None` if it encodes nothing.
    pub(super) fn compress_shard(&self, metrics: &WorkerMetrics) -> Option<&Arc<CompressShard>> {
        let route = self.route.as_ref()?;
        route.compress.as_ref()?;
        Some(self.compress.get_or_init(|| metrics.compress(&route.name)))
    }
}
