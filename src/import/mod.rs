//! An nginx config as a weir.toml: `files.rs` and `syntax.rs` read it, `servers.rs`, `listeners.rs`, `locations.rs` find out which
//! requests each place is for, `outcomes.rs` what nginx does there, `routes.rs` how weir says it, `toml.rs` writes it.
//!
//! Nothing is dropped without a word: each directive is translated, or told with what to do instead, or needs no counterpart
//! for a reason ([`ledger`]). Nothing is guessed either: where a rule of access cannot be translated, its route is closed; where
//! nginx serves files or speaks another protocol, the route answers with an error. What neither a route nor a prefix can say
//! (regular expressions, `if`) is told, and what it refused is told to be open.

mod behind;
mod budget;
mod caching;
mod compression;
mod conditions;
mod connections;
mod context;
mod fields;
mod files;
mod forward;
mod glob;
mod known;
mod ledger;
mod listeners;
mod locations;
mod outcomes;
mod process;
mod redirects;
mod routes;
mod scope;
mod servers;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod toml;
mod upstreams;
mod values;
mod words;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

pub(crate) use files::ImportError;
pub(crate) use ledger::Count;

use context::{Context, Made};
use files::Source;
use known::Verdict;
use ledger::{Kind, Ledger};
use listeners::Listener;
use scope::Scope;
use servers::Server;
use syntax::{Directive, Place};
use toml::Table;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The weir.toml.
    pub(crate) toml: String,
    /// What there is to tell, one line each: first what lets clients in or keeps them out, then the rest in the order of the input.
    pub(crate) remarks: Vec<Remark>,
    pub(crate) count: Count,
}

/// A line of what is told.
#[derive(Debug)]
pub(crate) struct Remark {
    /// Whether nothing is lost, so that it need not be shown.
    pub(crate) is_needless: bool,
    pub(crate) line: String,
}

/// Imports the file and what it includes.
pub(crate) fn nginx(path: &Path) -> Result<Imported, ImportError> {
    imported(&files::read(path)?)
}

/// The same for these contents of a file at `path`.
pub(crate) fn nginx_text(bytes: &[u8], path: &Path) -> Result<Imported, ImportError> {
    imported(&files::from(bytes, path)?)
}

fn imported(source: &Source) -> Result<Imported, ImportError> {
    let main = &*source.tree;
    let ledger = Ledger::of(source.count);
    let mut blocks = main.iter().filter(|directive| directive.name == "http");
    let http = match blocks.next() {
        Some(block) => {
            ledger.done(block);
            block.inner()
        }
        // A file of sites-enabled, which nginx includes there.
        None => main,
    };
    for other in blocks {
        ledger.left(
            other,
            "nginx takes one `http` block; the first is translated",
        );
    }
    for directive in main.iter().filter(|directive| directive.name == "events") {
        ledger.done(directive);
    }
    let mut times: HashMap<&String, usize> = HashMap::new();
    for file in &source.files {
        *times.entry(file).or_default() += 1;
    }
    let times = source.files.iter().filter_map(|file| times.get(file));
    let context = Context {
        ledger,
        times: times.copied().collect(),
        files: source.files.clone(),
        included: source.included.clone(),
        directory: std::path::absolute(source.directory.join("."))
            .unwrap_or_else(|_| source.directory.clone()),
        blocks: upstream_blocks(http),
        zones: caching::zones(http.iter()),
        made: RefCell::default(),
        by_essence: RefCell::default(),
        upstream_names: RefCell::default(),
        route_names: RefCell::default(),
        hidden: RefCell::default(),
        behind: RefCell::default(),
        told_guards: RefCell::default(),
        forwards: Cell::new(false),
    };
    let toml = written(&context, main, http).map_err(|what| ImportError::TooMuch {
        file: source.files.first().cloned().unwrap_or_default(),
        what,
    })?;
    general(&context, source);
    context.ledger.settle_put_off(|places| {
        let lines = context.all_at(places);
        format!(
            "its route is closed; what these lines say is in its comment, to be put back: {lines}"
        )
    });
    sweep(&context, main, source);
    Ok(Imported {
        toml,
        remarks: remarks(&context),
        count: context.ledger.count(),
    })
}

fn upstream_blocks(http: &[Directive]) -> HashMap<String, &Directive> {
    let blocks = http.iter().filter(|directive| directive.name == "upstream");
    let named = blocks.filter_map(|block| Some((block.arg(0)?.to_ascii_lowercase(), block)));
    named.collect()
}

