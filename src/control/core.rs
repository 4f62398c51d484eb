//! What runs, and how it is changed: check -> bind -> build -> publish -> tell the workers. A failure before the
//! publication changes nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::certificates::Refused;
use super::inherited::Inherited;
use super::kept::Kept;
use super::names::{Asked, Key, Names};
use super::outcome::{LastReload, Standing};
use super::sockets::{BindError, Sockets, Step};
use super::upgrade::FailedUpgrade;
use crate::config::{Concurrency, Config, LoadError, LogFormat};
use crate::listen::tls;
use crate::listen::worker::{Command, SocketId};
use crate::state::{Published, State, Surroundings};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::labels::ReloadResult;
use crate::telemetry::logging::LogHandle;
use crate::telemetry::metrics::Metrics;
use crate::units::{ListenName, ServerName, UpstreamName};
use crate::upstream::health::Probers;
use crate::upstream::resolve::dns::Dns;
use crate::upstream::resolve::{Answer, Found, Unresolved};
use crate::upstream::server::HealthState;

/// How long `/readyz` waits for the first results of health checks and the first answers of DNS.
const FIRST_RESULTS: Duration = Duration::from_secs(10);
/// How often it is looked whether a state that was replaced can be let go of.
const LET_GO: Duration = Duration::from_secs(1);

/// Why a config was not taken. The one before runs on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot open the access log")]
    AccessLog(#[source] std::io::Error),
    #[error("weir is stopping and takes no config any more")]
    Stopping,
    #[error("process {process} has taken over; configs are for that one to take")]
    HandedOver { process: u32 },
}

/// What of a config is taken only by a restart, as its keys; everything else runs.
pub(crate) type NeedsRestart = Vec<&'static str>;

/// The control plane's view of the process.
pub(crate) struct Control {
    pub(crate) published: Arc<Published>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access: AccessLog,
    workers: Vec<UnboundedSender<Command>>,
    max_files: u64,
    log: Option<(LogHandle, LogFormat)>,
    started: Instant,
    /// Locked by whoever changes what runs: two never do at once.
    sockets: Mutex<Sockets>,
    inherited: Arc<Inherited>,
    probers: Mutex<Probers>,
    pub(crate) names: Names,
    pub(super) last: Mutex<LastReload>,
    kept: Mutex<Kept>,
    pub(super) standing: Mutex<Standing>,
    refused: Mutex<Refused>,
    pub(super) failed_upgrade: Mutex<Option<FailedUpgrade>>,
    phase: AtomicU8,
    /// Whether somebody waits for states that were replaced.
    letting_go: AtomicBool,
}

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting = 0,
    Running = 1,
    Stopping = 2,
}

