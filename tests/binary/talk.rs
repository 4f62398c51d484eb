//! `weir status` and `weir reload`: talking to one that runs.

use std::net::TcpListener;

use super::support::{HELLO, Program, folder, get, output, stderr, stdout, weir};

#[test]
fn status_shows_what_runs() {
    let (folder, _) = folder(&format!(
        "{HELLO}[upstream.app]\nservers = [\"127.0.0.1:1\"]\n"
    ));
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let shown = output(folder.path(), ["status", "--admin", &url]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(
        text.starts_with(&format!("weir {}, ready\n", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    for part in [
        "listen web",
        &program.address("web").to_string(),
        "upstream app",
        "127.0.0.1:1",
        " up ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let json = output(folder.path(), ["status", "--json", "--admin", &url]);
    let told: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(
        (json.status.code(), &told["ready"]),
        (Some(0), &true.into())
    );
}

#[test]
fn status_of_one_that_is_not_ready_is_1() {
    // Accepts, and never answers the first probe.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, _) = folder(&format!(
        "{HELLO}[upstream.app]\nservers = [\"{}\"]\nhealth_check = {{ timeout = \"1h\" }}\n",
        server.local_addr().unwrap()
    ));
    let program = Program::run(folder.path());
    let shown = output(folder.path(), ["status", "--admin", &program.admin_url()]);
    assert_eq!(shown.status.code(), Some(1), "{}", stdout(&shown));
    assert!(
        stdout(&shown).contains(", not ready\n") && stdout(&shown).contains("starting"),
        "{}",
        stdout(&shown)
    );
}

#[test]
fn nobody_there_is_2() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let empty = tempfile::tempdir().unwrap();
    for command in ["status", "reload"] {
        let output = output(
            empty.path(),
            [command, "--admin", &format!("http://{free}")],
        );
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(
            stderr(&output).contains(&format!("cannot reach weir at `{free}`; is it running?")),
            "{}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
    }
    for wrong in [
        "https://127.0.0.1:9900",
        "http://127.0.0.1",
        "http://127.0.0.1:9900/metrics",
    ] {
        let output = output(empty.path(), ["status", "--admin", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(
            stderr(&output).contains("is no admin address"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn a_token_comes_from_the_flag_the_environment_or_the_file() {
    let (folder, file) = folder(&HELLO.replace("[admin]\n", "[admin]\ntoken = \"secret\"\n"));
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let elsewhere = tempfile::tempdir().unwrap();
    let status = |more: &[&str], token: Option<&str>| {
        let mut command = weir(elsewhere.path(), ["status", "--admin", &url]);
        command
            .args(more)
            .envs(token.map(|token| ("WEIR_TOKEN", token)));
        command.output().unwrap()
    };
    let refused = status(&[], None);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("pass it with `--token` or in WEIR_TOKEN"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(status(&["--token", "wrong"], None).status.code(), Some(2));
    assert_eq!(status(&["--token", "secret"], None).status.code(), Some(0));
    assert_eq!(status(&[], Some("secret")).status.code(), Some(0));
    assert_eq!(
        status(&["-c", file.to_str().unwrap()], None).status.code(),
        Some(0)
    );
}

#[test]
fn reload_takes_the_file_or_says_why_not() {
    let (folder, file) = folder(HELLO);
    let program = Program::run(folder.path());
    let url = program.admin_url();
    std::fs::write(&file, HELLO.replace("hello", "changed")).unwrap();
    let taken = output(folder.path(), ["reload", "--admin", &url]);
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    assert!(
        stderr(&taken).starts_with("taken, hash "),
        "{}",
        stderr(&taken)
    );
    assert!(get(program.address("web"), "/").ends_with("changed"));
    std::fs::write(&file, HELLO.replace("respond", "resond")).unwrap();
    let refused = output(folder.path(), ["reload", "--admin", &url]);
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(
        text.starts_with("refused, the config before runs on: ")
            && text.contains("weir.toml:8:1: "),
        "{text}"
    );
    let status = output(folder.path(), ["status", "--admin", &url]);
    assert_eq!(status.status.code(), Some(0), "it runs on");
    assert!(
        stdout(&status).contains("LAST RELOAD REFUSED at "),
        "{}",
        stdout(&status)
    );
}

/// Just when the file is broken, the operator wants to know what runs.
#[test]
fn a_broken_file_still_tells_where_the_admin_address_is() {
    let (folder, file) = folder(HELLO);
    let socket = folder.path().join("admin.sock");
    let config = HELLO.replacen("127.0.0.1:0", &format!("unix:{}", socket.display()), 1);
    std::fs::write(&file, &config).unwrap();
    let program = Program::run(folder.path());
    std::fs::write(&file, config.replace("respond", "resond")).unwrap();
    for arguments in [vec!["status"], vec!["status", "-c", "weir.toml"]] {
        let status = output(folder.path(), arguments);
        assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
        assert!(
            stdout(&status).contains("listen web"),
            "{}",
            stdout(&status)
        );
    }
    let reload = output(folder.path(), ["reload"]);
    assert_eq!(reload.status.code(), Some(1), "{}", stderr(&reload));
    assert!(
        stderr(&reload).contains("weir.toml:8:1: "),
        "{}",
        stderr(&reload)
    );
    assert!(get(program.address("web"), "/").ends_with("hello"));
    std::fs::write(&file, format!("{config}\n[route.bad\n")).unwrap();
    let status = output(folder.path(), ["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
    let table = format!("[admin]\naddress = \"unix:{}\"\n", socket.display());
    assert!(config.contains(&table), "{config}");
    let dotted = format!("admin.address = \"unix:{}\"\n", socket.display());
    let inline = format!("admin = {{ address = \"unix:{}\" }}\n", socket.display());
    for admin in [dotted, inline] {
        let config = format!("{admin}{}", config.replace(&table, ""));
        for broken in [
            config.replace("respond", "resond"),
            format!("{config}[route.bad\n"),
        ] {
            std::fs::write(&file, broken).unwrap();
            let status = output(folder.path(), ["status"]);
            assert_eq!(status.status.code(), Some(0), "{}", stderr(&status));
        }
    }
    std::fs::write(&file, "[admin\naddress = 5").unwrap();
    let status = output(folder.path(), ["status"]);
    assert_eq!(status.status.code(), Some(2));
    assert!(
        stderr(&status).contains("name it with `--admin URL`"),
        "{}",
        stderr(&status)
    );
}
