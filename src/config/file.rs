//! The text: found, read, and taken through syntax and checks.

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use toml::Spanned;
use toml::de::DeValue;

use super::check::check;
use super::defaults;
use super::error::{LoadError, Problem, Report, Severity};
use super::files::{Files, read_up_to};
use super::include;
use super::problems::Problems;
use super::secrets::paths_of_credentials;
use super::syntax;
use super::value::Value;
use super::variables::{self, Outside};
use super::{Config, Contents};
use crate::units::ServerName;

/// The file to read: the one that was named, else `weir.toml` in the working directory, else `/etc/weir/weir.toml`.
pub fn find(explicit: Option<PathBuf>) -> Result<PathBuf, LoadError> {
    if let Some(path) = explicit {
        return Ok(path);
    }
    let usual = USUAL_PLACES.iter().map(PathBuf::from);
    usual
        .into_iter()
        .find(|path| path.exists())
        .ok_or(LoadError::NotFound)
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    load_with(path, &Outside::of_process())
}

/// The same by another environment.
pub fn load_with(path: &Path, outside: &Outside<'_>) -> Result<Config, LoadError> {
    loaded(path, outside).map(|loaded| loaded.config)
}

fn loaded(path: &Path, outside: &Outside<'_>) -> Result<Loaded, LoadError> {
    let read = |source: io::Error| LoadError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = read_up_to(path, LARGEST_FILE).map_err(read)?;
    match String::from_utf8(bytes) {
        Ok(text) => parsed(&text, path, None, outside).map_err(LoadError::Invalid),
        Err(error) => Err(LoadError::Invalid(not_utf8(error.as_bytes(), path))),
    }
}

/// Checks a text as if it were the contents of the file at `path`, in whose directory certificates are looked for.
pub fn parse(text: &str, path: &Path) -> Result<Config, Report> {
    parse_with(text, path, &Outside::of_process())
}

/// A configuration, and what is not known to be right before DNS was asked.
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The names of servers, each with what to say if there is none such.
    pub(crate) server_names: Vec<(ServerName, Problem)>,
}

/// As [`load`], for whoever asks DNS.
pub(crate) fn load_with_names(path: &Path) -> Result<Loaded, LoadError> {
    loaded(path, &Outside::of_process())
}

/// The same by another environment.
pub fn parse_with(text: &str, path: &Path, outside: &Outside<'_>) -> Result<Config, Report> {
    parsed(text, path, None, outside).map(|loaded| loaded.config)
}

/// Checks again what was taken as the file at `path` before, by the contents of then and the environment of now.
pub(crate) fn again(kept: &Contents, path: &Path) -> Result<Config, Report> {
    let Ok(text) = std::str::from_utf8(kept.main()) else {
        return Err(not_utf8(kept.main(), path));
    };
    let loaded = parsed(text, path, Some(kept), &Outside::of_process())?;
    whole(loaded.config, kept)
}

/// Refuses a config that does not name all that was kept for it: it would run without a part of what ran then.
fn whole(config: Config, kept: &Contents) -> Result<Config, Report> {
    let named = |path: &PathBuf| config.contents.of(path).is_some();
    let mut paths = kept.files().iter().map(|(path, _)| path);
    let Some(left) = paths.find(|path| !named(path)) else {
        return Ok(config);
    };
    let message = format!("`{}`, which it was read from, is not named", left.display());
    let text = String::from_utf8_lossy(kept.main());
    Err(report_of(&text, &config.file, 0, (message, None)))
}

fn parsed(
    text: &str,
    path: &Path,
    kept: Option<&Contents>,
    outside: &Outside<'_>,
) -> Result<Loaded, Report> {
    deep(|| parse_here(text, path, kept, outside)).unwrap_or_else(|error| {
        let message = format!("cannot start a thread to read it: {error}");
        Err(report_of(text, path, 0, (message, None)))
    })
}

/// Does what works on a tree, which can be nested some 6,400 levels deep (80 keys in each of 80 tables), and is dropped
/// recursively.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new()
            .name("config".into())
            .stack_size(STACK);
        let thread = builder.spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

impl Config {
    /// The folder where the last good configs are kept on disk.
    pub(crate) fn state(&self) -> Option<PathBuf> {
        let state = self.process.state.as_ref()?;
        Some(beside(&self.file, state))
    }
}

impl Report {
    /// The same, as far as the texts of `file`, the main file, and of those that it includes let themselves be understood.
    pub(crate) fn state(&self, file: &Path) -> Option<PathBuf> {
        let state = deep(|| self.sources().find_map(|text| state_in(text, file)));
        Some(beside(file, &state.ok()??))
    }
}

