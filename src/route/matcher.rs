//! What a route demands of a request besides host and path.

use std::fmt;

use http::Method;

use super::Wanted;
use crate::config::{HeaderCondition, QueryCondition, Route};

/// The conditions of one route; all must hold.
#[derive(Debug)]
pub(super) struct Matcher {
    methods: Box<[Method]>,
    headers: Box<[HeaderCondition]>,
    query: Box<[QueryCondition]>,
}

impl Matcher {
    pub(super) fn new(route: &Route) -> Self {
        Self {
            methods: route.methods.as_slice().into(),
            headers: route.headers.as_slice().into(),
            query: route.query.as_slice().into(),
        }
    }

    /// How specific the route is. Methods are alternatives and so one condition, however many there are.
    pub(super) fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + self.query.len()
    }

    /// Whether the request meets all of them.
    pub(super) fn matches(&self, wanted: &Wanted<'_>) -> bool {
        self.has_method(wanted)
            && self
                .headers
                .iter()
                .all(|condition| has_field(condition, wanted))
            && self
                .query
                .iter()
                .all(|condition| has_parameter(condition, wanted))
    }

    /// Those that the request does not meet.
    pub(super) fn unmet(&self, wanted: &Wanted<'_>) -> Vec<Unmet<'_>> {
        let methods = (!self.has_method(wanted)).then_some(Unmet::Method(&self.methods));
        let fields = self.headers.iter();
        let fields = fields.filter(|condition| !has_field(condition, wanted));
        let parameters = self.query.iter();
        let parameters = parameters.filter(|condition| !has_parameter(condition, wanted));
        methods
            .into_iter()
            .chain(fields.map(Unmet::Field))
            .chain(parameters.map(Unmet::Parameter))
            .collect()
    }

    fn has_method(&self, wanted: &Wanted<'_>) -> bool {
        self.methods.is_empty() || self.methods.contains(wanted.method)
    }
}

/// A condition that a request does not meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unmet<'m> {
    /// It is none of these.
    Method(&'m [Method]),
    Field(&'m HeaderCondition),
    Parameter(&'m QueryCondition),
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(methods) => {
                let words: Vec<_> = methods.iter().map(Method::as_str).collect();
                write!(out, "the method is not {}", words.join(" or "))
            }
            Self::Field(HeaderCondition { name, value }) => match value {
                Some(value) => write!(out, "no field `{name}: {value}`"),
                None => write!(out, "no field `{name}`"),
            },
            Self::Parameter(QueryCondition { name, value }) => match value {
                Some(value) => write!(out, "no parameter `{name}={value}` in the query"),
                None => write!(out, "no parameter `{name}` in the query"),
            },
        }
    }
}

/// Each line of a repeated field counts on its own; a value is compared whole and with its case.
fn has_field(condition: &HeaderCondition, wanted: &Wanted<'_>) -> bool {
    match &condition.value {
        None => wanted.headers.contains_key(&condition.name),
        Some(value) => wanted
            .headers
            .get_all(&condition.name)
            .iter()
            .any(|line| line == value.as_str()),
    }
}

