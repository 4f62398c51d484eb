//! What is stored, what is used again, and for whom (RFC 9111): keys, `Vary`, conditions, ranges, HEAD; and what tells of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::cache::{
    Changing, FRESH, answer, ask, before, caching, config, count, counting, counting_by, get,
    is_hit, response, told,
};
use crate::support::http2::Http2;
use crate::support::manual::Manual;
use crate::support::{Origin, Response, Weir, eventually};

/// `GET path` for that host.
async fn get_of(weir: &Weir, host: &str, path: &str) -> Response {
    weir.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await
}

fn keys(keys: &str) -> String {
    format!("cache = {{ {keys} }}")
}

/// A date so many seconds from now.
fn date(seconds: i64) -> String {
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if seconds < 0 {
        now - offset
    } else {
        now + offset
    })
}

#[tokio::test]
async fn what_is_fresh_is_sent_again_with_its_age() {
    let origin = Origin::start(|_| {
        answer(
            "Cache-Control: max-age=60\r\nAge: 10\r\nX-A: b\r\n",
            "hello",
        )
    })
    .await;
    let weir = caching(&origin).await;
    let first = get(&weir, "/", "").await;
    assert_eq!(told(&first), "weir; fwd=uri-miss; stored");
    for _ in 0..3 {
        let again = get(&weir, "/", "").await;
        assert!(is_hit(&again), "{}", again.head);
        let age: u64 = again.field("age").parse().unwrap();
        assert!((10..20).contains(&age));
        assert_eq!((again.text().as_str(), again.field("x-a")), ("hello", "b"));
        assert_eq!(again.field("content-length"), "5");
        assert_eq!(again.field("via"), "1.1 weir");
        assert_eq!(again.fields("date").len(), 1);
        assert_ne!(again.field("x-request-id"), first.field("x-request-id"));
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn without_the_key_or_with_it_off_nothing_is_stored() {
    for route in [
        "",
        "cache = false",
        "cache = \"off\"",
        "cache = { enabled = false }",
    ] {
        let origin = counting(FRESH).await;
        let weir = before(&origin, route).await;
        for number in ["1", "2"] {
            let response = get(&weir, "/", "").await;
            assert_eq!(response.text(), number, "{route}");
            assert!(response.fields("cache-status").is_empty());
        }
    }
}

/// A route turns the cache off, or has another value for one key; what it does not say is as the defaults say.
#[tokio::test]
async fn each_route_caches_by_its_own_table_and_else_by_that_of_the_defaults() {
    let origin = counting("").await;
    let defaults = "[defaults.route]\ncache = { default_ttl = \"10m\", key_query = \"none\" }\n\
         [route.own]\npath = \"/own\"\nupstream = \"app\"\ncache = { key_query = \"all\" }\n\
         [route.off]\npath = \"/off\"\nupstream = \"app\"\ncache = false\n";
    let weir = before(&origin, defaults).await;
    for (first, second, is_same) in [
        ("/", "/?a=1", true),
        ("/own", "/own", true),
        ("/own?a=1", "/own?a=2", false),
        ("/off", "/off", false),
    ] {
        let first = get(&weir, first, "").await.text();
        let again = get(&weir, second, "").await.text();
        assert_eq!(first == again, is_same, "{second}");
    }
}

#[tokio::test]
async fn the_verdict_is_told_unless_the_route_keeps_it_to_itself() {
    let origin = counting("Cache-Control: max-age=60\r\nCache-Status: inner; hit\r\n").await;
    let told_to = async |route: &str| {
        let weir = before(&origin, route).await;
        get(&weir, "/", "").await;
        let again = get(&weir, "/", "").await;
        let told = again.fields("cache-status").join(" | ");
        (told, count(&weir, "hit").await)
    };
    let (told, _) = told_to("cache = true").await;
    assert!(told.starts_with("inner; hit | weir; hit; ttl="), "{told}");
    assert_eq!(
        told_to("cache = { cache_status = false }").await,
        ("inner; hit".to_owned(), 1.0)
    );
}

#[tokio::test]
async fn what_may_not_be_stored_is_not_and_the_client_is_told_why() {
    let origin =
        counting_by(|request| format!("{}\r\n", request.field("x-lines").replace('|', "\r\n")))
            .await;
    let weir = caching(&origin).await;
    for (number, (lines, why)) in [
        ("X-A: b", "no-freshness"),
        ("Cache-Control: no-store, max-age=60", "no-store"),
        ("Cache-Control: private, max-age=60", "private"),
        ("Cache-Control: max-age=60|Set-Cookie: a=b", "set-cookie"),
        ("Cache-Control: max-age=60|Vary: *", "vary-anything"),
        ("Cache-Control: max-age=60|Vary: a b", "bad-vary"),
        ("Cache-Control: no-cache", "no-validator"),
        ("Cache-Control: max-age=0", "already-stale"),
        ("Cache-Control: max-age=60|Age: 61", "already-stale"),
        ("Expires: 0", "already-stale"),
        (
            "Cache-Control: max-age=60|Content-Type: text/event-stream",
            "stream",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let lines = format!("X-Lines: {lines}\r\n");
        let path = format!("/{number}");
        let first = get(&weir, &path, &lines).await;
        assert_eq!(told(&first), format!("weir; fwd=uri-miss; detail={why}"));
        let again = get(&weir, &path, &lines).await;
        assert_ne!(first.text(), again.text(), "{lines}");
        assert_eq!(told(&again), told(&first), "it is remembered");
    }
}

/// What was not stored may be another time: the mark is no obstacle.
#[tokio::test]
async fn what_becomes_storable_is_stored() {
    let answers = Changing::new(answer("Cache-Control: no-store\r\n", "a"));
    let origin = answers.origin().await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    answers.set(answer(FRESH, "b"));
    get(&weir, "/", "").await;
    get(&weir, "/", "").await;
    assert!(is_hit(&get(&weir, "/", "").await));
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn statuses_are_stored_with_explicit_freshness() {
    for status in [
        "301 Moved",
        "302 Found",
        "308 Moved",
        "404 Not Found",
        "410 Gone",
        "203 Other",
        "599 Own",
    ] {
        let origin = Origin::start(move |_| {
            response(status, "Cache-Control: max-age=60\r\nLocation: /a\r\n", "x")
        })
        .await;
        let weir = caching(&origin).await;
        let first = get(&weir, "/", "").await;
        let again = get(&weir, "/", "").await;
        assert_eq!((again.status, is_hit(&again)), (first.status, true));
    }
    for (status, lines) in [
        ("206 Partial Content", "Content-Range: bytes 0-0/2\r\n"),
        ("429 Too Many Requests", ""),
        ("412 Precondition Failed", ""),
    ] {
        let lines = format!("{FRESH}{lines}");
        let origin = Origin::start(move |_| response(status, &lines, "x")).await;
        let weir = caching(&origin).await;
        get(&weir, "/", "").await;
        let again = get(&weir, "/", "").await;
        assert_eq!(
            told(&again),
            "weir; fwd=uri-miss; detail=status",
            "{status}"
        );
    }
}

#[tokio::test]
async fn only_where_the_route_says_so_freshness_is_guessed_from_last_modified() {
    let day_old = format!("Last-Modified: {}\r\n", date(-86_400));
    let origin = counting_by(move |_| day_old.clone()).await;
    for (route, hit) in [
        ("cache = true", false),
        ("cache = { heuristic = true }", true),
    ] {
        let weir = before(&origin, route).await;
        get(&weir, "/", "").await;
        assert_eq!(is_hit(&get(&weir, "/", "").await), hit, "{route}");
    }
}

#[tokio::test]
async fn default_ttl_is_for_what_states_none_and_for_requests_of_nobody_in_particular() {
    let origin = counting("").await;
    let weir = before(&origin, &keys("default_ttl = \"10m\"")).await;
    get(&weir, "/", "").await;
    let again = get(&weir, "/", "").await;
    let ttl = told(&again).strip_prefix("weir; hit; ttl=").unwrap();
    assert!((500..600).contains(&ttl.parse::<u32>().unwrap()));
    for line in ["Cookie: a=b\r\n", "Authorization: Basic YTpi\r\n"] {
        let path = format!("/{}", line.len());
        get(&weir, &path, line).await;
        let again = get(&weir, &path, "").await;
        assert!(!is_hit(&again), "{line}{}", again.head);
    }
    let failing = Origin::start(|_| response("404 Not Found", "", "x")).await;
    let weir = before(&failing, &keys("default_ttl = \"10m\"")).await;
    get(&weir, "/", "").await;
    assert!(!is_hit(&get(&weir, "/", "").await));
}

#[tokio::test]
async fn set_cookie_is_stored_only_where_the_route_says_so() {
    let origin = counting("Cache-Control: max-age=60\r\nSet-Cookie: id=1\r\n").await;
    let weir = before(&origin, &keys("store_set_cookie = true")).await;
    get(&weir, "/", "").await;
    let again = get(&weir, "/", "").await;
    assert_eq!((is_hit(&again), again.field("set-cookie")), (true, "id=1"));
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    assert!(!is_hit(&get(&weir, "/", "").await));
}

/// RFC 9111 §5.2.2.4, §5.2.2.7: a field that a directive names is not kept.
#[tokio::test]
async fn fields_that_are_for_one_client_are_not_kept() {
    let origin =
        counting("Cache-Control: max-age=60, private=\"set-cookie, x-user\"\r\nSet-Cookie: id=1\r\nX-User: eve\r\n")
            .await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let again = get(&weir, "/", "").await;
    assert!(is_hit(&again));
    assert!(again.fields("set-cookie").is_empty() && again.fields("x-user").is_empty());
}

/// RFC 9111 §3.5.
#[tokio::test]
async fn answers_to_authorised_requests_are_for_others_only_if_they_say_so() {
    let origin = counting_by(|request| {
        format!(
            "Cache-Control: {}\r\n",
            request.target().trim_start_matches('/')
        )
    })
    .await;
    let weir = caching(&origin).await;
    for (control, is_stored) in [
        ("max-age=60", false),
        ("max-age=60,public", true),
        ("s-maxage=60", true),
        ("max-age=60,must-revalidate", true),
        // What is malformed permits nothing.
        ("max-age=60,must-revalidate;x", false),
        ("s-maxage=x,stale-while-revalidate=60", false),
        ("max-age=60,no-store;must-understand,public", false),
    ] {
        let path = format!("/{control}");
        get(&weir, &path, "Authorization: Basic YTpi\r\n").await;
        assert_eq!(is_hit(&get(&weir, &path, "").await), is_stored, "{control}");
    }
    // What anybody may have, those may have as well.
    get(&weir, "/max-age=61", "").await;
    let authorised = get(&weir, "/max-age=61", "Authorization: Basic YTpi\r\n").await;
    assert!(is_hit(&authorised));
}

// ------------------------------------------------------------------------------------------------------------- keys

#[tokio::test]
async fn hosts_that_share_an_upstream_never_read_each_others_responses() {
    // Whatever the server is told the host is.
    for host_header in ["preserve", "server", "one.example"] {
        let origin = counting(FRESH).await;
        let upstream = format!("host_header = \"{host_header}\"");
        let weir = Weir::start(&config(&[&origin], "cache = true", &upstream)).await;
        for (host, body) in [
            ("a.example", "1"),
            ("b.example", "2"),
            ("a.example:8080", "3"),
            // The same host; but the server may well say it as it was told, in links and redirects.
            ("A.example", "4"),
            ("a.example:80", "5"),
            ("a.example", "1"),
            ("b.example", "2"),
            ("a.example:8080", "3"),
            // Not stored at all, or there were as many entries as there are spellings.
            ("A.example", "6"),
        ] {
            let response = get_of(&weir, host, "/").await;
            assert_eq!(response.text(), body, "{host_header} {host}");
        }
    }
}

/// What nobody vouches for must decide neither about the key nor about what the server says.
#[tokio::test]
async fn fields_that_claim_another_host_poison_nothing() {
    let origin = Origin::start(|request| {
        let told = request.fields("x-forwarded-host").join(",");
        answer(FRESH, format!("{}|{told}", request.field("host")))
    })
    .await;
    let weir = caching(&origin).await;
    for line in [
        "X-Forwarded-Host: evil.example\r\n",
        "Forwarded: host=evil.example;proto=https\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n",
    ] {
        let path = format!("/{}", line.len());
        let poisoned = get(&weir, &path, line).await;
        assert_eq!(poisoned.text(), "test|test", "{line}");
        let response = get(&weir, &path, "").await;
        assert!(is_hit(&response), "{line}");
    }
}

#[tokio::test]
async fn hosts_and_schemes_are_those_that_a_trusted_proxy_tells() {
    let origin = counting(FRESH).await;
    let config = config(&[&origin], "cache = true", "").replace(
        "[listen.web]\n",
        "[listen.web]\ntrusted_proxies = [\"127.0.0.0/8\"]\n",
    );
    let weir = Weir::start(&config).await;
    let ask = async |lines: &str| get(&weir, "/", lines).await.text();
    assert_eq!(ask("X-Forwarded-Host: a.example\r\n").await, "1");
    assert_eq!(ask("X-Forwarded-Host: b.example\r\n").await, "2");
    assert_eq!(
        ask("X-Forwarded-Host: a.example\r\nX-Forwarded-Proto: https\r\n").await,
        "3"
    );
    assert_eq!(ask("X-Forwarded-Host: a.example\r\n").await, "1");
}

#[tokio::test]
async fn the_path_counts_as_it_was_asked_for_and_the_query_byte_for_byte() {
    let origin = counting(FRESH).await;
    let weir = before(&origin, "cache = true\nstrip_prefix = \"/x\"").await;
    for (path, body) in [
        ("/x/a", "1"),
        ("/a", "2"),
        ("/x/./b/../a", "1"),
        ("/x/%61", "1"),
        ("/x/a?", "3"),
        ("/x/a?b=1&a=2", "4"),
        ("/x/a?a=2&b=1", "5"),
        ("/x/a?b=%31&a=2", "6"),
        ("/x/a/", "7"),
        ("/x/A", "8"),
        ("/x/a?b=1&a=2", "4"),
    ] {
        assert_eq!(get(&weir, path, "").await.text(), body, "{path}");
    }
}

#[tokio::test]
async fn parameters_count_as_the_route_says() {
    for (route, cases) in [
        (
            "key_query = \"none\"",
            [("a=1", "1"), ("b=2", "1"), ("a=1&b=2", "1")],
        ),
        (
            "key_query = [\"a\"]",
            [("a=1", "1"), ("b=2&a=1", "1"), ("a=2", "2")],
        ),
        (
            "key_query = [\"a\", \"b\"]",
            [("a=1&c=3&b=2", "1"), ("a=1", "2"), ("b=2", "3")],
        ),
        (
            "key_query_sort = true",
            [("a=1&b=2", "1"), ("b=2&a=1", "1"), ("a=1", "2")],
        ),
        (
            "key_query = [\"a\", \"b\"], key_query_sort = true",
            [("a=1&b=2", "1"), ("b=2&c=3&a=1", "1"), ("b=2", "2")],
        ),
    ] {
        let origin = counting(FRESH).await;
        let weir = before(&origin, &keys(route)).await;
        for (query, body) in cases {
            let response = get(&weir, &format!("/?{query}"), "").await;
            assert_eq!(response.text(), body, "{route} {query}");
        }
    }
    // The server gets the query as the client wrote it.
    let origin = counting(FRESH).await;
    let weir = before(&origin, &keys("key_query = [\"a\"], key_query_sort = true")).await;
    get(&weir, "/?c=3&b=%32&a=1", "").await;
    assert_eq!(origin.last().target(), "/?c=3&b=%32&a=1");
}

#[tokio::test]
async fn http2_and_http1_clients_share_what_is_stored() {
    let origin = counting(FRESH).await;
    let weir = caching(&origin).await;
    let mut http2 = Http2::open(weir.address()).await;
    assert_eq!(http2.get("/").await.text(), "1");
    assert_eq!(get(&weir, "/", "").await.text(), "1");
    let answer = http2.get("/").await;
    assert_eq!(answer.text(), "1");
    assert_eq!(answer.headers["content-length"], "1");
    let told = answer.headers["cache-status"].to_str().unwrap();
    assert!(told.starts_with("weir; hit"), "{told}");
}

/// However a hit goes out, it has the fields that its first client got, and of its own those that are of the moment.
#[tokio::test]
async fn a_hit_has_the_same_fields_over_every_version() {
    let origin = Origin::start(|_| {
        let lines = "Cache-Control: max-age=60\r\nX-Request-Id: theirs\r\nAge: 7\r\nX-Dash: -\r\nX-Empty:\r\n\
                     Vary: x-a\r\nVary: x-b\r\nVia: 1.0 other\r\nCache-Status: other; hit\r\nServer: s\r\n";
        answer(lines, "hello")
    })
    .await;
    let weir = caching(&origin).await;
    // Those of each client are looked at one by one.
    let stored = |mut fields: Vec<(String, String)>| {
        let own = ["connection", "x-request-id", "age", "cache-status"];
        fields.retain(|(name, _)| !own.contains(&name.as_str()));
        fields.sort();
        fields
    };
    let lines = |response: &Response| {
        let lines = response
            .head
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty());
        let fields = lines.map(|line| line.split_once(':').unwrap());
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        stored(fields.collect())
    };
    let first = get(&weir, "/", "").await;
    assert_eq!(
        first.fields("cache-status"),
        ["other; hit", "weir; fwd=uri-miss; stored"]
    );
    let wanted = lines(&first);
    for line in [
        "x-dash: -",
        "x-empty: ",
        "via: 1.0 other",
        "via: 1.1 weir",
        "content-length: 5",
    ] {
        let (name, value) = line.split_once(": ").unwrap();
        assert!(
            wanted.contains(&(name.into(), value.into())),
            "{line}: {wanted:?}"
        );
    }
    let mut ids = vec![first.field("x-request-id").to_owned()];
    for (request, connection) in [
        ("GET / HTTP/1.1\r\nHost: test\r\n\r\n", None),
        ("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n", None),
        (
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
            Some("close"),
        ),
        (
            "GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n",
            Some("keep-alive"),
        ),
        ("GET / HTTP/1.0\r\nHost: test\r\n\r\n", Some("close")),
    ] {
        let mut client = weir.connect().await;
        client.send(request).await;
        let method = request.split(' ').next().unwrap();
        let response = client.response_to(method).await;
        let body = if method == "HEAD" { "" } else { "hello" };
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, body),
            "{request}"
        );
        assert_eq!(lines(&response), wanted, "{request}");
        assert_eq!(
            response.fields("connection"),
            Vec::from_iter(connection),
            "{request}"
        );
        let told = response.fields("cache-status");
        assert!(
            matches!(&told[..], ["other; hit", told] if told.starts_with("weir; hit; ttl=5")),
            "{told:?}"
        );
        assert!((7..20).contains(&response.field("age").parse::<u32>().unwrap()));
        ids.push(response.field("x-request-id").to_owned());
    }
    let mut http2 = Http2::open(weir.address()).await;
    let answer = http2.get("/").await;
    let fields = answer.headers.iter();
    let fields = fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    assert_eq!((stored(fields.collect()), answer.text()), (wanted, "hello"));
    ids.push(answer.headers["x-request-id"].to_str().unwrap().to_owned());
    let clients = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), clients, "an id for each: {ids:?}");
    assert!(!ids.iter().any(|id| id == "theirs"));
    assert_eq!(origin.requests().len(), 1);
}

