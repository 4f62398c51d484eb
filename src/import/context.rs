//! What every part of the import needs to know of the rest.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use super::behind::{Behind, Hidden};
use super::budget::Budget;
use super::ledger::Ledger;
use super::syntax::{Directive, Place};
use super::toml::Table;

pub(super) struct Context<'d> {
    pub(super) ledger: Ledger,
    /// The names of the files that were read.
    pub(super) files: Vec<String>,
    /// Where each of them, by its number, is included.
    pub(super) included: HashMap<usize, Place>,
    /// How often the file of each of these numbers was read.
    pub(super) times: Vec<usize>,
    /// The directory of the main file, absolute where that can be known.
    pub(super) directory: PathBuf,
    /// The `upstream` blocks by their names.
    pub(super) blocks: HashMap<String, &'d Directive>,
    /// How long the zones of `proxy_cache_path` keep what nobody asks for.
    pub(super) zones: HashMap<String, std::time::Duration>,
    /// The upstreams so far, and their names by what they do.
    pub(super) made: RefCell<Vec<Made>>,
    pub(super) by_essence: RefCell<HashMap<String, String>>,
    pub(super) upstream_names: RefCell<Names>,
    pub(super) route_names: RefCell<Names>,
    /// The upstreams of closed routes, by what they do.
    pub(super) hidden: RefCell<HashMap<String, Rc<Hidden>>>,
    /// What closed routes, by their names, would do.
    pub(super) behind: RefCell<HashMap<String, Behind>>,
    /// Rules of access that were told, by the number of the first of a block.
    pub(super) told_guards: RefCell<HashSet<usize>>,
    /// Whether anything is forwarded to servers.
    pub(super) forwards: Cell<bool>,
}

/// A table of the output.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) comments: Vec<String>,
    pub(super) table: Table,
}

impl<'d> Context<'d> {
    pub(super) fn budget(&self) -> &Budget {
        &self.ledger.budget
    }

    pub(super) fn upstream(&self, name: &str) -> Option<&'d Directive> {
        self.blocks.get(&name.to_ascii_lowercase()).copied()
    }

    /// `FILE:LINE`
    pub(super) fn at(&self, place: Place) -> String {
        let file = self.files.get(place.file).map_or("", String::as_str);
        format!("{file}:{}", place.line)
    }

    /// `FILE:LINE, LINE, FILE:LINE`
    pub(super) fn all_at(&self, places: &[Place]) -> String {
        let mut out = String::new();
        let mut last = None;
        for place in places {
            let name = self.files.get(place.file);
            if last.is_some() {
                out.push_str(", ");
            }
            match last == Some(name) {
                true => out.push_str(&place.line.to_string()),
                false => out.push_str(&self.at(*place)),
            }
            last = Some(name);
        }
        out
    }

    /// How often the file of a place is included.
    pub(super) fn times_included(&self, place: Place) -> usize {
        self.times.get(place.file).copied().unwrap_or_default()
    }

    /// Where a directive stands and what it says.
    pub(super) fn origin(&self, directive: &Directive) -> String {
        format!("{}: {}", self.at(directive.place), directive.text())
    }

    /// The path of a file that nginx looks for beside its main file, absolute; `None` for what is no plain path.
    pub(super) fn file(&self, written: &str) -> Option<String> {
        let is_plain = !written.is_empty()
            && !written.contains('$')
            && !written.starts_with("data:")
            && !written.starts_with("engine:")
            && !written.chars().any(char::is_control);
        let path = self.directory.join(written);
        is_plain
            .then(|| path.display().to_string())
            .filter(|path| !path.contains("${"))
    }

    /// The name of an upstream that is this table; a new one, like `base`, unless there is one that does the same.
    pub(super) fn upstream_name(&self, base: &str, table: Table, comments: Vec<String>) -> String {
        let essence = table.written_essence();
        let mut known = self.by_essence.borrow_mut();
        if let Some(same) = known.get(&essence) {
            return same.clone();
        }
        let name = self.upstream_names.borrow_mut().free(base, "app");
        known.insert(essence, name.clone());
        self.budget().write(name.len() + table.size());
        self.made.borrow_mut().push(Made {
            name: name.clone(),
            comments,
            table,
        });
        name
    }

    /// A name for a route, like `base`.
    pub(super) fn route_name(&self, base: &str) -> String {
        self.route_names.borrow_mut().free(base, "site")
    }
}

/// Names of one kind, each given once.
#[derive(Default)]
pub(super) struct Names {
    given: HashSet<String>,
    /// Which number to go on with.
    next: HashMap<String, u64>,
}

impl Names {
    /// `base`, or `default` where that is empty, with a number behind it where the name is taken.
    pub(super) fn free(&mut self, base: &str, default: &str) -> String {
        let base = if base.is_empty() { default } else { base };
        let next = self.next.entry(base.to_owned()).or_insert(1);
        loop {
            let name = match *next {
                1 => base.to_owned(),
                number => format!("{base}-{number}"),
            };
            *next += 1;
            if self.given.insert(name.clone()) {
                return name;
            }
        }
    }
}
