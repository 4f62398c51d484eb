//! What an HTTP/2 connection writes, gathered until there is no more to write.
//!
//! h2 flushes its output behind each larger DATA frame. To a TLS connection each flush is a record and a system call of its
//! own, and together they are a third of what a small response costs. So its flush does nothing, and whoever polls the
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

/// The length of a frame's header, and the type of those that carry bodies (RFC 9113 §4.1, §6.1).
const HEADER: usize = 9;
const DATA: u8 = 0;

/// A connection whose output is gathered. Its clones are the same connection.
#[derive(Clone)]
pub(super) struct Gathered(Rc<RefCell<Held>>);

struct Held {
    stream: ClientStream,
    waiting: BytesMut,
    frames: Frames,
}

/// Follows the frames of what is written (RFC 9113 §4.1), to count the bodies in them.
#[derive(Default)]
struct Frames {
    /// The header of the next frame, and how much of it came.
    header: [u8; HEADER],
    come: usize,
    /// What is left of the current one.
    payload: usize,
    is_data: bool,
}

impl Gathered {
    pub(super) fn new(stream: ClientStream) -> Self {
        Self(Rc::new(RefCell::new(Held {
            stream,
            waiting: BytesMut::new(),
            frames: Frames::default(),
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

    /// Takes what h2 writes, and tells the client how much of it is of bodies.
    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(self.poll_write(context, slices))?;
        let mut left = taken;
        for slice in slices {
            let part = slice.get(..left).unwrap_or(slice);
            left -= part.len();
            self.stream.client.framed(self.frames.follow(part));
        }
        Poll::Ready(Ok(taken))
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

impl Frames {
    /// How many of the next `bytes` are in DATA frames.
    fn follow(&mut self, mut bytes: &[u8]) -> u64 {
        let mut data = 0;
        while !bytes.is_empty() {
            if self.payload == 0 {
                bytes = self.take_header(bytes);
                continue;
            }
            let length = self.payload.min(bytes.len());
            self.payload -= length;
            if self.is_data {
                data += length as u64;
            }
            bytes = bytes.get(length..).unwrap_or_default();
        }
        data
    }

    /// Takes what belongs to the header of a frame; the rest is returned.
    fn take_header<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut taken = 0;
        for (to, from) in self.header.iter_mut().skip(self.come).zip(bytes) {
            *to = *from;
            taken += 1;
        }
        self.come += taken;
        if self.come == HEADER {
            let [high, middle, low, kind, ..] = self.header;
            self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            self.is_data = kind == DATA;
            self.come = 0;
        }
        bytes.get(taken..).unwrap_or_default()
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
        self.0.borrow_mut().poll_take(context, &slices)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(context, slices)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bodies_are_counted_however_the_frames_are_cut(
            frames in prop::collection::vec((0u8..4, 0usize..40), 0..20),
            cut in 1usize..30,
        ) {
            let mut wire = Vec::new();
            let mut data = 0;
            for (kind, length) in frames {
                wire.extend_from_slice(&[0, 0, length as u8, kind, 0, 0, 0, 0, 1]);
                wire.resize(wire.len() + length, 0);
                if kind == DATA {
                    data += length as u64;
                }
            }
            let mut followed = Frames::default();
            prop_assert_eq!(wire.chunks(cut).map(|bytes| followed.follow(bytes)).sum::<u64>(), data);
        }
    }
}
