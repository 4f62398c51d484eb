//! HTTP/1 clients (RFC 9112): persistence, framing of bodies, expectations, forms of targets, how a connection ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::origin::{ok, read_request};
use crate::support::{Connection, Origin, PATIENCE, Weir, eventually};

// ---------------------------------------------------------------------------------------------------- persistence

#[tokio::test]
async fn a_connection_serves_requests_until_the_client_says_close() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for _ in 0..3 {
        let response = connection.get("/").await;
        assert_eq!(response.text(), "hello");
        assert!(
            response.fields("connection").is_empty(),
            "{}",
            response.head
        );
    }
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let response = connection.response().await;
    assert_eq!(
        (response.text().as_str(), response.field("connection")),
        ("hello", "close")
    );
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_client_that_says_close_in_one_of_several_fields_is_heard() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x, CLOSE\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn pipelined_requests_of_all_kinds_are_answered_in_order() {
    let origin =
        Origin::start(|request| ok(format!("{} {}", request.method(), request.body.len()))).await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send(
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345\
             HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n\r\n\
             POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n\
             GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
             GET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    assert_eq!(connection.response().await.text(), "POST 5");
    assert_eq!(
        connection.response_to("HEAD").await.field("content-length"),
        "6"
    );
    // The framing of the chunk and the last chunk are part of what this origin counts.
    assert_eq!(connection.response().await.text(), "POST 12");
    assert_eq!(connection.response().await.text(), "GET 0");
    assert!(
        connection.is_closed().await,
        "what follows `close` is not answered"
    );
    assert_eq!(origin.requests().len(), 4);
}

#[tokio::test]
async fn an_http_1_0_client_is_served_without_host_and_closed() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection.send("GET /old HTTP/1.0\r\n\r\n").await;
    let response = connection.response().await;
    assert_eq!(response.text(), "hello");
    assert!(connection.is_closed().await);
    let seen = origin.last();
    assert_eq!(seen.line(), "GET /old HTTP/1.1");
    assert_eq!(seen.field("host"), origin.address().to_string());
    assert_eq!(seen.field("via"), "1.0 weir");
    assert!(seen.fields("x-forwarded-host").is_empty());
}

#[tokio::test]
async fn an_http_1_0_client_may_keep_its_connection() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for _ in 0..2 {
        connection
            .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let response = connection.response().await;
        assert_eq!(
            (response.text().as_str(), response.field("connection")),
            ("hello", "keep-alive")
        );
    }
}

/// RFC 9112 §6.1: no chunks for a client that may not know them; the end of the connection ends the body.
#[tokio::test]
async fn an_http_1_0_client_never_gets_chunks() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    )
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let response = connection.response().await;
    assert_eq!(response.text(), "abcdef");
    assert!(
        response.fields("transfer-encoding").is_empty(),
        "{}",
        response.head
    );
    assert!(connection.is_closed().await);
}

// ---------------------------------------------------------------------------------------------------- bodies

#[tokio::test]
async fn bodies_pass_both_ways_with_either_framing() {
    let origin = Origin::start(|request| {
        let length = request.fields("content-length").first().map_or("chunked", |length| length).to_owned();
        match request.target() {
            "/chunked" => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x};x=y\r\n{length}\r\n0\r\n\r\n",
                length.len()
            )
            .into_bytes(),
            "/close" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{length}").into_bytes(),
            _ => ok(length),
        }
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for path in ["/length", "/chunked", "/close"] {
        connection
            .send(&format!(
                "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd"
            ))
            .await;
        let response = connection.response().await;
        assert_eq!(
            (response.text().as_str(), response.complete),
            ("4", true),
            "{path}"
        );
        assert_eq!(origin.last().body, b"abcd");

        connection
            .send(&format!("PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"))
            .await;
        let response = connection.response().await;
        assert_eq!(
            (response.text().as_str(), response.complete),
            ("chunked", true),
            "{path}"
        );
        let seen = String::from_utf8(origin.last().body).unwrap();
        let data: String = seen.split("\r\n").skip(1).step_by(2).collect();
        assert_eq!(
            data, "abcd",
            "chunks may be cut anew, extensions go: {seen:?}"
        );
        assert!(!seen.contains('='), "{seen:?}");
    }
}

