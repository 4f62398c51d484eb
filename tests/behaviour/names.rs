//! Servers by name: what DNS says, now and later, is what gets the requests.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::control::WEB;
use super::support::dns::Dns;
use super::support::origin::ok;
use super::support::{Origin, Weir, eventually};

/// Origins of one name, on one port, that answer with their addresses.
async fn origins<const N: usize>() -> [Origin; N] {
    Origin::on_one_port(|address, _| ok(address.ip().to_string())).await
}

fn ips(origins: &[&Origin]) -> Vec<IpAddr> {
    origins.iter().map(|origin| origin.address().ip()).collect()
}

/// One worker, so that there is one pool and one balancer.
fn config(dns: &Dns, servers: &str, keys: &str) -> String {
    format!(
        "[process]\nworkers = 1\nresolver = \"{}\"\n{WEB}[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [{servers}]\n{keys}\n",
        dns.address
    )
}

/// `"app.test:PORT"`
fn name(of: &Origin) -> String {
    format!("\"app.test:{}\"", of.address().port())
}

async fn answers(weir: &Weir, requests: usize) -> BTreeSet<String> {
    let mut answers = BTreeSet::new();
    for _ in 0..requests {
        let response = weir.get("/").await;
        assert_eq!(response.status, 200);
        answers.insert(response.text());
    }
    answers
}

async fn until_answers_are(weir: &Weir, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|answer| (*answer).to_owned()).collect();
    eventually(async || answers(weir, 12).await, |seen| *seen == expected).await;
}

/// What `/api/status` says of the first name.
async fn named(weir: &Weir) -> Value {
    weir.status().await["upstreams"][0]["names"][0].clone()
}

async fn until_error_is(weir: &Weir, error: Value) -> Value {
    eventually(async || named(weir).await, |name| name["error"] == error).await
}

async fn resolutions(weir: &Weir, result: &str) -> f64 {
    let series = format!("weir_name_resolutions_total{{upstream=\"app\",result=\"{result}\"}}");
    weir.metric(&series).await
}

#[tokio::test]
async fn every_address_of_a_name_gets_requests() {
    let (dns, [a, b, c]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&c, &a, &b]), 60);
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    let all = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(str::to_owned);
    assert_eq!(answers(&weir, 9).await, BTreeSet::from(all));
    assert_eq!(weir.admin("GET", "/readyz").await.status, 200);

    let status = weir.status().await;
    let servers = status["upstreams"][0]["servers"].as_array().unwrap();
    let addresses: Vec<_> = servers.iter().map(|server| &server["address"]).collect();
    let expected = [&a, &b, &c].map(|origin| origin.address().to_string());
    assert_eq!(addresses, expected.each_ref());
    let name = named(&weir).await;
    assert_eq!(name["name"], format!("app.test:{}", a.address().port()));
    assert_eq!(name["addresses"], Value::from(expected.to_vec()));
    assert_eq!(name["error"], Value::Null);
    assert!(
        name["resolved_at"].as_str() < name["expires"].as_str(),
        "{name}"
    );
    assert_eq!(resolutions(&weir, "ok").await, 1.0);
    assert_eq!(resolutions(&weir, "failed").await, 0.0);
}

#[tokio::test]
async fn ipv6_addresses_are_used_beside_ipv4() {
    let (dns, [a]) = (Dns::start().await, origins().await);
    dns.has(
        "app.test",
        &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        60,
    );
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    let port = a.address().port();
    let expected = vec![format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    assert_eq!(named(&weir).await["addresses"], Value::from(expected));
    assert_eq!(weir.get("/").await.status, 200);
}

#[tokio::test]
async fn a_changed_answer_is_taken_and_keeps_the_connections_of_those_that_stay() {
    let (dns, [a, b, c]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&a, &b]), 1);
    let keys = "keepalive = { idle = \"1h\" }";
    let weir = Weir::start(&config(&dns, &name(&a), keys)).await;
    until_answers_are(&weir, &["127.0.0.1", "127.0.0.2"]).await;
    let before = weir.status().await;
    dns.has("app.test", &ips(&[&c, &a]), 1);
    until_answers_are(&weir, &["127.0.0.1", "127.0.0.3"]).await;
    assert_eq!(a.connections(), 1, "its connection was kept");
    let after = weir.status().await;
    assert_eq!(after["config"], before["config"], "that was no reload");
    for result in ["ok", "refused"] {
        let series = format!("weir_config_reloads_total{{result=\"{result}\"}}");
        assert_eq!(weir.metric(&series).await, 0.0);
    }
    let requests = |status: &Value| {
        let servers = status["upstreams"][0]["servers"].as_array().unwrap();
        let server = servers
            .iter()
            .find(|server| server["address"] == a.address().to_string());
        server.unwrap()["requests"].as_u64()
    };
    assert!(requests(&after) > requests(&before), "counters go on");
    assert_eq!(weir.server(b.address()).await, Value::Null);
}

