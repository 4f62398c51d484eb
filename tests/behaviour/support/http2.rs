//! HTTP/2 clients: a real one, and one that writes frames as a test says.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;
use super::client::Stream;

/// A connection; its frames are moved by a task of its own.
pub struct Http2 {
    pub sender: SendRequest<Bytes>,
    /// Ends with the connection.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// A response as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Http2 {
    /// Prior knowledge, on a socket or over TLS.
    pub async fn over(stream: impl Stream + 'static) -> Self {
        Self::with(&h2::client::Builder::new(), stream).await
    }

    pub async fn with(builder: &h2::client::Builder, stream: impl Stream + 'static) -> Self {
        let handshake = timeout(PATIENCE, builder.handshake(stream))
            .await
            .expect("a handshake");
        let (sender, connection) = handshake.unwrap();
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    pub async fn open(address: std::net::SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Sends a head; `end` if nothing follows.
    pub async fn send(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.ready().await;
        self.sender.send_request(request, end).unwrap()
    }

    /// Waits for room for another stream.
    pub async fn ready(&mut self) {
        let sender = self.sender.clone();
        self.sender = timeout(PATIENCE, sender.ready())
            .await
            .expect("room for a stream")
            .unwrap();
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let (response, _) = self.send(get(path), true).await;
        answer(response).await.unwrap()
    }

    /// How the connection ends.
    pub async fn end(self) -> Result<(), h2::Error> {
        drop(self.sender);
        timeout(PATIENCE, self.connection)
            .await
            .expect("the connection ends")
            .unwrap()
    }
}

/// A GET of `http://test{path}`.
pub fn get(path: &str) -> Request<()> {
    request("GET", path).body(()).unwrap()
}

pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://test{path}"))
}

/// The whole of a response, windows opened as it comes.
pub async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = timeout(PATIENCE, response)
        .await
        .expect("a response")?
        .into_parts();
    let (bytes, trailers) = read(&mut body).await?;
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: bytes,
        trailers,
    })
}

/// The rest of a body.
pub async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = timeout(PATIENCE, body.data())
        .await
        .expect("more of the body")
    {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    let trailers = timeout(PATIENCE, body.trailers())
        .await
        .expect("trailers or none")?;
    Ok((bytes, trailers))
}

/// Sends a body piece by piece, as the windows open.
pub async fn upload(mut stream: SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|context| stream.poll_capacity(context));
        let Some(room) = timeout(PATIENCE, room).await.expect("room in a window") else {
            break;
        };
        let piece = body.split_to(room?.min(body.len()));
        let end = body.is_empty();
        stream.send_data(piece, end)?;
    }
    Ok(())
}

/// A client that writes frames byte by byte (RFC 9113 §4.1), fields without compression.
pub struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

impl Frames {
    /// Connects and sends the preface with empty settings.
    pub async fn open(address: std::net::SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn on(stream: TcpStream) -> Self {
        let mut frames = Self {
            stream,
            buffer: Vec::new(),
        };
        frames
            .stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    /// Sends a frame; the peer may be gone.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        let _ = self.stream.write_all(&frame).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.buffer.get(..9) {
                let length =
                    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                if self.buffer.len() >= 9 + length {
                    let frame: Vec<u8> = self.buffer.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
                    return Some(Frame {
                        kind: frame[3],
                        flags: frame[4],
                        stream,
                        payload: frame[9..].to_vec(),
                    });
                }
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
                .await
                .expect("a frame or the end");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// A field section: literals without indexing (RFC 7541 §6.2.2), no Huffman coding.
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte is enough for the length");
            section.push(u8::try_from(text.len()).unwrap());
            section.extend_from_slice(text.as_bytes());
        }
    }
    section
}
