//! The public face: start weir in this process, reload it, stop it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch as gate;

use crate::config::{Config, Report};
use crate::control::admin::Admin;
use crate::control::core::{Control, Parts, Phase, worker_count};
use crate::control::drain::ServerId;
use crate::control::inherited::Inherited;
use crate::control::manager::{self, Manager};
use crate::control::reload::Source;
use crate::control::upgrade::{HandedOver, Started, Upgrade};
use crate::control::watch;
use crate::deadline::Clock;
use crate::listen::tls;
use crate::listen::worker::{self, Command, Loads, Seat};
use crate::state::{Published, State, Surroundings};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::cache::Figures;
use crate::telemetry::certificates::CertificateNow;
use crate::telemetry::logging::LogHandle;
use crate::telemetry::metrics::{Metrics, ServerNow};

pub use crate::control::core::ReloadError;

/// What counts as the limit of open files where there is none: the usual maximum of the kernel.
const UNLIMITED_FILES: u64 = 1 << 20;
/// How long the last lines of the access log may take.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How often it is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why weir could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ReloadError),
    #[error("cannot open the access log")]
    AccessLog(#[source] std::io::Error),
    #[error("cannot start a worker thread")]
    Worker(#[source] std::io::Error),
}

/// What a process has besides a config.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) log: Option<LogHandle>,
    pub(crate) inherited: Inherited,
    /// It succeeds another process, which serves so far: nothing is accepted until [`Running::take_over`].
    pub(crate) succeeds: bool,
    pub(crate) manager: Option<Manager>,
}

/// A weir to be started.
pub struct Daemon;

impl Daemon {
    /// Starts the workers and takes up `config`. The calling runtime becomes the control plane; it must be a multi-thread
    /// runtime, or be driven for as long as weir runs.
    ///
    /// # Errors
    /// An address that cannot be bound, an access log that cannot be opened, threads that cannot be started.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        Self::start_given(config, Given::default()).await
    }

    pub(crate) async fn start_given(config: Config, given: Given) -> Result<Running, StartError> {
        let max_files = raise_file_limit();
        let workers = worker_count(&config);
        let metrics = Arc::new(Metrics::new(workers));
        let access = AccessLog::start(&config.log).map_err(StartError::AccessLog)?;
        metrics.set_access_log_dropped(access.dropped_lines());
        let clock = Clock::start();
        let around = Surroundings {
            previous: None,
            found: &|_, _| Vec::new(),
            workers,
            max_files,
            tls: &tls::settings,
            now: std::time::SystemTime::now(),
            clock,
            warm: false,
        };
        // The workers start with a state that has the config's names; its listeners are bound by the first `take`.
        let state = Arc::new(State::build(Arc::new(config.clone()), &around));
        let published = Arc::new(Published::new(state, clock));
        let servers = Arc::clone(&published);
        metrics.set_servers(Arc::new(move || {
            let now = |(_, server): (_, &Arc<crate::upstream::server::Server>)| ServerNow {
                upstream: server.upstream.clone(),
                server: server.address.clone(),
                up: server.accepts_traffic(),
                in_flight: server.in_flight(),
                limit: server
                    .limit()
                    .into_iter()
                    .chain(server.learned.limit())
                    .min(),
                queued: server.group.queue.length(),
            };
            servers.state().servers().map(now).collect()
        }));
        let stored = Arc::clone(&published);
        metrics.set_cache(Arc::new(move || {
            let state = stored.state();
            let caching = state.caching.as_ref();
            caching.map_or_else(Figures::default, |caching| caching.figures())
        }));
        let served = Arc::clone(&published);
        metrics.set_certificates(Arc::new(move || certificates(&served.state().config)));
        let (gate, closed) = gate::channel(!given.succeeds);
        let (senders, threads) = start_workers(workers, &published, &metrics, &access, &closed)?;
        let log = given.log.map(|log| (log, config.log.format));
        let inherited = Arc::new(given.inherited);
        let control = Arc::new(Control::new(Parts {
            published,
            metrics,
            access,
            workers: senders,
            max_files,
            log,
            inherited: Arc::clone(&inherited),
        }));
        let source = Arc::new(Source::new(
            Arc::clone(&control),
            Admin::new(Arc::clone(&control), Arc::clone(&inherited), closed),
            !given.succeeds,
        ));
        let upkeep = tokio::spawn(upkeep(Arc::clone(&control))).abort_handle();
        let mut running = Running {
            control,
            source,
            threads,
            watching: None,
            upkeep,
            inherited,
            left: Vec::new(),
            gate,
            manager: given.manager.map(Arc::new),
            tending: None,
            upgrade: None,
        };
        running.source.begin(config).await?;
        running.settle();
        Ok(running)
    }
}

