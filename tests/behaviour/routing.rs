//! Which route a request takes, and what routes do with requests.

use std::time::{Duration, Instant};

use super::support::control::{WEB, fixed};
use super::support::{Connection, Origin, Weir};

/// Asks on one connection; returns the body, or the status where that is not 200.
async fn answer(
    connection: &mut Connection,
    method: &str,
    host: &str,
    target: &str,
    fields: &str,
) -> String {
    connection
        .send(&format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"
        ))
        .await;
    let response = connection.response_to(method).await;
    if response.status == 200 {
        response.text()
    } else {
        response.status.to_string()
    }
}

#[tokio::test]
async fn an_exact_host_beats_the_longest_wildcard_beats_any_host() {
    let weir = Weir::start(
        &[
            WEB,
            &fixed("any", "", "any"),
            &fixed("exact", "host = \"shop.example.com\"", "exact"),
            &fixed("deep", "host = \"*.eu.example.com\"", "deep"),
            &fixed("wide", "host = [\"*.example.com\", \"other.org\"]", "wide"),
        ]
        .concat(),
    )
    .await;
    let mut connection = weir.connect().await;
    for (host, route) in [
        ("shop.example.com", "exact"),
        ("SHOP.Example.COM", "exact"),
        ("shop.example.com:8080", "exact"),
        ("shop.example.com.", "exact"),
        ("a.eu.example.com", "deep"),
        ("a.b.eu.example.com", "deep"),
        ("eu.example.com", "wide"),
        ("a.b.c.example.com", "wide"),
        ("other.org", "wide"),
        ("example.com", "any"),
        ("notexample.com", "any"),
        ("127.0.0.1", "any"),
        ("[::1]:80", "any"),
    ] {
        assert_eq!(
            answer(&mut connection, "GET", host, "/", "").await,
            route,
            "{host}"
        );
    }
}

#[tokio::test]
async fn an_exact_path_beats_the_longest_prefix_of_whole_segments() {
    let weir = Weir::start(
        &[
            WEB,
            &fixed("root", "", "root"),
            &fixed("api", "path = \"/api/\"", "api"),
            &fixed("deep", "path = [\"/api/v2\", \"/v2\"]", "deep"),
            &fixed("exact", "path_exact = \"/api/v2/status\"", "exact"),
        ]
        .concat(),
    )
    .await;
    let mut connection = weir.connect().await;
    for (target, route) in [
        ("/", "root"),
        ("/apix", "root"),
        ("/ap", "root"),
        ("/API", "root"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/x?path=/api/v2", "api"),
        ("/api/v22", "api"),
        ("/api/v2", "deep"),
        ("/v2/x", "deep"),
        ("/api/v2/status", "exact"),
        ("/api/v2/status?x", "exact"),
        ("/api/v2/status/", "deep"),
        ("/x/../api/%761", "api"),
        ("/x/../api/%762/%73tatus", "exact"),
        ("/api/./v2/../../x", "root"),
        ("/%61pi", "api"),
        ("/api%2fv2", "root"),
    ] {
        assert_eq!(
            answer(&mut connection, "GET", "a", target, "").await,
            route,
            "{target}"
        );
    }
}

#[tokio::test]
async fn conditions_narrow_a_route_and_the_one_with_more_of_them_wins() {
    let weir = Weir::start(
        &[
            WEB,
            &fixed("plain", "", "plain"),
            &fixed("post", "methods = [\"POST\", \"PUT\"]", "post"),
            &fixed(
                "canary",
                "headers = { x-canary = \"1\" }\npriority = -1",
                "canary",
            ),
            &fixed(
                "tagged",
                "headers = { x-tag = \"*\" }\npriority = 1",
                "tagged",
            ),
            &fixed("beta", "query = { beta = \"yes\" }\npriority = 2", "beta"),
            &fixed(
                "both",
                "headers = { x-canary = \"1\" }\nquery = { beta = \"yes\" }",
                "both",
            ),
            &fixed(
                "only",
                "host = \"only.example\"\nmethods = [\"DELETE\"]",
                "only",
            ),
        ]
        .concat(),
    )
    .await;
    let mut connection = weir.connect().await;
    for (method, host, target, fields, route) in [
        ("GET", "a", "/", "", "plain"),
        ("POST", "a", "/", "Content-Length: 0\r\n", "post"),
        ("GET", "a", "/", "X-Canary: 1\r\n", "canary"),
        ("GET", "a", "/", "X-Canary: 2\r\n", "plain"),
        ("GET", "a", "/", "X-Tag: whatever\r\n", "tagged"),
        ("GET", "a", "/?x&beta=yes", "", "beta"),
        ("GET", "a", "/?beta=yes!", "", "plain"),
        ("GET", "a", "/?beta=yes", "X-Tag: 1\r\n", "beta"),
        ("GET", "a", "/?beta=yes", "X-Canary: 1\r\n", "both"),
        ("DELETE", "only.example", "/", "", "only"),
        ("GET", "only.example", "/", "", "plain"),
    ] {
        assert_eq!(
            answer(&mut connection, method, host, target, fields).await,
            route,
            "{method} {host}{target} {fields}"
        );
    }
}

#[tokio::test]
async fn a_request_that_no_route_wants_gets_a_404_that_says_so() {
    let weir =
        Weir::start(&[WEB, &fixed("shop", "host = \"shop.example\"", "shop")].concat()).await;
    let response = weir
        .ask("GET /x HTTP/1.1\r\nHost: other.example\r\nAccept: text/html,*/*\r\n\r\n")
        .await;
    assert_eq!(response.status, 404);
    assert_eq!(
        response.field("proxy-status"),
        "weir; error=destination_not_found"
    );
    assert!(
        response.text().contains("<h1>404 Not Found</h1>"),
        "{}",
        response.text()
    );
    let response = weir
        .ask("GET /x HTTP/1.1\r\nHost: other.example\r\nAccept: application/json\r\n\r\n")
        .await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&response.text()).unwrap()["status"],
        404
    );
    let response = weir
        .ask("GET /x HTTP/1.1\r\nHost: other.example\r\n\r\n")
        .await;
    assert_eq!(
        (response.field("content-type"), &*response.text()),
        ("text/plain; charset=utf-8", "404 Not Found\n")
    );
    assert_eq!(
        weir.metric("weir_refused_requests_total{listen=\"web\",reason=\"no_route\"}")
            .await,
        3.0
    );
}

