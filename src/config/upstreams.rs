//! `[upstream.NAME]`

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::Method;
use http::uri::PathAndQuery;
use toml::de::DeValue;

use super::addresses;
use super::check::Context;
use super::defaults::PROBES_OF_HTTP;
use super::fields::values as field_values;
use super::peers;
use super::retries::{ejection, retry};
use super::servers_tls::{Read, name_probes, servers_tls};
use super::sticky::sticky;
use super::value::{Entry, Table, Value, found, off, plain};
use super::values::{
    STANDARD_METHODS, boolean, choice, duration, duration_or_off, header_name, integer, method,
    or_off, share, string,
};
use super::warnings;
use super::{
    Balance, Concurrency, Ejection, GrpcCheck, HashKey, HealthCheck, HealthCheckKind, HostHeader,
    HttpCheck, Keepalive, OnAllDown, Queue, Retry, ServerConfig, ServerPlace, Upstream,
};
use crate::semantics::forwarded::is_token;
use crate::units::{ServerAddr, Weight};

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            max_idle: 256,
            idle: Duration::from_secs(4),
            max_age: Duration::from_secs(600),
        }
    }
}

pub(super) fn upstream<'t>(entry: &Entry<'t>, context: &Context<'t>) -> Option<Upstream> {
    let all_down = [
        ("try_anyway", OnAllDown::TryAnyway),
        ("503", OnAllDown::Refuse),
    ];
    entry.value.table(|table| {
        table.elsewhere(peers::UPSTREAM);
        let mistakes = table.value.problems.mistakes();
        not_yet(table);
        let mut servers = table
            .required("servers", "[\"127.0.0.1:3000\"]")
            .map(|value| servers(&value));
        let tls = table.get("tls").and_then(|value| {
            servers_tls(&value, servers.as_deref_mut().unwrap_or_default(), context)
        });
        for (server, value) in servers.iter().flatten() {
            if let ServerPlace::Name(name) = &server.place {
                let mut names = context.server_names.borrow_mut();
                names.push((name.clone(), value.clone()));
            }
        }
        let upstream = Upstream {
            name: entry.name.text.into(),
            balance: balance(table),
            host_header: table.or("host_header", HostHeader::Preserve, host_header),
            connect_timeout: table.or("connect_timeout", Duration::from_secs(3), duration),
            response_timeout: table.or("response_timeout", Duration::from_secs(60), duration),
            stall_timeout: table.or("stall_timeout", Duration::from_secs(60), duration),
            stream_timeout: table.or("stream_timeout", Duration::from_secs(3600), duration),
            on_all_down: table.or("on_all_down", OnAllDown::TryAnyway, |value| {
                choice(value, &all_down, &[])
            }),
            keepalive: table.or("keepalive", Keepalive::default(), keepalive),
            health_check: table.or("health_check", None, |value| {
                let mut check = or_off(value, health_check);
                refuse_port_of_socket(value, check.as_ref(), servers.as_deref());
                if let (Some(Some(check)), Some(_)) = (&mut check, &tls) {
                    name_probes(value, check);
                }
                check
            }),
            ejection: table.or("ejection", Some(Ejection::default()), |value| {
                or_off(value, ejection)
            }),
            retry: table.or("retry", Some(Retry::default()), |value| {
                or_off(value, retry)
            }),
            sticky: table.or("sticky", None, |value| sticky(value, entry.name.text)),
            max_in_flight: table.or("max_in_flight", None, max_in_flight),
            queue: table.or("queue", Queue::default(), queue),
            concurrency: table.or("concurrency", Concurrency::Off, concurrency),
            panic_below: table.or("panic_below", None, |value| or_off(value, share)),
            slow_start: table.or("slow_start", Some(Duration::from_secs(10)), duration_or_off),
            servers: servers?.into_iter().map(|(server, _)| server).collect(),
            tls,
        };
        if let Some(value) = table.get("sticky")
            && table.value.problems.mistakes() == mistakes
        {
            warnings::sticky(&value, &upstream);
        }
        Some(upstream)
    })
}

fn not_yet(table: &Table<'_>) {
    table.or("protocol", (), |value| {
        choice(value, &[("http1", ())], &["http2"])
    });
}

