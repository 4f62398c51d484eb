//! Each directive: what it becomes, or what is told of it.

use std::path::Path;

use super::*;
use crate::config;

/// What came of a text.
struct Tried {
    toml: String,
    told: String,
}

impl Tried {
    /// Whether all these lines are in the output.
    #[track_caller]
    fn has(self, lines: &[&str]) -> Self {
        for line in lines {
            let found = self
                .toml
                .lines()
                .any(|found| found.split(" # ").next() == Some(line));
            assert!(found, "no line `{line}` in\n{}\n{}", self.toml, self.told);
        }
        self
    }

    #[track_caller]
    fn lacks(self, part: &str) -> Self {
        assert!(!self.toml.contains(part), "`{part}` in\n{}", self.toml);
        self
    }

    /// Whether this is told.
    #[track_caller]
    fn tells(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.told.contains(part), "`{part}` not in\n{}", self.told);
        }
        self
    }
}

/// Imports a text; what comes of it is a valid config, but for certificates, which are not there.
#[track_caller]
fn import(text: &str) -> Tried {
    let imported = nginx_text(text.as_bytes(), Path::new("/none/nginx/nginx.conf")).unwrap();
    if let Err(report) = config::parse(&imported.toml, Path::new("/none/nginx/weir.toml")) {
        let bad = report
            .problems
            .iter()
            .find(|problem| problem.id != "certificate");
        assert!(bad.is_none(), "{bad:?} in\n{}", imported.toml);
    }
    let lines = imported.remarks.into_iter().map(|remark| remark.line);
    Tried {
        toml: imported.toml,
        told: lines.collect::<Vec<_>>().join("\n"),
    }
}

/// Imports these lines of a server before an application.
#[track_caller]
fn server(lines: &str) -> Tried {
    import(&format!("http {{ server {{ listen 80; {lines} }} }}"))
}

/// Imports these lines of a location that leads to an application.
#[track_caller]
fn location(lines: &str) -> Tried {
    server(&format!(
        "location / {{ proxy_pass http://127.0.0.1:3000; {lines} }}"
    ))
}

#[test]
fn a_server_before_an_application_is_three_tables() {
    import("server {\n  listen 80;\n  server_name a.example;\n  location / {\n    proxy_pass http://127.0.0.1:3000;\n  }\n}")
        .has(&[
            "# /none/nginx/nginx.conf:2: listen 80",
            "[listen.http]",
            "address = \"0.0.0.0:80\"",
            "# /none/nginx/nginx.conf:4: location /",
            "[route.a-example]",
            "upstream = \"127-0-0-1-3000\"",
            "max_body = \"1MiB\"",
            "[upstream.127-0-0-1-3000]",
            "servers = [\"127.0.0.1:3000\"]",
            "host_header = \"127.0.0.1:3000\"",
        ])
        .lacks("host = ");
}

#[test]
fn every_listen_becomes_a_listener() {
    server("listen [::]:80; location / { return 200 x; }").has(&["address = \":80\""]);
    server("listen 127.0.0.1:80; location / { return 200 x; }").has(&[
        "[listen.http]",
        "[listen.http-2]",
        "address = \"127.0.0.1:80\"",
    ]);
    import("server { listen 9900 reuseport backlog=5; listen unix:/x; listen 443 quic; listen 81 proxy_protocol; location / { return 200 x; } }")
        .has(&["[admin]", "address = \"127.0.0.1:9901\"", "[listen.http-9900]"])
        .tells(&["`listen unix:/x`: weir listens on IP", "does not speak HTTP/3", "PROXY protocol"]);
    import("server { location / { return 200 x; } }").has(&["address = \"0.0.0.0:80\""]);
    import("events { }")
        .has(&["[listen.http]", "[route.nothing]"])
        .tells(&["no server was found"]);
}

#[test]
fn certificates_go_to_the_listener_those_of_the_default_server_first() {
    let text = "ssl_protocols TLSv1.3; server { listen 443 ssl; server_name a.example; ssl_certificate a.pem; ssl_certificate_key /a.key; return 200 a; }
        server { listen 443 ssl http2 default_server; server_name b.example; ssl_certificate b.pem; ssl_certificate_key b.key; return 200 b; }
        server { listen 444 ssl; return 200 c; }";
    import(text)
        .has(&[
            "[listen.https.tls]",
            "  { cert = \"/none/nginx/b.pem\", key = \"/none/nginx/b.key\" },",
            "  { cert = \"/none/nginx/a.pem\", key = \"/a.key\" },",
            "min_version = \"1.3\"",
            "host = \"a.example\"",
        ])
        .lacks("[listen.https-444]")
        .lacks("http2 = ")
        .tells(&[
            "`listen 444 ssl`: no certificate",
            "by the names that they are for",
        ]);
    let old = "server { listen 443 ssl; ssl_certificate a.pem; ssl_certificate_key a.key; ssl_protocols TLSv1 TLSv1.2; return 200 a; }";
    import(old)
        .has(&["http2 = false"])
        .lacks("min_version")
        .tells(&["note: `ssl_protocols TLSv1 TLSv1.2`: weir speaks TLS 1.2 and 1.3"]);
    import("server { listen 443 ssl default_server; ssl_reject_handshake on; } server { listen 443 ssl; server_name a.example; ssl_certificate a; ssl_certificate_key b; return 200 x; }")
        .has(&["unknown_sni = \"reject\"", "host = \"a.example\""]);
}

#[test]
fn names_are_hosts_and_the_default_server_is_for_all_others() {
    let text = "server { listen 80; server_name A.example .b.example ~^x mail.*; return 200 one; }
        server { listen 80 default_server; server_name _ x.b.example; return 200 two; }
        server { listen 80; server_name a.example; return 200 three; }
        server { listen 80; server_name ~y; return 200 four; }";
    let tried = import(text)
        .has(&[
            "host = [\"a.example\", \"b.example\", \"*.b.example\"]",
            "host = \"x.b.example\"",
        ])
        .lacks("three")
        .lacks("four")
        .tells(&[
            "requests for `~^x` go to those of the default server",
            "no request would reach it",
        ]);
    assert_eq!(
        tried.toml.matches("body = \"two\"").count(),
        2,
        "{}",
        tried.toml
    );
}

