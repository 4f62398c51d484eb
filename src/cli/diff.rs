//! `weir diff`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::stdout;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, bail};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::Format;
use super::{RunningWeir, admin_client};
use crate::config::{self, Change, Comparison, Config, LoadError, MASK, Outside};

/// What `GET /api/config` says.
#[derive(Deserialize)]
struct Runs {
    hash: String,
    file: String,
    config: Value,
}

pub(super) fn diff(weir: &RunningWeir, format: Format) -> anyhow::Result<ExitCode> {
    let variables = Variables::default();
    let file = config::find(weir.config.config.clone());
    let config = match file.and_then(|file| variables.load(&file)) {
        Ok(config) => config,
        // 1 would say that it is valid and differs.
        Err(error @ LoadError::Invalid(_)) => {
            super::report(&error.into());
            if variables.some_are_unset() {
                say!("{}", variables.told());
            }
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error.into()),
    };
    let answer = admin_client::ask(weir, Method::GET, "/api/config")?;
    if answer.status != StatusCode::OK {
        bail!("{}", answer.reason());
    }
    let runs: Runs = serde_json::from_slice(&answer.body).context(admin_client::NOT_WEIR)?;
    let same_text = runs.hash == config.hash;
    let comparison = if same_text {
        Comparison::default()
    } else {
        Comparison::between(&runs.config, &config.tree())
    };
    match format {
        Format::Json => {
            let mut told = json!({
                "same": comparison.is_empty(),
                "runs": { "hash": runs.hash, "file": runs.file },
                "file": { "hash": config.hash, "file": config.file.display().to_string() },
            });
            if let (Some(told), Value::Object(comparison)) =
                (told.as_object_mut(), serde_json::to_value(&comparison)?)
            {
                told.extend(comparison);
            }
            super::out(&format!("{told:#}\n"))?;
        }
        Format::Text => super::out(&text(&comparison, super::colours(&stdout())))?,
    }
    let depends = depends(&comparison);
    if !depends.is_empty() && !variables.are_none() {
        say!(
            "{}; what is told of {} may be no difference",
            variables.told(),
            depends.join(", ")
        );
    }
    if comparison.is_empty() {
        if same_text {
            say!("no difference, hash {}", config.hash);
        } else {
            say!(
                "no key differs; the texts do, in comments, order or what is masked ({} runs, the file is {})",
                runs.hash,
                config.hash
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(1))
}

/// The variables that a file asks for, and whether they are set here. What weir has them at is not known.
#[derive(Default)]
struct Variables(Mutex<BTreeMap<String, bool>>);

impl Variables {
    fn load(&self, file: &Path) -> Result<Config, LoadError> {
        let variable = |name: &str| {
            let value = std::env::var_os(name);
            self.lock().insert(name.to_owned(), value.is_some());
            value
        };
        let here = Outside {
            variable: &variable,
            now: SystemTime::now(),
        };
        config::load_with(file, &here)
    }

    fn are_none(&self) -> bool {
        self.lock().is_empty()
    }

    fn some_are_unset(&self) -> bool {
        self.lock().values().any(|is_set| !is_set)
    }

    fn told(&self) -> String {
        let known = self.lock();
        let one = |(name, is_set): (&String, &bool)| match is_set {
            true => format!("`{name}`"),
            false => format!("`{name}` (not set here)"),
        };
        let all: Vec<_> = known.iter().map(one).collect();
        format!(
            "variables are read from the environment of this command, which need not be that of the weir that runs: {}",
            all.join(", ")
        )
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What differs in something that is masked on one side, as is all that came from the environment.
fn depends(comparison: &Comparison) -> Vec<&str> {
    let is_masked = |change: &&Change| {
        let values = change.keys.iter().flat_map(|key| [&key.from, &key.to]);
        let mut values = values.flatten().map(Value::to_string);
        change.what.contains(MASK) || values.any(|value| value.contains(MASK))
    };
    let changes = comparison.changes.iter().filter(is_masked);
    changes.map(|change| change.what.as_str()).collect()
}

fn text(comparison: &Comparison, colours: bool) -> String {
    let mut out = String::new();
    for line in comparison.lines() {
        let colour = match line.as_bytes().first() {
            Some(b'+') => GREEN,
            Some(b'-') => RED,
            _ => YELLOW,
        };
        let _ = match colours {
            true => writeln!(out, "{colour}{line}{RESET}"),
            false => writeln!(out, "{line}"),
        };
    }
    if !comparison.needs_restart.is_empty() {
        let keys = comparison.needs_restart.join(", ");
        let _ = writeln!(out, "taken only by a restart: {keys}");
    }
    if !comparison.ends.is_empty() {
        let gone = comparison.ends.join(", ");
        let _ = writeln!(out, "get `process.drain` to end: what is on {gone}");
    }
    out
}

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const RESET: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_has_its_colour_and_what_follows_is_told() {
        let before = json!({ "process": { "workers": 1 }, "route": { "old": {} } });
        let after = json!({ "process": { "workers": 2 }, "route": { "new": {} } });
        let comparison = Comparison::between(&before, &after);
        assert_eq!(
            text(&comparison, false),
            "~ process.workers: 1 -> 2\n+ route.new\n- route.old\ntaken only by a restart: process.workers\n\
             get `process.drain` to end: what is on route.old\n"
        );
        let coloured = text(&comparison, true);
        for part in [
            "\u{1b}[33m~ ",
            "\u{1b}[32m+ ",
            "\u{1b}[31m- ",
            "old\u{1b}[0m\n",
        ] {
            assert!(coloured.contains(part), "{part:?} in {coloured:?}");
        }
    }
}
