//! TLS to the servers of an upstream: who is believed, under which name, and that everything else goes as in cleartext.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{SinkExt, StreamExt};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

use crate::support::control::Followed;
use crate::support::dns::Dns;
use crate::support::origin::{Request, ok, read_request};
use crate::support::tls::Authority;
use crate::support::{Connection, Origin, PATIENCE, Weir, eventually};

/// What an origin knows of the session.
fn told(session: &mut ServerConnection, request: &Request) -> Vec<u8> {
    let name = session.server_name().unwrap_or("none").to_owned();
    let protocol = session.alpn_protocol().unwrap_or(b"none");
    let protocol = String::from_utf8(protocol.to_vec()).unwrap();
    let shown = session.peer_certificates().map_or(0, <[_]>::len);
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    if request.method() == "HEAD" {
        return b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec();
    }
    ok(format!("{name} {protocol} {shown} {resumed}"))
}

/// A server that knows no TLS and says so.
async fn cleartext() -> Origin {
    Origin::raw(|mut stream, _| async move {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            if !bytes[..read].starts_with(b"GET ") {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                return;
            }
            stream.write_all(&ok("cleartext")).await.unwrap();
        }
    })
    .await
}

/// A table `[upstream.app.tls]` that believes this authority.
fn believing(authority: &Authority, more: &str) -> String {
    format!(
        "[upstream.app.tls]\nca = \"{}\"\n{more}\n",
        authority.file().display()
    )
}

/// One worker, so that there is one pool.
fn config(origins: &[&Origin], keys: &str, tls: &str) -> String {
    let upstream = Weir::config(origins, &format!("{keys}\n{tls}"));
    format!("[process]\nworkers = 1\n{upstream}")
}

async fn before(origin: &Origin, tls: &str) -> Weir {
    Weir::start(&config(&[origin], "retry = \"off\"", tls)).await
}

/// Asks once; the status and what `Proxy-Status` says.
async fn refused(weir: &Weir) -> (u16, String) {
    let answer = weir.get("/").await;
    let status = answer.fields("proxy-status").concat();
    (answer.status, status)
}

fn error(status: u16, word: &str) -> (u16, String) {
    (status, format!("weir; error={word}"))
}

