//! Responses on their way to the client: the head with what the connection adds, and the body in its framing (RFC 9112 §6).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Version};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::output::Output;
use super::wire::Wire;
use crate::http1::fields::{Written, content_length, has_option, write_field, write_number};
use crate::proxy::body::Body;

/// So much of a body is gathered before it is written, where it has to be waited for.
const GATHERED: usize = 64 * 1024;
/// What is written at once of what lies in memory: what a connection can take before its client reads.
const AT_ONCE: usize = 1024 * 1024;

/// What a request says about its response.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    /// Whether the connection is to go on.
    pub(super) keep_alive: bool,
    pub(super) takes_trailers: bool,
}

/// How the end of a response is told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// That much is to come.
    Length(u64),
    Chunked,
    /// By the end of the connection: for clients of HTTP/1.0.
    Close,
}

/// Writes a head. `length` is that of the body, where it is known; `more` writes fields that are not in the map, if there are
/// any. Returns how the body follows, and whether the connection can carry another
/// request.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    asked: &Asked,
    (status, headers): (StatusCode, &HeaderMap),
    more: impl FnOnce(&mut Vec<u8>) -> Written,
    length: Option<u64>,
    date: &[u8],
) -> (Framing, bool) {
    let is_11 = asked.version == Version::HTTP_11;
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    out.extend_from_slice(if is_11 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
    let has_length = !status.is_informational() && status != StatusCode::NO_CONTENT;
    let written = more(out);
    let mut has_date = written != Written::Nothing;
    let mut stated = length.filter(|_| written == Written::All);
    let mut keep_alive = asked.keep_alive;
    for (name, value) in headers {
        match *name {
            header::CONTENT_LENGTH => {
                if stated.is_some() || !has_length {
                    continue;
                }
                stated = content_length(value.as_bytes());
                if stated.is_none() {
                    continue;
                }
            }
            header::CONNECTION if !is_switch => {
                keep_alive &= !has_option(value, "close");
                continue;
            }
            header::TRANSFER_ENCODING => continue,
            header::DATE => has_date = true,
            _ => {}
        }
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if !has_date {
        write_field(out, b"date", date);
    }
    let is_head = asked.method == Method::HEAD;
    let framing = if !has_length || status == StatusCode::NOT_MODIFIED {
        Framing::None
    } else if let Some(length) = stated {
        Framing::Length(length)
    } else if let Some(length) = length.filter(|length| *length > 0 || !is_head) {
        out.extend_from_slice(b"content-length: ");
        write_number(out, length);
        out.extend_from_slice(b"\r\n");
        Framing::Length(length)
    } else if is_head {
        Framing::None
    } else if is_11 {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        Framing::Chunked
    } else {
        keep_alive = false;
        Framing::Close
    };
    if is_switch {
        // Its `Connection` is the server's.
    } else if !keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    } else if !is_11 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (if is_head { Framing::None } else { framing }, keep_alive)
}

/// The body of a response that is being sent.
pub(super) struct Sending {
    /// `None` once all of it was handed out.
    body: Option<Body>,
    framing: Framing,
    takes_trailers: bool,
    is_broken: bool,
}

/// How a response ended that did not go out whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client takes no more, or has gone.
    Gone,
    /// The body broke off.
    Broken,
}

impl Sending {
    pub(super) fn new(body: Body, framing: Framing, takes_trailers: bool) -> Self {
        let is_over = framing == Framing::None || framing == Framing::Length(0);
        Self {
            body: Some(body).filter(|_| !is_over),
            framing,
            takes_trailers,
            is_broken: false,
        }
    }

