//! Heads: writing those of requests, parsing those of responses (RFC 9112 §3, §4, §5).
//!
//! A request's fields are filtered by the caller while they are written, never by editing a map. A response's fields are
//! slices of the bytes that were read; hop-by-hop fields stay behind (RFC 9110 §7.6.1).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, header};

use super::framing::{Chunked, Framing, has_bare_line_feed};
use crate::semantics::hop_by_hop;

/// The largest response head that is read.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
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

/// Writes one field line. Neither part can hold CR or LF: `http`'s types exclude them.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The head of a response, fit to be passed on.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    /// End-to-end fields only.
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// Whether the connection may carry another exchange after this one.
    pub(crate) keep_alive: bool,
    /// Seconds of `Keep-Alive: timeout=N`, where the server says it.
    pub(crate) idle_seconds: Option<u64>,
    /// The protocol of a 101 (RFC 9110 §7.8).
    pub(crate) upgrade: Option<HeaderValue>,
}

/// What was asked, as far as it decides how the answer is framed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) head: bool,
    pub(crate) upgrade: bool,
}

/// What a server did wrong in a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the response head is not HTTP/1: {0}")]
    Syntax(httparse::Error),
    #[error("the response does not begin with `HTTP/`")]
    Start,
    #[error("a line of the response head ends with LF alone")]
    BareLineFeed,
    #[error("the response head is larger than 64 KiB or has more than 128 fields")]
    TooLarge,
    #[error("the status is not between 100 and 599")]
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

/// Parses the head at the beginning of `bytes`; `None` while it is incomplete. The length of the head is returned with it.
pub(crate) fn parse_response(
    bytes: &Bytes,
    asked: Asked,
) -> Result<Option<(usize, ResponseHead)>, BadHead> {
    // httparse skips empty lines. What comes before a response belongs to no exchange that we know of.
    if bytes.first().is_some_and(|&first| first != b'H') {
        return Err(BadHead::Start);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields)
    {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooLarge),
        Err(error) => return Err(BadHead::Syntax(error)),
    };
    let status = response
        .code
        .filter(|code| (100..600).contains(code))
        .ok_or(BadHead::Status)?;
    let status = StatusCode::from_u16(status).map_err(|_| BadHead::Status)?;
    if has_bare_line_feed(bytes.get(..length).unwrap_or_default()) {
        return Err(BadHead::BareLineFeed);
    }
    let http_11 = response.version == Some(1);
    Fields::collect(bytes, response.headers)?
        .finish(status, http_11, asked)
        .map(|head| Some((length, head)))
}

/// The fields of a response, sorted into what is passed on and what concerns this connection.
struct Fields {
    headers: HeaderMap,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    idle_seconds: Option<u64>,
    upgrade: Option<HeaderValue>,
    nominated: Vec<HeaderName>,
}

impl Fields {
    fn collect(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<Self, BadHead> {
        let mut all = Self {
            // Room for what the proxy adds, so that the map is allocated once.
            headers: HeaderMap::with_capacity(fields.len() + 4),
            length: None,
            chunked: false,
            close: false,
            keep_alive: false,
            idle_seconds: None,
            upgrade: None,
            nominated: Vec::new(),
        };
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadHead::Field)?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                .map_err(|_| BadHead::Field)?;
            all.take(name, value)?;
        }
        for name in std::mem::take(&mut all.nominated) {
            all.headers.remove(name);
        }
        Ok(all)
    }

    fn take(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), BadHead> {
        match name {
            header::CONTENT_LENGTH => {
                let length = content_length(value.as_bytes()).ok_or(BadHead::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(BadHead::ContentLength);
                }
                self.headers.append(name, value);
            }
            header::TRANSFER_ENCODING => {
                if self.chunked
                    || !value
                        .as_bytes()
                        .trim_ascii()
                        .eq_ignore_ascii_case(b"chunked")
                {
                    return Err(BadHead::TransferEncoding);
                }
                self.chunked = true;
            }
            header::CONNECTION => self.connection(&value),
            header::UPGRADE => self.upgrade = Some(value),
            _ if name == KEEP_ALIVE => self.idle_seconds = keep_alive_timeout(value.as_bytes()),
            _ if hop_by_hop::is_hop_by_hop(&name) => {}
            _ => {
                self.headers.append(name, value);
            }
        }
        Ok(())
    }

    fn connection(&mut self, value: &HeaderValue) {
        for option in value
            .as_bytes()
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
        {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if let Ok(name) = HeaderName::from_bytes(option)
                && name != header::CONTENT_LENGTH
            {
                self.nominated.push(name);
            }
        }
    }

    /// RFC 9112 §6.3, for responses.
    fn finish(
        mut self,
        status: StatusCode,
        http_11: bool,
        asked: Asked,
    ) -> Result<ResponseHead, BadHead> {
        if self.chunked && self.length.is_some() {
            return Err(BadHead::AmbiguousLength);
        }
        if self.chunked && !http_11 {
            return Err(BadHead::TransferEncoding);
        }
        let mut keep_alive = !self.close && (http_11 || self.keep_alive);
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
            keep_alive,
            idle_seconds: self.idle_seconds,
            upgrade,
        })
    }
}

/// `1*DIGIT` and nothing else: no sign, no list, no blank inside (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
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
    use proptest::prelude::*;

    const GET: Asked = Asked {
        head: false,
        upgrade: false,
    };

    fn parse(head: &str) -> Result<ResponseHead, BadHead> {
        let bytes = Bytes::copy_from_slice(head.as_bytes());
        parse_response(&bytes, GET).map(|parsed| parsed.expect("complete").1)
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
            ("Transfer-Encoding: identity\r\n", BadHead::TransferEncoding),
        ];
        for (fields, error) in cases {
            let got = parse(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(drop);
            assert_eq!(got, Err(error), "{fields:?}");
        }
    }

    #[test]
    fn a_switch_of_protocols_must_have_been_asked_for() {
        let bytes = Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(
            parse_response(&bytes, GET).map(drop),
            Err(BadHead::UnexpectedUpgrade)
        );
        let asked = Asked {
            head: false,
            upgrade: true,
        };
        let (_, head) = parse_response(&bytes, asked).unwrap().unwrap();
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
            parse_response(&Bytes::from(head), GET).map(drop),
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
            let (length, parsed) = parse_response(&bytes, GET).unwrap().unwrap();
            prop_assert_eq!(length, whole);
            prop_assert_eq!(parsed.status.as_u16(), status);
            for name in parsed.headers.keys().filter(|name| *name != header::CONTENT_LENGTH) {
                let got: Vec<_> = parsed.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
                let sent: Vec<_> = fields.iter().filter(|(sent, _)| sent == name.as_str()).map(|(_, value)| value.as_str()).collect();
                prop_assert_eq!(got, sent);
            }
            let prefix = bytes.slice(..cut.index(whole));
            prop_assert!(parse_response(&prefix, GET).unwrap().is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), head: bool, upgrade: bool) {
            let _ = parse_response(&Bytes::from(bytes), Asked { head, upgrade });
        }
    }
}
