//! What became of each directive: nothing is dropped without a word.
//!
//! Whoever translates a directive says so here; whoever cannot says why, and what to do instead. What nobody spoke of is
//! found at the end ([`Ledger::silent`]). What is translated for a table that may come to nothing is said in a [`Draft`]: unless
//! the table gets into the output it counts as not said, and is told.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::budget::Budget;
use super::syntax::{Directive, Place};

/// Something to tell of a line of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    /// `None`: of the config as a whole.
    pub(super) place: Option<Place>,
    pub(super) kind: Kind,
    /// The directive and what there is to say of it.
    pub(super) text: String,
    /// What is said of many lines alike is told of the first of them.
    pub(super) group: Option<&'static str>,
    /// Of which directive, and what.
    said: Option<(usize, Rc<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Translated, but not the same in all respects; or translated by halves.
    Differs,
    /// Not translated, and nothing is lost.
    Needless,
    /// Not translated.
    Left,
    /// The same of what lets clients in or keeps them out.
    Access,
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
    /// Every word about a directive counts.
    pub(super) budget: Budget,
    fates: RefCell<Vec<Fate>>,
    remarks: RefCell<Vec<Remark>>,
    /// What was said of which directive: what several places inherit is told once.
    said: RefCell<HashSet<(usize, Rc<str>)>>,
    said_of_all: RefCell<HashSet<String>>,
    /// All that was settled since the first of the drafts that last, so that each can be taken back.
    journal: RefCell<Vec<Entry>>,
    /// How many drafts last.
    drafts: Cell<usize>,
    /// Why directives that may be in the output elsewhere are not in it everywhere.
    refused: RefCell<HashMap<usize, String>>,
    /// Why directives are not in the output, if they are nowhere in it.
    dropped: RefCell<HashMap<usize, String>>,
    /// Why directives change nothing at some place.
    idle: RefCell<HashMap<usize, &'static str>>,
    /// What closed routes have in their comments.
    put_off: RefCell<Vec<PutOff>>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: usize,
    place: Place,
    fate: Fate,
    before: Fate,
    /// Whether it stays when the rest is taken back.
    stays: bool,
}

/// Directives that a closed route has in its comment.
#[derive(Clone, Debug)]
pub(super) struct PutOff {
    /// Of the location.
    pub(super) at: Remark,
    pub(super) directives: Vec<(usize, Place)>,
}

/// What is said while it lasts is taken back when it ends, unless it is kept.
#[must_use = "what is said is taken back when it ends"]
pub(super) struct Draft<'l> {
    ledger: &'l Ledger,
    settled: usize,
    remarks: usize,
    why: String,
    ended: bool,
}

impl Draft<'_> {
    /// Its table is in the output.
    pub(super) fn keep(mut self) {
        self.ended = true;
        self.ledger.end_draft();
    }

    /// Its table is in the comment of the closed route of `location`.
    pub(super) fn put_off(mut self, location: &Directive) {
        self.ended = true;
        let directives = self.ledger.take_back(self.settled, self.remarks);
        self.ledger.end_draft();
        let at = Remark::of(location, Kind::Access, &Rc::from(""));
        let put_off = PutOff { at, directives };
        self.ledger.put_off.borrow_mut().push(put_off);
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut dropped = self.ledger.dropped.borrow_mut();
        for (id, _) in self.ledger.take_back(self.settled, self.remarks) {
            dropped.entry(id).or_insert_with(|| self.why.clone());
        }
        self.ledger.end_draft();
    }
}

impl Remark {
    fn of(directive: &Directive, kind: Kind, why: &Rc<str>) -> Self {
        Self {
            place: Some(directive.place),
            kind,
            text: format!("`{}`: {why}", directive.text()),
            group: None,
            said: Some((directive.id, why.clone())),
        }
    }
}

impl Ledger {
    pub(super) fn of(directives: usize) -> Self {
        Self {
            budget: Budget::default(),
            fates: RefCell::new(vec![Fate::Silent; directives]),
            remarks: RefCell::default(),
            said: RefCell::default(),
            said_of_all: RefCell::default(),
            journal: RefCell::default(),
            drafts: Cell::new(0),
            refused: RefCell::default(),
            dropped: RefCell::default(),
            idle: RefCell::default(),
            put_off: RefCell::default(),
        }
    }

