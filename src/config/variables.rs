//! `${NAME}` and `${NAME:-default}` in values: replaced by what the environment holds, after the parsing, so that no value
//! can be more than the string that it stands in.
//!
//! What came from the environment may be secret. Problems name the variable (`mask.rs`), and what is shown has `***`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::Range;
use std::time::SystemTime;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mask::Origin;
use super::problems::Problems;
use super::value::{plain, push_key};

/// What a configuration takes from beside its files.
pub struct Outside<'o> {
    /// The value of a variable of the environment; `None` if it is not set.
    pub variable: &'o (dyn Fn(&str) -> Option<OsString> + Sync),
    /// For certificates that expire.
    pub now: SystemTime,
}

impl Outside<'static> {
    /// That of the process, now.
    pub fn of_process() -> Self {
        Self {
            variable: &of_process,
            now: SystemTime::now(),
        }
    }
}

fn of_process(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Replaces the variables in every string of a table.
pub(super) fn replace(table: &mut DeTable<'_>, outside: &Outside<'_>, problems: &Problems<'_>) {
    if problems.may_have_variables() {
        let replacing = Replacing { outside, problems };
        replacing.table(table, &mut Path::default());
    }
}

/// The paths of all values that the environment had a part in.
pub(super) fn paths_of_replaced(root: &DeValue<'_>, problems: &Problems<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    if problems.has_replaced() {
        let mut visit = |span: Range<usize>, path: &Path| {
            if problems.is_replaced(&span) {
                paths.push(path.0.clone());
            }
        };
        for_each_string(root, &mut Path::default(), &mut visit);
    }
    paths
}

/// The path of where a walk is, written once for all that is below. Longer ones than any that is known are cut: a tree can
/// be some 6,400 levels deep, with thousands of values in the deepest.
#[derive(Default)]
struct Path(String);

impl Path {
    fn at_key<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.at(|path| push_key(path, key), work)
    }

    fn at_item<T>(&mut self, number: usize, work: impl FnOnce(&mut Self) -> T) -> T {
        self.at(|path| path.push_str(&format!("[{number}]")), work)
    }

    fn at<T>(&mut self, push: impl FnOnce(&mut String), work: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.0.len();
        if length < LONGEST_PATH {
            push(&mut self.0);
        }
        let done = work(self);
        self.0.truncate(length);
        done
    }
}

fn for_each_string(
    value: &DeValue<'_>,
    path: &mut Path,
    visit: &mut impl FnMut(Range<usize>, &Path),
) {
    let mut inner = |value: &Spanned<DeValue<'_>>, path: &mut Path| match value.get_ref() {
        DeValue::String(_) => visit(value.span(), path),
        deeper => for_each_string(deeper, path, visit),
    };
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                path.at_key(key.get_ref(), |path| inner(value, path));
            }
        }
        DeValue::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                path.at_item(number, |path| inner(item, path));
            }
        }
        _ => {}
    }
}

struct Replacing<'r> {
    outside: &'r Outside<'r>,
    problems: &'r Problems<'r>,
}

