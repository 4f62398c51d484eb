//! A value of the TOML tree with what is needed to complain about it: its place and its key path.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::mask::{MASK, marked};
use super::peers::{self, Words};
use super::problems::Problems;
use super::shapes;
use super::variables::is_one_variable;

/// A value somewhere in the file.
#[derive(Clone)]
pub(super) struct Value<'t> {
    pub(super) inner: &'t DeValue<'t>,
    pub(super) span: Range<usize>,
    /// As in `upstream.api.servers[1]`.
    pub(super) path: String,
    pub(super) problems: &'t Problems<'t>,
    /// Whether the word "off" would do.
    pub(super) takes_off: bool,
}

impl<'t> Value<'t> {
    pub(super) fn new(
        value: &'t Spanned<DeValue<'t>>,
        path: String,
        problems: &'t Problems<'t>,
    ) -> Self {
        Self {
            inner: value.get_ref(),
            span: value.span(),
            path,
            problems,
            takes_off: false,
        }
    }

    /// Complains about this value.
    pub(super) fn problem(
        &self,
        id: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        // Whoever forgot the braces of a variable is not helped by advice on what its name is not.
        let variable = self.inner.as_str().and_then(without_braces);
        let variable =
            variable.filter(|_| !self.problems.is_replaced(&self.span) && self.path != SECRET);
        let braces =
            variable.map(|name| format!("a variable is written as `${{{}}}`", plain(name)));
        self.problems.add(
            self.span.clone(),
            self.path.clone(),
            id,
            message.into(),
            braces.or(help),
        );
    }

    /// What stands under these keys, one inside of the other.
    pub(super) fn at(&self, keys: &[&str]) -> Option<Self> {
        let within = |value: Self, key: &&str| {
            let inner = value.inner.as_table()?.get(*key)?;
            Some(Self::new(inner, join(&value.path, key), value.problems))
        };
        keys.iter().try_fold(self.clone(), within)
    }

    /// Itself, as a message about another value may quote it.
    pub(super) fn quoted(&self) -> String {
        let text = self.inner.as_str().unwrap_or_default();
        let shown = self.problems.shown(&self.span);
        plain(shown.as_deref().unwrap_or(text))
    }

    /// What the value of `key` in this table came to, as a message about another value may tell it.
    pub(super) fn shown(&self, key: &str, text: impl Into<String>) -> String {
        let inner = self.inner.get(key);
        match inner.is_some_and(|inner| self.problems.is_replaced(&inner.span())) {
            true => MASK.to_owned(),
            false => text.into(),
        }
    }

    /// Whether something of it came from the environment, however deep inside.
    pub(super) fn holds_replaced(&self) -> bool {
        fn holds(value: &DeValue<'_>, problems: &Problems<'_>) -> bool {
            let is_replaced = |inner: &Spanned<DeValue<'_>>| {
                problems.is_replaced(&inner.span()) || holds(inner.get_ref(), problems)
            };
            match value {
                DeValue::Array(items) => items.iter().any(is_replaced),
                DeValue::Table(table) => table.values().any(is_replaced),
                _ => false,
            }
        }
        self.problems.has_replaced()
            && (self.problems.is_replaced(&self.span) || holds(self.inner, self.problems))
    }

    /// What a variable held, where that is all of the value: it may be a number or a boolean, which strings are not.
    pub(super) fn of_variable(&self) -> Option<&'t str> {
        let text = self.inner.as_str()?;
        is_one_variable(self.problems.written(&self.span)).then_some(text)
    }

    /// Says of this value that it is surely not meant.
    pub(super) fn warn(&self, id: &'static str, message: impl Into<String>, help: Option<String>) {
        let (span, path) = (self.span.clone(), self.path.clone());
        self.problems.warn(span, path, id, message.into(), help);
    }

    /// Complains about a value of the right type that cannot be taken.
    pub(super) fn invalid(&self, message: impl Into<String>) {
        self.problem("invalid-value", message, None);
    }

    /// The same, telling what would do.
    pub(super) fn invalid_but(&self, message: impl Into<String>, help: impl Into<String>) {
        self.problem("invalid-value", message, Some(help.into()));
    }

    pub(super) fn wrong_type(&self, expected: &str) {
        self.wrong_type_but(expected, None);
    }

    fn wrong_type_but(&self, expected: &str, help: Option<String>) {
        let help = help.or_else(|| shapes::help(&self.path, self.inner, self.takes_off));
        // Advice may repeat what is in a list.
        let help = help.filter(|_| self.inner.is_str() || !self.holds_replaced());
        let message = format!("expected {expected}, found {}", found(self.inner));
        self.problem("wrong-type", message, help);
    }

    /// The items of a list; of a value that is none: nothing, and a complaint.
    pub(super) fn items(&self, expected: &str) -> Vec<Self> {
        match self.inner {
            DeValue::Array(items) => (items.iter().enumerate())
                .map(|(number, item)| {
                    Self::new(item, format!("{}[{number}]", self.path), self.problems)
                })
                .collect(),
            _ => {
                self.wrong_type_but(expected, shapes::as_list(self.inner));
                Vec::new()
            }
        }
    }

    /// Reads this value as a table of fixed keys; those that `read` did not ask for are unknown.
    pub(super) fn table<T>(&self, read: impl FnOnce(&Table<'t>) -> Option<T>) -> Option<T> {
        let DeValue::Table(entries) = self.inner else {
            self.wrong_type("a table");
            return None;
        };
        let table = Table {
            entries,
            value: self.clone(),
            known: RefCell::default(),
            missing: RefCell::default(),
            elsewhere: Cell::default(),
        };
        let read = read(&table);
        table.refuse_unknown();
        read
    }

    /// The entries of a table whose keys are names of the operator's choice, in the order of the file.
    pub(super) fn entries(&self, expected: &str) -> Vec<Entry<'t>> {
        let DeValue::Table(entries) = self.inner else {
            self.wrong_type(expected);
            return Vec::new();
        };
        let mut entries: Vec<_> = entries
            .iter()
            .map(|(key, value)| self.entry(key, value))
            .collect();
        entries.sort_by_key(|entry| entry.name.span.start);
        entries
    }

    fn entry(&self, key: &'t Spanned<DeString<'t>>, value: &'t Spanned<DeValue<'t>>) -> Entry<'t> {
        let path = join(&self.path, key.get_ref());
        let name = Name {
            text: key.get_ref(),
            span: key.span(),
            path: path.clone(),
            problems: self.problems,
        };
        Entry {
            name,
            value: Value::new(value, path, self.problems),
        }
    }
}

