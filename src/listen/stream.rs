//! The bytes of a client connection: plain or TLS, with what was read ahead, telling the [`Client`] of each movement.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::proxy::client::Client;

/// A client's connection.
pub(super) struct ClientStream {
    socket: Socket,
    /// Read from the socket before whoever reads now.
    early: Bytes,
    ended: bool,
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
            client,
        }
    }

    pub(super) fn tls(socket: Box<TlsStream<TcpStream>>, client: Rc<Client>) -> Self {
        Self {
            socket: Socket::Tls(socket),
            early: Bytes::new(),
            ended: false,
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
        let result = this.socket.poll_read(context, buffer);
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
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
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
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
