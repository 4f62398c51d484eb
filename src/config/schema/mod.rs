//! The keys of the config as a JSON Schema (2020-12), for editors: `weir schema`.
//!
//! The source is one table of all keys ([`keys`]). The parser walks the tree by hand and has no types that a schema could be
//! derived from; but it knows every key that it has asked for, and `--show` writes every default. The tests hold the table
//! against both: a key, a default or an example that is here and not there, or there and not here, fails them.

mod keys;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod validator;

use serde_json::{Map, Value, json};
#[cfg(test)]
pub(super) use tests::asked_for;

/// A key of a table.
#[derive(Clone, Copy, Debug)]
struct Key {
    name: &'static str,
    kind: Kind,
    about: &'static str,
    /// As TOML, and as `--show` writes it. `None`: it has none, or one that depends on others.
    default: Option<&'static str>,
    /// As TOML.
    examples: &'static [&'static str],
    required: bool,
    /// Each table has its own: it cannot be a default of all.
    own: bool,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    /// From, to.
    Integer(i64, i64),
    /// One of these.
    Numbers(&'static [i64]),
    Text,
    /// One that begins with a slash.
    Path,
    Duration,
    Size,
    Share,
    Words(&'static [&'static str]),
    List(&'static Self),
    /// Names of the operator's choice.
    Map(&'static Self),
    Table(&'static [Key]),
    /// What tables with these keys have where they say nothing.
    Defaults(&'static [Key]),
    /// One of these, the usual one first.
    Either(&'static [Self]),
    /// Of a later version: no value but that which turns it off, as TOML.
    Off(&'static str),
    /// Of a later version: no value at all.
    NotYet,
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        about,
        default: None,
        examples: &[],
        required: false,
        own: false,
    }
}

impl Key {
    const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    const fn examples(self, examples: &'static [&'static str]) -> Self {
        Self { examples, ..self }
    }

    const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    const fn own(self) -> Self {
        Self { own: true, ..self }
    }

    fn schema(&self, is_part: bool) -> Value {
        let mut schema = self.kind.schema(is_part);
        if let Value::Object(schema) = &mut schema {
            let later = matches!(self.kind, Kind::Off(_) | Kind::NotYet);
            let later = if later { " Not supported yet." } else { "" };
            schema.insert(
                "description".into(),
                format!("{}{later}", self.about).into(),
            );
            if let Some(default) = self.default {
                schema.insert("default".into(), value(default));
            }
            if !self.examples.is_empty() {
                let examples = self.examples.iter().map(|example| value(example));
                schema.insert("examples".into(), examples.collect());
            }
        }
        schema
    }
}

impl Kind {
    /// `is_part`: the rest of a table may be elsewhere.
    fn schema(&self, is_part: bool) -> Value {
        match self {
            Self::Bool | Self::Integer(..) | Self::Numbers(_) => {
                json!({ "anyOf": [self.bare(), { "$ref": "#/$defs/variable_alone" }] })
            }
            Self::Text => json!({ "type": "string" }),
            Self::Path => json!({ "type": "string", "pattern": PATH }),
            Self::Duration => json!({ "$ref": "#/$defs/duration" }),
            Self::Size => json!({ "$ref": "#/$defs/size" }),
            Self::Share => json!({ "$ref": "#/$defs/share" }),
            Self::Words(words) => {
                let words = json!({ "type": "string", "enum": words });
                json!({ "anyOf": [words, { "$ref": "#/$defs/variable" }] })
            }
            Self::List(item) => json!({ "type": "array", "items": item.schema(false) }),
            Self::Map(entry) => {
                json!({ "type": "object", "additionalProperties": entry.schema(is_part) })
            }
            Self::Table(keys) => table(keys, is_part),
            Self::Defaults(keys) => table(keys, true),
            Self::Either(kinds) => either(kinds, is_part),
            Self::Off(off) => json!({ "const": value(off) }),
            Self::NotYet => json!({ "not": {} }),
        }
    }

    /// Without the variables that it may come from: beside words, which may come from them too, and beside tables.
    fn bare(&self) -> Value {
        match self {
            Self::Bool => json!({ "type": "boolean" }),
            Self::Integer(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
            Self::Numbers(numbers) => json!({ "type": "integer", "enum": numbers }),
            other => other.schema(false),
        }
    }

    /// The types of JSON that it may have.
    fn types(&self) -> Vec<&'static str> {
        match self {
            Self::Bool => vec!["boolean"],
            Self::Integer(..) | Self::Numbers(_) => vec!["integer"],
            Self::Text
            | Self::Path
            | Self::Duration
            | Self::Size
            | Self::Share
            | Self::Words(_) => vec!["string"],
            Self::List(_) => vec!["array"],
            Self::Map(_) | Self::Table(_) | Self::Defaults(_) => vec!["object"],
            Self::Either(kinds) => kinds.iter().flat_map(Self::types).collect(),
            Self::Off(off) => vec![match value(off) {
                Value::Array(_) => "array",
                Value::Object(_) => "object",
                _ => "string",
            }],
            Self::NotYet => Vec::new(),
        }
    }
}

/// Exactly one where they differ in their types; else a word may be one of the others too.
fn either(kinds: &[Kind], is_part: bool) -> Value {
    let mut types: Vec<_> = kinds.iter().flat_map(Kind::types).collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    let word = if types.len() == count {
        "oneOf"
    } else {
        "anyOf"
    };
    let schema = |kind: &Kind| match kind {
        Kind::Bool | Kind::Integer(..) | Kind::Numbers(_) => kind.bare(),
        kind => kind.schema(is_part),
    };
    let kinds: Vec<_> = kinds.iter().map(schema).collect();
    json!({ word: kinds })
}

fn table(keys: &[Key], is_part: bool) -> Value {
    let keys = || keys.iter().filter(|key| !(is_part && key.own));
    let properties: Map<_, _> = keys()
        .map(|key| (key.name.to_owned(), key.schema(is_part)))
        .collect();
    let required = keys().filter(|key| key.required && !is_part);
    let required: Vec<_> = required.map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Value::Object(schema), false) = (&mut schema, required.is_empty()) {
        schema.insert("required".into(), required.into());
    }
    schema
}

/// What a TOML value is in JSON.
fn value(toml: &str) -> Value {
    let parsed: Option<toml::Table> = toml::from_str(&format!("value = {toml}")).ok();
    let value = parsed.and_then(|mut table| table.remove("value"));
    value
        .and_then(|value| serde_json::to_value(value).ok())
        .unwrap_or_default()
}

/// The schema of a config file.
pub(crate) fn schema() -> Value {
    let mut schema = table(keys::ALL, false);
    let more = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "weir",
        "description": "The config of weir, a reverse proxy and load balancer.",
        "$defs": {
            "duration": {
                "type": "string",
                "pattern": DURATION,
                "examples": ["250ms", "5s", "10m", "1h", "1d"],
            },
            "size": {
                "type": "string",
                "pattern": SIZE,
                "examples": ["64KiB", "8MiB", "1GiB"],
            },
            "share": {
                "type": "string",
                "pattern": SHARE,
                "examples": ["25%"],
            },
            "variable": {
                "type": "string",
                "description": "With a variable of the environment.",
                "pattern": VARIABLE,
                "examples": ["${NAME}", "${NAME:-default}"],
            },
            "variable_alone": {
                "type": "string",
                "description": "A variable of the environment that holds such a value.",
                "pattern": VARIABLE_ALONE,
                "examples": ["${NAME}"],
            },
        },
    });
    if let (Value::Object(schema), Value::Object(more)) = (&mut schema, more) {
        schema.extend(more);
    }
    schema
}

/// Numbers with units, one or several. Which units there are, `check` tells. Here and below: or with a variable of the
/// environment, whose value nobody knows yet.
const DURATION: &str = r"^\s*[0-9][0-9.]*\s*[a-zµ]+(\s*[0-9][0-9.]*\s*[a-zµ]+)*\s*$|\$\{";
const SIZE: &str = r"^[0-9]+\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)$|\$\{";
const SHARE: &str = r"^[0-9.]+\s*%$|\$\{";
const PATH: &str = r"^/|\$\{";
const VARIABLE: &str = r"\$\{";
const VARIABLE_ALONE: &str = r"^\$\{[^}]*\}$";
