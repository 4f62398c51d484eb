//! Whether servers that fail lose their traffic in time, and get it back in time once they are good again.

use std::time::Duration;

use super::judge::Tally;
use super::phases::Kind;
use super::story::{Attempt, Story};
use super::world::World;
use crate::upstream::server::Closed;

/// Until health checks have noticed: the rest of an interval, and as many checks in a row as it takes, each with its time-out.
const NOTICED: Duration = Duration::from_secs(20);
/// How long a server waits for its trial where clients stick to others.
const UNTRIED: Duration = Duration::from_secs(20);
/// Slow start, and a while.
const WARM: Duration = Duration::from_secs(15);
/// Requests that a server may get in one phase after it should have been ejected: it may have become the turn of another's share
/// only then, and balancers that avoid the server learn slowly.
const SLACK: u64 = 10;
/// The same where clients stick to other servers, so that it comes back without a trial now and then.
const SLACK_UNTRIED: u64 = 40;
/// How long requests are counted.
const WINDOW: Duration = Duration::from_secs(30);

/// What was seen of all servers.
pub(super) struct Recovery(Vec<Seen>);

/// What was seen of one server.
#[derive(Clone, Default)]
struct Seen {
    /// Since when it is good and takes traffic.
    back: Option<Duration>,
    /// When counting began: requests that it had got, and that all had got.
    counted: Option<(u64, u64)>,
    told: bool,
}

impl Recovery {
    pub(super) fn new(world: &World) -> Self {
        Self(vec![Seen::default(); world.hosts.len()])
    }

    /// Called once per tick: what is wrong.
    pub(super) fn look(&mut self, world: &World) -> Vec<String> {
        let seen = self.0.iter_mut().enumerate();
        seen.filter_map(|(number, seen)| seen.look(world, number))
            .collect()
    }
}

impl Seen {
    fn look(&mut self, world: &World, number: usize) -> Option<String> {
        let now = world.now();
        let (phase, server) = (world.phase(number), &world.servers[number]);
        if phase.kind != Kind::Good {
            *self = Self::default();
            return None;
        }
        if !server.accepts_traffic() {
            let mut bound = NOTICED;
            if server.is_closed_by(Closed::Ejected) {
                bound += world.setting.longest_ejection + UNTRIED;
            }
            let is_late = now - phase.from > bound && !self.told;
            *self = Self {
                told: self.told || is_late,
                ..Self::default()
            };
            let standing = server.standing();
            return is_late.then(|| {
                format!(
                    "server {number} is good since {:?} and gets nothing at {now:?}: {standing:?}",
                    phase.from
                )
            });
        }
        let back = *self.back.get_or_insert(now);
        let all = world.hosts.iter().map(|host| host.got.get()).sum();
        let got = world.hosts[number].got.get();
        if now >= back + WARM && self.counted.is_none() {
            self.counted = Some((got, all));
        }
        let (before, all_before) = self.counted?;
        if now < back + WARM + WINDOW || self.told || now > super::phases::HOUR {
            return None;
        }
        self.told = true;
        let (got, all) = (got - before, all - all_before);
        let fair = all / world.hosts.len() as u64;
        let is_even = world.setting.is_even() && world.backups == 0;
        (is_even && got < fair * 4 / 10).then(|| {
            format!("server {number} is back since {back:?} and got {got} of {all} requests until {now:?}")
        })
    }
}

impl Tally {
    /// Notes what was sent to servers that had failed for long enough to be known.
    pub(super) fn late(&mut self, world: &World, story: &Story) {
        for attempt in &story.attempts {
            let phase = world.lives[attempt.server].at(attempt.at);
            let age = attempt.at - phase.from;
            // Checks of these end when the head has come.
            let is_seen = !phase.hidden && phase.kind != Kind::BrokenBodies;
            if is_seen && age > NOTICED && story.accepting != 0 {
                self.wrong.push(format!(
                    "a server whose checks fail got a request\n{}",
                    world.tell(story)
                ));
            }
            if world.is_to_be_ejected(story, attempt) {
                let phase = (attempt.server, phase.from);
                *self.not_ejected.entry(phase).or_default() += 1;
            }
        }
    }

    /// Servers that were not ejected when they should have been.
    pub(super) fn unjust(&self, sticky: bool) -> Vec<String> {
        let slack = if sticky { SLACK_UNTRIED } else { SLACK };
        let many = self.not_ejected.iter().filter(|(_, count)| **count > slack);
        many.map(|((server, from), count)| {
            format!("server {server} fails since {from:?}, and got {count} requests when it should have been ejected")
        })
        .collect()
    }
}

impl World {
    /// Whether traffic alone should have told by then that the server fails, and it was in all the same.
    fn is_to_be_ejected(&self, story: &Story, attempt: &Attempt) -> bool {
        let phase = self.lives[attempt.server].at(attempt.at);
        let known = match phase.kind {
            Kind::Hanging => NOTICED + self.setting.response_timeout,
            Kind::BadGateway
            | Kind::Unavailable
            | Kind::Overloaded
            | Kind::Garbage
            | Kind::Flood => NOTICED,
            // The checks bring back whose connections fail; the others do not fail by the rules.
            _ => return false,
        };
        let servers = self.servers.len() as u32;
        let out = servers - story.accepting.count_ones();
        phase.share == 100
            && attempt.at - phase.from > known
            && story.accepting & 1 << attempt.server != 0
            && out < servers / 2
    }

    /// What should not be there when everything is over.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (server, host) in self.servers.iter().zip(&self.hosts) {
            if server.in_flight() > 0 {
                left.push(format!(
                    "{}: {} requests in flight",
                    server.address,
                    server.in_flight()
                ));
            }
            if !server.accepts_traffic() {
                left.push(format!(
                    "{} is still out: {:?}",
                    server.address,
                    server.standing()
                ));
            }
            // One may be that of a health check.
            if host.connections() > 1 {
                left.push(format!(
                    "{}: {} connections",
                    server.address,
                    host.connections()
                ));
            }
        }
        let waiting = self.upstream.group.queue.length();
        if waiting > 0 {
            left.push(format!("{waiting} requests in the queue"));
        }
        left
    }
}
