//! Field sections of requests (RFC 9112 §5): what is in them, and what they say of the connection.

use std::rc::Rc;

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::bad_head::BadHead;
use crate::http1::fields::{content_length, has_option};
use crate::http1::known_lines::KnownLines;
use crate::http1::lines::Lines;
use crate::http1::{Chunked, Framing};
use crate::proxy::fields::Fields;

/// No body has more.
const MOST_BYTES: u64 = u64::MAX / 2;

/// A field section, and what it says of the connection.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) fields: Rc<Fields>,
    pub(super) said: Said,
}

/// What the fields of a request say of its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    length: Option<u64>,
    chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expects: bool,
    pub(super) takes_trailers: bool,
}

/// Reads lines up to the empty one, at most `most`, into `map`, which is empty.
pub(super) fn read_section(
    lines: &mut Lines<'_>,
    most: usize,
    mut map: HeaderMap,
    known: &mut KnownLines<Meaning>,
) -> Result<Section, BadHead> {
    let mut said = Said::default();
    loop {
        let line = match lines.next()?.ok_or(BadHead::Field)? {
            b"" => break,
            line => line,
        };
        if map.len() >= most {
            return Err(BadHead::TooManyFields);
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
        said.hear(meaning)?;
        // The map has a limit of its own, far beyond.
        let appended = map.try_append(name, value);
        appended.map(drop).map_err(|_| BadHead::TooManyFields)?;
    }
    let fields = Rc::new(Fields::new(map));
    Ok(Section { fields, said })
}

impl Said {
    #[inline]
    fn hear(&mut self, meaning: Meaning) -> Result<(), BadHead> {
        match meaning {
            Meaning::None => {}
            // RFC 9112 §6.3: the same length twice is one.
            Meaning::Length(length) => {
                let before = self.length.replace(length);
                if before.is_some_and(|before| before != length) {
                    return Err(BadHead::ContentLength);
                }
            }
            Meaning::Chunked => {
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(BadHead::TransferEncoding);
                }
            }
            Meaning::Options { close, keep_alive } => {
                self.close |= close;
                self.keep_alive |= keep_alive;
            }
            Meaning::Continue => self.expects = true,
            Meaning::Trailers => self.takes_trailers = true,
        }
        Ok(())
    }

    /// RFC 9112 §6.3, for requests.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, BadHead> {
        match (self.chunked, self.length) {
            // A client of 1.0 may not know what it says (§6.1).
            (true, _) if version != Version::HTTP_11 => Err(BadHead::TransferEncoding),
            (true, Some(_)) => Err(BadHead::AmbiguousLength),
            (true, None) => Ok(Framing::Chunked(Chunked::Size)),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// What a field of a request says to this connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// Nothing.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Connection`.
    Options { close: bool, keep_alive: bool },
    /// `Expect: 100-continue`.
    Continue,
    /// `TE: trailers`.
    Trailers,
}

impl Meaning {
    fn of(name: &HeaderName, value: &HeaderValue) -> Result<Self, BadHead> {
        let bytes = value.as_bytes();
        Ok(match *name {
            header::CONTENT_LENGTH => {
                let length = content_length(bytes).filter(|length| *length <= MOST_BYTES);
                Self::Length(length.ok_or(BadHead::ContentLength)?)
            }
            // Once, and nothing else: what weir does not decode it would pass on under fields that no longer say so.
            header::TRANSFER_ENCODING if bytes.eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            header::TRANSFER_ENCODING => return Err(BadHead::TransferEncoding),
            header::CONNECTION => Self::Options {
                close: has_option(value, "close"),
                keep_alive: has_option(value, "keep-alive"),
            },
            header::EXPECT if bytes.eq_ignore_ascii_case(b"100-continue") => Self::Continue,
            header::TE if has_option(value, "trailers") => Self::Trailers,
            _ => Self::None,
        })
    }
}
