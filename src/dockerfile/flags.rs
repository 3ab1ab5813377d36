//! `--flag=value` between the instruction word and its arguments.
//!
//! Flags know quotes (the backslash escapes in them, whatever the directive says) and end at
//! the first other word or at a bare `--`.

use super::error::{Error, ErrorKind};
use super::lines::Logical;
use super::span::Word;
use super::suggest;
use std::ops::Range;

/// An instruction line cut into instruction word, flags and the rest.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) keyword: Word,
    pub(super) flags: Vec<Word>,
    /// The arguments, without outer blanks.
    pub(super) rest: Range<usize>,
}

/// Blanks that separate words where no quotes count.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Cuts the part of a line in `range`.
pub(super) fn split(line: &Logical<'_>, range: Range<usize>) -> Split {
    let range = line.trim(range);
    let text = &line.text[range.clone()];
    let end = range.start + text.find(is_blank).unwrap_or(text.len());
    let keyword = line.word(range.start..end);
    let (flags, start) = read(line, end..range.end);
    let rest = line.trim(start..range.end);
    Split {
        keyword,
        flags,
        rest,
    }
}

/// Reads flags from the front of `range`; answers where the rest starts.
fn read(line: &Logical<'_>, range: Range<usize>) -> (Vec<Word>, usize) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        let text = &line.text[at..range.end];
        let start = at + (text.len() - text.trim_start().len());
        if !line.text[start..range.end].starts_with("--") {
            return (flags, start);
        }
        let (word, end) = flag_word(&line.text, start..range.end);
        at = end;
        if word == "--" {
            return (flags, end);
        }
        if !word.is_empty() {
            flags.push(Word::new(word, line.place(start..end)));
        }
    }
}

/// Reads one word, quotes removed; answers where it ends.
fn flag_word(text: &str, range: Range<usize>) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text[range.clone()].char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => return (word, range.start + at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (_, '\\') => word.extend(chars.next().map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    (word, range.end)
}

/// What a flag may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Nothing, `true` or `false`.
    Bool,
    /// One value.
    Text,
    /// A value each time it is given.
    List,
}

/// The flags of one instruction, checked.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Checks the flags against those the instruction has.
    pub(super) fn check(
        line: &Logical<'_>,
        flags: &[Word],
        known: &[(&'static str, Holds)],
    ) -> Result<Self, Error> {
        let mut given: Vec<(&'static str, Word)> = Vec::new();
        for flag in flags {
            let error = |kind| Error::new(line.source, kind, flag.span);
            let body = flag.part(2..flag.text.len());
            let (name, value) = match body.text.split_once('=') {
                Some((name, _)) => (name, Some(body.part(name.len() + 1..body.text.len()))),
                None => (body.text.as_str(), None),
            };
            let Some((name, holds)) = known.iter().find(|(known, _)| *known == name) else {
                let near = suggest::nearest(name, known.iter().map(|(known, _)| *known));
                let kind = ErrorKind::UnknownFlag {
                    flag: name.to_owned(),
                };
                return Err(error(kind).suggest(near));
            };
            let flag = (*name).to_owned();
            if *holds != Holds::List && given.iter().any(|(given, _)| given == name) {
                return Err(error(ErrorKind::DuplicateFlag { flag }));
            }
            let value = match (holds, value) {
                (Holds::Bool, None) => Word::new("true", body.span),
                (Holds::Bool, Some(value)) => boolean(value, flag).map_err(error)?,
                (_, Some(value)) => value,
                (_, None) => return Err(error(ErrorKind::FlagValue { flag })),
            };
            given.push((name, value));
        }
        Ok(Self { given })
    }

    /// Returns the value of a flag that stands at most once.
    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| value.clone())
    }

    /// Returns the value of a flag that says nothing when it is empty.
    pub(super) fn filled(&self, name: &str) -> Option<Word> {
        self.text(name).filter(|value| !value.text.is_empty())
    }

    /// Returns every value of a flag, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Word> {
        self.given
            .iter()
            .filter(move |(given, _)| *given == name)
            .map(|(_, value)| value)
    }

    /// Returns what a boolean flag says, nothing where it is absent.
    pub(super) fn truth(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value.text == "true")
    }
}

fn boolean(value: Word, flag: String) -> Result<Word, ErrorKind> {
    let text = value.text.to_lowercase();
    match text.as_str() {
        "" => Err(ErrorKind::FlagValue { flag }),
        "true" | "false" => Ok(Word::new(text, value.span)),
        _ => Err(ErrorKind::FlagBool {
            flag,
            value: value.text,
        }),
    }
}
