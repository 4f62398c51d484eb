//! Whatever a server sends: it reaches the client whole, or visibly broken off, or as a 502; and a connection that is in any
//! doubt carries no other exchange. The cases are in `tests/upstream_responses/`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::responses::{Asked, Case, Expect, Then, cases};
use crate::support::http2::{self, Http2};
use crate::support::manual::Manual;
use crate::support::origin::{ok, read_request};
use crate::support::{Connection, Origin, PATIENCE, Response, Weir};

/// How the server's bytes are spread over writes.
#[derive(Clone, Copy, PartialEq)]
enum Delivery {
    Whole,
    ByteByByte,
}

/// A server that answers `/N` with the case N, and anything else with `200 OK`.
struct Server {
    origin: Origin,
    /// Which connection answered a target last.
    connections: Arc<Mutex<HashMap<String, usize>>>,
}

impl Server {
    async fn start(cases: Arc<Vec<Case>>, delivery: Delivery) -> Self {
        let connections: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let seen = Arc::clone(&connections);
        let origin = Origin::raw(move |stream, number| {
            let (cases, seen) = (Arc::clone(&cases), Arc::clone(&seen));
            async move { serve(stream, number, &cases, &seen, delivery).await }
        })
        .await;
        Self {
            origin,
            connections,
        }
    }

    fn connection_of(&self, target: &str) -> Option<usize> {
        self.connections.lock().unwrap().get(target).copied()
    }
}

async fn serve(
    mut stream: TcpStream,
    number: usize,
    cases: &[Case],
    seen: &Mutex<HashMap<String, usize>>,
    delivery: Delivery,
) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some((head, _)) = read_request(&mut stream, &mut buffer).await {
        let target = head.split(' ').nth(1).unwrap().to_owned();
        seen.lock().unwrap().insert(target.clone(), number);
        let case = target
            .strip_prefix('/')
            .and_then(|number| number.parse::<usize>().ok())
            .and_then(|number| cases.get(number));
        let Some(case) = case else {
            if stream.write_all(&ok("next")).await.is_err() {
                return;
            }
            continue;
        };
        let sent = match delivery {
            Delivery::Whole => stream.write_all(&case.wire).await,
            Delivery::ByteByByte => send_slowly(&mut stream, &case.wire).await,
        };
        match case.then {
            Then::Waits if sent.is_ok() => {}
            Then::Waits => return,
            Then::Closes => {
                let _ = stream.shutdown().await;
                return;
            }
            Then::Resets => {
                stream.set_zero_linger().unwrap();
                return;
            }
        }
    }
}

async fn send_slowly(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn weir_before(server: &Server) -> Weir {
    Weir::start(&format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[&server.origin], "response_timeout = \"5s\"")
    ))
    .await
}

