//! Whether a response is encoded, and with which coding.
//!
//! `Vary: Accept-Encoding` is for whatever another client might get encoded, also where this one does not, and for the
//! parts of such a thing. What is left alone on purpose:
//! - what is encoded already, is a part of something (206), has no content, or says `no-transform` (RFC 9110 §7.7);
//! - gRPC, which has codings of its own;
//! - what a page of another site asks for with the client's cookies over TLS: it could put guesses into the request and
//!   learn from the length of the response what else is in there (BREACH);
//! - what goes to an HTTP/1.0 client, which would learn of its end by the end of the connection only.

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode, Version};

use crate::config::Compress;
use crate::semantics::coding::{self, Accepted, Coding};

/// What is asked, as far as it decides on the coding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'r> {
    pub(crate) method: &'r Method,
    pub(crate) version: Version,
    pub(crate) headers: &'r HeaderMap,
    /// Whether the client came by TLS, be it to a trusted proxy.
    pub(crate) https: bool,
}

/// What to do with the content of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    AsIs,
    Encode {
        coding: Coding,
        /// Of the plain content, where it is known.
        length: Option<u64>,
        /// Each piece is to be sent as soon as it is there.
        prompt: bool,
    },
    /// The same if there turns out to be enough of it.
    IfEnough(Coding),
}

/// Why a response stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AsIs {
    #[error("the response is encoded already")]
    Encoded,
    #[error("the response says `no-transform`")]
    NoTransform,
    #[error("a response with this status has no content, or a part")]
    Status,
    #[error("the response is smaller than `min_size`")]
    TooSmall,
    #[error("the type of the response is not among `types`")]
    Type,
    #[error("clients of HTTP/1.0 get nothing encoded")]
    Http10,
    #[error("the request says `no-transform`")]
    RequestNoTransform,
    #[error("a page of another site asks with cookies over TLS")]
    OtherSite,
    #[error("the request has no `Accept-Encoding` that allows one of `codings`")]
    NotAccepted,
    #[error("an answer to HEAD has no content")]
    Head,
}

/// Decides on a response. Its fields are made to fit as far as they do not depend on what is known later; see
/// [`coding::describe_encoded`] for the others.
pub(crate) fn plan(
    compress: &Compress,
    request: Request<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Plan {
    plan_or_reason(compress, request, status, headers).unwrap_or(Plan::AsIs)
}

/// The same; the reason where the response stays as it is.
#[inline]
pub(crate) fn plan_or_reason(
    compress: &Compress,
    request: Request<'_>,
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Result<Plan, AsIs> {
    let Decision { plan, varies } = decide(compress, request, status, headers);
    if varies {
        coding::vary_by_accept_encoding(headers);
    }
    match plan {
        Err(AsIs::Status) if status == StatusCode::NOT_MODIFIED => {
            coding::weaken_etag_as_asked(headers, request.headers);
        }
        Ok(plan) if request.method == Method::HEAD => {
            match plan {
                Plan::Encode {
                    coding,
                    length: Some(_),
                    ..
                } => coding::describe_encoded(headers, coding),
                // A GET might find it too small.
                _ => coding::weaken_etag(headers),
            }
            return Err(AsIs::Head);
        }
        _ => {}
    }
    plan
}

/// What is decided on a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    /// As for a GET.
    pub(crate) plan: Result<Plan, AsIs>,
    /// Whether another client might get it encoded, or plain.
    pub(crate) varies: bool,
}

/// Decides on a response, and leaves it as it is.
#[inline]
pub(crate) fn decide(
    compress: &Compress,
    request: Request<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Decision {
    let stays = |why| Decision {
        plan: Err(why),
        varies: false,
    };
    if coding::is_encoded(headers) {
        return stays(AsIs::Encoded);
    }
    if coding::forbids_transformation(headers) {
        return stays(AsIs::NoTransform);
    }
    if status == StatusCode::NOT_MODIFIED {
        // What type it would be of is seldom said.
        return Decision {
            varies: true,
            ..stays(AsIs::Status)
        };
    }
    if status == StatusCode::PARTIAL_CONTENT {
        // As the whole would (RFC 9110 §15.3.7).
        return Decision {
            varies: is_of_what_is_encoded(compress, headers),
            ..stays(AsIs::Status)
        };
    }
    let kind = match Kind::of(compress, status, headers) {
        Ok(kind) => kind,
        Err(why) => return stays(why),
    };
    let plan = request.coding(compress).map(|coding| {
        if kind.length.is_none() && !kind.prompt && compress.min_size.0 > 0 {
            return Plan::IfEnough(coding);
        }
        Plan::Encode {
            coding,
            length: kind.length,
            prompt: kind.prompt,
        }
    });
    Decision { plan, varies: true }
}

/// A response of the kind that is encoded.
struct Kind {
    length: Option<u64>,
    prompt: bool,
}

impl Kind {
    fn of(compress: &Compress, status: StatusCode, headers: &HeaderMap) -> Result<Self, AsIs> {
        let has_content = !status.is_informational()
            && !matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
            );
        if !has_content || headers.contains_key(header::CONTENT_RANGE) {
            return Err(AsIs::Status);
        }
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length < compress.min_size.0.max(1)) {
            return Err(AsIs::TooSmall);
        }
        let kind = coding::media_type(headers).ok_or(AsIs::Type)?;
        if !is_listed(compress, &kind) {
            return Err(AsIs::Type);
        }
        Ok(Self {
            length,
            prompt: kind == coding::EVENT_STREAM,
        })
    }
}

