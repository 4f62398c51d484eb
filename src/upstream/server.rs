//! One server of an upstream: its address, its health, its load. Shared by all workers; survives a reload for as long as
//! its upstream and address do.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::concurrency::Learned;
use super::drain::Drain;
use super::ejection::{Cause, Ejection, Rules};
use super::group::{Group, Serving};
use crate::deadline::Ticks;
use crate::units::{ServerAddr, UpstreamName};

/// A server, as all workers see it. On cache lines of its own: the load changes with every request.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Server {
    in_flight: AtomicU32,
    /// The most requests that it may have at once.
    limit: AtomicU32,
    /// How many it can work on, where that is learned.
    pub(crate) learned: Learned,
    /// Requests that wait for it and no other; changed under the lock of the queue.
    pub(super) waited_for: AtomicU32,
    /// It is to be used only when no primary accepts traffic.
    backup: AtomicBool,
    /// It is no part of its upstream any more.
    removed: AtomicBool,
    /// Why it takes no new requests, one bit for each [`Closed`].
    closed: AtomicU8,
    /// Something speaks against it: failures since its last good answer.
    suspect: AtomicBool,
    /// It has answered a request well while it took no traffic: the first to be tried where all are out.
    promising: AtomicBool,
    /// One more than the tick when its share began to grow; 0 when it has all of it.
    ramp: AtomicU64,
    pub(crate) upstream: UpstreamName,
    pub(crate) address: ServerAddr,
    pub(crate) group: Arc<Group>,
    /// Its prober should not wait any longer.
    pub(crate) hurry: Notify,
    health: Mutex<Health>,
    ejection: Mutex<Ejection>,
    pub(super) drain: Mutex<Option<Drain>>,
}

/// How a request is counted in at its server, beside being in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Counted {
    /// No limit is learned, or the head of its response came.
    No,
    /// Among those that wait for the head of their response.
    Waiting,
    /// Not yet: its client is slow to send it.
    Sending,
}

/// A reason to give a server no new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Closed {
    /// Its health checks fail.
    Down = 1,
    /// Requests failed on it.
    Ejected = 2,
    /// An operator has taken it out of service.
    Drained = 4,
}

/// What the health checks found out, for operators.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) state: HealthState,
    /// Why the last check failed; empty after one that passed, unless the server is still down.
    pub(crate) reason: String,
    pub(crate) since: SystemTime,
    /// Checks in a row with the same result.
    pub(crate) streak: u32,
    pub(crate) last_passed: Option<bool>,
    /// Whether there are checks at all: a late result of a check that a reload has ended must not count.
    probed: bool,
}

/// What the health checks say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthState {
    /// No result yet; counts as up.
    Starting,
    Up,
    Down,
}

/// What `/api/status` tells of a server.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) state: &'static str,
    pub(crate) reason: String,
    pub(crate) since: SystemTime,
}

