//! `weir run`: how it starts, what it does on signals, how it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::support::{HELLO, PATIENCE, Program, folder, get, output, stderr, stdout, until, weir};

#[test]
fn it_serves_until_it_is_told_to_stop() {
    for signal in [Signal::TERM, Signal::INT] {
        let (folder, _) = folder(HELLO);
        let mut program = Program::run(folder.path());
        assert!(get(program.address("web"), "/").ends_with("hello"));
        assert!(get(program.admin(), "/readyz").starts_with("HTTP/1.1 200"));
        program.signal(signal);
        assert_eq!(program.wait().code(), Some(0), "{}", program.printed());
        program.logged("stopping");
    }
}

#[test]
fn warnings_are_logged_at_the_start_and_by_a_reload() {
    let spare = |name: &str| format!("{HELLO}[upstream.{name}]\nservers = [\"127.0.0.1:1\"]\n");
    let (folder, file) = folder(&spare("one"));
    let program = Program::run(folder.path());
    let warned = |key: &str| {
        let event =
            program.logged_where("no route uses this upstream", |event| event["key"] == key);
        assert_eq!(
            (&event["level"], &event["place"]),
            (&"WARN".into(), &"weir.toml:9".into())
        );
    };
    warned("upstream.one");
    std::fs::write(&file, spare("two")).unwrap();
    warned("upstream.two");
}

/// Answers every request over TLS, with a certificate for `localhost` that nobody has signed but itself. Returns the port and
/// the certificate.
fn secured() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let settings = Arc::new(settings);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&settings)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream.unwrap());
            let mut bytes = [0; 4096];
            if matches!(stream.read(&mut bytes), Ok(1..)) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
                let _ = stream.write_all(answer);
            }
        }
    });
    (port, made.cert.pem())
}

/// `SSL_CERT_FILE` is where OpenSSL looks too. Where there is nothing, the bundled roots vouch, here for nobody.
#[test]
fn servers_are_believed_by_the_roots_of_the_system() {
    let (port, certificate) = secured();
    let (folder, _) = folder(&format!(
        "[listen.web]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [\"localhost:{port}\"]\ntls = true\n"
    ));
    let roots = folder.path().join("roots.pem");
    for (content, status) in [(certificate.as_str(), "200"), ("", "502")] {
        std::fs::write(&roots, content).unwrap();
        let mut command = weir(folder.path(), ["run"]);
        command
            .env("SSL_CERT_FILE", &roots)
            .env_remove("SSL_CERT_DIR");
        let program = Program::start(command);
        program.logged("weir runs");
        let answer = get(program.address("web"), "/");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(
            answer.contains("weir; error=tls_certificate_error"),
            status == "502",
            "{answer}"
        );
    }
}

