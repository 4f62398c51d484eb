//! `[defaults.listen]`, `[defaults.route]`, `[defaults.upstream]`: what the named tables of a kind have where they say
//! nothing.
//!
//! They are written into the named tables before anything reads those, key by key, tables inside of tables likewise, short
//! forms as the tables that they stand for. So whatever reads a table knows nothing of defaults, and a default is what it
//! would be in each table. Whether a default is good is told where it stands, once, and also if no table takes it.

use std::borrow::Cow;
use std::collections::HashSet;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::check::Context;
use super::listeners::listener;
use super::problems::Problems;
use super::routes::route;
use super::upstreams::upstream;
use super::value::{Entry, Name, Table, join, plain};
use super::variables::is_one_variable;

/// A table while defaults are written into it.
type Tree<'t> = Spanned<DeValue<'t>>;

/// Writes the defaults into the named tables. Keys that make no sense as defaults are refused and taken out.
pub(super) fn apply<'t>(root: &mut DeTable<'t>, problems: &Problems<'_>) {
    let mut room = MOST_COPIED;
    for kind in KINDS {
        let Some(defaults) = table_in(root, "defaults").and_then(|all| table_in(all, kind.name))
        else {
            continue;
        };
        refuse(defaults, &kind, problems);
        let defaults = defaults.clone();
        let Some(named) = table_in(root, kind.name) else {
            continue;
        };
        for (_, value) in named {
            if let DeValue::Table(table) = value.get_mut()
                && spend(&mut room, defaults.len() * LOOK)
            {
                let wanted = |key: &str| (kind.wanted)(key, table, &defaults);
                let wanted: Vec<_> = defaults
                    .iter()
                    .filter(|(key, _)| wanted(key.get_ref()))
                    .collect();
                for (key, default) in wanted {
                    inherit(table, key, default, problems, &mut room);
                }
            }
        }
    }
    if room == 0 {
        let message = "the defaults, written out in every table, are more than 128 MiB";
        let span = root.get_key_value("defaults").map(|(key, _)| key.span());
        let span = span.unwrap_or_default();
        problems.add(
            span,
            "defaults".into(),
            "invalid-value",
            message.into(),
            None,
        );
    }
}

/// Reads the defaults as if they were named tables, for their mistakes alone.
pub(super) fn check<'t>(table: &Table<'t>, context: &Context<'t>) {
    let problems = table.value.problems;
    let Some(defaults) = table.get("defaults") else {
        return;
    };
    let is_kind = |name: &str| KINDS.iter().any(|kind| kind.name == name);
    for entry in defaults.entries("a table") {
        if !is_kind(entry.name.text) {
            let message = format!("unknown key `{}`", plain(entry.name.text));
            let help = "defaults stand in `[defaults.listen]`, `[defaults.route]` and `[defaults.upstream]`";
            entry
                .name
                .problem("unknown-key", message, Some(help.into()));
        }
    }
    problems.in_part(|| {
        defaults.table(|table| {
            for kind in KINDS {
                if let (Some(value), Some(name)) = (table.get(kind.name), table.key(kind.name)) {
                    (kind.read)(&Entry { name, value }, context);
                }
            }
            Some(())
        });
    });
}

struct Kind {
    name: &'static str,
    read: for<'t> fn(&Entry<'t>, &Context<'t>),
    /// Keys that cannot be defaults, and why.
    refused: &'static [(&'static str, &'static str)],
    /// Whether a table is to have the default of a key.
    wanted: fn(&str, &DeTable<'_>, &DeTable<'_>) -> bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "listen",
        read: |entry, context| drop(listener(entry, context)),
        refused: &[("address", "each listener has addresses of its own")],
        // TLS is nothing without a certificate: the rest is for those that have some.
        wanted: |key, table, defaults| {
            let tls = defaults.get(key).and_then(|tls| tls.get_ref().as_table());
            key != "tls"
                || table.contains_key("tls")
                || tls.is_none_or(|tls| tls.contains_key("certificates"))
        },
    },
    Kind {
        name: "route",
        read: |entry, context| drop(route(entry, context)),
        refused: &[
            ("host", MATCHES),
            ("path", MATCHES),
            ("path_exact", MATCHES),
            ("methods", MATCHES),
            ("headers", MATCHES),
            ("query", MATCHES),
            (
                "priority",
                "it tells routes apart, which the same number for all does not",
            ),
            ("upstream", ACTION),
            ("redirect", ACTION),
            ("respond", ACTION),
            ("strip_prefix", "it goes with the path of a route"),
            ("add_prefix", "it goes with the path of a route"),
        ],
        // What is answered here is not cached.
        wanted: |key, table, _| {
            let answered = table.contains_key("redirect") || table.contains_key("respond");
            key != "cache" || !answered || table.contains_key("cache")
        },
    },
    Kind {
        name: "upstream",
        read: |entry, context| drop(upstream(entry, context)),
        refused: &[("servers", "each upstream has servers of its own")],
        // With another policy there is nothing to hash.
        wanted: |key, table, defaults| {
            let balance = table.get("balance").or_else(|| defaults.get("balance"));
            let balance = balance.and_then(|value| value.get_ref().as_str());
            key != "hash_key" || balance == Some("hash")
        },
    },
];

