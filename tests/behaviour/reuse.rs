//! Connections to servers are used again after a complete exchange, for as long as that is safe; one that turns out to be
//! closed costs nobody a request that may be sent twice.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::manual::Manual;
use crate::support::origin::{Request, ok, read_request};
use crate::support::{Connection, Origin, Response, Weir};

/// One worker, so that there is one pool.
async fn weir(origin: &Origin, upstream: &str) -> Weir {
    Weir::start(&format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[origin], upstream)
    ))
    .await
}

async fn send(weir: &Weir, method: &str, path: &str) -> Response {
    let mut client = weir.connect().await;
    client
        .send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    client.response().await
}

/// Tells in the body on which connection a request came.
fn number(request: &Request) -> Vec<u8> {
    ok(request.connection.to_string())
}

/// Answers `answers` requests on each connection, then reads another and closes without a word.
async fn dying_after(answers: usize) -> Origin {
    Origin::raw(move |mut stream: TcpStream, number| async move {
        let mut buffer = Vec::new();
        for _ in 0..answers {
            if read_request(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            stream.write_all(&ok(number.to_string())).await.unwrap();
        }
        read_request(&mut stream, &mut buffer).await;
    })
    .await
}

#[tokio::test]
async fn the_connection_that_became_idle_last_is_used_first() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "").await;
    let (mut first, mut second) = (weir.connect().await, weir.connect().await);
    first.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server_1, _) = origin.request().await;
    second.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server_2, _) = origin.request().await;
    server_2.send(ok("2")).await;
    second.response().await;
    server_1.send(ok("1")).await;
    first.response().await;
    for _ in 0..3 {
        second.send("GET /3 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(server_1.head().await.target(), "/3");
        server_1.send(ok("3")).await;
        second.response().await;
    }
    assert!(server_2.peek().is_empty());
}

/// Weir may learn that a connection was closed only after it has sent a request on it.
#[tokio::test]
async fn a_stale_connection_is_replaced_silently_for_what_may_be_sent_twice() {
    for method in ["GET", "OPTIONS"] {
        let origin = dying_after(1).await;
        let weir = weir(&origin, "").await;
        for expected in ["0", "1", "2"] {
            let response = send(&weir, method, "/").await;
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, expected),
                "{method}"
            );
        }
    }
}

#[tokio::test]
async fn what_must_not_be_sent_twice_fails_instead() {
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let origin = dying_after(1).await;
        let weir = weir(&origin, "").await;
        assert_eq!(weir.get("/").await.text(), "0");
        let mut client = weir.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (502, "weir; error=connection_terminated"),
            "{request}"
        );
        assert_eq!(origin.connections(), 1, "{request}");
    }
}

/// A small body is kept for it.
#[tokio::test]
async fn a_stale_connection_costs_no_body_either() {
    let origin = dying_after(1).await;
    let weir = weir(&origin, "").await;
    assert_eq!(weir.get("/").await.text(), "0");
    let mut client = weir.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.response().await.text(), "1");
}

/// It is replayed once on a fresh connection; a server that then dies again is dead, and tried once more as such.
#[tokio::test]
async fn replays_are_bounded() {
    let origin = dying_after(0).await;
    let weir = weir(&origin, "").await;
    assert_eq!(weir.get("/").await.status, 502);
    assert_eq!(origin.connections(), 2);
}

/// Its server may be closing it this very moment.
#[tokio::test]
async fn what_must_not_be_sent_twice_takes_no_connection_that_was_idle_for_long() {
    let origin = Origin::start(number).await;
    let weir = weir(&origin, "").await;
    assert_eq!(send(&weir, "GET", "/").await.text(), "0");
    assert_eq!(send(&weir, "POST", "/").await.text(), "0", "at once");
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(
        send(&weir, "POST", "/").await.text(),
        "1",
        "after more than a second"
    );
    assert_eq!(
        send(&weir, "POST", "/").await.text(),
        "1",
        "the new one is fresh"
    );
    assert_eq!(send(&weir, "GET", "/").await.text(), "1");
}

