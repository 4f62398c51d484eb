//! What requests tell of a server: one that keeps failing gets none for a while, and comes back when it has proved good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::control::WEB;
use crate::support::origin::{ok, read_request};
use crate::support::{Origin, Weir, eventually};

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// Fails while the switch is on.
async fn failing(switch: &Arc<AtomicBool>) -> Origin {
    let switch = Arc::clone(switch);
    Origin::start(move |_| match switch.load(Ordering::Relaxed) {
        true => UNAVAILABLE.to_vec(),
        false => ok("well again"),
    })
    .await
}

/// One worker, so that it is known whose turn it is.
async fn weir(origins: &[&Origin], upstream: &str) -> Weir {
    let config = Weir::config(origins, upstream);
    Weir::start(&format!("[process]\nworkers = 1\n{config}")).await
}

/// State and reason of a server, by `/api/status`.
async fn standing(weir: &Weir, origin: &Origin) -> (String, String) {
    let status: serde_json::Value =
        serde_json::from_slice(&weir.admin("GET", "/api/status").await.body).unwrap();
    let servers = status["upstreams"][0]["servers"].as_array().unwrap();
    let server = servers
        .iter()
        .find(|server| server["address"] == origin.address().to_string())
        .unwrap();
    let text = |key: &str| server[key].as_str().unwrap().to_owned();
    (text("state"), text("reason"))
}

async fn until_state(weir: &Weir, origin: &Origin, state: &str) -> String {
    let observe = async || {
        weir.get("/").await;
        standing(weir, origin).await
    };
    eventually(observe, |(now, _)| now == state).await.1
}

fn on() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

#[tokio::test]
async fn a_server_that_keeps_failing_gets_no_more_requests() {
    let (bad, good) = (failing(&on()).await, Origin::text("good").await);
    let weir = weir(
        &[&bad, &good],
        "ejection = { failures = 3, base = \"1h\", max = \"1h\" }",
    )
    .await;
    let began = Instant::now();
    let reason = until_state(&weir, &bad, "ejected").await;
    assert!(
        reason.ends_with("failures in a row, the last: status 503"),
        "{reason}"
    );
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "a burst is not enough"
    );
    let before = bad.requests().len();
    for _ in 0..20 {
        assert_eq!(weir.get("/").await.text(), "good");
    }
    assert_eq!(bad.requests().len(), before);
    let up = format!(
        "weir_server_up{{upstream=\"app\",server=\"{}\"}}",
        bad.address()
    );
    assert_eq!(weir.metric(&up).await, 0.0);
}

/// Two upstreams whose servers fail alike: where few failures are enough, the server is out when the other one is not.
#[tokio::test]
async fn it_takes_as_many_failures_as_the_operator_says() {
    let (many, few) = (failing(&on()).await, failing(&on()).await);
    let upstream = |name: &str, origin: &Origin, failures: u32| {
        format!(
            "[route.{name}]\npath = \"/{name}\"\nupstream = \"{name}\"\n[upstream.{name}]\nservers = [\"{}\"]\n\
             retry = \"off\"\nejection.failures = {failures}\n",
            origin.address()
        )
    };
    let weir = Weir::start(&format!(
        "{WEB}{}{}",
        upstream("many", &many, 10_000),
        upstream("few", &few, 2)
    ))
    .await;
    let state = async || {
        // The one that may fail more often is first to fail.
        weir.get("/many").await;
        weir.get("/few").await;
        weir.server(few.address()).await["state"].clone()
    };
    eventually(state, |state| state == "ejected").await;
    assert_eq!(weir.server(many.address()).await["state"], "up");
}

#[tokio::test]
async fn switched_off_it_ejects_nobody() {
    let (bad, good) = (failing(&on()).await, Origin::text("good").await);
    let weir = weir(&[&bad, &good], "ejection = \"off\"\nretry = \"off\"").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        weir.get("/").await;
    }
    assert_eq!(standing(&weir, &bad).await.0, "up");
    let before = bad.requests().len();
    let statuses = [weir.get("/").await.status, weir.get("/").await.status];
    assert_eq!(bad.requests().len(), before + 1, "{statuses:?}");
}

/// One request is the trial; while it fails, only a request now and then is spent on it.
#[tokio::test]
async fn after_its_rest_one_good_request_brings_it_back() {
    let switch = on();
    let (bad, good) = (failing(&switch).await, Origin::text("good").await);
    let weir = weir(
        &[&bad, &good],
        "slow_start = \"off\"\nejection = { failures = 2, base = \"500ms\" }",
    )
    .await;
    until_state(&weir, &bad, "ejected").await;
    switch.store(false, Ordering::Relaxed);
    until_state(&weir, &bad, "up").await;
    let texts = [weir.get("/").await.text(), weir.get("/").await.text()];
    assert!(texts.contains(&"well again".to_owned()), "{texts:?}");
}

#[tokio::test]
async fn a_failed_trial_costs_nobody_his_answer_and_doubles_the_rest() {
    let (bad, good) = (failing(&on()).await, Origin::text("good").await);
    let weir = weir(
        &[&bad, &good],
        "ejection = { failures = 2, base = \"300ms\" }",
    )
    .await;
    until_state(&weir, &bad, "ejected").await;
    let before = bad.requests().len();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(weir.get("/").await.text(), "good");
    }
    // After 0.3, 0.9 and 2.1 seconds.
    let trials = bad.requests().len() - before;
    assert!((1..=3).contains(&trials), "{trials}");
}

