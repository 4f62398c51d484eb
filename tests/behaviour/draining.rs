//! A server is taken out of service by hand, and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::support::control::{Holding, Patient, ask_for};
use super::support::manual::Manual;
use super::support::origin::ok;
use super::support::{Connection, Origin, Response, Weir, eventually};

const STEADY: &str = "slow_start = \"off\"";

/// One worker, so that the servers take turns exactly.
async fn weir(origins: &[&Origin], upstream: &str) -> Weir {
    let config = Weir::config(origins, &format!("{STEADY}\n{upstream}"));
    Weir::start(&format!("[process]\nworkers = 1\n{config}")).await
}

fn path(server: SocketAddr, action: &str) -> String {
    format!("/api/upstreams/app/servers/{server}/{action}")
}

/// Drains it or takes it back, and returns what weir says of it then.
async fn tell(weir: &Weir, server: SocketAddr, action: &str) -> Value {
    let response = weir.admin("POST", &path(server, action)).await;
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).unwrap()
}

/// State and reason, by `/api/status`.
async fn standing(weir: &Weir, server: SocketAddr) -> (String, String) {
    let server = weir.server(server).await;
    let text = |key: &str| server[key].as_str().unwrap().to_owned();
    (text("state"), text("reason"))
}

fn draining(left: &str) -> (String, String) {
    ("draining".to_owned(), format!("drained by hand; {left}"))
}

fn error(response: &Response) -> String {
    let told: Value = serde_json::from_slice(&response.body).unwrap();
    told["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_drained_server_ends_what_it_has_and_gets_nothing_new() {
    let drained = Holding::start("drained").await;
    let other = Holding::start("other").await;
    let weir = weir(&[&drained.origin, &other.origin], "").await;
    let server = drained.origin.address();
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(ask_for(weir.address(), "/hold").await);
    }
    for server in [server, other.origin.address()] {
        let in_flight = async || weir.server(server).await["in_flight"].as_u64();
        eventually(in_flight, |now| *now == Some(2)).await;
    }
    let told = tell(&weir, server, "drain").await;
    assert_eq!(
        told,
        serde_json::json!({
            "upstream": "app",
            "server": server.to_string(),
            "state": "draining",
            "in_flight": 2,
            "process": std::process::id()
        })
    );
    let up = format!("weir_server_up{{upstream=\"app\",server=\"{server}\"}}");
    assert_eq!(weir.metric(&up).await, 0.0);
    for _ in 0..20 {
        assert_eq!(weir.get("/").await.text(), "other");
    }
    assert_eq!(standing(&weir, server).await, draining("2 requests left"));
    let since = weir.server(server).await["since"].clone();
    assert!(since.as_str().unwrap().ends_with('Z'), "{since}");
    drained.release(2);
    other.release(2);
    let mut texts = Vec::new();
    for mut connection in busy {
        texts.push(connection.response().await.text());
    }
    texts.sort();
    assert_eq!(texts, ["drained", "drained", "other", "other"]);
    let now = async || standing(&weir, server).await;
    eventually(now, |now| *now == draining("empty")).await;
    assert_eq!(tell(&weir, server, "drain").await["in_flight"], 0, "again");
    assert_eq!(weir.server(server).await["since"], since);
}

#[tokio::test]
async fn ready_brings_it_back() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let weir = weir(&[&one, &two], "").await;
    tell(&weir, one.address(), "drain").await;
    for _ in 0..10 {
        assert_eq!(weir.get("/").await.text(), "two");
    }
    for again in [false, true] {
        let told = tell(&weir, one.address(), "ready").await;
        assert_eq!(told["state"], "up", "again: {again}");
    }
    assert_eq!(
        standing(&weir, one.address()).await,
        ("up".to_owned(), String::new())
    );
    let up = format!(
        "weir_server_up{{upstream=\"app\",server=\"{}\"}}",
        one.address()
    );
    assert_eq!(weir.metric(&up).await, 1.0);
    let mut texts = [weir.get("/").await.text(), weir.get("/").await.text()];
    texts.sort();
    assert_eq!(texts, ["one", "two"]);
}

