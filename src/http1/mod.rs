//! What our HTTP/1.1 codec does on either side, towards clients and towards servers (RFC 9112): lines, fields, and where a
//! body ends. Pure, but for what is read into.

pub(crate) mod fields;
pub(crate) mod framing;
pub(crate) mod known_lines;
pub(crate) mod lines;
pub(crate) mod read_buffer;
pub(crate) mod repeated;

pub(crate) use framing::{BadFraming, Chunked, Decoded, Framing};
