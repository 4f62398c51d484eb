//! How long clients may take: for a head, for a body, between two requests; and what an idle connection goes through.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::support::origin::ok;
use crate::support::{Origin, PATIENCE, Weir, eventually};

/// The config of [`Weir::before`], with more keys for the listener.
fn listening(origin: &Origin, listener: &str) -> String {
    Weir::config(&[origin], "").replace("[listen.web]\n", &format!("[listen.web]\n{listener}\n"))
}

const TIMEOUTS: &str = "weir_refused_requests_total{listen=\"web\",reason=\"timeout\"}";
const OPEN: &str = "weir_connections{listen=\"web\"}";

#[tokio::test]
async fn a_peer_that_is_silent_or_stops_within_its_head_is_left() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&origin, "header_timeout = \"400ms\"")).await;
    let start = Instant::now();
    let mut connections = Vec::new();
    for bytes in [
        "",
        "G",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "\r\n",
    ] {
        let mut connection = weir.connect().await;
        connection.send(bytes).await;
        connections.push(connection);
    }
    for mut connection in connections {
        let rest = connection.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        assert!(start.elapsed() >= Duration::from_millis(400));
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    eventually(async || weir.metric(TIMEOUTS).await, |&count| count == 6.0).await;
    assert_eq!(weir.metric(OPEN).await, 0.0);
    assert_eq!(origin.connections(), 0);
}

/// The whole head has one time limit: each byte does not begin it anew.
#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_left_too() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&origin, "header_timeout = \"500ms\"")).await;
    for before in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut connection = weir.connect().await;
        connection.send(before).await;
        if !before.is_empty() {
            assert_eq!(connection.response().await.text(), "hello");
        }
        let start = Instant::now();
        connection.send("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
        while connection.stream.write_all(b"x").await.is_ok() {
            assert!(start.elapsed() < PATIENCE, "still taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            start.elapsed() >= Duration::from_millis(450),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
async fn an_idle_connection_ends_when_its_time_is_over() {
    let origin = Origin::text("hello").await;
    // Shorter and longer than a connection keeps its buffers.
    for (keepalive, least, most) in [("100ms", 100, 1500), ("900ms", 900, 2400)] {
        let weir = Weir::start(&listening(&origin, &format!("keepalive = \"{keepalive}\""))).await;
        let mut connection = weir.connect().await;
        for _ in 0..2 {
            assert_eq!(connection.get("/").await.text(), "hello");
        }
        let start = Instant::now();
        assert!(connection.is_closed().await);
        let took = start.elapsed().as_millis();
        assert!((least - 20..most).contains(&took), "{keepalive}: {took} ms");
        assert_eq!(weir.metric(TIMEOUTS).await, 0.0, "that is no refusal");
        eventually(async || weir.metric(OPEN).await, |&open| open == 0.0).await;
    }
}

#[tokio::test]
async fn a_parked_connection_serves_the_next_request() {
    let origin = Origin::start(|request| ok(request.target())).await;
    let weir = Weir::start(&listening(&origin, "header_timeout = \"2s\"")).await;
    let mut plain = weir.connect().await;
    assert_eq!(plain.get("/1").await.text(), "/1");
    // The beginning of the next head lies in the buffer when the connection is put aside.
    let mut begun = weir.connect().await;
    begun
        .send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTT")
        .await;
    assert_eq!(begun.response().await.text(), "/1");
    let mut unread = weir.connect().await;
    unread
        .send("POST / HTTP/1.1\r\nHost: a b\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    assert_eq!(unread.response().await.status, 400);
    tokio::time::sleep(Duration::from_millis(1400)).await;
    begun.send("P/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(begun.response().await.text(), "/2");
    for number in 2..5 {
        let path = format!("/{number}");
        assert_eq!(plain.get(&path).await.text(), path);
    }
    assert_eq!(begun.get("/3").await.text(), "/3");
    assert!(unread.is_closed().await);
    // Pieces of a head wake a parked connection and are put together.
    tokio::time::sleep(Duration::from_millis(1400)).await;
    for piece in [
        "GE",
        "T /5 HTTP/1.1\r\nHo",
        "st: a\r\n",
        "\r\nGET /6 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        plain.send(piece).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(plain.response().await.text(), "/5");
    assert_eq!(plain.response().await.text(), "/6");
    assert_eq!(weir.metric(TIMEOUTS).await, 0.0);
}

#[tokio::test]
async fn a_parked_connection_that_begins_a_head_and_stops_is_left() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&origin, "header_timeout = \"300ms\"")).await;
    let mut connection = weir.connect().await;
    assert_eq!(connection.get("/").await.text(), "hello");
    tokio::time::sleep(Duration::from_millis(1400)).await;
    connection.send("GET / HT").await;
    assert!(connection.is_closed().await);
    assert_eq!(weir.metric(TIMEOUTS).await, 1.0);
}

#[tokio::test]
async fn a_parked_connection_that_its_client_closes_is_gone() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    assert_eq!(connection.get("/").await.text(), "hello");
    tokio::time::sleep(Duration::from_millis(1400)).await;
    assert_eq!(weir.metric(OPEN).await, 1.0);
    drop(connection);
    eventually(async || weir.metric(OPEN).await, |&open| open == 0.0).await;
}

#[tokio::test]
async fn a_connection_beyond_its_age_ends_with_the_next_answer() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&origin, "max_connection_age = \"400ms\"")).await;
    let start = Instant::now();
    let mut connection = weir.connect().await;
    loop {
        let response = connection.get("/").await;
        assert_eq!(response.text(), "hello");
        if response.fields("connection") == ["close"] {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(3), "never told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(380));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_408() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&origin, "stall_timeout = \"300ms\"")).await;
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    ] {
        let mut connection = weir.connect().await;
        connection.send(request).await;
        let mut head = connection.head().await;
        if head.starts_with("HTTP/1.1 100") {
            head = connection.head().await;
        }
        assert!(
            head.starts_with("HTTP/1.1 408 ") && head.contains("\r\nconnection: close"),
            "{head}"
        );
        let rest = connection.rest().await;
        assert_eq!(rest, b"408 Request Timeout\n");
    }
    assert_eq!(weir.metric(TIMEOUTS).await, 4.0);
    let in_flight = format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        origin.address()
    );
    eventually(
        async || weir.metric(&in_flight).await,
        |&count| count == 0.0,
    )
    .await;
    assert!(origin.requests().is_empty());
}

/// Slow is not stalled: each piece begins the time anew.
#[tokio::test]
async fn a_body_that_comes_slowly_is_read_to_its_end() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let weir = Weir::start(&listening(
        &origin,
        "stall_timeout = \"400ms\"\nheader_timeout = \"300ms\"",
    ))
    .await;
    let mut connection = weir.connect().await;
    connection
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        .await;
    for digit in b'0'..=b'9' {
        tokio::time::sleep(Duration::from_millis(100)).await;
        connection.send_bytes(&[digit]).await;
    }
    assert_eq!(connection.response().await.text(), "0123456789");
}
