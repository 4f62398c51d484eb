//! Values as bytes of a line. Whatever a client sent comes out as text that neither ends the line nor the value, and
//! that does nothing to a terminal.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The inside of a JSON string (RFC 8259 §7), at most `limit` bytes of the value. What is not UTF-8 becomes U+FFFD, as
/// in [`String::from_utf8_lossy`]. Escaped beyond what JSON asks for: the control characters above ASCII, which
/// terminals obey, and the line separators, at which some tools split.
pub(super) fn json(to: &mut Vec<u8>, value: &[u8], limit: usize) {
    let mut rest = cut(value, limit);
    // Nearly always nothing is to be escaped. Without a way out of the loop this is done many bytes at a time.
    if rest
        .iter()
        .fold(true, |plain, byte| plain & is_plain_in_json(*byte))
    {
        to.extend_from_slice(rest);
        return;
    }
    while let Some(plain) = rest.iter().position(|byte| !is_plain_in_json(*byte)) {
        let (before, special) = rest.split_at(plain);
        to.extend_from_slice(before);
        // A character above ASCII is made of nothing but bytes above ASCII, so a run of these can be judged alone.
        let ascii = special
            .iter()
            .position(u8::is_ascii)
            .unwrap_or(special.len());
        let (high, after) = special.split_at(ascii);
        for chunk in high.utf8_chunks() {
            chunk
                .valid()
                .chars()
                .for_each(|character| json_character(to, character));
            if !chunk.invalid().is_empty() {
                to.extend_from_slice(b"\\ufffd");
            }
        }
        rest = match after.split_first() {
            Some((byte, after)) if high.is_empty() => {
                json_ascii(to, *byte);
                after
            }
            _ => after,
        };
    }
    to.extend_from_slice(rest);
}

/// Printable ASCII but quotes and backslashes.
fn is_plain_in_json(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') < 0x5f) & (byte != b'"') & (byte != b'\\')
}

fn json_ascii(to: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => to.extend_from_slice(b"\\\""),
        b'\\' => to.extend_from_slice(b"\\\\"),
        b'\n' => to.extend_from_slice(b"\\n"),
        b'\r' => to.extend_from_slice(b"\\r"),
        b'\t' => to.extend_from_slice(b"\\t"),
        _ => to.extend_from_slice(&[b'\\', b'u', b'0', b'0', high_digit(byte), low_digit(byte)]),
    }
}

fn json_character(to: &mut Vec<u8>, character: char) {
    if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
        let code = u32::from(character) as u16;
        let [high, low] = code.to_be_bytes();
        to.extend_from_slice(&[
            b'\\',
            b'u',
            high_digit(high),
            low_digit(high),
            high_digit(low),
            low_digit(low),
        ]);
    } else {
        to.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// A value inside quotes in the combined format, at most `limit` bytes of it: quotes, backslashes and all but printable
/// ASCII become `\xHH`.
pub(super) fn quoted(to: &mut Vec<u8>, value: &[u8], limit: usize) {
    let mut rest = cut(value, limit);
    let special = |byte: &u8| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\');
    while let Some(plain) = rest.iter().position(special) {
        let (before, from_special) = rest.split_at(plain);
        to.extend_from_slice(before);
        let Some((byte, after)) = from_special.split_first() else {
            break;
        };
        to.extend_from_slice(&[
            b'\\',
            b'x',
            high_digit(*byte).to_ascii_uppercase(),
            low_digit(*byte).to_ascii_uppercase(),
        ]);
        rest = after;
    }
    to.extend_from_slice(rest);
}

/// The first bytes of a value, without breaking the character at the cut.
fn cut(value: &[u8], limit: usize) -> &[u8] {
    let Some((kept, gone)) = value.split_at_checked(limit) else {
        return value;
    };
    let continues = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    if !gone.first().is_some_and(continues) {
        return kept;
    }
    // A character has at most three bytes after its first; more of them are no UTF-8 and may be cut anywhere.
    let tail = kept.iter().rev().take(3).position(|byte| !continues(byte));
    kept.get(..kept.len() - tail.map_or(0, |after_first| after_first + 1))
        .unwrap_or(kept)
}

pub(super) fn number(to: &mut Vec<u8>, value: u64) {
    // Octets, attempts and most lengths of bodies are short.
    match value {
        0..10 => padded::<1>(to, value),
        10..100 => padded::<2>(to, value),
        100..1_000 => padded::<3>(to, value),
        1_000..10_000 => padded::<4>(to, value),
        _ => {
            number(to, value / 10_000);
            padded::<4>(to, value % 10_000);
        }
    }
}

/// With as many digits as asked for, zeros in front.
#[inline]
fn padded<const DIGITS: usize>(to: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    to.extend_from_slice(&digits);
}

/// To the microsecond: `1.500000`.
pub(super) fn seconds(to: &mut Vec<u8>, value: Duration) {
    number(to, value.as_secs());
    to.push(b'.');
    padded::<6>(to, u64::from(value.subsec_micros()));
}

pub(super) fn ip(to: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets().map(u64::from);
            number(to, a);
            for octet in [b, c, d] {
                to.push(b'.');
                number(to, octet);
            }
        }
        // Cannot fail: it is written to memory.
        IpAddr::V6(address) => _ = write!(to, "{address}"),
    }
}

