//! `gzip`, `brotli`, `zstd` -> `[route.NAME.compress]`.

use super::context::Context;
use super::scope::Scope;
use super::toml::{Table, Toml};
use super::values::{bytes, size};
use crate::semantics::coding::{Coding, MediaPattern};

/// The table, where something is compressed.
pub(super) fn compress(context: &Context<'_>, scope: &Scope<'_>) -> Option<Table> {
    let mut table = Table::default();
    let (mut codings, mut levels) = (Vec::new(), Vec::new());
    let (mut types, mut smallest) = (vec!["text/html".to_owned()], None);
    for (module, coding, range) in MODULES {
        let Some(switch) = scope.find(module) else {
            continue;
        };
        if !switch.says("on") {
            context.ledger.agrees(switch);
            continue;
        }
        context.ledger.done(switch);
        codings.push(coding.to_owned());
        if let Some(level) = level(context, scope, module, range) {
            levels.push((coding.to_owned(), Toml::from(level)));
        }
        types_of(context, scope, module, &mut types);
        let least = least(context, scope, module).unwrap_or(20);
        smallest = Some(smallest.map_or(least, |other: u64| other.min(least)));
    }
    let smallest = smallest?;
    let others = Coding::ALL.map(Coding::name).into_iter();
    let others: Vec<_> = others
        .filter(|name| !codings.iter().any(|coding| coding == name))
        .collect();
    match others.is_empty() {
        true => table.set("codings", codings),
        false => {
            let why = format!("weir also has {}", others.join(" and "));
            table.set_for("codings", codings, why);
        }
    }
    table.set("min_size", bytes(smallest.min(LARGEST_MIN_SIZE)));
    if !levels.is_empty() {
        table.set("level", levels);
    }
    table.set("types", types);
    Some(table)
}

fn level(
    context: &Context<'_>,
    scope: &Scope<'_>,
    module: &str,
    (low, high): (u64, u64),
) -> Option<u64> {
    let directive = scope.find(&format!("{module}_comp_level"))?;
    let Some(level) = directive.arg(0).and_then(|level| level.parse::<u64>().ok()) else {
        context
            .ledger
            .left(directive, "this is no level; weir's default is used");
        return None;
    };
    let near = level.clamp(low, high);
    match near == level {
        true => context.ledger.done(directive),
        false => {
            let why = format!(
                "weir has levels from {low} to {high} while a client waits; {near} is used"
            );
            context.ledger.differs(directive, why);
        }
    }
    Some(near)
}

fn types_of(context: &Context<'_>, scope: &Scope<'_>, module: &str, types: &mut Vec<String>) {
    let Some(directive) = scope.find(&format!("{module}_types")) else {
        return;
    };
    context.ledger.done(directive);
    context.budget().look(directive.args.len());
    for kind in &directive.args {
        let lower = kind.to_ascii_lowercase();
        if kind == "*" {
            types.extend(EVERYTHING.map(str::to_owned));
            context.ledger.differs(
                directive,
                "`*` is every type of text, and of others those that shrink",
            );
        } else if MediaPattern::parse(&lower).is_some() {
            types.push(lower);
        } else {
            let kind = super::syntax::short(kind);
            context.ledger.left(
                directive,
                format!("`{kind}` is no media type; the others are used"),
            );
        }
    }
    let mut seen = std::collections::HashSet::new();
    types.retain(|kind| seen.insert(kind.clone()));
}

fn least(context: &Context<'_>, scope: &Scope<'_>, module: &str) -> Option<u64> {
    let directive = scope.find(&format!("{module}_min_length"))?;
    let least = directive.arg(0).and_then(size);
    match least {
        Some(least) if least > LARGEST_MIN_SIZE => {
            context
                .ledger
                .differs(directive, "weir's `min_size` is 64KiB at most");
        }
        Some(_) => context.ledger.done(directive),
        None => context
            .ledger
            .left(directive, "this is no size; nginx's default is used"),
    }
    least
}

/// What nginx calls a coding, and weir, and the levels that weir has for it.
const MODULES: [(&str, &str, (u64, u64)); 3] = [
    ("brotli", "br", (0, 6)),
    ("zstd", "zstd", (1, 8)),
    ("gzip", "gzip", (1, 9)),
];
/// weir's limit.
const LARGEST_MIN_SIZE: u64 = 64 << 10;
const EVERYTHING: [&str; 6] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/*+json",
    "application/*+xml",
];
