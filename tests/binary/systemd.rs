//! What systemd is told (sd_notify(3)) and what it passes (sd_listen_fds(3)), systemd played by the test.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;

use super::support::{HELLO, Program, all_are_answered, folder, get, output, stderr, until, weir};

/// What a process has told its manager.
struct Manager {
    told: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// Listens in that folder, for the process that `command` starts.
    fn of(command: &mut Command, folder: &Path) -> Self {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        command.env("NOTIFY_SOCKET", path);
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let hearing = Arc::clone(&told);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let message = String::from_utf8(bytes[..length].to_vec()).unwrap();
                hearing.lock().unwrap().push(message);
            }
        });
        Self { told }
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until one message after the first `from` begins so; returns its place.
    fn hears(&self, from: usize, beginning: &str) -> usize {
        let find = || {
            let told = self.told();
            let later = told.iter().enumerate().skip(from);
            let mut found = later.filter(|(_, message)| message.starts_with(beginning));
            found.next().map(|(place, _)| place)
        };
        until(find, || format!("{beginning}: {:?}", self.told()))
    }
}

/// With `silence`, in microseconds, the manager takes a process that says nothing for so long for dead.
fn managed(folder: &Path, silence: Option<&str>) -> (Program, Manager) {
    let mut command = weir(folder, ["run"]);
    let manager = Manager::of(&mut command, folder);
    command.envs(silence.map(|silence| ("WATCHDOG_USEC", silence)));
    (Program::start(command), manager)
}

#[test]
fn it_is_ready_once_the_first_results_are_in() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let (folder, _) = folder(&format!(
        "{HELLO}[upstream.app]\nservers = [\"{at}\"]\nhealth_check = {{ path = \"/\", timeout = \"1h\" }}\n"
    ));
    let (mut program, manager) = managed(folder.path(), None);
    let (mut probe, _) = server.accept().unwrap();
    // By now it listens, and has said so.
    let waiting = manager.hears(0, "STATUS=config ");
    let told = manager.told();
    assert!(
        told[waiting].contains("waiting for first results"),
        "{told:?}"
    );
    assert!(
        !told.iter().any(|message| message == "READY=1\n"),
        "{told:?}"
    );
    probe
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    manager.hears(0, "READY=1\n");
    program.signal(Signal::TERM);
    manager.hears(0, "STOPPING=1\n");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn a_reload_by_signal_is_told_from_beginning_to_end() {
    let (folder, file) = folder(HELLO);
    let (program, manager) = managed(folder.path(), None);
    let mut ready = manager.hears(0, "READY=1\n");
    for (text, refused) in [
        (HELLO.replace("hello", "changed"), false),
        (HELLO.replace("respond", "resond"), true),
        (HELLO.to_owned(), false),
    ] {
        std::fs::write(&file, text).unwrap();
        program.signal(Signal::HUP);
        let reloading = manager.hears(ready + 1, "RELOADING=1\nMONOTONIC_USEC=");
        let message = manager.told().remove(reloading);
        let since = message.trim_end().rsplit('=').next().unwrap();
        assert!(since.parse::<u64>().unwrap() > 0, "{message}");
        ready = manager.hears(reloading + 1, "READY=1\n");
        let status = || {
            let told = manager.told();
            let mut latest = told.iter().rev();
            let status = latest.find(|message| message.starts_with("STATUS="))?;
            (status.contains("; the file was refused: ") == refused).then_some(())
        };
        until(status, || format!("{:?}", manager.told()));
    }
}

#[test]
fn the_watchdog_is_fed_as_long_as_the_workers_answer() {
    let (folder, _) = folder(HELLO);
    let (_program, manager) = managed(folder.path(), Some("200000"));
    let first = manager.hears(0, "WATCHDOG=1\n");
    let second = manager.hears(first + 1, "WATCHDOG=1\n");
    manager.hears(second + 1, "WATCHDOG=1\n");
}

#[test]
fn a_process_that_takes_over_is_the_main_one_before_it_speaks() {
    let (folder, _) = folder(HELLO);
    let (mut program, manager) = managed(folder.path(), Some("200000"));
    let ready = manager.hears(0, "READY=1\n");
    let done = output(folder.path(), ["upgrade", "--admin", &program.admin_url()]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(program.wait().code(), Some(0));
    let main = manager.hears(ready + 1, "MAINPID=");
    let again = manager.hears(main + 1, "READY=1\n");
    manager.hears(again, "WATCHDOG=1\n");
    let told = manager.told();
    let process = program.successor().as_raw_nonzero();
    assert_eq!(told[main], format!("MAINPID={process}\n"));
    assert_eq!(
        told.iter()
            .filter(|message| **message == "READY=1\n")
            .count(),
        2
    );
    assert!(!told.contains(&"STOPPING=1\n".to_owned()), "{told:?}");
}

/// Starts weir as systemd does, with one socket or two and their names.
fn activated(folder: &Path, sockets: [OwnedFd; 2], count: usize, names: &str) -> Program {
    // The shell is the process that becomes weir, so that it knows its id; it gets the sockets by its first descriptors.
    let script = "exec 3<&0 4<&1 0</dev/null 1>&2; export LISTEN_PID=$$; exec \"$0\" run";
    let [first, second] = sockets;
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_weir")])
        .current_dir(folder)
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first));
    let program = Program::start_with_stdout(command, Stdio::from(second));
    program.logged("weir runs");
    program
}

