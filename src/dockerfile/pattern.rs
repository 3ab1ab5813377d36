//! The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`.
//!
//! `*` and `?` match anything but a line end; a backslash covers `* ? \ / }` and nothing else;
//! there are no brackets. Matching steps through the text once for all ways at the same time,
//! so it takes text length times pattern length and never more.

use super::error::ExpandError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Star,
}

/// A pattern of an expansion.
#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '/' | '}')) => Token::Literal(c),
                    other => {
                        let escaped = other.map(String::from).unwrap_or_default();
                        return Err(ExpandError::Pattern {
                            pattern: text.to_owned(),
                            escaped,
                        });
                    }
                },
                c => Token::Literal(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Returns the value without the shortest or longest match at its start.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let cut = matched(&self.tokens, &chars, longest).unwrap_or(0);
        chars[cut..].iter().collect()
    }

    /// Returns the value without the shortest or longest match at its end.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        let cut = matched(&tokens, &chars, longest).unwrap_or(0);
        chars[cut..].iter().rev().collect()
    }

    /// Returns the value with the first or all matches replaced, each as long as can be.
    pub(super) fn replace(&self, value: &str, with: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        // An empty match right behind a match does not count.
        let mut last = None;
        while at <= chars.len() {
            match matched(&self.tokens, &chars[at..], true) {
                Some(length) if length > 0 || last != Some(at) => {
                    result.push_str(with);
                    last = Some(at + length);
                    at += length;
                    if !all {
                        break;
                    }
                    if length > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            result.extend(chars.get(at));
            at += 1;
        }
        result.extend(chars.get(at..).unwrap_or_default());
        result
    }
}

/// Returns the length of the shortest or longest match at the start of `text`.
fn matched(tokens: &[Token], text: &[char], longest: bool) -> Option<usize> {
    // `states[i]`: the first `i` tokens match what was read.
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    skip_stars(tokens, &mut states);
    let mut best = None;
    let mut length = 0;
    loop {
        if states[tokens.len()] {
            best = Some(length);
            if !longest {
                return best;
            }
        }
        let Some(&c) = text.get(length) else {
            return best;
        };
        let mut next = vec![false; states.len()];
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| states[*i]) {
            match token {
                Token::Star if c != '\n' => next[i] = true,
                Token::One if c != '\n' => next[i + 1] = true,
                Token::Literal(want) if *want == c => next[i + 1] = true,
                _ => {}
            }
        }
        skip_stars(tokens, &mut next);
        if !next.contains(&true) {
            return best;
        }
        states = next;
        length += 1;
    }
}

/// Adds the states that are reached by letting a star match nothing.
fn skip_stars(tokens: &[Token], states: &mut [bool]) {
    for (i, token) in tokens.iter().enumerate() {
        if states[i] && *token == Token::Star {
            states[i + 1] = true;
        }
    }
}
