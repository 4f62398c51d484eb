//! One request and its response on one connection.
//!
//! The head of the request is written at once, its body is sent piece by piece with back-pressure while the response is
//! already awaited, since a server may answer before it has read everything. What remains of an exchange when the response
//! head is there ([`Upload`], the [`Framing`] of the body) is driven by the body that the client reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use rustls::AlertDescription;
use tokio_util::io::poll_write_buf;

use super::head::{Asked, BadHead, MAX_HEAD, ResponseHead};
use super::upload::{Peer, Upload, UploadError};
use super::workspace::Workspace;
use crate::deadline::{Deadline, Ticks};
use crate::http1::read_buffer::{COPY_UP_TO, READ_SIZE};
use crate::http1::{BadFraming, Framing};
use crate::upstream::stream::Stream;
use crate::upstream::tls::{Fault, alert_in};

/// Informational responses skipped before a server counts as broken.
const MAX_INFORMATIONAL: u32 = 32;

/// A connection to a server. It carries one exchange at a time and is dropped after any doubt.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    /// Read, not yet decoded.
    pub(crate) unread: Bytes,
    /// Of the request head, what the socket did not take at once.
    unsent: Bytes,
    /// The server's side takes no more bytes. If it said why, the answer is on its way; if not, its end is.
    deaf: bool,
    /// Bytes of the request's body that were taken from the client.
    pub(crate) uploaded: u64,
    pub(crate) deadline: Deadline,
    /// The tick when it was opened.
    pub(crate) born: u64,
    /// The tick when it became idle last.
    pub(crate) idle_since: u64,
    /// Of the pool that it may go to: see [`Pool::renew`](crate::upstream::pool::Pool::renew).
    pub(crate) era: u32,
    /// Exchanges completed.
    pub(crate) exchanges: u32,
    /// How long the server keeps it open, by its own word.
    pub(crate) idle_limit: Option<Ticks>,
}

/// A response head, and the connection's state behind it.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: ResponseHead,
}

/// Whoever wants to know when a request that has a body is sent.
pub(crate) trait Sending {
    /// It takes longer than it must.
    fn delayed(&self);
    /// The server has all of it, or takes no more.
    fn sent(&self);
}

impl Sending for () {
    fn delayed(&self) {}
    fn sent(&self) {}
}