// ------------------------------------------------------------------------------------------------------------- vary

/// RFC 9111 §4.1: a stored response is reused only if the fields named by `Vary` match.
#[tokio::test]
async fn vary_keeps_languages_apart() {
    let origin = Origin::start(|request| {
        let language = request.fields("accept-language").join("+");
        answer(&format!("{FRESH}Vary: Accept-Language\r\n"), language)
    })
    .await;
    let weir = caching(&origin).await;
    for (language, told_as) in [
        ("Accept-Language: fr\r\n", "weir; fwd=uri-miss; stored"),
        ("Accept-Language: de\r\n", "weir; fwd=vary-miss; stored"),
        ("", "weir; fwd=vary-miss; stored"),
        ("Accept-Language: FR\r\n", "weir; hit"),
        ("Accept-Language: fr\r\n", "weir; hit"),
        ("", "weir; hit"),
    ] {
        let response = get(&weir, "/", language).await;
        assert!(told(&response).starts_with(told_as), "{}", response.head);
        let expected = language.trim_start_matches("Accept-Language: ").trim_end();
        assert!(response.text().eq_ignore_ascii_case(expected));
    }
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn fields_of_vary_that_the_route_ignores_tell_nothing_apart() {
    let origin = counting("Cache-Control: max-age=60\r\nVary: User-Agent, Origin, X-A\r\n").await;
    for (route, bodies) in [
        ("vary_ignore = [\"user-agent\"]", ["1", "1", "2", "3"]),
        (
            "vary_ignore = [\"User-Agent\", \"X-A\"]",
            ["4", "4", "4", "5"],
        ),
    ] {
        let weir = before(&origin, &keys(route)).await;
        for (lines, body) in [
            "User-Agent: a\r\n",
            "User-Agent: b\r\n",
            "User-Agent: b\r\nX-A: b\r\n",
            "User-Agent: b\r\nX-A: b\r\nOrigin: http://a\r\n",
        ]
        .into_iter()
        .zip(bodies)
        {
            let response = get(&weir, "/", lines).await;
            assert_eq!(response.text(), body, "{route} {lines}");
            assert_eq!(response.field("vary"), "User-Agent, Origin, X-A");
        }
    }
}

#[tokio::test]
async fn beyond_max_variants_nothing_more_is_stored_for_a_target() {
    let origin = counting("Cache-Control: max-age=60\r\nVary: X-A\r\n").await;
    for (route, most) in [(&*keys("max_variants = 2"), 2), ("cache = true", 32)] {
        let weir = before(&origin, route).await;
        let ask = async |a: u32| get(&weir, "/", &format!("X-A: {a}\r\n")).await;
        for a in 1..=most {
            ask(a).await;
        }
        for _ in 0..2 {
            assert!(!is_hit(&ask(most + 1).await));
            for a in 1..=most {
                assert!(is_hit(&ask(a).await), "{route} {a}");
            }
        }
        assert_eq!(
            told(&ask(most + 1).await),
            "weir; fwd=vary-miss; detail=too-many-variants"
        );
        get(&weir, "/other", "X-A: 3\r\n").await;
        assert!(is_hit(&get(&weir, "/other", "X-A: 3\r\n").await));
    }
}

/// Next.js answers one URL with a page, or with what its router asks for by request fields; browsers that got one for the
/// other would show garbage.
#[tokio::test]
async fn pages_and_what_the_router_of_next_js_asks_for_are_never_mixed() {
    const VARY: &str =
        "Vary: rsc, next-router-state-tree, next-router-prefetch, Accept-Encoding\r\n";
    const RSC: &str = "rsc: 1\r\nnext-router-state-tree: %5B%22%22%5D\r\n";
    const PREFETCH: &str = "rsc: 1\r\nnext-router-prefetch: 1\r\n";
    // Both say it; or only the one that comes first, whichever that is.
    for (page_says, first) in [(true, ""), (true, RSC), (false, RSC), (false, PREFETCH)] {
        let origin = Origin::start(move |request| {
            let is_rsc = !request.fields("rsc").is_empty();
            let is_prefetch = !request.fields("next-router-prefetch").is_empty();
            let vary = if is_rsc || page_says { VARY } else { "" };
            let (kind, body) = match (is_rsc, is_prefetch) {
                (false, _) => ("text/html", "page"),
                (true, false) => ("text/x-component", "component"),
                (true, true) => ("text/x-component", "prefetch"),
            };
            let control = "Cache-Control: s-maxage=60, stale-while-revalidate\r\n";
            answer(&format!("{control}{vary}Content-Type: {kind}\r\n"), body)
        })
        .await;
        let weir = before(&origin, "cache = true\ncompress = { min_size = \"1B\" }").await;
        get(&weir, "/", first).await;
        for _ in 0..3 {
            for encoding in ["", "Accept-Encoding: gzip\r\n"] {
                for (lines, kind, body) in [
                    ("", "text/html", "page"),
                    (RSC, "text/x-component", "component"),
                    (PREFETCH, "text/x-component", "prefetch"),
                ] {
                    let response = get(&weir, "/", &format!("{lines}{encoding}")).await;
                    assert_eq!(response.field("content-type"), kind);
                    assert_eq!(response.text(), body);
                }
            }
        }
        let requests = origin.requests().len();
        assert!(requests <= 4, "{requests} requests for three variants");
    }
}

// ------------------------------------------------------------------------------------------- conditions and freshness

const TAGGED: &str = "Cache-Control: max-age=60\r\nETag: \"a\"\r\n";

#[tokio::test]
async fn clients_that_have_it_are_told_so_from_the_store() {
    let modified = date(-1000);
    let lines = format!(
        "{TAGGED}Last-Modified: {modified}\r\nContent-Type: text/x\r\nContent-Location: /a\r\n"
    );
    let origin = counting_by(move |_| lines.clone()).await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    for (lines, status) in [
        ("If-None-Match: \"a\"", 304),
        ("If-None-Match: \"b\", W/\"a\"", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: \"b\"", 200),
        (&*format!("If-Modified-Since: {modified}"), 304),
        (&*format!("If-Modified-Since: {}", date(-500)), 304),
        (&*format!("If-Modified-Since: {}", date(-2000)), 200),
        (
            &*format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {modified}"),
            200,
        ),
    ] {
        for method in ["GET", "HEAD"] {
            let response = ask(&weir, method, "/", &format!("{lines}\r\n")).await;
            assert_eq!(
                (response.status, is_hit(&response)),
                (status, true),
                "{lines}"
            );
            if status == 304 {
                assert_eq!(response.field("etag"), "\"a\"");
                assert_eq!(response.field("content-location"), "/a");
                assert_eq!(response.fields("date").len(), 1);
                assert!(response.fields("content-type").is_empty());
                assert!(response.fields("content-length").is_empty());
            }
        }
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn conditions_that_protect_what_the_server_has_go_to_the_server() {
    let origin = counting(TAGGED).await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    for line in [
        "If-Match: \"a\"\r\n",
        "If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT\r\n",
    ] {
        let response = get(&weir, "/", line).await;
        assert_eq!(told(&response), "weir; fwd=bypass; detail=precondition");
    }
}

/// The server is asked for the whole, or nobody else would get it.
#[tokio::test]
async fn a_condition_of_the_client_does_not_keep_the_response_from_the_store() {
    for chunked in [false, true] {
        let origin = Origin::start(move |request| {
            if request.fields("if-none-match").is_empty() {
                return if chunked {
                    format!("HTTP/1.1 200 OK\r\n{TAGGED}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes()
                } else {
                    answer(TAGGED, "hello")
                };
            }
            response("304 Not Modified", TAGGED, "")
        })
        .await;
        let weir = caching(&origin).await;
        let conditional = get(&weir, "/", "If-None-Match: \"a\"\r\n").await;
        assert_eq!(conditional.status, 304);
        let hit = async || get(&weir, "/", "Cache-Control: only-if-cached\r\n").await;
        let hit = eventually(hit, |response| response.status == 200).await;
        assert_eq!(hit.text(), "hello");
        assert_eq!(origin.requests().len(), 1);
    }
}

/// The same where the body takes its time, and the client who asked needs none of it.
#[tokio::test]
async fn a_body_that_the_client_has_already_is_stored_all_the_same() {
    let mut manual = Manual::start().await;
    let weir = caching(&manual.origin).await;
    let mut client = weir.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\nIf-None-Match: \"a\"\r\n\r\n")
        .await;
    let (mut server, request) = manual.request().await;
    assert!(request.fields("if-none-match").is_empty());
    server
        .send(format!(
            "HTTP/1.1 200 OK\r\n{TAGGED}Content-Length: 10\r\n\r\nhello"
        ))
        .await;
    assert_eq!(client.response().await.status, 304);
    server.send("world").await;
    let hit = async || get(&weir, "/", "Cache-Control: only-if-cached\r\n").await;
    let hit = eventually(hit, |response| response.status == 200).await;
    assert_eq!(hit.text(), "helloworld");
}

/// RFC 9111 §4.3.
#[tokio::test]
async fn what_is_stale_is_validated_and_brought_up_to_date() {
    let answers = Changing::new(answer(
        "Cache-Control: max-age=60\r\nAge: 60\r\nETag: \"a\"\r\nX-A: old\r\nX-B: b\r\n",
        "hello",
    ));
    let origin = answers.origin().await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    answers.set(response(
        "304 Not Modified",
        "Cache-Control: max-age=100\r\nETag: \"a\"\r\nX-A: new\r\n",
        "",
    ));
    let validated = get(&weir, "/", "").await;
    assert_eq!(told(&validated), "weir; fwd=stale; fwd-status=304; stored");
    let request = origin.last();
    assert_eq!(request.field("if-none-match"), "\"a\"");
    for response in [validated, get(&weir, "/", "").await] {
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
        assert_eq!((response.field("x-a"), response.field("x-b")), ("new", "b"));
        assert_eq!(response.field("content-length"), "5");
    }
    let hit = get(&weir, "/", "").await;
    let ttl: u32 = told(&hit)
        .strip_prefix("weir; hit; ttl=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((90..=100).contains(&ttl), "{ttl}");
    assert_eq!(origin.requests().len(), 2);
    assert_eq!(count(&weir, "revalidated").await, 1.0);
}

/// RFC 9211 §2.3: without `fwd-status` the server would have answered what the client got.
#[tokio::test]
async fn what_the_server_answered_is_told_where_the_client_gets_something_else() {
    let answers = Changing::new(Vec::new());
    let origin = answers.origin().await;
    let weir = caching(&origin).await;
    let stale = "Cache-Control: max-age=0\r\nETag: \"a\"\r\n";
    let has_it = "If-None-Match: \"a\"\r\n";
    let same = "304 Not Modified";
    for (path, first, second, lines, status, said) in [
        // As the first response of a target, and as one in the place of a stale one.
        ("/a", None, "200 OK", "", 200, "fwd=uri-miss; stored"),
        (
            "/b",
            None,
            "200 OK",
            has_it,
            304,
            "fwd=uri-miss; fwd-status=200; stored",
        ),
        (
            "/c",
            Some(stale),
            "200 OK",
            has_it,
            304,
            "fwd=stale; fwd-status=200; stored",
        ),
        (
            "/d",
            Some(stale),
            "200 OK",
            "Range: bytes=1-2\r\n",
            206,
            "fwd=stale; fwd-status=200; stored",
        ),
        (
            "/e",
            Some(stale),
            "200 OK",
            "Range: bytes=9-\r\n",
            416,
            "fwd=stale; fwd-status=200; stored",
        ),
        (
            "/f",
            Some(stale),
            same,
            "Range: bytes=1-2\r\n",
            206,
            "fwd=stale; fwd-status=304; stored",
        ),
        ("/g", Some(stale), same, has_it, 304, "fwd=stale; stored"),
    ] {
        if let Some(first) = first {
            answers.set(answer(first, "hello"));
            get(&weir, path, "").await;
        }
        let body = if second == same { "" } else { "hello" };
        answers.set(response(second, stale, body));
        let response = get(&weir, path, lines).await;
        assert_eq!(response.status, status, "{path}");
        assert_eq!(told(&response), format!("weir; {said}"), "{path}");
    }
}

/// The directives may be those that the stored response came with.
#[tokio::test]
async fn a_304_has_fields_for_the_client_that_asked_alone() {
    let origin = Origin::start(|request| {
        if request.fields("if-none-match").is_empty() {
            answer(
                "Cache-Control: max-age=60, no-cache=\"set-cookie\"\r\nETag: \"a\"\r\nSet-Cookie: id=1\r\n",
                "body",
            )
        } else {
            b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nSet-Cookie: id=2\r\n\r\n".to_vec()
        }
    })
    .await;
    let weir = caching(&origin).await;
    for (lines, cookie) in [
        ("", "id=1"),
        ("", ""),
        ("Cache-Control: no-cache\r\n", "id=2"),
        ("", ""),
    ] {
        let response = get(&weir, "/", lines).await;
        assert_eq!(response.text(), "body");
        assert_eq!(
            response.fields("set-cookie").join(""),
            cookie,
            "{}",
            response.head
        );
    }
    assert_eq!(origin.requests().len(), 2);
}

/// What is told in a 304 may be that it is not to be stored any more.
#[tokio::test]
async fn a_304_that_is_not_stored_is_not_said_to_be() {
    for (lines, why) in [
        ("Cache-Control: no-store\r\n", "no-store"),
        ("Cache-Control: private\r\n", "private"),
        ("Set-Cookie: id=1\r\n", "set-cookie"),
        ("Vary: X-A\r\n", "other-vary"),
    ] {
        let origin = Origin::start(move |request| {
            if request.fields("if-none-match").is_empty() {
                answer("Cache-Control: no-cache\r\nETag: \"a\"\r\n", "body")
            } else {
                format!("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n{lines}\r\n").into_bytes()
            }
        })
        .await;
        let weir = caching(&origin).await;
        get(&weir, "/", "").await;
        let confirmed = get(&weir, "/", "").await;
        assert_eq!(confirmed.text(), "body");
        assert_eq!(
            told(&confirmed),
            format!("weir; fwd=stale; fwd-status=304; detail={why}")
        );
    }
}

#[tokio::test]
async fn what_is_stale_and_has_changed_is_replaced() {
    let answers = Changing::new(answer("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", "old"));
    let origin = answers.origin().await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    answers.set(answer(
        "Cache-Control: max-age=60\r\nETag: \"b\"\r\n",
        "new",
    ));
    // A client that has the old one, or the new one, learns so.
    let old = get(&weir, "/", "If-None-Match: \"a\"\r\n").await;
    assert_eq!((old.status, old.text().as_str()), (200, "new"));
    assert_eq!(told(&old), "weir; fwd=stale; stored");
    assert_eq!(origin.last().field("if-none-match"), "\"a\"");
    let new = get(&weir, "/", "If-None-Match: \"b\"\r\n").await;
    assert_eq!((new.status, is_hit(&new)), (304, true));
}

/// A 304 that speaks of something else must change nothing (RFC 9111 §4.3.4).
#[tokio::test]
async fn a_304_about_something_else_leads_to_the_response_itself() {
    let origin = Origin::start(|request| {
        if request.fields("if-none-match").is_empty() {
            answer("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", "hello")
        } else {
            response("304 Not Modified", "ETag: \"z\"\r\nX-A: z\r\n", "")
        }
    })
    .await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let response = get(&weir, "/", "").await;
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert!(response.fields("x-a").is_empty());
    assert_eq!(origin.requests().len(), 3);
}

/// The second answer is a failure: what is stale is better than that, as it was before the 304.
#[tokio::test]
async fn a_304_about_something_else_and_then_a_failure_leave_what_is_stored() {
    let origin = Origin::start(|request| {
        if !request.fields("if-none-match").is_empty() {
            response("304 Not Modified", "ETag: \"z\"\r\n", "")
        } else if request.fields("x-then").is_empty() {
            answer(
                "Cache-Control: max-age=0, stale-if-error=60\r\nETag: \"a\"\r\n",
                "stored",
            )
        } else {
            response("503 Service Unavailable", FRESH, "down")
        }
    })
    .await;
    let weir = before(&origin, "cache = true").await;
    get(&weir, "/", "").await;
    let despite = get(&weir, "/", "X-Then: 503\r\n").await;
    assert_eq!((despite.status, &*despite.text()), (200, "stored"));
    // It has failed just now, so this one is not asked for.
    assert_eq!(get(&weir, "/", "").await.text(), "stored");
}

/// What a 304 brings is kept with what is stored; a server that brings something else each time must not make it grow for good.
#[tokio::test]
async fn a_304_may_not_bring_ever_more_fields() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let lines: String = (0..100)
            .map(|field| format!("X-{number}-{field}: 1\r\n"))
            .collect();
        if request.fields("if-none-match").is_empty() {
            answer("Cache-Control: no-cache\r\nETag: \"a\"\r\n", "body")
        } else {
            response("304 Not Modified", &format!("ETag: \"a\"\r\n{lines}"), "")
        }
    })
    .await;
    let weir = caching(&origin).await;
    let mut most = 0;
    for _ in 0..12 {
        let response = get(&weir, "/", "").await;
        assert_eq!((response.status, &*response.text()), (200, "body"));
        most = most.max(response.head.lines().count());
    }
    assert!(most < 400, "{most} lines");
    let bare = origin
        .requests()
        .iter()
        .filter(|request| request.fields("if-none-match").is_empty())
        .count();
    assert!(bare > 1, "it is fetched anew when it would grow too large");
}

/// That the answer to one client is for that client alone says nothing of what is stored for others.
#[tokio::test]
async fn an_answer_for_one_client_does_not_throw_out_what_is_for_all() {
    let origin = Origin::start(|request| {
        if !request.fields("authorization").is_empty() {
            return answer("Cache-Control: max-age=60\r\nETag: \"own\"\r\n", "own");
        }
        answer("Cache-Control: max-age=60\r\nETag: \"all\"\r\n", "all")
    })
    .await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let own = get(
        &weir,
        "/",
        "Authorization: Basic YTpi\r\nCache-Control: no-cache\r\n",
    )
    .await;
    assert_eq!(own.text(), "own");
    let all = get(&weir, "/", "").await;
    assert_eq!((is_hit(&all), &*all.text()), (true, "all"));
}

/// A 304 to a condition that nobody set.
#[tokio::test]
async fn a_304_that_nobody_asked_for_is_not_stored() {
    let answers = Changing::new(response("304 Not Modified", TAGGED, ""));
    let origin = answers.origin().await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    answers.set(answer(TAGGED, "hello"));
    let response = get(&weir, "/", "").await;
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    assert!(is_hit(&get(&weir, "/", "").await));
}

/// RFC 9111 §5.2.1, §5.4.
#[tokio::test]
async fn clients_say_how_fresh_they_want_it() {
    let origin = counting("Cache-Control: max-age=60\r\nAge: 20\r\n").await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    for (line, hit) in [
        ("Cache-Control: max-age=50", true),
        ("Cache-Control: max-age=10", false),
        ("Cache-Control: min-fresh=30", true),
        ("Cache-Control: min-fresh=50", false),
        ("Cache-Control: no-cache", false),
        ("Cache-Control: max-age=0", false),
        ("Pragma: no-cache", false),
        ("Cache-Control: only-if-cached", true),
    ] {
        let response = get(&weir, "/", &format!("{line}\r\n")).await;
        assert_eq!(is_hit(&response), hit, "{line}");
        if !hit {
            assert_eq!(told(&response), "weir; fwd=request; stored");
        }
    }
    let requests = origin.requests().len();
    let response = get(&weir, "/", "Cache-Control: no-store\r\n").await;
    assert_eq!(told(&response), "weir; fwd=bypass; detail=request-no-store");
    let absent = get(&weir, "/absent", "Cache-Control: only-if-cached\r\n").await;
    assert_eq!(absent.status, 504);
    // RFC 9211 §2: it is told of what servers have said.
    assert!(absent.fields("cache-status").is_empty());
    assert_eq!(origin.requests().len(), requests + 1);
}

/// RFC 9111 §5.2.1.7: also for requests that the store is not asked about.
#[tokio::test]
async fn who_wants_what_is_stored_only_never_reaches_the_server() {
    let origin = counting("").await;
    let weir = before(&origin, &keys("default_ttl = \"10m\"")).await;
    get(&weir, "/", "").await;
    for lines in [
        "Cookie: a=b\r\n",
        "If-Match: \"a\"\r\n",
        "X-Own: 1\r\nConnection: x-own\r\n",
        "Pragma: no-cache\r\nCache-Control: no-store\r\n",
        "Content-Length: 1\r\n",
    ] {
        let only = "Cache-Control: only-if-cached\r\n";
        let response = get(&weir, "/", &format!("{only}{lines}")).await;
        assert_eq!(response.status, 504, "{lines}");
    }
    assert_eq!(origin.requests().len(), 1);
    assert!(is_hit(&get(&weir, "/", "").await));
}

#[tokio::test]
async fn a_client_may_take_what_is_stale() {
    let origin = counting("Cache-Control: max-age=60\r\nAge: 70\r\nETag: \"a\"\r\n").await;
    let weir = before(&origin, &keys("stale_if_error = \"off\"")).await;
    get(&weir, "/", "").await;
    let stale = get(&weir, "/", "Cache-Control: max-stale=100\r\n").await;
    assert!(
        told(&stale).starts_with("weir; hit; ttl=-1"),
        "{}",
        stale.head
    );
    assert!(told(&stale).ends_with("; detail=max-stale"));
    assert_eq!(count(&weir, "stale").await, 1.0);
    let fresh = get(&weir, "/", "Cache-Control: max-stale=5\r\n").await;
    assert_eq!(fresh.text(), "2");
}

// --------------------------------------------------------------------------------------------------- ranges and HEAD

#[tokio::test]
async fn parts_are_cut_from_what_is_stored() {
    let origin =
        Origin::start(|_| answer(&format!("{TAGGED}Content-Type: text/x\r\n"), "0123456789")).await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    for (range, lines, status, content_range, body) in [
        ("bytes=0-3", "", 206, "bytes 0-3/10", "0123"),
        ("bytes=8-", "", 206, "bytes 8-9/10", "89"),
        ("bytes=-3", "", 206, "bytes 7-9/10", "789"),
        ("bytes=5-100", "", 206, "bytes 5-9/10", "56789"),
        ("bytes=10-", "", 416, "bytes */10", ""),
        ("bytes=3-1", "", 200, "", "0123456789"),
        ("items=0-3", "", 200, "", "0123456789"),
        (
            "bytes=0-3",
            "If-Range: \"a\"\r\n",
            206,
            "bytes 0-3/10",
            "0123",
        ),
        ("bytes=0-3", "If-Range: \"b\"\r\n", 200, "", "0123456789"),
        ("bytes=0-3", "If-Range: W/\"a\"\r\n", 200, "", "0123456789"),
        ("bytes=0-3", "If-None-Match: \"a\"\r\n", 304, "", ""),
    ] {
        let response = get(&weir, "/", &format!("Range: {range}\r\n{lines}")).await;
        assert_eq!(
            (response.status, is_hit(&response)),
            (status, true),
            "{range} {lines}"
        );
        assert_eq!(
            response.fields("content-range").join(""),
            content_range,
            "{range}"
        );
        assert_eq!(response.text(), body, "{range} {lines}");
        if status == 206 {
            assert_eq!(response.field("etag"), "\"a\"");
            assert_eq!(response.field("content-type"), "text/x");
            assert_eq!(response.field("content-length"), body.len().to_string());
        }
    }
    let parts = get(&weir, "/", "Range: bytes=0-1,8-9\r\n").await;
    let kind = parts.field("content-type").to_owned();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, text: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/x\r\nContent-Range: bytes {range}/10\r\n\r\n{text}"
        )
    };
    let expected = format!(
        "{}{}\r\n--{boundary}--\r\n",
        part("0-1", "01"),
        part("8-9", "89")
    );
    assert_eq!((parts.status, parts.text()), (206, expected));
    let head = ask(&weir, "HEAD", "/", "Range: bytes=0-1\r\n").await;
    assert_eq!((head.status, head.field("content-length")), (200, "10"));
    assert_eq!(origin.requests().len(), 1);
}

