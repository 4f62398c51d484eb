//! `proxy_set_header`, `proxy_hide_header`, `add_header`, `expires` -> `request_headers`, `response_headers`, `host_header`.

use std::collections::HashMap;

use super::context::Context;
use super::scope::Scope;
use super::syntax::Directive;
use super::text::Known;
use super::toml::Table;
use super::upstreams::Destination;
use super::values::{field_name, is_field_value, time};
use crate::semantics::hop_by_hop::is_hop_by_hop;
use crate::semantics::host;

/// The fields that servers get: those of the route, and the `Host` for the upstream where it is not the client's.
pub(super) fn request(
    context: &Context<'_>,
    scope: &Scope<'_>,
    known: &Known<'_>,
    to: &Destination,
) -> (Option<Table>, Option<(String, String)>) {
    let mut edits = Edits::default();
    let mut host = Some((
        to.host.clone(),
        "nginx's default; without it servers see the client's".to_owned(),
    ));
    let all = scope.all("proxy_set_header");
    let mut last = HashMap::new();
    for (number, directive) in all.iter().enumerate() {
        let name = directive.arg(0).map(str::to_ascii_lowercase);
        last.insert(name, number);
    }
    for (number, directive) in all.iter().enumerate() {
        let name = directive.arg(0).map(str::to_ascii_lowercase);
        if last.get(&name).is_some_and(|last| *last != number) {
            let why = "weir sets a field once; the last of them counts";
            context.ledger.left(directive, why);
            continue;
        }
        let [name, value] = &*directive.args else {
            context
                .ledger
                .left(directive, "it takes a name and a value");
            continue;
        };
        let Some(name) = field_name(name) else {
            context.ledger.left(directive, NO_NAME);
            continue;
        };
        if name == "host" {
            host = host_header(context, directive, value, known, to);
        } else if let Some(why) = by_itself(&name, value, known, context) {
            context.ledger.needless(directive, why);
        } else if WEIRS_OWN.contains(&name.as_str()) {
            let why = "weir says this by itself, by what it knows of the client; where a proxy stands before it, name that \
                       in `trusted_proxies` of the listener";
            context.ledger.left(directive, why);
        } else if is_hop_by_hop(&name) || ["content-length", "trailer"].contains(&name.as_str()) {
            context.ledger.left(
                directive,
                "the field belongs to the connection, which is weir's own",
            );
        } else if value.is_empty() {
            edits.remove.push(name);
            context.ledger.done(directive);
        } else {
            match known.text(value, &context.ledger) {
                Ok(value) if is_field_value(&value) && !value.contains("${") => {
                    edits.set(name, value);
                    context.ledger.done(directive);
                }
                Ok(_) => context.ledger.left(directive, NO_VALUE),
                Err(variable) => context
                    .ledger
                    .left(directive, variable_of_request(&variable)),
            }
        }
    }
    (
        edits.table(),
        host.filter(|(name, _)| host::parse(name).is_ok()),
    )
}

/// What becomes of `proxy_set_header Host`. `None`: servers see the client's.
fn host_header(
    context: &Context<'_>,
    directive: &Directive,
    value: &str,
    known: &Known<'_>,
    to: &Destination,
) -> Option<(String, String)> {
    if value == "$http_host" {
        let why = "weir passes the `Host` of the client on as it is";
        context.ledger.needless(directive, why);
        return None;
    }
    if [
        "$host",
        "$host:$server_port",
        "$http_host:$server_port",
        "$host:$proxy_port",
    ]
    .contains(&value)
    {
        let why = "weir passes the `Host` of the client on as it is, with its port if it has one; nginx's `$host` is in lower \
                   case and has no port";
        context.ledger.agrees_but(directive, "host", why);
        return None;
    }
    let comment = context.origin(directive);
    if value == "$proxy_host" && host::parse(&to.host).is_ok() {
        context.ledger.done(directive);
        return Some((to.host.clone(), comment));
    }
    match known.text(value, &context.ledger) {
        Ok(name) if host::parse(&name).is_ok() => {
            context.ledger.done(directive);
            Some((name, comment))
        }
        Ok(_) => {
            context
                .ledger
                .left(directive, "this is no host; servers see the client's");
            None
        }
        Err(variable) => {
            let why = format!(
                "{}; servers see the client's `Host`",
                variable_of_request(&variable)
            );
            context.ledger.left(directive, why);
            None
        }
    }
}

