//! Limits on what a server gets at once, and the queue of those who wait for one with room.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::control::{Holding, Patient, WEB};
use crate::support::{Connection, Origin, Response, Weir, eventually};

const LENGTH: &str = "weir_upstream_queue_length{upstream=\"app\"}";

async fn weir(workers: usize, origins: &[&Origin], upstream: &str) -> Weir {
    let config = Weir::config(origins, upstream);
    Weir::start(&format!("[process]\nworkers = {workers}\n{config}")).await
}

async fn ask(weir: &Weir, path: &str) -> Connection {
    let mut client = weir.connect().await;
    client
        .send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    client
}

async fn until(weir: &Weir, series: &str, wanted: f64) {
    eventually(async || weir.metric(series).await, |&value| value == wanted).await;
}

fn in_flight(origin: &Origin) -> String {
    format!(
        "weir_server_requests_in_flight{{upstream=\"app\",server=\"{}\"}}",
        origin.address()
    )
}

fn crowded(response: &Response) {
    assert_eq!(response.status, 503);
    assert_eq!(
        response.field("proxy-status"),
        "weir; error=connection_limit_reached"
    );
    assert!(response.field("retry-after").parse::<u32>().unwrap() > 0);
}

/// Over all workers, and exactly.
#[tokio::test]
async fn no_server_gets_more_at_once_than_it_may() {
    let held = Holding::start("held").await;
    let weir = weir(3, &[&held.origin], "max_in_flight = 4").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(ask(&weir, "/hold").await);
    }
    until(&weir, LENGTH, 16.0).await;
    assert_eq!(weir.metric(&in_flight(&held.origin)).await, 4.0);
    assert_eq!(held.origin.connections(), 4);
    held.release(20);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    until(&weir, LENGTH, 0.0).await;
    until(&weir, &in_flight(&held.origin), 0.0).await;
    let waited = weir
        .metric("weir_upstream_queue_seconds_count{upstream=\"app\"}")
        .await;
    assert_eq!(waited, 16.0);
}

#[tokio::test]
async fn who_came_first_is_served_first() {
    let held = Holding::start("held").await;
    let weir = weir(2, &[&held.origin], "max_in_flight = 1").await;
    let mut clients = Vec::new();
    for number in 0..8 {
        clients.push(ask(&weir, &format!("/hold{number}")).await);
        if number == 0 {
            until(&weir, &in_flight(&held.origin), 1.0).await;
        }
        until(&weir, LENGTH, f64::from(number)).await;
    }
    held.release(8);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    let expected: Vec<_> = (0..8).map(|number| format!("/hold{number}")).collect();
    assert_eq!(held.targets(), expected);
}

#[tokio::test]
async fn a_full_queue_and_a_wait_that_is_over_are_told_with_when_to_come_again() {
    let held = Holding::start("held").await;
    let keys = "max_in_flight = 1\nqueue = { size = 1, timeout = \"700ms\" }";
    let weir = weir(1, &[&held.origin], keys).await;
    let mut first = ask(&weir, "/hold").await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    let began = Instant::now();
    let mut second = ask(&weir, "/hold").await;
    until(&weir, LENGTH, 1.0).await;
    crowded(&ask(&weir, "/hold").await.response().await);
    crowded(&second.response().await);
    assert!(began.elapsed() >= Duration::from_millis(700));
    held.release(1);
    assert_eq!(first.response().await.status, 200);
    for reason in ["queue_full", "queue_timeout"] {
        let refused = format!("weir_refused_requests_total{{listen=\"web\",reason=\"{reason}\"}}");
        assert_eq!(weir.metric(&refused).await, 1.0, "{reason}");
    }
}

