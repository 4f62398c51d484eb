//! The numbers of one worker. Each has a single writer, so that adding is a plain load and store: no locked
//! instruction, no cache line that moves between cores. A scrape reads them from another thread, hence atomics.
//!
//! Whoever holds several of these in a struct aligns that struct to a cache line (64 bytes): the shards of two workers
//! are separate allocations and then share none.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows. One thread writes it; additions of a second one may be lost, nothing worse.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0
            .store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. Signed, because what one worker begins another may end: only the sum over the
/// workers has a meaning.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// Adds, or takes away what is negative.
    pub(crate) fn add(&self, more: i64) {
        self.0
            .store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets in seconds. They begin below a millisecond, since a proxied request on one host takes
/// less, and end where a timeout of the defaults has struck long ago.
pub(crate) const BOUNDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// The same in microseconds. Signed 32 bits compare four at a time on every x86-64 and ARM, unsigned 64 do not.
const BOUNDS_MICROS: [i32; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How many buckets there are: one for each bound, one for all above.
const BUCKETS: usize = BOUNDS.len() + 1;

/// How often durations fell into which bucket, and their sum, to the microsecond. (Nanoseconds would overflow within
/// weeks where thousands of long streams end on one worker.)
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_micros: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let micros = duration
            .as_secs()
            .saturating_mul(1_000_000)
            .saturating_add(u64::from((duration.subsec_nanos() + 500) / 1_000));
        self.buckets[bucket(micros)].add(1);
        self.sum_micros.add(micros);
    }

    /// What was observed so far. Taken while the worker goes on: sum and buckets may differ by the last observation.
    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: self.buckets.each_ref().map(Counter::get),
            sum_micros: self.sum_micros.get(),
        }
    }
}

/// The bucket of a duration: how many bounds it exceeds. Without a branch that depends on the duration.
fn bucket(micros: u64) -> usize {
    let micros = i32::try_from(micros).unwrap_or(i32::MAX);
    let exceeded: i32 = BOUNDS_MICROS
        .iter()
        .map(|bound| i32::from(micros > *bound))
        .sum();
    // As many as there are bounds at most; the minimum spares the caller's bounds check.
    (exceeded as usize).min(BUCKETS - 1)
}

/// The contents of histograms, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    sum_micros: u64,
}

impl HistogramSnapshot {
    /// Adds what another worker saw.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.wrapping_add(*more);
        }
        self.sum_micros = self.sum_micros.wrapping_add(other.sum_micros);
    }

    /// How many were observed.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All observed durations together, in seconds.
    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// For each bound, in seconds, how many were at most that long.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS
            .iter()
            .zip(&self.buckets)
            .scan(0, |below, (bound, count)| {
                *below += count;
                Some((*bound, *below))
            })
    }

    /// The duration that a share of all observed ones (0.95 for the 95th percentile) did not exceed, estimated inside
    /// its bucket; what is above the last bound counts as that bound. `None` before the first observation.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * count as f64;
        let mut lower = 0.0;
        let mut below = 0.0;
        for (upper, bucket) in BOUNDS.iter().zip(&self.buckets) {
            let bucket = *bucket as f64;
            if bucket > 0.0 && below + bucket >= rank {
                let inside = ((rank - below) / bucket).clamp(0.0, 1.0);
                return Some(Duration::from_secs_f64(lower + (upper - lower) * inside));
            }
            below += bucket;
            lower = *upper;
        }
        Some(Duration::from_secs_f64(lower))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for (index, bound) in BOUNDS_MICROS.iter().enumerate() {
            let micros = u64::try_from(*bound).unwrap();
            assert_eq!(bucket(micros - 1), index);
            assert_eq!(bucket(micros), index);
            assert_eq!(bucket(micros + 1), index + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn both_lists_of_bounds_say_the_same() {
        for (seconds, micros) in BOUNDS.iter().zip(&BOUNDS_MICROS) {
            assert_eq!((seconds * 1e6).round(), f64::from(*micros));
        }
    }

    #[test]
    fn counters_and_gauges_add() {
        let counter = Counter::default();
        counter.add(2);
        counter.add(3);
        assert_eq!(counter.get(), 5);
        let gauge = Gauge::default();
        gauge.add(1);
        gauge.add(-3);
        assert_eq!(gauge.get(), -2);
    }

    #[test]
    fn quantiles_are_estimated_inside_their_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for _ in 0..90 {
            histogram.observe(Duration::from_millis(2));
        }
        for _ in 0..10 {
            histogram.observe(Duration::from_secs(600));
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.count(), 100);
        let median = seen.quantile(0.5).unwrap();
        assert!(
            median > Duration::from_millis(1) && median < Duration::from_micros(2_500),
            "{median:?}"
        );
        assert_eq!(seen.quantile(0.95), Some(Duration::from_secs(60)));
        assert!((seen.sum_seconds() - 6000.18).abs() < 1e-6);
    }

    #[test]
    fn shards_fill_whole_cache_lines() {
        assert_eq!(align_of::<Histogram>(), 64);
        assert_eq!(size_of::<Histogram>() % 64, 0);
    }

    proptest! {
        #[test]
        fn any_duration_is_counted_once(nanos in any::<u64>(), secs in any::<u64>()) {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_nanos(nanos));
            histogram.observe(Duration::from_secs(secs));
            prop_assert_eq!(histogram.snapshot().count(), 2);
            prop_assert_eq!(histogram.snapshot().cumulative().count(), BOUNDS.len());
        }
    }
}
