//! The builder's own expansion of words: variables, quotes, escapes.
//!
//! This is BuildKit's small shell, not a shell: `$v`, `${v}`, the modifiers `- + ?` with and
//! without `:`, the pattern modifiers `# ## % %% / //`, single and double quotes, and one
//! escape character. There is no command, arithmetic or file name expansion.
//!
//! An [`Expander`] also keeps the names it met, which is what cache keys, lint rules and
//! suggestions are made from. As in BuildKit the word behind a modifier is expanded whether it
//! is used or not, and an unset variable is empty.

use super::error::ExpandError;
use super::pattern::Pattern;
use std::collections::BTreeSet;
use std::fmt;

/// The most substitutions inside one another.
const MAX_DEPTH: usize = 100;

/// Expands words with one snapshot of the variables.
pub struct Expander<'v> {
    escape: char,
    vars: &'v dyn Fn(&str) -> Option<String>,
    names: Names,
}

/// The names that expansion met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Variables that had a value, also an empty one.
    pub used: BTreeSet<String>,
    /// Variables without a value, used as if they had one.
    pub unset: BTreeSet<String>,
    /// Variables without a value, used with a modifier that provides for it (`- + ?`).
    pub provided_for: BTreeSet<String>,
}

impl fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expander")
            .field("escape", &self.escape)
            .field("names", &self.names)
            .finish()
    }
}

impl<'v> Expander<'v> {
    /// Makes an expander with the escape character of the file and a lookup for variables.
    pub fn new(escape: char, vars: &'v dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            escape,
            vars,
            names: Names::default(),
        }
    }

    /// Expands a word to one string; blanks in it stay.
    pub fn word(&mut self, text: &str) -> Result<String, ExpandError> {
        let mut lexer = Lexer {
            rest: text,
            escape: self.escape,
            quotes: true,
            shows: false,
            depth: 0,
            out: self,
        };
        lexer.run(None, false, &mut Words::default())
    }

    /// Fills in a text that a shell will read, to be shown: quotes stay, and so do variables
    /// without a value, which may be the shell's own.
    pub fn shown(&mut self, text: &str) -> Result<String, ExpandError> {
        let mut lexer = Lexer {
            rest: text,
            escape: self.escape,
            quotes: true,
            shows: true,
            depth: 0,
            out: self,
        };
        lexer.run(None, false, &mut Words::default())
    }

    /// Expands a text and cuts the result at blanks, those of quotes and escapes excepted.
    pub fn words(&mut self, text: &str) -> Result<Vec<String>, ExpandError> {
        let mut words = Words::default();
        let mut lexer = Lexer {
            rest: text,
            escape: self.escape,
            quotes: true,
            shows: false,
            depth: 0,
            out: self,
        };
        lexer.run(None, false, &mut words)?;
        Ok(words.finish())
    }

    /// Expands the body of a heredoc: quotes mean nothing and the escape is the backslash.
    pub fn heredoc(&mut self, body: &str) -> Result<String, ExpandError> {
        let mut lexer = Lexer {
            rest: body,
            escape: '\\',
            quotes: false,
            shows: false,
            depth: 0,
            out: self,
        };
        lexer.run(None, false, &mut Words::default())
    }

    /// Returns the names met so far.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Returns the names met so far and forgets them.
    pub fn take_names(&mut self) -> Names {
        std::mem::take(&mut self.names)
    }

    fn look_up(&mut self, name: &str, provided_for: bool) -> Option<String> {
        let value = (self.vars)(name);
        let set = match (&value, provided_for) {
            (Some(_), _) => &mut self.names.used,
            (None, true) => &mut self.names.provided_for,
            (None, false) => &mut self.names.unset,
        };
        if !set.contains(name) {
            set.insert(name.to_owned());
        }
        value
    }
}

/// Words that grow while a text is expanded.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
}