#[tokio::test]
async fn routes_stand_on_the_listeners_that_they_name() {
    let weir = Weir::start(
        &[
            WEB,
            "[listen.inside]\naddress = \"127.0.0.1:0\"\n",
            &fixed("everywhere", "path = \"/both\"", "both"),
            &fixed("web", "listen = [\"web\"]", "web"),
            &fixed("inside", "listen = [\"inside\"]", "inside"),
            &fixed("admin", "listen = [\"inside\"]\npath = \"/admin\"", "admin"),
        ]
        .concat(),
    )
    .await;
    let mut web = weir.connect().await;
    let mut inside = Connection::open(weir.running.addresses("inside")[0]).await;
    for (target, of_web, of_inside) in [
        ("/", "web", "inside"),
        ("/both", "both", "both"),
        ("/admin", "web", "admin"),
    ] {
        assert_eq!(
            answer(&mut web, "GET", "a", target, "").await,
            of_web,
            "{target}"
        );
        assert_eq!(
            answer(&mut inside, "GET", "a", target, "").await,
            of_inside,
            "{target}"
        );
    }
}

/// Where `GET target` is redirected to.
async fn location(connection: &mut Connection, target: &str) -> String {
    connection
        .send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    let response = connection.response().await;
    assert!((300..400).contains(&response.status), "{}", response.head);
    assert_eq!(response.field("content-length"), "0");
    response.field("location").to_owned()
}

#[tokio::test]
async fn a_redirect_keeps_the_path_where_it_says_so_and_the_query_unless_it_has_one() {
    let weir = Weir::start(&[
        WEB,
        "[route.moved]\nredirect = { to = \"https://www.example.com{path}\" }\n",
        "[route.old]\npath = \"/old\"\nstrip_prefix = \"/old\"\nredirect = { to = \"/new{path}\", status = 302 }\n",
        "[route.fixed]\npath = \"/fixed\"\nredirect = { to = \"https://other.example/?from=a\", status = 307 }\n",
        "[route.same]\npath = \"/same\"\nhost = \"a\"\nredirect = { to = \"{path}/\", status = 303 }\n",
    ]
    .concat())
    .await;
    let mut connection = weir.connect().await;
    for (target, to) in [
        ("/", "https://www.example.com/"),
        ("/a/b?c=d&e", "https://www.example.com/a/b?c=d&e"),
        ("/a/../%62", "https://www.example.com/b"),
        // What was matched is what is sent on, the stripped prefix included.
        ("/old/x?y", "/new/old/x?y"),
        ("/fixed/x?y", "https://other.example/?from=a"),
        ("/same?x", "/same/?x"),
    ] {
        assert_eq!(location(&mut connection, target).await, to, "{target}");
    }
    connection
        .send("HEAD /old HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(connection.response_to("HEAD").await.status, 302);
    connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 308);
    connection
        .send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(
        connection.response().await.field("location"),
        "https://www.example.com/"
    );
}

