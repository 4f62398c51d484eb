//! What was purged lately, so that a response that was asked for before is not stored afterwards: the server may have made
//! it from what the purge was about.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::purge::Matcher;
use super::tags::Tags;

/// A point between two purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

/// The purges of one store.
///
/// Unsafe methods purge keys as often as clients send them (RFC 9111 §4.4), so keys and tags are not listed: of each, the
/// number of its last purge stands in a table of fixed size, at a place that it may share with others. Two that meet
/// there cost a response that is not stored.
#[derive(Debug)]
pub(super) struct Purged {
    last: AtomicU64,
    /// The last one of everything.
    everything: AtomicU64,
    places: Box<[AtomicU64]>,
    hasher: RandomState,
    /// What asks about a prefix is an operator: a list will do.
    prefixes: Mutex<VecDeque<(u64, Box<[u8]>)>>,
    last_prefix: AtomicU64,
    /// The newest one that the list has no more room for.
    forgotten: AtomicU64,
}

impl Purged {
    pub(super) fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
            prefixes: Mutex::default(),
            last_prefix: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.last.load(Ordering::SeqCst))
    }

    pub(super) fn record(&self, what: &Matcher<'_>) {
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        match what {
            Matcher::Keys(keys) => {
                for key in *keys {
                    self.place(KEY, key).fetch_max(number, Ordering::SeqCst);
                }
            }
            Matcher::Tag(tag) => {
                self.place(TAG, tag).fetch_max(number, Ordering::SeqCst);
            }
            Matcher::Everything => {
                self.everything.fetch_max(number, Ordering::SeqCst);
            }
            Matcher::Prefix(prefix) => {
                let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
                if prefixes.len() == PREFIXES
                    && let Some((forgotten, _)) = prefixes.pop_front()
                {
                    self.forgotten.fetch_max(forgotten, Ordering::SeqCst);
                }
                prefixes.push_back((number, prefix.as_slice().into()));
                self.last_prefix.fetch_max(number, Ordering::SeqCst);
            }
        }
    }

    /// Whether a response of this key with these tags was purged after that.
    pub(super) fn hit(&self, since: Epoch, key: &[u8], tags: &Tags) -> bool {
        if self.epoch() == since {
            return false;
        }
        let later = |number: &AtomicU64| number.load(Ordering::SeqCst) > since.0;
        later(&self.everything)
            || later(self.place(KEY, key))
            || tags.iter().any(|tag| later(self.place(TAG, tag)))
            || later(&self.forgotten)
            || (later(&self.last_prefix) && self.prefix_hit(since, key))
    }

    fn prefix_hit(&self, since: Epoch, key: &[u8]) -> bool {
        let prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut later = prefixes.iter().rev().take_while(|(at, _)| *at > since.0);
        later.any(|(_, prefix)| key.starts_with(prefix))
    }

    fn place(&self, kind: u8, name: &[u8]) -> &AtomicU64 {
        let number = self.hasher.hash_one((kind, name)) as usize % PLACES;
        self.places.get(number).unwrap_or(&self.everything)
    }
}

const KEY: u8 = 0;
const TAG: u8 = 1;
/// 256 KiB. With 1,000 purges in a second, a response that takes a second has a chance of 3 % not to be stored.
const PLACES: usize = 1 << 15;
const PREFIXES: usize = 1024;
