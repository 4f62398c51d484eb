//! `listen` -> `[listen.NAME]`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::connections::Setting;
use super::context::{Context, Names};
use super::scope::Scope;
use super::servers::Server;
use super::syntax::{self, Directive};
use super::toml::{Table, Toml};

/// One `listen` of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen<'d> {
    /// `None`: nginx's default, port 80.
    pub(super) directive: Option<&'d Directive>,
    address: SocketAddr,
    pub(super) tls: bool,
    http2: bool,
    default: bool,
    /// `ipv6only=off`
    both: bool,
}

/// A listener of the output.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    addresses: Vec<SocketAddr>,
    pub(super) port: u16,
    /// Places in the list of servers, as they stand in the file.
    pub(super) servers: Vec<usize>,
    pub(super) default: usize,
    pub(super) tls: bool,
    http2: bool,
    /// IPv4 and IPv6.
    both: bool,
    /// Whether the default server says so, and is not just the first.
    pub(super) explicit_default: bool,
    origins: Vec<String>,
    /// Every server on it redirects to https, with the host as it is.
    pub(super) to_https: Option<u16>,
}

/// Where a server listens.
pub(super) fn listens<'d>(context: &Context<'d>, scope: &Scope<'d>) -> Vec<Listen<'d>> {
    let mut listens = Vec::new();
    let mut none = true;
    for directive in scope.own("listen").iter().copied() {
        none = false;
        listens.extend(listen(context, directive));
    }
    if none {
        listens.push(Listen {
            directive: None,
            address: (Ipv4Addr::UNSPECIFIED, 80).into(),
            tls: false,
            http2: false,
            default: false,
            both: false,
        });
    }
    if let Some(ssl) = scope.is_on("ssl") {
        context.ledger.done(ssl);
        listens.iter_mut().for_each(|listen| listen.tls = true);
    }
    if let Some(http2) = scope.find("http2") {
        context.ledger.done(http2);
        listens
            .iter_mut()
            .for_each(|listen| listen.http2 |= http2.says("on"));
    }
    listens
}

fn listen<'d>(context: &Context<'d>, directive: &'d Directive) -> Option<Listen<'d>> {
    let written = directive.arg(0).unwrap_or_default();
    let Some(address) = address(written) else {
        let why = "weir listens on IP addresses and ports, such as `:80` or `10.0.0.7:80`";
        context.ledger.left(directive, why);
        return None;
    };
    let mut listen = Listen {
        directive: Some(directive),
        address,
        tls: false,
        http2: false,
        default: false,
        both: false,
    };
    context.ledger.done(directive);
    for parameter in directive.args.iter().skip(1) {
        let name = parameter.split('=').next().unwrap_or_default();
        match (name, parameter.as_str()) {
            ("ssl", _) => listen.tls = true,
            ("http2", _) => listen.http2 = true,
            ("default_server" | "default", _) => listen.default = true,
            ("ipv6only", "ipv6only=off") => {
                listen.both = address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED)
            }
            (
                "ipv6only" | "reuseport" | "backlog" | "rcvbuf" | "sndbuf" | "deferred" | "bind"
                | "so_keepalive" | "fastopen" | "accept_filter" | "setfib",
                _,
            ) => {
                let why = "weir has a socket for each worker (`reuseport`), IPv4 apart from IPv6, and tunes them by itself";
                context.ledger.but_for(directive, why);
            }
            ("quic", _) => {
                let why =
                    "weir does not speak HTTP/3 yet; clients fall back to HTTP/2 by themselves";
                context.ledger.left(directive, why);
                return None;
            }
            ("proxy_protocol", _) => {
                let why = "weir does not read the PROXY protocol yet; requests on this address will be refused while something \
                           sends it";
                context.ledger.left(directive, why);
            }
            _ => {
                let parameter = syntax::plain(parameter);
                context.ledger.left(
                    directive,
                    format!("weir has no counterpart to `{parameter}`; it listens without it"),
                );
            }
        }
    }
    Some(listen)
}

/// `80`, `*:80`, `10.0.0.7`, `10.0.0.7:80`, `[::]:80`, `localhost:80`
fn address(text: &str) -> Option<SocketAddr> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(port) = port(text).filter(|_| !text.starts_with('+')) {
        return Some((Ipv4Addr::UNSPECIFIED, port).into());
    }
    let (host, number) = match text.rsplit_once(':') {
        Some((host, number))
            if !host.is_empty()
                && !number.contains(']')
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            (host, port(number)?)
        }
        _ => (text, 80),
    };
    let ip = match host {
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => {
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            bare.unwrap_or(host).parse::<IpAddr>().ok()?
        }
    };
    Some((ip, number).into())
}

