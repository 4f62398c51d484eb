//! Opening connections to servers.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::http1::Connection;
use super::stream::Stream;
use super::tls::{HandshakeError, Protocol, ServerTls};
use crate::deadline::{Deadlines, Ticks};
use crate::units::ServerAddr;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connection refused")]
    Refused,
    #[error("no connection within the time allowed")]
    TimedOut,
    #[error("the connection failed")]
    Failed(#[source] io::Error),
    #[error("TLS failed")]
    Tls(#[from] HandshakeError),
}

/// Opens a connection within `limit`, TLS included.
pub(crate) async fn connect(
    server: &ServerAddr,
    tls: Option<&ServerTls>,
    deadlines: &Rc<Deadlines>,
    limit: Ticks,
) -> Result<Box<Connection>, ConnectError> {
    let deadline = deadlines.deadline();
    deadline.arm(limit);
    let stream = {
        let mut connecting = std::pin::pin!(open(server, tls));
        std::future::poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(result) = connecting.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            deadline
                .poll_over(context)
                .map(|()| Err(ConnectError::TimedOut))
        })
        .await?
    };
    deadline.disarm();
    Ok(Box::new(Connection::new(stream, deadline, deadlines.now())))
}

async fn open(server: &ServerAddr, tls: Option<&ServerTls>) -> Result<Stream, ConnectError> {
    let socket = Stream::connect(server).await.map_err(failure)?;
    match tls {
        None => Ok(socket),
        Some(tls) => Ok(tls.secure(socket, None, Protocol::Http1).await?),
    }
}

fn failure(error: io::Error) -> ConnectError {
    match error.kind() {
        // Nobody listens on that port, or has made a socket of that name.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::TimedOut,
        _ => ConnectError::Failed(error),
    }
}
