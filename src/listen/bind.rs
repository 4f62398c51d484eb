//! Listening sockets: one per worker and address, sharing the port by SO_REUSEPORT. Or those that somebody else has opened.

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

/// Makes sockets that somebody else has opened, all at one address, serve `count` workers. All of them are used, also where
/// they are more: what waits in one that nobody accepts on would be lost. Where they are fewer, `more` of them share their
/// port; where there are to be no more, or it is not to be shared (systemd's usual case), several workers accept on the same
/// socket. Another process that serves by them wants no more: what came into those would wait for this one, and be lost
/// with it.
pub(crate) fn adopt(
    handed: Vec<Socket>,
    count: usize,
    more: bool,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = handed.first().ok_or(io::ErrorKind::NotFound)?;
    let local = address_of(first).ok_or(io::ErrorKind::InvalidInput)?;
    let dual_stack = is_dual_stack(first);
    for socket in &handed {
        socket.set_nonblocking(true)?;
        for_accepted(socket)?;
        // Who opened it may have thought of less traffic.
        socket.listen(BACKLOG)?;
    }
    let shares = more && handed.iter().all(shares_port);
    let mut sockets = Vec::new();
    for number in handed.len()..count {
        let beside = shares.then(|| bind_beside(local, dual_stack).ok());
        sockets.push(match beside.flatten() {
            Some(socket) => socket,
            None => handed[number % handed.len()].try_clone()?.into(),
        });
    }
    let handed = handed.into_iter().map(TcpListener::from);
    Ok((local, handed.chain(sockets).collect()))
}

/// Whether others may listen at the address of that socket, beside it.
pub(crate) fn shares_port(socket: &Socket) -> bool {
    socket.reuse_port().unwrap_or(false)
}

/// One more socket where others share their port already.
pub(crate) fn bind_beside(local: SocketAddr, dual_stack: bool) -> io::Result<TcpListener> {
    bind_one(local, dual_stack, false)
}

/// Where a TCP socket listens; `None` if it is none.
pub(crate) fn address_of(socket: &Socket) -> Option<SocketAddr> {
    let listens = socket.r#type().ok()? == Type::STREAM && socket.is_listener().ok()?;
    socket.local_addr().ok()?.as_socket().filter(|_| listens)
}

/// Whether a socket is for IPv4 and IPv6 both.
pub(crate) fn is_dual_stack(socket: &Socket) -> bool {
    socket.domain().is_ok_and(|domain| domain == Domain::IPV6) && !socket.only_v6().unwrap_or(true)
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
    for_accepted(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What accepted sockets inherit, which saves two system calls for each connection.
fn for_accepted(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(std::time::Duration::from_secs(60)))
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

    fn handed(count: usize, shared: bool) -> Vec<Socket> {
        let first = socket("127.0.0.1:0".parse().unwrap(), false, shared).unwrap();
        let local = address_of_any(&first);
        let others = (1..count).map(|_| socket(local, false, shared).unwrap());
        let all: Vec<_> = std::iter::once(first).chain(others).collect();
        for socket in &all {
            socket.listen(1).unwrap();
        }
        all
    }

    fn address_of_any(socket: &Socket) -> SocketAddr {
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    /// Connects `count` times; returns how many of them each socket has accepted.
    fn accepted(local: SocketAddr, sockets: &[TcpListener], count: usize) -> Vec<usize> {
        let _held: Vec<_> = (0..count)
            .map(|_| std::net::TcpStream::connect(local).unwrap())
            .collect();
        let accept = |socket: &TcpListener| std::iter::from_fn(|| socket.accept().ok()).count();
        sockets.iter().map(accept).collect()
    }

    #[test]
    fn all_sockets_that_are_handed_over_are_used_even_if_they_are_too_many() {
        let (local, sockets) = adopt(handed(3, true), 2, true).unwrap();
        assert_eq!(sockets.len(), 3);
        let accepted = accepted(local, &sockets, 90);
        assert_eq!(accepted.iter().sum::<usize>(), 90, "{accepted:?}");
        assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
    }

    #[test]
    fn sockets_that_share_their_port_get_others_beside_them() {
        let (local, sockets) = adopt(handed(1, true), 3, true).unwrap();
        assert_eq!(sockets.len(), 3);
        let accepted = accepted(local, &sockets, 90);
        assert_eq!(accepted.iter().sum::<usize>(), 90, "{accepted:?}");
        assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
    }

    #[test]
    fn sockets_that_another_process_serves_by_get_none_beside_them() {
        let handed = handed(1, true);
        let theirs: TcpListener = handed[0].try_clone().unwrap().into();
        let (local, sockets) = adopt(handed, 3, false).unwrap();
        assert_eq!(sockets.len(), 3);
        // Nothing of what comes is anywhere else than where that one looks for it.
        assert_eq!(accepted(local, &[theirs], 90), [90]);
    }

    #[test]
    fn one_socket_that_does_not_share_its_port_serves_all() {
        let (local, sockets) = adopt(handed(1, false), 3, true).unwrap();
        assert_eq!(sockets.len(), 3);
        // One queue: who asks first gets all of it.
        assert_eq!(accepted(local, &sockets, 20), [20, 0, 0]);
        assert_eq!(accepted(local, &sockets[2..], 20), [20]);
    }

    #[test]
    fn what_is_no_listening_socket_has_no_address() {
        let address = "127.0.0.1:0".parse().unwrap();
        assert_eq!(address_of(&socket(address, false, false).unwrap()), None);
        let unix = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        assert_eq!(address_of(&unix), None);
    }

    #[test]
    fn a_port_alone_listens_on_ipv4_too() {
        let (local, _sockets) = bind(any_port("[::]:0", true), 2, false).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, local.port())).unwrap();
    }
}
