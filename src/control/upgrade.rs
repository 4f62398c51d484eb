//! Another process takes over without a connection being refused or reset: a new version of the program, or the same one
//! with what only a restart takes.
//!
//! The successor is started with the path and the arguments of this process. It is handed a descriptor of every listening
//! socket, so that their queues and their SO_REUSEPORT groups stay as they are whoever closes its own descriptors; opens
//! what its config asks for beside them; waits for the first results of its health checks; and says so. Only then this
//! process lets go of the sockets and the successor accepts; what comes in between waits in their queues. Whatever goes wrong
//! before, this process kills the successor and runs on: that has accepted nothing, removed no file and written none.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::core::{Control, Phase, chain};
use super::drain::ServerId;
use super::handover::{Channel, Message, SUCCEEDS};
use super::inherited::{Handed, Inherited};
use super::manager::Manager;
use super::reload::Source;
use crate::listen::worker::{Command, SocketId};

/// How long a successor may take until it serves.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the workers may take to share their sockets.
const SHARED_WITHIN: Duration = Duration::from_secs(5);
/// How long the successor may take to say that it serves, once it is alone.
const SERVES_WITHIN: Duration = Duration::from_secs(5);

/// Why this process runs on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    #[error("another upgrade is under way")]
    Busy,
    #[error("weir is stopping")]
    Stopping,
    #[error(
        "weir is the first process of its container, which ends with it; start a container with the new version instead"
    )]
    FirstProcess,
    #[error("the listening sockets cannot be shared")]
    Share(#[source] io::Error),
    #[error("`{}` cannot be started", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("the new process takes no sockets")]
    Send(#[source] io::Error),
    #[error("the new process was not ready within {} seconds", READY_WITHIN.as_secs())]
    TooSlow,
    #[error("the new process ended before it was ready ({0})")]
    Ended(String),
    #[error("the new process gave up: {0}")]
    Failed(String),
    #[error("the new process says what this one does not understand; is it another version?")]
    Unclear(#[source] io::Error),
}

/// How this process was started, so that its successor can be started likewise.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Started {
    /// To be called at the start: the file may be replaced at any time, and the kernel then only knows that it is gone.
    /// `None` where the system does not tell which file it is.
    pub(crate) fn now() -> Option<Self> {
        let mut arguments = std::env::args_os();
        let itself = std::env::current_exe().ok()?;
        let program = arguments
            .next()
            .and_then(|name| named(&name, std::env::var_os("PATH").as_deref(), &itself))
            .unwrap_or(itself);
        Some(Self {
            program,
            arguments: arguments.collect(),
        })
    }
}

/// The path that a program was started by, which may lead to another file next time: links are not resolved. `None` if it
/// does not lead to `itself`.
fn named(name: &OsStr, search: Option<&OsStr>, itself: &Path) -> Option<PathBuf> {
    let itself = itself.canonicalize().ok()?;
    let is_itself = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == itself);
    if Path::new(name).components().count() > 1 {
        return std::path::absolute(name).ok().filter(is_itself);
    }
    std::env::split_paths(search?)
        .filter_map(|folder| std::path::absolute(folder.join(name)).ok())
        .find(|path| path.is_file())
        .filter(is_itself)
}

/// A successor that serves.
#[derive(Clone, Debug)]
pub(crate) struct HandedOver {
    pub(crate) process: u32,
    /// The sockets that it has no use for: what waits in them is for this process.
    pub(crate) left: Vec<SocketId>,
}

/// An upgrade that did not come about, for everyone who asks.
#[derive(Clone, Debug)]
pub(crate) struct FailedUpgrade {
    pub(crate) at: SystemTime,
    pub(crate) message: String,
}

/// What it takes to upgrade this process.
pub(crate) struct Upgrade {
    source: Arc<Source>,
    started: Started,
    inherited: Arc<Inherited>,
    manager: Option<Arc<Manager>>,
    alone: tokio::sync::Mutex<()>,
    outcome: watch::Sender<Option<HandedOver>>,
}

impl Upgrade {
    pub(crate) fn new(
        source: Arc<Source>,
        started: Started,
        inherited: Arc<Inherited>,
        manager: Option<Arc<Manager>>,
    ) -> Self {
        Self {
            source,
            started,
            inherited,
            manager,
            alone: tokio::sync::Mutex::default(),
            outcome: watch::Sender::new(None),
        }
    }

    /// Returns once there is a successor that serves. This process has to stop then.
    pub(crate) async fn handed_over(&self) -> HandedOver {
        let mut outcome = self.outcome.subscribe();
        loop {
            if let Some(handed_over) = outcome.borrow_and_update().clone() {
                return handed_over;
            }
            // Whoever could end it is `self`.
            let _ = outcome.changed().await;
        }
    }

