//! Health checks, and what happens to requests when servers are down.

use std::time::{Duration, Instant};

use super::support::control::{Patient, WEB, fixed};
use super::support::{Origin, Weir, eventually};

/// Quick enough for a test, slow enough for a busy machine.
const QUICK: &str = "interval = \"150ms\", fast_interval = \"100ms\", timeout = \"2s\"";

fn check(keys: &str) -> String {
    format!("health_check = {{ {QUICK}, {keys} }}")
}

#[tokio::test]
async fn a_server_that_fails_its_checks_gets_nothing_until_it_passes_them_again() {
    let (good, bad) = (Patient::start("good").await, Patient::start("bad").await);
    let weir = Weir::start(&Weir::config(
        &[&good.origin, &bad.origin],
        &check("path = \"/healthz\", rise = 2, fall = 2"),
    ))
    .await;
    weir.until_server_is(bad.address(), "up").await;
    bad.set(500);
    assert_eq!(
        weir.until_server_is(bad.address(), "down").await,
        "status 500"
    );
    let series = format!(
        "weir_server_up{{upstream=\"app\",server=\"{}\"}}",
        bad.address()
    );
    assert_eq!(weir.metric(&series).await, 0.0);
    let before = bad.requests();
    for _ in 0..20 {
        assert_eq!(weir.get("/").await.text(), "good");
    }
    assert_eq!(bad.requests(), before);
    bad.set(200);
    assert_eq!(weir.until_server_is(bad.address(), "up").await, "");
    assert_eq!(weir.metric(&series).await, 1.0);
    eventually(async || weir.get("/").await.text(), |name| name == "bad").await;
}

#[tokio::test]
async fn it_takes_as_many_failures_and_passes_as_the_config_says() {
    let server = Patient::start("server").await;
    let weir = Weir::start(&Weir::config(
        &[&server.origin],
        &check("path = \"/healthz\", rise = 6, fall = 8"),
    ))
    .await;
    weir.until_server_is(server.address(), "up").await;
    let probes = || server.origin.requests().len();
    server.set(500);
    let before = probes();
    weir.until_server_is(server.address(), "down").await;
    // One more may have been answered before the status was asked for, one less counted when it was switched.
    assert!(
        (8..=10).contains(&(probes() - before)),
        "{}",
        probes() - before
    );
    server.set(200);
    let before = probes();
    weir.until_server_is(server.address(), "up").await;
    assert!(
        (6..=8).contains(&(probes() - before)),
        "{}",
        probes() - before
    );
}

/// Each is beyond what the usual intervals come to before a test loses patience.
#[tokio::test]
async fn probes_are_as_frequent_as_the_config_says() {
    let server = Patient::start("server").await;
    let keys =
        "health_check = { path = \"/healthz\", interval = \"50ms\", fast_interval = \"1h\" }";
    let _weir = Weir::start(&Weir::config(&[&server.origin], keys)).await;
    let probes = async || server.origin.requests().len();
    eventually(probes, |probes| *probes >= 20).await;
    // While the state is changing, the other interval counts.
    let server = Patient::start("server").await;
    server.set(500);
    let keys = "health_check = { path = \"/healthz\", interval = \"1h\", fast_interval = \"50ms\", fall = 20 }";
    let weir = Weir::start(&Weir::config(&[&server.origin], keys)).await;
    weir.until_server_is(server.address(), "down").await;
    assert_eq!(server.origin.requests().len(), 20);
}

/// Ten that take as long as is usual would be beyond the patience of a test.
#[tokio::test]
async fn a_probe_takes_no_longer_than_the_config_says() {
    let silent = Origin::raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let keys = "health_check = { path = \"/healthz\", fast_interval = \"50ms\", timeout = \"100ms\", fall = 10 }";
    let weir = Weir::start(&Weir::config(&[&silent], keys)).await;
    weir.until_server_is(silent.address(), "down").await;
}

#[tokio::test]
async fn a_path_alone_is_a_check() {
    let server = Patient::start("server").await;
    let keys = "health_check = \"/healthz\"";
    let weir = Weir::start(&Weir::config(&[&server.origin], keys)).await;
    weir.until_server_is(server.address(), "up").await;
    assert_eq!(server.origin.last().line(), "GET /healthz HTTP/1.1");
}