#[tokio::test]
async fn request_trailers_pass_but_not_those_that_must_not_be_trailers() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\nHost: evil\r\nAuthorization: x\r\n\r\n",
        )
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    let seen = origin.last();
    let body = String::from_utf8(seen.body.clone())
        .unwrap()
        .to_ascii_lowercase();
    assert_eq!(body, "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
    assert_eq!(seen.field("trailer"), "X-Sum");
}

/// RFC 9110 §6.5.1: trailers only for those who said that they want them.
#[tokio::test]
async fn response_trailers_pass_to_clients_that_asked_for_them() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n",
    )
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for (te, trailers) in [
        (
            "TE: gzip;q=0.5, trailers\r\nConnection: TE\r\n",
            "x-sum: 1\r\n",
        ),
        ("", ""),
    ] {
        connection
            .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{te}\r\n"))
            .await;
        let response = connection.response().await;
        assert_eq!(
            (
                response.text().as_str(),
                response.trailers.to_ascii_lowercase().as_str()
            ),
            ("abc", trailers)
        );
        assert!(response.complete);
        let seen = origin.last();
        let (wanted, nominated) = if te.is_empty() {
            (vec![], vec![])
        } else {
            (vec!["trailers"], vec!["te"])
        };
        assert_eq!(
            (seen.fields("te"), seen.fields("connection")),
            (wanted, nominated),
            "{}",
            seen.head
        );
    }
}

