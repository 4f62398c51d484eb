//! What is wrong with a configuration: where, what, and what to do.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Serialize, Serializer};

use super::position::LineIndex;

/// Why there is no [`Config`](super::Config).
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No file was named, and none is in the usual places.
    #[error("no configuration: neither `weir.toml` nor `/etc/weir/weir.toml` exists")]
    NotFound,
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the configuration is invalid")]
    Invalid(#[source] Report),
}

impl LoadError {
    /// What `weir check` exits with: 1 invalid, 2 could not read.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid(_) => 1,
            Self::NotFound | Self::Read { .. } => 2,
        }
    }
}

/// How bad a problem is. An error refuses the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One mistake in a configuration file. `Display` is its form on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Bytes of the file.
    pub span: Range<usize>,
    /// As in `upstream.api.servers[1]`; empty where no key is to blame.
    pub key: String,
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The kind of problem, for programs: `unknown-key`, `missing-unit`…
    pub id: &'static str,
    pub severity: Severity,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        self.write_text(f)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl Problem {
    fn write_text(&self, to: &mut impl fmt::Write) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(to, "{}", self.message),
            key => write!(to, "{key}: {}", self.message),
        }
    }

    fn render(&self, source: &str, index: &LineIndex, renderer: &Renderer) -> String {
        let mut title = format!(
            "{}:{}:{}: {}: ",
            self.file.display(),
            self.line,
            self.column,
            self.severity.as_str()
        );
        self.write_text(&mut title)
            .expect("a String takes every write");
        let (level, line) = match self.severity {
            Severity::Error => (Level::ERROR, index.range(source, self.line)),
            Severity::Warning => (Level::WARNING, index.range(source, self.line)),
        };
        let start = self.span.start.min(line.end);
        let end = self.span.end.clamp(start, line.end);
        let window = window(source, line, start..end);
        let shown = source.get(window.clone()).unwrap_or_default();
        let marked = start - window.start..end.min(window.end) - window.start;
        let mut group = level.no_name().primary_title(title).element(
            Snippet::source(shown)
                .line_start(self.line)
                .annotation(AnnotationKind::Primary.span(marked)),
        );
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

/// Paths need not be UTF-8, JSON is.
fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// What to show of a line: all of it, or if it is very long the part around `marked`.
fn window(source: &str, line: Range<usize>, marked: Range<usize>) -> Range<usize> {
    if line.len() <= LONGEST_LINE {
        return line;
    }
    let start = source.floor_char_boundary(marked.start.saturating_sub(LONGEST_LINE / 4));
    let end = source.ceil_char_boundary(marked.start + LONGEST_LINE * 3 / 4);
    start.max(line.start)..end.min(line.end)
}

/// What is wrong with a configuration, or only surely not meant, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of a configuration that is refused, one at least is an error. A thousand at most, errors before warnings.
    pub problems: Vec<Problem>,
    /// How many there are besides.
    pub more: usize,
    /// Every file that was, or should have been, read. A change of one may mend the configuration.
    pub files: Vec<PathBuf>,
    /// As [`Config::hash`](super::Config::hash).
    pub hash: String,
    /// As [`Config::seen`](super::Config::seen).
    pub seen: u64,
    /// Each file of the configuration with its text, which the spans of its problems point into. The main file first.
    pub(super) sources: Vec<(PathBuf, String)>,
}

