//! Responses: what is added to those of servers, and those that weir writes itself.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response;
use http::{Response, StatusCode};

use super::body::Body;
use super::cache_status::CACHE_STATUS;
use super::error::ProxyError;
use super::record::{End, Record};
use super::target::Target;
use crate::cache::PLACE;
use crate::state::{Listener, Route};

const VIA: HeaderValue = HeaderValue::from_static("1.1 weir");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What usually comes in one piece with its head.
const SMALL_BODY: u32 = 4 * 1024;
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The head of a server's response as the client gets it.
pub(super) fn parts(
    status: StatusCode,
    mut headers: HeaderMap,
    record: &Record,
    listener: &Listener,
    route: &Route,
) -> response::Parts {
    headers.append(header::VIA, VIA);
    stored_parts(status, headers, record, listener, route)
}

/// The head of a stored response, whose fields were [`prepared`].
pub(super) fn stored_parts(
    status: StatusCode,
    headers: HeaderMap,
    record: &Record,
    listener: &Listener,
    route: &Route,
) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.headers = headers;
    complete_stored(&mut parts.headers, id_for(record), listener, Some(route));
    parts
}

/// The fields of a response as they are stored: with a place for each that is filled in when it is sent, so that this takes
/// neither room nor time that is not there.
pub(super) fn prepared(
    status: StatusCode,
    mut headers: HeaderMap,
    length: Option<u64>,
) -> HeaderMap {
    headers.append(header::VIA, VIA);
    headers.insert(X_REQUEST_ID, PLACE);
    headers.insert(header::AGE, PLACE);
    // RFC 9110 §8.6
    if let Some(length) = length.filter(|_| status != StatusCode::NO_CONTENT) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.entry(CACHE_STATUS).or_insert(PLACE);
    headers
}

/// The fields that were prepared.
pub(super) fn original(prepared: &HeaderMap) -> HeaderMap {
    let mut headers = prepared.clone();
    for name in [X_REQUEST_ID, header::AGE, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    if headers
        .get(CACHE_STATUS)
        .is_some_and(|value| *value == PLACE)
    {
        headers.remove(CACHE_STATUS);
    }
    let mut via: Vec<_> = headers.get_all(header::VIA).iter().cloned().collect();
    via.pop();
    headers.remove(header::VIA);
    headers.extend(via.into_iter().map(|value| (header::VIA, value)));
    headers
}

/// Puts a field into its place, or where there is none adds it, in place of any that a server has sent. To insert what has
/// its place would make room for one more first, which moves the whole map.
pub(super) fn fill_in(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match headers.get_mut(&name) {
        Some(place) if *place == PLACE => *place = value,
        _ => {
            headers.insert(name, value);
        }
    }
}

/// The id of a request for the fields of its response.
fn id_for(record: &Record) -> HeaderValue {
    let mut id = record.id.to_value();
    // Never twice the same: in the table by which HTTP/2 compresses fields it would push out what does repeat. So it is
    // written as what must not get into one (RFC 7541 §6.2.3).
    id.set_sensitive(record.client.http2.get());
    id
}

fn complete(headers: &mut HeaderMap, id: HeaderValue, listener: &Listener, route: Option<&Route>) {
    headers.append(header::VIA, VIA);
    complete_stored(headers, id, listener, route);
}

/// What is of one request, listener and state only, and so not stored with a response.
fn complete_stored(
    headers: &mut HeaderMap,
    id: HeaderValue,
    listener: &Listener,
    route: Option<&Route>,
) {
    fill_in(headers, X_REQUEST_ID, id);
    if let Some(hsts) = &listener.hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    let Some(edits) = route
        .map(|route| &route.response_headers)
        .filter(|edits| !edits.is_empty())
    else {
        return;
    };
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name.clone(), value.clone());
    }
}