fn balance(table: &Table<'_>) -> Balance {
    let balances = [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("peak_ewma", Balance::PeakEwma),
        ("random", Balance::Random),
        ("hash", Balance::Hash(HashKey::ClientIp)),
    ];
    let balance = table
        .get("balance")
        .map_or(Some(Balance::RoundRobin), |value| {
            choice(&value, &balances, &[])
        });
    let hash_key = table.or("hash_key", HashKey::ClientIp, hash_key);
    let Some(balance) = balance else {
        return Balance::RoundRobin;
    };
    if let Balance::Hash(_) = balance {
        return Balance::Hash(hash_key);
    }
    if let Some(name) = table.key("hash_key")
        && !(table.value.problems.is_part() && table.key("balance").is_none())
        && let Some((word, _)) = balances.iter().find(|(_, other)| *other == balance)
    {
        name.problem(
            "invalid-value",
            format!("`hash_key` means nothing with `balance = \"{word}\"`"),
            Some("write `balance = \"hash\"`, or leave it out".into()),
        );
    }
    balance
}

/// `"client_ip"`, `"path"`, `"header:NAME"`, `"cookie:NAME"`
fn hash_key(value: &Value<'_>) -> Option<HashKey> {
    let expected = "`\"client_ip\"`, `\"path\"`, `\"header:NAME\"` or `\"cookie:NAME\"`";
    let text = string(value, expected)?;
    let key = match text.split_once(':') {
        None if text == "client_ip" => Ok(HashKey::ClientIp),
        None if text == "path" => Ok(HashKey::Path),
        Some(("header", name)) => header_name(name).map(HashKey::Header),
        Some(("cookie", name)) if is_token(name) => Ok(HashKey::Cookie(name.to_owned())),
        Some(("cookie", name)) => Err(format!("`{}` is not the name of a cookie", plain(name))),
        _ => Err(format!("expected {expected}, found `\"{}\"`", plain(text))),
    };
    key.map_err(|message| value.invalid(message)).ok()
}

fn servers<'t>(value: &Value<'t>) -> Vec<Read<'t>> {
    if off::empty_list(value.inner) {
        value.invalid_but(
            "an upstream needs a server",
            "for example `[\"127.0.0.1:3000\"]`",
        );
    }
    let mut seen = HashMap::new();
    let mut servers: Vec<Read<'t>> = Vec::new();
    for item in value.items("a list such as `[\"127.0.0.1:3000\"]`") {
        let Some((server, written)) = server(&item) else {
            continue;
        };
        match seen.insert(server.place.clone(), item.path.clone()) {
            None => servers.push((server, written)),
            Some(first) => {
                let place = plain(&server.place.to_string());
                let message = format!("`{place}` is listed twice; `{first}` is the same");
                item.problem("duplicate", message, None);
            }
        }
    }
    if !servers.is_empty() && servers.iter().all(|(server, _)| server.backup) {
        value.invalid_but(
            "all servers are backups",
            "a backup stands in for others; leave `backup` out of one at least",
        );
    }
    servers
}

/// A server, and where its address is written.
fn server<'t>(value: &Value<'t>) -> Option<Read<'t>> {
    if !value.inner.is_table() {
        if !value.inner.is_str() {
            value.wrong_type("an address such as `\"10.0.0.7:8080\"` or a table with one");
            return None;
        }
        let server = ServerConfig {
            place: addresses::server(value)?,
            weight: Weight::ONE,
            backup: false,
            max_in_flight: None,
            tls_name: None,
        };
        return Some((server, value.clone()));
    }
    value.table(|table| {
        table.elsewhere(peers::SERVER);
        let address = table
            .required("address", "\"10.0.0.7:8080\"")
            .and_then(|value| Some((addresses::server(&value)?, value)));
        let weight = table.or("weight", Weight::ONE, weight);
        let backup = table.or("backup", false, boolean);
        let limit = table.get("max_in_flight");
        let limit = limit.map(|value| max_in_flight(&value).unwrap_or_default());
        let (place, written) = address?;
        let server = ServerConfig {
            place,
            weight,
            backup,
            max_in_flight: limit,
            tls_name: None,
        };
        Some((server, written))
    })
}

fn max_in_flight(value: &Value<'_>) -> Option<Option<u32>> {
    or_off(value, |value| integer(value, 1..=1_000_000))
}

fn concurrency(value: &Value<'_>) -> Option<Concurrency> {
    let names = [
        ("off", Concurrency::Off),
        ("adaptive", Concurrency::Adaptive),
    ];
    choice(value, &names, &[])
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            size: 1000,
            timeout: Duration::from_secs(5),
        }
    }
}

