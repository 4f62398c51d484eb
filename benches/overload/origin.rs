//! Servers whose capacity is known: each request takes a slot for a while, and nothing of the processor.
//!
//! Who finds no slot waits in line, however long that is. A request that was read is worked on to its end even if its
//! client has left, as almost all servers do.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::random::Random;

/// Servers of a kind that run together.
const COUNT: u16 = 2;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// Ten requests at a time: threads, or connections to a database.
    Pool,
    /// One request at a time: an event loop that computes.
    Single,
    /// Ten at a time, each of them slower the more are inside: garbage collection, locks, swapping.
    Degrading,
}

impl Kind {
    pub(crate) const fn slots(self) -> u16 {
        match self {
            Self::Pool | Self::Degrading => 10,
            Self::Single => 1,
        }
    }

    /// How long a request holds its slot where it is alone, in the mean.
    const fn service(self) -> Duration {
        match self {
            Self::Pool | Self::Degrading => Duration::from_millis(20),
            Self::Single => Duration::from_millis(4),
        }
    }

    /// How much longer that is with so many inside.
    fn slowdown(self, inside: f64) -> f64 {
        match self {
            Self::Pool | Self::Single => 1.0,
            Self::Degrading => 1.0 + inside / 100.0,
        }
    }

    /// Requests a second that all servers together can do: every slot taken, nobody in line.
    pub(crate) fn capacity(self) -> f64 {
        let slots = f64::from(self.slots());
        f64::from(COUNT) * slots / (self.service().as_secs_f64() * self.slowdown(slots))
    }
}

impl Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Pool => "pool",
            Self::Single => "single",
            Self::Degrading => "degrading",
        })
    }
}

/// Running servers. They end when dropped.
pub(crate) struct Origins {
    servers: Vec<(SocketAddr, Arc<Server>)>,
    _runtime: Runtime,
}

impl Origins {
    /// On a thread of their own.
    pub(crate) fn start(kind: Kind) -> Self {
        let mut runtime = runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let servers = (0..COUNT).map(|number| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            let server = Arc::new(Server::new(kind, u64::from(number)));
            runtime.spawn(accept(listener, Arc::clone(&server)));
            (address, server)
        });
        Self {
            servers: servers.collect(),
            _runtime: runtime,
        }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().map(|&(address, _)| address)
    }

    /// The requests inside each server now, in line and in a slot.
    pub(crate) fn inside(&self) -> impl Iterator<Item = usize> {
        let inside = |(_, server): &(_, Arc<Server>)| server.inside.load(Ordering::Relaxed);
        self.servers.iter().map(inside)
    }
}

struct Server {
    kind: Kind,
    inside: AtomicUsize,
    slots: Semaphore,
    /// Since when each slot that is not taken has been free, by the timetable: a timer that fires late delays its own
    /// answer, but takes nothing from the capacity.
    free_since: Mutex<VecDeque<Instant>>,
    random: Mutex<Random>,
}

impl Server {
    fn new(kind: Kind, seed: u64) -> Self {
        let slots = usize::from(kind.slots());
        Self {
            kind,
            inside: AtomicUsize::new(0),
            slots: Semaphore::new(slots),
            free_since: Mutex::new(vec![Instant::now(); slots].into()),
            random: Mutex::new(Random::new(seed)),
        }
    }

    /// One request, from the end of the line to its answer.
    async fn work(&self) {
        let came = Instant::now();
        self.inside.fetch_add(1, Ordering::Relaxed);
        let slot = self.slots.acquire().await.unwrap();
        let free_since = self.free_since.lock().unwrap().pop_front().unwrap();
        let done = came.max(free_since) + self.service();
        sleep_until(done).await;
        self.free_since.lock().unwrap().push_back(done);
        drop(slot);
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Between half and one and a half of the mean.
    fn service(&self) -> Duration {
        let spread = 0.5 + self.random.lock().unwrap().share();
        let inside = self.inside.load(Ordering::Relaxed) as f64;
        let service = self.kind.service();
        service.mul_f64(spread * self.kind.slowdown(inside))
    }
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, Arc::clone(&server)));
    }
}

/// Answers requests without bodies, one after the other.
async fn serve(mut stream: TcpStream, server: Arc<Server>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        head.clear();
        let mut work = pin!(server.work());
        tokio::select! {
            () = &mut work => {}
            // Nothing is sent before the answer but the end of the connection.
            _ = stream.read_u8() => {
                drop(stream);
                work.await;
                return None;
            }
        }
        stream.write_all(ANSWER).await.ok()?;
    }
}
