//! The places of a server -> `[route.NAME]`.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::behind::{Behind, Hidden};
use super::caching::cache;
use super::compression::compress;
use super::conditions::{Condition, condition};
use super::context::{Context, Made};
use super::fields::{self, Answer};
use super::forward;
use super::listeners::Listener;
use super::locations::{Named, Spot, spots};
use super::outcomes::{Outcome, of_condition};
use super::redirects::{Action, Rewrite, answer, rewrite};
use super::scope::Scope;
use super::servers::{Owners, Server, Variant, Wildcards};
use super::syntax::{self, Directive};
use super::text::Known;
use super::toml::{Table, Toml};
use super::values::{self, bytes, size};

/// All routes of a server.
pub(super) fn routes<'d>(
    context: &Context<'d>,
    server: &Server<'d>,
    variants: &[Variant],
    listeners: &[Listener],
    owners: &Owners<'_>,
) -> Vec<Made> {
    let (spots, named) = spots(context, server);
    // Where a host has routes of its own matters to an `if` that asks for it.
    let mut by_host: HashMap<&str, Vec<&Variant>> = HashMap::new();
    if !server.scope.own("if").is_empty() {
        for variant in variants {
            for host in variant.hosts.iter() {
                by_host.entry(host).or_default().push(variant);
            }
        }
    }
    let (mut made, mut is_reached) = (Vec::new(), false);
    for variant in variants {
        if context.budget().is_spent() {
            break;
        }
        if variant.tls && server.scope.is_on("ssl_reject_handshake").is_some() {
            continue;
        }
        let mut writer = Writer {
            context,
            server,
            listeners,
            named: &named,
            variant,
            owners,
            by_host: &by_host,
            hosts: variant.hosts.clone(),
            is_over: false,
            asked_for: HashSet::new(),
            redirected: HashSet::new(),
            made: Vec::new(),
        };
        writer.server(&spots);
        is_reached |= !writer.is_over;
        made.append(&mut writer.made);
    }
    if !is_reached && !made.is_empty() {
        let acts = server.scope.acts().iter().copied();
        let rest = acts.filter(|directive| context.ledger.silent(directive));
        let locations = spots.iter().map(|spot| spot.directive);
        for directive in rest.chain(locations.filter(|at| at.name == "location")) {
            let why = "no request comes here: what stands before it answers all of them";
            context.ledger.needless(directive, why);
        }
    }
    made
}

/// Writes the routes of a server for one of its variants.
pub(super) struct Writer<'w, 'd> {
    pub(super) context: &'w Context<'d>,
    server: &'w Server<'d>,
    listeners: &'w [Listener],
    pub(super) named: &'w Named<'d>,
    variant: &'w Variant,
    owners: &'w Owners<'w>,
    by_host: &'w HashMap<&'w str, Vec<&'w Variant>>,
    /// Those of the variant that no `if` has taken out.
    hosts: Rc<[String]>,
    /// Nothing is left of it for what comes next.
    is_over: bool,
    /// Hosts that have a route by an `if`.
    asked_for: HashSet<String>,
    /// Paths that have a route before any location.
    redirected: HashSet<String>,
    made: Vec<Made>,
}

