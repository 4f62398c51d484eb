//! The metrics of the cache: what the workers count of its requests, and what the store itself says of what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::exposition::Page;
use super::families::add;
use super::labels::CacheResult;
use super::metrics::{Metrics, Names, lock};
use crate::units::RouteName;

/// What the store says of itself at one moment; all zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// What is stored takes so much, with what it takes to keep it.
    pub(crate) bytes: u64,
    pub(crate) max_bytes: u64,
    /// Targets of which something is stored.
    pub(crate) entries: u64,
    /// Entries that had to go for others since the start.
    pub(crate) evictions: u64,
    /// Entries of which nothing could be used any more.
    pub(crate) expirations: u64,
    /// Responses that are being fetched to be stored.
    pub(crate) fills: u64,
}

/// Tells of the store at the time of the call.
pub(crate) type FiguresSource = dyn Fn() -> Figures + Send + Sync;

/// Requests by what the cache did for them.
pub(crate) type Requests = [u64; CacheResult::COUNT];

impl Metrics {
    /// Where to ask for the figures of the store.
    pub(crate) fn set_cache(&self, source: Arc<FiguresSource>) {
        *lock(&self.cache) = Some(source);
    }

    /// Counts stored responses that were purged.
    pub(crate) fn purged(&self, responses: u64) {
        self.purged.fetch_add(responses, Ordering::Relaxed);
    }

    pub(crate) fn cache_figures(&self) -> Figures {
        let source = lock(&self.cache).clone();
        source.map_or_else(Figures::default, |source| source())
    }

    /// Those of all routes with a cache, since each has one.
    pub(crate) fn cache_requests(&self) -> Requests {
        let names = Arc::clone(&lock(&self.names));
        let mut total = Requests::default();
        for requests in self.cache_requests_by_route(&names).into_values() {
            add(&mut total, requests);
        }
        total
    }

    fn cache_requests_by_route(&self, names: &Names) -> BTreeMap<RouteName, Requests> {
        self.sum(
            &names.caching,
            |worker| &worker.caches,
            |sum: &mut Requests, shard| add(sum, shard.requests()),
        )
    }

    pub(super) fn write_cache(&self, page: &mut Page, names: &Names) {
        let requests = self.cache_requests_by_route(names);
        page.counters(
            "weir_cache_requests_total",
            "Requests of routes with a cache, by what it did for them.",
            |series| {
                for (route, requests) in &requests {
                    for (result, count) in CacheResult::ALL.into_iter().zip(requests) {
                        let labels = [("route", route.as_str()), ("result", result.label())];
                        series.counter(&labels, *count);
                    }
                }
            },
        );
        let now = self.cache_figures();
        for (name, help, value) in [
            (
                "weir_cache_bytes",
                "Memory that stored responses take.",
                now.bytes,
            ),
            (
                "weir_cache_max_bytes",
                "Memory that stored responses may take.",
                now.max_bytes,
            ),
            (
                "weir_cache_entries",
                "Targets of which something is stored.",
                now.entries,
            ),
            (
                "weir_cache_fills",
                "Responses that are being fetched to be stored.",
                now.fills,
            ),
        ] {
            page.gauges(name, help, |series| series.gauge(&[], value as f64));
        }
        for (name, help, value) in [
            (
                "weir_cache_evictions_total",
                "Stored targets that had to go for others.",
                now.evictions,
            ),
            (
                "weir_cache_expirations_total",
                "Stored targets of which nothing could be used any more.",
                now.expirations,
            ),
            (
                "weir_cache_purged_total",
                "Stored responses that were purged.",
                self.purged.load(Ordering::Relaxed),
            ),
        ] {
            page.counters(name, help, |series| series.counter(&[], value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caching() -> Metrics {
        let metrics = Metrics::new(2);
        let mut names = Names::default();
        names.caching(&"site".into());
        metrics.declare(names);
        metrics
    }

    fn series(page: &str, name: &str) -> Vec<String> {
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn every_result_and_every_figure_is_there_from_the_start() {
        let page = caching().render();
        let results = CacheResult::ALL.map(|result| {
            let result = result.label();
            format!("weir_cache_requests_total{{route=\"site\",result=\"{result}\"}} 0")
        });
        assert_eq!(series(&page, "weir_cache_requests_total{"), results);
        for name in [
            "weir_cache_bytes",
            "weir_cache_max_bytes",
            "weir_cache_entries",
            "weir_cache_fills",
            "weir_cache_evictions_total",
            "weir_cache_expirations_total",
            "weir_cache_purged_total",
        ] {
            assert_eq!(series(&page, &format!("{name} ")), [format!("{name} 0")]);
        }
    }

    #[test]
    fn workers_are_added_up_and_the_store_is_asked_at_each_scrape() {
        let metrics = caching();
        for (number, result) in [
            (0, CacheResult::Hit),
            (1, CacheResult::Hit),
            (1, CacheResult::Miss),
        ] {
            metrics.worker(number).cache(&"site".into()).request(result);
        }
        let mut expected = Requests::default();
        expected[CacheResult::Hit as usize] = 2;
        expected[CacheResult::Miss as usize] = 1;
        assert_eq!(metrics.cache_requests(), expected);
        metrics.set_cache(Arc::new(|| Figures {
            bytes: 1,
            max_bytes: 2,
            entries: 3,
            evictions: 4,
            expirations: 7,
            fills: 5,
        }));
        metrics.purged(2);
        metrics.purged(4);
        let page = metrics.render();
        for line in [
            "weir_cache_requests_total{route=\"site\",result=\"hit\"} 2",
            "weir_cache_bytes 1",
            "weir_cache_max_bytes 2",
            "weir_cache_entries 3",
            "weir_cache_evictions_total 4",
            "weir_cache_expirations_total 7",
            "weir_cache_fills 5",
            "weir_cache_purged_total 6",
        ] {
            assert!(page.lines().any(|other| other == line), "{line} in\n{page}");
        }
    }

    #[test]
    fn a_route_without_a_cache_any_more_is_forgotten() {
        let metrics = caching();
        metrics
            .worker(0)
            .cache(&"site".into())
            .request(CacheResult::Hit);
        metrics.declare(Names::default());
        assert!(!metrics.render().contains("weir_cache_requests_total{"));
        let mut names = Names::default();
        names.caching(&"site".into());
        metrics.declare(names);
        assert_eq!(metrics.cache_requests(), Requests::default());
    }
}
