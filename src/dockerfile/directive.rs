//! The `# key=value` lines at the very top of a Dockerfile.
//!
//! `syntax`, `escape` and `check` count, each once, until the first line that is anything
//! else. [`syntax_line`] also finds `syntax` where other kinds of file carry it.

use super::error::{Error, ErrorKind};
use super::span::{Source, Span, Word};
use super::truth::go_bool;

/// The directives of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`.
    pub syntax: Option<Syntax>,
    /// `escape`: a backslash or a backtick.
    pub escape: char,
    /// `check`.
    pub check: CheckOptions,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: CheckOptions::default(),
        }
    }
}

/// The frontend a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// The image reference.
    pub reference: String,
    /// What follows the first blank: the frontend's command line.
    pub rest: String,
    /// Where the value stands.
    pub span: Span,
}

/// What the `check` directive says; also the form of `BUILDKIT_DOCKERFILE_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Rules not to apply.
    pub skip: Rules,
    /// Whether findings fail the build.
    pub error: bool,
    /// Experimental rules to apply.
    pub experimental: Rules,
}

/// A choice of lint rules by name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Rules {
    /// No rule.
    #[default]
    None,
    /// Every rule.
    All,
    /// These; names are case-sensitive.
    Named(Vec<String>),
}

impl Rules {
    /// Returns whether the rule called `name` is chosen.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }

    fn parse(value: &str) -> Self {
        if value == "all" {
            return Self::All;
        }
        Self::Named(
            value
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect(),
        )
    }
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true;experimental=all`; text behind the first blank is ignored.
    pub fn parse(text: &str) -> Result<Self, ErrorKind> {
        let mut options = Self::default();
        let text = text.trim();
        let text = text.split_whitespace().next().unwrap_or("");
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let wrong = || ErrorKind::CheckOption {
                option: part.to_owned(),
            };
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            match key {
                "skip" => options.skip = Rules::parse(value),
                "experimental" => options.experimental = Rules::parse(value),
                "error" => options.error = go_bool(value).ok_or_else(wrong)?,
                _ => {
                    return Err(ErrorKind::CheckOption {
                        option: key.to_owned(),
                    });
                }
            }
        }
        Ok(options)
    }
}

/// Reads directives line by line until they end.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    pub(super) directives: Directives,
    done: bool,
    seen: Vec<&'static str>,
}

impl DirectiveReader {
    /// Looks at one line, its leading blanks already taken off; answers whether it is a directive.
    pub(super) fn line(&mut self, source: &Source, line: Span) -> Result<bool, Error> {
        if self.done {
            return Ok(false);
        }
        let line = Word::new(source.slice(line), line);
        let Some((key, value)) = directive(&line, "#").filter(|(_, v)| !v.text.is_empty()) else {
            self.done = true;
            return Ok(false);
        };
        let known = ["syntax", "escape", "check"];
        let Some(key) = known.into_iter().find(|k| key.eq_ignore_ascii_case(k)) else {
            self.done = true;
            return Ok(false);
        };
        if self.seen.contains(&key) {
            let kind = ErrorKind::DirectiveTwice {
                name: key.to_owned(),
            };
            return Err(Error::new(source, kind, line.span));
        }
        self.seen.push(key);
        self.take(key, &value)
            .map_err(|kind| Error::new(source, kind, value.span))?;
        Ok(true)
    }

    fn take(&mut self, key: &str, value: &Word) -> Result<(), ErrorKind> {
        match key {
            "syntax" => self.directives.syntax = Some(syntax_of(value)),
            "check" => self.directives.check = CheckOptions::parse(&value.text)?,
            _ => {
                self.directives.escape = match value.text.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        return Err(ErrorKind::EscapeToken {
                            value: other.to_owned(),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

fn syntax_of(value: &Word) -> Syntax {
    let (reference, rest) = value
        .text
        .split_once(char::is_whitespace)
        .unwrap_or((&value.text, ""));
    Syntax {
        reference: reference.to_owned(),
        rest: rest.trim().to_owned(),
        span: value.span,
    }
}

/// Splits `# key = value`, `mark` being `#` or `//`; outer blanks of the value are cut.
fn directive(line: &Word, mark: &str) -> Option<(String, Word)> {
    let text = line.text.as_str();
    let body = text.strip_prefix(mark)?;
    let (key, value) = body.split_once('=')?;
    let key = key.trim();
    let mut letters = key.chars();
    let starts = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    if !starts || !letters.all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let start = text.len() - value.trim_start().len();
    let end = text.trim_end().len().max(start);
    Some((key.to_owned(), line.part(start..end)))
}

/// Finds the `syntax` a file asks for, in any of the places BuildKit looks at.
///
/// These are `# syntax=` at the top, also below a `#!` line; `// syntax=`; and a JSON object
/// with a `syntax` key. A Dockerfile that parses has its own in [`Directives::syntax`].
pub fn syntax_line(source: &Source) -> Option<Syntax> {
    let text = source.text();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = source.text().len() - text.len();
    let first = if text.starts_with("#!") { 2 } else { 1 };
    for mark in ["#", "//"] {
        for number in first..=source.line_count() {
            let mut span = source.line_span(number);
            span.start = span.start.max(start);
            let line = source.slice(span);
            let cut = line.len() - line.trim_start().len();
            let line = Word::new(&line[cut..], Span::new(span.start + cut, span.end));
            match directive(&line, mark).filter(|(_, value)| !value.text.is_empty()) {
                Some((key, value)) if key.eq_ignore_ascii_case("syntax") => {
                    return Some(syntax_of(&value));
                }
                Some((key, _)) if ["escape", "check"].contains(&key.to_lowercase().as_str()) => {}
                _ => break,
            }
        }
    }
    let object = text.trim_start();
    if !object.starts_with('{') {
        return None;
    }
    let mut objects = serde_json::Deserializer::from_str(object).into_iter::<serde_json::Value>();
    // A file that is no JSON asks for nothing here.
    let value = objects.next()?.ok()?;
    let name = value.get("syntax")?.as_str()?;
    Some(syntax_of(&Word::new(
        name,
        Span::new(start, source.text().len()),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_line_is_found_in_all_its_places() {
        let found = |text: &str| syntax_line(&Source::new("f", text)).map(|s| s.reference);
        let here = Some("x/y:1".to_owned());
        assert_eq!(found("# syntax=x/y:1\nFROM a"), here);
        assert_eq!(found("\u{feff}# syntax = x/y:1 rest\r\n"), here);
        assert_eq!(found("# escape=`\n#SYNTAX=x/y:1"), here);
        assert_eq!(found("#!/usr/bin/env tool\n# syntax=x/y:1"), here);
        assert_eq!(found("// syntax=x/y:1\n{}"), here);
        assert_eq!(found("{\"syntax\": \"x/y:1\"} rest"), here);
        assert_eq!(found("# hello\n# syntax=x/y:1"), None);
        assert_eq!(found("FROM a\n# syntax=x/y:1"), None);
        assert_eq!(found("{\"syntax\": 1}"), None);
        assert_eq!(found(""), None);
    }
}
