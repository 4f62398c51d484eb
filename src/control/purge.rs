//! Stored responses are forgotten by hand: `POST /api/cache/purge`. May be repeated: what is gone stays gone.
//!
//! Where no route has a cache, nothing is stored and nothing purged, which is no error: whoever purges after a deployment
//! wants that nothing old is left, and nothing is.

use serde::Deserialize;

use super::core::Control;
use crate::cache;
use crate::cache::key::{self, Asked};
use crate::config::Cache;
use crate::semantics::host::{self, BadHost};
use crate::semantics::path::{self, BadPath};
use crate::state::State;

/// The body of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    url: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    all: Option<bool>,
    #[serde(default)]
    soft: bool,
}

/// What is to be forgotten, and how.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Purge {
    pub(super) what: What,
    /// Kept, to be used while servers fail or say that it is still good; for all else it is gone.
    pub(super) soft: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The target, with all its representations.
    Url(Url),
    /// Every target whose URL in normal form begins so.
    Prefix(String),
    /// Whatever its origin gave this tag.
    Tag(String),
    All,
}

/// A URL in the form that targets are stored by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) https: bool,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
    /// As written, without the `?`.
    pub(super) query: Option<String>,
}

/// Why nothing is purged.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPurge {
    #[error("expected a body such as {{\"url\": \"https://shop.example.com/page\"}}")]
    NoObject,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("say what to purge, with one of `url`, `prefix`, `tag` and `all`")]
    Nothing,
    #[error("`{0}` beside `{1}`; write one of `url`, `prefix`, `tag` and `all`")]
    Several(&'static str, &'static str),
    #[error("`all` is `true`, or not there")]
    NotAll,
    #[error("`{0}` is no tag; write one as it is in `Cache-Tag` or `Surrogate-Key`")]
    Tag(String),
    #[error("`{0}` is no whole URL; write it as `https://shop.example.com/page`")]
    Relative(String),
    #[error(
        "`{0}` has a fragment, which no server is ever asked for; leave out what begins with `#`"
    )]
    Fragment(String),
    #[error("`{0}`: {1}")]
    Host(String, BadHost),
    #[error("`{0}`: {1}")]
    Path(String, BadPath),
    #[error("`{0}` has a space or a control character in its query; write it as `%20`")]
    Query(String),
}

impl Purge {
    pub(super) fn of(body: &[u8]) -> Result<Self, BadPurge> {
        // A list would be read as the members in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(BadPurge::NoObject);
        }
        let asked: Body = serde_json::from_slice(body)?;
        let all = asked.all.map(|all| {
            let all = all.then_some(What::All);
            all.ok_or(BadPurge::NotAll)
        });
        let mut named = [
            ("url", asked.url.map(|url| Url::of(&url).map(What::Url))),
            ("prefix", asked.prefix.map(|prefix| what_begins(&prefix))),
            ("tag", asked.tag.map(tag)),
            ("all", all),
        ]
        .into_iter()
        .filter_map(|(name, what)| Some((name, what?)));
        let (name, what) = named.next().ok_or(BadPurge::Nothing)?;
        if let Some((other, _)) = named.next() {
            return Err(BadPurge::Several(other, name));
        }
        let soft = asked.soft;
        what.map(|what| Self { what, soft })
    }
}

impl Url {
    /// As [`Target`](crate::proxy) makes it of a request, so that what is purged is what clients ask for.
    fn of(text: &str) -> Result<Self, BadPurge> {
        let quoted = || text.escape_debug().take(LONGEST_QUOTE).collect::<String>();
        let scheme = text.split_once("://").and_then(|(scheme, rest)| {
            let known = |name| scheme.eq_ignore_ascii_case(name);
            (known("http") || known("https")).then(|| (known("https"), rest))
        });
        let (https, rest) = scheme.ok_or_else(|| BadPurge::Relative(quoted()))?;
        if rest.contains('#') {
            return Err(BadPurge::Fragment(quoted()));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host::parse(authority).map_err(|error| BadPurge::Host(quoted(), error))?;
        let path = if path.is_empty() { "/" } else { path };
        let path = path::normalise(path).map_err(|error| BadPurge::Path(quoted(), error))?;
        if query.is_some_and(|query| query.contains(|c: char| c == ' ' || c.is_control())) {
            return Err(BadPurge::Query(quoted()));
        }
        let usual = if https { 443 } else { 80 };
        Ok(Self {
            https,
            host: host.name.into_owned(),
            port: host.port.filter(|port| *port != usual),
            path: path.into_owned(),
            query: query.map(str::to_owned),
        })
    }
}

/// `https://shop.example.com/images/`; a `*` at its end is what it means anyway.
fn what_begins(text: &str) -> Result<What, BadPurge> {
    let url = Url::of(text.strip_suffix('*').unwrap_or(text))?;
    let scheme = if url.https { "https" } else { "http" };
    let mut prefix = format!("{scheme}://{}", url.host);
    if let Some(port) = url.port {
        prefix.push_str(&format!(":{port}"));
    }
    prefix.push_str(&url.path);
    if let Some(query) = url.query {
        prefix.push('?');
        prefix.push_str(&query);
    }
    Ok(What::Prefix(prefix))
}

fn tag(text: String) -> Result<What, BadPurge> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        let quoted = text.escape_debug().take(LONGEST_QUOTE).collect();
        return Err(BadPurge::Tag(quoted));
    }
    Ok(What::Tag(text.trim().to_owned()))
}

