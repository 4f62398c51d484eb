//! What all workers share of one upstream, whatever its servers. Survives a reload for as long as the upstream's name does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::budget::Budget;
use super::ejection::{Cause, Rules};
use super::queue::Queue;
use super::server::{Closed, Server};
use crate::deadline::{Clock, TICK, Ticks};
use crate::units::{ServerAddr, Share};

/// The part of an upstream that changes while it runs.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) clock: Clock,
    pub(crate) budget: Budget,
    pub(crate) queue: Arc<Queue>,
    serving: AtomicU8,
    /// How many may wait, where limits are learned. Beyond that they would not get an answer in the time that one takes.
    queue_room: AtomicUsize,
    /// The tick from which on a server that was ejected may be tried again.
    next_trial: AtomicU64,
    /// Locked by whoever ejects: together they must not eject too many.
    ejecting: Mutex<()>,
    /// All servers that it has or had, for as long as anything is under way on them.
    known: Mutex<HashMap<ServerAddr, Weak<Server>>>,
}

/// Who serves those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Serving {
    /// Those that accept traffic and are no backups.
    Primaries,
    /// All that accept traffic: no primary does.
    Backups,
    /// All but the drained: too few accept traffic (`panic_below`).
    InPanic,
    /// All but the drained: none accepts traffic, and they are tried all the same (`on_all_down`).
    Despite,
}

/// How many of an upstream's servers may be ejected, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejections {
    pub(crate) rules: Rules,
    pub(crate) max_share: Share,
    /// Whether the last one that accepts traffic may be ejected too: where all are out, they are tried all the same.
    pub(crate) may_eject_all: bool,
}

impl Group {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            budget: Budget::default(),
            queue: Arc::default(),
            serving: AtomicU8::new(Serving::Primaries as u8),
            queue_room: AtomicUsize::new(usize::MAX),
            next_trial: AtomicU64::new(NEVER),
            ejecting: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// The server of that address, where one that was taken out is still at work: what it has under way must go on to count.
    pub(crate) fn known(&self, address: &ServerAddr) -> Option<Arc<Server>> {
        self.lock_known().get(address)?.upgrade()
    }

    /// A server was made.
    pub(crate) fn remember(&self, server: &Arc<Server>) {
        let mut known = self.lock_known();
        known.retain(|_, server| server.strong_count() > 0);
        known.insert(server.address.clone(), Arc::downgrade(server));
    }

