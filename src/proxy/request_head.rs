//! The head of a request as a server gets it: filtered and completed while it is written, without editing a map.
//!
//! Who the client is, is told by weir: the fields of a client that is not trusted are replaced (RFC 7239 §8.1), those of
//! a trusted proxy extended.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Version};

use super::record::Record;
use super::target::Target;
use crate::config::HostHeader;
use crate::http1::fields::write_field;
use crate::semantics::forwarded;
use crate::semantics::hop_by_hop::{Nominated, has_token, is_hop_by_hop};
use crate::semantics::path::below;
use crate::semantics::variables::begins_as;
use crate::state::{Listener, Route, Upstream};
use crate::units::ServerAddr;
use crate::upstream::http1::UploadLength;
use crate::upstream::http1::head::write_request_line;

/// Everything that decides what a server is sent.
pub(crate) struct RequestHead<'r> {
    pub(crate) record: &'r Record,
    pub(crate) listener: &'r Listener,
    pub(crate) route: &'r Route,
    pub(crate) upstream: &'r Upstream,
    pub(crate) server: &'r ServerAddr,
    pub(crate) target: &'r Target<'r>,
    /// `None`: no body.
    pub(crate) body: Option<UploadLength>,
    /// The protocol that the client wants to switch to.
    pub(crate) upgrade: Option<&'r HeaderValue>,
}

