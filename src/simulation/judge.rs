//! Whether what became of a request is what the rules of retries, ejection and health checks promise.
//!
//! The judge knows what the simulated servers did, and the rules as the reference states them; of weir it asks only which
//! servers took traffic and had room at the moment when an attempt was over.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;

use super::story::{Attempt, Fate, Outcome, Set, Story};
use super::world::World;

/// A connection that ends so soon after the request came was closed before that.
const STALE_WITHIN: Duration = Duration::from_millis(250);
const MAX_CONNECTS: u32 = 3;
const MAX_RETRIES: u32 = 1;
/// Retries that the budget allows in ten seconds, however few requests there are.
const RESERVE: usize = 100;

/// Why a request may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// Something of it was sent, and it must not be sent twice.
    NotReplayable,
    /// The response had begun.
    BodyBroke,
    /// It had used up its retries.
    SecondFailure,
    /// It had used up its connections.
    ThirdConnect,
    /// The server said when to come again.
    RetryAfter,
    /// Time-outs are not retried.
    TimedOut,
    /// No other server took traffic.
    NobodyElse,
    /// None took traffic when it came, so it was sent to one all the same, without retries.
    AllOut,
    /// It waited in vain: those that take traffic had no room, or were not good.
    NoRoom,
    /// The budget was used up.
    Budget,
}

/// What is to be said of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Served,
    Excused(Excuse),
    /// The client went away.
    Unknown,
    Wrong(&'static str),
}

/// What one attempt leaves open.
enum Next {
    /// Once more on the same server.
    Same,
    /// On another one.
    Another,
    Over(Option<Excuse>),
}

/// How often what was said.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) retried: u64,
    pub(super) abandoned: u64,
    pub(super) excuses: BTreeMap<Excuse, u64>,
    /// Requests that went to a server which should have been ejected, by server and the beginning of its phase.
    pub(super) not_ejected: BTreeMap<(usize, Duration), u64>,
    pub(super) wrong: Vec<String>,
}

impl World {
    /// Judges a request that ended now.
    pub(super) fn judge(&self, story: &Story, outcome: &Outcome) -> Verdict {
        let attempts = &story.attempts;
        let sent = attempts
            .iter()
            .filter(|attempt| !matches!(attempt.fate, Fate::Refused | Fate::ConnectTimedOut));
        if story.method == Method::POST && sent.count() > 1 {
            return Verdict::Wrong("a POST was sent twice");
        }
        let mut rules = Rules::default();
        let mut end = Next::Over(None);
        for (place, attempt) in attempts.iter().enumerate() {
            let next = rules.after(story, attempt);
            if let Some(following) = attempts.get(place + 1) {
                let others = self.others(story, place);
                match next {
                    Next::Over(_) => return Verdict::Wrong("it was sent once more than allowed"),
                    Next::Same if following.server != attempt.server => {
                        return Verdict::Wrong("a stale connection made it change its server");
                    }
                    Next::Another if others != 0 && is_among(&attempts[..=place], following) => {
                        return Verdict::Wrong("a retry went where it had failed");
                    }
                    Next::Same | Next::Another => {}
                }
            }
            end = next;
        }
        match outcome {
            Outcome::Abandoned => Verdict::Unknown,
            Outcome::Never => Verdict::Wrong("it was never answered"),
            Outcome::Nothing => Verdict::Wrong("weir closed the connection without an answer"),
            Outcome::Response {
                right: false,
                status,
                error: None,
            } if status.as_u16() == 200 => Verdict::Wrong("it got the answer to another request"),
            Outcome::Response {
                status,
                error: None,
                ..
            } => self.judge_answer(story, status.as_u16(), &end),
            Outcome::Response { .. } => self.judge_failure(story, &end),
            Outcome::Broken => match attempts.last().map(|attempt| attempt.fate) {
                Some(Fate::Answered { whole: false, .. }) => Verdict::Excused(Excuse::BodyBroke),
                _ => Verdict::Wrong("weir broke off a response that was whole"),
            },
        }
    }

    /// An answer of a server was passed on.
    fn judge_answer(&self, story: &Story, status: u16, end: &Next) -> Verdict {
        let last = story.attempts.last().map(|attempt| attempt.fate);
        match last {
            Some(Fate::Answered { status: sent, .. }) if sent == status => match status {
                502 | 503 => self.judge_failure(story, end),
                _ => Verdict::Served,
            },
            _ => Verdict::Wrong("no server gave that answer last"),
        }
    }

