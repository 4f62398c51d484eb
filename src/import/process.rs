//! What nginx says of itself as a whole -> `[process]`, `[log]`, `[admin]`.

use super::context::{Context, Made};
use super::listeners::{Listener, admin_port};
use super::syntax::Directive;
use super::toml::Table;
use super::values::{duration, time};

/// The tables that something is said in.
pub(super) fn tables(
    context: &Context<'_>,
    main: &[Directive],
    http: &[Directive],
    listeners: &[Listener],
) -> Vec<Made> {
    let mut made = vec![
        ("process", process(context, main, http)),
        ("log", log(context, http)),
        ("admin", admin(listeners)),
    ];
    made.retain(|(_, table)| !table.keys.is_empty());
    let tables = made.into_iter().map(|(name, table)| Made {
        name: name.to_owned(),
        comments: Vec::new(),
        table,
    });
    tables.collect()
}

fn process(context: &Context<'_>, main: &[Directive], http: &[Directive]) -> Table {
    let mut table = Table::default();
    for directive in main {
        match directive.name.as_str() {
            "worker_processes" if directive.says("auto") => {
                context.ledger.needless(
                    directive,
                    "weir has one worker for each CPU that it may use",
                );
            }
            "worker_processes" => {
                let number = directive
                    .arg(0)
                    .and_then(|number| number.parse::<u64>().ok());
                match number.filter(|number| (1..=1024).contains(number)) {
                    Some(number) => {
                        table.set_for("workers", number, context.origin(directive));
                        context.ledger.done(directive);
                    }
                    None => context.ledger.left(directive, "weir has 1 to 1024 workers"),
                }
            }
            "worker_shutdown_timeout" => match directive.arg(0).and_then(time).and_then(duration) {
                Some(time) => {
                    table.set_for("drain", time, context.origin(directive));
                    context.ledger.done(directive);
                }
                None => context
                    .ledger
                    .left(directive, "weir has no such value; its default is used"),
            },
            _ => {}
        }
    }
    for directive in http.iter().filter(|directive| directive.name == "resolver") {
        let server = directive.arg(0).filter(|server| is_dns_server(server));
        match server {
            Some(server) => {
                table.set_for("resolver", server, context.origin(directive));
                let why = "it is asked for the names of servers only, and as often as DNS says itself (1s to 5m); a second \
                           one is not asked";
                context.ledger.differs(directive, why);
            }
            None => context.ledger.left(
                directive,
                "weir takes the IP address of a DNS server, or asks those of the system",
            ),
        }
    }
    keep_first(&mut table);
    table
}

fn is_dns_server(text: &str) -> bool {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let socket = text.parse::<std::net::SocketAddr>();
    bare.unwrap_or(text).parse::<std::net::IpAddr>().is_ok()
        || socket.is_ok_and(|socket| socket.port() > 0)
}

/// weir has one access log for all.
fn log(context: &Context<'_>, http: &[Directive]) -> Table {
    let mut table = Table::default();
    let logs: Vec<_> = http
        .iter()
        .filter(|directive| directive.name == "access_log")
        .collect();
    for directive in &logs {
        let path = directive.arg(0).unwrap_or_default();
        let place = match path {
            "off" => "off".to_owned(),
            "/dev/stdout" => "stdout".to_owned(),
            path if path.starts_with("syslog:") => {
                context
                    .ledger
                    .left(directive, "weir writes its access log to stdout or a file");
                continue;
            }
            path => match context.file(path) {
                Some(path) => path,
                None => {
                    context
                        .ledger
                        .left(directive, "weir takes the path of a file");
                    continue;
                }
            },
        };
        if !table.keys.is_empty() {
            context.ledger.left(directive, "weir writes one access log");
            continue;
        }
        let off = place == "off";
        table.set_for("access", place, context.origin(directive));
        if off {
            context.ledger.done(directive);
            continue;
        }
        table.set("access_filter", "all");
        table.set("access_format", "combined");
        let rest = directive.args.iter().skip(1);
        let parameters: Vec<_> = rest
            .filter(|arg| *arg != "combined" && *arg != "main")
            .collect();
        match parameters.is_empty() {
            true => context.ledger.done(directive),
            false => {
                let why = "it is written as `combined`; `access_format = \"json\"` has more, conditions and buffers weir has none";
                context.ledger.differs(directive, why);
            }
        }
    }
    table
}

/// The default of the admin address may be taken by what is imported.
fn admin(listeners: &[Listener]) -> Table {
    let mut table = Table::default();
    if listeners.iter().any(|listener| listener.port == 9900) {
        match admin_port(listeners) {
            Some(port) => table.set_for(
                "address",
                format!("127.0.0.1:{port}"),
                "9900 is taken below",
            ),
            None => table.set("address", "off"),
        }
    }
    table
}

/// nginx refuses most of what is said twice.
fn keep_first(table: &mut Table) {
    let mut seen = std::collections::HashSet::new();
    table.keys.retain(|key| seen.insert(key.name().to_owned()));
}