    /// Sends it. Ready when the last byte has left, or no more will.
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &mut self,
        context: &mut Context<'_>,
        wire: &Rc<Wire<S>>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            let waits = self.gather(context, wire);
            let held_back = !wire.is_flushed();
            match wire.poll_written(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Unsent::Gone)),
                Poll::Pending => {
                    ready!(wire.poll_gone(context));
                    return Poll::Ready(Err(Unsent::Gone));
                }
            }
            if self.body.is_none() {
                return Poll::Ready(if self.is_broken {
                    Err(Unsent::Broken)
                } else {
                    Ok(())
                });
            }
            // A body may hold more back until what it gave has left, which was just now.
            if waits && !held_back {
                ready!(wire.poll_gone(context));
                return Poll::Ready(Err(Unsent::Gone));
            }
        }
    }

    /// Takes what the body has; whether more has to be waited for.
    fn gather<S: AsyncRead + AsyncWrite + Unpin + 'static>(
        &mut self,
        context: &mut Context<'_>,
        wire: &Wire<S>,
    ) -> bool {
        while let Some(body) = &mut self.body {
            let enough = if body.is_in_pieces() {
                AT_ONCE
            } else {
                GATHERED
            };
            if wire.waiting() >= enough {
                return false;
            }
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) else {
                return true;
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => wire.write(|out| self.data(out, data)),
                    Err(frame) => {
                        let fields = frame.into_trailers().ok();
                        wire.write(|out| self.end(out, fields.as_ref()));
                    }
                },
                Some(Err(_)) => {
                    self.is_broken = true;
                    self.body = None;
                }
                None => wire.write(|out| self.end(out, None)),
            }
        }
        false
    }

    fn data(&mut self, out: &mut Output, data: Bytes) {
        match &mut self.framing {
            Framing::None => {}
            Framing::Close => out.push(data),
            Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    out.push(data);
                }
                // More than was announced would be taken for the next response.
                None => {
                    self.is_broken = true;
                    self.body = None;
                    return;
                }
            },
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                write_size(out.bytes(), data.len());
                out.push(data);
                out.bytes().extend_from_slice(b"\r\n");
            }
        }
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.end(out, None);
        }
    }

    fn end(&mut self, out: &mut Output, trailers: Option<&HeaderMap>) {
        self.body = None;
        match self.framing {
            Framing::Length(left) => self.is_broken = left > 0,
            Framing::Chunked => {
                let out = out.bytes();
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers
                    .into_iter()
                    .flatten()
                    .filter(|_| self.takes_trailers)
                {
                    write_field(out, name.as_str().as_bytes(), value.as_bytes());
                }
                out.extend_from_slice(b"\r\n");
            }
            Framing::None | Framing::Close => {}
        }
    }
}

