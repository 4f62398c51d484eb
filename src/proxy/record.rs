//! What is learned of an exchange on its way. When the last byte is out, or it broke off, it becomes metrics and at most
//! one line of the access log; so it lives in the response body, and its end is its drop.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::uri::Scheme;
use http::{HeaderValue, StatusCode, header};

use super::Proxy;
use super::client::Client;
use super::fields::Parts;
use super::local::{Local, LocalServer};
use super::local_route::LocalRoute;
use crate::deadline;
use crate::semantics::coding::Coding;
use crate::semantics::forwarded;
use crate::state::Listener;
use crate::telemetry::access_log::Line;
use crate::telemetry::labels::{CacheResult, RefusedReason};
use crate::telemetry::request_id::RequestId;
use crate::units::UpstreamName;

/// One exchange.
pub(crate) struct Record {
    pub(crate) proxy: Rc<Proxy>,
    pub(crate) client: Rc<Client>,
    /// Where it belongs; `None` if its listener is gone. Its route is known once it is found.
    pub(crate) at: Option<Rc<LocalRoute>>,
    pub(crate) request: Rc<Parts>,
    pub(crate) started: Instant,
    pub(crate) id: Id,
    /// The client, by what trusted proxies say.
    pub(crate) address: IpAddr,
    pub(crate) server: Option<Rc<LocalServer>>,
    /// The place of the server that the client's cookie names.
    pub(crate) sticks_to: Option<usize>,
    /// Whether a server could not be connected to.
    pub(crate) was_cut_off: bool,
    pub(crate) attempts: u32,
    /// How long it waited for a server with room, if it did.
    pub(crate) queued: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// The content coding that weir gives the response.
    pub(crate) coding: Option<Coding>,
    /// What the cache made of it; `None` on a route without one.
    pub(crate) cache: Option<CacheResult>,
    /// Of a fetch for the store: no client's, and so neither counted nor logged.
    is_fetch: bool,
    pub(crate) end: End,
}

/// The name of a request, in its fields and in the access log.
#[derive(Clone)]
pub(crate) enum Id {
    Own(RequestId),
    /// By the word of a trusted proxy.
    Told(HeaderValue),
}

impl Id {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(id) => id.as_bytes(),
            Self::Told(id) => id.as_bytes(),
        }
    }

    /// For the response.
    pub(super) fn to_value(&self) -> HeaderValue {
        match self {
            Self::Own(id) => {
                HeaderValue::from_bytes(id.as_bytes()).unwrap_or(HeaderValue::from_static("-"))
            }
            Self::Told(id) => id.clone(),
        }
    }
}

/// Why an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The response went out whole.
    Complete,
    /// Not over yet; if it stays so, the client went away.
    Open,
    /// The server broke off its response or its framing.
    ServerBroke,
    /// The server was silent for too long within its response.
    ServerStalled,
    /// The time that the route allows was over.
    RouteTimeout,
    /// The client broke off its request, or was too slow with it.
    RequestBroke,
    /// The response could not be encoded, for want of memory.
    EncodingBroke,
    /// A tunnel was silent for too long.
    Idle,
    /// Weir is stopping, or its listener, its route or its server was removed.
    Drained,
}

impl End {
    fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Open => "client_gone",
            Self::ServerBroke => "server_broke",
            Self::ServerStalled => "server_stalled",
            Self::RouteTimeout => "route_timeout",
            Self::RequestBroke => "request_broke",
            Self::EncodingBroke => "encoding_broke",
            Self::Idle => "idle",
            Self::Drained => "drained",
        }
    }
}

impl Record {
    /// A request came.
    pub(crate) fn start(
        proxy: &Rc<Proxy>,
        client: &Rc<Client>,
        at: Option<Rc<LocalRoute>>,
        request: Rc<Parts>,
    ) -> Box<Self> {
        client.begin();
        let id = Id::Own(proxy.ids.next());
        Self::new(proxy, client, at, request, (id, client.peer.ip()))
    }