#[tokio::test]
async fn a_tcp_check_asks_only_for_a_connection() {
    let server = Origin::text("server").await;
    let probed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = probed.local_addr().unwrap();
    let config = Weir::config(
        &[&server],
        &check(&format!(
            "type = \"tcp\", port = {}, rise = 1, fall = 1",
            address.port()
        )),
    );
    let weir = Weir::start(&config).await;
    weir.until_server_is(server.address(), "up").await;
    assert_eq!(server.connections(), 0, "probes go to the other port");
    drop(probed);
    assert_eq!(
        weir.until_server_is(server.address(), "down").await,
        "connection refused"
    );
    let _probed = tokio::net::TcpListener::bind(address).await.unwrap();
    weir.until_server_is(server.address(), "up").await;
}

/// Each option of an HTTP check: with it the server is up, without it down.
#[tokio::test]
async fn every_option_of_an_http_check_counts() {
    let picky = Origin::start(|probe| {
        let passes = match probe.target() {
            "/method" => probe.method() == "OPTIONS",
            "/host" => probe.field("host") == "health.example",
            "/own-host" => probe.field("host").starts_with("127.0.0.1:"),
            "/headers" => {
                probe.fields("x-probe") == ["yes"] && probe.fields("authorization") == ["Bearer x"]
            }
            "/teapot" => return b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "/body" => true,
            _ => false,
        };
        let status = if passes { "200 OK" } else { "503 No" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\nall is ok").into_bytes()
    })
    .await;
    for (with, without) in [
        ("path = \"/own-host\"", "path = \"/\""),
        (
            "path = \"/method\", method = \"OPTIONS\"",
            "path = \"/method\"",
        ),
        (
            "path = \"/host\", host = \"health.example\"",
            "path = \"/host\"",
        ),
        (
            "path = \"/headers\", headers = { x-probe = \"yes\", authorization = \"Bearer x\" }",
            "path = \"/headers\"",
        ),
        (
            "path = \"/teapot\", status = \"200-299,418\"",
            "path = \"/teapot\"",
        ),
        (
            "path = \"/body\", body = \"is ok\"",
            "path = \"/body\", body = \"is fine\"",
        ),
    ] {
        for (keys, state) in [(with, "up"), (without, "down")] {
            let weir = Weir::start(&Weir::config(
                &[&picky],
                &check(&format!("fall = 1, {keys}")),
            ))
            .await;
            let server = async || weir.server(picky.address()).await;
            let server = eventually(server, |server| server["state"] != "starting").await;
            assert_eq!(server["state"], state, "{keys}: {server}");
        }
    }
    assert!(
        picky
            .requests()
            .iter()
            .all(|probe| probe.field("connection") == "close")
    );
}

#[tokio::test]
async fn a_server_that_is_down_says_why() {
    let odd = Patient::start("odd").await;
    odd.set(0);
    let silent = Origin::raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let hasty = Origin::raw(|stream, _| async move { drop(stream) }).await;
    let wordless = Origin::text("hello").await;
    let gone = Origin::text("gone").await;
    let servers = [&odd.origin, &silent, &hasty, &wordless, &gone].map(Origin::address);
    let keys = "health_check = { path = \"/healthz\", interval = \"200ms\", timeout = \"300ms\", fall = 1, body = \"ok\" }";
    let config = Weir::config(&[&odd.origin, &silent, &hasty, &wordless, &gone], keys);
    drop(gone);
    let weir = Weir::start(&config).await;
    for (server, reason) in servers.into_iter().zip([
        "not an HTTP response",
        "timed out after 300ms",
        "connection closed without a response",
        "the body does not contain what it must",
        "connection refused",
    ]) {
        assert_eq!(weir.until_server_is(server, "down").await, reason);
    }
}

#[tokio::test]
async fn the_first_probe_is_sent_at_once_and_readiness_waits_for_its_result() {
    let began = Instant::now();
    let server = Patient::start("server").await;
    let silent = Origin::raw(|stream, _| async move {
        tokio::time::sleep(Duration::from_millis(600)).await;
        drop(stream);
    })
    .await;
    let keys = "health_check = { path = \"/healthz\", interval = \"1h\", fast_interval = \"1h\", timeout = \"1h\" }";
    let weir = Weir::start(&Weir::config(&[&server.origin, &silent], keys)).await;
    let ready = async || weir.admin("GET", "/readyz").await.status;
    assert_eq!(ready().await, 503);
    weir.until_server_is(server.address(), "up").await;
    assert_eq!(weir.server(silent.address()).await["state"], "starting");
    assert_eq!(
        weir.get("/").await.status,
        200,
        "a server without a result counts as up, or another one takes over"
    );
    eventually(ready, |status| *status == 200).await;
    assert!(
        began.elapsed() > Duration::from_millis(500),
        "the second server has failed its first check"
    );
    assert_eq!(
        server
            .origin
            .requests()
            .iter()
            .filter(|request| request.target() == "/healthz")
            .count(),
        1
    );
}

#[tokio::test]
async fn when_all_are_down_they_are_tried_anyway_unless_told_otherwise() {
    let server = Patient::start("server").await;
    server.set(500);
    let config = |more: &str| {
        Weir::config(
            &[&server.origin],
            &format!(
                "{}\n{more}",
                check("path = \"/healthz\", fall = 1, rise = 1")
            ),
        )
    };
    let weir = Weir::start(&config("")).await;
    weir.until_server_is(server.address(), "down").await;
    assert_eq!(weir.get("/").await.text(), "server");

    weir.reload(&config("on_all_down = \"503\"")).await.unwrap();
    assert_eq!(
        weir.server(server.address()).await["state"],
        "down",
        "what is known of a server survives a reload"
    );
    let before = server.requests();
    let response = weir.get("/").await;
    assert_eq!(response.status, 503);
    assert_eq!(
        response.field("proxy-status"),
        "weir; error=destination_unavailable"
    );
    assert!(response.field("retry-after").parse::<u32>().unwrap() > 0);
    assert_eq!(server.requests(), before);
    assert_eq!(
        weir.metric("weir_refused_requests_total{listen=\"web\",reason=\"unavailable\"}")
            .await,
        1.0
    );
    server.set(200);
    weir.until_server_is(server.address(), "up").await;
    assert_eq!(weir.get("/").await.status, 200);
}

#[tokio::test]
async fn health_survives_a_reload_and_ends_with_the_check() {
    let (good, bad) = (Patient::start("good").await, Patient::start("bad").await);
    bad.set(500);
    let keys = check("path = \"/healthz\", fall = 1");
    let config = Weir::config(&[&good.origin, &bad.origin], &keys);
    let weir = Weir::start(&config).await;
    weir.until_server_is(bad.address(), "down").await;
    let before = weir.server(bad.address()).await;
    weir.reload(&format!(
        "{config}{}",
        fixed("more", "path = \"/more\"", "more")
    ))
    .await
    .unwrap();
    let after = weir.server(bad.address()).await;
    assert_eq!(
        (&after["state"], &after["since"], &after["reason"]),
        (&before["state"], &before["since"], &before["reason"])
    );
    assert_eq!(weir.get("/more").await.text(), "more");
    for _ in 0..5 {
        assert_eq!(weir.get("/").await.text(), "good");
    }
    let witness = Patient::start("witness").await;
    let probes = |server: &Patient| {
        server
            .origin
            .requests()
            .iter()
            .filter(|request| request.target() == "/healthz")
            .count()
    };
    let other = format!(
        "[upstream.other]\nservers = [\"{}\"]\n{keys}\n",
        witness.address()
    );
    weir.reload(&format!(
        "{}{other}",
        Weir::config(&[&good.origin, &bad.origin], "")
    ))
    .await
    .unwrap();
    assert_eq!(
        weir.server(bad.address()).await["state"],
        "up",
        "nobody says otherwise any more"
    );
    let before = probes(&bad);
    eventually(async || weir.get("/").await.text(), |name| name == "bad").await;
    eventually(async || probes(&witness), |probes| *probes >= 4).await;
    // One may have been on its way.
    assert!(probes(&bad) <= before + 1, "the probes have ended");
}

#[tokio::test]
async fn a_failed_connect_moves_on_to_another_server_for_any_method() {
    let alive = Origin::text("alive").await;
    let dead = Origin::text("dead").await;
    let config = format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[&dead, &alive], "")
    );
    drop(dead);
    let weir = Weir::start(&config).await;
    let mut connection = weir.connect().await;
    for number in 0..20 {
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        connection
            .send(&format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            ))
            .await;
        assert_eq!(connection.response().await.text(), "alive");
    }
    assert!(
        alive
            .requests()
            .iter()
            .all(|request| request.body == b"hello")
    );
    assert!(
        weir.metric("weir_upstream_retries_total{upstream=\"app\",reason=\"connect\"}")
            .await
            >= 9.0
    );
}

#[tokio::test]
async fn an_upstream_without_living_servers_is_a_502() {
    let dead = Origin::text("dead").await;
    let config = Weir::config(&[&dead], "");
    drop(dead);
    let weir = Weir::start(&format!("{config}{}", WEB.replace("web", "other"))).await;
    let response = weir.get("/").await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (502, "weir; error=connection_refused")
    );
}
