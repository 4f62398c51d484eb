//! What is legal, but surely not meant. Told of configs that are valid otherwise: what is wrong in the rest could make it
//! look unused or empty.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::check::Context;
use super::routes::RouteRead;
use super::value::{Entry, Value, plain};
use super::values::show_duration;
use super::{Action, HealthCheck, HostPattern, Keepalive, ServerPlace, Upstream, ambiguity};

/// All that take the whole config to be seen.
pub(super) fn check(routes: &[RouteRead<'_>], upstreams: &[Entry<'_>], context: &Context<'_>) {
    unused(routes, upstreams);
    ambiguity::warn_of_shadows(routes);
    for (listener, certificate, names) in context.certificates.borrow().iter() {
        let routes = routes.iter().map(|read| &read.route);
        let hosts: Vec<_> = routes
            .filter(|route| route.listen.iter().any(|name| name.as_str() == *listener))
            .flat_map(|route| &route.hosts)
            .collect();
        let covered = |host: &&HostPattern| names.iter().any(|name| covers(name, host));
        if !hosts.is_empty() && !hosts.iter().any(covered) {
            let of = match names.as_slice() {
                [] => "no host name".to_owned(),
                [name] => format!("`{}`", plain(name)),
                [name, ..] => format!("`{}` and {} more", plain(name), names.len() - 1),
            };
            let message = format!("the certificate is for {of}, for no host of the routes here");
            let help = "clients refuse it for those hosts; use another, or correct the hosts";
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

/// Whether a certificate for `name` is good for a host (RFC 9525 §6.3: `*` is one label).
fn covers(name: &str, host: &HostPattern) -> bool {
    match (host, name.strip_prefix("*.")) {
        (HostPattern::Exact(host), None) => host == name,
        (HostPattern::Exact(host), Some(parent)) => {
            host.split_once('.').is_some_and(|(_, rest)| rest == parent)
        }
        // Of the names below, one at least.
        (HostPattern::Suffix(suffix), parent) => {
            let name = parent.map_or_else(|| name.to_owned(), |parent| format!("x.{parent}"));
            let above = name.strip_suffix(suffix.as_str());
            above.is_some_and(|above| above.ends_with('.'))
        }
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

pub(super) fn health_check(value: &Value<'_>, check: &HealthCheck) {
    let (interval, timeout) = (check.interval, check.timeout);
    if timeout > interval {
        let message = format!(
            "`timeout` ({}) is longer than `interval` ({})",
            show_duration(timeout),
            show_duration(interval)
        );
        let help = "the next probe waits for the one before; make `timeout` shorter";
        value.warn("health-check-timeout", message, Some(help.into()));
    }
    if check.fast_interval > interval {
        let message = format!(
            "`fast_interval` ({}) is longer than `interval` ({})",
            show_duration(check.fast_interval),
            show_duration(interval)
        );
        let help = "it is for probing more often while the state changes";
        value.warn("health-check-interval", message, Some(help.into()));
    }
}

pub(super) fn keepalive(value: &Value<'_>, keepalive: &Keepalive) {
    if keepalive.idle > keepalive.max_age {
        let message = format!(
            "`idle` ({}) is longer than `max_age` ({}), which ends connections sooner",
            show_duration(keepalive.idle),
            show_duration(keepalive.max_age)
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

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

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
