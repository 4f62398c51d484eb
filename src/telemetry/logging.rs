//! The diagnostic log: what weir says about itself, on stderr. Everything else only emits `tracing` events and works
//! as well where nobody listens, as in tests.

use std::env;
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// Changes the log while it runs.
#[derive(Clone, Debug)]
pub(crate) struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
}

impl LogHandle {
    pub(crate) fn set_level(&self, level: LogLevel) {
        // Fails only when the subscriber is gone: then there is no log whose level could matter.
        let _ = self.filter.reload(filter(level));
    }
}

/// Begins to log to stderr. To be called once, by the program and not by a library's user: where a subscriber is
/// already installed, that one stays and the handle has no effect.
///
/// The format stays what it was at the start; the level follows the config.
pub(crate) fn init(log: &Log) -> LogHandle {
    let (subscriber, handle) = subscriber(log);
    let _ = subscriber.try_init();
    handle
}

fn subscriber(log: &Log) -> (impl Subscriber + Send + Sync + use<>, LogHandle) {
    let terminal = io::stderr().is_terminal();
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let lines = match log.format {
        LogFormat::Json => json(),
        LogFormat::Auto if !terminal => json(),
        LogFormat::Auto | LogFormat::Text => text(terminal && !no_color()),
    };
    (
        tracing_subscriber::registry().with(filter).with(lines),
        LogHandle { filter: handle },
    )
}

type Lines<S> = Box<dyn Layer<S> + Send + Sync>;

fn text<S: Subscriber + for<'a> LookupSpan<'a>>(colours: bool) -> Lines<S> {
    fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .boxed()
}

fn json<S: Subscriber + for<'a> LookupSpan<'a>>() -> Lines<S> {
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(io::stderr)
        .boxed()
}

/// The level is that of weir's own events. The libraries below speak of single connections and frames: nobody who asks
/// for weir's `debug` wants theirs.
fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target("weir", own)
        // What a client does to its connection is no operator's business: a flood of resets would be one of lines.
        .with_target("h2", LevelFilter::OFF)
        // That a watch ended with its file is no news; what cannot be watched is told by whoever asks for it.
        .with_target("notify", own.min(LevelFilter::ERROR))
}

/// <https://no-color.org>: set and not empty.
fn no_color() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::config::{AccessFilter, AccessFormat, AccessLog};

    #[test]
    fn the_level_is_that_of_our_own_events() {
        let debug = filter(LogLevel::Debug);
        assert!(debug.would_enable("weir::proxy", &Level::DEBUG));
        assert!(!debug.would_enable("weir::proxy", &Level::TRACE));
        assert!(debug.would_enable("rustls::conn", &Level::WARN));
        assert!(!debug.would_enable("rustls::conn", &Level::INFO));
        assert!(!debug.would_enable("notify::inotify", &Level::WARN));
    }

    #[test]
    fn libraries_are_never_louder_than_weir() {
        let error = filter(LogLevel::Error);
        assert!(error.would_enable("weir", &Level::ERROR));
        assert!(!error.would_enable("weir", &Level::WARN));
        assert!(!error.would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn the_level_can_be_changed_while_the_log_runs() {
        let log = Log {
            level: LogLevel::Info,
            format: LogFormat::Auto,
            access: AccessLog::Off,
            access_filter: AccessFilter::All,
            access_format: AccessFormat::Json,
        };
        let (subscriber, handle) = subscriber(&log);
        tracing::subscriber::with_default(subscriber, || {
            let enabled = || tracing::enabled!(target: "weir::proxy", Level::DEBUG);
            assert!(!enabled());
            handle.set_level(LogLevel::Debug);
            assert!(enabled());
            handle.set_level(LogLevel::Error);
            assert!(!enabled());
        });
    }
}
