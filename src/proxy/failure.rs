//! How one attempt went wrong: what it says of the server, and what becomes of it where it was the last.

use super::error::ProxyError;
use super::local::LocalServer;
use super::running::Running;
use crate::telemetry::labels::Outcome;
use crate::upstream::connect::ConnectError;
use crate::upstream::ejection::Cause;
use crate::upstream::http1::ExchangeError;
use crate::upstream::tls::Fault;

/// How one attempt went wrong.
pub(super) enum Failure {
    Connect(ConnectError),
    /// Not a byte could be sent on a connection from the pool.
    Unsent,
    Exchange(ExchangeError),
}

impl Failure {
    /// How it is counted, and what it says of the server.
    pub(super) fn verdict(&self, running: &Running) -> (Outcome, Option<Cause>) {
        match self {
            Self::Connect(ConnectError::Refused) => (Outcome::ConnectFailed, Some(Cause::Refused)),
            Self::Connect(ConnectError::TimedOut) => {
                (Outcome::Timeout, Some(Cause::ConnectTimedOut))
            }
            Self::Connect(ConnectError::Failed(_)) => {
                (Outcome::ConnectFailed, Some(Cause::ConnectFailed))
            }
            Self::Connect(ConnectError::Tls(error)) => {
                (Outcome::ConnectFailed, Some(Cause::Tls(error.fault())))
            }
            // It was closed while it was idle, as servers do.
            Self::Unsent => (Outcome::Reset, None),
            Self::Exchange(error) => match error {
                ExchangeError::Refused(alert) => (
                    Outcome::ConnectFailed,
                    Some(Cause::Tls(Fault::Alert(*alert))),
                ),
                ExchangeError::Closed(_) | ExchangeError::Incomplete(_) => {
                    (Outcome::Reset, Some(Cause::Reset))
                }
                ExchangeError::Head(_) | ExchangeError::Informational => {
                    (Outcome::Protocol, Some(Cause::Protocol))
                }
                ExchangeError::ResponseTimeout | ExchangeError::WriteTimeout => {
                    (Outcome::Timeout, Some(Cause::TimedOut))
                }
                ExchangeError::RouteTimeout if running.is_leaving() => (Outcome::Canceled, None),
                ExchangeError::RouteTimeout => (Outcome::Timeout, None),
                ExchangeError::ClientBody(_)
                | ExchangeError::ClientStalled
                | ExchangeError::BodyTooLarge => (Outcome::Canceled, None),
            },
        }
    }

    pub(super) fn told(self, server: &LocalServer) -> ProxyError {
        let server = server.server.address.clone();
        match self {
            Self::Connect(source) => ProxyError::ConnectFailed { server, source },
            Self::Unsent => ProxyError::Exchange {
                server,
                source: ExchangeError::Closed(None),
            },
            Self::Exchange(source) => ProxyError::Exchange { server, source },
        }
    }
}
