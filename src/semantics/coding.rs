//! Content codings: which of them a client takes (RFC 9110 §12.5.3), and what of a response an encoding changes (§8.3 to
//! §8.8, §12.5.5).
//!
//! Where a field can be read in two ways, the one is taken that leaves the response as it is: a client that gets no coding
//! pays with bytes, one that gets a coding that it does not know has nothing.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use smallvec::SmallVec;

use super::hop_by_hop::has_token;

/// A content coding that weir can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 7932.
    Br,
    /// RFC 8878, RFC 9659.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Br, Self::Zstd, Self::Gzip];
    pub(crate) const COUNT: usize = 3;

    /// Its name in `Content-Encoding`, in the configuration and as a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// RFC 9110 §8.4.1: in any case, and `x-gzip` is `gzip`.
    fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &Self| name.eq_ignore_ascii_case(known.name().as_bytes());
        Self::ALL
            .into_iter()
            .find(is)
            .or_else(|| name.eq_ignore_ascii_case(b"x-gzip").then_some(Self::Gzip))
    }
}

/// What a client says of codings: weights in thousandths, by the number of the coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    weights: [u16; Coding::COUNT],
    /// Where the client names it.
    identity: Option<u16>,
}

impl Accepted {
    /// Reads all `Accept-Encoding` fields. Without one, any coding would do by RFC 9110; but who sends none is often a
    /// program that knows none, so nothing is taken as accepted.
    pub(crate) fn of(request: &HeaderMap) -> Self {
        let mut weights = [None; Coding::COUNT];
        let (mut identity, mut others) = (None, None);
        for (name, weight) in members(request) {
            let place = match Coding::named(name) {
                Some(coding) => weights.get_mut(coding as usize),
                None if name.eq_ignore_ascii_case(b"identity") => Some(&mut identity),
                None if name == b"*" => Some(&mut others),
                None => None,
            };
            if let Some(place) = place {
                // Named twice, the smaller weight holds.
                *place = Some(place.map_or(weight, |known: u16| known.min(weight)));
            }
        }
        Self {
            weights: weights.map(|weight| weight.or(others).unwrap_or(0)),
            identity,
        }
    }

    /// Whether the client takes this coding.
    pub(crate) fn takes(&self, coding: Coding) -> bool {
        self.weights.get(coding as usize).is_some_and(|&it| it > 0)
    }

    /// The coding that the client likes best, of several the one that comes first in `preference`. `None`: as it is. So is
    /// what a client gets that takes nothing, `identity;q=0` included: an answer that it may be able to read is worth more
    /// to it than a 406.
    pub(crate) fn choose(&self, preference: &[Coding]) -> Option<Coding> {
        let weight = |coding: Coding| self.weights.get(coding as usize).copied().unwrap_or(0);
        let least = self.identity.unwrap_or(0).max(1);
        let mut best = None;
        for &coding in preference {
            let weight = weight(coding);
            if weight >= least && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }
}

/// The members of all `Accept-Encoding` fields, with their weights.
fn members(request: &HeaderMap) -> impl Iterator<Item = (&[u8], u16)> {
    let fields = request.get_all(header::ACCEPT_ENCODING).iter();
    let members = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    members.map(<[u8]>::trim_ascii).map(|member| {
        match member.iter().position(|&byte| byte == b';') {
            None => (member, MOST),
            Some(at) => {
                let (name, parameter) = member.split_at(at);
                (name.trim_ascii_end(), weight(parameter))
            }
        }
    })
}

/// What the content of a response is, to a cache that can decode some codings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Identity,
    Coded(Coding),
    /// Of a registered coding that weir cannot decode, or of several.
    Opaque,
    /// Of a coding that is registered nowhere.
    Foreign,
}

