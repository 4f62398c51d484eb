//! What weir would do with a request, told without doing it: no socket, no server, no clock to wait for. Each decision is
//! made by the code that makes it for clients; what is here puts the answers into words.

mod caching;
mod hidden;
mod servers;
mod told;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;
use http_body::Body as _;

pub(crate) use self::caching::Given;
use self::hidden::{condition, hide_in_response};
pub(crate) use self::told::*;
use super::cached::Cached;
use super::client::Client;
use super::course::{self, Course};
use super::encoding;
use super::error::ProxyError;
use super::fetch_request;
use super::fields::Parts;
use super::forward::Forward;
use super::invalidate;
use super::local::LocalUpstream;
use super::record::Record;
use super::request_body::RequestBody;
use super::respond;
use super::target::Target;
use super::{Local, Proxy};
use crate::compress::{self, Plan};
use crate::config::{self, HostPattern};
use crate::deadline::{Clock, Deadlines};
use crate::route::{ByHost, ByPath, Weighed};
use crate::semantics::coding;
use crate::state::{Action, Listener, Published, Route, State};
use crate::telemetry::access_log::AccessSink;
use crate::telemetry::worker::WorkerMetrics;

/// A proxy that nobody asks but us.
pub(crate) struct Explainer {
    proxy: Rc<Proxy>,
    local: Rc<Local>,
    metrics: Arc<WorkerMetrics>,
}

impl Explainer {
    /// `access` gets nothing: it is to be that of a log which is off.
    pub(crate) fn new(state: Arc<State>, access: AccessSink, clock: Clock) -> Self {
        let metrics = Arc::new(WorkerMetrics::default());
        let published = Arc::new(Published::new(state, clock));
        let deadlines = Deadlines::new(clock);
        let proxy = Proxy::new(published, deadlines, Arc::clone(&metrics), access, 1);
        Self {
            local: proxy.local(),
            proxy,
            metrics,
        }
    }

    /// What would become of the request that `peer` sends to `listener`; with what a server is `given` to answer, of that
    /// too.
    pub(crate) async fn explain(
        &self,
        listener: &Listener,
        peer: SocketAddr,
        (request, body): (Parts, RequestBody),
        given: Option<&Given>,
    ) -> Explanation {
        let shard = self.metrics.listener(&listener.name);
        let deadline = self.proxy.deadlines.deadline();
        let client = Rc::new(Client::new(peer, listener, shard, deadline));
        let request = Rc::new(request);
        let start = Rc::clone(&request);
        let here = self.local.no_route(listener.number).cloned();
        let mut record = Record::start(&self.proxy, &client, here, start);
        course::identify(&mut record, listener);
        let mut told = Explanation::default();
        let target = match Target::of(&request, &listener.limits) {
            Ok(target) => target,
            Err(error) => return told.refused(record, &error, listener),
        };
        told.asked = Some(asked(&record, listener, &target));
        let state = &self.local.state;
        let length = body.size_hint().lower();
        let course = course::decide(&mut record, &self.local, listener, &target, length);
        if let Ok(Course::Answer(course::Own::ToHttps(_))) = &course {
            told.to_https = true;
        } else {
            told.routes(state, listener, (&request, &target), number(&record));
        }
        match course {
            Err(error) => told.refused(record, &error, listener),
            Ok(Course::Answer(own)) => {
                let route = own.route();
                let response = own.respond(record, listener, &target);
                let mut fields = fields(response.headers());
                if let Some(route) = route {
                    hide_in_response(&mut fields, &state.config, &route.name);
                }
                told.answer = Some(answer(response.status(), fields, None));
                told
            }
            Ok(Course::Forward(choices)) => {
                let at = record.at.clone();
                let Some(route) = at.as_ref().and_then(|at| at.route.as_deref()) else {
                    return told.refused(record, &ProxyError::NoRoute, listener);
                };
                let journey = Journey {
                    explainer: self,
                    listener,
                    route,
                    target: &target,
                    request: &request,
                    body: &body,
                };
                let choice = course::choice(choices, state, &request);
                record.choose(&self.local, choice.unwrap_or(0));
                let fetches = journey.tell(&mut told, &record, given).await;
                if told.cache.as_ref().is_some_and(|cache| cache.refused) {
                    (told.compress, told.response) = (None, None);
                    return told.refused(record, &ProxyError::NotStored, listener);
                }
                // For the store, it is asked for without what makes the answer a part or an absence.
                let mut sender = match fetches {
                    true => {
                        Record::of_fetch(&record, Rc::new(fetch_request::request(&request, None)))
                    }
                    false => record,
                };
                let request = Rc::clone(&sender.request);
                let journey = Journey {
                    request: &request,
                    ..journey
                };
                let chosen = choices.iter().enumerate();
                let chosen = chosen.filter(|(place, _)| choice.is_none_or(|only| only == *place));
                let mut below = 0;
                for (place, &(upstream, up_to)) in chosen {
                    let Some(upstream) = self.local.upstreams.get(upstream) else {
                        continue;
                    };
                    sender.choose(&self.local, place);
                    let mut sent = journey.sent(&sender, upstream);
                    if choice.is_none() {
                        let whole = choices.last().map_or(0, |(_, sum)| *sum);
                        sent.share = Some(format!("{} of {whole}", up_to - below));
                    }
                    below = up_to;
                    told.forward.push(sent);
                }
                told
            }
        }
    }
}

