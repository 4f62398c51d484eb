//! The fields of a request, and in short which of those it has that matter here. They are seldom there: to look one up in
//! the map costs as much as finding all of them in one pass.

use std::ops::Deref;
use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use crate::semantics::cache_control::RequestDirectives;

/// A request, without its body.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    /// Shared by requests of a worker that came with the same ones, where those are kept.
    pub(crate) headers: Rc<Fields>,
}

impl From<http::request::Parts> for Parts {
    fn from(parts: http::request::Parts) -> Self {
        Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: Rc::new(Fields::new(parts.headers)),
        }
    }
}

/// The fields of a request, as they came.
#[derive(Debug)]
pub(crate) struct Fields {
    map: HeaderMap,
    /// What the section takes on the wire in HTTP/1.
    pub(crate) size: usize,
    /// `Host`: the last one, and how many there are.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) hosts: usize,
    pub(crate) present: Present,
    pub(super) asks: Asks,
}

/// Which fields a request has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) connection: bool,
    pub(crate) te: bool,
    pub(crate) transfer_encoding: bool,
    pub(crate) upgrade: bool,
}

/// What a request says to a cache.
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

impl Fields {
    pub(crate) fn new(map: HeaderMap) -> Self {
        let (mut size, mut host, mut hosts) = (0, None, 0);
        let (mut present, mut asks) = (Present::default(), Asks::default());
        for (name, value) in &map {
            let name = name.as_str();
            // Name, colon, blank, value, CRLF.
            size += name.len() + value.len() + 4;
            match name.len() {
                2 => present.te |= name == "te",
                4 if name == "host" => {
                    host = Some(value.clone());
                    hosts += 1;
                }
                5 => asks.for_ranges |= name == "range",
                6 => asks.directs |= name == "pragma",
                7 => present.upgrade |= name == "upgrade",
                8 => asks.for_the_origin |= name == "if-match",
                10 => present.connection |= name == "connection",
                13 => {
                    asks.directs |= name == "cache-control";
                    asks.conditionally |= name == "if-none-match";
                }
                17 => {
                    present.transfer_encoding |= name == "transfer-encoding";
                    asks.conditionally |= name == "if-modified-since";
                }
                19 => asks.for_the_origin |= name == "if-unmodified-since",
                _ => {}
            }
        }
        Self {
            map,
            size,
            host,
            hosts,
            present,
            asks,
        }
    }

    /// The memory, for another request.
    pub(super) fn take(&mut self) -> HeaderMap {
        self.host = None;
        std::mem::take(&mut self.map)
    }
}

impl Deref for Fields {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.map
    }
}

impl Asks {
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
    use http::HeaderName;

    use super::*;

    fn fields(name: &'static str) -> Fields {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("*/*"));
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        Fields::new(headers)
    }

    #[test]
    fn each_field_that_matters_to_a_cache_is_seen_and_no_other() {
        let asks = |name| fields(name).asks;
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

    #[test]
    fn what_concerns_the_connection_is_seen_and_the_host_is_there() {
        let present = |name| fields(name).present;
        let nothing = Present::default();
        for (name, wanted) in [
            (
                "te",
                Present {
                    te: true,
                    ..nothing
                },
            ),
            (
                "upgrade",
                Present {
                    upgrade: true,
                    ..nothing
                },
            ),
            (
                "connection",
                Present {
                    connection: true,
                    ..nothing
                },
            ),
            (
                "transfer-encoding",
                Present {
                    transfer_encoding: true,
                    ..nothing
                },
            ),
            ("content-encoding", nothing),
            ("if-modified-since", nothing),
        ] {
            assert_eq!(present(name), wanted, "{name}");
        }
        let named = fields("host");
        assert_eq!(
            (named.host, named.hosts),
            (Some(HeaderValue::from_static("1")), 1)
        );
        assert_eq!((fields("x").host, fields("x").hosts), (None, 0));
        // `accept: */*` and `x: 1`, each with CRLF.
        assert_eq!(fields("x").size, 13 + 6);
    }
}
