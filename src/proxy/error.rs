//! Why a request got no answer from its upstream, or was not worth one: status and `Proxy-Status` word (RFC 9209 §2.3).

use http::StatusCode;

use super::running::Running;
use crate::telemetry::labels::RefusedReason;
use crate::units::{ServerAddr, UpstreamName};
use crate::upstream::connect::ConnectError;
use crate::upstream::http1::ExchangeError;
use crate::upstream::tls::HandshakeError;

/// Why weir answers a request itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("`CONNECT` is not offered")]
    Connect,
    #[error("the target is too long")]
    TargetTooLong,
    #[error("the fields of the request are too large or too many")]
    FieldsTooLarge,
    #[error("the body of the request is too large")]
    BodyTooLarge,
    #[error("the client was too slow with its request")]
    ClientTooSlow,
    #[error("the client broke off its request")]
    ClientGone,
    #[error("no route matches")]
    NoRoute,
    #[error("no server of upstream `{upstream}` accepts traffic")]
    NoServer { upstream: UpstreamName },
    #[error("too many requests wait for upstream `{upstream}`")]
    QueueFull { upstream: UpstreamName },
    #[error("the servers of upstream `{upstream}` have more than they can work on")]
    Shed { upstream: UpstreamName },
    #[error("no server of upstream `{upstream}` had room in time")]
    QueueTimeout { upstream: UpstreamName },
    #[error("no server of upstream `{upstream}` had room within the time that the route allows")]
    RouteTimeout { upstream: UpstreamName },
    #[error(
        "nothing is stored that answers the request, and it asks for no more (`only-if-cached`)"
    )]
    NotStored,
    #[error("the fetch that the request waited for took too long")]
    FetchTimedOut,
    #[error("the fetch that the request waited for was given up")]
    FetchEnded,
    #[error("its route, its listener or its server is gone, and so is its time to finish")]
    Drained,
    /// Before a server was chosen.
    #[error("the body of the request could not be read")]
    Body { source: ExchangeError },
    #[error("cannot connect to `{server}`")]
    ConnectFailed {
        server: ServerAddr,
        source: ConnectError,
    },
    #[error("no usable response from `{server}`")]
    Exchange {
        server: ServerAddr,
        source: ExchangeError,
    },
}

/// What a client is told.
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    /// The error word of `Proxy-Status`.
    pub(crate) word: &'static str,
    /// Seconds of `Retry-After`.
    pub(crate) retry_after: Option<u32>,
    /// Whether the connection can carry no further request.
    pub(crate) close: bool,
    /// Where it is counted, beside the status.
    pub(crate) refused: Option<RefusedReason>,
}

impl ProxyError {
    /// Whether there are servers, and no room on them.
    pub(super) fn is_crowded(&self) -> bool {
        matches!(
            self,
            Self::QueueFull { .. } | Self::Shed { .. } | Self::QueueTimeout { .. }
        )
    }

    /// The same, unless what ended is not the time that the route allows, but that of a route or server that is gone.
    pub(super) fn or_drained(self, running: &Running) -> Self {
        let is_over = match &self {
            Self::RouteTimeout { .. } => true,
            Self::Body { source } | Self::Exchange { source, .. } => {
                matches!(source, ExchangeError::RouteTimeout)
            }
            _ => false,
        };
        if is_over && running.is_leaving() {
            Self::Drained
        } else {
            self
        }
    }

