//! `weir demo`: needs nothing, writes nothing, and does what it prints.

use std::collections::BTreeSet;
use std::net::TcpListener;

use rustix::process::Signal;

use super::support::{Program, ask, get, until, weir};

/// What follows `before` in the text, up to a blank or a slash.
fn word<'t>(text: &'t str, before: &str) -> &'t str {
    let rest = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before} in {text}"))
        .1;
    rest.split([' ', '/', '\n']).next().unwrap()
}

fn origin(answer: &str) -> String {
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-origin: "));
    line.unwrap_or_else(|| panic!("X-Origin in {answer}"))
        .to_owned()
}

#[test]
fn the_demo_shows_what_it_says_even_where_the_usual_ports_are_taken() {
    // Whoever has them keeps them; otherwise they are taken now.
    let _taken = [
        TcpListener::bind("127.0.0.1:8080"),
        TcpListener::bind("127.0.0.1:9900"),
    ];
    let empty = tempfile::tempdir().unwrap();
    let mut demo = Program::start(weir(empty.path(), ["demo"]));
    demo.line_with("Ctrl-C ends it.");
    let printed = demo.printed();
    let web = word(&printed, "http://").to_owned();
    assert!(
        printed
            .lines()
            .next()
            .unwrap()
            .contains(&format!("http://{web}/ ")),
        "the first URL is that of the proxy"
    );
    let admin = word(&printed, "Admin address: http://").to_owned();
    assert_ne!((&*web, &*admin), ("127.0.0.1:8080", "127.0.0.1:9900"));
    let seen: BTreeSet<String> = (0..12).map(|_| origin(&get(&*web, "/"))).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(get(&*admin, "/api/status").contains("\"app\""));
    // Its third server fails when it is told to, and is skipped from then on.
    let third = word(&printed, "curl -X POST http://").to_owned();
    assert!(ask(&*third, "POST", "/fail").starts_with("HTTP/1.1 200"));
    until(
        || {
            get(&*admin, "/api/status")
                .contains("\"down\"")
                .then_some(())
        },
        || demo.printed(),
    );
    for _ in 0..9 {
        let answer = get(&*web, "/");
        assert!(
            answer.starts_with("HTTP/1.1 200") && origin(&answer) != "three",
            "{answer}"
        );
    }
    assert!(ask(&*third, "POST", "/heal").starts_with("HTTP/1.1 200"));
    until(
        || (!get(&*admin, "/api/status").contains("\"down\"")).then_some(()),
        || demo.printed(),
    );
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.printed());
    assert_eq!(
        std::fs::read_dir(empty.path()).unwrap().count(),
        0,
        "it writes nothing"
    );
}
