//! What holds for whatever is imported as an nginx config.

use std::path::Path;

use weir::config;
use weir::internals::import_nginx;

use super::mutation::{self, Random};
use super::property::hash;

/// The configs that are imported in full elsewhere, by lines, and what those do not have.
pub fn seeds() -> Vec<Vec<u8>> {
    let whole = [
        include_str!("../import/node/nginx.conf"),
        include_str!("../import/split/nginx.conf"),
        include_str!("../import/tls/nginx.conf"),
        "server { listen 80; server_name .b.example *.c a; location =/x { return 200 'a\\'b'; } location @n { internal; } }",
        "server { listen 443 ssl; ssl_certificate a; ssl_certificate_key b; if ($scheme = http) { return 301 https://$host$uri; } }",
        "server { location /a/ { location /a/b { proxy_pass https://u/x/; } proxy_pass http://unix:/s:/y; } }\nupstream u { hash $http_a; server a:1 down; server [::1] weight=0 max_conns=9 backup; }",
        "server { access_by_lua_block { if '}' then --[[ } ]] x = [[ } ]] end } set $a b; set $c \"$a${a}\"; return 302 $c$request_uri; }",
        "server { return 303 https://a.example$$request_uri; }",
        "upstream u { server a weight=2 weight=3 max_fails=1 max_fails=2; } server { location / { proxy_pass http://u; } }",
        "server { location / { proxy_pass http://unix; } }",
        "geo $x { default 1; } map $a $b { ~x 1; } stream { server { listen 1; } } include none/*.conf; types { a/b c d; }",
        "proxy_cache_path /p keys_zone=z:1m inactive=1s; server { location / { proxy_pass http://a; proxy_cache z; proxy_cache_valid any 1ms; proxy_cache_key $uri$arg_x; expires max; add_header A \"b c\" always; gzip on; gzip_types *; gzip_min_length 1m; } }",
    ];
    whole.map(|seed| seed.as_bytes().to_vec()).into()
}

/// One change: mostly a directive more, or another value in the place of one, so that most inputs stay configs.
pub fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    match random.below(8) {
        0..=3 => {
            let ends: Vec<_> = places(input, |byte| b"{};".contains(&byte));
            let place = match random.below(ends.len() + 1) {
                0 => 0,
                number => ends[number - 1] + 1,
            };
            let line = line(random);
            input.splice(place..place, line.into_bytes());
        }
        4 | 5 => {
            let blanks = places(input, |byte| byte == b' ');
            if blanks.is_empty() {
                return;
            }
            let place = random.choose(&blanks) + 1;
            let rest = &input[place..];
            let length = rest.iter().position(|byte| b" ;{\n".contains(byte));
            let end = place + length.unwrap_or(rest.len());
            let value = *random.choose(VALUES);
            input.splice(place..end, value.bytes());
        }
        6 => {
            let ends = places(input, |byte| byte == b';');
            if ends.len() < 2 {
                return;
            }
            let number = random.below(ends.len() - 1);
            input.drain(ends[number]..ends[number + 1]);
        }
        _ => mutation::mutate(input, corpus, words, random),
    }
}

fn places(input: &[u8], is: impl Fn(u8) -> bool) -> Vec<usize> {
    let places = input.iter().enumerate().filter(|(_, byte)| is(**byte));
    places.map(|(place, _)| place).collect()
}

/// A directive, with values in the places of `@`.
fn line(random: &mut Random) -> String {
    let mut line = String::new();
    for (number, part) in random.choose::<&str>(LINES).split('@').enumerate() {
        if number > 0 {
            line.push_str(random.choose::<&str>(VALUES));
        }
        line.push_str(part);
    }
    line
}

