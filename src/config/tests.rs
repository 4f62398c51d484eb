//! Whole files through the front door: what is accepted, what each mistake is answered with.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MINIMAL: &str = r#"
[listen.web]
address = ":8080"
[route.site]
upstream = "app"
[upstream.app]
servers = ["127.0.0.1:3000", "127.0.0.1:3001"]
health_check = "/"
"#;
const FULL: &str = include_str!("../../config/weir.full.toml");
const SMALLEST: &str = include_str!("../../config/weir.toml");

fn file() -> &'static Path {
    Path::new("weir.toml")
}

fn valid(text: &str) -> Config {
    parse(text, file()).unwrap_or_else(|report| panic!("{}", report.render(false)))
}

/// The problems on one line each, without the name of the file.
fn problems(text: &str) -> Vec<String> {
    let report = parse(text, file()).expect_err("the text has a mistake");
    let rendered = report.render(false);
    for problem in &report.problems {
        let head = format!("weir.toml:{}:{}: error: ", problem.line, problem.column);
        assert!(
            rendered.lines().any(|line| line.starts_with(&head)),
            "{rendered}"
        );
        assert!(
            text.is_char_boundary(problem.span.start) && text.is_char_boundary(problem.span.end)
        );
    }
    report
        .to_string()
        .lines()
        .map(|line| line.strip_prefix("weir.toml:").unwrap().to_owned())
        .collect()
}

/// The same for one file, apart from what differs on purpose.
fn without_origin(mut config: Config) -> Config {
    config.file = "".into();
    config.files.clear();
    config.hash.clear();
    config.seen = 0;
    config.contents = Contents::default();
    config.warnings = Report::default();
    config
}

#[test]
fn every_default_in_the_annotated_file_is_what_an_absent_key_means() {
    assert_eq!(without_origin(valid(FULL)), without_origin(valid(MINIMAL)));
}

/// What the annotated file has as a comment, since the default is off, read as if it were none.
fn commented(table: &str) -> Route {
    let header = format!("[route.site.{table}]\n");
    let lines = FULL.split(&format!("# {header}")).nth(1).unwrap().lines();
    let lines: Vec<_> = lines.map_while(|line| line.strip_prefix("# ")).collect();
    let text = format!("{MINIMAL}{header}{}\n", lines.join("\n"));
    valid(&text).routes.remove(0)
}

#[test]
fn the_annotated_file_shows_what_compress_and_cache_are_when_they_are_on() {
    assert_eq!(commented("compress").compress, Some(Compress::default()));
    assert_eq!(commented("cache").cache, Some(Cache::default()));
}

/// So that nobody who copies the commented tables misses one.
#[test]
fn every_key_of_the_tables_that_are_off_is_in_the_annotated_file() {
    let on = format!("{MINIMAL}[route.site.compress]\n[route.site.cache]\n");
    let shown = valid(&on).show();
    for table in ["compress", "cache"] {
        let header = format!("[route.site.{table}]\n");
        let keys = shown.split(&header).nth(1).unwrap().lines();
        for line in keys.take_while(|line| !line.is_empty()) {
            let key = line.split(' ').next().unwrap();
            let table = FULL.split(&format!("# {header}")).nth(1).unwrap();
            let lines = table.lines().take_while(|line| !line.is_empty());
            let key = format!("# {key} = ");
            assert!(
                lines.into_iter().any(|line| line.starts_with(&key)),
                "{key}"
            );
        }
    }
}

#[test]
fn every_key_that_is_known_is_in_the_annotated_file() {
    for line in valid(MINIMAL).show().lines() {
        let key = line.split(' ').next().unwrap();
        assert!(FULL.lines().any(|full| full.starts_with(key)), "{key}");
    }
}

#[test]
fn the_smallest_file_is_valid() {
    let config = valid(SMALLEST);
    assert_eq!(config.upstreams[0].balance, Balance::LeastConnections);
    assert_eq!(config.upstreams[0].servers.len(), 2);
    assert_eq!(config.routes[0].listen, [ListenName::from("web")]);
    assert_eq!(config.routes[0].paths, [""]);
}

#[test]
fn tables_that_are_absent_and_tables_that_are_empty_mean_the_same() {
    let empty = format!(
        "include = []\ncache = {{}}\n[defaults.listen]\n[defaults.route]\n[process]\n[admin]\n[log]\n{MINIMAL}\n[upstream.app.keepalive]\n"
    );
    assert_eq!(
        without_origin(valid(&empty)),
        without_origin(valid(MINIMAL))
    );
}

/// Everything set to something else than its default.
pub(super) const EVERYTHING: &str = r#"
[process]
workers = 3
drain = "1500ms"
shutdown_delay = "5s"
resolver = "[fd00::53]"
[admin]
address = "unix:/run/weir.sock"
probes = ":9901"
token = "sesame"
[log]
level = "debug"
format = "json"
access = "/var/log/weir \"1\".log"
access_filter = "all"
access_format = "combined"
[cache]
max_size = "64MiB"
max_object_size = "1MB"
[listen.web]
address = ["127.0.0.1:80", "[::1]:80", "localhost:81"]
trusted_proxies = ["10.1.2.3/8", "::1"]
http2 = false
redirect_to_https = { port = 8443 }
header_timeout = "1s"
stall_timeout = "2s"
keepalive = "620s"
max_connection_age = "1h 30m"
max_header_size = "4KiB"
max_headers = 20
max_target_size = "2KB"
max_connections = 1000
max_concurrent_streams = 7
[listen."in.ner"]
address = ":8081"
[route.site]
listen = ["in.ner"]
host = ["Shop.Example.COM.", "*.example.com"]
path = ["/a/../api/", "/", "//"]
path_exact = "/favicon.ico"
methods = ["GET", "PURGE"]
headers = { X-Canary = "1", x-any = "*" }
query = { "a.b" = "ä", q = "*" }
priority = -4
upstream = { app = 95, other = 5 }
strip_prefix = "/api/"
add_prefix = "/v2"
request_headers = { set = { X-Env = "li\"ve" }, add = { x-tag = "a" }, remove = ["X-Debug"] }
response_headers = { remove = ["server"] }
timeout = "3m"
max_body = "off"
buffer_request = "64KiB"
compress = { codings = ["gzip", "br"], min_size = "0B", level = { br = 0, gzip = 9 }, stored_level = { br = 11, zstd = 19 }, types = ["Text/*", "text/event-stream", "application/*+json"] }
cache = { heuristic = true, default_ttl = "10s", store_set_cookie = true, key_query = ["q", "pa ge"], key_query_sort = true, vary_ignore = ["User-Agent", "cookie"], max_variants = 1024, collapse = false, stale_while_revalidate = "1m", stale_if_error = "off", cache_status = false }
[route.assets]
path = "/assets"
upstream = "app"
cache = true
[route.pages]
path = "/pages"
upstream = "app"
cache = { key_query = "none" }
[route.off]
path = "/off"
upstream = "app"
cache = { enabled = false, heuristic = true }
compress = "off"
[route.moved]
path = "/old"
cache = false
redirect = { to = "https://www.example.com{path}", status = 301 }
[route.gone]
path = "/gone"
compress = true
respond = { status = 410, body = "gone\n\tfor \u0007good", content_type = "text/html" }
[upstream.app]
servers = ["localhost:3000", { address = "[fd00::7]:80", weight = 5, backup = true, max_in_flight = "off" }]
max_in_flight = 8
queue = { size = 5, timeout = "1s" }
panic_below = "30%"
balance = "least_connections"
host_header = "app.example.com"
connect_timeout = "1s"
response_timeout = "1m"
stall_timeout = "90s"
stream_timeout = "2h"
on_all_down = "503"
health_check = { type = "http", path = "/h?x=1", method = "HEAD", host = "h.example.com:80", headers = { x-probe = "1" }, port = 81, interval = "1s", fast_interval = "100ms", timeout = "1s", rise = 1, fall = 1, status = "200, 300-302", body = "ok" }
keepalive = { max_idle = 0, idle = "1s", max_age = "1m" }
slow_start = "30s"
sticky = { cookie = "at", ttl = "1d", path = "/x", domain = "example.com", secure = true, same_site = "strict" }
ejection = { failures = 7, base = "1s", max = "2s", max_share = "12.5%" }
retry = { max_retries = 2, budget = "5%", on = ["timeout", "504"], methods = ["GET", "PURGE"] }
[upstream.other]
servers = ["10.0.0.1:1"]
sticky = true
queue = "off"
balance = "hash"
hash_key = "header:X-Tenant"
host_header = "server"
health_check = { type = "tcp" }
slow_start = "off"
ejection = "off"
retry = "off"
[upstream.rpc]
servers = ["10.0.0.1:2"]
health_check = { type = "grpc", path = "/my.Service", host = "rpc.example.com", headers = { x-probe = "1" }, port = 82 }
[upstream.rpcs]
servers = ["unix:/run/app \"1\".sock", { address = "unix:/run/2.sock", weight = 3 }]
health_check.type = "grpc"
[upstream.named]
servers = ["App.internal:3000", "app.internal.:3000", { address = "srv+_http._tcp.app.internal", weight = 2 }]
tls = true
[upstream.local]
servers = ["localhost:3000", "[fd00::7]:3000"]
tls = {}
[upstream.secure]
servers = ["localhost:3000", "unix:/run/app.sock"]
health_check = { path = "/", host = "[::1]:443" }
tls = { ca = "system", server_name = "App.example.com.", client_cert = "off", client_key = "off" }
"#;