/// All listeners that the servers need.
pub(super) fn listeners(context: &Context<'_>, servers: &[Server<'_>]) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        for listen in &server.listens {
            let origin = listen.directive.map_or_else(
                || {
                    format!(
                        "{}: nginx listens on port 80 where nothing is said",
                        context.at(server.directive.place)
                    )
                },
                |directive| context.origin(directive),
            );
            let Some(known) = listeners
                .iter_mut()
                .find(|known| known.addresses.contains(&listen.address))
            else {
                listeners.push(Listener {
                    name: String::new(),
                    addresses: vec![listen.address],
                    port: listen.address.port(),
                    servers: vec![number],
                    default: number,
                    tls: listen.tls,
                    http2: listen.http2,
                    both: listen.both,
                    explicit_default: listen.default,
                    origins: vec![origin],
                    to_https: None,
                });
                continue;
            };
            if !known.servers.contains(&number) {
                known.servers.push(number);
            }
            if listen.default && !known.explicit_default {
                (known.default, known.explicit_default) = (number, true);
            }
            known.tls |= listen.tls;
            known.http2 |= listen.http2;
            known.both |= listen.both;
            known.origins.push(origin);
        }
    }
    join(&mut listeners);
    let mut names = Names::default();
    for listener in &mut listeners {
        listener.name = names.free(&base_name(listener), "http");
    }
    listeners
}

/// Makes one listener of port 80 of all IPv4 and of all IPv6 addresses, where the same servers are on both.
fn join(listeners: &mut Vec<Listener>) {
    let all =
        |listener: &Listener, ip: IpAddr| matches!(&*listener.addresses, [only] if only.ip() == ip);
    for place in (0..listeners.len()).rev() {
        let Some(six) = listeners.get(place).cloned() else {
            continue;
        };
        if !all(&six, Ipv6Addr::UNSPECIFIED.into()) {
            continue;
        }
        let four = listeners.iter().position(|four| {
            all(four, Ipv4Addr::UNSPECIFIED.into())
                && four.port == six.port
                && (&four.servers, four.default, four.tls) == (&six.servers, six.default, six.tls)
        });
        if let Some(four) = four.and_then(|four| listeners.get_mut(four)) {
            four.addresses
                .push((Ipv6Addr::UNSPECIFIED, four.port).into());
            four.both = true;
            four.http2 |= six.http2;
            four.explicit_default |= six.explicit_default;
            four.origins.extend(six.origins);
            listeners.remove(place);
        }
    }
    // weir takes `:80` for all that there is on the port.
    let ports: Vec<_> = listeners.iter().map(|listener| listener.port).collect();
    for listener in listeners {
        let alone = ports.iter().filter(|port| **port == listener.port).count() == 1;
        listener.both &= alone;
    }
}

fn base_name(listener: &Listener) -> String {
    match (listener.tls, listener.port) {
        (false, 80) => "http".into(),
        (true, 443) => "https".into(),
        (false, port) => format!("http-{port}"),
        (true, port) => format!("https-{port}"),
    }
}

impl Listener {
    /// Its table. `None` where there is none to be had, which was told.
    pub(super) fn table(&self, context: &Context<'_>, servers: &[Server<'_>]) -> Option<Table> {
        let here: Vec<_> = self
            .servers
            .iter()
            .filter_map(|number| servers.get(*number))
            .collect();
        let default = servers.get(self.default)?;
        let mut table = Table::default();
        let addresses: Vec<_> = match self.both {
            true => vec![format!(":{}", self.port)],
            false => self.addresses.iter().map(SocketAddr::to_string).collect(),
        };
        table.set("address", Toml::one_or_list(addresses));
        let setting = Setting {
            context,
            listener: self,
            default,
            here: &here,
        };
        let draft = context.ledger.draft(format!(
            "the listener `{}` is left out, since it has no certificate",
            self.name
        ));
        setting.trusted_proxies(&mut table);
        setting.limits(&mut table);
        if self.tls {
            if !self.http2 {
                table.set_for("http2", false, "as in nginx; weir's default is true");
            }
            let tls = setting.tls()?;
            table.tables.push(("tls".into(), tls));
        } else if let Some(port) = self.to_https {
            table.set(
                "redirect_to_https",
                vec![("port".to_owned(), Toml::from(u64::from(port)))],
            );
        }
        draft.keep();
        Some(table)
    }

    pub(super) fn comments(&self) -> Vec<String> {
        let mut origins: Vec<_> = self
            .origins
            .iter()
            .map(|origin| syntax::plain(origin))
            .collect();
        let more = origins.len().saturating_sub(MOST_ORIGINS);
        if more > 0 {
            origins.truncate(MOST_ORIGINS);
            origins.push(format!("and {more} more"));
        }
        origins
    }
}

/// The first address of the machine that the admin API can have beside the listeners.
pub(super) fn admin_port(listeners: &[Listener]) -> Option<u16> {
    let taken: HashSet<_> = listeners.iter().map(|listener| listener.port).collect();
    (9900..9999).find(|port| !taken.contains(port))
}

const MOST_ORIGINS: usize = 4;
