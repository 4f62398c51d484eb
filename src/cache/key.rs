//! What stored responses are found by (RFC 9111 §2): the target URI as the client asked for it, in one normal form.
//!
//! A key is that URI as text, `http://host[:port]/path[?query]`. The full text is compared, so that no two targets can
//! share a key: a host has no `/`, a path no `?`, and a target with an empty query is not the one without a query.
//!
//! Which parameters of the query count is for the operator to choose; where servers differ in how they read a query,
//! the reading is taken that makes more keys. If a parameter that some server reads were left out of the key, a client
//! could have its answer stored for everybody. So the name of a parameter is compared
//!
//! - with its escapes decoded, `+` being a space: `%69d` is `id` to every server;
//! - without regard to case (ASP.NET ignores it);
//! - up to its first `[` too: `id[]` and `id[x]` set `id` (PHP, Rails, the `qs` of Express);
//! - after each `;` too: some servers part parameters there, so what stands before it must not hide a name.
//!
//! What is kept is kept as it was written.

use std::cmp::Ordering;
use std::io::Write;

use smallvec::SmallVec;

use crate::config::{Cache, KeyQuery};

/// What a client asked for, before any rewriting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) https: bool,
    /// In normal form, lower case.
    pub(crate) host: &'r str,
    pub(crate) port: Option<u16>,
    /// In normal form.
    pub(crate) path: &'r str,
    /// As sent, without the `?`.
    pub(crate) query: Option<&'r str>,
}

/// Appends the key.
pub(crate) fn write(out: &mut Vec<u8>, asked: &Asked<'_>, rules: &Cache) {
    let (scheme, usual_port) = if asked.https {
        ("https://", HTTPS)
    } else {
        ("http://", HTTP)
    };
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(asked.host.as_bytes());
    if let Some(port) = asked.port.filter(|&port| port != usual_port) {
        // A `Vec` takes all that is written.
        let _ = write!(out, ":{port}");
    }
    out.extend_from_slice(asked.path.as_bytes());
    if let Some(query) = asked.query {
        write_query(out, query, rules);
    }
}

/// RFC 9110 §4.2.1 and §4.2.2.
pub(super) const HTTP: u16 = 80;
pub(super) const HTTPS: u16 = 443;

fn write_query(out: &mut Vec<u8>, query: &str, rules: &Cache) {
    let names = match &rules.key_query {
        KeyQuery::None => return,
        KeyQuery::All if !rules.key_query_sort => {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
            return;
        }
        KeyQuery::All => None,
        KeyQuery::Names(names) => Some(names),
    };
    let counts = |parameter: &&str| names.is_none_or(|names| is_listed(parameter, names));
    let mut kept: SmallVec<[&str; 16]> = query.split('&').filter(counts).collect();
    // Where `;` parts parameters, one of ours is several of the server's: moving it could change the order of two with
    // the same name.
    if rules.key_query_sort && !query.contains(';') {
        kept.sort_by(|one, other| by_name(one, other));
    }
    for (number, parameter) in kept.iter().enumerate() {
        out.push(if number == 0 { b'?' } else { b'&' });
        out.extend_from_slice(parameter.as_bytes());
    }
}

fn is_listed(parameter: &str, names: &[String]) -> bool {
    parameter.split(';').any(|piece| {
        names.iter().any(|listed| {
            let listed = || listed.bytes().map(alike);
            name(piece).eq(listed()) || group(piece).eq(listed())
        })
    })
}

/// By what may be one name to a server, so that those keep their order: which of them it takes may depend on it.
fn by_name(one: &str, other: &str) -> Ordering {
    group(one).cmp(group(other))
}

/// The name of a parameter, up to the first `[`.
fn group(parameter: &str) -> impl Iterator<Item = u8> {
    name(parameter).take_while(|&byte| byte != b'[')
}

/// The name of a parameter, decoded.
fn name(parameter: &str) -> impl Iterator<Item = u8> {
    let written = parameter.split('=').next().unwrap_or_default();
    let mut rest = written.as_bytes();
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            rest = after;
            return Some(alike(high << 4 | low));
        }
        Some(alike(byte))
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16)?.try_into().ok()
}

