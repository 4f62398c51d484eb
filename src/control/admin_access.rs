//! Who may use the admin address. Without a token it is open to this machine only, and a web page that the operator has
//! open must not use it either: neither by a name that it makes resolve to this machine (DNS rebinding), nor by sending
//! a form across sites.

use http::request::Parts;
use http::{Method, StatusCode, header};

use crate::semantics::host;

/// What a request must show.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) token: Option<String>,
}

impl Access {
    /// The status to refuse with, if it is to be refused.
    pub(crate) fn refuses(&self, request: &Parts) -> Option<StatusCode> {
        if matches!(request.uri.path(), "/healthz" | "/readyz") {
            return None;
        }
        if let Some(token) = &self.token {
            return (!bears(request, token)).then_some(StatusCode::UNAUTHORIZED);
        }
        if !names_this_machine(request) || (is_writing(&request.method) && is_cross_site(request)) {
            return Some(StatusCode::FORBIDDEN);
        }
        None
    }
}

/// By an address or as `localhost`, which no foreign name server answers for.
fn names_this_machine(request: &Parts) -> bool {
    let mut fields = request.headers.get_all(header::HOST).iter();
    let host = match (request.uri.authority(), fields.next()) {
        (Some(authority), _) => Some(authority.as_str()),
        // Only HTTP/1.0, which no browser speaks.
        (None, None) => return request.version <= http::Version::HTTP_10,
        (None, Some(field)) => field.to_str().ok(),
    };
    let Some(host) = host
        .filter(|_| fields.next().is_none())
        .and_then(|host| host::parse(host).ok())
    else {
        return false;
    };
    let name = &*host.name;
    name == "localhost" || name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}

fn bears(request: &Parts, token: &str) -> bool {
    let field = request
        .headers
        .get(header::AUTHORIZATION)
        .map(http::HeaderValue::as_bytes)
        .unwrap_or_default();
    let Some((scheme, given)) = field.split_at_checked(7) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"bearer ") && equal(given.trim_ascii(), token.as_bytes())
}

/// Takes as long wherever the first difference is.
fn equal(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len()
        && given
            .iter()
            .zip(token)
            .fold(0, |differences, (a, b)| differences | (a ^ b))
            == 0
}

fn is_writing(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// By `Sec-Fetch-Site`, else by `Origin`: only browsers send them, and they cannot be made to leave them out.
fn is_cross_site(request: &Parts) -> bool {
    if let Some(site) = request.headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return false;
    };
    let host = request
        .headers
        .get(header::HOST)
        .map(http::HeaderValue::as_bytes)
        .unwrap_or_default();
    let origin = origin.as_bytes();
    let origin = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    origin != Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn refused(access: &Access, method: &str, path: &str, fields: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        access
            .refuses(&request.body(()).unwrap().into_parts().0)
            .map(|status| status.as_u16())
    }

    const OPEN: Access = Access { token: None };

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:9900",
            "127.0.0.1:9900",
            "[::1]:9900",
            "10.1.2.3",
        ] {
            assert_eq!(
                refused(&OPEN, "GET", "/api/status", &[("host", host)]),
                None,
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9900",
            "a b",
            "",
        ] {
            assert_eq!(
                refused(&OPEN, "GET", "/api/status", &[("host", host)]),
                Some(403),
                "{host}"
            );
        }
    }

    #[test]
    fn pages_of_other_sites_cannot_write() {
        let host = ("host", "localhost:9900");
        for field in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(
                refused(&OPEN, "POST", "/api/reload", &[host, field]),
                Some(403),
                "{field:?}"
            );
        }
        for field in [
            ("origin", "http://localhost:9900"),
            ("sec-fetch-site", "same-origin"),
            ("accept", "*/*"),
        ] {
            assert_eq!(
                refused(&OPEN, "POST", "/api/reload", &[host, field]),
                None,
                "{field:?}"
            );
        }
    }

    #[test]
    fn with_a_token_everything_but_the_probes_needs_it() {
        let access = Access {
            token: Some("secret".into()),
        };
        assert_eq!(refused(&access, "GET", "/healthz", &[]), None);
        assert_eq!(refused(&access, "GET", "/metrics", &[]), Some(401));
        assert_eq!(
            refused(
                &access,
                "GET",
                "/metrics",
                &[("authorization", "Bearer secret")]
            ),
            None
        );
        for wrong in [
            "Bearer secre",
            "Bearer secrets",
            "Basic secret",
            "secret",
            "",
        ] {
            assert_eq!(
                refused(&access, "GET", "/metrics", &[("authorization", wrong)]),
                Some(401),
                "{wrong}"
            );
        }
    }
}
