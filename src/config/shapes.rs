//! What to write where a list or a table is wanted and something simpler stands.

use toml::de::DeValue;

use super::value::{escaped, plain};

/// The items of a list that were written as one text.
pub(super) fn as_list(found: &DeValue<'_>) -> Option<String> {
    let text = quotable(found)?;
    let by_spaces = !text.contains([',', '=']);
    let parts = text
        .split(|character: char| character == ',' || by_spaces && character.is_ascii_whitespace());
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    let items: Vec<_> = parts.map(|part| format!("\"{}\"", plain(part))).collect();
    (!items.is_empty()).then(|| format!("write `[{}]`", items.join(", ")))
}

/// What to write for `found` at `path`, as in `upstream.app.queue`.
pub(super) fn help(path: &str, found: &DeValue<'_>, takes_off: bool) -> Option<String> {
    let path = path.strip_prefix("defaults.").unwrap_or(path);
    let (section, _) = path.split_once('.').unwrap_or_default();
    let (_, key) = path.rsplit_once('.').unwrap_or(("", path));
    if takes_off && is_nothing(found) {
        return Some("write `\"off\"`".into());
    }
    if let (Some("on" | "yes" | "true"), "cache" | "compress" | "sticky" | "tls" | "secure") =
        (found.as_str(), key)
        && section != "listen"
    {
        return Some("write `true`".into());
    }
    if let Some(help) = in_table(section, key, found).or_else(|| words(section, key, found)) {
        return Some(help);
    }
    match (section, key, found) {
        ("route", "upstream", DeValue::Array(names)) => {
            let names: Option<Vec<_>> = names.iter().map(|name| bare(name.get_ref())).collect();
            match names?.as_slice() {
                [] => None,
                [one] => Some(format!("write `\"{one}\"`")),
                several => Some(format!("by weight: `{{ {} = 1 }}`", several.join(" = 1, "))),
            }
        }
        ("listen", key, _) if key.starts_with("certificates[") => {
            let cert = plain(quotable(found)?);
            Some(format!(
                "write `{{ cert = \"{cert}\", key = \"…\" }}`, with the file of its key"
            ))
        }
        ("route", "set" | "add", DeValue::String(_)) => line(quotable(found)?),
        ("route", "set" | "add", DeValue::Array(lines)) => {
            line(quotable(lines.first()?.get_ref())?)
        }
        ("route", "compress", _) => {
            let coding = quotable(found).filter(|text| ["br", "zstd", "gzip"].contains(text))?;
            Some(format!("write `true`, or `{{ codings = [\"{coding}\"] }}`"))
        }
        _ => None,
    }
}

/// A line of a head, for a table of fields.
fn line(text: &str) -> Option<String> {
    // The value may be a secret.
    let (name, _) = text.split_once(':')?;
    Some(format!("write `{{ {} = \"…\" }}`", plain(name.trim())))
}

/// A value that belongs to a key of the table that is wanted.
fn in_table(section: &str, key: &str, found: &DeValue<'_>) -> Option<String> {
    let value = match found {
        DeValue::Integer(number) => number.to_string(),
        _ => format!("\"{}\"", quotable(found)?),
    };
    let kind = match found {
        DeValue::Integer(_) => Kind::Number,
        _ if is_amount(&value) => Kind::Amount,
        _ => Kind::Text,
    };
    let (.., inner) = (TABLES.iter())
        .find(|(table, name, of, _)| (*table, *name, *of) == (section, key, kind))?;
    Some(format!("write `{{ {inner} = {} }}`", plain(&value)))
}

fn words(section: &str, key: &str, found: &DeValue<'_>) -> Option<String> {
    let kind = match found {
        DeValue::Boolean(true) => Kind::True,
        DeValue::Boolean(false) => Kind::False,
        DeValue::String(_) => Kind::Text,
        _ => return None,
    };
    let (.., help) =
        (WORDS.iter()).find(|(table, name, of, _)| (*table, *name, *of) == (section, key, kind))?;
    Some((*help).to_owned())
}

/// `false` and `0` are how others turn things off.
fn is_nothing(found: &DeValue<'_>) -> bool {
    match found {
        DeValue::Boolean(value) => !value,
        DeValue::Integer(number) => number.as_str() == "0",
        _ => false,
    }
}

/// A string that is repeated in advice as it is.
fn quotable<'t>(found: &'t DeValue<'t>) -> Option<&'t str> {
    let text = found.as_str()?;
    (escaped(text) == text && !text.contains(['"', '\\', '`'])).then_some(text)
}

/// `"5s"`, with its quotes.
fn is_amount(quoted: &str) -> bool {
    let digit = quoted.chars().nth(1);
    digit.is_some_and(|digit| digit.is_ascii_digit())
}

fn bare<'t>(name: &'t DeValue<'t>) -> Option<&'t str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_bare = |name: &&str| !name.is_empty() && name.bytes().all(good);
    quotable(name).filter(is_bare)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    /// A text that begins with a digit.
    Amount,
    Text,
    True,
    False,
}

/// Where what is found belongs.
const TABLES: &[(&str, &str, Kind, &str)] = &[
    ("", "log", Kind::Text, "level"),
    ("", "admin", Kind::Text, "address"),
    ("", "admin", Kind::Amount, "address"),
    ("listen", "redirect_to_https", Kind::Number, "port"),
    ("route", "redirect", Kind::Text, "to"),
    ("route", "respond", Kind::Number, "status"),
    ("route", "respond", Kind::Text, "body"),
    ("route", "cache", Kind::Amount, "default_ttl"),
    ("upstream", "keepalive", Kind::Number, "max_idle"),
    ("upstream", "keepalive", Kind::Amount, "idle"),
    ("upstream", "queue", Kind::Number, "size"),
    ("upstream", "queue", Kind::Amount, "timeout"),
    ("upstream", "retry", Kind::Number, "max_retries"),
    ("upstream", "ejection", Kind::Number, "failures"),
];
const WORDS: &[(&str, &str, Kind, &str)] = &[
    (
        "",
        "listen",
        Kind::Text,
        "write `[listen.web]`, and `address` below it",
    ),
    (
        "listen",
        "redirect_to_https",
        Kind::True,
        "write `{}`, or `{ port = 443 }`",
    ),
    (
        "listen",
        "tls",
        Kind::True,
        "write `{ certificates = [{ cert = \"site.pem\", key = \"site.key\" }] }`",
    ),
    (
        "route",
        "strip_prefix",
        Kind::True,
        "name the prefix to strip, as in `\"/api\"`",
    ),
    (
        "route",
        "add_prefix",
        Kind::True,
        "name the prefix to add, as in `\"/v2\"`",
    ),
    (
        "upstream",
        "health_check",
        Kind::True,
        "name what to ask the servers for, as in `\"/healthz\"`",
    ),
    (
        "upstream",
        "keepalive",
        Kind::True,
        "it is on; leave it out",
    ),
    (
        "upstream",
        "keepalive",
        Kind::False,
        "write `{ max_idle = 0 }`",
    ),
    ("upstream", "queue", Kind::True, "it is on; leave it out"),
    ("upstream", "retry", Kind::True, "it is on; leave it out"),
    ("upstream", "ejection", Kind::True, "it is on; leave it out"),
    (
        "upstream",
        "sticky",
        Kind::Text,
        "write `true`, or `{ cookie = \"NAME\" }` to name the cookie",
    ),
    (
        "upstream",
        "tls",
        Kind::Text,
        "certificates of servers are always verified: write `true`, or name their authority, as in `{ ca = \"ca.pem\" }`",
    ),
];
