//! TOML with mistakes -> all of its syntax errors, and as much of a tree with spans as can be understood.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::error::MOST_PROBLEMS;
use super::problems::{MOST_TABLES, Problems};
use super::unclosed::{self, Kind, Unclosed};
use super::value::plain;

/// Parses as much as can be understood. `base` is where the file stands among all files. Needs a deep stack: dotted keys
/// inside nested tables make trees some 6,400 levels deep.
pub(super) fn parse<'t>(
    text: &'t str,
    base: usize,
    blanked: &'t mut String,
    problems: &Problems<'_>,
) -> DeTable<'t> {
    if !problems.has_room_for_tables(tables_in(text)) {
        problems.set_incomplete();
        let message = format!("more than {MOST_TABLES} tables and lists");
        problems.add_syntax(base..base, message, None);
        return DeTable::new();
    }
    let tree = parse_here(text, base, blanked, problems).into_inner();
    if base == 0 { tree } else { moved(tree, base) }
}

/// How many tables and lists there are at most: what opens one, and the dots of keys. Those within strings and comments do
/// not count.
fn tables_in(text: &str) -> usize {
    let text = text.as_bytes();
    let mut number = 0;
    let mut at = 0;
    let mut last = b'\n';
    while let Some(&byte) = text.get(at) {
        match byte {
            b'.' | b'[' | b'{' => number += 1,
            b'#' => at = unclosed::end_of_line(text, at),
            // Within a word it begins no string, whose end could be far away.
            b'"' | b'\'' if b" \t\r\n=,.[]{}".contains(&last) => {
                at = unclosed::string(text, at).0;
                last = byte;
                continue;
            }
            _ => {}
        }
        last = byte;
        at += 1;
    }
    number
}

/// The same table, `base` bytes further on.
fn moved(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    let mut out = DeTable::new();
    for (key, value) in table {
        let key = Spanned::new(shifted(key.span(), base), key.into_inner());
        out.insert(key, moved_value(value, base));
    }
    out
}

fn moved_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = shifted(value.span(), base);
    let inner = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved(table, base)),
        DeValue::Array(items) => {
            let items = items.into_iter();
            DeValue::Array(items.map(|item| moved_value(item, base)).collect())
        }
        leaf => leaf,
    };
    Spanned::new(span, inner)
}

fn shifted(span: Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

fn parse_here<'t>(
    text: &'t str,
    base: usize,
    blanked: &'t mut String,
    problems: &Problems<'_>,
) -> Spanned<DeTable<'t>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return tree;
    }
    let in_brackets = errors.iter().any(is_in_brackets);
    let closed = in_brackets.then(|| unclosed::close(text));
    let closed = closed.filter(|closed| !closed.unclosed.is_empty());
    let (source, errors) = match &closed {
        Some(closed) => (&*closed.text, DeTable::parse_recoverable(&closed.text).1),
        None => (text, errors),
    };
    // The parser gives up at a key without a value, and everything below it would go unchecked: another run without those lines.
    let (mut given_up, errors): (Vec<_>, Vec<_>) = errors.into_iter().partition(gives_up);
    given_up.sort_by_key(start);
    let (tree, errors) = if given_up.is_empty() && closed.is_none() {
        (tree, errors)
    } else {
        *blanked = without_lines_of(source, &given_up);
        DeTable::parse_recoverable(blanked)
    };
    let unclosed = closed.map_or_else(Vec::new, |closed| closed.unclosed);
    for unclosed in unclosed.iter().take(MOST_PROBLEMS) {
        not_closed(unclosed, base, problems);
    }
    problems.leave_out(unclosed.len().saturating_sub(MOST_PROBLEMS));
    let firsts = FirstPlaces::new(text);
    let mut errors: Vec<_> = given_up.into_iter().chain(errors).collect();
    errors.sort_by_key(start);
    for error in errors.iter().take(MOST_PROBLEMS) {
        let span = within(text, error.span().unwrap_or_default());
        let first = |span: Range<usize>| problems.place(&shifted(span, base));
        let (message, help) = words(error, text, &span, firsts.before(span.start).map(first));
        if !HARMLESS
            .iter()
            .any(|start| error.message().starts_with(start))
        {
            problems.set_incomplete();
        }
        problems.add_syntax(shifted(span, base), message, help);
    }
    let rest = errors.len().saturating_sub(MOST_PROBLEMS);
    if rest > 0 {
        problems.set_incomplete();
        problems.leave_out(rest);
    }
    tree
}

