//! The files that a pattern such as `conf.d/*.conf` names, in the order of their names.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// Looks for files. What it has seen once it does not look at again: configs include the same snippet in each of their servers.
#[derive(Default)]
pub(super) struct Finder {
    /// By directory and pattern.
    found: HashMap<(PathBuf, String), Rc<[PathBuf]>>,
    listed: HashMap<PathBuf, Rc<[OsString]>>,
    looks: usize,
}

/// There are more files and directories than any config has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Finder {
    /// All that match, below `directory` unless the pattern is absolute. Without `*`, `?` and `[` at most one.
    pub(super) fn find(
        &mut self,
        directory: &Path,
        pattern: &str,
    ) -> Result<Rc<[PathBuf]>, TooMany> {
        let key = (directory.to_owned(), pattern.to_owned());
        if let Some(found) = self.found.get(&key) {
            return Ok(found.clone());
        }
        let found: Rc<[PathBuf]> = self.look_for(directory, pattern)?.into();
        self.found.insert(key, found.clone());
        Ok(found)
    }

    fn look_for(&mut self, directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, TooMany> {
        let mut found = vec![directory.to_owned()];
        for component in Path::new(pattern).components() {
            let Component::Normal(name) = component else {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            };
            let name = name.to_string_lossy();
            let mut below = Vec::new();
            for path in found {
                match name.contains(['*', '?', '[']) {
                    true => below.extend(self.children(&path, &name)?),
                    false => below.push(path.join(&*name)),
                }
                if below.len() >= MOST {
                    below.truncate(MOST);
                    break;
                }
            }
            found = below;
            self.look(found.len())?;
        }
        found.retain(|path| path.exists());
        Ok(found)
    }

    fn children(&mut self, directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, TooMany> {
        let all = self.list(directory)?;
        let mut names = Vec::new();
        for name in all.iter() {
            // What a comparison takes grows with both.
            self.look(1 + pattern.len() * name.len() / 4096)?;
            if matches(pattern, &name.to_string_lossy()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names.into_iter().map(|name| directory.join(name)).collect())
    }

    fn list(&mut self, directory: &Path) -> Result<Rc<[OsString]>, TooMany> {
        if let Some(names) = self.listed.get(directory) {
            return Ok(names.clone());
        }
        self.look(1)?;
        // The empty path is the working directory.
        let place = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            self.look(1)?;
            names.push(entry.file_name());
        }
        let names: Rc<[OsString]> = names.into();
        self.listed.insert(directory.to_owned(), names.clone());
        Ok(names)
    }

    /// Counts what is looked at.
    pub(super) fn look(&mut self, number: usize) -> Result<(), TooMany> {
        self.looks += number;
        match self.looks > MOST_LOOKS {
            true => Err(TooMany),
            false => Ok(()),
        }
    }
}

/// Whether a name is of the pattern. As in shells, `*` and `?` are for no dot at the beginning.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: one character later.
    let mut last_star = None;
    while let Some(&character) = name.get(place) {
        if pattern.get(at) == Some(&'*') {
            at += 1;
            last_star = Some((at, place));
        } else if let Some(length) = one(pattern.get(at..).unwrap_or_default(), character) {
            at += length;
            place += 1;
        } else if let Some((after, from)) = last_star {
            (at, place) = (after, from + 1);
            last_star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|&rest| rest == '*')
}

/// How much of the pattern stands for the character; `None` where it does not.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', class @ ..] => {
            let negated = matches!(class, ['!' | '^', ..]);
            let skip = usize::from(negated);
            let items = class.get(skip..)?;
            // A `]` that comes first is one of the characters.
            let end = 1 + items.get(1..)?.iter().position(|&item| item == ']')?;
            let inside = in_class(items.get(..end)?, character);
            (inside != negated).then_some(1 + skip + end + 1)
        }
        [literal, ..] => (*literal == character).then_some(1),
        [] => None,
    }
}

fn in_class(mut items: &[char], character: char) -> bool {
    while let [first, rest @ ..] = items {
        if let ['-', last, after @ ..] = rest {
            if (*first..=*last).contains(&character) {
                return true;
            }
            items = after;
        } else {
            if *first == character {
                return true;
            }
            items = rest;
        }
    }
    false
}

/// More files than this are no config.
const MOST: usize = 1001;
/// Names in directories, comparisons of them, and files.
const MOST_LOOKS: usize = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, name, fits) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*", "", true),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("?.conf", "ab.conf", false),
            ("[0-9][0-9]-*", "10-site", true),
            ("[!a-c]x", "dx", true),
            ("[!a-c]x", "bx", false),
            ("[]a]", "]", true),
            ("[a", "[a", false),
            ("*.{a}", "x.{a}", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_directory_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "c"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut finder = Finder::default();
        let found = finder.find(folder.path(), "*.conf").unwrap();
        assert_eq!(
            *found,
            [folder.path().join("a.conf"), folder.path().join("b.conf")]
        );
        let looks = finder.looks;
        for _ in 0..1000 {
            finder.find(folder.path(), "*.conf").unwrap();
        }
        assert_eq!(finder.looks, looks);
        // Another pattern compares the three names, and looks for one file.
        finder.find(folder.path(), "c*").unwrap();
        assert_eq!(finder.looks, looks + 4);
    }

    #[test]
    fn what_would_take_for_ever_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        for name in 0..100 {
            std::fs::create_dir(folder.path().join(name.to_string())).unwrap();
        }
        let mut finder = Finder::default();
        let pattern = "*/../".repeat(800);
        assert_eq!(finder.find(folder.path(), &pattern), Err(TooMany));
    }
}