/// The line before a chunk.
fn write_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (size >> (4 * place)) & 0xf;
        out.extend(DIGITS.get(digit));
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn asked(method: Method, version: Version) -> Asked {
        Asked {
            method,
            version,
            keep_alive: true,
            takes_trailers: false,
        }
    }

    fn head(
        asked: &Asked,
        status: u16,
        fields: &[(&'static str, &'static str)],
        length: Option<u64>,
    ) -> (String, Framing, bool) {
        let fields = fields.iter();
        let headers: HeaderMap = fields
            .map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let mut out = Vec::new();
        let (framing, keep_alive) = write_head(
            &mut out,
            asked,
            (status, &headers),
            |_| Written::Nothing,
            length,
            b"now",
        );
        (String::from_utf8(out).unwrap(), framing, keep_alive)
    }

    #[test]
    fn the_end_of_a_body_is_told_in_the_way_that_its_client_knows() {
        let get = asked(Method::GET, Version::HTTP_11);
        let old = asked(Method::GET, Version::HTTP_10);
        for (asked, status, fields, length, wanted) in [
            (
                &get,
                200,
                &[("content-length", "3")][..],
                None,
                (Framing::Length(3), true),
            ),
            (&get, 200, &[], Some(3), (Framing::Length(3), true)),
            (&get, 200, &[], Some(0), (Framing::Length(0), true)),
            (&get, 200, &[], None, (Framing::Chunked, true)),
            (&old, 200, &[], None, (Framing::Close, false)),
            (&old, 200, &[], Some(3), (Framing::Length(3), true)),
            (
                &get,
                204,
                &[("content-length", "0")],
                Some(0),
                (Framing::None, true),
            ),
            (
                &get,
                304,
                &[("content-length", "9")],
                Some(0),
                (Framing::None, true),
            ),
            (
                &get,
                200,
                &[("connection", "x, Close")],
                Some(1),
                (Framing::Length(1), false),
            ),
        ] {
            let (_, framing, keep_alive) = head(asked, status, fields, length);
            assert_eq!(
                (framing, keep_alive),
                wanted,
                "{status} {fields:?} {length:?}"
            );
        }
    }

    #[test]
    fn a_head_has_each_field_once() {
        let get = asked(Method::GET, Version::HTTP_11);
        let fields = [
            ("content-length", "3"),
            ("content-length", "4"),
            ("transfer-encoding", "x"),
        ];
        let (text, ..) = head(&get, 299, &fields, None);
        assert_eq!(
            text,
            "HTTP/1.1 299 Unknown\r\ncontent-length: 3\r\ndate: now\r\n\r\n"
        );
        let (text, ..) = head(
            &get,
            204,
            &[("date", "then"), ("content-length", "0")],
            None,
        );
        assert_eq!(text, "HTTP/1.1 204 No Content\r\ndate: then\r\n\r\n");
        let old = asked(Method::GET, Version::HTTP_10);
        let (text, ..) = head(&old, 200, &[("date", "then")], Some(2));
        assert_eq!(
            text,
            "HTTP/1.0 200 OK\r\ndate: then\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn what_is_written_already_is_not_written_again() {
        let get = asked(Method::GET, Version::HTTP_11);
        let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
        let close = HeaderMap::from_iter(close);
        for (written, headers, lines, goes_on) in [
            (Written::All, HeaderMap::new(), "", true),
            (
                Written::AllButLength,
                HeaderMap::new(),
                "content-length: 5\r\n",
                true,
            ),
            (Written::All, close, "connection: close\r\n", false),
        ] {
            let mut out = Vec::new();
            let more = |out: &mut Vec<u8>| {
                out.extend_from_slice(b"stored: 1\r\n");
                written
            };
            let head = (StatusCode::OK, &headers);
            let said = write_head(&mut out, &get, head, more, Some(5), b"now");
            assert_eq!(said, (Framing::Length(5), goes_on));
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, format!("HTTP/1.1 200 OK\r\nstored: 1\r\n{lines}\r\n"));
        }
    }

    #[test]
    fn the_answer_to_head_tells_the_length_and_has_no_body() {
        let asked = asked(Method::HEAD, Version::HTTP_11);
        for (fields, length, line) in [
            (
                &[("content-length", "7")][..],
                None,
                "content-length: 7\r\n",
            ),
            (&[], Some(7), "content-length: 7\r\n"),
            (&[], Some(0), ""),
            (&[], None, ""),
        ] {
            let (text, framing, keep_alive) = head(&asked, 200, fields, length);
            assert_eq!((framing, keep_alive), (Framing::None, true));
            let wanted = format!("HTTP/1.1 200 OK\r\n{}", "");
            assert!(text.starts_with(&wanted) && text.contains(line), "{text}");
            assert_eq!(
                text.matches("content-length").count(),
                usize::from(!line.is_empty())
            );
        }
    }

    #[test]
    fn a_switch_keeps_the_options_of_its_server() {
        let get = asked(Method::GET, Version::HTTP_11);
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        let (text, framing, _) = head(&get, 101, &fields, Some(0));
        assert_eq!(framing, Framing::None);
        assert!(
            text.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"),
            "{text}"
        );
        assert!(!text.contains("content-length"));
    }

    #[test]
    fn sizes_of_chunks_are_hexadecimal() {
        for size in [
            0,
            1,
            9,
            10,
            15,
            16,
            255,
            256,
            4096,
            65_535,
            1 << 20,
            usize::MAX,
        ] {
            let mut out = Vec::new();
            write_size(&mut out, size);
            assert_eq!(out, format!("{size:x}\r\n").into_bytes());
        }
    }
}
