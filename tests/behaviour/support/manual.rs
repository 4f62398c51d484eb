//! An origin whose connections the test itself plays: it reads and writes when the test says so.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::PATIENCE;
use super::origin::{Origin, Request, find};

pub struct Manual {
    pub origin: Origin,
    accepted: UnboundedReceiver<(TcpStream, usize)>,
}

/// The server's end of one connection.
pub struct Server {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
    /// Which connection of the origin it is, from 0.
    pub number: usize,
}

impl Manual {
    pub async fn start() -> Self {
        let (sender, accepted) = unbounded_channel();
        let origin = Origin::raw(move |stream, number| {
            stream.set_nodelay(true).unwrap();
            let _ = sender.send((stream, number));
            std::future::ready(())
        })
        .await;
        Self { origin, accepted }
    }

    /// The next connection.
    pub async fn accept(&mut self) -> Server {
        let (stream, number) = timeout(PATIENCE, self.accepted.recv())
            .await
            .expect("weir connects")
            .unwrap();
        Server {
            stream,
            buffer: Vec::new(),
            number,
        }
    }

    /// The next connection and the head of its first request.
    pub async fn request(&mut self) -> (Server, Request) {
        let mut server = self.accept().await;
        let request = server.head().await;
        (server, request)
    }
}

impl Server {
    /// Reads the head of a request; what comes behind it stays in the buffer.
    pub async fn head(&mut self) -> Request {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
                return Request {
                    connection: self.number,
                    number: 0,
                    head: head.trim_end().to_owned(),
                    body: Vec::new(),
                };
            }
            assert!(
                self.read().await,
                "the connection ended before a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Reads what is there; `false` at the end, clean or not.
    pub async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
            .await
            .expect("weir sends or closes");
        read.is_ok_and(|read| read > 0)
    }

    /// Reads until there are `length` bytes and takes them.
    pub async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(
                self.read().await,
                "the connection ended after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
        self.buffer.drain(..length).collect()
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.buffer)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("weir takes the bytes")
            .unwrap();
    }

    /// Cuts the connection.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// What is there now, without waiting for more.
    pub fn peek(&mut self) -> &[u8] {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = self.stream.try_read(&mut bytes) {
            self.buffer.extend_from_slice(&bytes[..read]);
        }
        &self.buffer
    }
}