#[test]
fn every_key_lands_in_the_configuration() {
    let config = valid(EVERYTHING);
    let listener = &config.listeners[0];
    assert_eq!(listener.addresses[2].socket.to_string(), "127.0.0.1:81");
    assert_eq!(listener.trusted_proxies[0].to_string(), "10.0.0.0/8");
    assert_eq!(
        listener.limits.max_connection_age,
        Some(Duration::from_secs(5400))
    );
    assert_eq!(listener.limits.max_target_size, ByteSize(2000));
    let route = &config.routes[0];
    assert_eq!(
        route.hosts,
        [
            HostPattern::Exact("shop.example.com".into()),
            HostPattern::Suffix("example.com".into())
        ]
    );
    assert_eq!(
        (route.paths.as_slice(), route.paths_exact.as_slice()),
        (
            &["/api".into(), String::new(), "/".into()][..],
            &["/favicon.ico".into()][..]
        )
    );
    assert_eq!(route.headers[0].value.as_deref(), Some("1"));
    assert_eq!(route.headers[1].value, None);
    assert_eq!(route.strip_prefix.as_deref(), Some("/api"));
    assert_eq!(route.max_body, None);
    assert_eq!(route.buffer_request, Some(ByteSize(65536)));
    let compress = route.compress.as_ref().unwrap();
    assert_eq!(compress.codings, [Coding::Gzip, Coding::Br]);
    assert_eq!(compress.min_size, ByteSize(0));
    let level = compress.level;
    assert_eq!((level.br, level.zstd, level.gzip), (0, 3, 9));
    let level = compress.stored_level;
    assert_eq!((level.br, level.zstd, level.gzip), (11, 19, 9));
    let types: Vec<_> = compress.types.iter().map(MediaPattern::as_str).collect();
    assert_eq!(types, ["text/*", "text/event-stream", "application/*+json"]);
    let cache = route.cache.as_ref().unwrap();
    let all_else = Cache {
        heuristic: true,
        default_ttl: Some(Duration::from_secs(10)),
        store_set_cookie: true,
        key_query: KeyQuery::Names(vec!["q".into(), "pa ge".into()]),
        key_query_sort: true,
        vary_ignore: vec![http::header::USER_AGENT, http::header::COOKIE],
        max_variants: 1024,
        collapse: false,
        stale_while_revalidate: Some(Duration::from_secs(60)),
        stale_if_error: None,
        cache_status: false,
    };
    assert_eq!(*cache, all_else);
    let named = |name: &str| {
        let route = config
            .routes
            .iter()
            .find(|route| route.name.as_str() == name);
        route.unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(named("assets").cache, Some(Cache::default()));
    assert_eq!(
        named("pages").cache.as_ref().unwrap().key_query,
        KeyQuery::None
    );
    assert_eq!((&named("off").cache, &named("moved").cache), (&None, &None));
    let store = config.cache;
    assert_eq!(
        (store.max_size, store.max_object_size),
        (Some(ByteSize(64 << 20)), ByteSize(1_000_000))
    );
    assert_eq!(named("moved").compress, None);
    assert_eq!(named("gone").compress, Some(Compress::default()));
    assert_eq!(named("moved").listen.len(), 2);
    let app = &config.upstreams[0];
    assert_eq!(app.servers[0].place.to_string(), "127.0.0.1:3000");
    assert_eq!(u64::from(app.servers[1].weight), 5);
    assert_eq!(app.on_all_down, OnAllDown::Refuse);
    assert_eq!(app.slow_start, Some(Duration::from_secs(30)));
    let sticky = app.sticky.as_ref().unwrap();
    assert_eq!((sticky.cookie.as_str(), sticky.path.as_str()), ("at", "/x"));
    assert_eq!(sticky.ttl, Some(Duration::from_secs(86400)));
    assert_eq!(
        (sticky.secure, sticky.same_site),
        (Secure::Always, SameSite::Strict)
    );
    assert_eq!(sticky.domain.as_deref(), Some("example.com"));
    let default = config.upstreams[1].sticky.as_ref().unwrap();
    assert_eq!(
        (default.cookie.as_str(), default.secure),
        ("weir-other", Secure::Auto)
    );
    assert!(app.servers[1].backup && !app.servers[0].backup);
    assert_eq!(app.servers[1].max_in_flight, Some(None));
    assert_eq!(
        (app.max_in_flight, app.servers[0].max_in_flight),
        (Some(8), None)
    );
    assert_eq!((app.queue.size, app.queue.timeout.as_secs()), (5, 1));
    assert_eq!(app.panic_below, Some(Share::percent(30)));
    assert_eq!(config.upstreams[1].queue.size, 0);
    let ejection = app.ejection.unwrap();
    assert_eq!((ejection.failures, ejection.max_share.of(1000)), (7, 125));
    let retry = app.retry.as_ref().unwrap();
    assert_eq!(retry.on, [RetryOn::Timeout, RetryOn::GatewayTimeout]);
    assert_eq!((retry.max_retries, retry.methods.len()), (2, 2));
    let other = &config.upstreams[1];
    assert_eq!(
        (other.ejection, &other.retry, other.slow_start),
        (None, &None, None)
    );
    let tenant = HashKey::Header(HeaderName::from_static("x-tenant"));
    assert_eq!(config.upstreams[1].balance, Balance::Hash(tenant));
    let check = config.upstreams[1].health_check.as_ref().unwrap();
    assert_eq!(check.kind, HealthCheckKind::Tcp);
    let service = |upstream: usize| {
        let check = config.upstreams[upstream].health_check.as_ref().unwrap();
        match &check.kind {
            HealthCheckKind::Grpc(check) => check.service.as_str(),
            kind => panic!("{kind:?}"),
        }
    };
    assert_eq!([service(2), service(3)], ["my.Service", ""]);
    let places = config.upstreams[4].servers.iter();
    let places: Vec<_> = places.map(|server| server.place.to_string()).collect();
    assert_eq!(
        places,
        [
            "app.internal:3000",
            "app.internal.:3000",
            "srv+_http._tcp.app.internal"
        ]
    );
    let resolver = config.process.resolver.unwrap();
    assert_eq!(resolver.to_string(), "[fd00::53]:53");
}

#[test]
fn every_policy_has_its_word_and_a_hash_its_key() {
    let balance = |keys: &str| {
        let text = format!("[upstream.x]\nservers = [\"10.0.0.1:80\"]\n{keys}");
        let config = valid(&with(&text));
        let again = valid(&config.show());
        assert_eq!(again.upstreams, config.upstreams);
        config.upstreams[0].balance.clone()
    };
    assert_eq!(balance(""), Balance::RoundRobin);
    assert_eq!(balance("balance = \"peak_ewma\""), Balance::PeakEwma);
    assert_eq!(balance("balance = \"random\""), Balance::Random);
    let hash = |key: &str| balance(&format!("hash_key = \"{key}\"\nbalance = \"hash\""));
    assert_eq!(balance("balance = \"hash\""), hash("client_ip"));
    assert_eq!(hash("client_ip"), Balance::Hash(HashKey::ClientIp));
    assert_eq!(hash("path"), Balance::Hash(HashKey::Path));
    let session = HashKey::Cookie("Session.id".into());
    assert_eq!(hash("cookie:Session.id"), Balance::Hash(session));
    let shard = HashKey::Header(HeaderName::from_static("x-shard"));
    assert_eq!(hash("header:X-Shard"), Balance::Hash(shard));
}

#[test]
fn what_is_shown_parses_to_the_same_configuration() {
    for text in [MINIMAL, SMALLEST, EVERYTHING] {
        let config = valid(text);
        let shown = config.show();
        assert!(!shown.contains("sesame"), "{shown}");
        let mut again = valid(&shown);
        assert_eq!(again.admin.token.is_some(), config.admin.token.is_some());
        again.admin.token.clone_from(&config.admin.token);
        assert_eq!(without_origin(again), without_origin(config), "{shown}");
    }
}

/// A file that is valid but for `broken`, which comes first and so begins on line 1.
fn with(broken: &str) -> String {
    format!("{broken}\n{MINIMAL}")
}

#[test]
fn each_mistake_is_answered_with_where_what_and_what_to_do() {
    let route = |keys: &str| with(&format!("[route.x]\npath = \"/x\"\n{keys}"));
    let proxied = |keys: &str| route(&format!("upstream = \"app\"\n{keys}"));
    let listen = |keys: &str| with(&format!("[listen.x]\naddress = \":1\"\n{keys}"));
    let upstream = |keys: &str| {
        with(&format!(
            "[upstream.x]\nservers = [\"10.0.0.1:80\"]\n{keys}"
        ))
    };
    let servers = |list: &str| with(&format!("[upstream.x]\nservers = {list}"));
    let cases: &[(String, &str)] = &[
        // keys and types
        (
            with("[proces]"),
            "1:2: proces: unknown key `proces`; did you mean `process`?",
        ),
        (
            with("[process]\nworker = 1"),
            "2:1: process.worker: unknown key `worker`; did you mean `workers`?",
        ),
        (with("colour = 1"), "1:1: colour: unknown key `colour`"),
        (
            with("process = 1"),
            "1:11: process: expected a table, found the number `1`",
        ),
        (
            with("[[process]]"),
            "1:1: process: expected a table, found a list",
        ),
        (
            with("[log]\nlevel = \"inf\""),
            "2:9: log.level: expected one of `\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"`, found `\"inf\"`; did you mean `info`?",
        ),
        (
            with("[process]\nworkers = 0"),
            "2:11: process.workers: expected a number from 1 to 1024, found `0`",
        ),
        (
            with("[process]\nworkers = 99999999999999999999"),
            "2:11: process.workers: expected a number from 1 to 1024, found `99999999999999999999`",
        ),
        (
            with("[process]\nworkers = 1.5"),
            "2:11: process.workers: expected a number from 1 to 1024, found the number `1.5`",
        ),
        (
            with("[process]\nworkers = \"4\""),
            "2:11: process.workers: expected a number from 1 to 1024, found the string `\"4\"`; write `4`, without quotes",
        ),
        (
            "[listen]\naddress = \":1\"\nhttp2 = true\n[route.x]\nrespond = {}".into(),
            "2:1: listen.address: `[listen]` has no name; write `[listen.NAME]`, with a name of your choice",
        ),
        // durations and sizes
        (
            with("[process]\ndrain = 25"),
            "2:9: process.drain: expected a duration with a unit such as `\"5s\"`, found the number `25`; write `\"25s\"` for seconds or `\"25ms\"` for milliseconds",
        ),
        (
            with("[process]\ndrain = \"25\""),
            "2:9: process.drain: expected a duration with a unit such as `\"5s\"`, found the string `\"25\"`; write `\"25s\"` for seconds or `\"25ms\"` for milliseconds",
        ),
        (
            with("[process]\ndrain = 2.5"),
            "2:9: process.drain: expected a duration with a unit such as `\"5s\"`, found the number `2.5`",
        ),
        (
            with("[process]\ndrain = true"),
            "2:9: process.drain: expected a duration with a unit such as `\"5s\"`, found the boolean `true`",
        ),
        (
            with("[process]\ndrain = \"-5s\""),
            "2:9: process.drain: `-5s` is not a duration; write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`",
        ),
        (
            with("[process]\ndrain = \"5M\""),
            "2:9: process.drain: `5M` is not a duration; write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`",
        ),
        (
            with("[process]\ndrain = \"0s\""),
            "2:9: process.drain: must be more than zero",
        ),
        (
            with("[process]\ndrain = \"11y\""),
            "2:9: process.drain: must not be more than ten years (`\"3650d\"`)",
        ),
        (
            listen("max_header_size = 32768"),
            "3:19: listen.x.max_header_size: expected a size with a unit such as `\"64KiB\"`, found the number `32768`; write `\"32768B\"` for bytes or `\"32768KiB\"`",
        ),
        (
            listen("max_header_size = \"32kib\""),
            "3:19: listen.x.max_header_size: `32kib` is not a size; write `\"32KiB\"`",
        ),
        (
            listen("max_header_size = \"2MiB\""),
            "3:19: listen.x.max_header_size: expected a size from 1KiB to 1MiB, found `2MiB`",
        ),
        (
            listen("max_header_size = \"4KiB\"\nmax_target_size = \"8KiB\""),
            "4:19: listen.x.max_target_size: expected a size from 64B to 4KiB, found `8KiB`",
        ),
        (
            proxied("max_body = \"99999999999GiB\""),
            "4:12: route.x.max_body: `99999999999GiB` is not a size; write a whole number and a unit: `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB` or `GB`, as in `\"64KiB\"`",
        ),
        // none at all, as others write it
        (
            proxied("max_body = \"0\""),
            "4:12: route.x.max_body: expected a size with a unit such as `\"64KiB\"`, found the string `\"0\"`; write `\"off\"`",
        ),
        (
            proxied("buffer_request = \"0B\""),
            "4:18: route.x.buffer_request: expected a size from 1B to 16MiB, found `0B`; write `\"off\"`",
        ),
        (
            listen("max_header_size = 0"),
            "3:19: listen.x.max_header_size: expected a size with a unit such as `\"64KiB\"`, found the number `0`; write a size from 1KiB to 1MiB",
        ),
        (
            proxied("timeout = \"0\""),
            "4:11: route.x.timeout: expected a duration with a unit such as `\"5s\"`, found the string `\"0\"`; write `\"off\"`",
        ),
        (
            proxied("timeout = \"0s\""),
            "4:11: route.x.timeout: must be more than zero; write `\"off\"`",
        ),
        (
            listen("keepalive = 0"),
            "3:13: listen.x.keepalive: expected a duration with a unit such as `\"5s\"`, found the number `0`; it must be more than zero",
        ),
        (
            upstream("panic_below = \"0%\""),
            "3:15: upstream.x.panic_below: must be more than 0% and at most 100%; write `\"off\"`",
        ),
        (
            upstream("max_in_flight = 0"),
            "3:17: upstream.x.max_in_flight: expected a number from 1 to 1000000, found `0`; write `\"off\"`",
        ),
        // what others write
        (
            upstream("health_check = \"http://127.0.0.1:13001/healthz\""),
            "3:16: upstream.x.health_check: `http://127.0.0.1:13001/healthz` is not a path; write `/healthz`",
        ),
        (
            upstream("health_check = \"http://127.0.0.1:13001\""),
            "3:16: upstream.x.health_check: `http://127.0.0.1:13001` is not a path; write `/`",
        ),
        (
            with("[route.x]\nrespond = {}\npath = '~* \\.(css|js)$'"),
            "3:8: route.x.path: `~* \\.(css|js)$` does not begin with `/`; a path is a prefix of whole segments; there are no patterns and no regular expressions",
        ),
        (
            with("[route.x]\nrespond = {}\npath_exact = '^/x'"),
            "3:14: route.x.path_exact: `^/x` does not begin with `/`; a path is a prefix of whole segments; there are no patterns and no regular expressions",
        ),
        (
            with("[route.x]\nrespond = {}\npath = '*'"),
            "3:8: route.x.path: `*` does not begin with `/`; write `/` for every path",
        ),
        (
            proxied("limit_req = \"zone=one\""),
            "4:1: route.x.limit_req: unknown key `limit_req`; limits of the rate of requests are not supported yet",
        ),
        (
            servers("[\"$SHOP_2\"]"),
            "2:12: upstream.x.servers[0]: `$SHOP_2` is not an address; a variable is written as `${SHOP_2}`",
        ),
        (
            servers("[\"10.0.0.1:$PORT\"]"),
            "2:12: upstream.x.servers[0]: `$PORT` is not a port; ports are 1 to 65535; a variable is written as `${PORT}`",
        ),
        // compression
        (
            proxied("compress = 1"),
            "4:12: route.x.compress: expected `true`, a table, or `\"off\"`, found the number `1`",
        ),
        (
            proxied("compress = { codings = [\"deflate\", \"gzip\"] }"),
            "4:25: route.x.compress.codings[0]: expected one of `\"br\"`, `\"zstd\"`, `\"gzip\"`, found `\"deflate\"`",
        ),
        (
            proxied("compress = { codings = [\"gzip\", \"gzip\"] }"),
            "4:33: route.x.compress.codings[1]: the string `\"gzip\"` is listed twice",
        ),
        (
            proxied("compress = { codings = [] }"),
            "4:24: route.x.compress.codings: nothing would be compressed; write `enabled = false` for that",
        ),
        (
            proxied("compress = { types = [] }"),
            "4:22: route.x.compress.types: nothing would be compressed; write `enabled = false` for that",
        ),
        (
            proxied("compress = { types = [\"text/html; charset=utf-8\"] }"),
            "4:23: route.x.compress.types[0]: `text/html; charset=utf-8` is not a media type; write `text/html`, `text/*` or `application/*+json`",
        ),
        (
            proxied("compress = { types = [\"*/*\"] }"),
            "4:23: route.x.compress.types[0]: `*/*` is not a media type; write `text/html`, `text/*` or `application/*+json`",
        ),
        (
            proxied("compress = { level = { br = 7 } }"),
            "4:29: route.x.compress.level.br: expected a number from 0 to 6, found `7`",
        ),
        (
            proxied("compress = { level = { zstd = 0 } }"),
            "4:31: route.x.compress.level.zstd: expected a number from 1 to 8, found `0`",
        ),
        (
            proxied("compress = { level = { gzip = 10 } }"),
            "4:31: route.x.compress.level.gzip: expected a number from 1 to 9, found `10`",
        ),
        (
            proxied("compress = { level = { deflate = 1 } }"),
            "4:24: route.x.compress.level.deflate: unknown key `deflate`",
        ),
        (
            proxied("compress = { min_size = \"65KiB\" }"),
            "4:25: route.x.compress.min_size: expected a size from 0B to 64KiB, found `65KiB`",
        ),
        (
            proxied("compress = { enabled = \"yes\" }"),
            "4:24: route.x.compress.enabled: expected `true` or `false`, found the string `\"yes\"`; write `true`",
        ),
        (
            proxied("compress = { stored_level = { br = 12 } }"),
            "4:36: route.x.compress.stored_level.br: expected a number from 0 to 11, found `12`",
        ),
        (
            proxied("compress = { stored_level = { zstd = 20 } }"),
            "4:38: route.x.compress.stored_level.zstd: expected a number from 1 to 19, found `20`",
        ),
        (
            proxied("compress = { stored_level = { gzip = 0 } }"),
            "4:38: route.x.compress.stored_level.gzip: expected a number from 1 to 9, found `0`",
        ),
        // the cache
        (
            with("[cache]\nmax_size = 64"),
            "2:12: cache.max_size: expected a size with a unit such as `\"64KiB\"`, found the number `64`; write `\"64B\"` for bytes or `\"64KiB\"`",
        ),
        (
            with("[cache]\nmax_size = \"1KiB\""),
            "2:12: cache.max_size: expected a size from 1MiB to 16384GiB, found `1KiB`",
        ),
        (
            with("[cache]\nmax_size = \"off\""),
            "2:12: cache.max_size: `off` is not a size; write a whole number and a unit: `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB` or `GB`, as in `\"64KiB\"`",
        ),
        (
            with("[cache]\nmax_size = \"4MiB\"\nmax_object_size = \"8MiB\""),
            "3:19: cache.max_object_size: `8MiB` is more than `max_size`, which is `4MiB`",
        ),
        (
            with("[cache]\nmax_object_size = \"0B\""),
            "2:19: cache.max_object_size: expected a size from 1B to 16384GiB, found `0B`",
        ),
        (
            with("[cache]\nmax_file_size = \"1MiB\""),
            "2:1: cache.max_file_size: unknown key `max_file_size`; write `max_object_size`",
        ),
        (
            with("[cache]\nmax_sise = \"1MiB\""),
            "2:1: cache.max_sise: unknown key `max_sise`; did you mean `max_size`?",
        ),
        (
            with("[cache]\nheuristic = true"),
            "2:1: cache.heuristic: unknown key `heuristic`",
        ),
        (
            proxied("cache = \"on\""),
            "4:9: route.x.cache: expected `true`, a table, or `\"off\"`, found the string `\"on\"`; write `true`",
        ),
        (
            proxied("proxy_cache = true"),
            "4:1: route.x.proxy_cache: unknown key `proxy_cache`; write `cache`",
        ),
        (
            proxied("cache = { ttl = \"10s\" }"),
            "4:11: route.x.cache.ttl: unknown key `ttl`; write `default_ttl`",
        ),
        (
            proxied("cache = { grace = \"10s\" }"),
            "4:11: route.x.cache.grace: unknown key `grace`; write `stale_if_error`",
        ),
        (
            proxied("cache = { default_tll = \"10s\" }"),
            "4:11: route.x.cache.default_tll: unknown key `default_tll`; did you mean `default_ttl`?",
        ),
        (
            proxied("cache = { enabled = 1 }"),
            "4:21: route.x.cache.enabled: expected `true` or `false`, found the number `1`",
        ),
        (
            proxied("cache = { heuristic = \"yes\" }"),
            "4:23: route.x.cache.heuristic: expected `true` or `false`, found the string `\"yes\"`; write `true`",
        ),
        (
            proxied("cache = { store_set_cookie = \"no\" }"),
            "4:30: route.x.cache.store_set_cookie: expected `true` or `false`, found the string `\"no\"`; write `false`",
        ),
        (
            proxied("cache = { key_query_sort = \"name\" }"),
            "4:28: route.x.cache.key_query_sort: expected `true` or `false`, found the string `\"name\"`",
        ),
        (
            proxied("cache = { collapse = \"5s\" }"),
            "4:22: route.x.cache.collapse: expected `true` or `false`, found the string `\"5s\"`",
        ),
        (
            proxied("cache = { cache_status = \"off\" }"),
            "4:26: route.x.cache.cache_status: expected `true` or `false`, found the string `\"off\"`; write `false`",
        ),
        (
            proxied("cache = { default_ttl = 60 }"),
            "4:25: route.x.cache.default_ttl: expected a duration with a unit such as `\"5s\"`, found the number `60`; write `\"60s\"` for seconds or `\"60ms\"` for milliseconds",
        ),
        (
            proxied("cache = { stale_if_error = \"0s\" }"),
            "4:28: route.x.cache.stale_if_error: must be more than zero; write `\"off\"`",
        ),
        (
            proxied("cache = { stale_while_revalidate = true }"),
            "4:36: route.x.cache.stale_while_revalidate: expected a duration with a unit such as `\"5s\"`, found the boolean `true`",
        ),
        (
            proxied("cache = { key_query = \"nome\" }"),
            "4:23: route.x.cache.key_query: expected `\"all\"`, `\"none\"` or a list of names such as `[\"page\"]`, found `\"nome\"`; did you mean `none`?",
        ),
        (
            proxied("cache = { key_query = \"page\" }"),
            "4:23: route.x.cache.key_query: expected `\"all\"`, `\"none\"` or a list of names such as `[\"page\"]`, found `\"page\"`; write `[\"page\"]` for that parameter",
        ),
        (
            proxied("cache = { key_query = false }"),
            "4:23: route.x.cache.key_query: expected `\"all\"`, `\"none\"` or a list of names such as `[\"page\"]`, found the boolean `false`",
        ),
        (
            proxied("cache = { key_query = [] }"),
            "4:23: route.x.cache.key_query: no parameter would count; write `\"none\"` for that",
        ),
        (
            proxied("cache = { key_query = [\"a\", \"b=1\"] }"),
            "4:29: route.x.cache.key_query[1]: `b=1` cannot be the name of a parameter",
        ),
        (
            proxied("cache = { key_query = [\"a\", \"a\"] }"),
            "4:29: route.x.cache.key_query[1]: the string `\"a\"` is listed twice",
        ),
        (
            proxied("cache = { vary_ignore = \"cookie\" }"),
            "4:25: route.x.cache.vary_ignore: expected a list of field names, found the string `\"cookie\"`; write `[\"cookie\"]`",
        ),
        (
            proxied("cache = { vary_ignore = [\"a b\"] }"),
            "4:26: route.x.cache.vary_ignore[0]: `a b` is not a field name",
        ),
        (
            proxied("cache = { vary_ignore = [\"cookie\", \"Cookie\"] }"),
            "4:36: route.x.cache.vary_ignore[1]: the string `\"Cookie\"` is listed twice",
        ),
        (
            proxied("cache = { vary_ignore = [\"*\"] }"),
            "4:26: route.x.cache.vary_ignore[0]: `Vary: *` cannot be ignored: it says that a response is good for one request only; name the fields that do not count",
        ),
        (
            proxied("cache = { vary_ignore = [\"Accept-Encoding\"] }"),
            "4:26: route.x.cache.vary_ignore[0]: `accept-encoding` cannot be ignored: clients would get what they cannot decode; leave it out; weir tells clients apart only by the codings that they take",
        ),
        (
            proxied("cache = { max_variants = 1025 }"),
            "4:26: route.x.cache.max_variants: expected a number from 1 to 1024, found `1025`",
        ),
        (
            route("respond = {}\ncache = true"),
            "4:1: route.x.cache: `cache` means nothing with `respond`; it keeps what upstreams answer; leave it out",
        ),
        (
            route("redirect = { to = \"/y\" }\ncache = {}"),
            "4:1: route.x.cache: `cache` means nothing with `redirect`; it keeps what upstreams answer; leave it out",
        ),
        // addresses
        (
            with("[listen.x]"),
            "1:1: listen.x: `address` is missing; for example `address = \":8080\"`",
        ),
        (
            with("[listen.x]\naddress = []"),
            "2:11: listen.x.address: a listener needs an address; for example `\":8080\"`",
        ),
        (
            with("[listen.x]\naddress = \"8081\""),
            "2:11: listen.x.address: `8081` has no address; write `:8081`",
        ),
        (
            with("[listen.x]\naddress = \":99999\""),
            "2:11: listen.x.address: `99999` is not a port; ports are 1 to 65535",
        ),
        (
            with("[listen.x]\naddress = \"example.com:80\""),
            "2:11: listen.x.address: `example.com` is not an IP address; write an IP address, or `:PORT` for all of the machine's",
        ),
        (
            with("[listen.x]\naddress = \"127.0.0.1:8080\""),
            "5:11: listen.web.address: `:8080` clashes with `127.0.0.1:8080` of `listen.x.address` at weir.toml:2:11",
        ),
        (
            with("[listen.x]\naddress = \"127.0.0.1:9900\"\n[admin]\naddress = \"127.0.0.1:9900\""),
            "4:11: admin.address: `127.0.0.1:9900` clashes with `127.0.0.1:9900` of `listen.x.address` at weir.toml:2:11",
        ),
        (
            with("[listen.x]\naddress = \":9900\""),
            "2:11: listen.x.address: clashes with `127.0.0.1:9900`, the default of `admin.address`; set `admin.address` to another, or to `\"off\"`",
        ),
        (
            listen("trusted_proxies = [\"10.0.0.0/33\"]"),
            "3:20: listen.x.trusted_proxies[0]: `10.0.0.0/33` is not a network; write it as `10.0.0.0/8`",
        ),
        (
            with("[admin]\naddress = \"0.0.0.0:9900\""),
            "2:11: admin.address: an address that others can reach needs a `token`; set `token`, or listen on `127.0.0.1:9900`",
        ),
        (
            with("[admin]\ntoken = \"se same\""),
            "2:9: admin.token: a token is one or more visible ASCII characters without spaces",
        ),
        (
            with("[admin]\ntoken = 12345"),
            "2:9: admin.token: expected a string",
        ),
        (
            servers("[]"),
            "2:11: upstream.x.servers: an upstream needs a server; for example `[\"127.0.0.1:3000\"]`",
        ),
        (
            servers("[\"10.0.0.6:80\", \"10.0.0.7\"]"),
            "2:27: upstream.x.servers[1]: `10.0.0.7` has no port; write `10.0.0.7:8080`",
        ),
        (
            servers("[\"fd00::7\"]"),
            "2:12: upstream.x.servers[0]: `fd00::7` has no port; write `[fd00::7]:8080`",
        ),
        (
            servers("[\"10.0.0.7:0\"]"),
            "2:12: upstream.x.servers[0]: `0` is not a port; ports are 1 to 65535",
        ),
        (
            servers("[\"10.0.0.7:port\"]"),
            "2:12: upstream.x.servers[0]: `port` is not a port; ports are 1 to 65535",
        ),
        (
            servers("[\"10.0.0.256:80\"]"),
            "2:12: upstream.x.servers[0]: `10.0.0.256:80` is not an address; write it as `10.0.0.7:8080`",
        ),
        (
            servers("[\"http://10.0.0.7:80/x\"]"),
            "2:12: upstream.x.servers[0]: `http://10.0.0.7:80/x` has a scheme, which servers do not; write `10.0.0.7:80`",
        ),
        (
            servers("[\"10.0.0.7:80\", { address = \"10.0.0.7:80\" }]"),
            "2:27: upstream.x.servers[1]: `10.0.0.7:80` is listed twice; `upstream.x.servers[0]` is the same",
        ),
        (
            servers("[{ address = \"10.0.0.7:80\", weight = 0 }]"),
            "2:48: upstream.x.servers[0].weight: expected a number from 1 to 1000000, found `0`",
        ),
        (
            upstream("balance = \"hsh\"\nhash_key = \"path\""),
            "3:11: upstream.x.balance: expected one of `\"round_robin\"`, `\"least_connections\"`, `\"peak_ewma\"`, `\"random\"`, `\"hash\"`, found `\"hsh\"`; did you mean `hash`?",
        ),
        (
            upstream("hash_key = \"path\""),
            "3:1: upstream.x.hash_key: `hash_key` means nothing with `balance = \"round_robin\"`; write `balance = \"hash\"`, or leave it out",
        ),
        (
            upstream("balance = \"random\"\nhash_key = \"client_ip\""),
            "4:1: upstream.x.hash_key: `hash_key` means nothing with `balance = \"random\"`; write `balance = \"hash\"`, or leave it out",
        ),
        (
            upstream("balance = \"hash\"\nhash_key = \"ip\""),
            "4:12: upstream.x.hash_key: expected `\"client_ip\"`, `\"path\"`, `\"header:NAME\"` or `\"cookie:NAME\"`, found `\"ip\"`",
        ),
        (
            upstream("balance = \"hash\"\nhash_key = \"path:x\""),
            "4:12: upstream.x.hash_key: expected `\"client_ip\"`, `\"path\"`, `\"header:NAME\"` or `\"cookie:NAME\"`, found `\"path:x\"`",
        ),
        (
            upstream("balance = \"hash\"\nhash_key = [\"path\"]"),
            "4:12: upstream.x.hash_key: expected `\"client_ip\"`, `\"path\"`, `\"header:NAME\"` or `\"cookie:NAME\"`, found a list",
        ),
        (
            upstream("balance = \"hash\"\nhash_key = \"header:x y\""),
            "4:12: upstream.x.hash_key: `x y` is not a field name",
        ),
        (
            upstream("balance = \"hash\"\nhash_key = \"cookie:a=b\""),
            "4:12: upstream.x.hash_key: `a=b` is not the name of a cookie",
        ),
        (
            upstream("balance = \"hash\"\nhash_key = \"cookie:\""),
            "4:12: upstream.x.hash_key: `` is not the name of a cookie",
        ),
        (
            servers("\"10.0.0.7:80\""),
            "2:11: upstream.x.servers: expected a list such as `[\"127.0.0.1:3000\"]`, found the string `\"10.0.0.7:80\"`; write `[\"10.0.0.7:80\"]`",
        ),
        // names
        (
            route("upstream = \"ap\""),
            "3:12: route.x.upstream: there is no upstream `ap`; did you mean `app`?",
        ),
        (
            route("upstream = { app = 1, apq = 2 }"),
            "3:23: route.x.upstream.apq: there is no upstream `apq`; did you mean `app`?",
        ),
        (
            proxied("listen = [\"wep\"]"),
            "4:11: route.x.listen[0]: there is no listener `wep`; did you mean `web`?",
        ),
        (
            with("[upstream.\"a b\"]\nservers = [\"10.0.0.1:80\"]"),
            "1:11: upstream.\"a b\": `a b` cannot be a name; names are 1 to 100 letters, digits, `-`, `_` and `.`",
        ),
        // routes
        (
            route(""),
            "1:1: route.x: a route needs one of `upstream`, `redirect` and `respond`; for example `upstream = \"app\"`",
        ),
        (
            proxied("respond = {}"),
            "4:1: route.x.respond: `respond` beside `upstream`; a route has one of them",
        ),
        (
            route("redirect = { to = \"/y\", status = 304 }"),
            "3:34: route.x.redirect.status: `304` is not a redirect; write 301, 302, 303, 307 or 308",
        ),
        (
            route("redirect = {}"),
            "3:12: route.x.redirect: `to` is missing; for example `to = \"https://www.example.com{path}\"`",
        ),
        (
            route("redirect = { to = \"/{host}\" }"),
            "3:19: route.x.redirect.to: `/{host}` has a placeholder other than `{path}`; name the host, or write `{path}` alone to stay at the same",
        ),
        (
            route("respond = { status = 100 }"),
            "3:22: route.x.respond.status: expected a number from 200 to 599, found `100`",
        ),
        (
            route("respond = { status = 204, body = \"x\" }"),
            "3:34: route.x.respond.body: an answer with status 204 has no body",
        ),
        (
            proxied("host = \"a.*.com\""),
            "4:8: route.x.host: `a.*.com` has a `*` that is not at its front; only whole labels at the front can be open, as in `*.example.com`",
        ),
        (
            proxied("host = \"*\""),
            "4:8: route.x.host: `*` is not a host; leave `host` out for any host",
        ),
        (
            proxied("host = [\"a.com\", \"A.com.\"]"),
            "4:18: route.x.host[1]: the string `\"A.com.\"` is listed twice",
        ),
        (
            proxied("host = \"a.com:80\""),
            "4:8: route.x.host: `a.com:80` has a port; hosts match on any port; write `a.com`",
        ),
        (
            proxied("host = \"bücher.de\""),
            "4:8: route.x.host: `bücher.de` is not ASCII; write international names as `xn--…`",
        ),
        (
            with("[route.x]\nupstream = \"app\"\npath = \"api\""),
            "3:8: route.x.path: `api` does not begin with `/`; write `/api`",
        ),
        (
            with("[route.x]\nupstream = \"app\"\npath = []"),
            "3:8: route.x.path: a route without a path matches nothing; write `path = \"/\"` for every path",
        ),
        (
            proxied("path_exact = \"/a b\""),
            "4:14: route.x.path_exact: `/a b`: the path has a control character, a space, `?` or `#`",
        ),
        (
            proxied("strip_prefix = \"/\""),
            "4:16: route.x.strip_prefix: `/` is no prefix; write `\"off\"`",
        ),
        (
            proxied("methods = [\"get\"]"),
            "4:12: route.x.methods[0]: `get`: methods are case-sensitive; write `GET`",
        ),
        (
            proxied("headers = { \"x y\" = \"1\" }"),
            "4:13: route.x.headers.\"x y\": `x y` is not a field name",
        ),
        (
            proxied("headers = { host = \"a\" }"),
            "4:13: route.x.headers.host: `host` is not a condition on fields; use `host` of the route",
        ),
        (
            proxied("headers = { x-a = \"1\", X-A = \"2\" }"),
            "4:24: route.x.headers.X-A: `x-a` is there twice: the names of fields ignore case",
        ),
        (
            proxied("request_headers.set = { host = \"a\" }"),
            "4:25: route.x.request_headers.set.host: `host` is not changed here; use `host_header` of the upstream",
        ),
        (
            proxied("request_headers.add = { Content-Length = \"1\" }"),
            "4:25: route.x.request_headers.add.Content-Length: `content-length` belongs to the framing, which is weir's own",
        ),
        (
            proxied("response_headers.remove = [\"Transfer-Encoding\"]"),
            "4:28: route.x.response_headers.remove[0]: `transfer-encoding` belongs to the connection, which is weir's own",
        ),
        (
            proxied("response_headers.set = { x = \"a\\u0007\" }"),
            "4:30: route.x.response_headers.set.x: `a\\u{7}` cannot be a field value: it has control characters",
        ),
        // upstreams
        (
            upstream("health_check = \"healthz\""),
            "3:16: upstream.x.health_check: `healthz` is not a path; write `/healthz`",
        ),
        (
            upstream("health_check = { timeout = \"0s\" }"),
            "3:28: upstream.x.health_check.timeout: must be more than zero",
        ),
        (
            upstream("health_check = { status = \"399-200\" }"),
            "3:27: upstream.x.health_check.status: the string `\"399-200\"` is not a set of statuses; write statuses from 100 to 599 as in `\"200-299, 304\"`",
        ),
        (
            upstream("health_check = { type = \"tcp\", path = \"/\" }"),
            "3:32: upstream.x.health_check.path: `path` means nothing with `type = \"tcp\"`",
        ),
        (
            upstream("ejection = { max_share = 50 }"),
            "3:26: upstream.x.ejection.max_share: expected a share such as `\"25%\"`, found the number `50`; write `\"50%\"`",
        ),
        (
            upstream("ejection = { max_share = \"101%\" }"),
            "3:26: upstream.x.ejection.max_share: must be more than 0% and at most 100%",
        ),
        (
            upstream("retry = { budget = \"a lot\" }"),
            "3:20: upstream.x.retry.budget: `a lot` is not a share; write a number and `%`, as in `\"25%\"`",
        ),
        (
            upstream("ejection = { base = \"10m\" }"),
            "3:21: upstream.x.ejection.base: `max` must not be less than `base`",
        ),
        (
            upstream("retry = { on = [\"500\"] }"),
            "3:17: upstream.x.retry.on[0]: expected one of `\"connect\"`, `\"reset\"`, `\"timeout\"`, `\"502\"`, `\"503\"`, `\"504\"`, found `\"500\"`; did you mean `502`?",
        ),
        (
            servers("[{ address = \"10.0.0.1:80\", backup = true }]"),
            "2:11: upstream.x.servers: all servers are backups; a backup stands in for others; leave `backup` out of one at least",
        ),
        (
            upstream("sticky = 1"),
            "3:10: upstream.x.sticky: expected `true`, a table, or `\"off\"`, found the number `1`",
        ),
        (
            upstream("sticky = { cookie = \"a b\" }"),
            "3:21: upstream.x.sticky.cookie: `a b` is not the name of a cookie",
        ),
        (
            upstream("sticky = { path = \"/;x\" }"),
            "3:19: upstream.x.sticky.path: `/;x` is not the path of a cookie",
        ),
        (
            upstream("sticky = { domain = \"a.com:80\" }"),
            "3:21: upstream.x.sticky.domain: `a.com:80` is not a domain; write it as `example.com`",
        ),
        (
            upstream("sticky = { secure = false, same_site = \"none\" }"),
            "3:40: upstream.x.sticky.same_site: browsers take no cookie with `SameSite=None` that is not `Secure`; leave `secure` at `\"auto\"`",
        ),
        (
            upstream("max_in_flight = 0"),
            "3:17: upstream.x.max_in_flight: expected a number from 1 to 1000000, found `0`; write `\"off\"`",
        ),
        (
            proxied("buffer_request = \"1GiB\""),
            "4:18: route.x.buffer_request: expected a size from 1B to 16MiB, found `1GiB`",
        ),
        (
            upstream("health_check = { type = \"grpc\", status = 200 }"),
            "3:33: upstream.x.health_check.status: `status` means nothing with `type = \"grpc\"`",
        ),
        (
            servers("[\"unix:app.sock\"]"),
            "2:12: upstream.x.servers[0]: `app.sock` is not the whole path of a socket; write `unix:/app.sock`",
        ),
        (
            servers("[\"unix:///run/app.sock\"]"),
            "2:12: upstream.x.servers[0]: `///run/app.sock` is not the whole path of a socket; write `unix:/run/app.sock`",
        ),
        (
            servers("[\"unix:\"]"),
            "2:12: upstream.x.servers[0]: `` is not the whole path of a socket; write it as `unix:/run/app.sock`, at most 107 bytes",
        ),
        (
            servers("[\"app.internal\"]"),
            "2:12: upstream.x.servers[0]: `app.internal` has no port; write `app.internal:8080`",
        ),
        (
            servers("[\"app.internal:0\"]"),
            "2:12: upstream.x.servers[0]: `0` is not a port; ports are 1 to 65535",
        ),
        (
            servers("[\"http://app.internal:80/\"]"),
            "2:12: upstream.x.servers[0]: `http://app.internal:80/` has a scheme, which servers do not; write `app.internal:80`",
        ),
        (
            servers("[\"app..internal:80\"]"),
            "2:12: upstream.x.servers[0]: `app..internal:80` is not an address; write it as `10.0.0.7:8080`",
        ),
        (
            servers(&format!("[\"{}.internal:80\"]", "a".repeat(64))),
            &format!(
                "2:12: upstream.x.servers[0]: `{}` is longer than the 63 characters of a label",
                "a".repeat(64)
            ),
        ),
        (
            servers(&format!("[\"srv+{}internal\"]", "a.".repeat(128))),
            "2:12: upstream.x.servers[0]: a host name has at most 253 characters",
        ),
        (
            servers("[\"srv+_http._tcp.app.internal:80\"]"),
            "2:12: upstream.x.servers[0]: `_http._tcp.app.internal:80` has a port, which SRV records tell; write `srv+_http._tcp.app.internal`",
        ),
        (
            servers("[\"srv+10.0.0.1\"]"),
            "2:12: upstream.x.servers[0]: `10.0.0.1` is an address, not a name",
        ),
        (
            servers("[\"srv+a b\"]"),
            "2:12: upstream.x.servers[0]: `a b`: the host has a character that no host name has",
        ),
        (
            servers("[\"App.internal:80\", \"app.internal:80\"]"),
            "2:31: upstream.x.servers[1]: `app.internal:80` is listed twice; `upstream.x.servers[0]` is the same",
        ),
        (
            with("[process]\nresolver = \"dns.internal\""),
            "2:12: process.resolver: `dns.internal` is not the IP address of a DNS server; write it as `10.0.0.53` or `127.0.0.1:5353`",
        ),
        (
            with("[process]\nresolver = \"10.0.0.53:99999\""),
            "2:12: process.resolver: `99999` is not a port; ports are 1 to 65535",
        ),
        (
            servers("[\"unix:/a\", \"unix:/a\"]"),
            "2:23: upstream.x.servers[1]: `unix:/a` is listed twice; `upstream.x.servers[0]` is the same",
        ),
        (
            servers("[\"unix:/a\"]\nhealth_check = { port = 80 }"),
            "3:16: upstream.x.health_check: `unix:/a` has no port; leave `port` out",
        ),
        (
            upstream("health_check = { type = \"rpc\" }"),
            "3:25: upstream.x.health_check.type: expected one of `\"http\"`, `\"tcp\"`, `\"grpc\"`, found `\"rpc\"`; did you mean `grpc`?",
        ),
        (
            upstream("health_check = true"),
            "3:16: upstream.x.health_check: expected a path such as `\"/healthz\"`, a table, or `\"off\"`, found the boolean `true`; name what to ask the servers for, as in `\"/healthz\"`",
        ),
        (
            upstream("host_header = \"a b\""),
            "3:15: upstream.x.host_header: `a b`: the host has a character that no host name has",
        ),
        // certificates
        (
            listen("tls = { certificates = [] }"),
            "3:24: listen.x.tls.certificates: TLS needs a certificate",
        ),
        (
            listen("tls = {}"),
            "3:7: listen.x.tls: `certificates` is missing; for example `certificates = [{ cert = \"site.pem\", key = \"site.key\" }]`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text), [*expected], "{text}");
    }
}

#[test]
fn where_a_list_or_a_table_is_wanted_it_is_told_how_to_write_what_is_there() {
    let route = |keys: &str| with(&format!("[route.x]\npath = \"/x\"\n{keys}"));
    let proxied = |keys: &str| route(&format!("upstream = \"app\"\n{keys}"));
    let upstream = |keys: &str| {
        with(&format!(
            "[upstream.x]\nservers = [\"10.0.0.1:80\"]\n{keys}"
        ))
    };
    let listen = |keys: &str| with(&format!("[listen.x]\naddress = \":1\"\n{keys}"));
    let cases = [
        (proxied("listen = \"web\""), "write `[\"web\"]`"),
        (
            proxied("methods = \"GET, POST\""),
            "write `[\"GET\", \"POST\"]`",
        ),
        (
            with("[upstream.x]\nservers = \"127.0.0.1:1\""),
            "write `[\"127.0.0.1:1\"]`",
        ),
        (route("upstream = [\"app\"]"), "write `\"app\"`"),
        (
            route("upstream = [\"app\", \"b\"]"),
            "by weight: `{ app = 1, b = 1 }`",
        ),
        (
            route("redirect = \"https://x\""),
            "write `{ to = \"https://x\" }`",
        ),
        (route("respond = 404"), "write `{ status = 404 }`"),
        (route("respond = \"gone\""), "write `{ body = \"gone\" }`"),
        (
            proxied("cache = \"10m\""),
            "write `{ default_ttl = \"10m\" }`",
        ),
        (
            proxied("compress = \"gzip\""),
            "write `true`, or `{ codings = [\"gzip\"] }`",
        ),
        (
            proxied("strip_prefix = true"),
            "name the prefix to strip, as in `\"/api\"`",
        ),
        (proxied("strip_prefix = false"), "write `\"off\"`"),
        (upstream("keepalive = 32"), "write `{ max_idle = 32 }`"),
        (
            upstream("keepalive = \"30s\""),
            "write `{ idle = \"30s\" }`",
        ),
        (upstream("queue = 100"), "write `{ size = 100 }`"),
        (upstream("queue = 0"), "write `\"off\"`"),
        (upstream("retry = 3"), "write `{ max_retries = 3 }`"),
        (upstream("retry = false"), "write `\"off\"`"),
        (
            upstream("health_check = true"),
            "name what to ask the servers for, as in `\"/healthz\"`",
        ),
        (upstream("health_check = false"), "write `\"off\"`"),
        (
            upstream("tls = \"skip_verify\""),
            "certificates of servers are always verified: write `true`, or name their authority, as in `{ ca = \"ca.pem\" }`",
        ),
        (
            upstream("sticky = \"cookie\""),
            "write `true`, or `{ cookie = \"NAME\" }` to name the cookie",
        ),
        (
            listen("redirect_to_https = true"),
            "write `{}`, or `{ port = 443 }`",
        ),
        (
            with("[defaults.upstream]\nqueue = 7"),
            "write `{ size = 7 }`",
        ),
        (with("[listen.x]\naddress = \"*:18443\""), "write `:18443`"),
    ];
    for (text, help) in cases {
        let report = parse(&text, file()).expect_err(&text);
        let told: Vec<_> = (report.problems.iter())
            .map(|problem| problem.help.as_deref())
            .collect();
        assert_eq!(told, [Some(help)], "{text}");
    }
}

#[test]
fn keys_of_later_versions_are_refused_by_name_unless_they_are_off() {
    let in_route = "[route.site]\nupstream = \"app\"\n";
    let in_upstream = "servers = [\"127.0.0.1:3000\"]\n";
    let cases = [
        ("[process]\n", "user", "\"weir\"", Some("\"off\"")),
        ("", "notify", "{ webhook = \"off\" }", Some("{}")),
        (
            "[listen.web]\naddress = \":8080\"\n",
            "proxy_protocol",
            "{}",
            Some("\"off\""),
        ),
        (in_route, "allow", "[\"::1\"]", Some("[]")),
        (in_route, "deny", "[\"::1\"]", Some("[]")),
        (
            in_route,
            "rate_limit",
            "{ rate = \"1/s\" }",
            Some("\"off\""),
        ),
        (
            "[listen.web]\naddress = \":8080\"\n[listen.web.tls]\n",
            "client_ca",
            "\"x\"",
            None,
        ),
        (
            "[listen.web]\naddress = \":8080\"\n[listen.web.tls]\n",
            "client_auth",
            "\"request\"",
            None,
        ),
    ];
    for (before, key, on, off) in cases {
        // The tables of the minimal file, as far as `before` does not have them.
        let text = |value: &str| {
            let mut parts = vec![];
            if before.is_empty() || before.starts_with("[p") {
                parts.push(format!("{before}{key} = {value}\n"));
            }
            let own = |header: &str| {
                before
                    .starts_with(header)
                    .then(|| format!("{before}{key} = {value}\n"))
            };
            parts.push(own("[listen").unwrap_or("[listen.web]\naddress = \":8080\"\n".into()));
            parts.push(own("[route").unwrap_or(in_route.into()));
            parts.push("[upstream.app]\n".into());
            parts.push(own("servers").unwrap_or(in_upstream.into()));
            parts.concat()
        };
        let refused = problems(&text(on));
        let expected = format!("`{key}` is not supported yet; leave it out");
        assert!(
            refused.iter().any(|line| line.ends_with(&expected)),
            "{key}: {refused:?}"
        );
        if let Some(off) = off {
            valid(&text(off));
        }
    }
}

#[test]
fn values_of_later_versions_are_refused() {
    let cases = [(
        "servers = [\"10.0.0.1:80\"]\nprotocol = \"http2\"",
        "protocol: ",
        "`http2` is not supported yet; write one of `\"http1\"`",
    )];
    for (keys, key, message) in cases {
        let lines = problems(&with(&format!("[upstream.x]\n{keys}")));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].ends_with(&format!(" upstream.x.{key}{message}")),
            "{lines:?}"
        );
    }
}

