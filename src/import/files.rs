//! The files of an nginx config: read, parsed, includes put in their places.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::glob::{Finder, TooMany};
use super::syntax::{self, Directive, Place, SyntaxError};

/// Why there is nothing to import.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{file}:{line}: no nginx syntax: {message}")]
    Syntax {
        file: String,
        line: usize,
        message: String,
    },
    #[error("{file}: too much to import: {what}")]
    TooMuch { file: String, what: &'static str },
}

/// All that was read.
pub(super) struct Source {
    pub(super) tree: Vec<Directive>,
    /// The names of the files, as messages speak of them.
    pub(super) files: Vec<String>,
    /// How many directives there are in all.
    pub(super) count: usize,
    /// The directory of the main file, where nginx looks for what it includes.
    pub(super) directory: PathBuf,
    /// What was to be included and is not here: the directive by its number, and why.
    pub(super) missing: HashMap<usize, String>,
    /// Where each file, by its number, is included.
    pub(super) included: HashMap<usize, Place>,
    /// The files that are not UTF-8.
    pub(super) not_utf8: Vec<usize>,
}

/// Reads the file and all that it includes.
pub(super) fn read(path: &Path) -> Result<Source, ImportError> {
    let bytes = bytes_of(path).map_err(|source| ImportError::Read {
        path: path.to_owned(),
        source,
    })?;
    from(&bytes, path)
}

/// The same for a main file with these contents.
pub(super) fn from(bytes: &[u8], path: &Path) -> Result<Source, ImportError> {
    let mut reader = Reader {
        source: Source {
            tree: Vec::new(),
            files: Vec::new(),
            count: 0,
            directory: path.parent().unwrap_or(Path::new("")).to_owned(),
            missing: HashMap::new(),
            included: HashMap::new(),
            not_utf8: Vec::new(),
        },
        bytes: 0,
        words: 0,
        finder: Finder::default(),
    };
    let tree = reader.parse(bytes, path, 0)?;
    Ok(Source {
        tree,
        ..reader.source
    })
}

struct Reader {
    source: Source,
    bytes: usize,
    words: usize,
    finder: Finder,
}

impl Reader {
    fn parse(
        &mut self,
        bytes: &[u8],
        path: &Path,
        depth: usize,
    ) -> Result<Vec<Directive>, ImportError> {
        let number = self.source.files.len();
        let file = syntax::plain(&path.display().to_string());
        self.source.files.push(file.clone());
        self.bytes += bytes.len();
        let too_much = |what| {
            Err(ImportError::TooMuch {
                file: file.clone(),
                what,
            })
        };
        if self.bytes > LARGEST_SUM {
            return too_much("more than 8 MiB");
        }
        if number >= MOST_FILES {
            return too_much("more than 1000 files");
        }
        // Old files are often in Latin-1, which has a character for each byte.
        let text: Cow<'_, str> = match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => {
                self.source.not_utf8.push(number);
                bytes
                    .iter()
                    .copied()
                    .map(char::from)
                    .collect::<String>()
                    .into()
            }
        };
        let parsed = syntax::parse(&text, number, &mut self.source.count);
        match parsed {
            Ok(tree) => {
                self.words += words(&tree);
                if self.source.count > MOST_DIRECTIVES {
                    return too_much("more than 300,000 directives");
                }
                if self.words > MOST_WORDS {
                    return too_much("more than 1,000,000 words");
                }
                self.expand(tree, path, depth)
            }
            Err(SyntaxError { line, message }) => Err(ImportError::Syntax {
                file,
                line,
                message,
            }),
        }
    }

    /// Puts the directives of included files behind each `include`.
    fn expand(
        &mut self,
        tree: Vec<Directive>,
        path: &Path,
        depth: usize,
    ) -> Result<Vec<Directive>, ImportError> {
        let mut out = Vec::with_capacity(tree.len());
        for mut directive in tree {
            if let Some(block) = directive.block.take() {
                directive.block = Some(match holds_entries(&directive.name) {
                    true => block,
                    false => self.expand(block, path, depth)?,
                });
            }
            let included = match directive.name == "include" {
                true => self.include(&directive, path, depth)?,
                false => Vec::new(),
            };
            out.push(directive);
            out.extend(included);
        }
        Ok(out)
    }

    fn include(
        &mut self,
        directive: &Directive,
        from: &Path,
        depth: usize,
    ) -> Result<Vec<Directive>, ImportError> {
        let [pattern] = &*directive.args else {
            self.missing(directive, "`include` takes one argument");
            return Ok(Vec::new());
        };
        if depth >= DEEPEST {
            self.missing(directive, "it is included too deep, perhaps by itself");
            return Ok(Vec::new());
        }
        let is_pattern = pattern.contains(['*', '?', '[']);
        let beside = from.parent().unwrap_or(Path::new(""));
        let file = self.source.files.get(directive.place.file);
        let file = file.cloned().unwrap_or_default();
        let too_many = |TooMany| ImportError::TooMuch {
            file: file.clone(),
            what: "more than 500,000 files and directories to look through",
        };
        let directory = self.source.directory.clone();
        let mut found = self.finder.find(&directory, pattern).map_err(&too_many)?;
        if found.is_empty() {
            found = self.finder.find(beside, pattern).map_err(&too_many)?;
        }
        let mut out = Vec::new();
        let mut unread =
            (!is_pattern && found.is_empty()).then(|| "there is no such file".to_owned());
        for path in found.iter() {
            self.finder.look(1).map_err(&too_many)?;
            match bytes_of(path) {
                Ok(bytes) => {
                    let number = self.source.files.len();
                    self.source.included.insert(number, directive.place);
                    out.extend(self.parse(&bytes, path, depth + 1)?);
                }
                Err(error) => {
                    let name = syntax::plain(&path.display().to_string());
                    unread.get_or_insert_with(|| format!("`{name}` cannot be read ({error})"));
                }
            }
        }
        if let Some(why) = unread {
            self.missing(directive, &why);
        }
        Ok(out)
    }

    fn missing(&mut self, directive: &Directive, why: &str) {
        self.source.missing.insert(directive.id, why.to_owned());
    }
}

