//! Taking a config: from the file, on a change of it, on SIGHUP, on request; or as it is handed in. A bad one changes
//! nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::admin::Admin;
use super::core::{Control, ReloadError, Taken};
use crate::config::{self, Comparison, Config, LoadError};

/// How long reading the files of a config may take.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// How many lines a log is given of what a reload changed.
const MOST_LINES: usize = 20;

/// Where configs come from, and how they are taken.
pub(crate) struct Source {
    pub(crate) control: Arc<Control>,
    pub(crate) admin: Arc<Admin>,
    /// The file that the process runs by, if it follows one.
    file: OnceLock<PathBuf>,
    /// The hash of the contents that were tried last. Locked from reading the file until its config is taken: whoever
    /// reads later takes later.
    tried: Mutex<String>,
}

/// What became of an attempt to take the file.
pub(crate) struct Attempt {
    pub(crate) result: Result<Taken, ReloadError>,
    /// What was read, good or not: what to watch from now on.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) hash: String,
}

impl Source {
    pub(crate) fn new(control: Arc<Control>, admin: Arc<Admin>) -> Self {
        Self {
            control,
            admin,
            file: OnceLock::new(),
            tried: Mutex::default(),
        }
    }

    /// Takes the first config; that is no reload.
    pub(crate) async fn begin(&self, config: Config) -> Result<(), ReloadError> {
        let mut tried = self.tried.lock().await;
        tried.clone_from(&config.hash);
        self.take_up(config).await.map(drop)
    }

    /// Takes a config in place of the one that runs.
    pub(crate) async fn take(&self, config: Config) -> Result<Taken, ReloadError> {
        let mut tried = self.tried.lock().await;
        tried.clone_from(&config.hash);
        let result = self.take_up(config).await;
        self.control.note(&result);
        result
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
        let (files, hash) = match &loaded {
            Ok(config) => (config.files.clone(), config.hash.clone()),
            Err(LoadError::Invalid(report)) => (report.files.clone(), report.hash.clone()),
            Err(LoadError::Read { .. } | LoadError::NotFound) => (vec![file], String::new()),
        };
        if unless_tried && *tried == hash {
            return None;
        }
        tried.clone_from(&hash);
        let result = match loaded {
            Ok(config) => self.take_up(config).await,
            Err(error) => Err(ReloadError::Load(error)),
        };
        self.control.note(&result);
        Some(Attempt {
            result,
            files,
            hash,
        })
    }

    async fn take_up(&self, config: Config) -> Result<Taken, ReloadError> {
        let admin = config.admin.clone();
        let before = Arc::clone(&self.control.published.state().config);
        let prepared = self.admin.prepare(&admin).await?;
        let needs_restart = self.control.take(config).await?;
        self.admin.apply(&admin, prepared);
        let after = Arc::clone(&self.control.published.state().config);
        // Of a large config it takes a while.
        let comparing = move || Comparison::of(&before, &after).first_lines(MOST_LINES);
        let changes = tokio::task::spawn_blocking(comparing).await;
        Ok(Taken {
            needs_restart,
            // What ends it is the end of the process.
            changes: changes.unwrap_or_default(),
        })
    }
}
