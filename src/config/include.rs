//! `include`: further files, whose tables are put beside those of the main one.
//!
//! One level deep: what an included file may hold is what the main file may hold, but for `include`. So there are no
//! circles, and whoever reads the main file sees all that there is. Paths are relative to the main file wherever they are
//! written, those of certificates too: a table can be moved from one file to another as it is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::files::{Files, Itself};
use super::problems::Problems;
use super::value::{Name, Value, join, off, plain};
use super::values::string;

/// A file that is included.
pub(super) struct Included {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Where it ceases to be UTF-8, if it does.
    pub(super) bad: Option<usize>,
}

/// Reads what `include` of the main file names, in that order, each file once.
pub(super) fn read<'t>(
    root: &'t Spanned<DeValue<'t>>,
    main: &Path,
    files: &Files,
    problems: &'t Problems<'t>,
) -> Vec<Included> {
    let Some(include) = root.get_ref().get("include") else {
        return Vec::new();
    };
    let include = Value::new(include, "include".into(), problems);
    let mut reading = Reading {
        files,
        main,
        // The main file is its own: `*.toml` beside it means the others.
        seen: HashSet::from([files.itself(main, files.main())]),
        added: HashSet::new(),
        listed: HashMap::new(),
        looked_at: 0,
        bytes: 0,
        included: Vec::new(),
    };
    let items = match include.inner {
        DeValue::Array(items) if items.len() > MOST_NAMED => {
            let message = format!("more than {MOST_NAMED} files and patterns are named");
            let help = "name a directory by a pattern such as `conf.d/*.toml`";
            include.invalid_but(message, help);
            return Vec::new();
        }
        DeValue::Array(_) => include.items("a list"),
        _ => vec![include.clone()],
    };
    for value in items {
        if let Some(pattern) = pattern(&value)
            && reading.take(&pattern, &value).is_none()
        {
            break;
        }
    }
    reading.included
}

/// `conf.d/*.toml`
struct Pattern {
    written: String,
    /// Up to and with the last slash.
    directory: String,
    name: String,
}

fn pattern(value: &Value<'_>) -> Option<Pattern> {
    let text = string(value, "a file such as `\"conf.d/*.toml\"`")?;
    let cut = text.rfind('/').map_or(0, |slash| slash + 1);
    let (directory, name) = text.split_at(cut);
    if directory.contains('*') {
        value.invalid_but(
            format!("`{}` has a `*` in a directory", plain(text)),
            "`*` can stand for names of files alone; name each directory",
        );
    } else if name.is_empty() || matches!(name, "." | "..") || text.contains('\0') {
        let help = match text.trim_end_matches('/') {
            "" => "for example `conf.d/*.toml`".to_owned(),
            directory => format!("write `{}/*.toml` for the files in it", plain(directory)),
        };
        value.invalid_but(format!("`{}` is not a file", plain(text)), help);
    } else if name.len() > LONGEST_NAME {
        value.invalid(format!(
            "`{}` is longer than the {LONGEST_NAME} bytes that the name of a file has at most",
            plain(name)
        ));
    } else {
        return Some(Pattern {
            written: text.to_owned(),
            directory: directory.to_owned(),
            name: name.to_owned(),
        });
    }
    None
}

struct Reading<'f> {
    files: &'f Files,
    main: &'f Path,
    seen: HashSet<Itself>,
    /// By the names that they are called by here.
    added: HashSet<PathBuf>,
    /// What is in the directories that were looked through.
    listed: HashMap<PathBuf, Rc<[OsString]>>,
    /// How many names were held against patterns.
    looked_at: usize,
    bytes: u64,
    included: Vec<Included>,
}

