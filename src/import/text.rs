//! Values with variables: what is the same for all requests of a place is put in, the rest stays to be recognised.

use std::collections::HashMap;

use super::ledger::Ledger;
use super::scope::Scope;

/// Part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// Without `$` and braces.
    Variable(String),
}

/// What is known of variables before any request has come.
#[derive(Clone, Debug)]
pub(super) struct Known<'d> {
    /// What the place itself says.
    values: HashMap<&'static str, String>,
    /// Where `set` may say it.
    scope: Scope<'d>,
}

impl<'d> Known<'d> {
    /// What `set` says at a place, where nothing else says it, and with a value of its own.
    pub(super) fn at(scope: &Scope<'d>) -> Self {
        Self {
            values: HashMap::new(),
            scope: scope.clone(),
        }
    }

    /// Adds what the place itself says.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.insert(name, value.into());
        self
    }

    /// The value of a variable; a `set` that says it is in the output from here on.
    fn value(&self, name: &str, ledger: &Ledger) -> Option<&str> {
        if let Some(value) = self.values.get(name) {
            return Some(value);
        }
        let set = self.scope.set(name)?;
        ledger.done(set);
        set.arg(1)
    }

    /// A value in pieces; of the variables only those that depend on the request.
    pub(super) fn pieces(&self, text: &str, ledger: &Ledger) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            push(&mut pieces, before);
            let (name, after) = name_at(after);
            rest = after;
            match self.value(name, ledger) {
                Some(value) => push(&mut pieces, value),
                // No variable for nginx either.
                None if name.is_empty() => push(&mut pieces, "$"),
                None => pieces.push(Piece::Variable(name.to_owned())),
            }
        }
        push(&mut pieces, rest);
        pieces
    }

    /// A value without variables that depend on the request; else the name of the first of these.
    pub(super) fn text(&self, text: &str, ledger: &Ledger) -> Result<String, String> {
        let pieces = self.pieces(text, ledger);
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(&text),
                Piece::Variable(name) => return Err(name),
            }
        }
        Ok(out)
    }
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// The name at the beginning, with or without braces, and what follows it.
fn name_at(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (name, rest);
    }
    let end = text
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        .count();
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn what_is_known_is_put_in_and_the_rest_stays() {
        let mut count = 0;
        let text =
            "set $a one; set $b 1; set $b 2; set $c x$uri; set $d 0; if (-f /x) { set $d 1; }";
        let tree = parse(text, 0, &mut count).unwrap();
        let ledger = Ledger::of(count);
        let known = Known::at(&Scope::of(&tree)).with("scheme", "https");
        let pieces = known.pieces("${scheme}://$a/$b$c", &ledger);
        let variable = |name: &str| Piece::Variable(name.into());
        assert_eq!(
            pieces,
            [
                Piece::Text("https://one/".into()),
                variable("b"),
                variable("c")
            ]
        );
        assert!(!ledger.silent(&tree[0]) && ledger.silent(&tree[1]));
        assert_eq!(known.text("$scheme://x", &ledger), Ok("https://x".into()));
        assert_eq!(known.text("x$host", &ledger), Err("host".into()));
        assert_eq!(known.text("5$", &ledger), Ok("5$".into()));
        assert_eq!(known.text("$d", &ledger), Err("d".into()));
    }
}
