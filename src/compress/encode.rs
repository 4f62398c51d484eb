//! The codecs: plain bytes in, encoded bytes out, all in memory.
//!
//! Built on the blocking writers of the codec crates over a `Vec`, which never block: an asynchronous wrapper around them
//! would add a buffer and hide the settings by which their memory is bounded. For each response, beside the pieces on
//! their way (measured with bodies of 1.7 MB, br with twice its window; smaller ones whose length is known need less):
//!
//! | coding | window | state at the default level | at the highest level allowed | plain bytes per second |
//! |--------|--------|----------------------------|------------------------------|------------------------|
//! | br     | 64 KiB | 1.9 MiB (4)                | 3.4 MiB (6)                  | 67 MB (4), 35 MB (6)   |
//! | zstd   | 512 KiB | 1.5 MiB (3)               | 5.2 MiB (8)                  | 190 MB (3), 55 MB (8)  |
//! | gzip   | 32 KiB  | 0.4 MiB (5)               | 0.4 MiB (9)                  | 90 MB (5), 30 MB (9)   |
//!
//! The bytes per second are those of text that repeats itself. There is text for which gzip's level 9 takes fifty times as long
//! as its level 5, and br's 6 ten times as long as its level 4: above the default levels, encoding is not for a worker.
//!
//! How many of them a worker has at work is bounded in `memory.rs`.
//!
//! All windows are far below the 8 MiB that a zstd decoder must have (RFC 9659).

use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;
use zstd::zstd_safe::CParameter;

use crate::semantics::coding::Coding;

/// The most that is encoded at a stretch: some 0.5 ms of br, and less of the others, at the default levels.
pub(crate) const SLICE: usize = 32 * 1024;
/// The same above these levels, where it may take a hundred times as long.
const LITTLE: usize = 4 * 1024;
/// Encoded bytes are handed out by so many, if the plain ones keep coming.
const PIECE: usize = 16 * 1024;
/// So many plain bytes are in the encoder at most before all of what it makes of them comes out. What br keeps of bytes that
/// it has not written yet would double its memory; the flush costs a thousandth of the size.
const FLUSH_EVERY: usize = 64 * 1024;

const BR_WINDOW: i32 = 16;
/// What is said to be larger gets tables of 4 MiB at level 4.
const BR_LARGEST_HINT: usize = (1 << 20) - 1;
const ZSTD_WINDOW: u32 = 19;
/// RFC 7932 §9.1: from 1 KiB to 16 MiB; beyond 4 MiB there is little to find.
const BR_SMALLEST_WINDOW: i32 = 10;
const BR_LARGEST_WINDOW: i32 = 22;
const ZSTD_SMALLEST_WINDOW: u32 = 10;
/// RFC 9659 §3.
const ZSTD_LARGEST_WINDOW: u32 = 23;

/// One body on its way. Dropped before its end, what it has made is not a whole encoding, and looks like none.
pub(crate) struct Encoder {
    codec: Codec,
    /// Plain bytes since all was last handed out.
    held: usize,
    /// What has been made is to be handed out, however little it is.
    flushed: bool,
}

enum Codec {
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// `length` is that of the whole plain body, where it is known; it must be right then.
    pub(crate) fn new(coding: Coding, level: u32, length: Option<u64>) -> io::Result<Self> {
        let codec = match coding {
            Coding::Br => Codec::Br(Box::new(br(level, length))),
            Coding::Zstd => Codec::Zstd(zstd(level, length)?),
            Coding::Gzip => Codec::Gzip(GzEncoder::new(Vec::new(), Compression::new(level))),
        };
        Ok(Self {
            codec,
            held: 0,
            flushed: false,
        })
    }

    /// Whether a slice takes little enough time for a worker, whatever is in it.
    pub(crate) fn is_quick(coding: Coding, level: u32) -> bool {
        let most = match coding {
            Coding::Br => 4,
            Coding::Zstd => 3,
            Coding::Gzip => 5,
        };
        level <= most
    }

