//! Which directives hold at a place: its own, or those of the blocks around it.

use std::collections::HashMap;
use std::rc::Rc;

use super::syntax::Directive;

/// The blocks around a place, the outermost first, its own last.
#[derive(Clone, Debug)]
pub(super) struct Scope<'d> {
    levels: Vec<Rc<Level<'d>>>,
}

/// A block, by the names of what is in it: servers with thousands of locations are looked through for each of these.
#[derive(Debug)]
struct Level<'d> {
    block: &'d [Directive],
    by_name: HashMap<&'d str, Vec<&'d Directive>>,
    /// Those that give values to variables, or may have such inside.
    of_variables: Vec<&'d Directive>,
}

impl<'d> Level<'d> {
    fn of(block: &'d [Directive]) -> Rc<Self> {
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for directive in block {
            by_name
                .entry(directive.name.as_str())
                .or_default()
                .push(directive);
        }
        let of_variables = block.iter().filter(|directive| is_of_variables(directive));
        Rc::new(Self {
            block,
            by_name,
            of_variables: of_variables.collect(),
        })
    }

    fn all(&self, name: &str) -> &[&'d Directive] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

impl<'d> Scope<'d> {
    pub(super) fn of(block: &'d [Directive]) -> Self {
        Self {
            levels: vec![Level::of(block)],
        }
    }

    /// A block inside.
    pub(super) fn within(&self, block: &'d [Directive]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(Level::of(block));
        Self { levels }
    }

    /// The directive that holds: the innermost, and of several the last.
    pub(super) fn find(&self, name: &str) -> Option<&'d Directive> {
        self.all(name).last().copied()
    }

    /// All of one name that hold together. A level that has one of its own inherits none, as with nginx's `add_header`.
    pub(super) fn all(&self, name: &str) -> &[&'d Directive] {
        let mut levels = self.levels.iter().rev().map(|level| level.all(name));
        levels.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// All of one name in the innermost block, which inherits none: what acts, such as `return`.
    pub(super) fn own(&self, name: &str) -> &[&'d Directive] {
        self.levels.last().map_or(&[], |level| level.all(name))
    }

    /// All that gives values to variables at any level, or may have such inside; the innermost first.
    pub(super) fn of_variables(&self) -> impl Iterator<Item = &'d Directive> {
        let levels = self.levels.iter().rev();
        levels.flat_map(|level| level.of_variables.iter().copied())
    }

    /// Those of `names` at the innermost level that has any: `allow` and `deny` are inherited together.
    pub(super) fn together(&self, names: [&str; 2]) -> Vec<&'d Directive> {
        let of_level = |level: &Rc<Level<'d>>| -> Vec<_> {
            let found = names.iter().flat_map(|name| level.all(name));
            found.copied().collect()
        };
        let mut levels = self.levels.iter().rev().map(of_level);
        levels.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// Whether it holds and says `on`.
    pub(super) fn is_on(&self, name: &str) -> Option<&'d Directive> {
        self.find(name).filter(|directive| directive.says("on"))
    }

    /// The innermost block.
    pub(super) fn block(&self) -> &'d [Directive] {
        self.levels.last().map_or(&[], |level| level.block)
    }
}

/// Whether it gives values to variables, or may have such inside.
pub(super) fn is_of_variables(directive: &Directive) -> bool {
    let name = directive.name.as_str();
    ["set", "if", "map", "geo", "split_clients"].contains(&name)
        || name.starts_with("set_")
        || name.ends_with("_set")
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn a_level_with_its_own_inherits_none() {
        let tree = parse("a 1; a 2; s { b; l { a 3; } }", 0, &mut 0).unwrap();
        let server = Scope::of(&tree).within(tree[2].inner());
        let location = server.within(tree[2].inner()[1].inner());
        let texts = |scope: &Scope<'_>| -> Vec<String> {
            scope.all("a").iter().map(|found| found.text()).collect()
        };
        assert_eq!(texts(&server), ["a 1", "a 2"]);
        assert_eq!(texts(&location), ["a 3"]);
        assert_eq!(server.find("a").map(Directive::text), Some("a 2".into()));
        assert_eq!((server.own("a").len(), location.own("a").len()), (0, 1));
    }
}
