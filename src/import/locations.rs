//! `location` blocks -> which paths a route is for.
//!
//! nginx compares a prefix with the beginning of the path, weir with whole segments. `/api/` of nginx is not for `/api`: where it
//! leads to servers nginx sends clients there, else the location of a shorter prefix has it. Both become exact paths.

use std::collections::HashMap;

use super::context::Context;
use super::scope::Scope;
use super::servers::Server;
use super::syntax::{self, Directive};
use super::values;

/// A place in a server: a location, or the server itself where no location is.
#[derive(Debug)]
pub(super) struct Spot<'d> {
    pub(super) directive: &'d Directive,
    pub(super) scope: Scope<'d>,
    pub(super) exact: bool,
    /// As weir writes paths, with the slash at its end that nginx has.
    pub(super) path: String,
    /// Which paths its route is for.
    pub(super) prefixes: Vec<String>,
    pub(super) paths: Vec<String>,
    /// The path that nginx sends on to this one, with a slash at its end.
    pub(super) without_slash: Option<String>,
}

/// Locations that only nginx itself goes to, by their names.
pub(super) type Named<'d> = HashMap<&'d str, (&'d Directive, Scope<'d>)>;

/// All places of a server, and its named locations.
pub(super) fn spots<'d>(context: &Context<'d>, server: &Server<'d>) -> (Vec<Spot<'d>>, Named<'d>) {
    let (mut spots, mut named) = (Vec::new(), Named::new());
    collect(
        context,
        server.directive.inner(),
        &server.scope,
        &mut spots,
        &mut named,
    );
    if !spots.iter().any(|spot| !spot.exact && spot.path == "/") {
        spots.push(Spot::of(
            server.directive,
            server.scope.clone(),
            false,
            "/".into(),
        ));
    }
    matched(context, &mut spots);
    (spots, named)
}

impl<'d> Spot<'d> {
    fn of(directive: &'d Directive, scope: Scope<'d>, exact: bool, path: String) -> Self {
        Self {
            directive,
            scope,
            exact,
            path,
            prefixes: Vec::new(),
            paths: Vec::new(),
            without_slash: None,
        }
    }

    /// What its route is called, after the name of its server.
    pub(super) fn slug(&self) -> String {
        values::slug(&self.path)
    }

    fn leads_to_servers(&self) -> bool {
        let passes = [
            "proxy_pass",
            "fastcgi_pass",
            "uwsgi_pass",
            "scgi_pass",
            "grpc_pass",
        ];
        passes.iter().any(|pass| !self.scope.own(pass).is_empty())
    }
}

fn collect<'d>(
    context: &Context<'d>,
    block: &'d [Directive],
    scope: &Scope<'d>,
    spots: &mut Vec<Spot<'d>>,
    named: &mut Named<'d>,
) {
    for location in block
        .iter()
        .filter(|directive| directive.name == "location")
    {
        let (modifier, written) = match &*location.args {
            [only] => split(only),
            [modifier, path] => (modifier.as_str(), path.as_str()),
            _ => {
                context.ledger.left(location, "it takes a path");
                continue;
            }
        };
        let inner = scope.within(location.inner());
        match modifier {
            "~" | "~*" => match of_expression(location) {
                (why, true) => context.ledger.access(location, why),
                (why, false) => context.ledger.left(location, why),
            },
            "@" => {
                named.insert(written, (location, inner));
            }
            "" | "=" | "^~" => {
                let exact = modifier == "=";
                match values::path(written).filter(|path| !path.contains("//")) {
                    None => context
                        .ledger
                        .left(location, "no path that weir compares looks like this"),
                    Some(path)
                        if spots
                            .iter()
                            .any(|spot| spot.exact == exact && spot.path == path) =>
                    {
                        context
                            .ledger
                            .left(location, "another location has the same path");
                    }
                    Some(path) => {
                        context.ledger.done(location);
                        spots.push(Spot::of(location, inner.clone(), exact, path));
                        collect(context, location.inner(), &inner, spots, named);
                    }
                }
            }
            _ => context
                .ledger
                .left(location, "weir does not know this kind of location"),
        }
    }
}

