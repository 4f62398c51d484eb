//! The daemon in this process.

use std::net::SocketAddr;
use std::path::Path;

use ::weir::config;
use ::weir::daemon::{Daemon, Running};

use super::client::{Connection, Response};
use super::origin::Origin;

/// A weir on free ports.
pub struct Weir {
    pub running: Running,
}

impl Weir {
    /// Runs by `config`, to which an admin address on a free port and a quiet log are added. Listeners use port 0.
    pub async fn start(config: &str) -> Self {
        let running = Daemon::start(Self::parse(config)).await.unwrap();
        Self { running }
    }

    /// The config that [`Weir::start`] runs by.
    pub fn parse(config: &str) -> config::Config {
        let mut text = String::new();
        if !config.contains("[admin]") {
            text.push_str("[admin]\naddress = \"127.0.0.1:0\"\n");
        }
        if !config.contains("[log]") {
            text.push_str("[log]\naccess = \"off\"\n");
        }
        text.push_str(config);
        config::parse(&text, Path::new("test.toml"))
            .unwrap_or_else(|report| panic!("{}", report.render(false)))
    }

    /// One cleartext listener `web`, one route to one upstream `app` of these origins.
    pub async fn before(origins: &[&Origin]) -> Self {
        Self::start(&Self::config(origins, "")).await
    }

    /// The config of [`Weir::before`], with more keys for `[upstream.app]`.
    pub fn config(origins: &[&Origin], upstream: &str) -> String {
        let servers: Vec<_> = origins
            .iter()
            .map(|origin| format!("\"{}\"", origin.address()))
            .collect();
        format!(
            "[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
             [upstream.app]\nservers = [{}]\n{upstream}\n",
            servers.join(", ")
        )
    }

    /// Where the listener `web` listens.
    pub fn address(&self) -> SocketAddr {
        self.running.addresses("web")[0]
    }

    /// A cleartext connection to the listener `web`.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address()).await
    }

    /// `GET path` on a connection of its own.
    pub async fn get(&self, path: &str) -> Response {
        let mut connection = self.connect().await;
        connection
            .send(&format!(
                "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
            ))
            .await;
        connection.response().await
    }

    /// Asks the admin address.
    pub async fn admin(&self, method: &str, path: &str) -> Response {
        let mut connection = Connection::open(self.running.admin_address().unwrap()).await;
        connection
            .send(&format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            ))
            .await;
        connection.response().await
    }

    /// The value of one series of `/metrics`, 0 if it is not there. `series` is the line up to its value.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.admin("GET", "/metrics").await.text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}
