//! `weir explain`, as people and programs get it. That it tells what happens is in `tests/behaviour/explaining.rs`.

use serde_json::Value;

use super::support::{folder, output, stderr, stdout, weir};

const CONFIG: &str = r#"
[listen.web]
address = ":8080"
[listen.other]
address = "127.0.0.1:8081"
trusted_proxies = ["10.0.0.0/8"]

[route.site]
upstream = "app"
cache = true
compress = true
[route.api]
host = "shop.example"
path = "/api"
strip_prefix = "/api"
upstream = { app = 3, named = 1 }
timeout = "10s"
[route.beta]
host = "shop.example"
path = "/api"
headers = { x-beta = "1" }
respond = { status = 200, body = "beta" }
[route.old]
path = "/old"
redirect = { to = "https://new.example{path}" }
[route.elsewhere]
host = "else.example"
respond = { status = 204 }

[upstream.app]
servers = ["127.0.0.1:3000", { address = "127.0.0.1:3001", weight = 2 }, { address = "127.0.0.1:3002", backup = true }]
[upstream.named]
servers = ["app.internal:80"]
sticky = true
host_header = "server"
"#;

fn explained<'a>(arguments: impl IntoIterator<Item = &'a str>) -> (String, Option<i32>) {
    let (folder, _) = folder(CONFIG);
    let arguments = ["explain"].into_iter().chain(arguments);
    let output = output(folder.path(), arguments);
    (stdout(&output) + &stderr(&output), output.status.code())
}

