//! The request of a fetch: the client's, without what makes the answer a part or an absence of the response.

use std::rc::Rc;

use http::Method;
use http::header::{self, HeaderMap, HeaderName};

use super::fields::{Fields, Parts};
use crate::cache::Stored;

/// The request of a fetch: the client's, without conditions and ranges of its own, with those that validate `stale`. It is a
/// GET also where the client asks for the head alone: what comes is stored.
pub(super) fn request(asked: &Parts, stale: Option<&Stored>) -> Parts {
    let mut request = asked.clone();
    request.method = Method::GET;
    let mut headers = HeaderMap::clone(&asked.headers);
    for name in OWN_CONDITIONS {
        headers.remove(name);
    }
    if let Some(stale) = stale {
        let mut copy = |from: HeaderName, to: HeaderName| {
            if let Some(value) = stale.headers.get(from) {
                headers.insert(to, value.clone());
            }
        };
        copy(header::ETAG, header::IF_NONE_MATCH);
        copy(header::LAST_MODIFIED, header::IF_MODIFIED_SINCE);
    }
    request.headers = Rc::new(Fields::new(headers));
    request
}

/// The same in the background. What the client says to caches is about what it has got already; `only-if-cached`, above all,
/// would keep a cache on the way from asking.
pub(super) fn request_in_background(asked: &Parts, stale: &Stored) -> Parts {
    let mut request = request(asked, Some(stale));
    let mut headers = HeaderMap::clone(&request.headers);
    headers.remove(header::CACHE_CONTROL);
    headers.remove(header::PRAGMA);
    request.headers = Rc::new(Fields::new(headers));
    request
}

const OWN_CONDITIONS: [HeaderName; 4] = [
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];
