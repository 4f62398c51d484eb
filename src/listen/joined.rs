//! The body of a response to an HTTP/1 client: pieces that are all there go to hyper together.
//!
//! hyper writes what it has been handed as soon as that is as much as one of its buffers may hold, in one system call; of
//! pieces that come one by one, each would be written by itself. What is stored lies in many small ones.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as _, Frame, SizeHint};

use crate::proxy::body::Body;
use crate::upstream::http1::exchange::BodyError;

/// What is handed over at once, at most: what a connection can take before its client reads.
const AT_ONCE: usize = 512 * 1024;

pub(super) struct Joined(pub(super) Body);

impl http_body::Body for Joined {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let body = &mut self.0;
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| frame.map_data(|first| Piece::of(first, body, context)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Bytes that are sent one after the other, wherever they lie.
pub(super) enum Piece {
    One(Bytes),
    Several {
        pieces: VecDeque<Bytes>,
        left: usize,
    },
}

impl Piece {
    /// `first`, with those that follow it in `body`.
    fn of(first: Bytes, body: &mut Body, context: &mut Context<'_>) -> Self {
        if !body.is_in_pieces() {
            return Self::One(first);
        }
        let mut left = first.len();
        let mut pieces = VecDeque::from([first]);
        while left < AT_ONCE
            && body.is_in_pieces()
            && let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(context)
            && let Ok(piece) = frame.into_data()
        {
            left += piece.len();
            pieces.push_back(piece);
        }
        Self::Several { pieces, left }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Several { left, .. } => *left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::One(bytes) => bytes,
            Self::Several { pieces, .. } => pieces.front().map_or(&[], |piece| piece),
        }
    }

    fn chunks_vectored<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        match self {
            Self::One(bytes) => bytes.chunks_vectored(slices),
            Self::Several { pieces, .. } => {
                let mut filled = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    filled += 1;
                }
                filled
            }
        }
    }

    fn advance(&mut self, mut by: usize) {
        match self {
            Self::One(bytes) => bytes.advance(by),
            Self::Several { pieces, left } => {
                *left = left.saturating_sub(by);
                while let Some(first) = pieces.front_mut() {
                    if by < first.len() {
                        return first.advance(by);
                    }
                    by -= first.len();
                    pieces.pop_front();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn several(pieces: &[&'static str]) -> Piece {
        Piece::Several {
            pieces: pieces
                .iter()
                .map(|piece| Bytes::from_static(piece.as_bytes()))
                .collect(),
            left: pieces.iter().map(|piece| piece.len()).sum(),
        }
    }

    #[test]
    fn pieces_are_one_after_the_other_from_wherever_writing_stopped() {
        let text = "abcdefghij";
        for stop in 0..=text.len() {
            let mut piece = several(&["abc", "d", "efghij"]);
            piece.advance(stop);
            assert_eq!(piece.remaining(), text.len() - stop);
            assert_eq!(piece.chunk().is_empty(), stop == text.len());
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = piece.chunks_vectored(&mut slices);
            let gathered: Vec<u8> = slices
                .iter()
                .take(filled)
                .flat_map(|slice| slice.to_vec())
                .collect();
            assert_eq!(gathered, text.as_bytes()[stop..]);
        }
    }

    #[test]
    fn no_more_slices_are_filled_than_there_are() {
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(
            several(&["abc", "d", "efghij"]).chunks_vectored(&mut slices),
            2
        );
    }
}