/// `a` and `a=` both have the empty value.
fn has_parameter(condition: &QueryCondition, wanted: &Wanted<'_>) -> bool {
    let mut parameters = wanted
        .query
        .unwrap_or_default()
        .split('&')
        .filter(|parameter| !parameter.is_empty());
    parameters.any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        name == condition.name
            && condition
                .value
                .as_deref()
                .is_none_or(|wanted| wanted == value)
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn matcher(
        methods: &[Method],
        headers: &[(&'static str, Option<&str>)],
        query: &[(&str, Option<&str>)],
    ) -> Matcher {
        let owned = |value: &Option<&str>| value.map(str::to_owned);
        Matcher {
            methods: methods.into(),
            headers: headers
                .iter()
                .map(|(name, value)| HeaderCondition {
                    name: HeaderName::from_static(name),
                    value: owned(value),
                })
                .collect(),
            query: query
                .iter()
                .map(|(name, value)| QueryCondition {
                    name: (*name).to_owned(),
                    value: owned(value),
                })
                .collect(),
        }
    }

    fn matches(
        matcher: &Matcher,
        method: &Method,
        headers: &[(&'static str, &'static str)],
        query: Option<&str>,
    ) -> bool {
        let mut fields = HeaderMap::new();
        for (name, value) in headers {
            fields.append(*name, HeaderValue::from_static(value));
        }
        let wanted = Wanted {
            host: "",
            path: "/",
            method,
            headers: &fields,
            query,
        };
        let matches = matcher.matches(&wanted);
        assert_eq!(matches, matcher.unmet(&wanted).is_empty());
        matches
    }

    #[test]
    fn without_conditions_anything_matches() {
        assert!(matches(&matcher(&[], &[], &[]), &Method::PATCH, &[], None));
    }

    #[test]
    fn methods_are_alternatives_and_one_condition() {
        let matcher = matcher(&[Method::GET, Method::HEAD], &[], &[]);
        assert!(matches(&matcher, &Method::HEAD, &[], None));
        assert!(!matches(&matcher, &Method::POST, &[], None));
        assert_eq!(matcher.conditions(), 1);
    }

    #[test]
    fn fields_are_compared_line_by_line() {
        let version = matcher(&[], &[("x-version", Some("2"))], &[]);
        assert!(matches(
            &version,
            &Method::GET,
            &[("x-version", "1"), ("x-version", "2")],
            None
        ));
        assert!(!matches(
            &version,
            &Method::GET,
            &[("x-version", "1, 2")],
            None
        ));
        assert!(!matches(&version, &Method::GET, &[], None));
        let any = matcher(&[], &[("x-version", None)], &[]);
        assert!(matches(&any, &Method::GET, &[("x-version", "")], None));
        assert!(!matches(&any, &Method::GET, &[("x-other", "2")], None));
    }

    #[test]
    fn parameters_are_compared_as_written() {
        let beta = matcher(&[], &[], &[("beta", Some("1"))]);
        for query in ["beta=1", "a=b&beta=1", "beta=0&beta=1"] {
            assert!(matches(&beta, &Method::GET, &[], Some(query)), "{query}");
        }
        for query in [
            "", "beta", "beta=", "beta=11", "xbeta=1", "Beta=1", "beta=%31", "a=beta=1", "beta=1;x",
        ] {
            assert!(!matches(&beta, &Method::GET, &[], Some(query)), "{query}");
        }
        assert!(!matches(&beta, &Method::GET, &[], None));
        let any = matcher(&[], &[], &[("beta", None)]);
        assert!(
            matches(&any, &Method::GET, &[], Some("beta"))
                && matches(&any, &Method::GET, &[], Some("x&beta=7"))
        );
        assert!(!matches(&any, &Method::GET, &[], Some("alphabeta&")));
        let empty = matcher(&[], &[], &[("beta", Some(""))]);
        assert!(
            matches(&empty, &Method::GET, &[], Some("beta"))
                && matches(&empty, &Method::GET, &[], Some("beta="))
        );
    }

    #[test]
    fn what_is_not_met_is_told() {
        let all = matcher(
            &[Method::GET, Method::HEAD],
            &[("x-a", None), ("x-b", Some("2"))],
            &[("q", None), ("r", Some("1"))],
        );
        let wanted = Wanted {
            host: "",
            path: "/",
            method: &Method::PUT,
            headers: &HeaderMap::new(),
            query: Some("q&r=2"),
        };
        let told: Vec<_> = all.unmet(&wanted).iter().map(Unmet::to_string).collect();
        assert_eq!(
            told,
            [
                "the method is not GET or HEAD",
                "no field `x-a`",
                "no field `x-b: 2`",
                "no parameter `r=1` in the query",
            ]
        );
    }

    #[test]
    fn all_conditions_must_hold() {
        let all = matcher(
            &[Method::GET],
            &[("x-a", None), ("x-b", None)],
            &[("q", None)],
        );
        assert_eq!(all.conditions(), 4);
        assert!(matches(
            &all,
            &Method::GET,
            &[("x-a", ""), ("x-b", "")],
            Some("q")
        ));
        assert!(!matches(&all, &Method::GET, &[("x-a", "")], Some("q")));
        assert!(!matches(
            &all,
            &Method::GET,
            &[("x-a", ""), ("x-b", "")],
            None
        ));
    }
}
