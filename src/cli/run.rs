//! `weir run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::passed;
use crate::config::{self, Config, LoadError, Report};
use crate::control::handover::Channel;
use crate::control::inherited::Inherited;
use crate::control::manager::Manager;
use crate::control::state_folder::{LastGood, last_good};
use crate::control::upgrade::Started;
use crate::daemon::{Daemon, Given, Running};
use crate::telemetry::logging;

/// Threads of the control plane.
const CONTROL_THREADS: usize = 2;
/// How often it is looked whether the process before is still there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) fn run(file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let started = Started::now();
    let before = Channel::of_this_process().context("cannot take over from another process")?;
    let mut before = before.map(Arc::new);
    let result = serve(file, started, &mut before);
    if let (Some(before), Err(error)) = (before, &result) {
        before.failed(&format!("{error:#}"));
    }
    result
}

/// Runs the proxy, in place of the process `before` if there is one, which is let go of then.
fn serve(
    file: Option<PathBuf>,
    started: Option<Started>,
    before: &mut Option<Arc<Channel>>,
) -> anyhow::Result<ExitCode> {
    let handed = match &before {
        Some(before) => before
            .sockets()
            .context("cannot take over the sockets of the process before")?,
        None => passed::by_systemd()?,
    };
    let file = config::find(file)?;
    let Begin { config, bad, told } = match &before {
        // The process before runs on by what it has: better than any other config in place of a bad file.
        Some(_) => Begin::by(config::load(&file)?),
        None => load(&file)?,
    };
    let log = logging::init(&config.log);
    let runtime = control_runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let given = Given {
            log: Some(log),
            inherited: Inherited::new(handed, before.is_some()),
            succeeds: before.is_some(),
            manager: Manager::of_environment(),
        };
        for told in told {
            tracing::warn!("process.state: {told}");
        }
        let mut running = Daemon::start_given(config, given).await?;
        if let Some(report) = &bad {
            running.runs_last_good(report).await;
        }
        if let Some(channel) = &before {
            leave_of(channel, &mut running, &mut signals).await?;
        }
        running.follow_file();
        if let Some(started) = started {
            running.can_be_replaced(started);
        }
        if let Some(channel) = before.take() {
            running.take_over();
            // Until then that one speaks for the service: systemd listens to no other.
            tokio::task::spawn_blocking(move || channel.let_go()).await?;
        }
        running.speak_for_the_service();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            process = std::process::id(),
            "weir runs"
        );
        until_stopped(running, &mut signals).await;
        Ok(ExitCode::SUCCESS)
    });
    // Not even a file system that hangs holds up the end.
    runtime.shutdown_background();
    result
}

/// What to run by.
struct Begin {
    config: Config,
    /// What is wrong with the file, where `config` is the last good one in its place.
    bad: Option<Report>,
    /// Why others that were kept were passed over.
    told: Vec<String>,
}

impl Begin {
    fn by(config: Config) -> Self {
        Self {
            config,
            bad: None,
            told: Vec::new(),
        }
    }
}

/// The file; where that is bad, the last good one that an earlier process has kept.
fn load(file: &Path) -> Result<Begin, LoadError> {
    let report = match config::load(file) {
        Ok(config) => return Ok(Begin::by(config)),
        Err(LoadError::Invalid(report)) => report,
        Err(error) => return Err(error),
    };
    let LastGood { config, told } = last_good(file, &report);
    let Some(config) = config else {
        for told in told {
            say!("weir: process.state: {told}");
        }
        return Err(LoadError::Invalid(report));
    };
    // Told by the log, in its format, as a reload of a bad file is.
    Ok(Begin {
        config,
        bad: Some(report),
        told,
    })
}

/// Tells the process before when this one can serve, and waits until it is to do so.
async fn leave_of(
    before: &Arc<Channel>,
    running: &mut Running,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let gone = async {
        while !before.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = running.until_ready() => {}
        // Whoever stops that one means the service, whose addresses are not to be held for nothing.
        () = gone => bail!("the process before has ended"),
        () = signals.end() => bail!("told to stop before it could serve"),
    }
    let left = running.left();
    let before = Arc::clone(before);
    let waiting = tokio::task::spawn_blocking(move || {
        before.ready(left)?;
        before.alone()
    });
    let drained = waiting
        .await?
        .context("the process before has not let go, or has ended too soon")?;
    running.drain_again(drained).await;
    Ok(())
}

/// The runtime of everything that is not a client's request.
pub(super) fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("weir-control")
        .enable_all()
        .build()
        .context("cannot start the control plane")
}

/// The signals that weir understands.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reopen: Signal,
    upgrade: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            reopen: listen(SignalKind::user_defined1())?,
            upgrade: listen(SignalKind::user_defined2())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Obeys signals until one says to stop; then drains, and ends at once at the second one. Stops by itself when another
/// process has taken over.
pub(super) async fn until_stopped(running: Running, signals: &mut Signals) {
    let other = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break None,
            _ = signals.interrupt.recv() => break None,
            other = running.handed_over() => break Some(other),
            // Not waited for: a signal to stop must be heard meanwhile.
            _ = signals.hangup.recv() => running.reload_file_soon(),
            _ = signals.upgrade.recv() => running.upgrade_soon(),
            _ = signals.reopen.recv() => {
                if let Err(error) = running.reopen_access_log() {
                    tracing::error!(%error, "cannot reopen the access log");
                }
            }
        }
    };
    let Some(other) = other else {
        tracing::info!("stopping; a second signal ends weir at once");
        tokio::select! {
            () = running.stop() => tracing::info!("stopped"),
            () = signals.end() => tracing::warn!("ended at once, as asked"),
        }
        return;
    };
    tracing::info!(
        process = other.process,
        "another process has taken over; requests finish here"
    );
    // It is on its way out already, so the first signal, sent to all processes of a service, asks for nothing new.
    let twice = async {
        signals.end().await;
        signals.end().await;
    };
    tokio::select! {
        () = running.stop_beside(other) => tracing::info!("stopped, another process serves"),
        () = twice => tracing::warn!("ended at once, as asked"),
    }
}
