//! What one worker makes of a [`State`]: the same upstreams and listeners with this worker's own connections, balancers
//! and metric handles. Nothing in it is shared with another thread but what it points to.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::local_route::LocalRoute;
use crate::balance::{Balancer, Candidate, Latency, Occasion};
use crate::cache::Caching;
use crate::config::{self, Balance, Concurrency, OnAllDown, Retry};
use crate::deadline::Ticks;
use crate::state::{Action, State, Upstream};
use crate::telemetry::worker::{ListenShard, ServerShard, UpstreamShard, WorkerMetrics};
use crate::units::{Share, UpstreamName};
use crate::upstream::group::Serving;
use crate::upstream::pool::Pool;
use crate::upstream::server::Server;
use crate::upstream::tls::ServerTls;

/// A `State` as one worker uses it. A request holds on to it until its course is known.
pub(crate) struct Local {
    pub(crate) state: Arc<State>,
    pub(crate) upstreams: Vec<Rc<LocalUpstream>>,
    /// `None` if no route has a cache.
    pub(super) cache: Option<Rc<LocalCache>>,
    /// By number.
    listeners: Vec<Option<LocalListener>>,
}

/// What is stored, and every way in which routes make keys.
pub(super) struct LocalCache {
    pub(super) caching: Arc<Caching>,
    pub(super) key_rules: Vec<Arc<config::Cache>>,
}

struct LocalListener {
    shard: Arc<ListenShard>,
    no_route: Rc<LocalRoute>,
    /// By number of the route, then by the choice among its upstreams; filled at first use: a route is seldom one of
    /// thousands that are asked for before the next reload.
    routes: Vec<OnceCell<Box<[Rc<LocalRoute>]>>>,
}

/// An upstream with this worker's balancer. Survives a reload that leaves it as it is.
pub(crate) struct LocalUpstream {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) servers: Vec<Rc<LocalServer>>,
    pub(crate) shard: Arc<UpstreamShard>,
    balancer: RefCell<Balancer>,
    /// Requests on all servers, as of that tick.
    total: Cell<(u64, u32)>,
    /// Whether fewer servers accept traffic than should, as of that tick.
    too_few: Cell<(u64, bool)>,
    /// How many of the servers are no backups. They come first.
    primaries: usize,
    /// Requests since the last deposit into the retry budget.
    requests: Cell<u32>,
    turns: Cell<usize>,
}

/// A server with this worker's idle connections to it. Survives a reload as the server does.
pub(crate) struct LocalServer {
    pub(crate) server: Arc<Server>,
    pub(crate) pool: Pool,
    pub(crate) shard: Arc<ServerShard>,
    /// The upstream that it belongs to, by the state that was taken up last.
    upstream: RefCell<Arc<Upstream>>,
    slow_start: Cell<Option<Ticks>>,
    pub(crate) latency: Latency,
    weight: Cell<u32>,
    number: Cell<usize>,
    /// A config was taken up that does not have it.
    is_gone: Cell<bool>,
    /// How it is connected to; `None`: in cleartext.
    tls: RefCell<Option<Arc<ServerTls>>>,
}

impl Candidate for Rc<LocalServer> {
    /// A hundred times what the config says, so that a share can grow by the percent.
    fn weight(&self) -> u32 {
        self.weight.get() * self.server.share(self.slow_start.get())
    }

    fn in_flight(&self) -> u32 {
        self.server.in_flight()
    }

    fn id(&self) -> usize {
        self.number.get()
    }

    fn latency(&self) -> Option<&Latency> {
        Some(&self.latency)
    }
}

impl LocalServer {
    /// Its place among the servers of its upstream.
    pub(super) fn number(&self) -> usize {
        self.number.get()
    }

    pub(super) fn upstream(&self) -> Arc<Upstream> {
        Arc::clone(&self.upstream.borrow())
    }

    /// Whether a config was taken up that does not have it. That its name stands for other addresses now is no reason to
    /// end what runs there.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// How it is connected to now.
    pub(super) fn tls(&self) -> Option<Arc<ServerTls>> {
        self.tls.borrow().clone()
    }

