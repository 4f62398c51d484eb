//! A connection to a server over TLS: a session of rustls over a socket.
//!
//! Driven here and not by tokio-rustls because of what idle connections need: to be looked at, and written to, without
//! waiting and without a waker, while a server's tickets come in at any time after the handshake.
//!
//! What the socket does not take at once stays in the session, up to [`UNSENT`], and goes out with the next write, flush
//! or read: whoever waits for an answer sends what is left of the question.

use std::cell::RefCell;
use std::io::{self, BufRead as _, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;
use super::tls::HandshakeError;

/// A socket and the session over it.
#[derive(Debug)]
pub(crate) struct Secured {
    socket: Stream,
    session: ClientConnection,
    /// The socket takes no more bytes.
    deaf: bool,
    /// Our end of the session is told.
    ended: bool,
}

/// How the socket is used.
enum Way<'w, 'c> {
    /// Wakes whoever waits when it was of no use.
    Wait(&'w mut Context<'c>),
    /// By what the runtime knows of it.
    Try,
    /// By the kernel's word of this moment, at the cost of a system call.
    Ask,
}

/// What became of the plaintext that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    All,
    /// The buffer has no room for the rest.
    Some,
    /// There will be no more.
    End,
}

impl Secured {
    /// Agrees on a session with the server that must be called `name`; has no end of its own.
    pub(super) async fn handshake(
        socket: Stream,
        client: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, HandshakeError> {
        let mut session = ClientConnection::new(client, name)?;
        session.set_buffer_limit(Some(UNSENT));
        let mut secured = Self {
            socket,
            session,
            deaf: false,
            ended: false,
        };
        std::future::poll_fn(|context| secured.poll_handshake(context)).await?;
        Ok(secured)
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let mut way = Way::Wait(context);
        loop {
            let flushed = self.flush(&mut way).1;
            if !self.session.is_handshaking() {
                return match flushed {
                    Err(error) if is_wait(&error) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(HandshakeError::Ended(Some(error)))),
                    Ok(()) => Poll::Ready(Ok(())),
                };
            }
            // Where it takes no more, it may have said why.
            match self.session.read_tls(&mut wire(&mut self.socket, &mut way)) {
                Ok(0) => return Poll::Ready(Err(HandshakeError::Ended(None))),
                Ok(_) => {}
                Err(error) if is_wait(&error) => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(HandshakeError::Ended(Some(error)))),
            }
            if let Err(error) = self.session.process_new_packets() {
                // The alert that tells the server why.
                let _ = self.flush(&mut Way::Try);
                return Poll::Ready(Err(error.into()));
            }
        }
    }

    /// Reads what is there, without waiting.
    pub(super) fn try_read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        self.read(&mut Way::Try, &mut buffer)?;
        Ok(buffer.filled().len())
    }

    /// Whether there is nothing to read, by the kernel's word of this moment. Tickets are nothing.
    pub(super) fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let read = self.read(&mut Way::Ask, &mut ReadBuf::new(&mut byte));
        read.is_err_and(|error| is_wait(&error))
    }

    /// Writes what goes at once, and takes a little more.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(&mut Way::Try, &[io::IoSlice::new(bytes)])
    }

    /// Whether the socket has all that was written.
    pub(super) fn is_flushed(&mut self) -> bool {
        self.flush(&mut Way::Try).1.is_ok()
    }

    /// Tells the server that nothing more comes, as far as that goes without waiting.
    pub(super) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.session.send_close_notify();
        }
        let _ = self.flush(&mut Way::Try);
    }

    /// Waits only while there is nothing new in `buffer`.
    fn read(&mut self, way: &mut Way<'_, '_>, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        // What cannot be sent any more shows when the answer is read.
        let _ = self.flush(way);
        let before = buffer.filled().len();
        loop {
            let step = match self.take(buffer) {
                Ok(Taken::All) => self.fill(way, buffer),
                Ok(Taken::Some | Taken::End) => return Ok(()),
                Err(error) => Err(error),
            };
            let is_new = buffer.filled().len() > before;
            match step {
                Ok(all) if all && is_new => return Ok(()),
                Ok(_) => {}
                // It comes again.
                Err(_) if is_new => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes plaintext that is there. Not a clean end, without the server's word for it, is an error: what ends so may be
    /// cut off (RFC 9112 §9.8).
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<Taken> {
        let mut reader = self.session.reader();
        while buffer.remaining() > 0 {
            match reader.fill_buf() {
                Ok([]) => return Ok(Taken::End),
                Ok(plain) => {
                    let length = plain.len().min(buffer.remaining());
                    buffer.put_slice(plain.get(..length).unwrap_or(plain));
                    reader.consume(length);
                }
                Err(error) if is_wait(&error) => return Ok(Taken::All),
                Err(error) => return Err(error),
            }
        }
        Ok(Taken::Some)
    }

    /// Reads from the socket; whether that was all that it had, as far as that is known.
    fn fill(&mut self, way: &mut Way<'_, '_>, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        // So much fits into the buffer whatever the session has of a record that is not whole yet, and so nothing of it must
        // be kept.
        let fits = buffer.remaining().saturating_sub(LONGEST_RECORD);
        if fits < STEP {
            self.session.read_tls(&mut wire(&mut self.socket, way))?;
            self.process()?;
            return Ok(false);
        }
        // The session itself would ask for 4 KiB each time.
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(AT_ONCE, 0);
            let length = fits.min(AT_ONCE);
            let room = scratch.get_mut(..length).unwrap_or_default();
            let read = wire(&mut self.socket, way).read(room)?;
            let mut came = room.get(..read).unwrap_or_default();
            loop {
                // Nothing is the end, and must be told too.
                let taken = self.session.read_tls(&mut came)?;
                self.process()?;
                if came.is_empty() || taken == 0 || self.take(buffer)? != Taken::All {
                    return Ok(read < length);
                }
            }
        })
    }

    fn process(&mut self) -> io::Result<()> {
        match self.session.process_new_packets() {
            Ok(_) => Ok(()),
            Err(error) => {
                let _ = self.flush(&mut Way::Try);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Takes bytes as far as there is room for them, and sends what goes. An error means that none of them was sent.
    fn write(&mut self, way: &mut Way<'_, '_>, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        loop {
            if self.deaf || self.ended {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let taken = self.session.writer().write_vectored(slices)?;
            match self.flush(way) {
                (_, Ok(())) if taken == 0 => {}
                (_, Ok(())) => return Ok(taken),
                (_, Err(error)) if taken == 0 => return Err(error),
                (0, Err(error)) if !is_wait(&error) => return Err(error),
                (_, Err(_)) => return Ok(taken),
            }
        }
    }

    /// Sends what the session has to send. Also tells how much went before it failed.
    fn flush(&mut self, way: &mut Way<'_, '_>) -> (usize, io::Result<()>) {
        let mut sent = 0;
        while self.session.wants_write() {
            if self.deaf {
                return (sent, Err(io::ErrorKind::BrokenPipe.into()));
            }
            match self.session.write_tls(&mut wire(&mut self.socket, way)) {
                Ok(length @ 1..) => sent += length,
                Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
                Err(error) => {
                    self.deaf = !is_wait(&error);
                    return (sent, Err(error));
                }
            }
        }
        (sent, Ok(()))
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pending(self.read(&mut Way::Wait(context), buffer))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        pending(self.write(&mut Way::Wait(context), &[io::IoSlice::new(bytes)]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pending(self.write(&mut Way::Wait(context), slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pending(self.flush(&mut Way::Wait(context)).1)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        if !self.deaf {
            std::task::ready!(self.as_mut().poll_flush(context))?;
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// The socket as rustls uses it.
struct Wire<'w, 'v, 'c> {
    socket: &'w mut Stream,
    way: &'w mut Way<'v, 'c>,
}

fn wire<'w, 'v, 'c>(socket: &'w mut Stream, way: &'w mut Way<'v, 'c>) -> Wire<'w, 'v, 'c> {
    Wire { socket, way }
}

impl Read for Wire<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.way {
            Way::Wait(context) => {
                let mut buffer = ReadBuf::new(bytes);
                ready(Pin::new(&mut *self.socket).poll_read(context, &mut buffer))?;
                Ok(buffer.filled().len())
            }
            Way::Try => self.socket.try_read(bytes),
            Way::Ask => self.socket.read_now(bytes),
        }
    }
}

impl Write for Wire<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.way {
            Way::Wait(context) => ready(Pin::new(&mut *self.socket).poll_write(context, bytes)),
            Way::Try | Way::Ask => self.socket.try_write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self.way {
            Way::Wait(context) => {
                ready(Pin::new(&mut *self.socket).poll_write_vectored(context, slices))
            }
            Way::Try | Way::Ask => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                first.map_or(Ok(0), |first| self.socket.try_write(first))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if is_wait(&error) => Poll::Pending,
        result => Poll::Ready(result),
    }
}

thread_local! {
    /// What comes from sockets, for as long as one call: an idle connection owns no buffer.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is encrypted and not yet with the kernel: two records.
const UNSENT: usize = 32 * 1024;
/// A record with what TLS 1.2 allows to be added (RFC 5246 §6.2.3), and its header.
const LONGEST_RECORD: usize = (16 + 2) * 1024 + 5;
/// The least that is worth the way through [`SCRATCH`].
const STEP: usize = 4 * 1024;
/// The most that is read at once.
const AT_ONCE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::crypto::aws_lc_rs;
    use rustls::{RootCertStore, ServerConfig};
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    use super::*;

    /// Both ends of a session over a socket that takes little at once.
    async fn ends() -> (Secured, TlsStream<UnixStream>) {
        let made = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![made.cert.der().clone()],
                made.signing_key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = UnixStream::pair().unwrap();
        SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
        let name = "app.test".try_into().unwrap();
        let (ours, theirs) = tokio::join!(
            Secured::handshake(Stream::Unix(ours), Arc::new(client), name),
            TlsAcceptor::from(Arc::new(server)).accept(theirs),
        );
        (ours.unwrap(), theirs.unwrap())
    }

    /// Who asks and then only waits for the answer must not wait for ever.
    #[tokio::test]
    async fn what_the_socket_did_not_take_goes_out_while_an_answer_is_awaited() {
        let (mut ours, mut theirs) = ends().await;
        let question = [7; 30_000];
        assert_eq!(ours.try_write(&question).unwrap(), question.len());
        assert!(!ours.is_flushed(), "the socket takes less");
        let asked = async {
            let mut read = vec![0; 30_000];
            theirs.read_exact(&mut read).await.unwrap();
            theirs.write_all(b"answer").await.unwrap();
            theirs.flush().await.unwrap();
            assert!(read == question);
        };
        let mut answer = [0; 6];
        let both = async { tokio::join!(asked, ours.read_exact(&mut answer)).1 };
        let read = timeout(Duration::from_secs(20), both)
            .await
            .expect("an answer");
        assert_eq!((read.unwrap(), &answer), (6, b"answer"));
        assert!(ours.is_flushed());
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_not_taken_without_end() {
        let (mut ours, _theirs) = ends().await;
        let mut taken = 0;
        let refused = loop {
            assert!(taken < 256 * 1024, "{taken} with the socket's own");
            match ours.try_write(&[7; 10_000]) {
                Ok(length) => taken += length,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let waits = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut ours).poll_write(context, &[7]).is_pending())
        });
        assert!(waits.await);
    }

    #[tokio::test]
    async fn a_write_to_a_server_that_is_gone_is_an_error() {
        let (mut ours, theirs) = ends().await;
        drop(theirs);
        let error = ours.try_write(b"question").unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn tickets_are_silence_and_an_end_is_not() {
        let (mut ours, mut theirs) = ends().await;
        let mut byte = [0];
        let mut is_quiet = |ours: &mut Secured| {
            let read = ours.try_read(&mut byte);
            read.is_err_and(|error| is_wait(&error)) && ours.is_silent()
        };
        assert!(!ours.socket.is_silent(), "two tickets came");
        assert!(ours.is_silent());
        assert!(is_quiet(&mut ours));
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.flush().await.unwrap();
        assert!(!ours.socket.is_silent(), "new keys came");
        assert!(ours.is_silent());
        theirs.write_all(b"answer to nothing").await.unwrap();
        theirs.flush().await.unwrap();
        assert!(!ours.is_silent());
        let (mut ours, mut theirs) = ends().await;
        theirs.shutdown().await.unwrap();
        assert!(!ours.is_silent());
        let (mut ours, theirs) = ends().await;
        drop(theirs);
        assert!(!ours.is_silent());
    }
}