impl<'d> Writer<'_, 'd> {
    fn server(&mut self, spots: &[Spot<'d>]) {
        let whole = self.before_locations();
        if self.is_over {
            return;
        }
        if let Some((directive, action)) = whole {
            for spot in spots
                .iter()
                .filter(|spot| spot.directive.name == "location")
            {
                let why = "no request comes here: the server answers all of them before";
                self.context.ledger.needless(spot.directive, why);
            }
            let (prefixes, paths) = (vec!["/".to_owned()], Vec::new());
            let place = Place {
                slug: "",
                hosts: self.hosts.clone(),
                prefixes: &prefixes,
                paths: &paths,
                at: directive,
            };
            let scope = self.server.scope.clone();
            return self.act(&place, action, &scope);
        }
        for spot in spots {
            self.context.budget().look(1 + spot.paths.len());
            if self.context.budget().is_spent() {
                return;
            }
            let paths = spot.paths.iter();
            let paths: Vec<_> = paths
                .filter(|path| !self.redirected.contains(*path))
                .cloned()
                .collect();
            if spot.prefixes.is_empty() && paths.is_empty() {
                let why = "no request comes here: other locations, or a `rewrite` before it, have them all";
                self.context.ledger.needless(spot.directive, why);
                continue;
            }
            let slug = spot.slug();
            let place = Place {
                slug: &slug,
                hosts: self.hosts.clone(),
                prefixes: &spot.prefixes,
                paths: &paths,
                at: spot.directive,
            };
            let context = self.context;
            let draft = context.ledger.draft(format!(
                "the route of {} `{}` is closed",
                context.at(spot.directive.place),
                spot.directive.text()
            ));
            match self.outcome(spot) {
                Outcome::Forward(forward, scope) => {
                    self.forward(&place, *forward, &scope);
                    draft.keep();
                }
                Outcome::Act(action @ Action::Closed { .. }) => {
                    drop(draft);
                    self.act(&place, action, &spot.scope);
                }
                Outcome::Act(action) => {
                    self.act(&place, action, &spot.scope);
                    draft.keep();
                }
                Outcome::Guarded { why, behind } => {
                    let behind = behind.map(|(forward, scope)| self.behind(*forward, &scope));
                    match behind.is_some() {
                        true => draft.put_off(spot.directive),
                        false => drop(draft),
                    }
                    self.guarded(&place, why, behind, &spot.scope);
                }
            }
            if let Some(path) = spot
                .without_slash
                .as_ref()
                .filter(|path| !self.redirected.contains(*path))
            {
                self.slash(spot, path);
            }
        }
    }

    /// What a server says outside of its locations comes before all of them. The action for every request, if there is one.
    fn before_locations(&mut self) -> Option<(&'d Directive, Action)> {
        let scope = self.server.scope.clone();
        let known = self.known(&scope);
        let path = "/";
        let hosts = self.hosts.clone();
        let mut left = Left::of(&hosts);
        for directive in scope.acts().iter().copied() {
            self.context.budget().look(1);
            if self.is_over || self.context.budget().is_spent() {
                break;
            }
            match directive.name.as_str() {
                "return" => {
                    left.settle(&mut self.hosts);
                    return Some((
                        directive,
                        answer(self.context, directive, &scope, &known, path),
                    ));
                }
                "if" => match condition(directive, &known, self.context) {
                    Condition::Host(name, inner) => {
                        self.of_host(directive, &name, inner, &known, &mut left)
                    }
                    Condition::Always(inner) => {
                        left.settle(&mut self.hosts);
                        self.context.ledger.done(directive);
                        return Some((
                            directive,
                            answer(self.context, inner, &scope, &known, path),
                        ));
                    }
                    Condition::Never => self.settle_never(directive),
                    Condition::Unknown => of_condition(self.context, directive),
                },
                "rewrite" => match rewrite(self.context, directive, &known) {
                    Some(Rewrite::All(action)) => {
                        left.settle(&mut self.hosts);
                        return Some((directive, action));
                    }
                    Some(Rewrite::Paths(mut paths, action)) => {
                        paths.retain(|path| self.redirected.insert(path.clone()));
                        if paths.is_empty() {
                            self.context
                                .ledger
                                .needless(directive, "one before it answers these requests");
                            continue;
                        }
                        left.settle(&mut self.hosts);
                        let slug = values::slug(paths.first().map_or("", String::as_str));
                        let place = Place {
                            slug: &slug,
                            hosts: self.hosts.clone(),
                            prefixes: &[],
                            paths: &paths,
                            at: directive,
                        };
                        self.act(&place, action, &scope);
                    }
                    Some(Rewrite::Prefix { .. }) => {
                        let why = "weir rewrites in a route; say it in the location that it is for";
                        self.context.ledger.left(directive, why);
                    }
                    None => {}
                },
                _ => {}
            }
        }
        left.settle(&mut self.hosts);
        None
    }

    /// `if ($host = …) { return …; }`: a route for that host alone.
    fn of_host(
        &mut self,
        directive: &'d Directive,
        name: &str,
        inner: &'d Directive,
        known: &Known<'d>,
        left: &mut Left<'_>,
    ) {
        let any = self.variant.hosts.is_empty();
        let is_here = left.hosts.contains(name);
        let is_covered = any || left.wildcards.cover(name);
        let is_new = !self.is_elsewhere(name) && self.asked_for.insert(name.to_owned());
        if !(is_here || is_covered && is_new) {
            // Another variant has it, or no request can.
            if self.context.ledger.silent(directive) && !self.server.has(name) {
                let why = "the server gets no such requests, or has answered them before";
                self.context.ledger.needless(directive, why);
            }
            return;
        }
        self.context.ledger.done(directive);
        let known = known.clone().with("host", name);
        let scope = &self.server.scope;
        let action = answer(self.context, inner, scope, &known, "/");
        let prefixes = vec!["/".to_owned()];
        let place = Place {
            slug: "",
            hosts: Rc::new([name.to_owned()]),
            prefixes: &prefixes,
            paths: &[],
            at: directive,
        };
        self.act(&place, action, scope);
        left.hosts.remove(name);
        self.is_over = !any && left.hosts.is_empty();
    }

    /// Whether a host has routes of its own on one of the listeners of the variant.
    fn is_elsewhere(&self, name: &str) -> bool {
        let here = &self.variant.listeners;
        let shares = |other: &&Variant| {
            let mut here = here.iter();
            *other != self.variant && here.any(|place| other.listeners.binary_search(place).is_ok())
        };
        let others = self.by_host.get(name).map_or(&[][..], Vec::as_slice);
        self.context.budget().look(here.len() * (1 + others.len()));
        let of_others = || here.iter().any(|place| self.owners.has(*place, name));
        others.iter().any(shares) || !self.server.has(name) && of_others()
    }

    pub(super) fn settle_never(&self, directive: &Directive) {
        // On another of its listeners it may hold.
        let elsewhere = self.server.listens.len() > self.variant.listeners.len();
        if !elsewhere {
            self.context
                .ledger
                .needless(directive, "it never holds here");
        }
    }

    /// What is known of variables at a place.
    pub(super) fn known(&self, scope: &Scope<'d>) -> Known<'d> {
        let (scheme, https) = if self.variant.tls {
            ("https", "on")
        } else {
            ("http", "")
        };
        let mut known = Known::at(scope).with("scheme", scheme).with("https", https);
        if let Some(port) = self.variant.port {
            known = known.with("server_port", port.to_string());
        }
        if let Some(name) = &self.server.name {
            known = known.with("server_name", name);
        }
        known
    }

    fn forward(&mut self, place: &Place<'_, 'd>, forward: forward::Forward, scope: &Scope<'d>) {
        let context = self.context;
        context.forwards.set(true);
        let user = format!("for {}", context.origin(place.at));
        let comments = [&*forward.origin, &*user].map(syntax::plain);
        let base = forward.base.clone();
        let (rest, upstream) = self.treated(forward, scope);
        let mut table = self.matching(place);
        table.set(
            "upstream",
            context.upstream_name(&base, upstream, comments.into()),
        );
        table.keys.extend(rest.keys);
        table.tables.extend(rest.tables);
        self.push(place, table, Vec::new());
    }

    /// What would be in place of a closed route.
    fn behind(&self, forward: forward::Forward, scope: &Scope<'d>) -> Behind {
        let base = forward.base.clone();
        let (table, upstream) = self.treated(forward, scope);
        let upstream = Hidden::of(self.context, upstream, base);
        self.context.budget().write(table.size());
        Behind { table, upstream }
    }

    /// Closed, since clients would come in whom nginx keeps out; with what would be there otherwise.
    fn guarded(
        &mut self,
        place: &Place<'_, 'd>,
        why: String,
        behind: Option<Behind>,
        scope: &Scope<'d>,
    ) {
        let action = Action::Closed { status: 403, why };
        self.act(place, action, scope);
        if let Some((made, behind)) = self.made.last().zip(behind) {
            let mut known = self.context.behind.borrow_mut();
            known.insert(made.name.clone(), behind);
        }
    }

    /// What is done with requests that go to servers, in the route and in the upstream.
    fn treated(&self, forward: forward::Forward, scope: &Scope<'d>) -> (Table, Table) {
        let context = self.context;
        let known = self.known(scope);
        let mut table = Table::default();
        let (request, host) = fields::request(context, scope, &known, &forward.to);
        let mut upstream = forward.upstream;
        if let Some((name, why)) = host {
            upstream.set_for("host_header", host_header(name), syntax::plain(&why));
        }
        if let Some(prefix) = forward.strip {
            table.set("strip_prefix", prefix);
        }
        if let Some(prefix) = forward.add {
            table.set("add_prefix", prefix);
        }
        max_body(context, scope, &mut table);
        table
            .tables
            .extend(request.map(|request| ("request_headers".to_owned(), request)));
        let response = fields::response(context, scope, &known, Answer::OfServers);
        table
            .tables
            .extend(response.map(|response| ("response_headers".to_owned(), response)));
        match cache(context, scope) {
            Some(cache) if cache.is_just_on() => table.set("cache", true),
            Some(cache) => table.tables.push(("cache".into(), cache)),
            None => {}
        }
        table
            .tables
            .extend(compress(context, scope).map(|compress| ("compress".to_owned(), compress)));
        streaming(context, scope);
        (table, upstream)
    }

    fn act(&mut self, place: &Place<'_, 'd>, action: Action, scope: &Scope<'d>) {
        let known = self.known(scope);
        let mut table = self.matching(place);
        let mut comments = Vec::new();
        let answer = match &action {
            Action::Closed { status, .. } => Answer::InPlace(*status),
            other => Answer::Fixed(other.status()),
        };
        match action {
            Action::Redirect { to, status } => table.set("redirect", redirect(to, status)),
            Action::SameHost { port, path, status } => {
                return self.same_host(place, &port, &path, status);
            }
            Action::Respond {
                status,
                body,
                content_type,
            } => {
                let mut keys = vec![("status".to_owned(), Toml::from(status))];
                if !body.is_empty() {
                    keys.push(("body".into(), body.into()));
                    keys.push(("content_type".into(), content_type.into()));
                }
                table.set("respond", keys);
            }
            Action::Closed { status, why } => {
                comments.push(why);
                table.set("respond", vec![("status".to_owned(), Toml::from(status))]);
            }
        }
        self.responded(&mut table, scope, &known, answer);
        self.push(place, table, comments);
    }

    /// What is added to an answer of weir's own.
    fn responded(&self, table: &mut Table, scope: &Scope<'d>, known: &Known<'d>, answer: Answer) {
        let Some(mut response) = fields::response(self.context, scope, known, answer) else {
            return;
        };
        if table.has("respond") {
            typed(table, &mut response);
        }
        if !response.keys.is_empty() || !response.tables.is_empty() {
            table.tables.push(("response_headers".to_owned(), response));
        }
    }

    /// A redirect to https for each host; weir has no word for the host in a route.
    fn same_host(&mut self, place: &Place<'_, 'd>, port: &str, path: &str, status: u64) {
        let here = self
            .variant
            .listeners
            .iter()
            .filter_map(|number| self.listeners.get(*number));
        if here.clone().count() > 0 && here.clone().all(|listener| listener.to_https.is_some()) {
            let why = "it is `redirect_to_https` of the listener: for all hosts, with status 308, and not for \
                       `/.well-known/acme-challenge/`";
            self.context.ledger.differs(place.at, why);
            return;
        }
        let (exact, open): (Vec<_>, Vec<_>) =
            (place.hosts.iter().cloned()).partition(|host| !host.starts_with("*."));
        let is_for_all = place.hosts.is_empty() || !open.is_empty();
        for host in exact {
            let to = format!("https://{host}{port}{path}");
            let place = place.with(Rc::new([host]));
            let mut table = self.matching(&place);
            table.set("redirect", redirect(to, status));
            self.push(&place, table, Vec::new());
        }
        if is_for_all {
            let why = "a redirect of weir names its host, so there is one for each host that is known beforehand and 404 for \
                       others; for all of them say `redirect_to_https = { port = 443 }` in a listener that does nothing else";
            self.context.budget().look(self.server.hosts.len());
            match self.server.hosts.iter().all(|host| host.starts_with("*.")) {
                true => self.context.ledger.left(place.at, why),
                false => self.context.ledger.differs(place.at, why),
            }
            let place = place.with(open.into());
            let mut table = self.matching(&place);
            table.set("respond", vec![("status".to_owned(), Toml::from(404))]);
            let comment = "for other hosts: a redirect of weir names its host";
            self.push(&place, table, vec![comment.into()]);
        }
    }

    /// nginx sends clients from `/api` to `/api/` where that leads to servers.
    fn slash(&mut self, spot: &Spot<'d>, path: &str) {
        let slug = format!("{}-slash", spot.slug());
        let paths = vec![path.to_owned()];
        let place = Place {
            slug: &slug,
            hosts: self.hosts.clone(),
            prefixes: &[],
            paths: &paths,
            at: spot.directive,
        };
        let mut table = self.matching(&place);
        table.set("redirect", redirect(format!("{path}/"), 301));
        let known = self.known(&spot.scope);
        self.responded(&mut table, &spot.scope, &known, Answer::Fixed(301));
        let comment = "nginx sends clients on to the path with a slash at its end";
        self.push(&place, table, vec![comment.into()]);
    }

    /// The keys that say which requests the route is for.
    fn matching(&self, place: &Place<'_, '_>) -> Table {
        let mut table = Table::default();
        if self.variant.listeners.len() < self.listeners.len() {
            let names = self
                .variant
                .listeners
                .iter()
                .filter_map(|number| self.listeners.get(*number));
            table.set(
                "listen",
                names
                    .map(|listener| listener.name.clone())
                    .collect::<Vec<_>>(),
            );
        }
        if !place.hosts.is_empty() {
            table.set("host", Toml::one_or_list(place.hosts.to_vec()));
        }
        let unique = |paths: &[String]| {
            let mut seen = HashSet::new();
            let paths = paths.iter().filter(|path| seen.insert(*path)).cloned();
            paths.collect::<Vec<_>>()
        };
        if !place.prefixes.is_empty() {
            table.set("path", Toml::one_or_list(unique(place.prefixes)));
        }
        if !place.paths.is_empty() {
            table.set("path_exact", Toml::one_or_list(unique(place.paths)));
        }
        table
    }

    fn push(&mut self, place: &Place<'_, '_>, table: Table, mut comments: Vec<String>) {
        let of_host = place.hosts.first().map(|host| values::slug(host));
        let base = of_host
            .filter(|slug| !slug.is_empty())
            .unwrap_or_else(|| self.server.slug());
        let base = match place.slug {
            "" => base,
            slug => format!("{base}-{slug}"),
        };
        let origin = match place.at.name.as_str() {
            "server" => format!(
                "{}: the server, where no location is",
                self.context.at(place.at.place)
            ),
            _ => self.context.origin(place.at),
        };
        comments.insert(0, origin);
        let of_comments = comments.iter().map(|comment| comment.len() + 3);
        let bytes = of_comments.sum::<usize>() + base.len() + table.size();
        self.context.budget().write(bytes);
        self.made.push(Made {
            name: self.context.route_name(&base),
            comments: comments
                .iter()
                .map(|comment| syntax::plain(comment))
                .collect(),
            table,
        });
    }
}

/// The port of https, if a server sends every request there, with its host and path as they are; except for those of a
/// certificate authority.
pub(super) fn redirects_to_https(server: &Server<'_>) -> Option<u16> {
    let mut block = server.directive.inner();
    let locations: Vec<_> = block
        .iter()
        .filter(|directive| directive.name == "location")
        .collect();
    if server.scope.own("return").is_empty() {
        let is_acme = |location: &Directive| {
            let path = location.args.last().map_or("", String::as_str);
            path.starts_with("/.well-known/acme-challenge")
        };
        let others: Vec<_> = locations
            .iter()
            .filter(|location| !is_acme(location))
            .collect();
        let [only] = &*others else { return None };
        if !matches!(&*only.args, [path] if path == "/") {
            return None;
        }
        block = only.inner();
    }
    if block
        .iter()
        .any(|directive| ["if", "rewrite", "set"].contains(&directive.name.as_str()))
    {
        return None;
    }
    let mut returns = block.iter().filter(|directive| directive.name == "return");
    let to = returns.next()?.arg(1)?;
    let rest = to.strip_prefix("https://")?;
    let rest = rest
        .strip_prefix("$host")
        .or_else(|| rest.strip_prefix("$http_host"))?;
    match rest.strip_suffix("$request_uri")? {
        "" => Some(443),
        port => port
            .strip_prefix(':')?
            .parse()
            .ok()
            .filter(|port| *port > 0),
    }
}

/// Which paths a route is for, and where that is said.
struct Place<'p, 'd> {
    slug: &'p str,
    /// None: any.
    hosts: Rc<[String]>,
    prefixes: &'p [String],
    paths: &'p [String],
    at: &'d Directive,
}

impl Place<'_, '_> {
    /// The same for other hosts.
    fn with(&self, hosts: Rc<[String]>) -> Self {
        Self { hosts, ..*self }
    }
}

/// The hosts of a variant that no `if` has taken out yet.
struct Left<'h> {
    hosts: HashSet<&'h str>,
    wildcards: Wildcards<'h>,
}

