//! `weir explain` and the running weir say the same of a request: each one of a table is explained, and sent.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::support::origin::{Request, fields};
use super::support::{Connection, Origin, Response, Weir};

/// A request, and what its server answers.
#[derive(Clone, Copy)]
struct Case {
    listen: &'static str,
    method: &'static str,
    host: &'static str,
    target: &'static str,
    /// Each with its CRLF.
    lines: &'static str,
    body: &'static str,
    status: u16,
    /// Each with its CRLF.
    response: &'static str,
    /// Of the content.
    length: usize,
}

const GET: Case = Case {
    listen: "web",
    method: "GET",
    host: "www.example",
    target: "/",
    lines: "",
    body: "",
    status: 200,
    response: "Content-Type: text/html\r\n",
    length: 2000,
};

const fn get(target: &'static str) -> Case {
    Case { target, ..GET }
}

const fn with(target: &'static str, lines: &'static str) -> Case {
    Case {
        lines,
        ..get(target)
    }
}

const fn of(host: &'static str, target: &'static str) -> Case {
    Case {
        host,
        ..get(target)
    }
}

const fn by(method: &'static str, target: &'static str, lines: &'static str) -> Case {
    Case {
        method,
        ..with(target, lines)
    }
}

const fn on(listen: &'static str, target: &'static str, lines: &'static str) -> Case {
    Case {
        listen,
        ..with(target, lines)
    }
}

const fn answered(target: &'static str, response: &'static str) -> Case {
    Case {
        response,
        ..get(target)
    }
}

macro_rules! hundred {
    () => {
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
    };
}

const LONG: &str = concat!("/long?", hundred!());
const LARGE: &str = concat!(
    "X-Large: ",
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    hundred!(),
    "\r\n"
);
const BR: &str = "Accept-Encoding: gzip, br\r\n";
const GZIP: &str = "Accept-Encoding: gzip\r\n";