/// Of a folder that is there, no more is asked: who checks a file need not be who runs by it.
#[test]
fn a_log_file_needs_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let with = |path: &str| {
        let text = format!("{MINIMAL}[log]\naccess = \"{path}\"\n");
        parse(&text, Path::new("weir.toml"))
    };
    let make = "make it: weir makes the file, not its folder";
    for (path, message) in [
        (
            format!("{at}/none/a.log"),
            format!("the folder `{at}/none` does not exist; {make}"),
        ),
        (
            format!("{at}/file/a.log"),
            format!("`{at}/file` is not a folder; {make}"),
        ),
        (
            format!("{at}/file/none/a.log"),
            format!("the folder `{at}/file/none` does not exist; {make}"),
        ),
        (
            format!("{at}"),
            format!("`{at}` is a folder; write the path of a file in it"),
        ),
    ] {
        let told = with(&path).unwrap_err().to_string();
        assert!(
            told.ends_with(&format!(":10: log.access: {message}")),
            "{told}"
        );
    }
    assert!(with(&format!("{at}/a.log")).is_ok() && with("a.log").is_ok());
    assert!(!folder.path().join("a.log").exists(), "nothing is made");
    // weir may be started in another working directory.
    let elsewhere = with("none/here/a.log").unwrap();
    let warned = &elsewhere.warnings.problems;
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(
        warned[0].message,
        "the folder `none/here` does not exist in the working directory"
    );
}

