//! `concurrency = "adaptive"`: how many requests a server can work on at once, learned from how long it takes to answer.
//!
//! A server that gets more than it can work on does no more in the same time, it only takes longer; from some point on it does
//! less. So the limit follows a gradient, what an answer takes when there is little to do, by what it takes now (as do Netflix's
//! concurrency-limits and Envoy's adaptive concurrency): while the two are alike the limit grows by a part of its square root per
//! window, when answers come [`TOLERANCE`] times later and more it shrinks with them. A window lasts as long as an answer
//! takes, so that each step sees what the one before has done.
//!
//! What an answer takes when there is little to do is known from the times when half of the limit is not used. But what is
//! asked for changes, and cheap answers must not make pages look late. So before the limit shrinks, and again before it has
//! shrunk to half, there is a look: the limit is halved until that many are on their way and measured. Only if they are
//! answered sooner is it the number that made them late; if not, what they take is normal now, and the limit is what it was.
//! A server that is overloaded loses nothing by a look. Under lasting load there is one every ten seconds or so besides;
//! where half the limit is too many still, the next follows at once.
//!
//! Times are averaged by their logarithm: a page that takes a second among thousands that take a millisecond must not look
//! like congestion. A request counts from when the server has it until the head of its response came, which is what is
//! measured: slow uploads, downloads, event streams and tunnels take no part of the limit. Answers that tell of an error
//! (4xx, 5xx) come too early to tell anything, and clients that went away too; both count only if they took longer than usual,
//! or a server on which everybody gives up would teach nothing. Where nothing at all is answered while the limit is full, as
//! with long polls, the limit grows: it is not work that they wait for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::TICK;

/// The limit that is learned for one server, shared by all workers.
#[derive(Debug)]
pub(crate) struct Learned {
    /// `OFF` where nothing is learned.
    limit: AtomicU32,
    /// Requests that wait for the head of their response.
    waiting: AtomicU32,
    /// The most of them at once in this window.
    peak: AtomicU32,
    /// Of this window: the number of answers above [`COUNT`], the sum of the logarithms of their times below.
    sums: AtomicU64,
    /// What an answer takes when there is little to do, as a logarithm.
    base: AtomicU32,
    gradient: Mutex<Gradient>,
}

impl Learned {
    /// Learns nothing until it is told to.
    pub(crate) fn new() -> Self {
        Self {
            limit: AtomicU32::new(OFF),
            waiting: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            sums: AtomicU64::new(0),
            base: AtomicU32::new(UNKNOWN),
            gradient: Mutex::new(Gradient::new()),
        }
    }

