//! `[route.NAME]`

use http::{HeaderValue, Method, StatusCode};
use toml::de::DeValue;

use super::cache::{self, cache};
use super::check::{Context, MOST_PLACES};
use super::compress::compress;
use super::fields::{edits, header_conditions, query_conditions};
use super::peers::{self, Paths};
use super::upstreams::weight;
use super::value::{Entry, Name, Table, Value, off, plain};
use super::values::{
    STANDARD_METHODS, duration_or_off, header_value, integer, list, method, one_or_list, or_off,
    size, string,
};
use super::{Action, FieldEdits, Route, addresses, warnings};
use crate::semantics::path::normalise;
use crate::units::{ByteSize, ListenName, UpstreamName, Weight};

/// A route as far as it can be read.
pub(super) struct RouteRead<'t> {
    pub(super) route: Route,
    pub(super) name: Name<'t>,
    pub(super) whole: Value<'t>,
    /// Whether what it matches was read without a mistake, so that it can be held against others.
    pub(super) sound: bool,
    /// Whether something of that came from the environment, so that it is not told.
    pub(super) hidden: bool,
}

pub(super) fn route<'t>(entry: &Entry<'t>, context: &Context<'t>) -> Option<RouteRead<'t>> {
    entry.value.table(|table| {
        not_yet(table);
        table.elsewhere(peers::ROUTE);
        let mistakes = table.value.problems.mistakes();
        let (paths, paths_exact) = paths(table);
        let hosts = table.or("host", Vec::new(), |value| {
            Some(one_or_list(value, |value| {
                let host = addresses::host_pattern(value)?;
                warnings::host(value);
                Some(host)
            }))
        });
        let at_each = hosts.len().max(1) * (paths.len() + paths_exact.len());
        let conditions = |value: &Value<'_>| Some(header_conditions(value));
        let route = Route {
            name: entry.name.text.into(),
            listen: listen(table, at_each, context),
            hosts,
            paths,
            paths_exact,
            methods: table.or("methods", Vec::new(), |value| {
                Some(list(value, "a list of methods", method))
            }),
            headers: table.or("headers", Vec::new(), conditions),
            query: table.or("query", Vec::new(), |value| Some(query_conditions(value))),
            priority: table.or("priority", 0, |value| {
                integer(value, -HIGHEST_PRIORITY..=HIGHEST_PRIORITY)
            }),
            action: Action::Forward(Vec::new()),
            strip_prefix: None,
            add_prefix: None,
            request_headers: FieldEdits::default(),
            response_headers: FieldEdits::default(),
            timeout: None,
            max_body: Some(MAX_BODY),
            buffer_request: None,
            cache: None,
            compress: None,
        };
        let sound = table.value.problems.mistakes() == mistakes;
        let matched = MATCHED.iter().filter_map(|key| table.get(key));
        let hidden = matched.into_iter().any(|value| value.holds_replaced());
        Some(RouteRead {
            route: treatment(table, context, route),
            name: entry.name.clone(),
            whole: entry.value.clone(),
            sound,
            hidden,
        })
    })
}

/// Fills in what the route does with the requests that it matches.
fn treatment<'t>(table: &Table<'t>, context: &Context<'t>, route: Route) -> Route {
    let action = action(table, context).unwrap_or(route.action);
    let cache = table.or("cache", route.cache, cache);
    cache::not_with(&action, cache.as_ref(), table);
    Route {
        action,
        strip_prefix: table.or("strip_prefix", route.strip_prefix, |value| {
            or_off(value, prefix)
        }),
        add_prefix: table.or("add_prefix", route.add_prefix, |value| {
            or_off(value, prefix)
        }),
        request_headers: table.or("request_headers", route.request_headers, field_edits),
        response_headers: table.or("response_headers", route.response_headers, field_edits),
        timeout: table.or("timeout", route.timeout, duration_or_off),
        max_body: table.or("max_body", route.max_body, |value| {
            or_off(value, |value| size(value, 0..=LARGEST_BODY))
        }),
        buffer_request: table.or("buffer_request", route.buffer_request, |value| {
            or_off(value, |value| size(value, 1..=LARGEST_BUFFER))
        }),
        cache,
        compress: table.or("compress", route.compress, compress),
        ..route
    }
}