#[test]
fn a_request_is_explained_on_one_page() {
    let (text, code) = explained([
        "-X",
        "POST",
        "-H",
        "X-Debug: 1",
        "-H",
        "Connection: x-debug",
        "--from",
        "203.0.113.9",
        "http://Shop.example:8080/api/./x?y=1#z",
    ]);
    assert_eq!(
        text,
        "request   POST http://Shop.example:8080/api/./x?y=1#z\n\
         listener  web (:8080, cleartext)\n\
         seen as   http://shop.example/api/x?y=1 from 203.0.113.9\n\
         route     api: this host, paths from `/api` on\n\
        \u{20}         not beta: no field `x-beta: 1`\n\
        \u{20}         not site: its host is less exact: any host\n\
        \u{20}         not old: it is for other paths: `/old`\n\
        \u{20}         not elsewhere: it is for other hosts: `else.example`\n\
         cache     off for this route\n\
        \u{20}         a success makes what is stored for this URL invalid\n\
         forward   to upstream app (weight 3 of 4): /x?y=1\n\
        \u{20}           host: Shop.example:8080\n\
        \u{20}           x-forwarded-for: 203.0.113.9\n\
        \u{20}           x-real-ip: 203.0.113.9\n\
        \u{20}           x-forwarded-proto: http\n\
        \u{20}           forwarded: for=203.0.113.9;proto=http;host=\"Shop.example:8080\"\n\
        \u{20}           x-forwarded-host: Shop.example:8080\n\
        \u{20}           via: 1.1 weir\n\
        \u{20}           x-request-id: (a new one)\n\
        \u{20}           x-forwarded-prefix: /api\n\
        \u{20}           content-length: 0\n\
        \u{20}         not passed on: x-debug, connection\n\
         servers   round_robin: 127.0.0.1:3000, 127.0.0.1:3001 (weight 2), 127.0.0.1:3002 (backup)\n\
         retries   after a failed connect, 3 tries in all; else none: it may not be sent twice\n\
         timeouts  connect 3s, response 1m, stall 1m, stream 1h, queue 5s, 10s in all\n\
         forward   to upstream named (weight 1 of 4): /x?y=1\n\
        \u{20}           host: (that of the server)\n\
        \u{20}           x-forwarded-for: 203.0.113.9\n\
        \u{20}           x-real-ip: 203.0.113.9\n\
        \u{20}           x-forwarded-proto: http\n\
        \u{20}           forwarded: for=203.0.113.9;proto=http;host=\"Shop.example:8080\"\n\
        \u{20}           x-forwarded-host: Shop.example:8080\n\
        \u{20}           via: 1.1 weir\n\
        \u{20}           x-request-id: (a new one)\n\
        \u{20}           x-forwarded-prefix: /api\n\
        \u{20}           content-length: 0\n\
        \u{20}         `host` is the address of the server that is chosen\n\
        \u{20}         not passed on: x-debug, connection\n\
         servers   round_robin: what these names stand for, which are not resolved here: app.internal:80\n\
        \u{20}         the client gets a cookie that brings it back\n\
         retries   after a failed connect, 3 tries in all; else none: it may not be sent twice\n\
         timeouts  connect 3s, response 1m, stall 1m, stream 1h, queue 5s, 10s in all\n\
         compress  off for this route\n"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn cache_and_compression_are_explained_with_a_response_that_is_given() {
    let (text, code) = explained([
        "-H",
        "Accept-Encoding: gzip",
        "--response",
        "Content-Type: text/html",
        "--response",
        "Cache-Control: max-age=90, stale-while-revalidate=10",
        "--response",
        "Vary: accept-language",
        "http://www.example:8080/a",
    ]);
    for part in [
        "cache     key http://www.example:8080/a\n",
        "          looked up; what is not stored is fetched, and stored if the response allows\n",
        "          Cache-Status while nothing is stored: weir; fwd=uri-miss; stored\n",
        "          the response is stored: fresh for 90 s; then for 10 s while it is renewed; then for 60 s when servers fail; \
         variants by accept-language\n",
        "          Cache-Status of the same again: weir; hit; ttl=90\n",
        "compress  gzip, if the response is worth it\n",
        "response  200\n",
        "            content-encoding: gzip\n",
        "          encoded only if it has 1024 bytes or more\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(code, Some(0));
    let (text, _) = explained(["--status", "204", "http://www.example:8080/a"]);
    assert!(
        text.contains("the response is not stored: no-freshness\n"),
        "{text}"
    );
    let (text, _) = explained(["http://www.example:8080/a"]);
    assert!(text.contains("stale_if_error 1m"), "{text}");
    assert!(
        text.contains(
            "compress  nothing: the request has no `Accept-Encoding` that allows one of `codings`\n"
        ),
        "{text}"
    );
    let (text, _) = explained([
        "-H",
        "Upgrade: x",
        "-H",
        "Connection: upgrade",
        "http://a:8080/",
    ]);
    for part in [
        "          not looked up: it is passed on\n",
        "          Cache-Status: weir; fwd=bypass; detail=upgrade\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let only = ["-H", "Cache-Control: only-if-cached", "http://a:8080/"];
    let (text, code) = explained(only);
    for part in [
        "answer    504 Gateway Timeout: nothing is stored that answers the request",
        "          looked up; what is not stored is refused\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("forward   "), "{text}");
    assert_eq!(code, Some(1));
}

#[test]
fn what_weir_itself_answers_is_told_and_a_refusal_is_1() {
    let (text, code) = explained(["http://www.example:8080/old/x?y"]);
    assert!(
        text.contains("answer    308 Permanent Redirect\n"),
        "{text}"
    );
    assert!(
        text.contains("  location: https://new.example/old/x?y\n"),
        "{text}"
    );
    assert_eq!(code, Some(0));
    let (text, code) = explained(["http://www.example:8080/%zz"]);
    assert!(
        text.contains("answer    400 Bad Request: malformed request: bad path\n"),
        "{text}"
    );
    assert_eq!(code, Some(1));
    let (text, code) = explained([
        "-H",
        "Content-Length: 1000000000",
        "-X",
        "PUT",
        "http://www.example:8080/",
    ]);
    assert!(
        text.contains("route     site: any host, any path\n"),
        "{text}"
    );
    assert!(
        text.contains("answer    413 Payload Too Large: the body of the request is too large\n"),
        "{text}"
    );
    assert_eq!(code, Some(1));
    let (text, code) = explained(["-H", "Content-Length: x", "http://www.example:8080/"]);
    assert!(text.contains("answer    400 Bad Request: "), "{text}");
    assert_eq!(code, Some(1));
}

#[test]
fn the_listener_is_that_of_the_url_or_the_one_that_is_named() {
    let on = |arguments: &[&str]| {
        let format = ["--format", "json"];
        let (text, code) = explained(format.iter().chain(arguments).copied());
        assert_eq!(code, Some(0), "{text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        told
    };
    assert_eq!(on(&["http://a:8080/"])["listener"]["name"], "web");
    assert_eq!(on(&["http://a:8081/"])["listener"]["name"], "other");
    let other = on(&[
        "--listen",
        "other",
        "--from",
        "10.0.0.1",
        "-H",
        "X-Forwarded-For: 192.0.2.7",
        "-H",
        "X-Forwarded-Proto: https",
        "http://a/",
    ]);
    assert_eq!(other["asked"]["client"], "192.0.2.7");
    assert_eq!(other["asked"]["scheme"], "https");
    assert_eq!(other["cache"]["key"], "https://a/");
    assert_eq!(on(&["http://a:8080/"])["asked"]["client"], "192.0.2.1");
    for (arguments, part) in [
        (
            &["http://a/"][..],
            "no listener for http has port 80; say with `--listen` which of `web`, `other` it comes to",
        ),
        (
            &["https://a/"],
            "no listener speaks https; name one with `--listen`",
        ),
        (
            &["--listen", "nope", "http://a/"],
            "there is no listener `nope`",
        ),
    ] {
        let (text, code) = explained(arguments.iter().copied());
        assert!(text.contains(part), "{text}");
        assert_eq!(code, Some(2));
    }
}

#[test]
fn what_cannot_be_asked_is_2() {
    for (arguments, part) in [
        (
            &["a.example"][..],
            "`a.example` is not a URL such as `http://www.example.com/`",
        ),
        (&["http://a/b c"], "the URL has a space"),
        (&["-X", "G T", "http://a:8080/"], "`G T` is not a method"),
        (
            &["-H", "x", "http://a:8080/"],
            "`x` is not a field; write `NAME: VALUE`",
        ),
        (&["-H", "x: 1\r\ny: 2", "http://a:8080/"], "is not a field"),
        (
            &["--response", "Content-Length: x", "http://a:8080/"],
            "502",
        ),
    ] {
        let (text, code) = explained(arguments.iter().copied());
        assert!(text.contains(part), "{part} in {text}");
        assert_eq!(code, Some(2), "{text}");
    }
    let (broken, _) = folder("[listen.web]\n");
    let broken = output(broken.path(), ["explain", "http://a/"]);
    assert!(
        stderr(&broken).contains("weir.toml:1:"),
        "{}",
        stderr(&broken)
    );
    assert_eq!((broken.status.code(), &*stdout(&broken)), (Some(2), ""));
}

#[test]
fn a_terminal_gets_no_commands_from_what_is_explained() {
    let (text, _) = explained(["-H", "x-a: \u{1b}[31m", "http://www.example:8080/"]);
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_certificate_is_told_and_so_is_a_handshake_that_is_refused() {
    let config = "[listen.web]\naddress = \":8443\"\ntls = { certificates = [{ cert = \"a.pem\", key = \"a.key\" }], unknown_sni = \"reject\" }\n\
                  [route.site]\nrespond = {}\n";
    let (folder, _) = folder(config);
    let signed = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("a.pem"), signed.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("a.key"),
        signed.signing_key.serialize_pem(),
    )
    .unwrap();
    let good = output(folder.path(), ["explain", "https://a.example/"]);
    let text = stdout(&good);
    assert!(
        text.contains("          certificate a.pem\n"),
        "{text}{}",
        stderr(&good)
    );
    assert!(
        text.contains("no listener for https has port 443; there is but this\n"),
        "{text}"
    );
    assert_eq!(good.status.code(), Some(0));
    let other = output(folder.path(), ["explain", "https://b.example:8443/"]);
    assert!(
        stdout(&other).contains("the TLS handshake is refused\n"),
        "{}",
        stdout(&other)
    );
    assert_eq!(other.status.code(), Some(1));
    let lenient = config.replace("reject", "default");
    std::fs::write(folder.path().join("weir.toml"), lenient).unwrap();
    let other = output(folder.path(), ["explain", "https://b.example:8443/"]);
    let default = "          certificate a.pem (the default: none is for this name)\n";
    assert!(stdout(&other).contains(default), "{}", stdout(&other));
}

#[test]
fn defaults_and_included_files_count_and_what_the_environment_holds_is_not_told() {
    let (folder, _) = folder(
        r#"
include = "more/*.toml"
[defaults.route]
request_headers = { set = { X-Key = "Bearer ${TEST_KEY}" } }
[listen.web]
address = ":8080"
[route.site]
upstream = "app"
response_headers = { add = { x-from = "${TEST_KEY}", x-plain = "plain" } }
[route.old]
path = "/old"
redirect = { to = "https://${TEST_KEY}.example{path}" }
[route.guarded]
headers = { X-Pass = "${TEST_KEY}" }
query = { pass = "${TEST_KEY}" }
upstream = "app"
"#,
    );
    std::fs::create_dir(folder.path().join("more")).unwrap();
    let more =
        "[upstream.app]\nservers = [\"127.0.0.1:3000\"]\nhost_header = \"${TEST_KEY}.example\"\n";
    std::fs::write(folder.path().join("more/app.toml"), more).unwrap();
    let told = |url: &str, format: &str| {
        let mut command = weir(
            folder.path(),
            [
                "explain",
                "--format",
                format,
                "--response",
                "x-of-server: 1",
                url,
            ],
        );
        let output = command.env("TEST_KEY", "k3-sesame").output().unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert!(!text.contains("sesame"), "{text}");
        text
    };
    let text = told("http://a.example:8080/", "text");
    for line in [
        "not guarded: no field `x-pass: ***`; no parameter `pass=***` in the query\n",
        "  host: ***\n",
        "x-key: ***\n",
        "x-from: ***\n",
        "x-plain: plain\n",
        "x-of-server: 1\n",
        "127.0.0.1:3000\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let text = told("http://a.example:8080/old/x", "text");
    assert!(text.contains("location: ***\n"), "{text}");
    told("http://a.example:8080/", "json");
    let moved: Value = serde_json::from_str(&told("http://a.example:8080/old", "json")).unwrap();
    assert_eq!(moved["answer"]["location"], "***");
}
