//! `proxy_cache` and what belongs to it -> `[route.NAME.cache]`.
//!
//! Where a condition keeps responses out of nginx's cache that weir cannot keep out of its own, there is no cache: what is
//! for one client must not go to another because of a translation.

use std::collections::HashMap;
use std::time::Duration;

use super::context::Context;
use super::scope::Scope;
use super::syntax::Directive;
use super::toml::{Table, Toml};
use super::values::{duration, time};

/// How long each zone keeps what nobody asks for.
pub(super) fn zones<'d>(
    directives: impl Iterator<Item = &'d Directive>,
) -> HashMap<String, Duration> {
    let paths = directives.filter(|directive| directive.name == "proxy_cache_path");
    let zone = |path: &Directive| {
        let named = |name: &str| path.args.iter().find_map(|arg| arg.strip_prefix(name));
        let zone = named("keys_zone=")?.split(':').next()?.to_owned();
        Some((
            zone,
            named("inactive=").and_then(time).unwrap_or(TEN_MINUTES),
        ))
    };
    paths.filter_map(zone).collect()
}

/// The table, where responses are stored. Everything that belongs to it is settled here.
pub(super) fn cache(context: &Context<'_>, scope: &Scope<'_>) -> Option<Table> {
    let switch = scope.find("proxy_cache")?;
    if switch.says("off") {
        context.ledger.agrees(switch);
        return None;
    }
    if let Some(buffering) = scope
        .find("proxy_buffering")
        .filter(|found| found.says("off"))
    {
        context
            .ledger
            .needless(switch, "without `proxy_buffering` nginx stores nothing");
        context
            .ledger
            .needless(buffering, "weir passes bodies on piece by piece anyway");
        return None;
    }
    let Some(zone) = switch.arg(0).and_then(|zone| context.zones.get(zone)) else {
        context.ledger.left(
            switch,
            "there is no `proxy_cache_path` with this zone; say `cache = true` in the route",
        );
        return None;
    };
    let draft = context.ledger.draft(NOT_CACHED);
    let kept_out = kept_out(context, scope);
    let mut table = Table::default();
    let keyed = key(context, scope, &mut table);
    if kept_out || !keyed {
        for directive in OF_CACHE.iter().flat_map(|name| scope.all(name)) {
            context.ledger.refuse(directive, NOT_CACHED);
        }
        let why = "weir cannot tell apart what nginx does here, so nothing is cached; where the application says \
                   `Cache-Control: private` for what is personal, say `cache = true`";
        context.ledger.left(switch, why);
        return None;
    }
    context.ledger.done(switch);
    fresh(context, scope, &mut table);
    stale(context, scope, *zone, &mut table);
    if let Some(lock) = scope.find("proxy_cache_lock") {
        match lock.says("off") {
            true => {
                table.set("collapse", false);
                context.ledger.done(lock);
            }
            false => context.ledger.agrees(lock),
        }
    }
    ignored(context, scope, &mut table);
    if table.keys.is_empty() {
        table.set("enabled", true);
    }
    draft.keep();
    Some(table)
}

/// Whether something is kept out of the cache by a condition that weir does not have.
fn kept_out(context: &Context<'_>, scope: &Scope<'_>) -> bool {
    let mut out = false;
    let conditions = scope
        .all("proxy_no_cache")
        .iter()
        .chain(scope.all("proxy_cache_bypass"));
    for directive in conditions {
        let harmless = |condition: &String| HARMLESS.contains(&condition.as_str());
        if directive.args.iter().all(harmless) {
            let why = "weir heeds `Cache-Control` of clients, and what was asked for with `Authorization` is stored only if \
                       the response allows it";
            context.ledger.needless(directive, why);
        } else {
            let why = "weir has no such condition; a route with `headers`, `query` or `path` of its own, and without `cache`, \
                       keeps requests out";
            context.ledger.left(directive, why);
            out = true;
        }
    }
    out
}

/// What tells stored responses apart. Whether weir can do so as well.
fn key(context: &Context<'_>, scope: &Scope<'_>, table: &mut Table) -> bool {
    let Some(directive) = scope.find("proxy_cache_key") else {
        return true;
    };
    let text = directive.args.concat().replace(['{', '}'], "");
    let mut variables: Vec<_> = text.split('$').skip(1).map(variable).collect();
    variables.sort_unstable();
    variables.dedup();
    let has = |name: &str| variables.binary_search(&name).is_ok();
    let parameters = variables
        .iter()
        .filter_map(|name| name.strip_prefix("arg_"));
    let parameters: Vec<_> = parameters.map(str::to_owned).collect();
    let known = |name: &&&str| {
        let parameter = name.strip_prefix("arg_");
        IN_KEY.contains(*name) || parameter.is_some_and(|parameter| !parameter.is_empty())
    };
    if let Some(other) = variables.iter().find(|name| !known(name)) {
        let other = super::syntax::short(other);
        let why = format!(
            "weir's key is scheme, host, path and query, and what `Vary` names; `${other}` cannot be part of it"
        );
        context.ledger.left(directive, why);
        return false;
    }
    let whole_query = has("request_uri") || has("args") || has("query_string");
    if !whole_query && !has("uri") && !has("document_uri") {
        context.ledger.left(
            directive,
            "weir's key always has the path; this one has none",
        );
        return false;
    }
    match whole_query {
        true => context.ledger.agrees(directive),
        false => context.ledger.done(directive),
    }
    match (whole_query, parameters.is_empty()) {
        (true, _) => {}
        (false, true) => table.set("key_query", "none"),
        (false, false) => table.set("key_query", parameters),
    }
    true
}

/// The name at the beginning of what follows a `$`.
fn variable(text: &str) -> &str {
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = text.bytes().take_while(name).count();
    text.get(..end).unwrap_or_default()
}

