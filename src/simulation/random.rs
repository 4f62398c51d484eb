//! Numbers that are the same for the same seed.

use std::cell::Cell;
use std::time::Duration;

/// splitmix64.
pub(super) struct Random(Cell<u64>);

impl Random {
    /// `stream` tells apart what must not influence each other under one seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(Cell::new(seed.wrapping_mul(0x9e37_79b9) ^ (stream << 48)))
    }

    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True in so many of a hundred cases.
    pub(super) fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Exponentially distributed around `mean`, ten times that at most.
    pub(super) fn around(&self, mean: Duration) -> Duration {
        let uniform = (self.below(1 << 32) + 1) as f64 / (1_u64 << 32) as f64;
        mean.mul_f64((-uniform.ln()).min(10.0))
    }

    pub(super) fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    pub(super) fn seconds(&self, least: u64, most: u64) -> Duration {
        self.millis(least * 1000, most * 1000)
    }
}