fn not_yet(table: &Table<'_>) {
    table.not_yet("allow", off::empty_list);
    table.not_yet("deny", off::empty_list);
    table.not_yet("rate_limit", off::word);
}

/// The listeners that are named; all where none is. On each the route stands at so many places.
fn listen<'t>(table: &Table<'t>, at_each: usize, context: &Context<'t>) -> Vec<ListenName> {
    let named = table.or("listen", Vec::new(), |value| {
        Some(list(value, "a list of listeners", |value| {
            let text = string(value, "the name of a listener")?;
            let name = Name {
                text,
                span: value.span.clone(),
                path: value.path.clone(),
                problems: value.problems,
            };
            context
                .listeners
                .check(&name)
                .then(|| ListenName::from(text))
        }))
    });
    let number = match named.len() {
        0 => context.listeners.number(),
        number => number,
    };
    let left = context.places.get().checked_sub(number * at_each);
    if left.is_none() && context.places.get() > 0 {
        let message = format!(
            "the routes up to this one stand at more than {MOST_PLACES} places: each at as many as it has listeners, hosts and paths, multiplied"
        );
        let help = "name fewer of them: a host may stand for all below it, as `*.example.com` does";
        table.value.problem("too-many", message, Some(help.into()));
    }
    context.places.set(left.unwrap_or(0));
    match left {
        None => Vec::new(),
        Some(_) if named.is_empty() => context.listeners.in_order().map(ListenName::from).collect(),
        Some(_) => named,
    }
}

/// Prefixes and exact paths. A route that names neither takes every path.
fn paths(table: &Table<'_>) -> (Vec<String>, Vec<String>) {
    let exact = table.or("path_exact", Vec::new(), |value| {
        Some(one_or_list(value, |value| {
            let path = exact_path(value)?;
            warnings::path(value, true);
            Some(path)
        }))
    });
    let prefixes = match table.get("path") {
        Some(value) if off::empty_list(value.inner) && exact.is_empty() => {
            value.invalid_but(
                "a route without a path matches nothing",
                "write `path = \"/\"` for every path",
            );
            Vec::new()
        }
        Some(value) => one_or_list(&value, |value| {
            let path = path(value)?;
            warnings::path(value, false);
            Some(path)
        }),
        None if table.key("path_exact").is_some() && !exact.is_empty() => Vec::new(),
        None => vec![String::new()],
    };
    (prefixes, exact)
}

/// A path in its normal form without trailing slash: "/" is the empty string.
fn path(value: &Value<'_>) -> Option<String> {
    let path = exact_path(value)?;
    // One slash only: the empty segments before it, if any, are part of the path.
    Some(path.strip_suffix('/').unwrap_or(&path).to_owned())
}

fn exact_path(value: &Value<'_>) -> Option<String> {
    let text = string(value, "a path such as `\"/api\"`")?;
    match normalise(text) {
        Ok(path) => return Some(path.into_owned()),
        Err(_) if !text.starts_with('/') => {
            let help = match text {
                "" | "*" => "write `/` for every path".to_owned(),
                _ if text.contains("://") => {
                    "write the path alone; the host is a key of its own, `host`".to_owned()
                }
                _ => help_with_words(value, text).unwrap_or_else(|| match text {
                    _ if is_pattern(text) => NO_PATTERNS.to_owned(),
                    _ if text.contains([' ', '(', '`']) => ALONE.to_owned(),
                    _ => format!("write `/{}`", plain(text)),
                }),
            };
            value.invalid_but(format!("`{}` does not begin with `/`", plain(text)), help);
        }
        Err(bad) => value.invalid(format!("`{}`: {bad}", plain(text))),
    }
    None
}

