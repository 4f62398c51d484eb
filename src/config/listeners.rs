//! `[listen.NAME]`

use std::time::Duration;

use super::addresses;
use super::certificates::certificate;
use super::check::{Context, MOST_CERTIFICATES};
use super::peers;
use super::value::{Entry, Table, Value, off};
use super::values::{
    boolean, choice, duration, duration_or_off, integer, list, one_or_list, or_auto, or_off, size,
    truth,
};
use super::{ListenLimits, Listener, RedirectToHttps, Tls, TlsVersion, UnknownSni};
use crate::units::ByteSize;

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(75),
            max_connection_age: None,
            max_header_size: ByteSize(32 << 10),
            max_headers: 100,
            max_target_size: ByteSize(8 << 10),
            max_connections: None,
            max_concurrent_streams: 100,
        }
    }
}

pub(super) fn listener<'t>(entry: &Entry<'t>, context: &Context<'t>) -> Option<Listener> {
    entry.value.table(|table| {
        table.elsewhere(peers::LISTEN);
        table.not_yet("proxy_protocol", off::word);
        let addresses = table
            .required("address", "\":8080\"")
            .map(|value| addresses(&value, context));
        let networks =
            |value: &Value<'t>| Some(list(value, "a list of networks", addresses::network));
        Some(Listener {
            name: entry.name.text.into(),
            trusted_proxies: table.or("trusted_proxies", Vec::new(), networks),
            http2: table.or("http2", true, boolean),
            redirect_to_https: table.or("redirect_to_https", None, |value| {
                or_off(value, redirect_to_https)
            }),
            limits: limits(table),
            tls: table.or("tls", None, |value| match truth(value) {
                Some(false) => Some(None),
                _ => or_off(value, |value| tls(value, entry.name.text, context)),
            }),
            addresses: addresses?,
        })
    })
}

fn addresses<'t>(value: &Value<'t>, context: &Context<'t>) -> Vec<super::ListenAddress> {
    if off::empty_list(value.inner) {
        value.invalid_but("a listener needs an address", "for example `\":8080\"`");
    }
    one_or_list(value, |value| {
        let address = addresses::listen(value)?;
        context.bound.borrow_mut().push((address, value.clone()));
        Some(address)
    })
}

fn redirect_to_https(value: &Value<'_>) -> Option<RedirectToHttps> {
    value.table(|table| {
        Some(RedirectToHttps {
            port: table.or("port", 443, |value| integer(value, 1..=65535)),
        })
    })
}

fn limits(table: &Table<'_>) -> ListenLimits {
    let defaults = ListenLimits::default();
    let max_header_size = table.or("max_header_size", defaults.max_header_size, |value| {
        size(value, HEADER_SIZE)
    });
    let target_size = |value: &Value<'_>| {
        let Some(header) = table.get("max_header_size").filter(Value::holds_replaced) else {
            return size(value, SMALLEST_TARGET..=max_header_size.0);
        };
        // The range would tell what the variable holds.
        let target = size(value, SMALLEST_TARGET..=*HEADER_SIZE.end())?;
        if target > max_header_size {
            value.invalid(format!("must not be more than `{}`", header.path));
            return None;
        }
        Some(target)
    };
    let connections = |value: &Value<'_>| or_auto(value, |value| integer(value, 1..=10_000_000));
    ListenLimits {
        header_timeout: table.or("header_timeout", defaults.header_timeout, duration),
        stall_timeout: table.or("stall_timeout", defaults.stall_timeout, duration),
        keepalive: table.or("keepalive", defaults.keepalive, duration),
        max_connection_age: table.or(
            "max_connection_age",
            defaults.max_connection_age,
            duration_or_off,
        ),
        max_header_size,
        max_headers: table.or("max_headers", defaults.max_headers, |value| {
            integer(value, 1..=1000)
        }),
        max_target_size: table.or(
            "max_target_size",
            defaults.max_target_size.min(max_header_size),
            target_size,
        ),
        max_connections: table.or("max_connections", defaults.max_connections, connections),
        max_concurrent_streams: table.or(
            "max_concurrent_streams",
            defaults.max_concurrent_streams,
            |value| integer(value, 1..=10_000),
        ),
    }
}

fn tls<'t>(value: &Value<'t>, listener: &'t str, context: &Context<'t>) -> Option<Tls> {
    let versions = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];
    let unknown_sni = [
        ("default", UnknownSni::Default),
        ("reject", UnknownSni::Reject),
    ];
    value.table(|table| {
        table.elsewhere(peers::LISTEN_TLS);
        table.not_yet("client_ca", off::word);
        table.not_yet("client_auth", off::never);
        let certificates = table.required(
            "certificates",
            "[{ cert = \"site.pem\", key = \"site.key\" }]",
        );
        let certificates = certificates.map(|value| {
            if off::empty_list(value.inner) {
                value.invalid("TLS needs a certificate");
            }
            let items = value
                .items("a list of tables such as `{ cert = \"site.pem\", key = \"site.key\" }`");
            if !context.takes_certificates(items.len()) {
                let message = format!("more than {MOST_CERTIFICATES} certificates in all");
                value.problem("too-many", message, None);
                return Vec::new();
            }
            let read = |item: &Value<'t>| {
                let certificate = certificate(item, context)?;
                let names = certificate.names.clone();
                let mut known = context.certificates.borrow_mut();
                known.push((listener, item.clone(), names));
                Some(certificate)
            };
            items.iter().filter_map(read).collect()
        });
        Some(Tls {
            unknown_sni: table.or("unknown_sni", UnknownSni::Default, |value| {
                choice(value, &unknown_sni, &[])
            }),
            min_version: table.or("min_version", TlsVersion::V1_2, |value| {
                choice(value, &versions, &[])
            }),
            hsts: table.or("hsts", None, duration_or_off),
            certificates: certificates?,
        })
    })
}

/// Below 1 KiB hardly a request fits; above 1 MiB each connection could hold too much memory.
const HEADER_SIZE: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;
const SMALLEST_TARGET: u64 = 64;