fn queue(value: &Value<'_>) -> Option<Queue> {
    let defaults = Queue::default();
    let read = |value: &Value<'_>| {
        value.table(|table| {
            table.elsewhere(peers::QUEUE);
            Some(Queue {
                size: table.or("size", defaults.size, |value| integer(value, 0..=1_000_000)),
                timeout: table.or("timeout", defaults.timeout, duration),
            })
        })
    };
    or_off(value, read).map(|queue| {
        queue.unwrap_or(Queue {
            size: 0,
            ..defaults
        })
    })
}

/// A positive integer.
pub(super) fn weight(value: &Value<'_>) -> Option<Weight> {
    integer::<u32>(value, 1..=i64::from(Weight::MAX))
        .and_then(NonZeroU32::new)
        .map(Weight)
}

fn host_header(value: &Value<'_>) -> Option<HostHeader> {
    match string(value, "`\"preserve\"`, `\"server\"` or a host")? {
        "preserve" => Some(HostHeader::Preserve),
        "server" => Some(HostHeader::Server),
        _ => addresses::host_value(value).map(HostHeader::Fixed),
    }
}

fn keepalive(value: &Value<'_>) -> Option<Keepalive> {
    let defaults = Keepalive::default();
    value.table(|table| {
        table.elsewhere(peers::KEEPALIVE);
        let mistakes = table.value.problems.mistakes();
        let keepalive = Keepalive {
            max_idle: table.or("max_idle", defaults.max_idle, |value| {
                integer(value, 0..=100_000)
            }),
            idle: table.or("idle", defaults.idle, duration),
            max_age: table.or("max_age", defaults.max_age, duration),
        };
        let value = table.get("idle").or_else(|| table.get("max_age"));
        if let Some(value) = value.filter(|value| value.problems.mistakes() == mistakes) {
            warnings::keepalive(&value, &table.value, &keepalive);
        }
        Some(keepalive)
    })
}

