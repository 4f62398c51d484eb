//! `process.state`: the configs that ran last, on disk, so that a start whose file is bad has one to run by, and a rollback
//! reaches past a restart.
//!
//! One file for each config, with the contents of all that it was read from: `weir-config 1 DIGEST`, a line of JSON that says
//! what follows, and the contents one after the other. Private keys are among them: only the user that weir runs as may read
//! it. What is damaged is told and left out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::kept::{Good, MOST};
use crate::config::{self, Config, Contents, Report};

/// What no config comes near; more is not read into memory.
const LARGEST: u64 = 256 << 20;
const MAGIC: &str = "weir-config 1 ";
/// What the times of files may be rounded to.
const TICK: Duration = Duration::from_secs(2);

/// What the line of JSON says.
#[derive(Serialize, Deserialize)]
struct Head {
    /// The main file.
    main: String,
    hash: String,
    /// Seconds since 1970.
    taken_at: u64,
    files: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct Part {
    path: String,
    length: usize,
}

/// What a folder holds for one main file.
#[derive(Default)]
pub(crate) struct Found {
    /// The one that ran last first.
    pub(crate) good: Vec<Good>,
    /// What is wrong with the others.
    pub(crate) damaged: Vec<String>,
}

/// A config to run by in place of a bad one.
#[derive(Default)]
pub(crate) struct LastGood {
    pub(crate) config: Option<Config>,
    /// Why others were passed over.
    pub(crate) told: Vec<String>,
}

/// The last config that ran by `file` and is still good, where `report`, of a bad one, tells where they are kept.
pub(crate) fn last_good(file: &Path, report: &Report) -> LastGood {
    let Some(folder) = report.state(file) else {
        return LastGood::default();
    };
    let found = load(&folder, file);
    let mut told = found.damaged;
    for good in found.good {
        match config::again(&good.contents, file) {
            Ok(config) => {
                let config = Some(config);
                return LastGood { config, told };
            }
            Err(report) => told.push(format!("{} is not good any more: {report}", good.hash)),
        }
    }
    LastGood { config: None, told }
}

/// Keeps `good`, read from the main file `main`, and of the others those that ran last. The file is there whole or not at all.
pub(super) fn save(folder: &Path, main: &Path, good: &Good) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let name = name(main, &good.hash)?;
    let aside = folder.join(format!(".{name}.new"));
    // Of a process that was killed in the middle of it.
    let _ = std::fs::remove_file(&aside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    let written = encoded(main, good).and_then(|parts| {
        for part in parts {
            file.write_all(&part)?;
        }
        // Last in order, whatever the clock said when the others were written.
        let newest = ours(folder, main)?.first().map(|(_, written)| *written);
        let ahead = newest.filter(|newest| *newest >= SystemTime::now());
        if let Some(next) = ahead.and_then(|newest| newest.checked_add(TICK)) {
            file.set_modified(next)?;
        }
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&aside, folder.join(&name))) {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    File::open(folder)?.sync_all()?;
    let files = ours(folder, main)?;
    for (old, _) in files.into_iter().skip(MOST) {
        std::fs::remove_file(old)?;
    }
    Ok(())
}

/// What is kept of the main file `main`.
pub(super) fn load(folder: &Path, main: &Path) -> Found {
    let mut found = Found::default();
    let files = match ours(folder, main) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return found,
        Err(error) => {
            let told = format!("cannot read `{}`: {error}", folder.display());
            found.damaged.push(told);
            return found;
        }
    };
    for (path, _) in files {
        if found.good.len() == MOST || found.damaged.len() == MOST {
            break;
        }
        let read = read(&path).map_err(|error| error.to_string());
        match read.and_then(|bytes| decoded(&bytes, main).map_err(str::to_owned)) {
            Ok(good) => found.good.push(good),
            Err(error) => found
                .damaged
                .push(format!("cannot use `{}`: {error}", path.display())),
        }
    }
    found
}

/// Each main file has its own: several processes may share a folder.
fn name(main: &Path, hash: &str) -> io::Result<String> {
    Ok(format!("{}{hash}.config", prefix(main)?))
}

fn prefix(main: &Path) -> io::Result<String> {
    let main = absolute(main)?;
    let path = main.as_os_str().as_encoded_bytes();
    Ok(format!("{:016x}-", xxh3_64(path)))
}

/// The files of `main`, the one written last first.
fn ours(folder: &Path, main: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let prefix = prefix(main)?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(&prefix) && name.ends_with(".config") {
            files.push((entry.path(), entry.metadata()?.modified()?));
        }
    }
    files.sort_by_key(|(path, written)| (std::cmp::Reverse(*written), path.clone()));
    Ok(files)
}

fn encoded(main: &Path, good: &Good) -> io::Result<[Vec<u8>; 2]> {
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| io::Error::other("the path of a file is not UTF-8"))
    };
    let files = good.contents.files().iter();
    let files: io::Result<Vec<_>> = files
        .map(|(path, content)| {
            let (path, length) = (text(path)?, content.len());
            Ok(Part { path, length })
        })
        .collect();
    let taken_at = good.taken_at.duration_since(UNIX_EPOCH);
    let head = Head {
        main: text(&absolute(main)?)?,
        hash: good.hash.clone(),
        taken_at: taken_at.map_or(0, |since| since.as_secs()),
        files: files?,
    };
    let mut body = serde_json::to_vec(&head)?;
    body.push(b'\n');
    for (_, content) in good.contents.files() {
        body.extend_from_slice(content);
    }
    if body.len() as u64 > LARGEST - MAGIC.len() as u64 - 65 {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok([format!("{MAGIC}{}\n", digest_of(&body)).into_bytes(), body])
}

