//! A server is taken out of service by hand, and back: `POST /api/upstreams/{upstream}/servers/{host:port}/drain` and
//! `/ready`. Both may be repeated: what is so already stays so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::core::Control;
use crate::units::ServerAddr;
use crate::upstream::server::Server;

/// The name of a server that is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("there is no upstream `{name}`; {}", there(known))]
    Upstream { name: String, known: Vec<String> },
    #[error(
        "there is no server `{name}` in upstream `{upstream}`; {}",
        there(known)
    )]
    Server {
        name: String,
        upstream: String,
        known: Vec<String>,
    },
}

/// Which server, for another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerId {
    pub(crate) upstream: String,
    pub(crate) server: String,
}

/// How a server stands after it was drained or taken back.
#[derive(Debug, Serialize)]
pub(crate) struct Drained {
    upstream: String,
    server: String,
    state: &'static str,
    in_flight: u32,
    /// Whose requests those are.
    process: u32,
}

impl Control {
    /// Gives a server no new requests. When this returns, none is on its way there any more but those that are counted.
    pub(crate) async fn drain(&self, upstream: &str, server: &str) -> Result<Drained, Unknown> {
        let server = self.server(upstream, server)?;
        server.drain(SystemTime::now());
        self.workers_moved_on().await;
        server.drain_seen();
        Ok(Drained::of(&server))
    }

    /// Takes a server back that was drained.
    pub(crate) fn ready(&self, upstream: &str, server: &str) -> Result<Drained, Unknown> {
        let server = self.server(upstream, server)?;
        server.ready();
        Ok(Drained::of(&server))
    }

    /// The servers that are drained.
    pub(super) fn drained(&self) -> Vec<ServerId> {
        let state = self.published.state();
        let servers = state.servers().map(|(_, server)| server);
        let drained = servers.filter(|server| server.is_drained());
        let id = |server: &Arc<Server>| ServerId {
            upstream: server.upstream.to_string(),
            server: server.address.to_string(),
        };
        drained.map(id).collect()
    }

    /// Drains what the process before has drained, as far as it is there.
    pub(crate) async fn drain_again(&self, drained: Vec<ServerId>) {
        for ServerId { upstream, server } in drained {
            if let Err(unknown) = self.drain(&upstream, &server).await {
                tracing::warn!(%upstream, %server, "this server was drained and is not drained any more: {unknown}");
            }
        }
    }

    fn server(&self, upstream: &str, server: &str) -> Result<Arc<Server>, Unknown> {
        let state = self.published.state();
        let found = state
            .upstreams
            .iter()
            .find(|known| known.name.as_str() == upstream)
            .ok_or_else(|| Unknown::Upstream {
                name: upstream.to_owned(),
                known: state
                    .upstreams
                    .iter()
                    .map(|upstream| upstream.name.to_string())
                    .collect(),
            })?;
        // An address can be written in several ways.
        let address: Option<SocketAddr> = server.parse().ok();
        let servers = || found.servers.iter().map(|member| &member.server);
        servers()
            .find(|known| match &known.address {
                ServerAddr::Ip(known) => Some(*known) == address,
                unix @ ServerAddr::Unix(_) => unix.to_string() == server,
            })
            .cloned()
            .ok_or_else(|| Unknown::Server {
                name: server.to_owned(),
                upstream: upstream.to_owned(),
                known: servers().map(|server| server.address.to_string()).collect(),
            })
    }
}

impl Drained {
    fn of(server: &Server) -> Self {
        Self {
            upstream: server.upstream.to_string(),
            server: server.address.to_string(),
            state: server.standing().state,
            in_flight: server.in_flight(),
            process: std::process::id(),
        }
    }
}

fn there(known: &[String]) -> String {
    match known {
        [] => "there is none".to_owned(),
        [one] => format!("there is `{one}`"),
        several => format!("there are `{}`", several.join("`, `")),
    }
}
