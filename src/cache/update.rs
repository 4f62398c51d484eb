//! Stored responses that a later one brings up to date (RFC 9111 §3.2, §4.3.4, §4.3.5).

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::semantics::conditional::EntityTag;
use crate::semantics::hop_by_hop::{Nominated, is_hop_by_hop};

/// Whether a 304 is about the response that these fields are stored of. It was asked for with the validators of that one alone,
/// so one that names none is; one that names others is about something else, and must change nothing (§4.3.4).
///
/// Tags are compared weakly: servers that weaken them for encoded responses do not always do so in a 304.
pub(crate) fn is_of(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    if not_modified.contains_key(header::ETAG) && stored.contains_key(header::ETAG) {
        return same_tag(stored, not_modified);
    }
    let dated = not_modified.contains_key(header::LAST_MODIFIED);
    if dated && stored.contains_key(header::LAST_MODIFIED) {
        return same_date(stored, not_modified);
    }
    !dated && !not_modified.contains_key(header::ETAG)
}

/// The fields of the stored response after a 304 (§3.2). `Age` is among them if the 304 had one, and `Date` is not if it had
/// none, so that a lease that is made of them is that of the 304; see [`super::storable_fields`] for what is then stored.
pub(crate) fn freshened(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let nominated = Nominated::of(not_modified);
    let mut fields = stored.clone();
    fields.remove(header::DATE);
    for name in not_modified.keys() {
        if is_hop_by_hop(name.as_str()) || nominated.contains(name) || OF_THE_BODY.contains(name) {
            continue;
        }
        fields.remove(name);
        for value in not_modified.get_all(name) {
            fields.append(name, value.clone());
        }
    }
    fields
}

/// What an answer to HEAD says of a stored answer to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadSays {
    /// It is the same, with these fields; see [`freshened`].
    Update,
    /// It is another one now: what is stored is stale.
    Invalidate,
    Nothing,
}

/// Compares them (§4.3.5). Where the answer to HEAD names no validator, the RFC takes the two for the same; but somebody who
/// asks with HEAD every few seconds would then keep a response fresh for ever, whatever its body would have been by now.
pub(crate) fn head_says(
    stored: &HeaderMap,
    stored_length: u64,
    status: StatusCode,
    head: &HeaderMap,
) -> HeadSays {
    if status != StatusCode::OK {
        return HeadSays::Nothing;
    }
    let (tagged, dated) = (
        head.contains_key(header::ETAG),
        head.contains_key(header::LAST_MODIFIED),
    );
    let mut lengths = head.get_all(header::CONTENT_LENGTH).iter();
    let same_length =
        |length: &HeaderValue| length.as_bytes() == stored_length.to_string().as_bytes();
    if (tagged && !same_tag(stored, head))
        || (dated && !same_date(stored, head))
        || !lengths.all(same_length)
    {
        return HeadSays::Invalidate;
    }
    if tagged || dated {
        HeadSays::Update
    } else {
        HeadSays::Nothing
    }
}

/// As they are written, where one of them is malformed.
fn same_tag(stored: &HeaderMap, new: &HeaderMap) -> bool {
    match (EntityTag::of(stored), EntityTag::of(new)) {
        (Some(stored), Some(new)) => stored.matches_weakly(&new),
        _ => same_lines(stored, new, &header::ETAG),
    }
}

fn same_date(stored: &HeaderMap, new: &HeaderMap) -> bool {
    same_lines(stored, new, &header::LAST_MODIFIED)
}

fn same_lines(stored: &HeaderMap, new: &HeaderMap, name: &HeaderName) -> bool {
    stored.get_all(name) == new.get_all(name)
}

