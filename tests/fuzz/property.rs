//! What holds for any bytes that a server may send.

use std::hash::{DefaultHasher, Hash, Hasher};

use weir::internals::{
    Body, BodyEnd, BodyFraming, Head, decode_body, parse_response_head, write_response_head,
};

/// Checks all of it for `input`, split at `cuts` where a split makes a difference. The result tells inputs with different
/// outcomes apart.
pub fn check(input: &[u8], cuts: &[usize]) -> u64 {
    let mut outcomes = Vec::new();
    for (to_head, to_upgrade) in [(false, false), (true, false), (false, true)] {
        let parse = |bytes: &[u8]| parse_response_head(bytes, to_head, to_upgrade);
        let parsed = parse(input);
        prefixes_agree(input, &parsed, parse, cuts);
        outcomes.push(match &parsed {
            Ok(Some((length, head))) => {
                round_trip(head, to_head, to_upgrade);
                let body = body(head.body, &input[*length..], cuts);
                hash(&(
                    head.status / 100,
                    head.fields.len().ilog2_or_0(),
                    kind(head.body),
                    head.keep_alive,
                    body,
                ))
            }
            Ok(None) => 0,
            Err(error) => hash(error),
        });
    }
    outcomes.push(body(BodyFraming::Chunked, input, cuts));
    hash(&outcomes)
}

type Parsed = Result<Option<(usize, Head)>, String>;

/// A head ends where it ends: no shorter piece is one, more bytes behind it change nothing, and what is wrong stays wrong.
fn prefixes_agree(input: &[u8], whole: &Parsed, parse: impl Fn(&[u8]) -> Parsed, cuts: &[usize]) {
    if let Ok(Some((length, _))) = whole {
        assert!(*length <= input.len());
        assert_eq!(
            parse(&input[..*length]),
            *whole,
            "bytes behind a head change it"
        );
        assert_eq!(
            parse(&input[..length - 1]),
            Ok(None),
            "a head without its last byte is one"
        );
    }
    let mut place = 0;
    for cut in cuts.iter().take(8) {
        place = input.len().min(place + cut.min(&input.len()));
        match (parse(&input[..place]), whole) {
            (Ok(None), _) => {}
            (Ok(Some(head)), Ok(Some(whole))) => assert_eq!(head, *whole),
            (Err(error), Err(whole)) => assert!(
                error == *whole || whole.contains("larger") || error.contains("larger"),
                "{error}, {whole}"
            ),
            (prefix, whole) => panic!("{prefix:?} for a prefix, {whole:?} for all"),
        }
    }
}

/// What is passed on of a head, written, is the same head.
fn round_trip(head: &Head, to_head: bool, to_upgrade: bool) {
    // What is not passed on is written too, and there may be no more than 128 fields.
    if head.fields.len() > 124 {
        return;
    }
    let written = write_response_head(head);
    let again = parse_response_head(&written, to_head, to_upgrade);
    assert_eq!(
        again,
        Ok(Some((written.len(), head.clone()))),
        "{}",
        written.escape_ascii()
    );
}

fn body(framing: BodyFraming, wire: &[u8], cuts: &[usize]) -> u64 {
    let whole = decode_body(framing, wire, &[]);
    assert!(
        whole.data.len() <= wire.len(),
        "more was decoded than there was"
    );
    if let BodyEnd::Complete { length } = whole.end {
        assert!(length <= wire.len() && whole.data.len() <= length);
        let alone = decode_body(framing, &wire[..length], &[]);
        assert_eq!(alone, whole, "bytes behind a body change it");
        if length > 0 {
            let short = decode_body(framing, &wire[..length - 1], &[]);
            assert_eq!(
                short.end,
                BodyEnd::NeedsMore { may_end: false },
                "a body without its last byte is complete"
            );
        }
    }
    // Byte by byte, unless that would take all the time there is.
    let small = if wire.len() <= 4096 { 1 } else { 4001 };
    for cuts in [cuts, &[small]] {
        assert_eq!(
            decode_body(framing, wire, cuts),
            whole,
            "a split changes the body"
        );
    }
    let Body {
        data,
        trailers,
        end,
    } = whole;
    let end = match end {
        BodyEnd::Complete { length } => (1, (wire.len() > length).to_string()),
        BodyEnd::NeedsMore { may_end } => (2, may_end.to_string()),
        BodyEnd::Bad(error) => (3, error),
    };
    hash(&(data.len().ilog2_or_0(), trailers.len().ilog2_or_0(), end))
}

fn kind(framing: BodyFraming) -> u8 {
    match framing {
        BodyFraming::Length(0) => 0,
        BodyFraming::Length(_) => 1,
        BodyFraming::Chunked => 2,
        BodyFraming::Close => 3,
    }
}

pub fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Sizes are told apart coarsely.
trait Magnitude {
    fn ilog2_or_0(self) -> u32;
}

impl Magnitude for usize {
    fn ilog2_or_0(self) -> u32 {
        self.checked_ilog2().map_or(0, |magnitude| magnitude + 1)
    }
}
