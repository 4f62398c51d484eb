//! One normal form for the path of a request target, so that routing, access rules, cache key and the server see the same.
//!
//! RFC 3986 §6.2.2: escapes of unreserved characters are decoded (`/%61dmin` is `/admin`), the others upper-cased, dot
//! segments resolved and clamped at the root (§5.2.4; `%2e` is a dot). Bytes beyond ASCII, which no path may have but
//! some clients send and people write, are escaped (RFC 3987 §3.1). Nothing else changes: empty segments stay, and so
//! do encoded slashes and backslashes, because decoding them would make segments that the client did not write.

use std::borrow::Cow;
use std::fmt::Write;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    #[error("the path has a `%` without two hexadecimal digits")]
    Escape,
    /// `%00` ends the string early in whatever reads the path as a C string.
    #[error("the path has an encoded NUL")]
    Nul,
    /// Control bytes and spaces would break the request line; `?` and `#` would end the path for the next reader.
    #[error("the path has a control character, a space, `?` or `#`")]
    Forbidden,
}

/// Brings the path part of a request target (no query) into its normal form. Idempotent.
///
/// Borrows where nothing changes; a path without escapes and dot segments costs one vectorised pass. The result may
/// begin with `//`, as the client's did: whoever puts it where a reference is parsed (`Location`) must see to that.
pub(crate) fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    if is_plain(path.as_bytes()) || !needs_rewriting(path.as_bytes())? {
        return Ok(Cow::Borrowed(path));
    }
    rewrite(path).map(Cow::Owned)
}

/// What of `path` follows `prefix`, if that is whole segments of it; both in normal form, `prefix` without a slash at its end.
#[inline]
pub(crate) fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Whether the path surely is in normal form: no forbidden byte, no `%`, no segment that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let Some((_, after)) = path.split_first() else {
        return false;
    };
    // `before[i]` is the byte before `after[i]`; as long as `after`, because that lacks the first byte and this the last.
    let before = &path[..after.len()];
    is_plain_in_blocks::<16>(before, after)
        .or_else(|| is_plain_in_blocks::<8>(before, after))
        .or_else(|| is_plain_in_blocks::<4>(before, after))
        .unwrap_or_else(|| {
            before
                .iter()
                .zip(after)
                .all(|(&before, &after)| !is_suspect(before, after))
        })
}

/// `None` if there is not even one block of `N` bytes. Blocks of fixed size compile to a few vector instructions; the
/// last one overlaps its predecessor in place of a remainder that is done byte by byte.
fn is_plain_in_blocks<const N: usize>(before: &[u8], after: &[u8]) -> Option<bool> {
    let last = (before.last_chunk::<N>()?, after.last_chunk::<N>()?);
    let mut blocks = before
        .as_chunks::<N>()
        .0
        .iter()
        .zip(after.as_chunks::<N>().0);
    Some(
        blocks.all(|(before, after)| is_plain_block(before, after))
            && is_plain_block(last.0, last.1),
    )
}

fn is_plain_block<const N: usize>(before: &[u8; N], after: &[u8; N]) -> bool {
    // No early exit inside a block: a branch for each byte is what keeps the compiler from using vectors.
    !before
        .iter()
        .zip(after)
        .fold(false, |suspect, (&before, &after)| {
            suspect | is_suspect(before, after)
        })
}

/// Whether a byte needs the close look: what is forbidden or beyond ASCII, `%`, and a dot after a slash. `!` and `'` are taken along: the
/// fewer comparisons, the faster.
fn is_suspect(before: u8, byte: u8) -> bool {
    let hash_or_percent = (byte | 0b110) == b'\'';
    let question_or_delete = (byte | 0b100_0000) == 0x7f;
    // One signed comparison: bytes beyond ASCII are negative.
    let low_or_high = byte.cast_signed() <= b' '.cast_signed();
    low_or_high | hash_or_percent | question_or_delete | ((byte == b'.') & (before == b'/'))
}

fn is_forbidden(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | 0x7f | b'#' | b'?')
}

/// Looks closely: refuses what is bad anywhere in the path and tells whether anything is not in normal form.
fn needs_rewriting(path: &[u8]) -> Result<bool, BadPath> {
    let mut changes = false;
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (escape, after) = Escape::read(rest)?;
                changes |= !escape.is_normal();
                rest = after;
            }
            b'/' => changes |= begins_with_dot_segment(rest),
            byte if is_forbidden(byte) => return Err(BadPath::Forbidden),
            0x80.. => changes = true,
            _ => {}
        }
    }
    Ok(changes)
}

/// Whether `.` or `..` is the first segment. Encoded dots need no look: they are escapes of unreserved characters.
fn begins_with_dot_segment(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..]
    )
}

/// RFC 3986 §5.2.4 over segments whose escapes are already in normal form.
fn rewrite(path: &str) -> Result<String, BadPath> {
    let mut normal = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let start = normal.len();
        normal.push('/');
        push_segment(&mut normal, segment)?;
        match normal.get(start + 1..) {
            Some(".") => normal.truncate(start),
            Some("..") => normal.truncate(parent(normal.get(..start).unwrap_or_default())),
            _ => continue,
        }
        if segments.peek().is_none() {
            normal.push('/'); // `/a/.` and `/a/b/..` are `/a/`
        }
    }
    Ok(normal)
}

