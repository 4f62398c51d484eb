//! `weir upgrade`: another process takes over, and nobody notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::support::{
    HELLO, PATIENCE, Program, TAKEN_OVER, all_are_answered, folder, get, output, stderr, stdout,
    until, weir,
};

fn upgrade(folder: &Path, program: &Program) -> Output {
    output(folder, ["upgrade", "--admin", &program.admin_url()])
}

/// Upgrades, and returns the process that serves from now on.
fn upgraded(folder: &Path, program: &Program) -> Pid {
    let done = upgrade(folder, program);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let told = stderr(&done);
    let told = told.strip_prefix("process ").unwrap();
    let process = told.strip_suffix(" has taken over\n").unwrap();
    let process: i32 = process.parse().unwrap();
    program.logged_where("weir runs", |event| event["process"] == process);
    Pid::from_raw(process).unwrap()
}

/// Ends a process that is no child of the test.
fn end(process: Pid, program: &Program) {
    kill_process(process, Signal::TERM).unwrap();
    until(
        || test_kill_process(process).is_err().then_some(()),
        || program.printed(),
    );
}

/// Clients with a fresh connection for each request, until it is stopped.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Clients {
    fn of(address: SocketAddr, answer: &'static str) -> Self {
        let (stop, answered): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let one = || {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let got = get(address, "/");
                    if !got.ends_with(answer) {
                        wrong.push(got);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                wrong
            })
        };
        let threads = (0..3).map(|_| one()).collect();
        Self {
            stop,
            answered,
            threads,
        }
    }

    /// Waits until they have had some more answers.
    fn go_on(&self, program: &Program) {
        let before = self.answered.load(Ordering::Relaxed);
        until(
            || (self.answered.load(Ordering::Relaxed) > before + 20).then_some(()),
            || program.printed(),
        );
    }

    /// What they got instead of the answer.
    fn wrong(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        threads.flat_map(|thread| thread.join().unwrap()).collect()
    }
}

fn with_workers(count: usize) -> String {
    format!("[process]\nworkers = {count}\n{HELLO}")
}

#[test]
fn another_process_takes_over_and_no_connection_is_refused() {
    let (folder, _) = folder(&with_workers(2));
    let mut program = Program::run(folder.path());
    let (address, admin) = (program.address("web"), program.admin());
    let clients = Clients::of(address, "hello");
    clients.go_on(&program);
    let second = upgraded(folder.path(), &program);
    assert_eq!(program.wait().code(), Some(0), "{}", program.printed());
    // And once more: what was handed over can be handed on.
    let third = upgraded(folder.path(), &program);
    until(
        || test_kill_process(second).is_err().then_some(()),
        || program.printed(),
    );
    clients.go_on(&program);
    assert_eq!(clients.wrong(), Vec::<String>::new());
    assert_eq!((program.address("web"), program.admin()), (address, admin));
    assert!(get(program.admin(), "/readyz").starts_with("HTTP/1.1 200"));
    end(third, &program);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn sigusr2_is_the_same() {
    let (folder, _) = folder(HELLO);
    let mut program = Program::run(folder.path());
    let address = program.address("web");
    program.signal(Signal::USR2);
    program.logged(TAKEN_OVER);
    assert_eq!(program.wait().code(), Some(0), "{}", program.printed());
    assert!(get(address, "/").ends_with("hello"));
}

/// A config before one server.
fn before(server: &TcpListener, more: &str) -> String {
    let config = HELLO.replace(
        "respond = { status = 200, body = \"hello\" }",
        "upstream = \"app\"",
    );
    let server = server.local_addr().unwrap();
    format!("{config}[upstream.app]\nservers = [\"{server}\"{more}]\n")
}

#[test]
fn what_runs_finishes_in_the_old_process_and_a_signal_for_all_does_not_cut_it() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, _) = folder(&before(&server, ""));
    let mut program = Program::run(folder.path());
    let mut client = TcpStream::connect(program.address("web")).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (mut held, _) = server.accept().unwrap();
    upgraded(folder.path(), &program);
    program.logged(TAKEN_OVER);
    program.signal(Signal::TERM);
    assert!(program.is_running(), "a request is being answered");
    // Others are answered by the other process.
    let address = program.address("web");
    let asking = thread::spawn(move || get(address, "/"));
    let (mut other, _) = server.accept().unwrap();
    other
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew")
        .unwrap();
    assert!(asking.join().unwrap().ends_with("new"));
    held.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        .unwrap();
    let mut answer = String::new();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("old"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(program.wait().code(), Some(0), "{}", program.printed());
}

