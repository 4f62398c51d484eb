//! One client connection, from its first byte to its last: TLS, HTTP/1 or HTTP/2, the limits of waiting.
//!
//! HTTP/1 connections that are idle hold nothing but their socket and a few hundred bytes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::gathered::Gathered;
use super::http1::workbench::Workbench;
use super::http1::{self, End, Rules, Wire};
use super::linger;
use super::stream::ClientStream;
use super::streams::{StreamBody, Streams};
use crate::proxy::Proxy;
use crate::proxy::client::{Client, Phase};
use crate::proxy::request_body::RequestBody;
use crate::proxy::target::MAX_COOKIE_CRUMBS;
use crate::state::{ListenLimits, Listener};
use crate::telemetry::labels::{Handshake, RefusedReason};

/// What every HTTP/2 connection begins with in the clear (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113 §6.9.2, the default window: what a stream may send before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// What all streams of a connection may send before they are read.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What a stream may hold in memory on its way out, beside the piece that waits for room.
const STREAM_SEND_BUFFER: usize = 32 * 1024;

/// Serves `socket` until it ends.
pub(super) async fn serve(
    proxy: Rc<Proxy>,
    client: Rc<Client>,
    listener: Arc<Listener>,
    bench: Rc<Workbench>,
    socket: TcpStream,
) {
    let mut stream = match &listener.tls {
        Some(tls) => match handshake(&client, tls, socket).await {
            Some(tls) => ClientStream::tls(tls, Rc::clone(&client)),
            None => return,
        },
        None => ClientStream::plain(socket, Rc::clone(&client)),
    };
    let begun = match (listener.http2, stream.is_tls()) {
        (false, _) => Some((false, Bytes::new())),
        (true, true) => Some((stream.chose_http2(), Bytes::new())),
        (true, false) => begins_with_preface(&client, &mut stream).await,
    };
    let Some((http2, read)) = begun else { return };
    if http2 {
        stream.unread(read);
        Box::pin(serve_http2(proxy, client, listener, stream)).await;
    } else {
        serve_http1(proxy, client, listener, bench, (stream, read)).await;
    }
}

/// The TLS handshake, within `header_timeout`.
async fn handshake(
    client: &Client,
    tls: &Arc<ServerConfig>,
    socket: TcpStream,
) -> Option<Box<TlsStream<TcpStream>>> {
    let mut accept = Box::pin(TlsAcceptor::from(Arc::clone(tls)).accept(socket));
    let result = poll_fn(|context| match accept.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result.ok()),
        Poll::Pending if client.is_condemned() => Poll::Ready(None),
        Poll::Pending => client.deadline.poll_over(context).map(|()| None),
    })
    .await;
    client.shard.handshake(if result.is_some() {
        Handshake::Ok
    } else {
        Handshake::Failed
    });
    if result.is_some() {
        client.expect_head();
    }
    result.map(Box::new)
}

/// Reads until it is clear whether the client speaks HTTP/2 by prior knowledge; `None` if it does not tell in time. What
/// was read comes with it.
async fn begins_with_preface(client: &Client, stream: &mut ClientStream) -> Option<(bool, Bytes)> {
    let mut read = BytesMut::new();
    let http2 = poll_fn(|context| {
        loop {
            if client.is_condemned() {
                return Poll::Ready(None);
            }
            read.reserve(2048);
            match tokio_util::io::poll_read_buf(Pin::new(&mut *stream), context, &mut read) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) if read.len() >= PREFACE.len() => {
                    return Poll::Ready(Some(read.starts_with(PREFACE)));
                }
                Poll::Ready(Ok(_)) if PREFACE.starts_with(&read) => {}
                Poll::Ready(Ok(_)) => return Poll::Ready(Some(false)),
                // The deadline for a head has been running since the connection was accepted.
                Poll::Pending => {
                    ready!(client.deadline.poll_over(context));
                    client.shard.refused(RefusedReason::Timeout);
                    return Poll::Ready(None);
                }
            }
        }
    })
    .await;
    http2.map(|http2| (http2, read.freeze()))
}

