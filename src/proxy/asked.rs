//! What a client asks for, before anything is rewritten: what stored responses are found by.

use super::record::Record;
use super::target::Target;
use crate::cache::key::Asked;
use crate::semantics::forwarded;
use crate::semantics::host::Host;
use crate::state::Listener;

/// The host that trusted proxies say the client asked for.
pub(super) fn told<'h>(record: &'h Record, listener: &Listener) -> Option<Host<'h>> {
    let trusted = &listener.trusted_proxies;
    if trusted.is_empty() {
        return None;
    }
    forwarded::host_of(record.client.peer.ip(), trusted, &record.request.headers)
}

/// Hands on what the client asks for.
pub(super) fn asked<T>(
    record: &Record,
    listener: &Listener,
    target: &Target<'_>,
    then: impl FnOnce(&Asked<'_>) -> T,
) -> T {
    let told = told(record, listener);
    let (host, port) = match &told {
        Some(told) => (&*told.name, told.port),
        None => (&*target.host, target.port),
    };
    then(&Asked {
        https: record.is_https(listener),
        host,
        port,
        path: target.routed_path(),
        query: target.query,
    })
}
