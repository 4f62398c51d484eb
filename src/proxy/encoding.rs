//! The step from a server's response to one that is encoded: asks `compress` what to do, and does it to the body.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};

use super::at_work::{AtWork, Beside};
use super::body::Body;
use super::encoded::Encoding;
use super::record::Record;
use crate::compress::{self, CodecMemory, Decision, Encoder, Plan, SLICE};
use crate::config::Compress;
use crate::semantics::coding::{self, Coding};
use crate::state::Listener;

/// Encodes a response of a route that is to, if there is memory for that.
pub(super) async fn encode(
    response: Response<Body>,
    listener: &Listener,
    memory: &CodecMemory,
) -> Response<Body> {
    let (mut parts, mut body) = response.into_parts();
    let Some((record, compress)) = body.record().zip(body.compress()) else {
        return Response::from_parts(parts, body);
    };
    match plan(record, compress, listener, &mut parts) {
        Plan::AsIs => {}
        Plan::Encode {
            coding,
            length,
            prompt,
        } => begin(&mut parts, &mut body, coding, (length, prompt), memory).await,
        Plan::IfEnough(coding) => {
            let enough = compress.min_size.as_usize();
            if !body.is_less_than(enough).await {
                begin(&mut parts, &mut body, coding, (None, false), memory).await;
            }
        }
    }
    Response::from_parts(parts, body)
}

/// What is to be done with a response.
pub(super) fn plan(
    record: &Record,
    compress: &Compress,
    listener: &Listener,
    parts: &mut Parts,
) -> Plan {
    let request = request(record, listener);
    compress::plan(compress, request, parts.status, &mut parts.headers)
}

/// The same, decided only.
pub(super) fn decide(
    record: &Record,
    compress: &Compress,
    listener: &Listener,
    status: StatusCode,
    headers: &HeaderMap,
) -> Decision {
    compress::decide(compress, request(record, listener), status, headers)
}

/// A request, as far as it decides on the coding of its response.
pub(super) fn request<'r>(record: &'r Record, listener: &Listener) -> compress::Request<'r> {
    compress::Request {
        method: &record.request.method,
        version: record.request.version,
        headers: &record.request.headers,
        https: record.is_https(listener),
    }
}

async fn begin(
    parts: &mut Parts,
    body: &mut Body,
    coding: Coding,
    (length, prompt): (Option<u64>, bool),
    memory: &CodecMemory,
) {
    let Some((compress, shard)) = body.compress().zip(body.compress_shard()) else {
        return;
    };
    let (level, shard) = (compress.level.of(coding), Arc::clone(shard));
    // What is small and here is encoded at once: its length can be told.
    if let Some(plain) = body.bytes().filter(|plain| plain.len() <= SLICE) {
        let plain = plain.clone();
        let Some(encoded) = at_once(coding, level, plain.clone(), memory).await else {
            shard.skipped.add(1);
            return;
        };
        if encoded.len() < plain.len() {
            coding::describe_encoded(&mut parts.headers, coding);
            let length = HeaderValue::from(encoded.len());
            parts.headers.insert(CONTENT_LENGTH, length);
            shard.plain.add(plain.len() as u64);
            shard.encoded.add(encoded.len() as u64);
            shard.response(coding);
            body.replace(encoded.into(), coding);
        }
        return;
    }
    // Without memory for it, there is no coding.
    let Some(permit) = memory.take(coding, level) else {
        shard.skipped.add(1);
        return;
    };
    if let Ok(encoder) = Encoder::new(coding, level, length) {
        coding::describe_encoded(&mut parts.headers, coding);
        shard.response(coding);
        let encoding = Encoding {
            work: AtWork::new(encoder, permit, Encoder::is_quick(coding, level)),
            prompt,
            shard,
        };
        body.encode(encoding, coding);
    }
}

/// All of a small body, beside the worker where that takes long; `None` without memory for it.
async fn at_once(
    coding: Coding,
    level: u32,
    plain: Bytes,
    memory: &CodecMemory,
) -> Option<Vec<u8>> {
    if plain.len() <= Encoder::stretch(coding, level) {
        return Encoder::encode(coding, level, &plain).ok();
    }
    let permit = memory.take(coding, level)?;
    let encode = move || {
        let _permit = permit;
        Encoder::encode(coding, level, &plain)
    };
    Beside::run(encode).await.ok()
}
