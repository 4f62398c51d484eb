//! Taking stored responses out before their time, or making them stale: because an operator says so, or an unsafe method
//! was used on their target (RFC 9111 §4.4).

use std::sync::Arc;
use std::time::Instant;

use super::resource::{Change, Variant};
use super::store::Cache;
use super::{Stored, key};

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purge {
    Keys(Vec<Vec<u8>>),
    /// The beginning of a URL, with scheme and host. A `*` may stand at its end.
    Prefix(String),
    Tag(String),
    All,
}

/// The same, as it is compared.
pub(super) enum Matcher<'p> {
    Keys(&'p [Vec<u8>]),
    Prefix(Vec<u8>),
    Tag(&'p [u8]),
    Everything,
}

impl Purge {
    fn matcher(&self) -> Matcher<'_> {
        match self {
            Self::Keys(keys) => Matcher::Keys(keys),
            Self::Prefix(prefix) => Matcher::Prefix(normal_prefix(prefix).into_bytes()),
            Self::Tag(tag) => Matcher::Tag(tag.as_bytes()),
            Self::All => Matcher::Everything,
        }
    }

    /// Whether what is being fetched for a key may be what it is about. Tags come with the response only.
    pub(super) fn concerns(&self) -> impl Fn(&[u8]) -> bool {
        let matcher = self.matcher();
        move |key| match &matcher {
            Matcher::Keys(keys) => keys.iter().any(|other| other == key),
            Matcher::Prefix(prefix) => key.starts_with(prefix),
            Matcher::Tag(_) | Matcher::Everything => true,
        }
    }
}

impl Cache {
    /// Takes responses out; `soft` makes them stale, so that they are validated, and used where stale ones are. How many
    /// it were. What was asked for before and comes afterwards is not stored.
    pub(crate) async fn purge(&self, what: &Purge, soft: bool) -> u64 {
        let what = what.matcher();
        self.purged.record(&what);
        // Whoever did not see that has put in what it had when this goes on.
        drop(self.putting.write().await);
        let mut purged = 0;
        match what {
            Matcher::Keys(keys) => {
                for key in keys {
                    purged += self.purge_key(key, None, soft).await;
                }
            }
            Matcher::Tag(tag) => {
                let mut after = None;
                while let Some(keys) = self.tags.slice(tag, &mut after) {
                    for key in keys {
                        purged += self.purge_key(&key, Some(tag), soft).await;
                    }
                    tokio::task::yield_now().await;
                }
            }
            Matcher::Prefix(prefix) => purged = self.purge_found(prefix, soft).await,
            Matcher::Everything => purged = self.purge_found(Vec::new(), soft).await,
        }
        purged
    }

    /// Goes through all keys. That takes its time, so it is done on a thread for such things.
    async fn purge_found(&self, prefix: Vec<u8>, soft: bool) -> u64 {
        let map = self.map.clone();
        let keys = tokio::task::spawn_blocking(move || {
            let keys = map.iter().map(|(key, _)| Arc::clone(&*key));
            keys.filter(|key| key.starts_with(&prefix)).collect()
        });
        let keys: Vec<Arc<[u8]>> = keys.await.unwrap_or_default();
        let mut purged = 0;
        for slice in keys.chunks(SLICE) {
            for key in slice {
                purged += self.purge_key(key, None, soft).await;
            }
            tokio::task::yield_now().await;
        }
        purged
    }

    async fn purge_key(&self, key: &[u8], tag: Option<&[u8]>, soft: bool) -> u64 {
        let now = Instant::now();
        let change = |variant: &Variant, stored: &Arc<Stored>| match tag {
            Some(tag) if !has_tag(variant, tag) => Change::Stays,
            _ if !soft => Change::Goes,
            _ => {
                let mut stale = Stored::clone(stored);
                stale.lease.expire(now);
                Change::Becomes(Arc::new(stale))
            }
        };
        self.change_each(key, change).await
    }
}

const SLICE: usize = 128;

fn has_tag(variant: &Variant, tag: &[u8]) -> bool {
    let tagged = variant.kept.as_ref().and_then(|kept| kept.tagged.as_ref());
    tagged.is_some_and(|tagged| tagged.tags.contain(tag))
}

