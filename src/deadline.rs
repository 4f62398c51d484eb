//! Coarse deadlines of one worker: a timing wheel that costs a store to arm and a store to disarm.
//!
//! A timer of the runtime costs some 600 instructions each time it is set and dropped, and a proxy sets several per request
//! that nearly never fire. Here a [`Deadline`] belongs to a connection and lives as long as it; arming writes the tick at
//! which it fires. The wheel visits an entry when it was first due, finds out that it has been moved or disarmed since, and
//! puts it where it belongs now. Resolution: one [`TICK`]; a deadline never fires early, and at most two ticks late.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The time, as the data plane sees it.
#[cfg(not(test))]
#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time by the runtime's clock, which a test may have stopped.
#[cfg(test)]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago that was.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The resolution of all deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Slots of the wheel; what is due later than that is looked at once per turn.
const SLOTS: usize = 1024;

/// A length of time in ticks, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(pub(crate) u64);

impl Ticks {
    /// `duration` in ticks, at least one.
    pub(crate) fn of(duration: Duration) -> Self {
        let ticks = duration.as_nanos().div_ceil(TICK.as_nanos());
        Self(
            u64::try_from(ticks)
                .unwrap_or(NEVER / 4)
                .clamp(1, NEVER / 4),
        )
    }
}

/// The clock that all of the process count ticks by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Ticks are counted from now on.
    pub(crate) fn start() -> Self {
        Self(now())
    }

    /// The tick of `now`.
    pub(crate) fn tick(self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.0).as_nanos() / TICK.as_nanos();
        u64::try_from(elapsed).unwrap_or(NEVER / 2)
    }

    /// Microseconds from the start to `now`.
    pub(crate) fn micros(self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.0).as_micros();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// The current tick. Asks the system; workers have [`Deadlines::now`].
    pub(crate) fn now(self) -> u64 {
        self.tick(now())
    }
}

/// The wheel of one worker, and its coarse clock.
pub(crate) struct Deadlines {
    clock: Clock,
    now: Cell<u64>,
    slots: RefCell<Vec<Vec<Weak<Entry>>>>,
}

impl Deadlines {
    /// A wheel that stands at the tick of `clock`.
    pub(crate) fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            clock,
            now: Cell::new(clock.now()),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
        })
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// The current tick, as of the last [`Deadlines::advance`].
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// A new deadline, disarmed.
    pub(crate) fn deadline(self: &Rc<Self>) -> Deadline {
        Deadline(Rc::new(Entry {
            wheel: Rc::clone(self),
            at: Cell::new(NEVER),
            visit: Cell::new(NEVER),
            waker: Cell::new(None),
        }))
    }

    /// Moves the clock to `now` and wakes whoever is due. Called by the worker once per tick.
    pub(crate) fn advance(&self, now: Instant) {
        let to = self.clock.tick(now);
        // After a long pause (a suspended machine) one turn visits every slot; more turns would find nothing new.
        let from = self.now.get().max(to.saturating_sub(SLOTS as u64));
        self.now.set(self.now.get().max(to));
        for tick in from..to {
            self.visit(tick + 1);
        }
    }

    fn visit(&self, tick: u64) {
        let mut due = Vec::new();
        if let Some(slot) = self.slots.borrow_mut().get_mut(slot_of(tick)) {
            std::mem::swap(slot, &mut due);
        }
        for entry in due.drain(..).filter_map(|entry| entry.upgrade()) {
            // Entries of other turns of the wheel share the slot; a moved entry left a stale copy behind.
            let visit = entry.visit.get();
            if visit > tick {
                if visit < NEVER && slot_of(visit) == slot_of(tick) {
                    self.put(&entry, visit);
                }
                continue;
            }
            entry.visit.set(NEVER);
            let at = entry.at.get();
            if at <= self.now.get() {
                if let Some(waker) = entry.waker.take() {
                    waker.wake_by_ref();
                    entry.waker.set(Some(waker));
                }
            } else if at < NEVER {
                self.schedule(&entry, at);
            }
        }
        // The emptied vector goes back, so that a quiet wheel allocates nothing.
        if let Some(slot) = self.slots.borrow_mut().get_mut(slot_of(tick))
            && slot.is_empty()
        {
            *slot = due;
            slot.shrink_to(64);
        }
    }

    fn schedule(&self, entry: &Rc<Entry>, at: u64) {
        let visit = at.clamp(self.now.get() + 1, self.now.get() + SLOTS as u64 - 1);
        entry.visit.set(visit);
        self.put(entry, visit);
    }

    fn put(&self, entry: &Rc<Entry>, visit: u64) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(slot_of(visit)) {
            slot.push(Rc::downgrade(entry));
        }
    }
}

/// One thing that may take too long. Cheap to arm and disarm over and over. Its clones are the same deadline.
#[derive(Clone)]
pub(crate) struct Deadline(Rc<Entry>);

struct Entry {
    wheel: Rc<Deadlines>,
    /// When it fires; `NEVER` while disarmed.
    at: Cell<u64>,
    /// When the wheel looks at it next; `NEVER` while it is in no slot.
    visit: Cell<u64>,
    waker: Cell<Option<Waker>>,
}

