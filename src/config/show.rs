//! The configuration as TOML again, every default written out: what `weir check --show` prints.

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;

use super::mask::MASK;
use super::servers_tls::LOCALHOST;
use super::value::join;
use super::values::{show_duration, show_size};
use super::{
    AccessFilter, AccessFormat, AccessLog, Action, Admin, AdminAddress, Balance, Cache, CacheStore,
    Coding, Compress, Concurrency, Config, FieldEdits, HashKey, HealthCheck, HealthCheckKind,
    HostHeader, HostPattern, KeyQuery, ListenAddress, Listener, Log, LogFormat, LogLevel,
    OnAllDown, Process, RetryOn, Route, SameSite, Secure, ServerConfig, ServerPlace, ServersTls,
    Sticky, Tls, TlsVersion, UnknownSni, Upstream,
};
use crate::units::{ByteSize, ServerAddr, Weight};

impl Config {
    /// The whole configuration as valid TOML, every default filled in, secrets masked.
    pub fn show(&self) -> String {
        self.show_if(|_, _| true)
    }

    /// The same without those listeners, routes and upstreams that are not `wanted`, by kind and name.
    pub(super) fn show_if(&self, wanted: impl Fn(&str, &str) -> bool) -> String {
        let mut out = Toml {
            text: String::new(),
            table: String::new(),
            masked: &self.masked,
        };
        process(&mut out, &self.process);
        admin(&mut out, &self.admin);
        log(&mut out, &self.log);
        cache_store(&mut out, self.cache);
        let is_wanted = |each: &&Listener| wanted("listen", each.name.as_str());
        for each in self.listeners.iter().filter(is_wanted) {
            listener(&mut out, each);
        }
        let is_wanted = |each: &&Route| wanted("route", each.name.as_str());
        for each in self.routes.iter().filter(is_wanted) {
            route(&mut out, each);
        }
        let is_wanted = |each: &&Upstream| wanted("upstream", each.name.as_str());
        for each in self.upstreams.iter().filter(is_wanted) {
            upstream(&mut out, each);
        }
        out.text
    }
}

fn process(out: &mut Toml<'_>, process: &Process) {
    out.header("process");
    out.key("workers", or("auto", process.workers));
    out.key("drain", duration(process.drain));
    out.key(
        "shutdown_delay",
        or("off", process.shutdown_delay.map(duration)),
    );
    let state = process.state.as_ref();
    out.key("state", or("off", state.map(|path| text(path.display()))));
    out.key("resolver", or("system", process.resolver.map(text)));
}

fn admin(out: &mut Toml<'_>, admin: &Admin) {
    out.header("admin");
    let address = admin.address.as_ref().map(|address| match address {
        AdminAddress::Tcp(address) => listen_address(address),
        AdminAddress::Unix(path) => text(format!("unix:{}", path.display())),
    });
    out.key("address", or("off", address));
    out.key(
        "probes",
        or("off", admin.probes.as_ref().map(listen_address)),
    );
    out.key("token", or("off", admin.token.as_ref().map(|_| text(MASK))));
}

fn log(out: &mut Toml<'_>, log: &Log) {
    out.header("log");
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    out.key("level", text(level));
    let format = match log.format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    out.key("format", text(format));
    let access = match &log.access {
        AccessLog::Off => text("off"),
        AccessLog::Stdout => text("stdout"),
        AccessLog::File(path) => text(path.display()),
    };
    out.key("access", access);
    let filter = match log.access_filter {
        AccessFilter::Errors => "errors",
        AccessFilter::All => "all",
    };
    out.key("access_filter", text(filter));
    let access_format = match log.access_format {
        AccessFormat::Json => "json",
        AccessFormat::Combined => "combined",
    };
    out.key("access_format", text(access_format));
}

fn cache_store(out: &mut Toml<'_>, store: CacheStore) {
    out.header("cache");
    out.key("max_size", or("auto", store.max_size.map(size)));
    out.key("max_object_size", size(store.max_object_size));
}

