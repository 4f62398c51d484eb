//! Listeners, numbered over all states.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::HeaderValue;
use ipnet::IpNet;

use super::Surroundings;
use crate::config::{self, Config, RedirectToHttps};
use crate::deadline::Ticks;
use crate::units::ListenName;

/// `[listen.NAME]` at work.
pub(crate) struct Listener {
    /// Its place in `State::listeners`, kept over reloads for as long as the process lives.
    pub(crate) number: usize,
    pub(crate) name: ListenName,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) http2: bool,
    pub(crate) redirect_to_https: Option<RedirectToHttps>,
    /// `Strict-Transport-Security`, where it is to be sent.
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) limits: ListenLimits,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Its connections, over all workers and states.
    pub(crate) open: Arc<AtomicUsize>,
}

/// The limits of a listener, in the units that the data plane counts in.
pub(crate) struct ListenLimits {
    pub(crate) header_timeout: Ticks,
    pub(crate) stall_timeout: Ticks,
    pub(crate) keepalive: Ticks,
    pub(crate) max_connection_age: Option<Ticks>,
    pub(crate) max_header_size: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_target_size: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_concurrent_streams: u32,
}

impl Listener {
    pub(super) fn build_all(config: &Config, around: &Surroundings<'_>) -> Vec<Option<Arc<Self>>> {
        let known = around
            .previous
            .map(|state| state.listeners.as_slice())
            .unwrap_or_default();
        let mut numbers: HashMap<&ListenName, usize> = known
            .iter()
            .flatten()
            .map(|listener| (&listener.name, listener.number))
            .collect();
        let mut next = known.len();
        for listener in &config.listeners {
            numbers.entry(&listener.name).or_insert_with(|| {
                next += 1;
                next - 1
            });
        }
        let mut all: Vec<Option<Arc<Self>>> = std::iter::repeat_with(|| None).take(next).collect();
        for listener in &config.listeners {
            let Some((number, slot)) = numbers
                .get(&listener.name)
                .and_then(|&number| Some((number, all.get_mut(number)?)))
            else {
                continue;
            };
            *slot = Some(Arc::new(Self::build(listener, number, around)));
        }
        all
    }

    pub(super) fn build(
        listener: &config::Listener,
        number: usize,
        around: &Surroundings<'_>,
    ) -> Self {
        let hsts = listener.tls.as_ref().and_then(|tls| tls.hsts);
        let before = around.previous.and_then(|state| state.listener(number));
        Self {
            number,
            name: listener.name.clone(),
            trusted_proxies: listener.trusted_proxies.clone(),
            http2: listener.http2,
            redirect_to_https: listener.redirect_to_https,
            hsts: hsts
                .and_then(|age| HeaderValue::try_from(format!("max-age={}", age.as_secs())).ok()),
            limits: ListenLimits::build(&listener.limits, around),
            tls: listener.tls.as_ref().map(|tls| (around.tls)(listener, tls)),
            open: before
                .map(|before| Arc::clone(&before.open))
                .unwrap_or_default(),
        }
    }
}

impl ListenLimits {
    fn build(limits: &config::ListenLimits, around: &Surroundings<'_>) -> Self {
        Self {
            header_timeout: Ticks::of(limits.header_timeout),
            stall_timeout: Ticks::of(limits.stall_timeout),
            keepalive: Ticks::of(limits.keepalive),
            max_connection_age: limits.max_connection_age.map(Ticks::of),
            max_header_size: limits.max_header_size.as_usize(),
            max_headers: limits.max_headers,
            max_target_size: limits.max_target_size.as_usize(),
            max_connections: limits
                .max_connections
                .unwrap_or_else(|| auto_max_connections(around.max_files)),
            max_concurrent_streams: limits.max_concurrent_streams,
        }
    }
}

/// Each client may need a connection to a server; some files are for everything else.
fn auto_max_connections(max_files: u64) -> usize {
    usize::try_from(max_files.saturating_sub(200) / 2)
        .unwrap_or(usize::MAX)
        .max(64)
}
