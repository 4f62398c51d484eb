//! Field names as servers see them that turn fields into variables (RFC 3875 §4.1.18): `_` is taken for `-`.

/// Whether such a server takes the beginning of `name` for `field`. Both are in lower case.
pub(crate) fn begins_as(name: &str, field: &str) -> bool {
    name.len() >= field.len()
        && name
            .bytes()
            .zip(field.bytes())
            .all(|(byte, wanted)| byte == wanted || (byte == b'_' && wanted == b'-'))
}
