//! Dictionaries of RFC 8941 (structured fields), parsed as strictly as its §4.2 says: one mistake, and there is none.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName};

/// The value of a member, without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'f> {
    Boolean(bool),
    Integer(i64),
    /// What is between the quotes, backslashes included.
    String(&'f [u8]),
    /// A decimal, a token, bytes, or an inner list: nobody here asks for what is in it.
    Other,
}

/// All lines of a field as one (§4.2). `None` if there is none.
pub(crate) fn joined<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let mut text = Cow::Borrowed(lines.next()?.as_bytes());
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    Some(text)
}

/// Hands over each member in turn; the last one of a key is the one that holds. `None` if it is no dictionary, however much
/// of it was handed over by then.
pub(crate) fn dictionary<'f>(
    text: &'f [u8],
    mut member: impl FnMut(&'f [u8], Value<'f>),
) -> Option<()> {
    let start = text.iter().position(|&byte| byte != b' ').unwrap_or(0);
    let end = text
        .iter()
        .rposition(|&byte| byte != b' ')
        .map_or(0, |last| last + 1);
    let mut text = Text(text.get(start..end).unwrap_or_default());
    if text.0.is_empty() {
        return Some(());
    }
    loop {
        let key = text.key()?;
        let value = match text.skip(b'=') {
            Some(()) if text.next_is(b'(') => text.inner_list()?,
            Some(()) => text.bare_item()?,
            None => Value::Boolean(true),
        };
        text.parameters()?;
        member(key, value);
        text.skip_while(is_space_or_tab);
        if text.0.is_empty() {
            return Some(());
        }
        text.skip(b',')?;
        text.skip_while(is_space_or_tab);
    }
}

/// What is not read yet.
struct Text<'f>(&'f [u8]);

impl<'f> Text<'f> {
    fn next_is(&self, byte: u8) -> bool {
        self.0.first() == Some(&byte)
    }

    fn skip(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn skip_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'f [u8] {
        let length = self.0.iter().position(|&byte| !belongs(byte));
        let (read, rest) = self.0.split_at(length.unwrap_or(self.0.len()));
        self.0 = rest;
        read
    }

    fn key(&mut self) -> Option<&'f [u8]> {
        let first = *self.0.first()?;
        let starts = first.is_ascii_lowercase() || first == b'*';
        let belongs = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        };
        starts.then(|| self.skip_while(belongs))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.skip(b';').is_some() {
            self.skip_while(is_space);
            self.key()?;
            if self.skip(b'=').is_some() {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Value<'f>> {
        self.skip(b'(')?;
        loop {
            self.skip_while(is_space);
            if self.skip(b')').is_some() {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            if !self.next_is(b' ') && !self.next_is(b')') {
                return None;
            }
        }
    }

    fn bare_item(&mut self) -> Option<Value<'f>> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => self.boolean(),
            b':' => self.bytes(),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.skip_while(|byte| is_token(byte) || byte == b':' || byte == b'/');
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value<'f>> {
        let sign = if self.skip(b'-').is_some() { -1 } else { 1 };
        let whole = self.skip_while(|byte| byte.is_ascii_digit());
        if self.skip(b'.').is_some() {
            let fraction = self.skip_while(|byte| byte.is_ascii_digit());
            let valid = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
            return valid.then_some(Value::Other);
        }
        let append = |number, digit: &u8| number * 10 + i64::from(digit - b'0');
        let valid = (1..=15).contains(&whole.len());
        valid.then(|| Value::Integer(sign * whole.iter().fold(0, append)))
    }

    fn string(&mut self) -> Option<Value<'f>> {
        self.skip(b'"')?;
        let inside = self.0;
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => {
                    let length = inside.len() - rest.len() - 1;
                    return Some(Value::String(inside.get(..length)?));
                }
                b'\\' => match self.0.split_first()? {
                    (b'"' | b'\\', rest) => self.0 = rest,
                    _ => return None,
                },
                b' '..=b'~' => {}
                _ => return None,
            }
        }
    }

    fn boolean(&mut self) -> Option<Value<'f>> {
        self.skip(b'?')?;
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        match byte {
            b'0' => Some(Value::Boolean(false)),
            b'1' => Some(Value::Boolean(true)),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<Value<'f>> {
        self.skip(b':')?;
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        self.skip(b':')?;
        Some(Value::Other)
    }
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_space(byte: u8) -> bool {
    byte == b' '
}

fn is_space_or_tab(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
