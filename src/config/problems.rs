//! Where the walk over the text puts what it finds, so that one run shows every mistake.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{MOST_PROBLEMS, Problem, Severity};
use super::mask::{MASK, Origin, hide_words, marked, unmarked};
use super::position::LineIndex;
use super::value::escaped;

/// The problems of a configuration so far. Filled through a shared reference: every value being read holds one.
///
/// Its files stand one behind the other in one space of offsets, so that a span also tells which file it is in.
pub(super) struct Problems<'t> {
    /// The main file first, then those that it includes.
    sources: Vec<Source<'t>>,
    errors: RefCell<Found>,
    warnings: RefCell<Found>,
    /// What was told of which span, hashed: a default that is wrong is wrong in each table that takes it.
    told: RefCell<HashSet<u64>>,
    hasher: RandomState,
    /// Lines, by file, whose syntax is wrong: what was understood of them is a guess, of which no more is said.
    broken: RefCell<HashSet<(usize, usize)>>,
    /// Where values begin that are refused whole, whatever they hold.
    refused: RefCell<HashSet<usize>>,
    incomplete: Cell<bool>,
    in_part: Cell<bool>,
    /// By where values begin: what of them came from the environment.
    replaced: RefCell<HashMap<usize, Origin>>,
    /// What the variables held.
    variables: RefCell<BTreeMap<String, String>>,
    /// Bytes that may still be put in place of variables.
    room: Cell<usize>,
    mistakes: Cell<usize>,
    /// Tables and lists that there may still be.
    tables: Cell<usize>,
    /// Steps that may still be spent on near misses.
    guesses: Cell<usize>,
    /// Bytes that may still be looked through for a name.
    searches: Cell<usize>,
}

/// The first by position, whatever the order in which they are found: a file of 8 MiB may have millions.
#[derive(Default)]
struct Found {
    /// By where they stand among all files, then in the order in which they were found.
    kept: BTreeMap<(usize, usize), Problem>,
    all: usize,
}

impl Found {
    fn add(&mut self, at: usize, problem: impl FnOnce() -> Problem) {
        let place = (at, self.all);
        self.all += 1;
        if self.kept.len() == MOST_PROBLEMS {
            match self.kept.last_entry() {
                Some(last) if *last.key() > place => drop(last.remove()),
                _ => return,
            }
        }
        self.kept.insert(place, problem());
    }
}

