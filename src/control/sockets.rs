//! Which addresses are bound. A socket that stays in the config is never closed by a reload: closing a SO_REUSEPORT socket
//! resets the connections that wait in it.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};

use crate::config::{Config, ListenAddress};
use crate::listen::bind::bind;
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

struct Bound {
    id: SocketId,
    listen: ListenName,
    local: SocketAddr,
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
    },
}

impl Sockets {
    /// Binds what is not bound yet.
    pub(super) fn prepare(&self, config: &Config, workers: usize) -> Result<Change, BindError> {
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
            let beside_own = going.contains(&address.socket.port());
            let (local, sockets) = bind(*address, workers, beside_own).map_err(|source| {
                BindError::new(format!("listen.{listen}"), address.socket, source)
            })?;
            opened.push(Opened {
                key: key.clone(),
                listen: listen.clone(),
                local,
                sockets,
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
                });
                false
            }
        });
        steps
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
