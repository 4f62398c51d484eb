//! Responses that are encoded on their way to the client: which, how they are told, and that they stay streams.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use tokio::io::AsyncWriteExt;

use crate::support::chunks::dechunked;
use crate::support::codings::{CODINGS, decode, plain, prose, text};
use crate::support::control::WEB;
use crate::support::http2::{self, Http2};
use crate::support::manual::{Manual, Server};
use crate::support::origin::read_request;
use crate::support::tls::{Authority, handshake};
use crate::support::{Connection, Origin, PATIENCE, Response, Weir, eventually};

/// Encoded beside the workers.
const HIGHEST: &str = "compress = { level = { br = 6, zstd = 8, gzip = 9 } }";

/// A config with more keys for the route.
fn config(origin: &Origin, keys: &str) -> String {
    Weir::config(&[origin], "").replace(
        "[route.site]\nupstream = \"app\"\n",
        &format!("[route.site]\nupstream = \"app\"\n{keys}\n"),
    )
}

async fn weir(origin: &Origin, keys: &str) -> Weir {
    Weir::start(&config(origin, keys)).await
}

/// A response with these field lines and a body of known length.
fn response(status: &str, lines: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

const JSON: &str = "Content-Type: application/json\r\n";

/// An origin that answers with that many bytes of JSON and these fields.
async fn json(length: usize, lines: &'static str) -> Origin {
    let body = text(length);
    Origin::start(move |_| response("200 OK", &format!("{JSON}{lines}"), &body)).await
}

/// `GET /` with these field lines.
async fn get(weir: &Weir, lines: &str) -> Response {
    weir.ask(&format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n"))
        .await
}

async fn get_as(weir: &Weir, coding: &str) -> Response {
    get(weir, &format!("Accept-Encoding: {coding}\r\n")).await
}

fn is_plain(response: &Response) -> bool {
    response.fields("content-encoding").is_empty()
}

#[tokio::test]
async fn each_coding_is_decoded_to_what_the_server_sent() {
    // At once and with a length; piece by piece; long after the head.
    let lengths = [2_000, 40_000, 300_000];
    let routes = ["compress = true", HIGHEST];
    let all = lengths.map(|length| routes.map(|route| (length, route)));
    for (length, route) in all.into_iter().flatten() {
        let body = text(length);
        let origin = json(length, "").await;
        let weir = weir(&origin, route).await;
        let mut connection = weir.connect().await;
        let mut http2 = Http2::open(weir.address()).await;
        for coding in CODINGS {
            let ask = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n");
            connection.send(&ask).await;
            let response = connection.response().await;
            assert_eq!(response.field("content-encoding"), coding);
            assert_eq!(response.field("vary"), "Accept-Encoding");
            assert!(response.complete && response.body.len() < length / 3);
            assert_eq!(plain(coding, &response.body), body);
            let known = response.fields("content-length").len() == 1;
            assert_eq!(known, length == 2_000, "{}", response.head);

            let request = http2::request("GET", "/").header("accept-encoding", coding);
            let (answer, _) = http2.send(request.body(()).unwrap(), true).await;
            let answer = http2::answer(answer).await.unwrap();
            assert_eq!(answer.headers["content-encoding"], coding);
            assert_eq!(plain(coding, &answer.body), body);
        }
        assert!(is_plain(&get(&weir, "").await));
    }
}

#[tokio::test]
async fn without_the_key_or_with_it_off_nothing_is_touched() {
    for keys in [
        "",
        "compress = false",
        "compress = \"off\"",
        "compress = { enabled = false }",
    ] {
        let origin = json(5_000, "ETag: \"a\"\r\n").await;
        let weir = weir(&origin, keys).await;
        let response = get_as(&weir, "br, gzip").await;
        assert!(is_plain(&response) && response.fields("vary").is_empty());
        assert_eq!(response.field("etag"), "\"a\"");
        assert_eq!(response.text(), text(5_000));
    }
}

#[tokio::test]
async fn codings_are_those_of_the_route_in_its_order() {
    let origin = json(5_000, "").await;
    let weir = weir(&origin, "compress = { codings = [\"gzip\", \"zstd\"] }").await;
    for (asked, given) in [
        ("br, zstd, gzip", Some("gzip")),
        ("br, zstd;q=1, gzip;q=0.9", Some("zstd")),
        ("zstd\r\nAccept-Encoding: gzip;q=0", Some("zstd")),
        ("br", None),
        ("identity;q=0, *;q=0", None),
    ] {
        let response = get_as(&weir, asked).await;
        let found = response.fields("content-encoding").first().copied();
        assert_eq!(found, given, "{asked}");
        assert_eq!(response.field("vary"), "Accept-Encoding", "{asked}");
        assert_eq!(response.status, 200);
    }
}

#[tokio::test]
async fn levels_types_and_min_size_are_the_routes() {
    let body = text(60_000);
    let sent = body.clone();
    let origin = Origin::start(move |request| {
        let kind = request.target().trim_start_matches('/');
        let length = request.field("x-length").parse().unwrap();
        response(
            "200 OK",
            &format!("Content-Type: {kind}\r\n"),
            &sent[..length],
        )
    })
    .await;
    let ask = async |weir: &Weir, kind: &str, length: usize, coding: &str| {
        weir.ask(&format!(
            "GET /{kind} HTTP/1.1\r\nHost: a\r\nX-Length: {length}\r\nAccept-Encoding: {coding}\r\n\r\n"
        ))
        .await
    };
    let low = weir(
        &origin,
        "compress = { level = { br = 0, zstd = 1, gzip = 1 } }",
    )
    .await;
    let high = weir(
        &origin,
        "compress = { level = { br = 6, zstd = 8, gzip = 9 }, types = [\"x/*+y\"], min_size = \"100B\" }",
    )
    .await;
    for coding in CODINGS {
        let little = ask(&low, "text/html", 60_000, coding).await.body;
        let much = ask(&high, "x/a+y", 60_000, coding).await.body;
        assert_ne!(much.len(), little.len(), "{coding}");
        assert_eq!(plain(coding, &much), body);
    }
    for (kind, length, encoded) in [
        ("x/a+y", 100, true),
        ("x/a+y", 99, false),
        ("text/html", 60_000, false),
    ] {
        let response = ask(&high, kind, length, "gzip").await;
        assert_eq!(!is_plain(&response), encoded, "{kind} {length}");
        assert_eq!(!response.fields("vary").is_empty(), encoded);
    }
    for (kind, length, encoded) in [
        ("text/html", 1024, true),
        ("text/html", 1023, false),
        ("image/png", 60_000, false),
        ("text/event-stream", 60_000, false),
    ] {
        let response = ask(&low, kind, length, "gzip").await;
        assert_eq!(!is_plain(&response), encoded, "{kind} {length}");
    }
}

/// A route that answers by itself, so that nothing depends on how the pieces of a body come.
#[tokio::test]
async fn a_coding_has_the_level_that_the_route_says_for_it_or_its_usual_one() {
    let body = prose(30_000);
    let lengths = async |compress: &str| {
        let respond = format!("respond = {{ body = '''{body}''' }}");
        let config = format!("{WEB}[route.site]\ncompress = {compress}\n{respond}\n");
        let weir = Weir::start(&config).await;
        let mut lengths = Vec::new();
        for coding in CODINGS {
            let response = get_as(&weir, coding).await;
            assert_eq!(plain(coding, &response.body), body);
            lengths.push(response.body.len());
        }
        lengths
    };
    let usual = lengths("true").await;
    let said = lengths("{ level = { br = 4, zstd = 3, gzip = 5 } }").await;
    assert_eq!(said, usual);
    for (levels, expected) in [
        ("br = 0, zstd = 1", [Greater, Greater, Equal]),
        ("br = 6, gzip = 1", [Less, Equal, Greater]),
        ("zstd = 8, gzip = 9", [Equal, Less, Less]),
    ] {
        let lengths = lengths(&format!("{{ level = {{ {levels} }} }}")).await;
        let pairs = lengths.iter().zip(&usual);
        let found: Vec<_> = pairs.map(|(length, usual)| length.cmp(usual)).collect();
        assert_eq!(found, expected, "{levels}: {lengths:?}, {usual:?}");
    }
}

#[tokio::test]
async fn types_are_whole_names_or_all_of_a_kind() {
    let body = text(2_000);
    let origin = Origin::start(move |request| {
        let kind = &request.target()[1..];
        response("200 OK", &format!("Content-Type: {kind}\r\n"), &body)
    })
    .await;
    let usual = (
        "compress = true",
        &[
            "text/html",
            "text/x-own",
            "application/json",
            "application/javascript",
            "application/xml",
            "application/wasm",
            "image/svg+xml",
            "application/ld+json",
            "application/atom+xml",
            "font/ttf",
            "font/otf",
        ][..],
        &[
            "text/event-stream",
            "application/octet-stream",
            "application/pdf",
            "image/png",
            "font/woff2",
            "model/gltf+json",
        ][..],
    );
    let own = (
        "compress = { types = [\"application/a\", \"b/*\", \"c/*+d\"] }",
        &["application/a", "b/x", "b/x+y", "c/x+d"][..],
        &[
            "application/ab",
            "c/x",
            "c/d",
            "text/html",
            "application/json",
            "text/event-stream",
        ][..],
    );
    for (keys, encoded, left) in [usual, own] {
        let weir = weir(&origin, keys).await;
        for (kinds, is_encoded) in [(encoded, true), (left, false)] {
            for kind in kinds {
                let request =
                    format!("GET /{kind} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
                let response = weir.ask(&request).await;
                assert_eq!(!is_plain(&response), is_encoded, "{keys} {kind}");
            }
        }
    }
}

/// A route turns it off, or has another value for one key; what it does not say is as the defaults say.
#[tokio::test]
async fn each_route_encodes_by_its_own_table_and_else_by_that_of_the_defaults() {
    let origin = json(500, "").await;
    let defaults = "[defaults.route]\ncompress = { codings = [\"gzip\"], min_size = \"100B\" }\n\
         [route.own]\npath = \"/own\"\nupstream = \"app\"\ncompress = { codings = [\"zstd\"] }\n\
         [route.large]\npath = \"/large\"\nupstream = \"app\"\ncompress = { min_size = \"1KiB\" }\n\
         [route.off]\npath = \"/off\"\nupstream = \"app\"\ncompress = false\n";
    let weir = weir(&origin, defaults).await;
    for (path, coding) in [
        ("/", Some("gzip")),
        ("/own", Some("zstd")),
        ("/large", None),
        ("/off", None),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br, zstd, gzip\r\n\r\n");
        let response = weir.ask(&request).await;
        let found = response.fields("content-encoding").first().copied();
        assert_eq!(found, coding, "{path}");
    }
}

#[tokio::test]
async fn what_must_not_be_encoded_is_not() {
    let body = text(5_000);
    let origin = Origin::start(move |request| match request.target() {
        "/no-transform" => response(
            "200 OK",
            &format!("{JSON}Cache-Control: public, no-transform\r\n"),
            &body,
        ),
        "/encoded" => response("200 OK", &format!("{JSON}Content-Encoding: x\r\n"), &body),
        "/part" => response(
            "206 Partial Content",
            &format!("{JSON}Content-Range: bytes 0-4999/9999\r\n"),
            &body,
        ),
        "/range" => response(
            "200 OK",
            &format!("{JSON}Content-Range: bytes 0-4999/9999\r\n"),
            &body,
        ),
        "/grpc" => response("200 OK", "Content-Type: application/grpc+json\r\n", &body),
        "/none" => b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\r\n".to_vec(),
        _ => response("200 OK", JSON, &body),
    })
    .await;
    let weir = weir(&origin, "compress = true").await;
    for path in [
        "/no-transform",
        "/encoded",
        "/part",
        "/range",
        "/grpc",
        "/none",
    ] {
        let ask = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nRange: bytes=0-4999\r\n\r\n"
        );
        let response = weir.ask(&ask).await;
        let codings = response.fields("content-encoding");
        assert!(codings.is_empty() || codings == ["x"], "{path}");
        // RFC 9110 §15.3.7: a part varies as the whole does.
        let varies = response.fields("vary") == ["Accept-Encoding"];
        assert_eq!(varies, path == "/part", "{path}");
        assert_eq!(origin.last().field("range"), "bytes=0-4999");
    }
    // The client's part.
    assert!(!is_plain(&get_as(&weir, "gzip").await));
    assert!(is_plain(
        &get(
            &weir,
            "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n"
        )
        .await
    ));
    let old = weir
        .ask("GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    assert!(is_plain(&old));
    assert_eq!(old.field("vary"), "Accept-Encoding");
}

/// BREACH: another site's page must not learn from lengths what it can only cause, not read.
#[tokio::test]
async fn another_sites_page_with_cookies_over_tls_gets_it_plain() {
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let origin = json(5_000, "").await;
    let trusting = config(&origin, "compress = true").replace(
        "[listen.web]\n",
        "[listen.web]\ntrusted_proxies = [\"127.0.0.1\"]\n",
    );
    let secure = format!(
        "{}{}",
        config(&origin, "compress = true"),
        authority.table(&["test"], "")
    );
    let client = Arc::new(authority.client(&[]));
    let cross = "Sec-Fetch-Site: cross-site\r\n";
    let cookie = "Cookie: a=1\r\n";
    let gzip = "Accept-Encoding: gzip\r\n";
    let secure = Weir::start(&secure).await;
    let ask = async |lines: String| {
        let stream = handshake(&client, secure.address(), "test").await.unwrap();
        let mut connection = Connection::over(stream);
        connection
            .send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n"))
            .await;
        let response = connection.response().await;
        assert_eq!(response.field("vary"), "Accept-Encoding");
        !is_plain(&response)
    };
    assert!(!ask(format!("{gzip}{cross}{cookie}")).await);
    assert!(ask(format!("{gzip}{cross}")).await);
    assert!(ask(format!("{gzip}{cookie}")).await);
    assert!(ask(format!("{gzip}{cookie}Sec-Fetch-Site: same-origin\r\n")).await);
    // TLS that ended at a trusted proxy counts, nobody else's word does.
    let proto = "X-Forwarded-Proto: https\r\n";
    let lines = format!("{gzip}{cross}{cookie}{proto}");
    assert!(is_plain(&get(&Weir::start(&trusting).await, &lines).await));
    assert!(!is_plain(
        &get(&weir(&origin, "compress = true").await, &lines).await
    ));
}

#[tokio::test]
async fn fields_tell_of_the_encoded_bytes() {
    let origin = json(
        50_000,
        "ETag: \"a\"\r\nVary: Origin\r\nVary: X-B\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\nDigest: x\r\nContent-Digest: x\r\nRepr-Digest: x\r\nX-Other: y\r\n",
    )
    .await;
    let weir = weir(&origin, "compress = true").await;
    let response = get_as(&weir, "zstd").await;
    assert_eq!(response.field("etag"), "W/\"a\"");
    assert_eq!(response.field("vary"), "Origin, X-B, Accept-Encoding");
    assert_eq!(response.field("x-other"), "y");
    for gone in [
        "content-length",
        "accept-ranges",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
    ] {
        assert!(response.fields(gone).is_empty(), "{gone}");
    }
    let response = get_as(&weir, "identity").await;
    assert_eq!(response.field("etag"), "\"a\"");
    assert_eq!(response.field("accept-ranges"), "bytes");
    assert_eq!(response.field("content-length"), "50000");
}

/// Express and others compare weakly, as RFC 9110 §13.1.2 says: `W/"a"` finds the server's `"a"`.
#[tokio::test]
async fn a_conditional_request_is_passed_on_and_its_304_has_the_clients_tag() {
    let body = text(5_000);
    let origin = Origin::start(move |request| {
        let asked = request.fields("if-none-match").join(",");
        if asked.contains("\"a\"") {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec()
        } else {
            response("200 OK", &format!("{JSON}ETag: \"a\"\r\n"), &body)
        }
    })
    .await;
    let weir = weir(&origin, "compress = true").await;
    for asked in ["W/\"a\"", "\"a\""] {
        let lines = format!("Accept-Encoding: gzip\r\nIf-None-Match: {asked}\r\n");
        let response = get(&weir, &lines).await;
        assert_eq!(response.status, 304);
        assert_eq!(response.field("etag"), asked);
        assert_eq!(response.field("vary"), "Accept-Encoding");
        assert!(is_plain(&response));
        assert_eq!(origin.last().field("if-none-match"), asked);
    }
}

#[tokio::test]
async fn a_head_has_the_fields_of_the_get() {
    let origin = Origin::start(|request| {
        let length = if request.target() == "/known" {
            "Content-Length: 5000\r\n"
        } else {
            "Transfer-Encoding: chunked\r\n"
        };
        format!("HTTP/1.1 200 OK\r\n{JSON}ETag: \"a\"\r\n{length}\r\n").into_bytes()
    })
    .await;
    let weir = weir(&origin, "compress = true").await;
    let mut http2 = Http2::open(weir.address()).await;
    for (path, codings) in [("/known", &["gzip"][..]), ("/unknown", &[])] {
        let ask = |coding: &str| {
            format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n")
        };
        let response = weir.ask(&ask("gzip")).await;
        assert_eq!(response.field("etag"), "W/\"a\"");
        assert_eq!(response.field("vary"), "Accept-Encoding");
        assert_eq!(response.fields("content-encoding"), codings);
        assert!(
            response.fields("content-length").is_empty(),
            "{}",
            response.head
        );
        assert_eq!(weir.ask(&ask("identity")).await.field("etag"), "\"a\"");

        let request = http2::request("HEAD", path).header("accept-encoding", "gzip");
        let (answer, _) = http2.send(request.body(()).unwrap(), true).await;
        let answer = http2::answer(answer).await.unwrap();
        assert_eq!(answer.headers["etag"], "W/\"a\"");
        assert!(
            !answer.headers.contains_key("content-length"),
            "{:?}",
            answer.headers
        );
    }
}

#[tokio::test]
async fn a_route_that_answers_by_itself_encodes_too() {
    let body = "all work and no play ".repeat(5_000);
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\ncompress = true\nrespond = {{ body = \"{body}\" }}\n"
    ))
    .await;
    for coding in CODINGS {
        let response = get_as(&weir, coding).await;
        assert_eq!(plain(coding, &response.body), body);
    }
}

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n";

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// Starts a request for `/` and returns the server's side of it.
async fn begin(origin: &mut Manual, client: &mut Connection, lines: &str) -> Server {
    client
        .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
        .await;
    origin.request().await.0
}

#[tokio::test]
async fn a_body_of_unknown_length_is_encoded_if_there_is_enough_of_it() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "compress = true").await;
    for (length, encoded) in [(0, false), (1_023, false), (1_024, true), (100_000, true)] {
        for trailer in ["", "X-End: 1\r\n"] {
            let body = text(length);
            let mut client = weir.connect().await;
            let announced = if trailer.is_empty() {
                ""
            } else {
                "Trailer: X-End\r\n"
            };
            let mut server = begin(
                &mut origin,
                &mut client,
                "Accept-Encoding: br\r\nTE: trailers\r\nConnection: close\r\n",
            )
            .await;
            let data = if body.is_empty() {
                String::new()
            } else {
                chunk(&body)
            };
            server
                .send(format!("{CHUNKED}{announced}\r\n{data}0\r\n{trailer}\r\n"))
                .await;
            let response = client.response().await;
            assert!(response.complete);
            assert_eq!(!is_plain(&response), encoded, "{length}");
            assert_eq!(response.field("vary"), "Accept-Encoding");
            assert_eq!(
                response.trailers.to_ascii_lowercase().replace(' ', ""),
                trailer.to_ascii_lowercase().replace(' ', "")
            );
            if encoded {
                assert_eq!(plain("br", &response.body), body);
            } else {
                assert_eq!(response.text(), body);
            }
        }
    }
}

#[tokio::test]
async fn a_body_until_the_end_of_the_connection_is_ended_by_it() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "compress = true").await;
    let body = text(70_000);
    let mut client = weir.connect().await;
    let mut server = begin(&mut origin, &mut client, "Accept-Encoding: zstd\r\n").await;
    server
        .send(format!("HTTP/1.1 200 OK\r\n{JSON}\r\n{body}"))
        .await;
    drop(server);
    let response = client.response().await;
    assert!(response.complete);
    assert_eq!(plain("zstd", &response.body), body);
}