/// A key of the operator's choice and its value.
pub(super) struct Entry<'t> {
    pub(super) name: Name<'t>,
    pub(super) value: Value<'t>,
}

/// A name in the file: a key, or a string that stands for something with that name.
#[derive(Clone)]
pub(super) struct Name<'t> {
    pub(super) text: &'t str,
    pub(super) span: Range<usize>,
    pub(super) path: String,
    pub(super) problems: &'t Problems<'t>,
}

impl Name<'_> {
    pub(super) fn problem(
        &self,
        id: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.problems.add(
            self.span.clone(),
            self.path.clone(),
            id,
            message.into(),
            help,
        );
    }
}

impl Name<'_> {
    /// Says of what has this name that it is surely not meant.
    pub(super) fn warn(&self, id: &'static str, message: impl Into<String>, help: Option<String>) {
        let (span, path) = (self.span.clone(), self.path.clone());
        self.problems.warn(span, path, id, message.into(), help);
    }
}

/// A table of fixed keys while it is read.
pub(super) struct Table<'t> {
    entries: &'t DeTable<'t>,
    pub(super) value: Value<'t>,
    known: RefCell<Vec<&'static str>>,
    /// Keys of which one must be there and none is, what is said of that, and what to do.
    missing: RefCell<Vec<(Vec<&'static str>, String, String)>>,
    /// What keys are called elsewhere.
    elsewhere: Cell<Words>,
}

impl<'t> Table<'t> {
    /// Whoever writes a key by the name that it has in other programs is told its name here.
    pub(super) fn elsewhere(&self, words: Words) {
        self.elsewhere.set(words);
    }

