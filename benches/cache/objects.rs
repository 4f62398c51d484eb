//! Many objects of very different lengths, and an origin that has them all.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tokio::io::{self, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::origin::{listen, request};
use crate::random::Random;

const SHORTEST: f64 = 100.0;
const LONGEST: f64 = 8.0 * 1024.0 * 1024.0;

/// Where the bodies are cut from; long enough for each to begin elsewhere.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    let more = std::iter::repeat_with(|| (random.share() * 256.0) as u8);
    more.take(LONGEST as usize + OFFSETS).collect()
});
const OFFSETS: usize = 64 * 1024;

/// A Pareto distribution with exponent one half, cut off at both ends: the mean is 28 KiB, and one object in two hundred
/// is longer than 1 MiB. Evenly spread logarithms would make a terabyte of what is asked for.
pub(crate) fn length(object: u64) -> usize {
    let share = Random::new(object).share();
    let tail = 1.0 - share * (1.0 - (SHORTEST / LONGEST).sqrt());
    (SHORTEST / (tail * tail)) as usize
}

pub(crate) fn body(object: u64) -> &'static [u8] {
    let start = (Random::new(object + 1).share() * OFFSETS as f64) as usize;
    &BYTES[start..start + length(object)]
}

/// A running origin. It ends when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Origin {
    /// On a thread of its own.
    pub(crate) fn start(address: SocketAddr) -> Self {
        LazyLock::force(&BYTES);
        let requests = Arc::default();
        let counted = Arc::clone(&requests);
        let (address, runtime) = listen(address, move |stream| serve(stream, Arc::clone(&counted)));
        Self {
            address,
            requests,
            _runtime: runtime,
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Answers `GET /NUMBER`, one request after the other.
async fn serve(mut stream: TcpStream, requests: Arc<AtomicU64>) -> io::Result<()> {
    while let Some(head) = request(&mut stream).await? {
        let target = str::from_utf8(&head).unwrap().split(' ').nth(1).unwrap();
        let object = target.trim_start_matches('/').parse().unwrap();
        requests.fetch_add(1, Ordering::Relaxed);
        let body = body(object);
        let fields = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: max-age=3600\r\n\
             ETag: \"{object}\"\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(fields.as_bytes()).await?;
        stream.write_all(body).await?;
    }
    Ok(())
}