fn certificates(config: &Config) -> Vec<CertificateNow> {
    let all = config.certificates();
    let now = all.filter_map(|(place, _, certificate)| {
        Some(CertificateNow {
            listen: config.listeners.get(place)?.name.clone(),
            cert: certificate.cert.display().to_string(),
            expires: certificate.expires(),
        })
    });
    now.collect()
}

/// Lets go of what the cache has no more use for, whether or not anybody asks.
async fn upkeep(control: Arc<Control>) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        let state = control.published.state();
        if let Some(caching) = &state.caching {
            caching.store.maintain().await;
        }
    }
}

const UPKEEP_EVERY: Duration = Duration::from_secs(1);

type Workers = (
    Vec<tokio::sync::mpsc::UnboundedSender<Command>>,
    Vec<JoinHandle<()>>,
);

fn start_workers(
    count: usize,
    published: &Arc<Published>,
    metrics: &Arc<Metrics>,
    access: &AccessLog,
    gate: &gate::Receiver<bool>,
) -> Result<Workers, StartError> {
    let loads = Loads::new(count);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded_channel()).unzip();
    let mut threads = Vec::new();
    for (number, commands) in receivers.into_iter().enumerate() {
        let seat = Seat {
            number,
            published: Arc::clone(published),
            metrics: metrics.worker(number),
            access: access.sink(),
            loads: Arc::clone(&loads),
            workers: senders.clone(),
            commands,
            gate: gate.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("weir-worker-{number}"))
            .spawn(move || {
                if let Err(error) = worker::run(seat) {
                    tracing::error!(%error, number, "a worker could not start its runtime");
                }
            });
        threads.push(thread.map_err(StartError::Worker)?);
    }
    Ok((senders, threads))
}

/// A weir that runs. Dropping it ends it at once.
pub struct Running {
    control: Arc<Control>,
    source: Arc<Source>,
    threads: Vec<JoinHandle<()>>,
    watching: Option<tokio::task::AbortHandle>,
    upkeep: tokio::task::AbortHandle,
    inherited: Arc<Inherited>,
    /// The sockets of the process before that this one has no use for.
    left: Vec<String>,
    /// Once true, connections are accepted.
    gate: gate::Sender<bool>,
    manager: Option<Arc<Manager>>,
    tending: Option<tokio::task::AbortHandle>,
    upgrade: Option<Arc<Upgrade>>,
}

impl Running {
    /// The config is taken.
    fn settle(&mut self) {
        self.left = self.inherited.settle();
        self.inherited.warn_of_unused(&self.control.all_addresses());
        self.control.enter(Phase::Running);
    }

