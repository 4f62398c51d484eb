//! Our own HTTP/1.1 codec towards servers (RFC 9112): strict heads and framing, no copy of what can be shared, one
//! exchange at a time on a connection.
//!
//! hyper's client would do, at 9,000 instructions more per request.

pub(crate) mod exchange;
pub(crate) mod head;
pub(crate) mod upload;
pub(crate) mod workspace;

pub(crate) use exchange::{Connection, ExchangeError, Received};
pub(crate) use upload::{Kept, Upload, UploadLength, UploadLimits};

#[cfg(test)]
mod tests;
