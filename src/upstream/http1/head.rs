//! Heads: writing those of requests, parsing those of responses (RFC 9112 §3, §4, §5).
//!
//! A request's fields are filtered by the caller while they are written, never by editing a map. A response's fields are
//! slices of the bytes that were read; hop-by-hop fields stay behind (RFC 9110 §7.6.1).

use std::cell::Cell;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, header};

use crate::http1::fields::{content_length, has_option, options};
use crate::http1::known_lines::KnownLines;
use crate::http1::lines::{BadLine, Lines};
use crate::http1::{Chunked, Framing};
use crate::semantics::{cache_control, hop_by_hop};

/// The largest response head that is read.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// What the usual server sends and what the proxy adds.
const USUAL_FIELDS: usize = 12;
/// The most fields of a response.
const MAX_FIELDS: usize = 128;

/// Writes `method target HTTP/1.1`.
pub(crate) fn write_request_line(
    out: &mut Vec<u8>,
    method: &Method,
    path: &str,
    query: Option<&str>,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// The head of a response, fit to be passed on.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// End-to-end fields only.
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// Whether it is a stream of events (WHATWG HTML §9.2), which may be silent for long.
    pub(crate) event_stream: bool,
    /// Whether the connection may carry another exchange after this one.
    pub(crate) keep_alive: bool,
    /// Seconds of `Keep-Alive: timeout=N`, where the server says it.
    pub(crate) idle_seconds: Option<u64>,
    /// The protocol of a 101 (RFC 9110 §7.8).
    pub(crate) upgrade: Option<HeaderValue>,
}

/// What was asked, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) head: bool,
    pub(crate) upgrade: bool,
}

/// What a server did wrong in a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the response does not begin with `HTTP/1.0` or `HTTP/1.1`")]
    Version,
    #[error("a line of the response head ends with LF alone")]
    BareLineFeed,
    #[error("the response head is larger than 64 KiB or has more than 128 fields")]
    TooLarge,
    #[error("the status is not a number between 100 and 599")]
    Status,
    #[error("a field of the response is malformed")]
    Field,
    #[error("`Content-Length` is not a number, or is there twice")]
    ContentLength,
    #[error("`Transfer-Encoding` is not `chunked`")]
    TransferEncoding,
    #[error("both `Content-Length` and `Transfer-Encoding` are there")]
    AmbiguousLength,
    #[error("the server switched protocols, which nobody asked for")]
    UnexpectedUpgrade,
}

impl From<BadLine> for BadHead {
    fn from(bad: BadLine) -> Self {
        match bad {
            BadLine::BareLineFeed => Self::BareLineFeed,
            BadLine::Field => Self::Field,
        }
    }
}

/// Parses the head at the beginning of `bytes`; `None` while it is incomplete. The length of the head is returned with it.
pub(super) fn parse_response(
    bytes: &Bytes,
    asked: Asked,
    known: &mut KnownLines<Meaning>,
    spare: &Cell<HeaderMap>,
) -> Result<Option<(usize, ResponseHead)>, BadHead> {
    if !bytes.starts_with(HTTP_1) && !HTTP_1.starts_with(bytes) {
        return Err(BadHead::Version);
    }
    let mut lines = Lines::of(bytes);
    let Some(line) = lines.next()? else {
        return incomplete(bytes);
    };
    let (status, http_11) = status_line(line)?;
    let mut fields = Fields::new(spare.take());
    loop {
        match lines.next()? {
            None => return incomplete(bytes),
            Some(b"") if lines.taken() > MAX_HEAD => return Err(BadHead::TooLarge),
            Some(b"") => {
                let head = fields.finish(status, http_11, asked)?;
                return Ok(Some((lines.taken(), head)));
            }
            Some(line) => fields.take_line(line, &lines, known)?,
        }
    }
}

/// More has to come, if it may be any longer.
fn incomplete<T>(bytes: &[u8]) -> Result<Option<T>, BadHead> {
    if bytes.len() < MAX_HEAD {
        Ok(None)
    } else {
        Err(BadHead::TooLarge)
    }
}

const HTTP_1: &[u8] = b"HTTP/1.";

