//! Leaves of the tree -> typed values. Each returns `None` after it has said what is wrong.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use toml::de::DeValue;

use super::mask::marked;
use super::peers;
use super::problems::did_you_mean;
use super::value::{Value, found, plain};
use crate::units::{ByteSize, Share};

pub(super) fn boolean(value: &Value<'_>) -> Option<bool> {
    let boolean = truth(value);
    if boolean.is_none() {
        let help = match value.inner.as_str() {
            Some("true" | "on" | "yes" | "1") => Some("write `true`".into()),
            Some("false" | "off" | "no" | "0") => Some("write `false`".into()),
            _ => None,
        };
        let message = format!("expected `true` or `false`, found {}", found(value.inner));
        value.problem("wrong-type", message, help);
    }
    boolean
}

/// `true` and `false`, as written or as a variable has it.
pub(super) fn truth(value: &Value<'_>) -> Option<bool> {
    let of_variable = || value.of_variable().and_then(|text| text.parse().ok());
    value.inner.as_bool().or_else(of_variable)
}

pub(super) fn string<'t>(value: &Value<'t>, expected: &str) -> Option<&'t str> {
    match value.inner {
        DeValue::String(text) => Some(text.as_ref()),
        _ => {
            value.wrong_type(expected);
            None
        }
    }
}

pub(super) fn integer<T: TryFrom<i64>>(value: &Value<'_>, range: RangeInclusive<i64>) -> Option<T> {
    let expected = format!("a number from {} to {}", range.start(), range.end());
    let of_variable = value.of_variable();
    let (digits, radix, shown) = if let DeValue::Integer(number) = value.inner {
        (number.as_str(), number.radix(), number.to_string())
    } else if let Some(text) = of_variable.filter(|text| is_decimal(text)) {
        (text, 10, text.to_owned())
    } else {
        let bare = value.inner.as_str().filter(|_| of_variable.is_none());
        let bare = bare.filter(|text| text.parse::<i64>().is_ok_and(|one| range.contains(&one)));
        let help = bare.map(|number| format!("write `{}`, without quotes", plain(number)));
        let message = format!("expected {expected}, found {}", found(value.inner));
        value.problem("wrong-type", message, help);
        return None;
    };
    let in_range = i64::from_str_radix(digits, radix)
        .ok()
        .filter(|number| range.contains(number));
    let converted = in_range.and_then(|number| T::try_from(number).ok());
    if converted.is_none() {
        let message = format!("expected {expected}, found `{}`", plain(&shown));
        let help = (value.takes_off && is_zero(digits)).then(|| OFF.into());
        value.problem("invalid-value", message, help);
    }
    converted
}

/// An integer as TOML has it.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_padded = digits.len() > 1 && digits.starts_with('0');
    !digits.is_empty() && !is_padded && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `true` for what is usual, `false` and `"off"` for nothing, or what `table` makes of a table.
pub(super) fn switch<'t, T>(
    value: &Value<'t>,
    usual: T,
    table: impl FnOnce(&Value<'t>, T) -> Option<Option<T>>,
) -> Option<Option<T>> {
    match (truth(value), value.inner) {
        (Some(true), _) => Some(Some(usual)),
        (Some(false), _) => Some(None),
        (None, DeValue::String(text)) if text == "off" => Some(None),
        (None, DeValue::Table(_)) => table(value, usual),
        _ => {
            value.wrong_type("`true`, a table, or `\"off\"`");
            None
        }
    }
}

/// `None` for the word "off", else what `read` makes of it.
pub(super) fn or_off<'t, T>(
    value: &Value<'t>,
    read: impl FnOnce(&Value<'t>) -> Option<T>,
) -> Option<Option<T>> {
    or_word(value, "off", |value| {
        let value = Value {
            takes_off: true,
            ..value.clone()
        };
        read(&value)
    })
}

/// The same for "auto".
pub(super) fn or_auto<'t, T>(
    value: &Value<'t>,
    read: impl FnOnce(&Value<'t>) -> Option<T>,
) -> Option<Option<T>> {
    or_word(value, "auto", read)
}

pub(super) fn or_word<'t, T>(
    value: &Value<'t>,
    word: &str,
    read: impl FnOnce(&Value<'t>) -> Option<T>,
) -> Option<Option<T>> {
    if value.inner.as_str() == Some(word) {
        Some(None)
    } else {
        read(value).map(Some)
    }
}

