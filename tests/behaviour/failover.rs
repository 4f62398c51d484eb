//! A server that fails before it has begun to answer: another takes over where that is safe, and the client learns what
//! went wrong where it is not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::origin::{ok, read_request};
use crate::support::{Connection, Origin, Response, Weir, eventually};

/// An address where every connection is refused, for as long as this lives.
struct Refusing(Socket);

impl Refusing {
    fn new() -> Self {
        Self(bound())
    }
}

/// An address where no connection is ever established: its queue is full.
struct Silent {
    socket: Socket,
    _waiting: Vec<Socket>,
}

impl Silent {
    fn new() -> Self {
        let socket = bound();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap();
        let waiting = (0..8).map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
            client
        });
        Self {
            _waiting: waiting.collect(),
            socket,
        }
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket
}

fn address(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

fn config(servers: &[SocketAddr], upstream: &str) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("\"{server}\""))
        .collect();
    format!(
        "[process]\nworkers = 1\n[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [{}]\n{upstream}\n",
        servers.join(", ")
    )
}

async fn send(weir: &Weir, request: &str) -> Response {
    let mut client = weir.connect().await;
    client.send(request).await;
    client.response().await
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// Reads each request and closes without a word.
async fn dying() -> Origin {
    Origin::raw(|mut stream: TcpStream, _| async move {
        read_request(&mut stream, &mut Vec::new()).await;
    })
    .await
}

/// Nothing was sent, so nothing can be done twice.
#[tokio::test]
async fn a_refused_connection_moves_on_with_any_method() {
    let (refusing, origin) = (Refusing::new(), Origin::text("alive").await);
    let weir = Weir::start(&config(&[address(&refusing.0), origin.address()], "")).await;
    for request in [GET, POST, CHUNKED, GET, POST, CHUNKED] {
        assert_eq!(send(&weir, request).await.text(), "alive", "{request}");
    }
    assert_eq!(origin.requests().len(), 6);
    let bodies: Vec<_> = origin
        .requests()
        .into_iter()
        .filter(|request| request.method() == "POST")
        .map(|request| request.body)
        .collect();
    assert!(
        bodies
            .iter()
            .all(|body| body.ends_with(b"hello") || body == b"5\r\nhello\r\n0\r\n\r\n")
    );
    assert!(
        weir.metric("weir_upstream_retries_total{upstream=\"app\",reason=\"connect\"}")
            .await
            >= 3.0
    );
}

/// What `retry.on` does not name is the client's answer.
#[tokio::test]
async fn only_failures_that_the_operator_names_move_on() {
    let (refusing, alive) = (Refusing::new(), Origin::text("alive").await);
    let dying = dying().await;
    let (refusing, dying) = (address(&refusing.0), dying.address());
    for (server, on, expected) in [
        (refusing, "connect", [200, 200]),
        (refusing, "reset", [200, 502]),
        (dying, "reset", [200, 200]),
        (dying, "connect", [200, 502]),
    ] {
        let keys = format!("retry.on = [\"{on}\"]");
        let weir = Weir::start(&config(&[server, alive.address()], &keys)).await;
        let mut statuses = [weir.get("/").await.status, weir.get("/").await.status];
        statuses.sort_unstable();
        assert_eq!(statuses, expected, "{on}");
    }
}

#[tokio::test]
async fn when_all_refuse_the_client_is_told() {
    let refusing: Vec<_> = (0..3).map(|_| Refusing::new()).collect();
    let addresses: Vec<_> = refusing
        .iter()
        .map(|refusing| address(&refusing.0))
        .collect();
    let weir = Weir::start(&config(&addresses, "")).await;
    for request in [GET, POST] {
        let response = send(&weir, request).await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (502, "weir; error=connection_refused")
        );
    }
}

#[tokio::test]
async fn a_server_that_dies_before_it_answers_costs_no_get() {
    let (dying, origin) = (dying().await, Origin::text("alive").await);
    let weir = Weir::start(&config(&[dying.address(), origin.address()], "")).await;
    for _ in 0..6 {
        assert_eq!(weir.get("/").await.text(), "alive");
    }
    assert_eq!(origin.requests().len(), 6);
    assert!(dying.connections() >= 3, "{}", dying.connections());
}