/// One byte for all that may be the same to a server.
fn alike(byte: u8) -> u8 {
    match byte {
        b'+' => b' ',
        byte => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::testing::rules;

    fn key(asked: &Asked<'_>, rules: &Cache) -> String {
        let mut out = Vec::new();
        write(&mut out, asked, rules);
        String::from_utf8(out).unwrap()
    }

    fn key_of_query(query: Option<&str>, rules: &Cache) -> String {
        let asked = Asked {
            https: false,
            host: "a.example",
            port: None,
            path: "/",
            query,
        };
        key(&asked, rules)
    }

    #[test]
    fn a_key_is_the_url_that_was_asked_for() {
        for (https, host, port, path, query, expected) in [
            (false, "a.example", None, "/", None, "http://a.example/"),
            (false, "a.example", Some(80), "/", None, "http://a.example/"),
            (
                true,
                "a.example",
                Some(443),
                "/",
                None,
                "https://a.example/",
            ),
            (
                true,
                "a.example",
                Some(80),
                "/",
                None,
                "https://a.example:80/",
            ),
            (
                false,
                "a.example",
                Some(443),
                "/",
                None,
                "http://a.example:443/",
            ),
            (
                false,
                "[::1]",
                Some(8080),
                "/a//b",
                None,
                "http://[::1]:8080/a//b",
            ),
            (true, "a", None, "/%2F", Some(""), "https://a/%2F?"),
            (
                true,
                "a",
                None,
                "/",
                Some("b=1&a=?/#"),
                "https://a/?b=1&a=?/#",
            ),
        ] {
            let asked = Asked {
                https,
                host,
                port,
                path,
                query,
            };
            assert_eq!(key(&asked, &rules()), expected);
        }
    }

    #[test]
    fn the_query_counts_as_the_operator_says() {
        let names = |names: &[&str]| KeyQuery::Names(names.iter().map(|&n| n.into()).collect());
        for (rule, sort, query, kept) in [
            (KeyQuery::All, false, "b&a&&", "?b&a&&"),
            (KeyQuery::All, true, "", "?"),
            (KeyQuery::All, true, "b=1&a=2&b=0&&a=1", "?&a=2&a=1&b=1&b=0"),
            // `%61` is `a`, and so may `A` and `a[]` be: which comes first may matter
            (
                KeyQuery::All,
                true,
                "b&%61=1&a=2&A=3&a[x]=4&a=5",
                "?%61=1&a=2&A=3&a[x]=4&a=5&b",
            ),
            (KeyQuery::All, true, "b=1;a=2&a=1", "?b=1;a=2&a=1"),
            (KeyQuery::None, false, "a=1", ""),
            (KeyQuery::None, true, "", ""),
            (names(&["a", "c"]), false, "c=1&b=2&a=3&a=0", "?c=1&a=3&a=0"),
            (names(&["a", "c"]), true, "c=1&b=2&a=3&a=0", "?a=3&a=0&c=1"),
            (names(&["a"]), false, "b=1&ab=1&=a", ""),
            (names(&["a"]), false, "a&a=&a=1=2", "?a&a=&a=1=2"),
            (names(&["a"]), false, "", ""),
            (
                names(&["id"]),
                false,
                "%69%64=1&i%64=2&ID=3&%zz=4",
                "?%69%64=1&i%64=2&ID=3",
            ),
            (
                names(&["a b"]),
                false,
                "a+b=1&a%20b=2&a%2Bb=3",
                "?a+b=1&a%20b=2&a%2Bb=3",
            ),
            (
                names(&["id"]),
                false,
                "id[]=1&id%5Bx%5D=2",
                "?id[]=1&id%5Bx%5D=2",
            ),
            (names(&["id[]"]), false, "id[]=1&id=2", "?id[]=1"),
            (names(&["a"]), false, "b=1;a=2&b=1;c=a", "?b=1;a=2"),
            (
                names(&["ü"]),
                false,
                "%C3%BC=1&%c3%bc=2",
                "?%C3%BC=1&%c3%bc=2",
            ),
        ] {
            let mut rules = rules();
            rules.key_query = rule.clone();
            rules.key_query_sort = sort;
            let expected = format!("http://a.example/{kept}");
            assert_eq!(
                key_of_query(Some(query), &rules),
                expected,
                "{rule:?} {query}"
            );
        }
    }

    /// What the rules say, written down without regard to speed: the list of parameters that count, in their order.
    fn model(query: Option<&str>, rules: &Cache) -> Option<Vec<String>> {
        let query = query?;
        let decoded = |text: &str| {
            let mut bytes = Vec::new();
            let text = text.as_bytes();
            let mut at = 0;
            while at < text.len() {
                let escape = text.get(at + 1..at + 3).and_then(|digits| {
                    let digits = std::str::from_utf8(digits).ok()?;
                    u8::from_str_radix(digits, 16).ok()
                });
                match escape {
                    Some(byte) if text[at] == b'%' && text[at + 1] != b'+' => {
                        bytes.push(byte);
                        at += 3;
                    }
                    _ => {
                        bytes.push(text[at]);
                        at += 1;
                    }
                }
            }
            let name = String::from_utf8_lossy(&bytes).into_owned();
            name.to_ascii_lowercase().replace('+', " ")
        };
        let name = |parameter: &str| decoded(parameter.split('=').next().unwrap());
        let short = |name: String| name.split('[').next().unwrap().to_owned();
        let all = query.split('&');
        let mut kept: Vec<String> = match &rules.key_query {
            KeyQuery::None => return None,
            KeyQuery::All => all.map(str::to_owned).collect(),
            KeyQuery::Names(names) => all
                .filter(|parameter| {
                    parameter.split(';').any(|piece| {
                        let name = name(piece);
                        names.contains(&name) || names.contains(&short(name))
                    })
                })
                .map(str::to_owned)
                .collect(),
        };
        if rules.key_query_sort && !query.contains(';') {
            let mut sorted = Vec::new();
            while !kept.is_empty() {
                let least = kept.iter().map(|kept| short(name(kept))).min().unwrap();
                let first = kept
                    .iter()
                    .position(|kept| short(name(kept)) == least)
                    .unwrap();
                sorted.push(kept.remove(first));
            }
            kept = sorted;
        }
        let nothing = kept.is_empty();
        (!nothing).then_some(kept)
    }

    proptest! {
        #[test]
        fn two_queries_share_a_key_if_the_model_says_so(
            one in "(\\PC{0,8}|([abAB]|%61|%4[12]|[=&;+%\\[]|=1|&a=){0,7})",
            other in proptest::option::of("([abAB]|%61|%4[12]|[=&;+%\\[]|=1|&a=){0,7}"),
            shuffled in any::<bool>(),
            names in proptest::option::of(prop::collection::vec("(a|b|ab|a b|)", 0..3)),
            none in prop::bool::weighted(0.1),
            sort: bool,
        ) {
            let mut rules = rules();
            rules.key_query_sort = sort;
            rules.key_query = match names {
                _ if none => KeyQuery::None,
                Some(names) => KeyQuery::Names(names),
                None => KeyQuery::All,
            };
            // Two that have nothing to do with each other seldom share a key.
            let other = if shuffled {
                Some(one.split('&').rev().collect::<Vec<_>>().join("&"))
            } else {
                other
            };
            let (one, other) = (Some(one.as_str()), other.as_deref());
            let same = key_of_query(one, &rules) == key_of_query(other, &rules);
            prop_assert_eq!(same, model(one, &rules) == model(other, &rules), "{:?}", rules.key_query);
            let written = key_of_query(one, &rules);
            let expected = model(one, &rules).map_or(String::new(), |kept| format!("?{}", kept.join("&")));
            prop_assert_eq!(written, format!("http://a.example/{expected}"));
        }

        #[test]
        fn different_targets_have_different_keys(
            targets in prop::collection::vec(
                (
                    any::<bool>(),
                    "([a-b.]{1,3}|\\[::[1-2]\\])",
                    proptest::option::of(prop_oneof![Just(80_u16), Just(443), Just(8), 0..20_u16]),
                    "/[/a:@&=.8]{0,3}",
                    proptest::option::of("[?/a:&]{0,3}"),
                ),
                2,
            ),
        ) {
            let keys: Vec<_> = targets
                .iter()
                .map(|(https, host, port, path, query)| {
                    let usual = if *https { 443 } else { 80 };
                    let (port, query) = (*port, query.as_deref());
                    let written = key(&Asked { https: *https, host, port, path, query }, &rules());
                    (written, (https, host, port.unwrap_or(usual), path, query))
                })
                .collect();
            prop_assert_eq!(keys[0].0 == keys[1].0, keys[0].1 == keys[1].1);
        }
    }
}
