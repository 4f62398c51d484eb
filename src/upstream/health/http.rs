//! `type = "http"`: one request over HTTP/1.1; the status, and perhaps the body, tell.

use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

use super::{AbortOnDrop, MAX_BODY, USER_AGENT};
use crate::config::HttpCheck;
use crate::upstream::stream::Stream;

/// Asks on `stream`. `server` is what the `Host` says where the config does not.
pub(super) async fn probe(check: &HttpCheck, stream: Stream, server: &str) -> Result<(), String> {
    let host = match &check.host {
        Some(host) => host.clone(),
        None => HeaderValue::try_from(server).map_err(|_| "bad host".to_owned())?,
    };
    let mut request = Request::builder()
        .method(&check.method)
        .uri(check.path.as_str())
        .header(header::HOST, host);
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    if !check
        .headers
        .iter()
        .any(|(name, _)| *name == header::USER_AGENT)
    {
        request = request.header(header::USER_AGENT, USER_AGENT);
    }
    let request = request
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| "the check's request is invalid".to_owned())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| "connection failed".to_owned())?;
    let _connection = AbortOnDrop(tokio::spawn(connection).abort_handle());
    let response = sender.send_request(request).await.map_err(|error| {
        if error.is_parse() {
            "not an HTTP response".to_owned()
        } else {
            "connection closed without a response".to_owned()
        }
    })?;
    let code = response.status().as_u16();
    let expected = |&(from, to): &(u16, u16)| (from..=to).contains(&code);
    if !check.status.iter().any(expected) {
        return Err(format!("status {code}"));
    }
    if let Some(wanted) = &check.body {
        let collected = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let bytes = collected
            .map_err(|_| "the body broke off or is larger than 64 KiB".to_owned())?
            .to_bytes();
        if !contains(&bytes, wanted.as_bytes()) {
            return Err("the body does not contain what it must".to_owned());
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || bytes.windows(wanted.len()).any(|window| window == wanted)
}