/// Another cache before weir would keep it, and answer those who ask for all with it.
#[tokio::test]
async fn that_there_is_no_such_part_is_not_said_for_as_long_as_what_is_stored_is_fresh() {
    let origin = Origin::start(|_| {
        let lines = "Cache-Control: public, max-age=60\r\nCDN-Cache-Control: max-age=60\r\nWeir-Cache-Control: max-age=60\r\nExpires: Fri, 01 Jan 2100 00:00:00 GMT\r\nETag: \"a\"\r\n";
        answer(lines, "0123456789")
    })
    .await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let names = [
        "cache-control",
        "cdn-cache-control",
        "weir-cache-control",
        "expires",
    ];
    for (range, status, allowed) in [("2-3", 206, 4), ("10-", 416, 0)] {
        let part = get(&weir, "/", &format!("Range: bytes={range}\r\n")).await;
        assert_eq!((part.status, is_hit(&part)), (status, true));
        let named = names.iter().filter(|name| !part.fields(name).is_empty());
        assert_eq!(named.count(), allowed, "{}", part.head);
        assert_eq!(part.field("etag"), "\"a\"");
    }
}

/// RFC 9530 §2: the digest of a content is not that of a part of it, nor of none.
#[tokio::test]
async fn digests_tell_of_what_is_sent() {
    let digests = "Content-Digest: sha-256=:YQ==:\r\nContent-MD5: YQ==\r\nRepr-Digest: sha-256=:YQ==:\r\nDigest: md5=YQ==\r\n";
    let origin = Origin::start(move |_| answer(&format!("{TAGGED}{digests}"), "0123456789")).await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let names = ["content-digest", "content-md5", "repr-digest", "digest"];
    for (lines, status, left) in [
        ("", 200, &names[..]),
        ("Range: bytes=0-1\r\n", 206, &names[2..]),
        ("Range: bytes=0-1,8-9\r\n", 206, &names[2..]),
        ("Range: bytes=10-\r\n", 416, &[]),
        ("If-None-Match: \"a\"\r\n", 304, &names[2..]),
    ] {
        let response = get(&weir, "/", lines).await;
        assert_eq!(
            (response.status, is_hit(&response)),
            (status, true),
            "{lines}"
        );
        let told = names
            .iter()
            .filter(|name| !response.fields(name).is_empty());
        assert!(told.eq(left), "{lines}{}", response.head);
    }
}

