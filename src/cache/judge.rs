//! Which responses may be stored, and for how long they are fresh (RFC 9111 §3, §4.2). weir is a shared cache.
//!
//! Freshness comes, in this order, from `s-maxage`, `max-age` and `Expires`; where the route says so, from a tenth of the time
//! since `Last-Modified`; and then from the route's `default_ttl`. Only the first kind is the origin's own word: it makes
//! responses of any status storable. The others are for responses that are cacheable by default.

use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::{Lease, Refusal};
use crate::config;
use crate::semantics::cache_control::{
    Directives, LARGEST, RequestDirectives, Scope, delta_seconds, has_pragma_no_cache,
};
use crate::semantics::date::Date;
use crate::semantics::hop_by_hop::{Nominated, has_token, is_hop_by_hop};

/// A request that was forwarded, and the head of what came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'e> {
    pub(crate) method: &'e Method,
    /// The fields that the client sent.
    pub(crate) request: &'e HeaderMap,
    pub(crate) status: StatusCode,
    pub(crate) response: &'e HeaderMap,
    /// When the request was sent.
    pub(crate) requested: Instant,
    /// When the head came.
    pub(crate) received: Instant,
    /// The same moment, for dates.
    pub(crate) wall: SystemTime,
}

/// Whether the response may be stored, and what is agreed about its use.
///
/// # Errors
/// The reason why it may not.
pub(crate) fn judge(exchange: &Exchange<'_>, rules: &config::Cache) -> Result<Lease, Refusal> {
    let directives = Directives::of_response(exchange.response);
    may_be_stored(exchange, rules, &directives)?;
    let lease = lease(exchange, rules, &directives)?;
    if lease.has_validator {
        return Ok(lease);
    }
    if lease.always_validate {
        return Err(Refusal::NoValidator);
    }
    // What the route adds to a response that came stale is no reason to keep it: it said that it is for now only.
    let said = directives
        .stale_while_revalidate
        .max(directives.stale_if_error)
        .unwrap_or_default();
    let of_use = said.min(lease.while_revalidate.max(lease.if_error));
    let now = exchange.received;
    if lease.is_fresh(now) || lease.staleness(now) < of_use {
        return Ok(lease);
    }
    Err(Refusal::AlreadyStale)
}

/// RFC 9111 §3, but for freshness.
fn may_be_stored(
    exchange: &Exchange<'_>,
    rules: &config::Cache,
    directives: &Directives,
) -> Result<(), Refusal> {
    let (request, response) = (exchange.request, exchange.response);
    if exchange.method != Method::GET {
        return Err(Refusal::Method);
    }
    if is_never_stored(exchange.status) {
        return Err(Refusal::Status);
    }
    if RequestDirectives::of(request).no_store {
        return Err(Refusal::RequestNoStore);
    }
    let understood = is_understood(exchange.status);
    if directives.must_understand && !understood {
        return Err(Refusal::UnknownStatus);
    }
    if directives.no_store && !directives.outdoes_no_store {
        return Err(Refusal::NoStore);
    }
    if directives.private == Scope::All {
        return Err(Refusal::Private);
    }
    if request.contains_key(header::AUTHORIZATION) && !directives.for_others {
        return Err(Refusal::Authorization);
    }
    let sets_cookie = response.contains_key(header::SET_COOKIE);
    if sets_cookie && !rules.store_set_cookie && !directives.names(&header::SET_COOKIE) {
        return Err(Refusal::SetCookie);
    }
    let mut vary = response.get_all(header::VARY).iter();
    if vary.any(|field| has_token(field, "*")) {
        return Err(Refusal::VaryAnything);
    }
    Ok(())
}

fn lease(
    exchange: &Exchange<'_>,
    rules: &config::Cache,
    directives: &Directives,
) -> Result<Lease, Refusal> {
    let now = Date::at(exchange.wall);
    let date = date(exchange.response, now);
    let always_validate = directives.always_validate();
    let explicit = explicit_lifetime(exchange, directives, date.unwrap_or(now));
    let lifetime = explicit
        .or_else(|| assumed_lifetime(exchange, rules, directives, date.unwrap_or(now)))
        .or(always_validate.then_some(Duration::ZERO))
        .ok_or(Refusal::NoFreshness)?;
    let strict = always_validate || directives.must_revalidate || directives.proxy_revalidate;
    // What the response itself says holds beside `s-maxage`: whoever writes both means both. By RFC 9111 §5.2.2.10 that
    // directive is a `proxy-revalidate`, so nothing is added to it.
    let window = |said: Option<Duration>, otherwise: Option<Duration>| match said {
        _ if strict => Duration::ZERO,
        Some(said) => said,
        None if directives.s_maxage.is_some() => Duration::ZERO,
        None => otherwise.unwrap_or_default(),
    };
    Ok(Lease {
        received: exchange.received,
        age_when_received: age_when_received(exchange, date, now),
        lifetime,
        is_assumed: explicit.is_none() && !always_validate && !directives.public,
        always_validate,
        never_stale: strict || directives.s_maxage.is_some(),
        while_revalidate: window(
            directives.stale_while_revalidate,
            rules.stale_while_revalidate,
        ),
        if_error: window(directives.stale_if_error, rules.stale_if_error),
        has_validator: has_validator(exchange.response, now),
    })
}

