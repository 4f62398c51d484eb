//! Attempts to get an answer from an upstream: pick a server, connect or reuse, send, and go on to another server where
//! that is safe.
//!
//! A failed connect moves on for any method: nothing was sent. A reused connection that turns out to be closed is replaced
//! by a fresh one, once, if the request may be sent twice or not a byte of it went out. So is a request that may be sent
//! twice when its server dies before it answers. Only safe methods without a body count as such, fewer than RFC 9110 §9.2.2
//! allows: a `DELETE` that is repeated answers 404 to a client whose first one worked.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use http::request::Parts;
use http::{Method, Response, Version, header};
use hyper::body::{Body as _, Incoming};
use smallvec::SmallVec;

use super::Proxy;
use super::body::{Body, Flight, UpstreamBody, settle};
use super::error::ProxyError;
use super::local::{LocalServer, LocalUpstream};
use super::record::Record;
use super::request_head::RequestHead;
use super::respond;
use super::target::Target;
use super::tunnel::Tunnel;
use crate::config::OnAllDown;
use crate::deadline::Deadline;
use crate::semantics::hop_by_hop::has_token;
use crate::state::{Listener, Route};
use crate::telemetry::labels::{Outcome, RetryReason};
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::http1::exchange::StallLimits;
use crate::upstream::http1::head::{Asked, BadHead};
use crate::upstream::http1::{Connection, ExchangeError, Framing, Received, Upload, UploadLength};

/// Connections that are tried for one request before it fails.
const MAX_CONNECTS: usize = 3;

/// A failure, and the record that tells it.
pub(super) type Failed = (Box<Record>, ProxyError);

/// What one request is forwarded by.
pub(super) struct Forward<'r> {
    pub(super) proxy: &'r Rc<Proxy>,
    pub(super) listener: &'r Listener,
    pub(super) route: &'r Route,
    pub(super) upstream: &'r LocalUpstream,
    pub(super) target: &'r Target<'r>,
}

/// How one attempt went wrong.
enum Failure {
    Connect(ConnectError),
    /// Not a byte could be sent on a connection from the pool.
    Unsent,
    Exchange(ExchangeError),
}

