//! What tells two configs apart. Compared is what [`Config::show`] says of them, so that secrets stay masked, as a tree: of
//! the config that a weir runs by, others know no more than that.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::Config;
use super::value::join;

/// How a config differs from the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// By kind, then by name.
    pub changes: Vec<Change>,
    /// Keys that only a restart takes, as in `process.workers`.
    pub needs_restart: Vec<String>,
    /// What is gone; whoever is on it has `process.drain` to end.
    pub ends: Vec<String>,
}

/// What became of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub change: Kind,
    /// As in `route.site` or `upstream.app.servers."10.0.0.1:80"`.
    pub what: String,
    /// Of what was changed, those that differ; none if what differs is not shown. Else all.
    pub keys: Vec<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

/// A key and its values, `None` where it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    pub key: String,
    pub from: Option<Value>,
    pub to: Option<Value>,
}

impl Config {
    /// What [`show`](Self::show) prints, as a tree.
    pub fn tree(&self) -> Value {
        tree(self, |_, _| true)
    }
}

fn tree(config: &Config, wanted: impl Fn(&str, &str) -> bool) -> Value {
    toml::from_str(&config.show_if(wanted)).expect("what `show` writes is TOML")
}

impl Comparison {
    /// How `after` differs from `before`. What both show alike and is not the same (a token, the contents of a file, an order)
    /// is a change without keys.
    pub fn of(before: &Config, after: &Config) -> Self {
        // Ten thousand routes take a while to be shown. Most of them are the same.
        let same = Same::of(before, after);
        let differs = |kind: &str, name: &str| !same.has(kind, name);
        let mut comparison = Self::between(&tree(before, differs), &tree(after, differs));
        comparison.add_hidden(before, after, differs);
        comparison
    }