/// Of two who wait, the one that came last is sent away first where its upstream says so.
#[tokio::test]
async fn each_waits_as_long_as_its_upstream_says() {
    let held = Holding::start("held").await;
    let upstream = |name: &str, timeout: &str| {
        format!(
            "[route.{name}]\npath = \"/hold/{name}\"\nupstream = \"{name}\"\n\
             [upstream.{name}]\nservers = [\"{}\"]\nmax_in_flight = 1\nqueue.timeout = \"{timeout}\"\n",
            held.address()
        )
    };
    let (patient, hasty) = (upstream("patient", "1h"), upstream("hasty", "300ms"));
    let weir = Weir::start(&format!("{WEB}{patient}{hasty}")).await;
    let busy = [
        ask(&weir, "/hold/patient").await,
        ask(&weir, "/hold/hasty").await,
    ];
    eventually(async || held.requests_to_hold(), |&held| held == 2).await;
    let mut waiting = ask(&weir, "/hold/patient").await;
    until(&weir, &LENGTH.replace("app", "patient"), 1.0).await;
    crowded(&ask(&weir, "/hold/hasty").await.response().await);
    assert_eq!(weir.metric(&LENGTH.replace("app", "patient")).await, 1.0);
    held.release(3);
    assert_eq!(waiting.response().await.status, 200);
    for mut client in busy {
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn without_a_queue_the_excess_is_refused_at_once() {
    let held = Holding::start("held").await;
    let weir = weir(1, &[&held.origin], "max_in_flight = 1\nqueue = \"off\"").await;
    let mut first = ask(&weir, "/hold").await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    crowded(&ask(&weir, "/hold").await.response().await);
    let refused = "weir_refused_requests_total{listen=\"web\",reason=\"queue_full\"}";
    assert_eq!(weir.metric(refused).await, 1.0, "it has not waited");
    held.release(1);
    assert_eq!(first.response().await.status, 200);
}

/// Neither its place in the queue nor one that it was just given is lost.
#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let held = Holding::start("held").await;
    let weir = weir(2, &[&held.origin], "max_in_flight = 1").await;
    let mut first = ask(&weir, "/hold").await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    let mut waiting = Vec::new();
    for number in 0..6 {
        waiting.push(ask(&weir, &format!("/hold{number}")).await);
    }
    until(&weir, LENGTH, 6.0).await;
    let mut last = waiting.pop().unwrap();
    waiting.clear();
    until(&weir, LENGTH, 1.0).await;
    held.release(2);
    assert_eq!(first.response().await.status, 200);
    assert_eq!(last.response().await.status, 200);
    assert_eq!(held.targets().len(), 2);
    until(&weir, &in_flight(&held.origin), 0.0).await;
}

#[tokio::test]
async fn a_server_may_have_a_limit_of_its_own() {
    let (small, large) = (Holding::start("small").await, Holding::start("large").await);
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nmax_in_flight = 3\nservers = [\
         {{ address = \"{}\", max_in_flight = 1 }}, \"{}\"]\n",
        small.address(),
        large.address()
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(ask(&weir, "/hold").await);
    }
    until(&weir, LENGTH, 2.0).await;
    assert_eq!(weir.metric(&in_flight(&small.origin)).await, 1.0);
    assert_eq!(weir.metric(&in_flight(&large.origin)).await, 3.0);
    small.release(6);
    large.release(6);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn a_server_may_be_without_the_limit_of_the_others() {
    let held = Holding::start("held").await;
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nmax_in_flight = 1\nservers = [\
         {{ address = \"{}\", max_in_flight = \"off\" }}]\n",
        held.address()
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(ask(&weir, "/hold").await);
    }
    eventually(async || held.requests_to_hold(), |&held| held == 3).await;
    held.release(3);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
}

/// Whoever waits gets the room that a reload makes, and that of a server that it adds.
#[tokio::test]
async fn a_reload_that_makes_room_is_noticed_by_those_who_wait() {
    let (held, added) = (Holding::start("held").await, Origin::text("added").await);
    let weir = weir(1, &[&held.origin], "max_in_flight = 1").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(ask(&weir, "/hold").await);
    }
    until(&weir, LENGTH, 2.0).await;
    let more = Weir::config(&[&held.origin], "max_in_flight = 2");
    weir.reload(&format!("[process]\nworkers = 1\n{more}"))
        .await
        .unwrap();
    until(&weir, LENGTH, 1.0).await;
    assert_eq!(weir.metric(&in_flight(&held.origin)).await, 2.0);
    held.release(3);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    drop(added);
}

/// A 503 of the only server is tried there once more: in the place that the request has already.
#[tokio::test]
async fn a_retry_on_the_same_server_needs_no_second_place() {
    let origin = Origin::start(|request| {
        let status = if request.number % 2 == 0 { 503 } else { 200 };
        format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let weir = weir(1, &[&origin], "max_in_flight = 1\nqueue.timeout = \"1h\"").await;
    for _ in 0..3 {
        let response = ask(&weir, "/hold").await.response().await;
        assert!([200, 503].contains(&response.status));
    }
    until(&weir, &in_flight(&origin), 0.0).await;
}

#[tokio::test]
async fn backups_take_over_only_when_no_primary_accepts_traffic() {
    let (primary, backup) = (
        Holding::start("primary").await,
        Origin::text("backup").await,
    );
    let check = "health_check = { type = \"tcp\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1, rise = 1 }";
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nmax_in_flight = 2\nservers = [\
         {{ address = \"{}\", backup = true }}, \"{}\"]\n{check}\n",
        backup.address(),
        primary.address()
    ))
    .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(ask(&weir, "/hold").await);
    }
    until(&weir, LENGTH, 1.0).await;
    assert_eq!(backup.requests().len(), 0, "a full primary is no reason");
    drop(primary);
    drop(clients);
    eventually(async || weir.get("/").await.status, |&status| status == 200).await;
    for _ in 0..4 {
        assert_eq!(weir.get("/").await.text(), "backup");
    }
}

#[tokio::test]
async fn when_too_few_accept_traffic_all_are_used() {
    let check = "slow_start = \"off\"\nretry = \"off\"\nejection = \"off\"\n\
                 health_check = { path = \"/health\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1, rise = 1 }";
    for (below, used) in [("50%", true), ("25%", false)] {
        let sick = |request: &crate::support::origin::Request| {
            if request.target() == "/health" {
                b"HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n".to_vec()
            } else {
                crate::support::origin::ok("all the same")
            }
        };
        let well = Origin::text("well").await;
        let others = [
            Origin::start(sick).await,
            Origin::start(sick).await,
            Origin::start(sick).await,
        ];
        let weir = weir(
            1,
            &[&well, &others[0], &others[1], &others[2]],
            &format!("panic_below = \"{below}\"\n{check}"),
        )
        .await;
        for other in &others {
            weir.until_server_is(other.address(), "down").await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        let mut texts = Vec::new();
        for _ in 0..8 {
            texts.push(weir.get("/").await.text());
        }
        let sick_ones = texts.iter().filter(|text| *text == "all the same").count();
        assert_eq!(sick_ones, if used { 6 } else { 0 }, "{texts:?}");
    }
}

/// It may be given to those who wait by a config that they came before.
#[tokio::test]
async fn a_server_that_a_reload_adds_serves_those_who_wait() {
    let (held, added) = (Holding::start("held").await, Origin::text("added").await);
    let one = Weir::config(&[&held.origin], "max_in_flight = 1\nslow_start = \"off\"");
    let weir = Weir::start(&format!("[process]\nworkers = 1\n{one}")).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(ask(&weir, "/hold").await);
    }
    until(&weir, LENGTH, 5.0).await;
    let both = Weir::config(
        &[&held.origin, &added],
        "max_in_flight = 1\nslow_start = \"off\"",
    );
    weir.reload(&format!("[process]\nworkers = 1\n{both}"))
        .await
        .unwrap();
    until(&weir, LENGTH, 0.0).await;
    held.release(6);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert!(!added.requests().is_empty());
}

/// Two that fail, each with a request that would try the other: neither waits for the other's place.
#[tokio::test]
async fn a_retry_does_not_wait_while_it_holds_a_place_or_an_answer() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    let origins = [Origin::always(busy).await, Origin::always(busy).await];
    let weir = weir(
        1,
        &[&origins[0], &origins[1]],
        "max_in_flight = 1\nqueue.timeout = \"1h\"",
    )
    .await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(ask(&weir, "/").await);
    }
    for mut client in clients {
        assert_eq!(client.response().await.status, 503);
    }
}

const CHECKED: &str = "retry = \"off\"\nejection = \"off\"\nslow_start = \"off\"\n\
    health_check = { path = \"/healthz\", interval = \"50ms\", fast_interval = \"50ms\", fall = 1, rise = 1 }";

/// `held` and `other`, each with a place for one request.
async fn two(held: &Holding, other: SocketAddr, keys: &str) -> Weir {
    Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[process]\nworkers = 1\n[upstream.app]\nservers = [\"{}\", \"{other}\"]\n\
         max_in_flight = 1\n{keys}\n",
        held.address()
    ))
    .await
}

/// The cookie of a new client that got to that server.
async fn cookie_of(weir: &Weir, server: &str) -> String {
    loop {
        let response = weir.get("/").await;
        if response.text() == server {
            let set = response.field("set-cookie");
            return set.split(';').next().unwrap().to_owned();
        }
    }
}

/// What they wait for will not come: each is tried as `on_all_down` says, or refused.
#[tokio::test]
async fn when_the_last_server_goes_down_those_who_wait_are_let_go() {
    for (all_down, status) in [("try_anyway", 200), ("503", 503)] {
        let (held, other) = (Holding::start("held").await, Patient::start("other").await);
        let keys = format!(
            "balance = \"least_connections\"\non_all_down = \"{all_down}\"\nqueue.timeout = \"1h\"\n{CHECKED}"
        );
        let weir = two(&held, other.address(), &keys).await;
        other.set(500);
        weir.until_server_is(other.address(), "down").await;
        let mut first = ask(&weir, "/hold").await;
        until(&weir, &in_flight(&held.origin), 1.0).await;
        let mut waiting = ask(&weir, "/").await;
        until(&weir, LENGTH, 1.0).await;
        held.fall_ill();
        assert_eq!(waiting.response().await.status, status, "{all_down}");
        assert_eq!(ask(&weir, "/").await.response().await.status, status);
        held.release(1);
        assert_eq!(first.response().await.status, 200);
        until(&weir, LENGTH, 0.0).await;
    }
}

/// Whoever wants one server waits beside the others, in a line of the same length for each server.
#[tokio::test]
async fn clients_that_wait_for_their_own_server_hold_up_nobody_else() {
    let (held, other) = (Holding::start("held").await, Origin::text("other").await);
    let keys = "sticky = true\nqueue = { size = 2, timeout = \"1h\" }";
    let weir = two(&held, other.address(), keys).await;
    let cookie = cookie_of(&weir, "held").await;
    let ask_mine = async || {
        let mut client = weir.connect().await;
        let head = format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        client.send(&head).await;
        client
    };
    let mut mine = vec![ask_mine().await];
    until(&weir, &in_flight(&held.origin), 1.0).await;
    mine.push(ask_mine().await);
    mine.push(ask_mine().await);
    until(&weir, LENGTH, 2.0).await;
    // Its line is full: another server's answer is better than none, for this once.
    let response = ask_mine().await.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "other"));
    assert!(response.fields("set-cookie").is_empty());
    for _ in 0..5 {
        let response = weir.get("/").await;
        assert_eq!((response.status, response.text().as_str()), (200, "other"));
        assert_eq!(
            response.field("set-cookie").split('=').next().unwrap(),
            "weir-app"
        );
    }
    held.release(3);
    for mut client in mine {
        assert_eq!(client.response().await.text(), "held");
    }
    until(&weir, LENGTH, 0.0).await;
}

#[tokio::test]
async fn a_client_does_not_wait_in_vain_for_its_server_while_another_has_room() {
    let (held, other) = (Holding::start("held").await, Origin::text("other").await);
    let weir = two(
        &held,
        other.address(),
        "sticky = true\nqueue.timeout = \"300ms\"",
    )
    .await;
    let cookie = cookie_of(&weir, "held").await;
    let mine = format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    let (mut first, mut second) = (weir.connect().await, weir.connect().await);
    first.send(&mine).await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    second.send(&mine).await;
    let response = second.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "other"));
    assert!(response.fields("set-cookie").is_empty());
    held.release(1);
    assert_eq!(first.response().await.text(), "held");
}