/// The whole may be much larger than what is asked for.
#[tokio::test]
async fn a_part_of_what_is_not_stored_is_fetched_as_such_and_not_stored() {
    let origin = Origin::start(|request| {
        if request.fields("range").is_empty() {
            return answer(FRESH, "0123456789");
        }
        let lines = "Cache-Control: max-age=60\r\nContent-Range: bytes 0-1/10\r\n";
        response("206 Partial Content", lines, "01")
    })
    .await;
    let weir = caching(&origin).await;
    for _ in 0..2 {
        let part = get(&weir, "/", "Range: bytes=0-1\r\n").await;
        assert_eq!((part.status, part.text().as_str()), (206, "01"));
        assert_eq!(told(&part), "weir; fwd=uri-miss; detail=range");
    }
    assert_eq!(get(&weir, "/", "").await.text(), "0123456789");
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get_and_never_the_other_way() {
    let origin = Origin::start(|request| match request.method() {
        "HEAD" => format!("HTTP/1.1 200 OK\r\n{TAGGED}Content-Length: 5\r\n\r\n").into_bytes(),
        _ => answer(TAGGED, "hello"),
    })
    .await;
    let weir = caching(&origin).await;
    let head = ask(&weir, "HEAD", "/", "").await;
    assert_eq!(told(&head), "weir; fwd=uri-miss");
    assert_eq!(get(&weir, "/", "").await.text(), "hello");
    // The connection stays in step: nothing follows the head.
    let mut connection = weir.connect().await;
    for _ in 0..2 {
        connection
            .send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
            .await;
        let head = connection.response_to("HEAD").await;
        assert!(is_hit(&head));
        assert_eq!(
            (head.field("content-length"), head.field("etag")),
            ("5", "\"a\"")
        );
    }
    assert_eq!(origin.requests().len(), 2);
}

/// RFC 9111 §4.3.5.
#[tokio::test]
async fn what_a_head_says_holds_for_what_is_stored() {
    for (tag, is_kept) in [("\"a\"", true), ("\"b\"", false)] {
        let origin = Origin::start(move |request| match request.method() {
            "HEAD" => {
                let lines = format!("Cache-Control: max-age=60\r\nETag: {tag}\r\n");
                format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 5\r\n\r\n").into_bytes()
            }
            _ => answer("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", "hello"),
        })
        .await;
        let weir = caching(&origin).await;
        get(&weir, "/", "").await;
        let head = ask(&weir, "HEAD", "/", "").await;
        assert_eq!(told(&head), "weir; fwd=stale");
        let response = get(&weir, "/", "").await;
        assert_eq!(is_hit(&response), is_kept, "{tag}: {}", response.head);
    }
}

// ---------------------------------------------------------------------------------------------------- what is passed

#[tokio::test]
async fn requests_with_a_body_and_upgrades_are_passed() {
    let origin = counting(FRESH).await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let request = "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc";
    let with_body = weir.ask(request).await;
    assert_eq!(told(&with_body), "weir; fwd=bypass; detail=request-body");
    assert_eq!(origin.last().body, b"abc");
    let upgrade = get(&weir, "/", "Connection: upgrade\r\nUpgrade: x\r\n").await;
    assert_eq!(told(&upgrade), "weir; fwd=bypass; detail=upgrade");
    assert_eq!(count(&weir, "bypass").await, 2.0);
}

/// RFC 9111 §4.4.
#[tokio::test]
async fn what_an_unsafe_method_changes_is_forgotten() {
    let status = Changing::new(response(
        "201 Created",
        "Location: /made\r\nContent-Location: http://test/there\r\n",
        "",
    ));
    let changed = status.clone();
    let origin = Origin::start(move |request| match request.method() {
        "GET" => answer(FRESH, "x"),
        _ => changed.now(),
    })
    .await;
    let weir = caching(&origin).await;
    let are_stored = async || {
        let mut stored = Vec::new();
        for path in ["/", "/made", "/there", "/other"] {
            stored.push(is_hit(&get(&weir, path, "").await));
        }
        stored
    };
    are_stored().await;
    assert_eq!(are_stored().await, [true; 4]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "X-OWN"] {
        let response = ask(&weir, method, "/", "Content-Length: 0\r\n").await;
        assert_eq!(
            (response.status, told(&response)),
            (201, "weir; fwd=method"),
            "{method}"
        );
        assert_eq!(are_stored().await, [false, false, false, true], "{method}");
    }
    // What failed has changed nothing, and what another site is told to have is none of this one's business.
    status.set(response("403 Forbidden", "", ""));
    ask(&weir, "POST", "/", "Content-Length: 0\r\n").await;
    assert_eq!(are_stored().await, [true; 4]);
    status.set(response(
        "200 OK",
        "Location: http://evil.example/made\r\n",
        "",
    ));
    ask(&weir, "POST", "/elsewhere", "Content-Length: 0\r\n").await;
    ask(&weir, "OPTIONS", "/", "").await;
    assert_eq!(are_stored().await, [true; 4]);
}

// ------------------------------------------------------------------------------------------ what is stored of a response

/// RFC 9111 §3.1.
#[tokio::test]
async fn fields_of_one_connection_are_not_stored() {
    let origin = counting(
        "Cache-Control: max-age=60\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authenticate: Basic\r\nX-End: 2\r\n",
    )
    .await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    let again = get(&weir, "/", "").await;
    assert!(is_hit(&again));
    for name in ["connection", "x-hop", "keep-alive", "proxy-authenticate"] {
        assert!(again.fields(name).is_empty(), "{name}: {}", again.head);
    }
    assert_eq!(again.field("x-end"), "2");
}

/// Trailers come when the response is on its way already: with what is stored they would have to be kept, and nobody reads
/// them. What is not stored keeps its own.
/// What a server says to caches it says to weir, too, whatever `Connection` makes of it for the next one (RFC 9111 §3).
#[tokio::test]
async fn what_caches_go_by_is_not_lost_with_the_connection() {
    for (option, lines) in [
        (
            "Cache-Control",
            "Cache-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n",
        ),
        (
            "x-a, cache-control",
            "Cache-Control: private, max-age=60\r\n",
        ),
        (
            "CDN-Cache-Control",
            "Cache-Control: max-age=60\r\nCDN-Cache-Control: no-store\r\n",
        ),
        ("Vary", "Cache-Control: max-age=60\r\nVary: X-A\r\n"),
        ("age", "Cache-Control: max-age=60\r\nAge: 70\r\n"),
    ] {
        let expires = "Expires: Fri, 01 Jan 2100 00:00:00 GMT\r\n";
        let origin =
            counting_by(move |_| format!("{lines}{expires}Connection: {option}\r\n")).await;
        let weir = caching(&origin).await;
        for number in ["1", "2"] {
            let response = get(&weir, "/", "").await;
            assert_eq!(response.text(), number, "{lines}");
            assert_eq!(told(&response), "weir; fwd=uri-miss; detail=no-store");
            assert_eq!(response.field("cache-control"), "no-store");
            for name in ["vary", "age", "cdn-cache-control"] {
                assert!(response.fields(name).is_empty(), "{}", response.head);
            }
        }
    }
    // What is named and not there, and what is of no matter to caches.
    let origin = counting_by(|_| format!("{FRESH}Connection: vary, x-a\r\nX-A: 1\r\n")).await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    assert!(is_hit(&get(&weir, "/", "").await));
}

#[tokio::test]
async fn trailers_are_not_stored() {
    let lines = |control: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
        )
    };
    let origin =
        Origin::start(move |request| lines(request.target().trim_start_matches('/')).into_bytes())
            .await;
    let weir = caching(&origin).await;
    let ask = async |path: &str| get(&weir, path, "TE: trailers\r\n").await;
    assert!(ask("/no-store").await.trailers.contains("x-t: 1"));
    for _ in 0..2 {
        let response = ask("/max-age=60").await;
        assert_eq!(
            (response.text().as_str(), response.complete),
            ("hello", true)
        );
        assert_eq!(response.trailers, "");
        assert!(response.fields("trailer").is_empty());
    }
    let hit = ask("/max-age=60").await;
    assert!(is_hit(&hit));
    assert_eq!(hit.field("content-length"), "5");
}

