//! How much an import may be: names, locations, listeners and the lines that they inherit multiply, so that a small config can
//! come to gigabytes. What is made and what is looked at is counted, and the import ends before memory does.

use std::cell::Cell;

/// What was made and looked at so far.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: Cell<usize>,
    steps: Cell<usize>,
}

impl Budget {
    /// At least so many bytes will be written.
    pub(super) fn write(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// So many directives, names or the like are looked at.
    pub(super) fn look(&self, steps: usize) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    /// Whether there is no point in going on.
    pub(super) fn is_spent(&self) -> bool {
        self.overrun().is_some()
    }

    /// What there is too much of.
    pub(super) fn overrun(&self) -> Option<&'static str> {
        if self.bytes.get() > LARGEST {
            return Some(TOO_LARGE);
        }
        let why = "what is said once holds at too many places: servers, names, listeners and locations multiply";
        (self.steps.get() > MOST_STEPS).then_some(why)
    }
}

/// What weir reads of its own config.
pub(super) const LARGEST: usize = 8 << 20;
pub(super) const TOO_LARGE: &str =
    "the weir.toml would be larger than 8 MiB, which weir does not take";
/// What fits into 8 MiB takes less than half of it. Without optimisation it takes ten times as long, so that tests have less.
const MOST_STEPS: usize = if cfg!(test) { 500_000 } else { 5_000_000 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_stays_spent() {
        let budget = Budget::default();
        budget.write(LARGEST);
        budget.look(MOST_STEPS);
        assert_eq!(budget.overrun(), None);
        budget.write(1);
        assert!(budget.overrun().is_some_and(|why| why.contains("8 MiB")));
        let budget = Budget::default();
        budget.look(usize::MAX);
        budget.look(1);
        assert!(budget.is_spent());
    }
}
