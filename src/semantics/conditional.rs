//! Validators and the preconditions that a cache answers (RFC 9110 §8.8, §13; RFC 9111 §4.3.2).
//!
//! A precondition that cannot be read does not hold: the client is sent the whole response.

use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::date::Date;

/// RFC 9110 §8.8.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'h> {
    weak: bool,
    /// With its quotes.
    opaque: &'h [u8],
}

impl<'h> EntityTag<'h> {
    pub(crate) fn parse(text: &'h [u8]) -> Option<Self> {
        let (tag, rest) = Self::read(text.trim_ascii())?;
        rest.is_empty().then_some(tag)
    }

    /// Of a message that has exactly one, and that one well-formed.
    pub(crate) fn of(headers: &'h HeaderMap) -> Option<Self> {
        Self::parse(only(headers, &header::ETAG)?.as_bytes())
    }

    /// Weak or strong, they are the same (§8.8.3.2).
    pub(crate) fn matches_weakly(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// Both are strong and the same (§8.8.3.2).
    pub(crate) fn matches_strongly(&self, other: &EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// That at the beginning, and what is behind it. `W/` is case-sensitive, and a backslash escapes nothing.
    fn read(text: &'h [u8]) -> Option<(Self, &'h [u8])> {
        let (weak, text) = match text.strip_prefix(b"W/") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let inside = text.strip_prefix(b"\"")?;
        let length = inside.iter().position(|&byte| byte == b'"')?;
        let (opaque, rest) = text.split_at_checked(length + 2)?;
        // Spaces and controls belong in none.
        let valid = opaque.iter().all(|&byte| byte > b' ' && byte != 0x7f);
        valid.then_some((Self { weak, opaque }, rest))
    }
}

/// What a stored response is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'h> {
    status: StatusCode,
    tag: Option<EntityTag<'h>>,
    last_modified: Option<Date>,
    /// What stands for it where there is none: `Date`, else when the response was received (RFC 9111 §4.3.2).
    modified: Option<Date>,
    date: Option<Date>,
    received: Date,
}

impl<'h> Validators<'h> {
    /// Of a response with these fields, received then.
    pub(crate) fn of(status: StatusCode, headers: &'h HeaderMap, received: SystemTime) -> Self {
        let received = Date::at(received);
        let date = |name| Date::only(headers, name, received);
        let last_modified = date(&header::LAST_MODIFIED);
        let modified = if headers.contains_key(header::LAST_MODIFIED) {
            last_modified
        } else if headers.contains_key(header::DATE) {
            date(&header::DATE)
        } else {
            Some(received)
        };
        Self {
            status,
            tag: EntityTag::of(headers),
            last_modified,
            modified,
            date: date(&header::DATE),
            received,
        }
    }

    /// The same of one of several representations that have that `Last-Modified` at the same time: then it is weak
    /// (RFC 9110 §8.8.1).
    pub(crate) fn sharing_the_date(self) -> Self {
        Self { date: None, ..self }
    }

    /// `Last-Modified`, if it was certain not to change a second time within its second (RFC 9110 §8.8.2.2).
    fn strong_date(&self) -> Option<Date> {
        let (date, modified) = (self.date?, self.last_modified?);
        (date > modified).then_some(modified)
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    Proceed,
    /// The client has it: a 304 is the answer.
    NotModified,
}

/// Evaluates `If-None-Match` or else `If-Modified-Since` (RFC 9110 §13.2.2), which have no meaning for other methods than GET
/// and HEAD here, nor for a response that would not be a success (§13.2.1).
pub(crate) fn evaluate(
    request: &HeaderMap,
    method: &Method,
    stored: &Validators<'_>,
) -> Precondition {
    if (method != Method::GET && method != Method::HEAD) || !stored.status.is_success() {
        return Precondition::Proceed;
    }
    let holds = if request.contains_key(header::IF_NONE_MATCH) {
        none_match_names(request, stored.tag.as_ref())
    } else {
        let since = Date::only(request, &header::IF_MODIFIED_SINCE, stored.received);
        matches!((since, stored.modified), (Some(since), Some(modified)) if modified <= since)
    };
    if holds {
        Precondition::NotModified
    } else {
        Precondition::Proceed
    }
}

/// Whether a `Range` of a GET may be applied to the stored response: it is a 200 (RFC 9110 §14.2), and the request has no
/// `If-Range`, or one that holds (§13.1.5). If not, the answer is the whole response.
pub(crate) fn if_range(request: &HeaderMap, stored: &Validators<'_>) -> bool {
    if stored.status != StatusCode::OK {
        return false;
    }
    if !request.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(condition) = only(request, &header::IF_RANGE).map(HeaderValue::as_bytes) else {
        return false;
    };
    if let Some(tag) = EntityTag::parse(condition) {
        return stored.tag.is_some_and(|ours| ours.matches_strongly(&tag));
    }
    let date = Date::parse(condition, stored.received);
    date.is_some() && date == stored.strong_date()
}

/// Whether `If-None-Match`, in any of its lines, names this tag, or is `*`.
fn none_match_names(request: &HeaderMap, tag: Option<&EntityTag<'_>>) -> bool {
    let any = only(request, &header::IF_NONE_MATCH);
    if any.is_some_and(|field| field.as_bytes().trim_ascii() == b"*") {
        return true;
    }
    let Some(tag) = tag else {
        return false;
    };
    let mut lines = request.get_all(header::IF_NONE_MATCH).iter();
    lines.any(|line| entity_tags(line.as_bytes()).any(|named| named.matches_weakly(tag)))
}

/// The well-formed members of a list. A comma may be part of a tag.
fn entity_tags(mut list: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    std::iter::from_fn(move || {
        loop {
            list = list.trim_ascii_start();
            let (&first, rest) = list.split_first()?;
            if first == b',' {
                list = rest;
                continue;
            }
            let read = EntityTag::read(list);
            let after = read.map_or(list, |(_, rest)| rest.trim_ascii_start());
            let end = after.iter().position(|&byte| byte == b',');
            let (rest_of_member, next) = after.split_at(end.unwrap_or(after.len()));
            list = next;
            match read {
                Some((tag, _)) if rest_of_member.is_empty() => return Some(tag),
                _ => {}
            }
        }
    })
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then_some(line)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::semantics::fields;

    /// Of a response received on Friday, 25 September 2026, at 02:00:00.
    fn validators(headers: &HeaderMap) -> Validators<'_> {
        let received = UNIX_EPOCH + Duration::from_secs(1_790_301_600);
        Validators::of(StatusCode::OK, headers, received)
    }