/// RFC 9111 §3.3.
#[tokio::test]
async fn what_broke_off_is_not_stored() {
    for framing in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let count = AtomicUsize::new(0);
        let origin = Origin::start(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) > 0 {
                return answer(FRESH, "whole");
            }
            format!("HTTP/1.1 200 OK\r\n{FRESH}Connection: close\r\n{framing}").into_bytes()
        })
        .await;
        let weir = caching(&origin).await;
        let broken = get(&weir, "/", "").await;
        assert!(!broken.complete, "{}", broken.head);
        let whole = get(&weir, "/", "").await;
        assert_eq!(whole.text(), "whole");
        assert!(!is_hit(&whole));
    }
}

#[tokio::test]
async fn a_body_of_any_framing_is_stored_whole() {
    let long = "0123456789".repeat(50_000);
    for kind in ["length", "chunked", "close"] {
        let body = long.clone();
        let origin = Origin::start(move |_| {
            let (framing, body) = match kind {
                "length" => (format!("Content-Length: {}", body.len()), body.clone()),
                "chunked" => (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
                ),
                _ => ("Connection: close".to_owned(), body.clone()),
            };
            format!("HTTP/1.1 200 OK\r\n{FRESH}{framing}\r\n\r\n{body}").into_bytes()
        })
        .await;
        let weir = caching(&origin).await;
        let mut http2 = Http2::open(weir.address()).await;
        assert!(http2.get("/").await.text() == long, "{kind}");
        let hit = eventually(async || get(&weir, "/", "").await, is_hit).await;
        assert!(hit.text() == long, "{kind}");
        assert_eq!(hit.field("content-length"), long.len().to_string());
        assert!(http2.get("/").await.text() == long, "{kind}");
        let part = get(&weir, "/", "Range: bytes=499990-\r\n").await;
        assert_eq!(part.text(), "0123456789");
        assert_eq!(origin.requests().len(), 1);
    }
}

