//! `[process]`, `[admin]` and `[log]`.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::addresses;
use super::check::Context;
use super::is_loopback;
use super::peers;
use super::secrets::secret;
use super::value::{Value, off, plain};
use super::values::{choice, duration, duration_or_off, integer, or_auto, or_off, string};
use super::warnings;
use super::{
    AccessFilter, AccessFormat, AccessLog, Admin, AdminAddress, ListenAddress, Log, LogFormat,
    LogLevel, Process,
};

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: None,
            drain: Duration::from_secs(25),
            shutdown_delay: None,
            state: None,
            resolver: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        let socket = ([127, 0, 0, 1], 9900).into();
        let address = AdminAddress::Tcp(ListenAddress { socket, any: false });
        Self {
            address: Some(address),
            probes: None,
            token: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Auto,
            access: AccessLog::Stdout,
            access_filter: AccessFilter::Errors,
            access_format: AccessFormat::Json,
        }
    }
}

pub(super) fn process(value: &Value<'_>) -> Option<Process> {
    let defaults = Process::default();
    value.table(|table| {
        table.elsewhere(peers::PROCESS);
        table.not_yet("user", off::word);
        let workers = |value: &Value<'_>| integer::<i64>(value, 1..=1024);
        let workers = table.or("workers", None, |value| or_auto(value, workers));
        Some(Process {
            workers: workers
                .and_then(|workers| usize::try_from(workers).ok())
                .and_then(|workers| workers.try_into().ok()),
            drain: table.or("drain", defaults.drain, duration),
            shutdown_delay: table.or("shutdown_delay", defaults.shutdown_delay, duration_or_off),
            state: table.or("state", defaults.state, |value| or_off(value, folder)),
            resolver: table.or("resolver", defaults.resolver, resolver),
        })
    })
}

fn folder(value: &Value<'_>) -> Option<PathBuf> {
    let path = string(value, "a folder or `\"off\"`")?;
    if path.is_empty() || path.contains('\0') {
        value.invalid("not the path of a folder");
        return None;
    }
    Some(path.into())
}

fn resolver(value: &Value<'_>) -> Option<Option<SocketAddr>> {
    match string(value, "`\"system\"` or the address of a DNS server")? {
        "system" => Some(None),
        _ => addresses::dns_server(value).map(Some),
    }
}

pub(super) fn admin<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<Admin> {
    let defaults = Admin::default();
    value.table(|table| {
        table.elsewhere(peers::ADMIN);
        let address = table.or("address", defaults.address, |value| {
            or_off(value, admin_address)
        });
        let probes = table.or("probes", defaults.probes, |value| {
            or_off(value, addresses::listen)
        });
        let written = table.get("token");
        let token = written.as_ref().and_then(|value| token(value, context));
        if let (Some(value), Some(AdminAddress::Tcp(listen))) = (table.get("address"), &address)
            && !is_loopback(listen.socket.ip())
            && written.as_ref().is_none_or(|value| off::word(value.inner))
        {
            let message = "an address that others can reach needs a `token`";
            let port = plain(&listen.socket.port().to_string());
            let help = format!("set `token`, or listen on `127.0.0.1:{port}`");
            value.problem("missing-key", message, Some(help));
        }
        for (key, address) in [("address", tcp(address.as_ref())), ("probes", probes)] {
            if let (Some(value), Some(address)) = (table.get(key), address) {
                context.bound.borrow_mut().push((address, value));
            }
        }
        Some(Admin {
            address,
            probes,
            token,
        })
    })
}

fn tcp(address: Option<&AdminAddress>) -> Option<ListenAddress> {
    match address {
        Some(AdminAddress::Tcp(address)) => Some(*address),
        Some(AdminAddress::Unix(_)) | None => None,
    }
}

fn admin_address(value: &Value<'_>) -> Option<AdminAddress> {
    let Some(path) = value
        .inner
        .as_str()
        .and_then(|text| text.strip_prefix("unix:"))
    else {
        return addresses::listen(value).map(AdminAddress::Tcp);
    };
    if !addresses::is_socket_path(path) {
        value.invalid_but(
            "not the path of a socket",
            "write it as `unix:/run/weir.sock`, at most 107 bytes",
        );
        return None;
    }
    Some(AdminAddress::Unix(PathBuf::from(path)))
}

/// No message repeats it, but where it is the name of a variable.
fn token<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<String> {
    let token = or_off(value, |value| secret(value, context)).flatten()?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "a token is one or more visible ASCII characters without spaces";
        value.invalid(message);
        return None;
    }
    warnings::token(value);
    Some(token)
}

pub(super) fn log<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<Log> {
    let defaults = Log::default();
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
    ];
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
    ];
    let filters = [("errors", AccessFilter::Errors), ("all", AccessFilter::All)];
    let access_formats = [
        ("json", AccessFormat::Json),
        ("combined", AccessFormat::Combined),
    ];
    value.table(|table| {
        table.elsewhere(peers::LOG);
        Some(Log {
            level: table.or("level", defaults.level, |value| choice(value, &levels, &[])),
            format: table.or("format", defaults.format, |value| {
                choice(value, &formats, &[])
            }),
            access: table.or("access", defaults.access, |value| access(value, context)),
            access_filter: table.or("access_filter", defaults.access_filter, |value| {
                choice(value, &filters, &[])
            }),
            access_format: table.or("access_format", defaults.access_format, |value| {
                choice(value, &access_formats, &[])
            }),
        })
    })
}

fn access<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<AccessLog> {
    match string(value, "`\"stdout\"`, `\"off\"` or a file")? {
        "off" => Some(AccessLog::Off),
        "stdout" => Some(AccessLog::Stdout),
        path if path.is_empty() || path.contains('\0') => {
            value.invalid("not the path of a file");
            None
        }
        path => {
            // What ran before runs again whatever has become of its folder since.
            if !context.files.are_kept() {
                can_be_opened(value, Path::new(path));
            }
            Some(AccessLog::File(path.into()))
        }
    }
}

/// Complains about the path of a log file that nobody could open. Nothing is made for that, and nothing said of rights: who
/// checks a file need not be the user that runs by it.
fn can_be_opened(value: &Value<'_>, path: &Path) {
    if path.is_dir() {
        let message = format!("`{}` is a folder", plain(&path.to_string_lossy()));
        let help = "write the path of a file in it".to_owned();
        return value.problem(LOG_FILE, message, Some(help));
    }
    let Some(folder) = path.parent().filter(|path| !path.as_os_str().is_empty()) else {
        return;
    };
    let shown = plain(&folder.to_string_lossy());
    let message = match folder.metadata() {
        Ok(found) if found.is_dir() => return,
        Ok(_) => format!("`{shown}` is not a folder"),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            format!("the folder `{shown}` does not exist")
        }
        Err(_) => return,
    };
    let help = "make it: weir makes the file, not its folder".to_owned();
    if path.is_absolute() {
        value.problem(LOG_FILE, message, Some(help));
    } else {
        // weir may be started in another working directory.
        let message = format!("{message} in the working directory");
        value.warn(LOG_FILE, message, Some(help));
    }
}

/// What is wrong with it depends on the machine.
const LOG_FILE: &str = "log-file";
