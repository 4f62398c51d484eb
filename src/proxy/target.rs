//! What a client asks for, in one normal form; and what is refused before anything else looks at it.

use std::borrow::Cow;

use http::header::{HeaderMap, TRANSFER_ENCODING};
use http::{Method, Version};

use super::error::ProxyError;
use super::fields::{Parts, Present};
use crate::semantics::host;
use crate::semantics::path;
use crate::state::ListenLimits;

/// HTTP/2 clients may send their cookies one by one (RFC 9113 §8.2.3); they are counted apart from other fields.
pub(crate) const MAX_COOKIE_CRUMBS: usize = 256;

/// The target of a request (RFC 9110 §7.1).
pub(crate) struct Target<'r> {
    /// In normal form; empty if an HTTP/1.0 client names none.
    pub(crate) host: Cow<'r, str>,
    /// Where the client names one.
    pub(crate) port: Option<u16>,
    /// Host and port as the client wrote them.
    pub(crate) authority: &'r str,
    /// In normal form; `*` for `OPTIONS *`.
    pub(crate) path: Cow<'r, str>,
    /// As sent, without the `?`.
    pub(crate) query: Option<&'r str>,
    pub(crate) present: Present,
}

impl<'r> Target<'r> {
    /// Checks the head of a request against the limits of its listener and tells what it asks for.
    pub(crate) fn of(request: &'r Parts, limits: &ListenLimits) -> Result<Self, ProxyError> {
        within_limits(request, limits)?;
        let present = request.headers.present;
        if present.transfer_encoding {
            known_coding(&request.headers)?;
        }
        if request.method == Method::CONNECT {
            return Err(ProxyError::Connect);
        }
        let authority = authority(request)?;
        let (host, port) = match authority {
            "" => (Cow::Borrowed(""), None),
            authority => {
                let host = host::parse(authority).map_err(|_| ProxyError::Malformed("bad host"))?;
                (host.name, host.port)
            }
        };
        let path = match request.uri.path() {
            "*" if request.method == Method::OPTIONS => Cow::Borrowed("*"),
            path => path::normalise(path).map_err(|_| ProxyError::Malformed("bad path"))?,
        };
        Ok(Self {
            host,
            port,
            authority,
            path,
            query: request.uri.query(),
            present,
        })
    }

    /// Whether the authority is written as `host`, or as `host` and `port`, are.
    pub(crate) fn is_in_normal_form(&self) -> bool {
        let rest = self.authority.strip_prefix(&*self.host);
        match (rest, self.port) {
            (Some(rest), None) => rest.is_empty(),
            (Some(rest), Some(port)) => rest.strip_prefix(':').is_some_and(|digits| {
                !digits.starts_with('0') && port != 80 && port != 443 && digits.parse() == Ok(port)
            }),
            (None, _) => false,
        }
    }

    /// The path that routes are compared with: `OPTIONS *` concerns the server as a whole.
    pub(crate) fn routed_path(&self) -> &str {
        if self.path == "*" { "/" } else { &self.path }
    }
}

/// RFC 9112 §3.2: one `Host`, exactly; an absolute target beats it. RFC 9113 §8.3.1: `Host` beside `:authority` must agree.
fn authority(request: &Parts) -> Result<&str, ProxyError> {
    if request.headers.hosts > 1 {
        return Err(ProxyError::Malformed("more than one `Host`"));
    }
    let host = request.headers.host.as_ref();
    let host = host
        .map(|host| host.to_str().map_err(|_| ProxyError::Malformed("bad host")))
        .transpose()?;
    if let (Some(authority), Some(host)) = (request.uri.authority(), host)
        && authority.as_str() != host
    {
        // A bad `Host` is one even where it does not count.
        let named = host::parse(host).map_err(|_| ProxyError::Malformed("bad host"))?;
        if request.version == Version::HTTP_2 && host::parse(authority.as_str()) != Ok(named) {
            return Err(ProxyError::Malformed("`Host` differs from `:authority`"));
        }
    }
    match (request.uri.authority(), host) {
        (Some(_), None) if request.version == Version::HTTP_11 => {
            Err(ProxyError::Malformed("no `Host`"))
        }
        (Some(authority), _) => {
            let scheme = request.uri.scheme_str().unwrap_or("http");
            if matches!(scheme, "http" | "https") {
                Ok(authority.as_str())
            } else {
                Err(ProxyError::Malformed("bad scheme"))
            }
        }
        (None, Some("")) => Err(ProxyError::Malformed("empty `Host`")),
        (None, Some(host)) => Ok(host),
        (None, None) if request.version <= Version::HTTP_10 => Ok(""),
        (None, None) => Err(ProxyError::Malformed("no `Host`")),
    }
}

/// RFC 9112 §6.1: weir decodes `chunked`, once. Anything else would be handed on encoded, under fields that no longer say
/// so.
fn known_coding(headers: &HeaderMap) -> Result<(), ProxyError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(ProxyError::Malformed("bad `Transfer-Encoding`")),
    }
}

fn within_limits(request: &Parts, limits: &ListenLimits) -> Result<(), ProxyError> {
    let target = request
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > limits.max_target_size {
        return Err(ProxyError::TargetTooLong);
    }
    let headers = &request.headers;
    if headers.size > limits.max_header_size {
        return Err(ProxyError::FieldsTooLarge);
    }
    if headers.len() > limits.max_headers {
        let crumbs = cookie_crumbs(headers);
        let http2 = request.version == Version::HTTP_2;
        if !http2 || crumbs > MAX_COOKIE_CRUMBS || headers.len() - crumbs > limits.max_headers {
            return Err(ProxyError::FieldsTooLarge);
        }
    }
    Ok(())
}

