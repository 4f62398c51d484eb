//! The two directions of a connection: what was read and not used yet, where the body of the current request ends, and
//! what waits to be written.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::Rules;
use super::bad_head::BadHead;
use super::head::{is_whole, skip_empty_lines};
use super::output::Output;
use super::workbench::Workbench;
use crate::http1::{BadFraming, Decoded, Framing};
use crate::proxy::Proxy;
use crate::proxy::client::{Client, Phase};
use crate::proxy::request_body::{BadBody, Http1Body, RequestBody, Source};

/// What one read takes of what a client sends, at most, and so what it may have in memory while a server is slow.
const READ: usize = 16 * 1024;
/// What one read takes behind what is here already, at least.
const LEAST_READ: usize = 1024;
/// So much of a request that nobody reads is read for the sake of the connection.
const LEFT_OVER: usize = 64 * 1024;
/// So many bytes show whether what comes may be a request.
const LOOKED_AT: usize = 64;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection, shared with the body of the request that it carries now.
pub(crate) struct Wire<S> {
    proxy: Rc<Proxy>,
    client: Rc<Client>,
    bench: Rc<Workbench>,
    state: RefCell<State<S>>,
}

struct State<S> {
    stream: S,
    /// Read and not used yet.
    input: Bytes,
    /// So much of it was searched for the end of a head.
    searched: usize,
    /// The client has ended its side, or broken off.
    is_ended: bool,
    /// Of the current request: which one it is, what is left of its body, and whether the client waits for a 100.
    number: u64,
    framing: Framing,
    expects: bool,
    is_writing_100: bool,
    output: Output,
}