/// Where the last segment of `path` begins, its slash included; the root has no parent but itself.
fn parent(path: &str) -> usize {
    path.rfind('/').unwrap_or(0)
}

fn push_segment(normal: &mut String, segment: &str) -> Result<(), BadPath> {
    let mut rest = segment;
    while let Some((plain, after)) = rest.split_once('%') {
        push_plain(normal, plain);
        let (escape, _) = Escape::read(after.as_bytes())?;
        escape.push(normal);
        rest = after.get(2..).ok_or(BadPath::Escape)?;
    }
    push_plain(normal, rest);
    Ok(())
}

fn push_plain(normal: &mut String, plain: &str) {
    for character in plain.chars() {
        if character.is_ascii() {
            normal.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(normal, "%{byte:02X}");
            }
        }
    }
}

/// `%XY`, by its two digits as they were written.
#[derive(Clone, Copy)]
struct Escape {
    digits: [u8; 2],
    byte: u8,
}

impl Escape {
    /// Reads the two digits that follow a `%` and returns what is after them.
    fn read(after_percent: &[u8]) -> Result<(Self, &[u8]), BadPath> {
        let (&digits, rest) = after_percent.split_first_chunk().ok_or(BadPath::Escape)?;
        let byte = match digits.map(|digit| char::from(digit).to_digit(16)) {
            [Some(high), Some(low)] => {
                u8::try_from(high << 4 | low).map_err(|_| BadPath::Escape)?
            }
            _ => return Err(BadPath::Escape),
        };
        match byte {
            0 => Err(BadPath::Nul),
            _ => Ok((Self { digits, byte }, rest)),
        }
    }

    fn is_normal(self) -> bool {
        !self.is_unreserved() && !self.digits.iter().any(u8::is_ascii_lowercase)
    }