    /// The most that a worker may encode at a stretch.
    pub(crate) fn stretch(coding: Coding, level: u32) -> usize {
        if Self::is_quick(coding, level) {
            SLICE
        } else {
            LITTLE
        }
    }

    /// All of a body at once.
    pub(crate) fn encode(coding: Coding, level: u32, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = Self::new(coding, level, Some(plain.len() as u64))?;
        encoder.codec.writer().write_all(plain)?;
        encoder.finish()
    }

    /// The same without regard to time and memory: for what is kept and sent many times. Windows are as large as the body, or
    /// as every decoder can bear.
    pub(crate) fn encode_thoroughly(
        coding: Coding,
        level: u32,
        plain: &[u8],
    ) -> io::Result<Vec<u8>> {
        let exponent = plain.len().max(1).next_power_of_two().trailing_zeros();
        let codec = match coding {
            Coding::Br => {
                let window = i32::try_from(exponent).unwrap_or(BR_LARGEST_WINDOW);
                let parameters = BrotliEncoderParams {
                    quality: i32::try_from(level).unwrap_or(i32::MAX),
                    lgwin: window.clamp(BR_SMALLEST_WINDOW, BR_LARGEST_WINDOW),
                    size_hint: plain.len(),
                    ..BrotliEncoderParams::default()
                };
                let writer = CompressorWriter::with_params(Vec::new(), PIECE, &parameters);
                Codec::Br(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), zstd_level(level))?;
                let window = exponent.clamp(ZSTD_SMALLEST_WINDOW, ZSTD_LARGEST_WINDOW);
                encoder.set_parameter(CParameter::WindowLog(window))?;
                encoder.set_pledged_src_size(Some(plain.len() as u64))?;
                Codec::Zstd(encoder)
            }
            Coding::Gzip => return Self::encode(coding, level, plain),
        };
        let mut encoder = Self {
            codec,
            held: 0,
            flushed: false,
        };
        encoder.codec.writer().write_all(plain)?;
        encoder.finish()
    }

    /// Takes plain bytes, [`SLICE`] of them at most if the caller is not to be held up.
    pub(crate) fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        self.codec.writer().write_all(plain)?;
        self.held += plain.len();
        if self.held >= FLUSH_EVERY {
            self.flush()?;
        }
        Ok(())
    }

    /// Whether it holds plain bytes of which the client does not have all.
    pub(crate) fn is_holding(&self) -> bool {
        self.held > 0
    }

    /// Makes all that was taken decodable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.held = 0;
        self.flushed = true;
        self.codec.writer().flush()
    }

    /// What has been made, if it is time to hand it out.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let made = self.codec.made();
        let due = made.len() >= PIECE || self.flushed && !made.is_empty();
        self.flushed &= due;
        due.then(|| std::mem::take(made))
    }

    /// The rest, with what ends the encoding.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self.codec {
            Codec::Br(writer) => Ok(writer.into_inner()),
            Codec::Zstd(writer) => writer.finish(),
            Codec::Gzip(writer) => writer.finish(),
        }
    }
}

impl Codec {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Br(writer) => writer,
            Self::Zstd(writer) => writer,
            Self::Gzip(writer) => writer,
        }
    }

    fn made(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Br(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
            Self::Gzip(writer) => writer.get_mut(),
        }
    }
}

fn br(level: u32, length: Option<u64>) -> CompressorWriter<Vec<u8>> {
    let length = length.and_then(|length| usize::try_from(length).ok());
    let mut lgwin = BR_WINDOW;
    // From level 5 on, small windows go with tables of 34 MiB.
    while level < 5 && lgwin > 10 && length.is_some_and(|length| length <= 1 << (lgwin - 1)) {
        lgwin -= 1;
    }
    let parameters = BrotliEncoderParams {
        quality: i32::try_from(level).unwrap_or(i32::MAX),
        lgwin,
        size_hint: length.unwrap_or(0).min(BR_LARGEST_HINT),
        ..BrotliEncoderParams::default()
    };
    CompressorWriter::with_params(Vec::new(), PIECE, &parameters)
}

