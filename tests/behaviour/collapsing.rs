//! Many who ask for the same at the same time: one fetch for all of them, and nothing that is another's.
//!
//! Those who wait are on HTTP/2 connections where a test has to know that they do: behind them a request is sent that weir
//! answers by itself, and when that is answered, all before it have been taken up.

use h2::client::ResponseFuture;
use tokio::task::JoinHandle;

use crate::support::cache::{FRESH, before, config, count, counting, get, is_hit, told};
use crate::support::codings::encoded;
use crate::support::http2::{self, Http2};
use crate::support::manual::{Manual, Server};
use crate::support::{Connection, Weir, eventually};

/// A weir with these keys for its route, and a route `/barrier` that answers by itself.
async fn weir(manual: &Manual, route: &str, upstream: &str) -> Weir {
    let barrier = "[route.barrier]\npath = \"/barrier\"\nrespond = { status = 204 }\n";
    let config = config(&[&manual.origin], route, upstream);
    Weir::start(&format!("{barrier}{config}")).await
}

/// Clients on one connection that have asked for `/` and wait.
struct Waiting {
    http2: Http2,
    responses: Vec<ResponseFuture>,
}

impl Waiting {
    async fn start(weir: &Weir, clients: usize, fields: &[(&str, &str)]) -> Self {
        let mut waiting = Self {
            http2: Http2::open(weir.address()).await,
            responses: Vec::new(),
        };
        waiting.more(clients, fields).await;
        waiting
    }

    async fn more(&mut self, clients: usize, fields: &[(&str, &str)]) {
        for _ in 0..clients {
            let request = http2::request("GET", "/");
            let add = |request: http::request::Builder, (name, value): &(&str, &str)| {
                request.header(*name, *value)
            };
            let request = fields.iter().fold(request, add).body(()).unwrap();
            self.responses.push(self.http2.send(request, true).await.0);
        }
        self.barrier().await;
    }

    /// Waits until weir has taken up all that was sent before.
    async fn barrier(&mut self) {
        assert_eq!(self.http2.get("/barrier").await.status, 204);
    }

    /// All responses: status and text.
    async fn all(self) -> Vec<(u16, String)> {
        let mut all = Vec::new();
        for response in self.responses {
            let answer = http2::answer(response).await.unwrap();
            all.push((answer.status.as_u16(), answer.text().to_owned()));
        }
        all
    }
}

async fn ask(connection: &mut Connection, lines: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
    connection.send(&request).await;
}

/// The first client, whose request the server has now.
async fn first(weir: &Weir, manual: &mut Manual) -> (Connection, Server) {
    let mut first = weir.connect().await;
    ask(&mut first, "").await;
    let (server, _) = manual.request().await;
    (first, server)
}

