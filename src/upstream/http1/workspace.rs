//! What all connections of a worker share between two waits, so that an idle one owns none of it.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use http::HeaderMap;

use super::head::{Asked, BadHead, Meaning, ResponseHead, parse_response};
use crate::http1::known_lines::KnownLines;
use crate::http1::read_buffer::ReadBuffer;

/// A map with room for more fields is not kept.
const MOST_FIELDS: usize = 64;

/// The buffer that messages are read into, and the field lines of responses that came before.
pub(crate) struct Workspace {
    pub(super) buffer: ReadBuffer,
    known: RefCell<KnownLines<Meaning>>,
    /// The map of a response that was sent.
    spare_fields: Cell<HeaderMap>,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self {
            buffer: ReadBuffer::default(),
            known: RefCell::new(KnownLines::new()),
            spare_fields: Cell::default(),
        }
    }

    /// The fields of a response were sent; their map is for the next one.
    pub(crate) fn keep_fields(&self, mut fields: HeaderMap) {
        if (1..=MOST_FIELDS).contains(&fields.capacity()) {
            fields.clear();
            self.spare_fields.set(fields);
        }
    }

    /// Parses the response head at the beginning of `bytes`: see [`parse_response`].
    pub(crate) fn parse(
        &self,
        bytes: &Bytes,
        asked: Asked,
    ) -> Result<Option<(usize, ResponseHead)>, BadHead> {
        parse_response(
            bytes,
            asked,
            &mut self.known.borrow_mut(),
            &self.spare_fields,
        )
    }
}
