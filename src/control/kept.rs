//! The configs that ran last, each with the contents of its files, so that it can run again without them.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::config::{Config, Contents};

/// How many are kept, the one that runs included,
pub(super) const MOST: usize = 10;
/// and how much of them beside that one and the one before: the main file alone may have 8 MiB.
const MOST_BYTES: usize = 64 << 20;

/// A config that ran.
#[derive(Clone, Debug)]
pub(crate) struct Good {
    pub(crate) hash: String,
    pub(crate) contents: Contents,
    pub(crate) taken_at: SystemTime,
}

impl Good {
    pub(super) fn now(config: &Config) -> Self {
        Self {
            hash: config.hash.clone(),
            contents: config.contents.clone(),
            taken_at: SystemTime::now(),
        }
    }
}

/// In the order in which they ran, the one that runs last. Each is there once.
#[derive(Debug, Default)]
pub(crate) struct Kept(VecDeque<Good>);

impl Kept {
    /// `good` runs from now on.
    pub(crate) fn take(&mut self, mut good: Good) {
        if let Some(before) = self.0.back() {
            good.contents.share(&before.contents);
        }
        self.0.retain(|known| known.hash != good.hash);
        self.0.push_back(good);
        while self.0.len() > MOST || self.0.len() > 2 && self.size() > MOST_BYTES {
            self.0.pop_front();
        }
    }

    /// The one that runs has other contents now. Returns it.
    pub(super) fn renew(&mut self, contents: &Contents) -> Option<Good> {
        let runs = self.0.back_mut()?;
        runs.contents.clone_from(contents);
        Some(runs.clone())
    }

    /// The one that ran before the one that runs.
    pub(crate) fn previous(&self) -> Option<&Good> {
        self.0.iter().nth_back(1)
    }

    /// The one with that hash.
    pub(crate) fn find(&self, hash: &str) -> Option<&Good> {
        self.0.iter().find(|good| good.hash == hash)
    }

    /// All, the one that runs first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Good> {
        self.0.iter().rev()
    }

    fn size(&self) -> usize {
        self.0.iter().map(|good| good.contents.size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(hash: &str, size: usize) -> Good {
        // Contents of their own: what is the same in two would be held once.
        let mut content = hash.as_bytes().to_vec();
        content.resize(size, b' ');
        Good {
            hash: hash.into(),
            contents: Contents::new([("/weir.toml".into(), content.into())]),
            taken_at: SystemTime::UNIX_EPOCH,
        }
    }

    fn hashes(kept: &Kept) -> Vec<&str> {
        kept.all().map(|good| &*good.hash).collect()
    }

    #[test]
    fn what_ran_before_is_what_a_rollback_returns_to() {
        let mut kept = Kept::default();
        assert!(kept.previous().is_none());
        for hash in ["a", "b", "c"] {
            kept.take(good(hash, 9));
        }
        assert_eq!(kept.previous().unwrap().hash, "b");
        kept.take(good("b", 9));
        assert_eq!(
            hashes(&kept),
            ["b", "c", "a"],
            "a rollback can be rolled back"
        );
        kept.take(good("b", 9));
        assert_eq!(
            hashes(&kept),
            ["b", "c", "a"],
            "the same once more is nothing new"
        );
        assert_eq!(kept.find("a").unwrap().hash, "a");
        assert!(kept.find("x").is_none());
    }

    #[test]
    fn they_are_bounded_in_number_and_in_size() {
        let mut kept = Kept::default();
        for number in 0..15 {
            kept.take(good(&number.to_string(), 9));
        }
        assert_eq!(kept.all().count(), MOST);
        assert_eq!(kept.previous().unwrap().hash, "13");
        for hash in ["x", "y", "z"] {
            kept.take(good(hash, MOST_BYTES / 2 + 1));
        }
        assert_eq!(hashes(&kept), ["z", "y"]);
    }
}
