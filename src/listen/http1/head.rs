//! Heads of requests (RFC 9112 §3, §5, §6).
//!
//! What decides where a request ends is read strictly, and whatever could be read in two ways is refused: two parties that
//! disagree on it let a client smuggle a request past the one in front.

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};

use super::bad_head::BadHead;
use super::before::Before;
use super::section::read_section;
use crate::http1::Framing;
use crate::http1::lines::Lines;
use crate::proxy::fields::Parts;

/// The head of a request, with what it says of its connection.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) parts: Parts,
    pub(crate) framing: Framing,
    /// Whether the client wants to send another request after this one.
    pub(super) keep_alive: bool,
    /// Whether it waits for a 100 before it sends the body (RFC 9110 §10.1.1).
    pub(super) expects: bool,
    /// Whether it takes trailers (RFC 9110 §10.1.4).
    pub(super) takes_trailers: bool,
}

/// Whether a whole head is at the beginning of `bytes`, the empty line included. The search goes on from `searched`, which
/// is kept up to date: of a head that comes byte by byte none is looked at twice. RFC 9112 §2.2: a line may end with LF
/// alone.
pub(super) fn is_whole(bytes: &[u8], searched: &mut usize) -> bool {
    // Nearly always.
    if *searched == 0 && bytes.ends_with(b"\r\n\r\n") {
        return true;
    }
    while let Some(rest) = bytes.get(*searched..)
        && let Some(end) = memchr::memchr(b'\n', rest)
    {
        if matches!(rest.get(..end), Some([] | [b'\r'])) {
            return true;
        }
        *searched += end + 1;
    }
    false
}

/// Without the empty lines that may come before a request (RFC 9112 §2.2).
pub(super) fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Parses the head at the beginning of `bytes`, which is whole and has at most `most` fields, into an empty map. Its length
/// comes with it.
pub(crate) fn parse(
    bytes: &Bytes,
    most: usize,
    map: impl FnOnce() -> HeaderMap,
    before: &mut Before,
) -> Result<(usize, Head), BadHead> {
    let mut lines = Lines::lenient(bytes);
    let line = lines.next()?.ok_or(BadHead::Line)?;
    let (method, uri, version) = request_line(bytes, line)?;
    let rest = lines.rest();
    let fingerprint = before.fingerprint(rest);
    let known = fingerprint.and_then(|fingerprint| before.section(rest, fingerprint));
    let (length, section) = match known {
        Some(section) if section.fields.len() > most => return Err(BadHead::TooManyFields),
        Some(section) => (bytes.len(), section),
        None => {
            let section = read_section(&mut lines, most, map(), &mut before.lines)?;
            if let Some(fingerprint) = fingerprint.filter(|_| lines.rest().is_empty()) {
                before.came(rest, fingerprint, &section)?;
            }
            (lines.taken(), section)
        }
    };
    let (said, framing) = (section.said, section.said.framing(version)?);
    let is_11 = version == Version::HTTP_11;
    Ok((
        length,
        Head {
            parts: Parts {
                method,
                uri,
                version,
                headers: section.fields,
            },
            keep_alive: !said.close && (is_11 || said.keep_alive),
            expects: said.expects && is_11 && !framing.is_over(),
            takes_trailers: said.takes_trailers,
            framing,
        },
    ))
}