/// What the origin says (RFC 9111 §4.2.1).
fn explicit_lifetime(
    exchange: &Exchange<'_>,
    directives: &Directives,
    date: Date,
) -> Option<Duration> {
    let expires = || {
        let said = !directives.targeted && exchange.response.contains_key(header::EXPIRES);
        said.then(|| {
            // §5.3: what is no date, "0" above all, is in the past. So are two of them, which may differ.
            let expires = Date::only(exchange.response, &header::EXPIRES, date);
            expires.map_or(Duration::ZERO, |expires| expires.since(date))
        })
    };
    directives.s_maxage.or(directives.max_age).or_else(expires)
}

/// What is assumed where the origin says nothing: RFC 9111 §4.2.2, and the route's `default_ttl`.
fn assumed_lifetime(
    exchange: &Exchange<'_>,
    rules: &config::Cache,
    directives: &Directives,
    date: Date,
) -> Option<Duration> {
    let (request, response) = (exchange.request, exchange.response);
    if directives.always_validate() || (!directives.targeted && has_pragma_no_cache(response)) {
        return None;
    }
    // Nothing is assumed of what may be for the one who asked.
    let for_anyone = !is_personal(request);
    if rules.heuristic
        && (for_anyone || directives.public)
        && (directives.public || is_cacheable_by_default(exchange.status))
    {
        let modified = Date::only(response, &header::LAST_MODIFIED, date);
        let unchanged = modified.map(|modified| date.since(modified));
        if let Some(unchanged) = unchanged.filter(|unchanged| !unchanged.is_zero()) {
            return Some((unchanged / 10).min(LONGEST_HEURISTIC));
        }
    }
    // Errors are the origin's to keep: one that is over is not to last because nobody said for how long it would.
    let succeeded = !exchange.status.is_client_error() && !exchange.status.is_server_error();
    let may_default = succeeded && for_anyone && is_cacheable_by_default(exchange.status);
    rules.default_ttl.filter(|_| may_default)
}

/// Whether the request tells who asks.
pub(crate) fn is_personal(request: &HeaderMap) -> bool {
    request.contains_key(header::COOKIE) || request.contains_key(header::AUTHORIZATION)
}

/// RFC 9111 §4.2.3: corrected_initial_age.
fn age_when_received(exchange: &Exchange<'_>, date: Option<Date>, now: Date) -> Duration {
    let apparent = date.map_or(Duration::ZERO, |date| now.since(date));
    let delay = exchange
        .received
        .saturating_duration_since(exchange.requested);
    let corrected = age(exchange.response).saturating_add(delay);
    apparent.max(corrected).min(Duration::from_secs(LARGEST))
}

/// The field `Age`. RFC 9111 §5.1 would have the first of several count, and ignore one that is no number; but a response
/// that some cache has garbled is not one to call young: it is as old as can be.
fn age(response: &HeaderMap) -> Duration {
    let mut fields = response.get_all(header::AGE).iter();
    let seconds = match (fields.next(), fields.next()) {
        (None, _) => return Duration::ZERO,
        (Some(only), None) => delta_seconds(only.as_bytes().trim_ascii()),
        (Some(_), Some(_)) => None,
    };
    Duration::from_secs(seconds.unwrap_or(LARGEST))
}

/// When the response was made, by the origin's clock. Of several dates, which two servers on its way may have added, the
/// oldest.
fn date(response: &HeaderMap, now: Date) -> Option<Date> {
    let fields = response.get_all(header::DATE).iter();
    fields
        .filter_map(|field| Date::parse(field.as_bytes(), now))
        .min()
}

fn has_validator(response: &HeaderMap, now: Date) -> bool {
    let mut tags = response.get_all(header::ETAG).iter();
    let tag = tags.next().is_some_and(|tag| !tag.is_empty()) && tags.next().is_none();
    tag || Date::only(response, &header::LAST_MODIFIED, now).is_some()
}

/// What is stored of the fields of a response that came then (RFC 9111 §3.1): not `Age`, nor the fields that its directives
/// name, nor those of one connection, of which the codec leaves none as it is. The length is that of the stored body. One
/// without a `Date` gets that (RFC 9110 §6.6.1).
pub(crate) fn storable_fields(
    response: &HeaderMap,
    directives: &Directives,
    received: SystemTime,
) -> HeaderMap {
    let nominated = Nominated::of(response);
    let mut stored = HeaderMap::with_capacity(response.len() + 1);
    for (name, value) in response {
        let of_the_moment = *name == header::AGE
            || *name == header::CONTENT_LENGTH
            || *name == header::TRAILER
            || is_hop_by_hop(name.as_str())
            || nominated.contains(name);
        if !of_the_moment && !directives.names(name) {
            stored.append(name, value.clone());
        }
    }
    own_their_bytes(&mut stored);
    let dated = stored.contains_key(header::DATE);
    if !dated {
        stored.insert(header::DATE, Date::at(received).to_field());
    }
    stored
}

