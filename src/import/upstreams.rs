//! `upstream` blocks and the addresses of `proxy_pass` -> `[upstream.NAME]`.
//!
//! weir says in an upstream what nginx says in each location: `Host`, timeouts, retries. So locations with different
//! settings get upstreams of their own, even if the servers are the same.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::context::Context;
use super::scope::Scope;
use super::syntax::Directive;
use super::toml::{Table, Toml};
use super::values::{self, duration, slug, time};
use crate::semantics::host;

/// Where `proxy_pass` leads, apart from the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) tls: bool,
    /// `host:port`, `unix:/path`, or the name of an `upstream` block.
    pub(super) address: String,
    /// The `Host` that servers get unless something else is said: nginx's `$proxy_host`.
    pub(super) host: String,
}

/// Servers, balancing and what belongs to it. `None` where no server is left; that was told.
pub(super) fn servers(context: &Context<'_>, to: &Destination) -> Option<(Table, String)> {
    let mut table = Table::default();
    let Some(block) = context.upstream(&to.address) else {
        let address = address(&to.address, if to.tls { 443 } else { 80 })?;
        table.set("servers", vec![address]);
        return Some((table, slug_of_address(&to.address)));
    };
    context.ledger.done(block);
    let all = block.inner();
    // Each makes a table, and is compared with those of other routes.
    context.budget().look(3 * all.len());
    let servers: Vec<_> = all.iter().filter(|found| found.name == "server").collect();
    let listed = listed(context, &servers, to.tls);
    if listed.is_empty() {
        context
            .ledger
            .left(block, "it has no server that weir can use");
        return None;
    }
    table.set("servers", Toml::List(listed));
    balance(context, &mut table, all);
    keepalive(context, &mut table, all);
    let is_up = |server: &&&Directive| !server.args.iter().skip(1).any(|arg| arg == "down");
    let up: Vec<_> = servers.iter().filter(is_up).copied().collect();
    ejection(context, &mut table, &up);
    Some((table, slug(&to.address)))
}

/// A name for an upstream that is an address.
fn slug_of_address(address: &str) -> String {
    match address.strip_prefix("unix:") {
        Some(path) => slug(path.rsplit('/').next().unwrap_or_default()),
        None => slug(address),
    }
}

/// The items of `servers`.
fn listed(context: &Context<'_>, servers: &[&Directive], tls: bool) -> Vec<Toml> {
    let mut seen = HashSet::new();
    let mut usable: Vec<(Vec<(String, Toml)>, bool)> = Vec::new();
    for server in servers {
        let written = server.arg(0).unwrap_or_default();
        let Some(address) = address(written, if tls { 443 } else { 80 }) else {
            let why = "weir cannot use this address; it is `host:port` or `unix:/path`";
            context.ledger.left(server, why);
            continue;
        };
        let parameters = server.args.get(1..).unwrap_or_default();
        if parameters.iter().any(|parameter| parameter == "down") {
            let why = "it is marked `down`; take a server out of service with `weir drain`";
            context.ledger.needless(server, why);
            continue;
        }
        let identity = address.replace("localhost:", "127.0.0.1:");
        if !seen.insert(identity) {
            let why = "it is there twice; weir has each server once, give it a higher `weight`";
            context.ledger.left(server, why);
            continue;
        }
        usable.push(item(context, server, address, parameters));
    }
    let all_backups = usable.iter().all(|(_, backup)| *backup);
    let items = usable.into_iter().map(|(mut item, _)| {
        if all_backups {
            item.retain(|(name, _)| name != "backup");
        }
        match &mut *item {
            [(_, only)] => only.clone(),
            _ => Toml::Inline(item),
        }
    });
    items.collect()
}

/// A server as a table, and whether it is a backup.
fn item(
    context: &Context<'_>,
    server: &Directive,
    address: String,
    parameters: &[String],
) -> (Vec<(String, Toml)>, bool) {
    context.ledger.done(server);
    let mut item = vec![("address".to_owned(), Toml::from(address))];
    let mut backup = false;
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let number = value.parse::<u64>().ok();
        match (name, number) {
            ("weight", Some(1)) | ("max_conns", Some(0)) => {}
            ("weight", Some(weight @ 2..=1_000_000)) => item.push(("weight".into(), weight.into())),
            ("max_conns", Some(limit @ 1..=1_000_000)) => {
                item.push(("max_in_flight".into(), limit.into()));
                context.ledger.differs(
                    server,
                    "`max_conns` is `max_in_flight`, of requests; the excess waits in the upstream's `queue`",
                );
            }
            ("backup", None) => {
                backup = true;
                item.push(("backup".into(), true.into()));
            }
            // Read by `ejection` for all servers together.
            ("max_fails", Some(_)) | ("fail_timeout", None) => {}
            ("resolve" | "slow_start", _) => {
                let why = "weir asks for names again by itself, and gives servers that come back their share slowly";
                context.ledger.but_for(server, why);
            }
            _ => {
                let parameter = super::syntax::short(parameter);
                let why = format!(
                    "weir has no counterpart to `{parameter}`; the server is used without it"
                );
                context.ledger.left(server, why);
            }
        }
    }
    let mut seen = HashSet::new();
    item.retain(|(name, _)| seen.insert(name.clone()));
    (item, backup)
}

