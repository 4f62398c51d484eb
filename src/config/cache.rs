//! `[cache]` and `[route.NAME.cache]`

use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, header};
use toml::de::DeValue;

use super::mask::marked;
use super::peers;
use super::problems::did_you_mean;
use super::value::{Table, Value, off, plain};
use super::values::{
    boolean, duration_or_off, header_name, integer, list, or_auto, show_size, size, string, switch,
};
use super::{Action, Cache, CacheStore, KeyQuery};
use crate::units::ByteSize;

impl Default for CacheStore {
    fn default() -> Self {
        Self {
            max_size: None,
            max_object_size: ByteSize(8 << 20),
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            heuristic: false,
            default_ttl: None,
            store_set_cookie: false,
            key_query: KeyQuery::All,
            key_query_sort: false,
            vary_ignore: Vec::new(),
            max_variants: 32,
            collapse: true,
            stale_while_revalidate: None,
            stale_if_error: Some(Duration::from_secs(60)),
            cache_status: true,
        }
    }
}

/// The store that all routes share.
pub(super) fn store(value: &Value<'_>) -> Option<CacheStore> {
    let defaults = CacheStore::default();
    value.table(|table| {
        table.elsewhere(peers::CACHE_STORE);
        let max_size = table.or("max_size", defaults.max_size, |value| {
            or_auto(value, |value| size(value, SMALLEST_STORE..=LARGEST_STORE))
        });
        let default = max_size.map_or(defaults.max_object_size, |max| {
            defaults.max_object_size.min(max)
        });
        Some(CacheStore {
            max_size,
            max_object_size: table.or("max_object_size", default, |value| {
                object_size(value, max_size, &table.value)
            }),
        })
    })
}

fn object_size(value: &Value<'_>, store: Option<ByteSize>, whole: &Value<'_>) -> Option<ByteSize> {
    let object = size(value, 1..=LARGEST_STORE)?;
    match store {
        Some(store) if object > store => {
            let object = plain(&show_size(object));
            let store = whole.shown("max_size", show_size(store));
            let message = format!("`{object}` is more than `max_size`, which is `{store}`");
            value.invalid(message);
            None
        }
        _ => Some(object),
    }
}

/// `true`, `false`, `"off"`, or the table.
pub(super) fn cache(value: &Value<'_>) -> Option<Option<Cache>> {
    switch(value, Cache::default(), table)
}

/// Complains about a cache on a route whose answers are made here, where they are made anew as fast as found.
pub(super) fn not_with(action: &Action, cache: Option<&Cache>, table: &Table<'_>) {
    let beside = match action {
        Action::Forward(_) => return,
        Action::Redirect { .. } => "redirect",
        Action::Respond { .. } => "respond",
    };
    if cache.is_some()
        && let Some(name) = table.key("cache")
    {
        name.problem(
            "invalid-value",
            format!("`cache` means nothing with `{beside}`"),
            Some("it keeps what upstreams answer; leave it out".into()),
        );
    }
}

fn table(value: &Value<'_>, defaults: Cache) -> Option<Option<Cache>> {
    value.table(|table| {
        table.elsewhere(peers::CACHE);
        let enabled = table.or("enabled", true, boolean);
        let cache = Cache {
            heuristic: table.or("heuristic", defaults.heuristic, boolean),
            default_ttl: table.or("default_ttl", defaults.default_ttl, duration_or_off),
            store_set_cookie: table.or("store_set_cookie", defaults.store_set_cookie, boolean),
            key_query: table.or("key_query", defaults.key_query, key_query),
            key_query_sort: table.or("key_query_sort", defaults.key_query_sort, boolean),
            vary_ignore: table.or("vary_ignore", defaults.vary_ignore, vary_ignore),
            max_variants: table.or("max_variants", defaults.max_variants, |value| {
                integer(value, VARIANTS)
            }),
            collapse: table.or("collapse", defaults.collapse, boolean),
            stale_while_revalidate: table.or(
                "stale_while_revalidate",
                defaults.stale_while_revalidate,
                duration_or_off,
            ),
            stale_if_error: table.or("stale_if_error", defaults.stale_if_error, duration_or_off),
            cache_status: table.or("cache_status", defaults.cache_status, boolean),
        };
        Some(enabled.then_some(cache))
    })
}

/// `"all"`, `"none"`, or the names that count.
fn key_query(value: &Value<'_>) -> Option<KeyQuery> {
    match value.inner {
        DeValue::String(text) => match text.as_ref() {
            "all" => Some(KeyQuery::All),
            "none" => Some(KeyQuery::None),
            text => {
                let help = did_you_mean(text, ["all", "none"]).map(|near| marked(&near));
                let list = || format!("write `[\"{}\"]` for that parameter", plain(text));
                value.invalid_but(
                    format!("expected {KEY_QUERY}, found `\"{}\"`", plain(text)),
                    help.unwrap_or_else(list),
                );
                None
            }
        },
        DeValue::Array(_) if off::empty_list(value.inner) => {
            value.invalid_but("no parameter would count", "write `\"none\"` for that");
            None
        }
        _ => Some(KeyQuery::Names(list(value, KEY_QUERY, parameter))),
    }
}

fn parameter(value: &Value<'_>) -> Option<String> {
    let text = string(value, "the name of a parameter")?;
    let valid = !text.is_empty() && !text.contains(['&', '=', '#']);
    if !valid {
        value.invalid(format!(
            "`{}` cannot be the name of a parameter",
            plain(text)
        ));
    }
    valid.then(|| text.to_owned())
}

fn vary_ignore(value: &Value<'_>) -> Option<Vec<HeaderName>> {
    Some(list(value, "a list of field names", ignored))
}

fn ignored(value: &Value<'_>) -> Option<HeaderName> {
    let text = string(value, "the name of a field")?;
    match header_name(text) {
        // A name as far as the grammar goes, but in `Vary` it is none.
        Ok(_) if text == "*" => value.invalid_but(
            "`Vary: *` cannot be ignored: it says that a response is good for one request only",
            "name the fields that do not count",
        ),
        Ok(name) if name == header::ACCEPT_ENCODING => value.invalid_but(
            "`accept-encoding` cannot be ignored: clients would get what they cannot decode",
            "leave it out; weir tells clients apart only by the codings that they take",
        ),
        Ok(name) => return Some(name),
        Err(message) => value.invalid(message),
    }
    None
}

const KEY_QUERY: &str = "`\"all\"`, `\"none\"` or a list of names such as `[\"page\"]`";
/// Less holds no response of the usual size beside another.
const SMALLEST_STORE: u64 = 1 << 20;
/// More than any machine has; keeps sums far from overflow.
const LARGEST_STORE: u64 = 16 << 40;
/// All of a target are looked through, one after the other.
const VARIANTS: RangeInclusive<i64> = 1..=1024;
