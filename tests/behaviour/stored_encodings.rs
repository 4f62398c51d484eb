//! Stored responses in several codings: encoded once and sent many times, decoded for those who cannot take them as they
//! are.

use std::cmp::Ordering::{Equal, Greater, Less};

use crate::support::cache::{
    Changing, FRESH, answer, ask, before, counting_by, get, is_hit, response, told,
};
use crate::support::chunks::{chunk_of, dechunked};
use crate::support::codings::{CODINGS, InPieces, encoded, fast, plain, prose, text};
use crate::support::http2::{self, Http2};
use crate::support::manual::Manual;
use crate::support::{Connection, Origin, Response, Weir, eventually};

const BOTH: &str = "cache = true\ncompress = true";
const JSON: &str = "Content-Type: application/json\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n";

/// An origin of that much JSON.
async fn json(length: usize) -> Origin {
    let body = text(length);
    Origin::start(move |_| answer(&format!("{FRESH}{JSON}"), &body)).await
}

/// An origin of this JSON, under `/gzip` encoded.
async fn plain_and_gzip(body: &str) -> Origin {
    let (body, gzip) = (body.to_owned(), encoded("gzip", body));
    Origin::start(move |request| match request.target() {
        "/gzip" => answer(&format!("{FRESH}{JSON}Content-Encoding: gzip\r\n"), &gzip),
        _ => answer(&format!("{FRESH}{JSON}"), &body),
    })
    .await
}

async fn get_as(weir: &Weir, coding: &str) -> Response {
    get(weir, "/", &format!("Accept-Encoding: {coding}\r\n")).await
}

fn coding(response: &Response) -> String {
    response.fields("content-encoding").join(",")
}

/// A hit in that coding whose bytes were ready.
async fn ready(weir: &Weir, coding: &str) -> Response {
    ready_at(weir, "/", coding).await
}

async fn ready_at(weir: &Weir, path: &str, coding: &str) -> Response {
    let lines = format!("Accept-Encoding: {coding}\r\n");
    let is_ready = |response: &Response| {
        is_hit(response)
            && response.fields("content-encoding") == [coding]
            && response.fields("content-length").len() == 1
    };
    eventually(async || get(weir, path, &lines).await, is_ready).await
}

async fn compressed_bytes(weir: &Weir) -> f64 {
    weir.metric("weir_compression_input_bytes_total{route=\"site\"}")
        .await
}

