//! Where stored responses are kept: in memory, shared by all workers, bounded by bytes.
//!
//! moka keeps the map, chooses what goes when it is full (TinyLFU), and drops what is of no more use. It does both in its
//! upkeep only, which it runs now and then: every 64 writes, whatever their size. So bytes are counted here, and the
//! upkeep is run before they get to be many.
//!
//! moka frees what it takes out some time later, when surely no thread looks at it any more; when threads wait for their
//! turn on the processor, that is too late for a bound on memory. So the map holds slots, which are emptied at once.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use foldhash::quality::RandomState;
use http::HeaderMap;
use moka::ops::compute::Op;
use tokio::sync::{Mutex, RwLock};

use super::blocks::{Blocks, Packing};
use super::fills::{Fills, Reservation};
use super::ledger::{Kept, Ledger, Share};
use super::purged::{Epoch, Purged};
use super::resource::{Change, Limits, Resource, Variant};
use super::tags::{Index, Tags};
use super::{Asker, Refusal, Stored, Vary};
use crate::config;

/// The store. One for all workers.
pub(crate) struct Cache {
    pub(super) map: Map,
    max_size: u64,
    max_object_size: u64,
    ledger: Arc<Ledger>,
    pub(super) tags: Arc<Index>,
    pub(super) purged: Purged,
    /// Read by those who put something in; a purge that goes through the map waits for them, or it might miss what they
    /// checked before it began and put in behind its back.
    pub(super) putting: RwLock<()>,
    /// Held while something large is put in and room is made for it.
    putting_much: Mutex<()>,
    fills: Arc<Fills>,
    blocks: Arc<Blocks>,
    /// Bytes that came in since the last upkeep.
    written: AtomicU64,
}

pub(super) type Map = moka::future::Cache<Arc<[u8]>, Arc<Slot>, RandomState>;
type Entry = moka::Entry<Arc<[u8]>, Arc<Slot>>;

/// The place of a resource in the map.
pub(super) struct Slot(ArcSwapOption<Resource>);

impl Slot {
    fn of(resource: Arc<Resource>) -> Arc<Self> {
        Arc::new(Self(ArcSwapOption::new(Some(resource))))
    }

    /// `None`: it was taken out.
    fn resource(&self) -> Option<Arc<Resource>> {
        self.0.load_full()
    }

    fn size(&self) -> u64 {
        self.0.load().as_ref().map_or(0, |resource| resource.size())
    }
}

/// A request that was sent to be answered for the store.
#[derive(Clone, Copy)]
pub(crate) struct Fetch<'r> {
    pub(crate) key: &'r [u8],
    /// With the fields that the client sent.
    pub(crate) request: Asker<'r>,
    pub(crate) rules: &'r config::Cache,
    /// When it was sent.
    pub(crate) since: Epoch,
}

/// What the store holds, and what it has let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    /// All that is held.
    pub(crate) bytes: u64,
    /// Targets.
    pub(crate) entries: u64,
    /// Targets that went to make room.
    pub(crate) evictions: u64,
    /// Targets that went because nothing of them could be used any more.
    pub(crate) expirations: u64,
}

impl Cache {
    /// Sizes are in bytes.
    pub(crate) fn new(max_size: u64, max_object_size: u64) -> Self {
        let ledger: Arc<Ledger> = Arc::default();
        let gone = Arc::clone(&ledger);
        let map = moka::future::Cache::builder()
            .max_capacity(capacity(max_size, max_object_size))
            .weigher(|_: &Arc<[u8]>, slot: &Arc<Slot>| slot.size().try_into().unwrap_or(u32::MAX))
            .expire_after(Expiry)
            .eviction_listener(move |_, slot, cause| {
                slot.0.store(None);
                gone.count(cause);
            })
            .build_with_hasher(RandomState::default());
        Self {
            map,
            max_size,
            max_object_size,
            ledger,
            tags: Arc::new(Index::new()),
            purged: Purged::new(),
            putting: RwLock::new(()),
            putting_much: Mutex::new(()),
            fills: Arc::new(Fills::new((max_size / 8).max(max_object_size))),
            blocks: Arc::default(),
            written: AtomicU64::new(0),
        }
    }

