//! Keeping out of messages what came from the environment.
//!
//! A message is written by whoever reads a value, and quotes it whole, in part or in other words. Whatever of a file is
//! quoted is marked (`value::plain` does so), and the marks of what stands at the place of a variable become a mask. So
//! short values, which are parts of other words, neither spoil messages nor are told by what is masked.
//!
//! What was not marked by oversight is caught by a second look, for values that are too long to be there by chance.

use std::collections::{BTreeMap, HashSet};

use super::Config;
use super::value::{escaped, join};

impl Config {
    /// Whether a key holds something that came from the environment, and is not to be shown: `key` as in
    /// `["route", "site", "request_headers", "set", "x-env"]`.
    pub(crate) fn hides(&self, key: &[&str]) -> bool {
        if self.masked.is_empty() {
            return false;
        }
        let path = key.iter().fold(String::new(), |path, key| join(&path, key));
        // Names of fields may be written in any case.
        let mut masked = self.masked.iter();
        masked.any(|masked| masked.eq_ignore_ascii_case(&path))
    }
}

/// Where a value came from, as far as that was the environment.
#[derive(Default)]
pub(super) struct Origin {
    /// Variables and what they held.
    variables: BTreeMap<String, String>,
    /// All of the value.
    whole: String,
    /// The same, with masks in the places of the variables.
    shown: String,
}

impl Origin {
    /// The next part of the value, which a variable held.
    pub(super) fn add_variable(&mut self, name: &str, value: &str) {
        self.whole.push_str(value);
        self.shown.push_str(MASK);
        let variables = &mut self.variables;
        if !variables.contains_key(name) {
            variables.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The next part of the value, as it is written.
    pub(super) fn add_text(&mut self, text: &str) {
        self.whole.push_str(text);
        self.shown.push_str(text);
    }

    /// Whether there was nothing of it.
    pub(super) fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.variables.iter();
        variables.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All of the value.
    pub(super) fn whole(&self) -> &str {
        &self.whole
    }

    /// The value as messages about others may quote it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// A message about the value: without it, and with the names of the variables.
    pub(super) fn hide(&self, message: &str) -> String {
        let hidden = self.hide_quotes(message);
        let names: Vec<_> = self
            .variables()
            .take(MOST_NAMES)
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let (noun, names, empty) = match names.as_slice() {
            [one] => ("variable", one.clone(), ", which is empty"),
            several => ("variables", several.join(" and "), ", which are empty"),
        };
        let empty = if self.whole.is_empty() { empty } else { "" };
        match hidden == message {
            true => format!("{hidden} (the value is that of the {noun} {names}{empty})"),
            false => format!("{hidden} (`{MASK}` is from the {noun} {names}{empty})"),
        }
    }

    /// Advice, unless it repeats the value.
    pub(super) fn hide_help(&self, help: String) -> Option<String> {
        (self.hide_quotes(&help) == help).then_some(help)
    }

    fn hide_quotes(&self, message: &str) -> String {
        let mut message = masked(message);
        let values = || self.variables().map(|(_, value)| value);
        // First as they are: a backtick in one would make ends of quotations where there are none.
        for secret in [self.whole.as_str()].into_iter().chain(values()) {
            let quoted = escaped(secret);
            if quoted.len() >= SHORTEST {
                message = message.replace(&quoted, MASK);
            }
        }
        in_quotes(&message, |quotation| {
            let hidden = values().any(|value| have_in_common(quotation, value));
            hidden.then(|| MASK.to_owned())
        })
    }
}

/// A text from a file, for a message about the value that it is from.
pub(super) fn marked(text: &str) -> String {
    format!("{BEGIN}{text}{END}")
}

/// The text with masks in place of what is marked.
fn masked(text: &str) -> String {
    let mut parts = text.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(MASK);
        out.push_str(part.split_once(END).map_or("", |(_, after)| after));
    }
    out
}

/// The text without marks.
pub(super) fn unmarked(text: String) -> String {
    match text.contains([BEGIN, END]) {
        true => text.replace([BEGIN, END], ""),
        false => text,
    }
}

/// A message about something else, which may speak of the value nevertheless.
pub(super) fn hide_words<'s>(
    message: &str,
    secrets: impl Iterator<Item = &'s str> + Clone,
) -> String {
    in_quotes(message, |quotation| {
        let mut out = quotation.to_owned();
        for secret in secrets.clone().filter(|secret| secret.len() >= SHORTEST) {
            if out.contains(secret) {
                out = without_word(&out, secret);
            }
        }
        (out != quotation).then_some(out)
    })
}

