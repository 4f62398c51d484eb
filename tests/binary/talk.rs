//! `weir status`, `weir reload`, `weir drain`, `weir ready` and `weir purge`: talking to one that runs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::support::{HELLO, PATIENCE, Program, folder, get, output, stderr, stdout, weir};

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
    let (version, process) = (env!("CARGO_PKG_VERSION"), program.id());
    let first = format!("weir {version}, process {process}, ready\n");
    assert!(text.starts_with(&first), "{text}");
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

/// The variable that the token comes from is that of the service, not of the operator's shell.
#[test]
fn the_address_is_known_where_the_token_is_not() {
    let (folder, file) = folder(HELLO);
    let program = Program::run(folder.path());
    let address = program.admin_url().replace("http://", "");
    let admin = format!("[admin]\naddress = \"{address}\"\ntoken = \"${{NOWHERE_SET}}\"\n");
    let text = HELLO.replacen("[admin]\naddress = \"127.0.0.1:0\"\n", &admin, 1);
    std::fs::write(&file, text).unwrap();
    let without = output(folder.path(), ["status"]);
    assert_eq!(without.status.code(), Some(2), "{}", stdout(&without));
    assert!(
        stderr(&without).contains("`admin.token` cannot be told: ")
            && stderr(&without).contains("NOWHERE_SET"),
        "{}",
        stderr(&without)
    );
    let with = output(folder.path(), ["status", "--token", "any"]);
    assert_eq!(with.status.code(), Some(0), "{}", stderr(&with));
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
    for command in [
        &["status"][..],
        &["reload"],
        &["rollback"],
        &["upgrade"],
        &["drain", "app", "127.0.0.1:1"],
        &["ready", "app", "127.0.0.1:1"],
        &["purge", "--all"],
    ] {
        let url = format!("http://{free}");
        let arguments = command.iter().copied().chain(["--admin", &url]);
        let output = output(empty.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
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
    let wrong = status(&["--token", "wrong"], None);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        stderr(&wrong).contains("refuses this token"),
        "{}",
        stderr(&wrong)
    );
    assert_eq!(status(&["--token", "secret"], None).status.code(), Some(0));
    assert_eq!(status(&[], Some("secret")).status.code(), Some(0));
    assert_eq!(
        status(&["-c", file.to_str().unwrap()], None).status.code(),
        Some(0)
    );
}

/// Answers one request after the other with these, and nothing more.
fn answering(answers: Vec<&'static str>) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = socket.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let (status, body) = answer.split_once(' ').unwrap();
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{address}")
}

/// Nothing was taken, and nothing is known to be refused.
#[test]
fn what_answers_unlike_weir_is_2() {
    let empty = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 7] = [
        &["status"],
        &["reload"],
        &["rollback"],
        &["upgrade"],
        &["drain", "app", "127.0.0.1:1"],
        &["ready", "app", "127.0.0.1:1"],
        &["purge", "--all"],
    ];
    for command in commands {
        for answer in ["200 hello", "200 {}", "200 []"] {
            let url = answering(vec![answer]);
            let arguments = command.iter().copied().chain(["--admin", &url]);
            let told = output(empty.path(), arguments);
            assert_eq!(
                told.status.code(),
                Some(2),
                "{command:?}: {answer}: {}",
                stderr(&told)
            );
            assert!(
                stderr(&told).starts_with("weir: the admin address is not weir's"),
                "{command:?}: {answer}: {}",
                stderr(&told)
            );
        }
    }
    let url = answering(vec!["404 not found"]);
    let told = output(empty.path(), ["reload", "--admin", &url]);
    assert_eq!(told.status.code(), Some(2), "{}", stderr(&told));
}

/// That of a file which was refused need not be weir's.
#[test]
fn an_address_that_is_of_no_use_is_named_with_the_file_that_it_is_from() {
    let at = |address: &str| HELLO.replace("127.0.0.1:0", address);
    let url = answering(vec!["404 <html>"]);
    let (other, _) = folder(&at(url.trim_start_matches("http://")));
    let told = output(other.path(), ["status"]);
    assert_eq!(told.status.code(), Some(2), "{}", stderr(&told));
    let place =
        "(by `weir.toml`; if weir runs by another config, name its address with `--admin URL`)";
    let address = url.trim_start_matches("http://");
    assert_eq!(
        stderr(&told),
        format!(
            "weir: the admin address is not weir's: `{address}` {place} answered 404 Not Found\n"
        )
    );
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (nobody, _) = folder(&at(&free.to_string()));
    let told = stderr(&output(nobody.path(), ["reload"]));
    assert!(
        told.starts_with(&format!(
            "weir: cannot reach weir at `{free}` {place}; is it running?: "
        )),
        "{told}"
    );
}

