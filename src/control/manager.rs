//! What the service manager is told: sd_notify(3) of systemd, and of others that speak the same.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::core::{Control, Phase};
use crate::telemetry::labels::ReloadResult;

/// How long a message may take. A manager that takes none for so long misses it.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether there is something to tell.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest status, in bytes: it is one line among others.
const MAX_STATUS: usize = 500;

/// The service manager that started this process.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
    /// Another process speaks for the service now.
    resigned: AtomicBool,
}

impl Manager {
    /// The one that the environment tells of.
    pub(crate) fn of_environment() -> Option<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        match connected(&address) {
            Ok(socket) => Some(Self {
                socket,
                watchdog: watchdog(|name| std::env::var(name).ok()),
                resigned: AtomicBool::new(false),
            }),
            Err(error) => {
                tracing::warn!(%error, address = %address.display(), "cannot reach the service manager at NOTIFY_SOCKET");
                None
            }
        }
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}\n"));
    }

    /// Requests are served; also when a reload is over, however it went.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\n");
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    /// From now on another process speaks for the service.
    pub(super) fn main_process_is(&self, process: u32) {
        self.tell(&format!("MAINPID={process}\n"));
        self.resigned.store(true, Ordering::Relaxed);
    }

    fn tell(&self, message: &str) {
        if self.resigned.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.socket.send(message.as_bytes()) {
            tracing::debug!(%error, "the service manager takes no message");
        }
    }
}

fn connected(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    socket.set_write_timeout(Some(TAKEN_WITHIN))?;
    Ok(socket)
}

/// After how much silence the manager takes this process for dead.
fn watchdog(environment: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let process = environment("WATCHDOG_PID");
    let another = process.is_some_and(|process| process != std::process::id().to_string());
    let microseconds = environment("WATCHDOG_USEC")?.parse().ok()?;
    (!another && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

/// Tells the manager when requests are served, what goes on, and, for as long as the workers answer, that all is well.
pub(crate) async fn tend(manager: Arc<Manager>, control: Arc<Control>) {
    let half = manager.watchdog.map(|silence| silence / 2);
    let (mut ready, mut told) = (false, String::new());
    let mut due = Instant::now();
    loop {
        if !ready && control.is_ready() {
            ready = true;
            manager.ready();
        }
        let status = status(&control);
        if status != told {
            manager.tell(&format!("STATUS={status}\n"));
            told = status;
        }
        if let Some(half) = half
            && Instant::now() >= due
        {
            due = Instant::now() + half;
            match timeout(half, control.workers_moved_on()).await {
                Ok(()) => manager.tell("WATCHDOG=1\n"),
                Err(_) => tracing::error!(
                    "the workers do not answer; this is a defect of weir, please report it"
                ),
            }
        }
        tokio::time::sleep(half.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)).await;
    }
}

/// What goes on, on one line.
fn status(control: &Control) -> String {
    let hash = &control.published.state().config.hash;
    let last = control.last_reload();
    let mut status = match control.phase() {
        Phase::Starting => "starting".to_owned(),
        Phase::Running if !control.is_ready() => {
            format!("config {hash}; waiting for first results")
        }
        Phase::Running => format!("config {hash}"),
        Phase::Stopping => "stopping; requests finish".to_owned(),
    };
    if last.result == ReloadResult::Refused {
        status.push_str("; the file was refused: ");
        status.push_str(&last.message);
    }
    if let Some(failed) = &*control.failed_upgrade() {
        status.push_str("; an upgrade has failed: ");
        status.push_str(&failed.message);
    }
    one_line(&status)
}

fn one_line(text: &str) -> String {
    let mut line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(MAX_STATUS));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let own = std::process::id().to_string();
        let told = |process: Option<&str>, silence: &str| {
            watchdog(|name| match name {
                "WATCHDOG_PID" => process.map(str::to_owned),
                _ => Some(silence.to_owned()),
            })
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(told(Some(&own), "1000000"), second);
        assert_eq!(told(None, "1000000"), second);
        assert_eq!(told(Some("1"), "1000000"), None);
        assert_eq!(told(None, "0"), None);
        assert_eq!(told(None, "soon"), None);
        assert_eq!(watchdog(|_| None), None);
    }

    #[test]
    fn a_status_is_one_line_that_ends() {
        assert_eq!(one_line("a\n  b\n"), "a b");
        let long = one_line(&"ü".repeat(MAX_STATUS));
        assert!(long.len() <= MAX_STATUS && long.starts_with('ü'));
    }

    #[test]
    fn an_abstract_address_is_reached_too() {
        let name = format!("weir-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager {
            socket: connected(OsStr::new(&format!("@{name}"))).unwrap(),
            watchdog: None,
            resigned: AtomicBool::new(false),
        };
        heard
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut bytes = [0; 100];
        let mut hear = || {
            let length = heard.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        manager.ready();
        assert_eq!(hear(), "READY=1\n");
        manager.main_process_is(7);
        manager.stopping();
        assert_eq!(hear(), "MAINPID=7\n");
        heard.set_nonblocking(true).unwrap();
        assert!(heard.recv(&mut [0]).is_err(), "it speaks no more");
    }
}