impl Content {
    /// By all `Content-Encoding` fields (RFC 9110 §8.4).
    pub(crate) fn of(response: &HeaderMap) -> Self {
        let fields = response.get_all(header::CONTENT_ENCODING).iter();
        let members = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
        let mut members = members
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty());
        let Some(first) = members.next() else {
            return Self::Identity;
        };
        let mut rest = members.peekable();
        if rest.peek().is_some() {
            let is_known = |name: &[u8]| is_identity(name) || registered(name).is_some();
            let all = is_known(first) && rest.all(is_known);
            return if all { Self::Opaque } else { Self::Foreign };
        }
        match Coding::named(first) {
            Some(coding) => Self::Coded(coding),
            None if is_identity(first) => Self::Identity,
            None if registered(first).is_some() => Self::Opaque,
            None => Self::Foreign,
        }
    }
}

fn is_identity(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"identity")
}

/// The registered codings but `identity` (<https://www.iana.org/assignments/http-parameters>): what an origin may choose by.
const REGISTERED: [&[u8]; 10] = [
    b"aes128gcm",
    b"br",
    b"compress",
    b"dcb",
    b"dcz",
    b"deflate",
    b"exi",
    b"gzip",
    b"pack200-gzip",
    b"zstd",
];

/// The number of a coding in [`REGISTERED`].
fn registered(name: &[u8]) -> Option<usize> {
    // RFC 9110 §8.4.1.1, §8.4.1.3.
    let is_alias = name.eq_ignore_ascii_case(b"x-gzip") || name.eq_ignore_ascii_case(b"x-compress");
    let name = if is_alias { name.get(2..)? } else { name };
    REGISTERED
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
}

/// What a client says of all codings, weir's and others: what an origin may choose by. A name that is registered nowhere
/// makes no difference, unless the origin has such a coding: any number of them could be made up to keep clients apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// Which are taken: a bit for each of [`REGISTERED`], and the next one for `*`.
    taken: u16,
    /// All that is said.
    words: SmallVec<[u8; 64]>,
}

impl Named {
    /// Reads all `Accept-Encoding` fields. Without one, it is as if it were empty.
    pub(crate) fn of(request: &HeaderMap) -> Self {
        Self {
            taken: taken(request),
            words: words(request),
        }
    }

    /// All that is said, in lower case, without white space and empty members.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.words
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether what these take, the other ones take as well: then the other ones' choice was no smaller. Not to encode is no
    /// choice that has to be offered.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.taken & !other.taken == 0
    }

    /// Whether the same is said of the registered codings, in the same order.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.known().eq(other.known())
    }

    /// Whether the same is said of all codings.
    pub(crate) fn says_exactly_the_same(&self, other: &Self) -> bool {
        self.words == other.words
    }

    fn known(&self) -> impl Iterator<Item = &[u8]> {
        let members = self.words.split(|&byte| byte == b',');
        members.filter(|member| {
            let name = member.split(|&byte| byte == b';').next();
            name.is_some_and(|name| name == b"*" || is_identity(name) || registered(name).is_some())
        })
    }
}

fn taken(request: &HeaderMap) -> u16 {
    let mut weights = [None; REGISTERED.len()];
    let mut others = None;
    for (name, weight) in members(request) {
        let place = match registered(name) {
            Some(number) => weights.get_mut(number),
            None if name == b"*" => Some(&mut others),
            None => None,
        };
        if let Some(place) = place {
            *place = Some(place.map_or(weight, |known: u16| known.min(weight)));
        }
    }
    let weights = weights.iter().map(|weight| weight.or(others));
    weights
        .chain([others])
        .enumerate()
        .filter(|(_, weight)| weight.is_some_and(|weight| weight > 0))
        .fold(0, |taken, (number, _)| taken | 1 << number)
}

/// In lower case, without white space and empty members.
fn words(request: &HeaderMap) -> SmallVec<[u8; 64]> {
    let mut words = SmallVec::new();
    for field in request.get_all(header::ACCEPT_ENCODING) {
        for member in field.as_bytes().split(|&byte| byte == b',') {
            let mut bytes = member.iter().filter(|byte| !byte.is_ascii_whitespace());
            let Some(first) = bytes.next() else {
                continue;
            };
            if !words.is_empty() {
                words.push(b',');
            }
            words.push(first.to_ascii_lowercase());
            words.extend(bytes.map(u8::to_ascii_lowercase));
        }
    }
    words
}