    fn not_modified(response: &[(&str, &str)], request: &[(&str, &str)]) -> bool {
        let (response, request) = (fields(response), fields(request));
        let stored = validators(&response);
        evaluate(&request, &Method::GET, &stored) == Precondition::NotModified
    }

    #[test]
    fn if_none_match_holds_where_any_member_is_weakly_the_same() {
        for (tag, names, holds) in [
            ("\"a\"", &["\"a\""][..], true),
            ("\"a\"", &["W/\"a\""], true),
            ("W/\"a\"", &["\"a\""], true),
            ("W/\"a\"", &["W/\"a\""], true),
            ("\"a\"", &["\"b\""], false),
            ("\"a\"", &["\"A\""], false),
            ("\"a\"", &["\"a\", \"b\", \"c\""], true),
            ("\"a\"", &["\"b\", \"a\", \"c\""], true),
            ("\"a\"", &["\"b\",\"c\" ,\t\"a\""], true),
            ("\"a\"", &["\"b\"", "\"a\""], true),
            ("\"a\"", &[", ,\"a\",,"], true),
            ("\"a,b\"", &["\"x\", \"a,b\""], true),
            ("\"b\"", &["\"a,\"b\"\""], false),
            ("\"\"", &["\"\""], true),
            ("\"a\\\"", &["\"a\\\""], true),
            ("\"abcdef\u{fc}\"", &["\"abcdef\u{fc}\""], true),
            ("\"a\"", &["*"], true),
            ("\"a\"", &[" * "], true),
            // What is malformed names nothing.
            ("\"a\"", &["*, \"b\""], false),
            ("\"a\"", &["a"], false),
            ("a", &["a"], false),
            ("a", &["\"a\""], false),
            ("\"a\"", &["\"a"], false),
            ("\"a\"", &["w/\"a\""], false),
            ("w/\"a\"", &["w/\"a\""], false),
            ("W\\\"a\"", &["W\\\"a\""], false),
            ("W\"a\"", &["W\"a\""], false),
            ("\"a\"", &["W/ \"a\""], false),
            ("\"a\"", &["\"a\" \"a\""], false),
            ("\"a\"", &["\"a\"x, \"b\""], false),
            ("\"a\"", &["x\"b\", \"a\""], true),
            ("\"a b\"", &["\"a b\""], false),
            ("\"a\"", &[""], false),
        ] {
            let request: Vec<_> = names.iter().map(|line| ("if-none-match", *line)).collect();
            let holds_now = not_modified(&[("etag", tag)], &request);
            assert_eq!(holds_now, holds, "{tag} {names:?}");
        }
        assert!(not_modified(&[], &[("if-none-match", "*")]));
        assert!(!not_modified(&[], &[("if-none-match", "\"a\"")]));
        let twice = [("etag", "\"a\""), ("etag", "\"a\"")];
        assert!(!not_modified(&twice, &[("if-none-match", "\"a\"")]));
    }

