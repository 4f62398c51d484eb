//! What a server may send, from well-formed to hostile, and what must become of it. Used by the behaviour tests (through a
//! real weir), by the unit tests of the codec (against hyper's client) and as the seeds of the fuzzer.

/// One response, byte by byte.
pub struct Case {
    pub name: &'static str,
    pub asked: Asked,
    pub wire: Vec<u8>,
    /// What the server does behind `wire`.
    pub then: Then,
    pub expect: Expect,
}

/// The request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Get,
    Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Keeps the connection open.
    Waits,
    /// Ends it in good order.
    Closes,
    /// Cuts it.
    Resets,
}

/// What a client must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The response, whole; whether the connection carries another exchange.
    Passes {
        status: u16,
        body: Vec<u8>,
        reused: bool,
    },
    /// The response, visibly broken off.
    Breaks { status: u16 },
    /// A 502 of weir with this word in `Proxy-Status`.
    Refused(&'static str),
}

use Asked::{Get, Head};
use Then::{Closes, Resets, Waits};

const PROTOCOL: &str = "http_protocol_error";
const INCOMPLETE: &str = "http_response_incomplete";
const TERMINATED: &str = "connection_terminated";

fn case(name: &'static str, wire: impl Into<Vec<u8>>, then: Then, expect: Expect) -> Case {
    Case {
        name,
        asked: Get,
        wire: wire.into(),
        then,
        expect,
    }
}

/// Passes, and the connection is used again.
fn reused(
    name: &'static str,
    wire: impl Into<Vec<u8>>,
    status: u16,
    body: impl Into<Vec<u8>>,
) -> Case {
    case(
        name,
        wire,
        Waits,
        Expect::Passes {
            status,
            body: body.into(),
            reused: true,
        },
    )
}

/// Passes, and the connection is not used again.
fn once(
    name: &'static str,
    wire: impl Into<Vec<u8>>,
    status: u16,
    body: impl Into<Vec<u8>>,
) -> Case {
    case(
        name,
        wire,
        Waits,
        Expect::Passes {
            status,
            body: body.into(),
            reused: false,
        },
    )
}

/// Passes; the server closes behind it.
fn closing(
    name: &'static str,
    wire: impl Into<Vec<u8>>,
    status: u16,
    body: impl Into<Vec<u8>>,
) -> Case {
    case(
        name,
        wire,
        Closes,
        Expect::Passes {
            status,
            body: body.into(),
            reused: false,
        },
    )
}

fn breaks(name: &'static str, wire: impl Into<Vec<u8>>, then: Then) -> Case {
    case(name, wire, then, Expect::Breaks { status: 200 })
}

fn refused(name: &'static str, wire: impl Into<Vec<u8>>) -> Case {
    case(name, wire, Waits, Expect::Refused(PROTOCOL))
}

fn cut(name: &'static str, wire: impl Into<Vec<u8>>, then: Then, word: &'static str) -> Case {
    case(name, wire, then, Expect::Refused(word))
}

fn to_head(case: Case) -> Case {
    Case {
        asked: Head,
        ..case
    }
}

/// A 200 with these field lines, then `body`.
fn with(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes()
}

/// A 200 with this chunked body.
fn chunked(body: &str) -> Vec<u8> {
    with("Transfer-Encoding: chunked\r\n", body)
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = status_lines();
    all.extend(fields());
    all.extend(framing());
    all.extend(lengths());
    all.extend(chunks());
    all.extend(trailers());
    all.extend(informational());
    all.extend(without_body());
    all.extend(truncated());
    all.extend(large());
    all
}

