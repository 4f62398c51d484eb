//! `deploy/`: every config in it is valid.

use std::path::{Path, PathBuf};

use super::support::{folder, output, stderr};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let found = entries.map(|entry| entry.unwrap().path());
    found
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// The configs in a file: itself, or what its ConfigMaps hold.
fn configs(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => vec![text],
        Some("yaml") => text
            .split("\n  weir.toml: |\n")
            .skip(1)
            .map(|rest| {
                let inside = |line: &&str| line.is_empty() || line.starts_with("    ");
                rest.lines()
                    .take_while(inside)
                    .map(|line| line.trim_start_matches("    ").to_owned() + "\n")
                    .collect()
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_config_in_it_is_valid() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut checked = Vec::new();
    for file in files(&place) {
        for config in configs(&file) {
            let (folder, _) = folder(&config);
            let output = output(folder.path(), ["check"]);
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(0), "{}: {told}", file.display());
            checked.push(file.strip_prefix(&place).unwrap().to_owned());
        }
    }
    checked.sort();
    let all = [
        "compose/weir.toml",
        "kubernetes/front-door.yaml",
        "kubernetes/sidecar.yaml",
        "systemd/weir.toml",
    ];
    assert_eq!(checked, all.map(PathBuf::from));
}
