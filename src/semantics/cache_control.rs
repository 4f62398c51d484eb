//! What responses and requests say of caching: `Cache-Control` (RFC 9111 §5.2, RFC 5861), `Pragma` (§5.4), and the same for
//! caches like this one alone (RFC 9213).
//!
//! Both ways of writing an argument are taken. What is malformed restricts as it would if it were right, and permits
//! nothing: `max-age=60; no-store` is no lifetime at all, and not stored. What is in quotes is never a directive; where a
//! quote has no end, what follows may be in it or not, so from there on it is malformed.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue, ValueIter};

use super::digits;
use super::hop_by_hop::has_token;
use super::structured::{self, Value, is_token};

/// What a response says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: Scope,
    pub(crate) private: Scope,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    /// `no-store` is for caches that do not know `must-understand` (RFC 9111 §5.2.2.3).
    pub(crate) outdoes_no_store: bool,
    /// The answer to an authorised request may be stored for others (RFC 9111 §3.5).
    pub(crate) for_others: bool,
    /// Zero where it is malformed; of several, the smallest. RFC 9111 §4.2.1 lets caches take the first of them or none: this
    /// one is never longer than the first.
    pub(crate) max_age: Option<Duration>,
    /// Read likewise.
    pub(crate) s_maxage: Option<Duration>,
    /// Read likewise. Without an argument, as Next.js sends it: a year.
    pub(crate) stale_while_revalidate: Option<Duration>,
    /// Read likewise.
    pub(crate) stale_if_error: Option<Duration>,
    /// It was said for caches like this one alone, so that neither `Cache-Control` nor `Expires` nor `Pragma` counts.
    pub(crate) targeted: bool,
}

/// What a directive applies to that may name fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    #[default]
    Nothing,
    Fields(Vec<HeaderName>),
    /// The response.
    All,
}

impl Directives {
    /// Of the fields that RFC 9213 §2.2 lets a cache look for, the first with a valid value; else `Cache-Control`.
    pub(crate) fn of_response(headers: &HeaderMap) -> Self {
        let mut targets = TARGETS.into_iter();
        if let Some(targeted) = targets.find_map(|name| Self::targeted(headers, &name)) {
            return targeted;
        }
        let mut directives = Self::default();
        for (name, argument) in Members::of(headers) {
            directives.add(name, argument);
        }
        directives
    }

    /// `None` if there is no such field, or it is empty or malformed (RFC 9213 §2.1).
    fn targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let field = structured::joined(headers, name)?;
        // One place for each name known here: the last member of a key holds, and a long field takes no more room.
        let mut known = [None; DIRECTIVES.len()];
        let mut empty = true;
        structured::dictionary(&field, |key, value| {
            empty = false;
            let place = DIRECTIVES.iter().position(|name| name.as_bytes() == key);
            if let Some(place) = place.and_then(|place| known.get_mut(place)) {
                *place = Some(value);
            }
        })?;
        if empty {
            return None;
        }
        let mut directives = Self {
            targeted: true,
            ..Self::default()
        };
        for (name, value) in DIRECTIVES.iter().zip(known) {
            let argument = match value {
                None | Some(Value::Boolean(false)) => continue,
                Some(Value::Boolean(true)) => Argument::None,
                Some(Value::Integer(number)) => Argument::Number(number),
                Some(Value::String(text)) => Argument::Fields(text),
                Some(Value::Other) => Argument::Malformed,
            };
            directives.add(name.as_bytes(), argument);
        }
        Some(directives)
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let permits = argument.is_of_a_flag();
        if is("max-age") {
            limit(&mut self.max_age, argument);
        } else if is("s-maxage") {
            limit(&mut self.s_maxage, argument);
            self.for_others |= argument.seconds().is_some();
        } else if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache.widen(argument);
        } else if is("private") {
            self.private.widen(argument);
        } else if is("public") {
            self.public |= permits;
            self.for_others |= permits;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
            self.for_others |= permits;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
            self.outdoes_no_store |= permits;
        } else if is("stale-while-revalidate") {
            let argument = match argument {
                Argument::None => Argument::Number(A_YEAR),
                given => given,
            };
            limit(&mut self.stale_while_revalidate, argument);
        } else if is("stale-if-error") {
            limit(&mut self.stale_if_error, argument);
        }
    }

    /// Never used without validation.
    pub(crate) fn always_validate(&self) -> bool {
        self.no_cache == Scope::All
    }

    /// Whether the field of a response must not be stored with it (RFC 9111 §5.2.2.4, §5.2.2.7). Those that must not be used
    /// again without validation are among them: they would be left out whenever the response is used.
    pub(crate) fn names(&self, field: &HeaderName) -> bool {
        self.no_cache.names(field) || self.private.names(field)
    }
}

