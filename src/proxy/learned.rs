//! What a request gets from the fetch that it had to have made.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderMap;

use super::answer::Answered;
use super::error::ProxyError;
use super::local::LocalServer;
use super::record::Record;
use crate::cache::{Refusal, Stored};
use crate::semantics::cache_control::Directives;

/// What the request gets that had to make the fetch.
pub(super) enum Own {
    /// It is stored, or about to be. Its body is coming to all who wait.
    Coming(Arc<Stored>, OwnFields, Learned),
    /// It is stored, whole. The status is the server's.
    Stored(Arc<Stored>, StatusCode, OwnFields, Learned),
    /// A 304 confirmed it for this client, but said what keeps it from being stored so.
    Confirmed(Arc<Stored>, Refusal, OwnFields, Learned),
    /// It is for this client alone.
    Answered(Box<Answered>, Refusal),
    /// There is none.
    Failed(ProxyError, Learned),
}

/// Fields of the response that are not stored, since they are for the one who asked only.
pub(super) type OwnFields = Option<Box<HeaderMap>>;

/// What the fetch has to tell of its attempts.
pub(super) struct Learned {
    server: Option<Rc<LocalServer>>,
    attempts: u32,
    queued: Option<Duration>,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
}

impl Learned {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            server: record.server.clone(),
            attempts: record.attempts,
            queued: record.queued,
            connect: record.connect,
            first_byte: record.first_byte,
        }
    }

    /// As if the request had made the attempts itself.
    pub(super) fn tell(self, record: &mut Record) {
        record.server = self.server;
        record.attempts += self.attempts;
        record.queued = self.queued;
        record.connect = self.connect;
        record.first_byte = self.first_byte;
    }
}

/// The fields of a whole response that are not.
pub(super) fn own_fields_of(response: &HeaderMap) -> OwnFields {
    own_fields(&Directives::of_response(response), response)
}

/// The same by these directives (RFC 9111 §5.2.2.4, §5.2.2.7).
pub(super) fn own_fields(directives: &Directives, headers: &HeaderMap) -> OwnFields {
    let mut own = HeaderMap::new();
    for (name, value) in headers {
        if directives.names(name) {
            own.append(name, value.clone());
        }
    }
    (!own.is_empty()).then(|| Box::new(own))
}