impl What {
    /// As the cache takes it. A URL has one key for each way in which routes make them.
    fn of(&self, state: &State) -> cache::Purge {
        match self {
            Self::Url(url) => {
                let rules = state.key_rules.iter();
                cache::Purge::Keys(rules.map(|rules| url.key(rules)).collect())
            }
            Self::Prefix(prefix) => cache::Purge::Prefix(prefix.clone()),
            Self::Tag(tag) => cache::Purge::Tag(tag.clone()),
            Self::All => cache::Purge::All,
        }
    }
}

impl Url {
    fn key(&self, rules: &Cache) -> Vec<u8> {
        let asked = Asked {
            https: self.https,
            host: &self.host,
            port: self.port,
            path: &self.path,
            query: self.query.as_deref(),
        };
        let mut key = Vec::new();
        key::write(&mut key, &asked, rules);
        key
    }
}

impl Control {
    /// Forgets it, and tells how many responses that were.
    pub(super) async fn purge(&self, purge: Purge) -> u64 {
        let state = self.published.state();
        let purged = match &state.caching {
            Some(caching) => caching.purge(&purge.what.of(&state), purge.soft).await,
            None => 0,
        };
        self.metrics.purged(purged);
        tracing::info!(what = ?purge.what, soft = purge.soft, purged, "purged");
        purged
    }
}

