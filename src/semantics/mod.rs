//! Pure HTTP rules: no I/O, no clock, no configuration. Each module cites the sections it follows.
//!
//! What is parsed here is parsed once, before routing, access rules and cache key alike, so that no two parts of the
//! proxy read the same bytes differently.

pub(crate) mod coding;
pub(crate) mod cookies;
pub(crate) mod forwarded;
pub(crate) mod hop_by_hop;
pub(crate) mod host;
pub(crate) mod methods;
pub(crate) mod path;
pub(crate) mod trailers;
pub(crate) mod variables;
