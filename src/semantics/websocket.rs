//! Where the frames of a WebSocket begin and end (RFC 6455 §5.2), so that whoever carries them can say goodbye between two.

/// A Close frame with status 1001, "going away" (RFC 6455 §7.4.1), as a server sends it.
pub(crate) const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// The same as a client sends it: masked. Of a frame whose content everybody knows the key needs not be secret.
pub(crate) const GOING_AWAY_MASKED: [u8; 8] = [0x88, 0x80 | 2, 0, 0, 0, 0, 0x03, 0xe9];

/// Two bytes, eight of length, four of a key.
const LONGEST_HEAD: usize = 14;
const CLOSE: u8 = 8;

/// One direction of a WebSocket, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; LONGEST_HEAD],
    /// How much of the next frame's head is there.
    known: usize,
    /// What is still to come of the payload.
    payload: u64,
    is_closed: bool,
}

impl Frames {
    /// More bytes came.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.payload > 0 {
                let length = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let length = length.min(bytes.len());
                self.payload -= length as u64;
                bytes = bytes.get(length..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.known) {
                *place = first;
            }
            self.known += 1;
            bytes = rest;
            if self.known >= self.length_of_head() {
                self.payload = self.length_of_payload();
                self.is_closed |= self.head[0] & 0x0f == CLOSE;
                self.known = 0;
            }
        }
    }

    /// Whether a frame may come now: all before are whole, and none of them was the last.
    pub(crate) fn may_begin(&self) -> bool {
        self.known == 0 && self.payload == 0 && !self.is_closed
    }

    fn length_of_head(&self) -> usize {
        if self.known < 2 {
            return 2;
        }
        let key = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        match self.head[1] & 0x7f {
            126 => 4 + key,
            127 => 10 + key,
            _ => 2 + key,
        }
    }

    fn length_of_payload(&self) -> u64 {
        let [_, _, lengths @ ..] = &self.head;
        match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([lengths[0], lengths[1]])),
            127 => lengths
                .iter()
                .take(8)
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([0x81; 4]);
        }
        frame.extend(vec![0x88; length]);
        frame
    }

    proptest! {
        /// However the bytes are split, a frame may begin where one has ended and nowhere else.
        #[test]
        fn a_frame_begins_where_another_ends(
            frames in proptest::collection::vec((0..3_u8, any::<bool>(), 0..70_000_usize), 1..5),
            step in 1..9_000_usize,
        ) {
            let mut direction = Frames::default();
            prop_assert!(direction.may_begin());
            for (opcode, masked, length) in frames {
                let frame = frame(opcode, masked, length);
                let mut pieces = frame.chunks(step).peekable();
                while let Some(piece) = pieces.next() {
                    direction.pass(piece);
                    prop_assert_eq!(direction.may_begin(), pieces.peek().is_none());
                }
            }
        }

        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Frames::default().pass(&bytes);
        }
    }

    #[test]
    fn after_a_close_frame_none_begins() {
        for close in [&GOING_AWAY[..], &GOING_AWAY_MASKED[..]] {
            let mut direction = Frames::default();
            direction.pass(&frame(1, false, 5));
            direction.pass(close);
            assert!(!direction.may_begin());
            assert_eq!((direction.known, direction.payload), (0, 0), "it is whole");
        }
    }
}
