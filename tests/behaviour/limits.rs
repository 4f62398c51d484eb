//! The limits of a listener and of a route, the answers that weir writes itself, and how they are counted.

use std::time::Duration;

use crate::support::http2::Http2;
use crate::support::origin::ok;
use crate::support::{Connection, Origin, Weir, eventually};

/// The config of [`Weir::before`], with more keys for the listener.
fn listening(origin: &Origin, listener: &str) -> String {
    Weir::config(&[origin], "").replace("[listen.web]\n", &format!("[listen.web]\n{listener}\n"))
}

async fn refused(weir: &Weir, listen: &str, reason: &str) -> f64 {
    weir.metric(&format!(
        "weir_refused_requests_total{{listen=\"{listen}\",reason=\"{reason}\"}}"
    ))
    .await
}

/// A head whose field section takes `size` bytes as weir counts it, in fields of about a kilobyte.
fn fields_of(size: usize) -> String {
    let mut fields = String::from("Host: a\r\n");
    let mut number = 0;
    while fields.len() < size {
        let name = format!("x-{number}: ");
        let value = (size - fields.len())
            .saturating_sub(name.len() + 2)
            .min(1000);
        fields.push_str(&format!("{name}{}\r\n", "x".repeat(value)));
        number += 1;
    }
    fields
}

#[tokio::test]
async fn a_target_that_is_too_long_is_told_so() {
    let origin = Origin::start(|request| ok(request.target().len().to_string())).await;
    let weir = Weir::before(&[&origin]).await;
    for (length, status) in [(8192, 200), (8193, 414), (20_000, 414)] {
        for target in [
            format!("/{}", "x".repeat(length - 1)),
            format!("/?{}", "x".repeat(length - 2)),
        ] {
            let mut connection = weir.connect().await;
            let response = connection.get(&target).await;
            assert_eq!(response.status, status, "{length}");
            if status == 414 {
                assert_eq!(
                    response.field("proxy-status"),
                    "weir; error=http_request_error"
                );
                assert!(connection.is_closed().await);
            }
        }
    }
    assert_eq!(refused(&weir, "web", "target_too_long").await, 4.0);
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn fields_that_are_too_large_or_too_many_are_told_so() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let many = |count: usize| format!("Host: a\r\n{}", "x: y\r\n".repeat(count - 1));
    for (fields, status) in [
        (fields_of(32 * 1024), 200),
        (fields_of(32 * 1024 + 100), 431),
        (fields_of(40 * 1024), 431),
        (fields_of(60 * 1024), 431),
        (fields_of(500 * 1024), 431),
        (many(100), 200),
        (many(101), 431),
        (many(5000), 431),
    ] {
        let mut connection = weir.connect().await;
        let before = origin.requests().len();
        let request = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        connection.send(&request).await;
        let response = connection.response().await;
        assert_eq!(response.status, status, "{} bytes", fields.len());
        assert_eq!(origin.requests().len() - before, usize::from(status == 200));
        assert_eq!(
            status == 431,
            response.fields("connection") == ["close"],
            "{}",
            response.head
        );
    }
    // Some are counted when their connection ends.
    let counted = async || refused(&weir, "web", "header_too_large").await;
    eventually(counted, |&count| count == 6.0).await;
}