/// Does with each session whatever `handle` does.
async fn raw<F>(
    settings: ServerConfig,
    handle: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + Sync + 'static,
) -> Origin
where
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let handle = Arc::new(handle);
    Origin::raw(move |stream, number| {
        let (acceptor, handle) = (acceptor.clone(), Arc::clone(&handle));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                handle(stream, number).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn requests_pass_over_one_kept_session() {
    let authority = Authority::new();
    let origin = Origin::secured(authority.server(&["127.0.0.1"]), told).await;
    let weir = before(&origin, &believing(&authority, "")).await;
    let mut client = weir.connect().await;
    assert_eq!(client.get("/").await.text(), "none http/1.1 0 false");
    client
        .send("POST /form HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(origin.last().body, b"hello");
    assert_eq!(origin.last().field("x-forwarded-proto"), "http");
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.response_to("HEAD").await.status, 200);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(origin.connections(), 1, "the tickets were no answer");
}

/// TLS 1.2 has neither tickets after the handshake nor changes of keys.
#[tokio::test]
async fn both_versions_are_spoken() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        authority.sign("old", &["127.0.0.1"]);
        let mut settings = authority.server_with("old", |builder| builder.with_no_client_auth());
        let with_versions = ServerConfig::builder_with_provider(settings.crypto_provider().clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(settings.cert_resolver.clone());
        settings = with_versions;
        let origin = Origin::secured(settings, |session, _| {
            ok(format!("{:?}", session.protocol_version().unwrap()))
        })
        .await;
        let weir = before(&origin, &believing(&authority, "")).await;
        let mut client = weir.connect().await;
        for _ in 0..3 {
            let spoken = client.get("/").await.text();
            assert_eq!(spoken, format!("{:?}", version.version));
        }
        assert_eq!(origin.connections(), 1);
    }
}

#[tokio::test]
async fn a_session_that_its_server_ends_carries_nothing_more() {
    let authority = Authority::new();
    let origin = raw(
        authority.server(&["127.0.0.1"]),
        |mut stream, _| async move {
            let mut buffer = Vec::new();
            let request = read_request(&mut stream, &mut buffer).await;
            assert!(request.is_some());
            let session = stream.get_mut().1;
            session.writer().write_all(&ok("hello")).unwrap();
            // The socket stays: only TLS says that it is over.
            session.send_close_notify();
            stream.flush().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{rest:?}");
        },
    )
    .await;
    let weir = before(&origin, &believing(&authority, "")).await;
    let mut client = weir.connect().await;
    for number in 1..=5 {
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab")
            .await;
        assert_eq!(client.response().await.text(), "hello");
        assert_eq!(origin.connections(), number);
    }
}

#[tokio::test]
async fn sessions_are_resumed_also_after_a_reload_that_leaves_them_alone() {
    let authority = Authority::new();
    let origin = Origin::secured(authority.server(&["127.0.0.1"]), told).await;
    let keys = "keepalive = { max_idle = 0 }";
    let tls = believing(&authority, "");
    let weir = Weir::start(&config(&[&origin], keys, &tls)).await;
    assert_eq!(weir.get("/").await.text(), "none http/1.1 0 false");
    assert_eq!(weir.get("/").await.text(), "none http/1.1 0 true");
    let more = "keepalive = { max_idle = 0, idle = \"9s\" }";
    weir.reload(&config(&[&origin], more, &tls)).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "none http/1.1 0 true");
    let named = believing(&authority, "server_name = \"127.0.0.1\"");
    weir.reload(&config(&[&origin], more, &named))
        .await
        .unwrap();
    assert_eq!(
        weir.get("/").await.text(),
        "none http/1.1 0 false",
        "sessions of other settings are of no use"
    );
}

#[tokio::test]
async fn certificates_that_are_not_believed_get_no_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign_until("expired", &["127.0.0.1"], 2001);
    let expired = authority.server_with("expired", |builder| builder.with_no_client_auth());
    let tls = believing(&authority, "");
    for (settings, tls) in [
        (authority.server(&["127.0.0.2", "app.test"]), tls.as_str()),
        (other.server(&["127.0.0.1"]), &tls),
        (expired, &tls),
        (authority.server(&["127.0.0.1"]), "tls = true"),
    ] {
        let origin = Origin::secured(settings, told).await;
        let weir = before(&origin, tls).await;
        assert_eq!(refused(&weir).await, error(502, "tls_certificate_error"));
        assert_eq!(origin.requests().len(), 0);
        assert!(origin.connections() > 0);
    }
}

