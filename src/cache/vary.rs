//! On which request fields a response depends (RFC 9110 §12.5.5), and what those of a request say (RFC 9111 §4.1).
//!
//! `Accept-Encoding` stands apart (`encoding.rs`): weir encodes and decodes, so one stored response serves clients that
//! take different codings.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::Refusal;
use crate::config::Cache;
use crate::semantics::forwarded::{X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// The request fields that tell the variants of a target apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vary {
    /// Sorted, each once, without `Accept-Encoding`.
    names: Box<[HeaderName]>,
    /// Whether `Accept-Encoding` is one of them.
    pub(super) accept_encoding: bool,
}

/// A request, as far as it decides which of the responses of its target it may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'r> {
    /// Beside its fields: the route that answers it, by the rules that this has now, and whatever else its server is told that
    /// is not in the target's key. Empty for all or for none.
    pub(crate) scope: &'r [u8],
    pub(crate) fields: &'r HeaderMap,
}

impl<'r> From<&'r HeaderMap> for Asker<'r> {
    fn from(fields: &'r HeaderMap) -> Self {
        Self { scope: &[], fields }
    }
}

/// What the fields of one request say; two requests that a target does not tell apart have the same.
pub(super) type Selector = SmallVec<[u8; 256]>;

impl Vary {
    /// Reads all `Vary` fields of a response, without those that the operator ignores.
    pub(crate) fn of(response: &HeaderMap, rules: &Cache) -> Result<Self, Refusal> {
        Self::without(response, &rules.vary_ignore)
    }

    pub(super) fn without(response: &HeaderMap, ignored: &[HeaderName]) -> Result<Self, Refusal> {
        let mut names = Vec::new();
        let fields = response.get_all(header::VARY).iter();
        let members = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
        for member in members.map(<[u8]>::trim_ascii) {
            match member {
                b"" => continue,
                b"*" => return Err(Refusal::VaryAnything),
                member => names.push(HeaderName::from_bytes(member).map_err(|_| Refusal::BadVary)?),
            }
            if names.len() > MAX_NAMES {
                return Err(Refusal::BadVary);
            }
        }
        names.retain(|name| !ignored.contains(name) && !is_in_the_key(name));
        if names.iter().any(is_told_by_weir) {
            return Err(Refusal::VaryByClient);
        }
        let accept_encoding = names.contains(&header::ACCEPT_ENCODING);
        names.retain(|name| *name != header::ACCEPT_ENCODING);
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Ok(Self {
            names: names.into(),
            accept_encoding,
        })
    }

    /// The names of these fields.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().map(ToString::to_string).collect()
    }

    /// Whether all fields of the other one are among these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.names.iter().all(|name| self.names.contains(name))
    }

    /// The fields of both; of the other one alone if that is too many.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let mut names: Vec<_> = self.names.iter().chain(&other.names).cloned().collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        if names.len() > MAX_NAMES {
            return other.clone();
        }
        Self {
            names: names.into(),
            accept_encoding: other.accept_encoding,
        }
    }

    /// What the request says in these fields.
    pub(super) fn selector<'r>(&self, request: impl Into<Asker<'r>>) -> Selector {
        let Asker { scope, fields } = request.into();
        let mut out = Selector::new();
        if !scope.is_empty() {
            let length = u32::try_from(scope.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(scope);
        }
        for name in &self.names {
            write(&mut out, name, fields);
        }
        out
    }

    pub(super) fn size(&self) -> usize {
        let sizes = self.names.iter().map(|name| name.as_str().len() + 32);
        sizes.sum()
    }
}

/// Of these, servers are told what the key has too: scheme and host.
fn is_in_the_key(name: &HeaderName) -> bool {
    *name == header::HOST || *name == X_FORWARDED_HOST || *name == X_FORWARDED_PROTO
}

/// What a server is told in these fields is weir's own word, not what the client sent; and it differs for each client, so that
/// there is little to share.
fn is_told_by_weir(name: &HeaderName) -> bool {
    *name == header::FORWARDED
        || *name == header::VIA
        || matches!(
            name.as_str(),
            "x-forwarded-for" | "x-real-ip" | "x-request-id" | "x-forwarded-prefix"
        )
}

/// Bounds what each request of a target costs.
const MAX_NAMES: usize = 32;

