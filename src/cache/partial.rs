//! Answers with parts of a stored body (RFC 9110 §14, §15.3.7). The body is not copied.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;

use super::Content;

/// What a 206 is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partial {
    /// Where the one part is. `None` where there are several, each of which tells itself.
    pub(crate) content_range: Option<HeaderValue>,
    /// Where there are several, instead of that of the response: `multipart/byteranges`.
    pub(crate) content_type: Option<HeaderValue>,
    /// The body, piece by piece.
    pub(crate) pieces: Vec<Bytes>,
    /// Of all pieces.
    pub(crate) length: u64,
}

impl Partial {
    /// These parts of a body, which must lie within it. `boundary` is drawn at random, for it must not occur in the body;
    /// `content_type` is that of the response.
    pub(crate) fn new(
        body: &Content,
        parts: &[Range<u64>],
        content_type: Option<&HeaderValue>,
        boundary: u64,
    ) -> Self {
        let mut partial = Self {
            content_range: None,
            content_type: None,
            pieces: Vec::with_capacity(2 * parts.len() + 1),
            length: 0,
        };
        if let [part] = parts {
            partial.content_range = field(&content_range(part, body.len()));
            partial.push_part(body, part);
            return partial;
        }
        for part in parts {
            partial.push(part_head(part, body.len(), content_type, boundary));
            partial.push_part(body, part);
        }
        partial.push(format!("\r\n--{boundary:016x}--\r\n").into());
        partial.content_type = field(&format!("multipart/byteranges; boundary={boundary:016x}"));
        partial
    }

    fn push_part(&mut self, body: &Content, part: &Range<u64>) {
        let place = |place: u64| usize::try_from(place).map_or(body.len(), |p| p.min(body.len()));
        let (start, end) = (place(part.start), place(part.end));
        body.part(&(start.min(end)..end))
            .for_each(|piece| self.push(piece));
    }

    fn push(&mut self, piece: Bytes) {
        self.length = self.length.saturating_add(in_bytes(piece.len()));
        self.pieces.push(piece);
    }
}

/// The `Content-Range` of a 416 (RFC 9110 §15.5.17), where no part of what is asked for is in a body of this length.
pub(crate) fn unsatisfied(length: u64) -> HeaderValue {
    field(&format!("bytes */{length}")).expect("it is letters, digits, a star and a slash")
}

fn part_head(
    part: &Range<u64>,
    length: usize,
    content_type: Option<&HeaderValue>,
    boundary: u64,
) -> Bytes {
    let mut head = format!("\r\n--{boundary:016x}\r\n").into_bytes();
    if let Some(content_type) = content_type {
        head.extend_from_slice(b"Content-Type: ");
        head.extend_from_slice(content_type.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    let range = content_range(part, length);
    head.extend_from_slice(format!("Content-Range: {range}\r\n\r\n").as_bytes());
    head.into()
}

fn content_range(part: &Range<u64>, length: usize) -> String {
    let last = part.end.saturating_sub(1);
    format!("bytes {}-{last}/{length}", part.start)
}

/// Nothing where the part is beyond the body.
fn field(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok()
}

fn in_bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "one part is a list of parts"
)]
mod tests {
    use super::*;

    const BODY: Bytes = Bytes::from_static(b"0123456789A");

    #[test]
    fn one_part_is_a_slice_that_says_where_it_is() {
        for (part, range, content) in [
            (0..2, "bytes 0-1/11", "01"),
            (1..11, "bytes 1-10/11", "123456789A"),
            (10..11, "bytes 10-10/11", "A"),
        ] {
            let content_type = HeaderValue::from_static("text/plain");
            let partial = Partial::new(&BODY.into(), &[part], Some(&content_type), 1);
            assert_eq!(partial.content_range.unwrap(), range);
            assert_eq!(partial.content_type, None);
            assert_eq!(partial.pieces, [content]);
            assert_eq!(partial.length, content.len() as u64);
            let (body, piece) = (BODY.as_ptr_range(), partial.pieces[0].as_ptr());
            assert!(body.contains(&piece), "it is copied");
        }
    }

    /// RFC 9110 §14.6.
    #[test]
    fn several_parts_have_a_head_each() {
        let content_type = HeaderValue::from_static("text/plain");
        let partial = Partial::new(&BODY.into(), &[0..2, 10..11], Some(&content_type), 0xabc);
        assert_eq!(partial.content_range, None);
        assert_eq!(
            partial.content_type.unwrap(),
            "multipart/byteranges; boundary=0000000000000abc"
        );
        let body = partial.pieces.concat();
        assert_eq!(
            body.escape_ascii().to_string(),
            "\\r\\n--0000000000000abc\\r\\nContent-Type: text/plain\\r\\nContent-Range: bytes 0-1/11\\r\\n\\r\\n01\
             \\r\\n--0000000000000abc\\r\\nContent-Type: text/plain\\r\\nContent-Range: bytes 10-10/11\\r\\n\\r\\nA\
             \\r\\n--0000000000000abc--\\r\\n"
        );
        assert_eq!(partial.length, body.len() as u64);
        let untyped = Partial::new(&BODY.into(), &[0..2, 10..11], None, 1)
            .pieces
            .concat();
        assert!(!untyped.escape_ascii().to_string().contains("Content-Type"));
    }

    #[test]
    fn a_part_beyond_the_body_is_empty() {
        let partial = Partial::new(&BODY.into(), &[20..30], None, 1);
        assert_eq!(partial.length, 0);
        assert_eq!(unsatisfied(11), "bytes */11");
    }
}