impl Scope {
    pub(crate) fn names(&self, field: &HeaderName) -> bool {
        matches!(self, Self::Fields(fields) if fields.contains(field))
    }

    /// RFC 9111 §5.2.2.4: fields are listed in the quoted form. All else is the directive without a list, which restricts
    /// more: so are lists with something that is no name of a field, or with one that the others cannot do without.
    fn widen(&mut self, argument: Argument<'_>) {
        let listed = match argument {
            Argument::Quoted(list) | Argument::Fields(list) => names(list),
            _ => None,
        };
        match (listed, &mut *self) {
            (None, _) => *self = Self::All,
            (Some(_), Self::All) => {}
            (Some(listed), Self::Nothing) => *self = Self::Fields(listed),
            (Some(listed), Self::Fields(fields)) => fields.extend(listed),
        }
    }
}

fn names(list: &[u8]) -> Option<Vec<HeaderName>> {
    let members = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let members = members.filter(|member| !member.is_empty());
    let names: Vec<_> = members
        .map(|member| {
            let name = HeaderName::from_bytes(member).ok()?;
            (!NEEDED.contains(&name)).then_some(name)
        })
        .collect::<Option<_>>()?;
    (!names.is_empty()).then_some(names)
}

/// What a request says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_cache: bool,
    pub(crate) no_store: bool,
    pub(crate) only_if_cached: bool,
    /// Zero where it is malformed; of several, the smallest.
    pub(crate) max_age: Option<Duration>,
    /// Of several, the largest, which a malformed one is too.
    pub(crate) min_fresh: Option<Duration>,
    /// Read as `max_age` is. Without an argument, however long.
    pub(crate) max_stale: Option<Duration>,
    /// Read as `max_age` is (RFC 5861 §4).
    pub(crate) stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// `Pragma: no-cache` counts only where there is no `Cache-Control` (RFC 9111 §5.4).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            let mut pragma = headers.get_all(header::PRAGMA).iter();
            directives.no_cache = pragma.any(|field| has_token(field, "no-cache"));
            return directives;
        }
        for (name, argument) in Members::of(headers) {
            directives.add(name, argument);
        }
        directives
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            limit(&mut self.max_age, argument);
        } else if is("min-fresh") {
            let seconds = argument.seconds().unwrap_or(LARGEST);
            let seconds = Duration::from_secs(seconds);
            self.min_fresh = self.min_fresh.max(Some(seconds));
        } else if is("max-stale") {
            let argument = match argument {
                Argument::None => Argument::Number(i64::MAX),
                given => given,
            };
            limit(&mut self.max_stale, argument);
        } else if is("stale-if-error") {
            limit(&mut self.stale_if_error, argument);
        }
    }
}

/// Keeps the smaller one. What is malformed is zero.
fn limit(duration: &mut Option<Duration>, argument: Argument<'_>) {
    let given = Duration::from_secs(argument.seconds().unwrap_or(0));
    *duration = Some(duration.map_or(given, |known| known.min(given)));
}

/// Whether a response that says nothing else asks not to be used again. RFC 9111 §5.4 gives it no meaning in responses; but
/// who sends it means what it says, so nothing is assumed in its stead.
pub(crate) fn has_pragma_no_cache(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::PRAGMA).iter();
    fields.any(|field| has_token(field, "no-cache"))
}

/// Takes away what a response says of for how long it is fresh, and for whom.
pub(crate) fn forget(headers: &mut HeaderMap) {
    headers.remove(header::CACHE_CONTROL);
    headers.remove(header::EXPIRES);
    forget_targeted(headers);
}