impl<'h> Left<'h> {
    fn of(hosts: &'h [String]) -> Self {
        Self {
            hosts: hosts.iter().map(String::as_str).collect(),
            wildcards: Wildcards::of(hosts),
        }
    }

    /// Leaves out of a list what was taken out.
    fn settle(&self, hosts: &mut Rc<[String]>) {
        if self.hosts.len() < hosts.len() {
            let left = hosts
                .iter()
                .filter(|host| self.hosts.contains(host.as_str()));
            *hosts = left.cloned().collect();
        }
    }
}

fn redirect(to: String, status: u64) -> Vec<(String, Toml)> {
    vec![
        ("to".to_owned(), Toml::from(to)),
        ("status".to_owned(), status.into()),
    ]
}

/// An `add_header Content-Type` beside a fixed answer is meant to be its type.
fn typed(table: &mut Table, response: &mut Table) {
    for (_, fields) in &mut response.tables {
        let Some(at) = fields
            .keys
            .iter()
            .position(|key| key.name() == "content-type")
        else {
            continue;
        };
        let key = fields.keys.remove(at);
        table.change("respond", |value| {
            if let Toml::Inline(keys) = value {
                keys.retain(|(name, _)| name != "content_type");
                keys.push(("content_type".into(), key.value().clone()));
            }
        });
    }
    response
        .tables
        .retain(|(_, fields)| !fields.keys.is_empty());
}