/// Starts weir by a link that can be made to lead elsewhere.
fn by_link(folder: &Path) -> Program {
    let link = folder.join("linked");
    symlink(env!("CARGO_BIN_EXE_weir"), &link).unwrap();
    let mut command = Command::new(link);
    command.arg("run").current_dir(folder).stdin(Stdio::null());
    let program = Program::start(command);
    program.logged("weir runs");
    program
}

fn lead(folder: &Path, to: &str) {
    symlink(to, folder.join("new")).unwrap();
    std::fs::rename(folder.join("new"), folder.join("linked")).unwrap();
}

#[test]
fn a_program_that_is_none_leaves_the_old_process_running() {
    let (folder, _) = folder(HELLO);
    let mut program = by_link(folder.path());
    let address = program.address("web");
    lead(folder.path(), "/bin/false");
    let failed = upgrade(folder.path(), &program);
    assert_eq!(failed.status.code(), Some(1));
    let told = "the new process ended before it was ready (exit status: 1)";
    assert_eq!(
        stderr(&failed),
        format!("failed, the process before runs on: {told}\n")
    );
    assert_eq!(program.logged("the upgrade has failed")["level"], "ERROR");
    assert!(get(address, "/").ends_with("hello"));
    let shown = output(folder.path(), ["status", "--admin", &program.admin_url()]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    assert!(stdout(&shown).contains("AN UPGRADE HAS FAILED"));
    assert!(stdout(&shown).contains(told), "{}", stdout(&shown));
    // What the path leads to now is what is started.
    lead(folder.path(), env!("CARGO_BIN_EXE_weir"));
    upgraded(folder.path(), &program);
    assert_eq!(program.wait().code(), Some(0));
    assert!(get(address, "/").ends_with("hello"));
}

#[test]
fn a_config_that_has_become_invalid_leaves_the_old_process_running() {
    let (folder, file) = folder(HELLO);
    let mut program = Program::run(folder.path());
    std::fs::write(&file, HELLO.replace("respond", "resond")).unwrap();
    let failed = upgrade(folder.path(), &program);
    assert_eq!(failed.status.code(), Some(1));
    let told = stderr(&failed);
    assert!(
        told.contains("the new process gave up") && told.contains("weir.toml:8:1: "),
        "{told}"
    );
    assert!(program.is_running());
    assert!(get(program.address("web"), "/").ends_with("hello"));
}

#[test]
fn a_port_that_is_taken_leaves_the_old_process_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, file) = folder(HELLO);
    let mut program = Program::run(folder.path());
    let other = format!(
        "[listen.other]\naddress = \"{}\"\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(&file, format!("{HELLO}{other}")).unwrap();
    let failed = upgrade(folder.path(), &program);
    assert_eq!(failed.status.code(), Some(1));
    let told = stderr(&failed);
    assert!(told.contains("listen.other: cannot listen on"), "{told}");
    assert!(program.is_running());
    assert!(get(program.address("web"), "/").ends_with("hello"));
}

#[test]
fn the_number_of_workers_may_change_either_way() {
    let (folder, file) = folder(&with_workers(3));
    let mut program = Program::run(folder.path());
    let address = program.address("web");
    let clients = Clients::of(address, "hello");
    let url = program.admin_url();
    let workers = || {
        let shown = output(folder.path(), ["status", "--json", "--admin", &url]);
        let status: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
        status["workers"].as_array().unwrap().len()
    };
    assert_eq!(workers(), 3);
    for count in [1, 4, 2] {
        std::fs::write(&file, with_workers(count)).unwrap();
        upgraded(folder.path(), &program);
        assert_eq!(workers(), count);
        all_are_answered(&[address], 40);
    }
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(clients.wrong(), Vec::<String>::new());
}

/// Also those that the process before had not.
#[test]
fn each_worker_of_the_new_process_has_a_socket_of_its_own() {
    let (folder, file) = folder(&with_workers(1));
    let mut program = Program::run(folder.path());
    let address = program.address("web");
    let clients = Clients::of(address, "hello");
    // Where there were more sockets than workers, none of them is closed.
    for (workers, sockets) in [(3, 3), (3, 3), (2, 3), (4, 4)] {
        std::fs::write(&file, with_workers(workers)).unwrap();
        upgraded(folder.path(), &program);
        until(
            || (listening(address) == sockets).then_some(()),
            || format!("{} of {sockets}", listening(address)),
        );
        clients.go_on(&program);
    }
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(clients.wrong(), Vec::<String>::new());
}

