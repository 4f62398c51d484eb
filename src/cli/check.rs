//! `weir check`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::config::{self, LoadError};

/// How problems are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

pub(super) fn check(file: Option<PathBuf>, show: bool, format: Format) -> ExitCode {
    match config::find(file).and_then(|file| config::load(&file)) {
        Ok(config) => {
            if format == Format::Json {
                super::out("{\"problems\":[]}\n");
            } else if show {
                super::out(&config.show());
            } else {
                let (listeners, routes, upstreams) = (
                    config.listeners.len(),
                    config.routes.len(),
                    config.upstreams.len(),
                );
                eprintln!(
                    "{}: valid ({listeners} listeners, {routes} routes, {upstreams} upstreams, hash {})",
                    config.file.display(),
                    config.hash
                );
            }
            ExitCode::SUCCESS
        }
        Err(LoadError::Invalid(report)) if format == Format::Json => {
            super::out(&format!("{}\n", report.to_json()));
            ExitCode::from(1)
        }
        Err(error) => {
            let code = error.exit_code();
            super::report(&error.into());
            ExitCode::from(code)
        }
    }
}
