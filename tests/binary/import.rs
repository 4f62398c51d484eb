//! `weir import nginx`: the configs of `tests/import/` become the files beside them.

use std::path::{Path, PathBuf};

use super::support::{output, stderr, stdout};

/// Each folder has an `nginx.conf`, and what comes of it: `weir.toml` from stdout and `told` from stderr. `WRITE_IMPORTED=1`
/// writes these two anew.
#[test]
fn real_world_configs_become_what_stands_beside_them() {
    for name in ["node", "split", "tls", "next", "debian"] {
        let expected = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/import")
            .join(name);
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        copy(&expected, folder.path());
        let imported = output(folder.path(), ["import", "nginx", "nginx.conf"]);
        assert_eq!(
            imported.status.code(),
            Some(0),
            "{name}: {}",
            stderr(&imported)
        );
        let here = folder.path().display().to_string();
        // Not every machine has nginx's folder of logs.
        let config = stdout(&imported).replace("/var/log/nginx", &here);
        std::fs::write(folder.path().join("weir.toml"), config).unwrap();
        let check = output(folder.path(), ["check"]);
        assert_eq!(check.status.code(), Some(0), "{name}: {}", stderr(&check));
        // As if it were where nginx has it.
        is(
            &expected.join("weir.toml"),
            &stdout(&imported).replace(&here, "/etc/nginx"),
        );
        is(
            &expected.join("told"),
            &stderr(&imported).replace(&here, "/etc/nginx"),
        );
    }
}

/// All files of a folder but those that are expected.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = entry
            .map(|entry| (entry.path(), to.join(entry.file_name())))
            .unwrap();
        if entry.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry, &to);
        } else if !entry.ends_with("told") && !entry.ends_with("weir.toml") {
            std::fs::copy(entry, to).unwrap();
        }
    }
}

#[track_caller]
fn is(file: &PathBuf, found: &str) {
    if std::env::var_os("WRITE_IMPORTED").is_some() {
        std::fs::write(file, found).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(found, expected, "not as in {}", file.display());
}

/// What the configs name; which names it is for does not matter to the check.
fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["www.example.com".to_owned()]).unwrap();
    let tls = folder.join("tls");
    std::fs::create_dir(&tls).unwrap();
    std::fs::write(tls.join("example.pem"), made.cert.pem()).unwrap();
    std::fs::write(tls.join("example.key"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn what_is_no_nginx_config_is_2_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let missing = output(folder.path(), ["import", "nginx", "nginx.conf"]);
    assert_eq!(
        (missing.status.code(), stdout(&missing)),
        (Some(2), String::new())
    );
    assert!(
        stderr(&missing).contains("cannot read `nginx.conf`"),
        "{}",
        stderr(&missing)
    );
    std::fs::write(folder.path().join("nginx.conf"), "http {\n  server {\n}\n").unwrap();
    let broken = output(folder.path(), ["import", "nginx", "nginx.conf"]);
    assert_eq!(
        (broken.status.code(), stdout(&broken)),
        (Some(2), String::new())
    );
    assert!(
        stderr(&broken).contains("nginx.conf:4: no nginx syntax: "),
        "{}",
        stderr(&broken)
    );
}

#[test]
fn what_needs_no_counterpart_is_told_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nginx.conf");
    std::fs::write(file, "pid /run/nginx.pid;\nserver { return 200 x; }\n").unwrap();
    let quiet = output(folder.path(), ["import", "nginx", "nginx.conf"]);
    let verbose = output(
        folder.path(),
        ["import", "nginx", "--verbose", "nginx.conf"],
    );
    let line = "nginx.conf:1: needless: `pid /run/nginx.pid`: ";
    assert!(!stderr(&quiet).contains(line), "{}", stderr(&quiet));
    assert!(stderr(&verbose).contains(line), "{}", stderr(&verbose));
    assert!(
        stderr(&quiet).ends_with(
            "2 directives translated, 0 not (above), 1 need no counterpart (--verbose tells why)\n"
        ),
        "{}",
        stderr(&quiet)
    );
}
