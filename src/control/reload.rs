//! Taking a config: from the file, on a change of it, on SIGHUP, on request; as it is handed in; or one that ran before. A
//! bad one changes nothing.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, watch};

use super::admin::Admin;
use super::core::{Control, Phase, ReloadError};
use super::kept::Good;
use super::outcome::{How, Standing, Taken};
use super::state_folder::{self, Found};
use crate::config::{self, Comparison, Config, LoadError, Report};

/// How long reading the files of a config may take.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// How long writing them may take.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Reloads and rollbacks that wait for each other.
const MOST_WAITING: usize = 16;
/// How many lines a log is given of what a reload changed.
const MOST_LINES: usize = 20;

/// Where configs come from, and how they are taken.
pub(crate) struct Source {
    pub(crate) control: Arc<Control>,
    pub(crate) admin: Arc<Admin>,
    /// The file that the process runs by, if it follows one.
    file: OnceLock<PathBuf>,
    /// Locked from reading the file until its config is taken: whoever reads later takes later.
    tried: Mutex<Tried>,
    /// What to watch.
    files: watch::Sender<Vec<PathBuf>>,
    /// Locked while a config is written to disk.
    writing: Arc<Mutex<()>>,
    /// Whether a signal asked for a reload, and none has begun since.
    told: AtomicBool,
    /// Of those who wait until they may take a config.
    places: Arc<Semaphore>,
    /// Whether configs are kept on disk: of several processes, the one that serves does so.
    keeps: AtomicBool,
    /// The process that has taken over.
    successor: OnceLock<u32>,
}

/// What was tried last.
#[derive(Default)]
struct Tried {
    hash: String,
    /// Of all files, those included that are no part of the config.
    seen: u64,
    /// Whether there is no use in trying the same config again, whatever happens to those.
    settled: bool,
    /// Whether it was refused, so that what ran before runs on.
    refused: bool,
    /// What was read for it, good or not.
    files: Vec<PathBuf>,
}

impl Tried {
    fn of(config: &Config) -> Self {
        Self {
            hash: config.hash.clone(),
            seen: config.seen,
            settled: false,
            refused: false,
            files: config.files.clone(),
        }
    }

    fn bad(report: &Report) -> Self {
        Self {
            hash: report.hash.clone(),
            seen: report.seen,
            settled: false,
            refused: true,
            files: report.files.clone(),
        }
    }

    /// Whether to try `now` would be to try the same again.
    fn is(&self, now: &Self) -> bool {
        self.hash == now.hash && (self.settled || self.seen == now.seen)
    }
}

/// What became of an attempt to take the file.
pub(crate) struct Attempt {
    pub(crate) result: Result<Taken, ReloadError>,
    pub(crate) hash: String,
}

/// Why there is nothing to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("no other config ran before this one")]
    NoneBefore,
    #[error(
        "no other config ran before this one, which runs on: the file was refused and never ran"
    )]
    NeverRan,
    #[error("no config of that hash is kept; `/api/status` lists them")]
    Unknown,
    #[error("that config runs already")]
    Runs,
}

