//! What runs when a reload takes its route, its server or its listener away, or weir stops: it gets `drain`, and ends in a
//! way that its client does not take for a failure where there is one. Everything else goes on.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::{accept_async, client_async};

use crate::support::control::fixed;
use crate::support::http2::{self, Http2};
use crate::support::manual::{Manual, Server};
use crate::support::{Connection, Origin, PATIENCE, Weir};

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const UPGRADE: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const EVENT: &str = "6\r\ndata:\n\r\n";

/// Routes `goes` and `stays` before servers of their own, and a fixed route of a reload's number.
struct Two {
    goes: Manual,
    stays: Manual,
    drain: &'static str,
}

impl Two {
    async fn start(drain: &'static str) -> (Self, Weir) {
        let two = Self {
            goes: Manual::start().await,
            stays: Manual::start().await,
            drain,
        };
        let weir = Weir::start(&two.config("", "")).await;
        (two, weir)
    }

    /// With more keys for the route `goes`, and more tables.
    fn config(&self, goes: &str, more: &str) -> String {
        self.without(&format!(
            "[route.goes]\npath = \"/goes\"\nupstream = \"goes\"\n{goes}\n{more}"
        ))
    }

    /// Without the route `goes`.
    fn without(&self, more: &str) -> String {
        format!(
            "[process]\ndrain = \"{}\"\n[listen.web]\naddress = \"127.0.0.1:0\"\n[route.stays]\npath = \"/stays\"\n\
             upstream = \"stays\"\n[upstream.goes]\nservers = [\"{}\"]\n[upstream.stays]\nservers = [\"{}\"]\n{more}",
            self.drain,
            self.goes.origin.address(),
            self.stays.origin.address(),
        )
    }
}

/// An exchange, both of its ends in the hands of the test.
async fn begin(
    weir: &Weir,
    origin: &mut Manual,
    request: &str,
    answer: &str,
) -> (Connection, Server) {
    let mut client = weir.connect().await;
    client.send(request).await;
    let (mut server, _) = origin.request().await;
    server.send(answer).await;
    if !answer.is_empty() {
        client.head().await;
    }
    (client, server)
}

async fn events(weir: &Weir, origin: &mut Manual, path: &str) -> (Connection, Server) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    begin(weir, origin, &request, EVENTS).await
}

async fn tunnel(weir: &Weir, origin: &mut Manual, path: &str) -> (Connection, Server) {
    let request = format!("GET {path} HTTP/1.1\r\n{UPGRADE}");
    begin(weir, origin, &request, SWITCHING).await
}

/// What the server sends reaches the client.
async fn goes_on(client: &mut Connection, server: &mut Server, bytes: &str) {
    client.buffer.clear();
    server.send(bytes).await;
    while client.buffer.len() < bytes.len() {
        assert!(
            client.read().await,
            "a stream that nothing was taken from goes on"
        );
    }
    assert_eq!(String::from_utf8_lossy(&client.buffer), bytes);
}

/// Reads to the end, which must be no reset.
async fn end(client: &mut Connection) -> Vec<u8> {
    loop {
        let read = timeout(PATIENCE, client.stream.read_buf(&mut client.buffer)).await;
        match read.expect("it ends") {
            Ok(0) => return std::mem::take(&mut client.buffer),
            Ok(_) => {}
            Err(error) => panic!("it ends with {error} after {:?}", client.buffer),
        }
    }
}

#[tokio::test]
async fn an_event_stream_whose_route_is_gone_comes_to_a_clean_end() {
    let (mut two, weir) = Two::start("400ms").await;
    let (mut goes, _server) = events(&weir, &mut two.goes, "/goes").await;
    let (mut stays, mut server) = events(&weir, &mut two.stays, "/stays").await;
    weir.reload(&two.without("")).await.unwrap();
    while !goes.buffer.ends_with(b"0\r\n\r\n") {
        assert!(goes.read().await, "{:?}", goes.buffer);
    }
    assert_eq!(goes.buffer, b"0\r\n\r\n");
    goes.buffer.clear();
    assert_eq!(
        goes.get("/goes").await.status,
        404,
        "its connection goes on"
    );
    goes_on(&mut stays, &mut server, EVENT).await;
}

#[tokio::test]
async fn an_encoded_event_stream_whose_route_is_gone_can_be_decoded_to_its_end() {
    let (mut two, weir) = Two::start("400ms").await;
    let compress = "compress = { types = [\"text/event-stream\"] }";
    weir.reload(&two.config(compress, "")).await.unwrap();
    let request = "GET /goes HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let mut client = weir.connect().await;
    client.send(request).await;
    let (mut server, _) = two.goes.request().await;
    server.send(EVENTS).await;
    server.send(EVENT).await;
    weir.reload(&two.without("")).await.unwrap();
    let response = client.response().await;
    assert_eq!(response.field("content-encoding"), "gzip");
    assert!(response.complete);
    assert_eq!(
        crate::support::codings::plain("gzip", &response.body),
        "data:\n"
    );
}

