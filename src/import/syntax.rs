//! A file of nginx's -> a tree of directives.

use super::words::{Token, Words};

/// A directive, with its block where it has one.
#[derive(Debug)]
pub(super) struct Directive {
    /// By which the ledger knows it.
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) block: Option<Vec<Self>>,
    pub(super) place: Place,
    weight: usize,
}

/// Where a directive begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the files that were read.
    pub(super) file: usize,
    pub(super) line: usize,
}

/// Why a text is not nginx's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) message: String,
}

impl Directive {
    pub(super) fn arg(&self, number: usize) -> Option<&str> {
        self.args.get(number).map(String::as_str)
    }

    /// What is in its block; nothing where it has none.
    pub(super) fn inner(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Whether its only argument is that one.
    pub(super) fn says(&self, word: &str) -> bool {
        matches!(&*self.args, [only] if only == word)
    }

    /// As a message speaks of it: on one line, cut when long.
    pub(super) fn text(&self) -> String {
        let mut text = short(&self.name);
        for arg in &self.args {
            // Where it is cut anyway, no more is needed.
            if text.len() > 4 * LONGEST_TEXT {
                break;
            }
            text.push(' ');
            if arg.is_empty() {
                text.push_str("\"\"");
            }
            text.push_str(&plain(arg));
        }
        short(&text)
    }

    /// What it takes to look at it: that of a usual line is 1.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }
}

/// Part of a message: without control characters, cut when long.
pub(super) fn short(text: &str) -> String {
    let mut end = text.char_indices().map(|(at, _)| at);
    match end.nth(LONGEST_TEXT) {
        Some(end) => plain(text.get(..end).unwrap_or_default()) + "…",
        None => plain(text),
    }
}

/// Control characters escaped, so that what a file holds cannot forge a line of what is printed.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            control if control.is_control() => out.extend(control.escape_default()),
            character => out.push(character),
        }
    }
    out
}

/// Parses the text of file number `file`. Directives are numbered from `next` on.
pub(super) fn parse(
    text: &str,
    file: usize,
    next: &mut usize,
) -> Result<Vec<Directive>, SyntaxError> {
    Parser {
        words: Words::of(text),
        file,
        next,
    }
    .block(0)
}

struct Parser<'t, 'n> {
    words: Words<'t>,
    file: usize,
    next: &'n mut usize,
}

impl Parser<'_, '_> {
    /// All directives up to the `}` that closes the block, or the end of the file.
    fn block(&mut self, depth: usize) -> Result<Vec<Directive>, SyntaxError> {
        let mut directives = Vec::new();
        loop {
            match self.words.next()? {
                None if depth == 0 => return Ok(directives),
                None => return Err(self.error("the file ends before the `}` of a block")),
                Some((_, Token::Close)) if depth > 0 => return Ok(directives),
                Some((_, Token::Close)) => return Err(self.error("`}` closes nothing")),
                Some((_, Token::End)) => return Err(self.error("`;` ends nothing")),
                Some((_, Token::Open)) => return Err(self.error("`{` belongs to no directive")),
                Some((line, Token::Word(name))) => {
                    directives.push(self.directive(name, line, depth)?);
                }
            }
        }
    }

    fn directive(
        &mut self,
        name: String,
        line: usize,
        depth: usize,
    ) -> Result<Directive, SyntaxError> {
        let id = *self.next;
        *self.next += 1;
        let mut args = Vec::new();
        let block = loop {
            match self.words.next()? {
                Some((_, Token::Word(word))) => args.push(word),
                Some((_, Token::End)) => break None,
                Some((_, Token::Open)) if name.ends_with("_by_lua_block") => {
                    self.words.skip_lua()?;
                    break Some(Vec::new());
                }
                Some((_, Token::Open)) if depth >= DEEPEST => {
                    return Err(self.error("blocks are nested too deep"));
                }
                Some((_, Token::Open)) => break Some(self.block(depth + 1)?),
                Some((_, Token::Close)) | None => {
                    let message = format!("`{}` has no `;` or `{{` after it", short(&name));
                    return Err(SyntaxError { line, message });
                }
            }
        };
        let place = Place {
            file: self.file,
            line,
        };
        let bytes: usize = args.iter().map(String::len).sum();
        Ok(Directive {
            id,
            weight: 1 + args.len() / 8 + bytes / 256,
            name,
            args,
            block,
            place,
        })
    }

    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError {
            line: self.words.line(),
            message: message.into(),
        }
    }
}

/// nginx itself needs six: http, server, nested locations, `if`. The parser calls itself for each.
const DEEPEST: usize = 32;
const LONGEST_TEXT: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Directive>, (usize, String)> {
        parse(text, 0, &mut 0).map_err(|error| (error.line, error.message))
    }

    #[test]
    fn blocks_hold_directives_with_their_lines() {
        let tree = parsed("http {\n  server { listen 80; }\n}\nuser www;").unwrap();
        let server = &tree[0].inner()[0];
        assert_eq!(
            (server.name.as_str(), server.place.line),
            ("server", 2),
            "{tree:?}"
        );
        assert_eq!(server.inner()[0].text(), "listen 80");
        assert_eq!((tree[1].text().as_str(), tree[1].id), ("user www", 3));
    }

    #[test]
    fn lua_is_skipped_with_its_braces_and_strings() {
        let lua = "content_by_lua_block {\n if x then t = {'}', \"\\\"}\", [[ } ]]} -- }\n --[[ }\n } ]] end\n}\nuser x;";
        let tree = parsed(lua).unwrap();
        assert_eq!(tree.len(), 2, "{tree:?}");
        assert_eq!((tree[1].name.as_str(), tree[1].place.line), ("user", 6));
    }

    #[test]
    fn what_is_no_nginx_syntax_is_told_with_its_line() {
        for (text, line, part) in [
            ("a {\nb;\n", 3, "ends before the `}`"),
            ("a;\n}", 2, "closes nothing"),
            ("a;;", 1, "ends nothing"),
            ("{", 1, "belongs to no directive"),
            ("\na b\n", 2, "`a` has no `;`"),
            ("a { b }", 1, "`b` has no `;`"),
        ] {
            let (found, message) = parsed(text).unwrap_err();
            assert!(
                found == line && message.contains(part),
                "{text:?}: {found}: {message}"
            );
        }
        assert!(parsed(&"a {".repeat(1000)).is_err());
    }

    #[test]
    fn a_message_speaks_of_a_directive_on_one_line() {
        let tree = parsed(&format!("a \"b\nc\" '' {};", "d".repeat(100))).unwrap();
        let text = tree[0].text();
        assert!(
            text.starts_with("a b\\nc \"\" ddd") && text.ends_with('…'),
            "{text}"
        );
    }
}
