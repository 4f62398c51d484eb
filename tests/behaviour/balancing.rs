//! Which server of an upstream a request goes to.

use std::collections::BTreeMap;

use super::support::control::{Holding, Patient, WEB, ask_for};
use super::support::{Origin, Weir, eventually};

#[tokio::test]
async fn round_robin_takes_turns_exactly_on_one_worker() {
    let origins = [
        Origin::text("a").await,
        Origin::text("b").await,
        Origin::text("c").await,
    ];
    let config = Weir::config(
        &[&origins[0], &origins[1], &origins[2]],
        "balance = \"round_robin\"",
    );
    let weir = Weir::start(&format!("[process]\nworkers = 1\n{config}")).await;
    let mut connection = weir.connect().await;
    let mut order = Vec::new();
    for _ in 0..30 {
        order.push(connection.get("/").await.text());
    }
    for turn in order.chunks(3) {
        assert_eq!(turn, &order[..3], "{order:?}");
    }
    assert!(origins.iter().all(|origin| origin.requests().len() == 10));
}

#[tokio::test]
async fn round_robin_spreads_weights_smoothly() {
    let origins = [
        Origin::text("heavy").await,
        Origin::text("b").await,
        Origin::text("c").await,
    ];
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nservers = \
         [{{ address = \"{}\", weight = 4 }}, \"{}\", \"{}\"]\n",
        origins[0].address(),
        origins[1].address(),
        origins[2].address()
    ))
    .await;
    let mut connection = weir.connect().await;
    let mut counts = BTreeMap::new();
    let mut row = 0;
    for _ in 0..60 {
        let name = connection.get("/").await.text();
        row = if name == "heavy" { row + 1 } else { 0 };
        assert!(row <= 4, "the light ones come in between");
        *counts.entry(name).or_insert(0) += 1;
    }
    assert_eq!(
        counts,
        BTreeMap::from([
            ("heavy".to_owned(), 40),
            ("b".to_owned(), 10),
            ("c".to_owned(), 10)
        ])
    );
}

#[tokio::test]
async fn least_connections_counts_requests_of_all_workers() {
    let (one, two) = (Holding::start("one").await, Holding::start("two").await);
    let config = Weir::config(
        &[&one.origin, &two.origin],
        "balance = \"least_connections\"",
    );
    let weir = Weir::start(&format!("[process]\nworkers = 2\n{config}")).await;
    // Each on a connection of its own, so that both workers take part.
    let mut held = Vec::new();
    for number in 1..=8 {
        held.push(ask_for(weir.address(), "/hold").await);
        let in_flight = async || {
            let of = async |origin: &Origin| {
                weir.server(origin.address()).await["in_flight"]
                    .as_u64()
                    .unwrap()
            };
            (of(&one.origin).await, of(&two.origin).await)
        };
        // The difference never grows beyond one, whichever worker chose.
        eventually(in_flight, |(one, two)| {
            one + two == number && one.abs_diff(*two) <= 1
        })
        .await;
    }
    two.release(4);
    let released = async || {
        weir.server(two.origin.address()).await["in_flight"]
            .as_u64()
            .unwrap()
    };
    eventually(released, |in_flight| *in_flight == 0).await;
    for _ in 0..12 {
        assert_eq!(
            weir.get("/").await.text(),
            "two",
            "the other one has four requests"
        );
    }
    one.release(4);
    for mut connection in held {
        assert_eq!(connection.response().await.status, 200);
    }
}

#[tokio::test]
async fn requests_are_answered_whatever_the_policy() {
    let origins = [Origin::text("a").await, Origin::text("b").await];
    for policy in ["random", "peak_ewma", "hash"] {
        let config = Weir::config(
            &[&origins[0], &origins[1]],
            &format!("balance = \"{policy}\""),
        );
        let weir = Weir::start(&config).await;
        for _ in 0..10 {
            assert_eq!(weir.get("/").await.status, 200, "{policy}");
        }
    }
}

#[tokio::test]
async fn a_heavier_server_may_have_more_in_flight() {
    let (light, heavy) = (Holding::start("light").await, Holding::start("heavy").await);
    let weir = Weir::start(&format!(
        "[process]\nworkers = 1\n{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nbalance = \"least_connections\"\n\
         servers = [\"{}\", {{ address = \"{}\", weight = 3 }}]\n",
        light.origin.address(),
        heavy.origin.address()
    ))
    .await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(ask_for(weir.address(), "/hold").await);
        let total = async || {
            let of = async |origin: &Origin| {
                weir.server(origin.address()).await["in_flight"]
                    .as_u64()
                    .unwrap()
            };
            (of(&light.origin).await, of(&heavy.origin).await)
        };
        let so_far = held.len() as u64;
        eventually(total, |(light, heavy)| light + heavy == so_far).await;
    }
    assert_eq!(weir.server(light.origin.address()).await["in_flight"], 2);
    assert_eq!(weir.server(heavy.origin.address()).await["in_flight"], 6);
}

