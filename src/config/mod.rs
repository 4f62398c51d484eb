//! The configuration: the texts with spans (`file.rs`, `include.rs`) -> one tree, variables and defaults filled in
//! (`variables.rs`, `defaults.rs`) -> checked (`check.rs`) -> [`Config`], plain data that is valid by construction.
//!
//! What a `Config` becomes while running is `State`; the data plane sees nothing of this module but plain values.
//! Keys and defaults: `config/weir.full.toml`.

mod addresses;
mod ambiguity;
mod cache;
mod certificates;
mod check;
mod compare;
mod compress;
mod contents;
mod defaults;
mod error;
mod fields;
mod file;
mod files;
mod include;
mod listeners;
mod loops;
mod mask;
mod peers;
mod position;
mod problems;
mod process;
mod renewal;
mod retries;
mod routes;
mod schema;
mod secrets;
mod servers_tls;
mod shapes;
mod show;
mod sticky;
mod syntax;
#[cfg(test)]
mod tests;
mod unclosed;
mod upstreams;
mod validity;
mod value;
mod values;
mod variables;
mod warnings;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use crate::units::{
    ByteSize, ListenName, RouteName, ServerAddr, ServerName, Share, UpstreamName, Weight,
};

pub use crate::semantics::coding::{Coding, MediaPattern};
pub(crate) use certificates::provider;
pub use compare::{Change, Comparison};
pub use contents::Contents;
pub use error::{LoadError, Problem, Report, Severity};
pub(crate) use file::{again, load_with_names};
pub use file::{find, load, load_with, parse, parse_with};
pub(crate) use files::read_up_to;
pub(crate) use include::matches;
pub(crate) use mask::MASK;
pub(crate) use renewal::Look;
pub(crate) use schema::schema;
pub use variables::Outside;

/// A whole configuration, checked. Names are unique, references resolve, certificates are loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The main file, as it was named on the command line.
    pub file: PathBuf,
    /// Every file that was read for it: the main file, those that it includes, certificates and keys; and each pattern of
    /// `include`, for files that may appear. The watch follows these.
    pub files: Vec<PathBuf>,
    /// 16 hexadecimal digits of a hash over the contents of all `files` but the certificates of listeners and their keys: these
    /// are renewed while the config stays the same.
    pub hash: String,
    /// The same for all `files`.
    pub seen: u64,
    /// What was in `files`.
    pub contents: Contents,
    /// What is legal, but surely not meant.
    pub warnings: Report,
    /// The keys whose values are not to be shown, as in `upstream.api.servers[1]`: they came from the environment, in whole or
    /// in part, or are credentials. In the order of their bytes.
    pub masked: Vec<String>,
    pub process: Process,
    pub admin: Admin,
    pub log: Log,
    pub cache: CacheStore,
    pub listeners: Vec<Listener>,
    pub routes: Vec<Route>,
    pub upstreams: Vec<Upstream>,
}

/// `[process]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Data-plane threads. `None` ("auto"): the CPUs that the process may use.
    pub workers: Option<NonZeroUsize>,
    /// What running requests get when their listener goes or the process stops. Default 25s.
    pub drain: Duration,
    /// How long to keep serving with `/readyz` at 503 before draining. Default off.
    pub shutdown_delay: Option<Duration>,
    /// Where the last good configs are kept, relative to the main file. `None`: in memory alone.
    pub state: Option<PathBuf>,
    /// The DNS server to ask. `None` ("system"): those of `/etc/resolv.conf`.
    pub resolver: Option<SocketAddr>,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Default 127.0.0.1:9900; `None` is "off".
    pub address: Option<AdminAddress>,
    /// A second address with `/healthz`, `/readyz` and `/metrics` only. Default off.
    pub probes: Option<ListenAddress>,
    /// Default off.
    pub token: Option<String>,
}

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    Tcp(ListenAddress),
    Unix(PathBuf),
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub access: AccessLog,
    pub access_filter: AccessFilter,
    pub access_format: AccessFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFilter {
    /// Status 5xx and broken exchanges.
    Errors,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    Json,
    Combined,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    pub socket: SocketAddr,
    /// Written as ":PORT": one dual-stack socket; IPv4 alone where there is no IPv6. `socket` is then `[::]:PORT`.
    pub any: bool,
}

/// `[listen.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: ListenName,
    /// At least one; no address belongs to two listeners (port 0 excepted).
    pub addresses: Vec<ListenAddress>,
    pub trusted_proxies: Vec<IpNet>,
    pub http2: bool,
    pub redirect_to_https: Option<RedirectToHttps>,
    pub limits: ListenLimits,
    pub tls: Option<Tls>,
}

/// The limits of `[listen.NAME]`, defaults as in `weir.full.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenLimits {
    pub header_timeout: Duration,
    pub stall_timeout: Duration,
    pub keepalive: Duration,
    pub max_connection_age: Option<Duration>,
    pub max_header_size: ByteSize,
    pub max_headers: usize,
    pub max_target_size: ByteSize,
    /// `None` ("auto"): from the file descriptor limit.
    pub max_connections: Option<usize>,
    pub max_concurrent_streams: u32,
}

