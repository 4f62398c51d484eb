//! After a 101: bytes both ways until one side ends it, with back-pressure and one buffer per direction.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::flight::Flight;
use super::record::{End, Record};
use super::running::Running;
use crate::deadline::Ticks;
use crate::semantics::websocket::{Frames, GOING_AWAY, GOING_AWAY_MASKED};
use crate::upstream::http1::Connection;

/// What one direction holds at most.
const BUFFER: usize = 32 * 1024;
/// How long one side may go on, silently, after the other has ended.
const HALF_CLOSED: Ticks = Ticks(300);
/// How long both sides may take to end, once weir has ended the tunnel.
const PARTING: Ticks = Ticks(20);
/// What one read takes of bytes that nobody wants.
const SCRAP: usize = 8 * 1024;

/// A connection to a server that has switched protocols, waiting for its client's side.
pub(crate) struct Tunnel {
    connection: Box<Connection>,
    record: Box<Record>,
    idle: Ticks,
    is_websocket: bool,
    running: Running,
    /// Counted in until the tunnel ends.
    _flight: Flight,
}

impl Tunnel {
    pub(super) fn new(
        connection: Box<Connection>,
        record: Box<Record>,
        (flight, running): (Flight, Running),
        idle: Ticks,
        is_websocket: bool,
    ) -> Self {
        Self {
            connection,
            record,
            idle,
            is_websocket,
            running,
            _flight: flight,
        }
    }

    /// Copies until both sides have ended, one of them fails, both are silent for too long, or weir has to end it. `early`
    /// is what the client sent behind its request.
    pub(crate) async fn run<C: AsyncRead + AsyncWrite + Unpin>(
        mut self: Box<Self>,
        mut client: C,
        early: Bytes,
    ) {
        let unread = std::mem::take(&mut self.connection.unread);
        let mut up = Direction::new(early, self.is_websocket);
        let mut down = Direction::new(unread, self.is_websocket);
        let mut was = (0, 0, false);
        self.connection.deadline.arm(self.idle);
        let end = std::future::poll_fn(|context| {
            if self.running.poll_over(context).is_ready() {
                return Poll::Ready(End::Drained);
            }
            let connection = &mut *self.connection;
            let sent = up.poll(context, &mut client, &mut connection.stream);
            let received = down.poll(context, &mut connection.stream, &mut client);
            match (&sent, &received) {
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Complete),
                (Poll::Ready(Err(Broken::To)), _) | (_, Poll::Ready(Err(Broken::From))) => {
                    return Poll::Ready(End::ServerBroke);
                }
                (Poll::Ready(Err(Broken::From)), _) | (_, Poll::Ready(Err(Broken::To))) => {
                    return Poll::Ready(End::Open);
                }
                (Poll::Ready(Ok(())) | Poll::Pending, _) => {}
            }
            let half_closed = sent.is_ready() || received.is_ready();
            // Only when something moved: otherwise the deadline itself, which wakes us, would put itself off.
            let is = (up.copied, down.copied, half_closed);
            if is != was {
                was = is;
                connection.deadline.arm(if half_closed {
                    HALF_CLOSED.min(self.idle)
                } else {
                    self.idle
                });
            }
            connection.deadline.poll_over(context).map(|()| End::Idle)
        })
        .await;
        if end == End::Drained {
            let connection = &mut *self.connection;
            connection.deadline.arm(PARTING);
            part(&mut up, &mut down, &mut client, connection).await;
        }
        self.record.end = end;
        self.record.bytes_in = up.copied;
        self.record.bytes_out = down.copied;
    }
}

/// Ends both sides so that neither takes it for a failure: what was read is passed on, each is told that nothing more
/// comes, and what still comes from it is read for a while. A socket that is closed on unread bytes answers with a reset.
async fn part<C: AsyncRead + AsyncWrite + Unpin>(
    up: &mut Direction,
    down: &mut Direction,
    client: &mut C,
    connection: &mut Connection,
) {
    let mut scrap = vec![0; SCRAP];
    let (mut sent, mut received) = (false, false);
    let (mut client_ended, mut server_ended) = (up.read_all, down.read_all);
    up.say_goodbye(&GOING_AWAY_MASKED);
    down.say_goodbye(&GOING_AWAY);
    std::future::poll_fn(|context| {
        let server = &mut connection.stream;
        sent = sent || up.poll(context, client, server).is_ready();
        received = received || down.poll(context, server, client).is_ready();
        client_ended = client_ended || poll_scrap(context, client, &mut scrap).is_ready();
        server_ended = server_ended || poll_scrap(context, server, &mut scrap).is_ready();
        if sent && received && client_ended && server_ended {
            return Poll::Ready(());
        }
        connection.deadline.poll_over(context)
    })
    .await;
}

/// Reads what nobody wants; ready when nothing more comes.
fn poll_scrap<S: AsyncRead + Unpin>(
    context: &mut Context<'_>,
    stream: &mut S,
    scrap: &mut [u8],
) -> Poll<()> {
    loop {
        let mut buffer = ReadBuf::new(scrap);
        let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
        if read.is_err() || buffer.filled().is_empty() {
            return Poll::Ready(());
        }
    }
}

/// Which end of a direction failed.
enum Broken {
    From,
    To,
}

/// One of the two ways.
struct Direction {
    buffer: BytesMut,
    /// Of a WebSocket.
    frames: Option<Frames>,
    copied: u64,
    read_all: bool,
    shut: bool,
}

impl Direction {
    fn new(early: Bytes, is_websocket: bool) -> Self {
        let mut frames = is_websocket.then(Frames::default);
        if let Some(frames) = &mut frames {
            frames.pass(&early);
        }
        Self {
            buffer: BytesMut::from(&early[..]),
            frames,
            copied: 0,
            read_all: false,
            shut: false,
        }
    }

    /// Nothing more is read. A WebSocket is told why, unless it is in the middle of a frame or knows it already.
    fn say_goodbye(&mut self, frame: &[u8]) {
        if !self.read_all && self.frames.as_ref().is_some_and(Frames::may_begin) {
            self.buffer.extend_from_slice(frame);
        }
        self.read_all = true;
    }

    fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.buffer.has_remaining() {
                match ready!(poll_write_buf(
                    Pin::new(&mut *to),
                    context,
                    &mut self.buffer
                )) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Broken::To)),
                    Ok(written) => self.copied += written as u64,
                }
            }
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if self.read_all {
                ready!(Pin::new(&mut *to).poll_shutdown(context)).map_err(|_| Broken::To)?;
                self.shut = true;
                continue;
            }
            self.buffer.reserve(BUFFER);
            match poll_read_buf(Pin::new(&mut *from), context, &mut self.buffer) {
                Poll::Ready(Ok(0)) => self.read_all = true,
                // The buffer was empty before.
                Poll::Ready(Ok(_)) => {
                    if let Some(frames) = &mut self.frames {
                        frames.pass(&self.buffer);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::From)),
                Poll::Pending => {
                    // A silent tunnel keeps no buffer; a TLS writer may still hold a record back.
                    self.buffer = BytesMut::new();
                    ready!(Pin::new(&mut *to).poll_flush(context)).map_err(|_| Broken::To)?;
                    return Poll::Pending;
                }
            }
        }
    }
}