impl Server {
    /// A server of which nothing is known; `probed` tells whether health checks will change that.
    pub(crate) fn new(
        upstream: UpstreamName,
        address: ServerAddr,
        group: Arc<Group>,
        probed: bool,
        now: SystemTime,
    ) -> Self {
        let state = if probed {
            HealthState::Starting
        } else {
            HealthState::Up
        };
        Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            learned: Learned::new(),
            waited_for: AtomicU32::new(0),
            backup: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            closed: AtomicU8::new(0),
            suspect: AtomicBool::new(false),
            promising: AtomicBool::new(false),
            ramp: AtomicU64::new(0),
            upstream,
            address,
            group,
            hurry: Notify::new(),
            health: Mutex::new(Health {
                state,
                reason: String::new(),
                since: now,
                streak: 0,
                last_passed: None,
                probed,
            }),
            ejection: Mutex::default(),
            drain: Mutex::default(),
        }
    }

    /// Requests that it is working on, over all workers.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most requests that it may have at once, if there is a limit.
    pub(crate) fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|&limit| limit < u32::MAX)
    }

    /// Whether it may be given to those who wait for any.
    pub(super) fn serves_those_who_wait(&self) -> bool {
        if self.is_removed() {
            return false;
        }
        let is_primary = !self.backup.load(Ordering::Relaxed);
        match self.group.serving() {
            Serving::Primaries => is_primary && self.accepts_traffic(),
            Serving::Backups => self.accepts_traffic(),
            Serving::InPanic => is_primary && !self.is_drained(),
            Serving::Despite => !self.is_drained(),
        }
    }

    /// Whether a reload or DNS has taken it out of its upstream. Requests of before may still choose it.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// By a config that was just taken, which has its upstream.
    pub(crate) fn set_removed(&self, removed: bool) {
        self.removed.store(removed, Ordering::Relaxed);
    }

    /// By a config that was just taken.
    pub(crate) fn set_backup(&self, backup: bool) {
        self.backup.store(backup, Ordering::Relaxed);
    }

    /// By a config that was just taken.
    pub(crate) fn set_limit(&self, limit: Option<u32>) {
        self.limit
            .store(limit.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether it may get one more request.
    pub(crate) fn has_room(&self) -> bool {
        // Whoever has just joined the queue must see a place that was free before: their order counts.
        self.in_flight.load(Ordering::SeqCst) < self.limit.load(Ordering::Relaxed)
            && self.learned.has_room()
    }

    /// Counts a request in, if there is room. Whoever calls it calls [`Server::finish`] once.
    pub(crate) fn try_begin(&self) -> Option<Counted> {
        let counted = if self.learned.try_begin()? {
            Counted::Waiting
        } else {
            Counted::No
        };
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == u32::MAX {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
            return Some(counted);
        }
        let more = |count| (count < limit).then_some(count + 1);
        let begun = self
            .in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        if begun.is_err() && counted == Counted::Waiting {
            self.learned.finish();
        }
        begun.is_ok().then_some(counted)
    }

    /// Another attempt of a request that is counted in already, in the same place.
    pub(crate) fn begin_again(&self, counted: Counted) -> Counted {
        if counted == Counted::No && self.learned.limit().is_some() {
            self.learned.begin_again();
            return Counted::Waiting;
        }
        counted
    }

    /// Its client is slow to send it: until it is sent, it is no work.
    pub(crate) fn delayed(self: &Arc<Self>, counted: Counted) -> Counted {
        if counted != Counted::Waiting {
            return counted;
        }
        self.learned.finish();
        self.serve_queue();
        Counted::Sending
    }

    /// It is sent after all.
    pub(crate) fn sent(&self, counted: Counted) -> Counted {
        if counted != Counted::Sending {
            return counted;
        }
        self.learned.begin_again();
        Counted::Waiting
    }

    /// The head of the response came after that long, or will not come any more. `early`: it may be sooner than it takes.
    /// Without a time, the server did not have the whole request.
    pub(crate) fn head_came(
        self: &Arc<Self>,
        counted: &mut Counted,
        took: Option<Duration>,
        early: bool,
    ) {
        if std::mem::replace(counted, Counted::No) == Counted::Waiting {
            self.learned.finish();
            if let Some(took) = took {
                self.learned.observe(took, early);
            }
            self.serve_queue();
        }
    }

    /// Counts a request out, and lets the next one in that waits.
    pub(crate) fn finish(self: &Arc<Self>, counted: Counted) {
        self.uncount(counted);
        self.serve_queue();
    }

    fn serve_queue(self: &Arc<Self>) {
        if self.group.queue.length() > 0 {
            self.group.queue.serve(self);
        }
    }

    /// Counts a request out.
    pub(super) fn uncount(&self, counted: Counted) {
        if counted == Counted::Waiting {
            self.learned.finish();
        }
        let before = self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.is_drained() {
            self.emptied();
        }
    }

    /// Whether requests of clients that stick to it may go there: a drained one still takes these.
    pub(crate) fn accepts_its_clients(&self) -> bool {
        self.closed.load(Ordering::Relaxed) & !(Closed::Drained as u8) == 0
    }

    /// Whether new requests may go there now.
    pub(crate) fn is_ready(&self) -> bool {
        self.accepts_traffic() && self.has_room()
    }

    /// Whether it takes traffic.
    pub(crate) fn accepts_traffic(&self) -> bool {
        self.closed.load(Ordering::Relaxed) == 0
    }

    /// Whether that is why it takes no traffic.
    pub(crate) fn is_closed_by(&self, reason: Closed) -> bool {
        self.closed.load(Ordering::Relaxed) & reason as u8 != 0
    }

    pub(super) fn close(&self, reason: Closed) {
        self.closed.fetch_or(reason as u8, Ordering::Relaxed);
        self.promising.store(false, Ordering::Relaxed);
    }

    /// Takes a reason away. If it was the last one, the server's share begins to grow.
    pub(super) fn open(&self, reason: Closed) {
        let before = self.closed.fetch_and(!(reason as u8), Ordering::Relaxed);
        if before == reason as u8 {
            self.promising.store(false, Ordering::Relaxed);
            self.grow();
        }
    }

    /// From now on its share grows from little to full.
    pub(crate) fn grow(&self) {
        self.ramp
            .store(self.group.clock.now() + 1, Ordering::Relaxed);
    }

    /// How much of its share it gets, in percent.
    pub(crate) fn share(&self, slow_start: Option<Ticks>) -> u32 {
        match self.ramp.load(Ordering::Relaxed) {
            0 => 100,
            begun => self.growing_share(begun, slow_start),
        }
    }

    #[cold]
    fn growing_share(&self, begun: u64, slow_start: Option<Ticks>) -> u32 {
        let passed = (self.group.clock.now() + 1).saturating_sub(begun);
        match slow_start {
            Some(Ticks(whole)) if passed < whole => {
                // Less than 100, since less than the whole has passed.
                (passed * 100 / whole).max(1) as u32
            }
            Some(_) | None => {
                // Unless it has begun anew in the meantime.
                let _ = self
                    .ramp
                    .compare_exchange(begun, 0, Ordering::Relaxed, Ordering::Relaxed);
                100
            }
        }
    }

    /// Whether a failure or an ejection is to be taken back by a good answer.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Whether a request went well on it while it took no traffic.
    pub(crate) fn is_promising(&self) -> bool {
        self.promising.load(Ordering::Relaxed)
    }

    /// A good answer of a server that [`is_suspect`](Self::is_suspect), or of one that took no traffic when the request was
    /// sent there all the same (`despite`).
    pub(crate) fn succeeded(&self, despite: bool) {
        let mut ejection = self.ejection();
        ejection.succeeded();
        self.suspect.store(false, Ordering::Relaxed);
        if !despite {
            return;
        }
        if ejection.proved_good(self.group.clock.now()) {
            self.open(Closed::Ejected);
            tracing::info!(upstream = %self.upstream, server = %self.address, "server is back: a request went well");
        }
        if self.is_closed_by(Closed::Down) {
            self.promising.store(true, Ordering::Relaxed);
            self.hurry.notify_one();
        }
    }

    /// A request failed; whether that makes it time to eject.
    pub(super) fn failed(&self, rules: &Rules) -> bool {
        self.suspect.store(true, Ordering::Relaxed);
        self.ejection().failed(self.group.clock.now(), rules)
    }

    /// A request that was sent there although it took no traffic failed.
    pub(super) fn failed_despite(&self, cause: Cause, rules: Option<&Rules>) -> Option<Ticks> {
        self.promising.store(false, Ordering::Relaxed);
        let now = self.group.clock.now();
        let Some(rules) = rules else {
            // It was ejected by rules that are gone.
            self.pardon();
            return None;
        };
        self.ejection().trial_failed(now, cause, rules)
    }

    pub(super) fn eject(&self, cause: Cause, rules: &Rules) -> Ticks {
        let now = self.group.clock.now();
        let mut ejection = self.ejection();
        let rest = ejection.eject(now, cause, rules, SystemTime::now());
        // Under the lock: a good answer at the same time must find both or neither.
        self.close(Closed::Ejected);
        drop(ejection);
        // A check may tell that it is back before its rest is over.
        self.hurry.notify_one();
        rest
    }

    /// Nobody came for its trial: the next requests decide.
    pub(super) fn untried(&self) {
        let mut ejection = self.ejection();
        if ejection.proved_good(self.group.clock.now()) {
            // Under the lock, as it was closed.
            self.open(Closed::Ejected);
            tracing::info!(upstream = %self.upstream, server = %self.address, "server is back: its rest is over, and nobody came to try it");
        }
    }

    /// The rules that ejected it are gone.
    pub(crate) fn pardon(&self) {
        let mut ejection = self.ejection();
        *ejection = Ejection::default();
        if self.is_closed_by(Closed::Ejected) {
            self.open(Closed::Ejected);
        }
    }

    pub(super) fn ejection(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of its health.
    pub(crate) fn health(&self) -> Health {
        self.lock().clone()
    }

    /// What operators are told: the strongest reason why it takes no traffic.
    pub(crate) fn standing(&self) -> Standing {
        if let Some(drained) = self.drain_standing() {
            return drained;
        }
        let health = self.health();
        let ejected = self.ejection().reason();
        match (health.state, ejected) {
            (HealthState::Starting | HealthState::Up, Some((reason, since))) => Standing {
                state: "ejected",
                reason,
                since,
            },
            (state, _) => Standing {
                state: match state {
                    HealthState::Starting => "starting",
                    HealthState::Up => "up",
                    HealthState::Down => "down",
                },
                reason: health.reason,
                since: health.since,
            },
        }
    }

    /// Takes the result of one check that began at that tick; `Some` if that changed the state.
    pub(crate) fn checked(
        &self,
        result: Result<(), String>,
        began: u64,
        rise: u32,
        fall: u32,
        now: SystemTime,
    ) -> Option<HealthState> {
        let mut health = self.lock();
        if !health.probed {
            return None;
        }
        let passed = result.is_ok();
        health.streak = if health.last_passed == Some(passed) {
            health.streak.saturating_add(1)
        } else {
            1
        };
        health.last_passed = Some(passed);
        let next = match health.state {
            // The first result counts at once when it is good: there is nothing to be careful about.
            HealthState::Starting if passed => HealthState::Up,
            HealthState::Down if passed && health.streak >= rise => HealthState::Up,
            HealthState::Starting | HealthState::Up if !passed && health.streak >= fall => {
                HealthState::Down
            }
            unchanged => unchanged,
        };
        match result {
            Err(reason) => health.reason = reason,
            Ok(()) if next != HealthState::Down => health.reason.clear(),
            Ok(()) => {}
        }
        let mut ejection = self.ejection();
        if ejection.checked(passed, began, self.group.clock.now()) {
            self.open(Closed::Ejected);
            tracing::info!(upstream = %self.upstream, server = %self.address, "server is back: its health check went well");
        }
        drop(ejection);
        if next == health.state {
            return None;
        }
        match next {
            HealthState::Down => self.close(Closed::Down),
            HealthState::Up if health.state == HealthState::Down => self.open(Closed::Down),
            HealthState::Up | HealthState::Starting => {}
        }
        health.state = next;
        health.since = now;
        Some(next)
    }

    /// Health checks were switched on or off by a reload.
    pub(crate) fn probing(&self, probed: bool, now: SystemTime) {
        let mut health = self.lock();
        health.probed = probed;
        if probed || health.state == HealthState::Up && health.reason.is_empty() {
            return;
        }
        *health = Health {
            state: HealthState::Up,
            reason: String::new(),
            since: now,
            streak: 0,
            last_passed: None,
            probed,
        };
        if self.is_closed_by(Closed::Down) {
            self.open(Closed::Down);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        // Nothing under the lock can leave the health half changed.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Clock;

    fn server() -> Server {
        Server::new(
            UpstreamName::from("app"),
            ServerAddr::Ip("127.0.0.1:1".parse().unwrap()),
            Arc::new(Group::new(Clock::start())),
            true,
            SystemTime::UNIX_EPOCH,
        )
    }

    fn check(server: &Server, passed: bool) -> Option<HealthState> {
        let result = if passed {
            Ok(())
        } else {
            Err("status 500".to_owned())
        };
        server.checked(result, 0, 2, 3, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn it_counts_as_up_until_enough_checks_failed() {
        let server = server();
        assert!(server.accepts_traffic());
        assert_eq!([check(&server, false), check(&server, false)], [None, None]);
        assert!(server.accepts_traffic());
        assert_eq!(check(&server, false), Some(HealthState::Down));
        assert!(!server.accepts_traffic());
        assert_eq!(server.health().reason, "status 500");
    }

    #[test]
    fn it_comes_back_after_enough_good_checks_in_a_row() {
        let server = server();
        for _ in 0..3 {
            check(&server, false);
        }
        assert_eq!(check(&server, true), None);
        assert_eq!(check(&server, false), None);
        assert_eq!(check(&server, true), None);
        assert_eq!(check(&server, true), Some(HealthState::Up));
        assert!(server.accepts_traffic());
    }

    #[test]
    fn a_single_bad_check_between_good_ones_changes_nothing() {
        let server = server();
        assert_eq!(check(&server, true), Some(HealthState::Up));
        for _ in 0..10 {
            assert_eq!(check(&server, false), None);
            assert_eq!(check(&server, false), None);
            assert_eq!(check(&server, true), None);
        }
    }

    #[test]
    fn a_server_that_is_no_longer_checked_is_up() {
        let server = server();
        for _ in 0..3 {
            check(&server, false);
        }
        server.probing(false, SystemTime::UNIX_EPOCH);
        assert!(server.accepts_traffic());
        assert_eq!(server.health().state, HealthState::Up);
    }

    #[test]
    fn a_late_result_of_a_check_that_was_ended_does_not_count() {
        let server = server();
        server.probing(false, SystemTime::UNIX_EPOCH);
        for _ in 0..5 {
            assert_eq!(check(&server, false), None);
        }
        assert!(server.accepts_traffic());
        server.probing(true, SystemTime::UNIX_EPOCH);
        for _ in 0..3 {
            check(&server, false);
        }
        assert!(!server.accepts_traffic());
    }

    #[test]
    fn the_reason_stays_for_as_long_as_the_server_is_down() {
        let server = server();
        for _ in 0..3 {
            check(&server, false);
        }
        check(&server, true);
        assert_eq!(server.health().reason, "status 500");
        check(&server, true);
        assert_eq!(server.health().reason, "");
    }
}