/// Why there is no other request.
pub(super) enum NoHead {
    /// The client has ended the connection.
    Ended,
    Bad(BadHead),
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Wire<S> {
    /// `input` was read from `stream` already.
    pub(crate) fn new(
        (proxy, client, bench): (&Rc<Proxy>, &Rc<Client>, &Rc<Workbench>),
        stream: S,
        input: Bytes,
    ) -> Self {
        Self {
            proxy: Rc::clone(proxy),
            client: Rc::clone(client),
            bench: Rc::clone(bench),
            state: RefCell::new(State {
                stream,
                input,
                searched: 0,
                is_ended: false,
                number: 0,
                framing: Framing::NONE,
                expects: false,
                is_writing_100: false,
                output: Output::default(),
            }),
        }
    }

    /// The connection, and what was read of it and not used.
    pub(crate) fn into_parts(self) -> (S, Bytes) {
        let state = self.state.into_inner();
        (state.stream, state.input)
    }

    /// What begins with the whole head of the next request.
    pub(super) fn poll_head(
        &self,
        context: &mut Context<'_>,
        rules: &Rules,
    ) -> Poll<Result<Bytes, NoHead>> {
        let state = &mut *self.state.borrow_mut();
        loop {
            if state.searched == 0 {
                state.skip_empty_lines();
            }
            if is_whole(&state.input, &mut state.searched) {
                state.searched = 0;
                return Poll::Ready(Ok(std::mem::take(&mut state.input)));
            }
            if !state.input.is_empty() {
                if state.input.len() > rules.max_head {
                    return Poll::Ready(Err(NoHead::Bad(rules.too_large(&state.input))));
                }
                // What is no request need not go on for long.
                if state.input != b"\r"[..] && !begins_as_request(&state.input) {
                    return Poll::Ready(Err(NoHead::Bad(BadHead::Line)));
                }
                // It came with the request before: its time runs.
                if self.client.phase() == Phase::Idle {
                    self.client.expect_head();
                }
            }
            if !ready!(state.poll_read(context, &self.bench)) {
                return Poll::Ready(Err(NoHead::Ended));
            }
        }
    }

    /// The request of a head begins, behind which `rest` was read. Its body comes from here.
    pub(super) fn begin(
        self: &Rc<Self>,
        rest: Bytes,
        framing: Framing,
        expects: bool,
    ) -> RequestBody {
        let state = &mut *self.state.borrow_mut();
        state.input = rest;
        state.number += 1;
        state.framing = framing;
        state.expects = expects;
        if state.framing.is_over() {
            return RequestBody::None;
        }
        let source: Rc<dyn Source> = Rc::clone(self) as Rc<dyn Source>;
        RequestBody::Http1(Http1Body {
            source,
            number: state.number,
        })
    }

    /// The response begins, and no 100 can come before it any more. Whether the client may wait for one, so that nobody knows
    /// what it sends next.
    pub(super) fn answers(&self) -> bool {
        std::mem::take(&mut self.state.borrow_mut().expects)
    }

    /// The request is over. Whether the next one can be found: all of this one's body was read, or what is left of it is
    /// here.
    pub(super) fn ends_in_step(&self, context: &mut Context<'_>) -> bool {
        let is_in_step = self.reads_left_over(context);
        if !is_in_step {
            self.client.leave_unread();
        }
        is_in_step
    }

    fn reads_left_over(&self, context: &mut Context<'_>) -> bool {
        let state = &mut *self.state.borrow_mut();
        // No body is read any more for it.
        state.number += 1;
        let mut left = LEFT_OVER;
        loop {
            if state.framing.is_over() {
                return true;
            }
            match state.framing.decode(&mut state.input) {
                Ok(Decoded::Data(data)) if data.len() <= left => left -= data.len(),
                Ok(Decoded::Trailers(_) | Decoded::End) => {}
                Ok(Decoded::More) if !state.expects => {
                    match state.poll_read(context, &self.bench) {
                        Poll::Ready(true) => {}
                        Poll::Ready(false) | Poll::Pending => return false,
                    }
                }
                Ok(Decoded::More | Decoded::Data(_)) | Err(_) => return false,
            }
        }
    }

    /// Ready when the client has gone while it is answered. It does not show behind what was sent and not read yet.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.is_ended {
            return Poll::Ready(());
        }
        if !state.framing.is_over() {
            return Poll::Pending;
        }
        loop {
            state.skip_empty_lines();
            if !state.input.is_empty() {
                return Poll::Pending;
            }
            if !ready!(state.poll_read(context, &self.bench)) {
                return Poll::Ready(());
            }
        }
    }

    /// Has something put into what is written next.
    pub(super) fn write<T>(&self, write: impl FnOnce(&mut Output) -> T) -> T {
        write(&mut self.state.borrow_mut().output)
    }

    /// The worker whose connection it is.
    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// What the connections of that worker share.
    pub(super) fn bench(&self) -> &Workbench {
        &self.bench
    }

    /// Takes a buffer to write into.
    pub(super) fn take_buffer(&self) {
        let output = &mut self.state.borrow_mut().output;
        if output.len() == 0 {
            *output.bytes() = self.bench.buffer();
        }
    }

    /// Gives it back, if nothing waits to be written.
    pub(super) fn give_buffer_back(&self) {
        let output = &mut self.state.borrow_mut().output;
        if output.len() == 0 {
            self.bench.keep_buffer(std::mem::take(output.bytes()));
        }
    }

    /// So many bytes wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.state.borrow().output.len()
    }

    /// Whether all that was handed out has left; not even a TLS session holds some of it.
    pub(super) fn is_flushed(&self) -> bool {
        self.client.poll_flushed().is_ready()
    }

    /// Writes what waits. Ready when all of it has left.
    pub(super) fn poll_written(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State { stream, output, .. } = &mut *self.state.borrow_mut();
        ready!(output.poll_write(context, stream))?;
        Pin::new(stream).poll_flush(context)
    }

    /// Writes the rest of a 100 that there was no room for.
    pub(super) fn go_on_with_100(&self, context: &mut Context<'_>) {
        let state = &mut *self.state.borrow_mut();
        if state.is_writing_100 {
            state.poll_100(context);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    /// Reads more behind what is here; `false` where the client has ended its side.
    fn poll_read(&mut self, context: &mut Context<'_>, bench: &Workbench) -> Poll<bool> {
        let read = if self.input.is_empty() {
            let buffer = &bench.read;
            let read = buffer.poll_read(&mut self.stream, context, &[], READ, false);
            read.map_ok(|(bytes, read)| {
                self.input = bytes;
                read
            })
        } else {
            // In place: what comes byte by byte is not to be copied for each of them.
            let input = std::mem::take(&mut self.input).try_into_mut();
            let mut input = input.unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            input.reserve(input.len().clamp(LEAST_READ, READ));
            let read = poll_read_buf(Pin::new(&mut self.stream), context, &mut input);
            self.input = input.freeze();
            read
        };
        let read = ready!(read).unwrap_or(0);
        self.is_ended |= read == 0;
        Poll::Ready(read > 0)
    }

    /// Writes a 100. If there is no room now, whoever waits for the response goes on.
    fn poll_100(&mut self, context: &mut Context<'_>) {
        let written = self.output.poll_write(context, &mut self.stream);
        self.is_writing_100 = match written {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_flush(context).is_pending(),
            // It shows again to whoever writes the response.
            Poll::Ready(Err(_)) => false,
            Poll::Pending => true,
        };
    }

    /// Skips the empty lines before a request.
    fn skip_empty_lines(&mut self) {
        if !self.input.is_empty() {
            let rest = skip_empty_lines(&self.input).len();
            self.input.advance(self.input.len() - rest);
            self.drop_empty_input();
        }
    }

    /// Empty, it would keep all that it was cut from.
    fn drop_empty_input(&mut self) {
        if self.input.is_empty() {
            self.input = Bytes::new();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Source for Wire<S> {
    fn poll_body(
        &self,
        number: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BadBody>>> {
        let state = &mut *self.state.borrow_mut();
        if state.number != number {
            // It was left before its end.
            return Poll::Ready(Some(Err(BadFraming::Truncated.into())));
        }
        loop {
            let decoded = state.framing.decode(&mut state.input);
            state.drop_empty_input();
            match decoded {
                Ok(Decoded::Data(data)) => {
                    // It does not wait for a 100.
                    state.expects = false;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Decoded::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(bad) => return Poll::Ready(Some(Err(bad.into()))),
            }
            if state.is_ended {
                return Poll::Ready(Some(Err(BadFraming::Truncated.into())));
            }
            if std::mem::take(&mut state.expects) {
                state.output.bytes().extend_from_slice(CONTINUE);
                state.poll_100(context);
            }
            ready!(state.poll_read(context, &self.bench));
        }
    }

    fn is_over(&self, number: u64) -> bool {
        let state = self.state.borrow();
        state.number == number && state.framing.is_over()
    }

    fn left(&self, number: u64) -> Option<u64> {
        let state = self.state.borrow();
        let framing = Some(&state.framing).filter(|_| state.number == number);
        framing.and_then(Framing::remaining)
    }
}

/// Whether that may become a request: up to the first blank, it is a method (RFC 9110 §5.6.2). Looks at its beginning only,
/// again with each read.
fn begins_as_request(bytes: &[u8]) -> bool {
    let method = bytes.split(|&byte| byte == b' ').next();
    let mut method = method.into_iter().flatten().take(LOOKED_AT);
    method.all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_shows_with_its_first_bytes() {
        for bytes in ["G", "GET", "GET /", "M-SEARCH * ", "x!#$%&'*+.^_`|~ /"] {
            assert!(begins_as_request(bytes.as_bytes()), "{bytes}");
        }
        for bytes in ["\x16\x03\x01", "\0", "SSH-2.0-x\r\n", "G(T", "/ ", "{}"] {
            assert!(!begins_as_request(bytes.as_bytes()), "{bytes:?}");
        }
    }
}
