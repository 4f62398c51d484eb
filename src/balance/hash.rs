//! `balance = "hash"`: requests with the same key go to the same server, as long as it is ready and not overloaded.
//!
//! Where a key belongs is written in a [`Table`]. A key whose server is not ready, or has more than its part of the load,
//! goes to a server of the following slots, which are different ones for each key; it comes back when its own server can
//! take it. The limit on the load is that of consistent hashing with bounded loads (V. Mirrokni, M. Thorup and
//! M. Zadimoghaddam, SODA 2018): one popular key cannot bring down its server while others idle.

use std::sync::Arc;

use super::load::Load;
use super::{Candidate, Table};

/// Follows a table, and remembers how much of the upstream is ready.
#[derive(Debug)]
pub(crate) struct ByKey {
    table: Arc<Table>,
    ready: ReadyWeight,
}

impl ByKey {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Self {
            ready: ReadyWeight::new(table.weight()),
            table,
        }
    }

    /// See [`Balancer::pick`](super::Balancer::pick). The candidates are those that the table was built from, in the same
    /// order; `in_flight` is the load of them all.
    pub(super) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
        key: u64,
        in_flight: u32,
    ) -> Option<usize> {
        self.ready.look(candidates, &ready);
        let mut spare: Option<(usize, Load)> = None;
        for index in self.table.walk(key).take(STEPS) {
            let Some(candidate) = candidates.get(index).filter(|_| ready(index)) else {
                continue;
            };
            if is_within_bound(candidate, in_flight, self.ready.sum) {
                return Some(index);
            }
            let load = Load::with_one_more(candidate);
            if spare.is_none_or(|(_, least)| load.compare(least).is_lt()) {
                spare = Some((index, load));
            }
        }
        match spare {
            Some((index, _)) => Some(index),
            None => self.one_of_all(candidates, ready, key),
        }
    }

    /// For where so few are ready that the walk came by none.
    fn one_of_all<C: Candidate>(
        &self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
        key: u64,
    ) -> Option<usize> {
        let all = candidates.iter().enumerate();
        let ranked = all
            .filter(|(index, _)| ready(*index))
            .map(|(index, candidate)| (index, self.table.rank(key, index, candidate.weight())));
        let (index, _) = ranked.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        Some(index)
    }
}

/// Whether a server may take one more: with it, it has no more than max(8, ⌈1.25 · (all in flight + 1) · weight / sum of
/// weights⌉). Without the first term, two requests that a browser sends at once would go to two servers when nothing else
/// is going on.
fn is_within_bound<C: Candidate>(candidate: &C, in_flight: u32, sum: u64) -> bool {
    let (own, weight) = (candidate.in_flight(), u128::from(candidate.weight()));
    // n < ⌈x⌉ is n < x for a whole n; both sides are multiplied by four times the sum.
    own < FLOOR || u128::from(own) * 4 * u128::from(sum) < 5 * (u128::from(in_flight) + 1) * weight
}

/// The sum of the weights of the ready servers, among which the load is shared: were it that of all servers, a quarter of
/// them down would leave the others above their bounds, and keys would lose their places. Kept up to date by looking at
/// one server with each pick, so it is as old as the last full round.
#[derive(Debug)]
struct ReadyWeight {
    sum: u64,
    /// The sum of this round so far.
    partial: u64,
    next: usize,
}

impl ReadyWeight {
    fn new(sum: u64) -> Self {
        Self {
            sum,
            partial: 0,
            next: 0,
        }
    }

    fn look<C: Candidate>(&mut self, candidates: &[C], ready: impl Fn(usize) -> bool) {
        if let Some(candidate) = candidates.get(self.next).filter(|_| ready(self.next)) {
            self.partial += u64::from(candidate.weight());
        }
        self.next += 1;
        if self.next >= candidates.len() {
            self.sum = self.partial;
            (self.partial, self.next) = (0, 0);
        }
    }
}

