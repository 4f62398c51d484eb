//! The codec over real sockets: against hyper's client, on the cases of `tests/upstream_responses/` and on what proptest
//! makes of them. Where hyper takes a response that we refuse, that is on a list here, with the reason.

#[path = "../../../tests/upstream_responses/mod.rs"]
#[allow(unreachable_pub, reason = "crates of tests use it too")]
mod cases;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use self::cases::Then;
use super::exchange::is_clean;
use super::head::Asked;
use super::workspace::Workspace;
use super::{Connection, ExchangeError, Upload};
use crate::deadline::{Clock, Deadlines, Ticks};
use crate::http1::Decoded;
use crate::semantics::hop_by_hop::{Nominated, is_hop_by_hop};
use crate::upstream::stream::Stream;

/// Where we refuse, or see a break, and hyper reads a complete response.
const STRICTER: &[(&str, &str)] = &[
    ("status 600", "RFC 9110 §15: no status is beyond 599"),
    ("status 999", "RFC 9110 §15: no status is beyond 599"),
    (
        "an empty line before the status line",
        "bytes before a response belong to no exchange",
    ),
    (
        "LF before the status line",
        "bytes before a response belong to no exchange",
    ),
    (
        "LF alone at the end of a field",
        "a field that a server did not mean to write could follow",
    ),
    (
        "LF alone throughout",
        "a field that a server did not mean to write could follow",
    ),
    (
        "LF alone at the end of the status line",
        "a field that a server did not mean to write could follow",
    ),
    (
        "LF alone at the end of the head",
        "a field that a server did not mean to write could follow",
    ),
    (
        "length and chunked",
        "RFC 9112 §6.3: to be handled as an error",
    ),
    (
        "chunked and length",
        "RFC 9112 §6.3: to be handled as an error",
    ),
    (
        "chunked twice",
        "RFC 9112 §6.1: chunked must not be applied twice",
    ),
    (
        "chunked, chunked",
        "RFC 9112 §6.1: chunked must not be applied twice",
    ),
    (
        "gzip, chunked",
        "nobody asked for it (TE), and the coding would be lost",
    ),
    (
        "chunked, gzip",
        "chunked is not the last coding; hyper reads until the close",
    ),
    (
        "gzip",
        "nobody asked for it (TE), and the coding would be lost; hyper reads until the close",
    ),
    (
        "transfer coding unknown",
        "hyper reads until the close what others would read as chunked",
    ),
    (
        "transfer coding in quotes",
        "not a token; hyper reads until the close",
    ),
    (
        "transfer coding with a parameter",
        "chunked has none (RFC 9112 §7.1); hyper reads until the close",
    ),
    (
        "transfer coding empty",
        "which framing is meant is unclear; hyper reads until the close",
    ),
    (
        "length twice, the same",
        "RFC 9110 §8.6 allows either; two writers of one field are one too many",
    ),
    (
        "length as a list of the same",
        "RFC 9110 §8.6 allows either",
    ),
    ("129 fields", "no more than 128"),
    ("a head of more than 64 KiB", "no more than 64 KiB"),
    (
        "a switch of protocols that nobody asked for",
        "hyper leaves it to its caller",
    ),
    (
        "a switch of protocols to nothing",
        "hyper leaves it to its caller",
    ),
    ("101 behind 100", "hyper leaves it to its caller"),
    ("33 times 100", "no more than 32"),
    ("a flood of 100", "no more than 32"),
    ("size of more than sixteen digits", "no chunk needs more"),
    (
        "NUL in an extension",
        "not part of the grammar (RFC 9112 §7.1.1)",
    ),
    ("trailers of more than 64 fields", "no more than 64"),
    ("a chunk extension of more than 4 KiB", "no more than 4 KiB"),
];

/// What became of a response.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Response {
        status: StatusCode,
        headers: HeaderMap,
        body: Vec<u8>,
        trailers: Option<HeaderMap>,
        complete: bool,
        clean: bool,
    },
    Refused(String),
}

impl Outcome {
    fn is_complete(&self) -> bool {
        matches!(self, Self::Response { complete: true, .. })
    }
}

/// A server that sends `wire` in pieces of these lengths, over and over, then closes or waits.
struct Script {
    wire: Vec<u8>,
    cuts: Vec<usize>,
    then: Then,
}

impl Script {
    async fn play(self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut rest = &self.wire[..];
        for cut in self.cuts.iter().cycle() {
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            rest = left;
            if stream.write_all(piece).await.is_err() || rest.is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
        match self.then {
            Then::Waits => std::future::pending().await,
            // A reset may destroy what was sent before it; how far it got is not the codec's to say.
            Then::Closes | Then::Resets => {
                let _ = stream.shutdown().await;
                std::future::pending().await
            }
        }
    }
}

/// A pair of connected sockets: ours, the server's.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (ours.unwrap(), theirs.unwrap().0)
}