/// A duration above zero, up to ten years.
pub(super) fn duration(value: &Value<'_>) -> Option<Duration> {
    let none = value.takes_off.then_some(OFF);
    let text = with_unit(value, "a duration with a unit such as `\"5s\"`", |number| {
        if is_zero(number) {
            return none.unwrap_or("it must be more than zero").into();
        }
        let number = plain(number);
        format!("write `\"{number}s\"` for seconds or `\"{number}ms\"` for milliseconds")
    })?;
    let parsed = match humantime::parse_duration(text) {
        // humantime takes `M` for months, a slip of one key away from minutes.
        Ok(_) if text.contains('M') => Err(format!("`{}` is not a duration", plain(text))),
        Ok(duration) => Ok(duration),
        Err(_) => Err(format!("`{}` is not a duration", plain(text))),
    };
    let units = "write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`";
    match parsed {
        Ok(duration) if duration.is_zero() => {
            let help = none.map(str::to_owned);
            value.problem("invalid-value", "must be more than zero", help);
        }
        Ok(duration) if duration > LONGEST => {
            value.invalid("must not be more than ten years (`\"3650d\"`)")
        }
        Ok(duration) => return Some(duration),
        Err(message) => value.invalid_but(
            message,
            none.filter(|_| NONE.contains(&text)).unwrap_or(units),
        ),
    }
    None
}

/// A duration, or "off".
pub(super) fn duration_or_off(value: &Value<'_>) -> Option<Option<Duration>> {
    or_off(value, duration)
}

/// A size in bytes. `KB`, `MB` and `GB` are powers of 1000; `KiB`, `MiB` and `GiB` of 1024.
pub(super) fn size(value: &Value<'_>, range: RangeInclusive<u64>) -> Option<ByteSize> {
    let (low, high) = (
        show_size(ByteSize(*range.start())),
        show_size(ByteSize(*range.end())),
    );
    let text = with_unit(value, "a size with a unit such as `\"64KiB\"`", |number| {
        if is_zero(number) && value.takes_off {
            return OFF.into();
        }
        if is_zero(number) && !range.contains(&0) {
            return format!("write a size from {low} to {high}");
        }
        let number = plain(number);
        format!("write `\"{number}B\"` for bytes or `\"{number}KiB\"`")
    })?;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_start())
        .map(|(_, factor)| *factor);
    let bytes = number
        .parse()
        .ok()
        .zip(factor)
        .and_then(|(number, factor): (u64, u64)| number.checked_mul(factor));
    match bytes {
        None => {
            let none = value.takes_off && NONE.contains(&text);
            let meant =
                || size_as_elsewhere(text).map(|size| format!("write `\"{}\"`", plain(&size)));
            let help = none.then(|| OFF.to_owned()).or_else(meant);
            value.invalid_but(
                format!("`{}` is not a size", plain(text)),
                help.unwrap_or_else(|| SIZES.to_owned()),
            );
        }
        Some(bytes) if !range.contains(&bytes) => {
            let message = format!(
                "expected a size from {low} to {high}, found `{}`",
                plain(text)
            );
            let help = (bytes == 0 && value.takes_off).then(|| OFF.into());
            value.problem("invalid-value", message, help);
        }
        Some(bytes) => return Some(ByteSize(bytes)),
    }
    None
}

/// What others mean by `10k`, `64Kb` and `1.5GiB`: powers of 1024, unless that is written as here.
fn size_as_elsewhere(text: &str) -> Option<String> {
    let end = text.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(end);
    let number: f64 = number.trim().parse().ok()?;
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    let factor = match (known, unit.to_ascii_lowercase().as_str()) {
        (Some((_, factor)), _) => *factor,
        (None, "k" | "kb" | "kib") => 1 << 10,
        (None, "m" | "mb" | "mib") => 1 << 20,
        (None, "g" | "gb" | "gib") => 1 << 30,
        (None, "b") => 1,
        _ => return None,
    };
    let bytes = number * f64::from(u32::try_from(factor).ok()?);
    // The cast is exact: the range is checked.
    let is_whole = bytes.fract() == 0.0 && (0.0..9e15).contains(&bytes);
    is_whole.then(|| show_size(ByteSize(bytes as u64)))
}

/// A share of a whole: `"25%"`, `"12.5%"`; more than nothing, to the hundredth of a percent.
pub(super) fn share(value: &Value<'_>) -> Option<Share> {
    let none = value.takes_off.then_some(OFF);
    let text = with_unit(value, "a share such as `\"25%\"`", |number| {
        if is_zero(number) {
            return none.unwrap_or("it must be more than nothing").into();
        }
        format!("write `\"{}%\"`", plain(number))
    })?;
    let hundredths = text
        .strip_suffix('%')
        .map(str::trim_end)
        .filter(|number| {
            number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        })
        .and_then(|number| number.parse::<f64>().ok())
        .map(|number| (number * 100.0).round());
    match hundredths {
        None => value.invalid_but(
            format!("`{}` is not a share", plain(text)),
            "write a number and `%`, as in `\"25%\"`",
        ),
        // The cast is exact: the range is checked.
        Some(hundredths) if (1.0..=10_000.0).contains(&hundredths) => {
            return Some(Share::hundredths(hundredths as u16));
        }
        Some(hundredths) => {
            let help = none.filter(|_| hundredths < 1.0).map(str::to_owned);
            value.problem(
                "invalid-value",
                "must be more than 0% and at most 100%",
                help,
            );
        }
    }
    None
}

