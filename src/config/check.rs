//! The tree -> [`Config`]: every section read, names resolved, sections held against each other.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use toml::Spanned;
use toml::de::DeValue;

use super::cache;
use super::defaults;
use super::files::Files;
use super::listeners::listener;
use super::mask::MASK;
use super::problems::Problems;
use super::process::{admin, log, process};
use super::routes::route;
use super::upstreams::upstream;
use super::value::{Entry, Name, Table, Value, off, plain};
use super::{
    Admin, AdminAddress, CacheStore, Config, ListenAddress, Listener, Log, Process, Report, Roots,
    Upstream, ambiguity, peers, warnings,
};
use crate::units::ServerName;

/// What reading a section needs to know of the others.
pub(super) struct Context<'t> {
    pub(super) files: &'t Files,
    pub(super) listeners: Names<'t>,
    pub(super) upstreams: Names<'t>,
    /// Every address that would be listened on, and where it is written.
    pub(super) bound: RefCell<Vec<(ListenAddress, Value<'t>)>>,
    /// Every certificate of a listener, by the listener's name: where it is written, and what it is for.
    pub(super) certificates: RefCell<Vec<(&'t str, Value<'t>, Vec<String>)>>,
    /// Every name of a server, and where it is written.
    pub(super) server_names: RefCell<Vec<(ServerName, Value<'t>)>>,
    /// Where routes may still stand: listeners, hosts and paths, multiplied.
    pub(super) places: Cell<usize>,
    /// How many certificates listeners may still have.
    certificates_left: Cell<usize>,
    pub(super) now: SystemTime,
    system_roots: OnceCell<Roots>,
}

/// What a tree comes to.
pub(super) struct Checked<'t> {
    pub(super) config: Config,
    /// What only DNS can tell whether it is right.
    pub(super) server_names: Vec<(ServerName, Value<'t>)>,
}

impl Context<'_> {
    /// Whether there may be so many certificates more. Each takes a moment to be held against its key.
    pub(super) fn takes_certificates(&self, number: usize) -> bool {
        let left = self.certificates_left.get().checked_sub(number);
        self.certificates_left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Read once for all upstreams, and anew for each config: they are updated while weir runs.
    pub(super) fn system_roots(&self) -> Roots {
        self.system_roots.get_or_init(Roots::of_system).clone()
    }
}

/// The names that the file gives to things of one kind.
pub(super) struct Names<'t> {
    kind: &'static str,
    in_order: Vec<&'t str>,
    known: HashSet<&'t str>,
}

impl<'t> Names<'t> {
    fn of(kind: &'static str, entries: &[Entry<'t>]) -> Self {
        let in_order: Vec<_> = entries.iter().map(|entry| entry.name.text).collect();
        Self {
            kind,
            known: in_order.iter().copied().collect(),
            in_order,
        }
    }

    /// Whether there is such a name; complains if there is not.
    pub(super) fn check(&self, name: &Name<'_>) -> bool {
        let known = self.known.contains(name.text);
        if !known && !Self::may_be_lost(name) {
            let names = self.in_order.iter().copied();
            let near = name.problems.suggest(name.text, names);
            name.problem(
                "unknown-name",
                format!("there is no {} `{}`", self.kind, plain(name.text)),
                near.or_else(|| self.help(name)),
            );
        }
        known
    }

    /// What to write in place of a name that is near to none.
    fn help(&self, name: &Name<'_>) -> Option<String> {
        if name.problems.incomplete() {
            return None; // There may be others.
        }
        let is_address = name.text.contains([':', '/']);
        let known = self.in_order.iter().take(MOST_NAMED);
        let known: Vec<_> = known.map(|name| format!("`{}`", plain(name))).collect();
        let kind = self.kind;
        match (is_address, known.as_slice()) {
            (true, _) if kind == UPSTREAM => Some(
                "write the name of an `[upstream.NAME]`, whose `servers` are addresses".to_owned(),
            ),
            (_, []) => None,
            (_, [one]) if self.number() == 1 => Some(format!("the only one is {one}")),
            (_, all) if self.number() > all.len() => Some(format!(
                "there are {} and {} more",
                all.join(", "),
                self.number() - all.len()
            )),
            (_, [others @ .., last]) => Some(format!("there are {} and {last}", others.join(", "))),
        }
    }

    /// Whether the thing may be in a part of the file that could not be understood.
    fn may_be_lost(name: &Name<'_>) -> bool {
        name.problems.incomplete() && name.problems.may_name_a_table(name.text)
    }

    pub(super) fn number(&self) -> usize {
        self.in_order.len()
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = &'t str> {
        self.in_order.iter().copied()
    }
}

