//! HTTP/2 clients (RFC 9113): how a connection becomes HTTP/2, streams side by side, limits, and streams that stall.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Notify};
use tokio::time::timeout;

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Http2, RST_STREAM, answer, get, read,
    request, section, upload,
};
use crate::support::origin::{ok, read_request};
use crate::support::{Connection, Origin, PATIENCE, Weir, eventually};

/// The config of [`Weir::before`], with more keys for the listener.
fn listening(origins: &[&Origin], listener: &str) -> String {
    Weir::config(origins, "").replace("[listen.web]\n", &format!("[listen.web]\n{listener}\n"))
}

// ---------------------------------------------------------------------------------------------------- exchanges

#[tokio::test]
async fn a_client_with_prior_knowledge_is_served_in_the_clear() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let (response, _) = client
        .send(
            request("GET", "/a/../b?c")
                .header("x-mine", "1")
                .body(())
                .unwrap(),
            true,
        )
        .await;
    let response = answer(response).await.unwrap();
    assert_eq!((response.status.as_u16(), response.text()), (200, "hello"));
    assert_eq!(response.headers["via"], "1.1 weir");
    assert!(response.headers.get("connection").is_none());
    let seen = origin.last();
    assert_eq!(seen.line(), "GET /b?c HTTP/1.1");
    assert_eq!(
        (seen.field("host"), seen.field("via"), seen.field("x-mine")),
        ("test", "2.0 weir", "1")
    );
    assert_eq!(seen.field("x-forwarded-proto"), "http");
    assert_eq!(seen.field("x-request-id"), response.headers["x-request-id"]);
}

#[tokio::test]
async fn a_preface_that_comes_byte_by_byte_is_one() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut stream = TcpStream::connect(weir.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut head = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut head))
        .await
        .expect("the settings of weir")
        .unwrap();
    assert_eq!(head[3], 4, "{head:?}");
}

#[tokio::test]
async fn http_1_clients_are_told_apart_by_their_first_bytes() {
    let origin = Origin::start(|request| ok(request.method())).await;
    let weir = Weir::before(&[&origin]).await;
    for method in ["P", "PR", "PRI", "PROPFIND", "POST"] {
        let mut connection = weir.connect().await;
        for piece in [
            &method[..1],
            &method[1..],
            " /x HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            connection.send(piece).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(connection.response().await.text(), method);
    }
}

#[tokio::test]
async fn a_listener_without_http2_takes_none() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&[&origin], "http2 = false")).await;
    let mut connection = weir.connect().await;
    connection
        .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let rest = connection.rest().await;
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"),
        "{rest:?}"
    );
    assert_eq!(weir.connect().await.get("/").await.text(), "hello");
}

