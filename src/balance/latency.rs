//! How long a server takes to answer, as `peak_ewma` sees it.
//!
//! The estimate is that of Finagle's and Linkerd's Peak EWMA: an average that forgets exponentially and jumps to every
//! peak at once, so that a server that begins to struggle is left alone after one slow answer, and believed again only
//! after seconds of quick ones (`com.twitter.finagle.loadbalancer.PeakEwma`; `tower::load::PeakEwma`).

use std::cell::Cell;

/// The estimate of one server, by one worker. Lives as long as the worker knows the server: a reload does not lose it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency(Cell<Option<Sample>>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The estimate then, in microseconds.
    micros: f64,
    /// When the last exchange ended, in microseconds.
    at: u64,
}

impl Latency {
    /// Takes account of an exchange that ended at `now_micros` and took `micros`. A `failed` one counts as a second at
    /// least and never lowers the estimate: a server that answers errors is often the quickest of all, and would draw
    /// all traffic to itself. A second is far above what a sound server takes, and is forgotten within the minute.
    pub(crate) fn observe(&self, now_micros: u64, micros: u64, failed: bool) {
        // No server takes less than a microsecond, and one that took none would be preferred at any load.
        let mut micros = micros.max(1) as f64;
        if failed {
            let before = self.estimate(now_micros).unwrap_or_default();
            micros = micros.max(FAILURE).max(before);
        } else if let Some(last) = self.0.get().filter(|last| micros < last.micros) {
            let kept = last.kept(now_micros);
            micros = last.micros * kept + micros * (1.0 - kept);
        }
        self.0.set(Some(Sample {
            micros,
            at: now_micros,
        }));
    }

    /// The estimate in microseconds; `None` without a sample, or long after the last one. It sinks while there is no
    /// traffic, so a server that was slow once is tried again in the end.
    pub(crate) fn estimate(&self, now_micros: u64) -> Option<f64> {
        let last = self.0.get()?;
        let known = now_micros.saturating_sub(last.at) < FORGOTTEN;
        known.then(|| last.micros * last.kept(now_micros))
    }
}

impl Sample {
    /// The part of the estimate that time has not worn off yet.
    fn kept(self, now_micros: u64) -> f64 {
        let elapsed = now_micros.saturating_sub(self.at);
        (-(elapsed as f64) / TAU).exp()
    }
}

/// What a failed exchange counts at least, in microseconds.
const FAILURE: f64 = 1e6;
/// After these microseconds a sample has lost all but 1/e of its weight: ten seconds, the default of Finagle.
const TAU: f64 = 1e7;
/// After ten times as long nothing is known any more. An estimate that only went on sinking would come so near to zero
/// that a server which was away for minutes got every request at its return, however many it had in flight.
const FORGOTTEN: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn nothing_is_known_without_a_sample_and_long_after_the_last() {
        let latency = Latency::default();
        assert_eq!(latency.estimate(5), None);
        latency.observe(5, 700, false);
        assert_eq!(latency.estimate(5), Some(700.0));
        assert!(latency.estimate(90 * SECOND).is_some());
        assert_eq!(latency.estimate(5 + FORGOTTEN), None);
    }

    #[test]
    fn a_peak_counts_at_once_and_fades_slowly() {
        let latency = Latency::default();
        latency.observe(0, 1000, false);
        latency.observe(SECOND, 90_000, false);
        assert_eq!(latency.estimate(SECOND), Some(90_000.0));
        latency.observe(2 * SECOND, 1000, false);
        let after_a_second = latency.estimate(2 * SECOND).unwrap();
        assert!(
            (81_000.0..82_000.0).contains(&after_a_second),
            "{after_a_second}"
        );
        for tenth in 20..1000 {
            latency.observe(tenth * SECOND / 10, 1000, false);
        }
        let in_the_end = latency.estimate(100 * SECOND).unwrap();
        assert!((900.0..1100.0).contains(&in_the_end), "{in_the_end}");
    }

    #[test]
    fn the_estimate_sinks_without_traffic() {
        let latency = Latency::default();
        latency.observe(0, 1000, false);
        let after_tau = latency.estimate(10 * SECOND).unwrap();
        assert!((367.0..369.0).contains(&after_tau), "{after_tau}");
    }

    #[test]
    fn a_failure_counts_as_a_second_however_quick_it_was() {
        let latency = Latency::default();
        latency.observe(0, 50, true);
        assert_eq!(latency.estimate(0), Some(1e6));
        latency.observe(0, 30 * SECOND, true);
        assert_eq!(latency.estimate(0), Some(3e7));
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let latency = Latency::default();
        latency.observe(9 * SECOND, 1000, false);
        latency.observe(SECOND, 500, false);
        assert_eq!(latency.estimate(0), Some(1000.0));
    }

    proptest! {
        #[test]
        fn the_estimate_is_a_number_between_the_samples(
            samples in prop::collection::vec((any::<u32>(), any::<u64>(), any::<bool>()), 1..20),
        ) {
            let latency = Latency::default();
            let mut now = 0;
            for (gap, micros, failed) in samples {
                now += u64::from(gap);
                let before = latency.estimate(now);
                latency.observe(now, micros, failed);
                let after = latency.estimate(now).unwrap();
                prop_assert!(after.is_finite() && after >= micros.max(1) as f64 * 0.999);
                if failed {
                    prop_assert!(after >= 1e6 && before.is_none_or(|before| after >= before));
                }
            }
        }
    }
}
