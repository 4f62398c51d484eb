//! Pure HTTP rules: no I/O, no clock, no configuration. Each module cites the sections it follows.
//!
//! What is parsed here is parsed once, before routing, access rules and cache key alike, so that no two parts of the
//! proxy read the same bytes differently.

pub(crate) mod cache_control;
pub(crate) mod coding;
pub(crate) mod conditional;
pub(crate) mod cookies;
pub(crate) mod date;
pub(crate) mod forwarded;
pub(crate) mod hop_by_hop;
pub(crate) mod host;
pub(crate) mod methods;
pub(crate) mod path;
pub(crate) mod range;
pub(crate) mod structured;
pub(crate) mod trailers;
pub(crate) mod variables;
pub(crate) mod websocket;

/// `1*DIGIT`: no sign, no space, however many zeros in front. What does not fit is the largest number.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(value))
    })
}

/// Field lines for tests.
#[cfg(test)]
pub(crate) fn fields<V: AsRef<[u8]>>(lines: &[(&str, V)]) -> http::HeaderMap {
    let line = |(name, value): &(&str, V)| {
        let name = http::HeaderName::try_from(*name).unwrap();
        (name, http::HeaderValue::from_bytes(value.as_ref()).unwrap())
    };
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        headers.append(name, value);
    }
    headers
}
