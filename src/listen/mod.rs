//! Clients: sockets, TLS, HTTP/1 and HTTP/2 connections, the threads that serve them.

pub(crate) mod bind;
pub(crate) mod connection;
mod gathered;
pub(crate) mod http1;
mod linger;
pub(crate) mod received;
mod stream;
mod streams;
pub(crate) mod tls;
pub(crate) mod worker;