impl Replacing<'_> {
    fn table(&self, table: &mut DeTable<'_>, path: &mut Path) {
        for (key, value) in table {
            path.at_key(key.get_ref(), |path| self.value(value, path));
        }
    }

    fn value(&self, value: &mut Spanned<DeValue<'_>>, path: &mut Path) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains("${") => {
                if let Some(replaced) = self.text(text, &span, &path.0) {
                    *text = replaced.into();
                }
            }
            DeValue::Array(items) => {
                for (number, item) in items.iter_mut().enumerate() {
                    path.at_item(number, |path| self.value(item, path));
                }
            }
            DeValue::Table(table) => self.table(table, path),
            _ => {}
        }
    }

    /// `None` after a complaint; the value is refused whole then.
    fn text(&self, text: &str, span: &Range<usize>, path: &str) -> Option<String> {
        let mut origin = Origin::default();
        let mut good = true;
        // Where to look for the next that is bad.
        let mut from = 0;
        for piece in Pieces(text) {
            match held(piece, self.outside) {
                Ok((text, Some(name))) => origin.add_variable(name, &text),
                Ok((text, None)) => origin.add_text(&text),
                Err(bad) => {
                    from = self.problem(span, (bad.after, from), path, bad.message, bad.help);
                    good = false;
                }
            }
        }
        if good && !self.problems.has_room(origin.whole().len()) {
            let message = "the variables of all values are more than 8 MiB".to_owned();
            self.problem(span, ("", 0), path, message, None);
            good = false;
        }
        if !good {
            self.problems.refuse(span);
            return None;
        }
        let whole = origin.whole().to_owned();
        self.problems.replaced(span, origin);
        Some(whole)
    }

    /// Complains about the variable itself where it can be found from so far on, else about the whole value. Returns where it
    /// ends.
    fn problem(
        &self,
        span: &Range<usize>,
        (after, from): (&str, usize),
        path: &str,
        message: String,
        help: Option<String>,
    ) -> usize {
        let written = self.problems.written(span);
        let wanted = format!("${{{after}");
        let rest = written.get(from..).unwrap_or_default();
        let found = rest.find(&wanted).filter(|_| !after.is_empty());
        let (span, end) = match found {
            Some(at) => {
                let length = rest[at..].find('}').map_or(wanted.len(), |end| end + 1);
                let (start, length) = (from + at, length.max(wanted.len()));
                let end = start + length;
                (span.start + start..span.start + end, end)
            }
            // It is not written as it is read. Nor, maybe, are the others: they are not looked for.
            None if !after.is_empty() => (span.clone(), written.len()),
            None => (span.clone(), from),
        };
        let id = "variable";
        self.problems.add(span, path.to_owned(), id, message, help);
        end
    }
}

/// What a text comes to; `None` where a variable in it is not set or not understood.
pub(super) fn filled_in(text: &str, outside: &Outside<'_>) -> Option<String> {
    let pieces = Pieces(text).map(|piece| held(piece, outside).ok());
    pieces.map(|held| Some(held?.0)).collect()
}

/// Whether a value, written so with its quotes, is one variable and nothing else.
pub(super) fn is_one_variable(written: &str) -> bool {
    let mut pieces = Pieces(written.trim_matches(['"', '\'']));
    let first = pieces.next();
    matches!(first, Some(Piece::Variable { .. })) && pieces.next().is_none()
}

/// What a piece comes to, and the variable that it came from, if it did.
fn held<'v>(
    piece: Piece<'v>,
    outside: &Outside<'_>,
) -> Result<(Cow<'v, str>, Option<&'v str>), Bad<'v>> {
    let (name, default) = match piece {
        Piece::Text(text) => return Ok((text.into(), None)),
        Piece::Variable { name, default } => (name, default),
        Piece::Bad(bad) => return Err(bad),
    };
    let value = (outside.variable)(name);
    let value = value.filter(|value| !(value.is_empty() && default.is_some()));
    let bad = |message, help| Bad {
        after: name,
        message,
        help,
    };
    match (value.map(OsString::into_string), default) {
        (Some(Ok(value)), _) => Ok((value.into(), Some(name))),
        (Some(Err(_)), _) => Err(bad(format!("the variable `{name}` is not UTF-8"), None)),
        (None, Some(default)) => Ok((default.into(), None)),
        (None, None) => {
            let help = "set it in the environment of weir, or write";
            let help = format!("{help} `${{{name}:-DEFAULT}}`");
            Err(bad(format!("the variable `{name}` is not set"), Some(help)))
        }
    }
}

/// What a value is made of.
enum Piece<'v> {
    Text(&'v str),
    Variable {
        name: &'v str,
        default: Option<&'v str>,
    },
    Bad(Bad<'v>),
}

/// What is wrong with a variable.
struct Bad<'v> {
    /// What stands after the `${`, as far as it goes.
    after: &'v str,
    message: String,
    help: Option<String>,
}

/// The pieces of a value, one after the other.
struct Pieces<'v>(&'v str);

impl<'v> Iterator for Pieces<'v> {
    type Item = Piece<'v>;

