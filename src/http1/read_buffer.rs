//! What all connections of a worker read into, so that one that waits owns none of it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// The most that one read takes, and so what a response may hold in memory while its client is slow. What is read at once
/// is written at once: it fits into one segment of a loopback connection (65,483 bytes), where 64 KiB would make a full
/// segment and a sliver each time, at a third more CPU for large bodies.
pub(crate) const READ_SIZE: usize = 48 * 1024;
/// What may last and is up to this size is copied out, so that it does not keep a whole block of the buffer.
pub(crate) const COPY_UP_TO: usize = 8 * 1024;

/// The memory of the next read.
#[derive(Default)]
pub(crate) struct ReadBuffer(RefCell<BytesMut>);

impl ReadBuffer {
    /// Reads what is there, at most `limit` bytes beside `before`, which comes first in the result. The second value tells
    /// how many bytes are new; 0 is the end of the stream. With `brief`, whatever is read will be let go of at once, so it
    /// may stay in the shared buffer; what may last is moved out of it, lest a few bytes pin all of it.
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        context: &mut Context<'_>,
        before: &[u8],
        limit: usize,
        brief: bool,
    ) -> Poll<io::Result<(Bytes, usize)>> {
        let mut buffer = self.0.borrow_mut();
        let wanted = limit + before.len();
        // A new block when less than half of one is left, rather than for each read of a small response.
        if buffer.capacity() < wanted && (!brief || buffer.capacity() < READ_SIZE / 2) {
            buffer.reserve(wanted);
        }
        buffer.extend_from_slice(before);
        let mut limited = bytes::BufMut::limit(&mut *buffer, limit);
        match poll_read_buf(Pin::new(stream), context, &mut limited) {
            Poll::Ready(Ok(read)) => {
                let bytes = if buffer.len() <= COPY_UP_TO && !brief {
                    let bytes = Bytes::copy_from_slice(&buffer);
                    buffer.clear();
                    bytes
                } else {
                    buffer.split().freeze()
                };
                Poll::Ready(Ok((bytes, read)))
            }
            Poll::Ready(Err(error)) => {
                buffer.clear();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                buffer.clear();
                Poll::Pending
            }
        }
    }
}