fn is_listed(compress: &Compress, kind: &str) -> bool {
    let listed = compress.types.iter().any(|types| types.matches(kind));
    listed && !kind.starts_with("application/grpc")
}

/// Whether these fields are those of a part of something that is encoded. What type several parts are of is said in the
/// content only.
fn is_of_what_is_encoded(compress: &Compress, headers: &HeaderMap) -> bool {
    let range = headers.get(header::CONTENT_RANGE);
    let range = range.and_then(|range| range.to_str().ok());
    let length = range.and_then(|range| range.rsplit_once('/')?.1.parse().ok());
    length.is_none_or(|length: u64| length >= compress.min_size.0.max(1))
        && coding::media_type(headers)
            .is_some_and(|kind| kind == "multipart/byteranges" || is_listed(compress, &kind))
}

impl Request<'_> {
    /// The coding that the client gets, whatever the response.
    pub(crate) fn coding(self, compress: &Compress) -> Result<Coding, AsIs> {
        if self.version < Version::HTTP_11 {
            return Err(AsIs::Http10);
        }
        if coding::forbids_transformation(self.headers) {
            return Err(AsIs::RequestNoTransform);
        }
        if self.is_of_another_site() {
            return Err(AsIs::OtherSite);
        }
        let accepted = Accepted::of(self.headers).choose(&compress.codings);
        accepted.ok_or(AsIs::NotAccepted)
    }

    /// Whether another site's page asks with what the client's browser keeps for this one.
    fn is_of_another_site(self) -> bool {
        let site = self.headers.get(SEC_FETCH_SITE);
        self.https
            && site.is_some_and(|site| site == "cross-site")
            && self.headers.contains_key(header::COOKIE)
    }
}