/// Reads on until `wanted` can be decoded of what has come.
async fn until_decodable(client: &mut Connection, coding: &str, wanted: &str) {
    // Some of it may have come with the head.
    while decode(coding, &dechunked(&client.buffer)).0 != wanted.as_bytes() {
        assert!(client.read().await, "the connection ended");
    }
}

/// Long bodies and short ones, with a length and without: whoever pauses is not held back.
#[tokio::test]
async fn what_came_before_a_pause_reaches_the_client() {
    for route in ["compress = true", HIGHEST] {
        what_came_before_a_pause_reaches_the_client_of(route).await;
    }
}

async fn what_came_before_a_pause_reaches_the_client_of(route: &str) {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, route).await;
    for coding in CODINGS {
        for length in [10, 5_000, 50_000] {
            for known in [false, true] {
                let part = text(length);
                let mut client = weir.connect().await;
                let mut server = begin(
                    &mut origin,
                    &mut client,
                    &format!("Accept-Encoding: {coding}\r\n"),
                )
                .await;
                if known {
                    server
                        .send(format!(
                            "HTTP/1.1 200 OK\r\n{JSON}Content-Length: {}\r\n\r\n{part}",
                            3 * length + 2_000
                        ))
                        .await;
                } else {
                    server.send(format!("{CHUNKED}\r\n{}", chunk(&part))).await;
                }
                let head = client.head().await;
                assert!(
                    head.contains(&format!("content-encoding: {coding}")),
                    "{head}"
                );
                until_decodable(&mut client, coding, &part).await;
                let more = if known { part.clone() } else { chunk(&part) };
                server.send(more).await;
                until_decodable(&mut client, coding, &[part.as_str(), &part].concat()).await;
            }
        }
    }
}

