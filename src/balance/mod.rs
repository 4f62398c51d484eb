//! How an upstream chooses the server of a request. Knows candidates, not servers.

mod hash;
mod latency;
mod least_connections;
mod load;
mod maglev;
mod peak_ewma;
mod random;
mod round_robin;
mod two_choices;

use std::sync::Arc;

pub(crate) use hash::ByKey;
pub(crate) use latency::Latency;
pub(crate) use least_connections::LeastLoaded;
pub(crate) use maglev::{Table, key};
pub(crate) use peak_ewma::SoonerDone;
pub(crate) use random::LessLoaded;
pub(crate) use round_robin::Rotation;

/// What a policy needs to know of a server.
pub(crate) trait Candidate {
    /// Its share relative to the others; at least 1.
    fn weight(&self) -> u32;

    /// The requests that it is working on now.
    fn in_flight(&self) -> u32;

    /// Its place in its upstream, which does not change while the upstream is the same.
    fn id(&self) -> usize;

    /// How long it takes to answer, where that is measured; only `peak_ewma` looks at it.
    fn latency(&self) -> Option<&Latency> {
        None
    }
}

/// What a policy may want to know of the moment and the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occasion {
    /// Microseconds since some fixed instant; only `peak_ewma` looks at it.
    pub(crate) now: u64,
    /// The hash of the request's key; only `hash` looks at it.
    pub(crate) key: u64,
    /// Requests in flight over all servers of the upstream; only `hash` looks at it.
    pub(crate) in_flight: u32,
}

/// A policy and its memory. Owned by one worker: `&mut`, no atomics of its own.
#[derive(Debug)]
pub(crate) enum Balancer {
    RoundRobin(Rotation),
    LeastConnections(LeastLoaded),
    Random(LessLoaded),
    PeakEwma(SoonerDone),
    Hash(ByKey),
}

impl Balancer {
    /// Takes turns, by weight. Workers get different seeds, lest they all begin with the same server.
    pub(crate) fn round_robin(seed: u64) -> Self {
        Self::RoundRobin(Rotation::new(seed))
    }

    /// Fewest requests in flight, by weight. Workers get different seeds, lest all break a tie alike.
    pub(crate) fn least_connections(seed: u64) -> Self {
        Self::LeastConnections(LeastLoaded::new(seed))
    }

    /// Fewer requests in flight of two drawn by weight. Workers get different seeds, lest all draw the same.
    pub(crate) fn random(seed: u64) -> Self {
        Self::Random(LessLoaded::new(seed))
    }

    /// Less latency and fewer requests in flight of two drawn by weight. Workers get different seeds, as above.
    pub(crate) fn peak_ewma(seed: u64) -> Self {
        Self::PeakEwma(SoonerDone::new(seed))
    }

    /// The same server for the same key. The table is that of the candidates, in the same order.
    pub(crate) fn hash(table: Arc<Table>) -> Self {
        Self::Hash(ByKey::new(table))
    }

    /// The index of one of the candidates for whose index `ready` holds; `None` only if there are none. A failover asks
    /// again with a `ready` that excludes what was tried. Allocates nothing, except when it sees a candidate first.
    pub(crate) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
        occasion: Occasion,
    ) -> Option<usize> {
        let Occasion {
            now,
            key,
            in_flight,
        } = occasion;
        match self {
            Self::RoundRobin(rotation) => rotation.pick(candidates, ready),
            Self::LeastConnections(loads) => loads.pick(candidates, ready),
            Self::Random(loads) => loads.pick(candidates, ready),
            Self::PeakEwma(costs) => costs.pick(candidates, ready, now),
            Self::Hash(by_key) => by_key.pick(candidates, ready, key, in_flight),
        }
    }

    /// The same for another attempt of a request.
    pub(crate) fn pick_instead<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
        occasion: Occasion,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(rotation) => rotation.pick_instead(candidates, ready),
            _ => self.pick(candidates, ready, occasion),
        }
    }
}

/// Random enough to spread load (SplitMix64); not for secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// Less than `end`; 0 if `end` is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The high half of the product is evenly spread over 0..end, without a division.
        ((u128::from(mix(self.0)) * u128::from(end)) >> 64) as u64
    }
}

/// Changes half of the bits when one is changed; no two numbers give the same.
fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A server for the tests of the policies.
#[cfg(test)]
#[derive(Clone, Debug)]
struct Sample {
    id: usize,
    weight: u32,
    in_flight: u32,
    latency: Latency,
}

#[cfg(test)]
impl Sample {
    fn new(id: usize, weight: u32, in_flight: u32) -> Self {
        Self {
            id,
            weight,
            in_flight,
            latency: Latency::default(),
        }
    }

    fn with_weights(weights: &[u32]) -> Vec<Self> {
        (0..)
            .zip(weights)
            .map(|(id, &weight)| Self::new(id, weight, 0))
            .collect()
    }
}

