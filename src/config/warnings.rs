//! What is legal, but surely not meant. Told of configs that are valid otherwise: what is wrong in the rest could make it
//! look unused or empty.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use toml::de::DeValue;

use super::check::Context;
use super::routes::{NO_PATTERNS, RouteRead, is_pattern};
use super::value::{Entry, Value, plain, without_braces};
use super::values::show_duration;
use super::{
    Action, HealthCheck, HostPattern, Keepalive, Listener, ServerPlace, Upstream, ambiguity, loops,
};
use crate::semantics::path::below;

/// All that take the whole config to be seen.
pub(super) fn check(
    routes: &[RouteRead<'_>],
    upstreams: &[Entry<'_>],
    listeners: &[Listener],
    context: &Context<'_>,
) {
    unused(routes, upstreams);
    ambiguity::warn_of_shadows(routes);
    let serving = listeners.iter().filter(|listener| !is_for_https(listener));
    let serving = serving.map(|listener| (listener.name.as_str(), listener));
    let serving = serving.collect();
    unserved(routes, &serving);
    loops::warn(routes, &serving);
    routes.iter().for_each(strip_prefix);
    let certificates = context.certificates.borrow();
    let mut hosts: HashMap<&str, Hosts<'_>> = HashMap::new();
    for (listener, ..) in certificates.iter() {
        hosts.entry(listener).or_default();
    }
    for route in routes.iter().map(|read| &read.route) {
        for name in &route.listen {
            if let Some(hosts) = hosts.get_mut(name.as_str()) {
                hosts.add(&route.hosts);
            }
        }
    }
    for (listener, certificate, names) in certificates.iter() {
        let hosts = &hosts[listener];
        if !hosts.is_empty() && !names.iter().any(|name| hosts.has_for(name)) {
            let of = match names.as_slice() {
                [] => "no host name".to_owned(),
                [name] => format!("`{}`", plain(name)),
                [name, ..] => format!("`{}` and {} more", plain(name), names.len() - 1),
            };
            let message = format!("the certificate is for {of}, for no host of the routes here");
            let help = match names.is_empty() {
                true => "clients look for hosts in its `subjectAltName` alone, which has none",
                false => "clients refuse it for those hosts; use another, or correct the hosts",
            };
            certificate.warn("certificate-hosts", message, Some(help.into()));
        }
    }
}

fn unused(routes: &[RouteRead<'_>], upstreams: &[Entry<'_>]) {
    let mut used = HashSet::new();
    for read in routes {
        if let Action::Forward(shares) = &read.route.action {
            used.extend(shares.iter().map(|(name, _)| name.as_str()));
        }
    }
    for entry in upstreams {
        if !used.contains(entry.name.text) {
            let help = "name it in the `upstream` of a route, or leave it out";
            let message = "no route uses this upstream";
            entry
                .name
                .warn("unused-upstream", message, Some(help.into()));
        }
    }
}

/// Whether a listener has nothing but redirects for its clients. Proxies that are trusted may say that they came by HTTPS.
fn is_for_https(listener: &Listener) -> bool {
    listener.redirect_to_https.is_some()
        && listener.tls.is_none()
        && listener.trusted_proxies.is_empty()
}

/// Routes that stand on such listeners alone. Where there are no others, one that asks no server is there since a file needs
/// a route.
fn unserved(routes: &[RouteRead<'_>], serving: &HashMap<&str, &Listener>) {
    for RouteRead {
        route, name, whole, ..
    } in routes
    {
        let mut paths = route.paths.iter().chain(&route.paths_exact);
        let mut listen = route.listen.iter();
        if listen.any(|listener| serving.contains_key(listener.as_str()))
            || serving.is_empty() && !matches!(route.action, Action::Forward(_))
            || paths.any(|path| path.starts_with("/.well-known"))
        {
            continue;
        }
        let message =
            "no request takes this route: `redirect_to_https` comes first on each of its listeners";
        let id = "unserved-route";
        match whole.at(&["listen"]) {
            Some(value) => {
                let help =
                    "name the listener that has `tls`, or leave `listen` out for all of them";
                value.warn(id, message, Some(help.into()));
            }
            None => {
                let help = "add a listener with `tls`, or leave `redirect_to_https` out";
                name.warn(id, message, Some(help.into()));
            }
        }
    }
}

/// A prefix that no path of the route has.
fn strip_prefix(read: &RouteRead<'_>) {
    let route = &read.route;
    let Some(prefix) = &route.strip_prefix else {
        return;
    };
    // Of what is below a path, some may have it.
    let mut paths = route.paths.iter();
    let mut exact = route.paths_exact.iter();
    if paths.any(|path| below(path, prefix).or(below(prefix, path)).is_some())
        || exact.any(|path| below(path, prefix).is_some())
    {
        return;
    }
    if let Some(value) = read.whole.at(&["strip_prefix"]) {
        let message = "no path of this route begins with that, so nothing is stripped";
        let help = match route.paths.as_slice() {
            [path] if !read.hidden => format!(
                "it is held against the path of the request: write `{}`, or leave it out",
                plain(path)
            ),
            _ => {
                "it is held against the path of the request; correct it, or leave it out".to_owned()
            }
        };
        value.warn("strip-prefix", message, Some(help));
    }
}

/// The hosts of the routes on one listener, so that a certificate is not held against each of them.
#[derive(Default)]
struct Hosts<'r> {
    exact: HashSet<&'r str>,
    /// What follows the first label of those.
    parents: HashSet<&'r str>,
    /// What follows `*.`.
    suffixes: HashSet<&'r str>,
}

impl<'r> Hosts<'r> {
    fn add(&mut self, hosts: &'r [HostPattern]) {
        for host in hosts {
            match host {
                HostPattern::Exact(host) => {
                    self.exact.insert(host);
                    self.parents
                        .extend(host.split_once('.').map(|(_, parent)| parent));
                }
                HostPattern::Suffix(suffix) => drop(self.suffixes.insert(suffix)),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffixes.is_empty()
    }

    /// Whether a certificate for `name` is good for one of them (RFC 9525 §6.3: `*` is one label).
    fn has_for(&self, name: &str) -> bool {
        let (known, mut above) = match name.strip_prefix("*.") {
            None => (self.exact.contains(name), name),
            Some(parent) => {
                let open = self.suffixes.contains(parent);
                (open || self.parents.contains(parent), parent)
            }
        };
        // Of the names below a suffix, one at least.
        while let Some((_, rest)) = above.split_once('.') {
            if self.suffixes.contains(rest) {
                return true;
            }
            above = rest;
        }
        known
    }
}

/// A certificate that clients refuse soon, or now.
pub(super) fn expiry(value: &Value<'_>, not_after: Option<SystemTime>, now: SystemTime) {
    let Some(not_after) = not_after else { return };
    let days = |time: Duration| match time.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    };
    let help = "renew it; weir takes the new file as soon as it is there";
    match not_after.duration_since(now) {
        Ok(left) if left > SOON => {}
        Ok(left) => {
            let message = format!("the certificate expires in {}", days(left));
            value.warn("certificate-expiry", message, Some(help.into()));
        }
        Err(past) => {
            let message = format!("the certificate expired {} ago", days(past.duration()));
            value.warn("certificate-expiry", message, Some(help.into()));
        }
    }
}

/// A path that is a pattern elsewhere, and is text as any other here. `exact`: all of it must be equal.
pub(super) fn path(value: &Value<'_>, exact: bool) {
    let Some(text) = value.inner.as_str().filter(|text| is_pattern(text)) else {
        return;
    };
    let help = match text.strip_suffix("/*").or_else(|| text.strip_suffix("/**")) {
        Some(prefix) if !is_pattern(prefix) => {
            let prefix = if prefix.is_empty() { "/" } else { prefix };
            let key = if exact { "path = " } else { "" };
            let quote = if exact { "\"" } else { "" };
            format!(
                "a `path` is a prefix of whole segments: write `{key}{quote}{}{quote}`",
                plain(prefix)
            )
        }
        _ => NO_PATTERNS.to_owned(),
    };
    let message = format!("`{}` is taken as it is written", plain(text));
    value.warn("pattern", message, Some(help));
}

pub(super) fn host(value: &Value<'_>) {
    if value.inner.as_str() == Some("_") {
        let help = "leave `host` out for any host";
        value.warn(
            "host-of-nobody",
            "no client asks for `_`",
            Some(help.into()),
        );
    }
}

/// What others fill in and weir sends as it is.
pub(super) fn redirect(value: &Value<'_>) {
    let of_capture = |name: &str| name.starts_with(|first: char| first.is_ascii_digit());
    if let Some(name) = plain_variable(value, of_capture) {
        let help = "`{path}` is the one placeholder: the path of the request; the query is kept";
        let message = format!("`${}` is sent as it is written", plain(name));
        value.warn("plain-variable", message, Some(help.into()));
    }
}

/// `$NAME` and nothing else, what the shell would replace; and what others write for a variable or a file. A token that may
/// be one is not repeated.
pub(super) fn token(value: &Value<'_>) {
    let text = value.inner.as_str().unwrap_or_default();
    if value.problems.is_replaced(&value.span) {
        return;
    }
    let name = without_braces(text).filter(|name| text.len() == 1 + name.len());
    if let Some(name) = name {
        let name = plain(name);
        let help = format!("a variable is written as `${{{name}}}`");
        let message = format!("`${name}` is taken as it is written");
        value.warn("plain-variable", message, Some(help));
    } else if text.starts_with("env:") || text.starts_with('%') && text.ends_with(['%', '}']) {
        let message = "the token is taken as it is written, and is no name of a variable";
        let help = "a variable is written as `${NAME}`";
        value.warn("plain-variable", message, Some(help.into()));
    } else if PLACES.iter().any(|place| text.starts_with(place)) {
        let message = "the token is taken as it is written, and is no path";
        let help = "a file that holds the token is written as `file:` and its path";
        value.warn("plain-file", message, Some(help.into()));
    }
}

/// Where files with secrets are. Random tokens may have a slash, too.
const PLACES: [&str; 7] = ["/run/", "/etc/", "/var/", "/home/", "./", "../", "@/"];

/// The same for the value of a field.
pub(super) fn field_value(value: &Value<'_>) {
    let text = value.inner.as_str().unwrap_or_default();
    if value.problems.is_replaced(&value.span) {
        return;
    }
    if text.starts_with("file:") {
        let message = "the value of a field is sent as it is written";
        let help = "only `token` reads a file; write `${NAME}` for a variable of the environment";
        value.warn("plain-file", message, Some(help.into()));
    }
    // As a whole, or behind a scheme as `Bearer`: a part of a word may be a part of a secret.
    let last = text.rsplit(' ').next().unwrap_or_default();
    if let Some(name) = without_braces(last).filter(|name| last.len() == 1 + name.len()) {
        let message = format!("`${}` is sent as it is written", plain(name));
        let help = format!(
            "a variable of the environment is written as `${{{}}}`",
            plain(name)
        );
        return value.warn("plain-variable", message, Some(help));
    }
    let variable = plain_variable(value, |_| false).map(|name| format!("${name}"));
    if let Some(written) = variable.or_else(|| placeholder(text)) {
        let help = "values have no placeholders; what servers are told of the client, as \
                    `X-Forwarded-For`, `-Proto` and `-Host`, they are told anyway";
        let message = format!("`{}` is sent as it is written", plain(&written));
        value.warn("plain-variable", message, Some(help.into()));
    }
}

/// The name of a variable of nginx, or of one that `others` takes for such.
fn plain_variable<'t>(value: &Value<'t>, others: impl Fn(&str) -> bool) -> Option<&'t str> {
    let text = match value.inner {
        DeValue::String(text) if !value.problems.is_replaced(&value.span) => text.as_ref(),
        _ => return None,
    };
    text.split('$').skip(1).find_map(|after| {
        let after = after.strip_prefix('{').unwrap_or(after);
        let end =
            after.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let name = after.get(..end.unwrap_or(after.len()))?;
        let known = VARIABLES.contains(&name)
            || FAMILIES.iter().any(|family| name.starts_with(family))
            || others(name);
        known.then_some(name)
    })
}

/// `{host}` and the like. JSON has quotes behind its braces.
fn placeholder(text: &str) -> Option<String> {
    text.split('{').skip(1).find_map(|after| {
        let (name, _) = after.split_once('}')?;
        let good = |byte: u8| byte.is_ascii_lowercase() || b"_.".contains(&byte);
        (!name.is_empty() && name.bytes().all(good)).then(|| format!("{{{name}}}"))
    })
}

/// `whole` is the table that `value` is in.
pub(super) fn health_check(value: &Value<'_>, whole: &Value<'_>, check: &HealthCheck) {
    let told = |key, duration| whole.shown(key, show_duration(duration));
    let (interval, timeout) = (check.interval, check.timeout);
    if timeout > interval {
        let message = format!(
            "`timeout` ({}) is longer than `interval` ({})",
            told("timeout", timeout),
            told("interval", interval)
        );
        let help = "the next probe waits for the one before; make `timeout` shorter";
        value.warn("health-check-timeout", message, Some(help.into()));
    }
    if check.fast_interval > interval {
        let message = format!(
            "`fast_interval` ({}) is longer than `interval` ({})",
            told("fast_interval", check.fast_interval),
            told("interval", interval)
        );
        let help = "it is for probing more often while the state changes";
        value.warn("health-check-interval", message, Some(help.into()));
    }
}

/// `whole` is the table that `value` is in.
pub(super) fn keepalive(value: &Value<'_>, whole: &Value<'_>, keepalive: &Keepalive) {
    if keepalive.idle > keepalive.max_age {
        let message = format!(
            "`idle` ({}) is longer than `max_age` ({}), which ends connections sooner",
            whole.shown("idle", show_duration(keepalive.idle)),
            whole.shown("max_age", show_duration(keepalive.max_age))
        );
        value.warn("keepalive", message, None);
    }
}

pub(super) fn sticky(value: &Value<'_>, upstream: &Upstream) {
    if let ([server], Some(_)) = (upstream.servers.as_slice(), &upstream.sticky)
        && matches!(server.place, ServerPlace::Address(_))
    {
        let message = "there is one server alone, which all clients have anyway";
        let help = "leave `sticky` out until there are more";
        value.warn("sticky-alone", message, Some(help.into()));
    }
}

/// Variables of nginx that people put into fields and redirects.
const VARIABLES: [&str; 21] = [
    "args",
    "binary_remote_addr",
    "client_ip",
    "connection_upgrade",
    "host",
    "hostname",
    "https",
    "is_args",
    "proxy_add_x_forwarded_for",
    "proxy_host",
    "query_string",
    "realip_remote_addr",
    "remote_addr",
    "remote_port",
    "request_id",
    "request_method",
    "request_uri",
    "scheme",
    "server_name",
    "server_port",
    "uri",
];
/// What the names of others begin with.
const FAMILIES: [&str; 6] = [
    "arg_",
    "cookie_",
    "http_",
    "sent_http_",
    "ssl_",
    "upstream_",
];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(name: &str, host: &HostPattern) -> bool {
        let mut hosts = Hosts::default();
        hosts.add(std::slice::from_ref(host));
        hosts.has_for(name)
    }

    #[test]
    fn a_certificate_covers_its_names_and_one_label_for_a_star() {
        let exact = |host: &str| HostPattern::Exact(host.into());
        let suffix = |host: &str| HostPattern::Suffix(host.into());
        for (name, host) in [
            ("a.com", exact("a.com")),
            ("*.a.com", exact("x.a.com")),
            ("*.a.com", suffix("a.com")),
            ("x.a.com", suffix("a.com")),
            ("*.x.a.com", suffix("a.com")),
        ] {
            assert!(covers(name, &host), "{name} {host:?}");
        }
        for (name, host) in [
            ("a.com", exact("x.a.com")),
            ("*.a.com", exact("a.com")),
            ("*.a.com", exact("x.y.a.com")),
            ("a.com", suffix("a.com")),
            ("xa.com", suffix("a.com")),
            ("*.com", suffix("a.com")),
        ] {
            assert!(!covers(name, &host), "{name} {host:?}");
        }
    }
}
