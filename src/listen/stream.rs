//! The bytes of a client connection: plain or TLS, with what was read ahead, telling the [`Client`] of each movement.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::proxy::client::{Client, Phase};

/// What one read takes of a request body. hyper's buffer grows with what it is given, and up to three pieces wait while
/// a server is slow: one in that buffer, one handed out, one on its way to the server.
const BODY_PIECE: usize = 10 * 1024;

/// A client's connection.
pub(super) struct ClientStream {
    socket: Socket,
    /// Read from the socket before whoever reads now.
    early: Bytes,
    ended: bool,
    /// Whoever serves HTTP/1 is not to shut it down: what becomes of it then is decided by the connection.
    pub(super) keep_open: bool,
    pub(super) client: Rc<Client>,
}

enum Socket {
    Plain(TcpStream),
    /// Boxed: most of a kilobyte.
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    pub(super) fn plain(socket: TcpStream, client: Rc<Client>) -> Self {
        Self {
            socket: Socket::Plain(socket),
            early: Bytes::new(),
            ended: false,
            keep_open: false,
            client,
        }
    }

    pub(super) fn tls(socket: Box<TlsStream<TcpStream>>, client: Rc<Client>) -> Self {
        Self {
            socket: Socket::Tls(socket),
            early: Bytes::new(),
            ended: false,
            keep_open: false,
            client,
        }
    }

    /// The next reads give `bytes` first.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.early = bytes;
    }

    /// Whether the client has ended its side.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.socket, Socket::Tls(_))
    }

    /// Whether the client's protocol is HTTP/2, by ALPN (RFC 9113 §3.2).
    pub(super) fn chose_http2(&self) -> bool {
        match &self.socket {
            Socket::Plain(_) => false,
            Socket::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Ready when there is something to read, or nothing will ever be.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.early.has_remaining() {
            return Poll::Ready(());
        }
        self.tcp().poll_read_ready(context).map(|_| ())
    }

    /// Cuts the connection, so that its end looks like none.
    pub(super) fn reset(self) {
        let _ = self.tcp().set_zero_linger();
    }

    fn tcp(&self) -> &TcpStream {
        match &self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Socket {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    /// Reads no more than [`BODY_PIECE`].
    fn poll_read_piece(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Self::Plain(socket) = self {
            ready!(socket.poll_read_ready(context))?;
        }
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(BODY_PIECE));
        ready!(self.poll_read(context, &mut piece))?;
        let read = piece.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl ClientStream {
    fn is_reading_a_body(&self) -> bool {
        self.client.phase() == Phase::Busy && !self.client.http2.get()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if this.early.has_remaining() {
            let length = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early.split_to(length));
            if this.early.is_empty() {
                // An empty slice would keep what it was cut from.
                this.early = Bytes::new();
            }
            this.client.bytes_read(0);
            return Poll::Ready(Ok(()));
        }
        let result = if buffer.remaining() > BODY_PIECE && this.is_reading_a_body() {
            this.socket.poll_read_piece(context, buffer)
        } else {
            this.socket.poll_read(context, buffer)
        };
        if let Poll::Ready(Ok(())) = result {
            match buffer.filled().len() - before {
                0 => this.ended = true,
                read => this.client.bytes_read(read),
            }
        }
        result
    }
}

impl ClientStream {
    fn written(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(written)) => self.client.bytes_written(*written),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.client.write_blocked(),
        }
    }
}

/// Beyond it, the copy would cost more.
const GATHERED: usize = 4 * 1024;

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.written(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match &mut self.socket {
            Socket::Plain(socket) => {
                let length: usize = slices.iter().map(|slice| slice.len()).sum();
                if length > GATHERED {
                    Pin::new(socket).poll_write_vectored(context, slices)
                } else {
                    // A head and a small body: to copy them costs less than to have the kernel gather them.
                    let mut bytes = SmallVec::<[u8; GATHERED]>::new();
                    for slice in slices {
                        bytes.extend_from_slice(slice);
                    }
                    Pin::new(socket).poll_write(context, &bytes)
                }
            }
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        self.written(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = match &mut self.socket {
            // A TCP socket holds nothing back.
            Socket::Plain(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        };
        match &result {
            Poll::Ready(Ok(())) => self.client.flushed(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.client.write_blocked(),
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.keep_open {
            return Poll::Ready(Ok(()));
        }
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
