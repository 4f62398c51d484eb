//! A request reaches a server, its response the client, with the fields that a proxy adds and without those it must not pass.

use crate::support::origin::ok;
use crate::support::{Connection, Origin, Weir};

#[tokio::test]
async fn a_request_and_its_response_pass() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let response = weir.get("/a/b?c=d&e=%20").await;
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(response.field("via"), "1.1 weir");
    assert_eq!(origin.last().line(), "GET /a/b?c=d&e=%20 HTTP/1.1");
}

#[tokio::test]
async fn the_server_is_told_who_asked_and_a_client_cannot_lie_about_it() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send(
            "GET / HTTP/1.1\r\nHost: shop.example:8080\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
             Forwarded: for=6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Request-Id: mine\r\n\r\n",
        )
        .await;
    let response = connection.response().await;
    let seen = origin.last();
    assert_eq!(seen.field("host"), "shop.example:8080");
    assert_eq!(seen.field("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.field("x-real-ip"), "127.0.0.1");
    assert_eq!(seen.field("x-forwarded-proto"), "http");
    assert_eq!(seen.field("x-forwarded-host"), "shop.example:8080");
    assert_eq!(
        seen.field("forwarded"),
        "for=127.0.0.1;proto=http;host=\"shop.example:8080\""
    );
    assert_eq!(seen.field("via"), "1.1 weir");
    assert_eq!(seen.field("x-request-id"), response.field("x-request-id"));
    assert_ne!(seen.field("x-request-id"), "mine");
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_added_to() {
    let origin = Origin::text("hello").await;
    let config = Weir::config(&[&origin], "").replace(
        "[listen.web]\n",
        "[listen.web]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n",
    );
    let weir = Weir::start(&config).await;
    let mut connection = weir.connect().await;
    connection
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: shop.example\r\nX-Request-Id: mine\r\n\r\n",
        )
        .await;
    assert_eq!(connection.response().await.field("x-request-id"), "mine");
    let seen = origin.last();
    assert_eq!(
        seen.field("x-forwarded-for"),
        "6.6.6.6, 1.2.3.4, 10.0.0.1, 127.0.0.1"
    );
    assert_eq!(seen.field("x-real-ip"), "1.2.3.4");
    assert_eq!(seen.field("x-forwarded-proto"), "https");
    assert_eq!(seen.field("x-forwarded-host"), "shop.example");
}

#[tokio::test]
async fn fields_for_one_connection_stay_behind_in_both_directions() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n".to_vec()
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: x-mine, keep-alive\r\nX-Mine: 1\r\nTE: gzip\r\nProxy-Connection: x\r\nX-Other: 2\r\n\r\n")
        .await;
    let response = connection.response().await;
    for name in ["connection", "x-hop", "keep-alive"] {
        assert!(response.fields(name).is_empty(), "{}", response.head);
    }
    let seen = origin.last();
    for name in ["connection", "x-mine", "te", "proxy-connection"] {
        assert!(seen.fields(name).is_empty(), "{}", seen.head);
    }
    assert_eq!(seen.field("x-other"), "2");
}

#[tokio::test]
async fn connections_are_reused_on_both_sides() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[&origin], "")
    ))
    .await;
    let mut connection = weir.connect().await;
    for _ in 0..10 {
        assert_eq!(connection.get("/").await.text(), "hello");
    }
    assert_eq!((origin.connections(), origin.requests().len()), (1, 10));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|request| ok(request.target())).await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = Connection::open(weir.address()).await;
    connection
        .send(&"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20))
        .await;
    for number in 0..40 {
        assert_eq!(
            connection.response().await.text(),
            if number % 2 == 0 { "/1" } else { "/2" }
        );
    }
}

#[tokio::test]
async fn the_host_is_the_one_that_the_operator_says() {
    let origin = Origin::text("hello").await;
    let address = origin.address().to_string();
    for (keys, host) in [
        ("", "shop.example:8080"),
        ("host_header = \"preserve\"", "shop.example:8080"),
        ("host_header = \"server\"", &*address),
        ("host_header = \"inner.example:81\"", "inner.example:81"),
    ] {
        let weir = Weir::start(&Weir::config(&[&origin], keys)).await;
        let mut connection = weir.connect().await;
        connection
            .send("GET / HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n")
            .await;
        assert_eq!(connection.response().await.status, 200);
        assert_eq!(origin.last().field("host"), host, "{keys}");
    }
}
