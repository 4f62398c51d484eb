//! `server` blocks: which hosts and listeners they are for.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

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
    /// As weir writes them, each once.
    pub(super) hosts: Vec<String>,
    known: HashSet<String>,
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
            known: HashSet::new(),
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
                let name = super::syntax::short(name);
                let why = format!(
                    "weir has hosts such as `a.example.com` and `*.example.com`; requests for `{name}` go to those of the \
                     default server"
                );
                context.ledger.left(directive, why);
                continue;
            }
            for host in hosts {
                let host = host.strip_suffix('.').unwrap_or(&host).to_ascii_lowercase();
                if self.known.insert(host.clone()) {
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

    /// Whether it is for that host by name.
    pub(super) fn has(&self, host: &str) -> bool {
        self.known.contains(host)
    }

    /// What its tables are called.
    pub(super) fn slug(&self) -> String {
        let named = self.hosts.first().map(|host| super::values::slug(host));
        named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "site".into())
    }
}

/// Hosts such as `*.example.com`.
#[derive(Debug, Default)]
pub(super) struct Wildcards<'h>(HashSet<&'h str>);

impl<'h> Wildcards<'h> {
    pub(super) fn of(hosts: impl IntoIterator<Item = &'h String>) -> Self {
        let suffixes = hosts.into_iter().filter_map(|host| host.strip_prefix('*'));
        Self(suffixes.collect())
    }

    /// Whether one of them is for that host.
    pub(super) fn cover(&self, host: &str) -> bool {
        let host = host.strip_prefix('*').unwrap_or(host);
        let mut suffixes = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
        suffixes.any(|suffix| self.0.contains(suffix))
    }
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
    pub(super) hosts: Rc<[String]>,
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
pub(super) struct Owners<'s> {
    /// By listener.
    hosts: Vec<HashMap<&'s str, usize>>,
    /// On which listeners each server is.
    listeners: Vec<Vec<usize>>,
}

impl<'s> Owners<'s> {
    pub(super) fn of(
        context: &Context<'_>,
        servers: &'s [Server<'_>],
        listeners: &[Listener],
    ) -> Self {
        let mut owners = Self {
            hosts: Vec::new(),
            listeners: vec![Vec::new(); servers.len()],
        };
        for (place, listener) in listeners.iter().enumerate() {
            let mut of_listener = HashMap::new();
            for number in &listener.servers {
                let hosts = servers.get(*number).map_or(&[][..], |server| &server.hosts);
                // Each is kept.
                context.budget().look(1 + 4 * hosts.len());
                if context.budget().is_spent() {
                    break;
                }
                for host in hosts {
                    of_listener.entry(host.as_str()).or_insert(*number);
                }
                if let Some(listeners) = owners.listeners.get_mut(*number) {
                    listeners.push(place);
                }
            }
            owners.hosts.push(of_listener);
        }
        owners
    }

    fn is(&self, listener: usize, host: &str, server: usize) -> bool {
        let owners = self.hosts.get(listener);
        owners.and_then(|owners| owners.get(host)) == Some(&server)
    }

    /// Whether a server of that listener has the host.
    pub(super) fn has(&self, listener: usize, host: &str) -> bool {
        let owners = self.hosts.get(listener);
        owners.is_some_and(|owners| owners.contains_key(host))
    }
}

/// What the routes of server number `number` are for.
pub(super) fn variants(
    context: &Context<'_>,
    servers: &[Server<'_>],
    number: usize,
    listeners: &[Listener],
    owners: &Owners<'_>,
) -> Vec<Variant> {
    let (Some(server), Some(places)) = (servers.get(number), owners.listeners.get(number)) else {
        return Vec::new();
    };
    let leads_to_same_host = LazyCell::new(|| redirects_to_same_host(server.directive));
    let mut variants: Vec<Variant> = Vec::new();
    let mut known: HashMap<(Vec<String>, bool), usize> = HashMap::new();
    for &place in places {
        let Some(listener) = listeners.get(place) else {
            continue;
        };
        context.budget().look(1 + 4 * server.hosts.len());
        if context.budget().is_spent() {
            break;
        }
        let here = server.hosts.iter();
        let mut hosts: Vec<_> = here.filter(|host| owners.is(place, host, number)).collect();
        if hosts.len() < server.hosts.len() {
            let why = format!(
                "other servers of `{}` have some of its names already; those are first",
                listener.name
            );
            context.ledger.differs(server.directive, why);
        }
        let is_default = listener.default == number;
        if is_default {
            let others = listener.servers.iter().filter(|other| **other != number);
            let others = others.filter_map(|other| servers.get(*other));
            let wildcards = Wildcards::of(others.flat_map(|other| &other.hosts));
            // A wildcard of another server beats "any host"; so does a route for one host, such as a redirect to it.
            let split = listener.to_https.is_none() && *leads_to_same_host;
            hosts.retain(|host| split || wildcards.cover(host));
        }
        let named = (!hosts.is_empty()).then(|| hosts.into_iter().cloned().collect());
        let any = is_default.then(Vec::new);
        for hosts in named.into_iter().chain(any) {
            let port = Some(listener.port);
            let key = (hosts, listener.tls);
            let same = known.get(&key).and_then(|same| variants.get_mut(*same));
            match same {
                Some(variant) => {
                    variant.listeners.push(place);
                    variant.port = variant.port.filter(|other| Some(*other) == port);
                }
                None => {
                    variants.push(Variant {
                        listeners: vec![place],
                        hosts: key.0.clone().into(),
                        tls: listener.tls,
                        port,
                    });
                    known.insert(key, variants.len() - 1);
                }
            }
        }
    }
    variants
}
