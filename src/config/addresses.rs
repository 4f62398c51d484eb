//! Addresses as operators write them: to listen on, of servers, of peers, of hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use ipnet::IpNet;

use super::value::{Value, plain};
use super::values::string;
use super::{HostPattern, ListenAddress, ServerPlace};
use crate::semantics::host;
use crate::units::{ServerAddr, ServerName};

/// `":8080"`, `"127.0.0.1:8080"`, `"[::1]:8080"`, `"localhost:8080"`.
pub(super) fn listen(value: &Value<'_>) -> Option<ListenAddress> {
    let text = string(value, "an address such as `\":8080\"`")?;
    let port = text.strip_prefix(':');
    // With two colons it is an IPv6 address.
    if let Some(port) = port.filter(|port| !port.starts_with(':')) {
        return match parse_port(port) {
            Some(port) => Some(ListenAddress {
                socket: (Ipv6Addr::UNSPECIFIED, port).into(),
                any: true,
            }),
            None if port.contains([' ', ';']) => line(value, text, listens_at),
            None => bad_port(value, port),
        };
    }
    if text.contains([' ', ';']) {
        return line(value, text, listens_at);
    }
    match parse(text) {
        Ok(socket) => Some(ListenAddress { socket, any: false }),
        Err(Bad::NoPort(_))
            if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() =>
        {
            // Others are not to reach that of the admin address.
            let host = if value.path == ADMIN { "127.0.0.1" } else { "" };
            value.invalid_but(
                format!("`{}` has no address", plain(text)),
                format!("write `{host}:{}`", plain(text)),
            );
            None
        }
        Err(Bad::Other(_)) if socket_in(text).is_some() => {
            let message = format!("`{}` is not an address", plain(text));
            let help = match socket_in(text).filter(|_| value.path == ADMIN) {
                Some(path) => format!("write `unix:{}`", plain(path)),
                None => "listeners have TCP addresses: write it as `:8080`".to_owned(),
            };
            value.invalid_but(message, help);
            None
        }
        Err(Bad::Name(name, _)) => {
            let help = "write an IP address, or `:PORT` for all of the machine's";
            value.invalid_but(format!("`{}` is not an IP address", plain(&name)), help);
            None
        }
        Err(Bad::Other(_)) if any_port(text).is_some() => {
            let port = any_port(text).unwrap_or_default();
            let message = format!("`{}` is not an address", plain(text));
            value.invalid_but(message, format!("write `:{}`", plain(&port.to_string())));
            None
        }
        Err(bad) => explain(value, bad),
    }
}

/// The path in `/run/app.sock`, `unix:/run/app.sock`, `unix@/run/app.sock` and `unix:///run/app.sock`.
fn socket_in(text: &str) -> Option<&str> {
    let text = text.strip_prefix("http://").unwrap_or(text);
    let path = text
        .strip_prefix("unix:")
        .or(text.strip_prefix("unix@"))
        .unwrap_or(text);
    let path = match path.strip_prefix("///") {
        Some(_) => &path[2..],
        None => path,
    };
    // nginx puts the path of the request behind a colon.
    let path = path.split(':').next()?;
    (path.starts_with('/') && !path.starts_with("//") && is_socket_path(path)).then_some(path)
}

/// Refuses a line of another program, telling what of it is written here. `address` is what a word of it is here, if it is
/// one.
fn line<T>(value: &Value<'_>, text: &str, address: fn(&str) -> Option<String>) -> Option<T> {
    let words = || text.split([' ', ';']).filter(|word| !word.is_empty());
    let Some(found) = words().find_map(address) else {
        return explain(value, Bad::Other(text.to_owned()));
    };
    let number = |names: [&str; 2]| {
        let mut after =
            words().skip_while(|word| !names.contains(&word.split('=').next().unwrap_or(word)));
        let word = after.next()?;
        let number = word
            .split_once('=')
            .map(|(_, number)| number)
            .or_else(|| after.next())?;
        number.parse::<u32>().ok()
    };
    let has = |name: &str| words().any(|word| word == name);
    let options = [
        number(["weight", "weight"]).map(|number| format!("weight = {number}")),
        number(["max_conns", "maxconn"]).map(|number| format!("max_in_flight = {number}")),
        has("backup").then(|| "backup = true".to_owned()),
    ];
    let options: Vec<_> = options.into_iter().flatten().collect();
    let found = plain(&found);
    let mut help = match options.as_slice() {
        [] => format!("write `{found}`"),
        options if value.path.ends_with(".address") => {
            format!("write `{found}`, and `{}` beside it", options.join("`, `"))
        }
        options => format!(
            "write `{{ address = \"{found}\", {} }}`",
            options.join(", ")
        ),
    };
    if has("check") {
        help.push_str("; `health_check` is a key of the upstream");
    } else if has("ssl") {
        help.push_str("; certificates are named in `tls`");
    }
    value.invalid_but(format!("`{}` is not an address alone", plain(text)), help);
    None
}

