//! `process.state`: a start whose file is bad runs the last good config, loudly.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::support::{HELLO, Program, folder, get, output, stderr, stdout, until, weir};

/// `HELLO` that keeps its last good configs in the folder `state` beside it.
fn keeping() -> String {
    format!("[process]\nstate = \"state\"\n{HELLO}")
}

/// Runs by the file until it is told to stop.
fn run_once(folder: &Path) {
    let mut program = Program::run(folder);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0), "{}", program.printed());
}

fn status(program: &Program) -> Value {
    let answer = get(program.admin(), "/api/status");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn metric(program: &Program, name: &str) -> String {
    let page = get(program.admin(), "/metrics");
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {page}"))
        .to_owned()
}

#[test]
fn a_start_with_a_bad_file_runs_the_last_good_one_and_says_so_everywhere() {
    let (folder, file) = folder(&keeping());
    run_once(folder.path());
    std::fs::write(&file, keeping().replace("respond", "resond")).unwrap();
    let program = Program::run(folder.path());
    assert!(get(program.address("web"), "/").ends_with("hello"));
    let logged = program.logged("THE CONFIG IS BAD");
    assert_eq!(logged["level"], "ERROR");
    let message = logged["message"].as_str().unwrap();
    assert!(message.contains("weir.toml:10:1: "), "{message}");
    for line in program.printed().lines() {
        let event: Result<Value, _> = serde_json::from_str(line);
        assert!(
            event.is_ok(),
            "all is told in the format of the log: {line}"
        );
    }
    let told = status(&program);
    assert_eq!(told["config"]["source"], "last_good");
    assert_eq!(told["config"]["last_reload"]["result"], "refused");
    let message = told["config"]["last_reload"]["message"].as_str().unwrap();
    assert!(message.contains("weir.toml:10:1"), "{message}");
    assert_eq!(
        metric(&program, "weir_config_fallback"),
        "weir_config_fallback 1"
    );
    let shown = output(folder.path(), ["status", "--admin", &program.admin_url()]);
    assert_eq!(shown.status.code(), Some(0));
    assert!(
        stdout(&shown).contains("THE FILE WAS BAD AT THE START, the last good config runs"),
        "{}",
        stdout(&shown)
    );
    // Another bad one changes nothing, a good one ends it.
    std::fs::write(&file, keeping().replace("respond", "rspond")).unwrap();
    program.logged("config refused");
    assert_eq!(status(&program)["config"]["source"], "last_good");
    std::fs::write(&file, keeping().replace("hello", "mended")).unwrap();
    program.logged("config taken");
    assert!(get(program.address("web"), "/").ends_with("mended"));
    assert_eq!(status(&program)["config"]["source"], "file");
    assert_eq!(
        metric(&program, "weir_config_fallback"),
        "weir_config_fallback 0"
    );
}

#[test]
fn a_rollback_reaches_past_a_restart() {
    let (folder, file) = folder(&keeping());
    run_once(folder.path());
    std::fs::write(&file, keeping().replace("hello", "changed")).unwrap();
    let program = Program::run(folder.path());
    assert!(get(program.address("web"), "/").ends_with("changed"));
    let rollback = output(folder.path(), ["rollback", "--admin", &program.admin_url()]);
    assert_eq!(rollback.status.code(), Some(0), "{}", stderr(&rollback));
    assert!(get(program.address("web"), "/").ends_with("hello"));
}

#[test]
fn without_a_good_one_a_bad_file_is_1_as_ever() {
    let (folder, file) = folder(&keeping());
    run_once(folder.path());
    let bad = keeping().replace("respond", "resond");
    std::fs::write(&file, &bad).unwrap();
    for kept in std::fs::read_dir(folder.path().join("state")).unwrap() {
        std::fs::write(kept.unwrap().path(), "weir-config 1 x\n").unwrap();
    }
    let refused = output(folder.path(), ["run"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(
        told.contains("weir: process.state: cannot use `state/"),
        "{told}"
    );
    assert!(told.contains("weir.toml:10:1: error: "), "{told}");
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    assert_eq!(output(folder.path(), ["run"]).status.code(), Some(1));
}

#[test]
fn a_state_that_cannot_be_written_is_warned_about_and_nothing_else() {
    let (folder, file) = folder(&keeping());
    std::fs::write(folder.path().join("state"), "a file").unwrap();
    let program = Program::run(folder.path());
    let warned = program.logged("process.state: cannot keep the config there");
    assert_eq!(warned["level"], "WARN");
    assert!(get(program.address("web"), "/").ends_with("hello"));
    std::fs::write(&file, keeping().replace("hello", "changed")).unwrap();
    program.logged("config taken");
    assert!(get(program.address("web"), "/").ends_with("changed"));
    assert_eq!(
        std::fs::read(folder.path().join("state")).unwrap(),
        b"a file"
    );
}

/// Whatever the bad file names may be gone as well.
#[test]
fn certificates_are_kept_with_the_config() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let secured = format!(
        "{}[listen.secure]\naddress = \"127.0.0.1:0\"\n\
         tls = {{ certificates = [{{ cert = \"site.pem\", key = \"site.key\" }}] }}\n",
        keeping()
    );
    let (folder, file) = folder(&secured);
    std::fs::write(folder.path().join("site.pem"), made.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("site.key"),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    run_once(folder.path());
    std::fs::remove_file(folder.path().join("site.pem")).unwrap();
    std::fs::remove_file(folder.path().join("site.key")).unwrap();
    std::fs::write(&file, &secured).unwrap();
    let program = Program::run(folder.path());
    program.line_with("cannot read `site.pem`");
    program.address("secure");
    let listeners = || {
        let listeners = status(&program)["listeners"].clone();
        (listeners.as_array().unwrap().len() == 2).then_some(())
    };
    until(listeners, || program.printed());
}

/// Variables, and files that are included, count as those that stand in the main file itself.
#[test]
fn the_last_good_one_has_its_included_files_and_nothing_of_the_environment_is_kept_or_told() {
    let main =
        format!("include = [\"conf.d/*.toml\"]\n[process]\nstate = \"${{TEST_STATE}}\"\n{HELLO}");
    let (folder, file) = folder(&main);
    let included = folder.path().join("conf.d/more.toml");
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    let more = "[route.more]\npath = \"/more\"\nrespond = { body = \"${TEST_BODY}\" }\n";
    std::fs::write(&included, more).unwrap();
    let command = |arguments: &[&str], body: &str| {
        let mut command = weir(folder.path(), arguments);
        command.env("TEST_STATE", "state").env("TEST_BODY", body);
        command
    };
    let mut program = Program::start(command(&["run"], "sesame"));
    program.logged("weir runs");
    assert!(get(program.address("web"), "/more").ends_with("sesame"));
    let url = program.admin_url();
    let shown = get(program.admin(), "/api/config");
    let diff = command(&["diff", "--admin", &url], "hunter2").output();
    let diff = diff.unwrap();
    assert_eq!(diff.status.code(), Some(0), "{}", stderr(&diff));
    program.signal(Signal::TERM);
    program.wait();
    let told = [shown, stdout(&diff), stderr(&diff), program.printed()].concat();
    assert!(told.contains("\"body\":\"***\""), "{told}");
    assert!(
        !told.contains("sesame") && !told.contains("hunter2"),
        "{told}"
    );
    let kept = std::fs::read_dir(folder.path().join("state")).unwrap();
    for kept in kept.flatten() {
        let kept = std::fs::read(kept.path()).unwrap();
        let kept = String::from_utf8(kept).unwrap();
        assert!(kept.contains(more) && !kept.contains("sesame"), "{kept}");
    }
    std::fs::write(&file, main.replace("respond", "resond")).unwrap();
    std::fs::remove_file(&included).unwrap();
    let program = Program::start(command(&["run"], "another"));
    program.logged("weir runs");
    assert!(get(program.address("web"), "/more").ends_with("another"));
    drop(program);
    let without = command(&["run"], "")
        .env_remove("TEST_BODY")
        .output()
        .unwrap();
    assert_eq!(without.status.code(), Some(1));
    let told = stderr(&without);
    assert!(
        told.contains("is not good any more: ")
            && told.contains("the variable `TEST_BODY` is not set"),
        "{told}"
    );
}
