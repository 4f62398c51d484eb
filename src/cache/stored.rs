//! A stored response.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::lines::{encoded_lines, lines};
use super::{Content, Encodings, Lease};
use crate::semantics::coding::{Coding, Content as Coded};

/// A response, without what is of one connection only.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) status: StatusCode,
    /// With a place for those that are of the moment when it is sent.
    pub(crate) headers: HeaderMap,
    /// See [`Self::lines`].
    lines: Bytes,
    /// One for each coding. Boxed: few responses have any.
    encoded_lines: OnceLock<Box<[OnceLock<Bytes>; Coding::COUNT]>>,
    /// All of it, shared by all who are sent it. Empty while it is on its way.
    pub(crate) body: Content,
    /// How long the body is, where that is known.
    pub(crate) length: Option<u64>,
    /// How the body is encoded by its server.
    pub(crate) coded: Coded,
    pub(crate) lease: Lease,
    /// When it came, by the clock on the wall.
    pub(crate) received_at: SystemTime,
    /// Of the body, where that has no coding of its own. Shared by all that are made of this response.
    pub(crate) encodings: Arc<Encodings>,
    /// How long after it came its server failed last, in milliseconds; 0: never.
    failed: AtomicU64,
}

impl Clone for Stored {
    fn clone(&self) -> Self {
        self.with(self.headers.clone(), self.lease.clone(), self.received_at)
    }
}

/// A server that has just failed is not asked again for so long, if there is something to be had without it.
const JUST_NOW: Duration = Duration::from_secs(1);

impl Stored {
    /// A whole response.
    pub(crate) fn new(
        status: StatusCode,
        headers: HeaderMap,
        body: impl Into<Content>,
        lease: Lease,
        received_at: SystemTime,
    ) -> Self {
        let body = body.into();
        let length = Some(body.len() as u64);
        // As it grew, the map has room for half as many again; a clone has not.
        let mut headers = headers.clone();
        let lines = lines(status, &mut headers, body.len()).unwrap_or_default();
        Self {
            body,
            lines,
            ..Self::head(status, headers, length, lease, received_at)
        }
    }

    /// The head of a response whose body is on its way.
    pub(crate) fn head(
        status: StatusCode,
        headers: HeaderMap,
        length: Option<u64>,
        lease: Lease,
        received_at: SystemTime,
    ) -> Self {
        Self {
            status,
            coded: Coded::of(&headers),
            headers,
            lines: Bytes::new(),
            encoded_lines: OnceLock::new(),
            body: Content::default(),
            length,
            lease,
            received_at,
            encodings: Arc::default(),
            failed: AtomicU64::new(0),
        }
    }

    /// The fields as HTTP/1 sends them, but for those that are filled in when they are sent. Empty where the response does not
    /// go out as it is: its body is on its way, or has no length to be told.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The same for its form in that coding, without the length. Written when they are asked for first.
    pub(crate) fn encoded_lines(&self, coding: Coding) -> Bytes {
        let known = self.encoded_lines.get();
        let known = known.and_then(|all| all.get(coding as usize)?.get());
        known.cloned().unwrap_or_else(|| {
            let lines = encoded_lines(self.status, &self.headers, coding).unwrap_or_default();
            // No worker waits for another: whoever is first has written them for all.
            if self.encoded_lines.get().is_none() {
                let _ = self.encoded_lines.set(Box::default());
            }
            let place = self.encoded_lines.get();
            if let Some(place) = place.and_then(|all| all.get(coding as usize)) {
                let _ = place.set(lines.clone());
            }
            lines
        })
    }

    /// The same response, whole.
    pub(crate) fn with_body(&self, headers: HeaderMap, body: impl Into<Content>) -> Self {
        Self::new(
            self.status,
            headers,
            body,
            self.lease.clone(),
            self.received_at,
        )
    }

    /// The same response as its server speaks of it now.
    pub(crate) fn with(&self, headers: HeaderMap, lease: Lease, received_at: SystemTime) -> Self {
        Self {
            encodings: Arc::clone(&self.encodings),
            ..Self::new(self.status, headers, self.body.clone(), lease, received_at)
        }
    }

    /// The server failed to give another.
    pub(crate) fn failed(&self, now: Instant) {
        let after = now.saturating_duration_since(self.lease.received);
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.failed.store(after.max(1), Ordering::Relaxed);
    }

    /// Whether the server has failed just now.
    pub(crate) fn has_just_failed(&self, now: Instant) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        let since = now.saturating_duration_since(self.lease.received);
        failed > 0 && since < Duration::from_millis(failed) + JUST_NOW
    }

    /// In memory, in bytes. What is kept beside it is counted here too.
    pub(super) fn size(&self) -> u64 {
        let fields = self.headers.iter();
        // Where there are lines, the values are parts of them; each form has lines of its own.
        let values = usize::from(self.lines.is_empty());
        let fields = fields.map(|(name, value)| name.as_str().len() + values * value.len() + FIELD);
        let lines = self.lines.len() * (1 + self.encodings.count());
        (self.body.len() + fields.sum::<usize>() + lines + self.encodings.size()) as u64
    }
}

/// What a field takes in the map, beside its bytes.
const FIELD: usize = 112;
