//! Which server a client came to before: a cookie names it by an id that does not tell its address.
//!
//! The id is a keyed hash of the address, and the key is made of the names of the upstream and the cookie: it is the same
//! after a restart and in every instance with that config, and nothing needs to be stored or agreed on. Whoever knows both
//! names can check a guess of an address against an id; no more is hidden.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue};

use crate::config::{SameSite, Secure, Sticky};
use crate::semantics::cookies;
use crate::units::{ServerAddr, UpstreamName};

/// The cookie of an upstream, and the servers that it may name.
pub(crate) struct Stickiness {
    cookie: String,
    secure: Secure,
    /// By place among the servers.
    ids: Vec<Box<str>>,
    places: HashMap<Box<str>, usize>,
    /// What stands behind the value.
    attributes: String,
}

impl Stickiness {
    pub(crate) fn new<'s>(
        sticky: &Sticky,
        upstream: &UpstreamName,
        servers: impl Iterator<Item = &'s ServerAddr>,
    ) -> Self {
        let secret = format!("weir sticky 1\n{upstream}\n{}", sticky.cookie);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let ids: Vec<_> = servers.map(|server| id(&key, server)).collect();
        Self {
            cookie: sticky.cookie.clone(),
            secure: sticky.secure,
            places: ids.iter().cloned().zip(0..).collect(),
            ids,
            attributes: attributes(sticky),
        }
    }

    /// The place of the server that the client's cookie names.
    pub(crate) fn place(&self, headers: &HeaderMap) -> Option<usize> {
        let value = cookies::find(headers, &self.cookie)?;
        let id = std::str::from_utf8(value).ok()?;
        self.places.get(id).copied()
    }

    /// `Set-Cookie` that names the server at `place`.
    pub(crate) fn set_cookie(&self, place: usize, https: bool) -> Option<HeaderValue> {
        let secure = match self.secure {
            Secure::Auto => https,
            Secure::Always => true,
            Secure::Never => false,
        };
        let value = format!(
            "{}={}{}{}",
            self.cookie,
            self.ids.get(place)?,
            self.attributes,
            if secure { "; Secure" } else { "" }
        );
        HeaderValue::try_from(value).ok()
    }
}

fn id(key: &hmac::Key, server: &ServerAddr) -> Box<str> {
    let tag = hmac::sign(key, server.to_string().as_bytes());
    let mut id = String::with_capacity(2 * ID_BYTES);
    for byte in tag.as_ref().iter().take(ID_BYTES) {
        let _ = write!(id, "{byte:02x}");
    }
    id.into()
}

fn attributes(sticky: &Sticky) -> String {
    let mut out = format!("; Path={}", sticky.path);
    if let Some(domain) = &sticky.domain {
        let _ = write!(out, "; Domain={domain}");
    }
    if let Some(ttl) = sticky.ttl {
        let _ = write!(out, "; Max-Age={}", ttl.as_secs().max(1));
    }
    out.push_str("; HttpOnly; SameSite=");
    out.push_str(match sticky.same_site {
        SameSite::Lax => "Lax",
        SameSite::Strict => "Strict",
        SameSite::None => "None",
    });
    out
}

/// Enough for no two servers to have the same.
const ID_BYTES: usize = 12;
