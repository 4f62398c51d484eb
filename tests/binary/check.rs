//! `weir check`, and what all commands have in common.

use std::process::Stdio;

use super::support::{HELLO, folder, output, stderr, stdout, weir};

const BROKEN: &str = "[listen.web]\naddres = \":8080\"\n\n[route.site]\nupstream = \"ap\"\ntimeout = 30\n\n[upstream.app]\nservers = [\"127.0.0.1:1\"]\n";

#[test]
fn a_valid_file_is_0_and_says_so() {
    let (folder, file) = folder(HELLO);
    for arguments in [
        vec!["check"],
        vec!["check", "-c", file.to_str().unwrap()],
        vec!["check", "--config", "weir.toml"],
    ] {
        let output = output(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("valid (1 listeners, 1 routes, 0 upstreams, hash "),
            "{}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "messages go to stderr");
    }
}

#[test]
fn an_invalid_file_is_1_and_all_its_problems_are_shown_at_their_places() {
    let (folder, _) = folder(BROKEN);
    let output = output(folder.path(), ["check"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    for part in [
        "weir.toml:2:1: error: ",
        "weir.toml:5:12: error: ",
        "weir.toml:6:11: error: ",
        "`addres`",
        "`address`",
        "2 | addres = \":8080\"\n  | ^^^^^^",
        "unit",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(
        !text.contains('\u{1b}'),
        "no colours where there is no terminal"
    );
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_file_that_cannot_be_read_is_2() {
    let (folder, _) = folder(HELLO);
    let missing = output(folder.path(), ["check", "-c", "missing.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        stderr(&missing).contains("cannot read `missing.toml`: "),
        "{}",
        stderr(&missing)
    );
    let empty = tempfile::tempdir().unwrap();
    let nothing = output(empty.path(), ["check"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert_eq!(
        stderr(&nothing),
        "weir: no configuration: neither `weir.toml` nor `/etc/weir/weir.toml` exists\n"
    );
}

#[test]
fn programs_get_json() {
    let (broken, _) = folder(BROKEN);
    let output_of_broken = output(broken.path(), ["check", "--format", "json"]);
    assert_eq!(output_of_broken.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_str(&stdout(&output_of_broken)).unwrap();
    let problems = told["problems"].as_array().unwrap();
    assert!(problems.len() >= 3, "{told}");
    let unknown = problems
        .iter()
        .find(|problem| problem["id"] == "unknown-key")
        .unwrap();
    assert_eq!(
        (&unknown["line"], &unknown["column"], &unknown["severity"]),
        (&2.into(), &1.into(), &"error".into())
    );
    assert_eq!(unknown["file"], "weir.toml");
    let (good, _) = folder(HELLO);
    let output_of_good = output(good.path(), ["check", "--format", "json"]);
    assert_eq!(
        (output_of_good.status.code(), &*stdout(&output_of_good)),
        (Some(0), "{\"problems\":[]}\n")
    );
}

#[test]
fn what_is_shown_is_a_config_that_shows_itself() {
    let config = "[listen.web]\naddress = \":8080\"\n[route.site]\nupstream = \"app\"\nhost = \"a.example\"\n\
                  [upstream.app]\nservers = [\"127.0.0.1:3000\"]\nhealth_check = \"/healthz\"\n";
    let (first, _) = folder(config);
    let shown = output(first.path(), ["check", "--show"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    for part in [
        "[upstream.app.health_check]",
        "path = \"/healthz\"",
        "interval = \"5s\"",
        "keepalive",
        "[route.site]",
    ] {
        assert!(
            stdout(&shown).contains(part),
            "{part} in\n{}",
            stdout(&shown)
        );
    }
    let (second, _) = folder(&stdout(&shown));
    let again = output(second.path(), ["check", "--show"]);
    assert_eq!(
        (again.status.code(), stdout(&again)),
        (Some(0), stdout(&shown)),
        "{}",
        stderr(&again)
    );
}

#[test]
fn a_secret_is_never_shown() {
    let (folder, _) = folder(&HELLO.replace("[admin]\n", "[admin]\ntoken = \"hunter2-secret\"\n"));
    let shown = output(folder.path(), ["check", "--show"]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(!stdout(&shown).contains("hunter2"), "{}", stdout(&shown));
    assert!(stdout(&shown).contains("token"), "{}", stdout(&shown));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (folder, _) = folder(HELLO);
    for arguments in [vec!["check", "--show"], vec!["check", "--format", "json"]] {
        let mut child = weir(folder.path(), &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), &*stderr(&output)),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn help_and_version_are_data_and_mistakes_are_2() {
    let empty = tempfile::tempdir().unwrap();
    let version = output(empty.path(), ["--version"]);
    assert_eq!(
        (version.status.code(), stdout(&version)),
        (Some(0), format!("weir {}\n", env!("CARGO_PKG_VERSION")))
    );
    let help = output(empty.path(), ["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["run", "demo", "check", "status", "reload"] {
        assert!(
            stdout(&help).contains(&format!("\n  {command} ")),
            "{}",
            stdout(&help)
        );
    }
    for mistake in [
        vec![],
        vec!["rum"],
        vec!["run", "--nothing"],
        vec!["check", "--format", "xml"],
    ] {
        let output = output(empty.path(), mistake.clone());
        assert_eq!(output.status.code(), Some(2), "{mistake:?}");
        assert_eq!(stdout(&output), "", "{mistake:?}");
    }
}
