//! Certificates made for a test, and clients that speak TLS.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WantsServerCert;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion,
    WantsVerifier,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Connection, PATIENCE};

/// An authority that only these tests trust, and a folder with the certificates that it has signed.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else a certificate of one authority would be a bad one of another.
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        parameters.distinguished_name.push(DnType::CommonName, name);
        let issuer =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder }
    }

    /// Signs a certificate for these names; its files are called `name`. Returns the certificate as it goes over the wire.
    pub fn sign(&self, name: &str, names: &[&str]) -> Vec<u8> {
        self.sign_until(name, names, 4096)
    }

    /// The same, good until the end of that year.
    pub fn sign_until(&self, name: &str, names: &[&str], year: i32) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 12, 31);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(name, "pem"), certificate.pem()).unwrap();
        std::fs::write(self.path(name, "key"), key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        let file = self.path("authority", "pem");
        std::fs::write(&file, self.issuer.pem()).unwrap();
        file
    }

    /// A server with a new certificate for these names.
    pub fn server(&self, names: &[&str]) -> ServerConfig {
        self.sign("server", names);
        self.server_with("server", |builder| builder.with_no_client_auth())
    }

    /// A server with the certificate whose files are called `name`.
    pub fn server_with(
        &self,
        name: &str,
        clients: impl FnOnce(
            ConfigBuilder<ServerConfig, WantsVerifier>,
        ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> ServerConfig {
        let chain = CertificateDer::from_pem_file(self.path(name, "pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(name, "key")).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap();
        let mut settings = clients(builder).with_single_cert(vec![chain], key).unwrap();
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        settings
    }

    /// Those that it vouches for.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    pub fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{extension}"))
    }

    /// The table `[listen.web.tls]` with these certificates, in order.
    pub fn table(&self, names: &[&str], more: &str) -> String {
        let mut list = String::new();
        for name in names {
            let (cert, key) = (self.path(name, "pem"), self.path(name, "key"));
            write!(
                list,
                "{{ cert = \"{}\", key = \"{}\" }}, ",
                cert.display(),
                key.display()
            )
            .unwrap();
        }
        format!("[listen.web.tls]\ncertificates = [{list}]\n{more}\n")
    }

    /// A client of all versions that offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS, protocols)
    }

    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let mut config = builder
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        config
    }
}

/// A handshake under the name `host`.
pub async fn handshake(
    client: &Arc<ClientConfig>,
    address: SocketAddr,
    host: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    timeout(
        PATIENCE,
        TlsConnector::from(Arc::clone(client)).connect(name, socket),
    )
    .await
    .expect("an end of the handshake")
}

/// An HTTP/1.1 connection over TLS under the name `host`.
pub async fn connect(client: ClientConfig, address: SocketAddr, host: &str) -> Connection {
    Connection::over(handshake(&Arc::new(client), address, host).await.unwrap())
}