/// RFC 9112 §3: exactly one blank between the parts.
fn request_line(head: &Bytes, line: &[u8]) -> Result<(Method, Uri, Version), BadHead> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(BadHead::Line);
    };
    let method = Method::from_bytes(method).map_err(|_| BadHead::Line)?;
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return Err(BadHead::Version),
    };
    if target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(BadHead::Target);
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target)).map_err(|_| BadHead::Target)?;
    Ok((method, uri, version))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::http1::Chunked;
    use proptest::prelude::*;

    fn read(bytes: &[u8], before: &mut Before) -> Result<(usize, Head), BadHead> {
        parse(&Bytes::copy_from_slice(bytes), 100, HeaderMap::new, before)
    }

    fn head(text: &str) -> Result<Head, BadHead> {
        read(text.as_bytes(), &mut Before::new()).map(|(_, head)| head)
    }

    fn with(fields: &str) -> Result<Head, BadHead> {
        head(&format!("POST / HTTP/1.1\r\n{fields}\r\n"))
    }

    #[test]
    fn the_framing_follows_rfc_9112_section_6_3() {
        let chunked = Framing::Chunked(Chunked::Size);
        for (fields, framing) in [
            ("", Framing::NONE),
            ("Content-Length: 0\r\n", Framing::NONE),
            ("Content-Length: 5\r\n", Framing::Length(5)),
            ("Content-Length: 0005\r\n", Framing::Length(5)),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                Framing::Length(5),
            ),
            ("Content-Length:\t5 \t\r\n", Framing::Length(5)),
            ("transfer-encoding: ChunkeD\r\n", chunked),
        ] {
            assert_eq!(with(fields).unwrap().framing, framing, "{fields:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (fields, bad) in [
            (
                "Content-Length: 5\r\nContent-Length: 6\r\n",
                BadHead::ContentLength,
            ),
            ("Content-Length: 5, 5\r\n", BadHead::ContentLength),
            ("Content-Length: +5\r\n", BadHead::ContentLength),
            ("Content-Length:\r\n", BadHead::ContentLength),
            (
                "Content-Length: 18446744073709551615\r\n",
                BadHead::ContentLength,
            ),
            (
                "Transfer-Encoding: gzip, chunked\r\n",
                BadHead::TransferEncoding,
            ),
            ("Transfer-Encoding: identity\r\n", BadHead::TransferEncoding),
            ("Transfer-Encoding:\r\n", BadHead::TransferEncoding),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                BadHead::TransferEncoding,
            ),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                BadHead::AmbiguousLength,
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                BadHead::AmbiguousLength,
            ),
            ("Transfer-Encoding : chunked\r\n", BadHead::Field),
            ("X: a\r\n Transfer-Encoding: chunked\r\n", BadHead::Field),
            ("X: a\rTransfer-Encoding: chunked\r\n", BadHead::Field),
        ] {
            assert_eq!(with(fields).unwrap_err(), bad, "{fields:?}");
        }
        let old = head("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.unwrap_err(), BadHead::TransferEncoding);
    }

    #[test]
    fn a_request_line_has_three_parts_and_two_blanks() {
        for (line, bad) in [
            ("GET /", BadHead::Line),
            ("GET", BadHead::Line),
            ("GET  / HTTP/1.1", BadHead::Version),
            ("GET /  HTTP/1.1", BadHead::Version),
            ("GET / HTTP/1.1 ", BadHead::Version),
            ("GET /a b HTTP/1.1", BadHead::Version),
            ("GET / HTTP/1.2", BadHead::Version),
            ("GET / http/1.1", BadHead::Version),
            ("GET\t/\tHTTP/1.1", BadHead::Line),
            ("G\u{e4}T / HTTP/1.1", BadHead::Line),
            ("GET /\u{1} HTTP/1.1", BadHead::Target),
            ("GET /\u{7f} HTTP/1.1", BadHead::Target),
            ("GET /a\tb HTTP/1.1", BadHead::Target),
        ] {
            let refused = head(&format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err();
            assert_eq!(refused, bad, "{line:?}");
        }
        let got = head("X!#$%&'*+-.^_`|~ http://a:1/b?c HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(got.parts.method.as_str(), "X!#$%&'*+-.^_`|~");
        assert_eq!(got.parts.uri, "http://a:1/b?c");
        assert_eq!(got.parts.version, Version::HTTP_10);
    }

    #[test]
    fn a_connection_goes_on_unless_told_otherwise() {
        for (line, fields, goes_on) in [
            ("GET / HTTP/1.1", "", true),
            ("GET / HTTP/1.1", "Connection: close\r\n", false),
            ("GET / HTTP/1.1", "Connection: x, CLOSE\r\n", false),
            (
                "GET / HTTP/1.1",
                "Connection: keep-alive\r\nConnection: close\r\n",
                false,
            ),
            ("GET / HTTP/1.0", "", false),
            ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", true),
            ("GET / HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let got = head(&format!("{line}\r\n{fields}\r\n")).unwrap();
            assert_eq!(got.keep_alive, goes_on, "{line} {fields:?}");
        }
    }

    #[test]
    fn a_100_is_waited_for_where_a_body_is_to_come() {
        for (text, waits) in [
            (
                "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", false),
            (
                "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nExpect: x\r\nContent-Length: 1\r\n\r\n",
                false,
            ),
        ] {
            assert_eq!(head(text).unwrap().expects, waits, "{text:?}");
        }
    }

    #[test]
    fn there_are_no_more_fields_than_allowed() {
        assert!(with(&"x: y\r\n".repeat(100)).is_ok());
        let refused = with(&"x: y\r\n".repeat(101));
        assert_eq!(refused.unwrap_err(), BadHead::TooManyFields);
    }

    #[test]
    fn a_head_ends_with_the_first_empty_line() {
        for (text, length) in [
            (
                "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                27,
            ),
            ("GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\n\r\n", 24),
            ("GET / HTTP/1.1\r\nHost: a\r\n\nrest\r\n\r\n", 26),
        ] {
            let (taken, head) = read(text.as_bytes(), &mut Before::new()).unwrap();
            assert_eq!((taken, head.parts.headers.len()), (length, 1), "{text:?}");
        }
    }

    #[test]
    fn what_is_known_is_held_to_the_rules_of_each_listener_and_version() {
        let mut before = Before::new();
        let mut read = |most, line: &str| {
            let text = format!("{line}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            let bytes = Bytes::from(text.into_bytes());
            let parsed = parse(&bytes, most, HeaderMap::new, &mut before);
            parsed.map(|(length, head)| (length == bytes.len(), head.parts.headers))
        };
        let known: Vec<_> = [(); 4]
            .map(|()| read(2, "POST / HTTP/1.1").unwrap())
            .into_iter()
            .map(|(is_whole, fields)| (is_whole, fields.len(), Rc::strong_count(&fields)))
            .collect();
        assert_eq!(known[0], (true, 2, 1), "its own");
        assert!(known[3].0 && known[3].2 > 1, "shared: {known:?}");
        assert_eq!(
            read(1, "POST / HTTP/1.1").unwrap_err(),
            BadHead::TooManyFields
        );
        assert_eq!(
            read(2, "POST / HTTP/1.0").unwrap_err(),
            BadHead::TransferEncoding
        );
        assert_eq!(read(2, "POST / HTTP/2").unwrap_err(), BadHead::Version);
        assert!(read(2, "PUT /x HTTP/1.1").is_ok());
    }

    fn line() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            "\r\n", "\n", "\r", ":", ": ", " ", "\t", "a", "X-y", "\0", "\u{7f}", "\u{e4}", "(",
            "v w",
        ]);
        prop_oneof![
            4 => "[a-zA-Z-]{1,8}: ?[ -~]{0,12}\r\n",
            1 => "(Content-Length|Transfer-Encoding|Connection|TE|Expect): ?(5|chunked|close|trailers|100-continue)\r\n",
            1 => prop::collection::vec(odd, 0..6).prop_map(|parts| parts.concat()),
        ]
    }

    fn request() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            4 => "(GET|POST|x) /[a-z/?%]{0,8} HTTP/1\\.[01]\r\n",
            1 => "[ -~]{0,20}\r?\n",
        ];
        let lines = prop::collection::vec(self::line(), 0..8);
        (line, lines).prop_map(|(line, lines)| format!("{line}{}\r\n", lines.concat()))
    }

    proptest! {
        /// We take nothing that httparse does not take, and read the same in it; and nothing else when its lines are known.
        #[test]
        fn httparse_reads_the_same_request(text in request()) {
            let mut known = Before::new();
            let mut summary = || read(text.as_bytes(), &mut known).map(|(length, head)| {
                let fields = head.parts.headers.iter();
                let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                let mut fields: Vec<_> = fields.collect();
                fields.sort();
                let connection = (head.framing, head.keep_alive, head.expects, head.takes_trailers);
                (length, head.parts.method.to_string(), fields, connection)
            });
            let ours = summary();
            for _ in 0..2 {
                prop_assert_eq!(&summary(), &ours);
            }
            let mut theirs = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Request::new(&mut theirs);
            let status = parsed.parse(text.as_bytes());
            if let Ok((length, method, fields, _)) = ours {
                prop_assert_eq!(status, Ok(httparse::Status::Complete(length)));
                prop_assert_eq!(parsed.method, Some(&*method));
                let theirs = parsed.headers.iter();
                let mut theirs: Vec<_> =
                    theirs.map(|field| (field.name.to_lowercase(), field.value.to_vec())).collect();
                theirs.sort();
                prop_assert_eq!(fields, theirs);
            }
        }

        /// However the bytes come, a head is whole with its last byte and not before.
        #[test]
        fn a_head_is_whole_when_its_last_byte_came(text in request()) {
            let bytes = text.as_bytes();
            let mut searched = 0;
            let whole = (1..=bytes.len()).find(|&length| is_whole(&bytes[..length], &mut searched));
            let lines = text.split_inclusive('\n');
            let mut length = 0;
            let end = lines.map(|line| { length += line.len(); (line, length) })
                .find(|(line, _)| matches!(*line, "\n" | "\r\n"));
            prop_assert_eq!(whole, end.map(|(_, length)| length));
        }
    }
}
