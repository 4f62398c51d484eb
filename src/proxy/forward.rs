//! Attempts to get an answer from an upstream: pick a server, connect or reuse, send; and again, where `retries` says so.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Buf;
use http::{Method, Version, header};
use http_body::Body as _;

use super::Proxy;
use super::answer::{Answer, Answered, Content};
use super::choose::Chosen;
use super::error::ProxyError;
use super::fields::Parts;
use super::flight::Flight;
use super::local::{LocalServer, LocalUpstream};
use super::record::Record;
use super::request_body::RequestBody;
use super::request_head::RequestHead;
use super::respond;
use super::retries::{Failure, Next, Retrying};
use super::running::Running;
use super::target::Target;
use super::tunnel::Tunnel;
use super::upstream_body::{UpstreamBody, settle};
use crate::balance::{self, Occasion};
use crate::config::{Balance, Concurrency, HashKey};
use crate::deadline::{self, Deadline};
use crate::http1::Framing;
use crate::semantics::cookies;
use crate::semantics::hop_by_hop::has_token;
use crate::state::{Listener, Route};
use crate::telemetry::labels::{Outcome, RetryReason};
use crate::upstream::connect::{ConnectError, connect};
use crate::upstream::ejection::Cause;
use crate::upstream::http1::head::{Asked, BadHead};
use crate::upstream::http1::{Connection, ExchangeError, Kept, Received, Upload, UploadLimits};
use crate::upstream::queue::{Place, Wants};
use crate::upstream::tls::Fault;

/// A failure, and the record that tells it.
pub(super) type Failed = (Box<Record>, ProxyError);

/// What one request is forwarded by.
pub(super) struct Forward<'r> {
    pub(super) proxy: &'r Rc<Proxy>,
    pub(super) listener: &'r Listener,
    pub(super) route: &'r Route,
    pub(super) upstream: &'r LocalUpstream,
    pub(super) target: &'r Target<'r>,
    /// Whether somebody looks at the answer before it becomes a response.
    pub(super) is_looked_at: bool,
}

