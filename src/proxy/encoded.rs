//! A body that is encoded on its way, or held back until it is known whether it is to be.
//!
//! A piece from the server waits here until the encoder has taken it, slice by slice; the next is not asked for before
//! that, so no more than one piece of plain bytes is held. Between two slices the worker turns to others. Whatever the
//! encoder holds is sent at the latest [`FLUSH_AFTER`] after a pause.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::at_work::AtWork;
use super::client::Client;
use super::shared::SharedBody;
use super::upstream_body::UpstreamBody;
use crate::compress::{Encoder, SLICE};
use crate::semantics::coding;
use crate::telemetry::worker::CompressShard;
use crate::upstream::http1::exchange::BodyError;

/// How long plain bytes may wait for more: short of the 50 ms that a person begins to notice. The deadlines of the worker
/// tick too slowly for that.
const FLUSH_AFTER: Duration = Duration::from_millis(40);

type Next = Option<Result<Frame<Bytes>, BodyError>>;

/// The rest of a response, encoded if it has an encoder.
pub(super) struct EncodedBody {
    encoding: Option<Encoding>,
    /// Plain bytes that nothing has been done with.
    plain: Bytes,
    /// What comes after them, as far as that is known.
    then: Option<Then>,
    source: Option<Source>,
    /// A slice has been encoded since others had their turn.
    has_worked: bool,
    timer: Timer,
}

/// Where plain bytes come from.
pub(super) enum Source {
    Upstream(Box<UpstreamBody>),
    Shared(Box<SharedBody>),
    /// In memory.
    Pieces(VecDeque<Bytes>),
}

impl Source {
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        ahead: Option<usize>,
    ) -> Poll<Next> {
        match self {
            Self::Upstream(body) => body.poll_next(context, ahead),
            Self::Shared(body) => body.poll_next(context),
            Self::Pieces(pieces) => Poll::Ready(pieces.pop_front().map(|it| Ok(Frame::data(it)))),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_over(),
            Self::Shared(body) => body.is_over(),
            Self::Pieces(pieces) => pieces.is_empty(),
        }
    }

    /// Who waits for more of it, where it may break off.
    fn client(&self) -> Option<&Client> {
        match self {
            Self::Upstream(body) => Some(&body.record_client),
            Self::Shared(body) => Some(&body.client),
            Self::Pieces(_) => None,
        }
    }

    fn is_drained(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_drained,
            Self::Shared(_) | Self::Pieces(_) => false,
        }
    }

    fn uploaded(&self) -> u64 {
        match self {
            Self::Upstream(body) => body.uploaded(),
            // Only requests without a body are answered by what others get too.
            Self::Shared(_) | Self::Pieces(_) => 0,
        }
    }
}

/// An encoder at work.
pub(super) struct Encoding {
    pub(super) work: AtWork,
    /// Each piece is sent as soon as it is there.
    pub(super) prompt: bool,
    pub(super) shard: Arc<CompressShard>,
}

/// How a body ends.
enum Then {
    End(Option<HeaderMap>),
    Broken(BodyError),
    /// It has, and all is handed out.
    Over,
}

impl EncodedBody {
    pub(super) fn of_bytes(plain: Bytes) -> Self {
        Self {
            encoding: None,
            plain,
            then: Some(Then::End(None)),
            source: None,
            has_worked: false,
            timer: Timer::default(),
        }
    }

    pub(super) fn of(source: Source) -> Self {
        Self {
            then: None,
            source: Some(source),
            ..Self::of_bytes(Bytes::new())
        }
    }

    /// Encodes all that has not been handed out.
    pub(super) fn encode(&mut self, encoding: Encoding) {
        self.encoding = Some(encoding);
    }

    /// Holds the body back until `enough` bytes are there, it is over, or it pauses for too long. Whether it is over, with
    /// less than that.
    pub(super) async fn is_less_than(&mut self, enough: usize) -> bool {
        std::future::poll_fn(|context| {
            while self.then.is_none() && self.plain.len() < enough {
                match self.poll_source(context, Some(enough - self.plain.len())) {
                    Poll::Ready(()) => {}
                    Poll::Pending => {
                        ready!(self.timer.poll(context));
                        return Poll::Ready(());
                    }
                }
            }
            Poll::Ready(())
        })
        .await;
        // The timer runs on: what has waited here does not wait as long again in the encoder.
        self.then.is_some() && self.plain.len() < enough
    }

