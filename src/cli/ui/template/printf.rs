//! Go's `printf` for the values of templates: `%v %s %q %d %x %X %o %b %f %e %t %c %%`, with the
//! flags `-`, `+`, `0` and a blank, width and precision. What does not fit shows as Go shows it.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::functions::shown;

/// What stands between `%` and the letter.
#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    blank: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Widest that anything is made.
const WIDEST: usize = 10_000;

/// Prints `values` by `pattern`.
pub(super) fn printf(pattern: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let spec = Spec::read(&mut rest);
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                Some(value) => out.push_str(&spec.print(verb, value)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    let more: Vec<String> = values
        .map(|value| format!("{}={}", kind(value), shown(value)))
        .collect();
    if !more.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", more.join(", ")));
    }
    out
}

/// The number that comes next, if one does.
fn number(rest: &mut Peekable<Chars<'_>>) -> Option<usize> {
    let mut found = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        let digit = usize::try_from(digit).unwrap_or(0);
        found = Some((found.unwrap_or(0) * 10 + digit).min(WIDEST));
    }
    found
}

impl Spec {
    fn read(rest: &mut Peekable<Chars<'_>>) -> Self {
        let mut spec = Self::default();
        while let Some(flag) = rest.next_if(|c| matches!(c, '-' | '+' | '0' | ' ' | '#')) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                ' ' => spec.blank = true,
                _ => {}
            }
        }
        spec.width = number(rest).unwrap_or(0);
        if rest.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(rest).unwrap_or(0));
        }
        spec
    }

    fn print(&self, verb: char, value: &Value) -> String {
        let text = || match self.precision {
            Some(most) => shown(value).chars().take(most).collect(),
            None => shown(value),
        };
        let whole = value.as_i64();
        let is_text = value.is_string();
        let printed = match (verb, whole) {
            ('v', Some(number)) | ('d', Some(number)) => self.signed(number.to_string()),
            ('v', None) => text(),
            ('s', None) if !value.is_f64() && !value.is_boolean() => text(),
            ('q', None) if is_text => Value::from(text()).to_string(),
            ('x', Some(number)) => format!("{number:x}"),
            ('X', Some(number)) => format!("{number:X}"),
            ('o', Some(number)) => format!("{number:o}"),
            ('b', Some(number)) => format!("{number:b}"),
            ('c', Some(number)) => {
                let letter = u32::try_from(number).ok().and_then(char::from_u32);
                letter.unwrap_or(char::REPLACEMENT_CHARACTER).into()
            }
            ('x', None) if is_text => text().bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('t', None) if value.is_boolean() => shown(value),
            ('f' | 'g' | 'e', None) if value.is_f64() => {
                let number = value.as_f64().unwrap_or_default();
                self.signed(match (verb, self.precision) {
                    ('f', precision) => format!("{number:.*}", precision.unwrap_or(6)),
                    ('e', precision) => format!("{number:.*e}", precision.unwrap_or(6)),
                    _ => number.to_string(),
                })
            }
            ('T', _) => kind(value).to_owned(),
            _ => format!("%!{verb}({}={})", kind(value), shown(value)),
        };
        self.fill(printed, value.is_number())
    }

    fn signed(&self, number: String) -> String {
        match (number.starts_with('-'), self.plus, self.blank) {
            (false, true, _) => format!("+{number}"),
            (false, false, true) => format!(" {number}"),
            _ => number,
        }
    }

    fn fill(&self, text: String, is_number: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero && is_number) {
            (true, _) => text + &" ".repeat(missing),
            (false, false) => " ".repeat(missing) + &text,
            (false, true) => {
                let at = usize::from(text.starts_with(['-', '+']));
                format!("{}{}{}", &text[..at], "0".repeat(missing), &text[at..])
            }
        }
    }
}

/// The kind of a value, as Go names it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
