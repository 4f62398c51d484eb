//! Edits of the config that are taken while weir runs, and those that are refused.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::control::{Followed, Holding, QUIET, WEB, ask_for, fixed, run, secure};
use super::support::http2::Http2;
use super::support::manual::Manual;
use super::support::origin::ok;
use super::support::tls::Authority;
use super::support::{Connection, Origin, Weir, eventually};

fn site(body: &str) -> String {
    format!("{WEB}{}", fixed("site", "", body))
}

/// Waits until the listener `web` answers with that body.
async fn until_answer(weir: &Weir, body: &str) {
    eventually(async || weir.get("/").await.text(), |text| text == body).await;
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_taken() {
    let followed = Followed::start(&site("one")).await;
    assert_eq!(followed.weir.get("/").await.text(), "one");
    let before = followed.weir.status().await["config"]["hash"].clone();
    followed.write(&site("two"));
    until_answer(&followed.weir, "two").await;
    followed.until_reloads(1, 0).await;
    let status = followed.weir.status().await;
    assert_ne!(status["config"]["hash"], before);
    assert_eq!(status["config"]["last_reload"]["result"], "ok");
    assert_eq!(
        status["config"]["file"],
        followed.file.display().to_string()
    );
}

#[tokio::test]
async fn a_file_that_is_renamed_over_is_taken_again_and_again() {
    let followed = Followed::start(&site("0")).await;
    for round in 1..4 {
        let aside = followed.folder.path().join(".weir.toml.swp");
        std::fs::write(&aside, format!("{QUIET}{}", site(&round.to_string()))).unwrap();
        std::fs::rename(&aside, &followed.file).unwrap();
        until_answer(&followed.weir, &round.to_string()).await;
    }
}

#[tokio::test]
async fn a_file_that_is_removed_and_written_anew_is_taken() {
    let followed = Followed::start(&site("one")).await;
    std::fs::remove_file(&followed.file).unwrap();
    followed.until_reloads(0, 1).await;
    assert_eq!(followed.weir.get("/").await.text(), "one");
    followed.write(&site("two"));
    until_answer(&followed.weir, "two").await;
}

#[tokio::test]
async fn an_included_file_that_appears_changes_or_goes_is_taken() {
    let followed = Followed::start(&site("main")).await;
    let main = format!("include = [\"conf.d/*.toml\"]\n{QUIET}{}", site("main"));
    std::fs::write(&followed.file, main).unwrap();
    followed.until_reloads(1, 0).await;
    let folder = followed.folder.path().join("conf.d");
    std::fs::create_dir(&folder).unwrap();
    let more = |body| fixed("more", "path = \"/more\"", body);
    let until = async |body: &str| {
        let weir = &followed.weir;
        eventually(async || weir.get("/more").await.text(), |text| text == body).await;
    };
    std::fs::write(folder.join("more.toml"), more("one")).unwrap();
    until("one").await;
    std::fs::write(folder.join("more.toml"), more("two")).unwrap();
    until("two").await;
    std::fs::remove_file(folder.join("more.toml")).unwrap();
    until("main").await;
}

/// As Kubernetes updates a ConfigMap: `weir.toml` -> `..data/weir.toml`, `..data` -> a folder that is replaced.
#[tokio::test]
async fn a_swapped_link_is_taken_and_the_new_place_watched() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let version = |name: &str, body: &str| {
        std::fs::create_dir(place.join(name)).unwrap();
        std::fs::write(
            place.join(name).join("weir.toml"),
            format!("{QUIET}{}", site(body)),
        )
        .unwrap();
    };
    let swap = |name: &str| {
        symlink(name, place.join("..data_tmp")).unwrap();
        std::fs::rename(place.join("..data_tmp"), place.join("..data")).unwrap();
    };
    version("..one", "one");
    swap("..one");
    symlink("..data/weir.toml", place.join("weir.toml")).unwrap();
    let weir = run(&place.join("weir.toml")).await;
    assert_eq!(weir.get("/").await.text(), "one");
    for (before, name) in [("..one", "two"), ("..two", "three")] {
        version(&format!("..{name}"), name);
        swap(&format!("..{name}"));
        std::fs::remove_dir_all(place.join(before)).unwrap();
        until_answer(&weir, name).await;
    }
    std::fs::write(
        place.join("..three/weir.toml"),
        format!("{QUIET}{}", site("four")),
    )
    .unwrap();
    until_answer(&weir, "four").await;
}