/// As a listener has it.
fn listens_at(word: &str) -> Option<String> {
    let port = word
        .strip_prefix(':')
        .and_then(parse_port)
        .or_else(|| any_port(word));
    let port = port.or_else(|| parse_port(word));
    let any = port.map(|port| format!(":{port}"));
    any.or_else(|| parse(word).ok().map(|socket| socket.to_string()))
}

/// As an upstream has it.
fn serves_at(word: &str) -> Option<String> {
    match parse(word) {
        Ok(socket) => Some(socket.to_string()),
        Err(Bad::Name(..)) => Some(word.to_owned()),
        Err(_) => None,
    }
}

/// The port of `*:8080`.
fn any_port(text: &str) -> Option<u16> {
    text.strip_prefix("*:").and_then(parse_port)
}

/// `"10.0.0.7:8080"`, `"[fd00::7]:8080"`, `"localhost:8080"`, `"app.internal:8080"`, `"srv+_http._tcp.app.internal"`,
/// `"unix:/run/app.sock"`.
pub(super) fn server(value: &Value<'_>) -> Option<ServerPlace> {
    let text = string(value, "an address such as `\"10.0.0.7:8080\"`")?;
    if let Some(name) = text.strip_prefix("srv+") {
        return service(value, name).map(ServerPlace::Name);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(value, path).map(ServerPlace::Address);
    }
    if let Some(path) = socket_in(text) {
        value.invalid_but(
            format!("`{}` is not an address", plain(text)),
            format!("write `unix:{}`", plain(path)),
        );
        return None;
    }
    if text.contains([' ', ';']) {
        return line(value, text, serves_at);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        let message = format!("`{}` has a scheme, which servers do not", plain(text));
        value.invalid_but(message, format!("write `{}`", plain(rest)));
        return None;
    }
    match parse(text) {
        Ok(socket) if socket.port() == 0 => bad_port(value, "0"),
        Ok(socket) => Some(ServerPlace::Address(ServerAddr::Ip(socket))),
        Err(Bad::Name(_, 0)) => bad_port(value, "0"),
        Err(Bad::Name(name, port)) => {
            let name = dns_name(value, &name)?;
            Some(ServerPlace::Name(ServerName::Host { name, port }))
        }
        Err(bad) => explain(value, bad),
    }
}

/// The name behind `srv+`.
fn service(value: &Value<'_>, name: &str) -> Option<ServerName> {
    match host::parse(name) {
        Err(bad) => value.invalid(format!("`{}`: {bad}", plain(name))),
        Ok(host) if host.port.is_some() => value.invalid_but(
            format!("`{}` has a port, which SRV records tell", plain(name)),
            format!("write `srv+{}`", plain(&host.name)),
        ),
        Ok(_) if looks_like_ipv4(name) || name.starts_with('[') => {
            value.invalid(format!("`{}` is an address, not a name", plain(name)));
        }
        Ok(_) => return dns_name(value, name).map(ServerName::Service),
    }
    None
}

