//! What weir does, over real sockets: real origins, the real daemon, port 0. One file per capability.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test crate: what cannot go on fails, nothing is exported"
)]

#[path = "../upstream_responses/mod.rs"]
mod responses;
mod support;

mod access_log;
mod admin;
mod balancing;
mod cache_by_hand;
mod caching;
mod certificates;
mod client_timeouts;
mod collapsing;
mod compression;
mod drain;
mod draining;
mod ejection;
mod explaining;
mod failover;
mod forwarding;
mod grpc_health;
mod health;
mod http1_clients;
mod http2_clients;
mod leaving;
mod limits;
mod malformed_requests;
mod metrics;
mod names;
mod overload;
mod purging;
mod queue;
mod reload;
mod retries;
mod reuse;
mod rollback;
mod routing;
mod slow_clients;
mod stale;
mod sticky;
mod stored_encodings;
mod streaming;
mod tls;
mod tls_to_servers;
mod unix_sockets;
mod upgrade;
mod uploads;
mod upstream_responses;
mod watch;
mod workers;
