//! Origins that do exactly what a test says, down to the byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A server on a free port. Dropped, it stops accepting and closes its connections.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<Request>,
    open: Vec<AbortHandle>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which connection of the origin it came on, from 0.
    pub connection: usize,
    /// Which request on that connection it is, from 0.
    pub number: usize,
    /// From the request line to the empty line, exclusively.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.line().split(' ').next().unwrap_or_default()
    }

    pub fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field, in order.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// The value of a field that must be there once.
    pub fn field(&self, name: &str) -> &str {
        let values = self.fields(name);
        assert_eq!(values.len(), 1, "`{name}` in:\n{}", self.head);
        values[0]
    }
}

/// The values of a field in a head, in order.
pub fn fields<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let split = |line: &'h str| line.split_once(':');
    let named = head
        .lines()
        .skip(1)
        .filter_map(split)
        .filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim()).collect()
}

impl Origin {
    /// Reads each request whole (`Content-Length` and chunked bodies) and writes what `answer` makes of it. An answer that
    /// is empty, or whose head says `Connection: close`, ends the connection.
    pub async fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::on(bound().await, answer)
    }

    /// The same on 127.0.0.1, 127.0.0.2 and so on, on one port for all of them: the servers of one name. Each answers
    /// `200 OK` with its address, or what `answer` makes of that and a request.
    pub async fn on_one_port<const N: usize>(
        answer: impl Fn(SocketAddr, &Request) -> Vec<u8> + Clone + Send + Sync + 'static,
    ) -> [Self; N] {
        let sockets = 'port: loop {
            let first = bound().await;
            let port = first.local_addr().unwrap().port();
            let mut sockets = vec![first];
            for number in 2..=N {
                let address = SocketAddr::from(([127, 0, 0, number as u8], port));
                match TcpListener::bind(address).await {
                    Ok(socket) => sockets.push(socket),
                    // Somebody else's.
                    Err(_) => continue 'port,
                }
            }
            break sockets;
        };
        let origins = sockets.into_iter().map(|socket| {
            let (answer, address) = (answer.clone(), socket.local_addr().unwrap());
            Self::on(socket, move |request| answer(address, request))
        });
        let Ok(origins) = origins.collect::<Vec<_>>().try_into() else {
            unreachable!("as many as sockets")
        };
        origins
    }

    fn on(
        socket: TcpListener,
        answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::serve(socket, move |mut stream, connection, seen| {
            let answer = Arc::clone(&answer);
            async move { converse(&mut stream, connection, |_, request| answer(request), seen).await }
        })
    }

    /// The same over TLS. `answer` sees the session too, and may close it by an empty answer.
    pub async fn secured(
        settings: ServerConfig,
        answer: impl Fn(&mut ServerConnection, &Request) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(settings));
        let answer = Arc::new(answer);
        Self::serve(bound().await, move |stream, connection, seen| {
            let (answer, acceptor) = (Arc::clone(&answer), acceptor.clone());
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let answer = |stream: &mut TlsStream<TcpStream>, request: &Request| {
                    answer(stream.get_mut().1, request)
                };
                converse(&mut stream, connection, answer, seen).await;
                let _ = stream.shutdown().await;
            }
        })
    }

    /// Answers every request with these bytes.
    pub async fn always(bytes: &'static str) -> Self {
        Self::start(move |_| bytes.as_bytes().to_vec()).await
    }

    /// Answers `200 OK` with this text.
    pub async fn text(text: &'static str) -> Self {
        Self::start(move |_| ok(text)).await
    }

    /// Does with each connection whatever `handle` does: `handle(stream, number of the connection)`.
    pub async fn raw<F>(handle: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::serve(bound().await, move |stream, number, _| {
            handle(stream, number)
        })
    }

    fn serve<F>(
        socket: TcpListener,
        handle: impl Fn(TcpStream, usize, Box<dyn Fn(Request) + Send + Sync>) -> F
        + Send
        + Sync
        + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = socket.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let known = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = socket.accept().await else {
                    continue;
                };
                let number = known.lock().unwrap().connections;
                let note = Arc::clone(&known);
                let task = tokio::spawn(handle(
                    stream,
                    number,
                    Box::new(move |request| note.lock().unwrap().requests.push(request)),
                ));
                let mut known = known.lock().unwrap();
                known.connections += 1;
                known.open.push(task.abort_handle());
            }
        })
        .abort_handle();
        Self {
            address,
            seen,
            task,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Requests answered so far (not those of [`Origin::raw`]).
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// The last request.
    pub fn last(&self) -> Request {
        self.requests().last().expect("a request came").clone()
    }
}

/// Reads requests and writes what `answer` makes of them.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    connection: usize,
    answer: impl Fn(&mut S, &Request) -> Vec<u8>,
    seen: Box<dyn Fn(Request) + Send + Sync>,
) {
    let mut buffer = Vec::new();
    let mut number = 0;
    while let Some((head, body)) = read_request(stream, &mut buffer).await {
        let request = Request {
            connection,
            number,
            head,
            body,
        };
        number += 1;
        let bytes = answer(stream, &request);
        seen(request);
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).to_ascii_lowercase();
        let close = bytes.is_empty()
            || head
                .split("\r\n\r\n")
                .next()
                .unwrap_or_default()
                .contains("connection: close");
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() || close {
            break;
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
        for open in &self.seen.lock().unwrap().open {
            open.abort();
        }
    }
}

/// A free port of 127.0.0.1.
async fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// `200 OK` with a body of known length.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads one request; `None` at the end of the stream. `buffer` keeps what came behind it.
pub async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let chunked = fields(&head, "transfer-encoding")
        .iter()
        .any(|value| value.eq_ignore_ascii_case("chunked"));
    let length = fields(&head, "content-length")
        .first()
        .map_or(0, |length| length.parse().unwrap());
    if chunked {
        let end = loop {
            if buffer.starts_with(b"0\r\n\r\n") {
                break 0;
            }
            if let Some(end) = find(buffer, b"\r\n0\r\n")
                && let Some(last) = find(&buffer[end..], b"\r\n\r\n")
            {
                break end + last - 1;
            }
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        };
        let body = buffer.drain(..end + 5).collect();
        return Some((head, body));
    }
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some((head, body))
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