/// What our codec makes of it.
async fn ours(script: Script, head: bool) -> Outcome {
    let (stream, server) = sockets().await;
    let playing = tokio::spawn(script.play(server));
    let deadlines = Deadlines::new(Clock::start());
    let mut connection = Connection::new(Stream::Tcp(stream), deadlines.deadline(), 0);
    let outcome = receive(&mut connection, head).await;
    playing.abort();
    outcome.unwrap_or_else(|error| Outcome::Refused(chain(&error)))
}

async fn receive(connection: &mut Connection, head: bool) -> Result<Outcome, ExchangeError> {
    let workspace = Workspace::new();
    let mut upload: Option<Upload<Empty<Bytes>>> = None;
    let asked = Asked {
        head,
        upgrade: false,
    };
    let received = connection
        .receive(&mut upload, &(), asked, Ticks(100), None, &workspace)
        .await?
        .head;
    let (mut framing, keep_alive) = (received.framing, received.keep_alive);
    let (mut body, mut trailers) = (Vec::new(), None);
    let complete = loop {
        match framing.decode(&mut connection.unread) {
            Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
            Ok(Decoded::Trailers(fields)) => {
                trailers = Some(fields);
                break true;
            }
            Ok(Decoded::End) => break true,
            Ok(Decoded::More) => {
                match std::future::poll_fn(|context| {
                    connection.poll_more(context, &workspace, 64 * 1024)
                })
                .await
                {
                    Ok(true) => {}
                    Ok(false) => break framing.end_of_input().is_ok(),
                    Err(_) => break false,
                }
            }
            Err(_) => break false,
        }
    };
    let clean = complete && is_clean(connection, &framing, keep_alive);
    Ok(Outcome::Response {
        status: received.status,
        headers: received.headers,
        body,
        trailers,
        complete,
        clean,
    })
}

/// What hyper's client makes of it.
async fn hypers(script: Script, head: bool) -> Outcome {
    let (stream, server) = sockets().await;
    let playing = tokio::spawn(script.play(server));
    let outcome = ask_hyper(stream, head).await;
    playing.abort();
    outcome.unwrap_or_else(|error| Outcome::Refused(chain(&error)))
}

async fn ask_hyper(stream: TcpStream, head: bool) -> hyper::Result<Outcome> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_headers(256);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let method = if head { Method::HEAD } else { Method::GET };
    let request = Request::builder()
        .method(method)
        .uri("/")
        .header("host", "a")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let (parts, mut incoming) = sender.send_request(request).await?.into_parts();
    let (mut body, mut trailers, mut complete) = (Vec::new(), None, true);
    while let Some(frame) = incoming.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => body.extend_from_slice(&data),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    driving.abort();
    let headers = end_to_end(parts.status, parts.headers);
    Ok(Outcome::Response {
        status: parts.status,
        headers,
        body,
        trailers,
        complete,
        clean: false,
    })
}

/// What a proxy passes on of what hyper hands out whole.
fn end_to_end(status: StatusCode, headers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    let nominated = Nominated::of(&headers);
    for (name, value) in &headers {
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let stays = is_hop_by_hop(name.as_str())
            || nominated.contains(name)
            || (bodiless && name == header::CONTENT_LENGTH);
        if !stays {
            kept.append(name, value.clone());
        }
    }
    kept
}

fn chain(mut error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    text
}