    /// From now on it is connected to this way. What was opened another way is not used any more.
    fn set_tls(&self, tls: Option<&Arc<ServerTls>>) {
        let mut now = self.tls.borrow_mut();
        if now.as_ref().map(Arc::as_ptr) != tls.map(Arc::as_ptr) {
            *now = tls.cloned();
            self.pool.renew();
        }
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
        let mut known: HashMap<&UpstreamName, &Rc<LocalUpstream>> = HashMap::new();
        let is_other = |previous: &Self| !Arc::ptr_eq(&previous.state.config, &state.config);
        let is_reload = previous.is_some_and(is_other);
        for upstream in previous
            .into_iter()
            .flat_map(|previous| &previous.upstreams)
        {
            for server in &upstream.servers {
                server.is_gone.set(is_reload);
            }
            known.insert(&upstream.upstream.name, upstream);
        }
        let upstreams = state
            .upstreams
            .iter()
            .map(|upstream| {
                let before = known.get(&upstream.name).copied();
                match before.filter(|before| Arc::ptr_eq(&before.upstream, upstream)) {
                    Some(same) => same.stay(),
                    None => Rc::new(LocalUpstream::new(upstream, before, metrics, seed)),
                }
            })
            .collect();
        let listeners = state.listeners.iter().map(|listener| {
            listener.as_ref().map(|listener| LocalListener {
                shard: metrics.listener(&listener.name),
                no_route: Rc::new(LocalRoute::none(listener)),
                routes: std::iter::repeat_with(OnceCell::new)
                    .take(state.routes.len())
                    .collect(),
            })
        });
        let cache = state.caching.as_ref().map(|caching| {
            Rc::new(LocalCache {
                caching: Arc::clone(caching),
                key_rules: state.key_rules.clone(),
            })
        });
        Self {
            listeners: listeners.collect(),
            cache,
            upstreams,
            state,
        }
    }

    /// The counters of a listener; `None` if it is not part of this state.
    pub(crate) fn listen_shard(&self, listener: usize) -> Option<&Arc<ListenShard>> {
        Some(&self.listeners.get(listener)?.as_ref()?.shard)
    }

    /// What no route takes on a listener; `None` if that is not part of this state.
    pub(crate) fn no_route(&self, listener: usize) -> Option<&Rc<LocalRoute>> {
        Some(&self.listeners.get(listener)?.as_ref()?.no_route)
    }

    /// A route on a listener; `choice` is the place of the upstream among those of the route.
    pub(super) fn route(
        &self,
        listener: usize,
        number: usize,
        choice: usize,
    ) -> Option<&Rc<LocalRoute>> {
        let local = self.listeners.get(listener)?.as_ref()?;
        let of_route = || {
            let route = self.state.routes.get(number)?;
            let listener = &local.no_route.listener;
            let to = |choice, upstream| {
                Rc::new(LocalRoute::new(
                    listener,
                    (number, route),
                    (choice, upstream),
                ))
            };
            Some(match &route.action {
                Action::Forward(choices) => choices
                    .iter()
                    .enumerate()
                    .map(|(choice, (upstream, _))| {
                        let upstream = self.state.upstreams.get(*upstream);
                        to(choice, upstream.map(|upstream| upstream.name.clone()))
                    })
                    .collect(),
                Action::Redirect { .. } | Action::Respond { .. } => Box::from([to(0, None)]),
            })
        };
        let choices = local.routes.get(number)?;
        choices
            .get_or_init(|| of_route().unwrap_or_default())
            .get(choice)
    }
}

impl LocalUpstream {
    /// The state that is taken up has it as it is.
    fn stay(self: &Rc<Self>) -> Rc<Self> {
        for server in &self.servers {
            server.is_gone.set(false);
        }
        Rc::clone(self)
    }

