//! What a request that changes something makes invalid: what is stored for its target, and for those that the response names
//! in `Location` and `Content-Location`, if they have the same origin (RFC 9111 §4.4).

use std::sync::Arc;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri};

use crate::cache::key::{self, Asked};
use crate::config::Cache;
use crate::semantics::{host, path};

/// Whether such an exchange may have changed what is stored.
pub(super) fn may_have(method: &Method, status: StatusCode) -> bool {
    !method.is_safe() && (status.is_success() || status.is_redirection())
}

/// The keys that are not valid any more, by all the rules by which keys are made. `asked` is the target of the request.
pub(super) fn keys(asked: &Asked<'_>, response: &HeaderMap, rules: &[Arc<Cache>]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for rules in rules {
        keys.push(key_of(asked, rules));
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let reference = response.get(name).and_then(|value| value.to_str().ok());
            keys.extend(reference.and_then(|reference| resolved(asked, reference, rules)));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn key_of(asked: &Asked<'_>, rules: &Cache) -> Vec<u8> {
    let mut key = Vec::new();
    key::write(&mut key, asked, rules);
    key
}

/// The key of what `reference` names, seen from `base` (RFC 3986 §5.2); `None` if it has another origin.
fn resolved(base: &Asked<'_>, reference: &str, rules: &Cache) -> Option<Vec<u8>> {
    let reference = reference.split('#').next()?;
    let scheme = if base.https { "https:" } else { "http:" };
    let whole = match reference.strip_prefix("//") {
        Some(_) => format!("{scheme}{reference}"),
        None => reference.to_owned(),
    };
    let (is_absolute, target) = match whole.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() => (true, uri.path_and_query()?.as_str().to_owned()),
        _ if whole.starts_with('/') => (false, whole.clone()),
        _ if whole.starts_with('?') => (false, format!("{}{whole}", base.path)),
        _ if whole.is_empty() || has_scheme(&whole) => return None,
        _ => {
            let (directory, _) = base.path.rsplit_once('/')?;
            (false, format!("{directory}/{whole}"))
        }
    };
    if is_absolute {
        let uri = whole.parse::<Uri>().ok()?;
        let named = host::parse(uri.authority()?.as_str()).ok()?;
        let usual = if base.https { 443 } else { 80 };
        let same = uri.scheme_str()? == scheme.trim_end_matches(':')
            && named.name == base.host
            && named.port.unwrap_or(usual) == base.port.unwrap_or(usual);
        if !same {
            return None;
        }
    }
    let (named, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*target, None),
    };
    let named = path::normalise(named).ok()?;
    let asked = Asked {
        path: &named,
        query,
        ..*base
    };
    Some(key_of(&asked, rules))
}

/// RFC 3986 §4.2: a colon in the first segment ends a scheme.
fn has_scheme(reference: &str) -> bool {
    let first = reference.split(['/', '?']).next().unwrap_or_default();
    first.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(reference: &str) -> Option<String> {
        let base = Asked {
            https: false,
            host: "a.example",
            port: None,
            path: "/shop/cart",
            query: Some("x=1"),
        };
        let key = resolved(&base, reference, &Cache::default())?;
        Some(String::from_utf8(key).unwrap())
    }

    #[test]
    fn references_are_resolved_against_the_target() {
        for (reference, key) in [
            ("/other", "http://a.example/other"),
            ("item?y=2#top", "http://a.example/shop/item?y=2"),
            ("../up", "http://a.example/up"),
            ("?z", "http://a.example/shop/cart?z"),
            ("http://A.example:80/%7euser", "http://a.example/~user"),
            ("//a.example/x", "http://a.example/x"),
        ] {
            assert_eq!(named(reference).as_deref(), Some(key), "{reference}");
        }
    }

    #[test]
    fn what_has_another_origin_is_left_alone() {
        for reference in [
            "http://b.example/other",
            "https://a.example/other",
            "http://a.example:8080/other",
            "//b.example/x",
            "mailto:a@a.example",
            "",
            "#top",
        ] {
            assert_eq!(named(reference), None, "{reference}");
        }
    }
}