#[tokio::test]
async fn streams_run_side_by_side() {
    let all = Arc::new(Barrier::new(50));
    let origin = Origin::raw(move |mut stream, _| {
        let all = Arc::clone(&all);
        async move {
            let mut buffer = Vec::new();
            while let Some((head, _)) = read_request(&mut stream, &mut buffer).await {
                all.wait().await;
                let target = head.split(' ').nth(1).unwrap().to_owned();
                stream.write_all(&ok(target)).await.unwrap();
            }
        }
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let mut responses = Vec::new();
    for number in 0..50 {
        responses.push(client.send(get(&format!("/{number}")), true).await.0);
    }
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(answer(response).await.unwrap().text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn uploads_flow_side_by_side_with_windows() {
    let origin = Origin::start(|request| {
        let sum: u64 = request.body.iter().map(|&byte| u64::from(byte)).sum();
        ok(format!(
            "{} {sum} {}",
            request.body.len(),
            request.field("content-length")
        ))
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let mut uploads = Vec::new();
    for number in 0..4u8 {
        let request = request("PUT", "/")
            .header("content-length", "1000000")
            .body(())
            .unwrap();
        let (response, stream) = client.send(request, false).await;
        let body = Bytes::from(vec![number + 1; 1_000_000]);
        uploads.push((number, response, tokio::spawn(upload(stream, body))));
    }
    for (number, response, sent) in uploads {
        let sum = 1_000_000 * (u64::from(number) + 1);
        assert_eq!(
            answer(response).await.unwrap().text(),
            format!("1000000 {sum} 1000000")
        );
        sent.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_on_in_chunks() {
    let origin = Origin::start(|request| ok(request.field("transfer-encoding"))).await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let (response, stream) = client
        .send(request("POST", "/").body(()).unwrap(), false)
        .await;
    upload(stream, Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(answer(response).await.unwrap().text(), "chunked");
    assert_eq!(origin.last().body, b"5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn large_responses_of_all_framings_arrive_whole() {
    for size in [1, 16_384, 16_385, 65_535, 65_536, 100_000, 3_000_000] {
        let origin = Origin::start(move |request| {
            let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut bytes = match request.target() {
                "/length" => return ok(body),
                "/chunked" => {
                    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n")
                        .into_bytes()
                }
                _ => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(),
            };
            bytes.extend_from_slice(&body);
            if request.target() == "/chunked" {
                bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            }
            bytes
        })
        .await;
        let weir = Weir::before(&[&origin]).await;
        let mut client = Http2::open(weir.address()).await;
        for path in ["/length", "/chunked", "/close"] {
            let response = client.get(path).await;
            assert_eq!(response.body.len(), size, "{path}");
            assert!(
                response
                    .body
                    .iter()
                    .enumerate()
                    .all(|(at, &byte)| byte == (at % 251) as u8),
                "{path} {size}"
            );
        }
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n".to_vec()
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let (response, mut stream) = client
        .send(
            request("POST", "/")
                .header("te", "trailers")
                .body(())
                .unwrap(),
            false,
        )
        .await;
    stream
        .send_data(Bytes::from_static(b"hello"), false)
        .unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-end", HeaderValue::from_static("2"));
    trailers.insert("content-type", HeaderValue::from_static("evil"));
    stream.send_trailers(trailers).unwrap();
    let response = answer(response).await.unwrap();
    let trailers = response.trailers.as_ref().expect("trailers");
    assert_eq!(
        (response.text(), trailers.len(), &trailers["x-sum"]),
        ("abc", 1, &HeaderValue::from_static("1"))
    );
    let seen = origin.last();
    assert_eq!(seen.body, b"5\r\nhello\r\n0\r\nx-end: 2\r\n\r\n");
    assert_eq!(seen.field("te"), "trailers");
}

#[tokio::test]
async fn answers_without_a_body_end_their_stream_at_once() {
    let origin = Origin::start(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/0" => ok(""),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec(),
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("GET", "/0", 200, Some("0")),
        ("HEAD", "/", 200, Some("12345")),
    ] {
        let (response, _) = client
            .send(request(method, path).body(()).unwrap(), true)
            .await;
        let response = answer(response).await.unwrap();
        let told = response
            .headers
            .get("content-length")
            .map(|length| length.to_str().unwrap());
        assert_eq!(
            (response.status.as_u16(), told, response.body.len()),
            (status, length, 0),
            "{path}"
        );
    }
}

#[tokio::test]
async fn cookie_crumbs_become_one_field() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let mut head = request("GET", "/")
        .header("cookie", "a=1")
        .header("x-other", "1");
    for number in 2..=200 {
        head = head.header("cookie", format!("a={number}"));
    }
    let (response, _) = client.send(head.body(()).unwrap(), true).await;
    assert_eq!(answer(response).await.unwrap().text(), "hello");
    let wanted: Vec<_> = (1..=200).map(|number| format!("a={number}")).collect();
    assert_eq!(origin.last().field("cookie"), wanted.join("; "));
}

#[tokio::test]
async fn own_answers_are_those_of_http_1() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(
        &Weir::config(&[&origin], "").replace("[route.site]\n", "[route.site]\npath = \"/site\"\n"),
    )
    .await;
    let mut client = Http2::open(weir.address()).await;
    let (response, _) = client
        .send(
            request("GET", "/x")
                .header("accept", "application/json")
                .body(())
                .unwrap(),
            true,
        )
        .await;
    let response = answer(response).await.unwrap();
    assert_eq!(
        (response.status.as_u16(), response.text()),
        (404, "{\"status\":404,\"error\":\"Not Found\"}\n")
    );
    assert_eq!(
        response.headers["proxy-status"],
        "weir; error=destination_not_found"
    );
    assert!(response.headers.get("connection").is_none());
    // Answered before it was read, and its connection goes on.
    let (response, stream) = client
        .send(request("POST", "/x").body(()).unwrap(), false)
        .await;
    assert_eq!(answer(response).await.unwrap().status, 404);
    drop(stream);
    assert_eq!(client.get("/site").await.text(), "hello");
}

// ---------------------------------------------------------------------------------------------------- limits

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    for (host, status) in [
        ("evil", 400),
        ("test:81", 400),
        ("a b", 400),
        ("", 400),
        ("TEST", 200),
        ("test.", 200),
        ("test", 200),
    ] {
        let before = origin.requests().len();
        let (response, _) = client
            .send(
                request("GET", "/").header("host", host).body(()).unwrap(),
                true,
            )
            .await;
        assert_eq!(
            answer(response).await.unwrap().status.as_u16(),
            status,
            "{host}"
        );
        assert_eq!(
            origin.requests().len() - before,
            usize::from(status == 200),
            "{host}"
        );
    }
    assert_eq!(origin.last().fields("host"), ["test"]);
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused_and_the_connection_goes_on() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let large = (0..40).fold(request("GET", "/"), |head, number| {
        head.header(format!("x-{number}"), "x".repeat(1000))
    });
    let many = (0..101).fold(request("GET", "/"), |head, number| {
        head.header(format!("x-{number}"), "1")
    });
    let crumbs = (0..257).fold(request("GET", "/"), |head, _| head.header("cookie", "a"));
    let long = request("GET", &format!("/{}", "x".repeat(8192)));
    for (head, status) in [(large, 431), (many, 431), (crumbs, 431), (long, 414)] {
        let (response, _) = client.send(head.body(()).unwrap(), true).await;
        let response = answer(response).await.unwrap();
        assert_eq!(response.status.as_u16(), status);
        assert_eq!(
            response.headers["proxy-status"],
            "weir; error=http_request_error"
        );
        assert!(origin.requests().is_empty());
    }
    // Beyond what weir looks at, h2 refuses by itself.
    let huge = (0..60).fold(request("GET", "/"), |head, number| {
        head.header(format!("x-{number}"), "x".repeat(1000))
    });
    let (response, _) = client.send(huge.body(()).unwrap(), true).await;
    assert_eq!(answer(response).await.unwrap().status.as_u16(), 431);
    assert_eq!(client.get("/").await.text(), "hello");
    assert_eq!(
        weir.metric("weir_refused_requests_total{listen=\"web\",reason=\"header_too_large\"}")
            .await,
        3.0
    );
}

#[tokio::test]
async fn a_client_opens_no_more_streams_than_allowed() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let origin = Origin::raw(move |mut stream, _| {
        let gate = Arc::clone(&gate);
        async move {
            let mut buffer = Vec::new();
            while read_request(&mut stream, &mut buffer).await.is_some() {
                gate.notified().await;
                stream.write_all(&ok("hello")).await.unwrap();
            }
        }
    })
    .await;
    let weir = Weir::start(&listening(&[&origin], "max_concurrent_streams = 2")).await;
    let mut frames = Frames::open(weir.address()).await;
    let head = section(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", "/"),
    ]);
    for stream in [1, 3, 5] {
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, stream, &head)
            .await;
    }
    let refused = loop {
        let frame = frames.next().await.expect("the connection stays");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    // REFUSED_STREAM: it may be sent again.
    assert_eq!((refused.stream, refused.payload), (5, vec![0, 0, 0, 7]));
    release.notify_one();
    release.notify_one();
    let mut ended = 0;
    while ended < 2 {
        let frame = frames.next().await.expect("the connection stays");
        ended += usize::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
        release.notify_one();
    }
}

#[tokio::test]
async fn heads_within_the_limits_pass_however_http2_counts_them() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let mut head = request("GET", &format!("/{}", "x".repeat(8000)));
    for number in 10..90 {
        head = head.header(format!("x-{number}"), "x".repeat(345));
    }
    for _ in 0..200 {
        head = head.header("cookie", "");
    }
    let (response, _) = client.send(head.body(()).unwrap(), true).await;
    assert_eq!(answer(response).await.unwrap().text(), "hello");
}

/// What the frame layer lets through and HTTP does not (RFC 9113 §8.1.1, §8.2, §8.3).
#[tokio::test]
async fn malformed_requests_are_reset_or_refused_and_reach_no_server() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let good = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", "/"),
    ];
    let with = |more: &[(&'static str, &'static str)]| {
        good.iter().chain(more).copied().collect::<Vec<_>>()
    };
    let without = |name: &str| {
        good.iter()
            .filter(|(field, _)| *field != name)
            .copied()
            .collect::<Vec<_>>()
    };
    let instead = |name: &'static str, value: &'static str| {
        good.iter()
            .map(|&field| {
                if field.0 == name {
                    (name, value)
                } else {
                    field
                }
            })
            .collect::<Vec<_>>()
    };
    let cases = [
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("keep-alive", "1")]),
        with(&[("upgrade", "h2c")]),
        with(&[("proxy-connection", "x")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "1")]),
        with(&[("x y", "1")]),
        with(&[("x", "a\nb: c")]),
        with(&[("x", "a\0")]),
        with(&[("x", "1"), (":path", "/late")]),
        with(&[(":path", "/twice")]),
        with(&[(":unknown", "1")]),
        with(&[(":status", "200")]),
        with(&[("content-length", "x")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "1"), ("content-length", "2")]),
        with(&[("host", "a"), ("host", "b")]),
        without(":method"),
        without(":path"),
        without(":authority"),
        instead(":path", ""),
        instead(":path", "x"),
        instead(":path", "/a b"),
        instead(":path", "/a\r\nx: y"),
        instead(":path", "/%00"),
        instead(":path", "/%zz"),
        instead(":path", "*"),
        instead(":authority", ""),
        instead(":authority", "user@test"),
        instead(":authority", "test:x"),
        instead(":authority", "test:99999"),
        instead(":authority", "te st"),
        instead(":authority", "test/x"),
        instead(":scheme", "ftp"),
        instead(":method", "CONNECT"),
        instead(":method", "G T"),
        instead(":method", ""),
    ];
    for fields in cases {
        let mut frames = Frames::open(weir.address()).await;
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, 1, &section(&fields))
            .await;
        loop {
            match frames.next().await {
                None => break,
                Some(frame) if frame.kind == RST_STREAM || frame.kind == GOAWAY => break,
                Some(frame) if frame.kind == HEADERS => {
                    // `:status` 400 from the static table (RFC 7541 appendix A), or 405 as a literal.
                    let refused =
                        frame.payload.contains(&0x8c) || frame.payload.starts_with(&[0x48]);
                    assert!(refused, "{fields:?}: {:?}", frame.payload);
                    break;
                }
                Some(_) => {}
            }
        }
        assert!(
            origin.requests().is_empty(),
            "{fields:?}: {:?}",
            origin.last()
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_declared_is_never_completed() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for data in ["abc", "abcdefg"] {
        let mut frames = Frames::open(weir.address()).await;
        let head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "test"),
            (":path", "/"),
            ("content-length", "5"),
        ];
        frames.send(HEADERS, END_HEADERS, 1, &section(&head)).await;
        frames.send(DATA, END_STREAM, 1, data.as_bytes()).await;
        while let Some(frame) = frames.next().await {
            if frame.kind == RST_STREAM || frame.kind == GOAWAY || frame.kind == HEADERS {
                break;
            }
        }
        assert!(origin.requests().is_empty(), "{data}");
    }
}

