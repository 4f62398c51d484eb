//! TLS towards servers: settings, names, what goes wrong with them.
//!
//! Verification cannot be turned off: who has no authority to vouch for a server names its certificate's as `ca`. Every
//! server has sessions of its own, as every server has ticket keys of its own: those of an upstream may share one name, and
//! a ticket that meets another server than its maker is wasted. Nor does a session cross upstreams: it would bring along
//! what the verifier of another one, or a certificate shown by another one, has made of it.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};

use super::secured::Secured;
use super::stream::Stream;
use crate::config::{ServersTls, provider};

/// What all servers of an upstream have in common. Kept over reloads for as long as the config says the same, the contents
/// of its files included.
pub(crate) struct Settings {
    from: ServersTls,
    client: ClientConfig,
}

/// How one server is spoken to.
pub(crate) struct ServerTls {
    settings: Arc<Settings>,
    name: ServerName<'static>,
    client: Arc<ClientConfig>,
}

/// What is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Settings {
    pub(crate) fn new(from: &ServersTls) -> Self {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has cipher suites for both versions")
            .with_root_certificates(Arc::clone(&from.roots.loaded));
        let mut client = match &from.client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let shown = SingleCertAndKey::from(Arc::clone(&pair.loaded));
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            from: from.clone(),
            client,
        }
    }

    /// Whether they are what that comes to.
    pub(crate) fn are_of(&self, from: &ServersTls) -> bool {
        self.from == *from
    }
}

impl ServerTls {
    pub(crate) fn new(settings: &Arc<Settings>, name: ServerName<'static>) -> Self {
        let mut client = settings.client.clone();
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        Self {
            settings: Arc::clone(settings),
            name,
            client: Arc::new(client),
        }
    }

    /// Whether it is what a server of that name has with these settings.
    pub(crate) fn is_of(&self, settings: &Arc<Settings>, name: &ServerName<'static>) -> bool {
        Arc::ptr_eq(&self.settings, settings) && self.name == *name
    }

    /// Makes a connection one over TLS; has no end of its own. `name` stands in for the server's own.
    pub(crate) async fn secure(
        &self,
        socket: Stream,
        name: Option<&ServerName<'static>>,
        protocol: Protocol,
    ) -> Result<Stream, HandshakeError> {
        let client = match protocol {
            Protocol::Http1 => Arc::clone(&self.client),
            Protocol::Http2 => {
                let mut client = ClientConfig::clone(&self.client);
                client.alpn_protocols = vec![b"h2".to_vec()];
                Arc::new(client)
            }
        };
        let name = name.unwrap_or(&self.name).clone();
        let secured = Secured::handshake(socket, client, name).await?;
        Ok(Stream::Tls(Box::new(secured)))
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Certificate(Distrust),
    #[error("{}", Fault::Alert(*.0))]
    Alert(AlertDescription),
    #[error("the server broke the protocol of TLS")]
    Protocol(#[source] Error),
    #[error("the connection ended within the TLS handshake")]
    Ended(#[source] Option<io::Error>),
}

/// The same as a reason, in few words for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Certificate(Distrust),
    Alert(AlertDescription),
    Protocol,
    Ended,
}

/// Why a server's certificate was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    Expired,
    NotYetValid,
    OtherName,
    UnknownIssuer,
    /// Among others when its issuer is called as one of the roots and is another.
    Signature,
    Authority,
    Invalid,
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::Certificate(Distrust::of(&error)),
            Error::NoCertificatesPresented => Self::Certificate(Distrust::Invalid),
            Error::AlertReceived(alert) => Self::Alert(alert),
            error => Self::Protocol(error),
        }
    }
}

impl HandshakeError {
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Certificate(distrust) => Fault::Certificate(*distrust),
            Self::Alert(alert) => Fault::Alert(*alert),
            Self::Protocol(_) => Fault::Protocol,
            Self::Ended(_) => Fault::Ended,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(distrust) => distrust.fmt(f),
            Self::Alert(alert) => write!(f, "TLS refused by the server: {}", Words(*alert)),
            Self::Protocol => f.write_str("not a TLS handshake"),
            Self::Ended => f.write_str("connection closed within the TLS handshake"),
        }
    }
}

impl Distrust {
    fn of(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::BadSignature => Self::Signature,
            CertificateError::Other(other)
                if matches!(
                    other.0.downcast_ref(),
                    Some(webpki::Error::CaUsedAsEndEntity)
                ) =>
            {
                Self::Authority
            }
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "certificate has expired",
            Self::NotYetValid => "certificate is not valid yet",
            Self::OtherName => "certificate is for another name",
            Self::UnknownIssuer => "certificate of an unknown issuer",
            Self::Signature => "certificate with a wrong signature",
            // What `openssl req -x509` makes without further words.
            Self::Authority => "certificate is that of an authority, not of a server",
            Self::Invalid => "certificate is not valid",
        })
    }
}

/// The alert that a connection ended with. With TLS 1.3 a server that does not like its client's certificate tells so when
/// the client takes the handshake for done.
pub(crate) fn alert_in(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// The name of an alert, `HandshakeFailure`, as words.
struct Words(AlertDescription);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = self.0.as_str() else {
            return write!(f, "alert {}", u8::from(self.0));
        };
        let mut lower = false;
        for letter in name.chars() {
            if letter.is_uppercase() && lower {
                f.write_str(" ")?;
            }
            lower = letter.is_lowercase();
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// For the name of its traffic and that of its probes; rustls keeps 8 tickets for each.
const SESSIONS: usize = 16;