struct Source<'t> {
    text: &'t str,
    file: &'t Path,
    index: LineIndex,
    /// Where it begins among all files.
    base: usize,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        let mut problems = Self {
            sources: Vec::new(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            told: RefCell::default(),
            hasher: RandomState::new(),
            broken: RefCell::default(),
            refused: RefCell::default(),
            incomplete: Cell::new(false),
            in_part: Cell::new(false),
            replaced: RefCell::default(),
            variables: RefCell::default(),
            room: Cell::new(MOST_REPLACED),
            mistakes: Cell::new(0),
            tables: Cell::new(MOST_TABLES),
            guesses: Cell::new(MOST_GUESSED),
            searches: Cell::new(MOST_SEARCHED),
        };
        problems.add_source(text, file);
        problems
    }

    /// Another file. Returns what is to be added to its offsets.
    pub(super) fn add_source(&mut self, text: &'t str, file: &'t Path) -> usize {
        // One more than it has bytes, so that the end of a file is not the beginning of the next.
        let end = |source: &Source<'_>| source.base + source.text.len() + 1;
        let base = self.sources.last().map_or(0, end);
        self.sources.push(Source {
            text,
            file,
            index: LineIndex::new(text),
            base,
        });
        base
    }

    /// Tells that tables may have been lost to bad syntax.
    pub(super) fn set_incomplete(&self) {
        self.incomplete.set(true);
    }

    /// Adds what the TOML itself has wrong. Before all others.
    pub(super) fn add_syntax(&self, span: Range<usize>, message: String, help: Option<String>) {
        let lines = [span.start, span.end].map(|offset| self.line(offset));
        self.broken.borrow_mut().extend(lines);
        let (message, help) = (unmarked(message), help.map(unmarked));
        let problem = || {
            let error = Severity::Error;
            self.problem(span.clone(), String::new(), "syntax", message, help, error)
        };
        self.errors.borrow_mut().add(span.start, problem);
    }

    /// Counts so many more mistakes in the syntax, behind as many as are ever told.
    pub(super) fn leave_out(&self, number: usize) {
        self.errors.borrow_mut().all += number;
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
        self.tell(span, key, id, message, help, Severity::Error);
    }

    /// Adds what does not refuse the configuration.
    pub(super) fn warn(
        &self,
        span: Range<usize>,
        key: String,
        id: &'static str,
        message: String,
        help: Option<String>,
    ) {
        if !self.is_part() {
            self.tell(span, key, id, message, help, Severity::Warning);
        }
    }

    fn tell(
        &self,
        span: Range<usize>,
        key: String,
        id: &'static str,
        message: String,
        help: Option<String>,
        severity: Severity,
    ) {
        let known = self.refused.borrow().contains(&span.start)
            || self.broken.borrow().contains(&self.line(span.start));
        if known {
            return;
        }
        let told = self.hasher.hash_one((span.start, span.end, &message));
        if !self.told.borrow_mut().insert(told) {
            return;
        }
        let found = match severity {
            Severity::Error => &self.errors,
            Severity::Warning => &self.warnings,
        };
        found.borrow_mut().add(span.start, || {
            let (message, help) = self.hide(span.start, message, help);
            self.problem(span.clone(), key, id, message, help, severity)
        });
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.borrow().all == 0
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

    /// Notes what came from the environment.
    pub(super) fn replaced(&self, span: &Range<usize>, origin: Origin) {
        if !origin.is_empty() {
            let mut variables = self.variables.borrow_mut();
            for (name, value) in origin.variables() {
                if !variables.contains_key(name) {
                    variables.insert(name.to_owned(), value.to_owned());
                }
            }
            self.replaced.borrow_mut().insert(span.start, origin);
        }
    }

    pub(super) fn has_replaced(&self) -> bool {
        !self.replaced.borrow().is_empty()
    }

    /// Whether a part of the value at `span` came from the environment.
    pub(super) fn is_replaced(&self, span: &Range<usize>) -> bool {
        self.replaced.borrow().contains_key(&span.start)
    }

    /// The value at `span` with masks in the places of variables; `None` if there were none.
    pub(super) fn shown(&self, span: &Range<usize>) -> Option<String> {
        let replaced = self.replaced.borrow();
        Some(replaced.get(&span.start)?.shown().to_owned())
    }

    /// Whether values may grow by so much more.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        spend(&self.room, bytes)
    }

    /// Whether there may be so many tables and lists more.
    pub(super) fn has_room_for_tables(&self, number: usize) -> bool {
        spend(&self.tables, number)
    }

    /// What stands at `span`.
    pub(super) fn written(&self, span: &Range<usize>) -> &str {
        let (_, source) = self.source(span.start);
        let span = span.start - source.base..span.end - source.base;
        source.text.get(span).unwrap_or_default()
    }

    /// A message without anything that came from the environment, and without marks.
    fn hide(&self, at: usize, message: String, help: Option<String>) -> (String, Option<String>) {
        if let Some(origin) = self.replaced.borrow().get(&at) {
            let help = help.and_then(|help| origin.hide_help(help));
            return (origin.hide(&message), help);
        }
        let variables = self.variables.borrow();
        let hide = |text: String| match variables.is_empty() {
            true => unmarked(text),
            false => hide_words(&unmarked(text), variables.values().map(String::as_str)),
        };
        let message = unmarked(message);
        let hidden = hide(message.clone());
        let told = match hidden == message {
            true => hidden,
            false => format!("{hidden} (`{MASK}` is what a variable holds, too)"),
        };
        (told, help.map(hide))
    }

    /// Reads tables that need not be whole.
    pub(super) fn in_part(&self, read: impl FnOnce()) {
        self.in_part.set(true);
        read();
        self.in_part.set(false);
    }

    /// Whether what is missing from a table may be elsewhere.
    pub(super) fn is_part(&self) -> bool {
        self.incomplete.get() || self.in_part.get()
    }

    /// ``did you mean `NAME`?`` for the nearest of `names`, as long as such searches have not taken too long in all.
    pub(super) fn suggest<'a>(
        &self,
        wrong: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        let near = nearest(wrong, names, &self.guesses);
        // It tells nearly all of what is wrong.
        near.map(|near| marked(&near))
    }

    /// Whether `name` may be the name of a table that could not be understood, by the look of the text.
    pub(super) fn may_name_a_table(&self, name: &str) -> bool {
        let header = |quote| format!(".{quote}{name}");
        let length: usize = self.sources.iter().map(|source| source.text.len()).sum();
        !spend(&self.searches, 2 * length)
            || ["", "\""]
                .map(header)
                .iter()
                .any(|part| self.text_has(part))
    }

    /// Whether `${` can be in a value, literally or escaped, so that it is worth looking through them all.
    pub(super) fn may_have_variables(&self) -> bool {
        self.text_has("$") || self.text_has("\\")
    }

    /// Whether `part` stands anywhere in the files.
    pub(super) fn text_has(&self, part: &str) -> bool {
        self.sources.iter().any(|source| source.text.contains(part))
    }

    /// `weir.toml:12:1`
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let (_, source) = self.source(span.start);
        let at = span.start - source.base;
        let (line, column) = source.index.position(source.text, at);
        format!("{}:{line}:{column}", source.file.display())
    }

    /// The first problems, errors before warnings, by file and position; and how many there are besides.
    pub(super) fn sorted(&self) -> (Vec<Problem>, usize) {
        let (errors, warnings) = (self.errors.take(), self.warnings.take());
        let room = MOST_PROBLEMS - errors.kept.len();
        let mut found: Vec<_> = errors.kept.into_iter().collect();
        found.extend(warnings.kept.into_iter().take(room));
        found.sort_by_key(|((start, _), _)| *start);
        let more = errors.all + warnings.all - found.len();
        let found = found.into_iter().map(|(_, problem)| problem);
        (found.collect(), more)
    }

    /// What the problems point into.
    pub(super) fn texts(&self) -> Vec<(PathBuf, String)> {
        let texts = self.sources.iter();
        texts
            .map(|source| (source.file.to_owned(), source.text.to_owned()))
            .collect()
    }

    /// The file that an offset is in, and its number.
    fn source(&self, offset: usize) -> (usize, &Source<'t>) {
        let after = self.sources.partition_point(|source| source.base <= offset);
        let number = after.saturating_sub(1);
        (number, &self.sources[number])
    }

    /// The number of the file that an offset is in, and the line there.
    fn line(&self, offset: usize) -> (usize, usize) {
        let (number, source) = self.source(offset);
        (number, source.index.line(offset - source.base))
    }

    /// A problem at its place, not told yet.
    pub(super) fn problem(
        &self,
        span: Range<usize>,
        key: String,
        id: &'static str,
        message: String,
        help: Option<String>,
        severity: Severity,
    ) -> Problem {
        let (_, source) = self.source(span.start);
        let start = span.start - source.base;
        let (line, column) = source.index.position(source.text, start);
        Problem {
            file: source.file.to_owned(),
            line,
            column,
            span: start..span.end - source.base,
            key,
            message,
            help,
            id,
            severity,
        }
    }
}

