//! The chunked transfer coding (RFC 9112 §7.1).

/// One chunk.
pub fn chunk_of(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// The data of the whole chunks that `bytes` begins with.
pub fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let Some(piece) = bytes.get(end + 2..end + 2 + size) else {
            break;
        };
        data.extend_from_slice(piece);
        bytes = bytes.get(end + size + 4..).unwrap_or_default();
    }
    data
}