#[tokio::test]
async fn the_limits_of_heads_are_the_operators() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(
        &origin,
        "max_headers = 10\nmax_header_size = \"2KiB\"\nmax_target_size = \"100B\"",
    ))
    .await;
    for (path, fields, status) in [
        ("/", "x: y\r\n".repeat(9), 200),
        ("/", "x: y\r\n".repeat(10), 431),
        ("/", format!("x: {}\r\n", "y".repeat(2100)), 431),
        ("/", format!("x: {}\r\n", "y".repeat(1900)), 200),
        (&*format!("/{}", "x".repeat(99)), String::new(), 200),
        (&*format!("/{}", "x".repeat(100)), String::new(), 414),
    ] {
        let mut connection = weir.connect().await;
        connection
            .send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
            .await;
        assert_eq!(
            connection.response().await.status,
            status,
            "{path} {}",
            fields.len()
        );
    }
    let large = Weir::start(&listening(
        &origin,
        "max_headers = 300\nmax_header_size = \"128KiB\"",
    ))
    .await;
    for fields in [
        "x: y\r\n".repeat(299),
        format!("x: {}\r\n", "y".repeat(120_000)),
    ] {
        let mut connection = large.connect().await;
        connection
            .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
            .await;
        assert_eq!(connection.response().await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_told_so() {
    let origin = Origin::start(|request| ok(request.body.len().to_string())).await;
    let config = Weir::config(&[&origin], "")
        .replace("[route.site]\n", "[route.site]\nmax_body = \"1KiB\"\n");
    let weir = Weir::start(&config).await;
    let mut connection = weir.connect().await;
    connection
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}",
            "x".repeat(1024)
        ))
        .await;
    assert_eq!(connection.response().await.text(), "1024");
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    connection
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(2)
        ))
        .await;
    assert_eq!(connection.response().await.status, 200);
    let whole = origin.requests().len();
    for request in [
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n{}",
            "x".repeat(1025)
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            1u64 << 40
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}1\r\nx\r\n0\r\n\r\n",
            chunk.repeat(2)
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            chunk.repeat(200)
        ),
    ] {
        let mut connection = weir.connect().await;
        connection.send(&request).await;
        let response = connection.response().await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (413, "weir; error=http_request_error")
        );
        assert_eq!(
            origin.requests().len(),
            whole,
            "no server gets a whole request"
        );
    }
    assert_eq!(refused(&weir, "web", "body_too_large").await, 4.0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_make_room_again() {
    let origin = Origin::text("hello").await;
    let config = listening(&origin, "max_connections = 2").replace(
        "[route.site]",
        "[listen.other]\naddress = \"127.0.0.1:0\"\nmax_connections = 1\n[route.site]",
    );
    let weir = Weir::start(&config).await;
    let mut first = weir.connect().await;
    assert_eq!(first.get("/").await.text(), "hello");
    let mut second = weir.connect().await;
    assert_eq!(second.get("/").await.text(), "hello");
    for speaks_first in [false, true] {
        let mut third = weir.connect().await;
        if speaks_first {
            // The refusal is there by then; a reset would make the second half of the request fail, and the client with it.
            third
                .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
                .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            for _ in 0..10 {
                third.send_bytes(&[b'x'; 10_000]).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let response = third.response().await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (503, "weir; error=connection_limit_reached")
        );
        assert_eq!(
            (response.field("retry-after"), response.field("connection")),
            ("5", "close")
        );
        assert!(third.is_closed().await);
    }
    assert_eq!(refused(&weir, "web", "max_connections").await, 2.0);
    assert_eq!(weir.metric("weir_connections{listen=\"web\"}").await, 2.0);
    // Each listener counts its own.
    let mut other = Connection::open(weir.running.addresses("other")[0]).await;
    assert_eq!(other.get("/").await.text(), "hello");
    assert_eq!(
        Connection::open(weir.running.addresses("other")[0])
            .await
            .response()
            .await
            .status,
        503
    );
    assert_eq!(
        first.get("/").await.text(),
        "hello",
        "those that are open go on"
    );
    drop(second);
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |&open| open == 1.0,
    )
    .await;
    assert_eq!(weir.connect().await.get("/").await.text(), "hello");
}

#[tokio::test]
async fn many_connections_beyond_the_limit_do_no_harm() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&origin, "max_connections = 1")).await;
    let mut first = weir.connect().await;
    assert_eq!(first.get("/").await.text(), "hello");
    let mut others = Vec::new();
    for _ in 0..300 {
        others.push(weir.connect().await);
    }
    for other in &mut others {
        let rest = other.rest().await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 503"));
    }
    assert_eq!(first.get("/").await.text(), "hello");
    assert_eq!(refused(&weir, "web", "max_connections").await, 300.0);
}