    /// By a config that was just taken.
    pub(crate) fn switch(&self, on: bool) {
        let is_on = self.limit().is_some();
        if on == is_on {
            return;
        }
        let mut gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        *gradient = Gradient::new();
        self.sums.store(0, Ordering::Relaxed);
        self.base.store(UNKNOWN, Ordering::Relaxed);
        let limit = if on { gradient.effective() } else { OFF };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The most requests that may wait for an answer at once; `None` where nothing is learned.
    pub(crate) fn limit(&self) -> Option<u32> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|&limit| limit != OFF)
    }

    /// Whether one more may wait for an answer.
    pub(crate) fn has_room(&self) -> bool {
        match self.limit.load(Ordering::Relaxed) {
            OFF => true,
            limit => self.waiting.load(Ordering::SeqCst) < limit,
        }
    }

    /// Counts a request in that waits for its answer, if there is room. `Some(false)`: nothing is learned, so it is not counted.
    pub(super) fn try_begin(&self) -> Option<bool> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == OFF {
            return Some(false);
        }
        let more = |count| (count < limit).then_some(count + 1);
        let before = self
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        self.peaked(before + 1);
        Some(true)
    }

    /// Counts a request in that is at the server already.
    pub(super) fn begin_again(&self) {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        self.peaked(before + 1);
    }

    fn peaked(&self, waiting: u32) {
        if waiting > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(waiting, Ordering::Relaxed);
        }
    }

    /// It waits no longer.
    pub(super) fn finish(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// An answer took that long. `early`: it may have come before its time, and tells something only if it is late.
    pub(super) fn observe(&self, took: Duration, early: bool) {
        let log = logarithm(took);
        // Before anything is known, all are late enough to wait for something better.
        if early && log <= u64::from(self.base.load(Ordering::Relaxed)) {
            return;
        }
        self.sums.fetch_add((1 << COUNT) + log, Ordering::Relaxed);
    }

    /// Draws the conclusions from what was seen, if it is time for that. Called by each worker once per tick; one of them does it.
    pub(crate) fn step(&self, now: u64) {
        let Ok(mut gradient) = self.gradient.try_lock() else {
            return;
        };
        if self.limit().is_none() {
            return;
        }
        let sums = self.sums.load(Ordering::Relaxed);
        let waiting = self.waiting.load(Ordering::Relaxed);
        let what = gradient.step(now, sums >> COUNT, mean(sums), waiting);
        if what == Step::Wait {
            return;
        }
        let sums = self.sums.swap(0, Ordering::Relaxed);
        let peak = self.peak.swap(waiting, Ordering::Relaxed);
        if what == Step::Judge {
            let took = mean(sums);
            gradient.judge(now, &Window { took, peak });
        }
        let base = gradient.base.map_or(UNKNOWN, |base| (base * SCALE) as u32);
        self.base.store(base, Ordering::Relaxed);
        self.limit.store(gradient.effective(), Ordering::Relaxed);
    }

    /// How many may wait in a queue for this server, so that nobody waits much longer than an answer takes; and whether that
    /// is a guess, since nothing has spoken against more.
    pub(crate) fn queue_room(&self) -> (u32, bool) {
        let gradient = self.gradient.lock().unwrap_or_else(PoisonError::into_inner);
        (gradient.limit as u32, gradient.is_starting)
    }
}

/// What was seen in one window.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The mean of the logarithms (to base 2) of the microseconds that they took.
    took: f64,
    /// The most requests that waited at once.
    peak: u32,
}

/// What is to be done with what was seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is too little.
    Wait,
    /// It is of the time before, and tells nothing.
    Forget,
    Judge,
}

/// How the limit moves. Pure: ticks are passed in.
#[derive(Debug)]
struct Gradient {
    limit: f64,
    /// What an answer takes when there is little to do.
    base: Option<f64>,
    /// What it takes now, under load.
    recent: Option<f64>,
    /// Nothing has spoken against more, ever.
    is_starting: bool,
    /// The base is what a look has found under the load that there is.
    is_sure: bool,
    /// The limit at the last look, or what it has grown to since. It shrinks to half of that without another look.
    anchor: f64,
    look: Look,
    /// How many were on their way before it.
    loaded: f64,
    /// The tick when this window began.
    began: u64,
    /// The tick from which on the limit is to be halved for a look, under lasting load.
    next_look: u64,
}

/// Whether the limit is halved to see what an answer takes then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    No,
    /// Since then, until no more are on their way than may be.
    Draining(u64),
    /// Until then, answers come that have waited behind more.
    Settling(u64),
    Measuring,
}

impl Gradient {
    fn new() -> Self {
        Self {
            limit: FIRST,
            base: None,
            recent: None,
            is_starting: true,
            is_sure: false,
            anchor: FIRST,
            look: Look::No,
            loaded: 1.0,
            began: 0,
            next_look: 0,
        }
    }

    /// The limit as it is now.
    fn effective(&self) -> u32 {
        let limit = match self.look {
            Look::No => self.limit,
            Look::Draining(_) | Look::Settling(_) | Look::Measuring => self.limit / 2.0,
        };
        // Positive and at most `MOST`.
        limit.max(1.0) as u32
    }

