//! The codecs the other way round, for clients that cannot take what a server has encoded.
//!
//! Plain bytes are drawn, so many at a time: what a few encoded bytes stand for may be larger than all memory. All that can
//! be drawn of what has come is, so a body can be decoded while it comes.

use std::io;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use crate::semantics::coding::Coding;

/// One encoded body.
pub(crate) struct Decoder {
    codec: Codec,
    /// There may be more of what it has taken.
    is_full: bool,
    /// The body may be over here: it is whole, or there was nothing of it.
    may_end: bool,
}

enum Codec {
    Br(Box<Br>),
    Zstd(ZstdDecoder<'static>),
    Gzip(Gzip),
}

type Br = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Members, one behind the other (RFC 1952 §2.2).
enum Gzip {
    Member(Decompress),
    Between,
    /// What follows is no member. Some servers pad.
    Padding,
}

/// What one step has done.
struct Step {
    taken: usize,
    made: usize,
    may_end: bool,
}

impl Decoder {
    pub(crate) fn new(coding: Coding) -> io::Result<Self> {
        let codec = match coding {
            Coding::Br => {
                let alloc = StandardAlloc::default;
                // Not what goes beyond RFC 7932: windows of up to 1 GiB.
                Codec::Br(Box::new(Br::new_strict(alloc(), alloc(), alloc())))
            }
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
                Codec::Zstd(decoder)
            }
            Coding::Gzip => Codec::Gzip(Gzip::Member(member())),
        };
        Ok(Self {
            codec,
            is_full: false,
            may_end: true,
        })
    }

    /// Whether nothing can be drawn before more has come.
    pub(crate) fn wants_more(&self) -> bool {
        !self.is_full
    }

    /// Whether what has been taken is all of a body.
    pub(crate) fn may_end(&self) -> bool {
        self.may_end
    }

    /// At most [`DRAWN`] plain bytes, maybe none; takes from `encoded` what it needs.
    pub(crate) fn draw(&mut self, encoded: &mut Bytes) -> io::Result<Vec<u8>> {
        let mut plain = vec![0; DRAWN];
        let input = encoded.get(..TAKEN).unwrap_or(encoded);
        let step = match &mut self.codec {
            Codec::Br(state) => br(state, input, &mut plain)?,
            Codec::Zstd(decoder) => zstd(decoder, input, &mut plain)?,
            Codec::Gzip(gzip) => gzip.step(input, &mut plain)?,
        };
        self.is_full = step.made == DRAWN;
        if step.taken > 0 || step.made > 0 {
            self.may_end = step.may_end;
        } else if !input.is_empty() {
            // Behind the end, or whatever else: to try again would come to nothing again, without end.
            return Err(invalid("it goes on with what does not belong to it"));
        }
        encoded.advance(step.taken);
        plain.truncate(step.made);
        Ok(plain)
    }
}

fn br(state: &mut Br, input: &[u8], plain: &mut [u8]) -> io::Result<Step> {
    let (mut left, mut taken) = (input.len(), 0);
    let (mut room, mut made, mut total) = (plain.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut left, &mut taken, input, &mut room, &mut made, plain, &mut total, state,
    );
    let may_end = match result {
        BrotliResult::ResultSuccess => true,
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => false,
        BrotliResult::ResultFailure => return Err(invalid("it is not what it says it is")),
    };
    Ok(Step {
        taken,
        made,
        may_end,
    })
}

fn zstd(decoder: &mut ZstdDecoder<'_>, input: &[u8], plain: &mut [u8]) -> io::Result<Step> {
    let status = decoder.run_on_buffers(input, plain)?;
    Ok(Step {
        taken: status.bytes_read,
        made: status.bytes_written,
        may_end: status.remaining == 0,
    })
}

impl Gzip {
    fn step(&mut self, input: &[u8], plain: &mut [u8]) -> io::Result<Step> {
        if let Self::Between = self
            && let Some(first) = input.first()
        {
            *self = if *first == GZIP_MAGIC {
                Self::Member(member())
            } else {
                Self::Padding
            };
        }
        let Self::Member(inflate) = self else {
            return Ok(Step {
                taken: input.len(),
                made: 0,
                may_end: true,
            });
        };
        let (taken, made) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(input, plain, FlushDecompress::None)?;
        let since = |before, now| usize::try_from(now - before).unwrap_or(usize::MAX);
        let step = Step {
            taken: since(taken, inflate.total_in()),
            made: since(made, inflate.total_out()),
            may_end: status == Status::StreamEnd,
        };
        if step.may_end {
            *self = Self::Between;
        }
        Ok(step)
    }
}