/// As releases are switched: a link further up the path.
#[tokio::test]
async fn a_link_further_up_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, body) in [("one", "one"), ("two", "two")] {
        let conf = folder.path().join(name).join("conf");
        std::fs::create_dir_all(&conf).unwrap();
        std::fs::write(conf.join("weir.toml"), format!("{QUIET}{}", site(body))).unwrap();
    }
    let current = folder.path().join("current");
    symlink("one", &current).unwrap();
    let weir = run(&current.join("conf/weir.toml")).await;
    symlink("two", folder.path().join("next")).unwrap();
    std::fs::rename(folder.path().join("next"), &current).unwrap();
    until_answer(&weir, "two").await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why_everywhere() {
    let followed = Followed::start(&site("one")).await;
    let before = followed.weir.status().await["config"].clone();
    followed.write(&format!(
        "{}[listen.web]\nadress = 1\n[route.site]\nupstream = \"nowhere\"\n",
        ""
    ));
    followed.until_reloads(0, 1).await;
    let after = followed.weir.status().await["config"].clone();
    assert_eq!(after["last_reload"]["result"], "refused");
    let message = after["last_reload"]["message"].as_str().unwrap();
    for part in ["weir.toml:6:1", "`adress`", "`nowhere`"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(
        (&after["hash"], &after["loaded_at"]),
        (&before["hash"], &before["loaded_at"])
    );
    assert_eq!(followed.weir.get("/").await.text(), "one");
    // Back to what runs: taken, so that nothing speaks of a refusal any more.
    followed.write(&site("one"));
    followed.until_reloads(1, 1).await;
    assert_eq!(
        followed.weir.status().await["config"]["last_reload"]["result"],
        "ok"
    );
}

#[tokio::test]
async fn the_same_contents_are_not_taken_twice() {
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let site = |body: &str| format!("{}{}", site(body), secure(&authority));
    let followed = Followed::start(&site("one")).await;
    followed.write(&site("two"));
    assert_eq!(followed.weir.admin("POST", "/api/reload").await.status, 200);
    assert_eq!(
        followed.weir.get("/").await.text(),
        "two",
        "without waiting for the watch"
    );
    // One, unless the watch was first, and was heard once more.
    let (before, _) = followed.reloads().await;
    // The watch hears of that write, too, and of this one; what it hears of last is the third.
    followed.write(&site("two"));
    let touched = std::fs::read(&followed.file).unwrap();
    std::fs::write(followed.folder.path().join("aside"), touched).unwrap();
    std::fs::rename(followed.folder.path().join("aside"), &followed.file).unwrap();
    followed.until_watched(&authority).await;
    followed.write(&site("three"));
    until_answer(&followed.weir, "three").await;
    eventually(
        async || followed.reloads().await,
        |reloads| *reloads == (before + 1.0, 0.0),
    )
    .await;
}

#[tokio::test]
async fn a_file_that_is_written_in_pieces_is_taken_when_it_is_whole() {
    let followed = Followed::start(&site("one")).await;
    let text = format!("{QUIET}{}", site("two"));
    std::fs::write(&followed.file, "").unwrap();
    // How long its writer may take from one piece to the next is a matter of the watch's own tests.
    for end in 0..=text.len() {
        std::fs::write(&followed.file, &text[..end]).unwrap();
    }
    until_answer(&followed.weir, "two").await;
    followed.until_reloads(1, 0).await;
}

#[tokio::test]
async fn the_api_takes_the_file_at_once_and_tells_what_became_of_it() {
    let followed = Followed::start(&site("one")).await;
    followed.write(&site("two"));
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, 200);
    let told: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(
        (&told["result"], &told["hash"]),
        (
            &"ok".into(),
            &followed.weir.status().await["config"]["hash"]
        )
    );
    followed.write("[listen.web]\n");
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, 422);
    let told: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert!(
        told["message"].as_str().unwrap().contains("weir.toml:5:1"),
        "{told}"
    );
    assert_eq!(followed.weir.get("/").await.text(), "two");
}

