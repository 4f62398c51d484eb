//! Listening sockets: one per worker and address, sharing the port by SO_REUSEPORT.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::ListenAddress;

/// Connections that may wait to be accepted, per worker. The kernel's `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to one address. Port 0 is resolved once, for all of them. With `beside_own`, sockets of this
/// process may have the port at an overlapping address, for as long as a reload takes.
pub(crate) fn bind(
    address: ListenAddress,
    count: usize,
    beside_own: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let alone = !beside_own;
    let first = match bind_one(address.socket, address.any, alone) {
        Err(error) if address.any && is_without_ipv6(&error) => bind_one(
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.socket.port())),
            false,
            alone,
        )?,
        result => result?,
    };
    let local = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind_one(local, address.any && local.is_ipv6(), false)?);
    }
    Ok((local, sockets))
}

fn bind_one(address: SocketAddr, dual_stack: bool, alone: bool) -> io::Result<TcpListener> {
    if alone && address.port() != 0 {
        // Without SO_REUSEPORT the kernel says if somebody else listens there; with it, two would share the port unnoticed.
        socket(address, dual_stack, false)?.listen(1)?;
    }
    let socket = socket(address, dual_stack, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, dual_stack: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    // Accepted sockets inherit both, which saves two system calls for each connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(std::time::Duration::from_secs(60)))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether the machine has no IPv6.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port(socket: &str, any: bool) -> ListenAddress {
        ListenAddress {
            socket: socket.parse().unwrap(),
            any,
        }
    }

    #[test]
    fn port_0_becomes_one_port_for_all_sockets() {
        let (local, sockets) = bind(any_port("127.0.0.1:0", false), 3, false).unwrap();
        assert_ne!(local.port(), 0);
        assert!(
            sockets
                .iter()
                .all(|socket| socket.local_addr().unwrap() == local)
        );
    }

    #[test]
    fn an_address_that_is_taken_is_an_error_even_if_its_owner_would_share() {
        let (local, _sockets) = bind(any_port("127.0.0.1:0", false), 1, false).unwrap();
        let error = bind(
            ListenAddress {
                socket: local,
                any: false,
            },
            1,
            false,
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_alone_listens_on_ipv4_too() {
        let (local, _sockets) = bind(any_port("[::]:0", true), 2, false).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, local.port())).unwrap();
    }
}