/// Whether the parser may have lost its way in a list or an inline table.
fn is_in_brackets(error: &Error) -> bool {
    ["array", "inline table"]
        .iter()
        .any(|place| error.message().contains(place))
}

fn not_closed(unclosed: &Unclosed, base: usize, problems: &Problems<'_>) {
    let (what, with) = match unclosed.kind {
        Kind::List => ("list", ']'),
        Kind::Table => ("table", '}'),
        Kind::String => ("string", '"'),
    };
    if unclosed.kind == Kind::Table {
        problems.set_incomplete(); // keys that look as if they were in it may have been meant for the table around it
    }
    let help = format!("close it with `{with}`");
    problems.add_syntax(
        shifted(unclosed.span.clone(), base),
        format!("this {what} is not closed"),
        Some(help),
    );
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn gives_up(error: &Error) -> bool {
    error.message().starts_with("key with no value")
}

fn words(
    error: &Error,
    text: &str,
    span: &Range<usize>,
    first: Option<String>,
) -> (String, Option<String>) {
    let named = text.get(span.clone()).unwrap_or_default();
    if error.message() == "duplicate key" {
        let help = first.map(|place| format!("the first is at {place}"));
        return (
            format!("`{}` is defined twice", plain(named.trim_matches('"'))),
            help,
        );
    }
    if error.message().starts_with("string values must be quoted") && named.is_empty() {
        return ("the value is missing".into(), None);
    }
    let help = match is_value(error) {
        true => Some(instead_of_value(named)),
        false => instead_of(error, text, span.start).map(str::to_owned),
    };
    (error.message().into(), help)
}

/// Whether the parser took it for the value of a key: `tcp` for a boolean, `none` for a number.
fn is_value(error: &Error) -> bool {
    let kinds = [
        "string values must be quoted",
        "invalid boolean",
        "invalid float",
    ];
    kinds.iter().any(|kind| error.message().starts_with(kind))
}

/// What may be a secret is not repeated: the message goes to places that the file does not.
fn instead_of_value(named: &str) -> String {
    let is_amount = named.len() <= 6 && named.starts_with(|first: char| first.is_ascii_digit());
    match named {
        _ if is_amount => format!("write `\"{}\"`", plain(named)),
        _ if named.starts_with(TYPOGRAPHIC) => PLAIN_QUOTES.to_owned(),
        "on" | "On" | "yes" | "Yes" | "True" | "TRUE" => "write `true`".to_owned(),
        "no" | "No" | "False" | "FALSE" => "write `false`".to_owned(),
        "none" | "None" | "null" | "nil" => "leave the key out, or write `\"off\"`".to_owned(),
        _ => "put it between double quotes".to_owned(),
    }
}

/// What to do about anything else that begins at `at`.
fn instead_of(error: &Error, text: &str, at: usize) -> Option<&'static str> {
    let message = error.message();
    let (before, after) = text.split_at_checked(at)?;
    let first = after.chars().next().unwrap_or('\n');
    if gives_up(error) {
        return of_another_language(text, at);
    }
    match first {
        _ if INVISIBLE.contains(&first) => Some(
            "there is a space of another kind, or an invisible character: write a plain space, or nothing",
        ),
        _ if TYPOGRAPHIC.contains(&first) => Some(PLAIN_QUOTES),
        ';' if message.starts_with("unexpected key or value") => {
            Some("leave out the `;`: a line ends without")
        }
        ',' if message.starts_with("unexpected key or value") => {
            Some("leave out the `,`: a line ends without")
        }
        '{' if message.starts_with("unexpected key or value") => {
            Some("leave out the braces: the keys of a table are the lines below it")
        }
        '{' if before.trim().is_empty() => Some(
            "this is TOML, not JSON: write `[listen.web]` above the keys of a table, and `key = \"value\"`",
        ),
        '}' if message.starts_with("invalid key-value pair") => {
            Some("leave it out: a table ends where the next begins")
        }
        '\n' | '\r' if message.starts_with("unclosed table") => Some("close it with `]`"),
        '\n' | '\r' if message.starts_with("invalid basic string") => Some("close it with `\"`"),
        '\n' | '\r' if message.starts_with("invalid literal string") => Some("close it with `'`"),
        _ => None,
    }
}

