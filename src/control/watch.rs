//! Watching the config file: every directory on the symlink chain of every file that was read, so that an editor's
//! rename and a ConfigMap's swap are seen as well as a write in place.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use super::reload::Source;

/// A change is taken after this much quiet,
const QUIET: Duration = Duration::from_millis(300);
/// and this long after its first event at the latest.
const LATEST: Duration = Duration::from_secs(2);
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
        Ok(watcher) => watcher,
        Err(error) => {
            return tracing::warn!(%error, "cannot watch the config file; SIGHUP and `weir reload` still work");
        }
    };
    let mut watch = Watch {
        watcher,
        places: Places::default(),
    };
    let mut files = source.files();
    loop {
        let now = files.borrow_and_update().clone();
        let moved = watch.follow(&now);
        // What changed in a directory before it was watched has told nobody: another look, after the same quiet.
        if !moved {
            tokio::select! {
                change = watch.change(&mut changed) => if !change {
                    return;
                },
                // Somebody else has taken a config; the watch may have others to follow.
                others = files.changed() => match others {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        watch.quiet(&mut changed).await;
        // Without an attempt the contents are the same, but a link may lead to them by another way now.
        let _ = source.take_file(true).await;
        // Whatever became of it: what runs has certificates, too.
        source.renew().await;
    }
}

/// Directories to watch, and the names in them that matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    directories: BTreeSet<PathBuf>,
    names: BTreeSet<OsString>,
}

impl Places {
    /// Everything on the way to `files`.
    fn of(files: &[PathBuf]) -> Self {
        let mut places = Self::default();
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
        if let Ok(real) = parent.canonicalize() {
            self.directories.insert(real);
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

    fn concern(&self, event: &Event) -> bool {
        let reading_only = matches!(event.kind, EventKind::Access(_));
        let named = event
            .paths
            .iter()
            .filter_map(|path| path.file_name())
            .any(|name| self.names.contains(name));
        // A directory that was removed may come back as another one of the same name.
        let of_a_directory = event
            .paths
            .iter()
            .any(|path| self.directories.contains(path));
        !reading_only && (named || of_a_directory || event.paths.is_empty() || event.need_rescan())
    }
}

struct Watch {
    watcher: RecommendedWatcher,
    places: Places,
}

impl Watch {
    /// Watches the directories of `files`, and no others any more. Returns whether there are new ones among them.
    fn follow(&mut self, files: &[PathBuf]) -> bool {
        let places = Places::of(files);
        for gone in self.places.directories.difference(&places.directories) {
            // It may have been removed, which ended its watch.
            let _ = self.watcher.unwatch(gone);
        }
        // All, not the new ones alone: one may have been removed and made again, which ended its watch.
        for directory in &places.directories {
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, directory = %directory.display(), "cannot watch; SIGHUP and `weir reload` still work");
            }
        }
        let more = !places.directories.is_subset(&self.places.directories);
        self.places = places;
        more
    }

    /// Waits for a change; `false` if none can come any more.
    async fn change(&self, events: &mut UnboundedReceiver<notify::Result<Event>>) -> bool {
        loop {
            match events.recv().await {
                Some(Ok(event)) if self.places.concern(&event) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Waits until nothing has changed for a while: whoever writes a file is done. What goes on beside the files that
    /// matter is none of it.
    async fn quiet(&self, events: &mut UnboundedReceiver<notify::Result<Event>>) {
        let latest = Instant::now() + LATEST;
        let mut until = Instant::now() + QUIET;
        while let Ok(Some(event)) = timeout_at(until.min(latest), events.recv()).await {
            if event.is_ok_and(|event| self.places.concern(&event)) {
                until = Instant::now() + QUIET;
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

    #[test]
    fn a_loop_of_links_ends() {
        let place = tempfile::tempdir().unwrap();
        symlink("a", place.path().join("b")).unwrap();
        symlink("b", place.path().join("a")).unwrap();
        assert_eq!(Places::of(&[place.path().join("a")]).directories.len(), 1);
    }
}