/// `HTTP/1.1 200 reason` (RFC 9112 §4); whether it is of 1.1. The reason is nobody's business; many servers leave it out,
/// some with the blank before it.
fn status_line(line: &[u8]) -> Result<(StatusCode, bool), BadHead> {
    let (http_11, rest) = match line.strip_prefix(HTTP_1) {
        Some([b'1', b' ', rest @ ..]) => (true, rest),
        Some([b'0', b' ', rest @ ..]) => (false, rest),
        _ => return Err(BadHead::Version),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(BadHead::Status)?;
    if !matches!(reason, [] | [b' ', ..]) || reason.iter().any(|&byte| is_control(byte)) {
        return Err(BadHead::Status);
    }
    let status = StatusCode::from_bytes(code).map_err(|_| BadHead::Status)?;
    if status.as_u16() > 599 {
        return Err(BadHead::Status);
    }
    Ok((status, http_11))
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// The fields of a response, sorted into what is passed on and what concerns this connection.
struct Fields {
    headers: HeaderMap,
    count: usize,
    length: Option<u64>,
    event_stream: bool,
    chunked: bool,
    /// It has a transfer coding of which nothing is known, so that it ends where the connection does.
    unknown_coding: bool,
    close: bool,
    keep_alive: bool,
    idle_seconds: Option<u64>,
    upgrade: Option<HeaderValue>,
    nominated: Vec<HeaderName>,
}

impl Fields {
    fn new(mut headers: HeaderMap) -> Self {
        if headers.capacity() == 0 {
            headers.reserve(USUAL_FIELDS);
        }
        Self {
            headers,
            count: 0,
            length: None,
            event_stream: false,
            chunked: false,
            unknown_coding: false,
            close: false,
            keep_alive: false,
            idle_seconds: None,
            upgrade: None,
            nominated: Vec::new(),
        }
    }

    fn take_line(
        &mut self,
        line: &[u8],
        lines: &Lines<'_>,
        known: &mut KnownLines<Meaning>,
    ) -> Result<(), BadHead> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(BadHead::TooLarge);
        }
        let (name, value, meaning) = match known.find(line) {
            Some(known) => (known.name.clone(), known.value.clone(), known.meaning),
            None => {
                let (name, value) = lines.field(line)?;
                let meaning = Meaning::of(&name, &value)?;
                if known.came_before(line) {
                    known.keep(line, &name, &value, meaning);
                }
                (name, value, meaning)
            }
        };
        if self.passes_on(meaning, &value)? {
            self.headers.append(name, value);
        }
        Ok(())
    }

    /// Notes what a field means for this connection; whether it is passed on.
    #[inline]
    fn passes_on(&mut self, meaning: Meaning, value: &HeaderValue) -> Result<bool, BadHead> {
        match meaning {
            Meaning::EndToEnd => return Ok(true),
            Meaning::EventStream => {
                self.event_stream = true;
                return Ok(true);
            }
            Meaning::Length(length) => {
                if self.length.replace(length).is_some() {
                    return Err(BadHead::ContentLength);
                }
                return Ok(true);
            }
            Meaning::Chunked => {
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(BadHead::TransferEncoding);
                }
            }
            Meaning::UnknownCoding => {
                if std::mem::replace(&mut self.unknown_coding, true) {
                    return Err(BadHead::TransferEncoding);
                }
            }
            Meaning::Options {
                close,
                keep_alive,
                nominates,
            } => {
                self.close |= close;
                self.keep_alive |= keep_alive;
                if nominates {
                    self.nominated.extend(options(value).filter_map(nominated));
                }
            }
            Meaning::Upgrade => self.upgrade = Some(value.clone()),
            Meaning::KeepAlive(seconds) => self.idle_seconds = seconds,
            Meaning::HopByHop => {}
        }
        Ok(false)
    }

    /// RFC 9112 §6.3, for responses.
    fn finish(
        mut self,
        status: StatusCode,
        http_11: bool,
        asked: Asked,
    ) -> Result<ResponseHead, BadHead> {
        let mut lost = false;
        for name in &self.nominated {
            lost |= self.headers.remove(name).is_some() && cache_control::is_heeded(name);
        }
        if lost {
            // It was said to this cache, too (RFC 9111 §3), and not to the next one.
            self.headers
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            cache_control::forget_targeted(&mut self.headers);
        }
        if self.chunked && self.length.is_some() {
            return Err(BadHead::AmbiguousLength);
        }
        if self.chunked && !http_11 {
            return Err(BadHead::TransferEncoding);
        }
        if self.unknown_coding && (self.chunked || self.length.is_some()) {
            return Err(BadHead::AmbiguousLength);
        }
        let mut keep_alive = !self.close && !self.unknown_coding && (http_11 || self.keep_alive);
        let upgrade = (status == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| self.upgrade.take())
            .flatten();
        if status == StatusCode::SWITCHING_PROTOCOLS
            && (!asked.upgrade || !http_11 || upgrade.is_none())
        {
            return Err(BadHead::UnexpectedUpgrade);
        }
        let bodiless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let framing = if asked.head || bodiless {
            // Whoever sends a body where none may be would have it read as the next response.
            keep_alive &= status != StatusCode::NO_CONTENT
                || (!self.chunked && self.length.unwrap_or(0) == 0);
            if bodiless {
                self.headers.remove(header::CONTENT_LENGTH);
            }
            Framing::NONE
        } else if self.chunked {
            Framing::Chunked(Chunked::Size)
        } else if let Some(length) = self.length {
            Framing::Length(length)
        } else {
            keep_alive = false;
            Framing::Close
        };
        Ok(ResponseHead {
            status,
            headers: self.headers,
            framing,
            event_stream: self.event_stream,
            keep_alive,
            idle_seconds: self.idle_seconds,
            upgrade,
        })
    }
}