#[tokio::test]
async fn a_changed_answer_leaves_the_health_of_the_others_alone() {
    let dns = Dns::start().await;
    let [a, b, c] = Origin::on_one_port(|address, request| {
        if request.target() == "/healthz" && address.ip().to_string() == "127.0.0.2" {
            return b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_vec();
        }
        ok(address.ip().to_string())
    })
    .await;
    dns.has("app.test", &ips(&[&a, &b]), 1);
    let keys = "health_check = { path = \"/healthz\", interval = \"1h\", fast_interval = \"20ms\", fall = 2 }";
    let weir = Weir::start(&config(&dns, &name(&a), keys)).await;
    weir.until_server_is(b.address(), "down").await;
    weir.until_server_is(a.address(), "up").await;
    let before = (
        weir.server(a.address()).await,
        weir.server(b.address()).await,
    );
    let probes = a.requests().len();
    dns.has("app.test", &ips(&[&a, &b, &c]), 1);
    weir.until_server_is(c.address(), "up").await;
    let after = (
        weir.server(a.address()).await,
        weir.server(b.address()).await,
    );
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        assert_eq!(
            (&after["state"], &after["since"], &after["reason"]),
            (&before["state"], &before["since"], &before["reason"])
        );
    }
    assert_eq!(a.requests().len(), probes, "it was not probed anew");
    until_answers_are(&weir, &["127.0.0.1", "127.0.0.3"]).await;
}

#[tokio::test]
async fn the_last_addresses_stay_while_dns_fails() {
    let (dns, [a, b]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&a, &b]), 1);
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    let both = ["127.0.0.1", "127.0.0.2"];
    for (failing, error) in [
        (true, "the DNS server answered `Server Failure`"),
        (false, "no such name"),
    ] {
        if failing {
            dns.fails("app.test");
        } else {
            dns.forgets("app.test");
        }
        let name = until_error_is(&weir, error.into()).await;
        assert_eq!(name["addresses"].as_array().unwrap().len(), 2, "{name}");
        assert!(resolutions(&weir, "failed").await >= 1.0);
        until_answers_are(&weir, &both).await;
        dns.has("app.test", &ips(&[&a, &b]), 1);
        until_error_is(&weir, Value::Null).await;
    }
    dns.has("app.test", &ips(&[&b]), 1);
    until_answers_are(&weir, &["127.0.0.2"]).await;
}

#[tokio::test]
async fn a_dns_server_that_was_gone_is_asked_again() {
    let (dns, [a, b]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&a]), 1);
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    let address = dns.address;
    dns.stop().await;
    let failed = eventually(
        async || named(&weir).await,
        |name| name["error"].is_string(),
    )
    .await;
    assert_eq!(failed["addresses"].as_array().unwrap().len(), 1, "{failed}");
    assert_eq!(weir.get("/").await.text(), "127.0.0.1");
    let dns = Dns::at(address).await;
    dns.has("app.test", &ips(&[&b]), 1);
    until_answers_are(&weir, &["127.0.0.2"]).await;
    assert_eq!(named(&weir).await["error"], Value::Null);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_503_until_it_does() {
    let (dns, [a]) = (Dns::start().await, origins().await);
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    let response = weir.get("/").await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (503, "weir; error=destination_unavailable")
    );
    assert_eq!(named(&weir).await["error"], "no such name");
    assert_eq!(
        weir.admin("GET", "/readyz").await.status,
        200,
        "that it is not there is known"
    );
    dns.has("app.test", &ips(&[&a]), 60);
    eventually(async || weir.get("/").await.status, |status| *status == 200).await;
}

