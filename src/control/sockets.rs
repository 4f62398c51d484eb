//! Which addresses are bound. A socket that stays in the config is never closed by a reload: closing a SO_REUSEPORT socket
//! resets the connections that wait in it.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};

use super::inherited::{Claimed, Inherited};
use crate::config::{AdminAddress, Config, ListenAddress};
use crate::listen::bind::{adopt, bind, bind_beside, is_dual_stack, shares_port};
use crate::listen::worker::SocketId;
use crate::units::ListenName;

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on `{address}`: {hint}")]
pub struct BindError {
    key: String,
    address: String,
    hint: &'static str,
    source: std::io::Error,
}

impl BindError {
    /// `key` is where the config asks for the address.
    pub(super) fn new(
        key: impl Into<String>,
        address: impl ToString,
        source: std::io::Error,
    ) -> Self {
        Self {
            key: key.into(),
            address: address.to_string(),
            hint: hint(&source),
            source,
        }
    }
}

/// What makes a socket the same over a reload: its address, or its place where the port is the kernel's choice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Fixed(ListenAddress),
    Chosen(ListenName, usize),
}

impl Key {
    /// What a process tells its successor that such sockets are for.
    fn purpose(&self) -> String {
        match self {
            Self::Fixed(ListenAddress { socket, any: false }) => format!("listen {socket}"),
            Self::Fixed(ListenAddress { socket, any: true }) => {
                format!("listen :{}", socket.port())
            }
            Self::Chosen(listen, number) => format!("listen {listen} {number}"),
        }
    }
}

struct Bound {
    id: SocketId,
    listen: ListenName,
    local: SocketAddr,
    by_systemd: bool,
    lent: Option<Lent>,
}

/// Of sockets that the process before had: they were fewer than there are workers now, and none could be opened beside them.
#[derive(Clone, Copy)]
struct Lent {
    /// The first worker that has none of its own, as all after it.
    from: usize,
    dual_stack: bool,
}

impl Lent {
    fn of(claimed: &Claimed, workers: usize) -> Option<Self> {
        let sockets = &claimed.sockets;
        // Those of systemd are not handed on, so others beside them would not be either.
        let are_few = claimed.in_use && !claimed.by_systemd && sockets.len() < workers;
        let dual_stack = is_dual_stack(sockets.first()?);
        let from = sockets.len();
        (are_few && sockets.iter().all(shares_port)).then_some(Self { from, dual_stack })
    }
}

/// A socket for a worker that has accepted on another one's.
pub(super) struct Own {
    pub(super) id: SocketId,
    pub(super) listen: ListenName,
    pub(super) worker: usize,
    pub(super) socket: TcpListener,
}

/// The sockets of the process.
#[derive(Default)]
pub(super) struct Sockets {
    bound: HashMap<Key, Bound>,
    next: SocketId,
}

/// What a new config changes: made before it is published, so that a failure changes nothing.
pub(super) struct Change {
    pub(super) opened: Vec<Opened>,
    wanted: Vec<(Key, ListenName)>,
}

/// A socket per worker for one address.
pub(super) struct Opened {
    key: Key,
    listen: ListenName,
    local: SocketAddr,
    sockets: Vec<TcpListener>,
    by_systemd: bool,
    lent: Option<Lent>,
}

/// What the workers are to do once the config is published.
pub(super) enum Step {
    Listen {
        id: SocketId,
        listen: ListenName,
        local: SocketAddr,
        sockets: Vec<TcpListener>,
    },
    Assign {
        id: SocketId,
        listen: ListenName,
    },
    Close {
        id: SocketId,
        local: SocketAddr,
        /// systemd has it open too.
        is_kept: bool,
    },
}

impl Sockets {
    /// Binds what is not bound yet, or takes it from those who have bound it before.
    pub(super) fn prepare(
        &self,
        config: &Config,
        workers: usize,
        inherited: &Inherited,
    ) -> Result<Change, BindError> {
        let wanted = wanted(config);
        let staying: HashSet<_> = wanted.iter().map(|(key, ..)| key).collect();
        let going: HashSet<_> = self
            .bound
            .iter()
            .filter(|(key, _)| !staying.contains(key))
            .map(|(_, bound)| bound.local.port())
            .collect();
        let mut opened = Vec::new();
        for (key, listen, address) in wanted
            .iter()
            .filter(|(key, ..)| !self.bound.contains_key(key))
        {
            // `127.0.0.1:8080` may become `:8080`: the old sockets are closed only after the new ones are open.
            let port = address.socket.port();
            let beside_own = going.contains(&port) || inherited.has_port(port);
            let handed = inherited.claim(
                &key.purpose(),
                &AdminAddress::Tcp(*address),
                only_address(config, listen),
            );
            let by_systemd = handed.as_ref().is_some_and(|handed| handed.by_systemd);
            let lent = handed.as_ref().and_then(|handed| Lent::of(handed, workers));
            let opened_here = match handed {
                Some(handed) => adopt(handed.sockets, workers, !handed.in_use),
                None => bind(*address, workers, beside_own),
            };
            let (local, sockets) = opened_here.map_err(|source| {
                BindError::new(format!("listen.{listen}"), address.socket, source)
            })?;
            opened.push(Opened {
                key: key.clone(),
                listen: listen.clone(),
                local,
                sockets,
                by_systemd,
                lent,
            });
        }
        Ok(Change {
            opened,
            wanted: wanted
                .into_iter()
                .map(|(key, listen, _)| (key, listen))
                .collect(),
        })
    }