/// Reads the whole tree. What is returned is to be used only if there are no problems.
pub(super) fn check<'t>(
    root: &'t Spanned<DeValue<'t>>,
    file: &Path,
    files: &'t Files,
    problems: &'t Problems<'t>,
    now: SystemTime,
) -> Option<Checked<'t>> {
    Value::new(root, String::new(), problems).table(|table| {
        not_yet(table);
        table.elsewhere(peers::TOP);
        let listen = named(table, "listen", "a listener, for example `[listen.web]`");
        let routes = named(table, "route", "a route, for example `[route.site]`");
        let upstreams = named(table, "upstream", "");
        let context = Context {
            files,
            listeners: Names::of("listener", &listen),
            upstreams: Names::of(UPSTREAM, &upstreams),
            bound: RefCell::default(),
            certificates: RefCell::default(),
            server_names: RefCell::default(),
            places: Cell::new(MOST_PLACES),
            certificates_left: Cell::new(MOST_CERTIFICATES),
            now,
            system_roots: OnceCell::new(),
        };
        // First: what is wrong with a default is told there and not in the tables that take it.
        defaults::check(table, &context);
        context.certificates.take();
        context.server_names.take();
        context.places.set(MOST_PLACES);
        context.certificates_left.set(MOST_CERTIFICATES);
        let process = table.or("process", Process::default(), process);
        let admin = table.or("admin", Admin::default(), |value| admin(value, &context));
        let log = table.or("log", Log::default(), |value| log(value, &context));
        let cache = table.or("cache", CacheStore::default(), cache::store);
        let listeners: Vec<Listener> = listen
            .iter()
            .filter_map(|entry| listener(entry, &context))
            .collect();
        let read: Vec<Upstream> = upstreams
            .iter()
            .filter_map(|entry| upstream(entry, &context))
            .collect();
        let routes: Vec<_> = routes
            .iter()
            .filter_map(|entry| route(entry, &context))
            .collect();
        ambiguity::check(&routes);
        let bound = context.bound.take();
        clashes(&bound);
        if root
            .get_ref()
            .get("admin")
            .is_none_or(|admin| admin.get_ref().get("address").is_none())
        {
            clashes_with_default(&bound, &admin);
        }
        if problems.is_clean() {
            warnings::check(&routes, &upstreams, &listeners, &context);
        }
        let config = Config {
            file: file.to_owned(),
            files: files.paths(),
            hash: files.hash(),
            seen: files.seen(),
            contents: files.contents(),
            warnings: Report::default(),
            masked: Vec::new(),
            process,
            admin,
            log,
            cache,
            listeners,
            routes: routes.into_iter().map(|read| read.route).collect(),
            upstreams: read,
        };
        Some(Checked {
            config,
            server_names: context.server_names.take(),
        })
    })
}

fn not_yet(table: &Table<'_>) {
    // Read before the tree was whole.
    table.get("include");
    table.not_yet("notify", off::empty_table);
}