/// As weir takes the address of a server, with its port; `None` for what is none.
pub(super) fn address(text: &str, default_port: u16) -> Option<String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_suffix(':').unwrap_or(path);
        let whole = path.starts_with('/') && !path.starts_with("//") && path.len() <= 107;
        let plain = !path.contains(['\0', '$']) && path.chars().all(|c| !c.is_control());
        return (whole && plain).then(|| format!("unix:{path}"));
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return (socket.port() > 0).then(|| socket.to_string());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, default_port).to_string());
    }
    let parsed = host::parse(text).ok()?;
    let port = parsed.port.unwrap_or(default_port);
    let last = parsed.name.rsplit('.').next().unwrap_or_default();
    // As a name `unix` cannot be told from a socket.
    let is_name = parsed.name != "unix"
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && parsed.name.len() <= 253
        && parsed.name.split('.').all(|label| label.len() <= 63)
        && !parsed.name.starts_with('[');
    (is_name && port > 0).then(|| format!("{}:{port}", parsed.name))
}

fn balance(context: &Context<'_>, table: &mut Table, block: &[Directive]) {
    for directive in block {
        let name = directive.name.as_str();
        if ["least_conn", "random", "ip_hash", "hash"].contains(&name) && table.has("balance") {
            let why = "weir balances in one way, that of the first here";
            context.ledger.left(directive, why);
            continue;
        }
        let key = match name {
            "least_conn" => {
                table.set("balance", "least_connections");
                context.ledger.done(directive);
                continue;
            }
            "random" => {
                table.set("balance", "random");
                context
                    .ledger
                    .differs(directive, "weir's `random` takes the less loaded of two");
                continue;
            }
            "ip_hash" => {
                let why = "weir goes by the whole address; nginx by the first three bytes of an IPv4 address";
                context.ledger.differs(directive, why);
                Some("client_ip".to_owned())
            }
            "hash" => hash_key(directive.arg(0).unwrap_or_default()),
            _ => continue,
        };
        let Some(key) = key else {
            let why = "weir hashes by `client_ip`, `path`, `header:NAME` or `cookie:NAME`; choose one as `hash_key`";
            context.ledger.left(directive, why);
            continue;
        };
        table.set("balance", "hash");
        table.set("hash_key", key);
        context.ledger.differs(
            directive,
            "other servers than nginx's will get a client's requests",
        );
    }
    // nginx refuses two of them; weir would too.
    let mut seen = HashSet::new();
    table.keys.retain(|key| seen.insert(key.name().to_owned()));
    let is_hash = table
        .keys
        .iter()
        .any(|key| *key.value() == Toml::from("hash"));
    table.keys.retain(|key| is_hash || key.name() != "hash_key");
}

fn hash_key(variable: &str) -> Option<String> {
    match variable {
        "$remote_addr" | "$binary_remote_addr" => return Some("client_ip".into()),
        "$request_uri" | "$uri" => return Some("path".into()),
        _ => {}
    }
    if let Some(name) = variable.strip_prefix("$cookie_") {
        return values::field_name(name).map(|_| format!("cookie:{name}"));
    }
    let name = variable.strip_prefix("$http_")?;
    values::field_name(&name.replace('_', "-")).map(|name| format!("header:{name}"))
}

fn keepalive(context: &Context<'_>, table: &mut Table, block: &[Directive]) {
    let mut keys = Vec::new();
    for directive in block {
        let value = directive.arg(0).unwrap_or_default();
        let key = match directive.name.as_str() {
            "keepalive" => value
                .parse()
                .ok()
                .filter(|number| *number <= 100_000)
                .map(|number: u64| ("max_idle", Toml::from(number))),
            "keepalive_timeout" => lasting(value).map(|time| ("idle", time.into())),
            "keepalive_time" => lasting(value).map(|time| ("max_age", time.into())),
            _ => continue,
        };
        match key {
            Some((name, value)) => {
                keys.push((name.to_owned(), value));
                context.ledger.done(directive);
            }
            None => context.ledger.left(directive, NOT_A_VALUE),
        }
    }
    if !keys.is_empty() {
        let mut seen = HashSet::new();
        keys.retain(|(name, _)| seen.insert(name.clone()));
        table.set("keepalive", keys);
    }
}

