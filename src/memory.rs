//! How much memory the process may use.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::CacheStore;

/// What the store of the cache may take, in bytes. Reads files: for the control plane.
pub(crate) fn for_cache(store: &CacheStore) -> u64 {
    store.max_size.map_or_else(auto, |size| size.0)
}

/// A quarter of the memory that there is, but no more than repays itself for most.
fn auto() -> u64 {
    let quarter = limit(Path::new("/")).map_or(MOST, |limit| limit / 4);
    quarter.clamp(LEAST, MOST)
}

/// The least of what the control groups of the process allow and what the machine has. `None` where neither can be read.
/// `root` is where the file system begins.
fn limit(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(group);
    let limits = groups.flat_map(|(mount, path, file)| limits(root, mount, path, file));
    limits.chain(of_machine(root)).min()
}

/// The mount, the path below it, and the file that a line such as `0::/system.slice/weir.service` (version 2) or
/// `9:memory:/docker/1a2b` (version 1) tells of.
fn group(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    if controllers.is_empty() {
        return Some(("sys/fs/cgroup", path, "memory.max"));
    }
    let memory = controllers.split(',').any(|name| name == "memory");
    memory.then_some(("sys/fs/cgroup/memory", path, "memory.limit_in_bytes"))
}

/// Those of the group and of all above it: the tightest counts. In a container the path may be that of the machine, of which
/// only the root is there.
fn limits(root: &Path, mount: &str, path: &str, file: &str) -> Vec<u64> {
    let mount = root.join(mount);
    let group: PathBuf = mount.join(path);
    let groups = group
        .ancestors()
        .take_while(|group| group.starts_with(&mount));
    // `max` is no number: no limit.
    let limit = |group: &Path| {
        fs::read_to_string(group.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    groups.filter_map(limit).collect()
}

fn of_machine(root: &Path) -> Option<u64> {
    let told = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = told
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

const MOST: u64 = 256 << 20;
/// As little as may be configured.
const LEAST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;

    /// The limit where these are the files.
    fn limit_of(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        limit(root.path())
    }

    const MACHINE: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:        8000000 kB\nMemFree:          100 kB\n",
    );

    #[test]
    fn a_group_is_bounded_by_those_above_it() {
        let group = ("proc/self/cgroup", "0::/weir.slice/weir.service\n");
        let own = "sys/fs/cgroup/weir.slice/weir.service/memory.max";
        let above = "sys/fs/cgroup/weir.slice/memory.max";
        assert_eq!(
            limit_of(&[MACHINE, group, (own, "1000\n"), (above, "max\n")]),
            Some(1000)
        );
        assert_eq!(
            limit_of(&[MACHINE, group, (own, "max\n"), (above, "2000\n")]),
            Some(2000)
        );
        assert_eq!(limit_of(&[MACHINE, group]), Some(8_000_000 * 1024));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let limit = ("sys/fs/cgroup/memory.max", "3000\n");
        for path in ["0::/\n", "0::/system.slice/docker-1a2b.scope\n"] {
            assert_eq!(
                limit_of(&[MACHINE, ("proc/self/cgroup", path), limit]),
                Some(3000)
            );
        }
    }

    #[test]
    fn groups_of_the_first_version_have_theirs() {
        let groups = "12:cpu,cpuacct:/docker/1a2b\n9:memory:/docker/1a2b\n0::/\n";
        let files = [
            MACHINE,
            ("proc/self/cgroup", groups),
            (
                "sys/fs/cgroup/memory/docker/1a2b/memory.limit_in_bytes",
                "4000\n",
            ),
            // No limit, as the kernel writes it.
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ];
        assert_eq!(limit_of(&files), Some(4000));
    }

    #[test]
    fn what_cannot_be_read_sets_no_limit() {
        assert_eq!(limit_of(&[]), None);
        assert_eq!(limit_of(&[("proc/meminfo", "MemTotal: lots\n")]), None);
    }

    #[test]
    fn auto_is_within_its_bounds_and_a_size_is_itself() {
        let store = CacheStore::default();
        assert!((LEAST..=MOST).contains(&for_cache(&store)));
        let given = CacheStore {
            max_size: Some(ByteSize(1 << 40)),
            ..store
        };
        assert_eq!(for_cache(&given), 1 << 40);
    }
}