/// A prefix as keys are written: scheme and host in lower case, without the port that is usual for the scheme.
fn normal_prefix(written: &str) -> String {
    let written = written.strip_suffix('*').unwrap_or(written);
    let Some((scheme, rest)) = written.split_once("://") else {
        return written.to_ascii_lowercase();
    };
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    let scheme = scheme.to_ascii_lowercase();
    let mut authority = authority.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => format!(":{}", key::HTTPS),
        _ => format!(":{}", key::HTTP),
    };
    // Without a path, `:80` may be the beginning of `:8080`.
    if !path.is_empty() && authority.ends_with(&usual) {
        authority.truncate(authority.len() - usual.len());
    }
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use http::HeaderMap;

    use super::*;
    use crate::cache::testing::{rules, stored};
    use crate::cache::{Epoch, Fetch, Refusal, Selected};

    const KEYS: [&str; 4] = [
        "http://a.example/",
        "http://a.example/img/1?x",
        "https://a.example/img/1",
        "http://a.example:8080/img/2",
    ];

    async fn keep(cache: &Cache, key: &str, tags: &str, since: Epoch) -> Result<(), Refusal> {
        keep_body(cache, key, tags, since, "").await
    }

    async fn keep_body(
        cache: &Cache,
        key: &str,
        tags: &str,
        since: Epoch,
        body: &str,
    ) -> Result<(), Refusal> {
        let (request, rules) = (HeaderMap::new(), rules());
        let fetch = Fetch {
            key: key.as_bytes(),
            request: (&request).into(),
            rules: &rules,
            since,
        };
        let stored = stored(
            &[("cache-tag", tags), ("surrogate-key", "all")],
            body.to_owned(),
        );
        cache.put(fetch, stored).await.map(drop)
    }

    async fn full() -> Cache {
        let cache = Cache::new(1 << 20, 1 << 20);
        for (number, key) in KEYS.iter().enumerate() {
            let tags = format!("n{number}, {}", ["even", "odd"][number % 2]);
            keep(&cache, key, &tags, cache.epoch()).await.unwrap();
        }
        cache
    }

    async fn kept(cache: &Cache) -> Vec<usize> {
        let mut kept = Vec::new();
        for (number, key) in KEYS.iter().enumerate() {
            if let Some(found) = find(cache, key).await {
                assert_eq!(found.lease.lifetime.as_secs(), 60);
                kept.push(number);
            }
        }
        kept
    }

    async fn find(cache: &Cache, key: &str) -> Option<Arc<Stored>> {
        let resource = cache.find(key.as_bytes()).await?;
        match resource.select(&HeaderMap::new(), false, Instant::now()) {
            Selected::Response(stored) => Some(Arc::clone(stored)),
            _ => None,
        }
    }

    fn key(number: usize) -> Purge {
        Purge::Keys(vec![KEYS[number].into(), b"http://other/".to_vec()])
    }

    fn prefix(text: &str) -> Purge {
        Purge::Prefix(text.into())
    }

    fn tag(text: &str) -> Purge {
        Purge::Tag(text.into())
    }

    #[tokio::test]
    async fn each_purge_takes_out_what_it_names_and_nothing_else() {
        for (what, left) in [
            (key(1), &[0, 2, 3][..]),
            (prefix("http://a.example/img/"), &[0, 2, 3]),
            (prefix("http://a.example/img/*"), &[0, 2, 3]),
            (prefix("HTTP://A.example:80/img/1?x"), &[0, 2, 3]),
            (prefix("http://a.example/IMG/"), &[0, 1, 2, 3]),
            (prefix("https://a.example:443/*"), &[0, 1, 3]),
            (prefix("http://a.example:80"), &[0, 1, 2]),
            (prefix("http://a.example:8080"), &[0, 1, 2]),
            (prefix("http://a"), &[2]),
            (prefix("http"), &[]),
            (prefix("*"), &[]),
            (tag("even"), &[1, 3]),
            (tag("n3"), &[0, 1, 2]),
            (tag("N3"), &[0, 1, 2, 3]),
            (tag("all"), &[]),
            (tag(""), &[0, 1, 2, 3]),
            (Purge::All, &[]),
        ] {
            let cache = full().await;
            let purged = cache.purge(&what, false).await;
            assert_eq!(
                (kept(&cache).await.as_slice(), purged),
                (left, (4 - left.len()) as u64),
                "{what:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_soft_purge_makes_stale_at_once() {
        for what in [key(1), prefix(KEYS[1]), tag("n1"), Purge::All] {
            let cache = Cache::new(1 << 20, 1 << 20);
            let mut response = stored(&[("cache-tag", "n1")], "1");
            response.lease.if_error = std::time::Duration::from_secs(60);
            let (request, rules) = (HeaderMap::new(), rules());
            let fetch = Fetch {
                key: KEYS[1].as_bytes(),
                request: (&request).into(),
                rules: &rules,
                since: cache.epoch(),
            };
            cache.put(fetch, response).await.unwrap();
            assert_eq!(cache.purge(&what, true).await, 1, "{what:?}");
            let lease = &find(&cache, KEYS[1]).await.unwrap().lease;
            assert!(lease.received + lease.lifetime <= Instant::now());
            assert_eq!(lease.if_error.as_secs(), 60);
            assert_eq!(cache.purge(&tag("n1"), false).await, 1, "it is still found");
            assert_eq!(
                keep(&cache, KEYS[1], "n1", fetch.since).await,
                Err(Refusal::Purged)
            );
        }
    }

    #[tokio::test]
    async fn what_was_asked_for_before_a_purge_is_not_stored_after_it() {
        for (what, hit) in [
            (key(1), true),
            (prefix("http://a.example/img/*"), true),
            (tag("n1"), true),
            (tag("all"), true),
            (Purge::All, true),
            (key(0), false),
            (prefix("http://a.example:8080/"), false),
            (tag("n2"), false),
        ] {
            let cache = Cache::new(1 << 20, 1 << 20);
            let before = cache.epoch();
            assert_eq!(cache.purge(&what, false).await, 0);
            let outcome = keep(&cache, KEYS[1], "n1", before).await;
            assert_eq!(outcome.is_err(), hit, "{what:?}");
            assert_eq!(find(&cache, KEYS[1]).await.is_some(), !hit);
            assert_eq!(keep(&cache, KEYS[1], "n1", cache.epoch()).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn prefixes_that_are_forgotten_are_taken_to_hit() {
        let cache = Cache::new(1 << 20, 1 << 20);
        let before = cache.epoch();
        let other = prefix("http://other/").clone();
        for _ in 0..1024 {
            cache.purged.record(&other.matcher());
        }
        assert_eq!(keep(&cache, KEYS[0], "", before).await, Ok(()));
        cache.purged.record(&other.matcher());
        assert_eq!(
            keep(&cache, KEYS[0], "", before).await,
            Err(Refusal::Purged)
        );
        assert_eq!(keep(&cache, KEYS[0], "", cache.epoch()).await, Ok(()));
    }

    /// Whatever comes between what: when a purge is done, nothing from before it is found any more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn after_a_purge_nothing_from_before_is_found() {
        let cache = Arc::new(Cache::new(1 << 20, 1 << 20));
        let (origin, done) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let fills: Vec<_> = (0..3)
            .map(|_| {
                let (cache, origin, done) =
                    (Arc::clone(&cache), Arc::clone(&origin), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut stored = 0;
                    while !done.load(Ordering::Relaxed) {
                        let since = cache.epoch();
                        let made = origin.load(Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        let kept = keep_body(&cache, KEYS[1], "n1", since, &made.to_string()).await;
                        stored += u64::from(kept.is_ok());
                    }
                    stored
                })
            })
            .collect();
        for round in 0..2000 {
            let changed = origin.fetch_add(1, Ordering::SeqCst) + 1;
            let what = [key(1), prefix(KEYS[1]), tag("n1"), Purge::All][round % 4].clone();
            cache.purge(&what, round % 8 > 3).await;
            if let Some(found) = find(&cache, KEYS[1]).await {
                let made: u64 = std::str::from_utf8(found.body.whole().unwrap())
                    .unwrap()
                    .parse()
                    .unwrap();
                let stale = found.lease.received + found.lease.lifetime <= Instant::now();
                assert!(
                    made >= changed || stale,
                    "{made} after {changed} by {what:?}"
                );
            }
        }
        done.store(true, Ordering::Relaxed);
        for fill in fills {
            assert!(fill.await.unwrap() > 0);
        }
    }

    /// Whoever checked before a purge and has not put it in yet is waited for: it would be missed.
    #[tokio::test]
    async fn a_purge_waits_for_those_who_are_putting_something_in() {
        let cache = Arc::new(full().await);
        for what in [key(0), prefix("http://"), tag("n1"), Purge::All] {
            let putting = cache.putting.read().await;
            let purging = Arc::clone(&cache);
            let purge = tokio::spawn(async move { purging.purge(&what, false).await });
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(!purge.is_finished());
            drop(putting);
            purge.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_tag_is_that_of_a_variant() {
        let cache = Cache::new(1 << 20, 1 << 20);
        let rules = rules();
        for value in ["1", "2"] {
            let request = crate::cache::testing::headers(&[("x-a", value)]);
            let fetch = Fetch {
                key: KEYS[0].as_bytes(),
                request: (&request).into(),
                rules: &rules,
                since: cache.epoch(),
            };
            let response = stored(&[("vary", "x-a"), ("cache-tag", value)], value);
            cache.put(fetch, response).await.unwrap();
        }
        assert_eq!(cache.purge(&tag("1"), false).await, 1);
        assert_eq!(cache.purge(&tag("2"), false).await, 1);
        assert!(cache.find(KEYS[0].as_bytes()).await.is_none());
    }

    /// More than one slice of it, with others coming and going meanwhile.
    #[tokio::test]
    async fn a_tag_of_many_is_purged_in_slices() {
        let cache = Cache::new(64 << 20, 1 << 20);
        let since = cache.epoch();
        for number in 0..2000 {
            keep(&cache, &format!("http://a.example/{number}"), "many", since)
                .await
                .unwrap();
        }
        assert_eq!(cache.purge(&tag("many"), false).await, 2000);
        assert_eq!(cache.purge(&tag("many"), false).await, 0);
    }
}
