//! WebSockets and other protocols that a connection switches to (RFC 9110 §7.8): after the server's 101 both sides speak as
//! they like; before it, nothing but a request goes up.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::support::manual::{Manual, Server};
use crate::support::origin::ok;
use crate::support::{Connection, Origin, PATIENCE, Weir};

const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Kept: 1\r\n\r\n";

/// A WebSocket server that sends back what it gets.
async fn echo() -> Origin {
    Origin::raw(|stream, _| async move {
        let Ok(socket) = accept_async(stream).await else {
            return;
        };
        let (mut sending, mut receiving) = socket.split();
        while let Some(Ok(message)) = receiving.next().await {
            if message.is_close() || sending.send(message).await.is_err() {
                break;
            }
        }
    })
    .await
}

/// A tunnel, both of its ends in the hands of the test.
async fn tunnel(origin: &mut Manual, weir: &Weir) -> (Connection, Server) {
    let mut client = weir.connect().await;
    client.send(UPGRADE).await;
    let (mut server, _) = origin.request().await;
    server.send(SWITCHING).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, server)
}

#[tokio::test]
async fn websocket_messages_pass_both_ways() {
    let origin = echo().await;
    let weir = Weir::before(&[&origin]).await;
    let stream = TcpStream::connect(weir.address()).await.unwrap();
    let (mut socket, response) = client_async("ws://test/chat", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for number in 0..100 {
        socket
            .send(Message::text(format!("message {number}")))
            .await
            .unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text(format!("message {number}"))
        );
    }
    for length in [126, 65_536, 4 << 20] {
        let message = Message::binary(vec![7; length]);
        socket.send(message.clone()).await.unwrap();
        assert!(
            timeout(PATIENCE, socket.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                == message,
            "{length}"
        );
    }
    socket.close(None).await.unwrap();
}

/// Several sockets, more in flight than all buffers hold: both ways at once, nothing lost.
#[tokio::test]
async fn large_messages_pass_both_ways_at_once() {
    let origin = echo().await;
    let weir = Weir::before(&[&origin]).await;
    let mut sockets = tokio::task::JoinSet::new();
    for letter in 0..4u8 {
        let stream = TcpStream::connect(weir.address()).await.unwrap();
        sockets.spawn(async move {
            let (socket, _) = client_async("ws://test/chat", stream).await.unwrap();
            let (mut sending, mut receiving) = socket.split();
            let sent = tokio::spawn(async move {
                for number in 0..40u8 {
                    let mut bytes = vec![letter; 100_000];
                    bytes[0] = number;
                    sending.send(Message::binary(bytes)).await.unwrap();
                }
                sending
            });
            for number in 0..40u8 {
                let message = timeout(PATIENCE, receiving.next())
                    .await
                    .unwrap()
                    .unwrap()
                    .unwrap()
                    .into_data();
                assert!(
                    message.len() == 100_000 && message[0] == number && message[99_999] == letter
                );
            }
            let _open = sent.await.unwrap();
        });
    }
    while let Some(result) = sockets.join_next().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn the_heads_of_a_switch_pass() {
    let mut origin = Manual::start().await;
    let weir = Weir::before(&[&origin.origin]).await;
    let mut client = weir.connect().await;
    client.send(UPGRADE).await;
    let (mut server, request) = origin.request().await;
    assert_eq!(
        (request.field("connection"), request.field("upgrade")),
        ("upgrade", "websocket")
    );
    server.send(SWITCHING).await;
    let head = client.head().await;
    let fields = |name| crate::support::origin::fields(&head, name);
    assert_eq!(
        (fields("connection"), fields("upgrade"), fields("x-kept")),
        (vec!["upgrade"], vec!["websocket"], vec!["1"])
    );
    assert!(
        fields("content-length").is_empty() && fields("transfer-encoding").is_empty(),
        "{head}"
    );
}

#[tokio::test]
async fn a_server_that_refuses_answers_as_usual_and_the_connections_go_on() {
    let origin = Origin::start(|request| match request.target() {
        "/socket" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        _ => ok("yes"),
    })
    .await;
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[&origin], "")
    ))
    .await;
    let mut client = weir.connect().await;
    client.send(UPGRADE).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    assert_eq!(client.get("/").await.text(), "yes");
    assert_eq!(origin.connections(), 1);
}

/// RUSTSEC-2026-0033: whoever passes on what comes behind a request for another protocol before that protocol is agreed on,
/// lets it be read as requests that no rule was applied to.
#[tokio::test]
async fn what_comes_before_the_101_waits_for_it() {
    let mut origin = Manual::start().await;
    let weir = Weir::before(&[&origin.origin]).await;
    let mut client = weir.connect().await;
    client.send(&format!("{UPGRADE}early")).await;
    let (mut server, _) = origin.request().await;
    client.send(" bird").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        server.peek().is_empty(),
        "{:?}",
        String::from_utf8_lossy(server.peek())
    );
    server.send(format!("{SWITCHING}and hello")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    while client.buffer.len() < 9 {
        assert!(client.read().await);
    }
    assert_eq!(client.buffer, b"and hello");
    assert_eq!(server.take(10).await, b"early bird");
}

