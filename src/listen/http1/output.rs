//! What waits to be written: small things one behind the other in one buffer, large pieces of bodies as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// To copy up to that much costs less than to have the kernel gather it.
const COPY_UP_TO: usize = 4 * 1024;
/// Room for more pieces is not kept.
const KEPT: usize = 16;
/// The most pieces of one system call: enough for what is written at once of a stored body.
const SLICES: usize = 128;

/// Bytes in the order in which they are written: the pieces, then what is small.
#[derive(Default)]
pub(super) struct Output {
    pieces: VecDeque<Bytes>,
    in_pieces: usize,
    small: Vec<u8>,
    /// How much of `small` is written already.
    written: usize,
}

impl Output {
    /// Where heads and the like are written to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// So many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.in_pieces + self.small.len() - self.written
    }

    /// A piece of a body.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPY_UP_TO && self.small.len() <= 2 * COPY_UP_TO {
            return self.small.extend_from_slice(&piece);
        }
        self.seal();
        self.in_pieces += piece.len();
        self.pieces.push_back(piece);
    }

    /// What is small becomes a piece, so that something can come behind it.
    fn seal(&mut self) {
        let rest = self.small.get(self.written..).unwrap_or_default();
        if !rest.is_empty() {
            self.in_pieces += rest.len();
            self.pieces.push_back(Bytes::copy_from_slice(rest));
        }
        self.small.clear();
        self.written = 0;
    }

    /// Writes until nothing waits.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while self.len() > 0 {
            let mut stream = Pin::new(&mut *stream);
            let written = if self.pieces.is_empty() {
                let rest = self.small.get(self.written..).unwrap_or_default();
                let written = ready!(stream.poll_write(context, rest))?;
                self.written += written;
                written
            } else {
                self.seal();
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.pieces.len().min(SLICES);
                for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                    *slice = IoSlice::new(piece);
                }
                let slices = slices.get(..count).unwrap_or_default();
                let written = ready!(stream.as_mut().poll_write_vectored(context, slices))?;
                self.advance(written);
                written
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.small.clear();
        self.written = 0;
        if self.pieces.capacity() > KEPT {
            self.pieces = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut by: usize) {
        self.in_pieces = self.in_pieces.saturating_sub(by);
        while let Some(first) = self.pieces.front_mut() {
            if by < first.len() {
                return first.advance(by);
            }
            by -= first.len();
            self.pieces.pop_front();
        }
    }
}