impl Reading<'_> {
    /// `None` where there is more than can be taken.
    fn take(&mut self, pattern: &Pattern, value: &Value<'_>) -> Option<()> {
        if !pattern.name.contains('*') {
            return self.add(&self.files.at(&pattern.written), value);
        }
        self.files.expect(self.files.at(&pattern.written));
        let directory = self.files.at(&pattern.directory);
        let directory = match directory.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => directory,
        };
        let mut is_empty = true;
        for name in self.names(directory, value)?.iter() {
            let path = self.files.at(&pattern.directory).join(name);
            if !matches(pattern.name.as_bytes(), name.as_bytes()) {
                continue;
            }
            // A directory may be called so too.
            let is_known = self.added.contains(&path);
            if !is_known && self.files.has(&path) {
                self.add(&path, value)?;
            }
            is_empty &= !self.added.contains(&path);
        }
        if is_empty {
            nothing(pattern, &self.files.at(&pattern.directory), value);
        }
        Some(())
    }

    /// The names in a directory, sorted. None where there is no such directory: it may come.
    fn names(&mut self, directory: PathBuf, value: &Value<'_>) -> Option<Rc<[OsString]>> {
        let names = match self.listed.entry(directory) {
            Entry::Occupied(known) => Rc::clone(known.get()),
            Entry::Vacant(place) => {
                let mut names = self.files.names_in(place.key(), MOST_ENTRIES + 1);
                names.sort();
                Rc::clone(place.insert(names.into()))
            }
        };
        if names.len() > MOST_ENTRIES {
            let message = format!("there are more than {MOST_ENTRIES} files in the directory");
            value.invalid_but(message, "give the config a directory of its own");
            return None;
        }
        self.looked_at += names.len();
        if self.looked_at > MOST_LOOKED_AT {
            let message =
                format!("more than {MOST_LOOKED_AT} names of files are held against patterns");
            value.invalid_but(message, "name each directory once");
            return None;
        }
        Some(names)
    }

    fn add(&mut self, path: &Path, value: &Value<'_>) -> Option<()> {
        if path == self.main || !self.added.insert(path.to_owned()) {
            return Some(());
        }
        // Another name of a file that is there already is read as well: what is kept of a config has it by each.
        let content = match self.files.read_at(path, LARGEST) {
            Ok(content) => content,
            Err(error) => {
                let shown = plain(&path.to_string_lossy());
                value.invalid(format!("cannot read `{shown}`: {error}"));
                return Some(());
            }
        };
        self.bytes += content.len() as u64;
        if self.bytes > LARGEST {
            let message = format!("the files are larger than {} MiB in all", LARGEST >> 20);
            value.invalid(message);
            return None;
        }
        if !self.seen.insert(self.files.itself(path, &content)) {
            return Some(());
        }
        if self.included.len() >= MOST_FILES {
            value.invalid(format!("more than {MOST_FILES} files are included"));
            return None;
        }
        let bad = std::str::from_utf8(&content).err();
        self.included.push(Included {
            path: path.to_owned(),
            // What is valid keeps its offsets.
            text: String::from_utf8_lossy(&content).into_owned(),
            bad: bad.map(|error| error.valid_up_to()),
        });
        Some(())
    }
}

/// Files may still come, but a slip of the pen looks the same.
fn nothing(pattern: &Pattern, directory: &Path, value: &Value<'_>) {
    let message = format!("no other file matches `{}`", plain(&pattern.written));
    let help = match directory.as_os_str().is_empty() {
        true => {
            "it is looked for beside the main file; one that comes is taken by itself".to_owned()
        }
        false => format!(
            "it is looked for in `{}`; one that comes is taken by itself",
            plain(&directory.to_string_lossy())
        ),
    };
    value.warn("empty-include", message, Some(help));
}

/// Whether a name has the form of a pattern: `*` is any number of any bytes, but nothing stands for the dot at the
/// beginning of a name, as in a shell: what an editor puts aside is not taken.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let mut parts = pattern.split(|&byte| byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let found = (0..=rest.len()).find(|&at| rest[at..].starts_with(part));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Puts the tables of an included file beside those that there are. What is there already stays, with a complaint.
pub(super) fn merge<'t>(into: &mut DeTable<'t>, mut file: DeTable<'t>, problems: &Problems<'_>) {
    if let Some((key, value)) = file.remove_entry("include")
        && !off::empty_list(value.get_ref())
    {
        let name = Name {
            text: key.get_ref(),
            span: key.span(),
            path: "include".into(),
            problems,
        };
        let help = "only the main file includes others; name them there";
        let message = "`include` in a file that is included itself";
        name.problem("conflict", message, Some(help.into()));
    }
    put(into, file, "", 1, problems);
}