#[tokio::test]
async fn own_answers_speak_the_clients_language_and_leak_nothing() {
    let dead = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let config = format!(
        "[listen.web]\naddress = \"127.0.0.1:0\"\n[route.dead]\npath = \"/secret-route\"\nupstream = \"secret-upstream\"\n\
         [upstream.secret-upstream]\nservers = [\"{dead}\"]\n"
    );
    let weir = Weir::start(&config).await;
    let mut connection = weir.connect().await;
    let html = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>502 Bad Gateway</title></head>\
                <body><h1>502 Bad Gateway</h1></body></html>\n";
    let json = "{\"status\":502,\"error\":\"Bad Gateway\"}\n";
    for (accept, content_type, body) in [
        (
            "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n",
            "text/html; charset=utf-8",
            html,
        ),
        ("Accept: application/json\r\n", "application/json", json),
        (
            "Accept: application/json, text/html\r\n",
            "application/json",
            json,
        ),
        (
            "Accept: */*\r\n",
            "text/plain; charset=utf-8",
            "502 Bad Gateway\n",
        ),
        ("", "text/plain; charset=utf-8", "502 Bad Gateway\n"),
    ] {
        connection
            .send(&format!(
                "GET /secret-route HTTP/1.1\r\nHost: a\r\n{accept}\r\n"
            ))
            .await;
        let response = connection.response().await;
        assert_eq!(
            (
                response.status,
                response.field("content-type"),
                response.text().as_str()
            ),
            (502, content_type, body)
        );
        assert_eq!(
            response.field("proxy-status"),
            "weir; error=connection_refused"
        );
        assert_eq!(response.field("x-request-id").len(), 32);
        let all = format!("{}{}", response.head, response.text());
        for secret in [
            "127.0.0.1",
            &dead.port().to_string(),
            "secret",
            env!("CARGO_PKG_VERSION"),
        ] {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
    let response = connection.get("/").await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (404, "weir; error=destination_not_found")
    );
    assert_eq!(refused(&weir, "web", "no_route").await, 1.0);
}

#[tokio::test]
async fn clients_in_the_clear_are_sent_to_https() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(
        &origin,
        "redirect_to_https = {}\ntrusted_proxies = [\"127.0.0.0/8\"]",
    ))
    .await;
    let mut connection = weir.connect().await;
    for (request, location) in [
        (
            "GET /a/../b?c=%20d HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n",
            "https://shop.example/b?c=%20d",
        ),
        (
            "POST //evil.com/ HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nab",
            "https://shop.example//evil.com/",
        ),
        (
            "GET http://shop.example HTTP/1.1\r\nHost: x\r\n\r\n",
            "https://shop.example/",
        ),
        (
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\nX-Forwarded-Proto: http\r\n\r\n",
            "https://[::1]/",
        ),
    ] {
        connection.send(request).await;
        let response = connection.response().await;
        assert_eq!(
            (response.status, response.field("location")),
            (308, location)
        );
        assert_eq!(response.field("content-length"), "0");
    }
    assert!(origin.requests().is_empty());
    connection
        .send("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    assert_eq!(
        connection
            .get("/.well-known/acme-challenge/token")
            .await
            .text(),
        "hello"
    );
    assert_eq!(
        connection
            .get("/.well-known/acme-challenge/../x")
            .await
            .status,
        308
    );
    let elsewhere = Weir::start(&listening(&origin, "redirect_to_https = { port = 8443 }")).await;
    let mut connection = elsewhere.connect().await;
    connection
        .send("GET / HTTP/1.1\r\nHost: a:80\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    assert_eq!(
        connection.response().await.field("location"),
        "https://a:8443/",
        "nobody is trusted here"
    );
    let mut client = Http2::open(elsewhere.address()).await;
    let response = client.get("/x?y").await;
    assert_eq!(
        (
            response.status.as_u16(),
            response.headers["location"].to_str().unwrap()
        ),
        (308, "https://test:8443/x?y")
    );
}
