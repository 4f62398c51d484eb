//! Field lines, and the values of fields that frame messages and keep connections.

use http::HeaderValue;

/// The options of a `Connection` field (RFC 9110 §7.6.1).
pub(crate) fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// Whether a `Connection` field has that option.
pub(crate) fn has_option(value: &HeaderValue, wanted: &str) -> bool {
    options(value).any(|option| option.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// `1*DIGIT` and nothing else: no sign, no list, no blank inside (RFC 9110 §8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// What is written already of the fields of a response, before those in its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Nothing,
    /// The length and the date among them.
    All,
    /// The date among them.
    AllButLength,
}

/// Writes a number in decimal digits.
pub(crate) fn write_number(out: &mut impl Extend<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        first = place;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.into_iter().skip(first));
}

/// Writes one field line. Neither part can hold CR or LF: `http`'s types exclude them.
#[inline(always)]
pub(crate) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal_digits() {
        for number in [0, 1, 9, 10, 99, 100, 3600, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
