//! Idle connections of one worker to one server, last in first out: the warmest is used, the rest ages out.

use std::cell::{Cell, RefCell};

use super::http1::Connection;
use crate::deadline::{TICK, Ticks};

/// How long and how many connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// Idle connections of this worker.
    pub(crate) max_idle: usize,
    /// How long one may be idle where the server does not say.
    pub(crate) idle: Ticks,
    /// How long one may live.
    pub(crate) max_age: Ticks,
}

/// The idle connections to one server.
pub(crate) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "a connection is handed around, and is large"
    )]
    idle: RefCell<Vec<Box<Connection>>>,
    limits: Cell<PoolLimits>,
    era: Cell<u32>,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            idle: RefCell::new(Vec::new()),
            limits: Cell::new(limits),
            era: Cell::new(0),
        }
    }

    /// New limits after a reload; they apply to what is idle now too.
    pub(crate) fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
    }

    /// What connections are opened under now; they take it along.
    pub(crate) fn era(&self) -> u32 {
        self.era.get()
    }

    /// From now on connections are opened another way: none from before may carry a request, be it idle now or later.
    pub(crate) fn renew(&self) {
        self.era.set(self.era.get().wrapping_add(1));
        for mut connection in self.idle.take() {
            connection.close();
        }
    }

    /// The connection that became idle last and is still good. With `only_fresh`, one that was idle for less than a
    /// second: its server has hardly decided to close it, so it may carry a request that must not be sent twice.
    pub(crate) fn take(&self, now: u64, only_fresh: bool) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            let age = now.saturating_sub(connection.idle_since);
            if only_fresh && age >= SECOND {
                idle.push(connection);
                return None;
            }
            let is_quiet = if only_fresh {
                connection.is_quiet_for_sure()
            } else {
                connection.is_quiet()
            };
            if !self.is_over(&connection, now) && is_quiet {
                return Some(connection);
            }
            connection.close();
        }
        None
    }

    /// Keeps a connection whose exchange ended cleanly.
    pub(crate) fn put(&self, mut connection: Box<Connection>, now: u64) {
        connection.idle_since = now;
        connection.let_go();
        connection.exchanges = connection.exchanges.saturating_add(1);
        let mut idle = self.idle.borrow_mut();
        let is_welcome = idle.len() < self.limits.get().max_idle && connection.era == self.era();
        if is_welcome && !self.is_over(&connection, now) {
            idle.push(connection);
        } else {
            connection.close();
        }
    }

    /// Closes what is too old or was closed by the server. Called about once a second.
    pub(crate) fn sweep(&self, now: u64) {
        let mut idle = self.idle.borrow_mut();
        let bad = idle.extract_if(.., |connection| {
            self.is_over(connection, now) || !connection.is_quiet()
        });
        bad.for_each(|mut connection| connection.close());
        let surplus = idle.len().saturating_sub(self.limits.get().max_idle);
        idle.drain(..surplus)
            .for_each(|mut connection| connection.close());
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
    }

    fn is_over(&self, connection: &Connection, now: u64) -> bool {
        let limits = self.limits.get();
        // What the server says of itself beats what we guess, in either direction.
        let idle = connection.idle_limit.unwrap_or(limits.idle);
        now.saturating_sub(connection.idle_since) >= idle.0
            || now.saturating_sub(connection.born) >= limits.max_age.0
    }
}

/// What a server's `Keep-Alive: timeout=N` leaves us: a second less, for the time that a request is on its way.
pub(crate) fn idle_limit(seconds: u64) -> Ticks {
    Ticks(
        seconds
            .saturating_sub(1)
            .min(24 * 3600)
            .saturating_mul(SECOND),
    )
}

/// Ticks in a second.
const SECOND: u64 = (1000 / TICK.as_millis()) as u64;
