//! The codecs the other way round, for clients that cannot take what a server has encoded.
//!
//! Plain bytes are drawn, so many at a time: what a few encoded bytes stand for may be larger than all memory.

use std::io::{self, BufReader, Read};

use brotli::Decompressor;
use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::semantics::coding::Coding;

/// One whole encoded body.
pub(crate) enum Decoder<R: Read> {
    Br(Box<Decompressor<R>>),
    Zstd(ZstdDecoder<'static, BufReader<R>>),
    Gzip(Box<MultiGzDecoder<R>>),
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(coding: Coding, encoded: R) -> io::Result<Self> {
        Ok(match coding {
            Coding::Br => Self::Br(Box::new(Decompressor::new(encoded, READ))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new(encoded)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(decoder)
            }
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(encoded))),
        })
    }

    /// At most [`DRAWN`] plain bytes, and fewer only at the end.
    pub(crate) fn draw(&mut self) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(DRAWN);
        let source: &mut dyn Read = match self {
            Self::Br(decoder) => decoder,
            Self::Zstd(decoder) => decoder,
            Self::Gzip(decoder) => decoder,
        };
        source.take(DRAWN as u64).read_to_end(&mut plain)?;
        Ok(plain)
    }
}

/// Some 0.1 ms of work.
pub(crate) const DRAWN: usize = 32 * 1024;
const READ: usize = 4 * 1024;
/// RFC 9659 §3: what every decoder must have, and no more.
const ZSTD_WINDOW: u32 = 23;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Encoder;

    fn decoded(coding: Coding, encoded: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding, &encoded[..])?;
        let mut plain = Vec::new();
        loop {
            let drawn = decoder.draw()?;
            assert!(drawn.len() <= DRAWN);
            if drawn.is_empty() {
                return Ok(plain);
            }
            plain.extend(drawn);
        }
    }

    #[test]
    fn what_was_encoded_is_drawn_in_bounded_pieces() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for coding in Coding::ALL {
            let encoded = Encoder::encode(coding, 3, &plain).unwrap();
            assert_eq!(decoded(coding, encoded).unwrap(), plain, "{coding:?}");
        }
    }

    #[test]
    fn what_breaks_off_or_is_no_encoding_is_an_error() {
        for coding in Coding::ALL {
            let mut encoded = Encoder::encode(coding, 3, &[b'x'; 5_000]).unwrap();
            encoded.truncate(encoded.len() - 2);
            assert!(decoded(coding, encoded).is_err(), "{coding:?}");
            assert!(
                decoded(coding, b"<!doctype html>".to_vec()).is_err(),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_body_of_several_gzip_members_is_read_to_its_end() {
        let mut encoded = Encoder::encode(Coding::Gzip, 3, b"one, ").unwrap();
        encoded.extend(Encoder::encode(Coding::Gzip, 3, b"two").unwrap());
        assert_eq!(decoded(Coding::Gzip, encoded).unwrap(), b"one, two");
    }
}