/// As they were read, the values are slices of a block of many KiB, which they would keep from being freed.
fn own_their_bytes(fields: &mut HeaderMap) {
    let length = fields.values().map(HeaderValue::len).sum();
    let mut bytes = BytesMut::with_capacity(length);
    for value in fields.values() {
        bytes.extend_from_slice(value.as_bytes());
    }
    let mut bytes = bytes.freeze();
    for value in fields.values_mut() {
        // It was a value before, and so is one now.
        if let Ok(own) = HeaderValue::from_maybe_shared(bytes.split_to(value.len())) {
            *value = own;
        }
    }
}

/// RFC 9110 §15.1, and 451 by RFC 7725 §3. (206 is not stored.)
fn is_cacheable_by_default(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501
    )
}

/// Interim and partial ones, 304, and those that say something of the request that was sent only: its preconditions, its
/// ranges, its expectations; that it came too often, or was too large, or did not get through a portal (RFC 6585 forbids
/// storing these).
fn is_never_stored(status: StatusCode) -> bool {
    status.is_informational()
        || matches!(
            status.as_u16(),
            206 | 304 | 412 | 416 | 417 | 428 | 429 | 431 | 511
        )
}

/// Whether weir does what the status asks of caches (`must-understand`): those of RFC 9110 §15, and of the others that ask for
/// nothing.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 307 | 308 | 400..=411 | 413..=415 | 421..=426 | 451 | 500..=505
    )
}