/// ``did you mean `NAME`?`` for the nearest of a few words, if one is near.
pub(super) fn did_you_mean<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(wrong, names, &Cell::new(MOST_GUESSED))
}

/// The same, which may take so many steps.
fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
    steps: &Cell<usize>,
) -> Option<String> {
    if wrong.len() > LONGEST_GUESS {
        return None;
    }
    let tolerance = (wrong.len() / 3).clamp(1, 4);
    let mut best = None;
    for name in names {
        let near = name.len().abs_diff(wrong.len()) <= tolerance && name.len() > tolerance;
        // The distance takes time by the product of both lengths.
        let takes = if near { wrong.len() * name.len() } else { 1 };
        if !spend(steps, takes) {
            return None;
        }
        if near {
            // Capitals are the least of all mistakes.
            let (wrong, small) = (wrong.to_lowercase(), name.to_lowercase());
            let found = (strsim::damerau_levenshtein(&wrong, &small), name);
            best = best.filter(|best| *best <= found).or(Some(found));
        }
    }
    let (distance, name) = best?;
    (distance <= tolerance).then(|| format!("did you mean `{}`?", escaped(name)))
}

/// Whether there is so much left; if not, nothing is.
pub(super) fn spend(left: &Cell<usize>, amount: usize) -> bool {
    let rest = left.get().checked_sub(amount);
    left.set(rest.unwrap_or(0));
    rest.is_some()
}

/// The parser takes 2 KiB for a table, of which 8 MiB of text can have four millions. Real ones have one in forty bytes.
pub(super) const MOST_TABLES: usize = 500_000;
/// Cells of the tables that distances are computed by: about a tenth of a second.
const MOST_GUESSED: usize = 10_000_000;
/// About a tenth of a second.
const MOST_SEARCHED: usize = 256 << 20;
/// As much as all files may have.
const MOST_REPLACED: usize = 8 << 20;
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