    fn judge_failure(&self, story: &Story, end: &Next) -> Verdict {
        let Some(last) = story.attempts.len().checked_sub(1) else {
            return if self.saviours(story, self.accepting(), self.roomy(), 0) == 0 {
                Verdict::Excused(Excuse::NoRoom)
            } else {
                Verdict::Wrong("it was not tried at all")
            };
        };
        match end {
            Next::Over(Some(excuse)) => Verdict::Excused(*excuse),
            Next::Over(None) => Verdict::Wrong("weir failed it, not a server"),
            _ if story.accepting == 0 => Verdict::Excused(Excuse::AllOut),
            Next::Same => Verdict::Wrong("a stale connection was not replaced"),
            Next::Another if self.others(story, last) == 0 => Verdict::Excused(Excuse::NobodyElse),
            Next::Another if self.budget_refusals() > story.refusals => {
                if self.recent_retries() >= RESERVE {
                    Verdict::Excused(Excuse::Budget)
                } else {
                    Verdict::Wrong("the budget refused a retry that it had")
                }
            }
            Next::Another => Verdict::Wrong("a good server could have saved it"),
        }
    }

    /// Good servers that took traffic and had room when that attempt was over, and had not failed the request.
    fn others(&self, story: &Story, place: usize) -> Set {
        let attempt = &story.attempts[place];
        let tried = story.attempts[..=place]
            .iter()
            .fold(0, |set, tried| set | 1 << tried.server);
        self.saviours(story, attempt.accepting, attempt.roomy, tried)
    }

    /// Good servers among those that take traffic and have room. Backups count where no primary does but those tried.
    fn saviours(&self, story: &Story, accepting: Set, roomy: Set, tried: Set) -> Set {
        let open = accepting & !tried;
        let primaries = open & !self.backups;
        let usable = if primaries == 0 { open } else { primaries };
        let all_along = |server: &usize| self.lives[*server].is_good(story.began, self.now());
        (0..self.servers.len())
            .filter(|server| (usable & roomy) & (1 << server) != 0)
            .filter(all_along)
            .fold(0, |set, server| set | 1 << server)
    }

    /// The story of a request, for people.
    pub(super) fn tell(&self, story: &Story) -> String {
        let mut lines = vec![format!(
            "seed {}: {} /r/{} came at {:?}, ended at {:?}",
            self.setting.seed,
            story.method,
            story.number,
            story.began,
            self.now()
        )];
        for attempt in &story.attempts {
            let kind = self.lives[attempt.server].at(attempt.at).kind;
            lines.push(format!("  {kind:?}: {attempt:?}"));
        }
        for (number, life) in self.lives.iter().enumerate() {
            let server = &self.servers[number];
            lines.push(format!(
                "  server {number}: {:?}, at the end {:?}; {:?}",
                life.at(story.began),
                life.at(self.now()).kind,
                server.standing(),
            ));
        }
        lines.join("\n")
    }
}

/// What a request may still do, by the reference.
#[derive(Default)]
struct Rules {
    connects: u32,
    retries: u32,
    afresh: bool,
}

impl Rules {
    fn after(&mut self, story: &Story, attempt: &Attempt) -> Next {
        let replayable = story.method != Method::POST;
        match attempt.fate {
            Fate::Refused | Fate::ConnectTimedOut => {
                self.connects += 1;
                if self.connects < MAX_CONNECTS {
                    Next::Another
                } else {
                    Next::Over(Some(Excuse::ThirdConnect))
                }
            }
            Fate::Lost
                if replayable
                    && attempt.reused
                    && !self.afresh
                    && attempt.over.saturating_sub(story.began) < STALE_WITHIN =>
            {
                self.afresh = true;
                Next::Same
            }
            Fate::Hung => Next::Over(Some(Excuse::TimedOut)),
            Fate::Open => Next::Over(None),
            Fate::Answered {
                retry_after: true, ..
            } => Next::Over(Some(Excuse::RetryAfter)),
            Fate::Answered {
                status: 502 | 503, ..
            }
            | Fate::Lost
            | Fate::CutHead
            | Fate::Garbage
            | Fate::Flood => self.retry(replayable),
            Fate::Answered { .. } => Next::Over(None),
        }
    }

    fn retry(&mut self, replayable: bool) -> Next {
        if !replayable {
            return Next::Over(Some(Excuse::NotReplayable));
        }
        if self.retries == MAX_RETRIES {
            return Next::Over(Some(Excuse::SecondFailure));
        }
        self.retries += 1;
        self.afresh = true;
        Next::Another
    }
}

fn is_among(tried: &[Attempt], attempt: &Attempt) -> bool {
    tried.iter().any(|tried| tried.server == attempt.server)
}
