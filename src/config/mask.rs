//! Keeping out of messages what came from the environment.
//!
//! A message is written by whoever reads a value, and quotes it whole, in part or in other words. So what is hidden is not
//! what was put in, but every quotation that has anything in common with it.

use super::Config;
use super::value::join;

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
    variables: Vec<(String, String)>,
    /// All of the value.
    pub(super) whole: String,
}

impl Origin {
    pub(super) fn add(&mut self, name: &str, value: String) {
        if !self.variables.iter().any(|(known, _)| known == name) {
            self.variables.push((name.to_owned(), value));
        }
    }

    /// Whether there was nothing of it.
    pub(super) fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let variables = self.variables.iter();
        variables.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A message about the value: without it, and with the names of the variables.
    pub(super) fn hide(&self, message: &str) -> String {
        let hidden = self.hide_quotes(message, 1);
        let names: Vec<_> = self
            .variables()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let (noun, names) = match names.as_slice() {
            [one] => ("variable", one.clone()),
            several => ("variables", several.join(" and ")),
        };
        match hidden == message {
            true => format!("{hidden} (the value is that of the {noun} {names})"),
            false => format!("{hidden} (`{MASK}` is from the {noun} {names})"),
        }
    }

    /// Advice, unless it repeats the value. What it quotes besides are examples and units, which are short.
    pub(super) fn hide_help(&self, help: String) -> Option<String> {
        (self.hide_quotes(&help, 3) == help).then_some(help)
    }

    /// A quotation that is a part of the value is hidden from a length of `shortest` on.
    fn hide_quotes(&self, message: &str, shortest: usize) -> String {
        let mut message = message.to_owned();
        let values = self.variables().map(|(_, value)| value);
        // First as they are: a backtick in one would make ends of quotations where there are none.
        for secret in [self.whole.as_str()].into_iter().chain(values.clone()) {
            let quoted = super::value::plain(secret);
            if quoted.len() >= 4 || quoted.contains('`') {
                message = message.replace(&quoted, MASK);
            }
        }
        in_quotes(&message, |quotation| {
            let quotation = quotation.to_lowercase();
            let hidden = values
                .clone()
                .any(|value| have_in_common(&quotation, &value.to_lowercase(), shortest));
            hidden.then(|| MASK.to_owned())
        })
    }
}

/// A message about something else, which may speak of the value nevertheless.
pub(super) fn hide_words<'s>(
    message: &str,
    secrets: impl Iterator<Item = &'s str> + Clone,
) -> String {
    in_quotes(message, |quotation| {
        let mut out = quotation.to_owned();
        for secret in secrets.clone().filter(|secret| !secret.is_empty()) {
            out = without_word(&out, secret);
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

/// Whether one is within the other, or they share four bytes in a row.
fn have_in_common(quotation: &str, value: &str, shortest: usize) -> bool {
    let bare = quotation.trim_matches('"');
    if value.is_empty() || bare.is_empty() {
        return false;
    }
    quotation.contains(value)
        || bare.len() >= shortest && value.contains(bare)
        || bare.as_bytes().windows(4).any(|part| {
            let mut windows = value.as_bytes().windows(4);
            windows.any(|other| other == part)
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str, value: &str, whole: &str) -> Origin {
        let mut origin = Origin::default();
        origin.add(name, value.to_owned());
        whole.clone_into(&mut origin.whole);
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
        let quoted = super::super::value::plain(&format!("ab{long}"));
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
    fn elsewhere_only_whole_words_are_hidden() {
        let hide = |message| hide_words(message, ["8080", "app"].into_iter());
        assert_eq!(
            hide("`:8080` clashes with `:18080` of 8080"),
            "`:***` clashes with `:18080` of 8080"
        );
        assert_eq!(hide("`app.apple` is `happy`"), "`***.apple` is `happy`");
    }
}