/// What an HTTP/1.1 client gets; `None` if not even a head.
async fn ask(client: &mut Connection, method: &str, target: &str) -> Option<Response> {
    client
        .send(&format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .await;
    // A head that is never whole would fail the test inside `head`.
    while crate::support::origin::find(&client.buffer, b"\r\n\r\n").is_none() {
        if !client.read().await {
            return None;
        }
    }
    Some(client.response_to(method).await)
}

fn word(head: &str) -> String {
    crate::support::origin::fields(head, "proxy-status").join("|")
}

async fn check(weir: &Weir, server: &Server, number: usize, case: &Case, delivery: Delivery) {
    let name = case.name;
    let target = format!("/{number}");
    let method = if case.asked == Asked::Head {
        "HEAD"
    } else {
        "GET"
    };
    let mut client = weir.connect().await;
    let response = ask(&mut client, method, &target).await;
    match &case.expect {
        Expect::Passes {
            status,
            body,
            reused,
        } => {
            let response = response.unwrap_or_else(|| panic!("{name}: no response"));
            assert_eq!(response.status, *status, "{name}: {}", response.head);
            assert_eq!(word(&response.head), "", "{name}");
            assert!(response.complete, "{name}: broken off");
            assert!(
                response.body == *body,
                "{name}: {:?}",
                String::from_utf8_lossy(&response.body)
            );
            let after = format!("/after{number}");
            let next = weir.get(&after).await;
            // Extra bytes that come late meet the next request on the connection, which then fails.
            if delivery == Delivery::Whole {
                assert_eq!(next.text(), "next", "{name}: the request behind it");
                let same = server.connection_of(&target) == server.connection_of(&after);
                assert_eq!(
                    same, *reused,
                    "{name}: whether the connection was used again"
                );
            } else {
                assert!(
                    next.text() == "next" || next.status == 502 && !reused,
                    "{name}: the request behind it: {}",
                    next.head
                );
            }
        }
        // A reset destroys what the server's socket still held.
        Expect::Breaks { .. } if delivery == Delivery::ByteByByte && case.then == Then::Resets => {
            assert!(
                response.is_none_or(|response| response.status == 502 || !response.complete),
                "{name}"
            );
        }
        Expect::Breaks { status } => {
            if let Some(response) = response {
                assert_eq!(response.status, *status, "{name}: {}", response.head);
                assert!(
                    !response.complete,
                    "{name}: looks complete: {:?}",
                    response.text()
                );
            }
            assert!(
                client.is_closed().await,
                "{name}: the client's connection goes on"
            );
            assert_next(weir, server, number, name).await;
        }
        Expect::Refused(expected) => {
            let response = response.unwrap_or_else(|| panic!("{name}: no response"));
            assert_eq!(response.status, 502, "{name}: {}", response.head);
            assert_eq!(
                word(&response.head),
                format!("weir; error={expected}"),
                "{name}"
            );
            assert!(response.complete, "{name}");
            assert_next(weir, server, number, name).await;
        }
    }
}

/// A request behind one that failed is answered, on another connection.
async fn assert_next(weir: &Weir, server: &Server, number: usize, name: &str) {
    let after = format!("/after{number}");
    assert_eq!(
        weir.get(&after).await.text(),
        "next",
        "{name}: the request behind it"
    );
    assert_ne!(
        server.connection_of(&format!("/{number}")),
        server.connection_of(&after),
        "{name}: used again"
    );
}

#[tokio::test]
async fn each_response_passes_or_breaks_off_or_is_refused() {
    let cases = Arc::new(cases());
    assert!(cases.len() >= 120, "{}", cases.len());
    let server = Server::start(Arc::clone(&cases), Delivery::Whole).await;
    let weir = weir_before(&server).await;
    for (number, case) in cases.iter().enumerate() {
        check(&weir, &server, number, case, Delivery::Whole).await;
    }
}

#[tokio::test]
async fn a_response_that_comes_byte_by_byte_is_the_same() {
    let cases = Arc::new(cases());
    let server = Server::start(Arc::clone(&cases), Delivery::ByteByByte).await;
    let weir = weir_before(&server).await;
    for (number, case) in cases
        .iter()
        .enumerate()
        .filter(|(_, case)| case.wire.len() < 1000)
    {
        check(&weir, &server, number, case, Delivery::ByteByByte).await;
    }
}

/// RFC 9113 §8.1.1: what breaks off ends with RST_STREAM, never with END_STREAM; other streams go on.
#[tokio::test]
async fn over_http2_a_response_that_breaks_off_is_a_reset_of_its_stream() {
    let cases = Arc::new(cases());
    let server = Server::start(Arc::clone(&cases), Delivery::Whole).await;
    let weir = weir_before(&server).await;
    let mut client = Http2::open(weir.address()).await;
    for (number, case) in cases.iter().enumerate() {
        let name = case.name;
        let method = if case.asked == Asked::Head {
            "HEAD"
        } else {
            "GET"
        };
        let request = http2::request(method, &format!("/{number}"))
            .body(())
            .unwrap();
        let (response, _) = client.send(request, true).await;
        let answer = http2::answer(response).await;
        match &case.expect {
            Expect::Passes { status, body, .. } => {
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(answer.status, *status, "{name}");
                assert!(answer.body == *body, "{name}");
            }
            Expect::Breaks { .. } => {
                let error = answer.expect_err(name);
                assert!(
                    error.is_reset() && error.reason() == Some(h2::Reason::INTERNAL_ERROR),
                    "{name}: {error}"
                );
            }
            Expect::Refused(expected) => {
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(answer.status, 502, "{name}");
                assert_eq!(
                    answer.headers["proxy-status"],
                    format!("weir; error={expected}"),
                    "{name}"
                );
            }
        }
    }
    assert_eq!(client.get("/end").await.text(), "next");
}

/// Trailer fields reach a client that asked for them, without those that a trailer must not hold (RFC 9110 §6.5.1).
#[tokio::test]
async fn trailers_pass_without_those_that_must_not_be_there() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n\
         0\r\nX-Sum: 7\r\nContent-Length: 99\r\nSet-Cookie: a\r\n\r\n",
    )
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = weir.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (
            response.text().as_str(),
            response.trailers.to_ascii_lowercase().as_str()
        ),
        ("ok", "x-sum: 7\r\n")
    );
    let answer = Http2::open(weir.address()).await.get("/").await;
    let trailers = answer.trailers.unwrap();
    assert_eq!(
        (trailers.len(), trailers["x-sum"].to_str().unwrap()),
        (1, "7")
    );
}

/// RFC 9110 §7.8: a server must not switch to what the client did not offer.
#[tokio::test]
async fn a_switch_to_another_protocol_than_offered_is_refused() {
    for protocol in ["other", "websocket, other", "h2c"] {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        let origin = Origin::start(move |_| answer.clone().into_bytes()).await;
        let weir = Weir::before(&[&origin]).await;
        let mut client = weir.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (502, "weir; error=http_protocol_error"),
            "{protocol}"
        );
    }
}

/// A server that says nothing, or half a head, or one byte now and then: the time is for the whole head.
#[tokio::test]
async fn a_head_that_takes_too_long_is_a_504() {
    for first in [
        "",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: ",
    ] {
        let origin = Origin::raw(move |mut stream, _| async move {
            read_request(&mut stream, &mut Vec::new()).await;
            stream.write_all(first.as_bytes()).await.unwrap();
            let mut pause = tokio::time::interval(Duration::from_millis(50));
            while first.ends_with(' ') && stream.write_all(b"x").await.is_ok() {
                pause.tick().await;
            }
            std::future::pending().await
        })
        .await;
        let weir = Weir::start(&Weir::config(&[&origin], "response_timeout = \"300ms\"")).await;
        let response = weir.get("/").await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (504, "weir; error=http_response_timeout"),
            "{first:?}"
        );
    }
}

/// To an HTTP/1.0 client the end of the connection is the end of the response, so it must not look like one.
#[tokio::test]
async fn to_an_http_1_0_client_a_response_that_breaks_off_ends_with_a_reset() {
    for (answer, breaks) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", false),
    ] {
        let mut origin = Manual::start().await;
        let weir = Weir::before(&[&origin.origin]).await;
        let mut client = TcpStream::connect(weir.address()).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let (mut server, _) = origin.request().await;
        server.send(answer).await;
        let mut received = Vec::new();
        while !received.ends_with(b"hello") {
            assert!(client.read_buf(&mut received).await.unwrap() > 0);
        }
        drop(server);
        let end = timeout(PATIENCE, client.read_buf(&mut received))
            .await
            .unwrap();
        assert_eq!(end.is_err(), breaks, "{answer:?}: {end:?}");
    }
}
