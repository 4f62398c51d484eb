//! Ids for requests that bring none: `X-Request-Id` and the access log tie together what belongs to one request.
//!
//! An id must be unique, not secret. So the generator is xoshiro256++ (Blackman and Vigna), seeded by the operating
//! system, one for each worker; an id costs some twenty arithmetic instructions.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

/// 128 random bits as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RequestId([u8; 32]);

impl RequestId {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hexadecimal digits are UTF-8")
    }

    /// For a field's value, which needs no check that it is text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn of(bits: [u64; 2]) -> Self {
        let mut text = [0; 32];
        let words = bits.map(|bits| [(bits >> 32) as u32, bits as u32]);
        for (eight, word) in text.as_chunks_mut().0.iter_mut().zip(words.as_flattened()) {
            *eight = digits(*word);
        }
        Self(text)
    }
}

/// Eight hexadecimal digits at once: each nibble becomes a byte of a register, each byte its digit.
fn digits(word: u32) -> [u8; 8] {
    let mut spread = u64::from(word);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let first_letter = u64::from(b'a' - b'0' - 10);
    (spread + 0x3030_3030_3030_3030 + letters * first_letter).to_be_bytes()
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ids of one worker.
#[derive(Debug)]
pub(crate) struct RequestIds {
    state: Cell<[u64; 4]>,
}

impl RequestIds {
    /// Always the same ids for the same seed. The seed is stretched by SplitMix64, as the authors of xoshiro advise.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        let stretched = [(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        });
        Self {
            state: Cell::new(stretched),
        }
    }

    /// Ids that no other worker, process or machine has: 256 bits of seed from the operating system's randomness.
    pub(crate) fn random() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos());
        let state = [1_u8, 2, 3, 4].map(|word| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u8(word);
            hasher.write_u128(now);
            hasher.finish()
        });
        // The one state that xoshiro cannot leave.
        if state == [0; 4] {
            Self::new(now as u64)
        } else {
            Self {
                state: Cell::new(state),
            }
        }
    }

    pub(crate) fn next(&self) -> RequestId {
        RequestId::of([self.draw(), self.draw()])
    }

    /// xoshiro256++.
    fn draw(&self) -> u64 {
        let [mut a, mut b, mut c, mut d] = self.state.get();
        let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        c ^= a;
        d ^= b;
        b ^= c;
        a ^= d;
        c ^= shifted;
        d = d.rotate_left(45);
        self.state.set([a, b, c, d]);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_generator_is_xoshiro256_plus_plus() {
        let ids = RequestIds {
            state: Cell::new([1, 2, 3, 4]),
        };
        let drawn = [(); 4].map(|()| ids.draw());
        // The reference implementation's first numbers from this state.
        assert_eq!(
            drawn,
            [
                41_943_041,
                58_720_359,
                3_588_806_011_781_223,
                3_591_011_842_654_386
            ]
        );
    }

    #[test]
    fn bits_become_digits_in_order() {
        let id = RequestId::of([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        assert_eq!(id.as_str(), "0123456789abcdeffedcba9876543210");
        assert_eq!(id.as_bytes(), id.to_string().as_bytes());
    }

    #[test]
    fn ids_differ_within_a_worker_and_between_workers() {
        let workers = [
            RequestIds::random(),
            RequestIds::random(),
            RequestIds::new(1),
            RequestIds::new(2),
        ];
        let ids: HashSet<RequestId> = workers
            .iter()
            .flat_map(|ids| (0..1000).map(|_| ids.next()))
            .collect();
        assert_eq!(ids.len(), 4000);
    }
}