#[tokio::test]
async fn a_client_whose_server_goes_down_while_it_waits_is_moved() {
    let (held, other) = (Holding::start("held").await, Patient::start("other").await);
    let keys = format!("sticky = true\nqueue.timeout = \"1h\"\n{CHECKED}");
    let weir = two(&held, other.address(), &keys).await;
    let cookie = cookie_of(&weir, "held").await;
    let mine = format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    let (mut first, mut second) = (weir.connect().await, weir.connect().await);
    first.send(&mine).await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    second.send(&mine).await;
    until(&weir, LENGTH, 1.0).await;
    held.fall_ill();
    let response = second.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "other"));
    assert!(!response.field("set-cookie").contains(&cookie));
    held.release(1);
    assert_eq!(first.response().await.text(), "held");
}

/// RFC 9209 §2.3.3: the time of the route is over, not that of the queue.
#[tokio::test]
async fn the_time_that_a_route_allows_ends_in_the_queue_too() {
    let held = Holding::start("held").await;
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\ntimeout = \"300ms\"\npath_exact = \"/hold\"\n\
         [route.first]\nupstream = \"app\"\npath_exact = \"/hold/first\"\n\
         [upstream.app]\nservers = [\"{}\"]\nmax_in_flight = 1\nqueue.timeout = \"1h\"\n",
        held.address()
    ))
    .await;
    let mut first = ask(&weir, "/hold/first").await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    let response = ask(&weir, "/hold").await.response().await;
    assert_eq!(response.status, 504);
    assert_eq!(
        response.field("proxy-status"),
        "weir; error=http_response_timeout"
    );
    held.release(1);
    assert_eq!(first.response().await.status, 200);
}

