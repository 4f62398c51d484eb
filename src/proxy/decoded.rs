//! A stored body that is decoded on its way, for a client that cannot take it as it is.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::encoded::come_back;
use crate::cache::Reader;
use crate::compress::Decoder;
use crate::upstream::http1::exchange::BodyError;

pub(super) struct DecodedBody {
    /// `None` when it is over.
    decoder: Option<Decoder<Reader>>,
    /// A piece has been decoded since others had their turn.
    has_worked: bool,
}

impl DecodedBody {
    pub(super) fn new(decoder: Decoder<Reader>) -> Self {
        Self {
            decoder: Some(decoder),
            has_worked: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.decoder.is_none()
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if std::mem::take(&mut self.has_worked) {
            come_back(context);
            return Poll::Pending;
        }
        let Some(decoder) = &mut self.decoder else {
            return Poll::Ready(None);
        };
        self.has_worked = true;
        let drawn = decoder.draw();
        if !drawn.as_ref().is_ok_and(|plain| !plain.is_empty()) {
            self.decoder = None;
        }
        Poll::Ready(match drawn {
            Ok(plain) if plain.is_empty() => None,
            Ok(plain) => Some(Ok(Frame::data(plain.into()))),
            Err(error) => Some(Err(BodyError::Encoding(error))),
        })
    }
}