/// Why an exchange got no response head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// Not a byte of a response came. Such a request may be sent again if it is safe to.
    #[error("the server closed the connection without a response")]
    Closed(#[source] Option<io::Error>),
    /// The same, and TLS told why.
    #[error("{}", Fault::Alert(*.0))]
    Refused(AlertDescription),
    #[error("the connection ended within the response head")]
    Incomplete(#[source] Option<io::Error>),
    #[error("the server broke the protocol")]
    Head(#[from] BadHead),
    #[error("the server sent more than {MAX_INFORMATIONAL} informational responses")]
    Informational,
    #[error("the server sent no response in time")]
    ResponseTimeout,
    #[error("the server took no bytes of the request in time")]
    WriteTimeout,
    #[error("the exchange took longer than the route allows")]
    RouteTimeout,
    /// The client's fault, as are the two after it.
    #[error("the client broke off its request")]
    ClientBody(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the client sent no bytes of its request in time")]
    ClientStalled,
    #[error("the body of the request is larger than allowed")]
    BodyTooLarge,
}

impl Connection {
    pub(crate) fn new(stream: Stream, deadline: Deadline, now: u64) -> Self {
        Self {
            stream,
            unread: Bytes::new(),
            unsent: Bytes::new(),
            deaf: false,
            uploaded: 0,
            deadline,
            born: now,
            idle_since: now,
            era: 0,
            exchanges: 0,
            idle_limit: None,
        }
    }

    /// Whether an idle connection can still be used: nothing came on it, not even its end. Costs no system call unless
    /// something did.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0u8; 1];
        self.unread.is_empty()
            && matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same at the cost of a system call, for what must not be sent twice: the runtime learns of an end with a delay.
    pub(crate) fn is_quiet_for_sure(&mut self) -> bool {
        self.is_quiet() && self.stream.is_silent()
    }

    /// Closes it, with a word for the server where the protocol has one.
    pub(crate) fn close(&mut self) {
        self.stream.end();
    }

    /// Sends the head of a request; `false` if not a byte of it can be sent any more. Later errors show when the response
    /// is read: a server may have answered before it closed.
    pub(crate) fn send_head(&mut self, head: &[u8]) -> bool {
        self.uploaded = 0;
        let sent = match self.stream.try_write(head) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                // A body must not follow a head that is not there: its bytes would be read as a request.
                self.deaf = true;
                return false;
            }
        };
        if let Some(rest) = head.get(sent..).filter(|rest| !rest.is_empty()) {
            self.unsent = Bytes::copy_from_slice(rest);
        }
        true
    }

    fn poll_send_rest_of_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent.has_remaining() {
            if ready!(poll_write_buf(
                Pin::new(&mut self.stream),
                context,
                &mut self.unsent
            ))? == 0
            {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more behind what is unread; `false` at the end of the stream.
    pub(crate) fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        workspace: &Workspace,
        limit: usize,
    ) -> Poll<io::Result<bool>> {
        self.poll_read(context, workspace, limit, false)
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        workspace: &Workspace,
        limit: usize,
        brief: bool,
    ) -> Poll<io::Result<bool>> {
        self.let_go();
        let (bytes, read) = ready!(workspace.buffer.poll_read(
            &mut self.stream,
            context,
            &self.unread,
            limit,
            brief
        ))?;
        self.unread = bytes;
        Poll::Ready(Ok(read > 0))
    }

    /// Lets go of the buffer that nothing is left of: an empty slice would keep all of it.
    pub(crate) fn let_go(&mut self) {
        if self.unread.is_empty() {
            self.unread = Bytes::new();
        }
    }

    /// Moves what is unread out of the buffer that all connections share, unless it is most of a block of it: for whoever
    /// may keep it for long.
    pub(crate) fn unshare(&mut self) {
        if self.unread.len() <= COPY_UP_TO {
            self.unread = Bytes::copy_from_slice(&self.unread);
        }
    }

    /// Waits for the head of the final response while sending what is left of the request. The server has `response_timeout`
    /// for it from the moment when it has the whole request; if that has a body, `sending` is told.
    pub(crate) async fn receive<B>(
        &mut self,
        upload: &mut Option<Upload<B>>,
        sending: &impl Sending,
        asked: Asked,
        response_timeout: Ticks,
        route_deadline: Option<&Deadline>,
        workspace: &Workspace,
    ) -> Result<Received, ExchangeError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut informational = 0;
        let mut is_due = false;
        let has_body = upload.is_some();
        let mut is_delayed = false;
        std::future::poll_fn(|context| {
            self.poll_upload(context, upload)?;
            if !is_due && (upload.is_none() || self.deaf) {
                is_due = true;
                if has_body {
                    sending.sent();
                }
                self.deadline.arm(response_timeout);
            } else if !is_due && !is_delayed {
                is_delayed = true;
                sending.delayed();
            }
            if route_deadline.is_some_and(|deadline| deadline.poll_over(context).is_ready()) {
                return Poll::Ready(Err(ExchangeError::RouteTimeout));
            }
            self.poll_head(context, asked, workspace, &mut informational)
        })
        .await
    }

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        asked: Asked,
        workspace: &Workspace,
        informational: &mut u32,
    ) -> Poll<Result<Received, ExchangeError>> {
        loop {
            if !self.unread.is_empty()
                && let Some((length, head)) = workspace.parse(&self.unread, asked)?
            {
                self.unread.advance(length);
                if head.status.is_informational() && head.upgrade.is_none() {
                    *informational += 1;
                    if *informational > MAX_INFORMATIONAL {
                        return Poll::Ready(Err(ExchangeError::Informational));
                    }
                    continue;
                }
                self.deadline.disarm();
                return Poll::Ready(Ok(Received { head }));
            }
            self.unshare();
            // A head that trickles in is parsed again only when an end of a line came that may be its last.
            loop {
                let before = self.unread.len();
                let limit = if before == 0 {
                    READ_SIZE
                } else {
                    MAX_HEAD.saturating_sub(before).max(1)
                };
                match self.poll_read(context, workspace, limit, before == 0) {
                    Poll::Ready(Ok(true)) if before == 0 || may_end_head(&self.unread, before) => {
                        break;
                    }
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) => {
                        return Poll::Ready(Err(self.broken(
                            asked,
                            *informational,
                            None,
                            workspace,
                        )));
                    }
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(self.broken(
                            asked,
                            *informational,
                            Some(error),
                            workspace,
                        )));
                    }
                    Poll::Pending => {
                        ready!(self.deadline.poll_over(context));
                        return Poll::Ready(Err(ExchangeError::ResponseTimeout));
                    }
                }
            }
        }
    }

    /// The connection ended before there was a whole head.
    fn broken(
        &self,
        asked: Asked,
        informational: u32,
        error: Option<io::Error>,
        workspace: &Workspace,
    ) -> ExchangeError {
        if self.unread.is_empty() && informational == 0 {
            return match error.as_ref().and_then(alert_in) {
                Some(alert) => ExchangeError::Refused(alert),
                None => ExchangeError::Closed(error),
            };
        }
        // What came may have been wrong already; it is parsed only now and then.
        match workspace.parse(&self.unread, asked) {
            Err(bad) => ExchangeError::Head(bad),
            Ok(_) => ExchangeError::Incomplete(error),
        }
    }

    /// Sends more of the request, as far as it goes now. `upload` is taken out when all of it is sent; it stays when the
    /// server takes no more.
    pub(crate) fn poll_upload<B>(
        &mut self,
        context: &mut Context<'_>,
        upload: &mut Option<Upload<B>>,
    ) -> Result<(), ExchangeError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.deaf || (upload.is_none() && !self.unsent.has_remaining()) {
            return Ok(());
        }
        let head = self
            .poll_send_rest_of_head(context)
            .map_err(|_| UploadError::Server);
        let Some(sending) = upload else {
            self.deaf = matches!(head, Poll::Ready(Err(_)));
            return Ok(());
        };
        let progress = match head {
            Poll::Ready(Ok(())) => sending.poll(context, &mut self.stream),
            Poll::Pending => {
                sending.wait_for(Peer::Server);
                Poll::Pending
            }
            failed => failed,
        };
        self.uploaded = sending.received;
        match progress {
            Poll::Ready(Ok(())) => *upload = None,
            Poll::Ready(Err(UploadError::Client(error))) => return Err(error),
            Poll::Ready(Err(UploadError::Server)) => self.deaf = true,
            Poll::Pending if sending.is_stalled(context) => {
                return Err(match sending.waits_for {
                    Some(Peer::Client) => ExchangeError::ClientStalled,
                    Some(Peer::Server) | None => ExchangeError::WriteTimeout,
                });
            }
            Poll::Pending => {}
        }
        Ok(())
    }
}

