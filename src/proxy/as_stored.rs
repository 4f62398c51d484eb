//! A stored response that goes out over HTTP/1 as it is stored: the lines of its head are there already, and what is of
//! this moment or this client is written behind them. No map of fields is made for it.

use std::sync::Arc;

use super::cache_status::write_hit;
use super::record::Record;
use super::respond::X_REQUEST_ID;
use crate::cache::Stored;
use crate::http1::fields::{Written, write_field, write_number};
use crate::semantics::coding::Coding;

/// What the head of such a response is written from.
pub(crate) struct AsStored {
    stored: Arc<Stored>,
    /// In seconds.
    age: u32,
    /// Seconds for which it stays fresh, if the client is told of the cache.
    ttl: Option<i32>,
    /// The coding that weir has given it.
    coding: Option<Coding>,
}

impl AsStored {
    /// `age` and `ttl` in seconds; no `ttl`: the client is not told of the cache.
    pub(super) fn new(
        stored: &Arc<Stored>,
        coding: Option<Coding>,
        age: u64,
        ttl: Option<i64>,
    ) -> Self {
        let capped = |ttl: i64| i32::try_from(ttl).unwrap_or(i32::MAX);
        Self {
            stored: Arc::clone(stored),
            age: u32::try_from(age).unwrap_or(u32::MAX),
            ttl: ttl.map(capped),
            coding,
        }
    }

    pub(super) fn coding(&self) -> Option<Coding> {
        self.coding
    }

    /// Appends its fields.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>) -> Written {
        let written = match self.coding {
            None => {
                out.extend_from_slice(self.stored.lines());
                Written::All
            }
            Some(coding) => {
                out.extend_from_slice(&self.stored.encoded_lines(coding));
                Written::AllButLength
            }
        };
        out.extend_from_slice(b"age: ");
        write_number(out, self.age.into());
        out.extend_from_slice(b"\r\n");
        write_field(out, X_REQUEST_ID.as_str().as_bytes(), record.id.as_bytes());
        if let Some(ttl) = self.ttl {
            out.extend_from_slice(b"cache-status: ");
            write_hit(out, ttl.into());
            out.extend_from_slice(b"\r\n");
        }
        let listener = record.at.as_ref().map(|at| &at.listener);
        if let Some(hsts) = listener.and_then(|listener| listener.hsts.as_ref()) {
            write_field(out, b"strict-transport-security", hsts.as_bytes());
        }
        written
    }
}