const CASES: &[Case] = &[
    // Hosts, paths and their normal form.
    get("/"),
    get("/a/../b/./%63%2f?q=%41"),
    get("//api/x"),
    of("shop.example", "/"),
    of("SHOP.example.:80", "/"),
    of("eu.shop.example", "/x"),
    of("deep.eu.shop.example", "/x"),
    of("[::1]:8080", "/"),
    get("/api"),
    get("/api/x?y=1"),
    get("/apix"),
    get("/api/v2/x"),
    get("/api/exact"),
    get("/api/exact/"),
    // Conditions and priority.
    by("POST", "/api", "Content-Length: 0\r\n"),
    with("/api/x", "X-Canary: 1\r\n"),
    with("/api/x", "X-Canary: 2\r\n"),
    get("/api/x?beta=1"),
    with("/api/x?beta=1", "X-Canary: 1\r\n"),
    by("POST", "/api?beta=1", "Content-Length: 0\r\n"),
    by(
        "PUT",
        "/api/x?beta=1",
        "X-Canary: 1\r\nContent-Length: 0\r\n",
    ),
    // What servers see.
    with(
        "/",
        "Connection: x-secret, close\r\nX-Secret: 1\r\nX-Debug: 1\r\nTE: trailers\r\n",
    ),
    with("/api/x", "X-Debug: 1\r\nX-Env: test\r\n"),
    with(
        "/",
        "X-Forwarded-For: 1.2.3.4\r\nX_Real_IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nVia: 1.1 other\r\n",
    ),
    with("/", "X-Request-Id: mine\r\n"),
    get("/named/x"),
    get("/split"),
    on(
        "trusting",
        "/",
        "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n",
    ),
    on("trusting", "/", "X-Request-Id: mine\r\n"),
    Case {
        body: "hello",
        ..by("POST", "/", "Content-Length: 5\r\n")
    },
    Case {
        body: "5\r\nhello\r\n0\r\n\r\n",
        ..by("PUT", "/", "Transfer-Encoding: chunked\r\n")
    },
    by("DELETE", "/x", ""),
    by("HEAD", "/x", ""),
    by("OPTIONS", "/x", ""),
    // By the hash of the path, and by cookie.
    get("/hashed/a"),
    get("/hashed/b"),
    get("/hashed/c"),
    get("/hashed/d"),
    // Answers of weir itself.
    get("/old/x?y=1"),
    get("/rel/x"),
    get("//old"),
    get("/gone"),
    by("HEAD", "/gone", ""),
    on("moved", "/x?y=1", ""),
    on("moved", "/.well-known/acme-challenge/x", ""),
    on("bare", "/", ""),
    get(LONG),
    with("/", LARGE),
    with(
        "/",
        "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\nH: 1\r\nI: 1\r\n",
    ),
    with("/", "Host: a\r\nHost: b\r\n"),
    of("a b", "/"),
    of("user@a", "/"),
    get("/%00"),
    get("/%zz"),
    with("/", "Transfer-Encoding: gzip, chunked\r\n"),
    with("/", "Content-Length: x\r\n"),
    Case {
        body: "hello, world",
        ..by("POST", "/small", "Content-Length: 12\r\n")
    },
    // The cache.
    answered(
        "/cached/1",
        "Cache-Control: max-age=60\r\nContent-Type: image/png\r\n",
    ),
    answered("/cached/2", "Cache-Control: no-store\r\n"),
    answered("/cached/3", "Cache-Control: private, max-age=60\r\n"),
    answered(
        "/cached/4",
        "Cache-Control: max-age=60\r\nVary: accept-language, Accept\r\n",
    ),
    answered("/cached/5", "Cache-Control: max-age=60\r\nVary: *\r\n"),
    answered(
        "/cached/6",
        "Cache-Control: max-age=60\r\nSet-Cookie: a=1\r\n",
    ),
    answered("/cached/7", "Content-Type: text/plain\r\n"),
    Case {
        lines: "Cookie: a=1\r\n",
        ..answered("/cached/8", "Content-Type: text/plain\r\n")
    },
    Case {
        lines: "Authorization: Basic eA==\r\n",
        ..answered("/cached/9", "Cache-Control: max-age=60\r\n")
    },
    answered("/cached/10", "Cache-Control: no-cache\r\nETag: \"1\"\r\n"),
    answered("/cached/11", "Cache-Control: no-cache\r\n"),
    Case {
        length: 5000,
        ..answered("/cached/12", "Cache-Control: max-age=60\r\n")
    },
    Case {
        status: 404,
        ..answered("/cached/13", "Cache-Control: max-age=60\r\n")
    },
    Case {
        status: 500,
        ..answered("/cached/14", "")
    },
    answered(
        "/cached/15",
        "Cache-Control: max-age=60\r\nContent-Type: text/event-stream\r\n",
    ),
    Case {
        lines: "If-None-Match: \"0\"\r\n",
        ..answered("/cached/17", "Cache-Control: max-age=60\r\nETag: \"1\"\r\n")
    },
    Case {
        lines: "Range: bytes=0-9\r\n",
        ..answered("/cached/18", "Cache-Control: max-age=60\r\n")
    },
    Case {
        lines: "Cache-Control: no-store\r\n",
        ..answered("/cached/19", "Cache-Control: max-age=60\r\n")
    },
    Case {
        lines: "Cache-Control: no-cache\r\n",
        ..answered("/cached/20", "Cache-Control: max-age=60\r\n")
    },
    Case {
        lines: "Cache-Control: only-if-cached\r\n",
        ..answered("/cached/21", "")
    },
    Case {
        lines: "Cache-Control: only-if-cached, no-store\r\n",
        ..answered("/cached/26", "")
    },
    Case {
        lines: "If-Match: \"1\"\r\n",
        ..answered("/cached/22", "Cache-Control: max-age=60\r\n")
    },
    Case {
        host: "WWW.example",
        ..answered("/cached/23", "Cache-Control: max-age=60\r\n")
    },
    Case {
        method: "HEAD",
        ..answered("/cached/24", "Cache-Control: max-age=60\r\n")
    },
    Case {
        method: "DELETE",
        ..answered("/cached/25", "Cache-Control: max-age=60\r\n")
    },
    answered("/quiet/1", "Cache-Control: max-age=60\r\n"),
    // Compression.
    with("/cached/packed", BR),
    with("/packed", BR),
    with("/packed", GZIP),
    with("/packed", "Accept-Encoding: identity\r\n"),
    with("/packed", "Accept-Encoding: br;q=0.5, gzip\r\n"),
    with(
        "/packed",
        "Accept-Encoding: br\r\nCache-Control: no-transform\r\n",
    ),
    Case {
        lines: BR,
        length: 100,
        ..get("/packed")
    },
    Case {
        lines: BR,
        ..answered("/packed", "Content-Type: image/png\r\n")
    },
    Case {
        lines: BR,
        ..answered(
            "/packed",
            "Content-Type: text/html\r\nCache-Control: no-transform\r\n",
        )
    },
    Case {
        lines: BR,
        ..answered(
            "/packed",
            "Content-Type: text/html\r\nContent-Encoding: gzip\r\n",
        )
    },
    Case {
        lines: BR,
        method: "HEAD",
        ..get("/packed")
    },
    Case {
        lines: BR,
        status: 206,
        ..answered(
            "/packed",
            "Content-Type: text/html\r\nContent-Range: bytes 0-1999/4000\r\n",
        )
    },
    // Last, since it is renewed in the background.
    answered(
        "/cached/16",
        "Cache-Control: max-age=10, stale-while-revalidate=60\r\nAge: 20\r\n",
    ),
];

