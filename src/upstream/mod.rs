//! Servers: what is known of them, idle connections to them, and how to talk to them.

pub(crate) mod budget;
pub(crate) mod concurrency;
pub(crate) mod connect;
pub(crate) mod drain;
pub(crate) mod ejection;
pub(crate) mod group;
pub(crate) mod health;
pub(crate) mod http1;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod resolve;
mod secured;
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod sticky;
pub(crate) mod stream;
pub(crate) mod tls;