#[tokio::test]
async fn handshakes_that_fail_otherwise_are_told_apart() {
    let authority = Authority::new();
    let tls = believing(&authority, "");
    let plain = cleartext().await;
    let weir = before(&plain, &tls).await;
    assert_eq!(refused(&weir).await, error(502, "tls_protocol_error"));
    let closing = Origin::raw(|stream, _| async move { drop(stream) }).await;
    let weir = before(&closing, &tls).await;
    assert_eq!(refused(&weir).await, error(502, "tls_protocol_error"));
    let mut http2 = authority.server(&["127.0.0.1"]);
    http2.alpn_protocols = vec![b"h2".to_vec()];
    let http2 = Origin::secured(http2, told).await;
    let weir = before(&http2, &tls).await;
    assert_eq!(refused(&weir).await, error(502, "tls_alert_received"));
    let silent = Origin::raw(|stream, _| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await;
    let keys = "connect_timeout = \"300ms\"\nretry = \"off\"";
    let weir = Weir::start(&config(&[&silent], keys, &tls)).await;
    assert_eq!(refused(&weir).await, error(504, "connection_timeout"));
}

#[tokio::test]
async fn a_failed_handshake_moves_on_and_ejects_with_its_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = Origin::secured(authority.server(&["127.0.0.1"]), told).await;
    let bad = Origin::secured(other.server(&["127.0.0.1"]), told).await;
    let keys = "ejection = { failures = 2, base = \"1h\", max = \"1h\" }";
    let tls = believing(&authority, "");
    let weir = Weir::start(&config(&[&bad, &good], keys, &tls)).await;
    let ejected = eventually(
        async || {
            let mut client = weir.connect().await;
            client
                .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nab")
                .await;
            assert_eq!(client.response().await.status, 200);
            weir.server(bad.address()).await
        },
        |server| server["state"] == "ejected",
    )
    .await;
    let reason = ejected["reason"].as_str().unwrap();
    assert!(
        reason.contains("certificate of an unknown issuer"),
        "{reason}"
    );
    assert_eq!(bad.requests().len(), 0);
    let failed = format!(
        "weir_upstream_requests_total{{upstream=\"app\",server=\"{}\",outcome=\"connect_failed\"}}",
        bad.address()
    );
    assert!(weir.metric(&failed).await >= 2.0);
    // An hour of rest was for a failure that is mended.
    let mended = believing(&other, "");
    let reloaded = weir.reload(&config(&[&bad, &good], keys, &mended)).await;
    reloaded.unwrap();
    assert_eq!(weir.until_server_is(bad.address(), "up").await, "");
}

