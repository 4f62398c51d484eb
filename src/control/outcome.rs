//! What became of configs, for everyone who asks: the log, the metrics, `/api/status`.

use std::time::SystemTime;

use super::core::{Control, NeedsRestart, ReloadError, chain, lock};
use crate::telemetry::labels::ReloadResult;

/// What became of a config that was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) needs_restart: NeedsRestart,
    /// What it changed, as people read it; not more than fits into a log.
    pub(crate) changes: Vec<String>,
    /// The config that a rollback has led away from, where whoever asked for it may have meant the file after that one, which
    /// was refused.
    pub(crate) left: Option<String>,
}

/// The result of the last reload, or of the start.
#[derive(Clone, Debug)]
pub(crate) struct LastReload {
    pub(crate) result: ReloadResult,
    pub(crate) at: SystemTime,
    /// Why it was refused, or what of it needs a restart.
    pub(crate) message: String,
    /// What it changed, line by line.
    pub(crate) changes: Vec<String>,
}

/// By whose will a config is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Reload,
    Rollback,
}

/// How the config that runs stands to the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the last good one that was read.
    #[default]
    File,
    /// It is an earlier one, by an operator's will.
    RolledBack,
    /// It is the last good one of an earlier process: the file was bad at the start, and has been since.
    LastGood,
}

impl Standing {
    /// As `/api/status` tells it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::RolledBack => "rolled_back",
            Self::LastGood => "last_good",
        }
    }
}

impl Control {
    /// Notes how a reload went, for everyone who asks.
    pub(crate) fn note(&self, how: How, result: &Result<Taken, ReloadError>) {
        let noted = match result {
            // Of the config nothing is known, and whoever serves next reads the file.
            Err(error @ (ReloadError::Stopping | ReloadError::HandedOver { .. })) => {
                return tracing::info!("no config is taken here: {error}");
            }
            Ok(taken) => {
                let state = self.published.state();
                let hash = &state.config.hash;
                match how {
                    How::Reload => tracing::info!(%hash, "config taken"),
                    How::Rollback => tracing::warn!(%hash, "config rolled back"),
                }
                for change in &taken.changes {
                    tracing::info!("changed: {change}");
                }
                let message = self.message(taken);
                if !message.is_empty() {
                    tracing::warn!("{message}");
                }
                let result = match how {
                    How::Reload => ReloadResult::Ok,
                    How::Rollback => ReloadResult::RolledBack,
                };
                (result, message, taken.changes.clone())
            }
            Err(error) => {
                let message = chain(error);
                tracing::error!("config refused, the one before runs on: {message}");
                (ReloadResult::Refused, message, Vec::new())
            }
        };
        let (result, message, changes) = noted;
        self.metrics.reloaded(result);
        *lock(&self.last) = LastReload {
            result,
            at: SystemTime::now(),
            message,
            changes,
        };
    }

    /// What an operator should know of a config that was taken; empty if there is nothing.
    pub(crate) fn message(&self, taken: &Taken) -> String {
        let restart = restart_message(&taken.needs_restart);
        let left = taken.left.as_deref().map_or_else(String::new, |left| {
            format!(
                "the file was refused and never ran: this went from the config that ran, `{left}`, to the one before it; \
                 `weir rollback` once more returns to `{left}`"
            )
        });
        let file = match self.standing() {
            Standing::File => String::new(),
            Standing::RolledBack | Standing::LastGood => self.differs(),
        };
        let said = [restart, left, file].into_iter();
        let said = said.filter(|part| !part.is_empty());
        said.collect::<Vec<_>>().join("; ")
    }

    fn differs(&self) -> String {
        let state = self.published.state();
        format!(
            "`{}` is not what runs; it is taken when it changes, on SIGHUP or by `weir reload`",
            state.config.file.display()
        )
    }

    /// From now on the config that runs stands so to the file.
    pub(crate) fn stands(&self, standing: Standing) {
        self.metrics.config_stands(
            standing == Standing::RolledBack,
            standing == Standing::LastGood,
        );
        *lock(&self.standing) = standing;
    }

    pub(crate) fn standing(&self) -> Standing {
        *lock(&self.standing)
    }

    /// Notes that the file was bad at the start, and that the last good one runs in its place.
    pub(crate) fn note_last_good(&self, message: String) {
        let state = self.published.state();
        let hash = &state.config.hash;
        tracing::error!(%hash, "THE CONFIG IS BAD; the last good one runs in its place: {message}");
        self.stands(Standing::LastGood);
        *lock(&self.last) = LastReload {
            result: ReloadResult::Refused,
            at: SystemTime::now(),
            message,
            changes: Vec::new(),
        };
    }

    pub(crate) fn last_reload(&self) -> LastReload {
        lock(&self.last).clone()
    }
}

/// Empty if nothing needs a restart.
fn restart_message(keys: &[&str]) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    format!(
        "a restart is needed for {}; everything else is applied",
        keys.join(" and ")
    )
}