/// What to write in place of a path with words of others around it.
fn help_with_words(value: &Value<'_>, text: &str) -> Option<String> {
    let (word, path) = peers::path_within(text)?;
    if is_pattern(path) {
        return None;
    }
    let path = plain(path);
    let (_, key) = value.path.rsplit_once('.')?;
    let key = key.split('[').next()?;
    let method = Method::from_bytes(word.as_bytes()).ok();
    let method = method.filter(|method| STANDARD_METHODS.contains(&method.as_str()));
    Some(match (peers::paths(word), key) {
        (Some(Paths::Exact), "path") => format!("write `path_exact = \"{path}\"`"),
        (Some(Paths::Below), "path_exact") => format!("write `path = \"{path}\"`"),
        (Some(_), _) => format!("write `{path}`"),
        (None, "path" | "path_exact") => {
            let method = method?;
            format!("write `{path}`, and `methods = [\"{method}\"]` beside it")
        }
        (None, _) => return None,
    })
}

/// Whether it reads like a regular expression or a pattern of another program.
pub(super) fn is_pattern(path: &str) -> bool {
    let is_group = path.contains('(') && path.contains(')');
    path.starts_with('~')
        || path.ends_with('$')
        || path.contains(['*', '^', '\\'])
        || is_group && path.contains(['|', '[', '+'])
}

/// A prefix to strip or to add.
fn prefix(value: &Value<'_>) -> Option<String> {
    let path = path(value)?;
    if path.is_empty() {
        value.invalid_but("`/` is no prefix", "write `\"off\"`");
        return None;
    }
    Some(path)
}

fn field_edits(value: &Value<'_>) -> Option<FieldEdits> {
    edits(value, "`host_header` of the upstream")
}

/// The one of `upstream`, `redirect` and `respond` that the route has.
fn action<'t>(table: &Table<'t>, context: &Context<'t>) -> Option<Action> {
    let upstream = table.get("upstream");
    let redirect_to = table.get("redirect");
    let answer = table.get("respond");
    let mut present: Vec<_> = ACTIONS.iter().filter_map(|key| table.key(key)).collect();
    present.sort_by_key(|name| name.span.start);
    if let Some((first, others)) = present.split_first() {
        for other in others {
            let message = format!(
                "`{}` beside `{}`; a route has one of them",
                other.text, first.text
            );
            other.problem("conflict", message, None);
        }
    } else {
        let message = "a route needs one of `upstream`, `redirect` and `respond`";
        let help = "for example `upstream = \"app\"`";
        table.missing(&ACTIONS, message.into(), help.into());
    }
    let upstream = upstream.and_then(|value| forward(&value, context));
    let redirect = redirect_to.and_then(|value| redirect(&value));
    let respond = answer.and_then(|value| respond(&value));
    upstream.or(redirect).or(respond)
}

/// `"app"` or `{ stable = 95, canary = 5 }`
fn forward<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<Action> {
    let shares: Vec<(UpstreamName, Weight)> = match value.inner {
        DeValue::String(text) => {
            let name = Name {
                text,
                span: value.span.clone(),
                path: value.path.clone(),
                problems: value.problems,
            };
            context
                .upstreams
                .check(&name)
                .then(|| (name.text.into(), Weight::ONE))
                .into_iter()
                .collect()
        }
        DeValue::Table(table) if table.is_empty() => {
            value.invalid_but(
                "no upstream is named",
                "for example `{ stable = 95, canary = 5 }`",
            );
            return None;
        }
        DeValue::Table(_) => {
            let entries = value.entries("a table").into_iter();
            entries.filter_map(|entry| share(&entry, context)).collect()
        }
        _ => {
            value.wrong_type("the name of an upstream or a table of names and weights");
            return None;
        }
    };
    (!shares.is_empty()).then_some(Action::Forward(shares))
}