/// The whole output; or what there is too much of.
fn written<'d>(
    context: &Context<'d>,
    main: &'d [Directive],
    http: &'d [Directive],
) -> Result<String, &'static str> {
    let within_bounds = || context.budget().overrun().map_or(Ok(()), Err);
    let scope = Scope::of(http);
    let blocks = http.iter().filter(|directive| directive.name == "server");
    let servers: Vec<_> = blocks
        .map(|block| Server::of(context, block, &scope))
        .collect();
    let mut listeners = listeners::listeners(context, &servers);
    routes_to_https(&mut listeners, &servers);
    let tables: Vec<_> = listeners
        .iter()
        .map_while(|listener| {
            let table = listener.table(context, &servers);
            let bytes = table.as_ref().map_or(0, Table::size);
            context.budget().write(listener.name.len() + bytes);
            (!context.budget().is_spent()).then_some(table)
        })
        .collect();
    within_bounds()?;
    let mut tables = tables.into_iter();
    let mut listen = Vec::new();
    listeners.retain(|listener| match tables.next().flatten() {
        Some(table) => {
            listen.push(Made {
                name: format!("listen.{}", listener.name),
                comments: listener.comments(),
                table,
            });
            true
        }
        None => false,
    });
    let owners = servers::Owners::of(context, &servers, &listeners);
    let mut routes = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        within_bounds()?;
        let variants = servers::variants(context, &servers, number, &listeners, &owners);
        if variants.is_empty() {
            let why =
                "no request would reach it: none of its listeners and names can be translated";
            context.ledger.left(server.directive, why);
        }
        routes.extend(routes::routes(
            context, server, &variants, &listeners, &owners,
        ));
    }
    within_bounds()?;
    let mut named = HashMap::new();
    for route in &mut routes {
        if let Some(behind) = context.behind.borrow_mut().remove(&route.name) {
            let comments = behind.comments(context, route, &mut named);
            route.comments.extend(comments);
        }
    }
    caching::settle_paths(context, http.iter(), routes.iter().any(is_cached));
    complete(&mut listen, &mut routes, context);
    let mut out = format!(
        "# Made by `weir import nginx {}`; what it could not translate was told. Check it with `weir check -c FILE`.\n",
        context.files.first().map_or("", String::as_str)
    );
    let process = process::tables(context, main, http, &listeners);
    let upstreams = context.made.borrow();
    for (kind, tables) in [
        ("", &process),
        ("", &listen),
        ("route.", &routes),
        ("upstream.", &*upstreams),
    ] {
        for made in tables {
            let heading = format!("{kind}{}", made.name);
            made.table.write(&mut out, &heading, &made.comments);
            if out.len() > budget::LARGEST {
                return Err(budget::TOO_LARGE);
            }
        }
    }
    Ok(out)
}

fn is_cached(route: &Made) -> bool {
    route.table.has("cache")
}

/// A config needs a listener and a route, whatever was imported.
fn complete(listen: &mut Vec<Made>, routes: &mut Vec<Made>, context: &Context<'_>) {
    if listen.is_empty() {
        context
            .ledger
            .general("no server was found that listens; `[listen.http]` stands in for it");
        let mut table = Table::default();
        table.set("address", "127.0.0.1:8080");
        listen.push(Made {
            name: "listen.http".into(),
            comments: vec!["in place of the listeners that were not found".into()],
            table,
        });
        routes.clear();
    }
    if routes.is_empty() {
        let mut table = Table::default();
        table.set(
            "respond",
            vec![("status".to_owned(), toml::Toml::Number(404))],
        );
        routes.push(Made {
            name: "nothing".into(),
            comments: vec!["a config needs a route".into()],
            table,
        });
    }
}

/// Listeners that send every request to https, where a route for each host would not do.
fn routes_to_https(listeners: &mut [Listener], servers: &[Server<'_>]) {
    let is_open = |server: &Server<'_>| {
        server.hosts.is_empty() || server.hosts.iter().any(|host| host.starts_with('*'))
    };
    let of_servers = servers.iter();
    let of_servers: Vec<_> = of_servers
        .map(|server| (routes::redirects_to_https(server), is_open(server)))
        .collect();
    for listener in listeners.iter_mut().filter(|listener| !listener.tls) {
        let here = || {
            listener
                .servers
                .iter()
                .filter_map(|number| of_servers.get(*number))
        };
        let ports: Option<HashSet<u16>> = here().map(|(port, _)| *port).collect();
        let open = here().any(|(_, is_open)| *is_open);
        if let Some(ports) = ports
            && let [port] = &*ports.into_iter().collect::<Vec<_>>()
            && (open || listener.explicit_default)
        {
            listener.to_https = Some(*port);
        }
    }
}

