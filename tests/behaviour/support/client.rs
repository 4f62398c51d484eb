//! A client that speaks HTTP/1.1 byte by byte, over any stream.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;
use super::origin::{fields, find};

/// A stream of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A client's connection.
pub struct Connection {
    pub stream: Box<dyn Stream>,
    pub buffer: Vec<u8>,
}

/// A response as it came.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// From the status line to the empty line, exclusively.
    pub head: String,
    /// Chunks put together.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: String,
    /// Whether the body came to its end by its own framing.
    pub complete: bool,
}

impl Response {
    pub fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// The value of a field that must be there once.
    pub fn field(&self, name: &str) -> &str {
        let values = self.fields(name);
        assert_eq!(values.len(), 1, "`{name}` in:\n{}", self.head);
        values[0]
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .expect("weir takes the bytes")
            .unwrap();
        timeout(PATIENCE, self.stream.flush())
            .await
            .expect("weir takes the bytes")
            .unwrap();
    }

    /// Sends a GET and reads its response; the connection stays open.
    pub async fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
        self.response().await
    }

    /// Reads one response to a request that is not a HEAD.
    pub async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads one response.
    pub async fn response_to(&mut self, method: &str) -> Response {
        let head = self.head().await;
        let status: u16 = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
            trailers: String::new(),
            complete: true,
        };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return response;
        }
        let length = response
            .fields("content-length")
            .first()
            .map(|length| length.parse::<usize>().unwrap());
        if let Some(length) = length {
            while self.buffer.len() < length && self.read().await {}
            response.complete = self.buffer.len() >= length;
            response.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else if response
            .fields("transfer-encoding")
            .iter()
            .any(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            self.chunks(&mut response).await;
        } else {
            while self.read().await {}
            response.body = std::mem::take(&mut self.buffer);
        }
        response
    }

    /// Reads up to the end of a head.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 4);
                return head;
            }
            assert!(
                self.read().await,
                "the connection ended before a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    async fn chunks(&mut self, response: &mut Response) {
        loop {
            let Some(end) = self.until(b"\r\n").await else {
                response.complete = false;
                return;
            };
            let line = String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                loop {
                    let Some(end) = self.until(b"\r\n").await else {
                        response.complete = false;
                        return;
                    };
                    let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                    if line == b"\r\n" {
                        return;
                    }
                    response
                        .trailers
                        .push_str(&String::from_utf8(line).unwrap());
                }
            }
            while self.buffer.len() < size + 2 {
                if !self.read().await {
                    response.complete = false;
                    response.body.append(&mut self.buffer);
                    return;
                }
            }
            response.body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
        }
    }

    async fn until(&mut self, wanted: &[u8]) -> Option<usize> {
        loop {
            if let Some(end) = find(&self.buffer, wanted) {
                return Some(end);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// Reads what is there; `false` at the end, clean or not.
    pub async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
            .await
            .expect("weir answers");
        read.is_ok_and(|read| read > 0)
    }

    /// Reads to the end of the connection and returns all that came.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether weir closes the connection, without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.rest().await.is_empty()
    }
}