/// Its place would be given to a request that must not have it.
#[tokio::test]
async fn a_server_that_a_reload_removes_serves_nobody_who_waits() {
    let (gone, stays) = (Holding::start("gone").await, Holding::start("stays").await);
    let weir = two(&gone, stays.address(), "queue.timeout = \"1h\"").await;
    let mut running = [ask(&weir, "/hold").await, ask(&weir, "/hold").await];
    until(&weir, &in_flight(&gone.origin), 1.0).await;
    until(&weir, &in_flight(&stays.origin), 1.0).await;
    let mut waiting = ask(&weir, "/hold/waiting").await;
    until(&weir, LENGTH, 1.0).await;
    weir.reload(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[process]\nworkers = 1\n[upstream.app]\nservers = [\"{}\"]\n\
         max_in_flight = 1\nqueue.timeout = \"1h\"\n",
        stays.address()
    ))
    .await
    .unwrap();
    gone.release(1);
    let first = &mut running[0];
    assert_eq!(first.response().await.text(), "gone");
    assert_eq!(weir.metric(LENGTH).await, 1.0);
    stays.release(2);
    assert_eq!(running[1].response().await.text(), "stays");
    assert_eq!(waiting.response().await.text(), "stays");
    assert_eq!(gone.targets(), ["/hold"]);
}