#[tokio::test]
async fn over_http2_an_event_stream_whose_route_is_gone_is_not_reset() {
    let (mut two, weir) = Two::start("400ms").await;
    let mut client = Http2::open(weir.address()).await;
    let (response, _) = client.send(http2::get("/goes"), true).await;
    let (mut server, _) = two.goes.request().await;
    server.send(EVENTS).await;
    server.send(EVENT).await;
    let mut body = response.await.unwrap().into_body();
    weir.reload(&two.without("")).await.unwrap();
    let (bytes, _) = http2::read(&mut body).await.unwrap();
    assert_eq!(bytes, b"data:\n");
    assert_eq!(client.get("/goes").await.status, 404);
}

#[tokio::test]
async fn a_tunnel_whose_route_is_gone_ends_without_a_reset() {
    let (mut two, weir) = Two::start("400ms").await;
    let (mut goes, mut server) = tunnel(&weir, &mut two.goes, "/goes").await;
    let (mut stays, mut other) = tunnel(&weir, &mut two.stays, "/stays").await;
    goes_on(&mut goes, &mut server, "before").await;
    weir.reload(&two.without("")).await.unwrap();
    goes.buffer.clear();
    assert!(end(&mut goes).await.is_empty());
    // Whatever a client has on its way when it learns of the end must not make a reset of it.
    goes.send("late").await;
    assert!(!server.read().await);
    drop(server);
    assert!(end(&mut goes).await.is_empty());
    goes_on(&mut stays, &mut other, "after").await;
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_gets_one_that_says_to_try_again() {
    let (mut two, weir) = Two::start("400ms").await;
    let (mut client, _server) = begin(
        &weir,
        &mut two.goes,
        "GET /goes HTTP/1.1\r\nHost: a\r\n\r\n",
        "",
    )
    .await;
    weir.reload(&two.without("")).await.unwrap();
    let response = client.response().await;
    assert_eq!(response.status, 503);
    assert_eq!(response.field("retry-after"), "1");
    assert_eq!(
        response.field("proxy-status"),
        "weir; error=destination_unavailable"
    );
    assert_eq!(
        client.get("/goes").await.status,
        404,
        "its connection goes on"
    );
}

#[tokio::test]
async fn an_upload_whose_route_is_gone_is_answered_and_its_connection_closed() {
    let (mut two, weir) = Two::start("400ms").await;
    let head = "POST /goes HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc";
    let (mut client, mut server) = begin(&weir, &mut two.goes, head, "").await;
    assert_eq!(server.take(3).await, b"abc");
    weir.reload(&two.without("")).await.unwrap();
    client.send("def").await;
    assert_eq!(
        server.take(3).await,
        b"def",
        "it goes on until its time is over"
    );
    let response = client.response().await;
    assert_eq!(
        (response.status, response.field("connection")),
        (503, "close")
    );
    client.send("late").await;
    assert!(end(&mut client).await.is_empty());
    assert!(!server.read().await, "the server learns of it");
}

#[tokio::test]
async fn an_upload_over_http2_is_answered_and_the_other_streams_go_on() {
    let (mut two, weir) = Two::start("400ms").await;
    let mut client = Http2::open(weir.address()).await;
    let request = http2::request("POST", "/goes").body(()).unwrap();
    let (response, mut body) = client.send(request, false).await;
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let (mut server, _) = two.goes.request().await;
    assert_eq!(server.take(8).await, b"3\r\nabc\r\n");
    weir.reload(&two.without("")).await.unwrap();
    let answer = http2::answer(response).await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(client.get("/goes").await.status, 404);
}

/// RFC 9112 §8: a part must not look like the whole.
#[tokio::test]
async fn a_download_whose_route_is_gone_is_visibly_broken_off() {
    let (mut two, weir) = Two::start("400ms").await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = "GET /goes HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut client, mut server) = begin(&weir, &mut two.goes, request, answer).await;
    weir.reload(&two.without("")).await.unwrap();
    goes_on(&mut client, &mut server, "3\r\nabc\r\n").await;
    client.buffer.clear();
    assert!(client.rest().await.is_empty(), "no last chunk");
}

#[tokio::test]
async fn what_is_done_in_time_ends_as_if_nothing_had_happened() {
    let (mut two, weir) = Two::start("60s").await;
    let request = "GET /goes HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut client, mut server) = begin(&weir, &mut two.goes, request, "").await;
    weir.reload(&two.without("")).await.unwrap();
    assert_eq!(weir.get("/goes").await.status, 404);
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        .await;
    assert_eq!(client.response().await.text(), "done");
}

#[tokio::test]
async fn streams_of_a_removed_server_end_and_those_of_the_others_go_on() {
    let (mut goes, mut stays) = (Manual::start().await, Manual::start().await);
    let config = |origins: &[&Origin]| {
        format!(
            "[process]\ndrain = \"400ms\"\n{}",
            Weir::config(origins, "")
        )
    };
    let weir = Weir::start(&config(&[&goes.origin])).await;
    let (mut ending, _server) = events(&weir, &mut goes, "/").await;
    weir.reload(&config(&[&stays.origin])).await.unwrap();
    let (mut client, mut server) = events(&weir, &mut stays, "/").await;
    while !ending.buffer.ends_with(b"0\r\n\r\n") {
        assert!(ending.read().await, "{:?}", ending.buffer);
    }
    weir.reload(&config(&[&goes.origin, &stays.origin]))
        .await
        .unwrap();
    goes_on(&mut client, &mut server, EVENT).await;
}

#[tokio::test]
async fn a_route_that_moves_to_another_listener_is_gone_from_the_first() {
    let (mut two, weir) = Two::start("400ms").await;
    let (mut client, _server) = events(&weir, &mut two.goes, "/goes").await;
    let other = "[listen.other]\naddress = \"127.0.0.1:0\"\n";
    weir.reload(&two.config("listen = [\"other\"]", other))
        .await
        .unwrap();
    while !client.buffer.ends_with(b"0\r\n\r\n") {
        assert!(client.read().await, "{:?}", client.buffer);
    }
}

#[tokio::test]
async fn no_other_change_of_a_route_or_its_upstream_ends_a_stream() {
    let (mut two, weir) = Two::start("100ms").await;
    let (mut events, mut server) = events(&weir, &mut two.goes, "/goes").await;
    let (mut tunnel, mut other) = tunnel(&weir, &mut two.goes, "/goes").await;
    for (number, keys) in [
        "timeout = \"100ms\"",
        "path_exact = \"/elsewhere\"",
        "methods = [\"POST\"]\nmax_body = \"1KiB\"",
        "response_headers = { set = { x-new = \"1\" } }",
        "cache = true\ncompress = true",
        "host = [\"elsewhere.test\"]\npriority = 7",
    ]
    .into_iter()
    .enumerate()
    {
        let more = fixed("more", "path = \"/more\"", &number.to_string());
        weir.reload(&two.config(keys, &more)).await.unwrap();
        // A route that does not forward any more stands all the same, and so does the upstream.
        let answers = two.without(&fixed("goes", "path = \"/goes\"", &number.to_string()));
        weir.reload(&answers).await.unwrap();
        goes_on(&mut events, &mut server, EVENT).await;
        goes_on(&mut tunnel, &mut other, "still here").await;
    }
}

#[tokio::test]
async fn streams_end_cleanly_when_weir_stops() {
    let (mut two, weir) = Two::start("2s").await;
    let (mut events, _server) = events(&weir, &mut two.goes, "/goes").await;
    let (mut tunnel, other) = tunnel(&weir, &mut two.goes, "/goes").await;
    let stopping = tokio::spawn(weir.running.stop());
    while !events.buffer.ends_with(b"0\r\n\r\n") {
        assert!(events.read().await, "{:?}", events.buffer);
    }
    assert!(end(&mut tunnel).await.is_empty());
    drop((tunnel, other));
    timeout(PATIENCE, stopping)
        .await
        .expect("weir ends")
        .unwrap();
}

/// RFC 6455 §7.4.1: 1001 is "going away".
#[tokio::test]
async fn both_sides_of_a_websocket_are_told_that_weir_goes_away() {
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
    let (told, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::raw(move |stream, _| {
        let told = told.clone();
        async move {
            let mut socket = accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                let _ = told.send(message.clone());
                if message.is_text() {
                    socket.send(message).await.unwrap();
                }
            }
        }
    })
    .await;
    let site = Weir::config(&[&origin], "");
    let config = |site: &str| format!("[process]\ndrain = \"400ms\"\n{site}");
    let weir = Weir::start(&config(&site)).await;
    let stream = TcpStream::connect(weir.address()).await.unwrap();
    let (mut socket, _) = client_async("ws://test/chat", stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("hello")
    );
    assert_eq!(closed.recv().await.unwrap(), Message::text("hello"));
    weir.reload(&config(&site.replace("[route.site]", "[route.other]")))
        .await
        .unwrap();
    let is_away = |message: &Message| matches!(message, Message::Close(Some(close)) if close.code == CloseCode::Away);
    let message = timeout(PATIENCE, socket.next()).await.unwrap().unwrap();
    assert!(is_away(&message.unwrap()));
    assert!(socket.next().await.is_none(), "and that is a clean end");
    let message = timeout(PATIENCE, closed.recv()).await.unwrap().unwrap();
    assert!(is_away(&message));
}

#[tokio::test]
async fn in_the_middle_of_a_message_a_websocket_is_told_nothing() {
    let (mut two, weir) = Two::start("400ms").await;
    let upgrade = UPGRADE.replace("echo", "websocket");
    let request = format!("GET /goes HTTP/1.1\r\n{upgrade}");
    let switching = SWITCHING.replace("echo", "websocket");
    let (mut client, mut server) = begin(&weir, &mut two.goes, &request, &switching).await;
    let part = "\u{2}\u{5}abc";
    goes_on(&mut client, &mut server, part).await;
    weir.reload(&two.without("")).await.unwrap();
    assert_eq!(end(&mut client).await, part.as_bytes());
}
