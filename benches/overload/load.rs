//! Clients that come when they come, whatever became of those before: requests at random times with a fixed mean rate
//! (a Poisson process), each over a kept connection that is free, or over a new one.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout_at};

use crate::origin::Origins;
use crate::random::Random;

/// A client that has no answer by then closes its connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at the servers.
const LOOK: Duration = Duration::from_millis(10);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n";

pub(crate) struct Plan {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) length: Duration,
    pub(crate) uncounted: Duration,
}

impl Plan {
    pub(crate) fn counted(&self) -> Duration {
        self.length - self.uncounted
    }
}

/// What became of the requests that count. All times begin when a request was due.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) accepted: Vec<Duration>,
    pub(crate) refused: Vec<Duration>,
    pub(crate) given_up: usize,
    /// Broken connections and other answers than 200 and 503.
    pub(crate) failed: usize,
    /// The requests inside a server, at each look at each server.
    pub(crate) inside: Vec<usize>,
    /// How late requests were sent, which is this program's fault or the machine's.
    pub(crate) lag: Vec<Duration>,
}

impl Tally {
    pub(crate) fn offered(&self) -> usize {
        self.accepted.len() + self.refused.len() + self.given_up + self.failed
    }

    fn count(&mut self, end: End) {
        match end {
            End::Accepted(after) => self.accepted.push(after),
            End::Refused(after) => self.refused.push(after),
            End::GivenUp => self.given_up += 1,
            End::Failed => self.failed += 1,
        }
    }
}

enum End {
    /// A whole answer in time.
    Accepted(Duration),
    Refused(Duration),
    GivenUp,
    Failed,
}

/// Sends requests to `address` by the plan, and watches the servers meanwhile.
pub(crate) fn run(address: SocketAddr, plan: &Plan, origins: &Origins) -> Tally {
    let mut runtime = runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(async {
        let began = Instant::now();
        let (mut tally, inside) =
            tokio::join!(send(address, plan, began), watch(origins, plan, began));
        tally.inside = inside;
        tally
    })
}

async fn send(address: SocketAddr, plan: &Plan, began: Instant) -> Tally {
    let clients = Arc::new(Clients {
        address,
        idle: Mutex::default(),
    });
    let mut random = Random::new(1);
    let mut tally = Tally::default();
    let mut counted = JoinSet::new();
    let mut due = began;
    loop {
        due += Duration::from_secs_f64(-(1.0 - random.share()).ln() / plan.rate);
        if due >= began + plan.length {
            break;
        }
        sleep_until(due).await;
        let request = ask(Arc::clone(&clients), due);
        if due < began + plan.uncounted {
            tokio::spawn(request);
        } else {
            tally.lag.push(due.elapsed());
            counted.spawn(request);
        }
    }
    for end in counted.join_all().await {
        tally.count(end);
    }
    tally
}

async fn watch(origins: &Origins, plan: &Plan, began: Instant) -> Vec<usize> {
    let mut seen = Vec::new();
    let mut looks = interval(LOOK);
    sleep_until(began + plan.uncounted).await;
    looks.reset();
    while looks.tick().await < began + plan.length {
        seen.extend(origins.inside());
    }
    seen
}

async fn ask(clients: Arc<Clients>, due: Instant) -> End {
    let Ok(status) = timeout_at(due + PATIENCE, clients.exchange()).await else {
        return End::GivenUp;
    };
    match status {
        Ok(200) => End::Accepted(due.elapsed()),
        Ok(503) => End::Refused(due.elapsed()),
        _ => End::Failed,
    }
}

struct Clients {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Clients {
    /// Dropped before its end, it closes the connection.
    async fn exchange(&self) -> io::Result<u16> {
        let idle = self.idle.lock().unwrap().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(REQUEST).await?;
        let status = receive(&mut stream).await?;
        self.idle.lock().unwrap().push(stream);
        Ok(status)
    }
}

/// Reads one answer to the end of its body.
async fn receive(stream: &mut TcpStream) -> io::Result<u16> {
    let mut received = Vec::with_capacity(1024);
    let mut whole = None;
    loop {
        if let Some((status, length)) = whole
            && received.len() >= length
        {
            return Ok(status);
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        whole = whole.or_else(|| head(&received));
    }
}

/// The status, and how long head and body are; `None` before the end of the head.
fn head(received: &[u8]) -> Option<(u16, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let length = response.parse(received).unwrap();
    let httparse::Status::Complete(length) = length else {
        return None;
    };
    let fields = response.headers.iter();
    let body = fields.filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body = body.map(|field| str::from_utf8(field.value).unwrap().parse::<usize>());
    Some((
        response.code.unwrap(),
        length + body.last().unwrap().unwrap(),
    ))
}
