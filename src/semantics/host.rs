//! The value of `Host` or `:authority` (RFC 9110 §7.2, RFC 3986 §3.2.2): one spelling for each host.
//!
//! Stricter than the grammar on purpose: registered names are what DNS-like names are made of (letters, digits, `-`, `.`,
//! `_`). Escapes, sub-delimiters and userinfo have no use in a `Host`, and readers disagree about them, which is what
//! routing and cache poisoning attacks are made of.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// A host that can be compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host<'v> {
    /// Lower case, without port and trailing dot; an IPv6 address keeps its brackets.
    pub(crate) name: Cow<'v, str>,
    pub(crate) port: Option<u16>,
}

/// Why a host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHost {
    #[error("the host is empty")]
    Empty,
    #[error("the host has a character that no host name has")]
    Character,
    #[error("the host has an empty label")]
    Label,
    #[error("the host has brackets around something that is no IPv6 address")]
    Ipv6,
    #[error("the port is not a number from 0 to 65535")]
    Port,
}

/// Parses a `Host` value; borrows the name when it already is lower case. One pass.
pub(crate) fn parse(value: &str) -> Result<Host<'_>, BadHost> {
    if let Some(literal) = value.strip_prefix('[') {
        return parse_ipv6(value, literal);
    }
    let mut upper = false;
    let mut before = b'.'; // so that a leading dot is an empty label
    for (at, byte) in value.bytes().enumerate() {
        match CLASS[usize::from(byte)] {
            Class::Lower => {}
            Class::Upper => upper = true,
            Class::Dot if before != b'.' => {}
            Class::Dot => return Err(BadHost::Label),
            Class::Colon => {
                let (name, port) = value.split_at_checked(at).ok_or(BadHost::Character)?;
                return host(name, upper, port);
            }
            Class::Bad => return Err(BadHost::Character),
        }
        before = byte;
    }
    host(value, upper, "")
}

/// `[2001:db8::1]:8080`; `literal` is `value` after its bracket. No zone (RFC 6874) and no `IPvFuture`.
fn parse_ipv6<'v>(value: &'v str, literal: &'v str) -> Result<Host<'v>, BadHost> {
    let (address, port) = literal.split_once(']').ok_or(BadHost::Ipv6)?;
    address.parse::<Ipv6Addr>().map_err(|_| BadHost::Ipv6)?;
    let name = value.strip_suffix(port).ok_or(BadHost::Ipv6)?;
    let upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
    host(name, upper, port)
}

/// `name` consists of good characters; `port` is empty or all that follows the name.
fn host<'v>(name: &'v str, upper: bool, port: &str) -> Result<Host<'v>, BadHost> {
    let port = match port {
        "" => None,
        port => Some(parse_port(port)?),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match (name, upper) {
        ("", _) => Err(BadHost::Empty),
        (name, false) => Ok(Host {
            name: Cow::Borrowed(name),
            port,
        }),
        (name, true) => Ok(Host {
            name: Cow::Owned(name.to_ascii_lowercase()),
            port,
        }),
    }
}

/// An empty port is legal in RFC 3986 but not in what clients send; readers disagree on it, so it is refused.
fn parse_port(with_colon: &str) -> Result<u16, BadHost> {
    let digits = with_colon.strip_prefix(':').ok_or(BadHost::Character)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHost::Port); // `parse` would take a sign
    }
    digits.parse().map_err(|_| BadHost::Port)
}

#[derive(Clone, Copy)]
enum Class {
    Bad,
    Lower,
    Upper,
    Dot,
    Colon,
}

/// What each byte may be in a name. A table, because this runs for each request.
const CLASS: [Class; 256] = {
    let mut table = [Class::Bad; 256];
    let mut at = 0;
    while at < table.len() {
        table[at] = match at as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => Class::Lower,
            b'A'..=b'Z' => Class::Upper,
            b'.' => Class::Dot,
            b':' => Class::Colon,
            _ => Class::Bad,
        };
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn is(value: &str, name: &str, port: Option<u16>) {
        let host = parse(value).unwrap();
        assert_eq!((&*host.name, host.port), (name, port), "{value}");
    }

    #[test]
    fn names_lose_port_case_and_trailing_dot() {
        is("example.com", "example.com", None);
        is("example.com:8080", "example.com", Some(8080));
        is("Shop.EXAMPLE.com.:443", "shop.example.com", Some(443));
        is("example.com.", "example.com", None);
        is("a_b-c.1", "a_b-c.1", None);
        is("127.0.0.1:0", "127.0.0.1", Some(0));
        is("xn--bcher-kva.example", "xn--bcher-kva.example", None);
        is("localhost:65535", "localhost", Some(65535));
    }

    #[test]
    fn ipv6_keeps_its_brackets() {
        is("[::1]", "[::1]", None);
        is("[2001:DB8::1]:8443", "[2001:db8::1]", Some(8443));
        is("[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]", None);
    }

    #[test]
    fn what_is_lower_case_is_borrowed() {
        for value in ["example.com", "example.com.:80", "[::1]:80"] {
            assert!(
                matches!(parse(value).unwrap().name, Cow::Borrowed(_)),
                "{value}"
            );
        }
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        for value in [
            "a b",
            "a,b",
            "user@a",
            "a/b",
            "a\\b",
            "a%2eb",
            "a!b",
            "a;b",
            "a=b",
            "a'b",
            "a*b",
            "*.a",
            "é.com",
            "a\tb",
            "a\0",
            "a?b",
            "a#b",
            " a",
            "a ",
            "a]",
            "a[b",
            "a\u{2024}b",
        ] {
            assert_eq!(parse(value), Err(BadHost::Character), "{value:?}");
        }
        for value in ["", ":80"] {
            assert_eq!(parse(value), Err(BadHost::Empty), "{value:?}");
        }
        for value in ["a..b", ".a", ".", ".:80", "a..", "..", "a..:80"] {
            assert_eq!(parse(value), Err(BadHost::Label), "{value:?}");
        }
        for value in [
            "a:",
            "a:+1",
            "a:-1",
            "a:65536",
            "a:99999999999999999999",
            "a:8o",
            "a:80:80",
            "::1",
            "[::1]:",
            "a:80 ",
        ] {
            assert!(
                matches!(parse(value), Err(BadHost::Port | BadHost::Empty)),
                "{value:?}: {:?}",
                parse(value)
            );
        }
        for value in [
            "[",
            "[]",
            "[::1",
            "[1.2.3.4]",
            "[a]",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[v1.x]",
            "[[::1]]",
            "[::g]",
        ] {
            assert_eq!(parse(value), Err(BadHost::Ipv6), "{value:?}");
        }
        for value in ["[::1]x", "[::1].", "[::1]]", "[::1]80"] {
            assert_eq!(parse(value), Err(BadHost::Character), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn it_never_panics(value in ".*") {
            let _ = parse(&value);
        }

        #[test]
        fn it_is_idempotent(value in "(\\[[0-9a-fA-F:.]{0,12}\\]|[a-zA-Z0-9._:-]{0,12})(:[0-9]{0,6})?") {
            if let Ok(host) = parse(&value) {
                let again = parse(&host.name).unwrap();
                prop_assert_eq!(&again.name, &host.name);
                prop_assert!(matches!(again.name, Cow::Borrowed(_)) && again.port.is_none());
            }
        }
    }
}
