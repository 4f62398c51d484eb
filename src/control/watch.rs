//! Watching the config file: every directory on the symlink chain of every file that was read, so that an editor's
//! rename and a ConfigMap's swap are seen as well as a write in place; and every file by itself, since one that is mounted
//! alone is written to from another directory. What the kernel does not tell (another mount in its place, a change on
//! another machine) is found by looking now and then.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use super::fingerprint::Fingerprint;
use super::reload::Source;
use crate::config::matches;

/// A change is taken after this much quiet,
const QUIET: Duration = Duration::from_millis(300);
/// and this long after its first event at the latest.
const LATEST: Duration = Duration::from_secs(2);
/// How often files are looked at where the kernel tells of their changes: a net, for what it does not tell.
const NET: Duration = Duration::from_secs(5);
/// The same where it does not.
const DEAF: Duration = Duration::from_secs(2);
/// How long a look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Links that are followed from one file.
const MAX_LINKS: usize = 16;

/// Watches the files of `source`, and takes its config when their contents change. Ends with the runtime.
pub(crate) async fn watch(source: Arc<Source>) {
    let (events, mut changed) = unbounded_channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // The receiver is gone only when the process ends.
        let _ = events.send(event);
    });
    let watcher = match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "cannot watch the config file; it is looked at now and then");
            None
        }
    };
    let mut watch = Watch {
        watcher,
        places: Places::default(),
        looking: Arc::default(),
    };
    let mut files = source.files();
    // Before each reading: what changes after it is seen next time. Nobody has looked yet.
    let mut seen = Fingerprint::default();
    loop {
        let now = files.borrow_and_update().clone();
        // A file system that hangs holds up the watch, and nothing else.
        let follow = {
            let now = now.clone();
            move || {
                let moved = watch.follow(&now);
                (watch, moved)
            }
        };
        let moved;
        (watch, moved) = match tokio::task::spawn_blocking(follow).await {
            Ok(followed) => followed,
            Err(error) => {
                return tracing::error!(%error, "the files are watched no more; this is a defect of weir, please report it");
            }
        };
        // What changed in a directory before it was watched has told nobody: another look, after the same quiet.
        if !moved {
            tokio::select! {
                () = watch.change(&mut changed) => {},
                () = watch.other_than(seen, &now) => {},
                // Somebody else has taken a config; the watch may have others to follow.
                others = files.changed() => match others {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        seen = watch.settled(&mut changed, &now).await;
        // Without an attempt the contents are the same, but a link may lead to them by another way now.
        let _ = source.take_file(true).await;
        // Whatever became of it: what runs has certificates, too.
        source.renew().await;
    }
}

/// Directories to watch, and the names in them that matter; those with `*` are patterns of names that may appear.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    files: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
    names: BTreeSet<OsString>,
}

impl Places {
    /// Everything on the way to `files`.
    fn of(files: &[PathBuf]) -> Self {
        let mut places = Self {
            files: files.iter().cloned().collect(),
            ..Self::default()
        };
        let mut seen = BTreeSet::new();
        for file in files {
            places.add(file, &mut seen, MAX_LINKS);
        }
        places
    }

    fn add(&mut self, path: &Path, seen: &mut BTreeSet<PathBuf>, links: usize) {
        if !seen.insert(path.to_owned()) {
            return;
        }
        let Some(name) = path.file_name() else { return };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.names.insert(name.to_owned());
        match parent.canonicalize() {
            Ok(real) => {
                self.directories.insert(real);
            }
            // It may be made later, as may the directory that it is in.
            Err(_) => self.add(parent, seen, links),
        }
        if links == 0 {
            return;
        }
        // A directory on the way may itself be a link that is swapped, as in a ConfigMap (`..data`).
        for directory in parent
            .ancestors()
            .filter(|directory| directory.is_symlink())
        {
            self.add(directory, seen, links - 1);
        }
        if let Ok(target) = path.read_link() {
            self.add(&parent.join(target), seen, links - 1);
        }
    }

    fn patterns_match(&self, name: &OsStr) -> bool {
        let names = self.names.iter().map(|pattern| pattern.as_bytes());
        names
            .filter(|pattern| pattern.contains(&b'*'))
            .any(|pattern| matches(pattern, name.as_bytes()))
    }

    fn concern(&self, event: &Event) -> bool {
        let reading_only = matches!(event.kind, EventKind::Access(_));
        let named = event
            .paths
            .iter()
            .filter_map(|path| path.file_name())
            .any(|name| self.names.contains(name) || self.patterns_match(name));
        // A directory that was removed may come back as another one of the same name.
        let of_a_directory = event
            .paths
            .iter()
            .any(|path| self.directories.contains(path));
        !reading_only && (named || of_a_directory || event.paths.is_empty() || event.need_rescan())
    }
}

struct Watch {
    /// `None` where the kernel has none left.
    watcher: Option<RecommendedWatcher>,
    places: Places,
    /// Locked while somebody looks at the files. Where their file system hangs, that one is enough.
    looking: Arc<Mutex<()>>,
}

impl Watch {
    /// Watches the directories of `files`, and no others any more. Returns whether there are new ones among them.
    fn follow(&mut self, files: &[PathBuf]) -> bool {
        let places = Places::of(files);
        let Some(watcher) = &mut self.watcher else {
            self.places = places;
            return false;
        };
        let gone = self.places.directories.difference(&places.directories);
        for gone in gone.chain(self.places.files.difference(&places.files)) {
            // It may have been removed, which ended its watch.
            let _ = watcher.unwatch(gone);
        }
        // All, not the new ones alone: one may have been removed and made again, which ended its watch.
        for directory in &places.directories {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, directory = %directory.display(), "cannot watch; it is looked at now and then");
            }
        }
        for file in &places.files {
            // One that is not there is seen when it comes.
            let _ = watcher.watch(file, RecursiveMode::NonRecursive);
        }
        let more = !places.directories.is_subset(&self.places.directories);
        self.places = places;
        more
    }

    /// What files look like; as nothing does, where that cannot be told in time.
    async fn look(&self, files: &[PathBuf]) -> Fingerprint {
        let Ok(alone) = Arc::clone(&self.looking).try_lock_owned() else {
            return Fingerprint::default();
        };
        let files = files.to_vec();
        let looking = tokio::task::spawn_blocking(move || {
            let looks = Fingerprint::of(&files);
            drop(alone);
            looks
        });
        let looked = timeout_at(Instant::now() + LOOK_WITHIN, looking).await;
        looked.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Waits until files look other than they did.
    async fn other_than(&self, seen: Fingerprint, files: &[PathBuf]) {
        let every = if seen.deaf { DEAF } else { NET };
        loop {
            tokio::time::sleep(every).await;
            let now = self.look(files).await;
            if now != seen && now != Fingerprint::default() {
                return;
            }
        }
    }

    /// Waits for a change.
    async fn change(&self, events: &mut UnboundedReceiver<notify::Result<Event>>) {
        loop {
            match events.recv().await {
                Some(Ok(event)) if self.places.concern(&event) => return,
                Some(_) => {}
                // There is nobody to tell.
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until nothing has changed for a while: whoever writes a file is done. Returns what the files look like then.
    async fn settled(
        &self,
        events: &mut UnboundedReceiver<notify::Result<Event>>,
        files: &[PathBuf],
    ) -> Fingerprint {
        let latest = Instant::now() + LATEST;
        let mut seen = Fingerprint::default();
        loop {
            self.quiet(events, latest).await;
            let now = self.look(files).await;
            if !now.deaf || now == seen || Instant::now() >= latest {
                return now;
            }
            seen = now;
        }
    }

    /// The same as far as the kernel tells of it. What goes on beside the files that matter is none of it.
    async fn quiet(&self, events: &mut UnboundedReceiver<notify::Result<Event>>, latest: Instant) {
        let mut until = (Instant::now() + QUIET).min(latest);
        loop {
            match timeout_at(until, events.recv()).await {
                Ok(Some(event)) => {
                    if event.is_ok_and(|event| self.places.concern(&event)) {
                        until = (Instant::now() + QUIET).min(latest);
                    }
                }
                // There is nobody to tell.
                Ok(None) => return tokio::time::sleep_until(until).await,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_directory_on_the_way_to_a_file_is_watched() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("..2026_01")).unwrap();
        std::fs::write(root.join("..2026_01/weir.toml"), "").unwrap();
        symlink("..2026_01", root.join("..data")).unwrap();
        symlink("..data/weir.toml", root.join("weir.toml")).unwrap();
        let places = Places::of(&[root.join("weir.toml")]);
        assert_eq!(
            places.directories,
            BTreeSet::from([root.clone(), root.join("..2026_01")])
        );
        assert!(places.names.contains(&OsString::from("..data")));
    }

    #[test]
    fn a_link_further_up_is_followed_too() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("releases/1/conf")).unwrap();
        std::fs::write(root.join("releases/1/conf/weir.toml"), "").unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        let places = Places::of(&[root.join("current/conf/weir.toml")]);
        assert!(
            places.directories.contains(&root.join("releases/1/conf")),
            "{places:?}"
        );
        assert!(
            places.directories.contains(&root) && places.names.contains(&OsString::from("current")),
            "{places:?}"
        );
    }

    /// After how many milliseconds a change is taken if `writes` follow it, each so many after the one before.
    async fn taken_after(pause: u64, writes: u32) -> u128 {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("weir.toml");
        let watch = Watch {
            watcher: None,
            places: Places::of(std::slice::from_ref(&file)),
            looking: Arc::default(),
        };
        let (events, mut changed) = unbounded_channel();
        let begin = Instant::now();
        let writing = async {
            for _ in 0..writes {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let beside = place.path().join("other");
                for path in [&file, &beside] {
                    let event = Event::new(EventKind::Any).add_path(path.clone());
                    events.send(Ok(event)).unwrap();
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = watch.quiet(&mut changed, begin + LATEST) => begin.elapsed().as_millis(),
            () = writing => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_taken_when_its_writer_has_been_quiet() {
        assert_eq!(taken_after(0, 0).await, 300);
        assert_eq!(taken_after(250, 5).await, 5 * 250 + 300);
        assert_eq!(taken_after(350, 5).await, 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_written_to_all_the_time_is_taken_all_the_same() {
        assert_eq!(taken_after(250, 100).await, 2000);
    }

    #[test]
    fn files_that_may_appear_are_waited_for_and_so_is_their_directory() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let pattern = root.join("conf.d/*.toml");
        let places = Places::of(std::slice::from_ref(&pattern));
        assert_eq!(places.directories, BTreeSet::from([root.clone()]));
        assert!(places.names.contains(&OsString::from("conf.d")));
        std::fs::create_dir(root.join("conf.d")).unwrap();
        let places = Places::of(&[pattern]);
        assert_eq!(places.directories, BTreeSet::from([root.join("conf.d")]));
        let event = |name: &str| {
            let event = Event::new(EventKind::Create(notify::event::CreateKind::File));
            event.add_path(root.join("conf.d").join(name))
        };
        assert!(places.concern(&event("a.toml")));
        assert!(!places.concern(&event("a.toml~")) && !places.concern(&event(".a.toml")));
    }

    #[test]
    fn a_loop_of_links_ends() {
        let place = tempfile::tempdir().unwrap();
        symlink("a", place.path().join("b")).unwrap();
        symlink("b", place.path().join("a")).unwrap();
        assert_eq!(Places::of(&[place.path().join("a")]).directories.len(), 1);
    }
}
