//! `weir check`

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::{self, LoadError, Problem};
use crate::units::ServerName;
use crate::upstream::resolve::dns::Dns;

/// How problems are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

pub(super) fn check(file: Option<PathBuf>, show: bool, format: Format) -> anyhow::Result<ExitCode> {
    match config::find(file).and_then(|file| config::load_with_names(&file)) {
        Ok(loaded) => {
            let config = loaded.config;
            let mut warnings = config.warnings.clone();
            warnings.add(unresolved(config.process.resolver, loaded.server_names));
            if format == Format::Json {
                super::out(&format!("{}\n", warnings.to_json()))?;
                return Ok(ExitCode::SUCCESS);
            }
            super::say_all(&warnings.render(super::colours(&std::io::stderr())));
            if show {
                super::out(&config.show())?;
            } else {
                say!(
                    "{}: valid ({}, {}, {}, hash {})",
                    config.file.display(),
                    counted(config.listeners.len(), "listener"),
                    counted(config.routes.len(), "route"),
                    counted(config.upstreams.len(), "upstream"),
                    config.hash
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(LoadError::Invalid(report)) if format == Format::Json => {
            super::out(&format!("{}\n", report.to_json()))?;
            Ok(ExitCode::from(1))
        }
        Err(error) => Err(error.into()),
    }
}

fn counted(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Asks DNS for the names of servers, all at once.
fn unresolved(resolver: Option<SocketAddr>, names: Vec<(ServerName, Problem)>) -> Vec<Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Some(runtime) = runtime.ok().filter(|_| !names.is_empty()) else {
        return Vec::new();
    };
    let distinct: HashSet<_> = names.iter().map(|(name, _)| name.clone()).collect();
    let mut reasons: HashMap<_, _> = distinct
        .into_iter()
        .take(MOST_NAMES)
        .map(|name| (name, "no answer within 2 seconds".to_owned()))
        .collect();
    runtime.block_on(async {
        let dns = Arc::new(Dns::new(resolver));
        let mut asking = JoinSet::new();
        for name in reasons.keys().cloned() {
            let dns = Arc::clone(&dns);
            asking.spawn(async move { (dns.resolve(&name).await, name) });
        }
        let until = Instant::now() + DNS_WITHIN;
        while let Ok(Some(answered)) = timeout_at(until, asking.join_next()).await {
            match answered {
                Ok((Ok(_), name)) => drop(reasons.remove(&name)),
                Ok((Err(error), name)) => drop(reasons.insert(name, error.to_string())),
                Err(_) => {}
            }
        }
    });
    // A question to a system that hangs holds up nobody.
    runtime.shutdown_background();
    let told = |(name, mut problem): (ServerName, Problem)| {
        let reason = reasons.get(&name)?;
        let (ServerName::Host { name, .. } | ServerName::Service(name)) = &name;
        // It may be from a variable, and is not told.
        if !reason.contains(&**name) {
            problem.message = format!("{}: {reason}", problem.message);
        }
        Some(problem)
    };
    names.into_iter().filter_map(told).collect()
}

/// For all names together.
const DNS_WITHIN: Duration = Duration::from_secs(2);
/// As many questions as are asked at once.
const MOST_NAMES: usize = 1000;