fn decoded(bytes: &[u8], main: &Path) -> Result<Good, &'static str> {
    let damaged = "it is damaged";
    let (first, body) = line(bytes).ok_or(damaged)?;
    let said = first
        .strip_prefix(MAGIC.as_bytes())
        .ok_or("it is of another version")?;
    if said != digest_of(body).as_bytes() {
        return Err(damaged);
    }
    let (head, mut rest) = line(body).ok_or(damaged)?;
    let head: Head = serde_json::from_slice(head).map_err(|_| damaged)?;
    let is_ours = absolute(main).is_ok_and(|main| main == Path::new(&head.main));
    if !is_ours {
        return Err("it is of another file");
    }
    let mut files = Vec::new();
    for part in head.files {
        let (content, more) = rest.split_at_checked(part.length).ok_or(damaged)?;
        files.push((PathBuf::from(part.path), Arc::from(content)));
        rest = more;
    }
    let taken_at = UNIX_EPOCH.checked_add(Duration::from_secs(head.taken_at));
    Ok(Good {
        hash: head.hash,
        contents: Contents::new(files),
        taken_at: taken_at.ok_or(damaged)?,
    })
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

fn digest_of(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let digits = digest.as_ref().iter();
    digits.map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what this user, or root, has written and nobody else can have changed: whoever could would choose what weir runs by.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let safe = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(safe.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let about = file.metadata()?;
    let us = rustix::process::geteuid().as_raw();
    if !about.is_file() || ![us, 0].contains(&about.uid()) || about.mode() & 0o022 != 0 {
        return Err(io::Error::other("others could have written it"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const MAIN: &str = "/etc/weir/weir.toml";

    fn good(hash: &str) -> Good {
        Good {
            hash: hash.into(),
            contents: Contents::new([
                (MAIN.into(), Arc::from(hash.as_bytes())),
                ("/etc/weir/site.key".into(), Arc::from(&b"s3\ncret"[..])),
            ]),
            taken_at: UNIX_EPOCH + Duration::from_secs(7),
        }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    /// Saves, and makes it `seconds` old, so that the order does not hang on the clock of the disk.
    fn save_at(folder: &Path, hash: &str, seconds: u64) -> PathBuf {
        save(folder, Path::new(MAIN), &good(hash)).unwrap();
        let path = folder.join(name(Path::new(MAIN), hash).unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
        path
    }

    fn hashes(found: &Found) -> Vec<&str> {
        found.good.iter().map(|good| &*good.hash).collect()
    }

    #[test]
    fn what_is_saved_is_found_again_and_nobody_else_may_read_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/state");
        let path = save_at(&folder, "one", 1);
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        save_at(&folder, "two", 2);
        let found = load(&folder, Path::new(MAIN));
        assert_eq!(hashes(&found), ["two", "one"]);
        assert_eq!(found.good[1].contents, good("one").contents);
        assert_eq!(found.good[1].taken_at, good("one").taken_at);
        assert!(found.damaged.is_empty());
        let others = load(&folder, Path::new("/etc/other.toml"));
        assert!(others.good.is_empty() && others.damaged.is_empty());
        assert!(
            load(&place.path().join("none"), Path::new(MAIN))
                .good
                .is_empty()
        );
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            2,
            "nothing is left aside"
        );
    }

    #[test]
    fn the_oldest_make_room() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..15 {
            save_at(place.path(), &format!("{number:02}"), number);
        }
        let found = load(place.path(), Path::new(MAIN));
        assert_eq!(found.good.len(), MOST);
        assert_eq!(hashes(&found)[0], "14");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), MOST);
    }

    #[test]
    fn what_is_saved_last_is_first_whatever_the_clock_said_before() {
        let folder = tempfile::tempdir().unwrap();
        let in_a_century = 7_000_000_000;
        for number in 0..MOST {
            save_at(folder.path(), &format!("{number:016x}"), in_a_century);
        }
        for hash in ["a", "b", "c"] {
            save(folder.path(), Path::new(MAIN), &good(hash)).unwrap();
        }
        let found = load(folder.path(), Path::new(MAIN));
        assert_eq!(found.good.len(), MOST);
        assert_eq!(hashes(&found)[..3], ["c", "b", "a"]);
    }

    #[test]
    fn what_is_damaged_is_told_and_left_out() {
        let place = tempfile::tempdir().unwrap();
        save_at(place.path(), "good", 1);
        let whole = std::fs::read(save_at(place.path(), "bad", 2)).unwrap();
        let path = place.path().join(name(Path::new(MAIN), "bad").unwrap());
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let other_version = [&b"weir-config 2 "[..], &whole[MAGIC.len()..]].concat();
        let moved = String::from_utf8(whole.clone())
            .unwrap()
            .replace("weir.toml", "west.toml");
        for (content, why) in [
            (&b""[..], "damaged"),
            (&whole[..whole.len() - 1], "damaged"),
            (&whole[..20], "damaged"),
            (&flipped, "damaged"),
            (&other_version, "another version"),
            (moved.as_bytes(), "damaged"),
        ] {
            std::fs::write(&path, content).unwrap();
            let found = load(place.path(), Path::new(MAIN));
            assert_eq!(hashes(&found), ["good"], "{why}");
            assert!(
                found.damaged.len() == 1 && found.damaged[0].contains(why),
                "{:?}",
                found.damaged
            );
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let found = load(place.path(), Path::new(MAIN));
        assert!(
            found.damaged[0].contains("others could have written it"),
            "{:?}",
            found.damaged
        );
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        save(&file, Path::new(MAIN), &good("one")).unwrap_err();
        assert_eq!(load(&file, Path::new(MAIN)).damaged.len(), 1);
    }
}
