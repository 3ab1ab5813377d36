//! `.dockerignore`: which files of a context are hidden.
//!
//! One pattern a line, anchored at the root of the context. The last pattern that matches a
//! path or one of the directories above it decides; `!` brings back. `*`, `?` and classes stay
//! within a component, `**` spans any number of them. The same rules serve `COPY --exclude`.
//!
//! Patterns without wildcards, `**/` in front excepted, are looked up and not tried, however many
//! there are. Of the others matching starts at the last and ends at the first that matches. Most
//! cost a comparison or two; one with wildcards in odd places costs one walk over the path, and
//! only where its literal ends fit.
//!
//! Limits, both on purpose. A class never matches `/`, where docker's negated ones do. And a
//! pattern that repeats an earlier one after a `!` counts again for everything below its
//! directory, as the documentation says; BuildKit forgets that for directories it has already
//! left out.

use std::collections::HashMap;

use super::glob::{BadPattern, Token, Walk, chars, class};

/// Why an ignore file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\" (line {line})")]
    Exclusion {
        /// The line, from 1.
        line: usize,
    },
    /// A class or escape that does not end.
    #[error("syntax error in pattern `{pattern}` (line {line})")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// The pattern as written.
        pattern: String,
    },
}

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    index: Index,
}

/// Where the rules stand, by the way in which they are found.
#[derive(Clone, Debug, Default)]
struct Index {
    /// The last rule for exactly this path.
    paths: HashMap<String, usize>,
    /// The last rule for exactly this component at any depth.
    names: HashMap<String, usize>,
    /// All others, which have to be tried, with the byte that every match begins with.
    tried: Vec<(Option<u8>, usize)>,
}

/// What the patterns say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Whether the path is hidden.
    pub ignored: bool,
    /// The line that decided; nothing where no line matches.
    pub by: Option<Reason<'a>>,
}

/// A line of an ignore file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// Its number, from 1.
    pub line: usize,
    /// Its text without outer blanks, `!` included.
    pub pattern: &'a str,
}

#[derive(Clone, Debug)]
struct Rule {
    line: usize,
    text: String,
    /// Whether it brings back.
    keeps: bool,
    matcher: Matcher,
}

/// A pattern in the form that is fastest to match.
#[derive(Clone, Debug)]
enum Matcher {
    /// This path.
    Path(String),
    /// A component like this, at the root or, for `**/…`, at any depth.
    Name { any_depth: bool, name: Name },
    /// Anything else with wildcards.
    Tokens {
        tokens: Vec<Token>,
        /// What every match starts with.
        head: String,
        /// What some component of every match ends with.
        tail: String,
    },
}

/// A pattern for one component, with the tests that spare most walks.
#[derive(Clone, Debug)]
struct Name {
    /// What every match starts with.
    head: String,
    /// What every match ends with, behind its head.
    tail: String,
    /// What decides between the two.
    middle: Middle,
}

#[derive(Clone, Debug)]
enum Middle {
    /// There is nothing between.
    Empty,
    /// Anything may be between.
    Any,
    /// The whole pattern has to be walked.
    Walk(Vec<Token>),
}

