//! Bodies of requests: they reach the server as they come, whole or visibly broken off, no faster than it reads.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::support::http2::{self, Http2};
use crate::support::manual::Manual;
use crate::support::origin::{Origin, fields, ok};
use crate::support::{PATIENCE, Weir};

/// Bytes that repeat in no way that a buffer's size divides.
fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = (0..251).collect::<Vec<u8>>().repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

async fn before(origin: &Manual, route: &str, upstream: &str) -> Weir {
    let config = Weir::config(&[&origin.origin], upstream)
        .replace("[route.site]\n", &format!("[route.site]\n{route}\n"));
    Weir::start(&format!("[process]\nworkers = 1\n{config}")).await
}

/// Answers with the very body that it reads, while it still reads it.
async fn echo(chunked: bool) -> Origin {
    Origin::raw(move |mut stream, _| async move {
        let mut buffer = Vec::new();
        let head = loop {
            if let Some(end) = crate::support::origin::find(&buffer, b"\r\n\r\n") {
                break String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let framing = if chunked {
            "transfer-encoding"
        } else {
            "content-length"
        };
        let value = fields(&head, framing)
            .first()
            .expect("the framing of the client")
            .to_string();
        let (mut reading, mut writing) = stream.into_split();
        writing
            .write_all(format!("HTTP/1.1 200 OK\r\n{framing}: {value}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        writing.write_all(&buffer).await.unwrap();
        // Chunks are passed back as they are.
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    })
    .await
}

async fn echoed(chunked: bool, length: usize) {
    let origin = echo(chunked).await;
    let config = Weir::config(&[&origin], "")
        .replace("[route.site]\n", "[route.site]\nmax_body = \"off\"\n");
    let weir = Weir::start(&config).await;
    let body = pattern(length);
    let mut client = weir.connect().await;
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {length}")
    };
    client
        .send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"))
        .await;
    let (mut reading, mut writing) = tokio::io::split(std::mem::replace(
        &mut client.stream,
        Box::new(tokio::io::empty()),
    ));
    let sent = body.clone();
    let sending = tokio::spawn(async move {
        for piece in sent.chunks(300_000) {
            if chunked {
                writing
                    .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                    .await
                    .unwrap();
            }
            writing.write_all(piece).await.unwrap();
            if chunked {
                writing.write_all(b"\r\n").await.unwrap();
            }
        }
        if chunked {
            writing.write_all(b"0\r\n\r\n").await.unwrap();
        }
        writing
    });
    let mut received = Vec::with_capacity(length * 2);
    let expected = if chunked {
        &b"\r\n0\r\n\r\n"[..]
    } else {
        &body[length - 7..]
    };
    let enough = |received: &[u8]| received.len() >= length && received.ends_with(expected);
    while !enough(&received) {
        let read = timeout(PATIENCE, reading.read_buf(&mut received))
            .await
            .expect("more of the echo")
            .unwrap();
        assert!(read > 0, "the echo ended after {} bytes", received.len());
    }
    let _writing = sending.await.unwrap();
    let mut client = crate::support::Connection::over(std::io::Cursor::new(received));
    let response = client.response().await;
    assert!(
        response.complete && response.body == body,
        "{} of {length} bytes",
        response.body.len()
    );
}

#[tokio::test]
async fn fifty_megabytes_of_known_length_come_back_intact_while_they_are_sent() {
    echoed(false, 50_000_000).await;
}

#[tokio::test]
async fn fifty_megabytes_in_chunks_come_back_intact_while_they_are_sent() {
    echoed(true, 50_000_000).await;
}

#[tokio::test]
async fn over_http2_megabytes_go_up_and_down_intact() {
    let origin = echo(false).await;
    let weir = Weir::start(&Weir::config(&[&origin], "")).await;
    let body = Bytes::from(pattern(5_000_000));
    let mut client = Http2::open(weir.address()).await;
    let request = http2::request("POST", "/")
        .header("content-length", body.len())
        .body(())
        .unwrap();
    let (response, stream) = client.send(request, false).await;
    let sending = tokio::spawn(http2::upload(stream, body.clone()));
    let answer = http2::answer(response).await.unwrap();
    assert!(answer.body == body);
    sending.await.unwrap().unwrap();
}

/// The framing that the server sees is weir's own.
#[tokio::test]
async fn the_length_is_passed_on_where_there_is_one() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = weir.connect().await;
    for (fields, body, length, coding) in [
        ("Content-Length: 5\r\n", "hello", vec!["5"], vec![]),
        ("Content-Length: 0\r\n", "", vec!["0"], vec![]),
        ("", "", vec!["0"], vec![]),
        (
            "Transfer-Encoding: chunked\r\n",
            "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            vec![],
            vec!["chunked"],
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            "0\r\n\r\n",
            vec![],
            vec!["chunked"],
        ),
    ] {
        client
            .send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"))
            .await;
        assert_eq!(client.response().await.status, 200);
        let seen = origin.last();
        assert_eq!(
            (
                seen.fields("content-length"),
                seen.fields("transfer-encoding")
            ),
            (length, coding),
            "{}",
            seen.head
        );
    }
    let mut client = Http2::open(weir.address()).await;
    let (response, stream) = client
        .send(http2::request("POST", "/").body(()).unwrap(), false)
        .await;
    http2::upload(stream, Bytes::from_static(b"hello"))
        .await
        .unwrap();
    http2::answer(response).await.unwrap();
    let seen = origin.last();
    assert_eq!(seen.fields("transfer-encoding"), ["chunked"]);
    assert_eq!(
        String::from_utf8(seen.body).unwrap(),
        "5\r\nhello\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn trailers_of_a_request_pass() {
    let mut origin = Manual::start().await;
    let weir = before(&origin, "", "").await;
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n")
        .await;
    let (mut server, _) = origin.request().await;
    let expected = b"2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    assert_eq!(server.take(expected.len()).await, expected);
}

/// What weir takes from a client whose server does not read is bounded; when the server reads on, all of it arrives.
#[tokio::test]
async fn a_server_that_does_not_read_holds_the_client_back() {
    const LENGTH: usize = 64 << 20;
    let mut origin = Manual::start().await;
    let weir = before(&origin, "max_body = \"off\"", "").await;
    let mut client = weir.connect().await;
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
        ))
        .await;
    let (mut server, _) = origin.request().await;
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let writing = async {
        while sent < LENGTH {
            sent += client
                .stream
                .write(&piece[..piece.len().min(LENGTH - sent)])
                .await
                .unwrap();
        }
    };
    assert!(
        timeout(Duration::from_millis(700), writing).await.is_err(),
        "all of it was taken"
    );
    // Buffers of four sockets, each up to 6 MiB, and a few reads of ours.
    assert!(sent < 30 << 20, "{sent}");
    let mut read = 0;
    let reading = tokio::spawn(async move {
        while read < LENGTH {
            assert!(server.read().await, "ended after {read}");
            read += server.buffer.len();
            server.buffer.clear();
        }
        server.send(ok("thanks")).await;
        server
    });
    while sent < LENGTH {
        sent += timeout(
            PATIENCE,
            client
                .stream
                .write(&piece[..piece.len().min(LENGTH - sent)]),
        )
        .await
        .unwrap()
        .unwrap();
    }
    assert_eq!(client.response().await.text(), "thanks");
    reading.await.unwrap();
}

/// A server may answer before it has read the request. Its answer arrives, whatever it does with the rest; the connection
/// is in the middle of a request then and carries no other.
#[tokio::test]
async fn an_early_answer_arrives_and_its_connection_is_not_used_again() {
    for length in ["Content-Length: 50000000", "Transfer-Encoding: chunked"] {
        for then in ["waits", "closes", "resets"] {
            let mut origin = Manual::start().await;
            let weir = before(&origin, "", "").await;
            let mut client = weir.connect().await;
            client
                .send(&format!(
                    "POST / HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n5\r\nhello\r\n"
                ))
                .await;
            let (mut server, _) = origin.request().await;
            server
                .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\n\r\ntoo big")
                .await;
            let kept = match then {
                "waits" => Some(server),
                "closes" => None,
                _ => {
                    sleep(Duration::from_millis(50)).await;
                    server.reset();
                    None
                }
            };
            let response = client.response().await;
            assert_eq!(
                (response.status, response.text().as_str()),
                (413, "too big"),
                "{length}, {then}"
            );
            assert!(response.complete);
            let next = tokio::spawn({
                let address = weir.address();
                async move {
                    crate::support::Connection::open(address)
                        .await
                        .get("/")
                        .await
                }
            });
            let (mut server, _) = origin.request().await;
            assert_eq!(server.number, 1, "{length}, {then}");
            server.send(ok("next")).await;
            assert_eq!(next.await.unwrap().text(), "next");
            if let Some(mut server) = kept {
                assert!(
                    server.rest().await.len() < 100,
                    "the first connection is closed"
                );
            }
        }
    }
}

/// The answer to the last byte of a request is not early, though the end of the body may be told to weir later.
#[tokio::test]
async fn connections_are_reused_after_uploads() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[&origin], "")
    ))
    .await;
    let mut client = weir.connect().await;
    for _ in 0..10 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            .await;
        client.send("hello").await;
        assert_eq!(client.response().await.text(), "hello");
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
            .await;
        client.send("hello\r\n0\r\n").await;
        client.send("\r\n").await;
        assert_eq!(client.response().await.text(), "5\r\nhello\r\n0\r\n\r\n");
    }
    assert_eq!(origin.connections(), 1);
}

