//! Bytes that come over and over, and what was made of them.
//!
//! Whoever knows them again need not read them again. Nothing is believed of bytes that are not the same, each one of them,
//! and nothing is kept of what came once: so neither is it possible to be told what another said, nor do bytes that never
//! come twice cost a copy.

use bytes::Bytes;

/// Slots with two places each, in which what comes most is found.
pub(crate) struct Repeated<T, const SLOTS: usize> {
    slots: Box<[Slot<T>]>,
}

/// Bytes of like fingerprints; those that came last are the first.
struct Slot<T> {
    kept: [Option<Kept<T>>; 2],
    /// The fingerprint of bytes that came instead of those kept. If they come again before the second of these does, they take
    /// its place.
    candidate: u64,
}

struct Kept<T> {
    fingerprint: u64,
    bytes: Bytes,
    meaning: T,
}

impl<T, const SLOTS: usize> Repeated<T, SLOTS> {
    pub(crate) fn new() -> Self {
        let slot = |_| Slot {
            kept: [None, None],
            candidate: 0,
        };
        Self {
            slots: (0..SLOTS).map(slot).collect(),
        }
    }

    /// What was made of these bytes, if that is kept.
    #[inline]
    pub(crate) fn find(&mut self, bytes: &[u8], fingerprint: u64) -> Option<&T> {
        let slot = self.slot(fingerprint)?;
        let is_it = |kept: &Option<Kept<T>>| {
            let kept = kept.as_ref().filter(|kept| kept.fingerprint == fingerprint);
            kept.is_some_and(|kept| kept.bytes == bytes)
        };
        let [first, second] = &mut slot.kept;
        if !is_it(first) {
            if !is_it(second) {
                return None;
            }
            std::mem::swap(first, second);
            slot.candidate = 0;
        }
        first.as_ref().map(|kept| &kept.meaning)
    }

    /// Whether bytes that are not kept are to be [kept](Self::keep): they came before.
    pub(crate) fn came_before(&mut self, fingerprint: u64) -> bool {
        self.slot(fingerprint)
            .is_some_and(|slot| std::mem::replace(&mut slot.candidate, fingerprint) == fingerprint)
    }

    /// Knows `bytes` from now on. They should be a copy: what they are cut from is kept with them.
    pub(crate) fn keep(&mut self, bytes: Bytes, fingerprint: u64, meaning: T) {
        if let Some(slot) = self.slot(fingerprint) {
            let [first, second] = &mut slot.kept;
            *second = first.replace(Kept {
                fingerprint,
                bytes,
                meaning,
            });
        }
    }

    fn slot(&mut self, fingerprint: u64) -> Option<&mut Slot<T>> {
        let place = usize::try_from(fingerprint >> 32).unwrap_or(0) % SLOTS;
        self.slots.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(repeated: &mut Repeated<(), 1>, bytes: &'static str, fingerprint: u64) -> bool {
        if repeated.find(bytes.as_bytes(), fingerprint).is_some() {
            return true;
        }
        if repeated.came_before(fingerprint) {
            repeated.keep(Bytes::from_static(bytes.as_bytes()), fingerprint, ());
        }
        false
    }

    #[test]
    fn what_came_twice_is_known() {
        let mut repeated = Repeated::new();
        let seen = [(); 4].map(|()| see(&mut repeated, "a", 1));
        assert_eq!(seen, [false, false, true, true]);
    }

    #[test]
    fn bytes_of_the_same_fingerprint_are_told_apart() {
        let mut repeated = Repeated::new();
        for _ in 0..3 {
            see(&mut repeated, "one", 7);
        }
        assert!(repeated.find(b"one", 7).is_some());
        assert!(repeated.find(b"other", 7).is_none());
    }

    /// A date, say, which is another one each second.
    #[test]
    fn what_takes_turns_with_another_is_known_as_well() {
        let mut repeated = Repeated::new();
        for (bytes, fingerprint) in [("1", 11), ("1", 11), ("old", 9), ("old", 9)] {
            see(&mut repeated, bytes, fingerprint);
        }
        let turns = [("1", 11), ("new", 12)];
        let seen = [(); 4].map(|()| turns.map(|(bytes, print)| see(&mut repeated, bytes, print)));
        assert_eq!(seen[3], [true, true], "{seen:?}");
    }

    #[test]
    fn what_comes_once_takes_no_place_and_what_comes_no_more_gives_it_up() {
        let mut repeated = Repeated::new();
        let (one, other, third) = (("1", 11), ("2", 12), ("3", 13));
        for (bytes, fingerprint) in [one, one, other, other, third, one, third, other, third, one] {
            see(&mut repeated, bytes, fingerprint);
        }
        assert!(repeated.find(b"3", 13).is_none());
        for (bytes, fingerprint) in [other, third, third] {
            see(&mut repeated, bytes, fingerprint);
        }
        assert!(repeated.find(b"3", 13).is_some());
        assert!(repeated.find(b"2", 12).is_some());
        assert!(repeated.find(b"1", 11).is_none());
    }
}