/// Tables within `depth` are put together, and so those of `defaults` one level deeper; all else is there once.
fn put<'t>(
    into: &mut DeTable<'t>,
    from: DeTable<'t>,
    path: &str,
    depth: usize,
    problems: &Problems<'_>,
) {
    for (key, value) in from {
        let path = join(path, key.get_ref());
        let depth = depth + usize::from(path == "defaults");
        let Some((first, known)) = into.get_key_value(&**key.get_ref()) else {
            into.insert(key, value);
            continue;
        };
        let first = first.span();
        let is_table = known.get_ref().is_table();
        match value.into_inner() {
            DeValue::Table(more) if is_table && depth > 0 => {
                if let Some(DeValue::Table(known)) =
                    into.get_mut(&**key.get_ref()).map(Spanned::get_mut)
                {
                    put(known, more, &path, depth - 1, problems);
                }
            }
            _ => twice(&key, path, &first, problems),
        }
    }
}

fn twice(key: &Spanned<DeString<'_>>, path: String, first: &Range<usize>, problems: &Problems<'_>) {
    let message = format!("`{}` is defined twice", plain(key.get_ref()));
    let help = format!("the first is at {}", problems.place(first));
    problems.add(key.span(), path, "duplicate", message, Some(help));
}

/// More are no config that anybody reads.
const MOST_FILES: usize = 1000;
/// The same for what `include` lists.
const MOST_NAMED: usize = 1000;
/// By all patterns together: about a second.
const MOST_LOOKED_AT: usize = 1_000_000;
/// Bytes. `NAME_MAX` of Linux.
const LONGEST_NAME: usize = 255;
/// What is looked through for names.
const MOST_ENTRIES: usize = 20_000;
/// All included files together. Ten thousand routes take about 1 MiB; the parser takes some fifty times as much memory as
/// it is given.
const LARGEST: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Config, Contents, LoadError, Report, again, load};
    use super::*;

    const WEB: &str = "[listen.web]\naddress = \":8080\"\n";

    /// The main file and others beside it.
    fn folder(main: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("weir.toml"), main).unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn main(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("weir.toml")
    }

    fn valid(folder: &tempfile::TempDir) -> Config {
        match load(&main(folder)) {
            Ok(config) => config,
            Err(LoadError::Invalid(report)) => panic!("{report}"),
            Err(error) => panic!("{error}"),
        }
    }

    fn refused(folder: &tempfile::TempDir) -> Report {
        match load(&main(folder)) {
            Err(LoadError::Invalid(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    /// On one line each, paths relative to the folder.
    fn told(folder: &tempfile::TempDir) -> Vec<String> {
        let beside = format!("{}/", folder.path().display());
        let lines = refused(folder).to_string().replace(&beside, "");
        lines.lines().map(str::to_owned).collect()
    }

    #[test]
    fn tables_and_keys_of_all_files_are_one_config() {
        let main = format!(
            "include = [\"conf.d/*.toml\", \"more.toml\", \"conf.d/a.toml\"]\n[log]\nlevel = \"warn\"\n{WEB}"
        );
        let folder = folder(
            &main,
            &[
                (
                    "conf.d/b.toml",
                    "[route.b]\npath = \"/b\"\nupstream = \"app\"\n",
                ),
                (
                    "conf.d/a.toml",
                    "[route.a]\nupstream = \"app\"\n[log]\naccess = \"off\"\n",
                ),
                ("conf.d/.c.toml", "no TOML"),
                ("conf.d/c.toml.bak", "no TOML"),
                ("conf.d/d.toml/e.toml", "no TOML"),
                (
                    "more.toml",
                    "[upstream.app]\nservers = [\"127.0.0.1:3000\"]\n",
                ),
            ],
        );
        let config = valid(&folder);
        let routes: Vec<_> = config
            .routes
            .iter()
            .map(|route| route.name.as_str())
            .collect();
        assert_eq!(
            routes,
            ["a", "b"],
            "in the order of the names of their files"
        );
        assert_eq!(config.log.level, super::super::LogLevel::Warn);
        assert_eq!(config.log.access, super::super::AccessLog::Off);
        let at = |name: &str| folder.path().join(name);
        let files = [
            "weir.toml",
            "conf.d/*.toml",
            "conf.d/a.toml",
            "conf.d/b.toml",
            "more.toml",
        ];
        assert_eq!(config.files, files.map(at));
        std::fs::write(at("conf.d/e.toml"), "").unwrap();
        assert_ne!(valid(&folder).hash, config.hash);
    }

    /// Neither the directory nor the disk is asked, which may hold others by then.
    #[test]
    fn what_was_included_is_taken_again_from_what_was_kept() {
        let folder = folder(
            &format!("include = [\"conf.d/*.toml\", \"other.toml\", \"*.toml\"]\n{WEB}"),
            &[
                ("conf.d/a.toml", "[route.a]\npath = \"/a\"\nrespond = {}\n"),
                ("conf.d/b.toml", "[route.b]\npath = \"/b\"\nrespond = {}\n"),
            ],
        );
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("conf.d/b.toml", at("other.toml")).unwrap();
        let config = valid(&folder);
        assert_eq!(config.routes.len(), 2);
        std::fs::remove_file(at("conf.d/b.toml")).unwrap();
        std::fs::write(at("conf.d/c.toml"), "[route.c]\nrespond = {}\n").unwrap();
        assert_eq!(again(&config.contents, &main(&folder)).unwrap(), config);
        let kept = config.contents.files().to_vec();
        let kept = |wanted: &dyn Fn(&Path) -> bool| {
            let files = kept.iter().filter(|(path, _)| wanted(path));
            Contents::new(files.cloned())
        };
        let less = kept(&|path| path != at("other.toml"));
        let report = again(&less, &main(&folder)).unwrap_err().to_string();
        assert!(report.contains("not among what was kept"), "{report}");
    }

    /// As where the environment that named it is another one.
    #[test]
    fn what_was_kept_is_not_taken_without_a_part_of_it() {
        let folder = folder(
            &format!("include = \"*.toml\"\n{WEB}"),
            &[("a.toml", "[route.a]\nrespond = {}\n")],
        );
        let mut files = valid(&folder).contents.files().to_vec();
        files.push((folder.path().join("b.txt"), Arc::from(&b""[..])));
        let report = again(&Contents::new(files), &main(&folder)).unwrap_err();
        let told = report.to_string();
        assert!(
            told.ends_with("b.txt`, which it was read from, is not named"),
            "{told}"
        );
    }

    #[test]
    fn the_main_file_is_not_its_own() {
        let folder = folder(
            &format!("include = \"*.toml\"\n{WEB}"),
            &[("a.toml", "[route.a]\nrespond = {}\n")],
        );
        assert_eq!(valid(&folder).routes.len(), 1);
    }

    #[test]
    fn a_pattern_that_no_file_has_is_a_warning() {
        let folder = folder(
            &format!(
                "include = [\"conf.d/*.conf\", \"none.d/*.toml\", \"*.toml\", \"conf.d/*\", \"conf.d/a*\"]\n{WEB}"
            ),
            &[("conf.d/a.toml", "[route.a]\nrespond = {}\n")],
        );
        let config = valid(&folder);
        let warnings = config.warnings.problems.iter();
        let told = warnings.map(|problem| {
            problem
                .to_string()
                .replace(&*folder.path().to_string_lossy(), "")
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "/weir.toml:1:12: include[0]: no other file matches `conf.d/*.conf`; it is looked for in `/conf.d/`; one that comes is taken by itself",
                "/weir.toml:1:29: include[1]: no other file matches `none.d/*.toml`; it is looked for in `/none.d/`; one that comes is taken by itself",
                "/weir.toml:1:46: include[2]: no other file matches `*.toml`; it is looked for in `/`; one that comes is taken by itself",
            ]
        );
    }

    /// Also what is wrong in the main file with what stands in another, and the other way round.
    #[test]
    fn each_problem_is_told_in_its_file_with_its_line() {
        let main =
            format!("include = [\"a.toml\", \"b.toml\"]\n{WEB}[route.x]\nupstream = \"nope\"\n");
        let folder = folder(
            &main,
            &[
                (
                    "a.toml",
                    "[route.a]\npath = \"/a\"\nupstream = \"app\"\ntimeout = 5\n",
                ),
                (
                    "b.toml",
                    "\n[upstream.app]\nservers = [\"10.0.0.1\"]\n[route.b]\npath = \"/b\"\ntimeout = 5s\nrespond = {}",
                ),
            ],
        );
        assert_eq!(
            told(&folder),
            [
                "weir.toml:5:12: route.x.upstream: there is no upstream `nope`; the only one is `app`",
                "a.toml:4:11: route.a.timeout: expected a duration with a unit such as `\"5s\"`, found the number `5`; write `\"5s\"` for seconds or `\"5ms\"` for milliseconds",
                "b.toml:3:12: upstream.app.servers[0]: `10.0.0.1` has no port; write `10.0.0.1:8080`",
                "b.toml:6:11: string values must be quoted, expected literal string; write `\"5s\"`",
            ]
        );
        let blocks = refused(&folder).render(false);
        for line in [
            "5 | upstream = \"nope\"\n  |            ^^^^^^",
            "4 | timeout = 5\n  |           ^",
            "3 | servers = [\"10.0.0.1\"]\n  |            ^^^^^^^^^^",
            "6 | timeout = 5s\n  |           ^^",
        ] {
            assert!(blocks.contains(line), "{line}\n{blocks}");
        }
    }

    #[test]
    fn what_two_files_define_is_shown_with_both_places() {
        let main = format!(
            "include = \"a.toml\"\n[process]\nworkers = 1\n{WEB}[route.a]\nrespond = {{}}\n[defaults.route]\ntimeout = \"5s\"\n"
        );
        let other = "[route.a]\nrespond = {}\n[process]\nworkers = 2\ndrain = \"1s\"\n[defaults.route]\ntimeout = \"6s\"\n";
        let folder = folder(&main, &[("a.toml", other)]);
        let lines = told(&folder);
        for line in [
            "a.toml:1:8: route.a: `a` is defined twice; the first is at weir.toml:6:8",
            "a.toml:4:1: process.workers: `workers` is defined twice; the first is at weir.toml:3:1",
            "a.toml:7:1: defaults.route.timeout: `timeout` is defined twice; the first is at weir.toml:9:1",
        ] {
            assert!(
                lines
                    .iter()
                    .any(|told| told.replace(&*folder.path().to_string_lossy(), "") == *line),
                "{line}\n{lines:?}"
            );
        }
    }

    #[test]
    fn a_file_that_must_be_there_may_not_be_missing_and_includes_are_one_level_deep() {
        let main = format!(
            "include = [\"none.d/*.toml\", \"none.toml\", \"a.toml\", \"*/b.toml\", \"conf.d/\", 5, \"bad.toml\"]\n{WEB}[route.a]\nrespond = {{}}\n"
        );
        let folder = folder(&main, &[("a.toml", "include = [\"b.toml\"]\n")]);
        std::fs::write(folder.path().join("bad.toml"), b"a = \"\xff\"\n").unwrap();
        assert_eq!(
            told(&folder),
            [
                "weir.toml:1:29: include[1]: cannot read `none.toml`: No such file or directory (os error 2)",
                "weir.toml:1:52: include[3]: `*/b.toml` has a `*` in a directory; `*` can stand for names of files alone; name each directory",
                "weir.toml:1:64: include[4]: `conf.d/` is not a file; write `conf.d/*.toml` for the files in it",
                "weir.toml:1:75: include[5]: expected a file such as `\"conf.d/*.toml\"`, found the number `5`",
                "a.toml:1:1: include: `include` in a file that is included itself; only the main file includes others; name them there",
                "bad.toml:1:6: the file is not UTF-8; save it in that encoding",
            ]
        );
    }

    #[test]
    fn files_without_end_are_refused() {
        let folder = folder(
            &format!("include = \"*.toml\"\n{WEB}[route.a]\nrespond = {{}}\n"),
            &[],
        );
        for number in 0..MOST_FILES + 1 {
            std::fs::write(folder.path().join(format!("{number}.toml")), "").unwrap();
        }
        assert_eq!(
            told(&folder),
            ["weir.toml:1:11: include: more than 1000 files are included"]
        );
        for number in 0..9 {
            let text = "#".repeat(1 << 20);
            std::fs::write(folder.path().join(format!("0{number}.toml")), text).unwrap();
        }
        assert_eq!(
            told(&folder),
            ["weir.toml:1:11: include: the files are larger than 8 MiB in all"]
        );
    }

    #[test]
    fn names_and_patterns_without_end_are_refused() {
        let include = |number: usize, each: &dyn Fn(usize) -> String| {
            let names: Vec<_> = (0..number)
                .map(|each_of| format!("{:?}", each(each_of)))
                .collect();
            let include = names.join(", ");
            folder(
                &format!("include = [{include}]\n{WEB}[route.a]\nrespond = {{}}\n"),
                &[],
            )
        };
        let limit = "include: more than 1000 files and patterns are named; name a directory by a pattern such as `conf.d/*.toml`";
        for each in [&|number| format!("{number}.toml"), &|_| "*.toml".to_owned()]
            as [&dyn Fn(usize) -> String; 2]
        {
            let many = include(MOST_NAMED + 1, each);
            assert_eq!(told(&many), [format!("weir.toml:1:11: {limit}")]);
        }
        valid(&include(MOST_NAMED, &|_| "*.toml".to_owned()));
        let many = include(MOST_NAMED, &|number| format!("*{number}.toml"));
        for number in 0..MOST_LOOKED_AT / MOST_NAMED {
            std::fs::write(many.path().join(number.to_string()), "").unwrap();
        }
        assert_eq!(
            told(&many),
            [
                "weir.toml:1:12889: include[999]: more than 1000000 names of files are held against patterns; name each directory once"
            ]
        );
        let long = include(1, &|_| format!("*{}", "a".repeat(255)));
        assert!(told(&long)[0].contains("is longer than the 255 bytes"));
    }

    /// So that a table can go from one file to another as it is.
    #[test]
    fn paths_in_an_included_file_are_relative_to_the_main_one() {
        let folder = folder(
            &format!("include = \"conf.d/a.toml\"\n{WEB}[route.a]\nrespond = {{}}\n"),
            &[
                ("conf.d/a.toml", "[admin]\ntoken = \"file:token\"\n"),
                ("conf.d/token", "wrong"),
                ("token", "right"),
            ],
        );
        assert_eq!(valid(&folder).admin.token.as_deref(), Some("right"));
    }

    #[test]
    fn a_star_stands_for_any_part_of_a_name_but_not_for_its_first_dot() {
        let good = [
            ("*", "a"),
            ("*.toml", "a.toml"),
            ("*.toml", "a.b.toml"),
            ("a*", "a"),
            ("a*b*c", "a-b-b-c"),
            (".*", ".a"),
            ("a", "a"),
        ];
        for (pattern, name) in good {
            assert!(
                matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        let bad = [
            ("*", ".a"),
            ("*.toml", "a.toml~"),
            ("*.toml", ".a.toml"),
            ("a*a", "a"),
            ("a*b*c", "a-c"),
            ("a", "ab"),
            ("*ab*ab", "ab"),
        ];
        for (pattern, name) in bad {
            assert!(
                !matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
    }
}
