//! `return` and `rewrite` -> `redirect`, `respond`, or another path for servers.

use super::context::Context;
use super::fields::{content_type, variable_of_request};
use super::scope::Scope;
use super::syntax::Directive;
use super::text::{Known, Piece};
use super::values::path as path_of;

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Redirect {
        to: String,
        status: u64,
    },
    /// To `https://` and the host that the client asked for, which a route of weir cannot say.
    SameHost {
        /// Empty, or `:8443`.
        port: String,
        /// What follows the host.
        path: String,
        status: u64,
    },
    Respond {
        status: u64,
        body: String,
        content_type: String,
    },
    /// In place of what cannot be translated: nothing is opened, and nothing goes where it did not go before.
    Closed {
        status: u64,
        why: String,
    },
}

/// What `return` answers.
pub(super) fn answer(
    context: &Context<'_>,
    directive: &Directive,
    scope: &Scope<'_>,
    known: &Known<'_>,
    path: &str,
) -> Action {
    let closed = |status, why: String| {
        context.ledger.left(directive, why.clone());
        let why = format!("{}: {why}", context.origin(directive));
        Action::Closed { status, why }
    };
    let (status, rest) = match &*directive.args {
        [url]
            if url.starts_with("http://")
                || url.starts_with("https://")
                || url.starts_with("$scheme") =>
        {
            (302, Some(url))
        }
        [status] => (status.parse().unwrap_or(0), None),
        [status, rest] => (status.parse().unwrap_or(0), Some(rest)),
        _ => return closed(501, "weir cannot read this".into()),
    };
    match (status, rest) {
        (301 | 302 | 303 | 307 | 308, Some(to)) => {
            match location(context, directive, &known.pieces(to, &context.ledger)) {
                Ok(Target::Here(to)) => Action::Redirect { to, status },
                Ok(Target::SameHost { port, path }) => Action::SameHost { port, path, status },
                Err(why) => closed(501, why),
            }
        }
        (444, _) => closed(
            404,
            "weir closes no connection without an answer; this one is 404".into(),
        ),
        (200..=599, text) => {
            let text = known.text(text.map_or("", String::as_str), &context.ledger);
            match text {
                Ok(body) if !body.is_empty() && [204, 205, 304].contains(&status) => {
                    context.ledger.done(directive);
                    let _ = body;
                    respond(context, scope, status, String::new(), path)
                }
                Ok(body) if body.contains("${") => {
                    closed(501, "weir takes no `${` in a text".into())
                }
                Ok(body) => {
                    match body.is_empty() && status >= 300 {
                        true => context.ledger.differs(directive, NO_BODY),
                        false => context.ledger.done(directive),
                    }
                    respond(context, scope, status, body, path)
                }
                Err(variable) => closed(501, variable_of_request(&variable)),
            }
        }
        _ => closed(501, "weir answers with a status from 200 to 599".into()),
    }
}

fn respond(
    context: &Context<'_>,
    scope: &Scope<'_>,
    status: u64,
    body: String,
    path: &str,
) -> Action {
    let content_type = match body.is_empty() {
        true => String::new(),
        false => content_type(context, scope, path),
    };
    Action::Respond {
        status,
        body,
        content_type,
    }
}

impl Action {
    /// What it answers with.
    pub(super) fn status(&self) -> u64 {
        match self {
            Self::Redirect { status, .. }
            | Self::SameHost { status, .. }
            | Self::Respond { status, .. }
            | Self::Closed { status, .. } => *status,
        }
    }
}

enum Target {
    Here(String),
    SameHost { port: String, path: String },
}