fn listener(out: &mut Toml<'_>, listener: &Listener) {
    let path = join("listen", listener.name.as_str());
    out.header(&path);
    out.key(
        "address",
        list(listener.addresses.iter().map(listen_address)),
    );
    out.key(
        "trusted_proxies",
        list(listener.trusted_proxies.iter().map(text)),
    );
    out.key("http2", listener.http2);
    let redirect = listener
        .redirect_to_https
        .map(|redirect| format!("{{ port = {} }}", redirect.port));
    out.key("redirect_to_https", or("off", redirect));
    let limits = &listener.limits;
    out.key("header_timeout", duration(limits.header_timeout));
    out.key("stall_timeout", duration(limits.stall_timeout));
    out.key("keepalive", duration(limits.keepalive));
    out.key(
        "max_connection_age",
        or("off", limits.max_connection_age.map(duration)),
    );
    out.key("max_header_size", size(limits.max_header_size));
    out.key("max_headers", limits.max_headers);
    out.key("max_target_size", size(limits.max_target_size));
    out.key("max_connections", or("auto", limits.max_connections));
    out.key("max_concurrent_streams", limits.max_concurrent_streams);
    if let Some(settings) = &listener.tls {
        tls(out, &join(&path, "tls"), settings);
    }
}

fn tls(out: &mut Toml<'_>, path: &str, tls: &Tls) {
    out.header(path);
    let certificates = tls.certificates.iter().map(|certificate| {
        let (cert, key) = (
            text(certificate.cert.display()),
            text(certificate.key.display()),
        );
        format!("{{ cert = {cert}, key = {key} }}")
    });
    out.key("certificates", list(certificates));
    let unknown_sni = match tls.unknown_sni {
        UnknownSni::Default => "default",
        UnknownSni::Reject => "reject",
    };
    out.key("unknown_sni", text(unknown_sni));
    let version = match tls.min_version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    };
    out.key("min_version", text(version));
    out.key("hsts", or("off", tls.hsts.map(duration)));
}

fn route(out: &mut Toml<'_>, route: &Route) {
    let path = join("route", route.name.as_str());
    out.header(&path);
    out.key("listen", list(route.listen.iter().map(text)));
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(name) => text(name),
        HostPattern::Suffix(name) => text(format!("*.{name}")),
    };
    out.key("host", list(route.hosts.iter().map(host)));
    out.key("path", list(route.paths.iter().map(prefix)));
    out.key("path_exact", list(route.paths_exact.iter().map(text)));
    out.key("methods", list(route.methods.iter().map(text)));
    let value = |value: &Option<String>| text(value.as_deref().unwrap_or("*"));
    out.key(
        "headers",
        table(
            route
                .headers
                .iter()
                .map(|field| (field.name.as_str(), value(&field.value))),
        ),
    );
    out.key(
        "query",
        table(
            route
                .query
                .iter()
                .map(|parameter| (parameter.name.as_str(), value(&parameter.value))),
        ),
    );
    out.key("priority", route.priority);
    action(out, &route.action);
    out.key(
        "strip_prefix",
        or("off", route.strip_prefix.as_ref().map(prefix)),
    );
    out.key(
        "add_prefix",
        or("off", route.add_prefix.as_ref().map(prefix)),
    );
    out.key("request_headers", edits(&route.request_headers));
    out.key("response_headers", edits(&route.response_headers));
    out.key("timeout", or("off", route.timeout.map(duration)));
    out.key("max_body", or("off", route.max_body.map(size)));
    out.key("buffer_request", or("off", route.buffer_request.map(size)));
    for (key, is_off) in [
        ("cache", route.cache.is_none()),
        ("compress", route.compress.is_none()),
    ] {
        if is_off {
            out.key(key, false);
        }
    }
    if let Some(each) = &route.cache {
        cache(out, &join(&path, "cache"), each);
    }
    if let Some(each) = &route.compress {
        compress(out, &join(&path, "compress"), each);
    }
}

fn cache(out: &mut Toml<'_>, path: &str, cache: &Cache) {
    out.header(path);
    out.key("enabled", true);
    out.key("heuristic", cache.heuristic);
    out.key("default_ttl", or("off", cache.default_ttl.map(duration)));
    out.key("store_set_cookie", cache.store_set_cookie);
    let key_query = match &cache.key_query {
        KeyQuery::All => text("all"),
        KeyQuery::None => text("none"),
        KeyQuery::Names(names) => list(names.iter().map(text)),
    };
    out.key("key_query", key_query);
    out.key("key_query_sort", cache.key_query_sort);
    out.key("vary_ignore", list(cache.vary_ignore.iter().map(text)));
    out.key("max_variants", cache.max_variants);
    out.key("collapse", cache.collapse);
    let stale = [
        ("stale_while_revalidate", cache.stale_while_revalidate),
        ("stale_if_error", cache.stale_if_error),
    ];
    for (key, window) in stale {
        out.key(key, or("off", window.map(duration)));
    }
    out.key("cache_status", cache.cache_status);
}

