//! The label values that come from no config name. Each is an enum, so that a label has as many values as are written
//! here and no client can add one.

use http::{Method, StatusCode};

/// Defines an enum whose variants are the values of one label.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of its number.
            pub(crate) const ALL: [Self; Self::COUNT] = [$(Self::$variant,)+];
            /// How many values there are.
            pub(crate) const COUNT: usize = [$($label,)+].len();

            /// The value as it is exported.
            pub(crate) const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

label! {
    /// The method of a request; whatever is not of RFC 9110 §9 or RFC 5789 is `OTHER`.
    MethodLabel {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Delete = "DELETE",
        Patch = "PATCH",
        Options = "OPTIONS",
        Trace = "TRACE",
        Connect = "CONNECT",
        Other = "OTHER",
    }
}

impl MethodLabel {
    pub(crate) fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            Method::PATCH => Self::Patch,
            Method::OPTIONS => Self::Options,
            Method::TRACE => Self::Trace,
            Method::CONNECT => Self::Connect,
            _ => Self::Other,
        }
    }
}

label! {
    /// The class of a status.
    StatusClass {
        Informational = "1xx",
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
        /// The exchange broke before there was a status, or the status is of no class.
        None = "none",
    }
}

impl StatusClass {
    pub(crate) fn of(status: Option<StatusCode>) -> Self {
        match status.map_or(0, |status| status.as_u16() / 100) {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::None,
        }
    }
}

label! {
    /// How an attempt on a server ended.
    Outcome {
        /// A response with a status below 500.
        Ok = "ok",
        /// A response with a status of 500 and above.
        Error = "error",
        /// No connection came about, TLS included.
        ConnectFailed = "connect_failed",
        /// The server was too slow with its response.
        Timeout = "timeout",
        /// The connection broke before the response was complete.
        Reset = "reset",
        /// What the server sent is not HTTP.
        Protocol = "protocol",
        /// The client went away first; says nothing about the server.
        Canceled = "canceled",
    }
}

impl Outcome {
    /// Whether it speaks against the server.
    pub(crate) fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Canceled)
    }

    /// The outcome of an attempt that got a response.
    pub(crate) fn of(status: StatusCode) -> Self {
        if status.as_u16() < 500 {
            Self::Ok
        } else {
            Self::Error
        }
    }
}

label! {
    /// Why a further attempt was made.
    RetryReason {
        /// The connection to the server failed.
        Connect = "connect",
        /// The connection broke before a response head.
        Reset = "reset",
        /// An idle connection turned out to be closed.
        Stale = "stale",
        /// No response head came in time.
        Timeout = "timeout",
        /// The answer had that status.
        BadGateway = "502",
        Unavailable = "503",
        GatewayTimeout = "504",
    }
}

label! {
    /// Why weir itself refused a request or a connection.
    RefusedReason {
        /// Malformed or ambiguous HTTP.
        Malformed = "malformed",
        HeaderTooLarge = "header_too_large",
        TargetTooLong = "target_too_long",
        BodyTooLarge = "body_too_large",
        /// The client was too slow with its head or body.
        Timeout = "timeout",
        NoRoute = "no_route",
        ShuttingDown = "shutting_down",
        MaxConnections = "max_connections",
        /// No server accepts traffic.
        Unavailable = "unavailable",
        /// Every server has as many requests as it may, and so has the queue.
        QueueFull = "queue_full",
        /// The servers have as many requests as they can work on, by what they show, and as many wait.
        Shed = "shed",
        /// No server had room within the queue's time.
        QueueTimeout = "queue_timeout",
    }
}

label! {
    /// What the cache did for a request.
    CacheResult {
        /// Answered from the store.
        Hit = "hit",
        /// Answered from the store with what was no longer fresh.
        Stale = "stale",
        /// Answered from the store after a server said that it is still good.
        Revalidated = "revalidated",
        /// Answered by a server.
        Miss = "miss",
        /// Answered with what a server sent for another request.
        Collapsed = "collapsed",
        /// Not looked for: by its method or its fields nothing stored could answer it.
        Bypass = "bypass",
    }
}

impl CacheResult {
    /// Whether no server had to be asked for it.
    pub(crate) fn spared_a_server(self) -> bool {
        match self {
            Self::Hit | Self::Stale | Self::Collapsed => true,
            Self::Revalidated | Self::Miss | Self::Bypass => false,
        }
    }
}

label! {
    /// How a TLS handshake ended.
    Handshake {
        Ok = "ok",
        Failed = "failed",
    }
}

label! {
    /// What became of asking DNS for a name.
    Resolving {
        Ok = "ok",
        /// No answer, none for one family of addresses, or that there is no such name.
        Failed = "failed",
    }
}

label! {
    /// How a reload of the config ended.
    ReloadResult {
        Ok = "ok",
        Refused = "refused",
        /// One that ran before was taken again.
        RolledBack = "rolled_back",
    }
}

label! {
    /// What became of a certificate whose files changed.
    Renewal {
        Ok = "ok",
        /// They do not belong together or cannot be read; the one before stays.
        Refused = "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_order_of_all() {
        for (number, method) in MethodLabel::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, number);
        }
        assert_eq!(RefusedReason::ALL.len(), RefusedReason::COUNT);
    }

    #[test]
    fn methods_keep_their_name_and_unknown_ones_lose_it() {
        for method in MethodLabel::ALL {
            let parsed = Method::from_bytes(method.label().as_bytes()).unwrap();
            assert_eq!(MethodLabel::of(&parsed), method);
        }
        for unknown in [
            "PROPFIND",
            "get",
            "A-METHOD-LONGER-THAN-WHAT-IS-KEPT-INLINE",
        ] {
            let parsed = Method::from_bytes(unknown.as_bytes()).unwrap();
            assert_eq!(MethodLabel::of(&parsed), MethodLabel::Other);
        }
    }

    #[test]
    fn a_status_of_no_class_and_no_status_are_none() {
        assert_eq!(StatusClass::of(None), StatusClass::None);
        assert_eq!(
            StatusClass::of(StatusCode::from_u16(999).ok()),
            StatusClass::None
        );
        assert_eq!(StatusClass::of(Some(StatusCode::NOT_FOUND)).label(), "4xx");
    }
}
