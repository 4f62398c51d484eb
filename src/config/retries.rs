//! `[upstream.NAME.ejection]`, `[upstream.NAME.retry]`

use http::Method;

use super::peers;
use super::value::Value;
use super::values::{choice, duration, integer, list, method, share};
use super::{Ejection, Retry, RetryOn};
use crate::units::Share;

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: 5,
            base: std::time::Duration::from_secs(10),
            max: std::time::Duration::from_secs(300),
            max_share: Share::percent(50),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: 1,
            budget: Share::percent(20),
            on: vec![
                RetryOn::Connect,
                RetryOn::Reset,
                RetryOn::BadGateway,
                RetryOn::Unavailable,
            ],
            methods: vec![Method::GET, Method::HEAD, Method::OPTIONS],
        }
    }
}

impl RetryOn {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("connect", Self::Connect),
        ("reset", Self::Reset),
        ("timeout", Self::Timeout),
        ("502", Self::BadGateway),
        ("503", Self::Unavailable),
        ("504", Self::GatewayTimeout),
    ];
}

pub(super) fn ejection(value: &Value<'_>) -> Option<Ejection> {
    let defaults = Ejection::default();
    value.table(|table| {
        table.elsewhere(peers::EJECTION);
        let ejection = Ejection {
            failures: table.or("failures", defaults.failures, |value| {
                integer(value, 1..=10_000)
            }),
            base: table.or("base", defaults.base, duration),
            max: table.or("max", defaults.max, duration),
            max_share: table.or("max_share", defaults.max_share, share),
        };
        if ejection.max < ejection.base {
            let value = table.get("max").or_else(|| table.get("base"));
            value.inspect(|value| value.invalid("`max` must not be less than `base`"));
        }
        Some(ejection)
    })
}

pub(super) fn retry(value: &Value<'_>) -> Option<Retry> {
    let defaults = Retry::default();
    value.table(|table| {
        table.elsewhere(peers::RETRY);
        Some(Retry {
            max_retries: table.or("max_retries", defaults.max_retries, |value| {
                integer(value, 0..=10)
            }),
            budget: table.or("budget", defaults.budget, share),
            on: table.or("on", defaults.on, |value| {
                Some(list(
                    value,
                    "a list such as `[\"connect\", \"503\"]`",
                    |value| choice(value, &RetryOn::ALL, &[]),
                ))
            }),
            methods: table.or("methods", defaults.methods, |value| {
                Some(list(value, "a list of methods", method))
            }),
        })
    })
}
