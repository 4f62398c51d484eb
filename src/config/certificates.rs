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
use super::value::{Value, plain};
use super::values::string;

/// `{ cert = "site.pem", key = "site.key" }`
pub(super) fn certificate<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<Certificate> {
    value.table(|table| {
        let cert = table.required("cert", "\"site.pem\"");
        let key = table.required("key", "\"site.key\"");
        pair(&cert?, &key?, context)
    })
}

/// A chain and the key that belongs to its first certificate.
pub(super) fn pair<'t>(
    cert: &Value<'t>,
    key: &Value<'t>,
    context: &Context<'t>,
) -> Option<Certificate> {
    let chain = chain(cert, context);
    let private = private_key(key, context);
    let (chain, private) = (chain?, private?);
    let names = names(cert, &chain)?;
    let loaded = match CertifiedKey::from_der(chain, private, &provider()) {
        Ok(loaded) => Arc::new(loaded),
        Err(error) => {
            key.problem("certificate", unusable(key, cert, &error), None);
            return None;
        }
    };
    let (cert, key) = (cert.inner.as_str()?.into(), key.inner.as_str()?.into());
    Some(Certificate {
        cert,
        key,
        names,
        loaded,
    })
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

fn unusable(key: &Value<'_>, cert: &Value<'_>, error: &Error) -> String {
    let quoted = |value: &Value<'_>| plain(value.inner.as_str().unwrap_or_default());
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!(
                "the key in `{}` is not that of the certificate in `{}`",
                quoted(key),
                quoted(cert)
            )
        }
        error => format!("cannot use the key in `{}`: {error}", quoted(key)),
    }
}

/// The certificates of a file, one at least.
pub(super) fn chain<'t>(
    value: &Value<'t>,
    context: &Context<'t>,
) -> Option<Vec<CertificateDer<'static>>> {
    let (path, content) = read(value, context)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            value.problem(
                "certificate",
                format!("`{path}` has no certificate in PEM format"),
                None,
            );
            None
        }
        Ok(chain) => Some(chain),
        Err(error) => {
            value.problem(
                "certificate",
                format!("`{path}` is not valid PEM: {error}"),
                None,
            );
            None
        }
    }
}

fn private_key<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<PrivateKeyDer<'static>> {
    let (path, content) = read(value, context)?;
    match PrivateKeyDer::from_pem_slice(&content) {
        Ok(key) => Some(key),
        Err(_) => {
            value.problem(
                "certificate",
                format!("`{path}` has no private key in PEM format"),
                None,
            );
            None
        }
    }
}

fn read<'t>(value: &Value<'t>, context: &Context<'t>) -> Option<(String, Arc<[u8]>)> {
    let text = string(value, "the path of a PEM file")?;
    let path = plain(text);
    match context.files.read(text) {
        Ok(content) => Some((path, content)),
        Err(error) => {
            value.problem(
                "certificate",
                format!("cannot read `{path}`: {error}"),
                None,
            );
            None
        }
    }
}

/// The DNS names of the first certificate, lower case.
fn names(value: &Value<'_>, chain: &[CertificateDer<'_>]) -> Option<Vec<String>> {
    let first = chain.first()?;
    match EndEntityCert::try_from(first) {
        Ok(parsed) => Some(
            parsed
                .valid_dns_names()
                .map(str::to_ascii_lowercase)
                .collect(),
        ),
        Err(error) => {
            value.problem(
                "certificate",
                format!("the first certificate cannot be used: {error}"),
                None,
            );
            None
        }
    }
}

/// The same files with the same contents. That the key is the same follows: it fits the certificate.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.cert == other.cert && self.key == other.key && self.loaded.cert == other.loaded.cert
    }
}

impl Eq for Certificate {}
