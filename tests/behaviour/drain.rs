//! How weir stops.

use std::time::{Duration, Instant};

use super::support::control::{Holding, WEB, ask_for, fixed};
use super::support::http2::{Frames, GOAWAY, Http2, answer, get};
use super::support::{Connection, Origin, Weir, eventually};

fn config(origin: &Holding, drain: &str) -> String {
    format!(
        "[process]\ndrain = \"{drain}\"\n{}",
        Weir::config(&[&origin.origin], "")
    )
}

async fn until_in_flight(weir: &Weir, origin: &Holding, count: u64) {
    eventually(
        async || weir.server(origin.origin.address()).await["in_flight"].as_u64(),
        |in_flight| *in_flight == Some(count),
    )
    .await;
}

#[tokio::test]
async fn requests_in_flight_finish_and_new_connections_are_refused() {
    let origin = Holding::start("held").await;
    let weir = Weir::start(&config(&origin, "10s")).await;
    let address = weir.address();
    let mut busy = Vec::new();
    for _ in 0..5 {
        busy.push(ask_for(address, "/hold").await);
    }
    until_in_flight(&weir, &origin, 5).await;
    let stopping = tokio::spawn(weir.running.stop());
    eventually(
        async || tokio::net::TcpStream::connect(address).await.is_err(),
        |refused| *refused,
    )
    .await;
    assert!(!stopping.is_finished());
    origin.release(5);
    for mut connection in busy {
        let response = connection.response().await;
        assert_eq!(
            (response.field("connection"), &*response.text()),
            ("close", "held")
        );
        assert!(connection.is_closed().await);
    }
    tokio::time::timeout(Duration::from_secs(5), stopping)
        .await
        .expect("it ends long before its time is over")
        .unwrap();
}

#[tokio::test]
async fn an_idle_connection_gets_one_more_answer_and_an_unused_one_is_closed() {
    let weir = Weir::start(&[WEB, &fixed("site", "", "hello")].concat()).await;
    let (mut used, mut idle, mut silent) = (
        weir.connect().await,
        weir.connect().await,
        weir.connect().await,
    );
    used.get("/").await;
    idle.get("/").await;
    eventually(
        async || weir.metric("weir_connections{listen=\"web\"}").await,
        |open| *open == 3.0,
    )
    .await;
    let address = weir.address();
    let stopping = tokio::spawn(weir.running.stop());
    eventually(
        async || tokio::net::TcpStream::connect(address).await.is_err(),
        |refused| *refused,
    )
    .await;
    let response = used.get("/").await;
    assert_eq!(
        (response.status, response.field("connection")),
        (200, "close")
    );
    assert!(used.is_closed().await);
    assert!(idle.is_closed().await);
    assert!(silent.is_closed().await);
    stopping.await.unwrap();
}

#[tokio::test]
async fn http2_connections_are_told_to_go_away_and_their_streams_finish() {
    let origin = Holding::start("held").await;
    let weir = Weir::start(&config(&origin, "10s")).await;
    let address = weir.address();
    let mut frames = Frames::open(address).await;
    let mut busy = Http2::open(address).await;
    let (response, _) = busy.send(get("/hold"), true).await;
    until_in_flight(&weir, &origin, 1).await;
    let stopping = tokio::spawn(weir.running.stop());
    while frames.next().await.expect("a GOAWAY before the end").kind != GOAWAY {}
    eventually(
        async || tokio::net::TcpStream::connect(address).await.is_err(),
        |refused| *refused,
    )
    .await;
    origin.release(1);
    assert_eq!(answer(response).await.unwrap().text(), "held");
    busy.end().await.unwrap();
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_is_not_done_in_time_is_cut_and_logged_so() {
    let origin = Holding::start("held").await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let text = format!(
        "[log]\naccess = \"{}\"\n{}",
        log.display(),
        config(&origin, "400ms")
    );
    let weir = Weir::start(&text).await;
    let mut busy = ask_for(weir.address(), "/hold").await;
    until_in_flight(&weir, &origin, 1).await;
    let began = Instant::now();
    weir.running.stop().await;
    assert!(
        began.elapsed() >= Duration::from_millis(400),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(busy.is_closed().await);
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
    assert_eq!(line["end"], "drained");
}

#[tokio::test]
async fn readiness_fails_at_once_and_traffic_is_served_for_the_delay() {
    let weir = Weir::start(
        &[
            "[process]\nshutdown_delay = \"1500ms\"\n",
            WEB,
            &fixed("site", "", "hello"),
        ]
        .concat(),
    )
    .await;
    assert_eq!(weir.admin("GET", "/readyz").await.status, 200);
    let (address, admin) = (weir.address(), weir.admin_address());
    let stopping = tokio::spawn(weir.running.stop());
    let probe = async |path: &str| {
        let mut connection = Connection::open(admin).await;
        connection.get(path).await.status
    };
    eventually(async || probe("/readyz").await, |status| *status == 503).await;
    assert_eq!(probe("/healthz").await, 200, "it is not to be killed");
    let mut connection = Connection::open(address).await;
    let response = connection.get("/").await;
    assert_eq!(
        (&*response.text(), response.fields("connection").len()),
        ("hello", 0),
        "the delay is for serving"
    );
    assert!(!stopping.is_finished());
    stopping.await.unwrap();
    assert!(connection.is_closed().await);
    assert!(
        tokio::net::TcpStream::connect(admin).await.is_err(),
        "the admin address goes last"
    );
}

#[tokio::test]
async fn dropped_it_ends_at_once() {
    let origin = Holding::start("held").await;
    let weir = Weir::start(&config(&origin, "1h")).await;
    let mut busy = ask_for(weir.address(), "/hold").await;
    until_in_flight(&weir, &origin, 1).await;
    let (address, admin) = (weir.address(), weir.admin_address());
    let began = Instant::now();
    // As a second signal does.
    let stopping = weir.running.stop();
    let _ = tokio::time::timeout(Duration::from_millis(200), stopping)
        .await
        .unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(busy.is_closed().await);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    eventually(
        async || tokio::net::TcpStream::connect(admin).await.is_err(),
        |refused| *refused,
    )
    .await;
}

/// Whoever is in the backlog when the sockets are closed has connected: a reset would be a failed request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_made_is_answered() {
    let origin = Origin::text("hello").await;
    for _ in 0..5 {
        let weir = Weir::start(&Weir::config(&[&origin], "")).await;
        let address = weir.address();
        let mut connections = Vec::new();
        let mut stopping = None;
        let mut running = Some(weir.running);
        for number in 0..60 {
            let Ok(stream) = std::net::TcpStream::connect(address) else {
                break;
            };
            stream.set_nonblocking(true).unwrap();
            connections.push(Connection::over(
                tokio::net::TcpStream::from_std(stream).unwrap(),
            ));
            if number == 30 {
                stopping = running.take().map(|running| tokio::spawn(running.stop()));
            }
        }
        // Those from before it was told to stop; one that came in the instant of closing cannot be saved.
        for connection in &mut connections[..30] {
            assert_eq!(connection.get("/").await.text(), "hello");
        }
        drop(connections);
        stopping.unwrap().await.unwrap();
    }
}