/// `Location: //evil.example` would leave the site, and so would `/\evil.example` in a browser.
#[tokio::test]
async fn a_relative_redirect_never_leads_to_another_host() {
    let weir = Weir::start(
        &[
            WEB,
            "[route.path]\nredirect = { to = \"{path}\" }\n",
            "[route.slash]\nhost = \"a\"\npath = \"/s\"\nredirect = { to = \"/{path}\" }\n",
        ]
        .concat(),
    )
    .await;
    let mut connection = weir.connect().await;
    for (target, to) in [
        ("//evil.example/x", "/evil.example/x"),
        ("///evil.example", "/evil.example"),
        ("/\\evil.example", "/%5Cevil.example"),
        ("/\\/evil.example", "/%5C/evil.example"),
        ("/x/..//evil.example", "/evil.example"),
        ("/s/evil.example", "/s/evil.example"),
    ] {
        assert_eq!(location(&mut connection, target).await, to, "{target}");
    }
}

#[tokio::test]
async fn a_route_can_answer_by_itself() {
    let weir = Weir::start(&[
        WEB,
        "[route.gone]\nrespond = { status = 410, body = \"gone\", content_type = \"text/html\" }\n",
        "[route.empty]\npath = \"/empty\"\nrespond = { status = 204 }\n",
    ]
    .concat())
    .await;
    let mut connection = weir.connect().await;
    let response = connection.get("/").await;
    assert_eq!(
        (
            response.status,
            response.field("content-type"),
            &*response.text()
        ),
        (410, "text/html", "gone")
    );
    connection.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = connection.response_to("HEAD").await;
    assert_eq!(
        (response.status, response.field("content-length")),
        (410, "4")
    );
    let response = connection.get("/empty").await;
    assert_eq!(
        (response.status, response.fields("content-length").len()),
        (204, 0)
    );
    // A body that nobody wants is left unread, and the connection with it.
    connection
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nxyz")
        .await;
    assert_eq!(connection.response().await.status, 410);
}

#[tokio::test]
async fn prefixes_are_stripped_and_added_and_the_server_is_told() {
    let origin = Origin::text("hello").await;
    let routes = "[route.strip]\npath = \"/api\"\nupstream = \"app\"\nstrip_prefix = \"/api\"\n\
                  [route.add]\npath = \"/add\"\nupstream = \"app\"\nadd_prefix = \"/v1\"\n\
                  [route.both]\npath = \"/swap\"\nupstream = \"app\"\nstrip_prefix = \"/swap/\"\nadd_prefix = \"/to/\"\n";
    let weir = Weir::start(&format!("{}{routes}", Weir::config(&[&origin], ""))).await;
    let mut connection = weir.connect().await;
    for (target, sent, prefix) in [
        ("/api/users?q=%2F/api", "/users?q=%2F/api", Some("/api")),
        ("/api", "/", Some("/api")),
        ("/api/", "/", Some("/api")),
        ("/api//x", "//x", Some("/api")),
        ("/api?x", "/?x", Some("/api")),
        ("/add/x", "/v1/add/x", None),
        ("/swap/x", "/to/x", Some("/swap")),
        ("/swap", "/to/", Some("/swap")),
        ("/other/%7ex/../y?a=b?c", "/other/y?a=b?c", None),
    ] {
        connection
            .send(&format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /spoofed\r\n\r\n"
            ))
            .await;
        assert_eq!(connection.response().await.status, 200);
        let seen = origin.last();
        assert_eq!(seen.target(), sent, "{target}");
        assert_eq!(
            seen.fields("x-forwarded-prefix"),
            Vec::from_iter(prefix),
            "{target}"
        );
    }
}

