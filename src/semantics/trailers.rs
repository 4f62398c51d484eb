//! Which fields may follow a body (RFC 9110 §6.5.1).

use http::HeaderName;
use http::header;

use super::{hop_by_hop, variables};

/// Whether a field that came as a trailer is passed on as one. Not those that frame, route, authenticate or describe the
/// content: a receiver that merges trailers into the head would believe them.
pub(crate) fn may_follow(name: &HeaderName) -> bool {
    !hop_by_hop::is_hop_by_hop(name.as_str())
        && !tells_of_proxies(name.as_str())
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

/// Whether a proxy writes the field to tell who asked.
fn tells_of_proxies(name: &str) -> bool {
    name == "via"
        || ["x-forwarded", "x-real-ip", "x-request-id"]
            .into_iter()
            .any(|field| variables::begins_as(name, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_would_believe_does_not_follow() {
        for name in [
            "connection",
            "content-length",
            "host",
            "forwarded",
            "via",
            "x-forwarded-for",
            "x_forwarded_proto",
            "x-forwarded-port",
            "x-real-ip",
            "x-request_id",
        ] {
            assert!(!may_follow(&name.parse().unwrap()), "{name}");
        }
        for name in ["x-checksum", "server-timing", "x-forward", "grpc-status"] {
            assert!(may_follow(&name.parse().unwrap()), "{name}");
        }
    }
}