    /// What to do with the answers that came since the window began, and took so long, while so many wait for theirs.
    fn step(&mut self, now: u64, answers: u64, took: f64, waiting: u32) -> Step {
        let patience = (4 * self.answer()).max(SOON);
        match self.look {
            Look::Draining(since) => {
                if waiting > self.effective() {
                    if now.saturating_sub(since) < patience.max(4 * ticks(took)) {
                        return Step::Wait;
                    }
                    // They wait for something else than their turn, and a look would show nothing.
                    self.give_up_look(now);
                    self.began = now;
                    return Step::Forget;
                }
                self.look = Look::Settling(now + ticks(took).max(self.answer()) + 1);
                return Step::Wait;
            }
            Look::Settling(until) if now < until => return Step::Wait,
            Look::Settling(_) => {
                self.look = Look::Measuring;
                self.began = now;
                return Step::Forget;
            }
            Look::No | Look::Measuring => {}
        }
        let passed = now.saturating_sub(self.began);
        let is_looking = self.look == Look::Measuring;
        let enough = if is_looking { 2 * ENOUGH } else { ENOUGH };
        let whole = answers >= enough && passed >= self.answer().max(1);
        if whole || answers >= FEW && passed >= LONG {
            return Step::Judge;
        }
        if is_looking && passed >= patience.max(LONG) {
            self.give_up_look(now);
            self.began = now;
            return Step::Forget;
        }
        if !is_looking && passed >= patience && waiting >= self.effective() {
            // Nothing at all may also be a server that hangs: its share is bounded.
            if answers > 0 || self.limit < SILENT * self.anchor {
                self.limit = (self.limit * 1.5).min(MOST);
            }
            self.began = now;
            return Step::Forget;
        }
        Step::Wait
    }

    fn judge(&mut self, now: u64, window: &Window) {
        let passed = now.saturating_sub(self.began);
        self.began = now;
        if self.look == Look::Measuring {
            return self.looked(now, window);
        }
        let base = *self.base.get_or_insert(window.took);
        if f64::from(window.peak) <= self.limit / 2.0 {
            return self.is_idle(now, passed, base, window);
        }
        let recent = self.recent.unwrap_or(window.took);
        let recent = (recent + window.took) / 2.0;
        self.recent = Some(recent);
        let gradient = (TOLERANCE * (base - recent).exp2()).clamp(0.5, 1.0);
        let is_used = f64::from(window.peak) >= 0.8 * self.limit.floor();
        if self.is_starting && gradient >= 1.0 {
            if is_used {
                self.limit = (self.limit * 2.0).min(MOST);
                self.anchor = self.limit;
            }
            return;
        }
        self.is_starting = false;
        let target = self.limit * gradient + self.limit.sqrt() / 2.0;
        let next = ((self.limit + target) / 2.0).clamp(LEAST, MOST);
        if next < self.limit {
            if !self.is_sure || next < self.anchor / 2.0 {
                return self.begin_look(now, window.peak);
            }
            self.limit = next;
        } else if is_used {
            self.limit = next;
            self.anchor = self.anchor.max(next);
        }
        if now >= self.next_look {
            self.begin_look(now, window.peak);
        }
    }

    /// Half of the limit is not used: what answers take is normal. That may change, but congestion that begins must not pass
    /// for it. Whatever was learned of another time is slowly forgotten.
    fn is_idle(&mut self, now: u64, passed: u64, base: f64, window: &Window) {
        let weight = if window.took < base { 0.1 } else { 0.03 };
        self.base = Some(base + weight * (window.took - base));
        self.recent = None;
        self.is_sure = false;
        self.next_look = now + self.pause();
        if self.limit < FIRST {
            self.limit += (FIRST - self.limit) * (passed as f64 / 100.0).min(1.0);
        }
        self.anchor = self.limit;
    }

    /// Halves the limit, of which so many were used.
    fn begin_look(&mut self, now: u64, peak: u32) {
        self.loaded = f64::from(peak.max(1)).min(self.limit);
        self.look = Look::Draining(now);
    }

    /// The limit was halved, and this is what answers took.
    fn looked(&mut self, now: u64, window: &Window) {
        let before = self.base.unwrap_or(window.took);
        let sooner = self.recent.map_or(0.0, |recent| recent - window.took);
        self.base = Some(window.took);
        self.is_sure = true;
        // What would come of it if they did nothing but wait for each other.
        let fewer = self.loaded.log2() - f64::from(window.peak.max(1)).log2();
        if sooner > ALL_OF * fewer && fewer > LESS && self.limit >= 2.0 * LEAST {
            // Half as many, half the time: half is too many still.
            self.limit /= 2.0;
            self.anchor = self.limit;
            self.recent = Some(window.took);
            return self.begin_look(now, window.peak);
        }
        if sooner > PART_OF * fewer && fewer > LESS {
            self.anchor = self.limit;
        } else {
            // It was not the number that made them late.
            self.limit = self.limit.max(self.anchor);
        }
        self.end_look(now);
        if (window.took - before).abs() > LESS {
            // Something has changed: better to look twice.
            self.next_look = now + SOON;
        }
    }

