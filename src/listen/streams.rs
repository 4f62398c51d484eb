//! The tasks of HTTP/2 streams. A client that opens a stream and never takes its bytes holds memory for as long as it
//! likes; each stream has a clock that runs while bytes wait for the client, and is reset when it is over.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;

use crate::deadline::{Deadlines, Ticks};
use crate::proxy::body::Body;
use crate::proxy::stream_clock::{self, StreamClock};
use crate::upstream::http1::exchange::BodyError;

/// RFC 9113 §6.5.2, the default size of a frame: what is split at its multiples takes no frame more.
const FRAME: usize = 16 * 1024;

/// What all small last pieces of a connection may have waiting past the clocks.
const OTHERS: u64 = 64 * 1024;

/// Runs the streams of one connection as tasks of this thread.
#[derive(Clone)]
pub(super) struct Streams {
    deadlines: Rc<Deadlines>,
    stall: Ticks,
}

impl Streams {
    pub(super) fn new(deadlines: &Rc<Deadlines>, stall: Ticks) -> Self {
        Self {
            deadlines: Rc::clone(deadlines),
            stall,
        }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(Clocked {
            stream,
            clock: StreamClock::new(self.deadlines.deadline(), self.stall),
        });
    }
}

pin_project_lite::pin_project! {
    /// A stream and its clock. Dropping the stream resets it (RST_STREAM), which is what an expired clock does.
    struct Clocked<F> {
        #[pin]
        stream: F,
        clock: StreamClock,
    }
}

impl<F: Future<Output = ()>> Future for Clocked<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.clock.poll_over(context).is_ready() {
            return Poll::Ready(());
        }
        let _current = stream_clock::enter(this.clock.clone());
        this.stream.poll(context)
    }
}

/// The body of a response to an HTTP/2 client.
///
/// hyper forgets a stream when it has handed the last piece to h2, which then keeps it until the client's window opens,
/// past every clock. Only its first byte has to wait for room; so a last piece goes in two, the second of which waits until
/// there is room for all of the first. A small one only where the connection has other bytes that wait: else its client
/// could leave one such piece in each of its streams.
pub(super) struct StreamBody {
    body: Body,
    last: Bytes,
}

impl StreamBody {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            last: Bytes::new(),
        }
    }
}

/// How much of a last piece goes first, while that many bytes of other pieces wait.
fn first_part(length: usize, others: u64) -> usize {
    if length > FRAME {
        (length - 1) / FRAME * FRAME
    } else if others > OTHERS {
        length.saturating_sub(1)
    } else {
        length
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.last.is_empty() {
            stream_clock::handed_out();
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.last)))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) if self.body.is_end_stream() => Some(Ok(frame.map_data(|mut data| {
                let others = self.body.unframed().saturating_sub(data.len() as u64);
                let at = first_part(data.len(), others);
                self.last = data.split_off(at);
                data
            }))),
            frame => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first piece is.
        self.body.size_hint()
    }
}