    #[test]
    fn if_modified_since_is_held_against_what_the_response_says() {
        let at = |hour: u8| format!("Fri, 25 Sep 2026 {hour:02}:00:00 GMT");
        let (zero, one, two, three) = (at(0), at(1), at(2), at(3));
        let modified = ("last-modified", one.as_str());
        let date = ("date", two.as_str());
        for (response, since, holds) in [
            (&[modified, date][..], zero.as_str(), false),
            (&[modified, date], &one, true),
            (&[modified, date], &two, true),
            (&[modified, date], "Friday, 25-Sep-26 01:00:00 GMT", true),
            (&[modified, date], "Fri Sep 25 01:00:00 2026", true),
            (&[date], &one, false),
            (&[date], &two, true),
            // Received at two.
            (&[], &one, false),
            (&[], &two, true),
            (&[], &three, true),
            (&[modified], "", false),
            (&[modified], "0", false),
            (&[modified], "Fri, 25 Sep 2026 02:00:00", false),
            (&[modified], "Fri, 25 Sep 2026 02:00:00 CET", false),
            (&[("last-modified", "never"), date], &three, false),
            (&[modified, modified], &three, false),
            (&[("date", "now")], &three, false),
        ] {
            let holds_now = not_modified(response, &[("if-modified-since", since)]);
            assert_eq!(holds_now, holds, "{response:?} {since}");
        }
        let twice = [("if-modified-since", two.as_str()); 2];
        assert!(!not_modified(&[modified], &twice));
    }

    #[test]
    fn if_none_match_beats_if_modified_since_whatever_is_in_it() {
        let modified = ("last-modified", "Fri, 25 Sep 2026 01:00:00 GMT");
        let response = [("etag", "\"a\""), modified];
        let since = ("if-modified-since", "Fri, 25 Sep 2026 02:00:00 GMT");
        let long_ago = ("if-modified-since", "Fri, 25 Sep 2020 02:00:00 GMT");
        assert!(!not_modified(
            &response,
            &[("if-none-match", "\"b\""), since]
        ));
        assert!(!not_modified(&response, &[("if-none-match", "a"), since]));
        assert!(not_modified(
            &response,
            &[("if-none-match", "\"a\""), long_ago]
        ));
    }

    #[test]
    fn only_a_get_or_head_for_a_success_is_answered_with_a_304() {
        let (response, request) = (
            fields(&[("etag", "\"a\"")]),
            fields(&[("if-none-match", "\"a\"")]),
        );
        let verdict = |method: &Method, status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            evaluate(
                &request,
                method,
                &Validators::of(status, &response, UNIX_EPOCH),
            )
        };
        assert_eq!(verdict(&Method::HEAD, 200), Precondition::NotModified);
        assert_eq!(verdict(&Method::GET, 203), Precondition::NotModified);
        assert_eq!(verdict(&Method::POST, 200), Precondition::Proceed);
        assert_eq!(verdict(&Method::GET, 404), Precondition::Proceed);
        assert_eq!(verdict(&Method::GET, 301), Precondition::Proceed);
    }

    #[test]
    fn if_range_takes_strong_validators_only() {
        let modified = ("last-modified", "Fri, 25 Sep 2026 01:00:00 GMT");
        let same = "Fri, 25 Sep 2026 01:00:00 GMT";
        let date = ("date", "Fri, 25 Sep 2026 02:00:00 GMT");
        let date_of_then = ("date", same);
        let strong = ("etag", "\"a\"");
        for (response, condition, holds) in [
            (&[strong][..], "\"a\"", true),
            (&[strong], "\"b\"", false),
            (&[strong], "W/\"a\"", false),
            (&[("etag", "W/\"a\"")], "W/\"a\"", false),
            (&[("etag", "W/\"a\"")], "\"a\"", false),
            (&[strong], "\"a\", \"b\"", false),
            (&[strong], "*", false),
            (&[strong], "", false),
            (&[modified, date], same, true),
            (&[modified, date], "Fri Sep 25 01:00:00 2026", true),
            (&[modified, date], "Fri, 25 Sep 2026 01:00:01 GMT", false),
            (&[modified, date], "Fri, 25 Sep 2026 00:59:59 GMT", false),
            // It could have changed again in the same second.
            (&[modified, date_of_then], same, false),
            (&[modified], same, false),
            (&[date], same, false),
            (&[], "never", false),
        ] {
            let (response, request) = (fields(response), fields(&[("if-range", condition)]));
            let applies = if_range(&request, &validators(&response));
            assert_eq!(applies, holds, "{response:?} {condition}");
        }
        let response = fields(&[strong]);
        let twice = fields(&[("if-range", "\"a\""), ("if-range", "\"a\"")]);
        assert!(!if_range(&twice, &validators(&response)));
        assert!(if_range(&HeaderMap::new(), &validators(&response)));
        let shared = fields(&[strong, modified, date]);
        let shared = validators(&shared).sharing_the_date();
        assert!(!if_range(&fields(&[("if-range", same)]), &shared));
        assert!(if_range(&fields(&[("if-range", "\"a\"")]), &shared));
        let not_found = Validators::of(StatusCode::NOT_FOUND, &response, UNIX_EPOCH);
        assert!(!if_range(&HeaderMap::new(), &not_found));
    }
}