    /// Replaces this process by another one, or changes nothing. Returns the id of the other one.
    pub(crate) async fn run(&self) -> Result<u32, UpgradeError> {
        let Ok(_alone) = self.alone.try_lock() else {
            return Err(UpgradeError::Busy);
        };
        let result = self.replace().await;
        if let Err(error) = &result {
            let message = chain(error);
            tracing::error!("the upgrade has failed, this process runs on: {message}");
            self.source.control.upgrade_failed(message);
        }
        result
    }

    async fn replace(&self) -> Result<u32, UpgradeError> {
        let control = &self.source.control;
        if std::process::id() == 1 {
            return Err(UpgradeError::FirstProcess);
        }
        // Sockets neither come nor go meanwhile.
        let _no_reload = self.source.hold().await;
        if control.phase() != Phase::Running {
            return Err(UpgradeError::Stopping);
        }
        let sockets = self.sockets().await.map_err(UpgradeError::Share)?;
        let started = self.started.clone();
        tracing::info!(program = %started.program.display(), "starting the process that is to take over");
        let starting = tokio::task::spawn_blocking(move || start(&started, sockets));
        let successor = starting
            .await
            .map_err(|error| UpgradeError::Share(error.into()))??;
        let process = successor.process;
        if control.phase() != Phase::Running {
            successor.kill();
            return Err(UpgradeError::Stopping);
        }
        let unused = successor.left.clone();
        let left = control.sockets_for(&unused);
        let drained = control.drained();
        let leaving = tokio::task::spawn_blocking(move || successor.leave_to_it(drained));
        let channel = leaving
            .await
            .map_err(|error| UpgradeError::Share(error.into()))??;
        // From here on there is no way back.
        control.enter(Phase::Stopping);
        if let Some(manager) = &self.manager {
            manager.main_process_is(process);
        }
        // Not before systemd knows the other one: that is what it waits for before it speaks to systemd.
        drop(channel);
        self.source.hand_over(process, &unused);
        self.outcome
            .send_replace(Some(HandedOver { process, left }));
        Ok(process)
    }

    /// Everything that listens.
    async fn sockets(&self) -> io::Result<Vec<Handed>> {
        let control = &self.source.control;
        let purposes = control.purposes();
        let (to, mut shared) = mpsc::unbounded_channel();
        control.tell(|| Command::Share(to.clone()));
        drop(to);
        let mut sockets = self.inherited.kept()?;
        let collecting = async {
            while let Some(socket) = shared.recv().await {
                let (id, descriptor) = socket?;
                // Those of systemd are among the kept.
                let purpose = purposes.get(&id).cloned();
                sockets.extend(purpose.map(|purpose| Handed::before(purpose, descriptor)));
            }
            io::Result::Ok(())
        };
        timeout(SHARED_WITHIN, collecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        sockets.extend(self.source.admin.sockets()?);
        Ok(sockets)
    }
}

impl Control {
    fn upgrade_failed(&self, message: String) {
        let failed = FailedUpgrade {
            at: SystemTime::now(),
            message,
        };
        *self.failed_upgrade() = Some(failed);
    }

    /// The last upgrade that has failed.
    pub(crate) fn failed_upgrade(&self) -> MutexGuard<'_, Option<FailedUpgrade>> {
        let failed = self.failed_upgrade.lock();
        failed.unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets_for(&self, left: &[String]) -> Vec<SocketId> {
        let purposes = self.purposes().into_iter();
        let left = purposes.filter(|(_, purpose)| left.contains(purpose));
        left.map(|(id, _)| id).collect()
    }
}

/// A process that serves beside this one.
struct Successor {
    channel: Channel,
    child: Child,
    process: u32,
    /// What it has no use for.
    left: Vec<String>,
}

impl Successor {
    /// Leaves all to it, and tells which servers are drained, if it is still there to say so. Blocks.
    fn leave_to_it(mut self, drained: Vec<ServerId>) -> Result<Channel, UpgradeError> {
        let until = Instant::now() + SERVES_WITHIN;
        let drained = drained.into_iter().map(Message::Drained);
        let mut messages = drained.chain([Message::Alone]);
        let left = messages.try_for_each(|message| self.channel.send(&message, None));
        match left.and_then(|()| self.channel.receive(until)) {
            Ok(Some((Message::Serves, _))) => Ok(self.channel),
            _ => Err(UpgradeError::Ended(end(&mut self.child))),
        }
    }