/// `;q=0.5` in thousandths (RFC 9110 §12.4.2). Zero where it is malformed: then what it belongs to is not used.
fn weight(parameter: &[u8]) -> u16 {
    let parameter = parameter.get(1..).unwrap_or_default().trim_ascii();
    let ([b'q' | b'Q', b'=', b'0'..=b'1'] | [b'q' | b'Q', b'=', b'0'..=b'1', b'.', ..]) = parameter
    else {
        return 0;
    };
    let (whole, digits) = (parameter.get(2), parameter.get(4..).unwrap_or_default());
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let fraction = [100, 10, 1]
        .iter()
        .zip(digits)
        .map(|(place, digit)| place * u16::from(digit - b'0'))
        .sum::<u16>();
    match (whole, fraction) {
        (Some(b'1'), 0) => MOST,
        (Some(b'1'), _) => 0,
        _ => fraction,
    }
}

const MOST: u16 = 1000;

/// Media types that are told by a pattern: `text/html`, `text/*`, `application/*+json`. In lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaPattern(Box<str>);

impl MediaPattern {
    /// `None` for what is no pattern of that kind.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (kind, subtype) = text.split_once('/')?;
        let name = match subtype.strip_prefix('*') {
            None => Some(subtype),
            Some("") => None,
            Some(suffix) => Some(suffix.strip_prefix('+')?),
        };
        let is_token = |text: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
            !text.is_empty() && text.bytes().all(is_part)
        };
        (is_token(kind) && name.is_none_or(is_token)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `essence`, a media type in lower case without parameters, is one of them. A stream of events only if it is
    /// named in full: buffering is what it cannot bear.
    pub(crate) fn matches(&self, essence: &str) -> bool {
        match self.0.split_once('*') {
            None => *self.0 == *essence,
            Some(_) if essence == EVENT_STREAM => false,
            Some((kind, suffix)) => essence
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_suffix(suffix))
                .is_some_and(|middle| !middle.is_empty()),
        }
    }
}

/// WHATWG HTML §9.2.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// The media type of a message, without parameters and in lower case; `None` if it has none or several.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
    let field = fields.next()?.to_str().ok()?;
    let essence = field.split(';').next().unwrap_or_default().trim();
    fields
        .next()
        .is_none()
        .then(|| essence.to_ascii_lowercase())
}

/// Whether the message has a coding already; `identity` is none.
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::CONTENT_ENCODING).iter();
    fields.any(|field| !field.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a `Cache-Control` of the message has `no-transform` (RFC 9111 §5.2.1.6, §5.2.2.6).
pub(crate) fn forbids_transformation(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::CACHE_CONTROL).iter();
    fields.any(|field| has_token(field, "no-transform"))
}

/// The fields of a response whose content is now encoded: what told of the bytes as they were is no longer true.
pub(crate) fn describe_encoded(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(
        header::CONTENT_ENCODING,
        HeaderValue::from_static(coding.name()),
    );
    forget_bytes(headers);
}

/// The fields of a response whose content was encoded and is not any more.
pub(crate) fn describe_decoded(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_ENCODING);
    forget_bytes(headers);
    vary_by_accept_encoding(headers);
}

fn forget_bytes(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    forget_digests(headers);
    weaken_etag(headers);
}

/// The fields of a response that has neither the content nor the representation any more.
pub(crate) fn forget_digests(headers: &mut HeaderMap) {
    for name in &DIGESTS {
        headers.remove(name);
    }
}