/// A whole response.
fn whole(lines: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{lines}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The head of a response that is fresh, and the first half of its body, `hello`.
fn begun() -> String {
    format!("HTTP/1.1 200 OK\r\n{FRESH}Connection: close\r\nContent-Length: 10\r\n\r\nhello")
}

/// Reads a head, and of the body that many bytes.
async fn beginning(connection: &mut Connection, length: usize) -> (String, Vec<u8>) {
    let head = connection.head().await;
    while connection.buffer.len() < length {
        assert!(connection.read().await, "{head}");
    }
    (head, connection.buffer.drain(..length).collect())
}

async fn connections(weir: &Weir) -> f64 {
    weir.metric("weir_connections{listen=\"web\"}").await
}

async fn until_connections(weir: &Weir, number: f64) {
    eventually(async || connections(weir).await, |open| *open == number).await;
}

#[tokio::test]
async fn many_misses_are_one_fetch_and_all_get_each_byte_as_it_comes() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "[process]\nworkers = 3").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = weir.connect().await;
        ask(&mut client, "").await;
        clients.push(client);
    }
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(Waiting::start(&weir, 10, &[]).await);
    }
    server.send(begun()).await;
    let (head, piece) = beginning(&mut leader, 5).await;
    assert!(head.contains("weir; fwd=uri-miss; stored"), "{head}");
    assert_eq!(piece, b"hello");
    for client in &mut clients {
        let (head, piece) = beginning(client, 5).await;
        assert!(head.contains("weir; fwd=uri-miss; collapsed"), "{head}");
        assert!(head.contains("content-length: 10"), "{head}");
        assert_eq!(piece, b"hello");
    }
    let mut bodies = Vec::new();
    for response in waiting.iter_mut().flat_map(|it| it.responses.drain(..)) {
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!(
            head.headers["cache-status"],
            "weir; fwd=uri-miss; collapsed"
        );
        assert_eq!(&*body.data().await.unwrap().unwrap(), b"hello");
        bodies.push(body);
    }
    // Who comes now finds the beginning as well.
    let mut late = weir.connect().await;
    ask(&mut late, "").await;
    assert_eq!(beginning(&mut late, 5).await.1, b"hello");
    server.send("world").await;
    for client in clients.iter_mut().chain([&mut leader, &mut late]) {
        while client.buffer.len() < 5 {
            assert!(client.read().await);
        }
        assert_eq!(client.buffer, b"world");
    }
    for mut body in bodies {
        assert_eq!(http2::read(&mut body).await.unwrap().0, b"world");
    }
    let hit = eventually(async || get(&weir, "/", "").await, is_hit).await;
    assert_eq!(hit.text(), "helloworld");
    assert_eq!(manual.origin.connections(), 1);
    assert!(count(&weir, "collapsed").await >= 61.0);
    assert_eq!(count(&weir, "miss").await, 1.0);
}

/// Whoever looks just before the fetch of another ends, and would begin one just after.
#[tokio::test]
async fn who_comes_while_a_fetch_ends_does_not_ask_once_more() {
    const ROUNDS: usize = 300;
    let origin = counting(FRESH).await;
    let more = "[process]\nworkers = 4";
    let weir = Weir::start(&config(&[&origin], "cache = true", more)).await;
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(weir.connect().await);
    }
    for round in 0..ROUNDS {
        for client in &mut clients {
            let request = format!("GET /{round} HTTP/1.1\r\nHost: test\r\n\r\n");
            client.send(&request).await;
        }
        for client in &mut clients {
            assert_eq!(client.response().await.status, 200);
        }
    }
    assert_eq!(origin.requests().len(), ROUNDS);
}

/// A small response comes whole with its head.
#[tokio::test]
async fn who_waits_gets_a_response_that_comes_at_once() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let waiting = Waiting::start(&weir, 8, &[]).await;
    server.send(whole(FRESH, "hello")).await;
    assert_eq!(leader.response().await.text(), "hello");
    assert_eq!(waiting.all().await, vec![(200, "hello".to_owned()); 8]);
    assert_eq!(manual.origin.connections(), 1);
    assert_eq!(count(&weir, "collapsed").await, 8.0);
}

#[tokio::test]
async fn without_collapse_each_asks_for_itself() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = { collapse = false }", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let mut other = weir.connect().await;
    ask(&mut other, "").await;
    let (mut second, _) = manual.request().await;
    second.send(whole(FRESH, "second")).await;
    assert_eq!(other.response().await.text(), "second");
    server.send(whole(FRESH, "first")).await;
    assert_eq!(leader.response().await.text(), "first");
}

#[tokio::test]
async fn the_first_client_may_leave_at_any_time() {
    for is_begun in [false, true] {
        let mut manual = Manual::start().await;
        let weir = weir(&manual, "cache = true", "").await;
        let (mut leader, mut server) = first(&weir, &mut manual).await;
        let waiting = Waiting::start(&weir, 4, &[]).await;
        if is_begun {
            server.send(begun()).await;
            beginning(&mut leader, 5).await;
        }
        drop(leader);
        until_connections(&weir, 1.0).await;
        server
            .send(if is_begun { String::new() } else { begun() })
            .await;
        server.send("world").await;
        assert_eq!(waiting.all().await, vec![(200, "helloworld".to_owned()); 4]);
        let hit = eventually(async || get(&weir, "/", "").await, is_hit).await;
        assert_eq!(hit.text(), "helloworld");
        assert_eq!(manual.origin.connections(), 1);
    }
}