/// What weir adds for one client is for that client.
#[tokio::test]
async fn what_the_route_does_to_responses_is_done_to_each() {
    let origin = counting("Cache-Control: max-age=60\r\nX-Gone: 1\r\nX-Set: a\r\n").await;
    let route = "cache = true\nresponse_headers = { set = { x-set = \"b\" }, add = { x-add = \"c\" }, remove = [\"x-gone\"] }\n";
    let weir = before(&origin, route).await;
    for _ in 0..3 {
        let response = get(&weir, "/", "").await;
        assert_eq!(
            (response.field("x-set"), response.field("x-add")),
            ("b", "c")
        );
        assert!(response.fields("x-gone").is_empty());
    }
    assert_eq!(origin.requests().len(), 1);
    // What is stored is what the server sent: the next config has its own way with it.
    let other = "cache = true\nresponse_headers = { set = { x-set = \"z\" } }\n";
    weir.reload(&config(&[&origin], other, "")).await.unwrap();
    let response = get(&weir, "/", "").await;
    assert!(is_hit(&response));
    assert_eq!(
        (response.field("x-set"), response.field("x-gone")),
        ("z", "1")
    );
    assert!(response.fields("x-add").is_empty());
}

#[tokio::test]
async fn the_cookie_by_which_a_client_comes_back_is_not_stored() {
    let origin = counting_by(|request| match request.target() {
        "/private" => "Cache-Control: private\r\n".to_owned(),
        _ => FRESH.to_owned(),
    })
    .await;
    let weir = Weir::start(&config(&[&origin], "cache = true", "sticky = true")).await;
    for _ in 0..3 {
        get(&weir, "/", "").await;
    }
    let hit = get(&weir, "/", "").await;
    assert!(
        is_hit(&hit) && hit.fields("set-cookie").is_empty(),
        "{}",
        hit.head
    );
    for _ in 0..2 {
        let private = get(&weir, "/private", "").await;
        assert!(private.field("set-cookie").starts_with("weir-app="));
    }
}