/// It was asked when another process was about to take over: that one is asked then.
#[test]
fn a_reload_that_comes_too_late_for_a_process_is_made_by_the_next() {
    let empty = tempfile::tempdir().unwrap();
    let late =
        "503 {\"result\":\"handed_over\",\"process\":7,\"message\":\"process 7 has taken over\"}";
    let ok =
        "200 {\"result\":\"ok\",\"hash\":\"abc\",\"message\":\"\",\"changes\":[\"+ route.new\"]}";
    let url = answering(vec![late, ok]);
    let told = output(empty.path(), ["reload", "--admin", &url]);
    assert_eq!(
        (told.status.code(), &*stderr(&told)),
        (Some(0), "taken, hash abc\n+ route.new\n")
    );
    let url = answering(vec![late]);
    let told = output(empty.path(), ["rollback", "--admin", &url]);
    assert_eq!(
        (told.status.code(), &*stderr(&told)),
        (Some(1), "refused: process 7 has taken over\n")
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

/// Accepts connections, and answers on each that is let go.
struct Holding {
    address: std::net::SocketAddr,
    waiting: Receiver<TcpStream>,
}

impl Holding {
    fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, waiting) = channel();
        thread::spawn(move || {
            for stream in socket.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, waiting }
    }

    /// Waits for a request that came.
    fn request(&self) -> TcpStream {
        self.waiting.recv_timeout(PATIENCE).unwrap()
    }

    /// Runs a weir before it.
    fn behind(&self) -> (tempfile::TempDir, Program) {
        let (folder, _) = folder(&format!(
            "{}[upstream.app]\nservers = [\"{}\"]\n",
            HELLO.replace(
                "respond = { status = 200, body = \"hello\" }",
                "upstream = \"app\""
            ),
            self.address
        ));
        let program = Program::run(folder.path());
        (folder, program)
    }
}

fn answer(mut held: TcpStream) {
    held.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nheld")
        .unwrap();
}

#[test]
fn drain_waits_until_the_server_is_empty() {
    let server = Holding::start();
    let (folder, program) = server.behind();
    let url = program.admin_url();
    let (web, address) = (program.address("web"), server.address.to_string());
    let client = thread::spawn(move || get(web, "/"));
    let held = server.request();
    let arguments = ["drain", "app", &address, "--admin", &url];
    let mut draining = Program::start(weir(folder.path(), arguments));
    draining.line_with(&format!("{address} of app takes no new requests; 1 left"));
    program.logged("server is drained");
    // Longer than it takes to ask again.
    thread::sleep(Duration::from_millis(500));
    assert!(draining.is_running(), "{}", draining.printed());
    answer(held);
    assert!(client.join().unwrap().ends_with("held"));
    assert_eq!(draining.wait().code(), Some(0));
    draining.line_with("empty");
    let event = program.logged("server is empty");
    assert_eq!(
        (&event["level"], &event["upstream"], &event["server"]),
        (&"INFO".into(), &"app".into(), &address.as_str().into())
    );
    let status = output(folder.path(), ["status", "--admin", &url]);
    let text = stdout(&status);
    assert!(
        text.contains(" draining ") && text.contains("drained by hand; empty"),
        "{text}"
    );
    assert!(get(web, "/").starts_with("HTTP/1.1 503 "));
    let again = output(folder.path(), arguments);
    assert_eq!(
        (again.status.code(), stderr(&again)),
        (
            Some(0),
            format!("{address} of app takes no new requests; empty\n")
        )
    );
    let ready = output(folder.path(), ["ready", "app", &address, "--admin", &url]);
    assert_eq!(
        (ready.status.code(), stderr(&ready), stdout(&ready)),
        (
            Some(0),
            format!("{address} of app takes requests again\n"),
            String::new()
        )
    );
    program.logged("server is ready");
    let client = thread::spawn(move || get(web, "/"));
    answer(server.request());
    assert!(client.join().unwrap().ends_with("held"));
    let told = program.printed().matches("server is empty").count();
    assert_eq!(told, 1, "an end of a request says so only while drained");
}

#[test]
fn drain_gives_up_when_its_time_is_over_or_somebody_takes_the_server_back() {
    let server = Holding::start();
    let (folder, program) = server.behind();
    let url = program.admin_url();
    let (web, address) = (program.address("web"), server.address.to_string());
    let _client = thread::spawn(move || get(web, "/"));
    let _held = server.request();
    let drain = |more: &[&str]| {
        let mut command = weir(folder.path(), ["drain", "app", &address, "--admin", &url]);
        command.args(more);
        command
    };
    let unwaiting = drain(&["--no-wait"]).output().unwrap();
    assert_eq!(
        (unwaiting.status.code(), stderr(&unwaiting)),
        (
            Some(0),
            format!("{address} of app takes no new requests; 1 left\n")
        )
    );
    for timeout in ["300ms", "0s"] {
        let late = drain(&["--timeout", timeout]).output().unwrap();
        assert_eq!(late.status.code(), Some(1), "{}", stderr(&late));
        assert!(
            stderr(&late).contains("not empty in time; 1 left")
                && stderr(&late).contains(&format!("`weir ready app {address}`")),
            "{}",
            stderr(&late)
        );
    }
    let mut waiting = Program::start(drain(&[]));
    waiting.line_with("1 left");
    let ready = output(folder.path(), ["ready", "app", &address, "--admin", &url]);
    assert_eq!(ready.status.code(), Some(0), "{}", stderr(&ready));
    assert_eq!(waiting.wait().code(), Some(1));
    waiting.line_with("somebody has taken it back: its state is `up`, 1 left");
    let mut waiting = Program::start(drain(&[]));
    waiting.line_with("1 left");
    drop(program);
    assert_eq!(waiting.wait().code(), Some(2));
    waiting.line_with("cannot reach weir at");
}

#[test]
fn drain_and_ready_of_what_is_not_there_are_refused() {
    let server = Holding::start();
    let (folder, program) = server.behind();
    let (url, address) = (program.admin_url(), server.address.to_string());
    for command in ["drain", "ready"] {
        for (upstream, server, message) in [
            (
                "ap/p",
                &*address,
                "refused: there is no upstream `ap/p`; there is `app`\n".to_owned(),
            ),
            (
                "app",
                "[::1]:80",
                format!(
                    "refused: there is no server `[::1]:80` in upstream `app`; there is `{address}`\n"
                ),
            ),
        ] {
            let refused = output(folder.path(), [command, upstream, server, "--admin", &url]);
            assert_eq!(
                (refused.status.code(), stderr(&refused)),
                (Some(1), message)
            );
        }
        for wrong in [
            vec![command, "app"],
            vec![command, "", &address],
            vec![command, "app", &address, "--timeout", "5"],
        ] {
            let output = output(folder.path(), wrong);
            assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        }
    }
}

#[test]
fn purge_tells_what_it_did_or_why_not() {
    let (folder, _) = folder(HELLO);
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let purge = |arguments: &[&str]| {
        let mut command = weir(folder.path(), ["purge", "--admin", &url]);
        command.args(arguments).output().unwrap()
    };
    for (what, logged) in [
        (&["--url", "https://a.example/x"][..], "a.example"),
        (
            &["--prefix", "https://a.example/y/*"],
            "https://a.example/y/",
        ),
        (&["--tag", "item-1"], "item-1"),
        (&["--all"], "All"),
    ] {
        for soft in [false, true] {
            let soft_flag: &[&str] = if soft { &["--soft"] } else { &[] };
            let done = purge(&[what, soft_flag].concat());
            assert_eq!(
                (done.status.code(), stderr(&done), stdout(&done)),
                (Some(0), "purged: 0\n".to_owned(), String::new()),
                "{what:?}"
            );
            program.logged_where("purged", |event| {
                event["what"].as_str().unwrap().contains(logged) && event["soft"] == soft
            });
        }
    }
    let refused = purge(&["--url", "/x"]);
    assert_eq!(
        (refused.status.code(), stderr(&refused)),
        (
            Some(1),
            "refused: `/x` is no whole URL; write it as `https://shop.example.com/page`\n"
                .to_owned()
        )
    );
    for wrong in [&[][..], &["--soft"], &["--all", "--tag", "a"], &["--tag"]] {
        assert_eq!(purge(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn purge_takes_out_what_is_stored() {
    let holding = Holding::start();
    let address = holding.address;
    thread::spawn(move || {
        let answer = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nCache-Tag: item-1\r\n\
                      Connection: close\r\nContent-Length: 5\r\n\r\nhello";
        while let Ok(mut stream) = holding.waiting.recv() {
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let (folder, _) = folder(&format!(
        "{}cache = true\n[upstream.app]\nservers = [\"{address}\"]\n",
        HELLO.replace(
            "respond = { status = 200, body = \"hello\" }",
            "upstream = \"app\""
        ),
    ));
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let is_stored = || get(program.address("web"), "/x").contains("cache-status: weir; hit;");
    for (what, goes) in [
        (&["--url", "http://localhost/y"][..], false),
        (&["--url", "http://localhost/x"], true),
        (&["--prefix", "http://localhost/*"], true),
        (&["--tag", "item-1"], true),
        (&["--tag", "item"], false),
        (&["--all"], true),
        (&["--all", "--soft"], true),
    ] {
        is_stored();
        assert!(is_stored());
        let mut command = weir(folder.path(), ["purge", "--admin", &url]);
        let done = command.args(what).output().unwrap();
        assert_eq!(stderr(&done), format!("purged: {}\n", u8::from(goes)));
        assert_eq!(is_stored(), !goes, "{what:?}");
    }
}
