//! What the cache did with a request, as `Cache-Status` tells it (RFC 9211) and as it is counted.

use std::fmt;
use std::io::Write as _;

use http::{HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

use crate::http1::fields::write_number;
use crate::telemetry::labels::CacheResult;

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to a server (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    /// It is of a kind that is not looked up.
    Bypass,
    /// Its method is not one that is answered from the cache.
    Method,
    /// Nothing is stored for its target.
    UriMiss,
    /// Something is stored for its target, but not for such a request.
    VaryMiss,
    /// The request asked for it.
    Request,
    /// What is stored is stale.
    Stale,
}

impl Forwarded {
    fn word(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// The verdict on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `None`: answered from the store without asking.
    pub(super) forwarded: Option<Forwarded>,
    /// What the server answered, where that is known.
    pub(super) answered: Option<StatusCode>,
    /// Seconds for which the response stays fresh.
    pub(super) ttl: Option<i64>,
    pub(super) stored: bool,
    /// Another request's fetch brought it.
    pub(super) collapsed: bool,
    /// Why it was not stored, or why it was used though stale.
    pub(super) detail: Option<&'static str>,
}

impl Verdict {
    /// From the store.
    pub(super) const fn hit(ttl: i64) -> Self {
        Self {
            forwarded: None,
            answered: None,
            ttl: Some(ttl),
            stored: false,
            collapsed: false,
            detail: None,
        }
    }

    pub(super) const fn forwarded(why: Forwarded) -> Self {
        Self {
            forwarded: Some(why),
            ttl: None,
            ..Self::hit(0)
        }
    }

    pub(super) fn with_detail(self, detail: &'static str) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }

    /// As it is told with a response of this status: what the server answered need not be said if it is the same
    /// (RFC 9211 §2.3).
    pub(super) fn beside(self, status: StatusCode) -> Self {
        Self {
            answered: self.answered.filter(|&answered| answered != status),
            ..self
        }
    }

    /// How it is counted.
    pub(super) fn result(&self) -> CacheResult {
        let not_modified = self.answered == Some(StatusCode::NOT_MODIFIED);
        match self.forwarded {
            None if self.ttl.is_some_and(|ttl| ttl < 0) => CacheResult::Stale,
            None => CacheResult::Hit,
            Some(_) if self.collapsed => CacheResult::Collapsed,
            Some(Forwarded::Bypass | Forwarded::Method) => CacheResult::Bypass,
            Some(_) if not_modified => CacheResult::Revalidated,
            // What the server answered instead was not used.
            Some(_) if self.ttl.is_some_and(|ttl| ttl < 0) => CacheResult::Stale,
            Some(_) => CacheResult::Miss,
        }
    }

    pub(super) fn to_value(self) -> Option<HeaderValue> {
        let mut text = SmallVec::<[u8; 128]>::new();
        if let (None, None, Some(ttl)) = (self.forwarded, self.detail, self.ttl) {
            // Nearly always, and so without the formatter.
            write_hit(&mut text, ttl);
        } else {
            write!(text, "{self}").ok()?;
        }
        HeaderValue::from_bytes(&text).ok()
    }
}

/// What a response from the store is told with, which is fresh for `ttl` seconds yet.
pub(super) fn write_hit(out: &mut impl Extend<u8>, ttl: i64) {
    out.extend(*b"weir; hit; ttl=");
    if ttl < 0 {
        out.extend([b'-']);
    }
    write_number(out, ttl.unsigned_abs());
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("weir; ")?;
        match self.forwarded {
            None => out.write_str("hit")?,
            Some(why) => write!(out, "fwd={}", why.word())?,
        }
        if let Some(status) = self.answered {
            write!(out, "; fwd-status={}", status.as_u16())?;
        }
        if let Some(ttl) = self.ttl {
            write!(out, "; ttl={ttl}")?;
        }
        if self.stored {
            out.write_str("; stored")?;
        }
        if self.collapsed {
            out.write_str("; collapsed")?;
        }
        if let Some(detail) = self.detail {
            write!(out, "; detail={detail}")?;
        }
        Ok(())
    }
}