/// Takes away what a response says to caches like this one alone.
pub(crate) fn forget_targeted(headers: &mut HeaderMap) {
    for name in &TARGETS {
        headers.remove(name);
    }
}

/// Whether caches decide by this field of a response whether they may store it, for how long they may use it, and for whom. No
/// sender may name it in `Connection` (RFC 9110 §7.6.1), for it is for all of them.
pub(crate) fn is_heeded(field: &HeaderName) -> bool {
    let heeded = [
        header::AGE,
        header::CACHE_CONTROL,
        header::DATE,
        header::EXPIRES,
        header::PRAGMA,
        header::VARY,
    ];
    heeded.contains(field) || TARGETS.contains(field)
}

/// `delta-seconds` (RFC 9111 §1.2.2). More than 2³¹ is 2³¹.
pub(crate) fn delta_seconds(text: &[u8]) -> Option<u64> {
    Some(digits(text)?.min(LARGEST))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument<'f> {
    None,
    Token(&'f [u8]),
    /// What is between the quotes, as written.
    Quoted(&'f [u8]),
    /// Of a structured field: a string is not a number there.
    Number(i64),
    Fields(&'f [u8]),
    Malformed,
}

impl Argument<'_> {
    /// What takes no argument may have one all the same, but none of the wrong type where there are types.
    fn is_of_a_flag(self) -> bool {
        !matches!(self, Self::Malformed | Self::Number(_) | Self::Fields(_))
    }

    fn seconds(self) -> Option<u64> {
        match self {
            Self::Token(digits) | Self::Quoted(digits) => delta_seconds(digits),
            Self::Number(number) => Some(u64::try_from(number).ok()?.min(LARGEST)),
            Self::None | Self::Fields(_) | Self::Malformed => None,
        }
    }
}

/// The directives of all lines of `Cache-Control`.
struct Members<'h> {
    lines: ValueIter<'h, HeaderValue>,
    rest: &'h [u8],
    /// Until the next comma.
    garbled: bool,
    /// A quote had no end: where one begins and where it ends is a guess from there on, on later lines too.
    in_doubt: bool,
}

impl<'h> Members<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        Self {
            lines: headers.get_all(header::CACHE_CONTROL).iter(),
            rest: &[],
            garbled: false,
            in_doubt: false,
        }
    }

    /// What is behind a name. Anything but the end or a comma after that makes it malformed, and what is there is looked
    /// through for more names: many write `;` for a comma.
    fn argument(&mut self) -> Argument<'h> {
        let argument = match self.rest.strip_prefix(b"=") {
            None => Argument::None,
            Some(value) => match value.strip_prefix(b"\"") {
                None => {
                    let (token, rest) = token(value);
                    self.rest = rest;
                    Argument::Token(token)
                }
                Some(quoted) => {
                    let Some((inside, rest)) = quoted_string(quoted) else {
                        self.rest = value;
                        self.in_doubt = true;
                        return Argument::Malformed;
                    };
                    self.rest = rest;
                    Argument::Quoted(inside)
                }
            },
        };
        self.garbled = !matches!(self.rest.trim_ascii_start(), [] | [b',', ..]);
        match argument {
            _ if self.garbled => Argument::Malformed,
            Argument::Token([]) => Argument::Malformed,
            argument => argument,
        }
    }
}

impl<'h> Iterator for Members<'h> {
    type Item = (&'h [u8], Argument<'h>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((&byte, rest)) = self.rest.split_first() else {
                self.rest = self.lines.next()?.as_bytes();
                self.garbled = false;
                continue;
            };
            if is_token(byte) {
                let (name, rest) = token(self.rest);
                self.rest = rest;
                let malformed = self.garbled || self.in_doubt;
                let argument = if malformed {
                    Argument::Malformed
                } else {
                    self.argument()
                };
                return Some((name, argument));
            }
            self.rest = rest;
            match byte {
                b',' => self.garbled = false,
                b' ' | b'\t' => {}
                b'"' if !self.in_doubt => {
                    self.garbled = true;
                    match quoted_string(rest) {
                        Some((_, rest)) => self.rest = rest,
                        None => self.in_doubt = true,
                    }
                }
                _ => self.garbled = true,
            }
        }
    }
}

