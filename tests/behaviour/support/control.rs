//! What tests of the control plane need: a config in a file, the admin address, origins that can be switched.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use ::weir::config;
use ::weir::daemon::{Daemon, ReloadError};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::client::{Connection, Response};
use super::origin::{Origin, ok};
use super::tls::Authority;
use super::{Weir, eventually};

/// The tables that a test does not care for: an admin address on a free port, no access log.
pub const QUIET: &str = "[admin]\naddress = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n";

impl Weir {
    /// Takes another config. The tables that [`Weir::parse`] adds are added here too.
    pub async fn reload(&self, config: &str) -> Result<(), ReloadError> {
        self.running.reload(Self::parse(config)).await
    }

    /// `/api/status`
    pub async fn status(&self) -> Value {
        serde_json::from_slice(&self.admin("GET", "/api/status").await.body).unwrap()
    }

    /// The server of that address in `/api/status`; null if it is not there.
    pub async fn server(&self, address: SocketAddr) -> Value {
        let status = self.status().await;
        let upstreams = status["upstreams"].as_array().unwrap();
        let mut servers = upstreams
            .iter()
            .flat_map(|upstream| upstream["servers"].as_array().unwrap());
        servers
            .find(|server| server["address"] == address.to_string())
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// Waits until the server of that address is in that state, and returns why.
    pub async fn until_server_is(&self, address: SocketAddr, state: &str) -> String {
        let server = eventually(
            async || self.server(address).await,
            |server| server["state"] == state,
        )
        .await;
        server["reason"].as_str().unwrap().to_owned()
    }

    /// Sends these bytes to the listener `web` on a connection of their own and reads one response.
    pub async fn ask(&self, request: &str) -> Response {
        let mut connection = self.connect().await;
        connection.send(request).await;
        connection
            .response_to(request.split(' ').next().unwrap())
            .await
    }

    /// The page of `/metrics`.
    pub async fn metrics(&self) -> String {
        self.admin("GET", "/metrics").await.text()
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.running.admin_address().unwrap()
    }
}

/// A folder with a config that a weir follows.
pub struct Followed {
    pub weir: Weir,
    pub folder: TempDir,
    pub file: PathBuf,
}

impl Followed {
    /// Writes `config`, with [`QUIET`] before it, to `weir.toml` in a new folder and runs by it.
    pub async fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, format!("{QUIET}{config}")).unwrap();
        Self {
            weir: run(&file).await,
            folder,
            file,
        }
    }

    /// Writes another config in place.
    pub fn write(&self, config: &str) {
        std::fs::write(&self.file, format!("{QUIET}{config}")).unwrap();
    }

    /// How many reloads were taken, and how many refused.
    pub async fn reloads(&self) -> (f64, f64) {
        let of = async |result| {
            self.weir
                .metric(&format!("weir_config_reloads_total{{result=\"{result}\"}}"))
                .await
        };
        (of("ok").await, of("refused").await)
    }

    /// Waits until the watch has looked at all that was written so far. The last that it does is to take the certificate
    /// that is renewed here, of [`secure`].
    pub async fn until_watched(&self, authority: &Authority) {
        let renewals = async || {
            self.weir
                .metric("weir_certificate_renewals_total{result=\"ok\"}")
                .await
        };
        let before = renewals().await;
        authority.sign("test", &["test"]);
        eventually(renewals, |renewals| *renewals > before).await;
    }

    /// Waits for that many reloads taken and refused.
    pub async fn until_reloads(&self, taken: u32, refused: u32) {
        let wanted = (f64::from(taken), f64::from(refused));
        eventually(async || self.reloads().await, |reloads| *reloads == wanted).await;
    }
}

/// Runs by the file and follows it.
pub async fn run(file: &std::path::Path) -> Weir {
    let config = config::load(file)
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    let mut running = Daemon::start(config).await.unwrap();
    running.follow_file();
    Weir { running }
}

/// A listener with the certificate of `test`.
pub fn secure(authority: &Authority) -> String {
    let tls = authority
        .table(&["test"], "")
        .replace("[listen.web.", "[listen.secure.");
    format!("[listen.secure]\naddress = \"127.0.0.1:0\"\n{tls}")
}

/// A route that answers by itself.
pub fn fixed(name: &str, keys: &str, body: &str) -> String {
    format!("[route.{name}]\n{keys}\nrespond = {{ status = 200, body = \"{body}\" }}\n")
}

/// One listener `web` on a free port.
pub const WEB: &str = "[listen.web]\naddress = \"127.0.0.1:0\"\n";

/// An origin whose answer to `/healthz` can be changed; to everything else it says its name.
pub struct Patient {
    pub origin: Origin,
    status: Arc<AtomicU16>,
}

impl Patient {
    pub async fn start(name: &'static str) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let health = Arc::clone(&status);
        let origin = Origin::start(move |request| match request.target() {
            "/healthz" => match health.load(Ordering::SeqCst) {
                0 => b"this is no HTTP\r\n\r\n".to_vec(),
                status => format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes(),
            },
            _ => ok(name),
        })
        .await;
        Self { origin, status }
    }

    /// What `/healthz` answers from now on; 0 for something that is not HTTP.
    pub fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// Requests that were no probes.
    pub fn requests(&self) -> usize {
        self.origin
            .requests()
            .iter()
            .filter(|request| request.target() != "/healthz")
            .count()
    }
}

/// An origin that holds back its answers to `/hold` until they are let go.
pub struct Holding {
    pub origin: Origin,
    is_ill: Arc<AtomicBool>,
    gate: Arc<Semaphore>,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Holding {
    pub async fn start(name: &'static str) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let closed = Arc::clone(&gate);
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&targets);
        let is_ill: Arc<AtomicBool> = Arc::default();
        let health = Arc::clone(&is_ill);
        let origin = Origin::raw(move |mut stream, _| {
            let gate = Arc::clone(&closed);
            let seen = Arc::clone(&seen);
            let health = Arc::clone(&health);
            async move {
                let mut buffer = Vec::new();
                while let Some((head, _)) =
                    super::origin::read_request(&mut stream, &mut buffer).await
                {
                    let target = head.split(' ').nth(1).unwrap_or_default();
                    seen.lock().unwrap().push(target.to_owned());
                    if head.starts_with("GET /hold") {
                        gate.acquire().await.unwrap().forget();
                    }
                    let answer = if target == "/healthz" && health.load(Ordering::SeqCst) {
                        b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".to_vec()
                    } else {
                        ok(name)
                    };
                    if tokio::io::AsyncWriteExt::write_all(&mut stream, &answer)
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        })
        .await;
        Self {
            origin,
            is_ill,
            gate,
            targets,
        }
    }

    /// From now on it fails its health checks.
    pub fn fall_ill(&self) {
        self.is_ill.store(true, Ordering::SeqCst);
    }

    /// How many requests it has been asked to hold.
    pub fn requests_to_hold(&self) -> usize {
        let held = |target: &&String| target.starts_with("/hold");
        self.targets.lock().unwrap().iter().filter(held).count()
    }

    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    /// What was asked for so far, in order.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }

    /// Lets that many answers go.
    pub fn release(&self, answers: usize) {
        self.gate.add_permits(answers);
    }
}

/// Sends `GET path` and leaves the response for later.
pub async fn ask_for(address: SocketAddr, path: &str) -> Connection {
    let mut connection = Connection::open(address).await;
    connection
        .send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .await;
    connection
}
