//! Where the body of a message ends (RFC 9112 §6, §7). Pure: bytes in, bytes out; no I/O.
//!
//! Strict on purpose. A peer that frames a body ambiguously could make two parties disagree on where the next message
//! begins; whatever is not exactly the grammar is an error, and its connection is never used again. A body that stops
//! before its end is an error too: it must not look complete to whoever gets it.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

use super::lines::Lines;

/// The longest line that may announce a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 4096;
/// The largest trailer section.
const MAX_TRAILERS: usize = 16 * 1024;
/// The most trailer fields.
const MAX_TRAILER_FIELDS: usize = 64;

/// Small chunks that came together are passed on together, up to this size: a piece of a byte costs as much as a large one,
/// and an HTTP/2 client may take many of them for an attack.
const MAX_JOINED: usize = 8 * 1024;

/// How the end of a body is told, and how far it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// That many bytes are still to come (`Content-Length`, or 0 where there can be no body).
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunked),
    /// Until the sender closes the connection.
    Close,
}

/// Where a chunked body stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// A line with the size of the next chunk.
    Size,
    /// That many bytes of the current chunk, then its CRLF.
    Data(u64),
    /// The CRLF after a chunk.
    DataEnd,
    /// Trailer fields, up to an empty line.
    Trailers,
    /// Over.
    Done,
    /// Not chunked after all; nothing behind it can be trusted.
    Broken(BadFraming),
}

/// One step of decoding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The trailer fields; the body is over.
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// More bytes are needed to say anything.
    More,
}

/// What a peer did wrong while sending a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFraming {
    #[error("the size of a chunk is not a hexadecimal number")]
    ChunkSize,
    #[error("the size of a chunk does not fit in 64 bits")]
    ChunkTooLarge,
    #[error("the line that announces a chunk is longer than 4 KiB or holds control characters")]
    ChunkLine,
    #[error("a chunk is not followed by CRLF")]
    ChunkEnd,
    #[error("the trailer section is malformed or larger than 16 KiB")]
    Trailers,
    #[error("the connection ended before the body did")]
    Truncated,
}

impl Framing {
    /// The framing where no body follows.
    pub(crate) const NONE: Self = Self::Length(0);

    /// Whether the body is over without another byte.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Done))
    }

    /// The bytes still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(Chunked::Done) => Some(0),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes the next piece out of what has been read.
    pub(crate) fn decode(&mut self, buffer: &mut Bytes) -> Result<Decoded, BadFraming> {
        match self {
            Self::Length(0) => Ok(Decoded::End),
            Self::Length(left) => Ok(take(buffer, left)),
            Self::Close if buffer.is_empty() => Ok(Decoded::More),
            Self::Close => Ok(Decoded::Data(std::mem::take(buffer))),
            Self::Chunked(chunked) => chunked.decode(buffer),
        }
    }

    /// The sender closed the connection: whether that ended the body.
    pub(crate) fn end_of_input(&self) -> Result<(), BadFraming> {
        match self {
            Self::Close => Ok(()),
            _ if self.is_over() => Ok(()),
            Self::Length(_) | Self::Chunked(_) => Err(BadFraming::Truncated),
        }
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut Bytes) -> Result<Decoded, BadFraming> {
        let mut piece = Piece::default();
        match self.decode_into(&mut piece, buffer) {
            // What came before the mistake is passed on first.
            Err(bad) if piece.0.is_empty() => {
                *self = Self::Broken(bad);
                Err(bad)
            }
            Err(bad) => {
                *self = Self::Broken(bad);
                Ok(Decoded::Data(piece.0))
            }
            Ok(_) if !piece.0.is_empty() => Ok(Decoded::Data(piece.0)),
            Ok(decoded) => Ok(decoded),
        }
    }

    /// Goes on as far as it can. What is returned means nothing if there is a piece.
    fn decode_into(
        &mut self,
        piece: &mut Piece,
        buffer: &mut Bytes,
    ) -> Result<Decoded, BadFraming> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(buffer)? else {
                        return Ok(Decoded::More);
                    };
                    *self = match chunk_size(&line)? {
                        0 => Self::Trailers,
                        size => Self::Data(size),
                    };
                }
                Self::Data(left) => {
                    let length = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(buffer.len());
                    if length == 0 || !piece.has_room_for(length) {
                        return Ok(Decoded::More);
                    }
                    piece.append(buffer.split_to(length));
                    *left -= length as u64;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                }
                Self::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More),
                    _ => return Err(BadFraming::ChunkEnd),
                },
                Self::Trailers => {
                    // Fields come after the data; an end without fields comes with it.
                    if !piece.0.is_empty() && !buffer.starts_with(b"\r\n") {
                        return Ok(Decoded::More);
                    }
                    let Some(trailers) = trailers(buffer)? else {
                        return Ok(Decoded::More);
                    };
                    *self = Self::Done;
                    return Ok(if trailers.is_empty() {
                        Decoded::End
                    } else {
                        Decoded::Trailers(trailers)
                    });
                }
                Self::Done => return Ok(Decoded::End),
                Self::Broken(bad) => return Err(*bad),
            }
        }
    }
}

