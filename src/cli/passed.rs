//! The sockets that systemd passes to the program (sd_listen_fds(3)).

use anyhow::{Context, bail};
use listenfd::ListenFd;
use socket2::Socket;

use crate::control::inherited::{Handed, Origin};

/// More would be a mistake: each is opened by hand in a unit.
const MAX_SOCKETS: usize = 1000;

/// Takes them. To be called while the process has but one thread: the environment is cleared of them.
pub(super) fn by_systemd() -> anyhow::Result<Vec<Handed>> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let announced = variable("LISTEN_FDS");
    if announced.is_empty() {
        return Ok(Vec::new());
    }
    let count: usize = announced.parse().context("LISTEN_FDS is no number")?;
    if count > MAX_SOCKETS {
        bail!("LISTEN_FDS says {count}; weir takes {MAX_SOCKETS} sockets at most");
    }
    let names = names(&variable("LISTEN_FDNAMES"), count);
    let mut passed = ListenFd::from_env();
    // None where they are for another process.
    let taken = names.into_iter().take(passed.len()).enumerate();
    taken
        .map(|(number, name)| {
            let socket = socket(&mut passed, number)
                .with_context(|| format!("what systemd passes as `{name}` is of no use"))?;
            Ok(Handed {
                origin: Origin::Systemd(name),
                socket,
            })
        })
        .collect()
}

/// One name for each; without any, they are all called as systemd would.
fn names(told: &str, count: usize) -> Vec<String> {
    let names: Vec<_> = told.split(':').map(str::to_owned).collect();
    if names.len() == count && !told.is_empty() {
        names
    } else {
        vec!["unknown".to_owned(); count]
    }
}

fn socket(passed: &mut ListenFd, number: usize) -> anyhow::Result<Socket> {
    if let Ok(Some(socket)) = passed.take_tcp_listener(number) {
        return Ok(socket.into());
    }
    let unix = passed
        .take_unix_listener(number)
        .context("it is neither a TCP socket nor a unix stream socket")?;
    Ok(unix.context("it was passed twice")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_name() {
        assert_eq!(names("web:admin", 2), ["web", "admin"]);
        assert_eq!(names("web::admin", 3), ["web", "", "admin"]);
        assert_eq!(names("", 2), ["unknown", "unknown"]);
        assert_eq!(names("", 1), ["unknown"]);
        assert_eq!(names("web:admin", 3), ["unknown"; 3]);
    }
}
