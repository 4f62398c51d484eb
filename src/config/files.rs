//! The files that a configuration names: read once each, remembered for the watch and the hash.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};

use super::Contents;

/// What is in a file, or why that is not known.
pub(super) type Content = Result<Arc<[u8]>, String>;

/// What tells one included file from another, whatever they are called.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Itself {
    Place(PathBuf),
    /// Of what was kept there is no place any more. Two files of the same contents would have defined everything twice.
    Content(Arc<[u8]>),
}

/// Reads files relative to the directory of the main file.
pub(super) struct Files {
    directory: PathBuf,
    text: Arc<[u8]>,
    /// Read from in place of the disk.
    kept: Option<Contents>,
    /// Also those that could not be read, and patterns of names: the watch waits for them.
    paths: RefCell<Vec<PathBuf>>,
    contents: RefCell<HashMap<PathBuf, Content>>,
    /// Those that are in `hash`.
    counted: RefCell<HashSet<PathBuf>>,
    hash: RefCell<Hash>,
    /// Of all files.
    seen: RefCell<Hash>,
    /// Bytes that may still be read.
    room: Cell<u64>,
}

impl Files {
    pub(super) fn new(main: &Path, text: &str, kept: Option<&Contents>) -> Self {
        let (mut hash, mut seen) = (Hash::default(), Hash::default());
        hash.add(text.as_bytes());
        seen.add(text.as_bytes());
        Self {
            directory: main.parent().unwrap_or(Path::new("")).to_owned(),
            text: text.as_bytes().into(),
            kept: kept.cloned(),
            paths: RefCell::new(vec![main.to_owned()]),
            contents: RefCell::default(),
            counted: RefCell::default(),
            hash: RefCell::new(hash),
            seen: RefCell::new(seen),
            room: Cell::new(LARGEST_IN_ALL),
        }
    }

    /// Whether they are those of a config that was taken before, which runs by what was kept of it.
    pub(super) fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(super) fn read(&self, written: &str) -> Content {
        self.read_at(&self.at(written), LARGEST)
    }

    /// Where a file is that is written like that.
    pub(super) fn at(&self, written: &str) -> PathBuf {
        self.directory.join(written)
    }

    /// The same for what is no part of the config's hash, since it changes by itself.
    pub(super) fn read_apart(&self, written: &str) -> Content {
        self.look_at(&self.at(written), LARGEST)
    }

    /// The same for a path as it is.
    pub(super) fn read_at(&self, path: &Path, limit: u64) -> Content {
        let content = self.look_at(path, limit);
        if self.counted.borrow_mut().insert(path.to_owned()) {
            let content = content.as_deref().unwrap_or_default();
            self.hash.borrow_mut().add(content);
        }
        content
    }

    fn look_at(&self, path: &Path, limit: u64) -> Content {
        if let Some(known) = self.contents.borrow().get(path) {
            return known.clone();
        }
        let content = match &self.kept {
            Some(kept) => kept
                .of(path)
                .cloned()
                .ok_or_else(|| "it is not among what was kept".to_owned()),
            None if self.room.get() == 0 => Err(TOO_LARGE.to_owned()),
            None => read_up_to(path, limit)
                .map(Arc::from)
                .map_err(|error| error.to_string()),
        };
        let content = content.and_then(|content: Arc<[u8]>| {
            let rest = self.room.get().checked_sub(content.len() as u64);
            self.room.set(rest.unwrap_or(0));
            rest.map(|_| content).ok_or_else(|| TOO_LARGE.to_owned())
        });
        self.seen
            .borrow_mut()
            .add(content.as_deref().unwrap_or_default());
        self.paths.borrow_mut().push(path.to_owned());
        let mut contents = self.contents.borrow_mut();
        contents.insert(path.to_owned(), content.clone());
        content
    }

    /// Tells the watch of files that may appear.
    pub(super) fn expect(&self, pattern: PathBuf) {
        self.paths.borrow_mut().push(pattern);
    }

    /// The names of what is in a directory, `most` at most; none where there is no such directory.
    pub(super) fn names_in(&self, directory: &Path, most: usize) -> Vec<OsString> {
        match &self.kept {
            Some(kept) => kept.names_in(directory),
            None => {
                let entries = std::fs::read_dir(directory).into_iter().flatten();
                let names = entries.flatten().map(|entry| entry.file_name());
                names.take(most).collect()
            }
        }
    }

    /// Whether there is such a file; `false` for a directory.
    pub(super) fn has(&self, path: &Path) -> bool {
        match &self.kept {
            Some(kept) => kept.of(path).is_some(),
            None => path.is_file(),
        }
    }

    /// Which file that is.
    pub(super) fn itself(&self, path: &Path, content: &Arc<[u8]>) -> Itself {
        match &self.kept {
            Some(_) => Itself::Content(Arc::clone(content)),
            None => Itself::Place(path.canonicalize().unwrap_or_else(|_| path.to_owned())),
        }
    }

    /// What is in the main file.
    pub(super) fn main(&self) -> &Arc<[u8]> {
        &self.text
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.paths.borrow().clone()
    }

    /// All that was read.
    pub(super) fn contents(&self) -> Contents {
        let contents = self.contents.borrow();
        let paths = self.paths.borrow();
        let read = paths.iter().enumerate().filter_map(|(number, path)| {
            let content = match number {
                0 => &self.text,
                _ => contents.get(path)?.as_ref().ok()?,
            };
            Some((path.clone(), Arc::clone(content)))
        });
        Contents::new(read)
    }

    /// Hash over the contents of all files so far, in the order in which they were first named, but for those that were read
    /// apart.
    pub(super) fn hash(&self) -> String {
        format!("{:016x}", self.hash.borrow().0)
    }

    /// The same for all without exception.
    pub(super) fn seen(&self) -> u64 {
        self.seen.borrow().0
    }
}

/// Reads a regular file of at most `limit` bytes: a wrong path cannot fill the memory, nor can a pipe that nobody writes to
/// hold up whoever reads.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = File::from(open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    if !file.metadata()?.is_file() {
        let message = "not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        let message = format!("larger than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

/// FNV-1a, 64 bits: tells contents apart and stays the same from build to build. No defence against forgery.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// The length goes first, so that bytes that move from one file to the next make a difference.
    fn add(&mut self, content: &[u8]) {
        let length = (content.len() as u64).to_le_bytes();
        for byte in length.iter().chain(content) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

const TOO_LARGE: &str = "the files of the config are larger than 64 MiB in all";
/// They are all kept in memory. Ten thousand certificates and keys are below it.
const LARGEST_IN_ALL: u64 = 64 << 20;
/// Certificate chains are a few KiB.
pub(super) const LARGEST: u64 = 1 << 20;