#[tokio::test]
async fn a_post_is_not_sent_again() {
    let (dying, origin) = (dying().await, Origin::text("alive").await);
    let weir = Weir::start(&config(&[dying.address(), origin.address()], "")).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let response = send(&weir, POST).await;
        if response.status == 502 {
            assert_eq!(
                response.field("proxy-status"),
                "weir; error=connection_terminated"
            );
        }
        statuses.push(response.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!((origin.requests().len(), dying.connections()), (2, 2));
}

/// The client has seen nothing of it.
#[tokio::test]
async fn half_a_head_is_as_good_as_none() {
    let origin = Origin::raw(|mut stream: TcpStream, _| async move {
        read_request(&mut stream, &mut Vec::new()).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConte").await.unwrap();
    })
    .await;
    let other = Origin::text("alive").await;
    let weir = Weir::start(&config(&[origin.address(), other.address()], "")).await;
    for _ in 0..2 {
        assert_eq!(weir.get("/").await.text(), "alive");
    }
    assert_eq!((origin.connections(), other.requests().len()), (1, 2));
}

/// The only server that is up gets the second try too: there is no better one, and no reason to say that none is there.
#[tokio::test]
async fn without_another_server_the_same_one_is_tried_once_more() {
    let origin = Origin::raw(|mut stream: TcpStream, _| async move {
        let Some((head, _)) = read_request(&mut stream, &mut Vec::new()).await else {
            return;
        };
        // Dies at every other request.
        if head.contains("/die") && ODD.fetch_xor(true, std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let _ = stream.write_all(&ok("alive")).await;
    })
    .await;
    let refusing = Refusing::new();
    let check = "[upstream.app.health_check]\ntype = \"tcp\"\nfall = 1\ninterval = \"100ms\"";
    let weir = Weir::start(&config(&[origin.address(), address(&refusing.0)], check)).await;
    let down = format!(
        "weir_server_up{{upstream=\"app\",server=\"{}\"}}",
        address(&refusing.0)
    );
    eventually(async || weir.metric(&down).await, |up| *up == 0.0).await;
    for _ in 0..3 {
        let response = weir.get("/die").await;
        assert_eq!((response.status, response.text().as_str()), (200, "alive"));
    }
}

static ODD: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_a_504() {
    let silent = Silent::new();
    let weir = Weir::start(&config(
        &[address(&silent.socket)],
        "connect_timeout = \"300ms\"",
    ))
    .await;
    let began = Instant::now();
    let response = send(&weir, GET).await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (504, "weir; error=connection_timeout")
    );
    assert!(
        (300..3000).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_does_not_take_connections_is_passed_over() {
    let (silent, origin) = (Silent::new(), Origin::text("alive").await);
    let weir = Weir::start(&config(
        &[address(&silent.socket), origin.address()],
        "connect_timeout = \"200ms\"",
    ))
    .await;
    for request in [GET, POST] {
        assert_eq!(send(&weir, request).await.text(), "alive");
    }
}

/// The route's time is for everything, connecting included.
#[tokio::test]
async fn the_timeout_of_a_route_ends_a_connect() {
    let silent = Silent::new();
    let config = config(&[address(&silent.socket)], "connect_timeout = \"60s\"")
        .replace("[route.site]\n", "[route.site]\ntimeout = \"300ms\"\n");
    let weir = Weir::start(&config).await;
    let response = send(&weir, GET).await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (504, "weir; error=http_response_timeout")
    );
}

#[tokio::test]
async fn an_address_that_no_route_leads_to_is_named_as_such() {
    // TCP to a multicast group is refused by the kernel.
    let weir = Weir::start(&config(&["224.0.0.1:80".parse().unwrap()], "")).await;
    let response = send(&weir, GET).await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (502, "weir; error=destination_ip_unroutable")
    );
}

/// A server that is slow may be working on it: a second one must not begin as well.
#[tokio::test]
async fn a_response_timeout_is_not_tried_again() {
    let origin = Origin::raw(|mut stream: TcpStream, _| async move {
        read_request(&mut stream, &mut Vec::new()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let other = Origin::text("alive").await;
    let weir = Weir::start(&config(
        &[origin.address(), other.address()],
        "response_timeout = \"300ms\"",
    ))
    .await;
    let mut client = Connection::open(weir.address()).await;
    // The client's connection is as good afterwards as before.
    let mut statuses = [client.get("/").await.status, client.get("/").await.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
    assert_eq!((origin.connections(), other.requests().len()), (1, 1));
}
