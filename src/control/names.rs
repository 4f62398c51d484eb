//! Keeps asking for the names among the servers, each in a task of its own, and knows what they stand for.
//!
//! What a name stands for is data of the process, not of a config: it survives reloads. Everything here is changed under
//! the lock of [`Control`], by a reload or by an answer; an answer that changes servers publishes the state anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::core::Control;
use crate::config::{Config, ServerPlace, Upstream};
use crate::telemetry::labels::Resolving;
use crate::telemetry::metrics::Metrics;
use crate::units::{ServerName, UpstreamName};
use crate::upstream::resolve::dns::Dns;
use crate::upstream::resolve::{Answer, Change, Found, MAX_SERVERS, Resolution, Unresolved};

/// How long a start or a reload waits for what new names stand for.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// A name in an upstream. Two upstreams with the same name ask each for itself.
pub(crate) type Key = (UpstreamName, ServerName);

type Outcome = Result<Answer, Unresolved>;

/// The names of the running config.
pub(crate) struct Names(Mutex<Known>);

struct Known {
    dns: Arc<Dns>,
    names: HashMap<Key, Kept>,
}

#[derive(Default)]
struct Kept {
    resolution: Resolution,
    /// Whether it was asked for, with whatever result, of the DNS server that is asked now.
    asked: bool,
    task: Option<Task>,
}

/// Ends with its name.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The first answers for a config that does not run yet.
pub(crate) struct Asked {
    dns: Arc<Dns>,
    outcomes: Vec<(Key, Outcome)>,
}

impl Default for Names {
    fn default() -> Self {
        Self(Mutex::new(Known {
            dns: Arc::new(Dns::new(None)),
            names: HashMap::new(),
        }))
    }
}

impl Names {
    /// Asks for the names of `config` that stand for nothing yet; for all of them where another DNS server is to be asked.
    /// Waits for their answers for a moment. Changes nothing.
    pub(crate) async fn ask(&self, config: &Config) -> Asked {
        let (dns, names) = {
            let known = self.lock();
            let same = known.dns.server == config.process.resolver;
            let dns = match same {
                true => Arc::clone(&known.dns),
                false => Arc::new(Dns::new(config.process.resolver)),
            };
            let is_known = |key: &Key| {
                let kept = known.names.get(key);
                same && kept.is_some_and(|kept| !kept.resolution.servers().is_empty())
            };
            let names = keys(config).filter(|key| !is_known(key));
            (dns, names.collect::<Vec<_>>())
        };
        let mut asking = JoinSet::new();
        for key in names {
            let dns = Arc::clone(&dns);
            asking.spawn(async move {
                let outcome = dns.resolve(&key.1).await;
                (key, outcome)
            });
        }
        let until = Instant::now() + FIRST_ANSWERS;
        let mut outcomes = Vec::new();
        while let Ok(Some(asked)) = timeout_at(until, asking.join_next()).await {
            outcomes.extend(asked);
        }
        Asked { dns, outcomes }
    }

    /// From now on the names are those of `config`.
    pub(crate) fn take(&self, config: &Config, asked: Asked, metrics: &Metrics) {
        let mut known = self.lock();
        if !Arc::ptr_eq(&known.dns, &asked.dns) {
            known.dns = asked.dns;
            for kept in known.names.values_mut() {
                (kept.asked, kept.task) = (false, None);
            }
        }
        let mut before = std::mem::take(&mut known.names);
        for key in keys(config) {
            let kept = before.remove(&key).unwrap_or_default();
            known.names.insert(key, kept);
        }
        for (key, outcome) in asked.outcomes {
            if let Some(kept) = known.names.get_mut(&key) {
                kept.answered(&key, outcome, metrics);
                // Its waiting begins anew.
                kept.task = None;
            }
        }
    }

    /// Keeps asking, for as long as there are these names.
    pub(crate) fn keep_asking(&self, control: &Arc<Control>) {
        let mut known = self.lock();
        let dns = Arc::clone(&known.dns);
        for (key, kept) in &mut known.names {
            if kept.task.is_some() {
                continue;
            }
            let wait = match kept.asked {
                true => kept.resolution.wait(),
                false => {
                    let ((upstream, name), servers) = (key, kept.resolution.servers().len());
                    tracing::warn!(%upstream, %name, servers, "no answer from DNS yet; the servers stay as they are until there is one");
                    Duration::ZERO
                }
            };
            let task = keep_asking(Arc::downgrade(control), Arc::clone(&dns), key.clone(), wait);
            kept.task = Some(Task(tokio::spawn(task).abort_handle()));
        }
    }

