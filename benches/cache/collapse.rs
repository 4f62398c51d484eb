//! A thousand clients ask at the same moment for one target that is not stored and that the origin needs two seconds for.
//! How many of them reach the origin, and how soon after its first byte do they get theirs?
//!
//! ```sh
//! cargo bench --bench collapse                                                 # half a minute
//! cargo bench --bench collapse -- --clients 5000
//! cargo bench --bench collapse -- --proxy 127.0.0.1:8080 --origin 9000         # another proxy, told only
//! ```
//!
//! Origin and clients stand in this process. Clients connect first; one of them asks, and once the origin has its
//! request, all others ask together. Three rounds, each with a fresh weir:
//!
//! - all stay to the end;
//! - the first client breaks its connection off while the origin still thinks;
//! - it breaks it off in the middle of the body.
//!
//! Exit: 1 if another number of requests than one reached the origin, if a client did not get the whole body, or if the
//! 99th percentile of first bytes is later than 50 ms after the origin's.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints, and what cannot go on fails"
)]

mod origin;
mod slow_origin;
mod subject;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests of the program need more of it"
)]
#[path = "../../tests/binary/support.rs"]
mod support;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use httparse::Status;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use slow_origin::{DELAY, Origin};
use subject::Outside;

/// The goal for the 99th percentile of first bytes.
const PROMPT: Duration = Duration::from_millis(50);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Parser)]
#[command(name = "collapse", bin_name = "cargo bench --bench collapse --")]
struct Options {
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    #[command(flatten)]
    outside: Outside,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the client does whose request comes first.
#[derive(Clone, Copy)]
enum First {
    Stays,
    LeavesBeforeHead,
    LeavesInBody,
}

impl First {
    const fn told(self) -> &'static str {
        match self {
            Self::Stays => "stays",
            Self::LeavesBeforeHead => "leaves before the head",
            Self::LeavesInBody => "leaves in the body",
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    subject::raise_open_files();
    println!(
        "| first client | clients | requests at the origin | whole answers | first byte after the origin's: p50 ms \
         | p99 | max | last byte after the origin's: p50 ms | p99 | max | memory MiB |\n|---|{}",
        "--:|".repeat(10)
    );
    let mut fine = true;
    for first in [First::Stays, First::LeavesBeforeHead, First::LeavesInBody] {
        fine &= round(&options, first);
    }
    ExitCode::from(u8::from(!fine))
}

/// One row. Whether it is as it should be.
fn round(options: &Options, first: First) -> bool {
    let origin = Origin::start(options.outside.origin());
    let subject = options.outside.start(origin.address, "");
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let ends = runtime.block_on(ask(options.clients, subject.address, &origin, first));

    let whole = slow_origin::body();
    let (good, bad): (Vec<_>, Vec<_>) = ends
        .into_iter()
        .partition(|end| end.body().as_ref() == Some(&whole));
    let answers = origin.answers();
    let firsts = delays(answers[0].began, good.iter().map(|end| end.first));
    let lasts = delays(answers[0].ended, good.iter().map(|end| end.last));
    println!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        first.told(),
        options.clients,
        answers.len(),
        good.len(),
        percentiles(&firsts),
        percentiles(&lasts),
        subject.peak_memory().map_or(0, |bytes| bytes / 1024 / 1024),
    );
    if let Some(end) = bad.first() {
        let beginning = &end.received[..end.received.len().min(200)];
        let beginning = String::from_utf8_lossy(beginning);
        println!("\nNot whole: {} bytes, {beginning:?}\n", end.received.len());
    }
    let staying = options.clients - usize::from(!matches!(first, First::Stays));
    let prompt = quantile(&firsts, 0.99).is_some_and(|late| late <= PROMPT.as_secs_f64());
    answers.len() == 1 && good.len() == staying && prompt
}

/// What all clients got that stayed.
async fn ask(clients: usize, address: SocketAddr, origin: &Origin, first: First) -> Vec<End> {
    // A proxy from outside has stored what was asked for before.
    let request = Arc::new(format!(
        "GET /{}/{} HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n",
        std::process::id(),
        first as usize,
    ));
    let leader = connect(address).await;
    let mut others = Vec::new();
    for _ in 1..clients {
        others.push(connect(address).await);
    }
    let mut asking = JoinSet::new();
    asking.spawn(lead(leader, Arc::clone(&request), first));
    let asked = async {
        while origin.answers().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap();
    for stream in others {
        asking.spawn(fetch(stream, Arc::clone(&request)));
    }
    asking.join_all().await.into_iter().flatten().collect()
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The first request. `None` where its client leaves, as it was told to.
async fn lead(mut stream: TcpStream, request: Arc<String>, first: First) -> Option<End> {
    match first {
        First::Stays => return fetch(stream, request).await,
        First::LeavesBeforeHead => {
            stream.write_all(request.as_bytes()).await.unwrap();
            sleep(DELAY / 2).await;
        }
        First::LeavesInBody => {
            let end = exchange(&mut stream, &request, slow_origin::BODY / 3).await;
            assert!(
                end.received.len() < slow_origin::BODY,
                "the body came at once, though the origin sends it in pieces"
            );
        }
    }
    // A reset, which cannot be taken for a client that merely has nothing more to send.
    let leave = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    leave.unwrap();
    None
}

async fn fetch(mut stream: TcpStream, request: Arc<String>) -> Option<End> {
    Some(exchange(&mut stream, &request, usize::MAX).await)
}

/// Asks, and reads to the end or until so much is there.
async fn exchange(stream: &mut TcpStream, request: &str, enough: usize) -> End {
    let mut end = End::default();
    let reading = async {
        stream.write_all(request.as_bytes()).await?;
        while end.received.len() < enough && stream.read_buf(&mut end.received).await? > 0 {
            let now = Instant::now();
            end.first.get_or_insert(now);
            end.last = Some(now);
        }
        io::Result::Ok(())
    };
    let _ = timeout(PATIENCE, reading).await;
    end
}

/// What a client got, and when.
#[derive(Default)]
struct End {
    received: Vec<u8>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl End {
    /// The body of a whole answer.
    fn body(&self) -> Option<Vec<u8>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(Status::Complete(mut at)) = response.parse(&self.received) else {
            return None;
        };
        let mut fields = response.headers.iter();
        let chunked = fields.any(|field| field.name.eq_ignore_ascii_case("transfer-encoding"));
        if !chunked {
            return Some(self.received[at..].to_vec());
        }
        let mut body = Vec::new();
        loop {
            let chunk = httparse::parse_chunk_size(self.received.get(at..)?);
            let Ok(Status::Complete((head, size))) = chunk else {
                return None;
            };
            if size == 0 {
                return Some(body);
            }
            let (from, size) = (at + head, usize::try_from(size).unwrap());
            body.extend_from_slice(self.received.get(from..from + size)?);
            at = from + size + "\r\n".len();
        }
    }
}

/// How much later each of these was, sorted; negative where it was earlier.
fn delays(than: Option<Instant>, times: impl Iterator<Item = Option<Instant>>) -> Vec<f64> {
    let Some(than) = than else { return Vec::new() };
    let after = |time: Instant| match time.checked_duration_since(than) {
        Some(late) => late.as_secs_f64(),
        None => -(than - time).as_secs_f64(),
    };
    let mut delays: Vec<_> = times.flatten().map(after).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

fn percentiles(sorted: &[f64]) -> String {
    let told = [0.5, 0.99, 1.0].map(|share| {
        quantile(sorted, share).map_or("–".to_owned(), |time| format!("{:.1}", time * 1000.0))
    });
    told.join(" | ")
}

fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}