    /// Made anew, with the servers that stay of `before`.
    fn new(
        upstream: &Arc<Upstream>,
        before: Option<&Rc<Self>>,
        metrics: &Arc<WorkerMetrics>,
        seed: u64,
    ) -> Self {
        let known: HashMap<*const Server, &Rc<LocalServer>> = before
            .into_iter()
            .flat_map(|before| &before.servers)
            .map(|local| (Arc::as_ptr(&local.server), local))
            .collect();
        let servers = upstream.servers.iter().enumerate().map(|(number, member)| {
            let (server, weight) = (&member.server, &member.weight);
            let local = known.get(&Arc::as_ptr(server)).copied().cloned();
            let local = local.unwrap_or_else(|| {
                Rc::new(LocalServer {
                    server: Arc::clone(server),
                    pool: Pool::new(upstream.pool),
                    shard: metrics.server(&upstream.name, &server.address),
                    upstream: RefCell::new(Arc::clone(upstream)),
                    slow_start: Cell::new(upstream.slow_start),
                    latency: Latency::default(),
                    weight: Cell::new(*weight),
                    number: Cell::new(number),
                    is_gone: Cell::new(false),
                    tls: RefCell::new(member.tls.clone()),
                })
            });
            local.is_gone.set(false);
            local.pool.set_limits(upstream.pool);
            local.upstream.replace(Arc::clone(upstream));
            local.slow_start.set(upstream.slow_start);
            local.weight.set(*weight);
            local.number.set(number);
            local.set_tls(member.tls.as_ref());
            local
        });
        let balancer = match &upstream.balance {
            Balance::RoundRobin => Balancer::round_robin(seed),
            Balance::LeastConnections => Balancer::least_connections(seed),
            Balance::PeakEwma => Balancer::peak_ewma(seed),
            Balance::Random => Balancer::random(seed),
            Balance::Hash(_) => Balancer::hash(upstream.table.clone().unwrap_or_default()),
        };
        Self {
            servers: servers.collect(),
            shard: metrics.upstream(&upstream.name),
            balancer: RefCell::new(balancer),
            primaries: upstream
                .servers
                .iter()
                .filter(|member| !member.backup)
                .count(),
            total: Cell::new((u64::MAX, 0)),
            too_few: Cell::new((u64::MAX, false)),
            requests: Cell::new(0),
            turns: Cell::new(0),
            upstream: Arc::clone(upstream),
        }
    }

