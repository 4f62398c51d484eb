//! Memory for responses that are on their way into the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much may be on its way at once, and is.
#[derive(Debug)]
pub(super) struct Fills {
    limit: u64,
    reserved: AtomicU64,
}

impl Fills {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            reserved: AtomicU64::new(0),
        }
    }

    /// `None`: too much is on its way.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if !self.add(bytes) {
            return None;
        }
        Some(Reservation {
            bytes,
            fills: Arc::clone(self),
        })
    }

    fn add(&self, bytes: u64) -> bool {
        let more = |reserved: u64| reserved.checked_add(bytes).filter(|&sum| sum <= self.limit);
        let added = self
            .reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        added.is_ok()
    }
}

/// Memory that one response has, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: u64,
    fills: Arc<Fills>,
}

impl Reservation {
    /// Adds to it. `false`: there is no more, and it stays as it is.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.fills.add(bytes);
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.fills.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
