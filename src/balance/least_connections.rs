//! `balance = "least_connections"`: the server with the fewest requests in flight for its weight.

use std::cmp::Ordering;

use super::{Candidate, Random};

/// Compares loads; remembers only how to break ties.
#[derive(Debug)]
pub(crate) struct LeastLoaded {
    random: Random,
}

impl LeastLoaded {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
        }
    }

    /// See [`Balancer::pick`](super::Balancer::pick). Among equals all have the same chance: if it were always the first,
    /// whatever comes in a quiet hour would go to one server.
    pub(super) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, Load)> = None;
        let mut tied = 1;
        for (index, candidate) in candidates.iter().enumerate() {
            if !ready(index) {
                continue;
            }
            let load = Load::with_one_more(candidate);
            let taken = match best.map(|(_, least)| load.compare(least)) {
                None | Some(Ordering::Less) => {
                    tied = 1;
                    true
                }
                Some(Ordering::Equal) => {
                    tied += 1;
                    self.random.below(tied) == 0
                }
                Some(Ordering::Greater) => false,
            };
            if taken {
                best = Some((index, load));
            }
        }
        best.map(|(index, _)| index)
    }
}

/// Requests per weight, as a fraction.
#[derive(Clone, Copy)]
struct Load {
    requests: u64,
    weight: u64,
}

impl Load {
    /// The load with the request that is to be placed: of two idle servers, the heavier one comes first.
    fn with_one_more<C: Candidate>(candidate: &C) -> Self {
        Self {
            requests: u64::from(candidate.in_flight()) + 1,
            weight: u64::from(candidate.weight()),
        }
    }

    /// By cross multiplication: the product of a number up to 2³² and one below it fits.
    fn compare(self, other: Self) -> Ordering {
        (self.requests * other.weight).cmp(&(other.requests * self.weight))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Sample;
    use super::*;

    #[test]
    fn the_least_loaded_is_picked() {
        let mut candidates = Sample::with_weights(&[1, 1, 1]);
        for (candidate, in_flight) in candidates.iter_mut().zip([3, 1, 2]) {
            candidate.in_flight = in_flight;
        }
        let mut loads = LeastLoaded::new(1);
        assert_eq!(loads.pick(&candidates, |_| true), Some(1));
        assert_eq!(loads.pick(&candidates, |index| index != 1), Some(2));
        assert_eq!(loads.pick(&candidates, |index| index == 0), Some(0));
        assert_eq!(loads.pick(&candidates, |_| false), None);
    }

    #[test]
    fn the_heavier_of_two_idle_servers_comes_first() {
        let candidates = Sample::with_weights(&[1, 3]);
        assert_eq!(LeastLoaded::new(1).pick(&candidates, |_| true), Some(1));
    }

    #[test]
    fn ties_are_broken_evenly() {
        let mut candidates = Sample::with_weights(&[1, 1, 2, 1, 1]);
        candidates[2].in_flight = 1; // 2/2 ties with 1/1
        candidates[4].in_flight = 9;
        let mut loads = LeastLoaded::new(7);
        let mut counts = [0; 5];
        for _ in 0..40_000 {
            counts[loads.pick(&candidates, |_| true).unwrap()] += 1;
        }
        assert_eq!(counts[4], 0);
        assert!(
            counts[..4]
                .iter()
                .all(|count| (9_700..10_300).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut candidates = Sample::with_weights(&[u32::MAX, u32::MAX]);
        candidates[0].in_flight = u32::MAX;
        candidates[1].in_flight = u32::MAX - 1;
        assert_eq!(LeastLoaded::new(1).pick(&candidates, |_| true), Some(1));
    }

    proptest! {
        /// Requests that stay are spread in proportion to the weights.
        #[test]
        fn long_requests_follow_the_weights(weights in prop::collection::vec(1..50_u32, 1..8), seed in any::<u64>()) {
            let mut candidates = Sample::with_weights(&weights);
            let mut loads = LeastLoaded::new(seed);
            let sum: u32 = weights.iter().sum();
            for _ in 0..sum * 20 {
                let index = loads.pick(&candidates, |_| true).unwrap();
                candidates[index].in_flight += 1;
            }
            for candidate in &candidates {
                prop_assert!(candidate.in_flight.abs_diff(candidate.weight * 20) <= 1, "{:?}", candidates);
            }
        }
    }
}