fn config(origins: &[&Origin]) -> String {
    let address = |number: usize| format!("\"{}\"", origins[number].address());
    let mut text = String::from(
        "[admin]\naddress = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n[cache]\nmax_object_size = \"4KiB\"\n",
    );
    for (name, keys) in [
        (
            "web",
            "max_target_size = \"100B\"\nmax_header_size = \"1KiB\"\nmax_headers = 10\n",
        ),
        ("trusting", "trusted_proxies = [\"127.0.0.0/8\"]\n"),
        ("moved", "redirect_to_https = { port = 8443 }\n"),
        ("bare", ""),
    ] {
        let _ = write!(text, "[listen.{name}]\naddress = \"127.0.0.1:0\"\n{keys}");
    }
    let rest = "listen = [\"web\", \"trusting\", \"moved\"]\n";
    for (name, keys) in [
        ("root", ""),
        ("shop", "host = \"shop.example\"\n"),
        ("shops", "host = \"*.shop.example\"\n"),
        ("eu", "host = \"*.eu.shop.example\"\n"),
        ("ip", "host = \"[::1]\"\n"),
        (
            "api",
            "path = \"/api\"\nstrip_prefix = \"/api\"\nadd_prefix = \"/v9\"\nrequest_headers = { set = { X-Env = \"live\" }, add = { X-Tag = \"a\" }, remove = [\"X-Debug\"] }\n",
        ),
        ("v2", "path = [\"/api/v2\", \"/v2\"]\n"),
        ("exact", "path_exact = \"/api/exact\"\n"),
        ("posts", "path = \"/api\"\nmethods = [\"POST\"]\n"),
        (
            "canary",
            "path = \"/api\"\nheaders = { X-Canary = \"1\" }\nmethods = [\"GET\"]\npriority = 1\n",
        ),
        (
            "beta",
            "path = \"/api\"\nquery = { beta = \"1\" }\npriority = -1\n",
        ),
        ("small", "path = \"/small\"\nmax_body = \"10B\"\n"),
        (
            "cached",
            "path = \"/cached\"\ncompress = true\ncache = { default_ttl = \"30s\", stale_if_error = \"off\" }\n",
        ),
        (
            "quiet",
            "path = \"/quiet\"\ncache = { cache_status = false }\n",
        ),
        ("packed", "path = \"/packed\"\ncompress = true\n"),
        ("hashed", "path = \"/hashed\"\nupstream = \"hashed\"\n"),
        ("named", "path = \"/named\"\nupstream = \"named\"\n"),
        (
            "split",
            "path = \"/split\"\nupstream = { app = 1, named = 1 }\n",
        ),
        (
            "old",
            "path = \"/old\"\nredirect = { to = \"https://new.example{path}\", status = 301 }\n",
        ),
        (
            "rel",
            "path = [\"/rel\", \"//old\"]\nredirect = { to = \"{path}?z\" }\n",
        ),
        (
            "gone",
            "path = \"/gone\"\nrespond = { status = 410, body = \"gone\" }\n",
        ),
    ] {
        let acts = ["upstream =", "redirect =", "respond ="]
            .iter()
            .any(|key| keys.contains(key));
        let action = if acts { "" } else { "upstream = \"app\"\n" };
        let edits = format!("response_headers = {{ set = {{ X-Route = \"{name}\" }} }}\n");
        let _ = write!(text, "[route.{name}]\n{rest}{action}{edits}{keys}");
    }
    let _ = write!(
        text,
        "[route.bare]\nlisten = [\"bare\"]\npath = \"/else\"\nupstream = \"app\"\n"
    );
    let all: Vec<_> = (0..origins.len()).map(address).collect();
    let _ = write!(
        text,
        "[upstream.app]\nservers = [{}]\nretry = \"off\"\nejection = \"off\"\n",
        address(0)
    );
    let _ = write!(
        text,
        "[upstream.named]\nservers = [{}]\nhost_header = \"in.example\"\n",
        address(1)
    );
    let _ = write!(
        text,
        "[upstream.hashed]\nservers = [{}]\nbalance = \"hash\"\nhash_key = \"path\"\nhost_header = \"server\"\n",
        all.join(", ")
    );
    text
}

