//! From physical lines to logical ones.
//!
//! A logical line is an instruction with its continuations joined and the comments and empty
//! lines between them taken out, plus the map back to where every byte stood. Leading blanks
//! go from the first line only: those of a continued line belong to the value. Carriage
//! returns go from instruction lines and stay in heredoc bodies.

use super::directive::{DirectiveReader, Directives};
use super::error::{Error, ErrorKind};
use super::heredoc::{Heredoc, Operator};
use super::span::{Source, Span, Word};
use std::ops::Range;

/// The most bytes of a physical line, its line end not counted.
const MAX_LINE: usize = 65535;

/// One instruction on one line.
#[derive(Debug)]
pub(super) struct Logical<'s> {
    pub(super) source: &'s Source,
    /// The joined text.
    pub(super) text: String,
    /// Offset in `text` and offset in the source of every joined piece.
    pieces: Vec<(usize, usize)>,
    /// From the first byte to the end of the last line.
    pub(super) span: Span,
    /// Comment lines directly above.
    pub(super) comments: Vec<String>,
    /// Whether an empty line stood between the pieces.
    pub(super) empty_continuation: bool,
    /// The escape character in force.
    pub(super) escape: char,
}

impl Logical<'_> {
    /// Returns where a range of the text stands in the source.
    pub(super) fn place(&self, range: Range<usize>) -> Span {
        let start = self.origin_of(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        // The end is looked up from the last byte, so that a word never reaches over the
        // line end behind it.
        Span::new(start, self.origin_of(range.end - 1) + 1)
    }

    fn origin_of(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(logical, _)| *logical <= at);
        match piece.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some((logical, origin)) => origin + (at - logical),
            None => self.span.start,
        }
    }

    /// Returns a range of the text as a word.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word::new(&self.text[range.clone()], self.place(range))
    }

    /// Shrinks a range by the blanks at both its ends.
    pub(super) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        start..start.max(range.start + text.trim_end().len())
    }

    /// Makes an error at a range of the text.
    pub(super) fn error(&self, kind: ErrorKind, range: Range<usize>) -> Error {
        Error::new(self.source, kind, self.place(range))
    }

    /// Returns whether some byte of the instruction itself was not UTF-8.
    fn is_broken(&self) -> bool {
        self.pieces
            .iter()
            .enumerate()
            .any(|(i, (logical, origin))| {
                let end = self
                    .pieces
                    .get(i + 1)
                    .map_or(self.text.len(), |next| next.0);
                self.source
                    .broken_in(Span::new(*origin, origin + (end - logical)))
                    .is_some()
            })
    }
}

