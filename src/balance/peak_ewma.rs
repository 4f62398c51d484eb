//! `balance = "peak_ewma"`: of two servers drawn at random, the one that will probably answer sooner.
//!
//! After Finagle's balancer of that name: the cost of a server is its [latency](super::Latency) times the requests that
//! it would have in flight, so a slow server gets less and a server that stalls gets nothing until it answers again.

use super::Candidate;
use super::random::less_loaded;
use super::two_choices::Draw;

/// Compares the costs of two; see [`two_choices`](super::two_choices) for why two are enough.
#[derive(Debug)]
pub(crate) struct SoonerDone {
    draw: Draw,
}

impl SoonerDone {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            draw: Draw::new(seed),
        }
    }

    /// See [`Balancer::pick`](super::Balancer::pick). Where nothing is known of the latency of one of the two, their
    /// loads decide: neither a guess that is too low nor one that is too high could be corrected before the first answer.
    pub(super) fn pick<C: Candidate>(
        &mut self,
        candidates: &[C],
        ready: impl Fn(usize) -> bool,
        now: u64,
    ) -> Option<usize> {
        let (first, second) = self.draw.two(candidates, ready)?;
        let Some(second) = second else {
            return Some(first);
        };
        let cost = |index: usize| cost(candidates.get(index)?, now);
        match cost(first).zip(cost(second)) {
            // Of equals the first drawn: the draw was random already.
            Some((one, other)) => Some(if other < one { second } else { first }),
            None => Some(less_loaded(candidates, first, second)),
        }
    }
}

fn cost<C: Candidate>(candidate: &C, now: u64) -> Option<f64> {
    let estimate = candidate
        .latency()
        .and_then(|latency| latency.estimate(now))?;
    let in_flight = f64::from(candidate.in_flight()) + 1.0;
    Some(estimate * in_flight / f64::from(candidate.weight()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Sample, assert_shares};
    use super::*;

    const MILLISECOND: u64 = 1000;
    const SECOND: u64 = 1000 * MILLISECOND;

    /// What a server answers: after how long, and whether it failed.
    type Answer = (u64, bool);

    /// Sends a request each millisecond from `from` to `until`; how many each server got. `answer` is that of a server
    /// at a time.
    fn simulate(
        policy: &mut SoonerDone,
        servers: &mut [Sample],
        from: u64,
        until: u64,
        answer: impl Fn(usize, u64) -> Answer,
    ) -> Vec<usize> {
        let mut counts = vec![0; servers.len()];
        let mut running: Vec<(u64, usize, Answer)> = Vec::new();
        for now in (from..until).step_by(MILLISECOND as usize) {
            running.retain(|&(end, index, (micros, failed))| {
                if end <= now {
                    servers[index].in_flight -= 1;
                    servers[index].latency.observe(end, micros, failed);
                }
                end > now
            });
            let index = policy.pick(servers, |_| true, now).unwrap();
            counts[index] += 1;
            servers[index].in_flight += 1;
            let answer = answer(index, now);
            running.push((now + answer.0, index, answer));
        }
        for (end, index, (micros, failed)) in running {
            servers[index].in_flight -= 1;
            servers[index].latency.observe(end, micros, failed);
        }
        counts
    }

    #[test]
    fn the_sooner_done_of_two_is_picked() {
        let mut servers = Sample::with_weights(&[1, 1]);
        servers[0].latency.observe(0, 9 * MILLISECOND, false);
        servers[1].latency.observe(0, 2 * MILLISECOND, false);
        let mut policy = SoonerDone::new(1);
        servers[1].in_flight = 3;
        assert_eq!(
            policy.pick(&servers, |_| true, 0),
            Some(1),
            "4 · 2 ms is less than 9 ms"
        );
        servers[1].in_flight = 4;
        assert_eq!(
            policy.pick(&servers, |_| true, 0),
            Some(0),
            "5 · 2 ms is more than 9 ms"
        );
        servers[1].weight = 2;
        servers[0].weight = 1;
        assert_eq!(
            policy.pick(&servers, |_| true, 0),
            Some(1),
            "5 · 2 ms over two is less than 9 ms"
        );
        assert_eq!(policy.pick(&servers, |index| index == 0, 0), Some(0));
    }

    #[test]
    fn a_server_without_a_sample_is_judged_by_its_load() {
        let mut servers = Sample::with_weights(&[1, 1]);
        servers[0].latency.observe(0, 1, false);
        servers[0].in_flight = 1;
        let mut policy = SoonerDone::new(1);
        for _ in 0..100 {
            assert_eq!(policy.pick(&servers, |_| true, 0), Some(1));
        }
        servers[0].in_flight = 0;
        let drawn = (0..4_000_000).map(|_| policy.pick(&servers, |_| true, 0).unwrap());
        assert_shares(&servers, drawn);
    }

    #[test]
    fn equal_servers_get_equal_shares() {
        let mut servers = Sample::with_weights(&[1; 5]);
        let mut policy = SoonerDone::new(1);
        let counts = simulate(&mut policy, &mut servers, 0, 100 * SECOND, |_, _| {
            (5 * MILLISECOND, false)
        });
        assert!(
            counts.iter().all(|count| (19_000..21_000).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_slow_server_gets_less_and_none_starves() {
        let mut servers = Sample::with_weights(&[1; 4]);
        let slow = |index, _| {
            if index == 2 {
                (400 * MILLISECOND, false)
            } else {
                (4 * MILLISECOND, false)
            }
        };
        let counts = simulate(&mut SoonerDone::new(1), &mut servers, 0, 600 * SECOND, slow);
        assert!((5..6_000).contains(&counts[2]), "{counts:?}");
        assert!(
            [0, 1, 3].iter().all(|&index| counts[index] > 180_000),
            "{counts:?}"
        );
    }

    #[test]
    fn a_server_that_fails_quickly_is_no_magnet_and_comes_back_when_it_is_sound() {
        let mut servers = Sample::with_weights(&[1; 4]);
        let mut policy = SoonerDone::new(1);
        let failing = |index, _| {
            if index == 1 {
                (50, true)
            } else {
                (20 * MILLISECOND, false)
            }
        };
        let counts = simulate(&mut policy, &mut servers, 0, 300 * SECOND, failing);
        assert!((2..1_000).contains(&counts[1]), "of 300 000: {counts:?}");
        let sound = |_, _| (20 * MILLISECOND, false);
        simulate(&mut policy, &mut servers, 300 * SECOND, 400 * SECOND, sound);
        let back = simulate(&mut policy, &mut servers, 400 * SECOND, 500 * SECOND, sound);
        assert!(back[1] > 22_000, "of 100 000: {back:?}");
    }

    proptest! {
        /// Where all take equally long and requests stay, loads are spread nearly in proportion to the weights.
        #[test]
        fn long_requests_follow_the_weights(weights in prop::collection::vec(1..50_u32, 2..8), seed in any::<u64>()) {
            let mut servers = Sample::with_weights(&weights);
            for server in &servers {
                server.latency.observe(0, 5000, false);
            }
            let mut policy = SoonerDone::new(seed);
            let sum: u32 = weights.iter().sum();
            for _ in 0..sum * 20 {
                let index = policy.pick(&servers, |_| true, 0).unwrap();
                servers[index].in_flight += 1;
            }
            for server in &servers {
                let share = server.weight * 20;
                prop_assert!(server.in_flight.abs_diff(share) <= 4 + share / 5, "{:?}", servers);
            }
        }
    }
}
