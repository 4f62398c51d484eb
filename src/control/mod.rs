//! The control plane: everything that is not a client's request. Runs on an ordinary runtime, apart from the workers.

pub(crate) mod admin;
pub(crate) mod admin_access;
mod admin_config;
mod admin_socket;
mod certificates;
pub(crate) mod core;
pub(crate) mod drain;
mod fingerprint;
pub(crate) mod handover;
pub(crate) mod inherited;
mod kept;
pub(crate) mod manager;
pub(crate) mod names;
mod outcome;
mod purge;
pub(crate) mod reload;
mod sockets;
pub(crate) mod state_folder;
pub(crate) mod status;
pub(crate) mod upgrade;
pub(crate) mod watch;
