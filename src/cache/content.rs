//! A stored body, in the pieces that it lies in.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// All of a body, shared by all who are sent it.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pieces: Pieces,
    length: usize,
}

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Several(Arc<[Bytes]>),
}

impl Default for Content {
    fn default() -> Self {
        Self::from(Bytes::new())
    }
}

/// A body that is one piece already, and owns no more than its bytes.
impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self {
            length: bytes.len(),
            pieces: Pieces::One(bytes),
        }
    }
}

impl From<Vec<Bytes>> for Content {
    fn from(mut pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(Bytes::len).sum();
        let pieces = match pieces.len() {
            0 | 1 => Pieces::One(pieces.pop().unwrap_or_default()),
            _ => Pieces::Several(pieces.into()),
        };
        Self { pieces, length }
    }
}

impl Content {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// One after the other.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        match &self.pieces {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Several(pieces) => pieces,
        }
    }

    /// All of it, if it is in one piece.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        match &self.pieces {
            Pieces::One(piece) => Some(piece),
            Pieces::Several(_) => None,
        }
    }

    /// A copy in one piece.
    pub(crate) fn copied(&self) -> Bytes {
        match &self.pieces {
            Pieces::One(piece) => piece.clone(),
            Pieces::Several(pieces) => {
                let mut bytes = BytesMut::with_capacity(self.length);
                pieces
                    .iter()
                    .for_each(|piece| bytes.extend_from_slice(piece));
                bytes.freeze()
            }
        }
    }

    /// A part of it, which must not reach beyond its end. Nothing is copied.
    pub(crate) fn part(&self, range: &Range<usize>) -> impl Iterator<Item = Bytes> {
        let mut before = 0;
        self.pieces().iter().filter_map(move |piece| {
            let begin = range.start.max(before).min(before + piece.len()) - before;
            let end = range.end.max(before).min(before + piece.len()) - before;
            before += piece.len();
            (begin < end).then(|| piece.slice(begin..end))
        })
    }
}

#[cfg(test)]
impl PartialEq<&str> for Content {
    fn eq(&self, other: &&str) -> bool {
        self.copied() == *other
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_in_pieces_is_the_same_body(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
            range in (0..100_usize, 0..100_usize),
        ) {
            let whole = pieces.concat();
            let content = Content::from(pieces.into_iter().map(Bytes::from).collect::<Vec<_>>());
            prop_assert_eq!(content.len(), whole.len());
            prop_assert_eq!(&content.copied()[..], &whole[..]);
            prop_assert_eq!(content.pieces().concat(), whole.clone());
            let end = range.1.min(whole.len());
            let range = range.0.min(end)..end;
            let part: Vec<_> = content.part(&range).collect();
            prop_assert_eq!(part.concat(), &whole[range]);
        }
    }
}