#[tokio::test]
async fn a_start_waits_for_answers_but_not_for_long() {
    let (dns, [a]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&a]), 60);
    dns.takes(Duration::from_millis(700));
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    assert_eq!(weir.get("/").await.status, 200, "the first request");

    dns.ignores("app.test");
    dns.takes(Duration::ZERO);
    let began = Instant::now();
    let weir = Weir::start(&config(&dns, &name(&a), "")).await;
    let waited = began.elapsed();
    assert!((2..4).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(weir.get("/").await.status, 503);
    assert_eq!(weir.admin("GET", "/readyz").await.status, 503);
    dns.has("app.test", &ips(&[&a]), 60);
    let ready = async || weir.admin("GET", "/readyz").await.status;
    eventually(ready, |status| *status == 200).await;
    assert_eq!(weir.get("/").await.status, 200);
}

#[tokio::test]
async fn no_request_meets_an_empty_upstream_after_a_reload_with_another_name() {
    let (dns, [a, b]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&a]), 60);
    dns.has("other.test", &ips(&[&b]), 60);
    let weir = Arc::new(Weir::start(&config(&dns, &name(&a), "")).await);
    dns.takes(Duration::from_millis(300));
    let over = Arc::new(AtomicBool::new(false));
    let asking = {
        let (weir, over) = (Arc::clone(&weir), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                assert_eq!(weir.get("/").await.status, 200);
            }
        })
    };
    let other = name(&a).replace("app", "other");
    weir.reload(&config(&dns, &other, "")).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "127.0.0.2");
    over.store(true, Ordering::SeqCst);
    asking.await.unwrap();
    // The old name is forgotten, and asked for no more.
    let names = weir.status().await["upstreams"][0]["names"].clone();
    assert_eq!(names.as_array().unwrap().len(), 1);
    // One that is known is not asked for again.
    let asked = dns.asked("other.test");
    weir.reload(&config(&dns, &other, "stall_timeout = \"9s\""))
        .await
        .unwrap();
    assert_eq!(dns.asked("other.test"), asked);
}

#[tokio::test]
async fn another_dns_server_is_asked_after_a_reload() {
    let (old, new) = (Dns::start().await, Dns::start().await);
    let [a, b] = origins().await;
    old.has("app.test", &ips(&[&a]), 60);
    new.has("app.test", &ips(&[&b]), 60);
    let weir = Weir::start(&config(&old, &name(&a), "")).await;
    assert_eq!(weir.get("/").await.text(), "127.0.0.1");
    weir.reload(&config(&new, &name(&a), "")).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "127.0.0.2");
    // One that knows nothing takes nothing away.
    let empty = Dns::start().await;
    weir.reload(&config(&empty, &name(&a), "")).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "127.0.0.2");
    assert_eq!(named(&weir).await["error"], "no such name");
}

#[tokio::test]
async fn srv_records_tell_hosts_ports_and_weights() {
    let dns = Dns::start().await;
    let (a, b) = (Origin::text("a").await, Origin::text("b").await);
    let ports = [&a, &b].map(|origin| origin.address().port());
    let local = ["127.0.0.1".parse().unwrap()];
    dns.has("a.test", &local, 60);
    dns.has("b.test", &local, 60);
    dns.serves(
        "_http._tcp.app.test",
        &[
            (1, 3, ports[0], "a.test"),
            (1, 1, ports[1], "b.test"),
            (1, 1, 9, "gone.test"),
        ],
        1,
    );
    let weir = Weir::start(&config(&dns, "\"srv+_http._tcp.app.test\"", "")).await;
    for _ in 0..40 {
        assert_eq!(weir.get("/").await.status, 200);
    }
    assert_eq!([a.requests().len(), b.requests().len()], [30, 10]);
    let name = named(&weir).await;
    assert_eq!(name["name"], "srv+_http._tcp.app.test");
    dns.serves("_http._tcp.app.test", &[(1, 0, ports[1], "b.test")], 1);
    until_answers_are(&weir, &["b"]).await;
    dns.serves("_http._tcp.app.test", &[], 1);
    let name = until_error_is(&weir, "no addresses".into()).await;
    assert_eq!(name["addresses"].as_array().unwrap().len(), 1);
}

