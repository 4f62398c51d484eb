//! Clients that come back to the server that they were at before.

use std::collections::BTreeSet;

use crate::support::control::{Holding, WEB};
use crate::support::{Connection, Origin, Response, Weir, eventually};

async fn three() -> [Origin; 3] {
    [
        Origin::text("a").await,
        Origin::text("b").await,
        Origin::text("c").await,
    ]
}

async fn weir(origins: &[Origin], upstream: &str) -> Weir {
    let origins: Vec<_> = origins.iter().collect();
    Weir::start(&Weir::config(&origins, upstream)).await
}

/// `GET /` on a connection of its own, with these fields.
async fn get(weir: &Weir, fields: &str) -> Response {
    let mut connection = weir.connect().await;
    connection
        .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
        .await;
    connection.response().await
}

/// The cookie of a new client, as it sends it back, and the server that it got.
async fn come(weir: &Weir) -> (String, String) {
    let response = get(weir, "").await;
    (cookie(&response), response.text())
}

fn cookie(response: &Response) -> String {
    let set = response.field("set-cookie");
    let pair = set.split(';').next().unwrap();
    format!("Cookie: other=1; {pair}\r\n")
}

#[tokio::test]
async fn a_client_comes_back_to_its_server_whatever_the_worker_and_the_connection() {
    let origins = three().await;
    let weir = weir(&origins, "sticky = true\n[process]\nworkers = 3").await;
    let mut servers = BTreeSet::new();
    for _ in 0..9 {
        let (cookie, server) = come(&weir).await;
        for _ in 0..6 {
            let response = get(&weir, &cookie).await;
            assert_eq!(response.text(), server);
            assert!(
                response.fields("set-cookie").is_empty(),
                "it has it already"
            );
        }
        servers.insert(server);
    }
    assert_eq!(servers.len(), 3, "new clients are spread");
}

#[tokio::test]
async fn without_it_nobody_gets_a_cookie() {
    let origins = three().await;
    let weir = weir(&origins, "").await;
    assert!(get(&weir, "").await.fields("set-cookie").is_empty());
}

#[tokio::test]
async fn the_cookie_tells_no_address_and_is_the_same_after_a_restart_and_a_reload() {
    let origins = three().await;
    let first = weir(&origins, "sticky = true").await;
    let (cookie, server) = come(&first).await;
    for origin in &origins {
        let port = origin.address().port().to_string();
        assert!(!cookie.contains(&port), "{cookie}");
    }
    let [a, b, c] = &origins;
    let turned = Weir::config(&[c, a, b], "sticky = true\nbalance = \"random\"");
    first.reload(&turned).await.unwrap();
    assert_eq!(get(&first, &cookie).await.text(), server, "after a reload");
    drop(first);
    let second = weir(&origins, "sticky = true").await;
    assert_eq!(
        get(&second, &cookie).await.text(),
        server,
        "after a restart"
    );
}

#[tokio::test]
async fn a_client_whose_server_is_gone_is_moved_and_gets_another_cookie() {
    let origins = three().await;
    let check = "sticky = true\nhealth_check = { type = \"tcp\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1 }";
    let weir = weir(&origins, check).await;
    let (before, server) = come(&weir).await;
    let number = ["a", "b", "c"]
        .iter()
        .position(|name| *name == server)
        .unwrap();
    let mut origins: Vec<_> = origins.into_iter().map(Some).collect();
    let address = origins[number].as_ref().unwrap().address();
    origins[number] = None;
    // At once, by a failover, and later, when it is down.
    for state in ["up", "down"] {
        weir.until_server_is(address, state).await;
        let response = get(&weir, &before).await;
        assert_ne!(response.text(), server);
        let after = cookie(&response);
        assert_ne!(after, before);
        assert_eq!(get(&weir, &after).await.text(), response.text());
    }
}

#[tokio::test]
async fn a_cookie_that_names_no_server_is_as_good_as_none() {
    let origins = three().await;
    let weir = weir(&origins, "sticky = true").await;
    for value in [
        "",
        "x",
        "127.0.0.1:80",
        "\u{e9}",
        "000000000000000000000000",
    ] {
        let response = get(&weir, &format!("Cookie: weir-app={value}\r\n")).await;
        assert_eq!(response.status, 200, "{value}");
        assert_eq!(response.fields("set-cookie").len(), 1, "{value}");
    }
}

#[tokio::test]
async fn a_drained_server_keeps_its_clients_and_gets_no_others() {
    let origins = three().await;
    let weir = weir(&origins, "sticky = true").await;
    let (cookie, server) = come(&weir).await;
    let number = ["a", "b", "c"]
        .iter()
        .position(|name| *name == server)
        .unwrap();
    let path = format!(
        "/api/upstreams/app/servers/{}/drain",
        origins[number].address()
    );
    assert_eq!(weir.admin("POST", &path).await.status, 200);
    for _ in 0..4 {
        assert_eq!(get(&weir, &cookie).await.text(), server);
        assert_ne!(get(&weir, "").await.text(), server);
    }
}

