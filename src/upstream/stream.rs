//! A connection to a server, over TCP or a unix socket, perhaps with TLS over it. A match and no box, but for TLS: it is
//! read and written for every request.

use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::secured::Secured;
#[cfg(test)]
use super::simulated::{self, Socket};
use crate::units::ServerAddr;

/// How long to wait for a place in the queue of a unix socket.
const QUEUE_FULL: Duration = Duration::from_millis(10);

/// Bytes from and to a server.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(test)]
    Simulated(Socket),
    Tls(Box<Secured>),
}

impl Stream {
    /// Opens a connection in cleartext; has no end of its own.
    pub(crate) async fn connect(server: &ServerAddr) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(dialing) = simulated::dial(server) {
            return dialing.await.map(Self::Simulated);
        }
        let path = match server {
            ServerAddr::Ip(address) => return Self::connect_tcp(*address).await,
            ServerAddr::Unix(path) => path,
        };
        loop {
            match UnixStream::connect(path).await {
                // Its queue is full. Over TCP the kernel would go on trying; here nothing tells when there is room again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_FULL).await;
                }
                connected => return connected.map(Self::Unix),
            }
        }
    }

    async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // Heads and bodies are written whole; waiting for more would only add delay.
        let _ = stream.set_nodelay(true);
        Ok(Self::Tcp(stream))
    }

    /// Reads what is there, without waiting.
    #[inline]
    pub(super) fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(bytes),
            Self::Unix(stream) => stream.try_read(bytes),
            #[cfg(test)]
            Self::Simulated(socket) => socket.try_read(bytes),
            Self::Tls(stream) => stream.try_read(bytes),
        }
    }

    /// The same by the kernel's word of this moment.
    pub(super) fn read_now(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(&*stream),
            Self::Unix(stream) => SockRef::from(&*stream),
            #[cfg(test)]
            Self::Simulated(socket) => return socket.try_read(bytes),
            Self::Tls(stream) => return stream.try_read(bytes),
        };
        (&*socket).read(bytes)
    }

    /// Whether there is nothing to read, by the kernel's word of this moment.
    pub(super) fn is_silent(&mut self) -> bool {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(&*stream),
            Self::Unix(stream) => SockRef::from(&*stream),
            #[cfg(test)]
            Self::Simulated(socket) => return socket.is_silent(),
            Self::Tls(stream) => return stream.is_silent(),
        };
        let mut byte = [MaybeUninit::uninit()];
        matches!(socket.peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes what goes at once.
    #[inline]
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
            #[cfg(test)]
            Self::Simulated(socket) => socket.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Whether the kernel has all that was written.
    #[inline]
    pub(super) fn is_flushed(&mut self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            #[cfg(test)]
            Self::Simulated(_) => true,
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// Tells the server that nothing more comes, where that is more than a close; without waiting.
    pub(super) fn end(&mut self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            #[cfg(test)]
            Self::Simulated(_) => {}
            Self::Tls(stream) => stream.end(),
        }
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(test)]
            Self::Simulated(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(test)]
            Self::Simulated(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            #[cfg(test)]
            Self::Simulated(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Neither holds anything back.
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            #[cfg(test)]
            Self::Simulated(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(test)]
            Self::Simulated(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
