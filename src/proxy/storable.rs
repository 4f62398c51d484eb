//! Whether a response may be stored, for how long it may be used, and what is stored of it: the pure rules of the cache, asked
//! about a response that is here.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::HeaderMap;
use http::{Method, StatusCode};

use super::answer::{Answered, Content};
use super::respond::{original, prepared};
use crate::cache::{
    Caching, Exchange, Fetch, Lease, Refusal, Stored, freshened, judge, storable_fields,
};
use crate::config::Cache;
use crate::deadline;
use crate::semantics::cache_control::Directives;
use crate::semantics::coding;

/// When a response came, and how old it may have been by then (RFC 9111 §4.2.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) requested: Instant,
    pub(super) received: Instant,
    /// That of the clock on the wall, when it was received.
    pub(super) wall: SystemTime,
}

impl Times {
    /// Of a response that is just here.
    pub(super) fn since(requested: Instant) -> Self {
        Self {
            requested,
            received: deadline::now(),
            wall: SystemTime::now(),
        }
    }
}

/// Whether a response may be stored, and for how long it may be used. Its length, where that is known.
pub(super) fn judged(
    caching: &Caching,
    asked: &HeaderMap,
    (status, headers, length): (StatusCode, &HeaderMap, Option<u64>),
    times: Times,
    rules: &Cache,
) -> Result<Lease, Refusal> {
    let lease = judge(&exchange(asked, status, headers, times), rules)?;
    match length {
        _ if is_stream(headers) => Err(Refusal::Stream),
        Some(length) if length > caching.store.max_object_size() => Err(Refusal::TooLarge),
        _ => Ok(lease),
    }
}

/// What is stored of a response, short of its body; why it is not after all, if so.
pub(super) async fn stored_head(
    caching: &Caching,
    fetch: Fetch<'_>,
    (status, headers, length): (StatusCode, &HeaderMap, Option<u64>),
    lease: Lease,
    wall: SystemTime,
) -> Result<Arc<Stored>, Refusal> {
    let headers = prepared(status, storable(headers, wall), length);
    let head = Arc::new(Stored::head(status, headers, length, lease, wall));
    match caching.store.objection(fetch, &head).await {
        Some(refusal) => Err(refusal),
        None => Ok(head),
    }
}

/// The fields of the stored response with what another says of it.
pub(super) fn updated(stale: &Stored, from: &HeaderMap) -> HeaderMap {
    freshened(&original(&stale.headers), from)
}

/// The stored response with these fields, which are [`updated`]; why it may not be stored any more, if so.
pub(super) fn brought_up_to_date(
    stale: &Stored,
    asked: &HeaderMap,
    headers: &HeaderMap,
    times: Times,
    rules: &Cache,
) -> Result<Stored, Refusal> {
    if headers.len() > MOST_FIELDS {
        return Err(Refusal::TooManyFields);
    }
    let lease = judge(&exchange(asked, stale.status, headers, times), rules)?;
    let headers = prepared(stale.status, storable(headers, times.wall), stale.length);
    Ok(stale.with(headers, lease, times.wall))
}

/// Renews or takes away the mark of a target that had nothing to store.
pub(super) async fn mark(
    caching: &Caching,
    fetch: Fetch<'_>,
    answered: &Answered,
    times: Times,
    until: Instant,
) {
    let store = &caching.store;
    let response = (answered.status, &answered.headers, length(answered));
    let asked = &answered.record.request.headers;
    match judged(caching, asked, response, times, fetch.rules) {
        Ok(_) => store.unmark(fetch.key, fetch.request).await,
        // It need not be written down each time.
        Err(_) if until > times.received + HALF_A_MARK => {}
        Err(refusal) => {
            let now = times.received;
            store
                .mark_uncacheable(fetch, &answered.headers, refusal, now)
                .await;
        }
    }
}

fn exchange<'e>(
    request: &'e HeaderMap,
    status: StatusCode,
    response: &'e HeaderMap,
    times: Times,
) -> Exchange<'e> {
    Exchange {
        method: &Method::GET,
        request,
        status,
        response,
        requested: times.requested,
        received: times.received,
        wall: times.wall,
    }
}

/// RFC 5861 §4.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

fn is_stream(headers: &HeaderMap) -> bool {
    coding::media_type(headers).is_some_and(|kind| kind == coding::EVENT_STREAM)
}

/// The length of the content, where it is known.
pub(super) fn length(answered: &Answered) -> Option<u64> {
    match &answered.content {
        Content::Whole(bytes) => Some(bytes.len() as u64),
        Content::Upstream(body) => body.framing.remaining(),
    }
}

/// The fields that are stored.
pub(super) fn storable(headers: &HeaderMap, wall: SystemTime) -> HeaderMap {
    let mut fields = storable_fields(headers, &Directives::of_response(headers), wall);
    // Who cannot take the coding gets the response decoded.
    if let coding::Content::Coded(_) = coding::Content::of(&fields)
        && !coding::forbids_transformation(&fields)
    {
        coding::vary_by_accept_encoding(&mut fields);
    }
    fields
}

/// Each 304 may bring fields that the stored response does not have. So many are more than any response comes with.
const MOST_FIELDS: usize = 256;

/// Half of the time that a mark holds.
const HALF_A_MARK: Duration = Duration::from_secs(30);