/// Where a redirect leads, as weir writes it; or why it cannot.
fn location(
    context: &Context<'_>,
    directive: &Directive,
    pieces: &[Piece],
) -> Result<Target, String> {
    let (front, query) = tail(pieces);
    let (text, host) = match front {
        [] => (String::new(), None),
        [Piece::Text(text)] => (text.clone(), None),
        [Piece::Text(scheme), Piece::Variable(host)] if HOSTS.contains(&host.as_str()) => {
            (String::new(), Some(scheme.as_str()))
        }
        [
            Piece::Text(scheme),
            Piece::Variable(host),
            Piece::Text(rest),
        ] if HOSTS.contains(&host.as_str()) => (rest.clone(), Some(scheme.as_str())),
        other => {
            let variable = other.iter().find_map(|piece| match piece {
                Piece::Variable(name) if !HOSTS.contains(&name.as_str()) => Some(name.as_str()),
                _ => None,
            });
            return Err(match variable {
                Some(name) => variable_of_request(name),
                None => "weir can put the client's path at the end of a redirect, and its host nowhere else than in \
                         `https://$host`"
                    .into(),
            });
        }
    };
    let text = match query {
        Query::Parameter => text.strip_suffix('?').unwrap_or(&text).to_owned(),
        _ => text,
    };
    let to = match query {
        Query::WholeTarget | Query::Path => format!("{text}{{path}}"),
        _ => text.clone(),
    };
    // nginx takes no `$` but that of a variable; before `{path}` it would make another placeholder.
    let valid = |byte: u8| byte.is_ascii_graphic() && !b"{}<>\"\\^`|$".contains(&byte);
    if !text.bytes().all(valid) || to.is_empty() && host.is_none() {
        return Err("weir does not take this as a URL".into());
    }
    match query {
        Query::WholeTarget if text.contains('?') => {
            let why = "weir puts the path of the request there, without its query";
            context.ledger.differs(directive, why);
        }
        Query::Path | Query::None if !text.contains('?') => {
            context.ledger.differs(
                directive,
                "weir appends the query of the request, if it has one",
            );
        }
        _ => context.ledger.done(directive),
    }
    let Some(scheme) = host else {
        return Ok(Target::Here(to));
    };
    let end = to.find(['/', '{']).unwrap_or(to.len());
    let (port, path) = to.split_at(end);
    let digits = port.strip_prefix(':').map(str::parse::<u16>);
    if scheme != "https://" || !(port.is_empty() || matches!(digits, Some(Ok(1..)))) {
        return Err(
            "weir knows no other redirect to the host that was asked for than to `https://`".into(),
        );
    }
    Ok(Target::SameHost {
        port: if port == ":443" {
            String::new()
        } else {
            port.to_owned()
        },
        path: path.to_owned(),
    })
}

/// How the value of a redirect ends.
#[derive(Clone, Copy)]
enum Query {
    /// With `$request_uri`, or what is the same.
    WholeTarget,
    /// With the path alone.
    Path,
    /// With the query alone.
    Parameter,
    None,
}

fn tail(pieces: &[Piece]) -> (&[Piece], Query) {
    let is = |piece: &Piece, names: &[&str]| matches!(piece, Piece::Variable(name) if names.contains(&name.as_str()));
    let (args, uri) = (["args", "query_string"], ["uri", "document_uri"]);
    match pieces {
        [front @ .., last] if is(last, &["request_uri"]) => (front, Query::WholeTarget),
        [front @ .., path, mark, query]
            if is(path, &uri) && is(mark, &["is_args"]) && is(query, &args) =>
        {
            (front, Query::WholeTarget)
        }
        [front @ .., mark, query] if is(mark, &["is_args"]) && is(query, &args) => {
            (front, Query::Parameter)
        }
        [front @ .., query]
            if is(query, &args)
                && matches!(front.last(), Some(Piece::Text(text)) if text.ends_with('?')) =>
        {
            (front, Query::Parameter)
        }
        [front @ .., path] if is(path, &uri) => (front, Query::Path),
        _ => (pieces, Query::None),
    }
}

/// What a `rewrite` comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// The whole place is redirected.
    All(Action),
    /// Some paths are.
    Paths(Vec<String>, Action),
    /// Servers see another beginning of the path.
    Prefix {
        from: String,
        to: String,
        /// Also of the path that is nothing but that beginning.
        bare: bool,
    },
}

/// What it comes to, where weir can do the same; otherwise it was told.
pub(super) fn rewrite(
    context: &Context<'_>,
    directive: &Directive,
    known: &Known<'_>,
) -> Option<Rewrite> {
    let (pattern, to, flag) = match &*directive.args {
        [pattern, to] => (pattern, to, ""),
        [pattern, to, flag] => (pattern, to, flag.as_str()),
        _ => {
            context.ledger.left(directive, "weir cannot read this");
            return None;
        }
    };
    let is_url = ["http://", "https://", "$scheme"]
        .iter()
        .any(|start| to.starts_with(start));
    let status = match flag {
        "permanent" => 301,
        _ if flag == "redirect" || is_url => 302,
        "break" => return inner(context, directive, pattern, to, known),
        _ => {
            let why = "nginx looks for a location anew with what this makes of the path, which weir does not; write a route for \
                       the paths as clients send them";
            context.ledger.left(directive, why);
            return None;
        }
    };
    // A `?` at the end keeps the query of the request away, except where `$request_uri` has brought it.
    let bare = to.strip_suffix('?').unwrap_or(to);
    let without_query = bare.len() < to.len() && !bare.ends_with("$request_uri");
    let (all, value) = match pattern.as_str() {
        "^" | ".*" | "^.*$" | "^.*" | "(.*)" | "^(.*)$" | "^(.*)" => {
            (true, bare.replace("$1", "$uri$is_args$args"))
        }
        "^/(.*)$" | "^/(.*)" | "/(.*)" => (true, bare.replace("/$1", "$uri$is_args$args")),
        "^/" => (true, bare.to_owned()),
        _ => (false, bare.to_owned()),
    };
    let value =
        match value.contains("$uri") || value.contains("$request_uri") || value.contains('?') {
            true => value,
            false => format!("{value}$is_args$args"),
        };
    let paths = exact_paths(pattern);
    if !all && paths.is_none() {
        let why = "weir redirects whole paths and prefixes, not what a regular expression takes out of them; write a route for \
                   each path";
        context.ledger.left(directive, why);
        return None;
    }
    let action = match without_query {
        true => Err(
            "weir appends the query of the request to a redirect, which this `?` forbids"
                .to_owned(),
        ),
        false => location(context, directive, &known.pieces(&value, &context.ledger)),
    };
    let action = match action {
        Ok(Target::Here(to)) => Action::Redirect { to, status },
        Ok(Target::SameHost { port, path }) => Action::SameHost { port, path, status },
        Err(why) => {
            context.ledger.left(directive, why);
            return None;
        }
    };
    if all {
        return Some(Rewrite::All(action));
    }
    Some(Rewrite::Paths(paths?, action))
}

