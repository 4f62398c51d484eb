//! What is written: tables of TOML with comments.

use std::fmt::{self, Write};

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Toml {
    Text(String),
    Number(u64),
    Switch(bool),
    List(Vec<Self>),
    Inline(Vec<(String, Self)>),
}

/// A table, with those inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) keys: Vec<Key>,
    /// `[NAME.of]` for each.
    pub(super) tables: Vec<(String, Self)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
    value: Toml,
    comment: Option<String>,
}

impl Key {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> &Toml {
        &self.value
    }
}

impl Table {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Toml>) {
        self.push(name, value.into(), None);
    }

    /// The same with a comment behind it.
    pub(super) fn set_for(&mut self, name: &str, value: impl Into<Toml>, why: impl Into<String>) {
        self.push(name, value.into(), Some(why.into()));
    }

    fn push(&mut self, name: &str, value: Toml, comment: Option<String>) {
        self.keys.push(Key {
            name: name.to_owned(),
            value,
            comment,
        });
    }

    /// Whether it says something by that name.
    pub(super) fn has(&self, name: &str) -> bool {
        let tables = self.tables.iter().map(|(table, _)| table);
        let mut names = self.keys.iter().map(|key| &key.name).chain(tables);
        names.any(|known| known == name)
    }

    /// Changes the value of a key, if there is one.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Toml)) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.name == name) {
            change(&mut key.value);
        }
    }

    /// The table without its comments: what it does.
    fn essence(&self) -> Self {
        let bare = |key: &Key| Key {
            comment: None,
            ..key.clone()
        };
        let inner = self.tables.iter();
        Self {
            keys: self.keys.iter().map(bare).collect(),
            tables: inner
                .map(|(name, table)| (name.clone(), table.essence()))
                .collect(),
        }
    }

    /// What it does, as text: tables that do the same have the same.
    pub(super) fn written_essence(&self) -> String {
        let mut essence = String::new();
        self.essence().write(&mut essence, "", &[]);
        essence
    }

    /// How many bytes it has at least, when written.
    pub(super) fn size(&self) -> usize {
        let keys = self.keys.iter();
        let keys = keys.map(|key| key.name.len() + key.value.size() + 4);
        let inner = self.tables.iter();
        let inner = inner.map(|(name, table)| name.len() + table.size());
        keys.sum::<usize>() + inner.sum::<usize>()
    }

    /// Appends `[heading]`, after a blank line and the comments.
    pub(super) fn write(&self, out: &mut String, heading: &str, comments: &[String]) {
        // A table that only holds others needs no heading.
        if !self.keys.is_empty() || self.tables.is_empty() {
            out.push('\n');
            for comment in comments {
                out.push_str(&format!("# {comment}\n"));
            }
            out.push_str(&format!("[{heading}]\n"));
        }
        for key in &self.keys {
            write_key(out, key);
        }
        for (name, table) in &self.tables {
            table.write(out, &format!("{heading}.{name}"), &[]);
        }
    }
}

/// A list that makes too long a line is broken into one line for each item.
fn write_key(out: &mut String, key: &Key) {
    let start = out.len();
    let _ = write!(out, "{} = {}", Quoted(&key.name), key.value);
    let length = out.len() - start;
    if length > LONGEST_LINE
        && let Toml::List(items) = &key.value
    {
        out.truncate(start);
        let _ = write!(out, "{} = [", Quoted(&key.name));
        if let Some(comment) = &key.comment {
            let _ = write!(out, " # {comment}");
        }
        for item in items {
            let _ = write!(out, "\n  {item},");
        }
        out.push_str("\n]\n");
        return;
    }
    if let Some(comment) = &key.comment {
        let _ = write!(out, " # {comment}");
    }
    out.push('\n');
}

impl Toml {
    /// How many bytes it has at least, when written.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 2,
            Self::Number(_) => 1,
            Self::Switch(_) => 4,
            Self::List(items) => items.iter().map(|item| item.size() + 2).sum(),
            Self::Inline(entries) => {
                let entries = entries.iter();
                let sizes = entries.map(|(name, value)| name.len() + value.size() + 5);
                sizes.sum()
            }
        }
    }
}

impl fmt::Display for Toml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write_text(f, text),
            Self::Number(number) => number.fmt(f),
            Self::Switch(on) => on.fmt(f),
            Self::List(items) => {
                f.write_char('[')?;
                for (number, item) in items.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    write!(f, "{comma}{item}")?;
                }
                f.write_char(']')
            }
            Self::Inline(entries) => {
                f.write_str("{ ")?;
                for (number, (name, value)) in entries.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    write!(f, "{comma}{} = {value}", Quoted(name))?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// A basic string: TOML 1.0 allows no control characters in it but those that are escaped.
fn write_text(f: &mut impl Write, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04X}", u32::from(control))?,
            character => f.write_char(character)?,
        }
    }
    f.write_char('"')
}

/// A key, quoted where TOML wants it.
struct Quoted<'k>(&'k str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        match !self.0.is_empty() && self.0.bytes().all(bare) {
            true => f.write_str(self.0),
            false => write_text(f, self.0),
        }
    }
}

impl From<&str> for Toml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Toml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Toml {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Toml {
    fn from(on: bool) -> Self {
        Self::Switch(on)
    }
}

impl From<Vec<(String, Self)>> for Toml {
    fn from(entries: Vec<(String, Self)>) -> Self {
        Self::Inline(entries)
    }
}

impl From<Vec<String>> for Toml {
    fn from(items: Vec<String>) -> Self {
        Self::List(items.into_iter().map(Self::Text).collect())
    }
}

impl Toml {
    /// A single one stands for a list of one.
    pub(super) fn one_or_list(mut items: Vec<String>) -> Self {
        match items.len() {
            1 => items.remove(0).into(),
            _ => items.into(),
        }
    }
}

const LONGEST_LINE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_toml_whatever_they_hold() {
        let mut table = Table::default();
        table.set("text", "a\"b\\c\n\u{1}é");
        table.set_for("on", true, "why");
        table.set("list", vec!["x".repeat(60), "y".repeat(60)]);
        table.set("fields", vec![("a.b".to_owned(), Toml::Number(7))]);
        table.tables.push(("cache".into(), Table::default()));
        let mut out = String::new();
        table.write(&mut out, "route.x", &["from a line".into()]);
        assert!(
            (170..=out.len()).contains(&table.size()),
            "{} of {}",
            table.size(),
            out.len()
        );
        assert!(
            out.starts_with("\n# from a line\n[route.x]\ntext = "),
            "{out}"
        );
        assert!(
            out.contains("on = true # why\n") && out.contains("[route.x.cache]"),
            "{out}"
        );
        let read: toml::Table = out.parse().unwrap();
        let route = &read["route"]["x"];
        assert_eq!(route["text"].as_str(), Some("a\"b\\c\n\u{1}é"));
        assert_eq!(route["list"][1].as_str(), Some(&*"y".repeat(60)));
        assert_eq!(route["fields"]["a.b"].as_integer(), Some(7));
    }
}