    /// What is said from here on is of a table that may come to nothing; in that case for this reason.
    pub(super) fn draft(&self, why: impl Into<String>) -> Draft<'_> {
        self.drafts.set(self.drafts.get() + 1);
        Draft {
            ledger: self,
            settled: self.journal.borrow().len(),
            remarks: self.remarks.borrow().len(),
            why: why.into(),
            ended: false,
        }
    }

    fn end_draft(&self) {
        let others = self.drafts.get().saturating_sub(1);
        self.drafts.set(others);
        if others == 0 {
            self.journal.borrow_mut().clear();
        }
    }

    /// It is in the output.
    pub(super) fn done(&self, directive: &Directive) {
        self.settle(directive, Fate::Translated);
    }

    /// weir does the same where nothing is said: there is nothing to write, not even in the place of a closed route.
    pub(super) fn agrees(&self, directive: &Directive) {
        self.budget.look(directive.weight());
        self.settle_at(directive.id, directive.place, Fate::Translated, true);
    }

    /// It is in the output, with this difference.
    pub(super) fn differs(&self, directive: &Directive, why: impl Into<String>) {
        self.done(directive);
        self.say(directive, Kind::Differs, why.into(), None);
    }

    /// The same for a difference that many lines of that group have.
    pub(super) fn differs_alike(
        &self,
        directive: &Directive,
        group: &'static str,
        why: impl Into<String>,
    ) {
        self.done(directive);
        self.say(directive, Kind::Differs, why.into(), Some(group));
    }

    /// The same with nothing to write, as with [`Self::agrees`].
    pub(super) fn agrees_but(&self, directive: &Directive, group: &'static str, why: &str) {
        self.agrees(directive);
        self.say(directive, Kind::Differs, why.to_owned(), Some(group));
    }

    /// It changes nothing where it holds here, for this reason; told at the end unless it does elsewhere.
    pub(super) fn idle(&self, directive: &Directive, why: &'static str) {
        self.budget.look(directive.weight());
        self.idle.borrow_mut().insert(directive.id, why);
    }

    /// It is not in the output here, which is told unless it is elsewhere.
    pub(super) fn drops(&self, directive: &Directive, why: &str) {
        self.budget.look(directive.weight());
        let mut dropped = self.dropped.borrow_mut();
        dropped
            .entry(directive.id)
            .or_insert_with(|| why.to_owned());
    }

    /// Why it changes nothing, if that is all there is to say.
    pub(super) fn is_idle(&self, directive: &Directive) -> Option<&'static str> {
        self.idle.borrow().get(&directive.id).copied()
    }

    /// It is not in the output at one of the places where it holds, which is told at the end even if it is at others.
    pub(super) fn refuse(&self, directive: &Directive, why: &str) {
        let mut refused = self.refused.borrow_mut();
        refused
            .entry(directive.id)
            .or_insert_with(|| why.to_owned());
    }

    /// It is not in the output, and lets clients in or keeps them out. All of its block with it.
    pub(super) fn access(&self, directive: &Directive, why: impl Into<String>) {
        self.settle_all(directive, Fate::Left);
        self.say(directive, Kind::Access, why.into(), None);
    }

    /// It is in the output, but for a part that needs no counterpart.
    pub(super) fn but_for(&self, directive: &Directive, why: impl Into<String>) {
        self.done(directive);
        self.say(directive, Kind::Needless, why.into(), None);
    }

    /// It is not in the output, and nothing is lost, for this reason. All of its block with it.
    pub(super) fn needless(&self, directive: &Directive, why: impl Into<String>) {
        self.settle_all(directive, Fate::Needless);
        self.say(directive, Kind::Needless, why.into(), None);
    }

    /// It is not in the output, for this reason. All of its block with it.
    pub(super) fn left(&self, directive: &Directive, why: impl Into<String>) {
        self.settle_all(directive, Fate::Left);
        self.say(directive, Kind::Left, why.into(), None);
    }

    /// Something to know of the config as a whole.
    pub(super) fn general(&self, text: impl Into<String>) {
        let text = text.into();
        if !self.said_of_all.borrow_mut().insert(text.clone()) {
            return;
        }
        self.remarks.borrow_mut().push(Remark {
            place: None,
            kind: Kind::Differs,
            text,
            group: None,
            said: None,
        });
    }

    /// Whether nobody spoke of it.
    pub(super) fn silent(&self, directive: &Directive) -> bool {
        let fates = self.fates.borrow();
        fates
            .get(directive.id)
            .is_none_or(|fate| *fate == Fate::Silent)
    }

    /// Why it is not in the output, or not everywhere, where nothing was told of that.
    pub(super) fn missed(&self, directive: &Directive) -> Option<String> {
        let fate = self.fates.borrow().get(directive.id).copied();
        let why = |reasons: &RefCell<HashMap<usize, String>>| {
            reasons.borrow().get(&directive.id).cloned()
        };
        match fate.unwrap_or_default() {
            Fate::Silent => why(&self.refused).or_else(|| why(&self.dropped)),
            Fate::Translated => why(&self.refused),
            Fate::Needless | Fate::Left => None,
        }
    }

    /// Tells of closed routes which lines their comments have, of those that are nowhere else in the output.
    pub(super) fn settle_put_off(&self, why: impl Fn(&[Place]) -> String) {
        for PutOff { mut at, directives } in self.put_off.take() {
            let is_silent = |id: usize| {
                let fates = self.fates.borrow();
                fates.get(id).is_some_and(|fate| *fate == Fate::Silent)
            };
            let mut places = Vec::new();
            for (id, place) in directives {
                if is_silent(id) {
                    self.settle_at(id, place, Fate::Left, true);
                    places.push(place);
                }
            }
            places.sort_unstable();
            places.dedup();
            if !places.is_empty() {
                at.text.push_str(&why(&places));
                self.remarks.borrow_mut().push(at);
            }
        }
    }

    /// It is told of with others of its file.
    pub(super) fn left_with_others(&self, directive: &Directive) {
        self.settle_all(directive, Fate::Left);
    }

    /// Tells of several lines at once, at the place that they have in common.
    pub(super) fn left_together(&self, place: Place, text: String) {
        self.remarks.borrow_mut().push(Remark {
            place: Some(place),
            kind: Kind::Left,
            text,
            group: None,
            said: None,
        });
    }

    /// All remarks in the order of their lines, those of access first, those of the whole at the end.
    pub(super) fn take_remarks(&self) -> Vec<Remark> {
        let mut remarks = self.remarks.take();
        remarks.sort_by_key(|remark| {
            let is_of_access = remark.kind == Kind::Access;
            (!is_of_access, remark.place.is_none(), remark.place)
        });
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

    fn settle(&self, directive: &Directive, fate: Fate) {
        self.budget.look(directive.weight());
        let stays = fate != Fate::Translated;
        self.settle_at(directive.id, directive.place, fate, stays);
    }

    fn settle_at(&self, id: usize, place: Place, fate: Fate, stays: bool) {
        if let Some(known) = self.fates.borrow_mut().get_mut(id) {
            let before = *known;
            *known = fate.max(before);
            if self.drafts.get() == 0 {
                return;
            }
            self.journal.borrow_mut().push(Entry {
                id,
                place,
                fate,
                before,
                stays,
            });
        }
    }

    fn settle_all(&self, directive: &Directive, fate: Fate) {
        self.settle(directive, fate);
        for inner in directive.inner() {
            self.settle_all(inner, fate);
        }
    }

    fn say(&self, directive: &Directive, kind: Kind, why: String, group: Option<&'static str>) {
        let why = Rc::from(why);
        if !self
            .said
            .borrow_mut()
            .insert((directive.id, Rc::clone(&why)))
        {
            return;
        }
        // What is told is kept to the end.
        self.budget.look(1 + why.len() / 64);
        let remark = Remark::of(directive, kind, &why);
        self.remarks.borrow_mut().push(Remark { group, ..remark });
    }

    /// Takes back that something is in the output, and in which way it differs there. Which directives that was said of.
    fn take_back(&self, settled: usize, remarks: usize) -> Vec<(usize, Place)> {
        let entries = self.journal.borrow_mut().split_off(settled);
        for entry in entries.iter().rev() {
            if let Some(fate) = self.fates.borrow_mut().get_mut(entry.id) {
                *fate = entry.before;
            }
        }
        let mut taken = Vec::new();
        let (mut seen, mut agreed) = (HashSet::new(), HashSet::new());
        for entry in entries {
            if entry.stays {
                self.settle_at(entry.id, entry.place, entry.fate, true);
                if entry.fate == Fate::Translated {
                    agreed.insert(entry.id);
                }
            } else if seen.insert(entry.id) {
                taken.push((entry.id, entry.place));
            }
        }
        let mut told = self.remarks.borrow_mut();
        let mut said = self.said.borrow_mut();
        for remark in told.split_off(remarks) {
            match &remark.said {
                Some(differs) if remark.kind == Kind::Differs && !agreed.contains(&differs.0) => {
                    said.remove(differs);
                }
                _ => told.push(remark),
            }
        }
        taken
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
            .take_remarks()
            .into_iter()
            .map(|remark| remark.text)
            .collect();
        assert_eq!(texts, ["`a`: not needed", "`b`: unknown", "`d`: a bit"]);
    }

    #[test]
    fn what_comes_to_nothing_is_as_if_it_had_not_been_said() {
        let mut count = 0;
        let tree = parse("a; b; c;", 0, &mut count).unwrap();
        let ledger = Ledger::of(count);
        ledger.done(&tree[1]);
        {
            let _draft = ledger.draft("no table");
            ledger.done(&tree[0]);
            ledger.differs(&tree[1], "a bit");
            ledger.left(&tree[2], "unknown");
        }
        assert!(ledger.silent(&tree[0]) && !ledger.silent(&tree[1]));
        assert_eq!(ledger.missed(&tree[0]).as_deref(), Some("no table"));
        assert_eq!(ledger.missed(&tree[1]), None);
        ledger.refuse(&tree[1], "not everywhere");
        assert_eq!(ledger.missed(&tree[1]).as_deref(), Some("not everywhere"));
        assert_eq!(ledger.remarks.borrow().len(), 1, "{:?}", ledger.remarks);
        let draft = ledger.draft("no table");
        ledger.differs(&tree[1], "a bit");
        draft.keep();
        assert_eq!(ledger.take_remarks().len(), 2);
        assert!(ledger.journal.borrow().is_empty());
    }
}