impl Ignore {
    /// Reads an ignore file.
    ///
    /// A byte order mark goes; a line with `#` in column one is a comment; outer blanks, empty
    /// components, `.` and `..` are taken out of a pattern.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text
            .split('\n')
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#'));
        Self::from_lines(lines.map(|(at, line)| (at + 1, line)))
    }

    /// Reads patterns that are not in a file, such as those of `--exclude`; "line" is the place
    /// in the list, from 1.
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IgnoreError> {
        Self::from_lines(
            patterns
                .into_iter()
                .enumerate()
                .map(|(at, line)| (at + 1, line)),
        )
    }

    fn from_lines<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let (keeps, pattern) = match text.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, text),
            };
            if pattern.is_empty() {
                return Err(IgnoreError::Exclusion { line });
            }
            let matcher =
                Matcher::parse(&clean(pattern)).map_err(|BadPattern| IgnoreError::Pattern {
                    line,
                    pattern: text.to_owned(),
                })?;
            rules.push(Rule {
                line,
                text: text.to_owned(),
                keeps,
                matcher,
            });
        }
        let index = Index::of(&rules);
        Ok(Self { rules, index })
    }

    /// Returns whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns whether some pattern brings back what others hide.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }

    /// Returns the patterns as written, without outer blanks.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.text.as_str())
    }

    /// Decides on a path relative to the root: components joined by single slashes, none in
    /// front and none behind.
    pub fn matches(&self, path: &[u8]) -> Verdict<'_> {
        match self.deciding(path) {
            None => Verdict {
                ignored: false,
                by: None,
            },
            Some(at) => {
                let Rule {
                    line, text, keeps, ..
                } = &self.rules[at];
                Verdict {
                    ignored: !keeps,
                    by: Some(Reason {
                        line: *line,
                        pattern: text,
                    }),
                }
            }
        }
    }

    /// Returns whether a directory is hidden with all that can ever be below it.
    ///
    /// A walk needs not enter it. A later `!` pattern that could match below keeps it open. The
    /// root, which has the empty path, is always entered.
    pub fn can_prune(&self, dir: &[u8]) -> bool {
        if dir.is_empty() {
            return false;
        }
        let Some(at) = self.deciding(dir) else {
            return false;
        };
        // What stands before the deciding line is overruled by it below `dir` as well.
        let mut later = self.rules[at + 1..].iter();
        !self.rules[at].keeps && !later.any(|rule| rule.keeps && rule.matcher.may_match_below(dir))
    }

    /// Returns the last rule that matches a path or a directory above it.
    fn deciding(&self, path: &[u8]) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        // Cut once for all rules, and on the stack for all but absurdly deep paths.
        let mut few: [&[u8]; 32] = [&[]; 32];
        let many: Vec<&[u8]>;
        let mut count = 0;
        let mut components = path.split(|b| *b == b'/');
        for (slot, part) in few.iter_mut().zip(&mut components) {
            *slot = part;
            count += 1;
        }
        let parts = if components.next().is_none() {
            &few[..count]
        } else {
            many = path.split(|b| *b == b'/').collect();
            many.as_slice()
        };
        let found = self.index.look_up(path, parts);
        let first = path.first();
        let tried = self.index.tried.iter().rev();
        tried
            .take_while(|(_, at)| Some(*at) > found)
            .filter(|(byte, _)| byte.is_none() || byte.as_ref() == first)
            .map(|(_, at)| *at)
            .find(|at| self.rules[*at].matcher.covers(path, parts))
            .or(found)
    }
}

impl Index {
    fn of(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            match &rule.matcher {
                Matcher::Path(path) => drop(index.paths.insert(path.clone(), at)),
                Matcher::Name { any_depth, name } if name.is_literal() => {
                    let place = match any_depth {
                        true => &mut index.names,
                        false => &mut index.paths,
                    };
                    place.insert(name.head.clone(), at);
                }
                matcher => index.tried.push((matcher.first_byte(), at)),
            }
        }
        index
    }

    /// Returns the last rule without wildcards that matches a path, cut into `parts`, or a directory
    /// above it.
    fn look_up(&self, path: &[u8], parts: &[&[u8]]) -> Option<usize> {
        let mut found = None;
        let mut end = 0;
        for part in parts {
            end += part.len();
            // What is not UTF-8 is in no pattern.
            if let Ok(name) = std::str::from_utf8(part) {
                found = found.max(self.names.get(name).copied());
            }
            if let Ok(path) = std::str::from_utf8(&path[..end]) {
                found = found.max(self.paths.get(path).copied());
            }
            end += 1;
        }
        found
    }
}

/// Takes empty components, `.` and `..` out of a pattern, and the slashes at its ends.
///
/// A `..` at the front stays; nothing in a context matches it. The root alone becomes `/`,
/// which nothing matches either.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        "/".to_owned()
    } else {
        parts.join("/")
    }
}