/// Among all servers, once so few accept traffic that all are used.
#[tokio::test]
async fn in_a_panic_who_came_first_is_served_first() {
    let (well, ill) = (Holding::start("well").await, Holding::start("ill").await);
    let keys = format!("panic_below = \"60%\"\nqueue.timeout = \"1h\"\n{CHECKED}");
    let weir = two(&well, ill.address(), &keys).await;
    ill.fall_ill();
    weir.until_server_is(ill.address(), "down").await;
    let mut clients = Vec::new();
    for number in 0..2 {
        clients.push(ask(&weir, &format!("/hold/{number}")).await);
        eventually(
            async || well.requests_to_hold() + ill.requests_to_hold(),
            |&running| running == number + 1,
        )
        .await;
    }
    for number in 2..5 {
        clients.push(ask(&weir, &format!("/hold/{number}")).await);
        until(
            &weir,
            LENGTH,
            f64::from(u8::try_from(number).unwrap()) - 1.0,
        )
        .await;
    }
    ill.release(4);
    eventually(async || ill.requests_to_hold(), |&running| running == 4).await;
    well.release(1);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    let mut first: Vec<_> = ill
        .targets()
        .into_iter()
        .filter(|target| target.starts_with("/hold"))
        .collect();
    first.remove(0);
    assert_eq!(first, ["/hold/2", "/hold/3", "/hold/4"]);
}

