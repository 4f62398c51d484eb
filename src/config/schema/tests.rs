//! Whether schema, parser and `--show` know the same keys and say the same of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;
use toml::Value as Toml;

use super::validator::validate;
use super::*;
use crate::config::{Report, parse};

/// Every key that a parser in this process has asked a table for.
static ASKED: Mutex<BTreeSet<(String, &str)>> = Mutex::new(BTreeSet::new());

pub(in crate::config) fn asked_for(table: &str, key: &'static str) {
    // Other tests have other names.
    let mut parts = table.split('.');
    let (kind, name) = (parts.next().unwrap_or_default(), parts.next());
    let ours = NAMES.iter().find(|(known, _)| *known == kind);
    if ours.is_none_or(|(_, ours)| name == Some(ours) || name.is_none()) {
        ASKED.lock().unwrap().insert((table.to_owned(), key));
    }
}

/// Names that no other test uses.
const NAMES: [(&str, &str); 3] = [
    ("listen", "schema_web"),
    ("route", "schema_site"),
    ("upstream", "schema_app"),
];

const BASE: &str = "[listen.schema_web]\naddress = \":8080\"\n[route.schema_site]\nupstream = \"schema_app\"\n\
                    [upstream.schema_app]\nservers = [\"127.0.0.1:3000\"]\n";

/// A step from a value to one inside of it.
#[derive(Clone, Copy)]
enum Step {
    /// To this key; with the keys that the table has.
    Key(&'static str, &'static [Key]),
    Name(&'static str),
    Item,
}

/// Every key with the way to it.
fn all() -> Vec<(Vec<Step>, Key)> {
    let mut all = Vec::new();
    walk(keys::ALL, &[], &mut all);
    all
}

fn walk(keys: &'static [Key], way: &[Step], all: &mut Vec<(Vec<Step>, Key)>) {
    for key in keys {
        let way = [way, &[Step::Key(key.name, keys)]].concat();
        if key.own && is_default(&way) {
            // The parser knows it, and takes no value.
            let refused = Key {
                kind: Kind::NotYet,
                ..super::key(key.name, key.kind, key.about)
            };
            all.push((way, refused));
            continue;
        }
        all.push((way.clone(), *key));
        descend(&key.kind, &way, all);
    }
}

/// Whether it is a default of tables that have names.
fn is_default(way: &[Step]) -> bool {
    matches!(way, [Step::Key("defaults", _), _, _, ..])
}

fn descend(kind: &Kind, way: &[Step], all: &mut Vec<(Vec<Step>, Key)>) {
    match kind {
        Kind::Table(keys) | Kind::Defaults(keys) => walk(keys, way, all),
        Kind::Either(kinds) => kinds.iter().for_each(|kind| descend(kind, way, all)),
        Kind::List(kind) => descend(kind, &[way, &[Step::Item]].concat(), all),
        Kind::Map(kind) => {
            let Some(Step::Key(table, _)) = way.last() else {
                return;
            };
            if let Some((_, name)) = NAMES.iter().find(|(known, _)| known == table) {
                descend(kind, &[way, &[Step::Name(name)]].concat(), all);
            }
        }
        _ => {}
    }
}

/// As problems speak of it.
fn path(way: &[Step]) -> String {
    let mut path = String::new();
    for step in way {
        match step {
            Step::Item => path.push_str("[0]"),
            Step::Key(name, _) | Step::Name(name) => {
                let dot = if path.is_empty() { "" } else { "." };
                path = format!("{path}{dot}{name}");
            }
        }
    }
    path
}

fn toml(text: &str) -> Toml {
    let mut table: toml::Table = toml::from_str(&format!("value = {text}")).unwrap();
    table.remove("value").unwrap()
}

/// Puts `value` there, with tables and the keys that these need on the way.
fn put(at: &mut Toml, way: &[Step], value: Toml) {
    let Some((step, rest)) = way.split_first() else {
        *at = value;
        return;
    };
    let nothing = || Toml::Boolean(false);
    let next = match step {
        Step::Item => {
            if !at.is_array() {
                *at = Toml::Array(vec![nothing()]);
            }
            &mut at.as_array_mut().unwrap()[0]
        }
        Step::Name(name) => {
            if !at.is_table() {
                *at = Toml::Table(toml::Table::new());
            }
            let table = at.as_table_mut().unwrap();
            table.entry(*name).or_insert_with(nothing)
        }
        Step::Key(name, keys) => {
            if !at.is_table() {
                let needed = keys.iter().filter(|key| key.required);
                let needed = needed.map(|key| (key.name.to_owned(), toml(key.examples[0])));
                *at = Toml::Table(needed.collect());
            }
            let table = at.as_table_mut().unwrap();
            table.entry(*name).or_insert_with(nothing)
        }
    };
    put(next, rest, value);
}

/// A config that has `value` there.
fn document(way: &[Step], value: Toml) -> Toml {
    let mut document = Toml::Table(toml::from_str(BASE).unwrap());
    put(&mut document, way, value);
    let path = path(way);
    let mut also = |table: &str, name: &str, key: &'static str, value: Option<&str>| {
        let Some(table) = document
            .get_mut(table)
            .and_then(|table| table.get_mut(name))
        else {
            return;
        };
        match value {
            Some(value) => put(table, &[Step::Key(key, &[])], toml(value)),
            None => drop(table.as_table_mut().unwrap().remove(key)),
        }
    };
    if path.contains("redirect") && path.starts_with("route")
        || path.contains("respond") && path.starts_with("route")
    {
        also("route", NAMES[1].1, "upstream", None);
    }
    if path.ends_with("hash_key") {
        also("upstream", NAMES[2].1, "balance", Some("\"hash\""));
    }
    for (one, other, file) in [("cert", "key", "client.key"), ("key", "cert", "client.pem")] {
        if path.ends_with(&format!("tls.client_{one}")) {
            let upstream = match is_default(way) {
                true => &mut document["defaults"]["upstream"],
                false => &mut document["upstream"][NAMES[2].1],
            };
            let table = upstream["tls"].as_table_mut().unwrap();
            table.insert(format!("client_{other}"), Toml::String(file.into()));
        }
    }
    document
}

