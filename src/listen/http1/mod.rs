//! Our own HTTP/1 server (RFC 9112): one request after the other on a connection, in the task of that connection. No copy
//! of what can be shared, nothing kept while it waits for a request.
//!
//! hyper's server would do, at 5,500 instructions more per request.

pub(crate) mod bad_head;
mod before;
pub(crate) mod head;
mod output;
mod response;
mod section;
mod wire;
pub(crate) mod workbench;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use self::bad_head::BadHead;
use self::head::Head;
use self::response::{Asked, Sending, Unsent};
use self::wire::NoHead;
pub(crate) use self::wire::Wire;
use self::workbench::Workbench;
use crate::proxy::body::Body;
use crate::proxy::fields::Parts;
use crate::proxy::request_body::RequestBody;
use crate::state::ListenLimits;

/// What a listener allows heads to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    max_head: usize,
    max_target: usize,
    max_headers: usize,
}

impl From<&ListenLimits> for Rules {
    fn from(limits: &ListenLimits) -> Self {
        Self {
            // Somewhat above the limits, so that what is not far beyond gets an answer that says which it is.
            max_head: limits.max_header_size + limits.max_target_size + 1024,
            max_target: limits.max_target_size,
            max_headers: limits.max_headers,
        }
    }
}

impl Rules {
    /// What of a head is too large of which this is the beginning.
    fn too_large(&self, head: &[u8]) -> BadHead {
        let line = head.iter().position(|&byte| byte == b'\n');
        match line.unwrap_or(head.len()) > self.max_target + 64 {
            true => BadHead::TargetTooLong,
            false => BadHead::TooLarge,
        }
    }

    /// Parses a whole head, and what follows it.
    pub(crate) fn parse(
        &self,
        bench: &Workbench,
        mut read: Bytes,
        map: impl FnOnce() -> HeaderMap,
    ) -> Result<(Head, Bytes), BadHead> {
        let (length, head) = bench.parse(&read, self.max_headers, map)?;
        if length > self.max_head {
            return Err(self.too_large(&read));
        }
        // An empty rest would keep all that it was cut from.
        let rest = match length == read.len() {
            true => Bytes::new(),
            false => read.split_off(length),
        };
        Ok((head, rest))
    }
}

/// How a connection ended, as far as requests and responses are concerned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing more is to come, from either side.
    Over,
    /// A response broke off, and the end of the connection has to tell it.
    Broken,
    /// The head of a request was none; that was answered.
    Refused(BadHead),
    /// Another protocol takes over.
    Switched,
}

/// Answers the requests of a connection, by `answer`, until it ends.
pub(crate) async fn serve<S, A>(
    wire: &Rc<Wire<S>>,
    rules: Rules,
    answer: impl Fn(Parts, RequestBody) -> A,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Future<Output = Response<Body>>,
{
    loop {
        let head = match poll_fn(|context| wire.poll_head(context, &rules)).await {
            Ok(read) => rules.parse(wire.bench(), read, || wire.proxy().fields()),
            Err(NoHead::Ended) => return End::Over,
            Err(NoHead::Bad(bad)) => Err(bad),
        };
        let (head, rest) = match head {
            Ok(head) => head,
            Err(bad) => return refuse(wire, bad).await,
        };
        let mut asked = Asked {
            method: head.parts.method.clone(),
            version: head.parts.version,
            keep_alive: head.keep_alive,
            takes_trailers: head.takes_trailers,
        };
        let body = wire.begin(rest, head.framing, head.expects);
        // Boxed: a connection that waits for a request is not to be as large as one that answers one.
        let mut answering = Box::pin(answer(head.parts, body));
        let response = poll_fn(|context| {
            if let Poll::Ready(response) = answering.as_mut().poll(context) {
                return Poll::Ready(Some(response));
            }
            wire.go_on_with_100(context);
            wire.poll_gone(context).map(|()| None)
        });
        let response = response.await;
        drop(answering);
        let Some(response) = response else {
            return End::Over;
        };
        asked.keep_alive &= !wire.answers();
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let goes_on = match send(wire, &asked, response).await {
            Ok(goes_on) => goes_on,
            Err(Unsent::Gone) => return End::Over,
            Err(Unsent::Broken) => return End::Broken,
        };
        if is_switch {
            return End::Switched;
        }
        let in_step = poll_fn(|context| Poll::Ready(wire.ends_in_step(context))).await;
        if !goes_on || !in_step {
            return End::Over;
        }
    }
}

/// Sends a response; whether another request may follow.
async fn send<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    wire: &Rc<Wire<S>>,
    asked: &Asked,
    response: Response<Body>,
) -> Result<bool, Unsent> {
    let (parts, mut body) = response.into_parts();
    let length = body.size_hint().exact();
    wire.take_buffer();
    let tick = wire.proxy().deadlines.now();
    let (framing, goes_on) = wire.bench().with_date(tick, |date| {
        let head = (parts.status, &parts.headers);
        let more = |out: &mut Vec<u8>| body.write_stored_fields(out);
        wire.write(|out| response::write_head(out.bytes(), asked, head, more, length, date))
    });
    wire.proxy().workspace.keep_fields(parts.headers);
    let mut sending = Sending::new(body, framing, asked.takes_trailers);
    let sent = poll_fn(|context| sending.poll(context, wire)).await;
    wire.give_buffer_back();
    sent.map(|()| goes_on)
}

/// Says why a head is none, to whoever understands it.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    wire: &Rc<Wire<S>>,
    bad: BadHead,
) -> End {
    let status = bad.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let page = format!("{} {reason}\n", status.as_u16());
    let tick = wire.proxy().deadlines.now();
    wire.bench().with_date(tick, |date| {
        let date = String::from_utf8_lossy(date);
        let answer = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             proxy-status: weir; error=http_request_error\r\ndate: {date}\r\nconnection: close\r\n\r\n{page}",
            status.as_u16(),
            page.len(),
        );
        wire.write(|out| out.bytes().extend_from_slice(answer.as_bytes()));
    });
    // Whoever does not take it has no use for it.
    let _ = poll_fn(|context| wire.poll_written(context)).await;
    End::Refused(bad)
}
