//! What one worker makes of a [`State`]: the same upstreams and listeners with this worker's own connections, balancers
//! and metric handles. Nothing in it is shared with another thread but what it points to.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::balance::{Balancer, Candidate};
use crate::config::Balance;
use crate::state::{Action, NO_ROUTE, State, Upstream};
use crate::telemetry::worker::{
    ListenShard, RouteShard, ServerShard, UpstreamShard, WorkerMetrics,
};
use crate::units::{RouteName, ServerAddr, UpstreamName};
use crate::upstream::pool::Pool;
use crate::upstream::server::Server;

/// A `State` as one worker uses it. A request holds on to one from its beginning to its end.
pub(crate) struct Local {
    pub(crate) state: Arc<State>,
    pub(crate) upstreams: Vec<LocalUpstream>,
    listeners: Vec<Option<LocalListener>>,
    metrics: Arc<WorkerMetrics>,
}

struct LocalListener {
    shard: Arc<ListenShard>,
    no_route: OnceCell<Arc<RouteShard>>,
    /// By number of the route, then by the choice among its upstreams; filled at first use.
    routes: Vec<OnceCell<Box<[Arc<RouteShard>]>>>,
}

/// An upstream with this worker's balancer.
pub(crate) struct LocalUpstream {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) servers: Vec<Rc<LocalServer>>,
    pub(crate) shard: Arc<UpstreamShard>,
    balancer: RefCell<Balancer>,
}

/// A server with this worker's idle connections to it. Survives a reload as the server does.
pub(crate) struct LocalServer {
    pub(crate) server: Arc<Server>,
    pub(crate) pool: Pool,
    pub(crate) shard: Arc<ServerShard>,
    weight: Cell<u32>,
    number: Cell<usize>,
}

impl Candidate for Rc<LocalServer> {
    fn weight(&self) -> u32 {
        self.weight.get()
    }

    fn in_flight(&self) -> u32 {
        self.server.in_flight()
    }

    fn id(&self) -> usize {
        self.number.get()
    }
}

impl Local {
    /// Takes up `state`, keeping the idle connections of what stays from `previous`.
    pub(crate) fn new(
        state: Arc<State>,
        previous: Option<&Self>,
        metrics: &Arc<WorkerMetrics>,
        seed: u64,
    ) -> Self {
        let mut known: HashMap<(UpstreamName, ServerAddr), Rc<LocalServer>> = HashMap::new();
        for upstream in previous
            .into_iter()
            .flat_map(|previous| &previous.upstreams)
        {
            for server in &upstream.servers {
                let address = server.server.address.clone();
                known.insert((upstream.upstream.name.clone(), address), Rc::clone(server));
            }
        }
        let upstreams = state
            .upstreams
            .iter()
            .map(|upstream| LocalUpstream::new(upstream, &known, metrics, seed))
            .collect();
        let listeners = state.listeners.iter().map(|listener| {
            listener.as_ref().map(|listener| LocalListener {
                shard: metrics.listener(&listener.name),
                no_route: OnceCell::new(),
                routes: state.routes.iter().map(|_| OnceCell::new()).collect(),
            })
        });
        Self {
            listeners: listeners.collect(),
            upstreams,
            state,
            metrics: Arc::clone(metrics),
        }
    }

    /// The counters of a listener; `None` if it is not part of this state.
    pub(crate) fn listen_shard(&self, listener: usize) -> Option<&Arc<ListenShard>> {
        Some(&self.listeners.get(listener)?.as_ref()?.shard)
    }

    /// The counters of requests of a route on a listener; `choice` is the place of the upstream among those of the route.
    pub(crate) fn route_shard(
        &self,
        listener: usize,
        route: Option<usize>,
        choice: usize,
    ) -> Option<&Arc<RouteShard>> {
        let local = self.listeners.get(listener)?.as_ref()?;
        let name = &self.state.listener(listener)?.name;
        let Some(number) = route else {
            return Some(
                local
                    .no_route
                    .get_or_init(|| self.metrics.route(name, &RouteName::from(NO_ROUTE), None)),
            );
        };
        let compiled = self.state.routes.get(number)?;
        let shards = local
            .routes
            .get(number)?
            .get_or_init(|| match &compiled.action {
                Action::Forward(choices) => choices
                    .iter()
                    .map(|(upstream, _)| {
                        let upstream = self
                            .state
                            .upstreams
                            .get(*upstream)
                            .map(|upstream| &upstream.name);
                        self.metrics.route(name, &compiled.name, upstream)
                    })
                    .collect(),
                Action::Redirect { .. } | Action::Respond { .. } => {
                    Box::new([self.metrics.route(name, &compiled.name, None)])
                }
            });
        shards.get(choice)
    }
}

impl LocalUpstream {
    fn new(
        upstream: &Arc<Upstream>,
        known: &HashMap<(UpstreamName, ServerAddr), Rc<LocalServer>>,
        metrics: &Arc<WorkerMetrics>,
        seed: u64,
    ) -> Self {
        let servers = upstream.servers.iter().enumerate().map(|(number, member)| {
            let (server, weight) = (&member.server, &member.weight);
            let identity = (upstream.name.clone(), server.address.clone());
            let local = known.get(&identity).cloned();
            let local = local.unwrap_or_else(|| {
                Rc::new(LocalServer {
                    server: Arc::clone(server),
                    pool: Pool::new(upstream.pool),
                    shard: metrics.server(&upstream.name, &server.address),
                    weight: Cell::new(*weight),
                    number: Cell::new(number),
                })
            });
            local.pool.set_limits(upstream.pool);
            local.weight.set(*weight);
            local.number.set(number);
            local
        });
        let balancer = match upstream.balance {
            Balance::RoundRobin => Balancer::round_robin(seed),
            Balance::LeastConnections => Balancer::least_connections(seed),
        };
        Self {
            servers: servers.collect(),
            shard: metrics.upstream(&upstream.name),
            balancer: RefCell::new(balancer),
            upstream: Arc::clone(upstream),
        }
    }

    /// The next server for which `ready` holds.
    pub(crate) fn pick(
        &self,
        ready: impl Fn(&Rc<LocalServer>) -> bool,
    ) -> Option<&Rc<LocalServer>> {
        let number = self.balancer.borrow_mut().pick(&self.servers, |number| {
            self.servers.get(number).is_some_and(&ready)
        })?;
        self.servers.get(number)
    }
}