const MATCHES: &str = "it says which requests a route is for, and each is for others";
const ACTION: &str = "it is what a route is there for; each says it itself";

/// Takes out what cannot be a default.
fn refuse(defaults: &mut DeTable<'_>, kind: &Kind, problems: &Problems<'_>) {
    let path = join("defaults", kind.name);
    for (key, reason) in kind.refused {
        refuse_key(defaults, key, &path, reason, problems);
    }
    if let Some(sticky) = table_in(defaults, "sticky") {
        let reason = "clients of two upstreams would lose the one cookie for the other";
        refuse_key(sticky, "cookie", &join(&path, "sticky"), reason, problems);
    }
}

fn refuse_key(
    table: &mut DeTable<'_>,
    key: &str,
    path: &str,
    reason: &str,
    problems: &Problems<'_>,
) {
    if let Some((written, _)) = table.remove_entry(key) {
        let name = Name {
            text: key,
            span: written.span(),
            path: join(path, key),
            problems,
        };
        let message = format!("`{key}` cannot be a default");
        name.problem("no-default", message, Some(reason.to_owned()));
    }
}

/// Gives `table` a default where it says nothing itself.
fn inherit<'t>(
    table: &mut DeTable<'t>,
    key: &Spanned<DeString<'t>>,
    default: &Tree<'t>,
    problems: &Problems<'_>,
    room: &mut usize,
) {
    if *room == 0 {
        return;
    }
    let name: &str = key.get_ref();
    let Some(own) = table.get_mut(name) else {
        if spend(room, ENTRY + name.len() + size(default)) {
            table.insert(key.clone(), default.clone());
        }
        return;
    };
    let Some(default) = long_form(name, default, problems) else {
        return; // the default is off or a value, and there is another
    };
    let short_probe = own.get_ref().is_str();
    let stands_for = match long_form(name, own, problems) {
        None => return,
        Some(Cow::Borrowed(_)) => None, // it is the long form
        Some(Cow::Owned(long)) => Some(long),
    };
    if let Some(long) = stands_for {
        *own.get_mut() = DeValue::Table(long);
    }
    if let DeValue::Table(own) = own.get_mut()
        && spend(room, (own.len() + default.len()) * LOOK)
    {
        // A path alone is a probe over HTTP, whatever others are.
        let but = move |key: &str| !(short_probe && name == "health_check" && key == "type");
        inherit_all(own, name, &default, but, problems, room);
    }
}

fn inherit_all<'t>(
    own: &mut DeTable<'t>,
    name: &str,
    defaults: &DeTable<'t>,
    but: impl Fn(&str) -> bool,
    problems: &Problems<'_>,
    room: &mut usize,
) {
    let kind = own.get("type").and_then(|kind| kind.get_ref().as_str());
    let kind = kind.or_else(|| {
        defaults
            .get("type")?
            .get_ref()
            .as_str()
            .filter(|_| but("type"))
    });
    let of_another_kind: &[&str] = match kind {
        Some("tcp") if name == "health_check" => &PROBES_OF_HTTP,
        Some("grpc") if name == "health_check" => &["method", "status", "body"],
        _ => &[],
    };
    // Names of fields ignore case.
    let fields = matches!(name, "set" | "add" | "headers");
    let taken: HashSet<String> = match fields {
        true => own
            .keys()
            .map(|key| key.get_ref().to_ascii_lowercase())
            .collect(),
        false => HashSet::new(),
    };
    for (key, default) in defaults {
        let text: &str = key.get_ref();
        // A table turns on what it is about, unless it says that it does not.
        let skipped = text == "enabled" && matches!(name, "cache" | "compress")
            || of_another_kind.contains(&text)
            || fields && taken.contains(&text.to_ascii_lowercase())
            || !but(text);
        if !skipped {
            inherit(own, key, default, problems, room);
        }
    }
}