/// Lower case. What DNS cannot hold is refused here (RFC 1035 §2.3.4), so that no name fails for that later.
fn dns_name(value: &Value<'_>, name: &str) -> Option<Arc<str>> {
    let relative = name.strip_suffix('.').unwrap_or(name);
    if relative.len() > LONGEST_HOST {
        value.invalid("a host name has at most 253 characters");
        return None;
    }
    if let Some(long) = relative.split('.').find(|label| label.len() > 63) {
        let message = format!(
            "`{}` is longer than the 63 characters of a label",
            plain(long)
        );
        value.invalid(message);
        return None;
    }
    Some(name.to_ascii_lowercase().into())
}

/// `"127.0.0.1:5353"`; port 53 where there is none.
pub(super) fn dns_server(value: &Value<'_>) -> Option<SocketAddr> {
    let text = string(value, "an address such as `\"10.0.0.53\"`")?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some((address, 53).into());
    }
    match parse(text) {
        Ok(socket) if socket.port() == 0 => bad_port(value, "0"),
        Ok(socket) => Some(socket),
        Err(Bad::Port(port)) => bad_port(value, &port),
        Err(_) => {
            value.invalid_but(
                format!("`{}` is not the IP address of a DNS server", plain(text)),
                "write it as `10.0.0.53` or `127.0.0.1:5353`",
            );
            None
        }
    }
}

/// The path of a unix socket. Absolute: where a process was started says nothing about its servers.
fn unix(value: &Value<'_>, path: &str) -> Option<ServerAddr> {
    if path.starts_with('/') && !path.starts_with("//") && is_socket_path(path) {
        return Some(ServerAddr::Unix(Path::new(path).into()));
    }
    let message = format!("`{}` is not the whole path of a socket", plain(path));
    let help = match path.trim_start_matches('/') {
        rest if !rest.is_empty() && is_socket_path(rest) => {
            format!("write `unix:/{}`", plain(rest))
        }
        _ => "write it as `unix:/run/app.sock`, at most 107 bytes".to_owned(),
    };
    value.invalid_but(message, help);
    None
}

/// What the kernel takes as the path of a socket: `sun_path` of Linux has 108 bytes, one of them the NUL.
pub(super) fn is_socket_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= 107 && !path.contains('\0')
}

/// Each with what is written.
enum Bad {
    /// The address, as it goes before a `:`.
    NoPort(String),
    Port(String),
    /// As written, and the port.
    Name(String, u16),
    Other(String),
}

fn parse(text: &str) -> Result<SocketAddr, Bad> {
    if let Ok(socket) = text.parse() {
        return Ok(socket);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => return Err(Bad::NoPort(format!("[{address}]"))),
        Ok(IpAddr::V4(address)) => return Err(Bad::NoPort(address.to_string())),
        Err(_) => {}
    }
    let Some((address, port)) = text.rsplit_once(':') else {
        let name = host::parse(text).is_ok();
        return Err(if name {
            Bad::NoPort(text.to_owned())
        } else {
            Bad::Other(text.to_owned())
        });
    };
    let known =
        address == "localhost" || address.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    match (parse_port(port), known) {
        (Some(port), _) if address == "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        (None, _) if host::parse(address).is_ok() => Err(Bad::Port(port.to_owned())),
        (Some(port), false) if host::parse(address).is_ok() && !looks_like_ipv4(address) => {
            Err(Bad::Name(address.to_owned(), port))
        }
        _ => Err(Bad::Other(text.to_owned())),
    }
}

/// `10.0.0.256` is a mistyped address and no name: the last label of a name is never all digits.
fn looks_like_ipv4(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
}

fn explain<T>(value: &Value<'_>, bad: Bad) -> Option<T> {
    match bad {
        Bad::NoPort(address) => {
            let bare = address.trim_matches(['[', ']']).to_owned();
            // The last part of an IPv6 address may be meant for one.
            let help = match bare.rsplit_once(':') {
                Some((rest, port)) if rest.contains(':') && port.len() > 1 => {
                    let rest = if rest == ":" { "::" } else { rest };
                    match rest.parse::<Ipv6Addr>().ok().zip(parse_port(port)) {
                        Some(_) => {
                            let with_port = plain(&format!("[{rest}]:{port}"));
                            format!("write `{with_port}`, or `{}:8080`", plain(&address))
                        }
                        None => format!("write `{}:8080`", plain(&address)),
                    }
                }
                _ => format!("write `{}:8080`", plain(&address)),
            };
            value.invalid_but(format!("`{}` has no port", plain(&bare)), help);
        }
        Bad::Port(port) => return bad_port(value, &port),
        Bad::Name(text, _) | Bad::Other(text) => {
            let with_port = text.rsplit_once(':').filter(|(address, port)| {
                address.parse::<Ipv6Addr>().is_ok() && parse_port(port).is_some()
            });
            let help = match with_port {
                Some((address, port)) => {
                    format!("write `{}`", plain(&format!("[{address}]:{port}")))
                }
                None => "write it as `10.0.0.7:8080`".to_owned(),
            };
            value.invalid_but(format!("`{}` is not an address", plain(&text)), help);
        }
    }
    None
}

