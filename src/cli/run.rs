//! `weir run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Config, LoadError, Report};
use crate::control::state_folder::last_good;
use crate::daemon::{Daemon, Running};
use crate::telemetry::logging;

/// Threads of the control plane.
const CONTROL_THREADS: usize = 2;

pub(super) fn run(file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let Begin { config, bad } = load(&config::find(file)?)?;
    let log = logging::init(&config.log);
    let runtime = control_runtime()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut running = Daemon::start_logging(config, Some(log)).await?;
        if let Some(report) = &bad {
            running.runs_last_good(report).await;
        }
        running.follow_file();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "weir runs");
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
}

/// The file; where that is bad, the last good one that an earlier process has kept.
fn load(file: &Path) -> Result<Begin, LoadError> {
    let report = match config::load(file) {
        Ok(config) => return Ok(Begin { config, bad: None }),
        Err(LoadError::Invalid(report)) => report,
        Err(error) => return Err(error),
    };
    let last_good = last_good(file, &report);
    for told in last_good.told {
        eprintln!("weir: process.state: {told}");
    }
    let Some(config) = last_good.config else {
        return Err(LoadError::Invalid(report));
    };
    eprint!("{}", report.render(super::colours(&std::io::stderr())));
    eprintln!(
        "weir: {} IS BAD; the last good config runs, hash {}",
        file.display(),
        config.hash
    );
    let bad = Some(report);
    Ok(Begin { config, bad })
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
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            reopen: listen(SignalKind::user_defined1())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Obeys signals until one says to stop; then drains, and ends at once at the second one.
pub(super) async fn until_stopped(running: Running, signals: &mut Signals) {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            // Not waited for: a signal to stop must be heard meanwhile.
            _ = signals.hangup.recv() => running.reload_file_soon(),
            _ = signals.reopen.recv() => {
                if let Err(error) = running.reopen_access_log() {
                    tracing::error!(%error, "cannot reopen the access log");
                }
            }
        }
    }
    tracing::info!("stopping; a second signal ends weir at once");
    tokio::select! {
        () = running.stop() => tracing::info!("stopped"),
        () = signals.end() => tracing::warn!("ended at once, as asked"),
    }
}