// --------------------------------------------------------------------------------------------------- sizes, what is told

#[tokio::test]
async fn what_is_larger_than_max_object_size_is_passed_on_and_not_stored() {
    for framing in ["length", "chunked"] {
        let origin = Origin::start(move |request| {
            let body = "x".repeat(request.target()[1..].parse().unwrap());
            if framing == "length" {
                return answer(FRESH, body);
            }
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\n{FRESH}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
                .into_bytes()
        })
        .await;
        let config = config(
            &[&origin],
            "cache = true",
            "[cache]\nmax_object_size = \"100KiB\"",
        );
        let weir = Weir::start(&config).await;
        for (length, is_stored) in [(102_400, true), (102_401, false)] {
            let path = format!("/{length}");
            let first = get(&weir, &path, "").await;
            assert_eq!(first.body.len(), length);
            let again = if is_stored {
                eventually(async || get(&weir, &path, "").await, is_hit).await
            } else {
                let again = get(&weir, &path, "").await;
                assert_eq!(told(&again), "weir; fwd=uri-miss; detail=too-large");
                again
            };
            assert_eq!(again.body.len(), length, "{framing}");
        }
    }
}

/// The default goes no further than `max_size`.
#[tokio::test]
async fn without_max_object_size_8_mib_are_stored_if_the_store_has_room() {
    let origin = Origin::start(|request| {
        let length = request.target()[1..].parse().unwrap();
        answer(FRESH, vec![b'x'; length])
    })
    .await;
    for (store, length, why) in [
        ("", 8 << 20, None),
        ("", (8 << 20) + 1, Some("too-large")),
        ("[cache]\nmax_size = \"1MiB\"", 500 << 10, None),
        (
            "[cache]\nmax_size = \"1MiB\"",
            (1 << 20) + 1,
            Some("too-large"),
        ),
    ] {
        let weir = Weir::start(&config(&[&origin], "cache = true", store)).await;
        let path = format!("/{length}");
        assert_eq!(get(&weir, &path, "").await.body.len(), length);
        let again = match why {
            None => eventually(async || get(&weir, &path, "").await, is_hit).await,
            Some(why) => {
                let again = get(&weir, &path, "").await;
                let expected = format!("weir; fwd=uri-miss; detail={why}");
                assert_eq!(told(&again), expected, "{store} {length}");
                again
            }
        };
        assert_eq!(again.body.len(), length);
    }
}

