//! For how long a stored response may be used (RFC 9111 §4.2).

use std::time::{Duration, Instant};

use crate::semantics::cache_control::LARGEST;

/// What was agreed with the origin about a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// When the response head came. `Instant`: no clock that is set can make it fresh again.
    pub(crate) received: Instant,
    /// RFC 9111 §4.2.3: corrected_initial_age.
    pub(crate) age_when_received: Duration,
    /// RFC 9111 §4.2.1: freshness_lifetime.
    pub(crate) lifetime: Duration,
    /// The origin did not say for how long: the route assumes it, for those of whom it knows nothing.
    pub(crate) is_assumed: bool,
    /// Never used without validation: `no-cache`.
    pub(crate) always_validate: bool,
    /// Never used stale: `must-revalidate`, `proxy-revalidate`, `s-maxage` and the like.
    pub(crate) never_stale: bool,
    /// How long beyond its lifetime it is used while it is validated in the background.
    pub(crate) while_revalidate: Duration,
    /// How long beyond its lifetime it is used when the origin fails.
    pub(crate) if_error: Duration,
    /// Whether there is anything to validate it by.
    pub(crate) has_validator: bool,
}

impl Lease {
    /// RFC 9111 §4.2.3: current_age. The field `Age` has its whole seconds.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let resident = now.saturating_duration_since(self.received);
        let age = self.age_when_received.saturating_add(resident);
        age.min(Duration::from_secs(LARGEST))
    }

    /// For how many more whole seconds it is fresh, as `Cache-Status` tells it (RFC 9211 §2.5); negative when it is stale for
    /// any part of a second.
    pub(crate) fn ttl(&self, now: Instant) -> i64 {
        let age = self.age(now);
        let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match self.lifetime.checked_sub(age) {
            Some(left) => whole(left),
            None => {
                let stale = age.saturating_sub(self.lifetime);
                -whole(stale) - i64::from(stale.subsec_nanos() > 0)
            }
        }
    }

    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.lifetime
    }

    /// For how long it has been stale; zero while it is fresh.
    pub(crate) fn staleness(&self, now: Instant) -> Duration {
        self.age(now).saturating_sub(self.lifetime)
    }

    /// For how long it is of use, from when it was received: until the last moment at which it may be sent stale, or for
    /// [`WORTH_VALIDATING`] beyond its lifetime if it can be validated. Requests that take something staler still
    /// (`max-stale`) are too few to keep anything for.
    pub(crate) fn keep_for(&self) -> Duration {
        let fresh = self.lifetime.saturating_sub(self.age_when_received);
        let validating = if self.has_validator {
            WORTH_VALIDATING
        } else {
            Duration::ZERO
        };
        let beyond = self.while_revalidate.max(self.if_error).max(validating);
        fresh.saturating_add(beyond)
    }

    /// Whether it may not be sent to anybody any more before it is validated.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        !self.is_fresh(now) && self.staleness(now) >= self.while_revalidate.max(self.if_error)
    }

    /// Whether each request has to be validated for itself: what it was fetched for is over at once.
    pub(crate) fn is_for_one(&self) -> bool {
        self.always_validate || self.lifetime.is_zero()
    }

    /// Makes it stale from now on; what allows its use beyond that counts from now. One that is stale already stays as it is.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.lifetime = self.lifetime.min(self.age(now));
    }
}

/// A 304 saves the body for as long as it is in nobody's way. What is asked for less often than that is soon evicted by what
/// is asked for more often.
const WORTH_VALIDATING: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            received: Instant::now(),
            age_when_received: Duration::from_secs(10),
            lifetime: Duration::from_secs(60),
            is_assumed: false,
            always_validate: false,
            never_stale: false,
            while_revalidate: Duration::from_secs(5),
            if_error: Duration::from_secs(20),
            has_validator: false,
        }
    }

    #[test]
    fn it_ages_from_when_it_was_received() {
        let lease = lease();
        for (millis, age, ttl, fresh) in [
            (0, 10_000, 50, true),
            (900, 10_900, 49, true),
            (49_999, 59_999, 0, true),
            (50_000, 60_000, 0, false),
            (50_001, 60_001, -1, false),
            (60_000, 70_000, -10, false),
        ] {
            let now = lease.received + Duration::from_millis(millis);
            assert_eq!(lease.age(now), Duration::from_millis(age));
            assert_eq!(lease.ttl(now), ttl, "{millis}");
            assert_eq!(lease.is_fresh(now), fresh, "{millis}");
            let stale = Duration::from_millis(age.saturating_sub(60_000));
            assert_eq!(lease.staleness(now), stale, "{millis}");
        }
        let before = lease.received.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(lease.age(before), Duration::from_secs(10));
    }

    #[test]
    fn it_is_kept_for_as_long_as_it_is_of_use() {
        let seconds = Duration::from_secs;
        let mut lease = lease();
        assert_eq!(lease.keep_for(), seconds(50 + 20));
        lease.has_validator = true;
        assert_eq!(lease.keep_for(), seconds(50 + 3600));
        lease.while_revalidate = seconds(7200);
        assert_eq!(lease.keep_for(), seconds(50 + 7200));
        lease.age_when_received = seconds(LARGEST);
        assert_eq!(lease.keep_for(), seconds(7200));
    }

    #[test]
    fn what_is_expired_is_stale_from_then_on() {
        let mut lease = lease();
        let now = lease.received + Duration::from_secs(30);
        lease.expire(now);
        assert!(!lease.is_fresh(now) && lease.ttl(now) == 0);
        assert_eq!(
            lease.staleness(now + Duration::from_secs(3)),
            Duration::from_secs(3)
        );
        assert_eq!(lease.age(now), Duration::from_secs(40));
        lease.expire(now + Duration::from_secs(3));
        assert_eq!(
            lease.staleness(now + Duration::from_secs(3)),
            Duration::from_secs(3)
        );
    }
}
