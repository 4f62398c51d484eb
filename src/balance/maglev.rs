//! Which server a key belongs to: a table of slots, each of which names a server.
//!
//! The table is that of Maglev (D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, §3.4). Each server has a preference, a permutation of all slots that follows from its identity alone; the servers
//! take turns, and each takes the slot it prefers among those that are free. So shares are even, a look-up is one access,
//! and when a server is added or removed, few slots change hands beside its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::mix;

/// Where each key belongs. The same on every machine and after every start, whatever the order in which the servers are
/// listed. Built once for all workers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Places of servers in the list that the table was built from; [`FREE`] only if there are none.
    slots: Box<[u16]>,
    /// By place: what tells the servers apart in [`Table::rank`].
    hashes: Box<[u64]>,
    /// The sum over all servers.
    weight: u64,
}

impl Table {
    /// The table of servers with these identities and weights. A server of no weight counts as one of the least.
    pub(crate) fn new(servers: &[(&str, u32)]) -> Self {
        let weights = servers.iter().map(|(_, weight)| u64::from(*weight));
        Self {
            slots: fill(servers),
            hashes: servers
                .iter()
                .map(|(identity, _)| hash(identity, RANK))
                .collect(),
            weight: weights.sum(),
        }
    }

    /// The place of the server that `key` belongs to, then those of the following slots. A server may come up many times.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let slot = usize::try_from(key % SLOTS as u64).unwrap_or_default();
        let (before, from) = self
            .slots
            .split_at_checked(slot)
            .unwrap_or((&[], &self.slots));
        from.iter().chain(before).map(|place| usize::from(*place))
    }

    /// The server with the least rank among some is another for each key; how often it is the one at `place` goes by its
    /// weight, and if it drops out, its keys spread over all the others: rendezvous hashing (D. G. Thaler and C. V.
    /// Ravishankar 1998), weighted as a race of exponential clocks. For looking at every server, which is seldom needed.
    pub(super) fn rank(&self, key: u64, place: usize, weight: u32) -> f64 {
        let hash = self.hashes.get(place).copied().unwrap_or_default();
        let uniform = ((mix(key ^ hash) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(weight)
    }

    /// The sum of the weights of all servers.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }
}

/// The hash by which requests are assigned to slots.
pub(crate) fn key(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

fn fill(servers: &[(&str, u32)]) -> Box<[u16]> {
    let mut slots = vec![FREE; SLOTS].into_boxed_slice();
    // More servers than there are places cannot be told apart in a slot; those get no keys.
    let places = (0..FREE).zip(servers);
    let mut sorted: Vec<_> = places.map(|(place, server)| (server, place)).collect();
    sorted.sort_unstable();
    let mut takers: Vec<Taker> = sorted
        .iter()
        .map(|((identity, weight), place)| Taker::new(identity, *weight, *place))
        .collect();
    let mut turns: BinaryHeap<_> = (0..takers.len()).map(|taker| Reverse((0, taker))).collect();
    for _ in 0..SLOTS {
        let Some(mut turn) = turns.peek_mut() else {
            break;
        };
        let Reverse((due, number)) = &mut *turn;
        let Some(taker) = takers.get_mut(*number) else {
            break;
        };
        taker.take(&mut slots);
        *due = taker.due();
    }
    slots
}

/// A server while the slots are given away.
struct Taker {
    place: u16,
    weight: u32,
    /// The slot that it asks for next.
    wanted: usize,
    /// From there to the one after; as the number of slots is prime, that leads to all of them.
    skip: usize,
    taken: u32,
}

impl Taker {
    fn new(identity: &str, weight: u32, place: u16) -> Self {
        let below = |end: usize, seed| (hash(identity, seed) % end as u64) as usize;
        Self {
            place,
            weight: weight.max(1),
            wanted: below(SLOTS, OFFSET),
            skip: below(SLOTS - 1, SKIP) + 1,
            taken: 0,
        }
    }

    /// Takes the slot that it prefers among the free ones, of which there must be one.
    fn take(&mut self, slots: &mut [u16]) {
        for _ in 0..SLOTS {
            let slot = slots.get_mut(self.wanted);
            self.wanted = (self.wanted + self.skip) % SLOTS;
            if let Some(slot @ &mut FREE) = slot {
                *slot = self.place;
                self.taken += 1;
                return;
            }
        }
    }

    /// When its next turn is: after n slots at n + ½ over its weight, the method of Sainte-Laguë, so that each share is
    /// rounded to the nearest slot, not down. (The first turn comes before all that, so that nobody goes without.) A
    /// positive float is ordered as its bits are, and a division gives the same bits everywhere.
    fn due(&self) -> u64 {
        ((f64::from(self.taken) + 0.5) / f64::from(self.weight)).to_bits()
    }
}

fn hash(identity: &str, seed: u64) -> u64 {
    xxh3_64_with_seed(identity.as_bytes(), seed)
}

/// A prime, as the paper demands, and its smaller one: with a thousand servers, shares are right within two percent.
const SLOTS: usize = 65_537;
/// No place.
const FREE: u16 = u16::MAX;
// Seeds. To change one is to move all keys of everybody.
const OFFSET: u64 = 1;
const SKIP: u64 = 2;
const RANK: u64 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identities(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("10.0.{}.{}:8080", number / 250, number % 250))
            .collect()
    }

    fn equal(identities: &[String]) -> Table {
        let servers: Vec<_> = identities
            .iter()
            .map(|identity| (identity.as_str(), 1))
            .collect();
        Table::new(&servers)
    }

    fn slots_by_place(table: &Table, servers: usize) -> Vec<usize> {
        let mut counts = vec![0; servers];
        for place in &table.slots {
            counts[usize::from(*place)] += 1;
        }
        counts
    }

    /// The part of the slots that are not the same server's in both.
    fn moved(identities: &[String], before: &Table, others: &[String], after: &Table) -> f64 {
        let pairs = before.slots.iter().zip(&after.slots);
        let moved = pairs
            .filter(|(one, other)| identities[usize::from(**one)] != others[usize::from(**other)]);
        moved.count() as f64 / SLOTS as f64
    }

    #[test]
    fn equal_servers_have_equally_many_slots() {
        for count in [1, 3, 10, 100, 1000] {
            let counts = slots_by_place(&equal(&identities(count)), count);
            let least = SLOTS / count;
            assert!(
                counts
                    .iter()
                    .all(|slots| (least..=least + 1).contains(slots)),
                "{count}"
            );
        }
    }

    /// What one version assigns, the next must assign too.
    #[test]
    fn placement_is_the_same_for_ever() {
        let servers = [("10.0.0.1:80", 1), ("10.0.0.2:80", 2), ("[fd00::7]:80", 3)];
        let table = Table::new(&servers);
        let owners = ["", "a", "203.0.113.7", "/index.html", "session-5"]
            .map(|text| table.walk(key(text.as_bytes())).next().unwrap());
        assert_eq!(
            (key(b"a"), owners),
            (0xe6c6_32b6_1e96_4e1f, [1, 2, 1, 1, 1])
        );
    }

    #[test]
    fn removing_or_adding_one_of_many_moves_little_beside_its_own() {
        for count in [2, 3, 5, 10, 20, 100] {
            let all = identities(count);
            let table = equal(&all);
            for removed in [0, count / 2, count - 1] {
                let mut others = all.clone();
                others.remove(removed);
                let moved = moved(&all, &table, &others, &equal(&others));
                let share = 1.0 / count as f64;
                assert!(
                    moved >= share * 0.99 && moved <= share * 1.5 + 0.01,
                    "{moved} of {count}"
                );
            }
        }
    }

    #[test]
    fn more_servers_than_places_do_no_harm() {
        let identities = identities(70_000);
        let table = equal(&identities);
        assert!(table.slots.iter().all(|place| *place != FREE));
        assert_eq!(Table::new(&[]).walk(5).next(), Some(usize::from(FREE)));
    }

    #[test]
    fn equal_identities_and_weights_of_nought_do_no_harm() {
        let counts = slots_by_place(&Table::new(&[("a", 1), ("a", 1), ("b", 0)]), 3);
        assert!(counts.iter().all(|slots| *slots > 20_000), "{counts:?}");
    }

    #[test]
    fn ranks_follow_the_weights() {
        let table = Table::new(&[("a", 1), ("b", 1)]);
        let wins = (0..100_000)
            .filter(|key| table.rank(*key, 0, 3) < table.rank(*key, 1, 1))
            .count();
        assert!((74_000..76_000).contains(&wins), "{wins}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(1..1000_u32, 1..20)) {
            let identities = identities(weights.len());
            let servers: Vec<_> = identities.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let counts = slots_by_place(&Table::new(&servers), servers.len());
            let sum: u32 = weights.iter().sum();
            for (slots, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*weight) * SLOTS as f64 / f64::from(sum);
                prop_assert!((*slots as f64 - share).abs() <= 2.0, "{:?} for {:?}", counts, weights);
            }
        }

        #[test]
        fn the_order_of_the_servers_does_not_matter(
            weights in prop::collection::vec(1..9_u32, 1..20),
            turn in 0..20_usize,
        ) {
            let identities = identities(weights.len());
            let servers: Vec<_> = identities.iter().map(String::as_str).zip(weights).collect();
            let mut turned = servers.clone();
            turned.rotate_left(turn % servers.len());
            turned.reverse();
            let (table, other) = (Table::new(&servers), Table::new(&turned));
            let pairs = table.slots.iter().zip(&other.slots);
            for (one, other) in pairs {
                prop_assert_eq!(servers[usize::from(*one)], turned[usize::from(*other)]);
            }
        }
    }
}
