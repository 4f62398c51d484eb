//! Stored responses that are taken out of use by hand.

use serde_json::{Value, json};

use crate::support::cache::{
    Changing, FRESH, answer, ask, before, caching, config, counting, counting_by, get, is_hit,
    purge, told,
};
use crate::support::manual::Manual;
use crate::support::{Origin, Response, Weir, eventually};

/// `GET path` for that host.
async fn of(weir: &Weir, host: &str, path: &str) -> Response {
    weir.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await
}

/// Asks for all of these, and which are stored.
async fn stored(weir: &Weir, targets: &[(&str, &str)]) -> Vec<bool> {
    let mut stored = Vec::new();
    for (host, path) in targets {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nCache-Control: only-if-cached\r\n\r\n");
        stored.push(weir.ask(&request).await.status == 200);
    }
    stored
}

const TARGETS: [(&str, &str); 6] = [
    ("a.example", "/"),
    ("a.example", "/shop/1"),
    ("a.example", "/shop/1?x"),
    ("a.example", "/shopping"),
    ("b.example", "/shop/1"),
    ("a.example:8080", "/shop/1"),
];

/// Stores all of them; returns which were kept by this purge.
async fn kept_by(body: &Value) -> (u64, Vec<bool>) {
    let origin = counting_by(|request| {
        let tag = match request.target() {
            "/" => "Cache-Tag: home, all pages\r\n",
            "/shop/1" => "Cache-Tag: item-1,shop\r\nSurrogate-Key: one two\r\n",
            "/shop/1?x" => "Surrogate-Key: shop three\r\nSurrogate-Key: four\r\n",
            _ => "Cache-Tag: SHOP\r\n",
        };
        format!("{FRESH}{tag}")
    })
    .await;
    let weir = caching(&origin).await;
    for (host, path) in TARGETS {
        of(&weir, host, path).await;
    }
    assert_eq!(stored(&weir, &TARGETS).await, [true; 6]);
    let purged = purge(&weir, body).await;
    let metric = weir.metric("weir_cache_purged_total").await;
    assert_eq!(metric, f64::from(u32::try_from(purged).unwrap()));
    (purged, stored(&weir, &TARGETS).await)
}

#[tokio::test]
async fn what_is_meant_goes_and_nothing_else() {
    for (body, kept) in [
        (
            json!({ "url": "http://a.example/shop/1" }),
            [1, 0, 1, 1, 1, 1],
        ),
        (
            json!({ "url": "HTTP://A.example:80/./%73hop/1" }),
            [1, 0, 1, 1, 1, 1],
        ),
        (
            json!({ "url": "http://a.example/shop/1?x" }),
            [1, 1, 0, 1, 1, 1],
        ),
        (
            json!({ "url": "http://a.example:8080/shop/1" }),
            [1, 1, 1, 1, 1, 0],
        ),
        (
            json!({ "url": "https://a.example/shop/1" }),
            [1, 1, 1, 1, 1, 1],
        ),
        (
            json!({ "prefix": "http://a.example/shop/" }),
            [1, 0, 0, 1, 1, 1],
        ),
        (
            json!({ "prefix": "http://a.example/shop*" }),
            [1, 0, 0, 0, 1, 1],
        ),
        (json!({ "prefix": "http://a.example" }), [0, 0, 0, 0, 1, 1]),
        (json!({ "tag": "shop" }), [1, 0, 0, 1, 0, 0]),
        (json!({ "tag": "all pages" }), [0, 1, 1, 1, 1, 1]),
        (json!({ "tag": "two" }), [1, 0, 1, 1, 0, 0]),
        (json!({ "tag": "four" }), [1, 1, 0, 1, 1, 1]),
        (json!({ "tag": "none" }), [1, 1, 1, 1, 1, 1]),
        (json!({ "all": true }), [0, 0, 0, 0, 0, 0]),
    ] {
        let (purged, stored) = kept_by(&body).await;
        assert_eq!(stored, kept.map(|kept| kept == 1), "{body}");
        let gone = kept.iter().filter(|kept| **kept == 0).count();
        assert_eq!(purged, gone as u64, "{body}");
    }
}

#[tokio::test]
async fn all_variants_of_a_target_go() {
    let origin = counting("Cache-Control: max-age=60\r\nVary: X-A\r\n").await;
    let weir = caching(&origin).await;
    for a in ["1", "2"] {
        get(&weir, "/", &format!("X-A: {a}\r\n")).await;
    }
    assert_eq!(purge(&weir, &json!({ "url": "http://test/" })).await, 2);
    for a in ["1", "2"] {
        assert!(!is_hit(&get(&weir, "/", &format!("X-A: {a}\r\n")).await));
    }
}

/// Where the query does not count in full, a URL is that of all that share its key.
#[tokio::test]
async fn a_url_is_purged_by_the_key_that_its_route_makes_of_it() {
    for (route, asked, purged) in [
        ("key_query = \"none\"", "/?a=1", "http://test/?b=2"),
        ("key_query = [\"a\"]", "/?a=1&b=2", "http://test/?c=3&a=1"),
        ("key_query_sort = true", "/?a=1&b=2", "http://test/?b=2&a=1"),
    ] {
        let origin = counting(FRESH).await;
        let weir = before(&origin, &format!("cache = {{ {route} }}")).await;
        get(&weir, asked, "").await;
        assert_eq!(purge(&weir, &json!({ "url": purged })).await, 1, "{route}");
        assert!(!is_hit(&get(&weir, asked, "").await), "{route}");
    }
}

