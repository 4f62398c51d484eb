//! The rest of an exchange with a server: what it still sends, and what it is still sent.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::Proxy;
use super::client::Client;
use super::flight::Flight;
use super::local::LocalServer;
use super::request_body::RequestBody;
use super::running::Running;
use crate::deadline::Ticks;
use crate::http1::read_buffer::READ_SIZE;
use crate::http1::{BadFraming, Decoded, Framing};
use crate::semantics::trailers;
use crate::telemetry::labels::Outcome;
use crate::upstream::ejection::Cause;
use crate::upstream::http1::exchange::{BodyError, is_clean};
use crate::upstream::http1::{Connection, Upload};

/// The least that is read of a body before its head is sent.
const READ_AHEAD: usize = 4 * 1024;

/// The rest of an exchange with a server.
pub(crate) struct UpstreamBody {
    pub(crate) connection: Option<Box<Connection>>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    /// The rest of the request, where the response came first.
    pub(crate) upload: Option<Upload<RequestBody>>,
    /// Bytes of the request that had been taken when the connection was let go.
    pub(crate) uploaded: u64,
    /// How the connection ended, while bytes before that wait to be written: `Ok` where the server closed it.
    pub(crate) end: Option<io::Result<bool>>,
    /// Silence allowed between two pieces.
    pub(crate) stall: Ticks,
    /// It may go on for ever.
    pub(crate) is_stream: bool,
    /// Weir ended it.
    pub(crate) is_drained: bool,
    pub(crate) running: Running,
    pub(crate) flight: Option<Flight>,
    pub(crate) record_client: Rc<Client>,
    pub(crate) proxy: Rc<Proxy>,
}

impl UpstreamBody {
    pub(super) fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    pub(super) fn uploaded(&self) -> u64 {
        self.connection
            .as_ref()
            .map_or(self.uploaded, |connection| connection.uploaded)
    }

    /// The next frame. `ahead` tells how much is wanted before the head is sent, where that is so.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        ahead: Option<usize>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let step = ready!(self.poll_step(context, ahead));
        Poll::Ready(match step {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => None,
            Err(error) => {
                self.fail(&error);
                Some(Err(error))
            }
        })
    }

    fn poll_step(
        &mut self,
        context: &mut Context<'_>,
        ahead: Option<usize>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(Ok(None));
            };
            if self.upload.is_some() {
                connection
                    .poll_upload(context, &mut self.upload)
                    .map_err(|error| BodyError::Upload(Box::new(error)))?;
            }
            if self.running.poll_over(context).is_ready() {
                return Poll::Ready(self.time_is_over().map(|()| None));
            }
            match self.framing.decode(&mut connection.unread)? {
                Decoded::Data(data) => {
                    if self.framing.is_over() {
                        self.finish();
                    }
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Decoded::Trailers(fields) => {
                    self.finish();
                    return Poll::Ready(Ok(Some(Frame::trailers(allowed(fields)))));
                }
                Decoded::End => {
                    self.finish();
                    return Poll::Ready(Ok(None));
                }
                Decoded::More => {}
            }
            // While what was handed out waits to be written, the client is slower than the server: more has to wait too,
            // and so has whatever went wrong, which would take the place of those bytes.
            // Of a response whose head is not sent yet, nothing was.
            if ahead.is_none()
                && (self.end.is_some() || !self.record_client.may_join(self.framing.remaining()))
            {
                ready!(self.record_client.poll_flushed());
            }
            let limit = match ahead {
                Some(ahead) => ahead.clamp(READ_AHEAD, READ_SIZE),
                None if self.record_client.http2.get() => READ_SIZE / 2,
                None => READ_SIZE,
            };
            let read = match self.end.take() {
                Some(end) => Poll::Ready(end),
                None => connection.poll_more(context, &self.proxy.workspace, limit),
            };
            match read {
                Poll::Ready(Ok(true)) => connection.deadline.disarm(),
                Poll::Ready(end)
                    if ahead.is_none() && self.record_client.poll_flushed().is_pending() =>
                {
                    self.end = Some(end);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(false)) => {
                    self.framing.end_of_input()?;
                    self.keep_alive = false;
                    self.finish();
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(BodyError::Connection(error))),
                Poll::Pending => {
                    if !connection.deadline.is_armed() {
                        connection.deadline.arm(self.stall);
                    }
                    ready!(connection.deadline.poll_over(context));
                    return Poll::Ready(Err(BodyError::Stalled));
                }
            }
        }
    }

    /// The response is over: the connection is free, if nothing on it is in doubt.
    fn finish(&mut self) {
        let flight = self.flight.take();
        let (Some(connection), Some(mut flight)) = (self.connection.take(), flight) else {
            return;
        };
        flight.completed();
        self.uploaded = connection.uploaded;
        // An upload that is not over is left to the drop.
        if self.upload.is_none() {
            settle(
                connection,
                &self.framing,
                self.keep_alive,
                flight.server(),
                &self.proxy,
            );
        }
    }

    /// An event stream has no end of its own to be missed: what it has sent is whole. Everything else is broken off.
    fn time_is_over(&mut self) -> Result<(), BodyError> {
        if !self.running.is_leaving() {
            return Err(BodyError::RouteTimeout);
        }
        if !self.is_stream || self.framing.remaining().is_some() {
            return Err(BodyError::Drained);
        }
        self.is_drained = true;
        self.keep_alive = false;
        self.finish();
        Ok(())
    }

    fn fail(&mut self, error: &BodyError) {
        self.uploaded = self.uploaded();
        self.connection = None;
        if let Some(mut flight) = self.flight.take() {
            let (outcome, cause) = match error {
                BodyError::Framing(BadFraming::Truncated) | BodyError::Connection(_) => {
                    (Outcome::Reset, Some(Cause::Reset))
                }
                BodyError::Framing(_) => (Outcome::Protocol, Some(Cause::Protocol)),
                BodyError::Stalled => (Outcome::Timeout, Some(Cause::TimedOut)),
                // The client may have been the slow one.
                BodyError::RouteTimeout => (Outcome::Timeout, None),
                BodyError::Drained
                | BodyError::Upload(_)
                | BodyError::Encoding(_)
                | BodyError::Fetch => (Outcome::Canceled, None),
            };
            flight.failed(outcome, cause);
        }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if self
            .upload
            .as_ref()
            .is_some_and(|upload| !upload.is_read_whole())
        {
            self.record_client.leave_unread();
        }
    }
}

/// Puts a connection back into its pool, or closes it.
pub(crate) fn settle(
    mut connection: Box<Connection>,
    framing: &Framing,
    keep_alive: bool,
    server: &LocalServer,
    proxy: &Proxy,
) {
    if is_clean(&mut connection, framing, keep_alive) {
        server.pool.put(connection, proxy.deadlines.now());
    }
}

fn allowed(fields: HeaderMap) -> HeaderMap {
    let forbidden: Vec<_> = fields
        .keys()
        .filter(|name| !trailers::may_follow(name))
        .cloned()
        .collect();
    let mut fields = fields;
    for name in forbidden {
        fields.remove(name);
    }
    fields
}
