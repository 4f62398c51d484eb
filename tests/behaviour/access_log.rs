//! The access log: which exchanges, which fields, which file.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::support::control::{WEB, fixed};
use super::support::origin::ok;
use super::support::{Origin, Weir, eventually};

/// A config that logs to a file in a new folder.
fn logging(keys: &str, config: &str) -> (String, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    (
        format!("[log]\naccess = \"{}\"\n{keys}\n{config}", file.display()),
        folder,
        file,
    )
}

/// The lines of a log, once there are that many.
async fn lines(file: &Path, count: usize) -> Vec<String> {
    let read = async || std::fs::read_to_string(file).unwrap_or_default();
    let whole = |text: &String| text.is_empty() || text.ends_with('\n');
    let text = eventually(read, |text| text.lines().count() >= count && whole(text)).await;
    text.lines().map(str::to_owned).collect()
}

async fn json(file: &Path, count: usize) -> Vec<Value> {
    lines(file, count)
        .await
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test]
async fn a_line_of_json_has_every_field() {
    let origin = Origin::text("hello").await;
    let (config, _folder, file) = logging("access_filter = \"all\"", &Weir::config(&[&origin], ""));
    let weir = Weir::start(&config).await;
    let request = "POST /path?q=1 HTTP/1.1\r\nHost: shop.example:81\r\nUser-Agent: Agent/1\r\nReferer: http://a.example/\r\nContent-Length: 3\r\n\r\nabc";
    let response = weir.ask(request).await;
    let line = json(&file, 1).await.remove(0);
    let names: Vec<_> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = vec![
        "time",
        "request_id",
        "listen",
        "client",
        "method",
        "host",
        "target",
        "protocol",
        "status",
        "bytes_in",
        "bytes_out",
        "seconds",
        "route",
        "upstream",
        "server",
        "attempts",
        "connect_seconds",
        "first_byte_seconds",
        "user_agent",
        "referer",
        "end",
    ];
    expected.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted, expected,
        "without `cache` and `coding`, of which there is nothing to tell"
    );
    for (name, value) in [
        ("request_id", Value::from(response.field("x-request-id"))),
        ("listen", "web".into()),
        ("client", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", "shop.example:81".into()),
        ("target", "/path?q=1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes_in", 3.into()),
        ("bytes_out", 5.into()),
        ("route", "site".into()),
        ("upstream", "app".into()),
        ("server", origin.address().to_string().into()),
        ("attempts", 1.into()),
        ("user_agent", "Agent/1".into()),
        ("referer", "http://a.example/".into()),
        ("end", "complete".into()),
    ] {
        assert_eq!(line[name], value, "{name}");
    }
    let time = line["time"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    for seconds in ["seconds", "connect_seconds", "first_byte_seconds"] {
        assert!(
            (0.0..10.0).contains(&line[seconds].as_f64().unwrap()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_combined_format_is_that_of_apache() {
    let (config, _folder, file) = logging(
        "access_filter = \"all\"\naccess_format = \"combined\"",
        &[WEB, &fixed("site", "", "hello")].concat(),
    );
    let weir = Weir::start(&config).await;
    weir.ask("GET /a%20b?c HTTP/1.1\r\nHost: a\r\nUser-Agent: Agent \"1\"\r\nReferer: http://a.example/\r\n\r\n").await;
    let line = lines(&file, 1).await.remove(0);
    let (client, rest) = line.split_once(" - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(client, "127.0.0.1");
    assert_eq!(time.len(), "10/Oct/2000:13:55:36 +0000".len(), "{time}");
    assert_eq!(
        rest,
        "\"GET /a%20b?c HTTP/1.1\" 200 5 \"http://a.example/\" \"Agent \\x221\\x22\""
    );
}

#[tokio::test]
async fn errors_are_5xx_and_exchanges_that_broke_off() {
    let origin = Origin::start(|request| match request.target() {
        "/500" => b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/404" => b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/short" => {
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nshort".to_vec()
        }
        "/none" => Vec::new(),
        _ => ok("hello"),
    })
    .await;
    let (config, _folder, file) = logging("", &Weir::config(&[&origin], ""));
    let weir = Weir::start(&config).await;
    for target in ["/", "/404", "/500", "/short", "/", "/none"] {
        weir.ask(&format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    }
    let logged: Vec<_> = json(&file, 3)
        .await
        .iter()
        .map(|line| format!("{} {} {}", line["target"], line["status"], line["end"]))
        .collect();
    let mut logged: Vec<_> = logged.iter().map(|line| line.replace('"', "")).collect();
    logged.sort_unstable();
    assert_eq!(
        logged,
        [
            "/500 500 complete",
            "/none 502 complete",
            "/short 200 server_broke"
        ]
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_named_and_so_is_the_upstream_without_a_server() {
    let origin = Origin::raw(|mut stream, _| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npiece")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let dead = Origin::text("dead").await;
    let keys =
        "health_check = { type = \"tcp\", interval = \"100ms\", fall = 1 }\non_all_down = \"503\"";
    let down = format!(
        "[route.down]\npath = \"/down\"\nupstream = \"down\"\n[upstream.down]\nservers = [\"{}\"]\n{keys}\n",
        dead.address()
    );
    let down_server = dead.address();
    drop(dead);
    let (config, _folder, file) = logging("", &format!("{}{down}", Weir::config(&[&origin], "")));
    let weir = Weir::start(&config).await;
    let mut connection = super::support::control::ask_for(weir.address(), "/leave").await;
    connection.head().await;
    while connection.buffer.is_empty() {
        assert!(connection.read().await);
    }
    drop(connection);
    let line = json(&file, 1).await.remove(0);
    assert_eq!(
        (&line["end"], &line["bytes_out"], &line["upstream"]),
        (&"client_gone".into(), &5.into(), &"app".into())
    );
    weir.until_server_is(down_server, "down").await;
    assert_eq!(weir.get("/down").await.status, 503);
    let line = json(&file, 2).await.remove(1);
    assert_eq!(
        (&line["route"], &line["upstream"], &line["status"]),
        (&"down".into(), &"down".into(), &503.into())
    );
    assert_eq!((line.get("server"), &line["attempts"]), (None, &0.into()));
}

#[tokio::test]
async fn no_client_writes_lines_of_its_own() {
    for (format, keys) in [
        ("json", "access_filter = \"all\""),
        (
            "combined",
            "access_filter = \"all\"\naccess_format = \"combined\"",
        ),
    ] {
        let (config, _folder, file) = logging(keys, &[WEB, &fixed("site", "", "hello")].concat());
        let weir = Weir::start(&config).await;
        let mut connection = weir.connect().await;
        // Bytes that a field may hold: quotes, backslashes, a tab, obs-text that is no UTF-8, terminal escapes by C1.
        connection.send_bytes(b"GET /\"\\x?{} HTTP/1.1\r\nHost: a\r\nReferer: \\n\\\"\r\nUser-Agent: x\" 200 \"\\\t\xff\xc2\x9b\x80\",\"end\":\"forged\r\n\r\n").await;
        assert_eq!(connection.response().await.status, 200);
        connection
            .send_bytes(
                &[
                    b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: ".to_vec(),
                    vec![b'a'; 20_000],
                    b"\r\n\r\n".to_vec(),
                ]
                .concat(),
            )
            .await;
        assert_eq!(connection.response().await.status, 200);
        let lines = lines(&file, 2).await;
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines
                .iter()
                .all(|line| line.len() < 10_000 && !line.contains(['\t', '\u{9b}'])),
            "{lines:?}"
        );
        if format == "json" {
            let line: Value = serde_json::from_str(&lines[0]).unwrap();
            assert_eq!(line["end"], "complete");
        } else {
            // Without its escaped quotes the line has as many as any other.
            assert_eq!(
                lines[0]
                    .replace("\\\\", "")
                    .replace("\\\"", "")
                    .matches('"')
                    .count(),
                6,
                "{}",
                lines[0]
            );
        }
    }
}

#[tokio::test]
async fn the_file_is_opened_anew_after_it_was_moved() {
    let (config, folder, file) = logging(
        "access_filter = \"all\"",
        &[WEB, &fixed("site", "", "hello")].concat(),
    );
    let weir = Weir::start(&config).await;
    weir.get("/before").await;
    lines(&file, 1).await;
    let moved = folder.path().join("access.log.1");
    std::fs::rename(&file, &moved).unwrap();
    weir.get("/between").await;
    lines(&moved, 2).await;
    weir.running.reopen_access_log().unwrap();
    weir.get("/after").await;
    assert_eq!(json(&file, 1).await[0]["target"], "/after");
    assert_eq!(lines(&moved, 2).await.len(), 2);
}

#[tokio::test]
async fn a_reload_changes_file_format_and_filter() {
    let site = [WEB, &fixed("site", "", "hello")].concat();
    let (first, folder, file) = logging("access_filter = \"all\"", &site);
    let weir = Weir::start(&first).await;
    weir.get("/one").await;
    lines(&file, 1).await;
    let other = folder.path().join("other.log");
    let second = format!(
        "[log]\naccess = \"{}\"\naccess_filter = \"all\"\naccess_format = \"combined\"\n{site}",
        other.display()
    );
    weir.reload(&second).await.unwrap();
    weir.get("/two").await;
    assert!(lines(&other, 1).await[0].contains("\"GET /two HTTP/1.1\""));
    weir.reload(&second.replace("\"all\"", "\"errors\""))
        .await
        .unwrap();
    weir.get("/three").await;
    weir.reload(&first).await.unwrap();
    weir.get("/four").await;
    assert_eq!(json(&file, 2).await[1]["target"], "/four");
    assert_eq!(lines(&other, 1).await.len(), 1);
    weir.reload(&format!("[log]\naccess = \"off\"\n{site}"))
        .await
        .unwrap();
    weir.get("/five").await;
    weir.reload(&first).await.unwrap();
    weir.get("/six").await;
    assert_eq!(json(&file, 3).await[2]["target"], "/six");
}
