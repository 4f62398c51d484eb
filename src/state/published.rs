//! Where the workers find the state that runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::State;
use crate::deadline::Clock;

/// Where the running `State` is published. Workers compare the generation, a cache line that only a reload writes, and
/// take the `State` itself only when that has changed.
pub(crate) struct Published {
    state: ArcSwap<State>,
    /// Those before that a request may still live with. To take one apart that has thousands of routes takes milliseconds,
    /// which no worker has: whoever publishes does it.
    replaced: Mutex<Vec<Arc<State>>>,
    generation: AtomicU64,
    pub(crate) clock: Clock,
}

impl Published {
    pub(crate) fn new(state: Arc<State>, clock: Clock) -> Self {
        Self {
            clock,
            state: ArcSwap::new(state),
            replaced: Mutex::default(),
            generation: AtomicU64::new(1),
        }
    }

    /// From here on every new request sees `state`. Returns how many there are now.
    pub(crate) fn publish(&self, state: Arc<State>) -> usize {
        let before = self.state.swap(state);
        let mut replaced = self.lock_replaced();
        replaced.push(before);
        self.generation.fetch_add(1, Ordering::Release);
        replaced.len() + 1
    }

    /// Lets go of what nobody lives with any more; returns how many are left. Not for a worker's thread.
    pub(crate) fn let_go(&self) -> usize {
        let mut replaced = self.lock_replaced();
        let (in_use, over): (Vec<_>, Vec<_>) = std::mem::take(&mut *replaced)
            .into_iter()
            .partition(|state| Arc::strong_count(state) > 1);
        *replaced = in_use;
        let left = replaced.len() + 1;
        drop(replaced);
        drop(over);
        left
    }

    fn lock_replaced(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with every publication.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }
}