/// The tables of one kind by their names. `missing` is what a file without any needs.
fn named<'t>(table: &Table<'t>, kind: &'static str, missing: &str) -> Vec<Entry<'t>> {
    let section = table.get(kind);
    let is_other = section
        .as_ref()
        .is_some_and(|value| !value.inner.is_table());
    let expected = format!("tables with names, such as `[{kind}.NAME]`");
    let mut entries = section
        .map(|value| value.entries(&expected))
        .unwrap_or_default();
    let is_table = |entry: &Entry<'_>| entry.value.inner.is_table();
    if let Some(stray) = entries.iter().find(|entry| !is_table(entry)) {
        let help = format!("write `[{kind}.NAME]`, with a name of your choice");
        let message = format!("`[{kind}]` has no name");
        stray.name.problem("missing-name", message, Some(help));
        entries.retain(is_table);
    } else if entries.is_empty()
        && !is_other
        && !missing.is_empty()
        && !table.value.problems.incomplete()
    {
        table
            .value
            .problem("missing-key", format!("the file needs {missing}"), None);
    }
    for entry in &entries {
        let name = entry.name.text;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(good) {
            let help = match name.contains("${") {
                true => "variables stand in values alone",
                false => "names are 1 to 100 letters, digits, `-`, `_` and `.`",
            };
            entry.name.problem(
                "invalid-value",
                format!("`{}` cannot be a name", plain(name)),
                Some(help.into()),
            );
        }
    }
    entries
}

/// Complains about every address that cannot be bound because an earlier one has it. Port 0 is a free port for each.
fn clashes(bound: &[(ListenAddress, Value<'_>)]) {
    let mut by_address = HashMap::new();
    let mut on_all = HashMap::new();
    let mut by_port = HashMap::new();
    let mut bound: Vec<_> = bound
        .iter()
        .filter(|(address, _)| address.socket.port() != 0)
        .collect();
    bound.sort_by_key(|(_, value)| value.span.start);
    for (address, value) in bound {
        let port = address.socket.port();
        let other = if address.any {
            by_port.get(&port)
        } else {
            on_all.get(&port)
        };
        if let Some(first) = other.or_else(|| by_address.get(&address.socket)).copied() {
            clash(value, first);
        }
        by_address.entry(address.socket).or_insert(value);
        by_port.entry(port).or_insert(value);
        if address.any {
            on_all.entry(port).or_insert(value);
        }
    }
}

/// The same for the admin address that nobody wrote.
fn clashes_with_default(bound: &[(ListenAddress, Value<'_>)], admin: &Admin) {
    let Some(AdminAddress::Tcp(default)) = &admin.address else {
        return;
    };
    for (address, value) in bound {
        if address.socket == default.socket
            || address.any && address.socket.port() == default.socket.port()
        {
            let message = format!(
                "clashes with `{}`, the default of `admin.address`",
                default.socket
            );
            value.problem(
                "duplicate",
                message,
                Some("set `admin.address` to another, or to `\"off\"`".into()),
            );
        }
    }
}

fn clash(value: &Value<'_>, first: &Value<'_>) {
    let place = value.problems.place(&first.span);
    let text = value.inner.as_str().unwrap_or_default();
    let one = match value.problems.shown(&first.span) {
        Some(shown) => plain(&masked_alike(text, &shown)),
        None => plain(text),
    };
    let message = format!(
        "`{one}` clashes with `{}` of `{}` at {place}",
        first.quoted(),
        first.path
    );
    value.problem("duplicate", message, None);
}

/// An address with masks for host and port where the one that it clashes with has masks: it would tell them.
fn masked_alike(text: &str, other: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let (other_host, other_port) = other.rsplit_once(':').unwrap_or((other, other));
    let mask = |part: &str, other: &str| match other.contains(MASK) && !part.is_empty() {
        true => MASK.to_owned(),
        false => part.to_owned(),
    };
    format!("{}:{}", mask(host, other_host), mask(port, other_port))
}

/// Each is an entry of a table: ten thousand routes with ten paths each on ten listeners.
pub(super) const MOST_PLACES: usize = 1_000_000;
pub(super) const MOST_CERTIFICATES: usize = 10_000;
const UPSTREAM: &str = "upstream";
/// Of those that are told in place of one that is not there.
const MOST_NAMED: usize = 5;
/// Names go into paths of the admin API, labels of metrics and names of cookies.
const LONGEST_NAME: usize = 100;