#[tokio::test]
async fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    let origin = Origin::start(|request| match request.target() {
        "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".to_vec(),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        "/none" => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        _ => ok(request.method()),
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for (path, length) in [
        ("/length", vec!["12345"]),
        ("/chunked", vec![]),
        ("/none", vec![]),
    ] {
        connection
            .send(&format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let response = connection.response_to("HEAD").await;
        assert_eq!(
            (response.status, response.fields("content-length")),
            (200, length),
            "{path}: {}",
            response.head
        );
    }
    assert_eq!(
        connection.get("/").await.text(),
        "GET",
        "the connection is in step"
    );
    connection
        .send("HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(connection.response_to("HEAD").await.status, 200);
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let origin = Origin::start(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 700\r\n\r\n".to_vec()
        }
        _ => ok("hello"),
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for (path, status) in [("/204", 204), ("/304", 304), ("/204", 204)] {
        let response = connection.get(path).await;
        assert_eq!(response.status, status);
        assert!(
            response.fields("transfer-encoding").is_empty(),
            "{}",
            response.head
        );
    }
    assert_eq!(
        connection.get("/").await.text(),
        "hello",
        "the connection is in step"
    );
    assert_eq!(origin.connections(), 1, "and so is the one behind it");
}

#[tokio::test]
async fn odd_statuses_pass_with_a_reason_and_interim_ones_stay_behind() {
    let origin = Origin::start(|request| {
        let status = request.target().trim_start_matches('/').to_owned();
        format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for status in [200, 203, 299, 418, 451, 499, 511, 599] {
        let response = connection.get(&format!("/{status}")).await;
        assert_eq!((response.status, response.text().as_str()), (status, "ok"));
        let line = response.head.lines().next().unwrap();
        assert!(
            line.len() > "HTTP/1.1 200 ".len() && !line.contains('<'),
            "{line}"
        );
        assert!(response.fields("link").is_empty());
    }
}

#[tokio::test]
async fn extension_methods_pass() {
    let origin = Origin::start(|request| ok(request.method())).await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for method in [
        "PROPFIND",
        "M-SEARCH",
        "get",
        "TRACE",
        "DELETE",
        "X!#$%&'*+-.^_`|~",
    ] {
        connection
            .send(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(connection.response().await.text(), method);
    }
}

// ---------------------------------------------------------------------------------------------------- 100-continue

/// RFC 9110 §10.1.1: a client that waits is told to go on when somebody is there to read.
#[tokio::test]
async fn the_client_is_told_to_continue_once_a_server_was_chosen() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for _ in 0..2 {
        connection
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n")
            .await;
        assert_eq!(connection.head().await, "HTTP/1.1 100 Continue");
        eventually(async || origin.connections(), |&count| count == 1).await;
        connection.send("hello").await;
        assert_eq!(connection.response().await.text(), "hello");
        assert!(origin.last().fields("expect").is_empty());
    }
}

/// RFC 9110 §10.1.1: who has sent the body already need not be told to.
#[tokio::test]
async fn a_client_that_does_not_wait_gets_no_100_and_goes_on() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello";
    connection
        .send(&format!(
            "{request}{request}GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
    for body in ["hello", "hello", ""] {
        let response = connection.response().await;
        assert_eq!((response.status, &*response.text()), (200, body));
        assert!(
            response.fields("connection").is_empty(),
            "{}",
            response.head
        );
    }
}

#[tokio::test]
async fn a_client_that_waits_in_vain_gets_its_answer_without_a_100() {
    let origin = Origin::text("hello").await;
    let dead = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let config = format!(
        "[listen.web]\naddress = \"127.0.0.1:0\"\n\
         [route.site]\npath = \"/live\"\nupstream = \"app\"\nmax_body = \"1KiB\"\n\
         [route.dead]\npath = \"/dead\"\nupstream = \"dead\"\n\
         [route.gone]\npath = \"/gone\"\nredirect = {{ to = \"/live\", status = 308 }}\n\
         [upstream.app]\nservers = [\"{}\"]\n[upstream.dead]\nservers = [\"{dead}\"]\n",
        origin.address()
    );
    let weir = Weir::start(&config).await;
    for (path, status) in [
        ("/live", 413),
        ("/nowhere", 404),
        ("/dead", 502),
        ("/gone", 308),
    ] {
        let mut connection = weir.connect().await;
        connection.send(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n")).await;
        let response = connection.response().await;
        assert_eq!(
            (response.status, response.field("connection")),
            (status, "close"),
            "{path}"
        );
        assert!(connection.is_closed().await, "{path}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn an_answer_of_the_server_before_the_body_was_read_arrives() {
    let origin = Origin::raw(|mut stream, _| async move {
        let mut buffer = vec![0; 1024];
        let _ = stream.read(&mut buffer).await;
        let answer =
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope";
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nabc")
        .await;
    let response = connection.response().await;
    assert_eq!((response.status, response.text().as_str()), (401, "nope"));
    connection.send_bytes(&vec![b'x'; 1_000_000]).await;
    assert!(connection.is_closed().await);
}

// ---------------------------------------------------------------------------------------------------- targets

#[tokio::test]
async fn an_absolute_target_beats_the_host() {
    let (shop, other) = (Origin::text("shop").await, Origin::text("other").await);
    let config = format!(
        "[listen.web]\naddress = \"127.0.0.1:0\"\n\
         [route.shop]\nhost = \"shop.example\"\nupstream = \"shop\"\n[route.other]\nupstream = \"other\"\n\
         [upstream.shop]\nservers = [\"{}\"]\n[upstream.other]\nservers = [\"{}\"]\n",
        shop.address(),
        other.address()
    );
    let weir = Weir::start(&config).await;
    let mut connection = weir.connect().await;
    connection
        .send("GET http://Shop.Example.:81/a?b HTTP/1.1\r\nHost: other\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "shop");
    let seen = shop.last();
    assert_eq!(
        (seen.line(), seen.field("host")),
        ("GET /a?b HTTP/1.1", "Shop.Example.:81")
    );
    assert_eq!(seen.field("x-forwarded-host"), "Shop.Example.:81");
    connection
        .send("GET http://other HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "other");
    assert_eq!(other.last().line(), "GET / HTTP/1.1");
    connection
        .send("GET https://shop.example/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "shop");
}

#[tokio::test]
async fn options_of_the_whole_server_pass_as_such() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    assert_eq!(origin.last().line(), "OPTIONS * HTTP/1.1");
    connection
        .send("OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    assert_eq!(origin.last().line(), "OPTIONS /a HTTP/1.1");
}

#[tokio::test]
async fn connect_is_refused() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for target in ["db.internal:5432", "127.0.0.1:80", "a"] {
        let mut connection = weir.connect().await;
        connection.send(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let response = connection.response().await;
        assert_eq!(
            (response.status, response.field("connection")),
            (405, "close"),
            "{target}"
        );
        assert_eq!(
            response.field("allow"),
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        );
        assert!(
            connection.is_closed().await,
            "no tunnel, no further request"
        );
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn servers_get_the_normal_form_of_a_path_and_the_query_as_it_is() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    for (sent, seen) in [
        ("/a/../b/./c", "/b/c"),
        ("/../../etc/passwd", "/etc/passwd"),
        ("/%61%2e%2E/%2e%2e/x", "/x"),
        ("/a%2fb%2F%5c", "/a%2Fb%2F%5C"),
        ("//a///b", "//a///b"),
        ("/a/..", "/"),
        ("/?a=%7e/../%zz&b=%00", "/?a=%7e/../%zz&b=%00"),
        ("/a?", "/a?"),
        ("/a?b?c", "/a?b?c"),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/%e4%bd%a0", "/%E4%BD%A0"),
    ] {
        assert_eq!(connection.get(sent).await.status, 200, "{sent}");
        assert_eq!(origin.last().target(), seen, "{sent}");
    }
}

#[tokio::test]
async fn fields_in_disguise_stay_behind() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nX_Real-IP: 6.6.6.6\r\nx_other: 1\r\n\r\n").await;
    assert_eq!(connection.response().await.text(), "hello");
    let seen = origin.last();
    assert!(!seen.head.contains("6.6.6.6"), "{}", seen.head);
    assert_eq!(seen.field("x_other"), "1");
}

// ---------------------------------------------------------------------------------------------------- the end

/// RFC 9112 §9.6: the answer must survive what the client still sends.
#[tokio::test]
async fn an_answer_before_the_request_was_read_arrives_while_the_client_goes_on_sending() {
    let origin = Origin::text("hello").await;
    let config = Weir::config(&[&origin], "").replace(
        "[route.site]\n",
        "[route.site]\npath = \"/site\"\nmax_body = \"1MiB\"\n",
    );
    let weir = Weir::start(&config).await;
    for (head, status) in [
        (
            "POST /site HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n",
            413,
        ),
        (
            "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n",
            404,
        ),
        (
            "POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n",
            404,
        ),
        (
            "POST /site HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n",
            413,
        ),
        (
            "POST /site HTTP/1.1\r\nHost: a b\r\nContent-Length: 10000000\r\n\r\n",
            400,
        ),
        (
            "POST /site HTTP/1.1\r\nHost : a\r\nContent-Length: 10000000\r\n\r\n",
            400,
        ),
    ] {
        let mut connection = weir.connect().await;
        connection.send(head).await;
        // All of it, before a byte of the answer is read.
        connection.send_bytes(&vec![b'x'; 10_000_000]).await;
        let response = connection.response().await;
        assert_eq!(
            (response.status, response.complete),
            (status, true),
            "{head}"
        );
        assert!(connection.is_closed().await, "{head}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_left_after_two_seconds() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(
        &Weir::config(&[&origin], "").replace("[route.site]\n", "[route.site]\npath = \"/site\"\n"),
    )
    .await;
    let mut connection = weir.connect().await;
    connection
        .send("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n")
        .await;
    assert_eq!(connection.response().await.status, 404);
    let start = std::time::Instant::now();
    let piece = vec![b'x'; 1000];
    while connection.stream.write_all(&piece).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |&open| open == 0.0,
    )
    .await;
    assert!(start.elapsed() > Duration::from_millis(1500));
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_costs_no_connection() {
    let origin = Origin::text("hello").await;
    let weir = Weir::start(
        &Weir::config(&[&origin], "").replace("[route.site]\n", "[route.site]\npath = \"/site\"\n"),
    )
    .await;
    let mut connection = weir.connect().await;
    for _ in 0..2 {
        connection
            .send("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345")
            .await;
        let response = connection.response().await;
        assert_eq!(response.status, 404);
        assert!(
            response.fields("connection").is_empty(),
            "{}",
            response.head
        );
    }
    // Longer than a connection keeps its buffers.
    tokio::time::sleep(Duration::from_millis(1400)).await;
    assert_eq!(connection.get("/site").await.text(), "hello");
}

/// An origin that reads one request, sends `answer`, and tells when its peer is gone.
async fn watching(answer: &'static str) -> (Origin, Arc<Notify>, Arc<Notify>) {
    let (came, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell_came, tell_gone) = (Arc::clone(&came), Arc::clone(&gone));
    let origin = Origin::raw(move |mut stream, _| {
        let (came, gone) = (Arc::clone(&tell_came), Arc::clone(&tell_gone));
        async move {
            let mut buffer = vec![0; 64 * 1024];
            let _ = stream.read(&mut buffer).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            came.notify_one();
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            gone.notify_one();
        }
    })
    .await;
    (origin, came, gone)
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_by_the_server_at_every_stage() {
    for (request, answer) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
            "",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\n\r\nabc",
        ),
    ] {
        let (origin, came, gone) = watching(answer).await;
        let weir = Weir::before(&[&origin]).await;
        let mut connection = weir.connect().await;
        connection.send(request).await;
        timeout(PATIENCE, came.notified())
            .await
            .expect("the request comes");
        if !answer.is_empty() {
            connection.head().await;
        }
        if request.starts_with("GET") {
            // What may come between two requests does not hide its end.
            connection.send("\r\n").await;
        }
        drop(connection);
        timeout(Duration::from_secs(1), gone.notified())
            .await
            .unwrap_or_else(|_| panic!("noticed: {request} {answer}"));
        let canceled = format!(
            "weir_upstream_requests_total{{upstream=\"app\",server=\"{}\",outcome=\"canceled\"}}",
            origin.address()
        );
        eventually(async || weir.metric(&canceled).await, |&count| count == 1.0).await;
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_never_completed() {
    let (origin, came, gone) = watching("").await;
    let weir = Weir::before(&[&origin]).await;
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut connection = weir.connect().await;
        connection
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n5\r\nab"
            ))
            .await;
        timeout(PATIENCE, came.notified())
            .await
            .expect("the request comes");
        drop(connection);
        timeout(PATIENCE, gone.notified())
            .await
            .expect("the connection to the server ends");
    }
}

/// A response that its server breaks off must not look complete (RFC 9112 §8).
#[tokio::test]
async fn a_response_that_breaks_off_is_never_completed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let origin = Origin::raw(move |mut stream, _| async move {
            let mut buffer = Vec::new();
            if read_request(&mut stream, &mut buffer).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let weir = Weir::before(&[&origin]).await;
        let mut connection = weir.connect().await;
        let response = connection.get("/").await;
        assert_eq!(
            (response.status, response.text().as_str(), response.complete),
            (200, "abc", false),
            "{answer}"
        );
    }
}

/// Weir knows field sections that came before; what it knows is for what is the same to the last byte.
#[tokio::test]
async fn clients_that_say_the_same_over_and_over_are_heard_each_time() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let weir = Weir::before(&[&origin]).await;
    let said = ["a", "b", "a", "a", "b", "c", "b", "a", "c", "c"];
    let fields = |user: &str| {
        format!("Host: test\r\nAccept: */*\r\nCookie: user={user}\r\nX-End: 1\r\n\r\n")
    };
    let mut connections = [weir.connect().await, weir.connect().await];
    for (number, user) in said.into_iter().cycle().take(40).enumerate() {
        let connection = &mut connections[number % 2];
        let request = format!("GET /{number} HTTP/1.1\r\n{}", fields(user));
        connection.send(&request).await;
        assert_eq!(connection.response().await.text(), "ok");
        let seen = origin.last();
        assert_eq!(
            (seen.target(), seen.field("cookie")),
            (&*format!("/{number}"), &*format!("user={user}"))
        );
        assert_eq!((seen.field("x-end"), seen.fields("accept").len()), ("1", 1));
    }
    // Two at once, and one with a body behind it.
    let two = format!("GET /x HTTP/1.1\r\n{0}GET /y HTTP/1.1\r\n{0}", fields("a"));
    connections[0].send(&two).await;
    for target in ["/x", "/y"] {
        assert_eq!(connections[0].response().await.text(), "ok");
        assert!(origin.requests().iter().any(|seen| seen.target() == target));
    }
    let post = "POST /z HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n";
    for body in [
        "four", "\r\n\r\n", "\r\n\r\n", "\r\n\r\n", "\r\n\r\n", "more",
    ] {
        connections[0].send(&format!("{post}{body}")).await;
        assert_eq!(connections[0].response().await.text(), "ok");
        assert_eq!(origin.last().body, body.as_bytes());
    }
    // What is said of the connection is heard each time, too.
    for _ in 0..4 {
        let mut last = weir.connect().await;
        last.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(last.response().await.field("connection"), "close");
        assert!(last.is_closed().await);
    }
}

#[tokio::test]
async fn empty_lines_between_requests_are_skipped() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = Connection::open(weir.address()).await;
    for _ in 0..3 {
        connection
            .send("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        assert_eq!(connection.response().await.text(), "hello");
    }
}
