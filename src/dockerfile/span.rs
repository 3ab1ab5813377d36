//! Where a piece of Dockerfile text stands.
//!
//! A [`Source`] owns the text of one file and answers line and column questions about a
//! [`Span`], which is a range of byte offsets into that text. Everything the parser hands
//! out points back here, so that nobody has to look for a word a second time.
//!
//! Limits: the text is UTF-8. Bytes that are not are replaced one for one, so that offsets
//! hold, and remembered: the parser refuses them inside an instruction and lets them pass
//! in a comment.

use std::fmt;

/// A range of byte offsets into the text of a [`Source`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset just behind the last byte.
    pub end: usize,
}

impl Span {
    /// Makes the span from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// Returns the number of bytes covered.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Returns whether no byte is covered.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns the smallest span that covers both.
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// A place as people count: lines and columns from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// The text of one Dockerfile and the name to show for it.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    /// Offset of the first byte of every line.
    starts: Vec<usize>,
    /// Offsets of bytes that were not UTF-8.
    broken: Vec<usize>,
}

impl Source {
    /// Takes the bytes of a file; `name` is what messages call it.
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        let mut broken = Vec::new();
        let text = match String::from_utf8(text.into()) {
            Ok(text) => text,
            Err(e) => mend(e.as_bytes(), &mut broken),
        };
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.into(),
            text,
            starts,
            broken,
        }
    }

    /// Returns the name to show in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the whole text; bytes that were not UTF-8 appear as `?`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text a span covers, or nothing where the span is not of this source.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// Returns the number of lines; a line end at the end of the file opens no further line.
    pub fn line_count(&self) -> usize {
        match self.starts.last() {
            Some(last) if *last == self.text.len() && self.starts.len() > 1 => {
                self.starts.len() - 1
            }
            _ => self.starts.len(),
        }
    }

    /// Returns the line (from 1) that holds the byte at `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Returns line and column of the byte at `offset`.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line_of(offset);
        let start = self.starts[line - 1];
        let before = self
            .text
            .get(start..offset.min(self.text.len()))
            .unwrap_or("");
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }

    /// Returns first and last line (from 1) of a span.
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = if span.is_empty() {
            span.start
        } else {
            span.end - 1
        };
        (self.line_of(span.start), self.line_of(last))
    }

    /// Returns the span of a line (from 1) without its line end.
    pub fn line_span(&self, line: usize) -> Span {
        let Some(start) = line
            .checked_sub(1)
            .and_then(|at| self.starts.get(at))
            .copied()
        else {
            return Span::new(self.text.len(), self.text.len());
        };
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\r', '\n']);
        Span::new(start, start + text.len())
    }

    /// Returns the text of a line (from 1) without its line end.
    pub fn line_text(&self, line: usize) -> &str {
        self.slice(self.line_span(line))
    }

    /// Returns the first byte in `span` that was not UTF-8 when the file was read.
    pub(super) fn broken_in(&self, span: Span) -> Option<usize> {
        let at = self.broken.partition_point(|offset| *offset < span.start);
        self.broken
            .get(at)
            .copied()
            .filter(|offset| *offset < span.end)
    }
}

/// Replaces every byte that is not UTF-8 by `?`, so that all offsets stay.
fn mend(bytes: &[u8], broken: &mut Vec<usize>) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for _ in chunk.invalid() {
            broken.push(text.len());
            text.push('?');
        }
    }
    text
}

/// A piece of text as written, not yet expanded, and where it stands.
///
/// The text has its continuations joined and, in flags, its quotes removed, so it can be
/// shorter than its span.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Word {
    /// The text the expander gets.
    pub text: String,
    /// Where it was written.
    pub span: Span,
}

impl Word {
    /// Makes a word.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self {
            text: text.into(),
            span,
        }
    }

    /// Makes a word that stands for itself, whatever a Dockerfile would make of it.
    pub fn literal(text: &str, span: Span) -> Self {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '\\' | '$' | '"' | '\'') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        Self::new(escaped, span)
    }

    /// Returns the part of the word in `range` (byte offsets into its text).
    ///
    /// The part's span is exact where the text stands in the file as it is, and the whole
    /// word's where quotes or continuations were taken out.
    pub(super) fn part(&self, range: std::ops::Range<usize>) -> Self {
        let span = if self.span.len() == self.text.len() {
            Span::new(self.span.start + range.start, self.span.start + range.end)
        } else {
            self.span
        };
        Self {
            text: self.text[range].to_owned(),
            span,
        }
    }

    /// Returns whether the expander could change the text: a variable, a quote or an escape.
    pub fn is_plain(&self, escape: char) -> bool {
        !self.text.contains(['$', '\'', '"', escape])
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @{:?}", self.text, self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let source = Source::new("Dockerfile", "FROM a\nRUN é x\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        let x = source.text().find('x').unwrap();
        assert_eq!(source.position(x), Position { line: 2, column: 7 });
        assert_eq!(source.line_text(2), "RUN é x");
        assert_eq!(source.line_count(), 2);
        assert_eq!(source.lines(Span::new(0, 8)), (1, 2));
    }

    #[test]
    fn bytes_that_are_not_utf8_keep_their_offsets() {
        let source = Source::new("Dockerfile", b"# Andr\xe9\nFROM a".to_vec());
        assert_eq!(source.text(), "# Andr?\nFROM a");
        assert_eq!(source.broken_in(Span::new(0, 8)), Some(6));
        assert_eq!(source.broken_in(Span::new(8, 14)), None);
    }

    #[test]
    fn an_empty_source_has_one_empty_line() {
        let source = Source::new("Dockerfile", "");
        assert_eq!(source.line_count(), 1);
        assert_eq!(source.line_text(1), "");
        assert_eq!(source.line_text(9), "");
    }
}