#[test]
fn a_config_that_is_invalid_is_shown_and_is_1() {
    let (folder, _) = folder("[listen.web]\naddress = \":x\"\n");
    let output = output(folder.path(), ["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("weir.toml:2:11: error: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn without_a_config_it_is_2() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(output(empty.path(), ["run"]).status.code(), Some(2));
    assert_eq!(
        output(empty.path(), ["run", "-c", "missing.toml"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (table, key) in [("[listen.web]", "listen.web"), ("[admin]", "admin.address")] {
        let config = HELLO.replace(
            &format!("{table}\naddress = \"127.0.0.1:0\""),
            &format!("{table}\naddress = \"{address}\""),
        );
        let (folder, _) = folder(&config);
        let output = output(folder.path(), ["run"]);
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        let expected = format!(
            "weir: {key}: cannot listen on `{address}`: another process listens there; stop it or choose another port: "
        );
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn sighup_takes_the_file_and_a_bad_one_changes_nothing() {
    let (folder, file) = folder(HELLO);
    let mut program = Program::run(folder.path());
    let address = program.address("web");
    std::fs::write(&file, HELLO.replace("hello", "changed")).unwrap();
    program.signal(Signal::HUP);
    program.logged("config taken");
    assert!(get(address, "/").ends_with("changed"));
    std::fs::write(&file, HELLO.replace("respond", "resond")).unwrap();
    program.signal(Signal::HUP);
    let refused = program.logged("config refused");
    assert_eq!(refused["level"], "ERROR");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("weir.toml:8:1: "),
        "{refused}"
    );
    assert!(get(address, "/").ends_with("changed"));
    // Without a signal, too.
    std::fs::write(&file, HELLO.replace("hello", "again")).unwrap();
    until(
        || get(address, "/").ends_with("again").then_some(()),
        || program.printed(),
    );
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn sigusr1_opens_the_access_log_anew() {
    let (folder, _) = folder(&HELLO.replace(
        "access = \"off\"",
        "access = \"access.log\"\naccess_filter = \"all\"",
    ));
    let mut program = Program::run(folder.path());
    let (log, moved) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    let lines = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    get(program.address("web"), "/one");
    until(|| (lines(&log) == 1).then_some(()), || program.printed());
    std::fs::rename(&log, &moved).unwrap();
    program.signal(Signal::USR1);
    until(|| log.exists().then_some(()), || program.printed());
    get(program.address("web"), "/two");
    until(|| (lines(&log) == 1).then_some(()), || program.printed());
    assert_eq!(lines(&moved), 1);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
}

/// A config with a server that never answers.
fn silent(drain: &str) -> (String, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = HELLO.replace(
        "respond = { status = 200, body = \"hello\" }",
        "upstream = \"app\"",
    );
    let config = format!(
        "[process]\ndrain = \"{drain}\"\n{config}[upstream.app]\nservers = [\"{}\"]\n",
        server.local_addr().unwrap()
    );
    (config, server)
}

/// Sends a request that nobody will answer.
fn wait_for_ever(program: &Program, server: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(program.address("web")).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (connection, _) = server.accept().unwrap();
    (client, connection)
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (config, server) = silent("1h");
    let (folder, _) = folder(&config);
    let mut program = Program::run(folder.path());
    let held = wait_for_ever(&program, &server);
    program.signal(Signal::TERM);
    program.logged("stopping");
    assert!(get(program.admin(), "/readyz").starts_with("HTTP/1.1 503"));
    assert!(program.is_running(), "a request is being answered");
    let began = Instant::now();
    program.signal(Signal::TERM);
    program.wait();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    program.logged("ended at once");
    drop(held);
}

#[test]
fn what_is_not_done_in_time_is_cut_and_that_is_0_too() {
    let (config, server) = silent("500ms");
    let (folder, _) = folder(&config);
    let mut program = Program::run(folder.path());
    let (mut client, _connection) = wait_for_ever(&program, &server);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

/// As where the disk is full, or whoever read the log has gone.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    for format in ["json", "text"] {
        let config = HELLO
            .replacen("127.0.0.1:0", "unix:weir.sock", 1)
            .replace("[log]", &format!("[log]\nformat = \"{format}\""));
        let (folder, file) = folder(&config);
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut child = weir(folder.path(), ["run"])
            .stdout(Stdio::null())
            .stderr(full)
            .spawn()
            .unwrap();
        let status = |part: &str| {
            let shown = output(folder.path(), ["status"]);
            stdout(&shown).contains(part).then_some(())
        };
        let nothing = || stderr(&output(folder.path(), ["status"]));
        until(|| status(", ready\n"), nothing);
        std::fs::write(&file, config.replace("respond", "resond")).unwrap();
        let refused = output(folder.path(), ["reload"]);
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{format}");
    }
}

#[test]
fn the_log_is_text_where_it_says_so() {
    let (folder, _) = folder(&HELLO.replace("[log]", "[log]\nformat = \"text\""));
    let program = Program::start(weir(folder.path(), ["run"]));
    let line = program.line_with("weir runs");
    assert!(
        line.contains("INFO") && !line.contains('{') && !line.contains('\u{1b}'),
        "{line}"
    );
}