#[test]
fn one_run_tells_every_mistake_in_the_order_of_the_file() {
    let text = "\
[listen.web]
adress = \":8080\"
keepalive = 75
[route.site]
upstream = \"ap\"
rate_limit = true
max_body = 5s
[upstream.app]
servers = [\"10.0.0.7\", \"10.0.0.8:80\", 5]
stray
[upstream.other]
servers = [\"10.0.0.9\"]
";
    let expected = [
        "2:1: listen.web.adress: unknown key `adress`; did you mean `address`?",
        "3:13: listen.web.keepalive: expected a duration with a unit such as `\"5s\"`, found the number `75`; write `\"75s\"` for seconds or `\"75ms\"` for milliseconds",
        "5:12: route.site.upstream: there is no upstream `ap`; did you mean `app`?",
        "6:1: route.site.rate_limit: `rate_limit` is not supported yet; leave it out",
        "7:12: string values must be quoted, expected literal string; write `\"5s\"`",
        "9:12: upstream.app.servers[0]: `10.0.0.7` has no port; write `10.0.0.7:8080`",
        "9:39: upstream.app.servers[2]: expected an address such as `\"10.0.0.7:8080\"` or a table with one, found the number `5`",
        "10:6: key with no value, expected `=`",
        "12:12: upstream.other.servers[0]: `10.0.0.9` has no port; write `10.0.0.9:8080`",
    ];
    assert_eq!(problems(text), expected);
}

/// The smallest store still takes what fits into it, and the default does not have to be lowered by hand.
#[test]
fn the_size_of_the_store_bounds_the_default_of_what_goes_into_it() {
    let store = |keys: &str| valid(&with(&format!("[cache]\n{keys}"))).cache;
    assert_eq!(store("max_size = \"auto\""), CacheStore::default());
    let small = store("max_size = \"1MiB\"");
    assert_eq!(small.max_object_size, ByteSize(1 << 20));
    let exact = store("max_size = \"9MiB\"\nmax_object_size = \"9MiB\"");
    assert_eq!(exact.max_object_size, ByteSize(9 << 20));
    let unknown = store("max_object_size = \"1GiB\"");
    assert_eq!(unknown.max_object_size, ByteSize(1 << 30));
}

/// Nothing is encoded anew where there is no cache, but whoever turns that off need not rewrite all else.
#[test]
fn a_stored_level_may_stand_where_there_is_no_cache() {
    let text = format!("{MINIMAL}[route.site.compress]\nstored_level = {{ br = 5 }}\n");
    let route = &valid(&text).routes[0];
    assert_eq!(
        (
            &route.cache,
            route.compress.as_ref().unwrap().stored_level.br
        ),
        (&None, 5)
    );
}

#[test]
fn what_is_defined_twice_is_shown_with_both_places() {
    let key =
        problems("[listen.web]\naddress = \":1\"\naddress = \":2\"\n[route.x]\nrespond = {}\n");
    assert_eq!(
        key,
        ["3:1: `address` is defined twice; the first is at weir.toml:2:1"]
    );
    let table = problems(&with("[route.a]\nrespond = {}\npath = \"/a\"\n[route.a]\n"));
    assert_eq!(
        table,
        ["4:8: `a` is defined twice; the first is at weir.toml:1:1"]
    );
}

#[test]
fn a_file_needs_a_listener_and_a_route() {
    let expected = [
        "1:1: the file needs a listener, for example `[listen.web]`",
        "1:1: the file needs a route, for example `[route.site]`",
    ];
    assert_eq!(problems(""), expected);
    valid("[listen.a]\naddress = \":1\"\n[route.a]\nrespond = {}");
}

#[test]
fn port_zero_is_a_free_port_for_each() {
    valid(&with(
        "[listen.x]\naddress = [\"127.0.0.1:0\"]\n[listen.y]\naddress = [\"127.0.0.1:0\", \":0\"]",
    ));
}

/// Two routes; the text of each after `upstream = "app"`.
fn two_routes(one: &str, other: &str) -> Result<Config, Report> {
    let head = "[listen.web]\naddress = \":1\"\n[listen.more]\naddress = \":2\"\n[upstream.app]\nservers = [\"10.0.0.1:1\"]\n";
    parse(
        &format!(
            "{head}[route.a]\nupstream = \"app\"\n{one}\n[route.b]\nupstream = \"app\"\n{other}\n"
        ),
        file(),
    )
}

#[test]
fn routes_that_match_the_same_with_the_same_precedence_are_ambiguous() {
    let ambiguous = [
        ("", ""),
        ("path = \"/a\"", "path = [\"/b\", \"/a/\"]"),
        (
            "host = \"A.com\"\npath_exact = \"/a\"",
            "host = [\"b.com\", \"a.com\"]\npath_exact = \"/%61\"",
        ),
        ("host = \"*.a.com\"", "host = \"*.a.com\""),
        ("methods = [\"GET\", \"PUT\"]", "methods = [\"PUT\"]"),
        ("methods = [\"GET\"]", "headers = { x = \"1\" }"),
        ("headers = { x = \"1\" }", "headers = { x = \"*\" }"),
        ("headers = { x = \"1\" }", "headers = { y = \"1\" }"),
        ("query = { x = \"1\" }", "headers = { x = \"2\" }"),
        ("listen = [\"web\"]", "listen = []"),
        ("priority = 3", "priority = 3"),
    ];
    for (one, other) in ambiguous {
        let report = two_routes(one, other).expect_err(other);
        assert_eq!(report.problems.len(), 1, "{report}");
        assert_eq!(
            (report.problems[0].id, report.problems[0].key.as_str()),
            ("ambiguous-routes", "route.b")
        );
    }
    let report = two_routes("", "").expect_err("the same");
    let expected = "weir.toml:10:8: route.b: `b` matches the same requests as `a` at weir.toml:7:8 (any host, path `/`) with the same precedence; both would take `GET example.com/`; give one of them a higher `priority` or another condition";
    assert_eq!(report.to_string(), expected);
}

#[test]
fn a_request_shows_that_two_routes_collide() {
    let cases = [
        (
            "host = \"a.com\"\npath = \"/a\"\nmethods = [\"PUT\", \"GET\"]",
            "host = \"a.com\"\npath = [\"/b\", \"/a\"]\nmethods = [\"POST\", \"GET\"]",
            "`GET a.com/a`",
        ),
        (
            "host = \"*.a.com\"\nmethods = [\"PUT\"]",
            "host = \"*.a.com\"\nheaders = { x-a = \"*\" }",
            "`PUT www.a.com/` with `x-a: 1`",
        ),
        (
            "query = { q = \"*\", r = \"2\" }",
            "query = { q = \"7\" }\nheaders = { x-b = \"v\" }",
            "`GET example.com/?q=7&r=2` with `x-b: v`",
        ),
    ];
    for (one, other, request) in cases {
        let report = two_routes(one, other).expect_err(other);
        let help = report.problems[0].help.as_deref().unwrap();
        let expected = format!("both would take {request}; ");
        assert!(help.starts_with(&expected), "{help}");
    }
}

/// The warnings of a valid text, on one line each.
fn warnings(text: &str) -> Vec<String> {
    let warnings = valid(text).warnings;
    assert!(warnings.to_string().is_empty(), "no errors");
    assert!(
        warnings
            .problems
            .iter()
            .all(|problem| problem.severity == Severity::Warning)
    );
    let rendered = warnings.render(false);
    assert_eq!(
        rendered.matches(": warning: ").count(),
        warnings.problems.len()
    );
    let lines = warnings.problems.iter().map(|problem| {
        let line = problem.to_string();
        line.strip_prefix("weir.toml:").unwrap().to_owned()
    });
    lines.collect()
}

#[test]
fn what_is_surely_not_meant_is_a_warning() {
    let upstream = |keys: &str| {
        format!(
            "{MINIMAL}[route.x]\npath = \"/x\"\nupstream = \"x\"\n[upstream.x]\nservers = [\"10.0.0.1:80\"]\n{keys}\n"
        )
    };
    let route = |keys: &str| format!("{MINIMAL}[route.x]\n{keys}\nrespond = {{}}\n");
    let redirect =
        |to: &str| format!("{MINIMAL}[route.x]\nredirect = {{ to = \"{to}\" }}\npath = \"/x\"\n");
    let field = |value: &str| {
        format!(
            "{MINIMAL}[route.x]\nrequest_headers = {{ set = {{ x-a = '{value}' }} }}\npath = \"/x\"\nrespond = {{}}\n"
        )
    };
    let cases = [
        (
            with("[upstream.x]\nservers = [\"10.0.0.1:80\"]"),
            "1:11: upstream.x: no route uses this upstream; name it in the `upstream` of a route, or leave it out",
        ),
        (
            upstream("sticky = true"),
            "14:10: upstream.x.sticky: there is one server alone, which all clients have anyway; leave `sticky` out until there are more",
        ),
        (
            upstream("health_check = { interval = \"1s\" }"),
            "14:29: upstream.x.health_check.interval: `timeout` (2s) is longer than `interval` (1s); the next probe waits for the one before; make `timeout` shorter",
        ),
        (
            upstream("health_check = { timeout = \"9s\", fast_interval = \"500ms\" }"),
            "14:28: upstream.x.health_check.timeout: `timeout` (9s) is longer than `interval` (5s); the next probe waits for the one before; make `timeout` shorter",
        ),
        (
            upstream("health_check = { fast_interval = \"6s\" }"),
            "14:34: upstream.x.health_check.fast_interval: `fast_interval` (6s) is longer than `interval` (5s); it is for probing more often while the state changes",
        ),
        (
            upstream("keepalive = { idle = \"20m\" }"),
            "14:22: upstream.x.keepalive.idle: `idle` (20m) is longer than `max_age` (10m), which ends connections sooner",
        ),
        (
            route("path = \"/x/*\""),
            "10:8: route.x.path: `/x/*` is taken as it is written; a `path` is a prefix of whole segments: write `/x`",
        ),
        (
            route("path_exact = \"/*\""),
            "10:14: route.x.path_exact: `/*` is taken as it is written; a `path` is a prefix of whole segments: write `path = \"/\"`",
        ),
        (
            route("path = ['/x.php$']"),
            "10:9: route.x.path[0]: `/x.php$` is taken as it is written; a path is a prefix of whole segments; there are no patterns and no regular expressions",
        ),
        (
            route("path = '/x/(a|b)'"),
            "10:8: route.x.path: `/x/(a|b)` is taken as it is written; a path is a prefix of whole segments; there are no patterns and no regular expressions",
        ),
        (
            route("host = \"_\""),
            "10:8: route.x.host: no client asks for `_`; leave `host` out for any host",
        ),
        (
            redirect("https://$host$request_uri"),
            "10:19: route.x.redirect.to: `$host` is sent as it is written; `{path}` is the one placeholder: the path of the request; the query is kept",
        ),
        (
            redirect("https://a.com/$1"),
            "10:19: route.x.redirect.to: `$1` is sent as it is written; `{path}` is the one placeholder: the path of the request; the query is kept",
        ),
        (
            field("$proxy_add_x_forwarded_for"),
            "10:35: route.x.request_headers.set.x-a: `$proxy_add_x_forwarded_for` is sent as it is written; values have no placeholders; what servers are told of the client, as `X-Forwarded-For`, `-Proto` and `-Host`, they are told anyway",
        ),
        (
            field("$TOKEN"),
            "10:35: route.x.request_headers.set.x-a: `$TOKEN` is sent as it is written; a variable of the environment is written as `${TOKEN}`",
        ),
        (
            field("Bearer $TOKEN"),
            "10:35: route.x.request_headers.set.x-a: `$TOKEN` is sent as it is written; a variable of the environment is written as `${TOKEN}`",
        ),
        (
            field("id {http.request.host}"),
            "10:35: route.x.request_headers.set.x-a: `{http.request.host}` is sent as it is written; values have no placeholders; what servers are told of the client, as `X-Forwarded-For`, `-Proto` and `-Host`, they are told anyway",
        ),
        (
            field("file:/run/secrets/key"),
            "10:35: route.x.request_headers.set.x-a: the value of a field is sent as it is written; only `token` reads a file; write `${NAME}` for a variable of the environment",
        ),
        (
            format!("{MINIMAL}[route.first]\nupstream = \"app\"\npriority = 1\n"),
            "4:8: route.site: no request ever takes this route: `first` at weir.toml:9:8 has a higher `priority` and takes all of its requests; give it another condition or a higher `priority`, or leave it out",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(warnings(&text), [expected], "{text}");
    }
    for text in [
        MINIMAL.to_owned(),
        upstream("sticky = true").replace("10.0.0.1:80", "app.internal:80"),
        upstream("health_check = { interval = \"2s\" }"),
        route("path = \"/wiki/Weir_(dam)\""),
        route("host = \"_.example.com\""),
        redirect("https://a.com{path}?price=$x"),
        field("$2y$10$abcdef"),
        field("{\"group\":\"a\",\"of\":{}}"),
        // What is wrong elsewhere may be why it seems so.
        format!("{MINIMAL}[route.first]\nupstream = \"app\"\npriority = 1\nmethods = [\"GET\"]\n"),
    ] {
        assert_eq!(warnings(&text), Vec::<String>::new(), "{text}");
    }
}

/// A listener in the clear, and the tables that follow.
fn at_port_80(rest: &str) -> String {
    format!("[listen.web]\naddress = \":80\"\n{rest}")
}

#[test]
fn a_redirect_that_leads_to_itself_is_a_warning() {
    let route = |keys: &str, to: &str| {
        at_port_80(&format!(
            "[route.x]\n{keys}\nredirect = {{ to = \"{to}\" }}\n"
        ))
    };
    let help =
        "let it lead to what another route takes, or let this one take less, as by `path_exact`";
    for (keys, to, from, location) in [
        ("path = \"/a\"", "/a", "/a", "/a"),
        ("path = \"/a\"", "/a/b?c", "/a", "/a/b?c"),
        ("path = \"/a\"", "{path}/", "/a", "/a/"),
        ("", "/v2{path}", "/", "/v2/"),
        ("path_exact = [\"/a\", \"/b\"]", "/b", "/a", "/b"),
        (
            "host = \"a.com\"",
            "http://A.com{path}",
            "/",
            "http://A.com/",
        ),
        (
            "host = [\"*.a.com\", \"a.com\"]",
            "http://a.com:80",
            "/",
            "http://a.com:80",
        ),
        ("methods = [\"POST\"]", "{path}", "/", "/"),
    ] {
        let expected = format!(
            "5:19: route.x.redirect.to: the redirect leads back to this route: from `{from}` to `{location}`; {help}"
        );
        assert_eq!(warnings(&route(keys, to)), [expected], "{keys} {to}");
    }
    let other = |keys: &str, other: &str| format!("{keys}\n[route.y]\nrespond = {{}}\n{other}");
    for text in [
        route("path = \"/a\"", "/b"),
        route("path = \"/a\"", "/ab"),
        route("path = \"/old\"", "/new{path}"),
        route("path_exact = \"/\"", "/app"),
        // Who else may be meant by that is not known here.
        route("", "http://a.com{path}"),
        route("host = \"*.a.com\"", "http://www.a.com{path}"),
        route("host = \"a.com\"", "https://a.com{path}"),
        route("host = \"a.com\"", "http://a.com:8080{path}"),
        route("host = \"a.com\"", "//a.com{path}"),
        route("", "there"),
        // What comes back may be another request.
        route("headers = { x = \"1\" }", "{path}"),
        route("query = { x = \"1\" }", "{path}?x=2"),
        route("methods = [\"POST\"]", "{path}").replace(" }", ", status = 303 }"),
        // Another route may be there for it.
        route("", "/app") + &other("", "path = \"/app\""),
        route("", "{path}") + &other("", "headers = { cookie = \"seen=1\" }"),
        route("host = \"a.com\"", "http://a.com/app")
            + &other("", "host = \"a.com\"\npath_exact = \"/app\""),
    ] {
        assert_eq!(warnings(&text), Vec::<String>::new(), "{text}");
    }
    let taken_elsewhere = route("", "/app") + &other("", "host = \"a.com\"\npath = \"/app\"");
    assert_eq!(warnings(&taken_elsewhere).len(), 1, "other hosts are not");
}

#[test]
fn a_route_behind_a_redirect_to_https_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "site", &["a.com"]);
    let path = directory.path().join("weir.toml");
    let told = |text: &str| {
        let config = parse(text, &path).unwrap_or_else(|report| panic!("{}", report.render(false)));
        let problems = config.warnings.problems.into_iter();
        let lines = problems.map(|problem| {
            let (line, help) = (problem.line, problem.help.unwrap());
            format!("{line}: {}: {}; {help}", problem.key, problem.message)
        });
        lines.collect::<Vec<_>>()
    };
    let tls = "[listen.tls]\naddress = \":2\"\ntls.certificates = [{ cert = \"site.pem\", key = \"site.key\" }]\n";
    let upstream = "upstream = \"app\"\n[upstream.app]\nservers = [\"10.0.0.1:1\"]\n";
    let with = |web: &str, more: &str, route: &str| {
        format!("[listen.web]\naddress = \":1\"\n{web}\n{more}[route.x]\n{route}\n{upstream}")
    };
    let to_https = "redirect_to_https = {}";
    let never =
        "no request takes this route: `redirect_to_https` comes first on each of its listeners";
    assert_eq!(
        told(&with(to_https, tls, "listen = [\"web\"]")),
        [format!(
            "8: route.x.listen: {never}; name the listener that has `tls`, or leave `listen` out for all of them"
        )]
    );
    assert_eq!(
        told(&with(to_https, "", "")),
        [format!(
            "4: route.x: {never}; add a listener with `tls`, or leave `redirect_to_https` out"
        )]
    );
    let trusting = format!("{to_https}\ntrusted_proxies = [\"10.0.0.0/8\"]");
    let challenge = "listen = [\"web\"]\npath = \"/.well-known/acme-challenge\"";
    for text in [
        with(to_https, tls, ""),
        with(&trusting, "", ""),
        with(to_https, tls, challenge),
        with("", tls, "listen = [\"web\"]"),
        // A file needs a route.
        format!(
            "[listen.web]\naddress = \":1\"\n{to_https}\n[route.x]\nrespond = {{ status = 404 }}\n"
        ),
    ] {
        assert_eq!(told(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_prefix_to_strip_that_no_path_has_is_a_warning() {
    let route = |keys: &str| format!("{MINIMAL}[route.x]\nrespond = {{}}\n{keys}\n");
    let message = "route.x.strip_prefix: no path of this route begins with that, so nothing is stripped; it is held against the path of the request";
    for (keys, column, help) in [
        (
            "path = \"/v1\"\nstrip_prefix = \"/api\"",
            16,
            ": write `/v1`, or leave it out",
        ),
        (
            "path = \"/api-v2\"\nstrip_prefix = \"/api\"",
            16,
            ": write `/api-v2`, or leave it out",
        ),
        (
            "path = [\"/a\", \"/b\"]\nstrip_prefix = \"/c\"",
            16,
            "; correct it, or leave it out",
        ),
        (
            "path_exact = \"/a\"\nstrip_prefix = \"/a/b\"",
            16,
            "; correct it, or leave it out",
        ),
    ] {
        let expected = format!("12:{column}: {message}{help}");
        assert_eq!(warnings(&route(keys)), [expected], "{keys}");
    }
    for keys in [
        "path = \"/api\"\nstrip_prefix = \"/api/\"",
        "path = \"/api/v2\"\nstrip_prefix = \"/api\"",
        "path = \"/api\"\nstrip_prefix = \"/api/v2\"",
        "path = [\"/a\", \"/b\"]\nstrip_prefix = \"/a\"",
        "path_exact = \"/a/b\"\nstrip_prefix = \"/a\"",
        "methods = [\"GET\"]\nstrip_prefix = \"/a\"",
    ] {
        assert_eq!(warnings(&route(keys)), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn a_route_is_shadowed_only_where_others_take_all_of_its_requests() {
    let shadowed = |first: &str, route: &str| {
        let config = two_routes(&format!("{first}\npriority = 1"), route);
        let warnings = config.unwrap_or_else(|report| panic!("{report}")).warnings;
        !warnings.problems.is_empty()
    };
    for (first, route) in [
        ("", ""),
        ("path = [\"/a\", \"/b\"]", "path = \"/a\""),
        ("host = [\"a.com\", \"b.com\"]", "host = \"a.com\""),
        ("methods = [\"GET\", \"PUT\"]", "methods = [\"PUT\"]"),
        ("headers = { x = \"*\" }", "headers = { x = \"1\" }"),
        ("query = { x = \"1\" }", "query = { x = \"1\" }"),
    ] {
        assert!(shadowed(first, route), "{first} / {route}");
    }
    for (first, route) in [
        ("path = \"/a\"", "path = [\"/a\", \"/b\"]"),
        ("path = \"/a\"", "path_exact = \"/a\""),
        ("path = \"/\"", "path = \"/a\""),
        ("host = \"a.com\"", ""),
        ("listen = [\"web\"]", ""),
        ("methods = [\"PUT\"]", "methods = [\"GET\", \"PUT\"]"),
        ("headers = { x = \"1\" }", "headers = { x = \"*\" }"),
        ("headers = { x = \"1\" }", "headers = { y = \"1\" }"),
        ("methods = [\"PUT\"]", "headers = { y = \"1\" }"),
        ("query = { x = \"1\" }", "query = { x = \"2\" }"),
    ] {
        assert!(!shadowed(first, route), "{first} / {route}");
    }
}

#[test]
fn certificates_that_clients_will_refuse_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "site", &["a.com", "*.b.com"]);
    let text = |hosts: &str| {
        format!(
            "[listen.tls]\naddress = \":1\"\ntls.certificates = [{{ cert = \"site.pem\", key = \"site.key\" }}]\n[listen.web]\naddress = \":2\"\n[route.x]\nrespond = {{}}\nhost = {hosts}\n"
        )
    };
    let path = directory.path().join("weir.toml");
    let at = |text: &str, days: u64| {
        let days = Duration::from_secs(days * 24 * 60 * 60);
        let outside = Outside {
            variable: &|_| None,
            now: std::time::UNIX_EPOCH + days,
        };
        let config = parse_with(text, &path, &outside).unwrap_or_else(|report| panic!("{report}"));
        let problems = config.warnings.problems.into_iter();
        let lines = problems
            .map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.message));
        lines.collect::<Vec<_>>()
    };
    let none: Vec<String> = Vec::new();
    for hosts in ["[]", "\"a.com\"", "[\"c.com\", \"x.b.com\"]", "\"*.b.com\""] {
        assert_eq!(at(&text(hosts), 0), none, "{hosts}");
    }
    let other = "3:21: the certificate is for `a.com` and 1 more, for no host of the routes here";
    assert_eq!(at(&text("\"b.com\""), 0), [other]);
    let elsewhere = text("\"b.com\"").replace("[route.x]", "[route.x]\nlisten = [\"web\"]");
    assert_eq!(at(&elsewhere, 0), none);
    // 4096-01-01, as rcgen has it.
    let end = 776_506;
    assert_eq!(at(&text("[]"), end - 15), none);
    for (day, message) in [
        (end - 14, "expires in 14 days"),
        (end - 1, "expires in a day"),
        (end, "expires in less than a day"),
        (end + 3, "expired 3 days ago"),
    ] {
        let expected = format!("3:30: the certificate {message}");
        assert_eq!(at(&text("[]"), day), [expected]);
    }
}

#[test]
fn a_certificate_that_names_no_host_is_told_where_clients_look_for_one() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "site", &[]);
    let text = "[listen.tls]\naddress = \":1\"\ntls.certificates = [{ cert = \"site.pem\", key = \"site.key\" }]\n[route.x]\nrespond = {}\nhost = \"a.com\"\n";
    let config = parse(text, &directory.path().join("weir.toml")).unwrap();
    let [problem] = &config.warnings.problems[..] else {
        panic!("{:?}", config.warnings)
    };
    assert_eq!(
        (&*problem.message, problem.help.as_deref()),
        (
            "the certificate is for no host name, for no host of the routes here",
            Some("clients look for hosts in its `subjectAltName` alone, which has none")
        )
    );
}

#[test]
fn routes_that_differ_in_place_precedence_or_condition_are_not_ambiguous() {
    let clear = [
        ("path = \"/a\"", "path = \"/b\""),
        ("path = \"/a\"", "path_exact = \"/a\""),
        ("host = \"a.com\"", ""),
        ("host = \"a.com\"", "host = \"*.a.com\""),
        ("listen = [\"web\"]", "listen = [\"more\"]"),
        ("priority = 1", ""),
        ("methods = [\"GET\"]", ""),
        ("methods = [\"GET\"]", "methods = [\"PUT\"]"),
        ("headers = { x = \"1\" }", "headers = { x = \"2\" }"),
        (
            "headers = { x = \"1\", y = \"1\" }",
            "headers = { y = \"2\", z = \"1\" }",
        ),
        ("query = { x = \"1\" }", "query = { x = \"2\" }"),
    ];
    for (one, other) in clear {
        two_routes(one, other).unwrap_or_else(|report| panic!("{report}"));
    }
}

#[test]
fn trees_nested_as_deep_as_the_parser_lets_them_do_not_overflow_the_stack() {
    let path = vec!["a"; 79].join(".");
    let open = format!("{{{path} = ").repeat(79);
    let deep = format!("[{path}]\n{path} = {open}1{}\n", "}".repeat(79));
    assert_eq!(problems(&with(&deep)), ["1:2: a: unknown key `a`"]);
    let bottomless = format!("x = {}", "[".repeat(100_000));
    assert!(!problems(&bottomless).is_empty());
}

#[test]
fn ten_thousand_routes_are_quick() {
    use std::fmt::Write as _;
    let mut text = String::from("[listen.web]\naddress = \":8080\"\n");
    for number in 0..1000 {
        writeln!(
            text,
            "[upstream.u{number}]\nservers = [\"10.0.0.1:{}\", \"10.0.0.2:80\"]",
            number + 1
        )
        .unwrap();
    }
    for number in 0..10_000 {
        let place = match number % 2 {
            0 => format!("host = \"h{number}.example.com\"\npath = \"/api\""),
            _ => format!("headers = {{ x-tenant = \"{number}\" }}"),
        };
        writeln!(
            text,
            "[route.r{number}]\n{place}\nupstream = \"u{}\"\ntimeout = \"5s\"",
            number % 1000
        )
        .unwrap();
    }
    let start = std::time::Instant::now();
    assert_eq!(valid(&text).routes.len(), 10_000);
    let valid_file = start.elapsed();
    // Every route wrong in two ways, every other ambiguous as well.
    let start = std::time::Instant::now();
    let broken = text
        .replace("upstream = \"u", "upstream = \"w")
        .replace("\"5s\"", "5")
        .replace("headers =", "#");
    let report = parse(&broken, file()).expect_err("broken");
    assert_eq!(report.problems.len() + report.more, 24_999);
    assert_eq!(report.problems.len(), 1000);
    assert!(report.render(false).len() > 100_000);
    let broken_file = start.elapsed();
    // A debug build on a busy machine takes its time; what is quadratic takes minutes.
    assert!(valid_file < Duration::from_secs(10), "{valid_file:?}");
    assert!(broken_file < Duration::from_secs(30), "{broken_file:?}");
}

#[test]
fn text_that_is_not_toml_at_all_is_refused_without_end() {
    let report = parse(&"a\n".repeat(100_000), file()).expect_err("no TOML");
    assert_eq!((report.problems.len(), report.more), (1000, 99_000));
    assert!(report.to_string().ends_with("\nand 99000 more problems"));
    parse(&"= \"ä".repeat(20_000), file())
        .expect_err("no TOML")
        .render(true);
}

#[test]
fn files_that_cannot_be_read_and_files_that_are_wrong_have_different_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    assert!(matches!(load(&path), Err(error @ LoadError::Read { .. }) if error.exit_code() == 2));
    assert!(matches!(
        load(directory.path()),
        Err(LoadError::Read { .. })
    ));
    std::fs::write(&path, b"a = 1\nb = \"\xff\"\n").unwrap();
    let Err(LoadError::Invalid(report)) = load(&path) else {
        panic!("not UTF-8")
    };
    assert_eq!((report.problems[0].line, report.problems[0].column), (2, 6));
    assert!(report.render(false).contains("the file is not UTF-8"));
    std::fs::write(&path, MINIMAL).unwrap();
    let config = load(&path).unwrap();
    assert_eq!((&config.file, &config.files), (&path, &vec![path.clone()]));
    assert_eq!(config.hash.len(), 16);
    std::fs::write(&path, format!("{MINIMAL}\n")).unwrap();
    assert_ne!(load(&path).unwrap().hash, config.hash);
    assert_eq!(find(Some(path.clone())).unwrap(), path);
}

#[test]
fn secrets_can_stand_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.toml");
    std::fs::write(
        &path,
        with("[admin]\ntoken = \"file:token\"\naddress = \":9900\""),
    )
    .unwrap();
    let Err(LoadError::Invalid(report)) = load(&path) else {
        panic!("there is no file")
    };
    assert!(
        report
            .to_string()
            .contains("admin.token: cannot read `token`: "),
        "{report}"
    );
    assert_eq!(report.files.len(), 2);
    std::fs::write(directory.path().join("token"), "sesame\n").unwrap();
    assert_eq!(load(&path).unwrap().admin.token.as_deref(), Some("sesame"));
}

