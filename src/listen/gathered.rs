//! What an HTTP/2 connection writes, gathered until there is no more to write.
//!
//! h2 flushes its output behind each larger DATA frame. To a TLS connection each flush is a record and a system call of its
//! own, and together they are a third of what a small response costs. So a flush only takes note, and whoever polls the
//! connection sends what all of its streams had to say, in one piece.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::ClientStream;

/// What is gathered at most: a full TLS record (RFC 8446 §5.1). It is allocated while there is something to send.
const ROOM: usize = 16 * 1024;

/// A connection whose output is gathered. Its clones are the same connection.
#[derive(Clone)]
pub(super) struct Gathered(Rc<RefCell<Held>>);

struct Held {
    stream: ClientStream,
    waiting: BytesMut,
}

impl Gathered {
    pub(super) fn new(stream: ClientStream) -> Self {
        Self(Rc::new(RefCell::new(Held {
            stream,
            waiting: BytesMut::new(),
        })))
    }

    /// Sends what was gathered. To be called each time after the connection was polled, in the same task.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(context)
    }
}

impl Held {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting.has_remaining() {
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write(context, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
            if self.waiting.is_empty() {
                self.waiting = BytesMut::new();
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.waiting.len() + length > ROOM {
            ready!(self.poll_send(context))?;
            if length > ROOM {
                return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
            }
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve(ROOM);
        }
        for slice in slices {
            self.waiting.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let slices = [io::IoSlice::new(bytes)];
        self.0.borrow_mut().poll_write(context, &slices)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: see [`Gathered::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.0.borrow_mut();
        ready!(held.poll_send(context))?;
        Pin::new(&mut held.stream).poll_shutdown(context)
    }
}
