//! `[upstream.NAME.tls]`: who vouches for the servers, what their certificates must be for, what weir shows them.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::certificates::{chain, pair};
use super::check::Context;
use super::peers;
use super::value::{Table, Value, plain};
use super::values::{or_off, or_word, string, truth};
use super::{
    Certificate, HealthCheck, HealthCheckKind, Roots, ServerConfig, ServerPlace, ServersTls,
};
use crate::semantics::host;
use crate::units;

/// A server that was read, and where its address is written.
pub(super) type Read<'t> = (ServerConfig, Value<'t>);

/// `true`, `false`, `"off"`, or the table. Gives each of `servers` the name that its certificate must be for.
pub(super) fn servers_tls<'t>(
    value: &Value<'t>,
    servers: &mut [Read<'t>],
    context: &Context<'t>,
) -> Option<ServersTls> {
    match (truth(value), value.inner) {
        (Some(true), _) => {
            name_each(servers, None);
            Some(ServersTls {
                roots: context.system_roots(),
                server_name: None,
                client: None,
            })
        }
        (Some(false), _) => None,
        (None, DeValue::String(text)) if text == "off" => None,
        (None, DeValue::Table(_)) => value.table(|table| {
            table.elsewhere(peers::UPSTREAM_TLS);
            let server_name = table.get("server_name");
            let server_name = server_name.map(|value| or_off(&value, server_name_of));
            match &server_name {
                // Without knowing what was meant, nothing is missing.
                Some(None) => {}
                Some(Some(Some(name))) => name_each(servers, Some(name)),
                Some(Some(None)) | None => name_each(servers, None),
            }
            let roots = table.get("ca").and_then(|value| {
                or_word(&value, "system", |value| roots(value, context)).flatten()
            });
            Some(ServersTls {
                server_name: server_name.flatten().flatten(),
                client: client(table, context),
                roots: roots.unwrap_or_else(|| context.system_roots()),
            })
        }),
        _ => {
            value.wrong_type("`true`, a table, or `\"off\"`");
            None
        }
    }
}

fn name_each(servers: &mut [Read<'_>], given: Option<&ServerName<'static>>) {
    for (server, value) in servers {
        server.tls_name = given
            .cloned()
            .or_else(|| own_name(value.inner.as_str().unwrap_or_default(), &server.place));
        if server.tls_name.is_none() {
            let message = format!(
                "`{}` has no name that a certificate could be for",
                plain(&server.place.to_string())
            );
            value.invalid_but(
                message,
                "set `server_name` in the `tls` table of the upstream",
            );
        }
    }
}

/// The name of a server as its operator wrote it. What DNS says in between does not count (RFC 9525 §6.1): whoever could
/// forge its answers could choose the name. So the name of a service is the domain that its SRV records were asked for.
fn own_name(written: &str, place: &ServerPlace) -> Option<ServerName<'static>> {
    match place {
        ServerPlace::Address(units::ServerAddr::Ip(address)) => match written.rsplit_once(':') {
            Some((LOCALHOST, _)) => name(LOCALHOST),
            _ => Some(address.ip().into()),
        },
        ServerPlace::Address(units::ServerAddr::Unix(_)) => None,
        ServerPlace::Name(units::ServerName::Host { name: host, .. }) => name(host),
        ServerPlace::Name(units::ServerName::Service(service)) => {
            let mut domain = &**service;
            while let Some((label, rest)) = domain.split_once('.')
                && label.starts_with('_')
            {
                domain = rest;
            }
            (!domain.starts_with('_')).then(|| name(domain)).flatten()
        }
    }
}

/// Lower case, as what was read from files is compared.
fn name(text: &str) -> Option<ServerName<'static>> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    ServerName::try_from(bare.unwrap_or(text).to_ascii_lowercase()).ok()
}

/// `"app.example.com"`, `"10.0.0.7"`
fn server_name_of(value: &Value<'_>) -> Option<ServerName<'static>> {
    let text = string(value, "a name such as `\"app.example.com\"`")?;
    let name = name(text);
    if name.is_none() {
        let message = format!(
            "`{}` is not a name that a certificate can be for",
            plain(text)
        );
        match host::parse(text) {
            Ok(host) if host.port.is_some() => {
                let name = plain(&host.name);
                value.invalid_but(message, format!("write `{name}`, without the port"));
            }
            _ => value.invalid_but(message, "write a whole host name, or an IP address"),
        }
    }
    name
}

fn roots<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<Roots> {
    let chain = chain(value, context)?;
    let mut store = RootCertStore::empty();
    let (taken, _) = store.add_parsable_certificates(chain);
    let file = plain(value.inner.as_str()?);
    if taken == 0 {
        let message = format!("no certificate in `{file}` can be that of an authority");
        value.problem("certificate", message, None);
        return None;
    }
    Some(Roots {
        file: Some(value.inner.as_str()?.into()),
        loaded: Arc::new(store),
    })
}

/// `client_cert` and `client_key`: both or neither.
fn client<'t>(table: &Table<'t>, context: &Context<'t>) -> Option<Certificate> {
    let given = |key| {
        let value: Option<Value<'t>> = table.get(key);
        value.filter(|value| value.inner.as_str() != Some("off"))
    };
    let (cert, key) = (given("client_cert"), given("client_key"));
    match (cert, key) {
        (Some(cert), Some(key)) => pair(&cert, &key, context),
        (Some(cert), None) => {
            cert.invalid_but(
                "a certificate without its key",
                "for example `client_key = \"client.key\"`",
            );
            None
        }
        (None, Some(key)) => {
            key.invalid_but(
                "a key without its certificate",
                "for example `client_cert = \"client.pem\"`",
            );
            None
        }
        (None, None) => None,
    }
}

/// The name that the probes of a check ask for, where it has a `host` of its own.
pub(super) fn name_probes(value: &Value<'_>, check: &mut HealthCheck) {
    let host = match &check.kind {
        HealthCheckKind::Http(http) => http.host.as_ref(),
        HealthCheckKind::Grpc(grpc) => grpc.host.as_ref(),
        HealthCheckKind::Tcp => None,
    };
    let Some(text) = host.and_then(|host| host.to_str().ok()) else {
        return;
    };
    check.tls_name = host::parse(text).ok().and_then(|host| name(&host.name));
    if check.tls_name.is_none() {
        let message = format!(
            "`{}`, its `host`, is not a name that a certificate can be for",
            plain(&value.shown("host", text))
        );
        value.invalid(message);
    }
}

impl Roots {
    /// Those of the system; where there are none, as in an image of nothing but weir, those that Mozilla trusts.
    pub(super) fn of_system() -> Self {
        let mut loaded = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        loaded.add_parsable_certificates(found.certs);
        if loaded.is_empty() {
            loaded.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Self {
            file: None,
            loaded: Arc::new(loaded),
        }
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.loaded.roots == other.loaded.roots
    }
}

impl Eq for Roots {}

/// Read as its address, and yet a name that certificates are for.
pub(super) const LOCALHOST: &str = "localhost";