/// The table that a value is or stands for.
fn long_form<'v, 't>(
    key: &str,
    value: &'v Tree<'t>,
    problems: &Problems<'_>,
) -> Option<Cow<'v, DeTable<'t>>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(Cow::Borrowed(table)),
        DeValue::Boolean(true) if SWITCHES.contains(&key) => Some(Cow::Owned(DeTable::new())),
        DeValue::String(text) if key == "health_check" && text != "off" => {
            let mut table = DeTable::new();
            let path = Spanned::new(value.span(), DeString::Borrowed("path"));
            table.insert(path, value.clone());
            Some(Cow::Owned(table))
        }
        // As a variable has it.
        DeValue::String(text)
            if SWITCHES.contains(&key)
                && text == "true"
                && is_one_variable(problems.written(&value.span())) =>
        {
            Some(Cow::Owned(DeTable::new()))
        }
        _ => None,
    }
}

fn table_in<'m, 't>(table: &'m mut DeTable<'t>, key: &str) -> Option<&'m mut DeTable<'t>> {
    match table.get_mut(key)?.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Whether there is room for so much more; if not, there is none for anything.
fn spend(room: &mut usize, amount: usize) -> bool {
    let rest = room.checked_sub(amount);
    *room = rest.unwrap_or(0);
    *room > 0
}

/// What a copy takes, roughly.
fn size(value: &Tree<'_>) -> usize {
    let inner: usize = match value.get_ref() {
        DeValue::String(text) => text.len(),
        DeValue::Array(items) => items.iter().map(size).sum(),
        DeValue::Table(entries) => {
            let entries = entries.iter();
            entries
                .map(|(key, value)| ENTRY + key.get_ref().len() + size(value))
                .sum()
        }
        _ => 0,
    };
    size_of::<Tree<'_>>() + inner
}

/// Where `true` stands for the table with nothing in it.
const SWITCHES: [&str; 4] = ["cache", "compress", "sticky", "tls"];
/// What only a probe over HTTP has.
pub(super) const PROBES_OF_HTTP: [&str; 6] =
    ["path", "method", "host", "headers", "status", "body"];
/// Bytes. Fifty defaults for ten thousand routes are below it.
const MOST_COPIED: usize = 128 << 20;
/// Of an entry of a table, besides key and value.
const ENTRY: usize = 64;
/// What it counts as to look whether a table has a key of its own: so the time is bounded as well.
const LOOK: usize = 64;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Contents, Report, parse};

    const APP: &str = "[listen.web]\naddress = \":1\"\n[route.site]\nupstream = \"app\"\n[upstream.app]\nservers = [\"10.0.0.1:1\"]\n";

    fn valid(text: &str) -> Config {
        let mut config =
            parse(text, Path::new("weir.toml")).unwrap_or_else(|report| panic!("{report}"));
        config.hash.clear();
        config.seen = 0;
        config.contents = Contents::default();
        // What is held against each other has the same, at other places.
        config.warnings = Report::default();
        config
    }

    /// What the defaults and the keys of the named tables of the kind come to, against what can be written without them.
    fn same(defaults: &str, named: &str, plain: &str) {
        assert_eq!(
            valid(&format!("{APP}{named}\n{defaults}")),
            valid(&format!("{APP}{plain}\n")),
            "{defaults}\n{named}"
        );
    }

    fn told(text: &str) -> Vec<String> {
        let report = parse(&format!("{text}\n{APP}"), Path::new("weir.toml")).expect_err(text);
        let lines = report.to_string();
        let lines = lines.lines().map(|line| line.replace("weir.toml:", ""));
        lines.collect()
    }

    #[test]
    fn a_default_is_what_it_would_be_in_each_table_that_says_nothing() {
        let route = "[route.x]\npath = \"/x\"\nupstream = \"app\"\n";
        let cases = [
            ("timeout = \"5s\"", "", "timeout = \"5s\""),
            ("timeout = \"5s\"", "timeout = \"6s\"", "timeout = \"6s\""),
            ("timeout = \"5s\"", "timeout = \"off\"", ""),
            ("cache = true", "", "cache = true"),
            ("cache = true", "cache = false", ""),
            (
                "cache = true",
                "cache = { heuristic = true }",
                "cache = { heuristic = true }",
            ),
            (
                "cache = { max_variants = 5, heuristic = true }",
                "cache = true",
                "cache = { max_variants = 5, heuristic = true }",
            ),
            (
                "cache = { max_variants = 5, heuristic = true }",
                "cache = { max_variants = 6 }",
                "cache = { max_variants = 6, heuristic = true }",
            ),
            (
                "cache = { enabled = false, max_variants = 5 }",
                "cache = true",
                "cache = { max_variants = 5 }",
            ),
            (
                "cache = { enabled = false, max_variants = 5 }",
                "",
                "cache = false",
            ),
            (
                "cache = false",
                "cache = { max_variants = 5 }",
                "cache = { max_variants = 5 }",
            ),
            (
                "compress = { level = { br = 1, gzip = 2 } }",
                "compress.level.br = 3",
                "compress.level = { br = 3, gzip = 2 }",
            ),
            (
                "request_headers = { set = { X-A = \"1\", X-B = \"1\" }, remove = [\"a\"] }",
                "request_headers = { set = { x-a = \"2\" }, remove = [\"b\"] }",
                "request_headers = { set = { x-a = \"2\", X-B = \"1\" }, remove = [\"b\"] }",
            ),
            ("listen = [\"web\"]", "listen = []", "listen = []"),
        ];
        for (default, named, plain) in cases {
            // The other route of the file has them too.
            let site = |keys: &str| {
                APP.replace("upstream = \"app\"", &format!("upstream = \"app\"\n{keys}"))
            };
            let with = format!("{APP}{route}{named}\n[defaults.route]\n{default}\n");
            let alone = if default.starts_with("cache = { enabled") {
                ""
            } else {
                default
            };
            let without = format!("{}{route}{plain}\n", site(alone));
            assert_eq!(valid(&with), valid(&without), "{default} / {named}");
        }
    }

    #[test]
    fn probes_of_one_kind_do_not_take_what_another_kind_has() {
        let defaults = |keys: &str| {
            format!(
                "[defaults.upstream]\nhealth_check = {keys}\n[upstream.app]\nservers = [\"10.0.0.1:1\"]\n"
            )
        };
        let app = |keys: &str| {
            format!("[upstream.app]\nservers = [\"10.0.0.1:1\"]\nhealth_check = {keys}\n")
        };
        let base = "[listen.web]\naddress = \":1\"\n[route.site]\nupstream = \"app\"\n";
        let long = "{ path = \"/up\", status = 200, interval = \"9s\" }";
        let cases = [
            ("\"/up\"", "", "\"/up\""),
            ("\"/up\"", "\"/on\"", "\"/on\""),
            ("\"/up\"", "\"off\"", "\"off\""),
            (
                long,
                "\"/on\"",
                "{ path = \"/on\", status = 200, interval = \"9s\" }",
            ),
            (
                long,
                "{ type = \"tcp\" }",
                "{ type = \"tcp\", interval = \"9s\" }",
            ),
            (
                long,
                "{ type = \"grpc\" }",
                "{ type = \"grpc\", path = \"/up\", interval = \"9s\" }",
            ),
            (
                "{ type = \"tcp\", rise = 4 }",
                "\"/on\"",
                "{ path = \"/on\", rise = 4 }",
            ),
        ];
        for (default, named, plain) in cases {
            let named = if named.is_empty() {
                String::new()
            } else {
                format!("health_check = {named}\n")
            };
            let with = valid(&format!("{base}{}{named}", defaults(default)));
            assert_eq!(
                with,
                valid(&format!("{base}{}", app(plain))),
                "{default} / {named}"
            );
        }
    }

    #[test]
    fn defaults_stay_away_from_tables_that_they_mean_nothing_in() {
        same(
            "[defaults.route]\ncache = true",
            "[route.gone]\npath = \"/gone\"\nrespond = {}",
            "[route.gone]\npath = \"/gone\"\nrespond = {}\n[route.site.cache]",
        );
        same(
            "[defaults.upstream]\nhash_key = \"path\"",
            "[upstream.h]\nservers = [\"10.0.0.1:1\"]\nbalance = \"hash\"",
            "[upstream.h]\nservers = [\"10.0.0.1:1\"]\nbalance = \"hash\"\nhash_key = \"path\"",
        );
        same("[defaults.listen.tls]\nmin_version = \"1.3\"", "", "");
        same(
            "[defaults.listen]\nredirect_to_https = { port = 8443 }",
            "[listen.x]\naddress = \":2\"\nredirect_to_https = \"off\"\ntls = \"off\"",
            "[listen.x]\naddress = \":2\"\n[listen.web.redirect_to_https]\nport = 8443",
        );
    }

    #[test]
    fn a_bad_default_is_told_once_and_where_it_stands() {
        let text = "[defaults.route]\ntimeout = 5\nlisten = [\"nope\"]\n[defaults.listen]\nkeepalif = \"5s\"\n[defaults.upstream]\nhealth_check = \"up\"\nconnect_timeout = \"never\"\n[defaults.tls]\n[route.a]\nrespond = {}\npath = \"/a\"\n";
        assert_eq!(
            told(text),
            [
                "2:11: defaults.route.timeout: expected a duration with a unit such as `\"5s\"`, found the number `5`; write `\"5s\"` for seconds or `\"5ms\"` for milliseconds",
                "3:11: defaults.route.listen[0]: there is no listener `nope`; the only one is `web`",
                "5:1: defaults.listen.keepalif: unknown key `keepalif`; did you mean `keepalive`?",
                "7:16: defaults.upstream.health_check: `up` is not a path; write `/up`",
                "8:19: defaults.upstream.connect_timeout: `never` is not a duration; write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`",
                "9:11: defaults.tls: unknown key `tls`; defaults stand in `[defaults.listen]`, `[defaults.route]` and `[defaults.upstream]`",
            ]
        );
        let one = told("[defaults.upstream]\nbalance = \"random\"\nhash_key = \"path\"\n");
        assert_eq!(one.len(), 1, "{one:?}");
        assert!(
            one[0].starts_with("3:1: defaults.upstream.hash_key: "),
            "{one:?}"
        );
        assert_eq!(
            told("defaults = 1"),
            ["1:12: defaults: expected a table, found the number `1`"]
        );
    }

    #[test]
    fn what_cannot_be_a_default_is_refused_with_the_reason() {
        let text = "[defaults.route]\npath = \"/\"\nupstream = \"app\"\npriority = 1\n[defaults.listen]\naddress = \":2\"\n[defaults.upstream]\nservers = []\nsticky = { cookie = \"id\" }\n";
        assert_eq!(
            told(text),
            [
                "2:1: defaults.route.path: `path` cannot be a default; it says which requests a route is for, and each is for others",
                "3:1: defaults.route.upstream: `upstream` cannot be a default; it is what a route is there for; each says it itself",
                "4:1: defaults.route.priority: `priority` cannot be a default; it tells routes apart, which the same number for all does not",
                "6:1: defaults.listen.address: `address` cannot be a default; each listener has addresses of its own",
                "8:1: defaults.upstream.servers: `servers` cannot be a default; each upstream has servers of its own",
                "9:12: defaults.upstream.sticky.cookie: `cookie` cannot be a default; clients of two upstreams would lose the one cookie for the other",
            ]
        );
    }

    /// A value that only together with another is wrong.
    #[test]
    fn a_default_that_does_not_fit_one_table_is_told_at_its_place_with_that_table() {
        let text = "[defaults.listen]\nmax_target_size = \"8KiB\"\n[listen.x]\naddress = \":2\"\nmax_header_size = \"4KiB\"\n[listen.y]\naddress = \":3\"\nmax_header_size = \"4KiB\"\n";
        assert_eq!(
            told(text),
            ["2:19: listen.x.max_target_size: expected a size from 64B to 4KiB, found `8KiB`"]
        );
    }

    /// Neither are they copied for those who do not want them.
    #[test]
    fn a_large_default_costs_nothing_where_it_is_turned_off() {
        let text = |check: &str| {
            let mut text = String::from(
                "[defaults.upstream.health_check]\npath = \"/\"\n[defaults.upstream.health_check.headers]\n",
            );
            for number in 0..2000 {
                text += &format!("x-{number} = \"1\"\n");
            }
            for number in 0..20_000 {
                text += &format!("[upstream.u{number}]\nservers = [\"10.0.0.1:1\"]\n{check}\n");
            }
            text
        };
        valid(&format!("{APP}{}", text("health_check = \"off\"")));
        let expected =
            "1:2: defaults: the defaults, written out in every table, are more than 128 MiB";
        let lines = told(&text("health_check = { headers = { a = \"1\" } }"));
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn defaults_that_grow_without_end_are_refused() {
        use std::fmt::Write as _;
        let long = "a".repeat(1 << 20);
        let mut text = format!("[defaults.route]\ntimeout = \"{long}\"\n");
        for number in 0..300 {
            writeln!(
                text,
                "[route.r{number}]\npath = \"/{number}\"\nrespond = {{}}"
            )
            .unwrap();
        }
        let lines = told(&text);
        let expected =
            "1:2: defaults: the defaults, written out in every table, are more than 128 MiB";
        assert_eq!((lines.len(), lines[0].as_str()), (2, expected));
    }
}
