//! The exchanges with servers that run on this worker, so that those can be ended that a reload has left without their
//! route or server, and those that never end by themselves when weir stops.
//!
//! They get `drain`, and do not end all at once: their clients come back, and are not to come together. Event streams and
//! tunnels end evenly over all of it; what may yet come to its end by itself has three quarters of it for that, and what is
//! left then ends evenly over the last.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;

use super::local::{Local, LocalServer};
use super::local_route::LocalRoute;
use crate::deadline::{Deadline, Deadlines, Ticks};

/// Deadlines fire up to so many ticks late.
const LATE: u64 = 2;
/// Deadlines that are kept for exchanges to come.
const SPARE: usize = 1024;

/// The exchanges of one worker.
pub(crate) struct Exchanges {
    running: RefCell<Slab<Exchange>>,
    /// Of exchanges that are over: to allocate one for each request would cost more than the rest of this.
    spare: RefCell<Vec<Deadline>>,
    deadlines: Rc<Deadlines>,
}

/// What is known of one that runs.
struct Exchange {
    /// Where it belongs, by the state that it began by.
    at: Option<Rc<LocalRoute>>,
    server: Option<Rc<LocalServer>>,
    /// It does not end by itself.
    is_endless: bool,
    /// It was told when to end.
    is_leaving: bool,
    deadline: Deadline,
}

/// One that runs, until this is dropped.
pub(crate) struct Running {
    exchanges: Rc<Exchanges>,
    key: usize,
    deadline: Deadline,
}

impl Exchanges {
    pub(super) fn new(deadlines: &Rc<Deadlines>) -> Rc<Self> {
        Rc::new(Self {
            running: RefCell::default(),
            spare: RefCell::default(),
            deadlines: Rc::clone(deadlines),
        })
    }

    /// A request of that route begins to be forwarded.
    pub(super) fn begin(self: &Rc<Self>, at: Option<&Rc<LocalRoute>>) -> Running {
        let spare = self.spare.borrow_mut().pop();
        let deadline = spare.unwrap_or_else(|| self.deadlines.deadline());
        let key = self.running.borrow_mut().insert(Exchange {
            at: at.cloned(),
            server: None,
            is_endless: false,
            is_leaving: false,
            deadline: deadline.clone(),
        });
        Running {
            exchanges: Rc::clone(self),
            key,
            deadline,
        }
    }

    /// Those that have no place in `next` get `drain`.
    pub(super) fn leave(&self, next: &Local, drain: Duration) {
        self.end_within(drain, |exchange| {
            let stands = exchange.at.as_ref().is_some_and(|at| {
                let route = at.route.as_ref();
                route.is_some_and(|route| next.state.stands(&route.name, at.listener.number))
            });
            let server = exchange.server.as_ref();
            !stands || server.is_some_and(|server| server.is_gone())
        });
    }

    /// Those that do not end by themselves get `drain`: weir stops.
    pub(crate) fn stop(&self, drain: Duration) {
        self.end_within(drain, |exchange| exchange.is_endless);
    }

    fn end_within(&self, drain: Duration, ends: impl Fn(&Exchange) -> bool) {
        let mut running = self.running.borrow_mut();
        let leaving = running.iter_mut().map(|(_, exchange)| exchange);
        let leaving = leaving.filter(|exchange| !exchange.is_leaving && ends(exchange));
        let (endless, others): (Vec<_>, Vec<_>) = leaving.partition(|exchange| exchange.is_endless);
        let drain = Ticks::of(drain).0.saturating_sub(LATE);
        for (exchanges, from) in [(endless, 0), (others, drain - drain / 4)] {
            let ends = evenly(exchanges.len() as u64, from..drain);
            for (exchange, end) in exchanges.into_iter().zip(ends) {
                exchange.is_leaving = true;
                exchange.deadline.arm_sooner(end);
            }
        }
    }
}

/// So many points in time, spread over these ticks.
fn evenly(count: u64, ticks: Range<u64>) -> impl Iterator<Item = Ticks> {
    let length = ticks.end.saturating_sub(ticks.start);
    let after = move |number| length.saturating_mul(2 * number + 1) / (2 * count);
    (0..count).map(move |number| Ticks(ticks.start + after(number)))
}

impl Running {
    /// By when all of it has to be over, if that is limited.
    pub(super) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Ready when its time is over; else the task of `context` is woken then.
    pub(super) fn poll_over(&self, context: &Context<'_>) -> Poll<()> {
        self.deadline.poll_over(context)
    }

    /// It is tried on that server.
    pub(super) fn at(&self, server: &Rc<LocalServer>) {
        self.with(|exchange| exchange.server = Some(Rc::clone(server)));
    }

    /// It turned out to be one that does not end by itself: only a reload or the end of weir limits it.
    pub(super) fn endless(&self) {
        self.with(|exchange| {
            exchange.is_endless = true;
            if !exchange.is_leaving {
                exchange.deadline.disarm();
            }
        });
    }

    /// Whether it was told to end, and not by its route's own timeout.
    pub(super) fn is_leaving(&self) -> bool {
        let running = self.exchanges.running.borrow();
        running
            .get(self.key)
            .is_some_and(|exchange| exchange.is_leaving)
    }

    fn with(&self, change: impl FnOnce(&mut Exchange)) {
        if let Some(exchange) = self.exchanges.running.borrow_mut().get_mut(self.key) {
            change(exchange);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let over = self.exchanges.running.borrow_mut().try_remove(self.key);
        // What else it held is let go of while nothing is borrowed.
        let deadline = over.map(|exchange| exchange.deadline);
        self.deadline.release();
        let mut spare = self.exchanges.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.extend(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(count: u64, ticks: Range<u64>) -> Vec<u64> {
        evenly(count, ticks).map(|end| end.0).collect()
    }

    #[test]
    fn ends_are_spread_over_all_of_the_time() {
        assert_eq!(ends(5, 0..50), [5, 15, 25, 35, 45]);
        assert_eq!(ends(4, 30..40), [31, 33, 36, 38]);
        assert_eq!(ends(1, 0..50), [25], "one alone comes in the middle");
        assert_eq!(ends(3, 0..0), [0, 0, 0], "no time is no time");
        assert!(ends(0, 0..50).is_empty());
    }

    #[test]
    fn of_many_the_same_share_ends_in_each_quarter() {
        let ends = ends(270, 0..48);
        for quarter in 0..4 {
            let span = quarter * 12..quarter * 12 + 12;
            let share = ends.iter().filter(|end| span.contains(*end)).count();
            assert!((66..=69).contains(&share), "{share} in quarter {quarter}");
        }
    }

    #[test]
    fn deadlines_are_used_again_and_disarmed_before() {
        let deadlines = Deadlines::new(crate::deadline::Clock::start());
        let exchanges = Exchanges::new(&deadlines);
        let deadline = deadlines.deadline();
        deadline.arm(Ticks(3));
        deadline.release();
        exchanges.spare.borrow_mut().push(deadline.clone());
        assert!(!deadline.is_armed());
        assert!(exchanges.running.borrow().is_empty());
    }
}
