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
            stderr(&output).contains("valid (1 listener, 1 route, 0 upstreams, hash "),
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
    for command in ["run", "demo", "check", "status", "reload", "import"] {
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

const UNUSED: &str = "[upstream.spare]\nservers = [\"127.0.0.1:1\"]\n";

#[test]
fn a_warning_is_shown_and_is_no_failure() {
    let (folder, _) = folder(&format!("{HELLO}{UNUSED}"));
    let checked = output(folder.path(), ["check"]);
    assert_eq!(checked.status.code(), Some(0));
    let text = stderr(&checked);
    let head = "weir.toml:9:11: warning: upstream.spare: no route uses this upstream\n";
    assert!(text.starts_with(head), "{text}");
    assert!(text.contains("\nweir.toml: valid (1 listener, "), "{text}");
    let shown = output(folder.path(), ["check", "--show"]);
    assert!(stderr(&shown).starts_with(head), "{}", stderr(&shown));
    assert!(stdout(&shown).contains("[upstream.spare]"));
    let json = output(folder.path(), ["check", "--format", "json"]);
    assert_eq!(json.status.code(), Some(0));
    let told: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    let problem = &told["problems"][0];
    assert_eq!(
        (&problem["severity"], &problem["id"], &problem["line"]),
        (&"warning".into(), &"unused-upstream".into(), &9.into())
    );
}

/// The DNS server here never answers.
#[test]
fn a_name_that_does_not_resolve_is_a_warning() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = silent.local_addr().unwrap();
    let config = format!(
        "[process]\nresolver = \"{resolver}\"\n[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [\"app.internal.example.:80\", \"127.0.0.1:1\"]\n"
    );
    let (folder, _) = folder(&config);
    let checked = output(folder.path(), ["check"]);
    assert_eq!(checked.status.code(), Some(0));
    let text = stderr(&checked);
    let head = "weir.toml:8:12: warning: upstream.app.servers[0]: this name cannot be resolved: ";
    assert!(text.starts_with(head), "{text}");
    assert_eq!(text.matches("warning").count(), 1, "{text}");
}

#[test]
fn what_the_environment_holds_is_taken_and_not_told() {
    let (folder, _) = folder(
        "[listen.web]\naddress = \"127.0.0.1:${TEST_PORT}\"\n[route.site]\nrespond = { body = \"${TEST_BODY:-none}\" }\n",
    );
    let check = |port: &str| {
        let mut command = weir(folder.path(), ["check", "--show"]);
        command.env("TEST_PORT", port).output().unwrap()
    };
    let good = check("8431");
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    assert!(
        stdout(&good).contains("address = [\"***\"]")
            || stdout(&good).contains("address = \"***\"")
    );
    assert!(
        stdout(&good).contains("body = \"none\""),
        "{}",
        stdout(&good)
    );
    let bad = check("port-of-mine");
    assert_eq!(bad.status.code(), Some(1));
    for text in [stdout(&good), stderr(&good), stdout(&bad), stderr(&bad)] {
        assert!(
            !text.contains("8431") && !text.contains("of-mine"),
            "{text}"
        );
    }
    assert!(stderr(&bad).contains("`TEST_PORT`"), "{}", stderr(&bad));
}

/// As where the disk is full: half of it is no config.
#[test]
fn what_cannot_be_written_is_2_and_who_has_read_enough_is_no_failure() {
    let (folder, _) = folder(HELLO);
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for command in [
        &["check", "--show"][..],
        &["check", "--format", "json"],
        &["schema"],
    ] {
        let told = weir(folder.path(), command)
            .stdout(full())
            .output()
            .unwrap();
        assert_eq!(told.status.code(), Some(2), "{command:?}");
        assert!(
            stderr(&told)
                .ends_with("weir: cannot write to stdout: No space left on device (os error 28)\n"),
            "{}",
            stderr(&told)
        );
        let (reading, writing) = std::io::pipe().unwrap();
        drop(reading);
        let told = weir(folder.path(), command)
            .stdout(writing)
            .output()
            .unwrap();
        assert_eq!(
            told.status.code(),
            Some(0),
            "{command:?}: {}",
            stderr(&told)
        );
    }
}

/// A message that nobody reads changes no exit code.
#[test]
fn messages_may_go_nowhere() {
    let (valid, _) = folder(HELLO);
    let (invalid, _) = folder("");
    let empty = tempfile::tempdir().unwrap();
    for (place, code) in [(valid.path(), 0), (invalid.path(), 1), (empty.path(), 2)] {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(reading);
        let told = weir(place, ["check"]).stderr(writing).output().unwrap();
        assert_eq!(told.status.code(), Some(code));
    }
}

#[test]
fn a_config_that_is_named_as_elsewhere_is_answered_with_how_it_is_named_here() {
    let (folder, _) = folder(HELLO);
    let told = output(folder.path(), ["check", "weir.toml"]);
    assert_eq!(told.status.code(), Some(2));
    let advice = "a config is named by `-c weir.toml`";
    assert!(stderr(&told).contains(advice), "{}", stderr(&told));
    let other = stderr(&output(folder.path(), ["check", "nothing"]));
    assert!(!other.contains("-c nothing"), "{other}");
}

#[test]
fn how_many_problems_there_are_is_told_in_the_end() {
    let (folder, _) = folder(BROKEN);
    let told = stderr(&output(folder.path(), ["check"]));
    let errors = told.matches(": error: ").count();
    let last = format!("\nweir.toml: invalid ({errors} errors)\n");
    assert!(errors > 1 && told.ends_with(&last), "{told}");
}
