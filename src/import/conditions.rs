//! `if` blocks that are understood: they ask for the host, or for what is the same for all requests of a place.

use super::context::Context;
use super::syntax::Directive;
use super::text::Known;
use crate::semantics::host;

/// What an `if` comes to before any request is there.
pub(super) enum Condition<'d> {
    Host(String, &'d Directive),
    Always(&'d Directive),
    Never,
    Unknown,
}

/// Of `if ($host = NAME) { return …; }` and of such as ask for the scheme.
pub(super) fn condition<'d>(
    directive: &'d Directive,
    known: &Known<'_>,
    context: &Context<'_>,
) -> Condition<'d> {
    let [inner] = directive.inner() else {
        return Condition::Unknown;
    };
    let text = directive.args.join(" ");
    let text = text
        .trim()
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
        .unwrap_or_default();
    let words: Vec<_> = text.split_whitespace().collect();
    let [variable, operator @ ("=" | "!="), value] = &*words else {
        return Condition::Unknown;
    };
    if inner.name != "return" || value.contains('$') {
        return Condition::Unknown;
    }
    let value = value.trim_matches(['"', '\'']);
    if *variable == "$host" && *operator == "=" {
        let name = value.to_ascii_lowercase();
        let is_name = host::parse(&name).is_ok_and(|host| host.port.is_none() && host.name == name);
        return match is_name && !name.ends_with(':') && name.len() <= 253 {
            true => Condition::Host(name, inner),
            false => Condition::Unknown,
        };
    }
    match known.text(variable, &context.ledger) {
        Ok(found) if variable.starts_with('$') => match (found == value) == (*operator == "=") {
            true => Condition::Always(inner),
            false => Condition::Never,
        },
        _ => Condition::Unknown,
    }
}