    fn kill(mut self) {
        end(&mut self.child);
    }
}

/// Starts the other process and waits until it serves. Blocks.
fn start(started: &Started, sockets: Vec<Handed>) -> Result<Successor, UpgradeError> {
    let until = Instant::now() + READY_WITHIN;
    let (channel, theirs) = Channel::pair().map_err(UpgradeError::Share)?;
    let mut child = Program::new(&started.program)
        .args(&started.arguments)
        .env(SUCCEEDS, std::process::id().to_string())
        // What systemd said to this process alone.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .stdin(Stdio::from(theirs))
        .spawn()
        .map_err(|source| UpgradeError::Start {
            program: started.program.clone(),
            source,
        })?;
    match hand_to(&channel, sockets, until) {
        Ok(left) => Ok(Successor {
            channel,
            process: child.id(),
            child,
            left,
        }),
        Err(error) => {
            let ended = end(&mut child);
            Err(match error {
                UpgradeError::Ended(_) => UpgradeError::Ended(ended),
                error => error,
            })
        }
    }
}

/// Ends a process that may have ended; tells how it did.
fn end(child: &mut Child) -> String {
    let _ = child.kill();
    child
        .wait()
        .map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Hands the sockets over and waits until they are used. Returns what is left of them.
fn hand_to(
    channel: &Channel,
    sockets: Vec<Handed>,
    until: Instant,
) -> Result<Vec<String>, UpgradeError> {
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            UpgradeError::Ended(String::new())
        }
        _ => UpgradeError::Send(error),
    };
    let handed = sockets.len();
    for Handed { origin, socket } in sockets {
        channel
            .send(&Message::Socket(origin), Some(socket.as_fd()))
            .map_err(gone)?;
    }
    channel.send(&Message::Complete, None).map_err(gone)?;
    let mut left = Vec::new();
    loop {
        match channel.receive(until) {
            Ok(Some((Message::Ready, _))) => return Ok(left),
            // Each purpose once: it may have several sockets.
            Ok(Some((Message::Left(purpose), _))) if left.len() < handed => left.push(purpose),
            Ok(Some((Message::Failed(why), _))) => return Err(UpgradeError::Failed(why)),
            Ok(Some(_)) => return Err(UpgradeError::Unclear(io::ErrorKind::InvalidData.into())),
            Ok(None) => return Err(UpgradeError::Ended(String::new())),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(UpgradeError::TooSlow);
            }
            Err(error) => return Err(gone_or_unclear(error)),
        }
    }
}

fn gone_or_unclear(error: io::Error) -> UpgradeError {
    match error.kind() {
        // It has ended with messages unread.
        io::ErrorKind::ConnectionReset => UpgradeError::Ended(String::new()),
        _ => UpgradeError::Unclear(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_is_found_by_the_way_it_was_started_by() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("weir-1");
        std::fs::write(&real, "").unwrap();
        let link = folder.path().join("weir");
        symlink("weir-1", &link).unwrap();
        // The link, so that the next one is what it leads to then.
        assert_eq!(named(link.as_os_str(), None, &real), Some(link.clone()));
        let search = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        assert_eq!(named("weir".as_ref(), Some(&search), &real), Some(link));
        // Another program of that name.
        std::fs::write(folder.path().join("other"), "").unwrap();
        assert_eq!(named("other".as_ref(), Some(&search), &real), None);
        assert_eq!(named("weir".as_ref(), None, &real), None);
    }

    fn sockets(count: usize) -> Vec<Handed> {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = || Handed::before("web".to_owned(), socket.try_clone().unwrap().into());
        (0..count).map(|_| one()).collect()
    }

    fn failure(program: &str, arguments: &[&str], count: usize) -> String {
        let started = Started {
            program: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
        };
        let failed = start(&started, sockets(count)).err().unwrap();
        chain(&failed)
    }

    fn failure_of_script(text: &str, count: usize) -> String {
        failure("/bin/sh", &["-c", text], count)
    }

    #[test]
    fn a_program_that_ends_is_told_by_its_status() {
        let told = "the new process ended before it was ready (exit status: 7)";
        assert_eq!(failure_of_script("exit 7", 1), told);
        // Also where it leaves more unread than fits.
        assert_eq!(failure_of_script("exit 7", 500), told);
    }

    #[test]
    fn a_file_that_is_no_program_is_told() {
        let told = failure("/", &[], 1);
        assert!(told.starts_with("`/` cannot be started: "), "{told}");
    }

    #[test]
    fn what_is_left_without_end_is_refused() {
        let left = "while :; do echo '{\"Left\":\"web\"}'; done >&0";
        let told = failure_of_script(left, 2);
        assert!(told.starts_with("the new process says what"), "{told}");
    }

    /// It was ready, and is gone before it was told that it is alone: this one serves on.
    #[test]
    fn nothing_is_left_to_one_that_has_ended() {
        // What it is sent is read first, one message each time.
        let text = "dd bs=65536 count=2 of=/dev/null 2>/dev/null; echo '\"Ready\"' >&0; exit 3";
        let started = Started {
            program: "/bin/sh".into(),
            arguments: ["-c", text].map(Into::into).into(),
        };
        let Ok(successor) = start(&started, sockets(1)) else {
            panic!("it says that it is ready");
        };
        let told = chain(&successor.leave_to_it(Vec::new()).err().unwrap());
        assert!(
            told.contains("(exit status: 3)") || told.contains("signal: 9"),
            "{told}"
        );
    }

    #[test]
    fn another_program_is_told() {
        let told = failure_of_script("echo '{\"Hello\":1}' >&0; exec sleep 60", 1);
        assert!(told.starts_with("the new process says what"), "{told}");
    }
}