fn compress(out: &mut Toml<'_>, path: &str, compress: &Compress) {
    out.header(path);
    out.key("enabled", true);
    let codings = compress.codings.iter();
    out.key("codings", list(codings.map(|coding| text(coding.name()))));
    out.key("min_size", size(compress.min_size));
    for (key, levels) in [
        ("level", compress.level),
        ("stored_level", compress.stored_level),
    ] {
        let levels = Coding::ALL.map(|coding| (coding.name(), levels.of(coding).to_string()));
        out.key(key, table(levels.into_iter()));
    }
    let types = compress.types.iter();
    out.key("types", list(types.map(|pattern| text(pattern.as_str()))));
}

fn action(out: &mut Toml<'_>, action: &Action) {
    match action {
        Action::Forward(shares) => {
            let weighted = shares
                .iter()
                .map(|(name, weight)| (name.as_str(), weight.0.to_string()));
            match shares.as_slice() {
                [(name, Weight::ONE)] => out.key("upstream", text(name)),
                _ => out.key("upstream", table(weighted)),
            }
        }
        Action::Redirect { to, status } => {
            out.key(
                "redirect",
                format!("{{ to = {}, status = {} }}", text(to), status.as_u16()),
            );
        }
        Action::Respond {
            status,
            body,
            content_type,
        } => {
            let (body, content_type) = (text(body), header_value(content_type));
            let status = status.as_u16();
            out.key(
                "respond",
                format!("{{ status = {status}, body = {body}, content_type = {content_type} }}"),
            );
        }
    }
}

fn edits(edits: &FieldEdits) -> String {
    let remove = list(edits.remove.iter().map(text));
    format!(
        "{{ set = {}, add = {}, remove = {remove} }}",
        fields(&edits.set),
        fields(&edits.add)
    )
}

fn upstream(out: &mut Toml<'_>, upstream: &Upstream) {
    let path = join("upstream", upstream.name.as_str());
    out.header(&path);
    let server = |server: &ServerConfig| {
        let limit = server.max_in_flight.map(|limit| {
            let limit = or("off", limit);
            format!(", max_in_flight = {limit}")
        });
        format!(
            "{{ address = {}, weight = {}, backup = {}{} }}",
            text(written(server, upstream)),
            server.weight.0,
            server.backup,
            limit.unwrap_or_default()
        )
    };
    out.key("servers", list(upstream.servers.iter().map(server)));
    let balance = match &upstream.balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastConnections => "least_connections",
        Balance::PeakEwma => "peak_ewma",
        Balance::Random => "random",
        Balance::Hash(_) => "hash",
    };
    out.key("balance", text(balance));
    if let Balance::Hash(key) = &upstream.balance {
        out.key("hash_key", hash_key(key));
    }
    out.key("protocol", text("http1"));
    let host_header = match &upstream.host_header {
        HostHeader::Preserve => text("preserve"),
        HostHeader::Server => text("server"),
        HostHeader::Fixed(host) => header_value(host),
    };
    out.key("host_header", host_header);
    out.key("connect_timeout", duration(upstream.connect_timeout));
    out.key("response_timeout", duration(upstream.response_timeout));
    out.key("stall_timeout", duration(upstream.stall_timeout));
    out.key("stream_timeout", duration(upstream.stream_timeout));
    let on_all_down = match upstream.on_all_down {
        OnAllDown::TryAnyway => "try_anyway",
        OnAllDown::Refuse => "503",
    };
    out.key("on_all_down", text(on_all_down));
    out.key("max_in_flight", or("off", upstream.max_in_flight));
    out.key(
        "queue",
        format!(
            "{{ size = {}, timeout = {} }}",
            upstream.queue.size,
            duration(upstream.queue.timeout)
        ),
    );
    let concurrency = match upstream.concurrency {
        Concurrency::Off => "off",
        Concurrency::Adaptive => "adaptive",
    };
    out.key("concurrency", text(concurrency));
    out.key("panic_below", or("off", upstream.panic_below.map(text)));
    out.key("slow_start", or("off", upstream.slow_start.map(duration)));
    for (key, is_off) in [
        ("health_check", upstream.health_check.is_none()),
        ("ejection", upstream.ejection.is_none()),
        ("retry", upstream.retry.is_none()),
        ("sticky", upstream.sticky.is_none()),
        ("tls", upstream.tls.is_none()),
    ] {
        if is_off {
            out.key(key, text("off"));
        }
    }
    out.header(&join(&path, "keepalive"));
    out.key("max_idle", upstream.keepalive.max_idle);
    out.key("idle", duration(upstream.keepalive.idle));
    out.key("max_age", duration(upstream.keepalive.max_age));
    if let Some(check) = &upstream.health_check {
        health_check(out, &join(&path, "health_check"), check);
    }
    if let Some(tls) = &upstream.tls {
        servers_tls(out, &join(&path, "tls"), tls);
    }
    if let Some(ejection) = &upstream.ejection {
        out.header(&join(&path, "ejection"));
        out.key("failures", ejection.failures);
        out.key("base", duration(ejection.base));
        out.key("max", duration(ejection.max));
        out.key("max_share", text(ejection.max_share));
    }
    if let Some(each) = &upstream.sticky {
        sticky(out, &join(&path, "sticky"), each);
    }
    if let Some(retry) = &upstream.retry {
        out.header(&join(&path, "retry"));
        out.key("max_retries", retry.max_retries);
        out.key("budget", text(retry.budget));
        let word = |on: &RetryOn| {
            let known = RetryOn::ALL.iter().find(|(_, known)| known == on);
            text(known.map_or("", |(word, _)| word))
        };
        out.key("on", list(retry.on.iter().map(word)));
        out.key("methods", list(retry.methods.iter().map(text)));
    }
}

