//! The store of the cache, for `benches/cache_memory.rs`.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::cache::{Caching, Fetch, Lease, Purge, Selected, Stored};
use crate::config;

/// A store, with the rules of a route without any keys.
pub struct Store {
    cache: Caching,
    rules: config::Cache,
    request: HeaderMap,
}

impl Store {
    /// Sizes are in bytes.
    pub fn new(max_size: u64, max_object_size: u64) -> Self {
        Self {
            cache: Caching::new(max_size, max_object_size),
            rules: config::Cache::default(),
            request: HeaderMap::new(),
        }
    }

    /// How long the body is of what is stored for a request without fields.
    pub async fn find(&self, key: &[u8]) -> Option<usize> {
        let resource = self.cache.store.find(key).await?;
        match resource.select(&self.request, false, Instant::now()) {
            Selected::Response(stored) => Some(stored.body.len()),
            Selected::Uncacheable(..) | Selected::OtherVariants => None,
        }
    }

    /// Puts in a response of that size that is fresh for an hour, in pieces as the proxy makes them. Whether it was taken.
    pub async fn put(&self, key: &[u8], size: usize, tag: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("cache-tag", HeaderValue::from_static(tag));
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        let lease = Lease {
            received: Instant::now(),
            age_when_received: Duration::ZERO,
            lifetime: Duration::from_secs(3600),
            is_assumed: false,
            always_validate: false,
            never_stale: false,
            while_revalidate: Duration::ZERO,
            if_error: Duration::ZERO,
            has_validator: false,
        };
        let mut body = self.cache.store.packing();
        body.push(&vec![b'x'; size]);
        let body = body.end();
        let stored = Stored::new(StatusCode::OK, headers, body, lease, SystemTime::now());
        let fetch = Fetch {
            key,
            request: (&self.request).into(),
            rules: &self.rules,
            since: self.cache.store.epoch(),
        };
        self.cache.store.put(fetch, stored).await.is_ok()
    }

    /// How many had the tag.
    pub async fn purge_tag(&self, tag: &str) -> u64 {
        self.cache.purge(&Purge::Tag(tag.to_owned()), false).await
    }

    /// How many there were.
    pub async fn purge_all(&self) -> u64 {
        self.cache.purge(&Purge::All, false).await
    }

    pub async fn maintain(&self) {
        self.cache.store.maintain().await;
    }

    /// All that is held.
    pub fn bytes(&self) -> u64 {
        self.cache.store.figures().bytes
    }

    pub fn entries(&self) -> u64 {
        self.cache.store.figures().entries
    }

    pub fn evictions(&self) -> u64 {
        self.cache.store.figures().evictions
    }
}