impl Words {
    /// Adds what may be cut at blanks.
    fn split(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.words.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Lexer<'t, 'e, 'v> {
    rest: &'t str,
    escape: char,
    /// Whether quotes mean something.
    quotes: bool,
    /// Whether quotes and variables without a value stay in the result.
    shows: bool,
    depth: usize,
    out: &'e mut Expander<'v>,
}

impl Lexer<'_, '_, '_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next();
        self.rest = chars.as_str();
        c
    }

    /// Expands up to `stop`, which is taken, or to the end.
    ///
    /// With `raw` escapes stay in the result, for patterns that read them later.
    fn run(
        &mut self,
        stop: Option<char>,
        raw: bool,
        words: &mut Words,
    ) -> Result<String, ExpandError> {
        let mut result = String::new();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(result);
            }
            let quoted = match c {
                '$' => {
                    let value = self.dollar()?;
                    words.split(&value);
                    result.push_str(&value);
                    continue;
                }
                '\'' if self.quotes => self.single_quote()?,
                '"' if self.quotes => self.double_quote(raw)?,
                _ => {
                    self.next();
                    if c == self.escape {
                        self.escaped(raw)
                    } else {
                        words.split(c.encode_utf8(&mut [0; 4]));
                        result.push(c);
                        continue;
                    }
                }
            };
            words.word.push_str(&quoted);
            result.push_str(&quoted);
        }
        match stop {
            None => Ok(result),
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
        }
    }

    /// Reads what an escape covers; one at the very end disappears.
    fn escaped(&mut self, raw: bool) -> String {
        let mut text = String::new();
        if raw {
            text.push(self.escape);
        }
        text.extend(self.next());
        text
    }

    fn single_quote(&mut self) -> Result<String, ExpandError> {
        let Some((text, rest)) = self.rest[1..].split_once('\'') else {
            self.rest = "";
            return Err(ExpandError::OpenQuote {
                quote: "single-quote",
            });
        };
        self.rest = rest;
        Ok(match self.shows {
            true => format!("'{text}'"),
            false => text.to_owned(),
        })
    }

    fn double_quote(&mut self, raw: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        text.extend(self.next().filter(|_| self.shows));
        while let Some(c) = self.peek() {
            if c == '$' {
                text.push_str(&self.dollar()?);
                continue;
            }
            self.next();
            if c == '"' {
                text.extend(self.shows.then_some(c));
                return Ok(text);
            }
            if c != self.escape {
                text.push(c);
                continue;
            }
            let Some(next) = self.peek() else { break };
            let covers = next == '"' || next == '$' || next == self.escape;
            if raw || !covers {
                text.push(c);
            }
            if covers {
                self.next();
                text.push(next);
            }
        }
        Err(ExpandError::OpenQuote {
            quote: "double-quote",
        })
    }

    /// Reads `$name` or `${…}`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        let written = self.rest;
        let stays = self.shows && self.is_unset();
        let value = self.substitution()?;
        Ok(match stays {
            true => written[..written.len() - self.rest.len()].to_owned(),
            false => value,
        })
    }

    /// Whether the variable that comes next has no value.
    fn is_unset(&self) -> bool {
        let behind = &self.rest[1..];
        let (name, _) = split_name(behind.strip_prefix('{').unwrap_or(behind));
        (self.out.vars)(name).is_none()
    }

    fn substitution(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.out.look_up(&name, false).unwrap_or_default());
        }
        if self.depth == MAX_DEPTH {
            return Err(ExpandError::Depth { max: MAX_DEPTH });
        }
        self.next();
        self.depth += 1;
        let value = self.braces();
        self.depth -= 1;
        value
    }

    fn name(&mut self) -> String {
        let (name, rest) = split_name(self.rest);
        self.rest = rest;
        name.to_owned()
    }

    /// Reads what follows `${`, the closing brace included.
    fn braces(&mut self) -> Result<String, ExpandError> {
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let modifier = self.next();
        match modifier {
            None => Err(ExpandError::MissingBrace),
            Some('}') => Ok(self.out.look_up(&name, false).unwrap_or_default()),
            Some(':') => match self.next() {
                None => Err(ExpandError::MissingBrace),
                Some(c @ ('-' | '+' | '?')) => self.choice(&name, c, true),
                Some(c) => Err(ExpandError::Modifier {
                    modifier: format!(":{c}"),
                }),
            },
            Some(c @ ('-' | '+' | '?')) => self.choice(&name, c, false),
            Some(c @ ('#' | '%')) => self.trimmed(&name, c),
            Some('/') => self.replaced(&name),
            Some(c) => Err(ExpandError::Modifier {
                modifier: c.to_string(),
            }),
        }
    }

    /// Reads the word behind a modifier, up to the closing brace.
    fn operand(&mut self, stop: char, raw: bool) -> Result<String, ExpandError> {
        let read = self.run(Some(stop), raw, &mut Words::default());
        read.map_err(|e| match (self.rest.is_empty(), stop) {
            // Whatever broke at the end of the text, the brace is what is missing.
            (true, '/') => ExpandError::MissingSlash,
            (true, _) => ExpandError::MissingBrace,
            (false, _) => e,
        })
    }

    /// `${v-w}`, `${v+w}`, `${v?w}` and, with `empty`, their forms with a colon.
    fn choice(&mut self, name: &str, kind: char, empty: bool) -> Result<String, ExpandError> {
        let word = self.operand('}', false)?;
        let value = self.out.look_up(name, true);
        let missing = match &value {
            None => Some("is not allowed to be unset"),
            Some(value) if empty && value.is_empty() => Some("is not allowed to be empty"),
            Some(_) => None,
        };
        match (kind, missing) {
            ('-', Some(_)) | ('+', None) => Ok(word),
            ('+', Some(_)) => Ok(String::new()),
            ('?', Some(usual)) => {
                let message = if word.is_empty() {
                    usual.to_owned()
                } else {
                    word
                };
                Err(ExpandError::Required {
                    name: name.to_owned(),
                    message,
                })
            }
            _ => Ok(value.unwrap_or_default()),
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trimmed(&mut self, name: &str, kind: char) -> Result<String, ExpandError> {
        let word = self.operand('}', true)?;
        let value = self.out.look_up(name, false).unwrap_or_default();
        let (longest, pattern) = match word.strip_prefix(kind) {
            Some(pattern) => (true, pattern),
            None => (false, word.as_str()),
        };
        let pattern = Pattern::parse(pattern)?;
        Ok(if kind == '#' {
            pattern.without_prefix(&value, longest)
        } else {
            pattern.without_suffix(&value, longest)
        })
    }

    /// `${v/p/r}` and `${v//p/r}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.operand('/', true)?;
        let with = self.operand('}', true)?;
        let value = self.out.look_up(name, false).unwrap_or_default();
        Ok(Pattern::parse(&pattern)?.replace(&value, &with, all))
    }
}

/// Cuts a name off: letters, digits and `_`, or digits alone, or one special parameter.
fn split_name(text: &str) -> (&str, &str) {
    let end = match text.chars().next() {
        Some(c) if c.is_numeric() => text.find(|c: char| !c.is_numeric()),
        Some(c) if "@*#?-$!".contains(c) => Some(1),
        _ => text.find(|c: char| !c.is_alphanumeric() && c != '_'),
    };
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests;