    /// Takes an answer of `dns`: whether it changed servers, and when to ask again. `None` if nobody wants to know any more.
    pub(crate) fn answered(
        &self,
        dns: &Arc<Dns>,
        key: &Key,
        outcome: Outcome,
        metrics: &Metrics,
    ) -> Option<(bool, Duration)> {
        let mut known = self.lock();
        if !Arc::ptr_eq(&known.dns, dns) {
            return None;
        }
        let kept = known.names.get_mut(key)?;
        let change = kept.answered(key, outcome, metrics);
        Some((change.servers, kept.resolution.wait()))
    }

    /// What a name stands for.
    pub(crate) fn found(&self, upstream: &UpstreamName, name: &ServerName) -> Vec<Found> {
        let known = self.lock();
        let kept = known.names.get(&(upstream.clone(), name.clone()));
        kept.map_or_else(Vec::new, |kept| kept.resolution.servers().to_vec())
    }

    /// What is known of the names of an upstream, in their order.
    pub(crate) fn of(&self, upstream: &Upstream) -> Vec<(ServerName, Resolution)> {
        let known = self.lock();
        let all = keys_of(upstream).filter_map(|key| {
            let resolution = known.names.get(&key)?.resolution.clone();
            Some((key.1, resolution))
        });
        all.collect()
    }

    /// Whether every name was asked for, with whatever result.
    pub(crate) fn all_tried(&self) -> bool {
        let known = self.lock();
        known.names.values().all(|kept| kept.resolution.is_tried())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Whoever panicked while holding it left every name with an old or a new value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn answered(&mut self, key: &Key, outcome: Outcome, metrics: &Metrics) -> Change {
        let (upstream, name) = key;
        let result = match &outcome {
            Ok(answer) if answer.missing.is_none() => Resolving::Ok,
            Ok(_) | Err(_) => Resolving::Failed,
        };
        metrics.resolved(upstream, result);
        self.asked = true;
        let (error, cut) = (self.resolution.error.clone(), self.resolution.cut);
        let change = self.resolution.take(outcome, SystemTime::now());
        let now = &self.resolution;
        match (&error, &now.error) {
            _ if now.servers().is_empty() && !change.went.is_empty() => {
                tracing::error!(%upstream, %name, error = now.error, "DNS says for long that the name is gone; it has no servers any more");
            }
            (before, Some(error)) if before.as_ref() != Some(error) => {
                let servers = now.servers().len();
                tracing::warn!(%upstream, %name, error, servers, "the name is not resolved; the servers that it had stay for now");
            }
            (Some(_), None) => tracing::info!(%upstream, %name, "the name is resolved again"),
            _ => {}
        }
        if !change.came.is_empty() || !change.went.is_empty() {
            let (came, went) = (list(&change.came), list(&change.went));
            tracing::info!(%upstream, %name, came, went, "the servers of a name changed");
        }
        if now.cut != cut && now.cut > 0 {
            tracing::warn!(%upstream, %name, unused = now.cut, "the name has more than {MAX_SERVERS} addresses");
        }
        change
    }
}

async fn keep_asking(control: Weak<Control>, dns: Arc<Dns>, key: Key, mut wait: Duration) {
    loop {
        sleep(wait).await;
        let outcome = dns.resolve(&key.1).await;
        let Some(control) = control.upgrade() else {
            return;
        };
        let Some(next) = control.answered(&dns, &key, outcome) else {
            return;
        };
        wait = next;
    }
}

fn keys(config: &Config) -> impl Iterator<Item = Key> {
    config.upstreams.iter().flat_map(keys_of)
}

fn keys_of(upstream: &Upstream) -> impl Iterator<Item = Key> {
    upstream
        .servers
        .iter()
        .filter_map(|server| match &server.place {
            ServerPlace::Name(name) => Some((upstream.name.clone(), name.clone())),
            ServerPlace::Address(_) => None,
        })
}

fn list(addresses: &[std::net::SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}
