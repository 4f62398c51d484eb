//! Certificates in use: looked at again when files change, and taken without a reload of the rest. A pair that does not fit
//! is refused; the one before stays, and is tried again when either file changes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::core::Control;
use crate::config::{Certificate, Config, Look};
use crate::telemetry::labels::Renewal;
use crate::units::ListenName;

/// How long reading the files may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// What was refused, by the listener and the file of the certificate.
#[derive(Debug, Default)]
pub(crate) struct Refused(HashMap<(ListenName, PathBuf), Refusal>);

#[derive(Debug)]
struct Refusal {
    why: String,
    seen: u64,
}

impl Refused {
    /// Why the files of a certificate were refused, if they were.
    pub(crate) fn why(&self, listen: &ListenName, certificate: &Certificate) -> Option<&str> {
        let key = (listen.clone(), certificate.cert.clone());
        self.0.get(&key).map(|refusal| refusal.why.as_str())
    }

    /// Whether this is news.
    fn refuse(&mut self, key: (ListenName, PathBuf), why: String, seen: u64) -> bool {
        let before = self.0.insert(key, Refusal { why, seen });
        before.is_none_or(|before| before.seen != seen)
    }

    fn mend(&mut self, key: &(ListenName, PathBuf)) {
        self.0.remove(key);
    }

    /// Whatever was refused belonged to another config.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Control {
    /// Looks at the files of all certificates. Returns whether others are in use now. Not while a config is being taken.
    pub(super) async fn renew(self: &Arc<Self>) -> bool {
        let runs = Arc::clone(&self.published.state().config);
        if runs.certificates().next().is_none() {
            return false;
        }
        let config = Arc::clone(&runs);
        let looking = tokio::task::spawn_blocking(move || {
            let all = config.certificates();
            let looks = all.map(|(listener, number, certificate)| {
                ((listener, number), certificate.look(&config.contents))
            });
            looks.collect::<Vec<_>>()
        });
        let Ok(Ok(looks)) = tokio::time::timeout(READ_WITHIN, looking).await else {
            tracing::warn!("the files of the certificates cannot be read in time");
            return false;
        };
        let mut config: Option<Config> = None;
        for (place, look) in looks {
            let Some((listen, cert)) = named(&runs, place) else {
                continue;
            };
            let key = (listen.clone(), cert.clone());
            match look {
                Look::Same => self.refused().mend(&key),
                Look::Renewed(certificate, read) => {
                    self.refused().mend(&key);
                    let expires = certificate.expires();
                    let expires =
                        expires.map(|at| humantime::format_rfc3339_seconds(at).to_string());
                    let expires = expires.unwrap_or_default();
                    tracing::info!(%listen, cert = %cert.display(), expires, "certificate renewed");
                    self.metrics.renewed(Renewal::Ok);
                    let config = config.get_or_insert_with(|| (*runs).clone());
                    config.renew(place, certificate, read);
                }
                Look::Refused { why, seen } => {
                    if self.refused().refuse(key, why.clone(), seen) {
                        tracing::warn!(%listen, cert = %cert.display(), "certificate refused, the one before stays: {why}");
                        self.metrics.renewed(Renewal::Refused);
                    }
                }
            }
        }
        match config {
            Some(config) => {
                self.serve_with(config);
                true
            }
            None => false,
        }
    }
}

fn named(config: &Config, (listener, number): (usize, usize)) -> Option<(&ListenName, &PathBuf)> {
    let listener = config.listeners.get(listener)?;
    let certificate = listener.tls.as_ref()?.certificates.get(number)?;
    Some((&listener.name, &certificate.cert))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_mistake_is_told_once() {
        let mut refused = Refused::default();
        let key = || (ListenName::from("web"), PathBuf::from("site.pem"));
        assert!(refused.refuse(key(), "bad".into(), 1));
        assert!(!refused.refuse(key(), "bad".into(), 1));
        assert!(refused.refuse(key(), "worse".into(), 2));
        refused.mend(&key());
        assert!(refused.refuse(key(), "bad".into(), 2));
    }
}
