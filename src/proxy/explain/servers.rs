//! What an upstream gets of a request, and which of its servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use hyper::body::Body as _;

use super::hidden::hide_in_request;
use super::told::{Retries, Sent, Server, Timeouts};
use super::{Journey, number, text};
use crate::config::{self, Balance, HashKey, HostHeader, RetryOn, ServerPlace};
use crate::proxy::forward::Forward;
use crate::proxy::local::{LocalServer, LocalUpstream};
use crate::proxy::record::{Id, Record};
use crate::proxy::request_head::RequestHead;
use crate::proxy::retries::MAX_CONNECTS;
use crate::state::Upstream;
use crate::units::ServerAddr;
use crate::upstream::http1::UploadLength;

impl Journey<'_> {
    /// What goes to this upstream.
    pub(super) fn sent(&self, record: &Record, local: &LocalUpstream) -> Sent {
        let upstream = &*local.upstream;
        let forward = self.forward(local);
        let state = &self.explainer.local.state;
        let mut all = state.config.upstreams.iter();
        let written = all.find(|known| known.name == upstream.name);
        let names = names(written);
        let (order, order_because, sets_cookie) = order(&forward, record, names.is_empty());
        let is_first =
            |server: &&Rc<LocalServer>| order.first() == Some(&server.server.address.to_string());
        let first = local.servers.iter().find(is_first);
        let first = first.or_else(|| local.servers.first());
        // Where there is none yet, its address is in the head only where it is told to be.
        let nowhere = ServerAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let server = first.map_or(&nowhere, |first| &first.server.address);
        let (target, mut fields) = self.head(record, &forward, server);
        hide_in_request(&mut fields, &state.config, &self.route.name, &upstream.name);
        let host_is_servers = upstream.host_header == HostHeader::Server;
        if host_is_servers && first.is_none() {
            let host = fields.iter_mut().filter(|(name, _)| name == "host");
            host.for_each(|(_, value)| value.replace_range(.., OF_SERVER));
        }
        let dropped = dropped(&self.request.headers, &fields);
        Sent {
            upstream: upstream.name.to_string(),
            share: None,
            target,
            fields,
            dropped,
            host_is_servers,
            tls: written.is_some_and(|it| it.tls.is_some()),
            balance: balance(&upstream.balance),
            servers: servers(upstream),
            names,
            order,
            order_because,
            sets_cookie,
            retries: self.retries(upstream),
            timeouts: self.timeouts(record, written),
        }
    }

    /// The target and the fields that this server gets.
    fn head(
        &self,
        record: &Record,
        forward: &Forward<'_>,
        server: &ServerAddr,
    ) -> (String, Vec<(String, String)>) {
        let has_body = !self.body.is_end_stream();
        let length = self.body.size_hint().exact();
        let mut head = Vec::new();
        RequestHead {
            record,
            listener: self.listener,
            route: self.route,
            upstream: &forward.upstream.upstream,
            server,
            target: self.target,
            body: has_body.then(|| length.map_or(UploadLength::Chunked, UploadLength::Known)),
            upgrade: forward.upgrade(self.request, has_body),
        }
        .write(&mut head);
        let head = text(&head);
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default();
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| match name {
            "x-request-id" if matches!(record.id, Id::Own(_)) => {
                (name.to_owned(), NEW_ID.to_owned())
            }
            _ => (name.to_owned(), value.to_owned()),
        });
        (target, fields.collect())
    }

    fn retries(&self, upstream: &Upstream) -> Retries {
        let replayable = upstream.replayable.contains(&self.request.method);
        let on = RetryOn::ALL.iter().filter(|(_, on)| match on {
            RetryOn::Connect => upstream.moves_on(*on),
            _ => upstream.may_retry(*on, replayable, 0),
        });
        Retries {
            replayable,
            connects: MAX_CONNECTS,
            max: upstream.retries.as_ref().map_or(0, |rules| rules.max),
            on: on.map(|(word, _)| *word).collect(),
        }
    }

    fn timeouts(&self, record: &Record, upstream: Option<&config::Upstream>) -> Timeouts {
        let written = |duration| humantime::format_duration(duration).to_string();
        let of = |read: fn(&config::Upstream) -> Duration| {
            upstream
                .map(|upstream| written(read(upstream)))
                .unwrap_or_default()
        };
        let routes = &self.explainer.local.state.config.routes;
        let route = number(record).and_then(|number| routes.get(number));
        Timeouts {
            connect: of(|upstream| upstream.connect_timeout),
            response: of(|upstream| upstream.response_timeout),
            stall: of(|upstream| upstream.stall_timeout),
            stream: of(|upstream| upstream.stream_timeout),
            queue: of(|upstream| upstream.queue.timeout),
            route: route.and_then(|route| route.timeout).map(written),
        }
    }
}

/// The servers in the order in which they are tried, as far as the request settles it; and whether the client gets a
/// cookie that settles it from then on.
fn order(
    forward: &Forward<'_>,
    record: &Record,
    all_are_known: bool,
) -> (Vec<String>, Option<&'static str>, bool) {
    let local = forward.upstream;
    if let Some(own) = forward
        .sticks_to(record)
        .and_then(|place| local.servers.get(place))
    {
        let own = own.server.address.to_string();
        return (vec![own], Some("its cookie names the server"), false);
    }
    let sets_cookie = local.upstream.sticky.is_some();
    let Balance::Hash(_) = &local.upstream.balance else {
        return (Vec::new(), None, sets_cookie);
    };
    if !all_are_known {
        return (Vec::new(), Some("names are not resolved here"), sets_cookie);
    }
    let occasion = forward.occasion(record, 0);
    let mut order = Vec::new();
    while let Some(next) = local.pick(occasion, |server| {
        !order.iter().any(|known| Rc::ptr_eq(known, server))
    }) {
        order.push(Rc::clone(next));
    }
    let order = order.iter().map(|server| server.server.address.to_string());
    (order.collect(), Some("by the hash of its key"), sets_cookie)
}

fn servers(upstream: &Upstream) -> Vec<Server> {
    let members = upstream.servers.iter();
    members
        .map(|member| Server {
            address: member.server.address.to_string(),
            weight: member.weight,
            backup: member.backup,
            max_in_flight: member.limit,
        })
        .collect()
}

fn names(upstream: Option<&config::Upstream>) -> Vec<String> {
    let servers = upstream.into_iter().flat_map(|upstream| &upstream.servers);
    let names = servers.filter(|server| matches!(server.place, ServerPlace::Name(_)));
    names.map(|server| server.place.to_string()).collect()
}

/// The names of the client's fields that no server gets.
fn dropped(asked: &HeaderMap, sent: &[(String, String)]) -> Vec<String> {
    let names = asked.keys().map(ToString::to_string);
    names
        .filter(|name| !sent.iter().any(|(known, _)| known == name))
        .collect()
}

fn balance(balance: &Balance) -> String {
    let word = match balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastConnections => "least_connections",
        Balance::PeakEwma => "peak_ewma",
        Balance::Random => "random",
        Balance::Hash(HashKey::ClientIp) => "hash of the client's address",
        Balance::Hash(HashKey::Path) => "hash of the path",
        Balance::Hash(HashKey::Header(name)) => return format!("hash of the field `{name}`"),
        Balance::Hash(HashKey::Cookie(name)) => return format!("hash of the cookie `{name}`"),
    };
    word.to_owned()
}

/// In place of the `Host` of a server that is not known.
const OF_SERVER: &str = "(that of the server)";
/// In place of an id that is made for each request.
const NEW_ID: &str = "(a new one)";
