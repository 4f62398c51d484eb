//! weir: a reverse proxy and load balancer that does not fall over.
//!
//! # Map
//! A file imports from its own folder and from lower lines only; folders on one line do not know each other.
//! ```text
//! 8  main.rs, cli/      one file per command: load config, start, await a signal, exit code
//! 7  daemon.rs          the public face: start, reload, stop
//! 6  control/           reload, watch, names, admin address, sockets, upgrade, systemd
//!    simulation/        tests only: an hour of random failures in simulated time
//! 5  listen/            sockets, TLS, client connections, our HTTP/1 server, worker threads, draining
//! 4  proxy/             the journey of a request; the only place where the capabilities meet
//! 3  state/             what a config becomes while running
//! 2  route/ upstream/   which route; servers, their names, pools, our HTTP/1 codec, health checks
//!    compress/ cache/   which responses are encoded, and how; which are stored, and for how long they are used
//!    import/            an nginx config as a weir.toml
//!    memory.rs          how much the process may use, and so the cache
//! 1  config/ balance/ telemetry/ deadline.rs
//! 0  semantics/ http1/ units.rs   pure rules of HTTP; lines and framing of HTTP/1; newtypes
//! ```
//! The journey of a request is [`proxy::Proxy::handle`](crate) and what it calls, top to bottom.
//!
//! # Shape
//! Data plane: one thread with a current-thread runtime per core, each with its own listening sockets, upstream
//! connections, balancers and counters. Control plane: an ordinary runtime that watches the config, probes servers and
//! answers the admin address. It publishes an immutable `State`; each worker takes it up between two requests.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that cannot go on fails")
)]

mod balance;
mod cache;
mod compress;
pub mod config;
mod control;
pub mod daemon;
mod deadline;
mod http1;
mod import;
mod listen;
mod memory;
mod proxy;
mod route;
mod semantics;
#[cfg(test)]
mod simulation;
mod state;
mod telemetry;
pub mod units;
mod upstream;

pub mod cli;

#[doc(hidden)]
pub mod internals;