/// A unix socket has no second port that could be asked instead.
fn refuse_port_of_socket(
    value: &Value<'_>,
    check: Option<&Option<HealthCheck>>,
    servers: Option<&[Read<'_>]>,
) {
    let mut servers = servers.unwrap_or_default().iter();
    let is_socket = |place| matches!(place, &ServerPlace::Address(ServerAddr::Unix(_)));
    let socket = servers.find(|(server, _)| is_socket(&server.place));
    if let (Some(Some(HealthCheck { port: Some(_), .. })), Some((_, socket))) = (check, socket) {
        let message = format!("`{}` has no port; leave `port` out", socket.quoted());
        value.invalid(message);
    }
}

impl HealthCheck {
    fn of(kind: HealthCheckKind) -> Self {
        Self {
            kind,
            port: None,
            interval: Duration::from_secs(5),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            tls_name: None,
        }
    }
}

/// The long form, or a path alone.
fn health_check(value: &Value<'_>) -> Option<HealthCheck> {
    match value.inner {
        DeValue::String(_) => Some(HealthCheck::of(HealthCheckKind::Http(HttpCheck::at(
            probe_path(value)?,
        )))),
        DeValue::Table(_) => value.table(|table| {
            table.elsewhere(peers::HEALTH_CHECK);
            let mistakes = table.value.problems.mistakes();
            let defaults = HealthCheck::of(kind(table));
            let check = HealthCheck {
                port: table.or("port", None, |value| {
                    or_off(value, |value| integer(value, 1..=65535))
                }),
                interval: table.or("interval", defaults.interval, duration),
                fast_interval: table.or("fast_interval", defaults.fast_interval, duration),
                timeout: table.or("timeout", defaults.timeout, duration),
                rise: table.or("rise", defaults.rise, |value| integer(value, 1..=1000)),
                fall: table.or("fall", defaults.fall, |value| integer(value, 1..=1000)),
                kind: defaults.kind,
                tls_name: None,
            };
            let times = ["timeout", "fast_interval", "interval"];
            let value = times.iter().find_map(|key| table.get(key));
            if let Some(value) = value.filter(|value| value.problems.mistakes() == mistakes) {
                warnings::health_check(&value, &table.value, &check);
            }
            Some(check)
        }),
        _ => {
            value.wrong_type("a path such as `\"/healthz\"`, a table, or `\"off\"`");
            None
        }
    }
}

impl HttpCheck {
    /// What a probe asks and expects where nothing else is said.
    fn at(path: String) -> Self {
        Self {
            path,
            method: Method::GET,
            host: None,
            headers: Vec::new(),
            status: vec![(200, 399)],
            body: None,
        }
    }
}

/// `type` and the keys that depend on it.
fn kind(table: &Table<'_>) -> HealthCheckKind {
    let http = HttpCheck::at("/".into());
    let path = table.or("path", http.path, probe_path);
    let method = table.or("method", http.method, method);
    let host = table.or("host", None, |value| or_off(value, addresses::host_value));
    let headers = table.or("headers", Vec::new(), |value| {
        Some(field_values(value, "`host` of the health check"))
    });
    let status = table.or("status", http.status, statuses);
    let body = table.or("body", None, |value| {
        or_off(value, |value| string(value, "a string").map(str::to_owned))
    });
    let names = [("http", "http"), ("tcp", "tcp"), ("grpc", "grpc")];
    let named = table
        .get("type")
        .and_then(|value| choice(&value, &names, &[]));
    let (kind, without): (_, &[&str]) = match named {
        Some("tcp") => (HealthCheckKind::Tcp, &PROBES_OF_HTTP),
        Some("grpc") => {
            let service = path.trim_start_matches('/').to_owned();
            let check = GrpcCheck {
                service,
                host,
                headers,
            };
            (HealthCheckKind::Grpc(check), &["method", "status", "body"])
        }
        _ => {
            let check = HttpCheck {
                path,
                method,
                host,
                headers,
                status,
                body,
            };
            (HealthCheckKind::Http(check), &[])
        }
    };
    for name in without.iter().filter_map(|key| table.key(key)) {
        let message = format!(
            "`{}` means nothing with `type = \"{}\"`",
            name.text,
            named.unwrap_or_default()
        );
        name.problem("invalid-value", message, None);
    }
    kind
}

/// A path, perhaps with a query. Sent as written.
fn probe_path(value: &Value<'_>) -> Option<String> {
    let text = string(value, "a path such as `\"/healthz\"`")?;
    let valid = text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if valid && text.parse::<PathAndQuery>().is_ok() {
        return Some(text.to_owned());
    }
    let message = format!("`{}` is not a path", plain(text));
    match text.starts_with('/') {
        false => value.invalid_but(message, instead_of(value, text)),
        true => value.invalid_but(
            message,
            "spaces and other special characters are written as `%20`",
        ),
    }
    None
}

/// What to write in place of what does not begin with a path: that of a URL or a request, a kind of probe, or the text
/// itself.
fn instead_of(value: &Value<'_>, text: &str) -> String {
    if let Some((_, rest)) = text.split_once("://") {
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        return format!("write `{}`", plain(path));
    }
    let is_short = value.path.ends_with("health_check");
    if let Some((words, path)) = peers::path_within(text) {
        let path = plain(path);
        let mut words = words.split(' ');
        let method = words.find(|word| *word != "GET" && STANDARD_METHODS.contains(word));
        return match method {
            None => format!("write `{path}`"),
            Some(method) if is_short => {
                format!("write `{{ path = \"{path}\", method = \"{method}\" }}`")
            }
            Some(method) => format!("write `{path}`, and `method = \"{method}\"` beside it"),
        };
    }
    match text {
        "tcp" | "tcp-check" if is_short => "write `{ type = \"tcp\" }`".to_owned(),
        "grpc" if is_short => "write `{ type = \"grpc\" }`".to_owned(),
        "" | "http" | "httpchk" | "check" | "true" | "on" | "yes" => PATH_ALONE.to_owned(),
        _ if text.contains(' ') => PATH_ALONE.to_owned(),
        _ => format!("write `/{}`", plain(text)),
    }
}

/// `"200-399"`, `"200, 204"`, `200`
fn statuses(value: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    if value.inner.is_integer() {
        return integer(value, 100..=599).map(|status| vec![(status, status)]);
    }
    let text = string(value, "statuses such as `\"200-399\"`")?;
    let ranges: Option<Vec<_>> = text
        .split(',')
        .map(|part| statuses_between(part.trim()))
        .collect();
    if ranges.is_none() {
        let message = format!("{} is not a set of statuses", found(value.inner));
        value.invalid_but(
            message,
            "write statuses from 100 to 599 as in `\"200-299, 304\"`",
        );
    }
    ranges
}

fn statuses_between(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        text.parse()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    let (low, high) = (status(low.trim())?, status(high.trim())?);
    (low <= high).then_some((low, high))
}

const PATH_ALONE: &str = "name what to ask the servers for, as in `\"/healthz\"`";
