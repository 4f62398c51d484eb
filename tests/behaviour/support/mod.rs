//! Starts real origins and the real daemon; speaks HTTP byte by byte.
#![allow(dead_code, reason = "not every file of tests needs every helper")]

pub mod cache;
pub mod chunks;
pub mod client;
pub mod codings;
pub mod control;
pub mod dns;
pub mod http2;
pub mod manual;
pub mod origin;
pub mod tls;
pub mod weir;

use std::fmt::Debug;
use std::time::{Duration, Instant};

pub use client::{Connection, Response};
pub use origin::Origin;
pub use weir::Weir;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Polls until `accept` likes what `observe` sees; fails with the last value after [`PATIENCE`].
pub async fn eventually<T: Debug>(
    mut observe: impl AsyncFnMut() -> T,
    accept: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let value = observe().await;
        if accept(&value) {
            return value;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}; at last: {value:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