fn status_lines() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nContent-Length: 2\r\n\r\nok").into_bytes();
    vec![
        reused("plain", line("HTTP/1.1 200 OK"), 200, "ok"),
        reused("reason empty", line("HTTP/1.1 200 "), 200, "ok"),
        reused("reason missing", line("HTTP/1.1 200"), 200, "ok"),
        reused(
            "reason of many words",
            line("HTTP/1.1 200 Everything went as it should"),
            200,
            "ok",
        ),
        reused("reason with a tab", line("HTTP/1.1 200 a\tb"), 200, "ok"),
        reused(
            "reason beyond ASCII",
            b"HTTP/1.1 200 \xc3\xa9\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            200,
            "ok",
        ),
        reused(
            "reason of another status",
            line("HTTP/1.1 200 Not Found"),
            200,
            "ok",
        ),
        reused(
            "status unknown 299",
            line("HTTP/1.1 299 Whatever"),
            299,
            "ok",
        ),
        reused("status 404", line("HTTP/1.1 404 Not Found"), 404, "ok"),
        reused(
            "status 500",
            line("HTTP/1.1 500 Internal Server Error"),
            500,
            "ok",
        ),
        reused(
            "status 503",
            line("HTTP/1.1 503 Service Unavailable"),
            503,
            "ok",
        ),
        reused("status 599", line("HTTP/1.1 599 Last"), 599, "ok"),
        reused(
            "status 301 is passed on, not followed",
            "HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            301,
            "",
        ),
        reused(
            "status 205",
            "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
            205,
            "",
        ),
        refused("status 600", line("HTTP/1.1 600 Beyond")),
        refused("status 999", line("HTTP/1.1 999 Beyond")),
        refused("status 099", line("HTTP/1.1 099 Before")),
        refused("status 000", line("HTTP/1.1 000 None")),
        refused("status of two digits", line("HTTP/1.1 20 OK")),
        refused("status of four digits", line("HTTP/1.1 2000 OK")),
        refused("status signed", line("HTTP/1.1 +20 OK")),
        refused("status in letters", line("HTTP/1.1 abc OK")),
        refused("status missing", line("HTTP/1.1")),
        refused("two spaces before the status", line("HTTP/1.1  200 OK")),
        refused("tab before the status", line("HTTP/1.1\t200 OK")),
        refused("reason with NUL", line("HTTP/1.1 200 O\0K")),
        refused("reason with a lone CR", line("HTTP/1.1 200 O\rK")),
        refused(
            "reason with a control character",
            line("HTTP/1.1 200 O\x1bK"),
        ),
        once("HTTP/1.0", line("HTTP/1.0 200 OK"), 200, "ok"),
        refused("HTTP/0.9, a bare document", "<html>hello</html>\r\n\r\n"),
        refused("HTTP/1.2", line("HTTP/1.2 200 OK")),
        refused("HTTP/2.0", line("HTTP/2.0 200 OK")),
        refused("HTTP/1", line("HTTP/1 200 OK")),
        refused("HTTP/01.1", line("HTTP/01.1 200 OK")),
        refused("http in lower case", line("http/1.1 200 OK")),
        refused("ICY", line("ICY 200 OK")),
        refused("another protocol", "SSH-2.0-OpenSSH_9.2\r\n"),
        refused(
            "frames of HTTP/2",
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80".to_vec(),
        ),
        refused("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46".to_vec()),
        refused(
            "an empty line before the status line",
            line("\r\nHTTP/1.1 200 OK"),
        ),
        refused("LF before the status line", line("\nHTTP/1.1 200 OK")),
        refused("a space before the status line", line(" HTTP/1.1 200 OK")),
        refused("NUL before the status line", line("\0HTTP/1.1 200 OK")),
        refused(
            "a byte order mark before the status line",
            line("\u{feff}HTTP/1.1 200 OK"),
        ),
        refused("a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ]
}

fn fields() -> Vec<Case> {
    let field = |line: &str| with(&format!("Content-Length: 2\r\n{line}\r\n"), "ok");
    vec![
        reused("field empty", field("X:"), 200, "ok"),
        reused("field without a space", field("X:y"), 200, "ok"),
        reused("field between blanks", field("X: \t y \t "), 200, "ok"),
        reused("field beyond ASCII", field("X: \u{e9}\u{4e2d}"), 200, "ok"),
        reused(
            "field repeated",
            field("Set-Cookie: a=1\r\nSet-Cookie: b=2"),
            200,
            "ok",
        ),
        reused(
            "field name with every sign",
            field("!#$%&'*+-.^_`|~0Az: y"),
            200,
            "ok",
        ),
        reused("field with colons", field("X: a:b:c"), 200, "ok"),
        reused(
            "fields for one connection",
            field("Connection: x-hop\r\nX-Hop: 1\r\nProxy-Connection: keep-alive"),
            200,
            "ok",
        ),
        reused(
            "keep-alive with parameters",
            field("Connection: keep-alive\r\nKeep-Alive: timeout=60, max=100"),
            200,
            "ok",
        ),
        reused(
            "keep-alive that makes no sense",
            field("Keep-Alive: timeout=99999999999999999999999, max=-1"),
            200,
            "ok",
        ),
        once(
            "keep-alive of no time",
            field("Keep-Alive: timeout=0"),
            200,
            "ok",
        ),
        reused(
            "upgrade that is only offered",
            field("Connection: upgrade\r\nUpgrade: h2c"),
            200,
            "ok",
        ),
        reused(
            "content-length cannot be nominated",
            field("Connection: content-length"),
            200,
            "ok",
        ),
        refused("space before the colon", field("X : y")),
        refused("tab before the colon", field("X\t: y")),
        refused("space in the name", field("X Y: z")),
        refused("no colon", field("nothing")),
        refused("no name", field(": y")),
        refused("name beyond ASCII", field("X\u{e9}: y")),
        refused("name in brackets", field("X[1]: y")),
        refused("NUL in the name", field("X\0: y")),
        refused("NUL in the value", field("X: a\0b")),
        refused("DEL in the value", field("X: a\x7fb")),
        refused("a control character in the value", field("X: a\x01b")),
        refused("a lone CR in the value", field("X: a\rb")),
        refused("CR twice", field("X: a\r")),
        refused("obs-fold with a space", field("X: a\r\n b")),
        refused("obs-fold with a tab", field("X: a\r\n\tb")),
        refused(
            "a first field that begins with a space",
            with(" X: a\r\nContent-Length: 2\r\n", "ok"),
        ),
        refused(
            "LF alone at the end of a field",
            with("Content-Length: 2\r\nX: a\nY: b\r\n", "ok"),
        ),
        refused(
            "LF alone throughout",
            "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        ),
        refused(
            "LF alone at the end of the status line",
            "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        ),
        refused(
            "LF alone at the end of the head",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        ),
    ]
}

fn framing() -> Vec<Case> {
    vec![
        reused(
            "length and close unsaid",
            with("Content-Length: 5\r\n", "hello"),
            200,
            "hello",
        ),
        once(
            "length and close",
            with("Content-Length: 5\r\nConnection: close\r\n", "hello"),
            200,
            "hello",
        ),
        closing(
            "length and close, done",
            with("Content-Length: 5\r\nConnection: close\r\n", "hello"),
            200,
            "hello",
        ),
        once(
            "close in capitals among others",
            with("Content-Length: 5\r\nConnection: x, CLOSE\r\n", "hello"),
            200,
            "hello",
        ),
        once(
            "close beats keep-alive",
            with(
                "Content-Length: 5\r\nConnection: keep-alive\r\nConnection: close\r\n",
                "hello",
            ),
            200,
            "hello",
        ),
        once(
            "chunked and close",
            with(
                "Transfer-Encoding: chunked\r\nConnection: close\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            200,
            "hello",
        ),
        closing("until the close", with("", "hello"), 200, "hello"),
        closing("until the close, nothing", with("", ""), 200, ""),
        closing(
            "until the close though keep-alive is said",
            with("Connection: keep-alive\r\n", "hello"),
            200,
            "hello",
        ),
        closing(
            "until the close, HTTP/1.0",
            "HTTP/1.0 200 OK\r\n\r\nhello",
            200,
            "hello",
        ),
        closing(
            "until the close, HTTP/1.0 keep-alive",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
            200,
            "hello",
        ),
        closing(
            "until the close, another response in it",
            with("", "HTTP/1.1 200 OK\r\n\r\nx"),
            200,
            "HTTP/1.1 200 OK\r\n\r\nx",
        ),
        reused(
            "HTTP/1.0 keep-alive and length",
            "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        refused(
            "HTTP/1.0 and chunked",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        refused(
            "length and chunked",
            with(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        refused(
            "chunked and length",
            with(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
        ),
        reused(
            "chunked in capitals",
            with("TRANSFER-ENCODING: CHUNKED\r\n", "2\r\nok\r\n0\r\n\r\n"),
            200,
            "ok",
        ),
        refused(
            "chunked twice",
            with(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        refused(
            "chunked, chunked",
            with("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "gzip, chunked",
            with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "chunked, gzip",
            with("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        ),
        refused("gzip", with("Transfer-Encoding: gzip\r\n", "hello")),
        refused(
            "transfer coding unknown",
            with("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "transfer coding with a vertical tab",
            with("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        ),
        refused(
            "transfer coding in quotes",
            with("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ),
        refused(
            "transfer coding with a parameter",
            with("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"),
        ),
        refused(
            "transfer coding empty",
            with("Transfer-Encoding:\r\n", "0\r\n\r\n"),
        ),
        once(
            "extra bytes behind a length",
            with("Content-Length: 2\r\n", "okEXTRA"),
            200,
            "ok",
        ),
        once(
            "another response behind a length",
            with(
                "Content-Length: 2\r\n",
                "okHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            ),
            200,
            "ok",
        ),
        once(
            "an empty line behind a length",
            with("Content-Length: 2\r\n", "ok\r\n"),
            200,
            "ok",
        ),
        once(
            "extra bytes behind an empty body",
            with("Content-Length: 0\r\n", "EXTRA"),
            200,
            "",
        ),
        once(
            "another response behind the last chunk",
            chunked("2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            200,
            "ok",
        ),
        refused(
            "a switch of protocols that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        refused(
            "a switch of protocols to nothing",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ),
    ]
}

fn lengths() -> Vec<Case> {
    let length = |value: &str| with(&format!("Content-Length:{value}\r\n"), "hello");
    vec![
        reused("length with leading zeros", length(" 0005"), 200, "hello"),
        reused("length between blanks", length(" \t5\t "), 200, "hello"),
        refused("length twice, the same", length(" 5\r\nContent-Length: 5")),
        refused("length twice, different", length(" 5\r\nContent-Length: 6")),
        refused("length as a list of the same", length(" 5, 5")),
        refused("length as a list", length(" 5, 6")),
        refused("length negative", length(" -5")),
        refused("length signed", length(" +5")),
        refused("length in hexadecimal", length(" 0x5")),
        refused("length with a fraction", length(" 5.0")),
        refused("length with a unit", length(" 5 bytes")),
        refused("length with a blank inside", length(" 1 5")),
        refused("length empty", length("")),
        refused("length beyond 64 bits", length(" 18446744073709551621")),
        refused(
            "length of a hundred digits",
            length(&" 9".repeat(100).replace(' ', "")),
        ),
        refused("length in Arabic digits", length(" \u{665}")),
        refused("length in letters", length(" five")),
    ]
}

fn chunks() -> Vec<Case> {
    // The head is good and is on its way to the client when a chunk turns out bad.
    let bad = |name, body: &str| breaks(name, chunked(body), Waits);
    vec![
        reused(
            "one chunk",
            chunked("5\r\nhello\r\n0\r\n\r\n"),
            200,
            "hello",
        ),
        reused(
            "many chunks",
            chunked(&("1\r\nx\r\n".repeat(300) + "0\r\n\r\n")),
            200,
            "x".repeat(300),
        ),
        reused("no chunk", chunked("0\r\n\r\n"), 200, ""),
        reused(
            "a chunk that looks like an end",
            chunked("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
            200,
            "\r\n0\r\n\r\n",
        ),
        reused(
            "size in capitals",
            chunked("A\r\n0123456789\r\n0\r\n\r\n"),
            200,
            "0123456789",
        ),
        reused(
            "size in small letters",
            chunked("a\r\n0123456789\r\n0\r\n\r\n"),
            200,
            "0123456789",
        ),
        reused(
            "size with leading zeros",
            chunked("0005\r\nhello\r\n0000\r\n\r\n"),
            200,
            "hello",
        ),
        reused(
            "chunk extension",
            chunked("5;a=b\r\nhello\r\n0;last\r\n\r\n"),
            200,
            "hello",
        ),
        reused(
            "chunk extension in quotes",
            chunked("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"),
            200,
            "hello",
        ),
        reused(
            "blanks after the size",
            chunked("5  \r\nhello\r\n0\t\r\n\r\n"),
            200,
            "hello",
        ),
        reused(
            "blanks before an extension",
            chunked("5 ; a\r\nhello\r\n0\r\n\r\n"),
            200,
            "hello",
        ),
        bad("size empty", "\r\nhello\r\n0\r\n\r\n"),
        bad("size in other letters", "g\r\nhello\r\n0\r\n\r\n"),
        bad("size negative", "-5\r\nhello\r\n0\r\n\r\n"),
        bad("size signed", "+5\r\nhello\r\n0\r\n\r\n"),
        bad("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        bad("size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        bad("blank before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        bad("blank inside the size", "1 5\r\nhello\r\n0\r\n\r\n"),
        bad(
            "size beyond 64 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "size of more than sixteen digits",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        bad("LF alone behind the size", "5\nhello\r\n0\r\n\r\n"),
        bad("CR alone behind the size", "5\rhello\r\n0\r\n\r\n"),
        bad("NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n"),
        bad("LF alone in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        bad("CR alone in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        bad("chunk longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
        bad("chunk shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        bad("chunk ended by LF alone", "5\r\nhello\n0\r\n\r\n"),
        bad("chunk ended by CR alone", "5\r\nhello\r0\r\n\r\n"),
        bad("two chunks, the second bad", "5\r\nhello\r\nzz\r\n"),
        bad("a body that is not chunked at all", "hello world\r\n"),
    ]
}

fn trailers() -> Vec<Case> {
    let after = |trailers: &str| chunked(&format!("2\r\nok\r\n0\r\n{trailers}\r\n"));
    vec![
        reused("a trailer field", after("X-Sum: 7\r\n"), 200, "ok"),
        reused(
            "announced trailer fields",
            with(
                "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n",
                "2\r\nok\r\n0\r\nX-Sum: 7\r\nY: z\r\n\r\n",
            ),
            200,
            "ok",
        ),
        reused(
            "trailer fields that may not be there",
            after("Content-Length: 99\r\nTransfer-Encoding: x\r\nSet-Cookie: a\r\n"),
            200,
            "ok",
        ),
        breaks("a trailer without a colon", after("nothing\r\n"), Waits),
        breaks("a trailer without a name", after(": x\r\n"), Waits),
        breaks("a trailer folded", after("X: a\r\n b\r\n"), Waits),
        breaks("a trailer with NUL", after("X: a\0\r\n"), Waits),
        breaks("a trailer ended by LF alone", after("X: a\n"), Waits),
        breaks(
            "trailers ended by LF alone",
            chunked("2\r\nok\r\n0\r\n\n"),
            Waits,
        ),
        breaks(
            "trailers of more than 16 KiB",
            after(&format!("X: {}\r\n", "y".repeat(17 * 1024))),
            Waits,
        ),
        breaks(
            "trailers of more than 64 fields",
            after(&"X: y\r\n".repeat(65)),
            Waits,
        ),
    ]
}

fn informational() -> Vec<Case> {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let before = |heads: &str| format!("{heads}{OK}").into_bytes();
    vec![
        reused(
            "100 first",
            before("HTTP/1.1 100 Continue\r\n\r\n"),
            200,
            "ok",
        ),
        reused(
            "102 and 103 first",
            before("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            200,
            "ok",
        ),
        reused(
            "199 first",
            before("HTTP/1.1 199 Unknown\r\nX: y\r\n\r\n"),
            200,
            "ok",
        ),
        reused(
            "32 times 100",
            before(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(32)),
            200,
            "ok",
        ),
        reused(
            "100 with a length",
            before("HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"),
            200,
            "ok",
        ),
        reused(
            "100 with close",
            before("HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n"),
            200,
            "ok",
        ),
        refused(
            "33 times 100",
            before(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(33)),
        ),
        refused(
            "a flood of 100",
            before(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(3000)),
        ),
        refused(
            "100 with a body",
            before("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello"),
        ),
        refused(
            "100 with a bad field",
            before("HTTP/1.1 100 Continue\r\nX : y\r\n\r\n"),
        ),
        refused(
            "101 behind 100",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        ),
        cut(
            "100 and nothing more",
            "HTTP/1.1 100 Continue\r\n\r\n",
            Closes,
            INCOMPLETE,
        ),
        cut(
            "100 and half a head",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2",
            Closes,
            INCOMPLETE,
        ),
    ]
}

fn without_body() -> Vec<Case> {
    vec![
        reused("204", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        reused(
            "204 with length 0",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            204,
            "",
        ),
        once(
            "204 with a length",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            204,
            "",
        ),
        once(
            "204 with a body",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            204,
            "",
        ),
        once(
            "204 with a chunked body",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            204,
            "",
        ),
        reused(
            "304",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
            304,
            "",
        ),
        reused(
            "304 with the length of what was not sent",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            304,
            "",
        ),
        once(
            "304 with a body",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
            304,
            "",
        ),
        to_head(reused(
            "HEAD with a length",
            with("Content-Length: 5\r\n", ""),
            200,
            "",
        )),
        to_head(reused(
            "HEAD with chunked",
            with("Transfer-Encoding: chunked\r\n", ""),
            200,
            "",
        )),
        to_head(reused("HEAD without either", with("", ""), 200, "")),
        to_head(once(
            "HEAD with close",
            with("Connection: close\r\n", ""),
            200,
            "",
        )),
        to_head(once(
            "HEAD with a body",
            with("Content-Length: 5\r\n", "hello"),
            200,
            "",
        )),
        to_head(once(
            "HEAD with a chunked body",
            with("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            200,
            "",
        )),
        to_head(reused(
            "HEAD with a huge length",
            with("Content-Length: 9007199254740993\r\n", ""),
            200,
            "",
        )),
        to_head(reused(
            "HEAD with 404",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n",
            404,
            "",
        )),
    ]
}

fn truncated() -> Vec<Case> {
    vec![
        cut("nothing at all", "", Closes, TERMINATED),
        cut("nothing, and a reset", "", Resets, TERMINATED),
        cut("one byte", "H", Closes, INCOMPLETE),
        cut("half a status line", "HTTP/1.1 20", Closes, INCOMPLETE),
        cut("a status line", "HTTP/1.1 200 OK\r\n", Closes, INCOMPLETE),
        cut(
            "half a field",
            "HTTP/1.1 200 OK\r\nContent-Le",
            Closes,
            INCOMPLETE,
        ),
        cut(
            "half a value",
            "HTTP/1.1 200 OK\r\nContent-Length: 1",
            Closes,
            INCOMPLETE,
        ),
        cut(
            "a head without its empty line",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
            Closes,
            INCOMPLETE,
        ),
        cut(
            "a head without the last LF",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r",
            Closes,
            INCOMPLETE,
        ),
        cut(
            "half a bad head",
            "HTTP/1.1 200 OK\r\nX : y\r\nZ:",
            Closes,
            PROTOCOL,
        ),
        breaks(
            "no byte of a length",
            with("Content-Length: 5\r\n", ""),
            Closes,
        ),
        breaks(
            "half of a length",
            with("Content-Length: 10\r\n", "hello"),
            Closes,
        ),
        breaks(
            "half of a length, HTTP/1.0",
            "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            Closes,
        ),
        breaks(
            "half of a length, then a reset",
            with("Content-Length: 10\r\n", "hello"),
            Resets,
        ),
        breaks(
            "all but a byte",
            with("Content-Length: 6\r\n", "hello"),
            Closes,
        ),
        breaks(
            "a length of 2^63 - 1",
            with("Content-Length: 9223372036854775807\r\n", "hello"),
            Closes,
        ),
        breaks("no chunk", chunked(""), Closes),
        breaks("half a size", chunked("5"), Closes),
        breaks("a size without LF", chunked("5\r"), Closes),
        breaks("a size", chunked("5\r\n"), Closes),
        breaks("half a chunk", chunked("5\r\nhel"), Closes),
        breaks("a chunk without its CRLF", chunked("5\r\nhello"), Closes),
        breaks("a chunk without its LF", chunked("5\r\nhello\r"), Closes),
        breaks("a chunk", chunked("5\r\nhello\r\n"), Closes),
        breaks("a chunk, then a reset", chunked("5\r\nhello\r\n"), Resets),
        breaks(
            "the last chunk without its CRLF",
            chunked("5\r\nhello\r\n0"),
            Closes,
        ),
        breaks(
            "the last chunk without its empty line",
            chunked("5\r\nhello\r\n0\r\n"),
            Closes,
        ),
        breaks(
            "the last chunk without its last LF",
            chunked("5\r\nhello\r\n0\r\n\r"),
            Closes,
        ),
        breaks("half a trailer", chunked("5\r\nhello\r\n0\r\nX: y"), Closes),
        breaks(
            "trailers without an end",
            chunked("5\r\nhello\r\n0\r\nX: y\r\n"),
            Closes,
        ),
        breaks(
            "the largest chunk there is",
            chunked("ffffffffffffffff\r\nhello"),
            Closes,
        ),
        breaks(
            "until the close, but it is a reset",
            with("", "hello"),
            Resets,
        ),
    ]
}

fn large() -> Vec<Case> {
    let big = "0123456789abcdef".repeat(20_000);
    vec![
        reused(
            "a field of 32 KiB",
            with(
                &format!("X: {}\r\nContent-Length: 2\r\n", "y".repeat(32 * 1024)),
                "ok",
            ),
            200,
            "ok",
        ),
        reused(
            "128 fields",
            with(
                &format!("{}Content-Length: 2\r\n", "X: y\r\n".repeat(127)),
                "ok",
            ),
            200,
            "ok",
        ),
        refused(
            "129 fields",
            with(
                &format!("{}Content-Length: 2\r\n", "X: y\r\n".repeat(128)),
                "ok",
            ),
        ),
        refused(
            "a head of more than 64 KiB",
            with(
                &format!("X: {}\r\nContent-Length: 2\r\n", "y".repeat(65 * 1024)),
                "ok",
            ),
        ),
        refused(
            "a head without an end",
            format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(200 * 1024)),
        ),
        refused(
            "a status line without an end",
            format!("HTTP/1.1 200 {}", "y".repeat(200 * 1024)),
        ),
        refused(
            "many fields without an end",
            format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(20_000)),
        ),
        reused(
            "320 KB with a length",
            with("Content-Length: 320000\r\n", &big),
            200,
            big.clone(),
        ),
        reused(
            "320 KB in one chunk",
            chunked(&format!("4e200\r\n{big}\r\n0\r\n\r\n")),
            200,
            big.clone(),
        ),
        closing("320 KB until the close", with("", &big), 200, big.clone()),
        breaks(
            "320 KB and a byte missing",
            with("Content-Length: 320001\r\n", &big),
            Closes,
        ),
        once(
            "320 KB and a byte too many",
            with("Content-Length: 319999\r\n", &big),
            200,
            &big[..319_999],
        ),
        breaks(
            "a chunk extension of more than 4 KiB",
            chunked(&format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(5000))),
            Waits,
        ),
        breaks(
            "a chunk extension without an end",
            chunked(&format!("2;{}", "x".repeat(50_000))),
            Waits,
        ),
        breaks("zeros without an end", chunked(&"0".repeat(50_000)), Waits),
    ]
}
