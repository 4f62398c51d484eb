//! What is counted of the certificates that clients see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::exposition::Page;
use super::labels::Renewal;
use super::metrics::{Metrics, lock};
use crate::units::ListenName;

/// A certificate in use.
pub(crate) struct CertificateNow {
    pub(crate) listen: ListenName,
    /// The file that it is from, as the config writes it.
    pub(crate) cert: String,
    pub(crate) expires: Option<SystemTime>,
}

/// Tells of every certificate at the time of the call.
pub(crate) type CertificateSource = dyn Fn() -> Vec<CertificateNow> + Send + Sync;

impl Metrics {
    /// Where to ask for the certificates.
    pub(crate) fn set_certificates(&self, source: Arc<CertificateSource>) {
        *lock(&self.certificates) = Some(source);
    }

    /// Counts what became of a certificate whose files changed.
    pub(crate) fn renewed(&self, result: Renewal) {
        self.renewals[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn write_certificates(&self, page: &mut Page) {
        let source = lock(&self.certificates).clone();
        // A file that is named twice is one series.
        let mut all = BTreeMap::new();
        for each in source.map(|source| source()).unwrap_or_default() {
            let expires = each
                .expires
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            if let Some(expires) = expires {
                all.insert((each.listen, each.cert), expires.as_secs_f64());
            }
        }
        page.gauges(
            "weir_certificate_expiry_timestamp_seconds",
            "When a certificate expires.",
            |series| {
                for ((listen, cert), expires) in &all {
                    series.gauge(&[("listen", listen.as_str()), ("cert", cert)], *expires);
                }
            },
        );
        page.counters(
            "weir_certificate_renewals_total",
            "Certificates whose files changed.",
            |series| {
                for (result, count) in Renewal::ALL.into_iter().zip(&self.renewals) {
                    series.counter(&[("result", result.label())], count.load(Ordering::Relaxed));
                }
            },
        );
    }
}