/// Examples name upstreams and listeners as people do.
fn renamed(text: &str) -> String {
    let pairs = [
        ("\"app\"", "\"schema_app\""),
        ("{ app =", "{ schema_app ="),
        ("[\"web\"]", "[\"schema_web\"]"),
        ("{ web =", "{ schema_web ="),
        ("{ site =", "{ schema_site ="),
    ];
    pairs
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A folder with the files that examples name.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signed = rcgen::generate_simple_self_signed(["site.example".to_owned()]).unwrap();
        for (name, content) in [
            ("site.pem", signed.cert.pem()),
            ("ca.pem", signed.cert.pem()),
            ("client.pem", signed.cert.pem()),
            ("site.key", signed.signing_key.serialize_pem()),
            ("client.key", signed.signing_key.serialize_pem()),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("weir.toml")
    }

    fn check(&self, document: &Toml) -> Result<crate::config::Config, Report> {
        parse(&toml::to_string(document).unwrap(), &self.file())
    }
}

fn by_schema(document: &Toml) -> Result<(), String> {
    let schema = schema();
    validate(&schema, &schema, &serde_json::to_value(document).unwrap())
}

/// What is of the types of `key`: numbers at their bounds and beyond, words.
fn integers(kind: &Kind) -> Option<(i64, i64)> {
    match kind {
        Kind::Integer(from, to) => Some((*from, *to)),
        Kind::Either(kinds) => kinds.iter().find_map(integers),
        _ => None,
    }
}

fn words(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Words(words) | Kind::List(Kind::Words(words)) => words,
        _ => &[],
    }
}

/// A variable that comes to `value`, where one can.
fn variable(value: &str) -> Option<String> {
    (!value.contains('}')).then(|| format!("${{WEIR_HAS_NONE_SUCH:-{value}}}"))
}

#[test]
fn the_annotated_files_are_valid_by_the_schema() {
    for text in [
        include_str!("../../../config/weir.toml"),
        include_str!("../../../config/weir.full.toml"),
    ] {
        by_schema(&Toml::Table(toml::from_str(text).unwrap())).unwrap();
    }
}

