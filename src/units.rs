//! Newtypes for what would otherwise be bare strings and numbers. Parsed at the edge; an invalid one cannot exist.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The size as a length in memory; saturates where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The relative share of a server or of an upstream; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub NonZeroU32);

impl Weight {
    /// The weight of whatever states none.
    pub const ONE: Self = Self(NonZeroU32::MIN);
    /// The largest. Keeps sums over all servers far from overflow.
    pub(crate) const MAX: u32 = 1_000_000;
}

impl From<Weight> for u64 {
    fn from(weight: Weight) -> Self {
        Self::from(weight.0.get())
    }
}

/// A share of a whole, from 0 to 1, to the hundredth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u16);

impl Share {
    /// That many percent; 100 at most.
    pub const fn percent(percent: u16) -> Self {
        Self::hundredths(percent.saturating_mul(100))
    }

    /// That many hundredths of a percent; 10,000 at most.
    pub const fn hundredths(hundredths: u16) -> Self {
        Self(if hundredths < 10_000 {
            hundredths
        } else {
            10_000
        })
    }

    /// That share of a number, rounded down.
    pub fn of(self, number: u64) -> u64 {
        let share = u128::from(number) * u128::from(self.0) / 10_000;
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl Share {
    /// Whether that share of `whole` is more than `part`.
    pub fn is_more_than(self, part: u64, whole: u64) -> bool {
        u128::from(whole) * u128::from(self.0) > u128::from(part) * 10_000
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as the operator wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a `[listen.NAME]` table.
    ListenName
}
name! {
    /// The name of a `[route.NAME]` table.
    RouteName
}
name! {
    /// The name of an `[upstream.NAME]` table.
    UpstreamName
}

/// Where a server listens, as `host:port` or `unix:/path`. Identity of a server inside its upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddr {
    Ip(SocketAddr),
    /// The path of a unix socket.
    Unix(Arc<Path>),
}

impl ServerAddr {
    /// What a `Host` says of it. A path is no host, so that of a unix socket is the machine itself.
    pub(crate) fn host(&self) -> Cow<'static, str> {
        match self {
            Self::Ip(address) => address.to_string().into(),
            Self::Unix(_) => "localhost".into(),
        }
    }
}

/// A name that DNS makes servers of. Lower case; a dot at its end says that no search domain belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerName {
    /// `app.internal:3000`: each of its addresses is a server on that port.
    Host { name: Arc<str>, port: u16 },
    /// `srv+_http._tcp.app.internal`: its SRV records tell hosts, ports and weights (RFC 2782).
    Service(Arc<str>),
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Service(name) => write!(f, "srv+{name}"),
        }
    }
}

impl From<SocketAddr> for ServerAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