    /// All of it, if it is here and nothing follows.
    pub(super) fn whole(&self) -> Option<Bytes> {
        matches!(self.then, Some(Then::End(None))).then(|| self.plain.clone())
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.then, Some(Then::Over))
    }

    /// Whether weir ended it.
    pub(super) fn is_drained(&self) -> bool {
        self.source.as_ref().is_some_and(Source::is_drained)
    }

    /// Bytes of the request that have been passed on.
    pub(super) fn uploaded(&self) -> Option<u64> {
        self.source.as_ref().map(Source::uploaded)
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            if let Some(encoding) = &mut self.encoding {
                ready!(encoding.work.poll(context)).map_err(BodyError::Encoding)?;
            }
            if let Some(piece) = self.piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if !self.plain.is_empty() {
                if self.has_worked {
                    come_back(context);
                    ready!(self.poll_pause(context));
                } else {
                    self.encode_slice();
                }
                continue;
            }
            if self.then.is_some() {
                if let Some(end) = ready!(self.poll_end()) {
                    return Poll::Ready(end);
                }
            } else if self.poll_source(context, None).is_pending() {
                ready!(self.poll_pause(context));
            }
        }
    }

    /// What can be handed out now.
    fn piece(&mut self) -> Option<Bytes> {
        match &mut self.encoding {
            None if self.plain.is_empty() => None,
            None => Some(std::mem::take(&mut self.plain)),
            Some(encoding) => {
                let made = encoding.work.encoder()?.take()?;
                encoding.shard.encoded.add(made.len() as u64);
                Some(made.into())
            }
        }
    }

    fn encode_slice(&mut self) {
        let Some(encoding) = &mut self.encoding else {
            return;
        };
        let slice = self.plain.split_to(self.plain.len().min(SLICE));
        // What is done beside the worker holds up nobody.
        self.has_worked = encoding.work.is_quick();
        encoding.shard.plain.add(slice.len() as u64);
        let is_prompt = encoding.prompt && self.plain.is_empty();
        encoding.work.step(move |encoder| {
            encoder.write(&slice)?;
            if is_prompt { encoder.flush() } else { Ok(()) }
        });
    }

    /// Others have their turn. Ready when the encoder was made to give up what it has held for too long.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.has_worked = false;
        match &mut self.encoding {
            Some(encoding) if encoding.work.is_holding() => {
                ready!(self.timer.poll(context));
                self.timer.disarm();
                encoding.work.step(Encoder::flush);
                Poll::Ready(())
            }
            _ => {
                self.timer.disarm();
                Poll::Pending
            }
        }
    }

    /// Takes the next piece from the server, before the head is sent only `ahead` bytes.
    fn poll_source(&mut self, context: &mut Context<'_>, ahead: Option<usize>) -> Poll<()> {
        let Some(source) = &mut self.source else {
            self.then = Some(Then::End(None));
            return Poll::Ready(());
        };
        match ready!(source.poll_next(context, ahead)) {
            None => self.then = Some(Then::End(None)),
            Some(Err(error)) => self.then = Some(Then::Broken(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.plain = joined(std::mem::take(&mut self.plain), data);
                    if source.is_over() {
                        self.then = Some(Then::End(None));
                    }
                }
                Err(frame) => self.then = Some(Then::End(frame.into_trailers().ok())),
            },
        }
        Poll::Ready(())
    }

    /// What comes when there are no more plain bytes; `None` if there is something to hand out before.
    fn poll_end(&mut self) -> Poll<Option<Next>> {
        match (self.then.take(), self.encoding.take()) {
            (Some(Then::End(trailers)), Some(mut encoding)) => {
                let Some(rest) = encoding.work.take_rest() else {
                    encoding.work.finish();
                    self.then = Some(Then::End(trailers));
                    self.encoding = Some(encoding);
                    return Poll::Ready(None);
                };
                encoding.shard.encoded.add(rest.len() as u64);
                self.then = Some(match trailers {
                    Some(mut trailers) => {
                        coding::describe_encoded_in_trailers(&mut trailers);
                        Then::End(Some(trailers))
                    }
                    None => Then::Over,
                });
                Poll::Ready(Some(Some(Ok(Frame::data(rest.into())))))
            }
            (Some(Then::End(Some(trailers))), None) if !trailers.is_empty() => {
                self.then = Some(Then::Over);
                Poll::Ready(Some(Some(Ok(Frame::trailers(trailers)))))
            }
            (Some(Then::Broken(error)), Some(mut encoding)) => {
                // What has come is worth having. It must not look whole: no word of the encoding's end.
                self.then = Some(Then::Broken(error));
                if encoding.work.is_holding() {
                    encoding.work.step(Encoder::flush);
                    self.encoding = Some(encoding);
                }
                Poll::Ready(None)
            }
            (Some(Then::Broken(error)), None) => {
                // It would take the place of what waits to be written.
                let client = self.source.as_ref().and_then(Source::client);
                if client.is_some_and(|client| client.poll_flushed().is_pending()) {
                    self.then = Some(Then::Broken(error));
                    return Poll::Pending;
                }
                self.then = Some(Then::Over);
                Poll::Ready(Some(Some(Err(error))))
            }
            (Some(Then::End(_) | Then::Over) | None, _) => {
                self.then = Some(Then::Over);
                Poll::Ready(Some(None))
            }
        }
    }
}

/// Has the task polled again when others had their turn, those included whose sockets have become ready since: by its
/// waker it would come back 61 times before the runtime looks at any socket, which is 30 ms of encoding.
pub(super) fn come_back(context: &mut Context<'_>) {
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(context);
}

/// One piece of two; nearly always one of them is empty.
fn joined(before: Bytes, more: Bytes) -> Bytes {
    if before.is_empty() {
        return more;
    }
    let mut joined = BytesMut::with_capacity(before.len() + more.len());
    joined.extend_from_slice(&before);
    joined.extend_from_slice(&more);
    joined.freeze()
}

/// Runs from when it is first asked for until it is disarmed.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Timer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH_AFTER)));
        if !std::mem::replace(&mut self.armed, true) {
            sleep.as_mut().reset(Instant::now() + FLUSH_AFTER);
        }
        sleep.as_mut().poll(context)
    }

    fn disarm(&mut self) {
        self.armed = false;
    }
}