/// To wait for enough of it and then for more of it would be to wait twice.
#[tokio::test]
async fn what_is_too_little_to_decide_on_is_held_back_once() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "compress = true").await;
    let part = text(500);
    // By the clock: the best of several, as others run at the same time.
    let mut least = PATIENCE;
    for coding in CODINGS.into_iter().cycle().take(9) {
        let lines = format!("Accept-Encoding: {coding}\r\n");
        let mut client = weir.connect().await;
        let mut server = begin(&mut origin, &mut client, &lines).await;
        server.send(format!("{CHUNKED}\r\n{}", chunk(&part))).await;
        let sent = Instant::now();
        client.head().await;
        until_decodable(&mut client, coding, &part).await;
        least = least.min(sent.elapsed());
    }
    assert!(least.as_millis() < 60, "{least:?}");
}

#[tokio::test]
async fn over_http_2_a_pause_is_no_reason_to_wait_either() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "compress = true").await;
    let mut http2 = Http2::open(weir.address()).await;
    let part = text(3_000);
    let request = http2::request("GET", "/").header("accept-encoding", "br");
    let (answer, _) = http2.send(request.body(()).unwrap(), true).await;
    let (mut server, _) = origin.request().await;
    server
        .send(format!("{CHUNKED}Trailer: x-end\r\n\r\n{}", chunk(&part)))
        .await;
    let mut body = answer.await.unwrap().into_body();
    let mut encoded = Vec::new();
    while decode("br", &encoded).0 != part.as_bytes() {
        let piece = tokio::time::timeout(PATIENCE, body.data());
        encoded.extend_from_slice(&piece.await.unwrap().unwrap().unwrap());
    }
    server
        .send(format!(
            "{}0\r\nX-End: 1\r\nDigest: x\r\n\r\n",
            chunk("end")
        ))
        .await;
    let (rest, trailers) = http2::read(&mut body).await.unwrap();
    encoded.extend(rest);
    assert_eq!(plain("br", &encoded), part + "end");
    let mut expected = HeaderMap::new();
    expected.insert("x-end", "1".parse().unwrap());
    assert_eq!(
        trailers,
        Some(expected),
        "without what told of the plain bytes"
    );
}

