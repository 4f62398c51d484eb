//! What a worker knows of heads that came before: their lines, and whole field sections.
//!
//! A browser that loads the images of a page says the same of itself each time, and a program that calls another always
//! does. Where all fields are as they were, they are not read again, but shared: that saves 7,000 instructions of a
//! request with fourteen of them.
//!
//! Who guesses all that another has said, to the last byte, could tell from the microsecond that it saves that it was said
//! here; who can do that has no need to.

use std::hash::BuildHasher as _;

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::HeaderMap;

use super::bad_head::BadHead;
use super::section::{Meaning, Section, read_section};
use crate::http1::known_lines::KnownLines;
use crate::http1::lines::Lines;
use crate::http1::repeated::Repeated;

/// With [`MAX_SECTION`], [`MAX_FIELDS`] and two sections in each, those of a worker take some 400 KiB at most, with what was
/// made of them.
const SLOTS: usize = 32;
/// The longest section that is kept, in bytes.
const MAX_SECTION: usize = 2048;
/// One of more fields is not kept either.
const MAX_FIELDS: usize = 24;

/// Lines and sections.
pub(crate) struct Before {
    pub(super) lines: KnownLines<Meaning>,
    sections: Repeated<Section, SLOTS>,
    /// Of random keys: who gets in the way of whom is left to chance.
    hasher: RandomState,
}

impl Before {
    pub(crate) fn new() -> Self {
        Self {
            lines: KnownLines::new(),
            sections: Repeated::new(),
            hasher: RandomState::default(),
        }
    }

    /// What to ask for all of `bytes` with, the empty line included; `None` if such a section is not kept.
    pub(super) fn fingerprint(&self, bytes: &[u8]) -> Option<u64> {
        (bytes.len() <= MAX_SECTION).then(|| self.hasher.hash_one(bytes))
    }

    /// The section of that fingerprint that all of `bytes` are, if it is known.
    pub(super) fn section(&mut self, bytes: &[u8], fingerprint: u64) -> Option<Section> {
        self.sections.find(bytes, fingerprint).cloned()
    }

    /// All of `bytes` were read as that section, and were not known.
    pub(super) fn came(
        &mut self,
        bytes: &[u8],
        fingerprint: u64,
        section: &Section,
    ) -> Result<(), BadHead> {
        let most = section.fields.len();
        if most <= MAX_FIELDS && self.sections.came_before(fingerprint) {
            // From a copy, so that no buffer is kept for it.
            let bytes = Bytes::copy_from_slice(bytes);
            let map = HeaderMap::with_capacity(most);
            let kept = read_section(&mut Lines::lenient(&bytes), most, map, &mut self.lines)?;
            self.sections.keep(bytes, fingerprint, kept);
        }
        Ok(())
    }
}