fn bad_port<T>(value: &Value<'_>, port: &str) -> Option<T> {
    value.invalid(format!(
        "`{}` is not a port; ports are 1 to 65535",
        plain(port)
    ));
    None
}

/// Digits only, so that neither `+80` nor ` 80` is a port.
fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `"10.0.0.0/8"`; a bare address is the network of it alone.
pub(super) fn network(value: &Value<'_>) -> Option<IpNet> {
    let text = string(value, "a network such as `\"10.0.0.0/8\"`")?;
    let network = text
        .parse::<IpNet>()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    if network.is_none() {
        value.invalid_but(
            format!("`{}` is not a network", plain(text)),
            "write it as `10.0.0.0/8`",
        );
    }
    network.map(|network| network.trunc())
}

/// `"shop.example.com"`, `"*.example.com"`.
pub(super) fn host_pattern(value: &Value<'_>) -> Option<HostPattern> {
    let text = string(value, "a host such as `\"www.example.com\"`")?;
    if text == "*" {
        value.invalid_but("`*` is not a host", "leave `host` out for any host");
        return None;
    }
    let suffix = text.strip_prefix("*.");
    let name = suffix.unwrap_or(text);
    match host::parse(name) {
        _ if name.contains('*') => value.invalid_but(
            format!("`{}` has a `*` that is not at its front", plain(text)),
            "only whole labels at the front can be open, as in `*.example.com`",
        ),
        _ if !name.is_ascii() => {
            value.invalid_but(
                format!("`{}` is not ASCII", plain(text)),
                "write international names as `xn--…`",
            );
        }
        Ok(host) if host.port.is_some() || name.ends_with(':') => {
            value.invalid_but(
                format!("`{}` has a port", plain(text)),
                format!("hosts match on any port; write `{}`", plain(&host.name)),
            );
        }
        Ok(host) if host.name.len() > LONGEST_HOST => {
            value.invalid("a host name has at most 253 characters")
        }
        Ok(host) if suffix.is_some() && host.name.starts_with('[') => {
            value.invalid("an address has no names below it")
        }
        Ok(host) if suffix.is_some() => return Some(HostPattern::Suffix(host.name.into_owned())),
        Ok(host) => return Some(HostPattern::Exact(host.name.into_owned())),
        Err(bad) => {
            let help = host_in(text);
            value.problem("invalid-value", format!("`{}`: {bad}", plain(text)), help);
        }
    }
    None
}

/// What to write for a URL, or a host with a path.
fn host_in(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = plain(&host::parse(authority).ok()?.name);
    Some(match path.trim_end_matches('/') {
        "" => format!("write `{host}`"),
        path => format!("write `{host}`, and `path = \"{}\"` beside it", plain(path)),
    })
}

/// A host, perhaps with a port, as the value of a `Host` field.
pub(super) fn host_value(value: &Value<'_>) -> Option<HeaderValue> {
    let text = string(value, "a host such as `\"www.example.com\"`")?;
    match host::parse(text) {
        Ok(_) => HeaderValue::from_str(text).ok(),
        Err(bad) => {
            value.invalid(format!("`{}`: {bad}", plain(text)));
            None
        }
    }
}

/// Where the admin address is written.
const ADMIN: &str = "admin.address";
/// RFC 1035 §2.3.4 allows 255 octets on the wire, which are 253 characters.
const LONGEST_HOST: usize = 253;
