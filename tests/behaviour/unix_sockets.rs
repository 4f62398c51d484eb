//! Servers behind unix sockets.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::support::origin::{fields, ok, read_request};
use super::support::{Weir, eventually};

/// A folder for a socket, and the heads of the requests that came on each connection.
struct App {
    folder: TempDir,
    heads: Arc<Mutex<Vec<(usize, String)>>>,
}

impl App {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            heads: Arc::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    fn bind(&self) -> UnixListener {
        let _ = std::fs::remove_file(self.path());
        UnixListener::bind(self.path()).unwrap()
    }

    /// Serves `answers` requests on each connection, then reads another and closes without a word. The body tells the
    /// number of the connection.
    fn serve(&self, answers: usize) -> JoinHandle<()> {
        let socket = self.bind();
        let heads = Arc::clone(&self.heads);
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = socket.accept().await.unwrap();
                tokio::spawn(converse(stream, number, answers, Arc::clone(&heads)));
            }
        })
    }

    fn config(&self, keys: &str) -> String {
        format!(
            "[process]\nworkers = 1\n[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
             [upstream.app]\nservers = [\"unix:{}\"]\n{keys}\n",
            self.path().display()
        )
    }

    fn connections(&self) -> usize {
        let heads = self.heads.lock().unwrap();
        heads
            .iter()
            .map(|(number, _)| number + 1)
            .max()
            .unwrap_or(0)
    }
}

async fn converse(
    mut stream: UnixStream,
    number: usize,
    answers: usize,
    heads: Arc<Mutex<Vec<(usize, String)>>>,
) {
    let mut buffer = Vec::new();
    for _ in 0..answers {
        let Some((head, body)) = read_request(&mut stream, &mut buffer).await else {
            return;
        };
        heads.lock().unwrap().push((number, head));
        let answer = if body.is_empty() {
            ok(number.to_string())
        } else {
            ok(body)
        };
        stream.write_all(&answer).await.unwrap();
    }
    read_request(&mut stream, &mut buffer).await;
}

async fn until(weir: &Weir, state: &str) -> String {
    let server = async || weir.status().await["upstreams"][0]["servers"][0].clone();
    let server = eventually(server, |server| server["state"] == state).await;
    server["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn requests_go_to_the_socket_and_its_connection_is_kept() {
    let app = App::new();
    app.serve(100);
    let weir = Weir::start(&app.config("")).await;
    for _ in 0..5 {
        assert_eq!(weir.get("/").await.text(), "0");
    }
    assert_eq!(app.connections(), 1);
    let large = "x".repeat(1 << 20);
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    assert_eq!(weir.ask(&request).await.text(), large);
    let address = format!("unix:{}", app.path().display());
    let status = weir.status().await;
    assert_eq!(status["upstreams"][0]["servers"][0]["address"], *address);
    let series = format!(
        "weir_upstream_requests_total{{upstream=\"app\",server=\"{address}\",outcome=\"ok\"}}"
    );
    assert_eq!(weir.metric(&series).await, 6.0);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_silently() {
    let app = App::new();
    app.serve(1);
    let weir = Weir::start(&app.config("")).await;
    for expected in ["0", "1", "2"] {
        assert_eq!(weir.get("/").await.text(), expected);
    }
}

#[tokio::test]
async fn a_server_that_makes_its_socket_anew_is_found_again() {
    let app = App::new();
    let first = app.serve(1);
    let weir = Weir::start(&app.config("")).await;
    assert_eq!(weir.get("/").await.status, 200);
    first.abort();
    let _ = first.await;
    app.serve(100);
    assert_eq!(weir.get("/").await.status, 200);
}

#[tokio::test]
async fn the_host_of_a_socket_is_localhost() {
    let app = App::new();
    app.serve(100);
    let weir =
        Weir::start(&app.config("host_header = \"server\"\nhealth_check = { interval = \"1h\" }"))
            .await;
    until(&weir, "up").await;
    assert_eq!(weir.get("/traffic").await.status, 200);
    let heads = app.heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    for (_, head) in heads.iter() {
        assert_eq!(fields(head, "host"), ["localhost"], "{head}");
    }
}

#[tokio::test]
async fn checks_work_over_the_socket_and_say_what_is_wrong_with_it() {
    for kind in ["http", "tcp"] {
        let app = App::new();
        let keys = format!(
            "health_check = {{ type = \"{kind}\", interval = \"100ms\", fast_interval = \"50ms\", rise = 1, fall = 1 }}"
        );
        let weir = Weir::start(&app.config(&keys)).await;
        assert_eq!(until(&weir, "down").await, "no such socket");
        let response = weir.get("/").await;
        assert_eq!(
            (response.status, response.field("proxy-status")),
            (502, "weir; error=connection_refused")
        );
        let server = app.serve(100);
        assert_eq!(until(&weir, "up").await, "");
        assert_eq!(weir.get("/").await.status, 200);
        server.abort();
        assert_eq!(until(&weir, "down").await, "connection refused");
    }
}

#[tokio::test]
async fn a_grpc_check_works_over_the_socket() {
    let app = App::new();
    let socket = app.bind();
    tokio::spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().authority().unwrap(), "localhost");
            let response = http::Response::builder().header("grpc-status", "14");
            respond
                .send_response(response.body(()).unwrap(), true)
                .unwrap();
        }
    });
    let weir =
        Weir::start(&app.config("health_check = { type = \"grpc\", interval = \"1h\", fall = 1 }"))
            .await;
    assert_eq!(until(&weir, "down").await, "grpc status 14");
}

/// A full queue refuses a connection at once; weir waits for room as it would over TCP.
#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let app = App::new();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&socket2::SockAddr::unix(app.path()).unwrap())
        .unwrap();
    socket.listen(0).unwrap();
    let waiting = UnixStream::connect(app.path()).await.unwrap();
    assert_eq!(
        UnixStream::connect(app.path()).await.unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    let weir = Weir::start(&app.config("connect_timeout = \"300ms\"")).await;
    let response = weir.get("/").await;
    assert_eq!(
        (response.status, response.field("proxy-status")),
        (504, "weir; error=connection_timeout")
    );
    socket.set_nonblocking(true).unwrap();
    let socket = UnixListener::from_std(std::os::unix::net::UnixListener::from(
        std::os::fd::OwnedFd::from(socket),
    ))
    .unwrap();
    drop(waiting);
    let client = weir.get("/");
    let (response, ()) = tokio::join!(client, async {
        for number in 0..2 {
            let (stream, _) = socket.accept().await.unwrap();
            tokio::spawn(converse(stream, number, 1, Arc::clone(&app.heads)));
        }
    });
    assert_eq!(response.text(), "1");
}

#[tokio::test]
async fn a_socket_that_may_not_be_opened_is_no_server_that_is_gone() {
    let app = App::new();
    let _socket = app.bind();
    std::fs::set_permissions(app.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::os::unix::net::UnixStream::connect(app.path()).is_ok() {
        return; // root may do everything
    }
    let weir = Weir::start(&app.config("health_check = { interval = \"1h\", fall = 1 }")).await;
    assert_eq!(until(&weir, "down").await, "permission denied");
    assert_eq!(weir.get("/").await.status, 502);
}
