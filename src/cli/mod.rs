//! The command line: one file per command. Data goes to stdout, messages to stderr.

/// As `eprintln!`, by way of [`say_all`].
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::say_all(&format!("{}\n", format_args!($($text)*)))
    };
}

mod admin_client;
mod check;
mod demo;
mod diff;
mod drain;
mod explain;
mod explained;
mod import;
mod passed;
mod purge;
mod reload;
mod run;
mod status;
mod upgrade;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, LoadError};

/// A reverse proxy and load balancer that does not fall over.
#[derive(Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the proxy. If the config is invalid and says where earlier ones are kept (`process.state`), the last good one runs.
    /// Exit code: 0 after SIGTERM or SIGINT, 1 if the config is invalid, 2 if weir cannot start.
    Run(ConfigFile),
    /// Starts the proxy with three small built-in servers and prints what to try. Needs no file.
    Demo,
    /// Checks a config and prints all its problems. Exit code: 0 valid, 1 invalid, 2 not readable.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Prints the whole config with every default filled in, secrets masked.
        #[arg(long)]
        show: bool,
        /// How to print problems.
        #[arg(long, value_enum, default_value = "text")]
        format: check::Format,
    },
    /// Says what weir would do with a request, without sending anything and without a running weir: listener, route and why no
    /// other one, what servers see and which they are, cache and compression, or its own answer. Exit code: 0 a route takes
    /// it, 1 weir itself would refuse it, 2 error.
    Explain {
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        question: explain::Question,
        /// How to print it.
        #[arg(long, value_enum, default_value = "text")]
        format: check::Format,
    },
    /// Shows what a running weir does. Exit code: 0 if it is ready, 1 if not, 2 if it cannot be reached.
    Status {
        #[command(flatten)]
        running: RunningWeir,
        /// Prints the JSON of `/api/status`.
        #[arg(long)]
        json: bool,
    },
    /// Shows what taking a config file would change of what a running weir does. Variables in the file are read from the
    /// environment of this command. Exit code: 0 nothing, 1 something, 2 the file is not valid or weir cannot be reached.
    Diff {
        #[command(flatten)]
        running: RunningWeir,
        /// How to print what differs.
        #[arg(long, value_enum, default_value = "text")]
        format: check::Format,
    },
    /// Makes a running weir take its config file now. Exit code: 0 taken, 1 refused, 2 not reachable.
    Reload(RunningWeir),
    /// Makes a running weir return to the config that ran before, whose files it does not read. The file stays as it is, and is
    /// taken again when it changes, on SIGHUP or by `weir reload`. Once more, and it returns to where it came from. A file that
    /// was refused never ran and needs no rollback: this leads away from the config that runs. Exit code: 0 done, 1 refused or
    /// nothing to return to, 2 not reachable.
    Rollback {
        /// Return to this one of those that `weir status --json` lists under `kept`. Default: to the one before.
        hash: Option<String>,
        #[command(flatten)]
        running: RunningWeir,
    },
    /// Makes a running weir start its program anew, as it lies on disk now, and hand it all listening sockets: no connection
    /// is refused or reset. The new process runs by the file, also where `weir rollback` has led away from it; servers that were
    /// drained stay so; ejections, counters and the cache begin anew. Exit code: 0 the new process serves, 1 it does not and the
    /// one before runs on, 2 not reachable.
    Upgrade(RunningWeir),
    /// Takes a server out of service: it gets no new requests, also after a reload or an upgrade, until `weir ready` or the end
    /// of weir. Waits until its last request has ended. Exit code: 0 empty (with `--no-wait`: drained), 1 refused or not
    /// empty in time, 2 not reachable.
    Drain {
        #[command(flatten)]
        server: drain::Named,
        #[command(flatten)]
        wait: drain::Wait,
        #[command(flatten)]
        running: RunningWeir,
    },
    /// Makes a running weir forget what its cache has stored, and prints how many responses that were. Exit code: 0 done, also
    /// where nothing was stored, 1 refused, 2 not reachable.
    Purge {
        #[command(flatten)]
        what: purge::What,
        /// Keeps it for when servers fail or say that it is still good; for all else it is gone.
        #[arg(long)]
        soft: bool,
        #[command(flatten)]
        running: RunningWeir,
    },
    /// Turns the config of another proxy into one for weir.
    #[command(subcommand)]
    Import(import::Import),
    /// Prints the JSON Schema of the config, for editors.
    Schema,
    /// Prints what completes command lines of weir in a shell.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Takes a server that was drained back into service. Exit code: 0 done, 1 refused, 2 not reachable.
    Ready {
        #[command(flatten)]
        server: drain::Named,
        #[command(flatten)]
        running: RunningWeir,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// The config. Default: `weir.toml` in the working directory, else `/etc/weir/weir.toml`.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How to reach a running weir.
#[derive(Args)]
struct RunningWeir {
    /// Its admin address, as `http://HOST:PORT` or `unix:/PATH`. Default: by the config file, else `http://127.0.0.1:9900`.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Its admin token. Default: by the config file.
    #[arg(long, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| with_advice(error).exit());
    let result = match cli.command {
        Command::Run(file) => run::run(file.config),
        Command::Demo => demo::demo(),
        Command::Check {
            config,
            show,
            format,
        } => check::check(config.config, show, format),
        Command::Explain {
            config,
            question,
            format,
        } => explain::explain(config.config, &question, format),
        Command::Status { running, json } => status::status(&running, json),
        Command::Diff { running, format } => diff::diff(&running, format),
        Command::Reload(running) => reload::reload(&running),
        Command::Rollback { hash, running } => reload::rollback(&running, hash.as_deref()),
        Command::Upgrade(running) => upgrade::upgrade(&running),
        Command::Drain {
            server,
            wait,
            running,
        } => drain::drain(&running, &server, &wait),
        Command::Purge {
            what,
            soft,
            running,
        } => purge::purge(&running, &what, soft),
        Command::Import(what) => import::import(&what),
        Command::Schema => schema(),
        Command::Completions { shell } => completions(shell),
        Command::Ready { server, running } => drain::ready(&running, &server),
    };
    result.unwrap_or_else(|error| {
        report(&error);
        ExitCode::from(
            error
                .downcast_ref::<LoadError>()
                .map_or(2, LoadError::exit_code),
        )
    })
}

/// Whoever names the config as other programs want it is told how it is named here.
fn with_advice(mut error: clap::Error) -> clap::Error {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && Path::new(argument).is_file()
    {
        let advice = format!("a config is named by `-c {argument}`");
        let advice = ContextValue::StyledStrs(vec![advice.into()]);
        error.insert(ContextKind::Suggested, advice);
    }
    error
}

fn schema() -> anyhow::Result<ExitCode> {
    out(&format!("{:#}\n", config::schema()))?;
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    out(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints an error: the problems of a config in full, anything else with its causes on one line.
fn report(error: &anyhow::Error) {
    if let Some(LoadError::Invalid(report)) = error.downcast_ref::<LoadError>() {
        say_all(&report.render(colours(&io::stderr())));
        let file = report.files.first().map(|file| file.display().to_string());
        let file = file.unwrap_or_default();
        say!("\n{file}: invalid ({})", report.counted());
    } else {
        say!("weir: {error:#}");
    }
}

/// What a running weir would not do.
fn refused(reason: &str) -> ExitCode {
    say!("refused: {reason}");
    ExitCode::from(1)
}

/// Writes data to stdout. Whoever reads it may have seen enough: that is no failure.
fn out(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// Writes a message to stderr. What is said to nobody is no failure either; `eprintln!` would panic.
fn say_all(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether to use colours: on a terminal, unless told otherwise (no-color.org).
fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