/// What differs between the two wherever requests are forwarded.
fn general(context: &Context<'_>, source: &Source) {
    if context.forwards.get() {
        for text in GENERAL {
            context.ledger.general(text);
        }
    }
    for file in &source.not_utf8 {
        let file = context.files.get(*file).map_or("", String::as_str);
        context
            .ledger
            .general(format!("`{file}` is not UTF-8; it was read as Latin-1"));
    }
}

/// Speaks of every directive that nobody spoke of, and of those that are not in the output everywhere.
fn sweep(context: &Context<'_>, block: &[Directive], source: &Source) {
    let mut together: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
    let has_deny = block.iter().any(|directive| directive.name == "deny");
    for directive in block {
        if directive.name == "include" {
            let why = source.missing.get(&directive.id);
            included(context, directive, why.map(String::as_str));
        } else if let Some(why) = context.ledger.missed(directive) {
            context.ledger.left(directive, why);
        } else if context.ledger.silent(directive) {
            if let Some(why) = context.ledger.is_idle(directive) {
                context.ledger.needless(directive, why);
                continue;
            }
            if directive.name == "allow" && !has_deny {
                let why = "without a `deny` beside it, it lets everyone in, as weir does";
                context.ledger.needless(directive, why);
                continue;
            }
            let is_shared = context.times_included(directive.place) > 1;
            if is_shared && has_no_place(directive) {
                context.ledger.left_with_others(directive);
                let places = together.entry(directive.place.file).or_default();
                places.push(directive.place);
            } else {
                unspoken(context, directive);
            }
        }
        sweep(context, directive.inner(), source);
    }
    for (file, mut places) in together {
        let Some(from) = context.included.get(&file) else {
            continue;
        };
        places.dedup();
        let lines = context.all_at(&places);
        let text = format!("`include`, of {lines}: {NO_PLACE}");
        context.ledger.left_together(*from, text);
    }
}

fn included(context: &Context<'_>, directive: &Directive, missing: Option<&str>) {
    let what = directive.arg(0).unwrap_or_default();
    match missing {
        None => context.ledger.done(directive),
        Some(_) if what.ends_with("mime.types") => {
            let why = "it is not here; of its types only those of fixed answers matter, which have `default_type`";
            context.ledger.left(directive, why);
        }
        Some(_) if what.contains("/modules-enabled/") => {
            context
                .ledger
                .needless(directive, "it is not here, and weir has no modules");
        }
        Some(why) => context
            .ledger
            .left(directive, format!("{why}; what it says is not translated")),
    }
}

fn unspoken(context: &Context<'_>, directive: &Directive) {
    if is_of_websocket(directive) {
        let why = "weir passes upgrades such as WebSocket on by itself";
        return context.ledger.needless(directive, why);
    }
    if directive.name == "charset" && directive.says("off") {
        return context.ledger.needless(directive, "weir adds none either");
    }
    if directive.name == "access_log" {
        let why = "weir has one access log for all routes; `log.access_filter = \"errors\"` keeps it short";
        return context.ledger.left(directive, why);
    }
    match known::verdict(&directive.name) {
        Some(Verdict::Left(why)) if known::is_of_access(&directive.name) => {
            context.ledger.access(directive, why)
        }
        Some(Verdict::Needless(why)) => context.ledger.needless(directive, why),
        Some(Verdict::Left(why)) => context.ledger.left(directive, why),
        None if directive.name == "upstream" => {
            context.ledger.left(directive, "no route leads to it")
        }
        None if directive.name == "location" => {
            context.ledger.left(
                directive,
                "no request comes here but those that nginx sends on by itself",
            );
        }
        None if known::is_translated(&directive.name) => context.ledger.left(directive, NO_PLACE),
        None => context.ledger.left(
            directive,
            "weir does not know this directive; look up what it does, and whether it is needed",
        ),
    }
}

