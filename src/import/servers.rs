//! `server` blocks: which hosts and listeners they are for.

use std::collections::HashMap;

use super::context::Context;
use super::listeners::{Listen, Listener, listens};
use super::scope::Scope;
use super::syntax::Directive;
use crate::semantics::host;

/// A `server` block.
pub(super) struct Server<'d> {
    pub(super) directive: &'d Directive,
    pub(super) scope: Scope<'d>,
    pub(super) listens: Vec<Listen<'d>>,
    /// As weir writes them.
    pub(super) hosts: Vec<String>,
    /// What its tables are called after; the value of `$server_name`.
    pub(super) name: Option<String>,
    /// Whether `server_name` has what weir cannot express, which is told.
    pub(super) has_other_names: bool,
}

impl<'d> Server<'d> {
    pub(super) fn of(context: &Context<'d>, directive: &'d Directive, http: &Scope<'d>) -> Self {
        let scope = http.within(directive.inner());
        let mut server = Self {
            directive,
            listens: listens(context, &scope),
            scope,
            hosts: Vec::new(),
            name: None,
            has_other_names: false,
        };
        context.ledger.done(directive);
        for directive in server.scope.own("server_name").to_vec() {
            server.named(context, directive);
        }
        server
    }

    fn named(&mut self, context: &Context<'_>, directive: &Directive) {
        context.ledger.done(directive);
        for name in &directive.args {
            match name.as_str() {
                // By convention the name of a server that is for all others.
                "_" | "" => continue,
                _ => {}
            }
            let hosts = match name.strip_prefix('.') {
                Some(domain) => vec![domain.to_owned(), format!("*.{domain}")],
                None => vec![name.clone()],
            };
            let good = |host: &String| match host.strip_prefix("*.") {
                // An address has no names below it.
                Some(domain) => is_host(domain) && !domain.starts_with('['),
                None => is_host(host),
            };
            if !hosts.iter().all(good) {
                self.has_other_names = true;
                let name = super::syntax::plain(name);
                let why = format!(
                    "weir has hosts such as `a.example.com` and `*.example.com`; requests for `{name}` go to those of the \
                     default server"
                );
                context.ledger.left(directive, why);
                continue;
            }
            for host in hosts {
                let host = host.strip_suffix('.').unwrap_or(&host).to_ascii_lowercase();
                if !self.hosts.contains(&host) {
                    self.hosts.push(host);
                }
            }
        }
        if self.name.is_none() {
            let first = directive.args.first();
            let bare = first.map(|first| first.trim_start_matches("*.").trim_start_matches('.'));
            self.name = bare
                .filter(|name| is_host(name) && *name != "_")
                .map(str::to_ascii_lowercase);
        }
    }

    /// What its tables are called.
    pub(super) fn slug(&self) -> String {
        let named = self.hosts.first().map(|host| super::values::slug(host));
        named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "site".into())
    }
}

/// Whether one of the wildcards among the hosts is for that host.
pub(super) fn covers(hosts: &[String], host: &str) -> bool {
    let mut suffixes = hosts.iter().filter_map(|pattern| pattern.strip_prefix('*'));
    suffixes.any(|suffix| host.strip_prefix('*').unwrap_or(host).ends_with(suffix))
}

fn is_host(name: &str) -> bool {
    let parsed = host::parse(name);
    parsed.is_ok_and(|host| host.port.is_none() && host.name.len() <= 253) && !name.ends_with(':')
}

/// A server on those of its listeners where it is for the same hosts: what its routes are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// By their places in the list of listeners.
    pub(super) listeners: Vec<usize>,
    /// Empty: any.
    pub(super) hosts: Vec<String>,
    pub(super) tls: bool,
    pub(super) port: Option<u16>,
}

/// Whether something in a block sends clients to the host that they asked for.
fn redirects_to_same_host(block: &Directive) -> bool {
    let leads_there = |arg: &String| {
        let rest = arg
            .strip_prefix("https://$")
            .or_else(|| arg.strip_prefix("https://${"));
        rest.is_some_and(|rest| rest.starts_with("host") || rest.starts_with("http_host"))
    };
    let acts = |directive: &Directive| ["return", "rewrite"].contains(&directive.name.as_str());
    // In an `if` that asks for the host it is known which one that is.
    let mut blocks = block
        .inner()
        .iter()
        .filter(|directive| directive.name != "if");
    blocks.any(|directive| {
        acts(directive) && directive.args.iter().any(leads_there)
            || redirects_to_same_host(directive)
    })
}

/// Which server each host of each listener belongs to: the first that has it, as in nginx.
pub(super) struct Owners(Vec<HashMap<String, usize>>);

impl Owners {
    pub(super) fn of(servers: &[Server<'_>], listeners: &[Listener]) -> Self {
        let of_listener = |listener: &Listener| {
            let mut owners = HashMap::new();
            for number in &listener.servers {
                let hosts = servers.get(*number).map(|server| &server.hosts);
                for host in hosts.into_iter().flatten() {
                    owners.entry(host.clone()).or_insert(*number);
                }
            }
            owners
        };
        Self(listeners.iter().map(of_listener).collect())
    }

    fn is(&self, listener: usize, host: &str, server: usize) -> bool {
        let owners = self.0.get(listener);
        owners.and_then(|owners| owners.get(host)) == Some(&server)
    }

    /// The hosts of a listener that other servers have.
    pub(super) fn others<'o>(
        &'o self,
        listener: usize,
        server: &'o Server<'_>,
    ) -> impl Iterator<Item = String> + 'o {
        let owners = self.0.get(listener).into_iter().flatten();
        owners
            .filter(|(host, _)| !server.hosts.contains(host))
            .map(|(host, _)| host.clone())
    }
}

/// What the routes of server number `number` are for.
pub(super) fn variants(
    context: &Context<'_>,
    servers: &[Server<'_>],
    number: usize,
    listeners: &[Listener],
    owners: &Owners,
) -> Vec<Variant> {
    let Some(server) = servers.get(number) else {
        return Vec::new();
    };
    let mut variants: Vec<Variant> = Vec::new();
    for (place, listener) in listeners.iter().enumerate() {
        if !listener.servers.contains(&number) {
            continue;
        }
        let mut hosts = server.hosts.clone();
        hosts.retain(|host| owners.is(place, host, number));
        if hosts.len() < server.hosts.len() {
            let why = format!(
                "other servers of `{}` have some of its names already; those are first",
                listener.name
            );
            context.ledger.differs(server.directive, why);
        }
        let is_default = listener.default == number;
        if is_default {
            let others = || {
                listener
                    .servers
                    .iter()
                    .filter(|other| **other != number)
                    .filter_map(|other| servers.get(*other))
            };
            // A wildcard of another server beats "any host"; so does a route for one host, such as a redirect to it.
            let split = listener.to_https.is_none() && redirects_to_same_host(server.directive);
            hosts.retain(|host| split || others().any(|other| covers(&other.hosts, host)));
        }
        let named = (!hosts.is_empty()).then_some(hosts);
        let any = is_default.then(Vec::new);
        for hosts in named.into_iter().chain(any) {
            let port = Some(listener.port);
            let same = variants
                .iter_mut()
                .find(|variant| variant.hosts == hosts && variant.tls == listener.tls);
            match same {
                Some(variant) => {
                    variant.listeners.push(place);
                    variant.port = variant.port.filter(|other| Some(*other) == port);
                }
                None => variants.push(Variant {
                    listeners: vec![place],
                    hosts,
                    tls: listener.tls,
                    port,
                }),
            }
        }
    }
    variants
}