impl Name {
    fn new(tokens: &[Token]) -> Self {
        let head = literals(tokens.iter());
        let used = head.chars().count();
        let tail: String = literals(tokens[used..].iter().rev())
            .chars()
            .rev()
            .collect();
        let between = &tokens[used..tokens.len() - tail.chars().count()];
        let middle = match between {
            [] => Middle::Empty,
            [Token::Star] => Middle::Any,
            _ => Middle::Walk(tokens.to_vec()),
        };
        Self { head, tail, middle }
    }

    fn is_literal(&self) -> bool {
        self.tail.is_empty() && matches!(self.middle, Middle::Empty)
    }

    fn matches(&self, name: &[u8]) -> bool {
        let Some(rest) = name.strip_prefix(self.head.as_bytes()) else {
            return false;
        };
        let Some(rest) = rest.strip_suffix(self.tail.as_bytes()) else {
            return false;
        };
        match &self.middle {
            Middle::Empty => rest.is_empty(),
            Middle::Any => true,
            Middle::Walk(tokens) => covers(tokens, name),
        }
    }
}

/// Returns the literal characters at the front.
fn literals<'a>(tokens: impl Iterator<Item = &'a Token>) -> String {
    let text = tokens.map_while(|token| match token {
        Token::Literal(c) => Some(*c),
        _ => None,
    });
    text.collect()
}

impl Matcher {
    fn parse(pattern: &str) -> Result<Self, BadPattern> {
        let tokens = tokens(pattern)?;
        let crosses = |token: &Token| {
            matches!(
                token,
                Token::Literal('/') | Token::Anything | Token::Directories
            )
        };
        let (any_depth, name) = match tokens.as_slice() {
            [Token::Directories, name @ ..] => (true, name),
            name => (false, name),
        };
        if !name.is_empty() && !name.iter().any(crosses) {
            return Ok(Self::Name {
                any_depth,
                name: Name::new(name),
            });
        }
        let head = literals(tokens.iter());
        if head.chars().count() == tokens.len() {
            return Ok(Self::Path(head));
        }
        let tail: String = literals(tokens.iter().rev()).chars().rev().collect();
        let tail = tail.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self::Tokens { tokens, head, tail })
    }

    /// Returns the byte that every match begins with, if there is one.
    fn first_byte(&self) -> Option<u8> {
        let head = match self {
            Self::Name {
                any_depth: true, ..
            } => return None,
            Self::Name { name, .. } => &name.head,
            Self::Path(head) | Self::Tokens { head, .. } => head,
        };
        head.bytes().next()
    }

    /// Returns whether the pattern matches `path`, cut into `parts`, or a directory above it.
    fn covers(&self, path: &[u8], parts: &[&[u8]]) -> bool {
        match self {
            Self::Path(want) => is_below(path, want.as_bytes(), true),
            Self::Name {
                any_depth: true,
                name,
            } => parts.iter().any(|part| name.matches(part)),
            Self::Name {
                any_depth: false,
                name,
            } => parts.first().is_some_and(|part| name.matches(part)),
            Self::Tokens { tokens, head, tail } => {
                path.starts_with(head.as_bytes())
                    && (tail.is_empty() || parts.iter().any(|part| part.ends_with(tail.as_bytes())))
                    && covers(tokens, path)
            }
        }
    }

    /// Returns whether the pattern could match something below `dir`.
    fn may_match_below(&self, dir: &[u8]) -> bool {
        match self {
            Self::Path(want) => is_below(want.as_bytes(), dir, false),
            Self::Name {
                any_depth: true, ..
            } => true,
            // It may match `dir` itself, which is for `covers` to say, and nothing below.
            Self::Name {
                any_depth: false, ..
            } => false,
            Self::Tokens { tokens, .. } => {
                let mut walk = Walk::new(tokens);
                for c in chars(dir).chain([Some('/')]) {
                    walk.step(c);
                }
                !walk.is_dead()
            }
        }
    }
}

/// Returns whether the tokens match `path` or a directory above it.
fn covers(tokens: &[Token], path: &[u8]) -> bool {
    let mut walk = Walk::new(tokens);
    for c in chars(path) {
        if c == Some('/') && walk.is_match() {
            return true;
        }
        walk.step(c);
        if walk.is_dead() {
            return false;
        }
    }
    walk.is_match()
}

