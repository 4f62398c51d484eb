//! One client connection as the proxy sees it: who is there, over what, and how far its exchanges are.
//!
//! The connection's task and its requests run on one thread and share this through an `Rc`. Here the clocks of a client
//! are kept: how long it may take for a head, be idle between requests, or take no bytes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::task::Poll;

use super::tunnel::Tunnel;
use crate::deadline::{Deadline, Ticks};
use crate::semantics::forwarded;
use crate::state::{ListenLimits, Listener};
use crate::telemetry::worker::ListenShard;

/// How long a connection that is to end waits for a request that may be on its way.
const DRAIN_IDLE: Ticks = Ticks(10);

/// The most body bytes of a response that wait to be written to an HTTP/1 client, while more of it can be read.
const WAITING_AT_MOST: u64 = 64 * 1024;

/// A client connection.
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    /// The number of its listener.
    pub(crate) listener: usize,
    pub(crate) tls: bool,
    pub(crate) http2: Cell<bool>,
    /// Field lines about this client, as servers get them where nothing in front of weir is trusted.
    pub(crate) forwarded: Forwarded,
    /// Fires when the client took too long for what it has to do now.
    pub(crate) deadline: Deadline,
    pub(crate) waits: Waits,
    pub(crate) shard: std::sync::Arc<ListenShard>,
    phase: Cell<Phase>,
    exchanges: Cell<u32>,
    /// The socket took not all that it was given.
    blocked: Cell<bool>,
    /// Response bytes were handed out that the connection has not written yet.
    unflushed: Cell<bool>,
    /// How many of them are of bodies.
    waiting: Cell<u64>,
    /// Body bytes that were handed out over HTTP/2 and have not left in DATA frames.
    unframed: Cell<u64>,
    /// A request was answered before it was read to its end: the connection cannot be reused, and closing it needs care.
    unread: Cell<bool>,
    /// The end of the connection would be taken for the end of a response that broke off.
    truncated: Cell<bool>,
    /// It is to end as soon as that cuts nothing.
    draining: Cell<bool>,
    /// It is to end now.
    condemned: Cell<bool>,
    /// What takes over the connection after a 101.
    tunnel: RefCell<Option<Box<Tunnel>>>,
}

/// How long the client may take for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) head: Ticks,
    pub(crate) stall: Ticks,
    pub(crate) keepalive: Ticks,
}

