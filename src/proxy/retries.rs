//! Whether a request that failed on one server may go to another.
//!
//! A failed connect moves on for any method: nothing was sent. A connection from the pool that turns out to be closed is
//! replaced by a fresh one, once, without a word: where not a byte went out, or it shows at once and the request may be sent
//! twice. What fails
//! later is repeated only if the request may be sent twice, and as the upstream's `retry` allows. All but the silent
//! replacement count against the upstream's budget.

use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use smallvec::SmallVec;

use super::choose::Chosen;
use super::failure::Failure;
use super::flight::Way;
use super::local::{LocalServer, LocalUpstream};
use crate::balance::Occasion;
use crate::config::RetryOn;
use crate::telemetry::labels::RetryReason;
use crate::upstream::http1::ExchangeError;

/// Connections that are tried for one request, whatever the number of retries.
pub(super) const MAX_CONNECTS: u32 = 3;

/// How soon the end of a connection shows that its server had closed before it got the request.
const STALE_WITHIN: Duration = Duration::from_millis(250);

/// What is to be done after an attempt.
pub(super) enum Next {
    /// Once more on the same server, where its place is kept, over a fresh connection.
    Afresh,
    /// On another server, where there is one.
    Another(RetryReason),
    /// It stays as it is.
    Nothing,
}

/// What one request may still do.
pub(super) struct Retrying<'r> {
    upstream: &'r LocalUpstream,
    now: u64,
    occasion: Occasion,
    /// Servers that failed it.
    tried: SmallVec<[Rc<LocalServer>; 2]>,
    connects: u32,
    retries: u32,
    /// Whether a connection from the pool may be taken.
    pub(super) may_reuse: bool,
    /// Whether there is any use in another attempt.
    hopeful: bool,
}

impl<'r> Retrying<'r> {
    pub(super) fn new(upstream: &'r LocalUpstream, now: u64, occasion: Occasion, way: Way) -> Self {
        upstream.count_request();
        Self {
            upstream,
            now,
            occasion,
            tried: SmallVec::new(),
            connects: 0,
            retries: 0,
            may_reuse: true,
            hopeful: way != Way::Despite,
        }
    }

    /// After a failure on a connection that was `reused` so long ago. `replayable`: the request may be sent twice, and can be.
    pub(super) fn after_failure(
        &mut self,
        failure: &Failure,
        reused: Option<Duration>,
        replayable: bool,
    ) -> Next {
        match failure {
            Failure::Connect(_) => {
                self.connects += 1;
                let hopeful = self.hopeful && self.upstream.upstream.moves_on(RetryOn::Connect);
                if self.connects < MAX_CONNECTS && hopeful {
                    Next::Another(RetryReason::Connect)
                } else {
                    Next::Nothing
                }
            }
            // On a connection from the pool, so this happens once.
            Failure::Unsent => self.afresh(),
            Failure::Exchange(error) => match error {
                // Later than that, it was hardly closed before the request came.
                ExchangeError::Closed(_) | ExchangeError::Refused(_)
                    if replayable
                        && self.may_reuse
                        && reused.is_some_and(|ago| ago < STALE_WITHIN) =>
                {
                    self.afresh()
                }
                ExchangeError::Closed(_)
                | ExchangeError::Refused(_)
                | ExchangeError::Incomplete(_)
                | ExchangeError::Head(_)
                | ExchangeError::Informational => {
                    self.retry(RetryOn::Reset, RetryReason::Reset, replayable)
                }
                ExchangeError::ResponseTimeout | ExchangeError::WriteTimeout => {
                    self.retry(RetryOn::Timeout, RetryReason::Timeout, replayable)
                }
                ExchangeError::RouteTimeout
                | ExchangeError::ClientBody(_)
                | ExchangeError::ClientStalled
                | ExchangeError::BodyTooLarge => Next::Nothing,
            },
        }
    }

    /// After an answer that speaks of a failure behind the server.
    pub(super) fn after_answer(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        replayable: bool,
    ) -> Next {
        let (on, reason) = match status.as_u16() {
            502 => (RetryOn::BadGateway, RetryReason::BadGateway),
            503 => (RetryOn::Unavailable, RetryReason::Unavailable),
            504 => (RetryOn::GatewayTimeout, RetryReason::GatewayTimeout),
            _ => return Next::Nothing,
        };
        // Whoever says when to come again does not want to be asked at once.
        if headers.contains_key(header::RETRY_AFTER) {
            return Next::Nothing;
        }
        self.retry(on, reason, replayable)
    }

    fn afresh(&mut self) -> Next {
        self.may_reuse = false;
        self.upstream.shard.retried(RetryReason::Stale);
        Next::Afresh
    }

    fn retry(&mut self, on: RetryOn, reason: RetryReason, replayable: bool) -> Next {
        let upstream = &self.upstream.upstream;
        if !(self.hopeful && upstream.may_retry(on, replayable, self.retries)) {
            return Next::Nothing;
        }
        Next::Another(reason)
    }

    /// The server for another attempt: not `failed`, where there is another. Who `has_answer` takes that rather than wait for
    /// another.
    pub(super) fn another(
        &mut self,
        failed: &Rc<LocalServer>,
        reason: RetryReason,
        has_answer: bool,
    ) -> Chosen {
        self.tried.push(Rc::clone(failed));
        let other = self.upstream.choose_another(&self.tried, self.occasion);
        let chosen = match (other, reason) {
            (Chosen::Full(_), _) if has_answer => return Chosen::Nobody,
            // It would be refused again.
            (Chosen::Nobody, RetryReason::Connect) => return Chosen::Nobody,
            // It was taken out of service in the meantime.
            (Chosen::Nobody, _) if failed.server.is_drained() => return Chosen::Nobody,
            (Chosen::Nobody, _) => Chosen::Same,
            (chosen, _) => chosen,
        };
        // Nothing was sent yet, and nothing speaks against the other one: that is no load that an outage multiplies.
        let harmless = reason == RetryReason::Connect
            && matches!(&chosen, Chosen::Place(flight) if !flight.server().server.is_suspect());
        if !self.upstream.withdraw(self.now) && !harmless {
            self.upstream.shard.budget_exhausted.add(1);
            if let Chosen::Place(flight) = chosen {
                flight.call_off();
            }
            return Chosen::Nobody;
        }
        self.upstream.shard.retried(reason);
        if reason != RetryReason::Connect {
            self.retries += 1;
            // The rest of the pool is as old as what just broke.
            self.may_reuse = false;
        }
        chosen
    }
}
