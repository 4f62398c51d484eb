//! All routes of one listener, arranged so that finding one does not depend on how many there are.
//!
//! Host and path are looked up in hash maps, keyed at random because clients choose what is looked up. How often is
//! bounded by what is configured, not by what is asked: a path is probed no deeper than the deepest prefix, a host no
//! deeper than the deepest suffix. Only routes for the very same host and path are tried one after another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::Wanted;
use super::matcher::{Matcher, Unmet};
use crate::config::{HostPattern, Route};

type Map<V> = HashMap<Box<str>, V, RandomState>;

/// A route for the request's host and path.
#[derive(Debug)]
pub(crate) struct Weighed<'t, R> {
    pub(crate) route: &'t R,
    pub(crate) host: ByHost<'t>,
    pub(crate) path: ByPath<'t>,
    pub(crate) conditions: usize,
    pub(crate) priority: i64,
    /// Those of its conditions that the request does not meet.
    pub(crate) unmet: Vec<Unmet<'t>>,
}

/// What of a route is for the request's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByHost<'h> {
    Exact,
    /// By what follows `*.`.
    Suffix(&'h str),
    Any,
}

/// What of a route is for the request's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByPath<'p> {
    Exact,
    /// Without its slash at the end: "/" is empty.
    Prefix(&'p str),
}

/// The routes of one listener; `R` is what the caller knows a route by.
#[derive(Debug)]
pub(crate) struct Table<R> {
    exact: Map<Group<R>>,
    /// By what follows `*.`.
    suffixes: Map<Group<R>>,
    /// The labels of the deepest suffix.
    deepest_suffix: usize,
    any: Group<R>,
}

/// The routes for one host pattern.
#[derive(Debug)]
struct Group<R> {
    exact: Map<Entries<R>>,
    /// All prefixes but `/`.
    prefixes: Map<Entries<R>>,
    /// The segments of the deepest prefix.
    deepest: usize,
    /// The bytes of the longest prefix.
    longest: usize,
    /// The prefix `/`, which needs no look-up.
    root: Entries<R>,
}

/// Routes that differ in their conditions only, the best first.
type Entries<R> = Vec<Entry<R>>;

#[derive(Debug)]
struct Entry<R> {
    /// Shared by the entries of a route with several hosts or paths.
    matcher: Arc<Matcher>,
    priority: i64,
    route: R,
}

impl<R: Clone> Table<R> {
    /// Arranges the routes. Of two that the configuration check would call ambiguous, the first counts.
    pub(crate) fn build<'c>(routes: impl IntoIterator<Item = (&'c Route, R)>) -> Self {
        let mut table = Self::default();
        for (config, route) in routes {
            let matcher = Arc::new(Matcher::new(config));
            let entry = || Entry {
                matcher: Arc::clone(&matcher),
                priority: config.priority,
                route: route.clone(),
            };
            if config.hosts.is_empty() {
                table.any.add(config, entry);
            }
            for host in &config.hosts {
                table.group(host).add(config, entry);
            }
        }
        for group in table
            .exact
            .values_mut()
            .chain(table.suffixes.values_mut())
            .chain([&mut table.any])
        {
            group.sort();
        }
        table
    }

    fn group(&mut self, host: &HostPattern) -> &mut Group<R> {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            HostPattern::Suffix(suffix) => {
                self.deepest_suffix = self.deepest_suffix.max(suffix.split('.').count());
                self.suffixes.entry(suffix.as_str().into()).or_default()
            }
        }
    }
}

impl<R> Table<R> {
    /// The route that the request takes: of those for its host and path the best whose conditions it meets.
    pub(crate) fn find(&self, wanted: &Wanted<'_>) -> Option<&R> {
        self.walk(wanted.host, |_, group| {
            group.walk(wanted.path, |_, entries| first(entries, wanted))
        })
    }

    /// All routes for the request's host and path, in the order in which [`find`](Self::find) tries them, each with what
    /// it is compared by. A route with several hosts or paths may be there several times.
    pub(crate) fn weigh<'t>(&'t self, wanted: &Wanted<'t>) -> Vec<Weighed<'t, R>> {
        let mut all = Vec::new();
        let _: Option<()> = self.walk(wanted.host, |host, group| {
            group.walk(wanted.path, |path, entries| {
                all.extend(entries.iter().map(|entry| Weighed {
                    route: &entry.route,
                    host,
                    path,
                    conditions: entry.matcher.conditions(),
                    priority: entry.priority,
                    unmet: entry.matcher.unmet(wanted),
                }));
                None
            })
        });
        all
    }