    /// Makes the change. The steps open before they close.
    pub(super) fn commit(&mut self, change: Change) -> Vec<Step> {
        let wanted: HashMap<Key, ListenName> = change.wanted.into_iter().collect();
        let mut steps = Vec::new();
        for opened in change.opened {
            let id = self.next;
            self.next += 1;
            steps.push(Step::Listen {
                id,
                listen: opened.listen.clone(),
                local: opened.local,
                sockets: opened.sockets,
            });
            self.bound.insert(
                opened.key,
                Bound {
                    id,
                    listen: opened.listen,
                    local: opened.local,
                    by_systemd: opened.by_systemd,
                    lent: opened.lent,
                },
            );
        }
        self.bound.retain(|key, bound| match wanted.get(key) {
            Some(listen) => {
                if bound.listen != *listen {
                    bound.listen = listen.clone();
                }
                // Also where the name is the same: its number may have changed.
                steps.push(Step::Assign {
                    id: bound.id,
                    listen: listen.clone(),
                });
                true
            }
            None => {
                steps.push(Step::Close {
                    id: bound.id,
                    local: bound.local,
                    is_kept: bound.by_systemd,
                });
                false
            }
        });
        steps
    }

    /// Now that no other process accepts on them: a socket for each worker that has none of its own. Where the system refuses
    /// one, all stays as it is.
    pub(super) fn own(&mut self, workers: usize) -> Vec<Own> {
        let mut own = Vec::new();
        for bound in self.bound.values_mut() {
            let Some(lent) = bound.lent.take() else {
                continue;
            };
            for worker in lent.from..workers {
                match bind_beside(bound.local, lent.dual_stack) {
                    Ok(socket) => own.push(Own {
                        id: bound.id,
                        listen: bound.listen.clone(),
                        worker,
                        socket,
                    }),
                    Err(error) => {
                        tracing::warn!(%error, address = %bound.local, "some workers share a listening socket until a restart");
                        break;
                    }
                }
            }
        }
        own
    }

    /// What the sockets are for, those of systemd left out.
    pub(super) fn purposes(&self) -> HashMap<SocketId, String> {
        let own = self.bound.iter().filter(|(_, bound)| !bound.by_systemd);
        own.map(|(key, bound)| (bound.id, key.purpose())).collect()
    }

    /// Where anything listens.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        self.bound.values().map(|bound| bound.local).collect()
    }

    /// The addresses of a listener, ports resolved.
    pub(super) fn addresses(&self, listen: &str) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self
            .bound
            .values()
            .filter(|bound| bound.listen.as_str() == listen)
            .collect();
        addresses.sort_by_key(|bound| bound.id);
        addresses.into_iter().map(|bound| bound.local).collect()
    }
}

/// Every address of a config, by what makes its socket the same over a reload.
fn wanted(config: &Config) -> Vec<(Key, ListenName, ListenAddress)> {
    let mut wanted = Vec::new();
    for listener in &config.listeners {
        for (number, address) in listener.addresses.iter().enumerate() {
            let key = match address.socket.port() {
                0 => Key::Chosen(listener.name.clone(), number),
                _ => Key::Fixed(*address),
            };
            wanted.push((key, listener.name.clone(), *address));
        }
    }
    wanted
}

/// The name of a listener, if it has one address: the one that systemd's sockets of that name are for.
fn only_address<'l>(config: &Config, listen: &'l ListenName) -> Option<&'l str> {
    let mut listeners = config.listeners.iter();
    let listener = listeners.find(|listener| listener.name == *listen)?;
    (listener.addresses.len() == 1).then(|| listen.as_str())
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process listens there; stop it or choose another port"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege; grant CAP_NET_BIND_SERVICE or choose another port"
        }
        std::io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        _ => "the system refused it",
    }
}
