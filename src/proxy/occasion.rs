//! What decides about the server of a request, beside how the servers are: the client's cookie, its address, its target.

use std::net::IpAddr;
use std::rc::Rc;

use http::HeaderValue;

use super::forward::Forward;
use super::local::LocalServer;
use super::record::Record;
use crate::balance::{self, Occasion};
use crate::config::{Balance, HashKey};
use crate::semantics::cookies;

impl Forward<'_> {
    /// The place of the server that the client's cookie names.
    pub(super) fn sticks_to(&self, record: &Record) -> Option<usize> {
        let sticky = self.upstream.upstream.sticky.as_ref()?;
        sticky.place(&record.request.headers)
    }

    /// The cookie for a client that has none, or whose server is out of service or could not be connected to. One that went
    /// elsewhere for a single request comes back: what it has there is worth more than one answer.
    pub(super) fn set_cookie(&self, record: &Record) -> Option<HeaderValue> {
        let sticky = self.upstream.upstream.sticky.as_ref()?;
        let server = record.server.as_ref()?;
        let place = self.upstream.place_of(server)?;
        let own = record
            .sticks_to
            .and_then(|own| self.upstream.servers.get(own));
        let stays = |own: &Rc<LocalServer>| {
            Rc::ptr_eq(own, server) || !record.was_cut_off && own.server.accepts_its_clients()
        };
        if own.is_some_and(stays) {
            return None;
        }
        sticky.set_cookie(place, record.is_https(self.listener))
    }

    /// What the balancer of this upstream wants to know.
    pub(super) fn occasion(&self, record: &Record, now: u64) -> Occasion {
        match &self.upstream.upstream.balance {
            Balance::RoundRobin | Balance::LeastConnections | Balance::Random => {
                Occasion::default()
            }
            Balance::PeakEwma => Occasion {
                now: self.proxy.deadlines.clock().micros(record.started),
                ..Occasion::default()
            },
            Balance::Hash(key) => Occasion {
                key: self.key(key, record),
                in_flight: self.upstream.in_flight(now),
                ..Occasion::default()
            },
        }
    }

    /// The hash of what decides about the server; of the client's address where the request does not have it.
    fn key(&self, key: &HashKey, record: &Record) -> u64 {
        let headers = &record.request.headers;
        let bytes = match key {
            HashKey::ClientIp => None,
            HashKey::Path => Some(self.target.path.as_bytes()),
            HashKey::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
            HashKey::Cookie(name) => cookies::find(headers, name),
        };
        match (bytes, record.address.to_canonical()) {
            (Some(bytes), _) => balance::key(bytes),
            (None, IpAddr::V4(address)) => balance::key(&address.octets()),
            (None, IpAddr::V6(address)) => balance::key(&address.octets()),
        }
    }
}
