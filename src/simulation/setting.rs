//! The upstream of a simulation: the defaults with a health check, and for most seeds something besides.

use std::time::Duration;

use super::random::Random;
use super::servers::{FIRST_PORT, HEALTH};

/// What the config says.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    servers: u64,
    balance: &'static str,
    pub(super) sticky: bool,
    limit: bool,
    backup: bool,
    adaptive: bool,
    pub(super) response_timeout: Duration,
    pub(super) longest_ejection: Duration,
}

impl Setting {
    /// Seed 1 has the defaults.
    pub(super) fn of(seed: u64) -> Self {
        let random = Random::new(seed, 0);
        let plain = seed == 1;
        let balances = [
            "round_robin",
            "round_robin",
            "least_connections",
            "peak_ewma",
            "random",
            "hash",
        ];
        Self {
            seed,
            servers: random.between(3, 5),
            balance: if plain {
                "round_robin"
            } else {
                random.one_of(&balances)
            },
            sticky: !plain && random.chance(25),
            limit: !plain && random.chance(25),
            backup: !plain && random.chance(25),
            response_timeout: Duration::from_secs(if plain {
                60
            } else {
                random.one_of(&[5, 10, 60])
            }),
            longest_ejection: Duration::from_secs(if plain {
                300
            } else {
                random.one_of(&[30, 60, 300])
            }),
            adaptive: !plain && random.chance(40),
        }
    }

    /// Whether each server that takes traffic is to get about the same share of it.
    pub(super) fn is_even(&self) -> bool {
        !self.sticky && matches!(self.balance, "round_robin" | "random" | "hash")
    }

    pub(super) fn text(&self) -> String {
        let server = |number: u64| {
            let port = u64::from(FIRST_PORT) + number;
            let backup = self.backup && number + 1 == self.servers;
            format!("{{ address = \"10.0.0.1:{port}\", backup = {backup} }}")
        };
        let servers: Vec<_> = (0..self.servers).map(server).collect();
        let hash_key = if self.balance == "hash" {
            "hash_key = \"path\""
        } else {
            ""
        };
        let limit = if self.limit { "max_in_flight = 8" } else { "" };
        let concurrency = if self.adaptive { "adaptive" } else { "off" };
        format!(
            r#"
            admin = {{ address = "off" }}
            log = {{ access = "off" }}
            [listen.web]
            address = "127.0.0.1:8080"
            [route.site]
            upstream = "app"
            [upstream.app]
            servers = [{}]
            balance = "{}"
            sticky = {}
            response_timeout = "{}s"
            ejection = {{ max = "{}s" }}
            health_check = "{HEALTH}"
            {hash_key}
            {limit}
            concurrency = "{concurrency}"
            "#,
            servers.join(", "),
            self.balance,
            self.sticky,
            self.response_timeout.as_secs(),
            self.longest_ejection.as_secs(),
        )
    }
}