async fn post(weir: &Weir) -> Response {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    weir.ask(request).await
}

/// Two primaries that are down and a backup that is well: one of three is not too few, and two of two are the backup's case.
#[tokio::test]
async fn a_backup_that_is_well_comes_before_a_panic() {
    let primaries = [Patient::start("one").await, Patient::start("two").await];
    let backup = Patient::start("backup").await;
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nservers = [\"{}\", \"{}\", \
         {{ address = \"{}\", backup = true }}]\npanic_below = \"60%\"\n{CHECKED}\n",
        primaries[0].address(),
        primaries[1].address(),
        backup.address()
    ))
    .await;
    for primary in &primaries {
        primary.set(500);
        weir.until_server_is(primary.address(), "down").await;
    }
    for _ in 0..6 {
        assert_eq!(post(&weir).await.text(), "backup");
    }
}

/// Who is out of service by hand is not missing.
#[tokio::test]
async fn drained_servers_are_no_reason_for_a_panic() {
    let servers = [
        Patient::start("drained").await,
        Patient::start("down").await,
        Patient::start("well").await,
    ];
    let origins: Vec<_> = servers.iter().map(|server| &server.origin).collect();
    let keys = format!("panic_below = \"40%\"\n{CHECKED}");
    let weir = weir(1, &origins, &keys).await;
    servers[1].set(500);
    weir.until_server_is(servers[1].address(), "down").await;
    let drain = format!("/api/upstreams/app/servers/{}/drain", servers[0].address());
    assert_eq!(weir.admin("POST", &drain).await.status, 200);
    for _ in 0..6 {
        assert_eq!(post(&weir).await.text(), "well");
    }
}

/// A server that is out and merely busy is worth waiting for, where it is tried all the same.
#[tokio::test]
async fn those_who_wait_stay_when_the_only_server_goes_down_and_is_tried_all_the_same() {
    let held = Holding::start("held").await;
    let keys = format!("max_in_flight = 1\nqueue.timeout = \"1h\"\n{CHECKED}");
    let weir = weir(1, &[&held.origin], &keys).await;
    let mut clients = vec![ask(&weir, "/hold").await];
    until(&weir, &in_flight(&held.origin), 1.0).await;
    clients.push(ask(&weir, "/hold").await);
    until(&weir, LENGTH, 1.0).await;
    held.fall_ill();
    weir.until_server_is(held.address(), "down").await;
    clients.push(ask(&weir, "/hold").await);
    until(&weir, LENGTH, 2.0).await;
    held.release(3);
    for mut client in clients {
        assert_eq!(client.response().await.text(), "held");
    }
}

/// What it has under way goes on to count.
#[tokio::test]
async fn a_server_that_is_taken_out_and_put_back_is_no_stranger() {
    let (held, other) = (Holding::start("held").await, Origin::text("other").await);
    let only = |origin: &Origin| Weir::config(&[origin], "max_in_flight = 1\nqueue = \"off\"");
    let weir = Weir::start(&only(&held.origin)).await;
    let mut first = ask(&weir, "/hold").await;
    until(&weir, &in_flight(&held.origin), 1.0).await;
    weir.reload(&only(&other)).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "other");
    weir.reload(&only(&held.origin)).await.unwrap();
    assert_eq!(weir.metric(&in_flight(&held.origin)).await, 1.0);
    crowded(&weir.get("/").await);
    held.release(1);
    assert_eq!(first.response().await.status, 200);
    until(&weir, &in_flight(&held.origin), 0.0).await;
    assert_eq!(weir.get("/").await.text(), "held");
}
