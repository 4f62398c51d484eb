//! What holds for any `Cache-Control` and any `Range` that may be sent.

use weir::internals::{CacheControl, Ranges, read_cache_control, resolve_range};

use super::property::hash;

/// One line of input is one line of a field.
pub fn seeds() -> Vec<Vec<u8>> {
    let seeds = [
        "max-age=3600, public",
        "s-maxage=1\nstale-while-revalidate, stale-if-error=60",
        "private=\"a, b\", no-cache=\"set-cookie\", must-revalidate",
        "max-age=\"3600\", ext=\"no-store, \\\"x\\\"\"; no-store",
        "max-age=60;p=?0;q, no-store=?0, x=(1 \"a\";b=1.5 tok);y=:YQ==:",
        "must-understand, proxy-revalidate, no-cache, private",
        "bytes=0-1",
        "bytes=0-, -5 ,3-4,3-",
        "bytes=18446744073709551615-18446744073709551616,-18446744073709551615",
    ];
    seeds.map(|seed| seed.as_bytes().to_vec()).into()
}

/// The result tells inputs with different outcomes apart. `cuts` make no difference to fields.
pub fn check(input: &[u8], _: &[usize]) -> u64 {
    let lines: Vec<_> = input.split(|&byte| byte == b'\n').collect();
    let mut outcomes = vec![
        hash(&coarse(cache_control(&lines))),
        hash(&coarse(read_cache_control(&lines, true))),
    ];
    outcomes.push(hash(&lines.first().map(|field| ranges(field))));
    hash(&outcomes)
}

fn cache_control(lines: &[&[u8]]) -> CacheControl {
    let read = |lines: &[&[u8]]| read_cache_control(lines, false);
    let whole = read(lines);
    // More is said by more lines, and nothing is taken back.
    for count in 0..lines.len().min(8) {
        let part = read(&lines[..count]);
        assert_eq!(part.restrictions & !whole.restrictions, 0);
        assert!(shorter(whole.max_age, part.max_age) && shorter(whole.s_maxage, part.s_maxage));
    }
    let no_store = 1 << 5;
    for lines in [
        [&[&b"no-store"[..]], lines].concat(),
        [lines, &[b"no-store"]].concat(),
        [lines, &[b"x=\"", b"no-store"]].concat(),
    ] {
        assert_ne!(read(&lines).restrictions & no_store, 0, "no-store is lost");
    }
    // In quotes it says nothing.
    let mut quoted = b"x=\"".to_vec();
    for &byte in lines.iter().copied().flatten() {
        if byte == b'"' || byte == b'\\' {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    assert_eq!(read(&[&quoted]), read(&[]), "what is quoted is read");
    whole
}

/// Where there was a lifetime, there still is, and no longer one.
fn shorter(now: Option<u64>, before: Option<u64>) -> bool {
    before.is_none_or(|before| now.is_some_and(|now| now <= before))
}

/// Lifetimes are told apart by their kind only.
fn coarse(read: CacheControl) -> impl std::hash::Hash {
    let kind = |seconds: Option<u64>| seconds.map(|seconds| seconds.min(1));
    let (max_age, s_maxage) = (kind(read.max_age), kind(read.s_maxage));
    (
        read.restrictions,
        read.public,
        read.names_fields,
        max_age,
        s_maxage,
    )
}

/// About how many parts there are for each length; what is no part is told by numbers beyond.
fn ranges(field: &[u8]) -> [usize; 5] {
    [0, 1, 10, 1000, u64::MAX].map(|length| match resolve_range(field, length) {
        Ranges::Whole => usize::MAX,
        Ranges::Unsatisfiable => usize::MAX - 1,
        Ranges::Parts(mut parts) => {
            assert!(!parts.is_empty() && parts.len() <= 64);
            assert!(
                parts
                    .iter()
                    .all(|part| part.start < part.end && part.end <= length)
            );
            parts.sort_by_key(|part| part.start);
            assert!(
                parts.windows(2).all(|two| two[0].end <= two[1].start),
                "sent twice"
            );
            parts.len().min(4)
        }
    })
}
