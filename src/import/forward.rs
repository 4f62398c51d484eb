//! `proxy_pass` -> an upstream, and the path that its servers see.

use super::context::Context;
use super::fields::variable_of_request;
use super::locations::Spot;
use super::scope::Scope;
use super::syntax::Directive;
use super::text::{Known, Piece};
use super::toml::Table;
use super::upstreams::{self, Destination};
use crate::semantics::path::normalise;

/// Where requests go and what servers see of their path.
pub(super) struct Forward {
    pub(super) to: Destination,
    pub(super) upstream: Table,
    /// What the upstream may be called.
    pub(super) base: String,
    pub(super) origin: String,
    pub(super) strip: Option<String>,
    pub(super) add: Option<String>,
}

/// What becomes of the path of a request.
pub(super) struct Path {
    location: String,
    exact: bool,
    strip: Option<String>,
    add: Option<String>,
    /// A `rewrite` that could not be translated stands before it.
    pub(super) spoiled: bool,
}

impl Path {
    pub(super) fn of(spot: &Spot<'_>) -> Self {
        Self {
            location: spot.path.clone(),
            exact: spot.exact,
            strip: None,
            add: None,
            spoiled: false,
        }
    }

    /// A `rewrite` that puts one prefix in the place of another.
    pub(super) fn rewritten(&mut self, from: String, to: String) -> Result<(), &'static str> {
        let base = self.location.strip_suffix('/').unwrap_or(&self.location);
        if base != from || self.strip.is_some() || self.add.is_some() {
            self.spoiled = true;
            return Err(
                "weir rewrites the prefix that the route is for; write a route for the other",
            );
        }
        let to = to.strip_suffix('/').unwrap_or(&to).to_owned();
        self.strip = Some(from).filter(|from| !from.is_empty());
        self.add = Some(to).filter(|to| !to.is_empty());
        Ok(())
    }
}

/// Why it cannot be, or what comes of it.
pub(super) fn forward(
    context: &Context<'_>,
    pass: &Directive,
    scope: &Scope<'_>,
    known: &Known<'_>,
    path: Path,
) -> Result<Forward, String> {
    if path.spoiled {
        return Err(
            "the `rewrite` before it could not be translated, so servers would get the wrong path"
                .into(),
        );
    }
    let written = pass.arg(0).unwrap_or_default();
    let pieces = known.pieces(written, &context.ledger);
    let url = match &*pieces {
        [Piece::Text(url)] => url.clone(),
        [Piece::Text(url), Piece::Variable(name)]
            if name == "request_uri" && uri_of(url).is_none() =>
        {
            url.clone()
        }
        [Piece::Text(_), Piece::Variable(name)]
        | [Piece::Variable(name), ..]
        | [_, Piece::Variable(name), ..] => {
            return Err(variable_of_request(name));
        }
        _ => return Err("it takes a URL".into()),
    };
    let (to, uri) = destination(&url)
        .ok_or("weir takes `http://` or `https://` and an address or the name of an `upstream`")?;
    let rewritten = path.strip.is_some() || path.add.is_some();
    let (strip, add) = match uri {
        // After a `rewrite`, nginx sends what that has made.
        _ if rewritten => (path.strip, path.add),
        None => (None, None),
        Some(_) if written.contains('$') => {
            return Err(
                "with a variable nginx replaces the whole path, which weir does not".into(),
            );
        }
        Some(uri) => replaced(context, pass, &path, &uri)?,
    };
    let Some((mut upstream, base)) = upstreams::servers(context, &to) else {
        return Err("none of its servers can be used by weir".into());
    };
    upstreams::treatment(context, &mut upstream, &to, scope);
    context.ledger.done(pass);
    let origin = match context.upstream(&to.address) {
        Some(block) => context.origin(block),
        None => context.origin(pass),
    };
    Ok(Forward {
        to,
        upstream,
        base,
        origin,
        strip,
        add,
    })
}