/// What a field of a response says to the proxy.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// Nothing: it is for the client.
    EndToEnd,
    /// `Content-Type: text/event-stream`.
    EventStream,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// A `Transfer-Encoding` that is registered nowhere.
    UnknownCoding,
    /// `Connection`, and whether it names fields that concern this connection only.
    Options {
        close: bool,
        keep_alive: bool,
        nominates: bool,
    },
    /// The seconds of `Keep-Alive: timeout=N`.
    KeepAlive(Option<u64>),
    /// `Upgrade`.
    Upgrade,
    /// Nothing, and it is for nobody else either.
    HopByHop,
}

impl Meaning {
    fn of(name: &HeaderName, value: &HeaderValue) -> Result<Self, BadHead> {
        let bytes = value.as_bytes();
        Ok(match *name {
            header::CONTENT_LENGTH => {
                Self::Length(content_length(bytes).ok_or(BadHead::ContentLength)?)
            }
            header::TRANSFER_ENCODING if bytes.eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            header::TRANSFER_ENCODING if is_unknown_coding(bytes) => Self::UnknownCoding,
            header::TRANSFER_ENCODING => return Err(BadHead::TransferEncoding),
            header::CONNECTION => Self::Options {
                close: has_option(value, "close"),
                keep_alive: has_option(value, "keep-alive"),
                nominates: options(value).any(|option| nominated(option).is_some()),
            },
            header::UPGRADE => Self::Upgrade,
            header::CONTENT_TYPE if is_event_stream(bytes) => Self::EventStream,
            _ if *name == KEEP_ALIVE => Self::KeepAlive(keep_alive_timeout(bytes)),
            _ if hop_by_hop::is_hop_by_hop(name.as_str()) => Self::HopByHop,
            _ => Self::EndToEnd,
        })
    }
}

/// Whether it is one transfer coding that nobody has registered, which can only mean nothing: the response is what follows,
/// up to the end of the connection (RFC 9112 §6.3). Those that are registered change what follows, and weir offers none of
/// them; what may be a misspelt `chunked` is better not guessed at.
fn is_unknown_coding(value: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let value = value.to_ascii_lowercase();
    let registered = [
        &b"compress"[..],
        b"deflate",
        b"gzip",
        b"x-compress",
        b"x-gzip",
    ];
    !value.is_empty()
        && value.iter().all(is_token)
        && !registered.contains(&&*value)
        && !value.windows(5).any(|part| part == b"chunk")
}

