//! Closing with care. A socket that is closed while the client still sends answers with a reset, which may overtake the
//! response and destroy it; so the write side ends first, and what still comes is read for a while (RFC 9112 §9.6).

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::stream::ClientStream;
use crate::deadline::{Deadline, Ticks};

/// How long to read on.
const LINGER: Ticks = Ticks(20);
/// How long a TLS client may take for the end of its session.
const CLOSE_NOTIFY: Ticks = Ticks(10);
/// What one read takes of bytes that nobody wants.
const SCRAP: usize = 8 * 1024;

/// Ends the write side, then reads until the client has ended its own, 2 seconds at most.
pub(super) async fn linger(mut stream: ClientStream) {
    let client = Rc::clone(&stream.client);
    client.leave();
    read_on(&mut stream, &client.deadline, || client.is_condemned()).await;
}

/// Answers a connection that is not served, whatever it asks for, and closes it.
pub(super) async fn turn_away(mut socket: TcpStream, answer: &'static [u8], deadline: Deadline) {
    deadline.arm(LINGER);
    let mut rest = answer;
    let sent = poll_fn(|context| {
        while !rest.is_empty() {
            match Pin::new(&mut socket).poll_write(context, rest) {
                Poll::Ready(Ok(sent)) if sent > 0 => rest = rest.get(sent..).unwrap_or_default(),
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return deadline.poll_over(context).map(|()| false),
            }
        }
        Poll::Ready(true)
    });
    if sent.await {
        read_on(&mut socket, &deadline, || false).await;
    }
}

async fn read_on<S>(stream: &mut S, deadline: &Deadline, is_condemned: impl Fn() -> bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    deadline.arm(LINGER);
    let mut scrap = vec![0u8; SCRAP];
    let mut shut = false;
    poll_fn(|context| {
        if !shut {
            match Pin::new(&mut *stream).poll_shutdown(context) {
                Poll::Ready(Ok(())) => shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            // Checked in the loop: a client that sends as fast as it is read must not keep this going.
            if deadline.poll_over(context).is_ready() || is_condemned() {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut scrap);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// Tells a TLS client that nothing more comes, so that it can tell an end from a cut (RFC 8446 §6.1).
pub(super) async fn close_tls(mut stream: ClientStream) {
    let client = Rc::clone(&stream.client);
    client.leave();
    client.deadline.arm(CLOSE_NOTIFY);
    poll_fn(|context| {
        if Pin::new(&mut stream).poll_shutdown(context).is_ready() || client.is_condemned() {
            return Poll::Ready(());
        }
        client.deadline.poll_over(context)
    })
    .await;
}