    /// A look that shows nothing. Rather too many requests than refuse what could be answered.
    fn give_up_look(&mut self, now: u64) {
        self.base = self.recent.or(self.base);
        self.is_sure = true;
        self.limit = self.limit.max(self.anchor);
        self.end_look(now);
    }

    fn end_look(&mut self, now: u64) {
        self.recent = None;
        self.look = Look::No;
        self.next_look = now + self.pause();
    }

    /// What an answer takes now, in ticks, rounded up.
    fn answer(&self) -> u64 {
        ticks(self.recent.or(self.base).unwrap_or(0.0))
    }

    /// Ten to fifteen seconds, so that servers are not looked at together.
    fn pause(&self) -> u64 {
        let spread = self.base.unwrap_or(0.0).to_bits() % 50;
        PAUSE + spread
    }
}

/// The mean of what was summed up.
fn mean(sums: u64) -> f64 {
    let answers = (sums >> COUNT).max(1);
    (sums & ((1 << COUNT) - 1)) as f64 / answers as f64 / SCALE
}

/// So many microseconds, as a logarithm, in ticks; rounded up.
fn ticks(took: f64) -> u64 {
    (took.exp2() / TICK.as_micros() as f64).ceil() as u64
}

/// The logarithm to base 2 of the microseconds, times [`SCALE`].
fn logarithm(took: Duration) -> u64 {
    let micros = took.as_micros().max(1) as f64;
    (micros.log2() * SCALE) as u64
}

const OFF: u32 = u32::MAX;
/// In place of a logarithm: larger than any.
const UNKNOWN: u32 = u32::MAX;
/// Bits of the sum of logarithms: room for more answers in a window than there can be.
const COUNT: u32 = 40;
const SCALE: f64 = 1024.0;

