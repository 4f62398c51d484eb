//! What nginx says of client connections -> the keys of a listener.
//!
//! weir has for a listener what nginx has for each server on it. That of the default server counts; what other servers say
//! otherwise is told.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::context::Context;
use super::listeners::Listener;
use super::servers::Server;
use super::syntax::Directive;
use super::toml::{Table, Toml};
use super::values::{bytes, duration, size, time};

/// What a listener takes from its servers.
pub(super) struct Setting<'s, 'd> {
    pub(super) context: &'s Context<'d>,
    pub(super) listener: &'s Listener,
    pub(super) default: &'s Server<'d>,
    pub(super) here: &'s [&'s Server<'d>],
}

impl<'d> Setting<'_, 'd> {
    /// The directive of the default server. Those of others that say something else are told.
    fn find(&self, name: &str) -> Option<&'d Directive> {
        let chosen = self.default.scope.find(name);
        for server in self.here {
            let Some(other) = server.scope.find(name) else {
                continue;
            };
            if chosen.is_some_and(|chosen| chosen.id == other.id || chosen.args == other.args) {
                if chosen.is_some_and(|chosen| chosen.id != other.id) {
                    let why = "the default server of the listener says the same";
                    self.context.ledger.needless(other, why);
                }
            } else {
                let name = &self.listener.name;
                let why = format!(
                    "weir has this for a whole listener; for `{name}` that of its default server counts"
                );
                self.context.ledger.differs(other, why);
            }
        }
        chosen
    }

    /// The value that `read` makes of the first argument.
    fn value<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let directive = self.find(name)?;
        let value = read(directive.arg(0).unwrap_or_default());
        match value {
            Some(_) => self.context.ledger.done(directive),
            None => self
                .context
                .ledger
                .left(directive, "weir has no such value; its default is used"),
        }
        value
    }

    pub(super) fn limits(&self, table: &mut Table) {
        let lasting = |text: &str| time(text).and_then(duration);
        if let Some(timeout) = self.value("client_header_timeout", lasting) {
            table.set("header_timeout", timeout);
        }
        let body = self.value("client_body_timeout", |text| {
            time(text).filter(|time| duration(*time).is_some())
        });
        let send = self.value("send_timeout", |text| {
            time(text).filter(|time| duration(*time).is_some())
        });
        if let Some(longer) = body.max(send).and_then(duration) {
            if body.is_some() && send.is_some() && body != send {
                let other = self.default.scope.find("send_timeout");
                let why = "weir has one `stall_timeout` for both directions, the longer of the two";
                other.inspect(|other| self.context.ledger.differs(other, why));
            }
            table.set("stall_timeout", longer);
        }
        if let Some(keepalive) = self.value("keepalive_timeout", lasting) {
            table.set("keepalive", keepalive);
            let directive = self.default.scope.find("keepalive_timeout");
            if let Some(directive) = directive.filter(|directive| directive.args.len() > 1) {
                let why = "weir does not tell clients in `Keep-Alive` how long it waits";
                self.context.ledger.but_for(directive, why);
            }
        }
        self.header_buffers(table);
    }

    /// nginx: as many buffers of that size; the request line must fit into one.
    fn header_buffers(&self, table: &mut Table) {
        let Some(directive) = self.find("large_client_header_buffers") else {
            return;
        };
        let number = directive
            .arg(0)
            .and_then(|number| number.parse::<u64>().ok());
        let each = directive.arg(1).and_then(size);
        let Some((all, each)) = number
            .zip(each)
            .and_then(|(number, each)| Some((number.checked_mul(each)?, each)))
        else {
            return self
                .context
                .ledger
                .left(directive, "it takes a number and a size");
        };
        let header = all.clamp(1 << 10, 1 << 20);
        match header == all {
            true => self.context.ledger.done(directive),
            false => self
                .context
                .ledger
                .differs(directive, "weir's `max_header_size` is 1KiB to 1MiB"),
        }
        table.set("max_header_size", bytes(header));
        table.set("max_target_size", bytes(each.clamp(64, header)));
    }

    /// Only where nginx, too, takes the address from a field that weir reads: a proxy that sends another one may pass on what
    /// clients have put into these.
    pub(super) fn trusted_proxies(&self, table: &mut Table) {
        let usual = self.default.scope.all("set_real_ip_from");
        let says_the_same = |server: &&Server<'d>| {
            let other = server.scope.all("set_real_ip_from");
            if std::ptr::eq(other, usual) {
                return true;
            }
            self.context.budget().look(other.len());
            other.len() == usual.len()
                && other
                    .iter()
                    .zip(usual)
                    .all(|(one, other)| one.arg(0) == other.arg(0))
        };
        let is_for_all = self.here.iter().all(says_the_same);
        let (mut networks, mut known) = (Vec::new(), HashSet::new());
        let mut told = HashSet::new();
        for server in self.here {
            let directives = server.scope.all("set_real_ip_from");
            let is_read = directives.is_empty() || self.is_read(server);
            // Most servers inherit them.
            let first = directives.first().map(|first| first.id);
            if self.context.budget().is_spent() || !told.insert((first, is_read)) {
                continue;
            }
            for directive in directives {
                let Some(network) = directive.arg(0).and_then(network) else {
                    let why = "weir trusts networks such as `10.0.0.0/8`";
                    self.context.ledger.left(directive, why);
                    continue;
                };
                if !is_read {
                    self.context.ledger.left(directive, NOT_TRUSTED);
                    continue;
                }
                match is_for_all {
                    true => self.context.ledger.done(directive),
                    false => self.context.ledger.differs(directive, TRUSTED_BY_ALL),
                }
                if known.insert(network.clone()) {
                    networks.push(network);
                }
            }
        }
        if !networks.is_empty() {
            table.set("trusted_proxies", networks);
        }
    }

    /// Whether the field with the address of the client, `X-Real-IP` unless told otherwise, is one that weir reads.
    fn is_read(&self, server: &Server<'d>) -> bool {
        let Some(directive) = server.scope.find("real_ip_header") else {
            return false;
        };
        let name = directive.arg(0).unwrap_or_default().to_ascii_lowercase();
        let is_read = ["x-forwarded-for", "forwarded"].contains(&name.as_str());
        match is_read {
            true => self.context.ledger.done(directive),
            false => self.context.ledger.left(directive, NOT_TRUSTED),
        }
        is_read
    }

    pub(super) fn tls(&self) -> Option<Table> {
        let mut table = Table::default();
        let mut pairs = Pairs::default();
        let others = self
            .here
            .iter()
            .filter(|server| !std::ptr::eq(**server, self.default))
            .copied();
        for server in std::iter::once(self.default).chain(others) {
            self.certificates(server, &mut pairs);
        }
        if pairs.list.is_empty() {
            let name = &self.listener.name;
            for server in self.here {
                self.context.budget().look(server.listens.len());
                let listens = server.listens.iter();
                for listen in listens.filter(|listen| listen.tls && self.listener.is_for(listen)) {
                    let why = format!(
                        "no certificate was found for it, so the listener `{name}` is left out"
                    );
                    listen
                        .directive
                        .inspect(|directive| self.context.ledger.left(directive, why));
                }
            }
            return None;
        }
        if pairs.list.len() > 1 {
            let name = &self.listener.name;
            self.context.ledger.general(format!(
                "listener `{name}`: weir chooses among certificates by the names that they are for; nginx does so by `server_name`"
            ));
        }
        table.set("certificates", Toml::List(pairs.list));
        if let Some(directive) = self.default.scope.is_on("ssl_reject_handshake") {
            table.set("unknown_sni", "reject");
            self.context.ledger.done(directive);
        }
        self.versions(&mut table);
        Some(table)
    }

    fn certificates(&self, server: &Server<'_>, pairs: &mut Pairs) {
        let (certs, keys) = (
            server.scope.all("ssl_certificate"),
            server.scope.all("ssl_certificate_key"),
        );
        for (cert, key) in certs.iter().zip(keys) {
            let paths = [cert, key]
                .map(|directive| directive.arg(0).and_then(|path| self.context.file(path)));
            let [Some(cert_path), Some(key_path)] = paths else {
                for directive in [cert, key] {
                    self.context
                        .ledger
                        .left(directive, "weir takes the path of a PEM file here");
                }
                continue;
            };
            self.context.ledger.done(cert);
            self.context.ledger.done(key);
            if pairs.known.insert((cert_path.clone(), key_path.clone())) {
                pairs.list.push(Toml::Inline(vec![
                    ("cert".into(), cert_path.into()),
                    ("key".into(), key_path.into()),
                ]));
            }
        }
    }

    fn versions(&self, table: &mut Table) {
        let Some(directive) = self.find("ssl_protocols") else {
            return;
        };
        let has = |version: &str| directive.args.iter().any(|arg| arg == version);
        let old: Vec<_> = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"]
            .into_iter()
            .filter(|version| has(version))
            .collect();
        if has("TLSv1.3") && !has("TLSv1.2") && old.is_empty() {
            table.set("min_version", "1.3");
        }
        match (old.is_empty(), has("TLSv1.3")) {
            (false, _) => self.context.ledger.differs(
                directive,
                "weir speaks TLS 1.2 and 1.3; older versions are not safe",
            ),
            (true, false) => self
                .context
                .ledger
                .differs(directive, "weir also speaks TLS 1.3"),
            (true, true) => self.context.ledger.done(directive),
        }
    }
}

/// Certificates with their keys, each pair once.
#[derive(Default)]
struct Pairs {
    list: Vec<Toml>,
    known: HashSet<(String, String)>,
}

const NOT_TRUSTED: &str = "weir takes the address of a client from `Forwarded` and `X-Forwarded-For` only, and that of the \
                           connection here; have the proxies send one of these, then name them in `trusted_proxies`";
const TRUSTED_BY_ALL: &str =
    "weir has `trusted_proxies` for a whole listener, so all servers on it believe this network";

/// As weir writes a network.
fn network(text: &str) -> Option<String> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(network.trunc().to_string())
}