#[tokio::test]
async fn a_fetch_for_which_nobody_waits_any_more_ends() {
    for is_begun in [false, true] {
        let mut manual = Manual::start().await;
        let weir = weir(&manual, "cache = true", "").await;
        let (mut leader, mut server) = first(&weir, &mut manual).await;
        let waiting = Waiting::start(&weir, 2, &[]).await;
        assert_eq!(weir.metric("weir_cache_fills").await, 1.0);
        if is_begun {
            server.send(begun()).await;
            beginning(&mut leader, 5).await;
        }
        drop(waiting);
        until_connections(&weir, 1.0).await;
        drop(leader);
        assert_eq!(server.rest().await, b"", "weir closes the connection");
        eventually(
            async || weir.metric("weir_cache_fills").await,
            |fills| *fills == 0.0,
        )
        .await;
        // Nothing of it is left.
        let mut next = weir.connect().await;
        ask(&mut next, "").await;
        let (mut server, _) = manual.request().await;
        server.send(whole(FRESH, "next")).await;
        assert_eq!(next.response().await.text(), "next");
    }
}

/// One after the other would take for ever, all at once would finish off a server in trouble.
#[tokio::test]
async fn those_who_waited_for_a_fetch_that_failed_ask_again_a_few_at_a_time() {
    let mut manual = Manual::start().await;
    let weir = weir(
        &manual,
        "cache = true",
        "retry = \"off\"\nejection = \"off\"",
    )
    .await;
    let (mut leader, server) = first(&weir, &mut manual).await;
    let mut waiting = Waiting::start(&weir, 16, &[]).await;
    server.reset();
    assert_eq!(leader.response().await.status, 502);
    let (mut fails, _) = manual.request().await;
    waiting.barrier().await;
    assert!(
        manual.origin.connections() <= 3,
        "{}",
        manual.origin.connections()
    );
    let unavailable = "HTTP/1.1 503 Away\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    fails.send(unavailable).await;
    let (mut server, _) = manual.request().await;
    waiting.barrier().await;
    server.send(whole(FRESH, "hello")).await;
    // Others may have asked at the same time.
    tokio::spawn(async move {
        loop {
            let (mut server, _) = manual.request().await;
            server.send(whole(FRESH, "hello")).await;
        }
    });
    let all = waiting.all().await;
    let failed = all.iter().filter(|(status, _)| *status == 503).count();
    assert!((1..=2).contains(&failed), "{all:?}");
    assert!(
        all.iter()
            .all(|(status, text)| *status == 503 || text == "hello")
    );
}

/// The responses of one client must not get to another, and no client waits for another's.
#[tokio::test]
async fn what_is_for_one_client_reaches_no_other_and_nobody_waits_in_line() {
    for control in [
        "Cache-Control: private\r\n",
        "Cache-Control: no-store\r\n",
        "Set-Cookie: session=1\r\nCache-Control: max-age=60\r\n",
        "Cache-Control: max-age=60\r\nVary: *\r\n",
        "",
    ] {
        let mut manual = Manual::start().await;
        let weir = weir(&manual, "cache = true", "").await;
        let (mut leader, mut server) = first(&weir, &mut manual).await;
        let mut clients = Vec::new();
        for client in 0..6 {
            let client = client.to_string();
            clients.push(Waiting::start(&weir, 1, &[("x-user", &client)]).await);
        }
        server.send(whole(control, "leader")).await;
        let response = leader.response().await;
        assert_eq!(response.text(), "leader");
        assert!(told(&response).contains("; detail="), "{}", response.head);
        // All of them are with the server before any is answered, and so are those who come now.
        for client in 6..9 {
            let client = client.to_string();
            clients.push(Waiting::start(&weir, 1, &[("x-user", &client)]).await);
        }
        let mut servers = Vec::new();
        for _ in &clients {
            servers.push(manual.request().await);
        }
        for (mut server, request) in servers {
            server.send(whole(control, request.field("x-user"))).await;
        }
        for (number, client) in clients.into_iter().enumerate() {
            assert_eq!(client.all().await, [(200, number.to_string())], "{control}");
        }
    }
}