#[tokio::test]
async fn fields_are_edited_in_both_directions() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: secret/1.0\r\nX-Kept: origin\r\nX-Set: origin\r\nX-More: origin\r\n\r\n".to_vec()
    })
    .await;
    let edits = "[route.site.request_headers]\nset = { x-set = \"weir\", host-like = \"h\" }\nadd = { x-more = \"weir\" }\n\
                 remove = [\"x-gone\", \"cookie\"]\n\
                 [route.site.response_headers]\nset = { x-set = \"weir\", cache-control = \"no-store\" }\n\
                 add = { x-more = \"weir\" }\nremove = [\"server\"]\n";
    let weir = Weir::start(&format!("{}{edits}", Weir::config(&[&origin], ""))).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Set: 1\r\nX-Set: 2\r\nX-More: client\r\nX-Gone: 1\r\nCookie: a=b\r\nX-Kept: client\r\n\r\n";
    let response = weir.ask(request).await;
    let seen = origin.last();
    assert_eq!(seen.fields("x-set"), ["weir"]);
    assert_eq!(seen.fields("x-more"), ["client", "weir"]);
    assert_eq!(seen.fields("host-like"), ["h"]);
    assert_eq!(seen.fields("x-kept"), ["client"]);
    assert!(
        seen.fields("x-gone").is_empty() && seen.fields("cookie").is_empty(),
        "{}",
        seen.head
    );
    assert_eq!(response.fields("x-set"), ["weir"]);
    assert_eq!(response.fields("x-more"), ["origin", "weir"]);
    assert_eq!(response.fields("x-kept"), ["origin"]);
    assert_eq!(response.fields("cache-control"), ["no-store"]);
    assert!(response.fields("server").is_empty(), "{}", response.head);
}

#[tokio::test]
async fn upstreams_get_requests_by_their_weights() {
    let (stable, canary) = (Origin::text("stable").await, Origin::text("canary").await);
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{WEB}[route.site]\nupstream = {{ stable = 3, canary = 1 }}\n\
         [upstream.stable]\nservers = [\"{}\"]\n[upstream.canary]\nservers = [\"{}\"]\n",
        stable.address(),
        canary.address()
    ))
    .await;
    let mut connection = weir.connect().await;
    let mut of_canary = 0;
    for _ in 0..400 {
        of_canary += usize::from(connection.get("/").await.text() == "canary");
    }
    // 100 are expected; five standard deviations are 43.
    assert!((57..=143).contains(&of_canary), "{of_canary} of 400");
    let series = |upstream| {
        format!(
            "weir_requests_total{{listen=\"web\",route=\"site\",upstream=\"{upstream}\",method=\"GET\",status=\"2xx\"}}"
        )
    };
    assert_eq!(weir.metric(&series("canary")).await, of_canary as f64);
    assert_eq!(
        weir.metric(&series("stable")).await,
        400.0 - of_canary as f64
    );
}

#[tokio::test]
async fn https_is_demanded_by_the_scheme_that_the_client_used() {
    let weir = Weir::start(&[
        "[listen.web]\naddress = \"127.0.0.1:0\"\nredirect_to_https = { port = 8443 }\ntrusted_proxies = [\"127.0.0.1/32\"]\n",
        &fixed("site", "", "site"),
    ]
    .concat())
    .await;
    let mut connection = weir.connect().await;
    let ask = async |connection: &mut Connection, target: &str, fields: &str| {
        connection
            .send(&format!(
                "GET {target} HTTP/1.1\r\nHost: shop.example:8080\r\n{fields}\r\n"
            ))
            .await;
        connection.response().await
    };
    let response = ask(&mut connection, "/a?b", "").await;
    assert_eq!(
        (response.status, response.field("location")),
        (308, "https://shop.example:8443/a?b")
    );
    let told = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(ask(&mut connection, "/a", told).await.status, 200);
    let told =
        "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: www.example\r\n";
    assert_eq!(
        ask(&mut connection, "/a", told).await.field("location"),
        "https://www.example:8443/a"
    );
    assert_eq!(
        ask(&mut connection, "/.well-known/acme-challenge/x", "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn ten_thousand_routes_are_taken_quickly_and_found() {
    let mut text = WEB.to_owned();
    for number in 0..10_000 {
        text.push_str(&fixed(
            &format!("r{number}"),
            &format!(
                "host = \"h{}.example\"\npath = \"/p{number}/x\"",
                number % 100
            ),
            &format!("{number}"),
        ));
    }
    let config = Weir::parse(&text);
    let began = Instant::now();
    let weir = Weir {
        running: weir::daemon::Daemon::start(config).await.unwrap(),
    };
    let mut connection = weir.connect().await;
    assert_eq!(
        answer(&mut connection, "GET", "h42.example", "/p4242/x/y", "").await,
        "4242"
    );
    // A debug build on a busy machine; a release build takes a twentieth.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        answer(&mut connection, "GET", "h43.example", "/p4242/x", "").await,
        "404"
    );
}