    /// A request came: the retry budget grows.
    pub(super) fn count_request(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// Hands what was counted to the budget that all workers share. Called about once a second.
    pub(crate) fn deposit(&self, now: u64) {
        self.upstream
            .group
            .budget
            .deposit(self.requests.take(), now);
    }

    /// A request came that is bound to its server, and so can be no trial of another.
    pub(super) fn pardon_untried(&self, now: u64) {
        let servers = self.upstream.servers.iter().map(|member| &member.server);
        self.upstream.group.pardon_untried(servers, now);
    }

    /// Whether it is known that no server would answer now.
    pub(super) fn is_down(&self) -> bool {
        let (primaries, backups) = self.primaries_and_backups();
        !accepts(primaries) && !accepts(backups)
    }

    /// Whether the retry budget allows one more attempt; takes it out if so.
    pub(super) fn withdraw(&self, now: u64) -> bool {
        self.deposit(now);
        let retries = self.upstream.retries.as_ref();
        let share = retries.map_or(Retry::default().budget, |retries| retries.budget);
        self.upstream.group.budget.withdraw(share, now)
    }

    /// The servers that take traffic first, and those that do when none of these does.
    pub(super) fn primaries_and_backups(&self) -> (&[Rc<LocalServer>], &[Rc<LocalServer>]) {
        self.servers
            .split_at_checked(self.primaries)
            .unwrap_or((&self.servers, &[]))
    }

    /// The primary for another attempt of a request.
    pub(super) fn pick_instead(
        &self,
        occasion: Occasion,
        ready: impl Fn(&Rc<LocalServer>) -> bool,
    ) -> Option<&Rc<LocalServer>> {
        let (primaries, _) = self.primaries_and_backups();
        let ready = |number| primaries.get(number).is_some_and(&ready);
        let mut balancer = self.balancer.borrow_mut();
        let number = balancer.pick_instead(primaries, ready, occasion)?;
        primaries.get(number)
    }

    /// The next primary for which `ready` holds.
    pub(super) fn pick(
        &self,
        occasion: Occasion,
        ready: impl Fn(&Rc<LocalServer>) -> bool,
    ) -> Option<&Rc<LocalServer>> {
        let (primaries, _) = self.primaries_and_backups();
        let ready = |number| primaries.get(number).is_some_and(&ready);
        let mut balancer = self.balancer.borrow_mut();
        let number = balancer.pick(primaries, ready, occasion)?;
        primaries.get(number)
    }

    /// Whether a smaller share than `below` of the primaries that are in service accepts traffic. Looked at once per tick.
    pub(super) fn is_too_few(&self, now: u64, below: Share) -> bool {
        let (seen, known) = self.too_few.get();
        if seen == now {
            return known;
        }
        let (primaries, _) = self.primaries_and_backups();
        let in_service = || {
            primaries
                .iter()
                .filter(|server| !server.server.is_drained())
        };
        let accepting = in_service().filter(|server| server.server.accepts_traffic());
        let accepting = accepting.count() as u64;
        let too_few = below.is_more_than(accepting, in_service().count() as u64);
        self.too_few.set((now, too_few));
        too_few
    }

    /// Lets those in that wait, where a server has room of which nobody told.
    pub(crate) fn serve_queue(&self, now: u64) {
        let group = &self.upstream.group;
        if group.queue.length() == 0 {
            return;
        }
        group.set_serving(self.serving(now));
        group.queue.serve_all(self.shared());
    }

    /// Which servers are used now.
    pub(super) fn serving(&self, now: u64) -> Serving {
        let (primaries, backups) = self.primaries_and_backups();
        if accepts(primaries) {
            let panics = self.upstream.panic_below;
            match panics.is_some_and(|below| self.is_too_few(now, below)) {
                true => Serving::InPanic,
                false => Serving::Primaries,
            }
        } else if accepts(backups) {
            Serving::Backups
        } else if self.upstream.on_all_down == OnAllDown::TryAnyway {
            Serving::Despite
        } else {
            Serving::Primaries
        }
    }

    /// Learns limits where that is asked for; lets those in that wait, and sends those away that wait for nothing. Called
    /// once per tick.
    pub(crate) fn keep_queue(&self, now: u64) {
        if self.upstream.concurrency == Concurrency::Adaptive {
            self.upstream.group.learn(self.shared());
        }
        self.serve_queue(now);
        if self.upstream.group.queue.length() > 0 {
            self.upstream.group.queue.dismiss(self.shared());
        }
    }

    fn shared(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.upstream.servers.iter().map(|member| &member.server)
    }

    /// Requests on all servers: to the moment where there are few, as of the tick where that would take long.
    pub(super) fn in_flight(&self, now: u64) -> u32 {
        let (seen, known) = self.total.get();
        if seen == now && self.servers.len() > FEW {
            return known;
        }
        let total = self.servers.iter().fold(0_u32, |sum, server| {
            sum.saturating_add(server.server.in_flight())
        });
        self.total.set((now, total));
        total
    }

    /// Where the server stands in this state; another may have it elsewhere.
    pub(super) fn place_of(&self, server: &Rc<LocalServer>) -> Option<usize> {
        self.servers
            .iter()
            .position(|known| Rc::ptr_eq(known, server))
    }

    /// Grows with each call; for turns that no balancer keeps.
    pub(super) fn turn(&self) -> usize {
        let turn = self.turns.get();
        self.turns.set(turn.wrapping_add(1));
        turn
    }
}

/// Whether one of them accepts traffic.
pub(super) fn accepts(servers: &[Rc<LocalServer>]) -> bool {
    servers.iter().any(|server| server.server.accepts_traffic())
}

/// So many servers are asked for their load one by one.
const FEW: usize = 64;