    /// All that may be held, in bytes.
    pub(crate) fn max_size(&self) -> u64 {
        self.max_size
    }

    /// The longest body that is stored.
    pub(crate) fn max_object_size(&self) -> u64 {
        self.max_object_size
    }

    /// Takes a body in as it comes, to be stored.
    pub(crate) fn packing(&self) -> Packing {
        Packing::new(&self.blocks)
    }

    /// What is held of a target.
    pub(crate) async fn find(&self, key: &[u8]) -> Option<Arc<Resource>> {
        for _ in 0..TRIES {
            if let Some(resource) = self.map.get(key).await?.resource() {
                return Some(resource);
            }
            // It has been replaced between these two steps.
        }
        None
    }

    /// Now, for a request that is about to be sent.
    pub(crate) fn epoch(&self) -> Epoch {
        self.purged.epoch()
    }

    /// Memory for a response that is on its way. `None`: there is none left, so it cannot be stored.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<Reservation> {
        self.fills.reserve(bytes)
    }

    /// Puts a response in. It may be let go at once: what is asked for more often stays.
    pub(crate) async fn put(
        &self,
        fetch: Fetch<'_>,
        stored: Stored,
    ) -> Result<Arc<Stored>, Refusal> {
        if stored.body.len() as u64 > self.max_object_size || stored.size() > self.max_size {
            return Err(Refusal::TooLarge);
        }
        let vary = Vary::of(&stored.headers, fetch.rules)?;
        let tags = Tags::of(&stored.headers)?;
        let stored = Arc::new(stored);
        let limits = self.limits(fetch.rules);
        let now = stored.lease.received;
        let change = |old: &Resource| {
            if self.purged.hit(fetch.since, fetch.key, &tags) {
                return Err(Refusal::Purged);
            }
            old.with_response(Arc::clone(&stored), &vary, fetch.request, limits, now)
        };
        let is_much = stored.size() > self.max_size / UPKEEP_SHARE;
        let putting_much = match is_much {
            true => Some(self.putting_much.lock().await),
            false => None,
        };
        self.change(fetch.key, change, tags.clone()).await?;
        drop(putting_much);
        Ok(stored)
    }

    /// Why such a response would not be put in, if so, short of its length.
    pub(crate) async fn objection(&self, fetch: Fetch<'_>, head: &Arc<Stored>) -> Option<Refusal> {
        let check = |old: &Resource| {
            let vary = Vary::of(&head.headers, fetch.rules)?;
            Tags::of(&head.headers)?;
            let (limits, now) = (self.limits(fetch.rules), head.lease.received);
            old.with_response(Arc::clone(head), &vary, fetch.request, limits, now)
        };
        match self.find(fetch.key).await {
            Some(resource) => check(&resource).err(),
            None => check(&Resource::new(fetch.key.into())).err(),
        }
    }

    /// Notes for a minute that what such a request gets cannot be stored.
    pub(crate) async fn mark_uncacheable(
        &self,
        fetch: Fetch<'_>,
        response: &HeaderMap,
        why: Refusal,
        now: Instant,
    ) {
        // What cannot be read says nothing of other requests.
        let vary = Vary::of(response, fetch.rules).unwrap_or_default();
        let limits = self.limits(fetch.rules);
        let note = (why, now + UNCACHEABLE_FOR);
        let change = |old: &Resource| {
            if self.purged.hit(fetch.since, fetch.key, &Tags::default()) {
                return Err(Refusal::Purged);
            }
            old.with_refusal(note, &vary, fetch.request, limits, now)
                .ok_or(Refusal::TooManyVariants)
        };
        let _ = self.change(fetch.key, change, Tags::default()).await;
    }

    /// What such a request gets can be stored after all.
    pub(crate) async fn unmark(&self, key: &[u8], request: Asker<'_>) {
        let change = |old: &Resource| old.without_refusal(request).ok_or(Refusal::Purged);
        let _ = self.change(key, change, Tags::default()).await;
    }

    /// Puts what a 304 made of a stored response in its place (RFC 9111 §4.3.4). Not if that is not there any more, was
    /// purged since, or now depends on fields that its variants are not told apart by; then it is there no more.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn replace(
        &self,
        key: &[u8],
        old: &Arc<Stored>,
        new: &Arc<Stored>,
        since: Epoch,
    ) -> Result<(), Refusal> {
        let fits = same_or_fewer(&old.headers, &new.headers);
        let tags = match Tags::of(&new.headers) {
            Ok(tags) if fits => tags,
            tags => {
                self.remove(key, old).await;
                return Err(tags.err().unwrap_or(Refusal::OtherVary));
            }
        };
        let change = |resource: &Resource| {
            if self.purged.hit(since, key, &tags) {
                return Err(Refusal::Purged);
            }
            resource.with_replaced(old, new).ok_or(Refusal::Purged)
        };
        self.change(key, change, tags.clone()).await
    }

    /// Takes a response out, if it is still there.
    pub(crate) async fn remove(&self, key: &[u8], old: &Arc<Stored>) {
        let change = |variant: &Variant, _: &_| {
            if variant.holds(old) {
                Change::Goes
            } else {
                Change::Stays
            }
        };
        self.change_each(key, change).await;
    }

    /// Counts the target anew: what is kept of it beside its responses has changed.
    pub(crate) async fn reweigh(&self, key: &[u8]) {
        let mut size = 0;
        let compute = |entry: Option<Entry>| {
            let Some(resource) = held(entry) else {
                return ready(Op::Nop);
            };
            for variant in resource.variants() {
                if let Some(kept) = &variant.kept {
                    kept.share.resize(variant.size());
                }
            }
            size = resource.size();
            ready(Op::Put(Slot::of(resource)))
        };
        self.map.entry(key.into()).and_compute_with(compute).await;
        self.count_written(size).await;
    }

    /// Runs the upkeep. To be called each second, or nothing expires while there are no requests.
    pub(crate) async fn maintain(&self) {
        self.written.store(0, Ordering::Relaxed);
        self.map.run_pending_tasks().await;
    }

    /// For metrics: no lock is taken.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            bytes: self.ledger.bytes(),
            entries: self.map.entry_count(),
            evictions: self.ledger.evicted(),
            expirations: self.ledger.expired(),
        }
    }

    fn limits(&self, rules: &config::Cache) -> Limits {
        Limits {
            variants: rules.max_variants,
            bytes: (self.max_size / 8).max(self.max_object_size),
        }
    }

    /// Puts in what `change` makes of the resource of a key, alone with that key. What is new in it has these tags.
    async fn change(
        &self,
        key: &[u8],
        change: impl FnOnce(&Resource) -> Result<Resource, Refusal> + Send,
        tags: Tags,
    ) -> Result<(), Refusal> {
        let mut outcome = Err(Refusal::Purged);
        let key: Arc<[u8]> = key.into();
        let compute = |entry: Option<Entry>| {
            let old = held(entry);
            let old = old.unwrap_or_else(|| Arc::new(Resource::new(Arc::clone(&key))));
            let op = match change(&old) {
                Ok(new) => {
                    outcome = Ok(new.size());
                    Op::Put(self.admitted(new, tags))
                }
                Err(refusal) => {
                    outcome = Err(refusal);
                    Op::Nop
                }
            };
            ready(op)
        };
        let putting = self.putting.read().await;
        self.map
            .entry(Arc::clone(&key))
            .and_compute_with(compute)
            .await;
        drop(putting);
        self.count_written(outcome?).await;
        Ok(())
    }

    /// Changes the responses of a key, alone with it; how many it changed.
    pub(super) async fn change_each(
        &self,
        key: &[u8],
        change: impl Fn(&Variant, &Arc<Stored>) -> Change + Send,
    ) -> u64 {
        let mut changed = 0;
        let compute = |entry: Option<Entry>| {
            let Some(old) = held(entry) else {
                return ready(Op::Nop);
            };
            let (new, count) = old.with_each(change);
            changed = count;
            let op = if new.variants().is_empty() {
                Op::Remove
            } else if count == 0 {
                Op::Nop
            } else {
                Op::Put(self.admitted(new, Tags::default()))
            };
            ready(op)
        };
        self.map.entry(key.into()).and_compute_with(compute).await;
        changed
    }

    /// The resource and what is new in it count from now on.
    fn admitted(&self, mut new: Resource, tags: Tags) -> Arc<Slot> {
        let key = Arc::clone(&new.key);
        let mut tags = Some(tags);
        for variant in new.variants_mut() {
            if variant.kept.is_none() {
                let tagged = tags.take().and_then(|tags| self.tags.enter(&key, tags));
                let share = Share::new(&self.ledger, 0);
                variant.kept = Some(Arc::new(Kept { share, tagged }));
                if let Some(kept) = &variant.kept {
                    kept.share.resize(variant.size());
                }
            }
        }
        new.share = Some(Share::new(&self.ledger, new.own_size()));
        Slot::of(Arc::new(new))
    }

    async fn count_written(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.max_size / UPKEEP_SHARE {
            self.maintain().await;
        }
    }
}

