//! File name patterns: what COPY and ADD expand, and the matcher `.dockerignore` is built on.
//!
//! A pattern is a row of tokens. Matching walks the name once and keeps the set of places in
//! the pattern that may come next, so it takes at most name length times pattern length,
//! whatever the pattern; there is no backtracking. Names are bytes; `?` and classes take a
//! whole UTF-8 character, or one byte where the name is not UTF-8.
//!
//! The syntax is that of Go's `filepath.Match`: `*` any run, `?` any character, `[a-z]` and
//! `[^a-z]` classes, a backslash before a character that means itself. Nothing here ever
//! matches a `/`, but the tokens for `**` that only [`ignore`](super::ignore) makes.

/// A pattern that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Literal(char),
    /// Any one character but `/`.
    One,
    /// One character of a class.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any run without `/`.
    Star,
    /// Any run at all.
    Anything,
    /// Nothing, or any run that ends in `/`.
    Directories,
}

impl Token {
    /// Whether the token may also match nothing.
    fn is_optional(&self) -> bool {
        matches!(self, Self::Star | Self::Anything | Self::Directories)
    }
}

/// Reads the class behind a `[`; answers the token and what follows the `]`.
pub(super) fn class(text: &str) -> Result<(Token, &str), BadPattern> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']').filter(|_| !ranges.is_empty()) {
            return Ok((Token::Class { negated, ranges }, after));
        }
        let (low, after) = class_char(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix('-') {
            (high, rest) = class_char(after)?;
        }
        ranges.push((low, high));
    }
}

/// Reads one bound of a class; `-` and `]` need a backslash.
fn class_char(text: &str) -> Result<(char, &str), BadPattern> {
    let mut chars = text.chars();
    let c = match chars.next() {
        None | Some('-' | ']') => return Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern)?,
        Some(c) => c,
    };
    // A class that ends here has no `]`.
    if chars.as_str().is_empty() {
        Err(BadPattern)
    } else {
        Ok((c, chars.as_str()))
    }
}

/// Says what a place on `token` becomes with `c`: whether it stays, whether it moves on.
fn reads(token: &Token, c: Option<char>) -> (bool, bool) {
    let slash = c == Some('/');
    match token {
        Token::Literal(want) => (false, c == Some(*want)),
        Token::One => (false, !slash),
        Token::Class { negated, ranges } => {
            let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
            let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            (false, !slash && within != *negated)
        }
        Token::Star => (!slash, !slash),
        Token::Anything => (true, true),
        Token::Directories => (true, slash),
    }
}

/// A set of places in a pattern.
#[derive(Clone, Debug)]
enum Places {
    /// For patterns of up to 127 tokens.
    Bits(u128),
    /// For longer ones.
    List(Vec<bool>),
}

impl Places {
    fn none(tokens: &[Token]) -> Self {
        if tokens.len() < 128 {
            Self::Bits(0)
        } else {
            Self::List(vec![false; tokens.len() + 1])
        }
    }

    fn has(&self, at: usize) -> bool {
        match self {
            Self::Bits(bits) => bits & (1 << at) != 0,
            Self::List(list) => list[at],
        }
    }

    fn add(&mut self, at: usize) {
        match self {
            Self::Bits(bits) => *bits |= 1 << at,
            Self::List(list) => list[at] = true,
        }
    }

    /// Adds a place and those behind it that are reached by matching nothing.
    fn enter(&mut self, tokens: &[Token], mut at: usize) {
        self.add(at);
        while tokens.get(at).is_some_and(Token::is_optional) {
            at += 1;
            self.add(at);
        }
    }
}

/// A walk through a pattern, one character of a name at a time.
#[derive(Clone, Debug)]
pub(super) struct Walk<'p> {
    tokens: &'p [Token],
    places: Places,
}

impl<'p> Walk<'p> {
    /// Stands at the front of a pattern.
    pub(super) fn new(tokens: &'p [Token]) -> Self {
        let mut places = Places::none(tokens);
        places.enter(tokens, 0);
        Self { tokens, places }
    }

    /// Returns whether the whole pattern has matched what was read.
    pub(super) fn is_match(&self) -> bool {
        self.places.has(self.tokens.len())
    }

    /// Returns whether nothing that may follow can make a match.
    pub(super) fn is_dead(&self) -> bool {
        match &self.places {
            Places::Bits(bits) => *bits == 0,
            Places::List(list) => !list.contains(&true),
        }
    }

    /// Reads one of the [`chars`] of a name.
    pub(super) fn step(&mut self, c: Option<char>) {
        let tokens = self.tokens;
        let mut next = Places::none(tokens);
        let mut one = |at: usize| {
            let Some(token) = tokens.get(at) else { return };
            let (stays, goes) = reads(token, c);
            if stays {
                next.add(at);
            }
            if goes {
                next.enter(tokens, at + 1);
            }
        };
        match &self.places {
            Places::Bits(bits) => {
                let mut left = *bits;
                while left != 0 {
                    one(left.trailing_zeros() as usize);
                    left &= left - 1;
                }
            }
            Places::List(list) => {
                list.iter()
                    .enumerate()
                    .filter(|(_, has)| **has)
                    .for_each(|(at, _)| one(at));
            }
        }
        self.places = next;
    }
}

