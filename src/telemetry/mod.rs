//! What weir tells about itself: [`metrics`] (with its [`shard`]s per worker), the [`access_log`], the diagnostic log
//! ([`logging`]) and the [`request_id`] that ties a request's traces together. Handles are passed in, there are no
//! globals, and nothing here is touched by two workers on the path of a request.

pub(crate) mod access_log;
pub(crate) mod cache;
pub(crate) mod certificates;
mod exposition;
mod families;
pub(crate) mod labels;
pub(crate) mod logging;
pub(crate) mod metrics;
mod process;
pub(crate) mod request_id;
pub(crate) mod shard;
pub(crate) mod worker;
