//! Cutting arguments into words: the JSON form, words at blanks, words that know quotes.

use super::error::{Error, ErrorKind};
use super::flags::is_blank;
use super::instruction::Pair;
use super::lines::Logical;
use super::span::Word;
use std::ops::Range;

/// Reads the JSON form: an array of strings that is the whole text.
///
/// Nothing where the text does not parse as an array: it is then in shell form, silently. An
/// array that holds anything but strings is an error.
pub(super) fn json(line: &Logical<'_>, range: Range<usize>) -> Result<Option<Vec<Word>>, Error> {
    let text = &line.text[range.clone()];
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    // Not JSON is no mistake, but the shell form.
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let mut strings = Vec::with_capacity(values.len());
    for value in values {
        match value {
            serde_json::Value::String(string) => strings.push(string),
            _ => return Err(line.error(ErrorKind::JsonNotStrings, range)),
        }
    }
    let places = string_places(text).into_iter();
    let words = strings.into_iter().zip(places).map(|(string, place)| {
        Word::new(
            string,
            line.place(range.start + place.start..range.start + place.end),
        )
    });
    Ok(Some(words.collect()))
}

/// Finds the string literals of a JSON array that holds nothing else.
fn string_places(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = None;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (byte, start) {
            (b'\\', Some(_)) => {
                bytes.next();
            }
            (b'"', None) => start = Some(at),
            (b'"', Some(begin)) => {
                places.push(begin..at + 1);
                start = None;
            }
            _ => {}
        }
    }
    places
}

/// Cuts at blanks; quotes mean nothing.
pub(super) fn at_blanks(line: &Logical<'_>, range: Range<usize>) -> Vec<Word> {
    ranges_at_blanks(&line.text, range)
        .into_iter()
        .map(|range| line.word(range))
        .collect()
}

/// Finds the ranges between blanks.
pub(super) fn ranges_at_blanks(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text[range.clone()].char_indices() {
        if is_blank(c) {
            words.extend(start.take().map(|start| start..range.start + at));
        } else {
            start.get_or_insert(range.start + at);
        }
    }
    words.extend(start.map(|start| start..range.end));
    words
}

/// Cuts at blanks outside quotes; quotes and escapes stay for the expander.
///
/// An escape that is the last character disappears.
pub(super) fn quoted(line: &Logical<'_>, range: Range<usize>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = None;
    let mut end = range.end;
    let mut quote = None;
    let mut chars = line.text[range.clone()].char_indices();
    while let Some((at, c)) = chars.next() {
        let at = range.start + at;
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        if c == line.escape && quote != Some('\'') {
            if chars.next().is_none() {
                end = at;
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|start| start..end));
    words
        .into_iter()
        .filter(|range| !range.is_empty())
        .map(|range| line.word(range))
        .collect()
}

/// Reads the arguments of ENV and LABEL; answers the pairs and whether they are in old form.
pub(super) fn pairs(
    line: &Logical<'_>,
    range: Range<usize>,
    instruction: &'static str,
) -> Result<(Vec<Pair>, bool), Error> {
    let words = quoted(line, range.clone());
    let Some(first) = words.first() else {
        return Err(line.error(ErrorKind::AtLeastOne { instruction }, range));
    };
    if !first.text.contains('=') {
        return Ok((vec![old_pair(line, range, instruction)?], true));
    }
    let mut pairs = Vec::new();
    for word in words {
        let Some(at) = word.text.find('=') else {
            let kind = ErrorKind::NoEquals { word: word.text };
            return Err(Error::new(line.source, kind, word.span));
        };
        if at == 0 {
            let kind = ErrorKind::BlankName { instruction };
            return Err(Error::new(line.source, kind, word.span));
        }
        pairs.push(Pair {
            key: word.part(0..at),
            value: word.part(at + 1..word.text.len()),
        });
    }
    Ok((pairs, false))
}

/// Reads `KEY the rest of the line`.
fn old_pair(
    line: &Logical<'_>,
    range: Range<usize>,
    instruction: &'static str,
) -> Result<Pair, Error> {
    let text = &line.text[range.clone()];
    let Some(at) = text.find(is_blank) else {
        return Err(line.error(ErrorKind::TwoArguments { instruction }, range));
    };
    let key = line.word(range.start..range.start + at);
    let value = &text[at..];
    let start = range.end - value.trim_start_matches(is_blank).len();
    Ok(Pair {
        key,
        value: line.word(start..range.end),
    })
}
