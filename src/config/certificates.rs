//! Certificate chains and keys: read, parsed, known to fit together.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use webpki::EndEntityCert;

use super::Certificate;
use super::check::Context;
use super::files::{Content, Files};
use super::peers;
use super::value::{Value, plain};
use super::values::string;
use super::warnings;

/// `{ cert = "site.pem", key = "site.key" }`
pub(super) fn certificate<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<Certificate> {
    value.table(|table| {
        table.elsewhere(peers::CERTIFICATE);
        let cert = table.required("cert", "\"site.pem\"");
        let key = table.required("key", "\"site.key\"");
        // Renewed without a reload of the rest.
        pair_by(Files::read_apart, &cert?, &key?, context)
    })
}

/// A chain and the key that belongs to its first certificate.
pub(super) fn pair<'t>(
    cert: &Value<'t>,
    key: &Value<'t>,
    context: &Context<'t>,
) -> Option<Certificate> {
    pair_by(Files::read, cert, key, context)
}

/// How a file is read.
type Reader = fn(&Files, &str) -> Content;

fn pair_by<'t>(
    reader: Reader,
    cert: &Value<'t>,
    key: &Value<'t>,
    context: &Context<'t>,
) -> Option<Certificate> {
    let chain = parsed(reader, cert, context, chain_of);
    let private = parsed(reader, key, context, key_of);
    let (chain, private) = (chain?, private?);
    let names = told(cert, names_of(&chain))?;
    let (cert_written, key_written) = (cert.inner.as_str()?, key.inner.as_str()?);
    let fitting = fitting(chain, private, &cert.quoted(), &plain(key_written));
    let certificate = Certificate {
        cert: cert_written.into(),
        key: key_written.into(),
        files: [cert_written, key_written].map(|written| context.files.at(written)),
        names,
        loaded: told(key, fitting)?,
    };
    warnings::expiry(cert, certificate.expires(), context.now);
    Some(certificate)
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The certificates of a file, one at least.
pub(super) fn chain<'t>(
    value: &Value<'t>,
    context: &Context<'t>,
) -> Option<Vec<CertificateDer<'static>>> {
    parsed(Files::read, value, context, chain_of)
}

fn parsed<'t, T>(
    reader: Reader,
    value: &Value<'t>,
    context: &Context<'t>,
    parse: fn(&[u8], &str) -> Result<T, String>,
) -> Option<T> {
    let text = string(value, "the path of a PEM file")?;
    let path = plain(text);
    let content = reader(context.files, text);
    let content = content.map_err(|error| format!("cannot read `{path}`: {error}"));
    told(value, content.and_then(|content| parse(&content, &path)))
}

/// What there is, or a complaint about the value.
fn told<T>(value: &Value<'_>, result: Result<T, String>) -> Option<T> {
    result
        .map_err(|message| value.problem("certificate", message, None))
        .ok()
}

/// The certificates in what the file at `path` holds, one at least.
pub(super) fn chain_of(content: &[u8], path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!("`{path}` has no certificate in PEM format")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("`{path}` is not valid PEM: {error}")),
    }
}

pub(super) fn key_of(content: &[u8], path: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(content)
        .map_err(|_| format!("`{path}` has no private key in PEM format"))
}

/// The DNS names of the first certificate, lower case.
pub(super) fn names_of(chain: &[CertificateDer<'_>]) -> Result<Vec<String>, String> {
    let first = chain.first().ok_or("there is no certificate")?;
    let parsed = EndEntityCert::try_from(first)
        .map_err(|error| format!("the first certificate cannot be used: {error}"))?;
    let names = parsed.valid_dns_names();
    Ok(names.map(str::to_ascii_lowercase).collect())
}

/// Both together, if they belong together.
pub(super) fn fitting(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    cert_path: &str,
    key_path: &str,
) -> Result<Arc<CertifiedKey>, String> {
    let fitting = CertifiedKey::from_der(chain, key, &provider());
    fitting.map(Arc::new).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("the key in `{key_path}` is not that of the certificate in `{cert_path}`")
        }
        error => format!("cannot use the key in `{key_path}`: {error}"),
    })
}

/// The same files with the same contents. That the key is the same follows: it fits the certificate.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.cert == other.cert && self.key == other.key && self.loaded.cert == other.loaded.cert
    }
}

impl Eq for Certificate {}
