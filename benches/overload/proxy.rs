//! weir as it is run here.

use std::fmt::{self, Display, Write};
use std::net::SocketAddr;

use clap::ValueEnum;

use crate::origin::Kind;
use crate::support;

/// What a short queue is worked off in, in seconds.
const SHORT: f64 = 0.1;

/// What bounds the requests that a server has at once.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Limit {
    Off,
    MaxInFlight,
    Adaptive,
}

impl Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Off => "off",
            Self::MaxInFlight => "max_in_flight",
            Self::Adaptive => "adaptive",
        })
    }
}

/// How many wait in weir.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Queue {
    /// As many as the servers do in a tenth of a second.
    Short,
    /// As many as by default.
    Default,
    /// None: what is too much is refused at once.
    Off,
}

pub(crate) fn config(
    kind: Kind,
    servers: impl Iterator<Item = SocketAddr>,
    limit: Limit,
    queue: Queue,
) -> String {
    let servers: Vec<_> = servers.map(|address| address.to_string()).collect();
    let mut text = format!(
        "[process]\nworkers = 2\n[admin]\naddress = \"off\"\n[log]\naccess = \"off\"\n\
         [listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = {servers:?}\nbalance = \"least_connections\"\n"
    );
    match limit {
        Limit::Off => return text,
        Limit::MaxInFlight => {
            writeln!(text, "max_in_flight = {}", kind.slots() + 1).unwrap();
        }
        Limit::Adaptive => text.push_str("concurrency = \"adaptive\"\n"),
    }
    let short = (kind.capacity() * SHORT).round();
    match queue {
        Queue::Short => writeln!(text, "queue = {{ size = {short}, timeout = \"1s\" }}").unwrap(),
        Queue::Default => {}
        Queue::Off => text.push_str("queue = \"off\"\n"),
    }
    text
}

/// What `weir check` says against such a config, if anything.
pub(crate) fn refusal(limit: Limit) -> Option<String> {
    let server = "127.0.0.1:1".parse().unwrap();
    let text = config(Kind::Pool, [server].into_iter(), limit, Queue::Short);
    let (folder, _) = support::folder(&text);
    let output = support::output(folder.path(), ["check"]);
    let said = support::stderr(&output) + &support::stdout(&output);
    (!output.status.success()).then(|| said.lines().next().unwrap_or_default().to_owned())
}