/// Fields that tell of the stored body, whatever comes without one: its length, coding and place, its digests (RFC 1864,
/// RFC 3230, RFC 9530), and the validator that it was stored with.
const OF_THE_BODY: [HeaderName; 8] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::fields;

    const TAG: (&str, &str) = ("etag", "\"a\"");
    const WEAK: (&str, &str) = ("etag", "W/\"a\"");
    const OTHER: (&str, &str) = ("etag", "\"b\"");
    const DATED: (&str, &str) = ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT");
    const LATER: (&str, &str) = ("last-modified", "Wed, 01 Jan 2020 00:00:01 GMT");

    #[test]
    fn a_304_is_of_what_has_its_validators() {
        for (stored, new, is) in [
            (&[TAG][..], &[TAG][..], true),
            (&[TAG], &[WEAK], true),
            (&[WEAK], &[TAG], true),
            (&[TAG], &[OTHER], false),
            (&[TAG], &[TAG, TAG], false),
            (&[TAG, DATED], &[OTHER, DATED], false),
            (&[TAG, DATED], &[TAG, LATER], true),
            (&[TAG, DATED], &[DATED], true),
            (&[TAG, DATED], &[LATER], false),
            (&[DATED], &[DATED], true),
            (&[DATED], &[LATER], false),
            (&[DATED], &[TAG, DATED], true),
            (&[DATED], &[TAG], false),
            (&[TAG], &[DATED], false),
            (&[TAG, DATED], &[], true),
            (&[], &[], true),
            (&[], &[TAG], false),
            (&[("etag", "a")], &[("etag", "a")], true),
            (&[("etag", "a")], &[TAG], false),
        ] {
            assert_eq!(
                is_of(&fields(stored), &fields(new)),
                is,
                "{stored:?} {new:?}"
            );
        }
    }

    /// The header list of the public suite, and RFC 9111 §3.2.
    #[test]
    fn a_304_replaces_all_but_what_is_of_the_body_or_the_connection() {
        let replaced = [
            "test-header",
            "x-test-header",
            "content-foo",
            "x-content-foo",
            "cache-control",
            "content-location",
            "content-security-policy",
            "content-type",
            "clear-site-data",
            "expires",
            "public-key-pins",
            "set-cookie",
            "set-cookie2",
            "x-frame-options",
            "x-xss-protection",
            "date",
            "vary",
            "last-modified",
        ];
        let kept = [
            "content-encoding",
            "content-length",
            "content-md5",
            "content-range",
            "etag",
            "digest",
            "repr-digest",
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "te",
            "transfer-encoding",
            "upgrade",
            "x-nominated",
        ];
        let all = || replaced.iter().chain(&kept);
        let stored: Vec<_> = all()
            .map(|name| (*name, "A"))
            .chain([("x-only-here", "A"), ("link", "A"), ("link", "B")])
            .collect();
        let new: Vec<_> = all()
            .filter(|name| **name != "connection")
            .map(|name| (*name, "B"))
            .chain([
                ("connection", "x-nominated"),
                ("x-new", "B"),
                ("link", "C"),
                ("link", "D"),
                ("link", "E"),
            ])
            .collect();
        let updated = freshened(&fields(&stored), &fields(&new));
        for name in replaced {
            assert_eq!(
                updated.get_all(name).iter().collect::<Vec<_>>(),
                ["B"],
                "{name}"
            );
        }
        for name in kept {
            assert_eq!(
                updated.get_all(name).iter().collect::<Vec<_>>(),
                ["A"],
                "{name}"
            );
        }
        assert_eq!(updated["x-only-here"], "A");
        assert_eq!(updated["x-new"], "B");
        assert_eq!(
            updated.get_all("link").iter().collect::<Vec<_>>(),
            ["C", "D", "E"]
        );
    }

    #[test]
    fn the_date_and_the_age_are_those_of_the_304() {
        let stored = fields(&[("date", "A"), ("cache-control", "max-age=1")]);
        let updated = freshened(&stored, &fields(&[("age", "5")]));
        assert_eq!(
            updated,
            fields(&[("cache-control", "max-age=1"), ("age", "5")])
        );
        let updated = freshened(&stored, &fields(&[("date", "B")]));
        assert_eq!(
            updated,
            fields(&[("cache-control", "max-age=1"), ("date", "B")])
        );
    }

    #[test]
    fn an_answer_to_head_updates_what_has_its_validators_and_invalidates_what_has_others() {
        use HeadSays::{Invalidate, Nothing, Update};
        const LENGTH: (&str, &str) = ("content-length", "5");
        const LONGER: (&str, &str) = ("content-length", "6");
        for (stored, status, head, says) in [
            (&[TAG][..], 200, &[TAG][..], Update),
            (&[TAG], 200, &[TAG, LENGTH], Update),
            (&[TAG], 200, &[TAG, LONGER], Invalidate),
            (&[TAG], 200, &[TAG, LENGTH, LONGER], Invalidate),
            (&[TAG], 200, &[OTHER], Invalidate),
            (&[TAG, DATED], 200, &[TAG, LATER], Invalidate),
            (&[TAG, DATED], 200, &[DATED], Update),
            (&[], 200, &[TAG], Invalidate),
            (&[DATED], 200, &[DATED, LENGTH], Update),
            (&[], 200, &[LENGTH], Nothing),
            (&[], 200, &[LONGER], Invalidate),
            (&[TAG], 200, &[], Nothing),
            (&[TAG], 410, &[TAG], Nothing),
            (&[TAG], 304, &[OTHER], Nothing),
            (&[TAG], 500, &[OTHER], Nothing),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let said = head_says(&fields(stored), 5, status, &fields(head));
            assert_eq!(said, says, "{stored:?} {status} {head:?}");
        }
    }
}