/// The address of a server in a way that says the same of its certificate as the file.
fn written(server: &ServerConfig, upstream: &Upstream) -> String {
    let own = upstream
        .tls
        .as_ref()
        .is_some_and(|tls| tls.server_name.is_none());
    match (&server.place, &server.tls_name) {
        (ServerPlace::Address(ServerAddr::Ip(address)), Some(ServerName::DnsName(_))) if own => {
            format!("{LOCALHOST}:{}", address.port())
        }
        (place, _) => place.to_string(),
    }
}

fn servers_tls(out: &mut Toml<'_>, path: &str, tls: &ServersTls) {
    out.header(path);
    let file = |file: &std::path::PathBuf| text(file.display());
    out.key("ca", or("system", tls.roots.file.as_ref().map(file)));
    let name = tls.server_name.as_ref().map(|name| text(name.to_str()));
    out.key("server_name", or("off", name));
    let client = tls.client.as_ref();
    out.key(
        "client_cert",
        or("off", client.map(|pair| file(&pair.cert))),
    );
    out.key("client_key", or("off", client.map(|pair| file(&pair.key))));
}

fn sticky(out: &mut Toml<'_>, path: &str, sticky: &Sticky) {
    out.header(path);
    out.key("cookie", text(&sticky.cookie));
    out.key("ttl", or("session", sticky.ttl.map(duration)));
    out.key("path", text(&sticky.path));
    out.key("domain", or("off", sticky.domain.as_ref().map(text)));
    let secure = match sticky.secure {
        Secure::Auto => text("auto"),
        Secure::Always => true.to_string(),
        Secure::Never => false.to_string(),
    };
    out.key("secure", secure);
    let same_site = SameSite::ALL
        .iter()
        .find(|(_, known)| *known == sticky.same_site);
    out.key("same_site", text(same_site.map_or("lax", |(word, _)| word)));
}

fn hash_key(key: &HashKey) -> String {
    match key {
        HashKey::ClientIp => text("client_ip"),
        HashKey::Path => text("path"),
        HashKey::Header(name) => text(format!("header:{name}")),
        HashKey::Cookie(name) => text(format!("cookie:{name}")),
    }
}

fn health_check(out: &mut Toml<'_>, path: &str, check: &HealthCheck) {
    out.header(path);
    match &check.kind {
        HealthCheckKind::Tcp => out.key("type", text("tcp")),
        HealthCheckKind::Http(http) => {
            out.key("type", text("http"));
            out.key("path", text(&http.path));
            out.key("method", text(&http.method));
            out.key("host", or("off", http.host.as_ref().map(header_value)));
            out.key("headers", fields(&http.headers));
            let ranges: Vec<_> = http
                .status
                .iter()
                .map(|(low, high)| format!("{low}-{high}"))
                .collect();
            out.key("status", text(ranges.join(", ")));
            out.key("body", or("off", http.body.as_ref().map(text)));
        }
        HealthCheckKind::Grpc(grpc) => {
            out.key("type", text("grpc"));
            out.key("path", text(format!("/{}", grpc.service)));
            out.key("host", or("off", grpc.host.as_ref().map(header_value)));
            out.key("headers", fields(&grpc.headers));
        }
    }
    out.key("port", or("off", check.port));
    out.key("interval", duration(check.interval));
    out.key("fast_interval", duration(check.fast_interval));
    out.key("timeout", duration(check.timeout));
    out.key("rise", check.rise);
    out.key("fall", check.fall);
}

