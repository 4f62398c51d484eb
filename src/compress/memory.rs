//! A bound on the memory of all encoders that one worker has at work.
//!
//! Each response that is encoded on its way has an encoder of its own, for as long as its client takes to read it. Hundreds
//! of slow clients would hold a gigabyte. What all of them need together is bounded here; a response beyond that goes out
//! as it is, which costs bytes and no memory.

use std::cell::Cell;
use std::rc::Rc;

use crate::semantics::coding::Coding;

/// In KiB. At the default levels 64 encoders of br, 85 of zstd, 320 of gzip.
const BUDGET: u32 = 128 * 1024;

/// What one worker may still spend on encoders.
#[derive(Debug, Default)]
pub(crate) struct EncoderMemory {
    /// KiB.
    used: Rc<Cell<u32>>,
}

impl EncoderMemory {
    /// Sets aside what an encoder takes at most; `None` if there is too little left.
    pub(crate) fn take(&self, coding: Coding, level: u32) -> Option<EncoderPermit> {
        let cost = cost(coding, level);
        let used = self.used.get() + cost;
        (used <= BUDGET).then(|| {
            self.used.set(used);
            EncoderPermit {
                used: Rc::clone(&self.used),
                cost,
            }
        })
    }
}

/// Lasts as long as its encoder.
#[derive(Debug)]
pub(crate) struct EncoderPermit {
    used: Rc<Cell<u32>>,
    cost: u32,
}

impl Drop for EncoderPermit {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.cost);
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
            let memory = EncoderMemory::default();
            let mut permits: Vec<_> = std::iter::from_fn(|| memory.take(coding, level))
                .take(1000)
                .collect();
            assert_eq!(permits.len(), most, "{coding:?} {level}");
            permits.pop();
            assert!(memory.take(coding, level).is_some());
            drop(permits);
            assert_eq!(memory.used.get(), 0);
        }
    }
}
