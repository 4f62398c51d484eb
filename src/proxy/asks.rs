//! Which of the fields a request has that matter to a cache. They are seldom there, and found in one pass over all, which costs
//! less than to look each up.

use http::HeaderMap;

use crate::semantics::cache_control::RequestDirectives;

/// What a request says, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// `Cache-Control` or `Pragma`.
    pub(super) directs: bool,
    /// `If-None-Match` or `If-Modified-Since`.
    pub(super) conditionally: bool,
    /// `Range`.
    pub(super) for_ranges: bool,
    /// `If-Match` or `If-Unmodified-Since`, which are for the server to judge (RFC 9110 §13.2.1).
    pub(super) for_the_origin: bool,
}

impl Asks {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut asks = Self::default();
        for name in headers.keys() {
            let name = name.as_str();
            match name.len() {
                5 => asks.for_ranges |= name == "range",
                6 => asks.directs |= name == "pragma",
                8 => asks.for_the_origin |= name == "if-match",
                13 => {
                    asks.directs |= name == "cache-control";
                    asks.conditionally |= name == "if-none-match";
                }
                17 => asks.conditionally |= name == "if-modified-since",
                19 => asks.for_the_origin |= name == "if-unmodified-since",
                _ => {}
            }
        }
        asks
    }

    pub(super) fn directives(self, headers: &HeaderMap) -> RequestDirectives {
        if self.directs {
            RequestDirectives::of(headers)
        } else {
            RequestDirectives::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn each_field_that_matters_is_seen_and_no_other() {
        let asks = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append("accept", HeaderValue::from_static("*/*"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
            Asks::of(&headers)
        };
        let nothing = Asks::default();
        for name in ["cache-control", "pragma"] {
            assert_eq!(
                asks(name),
                Asks {
                    directs: true,
                    ..nothing
                },
                "{name}"
            );
        }
        for name in ["if-none-match", "if-modified-since"] {
            let conditionally = Asks {
                conditionally: true,
                ..nothing
            };
            assert_eq!(asks(name), conditionally, "{name}");
        }
        assert_eq!(
            asks("range"),
            Asks {
                for_ranges: true,
                ..nothing
            }
        );
        for name in ["if-match", "if-unmodified-since"] {
            let for_the_origin = Asks {
                for_the_origin: true,
                ..nothing
            };
            assert_eq!(asks(name), for_the_origin, "{name}");
        }
        for name in ["if-range", "authorization", "host", "cache-cantrol"] {
            assert_eq!(asks(name), nothing, "{name}");
        }
    }
}
