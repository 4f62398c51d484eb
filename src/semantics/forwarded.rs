//! Who the client is, by what trusted proxies in front of weir say: `X-Forwarded-For/-Proto/-Host`, else RFC 7239.
//!
//! Each proxy appends what it saw, so the right end of a list is by the nearest proxy and the left end by whoever wants
//! to be someone else. A list is walked from the right, through addresses that are trusted themselves, and ends at the
//! first that is not: nothing to its left is believed. Nothing at all is believed of a peer that is not trusted.
//! Where there is `X-Forwarded-For`, it counts and `Forwarded` does not. A trusted proxy that writes `Forwarded` alone
//! therefore has to remove the `X-Forwarded-For` of its clients.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use http::uri::Scheme;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::host::{self, Host};

/// `X-Forwarded-For`
pub(crate) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Host`
pub(crate) static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Proto`
pub(crate) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether the address belongs to a proxy whose fields are believed. An IPv4-mapped address is its IPv4 address.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// The address of the client: the peer itself, or what trusted proxies say. Canonical: never IPv4-mapped.
///
/// If all proxies of a list are trusted, its leftmost address is the client. What is no address ends the walk: the
/// client is then the last proxy that was understood.
pub(crate) fn client_address(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    if is_trusted(peer, trusted) {
        walk(peer, trusted, headers).client
    } else {
        peer.to_canonical()
    }
}

/// The scheme that the client used, if a trusted proxy tells a valid one; `None`: that of the connection counts.
pub(crate) fn scheme_of(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> Option<Scheme> {
    let told = told_by_proxies(peer, trusted, headers, &X_FORWARDED_PROTO, |element| {
        element.proto
    })?;
    match told {
        told if told.eq_ignore_ascii_case("https") => Some(Scheme::HTTPS),
        told if told.eq_ignore_ascii_case("http") => Some(Scheme::HTTP),
        _ => None,
    }
}

/// The host that the client asked for, if a trusted proxy tells a valid one; `None`: that of the request counts.
pub(crate) fn host_of<'h>(
    peer: IpAddr,
    trusted: &[IpNet],
    headers: &'h HeaderMap,
) -> Option<Host<'h>> {
    let told = told_by_proxies(peer, trusted, headers, &X_FORWARDED_HOST, |element| {
        element.host
    })?;
    host::parse(told).ok()
}

/// The address as a node of `Forwarded`: RFC 7239 §6 wants IPv6 in brackets, and so in quotes.
pub(crate) fn forwarded_node(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// Where the walk from the right ended.
struct Walk {
    client: IpAddr,
    /// Which element, counted from the right, told of the client. 0: none did, the client is the peer.
    position: usize,
}

fn walk(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> Walk {
    if headers.contains_key(&X_FORWARDED_FOR) {
        return walk_nodes(
            peer,
            trusted,
            elements_from_right(headers, &X_FORWARDED_FOR),
        );
    }
    let elements = forwarded_from_right(headers);
    walk_nodes(
        peer,
        trusted,
        elements.map(|element| element.and_then(|element| element.node).unwrap_or_default()),
    )
}

/// `nodes` from right to left, the nearest first; the peer is trusted.
fn walk_nodes<'h>(peer: IpAddr, trusted: &[IpNet], nodes: impl Iterator<Item = &'h str>) -> Walk {
    let mut walk = Walk {
        client: peer.to_canonical(),
        position: 0,
    };
    for address in nodes.map_while(parse_node) {
        walk = Walk {
            client: address,
            position: walk.position + 1,
        };
        if !is_trusted(address, trusted) {
            break;
        }
    }
    walk
}

/// What the proxy that saw the client says of its request, by a field of its own or by `Forwarded`.
///
/// The element at the place where the walk found the client is by that proxy. Some proxies replace a field where others
/// append to it; the list is then shorter than the walk, and its leftmost element the nearest to the client.
fn told_by_proxies<'h>(
    peer: IpAddr,
    trusted: &[IpNet],
    headers: &'h HeaderMap,
    field: &HeaderName,
    parameter: impl Fn(Element<'h>) -> Option<&'h str>,
) -> Option<&'h str> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    let has_field = headers.contains_key(field);
    if !has_field && !headers.contains_key(FORWARDED) {
        return None;
    }
    let count = walk(peer, trusted, headers).position.max(1);
    if has_field {
        return elements_from_right(headers, field).take(count).last();
    }
    forwarded_from_right(headers)
        .map_while(|element| element)
        .take(count)
        .last()
        .and_then(parameter)
}