#[test]
fn the_parser_asks_for_the_keys_of_the_schema_and_for_no_other() {
    let files = Files::new();
    let mut known = BTreeSet::new();
    for (way, key) in all() {
        let (_, table) = way.split_last().unwrap();
        known.insert((path(table), key.name));
        let off = match key.kind {
            Kind::Off(off) => Some(off),
            _ => None,
        };
        for value in key.examples.iter().copied().chain(off) {
            let _ = files.check(&document(&way, toml(&renamed(value))));
        }
    }
    let asked = ASKED.lock().unwrap().clone();
    let missing: Vec<_> = asked.difference(&known).collect();
    let extra: Vec<_> = known.difference(&asked).collect();
    assert!(missing.is_empty(), "not in the schema: {missing:?}");
    assert!(extra.is_empty(), "unknown to the parser: {extra:?}");
}

#[test]
fn every_example_every_word_and_every_bound_is_taken_by_parser_and_schema() {
    let files = Files::new();
    let taken = |way: &[Step], value: Toml| {
        let document = document(way, value);
        let text = toml::to_string(&document).unwrap();
        by_schema(&document).unwrap_or_else(|why| panic!("{why} in\n{text}"));
        files
            .check(&document)
            .unwrap_or_else(|report| panic!("{}", report.render(false)));
    };
    for (way, key) in all() {
        let later = matches!(key.kind, Kind::Off(_) | Kind::NotYet);
        let is_table = matches!(key.kind, Kind::Table(_) | Kind::Defaults(_));
        assert!(
            later || is_table || !key.examples.is_empty(),
            "`{}` has no example",
            path(&way)
        );
        for example in key.examples {
            let example = toml(&renamed(example));
            if let Some(variable) = example.as_str().and_then(variable) {
                taken(&way, Toml::String(variable));
            }
            if matches!(key.kind, Kind::Bool | Kind::Integer(..) | Kind::Numbers(_)) {
                taken(&way, Toml::String(variable(&example.to_string()).unwrap()));
            }
            taken(&way, example);
        }
        if let Kind::Off(off) = key.kind {
            taken(&way, toml(off));
        }
        for word in words(&key.kind) {
            let word = Toml::String((*word).to_owned());
            let is_list = matches!(key.kind, Kind::List(_));
            taken(
                &way,
                if is_list {
                    Toml::Array(vec![word])
                } else {
                    word
                },
            );
        }
        if let Some((from, to)) = integers(&key.kind) {
            taken(&way, Toml::Integer(from));
            taken(&way, Toml::Integer(to));
        }
    }
}

#[test]
fn what_is_of_a_wrong_type_or_out_of_bounds_is_refused_by_parser_and_schema() {
    let files = Files::new();
    let refused = |way: &[Step], value: &str| {
        let document = document(way, toml(value));
        let at = path(way);
        assert!(
            by_schema(&document).is_err(),
            "by the schema: {at} = {value}"
        );
        let report = files
            .check(&document)
            .expect_err(&format!("{at} = {value}"));
        let names = |key: &str| key.starts_with(&at);
        assert!(
            report.problems.iter().any(|problem| names(&problem.key)),
            "{at} = {value}: {}",
            report.render(false)
        );
    };
    let values = [
        ("boolean", "true"),
        ("integer", "7"),
        ("number", "1.5"),
        ("string", "\"x\""),
        ("array", "[[1]]"),
        ("object", "{ \"?\" = [] }"),
    ];
    for (way, key) in all() {
        let types = key.kind.types();
        for (kind, value) in values {
            // A table with a key that is not known is refused too; where names are free, what they stand for is.
            if !types.contains(&kind) || kind == "object" && !matches!(key.kind, Kind::Off(_)) {
                refused(&way, value);
            }
        }
        if let Some((from, to)) = integers(&key.kind) {
            refused(&way, &(from - 1).to_string());
            refused(&way, &(to + 1).to_string());
        }
        match key.kind {
            Kind::Words(_) | Kind::Duration | Kind::Size | Kind::Share | Kind::Path => {
                refused(&way, "\"no such word\"");
            }
            Kind::List(Kind::Words(_)) => refused(&way, "[\"no such word\"]"),
            Kind::Numbers(_) => refused(&way, "304"),
            _ => {}
        }
    }
}