/// An absent field is not an empty one. With its length before it, no value can be read as the next field.
fn write(out: &mut Selector, name: &HeaderName, request: &HeaderMap) {
    let mut lines = request.get_all(name).iter();
    let Some(first) = lines.next() else {
        out.push(ABSENT);
        return;
    };
    out.push(PRESENT);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let form = Form::of(name);
    form.write(out, first);
    for line in lines {
        out.extend_from_slice(form.between_lines());
        form.write(out, line);
    }
    let length = out.len() - length_at - 4;
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length);
    }
}

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// How far two spellings of a field are known to mean the same.
#[derive(Clone, Copy)]
enum Form {
    /// Lines are joined, and trimmed.
    Unknown,
    /// Crumbs are joined as RFC 9113 §8.2.3 says.
    Cookie,
    /// White space around commas and semicolons is of no meaning.
    List,
    /// Nor is case (RFC 4647 §2).
    Languages,
}

impl Form {
    fn of(name: &HeaderName) -> Self {
        match *name {
            header::ACCEPT | header::ACCEPT_CHARSET => Self::List,
            header::ACCEPT_LANGUAGE => Self::Languages,
            header::COOKIE => Self::Cookie,
            _ => Self::Unknown,
        }
    }

    /// RFC 9110 §5.2.
    fn between_lines(self) -> &'static [u8] {
        match self {
            Self::Unknown => b", ",
            Self::Cookie => b"; ",
            Self::List | Self::Languages => b",",
        }
    }

    fn write(self, out: &mut Selector, line: &HeaderValue) {
        let line = line.as_bytes().trim_ascii();
        match self {
            Self::Unknown | Self::Cookie => out.extend_from_slice(line),
            Self::List => write_tight(out, line),
            Self::Languages => {
                let from = out.len();
                write_tight(out, line);
                if let Some(written) = out.get_mut(from..) {
                    written.make_ascii_lowercase();
                }
            }
        }
    }
}

