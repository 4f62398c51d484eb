//! Which failures are tried on another server, and how often.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::origin::{ok, read_request};
use crate::support::{Origin, Response, Weir};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers every request with that status.
async fn answering(status: u16, field: &'static str) -> Origin {
    Origin::start(move |_| {
        format!("HTTP/1.1 {status} Status\r\n{field}Content-Length: 3\r\n\r\nbad").into_bytes()
    })
    .await
}

/// One worker that takes turns, so that it is known who is asked first; nobody is ejected.
async fn weir(origins: &[&Origin], upstream: &str) -> Weir {
    let config = Weir::config(origins, &format!("ejection = \"off\"\n{upstream}"));
    Weir::start(&format!("[process]\nworkers = 1\n{config}")).await
}

async fn send(weir: &Weir, request: &str) -> Response {
    let mut client = weir.connect().await;
    client.send(request).await;
    client.response().await
}

/// The statuses of as many requests as there are servers: each is asked first by one of them.
async fn round(weir: &Weir, request: &str, servers: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..servers {
        statuses.push(send(weir, request).await.status);
    }
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn a_502_or_503_is_tried_on_another_server_others_are_not() {
    for (status, expected) in [
        (502, [200, 200]),
        (503, [200, 200]),
        (504, [200, 504]),
        (500, [200, 500]),
        (404, [200, 404]),
    ] {
        let (bad, good) = (answering(status, "").await, Origin::text("good").await);
        let weir = weir(&[&bad, &good], "").await;
        assert_eq!(round(&weir, GET, 2).await, expected, "{status}");
        assert_eq!(bad.requests().len(), 1);
    }
}

#[tokio::test]
async fn the_operator_says_what_is_tried_again() {
    for (status, on, expected) in [
        (504, "[\"504\"]", [200, 200]),
        (502, "[\"504\"]", [200, 502]),
        (503, "[]", [200, 503]),
    ] {
        let (bad, good) = (answering(status, "").await, Origin::text("good").await);
        let weir = weir(&[&bad, &good], &format!("retry = {{ on = {on} }}")).await;
        assert_eq!(round(&weir, GET, 2).await, expected, "{status} {on}");
    }
    let (bad, good) = (answering(503, "").await, Origin::text("good").await);
    let weir = weir(&[&bad, &good], "retry = \"off\"").await;
    assert_eq!(round(&weir, GET, 2).await, [200, 503]);
}

#[tokio::test]
async fn an_answer_that_says_when_to_come_again_is_passed_on() {
    let bad = answering(503, "Retry-After: 30\r\n").await;
    let good = Origin::text("good").await;
    let weir = weir(&[&bad, &good], "").await;
    assert_eq!(round(&weir, GET, 2).await, [200, 503]);
}

#[tokio::test]
async fn what_must_not_be_sent_twice_is_not() {
    let (bad, good) = (answering(503, "").await, Origin::text("good").await);
    let weir = weir(&[&bad, &good], "").await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(round(&weir, &request, 2).await, [200, 503], "{method}");
    }
}

#[tokio::test]
async fn the_operator_says_what_may_be_sent_twice() {
    let (bad, good) = (answering(503, "").await, Origin::text("good").await);
    let weir = weir(&[&bad, &good], "retry.methods = [\"DELETE\"]").await;
    for (method, expected) in [("DELETE", [200, 200]), ("GET", [200, 503])] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(round(&weir, &request, 2).await, expected, "{method}");
    }
}

/// It was read already, and perhaps sent in part.
#[tokio::test]
async fn a_small_body_is_sent_again_whole() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n";
    let stated = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhello!";
    for bad in [answering(503, "").await, dying().await] {
        let good = Origin::text("good").await;
        let weir = weir(&[&bad, &good], "retry.methods = [\"POST\"]").await;
        for request in [chunked, stated, chunked, stated] {
            assert_eq!(send(&weir, request).await.text(), "good");
        }
        let came = good.requests();
        assert_eq!(came.len(), 4);
        for request in came {
            // Small chunks that came together go on together.
            let whole = "6\r\nhello!\r\n0\r\nx-sum: 1\r\n\r\n";
            let body = String::from_utf8(request.body).unwrap();
            assert!(body == "hello!" || body == whole, "{body:?}");
        }
    }
}

#[tokio::test]
async fn a_large_body_is_not_kept() {
    let (bad, good) = (answering(503, "").await, Origin::text("good").await);
    let weir = weir(&[&bad, &good], "retry.methods = [\"PUT\"]").await;
    for (length, expected) in [(64 * 1024, [200, 200]), (64 * 1024 + 1, [200, 503])] {
        let body = "x".repeat(length);
        let stated = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        assert_eq!(round(&weir, &stated, 2).await, expected, "{length}");
        let chunked = format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        );
        assert_eq!(round(&weir, &chunked, 2).await, expected, "{length}");
    }
}

/// Reads each request and closes without a word.
async fn dying() -> Origin {
    Origin::raw(|mut stream: TcpStream, _| async move {
        read_request(&mut stream, &mut Vec::new()).await;
    })
    .await
}

