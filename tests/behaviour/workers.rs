//! Several workers: connections that pile up on one are handed over, and none starves.

use super::support::control::{Holding, WEB, ask_for, fixed};
use super::support::http2::Http2;
use super::support::{Connection, Weir, eventually};

async fn loads(weir: &Weir) -> (f64, f64) {
    let of = async |worker| {
        weir.metric(&format!("weir_worker_connections{{worker=\"{worker}\"}}"))
            .await
    };
    (of(0).await, of(1).await)
}

fn two_workers() -> String {
    format!(
        "[process]\nworkers = 2\n{WEB}{}",
        fixed("site", "", "hello")
    )
}

#[tokio::test]
async fn connections_that_pile_up_are_handed_over() {
    let weir = Weir::start(&two_workers()).await;
    let (mut connections, mut multiplexed) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        connections.push(weir.connect().await);
    }
    for _ in 0..20 {
        let mut connection = Http2::open(weir.address()).await;
        assert_eq!(connection.get("/").await.text(), "hello");
        multiplexed.push(connection);
    }
    let balanced = |&(one, two): &(f64, f64)| one + two == 40.0 && (one - two).abs() <= 4.0;
    eventually(async || loads(&weir).await, balanced).await;
    for connection in &mut connections {
        assert_eq!(
            connection.get("/").await.text(),
            "hello",
            "wherever it went"
        );
    }
}

/// All of them at once: those that are on their way to the other worker count there already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_spread_too() {
    let weir = Weir::start(&two_workers()).await;
    let address = weir.address();
    let burst: Vec<_> = (0..200)
        .map(|_| tokio::spawn(async move { Connection::open(address).await }))
        .collect();
    let mut connections = Vec::new();
    for connection in burst {
        connections.push(connection.await.unwrap());
    }
    let balanced = |&(one, two): &(f64, f64)| one + two == 200.0 && (one - two).abs() <= 30.0;
    eventually(async || loads(&weir).await, balanced).await;
    for connection in &mut connections {
        assert_eq!(connection.get("/").await.text(), "hello");
    }
    drop(connections);
    eventually(async || loads(&weir).await, |loads| *loads == (0.0, 0.0)).await;
}

#[tokio::test]
async fn a_config_reaches_every_worker_before_its_reload_is_over() {
    let weir = Weir::start(&two_workers()).await;
    let mut connections = Vec::new();
    for _ in 0..10 {
        let mut connection = weir.connect().await;
        connection.get("/").await;
        connections.push(connection);
    }
    for round in 0..5 {
        let body = round.to_string();
        weir.reload(&format!(
            "[process]\nworkers = 2\n{WEB}{}",
            fixed("site", "", &body)
        ))
        .await
        .unwrap();
        for connection in &mut connections {
            assert_eq!(connection.get("/").await.text(), body);
        }
    }
}

#[tokio::test]
async fn limits_count_over_all_workers() {
    let holding = Holding::start("held").await;
    let config = Weir::config(&[&holding.origin], "")
        .replace("[listen.web]\n", "[listen.web]\nmax_connections = 6\n");
    let weir = Weir::start(&format!("[process]\nworkers = 2\n{config}")).await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(ask_for(weir.address(), "/hold").await);
    }
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |open| *open == 6.0,
    )
    .await;
    let response = weir.get("/").await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (503, "weir; error=connection_limit_reached")
    );
    assert_eq!(
        weir.metric("weir_refused_requests_total{listen=\"web\",reason=\"max_connections\"}")
            .await,
        1.0
    );
    held.pop();
    eventually(async || weir.get("/").await.status, |status| *status == 200).await;
    // The one that was closed waits at the server, too.
    holding.release(6);
    for mut connection in held {
        assert_eq!(connection.response().await.status, 200);
    }
}
