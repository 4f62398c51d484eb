//! One server of an upstream: its address, its health, its load. Shared by all workers; survives a reload for as long as
//! its upstream and address do.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::SystemTime;

use crate::units::{ServerAddr, UpstreamName};

/// A server, as all workers see it. On cache lines of its own: the load changes with every request.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Server {
    in_flight: AtomicU32,
    down: AtomicBool,
    pub(crate) upstream: UpstreamName,
    pub(crate) address: ServerAddr,
    health: Mutex<Health>,
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

/// Whether a server takes traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthState {
    /// No result yet; counts as up.
    Starting,
    Up,
    Down,
}

impl HealthState {
    /// The word for it in `/api/status`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Server {
    /// A server of which nothing is known; `probed` tells whether health checks will change that.
    pub(crate) fn new(
        upstream: UpstreamName,
        address: ServerAddr,
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
            down: AtomicBool::new(false),
            upstream,
            address,
            health: Mutex::new(Health {
                state,
                reason: String::new(),
                since: now,
                streak: 0,
                last_passed: None,
                probed,
            }),
        }
    }

    /// Requests that it is working on, over all workers.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in. Whoever calls it calls [`Server::finish`] once.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request out.
    pub(crate) fn finish(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether new requests may go there.
    pub(crate) fn accepts_traffic(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// What is known of its health.
    pub(crate) fn health(&self) -> Health {
        self.lock().clone()
    }

    /// Takes the result of one check; `Some` if that changed the state.
    pub(crate) fn checked(
        &self,
        result: Result<(), String>,
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
        self.down
            .store(next == HealthState::Down, Ordering::Relaxed);
        match result {
            Err(reason) => health.reason = reason,
            Ok(()) if next != HealthState::Down => health.reason.clear(),
            Ok(()) => {}
        }
        if next == health.state {
            return None;
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
        self.down.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Health> {
        // Whoever panicked while holding it left plain data behind.
        self.health
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(
            UpstreamName::from("app"),
            ServerAddr::Ip("127.0.0.1:1".parse().unwrap()),
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
        server.checked(result, 2, 3, SystemTime::UNIX_EPOCH)
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
