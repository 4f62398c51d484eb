//! Clients, and weir's data plane between them and the servers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::random::Random;
use super::story::Outcome;
use super::world::World;
use crate::listen::http1::workbench::Workbench;
use crate::listen::http1::{self, Rules, Wire};
use crate::proxy::Proxy;
use crate::proxy::client::Client;
use crate::proxy::fields::Parts;
use crate::upstream::simulated::Socket;

/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(400);
/// Clients that keep their cookies.
const USERS: u64 = 40;

/// All clients.
pub(super) struct Clients {
    world: Rc<World>,
    proxy: Rc<Proxy>,
    random: Random,
    idle: RefCell<Vec<Socket>>,
    cookies: RefCell<HashMap<u64, String>>,
}

/// A request as a client means it.
struct Wish {
    number: usize,
    head: bool,
    bytes: Vec<u8>,
    /// Sent a little later.
    rest: Vec<u8>,
    user: u64,
}

impl Clients {
    pub(super) fn new(world: &Rc<World>, proxy: Rc<Proxy>) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::clone(world),
            proxy,
            random: Random::new(world.setting.seed, 2),
            idle: RefCell::default(),
            cookies: RefCell::default(),
        })
    }

    /// How long it is until the next request.
    pub(super) fn pause(&self, mean: Duration) -> Duration {
        self.random.around(mean)
    }

    /// Sends a request and waits for what comes of it: its number, and that.
    pub(super) async fn ask(&self) -> (usize, Outcome) {
        let wish = self.wish();
        let number = wish.number;
        let patience = if self.random.chance(1) {
            self.random.millis(1, 100)
        } else {
            PATIENCE
        };
        let socket = self.idle.borrow_mut().pop();
        let socket = socket.unwrap_or_else(|| self.connect());
        match timeout(patience, self.exchange(socket, wish)).await {
            Ok(outcome) => (number, outcome),
            Err(_) if patience < PATIENCE => (number, Outcome::Abandoned),
            Err(_) => (number, Outcome::Never),
        }
    }

    fn wish(&self) -> Wish {
        let method = match self.random.below(100) {
            0..12 => Method::POST,
            12..20 => Method::HEAD,
            _ => Method::GET,
        };
        let number = self.world.begin(method.clone());
        let user = self.random.below(USERS);
        let cookies = self.cookies.borrow();
        let cookie = cookies
            .get(&user)
            .map_or(String::new(), |cookie| format!("cookie: {cookie}\r\n"));
        let (length, body) = if method == Method::POST {
            let body = "b".repeat(self.random.between(1, 3000) as usize);
            (format!("content-length: {}\r\n", body.len()), body)
        } else {
            (String::new(), String::new())
        };
        let head =
            format!("{method} /r/{number} HTTP/1.1\r\nhost: a.example\r\n{cookie}{length}\r\n");
        let (bytes, rest) = if self.random.chance(50) {
            (head.into_bytes(), body.into_bytes())
        } else {
            ((head + &body).into_bytes(), Vec::new())
        };
        Wish {
            number,
            head: method == Method::HEAD,
            bytes,
            rest,
            user,
        }
    }

    /// A connection that weir serves.
    fn connect(&self) -> Socket {
        let (ours, theirs) = Socket::pair();
        let (world, proxy) = (Rc::clone(&self.world), Rc::clone(&self.proxy));
        let task = spawn_local(async move {
            let local = proxy.local();
            let listener = local.state.listener(0).expect("there is one").clone();
            let client = Rc::new(Client::new(
                SocketAddr::from(([127, 0, 0, 1], 1)),
                &listener,
                proxy.metrics.listener(&listener.name),
                proxy.deadlines.deadline(),
            ));
            let stream = Connection {
                socket: theirs,
                client: Rc::clone(&client),
            };
            let bench = Rc::new(Workbench::new());
            let wire = Rc::new(Wire::new((&proxy, &client, &bench), stream, Bytes::new()));
            let answer = |request: Parts, body| {
                let number = request.uri.path().strip_prefix("/r/");
                let number = number.and_then(|number| number.parse().ok());
                world.reached_weir(number.expect("clients number their requests"));
                Rc::clone(&proxy).handle(Rc::clone(&client), request, body)
            };
            let rules = Rules::from(&listener.limits);
            http1::serve(&wire, rules, answer).await;
            drop(wire);
            world.task_ended(tokio::task::id());
        });
        drop(task);
        ours
    }

    async fn exchange(&self, mut socket: Socket, wish: Wish) -> Outcome {
        let _ = socket.try_write(&wish.bytes);
        if !wish.rest.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let _ = socket.try_write(&wish.rest);
        }
        let mut bytes = Vec::new();
        let (length, mut answer) = loop {
            if let Some(read) = read_head(&bytes) {
                break read;
            }
            if !more(&mut socket, &mut bytes).await {
                return Outcome::Nothing;
            }
        };
        if let Some(cookie) = answer.cookie.take() {
            self.cookies.borrow_mut().insert(wish.user, cookie);
        }
        let body = loop {
            let rest = &bytes[length..];
            if wish.head {
                break rest.to_vec();
            }
            match answer.length {
                Some(length) if rest.len() >= length => break rest.to_vec(),
                None if rest.ends_with(b"0\r\n\r\n") => break dechunked(rest),
                _ => {}
            }
            if !more(&mut socket, &mut bytes).await {
                return Outcome::Broken;
            }
        };
        let right = if wish.head {
            body.is_empty()
        } else {
            let text = String::from_utf8_lossy(&body);
            text.split(' ').next() == Some(&wish.number.to_string())
        };
        if !answer.last {
            self.idle.borrow_mut().push(socket);
        }
        Outcome::Response {
            status: answer.status,
            error: answer.error,
            right,
        }
    }
}

/// The head of a response, as far as clients look at it.
struct Answer {
    status: StatusCode,
    /// `None`: chunked.
    length: Option<usize>,
    error: Option<String>,
    cookie: Option<String>,
    last: bool,
}

async fn more(socket: &mut Socket, bytes: &mut Vec<u8>) -> bool {
    let mut piece = [0; 4096];
    socket.readable().await;
    let read = socket.try_read(&mut piece).unwrap_or(0);
    bytes.extend_from_slice(&piece[..read]);
    read > 0
}

fn read_head(bytes: &[u8]) -> Option<(usize, Answer)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(bytes).expect("weir sends heads")
    else {
        return None;
    };
    let field = |name: &str| {
        let found = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let status = StatusCode::from_u16(response.code?).expect("weir sends a status");
    let answer = Answer {
        status,
        length: field("content-length").map(|length| length.parse().expect("a length")),
        error: field("proxy-status"),
        cookie: field("set-cookie").map(|cookie| cookie.split(';').take(1).collect()),
        last: field("connection").is_some_and(|option| option == "close"),
    };
    Some((length, answer))
}

fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = memchr::memmem::find(bytes, b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 4 + size..];
    }
    body
}

/// weir's end of a client connection; tells the client's clocks what they need, as a listener's stream does.
struct Connection {
    socket: Socket,
    client: Rc<Client>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        self.client.bytes_read(buffer.filled().len() - before);
        Poll::Ready(result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.client.bytes_written(bytes.len());
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.client.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
