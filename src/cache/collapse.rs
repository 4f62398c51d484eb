//! Many who ask for the same at the same time, and one fetch for all of them.
//!
//! Where a fetch fails, those who waited for it ask again: first one of them, and if that fails too two, then four, each for
//! itself and for those who still wait. So a server in trouble is not run down, and nobody waits in a line of one.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::fetch::{Broken, Fetch, Follow, Outcome};

/// So many locks share the keys.
const SHARDS: usize = 16;
/// Who has waited in vain more often than that goes alone.
const MOST_FAILURES: u32 = 6;

/// The fetches that are under way.
#[derive(Debug)]
pub(crate) struct Fetches {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// All of them, also those that nobody can join.
    under_way: AtomicUsize,
}

/// By key and variant, one behind the other: no key holds a byte that a variant begins with.
type Shard = HashMap<Box<[u8]>, Slot, RandomState>;

#[derive(Debug)]
struct Slot {
    /// How much of the name is the key.
    key: usize,
    fetches: SmallVec<[Arc<Fetch>; 1]>,
}

/// A request has its place in a fetch.
pub(crate) enum Joined {
    /// It is to make it.
    Lead(Lead, Follow),
    /// Another does.
    Follow(Follow),
}

impl Default for Fetches {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::default(),
            under_way: AtomicUsize::new(0),
        }
    }
}

impl Fetches {
    /// Joins the fetch of a variant of `key`, or begins one. `failures` tells how many this request has waited for in vain.
    pub(crate) fn join(self: &Arc<Self>, key: &[u8], variant: &[u8], failures: u32) -> Joined {
        if failures > MOST_FAILURES {
            return self.alone();
        }
        let name = [key, variant].concat();
        let mut shard = self.shard(&name);
        let width = 1_usize << failures;
        if let Some(slot) = shard.get(&*name)
            && slot.fetches.len() >= width
            && let Some(last) = slot.fetches.last()
        {
            return Joined::Follow(last.follow());
        }
        let fetch = Arc::new(Fetch::default());
        let follow = fetch.follow();
        let slot = shard.entry(name.clone().into()).or_insert_with(|| Slot {
            key: key.len(),
            fetches: SmallVec::new(),
        });
        slot.fetches.push(Arc::clone(&fetch));
        Joined::Lead(self.lead(fetch, Some(name.into())), follow)
    }

    /// Begins a fetch of a variant of `key` that nobody waits for, unless one is under way.
    pub(crate) fn in_background(self: &Arc<Self>, key: &[u8], variant: &[u8]) -> Option<Lead> {
        let name = [key, variant].concat();
        let mut shard = self.shard(&name);
        if shard.contains_key(&*name) {
            return None;
        }
        let fetch = Arc::new(Fetch::default());
        fetch.run_in_background();
        let slot = Slot {
            key: key.len(),
            fetches: SmallVec::from_elem(Arc::clone(&fetch), 1),
        };
        shard.insert(name.clone().into(), slot);
        Some(self.lead(fetch, Some(name.into())))
    }

    /// Begins a fetch for one request that no other can join.
    pub(crate) fn alone(self: &Arc<Self>) -> Joined {
        let fetch = Arc::new(Fetch::default());
        let follow = fetch.follow();
        Joined::Lead(self.lead(fetch, None), follow)
    }

    fn lead(self: &Arc<Self>, fetch: Arc<Fetch>, listed: Option<Box<[u8]>>) -> Lead {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Lead {
            fetch,
            fetches: Arc::clone(self),
            listed,
        }
    }

    /// Nobody joins those under way any more whose key `is_meant`: what they bring was asked for too early.
    pub(crate) fn detach(&self, is_meant: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            locked(shard).retain(|name, slot| !name.get(..slot.key).is_some_and(&is_meant));
        }
    }

    /// How many are under way.
    pub(crate) fn count(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    fn listed(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    fn shard(&self, name: &[u8]) -> MutexGuard<'_, Shard> {
        let number = self.hasher.hash_one(name) as usize % SHARDS;
        locked(&self.shards[number])
    }

    /// Takes a fetch off the list; if `only_deserted`, not if somebody waits for it.
    fn remove(&self, name: &[u8], fetch: &Arc<Fetch>, only_deserted: bool) -> bool {
        let mut shard = self.shard(name);
        if only_deserted && !fetch.is_deserted() {
            return false;
        }
        if let Some(slot) = shard.get_mut(name) {
            slot.fetches.retain(|other| !Arc::ptr_eq(other, fetch));
            if slot.fetches.is_empty() {
                shard.remove(name);
            }
        }
        true
    }
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one who makes a fetch. Dropped before it is over, the fetch has failed.
pub(crate) struct Lead {
    fetch: Arc<Fetch>,
    fetches: Arc<Fetches>,
    /// Under what others find it.
    listed: Option<Box<[u8]>>,
}

impl Lead {
    /// The response may be used by others; its body follows.
    pub(crate) fn coming(&self, outcome: Arc<super::Resource>) {
        self.fetch.decide(Outcome::Coming(outcome));
    }

    pub(crate) fn push(&self, piece: Bytes) {
        self.fetch.push(piece);
    }

    /// All that came so far.
    pub(crate) fn pieces(&self) -> Vec<Bytes> {
        self.fetch.pieces()
    }

    /// It is not to be kept after all.
    pub(crate) fn pass(&mut self) {
        self.unlist();
        self.fetch.pass();
    }

    /// It is over, with all that others may know.
    pub(crate) fn decide(mut self, outcome: Outcome) {
        self.unlist();
        self.fetch.decide(outcome);
    }

    /// The body is complete, and whoever comes now finds it in the store.
    pub(crate) fn complete(mut self) {
        self.unlist();
        self.fetch.end(Ok(()));
    }

    /// Ready when another piece may be pushed.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        self.fetch.poll_room(context)
    }

    /// Notes how far everybody is, for [`Self::let_go_of_stalled`].
    pub(crate) fn look(&self) {
        self.fetch.look();
    }

    /// Lets go of those who have taken nothing since, though there is something, if anybody has taken all.
    pub(crate) fn let_go_of_stalled(&self) {
        self.fetch.let_go_of_stalled();
    }

    /// Ready when nobody waits any more, and nobody will.
    pub(crate) fn poll_deserted(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.fetch.poll_deserted(context).is_pending() {
            return Poll::Pending;
        }
        let Some(name) = &self.listed else {
            return Poll::Ready(());
        };
        // Somebody may have come just now.
        if self.fetches.remove(name, &self.fetch, true) {
            self.listed = None;
            return Poll::Ready(());
        }
        self.fetch.poll_deserted(context)
    }

    fn unlist(&mut self) {
        if let Some(name) = self.listed.take() {
            self.fetches.remove(&name, &self.fetch, false);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.unlist();
        if !self.fetch.is_over() {
            self.fetch.end(Err(Broken));
        }
        self.fetches.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
