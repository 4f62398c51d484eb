//! Tables of fields: what must be there, what is changed, what is sent.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue};

use super::peers;
use super::value::{Entry, Name, Value, plain};
use super::values::{header_name, header_value, list, string};
use super::{FieldEdits, HeaderCondition, QueryCondition, warnings};
use crate::semantics::hop_by_hop::is_hop_by_hop;

/// `{ set = {}, add = {}, remove = [] }`. `host` tells what to use in place of an edit of `Host`.
pub(super) fn edits(value: &Value<'_>, host: &str) -> Option<FieldEdits> {
    value.table(|table| {
        table.elsewhere(peers::EDITS);
        Some(FieldEdits {
            set: table.or("set", Vec::new(), |value| Some(values(value, host))),
            add: table.or("add", Vec::new(), |value| Some(values(value, host))),
            remove: table.or("remove", Vec::new(), |value| {
                Some(list(value, "a list of names", |value| removed(value, host)))
            }),
        })
    })
}

/// Names and values of fields that weir may write.
pub(super) fn values(value: &Value<'_>, host: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = Vec::new();
    for (name, entry) in names(value) {
        if let Some(refusal) = refusal(&name, host) {
            entry.name.problem("invalid-value", refusal.0, refusal.1);
        } else if let Some(value) = header_value(&entry.value) {
            warnings::field_value(&entry.value);
            out.push((name, value));
        }
    }
    out
}

fn removed(value: &Value<'_>, host: &str) -> Option<HeaderName> {
    let text = string(value, "the name of a field")?;
    let refusal = match header_name(text) {
        Err(message) => (message, None),
        Ok(name) => match refusal(&name, host) {
            Some(refusal) => refusal,
            None => return Some(name),
        },
    };
    value.problem("invalid-value", refusal.0, refusal.1);
    None
}

/// Why a field is not the operator's to write: it belongs to one connection (RFC 9110 §7.6.1), frames the message
/// (RFC 9112 §6), or says whom the request is for.
fn refusal(name: &HeaderName, host: &str) -> Option<(String, Option<String>)> {
    match name.as_str() {
        "host" => Some((
            format!("`{}` is not changed here", plain(name.as_str())),
            Some(format!("use {host}")),
        )),
        "content-length" | "trailer" => Some((
            format!(
                "`{}` belongs to the framing, which is weir's own",
                plain(name.as_str())
            ),
            None,
        )),
        _ if is_hop_by_hop(name.as_str()) => Some((
            format!(
                "`{}` belongs to the connection, which is weir's own",
                plain(name.as_str())
            ),
            None,
        )),
        _ => None,
    }
}

/// `{ x-canary = "1", x-beta = "*" }`
pub(super) fn header_conditions(value: &Value<'_>) -> Vec<HeaderCondition> {
    let mut out = Vec::new();
    for (name, entry) in names(value) {
        if name == http::header::HOST {
            entry.name.problem(
                "invalid-value",
                "`host` is not a condition on fields",
                Some("use `host` of the route".into()),
            );
        } else if let Some(value) = condition(&entry.value) {
            out.push(HeaderCondition { name, value });
        }
    }
    out
}

pub(super) fn query_conditions(value: &Value<'_>) -> Vec<QueryCondition> {
    let mut out = Vec::new();
    for entry in value.entries("a table of parameters and values") {
        let name = entry.name.text;
        if name.is_empty() || name.contains(['&', '=', '#']) {
            entry.name.problem(
                "invalid-value",
                format!("`{}` cannot be the name of a parameter", plain(name)),
                None,
            );
        } else if let Some(value) = condition(&entry.value) {
            out.push(QueryCondition {
                name: name.to_owned(),
                value,
            });
        }
    }
    out
}

/// What a value must be equal to; `None` for any.
fn condition(value: &Value<'_>) -> Option<Option<String>> {
    match string(value, "a string; `\"*\"` for any value")? {
        "*" => Some(None),
        text => Some(Some(text.to_owned())),
    }
}

/// The entries whose keys are names of fields, none of them twice: TOML tells `X-A` from `x-a`, HTTP does not.
fn names<'t>(value: &Value<'t>) -> Vec<(HeaderName, Entry<'t>)> {
    let mut seen = HashSet::new();
    let entries = value.entries("a table of names and values").into_iter();
    entries
        .filter_map(|entry| field_name(&entry.name, &mut seen).map(|name| (name, entry)))
        .collect()
}

fn field_name(name: &Name<'_>, seen: &mut HashSet<HeaderName>) -> Option<HeaderName> {
    match header_name(name.text) {
        Err(message) => name.problem("invalid-value", message, None),
        Ok(field) if !seen.insert(field.clone()) => {
            name.problem(
                "duplicate",
                format!("`{field}` is there twice: the names of fields ignore case"),
                None,
            );
        }
        Ok(field) => return Some(field),
    }
    None
}