/// Hosts that are not of the best priority.
#[tokio::test]
async fn srv_records_tell_backups() {
    let dns = Dns::start().await;
    let (first, second) = (Origin::text("first").await, Origin::text("second").await);
    let ports = [&first, &second].map(|origin| origin.address().port());
    dns.has("a.test", &["127.0.0.1".parse().unwrap()], 60);
    dns.serves(
        "_http._tcp.app.test",
        &[(1, 1, ports[0], "a.test"), (2, 9, ports[1], "a.test")],
        60,
    );
    let keys = "health_check = { type = \"tcp\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1 }";
    let weir = Weir::start(&config(&dns, "\"srv+_http._tcp.app.test\"", keys)).await;
    assert_eq!(answers(&weir, 20).await, BTreeSet::from(["first".into()]));
    let address = first.address();
    drop(first);
    weir.until_server_is(address, "down").await;
    assert_eq!(answers(&weir, 4).await, BTreeSet::from(["second".into()]));
}

#[tokio::test]
async fn what_an_entry_says_is_for_every_server_of_its_name() {
    let (dns, [a, b]) = (Dns::start().await, origins().await);
    let other = Origin::text("other").await;
    dns.has("app.test", &ips(&[&a, &b]), 60);
    let entry = |keys: &str| {
        let (name, other) = (name(&a), other.address());
        let servers = format!("{{ address = {name}, {keys} }}, \"{other}\"");
        config(&dns, &servers, "")
    };
    let weir = Weir::start(&entry("weight = 3, max_in_flight = 7")).await;
    answers(&weir, 28).await;
    let requests = [&a, &b, &other].map(|origin| origin.requests().len());
    assert_eq!(requests, [12, 12, 4]);
    for origin in [&a, &b] {
        let server = origin.address();
        let limit = format!("weir_server_requests_limit{{upstream=\"app\",server=\"{server}\"}}");
        assert_eq!(weir.metric(&limit).await, 7.0);
    }
    weir.reload(&entry("backup = true")).await.unwrap();
    assert_eq!(answers(&weir, 12).await, BTreeSet::from(["other".into()]));
}

#[tokio::test]
async fn a_server_that_several_entries_lead_to_is_one_server() {
    let (dns, [a, b]) = (Dns::start().await, origins().await);
    dns.has("app.test", &ips(&[&a, &b]), 60);
    dns.has("same.test", &ips(&[&b]), 60);
    let servers = format!(
        "\"{}\", {}, {}",
        b.address(),
        name(&a),
        name(&a).replace("app", "same")
    );
    let weir = Weir::start(&config(&dns, &servers, "")).await;
    let status = weir.status().await;
    let servers = status["upstreams"][0]["servers"].as_array().unwrap();
    let addresses: Vec<_> = servers.iter().map(|server| &server["address"]).collect();
    assert_eq!(
        addresses,
        [&b, &a]
            .map(|origin| origin.address().to_string())
            .each_ref()
    );
    for _ in 0..10 {
        weir.get("/").await;
    }
    assert_eq!([a.requests().len(), b.requests().len()], [5, 5]);
}

#[tokio::test]
async fn servers_with_addresses_need_no_dns() {
    let origin = Origin::text("origin").await;
    let dns = Dns::start().await;
    let servers = format!("\"localhost:{}\"", origin.address().port());
    let weir = Weir::start(&config(&dns, &servers, "")).await;
    assert_eq!(weir.get("/").await.text(), "origin");
    assert_eq!(weir.status().await["upstreams"][0].get("names"), None);
    assert_eq!(dns.asked("localhost"), 0);
}
