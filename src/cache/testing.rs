//! What the tests of the store have in common.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, header};

use super::{Lease, Stored};
use crate::config::Cache;

/// What a route has that says `cache = true`, without stale use.
pub(super) fn rules() -> Cache {
    Cache {
        stale_if_error: None,
        ..Cache::default()
    }
}

pub(super) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Fresh for a minute from now on.
pub(super) fn stored(fields: &[(&str, &str)], body: impl Into<Bytes>) -> Stored {
    let mut headers = headers(fields);
    headers.append(header::SERVER, HeaderValue::from_static("test"));
    let lease = Lease {
        received: Instant::now(),
        age_when_received: Duration::ZERO,
        lifetime: Duration::from_secs(60),
        is_assumed: false,
        always_validate: false,
        never_stale: false,
        while_revalidate: Duration::ZERO,
        if_error: Duration::ZERO,
        has_validator: false,
    };
    Stored::new(
        StatusCode::OK,
        headers,
        body.into(),
        lease,
        SystemTime::now(),
    )
}