/// A close that weir can know of before it sends costs no request, whatever its method.
#[tokio::test]
async fn a_connection_that_its_server_closed_or_spoke_on_is_not_used() {
    for then in ["close", "reset", "speak", "408"] {
        let mut origin = Manual::start().await;
        let weir = weir(&origin.origin, "").await;
        let mut client = weir.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut server, _) = origin.request().await;
        server.send(ok("0")).await;
        client.response().await;
        let mut kept = None;
        match then {
            "close" => drop(server),
            "reset" => server.reset(),
            "speak" => {
                server.send("x").await;
                kept = Some(server);
            }
            _ => server.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await,
        }
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
            .await;
        let (mut server, request) = origin.request().await;
        assert_eq!((server.number, request.method()), (1, "POST"), "{then}");
        server.send(ok("1")).await;
        assert_eq!(client.response().await.text(), "1", "{then}");
        if let Some(mut server) = kept {
            assert!(server.rest().await.is_empty(), "{then}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_idle_no_longer_than_the_config_or_the_server_says() {
    for (field, idle, expected) in [
        ("", "5s", "0"),
        ("", "300ms", "1"),
        ("Keep-Alive: timeout=1\r\n", "5s", "1"),
        ("Keep-Alive: timeout=60, max=100\r\n", "300ms", "0"),
        ("Keep-Alive: max=100, TIMEOUT=60\r\n", "300ms", "0"),
        ("Keep-Alive: max=100\r\n", "300ms", "1"),
    ] {
        let origin = Origin::start(move |request| {
            let body = request.connection.to_string();
            format!(
                "HTTP/1.1 200 OK\r\n{field}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        })
        .await;
        let weir = weir(&origin, &format!("keepalive = {{ idle = \"{idle}\" }}")).await;
        assert_eq!(send(&weir, "GET", "/").await.text(), "0");
        sleep(Duration::from_millis(600)).await;
        assert_eq!(
            send(&weir, "GET", "/").await.text(),
            expected,
            "{field:?}, {idle}"
        );
    }
}

/// `timeout=N` leaves a second less, for the time that a request is on its way.
#[tokio::test]
async fn the_word_of_the_server_is_taken_with_a_second_to_spare() {
    let origin = Origin::start(|request| {
        let body = request.connection.to_string();
        format!(
            "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    })
    .await;
    let weir = weir(&origin, "").await;
    assert_eq!(send(&weir, "GET", "/").await.text(), "0");
    sleep(Duration::from_millis(300)).await;
    assert_eq!(send(&weir, "GET", "/").await.text(), "0");
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(send(&weir, "GET", "/").await.text(), "1");
}

#[tokio::test]
async fn an_idle_connection_beyond_its_time_is_closed() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "keepalive = { idle = \"300ms\" }").await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server.send(ok("0")).await;
    client.response().await;
    assert!(server.rest().await.is_empty());
}

#[tokio::test]
async fn a_connection_beyond_its_age_is_not_used_again() {
    let origin = Origin::start(number).await;
    let weir = weir(&origin, "keepalive = { max_age = \"400ms\" }").await;
    assert_eq!(send(&weir, "GET", "/").await.text(), "0");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(
        send(&weir, "GET", "/").await.text(),
        "0",
        "using it does not make it younger"
    );
    sleep(Duration::from_millis(400)).await;
    assert_eq!(send(&weir, "GET", "/").await.text(), "1");
}

#[tokio::test]
async fn no_more_connections_are_kept_than_allowed() {
    for max_idle in [0, 1] {
        let mut origin = Manual::start().await;
        let weir = weir(
            &origin.origin,
            &format!("keepalive = {{ max_idle = {max_idle}, idle = \"1h\" }}"),
        )
        .await;
        let mut open: Vec<(Connection, _)> = Vec::new();
        for _ in 0..3 {
            let mut client = weir.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            open.push((client, origin.request().await.0));
        }
        let mut closed = 0;
        for (number, (client, server)) in open.iter_mut().enumerate() {
            server.send(ok("x")).await;
            client.response().await;
            if number >= max_idle {
                assert!(server.rest().await.is_empty());
                closed += 1;
            }
        }
        assert_eq!(closed, 3 - max_idle);
    }
}
