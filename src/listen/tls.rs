//! TLS towards clients: certificates by SNI, protocols by ALPN, tickets that outlive a reload.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::{Certificate, Listener, Tls, TlsVersion, UnknownSni, provider};

/// The settings of a listener.
pub(crate) fn settings(listener: &Listener, tls: &Tls) -> Arc<ServerConfig> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut settings = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider has cipher suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates::new(tls)));
    settings.alpn_protocols = if listener.http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    if let Some(tickets) = tickets() {
        settings.ticketer = tickets;
    }
    settings.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Arc::new(settings)
}

/// The certificate that a client gets who asks for `name`, and whether it is for that name; `None`: its handshake is
/// refused.
pub(crate) fn certificate<'t>(tls: &'t Tls, name: Option<&str>) -> Option<(&'t Certificate, bool)> {
    let all = Certificates::new(tls);
    let found = all.find(name)?;
    let is_for_name = name.is_some_and(|name| all.named(name).is_some());
    let mut certificates = tls.certificates.iter();
    let certificate = certificates.find(|each| Arc::ptr_eq(&each.loaded, &found))?;
    Some((certificate, is_for_name))
}

/// One set of ticket keys for the process: a reload must not end all sessions. rustls rotates them every six hours.
fn tickets() -> Option<Arc<dyn ProducesTickets>> {
    static TICKETS: OnceLock<Option<Arc<dyn ProducesTickets>>> = OnceLock::new();
    // Without a source of randomness there are no tickets, and each handshake is a full one.
    TICKETS
        .get_or_init(|| aws_lc_rs::Ticketer::new().ok())
        .clone()
}

/// The certificates of a listener by name (RFC 6066 §3).
struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `*.example.com` under `example.com`; stands for one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    unknown: UnknownSni,
}

impl Certificates {
    fn new(tls: &Tls) -> Self {
        let mut all = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: tls
                .certificates
                .first()
                .map(|first| Arc::clone(&first.loaded)),
            unknown: tls.unknown_sni,
        };
        for certificate in &tls.certificates {
            for name in &certificate.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut all.wildcard, parent),
                    None => (&mut all.exact, name.as_str()),
                };
                // The first one that is listed wins, as the first one is the default.
                names
                    .entry(name.to_owned())
                    .or_insert_with(|| Arc::clone(&certificate.loaded));
            }
        }
        all
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else {
            // Without SNI there is nothing unknown: old clients and those that use an address.
            return self.default.clone();
        };
        let found = self.named(name);
        match self.unknown {
            UnknownSni::Default => found.or(self.default.as_ref()).cloned(),
            UnknownSni::Reject => found.cloned(),
        }
    }

    /// The one for a name.
    fn named(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let parent = name.split_once('.').map_or("", |(_, parent)| parent);
        self.exact.get(&name).or_else(|| self.wildcard.get(parent))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("exact", &self.exact.keys())
            .finish_non_exhaustive()
    }
}
