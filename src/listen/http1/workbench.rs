//! What all HTTP/1 connections of a worker share between two waits, so that an idle one owns none of it.

use std::cell::{Cell, RefCell};
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;

use super::bad_head::BadHead;
use super::before::Before;
use super::head::{self, Head};
use crate::http1::read_buffer::ReadBuffer;

/// A larger buffer is not kept.
const MOST_BYTES: usize = 16 * 1024;

/// What heads came before, and memory that is used again.
pub(crate) struct Workbench {
    before: RefCell<Before>,
    pub(super) read: ReadBuffer,
    buffer: Cell<Vec<u8>>,
    /// That of the date.
    tick: Cell<u64>,
    date: RefCell<String>,
}

impl Workbench {
    pub(crate) fn new() -> Self {
        Self {
            before: RefCell::new(Before::new()),
            read: ReadBuffer::default(),
            buffer: Cell::default(),
            tick: Cell::new(u64::MAX),
            date: RefCell::default(),
        }
    }

    /// Parses a whole head: see [`head::parse`].
    pub(crate) fn parse(
        &self,
        head: &Bytes,
        most: usize,
        map: impl FnOnce() -> HeaderMap,
    ) -> Result<(usize, Head), BadHead> {
        head::parse(head, most, map, &mut self.before.borrow_mut())
    }

    /// A buffer to write into.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.buffer.take()
    }

    /// Takes one back that is not needed now.
    pub(super) fn keep_buffer(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= MOST_BYTES {
            buffer.clear();
            self.buffer.set(buffer);
        }
    }

    /// The time of that tick, as responses tell it (RFC 9110 §6.6.1).
    pub(super) fn with_date<T>(&self, tick: u64, then: impl FnOnce(&[u8]) -> T) -> T {
        if self.tick.replace(tick) != tick {
            *self.date.borrow_mut() = httpdate::fmt_http_date(SystemTime::now());
        }
        then(self.date.borrow().as_bytes())
    }
}