    /// All routes for a host, whatever their paths.
    pub(crate) fn for_host(&self, host: &str) -> Vec<&R> {
        let mut all = Vec::new();
        let _: Option<()> = self.walk(host, |_, group| {
            all.extend(group.entries().map(|entry| &entry.route));
            None
        });
        all
    }

    /// Goes through the routes for the host, the most exact first, until `visit` has found something. Plain loops: as a
    /// chain of iterators this cost twice as much.
    #[inline]
    fn walk<'t, 'h, T>(
        &'t self,
        host: &'h str,
        mut visit: impl FnMut(ByHost<'h>, &'t Group<R>) -> Option<T>,
    ) -> Option<T> {
        if let Some(group) = self.exact.get(host)
            && let Some(found) = visit(ByHost::Exact, group)
        {
            return Some(found);
        }
        if self.deepest_suffix > 0 {
            // The longest suffix that could be configured begins after the dot that is `deepest_suffix` dots from the end.
            let bytes = host.bytes().enumerate().rev();
            let dots = bytes
                .filter(|&(_, byte)| byte == b'.')
                .map(|(dot, _)| dot + 1);
            let cuts: SmallVec<[usize; 8]> = dots.take(self.deepest_suffix).collect();
            for suffix in cuts.iter().rev().filter_map(|&cut| host.get(cut..)) {
                if let Some(group) = self.suffixes.get(suffix)
                    && let Some(found) = visit(ByHost::Suffix(suffix), group)
                {
                    return Some(found);
                }
            }
        }
        visit(ByHost::Any, &self.any)
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            suffixes: Map::default(),
            deepest_suffix: 0,
            any: Group::default(),
        }
    }
}

impl<R> Group<R> {
    fn add(&mut self, config: &Route, entry: impl Fn() -> Entry<R>) {
        for path in &config.paths_exact {
            self.exact
                .entry(path.as_str().into())
                .or_default()
                .push(entry());
        }
        for prefix in &config.paths {
            if prefix.is_empty() {
                self.root.push(entry());
                continue;
            }
            self.deepest = self.deepest.max(prefix.matches('/').count());
            self.longest = self.longest.max(prefix.len());
            self.prefixes
                .entry(prefix.as_str().into())
                .or_default()
                .push(entry());
        }
    }

    fn sort(&mut self) {
        for entries in self
            .exact
            .values_mut()
            .chain(self.prefixes.values_mut())
            .chain([&mut self.root])
        {
            // Stable, so that the first of equals stays the first.
            entries.sort_by_key(|entry| {
                (Reverse(entry.matcher.conditions()), Reverse(entry.priority))
            });
            entries.shrink_to_fit();
        }
    }

    /// Goes through the routes for the path, the most exact first, until `visit` has found something.
    #[inline]
    fn walk<'t, 'p, T>(
        &'t self,
        path: &'p str,
        mut visit: impl FnMut(ByPath<'p>, &'t [Entry<R>]) -> Option<T>,
    ) -> Option<T> {
        if let Some(entries) = self.exact.get(path)
            && let Some(found) = visit(ByPath::Exact, entries)
        {
            return Some(found);
        }
        if self.deepest > 0 {
            for prefix in self
                .cuts(path)
                .iter()
                .rev()
                .filter_map(|&cut| path.get(..cut))
            {
                if let Some(entries) = self.prefixes.get(prefix)
                    && let Some(found) = visit(ByPath::Prefix(prefix), entries)
                {
                    return Some(found);
                }
            }
        }
        visit(ByPath::Prefix(""), &self.root)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<R>> {
        let maps = self.exact.values().chain(self.prefixes.values());
        maps.chain([&self.root]).flatten()
    }

    /// Where a configured prefix of the path could end, the shortest first: at a slash or at the end, within both the
    /// depth and the length of what is configured, so that a long path of many slashes is not worth sending.
    fn cuts(&self, path: &str) -> SmallVec<[usize; 8]> {
        let reach = path
            .as_bytes()
            .get(..=self.longest)
            .unwrap_or(path.as_bytes());
        let slashes = reach
            .iter()
            .enumerate()
            .skip(1)
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(at, _)| at);
        let end = (path.len() <= self.longest).then_some(path.len());
        slashes.chain(end).take(self.deepest).collect()
    }
}

fn first<'t, R>(entries: &'t [Entry<R>], wanted: &Wanted<'_>) -> Option<&'t R> {
    entries
        .iter()
        .find(|entry| entry.matcher.matches(wanted))
        .map(|entry| &entry.route)
}

