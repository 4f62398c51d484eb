//! Values of the config that came from the environment: they may be secret, and are not shown. Addresses, hosts and paths
//! are what weir and its clients know things by, and are.

use crate::config::{Config, MASK};
use crate::route::Unmet;
use crate::units::{RouteName, UpstreamName};

type Fields = [(String, String)];

/// Hides what a route and an upstream write into requests.
pub(super) fn hide_in_request(
    fields: &mut Fields,
    config: &Config,
    route: &RouteName,
    upstream: &UpstreamName,
) {
    let host = config.hides(&["upstream", upstream.as_str(), "host_header"]);
    hide(fields, |name| {
        host && name == "host" || is_edited(config, route, "request_headers", name)
    });
}

/// Hides what a route writes into responses.
pub(super) fn hide_in_response(fields: &mut Fields, config: &Config, route: &RouteName) {
    let to_there = config.hides(&["route", route.as_str(), "redirect", "to"]);
    hide(fields, |name| {
        to_there && name == "location" || is_edited(config, route, "response_headers", name)
    });
}

/// A condition of a route, without the value that it demands where that is hidden.
pub(super) fn condition(unmet: &Unmet<'_>, config: &Config, route: &RouteName) -> String {
    let hides = |kind, name| config.hides(&["route", route.as_str(), kind, name]);
    match unmet {
        Unmet::Field(field) if hides("headers", field.name.as_str()) => {
            format!("no field `{}: {MASK}`", field.name)
        }
        Unmet::Parameter(parameter) if hides("query", &parameter.name) => {
            format!("no parameter `{}={MASK}` in the query", parameter.name)
        }
        unmet => unmet.to_string(),
    }
}

fn is_edited(config: &Config, route: &RouteName, edits: &str, name: &str) -> bool {
    let hides = |edit| config.hides(&["route", route.as_str(), edits, edit, name]);
    hides("set") || hides("add")
}

fn hide(fields: &mut Fields, is_hidden: impl Fn(&str) -> bool) {
    for (_, value) in fields.iter_mut().filter(|(name, _)| is_hidden(name)) {
        value.replace_range(.., MASK);
    }
}