/// `http://app`, `https://10.0.0.7:8443/x`, `http://unix:/run/app.sock:/x`: where to, and the path if there is one.
fn destination(url: &str) -> Option<(Destination, Option<String>)> {
    let (tls, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://")?),
    };
    if let Some(rest) = rest.strip_prefix("unix:") {
        let (path, uri) = match rest.split_once(':') {
            Some((path, uri)) => (path, Some(uri.to_owned()).filter(|uri| !uri.is_empty())),
            None => (rest, None),
        };
        let to = Destination {
            tls,
            address: format!("unix:{path}"),
            host: "localhost".into(),
        };
        return Some((to, uri));
    }
    let (authority, uri) = match uri_of(url) {
        Some(at) => (
            url.get(url.len() - rest.len()..at)?,
            url.get(at..).map(str::to_owned),
        ),
        None => (rest, None),
    };
    let usual = if tls { ":443" } else { ":80" };
    let to = Destination {
        tls,
        address: authority.to_owned(),
        host: authority
            .strip_suffix(usual)
            .unwrap_or(authority)
            .to_owned(),
    };
    (!authority.is_empty()).then_some((to, uri))
}

/// Where the path of a URL begins.
fn uri_of(url: &str) -> Option<usize> {
    let after = url.find("://")? + 3;
    url.get(after..)?.find(['/', '?']).map(|at| after + at)
}

/// nginx puts the path of `proxy_pass` in the place of the location's.
fn replaced(
    context: &Context<'_>,
    pass: &Directive,
    path: &Path,
    uri: &str,
) -> Result<(Option<String>, Option<String>), String> {
    if normalise(uri).ok().as_deref() != Some(uri) || uri.contains(['?', '$']) || uri.contains("//")
    {
        return Err(
            "weir puts a plain path before that of the request, without a query and dot segments"
                .into(),
        );
    }
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let location = path.location.as_str();
    if location == uri {
        return Ok((None, None));
    }
    if path.exact {
        return exact(location, uri).ok_or_else(|| {
            "weir cannot give this one path another name; let the application answer to both".into()
        });
    }
    let (from, with_slash) = split_slash(location);
    let (to, to_slash) = split_slash(uri);
    match (with_slash, to_slash) {
        (true, true) => {}
        (true, false) => {
            let joined = format!("{uri}x");
            return Err(format!(
                "nginx sends `{location}x` as `{joined}` here, which weir does not; a `/` at the end is probably missing"
            ));
        }
        (false, true) => {
            let why = format!(
                "nginx sends `{location}/x` as `{uri}/x` here, with two slashes; weir sends `{to}/x`"
            );
            context.ledger.differs(pass, why);
        }
        (false, false) => {
            let why = format!("for `{location}` itself nginx sends `{uri}`, weir `{uri}/`");
            context.ledger.differs(pass, why);
        }
    }
    Ok((some(from), some(to)))
}

fn split_slash(path: &str) -> (&str, bool) {
    match path.strip_suffix('/') {
        Some(base) => (base, true),
        None => (path, false),
    }
}

/// One path in place of another, where a change of the prefix does it.
fn exact(location: &str, uri: &str) -> Option<(Option<String>, Option<String>)> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    if uri == "/" {
        return Some((some(location.strip_suffix('/').unwrap_or(location)), None));
    }
    // The longest end that both have in common.
    let common = location
        .match_indices('/')
        .map(|(at, _)| location.split_at(at));
    for (from, end) in common {
        if let Some(to) = uri.strip_suffix(end) {
            return Some((some(from), some(to)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_paths_of_urls_are_told_apart() {
        for (url, address, host, uri) in [
            ("http://app", "app", "app", None),
            ("http://app/", "app", "app", Some("/")),
            (
                "http://10.0.0.7:80/v2/",
                "10.0.0.7:80",
                "10.0.0.7",
                Some("/v2/"),
            ),
            ("https://a.example:443", "a.example:443", "a.example", None),
            (
                "http://unix:/run/app.sock",
                "unix:/run/app.sock",
                "localhost",
                None,
            ),
            (
                "http://unix:/run/app.sock:/x/",
                "unix:/run/app.sock",
                "localhost",
                Some("/x/"),
            ),
        ] {
            let (to, found) = destination(url).unwrap();
            assert_eq!(
                (to.address.as_str(), to.host.as_str(), found.as_deref()),
                (address, host, uri),
                "{url}"
            );
        }
        assert!(destination("ftp://x").is_none() && destination("http:///x").is_none());
    }

    #[test]
    fn one_path_becomes_another_where_their_ends_agree() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(exact("/a/x", "/b/x"), Some((some("/a"), some("/b"))));
        assert_eq!(exact("/x", "/v1/x"), Some((None, some("/v1"))));
        assert_eq!(exact("/x", "/"), Some((some("/x"), None)));
        assert_eq!(exact("/x", "/y"), None);
    }
}