/// A soft purge makes stale: validated, used where what is stale is.
#[tokio::test]
async fn what_is_purged_softly_is_stale() {
    for body in [
        json!({ "url": "http://test/", "soft": true }),
        json!({ "tag": "x", "soft": true }),
        json!({ "prefix": "http://test", "soft": true }),
        json!({ "all": true, "soft": true }),
    ] {
        let lines = |control: &str| {
            format!("Cache-Control: max-age=60{control}\r\nETag: \"a\"\r\nCache-Tag: x\r\n")
        };
        let answers = Changing::new(answer(&lines(""), "old"));
        let origin = answers.origin().await;
        let weir = caching(&origin).await;
        get(&weir, "/", "").await;
        assert_eq!(purge(&weir, &body).await, 1);
        answers.set(b"HTTP/1.1 304 Same\r\nETag: \"a\"\r\n\r\n".to_vec());
        let validated = get(&weir, "/", "").await;
        assert_eq!(
            told(&validated),
            "weir; fwd=stale; fwd-status=304; stored",
            "{body}"
        );
        assert_eq!(validated.text(), "old");
        assert!(is_hit(&get(&weir, "/", "").await));

        answers.set(answer(&lines(", stale-while-revalidate=60"), "new"));
        purge(&weir, &json!({ "all": true })).await;
        get(&weir, "/", "").await;
        purge(&weir, &body).await;
        let stale = get(&weir, "/", "").await;
        assert!(
            told(&stale).ends_with("; detail=stale-while-revalidate"),
            "{}",
            stale.head
        );
        let fresh = |response: &Response| !told(response).contains("detail");
        eventually(async || get(&weir, "/", "").await, fresh).await;

        purge(&weir, &body).await;
        drop(origin);
        // The window that the route has for failures: the response has none of its own.
        let served = eventually(
            async || get(&weir, "/", "").await,
            |served| told(served).contains("detail="),
        )
        .await;
        assert_eq!((served.status, served.text().as_str()), (200, "new"));
    }
}

/// The server may have made it from what the purge was about.
#[tokio::test]
async fn what_was_being_fetched_when_the_purge_came_is_not_stored() {
    for body in [
        json!({ "url": "http://test/" }),
        json!({ "prefix": "http://test/" }),
        json!({ "tag": "x" }),
        json!({ "all": true }),
        json!({ "all": true, "soft": true }),
    ] {
        for is_begun in [false, true] {
            let mut manual = Manual::start().await;
            let weir = caching(&manual.origin).await;
            let mut client = weir.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
            let (mut server, _) = manual.request().await;
            let lines = format!("{FRESH}Cache-Tag: x\r\nConnection: close\r\n");
            let head = answer(&lines, "hello");
            let split = head.len() - 3;
            if is_begun {
                server.send(&head[..split]).await;
                client.head().await;
            }
            purge(&weir, &body).await;
            // Who comes after the purge does not get it either.
            let mut later = weir.connect().await;
            later.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
            let (mut second, _) = manual.request().await;
            if is_begun {
                server.send(&head[split..]).await;
                while client.buffer.len() < 5 {
                    assert!(client.read().await);
                }
                assert_eq!(client.buffer, b"hello", "the one who waited for it gets it");
            } else {
                server.send(&head).await;
                assert_eq!(client.response().await.text(), "hello");
            }
            let absent = get(&weir, "/", "Cache-Control: only-if-cached\r\n").await;
            assert_eq!(absent.status, 504, "{body}");
            second.send(answer(&lines, "new")).await;
            assert_eq!(later.response().await.text(), "new");
            assert!(is_hit(&get(&weir, "/", "").await), "{body}");
        }
    }
}

/// The same for what an unsafe method changes (RFC 9111 §4.4).
#[tokio::test]
async fn what_was_being_fetched_when_a_client_changed_it_is_not_stored() {
    let mut manual = Manual::start().await;
    let weir = caching(&manual.origin).await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let (mut server, _) = manual.request().await;
    let mut other = weir.connect().await;
    other
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
        .await;
    let (mut second, _) = manual.request().await;
    second.send(answer("Connection: close\r\n", "done")).await;
    assert_eq!(other.response().await.text(), "done");
    server
        .send(answer(&format!("{FRESH}Connection: close\r\n"), "old"))
        .await;
    assert_eq!(client.response().await.text(), "old");
    let absent = get(&weir, "/", "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(absent.status, 504);
}

#[tokio::test]
async fn what_is_being_sent_when_it_is_purged_is_sent_whole() {
    let origin = Origin::start(|_| answer(FRESH, "x".repeat(4_000_000))).await;
    let weir = Weir::start(&config(&[&origin], "cache = true", "")).await;
    get(&weir, "/", "").await;
    eventually(async || get(&weir, "/", "").await, is_hit).await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(client.read().await);
    assert_eq!(purge(&weir, &json!({ "all": true })).await, 1);
    let response = client.response().await;
    assert!(response.complete && response.body.len() == 4_000_000);
    let head = ask(&weir, "HEAD", "/", "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(head.status, 504);
}