/// `=/path` and the like, without a blank.
fn split(text: &str) -> (&str, &str) {
    let modifiers = ["=", "^~", "~*", "~"];
    let modifier = modifiers
        .into_iter()
        .find(|modifier| text.starts_with(modifier));
    match modifier {
        Some(modifier) => (modifier, text.get(modifier.len()..).unwrap_or_default()),
        None if text.starts_with('@') => ("@", text),
        None => ("", text),
    }
}

/// What is told of it, and whether it kept clients out.
fn of_expression(location: &Directive) -> (String, bool) {
    let closes = |directive: &&Directive| {
        let refuses = directive.name == "return"
            && directive
                .arg(0)
                .is_some_and(|status| status.starts_with('4'));
        refuses
            || ["deny", "internal"].contains(&directive.name.as_str())
            || directive.name.starts_with("auth_")
    };
    let closing = location.inner().iter().find(closes);
    let open = match closing {
        Some(directive) => format!(
            " What `{}` kept closed is open then: close it in the application first.",
            directive.text()
        ),
        None => String::new(),
    };
    let why = format!(
        "weir's routes have paths and prefixes, no regular expressions; requests for it go to the route of the longest prefix.{open}"
    );
    (why, closing.is_some())
}

/// Which paths and prefixes each place is for in weir's terms.
fn matched(context: &Context<'_>, spots: &mut [Spot<'_>]) {
    let find = |spots: &[Spot<'_>], exact: bool, path: &str| {
        spots
            .iter()
            .position(|spot| spot.exact == exact && spot.path == path)
    };
    for place in 0..spots.len() {
        let Some(spot) = spots.get_mut(place) else {
            continue;
        };
        let path = spot.path.clone();
        if spot.exact {
            spot.paths.push(path);
            continue;
        }
        let Some(base) = path.strip_suffix('/').filter(|base| !base.is_empty()) else {
            let has_longer = find(spots, false, &format!("{path}/")).is_some();
            let Some(spot) = spots.get_mut(place) else {
                continue;
            };
            if path != "/" {
                let why = format!(
                    "weir compares whole segments: `{path}` is for `{path}` and `{path}/…`, not for `{path}…`; those go to the \
                     route of a shorter prefix"
                );
                context
                    .ledger
                    .differs_alike(spot.directive, "segments", why);
            }
            if !has_longer {
                spot.prefixes.push(path);
            }
            continue;
        };
        spot.prefixes.push(base.to_owned());
        let sends_on = spot.leads_to_servers();
        if find(spots, true, base).is_some() {
            continue;
        }
        let owner = match find(spots, false, base) {
            None if sends_on => {
                if let Some(spot) = spots.get_mut(place) {
                    spot.without_slash = Some(base.to_owned());
                }
                continue;
            }
            Some(owner) => Some(owner),
            None => {
                let shorter = spots.iter().enumerate();
                let shorter = shorter.filter(|(_, spot)| {
                    !spot.exact && spot.path != path && base.starts_with(&spot.path)
                });
                shorter
                    .max_by_key(|(_, spot)| spot.path.len())
                    .map(|(owner, _)| owner)
            }
        };
        if let Some(owner) = owner.and_then(|owner| spots.get_mut(owner)) {
            owner.paths.push(base.to_owned());
        }
    }
}

/// What keeps clients out at a place, as far as weir has no counterpart to it.
pub(super) fn guards<'d>(scope: &Scope<'d>) -> Vec<&'d Directive> {
    let mut guards = scope.together(["allow", "deny"]);
    if !guards.iter().any(|guard| guard.name == "deny") {
        guards.clear();
    }
    let off = |directive: &&Directive| !directive.says("off");
    let names = [
        "auth_basic",
        "auth_request",
        "auth_require",
        "auth_jwt",
        "auth_oidc",
        "auth_digest",
        "auth_gss",
        "auth_ldap",
        "auth_pam",
        "secure_link",
        "access_by_lua",
        "access_by_lua_block",
        "access_by_lua_file",
        "js_access",
    ];
    guards.extend(names.iter().filter_map(|name| scope.find(name)).filter(off));
    guards.extend(scope.own("limit_except").iter().copied());
    guards.extend(scope.is_on("ssl_verify_client"));
    guards
}

/// The guards as one message speaks of them.
pub(super) fn named_guards(guards: &[&Directive]) -> String {
    let mut names: Vec<_> = guards
        .iter()
        .map(|guard| syntax::plain(&guard.name))
        .collect();
    names.dedup();
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
