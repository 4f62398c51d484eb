//! Listening sockets that this process was handed instead of opening them: by the process that it succeeds, or by systemd
//! (socket activation, sd_listen_fds(3)).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::config::{AdminAddress, ListenAddress};
use crate::listen::bind::{address_of, is_dual_stack};

/// Who handed a socket over, and what they call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// The process before this one: what the socket was for.
    Predecessor(String),
    /// systemd: its `FileDescriptorName=`.
    Systemd(String),
}

/// A listening socket that somebody else has opened.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) origin: Origin,
    pub(crate) socket: Socket,
}

/// What of them is still to be had.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    handed: Mutex<Vec<Handed>>,
    /// Another process accepts on them.
    in_use: AtomicBool,
}

/// Sockets that serve one address of the config from now on.
pub(super) struct Claimed {
    pub(super) sockets: Vec<Socket>,
    /// systemd has them too: they outlive the process, and their file is not ours.
    pub(super) by_systemd: bool,
    /// Another process accepts on them, and may go on to do so.
    pub(super) in_use: bool,
}

impl Inherited {
    /// With `in_use`, another process accepts on them until [`take_over`](Self::take_over).
    pub(crate) fn new(handed: Vec<Handed>, in_use: bool) -> Self {
        Self {
            handed: Mutex::new(handed),
            in_use: AtomicBool::new(in_use),
        }
    }

    /// The process before accepts no more.
    pub(crate) fn take_over(&self) {
        self.in_use.store(false, Ordering::Relaxed);
    }

    /// The sockets for an address: those that the process before had for the same `purpose`, else those that are bound to
    /// it, else those that systemd calls `name`.
    pub(super) fn claim(
        &self,
        purpose: &str,
        address: &AdminAddress,
        name: Option<&str>,
    ) -> Option<Claimed> {
        let mut handed = self.lock();
        let wanted: [&dyn Fn(&Handed) -> bool; 4] = [
            &|handed| handed.origin == Origin::Predecessor(purpose.to_owned()),
            &|handed| !handed.is_systemds() && serves(&handed.socket, address),
            &|handed| handed.is_systemds() && serves(&handed.socket, address),
            &|handed| {
                let called = name.map(|name| Origin::Systemd(name.to_owned()));
                let is_tcp = address_of(&handed.socket).is_some();
                is_tcp && called.is_some_and(|called| handed.origin == called)
            },
        ];
        let wanted = wanted
            .into_iter()
            .find(|wanted| handed.iter().any(wanted))?;
        let first = handed.iter().find(|handed| wanted(handed))?;
        let (by_systemd, local) = (first.is_systemds(), address_of(&first.socket));
        // systemd may call sockets of several addresses the same.
        let wanted = |handed: &Handed| wanted(handed) && address_of(&handed.socket) == local;
        let sockets = if by_systemd {
            // They are kept: systemd never closes them, so the address cannot be bound, should it go and come again.
            let kept = handed.iter().filter(|handed| wanted(handed));
            kept.filter_map(|handed| handed.socket.try_clone().ok())
                .collect()
        } else {
            let taken = handed.extract_if(.., |handed| wanted(handed));
            taken.map(|handed| handed.socket).collect()
        };
        Some(Claimed {
            sockets,
            by_systemd,
            in_use: self.in_use.load(Ordering::Relaxed),
        })
    }

    /// Whether the process before has sockets at a port, which are closed only after others are open.
    pub(super) fn has_port(&self, port: u16) -> bool {
        let at_port = |handed: &Handed| {
            !handed.is_systemds() && address_of(&handed.socket).is_some_and(|at| at.port() == port)
        };
        self.lock().iter().any(at_port)
    }

    /// The first config has taken what it wants: what else the process before had is closed here. Returns what that was,
    /// for the one that has to serve what waits in it.
    pub(crate) fn settle(&self) -> Vec<String> {
        let mut left = Vec::new();
        self.lock().retain(|handed| match &handed.origin {
            Origin::Predecessor(purpose) => {
                tracing::warn!(%purpose, "no longer listening: the process before had a socket that the config does not ask for");
                left.push(purpose.clone());
                false
            }
            Origin::Systemd(_) => true,
        });
        left.dedup();
        left
    }

    /// Says which sockets of systemd the config does not ask for: connections to them wait in vain.
    pub(crate) fn warn_of_unused(&self, used: &[SocketAddr]) {
        for handed in &*self.lock() {
            let local = address_of(&handed.socket);
            if let (Origin::Systemd(name), Some(local)) = (&handed.origin, local)
                && !used.contains(&local)
            {
                tracing::warn!(address = %local, %name, "systemd has passed a socket that the config does not ask for; nobody accepts on it");
            }
        }
    }