/// Blocks whose lines are entries of a table rather than directives.
pub(super) fn holds_entries(name: &str) -> bool {
    matches!(
        name,
        "types" | "map" | "geo" | "split_clients" | "charset_map"
    )
}

/// How many there are in these directives and in their blocks.
fn words(tree: &[Directive]) -> usize {
    let words = |directive: &Directive| 1 + directive.args.len() + words(directive.inner());
    tree.iter().map(words).sum()
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    Ok(bytes)
}

/// The largest configs that people write by hand have some 100 KiB.
const LARGEST_FILE: u64 = 1 << 20;
const LARGEST_SUM: usize = 8 << 20;
const MOST_FILES: usize = 1000;
/// Each takes some 100 bytes, and what is told of it as many again.
const MOST_DIRECTIVES: usize = 300_000;
const MOST_WORDS: usize = 1_000_000;
/// As in nginx, where only the limit of open files ends an include of itself.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tree: &[Directive]) -> Vec<String> {
        tree.iter().map(Directive::text).collect()
    }

    #[test]
    fn includes_stand_behind_their_directive_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "nginx.conf",
            "a;\ninclude conf.d/*.conf;\nhttp { include none/*.conf; include gone; }\nb;",
        );
        write("conf.d/2.conf", "two;");
        write("conf.d/1.conf", "one;\ninclude conf.d/inner;");
        write("conf.d/inner", "inner;");
        write("conf.d/.hidden.conf", "hidden;");
        let source = read(&folder.path().join("nginx.conf")).unwrap();
        assert_eq!(
            names(&source.tree),
            [
                "a",
                "include conf.d/*.conf",
                "one",
                "include conf.d/inner",
                "inner",
                "two",
                "http",
                "b"
            ]
        );
        let gone = &source.tree[6].inner()[1];
        let why = "there is no such file".to_owned();
        assert_eq!(source.missing, HashMap::from([(gone.id, why)]));
        assert!(
            source.files[1].ends_with("conf.d/1.conf"),
            "{:?}",
            source.files
        );
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, "a; include nginx.conf;").unwrap();
        let source = read(&path).unwrap();
        assert_eq!(source.missing.len(), 1, "{:?}", source.missing);
        std::fs::write(&path, "include nginx.conf; include nginx.conf;").unwrap();
        assert!(matches!(read(&path), Err(ImportError::TooMuch { .. })));
    }

    /// Each was read again for each `include`.
    #[test]
    fn the_same_include_20_000_times_looks_once() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::write(folder.path().join(format!("{number}.conf")), "a;").unwrap();
        }
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, "include *.none;".repeat(20_000)).unwrap();
        assert_eq!(read(&path).unwrap().tree.len(), 20_000);
        std::fs::write(&path, "include *.conf;".repeat(20_000)).unwrap();
        let error = read(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("more than 1000 files"), "{error}");
        let others = (0..20_000).map(|number| format!("include *{number}.none;"));
        std::fs::write(&path, others.collect::<String>()).unwrap();
        let error = read(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("more than 500,000 files"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_and_what_is_no_syntax_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(ImportError::Read { .. })));
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, "a {").unwrap();
        let error = read(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("nginx.conf:1: no nginx syntax"), "{error}");
    }
}