fn zstd(level: u32, length: Option<u64>) -> io::Result<ZstdEncoder<'static, Vec<u8>>> {
    let mut encoder = ZstdEncoder::new(Vec::new(), zstd_level(level))?;
    encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW))?;
    encoder.set_pledged_src_size(length)?;
    Ok(encoder)
}

fn zstd_level(level: u32) -> i32 {
    i32::try_from(level).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn decoded(coding: Coding, encoded: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match coding {
            Coding::Br => brotli::Decompressor::new(encoded, 4096).read_to_end(&mut plain)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(encoded)?.read_to_end(&mut plain)?,
            Coding::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut plain)?,
        };
        Ok(plain)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_what_is_decoded(
            pieces in prop::collection::vec((prop::collection::vec(0u8..4, 0..3000), any::<bool>()), 0..8),
            level in 1u32..7,
            known in any::<bool>(),
        ) {
            let plain: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            for coding in Coding::ALL {
                let length = known.then_some(plain.len() as u64);
                let mut encoder = Encoder::new(coding, level, length).unwrap();
                let mut encoded = Vec::new();
                for (piece, flush) in &pieces {
                    encoder.write(piece).unwrap();
                    if *flush {
                        encoder.flush().unwrap();
                        prop_assert!(!encoder.is_holding());
                    }
                    encoded.extend(encoder.take().unwrap_or_default());
                }
                prop_assert!(decoded(coding, &encoded).is_err() || plain.is_empty(), "not whole yet");
                encoded.extend(encoder.finish().unwrap());
                prop_assert_eq!(decoded(coding, &encoded).unwrap(), plain.clone());
            }
        }
    }

    #[test]
    fn what_is_encoded_thoroughly_is_smaller_and_the_same() {
        // Repeats itself from further away than the usual windows reach.
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let noise: Vec<u8> = noise.take(700_000).collect();
        let plain = [&noise[..], &noise[..]].concat();
        for coding in Coding::ALL {
            let quick = Encoder::encode(coding, 3, &plain).unwrap();
            let thorough = Encoder::encode_thoroughly(coding, 5, &plain).unwrap();
            assert_eq!(decoded(coding, &thorough).unwrap(), plain);
            assert!(thorough.len() <= quick.len(), "{coding:?}");
            if coding != Coding::Gzip {
                assert!(thorough.len() < 800_000, "{coding:?}: {}", thorough.len());
            }
            for tiny in [&b""[..], b"x"] {
                let encoded = Encoder::encode_thoroughly(coding, 9, tiny).unwrap();
                assert_eq!(decoded(coding, &encoded).unwrap(), tiny);
            }
        }
    }

    #[test]
    fn nothing_is_held_beyond_a_bound_while_bytes_keep_coming() {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, 3, None).unwrap();
            let slice = vec![b'x'; SLICE];
            let mut taken = 0;
            for _ in 0..FLUSH_EVERY / SLICE {
                encoder.write(&slice).unwrap();
                taken += encoder.take().map_or(0, |made| made.len());
            }
            assert!(taken > 0, "{coding:?}");
            assert!(!encoder.is_holding());
        }
    }

    /// RFC 9659 §3: a window of 8 MiB is what decoders of this coding have.
    #[test]
    fn the_window_of_zstd_is_what_the_frame_says() {
        for level in [1, 3, 8] {
            let mut encoder = Encoder::new(Coding::Zstd, level, None).unwrap();
            encoder.write(&vec![b'x'; SLICE]).unwrap();
            encoder.flush().unwrap();
            let frame = encoder.take().unwrap();
            // RFC 8878 §3.1.1.1: magic number, descriptor, window descriptor (exponent - 10 in five bits).
            assert_eq!(frame[4] & 0x20, 0, "no single segment");
            assert_eq!(u32::from(frame[5] >> 3) + 10, ZSTD_WINDOW);
        }
    }
}