/// Whether the bytes from `before` on, with those just before them, hold the end of an empty line.
fn may_end_head(bytes: &[u8], before: usize) -> bool {
    let tail = bytes.get(before.saturating_sub(3)..).unwrap_or(bytes);
    let mut ends = memchr::memchr_iter(b'\n', tail).filter_map(|end| tail.get(end + 1..));
    bytes.len() >= MAX_HEAD || ends.any(|next| next.starts_with(b"\n") || next.starts_with(b"\r\n"))
}

/// Why the body of a response broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the server broke the framing of its response")]
    Framing(#[from] BadFraming),
    #[error("the connection to the server failed within the response")]
    Connection(#[source] io::Error),
    #[error("the server sent nothing more of its response in time")]
    Stalled,
    #[error("the exchange took longer than the route allows")]
    RouteTimeout,
    #[error("its route, its listener or its server is gone, and so is its time to finish")]
    Drained,
    #[error("the request broke off while its response was sent")]
    Upload(#[source] Box<ExchangeError>),
    #[error("the response could not be encoded")]
    Encoding(#[source] io::Error),
    /// Whose fetch it was knows why.
    #[error("the response broke off that was fetched for several requests")]
    Fetch,
}

/// Whether a connection whose response ended this way may carry another one.
pub(crate) fn is_clean(connection: &mut Connection, framing: &Framing, keep_alive: bool) -> bool {
    keep_alive
        && framing.is_over()
        && connection.unread.is_empty()
        && !connection.unsent.has_remaining()
        && !connection.deaf
        && connection.stream.is_flushed()
}
