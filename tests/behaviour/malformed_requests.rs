//! What is not HTTP, or could be read in two ways, gets a 400 or a closed connection, and no server hears of it
//! (RFC 9112 §6.3, §11.2).

use crate::support::origin::ok;
use crate::support::{Origin, Weir, eventually};

/// Requests that are refused. Each is followed by a whole request, which must not be answered either: after a malformed
/// head nobody knows where the next one begins.
const REFUSED: &[&str] = &[
    // Host (RFC 9112 §3.2)
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.0\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a#b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: user:pass@a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::zz]\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: .a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: %61\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n",
    // Forms of targets (§3.2)
    "GET http://a/ HTTP/1.1\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://user:pass@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http:/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ws://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET \\ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /% HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%u0041 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a\x0bb HTTP/1.1\r\nHost: a\r\n\r\n",
    // Request lines (§3)
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET /\r\nHost: a\r\n\r\n",
    "GET\r\nHost: a\r\n\r\n",
    "/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\rHost: a\r\n\r\n",
    "GET /\rHTTP/1.1\r\nHost: a\r\n\r\n",
    "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "G\u{e4}T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET: / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "GET / HTTP/11\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1.1\r\nHost: a\r\n\r\n",
    "GET / http/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP /1.1\r\nHost: a\r\n\r\n",
    "GET / HTCPCP/1.0\r\nHost: a\r\n\r\n",
    // Field lines (§5)
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\nX: a\r\n\tb\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz: w\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\u{e4}: y\r\n\r\n",
    // Content-Length (§6.3, RFC 9110 §8.6)
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,6\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n12345",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n12345",
    // Transfer-Encoding (§6.1)
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // No HTTP at all
    "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n",
    "SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "\0\0\0\0\r\n\r\n",
    "EHLO a\r\n\r\n",
];

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn malformed_heads_are_refused_and_the_connection_is_closed() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for request in REFUSED {
        let mut connection = weir.connect().await;
        connection.send(&format!("{request}{NEXT}")).await;
        let rest = String::from_utf8(connection.rest().await).unwrap();
        let status = rest.get(9..12).unwrap_or_default();
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.") && matches!(status, "400" | "431"),
            "{request:?}: {rest}"
        );
        assert!(
            rest.matches("HTTP/1.").count() <= 1,
            "one answer at most: {request:?}: {rest}"
        );
        assert_eq!(origin.connections(), 0, "{request:?}");
    }
    let refused = async || {
        let reason =
            |reason| format!("weir_refused_requests_total{{listen=\"web\",reason=\"{reason}\"}}");
        weir.metric(&reason("malformed")).await + weir.metric(&reason("header_too_large")).await
    };
    // The empty `Transfer-Encoding` and its like are counted too: each was refused for a reason.
    assert_eq!(refused().await, REFUSED.len() as f64);
}

/// Refused the same way behind a good request on the same connection.
#[tokio::test]
async fn malformed_heads_are_refused_on_a_used_connection() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for request in REFUSED.iter().step_by(7) {
        let before = origin.requests().len();
        let mut connection = weir.connect().await;
        connection
            .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{request}{NEXT}"))
            .await;
        assert_eq!(connection.response().await.text(), "hello");
        let rest = String::from_utf8(connection.rest().await).unwrap();
        assert!(
            rest.is_empty() || rest.matches("HTTP/1.").count() == 1 && rest[9..].starts_with("4"),
            "{request:?}: {rest}"
        );
        assert_eq!(origin.requests().len(), before + 1, "{request:?}");
    }
}

/// The head is good, the body is not: the server may have seen the head, but never a whole request.
#[tokio::test]
async fn malformed_chunks_never_make_a_request() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for body in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        ";x=y\r\nabc\r\n0\r\n\r\n",
        "3 4\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3;a=b\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX\r\n\r\n",
        "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\0\r\n\r\n",
        "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut connection = weir.connect().await;
        connection
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{NEXT}"
            ))
            .await;
        let rest = String::from_utf8(connection.rest().await).unwrap();
        assert!(
            rest.is_empty()
                || rest.starts_with("HTTP/1.1 400") && rest.matches("HTTP/1.").count() == 1,
            "{body:?}: {rest}"
        );
        assert!(
            origin.requests().is_empty(),
            "{body:?}: {:?}",
            origin.last()
        );
    }
}

/// RFC 9112 §6.3: whoever sends both may want two parties to disagree on where the request ends.
#[tokio::test]
async fn a_length_beside_chunks_is_refused() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
    ] {
        let mut connection = weir.connect().await;
        connection
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n{NEXT}"
            ))
            .await;
        let rest = String::from_utf8(connection.rest().await).unwrap();
        assert_eq!(rest.matches("HTTP/1.").count(), 1, "{fields:?}: {rest}");
        assert!(
            rest.starts_with("HTTP/1.1 400 ")
                && rest.contains("\r\nproxy-status: weir; error=http_request_error\r\n")
                && rest.ends_with("\r\n\r\n400 Bad Request\n"),
            "{fields:?}: {rest}"
        );
        assert!(origin.requests().is_empty(), "{fields:?}");
    }
}

