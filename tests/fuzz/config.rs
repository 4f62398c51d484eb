//! What holds for any config: it is taken or refused with problems at places that exist, and nothing that came from the
//! environment is told.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir::config::{Config, LoadError, Outside, Report, load_with, parse_with};

use super::property::hash;

/// Ends the main file; the rest is a file that it may include.
const NEXT_FILE: &[u8] = b"\n#### next file\n";
/// What variables hold whose names begin with `S`.
const SECRET: &str = "zq9secret";

/// Configs with all keys and with each kind of mistake.
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    let files = files.into_iter().map(|path| std::fs::read(path).unwrap());
    let own = WHOLE.map(|seed| seed.as_bytes().to_vec());
    own.into_iter().chain(files).collect()
}

/// The result tells inputs with different problems apart. `cuts` make no difference to files.
pub fn check(input: &[u8], _: &[usize]) -> u64 {
    let cut = input
        .windows(NEXT_FILE.len())
        .position(|window| window == NEXT_FILE);
    let (main, other) = match cut {
        Some(at) => (&input[..at], Some(&input[at + NEXT_FILE.len()..])),
        None => (input, None),
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzzed-config");
    let file = folder.join("weir.toml");
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    std::fs::write(folder.join("conf.d/more.toml"), other.unwrap_or_default()).unwrap();
    std::fs::write(&file, main).unwrap();
    let variable = |name: &str| {
        let value = match name.as_bytes().first() {
            Some(b'S') => SECRET.to_owned(),
            Some(b'X') => return None,
            _ => "10".to_owned(),
        };
        Some(OsString::from(value))
    };
    let outside = Outside {
        variable: &variable,
        now: SystemTime::UNIX_EPOCH,
    };
    match load_with(&file, &outside) {
        Ok(config) => hash(&taken(&config, &outside)),
        Err(LoadError::Invalid(report)) => hash(&told(&report)),
        Err(error) => panic!("{error}"),
    }
}

/// What is shown of a config that was taken means the same, unless a part of it is masked.
fn taken(config: &Config, outside: &Outside<'_>) -> (bool, BTreeSet<(&'static str, u32)>) {
    let shown = config.show();
    assert!(!shown.contains(SECRET), "{shown}");
    toml::from_str::<toml::Table>(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    if config.masked.is_empty() {
        let again = parse_with(&shown, &config.file, outside);
        let again = again.unwrap_or_else(|report| panic!("{report}\n{shown}"));
        assert_eq!(again.show().replace("***", ""), shown.replace("***", ""));
    }
    (true, told(&config.warnings).1)
}

/// The kinds of problems, and how many there are of each, roughly.
fn told(report: &Report) -> (bool, BTreeSet<(&'static str, u32)>) {
    for text in [
        report.render(false),
        report.render(true),
        report.to_string(),
        report.to_json().to_string(),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
    let mut kinds = BTreeSet::new();
    for problem in &report.problems {
        assert!(problem.line > 0 && problem.column > 0 && problem.span.start <= problem.span.end);
        let same = |other: &&weir::config::Problem| other.id == problem.id;
        let count = report.problems.iter().filter(same).count();
        kinds.insert((problem.id, count.ilog2()));
    }
    (false, kinds)
}

const WHOLE: [&str; 3] = [
    r#"include = ["conf.d/*.toml", "${INCLUDED:-conf.d/more.toml}"]
[process]
drain = "${DRAIN}s"
[admin]
token = "${SECRET_TOKEN}"
address = "127.0.0.1:0"
[defaults.upstream]
health_check = { path = "/${SECRET}", interval = "9s" }
sticky = true
[defaults.route]
cache = { max_variants = 3 }
timeout = "5s"
[listen.web]
address = ["127.0.0.1:80", "[::1]:80", ":81"]
[route.site]
host = ["${SECRET}.example.com", "*.example.com"]
path = ["/a", "/${X:-b}"]
methods = ["GET"]
headers = { x-a = "1" }
query = { q = "*" }
upstream = { app = 95, other = 5 }
request_headers.set = { X-Key = "$${no} ${SECRET}" }
compress = true
[upstream.app]
servers = ["${NUMBER}.0.0.1:80", { address = "${SECRET}.internal:80", weight = 2, backup = true }]
balance = "hash"
hash_key = "header:x-${SECRET}"
#### next file
[upstream.other]
servers = ["127.0.0.1:3000"]
health_check = "off"
tls = true
[route.more]
path_exact = "/more"
redirect = { to = "https://${SECRET}/{path}", status = 301 }
[log]
level = "warn"
"#,
    r#"[listen.web]
address = ":8080"
trusted_proxies = ["10.0.0.0/8"]
redirect_to_https = { port = 8443 }
header_timeout = "1s"
max_connection_age = "1h 30m"
max_header_size = "4KiB"
max_target_size = "2KB"
tls = { certificates = [{ cert = "a.pem", key = "a.key" }], min_version = "1.3" }
[route.a]
respond = { status = 410, body = """
gone""", content_type = "text/html" }
strip_prefix = "/a"
response_headers = { set = {}, add = { x-tag = 'a' }, remove = ["server"] }
max_body = "off"
buffer_request = "64KiB"
cache = { key_query = ["q"], vary_ignore = ["cookie"] }
compress = { codings = ["gzip", "br"], level = { br = 0 }, types = ["text/*"] }
"#,
    r#"listen.w.address = ":1"
route.r.upstream = "u"
[upstream.u]
servers = ["unix:/run/é${NUMBER}é.sock", "srv+_http._tcp.a.internal", "a.internal:80"]
keepalive = { max_idle = 0, idle = "1s", max_age = "1m" }
sticky = { cookie = "at", ttl = "1d", secure = true, same_site = "strict" }
ejection = { failures = 7, base = "1s", max = "2s", max_share = "12.5%" }
retry = { max_retries = 2, budget = "5%", on = ["timeout", "504"], methods = ["GET"] }
queue = { size = 5, timeout = "1s" }
health_check = { type = "grpc", path = "/my.Service", port = "off", status = "200, 300-302" }
host_header = "app.example.com"
panic_below = "30%"
tls = { ca = "system", server_name = "a.com" }
"#,
];

/// What stands in configs, and what breaks them.
pub const WORDS: &[&[u8]] = &[
    b"\n",
    b"\"",
    b"'",
    b"\"\"\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b"=",
    b" = ",
    b",",
    b".",
    b"#",
    b"\\",
    b"\\u0024",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\r\n",
    b"`",
    b"${",
    b"}",
    b"$${",
    b"${SECRET}",
    b"${SECRET:-x}",
    b"${NUMBER}",
    b"${X}",
    b"${X:-5s}",
    b"off",
    b"true",
    b"false",
    b"auto",
    b"5s",
    b"5",
    b"-1",
    b"0x10",
    b"1e9",
    b"64KiB",
    b"25%",
    b"99999999999999999999",
    b"1979-05-27",
    b"*",
    b"/",
    b"..",
    b":80",
    b"127.0.0.1:80",
    b"[::1]:80",
    b"a.internal:80",
    b"unix:/a",
    b"srv+",
    b"file:",
    b"include = [\"conf.d/*.toml\"]\n",
    b"\n#### next file\n",
    b"\n[listen.a]\naddress = \":1\"\n",
    b"\n[route.a]\n",
    b"\n[route.a]\nupstream = \"app\"\n",
    b"\n[upstream.app]\n",
    b"\n[defaults.listen]\n",
    b"\n[defaults.route]\n",
    b"\n[defaults.upstream]\n",
    b"health_check = \"/\"\n",
    b"cache = true\n",
    b"timeout = \"5s\"\n",
    b"priority = 1\n",
    b"proxy_pass",
    b"fall",
];