/// Returns whether `path` lies below `dir`, or with `or_same` is `dir`.
fn is_below(path: &[u8], dir: &[u8], or_same: bool) -> bool {
    match path.strip_prefix(dir) {
        Some([]) => or_same,
        Some(rest) => rest[0] == b'/',
        None => false,
    }
}

/// Reads a cleaned pattern.
fn tokens(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' if rest.starts_with('*') => {
                rest = rest[1..].strip_prefix('/').unwrap_or(&rest[1..]);
                let glued = tokens.is_empty() && !pattern.starts_with("**/");
                tokens.push(if rest.is_empty() || (glued && is_literal(rest)) {
                    Token::Anything
                } else {
                    Token::Directories
                });
            }
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
                tokens.push(Token::Literal(unescape(escaped)));
            }
            c => tokens.push(Token::Literal(c)),
        }
    }
    Ok(tokens)
}

/// Returns whether `**` glued to this text in front spans part of a name: `**.md` means every
/// path that ends in `.md`, while `**x*` starts at a component.
fn is_literal(text: &str) -> bool {
    !text.contains(['*', '?', '[', ']', '\\'])
}

/// Docker reads these letters behind a backslash as the control characters they are in Go.
fn unescape(c: char) -> char {
    match c {
        'a' => '\u{7}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str) -> bool {
        Ignore::parse(text)
            .unwrap()
            .matches(path.as_bytes())
            .ignored
    }

    /// Pattern files for which docker's classic client differs from BuildKit and from us: it
    /// leaves a directory out without looking below unless some `!` pattern starts with the
    /// directory's own name.
    const PRUNED_EARLY: [(&str, &[&str]); 3] = [
        ("*\n!**/*.md", &["b/c/d.md", "docs/README.md", "docs/x.md"]),
        ("*\n!*/main.rs", &["src/main.rs"]),
        ("*\n!**/main.rs", &["src/main.rs"]),
    ];

    #[test]
    fn docker_sends_the_same_files() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/dockerignore.json");
        let text = std::fs::read_to_string(path).unwrap();
        let oracle: serde_json::Value = serde_json::from_str(&text).unwrap();
        let strings = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_str().unwrap().to_owned())
                .collect()
        };
        let files = strings(&oracle["files"]);
        let mut wrong = Vec::new();
        let cases = oracle["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 98);
        for case in cases {
            let patterns = case[0].as_str().unwrap();
            let Ok(ignore) = Ignore::parse(patterns) else {
                assert!(case[1].is_string(), "{patterns:?} was refused here only");
                continue;
            };
            assert!(
                case[1].is_array(),
                "{patterns:?} was refused by docker only"
            );
            let mut want = strings(&case[1]);
            if let Some((_, more)) = PRUNED_EARLY.iter().find(|(text, _)| *text == patterns) {
                want.extend(more.iter().map(|path| (*path).to_owned()));
            }
            want.sort();
            let mut got: Vec<String> = files
                .iter()
                .filter(|f| !ignore.matches(f.as_bytes()).ignored)
                .cloned()
                .collect();
            got.sort();
            if got != want {
                wrong.push(format!("{patterns:?}\n  want {want:?}\n  got  {got:?}"));
            }
            let walked = walk(&ignore, &files);
            assert_eq!(walked, got, "{patterns:?}: pruning changed the result");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Lists the files a walk finds that never enters a directory it may prune.
    fn walk(ignore: &Ignore, files: &[String]) -> Vec<String> {
        let pruned = |file: &String| {
            let dirs = file.match_indices('/').map(|(at, _)| &file[..at]);
            dirs.into_iter().any(|dir| ignore.can_prune(dir.as_bytes()))
        };
        let kept = |file: &&String| !pruned(file) && !ignore.matches(file.as_bytes()).ignored;
        let mut kept: Vec<String> = files.iter().filter(kept).cloned().collect();
        kept.sort();
        kept
    }

    #[test]
    fn the_deciding_line_is_named() {
        let ignore = Ignore::parse("# all\n*.log\n\n  !keep.log  \n").unwrap();
        let verdict = ignore.matches(b"a.log");
        assert_eq!(
            verdict.by,
            Some(Reason {
                line: 2,
                pattern: "*.log"
            })
        );
        let verdict = ignore.matches(b"keep.log");
        assert!(!verdict.ignored);
        assert_eq!(
            verdict.by,
            Some(Reason {
                line: 4,
                pattern: "!keep.log"
            })
        );
        assert_eq!(ignore.matches(b"a").by, None);
    }

    #[test]
    fn the_last_match_decides_for_all_below() {
        assert!(ignored("a\n!a/b\na", "a/b"));
        assert!(!ignored("a\n!a/b", "a/b/c"));
        assert!(ignored("a\n!a/b", "a/c"));
        assert!(!ignored("a\n!a", "a/x"));
    }

    #[test]
    fn byte_order_mark_crlf_and_blanks_are_taken_off() {
        assert!(ignored("\u{feff}a\r\nb\r\n", "a"));
        assert!(ignored("\u{feff}a\r\nb\r\n", "b"));
        assert!(ignored("\tx y \n", "x y"));
        assert!(!ignored("#a\n", "#a"));
        assert!(ignored(" #a\n", "#a"));
    }

    #[test]
    fn faulty_lines_are_named() {
        let e = Ignore::parse("a\n! \n").unwrap_err();
        assert_eq!(e.to_string(), "illegal exclusion pattern: \"!\" (line 2)");
        let e = Ignore::parse("a\nb[\n").unwrap_err();
        assert_eq!(e.to_string(), "syntax error in pattern `b[` (line 2)");
    }

    #[test]
    fn a_directory_is_pruned_only_when_nothing_below_can_come_back() {
        let prune = |text: &str, dir: &str| Ignore::parse(text).unwrap().can_prune(dir.as_bytes());
        assert!(prune("node_modules", "node_modules"));
        assert!(prune("**/node_modules", "a/node_modules"));
        assert!(!prune("node_modules", "src"));
        assert!(!prune("a\n!a/b/c", "a"));
        assert!(!prune("a\n!a/b/c", "a/b"));
        assert!(prune("a\n!a/b/c", "a/x"));
        assert!(prune("!a/b\na", "a"));
        assert!(!prune("a\n!**/keep", "a"));
        assert!(!prune("a\n!*/x", "a"));
        assert!(prune("a\n!*/x", "a/b"));
        assert!(prune("a\n!ab/x", "a"));
        assert!(!prune("*\n!a", "a"));
        assert!(!prune("**", ""));
        assert!(prune("**", "a"));
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        let ignore = Ignore::parse("d/*.o").unwrap();
        assert!(ignore.matches(b"d/\xff\xfe.o").ignored);
    }

    #[test]
    fn excludes_come_as_a_list() {
        let ignore = Ignore::from_patterns(["**/*.md", "!a/b.md", "#x"]).unwrap();
        assert!(ignore.matches(b"a/c.md").ignored && !ignore.matches(b"a/b.md").ignored);
        assert!(ignore.matches(b"#x").ignored);
    }

    #[test]
    fn paths_of_any_depth_are_matched() {
        let deep = format!("{}x.o", "d/".repeat(100));
        assert!(ignored("**/*.o", &deep));
        assert!(ignored("d", &deep));
        assert!(!ignored("**/y", &deep));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 3000,
            failure_persistence: None,
            ..Default::default()
        })]

        /// The short cuts must agree with the plain walk they spare.
        #[test]
        fn short_cuts_change_no_result(
            pattern in "[ab*?/.]{1,10}",
            path in "[ab.]{1,3}(/[ab.]{1,3}){0,4}",
        ) {
            let pattern = clean(&pattern);
            let ignore = Ignore::parse(&pattern).unwrap();
            let walked = covers(&tokens(&pattern).unwrap(), path.as_bytes());
            proptest::prop_assert_eq!(ignore.matches(path.as_bytes()).ignored, walked);
        }
    }
}