/// The limit before anything is known. It doubles while nothing speaks against more.
const FIRST: f64 = 32.0;
const LEAST: f64 = 2.0;
const MOST: f64 = 1_000_000.0;
/// How much longer than with little to do an answer may take: half as long again, as much as a queue makes of it in which one
/// in three waits.
const TOLERANCE: f64 = 1.5;
/// Answers that make a window.
const ENOUGH: u64 = 10;
/// Answers that make do after [`LONG`], in ticks.
const FEW: u64 = 3;
const LONG: u64 = 100;
/// Ticks between two looks under lasting load.
const PAUSE: u64 = 100;
/// Ticks in which something is answered, or it is not work that requests wait for.
const SOON: u64 = 10;
/// How far the limit grows while nothing at all is answered.
const SILENT: f64 = 4.0;
/// How much sooner they come in a look, as parts of what it would be if they did nothing but wait for each other.
const ALL_OF: f64 = 0.85;
const PART_OF: f64 = 0.4;
/// A fourteenth more or less, as a logarithm.
const LESS: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};

    /// A server that works on `slots` requests at once, each for `millis` or so, while the others wait in it.
    struct Model {
        learned: Learned,
        slots: usize,
        millis: f64,
        /// How much longer a request takes for each that is in the server.
        strain: f64,
        random: u64,
        now: u64,
        /// Requests without a place; those with one that are not worked on, by when they got it.
        queue: u64,
        inside: VecDeque<u64>,
        working: BinaryHeap<Reverse<(u64, u64)>>,
        tick: u64,
    }

    #[derive(Debug, Default)]
    struct Seen {
        done: u64,
        refused: u64,
        /// The sum of what they took, in milliseconds.
        took: u64,
        limits: Vec<u32>,
    }

    impl Model {
        fn new(slots: usize, millis: f64) -> Self {
            let learned = Learned::new();
            learned.switch(true);
            Self {
                learned,
                slots,
                millis,
                strain: 0.0,
                random: 0x9e37_79b9_7f4a_7c15,
                now: 0,
                queue: 0,
                inside: VecDeque::new(),
                working: BinaryHeap::new(),
                tick: 0,
            }
        }

        /// From 0 to 1.
        fn random(&mut self) -> f64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// That many requests a second come for that many seconds; milliseconds are the steps.
        fn run(&mut self, rate: f64, seconds: u64) -> Seen {
            let mut seen = Seen::default();
            for _ in 0..seconds * 1000 {
                self.now += 1;
                while let Some(&Reverse((end, came))) = self.working.peek()
                    && end <= self.now
                {
                    self.working.pop();
                    let took = self.now - came;
                    self.learned.finish();
                    self.learned.observe(Duration::from_millis(took), false);
                    seen.done += 1;
                    seen.took += took;
                }
                // As many as come in a millisecond by chance.
                let mut chance = self.random();
                let mean: f64 = rate / 1000.0;
                let mut share = (-mean).exp();
                let mut number = 0.0;
                while chance > share && number < 1000.0 {
                    chance -= share;
                    number += 1.0;
                    share *= mean / number;
                    let (room, is_guess) = self.learned.queue_room();
                    if self.queue < u64::from(room) || is_guess {
                        self.queue += 1;
                    } else {
                        seen.refused += 1;
                    }
                }
                while self.queue > 0 && self.learned.try_begin() == Some(true) {
                    self.queue -= 1;
                    self.inside.push_back(self.now);
                }
                while self.working.len() < self.slots
                    && let Some(came) = self.inside.pop_front()
                {
                    let strain =
                        1.0 + self.strain * (self.inside.len() + self.working.len()) as f64;
                    // Spread as answers are: few quick ones, some that take much longer.
                    let spread = 0.5 - 0.5 * self.random().max(1e-9).ln();
                    let took = (self.millis * strain * spread).max(1.0) as u64;
                    self.working.push(Reverse((self.now + took, came)));
                }
                if self.now.is_multiple_of(100) {
                    self.tick += 1;
                    self.learned.step(self.tick);
                    seen.limits.push(self.learned.limit().unwrap());
                }
            }
            seen
        }

        fn capacity(&self) -> f64 {
            self.slots as f64 * 1000.0 / self.millis
        }
    }

    /// Cold, and at three times what it can do.
    #[test]
    fn a_server_that_gets_too_much_does_what_it_can_and_answers_in_time() {
        for (slots, millis) in [(1, 4.0), (10, 20.0), (10, 200.0), (100, 50.0)] {
            let mut model = Model::new(slots, millis);
            let capacity = model.capacity();
            model.run(3.0 * capacity, 40);
            let seen = model.run(3.0 * capacity, 40);
            let mean = seen.took as f64 / seen.done as f64;
            let share = seen.done as f64 / (40.0 * capacity);
            let told = format!(
                "{slots} x {millis} ms: {share:.2} of {capacity}/s in {mean:.0} ms, {:?}",
                seen.limits
            );
            assert!(share > 0.9, "{told}");
            // A server for one request at a time has places for three or four, for the gaps between them.
            assert!(mean < 5.0 * millis, "{told}");
        }
    }

    #[test]
    fn a_server_that_has_enough_to_do_refuses_nothing() {
        for (slots, millis) in [(10, 20.0), (10, 200.0), (100, 50.0), (400, 1000.0)] {
            let mut model = Model::new(slots, millis);
            let capacity = model.capacity();
            model.run(0.5 * capacity, 20);
            for load in [0.5, 0.8] {
                let seen = model.run(load * capacity, 60);
                let share = seen.refused as f64 / (seen.refused + seen.done) as f64;
                assert!(
                    share < 0.001,
                    "{slots} x {millis} ms at {load}: {} refused, {:?}",
                    seen.refused,
                    seen.limits
                );
            }
        }
    }

    #[test]
    fn requests_that_wait_for_something_else_are_not_held_back() {
        // A server that has thousands under way at once, without effort.
        let mut model = Model::new(100_000, 300.0);
        model.run(5000.0, 30);
        let seen = model.run(5000.0, 60);
        assert!(
            seen.refused < 30,
            "{} refused, {:?}",
            seen.refused,
            seen.limits
        );
    }

    #[test]
    fn what_takes_longer_than_before_is_normal_after_a_while() {
        let mut model = Model::new(200, 10.0);
        model.run(1500.0, 30);
        // Other pages are asked for: ten times the work, and it still suffices.
        model.millis = 100.0;
        model.run(1500.0, 30);
        let seen = model.run(1500.0, 30);
        let share = seen.refused as f64 / (seen.refused + seen.done) as f64;
        assert!(share < 0.01, "{share} refused, {:?}", seen.limits);
    }

    #[test]
    fn a_server_that_does_less_the_more_it_has_is_kept_from_that() {
        let mut model = Model::new(10, 20.0);
        model.strain = 0.01;
        let capacity = model.capacity();
        model.run(1.5 * capacity, 40);
        let seen = model.run(3.0 * capacity, 40);
        let share = seen.done as f64 / (40.0 * capacity / 1.1);
        assert!(share > 0.9, "{share} {:?}", seen.limits);
    }

    /// Pages for a few people at a time, from a server that has no limit of its own; now and then a flood of what is cheap.
    #[test]
    fn cheap_answers_do_not_make_the_usual_ones_look_late() {
        let mut model = Model::new(1000, 100.0);
        model.run(150.0, 20);
        for _ in 0..5 {
            model.millis = 2.0;
            model.run(1000.0, 3);
            model.millis = 100.0;
            let seen = model.run(250.0, 8);
            let share = seen.refused as f64 / (seen.refused + seen.done) as f64;
            assert!(share < 0.01, "{share} refused, {:?}", seen.limits);
        }
    }

    /// Long polls: nothing comes for as long as nothing happens.
    #[test]
    fn where_nothing_is_answered_the_limit_grows_within_bounds() {
        let mut gradient = Gradient::new();
        for now in 1..200 {
            let full = gradient.effective();
            assert_ne!(gradient.step(now, 0, 0.0, full), Step::Judge);
        }
        assert!(
            (4.0 * FIRST..6.0 * FIRST).contains(&gradient.limit),
            "{gradient:?}"
        );
        let mut gradient = Gradient::new();
        for now in 1..200 {
            gradient.step(now, 0, 0.0, gradient.effective() - 1);
        }
        assert_eq!(gradient.limit, FIRST, "it is not full");
    }

    #[test]
    fn a_look_that_shows_nothing_is_given_up() {
        let mut gradient = Gradient::new();
        (gradient.limit, gradient.is_starting) = (40.0, false);
        gradient.begin_look(1, 40);
        assert_eq!(gradient.effective(), 20);
        for now in 2..50 {
            gradient.step(now, 0, 0.0, 40);
        }
        assert_eq!(
            (gradient.look, gradient.effective() >= 40),
            (Look::No, true)
        );
    }

    #[test]
    fn early_answers_tell_nothing_and_late_ones_do() {
        let learned = Learned::new();
        learned.switch(true);
        learned.base.store(
            u32::try_from(logarithm(Duration::from_millis(10))).unwrap(),
            Ordering::Relaxed,
        );
        learned.observe(Duration::from_millis(1), true);
        assert_eq!(learned.sums.load(Ordering::Relaxed) >> COUNT, 0);
        learned.observe(Duration::from_millis(100), true);
        assert_eq!(learned.sums.load(Ordering::Relaxed) >> COUNT, 1);
    }

    #[test]
    fn nothing_is_counted_or_refused_where_nothing_is_learned() {
        let learned = Learned::new();
        assert_eq!(learned.try_begin(), Some(false));
        assert!(learned.has_room());
        assert_eq!(
            (learned.limit(), learned.waiting.load(Ordering::Relaxed)),
            (None, 0)
        );
    }

    #[test]
    fn the_limit_is_never_exceeded() {
        let learned = Learned::new();
        learned.switch(true);
        let let_in = (0..100)
            .filter(|_| learned.try_begin() == Some(true))
            .count();
        assert_eq!(let_in, FIRST as usize);
        assert!(!learned.has_room());
        learned.finish();
        assert!(learned.has_room());
    }
}
