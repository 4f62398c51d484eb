//! The admin address: who may ask, and what is answered.

use std::net::SocketAddr;

use super::support::client::Response;
use super::support::control::{Followed, Patient, WEB, fixed};
use super::support::{Connection, Weir, eventually};

fn config(admin: &str) -> String {
    format!(
        "[admin]\naddress = \"127.0.0.1:0\"\n{admin}\n{WEB}{}",
        fixed("site", "", "site")
    )
}

/// Sends `METHOD PATH` with these field lines to an admin address.
async fn ask(address: SocketAddr, method: &str, path: &str, fields: &str) -> Response {
    let mut connection = Connection::open(address).await;
    connection
        .send(&format!(
            "{method} {path} HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n"
        ))
        .await;
    connection.response_to(method).await
}

#[tokio::test]
async fn every_endpoint_answers_and_no_other_exists() {
    let weir = Weir::start(&config("")).await;
    for (method, path, status, content_type) in [
        ("GET", "/healthz", 200, "text/plain; charset=utf-8"),
        ("GET", "/readyz", 200, "text/plain; charset=utf-8"),
        ("HEAD", "/readyz", 200, "text/plain; charset=utf-8"),
        (
            "GET",
            "/metrics",
            200,
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        ("GET", "/", 200, "text/plain; charset=utf-8"),
        ("GET", "/api/status", 200, "application/json"),
        ("POST", "/api/reload", 409, "application/json"),
        ("GET", "/api/reload", 405, ""),
        ("POST", "/metrics", 405, ""),
        ("GET", "/metrics/", 404, ""),
        ("GET", "/../api/status", 404, ""),
        ("GET", "/nothing", 404, ""),
    ] {
        let response = ask(weir.admin_address(), method, path, "Host: localhost\r\n").await;
        assert_eq!(response.status, status, "{method} {path}");
        assert_eq!(
            response.fields("content-type").concat(),
            content_type,
            "{method} {path}"
        );
        assert_eq!(
            response.field("content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'",
            "{method} {path}"
        );
        assert_eq!(response.field("x-content-type-options"), "nosniff");
        assert_eq!(response.field("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn the_status_tells_what_runs() {
    let server = Patient::start("server").await;
    let weir = Weir::start(&format!(
        "[process]\nworkers = 2\n{}",
        Weir::config(&[&server.origin], "")
    ))
    .await;
    let mut connection = weir.connect().await;
    for _ in 0..4 {
        connection.get("/").await;
    }
    let status = weir.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["ready"], true);
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    assert_eq!(status["config"]["hash"].as_str().unwrap().len(), 16);
    assert_eq!(status["config"]["file"], "test.toml");
    for time in [
        &status["config"]["loaded_at"],
        &status["config"]["last_reload"]["at"],
    ] {
        assert!(
            time.as_str().unwrap().ends_with('Z') && time.as_str().unwrap().len() == 20,
            "{time}"
        );
    }
    assert_eq!(status["config"]["last_reload"]["result"], "ok");
    let listener = &status["listeners"][0];
    assert_eq!(listener["name"], "web");
    assert_eq!(listener["address"], weir.address().to_string());
    assert_eq!(listener["connections"], 1);
    assert_eq!(status["upstreams"][0]["name"], "app");
    let of_server = &status["upstreams"][0]["servers"][0];
    assert_eq!(of_server["address"], server.address().to_string());
    assert_eq!(
        (&of_server["state"], &of_server["reason"]),
        (&"up".into(), &"".into())
    );
    assert!(of_server["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        (
            &of_server["in_flight"],
            &of_server["requests"],
            &of_server["failures"]
        ),
        (&0.into(), &4.into(), &0.into())
    );
    for quantile in ["p50", "p95"] {
        assert!(
            of_server["latency_ms"][quantile].as_f64().unwrap() > 0.0,
            "{of_server}"
        );
    }
}

#[tokio::test]
async fn the_config_that_runs_is_shown_with_its_secrets_masked() {
    let weir = Weir::start(&config("token = \"hunter2\"\n")).await;
    assert_eq!(weir.admin("GET", "/api/config").await.status, 401);
    let fields = "Host: localhost\r\nAuthorization: Bearer hunter2\r\n";
    let answer = ask(weir.admin_address(), "GET", "/api/config", fields).await;
    let told: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(told["hash"].as_str().unwrap().len(), 16);
    assert_eq!(told["config"]["admin"]["token"], "***");
    assert_eq!(
        told["config"]["process"]["drain"], "25s",
        "defaults are told"
    );
    assert!(!answer.text().contains("hunter2"));
}

/// A name that an attacker makes resolve to this machine is not this machine's.
#[tokio::test]
async fn without_a_token_only_names_of_this_machine_are_answered() {
    let weir = Weir::start(&config("")).await;
    let address = weir.admin_address();
    for host in [
        "localhost",
        "LocalHost:1",
        "127.0.0.1:9900",
        "[::1]",
        "192.168.0.1",
    ] {
        assert_eq!(
            ask(address, "GET", "/api/status", &format!("Host: {host}\r\n"))
                .await
                .status,
            200,
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.example:9900",
    ] {
        for path in ["/api/status", "/metrics", "/", "/nothing"] {
            assert_eq!(
                ask(address, "GET", path, &format!("Host: {host}\r\n"))
                    .await
                    .status,
                403,
                "{host} {path}"
            );
        }
        assert_eq!(
            ask(address, "GET", "/healthz", &format!("Host: {host}\r\n"))
                .await
                .status,
            200,
            "probes tell nothing"
        );
    }
    assert_eq!(
        ask(address, "GET", "/api/status", "").await.status,
        403,
        "no `Host`"
    );
    assert_eq!(
        ask(
            address,
            "GET",
            "/api/status",
            "Host: localhost\r\nHost: evil.example\r\n"
        )
        .await
        .status,
        403
    );
    assert_eq!(
        ask(
            address,
            "GET",
            "http://evil.example/api/status",
            "Host: localhost\r\n"
        )
        .await
        .status,
        403
    );
}

#[tokio::test]
async fn pages_of_other_sites_cannot_write() {
    let weir = Weir::start(&config("")).await;
    for field in [
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let fields = format!("Host: localhost\r\n{field}\r\n");
        assert_eq!(
            ask(weir.admin_address(), "POST", "/api/reload", &fields)
                .await
                .status,
            403,
            "{field}"
        );
        assert_eq!(
            ask(weir.admin_address(), "GET", "/api/status", &fields)
                .await
                .status,
            200,
            "{field}"
        );
    }
    let own = "Host: localhost:9900\r\nOrigin: http://localhost:9900\r\n";
    assert_eq!(
        ask(weir.admin_address(), "POST", "/api/reload", own)
            .await
            .status,
        409
    );
}

#[tokio::test]
async fn a_token_guards_everything_but_the_probes_and_changes_live() {
    let weir = Weir::start(&config("token = \"first\"")).await;
    let address = weir.admin_address();
    let with = async |token: &str| {
        ask(
            address,
            "GET",
            "/api/status",
            &format!("Host: any.example\r\nAuthorization: Bearer {token}\r\n"),
        )
        .await
        .status
    };
    for path in ["/", "/metrics", "/api/status", "/api/reload", "/nothing"] {
        let response = ask(address, "GET", path, "Host: localhost\r\n").await;
        assert_eq!(
            (response.status, response.field("www-authenticate")),
            (401, "Bearer"),
            "{path}"
        );
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            ask(address, "GET", path, "Host: any.example\r\n")
                .await
                .status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        (with("first").await, with("second").await, with("").await),
        (200, 401, 401)
    );
    let mut open = Connection::open(address).await;
    weir.reload(&config("token = \"second\"")).await.unwrap();
    assert_eq!(weir.admin_address(), address);
    assert_eq!((with("first").await, with("second").await), (401, 200));
    open.send("GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer first\r\n\r\n")
        .await;
    assert_eq!(
        open.response().await.status,
        401,
        "also on a connection that was open"
    );
    weir.reload(&config("")).await.unwrap();
    assert_eq!(
        ask(address, "GET", "/api/status", "Host: localhost\r\n")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn the_probes_address_has_three_paths() {
    let weir = Weir::start(&config("probes = \"127.0.0.1:0\"")).await;
    let probes = weir.running.probes_address().unwrap();
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/", 404),
        ("/api/status", 404),
        ("/api/reload", 404),
    ] {
        assert_eq!(
            ask(probes, "GET", path, "Host: pod.example\r\n")
                .await
                .status,
            status,
            "{path}"
        );
    }
    assert_eq!(
        ask(probes, "POST", "/api/reload", "Host: localhost\r\n")
            .await
            .status,
        404
    );
    weir.reload(&config("")).await.unwrap();
    assert!(weir.running.probes_address().is_none());
    let refused = async || tokio::net::TcpStream::connect(probes).await.is_err();
    eventually(refused, |refused| *refused).await;
    weir.reload(&config("probes = \"127.0.0.1:0\""))
        .await
        .unwrap();
    let probes = weir.running.probes_address().unwrap();
    assert_eq!(
        ask(probes, "GET", "/readyz", "Host: a\r\n").await.status,
        200
    );
}

#[tokio::test]
async fn the_address_moves_live() {
    let weir = Weir::start(&config("")).await;
    let before = weir.admin_address();
    let other = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let moved = config("").replacen("127.0.0.1:0", &other.to_string(), 1);
    weir.reload(&moved).await.unwrap();
    assert_eq!(weir.admin_address(), other);
    assert_eq!(weir.admin("GET", "/api/status").await.status, 200);
    let refused = async || tokio::net::TcpStream::connect(before).await.is_err();
    eventually(refused, |refused| *refused).await;
    weir.reload(&config("").replacen("127.0.0.1:0", "off", 1))
        .await
        .unwrap();
    assert!(weir.running.admin_address().is_none());
    assert_eq!(weir.get("/").await.text(), "site");
}

#[tokio::test]
async fn a_unix_socket_serves_and_goes_with_its_weir() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.sock");
    let unix = config("").replacen("127.0.0.1:0", &format!("unix:{}", path.display()), 1);
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let weir = Weir::start(&unix).await;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let get = async || {
        let mut connection =
            Connection::over(tokio::net::UnixStream::connect(&path).await.unwrap());
        connection
            .send("GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        connection.response().await.status
    };
    assert_eq!(get().await, 200);
    let second = ::weir::daemon::Daemon::start(Weir::parse(&unix)).await;
    let error = second
        .err()
        .expect("the socket belongs to the first")
        .to_string();
    assert!(
        error.starts_with("admin.address: cannot listen on `unix:"),
        "{error}"
    );
    assert_eq!(get().await, 200, "and still does");
    weir.reload(&config("")).await.unwrap();
    eventually(async || path.exists(), |exists| !exists).await;
    weir.reload(&unix).await.unwrap();
    assert_eq!(get().await, 200);
    weir.running.stop().await;
    eventually(async || path.exists(), |exists| !exists).await;
}

#[tokio::test]
async fn slow_clients_do_not_block_others() {
    let followed = Followed::start(&[WEB, &fixed("site", "", "site")].concat()).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut connection = Connection::open(followed.weir.admin_address()).await;
        connection.send("GET /metrics HTTP/1.1\r\nHost: loc").await;
        slow.push(connection);
    }
    for _ in 0..50 {
        // Asks and takes nothing of the answer.
        slow.push(
            super::support::control::ask_for(followed.weir.admin_address(), "/metrics").await,
        );
    }
    assert_eq!(followed.weir.admin("GET", "/healthz").await.status, 200);
    assert_eq!(followed.weir.admin("POST", "/api/reload").await.status, 200);
}