/// Why a field need not be set: weir does so by itself.
fn by_itself(
    name: &str,
    value: &str,
    known: &Known<'_>,
    context: &Context<'_>,
) -> Option<&'static str> {
    let is = |values: &[&str]| values.contains(&value);
    let own = "weir sets it by itself; what clients send in its place is replaced, unless they are `trusted_proxies`";
    match name {
        "x-real-ip" => is(&["$remote_addr", "$realip_remote_addr"]).then_some(own),
        "x-forwarded-for" => is(&["$proxy_add_x_forwarded_for", "$remote_addr"]).then_some(own),
        "x-forwarded-proto" => {
            let scheme = known.text("$scheme", &context.ledger).unwrap_or_default();
            (value == "$scheme" || value == scheme).then_some(own)
        }
        "x-forwarded-host" => is(&["$host", "$http_host", "$host:$server_port"]).then_some(own),
        "forwarded" => value.contains('$').then_some(own),
        "x-request-id" => is(&["$request_id"]).then_some(own),
        "x-forwarded-prefix" => None,
        "upgrade" => is(&["$http_upgrade", "websocket", ""])
            .then_some("weir passes upgrades such as WebSocket on by itself"),
        "connection" => Some(
            "weir keeps connections to servers, and passes upgrades such as WebSocket on by itself",
        ),
        _ => {
            // A field that is set to what the client sent.
            let own = format!("$http_{}", name.replace('-', "_"));
            (value == own || value == format!("${{{}}}", &own[1..]))
                .then_some("weir passes what clients send on as it is")
        }
    }
}

/// What is known of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    OfServers,
    /// With that status, as nginx's.
    Fixed(u64),
    /// With that status, where nginx would answer something else.
    InPlace(u64),
}

impl Answer {
    /// Whether nginx adds nothing to it but what it adds to any.
    fn is_bare(self) -> bool {
        match self {
            Self::OfServers => false,
            Self::Fixed(status) | Self::InPlace(status) => !ADDED_TO.contains(&status),
        }
    }
}

/// The edits of responses.
pub(super) fn response(
    context: &Context<'_>,
    scope: &Scope<'_>,
    known: &Known<'_>,
    answer: Answer,
) -> Option<Table> {
    let mut edits = Edits::default();
    // Of what servers say, and these have said nothing where the status is known.
    let hidden = scope.all("proxy_hide_header").iter();
    for directive in hidden.filter(|_| answer == Answer::OfServers) {
        match directive.arg(0).and_then(field_name) {
            Some(name) if is_weirs(&name) => context.ledger.left(directive, NOT_TO_EDIT),
            Some(name) => {
                edits.remove.push(name);
                context.ledger.done(directive);
            }
            None => context.ledger.left(directive, NO_NAME),
        }
    }
    let is_bare = answer.is_bare();
    let not_added = |directive: &Directive| match answer {
        Answer::InPlace(_) => context.ledger.drops(directive, CLOSED),
        _ => context.ledger.idle(directive, NOT_ADDED),
    };
    match scope.find("expires").filter(|_| is_bare) {
        Some(directive) => not_added(directive),
        None => expires(context, scope, &mut edits),
    }
    for directive in scope.all("add_header") {
        if is_bare && directive.arg(2) != Some("always") {
            not_added(directive);
            continue;
        }
        add(context, directive, known, answer, &mut edits);
    }
    edits.table()
}

fn add(
    context: &Context<'_>,
    directive: &Directive,
    known: &Known<'_>,
    answer: Answer,
    edits: &mut Edits,
) {
    let (name, value, always) = match &*directive.args {
        [name, value] => (name, value, false),
        [name, value, always] if always == "always" => (name, value, true),
        _ => {
            return context
                .ledger
                .left(directive, "it takes a name and a value");
        }
    };
    let Some(name) = field_name(name) else {
        return context.ledger.left(directive, NO_NAME);
    };
    if value.is_empty() {
        return context
            .ledger
            .needless(directive, "without a value nothing is added");
    }
    if name == "alt-svc" {
        let why = "it would send clients to HTTP/3, which weir does not speak yet";
        return context.ledger.left(directive, why);
    }
    if value == "$upstream_cache_status" {
        let why = "weir tells what became of it in the cache in the field `Cache-Status`";
        return context.ledger.left(directive, why);
    }
    if is_weirs(&name) {
        return context.ledger.left(directive, NOT_TO_EDIT);
    }
    match known.text(value, &context.ledger) {
        Ok(value) if is_field_value(&value) && !value.contains("${") => {
            if !edits.add(name, value) {
                let why = "weir adds a field once in a route; let the application set the second";
                return context.ledger.left(directive, why);
            }
            match always || answer != Answer::OfServers {
                true => context.ledger.done(directive),
                false => context.ledger.differs(directive, ANY_STATUS),
            }
        }
        Ok(_) => context.ledger.left(directive, NO_VALUE),
        Err(variable) => context
            .ledger
            .left(directive, variable_of_request(&variable)),
    }
}

/// `expires` takes the place of what the server says of freshness.
fn expires(context: &Context<'_>, scope: &Scope<'_>, edits: &mut Edits) {
    let Some(directive) = scope.find("expires") else {
        return;
    };
    let value = match &*directive.args {
        [word] if word == "off" => return context.ledger.agrees(directive),
        [word] if word == "epoch" => Some("no-cache".to_owned()),
        [word] if word == "max" => Some("max-age=315360000".to_owned()),
        [time] if time.starts_with('-') => Some("no-cache".to_owned()),
        [lasting] => time(lasting).map(|time| format!("max-age={}", time.as_secs())),
        _ => None,
    };
    let Some(value) = value else {
        return context.ledger.left(
            directive,
            "weir has no such value; set `cache-control` in `response_headers`",
        );
    };
    edits.set("cache-control".into(), value);
    edits.remove.push("expires".into());
    let why = "it is `Cache-Control` alone, without `Expires`, and for responses of any status";
    context.ledger.differs(directive, why);
}

