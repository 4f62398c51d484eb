//! How many retries an upstream may get: a share of its requests, so that an outage never multiplies the load
//! (Linkerd's retry budget).
//!
//! `tower`'s `TpsBudget` is the same idea; it takes a lock for each request. Here workers count for themselves and deposit
//! the sum about once a second, and before each retry.

use std::sync::{Mutex, PoisonError};

use crate::deadline::TICK;
use crate::units::Share;

/// The requests and retries of the last ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Budget(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    slots: [Slot; SECONDS],
    /// The second of the newest slot.
    newest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// So many requests came since the last deposit. `now` is in ticks.
    pub(crate) fn deposit(&self, requests: u32, now: u64) {
        if requests > 0 {
            self.lock().slot(now).requests += u64::from(requests);
        }
    }

    /// Whether a request may be sent once more; counts it if so.
    pub(crate) fn withdraw(&self, share: Share, now: u64) -> bool {
        let mut window = self.lock();
        window.slot(now);
        let sum = |of: fn(&Slot) -> u64| window.slots.iter().map(of).sum::<u64>();
        let (requests, retries) = (sum(|slot| slot.requests), sum(|slot| slot.retries));
        let allowed = share.of(requests) + RESERVE;
        let may = retries < allowed;
        if may {
            window.slot(now).retries += 1;
        }
        may
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Window> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// The slot of `now`; what is older than the window is forgotten.
    fn slot(&mut self, now: u64) -> &mut Slot {
        let second = now / TICKS_PER_SECOND;
        // A worker's clock may be a tick behind another's.
        let newest = self.newest.max(second);
        let passed = (newest - self.newest).min(SECONDS as u64);
        for step in 0..passed {
            self.slots[place(newest - step)] = Slot::default();
        }
        self.newest = newest;
        &mut self.slots[place(newest)]
    }
}

fn place(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

/// What is not used is kept that long.
const SECONDS: usize = 10;
/// Ten retries a second are always allowed: a share of little traffic would be none.
const RESERVE: u64 = 10 * SECONDS as u64;
const TICKS_PER_SECOND: u64 = (1000 / TICK.as_millis()) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share::percent(20);

    fn withdrawals(budget: &Budget, now: u64) -> u64 {
        (0..100_000)
            .take_while(|_| budget.withdraw(SHARE, now))
            .count() as u64
    }

    #[test]
    fn a_share_of_the_requests_and_ten_a_second_may_be_repeated() {
        let budget = Budget::default();
        budget.deposit(1000, 50);
        assert_eq!(withdrawals(&budget, 50), 300);
        assert!(!budget.withdraw(SHARE, 60), "used up");
    }

    #[test]
    fn what_is_older_than_ten_seconds_does_not_count() {
        let budget = Budget::default();
        budget.deposit(1000, 0);
        assert_eq!(withdrawals(&budget, 95), 300);
        assert_eq!(
            withdrawals(&budget, 100),
            0,
            "its requests are forgotten, its retries are not"
        );
        assert_eq!(withdrawals(&budget, 195), 100);
        budget.deposit(1000, 10_000_000);
        assert_eq!(withdrawals(&budget, 10_000_000), 300, "after a long pause");
    }

    #[test]
    fn a_clock_that_is_behind_changes_nothing() {
        let budget = Budget::default();
        budget.deposit(100, 105);
        budget.deposit(100, 99);
        assert_eq!(withdrawals(&budget, 98), 140);
    }

    #[test]
    fn an_outage_adds_at_most_the_share_over_any_time() {
        let budget = Budget::default();
        let mut retries = 0;
        for now in 0..3_000 {
            budget.deposit(200, now);
            retries += (0..200).filter(|_| budget.withdraw(SHARE, now)).count() as u64;
        }
        let requests = 200 * 3_000;
        assert!(retries <= requests / 5 + 10 * 300 + 200, "{retries}");
        assert!(retries >= requests / 5, "{retries}");
    }
}