/// The data of one chunk, or of several small ones.
#[derive(Default)]
struct Piece(Bytes);

impl Piece {
    fn has_room_for(&self, length: usize) -> bool {
        self.0.is_empty() || self.0.len() + length <= MAX_JOINED
    }

    fn append(&mut self, data: Bytes) {
        if self.0.is_empty() {
            self.0 = data;
            return;
        }
        // The piece is ours alone from the second chunk on; then nothing but `data` is copied.
        let mut joined = std::mem::take(&mut self.0)
            .try_into_mut()
            .unwrap_or_else(|first| {
                let mut joined = BytesMut::with_capacity(MAX_JOINED);
                joined.extend_from_slice(&first);
                joined
            });
        joined.extend_from_slice(&data);
        self.0 = joined.freeze();
    }
}

/// As much of `left` bytes as is there.
fn take(buffer: &mut Bytes, left: &mut u64) -> Decoded {
    let length = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(buffer.len());
    if length == 0 {
        return Decoded::More;
    }
    *left -= length as u64;
    Decoded::Data(buffer.split_to(length))
}

/// Takes a line that announces a chunk, without its CRLF.
fn line(buffer: &mut Bytes) -> Result<Option<Bytes>, BadFraming> {
    let seen = buffer.get(..MAX_CHUNK_LINE).unwrap_or(buffer);
    let Some(end) = seen.iter().position(|&byte| byte == b'\n') else {
        return if buffer.len() >= MAX_CHUNK_LINE {
            Err(BadFraming::ChunkLine)
        } else {
            Ok(None)
        };
    };
    let mut line = buffer.split_to(end + 1);
    line.truncate(end);
    // A bare LF does not end a line here: parsers that disagree on it are how responses get smuggled.
    match line.split_last() {
        Some((b'\r', rest))
            if rest
                .iter()
                .all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) =>
        {
            line.truncate(end - 1);
            Ok(Some(line))
        }
        _ => Err(BadFraming::ChunkLine),
    }
}

/// `chunk-size [ chunk-ext ]` (RFC 9112 §7.1); extensions are ignored.
fn chunk_size(line: &[u8]) -> Result<u64, BadFraming> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (number, rest) = line.split_at_checked(digits).ok_or(BadFraming::ChunkSize)?;
    let rest = rest.trim_ascii_start();
    if number.is_empty() || !(rest.is_empty() || rest.starts_with(b";")) {
        return Err(BadFraming::ChunkSize);
    }
    if number.len() > 16 {
        return Err(BadFraming::ChunkTooLarge);
    }
    let number = std::str::from_utf8(number).map_err(|_| BadFraming::ChunkSize)?;
    u64::from_str_radix(number, 16).map_err(|_| BadFraming::ChunkTooLarge)
}