/// A body that its client broke off must not look like a whole one.
#[tokio::test]
async fn an_upload_that_breaks_off_reaches_the_server_as_a_break() {
    let mut origin = Manual::start().await;
    let weir = before(&origin, "", "").await;
    for (framing, sent) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
    ] {
        for malformed in [false, true] {
            let mut client = weir.connect().await;
            client
                .send(&format!(
                    "POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{sent}"
                ))
                .await;
            let (mut server, _) = origin.request().await;
            assert_eq!(server.take(sent.len()).await, sent.as_bytes());
            if malformed && framing.starts_with('T') {
                client.send("what is this\r\n").await;
                assert_eq!(client.response().await.status, 400);
            }
            drop(client);
            assert!(server.rest().await.is_empty(), "{framing}");
        }
    }
    let mut client = Http2::open(weir.address()).await;
    for length in [None, Some(10)] {
        let mut request = http2::request("POST", "/");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (_response, mut stream) = client.send(request.body(()).unwrap(), false).await;
        stream
            .send_data(Bytes::from_static(b"hello"), false)
            .unwrap();
        let (mut server, _) = origin.request().await;
        let expected = if length.is_some() {
            "hello"
        } else {
            "5\r\nhello\r\n"
        };
        assert_eq!(server.take(expected.len()).await, expected.as_bytes());
        stream.send_reset(h2::Reason::CANCEL);
        assert!(server.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_refused_and_never_whole_at_the_server() {
    let mut origin = Manual::start().await;
    let weir = before(&origin, "max_body = \"10B\"", "").await;
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (413, "weir; error=http_request_error")
    );
    assert_eq!(origin.origin.connections(), 0);
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let (mut server, _) = origin.request().await;
    client.send("6\r\n world\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 413);
    assert_eq!(server.rest().await, b"5\r\nhello\r\n");
    let mut client = weir.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n").await;
    let (mut server, _) = origin.request().await;
    server.send(ok("just enough")).await;
    assert_eq!(client.response().await.text(), "just enough");
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_answered_408() {
    let mut origin = Manual::start().await;
    let config = Weir::config(&[&origin.origin], "").replace(
        "[listen.web]\n",
        "[listen.web]\nstall_timeout = \"300ms\"\n",
    );
    let weir = Weir::start(&config).await;
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    let (mut server, _) = origin.request().await;
    assert_eq!(client.response().await.status, 408);
    assert_eq!(server.rest().await, b"hello");
}

#[tokio::test]
async fn a_server_that_stops_reading_is_a_504() {
    let mut origin = Manual::start().await;
    let weir = before(&origin, "max_body = \"off\"", "stall_timeout = \"300ms\"").await;
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        .await;
    let (_server, _) = origin.request().await;
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let sending =
        tokio::spawn(async move { while writing.write_all(&[b'x'; 65536]).await.is_ok() {} });
    let mut read = Vec::new();
    while crate::support::origin::find(&read, b"\r\n\r\n").is_none() {
        assert!(
            timeout(PATIENCE, reading.read_buf(&mut read))
                .await
                .expect("an answer")
                .unwrap()
                > 0
        );
    }
    let head = String::from_utf8(read).unwrap();
    assert!(
        head.starts_with("HTTP/1.1 504 ")
            && head.contains("proxy-status: weir; error=connection_write_timeout"),
        "{head}"
    );
    sending.abort();
}

/// The time for a response begins when the server has the whole request.
#[tokio::test]
async fn response_timeout_does_not_run_during_the_upload() {
    let mut origin = Manual::start().await;
    let weir = before(&origin, "", "response_timeout = \"400ms\"").await;
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        .await;
    for letter in "hello".chars() {
        sleep(Duration::from_millis(200)).await;
        client.send(&letter.to_string()).await;
    }
    let (mut server, _) = origin.request().await;
    assert_eq!(server.take(5).await, b"hello");
    let response = client.response().await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (504, "weir; error=http_response_timeout")
    );
}

#[tokio::test]
async fn the_access_log_counts_the_bytes_of_requests() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log = format!(
        "[log]\naccess = \"{}\"\naccess_filter = \"all\"\n",
        path.display()
    );
    let weir = Weir::start(&format!("{log}{}", Weir::config(&[&origin], ""))).await;
    let mut client = weir.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(client.response().await.text(), "hello");
    let read = async || std::fs::read_to_string(&path).unwrap_or_default();
    let line = crate::support::eventually(read, |text| text.ends_with('\n')).await;
    assert!(line.contains("\"bytes_in\":5,\"bytes_out\":5"), "{line}");
}

/// Whoever uploads slowly keeps no server waiting; a body that came whole has a length.
#[tokio::test]
async fn a_body_that_is_buffered_comes_to_the_server_at_once() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let config = Weir::config(&[&origin], "").replace(
        "upstream = \"app\"\n",
        "upstream = \"app\"\nbuffer_request = \"1KiB\"\n",
    );
    let weir = Weir::start(&config).await;
    for head in [
        "Content-Length: 6\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let before = origin.connections();
        let mut client = weir.connect().await;
        client
            .send(&format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"))
            .await;
        // Another request of another client tells that the first one had its time.
        assert_eq!(weir.get("/other").await.status, 200);
        let rest = if head.starts_with("Content") {
            "def"
        } else {
            "3\r\ndef\r\n0\r\n\r\n"
        };
        assert_eq!(origin.requests().last().unwrap().target(), "/other");
        assert!(origin.connections() <= before + 1, "no server has it yet");
        client.send(rest).await;
        assert_eq!(client.response().await.text(), "abcdef");
        assert_eq!(origin.last().field("content-length"), "6");
    }
}

#[tokio::test]
async fn what_is_longer_than_the_buffer_is_streamed_whole_and_in_order() {
    let origin = Origin::start(|request| ok(request.body.len().to_string())).await;
    let config = Weir::config(&[&origin], "").replace(
        "upstream = \"app\"\n",
        "upstream = \"app\"\nbuffer_request = \"1KiB\"\nmax_body = \"1MiB\"\n",
    );
    let weir = Weir::start(&config).await;
    for length in [1, 1023, 1024, 1025, 300_000, 1 << 20] {
        let body: String = (0..length)
            .map(|n| char::from(b'a' + (n % 26) as u8))
            .collect();
        let mut client = weir.connect().await;
        client
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        assert_eq!(client.response().await.text(), length.to_string());
        assert!(origin.last().body == body.as_bytes(), "{length}");
    }
    let trailers = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n";
    let mut client = weir.connect().await;
    client.send(trailers).await;
    client.response().await;
    let body = String::from_utf8(origin.last().body).unwrap();
    assert_eq!(body, "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n");
}
