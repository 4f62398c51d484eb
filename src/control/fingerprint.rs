//! What files look like, for a comparison with what they looked like before: where the kernel tells nobody of a change.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;
use xxhash_rust::xxh3::Xxh3;

use crate::config::{matches, read_up_to};

/// What files looked like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    digest: u64,
    /// Whether one of them is where changes are not told.
    pub(super) deaf: bool,
}

impl Fingerprint {
    /// Looks at files. Blocking.
    pub(super) fn of(files: &[PathBuf]) -> Self {
        let mut digest = Xxh3::new();
        let mut deaf = false;
        for file in files {
            let mut is_deaf = is_deaf(file);
            add(&mut digest, file, is_deaf);
            if let Some((directory, pattern)) = as_pattern(file) {
                is_deaf |= self::is_deaf(directory);
                add_names(&mut digest, directory, pattern);
            }
            deaf |= is_deaf;
        }
        Self {
            digest: digest.digest(),
            deaf,
        }
    }
}

fn add(digest: &mut Xxh3, file: &Path, is_deaf: bool) {
    // Not one beside the other: times may be coarse where a file is, and contents are enough.
    if is_deaf {
        match read_up_to(file, LARGEST) {
            // The length goes first, so that bytes that move from one file to the next make a difference.
            Ok(content) => {
                digest.update(&content.len().to_ne_bytes());
                digest.update(&content);
            }
            Err(_) => digest.update(&[0]),
        }
        return;
    }
    let Ok(about) = file.metadata() else {
        return digest.update(&[0]);
    };
    for part in [about.dev(), about.ino(), about.size()] {
        digest.update(&part.to_ne_bytes());
    }
    for part in [
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec(),
    ] {
        digest.update(&part.to_ne_bytes());
    }
}

/// The directory and the names of files that may appear.
fn as_pattern(file: &Path) -> Option<(&Path, &[u8])> {
    let name = file.file_name()?.as_bytes();
    let directory = match file.parent()? {
        here if here.as_os_str().is_empty() => Path::new("."),
        directory => directory,
    };
    name.contains(&b'*').then_some((directory, name))
}

/// What is in those that are there counts where they are named themselves.
fn add_names(digest: &mut Xxh3, directory: &Path, pattern: &[u8]) {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    let matching = names.filter(|name| matches(pattern, name.as_bytes()));
    let names: BTreeSet<_> = matching.take(MOST_NAMES).collect();
    for name in names {
        digest.update(name.as_bytes());
        digest.update(b"/");
    }
}

/// Whether a file may change without inotify: by another machine, the host of this one, or a layer below.
fn is_deaf(file: &Path) -> bool {
    statfs(file).is_ok_and(|about| {
        let kind = u64::try_from(about.f_type).unwrap_or_default() & 0xffff_ffff;
        DEAF.contains(&kind)
    })
}

/// `f_type` of statfs(2).
const DEAF: [u64; 10] = [
    0x794c_7630, // overlay
    0x6969,      // NFS
    0x6573_5546, // FUSE, and so virtiofs
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2
    0x517b,      // SMB
    0x0102_1997, // 9p
    0x786f_4256, // VirtualBox
    0x5346_414f, // AFS
    0x00c3_6400, // Ceph
];
/// As the largest file of a config.
const LARGEST: u64 = 8 << 20;
/// More are in no directory that a config may name.
const MOST_NAMES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_among_those_that_are_waited_for_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("conf.d");
        let pattern = [directory.join("*.toml")];
        let none = Fingerprint::of(&pattern);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("a.toml~"), "").unwrap();
        assert_eq!(Fingerprint::of(&pattern), none);
        std::fs::write(directory.join("a.toml"), "").unwrap();
        let one = Fingerprint::of(&pattern);
        assert_ne!(one.digest, none.digest);
        std::fs::rename(directory.join("a.toml"), directory.join("b.toml")).unwrap();
        assert_ne!(Fingerprint::of(&pattern).digest, one.digest);
    }

    #[test]
    fn a_change_of_any_file_is_seen_whether_or_not_its_times_tell() {
        let place = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| place.path().join(name));
        let of = |is_deaf: bool| {
            let mut digest = Xxh3::new();
            files
                .iter()
                .for_each(|file| add(&mut digest, file, is_deaf));
            digest.digest()
        };
        for is_deaf in [false, true] {
            std::fs::write(&files[0], "one").unwrap();
            let missing = of(is_deaf);
            std::fs::write(&files[1], "two").unwrap();
            let both = of(is_deaf);
            assert_ne!(missing, both);
            assert_eq!(both, of(is_deaf));
            std::fs::write(&files[1], "three").unwrap();
            let other = of(is_deaf);
            assert_ne!(both, other);
            let file = std::fs::File::options()
                .write(true)
                .open(&files[1])
                .unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(
                other == of(is_deaf),
                is_deaf,
                "contents alone count where times are coarse"
            );
            std::fs::write(&files[0], "onet").unwrap();
            std::fs::write(&files[1], "hree").unwrap();
            assert_ne!(other, of(is_deaf), "the same bytes, cut elsewhere");
            std::fs::remove_file(&files[1]).unwrap();
        }
    }
}
