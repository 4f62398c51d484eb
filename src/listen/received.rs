//! A request as a listener would get it: through hyper, without a socket and without a client.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::connection::http1_builder;
use crate::state::Listener;

/// What hyper answers by itself, before weir sees anything.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
}

/// The request of this head, which is HTTP/1.1 and whole; its body does not come.
pub(crate) async fn received(
    listener: &Listener,
    head: &[u8],
) -> Result<Request<Incoming>, Refused> {
    let taken = Rc::new(Cell::new(None));
    let place = Rc::clone(&taken);
    let service = service_fn(move |request: Request<Incoming>| {
        place.set(Some(request));
        pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    // All of the head fits in, and so does hyper's answer: neither waits for the other.
    let (mut client, server) = duplex(head.len().max(ROOM));
    let mut connection = http1_builder(listener).serve_connection(TokioIo::new(server), service);
    // It fails only where the other side is gone.
    let _ = client.write_all(head).await;
    let served = poll_fn(|context| {
        let over = Pin::new(&mut connection).poll(context);
        match taken.take() {
            Some(request) => Poll::Ready(Ok(request)),
            None => over.map(Err),
        }
    });
    let over = match served.await {
        Ok(request) => return Ok(request),
        Err(over) => over,
    };
    drop(connection);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    let code = answer.get(VERSION.len()..).and_then(|rest| rest.get(..3));
    Err(Refused {
        status: code
            .and_then(|code| StatusCode::from_bytes(code).ok())
            .unwrap_or(StatusCode::BAD_REQUEST),
        reason: over.map_or_else(|error| error.to_string(), |()| "no request".to_owned()),
    })
}

/// Before the status of an answer.
const VERSION: &str = "HTTP/1.1 ";
/// For an answer that is a head alone.
const ROOM: usize = 4096;