#[tokio::test]
async fn a_body_is_encoded_once_and_then_sent_as_it_is() {
    let body = text(100_000);
    let origin = json(100_000).await;
    let weir = before(&origin, BOTH).await;
    let mut http2 = Http2::open(weir.address()).await;
    for coding in CODINGS {
        let first = get_as(&weir, coding).await;
        assert_eq!(first.field("content-encoding"), coding);
        assert_eq!(plain(coding, &first.body), body);
        let hit = ready(&weir, coding).await;
        assert_eq!(plain(coding, &hit.body), body);
        assert_eq!(hit.field("etag"), "W/\"a\"");
        assert_eq!(hit.field("vary"), "Accept-Encoding");
        assert!(hit.fields("accept-ranges").is_empty());
        let before = compressed_bytes(&weir).await;
        for _ in 0..5 {
            assert_eq!(
                get_as(&weir, coding).await.field("content-encoding"),
                coding
            );
            let request = http2::request("GET", "/").header("accept-encoding", coding);
            let (answer, _) = http2.send(request.body(()).unwrap(), true).await;
            let answer = http2::answer(answer).await.unwrap();
            assert_eq!(answer.headers["content-encoding"], coding);
            assert_eq!(plain(coding, &answer.body), body);
        }
        assert_eq!(
            compressed_bytes(&weir).await,
            before,
            "nothing is encoded for them"
        );
    }
    // The same entry has it without a coding.
    let identity = get(&weir, "/", "").await;
    assert!(is_hit(&identity) && coding(&identity).is_empty());
    assert_eq!((identity.text(), identity.field("etag")), (body, "\"a\""));
    assert_eq!(identity.field("vary"), "Accept-Encoding");
    let old = weir
        .ask("GET / HTTP/1.0\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    assert!(coding(&old).is_empty() && old.complete);
    assert_eq!(origin.requests().len(), 1);
}

/// How long the form of `/` is in the end, for each coding. `last` is a coding whose thorough form is smaller than the quick
/// one by far.
async fn lengths(weir: &Weir, body: &str, last: &str) -> Vec<usize> {
    for coding in CODINGS {
        ready(weir, coding).await;
    }
    // Thorough forms are made one after the other: when there is one of this, those from before are there.
    let quick = fast(last, body).len();
    let other = async || ready_at(weir, "/other", last).await.body.len();
    eventually(other, |length| *length < quick - quick / 20).await;
    let mut lengths = Vec::new();
    for coding in CODINGS {
        let form = get_as(weir, coding).await;
        assert_eq!(plain(coding, &form.body), body);
        assert_eq!(form.field("content-length"), form.body.len().to_string());
        lengths.push(form.body.len());
    }
    lengths
}

#[tokio::test]
async fn the_form_of_stored_level_takes_the_place_of_the_quick_one() {
    let body = prose(40_000);
    let sent = body.clone();
    let origin = Origin::start(move |_| answer(&format!("{FRESH}{JSON}"), &sent)).await;
    let with = async |stored: &str, last: &str| {
        const LOW: &str = "level = { br = 0, zstd = 1, gzip = 1 }";
        let route = format!("cache = true\ncompress = {{ {LOW}{stored} }}");
        lengths(&before(&origin, &route).await, &body, last).await
    };
    let usual = with("", "gzip").await;
    let said = with(", stored_level = { br = 9, zstd = 12, gzip = 9 }", "zstd").await;
    assert_eq!(said, usual);
    for (levels, last, expected) in [
        ("br = 0, zstd = 1", "gzip", [Greater, Greater, Equal]),
        ("br = 11, gzip = 1", "zstd", [Less, Equal, Greater]),
        ("zstd = 19", "gzip", [Equal, Less, Equal]),
    ] {
        let lengths = with(&format!(", stored_level = {{ {levels} }}"), last).await;
        let pairs = lengths.iter().zip(&usual);
        let found: Vec<_> = pairs.map(|(length, usual)| length.cmp(usual)).collect();
        assert_eq!(found, expected, "{levels}: {lengths:?}, {usual:?}");
    }
}

/// A thorough form may take minutes, in which no other body is encoded for each client anew.
#[tokio::test]
async fn a_quick_form_does_not_wait_for_a_thorough_one_of_something_else() {
    let small = text(50_000);
    let (large, sent) = (prose(100_000).repeat(20), small.clone());
    let origin = Origin::start(move |request| match request.target() {
        "/large" => answer(&format!("{FRESH}{JSON}"), &large),
        _ => answer(&format!("{FRESH}{JSON}"), &sent),
    })
    .await;
    let route = "cache = true\ncompress = { level = { br = 0 }, stored_level = { br = 11 } }";
    let weir = before(&origin, route).await;
    let large = async || get(&weir, "/large", "Accept-Encoding: br\r\n").await;
    let is_ready = |response: &Response| !response.fields("content-length").is_empty();
    large().await;
    let quick = eventually(large, is_ready).await.body.len();
    assert_eq!(plain("br", &ready(&weir, "br").await.body), small);
    assert_eq!(
        large().await.body.len(),
        quick,
        "the better one is not there yet"
    );
}

#[tokio::test]
async fn what_weir_does_not_encode_stays_as_it_is_in_the_store_too() {
    // xorshift
    let noise: Vec<u8> = std::iter::successors(Some(0x9e37_79b9_u32), |&it| {
        let it = it ^ it << 13;
        let it = it ^ it >> 17;
        Some(it ^ it << 5)
    })
    .take(5_000)
    .map(|number| number.to_be_bytes()[1])
    .collect();
    for (lines, body, is_encoded) in [
        (
            "Content-Type: image/png\r\n",
            text(5_000).into_bytes(),
            false,
        ),
        ("Content-Type: text/html\r\n", text(500).into_bytes(), false),
        (
            "Content-Type: text/html\r\nCache-Control: no-transform\r\n",
            text(5_000).into_bytes(),
            false,
        ),
        (
            "Content-Type: text/html\r\n",
            text(5_000).into_bytes(),
            true,
        ),
    ] {
        let sent = body.clone();
        let origin = Origin::start(move |_| answer(&format!("{FRESH}{lines}"), &sent)).await;
        let weir = before(&origin, BOTH).await;
        for _ in 0..3 {
            let response = get_as(&weir, "gzip").await;
            assert_eq!(!coding(&response).is_empty(), is_encoded, "{lines}");
            if !is_encoded {
                assert_eq!(response.body, body);
            }
        }
    }
    // What gets no smaller is not sent encoded once that is known.
    let sent = noise.clone();
    let origin = Origin::start(move |_| answer(&format!("{FRESH}{JSON}"), &sent)).await;
    let weir = before(&origin, "cache = true\ncompress = { codings = [\"zstd\"] }").await;
    get_as(&weir, "zstd").await;
    let known = eventually(
        async || get_as(&weir, "zstd").await,
        |response| coding(response).is_empty(),
    )
    .await;
    assert_eq!(known.body, noise);
    assert_eq!(known.field("etag"), "\"a\"");
    // RFC 9110 §9.3.2.
    let head = ask(&weir, "HEAD", "/", "Accept-Encoding: zstd\r\n").await;
    for name in ["content-encoding", "content-length", "etag", "vary"] {
        assert_eq!(head.fields(name), known.fields(name), "{name}");
    }
}

#[tokio::test]
async fn what_comes_encoded_is_stored_so_and_decoded_for_those_who_cannot_take_it() {
    let body = text(50_000);
    for stored in CODINGS {
        for (route, vary) in [
            ("cache = true", ""),
            ("cache = true", "Vary: Accept-Encoding\r\n"),
            (BOTH, "Vary: Accept-Encoding\r\n"),
        ] {
            let bytes = encoded(stored, &body);
            let sent = bytes.clone();
            let lines = format!("{FRESH}{JSON}{vary}Content-Encoding: {stored}\r\n");
            let origin = Origin::start(move |_| answer(&lines, &sent)).await;
            let weir = before(&origin, route).await;
            get_as(&weir, stored).await;
            let hit = eventually(async || get_as(&weir, stored).await, is_hit).await;
            assert_eq!(hit.field("content-encoding"), stored);
            assert_eq!((hit.field("etag"), hit.body == bytes), ("\"a\"", true));
            let other = CODINGS
                .into_iter()
                .find(|coding| *coding != stored)
                .unwrap();
            for lines in [
                "",
                "Accept-Encoding: identity\r\n",
                &*format!("Accept-Encoding: {other}\r\n"),
                &*format!("Accept-Encoding: *, {stored};q=0\r\n"),
            ] {
                let decoded = get(&weir, "/", lines).await;
                assert!(is_hit(&decoded) && decoded.complete, "{lines}");
                assert!(coding(&decoded).is_empty(), "{lines}{}", decoded.head);
                assert_eq!(decoded.text(), body);
                assert_eq!(decoded.field("etag"), "W/\"a\"");
                assert_eq!(decoded.field("vary"), "Accept-Encoding");
                assert!(decoded.fields("accept-ranges").is_empty());
            }
            let mut http2 = Http2::open(weir.address()).await;
            assert_eq!(http2.get("/").await.text(), body);
            assert_eq!(origin.requests().len(), 1, "{stored} {route} {vary}");
        }
    }
}

/// Reads on until all of that body is here, and leaves it unread.
async fn until(client: &mut Connection, body: &str) {
    let came = |buffer: &[u8]| {
        let end = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        Some(dechunked(&buffer[end + 4..]))
    };
    while came(&client.buffer).is_none_or(|came| came != body.as_bytes()) {
        assert!(client.read().await, "the connection ended");
    }
}

/// A server that does not ask what its clients take: each gets what it can read, also while it comes.
#[tokio::test]
async fn what_comes_encoded_is_decoded_on_its_way_for_the_client_that_had_it_fetched() {
    let (first, second) = (text(20_000), text(30_000));
    for coded in CODINGS {
        for lines in ["", "Accept-Encoding: x-own\r\n"] {
            let mut manual = Manual::start().await;
            let weir = before(&manual.origin, BOTH).await;
            let mut client = weir.connect().await;
            client
                .send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n"))
                .await;
            let (mut server, _) = manual.request().await;
            let head = format!(
                "HTTP/1.1 200 OK\r\n{FRESH}{JSON}Content-Encoding: {coded}\r\nContent-Digest: md5=:x:\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            server.send(head).await;
            let mut pieces = InPieces::new(coded);
            server.send(chunk_of(&pieces.flushed(&first))).await;
            until(&mut client, &first).await;
            server.send(chunk_of(&pieces.flushed(&second))).await;
            server.send(chunk_of(&pieces.end())).await;
            server.send("0\r\n\r\n").await;
            let response = client.response().await;
            assert!(coding(&response).is_empty(), "{}", response.head);
            assert!(response.complete);
            assert!(response.text() == format!("{first}{second}"), "{coded}");
            assert_eq!(response.field("vary"), "Accept-Encoding");
            assert_eq!(response.field("etag"), "W/\"a\"");
            assert!(response.fields("content-digest").is_empty());
            let hit = eventually(async || get_as(&weir, coded).await, is_hit).await;
            assert_eq!(coding(&hit), coded);
        }
    }
}

/// Each decoder holds a window of some megabytes for as long as its client takes to read.
#[tokio::test]
async fn beyond_the_memory_for_decoders_clients_are_answered_by_the_server() {
    let body = text(1 << 20);
    let stored = encoded("br", &body);
    let origin = Origin::start(move |request| match request.fields("accept-encoding")[..] {
        ["br"] => answer(&format!("{FRESH}Content-Encoding: br\r\n"), &stored),
        _ => answer(FRESH, "plain"),
    })
    .await;
    let weir = before(&origin, "cache = true").await;
    get_as(&weir, "br").await;
    eventually(async || get_as(&weir, "br").await, is_hit).await;
    // Nobody reads.
    let mut http2 = Http2::open(weir.address()).await;
    let mut unread = Vec::new();
    loop {
        let (response, _) = http2.send(http2::get("/"), true).await;
        let response = response.await.unwrap();
        let verdict = &response.headers()["cache-status"];
        if verdict == "weir; fwd=bypass; detail=decoder-memory" {
            break;
        }
        assert!(
            verdict.to_str().unwrap().starts_with("weir; hit"),
            "{verdict:?}"
        );
        unread.push(response.into_body());
    }
    assert_eq!(unread.len(), 25, "128 MiB");
    assert_eq!(origin.requests().len(), 2);
    drop(unread);
    let decoded = http2.get("/").await;
    assert!(decoded.text() == body);
    assert!(!decoded.headers.contains_key("content-encoding"));
    assert_eq!(origin.requests().len(), 2);
}

/// RFC 9112 §8: what is not whole must not look so.
#[tokio::test]
async fn what_breaks_off_while_it_is_decoded_breaks_off_for_the_client() {
    let body = text(20_000);
    for coded in CODINGS {
        for ends_well in [false, true] {
            let mut manual = Manual::start().await;
            let weir = before(&manual.origin, "cache = true").await;
            let mut client = weir.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
            let (mut server, _) = manual.request().await;
            let head = format!(
                "HTTP/1.1 200 OK\r\n{FRESH}Content-Encoding: {coded}\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            server.send(head).await;
            server
                .send(chunk_of(&InPieces::new(coded).flushed(&body)))
                .await;
            until(&mut client, &body).await;
            if ends_well {
                // Not the encoding.
                server.send("0\r\n\r\n").await;
            }
            drop(server);
            assert!(!client.response().await.complete, "{coded}");
        }
    }
}

/// What must not be transformed is for those who can take it.
#[tokio::test]
async fn what_must_not_be_decoded_is_not_sent_to_those_who_cannot_take_it() {
    let origin = Origin::start(|request| {
        let lines =
            format!("Cache-Control: max-age=60, no-transform\r\n{JSON}Vary: Accept-Encoding\r\n");
        if request.fields("accept-encoding") == ["gzip"] {
            return answer(
                &format!("{lines}Content-Encoding: gzip\r\n"),
                encoded("gzip", "hello"),
            );
        }
        answer(&lines, "hello")
    })
    .await;
    for route in ["cache = true", BOTH] {
        let weir = before(&origin, route).await;
        for _ in 0..2 {
            let gzip = get_as(&weir, "gzip").await;
            assert_eq!(gzip.field("content-encoding"), "gzip");
            assert_eq!(plain("gzip", &gzip.body), "hello");
            let identity = get(&weir, "/", "").await;
            assert!(coding(&identity).is_empty(), "{route}: {}", identity.head);
            assert_eq!(identity.text(), "hello");
        }
        assert!(is_hit(&get(&weir, "/", "").await));
    }
}

/// RFC 9110 §9.3.2: the fields are those of a GET.
#[tokio::test]
async fn head_tells_of_the_coding_that_a_get_would_have() {
    let origin = plain_and_gzip(&text(50_000)).await;
    for route in ["cache = true", BOTH] {
        let weir = before(&origin, route).await;
        for path in ["/gzip", "/plain"] {
            for lines in ["", "Accept-Encoding: gzip\r\n"] {
                get(&weir, path, lines).await;
                let get = eventually(async || get(&weir, path, lines).await, is_hit).await;
                let head = ask(&weir, "HEAD", path, lines).await;
                assert!(is_hit(&head));
                let told = |response: &Response| {
                    (
                        coding(response),
                        response.field("etag").to_owned(),
                        response.fields("vary").join(","),
                    )
                };
                assert_eq!(told(&head), told(&get), "{route} {path} {lines}");
                let length = |response: &Response| response.fields("content-length").join("");
                if !length(&head).is_empty() {
                    assert_eq!(length(&head), length(&get), "{route} {path} {lines}");
                }
            }
        }
    }
}

/// The same where nothing is stored yet, or never will be: then a GET is passed on as the server has it.
#[tokio::test]
async fn a_head_that_is_passed_on_tells_of_the_coding_that_a_get_would_have() {
    let (body, gzip) = (text(5_000), encoded("gzip", &text(5_000)));
    let origin = Origin::start(move |request| {
        let control = match request.target() {
            "/kept" => "max-age=60",
            _ => "no-store",
        };
        let lines =
            format!("Cache-Control: {control}\r\nETag: \"a\"\r\nContent-Encoding: gzip\r\n");
        answer(&lines, &gzip)
    })
    .await;
    let weir = before(&origin, "cache = true").await;
    for (path, is_decoded) in [("/kept", true), ("/dynamic", false)] {
        let head = ask(&weir, "HEAD", path, "").await;
        let get = get(&weir, path, "").await;
        for response in [&head, &get] {
            assert_eq!(coding(response).is_empty(), is_decoded, "{}", response.head);
            assert_eq!(response.field("etag").starts_with("W/"), is_decoded);
        }
        assert_eq!(get.body == body.as_bytes(), is_decoded);
        let able = ask(&weir, "HEAD", path, "Accept-Encoding: gzip\r\n").await;
        assert_eq!(coding(&able), "gzip");
    }
}

/// Parts are of the bytes that the client would get, or it would put together what does not fit.
#[tokio::test]
async fn parts_are_of_what_the_client_can_take() {
    let body = text(50_000);
    let gzip = encoded("gzip", &body);
    let origin = plain_and_gzip(&body).await;
    for route in ["cache = true", BOTH] {
        let weir = before(&origin, route).await;
        for path in ["/gzip", "/plain"] {
            get(&weir, path, "Accept-Encoding: gzip\r\n").await;
            eventually(
                async || get(&weir, path, "Accept-Encoding: gzip\r\n").await,
                is_hit,
            )
            .await;
        }
        let part = get(
            &weir,
            "/gzip",
            "Accept-Encoding: gzip\r\nRange: bytes=10-19\r\n",
        )
        .await;
        assert_eq!((part.status, coding(&part).as_str()), (206, "gzip"));
        assert_eq!(part.body, gzip[10..20]);
        assert_eq!(part.field("etag"), "\"a\"");
        let part = get(
            &weir,
            "/plain",
            "Accept-Encoding: gzip\r\nRange: bytes=10-19\r\n",
        )
        .await;
        assert_eq!((part.status, coding(&part).as_str()), (206, ""));
        assert_eq!(part.text(), body[10..20]);
        // RFC 9110 §15.3.7: as the whole would.
        let whole = get(&weir, "/plain", "").await;
        assert_eq!(part.fields("vary"), whole.fields("vary"));
        assert_eq!(whole.fields("vary").is_empty(), route != BOTH);
        // It has no gzip to put a part of it into.
        for range in ["bytes=10-19", "bytes=0-1,5-6", "bytes=9999999-"] {
            let whole = get(&weir, "/gzip", &format!("Range: {range}\r\n")).await;
            assert_eq!(
                (whole.status, coding(&whole).as_str()),
                (200, ""),
                "{}",
                whole.head
            );
            assert_eq!(whole.text(), body);
        }
    }
}

/// RFC 9110 §8.8.1, §13.1.5: what several forms share at a time is weak, and brings no part of one to who has another's.
#[tokio::test]
async fn a_date_that_several_forms_share_brings_no_part() {
    const DATES: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                         Date: Fri, 02 Jan 2026 00:00:00 GMT\r\nCache-Control: s-maxage=999999999\r\n";
    let body = text(50_000);
    let gzip = encoded("gzip", &body);
    let origin = Origin::start(move |request| match request.target() {
        "/gzip" => answer(&format!("{DATES}{JSON}Content-Encoding: gzip\r\n"), &gzip),
        "/image" => answer(&format!("{DATES}Content-Type: image/png\r\n"), &body),
        _ => answer(&format!("{DATES}{JSON}"), &body),
    })
    .await;
    let by_date = "Range: bytes=10-19\r\nIf-Range: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
    let by_tag = "Range: bytes=10-19\r\nIf-Range: \"a\"\r\n";
    for (route, path, status) in [
        (BOTH, "/plain", 200),
        (BOTH, "/image", 206),
        (BOTH, "/gzip", 200),
        ("cache = true", "/plain", 206),
        ("cache = true", "/gzip", 200),
    ] {
        let weir = before(&origin, route).await;
        for lines in ["Accept-Encoding: gzip\r\n", ""] {
            eventually(async || get(&weir, path, lines).await, is_hit).await;
            let answer = get(&weir, path, &format!("{lines}{by_date}")).await;
            assert!(is_hit(&answer), "{}", answer.head);
            assert_eq!(answer.status, status, "{route} {path} {lines}");
        }
        if path == "/plain" {
            let part = get(&weir, path, &format!("Accept-Encoding: gzip\r\n{by_tag}")).await;
            assert_eq!(part.status, 206, "{route}");
        }
    }
}

/// RFC 9110 §15.3.7.
#[tokio::test]
async fn a_part_varies_as_the_whole_does_whatever_the_route_does_to_it() {
    let origin = plain_and_gzip(&text(50_000)).await;
    for edits in [
        "remove = [\"vary\"]",
        "set = { vary = \"x-q\" }",
        "set = { cache-control = \"no-transform\" }",
    ] {
        let weir = before(
            &origin,
            &format!("{BOTH}\nresponse_headers = {{ {edits} }}"),
        )
        .await;
        let whole = get(&weir, "/plain", "").await;
        let part = get(&weir, "/plain", "Range: bytes=10-19\r\n").await;
        assert_eq!((part.status, part.body.len()), (206, 10));
        assert_eq!(part.fields("vary"), whole.fields("vary"), "{edits}");
    }
}

#[tokio::test]
async fn clients_find_their_own_tag_in_a_304_whatever_the_coding() {
    let origin = plain_and_gzip(&text(50_000)).await;
    for route in ["cache = true", BOTH] {
        let weir = before(&origin, route).await;
        for path in ["/gzip", "/plain"] {
            for lines in ["", "Accept-Encoding: gzip\r\n"] {
                get(&weir, path, lines).await;
                let hit = eventually(async || get(&weir, path, lines).await, is_hit).await;
                let tag = hit.field("etag");
                let lines = format!("{lines}If-None-Match: {tag}\r\n");
                let same = get(&weir, path, &lines).await;
                assert_eq!((same.status, is_hit(&same)), (304, true));
                assert_eq!(same.field("etag"), tag, "{route} {path} {lines}");
                // What the client has of it is not told what is true of other bytes.
                assert_eq!(same.fields("accept-ranges"), hit.fields("accept-ranges"));
            }
        }
    }
}

/// What is validated keeps its encoded forms.
#[tokio::test]
async fn a_304_does_not_have_everything_encoded_anew() {
    let body = text(100_000);
    let fresh_for = |age: u32| format!("Cache-Control: max-age=60\r\nAge: {age}\r\n{JSON}");
    let answers = Changing::new(answer(&fresh_for(0), &body));
    let origin = answers.origin().await;
    let weir = before(&origin, BOTH).await;
    get_as(&weir, "br").await;
    ready(&weir, "br").await;
    answers.set(response("304 Same", &format!("{FRESH}ETag: \"a\"\r\n"), ""));
    let before = compressed_bytes(&weir).await;
    let validated = get(
        &weir,
        "/",
        "Accept-Encoding: br\r\nCache-Control: max-age=0\r\n",
    )
    .await;
    assert_eq!(
        told(&validated),
        "weir; fwd=request; fwd-status=304; stored"
    );
    assert_eq!(
        validated.fields("content-length").len(),
        1,
        "{}",
        validated.head
    );
    assert_eq!(plain("br", &validated.body), body);
    assert_eq!(compressed_bytes(&weir).await, before);
}

/// Servers do name a coding of nothing.
#[tokio::test]
async fn no_bytes_are_decoded_to_no_bytes() {
    for (status, length) in [
        ("200 OK", "0"),
        ("404 Not Found", "0"),
        ("204 No Content", ""),
    ] {
        let lines = format!("{FRESH}Content-Encoding: gzip\r\n");
        let empty = if length.is_empty() {
            format!("HTTP/1.1 {status}\r\n{lines}\r\n").into_bytes()
        } else {
            response(status, &lines, "")
        };
        let origin = Origin::start(move |_| empty.clone()).await;
        for route in ["cache = true", BOTH] {
            let weir = before(&origin, route).await;
            for _ in 0..2 {
                let plain = get(&weir, "/", "").await;
                assert!(plain.complete, "{}", plain.head);
                assert_eq!((coding(&plain), plain.body.len()), (String::new(), 0));
                assert_eq!(
                    plain.fields("content-length").join(""),
                    length,
                    "{}",
                    plain.head
                );
            }
        }
    }
}

/// Servers do send what is no gzip.
#[tokio::test]
async fn what_cannot_be_decoded_breaks_off() {
    let origin = Origin::start(|_| {
        answer(
            &format!("{FRESH}Content-Encoding: gzip\r\n"),
            "this is no gzip at all",
        )
    })
    .await;
    let weir = before(&origin, "cache = true").await;
    get_as(&weir, "gzip").await;
    let mut connection = weir.connect().await;
    connection
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    let came = String::from_utf8(connection.rest().await).unwrap();
    assert!(!came.contains("gzip"), "{came}");
    let able = get_as(&weir, "gzip").await;
    assert_eq!(able.text(), "this is no gzip at all");
}

/// Codings that weir does not know are for those who ask in the same words.
#[tokio::test]
async fn unknown_codings_are_not_taken_for_what_they_are_not() {
    let origin = counting_by(|request| {
        let accepts = request.fields("accept-encoding").join(",");
        let coded = if accepts.contains("x-own") {
            "Content-Encoding: x-own\r\n"
        } else {
            ""
        };
        format!("{FRESH}Vary: Accept-Encoding\r\n{coded}")
    })
    .await;
    let weir = before(&origin, BOTH).await;
    for (accepts, body, is_coded) in [
        ("x-own", "1", true),
        ("gzip", "2", false),
        ("x-own", "1", true),
        ("", "2", false),
    ] {
        let response = get_as(&weir, accepts).await;
        assert_eq!(
            (response.text().as_str(), !coding(&response).is_empty()),
            (body, is_coded)
        );
    }
}

/// A server that encodes itself: each client gets what it would have got from the server.
#[tokio::test]
async fn without_compression_clients_get_the_coding_that_the_server_chose_for_their_like() {
    let origin = Origin::start(|request| {
        let lines = format!("{FRESH}{JSON}Vary: Accept-Encoding\r\n");
        if request.fields("accept-encoding").join(",").contains("gzip") {
            return answer(
                &format!("{lines}Content-Encoding: gzip\r\n"),
                encoded("gzip", "hello"),
            );
        }
        answer(&lines, "hello")
    })
    .await;
    let weir = before(&origin, "cache = true").await;
    assert!(coding(&get(&weir, "/", "").await).is_empty());
    // The one without a coding is not for those who take one.
    assert_eq!(coding(&get_as(&weir, "gzip, br").await), "gzip");
    assert_eq!(coding(&get_as(&weir, "gzip").await), "gzip");
    assert!(coding(&get(&weir, "/", "").await).is_empty());
    assert_eq!(origin.requests().len(), 2);
}
