//! Two million requests for 200,000 objects, from 100 B to 8 MiB, through a cache of 64 MiB: does its bound hold for the
//! memory of the whole process?
//!
//! ```sh
//! cargo bench --bench cache_load                                               # some minutes
//! cargo bench --bench cache_load -- --requests 200000
//! cargo bench --bench cache_load -- --proxy 127.0.0.1:8080 --origin 9000 --pid 4711    # another proxy
//! ```
//!
//! All objects together are eighty times what the cache may hold. Every other request takes the next object in turn,
//! so that all of them come by again and again and almost none is still there; the others go to the popular ones, by a
//! Zipf distribution. Each body is compared with what the origin has.
//!
//! Exit: 1 if an answer was wrong, or if the process ever had more resident memory than 60 MiB beyond the cache's bound.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints, and what cannot go on fails"
)]

mod objects;
mod origin;
#[path = "../overload/random.rs"]
mod random;
mod subject;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests of the program need more of it"
)]
#[path = "../../tests/binary/support.rs"]
mod support;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use httparse::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use objects::Origin;
use random::Random;
use subject::{Outside, Subject};

const MIB: usize = 1024 * 1024;

/// The cache's bound, and what the process may have beyond it: itself, and what it is sending.
const CACHE: usize = 64 * MIB;
const BEYOND: usize = 60 * MIB;

/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines of progress.
const LINES: u64 = 10;

#[derive(Parser)]
#[command(name = "cache_load", bin_name = "cargo bench --bench cache_load --")]
struct Options {
    #[arg(long, default_value_t = 2_000_000)]
    requests: u64,
    #[arg(long, default_value_t = 200_000)]
    objects: u64,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 64)]
    clients: u64,
    #[command(flatten)]
    outside: Outside,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    subject::raise_open_files();
    let origin = Origin::start(options.outside.origin());
    let keys = "[cache]\nmax_size = \"64MiB\"\n";
    let subject = options.outside.start(origin.address, keys);
    println!(
        "{} objects, {} MiB together; {} requests by {} clients; memory at the start: {}",
        options.objects,
        (0..options.objects).map(objects::length).sum::<usize>() / MIB,
        options.requests,
        options.clients,
        told(subject.peak_memory()),
    );
    let began = Instant::now();
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let tally = runtime.block_on(run(&options, &origin, &subject));
    let seconds = began.elapsed().as_secs_f64();
    let peak = subject.peak_memory();
    println!(
        "{:.0} s, {:.0} requests/s, {:.1} GiB; {} of {} requests at the origin; {} wrong answers; \
         memory at most {} of {} MiB",
        seconds,
        options.requests as f64 / seconds,
        tally.bytes as f64 / (1024 * MIB) as f64,
        origin.requests(),
        options.requests,
        tally.wrong,
        told(peak),
        (CACHE + BEYOND) / MIB,
    );
    if let Some(example) = &tally.example {
        println!("for example: {example}");
    }
    let fine = tally.wrong == 0 && peak.is_none_or(|peak| peak <= CACHE + BEYOND);
    ExitCode::from(u8::from(!fine))
}

/// All requests.
async fn run(options: &Options, origin: &Origin, subject: &Subject) -> Tally {
    let plan = Arc::new(Plan {
        requests: options.requests,
        objects: options.objects,
        next: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        clients.spawn(client(
            subject.address,
            Arc::clone(&plan),
            Random::new(number),
        ));
    }
    let watch = async {
        for line in 1..LINES {
            let due = options.requests * line / LINES;
            while plan.next.load(Ordering::Relaxed) < due {
                sleep(Duration::from_millis(20)).await;
            }
            println!(
                "  after {due} requests: {} at the origin, memory so far at most {}",
                origin.requests(),
                told(subject.peak_memory())
            );
        }
    };
    let (ends, ()) = tokio::join!(clients.join_all(), watch);
    let mut tally = Tally::default();
    for end in ends {
        tally.add(end);
    }
    tally
}

/// Which object comes next.
struct Plan {
    requests: u64,
    objects: u64,
    next: AtomicU64,
}

impl Plan {
    fn next(&self, random: &mut Random) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.requests {
            return None;
        }
        if number.is_multiple_of(2) {
            return Some(number / 2 % self.objects);
        }
        // Zipf's law with exponent one: the logarithm of the rank is spread evenly.
        let rank = (self.objects as f64).powf(random.share());
        Some(rank as u64 - 1)
    }
}

/// What one client, or all of them, got.
#[derive(Default)]
struct Tally {
    /// Of all bodies.
    bytes: u64,
    wrong: u64,
    example: Option<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.wrong += other.wrong;
        self.example = self.example.take().or(other.example);
    }
}

/// Opens another connection after a wrong answer.
async fn client(address: SocketAddr, plan: Arc<Plan>, mut random: Random) -> Tally {
    let mut tally = Tally::default();
    let mut stream = None;
    let mut received = Vec::new();
    while let Some(object) = plan.next(&mut random) {
        let exchange = exchange(address, &mut stream, &mut received, object);
        let answer = timeout(PATIENCE, exchange).await;
        if matches!(answer, Ok(Ok(true))) {
            tally.bytes += objects::length(object) as u64;
            continue;
        }
        let beginning = String::from_utf8_lossy(&received[..received.len().min(300)]);
        let (length, got) = (objects::length(object), received.len());
        let example = format!("{answer:?} for {length} bytes, {got} received: {beginning:?}");
        tally.add(Tally {
            bytes: 0,
            wrong: 1,
            example: Some(example),
        });
        stream = None;
    }
    tally
}

/// Whether the body is the one that the origin has.
async fn exchange(
    address: SocketAddr,
    kept: &mut Option<TcpStream>,
    received: &mut Vec<u8>,
    object: u64,
) -> io::Result<bool> {
    received.clear();
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let request = format!("GET /{object} HTTP/1.1\r\nHost: www.example.com\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let body = objects::body(object);
    loop {
        if stream.read_buf(received).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(received).map_err(io::Error::other)?;
        let Status::Complete(head) = parsed else {
            continue;
        };
        if response.code != Some(200) {
            return Ok(false);
        }
        let whole = head + body.len();
        received.reserve(whole.saturating_sub(received.len()));
        while received.len() < whole {
            if stream.read_buf(received).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        *kept = Some(stream);
        return Ok(received[head..] == *body);
    }
}

fn told(memory: Option<usize>) -> String {
    memory.map_or("unknown".to_owned(), |bytes| {
        format!("{:.1} MiB", bytes as f64 / MIB as f64)
    })
}
