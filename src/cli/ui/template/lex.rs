//! Splits a template into text and actions, and actions into tokens.

use serde_json::Value;

#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// `.A.B`; nothing for `.`.
    Path(Vec<String>),
    /// A path right behind a `)`.
    Inner(Vec<String>),
    /// `$name.A.B`; no name for `$`.
    Variable(String, Vec<String>),
    Literal(Value),
    Pipe,
    Open,
    Close,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Splits the text at its actions.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, action) = match rest.split_once("{{") {
            Some((before, after)) => {
                let end = after.find("}}").ok_or("`{{` is not closed by `}}`")?;
                (before, Some((&after[..end], &after[end + 2..])))
            }
            None => (rest, None),
        };
        let before = if trim { before.trim_start() } else { before };
        let Some((action, after)) = action else {
            out.push(Piece::Text(unescape(before)));
            return Ok(out);
        };
        let (before, action) = match action.strip_prefix("- ") {
            Some(action) => (before.trim_end(), action),
            None => (before, action),
        };
        let action = match action.strip_suffix(" -") {
            Some(action) => {
                trim = true;
                action
            }
            None => {
                trim = false;
                action
            }
        };
        out.push(Piece::Text(unescape(before)));
        if !action.trim_start().starts_with("/*") {
            out.push(Piece::Action(tokens(action)?));
        }
        rest = after;
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = action.trim();
    let mut close = false;
    while let Some(first) = rest.chars().next() {
        let (token, used) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Assign, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '"' | '`' => string(rest)?,
            '.' => {
                let end = end(rest, |c| is_name(c) || c == '.');
                let path = path(&rest[..end]);
                match close {
                    true => (Token::Inner(path), end),
                    false => (Token::Path(path), end),
                }
            }
            '$' => {
                let end = 1 + end(&rest[1..], |c| is_name(c) || c == '.');
                let (name, fields) = rest[1..end].split_once('.').unwrap_or((&rest[1..end], ""));
                (Token::Variable(name.to_owned(), path(fields)), end)
            }
            c if c.is_ascii_digit() || c == '-' => number(rest)?,
            c if c.is_alphabetic() => {
                let end = end(rest, is_name);
                (Token::Word(rest[..end].to_owned()), end)
            }
            c => return Err(format!("`{c}` is not understood")),
        };
        out.push(token);
        close = first == ')' && !rest[used..].starts_with(char::is_whitespace);
        rest = rest[used..].trim_start();
    }
    Ok(out)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the characters at the start of `text` end that are of a kind.
fn end(text: &str, is_kind: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_kind(c)).unwrap_or(text.len())
}

fn path(text: &str) -> Vec<String> {
    let names = text.split('.').filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let end = 1 + end(&text[1..], |c| c.is_ascii_digit() || c == '.');
    let digits = &text[..end];
    let whole = digits.parse::<i64>().ok().map(Value::from);
    let number = whole.or_else(|| digits.parse::<f64>().ok().map(Value::from));
    let number = number.ok_or_else(|| format!("`{digits}` is no number"))?;
    Ok((Token::Literal(number), end))
}

/// Reads the string at the start of `text`, and says how long it is.
fn string(text: &str) -> Result<(Token, usize), String> {
    let open = "a string is not closed";
    if let Some(raw) = text.strip_prefix('`') {
        let len = raw.find('`').ok_or(open)?;
        return Ok((Token::Literal(raw[..len].into()), len + 2));
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let string = &text[..=at];
                let value: Result<String, _> = serde_json::from_str(string);
                let value = value.map_err(|_| format!("`{string}` is not a string"))?;
                return Ok((Token::Literal(value.into()), at + 1));
            }
            _ => {}
        }
    }
    Err(open.to_owned())
}
