//! A stored response that goes out over HTTP/1 as it is stored: the lines of its head are there already, and what is of
//! this moment or this client is written behind them. No map of fields is made for it.

use std::sync::Arc;

use super::cache_status::write_hit;
use super::record::Record;
use super::respond::X_REQUEST_ID;
use crate::cache::Stored;
use crate::http1::fields::{write_field, write_number};
use crate::semantics::coding::Coding;

/// What the head of such a response is written from.
pub(crate) struct AsStored {
    pub(super) stored: Arc<Stored>,
    /// The coding that weir has given it, and the length in that.
    pub(super) coded: Option<(Coding, usize)>,
    /// In seconds.
    pub(super) age: u64,
    /// Seconds for which it stays fresh, if the client is told of the cache.
    pub(super) ttl: Option<i64>,
}

impl AsStored {
    /// Appends all of its fields.
    pub(super) fn write(&self, record: &Record, out: &mut Vec<u8>) {
        match self.coded {
            None => out.extend_from_slice(self.stored.lines()),
            Some((coding, length)) => {
                out.extend_from_slice(self.stored.encoded_lines(coding));
                out.extend_from_slice(b"content-length: ");
                write_number(out, length as u64);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"age: ");
        write_number(out, self.age);
        out.extend_from_slice(b"\r\n");
        write_field(out, X_REQUEST_ID.as_str().as_bytes(), record.id.as_bytes());
        if let Some(ttl) = self.ttl {
            out.extend_from_slice(b"cache-status: ");
            write_hit(out, ttl);
            out.extend_from_slice(b"\r\n");
        }
        let listener = record.at.as_ref().map(|at| &at.listener);
        if let Some(hsts) = listener.and_then(|listener| listener.hsts.as_ref()) {
            write_field(out, b"strict-transport-security", hsts.as_bytes());
        }
    }
}
