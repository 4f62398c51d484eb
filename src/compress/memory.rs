//! A bound on the memory of all encoders and decoders that one worker has at work.
//!
//! Each response that is encoded or decoded on its way has a codec of its own, for as long as its client takes to read it.
//! Hundreds of slow clients would hold a gigabyte. What all of them need together is bounded here. Beyond that a response that
//! was to be encoded goes out as it is, which costs bytes and no memory; what would have to be decoded is asked of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::decode::ZSTD_WINDOW;
use crate::semantics::coding::Coding;

/// In KiB. At the default levels 64 encoders of br, 85 of zstd, 320 of gzip; 25 decoders of br with the window that is most
/// usual, 7 with the largest.
const BUDGET: u32 = 128 * 1024;

/// What one worker may still spend on codecs.
#[derive(Debug, Default)]
pub(crate) struct CodecMemory {
    /// KiB. Shared: what is at work beside the worker is given back there.
    used: Arc<AtomicU32>,
}

impl CodecMemory {
    /// Sets aside what an encoder takes at most; `None` if there is too little left.
    pub(crate) fn take(&self, coding: Coding, level: u32) -> Option<CodecPermit> {
        self.spend(cost(coding, level))
    }

    /// The same for a decoder of a body that begins with that byte, where that is known.
    pub(crate) fn take_for_decoder(
        &self,
        coding: Coding,
        begin: Option<u8>,
    ) -> Option<CodecPermit> {
        self.spend(cost_of_decoder(coding, begin))
    }

    fn spend(&self, cost: u32) -> Option<CodecPermit> {
        let permit = CodecPermit {
            used: Arc::clone(&self.used),
            cost,
        };
        let before = self.used.fetch_add(cost, Ordering::Relaxed);
        // Dropped, it gives back what it took.
        (before + cost <= BUDGET).then_some(permit)
    }
}

/// Lasts as long as its codec.
#[derive(Debug)]
pub(crate) struct CodecPermit {
    used: Arc<AtomicU32>,
    cost: u32,
}

impl Drop for CodecPermit {
    fn drop(&mut self) {
        self.used.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

/// In KiB, by the figures of `encode.rs`: those of the default level up to that, those of the highest above.
fn cost(coding: Coding, level: u32) -> u32 {
    match (coding, level) {
        (Coding::Br, ..=4) => 2048,
        (Coding::Br, _) => 3584,
        (Coding::Zstd, ..=3) => 1536,
        (Coding::Zstd, _) => 5376,
        (Coding::Gzip, _) => 409,
    }
}

/// In KiB: the window that the body asks for, and what is beside it.
fn cost_of_decoder(coding: Coding, begin: Option<u8>) -> u32 {
    match coding {
        Coding::Br => 1024 + (1 << (begin.map_or(BR_LARGEST_WINDOW, br_window) - 10)),
        // Each frame may ask for more than the one before it.
        Coding::Zstd => 512 + (1 << (ZSTD_WINDOW - 10)),
        Coding::Gzip => 64,
    }
}

/// The exponent of the window (RFC 7932 §9.1).
fn br_window(begin: u8) -> u32 {
    match (begin & 1, begin >> 1 & 7, begin >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        (_, 0, more) => 8 + u32::from(more),
        (_, more, _) => 17 + u32::from(more),
    }
    .max(10)
}

const BR_LARGEST_WINDOW: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_are_refused_beyond_the_budget_and_free_it_when_they_end() {
        for (coding, level, most) in [
            (Coding::Br, 4, 64),
            (Coding::Br, 6, 36),
            (Coding::Zstd, 3, 85),
            (Coding::Zstd, 8, 24),
            (Coding::Gzip, 9, 320),
        ] {
            let memory = CodecMemory::default();
            let mut permits: Vec<_> = std::iter::from_fn(|| memory.take(coding, level))
                .take(1000)
                .collect();
            assert_eq!(permits.len(), most, "{coding:?} {level}");
            permits.pop();
            assert!(memory.take(coding, level).is_some());
            drop(permits);
            assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn decoders_spend_what_their_windows_take() {
        use crate::compress::Encoder;
        let body = Encoder::encode_thoroughly(Coding::Br, 5, &[b'x'; 1 << 20]).unwrap();
        assert_eq!(body.first().copied().map(br_window), Some(20));
        let body = Encoder::encode(Coding::Br, 4, &[b'x'; 1 << 20]).unwrap();
        assert_eq!(body.first().copied().map(br_window), Some(16));
        for (coding, begin, most) in [
            (Coding::Br, None, 7),
            (Coding::Br, Some(0x0b), 25),
            (Coding::Br, Some(0), 120),
            (Coding::Zstd, None, 15),
            (Coding::Gzip, None, 2048),
        ] {
            let memory = CodecMemory::default();
            let permits: Vec<_> = std::iter::from_fn(|| memory.take_for_decoder(coding, begin))
                .take(3000)
                .collect();
            assert_eq!(permits.len(), most, "{coding:?} {begin:?}");
        }
    }
}
