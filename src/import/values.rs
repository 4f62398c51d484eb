//! nginx's times, sizes and names, and how weir writes them.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::semantics::path::normalise;

/// `60`, `60s`, `1h30m`, `500ms`. `None` for what is none.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let letters = letters.max(usize::from(after.starts_with(['M'])));
        let (unit, after) = after.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" | "" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "M" => 2_592_000_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
        sum = sum.checked_add(Duration::from_millis(part))?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// As weir writes it; `None` for what weir does not take: nothing, and more than ten years.
pub(super) fn duration(time: Duration) -> Option<String> {
    let (seconds, milliseconds) = (time.as_secs(), time.subsec_millis());
    if time.is_zero() || seconds > TEN_YEARS {
        return None;
    }
    Some(match seconds {
        _ if milliseconds > 0 => format!("{}ms", time.as_millis()),
        seconds if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        seconds if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        seconds if seconds.is_multiple_of(60) && seconds > 120 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    })
}

/// `1m`, `8k`, `4096`: bytes. `None` for what is none.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// As weir writes it.
pub(super) fn bytes(size: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = |(_, shift): &&(&str, u32)| size > 0 && size.trailing_zeros() >= *shift;
    match unit.iter().find(fits) {
        Some((unit, shift)) => format!("{}{unit}", size >> shift),
        None => format!("{size}B"),
    }
}

/// The name of a field, in lower case.
pub(super) fn field_name(text: &str) -> Option<String> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok()?;
    Some(name.as_str().to_owned())
}

/// Whether it may be the value of a field in weir's config.
pub(super) fn is_field_value(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// The path of a location, which nginx compares with what it has decoded, as weir writes paths. `None` where there is no
/// such path: dot segments are resolved before any path is compared.
pub(super) fn path(text: &str) -> Option<String> {
    if !text.starts_with('/') || text.contains("${") {
        return None;
    }
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => path.push(char::from(byte)),
            byte if b"-._~/!$&'()*+,;=:@".contains(&byte) => path.push(char::from(byte)),
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    let normal = normalise(&path).ok()?;
    (normal == path).then_some(path)
}

/// Part of a name in weir's config: lower case, all but letters and digits one `-`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars().take(LONGEST_SLUG) {
        if character.is_ascii_alphanumeric() || character == '_' {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

const TEN_YEARS: u64 = 3650 * 86_400;
/// weir's names have at most 100 characters, made of two of these and a number.
const LONGEST_SLUG: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nginxs_in_and_weirs_out() {
        for (text, written) in [
            ("60", Some("60s")),
            ("90s", Some("90s")),
            ("300", Some("5m")),
            ("1h", Some("1h")),
            ("1h30m", Some("90m")),
            ("500ms", Some("500ms")),
            ("1d", Some("1d")),
            ("1M", Some("30d")),
            ("0", None),
            ("11y", None),
        ] {
            assert_eq!(duration(time(text).unwrap()).as_deref(), written, "{text}");
        }
        for text in [
            "",
            "s",
            "5x",
            "-1",
            "1.5s",
            "99999999999999999999",
            "9999999999999y",
            "1é",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_nginxs_in_and_weirs_out() {
        for (text, written) in [
            ("1m", "1MiB"),
            ("8k", "8KiB"),
            ("1536", "1536B"),
            ("20", "20B"),
            ("0", "0B"),
        ] {
            assert_eq!(bytes(size(text).unwrap()), written, "{text}");
        }
        for text in ["", "m", "1mb", "99999999999999999999", "99999999999999g"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn paths_are_written_as_weir_compares_them() {
        for (text, written) in [
            ("/api/", Some("/api/")),
            ("/a b", Some("/a%20b")),
            ("/ä", Some("/%C3%A4")),
            ("/100%", Some("/100%25")),
            ("/a/../b", None),
            ("x", None),
            ("/${x}", None),
        ] {
            assert_eq!(path(text).as_deref(), written, "{text}");
        }
    }

    #[test]
    fn names_are_what_weir_takes_as_such() {
        for (text, name) in [
            ("www.Example.com", "www-example-com"),
            ("/api/v1/", "api-v1"),
            ("*.x", "x"),
            ("é", ""),
        ] {
            assert_eq!(slug(text), name);
        }
    }
}
