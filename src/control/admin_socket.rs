//! The sockets of the admin address: opened here, or taken from those who have opened them before.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::inherited::{Claimed, Inherited};
use super::sockets::BindError;
use crate::config::{AdminAddress, ListenAddress};
use crate::listen::bind;

/// A socket that is about to be served.
pub(super) struct Bound {
    pub(super) socket: Socket,
    pub(super) local: Option<SocketAddr>,
    pub(super) name: String,
    pub(super) probes: bool,
    pub(super) file: Option<SocketFile>,
    /// For the process that comes after this one; `None` where systemd passes the socket to that too.
    pub(super) purpose: Option<String>,
}

pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// The file of a unix socket, removed with it; not one that somebody has put in its place.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
    /// Another process serves there.
    anothers: bool,
}

impl SocketFile {
    /// It belongs to another process from now on.
    pub(super) fn leave(&mut self) {
        self.anothers = true;
    }

    /// The process that it belonged to has left it to this one.
    pub(super) fn take(&mut self) {
        self.anothers = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.anothers && self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where the config says, `probes` telling which of the two addresses it is.
pub(super) fn tcp(
    inherited: &Inherited,
    address: ListenAddress,
    probes: bool,
) -> Result<Bound, BindError> {
    let key = if probes {
        "admin.probes"
    } else {
        "admin.address"
    };
    let purpose = format!("{key} {}", address.socket);
    let handed = inherited.claim(&purpose, &AdminAddress::Tcp(address), None);
    bind_tcp(address, probes, purpose, handed)
        .map_err(|source| BindError::new(key, address.socket, source))
}

/// Where the config says.
pub(super) async fn unix(inherited: &Inherited, path: &Path) -> Result<Bound, BindError> {
    let name = format!("unix:{}", path.display());
    let purpose = format!("admin.address {name}");
    let address = AdminAddress::Unix(path.to_owned());
    let bound = match inherited.claim(&purpose, &address, None) {
        Some(handed) => adopt_unix(path, purpose, handed),
        None => bind_unix(path, purpose).await,
    };
    bound.map_err(|source| BindError::new("admin.address", name, source))
}

fn bind_tcp(
    address: ListenAddress,
    probes: bool,
    purpose: String,
    handed: Option<Claimed>,
) -> io::Result<Bound> {
    let by_systemd = handed.as_ref().is_some_and(|handed| handed.by_systemd);
    let (local, sockets) = match handed {
        Some(handed) => bind::adopt(handed.sockets, 1, false)?,
        None => bind::bind(address, 1, false)?,
    };
    let socket = sockets
        .into_iter()
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Bound {
        local: Some(local),
        socket: Socket::Tcp(TcpListener::from_std(socket)?),
        name: local.to_string(),
        probes,
        file: None,
        purpose: (!by_systemd).then_some(purpose),
    })
}

async fn bind_unix(path: &Path, purpose: String) -> io::Result<Bound> {
    // A socket that a process left behind refuses connections; one that answers belongs to somebody.
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    bind_free_unix(path, purpose)
}

/// The file of one that systemd has passed is systemd's; the process before has its own for as long as it serves.
fn adopt_unix(path: &Path, purpose: String, handed: Claimed) -> io::Result<Bound> {
    let by_systemd = handed.by_systemd;
    let mut sockets = handed.sockets.into_iter();
    let socket = sockets.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    socket.set_nonblocking(true)?;
    let mut adopted = bound(path, UnixListener::from_std(socket.into())?, inode(path));
    if let Some(file) = &mut adopted.file {
        file.leave();
    }
    Ok(Bound {
        purpose: (!by_systemd).then_some(purpose),
        ..adopted
    })
}

fn bound(path: &Path, socket: UnixListener, inode: Option<u64>) -> Bound {
    Bound {
        socket: Socket::Unix(socket),
        local: None,
        name: format!("unix:{}", path.display()),
        probes: false,
        file: Some(SocketFile {
            path: path.to_owned(),
            inode,
            anothers: false,
        }),
        purpose: None,
    }
}

fn bind_free_unix(path: &Path, purpose: String) -> io::Result<Bound> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let opened = bound(path, UnixListener::bind(path)?, inode(path));
    // Without a token, whoever may open it may do everything.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(Bound {
        purpose: Some(purpose),
        ..opened
    })
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path)
        .ok()
        .map(|found| found.ino())
}