/// A certificate for `names` and its key in `directory`.
fn certificate(directory: &Path, stem: &str, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(directory.join(format!("{stem}.pem")), made.cert.pem()).unwrap();
    std::fs::write(
        directory.join(format!("{stem}.key")),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
}

#[test]
fn certificates_are_loaded_from_beside_the_file() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "site", &["Example.com", "*.example.com"]);
    // The block of the annotated file that only files like these make valid.
    let block = FULL
        .lines()
        .skip_while(|line| *line != "# [listen.secure]")
        .take_while(|line| !line.is_empty());
    let block: Vec<_> = block.map(|line| line.trim_start_matches("# ")).collect();
    let defaults = "[listen.secure]\naddress = \":8443\"\ntls = { certificates = [{ cert = \"site.pem\", key = \"site.key\" }] }";
    let path = directory.path().join("weir.toml");
    let full = parse(&with(&block.join("\n")), &path).unwrap_or_else(|report| panic!("{report}"));
    let short = parse(&with(defaults), &path).unwrap();
    assert_eq!(full.listeners, short.listeners);
    let listener = full
        .listeners
        .iter()
        .find(|listener| listener.tls.is_some())
        .unwrap();
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].names, ["example.com", "*.example.com"]);
    assert_eq!(
        full.files,
        [
            path.clone(),
            directory.path().join("site.pem"),
            directory.path().join("site.key")
        ]
    );
    let again = parse(&full.show(), &path).unwrap();
    assert_eq!(without_origin(again), without_origin(full.clone()));
    certificate(directory.path(), "site", &["example.com"]);
    let renewed = parse(&with(defaults), &path).unwrap();
    assert_eq!(renewed.hash, short.hash, "the config is the same");
    assert_ne!(renewed.seen, short.seen);
}

