//! The one response body. It owns what must last as long as its bytes: the record, the server's connection, the count of
//! requests in flight. Dropping it, at its end or before, settles them all.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::as_stored::AsStored;
use super::decoded::DecodedBody;
use super::encoded::{EncodedBody, Encoding, Source};
use super::record::{End, Record};
use super::shared::SharedBody;
use super::stream_clock;
use super::upstream_body::UpstreamBody;
use crate::config::Compress;
use crate::http1::fields::Written;
use crate::semantics::coding::Coding;
use crate::telemetry::worker::CompressShard;
use crate::upstream::http1::exchange::BodyError;

/// What is sent to a client.
pub(crate) struct Body {
    kind: Kind,
    record: Option<Box<Record>>,
    /// The head, where it is not in a map of fields.
    head: Option<AsStored>,
    /// Whether it has the coding already that it is sent in.
    is_settled: bool,
}

enum Kind {
    Empty,
    /// All of it, in memory.
    Whole(Bytes),
    /// All of it, in memory, in several pieces.
    Pieces(VecDeque<Bytes>),
    /// On its way from a server.
    Upstream(Box<UpstreamBody>),
    /// On its way from a server, for all who asked for it.
    Shared(Box<SharedBody>),
    /// All of it, in memory and encoded, to be decoded.
    Decoded(Box<DecodedBody>),
    /// Any of these but what is decoded, encoded or about to be.
    Encoded(Box<EncodedBody>),
}

impl Body {
    /// Bytes in memory.
    pub(crate) fn whole(bytes: Bytes, record: Box<Record>) -> Self {
        Self::new(
            if bytes.is_empty() {
                Kind::Empty
            } else {
                Kind::Whole(bytes)
            },
            record,
        )
    }

    /// Bytes that a server is still sending.
    pub(crate) fn upstream(body: Box<UpstreamBody>, record: Box<Record>) -> Self {
        Self::new(Kind::Upstream(body), record)
    }

    /// Bytes in memory, one piece after the other.
    pub(crate) fn pieces(pieces: Vec<Bytes>, record: Box<Record>) -> Self {
        let mut pieces = VecDeque::from(pieces);
        pieces.retain(|piece| !piece.is_empty());
        Self::new(
            if pieces.is_empty() {
                Kind::Empty
            } else {
                Kind::Pieces(pieces)
            },
            record,
        )
    }

    /// A whole encoded body in memory.
    pub(super) fn decoded(body: Box<DecodedBody>, record: Box<Record>) -> Self {
        Self::new(Kind::Decoded(body), record)
    }

    /// Bytes that a server is still sending to all who asked for them.
    pub(crate) fn shared(body: Box<SharedBody>, record: Box<Record>) -> Self {
        Self::new(Kind::Shared(body), record)
    }

    /// Of a response whose exchange goes on elsewhere: a 101.
    pub(crate) fn none() -> Self {
        Self {
            kind: Kind::Empty,
            record: None,
            head: None,
            is_settled: true,
        }
    }

    fn new(kind: Kind, mut record: Box<Record>) -> Self {
        if matches!(kind, Kind::Empty) {
            record.completed();
        }
        Self {
            kind,
            record: Some(record),
            head: None,
            is_settled: false,
        }
    }

    /// It is sent as it is now, in that coding if it has one of weir's.
    pub(super) fn settled(mut self, coding: Option<Coding>) -> Self {
        self.is_settled = true;
        if let (Some(record), Some(coding)) = (&mut self.record, coding) {
            record.coding = Some(coding);
        }
        self
    }

    /// That of a response which goes out with that head, and as it is.
    pub(super) fn headed(mut self, head: AsStored) -> Self {
        let coding = head.coding();
        self.head = Some(head);
        self.settled(coding)
    }

    /// Appends the fields of a response that goes out as it is stored, which are not in its map. They are let go of: what is
    /// sent of the response meanwhile is not to be kept until all of it is.
    pub(crate) fn write_stored_fields(&mut self, out: &mut Vec<u8>) -> Written {
        let head = self.head.take();
        let head = head.as_ref().zip(self.record());
        head.map_or(Written::Nothing, |(head, record)| head.write(record, out))
    }