#[cfg(test)]
impl Candidate for Sample {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn id(&self) -> usize {
        self.id
    }

    fn latency(&self) -> Option<&Latency> {
        Some(&self.latency)
    }
}

/// Each candidate is picked as often as its weight says, within one percent. A share of 250 000 picks is off by a fifth of
/// that on average.
#[cfg(test)]
fn assert_shares(candidates: &[Sample], picks: impl Iterator<Item = usize>) {
    let mut counts = vec![0_u64; candidates.len()];
    picks.for_each(|index| counts[index] += 1);
    let weights: Vec<_> = candidates
        .iter()
        .map(|candidate| u64::from(candidate.weight))
        .collect();
    for (count, weight) in counts.iter().zip(&weights) {
        let share = counts.iter().sum::<u64>() * weight / weights.iter().sum::<u64>();
        assert!(
            share >= 250_000 && count.abs_diff(share) <= share / 100,
            "{counts:?} for {weights:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every policy, for candidates up to that number.
    fn all_policies(seed: u64, count: usize) -> [Balancer; 5] {
        let identities: Vec<_> = (0..count).map(|id| id.to_string()).collect();
        let servers: Vec<_> = identities
            .iter()
            .map(|identity| (identity.as_str(), 1))
            .collect();
        [
            Balancer::round_robin(seed),
            Balancer::least_connections(seed),
            Balancer::random(seed),
            Balancer::peak_ewma(seed),
            Balancer::hash(Arc::new(Table::new(&servers))),
        ]
    }

    fn occasion(number: u64) -> Occasion {
        Occasion {
            now: number,
            key: key(&number.to_le_bytes()),
            in_flight: 0,
        }
    }

    proptest! {
        #[test]
        fn what_is_picked_is_ready_and_none_means_none(
            servers in prop::collection::vec((1..9_u32, 0..99_u32, any::<bool>()), 0..12),
            seed in any::<u64>(),
        ) {
            let candidates: Vec<Sample> =
                (0..).zip(&servers).map(|(id, &(weight, in_flight, _))| Sample::new(id, weight, in_flight)).collect();
            for mut balancer in all_policies(seed, servers.len()) {
                for number in 0..40 {
                    match balancer.pick(&candidates, |index| servers[index].2, occasion(number)) {
                        Some(index) => prop_assert!(servers[index].2),
                        None => prop_assert!(!servers.iter().any(|server| server.2)),
                    }
                }
            }
        }

        /// Many candidates, of which few are ready.
        #[test]
        fn what_is_ready_is_found_among_hundreds(
            ready in prop::collection::vec(prop::bool::weighted(0.01), 0..500),
            seed in any::<u64>(),
        ) {
            let candidates = Sample::with_weights(&vec![1; ready.len()]);
            for mut balancer in all_policies(seed, ready.len()) {
                for number in 0..10 {
                    match balancer.pick(&candidates, |index| ready[index], occasion(number)) {
                        Some(index) => prop_assert!(ready[index]),
                        None => prop_assert!(!ready.contains(&true)),
                    }
                }
            }
        }

        #[test]
        fn candidates_and_weights_may_change_between_picks(
            rounds in prop::collection::vec(prop::collection::vec((0..20_usize, 1..1000_u32), 1..8), 1..20),
            seed in any::<u64>(),
        ) {
            for mut balancer in all_policies(seed, 8) {
                for (number, round) in (0..).zip(&rounds) {
                    let candidates: Vec<Sample> = round.iter().map(|&(id, weight)| Sample::new(id, weight, 0)).collect();
                    let picked = balancer.pick(&candidates, |_| true, occasion(number));
                    prop_assert!(picked.is_some_and(|index| index < candidates.len()));
                }
            }
        }
    }

    #[test]
    fn no_idle_server_of_equal_weight_starves() {
        for count in [1, 2, 7, 80] {
            let candidates = Sample::with_weights(&vec![1; count]);
            for mut balancer in all_policies(5, count) {
                let mut counts = vec![0; count];
                for number in 0..count as u64 * 200 {
                    counts[balancer
                        .pick(&candidates, |_| true, occasion(number))
                        .unwrap()] += 1;
                }
                assert!(
                    counts.iter().all(|count| (120..300).contains(count)),
                    "{counts:?}"
                );
            }
        }
    }

    #[test]
    fn workers_begin_with_different_servers() {
        let candidates = Sample::with_weights(&[1; 8]);
        for policy in [
            Balancer::round_robin,
            Balancer::least_connections,
            Balancer::random,
            Balancer::peak_ewma,
        ] {
            let mut first = [0; 8];
            for worker in 0..8_000 {
                let picked = policy(worker).pick(&candidates, |_| true, Occasion::default());
                first[picked.unwrap()] += 1;
            }
            assert!(
                first.iter().all(|count| (800..1200).contains(count)),
                "{first:?}"
            );
        }
    }
}
