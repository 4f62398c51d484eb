//! `listen` -> `[listen.NAME]`.

use std::collections::{HashMap, HashSet};
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
    /// The first of the directives that it comes from, and how many more there are.
    origins: Vec<String>,
    more_origins: usize,
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
                let parameter = syntax::short(parameter);
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
    let mut places = HashMap::new();
    for (number, server) in servers.iter().enumerate() {
        for listen in &server.listens {
            let place = *places.entry(listen.address).or_insert(listeners.len());
            let Some(known) = listeners.get_mut(place) else {
                let mut new = Listener::of(listen, number);
                new.origins.push(origin(context, server, listen));
                listeners.push(new);
                continue;
            };
            // Servers come one after the other.
            if known.servers.last() != Some(&number) {
                known.servers.push(number);
            }
            if listen.default && !known.explicit_default {
                (known.default, known.explicit_default) = (number, true);
            }
            known.tls |= listen.tls;
            known.http2 |= listen.http2;
            known.both |= listen.both;
            match known.origins.len() < MOST_ORIGINS {
                true => known.origins.push(origin(context, server, listen)),
                false => known.more_origins += 1,
            }
        }
    }
    join(&mut listeners);
    let mut names = Names::default();
    for listener in &mut listeners {
        listener.name = names.free(&base_name(listener), "http");
    }
    listeners
}

fn origin(context: &Context<'_>, server: &Server<'_>, listen: &Listen<'_>) -> String {
    match listen.directive {
        Some(directive) => context.origin(directive),
        None => format!(
            "{}: nginx listens on port 80 where nothing is said",
            context.at(server.directive.place)
        ),
    }
}

/// Makes one listener of port 80 of all IPv4 and of all IPv6 addresses, where the same servers are on both.
fn join(listeners: &mut Vec<Listener>) {
    let all =
        |listener: &Listener, ip: IpAddr| matches!(&*listener.addresses, [only] if only.ip() == ip);
    let sixes = listeners.iter();
    let sixes = sixes.filter(|listener| all(listener, Ipv6Addr::UNSPECIFIED.into()));
    let sixes: HashMap<_, _> = sixes.map(|six| (six.port, six.clone())).collect();
    let same = |four: &Listener, six: &Listener| {
        (&four.servers, four.default, four.tls) == (&six.servers, six.default, six.tls)
    };
    let mut joined = HashSet::new();
    for listener in listeners.iter_mut() {
        if all(listener, Ipv4Addr::UNSPECIFIED.into())
            && let Some(six) = sixes.get(&listener.port)
            && same(listener, six)
        {
            listener.join(six);
            joined.insert(listener.port);
        }
    }
    listeners.retain(|listener| {
        !(all(listener, Ipv6Addr::UNSPECIFIED.into()) && joined.contains(&listener.port))
    });
    // weir takes `:80` for all that there is on the port.
    let mut ports: HashMap<u16, usize> = HashMap::new();
    for listener in listeners.iter() {
        *ports.entry(listener.port).or_default() += 1;
    }
    for listener in listeners {
        listener.both &= ports.get(&listener.port) == Some(&1);
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
    /// That of a server that is the first on it.
    fn of(listen: &Listen<'_>, server: usize) -> Self {
        Self {
            name: String::new(),
            addresses: vec![listen.address],
            port: listen.address.port(),
            servers: vec![server],
            default: server,
            tls: listen.tls,
            http2: listen.http2,
            both: listen.both,
            explicit_default: listen.default,
            origins: Vec::new(),
            more_origins: 0,
            to_https: None,
        }
    }

    /// Whether it is the one for this.
    pub(super) fn is_for(&self, listen: &Listen<'_>) -> bool {
        self.addresses.contains(&listen.address)
    }

    /// Takes in the same for all IPv6 addresses.
    fn join(&mut self, six: &Self) {
        self.addresses.extend(&six.addresses);
        self.both = true;
        self.http2 |= six.http2;
        self.explicit_default |= six.explicit_default;
        for origin in &six.origins {
            match self.origins.len() < MOST_ORIGINS {
                true => self.origins.push(origin.clone()),
                false => self.more_origins += 1,
            }
        }
        self.more_origins += six.more_origins;
    }

    /// Its table. `None` where there is none to be had, which was told.
    pub(super) fn table<'d>(&self, context: &Context<'d>, servers: &[Server<'d>]) -> Option<Table> {
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
        if self.more_origins > 0 {
            origins.push(format!("and {} more", self.more_origins));
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