    /// The same by what is shown of both.
    pub fn between(before: &Value, after: &Value) -> Self {
        let mut comparison = Self::default();
        for kind in both(before, after) {
            let (before, after) = (before.get(kind), after.get(kind));
            if !NAMED.contains(&kind) {
                comparison.changed(kind.to_owned(), before, after);
                continue;
            }
            let empty = Value::Object(Map::new());
            let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
            for name in both(before, after) {
                comparison.compare(join(kind, name), before.get(name), after.get(name));
            }
        }
        let changed = comparison.changes.iter().flat_map(|change| {
            let keys = change.keys.iter();
            keys.map(move |key| format!("{}.{}", change.what, key.key))
        });
        comparison.needs_restart = changed
            .filter(|key| NEED_RESTART.contains(&key.as_str()))
            .collect();
        comparison
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// A line for each change, as people read it.
    pub fn lines(&self) -> Vec<String> {
        self.changes.iter().flat_map(Change::lines).collect()
    }

    /// The same, at most `most` of them and one that tells how many more there are.
    pub fn first_lines(&self, most: usize) -> Vec<String> {
        let mut lines = self.lines();
        let more = lines.len().saturating_sub(most);
        if more > 0 {
            lines.truncate(most);
            lines.push(format!("and {more} more"));
        }
        lines
    }

    fn compare(&mut self, what: String, before: Option<&Value>, after: Option<&Value>) {
        let change = match (before, after) {
            (None, Some(_)) => Kind::Added,
            (Some(_), None) => Kind::Removed,
            _ => return self.changed(what, before, after),
        };
        if change == Kind::Removed {
            self.ends.push(what.clone());
        }
        let mut keys = Vec::new();
        let empty = Value::Object(Map::new());
        let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
        different(String::new(), Some(before), Some(after), &mut keys);
        self.changes.push(Change { change, what, keys });
    }

    fn changed(&mut self, what: String, before: Option<&Value>, after: Option<&Value>) {
        let mut keys = Vec::new();
        different(String::new(), before, after, &mut keys);
        let servers = keys
            .iter()
            .position(|key| key.key == "servers" && what.starts_with("upstream."))
            .map(|place| keys.remove(place));
        let place = self.changes.len();
        if let Some(servers) = servers
            && !self.servers(&what, servers.from.as_ref(), servers.to.as_ref())
        {
            keys.push(servers);
        }
        if !keys.is_empty() {
            let change = Kind::Changed;
            self.changes.insert(place, Change { change, what, keys });
        }
    }

    /// Compares servers by their addresses. `false` if they are the same in another order, or addresses do not tell them
    /// apart.
    fn servers(&mut self, what: &str, before: Option<&Value>, after: Option<&Value>) -> bool {
        let (Some(before), Some(after)) = (by_address(before), by_address(after)) else {
            return false;
        };
        let known = self.changes.len();
        let addresses: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
        for address in addresses {
            let what = join(&format!("{what}.servers"), address);
            let (before, after) = (before.get(address), after.get(address));
            self.compare(what, before.copied(), after.copied());
        }
        self.changes.len() > known
    }

    fn add_hidden(
        &mut self,
        before: &Config,
        after: &Config,
        differs: impl Fn(&str, &str) -> bool,
    ) {
        let told: HashSet<_> = self.changes.iter().map(|change| &change.what).collect();
        let under = |what: &String| {
            let servers = format!("{what}.servers.");
            told.iter().any(|told| told.starts_with(&servers))
        };
        let singles = [
            ("process", before.process != after.process),
            ("admin", before.admin != after.admin),
            ("log", before.log != after.log),
            ("cache", before.cache != after.cache),
        ];
        let singles = singles.into_iter().filter(|(_, differs)| *differs);
        let singles = singles.map(|(what, _)| what.to_owned());
        let listeners = after
            .listeners
            .iter()
            .map(|each| ("listen", each.name.as_str()));
        let routes = after
            .routes
            .iter()
            .map(|each| ("route", each.name.as_str()));
        let upstreams = after
            .upstreams
            .iter()
            .map(|each| ("upstream", each.name.as_str()));
        let named = listeners.chain(routes).chain(upstreams);
        let named = named.filter(|(kind, name)| differs(kind, name));
        let named = named.map(|(kind, name)| join(kind, name));
        let hidden: Vec<_> = singles
            .chain(named)
            .filter(|what| !told.contains(what) && !under(what))
            .collect();
        self.changes.extend(hidden.into_iter().map(|what| Change {
            change: Kind::Changed,
            what,
            keys: Vec::new(),
        }));
    }
}

impl Change {
    fn lines(&self) -> Vec<String> {
        let value = |value: &Option<Value>| value.as_ref().map_or("-".into(), shown);
        match self.change {
            Kind::Changed if self.keys.is_empty() => vec![format!(
                "~ {}: a secret, the contents of a file, or an order",
                self.what
            )],
            Kind::Changed => {
                let line = |key: &Key| {
                    let (from, to) = (value(&key.from), value(&key.to));
                    let dot = if key.key.is_empty() { "" } else { "." };
                    format!("~ {}{dot}{}: {from} -> {to}", self.what, key.key)
                };
                self.keys.iter().map(line).collect()
            }
            Kind::Removed => vec![format!("- {}", self.what)],
            Kind::Added => {
                let said = self.keys.iter().filter(|key| says_most(key));
                let said: Vec<_> = said
                    .map(|key| format!("{} = {}", key.key, value(&key.to)))
                    .collect();
                let colon = if said.is_empty() { "" } else { ": " };
                vec![format!("+ {}{colon}{}", self.what, said.join(", "))]
            }
        }
    }
}

/// Whether a key tells what a new thing is for: what it takes, and where that goes. How it does that is left to `weir check
/// --show`.
fn says_most(key: &Key) -> bool {
    let says_something = key.to.as_ref().is_some_and(|value| match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Bool(yes) => *yes,
        _ => true,
    });
    SAY_MOST.contains(&key.key.as_str()) && says_something
}

/// The listeners, routes and upstreams that two configs have in common.
#[derive(Default)]
struct Same<'c>(HashSet<(&'static str, &'c str)>);

impl<'c> Same<'c> {
    fn of(before: &'c Config, after: &'c Config) -> Self {
        let mut same = Self::default();
        same.add("listen", &before.listeners, &after.listeners, |each| {
            each.name.as_str()
        });
        same.add("route", &before.routes, &after.routes, |each| {
            each.name.as_str()
        });
        same.add("upstream", &before.upstreams, &after.upstreams, |each| {
            each.name.as_str()
        });
        same
    }