    /// The one place that decides what an error looks like from outside.
    pub(crate) fn told(&self) -> Told {
        match self {
            Self::Malformed(_) => {
                refused(StatusCode::BAD_REQUEST, RefusedReason::Malformed).closing()
            }
            Self::Connect => {
                refused(StatusCode::METHOD_NOT_ALLOWED, RefusedReason::Malformed).closing()
            }
            Self::TargetTooLong => {
                refused(StatusCode::URI_TOO_LONG, RefusedReason::TargetTooLong).closing()
            }
            Self::FieldsTooLarge => refused(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                RefusedReason::HeaderTooLarge,
            )
            .closing(),
            Self::BodyTooLarge => {
                refused(StatusCode::PAYLOAD_TOO_LARGE, RefusedReason::BodyTooLarge)
            }
            Self::ClientTooSlow => {
                refused(StatusCode::REQUEST_TIMEOUT, RefusedReason::Timeout).closing()
            }
            Self::ClientGone => {
                refused(StatusCode::BAD_REQUEST, RefusedReason::Malformed).closing()
            }
            Self::NoRoute => Told {
                word: "destination_not_found",
                ..refused(StatusCode::NOT_FOUND, RefusedReason::NoRoute)
            },
            Self::NoServer { .. } => Told {
                retry_after: Some(5),
                word: "destination_unavailable",
                ..refused(StatusCode::SERVICE_UNAVAILABLE, RefusedReason::Unavailable)
            },
            // Another attempt is served by the config that runs now.
            Self::Drained => Told {
                retry_after: Some(1),
                ..failed(StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable")
            },
            Self::QueueFull { .. } => crowded(RefusedReason::QueueFull),
            Self::Shed { .. } => crowded(RefusedReason::Shed),
            Self::QueueTimeout { .. } => crowded(RefusedReason::QueueTimeout),
            Self::NotStored => failed(StatusCode::GATEWAY_TIMEOUT, "proxy_internal_response"),
            Self::FetchTimedOut => failed(StatusCode::GATEWAY_TIMEOUT, "http_response_timeout"),
            Self::FetchEnded => failed(StatusCode::BAD_GATEWAY, "proxy_internal_error"),
            Self::RouteTimeout { .. } => exchange(&ExchangeError::RouteTimeout),
            Self::Body { source } => exchange(source),
            Self::ConnectFailed { source, .. } => match source {
                ConnectError::Refused => failed(StatusCode::BAD_GATEWAY, "connection_refused"),
                ConnectError::TimedOut => failed(StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
                ConnectError::Tls(error) => failed(StatusCode::BAD_GATEWAY, word(error)),
                ConnectError::Failed(_) => {
                    failed(StatusCode::BAD_GATEWAY, "destination_ip_unroutable")
                }
            },
            Self::Exchange { source, .. } => exchange(source),
        }
    }
}

fn word(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Certificate(_) => "tls_certificate_error",
        HandshakeError::Alert(_) => "tls_alert_received",
        HandshakeError::Protocol(_) | HandshakeError::Ended(_) => "tls_protocol_error",
    }
}

fn exchange(error: &ExchangeError) -> Told {
    match error {
        ExchangeError::Refused(_) => failed(StatusCode::BAD_GATEWAY, "tls_alert_received"),
        ExchangeError::Closed(_) => failed(StatusCode::BAD_GATEWAY, "connection_terminated"),
        ExchangeError::Incomplete(_) => failed(StatusCode::BAD_GATEWAY, "http_response_incomplete"),
        ExchangeError::Head(_) | ExchangeError::Informational => {
            failed(StatusCode::BAD_GATEWAY, "http_protocol_error")
        }
        ExchangeError::ResponseTimeout | ExchangeError::RouteTimeout => {
            failed(StatusCode::GATEWAY_TIMEOUT, "http_response_timeout")
        }
        ExchangeError::WriteTimeout => {
            failed(StatusCode::GATEWAY_TIMEOUT, "connection_write_timeout")
        }
        ExchangeError::ClientBody(_) => ProxyError::ClientGone.told(),
        ExchangeError::ClientStalled => ProxyError::ClientTooSlow.told(),
        ExchangeError::BodyTooLarge => ProxyError::BodyTooLarge.told(),
    }
}

fn crowded(reason: RefusedReason) -> Told {
    Told {
        retry_after: Some(5),
        word: "connection_limit_reached",
        ..refused(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

fn refused(status: StatusCode, reason: RefusedReason) -> Told {
    Told {
        status,
        word: "http_request_error",
        retry_after: None,
        close: false,
        refused: Some(reason),
    }
}

fn failed(status: StatusCode, word: &'static str) -> Told {
    Told {
        status,
        word,
        retry_after: None,
        close: false,
        refused: None,
    }
}

impl Told {
    fn closing(self) -> Self {
        Self {
            close: true,
            ..self
        }
    }
}