fn cookie_crumbs(headers: &HeaderMap) -> usize {
    headers.get_all(http::header::COOKIE).iter().count()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::deadline::Ticks;

    fn limits() -> ListenLimits {
        ListenLimits {
            header_timeout: Ticks(1),
            stall_timeout: Ticks(1),
            keepalive: Ticks(1),
            max_connection_age: None,
            max_header_size: 200,
            max_headers: 4,
            max_target_size: 100,
            max_connections: 1,
            max_concurrent_streams: 1,
        }
    }

    fn request(version: Version, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let builder = Request::builder().version(version).uri(uri);
        fields
            .iter()
            .fold(builder, |builder, (name, value)| {
                builder.header(*name, *value)
            })
            .body(())
            .unwrap()
            .into_parts()
            .0
            .into()
    }

    /// Host, authority and path; or the refusal.
    fn of(
        version: Version,
        uri: &str,
        fields: &[(&str, &str)],
    ) -> Result<(String, String, String), String> {
        let parts = request(version, uri, fields);
        let target = Target::of(&parts, &limits()).map_err(|error| error.to_string())?;
        Ok((
            target.host.into_owned(),
            target.authority.to_owned(),
            target.path.into_owned(),
        ))
    }

    fn is(host: &str, authority: &str, path: &str) -> Result<(String, String, String), String> {
        Ok((host.to_owned(), authority.to_owned(), path.to_owned()))
    }

    #[test]
    fn the_host_is_that_of_the_field_unless_the_target_has_one() {
        let host = &[("host", "Shop.example.:80")];
        assert_eq!(
            of(Version::HTTP_11, "/a/../b", host),
            is("shop.example", "Shop.example.:80", "/b")
        );
        assert_eq!(
            of(Version::HTTP_11, "http://Other:81/a", host),
            is("other", "Other:81", "/a")
        );
        assert_eq!(of(Version::HTTP_10, "/", &[]), is("", "", "/"));
        assert_eq!(of(Version::HTTP_10, "http://a/", &[]), is("a", "a", "/"));
        assert_eq!(
            of(Version::HTTP_2, "https://a/", &[("host", "A.")]),
            is("a", "a", "/")
        );
    }

    #[test]
    fn a_request_without_exactly_one_good_host_is_refused() {
        for (version, uri, fields) in [
            (Version::HTTP_11, "/", &[][..]),
            (Version::HTTP_11, "http://a/", &[]),
            (Version::HTTP_11, "/", &[("host", "")]),
            (Version::HTTP_11, "/", &[("host", "a"), ("host", "a")]),
            (Version::HTTP_11, "http://a/", &[("host", "b c")]),
            (Version::HTTP_11, "http://u@a/", &[("host", "a")]),
            (Version::HTTP_11, "ftp://a/", &[("host", "a")]),
            (Version::HTTP_2, "/", &[]),
            (Version::HTTP_2, "https://a/", &[("host", "b")]),
            (Version::HTTP_2, "https://a/", &[("host", "a:81")]),
        ] {
            let refused = of(version, uri, fields).unwrap_err();
            assert!(
                refused.starts_with("malformed request"),
                "{version:?} {uri} {fields:?}: {refused}"
            );
        }
    }

    #[test]
    fn chunked_is_the_only_coding_and_comes_once() {
        let coded = |codings: &[&str]| {
            let fields: Vec<_> = [("host", "a")]
                .into_iter()
                .chain(codings.iter().map(|&coding| ("transfer-encoding", coding)))
                .collect();
            of(Version::HTTP_11, "/", &fields).is_ok()
        };
        assert!(coded(&[]) && coded(&["chunked"]) && coded(&["CHUNKED"]));
        for codings in [
            &["gzip, chunked"][..],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["gzip", "chunked"],
            &["", "chunked"],
        ] {
            assert!(!coded(codings), "{codings:?}");
        }
    }

    #[test]
    fn limits_hold_to_the_byte_and_crumbs_are_counted_apart() {
        let target = |length: usize| {
            of(
                Version::HTTP_11,
                &format!("/{}", "x".repeat(length - 1)),
                &[("host", "a")],
            )
            .is_ok()
        };
        assert!(target(100) && !target(101));
        // `host: a` and two line ends take 9 bytes.
        let fields = |length: usize| {
            of(
                Version::HTTP_11,
                "/",
                &[("host", "a"), ("x", &"y".repeat(length - 9 - 5))],
            )
            .is_ok()
        };
        assert!(fields(200) && !fields(201));
        let many = |version, name: &str, count| {
            let fields: Vec<_> = [("host", "a")]
                .into_iter()
                .chain(std::iter::repeat_n((name, "1"), count))
                .collect();
            of(version, "http://a/", &fields).is_ok()
        };
        assert!(many(Version::HTTP_11, "x", 3) && !many(Version::HTTP_11, "x", 4));
        assert!(!many(Version::HTTP_11, "cookie", 4) && many(Version::HTTP_2, "cookie", 15));
        let crumbs = |count| {
            let limits = ListenLimits {
                max_header_size: 100_000,
                ..limits()
            };
            let fields = vec![("cookie", "1"); count];
            Target::of(&request(Version::HTTP_2, "http://a/", &fields), &limits).is_ok()
        };
        assert!(crumbs(256) && !crumbs(257));
    }
}
