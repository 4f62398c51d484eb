//! The body of a request on its way to a server.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::buf::Chain;
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};

use tokio_util::io::poll_write_buf;

use super::exchange::ExchangeError;
use crate::deadline::{Deadline, Ticks};
use crate::http1::fields::write_field;
use crate::upstream::stream::Stream;

/// How the body of a request is framed on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadLength {
    Known(u64),
    Chunked,
}

/// The body of a request on its way to the server.
pub(crate) struct Upload<B> {
    /// `None`: all of it was taken by an earlier attempt.
    body: Option<B>,
    length: UploadLength,
    /// Read before there was a server, and what came at the end of it.
    ahead: Bytes,
    ahead_trailers: Option<HeaderMap>,
    /// What may still come.
    allowed: u64,
    /// Taken from the client, not yet by the server's socket: size line, data, CRLF.
    pending: Chain<Chain<Bytes, Bytes>, Bytes>,
    ended: bool,
    /// What was taken so far, if it may be needed once more.
    kept: Option<Kept>,
    limits: UploadLimits,
    /// Whose turn it is since nothing moved.
    pub(super) waits_for: Option<Peer>,
    pub(super) received: u64,
}

/// What an upload may take.
#[derive(Clone)]
pub(crate) struct UploadLimits {
    /// The most that the body may have.
    pub(crate) max: Option<u64>,
    /// Limits how long either side may take for the next piece. Not the connection's deadline: that is about the response,
    /// which may be on its way at the same time.
    pub(crate) stall: Deadline,
    /// How long each side may do nothing.
    pub(crate) client: Ticks,
    pub(crate) server: Ticks,
}

/// A side of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    Server,
}

pub(super) enum UploadError {
    Client(ExchangeError),
    Server,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The body of a request that has one. With `kept`, it can be sent again while it is small.
    pub(crate) fn new(body: B, limits: UploadLimits, kept: Option<Kept>) -> Self {
        let length = body
            .size_hint()
            .exact()
            .map_or(UploadLength::Chunked, UploadLength::Known);
        if let Some(kept) = &kept {
            kept.begin(length);
        }
        Self {
            body: Some(body),
            length,
            ahead: Bytes::new(),
            ahead_trailers: None,
            allowed: limits.max.unwrap_or(u64::MAX),
            pending: empty(),
            ended: false,
            kept,
            limits,
            waits_for: None,
            received: 0,
        }
    }

    /// Reads the body, all of it if it is not longer than about `size`, so that no server waits for a slow client. What came
    /// whole is sent with its length.
    pub(crate) async fn buffer(
        &mut self,
        size: usize,
        route_deadline: Option<&Deadline>,
    ) -> Result<(), ExchangeError> {
        let mut read = BytesMut::new();
        let ended = std::future::poll_fn(|context| {
            if route_deadline.is_some_and(|deadline| deadline.poll_over(context).is_ready()) {
                return Poll::Ready(Err(ExchangeError::RouteTimeout));
            }
            let step = self.poll_buffer(context, size, &mut read);
            if step.is_pending() {
                self.wait_for(Peer::Client);
                if self.is_stalled(context) {
                    return Poll::Ready(Err(ExchangeError::ClientStalled));
                }
            }
            step
        })
        .await?;
        self.waits_for = None;
        self.ahead = read.freeze();
        if ended {
            self.body = None;
            if self.length == UploadLength::Chunked && self.ahead_trailers.is_none() {
                self.length = UploadLength::Known(self.ahead.len() as u64);
                if let Some(kept) = &self.kept {
                    kept.begin(self.length);
                }
            }
        }
        Ok(())
    }

    /// Whether that was the end.
    fn poll_buffer(
        &mut self,
        context: &mut Context<'_>,
        size: usize,
        read: &mut BytesMut,
    ) -> Poll<Result<bool, ExchangeError>> {
        loop {
            let Some(body) = self.body.as_mut().filter(|body| !body.is_end_stream()) else {
                return Poll::Ready(Ok(true));
            };
            if read.len() >= size {
                return Poll::Ready(Ok(false));
            }
            let piece = std::task::ready!(Pin::new(body).poll_frame(context));
            self.waits_for = None;
            let Some(frame) = piece
                .transpose()
                .map_err(|error| ExchangeError::ClientBody(error.into()))?
            else {
                return Poll::Ready(Ok(true));
            };
            match frame.into_data() {
                Ok(data) => {
                    read.extend_from_slice(&data);
                    if read.len() as u64 > self.allowed {
                        return Poll::Ready(Err(ExchangeError::BodyTooLarge));
                    }
                }
                Err(frame) => self.ahead_trailers = frame.into_trailers().ok(),
            }
        }
    }

    /// How the body is framed.
    pub(crate) fn length(&self) -> UploadLength {
        self.length
    }