pub(super) fn socket(to: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            ip(to, (*address.ip()).into());
            to.push(b':');
            number(to, u64::from(address.port()));
        }
        SocketAddr::V6(address) => _ = write!(to, "{address}"),
    }
}

/// RFC 3339, UTC, to the millisecond: `2026-11-22T13:55:36.045Z`.
pub(super) fn rfc3339(to: &mut Vec<u8>, time: SystemTime) {
    let time = Civil::of(time);
    padded::<4>(to, time.year);
    to.push(b'-');
    padded::<2>(to, time.month);
    to.push(b'-');
    padded::<2>(to, time.day);
    to.push(b'T');
    time.clock(to);
    to.push(b'.');
    padded::<3>(to, time.millis);
    to.push(b'Z');
}

/// As in the common log format: `22/Nov/2026:13:55:36 +0000`.
pub(super) fn clf_time(to: &mut Vec<u8>, time: SystemTime) {
    let time = Civil::of(time);
    padded::<2>(to, time.day);
    let month = MONTHS.get((time.month as usize).wrapping_sub(1));
    to.extend_from_slice(month.expect("months are numbered from 1 to 12"));
    padded::<4>(to, time.year);
    to.push(b':');
    time.clock(to);
    to.extend_from_slice(b" +0000");
}

/// A time as the calendar has it, in UTC.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    millis: u64,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`, for the years 1970 to 9999; a clock that is off by more shows one of these.
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().min(253_402_300_799);
        // Days since 0000-03-01: a year that begins in March has its leap day at its end.
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            second_of_day: seconds % 86_400,
            millis: u64::from(since.subsec_millis()),
        }
    }

    fn clock(&self, to: &mut Vec<u8>) {
        padded::<2>(to, self.second_of_day / 3_600);
        to.push(b':');
        padded::<2>(to, self.second_of_day / 60 % 60);
        to.push(b':');
        padded::<2>(to, self.second_of_day % 60);
    }
}

fn high_digit(byte: u8) -> u8 {
    HEX[usize::from(byte >> 4)]
}

fn low_digit(byte: u8) -> u8 {
    HEX[usize::from(byte & 15)]
}

const HEX: &[u8; 16] = b"0123456789abcdef";

const MONTHS: [&[u8]; 12] = [
    b"/Jan/", b"/Feb/", b"/Mar/", b"/Apr/", b"/May/", b"/Jun/", b"/Jul/", b"/Aug/", b"/Sep/",
    b"/Oct/", b"/Nov/", b"/Dec/",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_escapes_what_would_end_a_value_or_move_a_cursor() {
        for (value, expected) in [
            (&b"plain"[..], "plain"),
            (b"", ""),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"\n\r\t\0\x1b\x7f", r"\n\r\t\u0000\u001b\u007f"),
            ("ü€😀".as_bytes(), "ü€😀"),
            ("\u{9b}\u{85}\u{2028}".as_bytes(), r"\u009b\u0085\u2028"),
            (b"a\xffb", r"a\ufffdb"),
            (b"\xe2\x82", r"\ufffd"),
            (b"\xe2\x82\"", r#"\ufffd\""#),
        ] {
            assert_eq!(written(|to| json(to, value, 100)), expected);
        }
    }

    #[test]
    fn a_cut_does_not_break_a_character() {
        assert_eq!(cut("aüb".as_bytes(), 2), b"a");
        assert_eq!(cut("aüb".as_bytes(), 3), "aü".as_bytes());
        assert_eq!(cut("a😀".as_bytes(), 4), b"a");
        assert_eq!(cut("a😀".as_bytes(), 5), "a😀".as_bytes());
        assert_eq!(cut(b"\x80\x80\x80\x80\x80", 4), b"\x80\x80\x80\x80");
        assert_eq!(cut(b"abc", 0), b"");
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
            (253_402_300_800, "9999-12-31T23:59:59.000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(written(|to| rfc3339(to, time)), expected);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(
            written(|to| rfc3339(to, before)),
            "1970-01-01T00:00:00.000Z"
        );
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_are_as_the_standard_library_writes_them(
            value in any::<u64>(), octets in any::<u32>(), words in any::<u128>(), port in any::<u16>(),
        ) {
            prop_assert_eq!(written(|to| number(to, value)), value.to_string());
            for address in [IpAddr::V4(octets.into()), IpAddr::V6(words.into())] {
                prop_assert_eq!(written(|to| ip(to, address)), address.to_string());
                let address = SocketAddr::new(address, port);
                prop_assert_eq!(written(|to| socket(to, address)), address.to_string());
            }
        }

        #[test]
        fn times_are_as_another_library_writes_them(millis in 0_u64..253_402_300_800_000) {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            prop_assert_eq!(written(|to| rfc3339(to, time)), humantime::format_rfc3339_millis(time).to_string());
            let clf = written(|to| clf_time(to, time));
            let imf = httpdate::fmt_http_date(time);
            prop_assert_eq!(clf.get(..11).unwrap().replace('/', " "), imf.get(5..16).unwrap());
        }
    }
}