impl Report {
    /// The texts of the main file and of those that it includes.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|(_, text)| text.as_str())
    }

    /// A block for each problem, headed `file:line:column`, with the line and a mark under the bytes.
    pub fn render(&self, colours: bool) -> String {
        let sources: HashMap<_, _> = self
            .sources
            .iter()
            .map(|(file, text)| (file.as_path(), (text.as_str(), LineIndex::new(text))))
            .collect();
        let nothing = ("", LineIndex::new(""));
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let blocks = self.problems.iter().map(|problem| {
            let (text, index) = sources.get(problem.file.as_path()).unwrap_or(&nothing);
            problem.render(text, index, &renderer)
        });
        let more = self.rest().map(|rest| rest + "\n");
        blocks
            .map(|block| block + "\n")
            .chain(more)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What is said of those that are not told.
    fn rest(&self) -> Option<String> {
        match self.more {
            0 => None,
            1 => Some("and 1 more problem".to_owned()),
            more => Some(format!("and {more} more problems")),
        }
    }

    /// How many errors there are and how many warnings, in words.
    pub fn counted(&self) -> String {
        let errors = self
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error);
        let errors = errors.count();
        let warnings = self.problems.len() - errors;
        let parts = [
            (errors, "error"),
            (warnings, "warning"),
            (self.more, "more"),
        ];
        let parts = parts.into_iter().filter(|(number, _)| *number > 0);
        let parts = parts.map(|(number, noun)| match (number, noun) {
            (1, _) | (_, "more") => format!("{number} {noun}"),
            _ => format!("{number} {noun}s"),
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Adds warnings, by position.
    pub(crate) fn add(&mut self, warnings: Vec<Problem>) {
        let room = MOST_PROBLEMS.saturating_sub(self.problems.len());
        self.more += warnings.len().saturating_sub(room);
        self.problems.extend(warnings.into_iter().take(room));
        let place = |problem: &Problem| {
            let mut files = self.sources.iter();
            let file = files.position(|(file, _)| *file == problem.file);
            (file, problem.span.start)
        };
        self.problems.sort_by_cached_key(place);
    }

    /// `{"problems": [{"file", "line", "column", "span", "key", "message", "help", "id", "severity"}]}`, and `"more"`, a number, where
    /// there are more.
    pub fn to_json(&self) -> serde_json::Value {
        let mut told = serde_json::json!({ "problems": self.problems });
        if self.more > 0 {
            told["more"] = self.more.into();
        }
        told
    }
}

/// A line for each error, as for logs and the admin API.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        for (number, problem) in self.problems.iter().filter(is_error).enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        match self.rest() {
            Some(rest) if !self.problems.is_empty() => write!(f, "\n{rest}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Report {}

/// Nobody reads more of them at a time, and what they are told to (a terminal, a log, the admin API) has to hold them.
pub(super) const MOST_PROBLEMS: usize = 1000;
/// Bytes. Beyond it a line is cut, so that many problems on one huge line stay readable and cheap.
const LONGEST_LINE: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(source: &str, marked: &str) -> Report {
        let start = source.find(marked).unwrap();
        let (line, column) = LineIndex::new(source).position(source, start);
        let problem = Problem {
            file: "weir.toml".into(),
            line,
            column,
            span: start..start + marked.len(),
            key: "upstream.api.servers[1]".into(),
            message: "`10.0.0.7` has no port".into(),
            help: Some("write `10.0.0.7:8080`".into()),
            id: "invalid-value",
            severity: Severity::Error,
        };
        Report {
            problems: vec![problem],
            more: 0,
            files: Vec::new(),
            hash: String::new(),
            seen: 0,
            sources: vec![("weir.toml".into(), source.into())],
        }
    }

    const SOURCE: &str = "[upstream.api]\nservers = [\"10.0.0.6:80\",\n  \"10.0.0.7\"]\n";

    #[test]
    fn a_problem_on_one_line_says_where_what_and_what_to_do() {
        let report = report(SOURCE, "\"10.0.0.7\"");
        let line =
            "weir.toml:3:3: upstream.api.servers[1]: `10.0.0.7` has no port; write `10.0.0.7:8080`";
        assert_eq!(report.to_string(), line);
    }

    #[test]
    fn a_block_is_headed_by_the_place_and_marks_the_bytes() {
        let expected = "\
weir.toml:3:3: error: upstream.api.servers[1]: `10.0.0.7` has no port
  |
3 |   \"10.0.0.7\"]
  |   ^^^^^^^^^^
  |
  = help: write `10.0.0.7:8080`
";
        assert_eq!(report(SOURCE, "\"10.0.0.7\"").render(false), expected);
        assert!(
            report(SOURCE, "\"10.0.0.7\"")
                .render(true)
                .contains("\u{1b}[")
        );
    }

    #[test]
    fn marks_stand_under_the_bytes_behind_wide_characters_and_at_the_end_of_a_line() {
        let block = report("[\"日本\", 5]\n", "5").render(false);
        assert!(
            block.contains("1 | [\"日本\", 5]\n  |          ^\n"),
            "{block}"
        );
        let block = report("ä = \nb = 1", "\nb").render(false);
        assert!(block.contains("1 | ä = \n  |     ^\n"), "{block}");
    }

    #[test]
    fn a_huge_line_is_cut_around_the_mark() {
        let source = format!("{}WRONG{}", "ä".repeat(5000), "ö".repeat(5000));
        let block = report(&source, "WRONG").render(false);
        assert!(block.contains("WRONG") && block.len() < 3000, "{block}");
    }

    #[test]
    fn programs_get_json() {
        let json = report(SOURCE, "\"10.0.0.7\"").to_json();
        assert_eq!(json["problems"][0]["severity"], "error");
        assert_eq!(json["problems"][0]["column"], 3);
        assert_eq!(json["problems"][0]["span"]["end"], 53);
    }
}
