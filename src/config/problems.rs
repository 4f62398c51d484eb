//! Where the walk over the text puts what it finds, so that one run shows every mistake.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use super::error::{Problem, Severity};
use super::position::LineIndex;
use super::value::plain;

/// The problems of one file so far. Filled through a shared reference: every value being read holds one.
pub(super) struct Problems<'t> {
    text: &'t str,
    file: &'t Path,
    index: LineIndex,
    found: RefCell<Vec<Problem>>,
    /// Lines whose syntax is wrong: what was understood of them is a guess, of which no more is said.
    broken: RefCell<HashSet<usize>>,
    /// Where values begin that are refused whole, whatever they hold.
    refused: RefCell<HashSet<usize>>,
    incomplete: Cell<bool>,
    mistakes: Cell<usize>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        Self {
            text,
            file,
            index: LineIndex::new(text),
            found: RefCell::default(),
            broken: RefCell::default(),
            refused: RefCell::default(),
            incomplete: Cell::new(false),
            mistakes: Cell::new(0),
        }
    }

    /// Tells that tables may have been lost to bad syntax.
    pub(super) fn set_incomplete(&self) {
        self.incomplete.set(true);
    }

    /// Adds what the TOML itself has wrong. Before all others.
    pub(super) fn add_syntax(&self, span: Range<usize>, message: String, help: Option<String>) {
        let first = self.index.line(span.start);
        let last = self.index.line(span.end);
        self.broken.borrow_mut().extend([first, last]);
        self.push(span, String::new(), "syntax", message, help);
    }

    pub(super) fn add(
        &self,
        span: Range<usize>,
        key: String,
        id: &'static str,
        message: String,
        help: Option<String>,
    ) {
        self.mistakes.set(self.mistakes.get() + 1);
        let known = self.refused.borrow().contains(&span.start)
            || self.broken.borrow().contains(&self.index.line(span.start));
        if !known {
            self.push(span, key, id, message, help);
        }
    }

    /// How many mistakes there were so far, those included of which nothing was said: a measure of whether something went
    /// wrong in between.
    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.get()
    }

    /// From here on nothing more is said about the value at `span`.
    pub(super) fn refuse(&self, span: &Range<usize>) {
        self.refused.borrow_mut().insert(span.start);
    }

    /// Whether parts of the file may have been lost to its syntax, so that what is missing may be there.
    pub(super) fn incomplete(&self) -> bool {
        self.incomplete.get()
    }

    /// Whether a near miss is still worth looking for, which takes time for each name there is.
    pub(super) fn may_suggest(&self) -> bool {
        self.found.borrow().len() < MOST_SUGGESTIONS
    }

    /// Whether `${` can be in a value, literally or escaped, so that it is worth looking through them all.
    pub(super) fn may_have_variables(&self) -> bool {
        self.text.contains(['$', '\\'])
    }

    /// Whether `part` stands anywhere in the file.
    pub(super) fn text_has(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// `weir.toml:12:1`
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let (line, column) = self.index.position(self.text, span.start);
        format!("{}:{line}:{column}", self.file.display())
    }

    /// All problems, by position.
    pub(super) fn sorted(&self) -> Vec<Problem> {
        let mut found = self.found.take();
        found.sort_by_key(|problem| problem.span.start);
        found
    }

    fn push(
        &self,
        span: Range<usize>,
        key: String,
        id: &'static str,
        message: String,
        help: Option<String>,
    ) {
        let (line, column) = self.index.position(self.text, span.start);
        self.found.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line,
            column,
            span,
            key,
            message,
            help,
            id,
            severity: Severity::Error,
        });
    }
}

/// ``did you mean `NAME`?`` for the nearest of `names`, if one is near.
pub(super) fn did_you_mean<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    if wrong.len() > LONGEST_GUESS {
        return None; // the distance takes time by the product of both lengths
    }
    let tolerance = (wrong.len() / 3).clamp(1, 4);
    let near =
        |name: &&str| name.len().abs_diff(wrong.len()) <= tolerance && name.len() > tolerance;
    let distance = |name: &'a str| (strsim::damerau_levenshtein(wrong, name), name);
    let (distance, name) = names.into_iter().filter(near).map(distance).min()?;
    (distance <= tolerance).then(|| format!("did you mean `{}`?", plain(name)))
}

const MOST_SUGGESTIONS: usize = 200;
const LONGEST_GUESS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["listen", "route", "upstream"];
        assert_eq!(
            did_you_mean("listne", names).as_deref(),
            Some("did you mean `listen`?")
        );
        assert_eq!(
            did_you_mean("upstrem", names).as_deref(),
            Some("did you mean `upstream`?")
        );
        assert_eq!(did_you_mean("banana", names), None);
        assert_eq!(did_you_mean("x", ["y", "z"]), None);
    }
}
