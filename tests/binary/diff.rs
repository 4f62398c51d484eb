//! `weir diff`: what a file would change of what runs.

use super::support::{HELLO, Program, folder, output, stderr, stdout, weir};

/// What `weir diff` says of that config while `HELLO` runs.
fn diff(config: &str, more: &[&str]) -> std::process::Output {
    let (runs, _) = folder(HELLO);
    let program = Program::run(runs.path());
    let (beside, _) = folder(config);
    let url = program.admin_url();
    let arguments = ["diff", "-c", "weir.toml", "--admin", &url];
    output(beside.path(), arguments.iter().chain(more).copied())
}

#[test]
fn the_same_is_0() {
    let same = diff(HELLO, &[]);
    assert_eq!((same.status.code(), &*stdout(&same)), (Some(0), ""));
    assert!(
        stderr(&same).starts_with("no difference, hash "),
        "{}",
        stderr(&same)
    );
    let commented = diff(&format!("# ours\n{HELLO}"), &[]);
    assert_eq!(
        (commented.status.code(), &*stdout(&commented)),
        (Some(0), "")
    );
    assert!(
        stderr(&commented).starts_with("no key differs"),
        "{}",
        stderr(&commented)
    );
}

/// Which it has as the process had them when it started, and this command has others, or none.
#[test]
fn what_may_differ_by_the_environment_alone_is_told() {
    let config = |body: &str| {
        let route = format!(
            "[route.b]\npath = \"${{TEST_PATH:-/b}}\"\nrespond = {{ body = \"{body}\" }}\n"
        );
        format!("{HELLO}{route}")
    };
    let (folder, _) = folder(&config("${TEST_BODY}"));
    let mut command = weir(folder.path(), ["run"]);
    command.env("TEST_BODY", "b").env("TEST_PATH", "/c");
    let program = Program::start(command);
    program.logged("weir runs");
    let url = program.admin_url();
    std::fs::write(
        folder.path().join("next.toml"),
        format!("#\n{}", config("${TEST_BODY}")),
    )
    .unwrap();
    let diff = |variables: &[(&str, &str)]| {
        let mut command = weir(folder.path(), ["diff", "-c", "next.toml", "--admin", &url]);
        command.envs(variables.iter().copied());
        command.output().unwrap()
    };
    let told = "variables are read from the environment of this command, which need not be that of the weir that runs: ";
    let unset = diff(&[("TEST_BODY", "other")]);
    assert_eq!(unset.status.code(), Some(1), "{}", stderr(&unset));
    assert_eq!(stdout(&unset), "~ route.b.path: \"***\" -> [\"/b\"]\n");
    assert_eq!(
        stderr(&unset),
        format!(
            "{told}`TEST_BODY`, `TEST_PATH` (not set here); what is told of route.b may be no difference\n"
        )
    );
    let same = diff(&[("TEST_BODY", "b"), ("TEST_PATH", "/c")]);
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    assert!(!stderr(&same).contains("variables"), "{}", stderr(&same));
    let invalid = diff(&[("TEST_PATH", "/c")]);
    assert_eq!(invalid.status.code(), Some(2));
    let said = stderr(&invalid);
    assert!(
        said.contains("the variable `TEST_BODY` is not set"),
        "{said}"
    );
    assert!(
        said.ends_with(&format!("{told}`TEST_BODY` (not set here), `TEST_PATH`\n")),
        "{said}"
    );
}

#[test]
fn what_differs_is_1_and_told_for_people_and_programs() {
    let other = HELLO
        .replace("\"hello\"", "\"changed\"")
        .replace("[listen.web]", "[listen.more]");
    let told = diff(&other, &[]);
    assert_eq!(told.status.code(), Some(1), "{}", stderr(&told));
    let lines = stdout(&told);
    for line in [
        "+ listen.more: address = [\"127.0.0.1:0\"]\n",
        "- listen.web\n",
        "~ route.site.listen: [\"web\"] -> [\"more\"]\n",
        "~ route.site.respond.body: \"hello\" -> \"changed\"\n",
        "get `process.drain` to end: what is on listen.web\n",
    ] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    assert!(
        !lines.contains('\u{1b}'),
        "no colours beside a terminal: {lines}"
    );
    let json = diff(&other, &["--format", "json"]);
    assert_eq!(json.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(told["same"], false);
    assert_eq!(told["ends"], serde_json::json!(["listen.web"]));
    assert_eq!(told["changes"][0]["what"], "listen.more");
    assert_ne!(told["runs"]["hash"], told["file"]["hash"]);
}

#[test]
fn a_file_that_is_not_valid_or_nobody_to_ask_is_2() {
    let invalid = diff(&HELLO.replace("respond", "resond"), &[]);
    assert_eq!((invalid.status.code(), &*stdout(&invalid)), (Some(2), ""));
    assert!(
        stderr(&invalid).contains("weir.toml:8:1: error: "),
        "{}",
        stderr(&invalid)
    );
    let (folder, _) = folder(HELLO);
    let nobody = ["diff", "--admin", "http://127.0.0.1:1"];
    let nobody = output(folder.path(), nobody);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(
        stderr(&nobody).contains("is it running?"),
        "{}",
        stderr(&nobody)
    );
}

#[test]
fn a_token_is_needed_and_never_shown() {
    let secret = HELLO.replace("[admin]\n", "[admin]\ntoken = \"hunter2\"\n");
    let (runs, _) = folder(&secret);
    let program = Program::run(runs.path());
    let url = program.admin_url();
    let (beside, _) = folder(HELLO);
    let diff = |more: &[&str]| {
        let arguments = ["diff", "--format", "json", "--admin", &url];
        output(beside.path(), arguments.iter().chain(more).copied())
    };
    assert_eq!(diff(&[]).status.code(), Some(2));
    let told = diff(&["--token", "hunter2"]);
    assert_eq!(told.status.code(), Some(1), "{}", stderr(&told));
    assert!(!stdout(&told).contains("hunter2"), "{}", stdout(&told));
    let json: serde_json::Value = serde_json::from_str(&stdout(&told)).unwrap();
    assert_eq!(json["changes"][0]["keys"][0]["key"], "token");
}