#[test]
fn locations_are_paths_by_whole_segments() {
    let text = "location = /health { return 200 ok; } location /api/ { proxy_pass http://a:1; } location ^~ /old/ { return 410; }
        location /img { proxy_pass http://b:1; location /img/big/ { proxy_pass http://c:1; } } location / { proxy_pass http://d:1; }
        location ~* \\.(js|css)$ { expires 1d; } location ~ /\\.ht { deny all; } location @x { return 200 x; } location /a/../b { return 200 b; }";
    server(text)
        .has(&[
            "path_exact = \"/health\"",
            "[route.site-api]",
            "path = \"/api\"",
            "[route.site-api-slash]",
            "path_exact = \"/api\"",
            "redirect = { to = \"/api/\", status = 301 }",
            "path = \"/old\"",
            "path_exact = \"/old\"",
            "path = \"/img\"",
            "path = \"/img/big\"",
            "path = \"/\"",
        ])
        .tells(&[
            "`/img` is for `/img` and `/img/…`",
            "`location ~* \\.(js|css)$`: weir's routes have paths and prefixes",
            "What `deny all` kept closed is open then",
            "`location @x`: no request comes here",
            "no path that weir compares",
        ]);
}

#[test]
fn where_nothing_is_said_of_a_path_no_other_server_gets_it() {
    server("server_name a.example; location /api { proxy_pass http://a:1; }")
        .has(&["path = \"/\"", "respond = { status = 404 }"]);
}

#[test]
fn redirects_keep_status_and_place() {
    server("server_name a.example b.example; return 301 https://$host$request_uri;").has(&[
        "host = \"a.example\"",
        "redirect = { to = \"https://a.example{path}\", status = 301 }",
        "redirect = { to = \"https://b.example{path}\", status = 301 }",
    ]);
    import("server { listen 80 default_server; server_name _; return 301 https://$host$request_uri; } server { listen 81; return 200 x; }")
        .has(&["redirect_to_https = { port = 443 }"])
        .tells(&["with status 308"]);
    server("location /a { return 302 /b; } location /c { return 301 $scheme://c.example$request_uri; } location /d { return 308 https://d.example/x$is_args$args; } location /e { return https://e.example$uri; } location = /f { return 301 /f/$arg_x; }")
        .has(&[
            "redirect = { to = \"/b\", status = 302 }",
            "redirect = { to = \"http://c.example{path}\", status = 301 }",
            "redirect = { to = \"https://d.example/x\", status = 308 }",
            "redirect = { to = \"https://e.example{path}\", status = 302 }",
            "respond = { status = 501 }",
        ])
        .tells(&["appends the query of the request", "`$arg_x` is another for each request"]);
    server("return 303 https://a.example$$request_uri;")
        .has(&["respond = { status = 501 }"])
        .tells(&["does not take this as a URL"]);
}

#[test]
fn the_redirects_that_certbot_writes_are_understood() {
    let text = "server_name a.example b.example; if ($host = a.example) { return 301 https://$host$request_uri; } if ($host = b.example) { return 301 https://$host$request_uri; } return 404;";
    server(text).has(&[
        "host = \"a.example\"",
        "redirect = { to = \"https://a.example{path}\", status = 301 }",
        "redirect = { to = \"https://b.example{path}\", status = 301 }",
        "respond = { status = 404 }",
    ]);
    import("server { listen 80; server_name a.example; if ($host = a.example) { return 301 https://$host$request_uri; } if ($host = a.example) { return 403; } if ($host = b.example) { return 403; } return 404; } server { listen 80; server_name b.example; return 200 b; }")
        .lacks("403")
        .tells(&["the server gets no such requests"]);
    import("server { listen 80; return 404; } server { listen 80; server_name *.a.example; if ($host = old.a.example) { return 301 https://a.example$request_uri; } if ($host = old.a.example) { return 403; } return 200 x; }")
        .has(&["host = \"old.a.example\"", "redirect = { to = \"https://a.example{path}\", status = 301 }", "host = \"*.a.example\""])
        .lacks("403");
    server("rewrite ^/a$ /b permanent; rewrite ^/a$ /c permanent; location = /a { return 200 x; } location / { proxy_pass http://a:1; }")
        .has(&["redirect = { to = \"/b\", status = 301 }"])
        .lacks("/c")
        .tells(&["one before it answers", "or a `rewrite` before it, have"]);
    let both = "server { listen 80; listen 443 ssl; ssl_certificate a; ssl_certificate_key b; server_name a.example;
        if ($scheme = http) { return 301 https://a.example$request_uri; } location / { proxy_pass http://a:1; } }";
    import(both).has(&[
        "listen = [\"http\"]",
        "redirect = { to = \"https://a.example{path}\", status = 301 }",
        "listen = [\"https\"]",
        "upstream = \"a-1\"",
    ]);
    server("set $closed 0; if (-f /closed) { set $closed 1; } if ($closed = 1) { return 403; } location / { return 200 x; }")
        .tells(&["`if ($closed = 1)`: weir's routes go by", "What `return 403` refused is let in then"]);
    location("if ($http_user_agent ~ bot) { return 403; }")
        .tells(&["`if ($http_user_agent ~ bot)`: weir's routes go by"]);
}

#[test]
fn fixed_answers_have_their_type() {
    server("default_type text/css; location = /a { return 200 'a \"b\"'; } location = /b.html { return 200 x; } location = /c { add_header Content-Type application/json; return 200 '{}'; } location = /d { return 204; } location = /e { return 444; } location = /f { return 200 $remote_addr; }")
        .has(&[
            "respond = { status = 200, body = \"a \\\"b\\\"\", content_type = \"text/css\" }",
            "respond = { status = 200, body = \"x\", content_type = \"text/html\" }",
            "respond = { status = 200, body = \"{}\", content_type = \"application/json\" }",
            "respond = { status = 204 }",
            "respond = { status = 404 }",
            "respond = { status = 501 }",
        ])
        .lacks("response_headers")
        .tells(&["closes no connection"]);
}

#[test]
fn rewrites_that_take_a_prefix_off_or_redirect_are_understood() {
    server("location /api/ { rewrite ^/api/(.*)$ /$1 break; proxy_pass http://a:1; } location /b { rewrite ^/b(/.*)$ /c$1 break; proxy_pass http://a:1; }")
        .has(&["strip_prefix = \"/api\"", "strip_prefix = \"/b\"", "add_prefix = \"/c\""]);
    server("rewrite ^/old/?$ /new permanent; rewrite ^/(.*)$ https://a.example/$1 redirect;").has(
        &[
            "path_exact = [\"/old\", \"/old/\"]",
            "redirect = { to = \"/new\", status = 301 }",
            "redirect = { to = \"https://a.example{path}\", status = 302 }",
        ],
    );
    for flag in ["", "last"] {
        server(&format!(
            "location /a/ {{ rewrite ^/a/(.*)$ /$1 {flag}; proxy_pass http://a:1; }}"
        ))
        .has(&["respond = { status = 501 }"])
        .tells(&["looks for a location anew"]);
    }
    server("location / { rewrite ^/x/(\\d+)$ /y?id=$1 break; proxy_pass http://a:1; }")
        .has(&["respond = { status = 501 }"])
        .tells(&[
            "knows no regular expressions",
            "servers would get the wrong path",
        ]);
}

#[test]
fn the_path_of_proxy_pass_takes_the_place_of_the_locations() {
    for (path, url, keys, told) in [
        ("/api/", "http://a:1", vec![], ""),
        ("/api/", "http://a:1/", vec!["strip_prefix = \"/api\""], ""),
        (
            "/api/",
            "http://a:1/v2/",
            vec!["strip_prefix = \"/api\"", "add_prefix = \"/v2\""],
            "",
        ),
        ("/", "http://a:1/v2/", vec!["add_prefix = \"/v2\""], ""),
        ("/", "http://a:1/", vec![], ""),
        (
            "/api",
            "http://a:1/",
            vec!["strip_prefix = \"/api\""],
            "two slashes",
        ),
        (
            "/api",
            "http://a:1/v2",
            vec!["strip_prefix = \"/api\"", "add_prefix = \"/v2\""],
            "weir `/v2/`",
        ),
        (
            "/api/",
            "http://a:1/v2",
            vec!["respond = { status = 501 }"],
            "is probably missing",
        ),
        (
            "= /a/x",
            "http://a:1/b/x",
            vec!["strip_prefix = \"/a\"", "add_prefix = \"/b\""],
            "",
        ),
        (
            "= /x",
            "http://a:1/y",
            vec!["respond = { status = 501 }"],
            "another name",
        ),
        ("/", "http://a:1$request_uri", vec![], ""),
        (
            "/",
            "http://$host",
            vec!["respond = { status = 501 }"],
            "`$host` is another",
        ),
        (
            "/",
            "http://a:1/x?y=1",
            vec!["respond = { status = 501 }"],
            "without a query",
        ),
    ] {
        let tried = server(&format!("location {path} {{ proxy_pass {url}; }}"));
        let prefixes = ["strip_prefix", "add_prefix"]
            .map(|key| keys.iter().any(|line: &&str| line.starts_with(key)));
        let found = ["strip_prefix =", "add_prefix ="].map(|key| tried.toml.contains(key));
        assert_eq!(found, prefixes, "{path} {url}\n{}", tried.toml);
        tried.has(&keys).tells(&[told]);
    }
    server("set $app http://app:3000; location / { proxy_pass $app; }")
        .has(&["servers = [\"app:3000\"]"]);
}

#[test]
fn servers_of_an_upstream_keep_weights_and_roles() {
    let text = "upstream app { zone app 64k; least_conn; server 10.0.0.1:80 weight=3 max_fails=3 fail_timeout=30s; server b.example max_fails=3 fail_timeout=30s max_conns=7; server unix:/run/a.sock backup; server 10.0.0.4 down; server 10.0.0.1; server bad_port:x; keepalive 32; keepalive_timeout 20s; }
        server { listen 80; location / { proxy_pass http://app; proxy_set_header Host $host; } } upstream none { server a:1; }";
    import(text)
        .has(&[
            "[upstream.app]",
            "  { address = \"10.0.0.1:80\", weight = 3 },",
            "  { address = \"b.example:80\", max_in_flight = 7 },",
            "  { address = \"unix:/run/a.sock\", backup = true },",
            "balance = \"least_connections\"",
            "keepalive = { max_idle = 32, idle = \"20s\" }",
            "ejection = { failures = 3, base = \"30s\" }",
        ])
        .lacks("10.0.0.4")
        .lacks("host_header")
        .tells(&[
            "marked `down`",
            "it is there twice",
            "`server bad_port:x`",
            "no route leads to it",
            "one `ejection`",
        ]);
    let balanced = |line: &str| {
        import(&format!(
            "upstream app {{ {line} server a:1; server b:1 max_fails=0; }} server {{ location / {{ proxy_pass http://app; }} }}"
        ))
    };
    balanced("ip_hash;")
        .has(&["balance = \"hash\"", "hash_key = \"client_ip\""])
        .tells(&["first three bytes"]);
    balanced("hash $request_uri consistent;").has(&["hash_key = \"path\""]);
    balanced("hash $http_x_user;").has(&["hash_key = \"header:x-user\""]);
    balanced("hash $cookie_sid;").has(&["hash_key = \"cookie:sid\""]);
    balanced("hash $arg_x;")
        .lacks("balance")
        .tells(&["`hash $arg_x`: weir hashes by"]);
    balanced("random two least_conn;").has(&["balance = \"random\""]);
    import(
        "upstream app { server 10.0.0.1 down; } server { location / { proxy_pass http://app; } }",
    )
    .has(&["respond = { status = 501 }"])
    .tells(&["it has no server that weir can use"]);
}

#[test]
fn places_that_treat_servers_differently_have_their_own_upstreams() {
    let text = "upstream app { server a:1; } server { location / { proxy_pass http://app; } location /slow { proxy_pass http://app; proxy_read_timeout 300; proxy_connect_timeout 5s; } location /same { proxy_pass http://app; } }";
    let tried = import(text).has(&[
        "[upstream.app]",
        "[upstream.app-2]",
        "connect_timeout = \"5s\"",
        "response_timeout = \"5m\"",
        "stall_timeout = \"5m\"",
        "stream_timeout = \"5m\"",
    ]);
    assert_eq!(
        tried.toml.matches("upstream = \"app\"").count(),
        2,
        "{}",
        tried.toml
    );
}

#[test]
fn retries_are_for_the_same_cases() {
    location("proxy_next_upstream error timeout http_502 http_404 non_idempotent; proxy_next_upstream_tries 3; proxy_next_upstream_timeout 5s;")
        .has(&["retry = { on = [\"connect\", \"reset\", \"timeout\", \"502\"], methods = [\"GET\", \"HEAD\", \"OPTIONS\", \"PUT\", \"DELETE\", \"POST\", \"PATCH\"], max_retries = 2 }"])
        .tells(&["does not retry for `http_404`", "by number and by budget"]);
    location("proxy_next_upstream off;").has(&["retry = \"off\""]);
}

#[test]
fn tls_to_servers_is_verified() {
    let text = "location / { proxy_pass https://api.example; proxy_ssl_trusted_certificate ca.pem; proxy_ssl_name x.example; proxy_ssl_verify off; proxy_ssl_server_name on; }";
    server(text)
        .has(&[
            "servers = [\"api.example:443\"]",
            "tls = { ca = \"/none/nginx/ca.pem\", server_name = \"x.example\" }",
            "host_header = \"api.example\"",
        ])
        .tells(&["note: `proxy_ssl_verify off`: weir always verifies"]);
    server("location / { proxy_pass https://unix:/run/a.sock; }")
        .has(&["tls = { server_name = \"localhost\" }"]);
    server("location / { proxy_pass https://10.0.0.1; }")
        .has(&["tls = true"])
        .tells(&["https://10.0.0.1: weir always verifies"]);
}

#[test]
fn fields_that_weir_sets_by_itself_are_needless() {
    let lines = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_set_header X-Request-ID $request_id; proxy_set_header Cookie $http_cookie;";
    let tried = location(lines)
        .lacks("request_headers")
        .lacks("host_header");
    assert_eq!(
        tried.told.matches(": needless: `proxy_set_header").count(),
        8,
        "{}",
        tried.told
    );
    location("proxy_set_header X-App shop; proxy_set_header Accept-Encoding ''; proxy_set_header X-Port $server_port; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Client $remote_addr; proxy_set_header TE x; proxy_set_header Host app.example;")
        .has(&["[route.site.request_headers]", "remove = [\"accept-encoding\"]", "[route.site.request_headers.set]", "x-app = \"shop\"", "x-port = \"80\"", "host_header = \"app.example\""])
        .tells(&["`proxy_set_header X-Forwarded-Proto https`: weir says this by itself", "`$remote_addr` is another", "belongs to the connection"]);
}

#[test]
fn a_place_with_an_add_header_of_its_own_inherits_none() {
    let text = "add_header X-Frame-Options DENY always; location /a { proxy_pass http://a:1; } location /b { proxy_pass http://b:1; add_header X-B 1; proxy_hide_header X-Powered-By; }";
    let tried = server(text)
        .has(&[
            "x-frame-options = \"DENY\"",
            "x-b = \"1\"",
            "remove = [\"x-powered-by\"]",
        ])
        .tells(&["note: `add_header X-B 1`: weir adds it to responses of any status"]);
    // That of `/a`, and the server's own.
    assert_eq!(
        tried.toml.matches("x-frame-options").count(),
        2,
        "{}",
        tried.toml
    );
    location("add_header Alt-Svc 'h3=\":443\"'; add_header X $request_time; add_header Link a; add_header Link b; add_header Connection close; expires 7d;")
        .has(&["link = \"a, b\"", "cache-control = \"max-age=604800\"", "remove = [\"expires\"]"])
        .tells(&["HTTP/3, which weir does not speak", "`$request_time` is another", "belongs to the connection"]);
}

#[test]
fn limits_of_clients_go_to_the_listener_and_to_routes() {
    server("client_max_body_size 20m; client_header_timeout 15; keepalive_timeout 65 60; client_body_timeout 20; send_timeout 40; large_client_header_buffers 8 16k; location / { proxy_pass http://a:1; } location /up { client_max_body_size 0; proxy_pass http://a:1; }")
        .has(&["max_body = \"20MiB\"", "max_body = \"off\"", "header_timeout = \"15s\"", "keepalive = \"65s\"", "stall_timeout = \"40s\"", "max_header_size = \"128KiB\"", "max_target_size = \"16KiB\""])
        .tells(&["the longer of the two"]);
    import("server { listen 80; keepalive_timeout 5; return 200 a; } server { listen 80; server_name b.example; keepalive_timeout 0; return 200 b; }")
        .has(&["keepalive = \"5s\""])
        .tells(&["note: `keepalive_timeout 0`: weir has this for a whole listener"]);
}

#[test]
fn compression_has_the_types_and_sizes_of_nginx() {
    location("gzip on; gzip_types text/css application/json; gzip_min_length 256; gzip_comp_level 6; gzip_vary on; gzip_proxied any; brotli on; brotli_comp_level 11;")
        .has(&["[route.site.compress]", "codings = [\"br\", \"gzip\"]", "min_size = \"20B\"", "level = { br = 6, gzip = 6 }", "types = [\"text/html\", \"text/css\", \"application/json\"]"])
        .tells(&["levels from 0 to 6"]);
    location("gzip off;").lacks("compress");
}

#[test]
fn the_cache_keeps_what_nginx_keeps() {
    let cached = |lines: &str| {
        import(&format!(
            "proxy_cache_path /var/cache levels=1:2 keys_zone=c:10m inactive=1h; server {{ location / {{ proxy_pass http://a:1; proxy_cache c; {lines} }} }}"
        ))
    };
    cached("proxy_cache_valid 200 301 10m; proxy_cache_valid 404 1m; proxy_cache_key $scheme$host$uri$is_args$args; proxy_cache_use_stale error timeout updating; proxy_cache_background_update on; proxy_cache_lock on; proxy_ignore_headers Set-Cookie Vary; proxy_cache_bypass $http_pragma;")
        .has(&["[route.site.cache]", "default_ttl = \"10m\"", "stale_while_revalidate = \"1h\"", "stale_if_error = \"1h\"", "store_set_cookie = true"])
        .lacks("key_query")
        .tells(&["`proxy_cache_valid 404 1m`: weir has one", "always heeds `Vary`", "keeps responses in memory"]);
    cached("proxy_cache_key $host$uri$arg_page;")
        .has(&["key_query = [\"page\"]", "stale_if_error = \"off\""]);
    for unsafe_line in [
        "proxy_no_cache $cookie_session;",
        "proxy_cache_key $uri$cookie_lang;",
        "proxy_buffering off;",
    ] {
        cached(unsafe_line)
            .lacks("route.site.cache")
            .lacks("cache = true");
    }
    server("location / { proxy_pass http://a:1; proxy_cache gone; }")
        .lacks("[route.site.cache]")
        .tells(&["no `proxy_cache_path`"]);
}

#[test]
fn what_keeps_clients_out_closes_the_route() {
    for guard in [
        "deny all;",
        "allow 10.0.0.0/8; deny all;",
        "auth_basic x;",
        "auth_request /a;",
        "limit_except GET { deny all; }",
        "ssl_verify_client on;",
        "access_by_lua_block { ngx.exit(403) }",
    ] {
        location(guard)
            .has(&["respond = { status = 403 }"])
            .lacks("\nupstream")
            .lacks("\n[upstream")
            .tells(&["answer 403 to everyone"]);
    }
    location("allow all; auth_basic off; ssl_verify_client optional;").lacks("403");
    server("deny 1.2.3.4; location / { proxy_pass http://a:1; auth_basic off; }")
        .has(&["respond = { status = 403 }"]);
    location("internal;").has(&["respond = { status = 404 }"]);
}

#[test]
fn what_is_no_http_server_answers_with_an_error() {
    server("root /var/www; location / { try_files $uri $uri/ =404; } location /php { fastcgi_pass x; } location /grpc { grpc_pass grpc://x; } location /lua { content_by_lua_block { x } }")
        .has(&["respond = { status = 404 }", "respond = { status = 501 }"])
        .tells(&["`root /var/www`: weir serves no files", "does not speak HTTP/2 to servers yet", "weir runs no scripts"]);
    server("location / { try_files $uri @app; } location @app { proxy_pass http://a:1; proxy_read_timeout 5; }")
        .has(&["upstream = \"a-1\"", "response_timeout = \"5s\""])
        .tells(&["every request goes to `location @app`"]);
    server("try_files $uri @app; location /files/ { expires 1d; } location @app { proxy_pass http://a:1; }")
        .has(&["path = \"/files\"", "respond = { status = 404 }", "upstream = \"a-1\""]);
    server("location / { try_files $uri @app; } location @app { rewrite ^(.*)$ /x?p=$1 break; proxy_pass http://a:1; }")
        .has(&["respond = { status = 404 }"])
        .lacks("upstream");
}

#[test]
fn trusted_proxies_are_those_of_real_ip() {
    server("set_real_ip_from 10.0.0.0/8; set_real_ip_from 192.168.1.7; real_ip_header X-Forwarded-For; real_ip_recursive on; location / { proxy_pass http://a:1; }")
        .has(&["trusted_proxies = [\"10.0.0.0/8\", \"192.168.1.7/32\"]"]);
    server("set_real_ip_from 10.1.2.3/8; set_real_ip_from unix:; real_ip_header x-forwarded-for; location / { proxy_pass http://a:1; }")
        .has(&["trusted_proxies = [\"10.0.0.0/8\"]"])
        .tells(&["`set_real_ip_from unix:`"]);
    for header in ["real_ip_header CF-Connecting-IP;", ""] {
        server(&format!(
            "set_real_ip_from 10.0.0.0/8; {header} location / {{ proxy_pass http://a:1; }}"
        ))
        .lacks("trusted_proxies")
        .tells(&[
            "`set_real_ip_from 10.0.0.0/8`: weir takes the address",
            header.trim_end_matches(';'),
        ]);
    }
    import("server { listen 80; set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For; return 200 a; } server { listen 80; server_name b.example; return 200 b; }")
        .tells(&["note: `set_real_ip_from 10.0.0.0/8`: weir has `trusted_proxies` for a whole listener"]);
}

#[test]
fn what_is_of_the_process_is_translated_where_weir_has_it() {
    let text = "user www; worker_processes 4; worker_shutdown_timeout 30s; pid /run/nginx.pid; error_log /x warn; events { worker_connections 1024; } stream { server { listen 1; } }
        http { access_log /var/log/a.log main; log_format main '$remote_addr'; resolver 127.0.0.11 valid=30s; types { text/css css; } include mime.types; map $http_upgrade $c { default x; } map $a $b { } server { listen 80; access_log off; location / { return 200 x; } } }";
    import(text)
        .has(&[
            "[process]",
            "workers = 4",
            "drain = \"30s\"",
            "resolver = \"127.0.0.11\"",
            "[log]",
            "access = \"/var/log/a.log\"",
            "access_filter = \"all\"",
            "access_format = \"combined\"",
        ])
        .tells(&[
            "`user www`: weir keeps the user",
            "`stream`: weir speaks HTTP only",
            "`error_log /x warn`",
            "needless: `pid",
            "`include mime.types`: it is not here",
            "needless: `map $http_upgrade $c`",
            "`map $a $b`: weir's config has no variables",
            "`access_log off`: weir has one access log",
        ]);
}

#[test]
fn unknown_directives_are_told_once_each() {
    let tried = location("frobnicate 7; limit_req zone=x; frobnicate 7;");
    assert_eq!(
        tried
            .told
            .matches("`frobnicate 7`: weir does not know")
            .count(),
        2,
        "{}",
        tried.told
    );
    tried.tells(&["no rate limits yet"]);
}

/// What is said to be translated is in the output: without its line it is another one.
#[test]
fn what_nothing_is_told_of_makes_a_difference() {
    let configs = [
        include_str!("../../tests/import/node/nginx.conf"),
        include_str!("../../tests/import/split/nginx.conf"),
        include_str!("../../tests/import/tls/nginx.conf"),
        include_str!("../../tests/import/next/nginx.conf"),
        include_str!("../../tests/import/debian/sites-enabled/shop.conf"),
        REFUSED,
    ];
    let path = Path::new("/x/nginx.conf");
    let bare = |toml: &str| -> Vec<String> {
        let lines = toml.lines().filter(|line| !line.starts_with('#'));
        let keys = lines.filter_map(|line| line.split(" # ").next());
        keys.map(str::to_owned).collect()
    };
    for text in configs {
        let whole = nginx_text(text.as_bytes(), path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        // What closed routes have in their comments is told for many lines at once.
        let put_off = whole.remarks.iter().filter_map(|remark| {
            let (_, lines) = remark.line.split_once("to be put back: /x/nginx.conf:")?;
            Some(lines.split(", "))
        });
        let put_off: Vec<_> = put_off.flatten().collect();
        // Whether all of it was told together, for each block around a line.
        let mut blocks = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let place = format!("/x/nginx.conf:{}: ", number + 1);
            let told = |remark: &Remark| remark.line.starts_with(&place);
            if line.trim() == "}" {
                blocks.pop();
            } else if line.ends_with('{') {
                let left = |remark: &Remark| {
                    let is_left = |kind: &str| remark.line.starts_with(&format!("{place}{kind}`"));
                    is_left("") || is_left("access: ") || remark.is_needless
                };
                blocks.push(
                    whole
                        .remarks
                        .iter()
                        .any(|remark| told(remark) && left(remark)),
                );
            }
            let directive = line.split(';').next().unwrap_or_default().trim();
            if !line.contains(';')
                || directive.contains(['#', '{'])
                || SAYS_THE_SAME.contains(&directive)
                || blocks.contains(&true)
                || whole.remarks.iter().any(told)
                || put_off.contains(&&*(number + 1).to_string())
            {
                continue;
            }
            let mut rest = lines.clone();
            rest[number] = "";
            // The end of a directive of several lines.
            let Ok(rest) = nginx_text(rest.join("\n").as_bytes(), path) else {
                continue;
            };
            assert_ne!(
                bare(&whole.toml),
                bare(&rest.toml),
                "line {}: {line}",
                number + 1
            );
        }
    }
}

/// Much that is translated elsewhere, beside what makes it come to nothing.
const REFUSED: &str = r"
proxy_cache_path /c keys_zone=c:1m;
client_header_timeout 7s;
upstream app {
  least_conn;
  random;
  server 10.0.0.1:80 max_fails=3;
  server 10.0.0.2:80 down;
}
upstream guarded {
  server 10.0.0.3:80;
  keepalive 7;
}
server {
  listen 81 ssl;
  send_timeout 9s;
  return 200 x;
}
server {
  listen 80;
  proxy_cache c;
  proxy_cache_key $scheme$uri;
  proxy_set_header X-One 1;
  location / {
    proxy_pass http://app;
    proxy_cache_bypass $cookie_x;
    proxy_set_header X-Two 1;
    proxy_set_header X-Two 2;
    proxy_cache_valid 5m;
  }
  location /cached/ {
    proxy_pass http://app;
    proxy_cache_background_update on;
  }
  location /closed/ {
    set $app http://guarded;
    rewrite ^/closed/(.*)$ /$1 break;
    deny all;
    proxy_pass http://guarded;
    proxy_set_header X-Api-Key k;
    proxy_read_timeout 120;
    proxy_hide_header X-Powered-By;
  }
  location /unknown/ {
    set $x /y;
    rewrite ^/unknown/(.*)$ /$1 break;
    proxy_pass http://app$x$arg_x;
    proxy_connect_timeout 3s;
  }
  location /tls/ {
    proxy_pass https://10.0.0.9;
    proxy_ssl_certificate a.pem;
    proxy_ssl_verify on;
  }
  location /sent/ {
    add_header Content-Type text/x-y;
    proxy_hide_header X-Powered-By;
    return 301 /there;
  }
}
";

/// What the output says anyway: weir's default, or what another line says too.
const SAYS_THE_SAME: [&str; 9] = [
    "proxy_ssl_verify on",
    "listen 80",
    "server_name _",
    "proxy_cache_key $scheme$host$request_uri",
    "proxy_cache_background_update on",
    "proxy_cache_lock on",
    "ssl_protocols TLSv1.2 TLSv1.3",
    "ssl_certificate tls/example.pem",
    "ssl_certificate_key tls/example.key",
];

/// The promise of the whole: each directive is translated, told, or needless.
#[test]
fn nothing_is_dropped_without_a_word() {
    let text = include_str!("../../tests/import/split/nginx.conf");
    for cut in 0..text.lines().count() {
        // Without one of its lines it is another config.
        let lines: Vec<_> = text
            .lines()
            .enumerate()
            .filter(|(number, _)| *number != cut)
            .map(|(_, line)| line)
            .collect();
        let Ok(imported) = nginx_text(lines.join("\n").as_bytes(), Path::new("/x/nginx.conf"))
        else {
            continue;
        };
        let count = imported.count;
        assert_eq!(count.silent, 0, "without line {}", cut + 1);
    }
}

#[test]
fn what_belongs_to_a_cache_that_is_not_translated_is_told() {
    let text = "proxy_cache_path /c keys_zone=c:1m; server { location / { proxy_pass http://a:1; proxy_cache c; proxy_cache_key $uri; proxy_cache_valid 5m; proxy_cache_bypass $cookie_x; } }";
    import(text).lacks("cache").tells(&[
        "`proxy_cache_key $uri`: it belongs to a `proxy_cache` that is not translated",
        "`proxy_cache_valid 5m`: it belongs to a `proxy_cache` that is not translated",
    ]);
    // Also where another place has it.
    let text = "proxy_cache_path /c keys_zone=c:1m; server { proxy_cache c; proxy_cache_key $uri; location / { proxy_pass http://a:1; } location /x { proxy_pass http://a:1; proxy_no_cache $cookie_x; } }";
    import(text)
        .has(&["key_query = \"none\""])
        .tells(&["`proxy_cache_key $uri`: it belongs to a `proxy_cache` that is not translated"]);
}

#[test]
fn what_comes_to_nothing_with_its_table_is_told() {
    import("server { listen 80; return 200 x; } server { listen 444 ssl; client_header_timeout 7s; return 200 x; }")
        .lacks("header_timeout")
        .tells(&["`server`: no request would reach it"]);
    server("location / { rewrite ^/(.*)$ /v1/$1 break; set $x 1; proxy_pass http://a:1$x$arg_y; }")
        .has(&["respond = { status = 501 }"])
        .tells(&[
            "`rewrite ^/(.*)$ /v1/$1 break`: the route of /none/nginx/nginx.conf:1 `location /` is closed",
            "`set $x 1`: the route of",
        ]);
    location("proxy_set_header X-A 1; proxy_set_header x-a 2;")
        .has(&["x-a = \"2\""])
        .tells(&["`proxy_set_header X-A 1`: weir sets a field once"]);
    server("location / { proxy_pass https://a.example; proxy_ssl_certificate a.pem; }")
        .lacks("client_cert")
        .tells(&["`proxy_ssl_certificate a.pem`: weir takes a certificate and its key"]);
    server("add_header Content-Type text/x-y; return 301 /there;")
        .has(&["content-type = \"text/x-y\""]);
    import("upstream app { least_conn; ip_hash; server a:1; } server { location / { proxy_pass http://app; } }")
        .has(&["balance = \"least_connections\""])
        .tells(&["`ip_hash`: weir balances in one way"]);
}

#[test]
fn a_closed_route_says_what_to_put_back() {
    let text = "upstream app { server a:1; } server { location / { proxy_pass http://app; }
        location /k/ { deny all; rewrite ^/k/(.*)$ /$1 break;
        proxy_pass http://app; proxy_set_header X-Api-Key k;
        proxy_read_timeout 120; } }";
    import(text)
        .has(&[
            "#   upstream = \"app-2\"",
            "#   strip_prefix = \"/k\"",
            "#   [route.site-k.request_headers.set]",
            "#   x-api-key = \"k\"",
            "#   [upstream.app-2]",
            "#   response_timeout = \"120s\"",
            "respond = { status = 403 }",
        ])
        .lacks("\nupstream = \"app-2\"")
        .tells(&["access: `location /k/`: its route is closed; what these lines say is in its comment, to be put back: /none/nginx/nginx.conf:2, 3, 4"]);
}

#[test]
fn a_rewrite_that_does_not_take_the_bare_prefix_is_told() {
    server("location /blog { rewrite ^/blog/(.*)$ /$1 break; proxy_pass http://a:1; }")
        .has(&["strip_prefix = \"/blog\""])
        .tells(&[
            "for `/blog` itself, which the pattern is not for, nginx sends `/blog`, weir `/`",
        ]);
    for lines in [
        "location /blog/ { rewrite ^/blog/(.*)$ /$1 break; proxy_pass http://a:1; }",
        "location /blog { rewrite ^/blog(/|$)(.*) /$2 break; proxy_pass http://a:1; }",
    ] {
        let tried = server(lines).has(&["strip_prefix = \"/blog\""]);
        assert!(!tried.told.contains("itself"), "{}", tried.told);
    }
    // The first group is but the slash.
    server("location /blog { rewrite ^/blog(/|$)(.*) /$1 break; proxy_pass http://a:1; }")
        .lacks("strip_prefix");
}

#[test]
fn redirects_to_the_slash_have_the_fields_of_their_place() {
    let tried = server("add_header Strict-Transport-Security max-age=1 always; proxy_hide_header X-Powered-By; location /img/ { proxy_pass http://a:1; }")
        .has(&["[route.site-img-slash.response_headers.add]"]);
    let hsts = tried.toml.matches("strict-transport-security").count();
    // The third is the server's own.
    assert_eq!(hsts, 3, "{}", tried.toml);
    tried.lacks("[route.site-img-slash.response_headers]\n");
}

#[test]
fn servers_that_are_down_have_no_say_in_ejection() {
    let tried = import("upstream app { server a:1 down; server b:1 max_fails=3; server c:1 down; } server { location / { proxy_pass http://app; } }")
        .has(&["ejection = { failures = 3 }"]);
    assert!(!tried.told.contains("one `ejection`"), "{}", tried.told);
}

#[test]
fn the_host_that_is_not_quite_the_same_is_a_note() {
    location("proxy_set_header Host $host;").lacks("host_header").tells(&[
        "note: `proxy_set_header Host $host`: weir passes the `Host` of the client on as it is, with its port",
    ]);
    location("proxy_set_header Host $http_host;").tells(&["needless: `proxy_set_header Host"]);
}

#[test]
fn what_many_lines_have_alike_is_told_once_and_access_first() {
    let tried = server("\nlocation /a { proxy_pass http://a:1; }\nlocation /b { proxy_pass http://a:1; }\nlocation /c { proxy_pass http://a:1; }\nlocation /d/ { auth_basic x; }")
        .tells(&["nginx.conf:2: note: `location /a`: weir compares whole segments: ", "shorter prefix. Likewise: /none/nginx/nginx.conf:3, 4\n"]);
    assert_eq!(
        tried.told.matches("whole segments:").count(),
        1,
        "{}",
        tried.told
    );
    let first = tried.told.lines().next().unwrap();
    assert!(
        first.starts_with("/none/nginx/nginx.conf:5: access: `auth_basic x`: "),
        "{first}"
    );
}

/// A snippet is translated where one server includes it, and not where another does.
#[test]
fn of_a_shared_file_it_is_told_where_it_is_not_translated() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("p", "proxy_connect_timeout 7s;\nproxy_read_timeout 8s;\n");
    write("q", "proxy_set_header X-A $x;\n");
    write(
        "nginx.conf",
        "server { server_name a.example;\ninclude p; include q; location / { proxy_pass http://a:1; } }
        server { server_name b.example;\ninclude p; include q; return 404; }
        server { server_name c.example;\ninclude p; include q; location / { proxy_pass http://c:1; } }",
    );
    let imported = nginx(&folder.path().join("nginx.conf")).unwrap();
    assert_eq!(imported.count.silent, 0);
    let lines = imported.remarks.iter().map(|remark| remark.line.as_str());
    let here = format!("{}/", folder.path().display());
    let told = lines.collect::<Vec<_>>().join("\n").replace(&here, "");
    for line in [
        "nginx.conf:4: `include`, of p:1, 2: there is nothing in the output",
        "nginx.conf:4: `include`, of q:1: there is nothing in the output",
        "q:1: `proxy_set_header X-A $x`: weir's config has no variables",
    ] {
        assert_eq!(told.matches(line).count(), 1, "`{line}` in\n{told}");
    }
    assert!(
        told.contains("(as included at nginx.conf:2, 6)") && !told.contains("\np:"),
        "{told}"
    );
}

/// What comes of a text that is too much: why.
#[track_caller]
fn too_much(text: &str) -> &'static str {
    match nginx_text(text.as_bytes(), Path::new("/none/nginx.conf")) {
        Err(ImportError::TooMuch { what, .. }) => what,
        other => panic!("{} bytes", other.unwrap().toml.len()),
    }
}

/// So many lines, each made of its number.
fn lines(number: usize, line: impl Fn(usize) -> String) -> String {
    (0..number).map(line).collect()
}

#[test]
fn names_times_locations_end_before_memory_does() {
    let hosts = lines(1500, |number| format!("h{number}.example "));
    let places = lines(1500, |number| {
        format!("location /l{number} {{ return 301 https://$host$request_uri; }}\n")
    });
    let other = "server { listen 80; return 200 x; }";
    let text = format!("{other} server {{ listen 80; server_name {hosts}; {places} }}");
    assert!(text.len() < 200_000 && too_much(&text).contains("8 MiB"));
    let places = lines(1500, |number| {
        format!("location /l{number} {{ proxy_pass http://a:1; }}\n")
    });
    let text = format!("{other} server {{ listen 80; server_name {hosts}; {places} }}");
    assert!(too_much(&text).contains("8 MiB"));
    // What is inherited, and what closed routes have in their comments.
    let fields = lines(1500, |number| {
        format!("proxy_set_header X-A{number} {number};\n")
    });
    for access in ["", "deny all;"] {
        let text = format!("server {{ listen 80; {access} {fields} {places} }}");
        too_much(&text);
    }
}

/// The output may be small where what is looked at is not.
#[test]
fn what_many_places_inherit_for_nothing_is_too_much() {
    let places = lines(4000, |number| {
        format!("location /l{number} {{ proxy_pass http://a:1; }}\n")
    });
    let needless = "proxy_set_header X-Real-IP $remote_addr;\n".repeat(4000);
    let text = format!("server {{ listen 80; {needless} {places} }}");
    assert!(too_much(&text).contains("multiply"));
    let listens = lines(4000, |number| {
        format!("listen 10.0.{}.{}:80;\n", number / 256, number % 256)
    });
    let hosts = lines(4000, |number| format!("h{number}.example "));
    let text = format!("server {{ {listens} server_name {hosts}; return 200 x; }}");
    assert!(too_much(&text).contains("multiply"));
}

/// Each would be looked through for each of the others.
#[test]
fn large_configs_that_do_not_multiply_are_imported() {
    let hosts = lines(3000, |number| {
        format!(
            "server {{ listen 80; server_name h{number}.example; if ($host = h{number}.example) {{ return 301 https://$host/; }} return 404; }}\n"
        )
    });
    let tried = import(&hosts);
    assert_eq!(tried.toml.matches("redirect = ").count(), 3000);
    let places = lines(3000, |number| {
        format!(
            "location /l{number}/ {{ return 200 x; }} set $v{number} 1; map $a $m{number} {{ }} deny 10.0.0.{number};\n"
        )
    });
    let tried = server(&format!(
        "{places} location / {{ allow all; return 200 $v7; }}"
    ));
    assert_eq!(tried.toml.matches("body = ").count(), 3001);
    let networks = lines(10_000, |number| {
        format!("set_real_ip_from 10.1.{}.{};\n", number / 256, number % 256)
    });
    let servers = lines(2000, |number| {
        format!(
            "server {{ server_name h{number}.example; location / {{ proxy_pass http://a{number}:1; }} }}\n"
        )
    });
    let tried = import(&format!(
        "real_ip_header X-Forwarded-For;\n{networks}{servers}"
    ));
    assert_eq!(tried.toml.matches("/32").count(), 10_000);
}

#[test]
fn directives_and_words_have_bounds() {
    assert!(too_much(&"a;".repeat(400_000)).contains("300,000 directives"));
    let text = format!("a {};", "b ".repeat(1_100_000));
    assert!(too_much(&text).contains("1,000,000 words"));
    let text = format!("server_name {};", "x".repeat(5000));
    let error = nginx_text(text.as_bytes(), Path::new("/none/nginx.conf")).unwrap_err();
    assert!(error.to_string().contains("longer than 4096"), "{error}");
}

#[test]
fn a_server_whose_hosts_are_all_redirected_has_no_rest() {
    import("server { listen 80; return 200 x; }\nserver { listen 80; server_name a.example;\nif ($host = a.example) { return 301 https://b.example/; }\nrewrite ^/c$ /d permanent;\nlocation /e { return 200 e; } }")
        .has(&["host = \"a.example\"", "redirect = { to = \"https://b.example/\", status = 301 }"])
        .lacks("/d")
        .lacks("/e")
        .tells(&[
            "needless: `rewrite ^/c$ /d permanent`: no request comes here",
            "needless: `location /e`: no request comes here",
        ]);
}

#[test]
fn a_listener_without_a_certificate_is_told_of_its_own_lines_only() {
    let tried = import("server { listen 443 ssl; listen 444 ssl; return 200 a; } server { listen 443 ssl; ssl_certificate a; ssl_certificate_key b; server_name b.example; return 200 b; }")
        .has(&["[listen.https.tls]"])
        .tells(&["`listen 444 ssl`: no certificate"]);
    assert!(!tried.told.contains("`listen 443 ssl`"), "{}", tried.told);
}

/// What nginx sends with its own 403, 404 and 501, and what it does not.
#[test]
fn closed_routes_have_the_fields_that_are_for_any_status() {
    let fields = "add_header X-Any 1 always; add_header X-Usual 2; expires 1d;";
    for closed in [
        "deny all;",
        "allow 10.0.0.0/8; deny all; proxy_pass http://a:1;",
        "auth_basic x; proxy_pass http://a:1;",
        "internal;",
        "return 403;",
        "return 444;",
        "grpc_pass grpc://a:1;",
        "proxy_pass http://$host;",
        "root /x;",
    ] {
        let tried = server(&format!("{fields} location = /x {{ {closed} }} location / {{ add_header X-Own 1; expires off; return 200 x; }}"))
            .has(&["[route.site-x.response_headers.add]", "x-any = \"1\""]);
        let usual = tried
            .toml
            .lines()
            .filter(|line| line.starts_with("x-usual") || line.starts_with("cache-control"));
        assert_eq!(usual.count(), 0, "{closed}\n{}", tried.toml);
        assert_eq!(
            tried.toml.matches("\nx-any = ").count(),
            1,
            "{closed}\n{}",
            tried.toml
        );
    }
    server(&format!("{fields} return 404;"))
        .lacks("x-usual")
        .tells(&[
            "needless: `add_header X-Usual 2`: nginx adds it to no answer with the status",
            "needless: `expires 1d`: nginx adds it to no answer with the status",
        ]);
    // Where nginx would give another answer they are lost with it.
    server(&format!(
        "{fields} location / {{ grpc_pass grpc://a:1; }} location = /x {{ return 403; }}"
    ))
    .tells(&[
        ": `add_header X-Usual 2`: the responses that it is for are not given here",
        ": `expires 1d`: the responses that it is for are not given here",
    ]);
    // As comments of closed routes have all of them, they take the place of those.
    server("add_header X-Any 1 always; add_header X-Usual 2; location = /x { auth_basic x; proxy_pass http://a:1; }")
        .has(&["# to put in place of `respond` and `response_headers` when something else keeps clients out:", "#   x-any = \"1\"", "#   x-usual = \"2\""]);
}

/// What stands in the comment of a closed route can be put in its place.
#[test]
fn what_is_put_back_is_a_config() {
    let text = "server { listen 80; add_header X-Any 1 always; add_header X-Usual 2; location = /x { auth_basic x; proxy_pass http://a:1; } location / { proxy_pass http://a:1; } }";
    let toml = import(text).toml;
    let comment = |line: &str| line.strip_prefix("#   ").map(str::to_owned);
    let behind: Vec<_> = toml.lines().filter_map(comment).collect();
    let mut lines = Vec::new();
    let mut is_closed = false;
    for line in toml.lines() {
        is_closed = match line.starts_with('[') {
            true => line.starts_with("[route.site-x"),
            false => is_closed,
        };
        if line == "respond = { status = 403 }" {
            lines.extend(behind.iter().map(String::as_str));
        } else if !(is_closed && (line.contains("response_headers") || line.starts_with("x-any"))) {
            lines.push(line);
        }
    }
    let report = config::parse(&lines.join("\n"), Path::new("/none/weir.toml")).map(|_| ());
    assert!(report.is_ok(), "{:?} in\n{}", report, lines.join("\n"));
}

#[test]
fn what_is_to_be_put_back_is_what_the_comment_says() {
    let text = r"
proxy_cache_path /c keys_zone=c:1m;
upstream app {
  server a:1;
}
server {
  listen 80;
  location / {
    auth_basic x;
    try_files $uri @app;
  }
  location @app {
    proxy_pass https://app;
    proxy_ssl_verify on;
    proxy_set_header Host $host;
    proxy_read_timeout 70;
    proxy_send_timeout 70;
    proxy_next_upstream off;
    proxy_next_upstream_tries 3;
    gzip off;
    expires off;
    proxy_cache off;
  }
  location /x/ {
    auth_basic x;
    rewrite ^/x/(.*)$ /x/$1 break;
    proxy_pass http://app;
    proxy_cache c;
    proxy_cache_key $scheme$host$request_uri;
    proxy_cache_lock on;
    proxy_cache_use_stale updating;
    proxy_cache_background_update on;
    proxy_next_upstream_tries 0;
    proxy_ignore_headers X-Accel-Expires;
    proxy_connect_timeout 3s;
  }
}
";
    let path = Path::new("/x/nginx.conf");
    let whole = nginx_text(text.as_bytes(), path).unwrap();
    assert_eq!(whole.count.silent, 0);
    let put_off = whole.remarks.iter().filter_map(|remark| {
        let (_, lines) = remark.line.split_once("to be put back: /x/nginx.conf:")?;
        Some(lines.split(", ").map(|line| line.parse::<usize>().unwrap()))
    });
    let put_off: Vec<_> = put_off.flatten().collect();
    let said = |part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    assert!(put_off.contains(&said("connect_timeout")), "{put_off:?}");
    let lines: Vec<_> = text.lines().collect();
    for number in put_off {
        let mut rest = lines.clone();
        rest[number - 1] = "";
        if let Ok(rest) = nginx_text(rest.join("\n").as_bytes(), path) {
            assert_ne!(
                whole.toml,
                rest.toml,
                "line {number}: {}",
                lines[number - 1]
            );
        }
    }
    for nothing in [
        "proxy_ssl_verify on",
        "$host;",
        "proxy_send_timeout",
        "_tries 3",
        "gzip off",
        "expires off",
        "proxy_cache off",
        "location @app {",
        "proxy_cache_key",
        "proxy_cache_lock",
        "background_update",
        "_tries 0",
        "X-Accel",
    ] {
        let told = format!("nginx.conf:{}: ", said(nothing));
        let listed = whole.remarks.iter().any(|remark| {
            let lines = remark.line.split_once("to be put back: /x/nginx.conf:");
            let number = said(nothing).to_string();
            lines.is_some_and(|(_, lines)| lines.split(", ").any(|line| line == number))
                || remark.line.contains(&told) && remark.line.contains("is closed")
        });
        assert!(!listed, "{nothing}");
    }
}

#[test]
fn rules_of_access_that_keep_nobody_or_everybody_out_are_translated() {
    server("location = /robots.txt { allow all; return 200 x; }")
        .tells(&["needless: `allow all`: without a `deny` beside it"]);
    let tried = server("location = /xmlrpc.php { deny all; } location / { return 200 x; }")
        .has(&["path_exact = \"/xmlrpc.php\"", "respond = { status = 403 }"])
        .tells(&["note: `deny all`: the answer has no body"]);
    assert!(!tried.told.contains("access: "), "{}", tried.told);
    server("location /x { allow 10.0.0.1; deny all; } location / { return 200 x; }")
        .tells(&["access: `allow 10.0.0.1`", "access: `deny all`"]);
}

#[test]
fn a_route_tells_that_its_rewrite_is_missing() {
    server("root /x; location /old { rewrite ^/old/(.*)$ /new/$1 permanent; }")
        .has(&["# /none/nginx/nginx.conf:1: rewrite ^/old/(.*)$ /new/$1 permanent: it could not be translated"])
        .tells(&["not what a regular expression takes out of them"]);
}
