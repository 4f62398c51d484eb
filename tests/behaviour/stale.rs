//! What is stale and used all the same: while it is fetched anew, and while its server fails (RFC 5861).

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use h2::client::ResponseFuture;

use crate::support::cache::{Changing, FRESH, answer, config, count, get, is_hit, response, told};
use crate::support::control::Patient;
use crate::support::http2::{self, Http2};
use crate::support::manual::{Manual, Server};
use crate::support::{Connection, Origin, Response, Weir, eventually};

/// Stale since ten seconds when it comes.
fn old(more: &str) -> String {
    format!("Cache-Control: max-age=60{more}\r\nAge: 70\r\nETag: \"a\"\r\n")
}

/// The same, on a connection that is not used again: each request of weir comes on one of its own.
fn once(more: &str) -> String {
    format!("{}Connection: close\r\n", old(more))
}

fn keys(keys: &str) -> String {
    format!("cache = {{ {keys} }}")
}

/// Tries once, and takes no server out of service.
const PLAIN: &str = "retry = \"off\"\nejection = \"off\"";

async fn weir(origin: &Origin, route: &str) -> Weir {
    Weir::start(&config(&[origin], route, PLAIN)).await
}

fn is_stale(response: &Response, detail: &str) -> bool {
    let told = told(response);
    told.starts_with("weir; hit; ttl=-1") && told.ends_with(&format!("; detail={detail}"))
}

#[tokio::test]
async fn the_client_is_answered_at_once_and_one_request_fetches_anew_in_the_background() {
    for (lines, route) in [
        (once(", stale-while-revalidate=60"), "cache = true"),
        (once(", stale-while-revalidate"), "cache = true"),
        (once(""), "cache = { stale_while_revalidate = \"60s\" }"),
        (
            once(", s-maxage=60, stale-while-revalidate"),
            "cache = { stale_while_revalidate = \"off\" }",
        ),
    ] {
        let mut manual = Manual::start().await;
        let weir = weir(&manual.origin, route).await;
        let mut client = weir.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let (mut server, _) = manual.request().await;
        server.send(answer(&lines, "old")).await;
        assert_eq!(client.response().await.text(), "old");
        // On the connection of before, or another one.
        for _ in 0..5 {
            let stale = get(&weir, "/", "X-A: 1\r\n").await;
            assert!(is_stale(&stale, "stale-while-revalidate"), "{}", stale.head);
            assert_eq!(stale.text(), "old");
        }
        let (mut server, request) = manual.request().await;
        assert_eq!(request.field("if-none-match"), "\"a\"");
        assert_eq!(manual.origin.connections(), 2, "one refreshes for all");
        server.send(answer(FRESH, "new")).await;
        let new = eventually(
            async || get(&weir, "/", "").await,
            |new| new.text() == "new",
        )
        .await;
        assert!(is_hit(&new) && !told(&new).contains("detail"));
        assert!(count(&weir, "stale").await >= 5.0);
    }
}

/// The client who caused it is not needed for it.
#[tokio::test]
async fn the_fetch_in_the_background_goes_on_without_the_client() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual.origin, "cache = true").await;
    let mut client = weir.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let (mut server, _) = manual.request().await;
    server
        .send(answer(&once(", stale-while-revalidate=60"), "old"))
        .await;
    client.response().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    client.response().await;
    let (mut server, _) = manual.request().await;
    drop(client);
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |open| *open == 0.0,
    )
    .await;
    let lines = format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 6\r\n\r\nnew");
    server.send(lines).await;
    server.send("new").await;
    let new = eventually(
        async || get(&weir, "/", "").await,
        |new| new.text() == "newnew",
    )
    .await;
    assert!(is_hit(&new));
    assert_eq!(manual.origin.connections(), 2);
}

/// Who asks for the head alone sees that it is stale, too. What is fetched is for those who ask for more.
#[tokio::test]
async fn a_head_has_the_whole_response_fetched_in_the_background() {
    for tag in ["", "ETag: \"a\"\r\n"] {
        let lines =
            format!("Cache-Control: max-age=60, stale-while-revalidate=60\r\nAge: 70\r\n{tag}");
        let asked = AtomicU16::new(0);
        let origin = Origin::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => answer(&lines, "old"),
            _ if request.method() == "HEAD" => {
                format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 3\r\n\r\n").into_bytes()
            }
            _ => answer(FRESH, "new"),
        })
        .await;
        let weir = weir(&origin, "cache = true").await;
        get(&weir, "/", "").await;
        let mut client = weir.connect().await;
        client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let head = client.response_to("HEAD").await;
        assert!(is_stale(&head, "stale-while-revalidate"), "{}", head.head);
        let fetched = |requests: &Vec<String>| requests.len() == 2;
        let methods = async || {
            let requests = origin.requests();
            requests.iter().map(|it| it.method().to_owned()).collect()
        };
        assert_eq!(eventually(methods, fetched).await, ["GET", "GET"]);
        let new = eventually(
            async || get(&weir, "/", "").await,
            |new| new.text() != "old",
        )
        .await;
        assert_eq!(new.text(), "new");
        assert!(is_hit(&new), "{}", new.head);
    }
}

