//! The metrics of the whole process: adds up what the workers count, when somebody asks.
//!
//! Series exist from the moment their names are [declared](Metrics::declare), so that a rate has a zero to start from,
//! and no longer than their names are in the config. Label values are names of the config and the enums of
//! [`labels`](super::labels), never what a client sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::cache::FiguresSource;
use super::certificates::CertificateSource;
use super::exposition::Page;
use super::labels::{Outcome, ReloadResult, Renewal, Resolving};
use super::process;
use super::shard::HistogramSnapshot;
use super::worker::{RouteKey, ServerKey, WorkerMetrics};
use crate::units::{ListenName, RouteName, ServerAddr, UpstreamName};

/// What [`Metrics::render`] returns, as a `Content-Type`.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The names of a config: which series there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(super) listeners: BTreeSet<ListenName>,
    pub(super) routes: BTreeSet<RouteKey>,
    pub(super) route_names: BTreeSet<RouteName>,
    /// Routes with a cache.
    pub(super) caching: BTreeSet<RouteName>,
    /// Routes that encode responses.
    pub(super) compressing: BTreeSet<RouteName>,
    pub(super) upstreams: BTreeSet<UpstreamName>,
    pub(super) servers: BTreeSet<ServerKey>,
    /// Upstreams with names among their servers.
    pub(super) resolving: BTreeSet<UpstreamName>,
}

impl Names {
    pub(crate) fn listener(&mut self, listen: &ListenName) {
        self.listeners.insert(listen.clone());
    }

    /// `upstream` is `None` for a route that answers by itself.
    pub(crate) fn route(
        &mut self,
        listen: &ListenName,
        route: &RouteName,
        upstream: Option<&UpstreamName>,
    ) {
        self.route_names.insert(route.clone());
        self.routes.insert(RouteKey {
            listen: listen.clone(),
            route: route.clone(),
            upstream: upstream.cloned(),
        });
    }

    /// It has a cache.
    pub(crate) fn caching(&mut self, route: &RouteName) {
        self.caching.insert(route.clone());
    }

    /// It encodes responses.
    pub(crate) fn compressing(&mut self, route: &RouteName) {
        self.compressing.insert(route.clone());
    }

    pub(crate) fn upstream(&mut self, upstream: &UpstreamName) {
        self.upstreams.insert(upstream.clone());
    }

    /// Its servers have names.
    pub(crate) fn resolving(&mut self, upstream: &UpstreamName) {
        self.resolving.insert(upstream.clone());
    }

    pub(crate) fn server(&mut self, upstream: &UpstreamName, server: &ServerAddr) {
        self.servers.insert(ServerKey {
            upstream: upstream.clone(),
            server: server.clone(),
        });
    }
}

/// What a scrape asks of a server that no worker counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerNow {
    pub(crate) upstream: UpstreamName,
    pub(crate) server: ServerAddr,
    /// Whether it is given new requests.
    pub(crate) up: bool,
    pub(crate) in_flight: u32,
    /// The most that it is given at once.
    pub(crate) limit: Option<u32>,
    /// Requests that wait for one of its upstream's servers.
    pub(crate) queued: usize,
}

/// Tells of every server at the time of the call.
pub(crate) type ServerSource = dyn Fn() -> Vec<ServerNow> + Send + Sync;

/// What became of the requests to a server since its name is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerTotals {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// Time to the response head.
    pub(crate) response: HistogramSnapshot,
}

/// All metrics of the process.
pub(crate) struct Metrics {
    pub(super) workers: Vec<Arc<WorkerMetrics>>,
    pub(super) names: Mutex<Arc<Names>>,
    pub(super) config: Mutex<RunningConfig>,
    pub(super) reloads: [AtomicU64; ReloadResult::COUNT],
    pub(super) resolutions: Mutex<BTreeMap<UpstreamName, [u64; Resolving::COUNT]>>,
    pub(super) servers: Mutex<Option<Arc<ServerSource>>>,
    pub(super) purged: AtomicU64,
    pub(super) certificates: Mutex<Option<Arc<CertificateSource>>>,
    pub(super) renewals: [AtomicU64; Renewal::COUNT],
    pub(super) cache: Mutex<Option<Arc<FiguresSource>>>,
    pub(super) access_log_dropped: Mutex<Arc<AtomicU64>>,
}

/// Which config is running.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningConfig {
    pub(super) hash: Option<String>,
    pub(super) since_seconds: f64,
    /// Whether it is an earlier one than the file's, by an operator's will.
    pub(super) rolled_back: bool,
    /// Whether it is the last good one of an earlier process, since the file was bad at the start.
    pub(super) fallback: bool,
    /// How many there are in memory, with those before that something is still done by.
    pub(super) states: usize,
}

