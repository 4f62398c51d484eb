//! The clock of one HTTP/2 stream: runs while response bytes were handed out and the next are not asked for, because the
//! client's window is shut.
//!
//! hyper neither tells a body which task drives it nor when its bytes are gone, so the task announces its clock while it
//! is being polled; the body, polled inside, finds it here.

use std::cell::RefCell;
use std::task::{Context, Poll};

use crate::deadline::{Deadline, Ticks};

thread_local! {
    static CURRENT: RefCell<Option<StreamClock>> = const { RefCell::new(None) };
}

/// How long bytes of one stream may wait for its client. Its clones are the same clock.
#[derive(Clone)]
pub(crate) struct StreamClock {
    deadline: Deadline,
    stall: Ticks,
}

impl StreamClock {
    pub(crate) fn new(deadline: Deadline, stall: Ticks) -> Self {
        Self { deadline, stall }
    }

    /// Ready when the bytes have waited for too long.
    pub(crate) fn poll_over(&self, context: &Context<'_>) -> Poll<()> {
        self.deadline.poll_over(context)
    }
}

/// Until the result is dropped, `clock` is that of the current stream.
pub(crate) fn enter(clock: StreamClock) -> Entered {
    Entered(CURRENT.with(|current| current.replace(Some(clock))))
}

/// Restores the clock that was current before.
pub(crate) struct Entered(Option<StreamClock>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with(|current| current.replace(self.0.take()));
    }
}

/// Whether a stream is being polled on this thread.
#[cfg(test)]
pub(crate) fn is_entered() -> bool {
    CURRENT.with(|current| current.borrow().is_some())
}

/// Bytes of the current stream were handed out.
pub(crate) fn handed_out() {
    CURRENT.with(|current| {
        if let Some(clock) = &*current.borrow() {
            clock.deadline.arm(clock.stall);
        }
    });
}

/// More bytes of the current stream are asked for: those before are gone.
pub(super) fn asked() {
    CURRENT.with(|current| {
        if let Some(clock) = &*current.borrow() {
            clock.deadline.disarm();
        }
    });
}
