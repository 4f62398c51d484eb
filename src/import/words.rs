//! The words of nginx's syntax, each with its line.
//!
//! As `ngx_conf_read_token` reads them: quotes and comments count at the beginning of a word only, a backslash keeps what
//! has no meaning of its own (`\.` stays `\.`), `${` opens no block.

use std::iter::Peekable;
use std::str::Chars;

use super::syntax::SyntaxError;

/// What a file is made of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Reads a text word by word.
pub(super) struct Words<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
}

impl<'t> Words<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self {
            rest: text.trim_start_matches('\u{feff}').chars().peekable(),
            line: 1,
        }
    }

    /// The line that was read last, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The next token and the line that it begins on; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Token)>, SyntaxError> {
        self.skip_blank();
        let line = self.line;
        let token = match self.rest.peek() {
            None => return Ok(None),
            Some(';') => self.single(Token::End),
            Some('{') => self.single(Token::Open),
            Some('}') => self.single(Token::Close),
            Some(&quote @ ('"' | '\'')) => Token::Word(self.quoted(quote)?),
            Some(_) => Token::Word(self.bare()?),
        };
        Ok(Some((line, token)))
    }

    /// Skips what is no nginx syntax, up to the `}` that closes the block that was just opened: Lua, with its strings and
    /// comments.
    pub(super) fn skip_lua(&mut self) -> Result<(), SyntaxError> {
        let mut depth = 1_usize;
        while let Some(character) = self.take() {
            match character {
                '{' => depth += 1,
                '}' if depth == 1 => return Ok(()),
                '}' => depth -= 1,
                '"' | '\'' => self.skip_lua_string(character),
                '[' if self.rest.peek() == Some(&'[') => self.skip_lua_brackets(),
                '-' if self.rest.peek() == Some(&'-') => {
                    self.take();
                    self.skip_lua_comment();
                }
                _ => {}
            }
        }
        Err(self.error("the file ends inside a block of Lua"))
    }

    fn skip_lua_string(&mut self, quote: char) {
        while let Some(character) = self.take() {
            match character {
                '\\' => {
                    self.take();
                }
                '\n' => return,
                character if character == quote => return,
                _ => {}
            }
        }
    }

    /// `[[ … ]]`, the first bracket taken.
    fn skip_lua_brackets(&mut self) {
        while let Some(character) = self.take() {
            if character == ']' && self.rest.peek() == Some(&']') {
                self.take();
                return;
            }
        }
    }

    fn skip_lua_comment(&mut self) {
        let mut ahead = self.rest.clone();
        if (ahead.next(), ahead.next()) == (Some('['), Some('[')) {
            self.take();
            return self.skip_lua_brackets();
        }
        while self.take().is_some_and(|character| character != '\n') {}
    }

    fn single(&mut self, token: Token) -> Token {
        self.take();
        token
    }

    fn skip_blank(&mut self) {
        while let Some(&character) = self.rest.peek() {
            if character == '#' {
                while self.rest.peek().is_some_and(|&next| next != '\n') {
                    self.take();
                }
            } else if is_blank(character) {
                self.take();
            } else {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, SyntaxError> {
        let begin = self.line;
        self.take();
        let mut word = String::new();
        for taken in 0.. {
            within_bounds(taken, begin, "; is its quote never closed?")?;
            match self.take() {
                None => {
                    return Err(SyntaxError {
                        line: begin,
                        message: format!("the quote {quote} is never closed"),
                    });
                }
                Some('\\') => self.escape(&mut word),
                Some(character) if character == quote => break,
                Some(character) => word.push(character),
            }
        }
        match self.rest.peek() {
            Some(&next) if !is_blank(next) && !matches!(next, ';' | '{' | ')') => {
                Err(self.error(format!("`{}` right after a quote", next.escape_default())))
            }
            _ => Ok(word),
        }
    }

    fn bare(&mut self) -> Result<String, SyntaxError> {
        let begin = self.line;
        let mut word = String::new();
        let mut taken = 0;
        while let Some(&character) = self.rest.peek() {
            within_bounds(taken, begin, "")?;
            taken += 1;
            match character {
                ';' => break,
                '{' if !word.ends_with('$') => break,
                character if is_blank(character) => break,
                '\\' => {
                    self.take();
                    self.escape(&mut word);
                }
                character => {
                    self.take();
                    word.push(character);
                }
            }
        }
        Ok(word)
    }

    /// What a backslash, which was taken, makes of the next character.
    fn escape(&mut self, word: &mut String) {
        match self.take() {
            Some(next @ ('"' | '\'' | '\\')) => word.push(next),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(next) => word.extend(['\\', next]),
            None => word.push('\\'),
        }
    }

    fn take(&mut self) -> Option<char> {
        let character = self.rest.next();
        if character == Some('\n') {
            self.line += 1;
        }
        character
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError {
            line: self.line,
            message: message.into(),
        }
    }
}

/// Refuses words that nginx itself does not take: they must fit into its buffer (`NGX_CONF_BUFFER`).
fn within_bounds(taken: usize, line: usize, hint: &str) -> Result<(), SyntaxError> {
    match taken > LONGEST_WORD {
        true => Err(SyntaxError {
            line,
            message: format!("a word is longer than {LONGEST_WORD} characters{hint}"),
        }),
        false => Ok(()),
    }
}

const LONGEST_WORD: usize = 4096;

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Words::of(text);
        let mut out = Vec::new();
        while let Some((line, token)) = words.next().unwrap() {
            out.push(match token {
                Token::Word(word) => format!("{line}:{word}"),
                Token::End => ";".into(),
                Token::Open => "{".into(),
                Token::Close => "}".into(),
            });
        }
        out
    }

    #[test]
    fn words_end_at_blanks_and_marks_and_keep_their_lines() {
        assert_eq!(
            words("a b;\n\nlocation /x{c d#e;}"),
            [
                "1:a",
                "1:b",
                ";",
                "3:location",
                "3:/x",
                "{",
                "3:c",
                "3:d#e",
                ";",
                "}"
            ]
        );
    }

    #[test]
    fn quotes_and_comments_count_at_the_beginning_of_a_word() {
        assert_eq!(
            words("# all\nx 'a \"b;' \"c\\\"d\" e\"f g'; # rest"),
            ["2:x", "2:a \"b;", "2:c\"d", "2:e\"f", "2:g'", ";"]
        );
        assert_eq!(words("x \"\" '';"), ["1:x", "1:", "1:", ";"]);
    }

    #[test]
    fn a_backslash_keeps_what_it_means_nothing_for() {
        assert_eq!(
            words(r#"x ~ \.php$ "a\tb\.c" \;d;"#),
            ["1:x", "1:~", "1:\\.php$", "1:a\tb\\.c", "1:\\;d", ";"]
        );
    }

    #[test]
    fn the_brace_of_a_variable_opens_no_block() {
        assert_eq!(words("x ${host}/y{"), ["1:x", "1:${host}/y", "{"]);
    }

    #[test]
    fn what_is_open_at_the_end_is_an_error() {
        let error = |text: &str| {
            let mut words = Words::of(text);
            loop {
                match words.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{text:?} is read"),
                    Err(error) => return (error.line, error.message),
                }
            }
        };
        assert_eq!(error("\n'a\n"), (2, "the quote ' is never closed".into()));
        assert_eq!(error("'a'b;"), (1, "`b` right after a quote".into()));
    }

    /// nginx: "too long parameter".
    #[test]
    fn a_word_that_nginx_has_no_room_for_is_an_error() {
        for quote in ["", "'"] {
            let read = |length| {
                let text = format!("\n{quote}{}{quote};", "x".repeat(length));
                let mut words = Words::of(&text);
                words.next().map(|_| ()).map_err(|error| error.line)
            };
            assert_eq!((read(4000), read(5000)), (Ok(()), Err(2)));
        }
    }
}