/// What is shown of every table, whether it is on or off.
fn shown() -> Vec<Toml> {
    let files = Files::new();
    let on = "[listen.schema_web]\naddress = \":8080\"\nredirect_to_https = {}\n\
              tls.certificates = [{ cert = \"site.pem\", key = \"site.key\" }]\n\
              [route.schema_site]\nupstream = \"schema_app\"\ncache = true\ncompress = true\n\
              [upstream.schema_app]\nservers = [\"127.0.0.1:3000\"]\nsticky = true\ntls = true\nbalance = \"hash\"\n\
              health_check = \"/\"\n";
    let answers = |answer| BASE.replace("upstream = \"schema_app\"", answer);
    let texts = [
        BASE.to_owned(),
        on.to_owned(),
        answers("redirect.to = \"/\""),
        answers("respond = {}"),
    ];
    texts
        .iter()
        .map(|text| {
            let config = parse(text, &files.file());
            let config = config.unwrap_or_else(|report| panic!("{}", report.render(false)));
            Toml::Table(toml::from_str(&config.show()).unwrap())
        })
        .collect()
}

fn at<'v>(value: &'v Toml, way: &[Step]) -> Option<&'v Toml> {
    way.iter().try_fold(value, |value, step| match step {
        Step::Item => value.as_array()?.first(),
        Step::Key(name, _) | Step::Name(name) => value.get(name),
    })
}

#[test]
fn every_default_is_what_is_shown() {
    let shown = shown();
    for (way, key) in all() {
        let there: Vec<_> = shown.iter().filter_map(|shown| at(shown, &way)).collect();
        let path = path(&way);
        match key.default {
            // It is shown in the tables that have it.
            _ if is_default(&way) => {}
            // It is shown as what it comes to.
            _ if path == "include" => {}
            // All of them, which are shown by their names.
            _ if path.ends_with("schema_site.listen") => {}
            Some(default) => assert!(
                there.contains(&&toml(default)),
                "{path}: {default} and not one of {there:?}"
            ),
            None => {
                let is_leaf = |value: &&&Toml| !value.is_table();
                let leaf = there.iter().find(is_leaf);
                let without = [
                    "address",
                    "certificates",
                    "cert",
                    "key",
                    "upstream",
                    "servers",
                    "cookie",
                    "to",
                ];
                assert!(
                    leaf.is_none()
                        || without.contains(&key.name)
                        || key.examples.contains(&"\"off\""),
                    "{path} has a default: {leaf:?}"
                );
            }
        }
    }
}

#[test]
fn whatever_is_shown_is_valid_by_the_schema() {
    for shown in shown() {
        by_schema(&shown)
            .unwrap_or_else(|why| panic!("{why} in\n{}", toml::to_string(&shown).unwrap()));
    }
}

#[test]
fn units_are_taken_as_the_parser_takes_them() {
    let files = Files::new();
    let all = all();
    let way = |wanted: &str| {
        let found = all.iter().find(|(way, _)| path(way) == wanted);
        found.unwrap_or_else(|| panic!("no {wanted}")).0.clone()
    };
    for (key, values) in [
        (
            "process.drain",
            &["250ms", "1h 30m", "1h30m", "90 s", "2days", "1.5s"][..],
        ),
        ("cache.max_object_size", &["64KiB", "1 MB", "1kB", "7B"]),
        ("upstream.schema_app.panic_below", &["25%", "12.5 %"]),
    ] {
        for value in values {
            let document = document(&way(key), Toml::String((*value).to_owned()));
            let parsed = files.check(&document).is_ok();
            assert_eq!(by_schema(&document).is_ok(), parsed, "{key} = {value}");
        }
        for value in ["", "5", "KiB", "s", "%", "-1s", "5 weird units!", "0x5B"] {
            let document = document(&way(key), Toml::String(value.to_owned()));
            assert!(by_schema(&document).is_err(), "{key} = {value}");
            assert!(files.check(&document).is_err(), "{key} = {value}");
        }
    }
}