impl Deadline {
    /// Fires `after` from now, in place of what was armed before.
    pub(crate) fn arm(&self, after: Ticks) {
        // One more: the current tick is partly over.
        let at = self.0.wheel.now() + after.0 + 1;
        self.0.at.set(at);
        if at < self.0.visit.get() {
            self.0.wheel.schedule(&self.0, at);
        }
    }

    /// Fires `after` from now, unless it fires before that already.
    pub(crate) fn arm_sooner(&self, after: Ticks) {
        if self.0.wheel.now() + after.0 + 1 < self.0.at.get() {
            self.arm(after);
        }
    }

    /// Never fires, and holds on to no task: whoever has it next begins anew.
    pub(crate) fn release(&self) {
        self.disarm();
        self.0.waker.take();
    }

    /// Never fires, until armed again.
    pub(crate) fn disarm(&self) {
        self.0.at.set(NEVER);
    }

    /// Whether it is armed, fired or not.
    pub(crate) fn is_armed(&self) -> bool {
        self.0.at.get() < NEVER
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.at.get() <= self.0.wheel.now()
    }

    /// Ready when the time is over; else the task of `context` is woken then.
    pub(crate) fn poll_over(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        let known = self.0.waker.take();
        let waker = known.filter(|waker| waker.will_wake(context.waker()));
        self.0
            .waker
            .set(Some(waker.unwrap_or_else(|| context.waker().clone())));
        Poll::Pending
    }

    /// Wakes whoever waits for it, for another reason.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.waker.take() {
            waker.wake_by_ref();
            self.0.waker.set(Some(waker));
        }
    }
}

const NEVER: u64 = u64::MAX;

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Wheel {
        start: Instant,
        wheel: Rc<Deadlines>,
        wakes: Arc<Wakes>,
    }

    impl Wheel {
        fn new() -> Self {
            let start = now();
            Self {
                start,
                wheel: Deadlines::new(Clock(start)),
                wakes: Arc::default(),
            }
        }

        fn pass(&self, ticks: u32) {
            for tick in 1..=ticks {
                let now = u32::try_from(self.wheel.now()).unwrap() + 1;
                let _ = tick;
                self.wheel.advance(self.start + TICK * now);
            }
        }

        fn poll(&self, deadline: &Deadline) -> Poll<()> {
            let waker = Waker::from(Arc::clone(&self.wakes));
            deadline.poll_over(&Context::from_waker(&waker))
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_deadline_fires_once_its_time_is_over_and_not_before() {
        let wheel = Wheel::new();
        let deadline = wheel.wheel.deadline();
        deadline.arm(Ticks::of(Duration::from_millis(250)));
        assert!(wheel.poll(&deadline).is_pending());
        wheel.pass(3);
        assert!(wheel.poll(&deadline).is_pending());
        assert_eq!(wheel.wakes(), 0);
        wheel.pass(1);
        assert!(wheel.poll(&deadline).is_ready());
        assert_eq!(wheel.wakes(), 1);
    }

    #[test]
    fn a_disarmed_deadline_never_fires() {
        let wheel = Wheel::new();
        let deadline = wheel.wheel.deadline();
        deadline.arm(Ticks(2));
        assert!(wheel.poll(&deadline).is_pending());
        deadline.disarm();
        wheel.pass(5000);
        assert!(!deadline.is_over());
        assert_eq!(wheel.wakes(), 0);
    }

    #[test]
    fn arming_again_moves_the_deadline_both_ways() {
        let wheel = Wheel::new();
        let deadline = wheel.wheel.deadline();
        deadline.arm(Ticks(10));
        deadline.arm(Ticks(100));
        assert!(wheel.poll(&deadline).is_pending());
        wheel.pass(50);
        assert_eq!(wheel.wakes(), 0);
        deadline.arm(Ticks(3));
        wheel.pass(4);
        assert!(deadline.is_over());
        assert_eq!(wheel.wakes(), 1);
    }

    #[test]
    fn deadlines_beyond_one_turn_of_the_wheel_fire_in_their_turn() {
        let wheel = Wheel::new();
        let deadline = wheel.wheel.deadline();
        deadline.arm(Ticks(5000));
        assert!(wheel.poll(&deadline).is_pending());
        wheel.pass(5000);
        assert_eq!(wheel.wakes(), 0);
        wheel.pass(1);
        assert_eq!(wheel.wakes(), 1);
    }

    #[test]
    fn a_pause_of_the_whole_machine_fires_what_is_due() {
        let wheel = Wheel::new();
        let deadline = wheel.wheel.deadline();
        deadline.arm(Ticks(5000));
        assert!(wheel.poll(&deadline).is_pending());
        wheel.wheel.advance(wheel.start + TICK * 100_000);
        assert!(deadline.is_over());
        assert_eq!(wheel.wakes(), 1);
    }

    #[test]
    fn arming_and_dropping_over_and_over_leaves_nothing_behind() {
        let wheel = Wheel::new();
        let deadline = wheel.wheel.deadline();
        for _ in 0..10_000 {
            deadline.arm(Ticks(100));
            deadline.disarm();
        }
        let entries: usize = wheel.wheel.slots.borrow().iter().map(Vec::len).sum();
        assert_eq!(entries, 1);
        drop(deadline);
        wheel.pass(2000);
        let entries: usize = wheel.wheel.slots.borrow().iter().map(Vec::len).sum();
        assert_eq!(entries, 0);
    }
}