/// What to write in place of a line that looks as if it were nginx's, Caddy's, HAProxy's or YAML.
fn of_another_language(text: &str, at: usize) -> Option<&'static str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..)?.lines().next()?.trim();
    match line {
        _ if line.starts_with("//") || line.starts_with(';') => Some("comments begin with `#`"),
        _ if line.ends_with(['{', ';']) && NGINX.iter().any(|word| text.contains(word)) => {
            Some("this is TOML: for a config of nginx there is `weir import nginx FILE`")
        }
        _ if line.ends_with(['{', ';']) => Some(
            "this is TOML: write `[route.site]` above the keys of a table, and `key = \"value\"`",
        ),
        _ if line.contains(':') => Some("this is TOML: write `key = \"value\"`"),
        _ => None,
    }
}

/// The span as something to slice with, whatever the parser said.
fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    start..text.ceil_char_boundary(span.end.min(text.len())).max(start)
}

/// The text with the lines of `errors` turned to spaces, all offsets unchanged.
fn without_lines_of(text: &str, errors: &[Error]) -> String {
    let mut bad = errors.iter().map(start).peekable();
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        // An error at the very end of a line still belongs to it.
        let mut hit = false;
        while bad.next_if(|at| *at < end || end == text.len()).is_some() {
            hit = true;
        }
        if hit {
            out.extend(
                line.bytes()
                    .map(|byte| if byte == b'\n' { '\n' } else { ' ' }),
            );
        } else {
            out.push_str(line);
        }
    }
    out
}

/// For each line that names something for the second time, the place of the first. By the look of the lines, which is good
/// enough for a hint: the parser knows both places but tells one.
struct FirstPlaces {
    starts: Vec<usize>,
    first: HashMap<usize, Range<usize>>,
}

impl FirstPlaces {
    fn new(text: &str) -> Self {
        let mut seen: HashMap<(&str, &str), Range<usize>> = HashMap::new();
        let mut places = Self {
            starts: Vec::new(),
            first: HashMap::new(),
        };
        let mut section = "";
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim_start();
            let start = at + line.len() - trimmed.len();
            let header = trimmed
                .starts_with('[')
                .then(|| trimmed.split_once(']'))
                .flatten();
            let named = match (header, trimmed.split_once('=')) {
                (Some((name, _)), _) => {
                    section = name;
                    Some((name, "", name.len() + 1))
                }
                (None, Some((key, _))) if !trimmed.starts_with('#') => {
                    let key = key.trim_end();
                    Some((section, key, key.len()))
                }
                _ => None,
            };
            if let Some((section, key, length)) = named {
                let place = start..start + length;
                let first = seen.entry((section, key)).or_insert_with(|| place.clone());
                if first.start != place.start {
                    places.first.insert(places.starts.len(), first.clone());
                }
            }
            places.starts.push(at);
            at += line.len();
        }
        places
    }

    fn before(&self, offset: usize) -> Option<Range<usize>> {
        let line = self
            .starts
            .partition_point(|start| *start <= offset)
            .checked_sub(1)?;
        self.first.get(&line).cloned()
    }
}

/// What an nginx config has, and TOML hardly.
const NGINX: [&str; 3] = ["server {", "server_name ", "proxy_pass "];
const TYPOGRAPHIC: [char; 8] = [
    '\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}', '\u{bb}',
];
const PLAIN_QUOTES: &str = "these quotes are typographic: write plain ones, `\"`";
/// What editors, browsers and word processors put in place of a space, or beside one.
const INVISIBLE: [char; 8] = [
    '\u{a0}', '\u{2002}', '\u{2003}', '\u{2009}', '\u{200b}', '\u{202f}', '\u{3000}', '\u{feff}',
];
/// What these are about is one key or value; the tables around it are understood.
const HARMLESS: [&str; 8] = [
    "string values must be quoted",
    "key with no value",
    "missing value",
    "duplicate key",
    "invalid basic string",
    "invalid literal string",
    "invalid boolean",
    "invalid decimal",
];
