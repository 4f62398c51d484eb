//! Routes that match the same requests with the same precedence.
//!
//! A route stands once for each of its hosts and paths. Two that share such a place and a listener, with as many
//! conditions and the same priority, are ambiguous if one request can satisfy the conditions of both.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use http::Method;

use super::problems::spend;
use super::routes::RouteRead;
use super::value::{Name, plain};
use super::{HostPattern, Route};

/// Complains about each route that is ambiguous with an earlier one, once.
pub(super) fn check(routes: &[RouteRead<'_>]) {
    let mut places: HashMap<Place<'_>, Group<'_>> = HashMap::new();
    let steps = Cell::new(MOST_STEPS);
    for read in routes.iter().filter(|read| read.sound) {
        let (route, name) = (&read.route, &read.name);
        let mut rival = None;
        for place in places_of(route) {
            if let Some(group) = places.get_mut(&place) {
                rival = rival.or_else(|| {
                    let other = group.rival(route, &steps)?;
                    let request = request(&other.route, route, &place);
                    Some((other, place.to_string(), request))
                });
                group.add(read);
            } else {
                places.entry(place).or_default().add(read);
            }
        }
        if steps.get() == 0 {
            let message = "there are too many routes for the same hosts and paths to tell whether any two take the same requests";
            let help = "give them other paths, or let them differ in the value of one field";
            return name.problem("too-many", message, Some(help.into()));
        }
        if let Some((other, place, request)) = rival {
            let first = name.problems.place(&other.name.span);
            let (place, both) = match read.hidden || other.hidden {
                true => (
                    String::new(),
                    "both would take the same requests".to_owned(),
                ),
                false => (format!(" ({place})"), format!("both would take {request}")),
            };
            let message = format!(
                "`{}` matches the same requests as `{}` at {first}{place} with the same precedence",
                plain(route.name.as_str()),
                plain(other.route.name.as_str())
            );
            let help = format!("{both}; give one of them a higher `priority` or another condition");
            name.problem("ambiguous-routes", message, Some(help));
        }
    }
}

/// Warns of each route that no request ever takes, since others with the same hosts, paths and conditions come first by
/// their `priority`.
pub(super) fn warn_of_shadows(routes: &[RouteRead<'_>]) {
    let mut places: HashMap<Spot<'_>, Vec<Known<'_>>> = HashMap::new();
    for RouteRead { route, name, .. } in routes {
        for spot in spots_of(route) {
            let there = places.entry(spot).or_default();
            if there.len() < MOST_COMPARED {
                there.push((route, name));
            }
        }
    }
    let steps = Cell::new(MOST_STEPS);
    for RouteRead { route, name, .. } in routes {
        let spots = spots_of(route);
        let shadows = spots.iter().map_while(|spot| {
            let mut there = places.get(spot)?.iter();
            there.find(|(other, _)| {
                other.priority > route.priority
                    && spend(&steps, effort(other, route))
                    && takes_first(other, route)
            })
        });
        let shadows: Vec<_> = shadows.collect();
        if let Some((other, first)) = shadows.first()
            && shadows.len() == spots.len()
        {
            let others = shadows.iter().any(|(one, _)| one.name != other.name);
            let message = format!(
                "no request ever takes this route: `{}` at {}{} a higher `priority` and takes all of its requests",
                plain(other.name.as_str()),
                name.problems.place(&first.span),
                if others { ", with others, has" } else { " has" },
            );
            let help = "give it another condition or a higher `priority`, or leave it out";
            name.warn("shadowed-route", message, Some(help.into()));
        }
    }
}

/// A listener, a host, and a path there.
#[derive(PartialEq, Eq, Hash)]
struct Spot<'r> {
    listen: &'r str,
    host: Option<&'r HostPattern>,
    exact: bool,
    path: &'r str,
    conditions: usize,
}

fn spots_of(route: &Route) -> Vec<Spot<'_>> {
    let mut spots = Vec::new();
    for place in places_of(route) {
        spots.extend(route.listen.iter().map(|name| Spot {
            listen: name.as_str(),
            host: place.host,
            exact: place.exact,
            path: place.path,
            conditions: place.conditions,
        }));
    }
    spots
}

