//! A response on its way that several requests wait for, as one of them sends it on.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::client::Client;
use crate::cache::Follow;
use crate::upstream::http1::exchange::BodyError;

/// The rest of it.
pub(crate) struct SharedBody {
    pub(super) follow: Follow,
    pub(super) client: Rc<Client>,
    /// Bytes to come, where the server told.
    pub(super) remaining: Option<u64>,
}

impl SharedBody {
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.follow.poll_piece(context)) {
            Some(Ok(piece)) => {
                let length = piece.len() as u64;
                self.remaining = self.remaining.map(|left| left.saturating_sub(length));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Some(Err(_)) => {
                // It would take the place of what waits to be written.
                ready!(self.client.poll_flushed());
                Poll::Ready(Some(Err(BodyError::Fetch)))
            }
            None => Poll::Ready(None),
        }
    }

    pub(super) fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    pub(super) fn is_over(&self) -> bool {
        self.follow.is_over()
    }
}
