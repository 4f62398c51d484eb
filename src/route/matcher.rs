//! What a route demands of a request besides host and path.

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
        (self.methods.is_empty() || self.methods.contains(wanted.method))
            && self
                .headers
                .iter()
                .all(|condition| has_field(condition, wanted))
            && self
                .query
                .iter()
                .all(|condition| has_parameter(condition, wanted))
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
        matcher.matches(&Wanted {
            host: "",
            path: "/",
            method,
            headers: &fields,
            query,
        })
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