    /// The value of `key`, if the file has it.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'t>> {
        #[cfg(test)]
        super::schema::asked_for(&self.value.path, key);
        self.known.borrow_mut().push(key);
        let value = self.entries.get(key)?;
        Some(Value::new(
            value,
            join(&self.value.path, key),
            self.value.problems,
        ))
    }

    /// What `read` makes of `key`, or `default` where the file does not have it. A mistake yields the default as well, which
    /// is never used: what has problems is not published.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'t>) -> Option<T>,
    ) -> T {
        self.get(key)
            .and_then(|value| read(&value))
            .unwrap_or(default)
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, key: &'static str, example: &str) -> Option<Value<'t>> {
        let value = self.get(key);
        if value.is_none() {
            let help = format!("for example `{key} = {example}`");
            self.missing(&[key], format!("`{key}` is missing"), help);
        }
        value
    }

    /// Complains in the end that none of `keys` is there, unless one is by another name, whose own complaint says so.
    pub(super) fn missing(&self, keys: &[&'static str], message: String, help: String) {
        if !self.value.problems.is_part() {
            let missing = (keys.to_vec(), message, help);
            self.missing.borrow_mut().push(missing);
        }
    }

    fn tell_missing(&self, is_unknown: impl Fn(&str) -> bool) {
        for (keys, message, help) in self.missing.take() {
            let means = |other: &str, ours: &str| match peers::help(self.elsewhere.get(), other) {
                Some(help) => help.contains(&format!("`{ours}`")),
                None => self.value.problems.suggest(other, [ours]).is_some(),
            };
            let mut others = self.entries.keys().map(|key| key.get_ref().as_ref());
            if !others.any(|other| is_unknown(other) && keys.iter().any(|ours| means(other, ours)))
            {
                self.value.problem("missing-key", message, Some(help));
            }
        }
    }

    /// Where the key is written, for complaints about the key itself.
    pub(super) fn key(&self, key: &str) -> Option<Name<'t>> {
        let (key, _) = self.entries.get_key_value(key)?;
        Some(Name {
            text: key.get_ref(),
            span: key.span(),
            path: join(&self.value.path, key.get_ref()),
            problems: self.value.problems,
        })
    }

    /// Refuses a key that a later version will know, unless its value turns it off.
    pub(super) fn not_yet(&self, key: &'static str, is_off: fn(&DeValue<'_>) -> bool) {
        let value = self.get(key);
        if value.is_some_and(|value| !is_off(value.inner))
            && let Some(name) = self.key(key)
        {
            name.problem(
                "not-supported-yet",
                format!("`{key}` is not supported yet"),
                Some("leave it out".into()),
            );
        }
    }

    fn refuse_unknown(&self) {
        let known = self.known.borrow();
        self.tell_missing(|key| !known.contains(&key));
        if self.entries.len() > known.len()
            || self
                .entries
                .keys()
                .any(|key| !known.contains(&key.get_ref().as_ref()))
        {
            for entry in self.value.entries("a table") {
                let name = entry.name;
                if known.contains(&name.text) {
                    continue;
                }
                let here = peers::help(self.elsewhere.get(), name.text);
                let near = || name.problems.suggest(name.text, known.iter().copied());
                let any = || peers::help(self.elsewhere.get(), peers::ANY);
                name.problem(
                    "unknown-key",
                    format!("unknown key `{}`", plain(name.text)),
                    here.or_else(near).or_else(any),
                );
            }
        }
    }
}

/// What turns a key off that is not supported yet.
pub(super) mod off {
    use super::DeValue;

    pub(in crate::config) fn word(value: &DeValue<'_>) -> bool {
        value.as_str() == Some("off")
    }

    pub(in crate::config) fn empty_list(value: &DeValue<'_>) -> bool {
        value.as_array().is_some_and(|list| list.is_empty())
    }

    pub(in crate::config) fn empty_table(value: &DeValue<'_>) -> bool {
        value.as_table().is_some_and(|table| table.is_empty())
    }

    pub(in crate::config) fn never(_: &DeValue<'_>) -> bool {
        false
    }
}

/// The name in `$NAME`, as the shell and others write a variable. In capitals: others have words of their own in small letters.
pub(super) fn without_braces(text: &str) -> Option<&str> {
    text.split('$').skip(1).find_map(|after| {
        let is_part = |character: char| {
            character.is_ascii_uppercase() || character.is_ascii_digit() || character == '_'
        };
        let end = after.find(|character| !is_part(character));
        let name = after.get(..end.unwrap_or(after.len()))?;
        let is_name = name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_');
        is_name.then_some(name)
    })
}

/// A value as a message speaks of it.
pub(super) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string `\"{}\"`", plain(text)),
        DeValue::Integer(number) => format!("the number `{}`", plain(&number.to_string())),
        DeValue::Float(number) => format!("the number `{}`", plain(number.as_str())),
        DeValue::Boolean(value) => format!("the boolean `{value}`"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Text from the file for a message, as [`escaped`], and marked as such: where it came from the environment, it is not shown.
pub(super) fn plain(text: &str) -> String {
    marked(&escaped(text))
}

/// Text with its control characters escaped, cut when long.
pub(super) fn escaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut out: String = characters
        .by_ref()
        .take(LONGEST_QUOTE)
        .flat_map(escape)
        .collect();
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let escape = character.is_control().then(|| character.escape_default());
    let keep = escape.is_none().then_some(character);
    escape.into_iter().flatten().chain(keep)
}

/// `table.key`, the key quoted where TOML would have it quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let mut joined = path.to_owned();
    push_key(&mut joined, key);
    joined
}

/// The same in place.
pub(super) fn push_key(path: &mut String, key: &str) {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let quote = if bare { "" } else { "\"" };
    if !path.is_empty() {
        path.push('.');
    }
    for part in [quote, &escaped(key), quote] {
        path.push_str(part);
    }
}

/// Of which messages repeat nothing.
const SECRET: &str = "admin.token";
const LONGEST_QUOTE: usize = 100;
