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
    let mut found = Found::default();
    found.collect(context, &server.scope);
    if found.place(false, "/").is_none() {
        let scope = server.scope.clone();
        found.push(Spot::of(server.directive, scope, false, "/".into()));
    }
    found.matched(context);
    (found.spots, found.named)
}

/// The places of a server that were found so far.
#[derive(Default)]
struct Found<'d> {
    spots: Vec<Spot<'d>>,
    named: Named<'d>,
    /// Where among `spots` that of a path is; exact ones and prefixes apart.
    places: [HashMap<String, usize>; 2],
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

impl<'d> Found<'d> {
    fn place(&self, exact: bool, path: &str) -> Option<usize> {
        self.places[usize::from(exact)].get(path).copied()
    }

    fn push(&mut self, spot: Spot<'d>) {
        let places = &mut self.places[usize::from(spot.exact)];
        places.insert(spot.path.clone(), self.spots.len());
        self.spots.push(spot);
    }

    fn collect(&mut self, context: &Context<'d>, scope: &Scope<'d>) {
        for location in scope.own("location") {
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
                    self.named.insert(written, (location, inner));
                }
                "" | "=" | "^~" => {
                    let exact = modifier == "=";
                    match values::path(written).filter(|path| !path.contains("//")) {
                        None => context
                            .ledger
                            .left(location, "no path that weir compares looks like this"),
                        Some(path) if self.place(exact, &path).is_some() => {
                            let why = "another location has the same path";
                            context.ledger.left(location, why);
                        }
                        Some(path) => {
                            context.ledger.done(location);
                            self.push(Spot::of(location, inner.clone(), exact, path));
                            self.collect(context, &inner);
                        }
                    }
                }
                _ => context
                    .ledger
                    .left(location, "weir does not know this kind of location"),
            }
        }
    }

    /// Which paths and prefixes each place is for in weir's terms.
    fn matched(&mut self, context: &Context<'_>) {
        let shorter = self.shorter_prefixes();
        for place in 0..self.spots.len() {
            let Some(spot) = self.spots.get(place) else {
                continue;
            };
            let path = spot.path.clone();
            let sends_on = spot.leads_to_servers();
            let Some(base) = (match spot.exact {
                true => None,
                false => base_of(&path),
            }) else {
                self.without_slash(context, place, path);
                continue;
            };
            let owner = match (self.place(true, base), self.place(false, base)) {
                (Some(_), _) => None,
                (None, None) if sends_on => {
                    self.change(place, |spot| spot.without_slash = Some(base.to_owned()));
                    None
                }
                (None, Some(owner)) => Some(owner),
                (None, None) => shorter.get(place).copied().flatten(),
            };
            self.change(place, |spot| spot.prefixes.push(base.to_owned()));
            if let Some(owner) = owner {
                self.change(owner, |spot| spot.paths.push(base.to_owned()));
            }
        }
    }

    /// Of a path that ends without a slash, or is nothing else.
    fn without_slash(&mut self, context: &Context<'_>, place: usize, path: String) {
        let has_longer = self.place(false, &format!("{path}/")).is_some();
        self.change(place, |spot| {
            if spot.exact {
                return spot.paths.push(path);
            }
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
        });
    }

    fn change(&mut self, place: usize, change: impl FnOnce(&mut Spot<'d>)) {
        if let Some(spot) = self.spots.get_mut(place) {
            change(spot);
        }
    }

    /// For each place which one has its path without the slash at its end: that of the longest prefix.
    fn shorter_prefixes(&self) -> Vec<Option<usize>> {
        let mut owners = vec![None; self.spots.len()];
        let prefixes = || {
            let spots = self.spots.iter().enumerate();
            spots.filter(|(_, spot)| !spot.exact)
        };
        let paths = prefixes().map(|(place, spot)| (spot.path.as_str(), false, place));
        let bases =
            prefixes().filter_map(|(place, spot)| Some((base_of(&spot.path)?, true, place)));
        let mut all: Vec<_> = paths.chain(bases).collect();
        all.sort_unstable();
        // In this order all prefixes of a path come before it, and none that is no prefix of it is needed any more.
        let mut open: Vec<(&str, usize)> = Vec::new();
        for (path, is_base, place) in all {
            while open
                .pop_if(|(prefix, _)| !path.starts_with(*prefix))
                .is_some()
            {}
            match is_base {
                false => open.push((path, place)),
                true => {
                    if let Some(owner) = owners.get_mut(place) {
                        *owner = open.last().map(|(_, owner)| *owner);
                    }
                }
            }
        }
        owners
    }
}

/// A path without the slash at its end; `None` without one, and for `/`.
fn base_of(path: &str) -> Option<&str> {
    path.strip_suffix('/').filter(|base| !base.is_empty())
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

/// What keeps clients out at a place, as far as weir has no counterpart to it: directives of one name together.
pub(super) struct Guards<'s, 'd>(Vec<&'s [&'d Directive]>);

pub(super) fn guards<'s, 'd>(scope: &'s Scope<'d>) -> Guards<'s, 'd> {
    let [allow, deny] = scope.together(["allow", "deny"]);
    let rules = if deny.is_empty() {
        [&[], deny]
    } else {
        [allow, deny]
    };
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
    let is_off = |last: &&[&Directive]| last.iter().all(|guard| guard.says("off"));
    let is_on = |last: &&[&Directive]| last.iter().all(|guard| guard.says("on"));
    let switched = names.iter().map(|name| scope.last(name));
    let mut all: Vec<_> = rules.into_iter().collect();
    all.extend(switched.filter(|last| !is_off(last)));
    all.push(scope.own("limit_except"));
    all.extend(Some(scope.last("ssl_verify_client")).filter(is_on));
    all.retain(|guards| !guards.is_empty());
    Guards(all)
}

impl Guards<'_, '_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `deny all`, where that is all there is.
    pub(super) fn deny_all(&self) -> Option<&Directive> {
        match &*self.0 {
            [[only]] if only.name == "deny" && only.says("all") => Some(only),
            _ => None,
        }
    }

    /// Tells of them, once of those that many places inherit.
    pub(super) fn tell(&self, context: &Context<'_>, why: &str) {
        for guards in &self.0 {
            let first = guards.first().map_or(0, |guard| guard.id);
            if context.told_guards.borrow_mut().insert(first) {
                guards
                    .iter()
                    .for_each(|guard| context.ledger.access(guard, why));
            }
        }
    }

    /// As one message speaks of them.
    pub(super) fn named(&self) -> String {
        let first = self.0.iter().filter_map(|guards| guards.first());
        let names: Vec<_> = first
            .map(|guard| format!("`{}`", syntax::plain(&guard.name)))
            .collect();
        names.join(", ")
    }
}
