//! One try on one server: connect or reuse, send, and wait for the head of the response.

use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Version, header};

use super::failure::Failure;
use super::fields::Parts;
use super::flight::Flight;
use super::forward::Forward;
use super::local::LocalServer;
use super::record::Record;
use super::request_body::RequestBody;
use super::request_head::RequestHead;
use crate::config::Balance;
use crate::deadline::{self, Deadline};
use crate::semantics::hop_by_hop::has_token;
use crate::upstream::connect::connect;
use crate::upstream::http1::head::{Asked, BadHead};
use crate::upstream::http1::{Connection, ExchangeError, Received, Upload};

impl Forward<'_> {
    /// One try on one server.
    pub(super) async fn attempt(
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
    ) -> Option<&'r HeaderValue> {
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

    /// Tells the balancer how long a server took.
    pub(super) fn observe(
        &self,
        server: &LocalServer,
        now: Instant,
        waited: Duration,
        failed: bool,
    ) {
        if let Balance::PeakEwma = self.upstream.upstream.balance {
            let now = self.proxy.deadlines.clock().micros(now);
            let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            server.latency.observe(now, waited, failed);
        }
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
fn is_offered(offered: &HeaderValue, taken: &HeaderValue) -> bool {
    taken.to_str().is_ok_and(|taken| {
        taken
            .split(',')
            .all(|protocol| has_token(offered, protocol.trim()))
    })
}