#[test]
fn a_bad_file_still_tells_where_the_last_good_ones_are() {
    let state = |text: &str| {
        let report = parse(text, Path::new("/etc/weir/weir.toml")).unwrap_err();
        report.state(Path::new("/etc/weir/weir.toml"))
    };
    let good = "[process]\nstate = \"/var/lib/weir\"\n";
    assert_eq!(state(good), Some("/var/lib/weir".into()));
    assert_eq!(
        state(&format!("[route.bad\n{good}")),
        Some("/var/lib/weir".into())
    );
    assert_eq!(
        state(&format!("{good}[listen.web\naddress = \n")),
        Some("/var/lib/weir".into())
    );
    assert_eq!(
        state("process.state = \"state\"\n"),
        Some("/etc/weir/state".into())
    );
    for nothing in [
        "",
        "[process]\nstate = \"off\"\n",
        "[process]\nstate = 5\n",
        "process = 5\n",
        "[process]\nstate = \"${WEIR_HAS_NO_SUCH_VARIABLE}\"\n",
    ] {
        assert_eq!(state(nothing), None, "{nothing}");
    }
    assert_eq!(
        state("process.state = \"${WEIR_HAS_NO_SUCH_VARIABLE:-/x}/y\"\n"),
        Some("/x/y".into())
    );
    let config = valid(&format!("{good}{MINIMAL}"));
    assert_eq!(config.state(), Some("/var/lib/weir".into()));
    assert_eq!(valid(MINIMAL).state(), None);
}