/// What is changed of the fields of a message.
#[derive(Default)]
struct Edits {
    set: Fields,
    add: Fields,
    remove: Vec<String>,
}

impl Edits {
    /// The last one counts, as it does for servers that nginx sends both to.
    fn set(&mut self, name: String, value: String) {
        match self.set.value(&name) {
            Some(before) => *before = value,
            None => self.set.push(name, value),
        }
    }

    /// Whether there is a place for it. Lists of one field are one list (RFC 9110 §5.3), cookies are not.
    fn add(&mut self, name: String, value: String) -> bool {
        match self.add.value(&name) {
            None => self.add.push(name, value),
            Some(_) if name == "set-cookie" => return false,
            Some(before) => {
                before.push_str(", ");
                before.push_str(&value);
            }
        }
        true
    }

    fn table(mut self) -> Option<Table> {
        let mut table = Table::default();
        self.remove.sort();
        self.remove.dedup();
        if !self.remove.is_empty() {
            table.set("remove", self.remove);
        }
        for (name, fields) in [("set", self.set), ("add", self.add)] {
            if fields.all.is_empty() {
                continue;
            }
            let mut inner = Table::default();
            for (name, value) in fields.all {
                inner.set(&name, value);
            }
            table.tables.push((name.to_owned(), inner));
        }
        (!table.keys.is_empty() || !table.tables.is_empty()).then_some(table)
    }
}

/// Fields in their order, each once.
#[derive(Default)]
struct Fields {
    all: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Fields {
    fn value(&mut self, name: &str) -> Option<&mut String> {
        let place = *self.places.get(name)?;
        self.all.get_mut(place).map(|(_, value)| value)
    }

    fn push(&mut self, name: String, value: String) {
        self.places.insert(name.clone(), self.all.len());
        self.all.push((name, value));
    }
}

/// What `check` refuses to have edited.
fn is_weirs(name: &str) -> bool {
    is_hop_by_hop(name) || ["host", "content-length", "trailer"].contains(&name)
}

/// What cannot be said of a variable.
pub(super) fn variable_of_request(name: &str) -> String {
    let name = super::syntax::short(name);
    format!(
        "weir's config has no variables, and `${name}` is another for each request; let the application do it"
    )
}

/// The `Content-Type` of what nginx answers by itself at a place, for a path with that extension.
pub(super) fn content_type(context: &Context<'_>, scope: &Scope<'_>, path: &str) -> String {
    let kind = media_type(context, scope, path);
    let charset = scope.find("charset").filter(|found| !found.says("off"));
    let Some((directive, name)) = charset.and_then(|found| Some((found, found.arg(0)?))) else {
        return kind;
    };
    let with = format!("{kind}; charset={name}");
    if !WITH_CHARSET.contains(&kind.as_str()) || name.contains('$') || !is_field_value(&with) {
        return kind;
    }
    let why = "it is said for fixed answers; weir passes the `Content-Type` of servers on as it is";
    context.ledger.differs(directive, why);
    with
}

fn media_type(context: &Context<'_>, scope: &Scope<'_>, path: &str) -> String {
    if let Some(of_path) = by_extension(scope, path) {
        return of_path;
    }
    let default = scope.find("default_type");
    let value = default.and_then(|directive| directive.arg(0));
    match value.filter(|value| is_field_value(value) && !value.is_empty() && !value.contains('$')) {
        Some(value) => {
            default.inspect(|directive| context.ledger.done(directive));
            value.to_owned()
        }
        None => "text/plain".to_owned(),
    }
}

fn by_extension(scope: &Scope<'_>, path: &str) -> Option<String> {
    let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    let Some(kind) = scope.media_type(&extension) else {
        let usual = [
            ("html", "text/html"),
            ("gif", "image/gif"),
            ("jpg", "image/jpeg"),
        ];
        let found = usual.iter().find(|(known, _)| *known == extension);
        return found.map(|(_, kind)| (*kind).to_owned());
    };
    let good = |kind: &&str| is_field_value(kind) && !kind.contains('$');
    kind.filter(good).map(str::to_owned)
}

/// nginx's default of `charset_types`.
const WITH_CHARSET: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];
const NO_NAME: &str = "this is not the name of a field";
const NO_VALUE: &str = "weir takes no such value of a field: ASCII without control characters";
const NOT_TO_EDIT: &str =
    "the field belongs to the connection or the framing, which are weir's own";
/// The statuses to which nginx adds fields without `always`.
const ADDED_TO: [u64; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];
const NOT_ADDED: &str =
    "nginx adds it to no answer with the status that the route has, unless it says `always`";
const CLOSED: &str = "the responses that it is for are not given here: their route is closed, which has only what says `always`";
const ANY_STATUS: &str = "weir adds it to responses of any status, as nginx does with `always`";
/// Fields that weir writes for servers: set once more they would be there twice.
const WEIRS_OWN: [&str; 7] = [
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "forwarded",
    "x-request-id",
];