#[tokio::test]
async fn a_server_that_is_silent_for_too_long_is_left_where_the_operator_says_so() {
    for (on, expected) in [("[\"timeout\"]", [200, 200]), ("[\"reset\"]", [200, 504])] {
        let silent = Origin::raw(|mut stream: TcpStream, _| async move {
            let mut buffer = Vec::new();
            while read_request(&mut stream, &mut buffer).await.is_some() {}
        })
        .await;
        let good = Origin::text("good").await;
        let keys = format!("response_timeout = \"200ms\"\nretry.on = {on}");
        let weir = weir(&[&silent, &good], &keys).await;
        assert_eq!(round(&weir, GET, 2).await, expected, "{on}");
    }
}

#[tokio::test]
async fn each_retry_is_on_another_server_up_to_the_number_allowed() {
    for max in 0..4 {
        let bad = [
            answering(503, "").await,
            answering(502, "").await,
            dying().await,
        ];
        let good = Origin::text("good").await;
        let origins = [&bad[0], &bad[1], &bad[2], &good];
        let weir = weir(&origins, &format!("retry.max_retries = {max}")).await;
        for _ in 0..8 {
            send(&weir, GET).await;
        }
        let most = [0, 1, 2, 3].map(|attempts| attempts + 1)[max];
        let asked: usize = bad[..2].iter().map(|origin| origin.requests().len()).sum();
        let asked = asked + bad[2].connections() + good.requests().len();
        assert!(asked <= 8 * most, "{asked}");
        if max == 3 {
            assert_eq!(round(&weir, GET, 4).await, [200; 4]);
        }
    }
}

/// 20 % of the requests and 10 a second: here the share is nearly nothing, so 100 in the first ten seconds.
#[tokio::test]
async fn the_budget_bounds_what_an_outage_adds() {
    let origins = [answering(503, "").await, answering(503, "").await];
    let weir = weir(&[&origins[0], &origins[1]], "retry.budget = \"0.01%\"").await;
    let mut client = weir.connect().await;
    for _ in 0..250 {
        assert_eq!(client.get("/").await.status, 503);
    }
    let attempts: usize = origins.iter().map(|origin| origin.requests().len()).sum();
    assert_eq!(attempts, 250 + 100);
    let mut counted = 0.0;
    for origin in &origins {
        for outcome in ["ok", "error", "canceled"] {
            let series = format!(
                "weir_upstream_requests_total{{upstream=\"app\",server=\"{}\",outcome=\"{outcome}\"}}",
                origin.address()
            );
            counted += weir.metric(&series).await;
        }
    }
    assert_eq!(counted, 350.0, "what was not sent is no attempt");
    let refused = "weir_upstream_retries_refused_total{upstream=\"app\"}";
    assert_eq!(weir.metric(refused).await, 150.0);
    let retried = "weir_upstream_retries_total{upstream=\"app\",reason=\"503\"}";
    assert_eq!(weir.metric(retried).await, 100.0);
}

/// An answer that is not passed on must not leave its connection in doubt.
#[tokio::test]
async fn the_connection_of_an_answer_that_is_not_passed_on_is_used_again() {
    let (bad, good) = (answering(503, "").await, Origin::text("good").await);
    let weir = weir(&[&bad, &good], "").await;
    for _ in 0..6 {
        assert_eq!(send(&weir, GET).await.text(), "good");
    }
    assert_eq!((bad.requests().len(), bad.connections()), (3, 1));
}

/// The client must not wait for a body that is not passed on, nor get any of it.
#[tokio::test]
async fn an_answer_with_an_endless_body_is_left_at_its_head() {
    let endless = Origin::raw(|mut stream: TcpStream, _| async move {
        read_request(&mut stream, &mut Vec::new()).await;
        let head = "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwrong\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let good = Origin::start(|_| ok("good")).await;
    let weir = weir(&[&endless, &good], "").await;
    for _ in 0..2 {
        assert_eq!(send(&weir, GET).await.text(), "good");
    }
}

/// A failed connect costs nothing but itself: while there are servers against which nothing speaks, no budget refuses them.
#[tokio::test]
async fn a_refused_connect_moves_on_even_when_the_budget_is_used_up() {
    let gone = Origin::text("gone").await;
    let address = gone.address();
    drop(gone);
    let good = Origin::text("good").await;
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n[listen.web]\naddress = \"127.0.0.1:0\"\n[route.site]\nupstream = \"app\"\n\
         [upstream.app]\nservers = [\"{address}\", \"{}\"]\nejection = \"off\"\nretry.budget = \"0.01%\"\n",
        good.address()
    ))
    .await;
    let mut client = weir.connect().await;
    for _ in 0..600 {
        assert_eq!(client.get("/").await.text(), "good");
    }
}

/// Whoever works on a request for a while and then dies has got it: that is no idle connection that was closed.
#[tokio::test]
async fn a_server_that_dies_over_a_request_is_not_asked_again_without_a_retry() {
    let origin = Origin::raw(|mut stream: TcpStream, _| async move {
        let mut buffer = Vec::new();
        read_request(&mut stream, &mut buffer).await;
        stream.write_all(&ok("first")).await.unwrap();
        read_request(&mut stream, &mut buffer).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    })
    .await;
    let weir = weir(&[&origin], "retry = \"off\"").await;
    assert_eq!(send(&weir, GET).await.text(), "first");
    assert_eq!(send(&weir, GET).await.status, 502);
    assert_eq!(origin.connections(), 1);
}
