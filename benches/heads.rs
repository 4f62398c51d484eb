//! Parsing the heads of responses, and writing those of requests as a browser sends them.
#![allow(clippy::unwrap_used, reason = "what cannot go on fails")]

use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Request;
use weir::config;
use weir::internals::{ReceivedRequest, Receiver};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx\r\n\
    Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 5120\r\n\
    Connection: keep-alive\r\n\
    Keep-Alive: timeout=60\r\n\
    Last-Modified: Mon, 14 Nov 1994 08:12:31 GMT\r\n\
    ETag: \"5f2b-1a2b3c4d5e6f\"\r\n\
    Cache-Control: public, max-age=300\r\n\
    Vary: Accept-Encoding\r\n\
    X-Frame-Options: SAMEORIGIN\r\n\
    Accept-Ranges: bytes\r\n\r\n";

/// The thirteen fields of a browser.
const FIELDS: [(&str, &str); 13] = [
    ("host", "www.example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.example.com/catalogue/page/3"),
    (
        "cookie",
        "session=4f7a9e0c5d3b4b0f8f4e2a; theme=dark; consent=all",
    ),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("priority", "u=0, i"),
    ("connection", "keep-alive"),
];

fn request() -> Request<()> {
    let request = Request::get("/catalogue/item/4711?colour=blue&size=m");
    FIELDS
        .into_iter()
        .fold(request, |request, (name, value)| {
            request.header(name, value)
        })
        .body(())
        .unwrap()
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heads");
    let response = Bytes::from_static(RESPONSE);
    let receiver = Receiver::new();
    assert_eq!(
        receiver.parse_response_head(&response),
        Some(10),
        "without what concerns the connection alone"
    );
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("parse a response", |bencher| {
        bencher.iter(|| black_box(Receiver::new().parse_response_head(black_box(&response))));
    });
    group.bench_function("parse a response like those before", |bencher| {
        bencher.iter(|| black_box(receiver.parse_response_head(black_box(&response))));
    });

    let text = "[log]\naccess = \"off\"\n[listen.web]\naddress = \":0\"\n[route.site]\nupstream = \"app\"\n\
                [upstream.app]\nservers = [\"127.0.0.1:3000\"]\n";
    let received = ReceivedRequest::new(
        config::parse(text, Path::new("bench.toml")).unwrap(),
        request(),
    )
    .unwrap();
    let mut out = Vec::with_capacity(4096);
    let timed = received.with_writer(|write| {
        write(&mut out);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function("write a request", |bencher| {
            bencher.iter(|| {
                out.clear();
                write(black_box(&mut out));
            });
        });
    });
    timed.unwrap();
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
