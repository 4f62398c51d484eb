//! `balance = "round_robin"`: servers take turns, heavier ones more often, and never in bursts.
//!
//! With unequal weights it is the smooth rotation that nginx made known: each pick credits all ready servers with their
//! weight, takes the one with the most credit and charges it the sum of the credited weights. That looks at all
//! candidates, so with equal weights, where it amounts to going round in a circle, it only goes round in a circle.

use super::{Candidate, Random};

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Rotation {
    random: Random,
    /// Credit by [`Candidate::id`], in units of a weight divided by [`UNIT`].
    credits: Vec<i64>,
    circle: Option<Circle>,
}

/// The rotation while all weights are equal.
#[derive(Clone, Copy, Debug)]
struct Circle {
    /// Where the next search begins.
    next: usize,
    /// The weight that all have. A candidate with another one ends the circle, so a change of weights needs no notice.
    weight: u32,
}

impl Rotation {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            credits: Vec::new(),
            circle: None,
        }
    }

    /// See [`Balancer::pick`](super::Balancer::pick).
    pub(super) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match self.circle.map(|circle| circle.pick(candidates, &ready)) {
            Some(Turn::Of(index)) => {
                self.circle = self.circle.map(|circle| Circle {
                    next: index + 1,
                    ..circle
                });
                Some(index)
            }
            Some(Turn::Nobodys) => None,
            Some(Turn::Unequal) | None => self.pick_by_credit(candidates, ready),
        }
    }

    /// For a request that failed on whoever had its turn: any other, by weight. It costs nobody a turn, or a server that fails
    /// would be asked first by every request; and it is drawn, or the next in turn would get all that this one fails.
    pub(super) fn pick_instead<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut total = 0;
        let mut drawn = None;
        for (index, candidate) in candidates.iter().enumerate() {
            if ready(index) {
                let weight = u64::from(candidate.weight());
                total += weight;
                if self.random.below(total) < weight {
                    drawn = Some(index);
                }
            }
        }
        drawn
    }

    fn pick_by_credit<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        let mut total = 0;
        for (index, candidate) in candidates.iter().enumerate() {
            // Who is not ready gathers no credit, lest it be flooded when it comes back.
            if ready(index) {
                let weight = i64::from(candidate.weight()) * UNIT;
                let credit = self.credit(candidate);
                *credit += weight;
                total += weight;
                if best.is_none_or(|(_, most)| *credit > most) {
                    best = Some((index, *credit));
                }
            }
        }
        let (index, _) = best?;
        *self.credit(&candidates[index]) -= total;
        self.circle = Circle::of(candidates, index + 1);
        Some(index)
    }

    /// A server that was not seen before begins with a random part of one turn: workers that all began with none would
    /// send their first requests to the same servers.
    fn credit<C: Candidate>(&mut self, candidate: &C) -> &mut i64 {
        let id = candidate.id();
        while self.credits.len() <= id {
            let part = self.random.below(UNIT as u64) as i64;
            self.credits.push(part * i64::from(candidate.weight()));
        }
        &mut self.credits[id]
    }
}

/// What a circle answers.
enum Turn {
    Of(usize),
    Nobodys,
    /// There is a candidate of another weight: this is no circle any more.
    Unequal,
}

impl Circle {
    fn of<C: Candidate>(candidates: &[C], next: usize) -> Option<Self> {
        let (first, others) = candidates.split_first()?;
        let weight = first.weight();
        others
            .iter()
            .all(|other| other.weight() == weight)
            .then_some(Self { next, weight })
    }

    fn pick<C: Candidate>(self, candidates: &[C], ready: impl Fn(usize) -> bool) -> Turn {
        let (before, from) = candidates
            .split_at_checked(self.next)
            .unwrap_or((candidates, &[]));
        let ahead = (before.len()..).zip(from).chain((0..).zip(before));
        for (index, candidate) in ahead {
            if candidate.weight() != self.weight {
                return Turn::Unequal;
            }
            if ready(index) {
                return Turn::Of(index);
            }
        }
        Turn::Nobodys
    }
}