    fn next(&mut self) -> Option<Piece<'v>> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        if let Some(rest) = text.strip_prefix("$${") {
            self.0 = rest;
            return Some(Piece::Text("${"));
        }
        if let Some(rest) = text.strip_prefix("${") {
            let (inner, rest) = rest.split_once('}').unwrap_or((rest, ""));
            let closed = text.len() > 2 + inner.len();
            self.0 = rest;
            return Some(variable(inner, closed));
        }
        // Up to what may be one: a `$` that is none is text as any other.
        let mut others = text.char_indices().skip(1);
        let end = others.find(|(_, character)| *character == '$');
        let end = end.map_or(text.len(), |(at, _)| at);
        let (piece, rest) = text.split_at(end);
        self.0 = rest;
        Some(Piece::Text(piece))
    }
}

/// What stands between the braces.
fn variable(inner: &str, closed: bool) -> Piece<'_> {
    let end = inner.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let (name, rest) = inner.split_at(end.unwrap_or(inner.len()));
    let bad = |message: String| {
        let help = "write `${NAME}` or `${NAME:-DEFAULT}`; a plain `${` is written as `$${`";
        Piece::Bad(Bad {
            after: inner,
            message,
            help: Some(help.into()),
        })
    };
    if !closed {
        return bad("`${` without `}`".into());
    }
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return bad(format!("`${{{}}}` names no variable", plain(inner)));
    }
    match rest.strip_prefix(":-") {
        _ if rest.is_empty() => Piece::Variable {
            name,
            default: None,
        },
        Some(default) if default.contains("${") => {
            bad(format!("the default of `{name}` has a variable in it"))
        }
        Some(default) => Piece::Variable {
            name,
            default: Some(default),
        },
        None => bad(format!("`${{{}}}` is not understood", plain(inner))),
    }
}