/// What an entry holds.
fn held(entry: Option<Entry>) -> Option<Arc<Resource>> {
    entry?.value().resource()
}

/// Whether the new response depends on no field on which the old one did not.
fn same_or_fewer(old: &HeaderMap, new: &HeaderMap) -> bool {
    let (Ok(old), Ok(new)) = (Vary::without(old, &[]), Vary::without(new, &[])) else {
        return false;
    };
    old.covers(&new) && (old.accept_encoding || !new.accept_encoding)
}

/// To be replaced twice in such a short time is not to be expected.
const TRIES: usize = 3;
/// How long a target counts as uncacheable after a response that was.
const UNCACHEABLE_FOR: Duration = Duration::from_secs(60);
/// The size at which the map lets something go. While the largest response is put in, it holds that much more, and what
/// small ones brought since the last upkeep; all of it together must not be more than the size of the store.
fn capacity(max_size: u64, max_object_size: u64) -> u64 {
    let beyond = max_object_size.saturating_add(2 * (max_size / UPKEEP_SHARE));
    // Who allows single responses of nearly that size does not want to keep two of them.
    max_size
        .saturating_sub(beyond)
        .clamp(max_size / 4 * 3, max_size)
}

/// How far beyond its size the store may grow between two upkeeps: a hundredth.
const UPKEEP_SHARE: u64 = 100;