impl Forward<'_> {
    /// Gets an answer from one of the servers.
    pub(super) async fn run(
        self,
        mut record: Box<Record>,
        body: Incoming,
    ) -> Result<Response<Body>, Failed> {
        let request = Rc::clone(&record.request);
        let mut upload = self.upload(body);
        let safe = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS)
            && upload.is_none();
        let route_deadline = self.route.timeout.map(|timeout| {
            let deadline = self.proxy.deadlines.deadline();
            deadline.arm(timeout);
            deadline
        });
        let Some((mut server, failover)) = self.choose() else {
            return Err((
                record,
                ProxyError::NoServer {
                    upstream: self.upstream.upstream.name.clone(),
                },
            ));
        };
        // Servers that failed this request.
        let mut tried = SmallVec::new();
        let mut connects = 0;
        let (mut may_be_stale, mut may_be_reset) = (true, safe && failover);
        loop {
            record.server = Some(Rc::clone(&server));
            record.attempts += 1;
            let mut flight = Flight::begin(&server);
            let pooled = if may_be_stale {
                server.pool.take(self.proxy.deadlines.now(), !safe)
            } else {
                None
            };
            let reused = pooled.is_some();
            let result = self
                .attempt(
                    &mut record,
                    &server,
                    pooled,
                    &mut upload,
                    route_deadline.as_ref(),
                )
                .await;
            let failure = match result {
                Ok((connection, received)) => {
                    return Ok(self.respond(
                        record,
                        connection,
                        received,
                        upload,
                        route_deadline,
                        flight,
                    ));
                }
                Err(failure) => failure,
            };
            flight.outcome(failure.outcome());
            match failure {
                Failure::Connect(source) => {
                    connects += 1;
                    let next = if failover && connects < MAX_CONNECTS {
                        self.another(&mut tried, &server)
                    } else {
                        None
                    };
                    let Some(next) = next else {
                        return Err((
                            record,
                            ProxyError::ConnectFailed {
                                server: server.server.address.clone(),
                                source,
                            },
                        ));
                    };
                    server = next;
                    self.upstream.shard.retried(RetryReason::Connect);
                }
                // On a connection from the pool, so this happens once.
                Failure::Unsent => {
                    may_be_stale = false;
                    self.upstream.shard.retried(RetryReason::Stale);
                }
                Failure::Exchange(ExchangeError::Closed(_)) if safe && reused && may_be_stale => {
                    may_be_stale = false;
                    self.upstream.shard.retried(RetryReason::Stale);
                }
                Failure::Exchange(ExchangeError::Closed(_)) if may_be_reset => {
                    may_be_reset = false;
                    may_be_stale = false;
                    if let Some(next) = self.another(&mut tried, &server) {
                        server = next;
                    }
                    self.upstream.shard.retried(RetryReason::Reset);
                }
                Failure::Exchange(source) => {
                    if upload
                        .as_ref()
                        .is_some_and(|upload| !upload.is_read_whole())
                    {
                        record.client.leave_unread();
                    }
                    return Err((
                        record,
                        ProxyError::Exchange {
                            server: server.server.address.clone(),
                            source,
                        },
                    ));
                }
            }
        }
    }

    /// The first server, and whether another may be tried after it.
    fn choose(&self) -> Option<(Rc<LocalServer>, bool)> {
        let upstream = self.upstream;
        if let Some(server) = upstream.pick(|server| server.server.accepts_traffic()) {
            return Some((Rc::clone(server), true));
        }
        match upstream.upstream.on_all_down {
            // All are down by the checks, which may be wrong: one try on any of them.
            OnAllDown::TryAnyway => Some((Rc::clone(upstream.pick(|_| true)?), false)),
            OnAllDown::Refuse => None,
        }
    }

    /// A server that has not failed this request yet, as `failed` just did.
    fn another(
        &self,
        tried: &mut SmallVec<[Rc<LocalServer>; 2]>,
        failed: &Rc<LocalServer>,
    ) -> Option<Rc<LocalServer>> {
        tried.push(Rc::clone(failed));
        let is_new =
            |server: &Rc<LocalServer>| !tried.iter().any(|tried| Rc::ptr_eq(tried, server));
        self.upstream
            .pick(|server| server.server.accepts_traffic() && is_new(server))
            .map(Rc::clone)
    }

    fn upload(&self, body: Incoming) -> Option<Upload<Incoming>> {
        if body.is_end_stream() {
            return None;
        }
        let length = body
            .size_hint()
            .exact()
            .map_or(UploadLength::Chunked, UploadLength::Known);
        let stall = self.proxy.deadlines.deadline();
        let limits = StallLimits {
            client: self.listener.limits.stall_timeout,
            server: self.upstream.upstream.stall_timeout,
        };
        Some(Upload::new(
            body,
            length,
            self.route.max_body,
            stall,
            limits,
        ))
    }

    /// One try on one server.
    async fn attempt(
        &self,
        record: &mut Box<Record>,
        server: &Rc<LocalServer>,
        pooled: Option<Box<Connection>>,
        upload: &mut Option<Upload<Incoming>>,
        route_deadline: Option<&Deadline>,
    ) -> Result<(Box<Connection>, Received), Failure> {
        let reused = pooled.is_some();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let began = Instant::now();
                let limit = self.upstream.upstream.connect_timeout;
                // Boxed: seldom needed, and its state would make every request's larger.
                let connecting = Box::pin(connect(
                    &server.server.address,
                    &self.proxy.deadlines,
                    limit,
                ));
                let connection = within(route_deadline, connecting)
                    .await?
                    .map_err(Failure::Connect)?;
                record.connect = Some(began.elapsed());
                connection
            }
        };
        let request = Rc::clone(&record.request);
        let upgrade = self.upgrade(&request, upload.is_some());
        let sent = {
            let mut head = self.proxy.head.borrow_mut();
            head.clear();
            RequestHead {
                record,
                listener: self.listener,
                route: self.route,
                upstream: &self.upstream.upstream,
                server: &server.server.address,
                target: self.target,
                body: upload.as_ref().map(Upload::length),
                upgrade,
            }
            .write(&mut head);
            connection.send_head(&head)
        };
        if !sent && reused {
            return Err(Failure::Unsent);
        }
        // The clock is not asked again where nothing took time since it was.
        let began = if record.attempts == 1 && reused {
            record.started
        } else {
            Instant::now()
        };
        let room = if request.version == Version::HTTP_2 {
            0
        } else {
            request.headers.len()
        };
        let asked = Asked {
            head: record.request.method == Method::HEAD,
            upgrade: upgrade.is_some(),
            room,
        };
        let response_timeout = self.upstream.upstream.response_timeout;
        let received = connection
            .receive(
                upload,
                asked,
                response_timeout,
                route_deadline,
                &self.proxy.workspace,
            )
            .await;
        record.bytes_in = connection.uploaded;
        let received = received.map_err(Failure::Exchange)?;
        if received
            .head
            .upgrade
            .as_ref()
            .is_some_and(|taken| !upgrade.is_some_and(|offered| is_offered(offered, taken)))
        {
            return Err(Failure::Exchange(BadHead::UnexpectedUpgrade.into()));
        }
        let waited = began.elapsed();
        server.shard.response.observe(waited);
        record.first_byte = Some(waited);
        Ok((connection, received))
    }

    /// The protocol to switch to, where the client asks for one in a way that can be passed on: HTTP/1.1, no body. Never
    /// h2c: a server that takes it would speak past every rule of the proxy.
    fn upgrade<'r>(&self, request: &'r Parts, has_body: bool) -> Option<&'r http::HeaderValue> {
        if !self.target.present.upgrade
            || request.version != Version::HTTP_11
            || request.method != Method::GET
            || has_body
        {
            return None;
        }
        let protocol = request.headers.get(header::UPGRADE)?;
        let asked = request
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .any(|value| has_token(value, "upgrade"));
        (asked && !has_token(protocol, "h2c")).then_some(protocol)
    }

    fn respond(
        &self,
        mut record: Box<Record>,
        mut connection: Box<Connection>,
        received: Received,
        upload: Option<Upload<Incoming>>,
        route_deadline: Option<Deadline>,
        mut flight: Flight,
    ) -> Response<Body> {
        let head = received.head;
        if record.client.http2.get() {
            // A stream that is not taken keeps what it has.
            connection.unshare();
        }
        connection.idle_limit = head.idle_seconds.map(crate::upstream::pool::idle_limit);
        record.status = Some(head.status);
        let outcome = Outcome::of(head.status);
        let upstream = &self.upstream.upstream;
        if let Some(protocol) = head.upgrade {
            flight.outcome(outcome);
            let client = Rc::clone(&record.client);
            let id = record.id.to_value();
            let tunnel = Tunnel::new(connection, record, flight, upstream.stream_timeout);
            client.switch_to(Box::new(tunnel));
            return respond::switching(head.headers, protocol, id, self.listener, self.route);
        }
        let stream = head.event_stream;
        let (status, headers) = (head.status, head.headers);
        let parts = respond::parts(status, headers, &record, self.listener, self.route);
        let whole = match head.framing {
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .filter(|&length| connection.unread.len() >= length),
            Framing::Chunked(_) | Framing::Close => None,
        };
        // The usual small response came with its head: the connection is free before the client gets a byte.
        if let (Some(length), None) = (whole, &upload) {
            let bytes = connection.unread.split_to(length);
            flight.outcome(outcome);
            settle(
                connection,
                &Framing::NONE,
                head.keep_alive,
                flight.server(),
                self.proxy,
            );
            return Response::from_parts(parts, Body::whole(bytes, record));
        }
        let body = UpstreamBody {
            framing: head.framing,
            keep_alive: head.keep_alive,
            uploaded: connection.uploaded,
            upload,
            end: None,
            stall: if stream {
                upstream.stream_timeout
            } else {
                upstream.stall_timeout
            },
            route_deadline: route_deadline.filter(|_| !stream),
            outcome,
            flight: Some(flight),
            record_client: Rc::clone(&record.client),
            proxy: Rc::clone(self.proxy),
            connection: Some(connection),
        };
        Response::from_parts(parts, Body::upstream(Box::new(body), record))
    }
}

