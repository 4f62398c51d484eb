//! Returning to a config that ran before.

use serde_json::{Value, json};

use super::support::client::Response;
use super::support::control::{Followed, QUIET, WEB, fixed, secure};
use super::support::tls::{Authority, connect};
use super::support::{Connection, eventually};

fn site(body: &str) -> String {
    format!("{WEB}{}", fixed("site", "", body))
}

/// Asks for a rollback with that body.
async fn rollback(followed: &Followed, body: &str) -> Response {
    let mut connection = Connection::open(followed.weir.admin_address()).await;
    let length = body.len();
    connection
        .send(&format!(
            "POST /api/rollback HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    connection.response().await
}

/// Writes that config and takes it at once. Returns its hash.
async fn take(followed: &Followed, config: &str) -> Value {
    followed.write(config);
    let answer = followed.weir.admin("POST", "/api/reload").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str::<Value>(&answer.text()).unwrap()["hash"].clone()
}

/// Where the config that runs comes from, as the status and the metric tell.
async fn source(followed: &Followed) -> (String, f64) {
    let status = followed.weir.status().await;
    let source = status["config"]["source"].as_str().unwrap().to_owned();
    (
        source,
        followed.weir.metric("weir_config_rolled_back").await,
    )
}

#[tokio::test]
async fn a_rollback_returns_to_what_ran_before_and_another_one_back() {
    let followed = Followed::start(&site("one")).await;
    let one = followed.weir.status().await["config"]["hash"].clone();
    let two = take(&followed, &site("two")).await;
    assert_eq!(source(&followed).await, ("file".into(), 0.0));
    let answer = rollback(&followed, "").await;
    assert_eq!(answer.status, 200);
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((&told["result"], &told["hash"]), (&"ok".into(), &one));
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("weir.toml` is not what runs"), "{message}");
    assert_eq!(
        told["changes"],
        json!(["~ route.site.respond.body: \"two\" -> \"one\""])
    );
    assert_eq!(followed.weir.get("/").await.text(), "one");
    assert_eq!(source(&followed).await, ("rolled_back".into(), 1.0));
    let config = followed.weir.status().await["config"].clone();
    assert_eq!(config["hash"], one);
    assert_eq!(config["last_reload"]["result"], "rolled_back");
    assert_eq!(config["last_reload"]["message"], message);
    let kept: Vec<_> = config["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(|good| &good["hash"])
        .collect();
    assert_eq!(kept, [&one, &two]);
    let counted = "weir_config_reloads_total{result=\"rolled_back\"}";
    assert_eq!(followed.weir.metric(counted).await, 1.0);

    let answer = rollback(&followed, "").await;
    let told: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((&told["hash"], &told["message"]), (&two, &"".into()));
    assert_eq!(followed.weir.get("/").await.text(), "two");
    assert_eq!(
        source(&followed).await,
        ("file".into(), 0.0),
        "the file is what runs"
    );
}

#[tokio::test]
async fn any_of_those_that_are_kept_can_be_named() {
    let followed = Followed::start(&site("0")).await;
    let mut hashes = vec![followed.weir.status().await["config"]["hash"].clone()];
    for round in 1..12 {
        hashes.push(take(&followed, &site(&round.to_string())).await);
    }
    let kept = followed.weir.status().await["config"]["kept"].clone();
    assert_eq!(kept.as_array().unwrap().len(), 10);
    let to = async |hash: &Value| rollback(&followed, &json!({ "hash": hash }).to_string()).await;
    assert_eq!(to(&hashes[5]).await.status, 200);
    assert_eq!(followed.weir.get("/").await.text(), "5");
    for (hash, why) in [
        (&hashes[0], "no config of that hash is kept"),
        (&hashes[5], "runs already"),
    ] {
        let answer = to(hash).await;
        assert_eq!(answer.status, 409);
        assert!(answer.text().contains(why), "{}", answer.text());
    }
    for wrong in ["{\"has\":\"x\"}", "[", "{\"hash\":5}"] {
        assert_eq!(rollback(&followed, wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(followed.weir.get("/").await.text(), "5");
}

#[tokio::test]
async fn without_one_before_there_is_nothing_to_return_to() {
    let followed = Followed::start(&site("one")).await;
    let answer = rollback(&followed, "").await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.text().contains("no other config ran before"),
        "{}",
        answer.text()
    );
    // What was refused has not run.
    followed.write("[listen.web]\n");
    followed.until_reloads(0, 1).await;
    let answer = rollback(&followed, "").await;
    assert_eq!(answer.status, 409);
    let told =
        "no other config ran before this one, which runs on: the file was refused and never ran";
    assert!(answer.text().contains(told), "{}", answer.text());
}

/// Whoever asks for it may have meant the file, which needs no rollback.
#[tokio::test]
async fn a_rollback_after_a_refused_file_says_that_it_goes_further_back_and_how_to_return() {
    let followed = Followed::start(&site("one")).await;
    let one = followed.weir.status().await["config"]["hash"].clone();
    let two = take(&followed, &site("two")).await;
    let told = async |body: &str| {
        let answer = rollback(&followed, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told: Value = serde_json::from_str(&answer.text()).unwrap();
        let message = told["message"].as_str().unwrap().to_owned();
        (told["hash"].clone(), message)
    };
    let refused = async |config: &str| {
        followed.write(config);
        assert_eq!(followed.weir.admin("POST", "/api/reload").await.status, 422);
    };
    refused("[listen.web]\n").await;
    let (hash, message) = told("").await;
    assert_eq!(hash, one);
    let left = two.as_str().unwrap();
    let further = format!(
        "the file was refused and never ran: this went from the config that ran, `{left}`, to the one before it; \
         `weir rollback` once more returns to `{left}`; "
    );
    assert!(message.starts_with(&further), "{message}");
    assert!(message.contains("is not what runs"), "{message}");
    let last = followed.weir.status().await["config"]["last_reload"].clone();
    assert_eq!(last["message"], message);

    let (hash, message) = told("").await;
    assert_eq!(hash, two, "which is what was said");
    assert!(!message.contains("refused"), "{message}");
    // Who names a config knows which.
    refused("[listen.web]\n\n").await;
    let (hash, message) = told(&json!({ "hash": one }).to_string()).await;
    assert_eq!(hash, one);
    assert!(!message.contains("refused"), "{message}");
    // What has been taken since is what a rollback is from.
    refused("[listen.web]\n").await;
    take(&followed, &site("three")).await;
    let (hash, message) = told("").await;
    assert_eq!(hash, one);
    assert!(!message.contains("refused"), "{message}");
}

#[tokio::test]
async fn after_a_rollback_the_file_is_taken_when_it_changes_or_on_request() {
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let site = |body: &str| format!("{}{}", site(body), secure(&authority));
    let followed = Followed::start(&site("one")).await;
    take(&followed, &site("two")).await;
    assert_eq!(rollback(&followed, "").await.status, 200);
    // The watch hears of this, and of the write before.
    followed.write(&site("two"));
    followed.until_watched(&authority).await;
    assert_eq!(followed.weir.get("/").await.text(), "one");
    take(&followed, &site("two")).await;
    assert_eq!(source(&followed).await, ("file".into(), 0.0));
    assert_eq!(rollback(&followed, "").await.status, 200);
    followed.write(&site("three"));
    eventually(
        async || followed.weir.get("/").await.text(),
        |text| text == "three",
    )
    .await;
    eventually(
        async || source(&followed).await,
        |source| source.0 == "file",
    )
    .await;
}

/// Neither the config's own file nor those that it names.
#[tokio::test]
async fn a_rollback_needs_no_file() {
    let authority = Authority::new();
    authority.sign("test", &["test"]);
    let secured = format!("{}{}", site("one"), authority.table(&["test"], ""));
    let followed = Followed::start(&secured).await;
    take(&followed, &site("two")).await;
    for name in ["pem", "key"] {
        std::fs::remove_file(authority.path("test", name)).unwrap();
    }
    std::fs::remove_file(&followed.file).unwrap();
    assert_eq!(rollback(&followed, "").await.status, 200);
    let mut client = connect(authority.client(&[]), followed.weir.address(), "test").await;
    assert_eq!(client.get("/").await.text(), "one");
}

/// The directory may hold other files by then.
#[tokio::test]
async fn a_rollback_takes_the_included_files_of_then() {
    let followed = Followed::start(&site("main")).await;
    let folder = followed.folder.path().join("conf.d");
    std::fs::create_dir(&folder).unwrap();
    let more = |name, body| fixed(name, &format!("path = \"/{name}\""), body);
    let get = async |path| followed.weir.get(path).await.text();
    std::fs::write(folder.join("a.toml"), more("a", "one")).unwrap();
    let main = format!("include = [\"conf.d/*.toml\"]\n{QUIET}{}", site("main"));
    std::fs::write(&followed.file, main).unwrap();
    eventually(async || get("/a").await, |text| text == "one").await;
    std::fs::write(folder.join("b.toml"), more("b", "new")).unwrap();
    std::fs::write(folder.join("a.toml"), more("a", "two")).unwrap();
    eventually(
        async || (get("/a").await, get("/b").await),
        |texts| *texts == ("two".into(), "new".into()),
    )
    .await;
    let answer = rollback(&followed, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        (get("/a").await, get("/b").await),
        ("one".into(), "main".into())
    );
}

/// A rollback is checked and bound as any other config.
#[tokio::test]
async fn a_rollback_that_cannot_be_is_refused_and_changes_nothing() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let more = format!("[listen.more]\naddress = \"{address}\"\n");
    let followed = Followed::start(&format!("{}{more}", site("one"))).await;
    take(&followed, &site("two")).await;
    let taken = eventually(
        async || tokio::net::TcpListener::bind(address).await,
        |bound| bound.is_ok(),
    )
    .await;
    let answer = rollback(&followed, "").await;
    assert_eq!(answer.status, 422);
    assert!(
        answer.text().contains("listen.more: cannot listen on"),
        "{}",
        answer.text()
    );
    assert_eq!(followed.weir.get("/").await.text(), "two");
    assert_eq!(source(&followed).await, ("file".into(), 0.0));
    let last = followed.weir.status().await["config"]["last_reload"].clone();
    assert_eq!(last["result"], "refused");
    drop(taken);
}