/// Whether `first`, with as many conditions at the same spot and a higher priority, gets every request that `route` would.
fn takes_first(first: &Route, route: &Route) -> bool {
    let methods = first.methods.is_empty()
        || !route.methods.is_empty()
            && route
                .methods
                .iter()
                .all(|method| first.methods.contains(method));
    let met = |wanted: Option<&str>, given: Option<&str>| wanted.is_none() || wanted == given;
    let fields = first.headers.iter().all(|wanted| {
        let mut given = route.headers.iter();
        given.any(|given| {
            given.name == wanted.name && met(wanted.value.as_deref(), given.value.as_deref())
        })
    });
    let query = first.query.iter().all(|wanted| {
        let mut given = route.query.iter();
        given.any(|given| {
            given.name == wanted.name && met(wanted.value.as_deref(), given.value.as_deref())
        })
    });
    methods && fields && query
}

/// One that satisfies both, in words.
fn request(one: &Route, other: &Route, place: &Place<'_>) -> String {
    let allows =
        |route: &Route, method: &Method| route.methods.is_empty() || route.methods.contains(method);
    let methods = [&one.methods, &other.methods];
    let mut methods = methods.into_iter().flatten();
    let method = methods.find(|&method| allows(one, method) && allows(other, method));
    let host = match place.host {
        None => "example.com".to_owned(),
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Suffix(parent)) => format!("www.{parent}"),
    };
    let path = if place.path.is_empty() {
        "/"
    } else {
        place.path
    };
    // The value that one of them asks for, where the other takes any.
    let mut query = BTreeMap::new();
    for condition in one.query.iter().chain(&other.query) {
        let value = query.entry(condition.name.as_str()).or_insert("1");
        *value = condition.value.as_deref().unwrap_or(*value);
    }
    let query: Vec<_> = query
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let mut fields = BTreeMap::new();
    for condition in one.headers.iter().chain(&other.headers) {
        let value = fields.entry(condition.name.as_str()).or_insert("1");
        *value = condition.value.as_deref().unwrap_or(*value);
    }
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| format!("`{name}: {}`", plain(value)))
        .collect();
    let with = if fields.is_empty() { "" } else { " with " };
    let method = method.map_or("GET", |method| method.as_str());
    let target = plain(&format!("{host}{path}{mark}{}", query.join("&")));
    format!("`{method} {target}`{with}{}", fields.join(" and "))
}

/// What two routes must share to be ambiguous, besides a listener.
#[derive(PartialEq, Eq, Hash)]
struct Place<'r> {
    host: Option<&'r HostPattern>,
    exact: bool,
    path: &'r str,
    conditions: usize,
    priority: i64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            None => f.write_str("any host")?,
            Some(HostPattern::Exact(host)) => write!(f, "host `{host}`")?,
            Some(HostPattern::Suffix(host)) => write!(f, "host `*.{host}`")?,
        }
        let kind = if self.exact { "exact path" } else { "path" };
        let path = if self.path.is_empty() { "/" } else { self.path };
        write!(f, ", {kind} `{path}`")
    }
}

fn places_of(route: &Route) -> Vec<Place<'_>> {
    let (conditions, priority) = (conditions(route), route.priority);
    let mut hosts: Vec<_> = route.hosts.iter().map(Some).collect();
    if hosts.is_empty() {
        hosts.push(None);
    }
    let prefixes = route.paths.iter().map(|path| (false, path));
    let exact = route.paths_exact.iter().map(|path| (true, path));
    let paths: Vec<_> = prefixes.chain(exact).collect();
    let at = |host| {
        paths.iter().map(move |(exact, path)| Place {
            host,
            exact: *exact,
            path,
            conditions,
            priority,
        })
    };
    hosts.into_iter().flat_map(at).collect()
}

/// How many conditions a request must meet: methods count as one, each field and each parameter as one.
fn conditions(route: &Route) -> usize {
    usize::from(!route.methods.is_empty()) + route.headers.len() + route.query.len()
}