#[tokio::test]
async fn events_are_sent_one_by_one() {
    let mut origin = Manual::start().await;
    let weir = weir(
        &origin.origin,
        "compress = { types = [\"text/event-stream\"] }",
    )
    .await;
    for coding in CODINGS {
        let mut client = weir.connect().await;
        let mut server = begin(
            &mut origin,
            &mut client,
            &format!("Accept-Encoding: {coding}\r\n"),
        )
        .await;
        server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(
            client.head().await.contains(coding),
            "before the first event"
        );
        let mut all = String::new();
        for number in 0..20 {
            let event = format!("data: {number}\n\n");
            server.send(chunk(&event)).await;
            all.push_str(&event);
            until_decodable(&mut client, coding, &all).await;
        }
    }
}

/// The end of an encoding says that all is there; it must not be said of what broke off.
#[tokio::test]
async fn a_body_that_breaks_off_is_never_ended() {
    for route in ["compress = true", HIGHEST] {
        a_body_that_breaks_off_is_never_ended_by(route).await;
    }
}

async fn a_body_that_breaks_off_is_never_ended_by(route: &str) {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, route).await;
    let mut http2 = Http2::open(weir.address()).await;
    for coding in CODINGS {
        for (length, head) in [
            (500, CHUNKED.to_owned()),
            (5_000, CHUNKED.to_owned()),
            (200_000, CHUNKED.to_owned()),
            (
                200_000,
                format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 300000\r\n"),
            ),
        ] {
            let body = text(length);
            let data = if head == CHUNKED {
                chunk(&body)
            } else {
                body.clone()
            };
            let mut client = weir.connect().await;
            let mut server = begin(
                &mut origin,
                &mut client,
                &format!("Accept-Encoding: {coding}\r\n"),
            )
            .await;
            server.send(format!("{head}\r\n{data}")).await;
            drop(server);
            let response = client.response().await;
            assert!(!response.complete, "{coding} {length}");
            if !is_plain(&response) {
                let (decoded, whole) = decode(coding, &response.body);
                assert!(!whole, "{coding} {length}");
                assert_eq!(decoded, body.as_bytes(), "{coding}: what came is passed on");
            }

            let request = http2::request("GET", "/").header("accept-encoding", coding);
            let (answer, _) = http2.send(request.body(()).unwrap(), true).await;
            let (mut server, _) = origin.request().await;
            server.send(format!("{head}\r\n{data}")).await;
            drop(server);
            assert!(http2::answer(answer).await.unwrap_err().is_reset());
        }
    }
}

