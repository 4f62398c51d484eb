//! What a cache consists of: the store, and the fetches that fill it.

use std::sync::Arc;

use super::collapse::Fetches;
use super::jobs::Jobs;
use super::purge::Purge;
use super::store::Cache;
use crate::telemetry::cache::Figures;

/// The cache, shared by all workers and routes.
pub(crate) struct Caching {
    pub(crate) store: Arc<Cache>,
    pub(crate) fetches: Arc<Fetches>,
    /// Work that others would have to do again and again until it is done.
    pub(crate) quick_jobs: Jobs,
    /// Work that takes its time, seconds or minutes.
    pub(crate) long_jobs: Jobs,
}

impl Caching {
    pub(crate) fn new(max_size: u64, max_object_size: u64) -> Self {
        Self {
            store: Arc::new(Cache::new(max_size, max_object_size)),
            fetches: Arc::default(),
            quick_jobs: Jobs::start("weir-quick"),
            long_jobs: Jobs::start("weir-background"),
        }
    }

    /// What it holds now.
    pub(crate) fn figures(&self) -> Figures {
        let held = self.store.figures();
        Figures {
            bytes: held.bytes,
            max_bytes: self.store.max_size(),
            entries: held.entries,
            evictions: held.evictions,
            expirations: held.expirations,
            fills: self.fetches.count() as u64,
        }
    }

    /// Takes responses out of use; returns how many. What is being fetched now is used by those who wait for it, and by no one
    /// else.
    pub(crate) async fn purge(&self, what: &Purge, soft: bool) -> u64 {
        let purged = self.store.purge(what, soft).await;
        self.fetches.detach(what.concerns());
        purged
    }
}
