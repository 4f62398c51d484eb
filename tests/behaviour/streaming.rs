//! Responses that take their time: passed on piece by piece as they come, cut when they stop for too long.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::support::http2::{self, Http2};
use crate::support::manual::Manual;
use crate::support::{Connection, Weir};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Reads chunks until `wanted` is there.
async fn expect(client: &mut Connection, wanted: &str) {
    while !String::from_utf8_lossy(&client.buffer).contains(wanted) {
        assert!(
            client.read().await,
            "no {wanted:?} in {:?}",
            String::from_utf8_lossy(&client.buffer)
        );
    }
}

async fn weir(origin: &Manual, route: &str, upstream: &str) -> Weir {
    let config = Weir::config(&[&origin.origin], upstream)
        .replace("[route.site]\n", &format!("[route.site]\n{route}\n"));
    Weir::start(&config).await
}

/// No piece waits for the next: the server sends one only when the client has the one before.
#[tokio::test]
async fn each_event_arrives_before_the_next_is_sent() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "", "").await;
    for head in [
        EVENTS,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
    ] {
        let mut client = weir.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut server, _) = origin.request().await;
        server.send(head).await;
        client.head().await;
        for number in 0..50 {
            let event = format!("data: {number:05}\n\n");
            server
                .send(if head == EVENTS {
                    format!("{:x}\r\n{event}\r\n", event.len())
                } else {
                    event.clone()
                })
                .await;
            expect(&mut client, &event).await;
        }
    }
}

#[tokio::test]
async fn over_http2_each_event_arrives_before_the_next_is_sent() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "", "").await;
    let mut client = Http2::open(weir.address()).await;
    let (response, _) = client.send(http2::get("/"), true).await;
    let (mut server, _) = origin.request().await;
    server.send(EVENTS).await;
    let mut body = response.await.unwrap().into_body();
    for number in 0..50 {
        let event = format!("data: {number:05}\n\n");
        server
            .send(format!("{:x}\r\n{event}\r\n", event.len()))
            .await;
        let piece = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        assert_eq!(piece, event);
    }
}

/// Even a chunk that comes byte by byte is passed on byte by byte.
#[tokio::test]
async fn pieces_of_a_byte_are_not_held_back() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "", "").await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n")
        .await;
    client.head().await;
    for letter in 'a'..='z' {
        server.send(letter.to_string()).await;
        expect(&mut client, &format!("1\r\n{letter}\r\n")).await;
    }
    server.send("\r\n0\r\n\r\n").await;
    expect(&mut client, "0\r\n\r\n").await;
}

/// The time is between two pieces, not for all of them; nor does the one for the head go on.
#[tokio::test]
async fn a_long_body_with_pauses_comes_whole() {
    let mut origin = Manual::start().await;
    let weir = weir(
        &origin,
        "",
        "stall_timeout = \"600ms\"\nresponse_timeout = \"600ms\"",
    )
    .await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        .await;
    for letter in "hello".chars() {
        sleep(Duration::from_millis(250)).await;
        server.send(letter.to_string()).await;
    }
    assert_eq!(client.response().await.text(), "hello");
}

#[tokio::test]
async fn a_body_that_stops_is_broken_off_after_stall_timeout() {
    for body in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "\r\nhello",
    ] {
        let mut origin = Manual::start().await;
        let weir = weir(&origin, "", "stall_timeout = \"300ms\"").await;
        let mut client = weir.connect().await;
        let mut http2 = Http2::open(weir.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut server, _) = origin.request().await;
        let began = Instant::now();
        server.send(format!("HTTP/1.1 200 OK\r\n{body}")).await;
        let response = client.response().await;
        assert!(!response.complete, "{body:?}");
        assert!(
            began.elapsed() >= Duration::from_millis(300),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(response.text(), "hello");
        assert!(
            server.rest().await.is_empty(),
            "the server's connection is closed"
        );
        let (response, _) = http2.send(http2::get("/"), true).await;
        let (mut server, _) = origin.request().await;
        server.send(format!("HTTP/1.1 200 OK\r\n{body}")).await;
        let error = http2::answer(response).await.unwrap_err();
        assert!(error.is_reset(), "{body:?}: {error}");
    }
}

#[tokio::test]
async fn an_event_stream_may_be_silent_for_stream_timeout() {
    let mut origin = Manual::start().await;
    let weir = weir(
        &origin,
        "timeout = \"300ms\"",
        "stall_timeout = \"200ms\"\nstream_timeout = \"1200ms\"",
    )
    .await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server.send(EVENTS).await;
    client.head().await;
    sleep(Duration::from_millis(700)).await;
    server.send("3\r\none\r\n").await;
    expect(&mut client, "one").await;
    let began = Instant::now();
    let rest = client.rest().await;
    assert!(!String::from_utf8(rest).unwrap().contains("0\r\n\r\n"));
    assert!(
        began.elapsed() >= Duration::from_millis(1000),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn the_timeout_of_a_route_is_for_the_whole_exchange() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "timeout = \"500ms\"", "").await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        .await;
    let dripping = tokio::spawn(async move {
        while tokio::io::AsyncWriteExt::write_all(&mut server.stream, b"x")
            .await
            .is_ok()
        {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let began = Instant::now();
    assert!(!client.response().await.complete);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    dripping.await.unwrap();
    // Before there is a response, it is one of weir.
    client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (504, "weir; error=http_response_timeout")
    );
}

/// Whoever makes a response that nobody waits for hears of it.
#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_server() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "", "").await;
    for sent in [
        "",
        EVENTS,
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    ] {
        let mut client = weir.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut server, _) = origin.request().await;
        server.send(sent).await;
        if !sent.is_empty() {
            client.head().await;
        }
        let began = Instant::now();
        drop(client);
        assert!(server.rest().await.is_empty());
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{sent:?}: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_stream_that_a_client_resets_is_noticed_by_the_server() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "", "").await;
    let mut client = Http2::open(weir.address()).await;
    for sent in ["", EVENTS] {
        let (response, mut stream) = client.send(http2::get("/"), true).await;
        let (mut server, _) = origin.request().await;
        server.send(sent).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        let began = Instant::now();
        assert!(server.rest().await.is_empty());
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{sent:?}: {:?}",
            began.elapsed()
        );
    }
}

/// A server that is faster than its client is held back: what weir and the kernel hold in between is bounded.
#[tokio::test]
async fn a_slow_client_holds_the_server_back() {
    const LENGTH: usize = 200 << 20;
    let mut origin = Manual::start().await;
    let weir = weir(&origin, "", "").await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
        ))
        .await;
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let writing = async {
        while sent < LENGTH {
            sent += tokio::io::AsyncWriteExt::write(
                &mut server.stream,
                &piece[..piece.len().min(LENGTH - sent)],
            )
            .await
            .unwrap();
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(700), writing)
            .await
            .is_err(),
        "all of it was taken"
    );
    // Buffers of four sockets, each up to 6 MiB, and 64 KiB of ours.
    assert!(sent < 30 << 20, "{sent}");
    client.head().await;
    let mut read = client.buffer.len();
    client.buffer.clear();
    while read < sent {
        assert!(client.read().await);
        read += client.buffer.len();
        client.buffer.clear();
    }
    server.send(b"x").await;
    assert!(client.read().await, "and it goes on");
}