    fn add<T: PartialEq>(
        &mut self,
        kind: &'static str,
        before: &'c [T],
        after: &'c [T],
        name: fn(&T) -> &str,
    ) {
        let known: HashMap<_, _> = before.iter().map(|each| (name(each), each)).collect();
        let same = after
            .iter()
            .filter(|each| known.get(name(each)) == Some(each));
        self.0.extend(same.map(|each| (kind, name(each))));
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        NAMED
            .into_iter()
            .any(|known| known == kind && self.0.contains(&(known, name)))
    }
}

/// The keys of both, in order.
fn both<'v>(before: &'v Value, after: &'v Value) -> Vec<&'v str> {
    let keys = |value: &'v Value| value.as_object().into_iter().flat_map(Map::keys);
    let all: BTreeSet<_> = keys(before)
        .chain(keys(after))
        .map(String::as_str)
        .collect();
    all.into_iter().collect()
}

fn different(path: String, before: Option<&Value>, after: Option<&Value>, keys: &mut Vec<Key>) {
    match (before, after) {
        (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
            for key in both(old, new) {
                different(join(&path, key), old.get(key), new.get(key), keys);
            }
        }
        (before, after) if before == after => {}
        (before, after) => keys.push(Key {
            key: path,
            from: before.cloned(),
            to: after.cloned(),
        }),
    }
}

/// `None` where two have the same: several that are masked.
fn by_address(servers: Option<&Value>) -> Option<HashMap<&str, &Value>> {
    let servers = servers.and_then(Value::as_array).into_iter().flatten();
    let mut known = HashMap::new();
    for server in servers {
        // One that is masked whole is a mask alone.
        let address = server.get("address").unwrap_or(server).as_str()?;
        if known.insert(address, server).is_some() {
            return None;
        }
    }
    Some(known)
}

/// A value as TOML writes it, cut where it is long.
fn shown(value: &Value) -> String {
    let mut text = in_full(value);
    if text.chars().count() > LONGEST_VALUE {
        text = text.chars().take(LONGEST_VALUE).collect();
        text.push('…');
    }
    text
}

fn in_full(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(in_full).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) if entries.is_empty() => "{}".into(),
        Value::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{} = {}", join("", key), in_full(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        value => value.to_string(),
    }
}