/// A server that takes only those clients that this authority vouches for.
fn exclusive(authority: &Authority) -> ServerConfig {
    authority.sign("server", &["127.0.0.1"]);
    authority.server_with("server", |builder| {
        let provider = Arc::clone(builder.crypto_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    })
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_servers_that_ask() {
    let authority = Authority::new();
    let origin = Origin::secured(exclusive(&authority), told).await;
    let weir = before(&origin, &believing(&authority, "")).await;
    assert_eq!(refused(&weir).await, error(502, "tls_alert_received"));
    authority.sign("client", &["weir.test"]);
    let pair = format!(
        "client_cert = \"{}\"\nclient_key = \"{}\"",
        authority.path("client", "pem").display(),
        authority.path("client", "key").display()
    );
    let weir = before(&origin, &believing(&authority, &pair)).await;
    assert_eq!(weir.get("/").await.text(), "none http/1.1 1 false");
}

#[tokio::test]
async fn server_name_is_verified_and_sent() {
    let authority = Authority::new();
    let origin = Origin::secured(authority.server(&["app.test"]), told).await;
    let tls = believing(&authority, "server_name = \"App.test.\"");
    let weir = before(&origin, &tls).await;
    assert_eq!(weir.get("/").await.text(), "app.test http/1.1 0 false");
    let tls = believing(&authority, "server_name = \"other.test\"");
    weir.reload(&config(&[&origin], "", &tls)).await.unwrap();
    assert_eq!(refused(&weir).await, error(502, "tls_certificate_error"));
}

#[tokio::test]
async fn a_server_that_is_written_as_a_name_is_verified_by_that() {
    let authority = Authority::new();
    let dns = Dns::start().await;
    for (names, server, sni) in [
        (&["app.test"][..], "app.test:PORT", "app.test"),
        (&["svc.test"], "srv+_https._tcp.svc.test", "svc.test"),
        (&["localhost"], "localhost:PORT", "localhost"),
        (&["127.0.0.1"], "127.0.0.1:PORT", "none"),
    ] {
        let origin = Origin::secured(authority.server(names), told).await;
        let address = origin.address();
        dns.has("app.test", &[address.ip()], 60);
        dns.has("host.test", &[address.ip()], 60);
        let service = [(0, 1, address.port(), "host.test")];
        dns.serves("_https._tcp.svc.test", &service, 60);
        let text = config(&[&origin], "", &believing(&authority, ""))
            .replace(
                "workers = 1",
                &format!("workers = 1\nresolver = \"{}\"", dns.address),
            )
            .replace(
                &address.to_string(),
                &server.replace("PORT", &address.port().to_string()),
            );
        let weir = Weir::start(&text).await;
        let expected = format!("{sni} http/1.1 0 false");
        assert_eq!(weir.get("/").await.text(), expected, "{server}");
    }
}

#[tokio::test]
async fn websockets_pass() {
    let authority = Authority::new();
    let origin = raw(authority.server(&["127.0.0.1"]), |stream, _| async move {
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
    .await;
    let weir = before(&origin, &believing(&authority, "")).await;
    let stream = TcpStream::connect(weir.address()).await.unwrap();
    let (mut socket, response) = client_async("ws://test/chat", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for length in [1, 126, 65_536, 4 << 20] {
        let message = Message::binary(vec![7; length]);
        let sent = timeout(PATIENCE, socket.send(message.clone())).await;
        sent.expect("weir takes it").unwrap();
        let came = timeout(PATIENCE, socket.next()).await.expect("an echo");
        assert!(came.unwrap().unwrap() == message, "{length}");
    }
    socket.close(None).await.unwrap();
}

/// Bytes of which none is at the place of another.
fn many(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test]
async fn large_bodies_pass_whole_both_ways() {
    let authority = Authority::new();
    let body = many(24 << 20);
    let sent = body.clone();
    let origin = Origin::secured(authority.server(&["127.0.0.1"]), move |_, request| {
        ok(match request.method() {
            "GET" => sent.as_slice(),
            _ => b"thanks",
        })
    })
    .await;
    let weir = before(&origin, &believing(&authority, "")).await;
    let mut client = weir.connect().await;
    let answer = client.get("/").await;
    assert!(answer.complete && answer.body == body);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(&head).await;
    client.send_bytes(&body).await;
    assert_eq!(client.response().await.text(), "thanks");
    assert!(origin.last().body == body);
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for piece in body.chunks(1 << 20) {
        client.send(&format!("{:x}\r\n", piece.len())).await;
        client.send_bytes(piece).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "thanks");
    assert_eq!(origin.connections(), 1);
}

/// RFC 9112 §9.8: without the word of TLS, an end is a cut.
#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole_only_if_tls_says_so() {
    let authority = Authority::new();
    let clean = Arc::new(AtomicBool::new(true));
    let ends = Arc::clone(&clean);
    let origin = raw(authority.server(&["127.0.0.1"]), move |mut stream, _| {
        let ends = Arc::clone(&ends);
        async move {
            read_request(&mut stream, &mut Vec::new()).await;
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall that there is";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
            if ends.load(Ordering::SeqCst) {
                stream.shutdown().await.unwrap();
            } else {
                stream.get_mut().0.shutdown().await.unwrap();
            }
        }
    })
    .await;
    let weir = before(&origin, &believing(&authority, "")).await;
    let whole = weir.get("/").await;
    assert_eq!((whole.complete, whole.body.len()), (true, 17));
    clean.store(false, Ordering::SeqCst);
    let cut = weir.get("/").await;
    assert_eq!((cut.status, cut.complete), (200, false));
}

/// Asks on a connection of its own until all that is opened anew is open.
async fn connections_after(origin: &Origin, weir: &Weir) -> usize {
    assert_eq!(weir.get("/").await.status, 200);
    assert_eq!(weir.get("/").await.status, 200);
    origin.connections()
}

#[tokio::test]
async fn a_reload_that_changes_tls_ends_what_was_opened_before() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::secured(authority.server(&["127.0.0.1", "app.test"]), told).await;
    let keys = "keepalive = { idle = \"1h\" }\nejection = \"off\"";
    let tls = believing(&authority, "");
    let weir = Weir::start(&config(&[&origin], keys, &tls)).await;
    assert_eq!(connections_after(&origin, &weir).await, 1);
    let reload = async |tls: &str| weir.reload(&config(&[&origin], keys, tls)).await.unwrap();

    weir.reload(&config(
        &[&origin],
        &format!("{keys}\nqueue = \"off\""),
        &tls,
    ))
    .await
    .unwrap();
    assert_eq!(
        connections_after(&origin, &weir).await,
        1,
        "TLS is as before"
    );
    reload(&believing(&authority, "server_name = \"app.test\"")).await;
    assert_eq!(connections_after(&origin, &weir).await, 2);
    reload(&believing(&other, "")).await;
    assert_eq!(refused(&weir).await, error(502, "tls_certificate_error"));
    reload(&tls).await;
    let opened = connections_after(&origin, &weir).await;
    reload("tls = false").await;
    assert_eq!(weir.get("/").await.status, 502, "it speaks TLS alone");
    assert!(origin.connections() > opened);
}

#[tokio::test]
async fn a_reload_that_turns_tls_on_ends_cleartext() {
    let authority = Authority::new();
    let origin = cleartext().await;
    let keys = "keepalive = { idle = \"1h\" }\nejection = \"off\"";
    let weir = Weir::start(&config(&[&origin], keys, "")).await;
    assert_eq!(connections_after(&origin, &weir).await, 1);
    let tls = believing(&authority, "");
    weir.reload(&config(&[&origin], keys, &tls)).await.unwrap();
    assert_eq!(refused(&weir).await, error(502, "tls_protocol_error"));
}

/// An answer that is on its way when the settings change comes whole; its connection carries no other.
#[tokio::test]
async fn a_connection_that_was_busy_at_the_reload_is_not_kept() {
    let authority = Authority::new();
    let gate = Arc::new(Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let origin = raw(
        authority.server(&["127.0.0.1", "app.test"]),
        move |mut stream, _| {
            let gate = Arc::clone(&closed);
            async move {
                let mut buffer = Vec::new();
                while let Some((head, _)) = read_request(&mut stream, &mut buffer).await {
                    if head.starts_with("GET /hold") {
                        gate.acquire().await.unwrap().forget();
                    }
                    stream.write_all(&ok("hello")).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        },
    )
    .await;
    let keys = "keepalive = { idle = \"1h\" }";
    let weir = Weir::start(&config(&[&origin], keys, &believing(&authority, ""))).await;
    let mut held = weir.connect().await;
    held.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually(async || origin.connections(), |&open| open == 1).await;
    let named = believing(&authority, "server_name = \"app.test\"");
    weir.reload(&config(&[&origin], keys, &named))
        .await
        .unwrap();
    gate.add_permits(1);
    assert_eq!(held.response().await.text(), "hello");
    assert_eq!(connections_after(&origin, &weir).await, 2);
}

#[tokio::test]
async fn a_renewed_file_of_roots_is_taken() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::secured(authority.server(&["127.0.0.1"]), told).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::copy(other.file(), &roots).unwrap();
    let tls = format!("[upstream.app.tls]\nca = \"{}\"\n", roots.display());
    let keys = "ejection = \"off\"";
    let followed = Followed::start(&config(&[&origin], keys, &tls)).await;
    let weir = &followed.weir;
    assert_eq!(refused(weir).await, error(502, "tls_certificate_error"));
    std::fs::copy(authority.file(), &roots).unwrap();
    eventually(async || weir.get("/").await.status, |&status| status == 200).await;
}

const QUICK: &str = "interval = \"150ms\", fast_interval = \"100ms\", rise = 1, fall = 1";

#[tokio::test]
async fn health_checks_speak_tls_and_tell_why_they_fail() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.sign_until("expired", &["127.0.0.1"], 2001);
    let expired = authority.server_with("expired", |builder| builder.with_no_client_auth());
    for (settings, state, reason) in [
        (authority.server(&["127.0.0.1"]), "up", ""),
        (expired, "down", "certificate has expired"),
        (
            authority.server(&["app.test"]),
            "down",
            "certificate is for another name",
        ),
        (
            other.server(&["127.0.0.1"]),
            "down",
            "certificate of an unknown issuer",
        ),
    ] {
        let origin = Origin::secured(settings, told).await;
        for kind in ["http", "tcp"] {
            let check = format!("health_check = {{ type = \"{kind}\", {QUICK} }}");
            let tls = believing(&authority, "");
            let weir = Weir::start(&config(&[&origin], &check, &tls)).await;
            assert_eq!(weir.until_server_is(origin.address(), state).await, reason);
        }
    }
    let plain = cleartext().await;
    let check = format!("health_check = {{ {QUICK} }}");
    let weir = Weir::start(&config(&[&plain], &check, &believing(&authority, ""))).await;
    let reason = weir.until_server_is(plain.address(), "down").await;
    assert_eq!(reason, "not a TLS handshake");
}

/// A health service over HTTP/2 that answers SERVING and notes scheme, authority and name.
async fn health_service(mut settings: ServerConfig) -> (SocketAddr, Arc<std::sync::Mutex<String>>) {
    settings.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let note = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let name = stream
                .get_ref()
                .1
                .server_name()
                .unwrap_or("none")
                .to_owned();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let uri = request.uri();
                *note.lock().unwrap() = format!(
                    "{} {} {name}",
                    uri.scheme_str().unwrap(),
                    uri.authority().unwrap()
                );
                let head = http::Response::builder()
                    .header("content-type", "application/grpc")
                    .body(())
                    .unwrap();
                let mut body = respond.send_response(head, false).unwrap();
                let message = bytes::Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
                body.send_data(message, false).unwrap();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                body.send_trailers(trailers).unwrap();
            }
        }
    });
    (address, seen)
}

