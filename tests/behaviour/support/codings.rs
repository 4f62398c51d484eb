//! Content codings, and text to encode.

use std::fmt::Write as _;
use std::io::{Read, Write};

pub const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// Whatever can be decoded of `encoded`, and whether it came to its end.
pub fn decode(coding: &str, encoded: &[u8]) -> (Vec<u8>, bool) {
    let mut decoder: Box<dyn Read + '_> = match coding {
        "br" => Box::new(brotli::Decompressor::new(encoded, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(encoded).unwrap()),
        "gzip" => Box::new(flate2::read::GzDecoder::new(encoded)),
        other => panic!("{other}"),
    };
    let mut plain = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return (plain, true),
            Ok(read) => plain.extend_from_slice(&piece[..read]),
            Err(_) => return (plain, false),
        }
    }
}

/// A whole body in that coding.
pub fn encoded(coding: &str, plain: &str) -> Vec<u8> {
    match coding {
        "br" => {
            let mut out = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 5, 22);
            encoder.write_all(plain.as_bytes()).unwrap();
            drop(encoder);
            out
        }
        "zstd" => zstd::encode_all(plain.as_bytes(), 3).unwrap(),
        "gzip" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        other => panic!("{other}"),
    }
}

/// The same at the level at which zstd and gzip are quickest.
pub fn fast(coding: &str, plain: &str) -> Vec<u8> {
    match coding {
        "zstd" => zstd::encode_all(plain.as_bytes(), 1).unwrap(),
        "gzip" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        other => panic!("{other}"),
    }
}

/// A body that is encoded piece by piece.
pub enum InPieces {
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl InPieces {
    pub fn new(coding: &str) -> Self {
        match coding {
            "br" => Self::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                4096,
                5,
                22,
            ))),
            "zstd" => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap()),
            "gzip" => Self::Gzip(flate2::write::GzEncoder::new(
                Vec::new(),
                flate2::Compression::default(),
            )),
            other => panic!("{other}"),
        }
    }

    /// Bytes by which all of `plain` can be decoded, behind those of before.
    pub fn flushed(&mut self, plain: &str) -> Vec<u8> {
        fn write(writer: &mut impl Write, plain: &str) {
            writer.write_all(plain.as_bytes()).unwrap();
            writer.flush().unwrap();
        }
        match self {
            Self::Br(writer) => {
                write(writer, plain);
                std::mem::take(writer.get_mut())
            }
            Self::Zstd(writer) => {
                write(writer, plain);
                std::mem::take(writer.get_mut())
            }
            Self::Gzip(writer) => {
                write(writer, plain);
                std::mem::take(writer.get_mut())
            }
        }
    }

    pub fn end(self) -> Vec<u8> {
        match self {
            Self::Br(writer) => writer.into_inner(),
            Self::Zstd(writer) => writer.finish().unwrap(),
            Self::Gzip(writer) => writer.finish().unwrap(),
        }
    }
}

/// The plain text of a whole encoded body.
pub fn plain(coding: &str, encoded: &[u8]) -> String {
    let (plain, whole) = decode(coding, encoded);
    assert!(whole, "{coding}: not whole after {} bytes", plain.len());
    String::from_utf8(plain).unwrap()
}

/// Text of that length that is neither empty nor random.
pub fn text(length: usize) -> String {
    let mut text = String::new();
    let mut number = 12345_u32;
    while text.len() < length {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        writeln!(
            text,
            "{{\"id\":{},\"name\":\"item {}\"}},",
            number >> 8,
            number >> 20
        )
        .unwrap();
    }
    text.truncate(length);
    text
}

/// The same in which there is more to find for those who look longer, whatever the coding: words in an order by chance.
pub fn prose(length: usize) -> String {
    let source = text(40_000).replace([':', '"'], " ");
    let words: Vec<_> = source.split_whitespace().collect();
    let mut state = 1_u32;
    let mut prose = String::new();
    while prose.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        prose.push_str(words[(state >> 8) as usize % words.len()]);
        prose.push(' ');
    }
    prose.truncate(length);
    prose
}