/// It is about what the client has got by then: `only-if-cached` would keep a cache on the way from asking.
#[tokio::test]
async fn what_the_client_says_to_caches_is_not_said_in_the_background() {
    let answers = Changing::new(answer(&old(", stale-while-revalidate=60"), "old"));
    let origin = answers.origin().await;
    let weir = weir(&origin, "cache = true").await;
    get(&weir, "/", "").await;
    answers.set(answer(FRESH, "new"));
    let said = "Cache-Control: only-if-cached, max-stale=60\r\nPragma: no-cache\r\nX-A: 1\r\n";
    let stale = get(&weir, "/", said).await;
    assert!(is_stale(&stale, "stale-while-revalidate"), "{}", stale.head);
    eventually(
        async || get(&weir, "/", "").await,
        |new| new.text() == "new",
    )
    .await;
    let request = origin.last();
    assert_eq!(request.field("x-a"), "1");
    for name in ["cache-control", "pragma"] {
        assert!(request.fields(name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn what_was_validated_in_the_background_is_fresh() {
    let answers = Changing::new(answer(&old(", stale-while-revalidate=60"), "hello"));
    let origin = answers.origin().await;
    let weir = weir(&origin, "cache = true").await;
    get(&weir, "/", "").await;
    answers.set(response(
        "304 Same",
        "Cache-Control: max-age=60\r\nETag: \"a\"\r\n",
        "",
    ));
    get(&weir, "/", "").await;
    let fresh = |response: &Response| is_hit(response) && !told(response).contains("ttl=-");
    let validated = eventually(async || get(&weir, "/", "").await, fresh).await;
    assert_eq!(validated.text(), "hello");
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn without_either_word_what_is_stale_is_validated_first() {
    for route in [
        "cache = true",
        "cache = { stale_while_revalidate = \"5s\" }",
    ] {
        let answers = Changing::new(answer(&old(""), "old"));
        let origin = answers.origin().await;
        let weir = weir(&origin, route).await;
        get(&weir, "/", "").await;
        answers.set(answer(FRESH, "new"));
        assert_eq!(get(&weir, "/", "").await.text(), "new", "{route}");
    }
}

/// How a server fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Status(u16),
    /// It closes the connection.
    Reset,
    /// It says nothing in time.
    Silence,
    /// There is none.
    Refused,
}

/// An origin that answers with these lines once, and then fails.
async fn failing(lines: &str, failure: Failure) -> (Weir, Option<Origin>) {
    failing_on(lines, failure, "cache = true").await
}

async fn failing_on(lines: &str, failure: Failure, route: &str) -> (Weir, Option<Origin>) {
    let first = answer(lines, "old");
    let begun = std::sync::atomic::AtomicBool::new(false);
    let origin = Origin::start(move |_| {
        let is_first = !begun.swap(true, Ordering::SeqCst);
        if is_first {
            return first.clone();
        }
        match failure {
            Failure::Status(status) => response(&format!("{status} X"), "", "failed"),
            Failure::Reset | Failure::Refused => Vec::new(),
            Failure::Silence => b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(),
        }
    })
    .await;
    let upstream = format!("{PLAIN}\nresponse_timeout = \"100ms\"");
    let weir = Weir::start(&config(&[&origin], route, &upstream)).await;
    get(&weir, "/", "").await;
    let origin = match failure {
        Failure::Refused => None,
        _ => Some(origin),
    };
    (weir, origin)
}

const FAILURES: [Failure; 7] = [
    Failure::Status(500),
    Failure::Status(502),
    Failure::Status(503),
    Failure::Status(504),
    Failure::Reset,
    Failure::Silence,
    Failure::Refused,
];

#[tokio::test]
async fn when_the_server_fails_what_is_stale_is_better_than_nothing() {
    for failure in FAILURES {
        for lines in [
            old(""),
            old(", stale-if-error=100"),
            old(", s-maxage=60, stale-if-error=100"),
        ] {
            let (weir, _origin) = failing(&lines, failure).await;
            let stale = get(&weir, "/", "").await;
            assert_eq!(
                (stale.status, stale.text().as_str()),
                (200, "old"),
                "{failure:?}"
            );
            let told = told(&stale);
            assert!(told.starts_with("weir; fwd=stale; "), "{told}");
            assert!(
                told.contains("ttl=-1") && told.ends_with("; detail=stale-if-error"),
                "{told}"
            );
            if let Failure::Status(status) = failure {
                assert!(told.contains(&format!("fwd-status={status}")), "{told}");
            }
            assert_eq!(count(&weir, "stale").await, 1.0);
            let mine = get(&weir, "/", "If-None-Match: \"a\"\r\n").await;
            assert_eq!(mine.status, 304);
        }
    }
}

/// A minute, where it says nothing.
#[tokio::test]
async fn the_config_says_for_how_long_what_is_stale_is_better_than_nothing() {
    for (stale, route, is_used) in [
        (10, "cache = true", true),
        (70, "cache = true", false),
        (70, "cache = { stale_if_error = \"1h\" }", true),
        (10, "cache = { stale_if_error = \"5s\" }", false),
    ] {
        let lines = format!(
            "Cache-Control: max-age=60\r\nAge: {}\r\nETag: \"a\"\r\n",
            60 + stale
        );
        let (weir, _origin) = failing_on(&lines, Failure::Status(503), route).await;
        let expected = if is_used { 200 } else { 503 };
        assert_eq!(
            get(&weir, "/", "").await.status,
            expected,
            "{stale} s, {route}"
        );
    }
}

/// RFC 5861 §4: the directive is for requests, too.
#[tokio::test]
async fn a_client_may_take_what_is_stale_where_the_server_fails() {
    let off = keys("stale_if_error = \"off\"");
    for (lines, asked, status) in [
        (old(""), "", 503),
        (old(""), "Cache-Control: stale-if-error=100\r\n", 200),
        (old(""), "Cache-Control: stale-if-error=5\r\n", 503),
        (
            old(", must-revalidate"),
            "Cache-Control: stale-if-error=100\r\n",
            503,
        ),
        (
            old(", s-maxage=60"),
            "Cache-Control: stale-if-error=100\r\n",
            503,
        ),
    ] {
        let (weir, _origin) = failing_on(&lines, Failure::Status(503), &off).await;
        let response = get(&weir, "/", asked).await;
        assert_eq!(response.status, status, "{lines}{asked}");
        let is_told = told(&response).ends_with("; detail=stale-if-error");
        assert_eq!(is_told, status == 200, "{}", response.head);
    }
}

/// What the response forbids, or the config does not allow.
#[tokio::test]
async fn a_failure_is_told_where_what_is_stale_must_not_be_used() {
    let off = keys("stale_if_error = \"off\"");
    let long = keys("stale_if_error = \"1h\"");
    for failure in [Failure::Status(503), Failure::Refused] {
        for (lines, route) in [
            (old(", must-revalidate"), long.as_str()),
            (old(", proxy-revalidate"), &long),
            (old(", s-maxage=60"), &long),
            (old(", must-revalidate, stale-if-error=100"), &long),
            (old(", no-cache"), &long),
            (old(", stale-if-error=5"), &long),
            (old(""), &off),
            (old(""), "cache = { stale_if_error = \"5s\" }"),
        ] {
            let (weir, _origin) = failing_on(&lines, failure, route).await;
            let failed = get(&weir, "/", "").await;
            let expected = match failure {
                Failure::Status(status) => status,
                _ => 502,
            };
            assert_eq!(failed.status, expected, "{failure:?} {lines}");
        }
    }
}

/// What the server says of a page is no failure of the server.
#[tokio::test]
async fn an_answer_that_is_no_failure_takes_the_place_of_what_is_stale() {
    for status in [404, 403, 501] {
        let (weir, _origin) = failing(&old(""), Failure::Status(status)).await;
        for _ in 0..2 {
            assert_eq!(get(&weir, "/", "").await.status, status);
        }
    }
}

/// Who wants to know whether the server answers is told.
#[tokio::test]
async fn a_client_that_wants_it_validated_learns_of_the_failure() {
    let (weir, _origin) = failing(&old(""), Failure::Status(503)).await;
    let failed = get(&weir, "/", "Cache-Control: no-cache\r\n").await;
    assert_eq!(failed.status, 503);
}

/// A server in trouble is not asked by each request.
#[tokio::test]
async fn a_server_that_has_just_failed_is_left_alone_for_a_second() {
    let (weir, origin) = failing(&old(""), Failure::Status(503)).await;
    let origin = origin.unwrap();
    let mut connection = weir.connect().await;
    connection.get("/").await;
    let asked = |response: &Response| told(response).contains("fwd=stale");
    let mut unasked = 0;
    // As long as it is left alone, and then it is asked again.
    loop {
        let response = connection.get("/").await;
        assert_eq!(response.text(), "old");
        if asked(&response) {
            break;
        }
        assert!(is_stale(&response, "stale-if-error"), "{}", response.head);
        unasked += 1;
    }
    assert!(unasked > 10, "{unasked}");
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn servers_that_are_known_to_be_down_are_not_tried() {
    const CHECK: &str = "health_check = { path = \"/healthz\", interval = \"100ms\", fast_interval = \"50ms\", fall = 1, rise = 1 }";
    for on_all_down in ["try_anyway", "503"] {
        let status = Arc::new(AtomicU16::new(200));
        let health = Arc::clone(&status);
        let origin = Origin::start(move |request| match request.target() {
            "/healthz" => {
                let status = health.load(Ordering::SeqCst);
                response(&format!("{status} X"), "", "")
            }
            _ => answer(&old(""), "old"),
        })
        .await;
        let pages = || {
            let requests = origin.requests();
            requests
                .iter()
                .filter(|it| it.target() != "/healthz")
                .count()
        };
        let upstream = format!("{PLAIN}\non_all_down = \"{on_all_down}\"\n{CHECK}");
        let weir = Weir::start(&config(&[&origin], "cache = true", &upstream)).await;
        weir.until_server_is(origin.address(), "up").await;
        get(&weir, "/", "").await;
        status.store(500, Ordering::SeqCst);
        weir.until_server_is(origin.address(), "down").await;
        let before = pages();
        for _ in 0..3 {
            let stale = get(&weir, "/", "").await;
            assert!(is_stale(&stale, "stale-if-error"), "{}", stale.head);
        }
        assert_eq!(pages(), before, "{on_all_down}");
        // What is not stored is another matter.
        let absent = get(&weir, "/absent", "").await;
        let expected = if on_all_down == "503" { 503 } else { 200 };
        assert_eq!(absent.status, expected);
        status.store(200, Ordering::SeqCst);
        weir.until_server_is(origin.address(), "up").await;
        get(&weir, "/", "").await;
        assert!(pages() > before);
    }
}

#[tokio::test]
async fn those_who_wait_for_a_fetch_that_fails_get_what_is_stale_too() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual.origin, "cache = true").await;
    let mut client = weir.connect().await;
    let ask = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    client.send(ask).await;
    let (mut server, _) = manual.request().await;
    server.send(answer(&once(""), "old")).await;
    client.response().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = weir.connect().await;
        client.send(ask).await;
        clients.push(client);
    }
    let (server, _) = manual.request().await;
    server.reset();
    for client in &mut clients {
        let stale = client.response().await;
        assert_eq!((stale.status, stale.text().as_str()), (200, "old"));
        assert!(
            told(&stale).ends_with("; detail=stale-if-error"),
            "{}",
            stale.head
        );
    }
    assert_eq!(manual.origin.connections(), 2);
}

/// What is stale is being validated for one client, and another waits for that.
struct Validation {
    leader: Connection,
    server: Server,
    waits: ResponseFuture,
    _held: (Http2, ResponseFuture, Server),
}

impl Validation {
    async fn begin(manual: &mut Manual, weir: &Weir) -> Self {
        let ask = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        let mut leader = weir.connect().await;
        leader.send(ask).await;
        let (mut server, _) = manual.request().await;
        server.send(answer(&once(""), "old")).await;
        leader.response().await;
        leader.send(ask).await;
        let (server, _) = manual.request().await;
        let mut waiting = Http2::open(weir.address()).await;
        let (waits, _) = waiting.send(http2::get("/"), true).await;
        // What comes behind it on the same connection is taken up after it.
        let (behind, _) = waiting.send(http2::get("/b"), true).await;
        let (unanswered, _) = manual.request().await;
        Self {
            leader,
            server,
            waits,
            _held: (waiting, behind, unanswered),
        }
    }
}

/// RFC 9211 §2.3.
#[tokio::test]
async fn those_who_wait_for_a_fetch_that_fails_are_told_what_the_server_answered() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual.origin, "cache = true").await;
    let mut validation = Validation::begin(&mut manual, &weir).await;
    let server = &mut validation.server;
    server
        .send(response("503 Away", "Connection: close\r\n", ""))
        .await;
    let led = validation.leader.response().await;
    let waited = http2::answer(validation.waits).await.unwrap();
    assert_eq!((led.text().as_str(), waited.text()), ("old", "old"));
    let waited = waited.headers["cache-status"].to_str().unwrap();
    for (told, collapsed) in [(told(&led), ""), (waited, "; collapsed")] {
        assert!(
            told.starts_with("weir; fwd=stale; fwd-status=503; ttl=-"),
            "{told}"
        );
        assert!(
            told.ends_with(&format!("{collapsed}; detail=stale-if-error")),
            "{told}"
        );
    }
}

