//! What goes wrong, with which server, when: drawn beforehand, such that at any time at least one server is good.
//!
//! Servers take turns at being the one that must be good. Each is good for a while before its turn begins and after it ends,
//! so that no request lives through a time when nobody was.

use std::time::Duration;

use super::random::Random;

/// How long the hour is.
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// How much earlier and later than its turn a server is good.
const OVERLAP: Duration = Duration::from_secs(90);

/// What a server does with those who ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    /// Nobody listens; who was connected is cut off.
    Dead,
    /// It listens no more, closes what is idle and finishes what runs.
    Restarting,
    /// It takes requests and never answers.
    Hanging,
    /// Connections take longer than anybody waits.
    SlowToConnect,
    /// It cuts the connection once it has the request.
    Resetting,
    /// It cuts the connection within the head of its response.
    CutHeads,
    Garbage,
    /// Informational responses without end.
    Flood,
    /// The response breaks off after some of its body.
    BrokenBodies,
    Errors,
    BadGateway,
    Unavailable,
    /// With a `Retry-After`.
    Overloaded,
}

const FAULTS: [Kind; 13] = [
    Kind::Dead,
    Kind::Restarting,
    Kind::Hanging,
    Kind::SlowToConnect,
    Kind::Resetting,
    Kind::CutHeads,
    Kind::Garbage,
    Kind::Flood,
    Kind::BrokenBodies,
    Kind::Errors,
    Kind::BadGateway,
    Kind::Unavailable,
    Kind::Overloaded,
];

/// A time in the life of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    pub(super) from: Duration,
    pub(super) kind: Kind,
    /// How many of a hundred requests it goes wrong with; the others it answers.
    pub(super) share: u64,
    /// Its health checks do not see it.
    pub(super) hidden: bool,
    /// How long it keeps idle connections, and whether it says so.
    pub(super) keep_alive: Duration,
    pub(super) says_so: bool,
    /// How long it takes for an answer.
    pub(super) pace: Duration,
}

/// The phases of one server.
#[derive(Debug)]
pub(super) struct Life(Vec<Phase>);

impl Life {
    /// Those of all of them.
    pub(super) fn draw_all(servers: usize, random: &Random) -> Vec<Self> {
        let mut turns = vec![Vec::new(); servers];
        let (mut begin, mut last) = (Duration::ZERO, usize::MAX);
        while begin < HOUR {
            let end = begin + random.seconds(120, 300);
            let mut next = random.below(servers as u64) as usize;
            if next == last {
                next = (next + 1) % servers;
            }
            turns[next].push((begin.saturating_sub(OVERLAP), end + OVERLAP));
            (begin, last) = (end, next);
        }
        turns
            .into_iter()
            .map(|turns| Self::draw(&turns, random))
            .collect()
    }

    fn draw(turns: &[(Duration, Duration)], random: &Random) -> Self {
        let mut at = random.seconds(20, 120);
        let mut phases = vec![good(Duration::ZERO, random)];
        while at < HOUR {
            if let Some((_, end)) = turns
                .iter()
                .find(|(begin, end)| (*begin..*end).contains(&at))
            {
                at = *end;
                continue;
            }
            let duty = turns
                .iter()
                .map(|(begin, _)| *begin)
                .filter(|begin| *begin > at);
            let latest = duty.min().unwrap_or(HOUR).min(HOUR);
            let phase = fault(at, random);
            let length = match random.below(4) {
                0 => random.millis(500, 8_000),
                1 | 2 => random.seconds(8, 60),
                _ => random.seconds(60, 200),
            };
            let end = (at + length).min(latest);
            phases.push(phase);
            phases.push(good(end, random));
            at = end + random.seconds(3, 90);
        }
        Self(phases)
    }

    pub(super) fn phases(&self) -> &[Phase] {
        &self.0
    }

    pub(super) fn at(&self, time: Duration) -> &Phase {
        let next = self.0.partition_point(|phase| phase.from <= time);
        &self.0[next.saturating_sub(1)]
    }

    /// Whether it was good all the time.
    pub(super) fn is_good(&self, from: Duration, to: Duration) -> bool {
        self.at(from).kind == Kind::Good
            && !self
                .0
                .iter()
                .any(|phase| phase.kind != Kind::Good && (from..=to).contains(&phase.from))
    }
}

fn good(from: Duration, random: &Random) -> Phase {
    Phase {
        from,
        kind: Kind::Good,
        share: 0,
        hidden: true,
        // Longer than a connection may be idle that carries what must not be sent twice.
        keep_alive: random
            .one_of(&[1_500, 2_000, 4_000, 5_000, 15_000, 65_000].map(Duration::from_millis)),
        says_so: random.chance(50),
        pace: random.millis(5, 150),
    }
}

fn fault(from: Duration, random: &Random) -> Phase {
    let kind = random.one_of(&FAULTS);
    let whole = matches!(kind, Kind::Dead | Kind::Restarting | Kind::SlowToConnect);
    Phase {
        kind,
        share: if whole || random.chance(60) {
            100
        } else {
            random.between(10, 90)
        },
        hidden: !whole && random.chance(50),
        ..good(from, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_any_time_a_server_is_good_and_stays_so_for_longer_than_a_request_lives() {
        for seed in 0..50 {
            let lives = Life::draw_all(3, &Random::new(seed, 0));
            for second in 0..3600 {
                let from = Duration::from_secs(second);
                assert!(
                    lives
                        .iter()
                        .any(|life| life.is_good(from, from + Duration::from_secs(80))),
                    "seed {seed}, second {second}"
                );
            }
        }
    }
}
