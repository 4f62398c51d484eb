//! Stored bodies are encoded once: quickly for those who ask first, then as well as the operator wants, both off the
//! workers. From then on an encoded response costs what a plain one costs.

use std::sync::Arc;

use crate::cache::{Caching, Form, Stored};
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
        let key = Box::from(key);
        // What only waits for its turn must not keep from being let go what makes room.
        let (store, waiting) = (Arc::downgrade(&caching.store), Arc::downgrade(stored));
        let claimed = Arc::downgrade(encodings);
        let is_there = caching.jobs.add(move |runtime| {
            let Some(stored) = waiting.upgrade() else {
                // Gone, or another has taken its place that has the same forms.
                return claimed.upgrade().iter().for_each(|it| it.give_up(coding));
            };
            let (plain, shared) = (stored.body.copied(), Arc::clone(&stored.encodings));
            drop(stored);
            for is_quick in [true, false] {
                let Some(store) = store.upgrade().filter(|_| Arc::strong_count(&shared) > 1) else {
                    // It was let go in the meantime.
                    return;
                };
                let encoded = if is_quick {
                    Encoder::encode(coding, quick, &plain)
                } else {
                    Encoder::encode_thoroughly(coding, thorough, &plain)
                };
                match encoded {
                    Ok(encoded) => shared.set(coding, Form::of(encoded, &plain)),
                    // Without memory for it, the next one who asks may have more luck.
                    Err(_) => return shared.give_up(coding),
                }
                runtime.block_on(store.reweigh(&key));
            }
        });
        if !is_there {
            encodings.give_up(coding);
        }
    }
    form
}
