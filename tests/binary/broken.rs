//! Configs with mistakes, each beside what `weir check` says of it, to the letter: `tests/config/broken/NAME.toml`, or
//! `NAME/weir.toml` where several files are one config, and `NAME.expected`.
//!
//! After a change of messages, the following writes the files anew; each is then to be read as by a tired operator.
//!
//! ```text
//! EXPECTED=write cargo test --test binary broken
//! ```

use std::path::{Path, PathBuf};

use super::support::weir;

#[test]
fn what_is_said_of_broken_configs_is_what_is_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/broken");
    // Certificates are made here, so that no key lies about in the repository.
    let place = tempfile::tempdir().unwrap();
    copy(&cases, place.path());
    for (stem, name) in [("a", "a.example.com"), ("b", "b.example.com")] {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let at = |ending| place.path().join(format!("{stem}.{ending}"));
        std::fs::write(at("pem"), made.cert.pem()).unwrap();
        std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
    }
    std::fs::write(place.path().join("empty"), "\n").unwrap();
    let mut count = 0;
    let mut different = Vec::new();
    for (name, folder, file) in names(&cases) {
        let told = weir(&place.path().join(folder), ["check", "-c", &file])
            .env("TEST_PORT", "99999")
            .env("TEST_GOOD_PORT", "8085")
            .env("TEST_TIMEOUT", "30 bananas")
            .env_remove("APP_HOST")
            .env_remove("WEIR_ADMIN_TOKEN")
            .output()
            .unwrap();
        let expected = cases.join(format!("{name}.expected"));
        let said = String::from_utf8(told.stderr).unwrap();
        assert_eq!(
            (told.status.code(), told.stdout.len()),
            (Some(1), 0),
            "{name}: {said}"
        );
        if std::env::var("EXPECTED").is_ok_and(|value| value == "write") {
            std::fs::write(&expected, &said).unwrap();
        }
        let known = std::fs::read_to_string(&expected).unwrap_or_default();
        if known != said {
            different.push(format!(
                "{} differs; weir says:\n{said}",
                expected.display()
            ));
        }
        count += 1;
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(count >= 60, "{count} configs");
}

/// The name of each, the folder to be in, and the file to check, sorted.
fn names(cases: &Path) -> Vec<(String, PathBuf, String)> {
    let entries = std::fs::read_dir(cases).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("toml") => Some((name.clone(), PathBuf::new(), format!("{name}.toml"))),
                None if path.is_dir() => Some((name.clone(), name.into(), "weir.toml".to_owned())),
                _ => None,
            }
        })
        .collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}