/// A rewriting for servers: one beginning of the path in place of another.
fn inner(
    context: &Context<'_>,
    directive: &Directive,
    pattern: &str,
    to: &str,
    known: &Known<'_>,
) -> Option<Rewrite> {
    let prefix = || {
        let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
        let pattern = pattern.strip_suffix('$').unwrap_or(pattern);
        // Each pair of what comes before the group and before `$1`.
        let (from, end, bare) = match pattern {
            _ if let Some(from) = pattern.strip_suffix("/(.*)") => (from, "/$1", false),
            _ if let Some(from) = pattern.strip_suffix("(/|$)(.*)") => (from, "/$2", true),
            _ if let Some(from) = pattern.strip_suffix("/?(.*)") => (from, "/$1", true),
            _ if let Some(from) = pattern.strip_suffix("(/.*)") => (from, "$1", false),
            _ => return None,
        };
        let to = known.text(to.strip_suffix(end)?, &context.ledger).ok()?;
        let from = literal(from)?;
        let to = if to.is_empty() { to } else { path_of(&to)? };
        Some((from, to, bare))
    };
    match prefix() {
        Some((from, to, bare)) => {
            match from.is_empty() && to.is_empty() {
                true => context.ledger.agrees(directive),
                false => context.ledger.done(directive),
            }
            Some(Rewrite::Prefix { from, to, bare })
        }
        None => {
            let why = "weir takes a prefix off a path (`strip_prefix`) and puts one before it (`add_prefix`), and knows no \
                       regular expressions; let the application take the paths as they are";
            context.ledger.left(directive, why);
            None
        }
    }
}

/// The paths that an anchored expression is for, if it is for one or for one with and without `/` at its end.
fn exact_paths(pattern: &str) -> Option<Vec<String>> {
    let inside = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let (path, with_slash) = match inside.strip_suffix("/?") {
        Some(path) => (path, true),
        None => (inside, false),
    };
    let path = literal(path)?;
    if path.is_empty() {
        return None;
    }
    match with_slash {
        true => Some(vec![path.clone(), format!("{path}/")]),
        false => Some(vec![path]),
    }
}

/// The text that an expression stands for, if it is one only; a path, or nothing.
fn literal(pattern: &str) -> Option<String> {
    let text = pattern
        .replace("\\.", ".")
        .replace("\\-", "-")
        .replace("\\/", "/");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-~".contains(&byte);
    // A bare dot is any character; in practice only itself is meant, but `/aXb` would match too.
    let dots = pattern.matches('.').count() == pattern.matches("\\.").count();
    let is_literal = dots && text.bytes().all(|byte| plain(byte) || byte == b'.');
    match text.is_empty() {
        true => Some(text),
        false => is_literal.then(|| path_of(&text)).flatten(),
    }
}

pub(super) const NO_BODY: &str = "the answer has no body, where nginx has a page of its own";
const HOSTS: [&str; 2] = ["host", "http_host"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_stand_for_one_text_are_paths() {
        for (pattern, paths) in [
            ("^/old$", Some(vec!["/old"])),
            ("^/old/?$", Some(vec!["/old", "/old/"])),
            ("^/a\\.html$", Some(vec!["/a.html"])),
            ("^/a.html$", None),
            ("^/old", None),
            ("^/(a|b)$", None),
            ("^$", None),
        ] {
            let paths = paths.map(|paths| paths.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(exact_paths(pattern), paths, "{pattern}");
        }
    }
}