    /// A request of weir's own, made because of that of `cause` and in its place.
    pub(super) fn of_fetch(cause: &Self, request: Rc<Parts>) -> Box<Self> {
        let asker = (cause.id.clone(), cause.address);
        let at = cause.at.clone();
        let mut record = Self::new(&cause.proxy, &cause.client, at, request, asker);
        record.is_fetch = true;
        record
    }

    fn new(
        proxy: &Rc<Proxy>,
        client: &Rc<Client>,
        at: Option<Rc<LocalRoute>>,
        request: Rc<Parts>,
        (id, address): (Id, IpAddr),
    ) -> Box<Self> {
        Box::new(Self {
            id,
            address,
            proxy: Rc::clone(proxy),
            client: Rc::clone(client),
            at,
            request,
            started: deadline::now(),
            server: None,
            sticks_to: None,
            was_cut_off: false,
            attempts: 0,
            queued: None,
            connect: None,
            first_byte: None,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            coding: None,
            cache: None,
            is_fetch: false,
            end: End::Open,
        })
    }

    /// It goes to that one of the upstreams of its route.
    pub(super) fn choose(&mut self, local: &Local, choice: usize) {
        let Some(at) = self.at.as_ref().filter(|at| at.choice != choice) else {
            return;
        };
        if let Some(number) = at.number {
            self.at = local.route(at.listener.number, number, choice).cloned();
        }
    }

    /// The response went out whole. If it is weir's own, it may be known already why there is no other.
    pub(super) fn completed(&mut self) {
        if self.end == End::Open {
            self.end = End::Complete;
        }
    }

    /// Whether the client came by TLS, by what trusted proxies say.
    pub(super) fn is_https(&self, listener: &Listener) -> bool {
        let trusted = &listener.trusted_proxies;
        forwarded::scheme_of(self.client.peer.ip(), trusted, &self.request.headers)
            .map_or(self.client.tls, |scheme| scheme == Scheme::HTTPS)
    }

    /// How long ago the request came.
    pub(super) fn age(&self) -> Duration {
        deadline::since(self.started)
    }

    /// Counts a request that weir refused for that reason.
    pub(crate) fn refused(&self, reason: RefusedReason) {
        self.client.shard.refused(reason);
    }

    fn log(&self, seconds: Duration) {
        let request = &self.request;
        let field = |name| request.headers.get(name).map(HeaderValue::as_bytes);
        let authority = request
            .uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let at = self.at.as_deref();
        let route = at.and_then(|at| at.route.as_ref());
        let upstream = at.and_then(|at| at.upstream.as_ref());
        self.proxy.access.write(&Line {
            time: SystemTime::now()
                .checked_sub(seconds)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            request_id: self.id.as_bytes(),
            listen: at.map_or("", |at| at.listener.name.as_str()),
            client: self.address,
            method: request.method.as_str(),
            host: authority.or_else(|| field(header::HOST)),
            target: request
                .uri
                .path_and_query()
                .map_or(b"*", |target| target.as_str().as_bytes()),
            protocol: request.version,
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            seconds,
            route: route.map(|route| route.name.as_str()),
            upstream: upstream.map(UpstreamName::as_str),
            server: self.server.as_ref().map(|server| &server.server.address),
            attempts: self.attempts,
            queue_seconds: self.queued,
            connect_seconds: self.connect,
            first_byte_seconds: self.first_byte,
            cache: self.cache,
            coding: self.coding.map(Coding::name),
            user_agent: field(header::USER_AGENT),
            referer: field(header::REFERER),
            end: self.end.label(),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.is_fetch {
            return;
        }
        if self.end == End::Open && self.client.is_condemned() {
            self.end = End::Drained;
        }
        let seconds = self.age();
        if let Some(at) = &self.at {
            let shard = at.shard(&self.proxy.metrics);
            shard.ended(&self.request.method, self.status, seconds);
        }
        if self
            .proxy
            .access
            .wants(self.status, self.end != End::Complete)
        {
            self.log(seconds);
        }
        self.client.end();
        let request = Rc::get_mut(&mut self.request);
        if let Some(fields) = request.and_then(|request| Rc::get_mut(&mut request.headers)) {
            self.proxy.keep_fields(fields.take());
        }
    }
}