/// The way of a request that a route forwards.
struct Journey<'r> {
    explainer: &'r Explainer,
    listener: &'r Listener,
    route: &'r Route,
    target: &'r Target<'r>,
    request: &'r Parts,
    body: &'r RequestBody,
}

impl Journey<'_> {
    fn forward<'f>(&'f self, upstream: &'f LocalUpstream) -> Forward<'f> {
        Forward {
            proxy: &self.explainer.proxy,
            listener: self.listener,
            route: self.route,
            upstream,
            target: self.target,
            is_looked_at: false,
        }
    }

    /// What cache and compression make of it; whether it is fetched for the store.
    async fn tell(&self, told: &mut Explanation, record: &Record, given: Option<&Given>) -> bool {
        let local = &self.explainer.local;
        let Action::Forward(choices) = &self.route.action else {
            return false;
        };
        let choice = record.at.as_ref().map_or(0, |at| at.choice);
        let upstream = choices.get(choice);
        let Some(upstream) = upstream.and_then(|(number, _)| local.upstreams.get(*number)) else {
            return false;
        };
        let mut fetches = false;
        let mut headers = given.map(|given| given.headers.clone()).unwrap_or_default();
        if let Some(cache) = &local.cache {
            told.invalidates = invalidate::may_have(&self.request.method, StatusCode::OK);
            if let Some(rules) = &self.route.cache {
                let cached = Cached {
                    proxy: &self.explainer.proxy,
                    listener: self.listener,
                    route: self.route,
                    upstream,
                    target: self.target,
                    rules,
                    cache,
                };
                let (cache, verdict) = caching::tell(&cached, record, self.body, given).await;
                fetches = cache.fetched;
                cached.say(&mut headers, verdict);
                told.cache = Some(cache);
            }
        }
        if let Some(compress) = &self.route.compress {
            let request = encoding::request(record, self.listener);
            told.compress = Some(match request.coding(compress) {
                Ok(coding) => Compressed {
                    coding: Some(coding.name()),
                    why_not: None,
                },
                Err(why) => Compressed {
                    coding: None,
                    why_not: Some(why.to_string()),
                },
            });
        }
        if let Some(given) = given {
            told.response = Some(self.response(record, given.status, headers));
        }
        fetches
    }

    /// A server's response as the client gets it.
    fn response(&self, record: &Record, status: StatusCode, headers: HeaderMap) -> Responded {
        let mut parts = respond::parts(status, headers, record, self.listener, self.route);
        let (mut as_is, mut at_least) = (None, None);
        if let Some(compress) = &self.route.compress {
            let request = encoding::request(record, self.listener);
            let (status, headers) = (parts.status, &mut parts.headers);
            match compress::plan_or_reason(compress, request, status, headers) {
                Ok(Plan::Encode { coding, .. }) => coding::describe_encoded(headers, coding),
                Ok(Plan::IfEnough(coding)) => {
                    coding::describe_encoded(headers, coding);
                    at_least = Some(compress.min_size.0);
                }
                Ok(Plan::AsIs) => {}
                Err(why) => as_is = Some(why.to_string()),
            }
        }
        let mut fields = fields(&parts.headers);
        let config = &self.explainer.local.state.config;
        hide_in_response(&mut fields, config, &self.route.name);
        Responded {
            status: status.as_u16(),
            fields,
            as_is,
            at_least,
        }
    }
}

impl Explanation {
    fn refused(mut self, record: Box<Record>, error: &ProxyError, listener: &Listener) -> Self {
        let response = respond::error(record, error, Some(listener));
        let fields = fields(response.headers());
        self.answer = Some(answer(response.status(), fields, Some(error.to_string())));
        self
    }