/// The text so far.
struct Toml<'c> {
    text: String,
    /// The path of the table that keys go into.
    table: String,
    /// The paths of what is not to be shown.
    masked: &'c [String],
}

impl Toml<'_> {
    fn header(&mut self, path: &str) {
        path.clone_into(&mut self.table);
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.write(format_args!("{gap}[{path}]\n"));
    }

    fn key(&mut self, key: &str, value: impl Display) {
        if self.masked.is_empty() {
            return self.write(format_args!("{key} = {value}\n"));
        }
        let path = join(&self.table, key);
        let value = masked(value.to_string(), &path, self.masked);
        self.write(format_args!("{key} = {value}\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.text
            .write_fmt(text)
            .expect("a String takes every write");
    }
}

/// The value of a key without what is masked in it; all of it where that cannot be told from the rest.
fn masked(value: String, path: &str, masked: &[String]) -> String {
    // They are in order, and may be as many as there are routes.
    let is_masked = |path: &str| {
        let found = masked.binary_search_by(|masked| masked.as_str().cmp(path));
        found.is_ok()
    };
    let mut around = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]);
    if is_masked(path) || around.any(is_masked) {
        return text(MASK);
    }
    let from = masked.partition_point(|masked| masked.as_str() < path);
    let within_it = masked.iter().skip(from);
    let mut parts = within_it
        .map_while(|masked| masked.strip_prefix(path))
        .filter(|rest| rest.starts_with(['.', '[']))
        .peekable();
    if parts.peek().is_none() {
        return value;
    }
    let Ok(mut parsed) = toml::from_str::<toml::Table>(&format!("v = {value}")) else {
        return text(MASK);
    };
    let Some(tree) = parsed.get_mut("v") else {
        return text(MASK);
    };
    for part in parts {
        match within(tree, part) {
            Some(inner) => *inner = toml::Value::String(MASK.into()),
            None => return text(MASK),
        }
    }
    tree.to_string()
}

/// What is at `[0].address`. Names of fields are shown in lower case.
fn within<'v>(value: &'v mut toml::Value, path: &str) -> Option<&'v mut toml::Value> {
    if path.is_empty() {
        return Some(value);
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (number, rest) = rest.split_once(']')?;
        // A server is shown as a table, however it is written.
        return within(
            value
                .as_array_mut()?
                .get_mut(number.parse::<usize>().ok()?)?,
            rest,
        );
    }
    let rest = path.strip_prefix('.')?;
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (key, rest) = rest.split_at(end);
    let mut entries = value.as_table_mut()?.iter_mut();
    let entry = entries.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
    within(entry.1, rest)
}

/// A TOML basic string.
fn text(value: impl Display) -> String {
    let mut out = String::from('"');
    for character in value.to_string().chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            character if character.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(character)))
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

/// A path that is kept without its trailing slash. It needs one where it would else lose another, or be empty.
fn prefix(path: &String) -> String {
    let slash = if path.is_empty() || path.ends_with('/') {
        "/"
    } else {
        ""
    };
    text(format!("{path}{slash}"))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn table<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<_> = entries
        .map(|(key, value)| format!("{} = {value}", text(key)))
        .collect();
    if entries.is_empty() {
        "{}".into()
    } else {
        format!("{{ {} }}", entries.join(", "))
    }
}

fn fields(fields: &[(HeaderName, HeaderValue)]) -> String {
    table(
        fields
            .iter()
            .map(|(name, value)| (name.as_str(), header_value(value))),
    )
}

fn header_value(value: &HeaderValue) -> String {
    text(String::from_utf8_lossy(value.as_bytes()))
}

fn or(word: &str, value: Option<impl Display>) -> String {
    value.map_or_else(|| text(word), |value| value.to_string())
}

fn listen_address(address: &ListenAddress) -> String {
    match address.any {
        true => text(format!(":{}", address.socket.port())),
        false => text(address.socket),
    }
}

fn size(size: ByteSize) -> String {
    text(show_size(size))
}

fn duration(duration: Duration) -> String {
    text(show_duration(duration))
}