/// It does not go elsewhere because others are in front of it.
#[tokio::test]
async fn a_client_waits_for_its_server() {
    let (first, second) = (Holding::start("a").await, Holding::start("b").await);
    let weir = Weir::start(&Weir::config(
        &[&first.origin, &second.origin],
        "sticky = true\nmax_in_flight = 1",
    ))
    .await;
    let (cookie, server) = come(&weir).await;
    let (own, other) = if server == "a" {
        (&first, &second)
    } else {
        (&second, &first)
    };
    let mut busy = ask(&weir, "/hold", &cookie).await;
    let length = "weir_upstream_queue_length{upstream=\"app\"}";
    eventually(async || own.targets().len(), |&count| count == 2).await;
    let mut waiting = ask(&weir, "/again", &cookie).await;
    eventually(async || weir.metric(length).await, |&length| length == 1.0).await;
    assert_eq!(
        get(&weir, "").await.text(),
        if server == "a" { "b" } else { "a" }
    );
    own.release(1);
    assert_eq!(busy.response().await.text(), server);
    assert_eq!(waiting.response().await.text(), server);
    assert!(!other.targets().contains(&"/again".to_owned()));
}

async fn ask(weir: &Weir, path: &str, fields: &str) -> Connection {
    let mut client = weir.connect().await;
    client
        .send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
        .await;
    client
}

/// Else it would be sent to the other application at its next request.
#[tokio::test]
async fn a_client_keeps_the_upstream_that_it_was_drawn_for() {
    let (stable, canary) = (Origin::text("stable").await, Origin::text("canary").await);
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = {{ stable = 1, canary = 1 }}\n\
         [upstream.stable]\nservers = [\"{}\"]\nsticky = true\n\
         [upstream.canary]\nservers = [\"{}\"]\nsticky = true\n",
        stable.address(),
        canary.address()
    ))
    .await;
    let mut seen = BTreeSet::new();
    for _ in 0..30 {
        let (cookie, drawn) = come(&weir).await;
        for _ in 0..5 {
            assert_eq!(get(&weir, &cookie).await.text(), drawn);
        }
        seen.insert(drawn);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn the_attributes_are_those_of_the_config() {
    let origins = three().await;
    let set = async |keys: &str, fields: &str| {
        let weir = weir(&origins, keys).await;
        get(&weir, fields).await.field("set-cookie").to_owned()
    };
    let plain = set("sticky = true", "").await;
    assert!(plain.starts_with("weir-app="), "{plain}");
    assert!(
        plain.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
        "{plain}"
    );
    let keys = "sticky = { cookie = \"at\", ttl = \"1h\", path = \"/app\", domain = \"example.com\", secure = true, same_site = \"none\" }";
    let full = set(keys, "").await;
    assert!(full.starts_with("at="), "{full}");
    assert!(
        full.ends_with(
            "; Path=/app; Domain=example.com; Max-Age=3600; HttpOnly; SameSite=None; Secure"
        ),
        "{full}"
    );
    let strict = set("sticky = { secure = false, same_site = \"strict\" }", "").await;
    assert!(
        strict.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{strict}"
    );
}

#[tokio::test]
async fn the_cookie_is_for_tls_where_the_client_came_by_it() {
    let origins = three().await;
    let set = async |keys: &str, scheme: &str| {
        let trusting = Weir::config(&[&origins[0]], keys).replace(
            "[listen.web]\n",
            "[listen.web]\ntrusted_proxies = [\"127.0.0.1\"]\n",
        );
        let weir = Weir::start(&trusting).await;
        let response = get(&weir, &format!("X-Forwarded-Proto: {scheme}\r\n")).await;
        response.field("set-cookie").to_owned()
    };
    assert!(set("sticky = true", "https").await.ends_with("; Secure"));
    assert!(!set("sticky = true", "http").await.contains("Secure"));
    // Unless the operator knows better.
    let never = set("sticky = { secure = false }", "https").await;
    assert!(!never.contains("Secure"), "{never}");
    let always = set("sticky = { secure = true }", "http").await;
    assert!(always.ends_with("; Secure"), "{always}");
}

/// What it has on its server is worth more than one answer.
#[tokio::test]
async fn a_client_that_went_elsewhere_for_one_request_comes_back() {
    let busy = |name: &'static str| {
        Origin::start(move |request| match request.target() {
            "/busy" => b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => crate::support::origin::ok(name),
        })
    };
    let answers = |name: &'static str| Origin::start(move |_| crate::support::origin::ok(name));
    let origins = [busy("own").await, answers("other").await];
    let weir = weir(&origins, "sticky = true").await;
    let own = loop {
        let (cookie, server) = come(&weir).await;
        if server == "own" {
            break cookie;
        }
    };
    let mut connection = weir.connect().await;
    connection
        .send(&format!("GET /busy HTTP/1.1\r\nHost: a\r\n{own}\r\n"))
        .await;
    let response = connection.response().await;
    assert_eq!(response.text(), "other");
    assert!(response.fields("set-cookie").is_empty());
    assert_eq!(get(&weir, &own).await.text(), "own");
}
