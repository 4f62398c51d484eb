//! What is told of a request: for people by the command, for programs as JSON.

use serde::Serialize;

/// What weir would do with a request.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Explanation {
    /// `None`: it is malformed.
    pub(crate) asked: Option<Asked>,
    /// The client is sent to HTTPS before a route is looked for.
    pub(crate) to_https: bool,
    pub(crate) route: Option<Taken>,
    /// The other routes, the nearest first.
    pub(crate) others: Vec<Other>,
    /// What weir itself answers, if it does.
    pub(crate) answer: Option<Answer>,
    /// `None`: the route has none.
    pub(crate) cache: Option<Caching>,
    /// What is stored for this URL is of no use any more once the request has succeeded.
    pub(crate) invalidates: bool,
    /// `None`: the route compresses nothing.
    pub(crate) compress: Option<Compressed>,
    /// What the client gets of the response that a server was said to give.
    pub(crate) response: Option<Responded>,
    /// To where the request may go, a part for each upstream.
    pub(crate) forward: Vec<Sent>,
}

/// What is asked for, as weir looks at it.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// By the word of a trusted proxy, else that of the listener.
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) client: String,
}

/// The route that takes it.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    pub(crate) name: String,
    pub(crate) because: String,
}

/// A route that does not.
#[derive(Debug, Serialize)]
pub(crate) struct Other {
    pub(crate) name: String,
    /// It is for this host and path.
    pub(crate) near: bool,
    pub(crate) because: String,
}

/// What weir itself answers.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Why it refuses the request, if it does.
    pub(crate) refused: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
}

/// What the cache does.
#[derive(Debug, Serialize)]
pub(crate) struct Caching {
    pub(crate) key: String,
    pub(crate) looked_up: bool,
    /// For the store, where nothing is stored.
    pub(crate) fetched: bool,
    /// What is done where nothing is stored.
    pub(crate) otherwise: &'static str,
    /// `Cache-Status` where nothing is stored.
    pub(crate) verdict: String,
    /// Nothing is stored, and the client wants nothing else.
    pub(crate) refused: bool,
    /// Whether clients are told the verdict.
    pub(crate) told: bool,
    /// Of the response that a server was said to give.
    pub(crate) stored: Option<Kept>,
    /// `Cache-Status` of the same request, when that is stored.
    pub(crate) again: Option<String>,
    pub(crate) rules: CacheRules,
}

/// What the route says of responses that do not say it.
#[derive(Debug, Serialize)]
pub(crate) struct CacheRules {
    pub(crate) heuristic: bool,
    pub(crate) default_ttl: Option<String>,
    pub(crate) stale_while_revalidate: Option<String>,
    pub(crate) stale_if_error: Option<String>,
}

/// Whether a response is stored, and how it is used.
#[derive(Debug, Serialize)]
pub(crate) struct Kept {
    pub(crate) stored: bool,
    /// Why not, by the word of `Cache-Status`.
    pub(crate) why_not: Option<&'static str>,
    pub(crate) fresh_seconds: Option<u64>,
    /// The route assumes it; the response does not say.
    pub(crate) assumed: bool,
    pub(crate) always_validated: bool,
    pub(crate) stale_while_revalidate_seconds: u64,
    pub(crate) stale_if_error_seconds: u64,
    /// The request fields that tell variants apart.
    pub(crate) vary: Vec<String>,
}

/// The coding of responses that are worth one.
#[derive(Debug, Serialize)]
pub(crate) struct Compressed {
    pub(crate) coding: Option<&'static str>,
    pub(crate) why_not: Option<String>,
}

/// What the client gets.
#[derive(Debug, Serialize)]
pub(crate) struct Responded {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    /// Why it is not encoded, where the route compresses.
    pub(crate) as_is: Option<String>,
    /// It is encoded only if it turns out to have so many bytes.
    pub(crate) at_least: Option<u64>,
}

/// What goes to an upstream.
#[derive(Debug, Serialize)]
pub(crate) struct Sent {
    pub(crate) upstream: String,
    /// Where the upstream is drawn.
    pub(crate) share: Option<String>,
    pub(crate) target: String,
    /// Those that the server sees.
    pub(crate) fields: Vec<(String, String)>,
    /// Those of the client that it does not.
    pub(crate) dropped: Vec<String>,
    pub(crate) host_is_servers: bool,
    pub(crate) tls: bool,
    pub(crate) balance: String,
    pub(crate) servers: Vec<Server>,
    /// What is among the servers and stands for others.
    pub(crate) names: Vec<String>,
    /// In which order servers are tried, as far as the request settles it.
    pub(crate) order: Vec<String>,
    pub(crate) order_because: Option<&'static str>,
    /// The client gets a cookie that names its server.
    pub(crate) sets_cookie: bool,
    pub(crate) retries: Retries,
    pub(crate) timeouts: Timeouts,
}

/// A server, as if it were up.
#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) weight: u32,
    pub(crate) backup: bool,
    pub(crate) max_in_flight: Option<u32>,
}

/// What may be tried again.
#[derive(Debug, Serialize)]
pub(crate) struct Retries {
    /// It may be sent twice.
    pub(crate) replayable: bool,
    pub(crate) connects: u32,
    /// Beyond failed connects.
    pub(crate) max: u32,
    pub(crate) on: Vec<&'static str>,
}

/// As in the config.
#[derive(Debug, Serialize)]
pub(crate) struct Timeouts {
    pub(crate) connect: String,
    pub(crate) response: String,
    pub(crate) stall: String,
    pub(crate) stream: String,
    pub(crate) queue: String,
    /// For the whole exchange.
    pub(crate) route: Option<String>,
}