/// `redirect_to_https = { port = 443 }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedirectToHttps {
    /// The port in the `Location`; left out of it when 443.
    pub port: u16,
}

/// `[listen.NAME.tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// At least one; the first is the default.
    pub certificates: Vec<Certificate>,
    pub unknown_sni: UnknownSni,
    pub min_version: TlsVersion,
    pub hsts: Option<Duration>,
}

/// A certificate chain and its key, loaded, known to fit together.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Where both are, from the working directory.
    pub files: [PathBuf; 2],
    /// DNS names that the certificate is for, lower case; may begin with `*.`.
    pub names: Vec<String>,
    pub loaded: Arc<CertifiedKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSni {
    Default,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// `[route.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub name: RouteName,
    /// Listeners it stands on; never empty (an empty list in the file is expanded to all).
    pub listen: Vec<ListenName>,
    /// Empty: any host.
    pub hosts: Vec<HostPattern>,
    /// Prefixes by whole segments, normalised, without trailing slash; "/" is the empty string.
    pub paths: Vec<String>,
    /// Exact paths, normalised.
    pub paths_exact: Vec<String>,
    /// Empty: any method.
    pub methods: Vec<Method>,
    pub headers: Vec<HeaderCondition>,
    pub query: Vec<QueryCondition>,
    pub priority: i64,
    pub action: Action,
    /// Normalised, without trailing slash.
    pub strip_prefix: Option<String>,
    /// Without trailing slash.
    pub add_prefix: Option<String>,
    pub request_headers: FieldEdits,
    pub response_headers: FieldEdits,
    pub timeout: Option<Duration>,
    /// `None`: off.
    pub max_body: Option<ByteSize>,
    /// `None`: off.
    pub buffer_request: Option<ByteSize>,
    /// `None`: off.
    pub cache: Option<Cache>,
    /// `None`: off.
    pub compress: Option<Compress>,
}

/// `[cache]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStore {
    /// All that is stored, with what it takes to keep it. `None` ("auto"): the least of 256 MiB and a quarter of the memory
    /// that the process may use.
    pub max_size: Option<ByteSize>,
    /// The largest response that is stored. Default 8 MiB.
    pub max_object_size: ByteSize,
}

/// `[route.NAME.cache]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Freshness by RFC 9111 §4.2.2 where a response has a `Last-Modified` and no explicit freshness. Default false.
    pub heuristic: bool,
    /// Freshness for cacheable responses that state none. `None`: off.
    pub default_ttl: Option<Duration>,
    /// Whether responses with `Set-Cookie` are stored. Default false.
    pub store_set_cookie: bool,
    pub key_query: KeyQuery,
    /// Whether the parameters of the query are sorted by name, stably. Default false.
    pub key_query_sort: bool,
    /// Request fields to ignore in `Vary`.
    pub vary_ignore: Vec<HeaderName>,
    /// Representations kept for one target. Default 32.
    pub max_variants: usize,
    /// Many identical misses, one fetch. Default true.
    pub collapse: bool,
    /// Where the response does not say. `None`: off.
    pub stale_while_revalidate: Option<Duration>,
    /// Where the response does not say. `None`: off. Default 60s.
    pub stale_if_error: Option<Duration>,
    /// Whether clients are told the verdict (RFC 9211). Default true.
    pub cache_status: bool,
}

/// What of the query counts in the key of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyQuery {
    All,
    None,
    /// The parameters of these names.
    Names(Vec<String>),
}

/// `[route.NAME.compress]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The order decides among those that the client weighs equally. At least one.
    pub codings: Vec<Coding>,
    pub min_size: ByteSize,
    pub level: Levels,
    /// Of what is kept in the cache, made where nobody waits for it.
    pub stored_level: Levels,
    /// At least one.
    pub types: Vec<MediaPattern>,
}

/// How hard each coding tries, on its own scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    pub br: u32,
    pub zstd: u32,
    pub gzip: u32,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// At least one; drawn by weight for each request.
    Forward(Vec<(UpstreamName, Weight)>),
    Redirect {
        /// May hold `{path}`.
        to: String,
        status: StatusCode,
    },
    Respond {
        status: StatusCode,
        body: String,
        content_type: HeaderValue,
    },
}

/// `host = "shop.example.com"` or `"*.example.com"`; lower case, no port, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(String),
    /// `*.a.com` is `Suffix("a.com")`: any depth below, not `a.com` itself.
    Suffix(String),
}

/// A request field that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCondition {
    pub name: HeaderName,
    /// `None` ("*"): any value.
    pub value: Option<String>,
}

/// A query parameter that must be there. Compared as written, without decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryCondition {
    pub name: String,
    /// `None` ("*"): any value.
    pub value: Option<String>,
}

/// `request_headers`, `response_headers`: removed first, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