/// A quarter of the memory that there is, 256 MiB at most.
#[tokio::test]
async fn the_size_of_the_store_follows_from_the_memory_unless_it_is_said() {
    let origin = counting(FRESH).await;
    let size = async |store: &str| {
        let weir = Weir::start(&config(&[&origin], "cache = true", store)).await;
        weir.status().await["cache"]["max_bytes"].as_u64().unwrap()
    };
    let auto = size("").await;
    assert!(((2 << 20)..=(256 << 20)).contains(&auto), "{auto}");
    assert_eq!(size("[cache]\nmax_size = \"auto\"").await, auto);
    assert_eq!(size("[cache]\nmax_size = \"300MiB\"").await, 300 << 20);
}

#[tokio::test]
async fn the_store_stays_within_max_size() {
    let origin = Origin::start(|_| answer(FRESH, "x".repeat(50_000))).await;
    let weir = Weir::start(&config(
        &[&origin],
        "cache = true",
        "[cache]\nmax_size = \"1MiB\"",
    ))
    .await;
    let mut connection = weir.connect().await;
    for number in 0..100 {
        assert_eq!(
            connection.get(&format!("/{number}")).await.body.len(),
            50_000
        );
    }
    let cache = weir.status().await["cache"].clone();
    assert_eq!(cache["max_bytes"], 1 << 20);
    let bytes = async || weir.metric("weir_cache_bytes").await;
    let bytes = eventually(bytes, |bytes| *bytes <= 1.1 * f64::from(1 << 20)).await;
    assert!(bytes > 200_000.0, "{bytes}");
    assert!(weir.metric("weir_cache_evictions_total").await > 70.0);
    assert!(weir.metric("weir_cache_entries").await >= 4.0);
}

#[tokio::test]
async fn metrics_and_the_status_tell_what_the_cache_did() {
    let origin = counting_by(|request| match request.target() {
        "/stale" => {
            "Cache-Control: max-age=60, stale-while-revalidate=60\r\nAge: 70\r\n".to_owned()
        }
        _ => FRESH.to_owned(),
    })
    .await;
    let weir = caching(&origin).await;
    get(&weir, "/", "").await;
    for _ in 0..4 {
        get(&weir, "/", "").await;
    }
    get(&weir, "/stale", "").await;
    get(&weir, "/stale", "").await;
    ask(&weir, "POST", "/post", "Content-Length: 0\r\n").await;
    for (result, expected) in [
        ("hit", 4.0),
        ("miss", 2.0),
        ("stale", 1.0),
        ("bypass", 1.0),
        ("collapsed", 0.0),
        ("revalidated", 0.0),
    ] {
        assert_eq!(count(&weir, result).await, expected, "{result}");
    }
    let cache = eventually(
        async || weir.status().await["cache"].clone(),
        |cache| cache["entries"] == 2,
    )
    .await;
    assert_eq!(cache["requests"]["hit"], 4);
    let ratio = cache["hit_ratio"].as_f64().unwrap();
    assert!((0.5..0.8).contains(&ratio), "{cache}");
    assert!(cache["bytes"].as_u64().unwrap() > 100);
}

#[tokio::test]
async fn the_access_log_tells_what_the_cache_did() {
    let origin = counting("Cache-Control: max-age=60\r\n").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let log = format!(
        "[log]\naccess = \"{}\"\naccess_filter = \"all\"\n",
        file.display()
    );
    let weir = Weir::start(&format!("{log}{}", config(&[&origin], "cache = true", ""))).await;
    // On one connection, and so by one worker: each has lines of its own.
    let mut connection = weir.connect().await;
    for line in ["", "", "Cache-Control: no-store\r\n"] {
        let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{line}\r\n");
        connection.send(&request).await;
        connection.response().await;
    }
    let read = async || std::fs::read_to_string(&file).unwrap_or_default();
    let text = eventually(read, |text| {
        text.lines().count() >= 3 && text.ends_with('\n')
    })
    .await;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| {
        lines
            .iter()
            .map(|line| line[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("cache"), ["miss", "hit", "bypass"]);
    assert_eq!(of("status"), [200, 200, 200]);
    assert_eq!(of("bytes_out"), [1, 1, 1]);
    assert_eq!(of("end"), ["complete"; 3]);
    let server = Value::from(origin.address().to_string());
    assert_eq!(of("server"), [server.clone(), Value::Null, server]);
    assert_eq!(of("attempts"), [1, 0, 1]);
}

/// A client that pipelines gets its answers in order, from the store or not.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|request| answer(FRESH, request.target())).await;
    let weir = caching(&origin).await;
    get(&weir, "/b", "").await;
    let mut connection = weir.connect().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let all = ["/a", "/b", "/c", "/a"];
    connection.send(&all.map(ask).concat()).await;
    for path in all {
        assert_eq!(connection.response().await.text(), path);
    }
}