/// Text of two letters takes gzip's level 9 some 40 ms for each slice, 64 of them here.
#[tokio::test]
async fn a_level_that_takes_long_keeps_nobody_waiting() {
    let mut state = 1_u32;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { 'a' } else { 'b' }
    });
    let large: String = letters.take(2 << 20).collect();
    let sent = large.clone();
    let origin = Origin::start(move |request| match request.target() {
        "/large" => response("200 OK", JSON, &sent),
        _ => response("200 OK", "", "small"),
    })
    .await;
    let keys = "compress = { level = { gzip = 9 } }";
    let one = format!("[process]\nworkers = 1\n{}", config(&origin, keys));
    let weir = Weir::start(&one).await;
    let mut slow = weir.connect().await;
    slow.send("GET /large HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    let slow = tokio::spawn(async move { slow.response().await });
    let mut client = weir.connect().await;
    let mut answered = 0;
    while !slow.is_finished() {
        assert_eq!(client.get("/").await.text(), "small");
        answered += 1;
    }
    assert!(plain("gzip", &slow.await.unwrap().body) == large);
    assert!(answered > 300, "{answered} while it was encoded");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_server() {
    let mut origin = Manual::start().await;
    let weir = weir(&origin.origin, "compress = true").await;
    let mut client = weir.connect().await;
    let mut server = begin(&mut origin, &mut client, "Accept-Encoding: br\r\n").await;
    let part = text(5_000);
    server.send(format!("{CHUNKED}\r\n{}", chunk(&part))).await;
    client.head().await;
    until_decodable(&mut client, "br", &part).await;
    drop(client);
    assert!(server.rest().await.is_empty());
    let address = origin.origin.address();
    let in_flight =
        format!("weir_server_requests_in_flight{{upstream=\"app\",server=\"{address}\"}}");
    eventually(
        async || weir.metric(&in_flight).await,
        |&number| number == 0.0,
    )
    .await;
    // So does one that leaves while it is not decided yet.
    let mut client = weir.connect().await;
    let mut server = begin(&mut origin, &mut client, "Accept-Encoding: br\r\n").await;
    server.send(format!("{CHUNKED}\r\n")).await;
    drop(client);
    assert!(server.rest().await.is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_server_back() {
    let (taken, count) = {
        let counter = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        (Arc::clone(&counter), counter)
    };
    let origin = Origin::raw(move |mut stream, _| {
        let taken = Arc::clone(&taken);
        async move {
            let mut buffer = Vec::new();
            read_request(&mut stream, &mut buffer).await;
            let head = format!("HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // Noise, of which no coding makes little; it comes again outside of gzip's window.
            let mut number = 88_172_645_463_325_252_u64;
            let noise: Vec<u8> = (0..8_192)
                .flat_map(|_| {
                    number ^= number << 13;
                    number ^= number >> 7;
                    number ^= number << 17;
                    number.to_le_bytes()
                })
                .collect();
            let size = format!("{:x}\r\n", noise.len());
            let piece = [size.as_bytes(), &noise, b"\r\n"].concat();
            while stream.write_all(&piece).await.is_ok() {
                taken.fetch_add(noise.len(), std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .await;
    let weir = weir(&origin, "compress = true").await;
    let mut client = weir.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    // Until nothing moves any more: what the sockets hold, and little else.
    let begin = Instant::now();
    let mut still = (0, Instant::now());
    while still.1.elapsed().as_millis() < 300 && begin.elapsed() < PATIENCE {
        let now = count.load(std::sync::atomic::Ordering::Relaxed);
        if now != still.0 {
            still = (now, Instant::now());
        }
        tokio::task::yield_now().await;
    }
    assert!(still.0 > 0 && still.0 < 30_000_000, "{}", still.0);
}

/// Each holds some 2 MiB for as long as its client likes.
#[tokio::test]
async fn there_are_only_so_many_encoders_at_work() {
    let mut origin = Manual::start().await;
    let one_worker = "[process]\nworkers = 1\n";
    let config = config(&origin.origin, "compress = true");
    let weir = Weir::start(&format!("{one_worker}{config}")).await;
    let skipped = "weir_compression_skipped_total{route=\"site\"}";
    assert_eq!(weir.metric(skipped).await, 0.0);
    let (part, lines) = (text(5_000), "Accept-Encoding: br\r\nConnection: close\r\n");
    let mut held = Vec::new();
    let refused = loop {
        let mut client = weir.connect().await;
        let mut server = begin(&mut origin, &mut client, lines).await;
        server.send(format!("{CHUNKED}\r\n{}", chunk(&part))).await;
        let head = client.head().await.to_ascii_lowercase();
        assert!(head.contains("vary: accept-encoding"), "{head}");
        if !head.contains("content-encoding") {
            break (client, server);
        }
        held.push((client, server));
        assert!(held.len() < 100);
    };
    assert_eq!(held.len(), 64);
    assert_eq!(weir.metric(skipped).await, 1.0);
    let (mut client, mut server) = refused;
    server.send("0\r\n\r\n").await;
    assert_eq!(dechunked(&client.rest().await), part.as_bytes());
    // Else it would be used again.
    drop(server);
    // Who leaves makes room.
    drop(held);
    let again = async || {
        let mut client = weir.connect().await;
        let mut server = begin(&mut origin, &mut client, lines).await;
        server.send(format!("{CHUNKED}\r\n{}", chunk(&part))).await;
        client.head().await.to_ascii_lowercase()
    };
    eventually(again, |head| head.contains("content-encoding")).await;
}

#[tokio::test]
async fn the_log_and_the_metrics_tell() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let origin = json(50_000, "").await;
    let log = format!(
        "[log]\naccess = \"{}\"\naccess_filter = \"all\"\n",
        file.display()
    );
    let weir = Weir::start(&format!("{log}{}", config(&origin, "compress = true"))).await;
    let series = |coding: &str| {
        format!("weir_compressed_responses_total{{route=\"site\",coding=\"{coding}\"}}")
    };
    let page = weir.metrics().await;
    for coding in CODINGS {
        assert!(
            page.contains(&format!("{} 0\n", series(coding))),
            "from the start"
        );
    }
    let encoded = get_as(&weir, "zstd").await.body.len();
    eventually(
        async || weir.metric(&series("zstd")).await,
        |&count| count == 1.0,
    )
    .await;
    let bytes = async |direction| {
        weir.metric(&format!(
            "weir_compression_{direction}_bytes_total{{route=\"site\"}}"
        ))
        .await
    };
    assert_eq!(bytes("input").await, 50_000.0);
    assert_eq!(bytes("output").await, encoded as f64);
    assert_eq!(weir.metric(&series("br")).await, 0.0);

    let read = async || std::fs::read_to_string(&file).unwrap_or_default();
    // One after the other: they may be of two workers.
    eventually(read, |text| text.lines().count() == 1).await;
    get_as(&weir, "identity").await;
    let text = eventually(read, |text| text.lines().count() == 2).await;
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["coding"], &lines[0]["end"]),
        (&"zstd".into(), &"complete".into())
    );
    assert_eq!(lines[0]["bytes_out"], encoded);
    assert_eq!(lines[1]["coding"], serde_json::Value::Null);
    assert_eq!(lines[1]["bytes_out"], 50_000);
}
