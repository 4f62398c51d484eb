//! `concurrency = "adaptive"`: a server is given as many requests at once as it can work on, by what it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::support::control::{Holding, ask_for};
use crate::support::origin::{ok, read_request};
use crate::support::{Connection, Origin, Weir, eventually};

const SHED: &str = "weir_refused_requests_total{listen=\"web\",reason=\"shed\"}";
const ADAPTIVE: &str = "concurrency = \"adaptive\"";

fn limit(origin: &Origin) -> String {
    format!(
        "weir_server_requests_limit{{upstream=\"app\",server=\"{}\"}}",
        origin.address()
    )
}

/// Works on one request at a time, as a program with a single thread does; the others wait in it.
async fn single() -> Origin {
    let thread = Arc::new(Mutex::new(()));
    Origin::raw(move |mut stream, _| {
        let thread = Arc::clone(&thread);
        async move {
            let mut buffer = Vec::new();
            while read_request(&mut stream, &mut buffer).await.is_some() {
                let working = thread.lock().await;
                tokio::time::sleep(Duration::from_millis(4)).await;
                drop(working);
                if tokio::io::AsyncWriteExt::write_all(&mut stream, &ok("done"))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    })
    .await
}

/// Clients that ask again and again, until told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Vec<u16>>,
}

impl Crowd {
    fn come(weir: &Weir, clients: usize) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let address = weir.address();
        let mut crowd = JoinSet::new();
        for _ in 0..clients {
            let stop = Arc::clone(&stop);
            crowd.spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut statuses = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    statuses.push(connection.response().await.status);
                }
                statuses
            });
        }
        Self {
            stop,
            clients: crowd,
        }
    }

    /// The statuses of all answers.
    async fn leave(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await.concat()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_given_as_many_requests_as_it_can_work_on_and_the_rest_is_shed() {
    let origin = single().await;
    let weir = Weir::start(&Weir::config(&[&origin], ADAPTIVE)).await;
    assert_eq!(weir.metric(&limit(&origin)).await, 32.0, "to begin with");
    let crowd = Crowd::come(&weir, 100);
    eventually(
        async || weir.metric(&limit(&origin)).await,
        |&limit| limit < 16.0,
    )
    .await;
    eventually(async || weir.metric(SHED).await, |&shed| shed > 0.0).await;
    let server = weir.server(origin.address()).await;
    assert!(server["learned_limit"].as_u64().unwrap() < 32, "{server}");
    let statuses = crowd.leave().await;
    assert!(statuses.contains(&200));
    assert!(statuses.iter().all(|status| [200, 503].contains(status)));
    // A refused client is told when to come again, and one that comes when there is room is let in.
    eventually(async || weir.get("/").await.status, |&status| status == 200).await;
}

/// More than the limit to begin with: who has the head of his response is no work to the server.
#[tokio::test]
async fn streams_take_no_part_of_the_limit() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    let origin = Origin::raw(move |mut stream, _| async move {
        let mut buffer = Vec::new();
        while let Some((request, _)) = read_request(&mut stream, &mut buffer).await {
            let is_stream = request.starts_with("GET /events");
            let answer = if is_stream {
                head.as_bytes().to_vec()
            } else {
                ok("page")
            };
            if tokio::io::AsyncWriteExt::write_all(&mut stream, &answer)
                .await
                .is_err()
            {
                return;
            }
        }
    })
    .await;
    let weir = Weir::start(&Weir::config(&[&origin], ADAPTIVE)).await;
    let mut streams = Vec::new();
    for number in 0..40 {
        let mut stream = ask_for(weir.address(), "/events").await;
        assert!(stream.head().await.contains("event-stream"));
        streams.push(stream);
        let in_flight = weir.server(origin.address()).await["in_flight"].as_u64();
        assert_eq!(in_flight, Some(number + 1));
    }
    assert_eq!(weir.get("/").await.text(), "page");
}

#[tokio::test]
async fn a_reload_keeps_what_was_learned_and_can_end_it() {
    let held = Holding::start("held").await;
    let of = |keys: &str| Weir::config(&[&held.origin], &format!("queue = \"off\"\n{keys}"));
    let weir = Weir::start(&of(ADAPTIVE)).await;
    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(ask_for(weir.address(), "/hold").await);
    }
    eventually(async || held.requests_to_hold(), |&held| held == 32).await;
    assert_eq!(weir.get("/").await.status, 503);
    let keys = format!("{ADAPTIVE}\nconnect_timeout = \"4s\"");
    weir.reload(&of(&keys)).await.unwrap();
    assert_eq!(weir.get("/").await.status, 503, "they are still counted");
    weir.reload(&of("")).await.unwrap();
    assert_eq!(weir.get("/").await.status, 200);
    assert_eq!(weir.metric(&limit(&held.origin)).await, f64::INFINITY);
    assert!(weir.server(held.address()).await["learned_limit"].is_null());
    held.release(32);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn the_smaller_of_two_limits_counts() {
    let held = Holding::start("held").await;
    let keys = format!("{ADAPTIVE}\nmax_in_flight = 2\nqueue = \"off\"");
    let weir = Weir::start(&Weir::config(&[&held.origin], &keys)).await;
    assert_eq!(weir.metric(&limit(&held.origin)).await, 2.0);
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(ask_for(weir.address(), "/hold").await);
    }
    eventually(async || held.requests_to_hold(), |&held| held == 2).await;
    assert_eq!(weir.get("/").await.status, 503);
    held.release(2);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
}

/// What a client is slow to send is no work to the server, and must not keep others out.
#[tokio::test]
async fn slow_uploads_take_no_part_of_the_limit() {
    let origin = Origin::text("page").await;
    let keys = format!("{ADAPTIVE}\nqueue = \"off\"");
    let weir = Weir::start(&Weir::config(&[&origin], &keys)).await;
    let mut uploads = Vec::new();
    for number in 1..=40 {
        let mut upload = weir.connect().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1";
        upload.send(head).await;
        uploads.push(upload);
        eventually(
            async || weir.server(origin.address()).await["in_flight"].as_u64(),
            |&in_flight| in_flight == Some(number),
        )
        .await;
    }
    assert_eq!(weir.get("/").await.text(), "page");
    for mut upload in uploads {
        upload.send("2").await;
        assert_eq!(upload.response().await.text(), "page");
    }
    eventually(
        async || weir.server(origin.address()).await["in_flight"].as_u64(),
        |&in_flight| in_flight == Some(0),
    )
    .await;
}