/// With rests that double without end, five trials would take more than the patience of a test.
#[tokio::test]
async fn no_rest_is_longer_than_the_longest() {
    let (bad, good) = (failing(&on()).await, Origin::text("good").await);
    let weir = weir(
        &[&bad, &good],
        "ejection = { failures = 2, base = \"200ms\", max = \"200ms\" }",
    )
    .await;
    until_state(&weir, &bad, "ejected").await;
    let before = bad.requests().len();
    let trials = async || {
        weir.get("/").await;
        bad.requests().len() - before
    };
    eventually(trials, |trials| *trials >= 10).await;
}

#[tokio::test]
async fn no_more_than_the_share_is_ejected() {
    let bad = [
        failing(&on()).await,
        failing(&on()).await,
        failing(&on()).await,
    ];
    let good = Origin::text("good").await;
    let with_share = async |share: &str| {
        let keys = format!(
            "retry = \"off\"\nejection = {{ failures = 2, base = \"1h\", max = \"1h\", max_share = \"{share}\" }}"
        );
        weir(&[&bad[0], &bad[1], &bad[2], &good], &keys).await
    };
    let ejected = async |weir: &Weir| {
        weir.get("/").await;
        let mut ejected = 0;
        for origin in &bad {
            ejected += usize::from(standing(weir, origin).await.0 == "ejected");
        }
        ejected
    };
    let (quarter, most) = (with_share("25%").await, with_share("75%").await);
    let both = async || (ejected(&quarter).await, ejected(&most).await);
    // By then, all three have failed the first one as often.
    let (of_quarter, _) = eventually(both, |(_, of_most)| *of_most == 3).await;
    assert_eq!(of_quarter, 1);
}

/// A check that connects knows as much of connections as requests do.
#[tokio::test]
async fn a_good_check_ends_the_rest_that_was_for_broken_connections() {
    let dying = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dying);
    let bad = Origin::raw(move |mut stream: TcpStream, _| {
        let count = Arc::clone(&count);
        async move {
            if read_request(&mut stream, &mut Vec::new()).await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let good = Origin::text("good").await;
    let weir = weir(
        &[&bad, &good],
        "slow_start = \"off\"\nhealth_check = { type = \"tcp\", interval = \"1h\", fast_interval = \"700ms\" }\n\
         ejection = { failures = 2, base = \"1h\", max = \"1h\" }",
    )
    .await;
    until_state(&weir, &bad, "ejected").await;
    eventually(
        async || standing(&weir, &bad).await.0,
        |state| state == "up",
    )
    .await;
    let before = dying.load(Ordering::Relaxed);
    for _ in 0..4 {
        assert_eq!(weir.get("/").await.text(), "good", "another one takes over");
    }
    assert!(
        dying.load(Ordering::Relaxed) > before,
        "it gets requests again"
    );
}

/// Where all are out, they are tried all the same, and whoever answers well gets the rest.
#[tokio::test]
async fn the_first_to_answer_well_when_all_are_out_takes_over() {
    let switches: Vec<_> = (0..3).map(|_| on()).collect();
    let mut origins = Vec::new();
    for switch in &switches {
        origins.push(failing(switch).await);
    }
    let weir = weir(
        &[&origins[0], &origins[1], &origins[2]],
        "health_check = { path = \"/\", interval = \"1h\", fast_interval = \"20ms\", fall = 1, rise = 1000 }\n\
         ejection = { failures = 2, base = \"1h\", max = \"1h\" }",
    )
    .await;
    for origin in &origins {
        eventually(
            async || standing(&weir, origin).await.0,
            |state| state == "down",
        )
        .await;
    }
    assert_eq!(weir.get("/").await.status, 503);
    switches[1].store(false, Ordering::Relaxed);
    eventually(async || weir.get("/").await.status, |&status| status == 200).await;
    for _ in 0..10 {
        assert_eq!(weir.get("/").await.text(), "well again");
    }
}

/// It would be an outage of the whole site, made by a few answers of one page.
#[tokio::test]
async fn the_last_server_is_not_ejected_where_nothing_is_tried_without_one() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    for (all_down, state) in [("503", "up"), ("try_anyway", "ejected")] {
        let origin = Origin::always(busy).await;
        let keys = format!("on_all_down = \"{all_down}\"\nretry = \"off\"\nejection.failures = 2");
        let weir = Weir::start(&Weir::config(&[&origin], &keys)).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1500) {
            weir.get("/").await;
        }
        assert_eq!(
            weir.server(origin.address()).await["state"],
            state,
            "{all_down}"
        );
    }
}

/// However seldom they come.
#[tokio::test]
async fn where_all_are_out_each_is_tried_in_turn() {
    let bad = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    let origins = [Origin::always(bad).await, Origin::always(bad).await];
    let check = "retry = \"off\"\nejection = \"off\"\n\
        health_check = { path = \"/healthz\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1 }";
    let config = Weir::config(&[&origins[0], &origins[1]], check);
    let weir = Weir::start(&format!("[process]\nworkers = 1\n{config}")).await;
    for origin in &origins {
        weir.until_server_is(origin.address(), "down").await;
    }
    let asked = |origin: &Origin| {
        let requests = origin.requests();
        requests
            .iter()
            .filter(|request| request.target() == "/")
            .count()
    };
    for round in 1..=3 {
        weir.get("/").await;
        weir.get("/").await;
        assert_eq!((asked(&origins[0]), asked(&origins[1])), (round, round));
        // Longer than what a worker counts per second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
}
