//! The body of a request, by whichever protocol it comes.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http1::BadFraming;

/// What a client sends with its request.
pub(crate) enum RequestBody {
    /// Nothing.
    None,
    Http1(Http1Body),
    Http2(Incoming),
    /// Of that length, if it is told; never sent, since nobody is there. For `weir explain`.
    Told(Option<u64>),
}

/// The body of a request over HTTP/1.
pub(crate) struct Http1Body {
    pub(crate) source: Rc<dyn Source>,
    /// That of its request on the connection.
    pub(crate) number: u64,
}

/// A connection that bodies of requests come over, one after the other.
pub(crate) trait Source {
    /// The next piece of the body of that request.
    fn poll_body(
        &self,
        number: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BadBody>>>;

    /// Whether it is over.
    fn is_over(&self, number: u64) -> bool;

    /// How much is still to come, if that is known.
    fn left(&self, number: u64) -> Option<u64>;
}

/// Why the rest of a request does not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBody {
    #[error(transparent)]
    Framing(#[from] BadFraming),
    #[error("the stream of the client broke")]
    Stream(#[source] hyper::Error),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BadBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BadBody>>> {
        match &mut *self {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => body.source.poll_body(body.number, context),
            Self::Http2(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map(|frame| frame.map(|frame| frame.map_err(BadBody::Stream)))
            }
            Self::Told(_) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.source.is_over(body.number),
            Self::Http2(body) => body.is_end_stream(),
            Self::Told(length) => *length == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = match self {
            Self::None => Some(0),
            Self::Http1(body) => body.source.left(body.number),
            Self::Http2(body) => return body.size_hint(),
            Self::Told(length) => *length,
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