// ---------------------------------------------------------------------------------------------------- the end

#[tokio::test]
async fn a_connection_beyond_its_age_is_told_to_go_and_finishes_what_it_has() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let origin = Origin::raw(move |mut stream, _| {
        let gate = Arc::clone(&gate);
        async move {
            let mut buffer = Vec::new();
            while read_request(&mut stream, &mut buffer).await.is_some() {
                gate.notified().await;
                stream.write_all(&ok("hello")).await.unwrap();
            }
        }
    })
    .await;
    let weir = Weir::start(&listening(&[&origin], "max_connection_age = \"300ms\"")).await;
    let mut client = Http2::open(weir.address()).await;
    let (running, _) = client.send(get("/"), true).await;
    let refused = async || {
        let ready = client.sender.clone().ready().await;
        ready.is_err()
    };
    eventually(refused, |&refused| refused).await;
    release.notify_one();
    assert_eq!(answer(running).await.unwrap().text(), "hello");
    client.end().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&[&origin], "keepalive = \"300ms\"")).await;
    let mut client = Http2::open(weir.address()).await;
    assert_eq!(client.get("/").await.text(), "hello");
    let end = timeout(PATIENCE, &mut client.connection)
        .await
        .expect("the connection ends")
        .unwrap();
    end.unwrap();
    let silent = Http2::open(weir.address()).await;
    silent.end().await.unwrap();
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |&open| open == 0.0,
    )
    .await;
}

