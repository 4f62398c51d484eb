//! A request as a listener would get it, without a socket and without a client.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::http1::Rules;
use super::http1::workbench::Workbench;
use crate::proxy::fields::Parts;
use crate::proxy::request_body::RequestBody;
use crate::state::Listener;

/// What is answered before a request is one.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
}

/// The request of this head, which is HTTP/1.1 and whole; its body does not come.
///
/// # Errors
/// If weir would not take it for a request.
pub(crate) fn received(listener: &Listener, head: &[u8]) -> Result<(Parts, RequestBody), Refused> {
    let rules = Rules::from(&listener.limits);
    let read = Bytes::copy_from_slice(head);
    let parsed = rules.parse(&Workbench::new(), read, HeaderMap::new);
    let (head, _) = parsed.map_err(|bad| Refused {
        status: bad.status(),
        reason: bad.to_string(),
    })?;
    let body = RequestBody::Told(head.framing.remaining());
    Ok((head.parts, body))
}