/// A route and where it is named.
type Known<'r> = (&'r Route, &'r Name<'r>);

/// The routes of one place, by the first condition that asks for one value. Routes that ask the same thing for different
/// values never meet, so thousands told apart by one field are not compared pair by pair.
#[derive(Default)]
struct Group<'r> {
    /// The first, while it is alone: at most places there is no other.
    only: Option<&'r RouteRead<'r>>,
    told_apart: BTreeMap<Condition<'r>, BTreeMap<&'r str, Vec<&'r RouteRead<'r>>>>,
}

/// A field, or else a parameter of the query.
type Condition<'r> = (Kind, &'r str);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Field,
    Parameter,
    #[default]
    Nothing,
}

impl<'r> Group<'r> {
    fn add(&mut self, read: &'r RouteRead<'r>) {
        match self.only.take() {
            None if self.told_apart.is_empty() => self.only = Some(read),
            only => only
                .into_iter()
                .chain([read])
                .for_each(|read| self.tell_apart(read)),
        }
    }

    fn tell_apart(&mut self, read: &'r RouteRead<'r>) {
        let (by, value) = first_condition(&read.route);
        self.told_apart
            .entry(by)
            .or_default()
            .entry(value)
            .or_default()
            .push(read);
    }

    /// One that takes a request that `route` takes as well. None if there is none, or no steps are left to find it.
    fn rival(&self, route: &Route, steps: &Cell<usize>) -> Option<&'r RouteRead<'r>> {
        let (by, value) = first_condition(route);
        let same = self
            .told_apart
            .get(&by)
            .and_then(|values| values.get(value))
            .into_iter();
        let others = self
            .told_apart
            .iter()
            .filter(|(other, _)| **other != by)
            .flat_map(|(_, values)| values.values());
        let mut all = self
            .only
            .into_iter()
            .chain(same.chain(others).flatten().copied());
        all.find(|other| spend(steps, effort(route, &other.route)) && meet(route, &other.route))
    }
}

/// Name and value of the first field, by name, that must have one value, or else parameter; empty if there is none.
fn first_condition(route: &Route) -> (Condition<'_>, &str) {
    let fields = route.headers.iter().filter_map(|field| {
        let value = field.value.as_deref()?;
        Some(((Kind::Field, field.name.as_str()), value))
    });
    let parameters = route.query.iter().filter_map(|parameter| {
        let value = parameter.value.as_deref()?;
        Some(((Kind::Parameter, parameter.name.as_str()), value))
    });
    fields.chain(parameters).min().unwrap_or_default()
}

/// How many steps it takes to hold two routes against each other.
fn effort(one: &Route, other: &Route) -> usize {
    1 + one.methods.len() * other.methods.len()
        + one.headers.len() * other.headers.len()
        + one.query.len() * other.query.len()
        + one.listen.len() * other.listen.len()
}

/// Whether one request can satisfy both.
fn meet(one: &Route, other: &Route) -> bool {
    let methods = one.methods.is_empty()
        || other.methods.is_empty()
        || one
            .methods
            .iter()
            .any(|method| other.methods.contains(method));
    let fields = one.headers.iter().all(|condition| {
        let same = other
            .headers
            .iter()
            .filter(|other| other.name == condition.name);
        same.into_iter()
            .all(|other| agree(condition.value.as_deref(), other.value.as_deref()))
    });
    let query = one.query.iter().all(|condition| {
        let same = other
            .query
            .iter()
            .filter(|other| other.name == condition.name);
        same.into_iter()
            .all(|other| agree(condition.value.as_deref(), other.value.as_deref()))
    });
    let listeners = || one.listen.iter().any(|name| other.listen.contains(name));
    methods && fields && query && listeners()
}

fn agree(one: Option<&str>, other: Option<&str>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// About a second. Ten thousand routes at one place that are told apart by their methods alone take as many.
const MOST_STEPS: usize = 100_000_000;
/// Of the routes at one spot; where there are thousands, told apart by a field, the first will do.
const MOST_COMPARED: usize = 200;
