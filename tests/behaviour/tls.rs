//! TLS towards clients: versions, certificates by SNI, protocols by ALPN, tickets, the end of a session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{AlertDescription, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::http2::{Http2, answer, get};
use crate::support::origin::ok;
use crate::support::tls::{Authority, connect, handshake};
use crate::support::{Connection, Origin, PATIENCE, Weir, eventually};

/// The config of [`Weir::before`] with these keys for the listener and its table of certificates.
fn secured(origin: &Origin, listener: &str, tls: &str) -> String {
    format!(
        "{}{tls}",
        Weir::config(&[origin], "")
            .replace("[listen.web]\n", &format!("[listen.web]\n{listener}\n"))
    )
}

/// A weir with one certificate, for `test`.
async fn with_one_certificate(origin: &Origin, listener: &str, tls: &str) -> (Authority, Weir) {
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let weir = Weir::start(&secured(origin, listener, &authority.table(&["test"], tls))).await;
    (authority, weir)
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "", "").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(authority.client_of(&[version], &[]));
        let stream = handshake(&client, weir.address(), "test").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(Connection::over(stream).get("/").await.text(), "hello");
        assert_eq!(origin.last().field("x-forwarded-proto"), "https");
        assert_eq!(
            origin.last().field("forwarded"),
            "for=127.0.0.1;proto=https;host=\"test\""
        );
    }
    assert_eq!(
        weir.metric("weir_tls_handshakes_total{listen=\"web\",result=\"ok\"}")
            .await,
        2.0
    );
}

/// What a session holds back for a client that reads slowly goes on when it reads again.
#[tokio::test]
async fn large_bodies_come_whole_over_tls_both_ways() {
    let large = Arc::new("0123456789abcdef".repeat(1 << 20));
    let body = Arc::clone(&large);
    let origin = Origin::start(move |request| match request.method() {
        "GET" => ok(&*body),
        _ => ok(request.body.len().to_string()),
    })
    .await;
    let (authority, weir) = with_one_certificate(&origin, "", "").await;
    let mut connection = connect(authority.client(&["http/1.1"]), weir.address(), "test").await;
    for _ in 0..3 {
        assert!(connection.get("/").await.text() == *large);
        let length = large.len();
        connection
            .send(&format!(
                "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{large}"
            ))
            .await;
        assert_eq!(connection.response().await.text(), length.to_string());
    }
}

#[tokio::test]
async fn an_old_version_is_refused_where_the_operator_says_so() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "", "min_version = \"1.3\"").await;
    let old = Arc::new(authority.client_of(&[&rustls::version::TLS12], &[]));
    let error = handshake(&old, weir.address(), "test").await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    assert_eq!(
        connect(authority.client(&[]), weir.address(), "test")
            .await
            .get("/")
            .await
            .text(),
        "hello"
    );
    let failed = "weir_tls_handshakes_total{listen=\"web\",result=\"failed\"}";
    eventually(async || weir.metric(failed).await, |&count| count == 1.0).await;
}

#[tokio::test]
async fn protocols_are_chosen_by_alpn() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "", "").await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = Arc::new(authority.client(offered));
        let stream = handshake(&client, weir.address(), "test").await.unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            chosen.map(str::as_bytes),
            "{offered:?}"
        );
        let text = if chosen == Some("h2") {
            let mut client = Http2::over(stream).await;
            client.get("/").await.text().to_owned()
        } else {
            Connection::over(stream).get("/").await.text()
        };
        assert_eq!(text, "hello", "{offered:?}");
    }
    let stranger = Arc::new(authority.client(&["spdy/3"]));
    let error = handshake(&stranger, weir.address(), "test")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("NoApplicationProtocol"),
        "{error}"
    );
}

#[tokio::test]
async fn a_listener_without_http2_does_not_offer_it() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "http2 = false", "").await;
    let client = Arc::new(authority.client(&["h2", "http/1.1"]));
    let stream = handshake(&client, weir.address(), "test").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(Connection::over(stream).get("/").await.text(), "hello");
}

