//! Lists and inline tables that nobody closed: where they begin, and the text as if they ended where they seem to.
//!
//! A TOML parser takes whatever follows for items, up to the end of the file, and complains about each of them.

use std::ops::Range;

/// A text in which every list and inline table ends, and what had to be closed for that.
pub(super) struct Closed {
    /// As long as the original, with the same lines.
    pub(super) text: String,
    pub(super) unclosed: Vec<Unclosed>,
}

/// What is not closed, and where it begins.
pub(super) struct Unclosed {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    List,
    Table,
    String,
}

/// Closes what is open where the next key or table begins. What stands behind the last comma of it is lost.
pub(super) fn close(text: &str) -> Closed {
    let mut scan = Scan {
        text: text.as_bytes(),
        closed: text.as_bytes().to_vec(),
        open: Vec::new(),
        unended: Vec::new(),
        found: Vec::new(),
    };
    scan.run();
    Closed {
        text: String::from_utf8(scan.closed).unwrap_or_default(),
        unclosed: scan.found,
    }
}

struct Scan<'t> {
    text: &'t [u8],
    closed: Vec<u8>,
    /// The brackets that are open, the outermost first.
    open: Vec<Bracket>,
    /// Strings in them that do not end on their line.
    unended: Vec<Range<usize>>,
    found: Vec<Unclosed>,
}

struct Bracket {
    at: usize,
    closes: u8,
    last_comma: Option<usize>,
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut at = 0;
        let mut begins_line = true;
        let mut in_header = false;
        // The last byte that was no space, newline or comment.
        let mut last = 0;
        while let Some(&byte) = self.text.get(at) {
            match byte {
                b'\n' => {
                    begins_line = true;
                    in_header = false;
                    at += 1;
                    continue;
                }
                b' ' | b'\t' | b'\r' => {
                    at += 1;
                    continue;
                }
                b'#' => {
                    at = end_of_line(self.text, at);
                    continue;
                }
                _ => {}
            }
            if begins_line && self.seems_to_end(at, last) {
                self.give_up(at);
            }
            match byte {
                b'"' | b'\'' => {
                    let (end, ended) = string(self.text, at);
                    if !ended {
                        self.unended.push(at..end);
                    }
                    at = end;
                }
                b'[' if begins_line && self.open.is_empty() => in_header = true,
                _ if in_header => {}
                b'[' | b'{' => self.open.push(Bracket {
                    at,
                    closes: byte + 2, // as in ASCII
                    last_comma: None,
                }),
                b']' | b'}' => {
                    self.open.pop_if(|bracket| bracket.closes == byte);
                }
                b',' => {
                    if let Some(bracket) = self.open.last_mut() {
                        bracket.last_comma = Some(at);
                    }
                }
                _ => {}
            }
            if self.open.is_empty() {
                self.unended.clear(); // what the parser says of them is enough
            }
            if !matches!(byte, b'"' | b'\'') {
                at += 1;
            }
            last = byte;
            begins_line = false;
        }
        self.give_up(self.text.len());
    }

    /// Whether the line at `at` cannot belong to what is open.
    fn seems_to_end(&self, at: usize, last: u8) -> bool {
        let Some(bracket) = self.open.last() else {
            return false;
        };
        let line = &self.text[at..end_of_line(self.text, at)];
        let in_table = bracket.closes == b'}';
        is_header(line) || is_key(line) && !(in_table && matches!(last, b',' | b'{'))
    }

    /// Closes what is open, in front of `end`.
    fn give_up(&mut self, end: usize) {
        let mut open = std::mem::take(&mut self.open).into_iter();
        let unended = std::mem::take(&mut self.unended);
        let Some(outermost) = open.next() else {
            return;
        };
        let from = match outermost.last_comma {
            Some(comma) => {
                self.closed[comma] = outermost.closes;
                comma
            }
            None => {
                self.closed[outermost.at] = b'0';
                outermost.at
            }
        };
        for byte in &mut self.closed[from + 1..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        if unended.is_empty() {
            let kind = match outermost.closes {
                b']' => Kind::List,
                _ => Kind::Table,
            };
            let span = outermost.at..outermost.at + 1;
            self.found.push(Unclosed { kind, span });
        }
        // The bracket that is missing is in the string. The parser still sees those in front of the comma.
        let lost = unended.into_iter().filter(|span| span.start > from);
        self.found.extend(lost.map(|span| Unclosed {
            kind: Kind::String,
            span,
        }));
    }
}

/// Where the string at `at` ends, and whether it does so by a quote.
pub(super) fn string(text: &[u8], at: usize) -> (usize, bool) {
    let quote = text[at];
    let several_lines = text[at..].starts_with(&[quote; 3]);
    let delimiter = if several_lines { 3 } else { 1 };
    let mut end = at + delimiter;
    while let Some(&byte) = text.get(end) {
        let here = &text[end..];
        if byte == b'\\' && quote == b'"' && here.get(1).is_some_and(|&next| next != b'\n') {
            end += 2;
        } else if byte == quote && (!several_lines || here.starts_with(&[quote; 3])) {
            return (end + delimiter, true);
        } else if byte == b'\n' && !several_lines {
            return (end, false);
        } else {
            end += 1;
        }
    }
    (end, false)
}

pub(super) fn end_of_line(text: &[u8], at: usize) -> usize {
    let rest = text[at..].iter();
    at + rest.take_while(|&&byte| byte != b'\n').count()
}

/// `name =`, `a.b =`
fn is_key(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |&byte| byte == b'=');
    let key = parts.next().unwrap_or_default();
    parts.next().is_some() && is_name(key)
}

/// `[name]`, `[[name]]`, `[a."b"]`. A list of one word would look so, but words need quotes.
fn is_header(line: &[u8]) -> bool {
    let inner = line.strip_prefix(b"[").unwrap_or_default();
    let inner = inner.strip_prefix(b"[").unwrap_or(inner);
    let mut parts = inner.splitn(2, |&byte| byte == b']');
    let name = parts.next().unwrap_or_default();
    parts.next().is_some() && is_name(name) && !matches!(name, b"true" | b"false")
}

fn is_name(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || b"-_. \t\"".contains(&byte))
}
