//! `weir import`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::import;

/// What to import.
#[derive(Subcommand)]
pub(super) enum Import {
    /// Turns an nginx config into a weir.toml on stdout, and tells line by line what it could not translate. Exit code: 0, also
    /// where something was left out; 2 if a file cannot be read, is no nginx syntax, or too much.
    Nginx(Nginx),
}

#[derive(Args)]
pub(super) struct Nginx {
    /// The main file, such as `/etc/nginx/nginx.conf`, or one of a site. What it includes is read too.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tells also what needs no counterpart, and why.
    #[arg(short, long)]
    verbose: bool,
}

pub(super) fn import(what: &Import) -> anyhow::Result<ExitCode> {
    let Import::Nginx(nginx) = what;
    let imported = import::nginx(&nginx.file)?;
    super::out(&imported.toml)?;
    let shown = imported
        .remarks
        .iter()
        .filter(|remark| nginx.verbose || !remark.is_needless);
    for remark in shown {
        say!("{}", remark.line);
    }
    let count = imported.count;
    say!(
        "{} directives translated, {} not (above), {} need no counterpart{}",
        count.translated,
        count.left,
        count.needless,
        if nginx.verbose {
            ""
        } else {
            " (--verbose tells why)"
        }
    );
    Ok(ExitCode::SUCCESS)
}