impl RequestHead<'_> {
    /// Appends the head to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.write_line(out);
        self.write_host(out);
        let headers = &self.record.request.headers;
        let trusted = !self.listener.trusted_proxies.is_empty()
            && forwarded::is_trusted(self.record.client.peer.ip(), &self.listener.trusted_proxies);
        self.write_fields(out, headers);
        if trusted {
            self.write_extended(out, headers);
        } else {
            self.write_own(out);
        }
        out.extend_from_slice(match self.record.request.version {
            Version::HTTP_2 => b"via: 2.0 weir\r\n",
            Version::HTTP_10 => b"via: 1.0 weir\r\n",
            _ => b"via: 1.1 weir\r\n",
        });
        write_field(out, b"x-request-id", self.record.id.as_bytes());
        if let Some(prefix) = &self.route.strip_prefix {
            write_field(out, b"x-forwarded-prefix", prefix.as_bytes());
        }
        let edits = &self.route.request_headers;
        for (name, value) in edits.set.iter().chain(&edits.add) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
        self.write_framing(out);
        out.extend_from_slice(b"\r\n");
    }

    fn write_line(&self, out: &mut Vec<u8>) {
        let mut path = &*self.target.path;
        if self.route.strip_prefix.is_none() && self.route.add_prefix.is_none() || path == "*" {
            return write_request_line(out, &self.record.request.method, path, self.target.query);
        }
        if let Some(prefix) = &self.route.strip_prefix
            && let Some(rest) = below(path, prefix)
        {
            path = if rest.is_empty() { "/" } else { rest };
        }
        let mut rewritten = self.route.add_prefix.clone().unwrap_or_default();
        rewritten.push_str(path);
        write_request_line(
            out,
            &self.record.request.method,
            &rewritten,
            self.target.query,
        );
    }

    fn write_host(&self, out: &mut Vec<u8>) {
        match &self.upstream.host_header {
            HostHeader::Preserve if !self.target.authority.is_empty() => {
                write_field(out, b"host", self.target.authority.as_bytes());
            }
            HostHeader::Preserve | HostHeader::Server => {
                write_field(out, b"host", self.server.host().as_bytes())
            }
            HostHeader::Fixed(host) => write_field(out, b"host", host.as_bytes()),
        }
    }

    fn write_fields(&self, out: &mut Vec<u8>, headers: &HeaderMap) {
        let present = self.target.present;
        let nominated = present.connection.then(|| Nominated::of(headers));
        let edits = &self.route.request_headers;
        let edited = !edits.remove.is_empty() || !edits.set.is_empty();
        let http2 = self.record.request.version == Version::HTTP_2;
        let mut cookies = false;
        for (name, value) in headers {
            let text = name.as_str();
            if is_written_by_weir(text)
                || is_hop_by_hop(text)
                || nominated
                    .as_ref()
                    .is_some_and(|nominated| nominated.contains(name))
            {
                continue;
            }
            if edited
                && (edits.remove.contains(name) || edits.set.iter().any(|(set, _)| set == name))
            {
                continue;
            }
            // RFC 9113 §8.2.3: crumbs become one field where they leave HTTP/2.
            if http2 && *name == header::COOKIE {
                if !std::mem::replace(&mut cookies, true) {
                    write_joined(out, b"cookie", headers.get_all(name), b"; ");
                }
                continue;
            }
            write_field(out, text.as_bytes(), value.as_bytes());
        }
        // What follows an upgrade has no trailers.
        if self.upgrade.is_none()
            && present.te
            && headers
                .get_all(header::TE)
                .iter()
                .any(|value| has_token(value, "trailers"))
        {
            out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
        }
    }

    fn write_own(&self, out: &mut Vec<u8>) {
        let forwarded = &self.record.client.forwarded;
        out.extend_from_slice(&forwarded.lines);
        out.extend_from_slice(b"forwarded: ");
        out.extend_from_slice(forwarded.element.as_bytes());
        if !self.target.authority.is_empty() {
            out.extend_from_slice(b";host=\"");
            out.extend_from_slice(self.target.authority.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"\r\n");
        if !self.target.authority.is_empty() {
            write_field(out, b"x-forwarded-host", self.target.authority.as_bytes());
        }
    }

    /// A trusted proxy speaks first, weir adds the proxy.
    fn write_extended(&self, out: &mut Vec<u8>, headers: &HeaderMap) {
        let own = &self.record.client.forwarded;
        write_joined(
            out,
            b"x-forwarded-for",
            headers.get_all(&forwarded::X_FORWARDED_FOR),
            b", ",
        );
        if headers.contains_key(&forwarded::X_FORWARDED_FOR) {
            out.truncate(out.len().saturating_sub(2));
            out.extend_from_slice(b", ");
            out.extend_from_slice(own.address.as_bytes());
            out.extend_from_slice(b"\r\n");
        } else {
            write_field(out, b"x-forwarded-for", own.address.as_bytes());
        }
        write_field(
            out,
            b"x-real-ip",
            self.record.address.to_string().as_bytes(),
        );
        let https = self.record.is_https(self.listener);
        write_field(
            out,
            b"x-forwarded-proto",
            if https { b"https" } else { b"http" },
        );
        match headers.get(&forwarded::X_FORWARDED_HOST) {
            Some(host) => write_field(out, b"x-forwarded-host", host.as_bytes()),
            None if !self.target.authority.is_empty() => {
                write_field(out, b"x-forwarded-host", self.target.authority.as_bytes());
            }
            None => {}
        }
        for value in headers.get_all(header::FORWARDED) {
            write_field(out, b"forwarded", value.as_bytes());
        }
        write_field(out, b"forwarded", own.element.as_bytes());
    }

    fn write_framing(&self, out: &mut Vec<u8>) {
        match self.body {
            Some(UploadLength::Known(length)) => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(length.to_string().as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Some(UploadLength::Chunked) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // RFC 9110 §8.6: a method for which content is expected says that there is none.
            None if has_meaning_for_content(&self.record.request.method) => {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
            None => {}
        }
        if let Some(protocol) = self.upgrade {
            out.extend_from_slice(b"connection: upgrade\r\n");
            write_field(out, b"upgrade", protocol.as_bytes());
        }
    }
}

fn has_meaning_for_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Joins the values of a field into one line; nothing if there are none.
fn write_joined(
    out: &mut Vec<u8>,
    name: &[u8],
    values: header::GetAll<'_, HeaderValue>,
    separator: &[u8],
) {
    for (number, value) in values.iter().enumerate() {
        if number == 0 {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
        } else {
            out.extend_from_slice(separator);
        }
        out.extend_from_slice(value.as_bytes());
    }
    if values.iter().next().is_some() {
        out.extend_from_slice(b"\r\n");
    }
}

/// Fields that weir writes itself, whatever the client sent; `Forwarded` and its like of trusted proxies are read before.
///
/// Servers that turn fields into variables read `x_real_ip` as `x-real-ip`, so the one passes no more than the other.
#[inline]
fn is_written_by_weir(name: &str) -> bool {
    match name.len() {
        4 => name == "host",
        6 => name == "expect",
        9 => name == "forwarded" || begins_as(name, "x-real-ip"),
        12 => begins_as(name, "x-request-id"),
        14 => begins_as(name, "content-length"),
        15 => begins_as(name, "x-forwarded-for"),
        16 => begins_as(name, "x-forwarded-host"),
        17 => begins_as(name, "x-forwarded-proto"),
        18 => begins_as(name, "x-forwarded-prefix"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn fields_that_a_server_may_take_for_those_of_weir_do_not_pass() {
        for name in [
            "host",
            "x-real-ip",
            "x_real_ip",
            "X_Forwarded_For",
            "x-forwarded_proto",
            "content_length",
            "forwarded",
        ] {
            assert!(
                is_written_by_weir(HeaderName::try_from(name).unwrap().as_str()),
                "{name}"
            );
        }
        for name in [
            "x-real-pi",
            "x-forwarded-port",
            "content-type",
            "cookie",
            "x-requestxid",
            "x-forwarded-foo",
        ] {
            assert!(
                !is_written_by_weir(HeaderName::try_from(name).unwrap().as_str()),
                "{name}"
            );
        }
    }
}
