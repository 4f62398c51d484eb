//! Byte offsets -> lines and columns, without rescanning the text for each.

use std::ops::Range;

/// Where the lines of a text begin, and how many characters come before each block of it.
pub(super) struct LineIndex {
    starts: Vec<usize>,
    characters: Vec<usize>,
}

impl LineIndex {
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let after_newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts = std::iter::once(0)
            .chain(after_newlines.map(|(at, _)| at + 1))
            .collect();
        let mut count = 0;
        let mut characters = vec![0];
        for block in bytes.chunks(BLOCK) {
            count += characters_in(block);
            characters.push(count);
        }
        Self { starts, characters }
    }

    /// The line, from 1, that `offset` is on.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Line and column of `offset`, both from 1, the column in characters.
    pub(super) fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.start(line);
        (
            line,
            self.before(text, offset) - self.before(text, start) + 1,
        )
    }

    /// The bytes of a line, without what ends it.
    pub(super) fn range(&self, text: &str, line: usize) -> Range<usize> {
        let start = self.start(line);
        // Not looked for: a line may be as long as the file, with a problem in every byte of it.
        let next = self.starts.get(line.max(1));
        let end = next.map_or(text.len(), |next| next - 1);
        let content = text.get(start..end).unwrap_or_default();
        start..start + content.strip_suffix('\r').unwrap_or(content).len()
    }

    fn start(&self, line: usize) -> usize {
        self.starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0)
    }

    fn before(&self, text: &str, offset: usize) -> usize {
        let offset = offset.min(text.len());
        let block = offset / BLOCK;
        let counted = self.characters.get(block).copied().unwrap_or(0);
        counted
            + characters_in(
                text.as_bytes()
                    .get(block * BLOCK..offset)
                    .unwrap_or_default(),
            )
    }
}

/// Characters that begin in these bytes of UTF-8.
fn characters_in(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

/// So much is counted anew for each column, however long its line is.
const BLOCK: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let text = "a = 1\r\nß = \"ü\" # x\n\nend";
        let index = LineIndex::new(text);
        assert_eq!(index.position(text, 0), (1, 1));
        assert_eq!(index.position(text, text.find("# x").unwrap()), (2, 9));
        assert_eq!(index.position(text, text.len()), (4, 4));
        assert_eq!(&text[index.range(text, 1)], "a = 1");
        assert_eq!(&text[index.range(text, 3)], "");
        assert_eq!(index.position("", 0), (1, 1));
    }

    #[test]
    fn a_column_far_into_a_long_line_is_counted_across_blocks() {
        let text = "é".repeat(5000);
        let index = LineIndex::new(&text);
        for at in [0, 1, 511, 512, 513, 4999, 5000] {
            assert_eq!(index.position(&text, at * 2), (1, at + 1));
        }
    }
}