/// What comes back is cold, whatever it was away for.
#[tokio::test]
async fn its_share_grows_slowly_when_it_is_back() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let weir = Weir::start(&Weir::config(&[&one, &two], "slow_start = \"1h\"")).await;
    tell(&weir, one.address(), "drain").await;
    tell(&weir, one.address(), "ready").await;
    let before = one.requests().len();
    for _ in 0..40 {
        weir.get("/").await;
    }
    let share = one.requests().len() - before;
    assert!(share < 10, "{share} of 40");
}

#[tokio::test]
async fn it_stays_drained_over_reloads() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let config = Weir::config(&[&one, &two], STEADY);
    let weir = Weir::start(&config).await;
    tell(&weir, one.address(), "drain").await;
    let changed = Weir::config(
        &[&two, &one],
        &format!("{STEADY}\nejection = \"off\"\nbalance = \"least_connections\""),
    );
    for config in [&config, &changed] {
        weir.reload(config).await.unwrap();
        assert_eq!(standing(&weir, one.address()).await, draining("empty"));
        for _ in 0..10 {
            assert_eq!(weir.get("/").await.text(), "two");
        }
    }
    assert_eq!(tell(&weir, one.address(), "ready").await["state"], "up");
}

/// What checks and failures say may be wrong, so all the same is tried; what an operator says is not doubted.
#[tokio::test]
async fn where_all_are_drained_there_is_no_server() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let weir = weir(&[&one, &two], "on_all_down = \"try_anyway\"").await;
    tell(&weir, one.address(), "drain").await;
    tell(&weir, two.address(), "drain").await;
    for _ in 0..5 {
        let response = weir.get("/").await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (503, "weir; error=destination_unavailable")
        );
        assert!(response.field("retry-after").parse::<u32>().unwrap() > 0);
    }
    assert_eq!((one.connections(), two.connections()), (0, 0));
    tell(&weir, two.address(), "ready").await;
    assert_eq!(weir.get("/").await.text(), "two");
}

#[tokio::test]
async fn where_the_others_are_down_they_are_tried_and_it_is_not() {
    let (drained, down) = (
        Patient::start("drained").await,
        Patient::start("down").await,
    );
    let check = "health_check = { path = \"/healthz\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1, rise = 2 }";
    let weir = weir(
        &[&drained.origin, &down.origin],
        &format!("on_all_down = \"try_anyway\"\n{check}"),
    )
    .await;
    down.set(500);
    weir.until_server_is(down.address(), "down").await;
    drained.set(500);
    weir.until_server_is(drained.address(), "down").await;
    // Both are promising now: each has answered while it was down.
    let observe = async || {
        let name = weir.get("/").await.text();
        (name, drained.requests() > 0)
    };
    eventually(observe, |(_, seen)| *seen).await;
    tell(&weir, drained.address(), "drain").await;
    let before = drained.requests();
    for _ in 0..20 {
        assert_eq!(weir.get("/").await.text(), "down");
    }
    assert_eq!(drained.requests(), before);
    // Its checks go on, and show when it is back.
    drained.set(200);
    let probes = async || drained.origin.requests().len() - drained.requests();
    let so_far = probes().await;
    eventually(probes, |probes| *probes > so_far + 3).await;
    assert_eq!(standing(&weir, drained.address()).await, draining("empty"));
    assert_eq!(weir.get("/").await.text(), "down");
    assert_eq!(tell(&weir, drained.address(), "ready").await["state"], "up");
    assert_eq!(weir.get("/").await.text(), "drained");
}

#[tokio::test]
async fn an_ejected_server_that_is_drained_gets_no_trial() {
    let failing = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&failing);
    let bad = Origin::start(move |_| match switch.load(Ordering::Relaxed) {
        true => b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => ok("well again"),
    })
    .await;
    let good = Origin::text("good").await;
    let weir = weir(
        &[&bad, &good],
        "ejection = { failures = 2, base = \"300ms\", max = \"300ms\" }",
    )
    .await;
    let ejected = async || {
        weir.get("/").await;
        standing(&weir, bad.address()).await.0
    };
    eventually(ejected, |state| state == "ejected").await;
    tell(&weir, bad.address(), "drain").await;
    let before = bad.requests().len();
    failing.store(false, Ordering::Relaxed);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(weir.get("/").await.text(), "good");
    }
    assert_eq!(bad.requests().len(), before);
    assert_eq!(
        tell(&weir, bad.address(), "ready").await["state"],
        "ejected",
        "that stands until its trial"
    );
    let back = async || {
        weir.get("/").await;
        standing(&weir, bad.address()).await.0
    };
    eventually(back, |state| state == "up").await;
}