/// Tables whose keys are names.
const NAMED: [&str; 3] = ["listen", "route", "upstream"];
const NEED_RESTART: [&str; 2] = ["process.workers", "log.format"];
const SAY_MOST: [&str; 15] = [
    "address",
    "tls",
    "host",
    "path_exact",
    "path",
    "methods",
    "headers",
    "query",
    "priority",
    "upstream",
    "redirect",
    "respond",
    "servers",
    "weight",
    "backup",
];
const LONGEST_VALUE: usize = 120;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Outside, parse, parse_with};
    use super::*;

    const SITE: &str = "[listen.web]\naddress = \":8080\"\n[route.site]\nupstream = \"app\"\n\
        [upstream.app]\nservers = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n";

    fn config(text: &str) -> Config {
        parse(text, Path::new("weir.toml")).unwrap()
    }

    /// Compared as a whole and by what is shown, which must say the same.
    fn compared(before: &str, after: &str) -> Comparison {
        let (before, after) = (config(before), config(after));
        let comparison = Comparison::of(&before, &after);
        assert_eq!(
            comparison,
            Comparison::between(&before.tree(), &after.tree())
        );
        comparison
    }

    #[test]
    fn what_only_comments_tell_apart_is_the_same() {
        let other = SITE.replace("[route.site]\n", "# ours\n[route.site]\npath = \"/\"\n");
        assert!(compared(SITE, &other).is_empty());
        assert!(compared(SITE, &other).lines().is_empty());
    }

    #[test]
    fn a_key_tells_what_it_was_and_what_it_is() {
        let other = SITE.replace(
            "[upstream.app]\n",
            "[upstream.app]\nconnect_timeout = \"5s\"\n",
        );
        let comparison = compared(SITE, &other);
        assert_eq!(
            comparison.lines(),
            ["~ upstream.app.connect_timeout: \"3s\" -> \"5s\""]
        );
        assert!(comparison.ends.is_empty() && comparison.needs_restart.is_empty());
    }

    #[test]
    fn things_come_and_go_by_their_names() {
        let other = SITE.replace("route.site", "route.shop").replace(
            "listen.web]\naddress = \":8080\"",
            "listen.web]\naddress = [\":8080\", \":8081\"]",
        );
        let comparison = compared(SITE, &other);
        assert_eq!(
            comparison.lines(),
            [
                "~ listen.web.address: [\":8080\"] -> [\":8080\", \":8081\"]",
                "+ route.shop: path = [\"/\"], upstream = \"app\"",
                "- route.site",
            ]
        );
        assert_eq!(comparison.ends, ["route.site"]);
    }

    /// All that decides which requests come, and where they go; nothing that is as it would be without a word.
    #[test]
    fn what_is_new_is_told_with_what_it_takes_and_where_that_goes() {
        let more = "[route.one]\npath = \"/one\"\nmethods = [\"GET\"]\nheaders = { x-a = \"1\" }\nquery = { q = \"*\" }\n\
            priority = -3\nupstream = { app = 1, spare = 3 }\n\
            [route.two]\npath = \"/two\"\nredirect = { to = \"/one\" }\n\
            [upstream.spare]\nservers = [\"10.0.0.4:80\", { address = \"10.0.0.5:80\", backup = true }]\n";
        let lines = compared(SITE, &format!("{SITE}{more}")).lines();
        assert_eq!(
            lines[..2],
            [
                "+ route.one: headers = { x-a = \"1\" }, methods = [\"GET\"], path = [\"/one\"], priority = -3, \
                 query = { q = \"*\" }, upstream = { app = 1, spare = 3 }",
                "+ route.two: path = [\"/two\"], redirect = { status = 308, to = \"/one\" }",
            ],
        );
        let server = "\"10.0.0.2:80\", { address = \"10.0.0.3:80\", backup = true }";
        let other = SITE.replace("\"10.0.0.2:80\"", server);
        assert_eq!(
            compared(SITE, &other).lines(),
            [
                "+ upstream.app.servers.\"10.0.0.3:80\": address = \"10.0.0.3:80\", backup = true, weight = 1"
            ]
        );
    }

    #[test]
    fn servers_are_told_apart_by_their_addresses() {
        let other = SITE.replace(
            "\"10.0.0.1:80\", \"10.0.0.2:80\"",
            "\"10.0.0.3:80\", { address = \"10.0.0.2:80\", weight = 5 }",
        );
        let comparison = compared(SITE, &other);
        assert_eq!(
            comparison.lines(),
            [
                "- upstream.app.servers.\"10.0.0.1:80\"",
                "~ upstream.app.servers.\"10.0.0.2:80\".weight: 1 -> 5",
                "+ upstream.app.servers.\"10.0.0.3:80\": address = \"10.0.0.3:80\", weight = 1",
            ]
        );
        assert_eq!(comparison.ends, ["upstream.app.servers.\"10.0.0.1:80\""]);
        let order = SITE.replace(
            "\"10.0.0.1:80\", \"10.0.0.2:80\"",
            "\"10.0.0.2:80\", \"10.0.0.1:80\"",
        );
        let lines = compared(SITE, &order).lines();
        assert!(
            lines.len() == 1 && lines[0].starts_with("~ upstream.app.servers: ["),
            "{lines:?}"
        );
    }

    #[test]
    fn a_table_that_is_switched_on_is_one_change() {
        let other = SITE.replace(
            "[upstream.app]\n",
            "[upstream.app]\nhealth_check = \"/healthz\"\n",
        );
        let comparison = compared(SITE, &other);
        let lines = comparison.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("~ upstream.app.health_check: \"off\" -> { "),
            "{lines:?}"
        );
        assert!(lines[0].chars().count() < 200, "{lines:?}");
    }

    #[test]
    fn what_needs_a_restart_is_told() {
        let other = format!("[process]\nworkers = 3\n[log]\nformat = \"json\"\n{SITE}");
        let comparison = compared(SITE, &other);
        assert_eq!(comparison.needs_restart, ["log.format", "process.workers"]);
    }

    #[test]
    fn a_secret_is_not_shown_and_yet_not_missed() {
        let with = |token: &str| config(&format!("[admin]\ntoken = \"{token}\"\n{SITE}"));
        let comparison = Comparison::of(&with("hunter2"), &with("swordfish"));
        assert_eq!(
            comparison.lines(),
            ["~ admin: a secret, the contents of a file, or an order"]
        );
        let on = Comparison::of(&config(SITE), &with("hunter2"));
        assert_eq!(on.lines(), ["~ admin.token: \"off\" -> \"***\""]);
        assert!(!serde_json::to_string(&on).unwrap().contains("hunter2"));
    }

    #[test]
    fn servers_from_the_environment_are_not_shown_and_yet_not_missed() {
        let with = |servers: &str| {
            let text = SITE.replace("\"10.0.0.1:80\", \"10.0.0.2:80\"", servers);
            let variable = |name: &str| Some(format!("10.9.9.{}", name.len()).into());
            let outside = Outside {
                variable: &variable,
                now: std::time::SystemTime::UNIX_EPOCH,
            };
            parse_with(&text, Path::new("weir.toml"), &outside).unwrap()
        };
        let lines = |before: &str, after: &str| {
            let (before, after) = (with(before), with(after));
            let shown = Comparison::between(&before.tree(), &after.tree());
            let lines = [Comparison::of(&before, &after), shown].map(|both| both.lines());
            assert!(!format!("{lines:?}").contains("9.9"), "{lines:?}");
            lines
        };
        let [all, shown] = lines("\"${A}:80\"", "\"${AA}:80\"");
        assert_eq!(
            all,
            ["~ upstream.app: a secret, the contents of a file, or an order"]
        );
        assert!(shown.is_empty());
        let [all, shown] = lines("\"${A}:80\"", "\"${A}:80\", \"10.0.0.1:80\"");
        assert_eq!(all, shown);
        assert!(
            all.len() == 1 && all[0].starts_with("+ upstream.app.servers.\"10.0.0.1:80\""),
            "{all:?}"
        );
        // Two of them look the same.
        let [all, shown] = lines("\"${A}:80\"", "\"${A}:80\", \"${AA}:80\"");
        assert_eq!(all, shown);
        assert_eq!(
            all,
            ["~ upstream.app.servers: [\"***\"] -> [\"***\", \"***\"]"]
        );
    }

    #[test]
    fn many_lines_are_cut() {
        let routes: String = (0..50)
            .map(|number| {
                format!("[route.r{number:02}]\npath = \"/{number}\"\nupstream = \"app\"\n")
            })
            .collect();
        let comparison = compared(SITE, &format!("{SITE}{routes}"));
        let lines = comparison.first_lines(13);
        assert_eq!(lines.len(), 14);
        assert_eq!(lines[13], "and 37 more");
        assert_eq!(comparison.first_lines(50).len(), 50);
    }

    #[test]
    fn programs_get_words() {
        let other = SITE.replace(
            "[upstream.app]\n",
            "[upstream.app]\nconnect_timeout = \"5s\"\n",
        );
        let json = serde_json::to_value(compared(SITE, &other)).unwrap();
        assert_eq!(
            json["changes"],
            serde_json::json!([{ "change": "changed", "what": "upstream.app",
                "keys": [{ "key": "connect_timeout", "from": "3s", "to": "5s" }] }])
        );
    }

    /// A weir of another version may know other sections.
    #[test]
    fn sections_that_one_side_lacks_are_told() {
        let before = serde_json::json!({ "log": { "level": "info" } });
        let after = serde_json::json!({ "log": { "level": "info" }, "news": { "a": 1 } });
        let lines = Comparison::between(&before, &after).lines();
        assert_eq!(lines, ["~ news: - -> { a = 1 }"]);
        assert!(Comparison::between(&Value::Null, &Value::Null).is_empty());
    }
}
