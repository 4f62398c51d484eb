//! Whether a stored response answers a request as it is (RFC 9111 §4.2, §5.2.1; RFC 5861).

use std::time::Instant;

use super::Lease;
use crate::semantics::cache_control::RequestDirectives;

/// How a stored response is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Fresh,
    /// Sent at once, stale, and validated in the background.
    StaleWhileRevalidating,
    /// Sent stale, since the client takes it.
    Stale,
    /// Sent only when the origin says that it still holds.
    Validate {
        /// Sent, too, when the origin fails to answer.
        on_error: bool,
    },
}

/// Decides on it. `only-if-cached` is another question: what to do if it cannot be sent as it is.
pub(crate) fn reuse(lease: &Lease, request: &RequestDirectives, now: Instant) -> Reuse {
    // A client that says `no-cache` would rather know of a failure than have what it knows.
    if lease.always_validate || request.no_cache {
        return Reuse::Validate { on_error: false };
    }
    let (age, fresh, staleness) = (lease.age(now), lease.is_fresh(now), lease.staleness(now));
    // RFC 5861 §4: the client may take more of it when the origin fails, but nothing that may never be stale.
    let asked = request.stale_if_error.filter(|_| !lease.never_stale);
    let validate = Reuse::Validate {
        on_error: fresh || staleness < lease.if_error.max(asked.unwrap_or_default()),
    };
    let left = lease.lifetime.saturating_sub(age);
    if request.max_age.is_some_and(|most| age > most)
        || request.min_fresh.is_some_and(|least| left < least)
    {
        return validate;
    }
    if fresh {
        return Reuse::Fresh;
    }
    // RFC 9111 §5.2.1: who says `max-stale` takes nothing staler; who says `max-age` alone takes nothing stale.
    let takes_it = match request.max_stale {
        Some(most) => staleness <= most,
        None => request.max_age.is_none(),
    };
    if takes_it && staleness < lease.while_revalidate {
        return Reuse::StaleWhileRevalidating;
    }
    if takes_it && request.max_stale.is_some() && !lease.never_stale {
        return Reuse::Stale;
    }
    validate
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::semantics::fields;

    const VALIDATE: Reuse = Reuse::Validate { on_error: false };
    const VALIDATE_OR_NOT: Reuse = Reuse::Validate { on_error: true };

    /// Fresh for a minute, then usable for five seconds while it is validated, for 20 when the origin fails.
    fn lease() -> Lease {
        Lease {
            received: Instant::now(),
            age_when_received: Duration::ZERO,
            lifetime: Duration::from_secs(60),
            is_assumed: false,
            always_validate: false,
            never_stale: false,
            while_revalidate: Duration::from_secs(5),
            if_error: Duration::from_secs(20),
            has_validator: true,
        }
    }

    fn used(lease: &Lease, request: &str, age: u64) -> Reuse {
        let request = RequestDirectives::of(&fields(&[("cache-control", request)]));
        reuse(lease, &request, lease.received + Duration::from_secs(age))
    }

    #[test]
    fn a_response_is_used_until_it_is_stale_and_then_as_far_as_it_may() {
        use Reuse::{Fresh, StaleWhileRevalidating};
        for (age, expected) in [
            (0, Fresh),
            (59, Fresh),
            (60, StaleWhileRevalidating),
            (64, StaleWhileRevalidating),
            (65, VALIDATE_OR_NOT),
            (79, VALIDATE_OR_NOT),
            (80, VALIDATE),
            (1 << 40, VALIDATE),
        ] {
            assert_eq!(used(&lease(), "", age), expected, "{age}");
        }
    }

    /// RFC 9111 §5.2.1.
    #[test]
    fn requests_ask_for_more_freshness_or_less() {
        use Reuse::{Fresh, Stale, StaleWhileRevalidating};
        for (request, age, expected) in [
            ("no-cache", 3, VALIDATE),
            ("no-store", 3, Fresh),
            ("max-age=0", 3, VALIDATE_OR_NOT),
            ("max-age=1", 3, VALIDATE_OR_NOT),
            ("max-age=3", 3, Fresh),
            ("max-age=x", 3, VALIDATE_OR_NOT),
            ("max-age=100", 62, VALIDATE_OR_NOT),
            ("max-age=100, max-stale", 62, StaleWhileRevalidating),
            ("max-age=65, max-stale", 66, VALIDATE_OR_NOT),
            ("min-fresh=57", 3, Fresh),
            ("min-fresh=58", 3, VALIDATE_OR_NOT),
            ("min-fresh=x", 3, VALIDATE_OR_NOT),
            ("min-fresh=1", 62, VALIDATE_OR_NOT),
            ("min-fresh=1, max-stale", 62, VALIDATE_OR_NOT),
            ("max-stale=1000", 3, Fresh),
            ("max-stale=1000", 62, StaleWhileRevalidating),
            ("max-stale=2", 62, StaleWhileRevalidating),
            ("max-stale=1", 62, VALIDATE_OR_NOT),
            ("max-stale=0", 62, VALIDATE_OR_NOT),
            ("max-stale=x", 62, VALIDATE_OR_NOT),
            ("max-age=100, max-stale=1", 62, VALIDATE_OR_NOT),
            ("max-stale=10", 70, Stale),
            ("max-stale=9", 70, VALIDATE_OR_NOT),
            ("max-stale", 100_000, Stale),
            ("max-stale=x", 70, VALIDATE_OR_NOT),
            ("max-stale=\"10\"", 70, Stale),
            ("only-if-cached", 3, Fresh),
            ("stale-if-error=21", 80, VALIDATE_OR_NOT),
            ("stale-if-error=20", 80, VALIDATE),
            ("stale-if-error=0", 79, VALIDATE_OR_NOT),
            ("stale-if-error", 80, VALIDATE),
            ("stale-if-error=100, no-cache", 70, VALIDATE),
        ] {
            assert_eq!(used(&lease(), request, age), expected, "{request} at {age}");
        }
    }

    /// RFC 9111 §4.2.4: no request can have what the origin forbids.
    #[test]
    fn what_must_be_validated_is() {
        let never_stale = Lease {
            never_stale: true,
            while_revalidate: Duration::ZERO,
            if_error: Duration::ZERO,
            ..lease()
        };
        assert_eq!(used(&never_stale, "max-stale", 3), Reuse::Fresh);
        assert_eq!(used(&never_stale, "max-stale", 60), VALIDATE);
        assert_eq!(used(&never_stale, "stale-if-error=100", 60), VALIDATE);
        // The windows that it has beside `s-maxage` are its own word.
        let windows = Lease {
            never_stale: true,
            ..lease()
        };
        assert_eq!(
            used(&windows, "max-stale", 62),
            Reuse::StaleWhileRevalidating
        );
        assert_eq!(used(&windows, "max-stale", 70), VALIDATE_OR_NOT);
        let always = Lease {
            always_validate: true,
            ..lease()
        };
        assert_eq!(used(&always, "", 0), VALIDATE);
        assert_eq!(used(&always, "max-stale", 0), VALIDATE);
    }
}
