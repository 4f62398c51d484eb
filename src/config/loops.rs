//! Redirects that lead clients back to the route that they come from, again and again.
//!
//! Told where the config alone settles it: of routes without conditions that another request may not meet; where the host
//! that is named is one of the route's, at a port and by a scheme of its listeners; and where no other route may come first.

use std::cell::Cell;
use std::collections::HashMap;

use super::problems::spend;
use super::routes::RouteRead;
use super::value::plain;
use super::{Action, HostPattern, Listener, Route};
use crate::semantics::host;
use crate::semantics::path::{below, normalise};

/// Warns of each. `listeners` are those that look for a route at all.
pub(super) fn warn(routes: &[RouteRead<'_>], listeners: &HashMap<&str, &Listener>) {
    let whole = Whole {
        routes,
        listeners,
        effort: routes.iter().map(|read| effort(&read.route)).sum(),
        steps: Cell::new(MOST_STEPS),
    };
    for read in routes {
        let Some((from, to)) = circle(&read.route, &whole) else {
            continue;
        };
        if let Some(value) = read.whole.at(&["redirect", "to"]) {
            let message = match read.hidden {
                true => "the redirect leads back to this route".to_owned(),
                false => format!(
                    "the redirect leads back to this route: from `{}` to `{}`",
                    plain(&from),
                    plain(&to)
                ),
            };
            let help = "let it lead to what another route takes, or let this one take less, as by `path_exact`";
            value.warn("redirect-loop", message, Some(help.into()));
        }
    }
}

/// What a route is held against.
struct Whole<'r> {
    routes: &'r [RouteRead<'r>],
    listeners: &'r HashMap<&'r str, &'r Listener>,
    /// How many steps it takes to look through all routes.
    effort: usize,
    steps: Cell<usize>,
}

fn effort(route: &Route) -> usize {
    1 + route.hosts.len() + route.listen.len() + route.paths.len() + route.paths_exact.len()
}

/// A path that the route takes, and where it leads.
fn circle(route: &Route, whole: &Whole<'_>) -> Option<(String, String)> {
    let Action::Redirect { to, status } = &route.action else {
        return None;
    };
    // With other statuses, clients that have sent something come back with a GET.
    let same_method = route.methods.is_empty() || [307, 308].contains(&status.as_u16());
    if !same_method || !route.headers.is_empty() || !route.query.is_empty() {
        return None;
    }
    let prefixes = route.paths.iter().map(|path| match path.as_str() {
        "" => "/",
        path => path,
    });
    let paths = prefixes.chain(route.paths_exact.iter().map(String::as_str));
    paths
        .take_while(|_| spend(&whole.steps, effort(route)))
        .find_map(|from| {
            let location = to.replace("{path}", from);
            let place = Place::of(&location)?;
            comes_back(route, &place, whole).then(|| (from.to_owned(), location.clone()))
        })
}

/// Whether a client that asks for `place` surely gets to the route.
fn comes_back(route: &Route, place: &Place<'_>, whole: &Whole<'_>) -> bool {
    let path = normalise(place.path).ok();
    let Some((path, rank)) = path.and_then(|path| Some((path.clone(), rank(route, &path)?))) else {
        return false;
    };
    let named = place.origin.as_ref().map(|origin| origin.host.clone());
    let hosts: Vec<Option<&HostPattern>> = match &named {
        Some(host) => route
            .hosts
            .iter()
            .filter(|known| *known == host)
            .map(Some)
            .collect(),
        None if route.hosts.is_empty() => vec![None],
        None => route.hosts.iter().map(Some).collect(),
    };
    let here = route.listen.iter().filter(|name| {
        let listener = whole.listeners.get(name.as_str());
        listener.is_some_and(|listener| place.is_at(listener))
    });
    let here: Vec<_> = here.collect();
    hosts.into_iter().any(|host| {
        here.iter().any(|listener| {
            let may_come_first = |other: &Route| {
                let at_host = match host {
                    Some(host) => other.hosts.contains(host),
                    None => other.hosts.is_empty(),
                };
                let is_other = other.name != route.name;
                is_other
                    && at_host
                    && other.listen.contains(listener)
                    && self::rank(other, &path) >= Some(rank)
            };
            let mut others = whole.routes.iter().map(|read| &read.route);
            spend(&whole.steps, whole.effort) && !others.any(may_come_first)
        })
    })
}

/// How the best of a route's paths takes `path`: exactly, or by a prefix of so many bytes.
fn rank(route: &Route, path: &str) -> Option<(bool, usize)> {
    let takes = |prefix: &&String| below(path, prefix).is_some();
    let by_prefix = route.paths.iter().filter(takes).map(String::len).max();
    match route.paths_exact.iter().any(|exact| exact == path) {
        true => Some((true, 0)),
        false => by_prefix.map(|length| (false, length)),
    }
}

/// What a `Location` names.
struct Place<'l> {
    /// `None`: the same as before.
    origin: Option<Origin>,
    path: &'l str,
}

struct Origin {
    is_https: bool,
    host: HostPattern,
    port: u16,
}

impl<'l> Place<'l> {
    /// `None` where it takes more to tell.
    fn of(location: &'l str) -> Option<Self> {
        let location = location.split(['?', '#']).next()?;
        if location.starts_with('/') {
            let is_path = !location.starts_with("//");
            return is_path.then_some(Self {
                origin: None,
                path: location,
            });
        }
        let (scheme, rest) = location.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let host = host::parse(authority).ok()?;
        Some(Self {
            origin: Some(Origin {
                is_https,
                port: host.port.unwrap_or(if is_https { 443 } else { 80 }),
                host: HostPattern::Exact(host.name.into_owned()),
            }),
            path: if path.is_empty() { "/" } else { path },
        })
    }

    fn is_at(&self, listener: &Listener) -> bool {
        self.origin.as_ref().is_none_or(|origin| {
            let mut addresses = listener.addresses.iter();
            origin.is_https == listener.tls.is_some()
                && addresses.any(|address| address.socket.port() == origin.port)
        })
    }
}

/// A fraction of a second. Of ten thousand redirects that lead to themselves, some hundreds are told.
const MOST_STEPS: usize = 20_000_000;