/// A 101: the connection is about to speak another protocol.
pub(super) fn switching(
    mut headers: HeaderMap,
    protocol: HeaderValue,
    id: HeaderValue,
    listener: &Listener,
    route: &Route,
) -> Response<Body> {
    complete(&mut headers, id, listener, Some(route));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
    let mut response = Response::new(Body::none());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// The response of a route that answers by itself.
pub(super) fn fixed(
    mut record: Box<Record>,
    listener: &Listener,
    route: &Route,
    status: StatusCode,
    body: &Bytes,
    content_type: &HeaderValue,
) -> Response<Body> {
    record.status = Some(status);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let body = if bodiless { Bytes::new() } else { body.clone() };
    if !bodiless {
        parts
            .headers
            .insert(header::CONTENT_TYPE, content_type.clone());
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    complete(&mut parts.headers, id_for(&record), listener, Some(route));
    send(parts, body, record)
}

/// A redirect.
pub(super) fn redirect(
    record: Box<Record>,
    listener: &Listener,
    route: Option<&Route>,
    status: StatusCode,
    to: &str,
    target: &Target<'_>,
) -> Response<Body> {
    let mut record = record;
    record.status = Some(status);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    if let Ok(location) = HeaderValue::try_from(location(to, target)) {
        parts.headers.insert(header::LOCATION, location);
    }
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    complete(&mut parts.headers, id_for(&record), listener, route);
    send(parts, Bytes::new(), record)
}

/// `to` with the client's path in place of `{path}`, and with its query unless `to` has one. Leads to no host that `to`
/// does not name: browsers take `//` at the beginning for that of a host, and `\` for a slash.
fn location(to: &str, target: &Target<'_>) -> String {
    let path = target.routed_path().replace('\\', "%5C");
    let mut location = to.replace("{path}", &path);
    if location.starts_with("//") && !to.starts_with("//") {
        location = format!("/{}", location.trim_start_matches('/'));
    }
    if let Some(query) = target.query.filter(|_| !to.contains('?')) {
        location.push('?');
        location.push_str(query);
    }
    location
}

/// An error becomes a response here and nowhere else.
pub(super) fn error(
    mut record: Box<Record>,
    error: &ProxyError,
    listener: Option<&Listener>,
) -> Response<Body> {
    let told = error.told();
    tracing::debug!(
        request_id = %record.id.as_bytes().escape_ascii(),
        status = told.status.as_u16(),
        error = error as &dyn std::error::Error,
        "answered with an error"
    );
    if let Some(reason) = told.refused {
        record.refused(reason);
    }
    if let ProxyError::Drained = error {
        record.end = End::Drained;
    }
    record.status = Some(told.status);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = told.status;
    let headers = &mut parts.headers;
    let (content_type, body) = page(told.status, record.request.headers.get(header::ACCEPT));
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Ok(status) = HeaderValue::try_from(format!("weir; error={}", told.word)) {
        headers.insert(PROXY_STATUS, status);
    }
    if let Some(seconds) = told.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if told.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(
            header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        );
    }
    if told.close && !record.client.http2.get() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(X_REQUEST_ID, id_for(&record));
    if let Some(hsts) = listener.and_then(|listener| listener.hsts.as_ref()) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    send(parts, body, record)
}

fn send(mut parts: response::Parts, body: Bytes, record: Box<Record>) -> Response<Body> {
    if record.client.has_unread()
        && !record.client.http2.get()
        && !is_likely_here(&record.request.headers)
    {
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // What a GET would have got is told by the fields alone (RFC 9110 §9.3.2).
    let head = record.request.method == http::Method::HEAD;
    Response::from_parts(
        parts,
        Body::whole(if head { Bytes::new() } else { body }, record),
    )
}

/// Whether an unread body is so small that it came with its head: the connection can then go on behind it. A guess; where
/// it is wrong, the connection ends unannounced.
fn is_likely_here(request: &HeaderMap) -> bool {
    let length = request
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u32>().ok());
    length.is_some_and(|length| length <= SMALL_BODY) && !request.contains_key(header::EXPECT)
}

/// A short page that tells the status and nothing else, in the type that the client likes best.
fn page(status: StatusCode, accept: Option<&HeaderValue>) -> (HeaderValue, Bytes) {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    let accept = accept
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    // The first of the three types that is named: browsers name HTML first, API clients JSON.
    let html = accept.find("text/html");
    let json = accept.find("application/json");
    let named_first = |this: Option<usize>, other: Option<usize>| {
        this.is_some_and(|this| other.is_none_or(|other| this < other))
    };
    if named_first(html, json) {
        let page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title></head>\
             <body><h1>{code} {reason}</h1></body></html>\n"
        );
        (
            HeaderValue::from_static("text/html; charset=utf-8"),
            page.into(),
        )
    } else if named_first(json, html) {
        let page = format!("{{\"status\":{code},\"error\":\"{reason}\"}}\n");
        (HeaderValue::from_static("application/json"), page.into())
    } else {
        (
            HeaderValue::from_static("text/plain; charset=utf-8"),
            format!("{code} {reason}\n").into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::PLACES;

    #[test]
    fn the_store_knows_every_field_that_has_a_place() {
        let prepared = prepared(StatusCode::OK, HeaderMap::new(), Some(1));
        let places = prepared.iter().filter(|(_, value)| **value == PLACE);
        let mut places: Vec<_> = places.map(|(name, _)| name.as_str()).collect();
        places.sort_unstable();
        assert_eq!(places, PLACES);
    }
}
