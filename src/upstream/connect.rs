//! Opening connections to servers.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::http1::Connection;
use super::stream::Stream;
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
}

/// Opens a connection within `limit`.
pub(crate) async fn connect(
    server: &ServerAddr,
    deadlines: &Rc<Deadlines>,
    limit: Ticks,
) -> Result<Box<Connection>, ConnectError> {
    let deadline = deadlines.deadline();
    deadline.arm(limit);
    let stream = {
        let mut connecting = std::pin::pin!(Stream::connect(server));
        std::future::poll_fn(|context: &mut Context<'_>| {
            if let Poll::Ready(result) = connecting.as_mut().poll(context) {
                return Poll::Ready(result.map_err(failure));
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

fn failure(error: io::Error) -> ConnectError {
    match error.kind() {
        // Nobody listens on that port, or has made a socket of that name.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::TimedOut,
        _ => ConnectError::Failed(error),
    }
}
