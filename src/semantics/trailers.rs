//! Which fields may follow a body (RFC 9110 §6.5.1).

use http::HeaderName;
use http::header;

use super::hop_by_hop;

/// Whether a field that came as a trailer is passed on as one. Not those that frame, route, authenticate or describe the
/// content: a receiver that merges trailers into the head would believe them.
pub(crate) fn may_follow(name: &HeaderName) -> bool {
    !hop_by_hop::is_hop_by_hop(name.as_str())
        && !name.as_str().starts_with("content-")
        && !matches!(
            *name,
            header::HOST
                | header::TRAILER
                | header::AUTHORIZATION
                | header::WWW_AUTHENTICATE
                | header::COOKIE
                | header::SET_COOKIE
                | header::CACHE_CONTROL
                | header::EXPECT
                | header::IF_MATCH
                | header::IF_NONE_MATCH
                | header::RANGE
                | header::MAX_FORWARDS
                | header::LOCATION
                | header::VARY
                | header::FORWARDED
        )
}