/// A client that never opens its window must not hold memory and a connection to a server, whatever is left to send.
#[tokio::test]
async fn a_stalled_stream_is_reset_and_the_others_go_on() {
    for (window, size) in [
        (0, 100),
        (0, 1_000_000),
        (1000, 40_000),
        (1000, 1_000_000),
        (65_535, 100_000),
    ] {
        let gone = Arc::new(Notify::new());
        let tell = Arc::clone(&gone);
        let origin = Origin::raw(move |mut stream, _| {
            let gone = Arc::clone(&tell);
            async move {
                let mut buffer = Vec::new();
                while let Some((head, _)) = read_request(&mut stream, &mut buffer).await {
                    let large = head.starts_with("GET /large");
                    if stream
                        .write_all(&ok(vec![b'x'; if large { size } else { 0 }]))
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
                gone.notify_one();
            }
        })
        .await;
        let weir = Weir::start(&listening(&[&origin], "stall_timeout = \"400ms\"")).await;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let socket = TcpStream::connect(weir.address()).await.unwrap();
        let mut client = Http2::with(&builder, socket).await;
        let (response, _) = client.send(get("/large"), true).await;
        let (_, mut body) = timeout(PATIENCE, response)
            .await
            .expect("a head")
            .unwrap()
            .into_parts();
        // Takes what fits into the window, opens it no further.
        let stalled = tokio::spawn(async move {
            let mut taken = 0;
            loop {
                match timeout(PATIENCE, body.data())
                    .await
                    .expect("data or a reset")
                {
                    Some(Ok(data)) => taken += data.len(),
                    Some(Err(error)) => return (taken, error.reason()),
                    None => return (taken, None),
                }
            }
        });
        let others = async {
            while !stalled.is_finished() {
                let (response, _) = client.send(get("/small"), true).await;
                assert_eq!(answer(response).await.unwrap().status, 200);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        others.await;
        let taken = usize::try_from(window).unwrap();
        assert_eq!(
            stalled.await.unwrap(),
            (taken, Some(h2::Reason::CANCEL)),
            "{window} {size}"
        );
        assert_eq!(client.get("/small").await.status, 200);
        if size > 200_000 {
            timeout(PATIENCE, gone.notified())
                .await
                .expect("its connection to the server ends");
        }
    }
}

#[tokio::test]
async fn a_stream_that_takes_its_bytes_slowly_is_left_alone() {
    let origin = Origin::start(|_| ok(vec![b'x'; 200_000])).await;
    let weir = Weir::start(&listening(&[&origin], "stall_timeout = \"300ms\"")).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(20_000);
    let socket = TcpStream::connect(weir.address()).await.unwrap();
    let mut client = Http2::with(&builder, socket).await;
    let (response, _) = client.send(get("/"), true).await;
    let (_, mut body) = timeout(PATIENCE, response)
        .await
        .expect("a head")
        .unwrap()
        .into_parts();
    let mut taken = 0;
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("data") {
        taken += data.as_ref().unwrap().len();
        if taken % 20_000 == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        body.flow_control()
            .release_capacity(data.unwrap().len())
            .unwrap();
    }
    assert_eq!(taken, 200_000);
}

#[tokio::test]
async fn a_reset_by_the_client_ends_the_exchange_behind_it() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
    ] {
        let (came, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell_came, tell_gone) = (Arc::clone(&came), Arc::clone(&gone));
        let origin = Origin::raw(move |mut stream, _| {
            let (came, gone) = (Arc::clone(&tell_came), Arc::clone(&tell_gone));
            async move {
                let mut buffer = vec![0; 4096];
                let _ = stream.read(&mut buffer).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                came.notify_one();
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                gone.notify_one();
            }
        })
        .await;
        let weir = Weir::before(&[&origin]).await;
        let mut client = Http2::open(weir.address()).await;
        for end in [true, false] {
            let (response, mut stream) = client
                .send(request("POST", "/").body(()).unwrap(), end)
                .await;
            timeout(PATIENCE, came.notified())
                .await
                .expect("the request comes");
            let body = if answer.is_empty() {
                None
            } else {
                Some(response.await.unwrap())
            };
            stream.send_reset(h2::Reason::CANCEL);
            drop(body);
            timeout(Duration::from_secs(1), gone.notified())
                .await
                .expect("noticed within a second");
        }
        assert!(!client.connection.is_finished());
    }
}

/// CVE-2023-44487 and its like: the connection may end, weir and its other clients may not.
#[tokio::test]
async fn a_thousand_rapid_resets_hurt_nobody_else() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut other = Http2::open(weir.address()).await;
    assert_eq!(other.get("/").await.text(), "hello");
    let head = section(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", "/"),
    ]);
    let mut frames = Frames::open(weir.address()).await;
    for number in 0..1000 {
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head)
            .await;
        frames
            .send(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8])
            .await;
    }
    assert_eq!(other.get("/").await.text(), "hello");
    assert_eq!(weir.connect().await.get("/").await.text(), "hello");
    drop(frames);
    let in_flight = format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        origin.address()
    );
    eventually(
        async || weir.metric(&in_flight).await,
        |&count| count == 0.0,
    )
    .await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_reset() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ] {
        let origin = Origin::raw(move |mut stream, _| async move {
            let mut buffer = Vec::new();
            if read_request(&mut stream, &mut buffer).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let weir = Weir::before(&[&origin]).await;
        let mut client = Http2::open(weir.address()).await;
        let (response, _) = client.send(get("/"), true).await;
        // A head that is still on its way then, is dropped with its body.
        let error = match response.await {
            Ok(response) => read(&mut response.into_body()).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.is_reset(), "{answer}: {error}");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_frees_all_its_streams() {
    let origin = Origin::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        while stream
            .read_buf(&mut buffer)
            .await
            .is_ok_and(|read| read > 0)
        {}
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut client = Http2::open(weir.address()).await;
    let mut responses = Vec::new();
    for _ in 0..20 {
        responses.push(client.send(get("/"), true).await);
    }
    let in_flight = format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        origin.address()
    );
    eventually(
        async || weir.metric(&in_flight).await,
        |&count| count == 20.0,
    )
    .await;
    client.connection.abort();
    drop((client, responses));
    eventually(
        async || weir.metric(&in_flight).await,
        |&count| count == 0.0,
    )
    .await;
}

#[tokio::test]
async fn a_request_body_that_stalls_is_answered_408() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&listening(&[&origin], "stall_timeout = \"300ms\"")).await;
    let mut client = Http2::open(weir.address()).await;
    let (response, mut stream) = client
        .send(request("POST", "/").body(()).unwrap(), false)
        .await;
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    assert_eq!(answer(response).await.unwrap().status, 408);
    let (response, _) = client.send(get("/"), true).await;
    assert_eq!(
        answer(response).await.unwrap().text(),
        "hello",
        "the connection goes on"
    );
}

#[tokio::test]
async fn http_1_and_http_2_share_the_connections_to_servers() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{}",
        Weir::config(&[&origin], "")
    ))
    .await;
    let mut client = Http2::open(weir.address()).await;
    let mut connection: Connection = weir.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
        assert_eq!(connection.get("/").await.text(), "hello");
    }
    assert_eq!(origin.connections(), 1);
}