/// The elements of all lines of a field as one list, the last first. Empty ones do not count (RFC 9110 §5.6.1.2); a
/// line with bytes that are not visible ASCII is one bad element.
fn elements_from_right<'h>(
    headers: &'h HeaderMap,
    field: &HeaderName,
) -> impl Iterator<Item = &'h str> {
    let lines = headers
        .get_all(field)
        .iter()
        .rev()
        .map(|line| line.to_str().unwrap_or("?"));
    lines
        .flat_map(|line| line.rsplit(','))
        .map(str::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`; not `unknown`, not `_hidden`.
fn parse_node(node: &str) -> Option<IpAddr> {
    let in_brackets = || {
        node.strip_prefix('[')?
            .strip_suffix(']')?
            .parse()
            .ok()
            .map(IpAddr::V6)
    };
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = node.parse().ok().or_else(in_brackets).or_else(with_port)?;
    Some(address.to_canonical())
}

/// The parameters of one proxy in `Forwarded` that matter here.
#[derive(Clone, Copy, Default)]
struct Element<'h> {
    node: Option<&'h str>,
    proto: Option<&'h str>,
    host: Option<&'h str>,
}

/// The elements of all `Forwarded` lines, the last first; `None` for a line that is malformed anywhere: what a client
/// left open, such as a quote, could swallow what a proxy appended to the same line.
fn forwarded_from_right(headers: &HeaderMap) -> impl Iterator<Item = Option<Element<'_>>> {
    headers.get_all(FORWARDED).iter().rev().flat_map(|line| {
        let parsed = line.to_str().ok().and_then(parse_forwarded);
        let elements: SmallVec<[Option<Element<'_>>; 2]> = match parsed {
            Some(elements) => elements.into_iter().map(Some).collect(),
            None => SmallVec::from_iter([None]),
        };
        elements.into_iter().rev()
    })
}

/// RFC 7239 §4: elements apart by commas, `name=value` pairs apart by semicolons, values tokens or quoted strings.
fn parse_forwarded(line: &str) -> Option<SmallVec<[Element<'_>; 2]>> {
    let mut elements = SmallVec::new();
    let mut element = None;
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix([',', ';']) {
            if rest.starts_with(',') {
                elements.extend(element.take());
            }
            rest = after.trim_ascii_start();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = parse_value(after)?;
        let element = element.get_or_insert_with(Element::default);
        let place = match name {
            name if name.eq_ignore_ascii_case("for") => &mut element.node,
            name if name.eq_ignore_ascii_case("proto") => &mut element.proto,
            name if name.eq_ignore_ascii_case("host") => &mut element.host,
            name if is_token(name) => &mut None,
            _ => return None,
        };
        if place.replace(value).is_some() {
            return None; // §4: each parameter once in an element
        }
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            return None;
        }
    }
    elements.extend(element);
    Some(elements)
}

/// A token or quoted string at the beginning of `rest`, and what follows it. Quoted pairs are in no address, scheme or
/// host, so a string that has any is left as written and will not be understood.
fn parse_value(rest: &str) -> Option<(&str, &str)> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ';', ' ', '\t']).unwrap_or(rest.len());
        let (token, after) = rest.split_at_checked(end)?;
        // Addresses with a port lack their quotes so often that the colon is let through.
        return token
            .bytes()
            .all(|byte| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']'))
            .then_some((token, after));
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (value, after) = quoted.split_at_checked(end)?;
    Some((value, after.strip_prefix('"')?))
}

/// Whether it may be the name of a field, of a parameter or of a cookie (RFC 9110 §5.6.2, RFC 6265 §4.1.1).
pub(crate) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token_byte)
}

/// RFC 9110 §5.6.2
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"]
            .map(|net| net.parse().unwrap())
            .to_vec()
    }

    /// The client by these fields, told by the proxy 10.0.0.1.
    #[track_caller]
    fn client(fields: &[(&'static str, &str)]) -> String {
        client_address("10.0.0.1".parse().unwrap(), &trusted(), &headers(fields)).to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let headers = headers(&[
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("forwarded", "for=10.0.0.9;proto=https;host=bank.example"),
        ]);
        let peer = "203.0.113.7".parse().unwrap();
        assert_eq!(client_address(peer, &trusted(), &headers), peer);
        assert_eq!(scheme_of(peer, &trusted(), &headers), None);
        assert_eq!(host_of(peer, &trusted(), &headers), None);
        assert_eq!(client_address(peer, &[], &headers), peer);
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_client() {
        assert_eq!(client(&[("x-forwarded-for", "203.0.113.7")]), "203.0.113.7");
        assert_eq!(
            client(&[("x-forwarded-for", "203.0.113.7, 10.0.0.2,10.0.0.3")]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[
                ("x-forwarded-for", "203.0.113.7"),
                ("x-forwarded-for", "10.0.0.2")
            ]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[("x-forwarded-for", "2001:db8::1, fd00::2")]),
            "2001:db8::1"
        );
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        assert_eq!(
            client(&[("x-forwarded-for", "127.0.0.1, 203.0.113.7")]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[("x-forwarded-for", "10.0.0.9, 203.0.113.7")]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-for", "203.0.113.7")
            ]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[("forwarded", "for=1.1.1.1, for=203.0.113.7")]),
            "203.0.113.7"
        );
    }

    #[test]
    fn if_all_are_trusted_the_leftmost_is_the_client() {
        assert_eq!(
            client(&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]),
            "10.0.0.3"
        );
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&[("x-forwarded-for", ",, ,")]), "10.0.0.1");
    }

    #[test]
    fn garbage_ends_the_walk() {
        for garbage in [
            "unknown",
            "_hidden",
            "1.2.3",
            "1.2.3.4.5",
            "[::1",
            "1.2.3.4:x",
            "localhost",
            "\"1.2.3.4\"",
            "::1%eth0",
        ] {
            assert_eq!(
                client(&[("x-forwarded-for", garbage)]),
                "10.0.0.1",
                "{garbage}"
            );
            let list = format!("203.0.113.7, {garbage}, 10.0.0.5");
            assert_eq!(
                client(&[("x-forwarded-for", &list)]),
                "10.0.0.5",
                "{garbage}"
            );
        }
        let mut headers = headers(&[("x-forwarded-for", "203.0.113.7")]);
        headers.append(
            &X_FORWARDED_FOR,
            HeaderValue::from_bytes(b"\xff, 10.0.0.5").unwrap(),
        );
        assert_eq!(
            client_address("10.0.0.1".parse().unwrap(), &trusted(), &headers).to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn ports_and_brackets_are_understood() {
        assert_eq!(
            client(&[("x-forwarded-for", "203.0.113.7:4711")]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[("x-forwarded-for", "[2001:db8::1]:4711")]),
            "2001:db8::1"
        );
        assert_eq!(
            client(&[("x-forwarded-for", "[2001:db8::1]")]),
            "2001:db8::1"
        );
    }

    #[test]
    fn ipv4_mapped_addresses_are_ipv4() {
        let peer = "::ffff:10.0.0.1".parse().unwrap();
        assert!(is_trusted(peer, &trusted()));
        let headers = headers(&[("x-forwarded-for", "::ffff:203.0.113.7, ::ffff:10.0.0.2")]);
        assert_eq!(
            client_address(peer, &trusted(), &headers).to_string(),
            "203.0.113.7"
        );
        let peer = "::ffff:203.0.113.9".parse().unwrap();
        assert_eq!(
            client_address(peer, &trusted(), &headers).to_string(),
            "203.0.113.9"
        );
    }

    /// RFC 7239 §4 and §6
    #[test]
    fn forwarded_is_read_without_x_forwarded_for() {
        assert_eq!(
            client(&[(
                "forwarded",
                "For=\"[2001:db8::1]:4711\"; proto=https, for=10.0.0.2;by=10.0.0.1"
            )]),
            "2001:db8::1"
        );
        assert_eq!(
            client(&[
                ("forwarded", "for=203.0.113.7"),
                ("forwarded", "for=10.0.0.2")
            ]),
            "203.0.113.7"
        );
        assert_eq!(
            client(&[
                ("forwarded", "for=203.0.113.7"),
                ("x-forwarded-for", "198.51.100.1")
            ]),
            "198.51.100.1"
        );
        assert_eq!(
            client(&[("forwarded", "for=203.0.113.7, proto=https")]),
            "10.0.0.1",
            "an element without `for`"
        );
        assert_eq!(
            client(&[("forwarded", "for=203.0.113.7, for=unknown, for=10.0.0.2")]),
            "10.0.0.2"
        );
        assert_eq!(
            client(&[(
                "forwarded",
                "for=203.0.113.7, for=10.0.0.2;ext=\"a,b;\\\"c\""
            )]),
            "203.0.113.7"
        );
    }

    #[test]
    fn a_quote_left_open_cannot_swallow_what_a_proxy_appended() {
        for hostile in [
            "for=1.1.1.1;x=\"",
            "for=\"1.1.1.1",
            "for=1.1.1.1;x=\"\\",
            "for=1.1.1.1,x",
            "for=1.1.1.1;for=2.2.2.2",
            "for=1.1.1.1 x",
            "=1",
        ] {
            for appended in [
                "for=203.0.113.7",
                "for=\"[2001:db8::1]:80\"",
                "for=\"203.0.113.7:80\";proto=http",
            ] {
                let line = format!("{hostile}, {appended}");
                assert_eq!(client(&[("forwarded", &line)]), "10.0.0.1", "{line}");
                let told = headers(&[("forwarded", &format!("proto=https;{line}"))]);
                assert_eq!(
                    scheme_of("10.0.0.1".parse().unwrap(), &trusted(), &told),
                    None,
                    "{line}"
                );
                assert_ne!(
                    client(&[("forwarded", hostile), ("forwarded", appended)]),
                    "1.1.1.1",
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn a_malformed_line_ends_the_walk() {
        let lines = [
            ("forwarded", "for=1.1.1.1"),
            ("forwarded", "for=\"10.0.0.2"),
        ];
        assert_eq!(client(&lines), "10.0.0.1");
    }

    #[test]
    fn scheme_and_host_are_those_told_by_the_proxy_that_saw_the_client() {
        let peer = "10.0.0.1".parse().unwrap();
        let told = |fields: &[(&'static str, &str)]| {
            let headers = headers(fields);
            let scheme = scheme_of(peer, &trusted(), &headers)
                .map(|scheme| scheme.to_string())
                .unwrap_or_default();
            (
                scheme,
                host_of(peer, &trusted(), &headers)
                    .map(|host| host.name.into_owned())
                    .unwrap_or_default(),
            )
        };
        let is = |scheme: &str, host: &str| (scheme.to_owned(), host.to_owned());

        assert_eq!(told(&[]), is("", ""));
        let replaced = [
            ("x-forwarded-for", "203.0.113.7, 10.0.0.2"),
            ("x-forwarded-proto", "HTTPS"),
            ("x-forwarded-host", "A.example:80"),
        ];
        assert_eq!(told(&replaced), is("https", "a.example"));
        let appended = [
            ("x-forwarded-for", "203.0.113.7, 10.0.0.2"),
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "a.example, inner"),
        ];
        assert_eq!(
            told(&appended),
            is("https", "a.example"),
            "client -https-> 10.0.0.2 -http-> 10.0.0.1"
        );
        let spoofed = [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-host", "evil.example, a.example"),
        ];
        assert_eq!(
            told(&spoofed),
            is("http", "a.example"),
            "the left elements are the client's own"
        );
        assert_eq!(
            told(&[("x-forwarded-proto", "ws"), ("x-forwarded-host", "a b")]),
            is("", "")
        );

        let forwarded = [(
            "forwarded",
            "for=1.1.1.1;proto=https;host=evil, for=203.0.113.7;proto=http;host=\"a.example:80\"",
        )];
        assert_eq!(told(&forwarded), is("http", "a.example"));
        let forwarded = [(
            "forwarded",
            "for=203.0.113.7;proto=https;host=a.example, for=10.0.0.2;proto=http",
        )];
        assert_eq!(told(&forwarded), is("https", "a.example"));
    }

    #[test]
    fn nodes_are_quoted_where_they_must() {
        assert_eq!(forwarded_node("192.0.2.1".parse().unwrap()), "192.0.2.1");
        assert_eq!(
            forwarded_node("2001:db8::1".parse().unwrap()),
            "\"[2001:db8::1]\""
        );
        assert_eq!(
            forwarded_node("::ffff:192.0.2.1".parse().unwrap()),
            "192.0.2.1"
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(xff in "[0-9a-f.:\\[\\], ]{0,40}", forwarded in "(for|proto|host|x|[=\";,\\\\ ]|[0-9.\\[:\\]]){0,30}") {
            let peer = "10.0.0.1".parse().unwrap();
            for headers in [headers(&[("x-forwarded-for", &xff), ("x-forwarded-proto", &forwarded)]), headers(&[("forwarded", &forwarded)])] {
                let _ = client_address(peer, &trusted(), &headers);
                let _ = scheme_of(peer, &trusted(), &headers);
                let _ = host_of(peer, &trusted(), &headers);
            }
        }

        /// Whatever a client writes on the left, the address that the trusted proxy appended is what counts.
        #[test]
        fn nothing_on_the_left_moves_the_client(left in "[0-9a-f.:\\[\\], \"]{0,40}") {
            prop_assert_eq!(client(&[("x-forwarded-for", &format!("{left}, 203.0.113.7"))]), "203.0.113.7");
            prop_assert_eq!(client(&[("x-forwarded-for", &left), ("x-forwarded-for", "203.0.113.7")]), "203.0.113.7");
        }
    }
}
