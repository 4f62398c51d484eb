//! Attempts to get an answer from an upstream: pick a server, connect or reuse, send; and again, where `retries` says so.

use std::rc::Rc;
use std::time::Duration;

use bytes::Buf;
use http_body::Body as _;

use super::Proxy;
use super::answer::{Answer, Answered, Content};
use super::choose::Chosen;
use super::error::ProxyError;
use super::flight::Flight;
use super::local::LocalUpstream;
use super::record::Record;
use super::request_body::RequestBody;
use super::respond;
use super::retries::{Next, Retrying};
use super::running::Running;
use super::target::Target;
use super::tunnel::Tunnel;
use super::upstream_body::{UpstreamBody, settle};
use crate::deadline::{self, Deadline};
use crate::http1::Framing;
use crate::state::{Listener, Route};
use crate::telemetry::labels::RetryReason;
use crate::upstream::http1::{Connection, Kept, Received, Upload, UploadLimits};

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
                .extend(cookie.map(|cookie| (http::header::SET_COOKIE, cookie)));
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

/// How long the rest of a response is that came whole with its head.
fn whole(connection: &Connection, received: &Received) -> Option<usize> {
    match received.head.framing {
        Framing::Length(length) => usize::try_from(length)
            .ok()
            .filter(|&length| connection.unread.len() >= length),
        Framing::Chunked(_) | Framing::Close => None,
    }
}