/// Whether all there is to say of it is that nothing at its place is translated.
fn has_no_place(directive: &Directive) -> bool {
    !["upstream", "location", "access_log"].contains(&directive.name.as_str())
        && known::verdict(&directive.name).is_none()
        && known::is_translated(&directive.name)
}

/// `map $http_upgrade $connection_upgrade { … }`, as the documentation of nginx has it.
fn is_of_websocket(directive: &Directive) -> bool {
    directive.name == "map" && directive.arg(0) == Some("$http_upgrade")
}

fn remarks(context: &Context<'_>) -> Vec<Remark> {
    let all = alike(context, context.ledger.take_remarks());
    // A file that several places include says the same for each of them.
    let mut from: HashMap<_, Vec<Place>> = HashMap::new();
    let shared = |remark: &ledger::Remark| {
        let place = remark.place?;
        let key = (context.at(place), remark.kind, remark.text.clone());
        (context.times_included(place) > 1).then_some((key, place))
    };
    for (key, place) in all.iter().filter_map(shared) {
        from.entry(key).or_default().push(place);
    }
    let mut lines = Vec::new();
    for remark in all {
        let included = shared(&remark).map(|(key, place)| (from.remove(&key), place));
        let suffix = match included {
            Some((None, _)) => continue,
            Some((Some(places), place)) => which(context, &places, context.times_included(place)),
            None => String::new(),
        };
        let place = match remark.place {
            Some(place) => context.at(place),
            None => context.files.first().cloned().unwrap_or_default(),
        };
        let kind = match remark.kind {
            Kind::Access => "access: ",
            Kind::Left => "",
            Kind::Differs => "note: ",
            Kind::Needless => "needless: ",
        };
        lines.push(Remark {
            is_needless: remark.kind == Kind::Needless,
            line: format!("{place}: {kind}{}{suffix}", remark.text),
        });
    }
    lines
}

/// One remark for all of a group, with their lines.
fn alike(context: &Context<'_>, all: Vec<ledger::Remark>) -> Vec<ledger::Remark> {
    let mut groups: HashMap<_, Vec<Place>> = HashMap::new();
    for remark in &all {
        if let Some((group, place)) = remark.group.zip(remark.place) {
            groups.entry(group).or_default().push(place);
        }
    }
    let mut out = Vec::new();
    for mut remark in all {
        if let Some(group) = remark.group {
            let Some(places) = groups.remove(group) else {
                continue;
            };
            let others = places.get(1..).unwrap_or_default();
            if !others.is_empty() {
                let others = context.all_at(others);
                remark.text.push_str(&format!(". Likewise: {others}"));
            }
        }
        out.push(remark);
    }
    out
}

/// Of which includes of its file something is told, where it is not told of all.
fn which(context: &Context<'_>, places: &[Place], times: usize) -> String {
    let mut files: Vec<_> = places.iter().map(|place| place.file).collect();
    files.sort_unstable();
    files.dedup();
    if files.len() == times {
        return String::new();
    }
    let from = files.iter().filter_map(|file| context.included.get(file));
    let mut from: Vec<_> = from.copied().collect();
    let more = match from.len().saturating_sub(MOST_PLACES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    from.truncate(MOST_PLACES);
    format!(" (as included at {}{more})", context.all_at(&from))
}

/// Enough to find the others by.
const MOST_PLACES: usize = 20;
const NO_PLACE: &str = "there is nothing in the output that it would apply to here: each place has its own, or no counterpart";

const GENERAL: [&str; 5] = [
    "routes: an exact path, then the longest prefix by whole segments; the order in the file means nothing, slashes are not merged, \
     and `%2F` is no slash, also where servers get another prefix",
    "servers also get `X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP`, `Forwarded`, `Via` and `X-Request-Id`, `X-Forwarded-Prefix` \
     beside `strip_prefix`, and what clients send with underscores in its name, which nginx drops",
    "responses keep the `Server` and `Date` of their server and get `Via` and `X-Request-Id`; `X-Accel-*` fields have no effect",
    "bodies are passed on piece by piece both ways; nginx reads the whole request first and buffers the response unless told otherwise",
    "where nothing is said, weir waits 3s for a connection to a server (nginx: 60s), keeps idle connections to servers, retries a GET on \
     another server after a 502 or 503, and lets an idle WebSocket be for 1h (nginx: 60s)",
];