/// Yields the characters of a name, nothing for a byte that is no UTF-8: classes take it for the
/// replacement character, as in Go, but no pattern spells it out.
pub(super) fn chars(name: &[u8]) -> impl Iterator<Item = Option<char>> {
    name.utf8_chunks().flat_map(|chunk| {
        let broken = chunk.invalid().iter().map(|_| None);
        chunk.valid().chars().map(Some).chain(broken)
    })
}

/// A pattern with the syntax of Go's `filepath.Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Reads a pattern.
    pub fn parse(pattern: &str) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '*' if tokens.last() == Some(&Token::Star) => {}
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::One),
                '[' => {
                    let (token, after) = class(rest)?;
                    tokens.push(token);
                    rest = after;
                }
                '\\' => {
                    let escaped = rest.chars().next().ok_or(BadPattern)?;
                    rest = &rest[escaped.len_utf8()..];
                    tokens.push(Token::Literal(escaped));
                }
                c => tokens.push(Token::Literal(c)),
            }
        }
        Ok(Self { tokens })
    }

    /// Returns whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut walk = Walk::new(&self.tokens);
        for c in chars(name) {
            walk.step(c);
            if walk.is_dead() {
                return false;
            }
        }
        walk.is_match()
    }

    /// Returns the one name a pattern without wildcards matches.
    pub fn literal(&self) -> Option<String> {
        let text = |token: &Token| match token {
            Token::Literal(c) => Some(*c),
            _ => None,
        };
        self.tokens.iter().map(text).collect()
    }
}

/// Returns whether a source of COPY holds a wildcard, so that no match is no error.
pub fn has_wildcard(pattern: &str) -> bool {
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => {
                chars.next();
            }
            _ => {}
        }
    }
    false
}

/// One component of a [`PathGlob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// Exactly this name.
    Name(String),
    /// Any name that matches.
    Glob(Glob),
    /// `**`: any number of directories, none included. Only `COPY --parents` gives it meaning.
    AnyDepth,
}

/// A path pattern cut at its slashes, so that a walk below a directory descriptor can follow it
/// one name at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob {
    /// The components; none for the root itself.
    pub components: Vec<Component>,
}

impl PathGlob {
    /// Reads a pattern. It stays below its root: `.` goes, `..` takes a component back or goes.
    ///
    /// With `any_depth` a component `**` becomes [`Component::AnyDepth`], else it is two stars.
    pub fn parse(pattern: &str, any_depth: bool) -> Result<Self, BadPattern> {
        // A slash in a class would be cut through, but no class matches one anyway.
        let mut components = Vec::new();
        for part in pattern.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    components.pop();
                }
                "**" if any_depth => components.push(Component::AnyDepth),
                part => {
                    let glob = Glob::parse(part)?;
                    components.push(match glob.literal() {
                        Some(name) => Component::Name(name),
                        None => Component::Glob(glob),
                    });
                }
            }
        }
        Ok(Self { components })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let table = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("a[^x]b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[\\-x]", "a", false),
            ("[[]x", "[x", true),
            ("*x", "xxx", true),
            ("", "", true),
        ];
        for (pattern, name, want) in table {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.matches(name.as_bytes()), want, "{pattern} on {name}");
        }
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-]", "[]",
        ] {
            assert_eq!(Glob::parse(pattern), Err(BadPattern), "{pattern}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_still_matches() {
        assert!(Glob::parse("a?c").unwrap().matches(b"a\xffc"));
        assert!(Glob::parse("a*").unwrap().matches(b"a\xff\xfe"));
        assert!(Glob::parse("[^x]").unwrap().matches(b"\xff"));
        assert!(!Glob::parse("\u{fffd}").unwrap().matches(b"\xff"));
    }

    #[test]
    fn long_patterns_and_hostile_ones_take_bounded_time() {
        let long = "a".repeat(500);
        assert!(Glob::parse(&long).unwrap().matches(long.as_bytes()));
        let hostile = format!("{}b", "a*".repeat(200));
        assert!(!Glob::parse(&hostile).unwrap().matches(&[b'a'; 5000]));
    }

    #[test]
    fn path_patterns_are_cut_into_components() {
        let parse = |text| PathGlob::parse(text, false).unwrap().components;
        assert_eq!(parse("/"), []);
        assert_eq!(parse("../../a/./b/../c"), parse("a/c"));
        assert!(
            matches!(&parse("a/*.go")[..], [Component::Name(a), Component::Glob(_)] if a == "a")
        );
        assert_eq!(parse("\\[x]"), [Component::Name("[x]".into())]);
        let deep = PathGlob::parse("a/**/b", true).unwrap();
        assert_eq!(deep.components[1], Component::AnyDepth);
    }

    #[test]
    fn wildcards_are_told_from_escaped_ones() {
        assert!(has_wildcard("a*") && has_wildcard("[a]") && has_wildcard("?"));
        assert!(!has_wildcard("a\\*\\?\\[") && !has_wildcard("a"));
    }
}
