//! Which bytes of a representation a request asks for (RFC 9110 §14).
//!
//! A server may ignore `Range`, so what is malformed, repeated, of another unit, or meant to make work (§14.2) gets all of the
//! representation.

use std::ops::Range;

use http::header::{self, HeaderMap};
use smallvec::SmallVec;

use super::digits;

/// What a `Range` field asks for, of a representation of whatever length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges(SmallVec<[Spec; 2]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// Both inclusive.
    FromTo(u64, u64),
    From(u64),
    Last(u64),
}

/// What that is of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// All of it, as if nothing had been said: 200.
    Whole,
    /// Nothing of what is asked for is there: 416.
    Unsatisfiable,
    /// At least one, none empty, none overlapping another: 206. In the order of the request, but ascending where some that
    /// overlap were joined.
    Parts(Parts),
}

pub(crate) type Parts = SmallVec<[Range<u64>; 2]>;

/// `None`: there is nothing to heed.
pub(crate) fn parse(request: &HeaderMap) -> Option<Ranges> {
    let mut lines = request.get_all(header::RANGE).iter();
    let field = lines.next()?.as_bytes();
    if lines.next().is_some() {
        return None;
    }
    let (unit, list) = field.trim_ascii().split_at_checked(BYTES.len())?;
    if !unit.eq_ignore_ascii_case(BYTES) {
        return None;
    }
    let mut specs = SmallVec::new();
    let members = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    for member in members.filter(|member| !member.is_empty()) {
        if specs.len() == MOST {
            return None;
        }
        specs.push(spec(member)?);
    }
    (!specs.is_empty()).then_some(Ranges(specs))
}

fn spec(text: &[u8]) -> Option<Spec> {
    let dash = text.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (text.get(..dash)?, text.get(dash + 1..)?);
    match (first, last) {
        ([], last) => digits(last).map(Spec::Last),
        (first, []) => digits(first).map(Spec::From),
        (first, last) => {
            let (first, last) = (digits(first)?, digits(last)?);
            (first <= last).then_some(Spec::FromTo(first, last))
        }
    }
}

impl Ranges {
    pub(crate) fn resolve(&self, length: u64) -> Resolved {
        let mut satisfiable = false;
        let mut parts: Parts = SmallVec::new();
        for spec in &self.0 {
            let (start, end) = match *spec {
                Spec::FromTo(first, last) => (first, last.saturating_add(1).min(length)),
                Spec::From(first) => (first, length),
                Spec::Last(count) => {
                    satisfiable |= count > 0;
                    (length.saturating_sub(count), length)
                }
            };
            if start < end {
                parts.push(start..end);
            }
        }
        if parts.is_empty() {
            // The last bytes of no bytes are all that there is (§14.1.2), which no `Content-Range` can tell.
            return if satisfiable && length == 0 {
                Resolved::Whole
            } else {
                Resolved::Unsatisfiable
            };
        }
        let ascending = parts.is_sorted_by_key(|part| part.start);
        let mut joined = parts.clone();
        joined.sort_unstable_by_key(|part| part.start);
        let overlaps = join_overlapping(&mut joined);
        if overlaps > MOST_OVERLAPS || (!ascending && parts.len() > MOST_DISORDERED) {
            return Resolved::Whole;
        }
        Resolved::Parts(if overlaps == 0 { parts } else { joined })
    }
}

/// Joins sorted ranges that overlap; those that only touch are two answers to two questions. How many were joined.
fn join_overlapping(parts: &mut Parts) -> usize {
    let before = parts.len();
    let mut kept: Parts = SmallVec::new();
    for part in parts.drain(..) {
        match kept.last_mut() {
            Some(last) if part.start < last.end => last.end = last.end.max(part.end),
            _ => kept.push(part),
        }
    }
    *parts = kept;
    before - parts.len()
}

/// §14.1: units are case-insensitive.
const BYTES: &[u8] = b"bytes=";

/// Of one request. Each costs a head of its own, of about a hundred bytes.
const MOST: usize = 64;

/// §14.2: more than two overlapping ranges are a broken client, or one that wants the same bytes many times.
const MOST_OVERLAPS: usize = 2;