/// How many of the next 300 requests go to the second of two servers.
async fn share_of_the_second(weir: &Weir, second: &Origin) -> usize {
    let before = second.requests().len();
    let mut connection = weir.connect().await;
    for _ in 0..300 {
        connection.get("/").await;
    }
    second.requests().len() - before
}

async fn with_one_added(upstream: &str) -> (Weir, [Origin; 2]) {
    let origins = [Origin::text("old").await, Origin::text("new").await];
    let weir = Weir::start(&Weir::config(&[&origins[0]], upstream)).await;
    let both = Weir::config(&[&origins[0], &origins[1]], upstream);
    weir.running.reload(Weir::parse(&both)).await.unwrap();
    (weir, origins)
}

#[tokio::test]
async fn a_server_that_is_added_later_gets_little_at_first_and_then_its_share() {
    for balance in ["round_robin", "least_connections"] {
        let keys = format!("slow_start = \"3s\"\nbalance = \"{balance}\"");
        let (weir, origins) = with_one_added(&keys).await;
        let first = share_of_the_second(&weir, &origins[1]).await;
        assert!(first < 100, "{first} {balance}");
        eventually(
            async || share_of_the_second(&weir, &origins[1]).await,
            |share| (130..=170).contains(share),
        )
        .await;
    }
}

#[tokio::test]
async fn without_slow_start_a_server_gets_its_share_at_once() {
    let (weir, origins) = with_one_added("slow_start = \"off\"").await;
    assert_eq!(share_of_the_second(&weir, &origins[1]).await, 150);
    // Nor does anybody begin slowly when weir starts.
    let both = Weir::config(&[&origins[0], &origins[1]], "slow_start = \"1h\"");
    let weir = Weir::start(&both).await;
    assert_eq!(share_of_the_second(&weir, &origins[1]).await, 150);
}

/// Two upstreams that get a server at the same moment: one of them has all of its share when the other has hardly begun.
#[tokio::test]
async fn slow_start_takes_as_long_as_the_operator_says() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let config = |servers: &str| {
        let upstream = |name: &str, slow_start: &str| {
            format!(
                "[route.{name}]\npath = \"/{name}\"\nupstream = \"{name}\"\n\
                 [upstream.{name}]\nservers = [{servers}]\nslow_start = \"{slow_start}\"\n"
            )
        };
        let (brief, long) = (upstream("brief", "200ms"), upstream("long", "1h"));
        format!("[process]\nworkers = 1\n{WEB}{brief}{long}")
    };
    let weir = Weir::start(&config(&format!("\"{}\"", old.address()))).await;
    let both = format!("\"{}\", \"{}\"", old.address(), new.address());
    weir.reload(&config(&both)).await.unwrap();
    let share = async |path: &str| {
        let mut connection = weir.connect().await;
        let mut share = 0;
        for _ in 0..100 {
            share += usize::from(connection.get(path).await.text() == "new");
        }
        share
    };
    eventually(async || share("/brief").await, |share| *share == 50).await;
    let begun = share("/long").await;
    assert!(begun <= 10, "{begun}");
}

#[tokio::test]
async fn a_server_that_is_up_again_gets_little_at_first() {
    let (steady, back) = (Patient::start("steady").await, Patient::start("back").await);
    let keys = "slow_start = \"1h\"\nhealth_check = { path = \"/healthz\", interval = \"50ms\", fast_interval = \"50ms\" }";
    let config = Weir::config(&[&steady.origin, &back.origin], keys);
    let weir = Weir::start(&format!("[process]\nworkers = 1\n{config}")).await;
    weir.until_server_is(back.address(), "up").await;
    for (status, state) in [(500, "down"), (200, "up")] {
        back.set(status);
        weir.until_server_is(back.address(), state).await;
    }
    let before = back.requests();
    let mut connection = weir.connect().await;
    for _ in 0..100 {
        connection.get("/").await;
    }
    let share = back.requests() - before;
    assert!(share <= 10, "{share}");
}

/// Which of three servers answers a request with that field.
async fn answerer(weir: &Weir, path: &str, field: &str) -> String {
    let mut connection = weir.connect().await;
    connection
        .send(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"
        ))
        .await;
    connection.response().await.text()
}

