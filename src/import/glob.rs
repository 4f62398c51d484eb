//! The files that a pattern such as `conf.d/*.conf` names, in the order of their names.

use std::path::{Component, Path, PathBuf};

/// All that match, below `directory` unless the pattern is absolute. Without `*`, `?` and `[` at most one.
pub(super) fn find(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for component in Path::new(pattern).components() {
        let Component::Normal(name) = component else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.to_string_lossy();
        found = found
            .iter()
            .flat_map(|path| match name.contains(['*', '?', '[']) {
                true => children(path, &name),
                false => vec![path.join(&*name)],
            })
            .take(MOST)
            .collect();
    }
    found.retain(|path| path.exists());
    found
}

fn children(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    // The empty path is the working directory.
    let place = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let Ok(entries) = std::fs::read_dir(place) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .filter(|name| matches(pattern, &name.to_string_lossy()))
        .collect();
    names.sort();
    names.into_iter().map(|name| directory.join(name)).collect()
}

/// Whether a name is of the pattern. As in shells, `*` and `?` are for no dot at the beginning.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: one character later.
    let mut last_star = None;
    while let Some(&character) = name.get(place) {
        if pattern.get(at) == Some(&'*') {
            at += 1;
            last_star = Some((at, place));
        } else if let Some(length) = one(pattern.get(at..).unwrap_or_default(), character) {
            at += length;
            place += 1;
        } else if let Some((after, from)) = last_star {
            (at, place) = (after, from + 1);
            last_star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|&rest| rest == '*')
}

/// How much of the pattern stands for the character; `None` where it does not.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['[', class @ ..] => {
            let negated = matches!(class, ['!' | '^', ..]);
            let skip = usize::from(negated);
            let items = class.get(skip..)?;
            // A `]` that comes first is one of the characters.
            let end = 1 + items.get(1..)?.iter().position(|&item| item == ']')?;
            let inside = in_class(items.get(..end)?, character);
            (inside != negated).then_some(1 + skip + end + 1)
        }
        [literal, ..] => (*literal == character).then_some(1),
        [] => None,
    }
}

fn in_class(mut items: &[char], character: char) -> bool {
    while let [first, rest @ ..] = items {
        if let ['-', last, after @ ..] = rest {
            if (*first..=*last).contains(&character) {
                return true;
            }
            items = after;
        } else {
            if *first == character {
                return true;
            }
            items = rest;
        }
    }
    false
}

/// More files than this are no config.
const MOST: usize = 1001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_shells() {
        for (pattern, name, fits) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            ("*", ".a", false),
            (".*", ".a", true),
            ("*", "", true),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("?.conf", "ab.conf", false),
            ("[0-9][0-9]-*", "10-site", true),
            ("[!a-c]x", "dx", true),
            ("[!a-c]x", "bx", false),
            ("[]a]", "]", true),
            ("[a", "[a", false),
            ("*.{a}", "x.{a}", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