    /// Which route takes the request, and why no other does.
    fn routes(
        &mut self,
        state: &State,
        listener: &Listener,
        (request, target): (&Parts, &Target<'_>),
        taken: Option<usize>,
    ) {
        let Some(table) = state.table(listener.number) else {
            return;
        };
        let weighed = &table.weigh(&course::wanted(request, target));
        let winner = weighed
            .iter()
            .find(|one| Some(*one.route) == taken && one.unmet.is_empty());
        let name = |number: usize| state.routes.get(number).map(|route| route.name.to_string());
        self.route = winner.and_then(|winner| {
            Some(Taken {
                name: name(*winner.route)?,
                because: place(winner),
            })
        });
        let mut seen: HashSet<usize> = taken.into_iter().collect();
        let mut lose = |number: usize, near: bool, because: String| {
            if seen.insert(number) {
                let name = name(number);
                self.others.extend(name.map(|name| Other {
                    name,
                    near,
                    because,
                }));
            }
        };
        for one in weighed {
            let because = match state.routes.get(*one.route) {
                Some(route) if !one.unmet.is_empty() => {
                    let unmet = one.unmet.iter();
                    let unmet = unmet.map(|unmet| condition(unmet, &state.config, &route.name));
                    unmet.collect::<Vec<_>>().join("; ")
                }
                _ => loses(one, winner),
            };
            lose(*one.route, true, because);
        }
        let for_host: HashSet<_> = table.for_host(&target.host).into_iter().collect();
        let stand = |route: &config::Route| route.listen.contains(&listener.name);
        let routes = || state.config.routes.iter().enumerate();
        for (number, route) in routes().filter(|(number, _)| for_host.contains(number)) {
            let prefixes = route.paths.iter().map(|prefix| format!("`{prefix}`"));
            let whole = route.paths_exact.iter();
            let whole = whole.map(|path| format!("exactly `{path}`"));
            lose(number, false, elsewhere("paths", prefixes.chain(whole)));
        }
        for (number, route) in routes().filter(|(_, route)| stand(route)) {
            let hosts = route.hosts.iter().map(|host| match host {
                HostPattern::Exact(host) => format!("`{host}`"),
                HostPattern::Suffix(suffix) => format!("`*.{suffix}`"),
            });
            lose(number, false, elsewhere("hosts", hosts));
        }
        for (number, route) in routes() {
            let listeners = route.listen.iter().map(|name| format!("`{name}`"));
            lose(number, false, elsewhere("listeners", listeners));
        }
    }
}

/// The place of the route that took a request.
fn number(record: &Record) -> Option<usize> {
    record.at.as_ref()?.number
}

/// What a route is for instead.
fn elsewhere(what: &str, places: impl Iterator<Item = String>) -> String {
    let mut places: Vec<_> = places.take(MOST_PLACES + 1).collect();
    if places.len() > MOST_PLACES {
        places.truncate(MOST_PLACES);
        places.push("…".to_owned());
    }
    format!("it is for other {what}: {}", places.join(", "))
}

/// By what a route is for the request.
fn place(one: &Weighed<'_, usize>) -> String {
    let mut parts = vec![host(one.host), path(one.path)];
    match one.conditions {
        0 => {}
        1 => parts.push("1 condition".to_owned()),
        many => parts.push(format!("{many} conditions")),
    }
    if one.priority != 0 {
        parts.push(format!("priority {}", one.priority));
    }
    parts.join(", ")
}

/// Why a route does not take the request that it is for and whose conditions it meets.
fn loses(one: &Weighed<'_, usize>, winner: Option<&Weighed<'_, usize>>) -> String {
    match winner {
        Some(winner) if winner.host != one.host => {
            format!("its host is less exact: {}", host(one.host))
        }
        Some(winner) if winner.path != one.path => {
            format!("its path is less exact: {}", path(one.path))
        }
        Some(winner) if winner.conditions != one.conditions => {
            format!(
                "it has fewer conditions: {}, not {}",
                one.conditions, winner.conditions
            )
        }
        Some(winner) => {
            format!(
                "its priority is lower: {}, not {}",
                one.priority, winner.priority
            )
        }
        None => place(one),
    }
}

fn host(host: ByHost<'_>) -> String {
    match host {
        ByHost::Exact => "this host".to_owned(),
        ByHost::Suffix(suffix) => format!("hosts below `{suffix}`"),
        ByHost::Any => "any host".to_owned(),
    }
}

fn path(path: ByPath<'_>) -> String {
    match path {
        ByPath::Exact => "exactly this path".to_owned(),
        ByPath::Prefix("") => "any path".to_owned(),
        ByPath::Prefix(prefix) => format!("paths from `{prefix}` on"),
    }
}

fn asked(record: &Record, listener: &Listener, target: &Target<'_>) -> Asked {
    let https = record.is_https(listener);
    Asked {
        method: record.request.method.to_string(),
        scheme: if https { "https" } else { "http" },
        host: target.host.to_string(),
        path: target.path.to_string(),
        query: target.query.map(str::to_owned),
        client: record.address.to_string(),
    }
}

fn answer(status: StatusCode, fields: Vec<(String, String)>, refused: Option<String>) -> Answer {
    let location = fields.iter().find(|(name, _)| name == "location");
    Answer {
        status: status.as_u16(),
        refused,
        location: location.map(|(_, location)| location.clone()),
        fields,
    }
}

/// As they are sent, but for the id of the request, which is another one each time.
fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let all = headers.iter().filter(|(name, _)| *name != "x-request-id");
    all.map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As many of the hosts or paths of another route are told.
const MOST_PLACES: usize = 3;