/// RFC 9111 §4.1, while the response that says `Vary` is on its way.
#[tokio::test]
async fn those_who_wait_for_another_variant_do_not_get_this_one() {
    for is_begun in [false, true] {
        let mut manual = Manual::start().await;
        let weir = weir(&manual, "cache = true", "").await;
        let (mut leader, mut server) = first(&weir, &mut manual).await;
        let same = Waiting::start(&weir, 2, &[]).await;
        let mut other = Waiting::start(&weir, 4, &[("rsc", "1")]).await;
        let vary = format!("{FRESH}Vary: rsc\r\n");
        let page = whole(&vary, "page");
        let length = page.len() - if is_begun { 4 } else { 0 };
        server.send(&page[..length]).await;
        // They go on to ask at once, not when the page is whole.
        let (mut component, request) = manual.request().await;
        assert_eq!(request.field("rsc"), "1");
        other.more(2, &[("rsc", "1")]).await;
        component.send(whole(&vary, "component")).await;
        tokio::spawn(async move {
            loop {
                let (mut server, request) = manual.request().await;
                assert_eq!(request.field("rsc"), "1");
                server.send(whole(&vary, "component")).await;
            }
        });
        assert_eq!(other.all().await, vec![(200, "component".to_owned()); 6]);
        server.send(&page[length..]).await;
        assert_eq!(leader.response().await.text(), "page");
        assert_eq!(same.all().await, vec![(200, "page".to_owned()); 2]);
    }
}

/// What the client that made the fetch can decode, another may not. It need not be fetched again for that.
#[tokio::test]
async fn those_who_wait_and_cannot_decode_it_get_it_decoded() {
    let encoded = encoded("gzip", "hello");
    for (vary, is_begun) in [("", true), ("Vary: Accept-Encoding\r\n", true), ("", false)] {
        let mut manual = Manual::start().await;
        let weir = weir(&manual, "cache = true", "").await;
        let mut leader = weir.connect().await;
        ask(&mut leader, "Accept-Encoding: gzip\r\n").await;
        let (mut server, _) = manual.request().await;
        let plain = Waiting::start(&weir, 2, &[]).await;
        let able = Waiting::start(&weir, 2, &[("accept-encoding", "gzip")]).await;
        let length = encoded.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\n{FRESH}{vary}Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let response = [head.as_bytes(), &encoded].concat();
        let split = if is_begun {
            head.len() + 5
        } else {
            response.len()
        };
        server.send(&response[..split]).await;
        if is_begun {
            beginning(&mut leader, 0).await;
        }
        server.send(&response[split..]).await;
        for response in plain.responses {
            let answer = http2::answer(response).await.unwrap();
            assert!(
                !answer.headers.contains_key("content-encoding"),
                "{answer:?}"
            );
            assert_eq!(answer.text(), "hello");
        }
        for response in able.responses {
            let answer = http2::answer(response).await.unwrap();
            assert_eq!(answer.headers["content-encoding"], "gzip");
            assert_eq!(answer.body, encoded);
        }
        assert_eq!(manual.origin.connections(), 1);
    }
}