impl FieldEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// `[upstream.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: UpstreamName,
    /// At least one, no place twice.
    pub servers: Vec<ServerConfig>,
    pub balance: Balance,
    pub host_header: HostHeader,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub stall_timeout: Duration,
    pub stream_timeout: Duration,
    pub on_all_down: OnAllDown,
    pub keepalive: Keepalive,
    pub health_check: Option<HealthCheck>,
    /// `None`: off.
    pub ejection: Option<Ejection>,
    /// `None`: off.
    pub retry: Option<Retry>,
    /// `None`: off.
    pub sticky: Option<Sticky>,
    /// `None`: off.
    pub slow_start: Option<Duration>,
    /// Requests at once per server. `None`: off.
    pub max_in_flight: Option<u32>,
    pub queue: Queue,
    pub concurrency: Concurrency,
    /// `None`: off.
    pub panic_below: Option<Share>,
    /// `None`: cleartext.
    pub tls: Option<ServersTls>,
}

/// `[upstream.NAME.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServersTls {
    pub roots: Roots,
    /// In place of the names of the servers. `None`: off.
    pub server_name: Option<rustls::pki_types::ServerName<'static>>,
    /// What weir shows to servers that ask. `None`: off.
    pub client: Option<Certificate>,
}

/// Who vouches for servers.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `None`: "system".
    pub file: Option<PathBuf>,
    pub loaded: Arc<RootCertStore>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    pub place: ServerPlace,
    /// Of each server, where a name stands for several.
    pub weight: Weight,
    pub backup: bool,
    /// In place of the upstream's; `Some(None)`: off.
    pub max_in_flight: Option<Option<u32>>,
    /// What its certificate must be for. `None` without `tls`.
    pub tls_name: Option<rustls::pki_types::ServerName<'static>>,
}

/// Where servers are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerPlace {
    Address(ServerAddr),
    /// All that DNS has for it.
    Name(ServerName),
}

impl fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// `queue = { size = 1000, timeout = "5s" }`; "off" is a size of 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub size: usize,
    pub timeout: Duration,
}

/// Whether the servers of an upstream get as many requests at once as they can work on, by what they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    Off,
    Adaptive,
}

/// How an upstream chooses the server of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConnections,
    PeakEwma,
    Random,
    Hash(HashKey),
}

/// What requests that belong to the same server have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    ClientIp,
    Path,
    Header(HeaderName),
    /// The value of the cookie of this name, which is a token.
    Cookie(String),
}

/// The `Host` that servers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    Preserve,
    Server,
    Fixed(HeaderValue),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAllDown {
    TryAnyway,
    Refuse,
}

/// `[upstream.NAME.keepalive]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle connections per server over all workers. 0 is allowed: no reuse.
    pub max_idle: usize,
    pub idle: Duration,
    pub max_age: Duration,
}

/// `[upstream.NAME.health_check]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    pub port: Option<u16>,
    pub interval: Duration,
    pub fast_interval: Duration,
    pub timeout: Duration,
    pub rise: u32,
    pub fall: u32,
    /// What the server's certificate must be for, where its `host` says so and there is `tls`. `None`: as for traffic.
    pub tls_name: Option<rustls::pki_types::ServerName<'static>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheckKind {
    Tcp,
    Http(HttpCheck),
    Grpc(GrpcCheck),
}

/// What a check with `type = "http"` asks and expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    pub path: String,
    pub method: Method,
    /// `None`: the server's address.
    pub host: Option<HeaderValue>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Inclusive ranges.
    pub status: Vec<(u16, u16)>,
    pub body: Option<String>,
}

/// What a check with `type = "grpc"` asks of the server's health service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcCheck {
    /// Empty: the server as a whole. Written as `path`, with a slash before it.
    pub service: String,
    /// `None`: the server's address.
    pub host: Option<HeaderValue>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// `[upstream.NAME.sticky]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    pub cookie: String,
    /// `None` ("session"): as long as the browser keeps it.
    pub ttl: Option<Duration>,
    pub path: String,
    pub domain: Option<String>,
    pub secure: Secure,
    pub same_site: SameSite,
}

/// Whether a cookie is for TLS alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Where the client came with it.
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

/// `[upstream.NAME.ejection]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// In a row, over at least a second.
    pub failures: u32,
    pub base: Duration,
    pub max: Duration,
    pub max_share: Share,
}

/// `[upstream.NAME.retry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub max_retries: u32,
    /// Of the requests of the last ten seconds.
    pub budget: Share,
    pub on: Vec<RetryOn>,
    pub methods: Vec<Method>,
}

/// What an attempt must have come to for another to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection, whatever the method.
    Connect,
    /// The connection broke, or what came was no HTTP, before there was a response head.
    Reset,
    /// No response head in time.
    Timeout,
    BadGateway,
    Unavailable,
    GatewayTimeout,
}

/// Whether the address is the machine's own, where an admin API without a token may listen.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