impl<R> Default for Group<R> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            prefixes: Map::default(),
            deepest: 0,
            longest: 0,
            root: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, StatusCode};
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Action, FieldEdits, HeaderCondition, QueryCondition};

    fn route(hosts: &[&str], paths: &[&str]) -> Route {
        let pattern = |host: &&str| match host.strip_prefix("*.") {
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact((*host).to_owned()),
        };
        let written = |exact: bool| {
            let chosen = paths
                .iter()
                .filter(move |path| path.starts_with('=') == exact);
            chosen
                .map(|path| path.trim_start_matches('=').to_owned())
                .collect()
        };
        Route {
            name: "route".into(),
            listen: vec!["web".into()],
            hosts: hosts.iter().map(pattern).collect(),
            paths: written(false),
            paths_exact: written(true),
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            priority: 0,
            action: Action::Respond {
                status: StatusCode::OK,
                body: String::new(),
                content_type: HeaderValue::from_static("text/plain"),
            },
            strip_prefix: None,
            add_prefix: None,
            request_headers: FieldEdits::default(),
            response_headers: FieldEdits::default(),
            timeout: None,
            max_body: None,
            buffer_request: None,
            cache: None,
            compress: None,
        }
    }

    fn table(routes: &[Route]) -> Table<usize> {
        Table::build(
            routes
                .iter()
                .enumerate()
                .map(|(index, route)| (route, index)),
        )
    }

    fn find(table: &Table<usize>, host: &str, path: &str) -> Option<usize> {
        table
            .find(&Wanted {
                host,
                path,
                method: &Method::GET,
                headers: &HeaderMap::new(),
                query: None,
            })
            .copied()
    }

    #[test]
    fn an_empty_table_has_no_route() {
        assert_eq!(find(&table(&[]), "a.com", "/"), None);
    }

    #[test]
    fn exact_host_beats_longest_suffix_beats_any() {
        let table = table(&[
            route(&[], &[""]),
            route(&["*.com"], &[""]),
            route(&["*.a.com"], &[""]),
            route(&["x.a.com"], &[""]),
        ]);
        assert_eq!(find(&table, "x.a.com", "/"), Some(3));
        assert_eq!(find(&table, "y.a.com", "/"), Some(2));
        assert_eq!(find(&table, "deep.y.x.a.com", "/"), Some(2));
        assert_eq!(
            find(&table, "a.com", "/"),
            Some(1),
            "`*.a.com` is not for `a.com`"
        );
        assert_eq!(find(&table, "xa.com", "/"), Some(1));
        for other in ["com", "a.org", "", "[::1]", "localhost"] {
            assert_eq!(find(&table, other, "/"), Some(0), "{other}");
        }
    }

    #[test]
    fn exact_path_beats_longest_prefix_of_whole_segments() {
        let table = table(&[
            route(&[], &[""]),
            route(&[], &["/api"]),
            route(&[], &["/api/v1/x"]),
            route(&[], &["=/api/v1"]),
        ]);
        for (path, expected) in [
            ("/", 0),
            ("/apix", 0),
            ("/ap", 0),
            ("//api", 0),
            ("/api", 1),
            ("/api/", 1),
            ("/api//v1/x", 1),
            ("/api/v1", 3),
            ("/api/v1/", 1),
            ("/api/v1/xy", 1),
            ("/api/v1/x", 2),
            ("/api/v1/x/", 2),
            ("/api/v1/x/y/z", 2),
        ] {
            assert_eq!(find(&table, "", path), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_more_specific_host_beats_a_more_specific_path() {
        let table = table(&[route(&[], &["=/api/v1"]), route(&["*.a.com"], &[""])]);
        assert_eq!(find(&table, "x.a.com", "/api/v1"), Some(1));
        assert_eq!(find(&table, "a.com", "/api/v1"), Some(0));
        assert_eq!(find(&table, "a.com", "/api"), None);
    }

    #[test]
    fn more_conditions_come_first_then_priority() {
        let one = |priority| Route {
            methods: vec![Method::GET, Method::HEAD],
            priority,
            ..route(&[], &["/a"])
        };
        let query = vec![QueryCondition {
            name: "q".into(),
            value: None,
        }];
        let two = Route { query, ..one(-9) };
        let table = table(&[
            one(1),
            one(7),
            two,
            Route {
                priority: 99,
                ..route(&[], &["/a"])
            },
        ]);
        let found = |method: &Method, query| {
            table
                .find(&Wanted {
                    host: "",
                    path: "/a",
                    method,
                    headers: &HeaderMap::new(),
                    query,
                })
                .copied()
        };
        assert_eq!(found(&Method::GET, Some("q")), Some(2));
        assert_eq!(found(&Method::GET, None), Some(1));
        assert_eq!(found(&Method::PUT, Some("q")), Some(3));
    }

    #[test]
    fn a_route_whose_conditions_fail_leaves_the_request_to_the_next_best() {
        let post = |route| Route {
            methods: vec![Method::POST],
            ..route
        };
        let table = table(&[
            route(&[], &["/a"]),
            post(route(&["x.a.com"], &["=/a/b"])),
            post(route(&["x.a.com"], &["/a"])),
            post(route(&["*.a.com"], &[""])),
        ]);
        assert_eq!(find(&table, "x.a.com", "/a/b"), Some(0));
        assert_eq!(find(&table, "x.a.com", "/b"), None);
    }

    #[test]
    fn a_route_stands_for_each_of_its_hosts_and_paths() {
        let table = table(&[route(&["a.com", "*.b.com"], &["/x", "=/y"])]);
        for (host, path) in [
            ("a.com", "/x/1"),
            ("a.com", "/y"),
            ("c.b.com", "/x"),
            ("c.b.com", "/y"),
        ] {
            assert_eq!(find(&table, host, path), Some(0), "{host}{path}");
        }
        assert_eq!(find(&table, "a.com", "/y/1"), None);
    }

    #[test]
    fn a_path_is_probed_no_further_than_what_is_configured() {
        let table = table(&[
            route(&[], &["/a/b", "/long-long-long"]),
            route(&["*.a.com"], &[""]),
        ]);
        let slashes = "/".repeat(8192);
        assert!(table.any.cuts(&slashes).len() <= 2);
        assert_eq!(table.any.cuts("/a/b/c/d/e").as_slice(), [2, 4]);
        assert_eq!(table.any.cuts("/a").as_slice(), [2]);
        assert_eq!(
            table.any.cuts(&format!("/{}", "x".repeat(8191))).as_slice(),
            [0_usize; 0]
        );
        assert_eq!(find(&table, &"a.".repeat(4000), &slashes), None);
    }

    #[test]
    fn ten_thousand_routes_are_all_found() {
        let routes: Vec<Route> = (0..10_000)
            .map(|n| match n % 4 {
                0 => route(&[&format!("h{n}.example.com")], &["/api", "=/x"]),
                1 => route(&[&format!("*.s{n}.example.com")], &[""]),
                2 => route(&[], &[&format!("/p{n}/a")]),
                _ => route(&["shared.example.com"], &[&format!("=/p{n}")]),
            })
            .collect();
        let table = table(&routes);
        for n in 0..10_000 {
            let found = match n % 4 {
                0 => find(&table, &format!("h{n}.example.com"), "/api/x"),
                1 => find(&table, &format!("any.s{n}.example.com"), "/x/y"),
                2 => find(&table, "other", &format!("/p{n}/a/b/c")),
                _ => find(&table, "shared.example.com", &format!("/p{n}")),
            };
            assert_eq!(found, Some(n));
        }
        assert_eq!(find(&table, "shared.example.com", "/absent"), None);
    }

    /// The definition: look at all routes that match, take the best.
    fn reference(routes: &[Route], wanted: &Wanted<'_>) -> Option<usize> {
        let host_rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => (name == wanted.host).then_some(usize::MAX),
            HostPattern::Suffix(suffix) => wanted
                .host
                .ends_with(&format!(".{suffix}"))
                .then_some(suffix.len()),
        };
        let path_rank = |route: &Route| {
            let exact = route
                .paths_exact
                .iter()
                .any(|path| path == wanted.path)
                .then_some(usize::MAX);
            let prefixes = route.paths.iter().filter(|prefix| {
                wanted.path == **prefix || wanted.path.starts_with(&format!("{prefix}/"))
            });
            exact.or(prefixes.map(String::len).max())
        };
        let mut best = None;
        for (index, route) in routes.iter().enumerate() {
            let host = if route.hosts.is_empty() {
                Some(0)
            } else {
                route.hosts.iter().filter_map(host_rank).max()
            };
            let (Some(host), Some(path)) = (host, path_rank(route)) else {
                continue;
            };
            let parameters: Vec<&str> = wanted.query.unwrap_or_default().split('&').collect();
            let holds = (route.methods.is_empty() || route.methods.contains(wanted.method))
                && route.headers.iter().all(|condition| {
                    let value = wanted.headers.get(&condition.name);
                    value.is_some_and(|value| {
                        condition
                            .value
                            .as_ref()
                            .is_none_or(|wanted| value == wanted)
                    })
                })
                && route.query.iter().all(|condition| match &condition.value {
                    Some(value) => parameters.contains(&&*format!("{}={value}", condition.name)),
                    None => parameters
                        .iter()
                        .any(|parameter| parameter.split('=').next() == Some(&condition.name)),
                });
            let conditions =
                usize::from(!route.methods.is_empty()) + route.headers.len() + route.query.len();
            let rank = (host, path, conditions, route.priority, Reverse(index));
            if holds && best.is_none_or(|best| rank > best) {
                best = Some(rank);
            }
        }
        best.map(|(.., Reverse(index))| index)
    }

    fn routes() -> impl Strategy<Value = Route> {
        let hosts = ["a.com", "b.a.com", "*.com", "*.a.com", "*.b.a.com", "com"];
        let paths = [
            "", "/a", "/a/b", "/a/b/a", "/b", "/a//b", "=/", "=/a", "=/a/b", "=/a/", "=/b/a",
        ];
        let hosts = prop::collection::vec(prop::sample::select(hosts.to_vec()), 0..3);
        let paths = prop::collection::vec(prop::sample::select(paths.to_vec()), 1..3);
        let conditions = (
            0..3_usize,
            prop::option::of(0..3_usize),
            prop::option::of(0..3_usize),
            -1..2_i64,
        );
        (hosts, paths, conditions).prop_map(|(hosts, paths, (methods, header, query, priority))| {
            let value = |n: usize| (n > 0).then(|| n.to_string());
            let header = header.map(|n| HeaderCondition {
                name: http::header::ACCEPT,
                value: value(n),
            });
            let query = query.map(|n| QueryCondition {
                name: "q".to_owned(),
                value: value(n),
            });
            Route {
                methods: [Method::GET, Method::POST]
                    .into_iter()
                    .take(methods)
                    .collect(),
                headers: header.into_iter().collect(),
                query: query.into_iter().collect(),
                priority,
                ..route(&hosts, &paths)
            }
        })
    }

    #[test]
    fn routes_are_weighed_in_the_order_in_which_they_are_tried() {
        let mut special = route(&["*.a.com"], &["/x"]);
        special.methods.push(Method::PUT);
        special.priority = 3;
        let table = table(&[
            route(&[], &["", "=/x/y"]),
            route(&["*.a.com"], &["/x", "/else"]),
            special,
            route(&["b.a.com"], &["/else"]),
        ]);
        let headers = HeaderMap::new();
        let weighed = table.weigh(&Wanted {
            host: "b.a.com",
            path: "/x/y",
            method: &Method::GET,
            headers: &headers,
            query: None,
        });
        let below = ByHost::Suffix("a.com");
        let told: Vec<_> = weighed
            .iter()
            .map(|one| {
                (
                    *one.route,
                    one.host,
                    one.path,
                    one.priority,
                    one.unmet.len(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (2, below, ByPath::Prefix("/x"), 3, 1),
                (1, below, ByPath::Prefix("/x"), 0, 0),
                (0, ByHost::Any, ByPath::Exact, 0, 0),
                (0, ByHost::Any, ByPath::Prefix(""), 0, 0),
            ]
        );
        assert_eq!(weighed[0].conditions, 1);
        let mut for_host: Vec<_> = table.for_host("b.a.com").into_iter().copied().collect();
        for_host.sort_unstable();
        for_host.dedup();
        assert_eq!(for_host, [0, 1, 2, 3]);
        assert_eq!(table.for_host("c.org"), [&0, &0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn it_equals_the_definition(
            routes in prop::collection::vec(routes(), 0..24),
            host in "(|com|a\\.com|b\\.a\\.com|(a\\.|b\\.|c\\.){1,3}com)",
            path in "(/|(/a|/b|/|/ab){1,5})",
            post in any::<bool>(),
            header in prop::option::of("[12]"),
            query in prop::option::of("(q=[12]|q|p=1&q=1|)"),
        ) {
            let method = if post { Method::POST } else { Method::GET };
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(http::header::ACCEPT, HeaderValue::from_str(&header).unwrap());
            }
            let wanted = Wanted { host: &host, path: &path, method: &method, headers: &headers, query: query.as_deref() };
            let table = table(&routes);
            let found = table.find(&wanted).copied();
            prop_assert_eq!(found, reference(&routes, &wanted));
            // What is told of the way there is the way.
            let weighed = table.weigh(&wanted);
            let first = weighed.iter().find(|one| one.unmet.is_empty());
            prop_assert_eq!(first.map(|one| *one.route), found);
            let for_host = table.for_host(&host);
            prop_assert!(weighed.iter().all(|one| for_host.contains(&one.route)));
        }
    }
}