/// When nothing of a resource is of use any more.
struct Expiry;

impl Expiry {
    fn left(slot: &Slot, now: Instant) -> Option<Duration> {
        let resource = slot.0.load();
        let until = resource
            .as_ref()
            .map_or(now, |resource| resource.until(now));
        Some(until.saturating_duration_since(now))
    }
}

impl moka::Expiry<Arc<[u8]>, Arc<Slot>> for Expiry {
    fn expire_after_create(
        &self,
        _: &Arc<[u8]>,
        slot: &Arc<Slot>,
        now: Instant,
    ) -> Option<Duration> {
        Self::left(slot, now)
    }

    fn expire_after_update(
        &self,
        _: &Arc<[u8]>,
        slot: &Arc<Slot>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Self::left(slot, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bytes::Bytes;

    use super::*;
    use crate::cache::testing::{headers, rules, stored};
    use crate::cache::{Purge, Selected};

    const MIB: u64 = 1 << 20;

    fn cache() -> Cache {
        Cache::new(MIB, MIB / 4)
    }

    impl Cache {
        async fn keep(
            &self,
            key: &str,
            fields: &[(&str, &str)],
            body: &str,
        ) -> Result<(), Refusal> {
            let body = Bytes::copy_from_slice(body.as_bytes());
            self.keep_for((key, &HeaderMap::new()), stored(fields, body), self.epoch())
                .await
        }

        async fn keep_for(
            &self,
            (key, request): (&str, &HeaderMap),
            stored: Stored,
            since: Epoch,
        ) -> Result<(), Refusal> {
            let rules = rules();
            let fetch = Fetch {
                key: key.as_bytes(),
                request: request.into(),
                rules: &rules,
                since,
            };
            self.put(fetch, stored).await.map(drop)
        }

        async fn kept(&self, key: &str) -> Option<Arc<Stored>> {
            self.kept_for(key, &[]).await
        }

        async fn kept_for(&self, key: &str, request: &[(&str, &str)]) -> Option<Arc<Stored>> {
            let resource = self.find(key.as_bytes()).await?;
            match resource.select(&headers(request), false, Instant::now()) {
                Selected::Response(stored) => Some(Arc::clone(stored)),
                _ => None,
            }
        }

        /// Runs the upkeep until something is as it should be: what was let go is freed when no thread looks at it.
        async fn until(&self, holds: impl Fn(Figures) -> bool) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline {
                self.maintain().await;
                if holds(self.figures()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("{:?}", self.figures());
        }
    }

    #[tokio::test]
    async fn what_is_put_in_is_found_by_its_key() {
        let cache = cache();
        cache.keep("a", &[], "1").await.unwrap();
        cache.keep("b", &[], "2").await.unwrap();
        assert_eq!(cache.kept("a").await.unwrap().body, "1");
        assert_eq!(cache.kept("b").await.unwrap().body, "2");
        assert!(cache.find(b"c").await.is_none());
        assert_eq!(cache.find(b"a").await.unwrap().key.as_ref(), b"a");
        cache.keep("a", &[], "3").await.unwrap();
        assert_eq!(cache.kept("a").await.unwrap().body, "3");
        cache.maintain().await;
        assert_eq!(cache.figures().entries, 2);
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_refused() {
        let cache = Cache::new(MIB, 10);
        assert_eq!(cache.keep("a", &[], "0123456789").await, Ok(()));
        assert_eq!(
            cache.keep("a", &[], "0123456789a").await,
            Err(Refusal::TooLarge)
        );
        let huge = "x".repeat(2 << 20);
        assert_eq!(
            cache.keep("a", &[("x-a", &huge)], "").await,
            Err(Refusal::TooLarge)
        );
        assert_eq!(
            cache.keep("a", &[("vary", "*")], "").await,
            Err(Refusal::VaryAnything)
        );
        let tags = "a,".repeat(129);
        assert_eq!(
            cache.keep("a", &[("cache-tag", &tags)], "").await,
            Err(Refusal::TooManyTags)
        );
    }

    #[tokio::test]
    async fn what_a_304_made_takes_the_place_of_what_it_was_made_of() {
        let cache = cache();
        let vary = ("vary", "x-a");
        cache.keep("a", &[vary], "1").await.unwrap();
        let old = cache.kept("a").await.unwrap();
        let since = cache.epoch();
        let replace = |old: &Arc<Stored>, new: Stored| {
            let (cache, old, new) = (&cache, Arc::clone(old), Arc::new(new));
            async move {
                let replaced = cache.replace(b"a", &old, &new, since).await;
                replaced.ok().map(|()| new)
            }
        };
        let new = replace(&old, stored(&[("vary", "X-A"), ("cache-tag", "t")], "1")).await;
        assert!(Arc::ptr_eq(&new.unwrap(), &cache.kept("a").await.unwrap()));
        assert!(
            replace(&old, stored(&[vary], "2")).await.is_none(),
            "it is gone"
        );
        assert_eq!(cache.kept("a").await.unwrap().body, "1");
        let old = cache.kept("a").await.unwrap();
        assert!(
            replace(&old, stored(&[("vary", "x-b")], "2"))
                .await
                .is_none()
        );
        assert!(
            cache.kept("a").await.is_none(),
            "what it depends on now is not known of it"
        );
        // with new tags
        cache.keep("a", &[], "1").await.unwrap();
        let old = cache.kept("a").await.unwrap();
        assert!(
            replace(&old, stored(&[("cache-tag", "t")], "1"))
                .await
                .is_some()
        );
        assert_eq!(cache.purge(&Purge::Tag("t".into()), false).await, 1);
        // purged meanwhile, and stored again
        cache.keep("a", &[], "1").await.unwrap();
        let old = cache.kept("a").await.unwrap();
        assert!(
            replace(&old, stored(&[("cache-tag", "t")], "1"))
                .await
                .is_none()
        );
        assert_eq!(cache.kept("a").await.unwrap().body, "1");
    }

    #[tokio::test]
    async fn one_response_is_taken_out_without_the_others() {
        let cache = cache();
        for value in ["1", "2"] {
            let request = headers(&[("x-a", value)]);
            let stored = stored(&[("vary", "x-a")], value);
            cache
                .keep_for(("a", &request), stored, cache.epoch())
                .await
                .unwrap();
        }
        let old = cache.kept_for("a", &[("x-a", "1")]).await.unwrap();
        cache.remove(b"a", &old).await;
        cache.remove(b"a", &old).await;
        assert!(cache.kept_for("a", &[("x-a", "1")]).await.is_none());
        let other = cache.kept_for("a", &[("x-a", "2")]).await.unwrap();
        cache.remove(b"a", &other).await;
        assert!(cache.find(b"a").await.is_none());
        drop((old, other));
        cache.until(|figures| figures.bytes == 0).await;
        assert_eq!(
            (cache.figures().evictions, cache.figures().expirations),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn what_could_not_be_stored_is_noted() {
        let cache = cache();
        let (request, rules, now) = (HeaderMap::new(), rules(), Instant::now());
        let fetch = Fetch {
            key: b"a",
            request: (&request).into(),
            rules: &rules,
            since: cache.epoch(),
        };
        let mark = |fetch| cache.mark_uncacheable(fetch, &request, Refusal::NoStore, now);
        mark(fetch).await;
        let selects = |resource: Arc<Resource>| match resource.select(&request, false, now) {
            Selected::Uncacheable(why, _) => Some(why),
            _ => None,
        };
        let found = cache.find(b"a").await.unwrap();
        assert_eq!(selects(found), Some(Refusal::NoStore));
        assert_eq!(cache.keep("a", &[], "1").await, Ok(()));
        assert!(cache.kept("a").await.is_some());
        cache.purge(&Purge::All, false).await;
        mark(fetch).await;
        assert!(
            cache.find(b"a").await.is_none(),
            "that was before the purge"
        );
    }

    #[tokio::test]
    async fn what_is_of_no_more_use_goes_by_itself() {
        let cache = cache();
        let mut old = stored(&[("cache-tag", "t")], "1");
        old.lease.received -= Duration::from_secs(60);
        cache
            .keep_for(("a", &HeaderMap::new()), old.clone(), cache.epoch())
            .await
            .unwrap();
        assert!(cache.find(b"a").await.is_none());
        // the windows in which stale responses are used count
        old.lease.if_error = Duration::from_secs(60);
        cache
            .keep_for(("b", &HeaderMap::new()), old.clone(), cache.epoch())
            .await
            .unwrap();
        assert!(cache.find(b"b").await.is_some());
        // an update counts as well: later, and sooner
        cache.keep("a", &[], "2").await.unwrap();
        assert!(cache.find(b"a").await.is_some());
        old.lease.if_error = Duration::ZERO;
        cache
            .keep_for(("a", &HeaderMap::new()), old, cache.epoch())
            .await
            .unwrap();
        assert!(cache.find(b"a").await.is_none());
        cache
            .until(|figures| figures.entries == 1 && figures.expirations == 1)
            .await;
        assert_eq!(cache.figures().evictions, 0);
    }

    #[tokio::test]
    async fn fills_have_a_limit_together() {
        let cache = cache();
        let limit = MIB / 4;
        let mut first = cache.reserve(limit - 10).unwrap();
        assert!(cache.reserve(11).is_none());
        let second = cache.reserve(4).unwrap();
        assert!(!first.grow(7));
        assert!(first.grow(6));
        drop(second);
        assert!(first.grow(4));
        drop(first);
        assert!(cache.reserve(limit).is_some());
        assert!(cache.reserve(u64::MAX).is_none());
    }

    #[tokio::test]
    async fn all_that_is_held_is_counted() {
        let cache = cache();
        let tags = ("cache-tag", "a-tag");
        cache
            .keep("key", &[("x-name", "value"), tags], "12345")
            .await
            .unwrap();
        let resource = cache.find(b"key").await.unwrap();
        assert_eq!(cache.figures().bytes, resource.size());
        let fields = "x-namevaluecache-taga-tagservertest".len() as u64 + 3 * 64;
        assert!(resource.size() >= 5 + fields + 3 + 2 * 512);
        drop(resource);
        cache.reweigh(b"key").await;
        cache.reweigh(b"other").await;
        cache.maintain().await;
        assert_eq!(cache.figures().bytes, cache.map.weighted_size());
        assert_eq!(cache.figures().entries, 1);
        cache.keep("key", &[], "12345").await.unwrap();
        let resource = cache.find(b"key").await.unwrap().size();
        cache.until(|figures| figures.bytes == resource).await;
        assert!(cache.tags.is_empty());
        cache.purge(&Purge::All, false).await;
        cache.until(|figures| figures.bytes == 0).await;
        let figures = cache.figures();
        assert_eq!(
            (figures.entries, figures.evictions, figures.expirations),
            (0, 0, 0)
        );
    }

    /// RFC 9111 says nothing of it: a store that is full lets something go.
    #[tokio::test]
    async fn the_store_stays_within_its_size() {
        let cache = cache();
        let mut most = 0;
        for number in 0..3000 {
            let body = "x".repeat(if number % 50 == 0 {
                200_000
            } else {
                number % 7000
            });
            cache
                .keep(&number.to_string(), &[("cache-tag", "t")], &body)
                .await
                .unwrap();
            most = most.max(cache.figures().bytes);
        }
        assert!(most <= MIB, "{most}");
        cache.until(|figures| figures.bytes <= MIB).await;
        let figures = cache.figures();
        assert!(figures.evictions > 2000, "{figures:?}");
        assert_eq!(figures.evictions + figures.entries, 3000);
    }

    /// Many at once on several threads: nobody gets what is for another key or another request, and the bound holds.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_at_once_never_mix_anything_up() {
        let cache = Arc::new(cache());
        let most = Arc::new(AtomicU64::new(0));
        let hits = Arc::new(AtomicUsize::new(0));
        let tasks = (0..8_u64).map(|task| {
            let (cache, most, hits) = (Arc::clone(&cache), Arc::clone(&most), Arc::clone(&hits));
            tokio::spawn(async move {
                let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(task + 1);
                for _ in 0..2000 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let key = format!("http://a.example/{}", random % 61);
                    let value = ["1", "2", "3", "4"][(random >> 8) as usize % 4];
                    let request = headers(&[("x-a", value)]);
                    match (random >> 16) % 64 {
                        0 => {
                            cache.purge(&Purge::Tag(value.into()), true).await;
                        }
                        1 => {
                            cache.purge(&Purge::Keys(vec![key.into()]), false).await;
                        }
                        2 if random & 0xF00_0000 == 0 => {
                            cache.purge(&Purge::All, false).await;
                        }
                        _ => match cache.kept_for(&key, &[("x-a", value)]).await {
                            Some(stored) => {
                                let expected = format!("{key} {value} ");
                                assert!(
                                    stored.body.copied().starts_with(expected.as_bytes()),
                                    "{expected}"
                                );
                                hits.fetch_add(1, Ordering::Relaxed);
                            }
                            None => {
                                let padding = "x".repeat((random >> 32) as usize % 16_000);
                                let body = format!("{key} {value} {padding}");
                                let stored = stored(&[("vary", "x-a"), ("cache-tag", value)], body);
                                let _ = cache
                                    .keep_for((&key, &request), stored, cache.epoch())
                                    .await;
                            }
                        },
                    }
                    most.fetch_max(cache.figures().bytes, Ordering::Relaxed);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert!(hits.load(Ordering::Relaxed) > 100);
        let most = most.load(Ordering::Relaxed);
        assert!(most <= MIB, "{most}");
        cache.purge(&Purge::All, false).await;
        cache.until(|figures| figures.bytes == 0).await;
        assert!(cache.tags.is_empty());
    }
}
