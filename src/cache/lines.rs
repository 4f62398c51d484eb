//! The fields of a stored response as lines, ready to be sent by HTTP/1: most of a hit is to write its head, and most of
//! that head is the same each time.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::http1::fields::write_field;
use crate::semantics::coding::{self, Coding};
use crate::semantics::hop_by_hop::is_hop_by_hop;

/// Stands for what is not known before the response is sent.
pub(crate) const PLACE: HeaderValue = HeaderValue::from_static("-");

/// The fields that may have a [`PLACE`].
pub(crate) const PLACES: [&str; 3] = ["age", "cache-status", "x-request-id"];

/// The lines of all fields of a whole response but those that have a place; `None` where they would not do as they are.
/// The values in the map become parts of them, so that they are not in memory twice.
pub(super) fn lines(status: StatusCode, headers: &mut HeaderMap, length: usize) -> Option<Bytes> {
    if !is_sent_as_it_is(status, headers) || !is_length(headers, length) {
        return None;
    }
    let (lines, ends) = write(headers);
    for ((name, value), end) in headers.iter_mut().zip(ends) {
        if !is_place(name, value)
            && let Some(end) = end.checked_sub(2)
            && let Some(start) = end.checked_sub(value.len())
            && let Ok(part) = HeaderValue::from_maybe_shared(lines.slice(start..end))
            && *value == part
        {
            *value = part;
        }
    }
    Some(lines)
}

/// The same of its encoded form, without the length, for clients of whom some get one and some another.
pub(super) fn encoded_lines(
    status: StatusCode,
    headers: &HeaderMap,
    coding: Coding,
) -> Option<Bytes> {
    if !is_sent_as_it_is(status, headers) {
        return None;
    }
    let mut headers = headers.clone();
    coding::vary_by_accept_encoding(&mut headers);
    coding::describe_encoded(&mut headers, coding);
    Some(write(&headers).0)
}

fn is_sent_as_it_is(status: StatusCode, headers: &HeaderMap) -> bool {
    status != StatusCode::NO_CONTENT
        && headers.contains_key(header::DATE)
        && !headers.keys().any(|name| is_hop_by_hop(name.as_str()))
}

/// The lines, and where that of each field ends.
fn write(headers: &HeaderMap) -> (Bytes, Vec<usize>) {
    let sizes = headers.iter();
    let sizes = sizes.map(|(name, value)| name.as_str().len() + value.len() + 4);
    let mut lines = Vec::with_capacity(sizes.sum());
    let mut ends = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if !is_place(name, value) {
            write_field(&mut lines, name.as_str().as_bytes(), value.as_bytes());
        }
        ends.push(lines.len());
    }
    (Bytes::from(lines.into_boxed_slice()), ends)
}

fn is_place(name: &HeaderName, value: &HeaderValue) -> bool {
    *value == PLACE && PLACES.contains(&name.as_str())
}

/// Whether they tell the length of the body, once.
fn is_length(headers: &HeaderMap, length: usize) -> bool {
    let mut told = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_it = |told: &HeaderValue| told.to_str().is_ok_and(|told| told.parse() == Ok(length));
    told.next().is_some_and(is_it) && told.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::fields;

    fn of(status: u16, given: &[(&str, &str)]) -> Option<(String, HeaderMap)> {
        let mut headers = fields(given);
        let before = headers.clone();
        let status = StatusCode::from_u16(status).unwrap();
        let lines = lines(status, &mut headers, 3)?;
        assert_eq!(headers, before);
        Some((String::from_utf8(lines.to_vec()).unwrap(), headers))
    }

    #[test]
    fn every_field_has_its_line_but_those_that_are_filled_in() {
        let given = [
            ("date", "then"),
            ("x", "-"),
            ("age", "-"),
            ("vary", "a"),
            ("x-request-id", "-"),
            ("content-length", "3"),
            ("vary", "b"),
            ("empty", ""),
            ("cache-status", "-"),
        ];
        let (lines, _) = of(200, &given).unwrap();
        let mut lines: Vec<_> = lines.split_terminator("\r\n").collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "content-length: 3",
                "date: then",
                "empty: ",
                "vary: a",
                "vary: b",
                "x: -"
            ]
        );
        let (lines, _) = of(
            404,
            &[
                ("date", "x"),
                ("content-length", "3"),
                ("cache-status", "o; hit"),
            ],
        )
        .unwrap();
        assert!(lines.contains("cache-status: o; hit\r\n"));
    }

    #[test]
    fn an_encoded_form_has_what_is_true_of_it() {
        let headers = fields(&[
            ("date", "then"),
            ("content-length", "3"),
            ("etag", "\"a\""),
            ("content-md5", "x"),
            ("vary", "x-a"),
            ("age", "-"),
        ]);
        let lines = encoded_lines(StatusCode::OK, &headers, Coding::Zstd).unwrap();
        let mut lines: Vec<_> = str::from_utf8(&lines)
            .unwrap()
            .split_terminator("\r\n")
            .collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "content-encoding: zstd",
                "date: then",
                "etag: W/\"a\"",
                "vary: x-a, Accept-Encoding"
            ]
        );
        assert!(encoded_lines(StatusCode::NO_CONTENT, &headers, Coding::Br).is_none());
    }

    #[test]
    fn a_head_that_cannot_go_out_as_it_is_has_none() {
        let whole = [("date", "then"), ("content-length", "3")];
        assert!(of(200, &whole).is_some());
        assert!(of(204, &whole).is_none());
        assert!(of(200, &whole[..1]).is_none());
        assert!(of(200, &whole[1..]).is_none());
        assert!(of(200, &[("date", "then"), ("content-length", "4")]).is_none());
        for name in [
            "content-length",
            "connection",
            "transfer-encoding",
            "upgrade",
        ] {
            assert!(
                of(200, &[whole[0], whole[1], (name, "3")]).is_none(),
                "{name}"
            );
        }
    }
}
