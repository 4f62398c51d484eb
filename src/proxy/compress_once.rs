//! Stored bodies are encoded once: quickly for those who ask first, then as well as the operator wants, both off the
//! workers. From then on an encoded response costs what a plain one costs.
//!
//! The one does not wait for the other: until a quick form is there, each response is encoded for itself, and a thorough one
//! of a large body may take minutes.

use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use crate::cache::{Caching, Encodings, Form, Store, Stored};
use crate::compress::Encoder;
use crate::config::Compress;
use crate::semantics::coding::Coding;

/// The form of a stored body in that coding, if it is ready. If there is to be a better one, it is on its way after this.
pub(super) fn form(
    caching: &Caching,
    key: &[u8],
    stored: &Arc<Stored>,
    coding: Coding,
    compress: &Compress,
) -> Option<Form> {
    let encodings = &stored.encodings;
    let form = encodings.form(coding);
    if encodings.claim(coding) {
        let (quick, thorough) = (compress.level.of(coding), compress.stored_level.of(coding));
        let task = Task {
            key: key.into(),
            store: Arc::downgrade(&caching.store),
            stored: Arc::downgrade(stored),
            encodings: Arc::downgrade(encodings),
            coding,
        };
        let long_jobs = caching.long_jobs.clone();
        let is_there = caching.quick_jobs.add(move |runtime| {
            let encode = |plain: &[u8]| Encoder::encode(coding, quick, plain);
            // It may be there from when there was no place for the other job.
            let is_made = task.is_made() || task.run(runtime, encode);
            if !is_made {
                return;
            }
            let claimed = Weak::clone(&task.encodings);
            let is_there = long_jobs.add(move |runtime| {
                task.run(runtime, |plain| {
                    Encoder::encode_thoroughly(coding, thorough, plain)
                });
            });
            if !is_there {
                give_up(&claimed, coding);
            }
        });
        if !is_there {
            encodings.give_up(coding);
        }
    }
    form
}

/// A form that is to be made. What only waits for its turn must not keep from being let go what makes room.
struct Task {
    key: Box<[u8]>,
    store: Weak<Store>,
    stored: Weak<Stored>,
    encodings: Weak<Encodings>,
    coding: Coding,
}

impl Task {
    /// Whether there is a form already.
    fn is_made(&self) -> bool {
        let encodings = self.encodings.upgrade();
        encodings.is_some_and(|encodings| encodings.form(self.coding).is_some())
    }

    /// Makes one, and puts it in the place of a larger one. Whether there was anything to do, and no failure.
    fn run(
        &self,
        runtime: &Handle,
        encode: impl FnOnce(&[u8]) -> std::io::Result<Vec<u8>>,
    ) -> bool {
        let Some(stored) = self.stored.upgrade() else {
            // Gone, or another has taken its place that has the same forms.
            give_up(&self.encodings, self.coding);
            return false;
        };
        let (plain, encodings) = (stored.body.copied(), Arc::clone(&stored.encodings));
        drop(stored);
        let Some(store) = self.store.upgrade() else {
            return false;
        };
        if Arc::strong_count(&encodings) == 1 {
            // It was let go in the meantime.
            return false;
        }
        let Ok(encoded) = encode(&plain) else {
            // Without memory for it, the next one who asks may have more luck.
            encodings.give_up(self.coding);
            return false;
        };
        encodings.set(self.coding, Form::of(encoded, &plain));
        runtime.block_on(store.reweigh(&self.key));
        true
    }
}

fn give_up(claimed: &Weak<Encodings>, coding: Coding) {
    if let Some(encodings) = claimed.upgrade() {
        encodings.give_up(coding);
    }
}
