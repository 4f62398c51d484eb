//! Starts the program and watches what it says.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What a process says that another one has replaced.
pub const TAKEN_OVER: &str = "another process has taken over; requests finish here";

/// A config for free ports that answers `hello`.
pub const HELLO: &str = "[admin]\naddress = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n\
    [listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nrespond = { status = 200, body = \"hello\" }\n";

/// The program with these arguments, in that folder, without what the environment may say.
pub fn weir<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("WEIR_TOKEN")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

/// Runs a command of the program to its end.
pub fn output<'a>(folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Output {
    weir(folder, arguments).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with this `weir.toml`.
pub fn folder(config: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config).unwrap();
    (folder, file)
}

/// A program that runs. Dropped, it is killed.
pub struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn start(command: Command) -> Self {
        Self::start_with_stdout(command, Stdio::piped())
    }

    /// The same where the standard output is for something else than to be read.
    pub fn start_with_stdout(mut command: Command, stdout: Stdio) -> Self {
        let mut child = command
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, &lines);
        }
        follow(child.stderr.take().unwrap(), &lines);
        Self { child, lines }
    }

    /// `weir run` in that folder, listening.
    pub fn run(folder: &Path) -> Self {
        let program = Self::start(weir(folder, ["run"]));
        program.logged("weir runs");
        program
    }

    /// All that was printed so far, on both outputs.
    pub fn printed(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for an event of the log with that message, and returns the last one.
    pub fn logged(&self, message: &str) -> Value {
        self.logged_where(message, |_| true)
    }

    /// The same for an event that has more than its message.
    pub fn logged_where(&self, message: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = || {
            let lines = self.lines.lock().unwrap();
            let events = lines
                .iter()
                .rev()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.into_iter().find(|event| {
                event["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(message))
                    && wanted(event)
            })
        };
        until(find, || self.printed())
    }

    /// Waits for a line that contains this.
    pub fn line_with(&self, text: &str) -> String {
        let find = || {
            self.lines
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.contains(text))
                .cloned()
        };
        until(find, || self.printed())
    }

    /// Where a listener listens.
    pub fn address(&self, listen: &str) -> SocketAddr {
        let event = self.logged_where("listening", |event| event["listen"] == listen);
        event["address"].as_str().unwrap().parse().unwrap()
    }

    /// The admin address.
    pub fn admin(&self) -> String {
        let event = self.logged_where("the admin address is open", |event| {
            event["probes"] == false
        });
        event["address"].as_str().unwrap().to_owned()
    }

    /// `--admin` for it.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let lines = Arc::clone(&self.lines);
        until(
            || self.child.try_wait().unwrap(),
            || lines.lock().unwrap().join("\n"),
        )
    }

    /// The most memory that it had, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<usize>().unwrap() * 1024
    }

    /// The last process that has taken over.
    pub fn successor(&self) -> Pid {
        pid(&self.logged(TAKEN_OVER))
    }

    /// What it has started and not seen the end of.
    pub fn children(&self) -> Vec<Pid> {
        let processes = std::fs::read_dir("/proc").unwrap();
        let parent = |process: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // After the name, which may hold anything: state, parent.
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?;
            parent.parse::<u32>().ok()
        };
        processes
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter(|name| parent(name) == Some(self.child.id()))
            .filter_map(|name| Pid::from_raw(name.parse().ok()?))
            .collect()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let lines = self.lines.lock().unwrap();
        let events = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        // Those that have taken over from it are not its children any more.
        for event in events.filter(|event| event["message"] == TAKEN_OVER) {
            let _ = kill_process(pid(&event), Signal::KILL);
        }
    }
}

fn pid(event: &Value) -> Pid {
    let process = event["process"].as_i64().unwrap();
    Pid::from_raw(process.try_into().unwrap()).unwrap()
}

fn follow(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            lines.lock().unwrap().push(line);
        }
    });
}

/// Polls until there is something; fails with `told` after [`PATIENCE`].
pub fn until<T>(mut find: impl FnMut() -> Option<T>, told: impl Fn() -> String) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}:\n{}",
            told()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends one request and returns all that comes back; empty if nobody answers.
pub fn ask(address: impl std::net::ToSocketAddrs, method: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return String::new();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn get(address: impl std::net::ToSocketAddrs, path: &str) -> String {
    ask(address, "GET", path)
}

/// Connects `count` clients to each address before any of them asks, so that their connections wait in all queues; each must
/// get its `hello`.
pub fn all_are_answered(addresses: &[SocketAddr], count: usize) {
    let connect = |address: &SocketAddr| TcpStream::connect(address).unwrap();
    let clients: Vec<_> = (0..count)
        .flat_map(|_| addresses.iter().map(connect))
        .collect();
    for mut client in clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    }
}
