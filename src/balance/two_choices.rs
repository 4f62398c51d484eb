//! Two candidates drawn at random, for the policies that take the better one of two.
//!
//! That is nearly as good as to look at all: with the less loaded of two, the longest queue of n servers grows as
//! log log n instead of log n / log log n, and a third look gains little more (M. Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", IEEE TPDS 12(10), 2001). It costs the same for four servers and for a thousand, and
//! workers that decide at the same moment from the same loads do not all choose the same server.

use super::{Candidate, Random};

/// Draws with probabilities in proportion to the weights.
#[derive(Debug)]
pub(super) struct Draw {
    random: Random,
    /// No weight seen so far is greater. 0: none was seen.
    heaviest: u32,
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            heaviest: 0,
        }
    }

    /// A ready candidate and, unless it is the only one, another. `None` only if none is ready.
    pub(super) fn two<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<(usize, Option<usize>)> {
        let first = self.one(candidates, &ready)?;
        let others = candidates.len() > 1;
        let other = |index| index != first && ready(index);
        let second = others.then(|| self.one(candidates, other)).flatten();
        Some((first, second))
    }

    /// Draws evenly and takes a candidate with the probability `weight / heaviest`, else draws again. Both this and what
    /// is done after too many misses are exact, so together they are.
    fn one<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.heaviest == 0 {
            self.heaviest = candidates.iter().map(C::weight).max()?;
        }
        for _ in 0..TRIES {
            let index = self.random.below(candidates.len() as u64) as usize;
            if self.takes(candidates.get(index)?.weight()) && ready(index) {
                return Some(index);
            }
        }
        self.one_of_all(candidates, ready)
    }

    fn takes(&mut self, weight: u32) -> bool {
        // Weights may change; after one that is greater than all before, the draw is exact again.
        self.heaviest = self.heaviest.max(weight);
        weight == self.heaviest || self.random.below(u64::from(self.heaviest)) < u64::from(weight)
    }

    /// Looks at all, for where few are ready or one is much heavier than the others: each candidate replaces the one
    /// before with the probability of its part in the weights so far.
    fn one_of_all<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut drawn = None;
        let mut sum = 0;
        for (index, candidate) in candidates.iter().enumerate() {
            if ready(index) {
                let weight = u64::from(candidate.weight());
                sum += weight;
                if self.random.below(sum) < weight {
                    drawn = Some(index);
                }
            }
        }
        drawn
    }
}

/// With a quarter of the servers ready, or weights that are a quarter of the greatest one on average, one draw in ten
/// thousand misses so often that all candidates are looked at.
const TRIES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Sample, assert_shares};
    use super::*;

    #[test]
    fn both_ways_of_drawing_follow_the_weights() {
        let candidates = Sample::with_weights(&[1, 2, 3, 4]);
        let mut draw = Draw::new(3);
        let drawn = (0..3_000_000).map(|_| draw.one(&candidates, |_| true).unwrap());
        assert_shares(&candidates, drawn);
        let mut draw = Draw::new(3);
        let drawn = (0..3_000_000).map(|_| draw.one_of_all(&candidates, |_| true).unwrap());
        assert_shares(&candidates, drawn);
    }

    #[test]
    fn one_that_is_ready_among_many_is_found() {
        let candidates = Sample::with_weights(&[1; 5000]);
        let mut draw = Draw::new(3);
        assert_eq!(
            draw.two(&candidates, |index| index == 4321),
            Some((4321, None))
        );
        assert_eq!(draw.two(&candidates, |_| false), None);
        assert_eq!(draw.two(&candidates[..0], |_| true), None);
    }

    #[test]
    fn light_ones_beside_a_very_heavy_one_are_drawn() {
        let mut candidates = Sample::with_weights(&[1; 1000]);
        candidates[500].weight = 1_000_000;
        let (first, second) = Draw::new(3).two(&candidates, |_| true).unwrap();
        assert_eq!(first, 500);
        assert_ne!(second.unwrap(), 500);
    }

    #[test]
    fn a_weight_that_grows_is_noticed() {
        let mut candidates = Sample::with_weights(&[1, 1]);
        let mut draw = Draw::new(3);
        draw.one(&candidates, |_| true).unwrap();
        candidates[1].weight = 3;
        let drawn = (0..3_000_000).map(|_| draw.one(&candidates, |_| true).unwrap());
        assert_shares(&candidates, drawn);
    }

    proptest! {
        #[test]
        fn the_two_are_ready_and_distinct(
            servers in prop::collection::vec((1..1000_u32, any::<bool>()), 0..12),
            seed in any::<u64>(),
        ) {
            let weights: Vec<u32> = servers.iter().map(|server| server.0).collect();
            let candidates = Sample::with_weights(&weights);
            let ready = servers.iter().filter(|server| server.1).count();
            let mut draw = Draw::new(seed);
            for _ in 0..20 {
                match draw.two(&candidates, |index| servers[index].1) {
                    None => prop_assert_eq!(ready, 0),
                    Some((first, None)) => prop_assert!(servers[first].1 && ready == 1),
                    Some((first, Some(second))) => {
                        prop_assert!(first != second && servers[first].1 && servers[second].1);
                    }
                }
            }
        }
    }
}