/// Answers as the case says whose number is in a field of the request.
fn respond(request: &Request) -> Vec<u8> {
    let case = CASES[request.field("x-case").parse::<usize>().unwrap()];
    let (status, lines, length) = (case.status, case.response, case.length);
    let head = format!("HTTP/1.1 {status} -\r\n{lines}Content-Length: {length}\r\n\r\n");
    let body = if request.method() == "HEAD" {
        0
    } else {
        length
    };
    [head.into_bytes(), vec![b'x'; body]].concat()
}

/// The lines of a request but for its first and those of its length.
fn lines(case: &Case, number: usize) -> String {
    let host = match case.lines.starts_with("Host:") {
        true => String::new(),
        false => format!("Host: {}\r\n", case.host),
    };
    format!("{host}{}X-Case: {number}\r\n", case.lines)
}

async fn send(weir: &Weir, case: &Case, number: usize) -> Response {
    let mut connection = Connection::open(weir.running.addresses(case.listen)[0]).await;
    let Case {
        method,
        target,
        body,
        ..
    } = case;
    let lines = lines(case, number);
    connection
        .send(&format!("{method} {target} HTTP/1.1\r\n{lines}\r\n{body}"))
        .await;
    connection.response_to(method).await
}

fn explain(folder: &TempDir, case: &Case, number: usize) -> (Value, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(folder.path());
    command.args(["explain", "--format", "json", "--from", "127.0.0.1"]);
    command.args(["--listen", case.listen, "-X", case.method]);
    for line in lines(case, number).split_terminator("\r\n") {
        command.args(["-H", line]);
    }
    command.args(["--status", &case.status.to_string()]);
    for line in case.response.split_terminator("\r\n") {
        command.args(["--response", line]);
    }
    command.args(["--response", &format!("Content-Length: {}", case.length)]);
    command.arg(format!("http://named.in.lines{}", case.target));
    let output = command.output().unwrap();
    let told = serde_json::from_slice(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    (
        told.unwrap_or_else(|_| panic!("{}: {errors}", case.target)),
        output.status.code(),
    )
}

/// Field lines that were told, in order.
fn told_fields(fields: &Value) -> Vec<(String, String)> {
    let pair = |pair: &Value| {
        let text = |at: usize| pair[at].as_str().unwrap().to_owned();
        (text(0), text(1))
    };
    fields.as_array().unwrap().iter().map(pair).collect()
}

fn assert_sent(told: &Value, head: &str, what: &str) {
    let number = head.lines().skip(1).count();
    let sent = told_fields(&told["fields"]);
    assert_eq!(told["target"], head.split(' ').nth(1).unwrap(), "{what}");
    assert_eq!(sent.len(), number, "{what}: {sent:?}\n{head}");
    for ((name, value), line) in sent.iter().zip(head.lines().skip(1)) {
        let (came, content) = line.split_once(": ").unwrap();
        assert_eq!(name, came, "{what}");
        assert!(
            value == content || value == "(a new one)",
            "{what}: {name}: {value} is {content}"
        );
    }
}

fn without_ttl(verdict: &str) -> &str {
    verdict.split("; ttl").next().unwrap()
}

#[tokio::test]
async fn what_is_explained_is_what_happens() {
    let origins = [
        Origin::start(respond).await,
        Origin::start(respond).await,
        Origin::start(respond).await,
    ];
    let text = config(&origins.each_ref());
    let weir = Weir::start(&text).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("weir.toml"), &text).unwrap();
    let mut refused = 0;
    for (number, case) in CASES.iter().enumerate() {
        let what = format!(
            "{number}: {} {}{} {:?}",
            case.method, case.host, case.target, case.lines
        );
        let (told, code) = explain(&folder, case, number);
        let before: Vec<_> = origins
            .iter()
            .map(|origin| origin.requests().len())
            .collect();
        let response = send(&weir, case, number).await;
        let seen: Vec<_> = origins
            .iter()
            .zip(&before)
            .filter(|(origin, before)| origin.requests().len() > **before)
            .map(|(origin, _)| origin)
            .collect();
        let route = told["route"]["name"].as_str();
        if let Some(came) = fields(&response.head, "x-route").first() {
            assert_eq!(route, Some(*came), "{what}");
        }
        let answer = &told["answer"];
        let is_refused = answer["refused"].is_string();
        refused += usize::from(is_refused);
        assert_eq!(code, Some(i32::from(is_refused)), "{what}");
        if answer.is_object() {
            assert!(seen.is_empty(), "{what}");
            assert_eq!(answer["status"], response.status, "{what}");
        } else {
            assert_eq!(seen.len(), 1, "{what}: {}", response.head);
            assert_eq!(response.status, case.status, "{what}");
            assert!(route.is_some(), "{what}");
            let head = seen[0].last().head;
            let forward = told["forward"].as_array().unwrap();
            let own = forward.iter().rev().find(|sent| {
                let servers = sent["servers"].as_array().unwrap();
                let address = seen[0].address().to_string();
                servers.iter().any(|server| server["address"] == *address)
            });
            let own = own.unwrap();
            assert_sent(own, &head, &what);
            if let Some(first) = own["order"].as_array().unwrap().first() {
                assert_eq!(*first, seen[0].address().to_string(), "{what}");
            }
        }
        let given = if answer.is_object() {
            answer
        } else {
            &told["response"]
        };
        for (name, value) in told_fields(&given["fields"]) {
            let came = fields(&response.head, &name);
            assert!(
                came.contains(&&*value),
                "{what}: {name}: {value}\n{}",
                response.head
            );
        }
        let coding = told_fields(&given["fields"]);
        let coding = coding.iter().find(|(name, _)| name == "content-encoding");
        let came = fields(&response.head, "content-encoding");
        assert_eq!(
            coding.map(|(_, coding)| &**coding),
            came.first().copied(),
            "{what}"
        );
        if told["cache"]["told"] == true && !answer.is_object() {
            assert_eq!(
                fields(&response.head, "cache-status"),
                [told["cache"]["verdict"].as_str().unwrap()],
                "{what}"
            );
        } else {
            assert!(fields(&response.head, "cache-status").is_empty(), "{what}");
        }
        if let Some(again) = told["cache"]["again"].as_str() {
            let response = send(&weir, case, number).await;
            if told["cache"]["told"] == true {
                let came = response.field("cache-status");
                // What is validated has a status of its own.
                let came = came.split("; fwd-status").next().unwrap();
                let came = came.strip_suffix("; stored").unwrap_or(came);
                assert_eq!(without_ttl(came), without_ttl(again), "{what}");
            }
        }
    }
    assert!(refused >= 9, "{refused} were refused");
}