const LINES: &[&str] = &[
    "server { listen @; server_name @; @ @; }",
    "server { listen @ ssl; server_name @ @; ssl_certificate @; ssl_certificate_key @; return @ @; }",
    "server { listen 80; listen [::]:80; server_name @; location @ { proxy_pass @; } }",
    "upstream @ { server @; server @ weight=@; }",
    "upstream u { server @ max_fails=@ fail_timeout=@ max_conns=@; server @ backup; server @ down; }",
    "server @;",
    "server @ weight=@ backup;",
    "location @ { proxy_pass @; }",
    "location @ { return @ @; }",
    "location = @ { proxy_pass http://u@; }",
    "location = @ { return @; }",
    "location ^~ @ { @ @; proxy_pass http://@; }",
    "location ~ @ { deny all; }",
    "location @ { try_files $uri @@; } location @@ { proxy_pass @; }",
    "if ($host = @) { return @ @; }",
    "if ($scheme = @) { return @ @; }",
    "if (@) { @ @; }",
    "listen @;",
    "listen @ default_server @;",
    "server_name @ @;",
    "proxy_pass @;",
    "proxy_pass http://@;",
    "proxy_pass https://@/;",
    "return @;",
    "return @ @;",
    "return 301 https://$host@$request_uri;",
    "return 301 @$request_uri;",
    "rewrite ^ @ permanent;",
    "rewrite ^@$ @ redirect;",
    "rewrite ^@/(.*)$ @/$1 break;",
    "set $x @;",
    "set $@ @;",
    "proxy_set_header @ @;",
    "proxy_set_header Host @;",
    "proxy_hide_header @;",
    "add_header @ @;",
    "add_header @ @ always;",
    "expires @;",
    "default_type @;",
    "charset @;",
    "types { @ @; }",
    "client_max_body_size @;",
    "client_header_timeout @;",
    "client_body_timeout @;",
    "send_timeout @;",
    "keepalive_timeout @ @;",
    "large_client_header_buffers @ @;",
    "set_real_ip_from @;",
    "real_ip_header @;",
    "ssl_protocols @ @;",
    "ssl on;",
    "http2 @;",
    "ssl_reject_handshake on;",
    "ssl_verify_client @;",
    "least_conn;",
    "ip_hash;",
    "random;",
    "hash @ consistent;",
    "keepalive @;",
    "keepalive_timeout @;",
    "keepalive_time @;",
    "proxy_connect_timeout @;",
    "proxy_read_timeout @;",
    "proxy_send_timeout @;",
    "proxy_next_upstream @ @;",
    "proxy_next_upstream_tries @;",
    "proxy_ssl_name @;",
    "proxy_ssl_verify @;",
    "proxy_ssl_certificate @; proxy_ssl_certificate_key @;",
    "proxy_ssl_trusted_certificate @;",
    "gzip @;",
    "gzip_types @ @;",
    "gzip_min_length @;",
    "gzip_comp_level @;",
    "brotli on; brotli_types @; brotli_comp_level @;",
    "zstd on; zstd_min_length @;",
    "proxy_cache_path @ keys_zone=z:@ inactive=@;",
    "proxy_cache z;",
    "proxy_cache @;",
    "proxy_cache_valid @ @;",
    "proxy_cache_key @;",
    "proxy_cache_use_stale @ updating;",
    "proxy_cache_bypass @;",
    "proxy_cache_lock @;",
    "proxy_ignore_headers @;",
    "proxy_buffering @;",
    "deny @;",
    "auth_basic @;",
    "internal;",
    "worker_processes @;",
    "worker_shutdown_timeout @;",
    "access_log @ @;",
    "resolver @;",
    "include @;",
    "@ @;",
    "@;",
];