/// Makes credits finer than weights, so that servers of weight 1 too can begin with a part of a turn. Sums of weights fit:
/// a `u32` and 256 leave room for eight million servers in an `i64`.
const UNIT: i64 = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Sample;
    use super::*;

    fn counts(rotation: &mut Rotation, candidates: &[Sample], picks: usize) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for _ in 0..picks {
            counts[rotation.pick(candidates, |_| true).unwrap()] += 1;
        }
        counts
    }

    fn picks(rotation: &mut Rotation, candidates: &[Sample], picks: usize) -> Vec<usize> {
        (0..picks)
            .map(|_| rotation.pick(candidates, |_| true).unwrap())
            .collect()
    }

    #[test]
    fn equal_servers_take_turns_in_a_circle() {
        let candidates = Sample::with_weights(&[1; 4]);
        let taken = picks(&mut Rotation::new(5), &candidates, 12);
        assert!(
            taken.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 4),
            "{taken:?}"
        );
    }

    #[test]
    fn a_heavy_server_gets_no_bursts() {
        let candidates = Sample::with_weights(&[5, 1, 1]);
        for seed in 0..50 {
            let taken = picks(&mut Rotation::new(seed), &candidates, 70);
            assert_eq!(taken.iter().filter(|&&index| index == 0).count(), 50);
            let longest = taken.split(|&index| index != 0).map(<[usize]>::len).max();
            assert!(longest <= Some(5), "seed {seed}: {taken:?}");
            let others: Vec<_> = taken.iter().filter(|&&index| index != 0).collect();
            assert!(
                others.windows(2).all(|pair| pair[0] != pair[1]),
                "seed {seed}: {taken:?}"
            );
        }
    }

    #[test]
    fn a_server_that_comes_back_is_not_flooded() {
        let candidates = Sample::with_weights(&[2, 1, 1]);
        let mut rotation = Rotation::new(3);
        for _ in 0..10_000 {
            rotation.pick(&candidates, |index| index != 1).unwrap();
        }
        let back = counts(&mut rotation, &candidates, 40);
        assert!((9..=12).contains(&back[1]), "{back:?}");
    }

    #[test]
    fn a_dead_server_burdens_no_single_neighbour() {
        let candidates = Sample::with_weights(&[1; 4]);
        let mut rotation = Rotation::new(3);
        let mut counts = [0; 4];
        for _ in 0..3_000 {
            counts[rotation.pick(&candidates, |index| index != 1).unwrap()] += 1;
        }
        assert_eq!(counts, [1_000, 0, 1_000, 1_000]);
    }

    #[test]
    fn a_change_of_weights_is_noticed() {
        let mut candidates = Sample::with_weights(&[1; 3]);
        let mut rotation = Rotation::new(3);
        counts(&mut rotation, &candidates, 30);
        candidates[2].weight = 8;
        let unequal = counts(&mut rotation, &candidates, 1_000);
        assert!(unequal[2].abs_diff(800) <= 8, "{unequal:?}");
        candidates[2].weight = 1;
        counts(&mut rotation, &candidates, 1);
        assert_eq!(counts(&mut rotation, &candidates, 30), [10, 10, 10]);
        candidates.pop();
        assert_eq!(counts(&mut rotation, &candidates, 30), [15, 15]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let candidates = Sample::with_weights(&vec![u32::MAX; 1_000]);
        let mut rotation = Rotation::new(3);
        for _ in 0..100 {
            rotation.pick_by_credit(&candidates, |_| true).unwrap();
        }
    }

    #[test]
    fn a_failover_costs_nobody_a_turn_and_goes_to_all_by_weight() {
        let candidates = Sample::with_weights(&[1, 1, 3]);
        let mut rotation = Rotation::new(3);
        let mut instead = [0; 3];
        let mut turns = [0; 3];
        for _ in 0..10_000 {
            let first = rotation.pick(&candidates, |_| true).unwrap();
            turns[first] += 1;
            if first == 0 {
                let other = rotation.pick_instead(&candidates, |index| index != 0);
                instead[other.unwrap()] += 1;
            }
        }
        assert_eq!(turns, [2000, 2000, 6000]);
        assert_eq!(instead[0], 0);
        assert!((420..580).contains(&instead[1]), "{instead:?}");
        assert_eq!(rotation.pick_instead(&candidates, |_| false), None);
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(1..100_u32, 1..10), seed in any::<u64>()) {
            let candidates = Sample::with_weights(&weights);
            let sum: usize = weights.iter().map(|&weight| weight as usize).sum();
            let counts = counts(&mut Rotation::new(seed), &candidates, sum * 100);
            for (count, weight) in counts.iter().zip(&weights) {
                let share = *weight as usize * 100;
                prop_assert!(count.abs_diff(share) * 100 <= share, "{:?} for {:?}", counts, weights);
            }
        }

        #[test]
        fn no_equal_server_is_picked_twice_in_a_row_while_another_is_ready(
            ready in prop::collection::vec(any::<bool>(), 2..12),
            weight in 1..9_u32,
            seed in any::<u64>(),
        ) {
            let candidates = Sample::with_weights(&vec![weight; ready.len()]);
            let alive = ready.iter().filter(|&&ready| ready).count();
            prop_assume!(alive >= 2);
            let mut rotation = Rotation::new(seed);
            let taken: Vec<_> = (0..alive * 6).map(|_| rotation.pick(&candidates, |index| ready[index]).unwrap()).collect();
            prop_assert!(taken.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", taken);
            let mut by_credit = Rotation::new(seed);
            let taken: Vec<_> = (0..alive * 6).map(|_| by_credit.pick_by_credit(&candidates, |index| ready[index]).unwrap()).collect();
            prop_assert!(taken.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", taken);
        }

        /// Between two turns of a server there are no more picks than two rounds have.
        #[test]
        fn no_ready_server_starves(
            servers in prop::collection::vec((1..20_u32, any::<bool>()), 1..8),
            seed in any::<u64>(),
        ) {
            let weights: Vec<u32> = servers.iter().map(|server| server.0).collect();
            let candidates = Sample::with_weights(&weights);
            let round: u32 = servers.iter().filter(|server| server.1).map(|server| server.0).sum();
            let mut rotation = Rotation::new(seed);
            let mut waited = vec![0; servers.len()];
            for _ in 0..round * 5 {
                let index = rotation.pick(&candidates, |index| servers[index].1).unwrap();
                for (other, waited) in waited.iter_mut().enumerate() {
                    *waited = if other == index || !servers[other].1 { 0 } else { *waited + 1 };
                }
                prop_assert!(waited.iter().all(|&picks| picks <= 2 * round), "{:?}", waited);
            }
        }
    }
}
