//! What came of a request that was forwarded, before it becomes the client's response.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};

use super::body::Body;
use super::record::Record;
use super::respond;
use super::upstream_body::UpstreamBody;
use crate::state::{Listener, Route};

/// What a server answered.
pub(super) enum Answer {
    /// As the client gets it: nobody wants to look at it before, or its connection and the client's have become a tunnel.
    Response(Response<Body>),
    Answered(Box<Answered>),
}

/// A response of a server.
pub(super) struct Answered {
    pub(super) record: Box<Record>,
    pub(super) status: StatusCode,
    /// Without hop-by-hop fields.
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    /// By which the client comes back to its server, where it has none yet. For no other client.
    pub(super) cookie: Option<HeaderValue>,
}

/// What follows the head of a response.
pub(super) enum Content {
    /// All of it.
    Whole(Bytes),
    /// The server is still sending it.
    Upstream(Box<UpstreamBody>),
}

impl Answer {
    /// The response for the client who asked.
    pub(super) fn respond(self, listener: &Listener, route: &Route) -> Response<Body> {
        match self {
            Self::Response(response) => response,
            Self::Answered(answered) => answered.respond(listener, route),
        }
    }
}

impl Answered {
    /// The response for the client who asked.
    pub(super) fn respond(mut self, listener: &Listener, route: &Route) -> Response<Body> {
        if let Some(cookie) = self.cookie {
            self.headers.append(SET_COOKIE, cookie);
        }
        let mut record = self.record;
        record.status = Some(self.status);
        let parts = respond::parts(self.status, self.headers, &record, listener, route);
        let body = match self.content {
            Content::Whole(bytes) => Body::whole(bytes, record),
            Content::Upstream(body) => Body::upstream(body, record),
        };
        Response::from_parts(parts, body)
    }
}
