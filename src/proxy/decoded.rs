//! A body that is decoded on its way, for a client that cannot take it as it is.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::client::Client;
use super::encoded::{Source, come_back};
use crate::compress::{CodecPermit, Decoder};
use crate::upstream::http1::exchange::BodyError;

pub(super) struct DecodedBody {
    /// `None` when it is over.
    decoder: Option<Decoder>,
    /// Encoded bytes that are still to be taken.
    encoded: Bytes,
    source: Source,
    client: Rc<Client>,
    /// Why it breaks off.
    broken: Option<BodyError>,
    /// A piece has been decoded since others had their turn.
    has_worked: bool,
    _permit: CodecPermit,
}

impl DecodedBody {
    pub(super) fn new(
        decoder: Decoder,
        permit: CodecPermit,
        source: Source,
        client: Rc<Client>,
    ) -> Self {
        Self {
            decoder: Some(decoder),
            encoded: Bytes::new(),
            source,
            client,
            broken: None,
            has_worked: false,
            _permit: permit,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.decoder.is_none()
    }

    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if std::mem::take(&mut self.has_worked) {
                come_back(context);
                return Poll::Pending;
            }
            if self.broken.is_some() {
                // It would take the place of what waits to be written.
                ready!(self.client.poll_flushed());
                self.decoder = None;
                return Poll::Ready(self.broken.take().map(Err));
            }
            let Some(decoder) = &mut self.decoder else {
                return Poll::Ready(None);
            };
            if self.encoded.is_empty() && decoder.wants_more() {
                match ready!(self.source.poll_next(context, None)) {
                    Some(Ok(frame)) => self.encoded = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => self.broken = Some(error),
                    None if decoder.may_end() => self.decoder = None,
                    None => {
                        let ends_early = std::io::ErrorKind::UnexpectedEof.into();
                        self.broken = Some(BodyError::Encoding(ends_early));
                    }
                }
                continue;
            }
            self.has_worked = true;
            match decoder.draw(&mut self.encoded) {
                Ok(plain) if plain.is_empty() => {}
                Ok(plain) => return Poll::Ready(Some(Ok(Frame::data(plain.into())))),
                Err(error) => self.broken = Some(BodyError::Encoding(error)),
            }
        }
    }
}
