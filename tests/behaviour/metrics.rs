//! `/metrics`: which series there are, and what they count.

use std::collections::{BTreeMap, BTreeSet};

use super::support::control::{Holding, WEB, ask_for, fixed};
use super::support::{Origin, Weir, eventually};

/// Family -> the names of the labels of its series.
fn families(page: &str) -> BTreeMap<String, BTreeSet<Vec<String>>> {
    let mut families: BTreeMap<String, BTreeSet<Vec<String>>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let labels = labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|label| !label.is_empty());
        let mut labels: Vec<_> = labels
            .map(|label| label.split('=').next().unwrap().to_owned())
            .collect();
        labels.retain(|label| label != "le");
        families
            .entry(family.to_owned())
            .or_default()
            .insert(labels);
    }
    families
}

#[tokio::test]
async fn every_family_is_there_from_the_start_with_its_labels() {
    let origin = Origin::text("hello").await;
    let config = Weir::config(&[&origin], "");
    let weir = Weir::start(&format!("{config}[route.site.cache]\n")).await;
    let page = weir.metrics().await;
    let found = families(&page);
    for (family, labels) in [
        ("weir_requests_total", "listen route upstream method status"),
        ("weir_request_duration_seconds", "route"),
        ("weir_upstream_requests_total", "upstream server outcome"),
        ("weir_upstream_response_seconds", "upstream server"),
        ("weir_upstream_retries_total", "upstream reason"),
        ("weir_server_up", "upstream server"),
        ("weir_server_requests_in_flight", "upstream server"),
        ("weir_connections", "listen"),
        ("weir_connections_accepted_total", "listen"),
        ("weir_connections_handed_over_total", "worker"),
        ("weir_worker_connections", "worker"),
        ("weir_tls_handshakes_total", "listen result"),
        ("weir_bytes_received_total", "listen"),
        ("weir_bytes_sent_total", "listen"),
        ("weir_refused_requests_total", "listen reason"),
        ("weir_cache_requests_total", "route result"),
        ("weir_cache_bytes", ""),
        ("weir_cache_max_bytes", ""),
        ("weir_cache_entries", ""),
        ("weir_cache_evictions_total", ""),
        ("weir_cache_fills", ""),
        ("weir_cache_purged_total", ""),
        ("weir_config_reloads_total", "result"),
        ("weir_config_last_reload_success_timestamp_seconds", ""),
        ("weir_config_info", "hash"),
        ("weir_config_rolled_back", ""),
        ("weir_config_fallback", ""),
        ("weir_config_states", ""),
        ("weir_certificate_renewals_total", "result"),
        ("weir_build_info", "version"),
        ("weir_access_log_dropped_lines_total", ""),
        ("process_cpu_seconds_total", ""),
        ("process_open_fds", ""),
        ("process_max_fds", ""),
        ("process_resident_memory_bytes", ""),
        ("process_virtual_memory_bytes", ""),
        ("process_start_time_seconds", ""),
    ] {
        let labels: Vec<String> = labels.split_whitespace().map(str::to_owned).collect();
        assert_eq!(
            found.get(family),
            Some(&BTreeSet::from([labels])),
            "{family}"
        );
        assert!(
            page.contains(&format!("# TYPE {family} "))
                && page.contains(&format!("# HELP {family} ")),
            "{family}"
        );
    }
    assert!(page.contains(&format!(
        "weir_build_info{{version=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    )));
    let hash = weir.status().await["config"]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(page.contains(&format!("weir_config_info{{hash=\"{hash}\"}} 1\n")));
    assert!(page.contains(&format!(
        "weir_server_up{{upstream=\"app\",server=\"{}\"}} 1\n",
        origin.address()
    )));
    assert!(
        weir.metric("weir_config_last_reload_success_timestamp_seconds")
            .await
            > 1e9
    );
}

#[tokio::test]
async fn requests_are_counted_by_what_the_config_calls_them() {
    let origin = Origin::start(|request| match request.target() {
        "/broken" => b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/empty" => Vec::new(),
        _ => super::support::origin::ok("hello"),
    })
    .await;
    let weir = Weir::start(&format!(
        "{}{}",
        Weir::config(&[&origin], ""),
        fixed("own", "path = \"/own\"", "own")
    ))
    .await;
    for request in [
        "GET / HTTP/1.1",
        "GET /any?thing HTTP/1.1",
        "HEAD / HTTP/1.1",
        "BREW / HTTP/1.1",
        "PROPFIND /x HTTP/1.1",
        "GET /broken HTTP/1.1",
        "POST /empty HTTP/1.1",
        "GET /own HTTP/1.1",
    ] {
        weir.ask(&format!(
            "{request}\r\nHost: h{}.example\r\nContent-Length: 0\r\n\r\n",
            request.len()
        ))
        .await;
    }
    let series = |route: &str, upstream: &str, method: &str, status: &str| {
        format!(
            "weir_requests_total{{listen=\"web\",route=\"{route}\",upstream=\"{upstream}\",method=\"{method}\",status=\"{status}\"}}"
        )
    };
    for (route, upstream, method, status, count) in [
        ("site", "app", "GET", "2xx", 2.0),
        ("site", "app", "HEAD", "2xx", 1.0),
        ("site", "app", "OTHER", "2xx", 2.0),
        ("site", "app", "GET", "5xx", 1.0),
        ("site", "app", "POST", "5xx", 1.0),
        ("own", "", "GET", "2xx", 1.0),
    ] {
        assert_eq!(
            weir.metric(&series(route, upstream, method, status)).await,
            count,
            "{route} {method} {status}"
        );
    }
    let page = weir.metrics().await;
    for foreign in ["BREW", "PROPFIND", "example", "/any"] {
        assert!(
            !page.contains(foreign),
            "no client makes a series: {foreign}"
        );
    }
    let server = origin.address();
    for (outcome, count) in [
        ("ok", 5.0),
        ("error", 1.0),
        ("reset", 1.0),
        ("timeout", 0.0),
    ] {
        let series = format!(
            "weir_upstream_requests_total{{upstream=\"app\",server=\"{server}\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(weir.metric(&series).await, count, "{outcome}");
    }
    assert_eq!(
        weir.metric("weir_request_duration_seconds_count{route=\"site\"}")
            .await,
        7.0
    );
    assert_eq!(
        weir.metric("weir_connections_accepted_total{listen=\"web\"}")
            .await,
        8.0
    );
    assert!(weir.metric("weir_bytes_sent_total{listen=\"web\"}").await > 800.0);
}

#[tokio::test]
async fn gauges_follow_what_they_measure() {
    let holding = Holding::start("held").await;
    let weir = Weir::start(&Weir::config(&[&holding.origin], "")).await;
    let in_flight = format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        holding.origin.address()
    );
    let connection = ask_for(weir.address(), "/hold").await;
    eventually(
        async || weir.metric(&in_flight).await,
        |value| *value == 1.0,
    )
    .await;
    assert_eq!(weir.metric("weir_connections{listen=\"web\"}").await, 1.0);
    drop(connection);
    eventually(
        async || weir.metric(&in_flight).await,
        |value| *value == 0.0,
    )
    .await;
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |value| *value == 0.0,
    )
    .await;
    let canceled = format!(
        "weir_upstream_requests_total{{upstream=\"app\",server=\"{}\",outcome=\"canceled\"}}",
        holding.origin.address()
    );
    assert_eq!(weir.metric(&canceled).await, 1.0);
}

#[tokio::test]
async fn a_reload_keeps_what_was_counted_for_names_that_stay_and_drops_the_others() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let both = format!(
        "[process]\nworkers = 2\n{}{}",
        Weir::config(&[&one, &two], ""),
        fixed("old", "path = \"/old\"", "old")
    );
    let weir = Weir::start(&both).await;
    for _ in 0..6 {
        weir.get("/").await;
        weir.get("/old").await;
    }
    let total = "weir_requests_total{listen=\"web\",route=\"site\",upstream=\"app\",method=\"GET\",status=\"2xx\"}";
    let of = |origin: &Origin| {
        format!(
            "weir_upstream_requests_total{{upstream=\"app\",server=\"{}\",outcome=\"ok\"}}",
            origin.address()
        )
    };
    let before = weir.metric(&of(&one)).await;
    let alone = format!(
        "[process]\nworkers = 2\n{}{}",
        Weir::config(&[&one], ""),
        fixed("new", "path = \"/new\"", "new")
    );
    weir.reload(&alone).await.unwrap();
    assert_eq!(weir.metric(total).await, 6.0);
    assert_eq!(weir.metric(&of(&one)).await, before);
    let page = weir.metrics().await;
    for gone in ["route=\"old\"", &two.address().to_string()] {
        assert!(!page.contains(gone), "{gone}");
    }
    assert!(page.contains("route=\"new\""), "there from the start");
    weir.get("/").await;
    assert_eq!(weir.metric(total).await, 7.0);
    assert_eq!(
        weir.metric("weir_config_reloads_total{result=\"ok\"}")
            .await,
        1.0
    );
    // A name that comes back begins anew, and is counted on all workers.
    weir.reload(&both).await.unwrap();
    assert_eq!(weir.metric(&of(&two)).await, 0.0);
    for _ in 0..10 {
        weir.get("/").await;
    }
    assert_eq!(
        weir.metric(&of(&one)).await + weir.metric(&of(&two)).await,
        before + 11.0
    );
    let hashes = weir
        .metrics()
        .await
        .lines()
        .filter(|line| line.starts_with("weir_config_info{"))
        .count();
    assert_eq!(hashes, 1);
}

#[tokio::test]
async fn a_page_has_no_series_twice() {
    let origin = Origin::text("hello").await;
    let listeners = WEB.replace("web", "other");
    let weir = Weir::start(&format!("{}{listeners}", Weir::config(&[&origin], ""))).await;
    weir.get("/").await;
    let page = weir.metrics().await;
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with("# HELP")) {
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "{line}");
    }
}
