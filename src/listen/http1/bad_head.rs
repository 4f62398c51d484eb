//! Why what a client sends is no request.

use http::StatusCode;

use crate::http1::lines::BadLine;
use crate::telemetry::labels::RefusedReason;

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("the request line is not `method target HTTP/1.1`")]
    Line,
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    #[error("the target is not one")]
    Target,
    #[error("a field is malformed")]
    Field,
    #[error("`Content-Length` is not a number, or there are two that differ")]
    ContentLength,
    #[error("`Transfer-Encoding` is not `chunked`, or of an HTTP/1.0 client")]
    TransferEncoding,
    #[error("both `Content-Length` and `Transfer-Encoding` are there")]
    AmbiguousLength,
    #[error("the head is too large")]
    TooLarge,
    #[error("the target is too long")]
    TargetTooLong,
    #[error("there are too many fields")]
    TooManyFields,
}

impl BadHead {
    /// What the client is told.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Line
            | Self::Version
            | Self::Target
            | Self::Field
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::AmbiguousLength => StatusCode::BAD_REQUEST,
        }
    }

    /// As what it is counted.
    pub(crate) fn reason(self) -> RefusedReason {
        match self {
            Self::TooLarge | Self::TooManyFields => RefusedReason::HeaderTooLarge,
            Self::TargetTooLong => RefusedReason::TargetTooLong,
            Self::Line
            | Self::Version
            | Self::Target
            | Self::Field
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::AmbiguousLength => RefusedReason::Malformed,
        }
    }
}

impl From<BadLine> for BadHead {
    fn from(_: BadLine) -> Self {
        Self::Field
    }
}