    /// Whether the client's bytes were all taken.
    pub(crate) fn is_read_whole(&self) -> bool {
        self.ended
    }

    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            while self.pending.has_remaining() {
                match poll_write_buf(Pin::new(&mut *stream), context, &mut self.pending) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(UploadError::Server)),
                    Poll::Ready(Ok(_)) => self.waits_for = None,
                    Poll::Pending => {
                        self.wait_for(Peer::Server);
                        return Poll::Pending;
                    }
                }
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let piece = match (&mut self.body, self.ahead.is_empty()) {
                (_, false) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ahead))))),
                (None, true) => {
                    let trailers = self.ahead_trailers.take();
                    Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
                }
                (Some(body), true) => Pin::new(body).poll_frame(context),
            };
            match piece {
                Poll::Ready(piece) => {
                    self.waits_for = None;
                    self.take(piece).map_err(UploadError::Client)?;
                }
                Poll::Pending => {
                    self.wait_for(Peer::Client);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Nothing moves until `peer` does something. Its time runs from the last movement on.
    pub(super) fn wait_for(&mut self, peer: Peer) {
        if self.waits_for.replace(peer) != Some(peer) {
            self.limits.stall.arm(match peer {
                Peer::Client => self.limits.client,
                Peer::Server => self.limits.server,
            });
        }
    }

    /// Whether whoever's turn it is has taken too long.
    pub(super) fn is_stalled(&self, context: &Context<'_>) -> bool {
        self.limits.stall.poll_over(context).is_ready()
    }

    fn take(&mut self, piece: Option<Result<Frame<Bytes>, B::Error>>) -> Result<(), ExchangeError> {
        let Some(frame) = piece
            .transpose()
            .map_err(|error| ExchangeError::ClientBody(error.into()))?
        else {
            return self.end(None);
        };
        match frame.into_data() {
            Ok(data) => {
                self.received += data.len() as u64;
                self.allowed = self
                    .allowed
                    .checked_sub(data.len() as u64)
                    .ok_or(ExchangeError::BodyTooLarge)?;
                // Known now, so that a server's answer to the last byte does not look early.
                self.ended = self.ahead_trailers.is_none()
                    && self.body.as_ref().is_none_or(Body::is_end_stream);
                let none = Bytes::new;
                match self.length {
                    UploadLength::Known(_) => self.pend(none(), data, none()),
                    UploadLength::Chunked if data.is_empty() && self.ended => {
                        self.pend(none(), data, Bytes::from_static(LAST_CHUNK));
                    }
                    UploadLength::Chunked if data.is_empty() => self.pend(none(), data, none()),
                    UploadLength::Chunked => {
                        let end = Bytes::from_static(if self.ended {
                            b"\r\n0\r\n\r\n"
                        } else {
                            b"\r\n"
                        });
                        self.pend(format!("{:x}\r\n", data.len()).into(), data, end);
                    }
                }
                if self.ended {
                    self.is_as_long_as_stated()
                } else {
                    Ok(())
                }
            }
            Err(frame) => self.end(frame.into_trailers().ok()),
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), ExchangeError> {
        self.ended = true;
        if self.length == UploadLength::Chunked {
            let end = trailers.map_or(Bytes::from_static(LAST_CHUNK), |trailers| {
                last_chunk(&trailers)
            });
            self.pend(Bytes::new(), Bytes::new(), end);
        }
        self.is_as_long_as_stated()
    }

    fn pend(&mut self, size: Bytes, data: Bytes, end: Bytes) {
        if let Some(kept) = &self.kept {
            kept.add(&[&size, &data, &end], self.received);
        }
        self.pending = size.chain(data).chain(end);
    }

    /// Who frames the request sees to it; if it did not, the server would take the next request for the rest of this one.
    fn is_as_long_as_stated(&self) -> Result<(), ExchangeError> {
        match self.length {
            UploadLength::Known(length) if length != self.received => Err(
                ExchangeError::ClientBody(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            ),
            UploadLength::Known(_) | UploadLength::Chunked => Ok(()),
        }
    }
}

/// The end of a chunked body without trailer fields.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The last chunk with its trailer fields; those that a trailer must not hold are left out (RFC 9110 §6.5.1).
fn last_chunk(trailers: &HeaderMap) -> Bytes {
    let mut out = b"0\r\n".to_vec();
    for (name, value) in trailers {
        if crate::semantics::trailers::may_follow(name) {
            write_field(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

fn empty() -> Chain<Chain<Bytes, Bytes>, Bytes> {
    Bytes::new().chain(Bytes::new()).chain(Bytes::new())
}

/// What was taken of a body, as it goes over the wire: to be sent again, for as long as it is little. Its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Kept(Rc<RefCell<Copied>>);

#[derive(Default)]
struct Copied {
    length: Option<UploadLength>,
    bytes: BytesMut,
    received: u64,
    too_much: bool,
}

impl Kept {
    fn begin(&self, length: UploadLength) {
        let mut kept = self.0.borrow_mut();
        kept.length = Some(length);
        kept.too_much = matches!(length, UploadLength::Known(length) if length > KEPT_AT_MOST);
    }

    fn add(&self, pieces: &[&Bytes], received: u64) {
        let mut kept = self.0.borrow_mut();
        kept.received = received;
        kept.too_much |= received > KEPT_AT_MOST;
        if kept.too_much {
            kept.bytes = BytesMut::new();
            return;
        }
        for piece in pieces {
            kept.bytes.extend_from_slice(piece);
        }
    }

    /// Whether all that was taken is still there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.0.borrow().too_much
    }

    /// The upload from its beginning on. `upload` is what an attempt left of it, `None` if that took all of it.
    pub(crate) fn again<B>(
        &self,
        upload: Option<Upload<B>>,
        limits: impl FnOnce() -> UploadLimits,
    ) -> Upload<B> {
        let kept = self.0.borrow();
        let copy = Bytes::copy_from_slice(&kept.bytes);
        let pending = copy.chain(Bytes::new()).chain(Bytes::new());
        match upload {
            Some(upload) => Upload {
                pending,
                waits_for: None,
                ..upload
            },
            None => Upload {
                body: None,
                length: kept.length.unwrap_or(UploadLength::Chunked),
                ahead: Bytes::new(),
                ahead_trailers: None,
                allowed: 0,
                pending,
                ended: true,
                kept: Some(self.clone()),
                limits: limits(),
                waits_for: None,
                received: kept.received,
            },
        }
    }
}

/// The most that is kept of a body.
const KEPT_AT_MOST: u64 = 64 * 1024;