/// What is not for those who waited is not a failure: they get their own, and nothing stale.
#[tokio::test]
async fn what_is_stale_is_not_used_where_a_fetch_goes_well_but_brings_nothing_to_share() {
    let mut manual = Manual::start().await;
    let weir = weir(&manual.origin, "cache = true").await;
    let mut validation = Validation::begin(&mut manual, &weir).await;
    // On what it depends for others is not known of the stored one.
    let lines = format!("{FRESH}Vary: X-A\r\nETag: \"a\"\r\nConnection: close\r\n");
    let server = &mut validation.server;
    server
        .send(format!("HTTP/1.1 304 Same\r\n{lines}\r\n"))
        .await;
    assert_eq!(validation.leader.response().await.text(), "old");
    let (mut server, request) = manual.request().await;
    assert!(request.fields("if-none-match").is_empty());
    server.send(answer(FRESH, "new")).await;
    let new = http2::answer(validation.waits).await.unwrap();
    assert_eq!(new.text(), "new");
    let told = new.headers["cache-status"].to_str().unwrap();
    assert!(!told.contains("stale-if-error"), "{told}");
}

/// The failure itself is no news for the store, unless the server says for how long.
#[tokio::test]
async fn failures_are_stored_only_with_freshness_of_their_own() {
    let answers = Changing::new(response("503 Away", "", "away"));
    let origin = answers.origin().await;
    let weir = weir(&origin, "cache = { default_ttl = \"1h\" }").await;
    for _ in 0..2 {
        let failed = get(&weir, "/", "").await;
        assert_eq!((failed.status, is_hit(&failed)), (503, false));
    }
    assert_eq!(origin.requests().len(), 2);
    answers.set(response("503 Away", FRESH, "for a minute"));
    get(&weir, "/", "").await;
    assert!(is_hit(&get(&weir, "/", "").await));
}

