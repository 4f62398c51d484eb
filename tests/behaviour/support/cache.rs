//! What tests of the cache need: routes that cache, origins that count, purges.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::client::Response;
use super::origin::{Origin, Request};
use super::{Connection, Weir};

/// The config of [`Weir::config`], with these keys for `[route.site]`.
pub fn config(origins: &[&Origin], route: &str, upstream: &str) -> String {
    let config = Weir::config(origins, upstream);
    config.replace("[upstream.app]\n", &format!("{route}\n[upstream.app]\n"))
}

/// A weir before this origin, whose route has these keys.
pub async fn before(origin: &Origin, route: &str) -> Weir {
    Weir::start(&config(&[origin], route, "")).await
}

/// The same with `cache = true`.
pub async fn caching(origin: &Origin) -> Weir {
    before(origin, "cache = true").await
}

/// A response with these field lines and a body of known length.
pub fn response(status: &str, lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The same, 200.
pub fn answer(lines: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK", lines, body)
}

/// Answers with these field lines, and with the number of the request, from 1.
pub async fn counting(lines: &'static str) -> Origin {
    counting_by(move |_| lines.to_owned()).await
}

/// The same with the field lines that `lines` makes of a request.
pub async fn counting_by(lines: impl Fn(&Request) -> String + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        answer(&lines(request), number.to_string())
    })
    .await
}

/// Lines that make a response fresh for a minute.
pub const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// `GET path` with these field lines.
pub async fn get(weir: &Weir, path: &str, lines: &str) -> Response {
    ask(weir, "GET", path, lines).await
}

/// A request without a body, for the host `test`.
pub async fn ask(weir: &Weir, method: &str, path: &str, lines: &str) -> Response {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n");
    weir.ask(&request).await
}

/// What the cache says of it.
pub fn told(response: &Response) -> &str {
    response.field("cache-status")
}

/// Whether it came from the store, fresh.
pub fn is_hit(response: &Response) -> bool {
    told(response).starts_with("weir; hit; ttl=")
}

/// How often the cache had this result for the route.
pub async fn count(weir: &Weir, result: &str) -> f64 {
    let series = format!("weir_cache_requests_total{{route=\"site\",result=\"{result}\"}}");
    weir.metric(&series).await
}

/// Purges by this body; how many went.
pub async fn purge(weir: &Weir, body: &Value) -> u64 {
    let (mut connection, body) = (
        Connection::open(weir.admin_address()).await,
        body.to_string(),
    );
    let length = body.len();
    let head = format!(
        "POST /api/cache/purge HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    );
    connection.send(&format!("{head}{body}")).await;
    let response = connection.response().await;
    let told: Value = serde_json::from_slice(&response.body).unwrap();
    told["purged"].as_u64().unwrap_or_else(|| panic!("{told}"))
}

/// An answer that a test changes.
#[derive(Clone)]
pub struct Changing(Arc<Mutex<Vec<u8>>>);

impl Changing {
    pub fn new(answer: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(answer)))
    }

    /// From now on.
    pub fn set(&self, answer: Vec<u8>) {
        *self.0.lock().unwrap() = answer;
    }

    pub fn now(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    /// Answers with it.
    pub async fn origin(&self) -> Origin {
        let answer = self.clone();
        Origin::start(move |_| answer.now()).await
    }
}
