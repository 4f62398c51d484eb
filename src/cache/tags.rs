//! Which stored responses have a tag: `Cache-Tag`, whose members commas part, and `Surrogate-Key`, with spaces between.
//!
//! A response is in the index for as long as it is held, whoever drops it last, so what is found may be gone from the
//! store but what is in the store is found.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use http::HeaderMap;

use super::Refusal;

/// The tags of one response, in the case they were written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags(Box<[Box<[u8]>]>);

impl Tags {
    /// Refused if there are too many or one is too long: what could not be found by one of its tags is better not stored.
    pub(super) fn of(response: &HeaderMap) -> Result<Self, Refusal> {
        let by_commas = members(response, "cache-tag", |byte| byte == b',');
        let by_spaces = members(response, "surrogate-key", |byte| byte.is_ascii_whitespace());
        let mut tags: Vec<Box<[u8]>> = Vec::new();
        for tag in by_commas.chain(by_spaces) {
            if tag.len() > LONGEST || tags.len() == MOST {
                return Err(Refusal::TooManyTags);
            }
            tags.push(tag.into());
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(Self(tags.into()))
    }

    pub(super) fn contain(&self, tag: &[u8]) -> bool {
        self.0.iter().any(|own| **own == *tag)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|tag| &**tag)
    }

    /// Here and in the index.
    pub(super) fn size(&self) -> usize {
        let sizes = self.0.iter().map(|tag| 2 * tag.len() + ENTRY);
        sizes.sum()
    }
}

const MOST: usize = 128;
const LONGEST: usize = 1024;
/// What a tag of a response takes beside its text, about.
const ENTRY: usize = 128;

fn members<'h>(
    response: &'h HeaderMap,
    name: &str,
    separates: fn(u8) -> bool,
) -> impl Iterator<Item = &'h [u8]> {
    let fields = response.get_all(name).iter();
    let members = fields.flat_map(move |field| field.as_bytes().split(move |&b| separates(b)));
    members.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

/// Keys by tag. In parts with a lock each, which is held for a short time only, and never while something is awaited.
#[derive(Debug)]
pub(super) struct Index {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
    next: AtomicU64,
}

/// By the number of the response, so that the keys of a tag can be gone through in slices while others come and go.
type Part = HashMap<Box<[u8]>, BTreeMap<u64, Arc<[u8]>>, RandomState>;
const PARTS: usize = 16;

impl Index {
    pub(super) fn new() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::default(),
            next: AtomicU64::new(0),
        }
    }

    /// The response of this key is found by its tags from now on. `None` if it has none.
    pub(super) fn enter(self: &Arc<Self>, key: &Arc<[u8]>, tags: Tags) -> Option<Tagged> {
        if tags.0.is_empty() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        for tag in &tags.0 {
            let mut part = self.part(tag);
            match part.get_mut(tag) {
                Some(keys) => keys.insert(number, Arc::clone(key)),
                None => part
                    .entry(tag.clone())
                    .or_default()
                    .insert(number, Arc::clone(key)),
            };
        }
        Some(Tagged {
            index: Arc::clone(self),
            number,
            tags,
        })
    }

    /// Some keys of a tag, those of the oldest responses first, from where the last call ended. `None`: that was all.
    pub(super) fn slice(&self, tag: &[u8], after: &mut Option<u64>) -> Option<Vec<Arc<[u8]>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let part = self.part(tag);
        let found = part.get(tag)?.range((from, Bound::Unbounded)).take(SLICE);
        let mut keys = Vec::new();
        for (&number, key) in found {
            *after = Some(number);
            keys.push(Arc::clone(key));
        }
        (!keys.is_empty()).then_some(keys)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.parts
            .iter()
            .all(|part| part.lock().unwrap().is_empty())
    }

    fn part(&self, tag: &[u8]) -> MutexGuard<'_, Part> {
        let number = self.hasher.hash_one(tag) as usize % PARTS;
        // Nothing that is done under the lock leaves half of it behind.
        let [first, ..] = &self.parts;
        let part = self.parts.get(number).unwrap_or(first);
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SLICE: usize = 256;

/// A response that is in the index, until this is dropped.
#[derive(Debug)]
pub(super) struct Tagged {
    index: Arc<Index>,
    number: u64,
    pub(super) tags: Tags,
}

impl Drop for Tagged {
    fn drop(&mut self) {
        for tag in &self.tags.0 {
            let mut part = self.index.part(tag);
            let Some(keys) = part.get_mut(tag) else {
                continue;
            };
            keys.remove(&self.number);
            if keys.is_empty() {
                part.remove(tag);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::headers;

    fn tags(fields: &[(&str, &str)]) -> Result<Vec<String>, Refusal> {
        let tags = Tags::of(&headers(fields))?;
        Ok(tags
            .iter()
            .map(|tag| String::from_utf8_lossy(tag).into_owned())
            .collect())
    }

    #[test]
    fn the_tags_of_a_response() {
        let (commas, spaces) = ("cache-tag", "surrogate-key");
        for (fields, expected) in [
            (&[][..], &[][..]),
            (&[(commas, "a, b c ,,A")], &["A", "a", "b c"]),
            (&[(spaces, "a  b,c A")], &["A", "a", "b,c"]),
            (
                &[(commas, "a"), (commas, "b"), (spaces, "b d")],
                &["a", "b", "d"],
            ),
        ] {
            assert_eq!(tags(fields).unwrap(), expected);
        }
        let long = "x".repeat(1024);
        assert!(tags(&[(commas, &long)]).is_ok());
        assert_eq!(
            tags(&[(commas, &format!("{long}x"))]),
            Err(Refusal::TooManyTags)
        );
        let many: String = (0..128).map(|n| format!("{n} ")).collect();
        assert_eq!(tags(&[(spaces, &many)]).unwrap().len(), 128);
        assert_eq!(
            tags(&[(spaces, &many), (commas, "x")]),
            Err(Refusal::TooManyTags)
        );
    }

    #[test]
    fn keys_are_found_by_their_tags_for_as_long_as_they_are_entered() {
        let index = Arc::new(Index::new());
        let enter = |key: &str, tag: &str| {
            let tags = Tags::of(&headers(&[("cache-tag", tag)])).unwrap();
            index.enter(&Arc::from(key.as_bytes()), tags)
        };
        let found = |tag: &str| {
            let (mut after, mut found) = (None, Vec::new());
            while let Some(keys) = index.slice(tag.as_bytes(), &mut after) {
                found.extend(
                    keys.iter()
                        .map(|key| String::from_utf8_lossy(key).into_owned()),
                );
            }
            found
        };
        let one = enter("1", "a,b").unwrap();
        let two = enter("2", "b").unwrap();
        let again = enter("1", "a").unwrap();
        assert!(enter("3", "").is_none());
        assert_eq!(
            (found("a"), found("b")),
            (vec!["1".into(), "1".into()], vec!["1".into(), "2".into()])
        );
        drop(one);
        assert_eq!(
            (found("a"), found("b")),
            (vec!["1".to_owned()], vec!["2".to_owned()])
        );
        let many: Vec<_> = (0..1000).map(|_| enter("4", "c").unwrap()).collect();
        assert_eq!(found("c").len(), 1000);
        drop((two, again, many));
        assert!(index.is_empty());
    }
}