/// If the answer is no, what came behind the request was a request.
#[tokio::test]
async fn what_comes_before_a_refusal_is_the_next_request() {
    let origin = Origin::start(|request| match request.target() {
        "/socket" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
        target => ok(target),
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = weir.connect().await;
    client
        .send(&format!("{UPGRADE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    assert_eq!(client.response().await.status, 403);
    assert_eq!(client.response().await.text(), "/next");
    let seen = origin.last();
    assert!(
        seen.fields("x-forwarded-for").len() == 1,
        "it went through weir: {}",
        seen.head
    );
}

/// What cannot be switched is asked without the wish to.
#[tokio::test]
async fn some_wishes_are_not_passed_on() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let weir = Weir::before(&[&origin]).await;
    for request in [
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
    ] {
        let mut client = weir.connect().await;
        client.send(request).await;
        assert_eq!(client.response().await.status, 200, "{request}");
        let seen = origin.last();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert!(seen.fields(name).is_empty(), "{request}\n{}", seen.head);
        }
    }
}

#[tokio::test]
async fn a_side_that_takes_nothing_holds_the_other_back() {
    let mut origin = Manual::start().await;
    let weir = Weir::before(&[&origin.origin]).await;
    let (mut client, mut server) = tunnel(&mut origin, &weir).await;
    let piece = vec![b'x'; 1 << 20];
    for up in [true, false] {
        let mut sent = 0;
        let writing = async {
            while sent < 200 << 20 {
                sent += if up {
                    client.stream.write(&piece).await.unwrap()
                } else {
                    server.stream.write(&piece).await.unwrap()
                };
            }
        };
        assert!(
            timeout(Duration::from_millis(500), writing).await.is_err(),
            "all of it was taken"
        );
        assert!(sent < 30 << 20, "{sent}");
        let mut read = 0;
        while read < sent {
            let buffer = if up {
                assert!(server.read().await);
                &mut server.buffer
            } else {
                assert!(client.read().await);
                &mut client.buffer
            };
            read += buffer.len();
            buffer.clear();
        }
        assert_eq!(read, sent);
    }
}

/// One side may end before the other has said everything.
#[tokio::test]
async fn each_side_ends_by_itself() {
    let mut origin = Manual::start().await;
    let weir = Weir::before(&[&origin.origin]).await;
    let (mut client, mut server) = tunnel(&mut origin, &weir).await;
    client.send("last words").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(server.rest().await, b"last words");
    for _ in 0..3 {
        server.send("reply ").await;
    }
    server.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"reply reply reply ");
    let (mut client, mut server) = tunnel(&mut origin, &weir).await;
    server.send("bye").await;
    server.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"bye");
    client.send("thanks").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(server.rest().await, b"thanks");
}

#[tokio::test]
async fn a_silent_tunnel_ends_after_stream_timeout_half_closed_or_not() {
    let mut origin = Manual::start().await;
    let weir = Weir::start(&Weir::config(
        &[&origin.origin],
        "stream_timeout = \"500ms\"\nstall_timeout = \"100ms\"",
    ))
    .await;
    for half_closed in [false, true] {
        let (mut client, mut server) = tunnel(&mut origin, &weir).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.send("x").await;
            while client.buffer.is_empty() {
                assert!(client.read().await, "it is not silent");
            }
            client.buffer.clear();
        }
        let began = Instant::now();
        if half_closed {
            client.stream.shutdown().await.unwrap();
            assert!(server.rest().await.is_empty());
        }
        assert!(client.is_closed().await);
        assert!(
            began.elapsed() >= Duration::from_millis(450),
            "{:?}",
            began.elapsed()
        );
        assert!(server.rest().await.is_empty());
    }
}

#[tokio::test]
async fn whoever_leaves_is_noticed_by_the_other() {
    let mut origin = Manual::start().await;
    let weir = Weir::before(&[&origin.origin]).await;
    let series = format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        origin.origin.address()
    );
    let (client, mut server) = tunnel(&mut origin, &weir).await;
    assert!(
        weir.metric(&series).await >= 1.0,
        "a tunnel is a request that runs"
    );
    let began = Instant::now();
    drop(client);
    assert!(server.rest().await.is_empty());
    assert!(began.elapsed() < Duration::from_secs(1));
    drop(server);
    let (mut client, server) = tunnel(&mut origin, &weir).await;
    let began = Instant::now();
    server.reset();
    assert!(client.is_closed().await);
    assert!(began.elapsed() < Duration::from_secs(1));
    // Nothing is counted as running when all have left.
    crate::support::eventually(
        async || weir.metric(&series).await,
        |running| *running == 0.0,
    )
    .await;
}

/// A client that gives up before the 101.
#[tokio::test]
async fn a_client_that_leaves_before_the_switch_is_noticed() {
    let mut origin = Manual::start().await;
    let weir = Weir::before(&[&origin.origin]).await;
    let mut client = weir.connect().await;
    client.send(UPGRADE).await;
    let (mut server, _) = origin.request().await;
    drop(client);
    assert!(server.rest().await.is_empty());
}
