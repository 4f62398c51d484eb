//! `weir demo`: the proxy before three small servers, all in this process, on loopback. Needs no file and writes none.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::run::{Signals, control_runtime, until_stopped};
use crate::config;
use crate::daemon::{Daemon, Running};

/// The port that the config of the README uses.
const USUAL_PORT: u16 = 8080;
/// The usual admin port.
const USUAL_ADMIN_PORT: u16 = 9900;
/// What the slow server takes for `/slow`.
const SLOW: Duration = Duration::from_secs(1);

pub(super) fn demo() -> anyhow::Result<ExitCode> {
    control_runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let mut origins = Vec::new();
        for name in ["one", "two", "three"] {
            origins.push(Origin::start(name).await?);
        }
        let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
        let running = Daemon::start(config(&addresses)?).await?;
        super::out(&what_to_try(&running, &addresses))?;
        until_stopped(running, &mut signals).await;
        Ok(ExitCode::SUCCESS)
    })
}

fn config(servers: &[SocketAddr]) -> anyhow::Result<config::Config> {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("\"{server}\""))
        .collect();
    let text = format!(
        r#"
[admin]
address = "127.0.0.1:{admin}"

[log]
access = "off"

[listen.web]
address = "127.0.0.1:{web}"

[route.site]
upstream = "app"

[upstream.app]
servers = [{servers}]
balance = "round_robin"
health_check = {{ path = "/healthz", interval = "2s", fast_interval = "500ms" }}
"#,
        admin = free(USUAL_ADMIN_PORT),
        web = free(USUAL_PORT),
        servers = servers.join(", "),
    );
    config::parse(&text, &PathBuf::from("demo"))
        .map_err(|report| anyhow::anyhow!("the embedded config is invalid: {report}"))
}

/// The usual port, or 0 (any) where it is taken.
fn free(port: u16) -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_or(0, |_| port)
}

fn what_to_try(running: &Running, servers: &[SocketAddr]) -> String {
    let web = running
        .addresses("web")
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let admin = running
        .admin_address()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let last = servers.last().map(ToString::to_string).unwrap_or_default();
    let list: Vec<_> = servers.iter().map(ToString::to_string).collect();
    format!(
        "weir demo: a proxy at http://{web}/ before three servers ({}).

Try, in another terminal:
  curl -i http://{web}/             each answer names its server in X-Origin; repeat it
  curl -i http://{web}/slow         an answer that takes a second
  curl -X POST http://{last}/fail   makes server three fail; in about 2 s it gets no more requests
  curl -X POST http://{last}/heal   brings it back
  curl http://{admin}/api/status    what weir knows of its servers
  curl http://{admin}/metrics       the same for Prometheus
  weir status --admin http://{admin}

Admin address: http://{admin}/
Ctrl-C ends it.
",
        list.join(", ")
    )
}

/// A server that says its name, and fails on demand.
struct Origin {
    address: SocketAddr,
}

struct Server {
    name: &'static str,
    failing: AtomicBool,
}

impl Origin {
    async fn start(name: &'static str) -> anyhow::Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot start a demo server")?;
        let address = socket.local_addr()?;
        let server = Arc::new(Server {
            name,
            failing: AtomicBool::new(false),
        });
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = socket.accept().await else {
                    continue;
                };
                let server = Arc::clone(&server);
                let service = service_fn(move |request| {
                    let server = Arc::clone(&server);
                    async move { Ok::<_, Infallible>(server.answer(&request).await) }
                });
                tokio::spawn(
                    http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(Duration::from_secs(60))
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { address })
    }
}

impl Server {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let failing = match (request.method(), request.uri().path()) {
            (&Method::POST, "/fail") => {
                self.failing.store(true, Ordering::Relaxed);
                return self.page(
                    StatusCode::OK,
                    "fails from now on; POST /heal brings it back",
                );
            }
            (&Method::POST, "/heal") => {
                self.failing.store(false, Ordering::Relaxed);
                return self.page(StatusCode::OK, "works again");
            }
            (_, path) => {
                if path == "/slow" {
                    tokio::time::sleep(SLOW).await;
                }
                self.failing.load(Ordering::Relaxed)
            }
        };
        if failing {
            self.page(
                StatusCode::INTERNAL_SERVER_ERROR,
                "fails, as it was told to",
            )
        } else {
            self.page(StatusCode::OK, "at your service")
        }
    }

    fn page(&self, status: StatusCode, text: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(format!("server {}: {text}\n", self.name)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-origin", HeaderValue::from_static(self.name));
        response
    }
}