/// W3C Fetch Metadata §2.4.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The plan for a GET that takes gzip, and whether `Vary` was added.
    fn planned(status: u16, response: &[(&'static str, &'static str)]) -> (Plan, bool) {
        let asked = headers(&[("accept-encoding", "gzip")]);
        let mut response = headers(response);
        let request = Request {
            method: &Method::GET,
            version: Version::HTTP_11,
            headers: &asked,
            https: false,
        };
        let status = StatusCode::from_u16(status).unwrap();
        let plan = plan(&Compress::default(), request, status, &mut response);
        (plan, response.contains_key(header::VARY))
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const LONG: (&str, &str) = ("content-length", "1024");

    fn gzip(length: Option<u64>) -> Plan {
        Plan::Encode {
            coding: Coding::Gzip,
            length,
            prompt: false,
        }
    }

    #[test]
    fn what_is_of_a_listed_type_and_long_enough_is_encoded() {
        let yes = (gzip(Some(1024)), true);
        assert_eq!(planned(200, &[JSON, LONG]), yes);
        assert_eq!(planned(404, &[JSON, LONG]), yes);
        assert_eq!(
            planned(200, &[JSON, LONG, ("content-encoding", "Identity")]),
            yes
        );
        assert_eq!(planned(200, &[JSON]), (Plan::IfEnough(Coding::Gzip), true));
        let no = (Plan::AsIs, false);
        assert_eq!(planned(200, &[JSON, ("content-length", "1023")]), no);
        assert_eq!(planned(200, &[("content-type", "image/png"), LONG]), no);
        assert_eq!(planned(200, &[LONG]), no);
        assert_eq!(planned(200, &[JSON, JSON, LONG]), no);
        for status in [100, 204, 205] {
            assert_eq!(planned(status, &[JSON, LONG]), no, "{status}");
        }
        for field in [
            ("content-range", "bytes 0-1023/2000"),
            ("content-encoding", "br"),
            ("content-encoding", "identity, gzip"),
            ("cache-control", "max-age=1, No-Transform"),
        ] {
            assert_eq!(planned(200, &[JSON, LONG, field]), no, "{field:?}");
            assert_eq!(planned(416, &[JSON, LONG, field]), no, "{field:?}");
        }
    }

    /// RFC 9110 §15.3.7.
    #[test]
    fn a_part_varies_as_the_whole_does() {
        let part = ("content-length", "10");
        for (kind, range, varies) in [
            ("text/html; charset=utf-8", "bytes 0-9/1024", true),
            ("text/html", "bytes 0-9/1023", false),
            ("text/html", "bytes 0-9/*", true),
            ("image/png", "bytes 0-9/2000", false),
            ("text/event-stream", "bytes 0-9/2000", false),
            ("multipart/byteranges; boundary=a", "", true),
        ] {
            let mut fields = vec![("content-type", kind), part];
            if !range.is_empty() {
                fields.push(("content-range", range));
            }
            assert_eq!(
                planned(206, &fields),
                (Plan::AsIs, varies),
                "{kind} {range}"
            );
            for field in [
                ("content-encoding", "br"),
                ("cache-control", "no-transform"),
            ] {
                let fields = [&fields[..], &[field]].concat();
                assert_eq!(
                    planned(206, &fields),
                    (Plan::AsIs, false),
                    "{kind} {field:?}"
                );
            }
        }
    }

    #[test]
    fn what_stays_as_it_is_has_a_reason() {
        let why = |asked: &[(&'static str, &'static str)],
                   method: &Method,
                   status: u16,
                   response: &[(&'static str, &'static str)]| {
            let asked = headers(asked);
            let request = Request {
                method,
                version: Version::HTTP_11,
                headers: &asked,
                https: true,
            };
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = headers(response);
            plan_or_reason(&Compress::default(), request, status, &mut response)
        };
        let (get, takes) = (&Method::GET, ("accept-encoding", "br"));
        let of = |status, response| why(&[takes], get, status, response);
        assert!(of(200, &[JSON, LONG]).is_ok());
        for (status, response, reason) in [
            (
                200,
                &[JSON, LONG, ("content-encoding", "br")][..],
                AsIs::Encoded,
            ),
            (
                200,
                &[JSON, LONG, ("cache-control", "no-transform")],
                AsIs::NoTransform,
            ),
            (304, &[], AsIs::Status),
            (206, &[JSON, LONG], AsIs::Status),
            (200, &[JSON, ("content-length", "1")], AsIs::TooSmall),
            (200, &[LONG], AsIs::Type),
            (200, &[("content-type", "image/png"), LONG], AsIs::Type),
        ] {
            assert_eq!(of(status, response), Err(reason), "{response:?}");
        }
        let by =
            |asked: &[(&'static str, &'static str)], method| why(asked, method, 200, &[JSON, LONG]);
        let no_transform = ("cache-control", "no-transform");
        let other_site = [takes, ("sec-fetch-site", "cross-site"), ("cookie", "a=1")];
        assert_eq!(
            by(&[takes, no_transform], get),
            Err(AsIs::RequestNoTransform)
        );
        assert_eq!(by(&other_site, get), Err(AsIs::OtherSite));
        assert_eq!(by(&[], get), Err(AsIs::NotAccepted));
        assert_eq!(by(&[takes], &Method::HEAD), Err(AsIs::Head));
    }

    #[test]
    fn events_are_encoded_only_where_their_type_is_named_and_grpc_never() {
        let mut compress = Compress::default();
        let mut plan_of = |kind: &'static str, pattern: &str| {
            compress.types = vec![coding::MediaPattern::parse(pattern).unwrap()];
            let asked = headers(&[("accept-encoding", "br")]);
            let request = Request {
                method: &Method::GET,
                version: Version::HTTP_2,
                headers: &asked,
                https: true,
            };
            let mut response = headers(&[("content-type", kind)]);
            plan(&compress, request, StatusCode::OK, &mut response)
        };
        let events = Plan::Encode {
            coding: Coding::Br,
            length: None,
            prompt: true,
        };
        assert_eq!(
            plan_of("text/event-stream;x=y", "text/event-stream"),
            events
        );
        assert_eq!(plan_of("text/event-stream", "text/*"), Plan::AsIs);
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web",
        ] {
            assert_eq!(plan_of(kind, "application/*"), Plan::AsIs, "{kind}");
        }
    }

    #[test]
    fn who_asks_decides_but_vary_is_there_for_all() {
        let ask = |fields: &[(&'static str, &'static str)], version, https| {
            let asked = headers(fields);
            let request = Request {
                method: &Method::GET,
                version,
                headers: &asked,
                https,
            };
            let mut response = headers(&[JSON, LONG]);
            let plan = plan(&Compress::default(), request, StatusCode::OK, &mut response);
            assert_eq!(response[header::VARY], "Accept-Encoding");
            plan != Plan::AsIs
        };
        let takes = ("accept-encoding", "gzip");
        let other = ("sec-fetch-site", "cross-site");
        let cookie = ("cookie", "a=1");
        assert!(ask(&[takes], Version::HTTP_2, true));
        assert!(!ask(&[], Version::HTTP_2, true));
        assert!(!ask(&[takes], Version::HTTP_10, true));
        assert!(!ask(
            &[takes, ("cache-control", "no-transform")],
            Version::HTTP_11,
            true
        ));
        assert!(!ask(&[takes, other, cookie], Version::HTTP_11, true));
        assert!(ask(&[takes, other, cookie], Version::HTTP_11, false));
        assert!(ask(&[takes, other], Version::HTTP_11, true));
        let same = ("sec-fetch-site", "same-site");
        assert!(ask(&[takes, same, cookie], Version::HTTP_11, true));
    }
}
