//! What the store holds now. Counted where things come into being and where they end, not in the map: what was taken out
//! of that lives on for as long as somebody looks at it. Not counted are the bytes of a body that is let go while it is being
//! sent: each connection may hold one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::notification::RemovalCause;

use super::tags::Tagged;

/// Counts, for all of one store.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bytes: AtomicU64,
    evicted: AtomicU64,
    expired: AtomicU64,
}

impl Ledger {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, cause: RemovalCause) {
        let count = match cause {
            RemovalCause::Size => &self.evicted,
            RemovalCause::Expired => &self.expired,
            RemovalCause::Explicit | RemovalCause::Replaced => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Resources that went to make room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Resources that went because nothing of them could be used any more.
    pub(super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }
}

/// A part of what is held, for as long as this lives.
#[derive(Debug)]
pub(super) struct Share {
    bytes: AtomicU64,
    ledger: Arc<Ledger>,
}

impl Share {
    pub(super) fn new(ledger: &Arc<Ledger>, bytes: u64) -> Self {
        ledger.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self {
            bytes: AtomicU64::new(bytes),
            ledger: Arc::clone(ledger),
        }
    }

    pub(super) fn resize(&self, bytes: u64) {
        // The order lets the sum be too large for a moment, never less than nothing.
        self.ledger.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        self.ledger.bytes.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.ledger.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A variant that is held, by all resources that it is handed on to.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) share: Share,
    /// Found by its tags.
    pub(super) tagged: Option<Tagged>,
}