/// Elsewhere none at all is often written as zero.
fn is_zero(number: &str) -> bool {
    number.bytes().all(|byte| byte == b'0')
}

/// The text of what must have a unit; a bare number is answered with what was probably meant.
fn with_unit<'t>(
    value: &Value<'t>,
    expected: &str,
    help: impl FnOnce(&str) -> String,
) -> Option<&'t str> {
    let number = match value.inner {
        DeValue::String(text)
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            return Some(text);
        }
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        _ => {
            value.wrong_type(expected);
            return None;
        }
    };
    let whole = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let message = format!("expected {expected}, found {}", found(value.inner));
    value.problem("missing-unit", message, whole.then(|| help(&number)));
    None
}

/// The size as it may be written in the file, in the largest unit without a fraction.
pub(super) fn show_size(size: ByteSize) -> String {
    let binary = UNITS
        .iter()
        .filter(|(name, _)| *name == "B" || name.contains('i'));
    let (name, factor) = (binary.rev())
        .find(|(_, factor)| size.0 != 0 && size.0.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{name}", size.0 / factor)
}

/// The duration as it may be written in the file, in the largest unit without a fraction.
pub(super) fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let fits = |(_, factor): &&(&str, u128)| nanoseconds.is_multiple_of(*factor);
    let (unit, factor) = DURATIONS.iter().find(fits).unwrap_or(&("ns", 1));
    format!("{}{unit}", nanoseconds / factor)
}

/// One of a few words.
pub(super) fn choice<T: Clone>(
    value: &Value<'_>,
    choices: &[(&str, T)],
    not_yet: &[&str],
) -> Option<T> {
    let words = choices
        .iter()
        .map(|(word, _)| format!("`\"{word}\"`"))
        .collect::<Vec<_>>()
        .join(", ");
    let expected = format!("one of {words}");
    let text = string(value, &expected)?;
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text) {
        return Some(choice.clone());
    }
    if not_yet.contains(&text) {
        value.problem(
            "not-supported-yet",
            format!("`{}` is not supported yet", plain(text)),
            Some(format!("write {expected}")),
        );
    } else {
        let words = || choices.iter().map(|(word, _)| *word);
        let near = peers::value(text, words()).or_else(|| did_you_mean(text, words()));
        let near = near.map(|near| marked(&near));
        value.problem(
            "invalid-value",
            format!("expected {expected}, found `\"{}\"`", plain(text)),
            near,
        );
    }
    None
}

/// Every item of a list that can be read, none of them twice.
pub(super) fn list<'t, T: Clone + Eq + Hash>(
    value: &Value<'t>,
    expected: &str,
    read: impl FnMut(&Value<'t>) -> Option<T>,
) -> Vec<T> {
    distinct(value.items(expected), read)
}

/// The same where a single value stands for a list of one.
pub(super) fn one_or_list<'t, T: Clone + Eq + Hash>(
    value: &Value<'t>,
    read: impl FnMut(&Value<'t>) -> Option<T>,
) -> Vec<T> {
    match value.inner {
        DeValue::Array(_) => distinct(value.items("a list"), read),
        _ => distinct(vec![value.clone()], read),
    }
}

fn distinct<'t, T: Clone + Eq + Hash>(
    items: Vec<Value<'t>>,
    mut read: impl FnMut(&Value<'t>) -> Option<T>,
) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for item in items {
        let Some(read) = read(&item) else { continue };
        if seen.insert(read.clone()) {
            out.push(read);
        } else {
            item.problem(
                "duplicate",
                format!("{} is listed twice", found(item.inner)),
                None,
            );
        }
    }
    out
}

pub(super) fn method(value: &Value<'_>) -> Option<Method> {
    let text = string(value, "a method such as `\"GET\"`")?;
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text || !STANDARD_METHODS.contains(&upper.as_str()) => {
            return Some(method);
        }
        Ok(_) => value.invalid_but(
            format!("`{}`: methods are case-sensitive", plain(text)),
            format!("write `{}`", plain(&upper)),
        ),
        Err(_) => value.invalid(format!("`{}` is not a method", plain(text))),
    }
    None
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("`{}` is not a field name", plain(text)))
}

pub(super) fn header_value(value: &Value<'_>) -> Option<HeaderValue> {
    let text = string(value, "a string")?;
    let header = HeaderValue::from_str(text).ok();
    if header.is_none() {
        value.invalid(format!(
            "`{}` cannot be a field value: it has control characters",
            plain(text)
        ));
    }
    header
}

const OFF: &str = "write `\"off\"`";
/// How others say that there is no limit.
const NONE: [&str; 6] = ["unlimited", "none", "infinity", "inf", "false", "no"];
const SIZES: &str = "write a whole number and a unit: `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB` or `GB`, as in `\"64KiB\"`";
const UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("KB", 1000),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];
const DURATIONS: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
];
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
pub(super) const STANDARD_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];
