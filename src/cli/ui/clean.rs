//! Makes text from elsewhere safe to show on a terminal.
//!
//! What a step prints, a Dockerfile says or an image is called may hold escape sequences that
//! set the window title, write the clipboard (OSC 52) or move the cursor over what was printed
//! before. [`clean`] drops all of them and, when asked to, keeps SGR (colours and weights, ECMA-48
//! 8.3.117) and closes it again. Every sequence is judged within one line: one that does not end
//! there is dropped to the end of the line and can't swallow the next.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// What becomes of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// They stay, with a reset behind them.
    Keep,
    /// They go.
    Drop,
}

/// Returns one line of `text` without anything that does more than print.
///
/// Tabs stay, other control characters go, and so do the characters that turn the direction of
/// writing around. Line breaks inside `text` become spaces.
pub(crate) fn clean(text: &str, colours: Colours) -> Cow<'_, str> {
    if !text.chars().any(is_suspect) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                if let Some(sgr) = escape(&mut rest)
                    && colours == Colours::Keep
                {
                    coloured = true;
                    out.push_str("\x1b[");
                    out.push_str(&sgr);
                    out.push('m');
                }
            }
            // The one-character forms of CSI, and of DCS, SOS, OSC, PM and APC.
            '\u{9b}' => drop(control_sequence(&mut rest)),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => control_string(&mut rest),
            '\t' => out.push('\t'),
            '\n' => out.push(' '),
            c if is_suspect(c) => {}
            c => out.push(c),
        }
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    Cow::Owned(out)
}

/// The same for text of several lines, whose line breaks stay.
pub(crate) fn clean_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| clean(line, Colours::Drop))
        .collect();
    lines.join("\n")
}

fn is_suspect(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Reads what follows an ESC; returns the parameters when it is an SGR sequence.
fn escape(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    match rest.next()? {
        '[' => control_sequence(rest),
        ']' | 'P' | 'X' | '^' | '_' => {
            control_string(rest);
            None
        }
        // ESC, intermediates, final: character sets and the like.
        ' '..='/' => {
            while rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            rest.next();
            None
        }
        _ => None,
    }
}

/// Reads a control sequence behind its introducer; returns its parameters when it is SGR.
fn control_sequence(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut parameters = String::new();
    loop {
        match rest.next()? {
            'm' => {
                let plain = |c: char| c.is_ascii_digit() || matches!(c, ';' | ':');
                return parameters.chars().all(plain).then_some(parameters);
            }
            '@'..='~' => return None,
            c @ ' '..='?' => parameters.push(c),
            _ => return None,
        }
    }
}

/// Drops a string sequence up to BEL or ST, or to the end of the line.
fn control_string(rest: &mut Peekable<Chars<'_>>) {
    while let Some(c) = rest.next() {
        if matches!(c, '\x07' | '\u{9c}') || (c == '\x1b' && rest.next_if_eq(&'\\').is_some()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_colour_gets_through() {
        for (text, kept, dropped) in [
            ("plain\ttext", "plain\ttext", "plain\ttext"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m", "red"),
            ("\x1b[38:2:1:2:3mx", "\x1b[38:2:1:2:3mx\x1b[0m", "x"),
            ("a\x1b]52;c;ZXZpbA==\x07b", "ab", "ab"),
            ("a\x1b]0;title\x1b\\b", "ab", "ab"),
            ("a\x1b]0;no end", "a", "a"),
            ("a\x1b[2J\x1b[1;1Hb", "ab", "ab"),
            ("a\x1b[?25lb\x1b[>4mc", "abc", "abc"),
            ("a\x1bPq#0\x1b\\b", "ab", "ab"),
            ("a\u{9b}2Jb\u{9d}0;t\u{9c}c", "abc", "abc"),
            ("a\x1b(Bb\x1bcc\x08\x07", "abc", "abc"),
            ("x\u{202e}y", "xy", "xy"),
            ("end\x1b", "end", "end"),
            ("a\nb", "a b", "a b"),
        ] {
            assert_eq!(clean(text, Colours::Keep), kept, "{text:?}");
            assert_eq!(clean(text, Colours::Drop), dropped, "{text:?}");
        }
    }

    #[test]
    fn text_of_several_lines_keeps_its_lines() {
        assert_eq!(clean_lines("a\x1b]0;x\nb\x1b[2Kc\n"), "a\nbc\n");
    }
}
