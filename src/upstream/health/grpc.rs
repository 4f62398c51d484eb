//! `type = "grpc"`: the health service that gRPC servers have (`grpc.health.v1.Health/Check`), asked over HTTP/2: with
//! prior knowledge in cleartext, by ALPN over TLS.
//!
//! Its two messages are small enough to be written by hand:
//! `HealthCheckRequest { string service = 1; }`, `HealthCheckResponse { ServingStatus status = 1; }`.

use std::error::Error as _;

use bytes::Buf;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{AbortOnDrop, MAX_BODY, USER_AGENT};
use crate::config::GrpcCheck;
use crate::upstream::stream::Stream;

/// Asks on `stream`. `server` is the `:authority` where the config has no `host`.
pub(super) async fn probe(check: &GrpcCheck, stream: Stream, server: &str) -> Result<(), String> {
    let scheme = if matches!(stream, Stream::Tls(_)) {
        "https"
    } else {
        "http"
    };
    let request = request(check, scheme, server).ok_or("the check's request is invalid")?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let _connection = AbortOnDrop(tokio::spawn(connection).abort_handle());
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| broken(&error))?;
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let (head, body) = response.into_parts();
    let answer = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|_| "the body broke off or is larger than 64 KiB")?;
    // An answer without a message may have its trailers in its head.
    let code = answer
        .trailers()
        .and_then(grpc_status)
        .or_else(|| grpc_status(&head.headers));
    match code.as_deref() {
        Some("0") => serving(answer.to_bytes()),
        Some(NOT_FOUND) => Err("unknown service".to_owned()),
        Some(code) => Err(format!("grpc status {code}")),
        None => Err("not a gRPC response".to_owned()),
    }
}

fn request(check: &GrpcCheck, scheme: &str, server: &str) -> Option<Request<Full<Bytes>>> {
    let authority = match &check.host {
        Some(host) => host.as_bytes(),
        None => server.as_bytes(),
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/grpc.health.v1.Health/Check")
        .build()
        .ok()?;
    let mut request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
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
    request.body(Full::new(question(&check.service))).ok()
}

/// The message that asks for `service`, with its prefix: not compressed, and its length.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    // The default of a field is not sent.
    if !service.is_empty() {
        message.push(SERVICE);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// Whether the one message of an answer says SERVING.
fn serving(mut answer: Bytes) -> Result<(), String> {
    let strange = || "not a gRPC response".to_owned();
    let compressed = answer.try_get_u8().map_err(|_| strange())? != 0;
    let length = answer.try_get_u32().map_err(|_| strange())? as usize;
    if compressed || answer.len() != length {
        return Err(strange());
    }
    match status_in(answer).ok_or_else(strange)? {
        SERVING => Ok(()),
        SERVICE_UNKNOWN => Err("unknown service".to_owned()),
        _ => Err("not serving".to_owned()),
    }
}

/// The value of `status` in a `HealthCheckResponse`; other fields are skipped, the last of several counts. `None` if it is
/// no such message.
fn status_in(mut message: Bytes) -> Option<u64> {
    let mut status = 0;
    while message.has_remaining() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => skip(&mut message, 8)?,
            (_, 2) => {
                let length = varint(&mut message)?;
                skip(&mut message, length)?;
            }
            (_, 5) => skip(&mut message, 4)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn skip(bytes: &mut Bytes, length: u64) -> Option<()> {
    let length = usize::try_from(length).ok()?;
    (length <= bytes.len()).then(|| bytes.advance(length))
}

fn grpc_status(fields: &HeaderMap) -> Option<String> {
    let value = fields.get("grpc-status")?.to_str().ok()?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    (digits && value.len() <= 3).then(|| value.to_owned())
}

fn broken(error: &hyper::Error) -> String {
    let ended = error.is_canceled()
        || error.is_closed()
        || error
            .source()
            .and_then(|cause| cause.downcast_ref::<h2::Error>())
            .is_some_and(h2::Error::is_io);
    if ended {
        "connection closed without a response".to_owned()
    } else {
        "not an HTTP/2 response".to_owned()
    }
}

/// Field 1, length-delimited.
const SERVICE: u8 = 0x0a;
/// `ServingStatus`
const SERVING: u64 = 1;
const SERVICE_UNKNOWN: u64 = 3;
/// What a health service answers for a service that it does not know.
const NOT_FOUND: &str = "5";

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &[u8]) -> Result<(), String> {
        let mut framed = vec![0, 0, 0, 0, message.len() as u8];
        framed.extend_from_slice(message);
        serving(framed.into())
    }

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(question(""), &[0, 0, 0, 0, 0][..]);
        assert_eq!(question("a.B"), &b"\0\0\0\0\x05\x0a\x03a.B"[..]);
        let long = question(&"s".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_passes() {
        assert_eq!(answer(&[8, 1]), Ok(()));
        for (message, reason) in [
            (&[8, 2][..], "not serving"),
            (&[8, 0], "not serving"),
            (&[], "not serving"),
            (&[8, 3], "unknown service"),
            (&[8, 0x81, 1], "not serving"),
            (&[8], "not a gRPC response"),
            (&[0x0b], "not a gRPC response"),
            (&[0x12, 9, 1], "not a gRPC response"),
            (&[0xff; 12], "not a gRPC response"),
        ] {
            assert_eq!(answer(message), Err(reason.to_owned()), "{message:?}");
        }
        let other_fields = [
            0x12, 2, 8, 2, 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0x30, 7, 8, 1,
        ];
        assert_eq!(answer(&other_fields), Ok(()));
    }

    #[test]
    fn what_is_not_one_plain_message_is_refused() {
        for bytes in [
            &[][..],
            &[0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 2, 8, 1, 0],
        ] {
            assert_eq!(
                serving(Bytes::copy_from_slice(bytes)),
                Err("not a gRPC response".to_owned())
            );
        }
    }
}