impl Forward<'_> {
    /// Gets an answer from one of the servers.
    pub(super) async fn run(
        self,
        mut record: Box<Record>,
        body: Option<RequestBody>,
    ) -> Result<Answer, Failed> {
        let request = Rc::clone(&record.request);
        let may_repeat = self.upstream.upstream.replayable.contains(&request.method);
        let body = body.filter(|body| !body.is_end_stream());
        let kept = (may_repeat && body.is_some()).then(Kept::default);
        let is_light = may_repeat && kept.is_none();
        let mut upload = body.map(|body| Upload::new(body, self.upload_limits(), kept.clone()));
        let running = self.begin(&record);
        if let (Some(size), Some(upload)) = (self.route.buffer_request, &mut upload)
            && let Err(source) = Box::pin(upload.buffer(size, Some(running.deadline()))).await
        {
            record.client.leave_unread();
            return Err((record, ProxyError::Body { source }.or_drained(&running)));
        }
        let now = self.proxy.deadlines.now();
        let occasion = self.occasion(&record, now);
        record.sticks_to = self.sticks_to(&record);
        let its_own = record
            .sticks_to
            .and_then(|place| self.upstream.choose_again(place));
        let chosen = match its_own {
            Some(chosen) => {
                self.upstream.pardon_untried(now);
                chosen
            }
            None => self.upstream.choose(now, is_light, occasion),
        };
        let mut flight = match chosen {
            Chosen::Place(flight) => flight,
            chosen => {
                let deadline = running.deadline();
                let anew = || {
                    let now = self.proxy.deadlines.now();
                    self.upstream.choose(now, is_light, occasion)
                };
                match Box::pin(self.place(chosen, &mut record, deadline, anew)).await {
                    Ok(flight) => flight,
                    Err(error) => return Err((record, error.or_drained(&running))),
                }
            }
        };
        let mut retrying = Retrying::new(self.upstream, now, occasion, flight.way());
        loop {
            let server = Rc::clone(flight.server());
            running.at(&server);
            record.server = Some(Rc::clone(&server));
            record.attempts += 1;
            let pooled = if retrying.may_reuse {
                server.pool.take(self.proxy.deadlines.now(), !may_repeat)
            } else {
                None
            };
            let reused = pooled.is_some();
            let result = self
                .attempt(
                    &mut record,
                    &flight,
                    pooled,
                    &mut upload,
                    running.deadline(),
                )
                .await;
            let replayable = may_repeat && kept.as_ref().is_none_or(Kept::is_whole);
            let again = match result {
                Ok((connection, received)) => {
                    let head = &received.head;
                    flight.answered(head.status, head.event_stream || head.upgrade.is_some());
                    let next = retrying.after_answer(head.status, &head.headers, replayable);
                    let deadline = running.deadline();
                    let again = match next {
                        // Nearly always, and so without the cost of waiting for nothing.
                        Next::Nothing => None,
                        next => {
                            self.again(next, &mut retrying, &mut flight, &mut record, deadline)
                                .await
                        }
                    };
                    let Some(again) = again else {
                        return Ok(
                            self.answer(record, connection, received, upload, running, flight)
                        );
                    };
                    self.leave(connection, &received, &upload, &mut flight);
                    again
                }
                Err(failure) => {
                    let reused = reused.then(|| record.age());
                    let next = retrying.after_failure(&failure, reused, replayable);
                    let (outcome, cause) = failure.verdict(&running);
                    // That an idle connection was closed does not speak against the server.
                    let cause = cause.filter(|_| !matches!(next, Next::Afresh));
                    if cause.is_some() {
                        self.observe(&server, deadline::now(), Duration::ZERO, true);
                    }
                    flight.failed(outcome, cause);
                    let deadline = running.deadline();
                    let Some(again) = self
                        .again(next, &mut retrying, &mut flight, &mut record, deadline)
                        .await
                    else {
                        if upload
                            .as_ref()
                            .is_some_and(|upload| !upload.is_read_whole())
                        {
                            record.client.leave_unread();
                        }
                        return Err((record, failure.told(&server).or_drained(&running)));
                    };
                    again
                }
            };
            if let Some(kept) = &kept {
                upload = Some(kept.again(upload, || self.upload_limits()));
            }
            flight = again;
        }
    }

    /// Limited by the route's timeout, and by a reload that leaves it without its route or server.
    fn begin(&self, record: &Record) -> Running {
        let running = self.proxy.exchanges.begin(record.at.as_ref());
        if let Some(timeout) = self.route.timeout {
            running.deadline().arm(timeout);
        }
        running
    }

    /// The next attempt after that of `flight`, if there is to be one.
    async fn again(
        &self,
        next: Next,
        retrying: &mut Retrying<'_>,
        flight: &mut Flight,
        record: &mut Record,
        until: &Deadline,
    ) -> Option<Flight> {
        match next {
            Next::Nothing => None,
            Next::Afresh => Some(flight.again()),
            Next::Another(reason) => {
                record.was_cut_off |= reason == RetryReason::Connect;
                match retrying.another(flight.server(), reason, flight.is_answered()) {
                    Chosen::Same => Some(flight.again()),
                    Chosen::Place(flight) => Some(flight),
                    Chosen::Full(_) | Chosen::Nobody if flight.is_answered() => None,
                    chosen => {
                        flight.give_back();
                        let nobody = || Chosen::Nobody;
                        Box::pin(self.place(chosen, record, until, nobody))
                            .await
                            .ok()
                    }
                }
            }
        }
    }

    /// The place of the server that the client's cookie names.
    pub(super) fn sticks_to(&self, record: &Record) -> Option<usize> {
        let sticky = self.upstream.upstream.sticky.as_ref()?;
        sticky.place(&record.request.headers)
    }

    /// The cookie for a client that has none, or whose server is out of service or could not be connected to. One that went
    /// elsewhere for a single request comes back: what it has there is worth more than one answer.
    fn set_cookie(&self, record: &Record) -> Option<http::HeaderValue> {
        let sticky = self.upstream.upstream.sticky.as_ref()?;
        let server = record.server.as_ref()?;
        let place = self.upstream.place_of(server)?;
        let own = record
            .sticks_to
            .and_then(|own| self.upstream.servers.get(own));
        let stays = |own: &Rc<LocalServer>| {
            Rc::ptr_eq(own, server) || !record.was_cut_off && own.server.accepts_its_clients()
        };
        if own.is_some_and(stays) {
            return None;
        }
        sticky.set_cookie(place, record.is_https(self.listener))
    }

    /// What the balancer of this upstream wants to know.
    pub(super) fn occasion(&self, record: &Record, now: u64) -> Occasion {
        match &self.upstream.upstream.balance {
            Balance::RoundRobin | Balance::LeastConnections | Balance::Random => {
                Occasion::default()
            }
            Balance::PeakEwma => Occasion {
                now: self.proxy.deadlines.clock().micros(record.started),
                ..Occasion::default()
            },
            Balance::Hash(key) => Occasion {
                key: self.key(key, record),
                in_flight: self.upstream.in_flight(now),
                ..Occasion::default()
            },
        }
    }

    /// The hash of what decides about the server; of the client's address where the request does not have it.
    fn key(&self, key: &HashKey, record: &Record) -> u64 {
        let headers = &record.request.headers;
        let bytes = match key {
            HashKey::ClientIp => None,
            HashKey::Path => Some(self.target.path.as_bytes()),
            HashKey::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
            HashKey::Cookie(name) => cookies::find(headers, name),
        };
        match (bytes, record.address.to_canonical()) {
            (Some(bytes), _) => balance::key(bytes),
            (None, IpAddr::V4(address)) => balance::key(&address.octets()),
            (None, IpAddr::V6(address)) => balance::key(&address.octets()),
        }
    }

    /// Tells the balancer how long a server took.
    fn observe(&self, server: &LocalServer, now: Instant, waited: Duration, failed: bool) {
        if let Balance::PeakEwma = self.upstream.upstream.balance {
            let now = self.proxy.deadlines.clock().micros(now);
            let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            server.latency.observe(now, waited, failed);
        }
    }

    /// A place on a server, waited for where all have as many requests as they may. `anew` chooses again, where there is no
    /// use in waiting any longer.
    async fn place(
        &self,
        mut chosen: Chosen,
        record: &mut Record,
        until: &Deadline,
        anew: impl Fn() -> Chosen,
    ) -> Result<Flight, ProxyError> {
        let upstream = &self.upstream.upstream;
        let deadline = self.proxy.deadlines.deadline();
        deadline.arm(upstream.queue.timeout);
        let before = record.queued.unwrap_or_default();
        let began = deadline::now();
        loop {
            let wants = match chosen {
                Chosen::Place(flight) => return Ok(flight),
                Chosen::Full(wants) => wants,
                Chosen::Same | Chosen::Nobody => {
                    return Err(ProxyError::NoServer {
                        upstream: upstream.name.clone(),
                    });
                }
            };
            let is_bound = matches!(wants, Wants::Only(_));
            let place = self.wait(wants, &deadline, until).await;
            let waited = deadline::since(began);
            record.queued = Some(before + waited);
            match place {
                Ok(Some(place)) => {
                    self.upstream.shard.queued.observe(waited);
                    return self.take(place);
                }
                Ok(None) => chosen = anew(),
                // Another server's answer is better than none.
                Err(error) if is_bound && error.is_crowded() => chosen = anew(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits in the upstream's queue; `None` if there is no use in waiting any longer.
    async fn wait(
        &self,
        wants: Wants,
        deadline: &Deadline,
        until: &Deadline,
    ) -> Result<Option<Place>, ProxyError> {
        let upstream = &self.upstream.upstream;
        let name = || upstream.name.clone();
        let room = match upstream.concurrency {
            Concurrency::Adaptive => upstream.group.queue_room(),
            Concurrency::Off => usize::MAX,
        };
        let size = upstream.queue.size.min(room);
        let bound_to = match &wants {
            Wants::Only(server) => Some(Arc::clone(server)),
            Wants::AnyBut(_) => None,
        };
        let Some(mut waiting) = upstream.group.queue.join(wants, size) else {
            return Err(if room < upstream.queue.size {
                ProxyError::Shed { upstream: name() }
            } else {
                ProxyError::QueueFull { upstream: name() }
            });
        };
        // There may have been room again before anybody knew that this one waits.
        match bound_to {
            Some(server) => upstream.group.queue.serve(&server),
            None => self.upstream.serve_queue(self.proxy.deadlines.now()),
        }
        std::future::poll_fn(|context| {
            if let Poll::Ready(place) = waiting.poll_place(context) {
                return Poll::Ready(Ok(place));
            }
            if until.poll_over(context).is_ready() {
                return Poll::Ready(Err(ProxyError::RouteTimeout { upstream: name() }));
            }
            deadline
                .poll_over(context)
                .map(|()| Err(ProxyError::QueueTimeout { upstream: name() }))
        })
        .await
    }

    /// Takes over a place that was waited for.
    fn take(&self, place: Place) -> Result<Flight, ProxyError> {
        let name = &self.upstream.upstream.name;
        let nobody = || ProxyError::NoServer {
            upstream: name.clone(),
        };
        if let Some(server) = self.upstream.server_of(&place) {
            return Flight::take_over(server, place).ok_or_else(nobody);
        }
        // A reload in the meantime has brought a server that the state of this request does not have.
        let newest = self.proxy.local();
        let mut upstreams = newest.upstreams.iter();
        upstreams
            .find(|known| known.upstream.name == *name)
            .and_then(|known| Some(Rc::clone(known.server_of(&place)?)))
            .and_then(|server| Flight::take_over(&server, place))
            .ok_or_else(nobody)
    }

    /// An answer that the client will not see: the connection is of use again if all of it is there.
    fn leave(
        &self,
        mut connection: Box<Connection>,
        received: &Received,
        upload: &Option<Upload<RequestBody>>,
        flight: &mut Flight,
    ) {
        if let (Some(length), None) = (whole(&connection, received), upload) {
            connection.unread.advance(length);
            settle(
                connection,
                &Framing::NONE,
                received.head.keep_alive,
                flight.server(),
                self.proxy,
            );
        }
        flight.completed();
    }

    fn upload_limits(&self) -> UploadLimits {
        UploadLimits {
            max: self.route.max_body,
            stall: self.proxy.deadlines.deadline(),
            client: self.listener.limits.stall_timeout,
            server: self.upstream.upstream.stall_timeout,
        }
    }

    /// One try on one server.
    async fn attempt(
        &self,
        record: &mut Box<Record>,
        flight: &Flight,
        pooled: Option<Box<Connection>>,
        upload: &mut Option<Upload<RequestBody>>,
        until: &Deadline,
    ) -> Result<(Box<Connection>, Received), Failure> {
        let server = flight.server();
        let reused = pooled.is_some();
        let has_body = upload.is_some();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let began = deadline::now();
                let limit = self.upstream.upstream.connect_timeout;
                let (tls, era) = (server.tls(), server.pool.era());
                // Boxed: seldom needed, and its state would make every request's larger.
                let connecting = Box::pin(connect(
                    &server.server.address,
                    tls.as_deref(),
                    &self.proxy.deadlines,
                    limit,
                ));
                let mut connection = within(until, connecting).await?.map_err(Failure::Connect)?;
                connection.era = era;
                record.connect = Some(deadline::since(began));
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
        let waited_before = record.queued.is_some() || self.route.buffer_request.is_some();
        let began = if record.attempts == 1 && reused && !waited_before {
            record.started
        } else {
            deadline::now()
        };
        let asked = Asked {
            head: record.request.method == Method::HEAD,
            upgrade: upgrade.is_some(),
        };
        let response_timeout = self.upstream.upstream.response_timeout;
        let received = connection
            .receive(
                upload,
                flight,
                asked,
                response_timeout,
                Some(until),
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
        // From when the server had all of the request: how long a client takes to send it is not the server's doing.
        let began = flight.sent_at().filter(|_| has_body).unwrap_or(began);
        let waited = deadline::since(began);
        server.shard.response.observe(waited);
        let failed = received.head.status.is_server_error();
        self.observe(server, began + waited, waited, failed);
        record.first_byte = Some(waited);
        Ok((connection, received))
    }

    /// The protocol to switch to, where the client asks for one in a way that can be passed on: HTTP/1.1, no body. Never
    /// h2c: a server that takes it would speak past every rule of the proxy.
    pub(super) fn upgrade<'r>(
        &self,
        request: &'r Parts,
        has_body: bool,
    ) -> Option<&'r http::HeaderValue> {
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

    fn answer(
        &self,
        mut record: Box<Record>,
        mut connection: Box<Connection>,
        received: Received,
        upload: Option<Upload<RequestBody>>,
        running: Running,
        mut flight: Flight,
    ) -> Answer {
        let whole = whole(&connection, &received);
        let mut head = received.head;
        let cookie = self.set_cookie(&record);
        if record.client.http2.get() {
            // A stream that is not taken keeps what it has.
            connection.unshare();
        }
        connection.idle_limit = head.idle_seconds.map(crate::upstream::pool::idle_limit);
        let upstream = &self.upstream.upstream;
        if let Some(protocol) = head.upgrade {
            flight.completed();
            head.headers
                .extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
            record.status = Some(head.status);
            let client = Rc::clone(&record.client);
            let id = record.id.to_value();
            running.endless();
            let idle = upstream.stream_timeout;
            let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
            let tunnel = Tunnel::new(connection, record, (flight, running), idle, is_websocket);
            client.switch_to(Box::new(tunnel));
            let response =
                respond::switching(head.headers, protocol, id, self.listener, self.route);
            return Answer::Response(response);
        }
        let stream = head.event_stream;
        // The usual small response came with its head: the connection is free before the client gets a byte.
        let content = if let (Some(length), None) = (whole, &upload) {
            let bytes = connection.unread.split_to(length);
            flight.completed();
            settle(
                connection,
                &Framing::NONE,
                head.keep_alive,
                flight.server(),
                self.proxy,
            );
            Content::Whole(bytes)
        } else {
            if stream {
                running.endless();
            }
            Content::Upstream(Box::new(UpstreamBody {
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
                is_stream: stream,
                is_drained: false,
                running,
                flight: Some(flight),
                record_client: Rc::clone(&record.client),
                proxy: Rc::clone(self.proxy),
                connection: Some(connection),
            }))
        };
        let answered = Answered {
            record,
            status: head.status,
            headers: head.headers,
            content,
            cookie,
        };
        if self.is_looked_at {
            Answer::Answered(Box::new(answered))
        } else {
            Answer::Response(answered.respond(self.listener, self.route))
        }
    }
}

impl Failure {
    /// How it is counted, and what it says of the server.
    fn verdict(&self, running: &Running) -> (Outcome, Option<Cause>) {
        match self {
            Self::Connect(ConnectError::Refused) => (Outcome::ConnectFailed, Some(Cause::Refused)),
            Self::Connect(ConnectError::TimedOut) => {
                (Outcome::Timeout, Some(Cause::ConnectTimedOut))
            }
            Self::Connect(ConnectError::Failed(_)) => {
                (Outcome::ConnectFailed, Some(Cause::ConnectFailed))
            }
            Self::Connect(ConnectError::Tls(error)) => {
                (Outcome::ConnectFailed, Some(Cause::Tls(error.fault())))
            }
            // It was closed while it was idle, as servers do.
            Self::Unsent => (Outcome::Reset, None),
            Self::Exchange(error) => match error {
                ExchangeError::Refused(alert) => (
                    Outcome::ConnectFailed,
                    Some(Cause::Tls(Fault::Alert(*alert))),
                ),
                ExchangeError::Closed(_) | ExchangeError::Incomplete(_) => {
                    (Outcome::Reset, Some(Cause::Reset))
                }
                ExchangeError::Head(_) | ExchangeError::Informational => {
                    (Outcome::Protocol, Some(Cause::Protocol))
                }
                ExchangeError::ResponseTimeout | ExchangeError::WriteTimeout => {
                    (Outcome::Timeout, Some(Cause::TimedOut))
                }
                ExchangeError::RouteTimeout if running.is_leaving() => (Outcome::Canceled, None),
                ExchangeError::RouteTimeout => (Outcome::Timeout, None),
                ExchangeError::ClientBody(_)
                | ExchangeError::ClientStalled
                | ExchangeError::BodyTooLarge => (Outcome::Canceled, None),
            },
        }
    }

    fn told(self, server: &LocalServer) -> ProxyError {
        let server = server.server.address.clone();
        match self {
            Self::Connect(source) => ProxyError::ConnectFailed { server, source },
            Self::Unsent => ProxyError::Exchange {
                server,
                source: ExchangeError::Closed(None),
            },
            Self::Exchange(source) => ProxyError::Exchange { server, source },
        }
    }
}

/// How long the rest of a response is that came whole with its head.
fn whole(connection: &Connection, received: &Received) -> Option<usize> {
    match received.head.framing {
        Framing::Length(length) => usize::try_from(length)
            .ok()
            .filter(|&length| connection.unread.len() >= length),
        Framing::Chunked(_) | Framing::Close => None,
    }
}

/// What `future` makes, unless the time of the exchange is over first.
async fn within<F: Future + Unpin>(until: &Deadline, mut future: F) -> Result<F::Output, Failure> {
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(context) {
            return Poll::Ready(Ok(output));
        }
        until
            .poll_over(context)
            .map(|()| Err(Failure::Exchange(ExchangeError::RouteTimeout)))
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