fn share<'t>(entry: &Entry<'t>, context: &Context<'t>) -> Option<(UpstreamName, Weight)> {
    let known = context.upstreams.check(&entry.name);
    let weight = weight(&entry.value)?;
    known.then(|| (entry.name.text.into(), weight))
}

/// `{ to = "https://www.example.com{path}", status = 308 }`
fn redirect(value: &Value<'_>) -> Option<Action> {
    value.table(|table| {
        table.elsewhere(peers::REDIRECT);
        let to = table
            .required("to", "\"https://www.example.com{path}\"")
            .and_then(|value| location(&value));
        let status = table.or("status", StatusCode::PERMANENT_REDIRECT, |value| {
            let status = integer::<u16>(value, 100..=999)?;
            if !REDIRECTS.contains(&status) {
                value.invalid_but(
                    format!("`{}` is not a redirect", plain(&status.to_string())),
                    "write 301, 302, 303, 307 or 308",
                );
                return None;
            }
            StatusCode::from_u16(status).ok()
        });
        Some(Action::Redirect { to: to?, status })
    })
}

/// What can be a `Location`, save for `{path}`.
fn location(value: &Value<'_>) -> Option<String> {
    let text = string(value, "a URL such as `\"https://www.example.com{path}\"`")?;
    let fixed = text.replace("{path}", "/");
    let bad = fixed
        .bytes()
        .find(|byte| !byte.is_ascii_graphic() || b"{}<>\"\\^`|".contains(byte));
    match bad {
        None if !text.is_empty() => {
            warnings::redirect(value);
            return Some(text.to_owned());
        }
        Some(b'{' | b'}') => value.invalid_but(
            format!("`{}` has a placeholder other than `{{path}}`", plain(text)),
            match text {
                _ if text.starts_with("https://{") => {
                    "for the same host by HTTPS, write `redirect_to_https = {}` in the listener"
                }
                _ if text.contains("uri}") => "write `{path}` for the path; the query is kept",
                _ if text.contains("host}") => {
                    "name the host, or write `{path}` alone to stay at the same"
                }
                _ => "braces are written as `%7B` and `%7D`",
            },
        ),
        _ => value.invalid(format!("`{}` is not a URL", plain(text))),
    }
    None
}

/// `{ status = 410, body = "gone", content_type = "text/plain" }`
fn respond(value: &Value<'_>) -> Option<Action> {
    value.table(|table| {
        table.elsewhere(peers::RESPOND);
        let status = table.or("status", StatusCode::OK, |value| {
            integer::<u16>(value, 200..=599).and_then(|status| StatusCode::from_u16(status).ok())
        });
        let body = table.or("body", "", |value| string(value, "a string"));
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        let content_type = table.or("content_type", content_type, header_value);
        if [204, 205, 304].contains(&status.as_u16())
            && !body.is_empty()
            && let Some(value) = table.get("body")
        {
            let status = table.value.shown("status", status.as_str());
            value.invalid(format!("an answer with status {status} has no body"));
        }
        Some(Action::Respond {
            status,
            body: body.to_owned(),
            content_type,
        })
    })
}

const ACTIONS: [&str; 3] = ["upstream", "redirect", "respond"];
/// The keys that say which requests a route is for.
const MATCHED: [&str; 6] = ["host", "path", "path_exact", "methods", "headers", "query"];
pub(super) const NO_PATTERNS: &str =
    "a path is a prefix of whole segments; there are no patterns and no regular expressions";
const ALONE: &str = "write the path alone; what else a request must have is told by `host`, `methods`, `headers` and `query`";
const MAX_BODY: ByteSize = ByteSize(100 << 20);
/// Lengths travel as signed numbers in places.
const LARGEST_BODY: u64 = i64::MAX as u64;
/// Of what waits in memory for a server to be chosen, for each request.
const LARGEST_BUFFER: u64 = 16 << 20;
const HIGHEST_PRIORITY: i64 = 1_000_000;
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
