//! Which directives hold at a place: its own, or those of the blocks around it.

use std::cell::OnceCell;
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
    /// `return`, `if` and `rewrite` as they follow each other.
    acts: Vec<&'d Directive>,
    /// How many directives give a value to each variable, and a `set` that does.
    variables: HashMap<&'d str, (usize, Option<&'d Directive>)>,
    /// The media types of its `types` by extension.
    types: OnceCell<HashMap<&'d str, &'d str>>,
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
        let acts = block.iter().filter(|directive| acts(directive));
        let mut variables = HashMap::new();
        let of_variables = block.iter().filter(|directive| is_of_variables(directive));
        of_variables.for_each(|directive| count(directive, &mut variables));
        Rc::new(Self {
            block,
            by_name,
            acts: acts.collect(),
            variables,
            types: OnceCell::new(),
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

    /// The same as a list of one, or of none.
    pub(super) fn last(&self, name: &str) -> &[&'d Directive] {
        let all = self.all(name);
        all.get(all.len().saturating_sub(1)..).unwrap_or_default()
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

    /// `return`, `if` and `rewrite` of the innermost block, as they follow each other.
    pub(super) fn acts(&self) -> &[&'d Directive] {
        self.levels.last().map_or(&[], |level| &level.acts)
    }

    /// The `set` that gives a variable its value, where nothing else does.
    pub(super) fn set(&self, variable: &str) -> Option<&'d Directive> {
        let found = self.levels.iter();
        let mut found = found.filter_map(|level| level.variables.get(variable));
        match (found.next(), found.next()) {
            (Some((1, set)), None) => *set,
            _ => None,
        }
    }

    /// Those of `names` at the innermost level that has any: `allow` and `deny` are inherited together.
    pub(super) fn together(&self, names: [&str; 2]) -> [&[&'d Directive]; 2] {
        let has_any = |level: &&Rc<Level<'d>>| names.iter().any(|name| !level.all(name).is_empty());
        let level = self.levels.iter().rev().find(has_any);
        level.map_or([&[], &[]], |level| names.map(|name| level.all(name)))
    }

    /// What `types` says of an extension, unless there is none that holds.
    pub(super) fn media_type(&self, extension: &str) -> Option<Option<&'d str>> {
        let mut levels = self.levels.iter().rev();
        let level = levels.find(|level| !level.all("types").is_empty())?;
        let types = level.types.get_or_init(|| {
            let mut types = HashMap::new();
            for entry in level.all("types").iter().flat_map(|table| table.inner()) {
                for extension in &entry.args {
                    types.entry(extension.as_str()).or_insert(&*entry.name);
                }
            }
            types
        });
        Some(types.get(extension).copied())
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

fn acts(directive: &Directive) -> bool {
    ["return", "if", "rewrite"].contains(&directive.name.as_str())
}

/// Counts what gives values to variables. What an `if` sets depends on the request.
fn count<'d>(
    directive: &'d Directive,
    variables: &mut HashMap<&'d str, (usize, Option<&'d Directive>)>,
) {
    let name = directive.name.as_str();
    if name == "if" {
        let inner = directive.inner().iter();
        inner
            .filter(|inner| is_of_variables(inner))
            .for_each(|inner| count(inner, variables));
    }
    let place = match name {
        "map" | "split_clients" => 1,
        "geo" => directive.args.len().saturating_sub(1),
        _ => 0,
    };
    let variable = directive.arg(place).and_then(|arg| arg.strip_prefix('$'));
    if let Some(variable) = variable {
        let (times, set) = variables.entry(variable).or_default();
        *times += 1;
        let is_plain =
            name == "set" && matches!(&*directive.args, [_, value] if !value.contains('$'));
        *set = Some(directive).filter(|_| is_plain && *times == 1);
    }
}

/// Whether it gives values to variables, or may have such inside.
fn is_of_variables(directive: &Directive) -> bool {
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