#[test]
fn what_was_taken_once_can_be_checked_again_without_its_files() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "site", &["example.com"]);
    std::fs::write(directory.path().join("token"), "hunter2").unwrap();
    let path = directory.path().join("weir.toml");
    let text = format!(
        "[admin]\ntoken = \"file:token\"\n{MINIMAL}[listen.secure]\naddress = \":8443\"\n\
         tls = {{ certificates = [{{ cert = \"site.pem\", key = \"site.key\" }}] }}\n"
    );
    let config = parse(&text, &path).unwrap();
    for name in ["site.pem", "site.key", "token"] {
        std::fs::remove_file(directory.path().join(name)).unwrap();
    }
    parse(&text, &path).unwrap_err();
    assert_eq!(again(&config.contents, &path).unwrap(), config);
    let main_alone = Contents::new([(path.clone(), text.as_bytes().into())]);
    let report = again(&main_alone, &path).unwrap_err().to_string();
    assert!(
        report.contains("`site.pem`: it is not among what was kept"),
        "{report}"
    );
}

#[test]
fn certificates_that_cannot_be_used_are_told_at_their_place() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "a", &["a.com"]);
    certificate(directory.path(), "b", &["b.com"]);
    std::fs::write(directory.path().join("empty.pem"), "").unwrap();
    let path = directory.path().join("weir.toml");
    let text = "\
[listen.secure]
address = \":8443\"
[[listen.secure.tls.certificates]]
cert = \"a.pem\"
key = \"b.key\"
[[listen.secure.tls.certificates]]
cert = \"none.pem\"
key = \"a.pem\"
[[listen.secure.tls.certificates]]
cert = \"empty.pem\"
key = \"a.key\"
";
    let report = parse(&with(text), &path).expect_err("none of them is good");
    let lines: Vec<_> = report
        .problems
        .iter()
        .map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.message))
        .collect();
    let expected = [
        "5:7: the key in `b.key` is not that of the certificate in `a.pem`",
        "7:8: cannot read `none.pem`: No such file or directory (os error 2)",
        "8:7: `a.pem` has no private key in PEM format",
        "10:8: `empty.pem` has no certificate in PEM format",
    ];
    assert_eq!(lines, expected);
}

fn tls_names(upstream: &Upstream) -> Vec<String> {
    let names = upstream
        .servers
        .iter()
        .map(|server| server.tls_name.as_ref());
    names
        .map(|name| name.map_or("-".into(), |name| name.to_str().into_owned()))
        .collect()
}

/// What was written counts, not what DNS makes of it.
#[test]
fn every_server_with_tls_has_the_name_that_it_is_written_by() {
    let config = valid(EVERYTHING);
    let names = |name: &str| {
        let mut upstreams = config.upstreams.iter();
        tls_names(
            upstreams
                .find(|upstream| upstream.name.as_str() == name)
                .unwrap(),
        )
    };
    assert_eq!(names("app"), ["-", "-"]);
    assert_eq!(names("named"), ["app.internal"; 3]);
    assert_eq!(names("local"), ["localhost", "fd00::7"]);
    assert_eq!(names("secure"), ["app.example.com"; 2]);
    let check = config.upstreams.last().unwrap().health_check.as_ref();
    let name = check.unwrap().tls_name.as_ref().unwrap();
    assert_eq!(name.to_str(), "::1");
}

#[test]
fn files_of_tls_to_servers_are_loaded_from_beside_the_file() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "ca", &["ca.example.com"]);
    certificate(directory.path(), "client", &["weir.example.com"]);
    // The block of the annotated file, with these files in place of the defaults.
    let block = FULL
        .lines()
        .skip_while(|line| *line != "# [upstream.app.tls]")
        .take_while(|line| !line.is_empty());
    let block: Vec<_> = block.map(|line| line.trim_start_matches("# ")).collect();
    let block = block.join("\n");
    assert_eq!(
        valid(&format!("{MINIMAL}{block}")).upstreams[0].tls,
        valid(&format!("{MINIMAL}tls = true")).upstreams[0].tls
    );
    let text = block
        .replace("\"system\"", "\"ca.pem\"")
        .replace("client_cert = \"off\"", "client_cert = \"client.pem\"")
        .replace("client_key = \"off\"", "client_key = \"client.key\"");
    let path = directory.path().join("weir.toml");
    let full = parse(&format!("{MINIMAL}{text}"), &path).unwrap();
    let tls = full.upstreams[0].tls.as_ref().unwrap();
    assert_eq!(tls.roots.loaded.len(), 1);
    assert!(tls.client.is_some());
    let files = ["ca.pem", "client.pem", "client.key"].map(|name| directory.path().join(name));
    assert_eq!(full.files[1..], files);
    let again = parse(&full.show(), &path).unwrap();
    assert_eq!(without_origin(again), without_origin(full.clone()));
    certificate(directory.path(), "ca", &["ca.example.com"]);
    let renewed = parse(&format!("{MINIMAL}{text}"), &path).unwrap();
    assert_ne!(renewed.upstreams[0].tls, full.upstreams[0].tls);
}

#[test]
fn tls_to_servers_that_cannot_be_is_told_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "a", &["a.com"]);
    certificate(directory.path(), "b", &["b.com"]);
    std::fs::write(directory.path().join("empty.pem"), "").unwrap();
    let path = directory.path().join("weir.toml");
    let told = |tls: &str| {
        let text = format!(
            "[upstream.x]\nservers = [\"unix:/run/x.sock\", \"_a.:80\", \"srv+_a._tcp\"]\ntls = {tls}\n"
        );
        let report = parse(&with(&text), &path).expect_err("it is wrong");
        let lines = report.problems.iter().map(|problem| {
            let help = problem
                .help
                .as_ref()
                .map(|help| format!("; {help}"))
                .unwrap_or_default();
            format!(
                "{}:{}: {}{help}",
                problem.line, problem.column, problem.message
            )
        });
        lines.collect::<Vec<_>>()
    };
    let name = "; set `server_name` in the `tls` table of the upstream";
    let nameless = [
        format!("2:12: `unix:/run/x.sock` has no name that a certificate could be for{name}"),
        format!("2:42: `srv+_a._tcp` has no name that a certificate could be for{name}"),
    ];
    assert_eq!(told("true"), nameless);
    assert_eq!(told("{}"), nameless);
    let bad = "is not a name that a certificate can be for";
    for (tls, expected) in [
        (
            "\"on\"",
            &[
                "3:7: expected `true`, a table, or `\"off\"`, found the string `\"on\"`; write `true`",
            ][..],
        ),
        (
            "{ server_name = \"a.com:443\" }",
            &[&format!(
                "3:23: `a.com:443` {bad}; write `a.com`, without the port"
            )],
        ),
        (
            "{ server_name = \"*.a.com\" }",
            &[&format!(
                "3:23: `*.a.com` {bad}; write a whole host name, or an IP address"
            )],
        ),
        (
            "{ server_name = \"a.com\", ca = \"none.pem\", client_cert = \"a.pem\" }",
            &[
                "3:37: cannot read `none.pem`: No such file or directory (os error 2)",
                "3:63: a certificate without its key; for example `client_key = \"client.key\"`",
            ],
        ),
        (
            "{ server_name = \"a.com\", ca = \"empty.pem\", client_key = \"a.key\" }",
            &[
                "3:37: `empty.pem` has no certificate in PEM format",
                "3:63: a key without its certificate; for example `client_cert = \"client.pem\"`",
            ],
        ),
        (
            "{ server_name = \"a.com\", client_cert = \"a.pem\", client_key = \"b.key\", cas = 1 }",
            &[
                "3:68: the key in `b.key` is not that of the certificate in `a.pem`",
                "3:77: unknown key `cas`; did you mean `ca`?",
            ],
        ),
    ] {
        assert_eq!(told(tls), expected, "{tls}");
    }
}