/// So many requests any server may have, however quiet the upstream is.
const FLOOR: u32 = 8;
/// How far a walk goes. At a thousand servers it comes by 120 of them, as good as never by none that is below its bound.
const STEPS: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::{Sample, assert_shares, key};
    use super::*;

    /// Servers of these weights and a policy for them.
    fn servers(weights: &[u32]) -> (Vec<Sample>, ByKey) {
        let identities: Vec<_> = (0..weights.len())
            .map(|id| format!("10.0.0.{id}:80"))
            .collect();
        let servers: Vec<_> = identities
            .iter()
            .map(String::as_str)
            .zip(weights.iter().copied())
            .collect();
        (
            Sample::with_weights(weights),
            ByKey::new(Arc::new(Table::new(&servers))),
        )
    }

    fn keys(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|number| key(&number.to_le_bytes()))
    }

    fn all(_: usize) -> bool {
        true
    }

    #[test]
    fn random_keys_are_spread_by_weight() {
        let (candidates, mut policy) = servers(&[1, 2, 3, 4]);
        assert_shares(
            &candidates,
            keys(4_000_000).map(|key| policy.pick(&candidates, all, key, 0).unwrap()),
        );
    }

    #[test]
    fn a_key_stays_where_it_is_while_others_come_and_go() {
        let (mut candidates, mut policy) = servers(&[1, 2, 1, 3, 1]);
        let homes: HashMap<_, _> = keys(1000)
            .map(|key| (key, policy.pick(&candidates, all, key, 0).unwrap()))
            .collect();
        candidates[0].in_flight = 50;
        candidates[3].in_flight = 7;
        for key in keys(1000) {
            let index = policy
                .pick(&candidates, |index| index != 2, key, 57)
                .unwrap();
            let home = homes[&key];
            assert!(
                index == home || home == 2 || home == 0,
                "{home} is ready and within its bound"
            );
            assert!(index != 2 && index != 0);
        }
    }

    #[test]
    fn the_keys_of_a_server_that_is_not_ready_spread_over_all_others() {
        let (candidates, mut policy) = servers(&[1; 10]);
        let lost: Vec<_> = keys(100_000)
            .filter(|key| policy.pick(&candidates, all, *key, 0) == Some(4))
            .collect();
        let mut counts = [0_usize; 10];
        for key in &lost {
            let index = policy
                .pick(&candidates, |index| index != 4, *key, 0)
                .unwrap();
            assert_eq!(
                policy.pick(&candidates, |index| index != 4, *key, 0),
                Some(index)
            );
            counts[index] += 1;
        }
        let share = lost.len() / 9;
        assert_eq!(counts[4], 0);
        let others = counts.iter().enumerate().filter(|(index, _)| *index != 4);
        assert!(
            others
                .clone()
                .all(|(_, count)| count.abs_diff(share) < share / 5),
            "{counts:?}"
        );
    }

    #[test]
    fn a_hot_key_stays_within_the_bounds() {
        let (mut candidates, mut policy) = servers(&[1, 1, 2, 1, 5]);
        let hot = key(b"hot");
        for in_flight in 0..1000 {
            let index = policy.pick(&candidates, all, hot, in_flight).unwrap();
            candidates[index].in_flight += 1;
            let weight = f64::from(candidates[index].weight);
            let bound = (1.25 * f64::from(in_flight + 1) * weight / 10.0)
                .ceil()
                .max(8.0);
            assert!(
                f64::from(candidates[index].in_flight) <= bound,
                "{candidates:?}"
            );
        }
    }

    #[test]
    fn a_few_parallel_requests_stay_together() {
        let (mut candidates, mut policy) = servers(&[1; 20]);
        let home = policy.pick(&candidates, all, 77, 0).unwrap();
        for in_flight in 0..8 {
            assert_eq!(policy.pick(&candidates, all, 77, in_flight), Some(home));
            candidates[home].in_flight += 1;
        }
        assert_ne!(policy.pick(&candidates, all, 77, 8), Some(home));
        candidates[home].in_flight -= 1;
        assert_eq!(policy.pick(&candidates, all, 77, 7), Some(home));
    }

    #[test]
    fn keys_keep_their_places_under_load_while_half_of_the_servers_are_down() {
        let (mut candidates, mut policy) = servers(&[1; 10]);
        let up = |index: usize| index < 5;
        for candidate in &mut candidates[..5] {
            candidate.in_flight = 100;
        }
        for key in keys(10) {
            policy.pick(&candidates, up, key, 500).unwrap();
        }
        for key in keys(1000) {
            let home = policy.pick(&candidates, up, key, 0).unwrap();
            assert_eq!(policy.pick(&candidates, up, key, 500), Some(home));
        }
    }

    #[test]
    fn where_all_are_over_their_bounds_the_least_loaded_is_taken() {
        let (mut candidates, mut policy) = servers(&[1, 1, 1]);
        for (candidate, in_flight) in candidates.iter_mut().zip([90, 80, 95]) {
            candidate.in_flight = in_flight;
        }
        assert_eq!(policy.pick(&candidates, all, 7, 0), Some(1));
    }

    #[test]
    fn the_last_ready_ones_of_a_thousand_share_the_keys() {
        let (candidates, mut policy) = servers(&[1; 1000]);
        let mut counts = HashMap::new();
        for key in keys(20_000) {
            let index = policy
                .pick(&candidates, |index| index == 17 || index == 900, key, 0)
                .unwrap();
            *counts.entry(index).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 2);
        assert!(
            counts.values().all(|count| (9_000..11_000).contains(count)),
            "{counts:?}"
        );
        assert_eq!(policy.pick(&candidates, |_| false, 3, 0), None);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let (mut candidates, mut policy) = servers(&[u32::MAX; 50]);
        for candidate in &mut candidates {
            candidate.in_flight = u32::MAX;
        }
        assert!(policy.pick(&candidates, all, u64::MAX, u32::MAX).is_some());
    }

    proptest! {
        #[test]
        fn what_is_picked_is_ready_and_the_same_for_the_same_key(
            servers in prop::collection::vec((1..9_u32, any::<bool>()), 1..12),
            key in any::<u64>(),
        ) {
            let weights: Vec<_> = servers.iter().map(|server| server.0).collect();
            let (candidates, mut policy) = self::servers(&weights);
            let ready = |index: usize| servers[index].1;
            let index = policy.pick(&candidates, ready, key, 0);
            prop_assert_eq!(index.is_some(), servers.iter().any(|server| server.1));
            prop_assert!(index.is_none_or(ready));
            for _ in 0..20 {
                prop_assert_eq!(policy.pick(&candidates, ready, key, 0), index);
            }
            let home = policy.pick(&candidates, all, key, 0);
            prop_assert!(!home.is_some_and(ready) || home == index);
        }
    }
}
