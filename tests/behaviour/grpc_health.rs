//! Health checks by the health service of gRPC servers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::TcpListener;

use super::support::{Origin, Weir};

/// What a server does with a check.
#[derive(Clone)]
enum Answer {
    /// A message with this `status`, then `grpc-status: 0` in trailers.
    Serving(u8),
    /// `grpc-status` in the head, and no body.
    TrailersOnly(&'static str),
    /// No gRPC at all.
    Status(u16),
    /// A message, and a stream that ends without trailers.
    NoTrailers,
    Silence,
}

/// The heads and bodies of the checks that came.
type Checks = Arc<Mutex<Vec<(Request<()>, Vec<u8>)>>>;

/// A gRPC server with a health service whose answer can be changed.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    checks: Checks,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            checks: Arc::default(),
        };
        let (answer, checks) = (Arc::clone(&server.answer), Arc::clone(&server.checks));
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                let (answer, checks) = (Arc::clone(&answer), Arc::clone(&checks));
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let answer = answer.lock().unwrap().clone();
                        let checks = Arc::clone(&checks);
                        tokio::spawn(serve(request, respond, answer, checks));
                    }
                });
            }
        });
        server
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    answer: Answer,
    checks: Checks,
) {
    let (head, mut body) = request.into_parts();
    let (question, _) = super::support::http2::read(&mut body).await.unwrap();
    checks
        .lock()
        .unwrap()
        .push((Request::from_parts(head, ()), question));
    let head = |status: u16| {
        Response::builder()
            .status(status)
            .header("content-type", "application/grpc")
    };
    match answer {
        Answer::Serving(status) => {
            let response = head(200).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, status]);
            stream.send_data(message, false).unwrap();
            let trailers = [("grpc-status", "0"), ("grpc-message", "fine")];
            let trailers = trailers
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            stream
                .send_trailers(HeaderMap::from_iter(trailers))
                .unwrap();
        }
        Answer::TrailersOnly(code) => {
            let response = head(200).header("grpc-status", code).body(()).unwrap();
            respond.send_response(response, true).unwrap();
        }
        Answer::Status(status) => {
            respond
                .send_response(head(status).body(()).unwrap(), true)
                .unwrap();
        }
        Answer::NoTrailers => {
            let response = head(200).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            let message = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
            stream.send_data(message, true).unwrap();
        }
        Answer::Silence => std::future::pending().await,
    }
}

fn config(servers: &[SocketAddr], keys: &str) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|server| format!("\"{server}\""))
        .collect();
    format!(
        "[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [{}]\n\
         health_check = {{ type = \"grpc\", interval = \"150ms\", fast_interval = \"100ms\", timeout = \"2s\", fall = 1, rise = 1, {keys} }}\n",
        servers.join(", ")
    )
}

#[tokio::test]
async fn a_server_is_up_while_its_health_service_says_serving() {
    let server = Server::start(Answer::Serving(1)).await;
    let weir = Weir::start(&config(&[server.address], "")).await;
    for (answer, reason) in [
        (Answer::Serving(2), "not serving"),
        (Answer::Serving(0), "not serving"),
        (Answer::Serving(3), "unknown service"),
        (Answer::TrailersOnly("5"), "unknown service"),
        (Answer::TrailersOnly("14"), "grpc status 14"),
        (Answer::TrailersOnly("0"), "not a gRPC response"),
        (Answer::Status(404), "status 404"),
        (Answer::NoTrailers, "not a gRPC response"),
    ] {
        weir.until_server_is(server.address, "up").await;
        server.set(answer);
        assert_eq!(weir.until_server_is(server.address, "down").await, reason);
        server.set(Answer::Serving(1));
    }
    weir.until_server_is(server.address, "up").await;
    let checks = server.checks.lock().unwrap();
    let (head, question) = &checks[0];
    assert_eq!(head.method(), "POST");
    assert_eq!(
        head.uri().to_string(),
        format!("http://{}/grpc.health.v1.Health/Check", server.address)
    );
    assert_eq!(head.headers()["content-type"], "application/grpc");
    assert_eq!(head.headers()["te"], "trailers");
    assert_eq!(question, &[0; 5], "no service: the whole server");
}

#[tokio::test]
async fn it_asks_for_the_service_of_the_path_with_the_host_and_fields_of_the_config() {
    let traffic = Origin::text("traffic").await;
    let server = Server::start(Answer::Serving(1)).await;
    let keys = format!(
        "path = \"/my.Service\", host = \"rpc.example\", headers = {{ x-probe = \"yes\" }}, port = {}",
        server.address.port()
    );
    let weir = Weir::start(&config(&[traffic.address()], &keys)).await;
    weir.until_server_is(traffic.address(), "up").await;
    assert_eq!(traffic.connections(), 0, "probes go to the other port");
    let checks = server.checks.lock().unwrap();
    let (head, question) = &checks[0];
    assert_eq!(head.uri().authority().unwrap(), "rpc.example");
    assert_eq!(head.headers()["x-probe"], "yes");
    assert_eq!(question, b"\0\0\0\0\x0c\x0a\x0amy.Service");
}

#[tokio::test]
async fn a_server_that_does_not_speak_grpc_says_so() {
    let silent = Server::start(Answer::Silence).await;
    let http1 = Origin::start(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let odd = Origin::raw(|mut stream, _| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    })
    .await;
    let hasty = Origin::raw(|stream, _| async move { drop(stream) }).await;
    let gone = Origin::text("gone").await;
    let servers = [
        silent.address,
        http1.address(),
        odd.address(),
        hasty.address(),
        gone.address(),
    ];
    drop(gone);
    let config = config(&servers, "").replace("\"2s\"", "\"300ms\"");
    let weir = Weir::start(&config).await;
    for (server, reason) in servers.into_iter().zip([
        "timed out after 300ms",
        "not an HTTP/2 response",
        "not an HTTP/2 response",
        "connection closed without a response",
        "connection refused",
    ]) {
        assert_eq!(weir.until_server_is(server, "down").await, reason);
    }
}