/// That it is too large may be known before it comes, or when it has grown.
#[tokio::test]
async fn what_is_too_large_goes_to_all_who_wait_and_then_to_each_alone() {
    let body = "x".repeat(1 << 20);
    let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Connection: close\r\n");
    let mut manual = Manual::start().await;
    let limited = weir(&manual, "cache = true", SMALL).await;
    let (mut leader, mut server) = first(&limited, &mut manual).await;
    let waiting = Waiting::start(&limited, 3, &[]).await;
    let mut bodies: Vec<_> = waiting
        .responses
        .into_iter()
        .map(|response| tokio::spawn(async { http2::answer(response).await.unwrap().body }))
        .collect();
    bodies.push(tokio::spawn(async move { leader.response().await.body }));
    let length = body.len();
    server
        .send(format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
        ))
        .await;
    for piece in body.as_bytes().chunks(64 << 10) {
        server.send(piece).await;
    }
    server.send("\r\n0\r\n\r\n").await;
    for read in bodies {
        assert!(read.await.unwrap() == body.as_bytes());
    }
    assert_eq!(manual.origin.connections(), 1);
    // By now it is known: nobody waits for another.
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let mut client = limited.connect().await;
        ask(&mut client, "").await;
        clients.push(client);
        servers.push(manual.request().await.0);
    }
    for mut server in servers {
        server.send(whole(FRESH, "small")).await;
    }
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "small");
    }

    let mut manual = Manual::start().await;
    let limited = weir(&manual, "cache = true", SMALL).await;
    let (mut leader, mut server) = first(&limited, &mut manual).await;
    let waiting = Waiting::start(&limited, 2, &[]).await;
    server
        .send(format!("{head}Content-Length: {length}\r\n\r\nx"))
        .await;
    let (head, _) = beginning(&mut leader, 1).await;
    assert!(head.contains("; detail=too-large"), "{head}");
    for _ in 0..2 {
        let (mut server, _) = manual.request().await;
        server.send(whole("", "own")).await;
    }
    assert_eq!(waiting.all().await, vec![(200, "own".to_owned()); 2]);
}

/// What is longer than this is not stored.
const SMALL: &str = "[cache]\nmax_object_size = \"100KiB\"";

/// A client that has read the head of a long response only, its server, and the length that another client gets of it.
async fn slow_and_quick(
    weir: &Weir,
    manual: &mut Manual,
) -> (Connection, Server, JoinHandle<usize>) {
    let (mut slow, mut server) = first(weir, manual).await;
    let mut quick = Waiting::start(weir, 1, &[]).await;
    let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Connection: close\r\n\r\n");
    server.send(head).await;
    beginning(&mut slow, 0).await;
    let mut body = quick.responses.remove(0).await.unwrap().into_body();
    let drained = tokio::spawn(async move { http2::read(&mut body).await.unwrap().0.len() });
    (slow, server, drained)
}

/// A slow client among those who wait must not make weir hold what it does not store.
#[tokio::test]
async fn what_is_not_kept_is_read_no_faster_than_the_slowest_takes_it() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", SMALL).await;
    let (slow, mut server, drained) = slow_and_quick(&weir, &mut manual).await;
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    // Until it does not take any more: the sockets' buffers and a window.
    while tokio::time::timeout(
        std::time::Duration::from_secs(1),
        tokio::io::AsyncWriteExt::write_all(&mut server.stream, &piece),
    )
    .await
    .is_ok()
    {
        sent += piece.len();
        assert!(sent < 64 << 20, "it is held somewhere");
    }
    drop(slow);
    // Without the slow one it goes on.
    server.send(&piece).await;
    drop(server);
    assert!(drained.await.unwrap() > sent);
}