impl From<&ListenLimits> for Waits {
    fn from(limits: &ListenLimits) -> Self {
        Self {
            head: limits.header_timeout,
            stall: limits.stall_timeout,
            keepalive: limits.keepalive,
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handshake or the rest of a request head.
    Head,
    /// The next request.
    Idle,
    /// Us.
    Busy,
    /// Whoever has taken it over, a tunnel or its end: the clocks of a client do not run, `deadline` is theirs.
    Leaving,
}

/// Field lines that tell servers who the client is.
pub(crate) struct Forwarded {
    /// The address.
    pub(crate) address: Box<str>,
    /// `x-forwarded-for`, `x-real-ip` and `x-forwarded-proto`, each with its CRLF.
    pub(crate) lines: Box<[u8]>,
    /// `for=…;proto=…` of RFC 7239.
    pub(crate) element: Box<str>,
}

impl Forwarded {
    fn new(peer: SocketAddr, tls: bool) -> Self {
        let address = peer.ip().to_canonical().to_string();
        let scheme = if tls { "https" } else { "http" };
        let lines = format!(
            "x-forwarded-for: {address}\r\nx-real-ip: {address}\r\nx-forwarded-proto: {scheme}\r\n"
        );
        let element = format!(
            "for={};proto={scheme}",
            forwarded::forwarded_node(peer.ip())
        );
        Self {
            address: address.into(),
            lines: lines.into_bytes().into(),
            element: element.into(),
        }
    }
}

impl Client {
    pub(crate) fn new(
        peer: SocketAddr,
        listener: &Listener,
        shard: std::sync::Arc<ListenShard>,
        deadline: Deadline,
    ) -> Self {
        let waits = Waits::from(&listener.limits);
        deadline.arm(waits.head);
        let tls = listener.tls.is_some();
        Self {
            peer,
            listener: listener.number,
            tls,
            http2: Cell::new(false),
            forwarded: Forwarded::new(peer, tls),
            deadline,
            waits,
            shard,
            phase: Cell::new(Phase::Head),
            exchanges: Cell::new(0),
            blocked: Cell::new(false),
            unflushed: Cell::new(false),
            waiting: Cell::new(0),
            unframed: Cell::new(0),
            unread: Cell::new(false),
            truncated: Cell::new(false),
            draining: Cell::new(false),
            condemned: Cell::new(false),
            tunnel: RefCell::new(None),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Bytes came. Between requests, they begin the next head.
    pub(crate) fn bytes_read(&self, count: usize) {
        self.shard.received.add(count as u64);
        if self.phase.get() == Phase::Idle && !self.http2.get() {
            self.phase.set(Phase::Head);
            self.deadline.arm(self.waits.head);
        }
    }

    /// Bytes went out: it is not stuck.
    pub(crate) fn bytes_written(&self, count: usize) {
        self.shard.sent.add(count as u64);
        if self.blocked.replace(false) {
            self.rearm();
        }
    }

    /// The socket takes no more.
    pub(crate) fn write_blocked(&self) {
        if !self.blocked.replace(true) && self.phase.get() != Phase::Leaving {
            self.deadline.arm(self.waits.stall);
        }
    }

    /// All that was handed out is written.
    pub(crate) fn flushed(&self) {
        self.unflushed.set(false);
        self.waiting.set(0);
        if self.blocked.replace(false) {
            self.rearm();
        }
    }

    /// Body bytes were handed out.
    pub(crate) fn handed_out(&self, length: u64) {
        self.unflushed.set(true);
        self.waiting.set(self.waiting.get() + length);
        self.unframed.set(self.unframed.get() + length);
    }

    /// Body bytes left in DATA frames.
    pub(crate) fn framed(&self, length: u64) {
        self.unframed
            .set(self.unframed.get().saturating_sub(length));
    }

    /// Body bytes that wait in HTTP/2 streams for the client's windows, those of streams that were reset included.
    pub(crate) fn unframed(&self) -> u64 {
        self.unframed.get()
    }

    /// Ready when nothing that was handed out waits to be written. Only HTTP/1 connections hold back: an HTTP/2 stream is
    /// held back by its window. Whoever writes asks the body again after each flush.
    pub(crate) fn poll_flushed(&self) -> Poll<()> {
        if self.http2.get() || !self.unflushed.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether the last `rest` bytes of a response may join what waits to be written: one system call for both.
    pub(crate) fn may_join(&self, rest: Option<u64>) -> bool {
        rest.is_some_and(|rest| self.waiting.get().saturating_add(rest) <= WAITING_AT_MOST)
    }

    /// Whether everything is written and nothing is being answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase.get() == Phase::Idle && !self.unflushed.get() && !self.blocked.get()
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.exchanges.set(self.exchanges.get() + 1);
        self.phase.set(Phase::Busy);
        self.unflushed.set(true);
        // There is another head, so the end of the request before was found: what little was left of it had come.
        self.unread.set(false);
        if !self.blocked.get() {
            self.deadline.disarm();
        }
    }

    /// A request is over, its response handed out.
    pub(crate) fn end(&self) {
        let left = self.exchanges.get().saturating_sub(1);
        self.exchanges.set(left);
        if left == 0 && self.phase.get() != Phase::Leaving {
            self.phase.set(Phase::Idle);
            if !self.blocked.get() {
                self.deadline.arm(self.idle_wait());
            }
        }
    }

    /// How long to look at an idle connection before something is done about it.
    fn idle_wait(&self) -> Ticks {
        if self.draining.get() {
            DRAIN_IDLE
        } else {
            self.waits.keepalive
        }
    }

    /// The handshake is done, or the beginning of the next request is here: a head is next.
    pub(crate) fn expect_head(&self) {
        self.phase.set(Phase::Head);
        self.deadline.arm(self.waits.head);
    }

    /// An HTTP/2 connection without streams.
    pub(crate) fn expect_streams(&self) {
        self.http2.set(true);
        self.phase.set(Phase::Idle);
        self.deadline.arm(self.waits.keepalive);
    }

    fn rearm(&self) {
        match self.phase.get() {
            Phase::Head => self.deadline.arm(self.waits.head),
            Phase::Idle => self.deadline.arm(self.idle_wait()),
            Phase::Busy => self.deadline.disarm(),
            Phase::Leaving => {}
        }
    }

    /// The exchange of requests and responses is over; whoever goes on keeps the time by `deadline`.
    pub(crate) fn leave(&self) {
        self.phase.set(Phase::Leaving);
        self.deadline.disarm();
    }

    /// The rest of a request will not be read.
    pub(crate) fn leave_unread(&self) {
        self.unread.set(true);
    }

    /// A response broke off whose end only the end of the connection tells (HTTP/1.0).
    pub(crate) fn truncated(&self) {
        self.truncated.set(true);
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated.get()
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.unread.get()
    }

    /// The connection is to end as soon as that cuts nothing off.
    pub(crate) fn drain(&self) {
        if !self.draining.replace(true) {
            if matches!(self.phase.get(), Phase::Head | Phase::Idle) {
                self.deadline.arm(DRAIN_IDLE);
            }
            self.deadline.wake();
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The connection is to end at once.
    pub(crate) fn condemn(&self) {
        self.condemned.set(true);
        self.deadline.wake();
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.condemned.get()
    }

    /// After the 101 that is being written, this takes over.
    pub(crate) fn switch_to(&self, tunnel: Box<Tunnel>) {
        self.tunnel.replace(Some(tunnel));
    }

    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }
}