/// The certificate that a client of that name gets; `None` if the handshake fails.
pub async fn certificate_for(
    authority: &Authority,
    weir: &Weir,
    name: &str,
) -> Result<Vec<u8>, std::io::Error> {
    let mut client = authority.client(&[]);
    client.enable_sni = name != "127.0.0.1";
    // The name need not match what comes: which certificate comes is what is asked.
    client
        .dangerous()
        .set_certificate_verifier(Arc::new(AnyCertificate));
    let stream = handshake(&Arc::new(client), weir.address(), name).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn certificates_are_chosen_by_name() {
    let origin = Origin::text("hello").await;
    let authority = Authority::new();
    let first = authority.sign("first", &["first.example"]);
    let wild = authority.sign("wild", &["*.shop.example", "shop.example"]);
    let exact = authority.sign("exact", &["pay.shop.example"]);
    let names = ["first", "wild", "exact"];
    let weir = Weir::start(&secured(&origin, "", &authority.table(&names, ""))).await;
    for (name, wanted) in [
        ("first.example", &first),
        ("FIRST.example", &first),
        ("pay.shop.example", &exact),
        ("www.shop.example", &wild),
        ("shop.example", &wild),
        // A wildcard stands for one label; what is unknown gets the first.
        ("a.b.shop.example", &first),
        ("unknown.example", &first),
        ("127.0.0.1", &first),
    ] {
        assert!(
            certificate_for(&authority, &weir, name).await.unwrap() == *wanted,
            "{name}"
        );
    }
    let strict = Weir::start(&secured(
        &origin,
        "",
        &authority.table(&names, "unknown_sni = \"reject\""),
    ))
    .await;
    for (name, known) in [
        ("first.example", true),
        ("www.shop.example", true),
        ("127.0.0.1", true),
        ("unknown.example", false),
        ("a.b.shop.example", false),
    ] {
        assert_eq!(
            certificate_for(&authority, &strict, name).await.is_ok(),
            known,
            "{name}"
        );
    }
}

#[tokio::test]
async fn sessions_are_resumed_by_ticket_also_after_a_reload() {
    let origin = Origin::text("hello").await;
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let config = secured(&origin, "", &authority.table(&["test"], ""));
    let weir = Weir::start(&config).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Arc::new(authority.client_of(&[version], &[]));
        for (number, kind) in [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed,
        ]
        .into_iter()
        .enumerate()
        {
            let mut stream = handshake(&client, weir.address(), "test").await.unwrap();
            let got = stream.get_ref().1.handshake_kind();
            // A TLS 1.3 client gets its tickets with the first bytes that it reads.
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut response = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut response))
                .await
                .expect("an answer")
                .unwrap();
            assert!(response.ends_with(b"hello"));
            let full = |kind| {
                matches!(
                    kind,
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
                )
            };
            assert_eq!(full(got), full(Some(kind)), "{version:?} {number}: {got:?}");
            if number == 1 {
                let changed = config.replace("[route.site]\n", "[route.site]\ntimeout = \"9s\"\n");
                weir.running.reload(Weir::parse(&changed)).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_reload_brings_a_new_certificate_and_leaves_open_connections_alone() {
    let origin = Origin::text("hello").await;
    let authority = Authority::new();
    let old = authority.sign("test", &["test"]);
    let config = secured(&origin, "", &authority.table(&["test"], ""));
    let weir = Weir::start(&config).await;
    let mut open = connect(authority.client(&[]), weir.address(), "test").await;
    assert_eq!(open.get("/").await.text(), "hello");
    assert!(certificate_for(&authority, &weir, "test").await.unwrap() == old);
    let new = authority.sign("test", &["test"]);
    weir.running.reload(Weir::parse(&config)).await.unwrap();
    assert!(certificate_for(&authority, &weir, "test").await.unwrap() == new);
    assert_eq!(open.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_peer_that_does_not_shake_hands_is_left() {
    let origin = Origin::text("hello").await;
    let (_authority, weir) = with_one_certificate(&origin, "header_timeout = \"400ms\"", "").await;
    let start = Instant::now();
    for bytes in [
        &b""[..],
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[0xff; 5000],
    ] {
        let mut stream = TcpStream::connect(weir.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("the connection ends");
        assert!(
            !rest.windows(5).any(|five| five == b"HTTP/"),
            "nothing in the clear: {rest:?}"
        );
    }
    assert!(
        start.elapsed() >= Duration::from_millis(1200),
        "the silent ones got their time"
    );
    // Byte by byte, it must not have more of it.
    let mut slow = TcpStream::connect(weir.address()).await.unwrap();
    let start = Instant::now();
    let mut hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01]
        .iter()
        .chain(std::iter::repeat(&0));
    while slow.write_all(&[*hello.next().unwrap()]).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "still taken");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let failed = "weir_tls_handshakes_total{listen=\"web\",result=\"failed\"}";
    eventually(async || weir.metric(failed).await, |&count| count == 6.0).await;
    assert_eq!(weir.metric("weir_connections{listen=\"web\"}").await, 0.0);
}

#[tokio::test]
async fn a_client_that_is_silent_after_its_handshake_is_left() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "header_timeout = \"300ms\"", "").await;
    let mut silent = connect(authority.client(&[]), weir.address(), "test").await;
    assert!(silent.is_closed().await);
    let mut slow = connect(authority.client(&[]), weir.address(), "test").await;
    slow.send("GET / HT").await;
    assert!(slow.is_closed().await);
    assert_eq!(
        weir.metric("weir_refused_requests_total{listen=\"web\",reason=\"timeout\"}")
            .await,
        2.0
    );
}

#[tokio::test]
async fn hsts_is_told_on_every_answer() {
    let origin = Origin::start(|request| {
        let own = match request.target() {
            "/site/own" => "Strict-Transport-Security: max-age=1\r\n",
            _ => "",
        };
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{own}Content-Length: 0\r\n\r\n")
            .into_bytes()
    })
    .await;
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let config = secured(&origin, "", &authority.table(&["test"], "hsts = \"365d\"")).replace(
        "[route.site]\n",
        "[route.site]\npath = \"/site\"\ncache = true\n",
    );
    let weir = Weir::start(&config).await;
    let mut connection = connect(authority.client(&[]), weir.address(), "test").await;
    // Where it is stored, too.
    for (path, status) in [("/site", 200), ("/site/own", 200), ("/nowhere", 404)] {
        for _ in 0..2 {
            let response = connection.get(path).await;
            assert_eq!(
                (
                    response.status,
                    response.fields("strict-transport-security")
                ),
                (status, vec!["max-age=31536000"])
            );
        }
    }
    assert_eq!(origin.requests().len(), 2);
}

/// RFC 8446 §6.1: the end of the data is told, so that it cannot be mistaken for a cut.
#[tokio::test]
async fn the_end_of_a_session_is_told() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end").await;
    let (authority, weir) = with_one_certificate(
        &origin,
        "keepalive = \"200ms\"\nmax_connection_age = \"1h\"",
        "",
    )
    .await;
    let client = Arc::new(authority.client(&[]));
    for (request, idle) in [
        (
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
            false,
        ),
        ("GET / HTTP/1.0\r\nHost: test\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: test\r\n\r\n", true),
        (
            "POST /x HTTP/1.1\r\nHost: a b\r\nContent-Length: 100000\r\n\r\n",
            false,
        ),
    ] {
        let mut stream = handshake(&client, weir.address(), "test").await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        // rustls reports an end without close_notify as an error.
        timeout(PATIENCE, stream.read_to_end(&mut response))
            .await
            .expect("an end")
            .unwrap_or_else(|error| panic!("{request}: {error}"));
        assert!(response.starts_with(b"HTTP/1."), "{idle}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_has_no_proper_end() {
    let origin =
        Origin::always("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nabc")
            .await;
    let (authority, weir) = with_one_certificate(&origin, "", "").await;
    let mut connection = connect(authority.client(&[]), weir.address(), "test").await;
    let response = connection.get("/").await;
    assert_eq!(
        (response.text().as_str(), response.complete),
        ("abc", false)
    );
}

#[tokio::test]
async fn a_parked_session_serves_the_next_request() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "", "").await;
    let mut connections = Vec::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut connection =
            connect(authority.client_of(&[version], &[]), weir.address(), "test").await;
        assert_eq!(connection.get("/").await.text(), "hello");
        connections.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(1400)).await;
    for mut connection in connections {
        connection.send("GET / HTT").await;
        tokio::task::yield_now().await;
        connection.send("P/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(connection.response().await.text(), "hello");
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways_over_both_protocols() {
    let origin = Origin::start(|request| ok(&request.body)).await;
    let (authority, weir) = with_one_certificate(&origin, "", "").await;
    let body: Vec<u8> = (0..2_000_000u32).map(|at| (at % 253) as u8).collect();
    let mut connection = connect(authority.client(&[]), weir.address(), "test").await;
    connection
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    connection.send_bytes(&body).await;
    assert!(connection.response().await.body == body);

    let client = Arc::new(authority.client(&["h2"]));
    let mut client = Http2::over(handshake(&client, weir.address(), "test").await.unwrap()).await;
    let request = crate::support::http2::request("POST", "/")
        .header("content-length", body.len())
        .body(())
        .unwrap();
    let (response, stream) = client.send(request, false).await;
    let sent = tokio::spawn(crate::support::http2::upload(stream, body.clone().into()));
    assert!(answer(response).await.unwrap().body == body);
    sent.await.unwrap().unwrap();
    let (response, _) = client.send(get("/"), true).await;
    assert_eq!(answer(response).await.unwrap().body, b"");
}

#[tokio::test]
async fn a_refused_name_is_told_by_an_alert() {
    let origin = Origin::text("hello").await;
    let (authority, weir) = with_one_certificate(&origin, "", "unknown_sni = \"reject\"").await;
    let client = Arc::new(authority.client(&[]));
    let error = handshake(&client, weir.address(), "other")
        .await
        .unwrap_err();
    let alert = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    let is_alert = matches!(
        alert,
        Some(rustls::Error::AlertReceived(
            AlertDescription::AccessDenied | AlertDescription::UnrecognisedName
        ))
    );
    assert!(is_alert, "{error:?}");
}