/// One that takes nothing at all must not keep it from the others for good.
#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", SMALL).await;
    let (mut stalled, mut server, drained) = slow_and_quick(&weir, &mut manual).await;
    let piece = vec![b'x'; 1 << 20];
    // More than the sockets and the window take.
    for _ in 0..64 {
        server.send(&piece).await;
    }
    drop(server);
    assert_eq!(drained.await.unwrap(), 64 << 20);
    // What had gone to it before, and no word of an end.
    let part = stalled.rest().await;
    assert!(part.len() < 64 << 20, "{}", part.len());
    assert!(!part.ends_with(b"\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn what_is_stale_is_validated_once_for_all_who_ask() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let stale = "Cache-Control: max-age=60\r\nAge: 61\r\nETag: \"a\"\r\n";
    server.send(whole(stale, "hello")).await;
    leader.response().await;
    let mut leader = weir.connect().await;
    ask(&mut leader, "").await;
    let (mut server, request) = manual.request().await;
    assert_eq!(request.field("if-none-match"), "\"a\"");
    let waiting = Waiting::start(&weir, 5, &[]).await;
    server
        .send(format!(
            "HTTP/1.1 304 Same\r\n{FRESH}ETag: \"a\"\r\nConnection: close\r\n\r\n"
        ))
        .await;
    let response = leader.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert_eq!(waiting.all().await, vec![(200, "hello".to_owned()); 5]);
    assert_eq!(manual.origin.connections(), 2);
}

/// `no-cache` must be validated for each: nobody may get what was fetched before they asked.
#[tokio::test]
async fn what_must_be_validated_each_time_is_not_shared() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let lines = "Cache-Control: no-cache\r\nETag: \"a\"\r\n";
    server.send(whole(lines, "hello")).await;
    leader.response().await;
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let mut client = weir.connect().await;
        ask(&mut client, "").await;
        clients.push(client);
        servers.push(manual.request().await.0);
    }
    for mut server in servers {
        server
            .send(format!(
                "HTTP/1.1 304 Same\r\n{lines}Connection: close\r\n\r\n"
            ))
            .await;
    }
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "hello");
    }
}

/// What comes stale is for the one who asked. The others are not to wait for each other.
#[tokio::test]
async fn what_comes_stale_is_not_shared_and_nobody_waits_in_line() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let waiting = Waiting::start(&weir, 4, &[]).await;
    let stale = "Cache-Control: max-age=60\r\nAge: 61\r\nETag: \"a\"\r\n";
    server.send(whole(stale, "first")).await;
    assert_eq!(leader.response().await.text(), "first");
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(manual.request().await);
    }
    for (mut server, request) in servers {
        assert_eq!(request.field("if-none-match"), "\"a\"");
        server.send(whole(stale, "own")).await;
    }
    assert_eq!(waiting.all().await, vec![(200, "own".to_owned()); 4]);
}

#[tokio::test]
async fn clients_that_want_nothing_fetched_or_want_it_fresh_do_not_wait() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let refused = get(&weir, "/", "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(refused.status, 504);
    let mut fresh = weir.connect().await;
    ask(&mut fresh, "Cache-Control: no-cache\r\n").await;
    let (mut second, _) = manual.request().await;
    second.send(whole(FRESH, "second")).await;
    assert_eq!(fresh.response().await.text(), "second");
    server.send(whole(FRESH, "first")).await;
    assert_eq!(leader.response().await.text(), "first");
}

/// What the route assumes is for requests of nobody in particular, also while it is on its way.
#[tokio::test]
async fn clients_that_say_who_they_are_do_not_get_what_is_assumed_for_others() {
    let mut manual = Manual::start().await;
    let route = "[route.site.cache]\ndefault_ttl = \"10m\"\n";
    let weir = weir(&manual, route, "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let personal = [("cookie", "id=1"), ("authorization", "Basic YTpi")];
    let mut waiting = Vec::new();
    for field in personal {
        waiting.push(Waiting::start(&weir, 1, &[field]).await);
    }
    let anyone = Waiting::start(&weir, 1, &[]).await;
    server.send(whole("", "for anyone")).await;
    assert_eq!(leader.response().await.text(), "for anyone");
    assert_eq!(anyone.all().await, [(200, "for anyone".to_owned())]);
    for _ in personal {
        let (mut server, request) = manual.request().await;
        let names = personal.map(|(name, _)| name);
        let name = names
            .into_iter()
            .find(|name| !request.fields(name).is_empty());
        server.send(whole("", name.unwrap())).await;
    }
    for (waiting, (name, _)) in waiting.into_iter().zip(personal) {
        assert_eq!(waiting.all().await, [(200, name.to_owned())]);
    }
}

#[tokio::test]
async fn who_waits_waits_no_longer_than_the_route_allows() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true\ntimeout = \"500ms\"", "").await;
    let (mut leader, server) = first(&weir, &mut manual).await;
    let waiting = Waiting::start(&weir, 3, &[]).await;
    assert_eq!(leader.response().await.status, 504);
    for (status, _) in waiting.all().await {
        assert_eq!(status, 504);
    }
    drop(server);
}