/// Whether hyper reads a complete response where we do not. Where both do, they must be equal; where hyper does not, the
/// table says what is right.
fn is_stricter(name: &str, ours: &Outcome, hypers: &Outcome) -> bool {
    if let (
        Outcome::Response {
            status,
            headers,
            body,
            trailers,
            complete: true,
            ..
        },
        Outcome::Response {
            status: status_2,
            headers: headers_2,
            body: body_2,
            trailers: trailers_2,
            complete: true,
            ..
        },
    ) = (ours, hypers)
    {
        assert_eq!(status, status_2, "{name}");
        assert_eq!(headers, headers_2, "{name}");
        assert!(
            body == body_2,
            "{name}: {:?}, hyper: {:?}",
            String::from_utf8_lossy(body),
            String::from_utf8_lossy(body_2)
        );
        assert_eq!(trailers, trailers_2, "{name}");
        return false;
    }
    hypers.is_complete()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn is_head(case: &cases::Case) -> bool {
    case.asked == cases::Asked::Head
}

/// hyper waits for more where we see an error at once, so each server closes in the end.
fn script(case: &cases::Case, cuts: Vec<usize>) -> Script {
    Script {
        wire: case.wire.clone(),
        cuts,
        then: Then::Closes,
    }
}

#[test]
fn hypers_client_reads_the_same_or_the_difference_is_listed() {
    runtime().block_on(async {
        let mut stricter = Vec::new();
        for case in cases::cases() {
            let ours = ours(script(&case, vec![usize::MAX]), is_head(&case)).await;
            let hypers = hypers(script(&case, vec![usize::MAX]), is_head(&case)).await;
            if is_stricter(case.name, &ours, &hypers) {
                stricter.push(case.name);
            }
        }
        let listed: Vec<_> = STRICTER.iter().map(|(name, _)| *name).collect();
        let missing: Vec<_> = stricter
            .iter()
            .filter(|name| !listed.contains(name))
            .collect();
        let idle: Vec<_> = listed
            .iter()
            .filter(|name| !stricter.contains(name))
            .collect();
        assert!(
            missing.is_empty() && idle.is_empty(),
            "not on the list: {missing:#?}; on the list for nothing: {idle:#?}"
        );
    });
}

#[test]
fn the_codec_sees_what_the_table_says() {
    runtime().block_on(async {
        for case in cases::cases() {
            let script = Script {
                wire: case.wire.clone(),
                cuts: vec![usize::MAX],
                then: case.then,
            };
            let outcome = ours(script, is_head(&case)).await;
            match (&case.expect, &outcome) {
                (
                    cases::Expect::Passes {
                        status,
                        body,
                        reused,
                    },
                    Outcome::Response {
                        status: got,
                        body: read,
                        complete: true,
                        clean,
                        ..
                    },
                ) => {
                    // That the server is about to close is known to the pool alone.
                    let clean = *clean && case.name != "keep-alive of no time";
                    assert!(
                        *got == *status && read == body && clean == *reused,
                        "{}: {outcome:?}",
                        case.name
                    );
                }
                (
                    cases::Expect::Breaks { .. },
                    Outcome::Response {
                        complete: false, ..
                    },
                ) => {}
                (cases::Expect::Breaks { .. }, Outcome::Response { .. })
                    if case.then == Then::Resets => {}
                (cases::Expect::Refused(_), Outcome::Refused(_)) => {}
                _ => panic!("{}: {outcome:?}", case.name),
            }
        }
    });
}

/// A body of some framing, and what it decodes to.
fn well_formed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8);
    (chunks, 0..3, any::<bool>()).prop_map(|(chunks, framing, early_hints)| {
        let body = chunks.concat();
        let mut wire = Vec::new();
        if early_hints {
            wire.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        wire.extend_from_slice(b"HTTP/1.1 200 OK\r\nX-A: b\r\n");
        match framing {
            0 => {
                wire.extend_from_slice(
                    format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                wire.extend_from_slice(&body);
            }
            framing => {
                wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    wire.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
                    wire.extend_from_slice(chunk);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(if framing == 1 {
                    b"0\r\n\r\n"
                } else {
                    b"0\r\nX-T: 1\r\n\r\n"
                });
            }
        }
        (wire, body)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes of two responses are spread over reads, each is read whole, and the second begins where the
    /// first ends.
    #[test]
    fn two_responses_behind_each_other_never_mix(
        first in well_formed(),
        second in well_formed(),
        cuts in prop::collection::vec(1usize..120, 1..40),
    ) {
        let wire = [&first.0[..], &second.0].concat();
        runtime().block_on(async {
            let (stream, server) = sockets().await;
            let playing = tokio::spawn(Script { wire, cuts, then: Then::Waits }.play(server));
            let deadlines = Deadlines::new(Clock::start());
            let mut connection = Connection::new(Stream::Tcp(stream), deadlines.deadline(), 0);
            for (_, body) in [&first, &second] {
                let outcome = receive(&mut connection, false).await.unwrap();
                let Outcome::Response { body: read, complete, .. } = outcome else { unreachable!() };
                assert!(complete && read == *body);
            }
            assert!(connection.is_quiet());
            playing.abort();
        });
    }

    /// Whatever a case is, hostile ones included, the way it is spread over reads changes nothing.
    #[test]
    fn any_split_of_reads_has_the_same_outcome(
        number in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(1usize..60, 1..40),
    ) {
        let cases = cases::cases();
        let case = number.get(&cases);
        prop_assume!(case.wire.len() < 4000);
        runtime().block_on(async {
            let whole = ours(script(case, vec![usize::MAX]), is_head(case)).await;
            let split = ours(script(case, cuts), is_head(case)).await;
            match (whole, split) {
                // Whether extra bytes came in time to be seen is a matter of luck.
                (
                    Outcome::Response { status, headers, body, trailers, complete, .. },
                    Outcome::Response { status: status_2, headers: headers_2, body: body_2, trailers: trailers_2, complete: complete_2, .. },
                ) => {
                    let (whole, split) = ((status, headers, body, trailers, complete), (status_2, headers_2, body_2, trailers_2, complete_2));
                    assert_eq!(whole, split, "{}", case.name);
                }
                (whole, split) => assert_eq!(whole, split, "{}", case.name),
            }
        });
    }
}
