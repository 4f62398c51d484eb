//! What became of each directive: nothing is dropped without a word.
//!
//! Whoever translates a directive says so here; whoever cannot says why, and what to do instead. What nobody spoke of is
//! found at the end ([`Ledger::silent`]).

use std::cell::RefCell;
use std::collections::HashSet;

use super::syntax::{Directive, Place};

/// Something to tell of a line of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    /// `None`: of the config as a whole.
    pub(super) place: Option<Place>,
    pub(super) kind: Kind,
    /// The directive and what there is to say of it.
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Translated, but not the same in all respects; or translated by halves.
    Differs,
    /// Not translated, and nothing is lost.
    Needless,
    /// Not translated.
    Left,
}

/// What became of a directive: the worst of all that was said of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    #[default]
    Silent,
    Needless,
    Translated,
    Left,
}

/// How many directives became what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) translated: usize,
    pub(crate) left: usize,
    pub(crate) needless: usize,
    /// Of which nobody spoke; there are none when all is done.
    pub(crate) silent: usize,
}

pub(super) struct Ledger {
    fates: RefCell<Vec<Fate>>,
    remarks: RefCell<Vec<Remark>>,
    /// What was said of which directive: what several places inherit is told once.
    said: RefCell<HashSet<(usize, String)>>,
}

impl Ledger {
    pub(super) fn of(directives: usize) -> Self {
        Self {
            fates: RefCell::new(vec![Fate::Silent; directives]),
            remarks: RefCell::default(),
            said: RefCell::default(),
        }
    }

    /// It is in the output.
    pub(super) fn done(&self, directive: &Directive) {
        self.settle(directive.id, Fate::Translated);
    }

    /// It is in the output, with this difference.
    pub(super) fn differs(&self, directive: &Directive, why: impl Into<String>) {
        self.done(directive);
        self.say(directive, Kind::Differs, why.into());
    }

    /// It is in the output, but for a part that needs no counterpart.
    pub(super) fn but_for(&self, directive: &Directive, why: impl Into<String>) {
        self.done(directive);
        self.say(directive, Kind::Needless, why.into());
    }

    /// It is not in the output, and nothing is lost, for this reason. All of its block with it.
    pub(super) fn needless(&self, directive: &Directive, why: impl Into<String>) {
        self.settle_all(directive, Fate::Needless);
        self.say(directive, Kind::Needless, why.into());
    }

    /// It is not in the output, for this reason. All of its block with it.
    pub(super) fn left(&self, directive: &Directive, why: impl Into<String>) {
        self.settle_all(directive, Fate::Left);
        self.say(directive, Kind::Left, why.into());
    }

    /// Something to know of the config as a whole.
    pub(super) fn general(&self, text: impl Into<String>) {
        let text = text.into();
        let remark = Remark {
            place: None,
            kind: Kind::Differs,
            text,
        };
        let mut remarks = self.remarks.borrow_mut();
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }

    /// Whether nobody spoke of it.
    pub(super) fn silent(&self, directive: &Directive) -> bool {
        let fates = self.fates.borrow();
        fates
            .get(directive.id)
            .is_none_or(|fate| *fate == Fate::Silent)
    }

    /// All remarks in the order of their lines, those of the whole at the end.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        let mut remarks = self.remarks.borrow().clone();
        remarks.sort_by_key(|remark| (remark.place.is_none(), remark.place));
        remarks
    }

    pub(super) fn count(&self) -> Count {
        let fates = self.fates.borrow();
        let number = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
        Count {
            translated: number(Fate::Translated),
            left: number(Fate::Left),
            needless: number(Fate::Needless),
            silent: number(Fate::Silent),
        }
    }

    fn settle(&self, id: usize, fate: Fate) {
        if let Some(known) = self.fates.borrow_mut().get_mut(id) {
            *known = fate.max(*known);
        }
    }

    fn settle_all(&self, directive: &Directive, fate: Fate) {
        self.settle(directive.id, fate);
        for inner in directive.inner() {
            self.settle_all(inner, fate);
        }
    }

    fn say(&self, directive: &Directive, kind: Kind, why: String) {
        if !self.said.borrow_mut().insert((directive.id, why.clone())) {
            return;
        }
        self.remarks.borrow_mut().push(Remark {
            place: Some(directive.place),
            kind,
            text: format!("`{}`: {why}", directive.text()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn the_worst_that_is_said_of_a_directive_counts() {
        let mut count = 0;
        let tree = parse("a; b { c; } d; e;", 0, &mut count).unwrap();
        let ledger = Ledger::of(count);
        ledger.needless(&tree[0], "not needed");
        ledger.done(&tree[0]);
        ledger.left(&tree[1], "unknown");
        ledger.left(&tree[1], "unknown");
        ledger.differs(&tree[2], "a bit");
        assert!(ledger.silent(&tree[3]) && !ledger.silent(&tree[1].inner()[0]));
        assert_eq!(
            ledger.count(),
            Count {
                translated: 2,
                left: 2,
                needless: 0,
                silent: 1
            }
        );
        let texts: Vec<_> = ledger
            .remarks()
            .into_iter()
            .map(|remark| remark.text)
            .collect();
        assert_eq!(texts, ["`a`: not needed", "`b`: unknown", "`d`: a bit"]);
    }
}