    /// What is known of its exchange.
    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_deref()
    }

    /// How its route encodes, if it does and that is still to be done.
    pub(super) fn compress(&self) -> Option<&Compress> {
        let record = self.record().filter(|_| !self.is_settled)?;
        let route = record.at.as_ref()?.route.as_ref()?;
        route.compress.as_ref()
    }

    pub(super) fn compress_shard(&self) -> Option<&Arc<CompressShard>> {
        let record = self.record()?;
        record.at.as_ref()?.compress_shard(&record.proxy.metrics)
    }

    /// All of it, if it is in memory.
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Whole(bytes) => Some(bytes),
            Kind::Empty
            | Kind::Pieces(_)
            | Kind::Upstream(_)
            | Kind::Shared(_)
            | Kind::Decoded(_)
            | Kind::Encoded(_) => None,
        }
    }

    /// Puts its encoded form in the place of bytes in memory.
    pub(super) fn replace(&mut self, encoded: Bytes, coding: Coding) {
        self.kind = Kind::Whole(encoded);
        self.is_encoded(coding);
    }

    /// Encodes it on its way.
    pub(super) fn encode(&mut self, encoding: Encoding, coding: Coding) {
        let mut body = match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Empty => Box::new(EncodedBody::of_bytes(Bytes::new())),
            Kind::Whole(bytes) => Box::new(EncodedBody::of_bytes(bytes)),
            Kind::Upstream(body) => Box::new(EncodedBody::of(Source::Upstream(body))),
            Kind::Shared(body) => Box::new(EncodedBody::of(Source::Shared(body))),
            Kind::Encoded(body) => body,
            Kind::Pieces(pieces) => Box::new(EncodedBody::of(Source::Pieces(pieces))),
            // It was decoded for a client that takes no coding of weir's.
            kind @ Kind::Decoded(_) => {
                self.kind = kind;
                return;
            }
        };
        body.encode(encoding);
        self.kind = Kind::Encoded(body);
        self.is_encoded(coding);
    }

    fn is_encoded(&mut self, coding: Coding) {
        if let Some(record) = &mut self.record {
            record.coding = Some(coding);
        }
    }

    /// Waits for `enough` bytes, but not for long; whether it is over with less than that.
    pub(super) async fn is_less_than(&mut self, enough: usize) -> bool {
        let mut body = match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Upstream(body) => Box::new(EncodedBody::of(Source::Upstream(body))),
            Kind::Shared(body) => Box::new(EncodedBody::of(Source::Shared(body))),
            kind => {
                self.kind = kind;
                return self.bytes().is_none_or(|bytes| bytes.len() < enough);
            }
        };
        let less = body.is_less_than(enough).await;
        if let Some((record, uploaded)) = self.record.as_mut().zip(body.uploaded()) {
            record.bytes_in = uploaded;
        }
        self.kind = match body.whole() {
            Some(bytes) if bytes.is_empty() => Kind::Empty,
            Some(bytes) => Kind::Whole(bytes),
            None => Kind::Encoded(body),
        };
        if let Kind::Empty = self.kind {
            self.ended(End::Complete);
        }
        less
    }

    /// Whether the next piece is here, and one of several.
    pub(crate) fn is_in_pieces(&self) -> bool {
        matches!(&self.kind, Kind::Pieces(pieces) if !pieces.is_empty())
    }

    fn count(&mut self, length: usize) {
        if let Some(record) = &mut self.record {
            record.bytes_out += length as u64;
            record.client.handed_out(length as u64);
            stream_clock::handed_out();
        }
    }

    /// Body bytes of this and of earlier responses that wait for the client's windows (HTTP/2).
    pub(crate) fn unframed(&self) -> u64 {
        let record = self.record.as_ref();
        record.map_or(0, |record| record.client.unframed())
    }

    /// The response broke off. Where nothing else could tell, the connection's end must (RFC 9112 §8).
    fn truncated(&self, until_close: bool) {
        if let Some(record) = &self.record
            && until_close
            && record.request.version < http::Version::HTTP_11
        {
            record.client.truncated();
        }
    }

    fn ended(&mut self, end: End) {
        match (&mut self.record, end) {
            (Some(record), End::Complete) => record.completed(),
            (Some(record), end) => record.end = end,
            (None, _) => {}
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        stream_clock::asked();
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                this.count(bytes.len());
                this.ended(End::Complete);
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Pieces(pieces) => {
                let piece = pieces.pop_front();
                let over = pieces.is_empty();
                this.count(piece.as_ref().map_or(0, Bytes::len));
                if over {
                    this.ended(End::Complete);
                }
                piece.map(|piece| Ok(Frame::data(piece)))
            }
            Kind::Decoded(body) => {
                let frame = ready!(body.poll_next(context));
                match &frame {
                    Some(Ok(frame)) => this.count(frame.data_ref().map_or(0, Bytes::len)),
                    Some(Err(error)) => {
                        this.ended(end_of(error));
                        this.truncated(true);
                    }
                    None => this.ended(End::Complete),
                }
                frame
            }
            Kind::Shared(body) => {
                let frame = ready!(body.poll_next(context));
                let (over, until_close) = (body.is_over(), body.remaining().is_none());
                match &frame {
                    Some(Ok(frame)) => {
                        this.count(frame.data_ref().map_or(0, Bytes::len));
                        if over {
                            this.ended(End::Complete);
                        }
                    }
                    Some(Err(error)) => {
                        this.ended(end_of(error));
                        this.truncated(until_close);
                    }
                    None => this.ended(End::Complete),
                }
                frame
            }
            Kind::Upstream(body) => {
                let frame = ready!(body.poll_next(context, None));
                if let Some(record) = &mut this.record {
                    record.bytes_in = body.uploaded();
                }
                match &frame {
                    Some(Ok(frame)) => {
                        let over = body.is_over();
                        if let Some(data) = frame.data_ref() {
                            this.count(data.len());
                        }
                        if over {
                            this.ended(End::Complete);
                        }
                    }
                    Some(Err(error)) => {
                        let until_close = body.framing.remaining().is_none();
                        this.ended(end_of(error));
                        this.truncated(until_close);
                    }
                    None if body.is_drained => this.ended(End::Drained),
                    None => this.ended(End::Complete),
                }
                frame
            }
            Kind::Encoded(body) => {
                let frame = ready!(body.poll_next(context));
                let (over, uploaded) = (body.is_over(), body.uploaded());
                let is_drained = body.is_drained();
                if let Some((record, uploaded)) = this.record.as_mut().zip(uploaded) {
                    record.bytes_in = uploaded;
                }
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    this.count(data.len());
                }
                match &frame {
                    Some(Err(error)) => this.ended(end_of(error)),
                    _ if over && is_drained => this.ended(End::Drained),
                    _ if over => this.ended(End::Complete),
                    _ => {}
                }
                frame
            }
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Whole(_) => false,
            Kind::Pieces(pieces) => pieces.is_empty(),
            Kind::Shared(body) => body.is_over(),
            Kind::Decoded(body) => body.is_over(),
            Kind::Upstream(body) => body.is_over(),
            Kind::Encoded(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Kind::Shared(body) => body
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Upstream(body) => body
                .framing
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Decoded(_) | Kind::Encoded(_) => SizeHint::default(),
        }
    }
}

fn end_of(error: &BodyError) -> End {
    match error {
        BodyError::Framing(_) | BodyError::Connection(_) | BodyError::Fetch => End::ServerBroke,
        BodyError::Stalled => End::ServerStalled,
        BodyError::RouteTimeout => End::RouteTimeout,
        BodyError::Drained => End::Drained,
        BodyError::Upload(_) => End::RequestBroke,
        BodyError::Encoding(_) => End::EncodingBroke,
    }
}