/// Of what is wrong, in a message.
const LONGEST_QUOTE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn what(body: &str) -> What {
        Purge::of(body.as_bytes()).unwrap().what
    }

    fn url(text: &str) -> Url {
        match what(&serde_json::json!({ "url": text }).to_string()) {
            What::Url(url) => url,
            other => panic!("{other:?}"),
        }
    }

    fn prefix(text: &str) -> String {
        match what(&serde_json::json!({ "prefix": text }).to_string()) {
            What::Prefix(prefix) => prefix,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_is_brought_into_the_form_that_requests_are() {
        let whole = Url {
            https: true,
            host: "shop.example.com".into(),
            port: None,
            path: "/a/b".into(),
            query: Some("x=%41".into()),
        };
        for text in [
            "https://shop.example.com/a/b?x=%41",
            "HTTPS://Shop.Example.COM.:443/a/c/../%62?x=%41",
        ] {
            assert_eq!(url(text), whole, "{text}");
        }
        let odd = url("http://[::1]:8080?");
        assert_eq!(
            (
                odd.https,
                &*odd.host,
                odd.port,
                &*odd.path,
                odd.query.as_deref()
            ),
            (false, "[::1]", Some(8080), "/", Some(""))
        );
        assert_eq!(url("http://a:443").port, Some(443));
        // The colon of a port, or of another URL, is no scheme.
        assert_eq!(url("http://a/http://b").path, "/http://b");
    }

    #[test]
    fn a_prefix_is_a_url_that_goes_on() {
        for (text, normal) in [
            ("https://A.example:443/img/", "https://a.example/img/"),
            ("https://a.example/img/*", "https://a.example/img/"),
            ("http://a.example:8080/x?q=", "http://a.example:8080/x?q="),
            // Not those of `a.example.net`.
            ("http://a.example", "http://a.example/"),
            ("http://a.example*", "http://a.example/"),
        ] {
            assert_eq!(prefix(text), normal, "{text}");
        }
    }

    #[test]
    fn soft_is_what_is_asked_for() {
        let soft = |body: &str| Purge::of(body.as_bytes()).unwrap().soft;
        assert!(soft(r#"{"all": true, "soft": true}"#));
        assert!(!soft(r#"{"all": true, "soft": false}"#));
        assert!(!soft(r#" {"all": true}"#));
        assert_eq!(what(r#"{"all": true}"#), What::All);
        assert_eq!(what(r#"{"tag": " item 1 "}"#), What::Tag("item 1".into()));
    }

    #[test]
    fn each_mistake_is_told_with_what_to_write() {
        let url = |text: &str| serde_json::json!({ "url": text }).to_string();
        let cases = [
            (
                "".into(),
                "expected a body such as {\"url\": \"https://shop.example.com/page\"}",
            ),
            (
                "[\"https://a/\"]".into(),
                "expected a body such as {\"url\": \"https://shop.example.com/page\"}",
            ),
            ("{".into(), "EOF while parsing an object at line 1 column 1"),
            ("{} {}".into(), "trailing characters at line 1 column 4"),
            (
                "{}".into(),
                "say what to purge, with one of `url`, `prefix`, `tag` and `all`",
            ),
            (
                "{\"soft\": true}".into(),
                "say what to purge, with one of `url`, `prefix`, `tag` and `all`",
            ),
            (
                "{\"tag\": \"a\", \"url\": \"http://a/\"}".into(),
                "`tag` beside `url`; write one of `url`, `prefix`, `tag` and `all`",
            ),
            (
                "{\"urls\": []}".into(),
                "unknown field `urls`, expected one of `url`, `prefix`, `tag`, `all`, `soft` at line 1 column 7",
            ),
            (
                "{\"tag\": \"a\", \"tag\": \"b\"}".into(),
                "duplicate field `tag` at line 1 column 18",
            ),
            (
                "{\"tag\": 1}".into(),
                "invalid type: integer `1`, expected a string at line 1 column 9",
            ),
            ("{\"all\": false}".into(), "`all` is `true`, or not there"),
            (
                "{\"tag\": \" \"}".into(),
                "` ` is no tag; write one as it is in `Cache-Tag` or `Surrogate-Key`",
            ),
            (
                url("/page"),
                "`/page` is no whole URL; write it as `https://shop.example.com/page`",
            ),
            (
                url("shop.example.com/page"),
                "`shop.example.com/page` is no whole URL; write it as `https://shop.example.com/page`",
            ),
            (
                url("ftp://a/"),
                "`ftp://a/` is no whole URL; write it as `https://shop.example.com/page`",
            ),
            (
                url("http://a/#top"),
                "`http://a/#top` has a fragment, which no server is ever asked for; leave out what begins with `#`",
            ),
            (url("http:///a"), "`http:///a`: the host is empty"),
            (
                url("http://*.a/"),
                "`http://*.a/`: the host has a character that no host name has",
            ),
            (
                url("http://me@a/"),
                "`http://me@a/`: the host has a character that no host name has",
            ),
            (
                url("http://a:x/"),
                "`http://a:x/`: the port is not a number from 0 to 65535",
            ),
            (
                url("http://a/%4"),
                "`http://a/%4`: the path has a `%` without two hexadecimal digits",
            ),
            (
                url("http://a/ b"),
                "`http://a/ b`: the path has a control character, a space, `?` or `#`",
            ),
            (
                url("http://a/?\n"),
                "`http://a/?\\n` has a space or a control character in its query; write it as `%20`",
            ),
        ];
        for (body, expected) in cases {
            let error = Purge::of(body.as_bytes()).expect_err(&body);
            assert_eq!(error.to_string(), expected, "{body}");
        }
    }

    #[test]
    fn what_is_long_is_cut_in_the_message() {
        let long = serde_json::json!({ "url": "ü".repeat(10_000) }).to_string();
        let error = Purge::of(long.as_bytes()).unwrap_err().to_string();
        assert!(error.chars().count() < 250, "{error}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_does_not_panic(body in proptest::prelude::any::<Vec<u8>>(), text in ".*") {
            let _ = Purge::of(&body);
            for member in ["url", "prefix", "tag"] {
                let _ = Purge::of(serde_json::json!({ member: text }).to_string().as_bytes());
                let url = format!("http://a/{text}");
                let _ = Purge::of(serde_json::json!({ member: url }).to_string().as_bytes());
            }
        }
    }
}