#[tokio::test]
async fn grpc_checks_speak_http2_over_tls() {
    let authority = Authority::new();
    for (names, host, seen) in [
        (&["127.0.0.1"], "", "https ADDRESS none"),
        (
            &["rpc.test"],
            ", host = \"rpc.test:444\"",
            "https rpc.test:444 rpc.test",
        ),
    ] {
        let (address, told) = health_service(authority.server(names)).await;
        let check = format!("health_check = {{ type = \"grpc\", {QUICK}{host} }}");
        let text = format!(
            "[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
             [upstream.app]\nservers = [\"{address}\"]\n{check}\n{}",
            believing(&authority, "")
        );
        let weir = Weir::start(&text).await;
        assert_eq!(weir.until_server_is(address, "up").await, "");
        let expected = seen.replace("ADDRESS", &address.to_string());
        assert_eq!(*told.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn the_host_of_a_check_is_the_name_of_its_probes() {
    let authority = Authority::new();
    let origin = Origin::secured(authority.server(&["probe.test"]), told).await;
    let check = format!("health_check = {{ {QUICK}, host = \"probe.test\" }}");
    let weir = Weir::start(&config(&[&origin], &check, &believing(&authority, ""))).await;
    weir.until_server_is(origin.address(), "up").await;
    assert_eq!(origin.last().field("host"), "probe.test");
    let named = believing(&authority, "server_name = \"other.test\"");
    weir.reload(&config(&[&origin], &check, &named))
        .await
        .unwrap();
    let probes = origin.requests().len();
    eventually(async || origin.requests().len(), |&now| now > probes + 2).await;
    weir.until_server_is(origin.address(), "up").await;
}

#[tokio::test]
async fn a_unix_socket_is_spoken_to_by_server_name() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let socket = tokio::net::UnixListener::bind(&path).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(authority.server(&["app.test"])));
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut buffer = Vec::new();
            while read_request(&mut stream, &mut buffer).await.is_some() {
                stream.write_all(&ok("socket")).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    let text = format!(
        "[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [\"unix:{}\"]\n{}",
        path.display(),
        believing(&authority, "server_name = \"app.test\"")
    );
    let weir = Weir::start(&text).await;
    let mut client: Connection = weir.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "socket");
    }
}
