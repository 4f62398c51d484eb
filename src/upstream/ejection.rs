//! Passive ejection: a server that fails real requests again and again gets none for a while.
//!
//! It goes after so many failures in a row, spread over a second at least: a burst that breaks off with one restart says
//! little. It rests for `base`, twice as long each time that it fails again soon after its return, `max` at most. Then one
//! request is its trial. What the failures of connections say, good health checks can take back before: one the first time,
//! two in a row when it happens again soon, for the checks may not see what requests see.
//!
//! Pure: the time is handed in, in ticks of the [`Clock`](crate::deadline::Clock).

use std::fmt;
use std::time::SystemTime;

use http::StatusCode;

use super::tls::Fault;
use crate::deadline::{TICK, Ticks};

/// `[upstream.NAME.ejection]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Failures in a row.
    pub(crate) failures: u32,
    pub(crate) base: Ticks,
    pub(crate) max: Ticks,
}

/// How a request failed on a server, as far as that speaks against the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Refused,
    ConnectTimedOut,
    ConnectFailed,
    Tls(Fault),
    Reset,
    Protocol,
    TimedOut,
    Status(StatusCode),
}

impl Cause {
    /// Whether it is about connections, of which a health check makes one too.
    pub(crate) fn is_of_connection(self) -> bool {
        match self {
            Self::Refused
            | Self::ConnectTimedOut
            | Self::ConnectFailed
            | Self::Tls(_)
            | Self::Reset => true,
            Self::Protocol | Self::TimedOut | Self::Status(_) => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::ConnectTimedOut => f.write_str("connecting timed out"),
            Self::ConnectFailed => f.write_str("connecting failed"),
            Self::Tls(fault) => fault.fmt(f),
            Self::Reset => f.write_str("connection broke off"),
            Self::Protocol => f.write_str("not an HTTP response"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Status(status) => write!(f, "status {}", status.as_u16()),
        }
    }
}

/// What is held against one server.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// Failures since the last good answer,
    streak: u32,
    /// and when the first of them was.
    since: u64,
    standing: Standing,
    /// Ejections of which each came soon after the one before.
    times: u32,
    /// When it came back last, and how long it had been away.
    back: u64,
    away: u64,
}

#[derive(Debug, Default)]
enum Standing {
    #[default]
    In,
    Out(Away),
    /// One request is on its way there, and tells how it went before that tick.
    Trial(Away, u64),
}

#[derive(Clone, Debug)]
struct Away {
    from: u64,
    until: u64,
    cause: Cause,
    failures: u32,
    /// Good health checks in a row.
    checks: u32,
    told_since: SystemTime,
}

impl Ejection {
    /// Notes a failure; whether it is time to eject.
    pub(crate) fn failed(&mut self, now: u64, rules: &Rules) -> bool {
        if !matches!(self.standing, Standing::In) {
            return false;
        }
        if self.streak == 0 {
            self.since = now;
        }
        self.streak = self.streak.saturating_add(1);
        // More: a tick that has just begun counts as one.
        self.streak >= rules.failures && now.saturating_sub(self.since) > AT_LEAST.0
    }

    /// A good answer.
    pub(crate) fn succeeded(&mut self) {
        self.streak = 0;
    }

    /// It goes; for how long.
    pub(crate) fn eject(
        &mut self,
        now: u64,
        cause: Cause,
        rules: &Rules,
        told_since: SystemTime,
    ) -> Ticks {
        if now.saturating_sub(self.back) > self.away.max(rules.base.0) {
            self.times = 0;
        }
        let failures = self.streak;
        self.streak = 0;
        self.rest(
            Away {
                from: now,
                until: now,
                cause,
                failures,
                checks: 0,
                told_since,
            },
            now,
            rules,
        )
    }

    fn rest(&mut self, away: Away, now: u64, rules: &Rules) -> Ticks {
        let doubled = 1_u64.checked_shl(self.times).unwrap_or(u64::MAX);
        let rest = rules.base.0.saturating_mul(doubled).min(rules.max.0);
        self.times = self.times.saturating_add(1);
        self.standing = Standing::Out(Away {
            until: now.saturating_add(rest),
            ..away
        });
        Ticks(rest)
    }

    /// When a trial may begin.
    pub(crate) fn trial_at(&self) -> Option<u64> {
        match &self.standing {
            Standing::Out(away) => Some(away.until),
            // A slow client must not keep it out for as long as it likes.
            Standing::Trial(_, until) => Some(*until),
            Standing::In => None,
        }
    }

    /// Whether a request is on its way that will tell.
    pub(super) fn is_on_trial(&self) -> bool {
        matches!(self.standing, Standing::Trial(..))
    }

    /// One request may go there now; whoever sends it tells how it went, after `longest` at the latest.
    pub(crate) fn begin_trial(&mut self, now: u64, longest: Ticks) -> bool {
        let due = self.trial_at().is_some_and(|at| now >= at);
        match &self.standing {
            Standing::Out(away) | Standing::Trial(away, _) if due => {
                self.standing = Standing::Trial(away.clone(), now.saturating_add(longest.0));
                true
            }
            Standing::In | Standing::Out(_) | Standing::Trial(..) => false,
        }
    }

    /// The trial ended without telling anything: the client went away. When the next may begin.
    pub(crate) fn trial_abandoned(&mut self) -> Option<u64> {
        if let Standing::Trial(away, _) = &self.standing {
            self.standing = Standing::Out(away.clone());
        }
        self.trial_at()
    }