/// RFC 9111 §4.2.2 names a tenth; a day is what it once was to warn of.
const LONGEST_HEURISTIC: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::cache::{Reuse, reuse};
    use crate::semantics::fields;

    /// What a route has that says `cache = true`, without stale use.
    fn rules() -> config::Cache {
        config::Cache {
            stale_if_error: None,
            ..config::Cache::default()
        }
    }

    fn heuristic() -> config::Cache {
        config::Cache {
            heuristic: true,
            ..rules()
        }
    }

    /// When the response of each test came.
    fn wall() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_790_301_600_500)
    }

    /// A date that many seconds after that.
    fn at(seconds: i64) -> String {
        let offset = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            wall() - offset
        } else {
            wall() + offset
        };
        httpdate::fmt_http_date(time)
    }

    /// A date is told by its distance from that moment.
    enum Value<'v> {
        Text(&'v str),
        At(i64),
    }
    use Value::{At, Text};

    fn response(lines: &[(&str, Value<'_>)]) -> HeaderMap {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| match value {
                Text(text) => (*name, (*text).to_owned()),
                At(seconds) => (*name, at(*seconds)),
            })
            .collect();
        fields(&lines)
    }

    fn judged(
        rules: &config::Cache,
        status: u16,
        request: &[(&str, &str)],
        response: &HeaderMap,
    ) -> Result<Lease, Refusal> {
        let now = Instant::now();
        let exchange = Exchange {
            method: &Method::GET,
            request: &fields(request),
            status: StatusCode::from_u16(status).unwrap(),
            response,
            requested: now,
            received: now,
            wall: wall(),
        };
        judge(&exchange, rules)
    }

    fn of(lines: &[(&str, Value<'_>)]) -> Result<Lease, Refusal> {
        judged(&rules(), 200, &[], &response(lines))
    }

    /// Whether the cache would answer the next request with it three seconds later, as the public suite asks.
    fn is_reused(lines: &[(&str, Value<'_>)]) -> bool {
        of(lines).is_ok_and(|lease| {
            let later = lease.received + Duration::from_secs(3);
            reuse(&lease, &RequestDirectives::default(), later) == Reuse::Fresh
        })
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const CC: &str = "cache-control";

    #[test]
    fn freshness_is_what_the_first_that_says_it_says() {
        for (lines, reused) in [
            (&[][..], false),
            (&[(CC, Text("max-age=3600"))], true),
            (&[(CC, Text("max-age=0"))], false),
            (&[(CC, Text("max-age=2147483648"))], true),
            (&[(CC, Text("max-age=99999999999"))], true),
            (&[(CC, Text("max-age=-3600"))], false),
            (
                &[
                    (CC, Text("max-age=3600")),
                    ("expires", At(-7200)),
                    ("date", At(0)),
                ],
                true,
            ),
            (
                &[
                    (CC, Text("max-age=3600")),
                    ("expires", Text("0")),
                    ("date", At(0)),
                ],
                true,
            ),
            (
                &[
                    (CC, Text("max-age=0")),
                    ("expires", At(3600)),
                    ("date", At(0)),
                ],
                false,
            ),
            (
                &[
                    (CC, Text("max-age=x")),
                    ("expires", At(3600)),
                    ("date", At(0)),
                ],
                false,
            ),
            (&[(CC, Text("s-maxage=3600"))], true),
            (&[(CC, Text("max-age=3600, s-maxage=1"))], false),
            (&[(CC, Text("s-maxage=1, max-age=3600"))], false),
            (
                &[(CC, Text("max-age=3600")), (CC, Text("s-maxage=1"))],
                false,
            ),
            (&[(CC, Text("max-age=1, s-maxage=3600"))], true),
            (
                &[("expires", At(-10)), (CC, Text("max-age=0, s-maxage=3600"))],
                true,
            ),
            (&[(CC, Text("s-maxage=, max-age=3600"))], false),
            (&[(CC, Text("max-age=3600")), ("date", At(-7200))], false),
            (&[(CC, Text("max-age=3600")), ("date", At(7200))], true),
            (&[(CC, Text("max-age=3600")), ("date", Text("foo"))], true),
            // Expires
            (&[("expires", At(2_592_000)), ("date", At(0))], true),
            (&[("expires", At(-2_592_000)), ("date", At(0))], false),
            (&[("expires", At(0)), ("date", At(0))], false),
            (&[("expires", At(300)), ("date", At(400))], false),
            (&[("expires", Text("0")), ("date", At(0))], false),
            (&[("expires", Text("")), ("date", At(0))], false),
            (
                &[
                    ("expires", Text("Thu, 18 Aug 2050 02:01:18 UTC")),
                    ("date", At(0)),
                ],
                false,
            ),
            (
                &[
                    ("expires", Text("Thursday, 18-Aug-50 02:01:18 GMT")),
                    ("date", At(0)),
                ],
                true,
            ),
            (
                &[
                    ("expires", Text("Thu, 18 AUG 2050 02:01:18 gMT")),
                    ("date", At(0)),
                ],
                true,
            ),
            (
                &[
                    ("expires", Text("Fri, 31 Dec 9999 23:59:59 GMT")),
                    ("date", At(0)),
                ],
                true,
            ),
            (&[("expires", At(10)), ("date", Text("foo"))], true),
            (&[("expires", At(10))], true),
            (
                &[
                    ("expires", At(3600)),
                    ("expires", At(3600)),
                    ("date", At(0)),
                ],
                false,
            ),
            (
                &[
                    ("expires", At(3600)),
                    ("expires", At(7200)),
                    ("date", At(0)),
                ],
                false,
            ),
            (
                &[("expires", At(10)), ("date", At(-10)), ("age", Text("25"))],
                false,
            ),
            (
                &[("expires", At(20)), ("date", At(10)), ("age", Text("15"))],
                false,
            ),
            (
                &[("expires", At(3600)), ("date", At(0)), ("date", At(0))],
                true,
            ),
            (
                &[("expires", At(3600)), ("date", At(7200)), ("date", At(0))],
                true,
            ),
            // By the fields for caches like this one alone.
            (
                &[
                    ("cdn-cache-control", Text("max-age=3600")),
                    (CC, Text("no-store")),
                ],
                true,
            ),
            (
                &[
                    ("cdn-cache-control", Text("max-age=3600")),
                    ("expires", At(-10)),
                    ("pragma", Text("no-cache")),
                ],
                true,
            ),
            (
                &[
                    ("cdn-cache-control", Text("none")),
                    (CC, Text("max-age=3600")),
                    ("expires", At(3600)),
                ],
                false,
            ),
            (
                &[
                    ("cdn-cache-control", Text("max-age=1")),
                    (CC, Text("max-age=3600")),
                ],
                false,
            ),
            (
                &[
                    ("cdn-cache-control", Text("no-store")),
                    (CC, Text("max-age=3600")),
                ],
                false,
            ),
            (&[("surrogate-control", Text("max-age=3600"))], false),
            // Restrictions win.
            (&[(CC, Text("max-age=3600, no-store"))], false),
            (&[(CC, Text("max-age=3600, private"))], false),
            (&[(CC, Text("max-age=3600, public, private"))], false),
            (&[(CC, Text("s-maxage=3600, private"))], false),
            (
                &[
                    (CC, Text("max-age=3600, no-cache")),
                    ("etag", Text("\"a\"")),
                ],
                false,
            ),
            (&[(CC, Text("max-age=3600, no-cache=\"a\""))], true),
            (&[(CC, Text("max-age=3600, must-revalidate"))], true),
            (&[(CC, Text("max-age=3600, immutable"))], true),
            (
                &[(CC, Text("max-age=3600")), ("pragma", Text("no-cache"))],
                true,
            ),
            (&[(CC, Text("max-age=3600")), ("vary", Text("a, *"))], false),
            (
                &[
                    (CC, Text("max-age=3600")),
                    ("vary", Text("a")),
                    ("vary", Text("*")),
                ],
                false,
            ),
            (
                &[(CC, Text("max-age=3600")), ("content-range", Text("x"))],
                true,
            ),
            (
                &[
                    (CC, Text("max-age=3600")),
                    ("content-disposition", Text("attachment")),
                ],
                true,
            ),
        ] {
            assert_eq!(is_reused(lines), reused, "{:?}", response(lines));
        }
    }

    #[test]
    fn age_is_the_one_number_of_its_field_and_anything_else_is_old() {
        for (lines, age) in [
            (&[][..], 0),
            (&["0"], 0),
            (&["1800"], 1800),
            (&["001800"], 1800),
            (&["7200,0"], LARGEST),
            (&["0,7200"], LARGEST),
            (&["0, 0"], LARGEST),
            (&["3600, 3600"], LARGEST),
            (&["7200", "0"], LARGEST),
            (&["0", "7200"], LARGEST),
            (&["2147483647"], LARGEST - 1),
            (&["2147483649"], LARGEST),
            (&["18446744073709551615"], LARGEST),
            (&["99999999999999999999999999"], LARGEST),
            (&["abc"], LARGEST),
            (&["-7200"], LARGEST),
            (&["+0"], LARGEST),
            (&["7200.0"], LARGEST),
            (&["0.0"], LARGEST),
            (&["7200;foo=bar"], LARGEST),
            (&["0;foo=111"], LARGEST),
            (&["\"0\""], LARGEST),
            (&["0 0"], LARGEST),
            (&[""], LARGEST),
            (&[", 0"], LARGEST),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("age", *line)).collect();
            assert_eq!(super::age(&fields(&lines)), seconds(age), "{lines:?}");
        }
    }

    /// RFC 9111 §4.2.3.
    #[test]
    fn the_initial_age_is_the_larger_of_what_the_date_and_the_age_tell() {
        let now = Instant::now();
        for (date, age, delay, expected) in [
            (At(0), "0", 0, 0),
            (At(-10), "0", 0, 10),
            (At(-10), "25", 0, 25),
            (At(-10), "5", 7, 12),
            (At(-10), "1", 7, 10),
            (At(3600), "1", 7, 8),
            (Text("foo"), "1", 7, 8),
            (At(0), "99999999999", 7, LARGEST),
        ] {
            let exchange = Exchange {
                method: &Method::GET,
                request: &HeaderMap::new(),
                status: StatusCode::OK,
                response: &response(&[
                    (CC, Text("max-age=100000")),
                    ("etag", Text("\"a\"")),
                    ("date", date),
                    ("age", Text(age)),
                ]),
                requested: now,
                received: now + seconds(delay),
                wall: wall(),
            };
            let lease = judge(&exchange, &rules()).unwrap();
            assert_eq!(
                lease.age_when_received,
                seconds(expected),
                "{:?}",
                exchange.response
            );
        }
    }

    #[test]
    fn any_final_status_is_stored_with_explicit_freshness_but_for_a_few() {
        let fresh = response(&[("expires", At(100_000)), ("date", At(0))]);
        for status in [
            200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 399, 400, 401, 403, 404, 405,
            410, 414, 451, 499, 500, 501, 502, 503, 504, 599, 999,
        ] {
            assert!(judged(&rules(), status, &[], &fresh).is_ok(), "{status}");
        }
        for status in [
            100, 101, 103, 199, 206, 304, 412, 416, 417, 428, 429, 431, 511,
        ] {
            assert_eq!(
                judged(&rules(), status, &[], &fresh),
                Err(Refusal::Status),
                "{status}"
            );
        }
    }

    /// RFC 9111 §5.2.2.3.
    #[test]
    fn must_understand_beats_no_store_for_a_known_status_only() {
        let both = response(&[(CC, Text("max-age=3600, must-understand, no-store"))]);
        let alone = response(&[(CC, Text("max-age=3600, must-understand"))]);
        for known in [200, 204, 301, 404, 410, 500, 503] {
            assert!(judged(&rules(), known, &[], &both).is_ok(), "{known}");
            assert!(judged(&rules(), known, &[], &alone).is_ok(), "{known}");
        }
        for unknown in [299, 306, 418, 499, 599] {
            let refused = Err(Refusal::UnknownStatus);
            assert_eq!(judged(&rules(), unknown, &[], &both), refused, "{unknown}");
            assert_eq!(judged(&rules(), unknown, &[], &alone), refused, "{unknown}");
        }
    }

    #[test]
    fn heuristic_freshness_is_a_tenth_of_the_time_without_a_change() {
        let day = response(&[("last-modified", At(-86_400)), ("date", At(0))]);
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501] {
            let lease = judged(&heuristic(), status, &[], &day).unwrap();
            assert_eq!(lease.lifetime, seconds(8640), "{status}");
            assert_eq!(
                judged(&rules(), status, &[], &day),
                Err(Refusal::NoFreshness),
                "{status}"
            );
        }
        let public = response(&[
            ("last-modified", At(-86_400)),
            ("date", At(0)),
            (CC, Text("public")),
        ]);
        for status in [
            201, 202, 302, 303, 307, 400, 401, 403, 500, 502, 503, 504, 599,
        ] {
            assert_eq!(
                judged(&heuristic(), status, &[], &day),
                Err(Refusal::NoFreshness),
                "{status}"
            );
            assert!(
                judged(&heuristic(), status, &[], &public).is_ok(),
                "{status}"
            );
        }
        for (lines, lifetime) in [
            (
                &[("last-modified", At(-5))][..],
                Some(Duration::from_millis(500)),
            ),
            (
                &[("last-modified", At(-864_000_000))],
                Some(seconds(86_400)),
            ),
            (
                &[("last-modified", At(-100)), ("date", At(-50))],
                Some(seconds(5)),
            ),
            (&[("last-modified", At(0)), ("date", At(0))], None),
            (&[("last-modified", At(50)), ("date", At(0))], None),
            (&[("last-modified", Text("never"))], None),
            (
                &[("last-modified", At(-100)), ("last-modified", At(-100))],
                None,
            ),
            (
                &[("last-modified", At(-100)), ("pragma", Text("no-cache"))],
                None,
            ),
            (
                &[("last-modified", At(-100)), (CC, Text("max-age=0"))],
                Some(seconds(0)),
            ),
            (
                &[("last-modified", At(-100)), (CC, Text("no-cache"))],
                Some(seconds(0)),
            ),
            (
                &[("last-modified", At(-100)), ("expires", Text("0"))],
                Some(seconds(0)),
            ),
            (&[("etag", Text("\"a\""))], None),
        ] {
            let lease = judged(&heuristic(), 200, &[], &response(lines));
            assert_eq!(
                lease.ok().map(|lease| lease.lifetime),
                lifetime,
                "{:?}",
                response(lines)
            );
        }
    }

    #[test]
    fn the_default_lifetime_is_for_successes_that_anyone_may_have() {
        let assuming = config::Cache {
            default_ttl: Some(seconds(60)),
            ..heuristic()
        };
        let plain = HeaderMap::new();
        let lifetime = |status, request: &[(&str, &str)], lines: &[(&str, Value<'_>)]| {
            let lease = judged(&assuming, status, request, &response(lines));
            lease.ok().map(|lease| lease.lifetime.as_secs())
        };
        for status in [200, 203, 204, 300, 301, 308] {
            assert_eq!(lifetime(status, &[], &[]), Some(60), "{status}");
            assert_eq!(
                judged(&rules(), status, &[], &plain),
                Err(Refusal::NoFreshness)
            );
        }
        for status in [
            201, 202, 302, 303, 307, 400, 401, 403, 404, 405, 410, 414, 451, 500, 501, 503,
        ] {
            assert_eq!(lifetime(status, &[], &[]), None, "{status}");
        }
        assert_eq!(lifetime(200, &[("cookie", "a=b")], &[]), None);
        assert_eq!(lifetime(200, &[("authorization", "x")], &[]), None);
        let public = (CC, Text("public"));
        assert_eq!(lifetime(200, &[("authorization", "x")], &[public]), None);
        assert_eq!(lifetime(200, &[], &[("pragma", Text("no-cache"))]), None);
        assert_eq!(lifetime(200, &[], &[(CC, Text("max-age=5"))]), Some(5));
        assert_eq!(lifetime(200, &[], &[(CC, Text("max-age=x"))]), None);
        assert_eq!(lifetime(200, &[], &[("expires", Text("x"))]), None);
        assert_eq!(lifetime(200, &[], &[("last-modified", At(-100))]), Some(10));
        assert_eq!(lifetime(200, &[], &[("last-modified", At(100))]), Some(60));
        assert_eq!(
            lifetime(200, &[], &[("cdn-cache-control", Text("none"))]),
            Some(60)
        );
    }

    #[test]
    fn each_reason_not_to_store_is_named() {
        let etag = || ("etag", Text("\"a\""));
        let max_age = || (CC, Text("max-age=3600"));
        for (request, lines, refusal) in [
            (
                &[][..],
                &[(CC, Text("no-store"))][..],
                Some(Refusal::NoStore),
            ),
            (
                &[(CC, "no-store")],
                &[max_age()],
                Some(Refusal::RequestNoStore),
            ),
            (&[(CC, "no-cache, max-age=0")], &[max_age()], None),
            (
                &[],
                &[(CC, Text("private, max-age=3600"))],
                Some(Refusal::Private),
            ),
            (&[], &[(CC, Text("private=\"a\", max-age=3600"))], None),
            (
                &[("authorization", "x")],
                &[("expires", At(3600))],
                Some(Refusal::Authorization),
            ),
            (
                &[("authorization", "x")],
                &[max_age()],
                Some(Refusal::Authorization),
            ),
            (
                &[("authorization", "x")],
                &[(CC, Text("max-age=3600, proxy-revalidate"))],
                Some(Refusal::Authorization),
            ),
            (
                &[("authorization", "x")],
                &[(CC, Text("max-age=3600, public"))],
                None,
            ),
            (
                &[("authorization", "x")],
                &[(CC, Text("max-age=3600, must-revalidate"))],
                None,
            ),
            (
                &[("authorization", "x")],
                &[(CC, Text("s-maxage=3600"))],
                None,
            ),
            (&[("cookie", "a=b")], &[max_age()], None),
            (
                &[],
                &[max_age(), ("set-cookie", Text("a=b"))],
                Some(Refusal::SetCookie),
            ),
            (
                &[],
                &[
                    (CC, Text("public, max-age=3600")),
                    ("set-cookie", Text("a=b")),
                ],
                Some(Refusal::SetCookie),
            ),
            (
                &[],
                &[
                    (CC, Text("max-age=3600, no-cache=\"Set-Cookie\"")),
                    ("set-cookie", Text("a=b")),
                ],
                None,
            ),
            (
                &[],
                &[
                    (CC, Text("max-age=3600, private=\"set-cookie\"")),
                    ("set-cookie", Text("a=b")),
                ],
                None,
            ),
            (
                &[],
                &[max_age(), ("vary", Text("*"))],
                Some(Refusal::VaryAnything),
            ),
            (&[], &[], Some(Refusal::NoFreshness)),
            (&[], &[etag()], Some(Refusal::NoFreshness)),
            (&[], &[(CC, Text("public"))], Some(Refusal::NoFreshness)),
            (&[], &[(CC, Text("no-cache"))], Some(Refusal::NoValidator)),
            (
                &[],
                &[(CC, Text("no-cache, max-age=60"))],
                Some(Refusal::NoValidator),
            ),
            (&[], &[(CC, Text("no-cache")), etag()], None),
            (
                &[],
                &[(CC, Text("no-cache")), ("last-modified", At(-5))],
                None,
            ),
            (
                &[],
                &[(CC, Text("no-cache")), ("last-modified", Text("x"))],
                Some(Refusal::NoValidator),
            ),
            (
                &[],
                &[(CC, Text("no-cache")), ("etag", Text(""))],
                Some(Refusal::NoValidator),
            ),
            (&[], &[(CC, Text("max-age=0"))], Some(Refusal::AlreadyStale)),
            (&[], &[(CC, Text("max-age=0")), etag()], None),
            (
                &[],
                &[max_age(), ("age", Text("7200"))],
                Some(Refusal::AlreadyStale),
            ),
            (&[], &[max_age(), ("age", Text("7200")), etag()], None),
            (
                &[],
                &[max_age(), ("age", Text("x"))],
                Some(Refusal::AlreadyStale),
            ),
            (
                &[],
                &[(CC, Text("max-age=0, stale-while-revalidate=60"))],
                None,
            ),
            (&[], &[(CC, Text("max-age=0, stale-if-error=60"))], None),
            (
                &[],
                &[(CC, Text("max-age=0, must-revalidate, stale-if-error=60"))],
                Some(Refusal::AlreadyStale),
            ),
        ] {
            let judged = judged(&rules(), 200, request, &response(lines));
            assert_eq!(judged.err(), refusal, "{request:?} {:?}", response(lines));
        }
        let storing = config::Cache {
            store_set_cookie: true,
            ..rules()
        };
        let cookie = response(&[max_age(), ("set-cookie", Text("a=b"))]);
        assert!(judged(&storing, 200, &[], &cookie).is_ok());
        // What the route adds is no reason to keep what is for now only.
        let errors = config::Cache {
            stale_if_error: Some(seconds(60)),
            ..rules()
        };
        let stale = response(&[(CC, Text("max-age=0"))]);
        assert_eq!(
            judged(&errors, 200, &[], &stale),
            Err(Refusal::AlreadyStale)
        );
    }

    #[test]
    fn only_answers_to_get_are_stored() {
        let (now, fresh) = (Instant::now(), response(&[(CC, Text("max-age=3600"))]));
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            let exchange = Exchange {
                method: &method,
                request: &HeaderMap::new(),
                status: StatusCode::OK,
                response: &fresh,
                requested: now,
                received: now,
                wall: wall(),
            };
            assert_eq!(judge(&exchange, &rules()), Err(Refusal::Method), "{method}");
        }
    }

    #[test]
    fn stale_use_is_what_the_response_allows_or_else_the_route() {
        let route = config::Cache {
            stale_while_revalidate: Some(seconds(10)),
            stale_if_error: Some(seconds(20)),
            ..rules()
        };
        let year = 365 * 86_400;
        for (said, never_stale, windows) in [
            ("max-age=1", false, (10, 20)),
            ("max-age=1, stale-while-revalidate=5", false, (5, 20)),
            ("max-age=1, stale-if-error=5", false, (10, 5)),
            (
                "max-age=1, stale-if-error=0, stale-while-revalidate=0",
                false,
                (0, 0),
            ),
            ("s-maxage=1", true, (0, 0)),
            ("s-maxage=1, stale-while-revalidate", true, (year, 0)),
            (
                "s-maxage=1, stale-while-revalidate=5, stale-if-error=6",
                true,
                (5, 6),
            ),
            (
                "max-age=1, must-revalidate, stale-while-revalidate=5, stale-if-error=6",
                true,
                (0, 0),
            ),
            (
                "max-age=1, proxy-revalidate, stale-while-revalidate=5, stale-if-error=6",
                true,
                (0, 0),
            ),
            (
                "s-maxage=1, must-revalidate, stale-while-revalidate",
                true,
                (0, 0),
            ),
            (
                "max-age=1, no-cache, stale-while-revalidate=5, stale-if-error=6",
                true,
                (0, 0),
            ),
            (
                "max-age=1, no-cache=\"a\", stale-if-error=6",
                false,
                (10, 6),
            ),
        ] {
            let headers = response(&[(CC, Text(said)), ("etag", Text("\"a\""))]);
            let lease = judged(&route, 200, &[], &headers).unwrap();
            let (revalidate, error) = windows;
            assert_eq!(lease.never_stale, never_stale, "{said}");
            assert_eq!(lease.while_revalidate, seconds(revalidate), "{said}");
            assert_eq!(lease.if_error, seconds(error), "{said}");
        }
    }

    /// The header list of the public suite, and RFC 9111 §3.1.
    #[test]
    fn fields_of_one_moment_or_one_connection_are_not_stored() {
        let kept = [
            "Test-Header",
            "X-Test-Header",
            "Content-Foo",
            "X-Content-Foo",
            "Content-Encoding",
            "Content-Location",
            "Content-MD5",
            "Content-Range",
            "Content-Security-Policy",
            "Content-Type",
            "Clear-Site-Data",
            "ETag",
            "Expires",
            "Public-Key-Pins",
            "Set-Cookie",
            "Set-Cookie2",
            "X-Frame-Options",
            "X-XSS-Protection",
            "Date",
            "Link",
            "Vary",
            "Warning",
        ];
        let dropped = [
            "Age",
            "Content-Length",
            "Keep-Alive",
            "Proxy-Authenticate",
            "Proxy-Authentication-Info",
            "Proxy-Authorization",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "X-Nominated",
            "X-Private",
            "X-No-Cache",
        ];
        let all = kept.iter().chain(&dropped).map(|name| (*name, "1"));
        let control = (
            "Cache-Control",
            "private=\"x-private\", no-cache=\"X-No-Cache\", max-age=1",
        );
        let lines: Vec<_> = all
            .chain([("Connection", "close, X-Nominated"), control, ("Link", "2")])
            .collect();
        let headers = fields(&lines);
        let stored = storable_fields(&headers, &Directives::of_response(&headers), wall());
        for name in kept {
            assert!(stored.contains_key(name), "{name}");
        }
        for name in dropped.iter().chain(&["Connection"]) {
            assert!(!stored.contains_key(*name), "{name}");
        }
        assert_eq!(stored.get_all(header::LINK).iter().count(), 2);
        assert_eq!(stored.get(header::DATE).unwrap(), "1");
    }

    #[test]
    fn stored_fields_do_not_hold_on_to_what_was_read_with_them() {
        let block = bytes::Bytes::from(vec![b'x'; 48 * 1024]);
        let mut read = HeaderMap::new();
        for (name, range) in [("etag", 0..9), ("server", 9..9), ("link", 100..4000)] {
            let value = HeaderValue::from_maybe_shared(block.slice(range)).unwrap();
            read.insert(name, value);
        }
        let stored = storable_fields(&read, &Directives::default(), wall());
        for (name, value) in &read {
            assert_eq!(stored.get(name), Some(value));
        }
        drop(read);
        assert!(block.is_unique());
    }

    /// RFC 9110 §6.6.1.
    #[test]
    fn what_came_without_a_date_gets_that_of_its_coming() {
        let stored = storable_fields(&HeaderMap::new(), &Directives::default(), wall());
        assert_eq!(stored.get(header::DATE).unwrap(), at(0).as_str());
    }

    /// Field values that are meant well, or not.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => (-200_000_000_000_i64..200_000_000_000).prop_map(|seconds| {
                let seconds = u64::try_from(seconds).unwrap_or(0);
                httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
            }),
            4 => (-100..100_i64).prop_map(at),
            2 => "[0-9]{0,25}",
            1 => "[ -~]{0,12}",
            1 => "(max-age|s-maxage|stale-if-error)=[0-9]{0,12}(, (no-cache|public|must-revalidate))?",
        ]
    }

    fn message() -> impl Strategy<Value = Vec<(&'static str, String)>> {
        let name = prop::sample::select(
            &[
                "cache-control",
                "cache-control",
                "age",
                "date",
                "expires",
                "last-modified",
                "etag",
                "cdn-cache-control",
                "pragma",
                "vary",
            ][..],
        );
        prop::collection::vec((name, value()), 0..8)
    }

    proptest! {
        #[test]
        fn no_fields_make_it_panic_and_age_only_grows(lines in message(), status in 100..1000_u16, steps in prop::collection::vec(0..u64::MAX >> 34, 0..6)) {
            let rules = config::Cache {
                default_ttl: Some(seconds(60)),
                ..heuristic()
            };
            let headers = fields(&lines);
            if let Ok(lease) = judged(&rules, status, &[], &headers) {
                let (mut now, mut age) = (lease.received, lease.age(lease.received));
                for step in steps {
                    now += seconds(step);
                    prop_assert!(lease.age(now) >= age);
                    age = lease.age(now);
                    prop_assert_eq!(lease.is_fresh(now), lease.lifetime > age);
                    prop_assert!(!lease.is_fresh(now) || lease.ttl(now) >= 0);
                    prop_assert!(lease.keep_for() >= lease.lifetime.saturating_sub(lease.age_when_received));
                }
            }
        }

        #[test]
        fn a_larger_age_is_never_fresher(lines in message(), younger in 0..1_u64 << 33, more in 0..1_u64 << 33) {
            let left = |age: u64| {
                let mut lines = lines.clone();
                lines.retain(|(name, _)| *name != "age");
                lines.push(("age", age.to_string()));
                let lease = judged(&heuristic(), 200, &[], &fields(&lines)).ok();
                lease.map(|lease| lease.ttl(lease.received))
            };
            // What is too old may not be stored at all.
            prop_assert!(left(younger + more) <= left(younger));
        }

        /// In any case and place, but in quotes.
        #[test]
        fn what_says_no_store_is_not_stored(lines in message(), upper: bool, before in "[ -!#-~]{0,20}", behind in "[ -~]{0,20}") {
            let word = if upper { "NO-STORE" } else { "no-store" };
            let mut lines = lines;
            lines.retain(|(name, _)| *name != "cdn-cache-control");
            let line = format!("{before},{word},{behind}");
            lines.push(("cache-control", line));
            let headers = fields(&lines);
            prop_assume!(!Directives::of_response(&headers).must_understand);
            prop_assert_eq!(judged(&heuristic(), 200, &[], &headers), Err(Refusal::NoStore));
        }
    }
}