/// `proxy_cache_valid`: how long what does not say so is fresh.
fn fresh(context: &Context<'_>, scope: &Scope<'_>, table: &mut Table) {
    let mut chosen = None;
    for directive in scope.all("proxy_cache_valid") {
        let Some((lasting, codes)) = directive.args.split_last() else {
            context.ledger.left(directive, "it takes a time");
            continue;
        };
        let is_for_200 =
            codes.is_empty() || codes.iter().any(|code| code == "200" || code == "any");
        let lasting = time(lasting).and_then(duration);
        match (lasting, is_for_200) {
            (Some(lasting), true) if chosen.is_none() => {
                let why = "`default_ttl` is for every response that may be stored and does not say how long, and never for \
                           requests with `Cookie` or `Authorization`";
                context.ledger.differs(directive, why);
                chosen = Some(lasting);
            }
            _ => {
                let why = "weir has one `default_ttl` for all statuses; let the application say `Cache-Control: max-age` for \
                           the others";
                context.ledger.left(directive, why);
            }
        }
    }
    if let Some(lasting) = chosen {
        table.set("default_ttl", lasting);
    }
}

/// `proxy_cache_use_stale`, `proxy_cache_background_update`.
fn stale(context: &Context<'_>, scope: &Scope<'_>, zone: Duration, table: &mut Table) {
    let background = scope.find("proxy_cache_background_update");
    let Some(directive) = scope.find("proxy_cache_use_stale") else {
        if let Some(background) = background {
            let why =
                "without `proxy_cache_use_stale updating` there is nothing to renew meanwhile";
            context.ledger.needless(background, why);
        }
        return table.set_for("stale_if_error", "off", "nginx's default");
    };
    context.ledger.done(directive);
    background.inspect(|directive| context.ledger.agrees(directive));
    let kept = duration(zone).unwrap_or_else(|| "10m".into());
    let is = |case: &str| directive.args.iter().any(|arg| arg == case);
    if is("updating") {
        table.set("stale_while_revalidate", kept.clone());
        if background.is_none_or(|found| !found.says("on")) {
            let why = "with `updating` weir renews in the background, so that nobody waits";
            context.ledger.differs(directive, why);
        }
    }
    match [
        "error",
        "timeout",
        "invalid_header",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
    ]
    .iter()
    .any(|case| is(case))
    {
        true => table.set_for("stale_if_error", kept, "`inactive` of `proxy_cache_path`"),
        false => table.set("stale_if_error", "off"),
    }
    if let Some(case) = ["http_403", "http_404", "http_429"]
        .into_iter()
        .find(|case| is(case))
    {
        let why = format!(
            "weir takes no stale response in place of `{case}`; it does in the other cases"
        );
        context.ledger.left(directive, why);
    }
}

/// `proxy_ignore_headers`.
fn ignored(context: &Context<'_>, scope: &Scope<'_>, table: &mut Table) {
    let Some(directive) = scope.find("proxy_ignore_headers") else {
        return;
    };
    let is_of_accel = |name: &String| name.to_ascii_lowercase().starts_with("x-accel-");
    if directive.args.iter().all(is_of_accel) {
        let why = "`X-Accel-*` fields have no effect anyway";
        return context.ledger.needless(directive, why);
    }
    for name in &directive.args {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "set-cookie" => {
                table.set("store_set_cookie", true);
                context.ledger.differs(
                    directive,
                    "the cookies of a stored response go to everyone, unless they are removed",
                );
            }
            name if name.starts_with("x-accel-") => context
                .ledger
                .but_for(directive, "`X-Accel-*` fields have no effect anyway"),
            _ => {
                let name = super::syntax::short(name);
                let why = format!(
                    "weir always heeds `{name}` of servers; let the application send what it means, or `Weir-Cache-Control`"
                );
                context.ledger.left(directive, why);
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    table.keys.retain(|key| seen.insert(key.name().to_owned()));
}

/// `proxy_cache_path`, when all who use it are known.
pub(super) fn settle_paths<'d>(
    context: &Context<'_>,
    directives: impl Iterator<Item = &'d Directive>,
    used: bool,
) {
    for path in directives.filter(|directive| directive.name == "proxy_cache_path") {
        match used {
            true => context.ledger.differs(
                path,
                "weir keeps responses in memory, a quarter of it and 256MiB at most, unless `cache.max_size` says more",
            ),
            false => context.ledger.left(path, "nothing is cached in it; say `cache = true` in a route"),
        }
    }
}

impl Table {
    /// Whether it is an empty table or says nothing but that it is on.
    pub(super) fn is_just_on(&self) -> bool {
        matches!(&*self.keys, [key] if key.name() == "enabled" && *key.value() == Toml::Switch(true))
    }
}

const NOT_CACHED: &str = "it belongs to a `proxy_cache` that is not translated";
/// What says how responses are stored.
const OF_CACHE: [&str; 6] = [
    "proxy_cache_key",
    "proxy_cache_valid",
    "proxy_cache_use_stale",
    "proxy_cache_background_update",
    "proxy_cache_lock",
    "proxy_ignore_headers",
];
/// nginx's default of `inactive`.
const TEN_MINUTES: Duration = Duration::from_secs(600);
/// Conditions that weir knows by itself.
const HARMLESS: [&str; 4] = [
    "$http_pragma",
    "$http_cache_control",
    "$http_authorization",
    "$http_upgrade",
];
const IN_KEY: [&str; 13] = [
    "scheme",
    "request_method",
    "host",
    "http_host",
    "proxy_host",
    "server_name",
    "server_port",
    "request_uri",
    "uri",
    "document_uri",
    "is_args",
    "args",
    "query_string",
];
