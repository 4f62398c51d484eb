//! `balance = "least_connections"`: the server with the fewest requests in flight for its weight.

use std::cmp::Ordering;

use super::load::Load;
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
    ///
    /// Up to 64 candidates, it is the least loaded of all. Of more, 64 ready ones are drawn, and it is the least loaded of
    /// those. That is as good: with d choices the longest queue of n servers exceeds the mean by log log n / log d
    /// (Y. Azar, A. Broder, A. Karlin and E. Upfal, "Balanced Allocations", 1999), less than one at d = 64. And it is
    /// better when many workers decide at once, as they do not all find the same server. The price: as each is looked at
    /// with 64 of n picks, no share is greater than 64/n, which is less than its due for a server whose weight is more
    /// than sixty times the mean.
    pub(super) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, Load)> = None;
        let mut tied = 1;
        let mut walk = Walk::over(candidates.len(), &mut self.random);
        let all = std::iter::repeat_with(|| walk.step()).take(candidates.len());
        for index in all.filter(|index| ready(*index)).take(COMPARED) {
            let load = Load::with_one_more(candidates.get(index)?);
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

/// Leads to each of `count` indices once, from one to the one that is `stride` further, round and round. Where not all will
/// be looked at, start and stride are random. Were it the next one always, the neighbours of servers that are down
/// together, as the machines of one rack are, would be looked at much more often than others.
struct Walk {
    count: usize,
    stride: usize,
    at: usize,
}

impl Walk {
    fn over(count: usize, random: &mut Random) -> Self {
        if count <= COMPARED {
            let (stride, at) = (1, 0);
            return Self { count, stride, at };
        }
        // Its multiples lead to all indices, as a prime has no factor in common with a number below it.
        let prime = PRIMES.get(random.below(PRIMES.len() as u64) as usize);
        let stride = prime.copied().unwrap_or(1) as usize % count;
        let at = random.below(count as u64) as usize;
        Self { count, stride, at }
    }

    fn step(&mut self) -> usize {
        let at = self.at;
        self.at += self.stride;
        if self.at >= self.count {
            self.at -= self.count;
        }
        at
    }
}

/// Above so many candidates only so many are compared. A scan of a thousand takes 15 µs when it misses the caches, as it
/// does after the work on other requests.
const COMPARED: usize = 64;
/// Any that are greater than the number of servers will do, and have different remainders.
const PRIMES: [u32; 16] = [
    2427256577, 2486084813, 2702220557, 2821154957, 2834777479, 2859831641, 2903913653, 2993072699,
    3088245401, 3204418367, 3244611641, 3946332937, 4041858053, 4058038399, 4095423053, 4166465431,
];

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
    fn all_of_a_few_and_all_that_are_ready_of_many_are_compared() {
        for count in [64, 65, 300] {
            let mut candidates = Sample::with_weights(&vec![1; count]);
            for candidate in &mut candidates {
                candidate.in_flight = 5;
            }
            candidates[count / 2].in_flight = 4;
            let mut loads = LeastLoaded::new(1);
            let near = |index: usize| index.abs_diff(count / 2) < 32;
            for _ in 0..1000 {
                assert_eq!(loads.pick(&candidates, near), Some(count / 2));
            }
        }
    }

    /// Also where half of them are down, all in one place.
    #[test]
    fn the_loads_of_a_thousand_stay_even() {
        for ready in [0..1000, 0..500, 400..700] {
            let mut candidates = Sample::with_weights(&[1; 1000]);
            let mut loads = LeastLoaded::new(7);
            for _ in 0..ready.len() * 20 {
                let index = loads
                    .pick(&candidates, |index| ready.contains(&index))
                    .unwrap();
                candidates[index].in_flight += 1;
            }
            let in_flight = candidates[ready]
                .iter()
                .map(|candidate| candidate.in_flight);
            let (least, most) = (in_flight.clone().min(), in_flight.max());
            assert!(
                least >= Some(18) && most <= Some(21),
                "{least:?} to {most:?}"
            );
        }
    }

    #[test]
    fn long_requests_follow_the_weights_of_hundreds() {
        let weights: Vec<u32> = (0..300).map(|id| 1 + id % 5).collect();
        let mut candidates = Sample::with_weights(&weights);
        let mut loads = LeastLoaded::new(7);
        for _ in 0..weights.iter().sum::<u32>() * 20 {
            let index = loads.pick(&candidates, |_| true).unwrap();
            candidates[index].in_flight += 1;
        }
        for candidate in &candidates {
            let share = candidate.weight * 20;
            assert!(
                candidate.in_flight.abs_diff(share) <= 1 + candidate.weight,
                "{candidate:?}"
            );
        }
    }

    #[test]
    fn a_thousand_idle_ones_have_the_same_chance() {
        let candidates = Sample::with_weights(&[1; 1000]);
        let mut loads = LeastLoaded::new(7);
        let mut counts = vec![0; 1000];
        for _ in 0..200_000 {
            counts[loads.pick(&candidates, |_| true).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (130..270).contains(count)),
            "{counts:?}"
        );
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

        #[test]
        fn a_walk_comes_by_everything_once(count in 1..2000_usize, seed in any::<u64>()) {
            let mut walk = Walk::over(count, &mut Random(seed));
            let mut seen = vec![false; count];
            for _ in 0..count {
                let index = walk.step();
                prop_assert!(!std::mem::replace(&mut seen[index], true));
            }
        }
    }
}