/// Reads a source line by line.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    source: &'s Source,
    /// The next line, from 1.
    next: usize,
    directives: DirectiveReader,
    comments: Vec<String>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self {
            source,
            next: 1,
            directives: DirectiveReader::default(),
            comments: Vec::new(),
        }
    }

    pub(super) fn source(&self) -> &'s Source {
        self.source
    }

    /// Returns the directives read so far; they are complete with the first instruction.
    pub(super) fn directives(&self) -> &Directives {
        &self.directives.directives
    }

    /// Returns the next instruction, or nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<Logical<'s>>, Error> {
        while let Some(span) = self.physical()? {
            let span = self.trimmed(span);
            let line = self.source.slice(span);
            if line.starts_with('#') {
                self.comment(span)?;
                continue;
            }
            // Anything that is no comment ends the directives, an empty line too.
            self.directives.line(self.source, span)?;
            if line.is_empty() {
                self.comments.clear();
                continue;
            }
            if let Some(logical) = self.join(span)? {
                return Ok(Some(logical));
            }
        }
        Ok(None)
    }

    /// Takes the next physical line without its line end.
    fn physical(&mut self) -> Result<Option<Span>, Error> {
        if self.next > self.source.line_count() || self.source.text().is_empty() {
            return Ok(None);
        }
        let mut span = self.source.line_span(self.next);
        let start = self.source.text()[span.start..].starts_with('\u{feff}');
        if self.next == 1 && start {
            span.start += '\u{feff}'.len_utf8();
        }
        if span.len() > MAX_LINE {
            let kind = ErrorKind::LineTooLong { max: MAX_LINE };
            return Err(Error::new(
                self.source,
                kind,
                Span::new(span.start, span.start),
            ));
        }
        self.next += 1;
        Ok(Some(span))
    }

    /// Cuts leading blanks.
    fn trimmed(&self, span: Span) -> Span {
        let text = self.source.slice(span);
        Span::new(span.end - text.trim_start().len(), span.end)
    }

    fn comment(&mut self, line: Span) -> Result<(), Error> {
        if self.directives.line(self.source, line)? {
            return Ok(());
        }
        let text = self.source.slice(line)[1..].trim();
        if text.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push(text.to_owned());
        }
        Ok(())
    }

    /// Joins the lines that continue `first`.
    fn join(&mut self, first: Span) -> Result<Option<Logical<'s>>, Error> {
        let escape = self.directives().escape;
        let source = self.source;
        let mut logical = Logical {
            source,
            text: String::new(),
            pieces: Vec::new(),
            span: first,
            comments: std::mem::take(&mut self.comments),
            empty_continuation: false,
            escape,
        };
        let (text, mut more) = continued(source.slice(first), escape);
        logical.pieces.push((0, first.start));
        logical.text.push_str(text);
        while more {
            let Some(span) = self.physical()? else { break };
            let line = self.source.slice(span);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim_start().is_empty() {
                logical.empty_continuation = true;
                continue;
            }
            let (text, again) = continued(line, escape);
            logical.pieces.push((logical.text.len(), span.start));
            logical.text.push_str(text);
            logical.span.end = span.end;
            more = again;
        }
        if logical.text.trim().is_empty() {
            return Ok(None);
        }
        if logical.is_broken() {
            let range = logical.trim(0..logical.text.len());
            let word = logical.text.split_whitespace().next().unwrap_or_default();
            let kind = ErrorKind::NotUtf8 {
                instruction: word.to_owned(),
            };
            return Err(logical.error(kind, range));
        }
        Ok(Some(logical))
    }

    /// Reads the bodies of the heredocs that start on `line`.
    pub(super) fn heredocs(
        &mut self,
        line: &mut Logical<'s>,
        operators: Vec<Operator>,
    ) -> Result<Vec<Heredoc>, Error> {
        let mut heredocs = Vec::new();
        for operator in operators {
            let place = line.place(operator.range.clone());
            let body = self.body(&operator, place)?;
            line.span.end = line.span.end.max(body.line_end);
            if self.source.broken_in(body.span).is_some() {
                let word = line.text.split_whitespace().next().unwrap_or_default();
                let kind = ErrorKind::NotUtf8 {
                    instruction: word.to_owned(),
                };
                return Err(Error::new(self.source, kind, body.span));
            }
            let body = Word::new(self.source.slice(body.span), body.span);
            heredocs.push(Heredoc::new(operator, place, body));
        }
        Ok(heredocs)
    }

    fn body(&mut self, operator: &Operator, place: Span) -> Result<Body, Error> {
        let start = self.source.line_span(self.next).start;
        while let Some(span) = self.physical()? {
            let mut line = self.source.slice(span);
            if operator.strip_tabs {
                line = line.trim_start_matches('\t');
            }
            if line == operator.name {
                let end = self.source.line_span(self.next - 1).start;
                return Ok(Body {
                    span: Span::new(start, end),
                    line_end: span.end,
                });
            }
        }
        let kind = ErrorKind::UnterminatedHeredoc {
            name: operator.name.clone(),
        };
        Err(Error::new(self.source, kind, place))
    }
}

/// Where a heredoc body stands.
struct Body {
    span: Span,
    /// The end of the line that ends it.
    line_end: usize,
}

/// Cuts the escape character that continues a line; answers whether there was one.
///
/// Blanks and tabs may follow it. An escape before it takes its meaning away.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let Some(text) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
        return (line, false);
    };
    if text.ends_with(escape) {
        (line, false)
    } else {
        (text, true)
    }
}