#[tokio::test]
async fn what_breaks_off_breaks_off_for_all_and_is_not_stored() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "retry = \"off\"").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let waiting = Waiting::start(&weir, 2, &[]).await;
    let mut old = weir.connect().await;
    old.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").await;
    server.send(begun()).await;
    beginning(&mut leader, 5).await;
    beginning(&mut old, 5).await;
    server.reset();
    assert_eq!(leader.rest().await, b"");
    assert_eq!(old.rest().await, b"");
    for response in waiting.responses {
        assert!(http2::answer(response).await.is_err());
    }
    let mut next = weir.connect().await;
    ask(&mut next, "").await;
    let (mut server, _) = manual.request().await;
    server.send(whole(FRESH, "next")).await;
    assert_eq!(next.response().await.text(), "next");
}

/// Whoever waits brings conditions of their own.
#[tokio::test]
async fn who_waits_and_has_it_already_is_told_so() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (mut leader, mut server) = first(&weir, &mut manual).await;
    let known = Waiting::start(&weir, 1, &[("if-none-match", "\"a\"")]).await;
    let other = Waiting::start(&weir, 1, &[("if-none-match", "\"b\"")]).await;
    server
        .send(format!(
            "HTTP/1.1 200 OK\r\n{FRESH}ETag: \"a\"\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhello"
        ))
        .await;
    assert_eq!(known.all().await, [(304, String::new())]);
    let mut later = weir.connect().await;
    ask(&mut later, "If-None-Match: \"a\"\r\n").await;
    // RFC 9211 §2.3: it is not the server that said 304.
    assert_eq!(
        told(&later.response().await),
        "weir; fwd=uri-miss; fwd-status=200; collapsed"
    );
    server.send("world").await;
    assert_eq!(other.all().await, [(200, "helloworld".to_owned())]);
    assert_eq!(leader.response().await.text(), "helloworld");
}

#[tokio::test]
async fn a_fetch_is_retried_as_any_request() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "ejection = \"off\"").await;
    let (mut leader, server) = first(&weir, &mut manual).await;
    let waiting = Waiting::start(&weir, 3, &[]).await;
    server.reset();
    let (mut server, _) = manual.request().await;
    server.send(whole(FRESH, "hello")).await;
    assert_eq!(leader.response().await.text(), "hello");
    assert_eq!(waiting.all().await, vec![(200, "hello".to_owned()); 3]);
    assert_eq!(manual.origin.connections(), 2);
}

/// A client on one connection, which may be slow, must not hold up those on others.
#[tokio::test]
async fn the_first_client_reading_nothing_holds_up_nobody() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual, "cache = true", "").await;
    let (_leader, mut server) = first(&weir, &mut manual).await;
    let mut other = weir.connect().await;
    ask(&mut other, "").await;
    let body = "x".repeat(8_000_000);
    let length = body.len();
    let writing = tokio::spawn(async move {
        let head = format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: {length}\r\n\r\n");
        server.send(head).await;
        server.send(body).await;
        server
    });
    assert_eq!(other.response().await.body.len(), length);
    writing.await.unwrap();
    let hit = eventually(async || get(&weir, "/", "").await, is_hit).await;
    assert_eq!(hit.body.len(), length);
}

#[tokio::test]
async fn hosts_are_not_collapsed_into_one() {
    let mut manual = Manual::start().await;
    let weir = before(&manual.origin, "cache = true").await;
    let mut clients = Vec::new();
    for host in ["a.example", "b.example"] {
        let mut client = weir.connect().await;
        client
            .send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        clients.push((client, host));
    }
    for _ in 0..2 {
        let (mut server, request) = manual.request().await;
        let host = request.field("host").to_owned();
        server.send(whole(FRESH, &host)).await;
    }
    for (client, host) in &mut clients {
        assert_eq!(client.response().await.text(), *host);
    }
}