    /// The trial failed; how long it rests now.
    pub(crate) fn trial_failed(&mut self, now: u64, cause: Cause, rules: &Rules) -> Option<Ticks> {
        let Standing::Trial(away, _) = &self.standing else {
            return None;
        };
        let away = Away {
            cause,
            checks: 0,
            ..away.clone()
        };
        Some(self.rest(away, now, rules))
    }

    /// A request went well while it was out; whether that brings it back.
    pub(crate) fn proved_good(&mut self, now: u64) -> bool {
        match &self.standing {
            Standing::In => false,
            Standing::Out(away) | Standing::Trial(away, _) => {
                self.away = now.saturating_sub(away.from);
                self.back = now;
                self.standing = Standing::In;
                true
            }
        }
    }

    /// The result of a health check that began at `began`; whether it brings the server back.
    pub(crate) fn checked(&mut self, passed: bool, began: u64, now: u64) -> bool {
        let enough = match &mut self.standing {
            Standing::Out(away) | Standing::Trial(away, _)
                if away.cause.is_of_connection() && began > away.from =>
            {
                away.checks = if passed { away.checks + 1 } else { 0 };
                away.checks >= self.times
            }
            Standing::In | Standing::Out(_) | Standing::Trial(..) => false,
        };
        enough && self.proved_good(now)
    }

    /// Why and since when it is out.
    pub(crate) fn reason(&self) -> Option<(String, SystemTime)> {
        match &self.standing {
            Standing::In => None,
            Standing::Out(away) | Standing::Trial(away, _) => Some((
                format!(
                    "{} failures in a row, the last: {}",
                    away.failures, away.cause
                ),
                away.told_since,
            )),
        }
    }
}

/// How long failures must have gone on.
const AT_LEAST: Ticks = Ticks((1000 / TICK.as_millis()) as u64);

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        failures: 5,
        base: Ticks(100),
        max: Ticks(3000),
    };

    const LONGEST: Ticks = Ticks(100);

    fn fail(ejection: &mut Ejection, times: u32, now: u64) -> bool {
        (0..times).fold(false, |_, _| ejection.failed(now, &RULES))
    }

    fn eject(ejection: &mut Ejection, now: u64) -> u64 {
        ejection
            .eject(now, Cause::Reset, &RULES, SystemTime::UNIX_EPOCH)
            .0
    }

    #[test]
    fn it_takes_failures_in_a_row_over_a_second() {
        let mut ejection = Ejection::default();
        assert!(!fail(&mut ejection, 100, 1000), "all at once");
        assert!(!fail(&mut ejection, 1, 1010));
        assert!(fail(&mut ejection, 1, 1011));
        let mut ejection = Ejection::default();
        assert!(!fail(&mut ejection, 4, 1000));
        ejection.succeeded();
        assert!(!fail(&mut ejection, 4, 1020), "a success starts it anew");
        assert!(!fail(&mut ejection, 1, 1021));
    }

    #[test]
    fn each_ejection_soon_after_the_last_one_is_twice_as_long() {
        let mut ejection = Ejection::default();
        let mut now = 10_000;
        let mut rests = Vec::new();
        for _ in 0..7 {
            let rest = eject(&mut ejection, now);
            rests.push(rest);
            assert!(!ejection.begin_trial(now + rest - 1, LONGEST));
            assert!(ejection.begin_trial(now + rest, LONGEST));
            assert!(ejection.proved_good(now + rest));
            now += rest + 20;
        }
        assert_eq!(rests, [100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(
            eject(&mut ejection, now + 4000),
            100,
            "it was good for long"
        );
    }

    #[test]
    fn one_request_at_a_time_is_the_trial() {
        let mut ejection = Ejection::default();
        eject(&mut ejection, 1000);
        assert_eq!(ejection.trial_at(), Some(1100));
        assert!(ejection.begin_trial(1100, LONGEST));
        assert!(!ejection.begin_trial(1199, LONGEST));
        assert!(
            ejection.begin_trial(1200, LONGEST),
            "the first one takes too long"
        );
        assert_eq!(ejection.trial_abandoned(), Some(1100));
        assert!(ejection.begin_trial(1200, LONGEST));
        assert_eq!(
            ejection.trial_failed(1210, Cause::TimedOut, &RULES),
            Some(Ticks(200))
        );
        assert!(!ejection.begin_trial(1409, LONGEST));
        assert!(ejection.begin_trial(1410, LONGEST));
    }

    #[test]
    fn good_checks_take_back_what_connections_said_more_of_them_each_time() {
        let mut ejection = Ejection::default();
        eject(&mut ejection, 1000);
        assert!(!ejection.checked(true, 999, 1001), "it began before");
        assert!(ejection.checked(true, 1001, 1002));
        eject(&mut ejection, 1050);
        assert!(!ejection.checked(true, 1051, 1052));
        assert!(!ejection.checked(false, 1052, 1053));
        assert!(!ejection.checked(true, 1053, 1054));
        assert!(ejection.checked(true, 1054, 1055));
        let mut ejection = Ejection::default();
        let status = Cause::Status(StatusCode::BAD_GATEWAY);
        ejection.eject(1000, status, &RULES, SystemTime::UNIX_EPOCH);
        assert!(!ejection.checked(true, 1001, 1002));
    }

    #[test]
    fn the_reason_is_told() {
        let mut ejection = Ejection::default();
        fail(&mut ejection, 7, 1000);
        ejection.eject(1000, Cause::Refused, &RULES, SystemTime::UNIX_EPOCH);
        let (reason, _) = ejection.reason().unwrap();
        assert_eq!(reason, "7 failures in a row, the last: connection refused");
    }
}