fn is_event_stream(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next();
    media_type.is_some_and(|media_type| {
        media_type
            .trim_ascii()
            .eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// The field that an option of `Connection` names, unless losing it would change where the response ends.
fn nominated(option: &[u8]) -> Option<HeaderName> {
    if option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive") {
        return None;
    }
    HeaderName::from_bytes(option)
        .ok()
        .filter(|name| name != header::CONTENT_LENGTH)
}

/// The seconds of `timeout=N` in a `Keep-Alive` field.
fn keep_alive_timeout(value: &[u8]) -> Option<u64> {
    value.split(|&byte| byte == b',').find_map(|parameter| {
        let (name, number) = parameter.trim_ascii().split_at_checked(8)?;
        if !name.eq_ignore_ascii_case(b"timeout=") {
            return None;
        }
        content_length(number)
    })
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::fields::write_field;
    use proptest::prelude::*;

    const GET: Asked = Asked {
        head: false,
        upgrade: false,
    };

    fn read(bytes: &Bytes, asked: Asked) -> Result<Option<(usize, ResponseHead)>, BadHead> {
        parse_response(bytes, asked, &mut KnownLines::new(), &Cell::default())
    }

    fn parse(head: &str) -> Result<ResponseHead, BadHead> {
        let bytes = Bytes::copy_from_slice(head.as_bytes());
        read(&bytes, GET).map(|parsed| parsed.expect("complete").1)
    }

    #[test]
    fn the_framing_follows_rfc_9112_section_6_3() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
                Framing::Chunked(Chunked::Size),
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::Close, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Framing::NONE, true),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                Framing::NONE,
                false,
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                Framing::NONE,
                true,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n",
                Framing::Length(5),
                false,
            ),
            (
                "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
                Framing::NONE,
                true,
            ),
            (
                "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
                Framing::NONE,
                true,
            ),
        ];
        for (head, framing, keep_alive) in cases {
            let parsed = parse(head).unwrap_or_else(|error| panic!("{head:?}: {error}"));
            assert_eq!(parsed.framing, framing, "{head:?}");
            assert_eq!(parsed.keep_alive, keep_alive, "{head:?}");
        }
    }

    /// RFC 9112 §6.3: without `chunked` at its end, the end of the connection is that of the response.
    #[test]
    fn a_transfer_coding_that_nobody_knows_means_nothing() {
        for coding in ["identity", "Some-Thing"] {
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
            let parsed = parse(&head).unwrap();
            assert_eq!(parsed.framing, Framing::Close);
            assert!(!parsed.keep_alive);
            assert!(parsed.headers.is_empty());
        }
    }

    #[test]
    fn ambiguity_is_an_error() {
        let cases = [
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                BadHead::AmbiguousLength,
            ),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                BadHead::ContentLength,
            ),
            ("Content-Length: 5, 5\r\n", BadHead::ContentLength),
            ("Content-Length: +5\r\n", BadHead::ContentLength),
            ("Content-Length: -5\r\n", BadHead::ContentLength),
            ("Content-Length: 0x5\r\n", BadHead::ContentLength),
            ("Content-Length: \r\n", BadHead::ContentLength),
            (
                "Content-Length: 18446744073709551616\r\n",
                BadHead::ContentLength,
            ),
            (
                "Transfer-Encoding: gzip, chunked\r\n",
                BadHead::TransferEncoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                BadHead::TransferEncoding,
            ),
            ("Transfer-Encoding: xchunked\r\n", BadHead::TransferEncoding),
            ("Transfer-Encoding: gzip\r\n", BadHead::TransferEncoding),
            (
                "Transfer-Encoding: other, else\r\n",
                BadHead::TransferEncoding,
            ),
            (
                "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
                BadHead::AmbiguousLength,
            ),
            (
                "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
                BadHead::AmbiguousLength,
            ),
        ];
        for (fields, error) in cases {
            let got = parse(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(drop);
            assert_eq!(got, Err(error), "{fields:?}");
        }
    }

    #[test]
    fn a_switch_of_protocols_must_have_been_asked_for() {
        let bytes = Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(read(&bytes, GET).map(drop), Err(BadHead::UnexpectedUpgrade));
        let asked = Asked {
            head: false,
            upgrade: true,
        };
        let (_, head) = read(&bytes, asked).unwrap().unwrap();
        assert_eq!(head.upgrade.unwrap(), "websocket");
    }

    #[test]
    fn fields_that_concern_one_connection_stay_behind() {
        let head = parse(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-secret, keep-alive\r\nX-Secret: 1\r\n\
             Keep-Alive: timeout=5, max=10\r\nProxy-Connection: x\r\nTE: x\r\nUpgrade: h2c\r\nX-Other: 2\r\n\r\n",
        )
        .unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "x-other"]);
        assert_eq!(head.idle_seconds, Some(5));
    }

    #[test]
    fn repeated_fields_keep_their_order() {
        let head = parse(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n",
        )
        .unwrap();
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
    }

    #[test]
    fn an_endless_head_is_refused() {
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(MAX_HEAD, b'x');
        assert_eq!(
            read(&Bytes::from(head), GET).map(drop),
            Err(BadHead::TooLarge)
        );
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(129));
        assert_eq!(parse(&head).map(drop), Err(BadHead::TooLarge));
    }

    fn field() -> impl Strategy<Value = (String, String)> {
        ("x-[a-z0-9]{1,12}", "[!-~]([ -~\\t]{0,30}[!-~])?")
    }

    proptest! {
        /// Serialise, parse: the same fields in the same order; and no prefix of a head is taken for a whole one.
        #[test]
        fn parsing_what_was_written_gives_the_same_fields(
            status in 200u16..600,
            fields in prop::collection::vec(field(), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut head = format!("HTTP/1.1 {status} Whatever\r\n").into_bytes();
            for (name, value) in &fields {
                write_field(&mut head, name.as_bytes(), value.as_bytes());
            }
            head.extend_from_slice(b"content-length: 0\r\n\r\n");
            let whole = head.len();
            head.extend_from_slice(b"rest");
            let bytes = Bytes::from(head);
            let (length, parsed) = read(&bytes, GET).unwrap().unwrap();
            prop_assert_eq!(length, whole);
            prop_assert_eq!(parsed.status.as_u16(), status);
            for name in parsed.headers.keys().filter(|name| *name != header::CONTENT_LENGTH) {
                let got: Vec<_> = parsed.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
                let sent: Vec<_> = fields.iter().filter(|(sent, _)| sent == name.as_str()).map(|(_, value)| value.as_str()).collect();
                prop_assert_eq!(got, sent);
            }
            let prefix = bytes.slice(..cut.index(whole));
            prop_assert!(read(&prefix, GET).unwrap().is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), head: bool, upgrade: bool) {
            let _ = read(&Bytes::from(bytes), Asked { head, upgrade });
        }
    }
}