/// §14.2: so are many that are not in ascending order.
const MOST_DISORDERED: usize = 16;

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "one part is a list of parts"
)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::semantics::fields;

    fn read(field: &str) -> Option<Ranges> {
        parse(&fields(&[("range", field)]))
    }

    fn parts(parts: &[Range<u64>]) -> Resolved {
        Resolved::Parts(parts.into())
    }

    #[test]
    fn ranges_are_what_they_are_of_a_length() {
        use Resolved::{Unsatisfiable, Whole};
        for (field, length, resolved) in [
            ("bytes=0-1", 11, parts(&[0..2])),
            ("bytes=1-", 11, parts(&[1..11])),
            ("bytes=-1", 11, parts(&[10..11])),
            ("bytes=0-", 11, parts(&[0..11])),
            ("bytes=0-10", 11, parts(&[0..11])),
            ("bytes=0-11", 11, parts(&[0..11])),
            ("bytes=10-10", 11, parts(&[10..11])),
            ("bytes=-11", 11, parts(&[0..11])),
            ("bytes=-12", 11, parts(&[0..11])),
            ("bytes=000-001", 11, parts(&[0..2])),
            ("bytes=5-99999999999999999999999999", 11, parts(&[5..11])),
            ("bytes=-99999999999999999999999999", 11, parts(&[0..11])),
            ("Bytes=0-1", 11, parts(&[0..2])),
            ("bytes=0-1,3-4", 11, parts(&[0..2, 3..5])),
            ("bytes=0-1, ,\t3-4,", 11, parts(&[0..2, 3..5])),
            ("bytes=3-4,0-1", 11, parts(&[3..5, 0..2])),
            ("bytes=-2,0-1", 11, parts(&[9..11, 0..2])),
            ("bytes=0-1,2-3", 11, parts(&[0..2, 2..4])),
            // What is not there is left out as long as something is.
            ("bytes=0-1,11-12", 11, parts(&[0..2])),
            ("bytes=11-,-0,4-5", 11, parts(&[4..6])),
            // Those that overlap are joined.
            ("bytes=0-4,3-6", 11, parts(&[0..7])),
            ("bytes=3-6,0-4", 11, parts(&[0..7])),
            ("bytes=0-9,2-3,10-10", 11, parts(&[0..10, 10..11])),
            ("bytes=0-1,0-1,0-1", 11, parts(&[0..2])),
            ("bytes=0-1,0-1,0-1,0-1", 11, Whole),
            ("bytes=0-,0-,0-,0-,0-", 11, Whole),
            ("bytes=11-", 11, Unsatisfiable),
            ("bytes=11-11,12-", 11, Unsatisfiable),
            ("bytes=-0", 11, Unsatisfiable),
            ("bytes=99999999999999999999999999-", 11, Unsatisfiable),
            (
                "bytes=18446744073709551615-18446744073709551615",
                u64::MAX,
                Unsatisfiable,
            ),
            (
                "bytes=0-18446744073709551615",
                u64::MAX,
                parts(&[0..u64::MAX]),
            ),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=0-,-5", 0, Whole),
        ] {
            assert_eq!(
                read(field).unwrap().resolve(length),
                resolved,
                "{field} of {length}"
            );
        }
    }

    #[test]
    fn what_is_malformed_is_ignored() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes= ,",
            "bytes 0-1",
            "bytes =0-1",
            "bytes0-1",
            "items=0-1",
            "bytes=0",
            "bytes=-",
            "bytes=--1",
            "bytes=a-b",
            "bytes=0-b",
            "bytes=0x0-1",
            "bytes=+0-1",
            "bytes=0 - 1",
            "bytes=0- 1",
            "bytes=1-0",
            "bytes=0-1,1-0",
            "bytes=0-1,x",
            "bytes=0-1;2-3",
            "bytes=0-1-2",
            "bytes=0.5-1",
            "bytes=\"0-1\"",
            "bytes=0-1 2-3",
        ] {
            assert_eq!(read(field), None, "{field}");
        }
        assert_eq!(parse(&HeaderMap::new()), None);
        assert_eq!(
            parse(&fields(&[("range", "bytes=0-1"), ("range", "bytes=0-1")])),
            None
        );
    }

    /// RFC 9110 §14.2, §17.15.
    #[test]
    fn ranges_that_only_make_work_are_ignored() {
        let many = |count: u64, place: fn(u64) -> u64| {
            let specs: Vec<_> = (0..count).map(|n| format!("{0}-{0}", place(n))).collect();
            read(&format!("bytes={}", specs.join(",")))
        };
        let ascending = |n| 2 * n;
        let descending = |n| 1000 - 2 * n;
        let count = |ranges: Ranges| match ranges.resolve(2000) {
            Resolved::Parts(parts) => Some(parts.len()),
            _ => None,
        };
        assert_eq!(count(many(64, ascending).unwrap()), Some(64));
        assert_eq!(many(65, ascending), None);
        assert_eq!(many(100_000, ascending), None);
        assert_eq!(count(many(16, descending).unwrap()), Some(16));
        assert_eq!(count(many(17, descending).unwrap()), None);
    }

    /// Every byte that is asked for, one by one; `None` for 416.
    fn naive(specs: &[(Option<u64>, Option<u64>)], length: u64) -> Option<BTreeSet<u64>> {
        let asked = |byte: u64| {
            specs.iter().any(|spec| match *spec {
                (Some(first), Some(last)) => first <= byte && byte <= last,
                (Some(first), None) => first <= byte,
                (None, last) => length - byte <= last.unwrap(),
            })
        };
        let bytes: BTreeSet<_> = (0..length).filter(|&byte| asked(byte)).collect();
        (!bytes.is_empty()).then_some(bytes)
    }

    fn spec() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
        prop_oneof![
            (0..40_u64, 0..9_u64).prop_map(|(first, more)| (Some(first), Some(first + more))),
            (0..40_u64).prop_map(|first| (Some(first), None)),
            (0..40_u64).prop_map(|last| (None, Some(last))),
        ]
    }

    proptest! {
        #[test]
        fn parts_are_the_bytes_that_are_asked_for(specs in prop::collection::vec(spec(), 1..6), length in 1..32_u64) {
            let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
            let list: Vec<_> = specs.iter().map(|(first, last)| format!("{}-{}", text(*first), text(*last))).collect();
            let resolved = read(&format!("bytes={}", list.join(","))).unwrap().resolve(length);
            let expected = naive(&specs, length);
            match resolved {
                Resolved::Whole => prop_assert!(specs.len() > MOST_OVERLAPS + 1),
                Resolved::Unsatisfiable => prop_assert_eq!(expected, None),
                Resolved::Parts(parts) => {
                    prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
                    let bytes: Vec<_> = parts.iter().cloned().flatten().collect();
                    let set: BTreeSet<_> = bytes.iter().copied().collect();
                    prop_assert_eq!(set.len(), bytes.len(), "a byte is sent twice");
                    prop_assert_eq!(Some(set), expected);
                }
            }
        }

        #[test]
        fn no_field_makes_it_panic(field in "(bytes=)?[0-9, \\-]{0,60}", length: u64) {
            if let Some(Resolved::Parts(parts)) = read(&field).map(|ranges| ranges.resolve(length)) {
                prop_assert!(!parts.is_empty() && parts.len() <= MOST);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }
    }
}
