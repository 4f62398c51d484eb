//! `balance = "random"`: of two servers drawn at random, the one with fewer requests in flight for its weight.

use super::Candidate;
use super::load::Load;
use super::two_choices::Draw;

/// Compares the loads of two; see [`two_choices`](super::two_choices) for why two are enough.
#[derive(Debug)]
pub(crate) struct LessLoaded {
    draw: Draw,
}

impl LessLoaded {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed),
        }
    }

    /// See [`Balancer::pick`](super::Balancer::pick). Loads are compared without the request that is to be placed, and
    /// of equals the first drawn is taken: the draw has heeded the weights already, so idle servers get exactly their
    /// shares, where `least_connections` gives the heaviest one everything.
    pub(super) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let (first, second) = self.draw.two(candidates, ready)?;
        Some(second.map_or(first, |second| less_loaded(candidates, first, second)))
    }
}

/// The second only if it is less loaded than the first.
pub(super) fn less_loaded<C: Candidate>(candidates: &[C], first: usize, second: usize) -> usize {
    let load = |index: usize| candidates.get(index).map(Load::now);
    match load(first).zip(load(second)) {
        Some((one, other)) if other.compare(one).is_lt() => second,
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Sample, assert_shares};
    use super::*;

    #[test]
    fn the_less_loaded_of_two_is_picked() {
        let candidates = [Sample::new(0, 1, 2), Sample::new(1, 2, 3)];
        let mut policy = LessLoaded::new(1);
        for _ in 0..100 {
            assert_eq!(
                policy.pick(&candidates, |_| true),
                Some(1),
                "3/2 is less than 2/1"
            );
        }
        assert_eq!(policy.pick(&candidates, |index| index == 0), Some(0));
    }

    #[test]
    fn the_most_loaded_of_all_gets_nothing() {
        let mut candidates = Sample::with_weights(&[1; 10]);
        candidates[4].in_flight = 1;
        let mut policy = LessLoaded::new(1);
        for _ in 0..1000 {
            assert_ne!(policy.pick(&candidates, |_| true), Some(4));
        }
    }

    #[test]
    fn the_longest_queue_of_a_thousand_servers_stays_short() {
        let mut candidates = Sample::with_weights(&[1; 1000]);
        let mut policy = LessLoaded::new(7);
        for _ in 0..20_000 {
            let index = policy.pick(&candidates, |_| true).unwrap();
            candidates[index].in_flight += 1;
        }
        let longest = candidates.iter().map(|candidate| candidate.in_flight).max();
        assert!(longest <= Some(24), "{longest:?} where 20 is the mean");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2))]

        #[test]
        fn idle_servers_get_shares_equal_to_their_weights(
            weights in prop::collection::vec(1..4_u32, 1..5),
            seed in any::<u64>(),
        ) {
            let candidates = Sample::with_weights(&weights);
            let mut policy = LessLoaded::new(seed);
            assert_shares(&candidates, (0..3_000_000).map(|_| policy.pick(&candidates, |_| true).unwrap()));
        }

    }

    proptest! {
        /// Requests that stay are spread nearly in proportion to the weights.
        #[test]
        fn long_requests_follow_the_weights(weights in prop::collection::vec(1..50_u32, 2..8), seed in any::<u64>()) {
            let mut candidates = Sample::with_weights(&weights);
            let mut policy = LessLoaded::new(seed);
            let sum: u32 = weights.iter().sum();
            for _ in 0..sum * 20 {
                let index = policy.pick(&candidates, |_| true).unwrap();
                candidates[index].in_flight += 1;
            }
            for candidate in &candidates {
                let share = candidate.weight * 20;
                prop_assert!(candidate.in_flight.abs_diff(share) <= 4 + share / 5, "{:?}", candidates);
            }
        }
    }
}
