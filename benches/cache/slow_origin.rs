//! An origin that takes its time: two seconds for the head of a response, and another one for its body, in pieces.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{self, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::origin::{listen, request};

pub(crate) const DELAY: Duration = Duration::from_secs(2);

const PIECES: usize = 10;
const PIECE: usize = 8 * 1024;
pub(crate) const BODY: usize = PIECES * PIECE;
const BETWEEN: Duration = Duration::from_millis(100);

/// Its length is not told before.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=60\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

/// The body of every response.
pub(crate) fn body() -> Vec<u8> {
    (0..PIECES).flat_map(piece).collect()
}

fn piece(number: usize) -> Vec<u8> {
    let line = format!("piece {number}\n");
    line.bytes().cycle().take(PIECE).collect()
}

/// What became of one request.
#[derive(Default, Clone, Copy)]
pub(crate) struct Answer {
    /// When the first byte was written, and the last.
    pub(crate) began: Option<Instant>,
    pub(crate) ended: Option<Instant>,
}

/// A running origin. It ends when dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<Vec<Answer>>>,
    _runtime: Runtime,
}

impl Origin {
    /// On a thread of its own.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let answers = Arc::default();
        let told = Arc::clone(&answers);
        let (address, runtime) = listen(address, move |stream| serve(stream, Arc::clone(&told)));
        Self {
            address,
            answers,
            _runtime: runtime,
        }
    }

    /// All requests so far.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Mutex<Vec<Answer>>>) -> io::Result<()> {
    while request(&mut stream).await?.is_some() {
        let number = {
            let mut answers = answers.lock().unwrap();
            answers.push(Answer::default());
            answers.len() - 1
        };
        sleep(DELAY).await;
        answers.lock().unwrap()[number].began = Some(Instant::now());
        stream.write_all(HEAD).await?;
        for number in 0..PIECES {
            sleep(if number == 0 { Duration::ZERO } else { BETWEEN }).await;
            let size = format!("{PIECE:x}\r\n");
            let framed = [size.as_bytes(), &piece(number), b"\r\n"].concat();
            stream.write_all(&framed).await?;
        }
        answers.lock().unwrap()[number].ended = Some(Instant::now());
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}