fn token(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&byte| !is_token(byte));
    text.split_at(end.unwrap_or(text.len()))
}

/// What is before the closing quote, and what is behind it. `None` if there is none.
fn quoted_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut place = 0;
    loop {
        match text.get(place)? {
            b'\\' => place += 2,
            b'"' => return Some((text.get(..place)?, text.get(place + 1..)?)),
            _ => place += 1,
        }
    }
}

/// Weir's own name comes before that of all who stand in front of an origin.
const TARGETS: [HeaderName; 2] = [
    HeaderName::from_static("weir-cache-control"),
    HeaderName::from_static("cdn-cache-control"),
];

/// All that [`Directives::add`] knows.
const DIRECTIVES: [&str; 11] = [
    "max-age",
    "s-maxage",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "stale-while-revalidate",
    "stale-if-error",
];

/// Fields without which the rest of a response would be taken for something else, or used for longer than it may be.
const NEEDED: [HeaderName; 6] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::DATE,
    header::EXPIRES,
    header::VARY,
];

/// RFC 9111 §1.2.2.
pub(crate) const LARGEST: u64 = 1 << 31;

const A_YEAR: i64 = 365 * 86_400;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::semantics::fields;

    fn of(lines: &[&str]) -> Directives {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        Directives::of_response(&fields(&lines))
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    fn listed(names: &[&'static str]) -> Scope {
        Scope::Fields(
            names
                .iter()
                .map(|name| HeaderName::from_static(name))
                .collect(),
        )
    }

    #[test]
    fn a_lifetime_is_digits_in_either_form_and_nothing_else() {
        for (lines, lifetime) in [
            (&["max-age=3600"][..], seconds(3600)),
            (&["MaX-aGe=3600"], seconds(3600)),
            (&["max-age=\"3600\""], seconds(3600)),
            (&["max-age=003600"], seconds(3600)),
            (&["max-age=0"], seconds(0)),
            (&["foobar, max-age=3600"], seconds(3600)),
            (&["foobar=\"x\";, max-age=3600"], seconds(3600)),
            (&["public,max-age=3600,"], seconds(3600)),
            (&[",, \t,max-age=3600\t ,"], seconds(3600)),
            (&["", "max-age=3600"], seconds(3600)),
            (&["max-age=2147483647"], seconds((1 << 31) - 1)),
            (&["max-age=2147483648"], seconds(1 << 31)),
            (&["max-age=2147483649"], seconds(1 << 31)),
            (&["max-age=99999999999"], seconds(1 << 31)),
            (&["max-age=99999999999999999999999999"], seconds(1 << 31)),
            // None of these is a lifetime, but each was meant to be one.
            (&["max-age"], seconds(0)),
            (&["max-age="], seconds(0)),
            (&["max-age=\"\""], seconds(0)),
            (&["max-age=-3600"], seconds(0)),
            (&["max-age=+3600"], seconds(0)),
            (&["max-age='3600'"], seconds(0)),
            (&["max-age=\"'3600'\""], seconds(0)),
            (&["max-age=\" 3600\""], seconds(0)),
            (&["max-age=\"36\\00\""], seconds(0)),
            (&["max-age=3600.0"], seconds(0)),
            (&["max-age=3600.5"], seconds(0)),
            (&["max-age=a3600"], seconds(0)),
            (&["max-age=3600a"], seconds(0)),
            (&["max-age =3600"], seconds(0)),
            (&["max-age= 3600"], seconds(0)),
            (&["max-age\t=\t3600"], seconds(0)),
            (&["max-age=3600;foo"], seconds(0)),
            (&["max-age=3600 foo"], seconds(0)),
            (&["max-age=\"3600\"x"], seconds(0)),
            (&["max-age=\"3600"], seconds(0)),
            (&["max-age==3600"], seconds(0)),
            (&["max-age:3600"], seconds(0)),
            (&["max-age=3600\u{e9}"], seconds(0)),
            (&["public; max-age=3600"], seconds(0)),
            (&["foo=\"bar, max-age=3600"], seconds(0)),
            (&["foo=\"bar", "max-age=3600"], seconds(0)),
            (&["foo=\"", "max-age=3600, bar=\""], seconds(0)),
            // Of several, the smallest.
            (&["max-age=3600", "max-age=1800"], seconds(1800)),
            (&["max-age=1800, max-age=3600"], seconds(1800)),
            (&["max-age=3600, max-age=3600"], seconds(3600)),
            (&["max-age=3600, max-age=x"], seconds(0)),
            // These are others.
            (&["xmax-age=3600"], None),
            (&["max-ages=3600"], None),
            (&["x-max-age=3600"], None),
            (&["max_age=3600"], None),
            (&["\"max-age=3600\""], None),
            (&["extension=\"max-age=3600\""], None),
            (&["extension=\"a, max-age=3600, b\""], None),
            (&["extension=\"a\\\", max-age=3600, b\""], None),
            (&["s-maxage=3600"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(of(lines).max_age, lifetime, "{lines:?}");
            let shared: Vec<_> = lines
                .iter()
                .map(|line| {
                    line.to_lowercase()
                        .replace("s-maxage", "x")
                        .replace("max-age", "s-maxage")
                })
                .collect();
            let shared: Vec<_> = shared.iter().map(String::as_str).collect();
            assert_eq!(of(&shared).s_maxage, lifetime, "{shared:?}");
        }
        for (line, lifetime) in [
            ("extension=\"max-age=3600\", max-age=1", seconds(1)),
            ("max-age=1, extension=\"max-age=3600\"", seconds(1)),
            ("extension=\"max-age=3600\", max-age=\"1\"", seconds(1)),
            ("max-age=\"1\", extension=\"max-age=3600\"", seconds(1)),
        ] {
            assert_eq!(of(&[line]).max_age, lifetime, "{line}");
        }
    }

    #[test]
    fn what_restricts_does_so_in_any_spelling_and_what_permits_in_the_right_one_only() {
        for line in [
            "no-store",
            "No-StOrE",
            "max-age=10000, no-store",
            "no-store=1",
            "no-store=\"x\"",
            "no-store ",
            "no-store;",
            "no-store x",
            "max-age=60; no-store",
            "max-age=60 no-store",
            ";no-store",
            "=no-store, no-store",
            "\"x\" no-store",
            "foo=\"bar, no-store",
            "foo=\"bar\\\", no-store",
            "foo\"bar, no-store",
            "\u{e9} no-store",
            "foo=\"x\"no-store",
        ] {
            assert!(of(&[line]).no_store, "{line}");
            let others = [
                ("must-revalidate", |d: &Directives| d.must_revalidate),
                ("proxy-revalidate", |d: &Directives| d.proxy_revalidate),
                ("must-understand", |d: &Directives| d.must_understand),
                ("no-cache", |d: &Directives| d.no_cache != Scope::Nothing),
                ("private", |d: &Directives| d.private != Scope::Nothing),
            ] as [(&str, fn(&Directives) -> bool); 5];
            for (name, says) in others {
                let line = line.to_lowercase().replace("no-store", name);
                assert!(says(&of(&[&line])), "{line}");
            }
        }
        for line in [
            "foo=\"no-store\"",
            "foo=\"a, no-store, b\"",
            "foo=no-store",
            "xno-store",
            "no-stores",
            "\"no-store\"",
        ] {
            assert!(!of(&[line]).no_store, "{line}");
        }
        assert!(of(&["foo=\"bar", "no-store"]).no_store);
        for line in ["public", "PUBLIC, max-age=1", "public=1"] {
            assert!(of(&[line]).public, "{line}");
        }
        let permits = [
            ("public", |d: &Directives| d.public),
            ("public", |d: &Directives| d.for_others),
            ("must-revalidate", |d: &Directives| d.for_others),
            ("s-maxage=0", |d: &Directives| d.for_others),
            ("must-understand", |d: &Directives| d.outdoes_no_store),
        ] as [(&str, fn(&Directives) -> bool); 5];
        for (word, does) in permits {
            assert!(does(&of(&[word])), "{word}");
            for line in [
                format!("{word};"),
                format!("{word} max-age=1"),
                format!("x; {word}"),
                format!("foo=\"bar, {word}"),
                format!("foo=\"{word}\""),
            ] {
                assert!(!does(&of(&[&line])), "{line}");
            }
        }
        for line in ["s-maxage", "s-maxage=", "s-maxage=x", "s-maxage=-1"] {
            assert!(!of(&[line]).for_others, "{line}");
        }
    }

    #[test]
    fn fields_are_named_in_quotes_and_any_doubt_means_the_response() {
        for (lines, scope) in [
            (&["no-cache"][..], Scope::All),
            (&["no-cache=\"a\""], listed(&["a"])),
            (&["no-cache=\"a, B,,\tc \""], listed(&["a", "b", "c"])),
            (&["no-cache=\"a\", no-cache=\"b\""], listed(&["a", "b"])),
            (&["no-cache=\"a\"", "max-age=3600"], listed(&["a"])),
            (&["no-cache=\"a\", no-cache"], Scope::All),
            (&["no-cache, no-cache=\"a\""], Scope::All),
            (&["no-cache=\"a"], Scope::All),
            (&["no-cache=\"a, b\" c"], Scope::All),
            (&["no-cache=\"a b\""], Scope::All),
            (&["no-cache=\"a, \u{e9}\""], Scope::All),
            (&["no-cache=\"\""], Scope::All),
            (&["no-cache=\" , \""], Scope::All),
            (&["no-cache="], Scope::All),
            (&["no-cache=a"], Scope::All),
            (&["no-cache='a'"], Scope::All),
            (&["no-cache= \"a\""], Scope::All),
            // Without them the rest would be taken for something else.
            (&["no-cache=\"a, Vary\""], Scope::All),
            (&["no-cache=\"content-encoding\""], Scope::All),
            (&["no-cache=\"cache-control\""], Scope::All),
            (&["foo=\"no-cache\""], Scope::Nothing),
        ] {
            assert_eq!(of(lines).no_cache, scope, "{lines:?}");
            let private: Vec<_> = lines
                .iter()
                .map(|line| line.replace("no-cache", "private"))
                .collect();
            let private: Vec<_> = private.iter().map(String::as_str).collect();
            assert_eq!(of(&private).private, scope, "{private:?}");
        }
        let both = of(&["no-cache=\"set-cookie\", private=\"x-user\""]);
        assert!(both.names(&header::SET_COOKIE) && both.names(&HeaderName::from_static("x-user")));
        assert!(!both.names(&header::ETAG) && !both.always_validate());
    }

    #[test]
    fn stale_use_without_an_argument_is_a_year_of_revalidation_and_no_error() {
        for (line, revalidate, error) in [
            (
                "s-maxage=1, stale-while-revalidate",
                seconds(31_536_000),
                None,
            ),
            ("stale-while-revalidate=60", seconds(60), None),
            ("stale-while-revalidate=", seconds(0), None),
            ("stale-while-revalidate=x", seconds(0), None),
            ("stale-while-revalidate =60", seconds(0), None),
            ("stale-if-error=\"60\"", None, seconds(60)),
            ("stale-if-error=60, stale-if-error=30", None, seconds(30)),
            ("stale-if-error", None, seconds(0)),
            ("immutable, max-age=1", None, None),
        ] {
            let directives = of(&[line]);
            assert_eq!(directives.stale_while_revalidate, revalidate, "{line}");
            assert_eq!(directives.stale_if_error, error, "{line}");
        }
    }

    #[test]
    fn the_first_valid_targeted_field_is_all_that_counts() {
        let lifetime = |lines: &[(&str, &str)]| {
            let mut lines = lines.to_vec();
            lines.push(("cache-control", "max-age=1, no-store"));
            let directives = Directives::of_response(&fields(&lines));
            assert_eq!(directives.no_store, !directives.targeted, "{lines:?}");
            directives.targeted.then_some(directives.max_age)
        };
        let (weir, cdn) = ("weir-cache-control", "cdn-cache-control");
        for (lines, targeted) in [
            (&[(cdn, "max-age=60")][..], Some(seconds(60))),
            (
                &[(weir, "max-age=30"), (cdn, "max-age=60")],
                Some(seconds(30)),
            ),
            (
                &[(cdn, "max-age=60"), (weir, "max-age=30")],
                Some(seconds(30)),
            ),
            (&[(weir, ""), (cdn, "max-age=60")], Some(seconds(60))),
            (
                &[(weir, "max-age=30;"), (cdn, "max-age=60")],
                Some(seconds(60)),
            ),
            (&[(cdn, "none")], Some(None)),
            (&[(cdn, "foobar, max-age=60")], Some(seconds(60))),
            (&[(cdn, "max-age=60;foo;bar=\"x\"")], Some(seconds(60))),
            (
                &[(cdn, "max-age=60"), (cdn, "max-age=30")],
                Some(seconds(30)),
            ),
            (&[(cdn, "max-age=30, max-age=60")], Some(seconds(60))),
            (&[(cdn, "max-age=99999999999")], Some(seconds(1 << 31))),
            (&[(cdn, "  max-age=60\t,\t public  ")], Some(seconds(60))),
            (
                &[(cdn, "max-age=60, x=(1 \"a\";p);q, y=:YQ==:, z=1.5, w=?0")],
                Some(seconds(60)),
            ),
            // A value of the wrong type is no lifetime.
            (&[(cdn, "max-age=-1")], Some(seconds(0))),
            (&[(cdn, "max-age=\"60\"")], Some(seconds(0))),
            (&[(cdn, "max-age=60.5")], Some(seconds(0))),
            (&[(cdn, "max-age")], Some(seconds(0))),
            (&[(cdn, "max-age=?0")], Some(None)),
            // These are no dictionaries.
            (&[(cdn, "Max-Age=60")], None),
            (&[(cdn, "max-age=60,")], None),
            (&[(cdn, "max-age=60, ,x")], None),
            (&[(cdn, "max-age =60")], None),
            (&[(cdn, "max-age= 60")], None),
            (&[(cdn, "max-age=60 x")], None),
            (&[(cdn, "max-age=")], None),
            (&[(cdn, "max-age='60'")], None),
            (&[(cdn, "max-age=1000000000000000")], None),
            (&[(cdn, "max-age=60, x=\"y")], None),
            (&[(cdn, "max-age=60, \u{e9}")], None),
            (&[(cdn, "max-age=60"), (cdn, "")], None),
            (&[(cdn, "")], None),
            (&[(cdn, " ")], None),
            (&[], None),
            // These are of others.
            (&[("surrogate-control", "max-age=60")], None),
            (&[("x-weir-cache-control", "max-age=60")], None),
        ] {
            assert_eq!(lifetime(lines), targeted, "{lines:?}");
        }
    }

    #[test]
    fn a_targeted_field_has_all_directives() {
        let line = "no-store, no-cache=\"a, b\", private, public, must-revalidate, proxy-revalidate, must-understand, s-maxage=1, stale-while-revalidate, stale-if-error=2";
        let directives = Directives::of_response(&fields(&[("cdn-cache-control", line)]));
        let said = Directives {
            no_store: true,
            no_cache: listed(&["a", "b"]),
            private: Scope::All,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            outdoes_no_store: true,
            for_others: true,
            max_age: None,
            s_maxage: seconds(1),
            stale_while_revalidate: seconds(31_536_000),
            stale_if_error: seconds(2),
            targeted: true,
        };
        assert_eq!(directives, said);
        let unsaid = "no-store, no-store=?0, private=?0, public=?0, no-cache=x, must-revalidate=1";
        let directives = Directives::of_response(&fields(&[("cdn-cache-control", unsaid)]));
        let said = Directives {
            no_cache: Scope::All,
            must_revalidate: true,
            targeted: true,
            ..Directives::default()
        };
        assert_eq!(directives, said);
    }

    #[test]
    fn requests_have_directives_of_their_own() {
        let of = |lines: &[(&str, &str)]| RequestDirectives::of(&fields(lines));
        let all = of(&[
            ("cache-control", "no-cache, No-Store, only-if-cached"),
            ("cache-control", "max-age=1, min-fresh=2, max-stale=3"),
            ("cache-control", "stale-if-error=4"),
        ]);
        let said = RequestDirectives {
            no_cache: true,
            no_store: true,
            only_if_cached: true,
            max_age: seconds(1),
            min_fresh: seconds(2),
            max_stale: seconds(3),
            stale_if_error: seconds(4),
        };
        assert_eq!(all, said);
        let nothing = RequestDirectives::default();
        assert_eq!(
            of(&[("cache-control", "foo=\"no-cache, no-store\", s-maxage=1")]),
            nothing
        );
        for (line, max_age, min_fresh, max_stale) in [
            ("max-age=x, min-fresh=x, max-stale=x", 0, 1 << 31, 0),
            ("max-age, min-fresh, max-stale", 0, 1 << 31, 1 << 31),
            (
                "max-age=5, max-age=6, min-fresh=5, min-fresh=6, max-stale=5, max-stale=6",
                5,
                6,
                5,
            ),
            (
                "max-age=\"5\", min-fresh=\"5\", max-stale, max-stale=\"5\"",
                5,
                5,
                5,
            ),
        ] {
            let directives = of(&[("cache-control", line)]);
            let read = (
                directives.max_age,
                directives.min_fresh,
                directives.max_stale,
            );
            assert_eq!(
                read,
                (seconds(max_age), seconds(min_fresh), seconds(max_stale)),
                "{line}"
            );
        }
    }

    #[test]
    fn pragma_counts_where_there_is_nothing_else() {
        let no_cache = |lines: &[(&str, &str)]| RequestDirectives::of(&fields(lines)).no_cache;
        assert!(no_cache(&[("pragma", "no-cache")]));
        assert!(no_cache(&[("pragma", "foo, No-Cache")]));
        assert!(!no_cache(&[("pragma", "unrecognised-extension")]));
        assert!(!no_cache(&[
            ("pragma", "no-cache"),
            ("cache-control", "max-age=5")
        ]));
        assert!(!no_cache(&[("pragma", "no-cache"), ("cache-control", "")]));
        assert!(has_pragma_no_cache(&fields(&[
            ("pragma", "x"),
            ("pragma", "no-cache")
        ])));
    }

    /// Lines that parsers stumble over.
    fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let word = prop::sample::select(
            &[
                "max-age",
                "s-maxage=60",
                "no-store",
                "no-cache",
                "private",
                "public",
                "=",
                "\"",
                "\\",
                ",",
                ";",
                " ",
                "\t",
                "60",
                "-",
                "'",
                "stale-if-error",
                "\u{e9}",
                "x",
                "(",
                "?1",
                ":",
            ][..],
        );
        let line = prop::collection::vec(word, 0..12).prop_map(|words| words.concat().into_bytes());
        prop::collection::vec(line, 0..4)
    }

    proptest! {
        #[test]
        fn no_lines_make_it_panic(lines in lines(), name in 0_usize..4) {
            let names = ["cache-control", "cdn-cache-control", "weir-cache-control", "pragma"];
            let headers: Vec<_> = lines.iter().map(|line| (names[name], line)).collect();
            let headers = fields(&headers);
            let directives = Directives::of_response(&headers);
            RequestDirectives::of(&headers);
            prop_assert!(directives.max_age.is_none_or(|age| age.as_secs() <= LARGEST));
        }

        /// Whatever stands in a well-formed quoted string says nothing.
        #[test]
        fn quoted_content_is_never_a_directive(inside in "([a-z,;= ]|no-store|max-age=9|public|\\\\\"){0,20}", name in "[a-w]{1,5}") {
            let quoted = of(&[&format!("max-age=5, {name}=\"{inside}\", must-revalidate")]);
            let plain = of(&["max-age=5, must-revalidate"]);
            prop_assert_eq!(quoted, plain);
        }

        /// Whatever stands before and behind it, with commas between.
        #[test]
        fn no_store_is_found_among_anything(before in "[ -!#-~]{0,20}", behind in "[ -~]{0,20}", upper: bool) {
            let word = if upper { "NO-STORE" } else { "no-store" };
            let (one, unclosed) = (format!("{before},{word},{behind}"), format!("\"{before}"));
            prop_assert!(of(&[&one]).no_store);
            prop_assert!(of(&[&unclosed, word]).no_store);
        }
    }
}
