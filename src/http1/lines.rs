//! Lines of heads and trailer sections (RFC 9112 §2.1, §5), cut without copying.
//!
//! httparse checks each byte of a field for `HeaderName` and `HeaderValue` to check it again; these lines leave it to them,
//! which saves an eighth of a small request's work. The unit tests compare both parsers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// Lines that each end with CRLF.
pub(crate) struct Lines<'b> {
    bytes: &'b Bytes,
    rest: &'b [u8],
    /// LF alone ends a line too.
    is_lenient: bool,
}

/// Why lines are no field lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadLine {
    /// A line ends with LF alone. A recipient may take that for the end of a line (RFC 9112 §2.2). Whoever does lets a
    /// server that keeps CR LF out of its fields, but not LF, be made to write fields that it knows nothing of.
    BareLineFeed,
    /// Not `name: value`, or bytes in it that may not be there.
    Field,
}

impl<'b> Lines<'b> {
    /// The lines at the beginning of `bytes`.
    pub(crate) fn of(bytes: &'b Bytes) -> Self {
        Self {
            bytes,
            rest: bytes,
            is_lenient: false,
        }
    }

    /// The same, where lines may end with LF alone (RFC 9112 §2.2): of clients, which are no way for others to write into.
    pub(crate) fn lenient(bytes: &'b Bytes) -> Self {
        Self {
            is_lenient: true,
            ..Self::of(bytes)
        }
    }

    /// Bytes in the lines that were taken.
    pub(crate) fn taken(&self) -> usize {
        self.bytes.len() - self.rest.len()
    }

    /// What follows the lines that were taken.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// The next line without its CRLF; `None` while it is incomplete.
    pub(crate) fn next(&mut self) -> Result<Option<&'b [u8]>, BadLine> {
        let Some((line, rest)) =
            memchr::memchr(b'\n', self.rest).and_then(|end| self.rest.split_at_checked(end + 1))
        else {
            return Ok(None);
        };
        let line = match line {
            [line @ .., b'\r', b'\n'] => line,
            [line @ .., b'\n'] if self.is_lenient => line,
            _ => return Err(BadLine::BareLineFeed),
        };
        self.rest = rest;
        Ok(Some(line))
    }

    /// The field of a line that was taken. Its value shares the bytes of the head.
    pub(crate) fn field(&self, line: &'b [u8]) -> Result<(HeaderName, HeaderValue), BadLine> {
        // A line that continues the one before (`obs-fold`, RFC 9112 §5.2) begins with a blank, which no name has.
        let (name, value) = memchr::memchr(b':', line)
            .and_then(|colon| Some((line.get(..colon)?, line.get(colon + 1..)?)))
            .ok_or(BadLine::Field)?;
        let name = HeaderName::from_bytes(name).map_err(|_| BadLine::Field)?;
        let value = self.bytes.slice_ref(trim(value));
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BadLine::Field)?;
        Ok((name, value))
    }
}

/// Without optional whitespace, which is blanks and tabs: a CR is neither, and no byte of a value.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(String, Vec<u8>)>;

    /// All fields up to the empty line, and the length of it all.
    fn ours(bytes: &[u8]) -> Result<Option<(usize, Fields)>, BadLine> {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut lines = Lines::of(&bytes);
        let mut fields = Vec::new();
        loop {
            match lines.next()? {
                None => return Ok(None),
                Some(b"") => return Ok(Some((lines.taken(), fields))),
                Some(line) => {
                    let (name, value) = lines.field(line)?;
                    fields.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
                }
            }
        }
    }

    fn theirs(bytes: &[u8]) -> Result<Option<(usize, Fields)>, httparse::Error> {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        Ok(match httparse::parse_headers(bytes, &mut fields)? {
            httparse::Status::Partial => None,
            httparse::Status::Complete((length, fields)) => {
                let fields = fields
                    .iter()
                    .map(|field| (field.name.to_lowercase(), field.value.to_vec()));
                Some((length, fields.collect()))
            }
        })
    }

    #[test]
    fn a_field_is_a_name_a_colon_and_a_value_between_blanks() {
        let cases: [(&[u8], &str, &[u8]); 5] = [
            (b"Server: x", "server", b"x"),
            (b"a:b", "a", b"b"),
            (b"a: \t b c\t ", "a", b"b c"),
            (b"a:", "a", b""),
            (b"a: b: \xe9", "a", b"b: \xe9"),
        ];
        for (line, name, value) in cases {
            let all = ours(&[line, b"\r\n\r\n"].concat()).unwrap().unwrap().1;
            assert_eq!(all, [(name.to_owned(), value.to_vec())], "{line:?}");
        }
    }

    #[test]
    fn what_is_no_field_line_is_refused() {
        let cases: [(&[u8], BadLine); 10] = [
            (b"a: b\n\r\n", BadLine::BareLineFeed),
            (b"\n", BadLine::BareLineFeed),
            (b"a: b\r\r\n\r\n", BadLine::Field),
            (b"a: b\rc\r\n\r\n", BadLine::Field),
            (b"a : b\r\n\r\n", BadLine::Field),
            (b" a: b\r\n\r\n", BadLine::Field),
            (b"a: b\r\n\tc\r\n\r\n", BadLine::Field),
            (b": b\r\n\r\n", BadLine::Field),
            (b"a\r\n\r\n", BadLine::Field),
            (b"a: \0\r\n\r\n", BadLine::Field),
        ];
        for (lines, bad) in cases {
            assert_eq!(ours(lines), Err(bad), "{lines:?}");
        }
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let odd = prop::sample::select(vec![
            &b"\r\n"[..],
            b"\n",
            b"\r",
            b":",
            b": ",
            b" ",
            b"\t",
            b"a",
            b"X-y",
            b"\0",
            b"\x7f",
            b"\xff",
            b"(",
            b"v w",
        ]);
        prop_oneof![
            3 => "[a-zA-Z-]{1,8}: ?[ -~]{0,12}\r\n".prop_map(String::into_bytes),
            1 => prop::collection::vec(odd, 0..6).prop_map(|parts| parts.concat()),
        ]
    }

    proptest! {
        /// We read nothing else than httparse does, and refuse nothing that it takes but lines that end with LF alone.
        #[test]
        fn httparse_reads_the_same_fields(
            lines in prop::collection::vec(line(), 0..8),
            tail in prop::sample::select(vec![&b"\r\n"[..], b"", b"\r", b"\r\nrest"]),
        ) {
            let bytes = [lines.concat().as_slice(), tail].concat();
            match (ours(&bytes), theirs(&bytes)) {
                (Ok(Some(ours)), theirs) => prop_assert_eq!(Ok(Some(ours)), theirs),
                (Ok(None), theirs) => prop_assert!(!matches!(theirs, Ok(Some(_))), "{:?}", theirs),
                (Err(BadLine::Field), theirs) => prop_assert!(!matches!(theirs, Ok(Some(_))), "{:?}", theirs),
                (Err(BadLine::BareLineFeed), _) => {}
            }
        }
    }
}