/// A request is the same however its bytes come, and so is the next one.
#[tokio::test]
async fn requests_are_read_the_same_wherever_reads_end() {
    let origin =
        Origin::start(|request| ok(format!("{} {}", request.line(), request.body.len()))).await;
    let weir = Weir::before(&[&origin]).await;
    let text = "\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
                GET /2 HTTP/1.1\nHost: a\n\n\
                POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nX: y\r\n\r\n\
                HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..text.len() {
        let (first, second) = text.split_at(end);
        let received = "weir_bytes_received_total{listen=\"web\"}";
        let before = weir.metric(received).await;
        let mut connection = weir.connect().await;
        connection.send(first).await;
        // Only then is the rest another read.
        let read = before + first.len() as f64;
        eventually(async || weir.metric(received).await, |now| *now >= read).await;
        connection.send(second).await;
        for (method, wanted) in [
            ("POST", "POST /1 HTTP/1.1 3"),
            ("GET", "GET /2 HTTP/1.1 0"),
            // The chunk may be cut in two.
            ("POST", "POST /3 HTTP/1.1 "),
            ("HEAD", ""),
        ] {
            let response = connection.response_to(method).await;
            let text = response.text();
            let is_right = response.status == 200 && text.starts_with(wanted);
            assert!(is_right, "{end}: {text} rather than {wanted}");
        }
    }
}

/// What is odd but has one meaning only. The second value is what the server sees.
#[tokio::test]
async fn odd_but_unambiguous_requests_are_read_as_they_must_be() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    for (request, line, body) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n12345",
            "POST / HTTP/1.1",
            "12345",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\n12345",
            "POST / HTTP/1.1",
            "12345",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t5 \t\r\n\r\n12345",
            "POST / HTTP/1.1",
            "12345",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
            "GET / HTTP/1.1",
            "12345",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked \r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1",
            "0\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChUnKeD\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1",
            "0\r\n\r\n",
        ),
        // RFC 9112 §2.2: a line may end with LF alone; it goes on with CRLF.
        ("GET /lf HTTP/1.1\nHost: a\n\n", "GET /lf HTTP/1.1", ""),
        (
            "GET / HTTP/1.1\r\nhost:a\r\nx:\r\n\r\n",
            "GET / HTTP/1.1",
            "",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n\r\n",
            "GET / HTTP/1.1",
            "",
        ),
        (
            "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "GET / HTTP/1.1",
            "",
        ),
        (
            "GET / HTTP/1.1\r\nHost: A_b-C.d.:0\r\n\r\n",
            "GET / HTTP/1.1",
            "",
        ),
        // A fragment is taken off before anybody sees it; what is matched is what is sent.
        (
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a HTTP/1.1",
            "",
        ),
        // An upgrade that is not forwarded: h2c would speak past every rule of the proxy.
        (
            "GET /h2c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            "GET /h2c HTTP/1.1",
            "",
        ),
    ] {
        let before = origin.requests().len();
        let mut connection = weir.connect().await;
        connection.send(request).await;
        assert_eq!(connection.response().await.text(), "hello", "{request:?}");
        assert_eq!(
            connection.get("/after").await.text(),
            "hello",
            "the connection is in step: {request:?}"
        );
        let seen = &origin.requests()[before..];
        assert_eq!(
            (seen.len(), seen[0].line(), seen[1].line()),
            (2, line, "GET /after HTTP/1.1"),
            "{request:?}"
        );
        assert_eq!(String::from_utf8_lossy(&seen[0].body), body, "{request:?}");
        for name in ["upgrade", "connection", "http2-settings"] {
            assert!(seen[0].fields(name).is_empty(), "{}", seen[0].head);
        }
    }
}

/// RUSTSEC-2026-0033: what a client sends behind a request for an upgrade is no part of it before the server has agreed.
#[tokio::test]
async fn bytes_behind_an_upgrade_that_is_declined_are_the_next_request() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    let upgrade =
        "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    connection
        .send(&format!(
            "{upgrade}GET /admin HTTP/1.1\r\nHost: b\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        ))
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    assert_eq!(connection.response().await.text(), "hello");
    let seen = origin.requests();
    assert_eq!(
        (seen.len(), seen[1].line(), seen[1].field("x-forwarded-for")),
        (2, "GET /admin HTTP/1.1", "127.0.0.1")
    );
}

/// RFC 9110 §7.6.1: a client must not strip fields that say where a request ends, or which it is.
#[tokio::test]
async fn connection_cannot_nominate_framing() {
    let origin = Origin::text("hello").await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length, host, x-forwarded-for, x-real-ip, x-request-id, via\r\n\
             Content-Length: 5\r\n\r\n12345",
        )
        .await;
    assert_eq!(connection.response().await.text(), "hello");
    let seen = origin.last();
    assert_eq!(
        (
            seen.field("content-length"),
            seen.field("host"),
            seen.body.as_slice()
        ),
        ("5", "a", &b"12345"[..])
    );
    assert_eq!(
        (seen.field("x-forwarded-for"), seen.field("x-real-ip")),
        ("127.0.0.1", "127.0.0.1")
    );
}