async fn serve_http1(
    proxy: Rc<Proxy>,
    client: Rc<Client>,
    listener: Arc<Listener>,
    bench: Rc<Workbench>,
    (stream, read): (ClientStream, Bytes),
) {
    let rules = Rules::from(&listener.limits);
    let age = listener.limits.max_connection_age.map(|age| {
        let deadline = proxy.deadlines.deadline();
        deadline.arm(age);
        deadline
    });
    drop(listener);
    let wire = Rc::new(Wire::new((&proxy, &client, &bench), stream, read));
    let end = {
        let answer = |request, body| Rc::clone(&proxy).handle(Rc::clone(&client), request, body);
        let mut serving = pin!(http1::serve(&wire, rules, answer));
        poll_fn(|context| {
            if age
                .as_ref()
                .is_some_and(|age| age.poll_over(context).is_ready())
            {
                client.drain();
            }
            if client.is_condemned() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(end) = serving.as_mut().poll(context) {
                return Poll::Ready(Some(end));
            }
            ready!(client.deadline.poll_over(context));
            match client.phase() {
                // It has been idle for too long.
                Phase::Idle if client.is_settled() => return Poll::Ready(Some(End::Over)),
                Phase::Head => client.shard.refused(RefusedReason::Timeout),
                Phase::Idle | Phase::Busy | Phase::Leaving => {}
            }
            Poll::Ready(None)
        })
        .await
    };
    let Some(wire) = Rc::into_inner(wire) else {
        return;
    };
    let (stream, unread) = wire.into_parts();
    match end {
        None => close(stream, true).await,
        Some(End::Switched) => {
            if let Some(tunnel) = client.take_tunnel() {
                until_condemned(&client, Box::pin(tunnel.run(stream, unread))).await;
            }
        }
        Some(End::Refused(bad)) => {
            client.shard.refused(bad.reason());
            Box::pin(linger::linger(stream)).await;
        }
        Some(End::Over | End::Broken) if client.is_truncated() => stream.reset(),
        Some(End::Over | End::Broken) if client.has_unread() || !unread.is_empty() => {
            Box::pin(linger::linger(stream)).await;
        }
        Some(End::Over | End::Broken) => close(stream, false).await,
    }
}

/// Runs a tunnel, which keeps its own time, until it ends or the connection has to.
async fn until_condemned(client: &Client, mut tunnel: Pin<Box<impl Future<Output = ()>>>) {
    client.leave();
    poll_fn(|context| {
        // Never over, being disarmed; but what condemns a client wakes whoever waits for this.
        if client.is_condemned() || client.deadline.poll_over(context).is_ready() {
            return Poll::Ready(());
        }
        tunnel.as_mut().poll(context)
    })
    .await;
}

async fn close(stream: ClientStream, cut: bool) {
    // Whoever is cut off may be stuck; whoever has ended its side hears nothing more.
    if stream.is_tls() && !cut && !stream.has_ended() {
        Box::pin(linger::close_tls(stream)).await;
    }
}

/// Where h2 refuses by itself; weir's own limits lie below, so that a client gets an answer that says why. HTTP/2 counts
/// 32 bytes more for each field (RFC 9113 §6.5.2), and cookies come in crumbs.
fn header_list_size(limits: &ListenLimits) -> u32 {
    let fields = limits.max_headers + MAX_COOKIE_CRUMBS;
    u32::try_from(limits.max_header_size + limits.max_target_size + 1024 + 32 * fields)
        .unwrap_or(u32::MAX)
}

async fn serve_http2(
    proxy: Rc<Proxy>,
    client: Rc<Client>,
    listener: Arc<Listener>,
    stream: ClientStream,
) {
    let limits = &listener.limits;
    let stall = limits.stall_timeout;
    let age = limits.max_connection_age.map(|age| {
        let deadline = proxy.deadlines.deadline();
        deadline.arm(age);
        deadline
    });
    let mut builder = http2::Builder::new(Streams::new(&proxy.deadlines, stall));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(header_list_size(limits))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        // A peer that is gone without a word is found out while its streams wait.
        .keep_alive_interval(std::time::Duration::from_secs(30))
        .keep_alive_timeout(std::time::Duration::from_secs(20));
    drop(listener);
    client.expect_streams();
    let served = Rc::clone(&client);
    let service = service_fn(move |request: Request<Incoming>| {
        let (request, body) = request.into_parts();
        let body = RequestBody::Http2(body);
        let answer = Rc::clone(&proxy).handle(Rc::clone(&served), request.into(), body);
        async { Ok::<_, Infallible>(answer.await.map(StreamBody::new)) }
    });
    let output = Gathered::new(stream);
    let io = TokioIo::new(output.clone());
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut leaving = false;
    poll_fn(|context| {
        if age
            .as_ref()
            .is_some_and(|age| age.poll_over(context).is_ready())
        {
            client.drain();
        }
        if client.is_condemned() {
            return Poll::Ready(());
        }
        if client.is_draining() && !leaving {
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
        if poll_and_send(connection.as_mut(), &output, context).is_ready() {
            return Poll::Ready(());
        }
        if client.deadline.poll_over(context).is_pending() {
            return Poll::Pending;
        }
        if leaving || client.phase() != Phase::Idle {
            // It takes no bytes, or does not go when it is told to.
            return Poll::Ready(());
        }
        leaving = true;
        connection.as_mut().graceful_shutdown();
        client.deadline.arm(client.waits.stall);
        match poll_and_send(connection.as_mut(), &output, context) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => client.deadline.poll_over(context),
        }
    })
    .await;
}

/// Lets an HTTP/2 connection do what it can, then sends what came of it. Ready when the connection is over.
fn poll_and_send(
    connection: Pin<&mut impl Future>,
    output: &Gathered,
    context: &mut Context<'_>,
) -> Poll<()> {
    let state = connection.poll(context).map(drop);
    match output.poll_send(context) {
        Poll::Ready(Err(_)) => Poll::Ready(()),
        Poll::Ready(Ok(())) | Poll::Pending => state,
    }
}