fn member() -> Decompress {
    Decompress::new_gzip(GZIP_WINDOW)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Some 0.1 ms of work.
pub(crate) const DRAWN: usize = 32 * 1024;
/// The same where it comes to little.
const TAKEN: usize = 16 * 1024;
/// RFC 1952 §2.3.1: ID1.
const GZIP_MAGIC: u8 = 0x1f;
/// RFC 1951 §2: 32 KiB.
const GZIP_WINDOW: u8 = 15;
/// RFC 9659 §3: what every decoder must have, and no more.
pub(super) const ZSTD_WINDOW: u32 = 23;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compress::Encoder;

    /// All that can be drawn of what comes in these pieces.
    fn decoded(coding: Coding, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(coding)?;
        let mut plain = Vec::new();
        for piece in pieces {
            draw(&mut decoder, piece, &mut plain)?;
        }
        decoder
            .may_end()
            .then_some(plain)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn draw(decoder: &mut Decoder, piece: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() || !decoder.wants_more() {
            let drawn = decoder.draw(&mut piece)?;
            assert!(drawn.len() <= DRAWN);
            plain.extend(drawn);
        }
        Ok(())
    }

    #[test]
    fn what_was_encoded_is_drawn_in_bounded_pieces() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for coding in Coding::ALL {
            let encoded = Encoder::encode(coding, 3, &plain).unwrap();
            assert_eq!(decoded(coding, &[&encoded]).unwrap(), plain, "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn all_that_can_be_decoded_of_what_has_come_is(
            pieces in prop::collection::vec(prop::collection::vec(0u8..4, 1..40_000), 1..6),
            cuts in prop::collection::vec(1..3_000_usize, 0..6),
        ) {
            for coding in Coding::ALL {
                let mut encoder = Encoder::new(coding, 3, None).unwrap();
                let mut decoder = Decoder::new(coding).unwrap();
                let (mut sent, mut plain) = (Vec::new(), Vec::new());
                let mut pass_on = |encoded: Vec<u8>, plain: &mut Vec<u8>| {
                    let mut rest = &encoded[..];
                    for cut in &cuts {
                        let (piece, more) = rest.split_at(rest.len().min(*cut));
                        draw(&mut decoder, piece, plain).unwrap();
                        rest = more;
                    }
                    draw(&mut decoder, rest, plain).unwrap();
                    decoder.may_end()
                };
                for piece in &pieces {
                    encoder.write(piece).unwrap();
                    encoder.flush().unwrap();
                    sent.extend_from_slice(piece);
                    prop_assert!(!pass_on(encoder.take().unwrap(), &mut plain));
                    prop_assert!(plain == sent, "{:?}", coding);
                }
                prop_assert!(pass_on(encoder.finish().unwrap(), &mut plain));
                prop_assert!(plain == sent, "{:?}", coding);
            }
        }

        #[test]
        fn no_bytes_at_all_make_it_panic_or_draw_without_end(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            begin in 0..4_usize,
        ) {
            let begins: [&[u8]; 4] = [b"", b"\x1f\x8b\x08\x00\0\0\0\0\0\x03", b"\x28\xb5\x2f\xfd", b"\x0b"];
            for coding in Coding::ALL {
                let _ = decoded(coding, &[begins[begin], &bytes]);
            }
        }
    }

    #[test]
    fn what_breaks_off_or_is_no_encoding_is_an_error() {
        for coding in Coding::ALL {
            let mut encoded = Encoder::encode(coding, 3, &[b'x'; 5_000]).unwrap();
            encoded.truncate(encoded.len() - 2);
            assert!(decoded(coding, &[&encoded]).is_err(), "{coding:?}");
            assert!(
                decoded(coding, &[b"<!doctype html>"]).is_err(),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn a_body_of_several_gzip_members_or_zstd_frames_is_read_to_its_end() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let one = Encoder::encode(coding, 3, b"one, ").unwrap();
            let two = Encoder::encode(coding, 3, b"two").unwrap();
            let both = [&one[..], &two].concat();
            assert_eq!(decoded(coding, &[&both]).unwrap(), b"one, two");
            assert_eq!(decoded(coding, &[&one, &two]).unwrap(), b"one, two");
            let (all_but_some, _) = both.split_at(both.len() - 3);
            assert!(decoded(coding, &[all_but_some]).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn what_is_no_member_behind_gzip_is_padding_and_behind_br_an_error() {
        for (coding, bears_it) in [(Coding::Gzip, true), (Coding::Br, false)] {
            let encoded = Encoder::encode(coding, 3, b"one").unwrap();
            for padded in [
                decoded(coding, &[&encoded, &[0; 20]]),
                decoded(coding, &[&[&encoded[..], &[0; 20]].concat()]),
            ] {
                assert_eq!(padded.ok(), bears_it.then(|| b"one".to_vec()), "{coding:?}");
            }
        }
    }

    /// RFC 7932 §9.1: the bits `0010001` are reserved; there is an extension that has windows of up to 1 GiB there.
    #[test]
    fn a_window_beyond_that_of_the_coding_is_an_error() {
        assert!(decoded(Coding::Br, &[&[0x11, 0x1e, 0, 0, 0, 0, 0, 0]]).is_err());
    }
}