/// A server that says `Vary` must not get one variant's fetch in the place of another's.
#[tokio::test]
async fn each_variant_is_fetched_anew_for_itself() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let language = request.field("accept-language").to_owned();
        let number = count.fetch_add(1, Ordering::SeqCst);
        let lines = if number < 2 {
            old(", stale-while-revalidate=60")
        } else {
            FRESH.to_owned()
        };
        answer(&format!("{lines}Vary: accept-language\r\n"), language)
    })
    .await;
    let weir = weir(&origin, "cache = true").await;
    let ask =
        async |language: &str| get(&weir, "/", &format!("Accept-Language: {language}\r\n")).await;
    for _ in 0..2 {
        for language in ["fr", "de"] {
            assert_eq!(ask(language).await.text(), language);
        }
    }
    for language in ["fr", "de"] {
        let fresh = |response: &Response| !told(response).contains("ttl=-");
        let response = eventually(async || ask(language).await, fresh).await;
        assert_eq!(response.text(), language);
    }
    assert_eq!(origin.requests().len(), 4);
}

#[tokio::test]
async fn what_is_stored_survives_a_reload_that_changes_neither_the_store_nor_the_rules() {
    let other = Patient::start("hello").await;
    let origin = Origin::start(|_| answer(FRESH, "hello")).await;
    let weir = Weir::start(&config(&[&origin], "cache = true", PLAIN)).await;
    get(&weir, "/", "").await;
    let same = config(&[&other.origin], "cache = true\ncompress = true", PLAIN);
    weir.reload(&same).await.unwrap();
    assert!(is_hit(&get(&weir, "/", "").await));
    // What was stored by others may not be stored by these rules.
    let rules = config(&[&origin], "cache = { store_set_cookie = true }", PLAIN);
    weir.reload(&rules).await.unwrap();
    assert!(!is_hit(&get(&weir, "/", "").await));
    assert!(is_hit(&get(&weir, "/", "").await));
    let store = format!("{rules}\n[cache]\nmax_size = \"2MiB\"\n");
    weir.reload(&store).await.unwrap();
    assert!(!is_hit(&get(&weir, "/", "").await));
}

#[tokio::test]
async fn http10_clients_get_what_is_stale_as_well() {
    let (weir, _origin) = failing(&old(""), Failure::Reset).await;
    let mut connection = Connection::open(weir.address()).await;
    connection
        .send("GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        .await;
    let stale = connection.response().await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "old"));
}
