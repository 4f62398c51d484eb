//! What is done with a request, before anything is: who asks, which route takes it, and what that does. Decides and does
//! nothing, so that `weir explain` can tell without a client and without servers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use super::body::Body;
use super::error::ProxyError;
use super::fields::Parts;
use super::local::Local;
use super::record::{Id, Record};
use super::respond::{self, X_REQUEST_ID};
use super::target::Target;
use crate::route::Wanted;
use crate::semantics::forwarded;
use crate::state::{Action, Listener, Route, State};

/// The longest request id that is taken over from a trusted proxy.
const MAX_REQUEST_ID: usize = 128;

/// What is done with a request.
pub(super) enum Course<'s> {
    /// It is answered without a server.
    Answer(Own<'s>),
    /// It goes to one of these upstreams of its route.
    Forward(&'s [(usize, u64)]),
}

/// What weir itself answers, where that is no error.
pub(super) enum Own<'s> {
    /// To HTTPS, at this location.
    ToHttps(String),
    Redirect {
        route: &'s Route,
        to: &'s str,
        status: StatusCode,
    },
    Fixed {
        route: &'s Route,
        status: StatusCode,
        body: &'s Bytes,
        content_type: &'s HeaderValue,
    },
}

impl<'s> Own<'s> {
    /// The one that it answers for, if it does for one.
    pub(super) fn route(&self) -> Option<&'s Route> {
        match self {
            Self::ToHttps(_) => None,
            Self::Redirect { route, .. } | Self::Fixed { route, .. } => Some(route),
        }
    }

    /// The response for the client who asked.
    pub(super) fn respond(
        self,
        record: Box<Record>,
        listener: &Listener,
        target: &Target<'_>,
    ) -> Response<Body> {
        match self {
            Self::ToHttps(location) => {
                let status = StatusCode::PERMANENT_REDIRECT;
                respond::redirect(record, listener, None, status, &location, target)
            }
            Self::Redirect { route, to, status } => {
                respond::redirect(record, listener, Some(route), status, to, target)
            }
            Self::Fixed {
                route,
                status,
                body,
                content_type,
            } => respond::fixed(record, listener, route, status, body, content_type),
        }
    }
}

/// Decides. `length`: the body of the request is at least so long.
#[inline]
pub(super) fn decide<'s>(
    record: &mut Record,
    local: &'s Local,
    listener: &Listener,
    target: &Target<'_>,
    length: u64,
) -> Result<Course<'s>, ProxyError> {
    if let Some(location) = https_location(record, listener, target) {
        return Ok(Course::Answer(Own::ToHttps(location)));
    }
    let table = local.state.table(listener.number);
    let number = table.and_then(|table| table.find(&wanted(&record.request, target)));
    let found = number.and_then(|&number| Some((number, local.state.routes.get(number)?)));
    let Some((number, route)) = found else {
        return Err(ProxyError::NoRoute);
    };
    record.at = local.route(listener.number, number, 0).cloned();
    if route.max_body.is_some_and(|max| length > max) {
        return Err(ProxyError::BodyTooLarge);
    }
    Ok(match &route.action {
        Action::Forward(choices) => Course::Forward(choices),
        Action::Redirect { to, status } => Course::Answer(Own::Redirect {
            route,
            to,
            status: *status,
        }),
        Action::Respond {
            status,
            body,
            content_type,
        } => Course::Answer(Own::Fixed {
            route,
            status: *status,
            body,
            content_type,
        }),
    })
}

/// What the route of a request is found by.
pub(super) fn wanted<'r>(request: &'r Parts, target: &'r Target<'_>) -> Wanted<'r> {
    Wanted {
        host: &target.host,
        path: target.routed_path(),
        method: &request.method,
        headers: &request.headers,
        query: target.query,
    }
}

/// Who asks, and the name of the request: both by the word of a trusted proxy only.
pub(super) fn identify(record: &mut Record, listener: &Listener) {
    let headers = &record.request.headers;
    let peer = record.client.peer.ip();
    if !listener.trusted_proxies.is_empty()
        && forwarded::is_trusted(peer, &listener.trusted_proxies)
    {
        record.address = forwarded::client_address(peer, &listener.trusted_proxies, headers);
        if let Some(id) = headers
            .get(X_REQUEST_ID)
            .filter(|id| id.len() <= MAX_REQUEST_ID && id.to_str().is_ok())
        {
            record.id = Id::Told(id.clone());
        }
    }
}

/// Where `redirect_to_https` sends the client; nowhere what a certificate authority asks for over cleartext (RFC 8555 §8.3).
fn https_location(record: &Record, listener: &Listener, target: &Target<'_>) -> Option<String> {
    let to = listener.redirect_to_https?;
    let peer = record.client.peer.ip();
    if record.is_https(listener)
        || target.host.is_empty()
        || target.path.starts_with("/.well-known/acme-challenge/")
    {
        return None;
    }
    let port = if to.port == 443 {
        String::new()
    } else {
        format!(":{}", to.port)
    };
    // The host that the client asked for, which a proxy in front may have changed.
    let told = forwarded::host_of(peer, &listener.trusted_proxies, &record.request.headers);
    let host = told.as_ref().map_or(&*target.host, |host| &*host.name);
    Some(format!("https://{host}{port}{{path}}"))
}

/// The place of the upstream that a request goes to, where that is settled: there is but one, or the client's cookie says
/// so.
pub(super) fn choice(choices: &[(usize, u64)], state: &State, request: &Parts) -> Option<usize> {
    if choices.len() <= 1 {
        return Some(0);
    }
    choices.iter().position(|(upstream, _)| {
        let upstream = state.upstreams.get(*upstream);
        let sticky = upstream.and_then(|upstream| upstream.sticky.as_ref());
        sticky.is_some_and(|sticky| sticky.place(&request.headers).is_some())
    })
}
