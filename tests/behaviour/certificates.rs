//! Certificates that are renewed while weir runs.

use std::sync::Arc;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::control::{Followed, WEB, fixed};
use super::support::eventually;
use super::support::tls::{Authority, connect, handshake};
use super::tls::certificate_for;

fn site(authority: &Authority, body: &str) -> String {
    let tls = authority.table(&["test"], "");
    format!("{WEB}{}{tls}", fixed("site", "", body))
}

/// A weir that follows its file and has one certificate, for `test`.
async fn secured() -> (Authority, Followed, Vec<u8>) {
    let authority = Authority::new();
    let certificate = authority.sign("test", &["test"]);
    let followed = Followed::start(&site(&authority, "one")).await;
    (authority, followed, certificate)
}

/// Waits until clients get that certificate.
async fn until_served(authority: &Authority, followed: &Followed, certificate: &[u8]) {
    let served = async || {
        certificate_for(authority, &followed.weir, "test")
            .await
            .unwrap()
    };
    eventually(served, |served| served == certificate).await;
}

async fn renewals(followed: &Followed, result: &str) -> f64 {
    let series = format!("weir_certificate_renewals_total{{result=\"{result}\"}}");
    followed.weir.metric(&series).await
}

/// One exchange on a connection of its own; whether its session was resumed.
async fn is_resumed(client: &Arc<rustls::ClientConfig>, followed: &Followed) -> bool {
    let mut stream = handshake(client, followed.weir.address(), "test")
        .await
        .unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"one"));
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_nothing_else_is_touched() {
    let (authority, followed, old) = secured().await;
    let before = followed.weir.status().await;
    let mut open = connect(authority.client(&[]), followed.weir.address(), "test").await;
    assert_eq!(open.get("/").await.text(), "one");
    until_served(&authority, &followed, &old).await;
    let client = Arc::new(authority.client(&[]));
    assert!(!is_resumed(&client, &followed).await);
    let new = authority.sign_until("test", &["test"], 2099);
    until_served(&authority, &followed, &new).await;
    assert_eq!(open.get("/").await.text(), "one", "the connection lives on");
    assert!(is_resumed(&client, &followed).await, "and so do tickets");
    eventually(
        async || renewals(&followed, "ok").await,
        |count| *count >= 1.0,
    )
    .await;
    let after = followed.weir.status().await;
    assert_eq!(after["config"], before["config"], "no reload");
    assert_eq!(followed.reloads().await, (0.0, 0.0));
    let told = &after["certificates"][0];
    assert_eq!(
        (&told["listen"], &told["names"][0]),
        (&"web".into(), &"test".into())
    );
    assert_eq!(told["expires"], "2099-12-31T00:00:00Z");
    assert!(told["days_left"].as_i64().unwrap() > 20_000, "{told}");
    assert_eq!(told["error"], serde_json::Value::Null);
    let cert = authority.path("test", "pem");
    let series = format!(
        "weir_certificate_expiry_timestamp_seconds{{listen=\"web\",cert=\"{}\"}}",
        cert.display()
    );
    assert_eq!(followed.weir.metric(&series).await, 4_102_358_400.0);
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused_and_the_old_pair_stays() {
    let (authority, followed, old) = secured().await;
    let error = async || followed.weir.status().await["certificates"][0]["error"].clone();
    let new = authority.sign("other", &["test"]);
    std::fs::copy(
        authority.path("other", "pem"),
        authority.path("test", "pem"),
    )
    .unwrap();
    let told = eventually(&error, |error| error.is_string()).await;
    assert!(
        told.as_str()
            .unwrap()
            .contains("is not that of the certificate"),
        "{told}"
    );
    assert_eq!(renewals(&followed, "refused").await, 1.0);
    until_served(&authority, &followed, &old).await;
    // Other changes of the folder are none of it.
    followed.write(&site(&authority, "one").replace("\"one\"", "\"two\""));
    followed.until_reloads(0, 1).await;
    assert_eq!(renewals(&followed, "refused").await, 1.0);
    std::fs::copy(
        authority.path("other", "key"),
        authority.path("test", "key"),
    )
    .unwrap();
    until_served(&authority, &followed, &new).await;
    eventually(&error, |error| error.is_null()).await;
    // What was refused for its certificate is good now.
    followed.until_reloads(1, 1).await;
    let mut client = connect(authority.client(&[]), followed.weir.address(), "test").await;
    assert_eq!(client.get("/").await.text(), "two");
}

#[tokio::test]
async fn files_that_are_gone_for_a_while_cost_nothing() {
    let (authority, followed, old) = secured().await;
    let error = async || followed.weir.status().await["certificates"][0]["error"].clone();
    std::fs::remove_file(authority.path("test", "key")).unwrap();
    let told = eventually(&error, |error| error.is_string()).await;
    assert!(
        told.as_str().unwrap().starts_with("cannot read `"),
        "{told}"
    );
    until_served(&authority, &followed, &old).await;
    let new = authority.sign("test", &["test"]);
    until_served(&authority, &followed, &new).await;
    eventually(&error, |error| error.is_null()).await;
}

/// Else a mistake in a file that nobody mends ends with an expired certificate.
#[tokio::test]
async fn a_certificate_is_renewed_while_the_file_is_bad() {
    let (authority, followed, _) = secured().await;
    followed.write("[listen.web\n");
    followed.until_reloads(0, 1).await;
    let new = authority.sign("test", &["test"]);
    until_served(&authority, &followed, &new).await;
    assert_eq!(
        followed.reloads().await,
        (0.0, 1.0),
        "the bad file is not tried again"
    );
}

/// The certificates of then may have expired since.
#[tokio::test]
async fn a_rollback_takes_the_certificates_of_today() {
    let (authority, followed, _) = secured().await;
    followed.write(&format!("{WEB}{}", fixed("site", "", "two")));
    followed.until_reloads(1, 0).await;
    let new = authority.sign("test", &["test"]);
    assert_eq!(
        followed.weir.admin("POST", "/api/rollback").await.status,
        200
    );
    until_served(&authority, &followed, &new).await;
    let newer = authority.sign("test", &["test"]);
    until_served(&authority, &followed, &newer).await;
    assert_eq!(
        followed.weir.status().await["config"]["source"],
        "rolled_back"
    );
}
