//! Clients that take their responses slowly, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::http2::{
    END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, section,
};
use crate::support::origin::{ok, read_request};
use crate::support::tls::{Authority, handshake};
use crate::support::{Connection, Origin, PATIENCE, Weir, eventually};

/// An origin that answers with 100 MB, counts how much of it is taken, and tells when its peer is gone.
async fn endless() -> (Origin, Arc<AtomicUsize>, Arc<Notify>) {
    let (taken, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, tell) = (Arc::clone(&taken), Arc::clone(&gone));
    let origin = Origin::raw(move |mut stream, _| {
        let (taken, gone) = (Arc::clone(&count), Arc::clone(&tell));
        async move {
            let mut buffer = Vec::new();
            if read_request(&mut stream, &mut buffer).await.is_none() {
                return;
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
                .await
                .unwrap();
            let piece = vec![b'x'; 10_000];
            for _ in 0..10_000 {
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
                taken.fetch_add(piece.len(), Ordering::Relaxed);
            }
            gone.notify_one();
        }
    })
    .await;
    (origin, taken, gone)
}

/// A connection whose kernel takes little.
async fn narrow(weir: &Weir) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(weir.address()).await.unwrap()
}

fn stalling(origin: &Origin) -> String {
    Weir::config(&[origin], "").replace(
        "[listen.web]\n",
        "[listen.web]\nstall_timeout = \"500ms\"\n",
    )
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_left_and_its_server_freed() {
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    for tls in [false, true] {
        let (origin, taken, gone) = endless().await;
        let table = if tls {
            authority.table(&["test"], "")
        } else {
            String::new()
        };
        let weir = Weir::start(&format!("{}{table}", stalling(&origin))).await;
        let mut connection = if tls {
            Connection::over(
                handshake(&Arc::new(authority.client(&[])), weir.address(), "test")
                    .await
                    .unwrap(),
            )
        } else {
            Connection::over(narrow(&weir).await)
        };
        connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        timeout(PATIENCE, gone.notified())
            .await
            .expect("the server's connection ends");
        eventually(
            async || weir.metric("weir_connections{listen=\"web\"}").await,
            |&open| open == 0.0,
        )
        .await;
        assert!(
            taken.load(Ordering::Relaxed) < 30_000_000,
            "held back: {taken:?}"
        );
        let rest = connection.rest().await;
        assert!(rest.starts_with(b"HTTP/1.1 200 OK") && rest.len() < 30_000_000);
        let in_flight = format!(
            "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
            origin.address()
        );
        assert_eq!(weir.metric(&in_flight).await, 0.0);
    }
}

/// Windows wide open, but nobody reads the socket: all streams of the connection are stuck.
#[tokio::test]
async fn an_http_2_client_that_takes_nothing_is_left_and_its_servers_freed() {
    let (origin, taken, gone) = endless().await;
    let weir = Weir::start(&stalling(&origin)).await;
    let mut frames = Frames::on(narrow(&weir).await).await;
    frames
        .send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])
        .await;
    frames.send(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]).await;
    let head = section(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ]);
    for stream in [1, 3] {
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, stream, &head)
            .await;
    }
    for _ in 0..2 {
        timeout(PATIENCE, gone.notified())
            .await
            .expect("the server's connections end");
    }
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |&open| open == 0.0,
    )
    .await;
    assert!(
        taken.load(Ordering::Relaxed) < 30_000_000,
        "held back: {taken:?}"
    );
}

/// What ends a stream goes to h2 as soon as there is room for its first byte: one such piece may be left in a few streams,
/// not in all of them.
#[tokio::test]
async fn an_http_2_client_cannot_leave_the_last_piece_in_each_stream() {
    const STREAMS: usize = 40;
    let origin = Origin::start(|_| ok(vec![b'x'; 16 * 1024])).await;
    let weir = Weir::start(&stalling(&origin)).await;
    let mut frames = Frames::open(weir.address()).await;
    let window = [0, 4, 0, 0, 0, 1];
    frames.send(SETTINGS, 0, 0, &window).await;
    let head = section(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ]);
    for stream in 0..STREAMS as u32 {
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &head)
            .await;
    }
    let mut resets = 0;
    while resets < STREAMS - 6 {
        let frame = timeout(PATIENCE, frames.next())
            .await
            .unwrap_or_else(|_| panic!("only {resets} streams were reset"))
            .expect("the connection stays");
        resets += usize::from(frame.kind == RST_STREAM);
    }
}

#[tokio::test]
async fn a_client_that_takes_its_response_slowly_gets_all_of_it() {
    let origin = Origin::start(|_| ok(vec![b'x'; 3_000_000])).await;
    let weir = Weir::start(&stalling(&origin)).await;
    let mut connection = Connection::over(narrow(&weir).await);
    connection
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    connection.head().await;
    let mut total = connection.buffer.len();
    connection.buffer.clear();
    let mut pauses = 0;
    while connection.read().await {
        total += connection.buffer.len();
        connection.buffer.clear();
        // Longer altogether than the limit on one stall.
        if total / 300_000 > pauses {
            pauses += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(total, 3_000_000);
}

#[tokio::test]
async fn a_server_is_read_no_faster_than_the_client_takes() {
    let (origin, taken, _gone) = endless().await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = Connection::over(narrow(&weir).await);
    connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // Once nothing moves any more, only sockets are full; weir itself holds at most 64 KiB.
    let mut before = usize::MAX;
    let settled = async || {
        let now = taken.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let same = now > 0 && std::mem::replace(&mut before, now) == now;
        (same, now)
    };
    let (_, now) = eventually(settled, |(same, _)| *same).await;
    assert!(now < 30_000_000, "{now}");
    assert!(connection.read().await);
}

#[tokio::test]
async fn an_upload_is_read_no_faster_than_the_server_takes() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let origin = Origin::raw(move |mut stream, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            let mut buffer = Vec::new();
            let (_, body) = read_request(&mut stream, &mut buffer).await.unwrap();
            stream.write_all(&ok(body.len().to_string())).await.unwrap();
        }
    })
    .await;
    let weir = Weir::before(&[&origin]).await;
    let mut connection = weir.connect().await;
    connection
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        .await;
    let piece = vec![b'x'; 100_000];
    let mut sent = 0;
    while let Ok(result) = timeout(
        Duration::from_millis(500),
        connection.stream.write_all(&piece),
    )
    .await
    {
        result.unwrap();
        sent += piece.len();
        assert!(sent < 40_000_000, "not held back");
    }
    release.notify_one();
    // What the last write got through before it was given up is unknown; the request is left unfinished.
    drop(connection);
    let in_flight = format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        origin.address()
    );
    eventually(
        async || weir.metric(&in_flight).await,
        |&count| count == 0.0,
    )
    .await;
}
