//! Connections in memory, for tests in which servers and their network are simulated.
//!
//! A test installs whoever answers [`dial`] on its thread; from then on every connection to a server that is opened there is
//! one of these. What is written can be read at once, and no more than that: delays are up to whoever simulates a server.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::units::ServerAddr;

/// A connection that is being opened.
pub(crate) type Dialing = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;
/// Whoever opens connections.
pub(crate) type Network = Box<dyn Fn(&ServerAddr) -> Dialing>;

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
}

/// From here on `network` opens the connections of this thread.
pub(crate) fn install(network: Network) {
    NETWORK.set(Some(network));
}

/// No connection of this thread is simulated any more.
pub(crate) fn uninstall() {
    NETWORK.set(None);
}

/// A simulated connection, where this thread has such a network.
pub(super) fn dial(server: &ServerAddr) -> Option<Dialing> {
    NETWORK.with_borrow(|network| network.as_ref().map(|network| network(server)))
}

/// One end of a connection. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Socket {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe(Mutex<Flow>);

#[derive(Debug, Default)]
struct Flow {
    bytes: BytesMut,
    end: Option<End>,
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Nothing more comes.
    Finished,
    /// The connection was cut.
    Reset,
}

impl Socket {
    /// Both ends of a new connection.
    pub(crate) fn pair() -> (Self, Self) {
        let (one, other) = (Arc::<Pipe>::default(), Arc::<Pipe>::default());
        let mirrored = Self {
            incoming: Arc::clone(&other),
            outgoing: Arc::clone(&one),
        };
        let socket = Self {
            incoming: one,
            outgoing: other,
        };
        (socket, mirrored)
    }

    /// Reads what is there, without waiting.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut flow = self.incoming.lock();
        if !flow.bytes.is_empty() {
            let read = bytes.len().min(flow.bytes.len());
            flow.bytes.copy_to_slice(&mut bytes[..read]);
            return Ok(read);
        }
        match flow.end {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(End::Finished) => Ok(0),
            Some(End::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Whether there is nothing to read, not even an end.
    pub(crate) fn is_silent(&self) -> bool {
        let flow = self.incoming.lock();
        flow.bytes.is_empty() && flow.end.is_none()
    }

    /// Writes all of it. To an end that is gone it still goes, as over TCP, but not twice.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut flow = self.outgoing.lock();
        match flow.end {
            Some(End::Reset) => return Err(io::ErrorKind::BrokenPipe.into()),
            Some(End::Finished) => flow.end = Some(End::Reset),
            None => flow.bytes.extend_from_slice(bytes),
        }
        flow.wake();
        Ok(bytes.len())
    }

    /// Waits until there is something to read, or nothing will ever be.
    pub(crate) async fn readable(&self) {
        poll_fn(|context| self.poll_readable(context)).await;
    }

    fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        let mut flow = self.incoming.lock();
        if flow.bytes.is_empty() && flow.end.is_none() {
            flow.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Cuts the connection: what was not read is lost on this side, and the other learns of it.
    pub(crate) fn reset(&self) {
        self.end(End::Reset);
    }

    /// What has come and was not read.
    pub(crate) fn unread(&self) -> Vec<u8> {
        self.incoming.lock().bytes.to_vec()
    }

    /// As a kernel does when a process lets go of a connection: without a word only where all was read.
    pub(crate) fn close(&self) {
        let all_read = self.incoming.lock().bytes.is_empty();
        self.end(if all_read { End::Finished } else { End::Reset });
    }

    fn end(&self, end: End) {
        let mut incoming = self.incoming.lock();
        incoming.bytes.clear();
        incoming.end = incoming.end.max(Some(end));
        incoming.wake();
        drop(incoming);
        let mut outgoing = self.outgoing.lock();
        outgoing.end = outgoing.end.max(Some(end));
        outgoing.wake();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.close();
    }
}

impl Flow {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_readable(context));
        let read = self.try_read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = Vec::new();
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        Poll::Ready(self.try_write(&bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.lock();
        outgoing.end = outgoing.end.max(Some(End::Finished));
        outgoing.wake();
        Poll::Ready(Ok(()))
    }
}