#[tokio::test]
async fn what_a_reload_changed_is_told() {
    let followed = Followed::start(&site("one")).await;
    let changes = async || {
        let status = followed.weir.status().await;
        status["config"]["last_reload"]["changes"].clone()
    };
    assert_eq!(changes().await, serde_json::json!([]));
    let routes: String = (0..40)
        .map(|number| fixed(&format!("r{number}"), &format!("path = \"/{number}\""), "x"))
        .collect();
    followed.write(&format!("{}{routes}", site("two")));
    let answer = followed.weir.admin("POST", "/api/reload").await;
    let told: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(changes().await, told["changes"]);
    let lines = told["changes"].as_array().unwrap();
    assert_eq!(lines.len(), 21, "{told}");
    assert_eq!(lines[20], "and 21 more");
    assert!(
        lines[0]
            .as_str()
            .unwrap()
            .starts_with("+ route.r0: path = "),
        "{told}"
    );
    followed.write(&site("two").replace("[route.site]", "[route.other]"));
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert!(
        answer.text().contains("+ route.other: path = "),
        "{}",
        answer.text()
    );
    followed.write("[listen.web]\n");
    followed.weir.admin("POST", "/api/reload").await;
    assert_eq!(
        changes().await,
        serde_json::json!([]),
        "what is refused changes nothing"
    );
}

/// Reading a pipe that nobody writes to would take for ever, and every later reload with it.
#[tokio::test]
async fn what_is_no_regular_file_is_refused_and_a_good_file_taken_after_it() {
    let followed = Followed::start(&site("one")).await;
    std::fs::remove_file(&followed.file).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &followed.file, mode).unwrap();
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.text().contains("not a regular file"),
        "{}",
        answer.text()
    );
    let aside = followed.folder.path().join("aside");
    std::fs::write(&aside, format!("{QUIET}{}", site("two"))).unwrap();
    std::fs::rename(&aside, &followed.file).unwrap();
    until_answer(&followed.weir, "two").await;
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_take() {
    let weir = Weir::start(&site("one")).await;
    assert_eq!(weir.admin("POST", "/api/reload").await.status, 409);
}

#[tokio::test]
async fn reloads_at_the_same_time_take_turns() {
    let followed = Arc::new(Followed::start(&site("0")).await);
    let mut asking = Vec::new();
    for round in 1..=10 {
        followed.write(&site(&round.to_string()));
        let followed = Arc::clone(&followed);
        asking.push(tokio::spawn(async move {
            followed.weir.admin("POST", "/api/reload").await.status
        }));
    }
    for status in asking {
        // A file that is being written is refused, which is all that may happen to it.
        assert!([200, 422].contains(&status.await.unwrap()));
    }
    until_answer(&followed.weir, "10").await;
}

