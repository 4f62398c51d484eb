//! What happened to one request, as those saw it who made it happen.

use std::time::Duration;

use http::{Method, StatusCode};

/// One request.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) number: usize,
    pub(super) method: Method,
    pub(super) began: Duration,
    pub(super) attempts: Vec<Attempt>,
    /// Retries that the budget had refused, to anybody, when it began.
    pub(super) refusals: u64,
    /// The servers that took traffic then.
    pub(super) accepting: Set,
}

/// A set of servers, a bit for each.
pub(super) type Set = u32;

/// What was tried for a request.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) server: usize,
    pub(super) at: Duration,
    /// Over a connection that had carried other requests.
    pub(super) reused: bool,
    pub(super) fate: Fate,
    pub(super) over: Duration,
    /// When it was over: the servers that took traffic, and those that had room.
    pub(super) accepting: Set,
    pub(super) roomy: Set,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing so far.
    Open,
    Refused,
    /// The connection did not come in time.
    ConnectTimedOut,
    /// The connection ended without a byte of a response.
    Lost,
    /// It ended within the head.
    CutHead,
    Garbage,
    Flood,
    /// Nothing came; if the connection was cut later, it is lost.
    Hung,
    Answered {
        status: u16,
        retry_after: bool,
        whole: bool,
    },
}

/// What the client saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole response.
    Response {
        status: StatusCode,
        /// By weir itself, by its `Proxy-Status`.
        error: Option<String>,
        /// It was meant for this request.
        right: bool,
    },
    /// The response broke off after its head.
    Broken,
    /// The connection ended without a response.
    Nothing,
    /// The client had waited for long enough.
    Never,
    /// The client went away.
    Abandoned,
}