impl Failure {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(ConnectError::TimedOut) => Outcome::Timeout,
            Self::Connect(_) => Outcome::ConnectFailed,
            Self::Unsent => Outcome::Reset,
            Self::Exchange(error) => match error {
                ExchangeError::Closed(_) | ExchangeError::Incomplete(_) => Outcome::Reset,
                ExchangeError::Head(_) | ExchangeError::Informational => Outcome::Protocol,
                ExchangeError::ResponseTimeout
                | ExchangeError::WriteTimeout
                | ExchangeError::RouteTimeout => Outcome::Timeout,
                ExchangeError::ClientBody(_)
                | ExchangeError::ClientStalled
                | ExchangeError::BodyTooLarge => Outcome::Canceled,
            },
        }
    }
}

/// What `future` makes, unless the time that the route allows is over first.
async fn within<F: Future + Unpin>(
    route_deadline: Option<&Deadline>,
    mut future: F,
) -> Result<F::Output, Failure> {
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(context) {
            return Poll::Ready(Ok(output));
        }
        match route_deadline {
            Some(deadline) => deadline
                .poll_over(context)
                .map(|()| Err(Failure::Exchange(ExchangeError::RouteTimeout))),
            None => Poll::Pending,
        }
    })
    .await
}

/// Whether each protocol that a server switched to is one that the client offered (RFC 9110 §7.8).
fn is_offered(offered: &http::HeaderValue, taken: &http::HeaderValue) -> bool {
    taken.to_str().is_ok_and(|taken| {
        taken
            .split(',')
            .all(|protocol| has_token(offered, protocol.trim()))
    })
}