#[tokio::test]
async fn hash_goes_by_what_the_operator_says() {
    let origins = [
        Origin::text("a").await,
        Origin::text("b").await,
        Origin::text("c").await,
    ];
    for (key, path, field) in [
        ("client_ip", "/", "X-Forwarded-For: 192.0.2.N"),
        ("header:X-Tenant", "/", "X-Tenant: N"),
        ("cookie:session", "/", "Cookie: other=1; session=N"),
        ("path", "/N?query", "X-Nothing: 1"),
    ] {
        let keys = format!("balance = \"hash\"\nhash_key = \"{key}\"");
        let all = [&origins[0], &origins[1], &origins[2]];
        let config = Weir::config(&all, &keys).replace(
            "[listen.web]\n",
            "[listen.web]\ntrusted_proxies = [\"127.0.0.1\"]\n",
        );
        let weir = Weir::start(&config).await;
        let mut counts = BTreeMap::new();
        for number in 0..30 {
            let number = number.to_string();
            let (path, field) = (path.replace('N', &number), field.replace('N', &number));
            let first = answerer(&weir, &path, &field).await;
            for _ in 0..2 {
                assert_eq!(answerer(&weir, &path, &field).await, first, "{key}");
            }
            *counts.entry(first).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3, "{key}: {counts:?}");
    }
    // All that comes from one client belongs together, as does what has no key.
    for keys in ["", "hash_key = \"cookie:session\""] {
        let keys = format!("balance = \"hash\"\n{keys}");
        let all = [&origins[0], &origins[1], &origins[2]];
        let weir = Weir::start(&Weir::config(&all, &keys)).await;
        let first = answerer(&weir, "/", "X: 1").await;
        for number in 0..6 {
            let path = format!("/{number}");
            assert_eq!(answerer(&weir, &path, "Cookie: a=1").await, first);
        }
    }
}

#[tokio::test]
async fn a_heavier_server_gets_more_keys() {
    let (light, heavy) = (Origin::text("light").await, Origin::text("heavy").await);
    let weir = Weir::start(&format!(
        "{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nbalance = \"hash\"\nhash_key = \"path\"\n\
         servers = [\"{}\", {{ address = \"{}\", weight = 9 }}]\n",
        light.address(),
        heavy.address()
    ))
    .await;
    let mut connection = weir.connect().await;
    for number in 0..200 {
        connection.get(&format!("/{number}")).await;
    }
    let share = heavy.requests().len();
    assert!((145..200).contains(&share), "{share} where 180 is due");
}

/// With `random`, the server with the most requests loses to whichever it is drawn with, and the others share the rest.
#[tokio::test]
async fn the_least_loaded_of_all_is_taken_or_the_less_loaded_of_two() {
    let servers = [
        Holding::start("most").await,
        Holding::start("more").await,
        Holding::start("idle").await,
    ];
    let config = |primaries: [bool; 3], balance: &str| {
        let servers = servers.iter().zip(primaries);
        let servers: Vec<_> = servers
            .map(|(server, primary)| {
                let (address, backup) = (server.address(), !primary);
                format!("{{ address = \"{address}\", backup = {backup} }}")
            })
            .collect();
        format!(
            "[process]\nworkers = 1\n{WEB}[route.site]\nupstream = \"app\"\n[upstream.app]\nservers = [{}]\n\
             balance = \"{balance}\"\n",
            servers.join(", ")
        )
    };
    let (most, more) = ([true, false, false], [false, true, false]);
    let weir = Weir::start(&config(most, "round_robin")).await;
    let mut held = Vec::new();
    for (number, primaries) in [most, most, more].into_iter().enumerate() {
        weir.reload(&config(primaries, "round_robin"))
            .await
            .unwrap();
        held.push(ask_for(weir.address(), "/hold").await);
        let holds = async || servers.iter().map(Holding::requests_to_hold).sum();
        eventually(holds, |held: &usize| *held == number + 1).await;
    }
    for (balance, expected) in [
        ("least_connections", &["idle"][..]),
        ("random", &["idle", "more"]),
    ] {
        weir.reload(&config([true; 3], balance)).await.unwrap();
        let mut connection = weir.connect().await;
        let mut counts = BTreeMap::new();
        for _ in 0..100 {
            *counts.entry(connection.get("/").await.text()).or_insert(0) += 1;
        }
        let names: Vec<_> = counts.keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{balance}: {counts:?}");
    }
    servers.iter().for_each(|server| server.release(2));
    for mut connection in held {
        assert_eq!(connection.response().await.status, 200);
    }
}

/// One that answers errors at once is no better than one that takes its time.
#[tokio::test]
async fn peak_ewma_leaves_a_server_that_is_quick_with_errors() {
    let error = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
    let (broken, sound) = (Origin::always(error).await, Origin::text("sound").await);
    let config = Weir::config(&[&broken, &sound], "balance = \"peak_ewma\"");
    let weir = Weir::start(&format!("[process]\nworkers = 1\n{config}")).await;
    let mut connection = weir.connect().await;
    for _ in 0..200 {
        connection.get("/").await;
    }
    assert!(broken.requests().len() < 10, "{}", broken.requests().len());
}
