//! The program itself: flags, exit codes, messages, signals.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test crate: what cannot go on fails, nothing is exported"
)]

mod broken;
mod check;
mod compression;
mod demo;
mod deploy;
mod diff;
mod editors;
mod explain;
mod import;
mod rollback;
mod run;
mod state;
mod support;
mod systemd;
mod talk;
mod upgrade;
