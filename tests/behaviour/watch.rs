//! Changes of the config file that the kernel tells little or nothing of, and those that tell too early.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::control::{Followed, QUIET, WEB, fixed, run};
use super::support::{Weir, eventually};

fn site(body: &str) -> String {
    format!("{QUIET}{WEB}{}", fixed("site", "", body))
}

async fn until_answer(weir: &Weir, body: &str) {
    eventually(async || weir.get("/").await.text(), |text| text == body).await;
}

/// What is mounted for a test.
struct Mounted(PathBuf);

impl Mounted {
    /// A file over another, as a container gets a single file of its host.
    fn over(target: &Path, source: &Path) -> Option<Self> {
        Self::by(&["--bind", &source.display().to_string()], target)
    }

    /// `None`, and why on stderr, where this may not be done.
    #[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
    fn by(arguments: &[&str], target: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(arguments).arg(target).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(target.to_owned())),
            Ok(failed) => {
                let why = String::from_utf8_lossy(&failed.stderr).into_owned();
                eprintln!("skipped, nothing can be mounted here: {why}");
                None
            }
            Err(error) => {
                eprintln!("skipped, there is no `mount` here: {error}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What is written on the host happens in another directory than the one that weir sees.
#[tokio::test]
async fn a_file_that_is_mounted_alone_is_followed_through_writes_and_other_mounts() {
    let place = tempfile::tempdir().unwrap();
    let (host, file) = (
        place.path().join("host.toml"),
        place.path().join("in/weir.toml"),
    );
    std::fs::create_dir(place.path().join("in")).unwrap();
    std::fs::write(&host, site("one")).unwrap();
    std::fs::write(&file, "").unwrap();
    let Some(mounted) = Mounted::over(&file, &host) else {
        return;
    };
    let weir = run(&file).await;
    assert_eq!(weir.get("/").await.text(), "one");
    std::fs::write(&host, site("two")).unwrap();
    until_answer(&weir, "two").await;
    // Another file in its place: the mount shows the old one until it is made anew.
    let other = place.path().join("other.toml");
    std::fs::write(&other, site("three")).unwrap();
    drop(mounted);
    let _mounted = Mounted::over(&file, &other).expect("as before");
    until_answer(&weir, "three").await;
    std::fs::write(&other, site("four")).unwrap();
    until_answer(&weir, "four").await;
}

/// As containers see what their image holds. The kernel tells nobody there of a change below.
#[tokio::test]
async fn a_change_below_an_overlay_is_found() {
    let place = tempfile::tempdir().unwrap();
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    });
    std::fs::write(lower.join("weir.toml"), site("one")).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let overlay = ["-t", "overlay", "overlay", "-o", &options];
    let Some(_mounted) = Mounted::by(&overlay, &merged) else {
        return;
    };
    let weir = run(&merged.join("weir.toml")).await;
    assert_eq!(weir.get("/").await.text(), "one");
    for body in ["two", "three"] {
        std::fs::write(lower.join("weir.toml"), site(body)).unwrap();
        until_answer(&weir, body).await;
    }
}

#[tokio::test]
async fn a_file_that_is_copied_over_is_taken() {
    let followed = Followed::start(&site("one").replace(QUIET, "")).await;
    let other = followed.folder.path().join("other");
    for (round, body) in [(1, "two"), (2, "three"), (3, "four")] {
        std::fs::write(&other, site(body)).unwrap();
        std::fs::copy(&other, &followed.file).unwrap();
        until_answer(&followed.weir, body).await;
        followed.until_reloads(round, 0).await;
    }
}

/// As a writer leaves it that truncates first and then has nothing to write for long.
#[tokio::test]
async fn an_empty_file_is_not_taken() {
    let followed = Followed::start(&site("one").replace(QUIET, "")).await;
    for nothing in ["", "\n\n", "# to come\n"] {
        std::fs::write(&followed.file, nothing).unwrap();
        let answer = followed.weir.admin("POST", "/api/reload").await;
        assert_eq!(answer.status, 422, "{nothing:?}");
        assert_eq!(followed.weir.get("/").await.text(), "one");
    }
    std::fs::write(&followed.file, site("two")).unwrap();
    until_answer(&followed.weir, "two").await;
}