    /// Those that the next process is to have too.
    pub(super) fn kept(&self) -> std::io::Result<Vec<Handed>> {
        let handed = self.lock();
        let kept = handed.iter().filter(|handed| handed.is_systemds());
        kept.map(|handed| {
            Ok(Handed {
                origin: handed.origin.clone(),
                socket: handed.socket.try_clone()?,
            })
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Handed>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handed {
    /// What the successor of this process is to use for that.
    pub(super) fn before(purpose: String, socket: OwnedFd) -> Self {
        Self {
            origin: Origin::Predecessor(purpose),
            socket: socket.into(),
        }
    }

    fn is_systemds(&self) -> bool {
        matches!(self.origin, Origin::Systemd(_))
    }
}

/// Whether a socket listens where the config says.
fn serves(socket: &Socket, address: &AdminAddress) -> bool {
    match address {
        AdminAddress::Tcp(address) => serves_tcp(socket, *address),
        AdminAddress::Unix(path) => listens_at(socket, path),
    }
}

fn serves_tcp(socket: &Socket, address: ListenAddress) -> bool {
    let Some(local) = address_of(socket) else {
        return false;
    };
    if address.any {
        // Where there is no IPv6, IPv4 alone.
        let all = is_dual_stack(socket) || local.is_ipv4();
        return local.port() == address.socket.port() && local.ip().is_unspecified() && all;
    }
    local == address.socket && !is_dual_stack(socket)
}

fn listens_at(socket: &Socket, path: &Path) -> bool {
    let local = socket.local_addr().ok();
    local.is_some_and(|local| local.as_pathname() == Some(path))
        && socket.is_listener().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn listening(origin: Origin, at: &str) -> Handed {
        Handed {
            origin,
            socket: TcpListener::bind(at).unwrap().into(),
        }
    }

    fn before(purpose: &str) -> Origin {
        Origin::Predecessor(purpose.to_owned())
    }

    fn systemd(name: &str) -> Origin {
        Origin::Systemd(name.to_owned())
    }

    fn local(handed: &Handed) -> SocketAddr {
        address_of(&handed.socket).unwrap()
    }

    fn at(socket: SocketAddr) -> AdminAddress {
        AdminAddress::Tcp(ListenAddress { socket, any: false })
    }

    fn nowhere() -> AdminAddress {
        at("127.0.0.9:1".parse().unwrap())
    }

    #[test]
    fn what_the_process_before_had_is_taken_by_purpose_and_once() {
        let inherited = Inherited::new(
            vec![
                listening(before("a"), "127.0.0.1:0"),
                listening(before("b"), "127.0.0.1:0"),
                listening(before("c"), "127.0.0.1:0"),
            ],
            true,
        );
        let claimed = inherited.claim("a", &nowhere(), None).unwrap();
        assert!(!claimed.by_systemd && claimed.in_use);
        assert_eq!(claimed.sockets.len(), 1);
        assert!(inherited.claim("a", &nowhere(), None).is_none());
        inherited.take_over();
        let claimed = inherited.claim("c", &nowhere(), None).unwrap();
        assert!(!claimed.in_use);
        assert_eq!(inherited.settle(), ["b"]);
        assert!(inherited.claim("b", &nowhere(), None).is_none());
    }

    #[test]
    fn a_socket_is_taken_by_its_address_whatever_it_was_for() {
        for origin in [before("admin"), systemd("unknown")] {
            let handed = listening(origin, "127.0.0.1:0");
            let address = at(local(&handed));
            let inherited = Inherited::new(vec![handed], true);
            assert!(inherited.claim("listen", &nowhere(), None).is_none());
            assert!(inherited.claim("listen", &address, None).is_some());
        }
    }

    #[test]
    fn those_of_systemd_are_taken_by_name_and_can_be_taken_again() {
        let web = listening(systemd("web"), "127.0.0.1:0");
        let inherited = Inherited::new(
            vec![
                web,
                listening(systemd("web"), "127.0.0.1:0"),
                listening(systemd("other"), "127.0.0.1:0"),
            ],
            false,
        );
        for _ in 0..2 {
            let claimed = inherited.claim("", &nowhere(), Some("web")).unwrap();
            assert_eq!(claimed.sockets.len(), 1, "one address");
            assert!(claimed.by_systemd && !claimed.in_use);
        }
        assert!(inherited.claim("", &nowhere(), Some("none")).is_none());
        assert!(inherited.settle().is_empty());
        assert_eq!(inherited.kept().unwrap().len(), 3);
    }

    #[test]
    fn one_of_ipv6_alone_does_not_serve_a_port_alone() {
        let dual = listening(before("x"), "[::]:0");
        let any = |port| {
            AdminAddress::Tcp(ListenAddress {
                socket: SocketAddr::from(([0_u16; 8], port)),
                any: true,
            })
        };
        let port = local(&dual).port();
        assert!(serves(&dual.socket, &any(port)));
        assert!(!serves(&dual.socket, &at(local(&dual))));
        let alone = Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        alone.set_only_v6(true).unwrap();
        let free: SocketAddr = "[::]:0".parse().unwrap();
        alone.bind(&free.into()).unwrap();
        alone.listen(1).unwrap();
        let bound = address_of(&alone).unwrap();
        assert!(!serves(&alone, &any(bound.port())));
        assert!(serves(&alone, &at(bound)));
    }

    #[test]
    fn a_unix_socket_is_known_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.sock");
        let socket: Socket = std::os::unix::net::UnixListener::bind(&path)
            .unwrap()
            .into();
        assert!(serves(&socket, &AdminAddress::Unix(path)));
        let other = AdminAddress::Unix(folder.path().join("other.sock"));
        assert!(!serves(&socket, &other));
    }
}