/// Whoever asks without end does not keep others from it for long.
#[tokio::test]
async fn only_so_many_reloads_wait_for_each_other() {
    let route = |number| fixed(&format!("r{number}"), &format!("path = \"/{number}\""), "x");
    let routes: String = (0..2000).map(route).collect();
    let followed = Arc::new(Followed::start(&format!("{}{routes}", site("one"))).await);
    let asking: Vec<_> = (0..60)
        .map(|_| {
            let followed = Arc::clone(&followed);
            tokio::spawn(async move { followed.weir.admin("POST", "/api/reload").await.status })
        })
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for status in asking {
        match status.await.unwrap() {
            200 => taken += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(
        taken >= 16 && refused > 0,
        "{taken} taken, {refused} refused"
    );
    assert_eq!(followed.weir.admin("POST", "/api/reload").await.status, 200);
}

/// The reload goes on; its client only does not hear of it.
#[tokio::test]
async fn a_client_that_leaves_does_not_break_off_a_reload() {
    let followed = Followed::start(&site("one")).await;
    followed.write(&site("two"));
    let mut connection = Connection::open(followed.weir.admin_address()).await;
    connection
        .send("POST /api/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        .await;
    drop(connection);
    until_answer(&followed.weir, "two").await;
    eventually(
        async || followed.reloads().await,
        |(taken, refused)| *taken >= 1.0 && *refused == 0.0,
    )
    .await;
}

#[tokio::test]
async fn listeners_come_and_go_and_their_connections_finish() {
    let holding = Holding::start("held").await;
    let config = |more: &str| {
        format!(
            "[process]\ndrain = \"5s\"\n{}{more}",
            Weir::config(&[&holding.origin], "")
        )
    };
    let weir = Weir::start(&config("")).await;
    weir.reload(&config("[listen.more]\naddress = \"127.0.0.1:0\"\n"))
        .await
        .unwrap();
    let more = weir.running.addresses("more")[0];
    let mut idle = Connection::open(more).await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut busy = ask_for(more, "/hold").await;
    eventually(
        async || weir.server(holding.origin.address()).await["in_flight"].clone(),
        |in_flight| *in_flight == 1,
    )
    .await;

    weir.reload(&config("")).await.unwrap();
    assert!(weir.running.addresses("more").is_empty());
    let refused = async || tokio::net::TcpStream::connect(more).await.is_err();
    eventually(refused, |refused| *refused).await;
    let response = idle.get("/").await;
    assert_eq!(
        (response.status, response.field("connection")),
        (200, "close"),
        "the request that was on its way"
    );
    assert!(idle.is_closed().await);
    holding.release(1);
    let response = busy.response().await;
    assert_eq!((response.status, &*response.text()), (200, "held"));
    assert!(busy.is_closed().await);
    assert_eq!(weir.get("/").await.status, 200);
    assert!(
        !weir.metrics().await.contains("listen=\"more\""),
        "a name that is gone has no metrics"
    );
}

#[tokio::test]
async fn a_request_of_a_removed_listener_is_answered_and_its_connection_closed_when_its_time_is_over()
 {
    let holding = Holding::start("held").await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let config = |more: &str| {
        let quiet = format!(
            "[log]\naccess = \"{}\"\n[process]\ndrain = \"300ms\"\n",
            log.display()
        );
        format!("{quiet}{}{more}", Weir::config(&[&holding.origin], ""))
    };
    let weir = Weir::start(&config("[listen.more]\naddress = \"127.0.0.1:0\"\n")).await;
    let mut busy = ask_for(weir.running.addresses("more")[0], "/hold?cut").await;
    let mut stays = ask_for(weir.address(), "/hold?stays").await;
    eventually(
        async || weir.server(holding.origin.address()).await["in_flight"].clone(),
        |in_flight| *in_flight == 2,
    )
    .await;
    weir.reload(&config("")).await.unwrap();
    let response = busy.response().await;
    assert_eq!(
        (response.status, response.field("connection")),
        (503, "close")
    );
    assert!(busy.is_closed().await);
    let line = async || std::fs::read_to_string(&log).unwrap();
    let line = eventually(line, |text| text.ends_with('\n')).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["target"], &line["end"], &line["listen"]),
        (&"/hold?cut".into(), &"drained".into(), &"more".into())
    );
    holding.release(2);
    assert_eq!(stays.response().await.status, 200);
}

#[tokio::test]
async fn a_tunnel_of_a_removed_listener_ends_with_its_time() {
    let echo = Origin::raw(|mut stream, _| async move {
        let mut buffer = Vec::new();
        if super::support::origin::read_request(&mut stream, &mut buffer)
            .await
            .is_none()
        {
            return;
        }
        use tokio::io::AsyncWriteExt;
        let _ = stream
            .write_all(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            .await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let config = |more: &str| {
        format!(
            "[process]\ndrain = \"300ms\"\n{}{more}",
            Weir::config(&[&echo], "")
        )
    };
    let weir = Weir::start(&config("[listen.more]\naddress = \"127.0.0.1:0\"\n")).await;
    let open = async |address| {
        let mut connection = Connection::open(address).await;
        connection
            .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            .await;
        assert!(connection.head().await.starts_with("HTTP/1.1 101"));
        connection
    };
    let mut goes = open(weir.running.addresses("more")[0]).await;
    let mut stays = open(weir.address()).await;
    weir.reload(&config("")).await.unwrap();
    assert!(goes.is_closed().await);
    stays.send("still here").await;
    while stays.buffer != b"still here" {
        assert!(
            stays.read().await,
            "a tunnel that the reload does not touch lives on"
        );
    }
}

#[tokio::test]
async fn a_new_name_for_an_address_keeps_its_socket() {
    let port = free_port().await;
    let listen = |name: &str| {
        format!(
            "[listen.{name}]\naddress = \"127.0.0.1:{port}\"\n{}",
            fixed("site", "", name)
        )
    };
    let weir = Weir::start(&listen("web")).await;
    let address = weir.address();
    let failures = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (failed, stopped) = (Arc::clone(&failures), Arc::clone(&stop));
    let knocking = tokio::spawn(async move {
        while !stopped.load(Ordering::SeqCst) {
            match tokio::net::TcpStream::connect(address).await {
                Ok(stream) => {
                    let mut connection = Connection::over(stream);
                    connection
                        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                        .await;
                    failed.fetch_add(
                        usize::from(!connection.rest().await.starts_with(b"HTTP/1.1 200")),
                        Ordering::SeqCst,
                    );
                }
                Err(_) => drop(failed.fetch_add(1, Ordering::SeqCst)),
            }
        }
    });
    for name in ["other", "web", "third", "web"] {
        weir.reload(&listen(name)).await.unwrap();
        assert_eq!(weir.running.addresses(name), [address]);
        let mut connection = Connection::open(address).await;
        assert_eq!(connection.get("/").await.text(), name);
    }
    stop.store(true, Ordering::SeqCst);
    knocking.await.unwrap();
    assert_eq!(failures.load(Ordering::SeqCst), 0);
}

/// A port that was free a moment ago.
async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn an_address_may_grow_to_all_of_the_machine_on_the_same_port() {
    let port = free_port().await;
    let listen = |address: String| {
        format!(
            "[listen.web]\naddress = \"{address}\"\n{}",
            fixed("site", "", "site")
        )
    };
    let weir = Weir::start(&listen(format!("127.0.0.1:{port}"))).await;
    for address in [
        format!("0.0.0.0:{port}"),
        format!("127.0.0.1:{port}"),
        format!(":{port}"),
        format!("127.0.0.1:{port}"),
    ] {
        weir.reload(&listen(address.clone()))
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        let mut connection = Connection::open(([127, 0, 0, 1], port).into()).await;
        assert_eq!(connection.get("/").await.text(), "site", "{address}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_refuses_the_whole_config() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let weir = Weir::start(&site("one")).await;
    let free = free_port().await;
    let clash = |more: &str| {
        format!(
            "[log]\naccess = \"{}\"\naccess_filter = \"all\"\n{WEB}[listen.free]\naddress = \"127.0.0.1:{free}\"\n{more}{}",
            log.display(),
            fixed("site", "", "two")
        )
    };
    let listener = clash(&format!("[listen.more]\naddress = \"{taken}\"\n"));
    let admin = clash("").replace("[log]", &format!("[admin]\naddress = \"{taken}\"\n[log]"));
    let probes = clash("").replace(
        "[log]",
        &format!("[admin]\naddress = \"127.0.0.1:0\"\nprobes = \"{taken}\"\n[log]"),
    );
    let no_file = clash("").replace("access.log", &"a".repeat(300));
    for (config, key) in [
        (listener, "listen.more: cannot listen on"),
        (admin, "admin.address: cannot listen on"),
        (probes, "admin.probes: cannot listen on"),
        (no_file, "cannot open the access log"),
    ] {
        let error = weir.reload(&config).await.unwrap_err();
        assert!(error.to_string().starts_with(key), "{error}");
        assert_eq!(weir.get("/").await.text(), "one");
        assert!(
            tokio::net::TcpStream::connect(("127.0.0.1", free))
                .await
                .is_err(),
            "{key}: nothing else of it is bound"
        );
        assert!(weir.running.addresses("free").is_empty());
        assert_eq!(
            weir.status().await["config"]["last_reload"]["result"],
            "refused"
        );
    }
    assert!(
        !log.exists() || std::fs::read(&log).unwrap().is_empty(),
        "nor is the access log where it says"
    );
    weir.reload(&clash("")).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "two");
}

#[tokio::test]
async fn connections_live_on_and_see_the_new_config_with_their_next_request() {
    let weir = Weir::start(&site("one")).await;
    let mut http1 = weir.connect().await;
    let mut http2 = Http2::open(weir.address()).await;
    assert_eq!(
        (&*http1.get("/").await.text(), http2.get("/").await.text()),
        ("one", "one")
    );
    weir.reload(&site("two")).await.unwrap();
    assert_eq!(
        (&*http1.get("/").await.text(), http2.get("/").await.text()),
        ("two", "two")
    );
    assert_eq!(weir.metric("weir_connections{listen=\"web\"}").await, 2.0);
}

/// A request lives with one state: rules that a reload changes do not reach it half-way.
#[tokio::test]
async fn a_request_in_flight_ends_by_the_state_it_began_with() {
    let holding = Holding::start("held").await;
    let config = Weir::config(&[&holding.origin], "");
    let edits = "[route.site.response_headers]\nset = { x-state = \"old\" }\n";
    let weir = Weir::start(&format!("{config}{edits}")).await;
    let mut busy = ask_for(weir.address(), "/hold").await;
    eventually(
        async || weir.server(holding.origin.address()).await["in_flight"].clone(),
        |in_flight| *in_flight == 1,
    )
    .await;
    weir.reload(&site("new")).await.unwrap();
    assert_eq!(weir.get("/").await.text(), "new");
    holding.release(1);
    let response = busy.response().await;
    assert_eq!(
        (response.field("x-state"), &*response.text()),
        ("old", "held")
    );
    assert_eq!(busy.get("/").await.text(), "new", "the connection goes on");
}

#[tokio::test]
async fn streams_and_idle_connections_to_servers_survive_a_reload_that_does_not_touch_them() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let closed = Arc::clone(&gate);
    let origin = Origin::raw(move |mut stream, _| {
        let gate = Arc::clone(&closed);
        async move {
            use tokio::io::AsyncWriteExt;
            let mut buffer = Vec::new();
            while let Some((head, _)) = super::support::origin::read_request(&mut stream, &mut buffer).await {
                if !head.starts_with("GET /stream") {
                    let _ = stream.write_all(&ok("plain")).await;
                    continue;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n").await;
                for _ in 0..5 {
                    gate.acquire().await.unwrap().forget();
                    let _ = stream.write_all(b"3\r\none\r\n").await;
                }
                let _ = stream.write_all(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    let config = Weir::config(&[&origin], "");
    let weir = Weir::start(&format!("[process]\nworkers = 1\n{config}")).await;
    let mut plain = weir.connect().await;
    assert_eq!(plain.get("/").await.text(), "plain");
    let mut stream = ask_for(weir.address(), "/stream").await;
    stream.head().await;
    assert_eq!(plain.get("/").await.text(), "plain");
    let connections = eventually(
        async || origin.connections(),
        |connections| *connections == 2,
    )
    .await;
    for round in 0..5 {
        let more = fixed("more", "path = \"/more\"", &round.to_string());
        weir.reload(&format!("[process]\nworkers = 1\n{config}{more}"))
            .await
            .unwrap();
        gate.add_permits(1);
        while stream.buffer.len() < 8 * (round + 1) {
            assert!(stream.read().await, "the stream goes on");
        }
        assert_eq!(plain.get("/").await.text(), "plain");
    }
    assert_eq!(origin.connections(), connections, "the pool is the same");
    while !stream.buffer.ends_with(b"0\r\n\r\n") {
        assert!(stream.read().await);
    }
}

/// Else each of them would keep all of a config that may have thousands of routes, and a reload a minute fill the memory.
#[tokio::test]
async fn what_lasts_over_reloads_keeps_no_config() {
    let mut origin = Manual::start().await;
    let config = |state: u32| {
        format!(
            "{}[route.cached]\nupstream = \"app\"\npath = \"/cached\"\ncache = true\n\
             [route.cached.response_headers]\nset = {{ x-state = \"{state}\" }}\n\
             [route.site.response_headers]\nset = {{ x-state = \"{state}\" }}\n",
            Weir::config(&[&origin.origin], "")
        )
    };
    let configs: Vec<_> = (0..4).map(config).collect();
    let weir = Weir::start(&configs[0]).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbegi");
    let upgrade =
        "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let begun = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 9\r\n\r\nbegi");
    let fresh = begun("Cache-Control: max-age=60\r\n");
    let events = begun("Content-Type: text/event-stream\r\n");
    let mut last = Vec::new();
    for (request, answer) in [
        (upgrade.to_owned(), switching.to_owned()),
        (get("/events"), events.clone()),
        (get("/cached/events"), events),
        (get("/slow"), begun("")),
        (get("/cached/slow"), fresh),
        (get("/waits"), String::new()),
        (get("/cached/waits"), String::new()),
        (post("/upload"), String::new()),
        (post("/cached/upload"), String::new()),
    ] {
        let mut client = weir.connect().await;
        client.send(&request).await;
        let (mut server, _) = origin.request().await;
        server.send(&answer).await;
        if !answer.is_empty() {
            let head = client.head().await;
            assert!(answer.starts_with(&head[..12]), "{head}");
        }
        last.push((client, server, request, answer));
    }
    // It gets what another has asked for.
    let mut follower = weir.connect().await;
    follower.send(&get("/cached/slow")).await;
    follower.head().await;
    let mut idle = Http2::open(weir.address()).await;
    idle.ready().await;
    for config in &configs[1..] {
        weir.reload(config).await.unwrap();
        eventually(
            async || weir.metric("weir_config_states").await,
            |states| *states == 1.0,
        )
        .await;
    }
    for (mut client, mut server, request, answer) in last {
        if request.starts_with("POST") {
            client.send("nning").await;
            assert_eq!(server.take(9).await, b"beginning");
        }
        if answer.is_empty() {
            server.send(begun("")).await;
            assert!(client.head().await.contains("x-state: 0"), "{request}");
        }
        server.send("nning").await;
        let wanted: &[u8] = if request.starts_with("GET /socket") {
            b"nning"
        } else {
            b"beginning"
        };
        while client.buffer != wanted {
            assert!(client.read().await, "{request}");
        }
    }
    while follower.buffer != b"beginning" {
        assert!(follower.read().await);
    }
}

#[tokio::test]
async fn what_needs_a_restart_is_said_and_the_rest_applied() {
    let followed = Followed::start(&format!("[process]\nworkers = 1\n{}", site("one"))).await;
    followed.write(&format!("[process]\nworkers = 2\n{}", site("two")));
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .contains("a restart is needed for `process.workers`"),
        "{}",
        answer.text()
    );
    assert_eq!(followed.weir.get("/").await.text(), "two");
    let status = followed.weir.status().await;
    assert_eq!(status["workers"].as_array().unwrap().len(), 1);
    assert!(
        status["config"]["last_reload"]["message"]
            .as_str()
            .unwrap()
            .contains("process.workers")
    );
    followed.write(&format!("[process]\nworkers = 1\n{}", site("three")));
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert!(!answer.text().contains("restart"), "{}", answer.text());
}

#[tokio::test]
async fn a_reload_that_comes_while_weir_stops_is_refused() {
    let holding = Holding::start("held").await;
    let followed = Followed::start(&format!(
        "[process]\ndrain = \"5s\"\n{}",
        Weir::config(&[&holding.origin], "")
    ))
    .await;
    let Followed { weir, file, folder } = followed;
    let mut busy = ask_for(weir.address(), "/hold").await;
    eventually(
        async || weir.server(holding.origin.address()).await["in_flight"].clone(),
        |in_flight| *in_flight == 1,
    )
    .await;
    let admin = weir.admin_address();
    let stopping = tokio::spawn(weir.running.stop());
    let post = async || {
        let mut connection = Connection::open(admin).await;
        connection
            .send("POST /api/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            .await;
        connection.response().await
    };
    let port = free_port().await;
    std::fs::write(
        &file,
        format!(
            "{QUIET}[listen.new]\naddress = \"127.0.0.1:{port}\"\n{}",
            fixed("site", "", "new")
        ),
    )
    .unwrap();
    let answer = eventually(post, |answer| answer.status == 422).await;
    assert!(answer.text().contains("is stopping"), "{}", answer.text());
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
    );
    holding.release(1);
    assert_eq!(busy.response().await.status, 200);
    stopping.await.unwrap();
    drop(folder);
}

/// Requests on a connection until `stop`; how many there were.
async fn keep_asking(
    address: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    reconnect: usize,
) -> usize {
    let mut connection = Connection::open(address).await;
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let response = connection.get("/").await;
        assert_eq!(
            (response.status, &*response.text()),
            (200, "hello"),
            "request {count}"
        );
        count += 1;
        if count % reconnect == 0 || response.fields("connection") == ["close"] {
            connection = Connection::open(address).await;
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_over_twenty_reloads_under_load() {
    let (one, two) = (Origin::text("hello").await, Origin::text("hello").await);
    let configs = [
        Weir::config(&[&one, &two], "balance = \"least_connections\""),
        format!(
            "{}{}",
            Weir::config(&[&one], ""),
            "[listen.more]\naddress = \"127.0.0.1:0\"\n"
        ),
        format!(
            "{}{}",
            Weir::config(&[&two, &one], "connect_timeout = \"1s\""),
            fixed("more", "path = \"/more\"", "more")
        ),
        Weir::config(&[&two], ""),
    ];
    let weir = Weir::start(&configs[0]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = [3, 7, 50, 1000, 1000]
        .map(|reconnect| tokio::spawn(keep_asking(weir.address(), Arc::clone(&stop), reconnect)))
        .into();
    let http2 = {
        let (address, stop) = (weir.address(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut connection = Http2::open(address).await;
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(connection.get("/").await.text(), "hello");
                count += 1;
            }
            count
        })
    };
    for round in 1..=20 {
        let began = Instant::now();
        weir.reload(&configs[round % configs.len()]).await.unwrap();
        let refused = Weir::parse(&format!(
            "{}[listen.clash]\naddress = \"{}\"\n",
            configs[0],
            one.address()
        ));
        assert!(weir.running.reload(refused).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    // Enough of them came in between.
    eventually(
        async || one.requests().len() + two.requests().len(),
        |requests| *requests > 300,
    )
    .await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert!(http2.await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_fails_no_get() {
    let (stays, dies) = (Origin::text("hello").await, Origin::text("hello").await);
    let weir = Weir::start(&Weir::config(&[&stays, &dies], "")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = [5, 1000, 1000]
        .map(|reconnect| tokio::spawn(keep_asking(weir.address(), Arc::clone(&stop), reconnect)))
        .into();
    eventually(async || dies.requests().len(), |requests| *requests > 30).await;
    // Its connections are closed, those that carry a request too, and nobody listens any more.
    drop(dies);
    let before = stays.requests().len();
    eventually(
        async || stays.requests().len(),
        |requests| *requests > before + 100,
    )
    .await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}