    /// Returns once the first results of health checks are in, as a process waits that another one serves before: that knows
    /// which servers are down, and this one would try them.
    pub(crate) async fn until_ready(&self) {
        while !self.control.is_ready() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The process before serves no more: this one does from now on.
    pub(crate) fn take_over(&self) {
        // Before the gate opens: what comes into a socket waits for its worker.
        self.control.take_over();
        self.gate.send_replace(true);
        self.inherited.take_over();
        let source = Arc::clone(&self.source);
        // A slow disk holds up nobody.
        drop(tokio::spawn(async move { source.take_over().await }));
    }

    /// What was drained in the process before is drained here, too. To be called before this one takes over.
    pub(crate) async fn drain_again(&self, drained: Vec<ServerId>) {
        self.control.drain_again(drained).await;
    }

    /// What the process before has to serve itself: nobody here listens for it.
    pub(crate) fn left(&mut self) -> Vec<String> {
        std::mem::take(&mut self.left)
    }

    /// From now on the service manager, if there is one, is told how things are.
    pub(crate) fn speak_for_the_service(&mut self) {
        if let Some(manager) = &self.manager {
            let tending = manager::tend(Arc::clone(manager), Arc::clone(&self.control));
            self.tending = Some(tokio::spawn(tending).abort_handle());
        }
    }

    /// Another process started likewise can take over from now on.
    pub(crate) fn can_be_replaced(&mut self, started: Started) {
        let upgrade = Arc::new(Upgrade::new(
            Arc::clone(&self.source),
            started,
            Arc::clone(&self.inherited),
            self.manager.clone(),
        ));
        self.source.admin.upgrades(&upgrade);
        self.upgrade = Some(upgrade);
    }

    /// Lets another process take over, without waiting for it.
    pub(crate) fn upgrade_soon(&self) {
        match &self.upgrade {
            // The result is in the log and in `/api/status`.
            Some(upgrade) => {
                let upgrade = Arc::clone(upgrade);
                drop(tokio::spawn(async move { upgrade.run().await }));
            }
            None => tracing::warn!("this process cannot be replaced by another one"),
        }
    }

    /// Returns once another process has taken over. This one has to [stop](Self::stop_beside) then.
    pub(crate) async fn handed_over(&self) -> HandedOver {
        match &self.upgrade {
            Some(upgrade) => upgrade.handed_over().await,
            None => std::future::pending().await,
        }
    }

    /// Follows the file that the config came from: a change of it is taken live.
    pub fn follow_file(&mut self) {
        let config = Arc::clone(&self.control.published.state().config);
        self.source.follow(&config.file);
        self.source.admin.reloads(&self.source);
        let task = tokio::spawn(watch::watch(Arc::clone(&self.source)));
        self.watching = Some(task.abort_handle());
    }

    /// Notes that the file is bad, as `report` says, and that the last good config runs in its place.
    pub(crate) async fn runs_last_good(&self, report: &Report) {
        self.source.fell_back(report).await;
    }

    /// Takes the file again, whether it has changed or not; without a file, nothing happens.
    ///
    /// # Errors
    /// The file cannot be read, is not valid, or asks for what the system refuses; the config before runs on.
    pub async fn reload_file(&self) -> Result<(), ReloadError> {
        self.source
            .take_file(false)
            .await
            .map_or(Ok(()), |attempt| attempt.result.map(drop))
    }

    /// As [`Running::reload_file`], without waiting: the result is in the log and in `/api/status`.
    pub(crate) fn reload_file_soon(&self) {
        let source = Arc::clone(&self.source);
        let manager = self.manager.clone();
        drop(tokio::spawn(async move {
            if let Some(manager) = &manager {
                manager.reloading();
            }
            source.take_file_as_told().await;
            if let Some(manager) = manager {
                manager.ready();
            }
        }));
    }

    /// Takes another config in place of the running one.
    ///
    /// # Errors
    /// It asks for what the system refuses; the config before runs on.
    pub async fn reload(&self, config: Config) -> Result<(), ReloadError> {
        self.source.take(config).await.map(drop)
    }

    /// The addresses of a listener, ports resolved; empty if there is none of that name.
    pub fn addresses(&self, listen: &str) -> Vec<SocketAddr> {
        self.control.addresses(listen)
    }

    /// The admin address, its port resolved; `None` where it is off or a unix socket.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.source.admin.address()
    }

    /// The address of the probes alone, its port resolved.
    pub fn probes_address(&self) -> Option<SocketAddr> {
        self.source.admin.probes()
    }

    /// Opens the access log anew, after its file was moved away.
    ///
    /// # Errors
    /// The file cannot be opened; the log goes on where it was.
    pub fn reopen_access_log(&self) -> std::io::Result<()> {
        self.control.access.reopen()
    }

    /// Stops: fails readiness, after `shutdown_delay` accepts nothing new, and gives what runs `drain`. Returns when all
    /// workers have ended. To end at once, drop the future.
    pub async fn stop(self) {
        let config = Arc::clone(&self.control.published.state().config);
        self.control.enter(Phase::Stopping);
        if let Some(manager) = &self.manager {
            manager.stopping();
        }
        if let Some(watching) = &self.watching {
            watching.abort();
        }
        if let Some(delay) = config.process.shutdown_delay {
            tokio::time::sleep(delay).await;
        }
        self.drain(false).await;
    }

    /// Stops where another process has taken over: what waits in the sockets is for that one.
    pub(crate) async fn stop_beside(self, other: HandedOver) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
        for id in other.left {
            self.control.tell(|| Command::Close { id, is_kept: false });
        }
        self.drain(true).await;
        self.source.admin.answered().await;
    }

    async fn drain(&self, shared: bool) {
        let drain = self.control.published.state().config.process.drain;
        self.control.tell(|| Command::Stop { drain, shared });
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.finish();
    }

    fn finish(&self) {
        if !self.control.access.shutdown(LAST_LINES) {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.upkeep.abort();
        for task in self.watching.iter().chain(&self.tending) {
            task.abort();
        }
        self.control.enter(Phase::Stopping);
        self.control.tell(|| Command::Abort);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(
                    "a worker ended by a panic; this is a defect of weir, please report it"
                );
            }
        }
        self.finish();
        self.source.admin.close();
    }
}

/// Raises the limit of open files as far as it goes, and tells how far that is.
fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
    getrlimit(Resource::Nofile)
        .current
        .unwrap_or(UNLIMITED_FILES)
}