    fn lock_known(&self) -> MutexGuard<'_, HashMap<ServerAddr, Weak<Server>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request failed on `server`, one of `servers`. With `despite`, it was sent there although the server took no traffic.
    pub(crate) fn failed<'s>(
        &self,
        server: &Server,
        servers: impl Iterator<Item = &'s Arc<Server>> + Clone,
        cause: Cause,
        despite: bool,
        ejections: Option<&Ejections>,
    ) {
        if despite {
            let _alone = self.ejecting();
            if let Some(rest) = server.failed_despite(cause, ejections.map(|all| &all.rules)) {
                self.next_trial
                    .fetch_min(self.clock.now() + rest.0, Ordering::Relaxed);
                tell(server, cause, rest.0);
            }
            return;
        }
        let Some(ejections) = ejections else {
            return;
        };
        if !server.failed(&ejections.rules) {
            return;
        }
        let _alone = self.ejecting();
        let out = servers
            .clone()
            .filter(|server| server.is_closed_by(Closed::Ejected))
            .count();
        let allowed = ejections
            .max_share
            .of(servers.clone().count() as u64)
            .max(1);
        if out as u64 >= allowed || server.is_closed_by(Closed::Ejected) {
            return;
        }
        let mut others = servers.filter(|other| !std::ptr::eq(Arc::as_ptr(other), server));
        if !ejections.may_eject_all && !others.any(|other| other.accepts_traffic()) {
            return;
        }
        let rest = server.eject(cause, &ejections.rules);
        self.next_trial
            .fetch_min(self.clock.now() + rest.0, Ordering::Relaxed);
        tell(server, cause, rest.0);
    }

    /// Lets each of `servers` learn its limit, and fits the queue to what they can work on. Called by each worker once per tick.
    pub(crate) fn learn<'s>(&self, servers: impl Iterator<Item = &'s Arc<Server>>) {
        let now = self.clock.now();
        let (mut room, mut all_guessed) = (0_usize, true);
        for server in servers {
            server.learned.step(now);
            if server.serves_those_who_wait() {
                let (more, is_guess) = server.learned.queue_room();
                room = room.saturating_add(more as usize);
                all_guessed &= is_guess;
            }
        }
        // While nothing is known of any of them, the config decides.
        let room = if all_guessed { usize::MAX } else { room };
        self.queue_room.store(room, Ordering::Relaxed);
    }

    /// Who serves those who wait, as of the last look.
    pub(crate) fn serving(&self) -> Serving {
        match self.serving.load(Ordering::Relaxed) {
            0 => Serving::Primaries,
            1 => Serving::Backups,
            2 => Serving::InPanic,
            _ => Serving::Despite,
        }
    }

    pub(crate) fn set_serving(&self, serving: Serving) {
        self.serving.store(serving as u8, Ordering::Relaxed);
    }

    /// How many may wait, where limits are learned.
    pub(crate) fn queue_room(&self) -> usize {
        self.queue_room.load(Ordering::Relaxed)
    }

    /// Whether some server may be due for a trial at that tick. Nearly always it is not, and this is all that it costs.
    pub(crate) fn is_trial_due(&self, now: u64) -> bool {
        now >= self.next_trial.load(Ordering::Relaxed)
    }

    /// The place of a server for whose trial a request is wanted, which takes so long at most.
    pub(crate) fn begin_trial<'s>(
        &self,
        servers: impl Iterator<Item = &'s Arc<Server>>,
        longest: Ticks,
    ) -> Option<usize> {
        let _alone = self.ejecting();
        let now = self.clock.now();
        let mut found = None;
        let mut next = NEVER;
        for (number, server) in servers.enumerate() {
            let mut ejection = server.ejection();
            // What is down by its checks has its probes for trials; what is drained gets nothing, what is full no more.
            let is_out =
                server.is_closed_by(Closed::Down) || server.is_drained() || !server.has_room();
            if found.is_none() && !is_out && ejection.begin_trial(now, longest) {
                found = Some(number);
            }
            if let Some(at) = ejection.trial_at() {
                next = next.min(if is_out { at.max(now + LATER) } else { at });
            }
        }
        self.next_trial.store(next, Ordering::Relaxed);
        found
    }

    /// A trial told nothing: the client went away.
    pub(crate) fn trial_abandoned(&self, server: &Server) {
        let _alone = self.ejecting();
        if let Some(at) = server.ejection().trial_abandoned() {
            self.next_trial.fetch_min(at, Ordering::Relaxed);
        }
    }

    /// Looks whether somebody is ejected of whom the time of trial does not know: a request by an older config may have lost
    /// it. Called about once a second.
    pub(crate) fn remember_trials<'s>(&self, servers: impl Iterator<Item = &'s Arc<Server>>) {
        for server in servers.filter(|server| server.is_closed_by(Closed::Ejected)) {
            if let Some(at) = server.ejection().trial_at() {
                self.next_trial.fetch_min(at, Ordering::Relaxed);
            }
        }
    }

    /// Takes back who has waited for a trial in vain. Called when a request came that can be none, being bound to its server:
    /// by such requests alone an upstream may live for long, and whoever stays out keeps others in that fail.
    pub(crate) fn pardon_untried<'s>(
        &self,
        servers: impl Iterator<Item = &'s Arc<Server>>,
        now: u64,
    ) {
        if self.is_trial_due(now.saturating_sub(UNTRIED.0)) {
            self.pardon_overdue(servers, now);
        }
    }

    #[cold]
    fn pardon_overdue<'s>(&self, servers: impl Iterator<Item = &'s Arc<Server>>, now: u64) {
        let _alone = self.ejecting();
        let mut next = NEVER;
        for server in servers {
            let ejection = server.ejection();
            let Some(at) = ejection.trial_at() else {
                continue;
            };
            if ejection.is_on_trial() {
                next = next.min(at);
                continue;
            }
            drop(ejection);
            // What is down by its checks is out anyway, and what is drained stays so.
            if server.is_closed_by(Closed::Down) || server.is_drained() {
                next = next.min(at.max(now + LATER));
            } else if now.saturating_sub(at) < UNTRIED.0 {
                next = next.min(at);
            } else {
                server.untried();
            }
        }
        self.next_trial.store(next, Ordering::Relaxed);
    }

    fn ejecting(&self) -> MutexGuard<'_, ()> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(server: &Server, cause: Cause, rest: u64) {
    let seconds = rest * u64::try_from(TICK.as_millis()).unwrap_or(1) / 1000;
    tracing::warn!(
        upstream = %server.upstream,
        server = %server.address,
        reason = %cause,
        seconds,
        "server is ejected"
    );
}

const NEVER: u64 = u64::MAX;
/// How long a trial is waited for. Longer than until one that may not be repeated is taken for it.
const UNTRIED: Ticks = Ticks((20_000 / TICK.as_millis()) as u64);
/// When to look again at a server that cannot be tried now.
const LATER: u64 = 10;

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::advance;

    use super::*;
    use crate::units::UpstreamName;

    const EJECTIONS: Ejections = Ejections {
        rules: Rules {
            failures: 5,
            base: Ticks(100),
            max: Ticks(3000),
        },
        max_share: Share::percent(50),
        may_eject_all: true,
    };

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_trial_in_vain_is_back_without_one() {
        let group = Arc::new(Group::new(Clock::start()));
        let servers = ["10.0.0.1:1", "10.0.0.1:2"].map(|address| {
            Arc::new(Server::new(
                UpstreamName::from("app"),
                ServerAddr::Ip(address.parse().unwrap()),
                Arc::clone(&group),
                false,
                SystemTime::UNIX_EPOCH,
            ))
        });
        for _ in 0..5 {
            let cause = Cause::TimedOut;
            group.failed(&servers[0], servers.iter(), cause, false, Some(&EJECTIONS));
            advance(Duration::from_millis(400)).await;
        }
        assert!(servers[0].is_closed_by(Closed::Ejected));
        // Ten seconds of rest, twenty of waiting.
        advance(Duration::from_secs(29)).await;
        group.pardon_untried(servers.iter(), group.clock.now());
        assert!(servers[0].is_closed_by(Closed::Ejected));
        advance(Duration::from_secs(1)).await;
        group.pardon_untried(servers.iter(), group.clock.now());
        assert!(servers[0].accepts_traffic());
        assert!(!group.is_trial_due(u64::MAX - 1));
    }
}