/// How many sockets listen at a port of IPv4.
fn listening(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listens = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().unwrap_or_default();
        local.ends_with(&port) && columns.nth(1) == Some("0A")
    };
    table.lines().filter(listens).count()
}

#[test]
fn a_unix_socket_of_the_admin_address_lives_on() {
    let config = HELLO.replace(
        "[admin]\naddress = \"127.0.0.1:0\"",
        "[admin]\naddress = \"unix:weir.sock\"",
    );
    let (folder, _) = folder(&config);
    let socket = folder.path().join("weir.sock");
    let config = config.replace("unix:weir.sock", &format!("unix:{}", socket.display()));
    std::fs::write(folder.path().join("weir.toml"), config).unwrap();
    let mut program = Program::run(folder.path());
    let done = output(folder.path(), ["upgrade"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(program.wait().code(), Some(0));
    assert!(socket.exists());
    let shown = output(folder.path(), ["status"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    end(program.successor(), &program);
    assert!(!socket.exists());
}

#[test]
fn an_address_that_the_new_config_has_no_more_is_closed_without_a_reset() {
    let config = format!("{HELLO}[listen.other]\naddress = \"127.0.0.1:0\"\n");
    let (folder, file) = folder(&config);
    let mut program = Program::run(folder.path());
    let other = program.address("other");
    // Clients of it are answered for as long as they can connect.
    let clients: Vec<_> = (0..3)
        .map(|_| thread::spawn(move || until_refused(other)))
        .collect();
    // So soon that the old process has not taken it: the new one has a socket too many.
    std::fs::write(&file, HELLO).unwrap();
    upgraded(folder.path(), &program);
    assert_eq!(program.wait().code(), Some(0));
    program.logged("no longer listening");
    for client in clients {
        assert_eq!(client.join().unwrap(), None);
    }
    assert!(get(program.address("web"), "/").ends_with("hello"));
}

/// Asks over fresh connections until there is none to be had. Returns what came instead of an answer, if anything did.
fn until_refused(address: SocketAddr) -> Option<String> {
    while let Ok(mut client) = TcpStream::connect(address) {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let sent = client.write_all(request);
        let got = sent.and_then(|()| client.read_to_string(&mut answer));
        if !answer.ends_with("hello") {
            return Some(format!("{got:?}: {answer}"));
        }
    }
    None
}

/// Answers every request with that status and body, but none while somebody holds the lock.
fn server(status: &'static str, body: &'static str, held: &Arc<Mutex<()>>) -> TcpListener {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (accepting, held) = (socket.try_clone().unwrap(), Arc::clone(held));
    thread::spawn(move || {
        for stream in accepting.incoming() {
            let (mut stream, held) = (stream.unwrap(), Arc::clone(&held));
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                drop(held.lock().unwrap());
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    socket
}

/// The old process knows that a server is down. The new one finds out before it accepts anything.
#[test]
fn a_server_that_is_down_gets_no_request_from_the_new_process() {
    let (free, held): (Arc<Mutex<()>>, Arc<Mutex<()>>) = Default::default();
    let good = server("200 OK", "good", &free);
    let ill = server("500 Oh No", "ill", &held);
    let config = before(&good, &format!(", \"{}\"", ill.local_addr().unwrap()));
    let health = "health_check = { path = \"/\", interval = \"100ms\", fast_interval = \"50ms\", fall = 1 }\n";
    let (folder, _) = folder(&format!("{config}{health}"));
    let program = Program::run(folder.path());
    let address = program.address("web");
    let url = program.admin_url();
    let down = || {
        let shown = output(folder.path(), ["status", "--admin", &url]);
        stdout(&shown).contains(" down ").then_some(())
    };
    until(down, || program.printed());
    let clients = Clients::of(address, "good");
    let no_answer = held.lock().unwrap();
    thread::scope(|scope| {
        let upgrading = scope.spawn(|| upgraded(folder.path(), &program));
        until(
            || {
                (program
                    .printed()
                    .matches("the admin address is open")
                    .count()
                    == 2)
                    .then_some(())
            },
            || program.printed(),
        );
        // The new process has its sockets, and no word of the server that is down.
        clients.go_on(&program);
        drop(no_answer);
        upgrading.join().unwrap();
    });
    clients.go_on(&program);
    assert_eq!(clients.wrong(), Vec::<String>::new());
}

/// `HELLO` with its admin address at `socket` and its last good configs in the folder `state`.
fn keeping(socket: &Path) -> String {
    let admin = format!("unix:{}", socket.display());
    let config = HELLO.replacen("127.0.0.1:0", &admin, 1);
    format!("[process]\nstate = \"state\"\n{config}")
}

/// Waits until the new process has its sockets, and returns it.
fn waiting(program: &Program) -> Pid {
    let opened = || {
        let printed = program.printed();
        (printed.matches("the admin address is open").count() == 2).then_some(())
    };
    until(opened, || program.printed());
    program.children()[0]
}

/// A config with a server whose health check waits for `held`.
fn waits_for(held: &Arc<Mutex<()>>, config: &str) -> String {
    let server = server("200 OK", "", held).local_addr().unwrap();
    format!(
        "{config}[route.app]\npath = \"/app\"\nupstream = \"app\"\n\
         [upstream.app]\nservers = [\"{server}\"]\nhealth_check = \"/\"\n"
    )
}

/// Whatever ends it before it is told to serve, nobody notices.
#[test]
fn a_new_process_that_is_killed_while_it_waits_leaves_no_trace() {
    let (folder, file) = folder("");
    let socket = folder.path().join("weir.sock");
    let config = keeping(&socket);
    std::fs::write(&file, &config).unwrap();
    let program = Program::run(folder.path());
    let clients = Clients::of(program.address("web"), "hello");
    let held: Arc<Mutex<()>> = Arc::default();
    let _no_answer = held.lock().unwrap();
    std::fs::write(&file, waits_for(&held, &config)).unwrap();
    let kept = || {
        std::fs::read_dir(folder.path().join("state"))
            .unwrap()
            .count()
    };
    thread::scope(|scope| {
        let upgrading = scope.spawn(|| output(folder.path(), ["upgrade"]));
        let new = waiting(&program);
        clients.go_on(&program);
        let second = output(folder.path(), ["upgrade"]);
        assert_eq!(second.status.code(), Some(1));
        let told = stderr(&second);
        assert!(told.contains("another upgrade is under way"), "{told}");
        assert_eq!(kept(), 1, "what has not run yet is not kept");
        kill_process(new, Signal::KILL).unwrap();
        let failed = upgrading.join().unwrap();
        assert_eq!(failed.status.code(), Some(1));
        let told = stderr(&failed);
        assert!(
            told.contains("ended before it was ready (signal: 9"),
            "{told}"
        );
    });
    assert!(socket.exists());
    // Nothing was in its way but the upgrade.
    program.logged("config taken");
    assert_eq!(kept(), 2);
    clients.go_on(&program);
    assert_eq!(clients.wrong(), Vec::<String>::new());
}

#[test]
fn a_new_process_that_gives_up_removes_no_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, file) = folder("");
    let socket = folder.path().join("weir.sock");
    std::fs::write(&file, keeping(&socket)).unwrap();
    let _program = Program::run(folder.path());
    let taken = taken.local_addr().unwrap();
    let other = format!(
        "{}[listen.other]\naddress = \"{taken}\"\n",
        keeping(&socket)
    );
    std::fs::write(&file, other).unwrap();
    let failed = output(folder.path(), ["upgrade"]);
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    let shown = output(folder.path(), ["status"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    assert!(stdout(&shown).contains("AN UPGRADE HAS FAILED"));
}

/// It waits for the upgrade; then the file is for the new process to take, and nothing is wrong with it.
#[test]
fn a_reload_while_the_new_process_waits_is_no_refusal() {
    let (folder, file) = folder(HELLO);
    let mut program = Program::run(folder.path());
    let held: Arc<Mutex<()>> = Arc::default();
    let no_answer = held.lock().unwrap();
    std::fs::write(&file, waits_for(&held, HELLO)).unwrap();
    program.signal(Signal::USR2);
    let new = waiting(&program);
    let admin = program.admin();
    let mut asking = TcpStream::connect(&admin).unwrap();
    let request = b"POST /api/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    asking.write_all(request).unwrap();
    program.signal(Signal::HUP);
    // Connections are accepted in their order.
    assert!(get(&admin, "/healthz").ends_with("ok\n"));
    thread::scope(|scope| {
        let reloading =
            scope.spawn(|| output(folder.path(), ["reload", "--admin", &program.admin_url()]));
        drop(no_answer);
        let done = reloading.join().unwrap();
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert!(
            stderr(&done).starts_with("taken, hash "),
            "{}",
            stderr(&done)
        );
    });
    let mut answer = String::new();
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let process = new.as_raw_nonzero();
    for part in [
        "\"result\":\"handed_over\"",
        &format!("\"process\":{process}"),
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        !program.printed().contains("ERROR"),
        "{}",
        program.printed()
    );
}

#[test]
fn a_server_that_is_drained_stays_drained() {
    let (free, other): (Arc<Mutex<()>>, Arc<Mutex<()>>) = Default::default();
    let (one, two) = (
        server("200 OK", "one", &free),
        server("200 OK", "two", &other),
    );
    let drained = two.local_addr().unwrap().to_string();
    let (folder, file) = folder(&before(&one, &format!(", \"{drained}\"")));
    let program = Program::run(folder.path());
    let url = program.admin_url();
    let weir = |command: &[&str]| {
        output(
            folder.path(),
            command.iter().copied().chain(["--admin", &url]),
        )
    };
    let clients = Clients::of(program.address("web"), "one");
    let done = weir(&["drain", "app", &drained]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    // Until then both have answered.
    clients.wrong();
    let clients = Clients::of(program.address("web"), "one");
    for _ in 0..2 {
        upgraded(folder.path(), &program);
        clients.go_on(&program);
        let shown = stdout(&weir(&["status"]));
        assert!(shown.contains("drained by hand"), "{shown}");
    }
    assert_eq!(clients.wrong(), Vec::<String>::new());
    assert_eq!(weir(&["ready", "app", &drained]).status.code(), Some(0));
    assert_eq!(weir(&["drain", "app", &drained]).status.code(), Some(0));
    // Where the file has it no more, there is nothing to drain.
    std::fs::write(&file, before(&one, "")).unwrap();
    upgraded(folder.path(), &program);
}

#[test]
fn a_drain_that_waits_says_so_where_another_process_takes_over() {
    let held: Arc<Mutex<()>> = Arc::default();
    let no_answer = held.lock().unwrap();
    let socket = server("200 OK", "late", &held);
    let (folder, _) = folder(&before(&socket, ""));
    let program = Program::run(folder.path());
    let (address, url) = (program.address("web"), program.admin_url());
    let client = thread::spawn(move || get(address, "/"));
    let server = socket.local_addr().unwrap().to_string();
    let in_flight = || {
        let shown = output(folder.path(), ["status", "--json", "--admin", &url]);
        let status: serde_json::Value = serde_json::from_str(&stdout(&shown)).unwrap();
        (status["upstreams"][0]["servers"][0]["in_flight"] == 1).then_some(())
    };
    until(in_flight, || program.printed());
    let arguments = ["drain", "app", &server, "--admin", &url];
    let mut draining = Program::start(weir(folder.path(), arguments));
    draining.line_with("1 left");
    let second = upgraded(folder.path(), &program);
    assert_eq!(draining.wait().code(), Some(1), "{}", draining.printed());
    draining.line_with(&format!(
        "process {} has taken over",
        second.as_raw_nonzero()
    ));
    drop(no_answer);
    assert!(client.join().unwrap().ends_with("late"));
}

/// What it returned to is a config of the process; the new one begins with the file.
#[test]
fn that_an_upgrade_undoes_a_rollback_is_told() {
    let (folder, file) = folder(HELLO);
    let program = Program::run(folder.path());
    let (address, url) = (program.address("web"), program.admin_url());
    let weir = |command: &str| output(folder.path(), [command, "--admin", &url]);
    std::fs::write(&file, HELLO.replace("hello", "changed")).unwrap();
    assert_eq!(weir("reload").status.code(), Some(0));
    assert_eq!(weir("rollback").status.code(), Some(0));
    assert!(get(address, "/").ends_with("hello"));
    let done = weir("upgrade");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let told = "it runs by the file, and no more by what a rollback returned to\n";
    assert!(stderr(&done).ends_with(told), "{}", stderr(&done));
    program.logged("another process has taken over");
    assert!(get(address, "/").ends_with("changed"));
}

/// Its addresses would be held for nothing.
#[test]
fn a_signal_to_stop_while_the_new_process_waits_stops_both() {
    let (folder, file) = folder(HELLO);
    let mut program = Program::run(folder.path());
    let address = program.address("web");
    let held: Arc<Mutex<()>> = Arc::default();
    let _no_answer = held.lock().unwrap();
    std::fs::write(&file, waits_for(&held, HELLO)).unwrap();
    program.signal(Signal::USR2);
    let new = waiting(&program);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0), "{}", program.printed());
    until(
        || TcpStream::connect(address).is_err().then_some(()),
        || program.printed(),
    );
    until(
        || test_kill_process(new).is_err().then_some(()),
        || program.printed(),
    );
    assert!(program.printed().contains("the process before has ended"));
}

#[test]
fn what_ran_before_an_upgrade_can_run_again_where_it_is_kept() {
    let (folder, file) = folder("");
    let config = keeping(&folder.path().join("weir.sock"));
    std::fs::write(&file, &config).unwrap();
    let mut program = Program::run(folder.path());
    let address = program.address("web");
    std::fs::write(&file, config.replace("hello", "changed")).unwrap();
    let done = output(folder.path(), ["upgrade"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(program.wait().code(), Some(0));
    assert!(get(address, "/").ends_with("changed"));
    let rollback = output(folder.path(), ["rollback"]);
    assert_eq!(rollback.status.code(), Some(0), "{}", stderr(&rollback));
    assert!(get(address, "/").ends_with("hello"));
}

/// As it would at a start: but here a process runs that has better than that.
#[test]
fn the_last_good_config_is_no_reason_to_take_over_with_a_bad_file() {
    let (folder, file) = folder("");
    let config = keeping(&folder.path().join("weir.sock"));
    std::fs::write(&file, &config).unwrap();
    let mut program = Program::run(folder.path());
    std::fs::write(&file, config.replace("respond", "resond")).unwrap();
    let failed = output(folder.path(), ["upgrade"]);
    assert_eq!(failed.status.code(), Some(1));
    let told = stderr(&failed);
    assert!(told.contains("weir.toml:10:1: "), "{told}");
    assert!(program.is_running());
    assert!(get(program.address("web"), "/").ends_with("hello"));
}

/// As in a process that stops: they would never end by themselves.
#[test]
fn event_streams_of_the_old_process_end_whole_within_drain() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    // It ends in the middle of that time; its connection then waits another second for a request on its way.
    let config = format!("[process]\ndrain = \"4s\"\n{}", before(&server, ""));
    let (folder, _) = folder(&config);
    let mut program = Program::run(folder.path());
    let mut client = TcpStream::connect(program.address("web")).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (mut stream, _) = server.accept().unwrap();
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
              9\r\ndata: 1\n\n\r\n",
        )
        .unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    while !answer.contains("data: 1\n\n\r\n") {
        let mut bytes = [0; 1024];
        let length = client.read(&mut bytes).unwrap();
        assert!(length > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    upgraded(folder.path(), &program);
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    drop(client);
    assert_eq!(program.wait().code(), Some(0));
    let printed = program.printed();
    assert!(!printed.contains("the time to drain is over"), "{printed}");
}

/// Whoever scrapes metrics keeps the connection, and is not to be told of a process that serves no more.
#[test]
fn connections_to_the_admin_address_end_when_another_process_answers_there() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, _) = folder(&before(&server, ""));
    let mut program = Program::run(folder.path());
    let mut client = TcpStream::connect(program.address("web")).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let (_held, _) = server.accept().unwrap();
    let mut scraper = TcpStream::connect(program.admin()).unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    scraper.write_all(request).unwrap();
    let mut answer = [0; 1024];
    let length = scraper.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    upgraded(folder.path(), &program);
    program.logged(TAKEN_OVER);
    let _ = scraper.write_all(request);
    scraper.set_read_timeout(Some(PATIENCE)).unwrap();
    let got = scraper.read(&mut answer).map_err(|error| error.kind());
    assert!(
        matches!(got, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)),
        "{got:?}"
    );
    assert!(program.is_running(), "a request is being answered");
}

#[test]
fn the_demo_cannot_be_upgraded() {
    let empty = tempfile::tempdir().unwrap();
    let program = Program::start(weir(empty.path(), ["demo"]));
    let line = program.line_with("Admin address: ");
    let url = line
        .trim_start_matches("Admin address: ")
        .trim_end_matches('/');
    let refused = output(empty.path(), ["upgrade", "--admin", url]);
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(told.contains("was not started by `weir run`"), "{told}");
}