impl Source {
    /// With `keeps`, good configs are kept on disk from the first one on; else from [`take_over`](Self::take_over) on.
    pub(crate) fn new(control: Arc<Control>, admin: Arc<Admin>, keeps: bool) -> Self {
        Self {
            control,
            admin,
            file: OnceLock::new(),
            tried: Mutex::default(),
            files: watch::Sender::default(),
            writing: Arc::default(),
            told: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(MOST_WAITING)),
            keeps: AtomicBool::new(keeps),
            successor: OnceLock::new(),
        }
    }

    /// Takes the first config; that is no reload.
    pub(crate) async fn begin(&self, config: Config) -> Result<(), ReloadError> {
        let mut tried = self.tried.lock().await;
        *tried = Tried::of(&config);
        self.remember(&config).await;
        let taken = self.take_up(config).await.map(drop);
        tried.settled = taken.is_ok();
        self.watch(&tried);
        taken
    }

    /// Notes that `report` is of the file, and that what runs is the last good one.
    pub(crate) async fn fell_back(&self, report: &Report) {
        let mut tried = self.tried.lock().await;
        *tried = Tried::bad(report);
        self.control.note_last_good(report.to_string());
        // What was kept may be older than what is there.
        self.look_at_certificates().await;
        self.watch(&tried);
    }

    /// Takes a config in place of the one that runs.
    pub(crate) async fn take(&self, config: Config) -> Result<Taken, ReloadError> {
        let mut tried = self.tried.lock().await;
        *tried = Tried::of(&config);
        let result = self.take_up(config).await;
        tried.settled = result.is_ok();
        tried.refused = result.is_err();
        if result.is_ok() {
            self.control.stands(Standing::File);
        }
        self.control.note(How::Reload, &result);
        self.watch(&tried);
        result
    }

    /// A place among those who wait for a reload or a rollback of theirs; `None` where there are too many.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// As [`take_file`](Self::take_file), by a signal. While one that was told so waits, others come to the same: it will read
    /// what the file holds now.
    pub(crate) async fn take_file_as_told(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            self.take_file(false).await;
        }
    }

    /// Nothing is taken for as long as this is kept.
    pub(crate) async fn hold(&self) -> MutexGuard<'_, impl Sized> {
        self.tried.lock().await
    }

    /// The process before has left all to this one.
    pub(crate) async fn take_over(&self) {
        self.admin.take_over();
        let _no_reload = self.tried.lock().await;
        self.keeps.store(true, Ordering::Relaxed);
        let runs = self.control.kept().all().next().cloned();
        if let Some(good) = runs {
            self.save(good).await;
        }
    }

    /// Leaves all to another process, but for the sockets that it has `left`.
    pub(super) fn hand_over(&self, process: u32, left: &[String]) {
        // Nobody hands over twice.
        let _ = self.successor.set(process);
        self.keeps.store(false, Ordering::Relaxed);
        self.admin.hand_over(left);
    }

    /// From now on [`take_file`](Self::take_file) takes this one.
    pub(crate) fn follow(&self, file: &Path) {
        // Nobody follows a second file.
        let _ = self.file.set(file.to_owned());
    }

    /// Reads the file and takes it. With `unless_tried`, nothing is done where the contents are those of the last attempt.
    pub(crate) async fn take_file(&self, unless_tried: bool) -> Option<Attempt> {
        let file = self.file.get()?.clone();
        let mut tried = self.tried.lock().await;
        self.told.store(false, Ordering::Release);
        if let Err(error) = self.still_serves() {
            let result = Err(error);
            self.control.note(How::Reload, &result);
            let hash = tried.hash.clone();
            return Some(Attempt { result, hash });
        }
        let path = file.clone();
        let loading = tokio::task::spawn_blocking(move || config::load(&path));
        let loaded = match tokio::time::timeout(READ_WITHIN, loading).await {
            Ok(Ok(loaded)) => loaded,
            // A file system that hangs must not take later reloads with it.
            Err(_) => Err(LoadError::Read {
                path: file.clone(),
                source: io::ErrorKind::TimedOut.into(),
            }),
            Ok(Err(error)) => {
                tracing::error!(%error, "reading the config failed; this is a defect of weir, please report it");
                return None;
            }
        };
        let now = match &loaded {
            Ok(config) => Tried::of(config),
            Err(LoadError::Invalid(report)) => Tried::bad(report),
            Err(LoadError::Read { .. } | LoadError::NotFound) => Tried {
                files: vec![file],
                refused: true,
                ..Tried::default()
            },
        };
        if unless_tried && tried.is(&now) {
            // An included file may have another name now.
            tried.files = now.files;
            self.watch(&tried);
            return None;
        }
        *tried = now;
        let result = match loaded {
            Ok(config) => self.take_up(config).await,
            Err(error) => Err(ReloadError::Load(error)),
        };
        tried.settled = result.is_ok();
        tried.refused = result.is_err();
        if result.is_ok() {
            self.control.stands(Standing::File);
        }
        self.control.note(How::Reload, &result);
        self.watch(&tried);
        Some(Attempt {
            result,
            hash: tried.hash.clone(),
        })
    }

    /// Returns to the config that ran before, or to the one with that hash. It is checked, bound and built as any other; its
    /// files are not read.
    ///
    /// Also where a file was refused since: who wants away from what runs must not be held up by an edit that has come to
    /// nothing. Who wanted away from that edit is told that it has never run, and how to return.
    pub(crate) async fn rollback(&self, hash: Option<&str>) -> Result<Attempt, NotKept> {
        let mut tried = self.tried.lock().await;
        let good = self.kept(hash).map_err(|not_kept| match not_kept {
            NotKept::NoneBefore if tried.refused => NotKept::NeverRan,
            other => other,
        })?;
        let runs = Arc::clone(&self.control.published.state().config);
        let unasked = hash.is_none() && tried.refused;
        let hash = good.hash;
        let path = runs.file.clone();
        let checking = tokio::task::spawn_blocking(move || config::again(&good.contents, &path));
        let mut result = match checking.await {
            Ok(Ok(config)) => self.take_up(config).await,
            Ok(Err(report)) => Err(ReloadError::Load(LoadError::Invalid(report))),
            // What ends it is the end of the process.
            Err(_) => Err(ReloadError::Stopping),
        };
        if let Ok(taken) = &mut result {
            taken.left = unasked.then(|| runs.hash.clone());
            tried.refused = false;
            self.control.stands(match tried.hash == hash {
                true => Standing::File,
                false => Standing::RolledBack,
            });
            // From now on only another text is worth a try.
            tried.settled = true;
            // What was kept may be older than what is there.
            self.look_at_certificates().await;
        }
        self.control.note(How::Rollback, &result);
        self.watch(&tried);
        Ok(Attempt { result, hash })
    }

    fn kept(&self, hash: Option<&str>) -> Result<Good, NotKept> {
        let kept = self.control.kept();
        let good = match hash {
            None => kept.previous().ok_or(NotKept::NoneBefore)?,
            Some(hash) => kept.find(hash).ok_or(NotKept::Unknown)?,
        };
        if kept.all().next().is_some_and(|runs| runs.hash == good.hash) {
            return Err(NotKept::Runs);
        }
        Ok(good.clone())
    }

    /// Takes the certificates whose files have changed, without a reload of the rest.
    pub(super) async fn renew(&self) {
        let _no_reload = self.tried.lock().await;
        self.look_at_certificates().await;
    }

    async fn look_at_certificates(&self) {
        if self.control.renew().await {
            let runs = Arc::clone(&self.control.published.state().config);
            let good = self.control.kept().renew(&runs.contents);
            if let Some(good) = good {
                self.save(good).await;
            }
        }
    }

    /// The files that matter now, and tidings of when these are others.
    pub(super) fn files(&self) -> watch::Receiver<Vec<PathBuf>> {
        self.files.subscribe()
    }

    /// Those of what was tried, and those of what runs, which may be another config.
    fn watch(&self, tried: &Tried) {
        let mut files = tried.files.clone();
        let runs = Arc::clone(&self.control.published.state().config);
        let known: HashSet<_> = tried.files.iter().collect();
        let others = runs.files.iter().filter(|file| !known.contains(file));
        files.extend(others.cloned());
        self.files.send_if_modified(|known| {
            let others = *known != files;
            *known = files;
            others
        });
    }

    fn still_serves(&self) -> Result<(), ReloadError> {
        match (self.successor.get(), self.control.phase()) {
            (Some(&process), _) => Err(ReloadError::HandedOver { process }),
            (None, Phase::Stopping) => Err(ReloadError::Stopping),
            (None, _) => Ok(()),
        }
    }

    async fn take_up(&self, mut config: Config) -> Result<Taken, ReloadError> {
        // It may have waited until another process had the addresses.
        self.still_serves()?;
        let admin = config.admin.clone();
        let warnings = std::mem::take(&mut config.warnings);
        let good = Good::now(&config);
        let before = Arc::clone(&self.control.published.state().config);
        let prepared = self.admin.prepare(&admin).await?;
        let needs_restart = self.control.take(config).await?;
        self.admin.apply(&admin, prepared);
        tell(&warnings);
        self.control.refused().clear();
        self.control.kept().take(good.clone());
        self.save(good).await;
        let after = Arc::clone(&self.control.published.state().config);
        // Of a large config it takes a while.
        let comparing = move || Comparison::of(&before, &after).first_lines(MOST_LINES);
        let changes = tokio::task::spawn_blocking(comparing).await;
        Ok(Taken {
            needs_restart,
            // What ends it is the end of the process.
            changes: changes.unwrap_or_default(),
            left: None,
        })
    }

    /// Brings back what earlier processes ran, where it is kept on disk.
    async fn remember(&self, config: &Config) {
        let Some(folder) = config.state() else { return };
        let main = config.file.clone();
        let reading = tokio::task::spawn_blocking(move || state_folder::load(&folder, &main));
        let read = tokio::time::timeout(READ_WITHIN, reading).await;
        let Ok(Ok(Found { good, damaged })) = read else {
            return tracing::warn!("cannot read `process.state` in time");
        };
        for told in damaged {
            tracing::warn!("process.state: {told}");
        }
        for good in good.into_iter().rev() {
            self.control.kept().take(good);
        }
    }

    /// Keeps on disk what runs now, if it says where. Nothing depends on it until the next start.
    async fn save(&self, good: Good) {
        if !self.keeps.load(Ordering::Relaxed) {
            return;
        }
        let config = Arc::clone(&self.control.published.state().config);
        let Some(folder) = config.state() else { return };
        let main = config.file.clone();
        let Ok(alone) = Arc::clone(&self.writing).try_lock_owned() else {
            return tracing::warn!(
                "process.state: the config before is still being written; this one is not kept there"
            );
        };
        let writing = tokio::task::spawn_blocking(move || {
            let written = state_folder::save(&folder, &main, &good);
            drop(alone);
            written
        });
        match tokio::time::timeout(WRITE_WITHIN, writing).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!("process.state: cannot keep the config there: {error}");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("process.state: the config is not written there yet");
            }
        }
    }
}