/// What a control plane is made of.
pub(crate) struct Parts {
    pub(crate) published: Arc<Published>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access: AccessLog,
    pub(crate) workers: Vec<UnboundedSender<Command>>,
    pub(crate) max_files: u64,
    /// The log of this process and the format that it was started with.
    pub(crate) log: Option<(LogHandle, LogFormat)>,
    pub(crate) inherited: Arc<Inherited>,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            published: parts.published,
            metrics: parts.metrics,
            access: parts.access,
            workers: parts.workers,
            max_files: parts.max_files,
            log: parts.log,
            started: Instant::now(),
            sockets: Mutex::default(),
            inherited: parts.inherited,
            probers: Mutex::default(),
            names: Names::default(),
            last: Mutex::new(LastReload {
                result: ReloadResult::Ok,
                at: SystemTime::now(),
                message: String::new(),
                changes: Vec::new(),
            }),
            kept: Mutex::default(),
            standing: Mutex::default(),
            refused: Mutex::default(),
            failed_upgrade: Mutex::default(),
            phase: AtomicU8::new(Phase::Starting as u8),
            letting_go: AtomicBool::new(false),
        }
    }

    /// Takes up a config: everything or nothing. Blocking for as long as it takes to build the state; returns once every
    /// worker serves by it.
    pub(crate) async fn take(
        self: &Arc<Self>,
        config: Config,
    ) -> Result<NeedsRestart, ReloadError> {
        let needs_restart = self.needs_restart(&config);
        let asked = self.names.ask(&config).await;
        let done = self.take_up(config, asked)?;
        for worker in done {
            // A worker that is gone has nothing to take up.
            let _ = worker.await;
        }
        self.let_go();
        Ok(needs_restart)
    }

    /// Lets go of the states before, as soon as no request lives with them any more.
    fn let_go(self: &Arc<Self>) {
        if self.letting_go.swap(true, Ordering::AcqRel) {
            return;
        }
        let control = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(control) = control.upgrade() {
                // Before looking: whoever replaces one after that begins anew.
                control.letting_go.store(false, Ordering::Release);
                let left = control.published.let_go();
                control.metrics.states_held(left);
                if left == 1 || control.letting_go.swap(true, Ordering::AcqRel) {
                    return;
                }
                drop(control);
                tokio::time::sleep(LET_GO).await;
            }
        });
    }

    fn take_up(
        self: &Arc<Self>,
        config: Config,
        asked: Asked,
    ) -> Result<Vec<oneshot::Receiver<()>>, ReloadError> {
        let mut sockets = lock(&self.sockets);
        if self.phase() == Phase::Stopping {
            return Err(ReloadError::Stopping);
        }
        let change = sockets.prepare(&config, self.workers.len(), &self.inherited)?;
        self.access
            .reconfigure(&config.log)
            .map_err(ReloadError::AccessLog)?;
        self.names.take(&config, asked, &self.metrics);
        let previous = self.published.state();
        let found = |upstream: &_, name: &_| self.names.found(upstream, name);
        let state = Arc::new(State::build(
            Arc::new(config),
            &self.surroundings(Some(&previous), &found),
        ));
        self.publish(&state);
        self.names.keep_asking(self);
        self.metrics
            .config_running(&state.config.hash, state.loaded_at);
        if let Some((log, _)) = &self.log {
            log.set_level(state.config.log.level);
        }
        self.tell_sockets(sockets.commit(change), &state);
        self.retire_listeners(&previous, &state);
        Ok(self.tell_to_take_up())
    }

    /// Takes what `dns` said of a name. Where that changes servers, the config runs on with others: no reload, and nothing
    /// but its upstreams is made anew. Returns when to ask again; `None`: never.
    pub(crate) fn answered(
        self: &Arc<Self>,
        dns: &Arc<Dns>,
        key: &Key,
        outcome: Result<Answer, Unresolved>,
    ) -> Option<Duration> {
        let _no_reload = lock(&self.sockets);
        if self.phase() == Phase::Stopping {
            return None;
        }
        let (changed, wait) = self.names.answered(dns, key, outcome, &self.metrics)?;
        if changed {
            let previous = self.published.state();
            let found = |upstream: &_, name: &_| self.names.found(upstream, name);
            let state = previous.with_servers(&self.surroundings(Some(&previous), &found));
            self.publish(&Arc::new(state));
            // Nobody waits for it.
            drop(self.tell_to_take_up());
            self.let_go();
        }
        Some(wait)
    }

    /// Runs by `config` from now on, which differs from the one that runs in nothing but the certificates of listeners: no
    /// reload, and nothing else is made anew.
    pub(super) fn serve_with(self: &Arc<Self>, config: Config) {
        let _no_reload = lock(&self.sockets);
        if self.phase() == Phase::Stopping {
            return;
        }
        let previous = self.published.state();
        let found = |upstream: &_, name: &_| self.names.found(upstream, name);
        let around = self.surroundings(Some(&previous), &found);
        let state = previous.with_certificates(Arc::new(config), &around);
        self.publish(&Arc::new(state));
        // Nobody waits for it.
        drop(self.tell_to_take_up());
        self.let_go();
    }

    /// From here on `state` is what runs.
    fn publish(&self, state: &Arc<State>) {
        self.metrics.declare(state.names());
        let previous = self.published.state();
        state.remove_from(&previous);
        let held = self.published.publish(Arc::clone(state));
        self.metrics.states_held(held);
        forgive(&previous, state);
        self.probe(state);
    }

    fn needs_restart(&self, config: &Config) -> NeedsRestart {
        let mut keys = Vec::new();
        if worker_count(config) != self.workers.len() {
            keys.push("process.workers");
        }
        if self
            .log
            .as_ref()
            .is_some_and(|(_, format)| *format != config.log.format)
        {
            keys.push("log.format");
        }
        keys
    }

    /// Probes the servers of `state` and no others.
    fn probe(&self, state: &State) {
        for member in state
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.servers)
        {
            member.server.set_removed(false);
            member.server.set_limit(member.limit);
            member.server.set_backup(member.backup);
        }
        for (upstream, server) in state.servers() {
            server
                .learned
                .switch(upstream.concurrency == Concurrency::Adaptive);
            server.probing(upstream.health_check.is_some(), state.loaded_at);
            if upstream.ejections.is_none() {
                server.pardon();
            }
        }
        lock(&self.probers).probe(state.probed());
    }

    /// What a state is built in.
    fn surroundings<'p>(
        &self,
        previous: Option<&'p State>,
        found: &'p dyn Fn(&UpstreamName, &ServerName) -> Vec<Found>,
    ) -> Surroundings<'p> {
        Surroundings {
            previous,
            found,
            workers: self.workers.len(),
            max_files: self.max_files,
            tls: &tls::settings,
            now: SystemTime::now(),
            clock: self.published.clock,
            warm: self.phase() != Phase::Starting,
        }
    }

    /// The process before accepts no more: each worker gets a socket of its own, also where it had fewer.
    pub(crate) fn take_over(&self) {
        let mut sockets = lock(&self.sockets);
        let state = self.published.state();
        for own in sockets.own(self.workers.len()) {
            let worker = self.workers.get(own.worker);
            if let (Some(worker), Some(listener)) = (worker, number(&state, &own.listen)) {
                let (id, socket) = (own.id, own.socket);
                send(
                    worker,
                    Command::Replace {
                        id,
                        socket,
                        listener,
                    },
                );
            }
        }
    }

    fn tell_sockets(&self, steps: Vec<Step>, state: &State) {
        for step in steps {
            match step {
                Step::Listen {
                    id,
                    listen,
                    local,
                    sockets,
                } => {
                    let Some(listener) = number(state, &listen) else {
                        continue;
                    };
                    tracing::info!(%listen, address = %local, "listening");
                    for (worker, socket) in self.workers.iter().cycle().zip(sockets) {
                        send(
                            worker,
                            Command::Listen {
                                id,
                                socket,
                                listener,
                            },
                        );
                    }
                }
                Step::Assign { id, listen } => {
                    let Some(listener) = number(state, &listen) else {
                        continue;
                    };
                    for worker in &self.workers {
                        send(worker, Command::Assign { id, listener });
                    }
                }
                Step::Close { id, local, is_kept } => {
                    tracing::info!(address = %local, "no longer listening");
                    for worker in &self.workers {
                        send(worker, Command::Close { id, is_kept });
                    }
                }
            }
        }
    }

    fn retire_listeners(&self, previous: &State, state: &State) {
        let gone = previous
            .listeners
            .iter()
            .flatten()
            .filter(|listener| state.listener(listener.number).is_none());
        for listener in gone {
            for worker in &self.workers {
                send(
                    worker,
                    Command::Retire {
                        listener: listener.number,
                        drain: state.config.process.drain,
                    },
                );
            }
        }
    }

    fn tell_to_take_up(&self) -> Vec<oneshot::Receiver<()>> {
        let tell = |worker| {
            let (done, wait) = oneshot::channel();
            send(worker, Command::TakeUp(done));
            wait
        };
        self.workers.iter().map(tell).collect()
    }

    /// Returns when no worker is any more at what it was doing, between two waits, when this was called.
    pub(super) async fn workers_moved_on(&self) {
        let moved_on = {
            // Not in the middle of a reload, whose sockets a worker closes for whoever asks first.
            let _no_reload = lock(&self.sockets);
            if self.phase() == Phase::Stopping {
                return;
            }
            self.tell_to_take_up()
        };
        for worker in moved_on {
            // A worker that is gone does nothing.
            let _ = worker.await;
        }
    }

    /// The certificates whose files were refused.
    pub(crate) fn refused(&self) -> MutexGuard<'_, Refused> {
        lock(&self.refused)
    }

    /// The configs that ran.
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    pub(crate) fn addresses(&self, listen: &str) -> Vec<SocketAddr> {
        lock(&self.sockets).addresses(listen)
    }

    /// What the sockets are for, those of systemd left out.
    pub(super) fn purposes(&self) -> HashMap<SocketId, String> {
        lock(&self.sockets).purposes()
    }

    /// Where anything listens.
    pub(crate) fn all_addresses(&self) -> Vec<SocketAddr> {
        lock(&self.sockets).all()
    }

    /// Waits for a reload that is being made: none is half done when weir begins to stop, and none begins after.
    pub(crate) fn enter(&self, phase: Phase) {
        let _no_reload = lock(&self.sockets);
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        }
    }

    /// Whether traffic should come here.
    pub(crate) fn is_ready(&self) -> bool {
        let results_in = || {
            let state = self.published.state();
            let mut probed = state
                .servers()
                .filter(|(upstream, _)| upstream.health_check.is_some())
                .map(|(_, server)| server.health());
            probed
                .all(|health| health.last_passed.is_some() || health.state != HealthState::Starting)
                && self.names.all_tried()
        };
        self.phase() == Phase::Running && (self.started.elapsed() >= FIRST_RESULTS || results_in())
    }

    /// Tells all workers the same.
    pub(crate) fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            send(worker, command());
        }
    }
}

