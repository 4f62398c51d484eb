//! What was read for a config, kept so that it can be checked again when its files are gone.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

/// The contents of the main file and of all that it names, private keys among them: never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Contents(Vec<(PathBuf, Arc<[u8]>)>);

impl Contents {
    /// The main file comes first. Paths are made absolute: they must mean the same when weir runs from elsewhere.
    pub(crate) fn new(files: impl IntoIterator<Item = (PathBuf, Arc<[u8]>)>) -> Self {
        let files = files.into_iter();
        Self(
            files
                .map(|(path, content)| (in_full(&path), content))
                .collect(),
        )
    }

    /// Those of the main file.
    pub(crate) fn main(&self) -> &[u8] {
        self.0.first().map_or(&[], |(_, content)| content)
    }

    pub(super) fn of(&self, path: &Path) -> Option<&Arc<[u8]>> {
        let path = in_full(path);
        let found = self.0.iter().find(|(known, _)| *known == path);
        found.map(|(_, content)| content)
    }

    /// The names of all that is in a directory.
    pub(super) fn names_in(&self, directory: &Path) -> Vec<OsString> {
        let directory = in_full(directory);
        let inside = self.0.iter().map(|(path, _)| path);
        let inside = inside.filter(|path| path.parent() == Some(&directory));
        let names = inside.filter_map(|path| path.file_name());
        names.map(OsStr::to_owned).collect()
    }

    /// Puts other contents in the place of those of a file.
    pub(super) fn replace(&mut self, path: &Path, content: Arc<[u8]>) {
        let path = in_full(path);
        let known = self.0.iter_mut().find(|(known, _)| *known == path);
        if let Some((_, known)) = known {
            *known = content;
        }
    }

    /// All, the main file first.
    pub(crate) fn files(&self) -> &[(PathBuf, Arc<[u8]>)] {
        &self.0
    }

    /// Bytes.
    pub(crate) fn size(&self) -> usize {
        self.0.iter().map(|(_, content)| content.len()).sum()
    }

    /// Holds what is the same in `others` once for both.
    pub(crate) fn share(&mut self, others: &Self) {
        for (path, content) in &mut self.0 {
            let same = others.0.iter().find(|(known, _)| known == path);
            if let Some((_, same)) = same
                && same == content
            {
                *content = Arc::clone(same);
            }
        }
    }
}

fn in_full(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// How many bytes, not which.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.0.iter().map(|(path, content)| (path, content.len()));
        f.debug_map().entries(sizes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        Contents::new(
            files
                .iter()
                .map(|(path, content)| (path.into(), Arc::from(content.as_bytes()))),
        )
    }

    #[test]
    fn what_is_in_a_key_is_not_printed() {
        let printed = format!("{:?}", contents(&[("/etc/site.key", "s3cret")]));
        assert_eq!(printed, "{\"/etc/site.key\": 6}");
    }

    #[test]
    fn a_relative_path_is_found_by_its_whole_one() {
        let kept = contents(&[("weir.toml", "a")]);
        let whole = absolute("weir.toml").unwrap();
        assert_eq!(kept.of(&whole).unwrap().as_ref(), b"a");
        assert!(kept.of(Path::new("other.toml")).is_none());
        assert_eq!(kept.names_in(Path::new(".")), ["weir.toml"]);
        assert_eq!(kept.names_in(Path::new("conf.d")), [""; 0]);
    }

    #[test]
    fn what_is_the_same_is_held_once() {
        let old = contents(&[("/a", "same"), ("/b", "old")]);
        let mut new = contents(&[("/a", "same"), ("/b", "new")]);
        new.share(&old);
        assert!(Arc::ptr_eq(&new.0[0].1, &old.0[0].1));
        assert_eq!(new.0[1].1.as_ref(), b"new");
        assert_eq!(new.size(), 7);
    }
}