/// Two hosts are words of weir's; in capitals they are hosts, and the same ones.
fn host_header(name: String) -> String {
    match name.as_str() {
        "server" | "preserve" => name.to_ascii_uppercase(),
        _ => name,
    }
}

/// nginx's default is a hundredth of weir's.
fn max_body(context: &Context<'_>, scope: &Scope<'_>, table: &mut Table) {
    let Some(directive) = scope.find("client_max_body_size") else {
        return table.set_for("max_body", "1MiB", "nginx's default");
    };
    match directive
        .arg(0)
        .and_then(size)
        .filter(|size| i64::try_from(*size).is_ok())
    {
        Some(0) => table.set("max_body", "off"),
        Some(size) => table.set("max_body", bytes(size)),
        None => return context.ledger.left(directive, "this is no size"),
    }
    context.ledger.done(directive);
}

/// What weir does in one way only.
fn streaming(context: &Context<'_>, scope: &Scope<'_>) {
    if let Some(directive) = scope
        .find("proxy_redirect")
        .filter(|found| found.says("off"))
    {
        let why = "weir passes `Location` of servers on as it is";
        context.ledger.needless(directive, why);
    }
    if let Some(directive) = scope.find("proxy_buffering") {
        match directive.says("off") {
            true => context.ledger.needless(
                directive,
                "weir passes bodies on piece by piece, as they come",
            ),
            false => context.ledger.left(directive, BUFFERING),
        }
    }
    if let Some(directive) = scope.find("proxy_request_buffering") {
        match directive.says("off") {
            true => context.ledger.needless(
                directive,
                "weir passes bodies on piece by piece, as they come",
            ),
            false => context.ledger.left(
                directive,
                "weir reads at most `buffer_request` of a body before it chooses a server",
            ),
        }
    }
}

const BUFFERING: &str = "weir passes responses on at the pace of the client and holds no more than some buffers; a slow client \
                         keeps its server's connection";