/// Bytes. The keys of what is known are a few, and as [`push_key`] cuts them.
const LONGEST_PATH: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;

    use super::super::tests::EVERYTHING;
    use super::super::{Config, Report, parse_with};
    use super::*;

    const APP: &str = "[listen.web]\naddress = \":1\"\n[route.site]\nupstream = \"app\"\n[upstream.app]\nservers = [\"10.0.0.1:1\"]\n";

    /// Parses a text before a valid rest by these variables.
    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, Report> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            match found {
                None if name == "BYTES" => Some(OsString::from_vec(vec![0xff])),
                found => found.map(|(_, value)| value.into()),
            }
        };
        let outside = Outside {
            variable: &variable,
            now: SystemTime::UNIX_EPOCH,
        };
        parse_with(&format!("{text}\n{APP}"), Path::new("weir.toml"), &outside)
    }

    fn told(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let report = read(text, variables).expect_err(text);
        let lines = report.to_string();
        let lines = lines.lines().map(|line| line.replace("weir.toml:", ""));
        lines.collect()
    }

    /// What a value comes to, told by the body of an answer.
    fn body(value: &str, variables: &[(&str, &str)]) -> String {
        let text = format!("[route.x]\npath = \"/x\"\nrespond = {{ body = {value} }}\n");
        let config = read(&text, variables).unwrap_or_else(|report| panic!("{report}"));
        match &config.routes[0].action {
            super::super::Action::Respond { body, .. } => body.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_variable_becomes_what_the_environment_or_the_default_holds() {
        let set = [
            ("A", "1"),
            ("_b2", "x y"),
            ("EMPTY", ""),
            ("QUOTE", "\"}\n"),
        ];
        let cases = [
            ("\"${A}\"", "1"),
            ("\"<${A}${_b2}>\"", "<1x y>"),
            ("\"${A:-2}${NONE:-2}${EMPTY:-3}${EMPTY}\"", "123"),
            ("\"${NONE:-}\"", ""),
            ("\"${NONE:-a:-b $c}\"", "a:-b $c"),
            ("\"$${A} $A $ {A} $\"", "${A} $A $ {A} $"),
            ("\"${QUOTE}\"", "\"}\n"),
            ("\"\\u0024{A}\"", "1"),
            ("'${A}'", "1"),
            ("\"é${A}é$é\"", "é1é$é"),
        ];
        for (value, expected) in cases {
            assert_eq!(body(value, &set), expected, "{value}");
        }
        // What a variable holds is not looked through again.
        assert_eq!(body("\"${A}\"", &[("A", "${B}"), ("B", "no")]), "${B}");
    }

    #[test]
    fn variables_stand_in_lists_tables_and_includes_but_not_in_keys() {
        let config = read(
            "include = [\"${NONE:-none}.d/*.toml\"]\n[upstream.\"x\"]\nservers = [\"${HOST}:80\", { address = \"${HOST}:81\" }]\nretry = { on = [\"${ON}\"] }",
            &[("HOST", "10.0.0.9"), ("ON", "504")],
        )
        .unwrap();
        let servers = config.upstreams[0].servers.iter();
        let servers: Vec<_> = servers.map(|server| server.place.to_string()).collect();
        assert_eq!(servers, ["10.0.0.9:80", "10.0.0.9:81"]);
        let told = told("[upstream.\"${A}\"]", &[("A", "b")]);
        assert!(told.iter().any(|line| line.contains("cannot be a name")));
    }

    #[test]
    fn what_is_not_set_or_not_understood_is_told_at_its_place() {
        let help = "write `${NAME}` or `${NAME:-DEFAULT}`; a plain `${` is written as `$${`";
        let cases = [
            ("drain = \"${SOME_TIME}\"", "2:10: process.drain: the variable `SOME_TIME` is not set; set it in the environment of weir, or write `${SOME_TIME:-DEFAULT}`".to_owned()),
            ("drain = \"\\u0024{T}\"", "2:9: process.drain: the variable `T` is not set; set it in the environment of weir, or write `${T:-DEFAULT}`".to_owned()),
            ("drain = \"${BYTES}\"", "2:10: process.drain: the variable `BYTES` is not UTF-8".to_owned()),
            ("drain = \"1${T\"", format!("2:11: process.drain: `${{` without `}}`; {help}")),
            ("drain = \"1${}\"", format!("2:9: process.drain: `${{}}` names no variable; {help}")),
            ("drain = \"${1T}\"", format!("2:10: process.drain: `${{1T}}` names no variable; {help}")),
            ("drain = \"${T-5s}\"", format!("2:10: process.drain: `${{T-5s}}` is not understood; {help}")),
            ("drain = \"${T:-${U}}\"", format!("2:10: process.drain: the default of `T` has a variable in it; {help}")),
        ];
        for (line, expected) in cases {
            assert_eq!(told(&format!("[process]\n{line}"), &[]), [expected]);
        }
        let two = told("[log]\naccess = \"${A}/${B}\"", &[]);
        assert_eq!(two.len(), 2, "{two:?}");
        assert!(
            two[0].starts_with("2:11: ") && two[1].starts_with("2:16: "),
            "{two:?}"
        );
    }

    #[test]
    fn that_a_variable_is_empty_is_told_and_why_others_of_its_value_are_not() {
        let set = [("NOTHING", ""), ("PORT", "20080")];
        assert_eq!(
            told("[process]\ndrain = \"${NOTHING}\"", &set),
            [
                "2:9: process.drain: `***` is not a duration (`***` is from the variable `NOTHING`, which is empty); write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`"
            ]
        );
        let other =
            "[listen.x]\naddress = \":${PORT}\"\n[route.x]\nrespond = {}\nhost = \"a.com:20080\"";
        assert_eq!(
            told(other, &set),
            [
                "5:8: route.x.host: `a.com:***` has a port (`***` is what a variable holds, too); hosts match on any port; write `a.com`"
            ]
        );
    }

    #[test]
    fn a_wrong_value_is_told_by_the_name_of_its_variable() {
        let set = [
            ("PORT", "99999"),
            ("TIME", "5 apples"),
            ("UP", "appl"),
            ("HIDDEN", "zq9secret"),
        ];
        let cases = [
            (
                "[listen.x]\naddress = \":${PORT}\"",
                "2:11: listen.x.address: `***` is not a port; ports are 1 to 65535 (`***` is from the variable `PORT`)",
            ),
            (
                "[process]\ndrain = \"${TIME}\"",
                "2:9: process.drain: `***` is not a duration (`***` is from the variable `TIME`); write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`",
            ),
            (
                "[route.x]\npath = \"/x\"\nupstream = \"${UP}\"",
                "3:12: route.x.upstream: there is no upstream `***` (`***` is from the variable `UP`)",
            ),
            (
                "[route.x]\nupstream = \"app\"\npath = \"${HIDDEN}\"",
                "3:8: route.x.path: `***` does not begin with `/` (`***` is from the variable `HIDDEN`)",
            ),
        ];
        for (text, expected) in cases {
            let lines = told(text, &set);
            assert_eq!(lines, [expected]);
        }
    }

    /// In the message of another key, the text of a variable is none of its business.
    #[test]
    fn a_value_of_the_environment_is_not_told_by_other_values() {
        let text =
            "[listen.a]\naddress = \"10.1.2.3:${PORT}\"\n[listen.b]\naddress = \"10.1.2.3:4711\"";
        let lines = told(text, &[("PORT", "4711")]);
        assert_eq!(
            lines,
            [
                "4:11: listen.b.address: `10.1.2.3:***` clashes with `10.1.2.3:***` of `listen.a.address` at 2:11"
            ]
        );
    }

    #[test]
    fn a_variable_alone_may_be_a_number_or_a_boolean() {
        let text = |priority: &str, http2: &str| {
            format!(
                "[route.x]\npath = \"/x\"\nrespond = {{}}\npriority = {priority}\n[listen.x]\naddress = \":2\"\nhttp2 = {http2}\n"
            )
        };
        let variables = [
            ("PRIO", "-75"),
            ("NO", "false"),
            ("OFF", "off"),
            ("PAD", "075"),
        ];
        let variables = variables.as_slice();
        for (priority, http2) in [
            ("\"${PRIO}\"", "'${NO}'"),
            ("\"\"\"${PRIO}\"\"\"", "\"${NONE:-false}\""),
            ("\"${NONE:--75}\"", "false"),
        ] {
            let config = read(&text(priority, http2), variables);
            let config = config.unwrap_or_else(|report| panic!("{report}"));
            let route = config
                .routes
                .iter()
                .find(|route| route.name.as_str() == "x");
            assert_eq!(route.unwrap().priority, -75);
            let listener = config.listeners.iter().find(|one| one.name.as_str() == "x");
            assert!(!listener.unwrap().http2);
            let is_hidden = config.show().contains("priority = \"***\"");
            assert_eq!(is_hidden, priority.contains("PRIO"), "{}", config.show());
        }
        for (priority, http2, expected) in [
            (
                "\"${PAD}\"",
                "true",
                "4:12: route.x.priority: expected a number from -1000000 to 1000000, found the string `\"***\"` (`***` is from the variable `PAD`)",
            ),
            (
                "\"${NO}\"",
                "true",
                "4:12: route.x.priority: expected a number from -1000000 to 1000000, found the string `\"***\"` (`***` is from the variable `NO`)",
            ),
            (
                "\"1${PRIO}\"",
                "true",
                "4:12: route.x.priority: expected a number from -1000000 to 1000000, found the string `\"***\"` (`***` is from the variable `PRIO`)",
            ),
            (
                "\"${NONE:-x}\"",
                "true",
                "4:12: route.x.priority: expected a number from -1000000 to 1000000, found the string `\"x\"`",
            ),
            (
                "\"5\"",
                "true",
                "4:12: route.x.priority: expected a number from -1000000 to 1000000, found the string `\"5\"`; write `5`, without quotes",
            ),
            (
                "5",
                "\"${OFF}\"",
                "7:9: listen.x.http2: expected `true` or `false`, found the string `\"***\"` (`***` is from the variable `OFF`); write `false`",
            ),
        ] {
            assert_eq!(told(&text(priority, http2), variables), [expected]);
        }
    }

    /// Whatever is wrong with it, whatever it is for.
    #[test]
    fn no_value_of_the_environment_is_told_however_short() {
        let values = [
            "q7",
            "q7 ",
            "/q7",
            "~q7",
            "q7:99999",
            "q7:1",
            "[q7]:1",
            "http://q7/",
            "*.q7",
            "*:q7",
            "q7.*",
            "unix:q7",
            "srv+q7:1",
            "7q7s",
            "7q7KiB",
            "7q7%",
            "header:q7 ",
            "cookie:q7 ",
            "{q7}",
            "q7,",
            "Q7",
            "fileq7",
            "1.q7.1.1:1",
            "::q7",
            "q7\u{1}",
        ];
        let lines: Vec<_> = EVERYTHING.lines().collect();
        let mut told = 0;
        for (number, line) in lines.iter().enumerate() {
            let Some((key, written)) = line.split_once(" = ") else {
                continue;
            };
            // The value itself, and each string in it.
            let quoted = written.split('"').count();
            let places = (1..quoted).step_by(2).map(|place| {
                let parts = written.split('"').enumerate();
                let parts = parts.map(|(at, part)| if at == place { "${V}" } else { part });
                parts.collect::<Vec<_>>().join("\"")
            });
            for place in ["\"${V}\"".to_owned(), "[\"${V}\"]".to_owned()]
                .into_iter()
                .chain(places)
            {
                let line = format!("{key} = {place}");
                let mut changed = lines.clone();
                changed[number] = &line;
                let text = changed.join("\n");
                // All of them at each place take minutes.
                let some = values.iter().cycle().skip(told).take(2);
                for value in some {
                    let report = match read(&text, &[("V", value)]) {
                        Ok(config) => {
                            let shown = config.show().to_lowercase();
                            assert!(!shown.contains("q7"), "{line}, {value:?}: {shown}");
                            config.warnings
                        }
                        Err(report) => report,
                    };
                    told += report.problems.len();
                    for problem in &report.problems {
                        let told = format!("{problem:?}").to_lowercase();
                        let quiet = !told.contains("q7") && !told.contains(['\u{1}', '\u{2}']);
                        assert!(quiet, "{line}, {value:?}: {problem}");
                    }
                }
            }
        }
        assert!(told > 500, "{told}");
    }

    #[test]
    fn a_short_value_does_not_spoil_what_is_said_with_the_same_letters() {
        let set = [("N", "1"), ("S", "s"), ("WORD", "http")];
        let cases = [
            (
                "[process]\ndrain = \"${N}\"\nshutdown_delay = \"1-0x\"",
                "2:9: process.drain: expected a duration with a unit such as `\"5s\"`, found the string `\"***\"` (`***` is from the variable `N`)",
            ),
            (
                "[log]\naccess = \"${N}\"\n[process]\ndrain = \"1-0x\"",
                "4:9: process.drain: `1-0x` is not a duration; write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`",
            ),
            (
                "[process]\ndrain = \"${S}\"",
                "2:9: process.drain: `***` is not a duration (`***` is from the variable `S`); write a number and a unit: `ms`, `s`, `m`, `h` or `d`, as in `\"5s\"`",
            ),
            (
                "[upstream.x]\nservers = [\"10.0.0.1:1\"]\nhealth_check = { type = \"${S}\" }",
                "3:25: upstream.x.health_check.type: expected one of `\"http\"`, `\"tcp\"`, `\"grpc\"`, found `\"***\"` (`***` is from the variable `S`)",
            ),
            (
                "[listen.a]\naddress = \"10.1.2.3:${N}\"\n[listen.b]\naddress = \"10.1.2.3:1\"",
                "4:11: listen.b.address: `10.1.2.3:***` clashes with `10.1.2.3:***` of `listen.a.address` at 2:11",
            ),
            (
                "[route.a]\npath = \"/x${N}\"\nupstream = \"app\"\n[route.b]\npath = \"/x1\"\nupstream = \"app\"",
                "4:8: route.b: `b` matches the same requests as `a` at 1:8 with the same precedence; both would take the same requests; give one of them a higher `priority` or another condition",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(told(text, &set)[0], expected);
        }
    }

    #[test]
    fn a_variable_may_turn_on_and_off_what_may_be_a_table() {
        let text = "[upstream.x]\nservers = [\"10.0.0.1:1\"]\nsticky = \"${X}\"\ntls = \"${X}\"\n[route.x]\npath = \"/x\"\nupstream = \"x\"\ncache = \"${X}\"\ncompress = \"${X}\"\n";
        let defaults = "[defaults.route]\ncache = { max_variants = 5 }\n";
        for (value, on) in [("true", true), ("false", false), ("off", false)] {
            let config = read(&format!("{text}{defaults}"), &[("X", value)]);
            let config = config.unwrap_or_else(|report| panic!("{report}"));
            let is_x = |name: &str| name == "x";
            let route = config.routes.iter().find(|one| is_x(one.name.as_str()));
            let upstream = config.upstreams.iter().find(|one| is_x(one.name.as_str()));
            let (route, upstream) = (route.unwrap(), upstream.unwrap());
            assert_eq!(
                route.cache.as_ref().map(|cache| cache.max_variants),
                on.then_some(5)
            );
            assert_eq!(route.compress.is_some(), on);
            assert_eq!(
                (upstream.sticky.is_some(), upstream.tls.is_some()),
                (on, on)
            );
        }
        let listener = "[listen.x]\naddress = \":2\"\ntls = \"${X}\"\n";
        assert!(read(listener, &[("X", "false")]).is_ok());
        assert_eq!(told(text, &[("X", "maybe")]).len(), 4);
    }

    #[test]
    fn what_came_from_the_environment_is_not_shown() {
        let text = "[process]\ndrain = \"${SECRET}s\"\n[admin]\ntoken = \"${TOKEN}\"\n[upstream.x]\nservers = [\"10.0.0.1:1\", \"${HOST}.internal:80\"]\nhealth_check = { path = \"/${PATH_OF}\" }\n[route.x]\npath = \"/x\"\nhost = \"${HOST}.example.com\"\nupstream = \"${UP:-x}\"\nrequest_headers.set = { X-Key = \"${TOKEN}\", X-Other = \"seen\" }\n";
        let set = [
            ("SECRET", "54321"),
            ("TOKEN", "sesame"),
            ("HOST", "hidden"),
            ("PATH_OF", "pr0be"),
        ];
        let config = read(text, &set).unwrap_or_else(|report| panic!("{report}"));
        let shown = config.show();
        for secret in ["54321", "15h", "sesame", "hidden", "pr0be"] {
            assert!(!shown.contains(secret), "{secret} in\n{shown}");
        }
        for line in [
            "drain = \"***\"",
            "token = \"***\"",
            "host = \"***\"",
            "upstream = \"x\"",
            "path = \"***\"",
        ] {
            assert!(
                shown.lines().any(|shown| shown == line),
                "{line} in\n{shown}"
            );
        }
        assert!(
            shown.contains("10.0.0.1:1") && shown.contains("seen"),
            "{shown}"
        );
        toml::from_str::<toml::Table>(&shown).unwrap();
        assert!(!config.tree().to_string().contains("sesame"));
    }

    /// On disk there is no more of them than in the file.
    #[test]
    fn what_is_kept_of_a_config_names_variables_and_does_not_tell_them() {
        let text = "[admin]\ntoken = \"${TOKEN}\"";
        let config = read(text, &[("TOKEN", "sesame")]).unwrap();
        let kept = String::from_utf8(config.contents.main().to_vec()).unwrap();
        assert!(kept.contains(text) && config.contents.files().len() == 1);
        assert!(!format!("{kept}{:?}", config.contents).contains("sesame"));
    }

    #[test]
    fn variables_that_grow_without_end_are_refused() {
        let long = "x".repeat(3 << 20);
        let text = "[route.x]\npath = \"/x\"\nrespond = { body = \"${L}${L}${L}\" }";
        let lines = told(text, &[("L", &long)]);
        assert_eq!(
            lines,
            ["3:20: route.x.respond.body: the variables of all values are more than 8 MiB"]
        );
    }
}