/// Must return, and what it returns must render.
fn survive(text: &str) {
    match parse(text, file()) {
        Ok(config) => {
            valid(&config.show());
        }
        Err(report) => {
            assert!(!report.problems.is_empty());
            assert!(!report.render(true).is_empty() && !report.to_string().is_empty());
            report.to_json();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        survive(&text);
    }

    #[test]
    fn text_that_looks_like_toml_never_panics(text in "([a-z.]{0,4}|[\\[\\]{}=,\"'#\n\\\\é.]|listen|route|upstream|\\.x|[0-9]{1,20}|-|5s|\\$\\{){0,60}") {
        survive(&text);
    }

    #[test]
    fn mutated_files_never_panic(
        at in 0.0..1.0f64,
        length in 0usize..40,
        with in "[\\[\\]{}=,\"'#\n\\\\é. 0-9a-z:/*-]{0,12}",
    ) {
        for text in [EVERYTHING, FULL] {
            let start = text.floor_char_boundary((text.len() as f64 * at) as usize);
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            survive(&format!("{}{with}{}", &text[..start], &text[end..]));
        }
    }

    #[test]
    fn any_value_for_any_key_never_panics(
        line in 0usize..200,
        value in prop_oneof![
            "[0-9]{1,20}(B|KiB|GB|s|ms|h| y)?".prop_map(|text| format!("{text:?}")),
            "\\PC{0,20}".prop_map(|text| format!("{text:?}")),
            "[0-9]{1,20}", "-[0-9]{1,20}", "0x[0-9a-f]{1,20}", "1e[0-9]{1,5}",
            Just("[]".to_owned()), Just("{}".to_owned()), Just("true".to_owned()), Just("1979-05-27".to_owned()),
            Just("[[[]], {}, 1]".to_owned()), Just("{ \"\" = {} }".to_owned()),
        ],
    ) {
        let changed = |(number, text): (usize, &str)| match text.split_once(" = ") {
            Some((key, _)) if number == line % EVERYTHING.lines().count() => format!("{key} = {value}"),
            _ => text.to_owned(),
        };
        survive(&EVERYTHING.lines().enumerate().map(changed).collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn a_list_that_is_not_closed_is_named_where_it_begins() {
    let start =
        "[listen.web]\naddress = \":8080\"\n[route.site]\nupstream = \"app\"\n[upstream.app]\n";
    let rest = "balance = \"round\"\n\n[route.b]\npath = \"/b\"\nupstream = \"nope\"\n";
    let several = format!("{start}servers = [\n  \"127.0.0.1:80\",\n  \"127.0.0.1:81\"\n{rest}");
    assert_eq!(
        problems(&several),
        [
            "6:11: this list is not closed; close it with `]`",
            "9:11: upstream.app.balance: expected one of `\"round_robin\"`, `\"least_connections\"`, `\"peak_ewma\"`, `\"random\"`, `\"hash\"`, found `\"round\"`",
            "13:12: route.b.upstream: there is no upstream `nope`; the only one is `app`",
        ]
    );
    let one = format!("{start}servers = [\"127.0.0.1:80\" # the first\n{rest}");
    assert_eq!(
        problems(&one)[0],
        "6:11: this list is not closed; close it with `]`"
    );
    assert_eq!(problems(&one).len(), 3);
    let empty = format!("{start}servers = [\n{rest}");
    assert_eq!(
        problems(&empty)[0],
        "6:11: this list is not closed; close it with `]`"
    );
    assert_eq!(problems(&empty).len(), 3);
    let last = format!("{start}servers = [\"127.0.0.1:80\",");
    assert_eq!(
        problems(&last),
        ["6:11: this list is not closed; close it with `]`"]
    );
    let in_string = format!("{start}servers = [\"127.0.0.1:80\", \"127.0.0.1:81]\n{rest}");
    assert_eq!(
        problems(&in_string)[0],
        "6:28: this string is not closed; close it with `\"`"
    );
    assert_eq!(problems(&in_string).len(), 3);
    let table = format!(
        "{start}servers = [\"127.0.0.1:80\"]\nhealth_check = {{ path = \"/\"\nbalance = \"round\"\n"
    );
    assert_eq!(
        problems(&table)[0],
        "7:16: this table is not closed; close it with `}`"
    );
    assert_eq!(problems(&table).len(), 2);
}

#[test]
fn lists_over_several_lines_with_brackets_in_strings_and_comments_are_closed() {
    let text = r##"
[listen.web]
address = ":8080"
[route.site]
upstream = "app"
[route.odd]
path_exact = "/[="
respond = { status = 404, body = """
[route.b]
x = [
""" }
methods = [ # [ the
  "GET", # ] "first
  'PUT',
]
[upstream.app]
servers = [
  { address = "127.0.0.1:3000",
    weight = 2 },
  "127.0.0.1:3001"
]
x =
"##;
    assert_eq!(problems(text), ["22:4: the value is missing"]);
    assert!(unclosed::close(text).unclosed.is_empty());
}

#[test]
fn lines_of_other_languages_are_answered_with_how_it_is_written_here() {
    for (line, help) in [
        ("// a comment", Some("comments begin with `#`")),
        ("; a comment", Some("comments begin with `#`")),
        ("server {", Some("this is TOML: ")),
        ("listen 80;", Some("this is TOML: ")),
        ("port: 80", Some("this is TOML: ")),
        ("stray", None),
    ] {
        let report = parse(&format!("{MINIMAL}{line}\n"), file()).expect_err(line);
        let told = report.problems[0].help.as_deref();
        let good = told.map_or(help.is_none(), |told| {
            help.is_some_and(|help| told.starts_with(help))
        });
        assert!(good, "{line}: {told:?}");
    }
}

#[test]
fn an_unknown_upstream_is_named_beside_a_syntax_error_unless_its_table_may_be_lost() {
    let text = "[listen.web]\naddress = \":8080\"\n[route.a]\nupstream = \"nope\"\n[route.b\n";
    assert!(
        problems(text).contains(&"4:12: route.a.upstream: there is no upstream `nope`".to_owned()),
        "{:?}",
        problems(text)
    );
    let lost = format!("{text}[upstream.nope\nservers = [\"127.0.0.1:80\"]\n");
    assert!(
        !problems(&lost)
            .iter()
            .any(|problem| problem.contains("there is no"))
    );
}

/// Problems of which only the number matters.
fn told(text: &str) -> (Vec<String>, usize) {
    let report = parse(text, file()).expect_err("the text has a mistake");
    let lines = report.problems.iter().map(ToString::to_string);
    (lines.collect(), report.more)
}

fn repeated(number: usize, each: impl Fn(usize) -> String) -> String {
    (0..number).map(each).collect()
}

#[test]
fn a_thousand_problems_are_told_errors_first_and_how_many_more_there_are() {
    let routes = |path: &'static str| {
        repeated(700, |number| {
            format!("[route.r{number}]\npath = \"{path}{number}\"\nupstream = \"nope\"\n")
        })
    };
    let warned = format!(
        "[route.x]\nupstream = \"app\"\npath_exact = [{}]\n",
        repeated(1200, |number| format!("\"/*{number}\", "))
    );
    let text = with(&format!("{warned}{}", routes("/")));
    let report = parse(&text, file()).expect_err("no such upstream");
    let errors = |report: &Report| {
        let errors = report.problems.iter();
        errors
            .filter(|problem| problem.severity == Severity::Error)
            .count()
    };
    assert_eq!(
        (report.problems.len(), errors(&report), report.more),
        (1000, 700, 900)
    );
    let spans: Vec<_> = report
        .problems
        .iter()
        .map(|problem| problem.span.start)
        .collect();
    assert!(spans.is_sorted());
    // Two in each: the first thousand by position.
    let text = text.replace("upstream = \"nope\"", "upstream = \"nope\"\ntimeout = 5");
    let report = parse(&text, file()).expect_err("no such upstream");
    assert_eq!(
        (report.problems.len(), errors(&report), report.more),
        (1000, 1000, 1600)
    );
    assert!(report.to_string().contains("route.r499.timeout"));
    assert!(!report.to_string().contains("route.r500"));
    for told in [report.to_string(), report.render(false).trim_end().into()] {
        assert!(told.ends_with("\nand 1600 more problems"), "{told}");
    }
    assert_eq!(report.to_json()["more"], 1600);
    assert_eq!(report.to_json()["problems"].as_array().unwrap().len(), 1000);
    let config = valid(&with(&warned));
    assert_eq!(
        (config.warnings.problems.len(), config.warnings.more),
        (1000, 200)
    );
}

/// Each of these took time by the square of its size, some of them hours.
#[test]
fn what_is_long_takes_no_more_time_for_each_of_its_parts() {
    let items = "1, ".repeat(200_000);
    let (lines, more) = told(&with(&format!(
        "[route.x]\nupstream = \"app\"\nhost = [{items}]"
    )));
    assert_eq!(lines.len() + more, 200_000);
    let weights = repeated(50_000, |number| format!("u{number} = 1, "));
    let text = with(&format!(
        "[route.x]\npath = \"/x\"\nupstream = {{ {weights}app = 1 }}"
    ));
    assert_eq!(told(&text).1, 49_000);
    let report = parse(&text, file()).expect_err("no such upstreams");
    assert!(report.render(false).len() < 2_000_000);
    // As long as names may be, and all near each other.
    let long = "n".repeat(90);
    let text = with(&repeated(4000, |number| {
        format!(
            "[upstream.{long}{number}]\nservers = [\"10.0.0.1:1\"]\n[route.r{number}]\npath = \"/{number}\"\nupstream = \"{long}x{number}\"\n"
        )
    }));
    assert_eq!(told(&text).1, 3000);
    // None of these is told, since its table may be the one that is lost.
    let text = format!(
        "{}[upstream.lost\n",
        with(&repeated(20_000, |number| format!(
            "[route.r{number}]\npath = \"/{number}\"\nupstream = \"lost\"\n"
        )))
    );
    assert_eq!(told(&text).0.len(), 1);
    let variables = repeated(100_000, |number| format!("${{UNSET_{number}}}"));
    let text = with(&format!(
        "[route.x]\npath = \"/x\"\nrespond.body = \"{variables}\"\n"
    ));
    assert_eq!(told(&text).1, 99_000);
    let methods = |name: &str| {
        format!(
            "[route.{name}]\nupstream = \"app\"\nmethods = [{}]\n",
            repeated(50_000, |number| format!("\"{name}{number}\", "))
        )
    };
    valid(&with(&methods("A")));
}

/// Dotted keys within inline tables: one value at the end of a path of thousands of keys, and thousands of values there.
#[test]
fn values_of_the_environment_deep_inside_take_no_longer_for_each_level() {
    let path = vec!["a"; 79].join(".");
    let open = format!("{{{path} = ").repeat(79);
    let values = "\"${UNSET}\", ".repeat(20_000);
    let text = with(&format!("x = {open}[{values}]{}\n", "}".repeat(79)));
    assert_eq!(told(&text).1, 19_001);
}

#[test]
fn routes_for_the_same_place_are_held_against_each_other_as_long_as_that_is_quick() {
    let routes = |each: &dyn Fn(usize) -> String| {
        with(&repeated(20_000, |number| {
            format!("[route.r{number}]\nupstream = \"app\"\n{}\n", each(number))
        }))
    };
    for told_apart in ["headers = { x = \"N\" }", "query = { x = \"N\" }"] {
        let text = routes(&|number| told_apart.replace('N', &number.to_string()));
        assert_eq!(valid(&text).routes.len(), 20_001);
    }
    let text = routes(&|number| format!("methods = [\"M{number}\"]"));
    let (lines, more) = told(&text);
    assert_eq!((lines.len(), more), (1, 0));
    assert!(
        lines[0].contains("there are too many routes for the same hosts and paths"),
        "{lines:?}"
    );
    let many = |name: &str| {
        format!(
            "[route.{name}]\nupstream = \"app\"\nmethods = [{}]\n",
            repeated(20_000, |number| format!("\"{name}{number}\", "))
        )
    };
    let (lines, _) = told(&with(&format!("{}{}", many("A"), many("B"))));
    assert!(lines[0].contains("too many routes"), "{lines:?}");
}

#[test]
fn places_of_routes_are_bounded_by_their_product() {
    let list = |number, part: &str| repeated(number, |each| format!("\"{part}{each}\", "));
    let hosts_by_paths = |number| {
        with(&format!(
            "[route.x]\nupstream = \"app\"\nhost = [{}]\npath = [{}]\n",
            list(number, "h"),
            list(number, "/")
        ))
    };
    valid(&hosts_by_paths(100));
    let (lines, more) = told(&hosts_by_paths(20_000));
    assert_eq!((lines.len(), more), (1, 0));
    assert!(
        lines[0].contains("stand at more than 1000000 places"),
        "{lines:?}"
    );
    // A route stands on all listeners where it names none.
    let on_all = |number| {
        with(&repeated(number, |number| {
            format!(
                "[listen.l{number}]\naddress = \"127.0.0.1:0\"\n[route.r{number}]\npath = \"/{number}\"\nupstream = \"app\"\n"
            )
        }))
    };
    valid(&on_all(100));
    let (lines, more) = told(&on_all(5000));
    assert_eq!((lines.len(), more), (1, 0));
}

#[test]
fn tables_and_lists_are_bounded_by_their_number() {
    let (lines, _) = told(&with(&"[".repeat(500_001)));
    assert_eq!(lines, ["weir.toml:1:1: more than 500000 tables and lists"]);
    let dots = ".".repeat(600_000);
    valid(&with(&format!(
        "# {dots}\n[route.x]\npath = \"/x\"\nrespond.body = \"{dots}\""
    )));
    let hidden = format!(
        "x = a\"\"\"\n{}",
        repeated(200, |number| {
            format!("k{number} = {}1{}\n", "[".repeat(3000), "]".repeat(3000))
        })
    );
    assert_eq!(told(&with(&hidden)).0.len(), 1);
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let near = |text: &str| {
        let report = parse(text, file()).expect_err(text);
        report.problems[0].help.clone().unwrap_or_default()
    };
    let text = "[listen.web]\naddress = \":1\"\n[upstream.api]\nservers = [\"10.0.0.1:1\"]\n[route.site]\n";
    for (key, name) in [
        ("upstream = \"apii\"", "api"),
        ("upstream = \"API\"", "api"),
        ("upstream = { apii = 1 }", "api"),
        ("upstream = \"api\"\nlisten = [\"wep\"]", "web"),
    ] {
        let expected = format!("did you mean `{name}`?");
        assert_eq!(near(&format!("{text}{key}\n")), expected, "{key}");
    }
    let on_defaults = format!("{text}upstream = \"api\"\n[defaults.route]\nlisten = [\"wev\"]\n");
    assert_eq!(near(&on_defaults), "did you mean `web`?");
}

#[test]
fn a_token_that_is_the_name_of_a_variable_is_a_warning() {
    assert_eq!(
        warnings(&with("[admin]\ntoken = \"$WEIR_TOKEN\"")),
        [
            "2:9: admin.token: `$WEIR_TOKEN` is taken as it is written; a variable is written as `${WEIR_TOKEN}`"
        ]
    );
    for token in ["env:WEIR_TOKEN", "%{WEIR_TOKEN}", "%WEIR_TOKEN%"] {
        assert_eq!(
            warnings(&with(&format!("[admin]\ntoken = \"{token}\""))),
            [
                "2:9: admin.token: the token is taken as it is written, and is no name of a variable; a variable is written as `${NAME}`"
            ]
        );
    }
    for token in ["/run/secrets/token", "./token", "@/etc/token"] {
        assert_eq!(
            warnings(&with(&format!("[admin]\ntoken = \"{token}\""))),
            [
                "2:9: admin.token: the token is taken as it is written, and is no path; a file that holds the token is written as `file:` and its path"
            ]
        );
    }
    for token in [
        "pa$WORD",
        "$WORD-2",
        "$word",
        "$",
        "WORD",
        "/aB+c/9==",
        "%a",
    ] {
        let text = with(&format!("[admin]\ntoken = \"{token}\""));
        assert!(warnings(&text).is_empty(), "{token}");
    }
}