/// The fields of a response that has a part of the content or none of it (RFC 9530 §2, RFC 1864). What they tell of the
/// representation is still true.
pub(crate) fn forget_digests_of_content(headers: &mut HeaderMap) {
    for name in &DIGESTS_OF_CONTENT {
        headers.remove(name);
    }
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Fields with a digest of the content, or of the representation that it is of: RFC 1864, RFC 3230, RFC 9530.
const DIGESTS: [HeaderName; 4] = [
    CONTENT_MD5,
    CONTENT_DIGEST,
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

const DIGESTS_OF_CONTENT: [HeaderName; 2] = [CONTENT_MD5, CONTENT_DIGEST];

/// Takes out of the trailers of an encoded response what is true of its plain bytes only.
pub(crate) fn describe_encoded_in_trailers(trailers: &mut HeaderMap) {
    for name in DIGESTS
        .iter()
        .chain([&header::ETAG, &header::ACCEPT_RANGES])
    {
        trailers.remove(name);
    }
}

/// RFC 9110 §8.8.1: one strong validator must not stand for two sequences of bytes.
pub(crate) fn weaken_etag(headers: &mut HeaderMap) {
    let weak = headers.get(header::ETAG).and_then(|tag| {
        let strong = tag.as_bytes().starts_with(b"\"");
        strong.then(|| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok())?
    });
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}

/// The same for a 304, if it is the weakened one that the client asked with: it must find in it what it has
/// (RFC 9111 §4.3.4).
pub(crate) fn weaken_etag_as_asked(headers: &mut HeaderMap, request: &HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).map(HeaderValue::as_bytes) else {
        return;
    };
    let asked = |wanted: &[u8]| {
        let mut fields = request.get_all(header::IF_NONE_MATCH).iter();
        fields.any(|field| entity_tags(field.as_bytes()).any(|tag| tag == wanted))
    };
    if asked(&[b"W/", tag].concat()) && !asked(tag) {
        // What it has is encoded.
        forget_bytes(headers);
    }
}

/// The members of `If-None-Match` (RFC 9110 §13.1.2). A comma may be part of a tag.
fn entity_tags(mut field: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        field = field.trim_ascii_start();
        while let Some(rest) = field.strip_prefix(b",") {
            field = rest.trim_ascii_start();
        }
        let open = field.iter().position(|&byte| byte == b'"')?;
        let length = field.get(open + 1..)?.iter().position(|&b| b == b'"')?;
        let (tag, rest) = field.split_at(open + length + 2);
        field = rest;
        Some(tag)
    })
}

