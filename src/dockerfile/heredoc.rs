//! Heredocs: finding `<<WORD` on a line, and what the body becomes.
//!
//! An operator is a whole shell word `[fd]<<[-]WORD`, blanks allowed behind the `<<`. It is
//! found outside quotes only. As in BuildKit, `$((1 << 3))` with blanks is taken for one.

use super::span::{Span, Word};
use std::borrow::Cow;
use std::ops::Range;

/// A heredoc of RUN, COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word, its quotes removed: what ends the body, and the file's name in COPY and ADD.
    pub name: String,
    /// Where the operator stands.
    pub span: Span,
    /// The lines between, as they are in the file, carriage returns and tabs included.
    pub body: Word,
    /// `<<-`: leading tabs go from every line.
    pub strip_tabs: bool,
    /// Whether COPY and ADD expand the body: no part of the word was quoted.
    pub expand: bool,
    /// The descriptor in front of the `<<`.
    pub fd: Option<u32>,
}

impl Heredoc {
    pub(super) fn new(operator: Operator, span: Span, body: Word) -> Self {
        let Operator {
            name,
            strip_tabs,
            expand,
            fd,
            ..
        } = operator;
        Self {
            name,
            span,
            body,
            strip_tabs,
            expand,
            fd,
        }
    }

    /// Returns the body with its leading tabs taken off where `<<-` asks for it.
    pub fn content(&self) -> Cow<'_, str> {
        if !self.strip_tabs {
            return Cow::Borrowed(&self.body.text);
        }
        let lines = self.body.text.split_inclusive('\n');
        Cow::Owned(lines.map(|line| line.trim_start_matches('\t')).collect())
    }

    /// Returns whether `text` is this heredoc's operator and nothing else.
    pub(super) fn is_all_of(&self, text: &str) -> bool {
        operator(text).is_some_and(|operator| operator.name == self.name)
    }
}

/// Puts a command and its heredocs together again, as a shell reads them.
pub(super) fn rejoin(text: &str, heredocs: &[Heredoc]) -> String {
    let mut full = text.to_owned();
    for heredoc in heredocs {
        full.push('\n');
        full.push_str(&heredoc.body.text);
        full.push_str(&heredoc.name);
    }
    full
}

/// A heredoc operator on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) name: String,
    /// Where it stands in the text that was searched.
    pub(super) range: Range<usize>,
    pub(super) strip_tabs: bool,
    pub(super) expand: bool,
    pub(super) fd: Option<u32>,
}

/// Finds the heredoc operators of a line; none where its quotes do not match.
pub(super) fn find(line: &str) -> Vec<Operator> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let Some(words) = words(line) else {
        return Vec::new();
    };
    let found = words.into_iter().filter_map(|range| {
        let operator = operator(&line[range.clone()])?;
        Some(Operator { range, ..operator })
    });
    found.collect()
}

/// Reads one shell word as an operator.
fn operator(word: &str) -> Option<Operator> {
    let (fd, rest) = word.split_once("<<")?;
    if !fd.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') || words(rest)?.len() != 1 {
        return None;
    }
    let (name, quoted) = unquote(rest.trim_end());
    if name.is_empty() {
        return None;
    }
    // A descriptor too large to be one was never meant as one.
    Some(Operator {
        name,
        range: 0..word.len(),
        strip_tabs,
        expand: !quoted,
        fd: fd.parse().ok(),
    })
}

/// Splits a line into shell words, quotes and escapes kept.
///
/// `<<` takes the blanks behind it into its word.
fn words(line: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        match c {
            '\\' => {
                chars.next();
            }
            '\'' => {
                chars.find(|(_, c)| *c == '\'')?;
            }
            '"' => loop {
                match chars.next()?.1 {
                    '"' => break,
                    '\\' => {
                        chars.next();
                    }
                    _ => {}
                }
            },
            '<' if line[at..].starts_with("<<") => {
                chars.next();
                while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| start..line.len()));
    Some(words)
}

/// Takes the quotes and escapes out of a word; answers whether there were quotes.
fn unquote(word: &str) -> (String, bool) {
    let mut name = String::new();
    let mut quote = None;
    let mut quoted = false;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => {
                quote = Some(c);
                quoted = true;
            }
            (Some(open), c) if open == c => quote = None,
            (None, '\\') => name.extend(chars.next()),
            (Some('"'), '\\') => match chars.next_if(|c| matches!(c, '"' | '$' | '\\')) {
                Some(escaped) => name.push(escaped),
                None => name.push('\\'),
            },
            _ => name.push(c),
        }
    }
    (name, quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Vec<String> {
        find(line)
            .into_iter()
            .map(|operator| operator.name)
            .collect()
    }

    #[test]
    fn heredoc_words_are_found_in_all_their_forms() {
        let table: &[(&str, &[&str])] = &[
            ("RUN <<EOF", &["EOF"]),
            ("RUN <<-EOF", &["EOF"]),
            ("RUN << EOF", &["EOF"]),
            ("RUN <<'EOF' cat", &["EOF"]),
            ("RUN <<\"EOF\"", &["EOF"]),
            ("RUN <<E\"O\"F", &["EOF"]),
            ("RUN <<a.txt", &["a.txt"]),
            ("RUN <<'one two'", &["one two"]),
            ("RUN <<\\\"x", &["\"x"]),
            ("RUN 3<<A <<B", &["A", "B"]),
            ("COPY <<a <<b /d/", &["a", "b"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("RUN echo $((1 << 3))", &["3))"]),
        ];
        for (line, want) in table {
            assert_eq!(&names(line), want, "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_a_heredoc_is_none() {
        for line in [
            "RUN cat <<<x",
            "RUN x <<",
            "RUN x <<- EOF",
            "RUN echo \"<<EOF\"",
            "RUN echo '<<EOF'",
            "RUN echo \\<<EOF",
            "RUN echo $((1<<3))",
            "RUN cat<<EOF",
            "RUN <<'a' \"",
            "RUN <a <b",
        ] {
            assert_eq!(names(line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn any_quote_in_the_word_turns_expansion_off() {
        let expand = |line: &str| find(line).iter().map(|o| o.expand).collect::<Vec<_>>();
        assert_eq!(expand("RUN <<EOF"), [true]);
        assert_eq!(expand("RUN <<'EOF' <<E\"O\"F"), [false, false]);
        assert_eq!(expand("RUN <<\\\"x"), [true]);
    }

    #[test]
    fn a_descriptor_is_kept() {
        let fds: Vec<_> = find("RUN 3<<A <<B").iter().map(|o| o.fd).collect();
        assert_eq!(fds, [Some(3), None]);
    }

    #[test]
    fn only_tabs_are_taken_off_by_the_dash_form() {
        let operator = operator("<<-E").unwrap();
        let body = Word::new("\t\ta\n \tb\n\r\n", Span::default());
        let heredoc = Heredoc::new(operator, Span::default(), body);
        assert_eq!(heredoc.content(), "a\n \tb\n\r\n");
    }
}