/// The text with what is between backticks put in other words.
fn in_quotes(text: &str, other: impl Fn(&str) -> Option<String>) -> String {
    let parts = text.split('`').enumerate().map(|(number, part)| {
        let quoted = number % 2 == 1;
        let changed = quoted.then(|| other(part)).flatten();
        changed.unwrap_or_else(|| part.to_owned())
    });
    parts.collect::<Vec<_>>().join("`")
}

/// Whether they share [`SHORTEST`] bytes in a row. Of a very long value only its beginning is ever quoted.
fn have_in_common(quotation: &str, value: &str) -> bool {
    let beginning = &value[..value.floor_char_boundary(LONGEST_LOOKED_AT)];
    let (quotation, value) = (quotation.to_lowercase(), beginning.to_lowercase());
    let parts: HashSet<_> = quotation.as_bytes().windows(SHORTEST).collect();
    let mut windows = value.as_bytes().windows(SHORTEST);
    windows.any(|part| parts.contains(part))
}

/// `text` with `word` masked wherever it is not a part of a longer word.
fn without_word(text: &str, word: &str) -> String {
    let is_end = |character: Option<char>| character.is_none_or(|one| !one.is_alphanumeric());
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, from) = rest.split_at(at);
        let after = &from[word.len()..];
        let last = before.chars().next_back().or(out.chars().next_back());
        let alone = is_end(last) && is_end(after.chars().next());
        out.push_str(before);
        out.push_str(if alone { MASK } else { word });
        rest = after;
    }
    out + rest
}

/// In place of what is not shown.
pub(crate) const MASK: &str = "***";
/// Around what is quoted from a file. Whatever is quoted has its control characters escaped.
const BEGIN: char = '\u{1}';
const END: char = '\u{2}';
/// Bytes. What is shorter is a part of too many words.
const SHORTEST: usize = 4;
const LONGEST_LOOKED_AT: usize = 4 << 10;
/// Of one value.
const MOST_NAMES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str, value: &str, whole: &str) -> Origin {
        let mut origin = Origin::default();
        origin.add_variable(name, value);
        origin.add_text(whole.strip_prefix(value).unwrap_or_default());
        origin
    }

    #[test]
    fn quotations_of_a_value_are_hidden_whole_in_part_and_in_other_words() {
        let hide = |value: &str, message: &str| origin("V", value, value).hide(message);
        assert_eq!(
            hide("99999", "`99999` is not a port; ports are 1 to 65535"),
            "`***` is not a port; ports are 1 to 65535 (`***` is from the variable `V`)"
        );
        assert_eq!(
            hide("HTTP://Secret.example", "`secret.example` has a scheme"),
            "`***` has a scheme (`***` is from the variable `V`)"
        );
        assert_eq!(
            hide("a`b`cd", "`a`b`cd` is not a path"),
            "`***` is not a path (`***` is from the variable `V`)"
        );
        assert_eq!(
            hide("0s", "must be more than zero"),
            "must be more than zero (the value is that of the variable `V`)"
        );
        let long = "s".repeat(300);
        let quoted = escaped(&format!("ab{long}"));
        assert!(!hide(&long, &format!("`{quoted}` is not a path")).contains("ss"));
    }

    #[test]
    fn advice_that_repeats_a_value_is_left_out() {
        let origin = origin("V", "healthz", "healthz");
        assert_eq!(origin.hide_help("write `/healthz`".into()), None);
        let general = "write a number and a unit: `h`, as in `\"5s\"`".to_owned();
        assert_eq!(origin.hide_help(general.clone()), Some(general));
    }

    #[test]
    fn elsewhere_only_whole_words_are_hidden_that_are_not_there_by_chance() {
        let hide = |message| hide_words(message, ["8080", "apple", "10s", "1"].into_iter());
        assert_eq!(
            hide("`:8080` clashes with `:18080` of 8080"),
            "`:***` clashes with `:18080` of 8080"
        );
        assert_eq!(
            hide("`apple.apples` is `10s` or `1`"),
            "`***.apples` is `10s` or `1`"
        );
    }
}