impl Metrics {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            names: Mutex::default(),
            config: Mutex::default(),
            reloads: Default::default(),
            resolutions: Mutex::default(),
            servers: Mutex::default(),
            purged: AtomicU64::default(),
            certificates: Mutex::default(),
            renewals: Default::default(),
            cache: Mutex::default(),
            access_log_dropped: Mutex::default(),
        }
    }

    /// The shards of a worker. Only that worker may write to them.
    ///
    /// # Panics
    /// If there are not that many workers.
    pub(crate) fn worker(&self, number: usize) -> Arc<WorkerMetrics> {
        Arc::clone(
            self.workers
                .get(number)
                .expect("workers are numbered below the count that `new` was given"),
        )
    }

    /// Makes series for these names, and drops those of all others. What was counted for a name that stays is kept.
    pub(crate) fn declare(&self, names: Names) {
        let names = Arc::new(names);
        *lock(&self.names) = Arc::clone(&names);
        for worker in &self.workers {
            worker.retain(&names);
        }
        lock(&self.resolutions).retain(|upstream, _| names.resolving.contains(upstream));
    }

    /// Says which config is running, after a start, a reload or a rollback.
    pub(crate) fn config_running(&self, hash: &str, since: SystemTime) {
        let since_seconds = since
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64());
        let mut config = lock(&self.config);
        config.hash = Some(hash.to_owned());
        config.states = config.states.max(1);
        config.since_seconds = since_seconds;
    }

    /// Says how it stands to the file.
    pub(crate) fn config_stands(&self, rolled_back: bool, fallback: bool) {
        let mut config = lock(&self.config);
        config.rolled_back = rolled_back;
        config.fallback = fallback;
    }

    /// Says how many there are in memory, with those before that something is still done by.
    pub(crate) fn states_held(&self, count: usize) {
        lock(&self.config).states = count;
    }

    /// Counts a reload, and nothing else.
    pub(crate) fn reloaded(&self, result: ReloadResult) {
        self.reloads[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that DNS was asked for a server of an upstream.
    pub(crate) fn resolved(&self, upstream: &UpstreamName, result: Resolving) {
        let mut resolutions = lock(&self.resolutions);
        resolutions.entry(upstream.clone()).or_default()[result as usize] += 1;
    }

    /// Where to ask for the state of the servers.
    pub(crate) fn set_servers(&self, source: Arc<ServerSource>) {
        *lock(&self.servers) = Some(source);
    }

    /// The access log's count of dropped lines.
    pub(crate) fn set_access_log_dropped(&self, count: Arc<AtomicU64>) {
        *lock(&self.access_log_dropped) = count;
    }

    /// Open client connections of a listener.
    pub(crate) fn connections(&self, listen: &ListenName) -> i64 {
        let shards = self
            .workers
            .iter()
            .filter_map(|worker| worker.listeners.find(listen));
        shards.map(|shard| shard.connections.get()).sum()
    }

    /// Open client connections of each worker.
    pub(crate) fn worker_connections(&self) -> Vec<i64> {
        self.workers
            .iter()
            .map(|worker| worker.connections.get())
            .collect()
    }

    pub(crate) fn server_totals(
        &self,
        upstream: &UpstreamName,
        server: &ServerAddr,
    ) -> ServerTotals {
        let key = ServerKey {
            upstream: upstream.clone(),
            server: server.clone(),
        };
        let mut totals = ServerTotals::default();
        for shard in self
            .workers
            .iter()
            .filter_map(|worker| worker.servers.find(&key))
        {
            for (outcome, count) in Outcome::ALL.into_iter().zip(shard.requests()) {
                totals.requests += count;
                totals.failures += if outcome.is_failure() { count } else { 0 };
            }
            totals.response.merge(&shard.response.snapshot());
        }
        totals
    }

    /// The page of a scrape, in Prometheus' text format. Takes a while with many routes: not for a worker's thread.
    pub(crate) fn render(&self) -> String {
        let names = Arc::clone(&lock(&self.names));
        let mut page = Page::default();
        process::write(&mut page);
        self.write_process_wide(&mut page);
        self.write_certificates(&mut page);
        self.write_listeners(&mut page, &names);
        self.write_routes(&mut page, &names);
        self.write_cache(&mut page, &names);
        self.write_upstreams(&mut page, &names);
        page.into_text()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::super::labels::{RefusedReason, RetryReason};
    use super::*;

    fn server() -> ServerAddr {
        ServerAddr::Ip("127.0.0.1:3000".parse().unwrap())
    }

    fn names() -> Names {
        let mut names = Names::default();
        names.listener(&"web".into());
        names.route(&"web".into(), &"site".into(), Some(&"app".into()));
        names.route(&"web".into(), &"old".into(), None);
        names.upstream(&"app".into());
        names.server(&"app".into(), &server());
        names
    }

    fn line<'p>(page: &'p str, series: &str) -> &'p str {
        let found = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {series} in\n{page}"))
    }

    const SITE: &str = r#"weir_requests_total{listen="web",route="site",upstream="app",method="GET",status="2xx"}"#;

    #[test]
    fn every_family_is_there_from_the_start() {
        let metrics = Metrics::new(2);
        metrics.config_running("0123456789abcdef", UNIX_EPOCH + Duration::from_secs(12));
        metrics.declare(names());
        metrics.set_servers(Arc::new(|| {
            vec![ServerNow {
                upstream: "app".into(),
                server: server(),
                up: true,
                in_flight: 3,
                limit: Some(8),
                queued: 0,
            }]
        }));
        let page = metrics.render();
        for (series, value) in [
            (SITE, "0"),
            (
                r#"weir_requests_total{listen="web",route="old",upstream="",method="GET",status="2xx"}"#,
                "0",
            ),
            (
                r#"weir_request_duration_seconds_bucket{route="site",le="0.0005"}"#,
                "0",
            ),
            (
                r#"weir_request_duration_seconds_bucket{route="site",le="+Inf"}"#,
                "0",
            ),
            (
                r#"weir_upstream_requests_total{upstream="app",server="127.0.0.1:3000",outcome="canceled"}"#,
                "0",
            ),
            (
                r#"weir_upstream_response_seconds_count{upstream="app",server="127.0.0.1:3000"}"#,
                "0",
            ),
            (
                r#"weir_upstream_retries_total{upstream="app",reason="stale"}"#,
                "0",
            ),
            (
                r#"weir_server_up{upstream="app",server="127.0.0.1:3000"}"#,
                "1",
            ),
            (
                r#"weir_server_requests_limit{upstream="app",server="127.0.0.1:3000"}"#,
                "8",
            ),
            (
                r#"weir_server_requests_in_flight{upstream="app",server="127.0.0.1:3000"}"#,
                "3",
            ),
            (r#"weir_connections{listen="web"}"#, "0"),
            (r#"weir_connections_accepted_total{listen="web"}"#, "0"),
            (r#"weir_connections_handed_over_total{worker="1"}"#, "0"),
            (r#"weir_worker_connections{worker="0"}"#, "0"),
            (
                r#"weir_tls_handshakes_total{listen="web",result="failed"}"#,
                "0",
            ),
            (
                r#"weir_refused_requests_total{listen="web",reason="unavailable"}"#,
                "0",
            ),
            (r#"weir_bytes_received_total{listen="web"}"#, "0"),
            (r#"weir_bytes_sent_total{listen="web"}"#, "0"),
            (r#"weir_config_reloads_total{result="refused"}"#, "0"),
            ("weir_config_last_reload_success_timestamp_seconds", "12"),
            (r#"weir_config_info{hash="0123456789abcdef"}"#, "1"),
            ("weir_access_log_dropped_lines_total", "0"),
        ] {
            assert_eq!(line(&page, series), value, "{series}");
        }
        assert!(page.contains("\nweir_build_info{version="));
    }

    #[test]
    fn a_page_holds_no_series_twice_and_no_family_twice() {
        let metrics = Metrics::new(2);
        metrics.declare(names());
        let page = metrics.render();
        let mut seen = BTreeSet::new();
        for line in page.lines().filter(|line| !line.starts_with("# HELP")) {
            assert!(
                seen.insert(line.rsplit_once(' ').unwrap().0.to_owned()),
                "{line} is there twice"
            );
        }
    }

    #[test]
    fn workers_are_added_up() {
        let metrics = Metrics::new(2);
        metrics.declare(names());
        for number in 0..2 {
            let worker = metrics.worker(number);
            let route = worker.route(&"web".into(), &"site".into(), Some(&"app".into()));
            route.ended(&Method::GET, Some(StatusCode::OK), Duration::from_millis(3));
            route.ended(
                &Method::from_bytes(b"BREW").unwrap(),
                None,
                Duration::from_secs(61),
            );
            let listener = worker.listener(&"web".into());
            listener.refused(RefusedReason::NoRoute);
            listener.received.add(10);
            worker
                .server(&"app".into(), &server())
                .ended(Outcome::Timeout);
            worker.server(&"app".into(), &server()).ended(Outcome::Ok);
            worker
                .server(&"app".into(), &server())
                .response
                .observe(Duration::from_millis(3));
            worker.upstream(&"app".into()).retried(RetryReason::Stale);
            worker.connections.add(5);
        }
        // Accepted by one worker, served and closed by the other.
        metrics.worker(0).listener(&"web".into()).connections.add(4);
        metrics
            .worker(1)
            .listener(&"web".into())
            .connections
            .add(-1);

        let page = metrics.render();
        for (series, value) in [
            (SITE, "2"),
            (
                r#"weir_requests_total{listen="web",route="site",upstream="app",method="OTHER",status="none"}"#,
                "2",
            ),
            (
                r#"weir_request_duration_seconds_bucket{route="site",le="0.0025"}"#,
                "0",
            ),
            (
                r#"weir_request_duration_seconds_bucket{route="site",le="0.005"}"#,
                "2",
            ),
            (
                r#"weir_request_duration_seconds_bucket{route="site",le="60"}"#,
                "2",
            ),
            (
                r#"weir_request_duration_seconds_bucket{route="site",le="+Inf"}"#,
                "4",
            ),
            (
                r#"weir_request_duration_seconds_sum{route="site"}"#,
                "122.006",
            ),
            (r#"weir_request_duration_seconds_count{route="site"}"#, "4"),
            (
                r#"weir_refused_requests_total{listen="web",reason="no_route"}"#,
                "2",
            ),
            (r#"weir_bytes_received_total{listen="web"}"#, "20"),
            (
                r#"weir_upstream_retries_total{upstream="app",reason="stale"}"#,
                "2",
            ),
            (r#"weir_connections{listen="web"}"#, "3"),
        ] {
            assert_eq!(line(&page, series), value, "{series}");
        }
        assert_eq!(metrics.connections(&"web".into()), 3);
        assert_eq!(metrics.worker_connections(), [5, 5]);
        let totals = metrics.server_totals(&"app".into(), &server());
        assert_eq!(
            (totals.requests, totals.failures, totals.response.count()),
            (4, 2, 2)
        );
    }

    #[test]
    fn a_reload_drops_removed_names_and_keeps_the_counts_of_the_others() {
        let metrics = Metrics::new(1);
        metrics.declare(names());
        let worker = metrics.worker(0);
        let site = worker.route(&"web".into(), &"site".into(), Some(&"app".into()));
        let old = worker.route(&"web".into(), &"old".into(), None);
        site.ended(&Method::GET, Some(StatusCode::OK), Duration::ZERO);
        old.ended(&Method::GET, Some(StatusCode::OK), Duration::ZERO);

        let mut fewer = Names::default();
        fewer.route(&"web".into(), &"site".into(), Some(&"app".into()));
        metrics.declare(fewer);
        site.ended(&Method::GET, Some(StatusCode::OK), Duration::ZERO);
        old.ended(&Method::GET, Some(StatusCode::OK), Duration::ZERO);
        // A worker that still has the old state may even ask for the old name.
        worker.listener(&"web".into()).accepted.add(1);

        let page = metrics.render();
        assert_eq!(line(&page, SITE), "2");
        assert_eq!(
            line(
                &page,
                r#"weir_request_duration_seconds_count{route="site"}"#
            ),
            "2"
        );
        for gone in [
            r#"route="old""#,
            "weir_connections{",
            "weir_upstream_requests_total",
        ] {
            assert!(!page.contains(gone), "{gone} in\n{page}");
        }

        metrics.declare(names());
        let page = metrics.render();
        assert_eq!(line(&page, SITE), "2");
        let old = r#"weir_requests_total{listen="web",route="old",upstream="",method="GET",status="2xx"}"#;
        assert_eq!(line(&page, old), "0", "a name that comes back begins anew");
        let old = r#"weir_request_duration_seconds_count{route="old"}"#;
        assert_eq!(line(&page, old), "0");
    }

    #[test]
    fn reloads_and_dropped_lines_are_exported() {
        let metrics = Metrics::new(0);
        metrics.reloaded(ReloadResult::Ok);
        metrics.reloaded(ReloadResult::Refused);
        metrics.reloaded(ReloadResult::Refused);
        metrics.set_access_log_dropped(Arc::new(AtomicU64::new(7)));
        let page = metrics.render();
        assert_eq!(
            line(&page, r#"weir_config_reloads_total{result="ok"}"#),
            "1"
        );
        assert_eq!(
            line(&page, r#"weir_config_reloads_total{result="refused"}"#),
            "2"
        );
        assert_eq!(line(&page, "weir_access_log_dropped_lines_total"), "7");
    }
}