/// What of a config that was taken is surely not meant.
fn tell(warnings: &Report) {
    for problem in warnings.problems.iter().take(MOST_WARNINGS) {
        let place = format!("{}:{}", problem.file.display(), problem.line);
        let (key, help) = (&problem.key, problem.help.as_deref());
        tracing::warn!(%place, %key, help, "{}", problem.message);
    }
    let rest = warnings.problems.len().saturating_sub(MOST_WARNINGS);
    if rest > 0 {
        tracing::warn!("{rest} more warnings are not shown; `weir check` prints all of them");
    }
}

/// A log is no place for a thousand of a kind.
const MOST_WARNINGS: usize = 20;

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::core::Parts;
    use super::super::inherited::Inherited;
    use super::*;
    use crate::deadline::Clock;
    use crate::state::{Published, State, Surroundings};
    use crate::telemetry::access_log::AccessLog;
    use crate::telemetry::labels::ReloadResult;
    use crate::telemetry::metrics::Metrics;

    const HELLO: &str = "[admin]\naddress = \"off\"\n[log]\naccess = \"off\"\n[listen.web]\n\
        address = \"127.0.0.1:0\"\n[route.site]\nrespond = { body = \"hello\" }\n";

    /// One that follows a file, without workers.
    async fn following(file: &Path) -> Source {
        std::fs::write(file, HELLO).unwrap();
        let config = config::load(file).unwrap();
        let access = AccessLog::start(&config.log).unwrap();
        let clock = Clock::start();
        let around = Surroundings {
            previous: None,
            found: &|_, _| Vec::new(),
            workers: 0,
            max_files: 1024,
            tls: &|_, _| unreachable!("there is no TLS"),
            now: std::time::SystemTime::now(),
            clock,
            warm: false,
        };
        let state = Arc::new(State::build(Arc::new(config.clone()), &around));
        let inherited = Arc::new(Inherited::default());
        let control = Arc::new(Control::new(Parts {
            published: Arc::new(Published::new(state, clock)),
            metrics: Arc::new(Metrics::new(0)),
            access,
            workers: Vec::new(),
            max_files: 1024,
            log: None,
            inherited: Arc::clone(&inherited),
        }));
        let gate = watch::channel(true).1;
        let admin = Admin::new(Arc::clone(&control), inherited, gate);
        let source = Source::new(control, admin, true);
        source.begin(config).await.unwrap();
        source.control.enter(Phase::Running);
        source.follow(file);
        source
    }

    /// Whether `future` is done once it has gone as far as it can.
    fn is_done(future: std::pin::Pin<&mut impl Future>) -> bool {
        let polled = future.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(_))
    }

    fn runs(source: &Source, body: &str) -> bool {
        let config = Arc::clone(&source.control.published.state().config);
        config.show().contains(body)
    }

    /// Those of the admin address are refused where there are too many; whoever sends a signal would not hear of it.
    #[tokio::test]
    async fn a_signal_is_heard_however_many_others_wait_and_several_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let source = following(&file).await;
        let held = source.hold().await;
        let places: Vec<_> = std::iter::from_fn(|| source.place()).collect();
        assert_eq!(places.len(), MOST_WAITING);
        let mut first = pin!(source.take_file_as_told());
        assert!(!is_done(first.as_mut()), "it waits for its turn");
        std::fs::write(&file, HELLO.replace("hello", "second")).unwrap();
        assert!(
            is_done(pin!(source.take_file_as_told())),
            "the first will read what the file holds now"
        );
        drop(held);
        first.await;
        assert!(runs(&source, "second"));
        // It stood for those that came before it had begun, and for no others.
        std::fs::write(&file, HELLO.replace("hello", "third")).unwrap();
        source.take_file_as_told().await;
        assert!(runs(&source, "third"));
    }

    #[tokio::test]
    async fn where_another_process_has_taken_over_the_file_is_not_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        let source = following(&file).await;
        std::fs::write(&file, HELLO.replace("hello", "second")).unwrap();
        let held = source.hold().await;
        let mut waiting = pin!(source.take_file(false));
        assert!(!is_done(waiting.as_mut()));
        source.control.enter(Phase::Stopping);
        source.hand_over(7, &[]);
        drop(held);
        let attempt = waiting.await.unwrap();
        assert!(
            matches!(attempt.result, Err(ReloadError::HandedOver { process: 7 })),
            "{:?}",
            attempt.result
        );
        assert_eq!(source.control.last_reload().result, ReloadResult::Ok);
        let metrics = source.control.metrics.render();
        let refused = metrics
            .lines()
            .find(|line| line.starts_with("weir_config_reloads_total{result=\"refused\"}"));
        assert!(refused.unwrap().ends_with(" 0"), "{refused:?}");
    }
}
