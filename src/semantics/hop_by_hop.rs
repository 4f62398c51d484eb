//! Fields for one connection only, which a proxy must not forward (RFC 9110 §7.6.1).
//!
//! Asked while a head is serialised, once for each field, so the usual answer has to be cheap.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Whether the field of this name, in lower case, is never forwarded, whatever `Connection` says.
///
/// - `connection`, `keep-alive`, `proxy-connection`, `te`, `transfer-encoding`, `upgrade`: RFC 9110 §7.6.1. Whoever
///   forwards an upgrade, or `te: trailers`, writes those fields for the next connection itself.
/// - `http2-settings`: part of the h2c upgrade (RFC 7540 §3.2.1), which weir does not take.
/// - `proxy-authorization`, `proxy-authenticate`, `proxy-authentication-info` (§11.7): between a client and a proxy that
///   the client chose. weir is none, asks for no credentials, and what a client means for some proxy is not for servers.
///
/// `trailer` (§6.6.2) is end-to-end: it announces fields that are forwarded with the body.
#[inline]
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    // By length first: it differs from nearly all fields of a usual request, so that most need no comparison of bytes.
    match name.len() {
        2 => name == "te",
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        18 => name == "proxy-authenticate",
        19 => name == "proxy-authorization",
        25 => name == "proxy-authentication-info",
        _ => false,
    }
}

/// The fields of one message that its `Connection` nominates as hop-by-hop, besides those that always are.
///
/// Ask it about the fields that came with the message, not about those that weir adds: a client could otherwise strip
/// them. Nominations of `host`, `content-length` and `transfer-encoding` are ignored: losing them would change which
/// request this is, or where it ends, for the server but not for weir.
#[derive(Debug)]
pub(crate) struct Nominated<'h> {
    /// As written by the sender, sorted without regard to case. Only names of fields that the message has, so that no
    /// list of a hostile sender grows beyond that.
    names: SmallVec<[&'h str; 4]>,
}

impl<'h> Nominated<'h> {
    /// Reads all `Connection` fields. Allocates nothing for the usual ones.
    pub(crate) fn of(headers: &'h HeaderMap) -> Self {
        let mut names: SmallVec<[&str; 4]> = SmallVec::new();
        for value in headers.get_all(CONNECTION) {
            // A value with bytes beyond ASCII is read too: only the tokens that have such bytes name no field.
            let tokens = value
                .as_bytes()
                .split(|&byte| byte == b',')
                .map(<[u8]>::trim_ascii);
            let names_of_fields = tokens
                .filter(|token| !is_usual_option(token) && !is_protected(token))
                .filter_map(|token| std::str::from_utf8(token).ok())
                .filter(|token| headers.contains_key(*token));
            names.extend(names_of_fields);
        }
        if names.len() > 1 {
            names.sort_unstable_by(|one, other| ignoring_case(one, other));
            names.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
        }
        Self { names }
    }

    /// Whether the field is nominated.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        !self.names.is_empty()
            && self
                .names
                .binary_search_by(|nominated| ignoring_case(nominated, name.as_str()))
                .is_ok()
    }
}

/// Whether a list of tokens, such as the value of `Connection` or `Upgrade`, has this one, in any case.
pub(crate) fn has_token(value: &HeaderValue, token: &str) -> bool {
    let mut tokens = value.as_bytes().split(|&byte| byte == b',');
    tokens.any(|candidate| {
        candidate
            .trim_ascii()
            .eq_ignore_ascii_case(token.as_bytes())
    })
}

/// The options of nearly all `Connection` fields; they need no look-up.
fn is_usual_option(token: &[u8]) -> bool {
    match token.len() {
        0 => true,
        2 => token.eq_ignore_ascii_case(b"te"),
        5 => token.eq_ignore_ascii_case(b"close"),
        7 => token.eq_ignore_ascii_case(b"upgrade"),
        10 => token.eq_ignore_ascii_case(b"keep-alive"),
        _ => false,
    }
}

fn is_protected(token: &[u8]) -> bool {
    match token.len() {
        4 => token.eq_ignore_ascii_case(b"host"),
        14 => token.eq_ignore_ascii_case(b"content-length"),
        17 => token.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

fn ignoring_case(one: &str, other: &str) -> std::cmp::Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    one.bytes().map(lower).cmp(other.bytes().map(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    fn name(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }

    #[test]
    fn the_fixed_set_never_passes() {
        for dropped in [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ] {
            assert!(is_hop_by_hop(dropped), "{dropped}");
        }
    }

    #[test]
    fn all_else_passes() {
        for kept in [
            "host",
            "trailer",
            "content-length",
            "user-agent",
            "x-forwarded-for",
            "upgrade-insecure-requests",
            "cookie",
            "a",
            "xy",
            "referer",
            "sec-fetch-dest",
            "if-modified-since",
        ] {
            assert!(!is_hop_by_hop(kept), "{kept}");
        }
    }

    #[test]
    fn what_connection_nominates_is_found_in_any_case_and_line() {
        let headers = headers(&[
            ("connection", "X-Session ,close,, x-TRACE"),
            ("connection", "keep-alive, x-absent"),
            ("x-session", "1"),
            ("x-trace", "2"),
            ("x-other", "3"),
        ]);
        let nominated = Nominated::of(&headers);
        assert!(!nominated.names.is_empty());
        assert!(nominated.contains(&name("x-session")));
        assert!(nominated.contains(&name("x-trace")));
        assert!(!nominated.contains(&name("x-other")));
        assert!(!nominated.contains(&name("x-absent")));
    }

    #[test]
    fn the_usual_options_nominate_nothing() {
        for connection in [
            "keep-alive",
            "Keep-Alive, Upgrade",
            "close",
            "TE, close",
            "",
            " , ",
        ] {
            let headers = headers(&[
                ("connection", connection),
                ("te", "trailers"),
                ("upgrade", "websocket"),
            ]);
            let nominated = Nominated::of(&headers);
            assert!(
                nominated.names.is_empty() && !nominated.names.spilled(),
                "{connection}"
            );
        }
        assert!(Nominated::of(&HeaderMap::new()).names.is_empty());
    }

    #[test]
    fn a_client_cannot_strip_what_defines_the_message() {
        let headers = headers(&[
            ("connection", "Host, content-length, Transfer-Encoding"),
            ("host", "a"),
            ("content-length", "1"),
        ]);
        let nominated = Nominated::of(&headers);
        assert!(nominated.names.is_empty());
        assert!(!nominated.contains(&name("host")) && !nominated.contains(&name("content-length")));
    }

    #[test]
    fn a_hostile_list_does_not_grow_beyond_the_fields_of_the_message() {
        let mut headers = headers(&[("x-a", "1"), ("x-b", "2")]);
        let list = "x-a,X-B,x-A,x-b,x-c,@,é,".repeat(5_000);
        headers.insert(
            CONNECTION,
            HeaderValue::from_bytes(list.as_bytes()).unwrap(),
        );
        let nominated = Nominated::of(&headers);
        assert_eq!(nominated.names.len(), 2);
        assert!(nominated.contains(&name("x-a")) && nominated.contains(&name("x-b")));
    }

    #[test]
    fn tokens_are_whole_and_case_insensitive() {
        let value = HeaderValue::from_static("keep-alive ,\tUpgrade");
        assert!(has_token(&value, "upgrade") && has_token(&value, "Keep-Alive"));
        assert!(
            !has_token(&value, "keep")
                && !has_token(&value, "alive")
                && !has_token(&value, "grade")
        );
        let value = HeaderValue::from_bytes(b"\xff, close").unwrap();
        assert!(has_token(&value, "close"));
    }
}