/// Without white space around commas and semicolons, other than in quoted strings (RFC 9110 §5.6.4).
fn write_tight(out: &mut Selector, line: &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    // Where the white space begins that the output ends with now.
    let mut space = None;
    let mut after_separator = true;
    for &byte in line {
        match byte {
            _ if quoted => {
                quoted = escaped || byte != b'"';
                escaped = !escaped && byte == b'\\';
            }
            b' ' | b'\t' => {
                if after_separator {
                    continue;
                }
                space = space.or(Some(out.len()));
                out.push(byte);
                continue;
            }
            b',' | b';' => {
                if let Some(begin) = space {
                    out.truncate(begin);
                }
            }
            byte => quoted = byte == b'"',
        }
        out.push(byte);
        space = None;
        after_separator = !quoted && matches!(byte, b',' | b';');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::testing::{headers, rules};

    fn vary(lines: &[&str]) -> Result<Vary, Refusal> {
        let lines: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        Vary::of(&headers(&lines), &rules())
    }

    #[test]
    fn the_names_of_all_lines_count_once() {
        for (lines, names, accept_encoding) in [
            (&[][..], &[][..], false),
            (&["", " , "], &[], false),
            (&["rsc"], &["rsc"], false),
            (
                &["RSC, Accept", "accept ,\tX-a,,"],
                &["accept", "rsc", "x-a"],
                false,
            ),
            (&["Accept-Encoding"], &[], true),
            (&["b, accept-ENCODING, a"], &["a", "b"], true),
        ] {
            let vary = vary(lines).unwrap();
            let told: Vec<_> = vary.names.iter().map(HeaderName::as_str).collect();
            assert_eq!(
                (told.as_slice(), vary.accept_encoding),
                (names, accept_encoding)
            );
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        for (lines, refusal) in [
            (&["*"][..], Refusal::VaryAnything),
            (&["a, *"], Refusal::VaryAnything),
            (&["a", " ,*,b"], Refusal::VaryAnything),
            (&["a b"], Refusal::BadVary),
            (&["a", "\"b\""], Refusal::BadVary),
            (&["a;b"], Refusal::BadVary),
        ] {
            assert_eq!(vary(lines), Err(refusal), "{lines:?}");
        }
        let many = |count: usize| (0..count).map(|n| format!("a{n},")).collect::<String>();
        assert!(vary(&[&many(32)]).is_ok());
        assert_eq!(vary(&[&many(33)]), Err(Refusal::BadVary));
    }

    #[test]
    fn the_operator_can_have_fields_ignored() {
        let mut rules = rules();
        rules.vary_ignore = vec![header::USER_AGENT, header::ACCEPT_ENCODING];
        let response = headers(&[("vary", "User-Agent, Accept-Encoding, rsc")]);
        let told = Vary::of(&response, &rules).unwrap();
        assert_eq!(Ok(told), vary(&["rsc"]));
    }

    #[test]
    fn spellings_that_mean_the_same_share_a_selector() {
        let names = ["accept, accept-language, cookie, x-a"];
        let selector = |fields: &[(&str, &str)]| vary(&names).unwrap().selector(&headers(fields));
        for (one, other, same) in [
            (
                &[("accept", "a/b , c/d;\tq=1")][..],
                &[("accept", "a/b,c/d ; q=1")][..],
                true,
            ),
            (
                &[("accept", "a/b, c/d")],
                &[("accept", "a/b"), ("accept", "c/d")],
                true,
            ),
            (&[("accept", "a/b")], &[("accept", "A/b")], false),
            (&[("accept", "a/b, c/d")], &[("accept", "c/d, a/b")], false),
            (
                &[("accept", "a;b=\"x , y\"")],
                &[("accept", "a;b=\"x,y\"")],
                false,
            ),
            (
                &[("accept", "a;b=\"x\\\" , y\", c")],
                &[("accept", "a;b=\"x\\\" , y\",c")],
                true,
            ),
            (&[("accept", "a b")], &[("accept", "ab")], false),
            (
                &[("accept-language", "DE-ch , fr")],
                &[("accept-language", "de-CH,fr")],
                true,
            ),
            (&[("accept-language", "")], &[], false),
            (&[("x-a", "b, c")], &[("x-a", "b"), ("x-a", "c")], true),
            (&[("x-a", "b ,c")], &[("x-a", "b, c")], false),
            (&[("x-a", " b\t")], &[("x-a", "b")], true),
            (&[("x-a", "b")], &[("x-a", "B")], false),
            (&[("x-a", "")], &[], false),
            (
                &[("cookie", "a=1; b=2")],
                &[("cookie", "a=1"), ("cookie", "b=2")],
                true,
            ),
            (&[("x-other", "1")], &[], true),
            // the value of one is not that of the next
            (&[("accept", "a")], &[("accept-language", "a")], false),
            (
                &[("cookie", "a"), ("x-a", "bc")],
                &[("cookie", "ab"), ("x-a", "c")],
                false,
            ),
        ] {
            assert_eq!(selector(one) == selector(other), same, "{one:?} {other:?}");
        }
    }

    /// By the words of RFC 9111 §4.1, without regard to speed.
    fn model(name: &str, request: &HeaderMap) -> Option<String> {
        let lines: Vec<_> = request.get_all(name).iter().collect();
        if lines.is_empty() {
            return None;
        }
        let is_list = name != "x-a";
        let lines: Vec<_> = lines
            .iter()
            .map(|line| line.to_str().unwrap().trim_matches([' ', '\t']).to_owned())
            .collect();
        let mut value = lines.join(", ");
        if is_list {
            for separator in [",", ";"] {
                let parts: Vec<_> = value
                    .split(separator)
                    .map(|part| part.trim_matches([' ', '\t']))
                    .collect();
                value = parts.join(separator);
            }
        }
        if name == "accept-language" {
            value = value.to_ascii_lowercase();
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn two_requests_share_a_selector_if_the_model_says_so(
            names in prop::collection::vec("(accept|accept-language|accept-charset|x-a)", 0..4),
            requests in prop::collection::vec(
                prop::collection::vec(("(accept|accept-language|accept-charset|x-a)", "(|[aA]|[aA, ;]{0,4})"), 0..3),
                2,
            ),
        ) {
            let vary = vary(&[&names.join(", ")]).unwrap();
            let requests: Vec<_> = requests
                .iter()
                .map(|fields| headers(&fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>()))
                .collect();
            let same = vary.selector(&requests[0]) == vary.selector(&requests[1]);
            let expected = names.iter().all(|name| model(name, &requests[0]) == model(name, &requests[1]));
            prop_assert_eq!(same, expected);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut request = HeaderMap::new();
            for name in [header::VARY, header::ACCEPT, header::ACCEPT_LANGUAGE, header::COOKIE] {
                request.append(name, value.clone());
            }
            let _ = Vary::of(&request, &rules());
            vary(&["accept, accept-language, cookie"]).unwrap().selector(&request);
        }
    }
}