/// A request that may be sent again is not sent to where nothing new is to go.
#[tokio::test]
async fn a_failed_request_is_not_repeated_on_it() {
    let mut origin = Manual::start().await;
    let address = origin.origin.address();
    let weir = weir(&[&origin.origin], "").await;
    let mut client = ask_for(weir.address(), "/").await;
    let (mut server, _) = origin.request().await;
    tell(&weir, address, "drain").await;
    server
        .send("HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, &*response.text()), (503, "busy"));
    assert_eq!(origin.origin.connections(), 1);
    assert_eq!(standing(&weir, address).await, draining("empty"));
}

#[tokio::test]
async fn a_tunnel_counts_for_as_long_as_it_is_open() {
    let mut origin = Manual::start().await;
    let address = origin.origin.address();
    let weir = weir(&[&origin.origin], "").await;
    let mut client = weir.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let (mut server, _) = origin.request().await;
    server
        .send("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(tell(&weir, address, "drain").await["in_flight"], 1);
    client.send("ping").await;
    assert_eq!(server.take(4).await, b"ping");
    server.send("pong").await;
    while client.buffer != b"pong" {
        assert!(client.read().await);
    }
    assert_eq!(standing(&weir, address).await, draining("1 request left"));
    server.stream.shutdown().await.unwrap();
    drop((client, server));
    let now = async || standing(&weir, address).await;
    eventually(now, |now| *now == draining("empty")).await;
}

#[tokio::test]
async fn the_names_are_those_of_the_config() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let weir = Weir::start(&format!(
        "{}[upstream.six]\nservers = [\"[::1]:3000\"]\n",
        Weir::config(&[&one, &two], "")
    ))
    .await;
    let (one, two) = (one.address(), two.address());
    for action in ["drain", "ready"] {
        let post = async |path: &str| {
            weir.admin("POST", &format!("/api/upstreams/{path}/{action}"))
                .await
        };
        for (path, message) in [
            (
                format!("ap/servers/{one}"),
                "there is no upstream `ap`; there are `app`, `six`".to_owned(),
            ),
            (
                "app/servers/127.0.0.1:1".to_owned(),
                format!(
                    "there is no server `127.0.0.1:1` in upstream `app`; there are `{one}`, `{two}`"
                ),
            ),
            (
                "six/servers/local%20host".to_owned(),
                "there is no server `local host` in upstream `six`; there is `[::1]:3000`"
                    .to_owned(),
            ),
        ] {
            let response = post(&path).await;
            assert_eq!((response.status, error(&response)), (404, message));
            assert_eq!(response.field("content-type"), "application/json");
        }
        for server in [
            "[::1]:3000",
            "%5B%3A%3a1%5d%3A3000",
            "[0:0:0:0:0:0:0:1]:3000",
        ] {
            let response = post(&format!("six/servers/{server}")).await;
            assert_eq!(response.status, 200, "{server}: {}", response.text());
            let told: Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(told["server"], "[::1]:3000");
        }
        assert_eq!(post("%61pp/servers/%ff").await.status, 400);
        assert_eq!(post("app/servers").await.status, 404);
    }
    for server in [one, two] {
        assert_eq!(
            standing(&weir, server).await.0,
            "up",
            "none of it was meant"
        );
    }
}

#[tokio::test]
async fn it_is_guarded_like_everything_that_writes() {
    let origin = Origin::text("one").await;
    let weir = weir(&[&origin], "").await;
    let server = origin.address();
    for action in ["drain", "ready"] {
        let path = path(server, action);
        assert_eq!(weir.admin("GET", &path).await.status, 405);
        let mut connection = Connection::open(weir.admin_address()).await;
        connection
            .send(&format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(connection.response().await.status, 403);
    }
    assert_eq!(standing(&weir, server).await.0, "up");
    let page = weir.admin("GET", "/").await.text();
    for line in [
        "POST /api/upstreams/UPSTREAM/servers/HOST:PORT/drain\n",
        "POST /api/upstreams/UPSTREAM/servers/HOST:PORT/ready\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
}