const VALUES: &[&str] = &[
    "0",
    "1",
    "2",
    "6",
    "200",
    "204",
    "301",
    "302",
    "304",
    "307",
    "308",
    "400",
    "444",
    "499",
    "503",
    "599",
    "600",
    "1024",
    "9900",
    "100000",
    "1000001",
    "65535",
    "65536",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999",
    "-1",
    "+1",
    "01",
    "1ms",
    "5s",
    "0s",
    "1h30m",
    "9y",
    "10y",
    "11y",
    "1M",
    "1k",
    "64k",
    "1m",
    "9g",
    "9999999999g",
    "on",
    "off",
    "max",
    "epoch",
    "all",
    "any",
    "always",
    "default",
    "$host",
    "$http_host",
    "$uri",
    "$request_uri",
    "$scheme",
    "$server_name",
    "$server_port",
    "$is_args$args",
    "$x",
    "${x}",
    "$",
    "$$",
    "${",
    "{path}",
    "$http_x_y",
    "$http_",
    "$cookie_a",
    "$cookie_",
    "$arg_a",
    "$arg_",
    "$remote_addr",
    "$proxy_host",
    "$request_id",
    "$1",
    "a",
    "A",
    "u",
    "z",
    "x-a",
    "Set-Cookie",
    "Content-Type",
    "Content-Length",
    "Connection",
    "Vary",
    "Via",
    "X-Request-Id",
    "Cache-Control",
    "Expires",
    "Location",
    "Alt-Svc",
    "a.example",
    "A.Example.",
    "b.example",
    ".b.example",
    "*.b.example",
    "*.a.b.example",
    "www.*",
    "_",
    "~^x$",
    "localhost",
    "127.0.0.1",
    "10.0.0.7:8080",
    "[::1]",
    "[::1]:80",
    "[::]:80",
    "*:80",
    "127.0.0.1:80",
    "127.0.0.1:9900",
    "443",
    "80",
    "unix:/s",
    "unix:/s:",
    "unix:s",
    "a:0",
    "a:1",
    "a.b:80",
    "é",
    "a_b",
    "-a",
    "a..b",
    "1.2.3",
    "1.2.3.4.5",
    "10.0.0.0/8",
    "10.1.2.3/8",
    "::/0",
    "fe80::1%x",
    "http://a",
    "http://u",
    "http://u/",
    "http://u/x",
    "http://u/x/",
    "https://u",
    "https://10.0.0.1",
    "http://unix:/s:/x/",
    "http://a/?b",
    "http://a/../b",
    "ftp://a",
    "http://",
    "https://a.example/x",
    "//a",
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/",
    "/A",
    "/a.html",
    "/a//b",
    "/a/../b",
    "/a b",
    "'/a b'",
    "/a%20b",
    "/%41",
    "/é",
    "/~a",
    "/a?b",
    "/a#b",
    "/a;b",
    "'a b'",
    "\"\"",
    "'a\\nb'",
    "'a\"b'",
    "a\\b",
    "text/html",
    "text/*",
    "*",
    "*/*",
    "Text/Plain",
    "text/html;charset=x",
    "error",
    "timeout",
    "non_idempotent",
    "http_502",
    "http_404",
    "least_conn",
    "updating",
    "GET",
    "TLSv1.2",
    "TLSv1.3",
    "syslog:server=a",
    "/dev/stdout",
    "br",
    "gzip",
    "ssl",
    "http2",
    "reuseport",
    "ipv6only=off",
    "ipv6only=on",
    "break",
    "last",
    "permanent",
    "X-Forwarded-For",
    "Forwarded",
    "public, max-age=1",
    "no-cache",
];

/// The result tells inputs with different outcomes apart. `cuts` make no difference to a file.
pub fn check(input: &[u8], _: &[usize]) -> u64 {
    let path = Path::new("/none/nginx.conf");
    let imported = match import_nginx(input, path) {
        Ok(imported) => imported,
        // The message without what it quotes.
        Err(error) => return hash(&error.split(['`', '\'']).next().unwrap_or_default().len()),
    };
    assert_eq!(imported.silent, 0, "a directive is dropped without a word");
    for remark in &imported.remarks {
        assert!(
            !remark.contains(char::is_control),
            "a remark of two lines: {remark:?}"
        );
    }
    if let Err(report) = config::parse(&imported.toml, &path.with_file_name("weir.toml")) {
        // Those of the input are not there, nor are the folders of its logs.
        let bad = report
            .problems
            .iter()
            .find(|problem| !["certificate", "log-file"].contains(&problem.id));
        assert!(bad.is_none(), "{bad:?} in\n{}", imported.toml);
    }
    let tables = imported.toml.lines().filter(|line| line.starts_with('['));
    let keys = imported
        .toml
        .lines()
        .filter_map(|line| line.split_once(" = "));
    let mut keys: Vec<_> = keys.map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    hash(&(tables.count().min(8), keys))
}
