//! What stored bodies lie in: blocks of one size, which are used again and again.
//!
//! Where bodies of all sizes come and go, none of them fits into the hole that another has left, and what an allocator keeps
//! grows to several times what is stored. A block fits wherever another was; that it does not go back to the allocator each
//! time spares that the search.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Of a block, in bytes. What is left of a body beyond whole ones lies by itself.
pub(crate) const BLOCK: usize = 16 * 1024;
/// So many that are not in use are kept in any case, and a sixteenth of those that are.
const SPARE: usize = 64;

/// The blocks of one store.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    free: Mutex<Vec<Vec<u8>>>,
    used: AtomicUsize,
}

impl Blocks {
    fn take(self: &Arc<Self>) -> Block {
        self.used.fetch_add(1, Ordering::Relaxed);
        let free = lock(&self.free).pop();
        Block {
            bytes: free.unwrap_or_else(|| Vec::with_capacity(BLOCK)),
            home: Arc::clone(self),
        }
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        let used = self.used.fetch_sub(1, Ordering::Relaxed);
        bytes.clear();
        let mut free = lock(&self.free);
        if free.len() < SPARE + used / 16 {
            free.push(bytes);
        } else if free.len() > 2 * SPARE + used / 8 {
            // Much was let go at once.
            free.truncate(SPARE + used / 16);
        }
    }
}

/// One in use.
struct Block {
    bytes: Vec<u8>,
    home: Arc<Blocks>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

/// Bytes that came in pieces of any size, in those that they are stored in.
pub(crate) struct Packing {
    blocks: Arc<Blocks>,
    packed: Vec<Bytes>,
    /// One that is not full.
    rest: Option<Block>,
}

impl Packing {
    pub(crate) fn new(blocks: &Arc<Blocks>) -> Self {
        Self {
            blocks: Arc::clone(blocks),
            packed: Vec::new(),
            rest: None,
        }
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut block = self.rest.take().unwrap_or_else(|| self.blocks.take());
            let (first, others) = bytes.split_at(bytes.len().min(BLOCK - block.bytes.len()));
            block.bytes.extend_from_slice(first);
            bytes = others;
            if block.bytes.len() < BLOCK {
                self.rest = Some(block);
            } else {
                self.packed.push(Bytes::from_owner(block));
            }
        }
    }

    /// The blocks that have become whole.
    pub(crate) fn whole(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.packed)
    }

    /// What is in none of them yet, with no more memory than its bytes need.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        let rest = self.rest.take()?;
        Some(Bytes::copy_from_slice(&rest.bytes))
    }

    /// All of them.
    pub(crate) fn end(mut self) -> Vec<Bytes> {
        let rest = self.rest();
        self.packed.extend(rest);
        self.packed
    }
}

fn lock(free: &Mutex<Vec<Vec<u8>>>) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(pieces: &[Vec<u8>]) -> (Arc<Blocks>, Vec<Bytes>) {
        let blocks = Arc::default();
        let mut packing = Packing::new(&blocks);
        pieces.iter().for_each(|piece| packing.push(piece));
        (blocks, packing.end())
    }

    proptest! {
        #[test]
        fn bytes_are_the_same_in_whole_blocks_and_one_rest(
            lengths in prop::collection::vec(prop_oneof![0..100_usize, 0..60_000_usize, Just(BLOCK)], 0..6),
        ) {
            let pieces: Vec<Vec<u8>> = (lengths.iter().zip(0_u8..))
                .map(|(length, number)| (0..*length).map(|at| number ^ at as u8).collect())
                .collect();
            let (_, packed) = packed(&pieces);
            prop_assert_eq!(packed.concat(), pieces.concat());
            let before_the_last = packed.len().saturating_sub(1);
            prop_assert!(packed.iter().take(before_the_last).all(|piece| piece.len() == BLOCK));
            prop_assert!(packed.iter().all(|piece| (1..=BLOCK).contains(&piece.len())));
        }
    }

    #[test]
    fn a_block_is_used_again() {
        let (blocks, pieces) = packed(&[vec![1; BLOCK]]);
        let place = pieces[0].as_ptr();
        drop(pieces);
        let mut again = Packing::new(&blocks);
        again.push(&[2; BLOCK]);
        let again = again.end();
        assert_eq!(again, [vec![2; BLOCK]]);
        assert_eq!(again[0].as_ptr(), place);
    }

    #[test]
    fn of_what_was_let_go_only_some_is_kept() {
        let (blocks, pieces) = packed(&[vec![1; 1000 * BLOCK]]);
        assert_eq!(pieces.len(), 1000);
        drop(pieces);
        assert_eq!(blocks.used.load(Ordering::Relaxed), 0);
        let kept = lock(&blocks.free).len();
        assert!((1..=2 * SPARE + 1).contains(&kept), "{kept}");
    }
}