/// The workers that a config asks for.
pub(crate) fn worker_count(config: &Config) -> usize {
    // Counts the CPU affinity and the cgroup's quota.
    let available = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config
        .process
        .workers
        .map_or_else(available, std::num::NonZero::get)
}

/// Lets those in again that were ejected under other TLS settings: what they failed by may be just what was mended.
fn forgive(previous: &State, state: &State) {
    let members = |state: &State| -> HashMap<_, _> {
        let upstreams = state.upstreams.iter();
        let members = upstreams.flat_map(|upstream| &upstream.servers);
        let identified = members.map(|member| {
            let tls = member.tls.as_ref().map(Arc::as_ptr);
            (
                Arc::as_ptr(&member.server),
                (Arc::clone(&member.server), tls),
            )
        });
        identified.collect()
    };
    let before = members(previous);
    for (identity, (server, tls)) in members(state) {
        if before.get(&identity).is_some_and(|(_, was)| *was != tls) {
            server.pardon();
        }
    }
}

/// The number of the listener of that name.
fn number(state: &State, listen: &ListenName) -> Option<usize> {
    let mut listeners = state.listeners.iter().flatten();
    let listener = listeners.find(|listener| listener.name == *listen)?;
    Some(listener.number)
}

fn send(worker: &UnboundedSender<Command>, command: Command) {
    if worker.send(command).is_err() {
        tracing::debug!("a worker has ended");
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left a consistent value: each is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