    /// RFC 3986 §2.3
    fn is_unreserved(self) -> bool {
        matches!(self.byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
    }

    fn push(self, normal: &mut String) {
        if self.is_unreserved() {
            normal.push(char::from(self.byte));
        } else {
            normal.push('%');
            normal.extend(
                self.digits
                    .map(|digit| char::from(digit.to_ascii_uppercase())),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_beyond_ascii_is_escaped() {
        for (path, normal) in [
            ("/café", "/caf%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/é/../ü%2e/x", "/%C3%BC./x"),
            ("/日本", "/%E6%97%A5%E6%9C%AC"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[track_caller]
    fn same(path: &str) {
        assert!(
            matches!(normalise(path), Ok(Cow::Borrowed(normal)) if normal == path),
            "{path}: {:?}",
            normalise(path)
        );
    }

    #[track_caller]
    fn becomes(path: &str, expected: &str) {
        assert_eq!(normalise(path).as_deref(), Ok(expected), "{path}");
    }

    #[test]
    fn what_is_normal_is_borrowed() {
        for path in [
            "/",
            "//",
            "/a//b/",
            "/app.js",
            "/.well-known/x",
            "/...",
            "/a/..b/.c/d..",
            "/a%2Fb%5Cc%20d",
            "/caf%C3%A9",
            "/coffee/with/more/than/sixteen/bytes.html",
            "/a;b=c/d,e/@:!$&'()*+=[]\\\"<>^`{|}~",
        ] {
            same(path);
        }
    }

    /// RFC 3986 §5.2.4 and §5.4
    #[test]
    fn dot_segments_are_resolved_and_clamped_at_the_root() {
        becomes("/a/b/c/./../../g", "/a/g");
        becomes("/.", "/");
        becomes("/..", "/");
        becomes("/../../..", "/");
        becomes("/../../etc/passwd", "/etc/passwd");
        becomes("/a/.", "/a/");
        becomes("/a/./", "/a/");
        becomes("/a/..", "/");
        becomes("/a/b/..", "/a/");
        becomes("/a/b/../", "/a/");
        becomes("/a//../b", "/a/b");
        becomes("/./a//", "/a//");
        becomes("/..//a", "//a");
        becomes(
            "/a/b/c/d/e/f/g/h/i/j/k/l/m/../../n",
            "/a/b/c/d/e/f/g/h/i/j/k/n",
        );
    }

    #[test]
    fn encoded_dots_are_dots() {
        for up in ["%2e%2e", "%2E%2e", ".%2e", "%2E.", ".."] {
            becomes(&format!("/public/{up}/admin"), "/admin");
            becomes(&format!("/public/{up}"), "/");
        }
        becomes("/a/%2e/b", "/a/b");
        becomes("/%2e%2e%2e", "/...");
    }

    #[test]
    fn unreserved_characters_are_decoded_and_other_escapes_upper_cased() {
        becomes("/%61dmin", "/admin");
        becomes("/%7Euser/%2D%5f", "/~user/-_");
        becomes("/caf%c3%a9", "/caf%C3%A9");
        becomes("/é/%7e", "/%C3%A9/~");
    }

    #[test]
    fn an_escape_is_decoded_once_only() {
        becomes("/%2561dmin", "/%2561dmin");
        becomes("/%25%36%31dmin", "/%2561dmin");
        becomes("/%252e%252e/x", "/%252e%252e/x");
    }

    #[test]
    fn encoded_slashes_and_backslashes_make_no_segments() {
        becomes("/a/..%2fb", "/a/..%2Fb");
        becomes("/a%2f..%2Fb", "/a%2F..%2Fb");
        becomes("/a/..%5cb", "/a/..%5Cb");
    }

    #[test]
    fn bad_paths_are_refused_wherever_the_bad_byte_is() {
        for bad in ["", "*", "a/b", "http://h/", "?", "%2f", "é"] {
            assert_eq!(normalise(bad), Err(BadPath::NotAbsolute), "{bad}");
        }
        for length in 0..40 {
            let (before, after) = ("x".repeat(length), "y".repeat(40 - length));
            for bad in ["%", "%4", "%zz", "%4g", "%é", "%+1", "% 1"] {
                assert_eq!(
                    normalise(&format!("/{before}{bad}")),
                    Err(BadPath::Escape),
                    "{bad}"
                );
            }
            for bad in ["\0", "\n", "\r", "\t", " ", "\x1f", "\x7f", "#", "?"] {
                assert_eq!(
                    normalise(&format!("/{before}{bad}{after}")),
                    Err(BadPath::Forbidden),
                    "{bad:?}"
                );
                assert_eq!(
                    normalise(&format!("/%61{before}{bad}{after}")),
                    Err(BadPath::Forbidden),
                    "{bad:?}"
                );
            }
            assert_eq!(
                normalise(&format!("/{before}%00{after}")),
                Err(BadPath::Nul)
            );
            becomes(&format!("/{before}/../{after}/"), &format!("/{after}/"));
        }
        assert_eq!(normalise("/%61%zz"), Err(BadPath::Escape));
    }

    #[test]
    fn a_hostile_path_takes_linear_time() {
        let deep = format!("{}{}", "/a".repeat(200_000), "/..".repeat(200_000));
        becomes(&deep, "/");
    }

    /// Segments and pieces that matter, glued together at random.
    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/",
            "/",
            "/",
            ".",
            ".",
            "..",
            "%2e",
            "%2E",
            "%2F",
            "%2f",
            "%5c",
            "%61",
            "%25",
            "%C3%a9",
            "a",
            "bc",
            "é",
            "~",
            "%",
            "%0",
            "%00",
            "#",
            " ",
            "-long-enough-for-blocks-",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// The definition, without any fast path: decode escapes, then fold the segments.
    fn reference(path: &str) -> Option<String> {
        let mut decoded = Vec::new();
        let mut bytes = path.bytes();
        while let Some(byte) = bytes.next() {
            if byte <= b' ' || byte == 0x7f || byte == b'#' || byte == b'?' {
                return None;
            }
            if byte >= 0x80 {
                decoded.extend(format!("%{byte:02X}").bytes());
                continue;
            }
            if byte != b'%' {
                decoded.push(byte);
                continue;
            }
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            let value = u8::from_str_radix(digits, 16)
                .ok()
                .filter(|_| !digits.contains('+'))?;
            match value {
                0 => return None,
                b'-' | b'.' | b'_' | b'~' => decoded.push(value),
                _ if value.is_ascii_alphanumeric() => decoded.push(value),
                _ => decoded.extend(format!("%{value:02X}").bytes()),
            }
        }
        let decoded = String::from_utf8(decoded).ok()?;
        let mut output: Vec<&str> = Vec::new();
        for segment in decoded.split('/').skip(1) {
            match segment {
                "." => {}
                ".." => drop(output.pop()),
                _ => output.push(segment),
            }
        }
        let last = decoded.rsplit('/').next();
        if matches!(last, Some("." | "..")) {
            output.push("");
        }
        Some(format!("/{}", output.join("/")))
    }

    proptest! {
        #[test]
        fn it_equals_the_definition(path in paths()) {
            prop_assert_eq!(normalise(&path).ok().map(Cow::into_owned), reference(&path));
        }

        #[test]
        fn it_is_idempotent_and_borrows_what_is_normal(path in paths()) {
            if let Ok(normal) = normalise(&path) {
                prop_assert!(matches!(normalise(&normal), Ok(Cow::Borrowed(again)) if again == normal));
                prop_assert!(!normal.contains("/./") && !normal.contains("/../"));
                prop_assert!(!normal.ends_with("/.") && !normal.ends_with("/.."));
            }
        }

        #[test]
        fn the_fast_path_lets_nothing_bad_through(before in "[a-z/]{0,40}", byte in 0u8..128, after in "[a-z/.]{0,40}") {
            let path = format!("/{before}{}{after}", char::from(byte));
            prop_assert_eq!(normalise(&path).ok().map(Cow::into_owned), reference(&path));
        }

        #[test]
        fn it_never_panics(path in ".*") {
            let _ = normalise(&path);
            let _ = normalise(&format!("/{path}"));
        }
    }
}
