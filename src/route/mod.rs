//! Which route a request takes. One [`Table`] for each listener.
//!
//! The order of the file means nothing. Among all routes that match, the best is found by what it says of the host
//! (exact, longest `*.` suffix, any), then of the path (exact, longest prefix of whole segments), then by its number of
//! conditions, then by `priority`. A route whose conditions fail leaves the request to the next best, if need be for a
//! less specific path or host.

mod matcher;
mod table;

use http::{HeaderMap, Method};

pub(crate) use matcher::Unmet;
pub(crate) use table::{ByHost, ByPath, Table, Weighed};

/// What a route is chosen by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'r> {
    /// In normal form (`semantics::host`); empty if the request names none.
    pub(crate) host: &'r str,
    /// In normal form (`semantics::path`).
    pub(crate) path: &'r str,
    pub(crate) method: &'r Method,
    pub(crate) headers: &'r HeaderMap,
    /// As sent, without the `?`.
    pub(crate) query: Option<&'r str>,
}
