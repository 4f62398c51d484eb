//! Why a response is not stored, or a stored one not used.

/// A reason, as `Cache-Status` tells it in `detail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// Only answers to GET are stored.
    Method,
    /// Interim, partial, not modified, or never for another request.
    Status,
    /// `must-understand`, and it is not.
    UnknownStatus,
    /// The request says so.
    RequestNoStore,
    NoStore,
    Private,
    /// The request has it, and the response does not say that others may have the answer.
    Authorization,
    SetCookie,
    /// `Vary: *`
    VaryAnything,
    /// By a field that tells each client apart, and that weir itself writes.
    VaryByClient,
    /// A `Vary` that cannot be read, or names too many fields.
    BadVary,
    /// What brought it up to date names fields that it did not depend on before.
    OtherVary,
    /// It does not say for how long it is fresh.
    NoFreshness,
    /// It came stale, with nothing to validate it by.
    AlreadyStale,
    /// It must be validated each time, with nothing to do so by.
    NoValidator,
    /// Events, which have no end.
    Stream,
    TooLarge,
    /// As many variants of the target are stored as may be.
    TooManyVariants,
    /// Those that came with it and with what brought it up to date, over time.
    TooManyFields,
    /// More tags, or longer ones, than can be found again.
    TooManyTags,
    /// Too much is on its way into the store already.
    NoRoom,
    /// Purged since it was asked for.
    Purged,
}

impl Refusal {
    /// Whether it is about the one who asked, or what else is going on now: that says nothing of a response that is stored
    /// already.
    pub(crate) const fn is_of_the_moment(self) -> bool {
        matches!(self, Self::Authorization | Self::SetCookie | Self::NoRoom)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::UnknownStatus => "unknown-status",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryAnything => "vary-anything",
            Self::VaryByClient => "vary-by-client",
            Self::BadVary => "bad-vary",
            Self::OtherVary => "other-vary",
            Self::NoFreshness => "no-freshness",
            Self::AlreadyStale => "already-stale",
            Self::NoValidator => "no-validator",
            Self::Stream => "stream",
            Self::TooLarge => "too-large",
            Self::TooManyVariants => "too-many-variants",
            Self::TooManyFields => "too-many-fields",
            Self::TooManyTags => "too-many-tags",
            Self::NoRoom => "no-room",
            Self::Purged => "purged",
        }
    }
}