fn lasting(text: &str) -> Option<String> {
    time(text).and_then(duration)
}

/// `max_fails` and `fail_timeout`, which weir has for all servers of an upstream.
fn ejection(context: &Context<'_>, table: &mut Table, servers: &[&Directive]) {
    let of = |server: &Directive, name: &str| {
        let mut parameters = server.args.iter();
        parameters.find_map(|parameter| Some(parameter.strip_prefix(name)?.to_owned()))
    };
    let settings = |server: &Directive| (of(server, "max_fails="), of(server, "fail_timeout="));
    let Some(first) = servers.first().map(|server| settings(server)) else {
        return;
    };
    for server in servers.iter().filter(|server| settings(server) != first) {
        let why =
            "weir has one `ejection` for all servers of an upstream, that of the first server here";
        context.ledger.differs(server, why);
    }
    let (fails, rest) = first;
    if fails.as_deref() == Some("0") {
        return table.set_for("ejection", "off", "max_fails=0");
    }
    let mut keys = Vec::new();
    if let Some(failures) = fails.and_then(|text| text.parse::<u64>().ok()) {
        keys.push(("failures".to_owned(), Toml::from(failures.clamp(1, 10_000))));
    }
    let rest = rest.as_deref().and_then(time);
    if let Some((rest, written)) = rest.and_then(|rest| Some((rest, duration(rest)?))) {
        keys.push(("base".into(), written.clone().into()));
        if rest > LONGEST_REST {
            keys.push(("max".into(), written.into()));
        }
    }
    if !keys.is_empty() {
        table.set("ejection", keys);
    }
}

/// What nginx says in the location of how its servers are spoken to.
pub(super) fn treatment(
    context: &Context<'_>,
    table: &mut Table,
    to: &Destination,
    scope: &Scope<'_>,
) {
    timeouts(context, table, scope);
    retries(context, table, scope);
    if to.tls {
        tls(context, table, to, scope);
    }
}

fn timeouts(context: &Context<'_>, table: &mut Table, scope: &Scope<'_>) {
    let said = |name: &str| {
        let directive = scope.find(name)?;
        let time = lasting(directive.arg(0).unwrap_or_default());
        if time.is_none() {
            context.ledger.left(directive, NOT_A_VALUE);
        }
        Some((directive, time?))
    };
    let connect = said("proxy_connect_timeout");
    let read = said("proxy_read_timeout");
    let send = said("proxy_send_timeout");
    if let Some((directive, time)) = connect {
        context.ledger.done(directive);
        table.set("connect_timeout", time);
    }
    if let Some((directive, time)) = &read {
        context.ledger.done(directive);
        table.set("response_timeout", time.clone());
        table.set("stall_timeout", time.clone());
        table.set_for(
            "stream_timeout",
            time.clone(),
            "WebSockets and event streams",
        );
    }
    if let Some((directive, time)) = send {
        match read {
            None => {
                context.ledger.done(directive);
                table.set("stall_timeout", time);
            }
            Some((_, read)) if read == time => context.ledger.agrees(directive),
            Some(_) => {
                let why = "weir has one `stall_timeout` for both directions, that of `proxy_read_timeout`";
                context.ledger.differs(directive, why);
            }
        }
    }
}