/// Says that the response depends on `Accept-Encoding` (RFC 9110 §12.5.5), if it does not say so yet.
pub(crate) fn vary_by_accept_encoding(headers: &mut HeaderMap) {
    let fields = headers.get_all(header::VARY);
    let says = |field: &HeaderValue| has_token(field, "*") || has_token(field, "accept-encoding");
    if fields.iter().any(says) {
        return;
    }
    let mut value = Vec::new();
    for field in fields.iter().filter(|field| !field.is_empty()) {
        value.extend_from_slice(field.as_bytes());
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(b"Accept-Encoding");
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(header::VARY, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn accepted(fields: &[&str]) -> Accepted {
        let fields: Vec<_> = fields
            .iter()
            .map(|field| (header::ACCEPT_ENCODING, *field))
            .collect();
        Accepted::of(&headers(&fields))
    }

    #[test]
    fn the_coding_is_that_of_the_largest_weight_and_then_of_the_routes_order() {
        use Coding::{Br, Gzip, Zstd};
        for (fields, chosen) in [
            (&["gzip, deflate, br, zstd"][..], Some(Br)),
            (&["gzip, deflate"], Some(Gzip)),
            (&["gzip;q=1.0, br;q=0.9"], Some(Gzip)),
            (&["br;q=0.5, zstd;q=0.501, gzip;q=.9"], Some(Zstd)),
            (&["gzip", "zstd"], Some(Zstd)),
            (&["GZIP;Q=1"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["gzip \t; \tq=0.001"], Some(Gzip)),
            (&["*"], Some(Br)),
            (&["br;q=0, *"], Some(Zstd)),
            (&["gzip;q=0.8, *;q=0.1"], Some(Gzip)),
            (&["*;q=0"], None),
            (&["*;q=0, gzip"], Some(Gzip)),
            (&["identity;q=0"], None),
            (&["identity;q=0, gzip;q=0.1"], Some(Gzip)),
            (&["identity, gzip;q=0.9"], None),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["gzip;q=0, gzip"], None),
            (&["gzip", "gzip;q=0"], None),
            (&["", " , ,gzip,,"], Some(Gzip)),
            (&[""], None),
            (&[], None),
            (&["deflate, compress, br2, gzi"], None),
            // malformed: not used
            (&["gzip;q=1.001"], None),
            (&["gzip;q=2"], None),
            (&["gzip;q=0.1234"], None),
            (&["gzip;q=-1"], None),
            (&["gzip;q"], None),
            (&["gzip;"], None),
            (&["gzip;q="], None),
            (&["gzip;q=1;q=0.5"], None),
            (&["gzip;level=9"], None),
            (&["gzip;q =1"], None),
            (&["gzip;q=1."], Some(Gzip)),
            (&["gzip;q=0."], None),
            (&["gz ip"], None),
            (&["gzip;q=0.5x, br"], Some(Br)),
        ] {
            assert_eq!(accepted(fields).choose(&Coding::ALL), chosen, "{fields:?}");
        }
        let all = accepted(&["br, zstd, gzip"]);
        assert_eq!(all.choose(&[Gzip, Br]), Some(Gzip));
        assert_eq!(all.choose(&[]), None);
        assert_eq!(accepted(&["br"]).choose(&[Gzip, Zstd]), None);
    }

    fn named(text: &str) -> Named {
        Named::of(&headers(&[(header::ACCEPT_ENCODING, text)]))
    }

    /// RFC 9110 §12.5.3, word by word.
    fn takes(text: &str, name: &str) -> bool {
        let weights = |wanted: &str| {
            let members = text.split(',').filter_map(|member| {
                let (name, weight) = member.split_once(";q=").unwrap_or((member, "1"));
                (name == wanted).then_some(weight)
            });
            members.collect::<Vec<_>>()
        };
        let own = weights(name);
        let decisive = if own.is_empty() { weights("*") } else { own };
        !decisive.is_empty() && !decisive.contains(&"0")
    }

    #[test]
    fn codings_that_are_taken_are_within_others() {
        for (one, other, within) in [
            ("", "", true),
            ("", "gzip", true),
            ("gzip", "", false),
            ("gzip", "br , GZIP", true),
            ("x-gzip", "gzip", true),
            ("gzip;q=0", "", true),
            ("gzip;q=0.1", "gzip;q=0", false),
            ("gzip", "*", true),
            ("*", "gzip", false),
            ("*;q=0, gzip", "gzip", true),
            ("*", "*;q=0.5", true),
            // `br` is taken by the one and not by the other
            ("*", "*, br;q=0", false),
            ("deflate", "gzip, br", false),
            ("deflate, gzip", "gzip, br, deflate", true),
            ("gzip, gzip;q=0", "", true),
            ("x-compress", "compress", true),
            ("compress", "gzip", false),
            // Registered nowhere.
            ("x1, x2;q=0.5", "", true),
            ("gzip, x1", "gzip, x2", true),
            ("*;q=0, x1", "", true),
        ] {
            assert_eq!(named(one).is_within(&named(other)), within, "{one} {other}");
        }
    }

    #[test]
    fn clients_say_the_same_of_codings() {
        for (one, other, same, exactly) in [
            ("", "", true, true),
            ("dcb, gzip", "DCB ,gzip", true, true),
            ("dcb, gzip", "gzip, dcb", false, false),
            ("dcb", "dcb;q=0.5", false, false),
            ("dcb, x1", "x2, dcb", true, false),
            ("x1", "x2", true, false),
            ("*, x1", "*", true, false),
            ("identity;q=0", "", false, false),
        ] {
            let (one, other) = (named(one), named(other));
            assert_eq!(one.says_the_same(&other), same, "{one:?} {other:?}");
            assert_eq!(one.says_exactly_the_same(&other), exactly, "{one:?}");
        }
        let two = [
            (header::ACCEPT_ENCODING, "gzip;\tQ=1,,"),
            (header::ACCEPT_ENCODING, "Br"),
        ];
        let two = Named::of(&headers(&two));
        assert!(two.says_exactly_the_same(&named("gzip;q=1,br")));
        let none = Named::of(&HeaderMap::new());
        assert!(none.says_exactly_the_same(&named("")));
    }

    #[test]
    fn what_the_content_of_a_response_is() {
        for (fields, content) in [
            (&[][..], Content::Identity),
            (&["identity"], Content::Identity),
            (&[" , "], Content::Identity),
            (&["gzip"], Content::Coded(Coding::Gzip)),
            (&["X-GZIP"], Content::Coded(Coding::Gzip)),
            (&["br,"], Content::Coded(Coding::Br)),
            (&["zstd"], Content::Coded(Coding::Zstd)),
            (&["gzip, br"], Content::Opaque),
            (&["gzip", "gzip"], Content::Opaque),
            (&["deflate"], Content::Opaque),
            (&["dcb"], Content::Opaque),
            (&["identity, gzip"], Content::Opaque),
            (&["lz4"], Content::Foreign),
            (&["gzip, lz4"], Content::Foreign),
        ] {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| (header::CONTENT_ENCODING, *field))
                .collect();
            assert_eq!(Content::of(&headers(&fields)), content, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_within_is_taken_by_both(one in "(gzip|br|\\*|deflate)(;q=0)?(,(gzip|br|\\*);q=[01])?", other in "(gzip|br|\\*|deflate)(;q=0)?(,(gzip|br|\\*);q=[01])?") {
            let (of_one, of_other) = (named(&one), named(&other));
            // One of each kind: what they name, and what neither names.
            let all = ["gzip", "br", "deflate", "zstd"];
            let within = all.iter().all(|name| !takes(&one, name) || takes(&other, name));
            prop_assert_eq!(of_one.is_within(&of_other), within);
        }

        /// Whatever is sent, no coding is chosen that the client refuses or does not name.
        #[test]
        fn what_is_refused_is_never_chosen(
            fields in prop::collection::vec(
                prop::collection::vec(
                    ("(gzip|br|zstd|identity|deflate|\\*)", "(|;q=0|;q=0\\.000|;q=1|;q=0\\.[0-9]{1,3}|;q=x|;)"),
                    0..5,
                ),
                0..3,
            ),
        ) {
            let lines: Vec<String> = fields
                .iter()
                .map(|members| {
                    let members: Vec<_> = members.iter().map(|(name, q)| format!("{name}{q}")).collect();
                    members.join(", ")
                })
                .collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            if let Some(coding) = accepted(&lines).choose(&Coding::ALL) {
                let members: Vec<_> = fields.iter().flatten().collect();
                let of = |wanted: &str| members.iter().filter(|(name, _)| name == wanted).map(|(_, q)| q.as_str()).collect::<Vec<_>>();
                let own = of(coding.name());
                let decisive = if own.is_empty() { of("*") } else { own };
                prop_assert!(!decisive.is_empty());
                let refuses = |q: &&str| ["q=0", "q=0.0", "q=0.00", "q=0.000", "q=x"].iter().any(|zero| q.strip_prefix(';') == Some(zero)) || *q == ";";
                prop_assert!(!decisive.iter().any(refuses), "{lines:?} {coding:?}");
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            for name in [header::ACCEPT_ENCODING, header::CONTENT_TYPE, header::CACHE_CONTROL, header::ETAG, header::IF_NONE_MATCH, header::VARY] {
                headers.append(name, value.clone());
            }
            let _ = Accepted::of(&headers).choose(&Coding::ALL);
            let _ = Named::of(&headers).is_within(&named("gzip, *"));
            let _ = (media_type(&headers), is_encoded(&headers), forbids_transformation(&headers));
            let request = headers.clone();
            weaken_etag_as_asked(&mut headers, &request);
            describe_encoded(&mut headers, Coding::Br);
            vary_by_accept_encoding(&mut headers);
            prop_assert_eq!(headers.get_all(header::VARY).iter().count(), 1);
        }
    }

    #[test]
    fn patterns_of_media_types() {
        for (pattern, matching, others) in [
            (
                "text/html",
                &["text/html"][..],
                &["text/htm", "text/html5"][..],
            ),
            (
                "Text/*",
                &["text/html", "text/x"],
                &["text/event-stream", "text/", "xtext/a"],
            ),
            ("text/event-stream", &["text/event-stream"], &["text/html"]),
            (
                "application/*+json",
                &["application/ld+json", "application/a+b+json"],
                &[
                    "application/json",
                    "application/+json",
                    "text/x+json",
                    "application/x+jsonx",
                ],
            ),
        ] {
            let parsed = MediaPattern::parse(pattern).unwrap();
            for each in matching {
                assert!(parsed.matches(each), "{pattern} {each}");
            }
            for each in others {
                assert!(!parsed.matches(each), "{pattern} {each}");
            }
        }
        for bad in [
            "",
            "*",
            "text",
            "*/*",
            "*/html",
            "text/",
            "/html",
            "text/*x",
            "text/*+",
            "text/*+*",
            "text/a*",
            "te xt/a",
            "text/html; charset=utf-8",
            "text/a/b",
        ] {
            assert_eq!(MediaPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_media_type_stands_before_its_parameters() {
        let of = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|f| (header::CONTENT_TYPE, *f)).collect();
            media_type(&headers(&fields))
        };
        assert_eq!(of(&["Text/HTML ; charset=x"]).as_deref(), Some("text/html"));
        assert_eq!(of(&["text/html", "text/html"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn vary_is_merged_and_never_doubled() {
        for (before, after) in [
            (&[][..], "Accept-Encoding"),
            (&[""], "Accept-Encoding"),
            (&["Origin"], "Origin, Accept-Encoding"),
            (
                &["Origin", "Cookie, X-A"],
                "Origin, Cookie, X-A, Accept-Encoding",
            ),
            (&["Origin, ACCEPT-encoding"], "Origin, ACCEPT-encoding"),
            (&["*"], "*"),
            (&["X-Accept-Encoding"], "X-Accept-Encoding, Accept-Encoding"),
        ] {
            let fields: Vec<_> = before.iter().map(|field| (header::VARY, *field)).collect();
            let mut headers = headers(&fields);
            vary_by_accept_encoding(&mut headers);
            vary_by_accept_encoding(&mut headers);
            let all: Vec<_> = headers.get_all(header::VARY).iter().collect();
            assert_eq!(all, [after], "{before:?}");
        }
    }

    #[test]
    fn a_304_has_the_tag_that_the_client_asked_with() {
        for (asked, tag, told) in [
            (&["W/\"a\""][..], "\"a\"", "W/\"a\""),
            (&["\"a\""], "\"a\"", "\"a\""),
            (&["\"x\", W/\"a\""], "\"a\"", "W/\"a\""),
            (&["\"x,W/\"", "W/\"a,b\""], "\"a,b\"", "W/\"a,b\""),
            (&["W/\"a\", \"a\""], "\"a\"", "\"a\""),
            (&["W/\"b\""], "\"a\"", "\"a\""),
            (&["*"], "\"a\"", "\"a\""),
            (&["W/\"a\""], "W/\"a\"", "W/\"a\""),
            (&[], "\"a\"", "\"a\""),
        ] {
            let asking: Vec<_> = asked.iter().map(|f| (header::IF_NONE_MATCH, *f)).collect();
            let mut response = headers(&[(header::ETAG, tag)]);
            weaken_etag_as_asked(&mut response, &headers(&asking));
            assert_eq!(response[header::ETAG], told, "{asked:?} {tag}");
        }
    }

    #[test]
    fn what_told_of_the_plain_bytes_is_gone() {
        let mut headers = headers(&[
            (header::CONTENT_ENCODING, "identity"),
            (header::CONTENT_LENGTH, "7"),
            (header::ACCEPT_RANGES, "bytes"),
            (header::ETAG, "\"a\""),
            (HeaderName::from_static("content-md5"), "x"),
            (HeaderName::from_static("digest"), "x"),
            (HeaderName::from_static("content-digest"), "x"),
            (HeaderName::from_static("repr-digest"), "x"),
            (header::SERVER, "s"),
        ]);
        describe_encoded(&mut headers, Coding::Gzip);
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(headers[header::ETAG], "W/\"a\"");
        assert_eq!(headers[header::SERVER], "s");
        assert_eq!(headers.len(), 3);
    }
}