/// What the text of one file says.
fn state_in(text: &str, file: &Path) -> Option<PathBuf> {
    let problems = Problems::new(text, file);
    let mut blanked = String::new();
    let tree = syntax::parse(text, 0, &mut blanked, &problems);
    let state = tree.get("process")?.get_ref().get("state")?;
    let state = state.get_ref().as_str()?;
    let state = variables::filled_in(state, &Outside::of_process())?;
    let is_path = !["", "off"].contains(&state.as_str());
    is_path.then(|| PathBuf::from(state))
}

/// A path as it is meant in the file `main`.
fn beside(main: &Path, path: &Path) -> PathBuf {
    main.parent().unwrap_or(Path::new("")).join(path)
}

fn parse_here(
    text: &str,
    path: &Path,
    kept: Option<&Contents>,
    outside: &Outside<'_>,
) -> Result<Loaded, Report> {
    let mut problems = Problems::new(text, path);
    let files = Files::new(path, text, kept);
    let mut blanked = String::new();
    let mut tree = syntax::parse(text, 0, &mut blanked, &problems);
    variables::replace(&mut tree, outside, &problems);
    let main = Spanned::new(0..0, DeValue::Table(tree));
    let included = include::read(&main, path, &files, &problems);
    let mut blanked_of_included = vec![String::new(); included.len()];
    // It borrows from these, so it goes before them.
    let mut root = main;
    for (file, blanked) in included.iter().zip(&mut blanked_of_included) {
        let base = problems.add_source(&file.text, &file.path);
        if let Some(at) = file.bad {
            problems.set_incomplete();
            problems.add_syntax(base + at..base + at, NOT_UTF8.into(), Some(SAVE_IT.into()));
            continue;
        }
        let mut tree = syntax::parse(&file.text, base, blanked, &problems);
        variables::replace(&mut tree, outside, &problems);
        if let DeValue::Table(root) = root.get_mut() {
            include::merge(root, tree, &problems);
        }
    }
    if let DeValue::Table(root) = root.get_mut() {
        defaults::apply(root, &problems);
    }
    let checked = check(&root, path, &files, &problems, outside.now);
    let is_clean = problems.is_clean();
    let mut report = report(&problems, &files);
    let Some(checked) = checked.filter(|_| is_clean) else {
        return Err(report);
    };
    let unresolved = |(name, value): (ServerName, Value<'_>)| {
        let message = "this name cannot be resolved".to_owned();
        let (id, warning) = ("unresolved-name", Severity::Warning);
        let problem = problems.problem(value.span, value.path, id, message, None, warning);
        (name, problem)
    };
    let names = checked.server_names.into_iter();
    let server_names: Vec<_> = names.map(unresolved).collect();
    if report.problems.is_empty() && server_names.is_empty() {
        report.sources.clear(); // nobody will be shown a line of them
    }
    // The config has both itself.
    report.files.clear();
    report.hash.clear();
    report.seen = 0;
    let mut config = checked.config;
    // Only now: of keys that nobody knows there could be more, and deeper ones, than memory holds the paths of.
    config.masked = variables::paths_of_replaced(root.get_ref(), &problems);
    config.masked.extend(paths_of_credentials(root.get_ref()));
    config.masked.sort_unstable();
    config.warnings = report;
    Ok(Loaded {
        config,
        server_names,
    })
}

fn report(found: &Problems<'_>, files: &Files) -> Report {
    let (problems, more) = found.sorted();
    Report {
        problems,
        more,
        files: files.paths(),
        hash: files.hash(),
        seen: files.seen(),
        sources: found.texts(),
    }
}

fn not_utf8(bytes: &[u8], path: &Path) -> Report {
    let at = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), |_| 0);
    // What is valid keeps its offsets.
    let (text, help) = (String::from_utf8_lossy(bytes), Some(SAVE_IT.to_owned()));
    report_of(&text, path, at, (NOT_UTF8.into(), help))
}

/// `said`: what is wrong, and what to do.
fn report_of(text: &str, path: &Path, at: usize, said: (String, Option<String>)) -> Report {
    let problems = Problems::new(text, path);
    problems.add_syntax(at..at, said.0, said.1);
    let files = Files::new(path, text, None);
    report(&problems, &files)
}

const NOT_UTF8: &str = "the file is not UTF-8";
const SAVE_IT: &str = "save it in that encoding";
const USUAL_PLACES: [&str; 2] = ["weir.toml", "/etc/weir/weir.toml"];
/// Ten thousand routes take about 1 MiB; the parser takes some fifty times as much memory as it is given.
const LARGEST_FILE: u64 = 8 << 20;
/// Only the pages that are touched count. 2 MiB, the default of threads, are too few for the deepest tree.
const STACK: usize = 64 << 20;
