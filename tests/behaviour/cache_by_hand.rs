//! What operators see and do of the cache: its metrics, its status, purges.

use serde_json::{Value, json};

use super::support::client::Response;
use super::support::{Connection, Origin, Weir};

/// Sends a purge with these field lines to the admin address.
async fn purge(weir: &Weir, fields: &str, body: &str) -> Response {
    let mut connection = Connection::open(weir.admin_address()).await;
    let length = body.len();
    connection
        .send(&format!(
            "POST /api/cache/purge HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    connection.response().await
}

fn told(response: &Response) -> (u16, Value) {
    let body = serde_json::from_slice(&response.body).unwrap_or_default();
    (response.status, body)
}

async fn caching() -> Weir {
    let origin = Origin::text("hello").await;
    let config = Weir::config(&[&origin], "");
    Weir::start(&format!("{config}[route.site.cache]\n")).await
}

const HOST: &str = "Host: localhost\r\n";

#[tokio::test]
async fn every_result_is_counted_for_routes_with_a_cache_alone_and_from_the_start() {
    let weir = caching().await;
    let series = |page: &str| {
        let lines = page
            .lines()
            .filter_map(|line| line.strip_prefix("weir_cache_requests_total"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let results = ["hit", "stale", "revalidated", "miss", "collapsed", "bypass"];
    let expected = results.map(|result| format!("{{route=\"site\",result=\"{result}\"}} 0"));
    assert_eq!(series(&weir.metrics().await), expected);
    let origin = Origin::text("hello").await;
    weir.reload(&Weir::config(&[&origin], "")).await.unwrap();
    assert_eq!(series(&weir.metrics().await), [""; 0]);
    assert!(weir.metrics().await.contains("\nweir_cache_bytes 0\n"));
}

#[tokio::test]
async fn the_status_tells_of_the_cache() {
    let weir = caching().await;
    let cache = weir.status().await["cache"].clone();
    assert_eq!(cache["hit_ratio"], Value::Null, "nobody asked yet");
    for count in ["entries", "bytes", "fills", "evictions"] {
        assert_eq!(cache[count], 0, "{count}");
    }
    assert!(cache["max_bytes"].is_u64());
    let results = ["hit", "stale", "revalidated", "miss", "collapsed", "bypass"];
    let requests = cache["requests"].as_object().unwrap();
    assert_eq!(requests.len(), results.len());
    for result in results {
        assert_eq!(requests[result], 0, "{result}");
    }
}

/// Also without a cache: whoever purges wants that nothing old is left.
#[tokio::test]
async fn what_is_not_stored_is_purged_without_complaint() {
    let origin = Origin::text("hello").await;
    let without = Weir::start(&Weir::config(&[&origin], "")).await;
    for weir in [caching().await, without] {
        for body in [
            json!({ "url": "http://shop.example.com/page?x=1" }),
            json!({ "prefix": "https://shop.example.com/images/", "soft": true }),
            json!({ "tag": "item-1" }),
            json!({ "all": true }),
        ] {
            let response = purge(&weir, HOST, &body.to_string()).await;
            assert_eq!(told(&response), (200, json!({ "purged": 0 })), "{body}");
        }
    }
}

#[tokio::test]
async fn a_purge_that_says_too_little_or_too_much_is_refused() {
    let weir = caching().await;
    for (body, message) in [
        (
            "",
            "expected a body such as {\"url\": \"https://shop.example.com/page\"}",
        ),
        (
            "{}",
            "say what to purge, with one of `url`, `prefix`, `tag` and `all`",
        ),
        (
            r#"{"url": "http://a/", "all": true}"#,
            "`all` beside `url`; write one of `url`, `prefix`, `tag` and `all`",
        ),
        (
            r#"{"all": true, "hard": true}"#,
            "unknown field `hard`, expected one of `url`, `prefix`, `tag`, `all`, `soft` at line 1 column 20",
        ),
        (
            r#"{"url": "/page"}"#,
            "`/page` is no whole URL; write it as `https://shop.example.com/page`",
        ),
    ] {
        let response = purge(&weir, HOST, body).await;
        assert_eq!(
            told(&response),
            (400, json!({ "error": message })),
            "{body}"
        );
    }
    let large = format!("{{\"tag\": \"{}\"}}", "a".repeat(64 << 10));
    let (status, body) = told(&purge(&weir, HOST, &large).await);
    assert_eq!(
        (status, &body["error"]),
        (413, &"the body is larger than 64 KiB".into())
    );
    assert_eq!(weir.admin("GET", "/api/cache/purge").await.status, 405);
}

#[tokio::test]
async fn a_purge_is_for_those_who_may_write() {
    let weir = caching().await;
    let all = r#"{"all": true}"#;
    for field in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        let response = purge(&weir, &format!("{HOST}{field}\r\n"), all).await;
        assert_eq!(response.status, 403, "{field}");
    }
    assert_eq!(
        purge(&weir, "Host: evil.example\r\n", all).await.status,
        403
    );
    let origin = Origin::text("hello").await;
    let config = Weir::config(&[&origin], "");
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\ntoken = \"secret\"\n";
    weir.reload(&format!("{admin}{config}")).await.unwrap();
    assert_eq!(purge(&weir, HOST, all).await.status, 401);
    let bearer = format!("{HOST}Authorization: Bearer secret\r\n");
    assert_eq!(purge(&weir, &bearer, all).await.status, 200);
}

/// Whoever says that a body comes and sends none is told so, and does not keep a place for ever.
#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let weir = caching().await;
    let mut connection = Connection::open(weir.admin_address()).await;
    let head = format!("POST /api/cache/purge HTTP/1.1\r\n{HOST}Content-Length: 10\r\n\r\n{{");
    connection.send(&head).await;
    assert_eq!(connection.response().await.status, 408);
}