fn tcp() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    (socket, local)
}

#[test]
fn sockets_are_taken_by_address_and_by_name() {
    let (by_address, at) = tcp();
    let (by_name, named) = tcp();
    let config = HELLO.replace(
        "[listen.web]\naddress = \"127.0.0.1:0\"",
        &format!("[process]\nworkers = 3\n[listen.web]\naddress = \"{at}\"\n[listen.other]\naddress = \"127.0.0.1:0\""),
    );
    let (folder, _) = folder(&config);
    let sockets = [by_address.into(), by_name.into()];
    let mut program = activated(folder.path(), sockets, 2, "unknown:other");
    assert_eq!(program.address("web"), at);
    assert_eq!(program.address("other"), named);
    // Three workers accept on each.
    all_are_answered(&[at, named], 15);
    // The next process has them too.
    let done = output(folder.path(), ["upgrade", "--admin", &program.admin_url()]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(program.wait().code(), Some(0));
    for address in [at, named] {
        assert!(get(address, "/").ends_with("hello"));
    }
}

#[test]
fn a_listener_can_go_and_come_again_on_a_socket_of_systemd() {
    let (web, at) = tcp();
    let (unused, nobody) = tcp();
    let kept = [web.try_clone().unwrap(), unused.try_clone().unwrap()];
    let config = HELLO.replace(
        "[listen.web]\naddress = \"127.0.0.1:0\"",
        "[listen.own]\naddress = \"127.0.0.1:0\"",
    );
    let with_web = format!("{config}[listen.web]\naddress = \"{at}\"\n");
    let (folder, file) = folder(&with_web);
    let program = activated(folder.path(), [web.into(), unused.into()], 2, "web:unused");
    let warning = program.logged("systemd has passed a socket that the config does not ask for");
    assert_eq!(warning["address"], nobody.to_string());
    assert!(get(at, "/").ends_with("hello"));
    for text in [
        config.replace("hello", "without"),
        with_web.replace("hello", "again"),
    ] {
        std::fs::write(&file, &text).unwrap();
        program.signal(Signal::HUP);
        let own = program.address("own");
        let body = if text.contains("again") {
            "again"
        } else {
            "without"
        };
        until(
            || get(own, "/").ends_with(body).then_some(()),
            || program.printed(),
        );
    }
    assert!(get(at, "/").ends_with("again"));
    drop(kept);
}

#[test]
fn a_unix_socket_of_systemd_is_the_admin_address_and_its_file_stays() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("weir.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let (web, at) = tcp();
    let config = HELLO
        .replace(
            "[admin]\naddress = \"127.0.0.1:0\"",
            &format!("[admin]\naddress = \"unix:{}\"", path.display()),
        )
        .replace(
            "[listen.web]\naddress = \"127.0.0.1:0\"",
            &format!("[listen.web]\naddress = \"{at}\""),
        );
    let (folder, _) = folder(&config);
    let mut program = activated(folder.path(), [admin.into(), web.into()], 2, "");
    let done = output(folder.path(), ["upgrade"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(program.wait().code(), Some(0));
    let shown = output(folder.path(), ["status"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    rustix::process::kill_process(program.successor(), Signal::TERM).unwrap();
    program.logged("stopped");
    assert!(path.exists());
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let (folder, _) = folder(HELLO);
    let mut command = weir(folder.path(), ["run"]);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let program = Program::start(command);
    program.logged("weir runs");
    assert!(get(program.address("web"), "/").ends_with("hello"));
}

#[test]
fn what_is_no_socket_is_told_and_is_2() {
    let file = |path: &str| OwnedFd::from(std::fs::File::open(path).unwrap());
    let (folder, _) = folder(HELLO);
    let mut command = Command::new("/bin/sh");
    let script = "exec 3<&0; export LISTEN_PID=$$; exec \"$0\" run";
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_weir")])
        .current_dir(folder.path())
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web")
        .stdin(Stdio::from(file("/dev/null")));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.contains("what systemd passes as `web` is of no use"),
        "{told}"
    );
}