/// Takes the trailer section once it is there whole.
fn trailers(buffer: &mut Bytes) -> Result<Option<HeaderMap>, BadFraming> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut lines = Lines::of(buffer);
    let mut map = HeaderMap::new();
    loop {
        match lines.next().map_err(|_| BadFraming::Trailers)? {
            None if buffer.len() < MAX_TRAILERS => return Ok(None),
            Some(b"") if lines.taken() <= MAX_TRAILERS => break,
            Some(line) if !line.is_empty() && map.len() < MAX_TRAILER_FIELDS => {
                let (name, value) = lines.field(line).map_err(|_| BadFraming::Trailers)?;
                // Copied, so that trailers do not keep the whole buffer.
                let value =
                    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| BadFraming::Trailers)?;
                map.append(name, value);
            }
            _ => return Err(BadFraming::Trailers),
        }
    }
    let length = lines.taken();
    buffer.advance(length);
    Ok(Some(map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(
        framing: &mut Framing,
        pieces: &[&[u8]],
    ) -> Result<(Vec<u8>, Option<HeaderMap>, bool), BadFraming> {
        let mut buffer = Bytes::new();
        let mut body = Vec::new();
        for piece in pieces {
            buffer = [&buffer[..], piece].concat().into();
            loop {
                match framing.decode(&mut buffer)? {
                    Decoded::Data(data) => {
                        assert!(!data.is_empty());
                        body.extend_from_slice(&data);
                    }
                    Decoded::Trailers(trailers) => return Ok((body, Some(trailers), true)),
                    Decoded::End => return Ok((body, None, true)),
                    Decoded::More => break,
                }
            }
        }
        Ok((body, None, false))
    }

    fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, Option<HeaderMap>, bool), BadFraming> {
        decode_all(&mut Framing::Chunked(Chunked::Size), &[bytes])
    }

    #[test]
    fn a_length_takes_exactly_that_many_bytes() {
        let mut framing = Framing::Length(3);
        let mut buffer = Bytes::from_static(b"abcdef");
        assert_eq!(
            framing.decode(&mut buffer),
            Ok(Decoded::Data(Bytes::from_static(b"abc")))
        );
        assert_eq!(framing.decode(&mut buffer), Ok(Decoded::End));
        assert_eq!(&buffer[..], b"def");
    }

    #[test]
    fn an_end_of_input_ends_only_a_body_that_the_close_delimits() {
        assert_eq!(Framing::Close.end_of_input(), Ok(()));
        assert_eq!(Framing::Length(0).end_of_input(), Ok(()));
        assert_eq!(
            Framing::Length(1).end_of_input(),
            Err(BadFraming::Truncated)
        );
        for state in [
            Chunked::Size,
            Chunked::Data(1),
            Chunked::DataEnd,
            Chunked::Trailers,
            Chunked::Broken(BadFraming::Trailers),
        ] {
            assert_eq!(
                Framing::Chunked(state).end_of_input(),
                Err(BadFraming::Truncated)
            );
        }
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read() {
        let (body, trailers, over) =
            chunked(b"3;a=b\r\nabc\r\nA \r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n").unwrap();
        assert_eq!(body, b"abc0123456789");
        assert_eq!(trailers.unwrap()["x-sum"], "7");
        assert!(over);
    }

    #[test]
    fn every_deviation_from_the_grammar_is_an_error() {
        let cases: &[(&[u8], BadFraming)] = &[
            (b"\r\n", BadFraming::ChunkSize),
            (b"g\r\n", BadFraming::ChunkSize),
            (b"-1\r\n", BadFraming::ChunkSize),
            (b"+1\r\n", BadFraming::ChunkSize),
            (b"0x1\r\n", BadFraming::ChunkSize),
            (b" 1\r\n", BadFraming::ChunkSize),
            (b"1 1\r\n", BadFraming::ChunkSize),
            (b"3\nabc\r\n", BadFraming::ChunkLine),
            (b"3;\x00\r\nabc", BadFraming::ChunkLine),
            (b"3;\rx\r\nabc", BadFraming::ChunkLine),
            (b"10000000000000000\r\n", BadFraming::ChunkTooLarge),
            (b"00000000000000003\r\n", BadFraming::ChunkTooLarge),
            (b"3\r\nabcd\r\n", BadFraming::ChunkEnd),
            (b"3\r\nabc\n", BadFraming::ChunkEnd),
            (b"3\r\nabc\rX", BadFraming::ChunkEnd),
            (b"0\r\nbad trailer\r\n\r\n", BadFraming::Trailers),
            (b"0\r\n: x\r\n\r\n", BadFraming::Trailers),
            (b"0\r\n\n", BadFraming::Trailers),
            (b"0\r\nx: y\n\r\n", BadFraming::Trailers),
            (b"0\r\nx: y\r\n\n", BadFraming::Trailers),
        ];
        for (bytes, error) in cases {
            assert_eq!(
                chunked(bytes).map(drop),
                Err(*error),
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn endless_lines_and_trailers_are_refused() {
        let mut line = b"1;".to_vec();
        line.resize(5000, b'x');
        assert_eq!(chunked(&line).map(drop), Err(BadFraming::ChunkLine));
        let mut trailers = b"0\r\nx: ".to_vec();
        trailers.resize(20_000, b'x');
        assert_eq!(chunked(&trailers).map(drop), Err(BadFraming::Trailers));
    }

    #[test]
    fn small_chunks_that_came_together_leave_together_large_ones_alone() {
        let mut wire = "1\r\nx\r\n".repeat(300);
        let large = "y".repeat(MAX_JOINED);
        wire.push_str(&format!(
            "{:x}\r\n{large}\r\n1\r\nz\r\n0\r\n\r\n",
            large.len()
        ));
        let mut framing = Framing::Chunked(Chunked::Size);
        let mut buffer = Bytes::from(wire);
        let mut lengths = Vec::new();
        while let Decoded::Data(data) = framing.decode(&mut buffer).unwrap() {
            lengths.push(data.len());
        }
        assert_eq!(lengths, [300, MAX_JOINED, 1]);
    }

    #[test]
    fn the_end_is_known_with_the_last_piece() {
        let mut framing = Framing::Chunked(Chunked::Size);
        let mut buffer = Bytes::from_static(b"2\r\nok\r\n0\r\n\r\n");
        assert_eq!(
            framing.decode(&mut buffer),
            Ok(Decoded::Data(Bytes::from_static(b"ok")))
        );
        assert!(framing.is_over() && buffer.is_empty());
    }

    #[test]
    fn what_came_before_a_mistake_is_passed_on_and_nothing_behind_it() {
        let mut framing = Framing::Chunked(Chunked::Size);
        let mut buffer = Bytes::from_static(b"2\r\nok\r\nbad\n4\r\nevil\r\n0\r\n\r\n");
        assert_eq!(
            framing.decode(&mut buffer),
            Ok(Decoded::Data(Bytes::from_static(b"ok")))
        );
        for _ in 0..3 {
            assert_eq!(framing.decode(&mut buffer), Err(BadFraming::ChunkLine));
        }
    }

    proptest! {
        /// However the bytes are split over reads, the body is the same and the next message begins at the same byte.
        #[test]
        fn any_split_of_reads_gives_the_same_body(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8),
            cuts in prop::collection::vec(1usize..40, 1..60),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nNEXT");
            let mut framing = Framing::Chunked(Chunked::Size);
            let mut buffer = Bytes::new();
            let mut body = Vec::new();
            let mut rest = &wire[..];
            let mut over = false;
            for cut in cuts.iter().cycle() {
                let (piece, left) = rest.split_at((*cut).min(rest.len()));
                rest = left;
                buffer = [&buffer[..], piece].concat().into();
                loop {
                    match framing.decode(&mut buffer).unwrap() {
                        Decoded::Data(data) => body.extend_from_slice(&data),
                        Decoded::End => { over = true; break }
                        Decoded::More => break,
                        Decoded::Trailers(_) => unreachable!(),
                    }
                }
                if rest.is_empty() { break }
            }
            prop_assert!(over);
            prop_assert_eq!(body, chunks.concat());
            let mut after = buffer.to_vec();
            after.extend_from_slice(rest);
            prop_assert_eq!(&after[..], b"NEXT");
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = chunked(&bytes);
        }
    }
}