fn retries(context: &Context<'_>, table: &mut Table, scope: &Scope<'_>) {
    let tries = scope.find("proxy_next_upstream_tries");
    if let Some(directive) = scope.find("proxy_next_upstream")
        && directive.says("off")
    {
        context.ledger.done(directive);
        let why = "`proxy_next_upstream off` leaves it nothing to count";
        tries.inspect(|tries| context.ledger.needless(tries, why));
        return table.set("retry", "off");
    }
    let tries = tries.and_then(|directive| {
        let number = directive
            .arg(0)
            .and_then(|number| number.parse::<u64>().ok());
        match number {
            // As many as there are servers.
            Some(0) => context.ledger.agrees(directive),
            Some(_) => context.ledger.done(directive),
            None => context.ledger.left(directive, NOT_A_VALUE),
        }
        number
    });
    let mut keys = Vec::new();
    if let Some(directive) = scope.find("proxy_next_upstream") {
        context.ledger.done(directive);
        let (mut on, mut methods) = (Vec::new(), vec!["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]);
        for case in &directive.args {
            match case.as_str() {
                "off" => return table.set("retry", "off"),
                "error" => on.extend(["connect", "reset"]),
                "invalid_header" => on.push("reset"),
                "timeout" => on.push("timeout"),
                "http_502" => on.push("502"),
                "http_503" => on.push("503"),
                "http_504" => on.push("504"),
                "non_idempotent" => methods.extend(["POST", "PATCH"]),
                other => {
                    let other = super::syntax::short(other);
                    let why =
                        format!("weir does not retry for `{other}`; it does for the other cases");
                    context.ledger.left(directive, why);
                }
            }
        }
        let mut seen = HashSet::new();
        on.retain(|case| seen.insert(*case));
        let list =
            |items: Vec<&str>| Toml::from(items.into_iter().map(str::to_owned).collect::<Vec<_>>());
        keys.push(("on".to_owned(), list(on)));
        keys.push(("methods".to_owned(), list(methods)));
    }
    if let Some(tries @ 1..) = tries {
        keys.push(("max_retries".to_owned(), Toml::from((tries - 1).min(10))));
    }
    if !keys.is_empty() {
        table.set("retry", keys);
    }
}

fn tls(context: &Context<'_>, table: &mut Table, to: &Destination, scope: &Scope<'_>) {
    let mut keys = Vec::new();
    let mut file = |name: &str, key: &str| {
        let Some(directive) = scope.find(name) else {
            return false;
        };
        match directive.arg(0).and_then(|path| context.file(path)) {
            Some(path) => {
                keys.push((key.to_owned(), Toml::from(path)));
                context.ledger.done(directive);
                true
            }
            None => {
                context
                    .ledger
                    .left(directive, "weir takes the path of a PEM file here");
                false
            }
        }
    };
    file("proxy_ssl_trusted_certificate", "ca");
    let pair = file("proxy_ssl_certificate", "client_cert")
        & file("proxy_ssl_certificate_key", "client_key");
    if !pair {
        let names = ["proxy_ssl_certificate", "proxy_ssl_certificate_key"];
        for directive in names.into_iter().filter_map(|name| scope.find(name)) {
            let why = "weir takes a certificate and its key; one of them is missing";
            context.ledger.left(directive, why);
        }
        keys.retain(|(name, _)| !name.starts_with("client_"));
    }
    let named = scope.find("proxy_ssl_name").and_then(|directive| {
        let name = directive.arg(0).filter(|name| is_tls_name(name));
        match name {
            Some(_) => context.ledger.done(directive),
            None => context.ledger.left(directive, NOT_A_VALUE),
        }
        name.map(str::to_owned)
    });
    // nginx verifies by the name of the `upstream` block; without verification nobody knows what the certificates say.
    let verified = scope.is_on("proxy_ssl_verify").is_some();
    let by_block = verified && context.upstream(&to.address).is_some();
    let unnamed = table.keys.iter().any(|key| has_unnamed(key.value()));
    let own = || (by_block || unnamed).then(|| to.host.clone());
    let own = || own().filter(|name| is_tls_name(name));
    let last = || unnamed.then(|| "localhost".to_owned());
    if let Some(name) = named.or_else(own).or_else(last) {
        keys.push(("server_name".into(), name.into()));
    }
    if let Some(verify) = scope
        .find("proxy_ssl_verify")
        .filter(|verify| !verify.says("on"))
    {
        context.ledger.differs(verify, VERIFIES);
    } else if let Some(verify) = scope.find("proxy_ssl_verify") {
        context.ledger.agrees(verify);
    } else {
        context.ledger.general(format!(
            "https://{}: {VERIFIES}",
            super::syntax::short(&to.address)
        ));
    }
    match keys.is_empty() {
        true => table.set("tls", true),
        false => table.set("tls", keys),
    }
}

/// Whether one of the servers has no name that a certificate could be for.
fn has_unnamed(servers: &Toml) -> bool {
    match servers {
        Toml::List(items) => items.iter().any(has_unnamed),
        Toml::Inline(keys) => keys
            .first()
            .is_some_and(|(_, address)| has_unnamed(address)),
        Toml::Text(address) if address.contains(':') => {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            address.starts_with("unix:") || !is_tls_name(host.trim_matches(['[', ']']))
        }
        _ => false,
    }
}

/// What `server_name` of a `tls` table takes.
fn is_tls_name(text: &str) -> bool {
    rustls::pki_types::ServerName::try_from(text).is_ok() && !text.ends_with('.')
}

const NOT_A_VALUE: &str = "weir has no such value; its default is used";
const VERIFIES: &str = "weir always verifies the certificates of servers, which nginx does not unless told; \
                        a private authority goes into `ca` of the `tls` table";
/// The default of `ejection.max`.
const LONGEST_REST: Duration = Duration::from_secs(300);
