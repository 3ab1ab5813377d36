//! The functions of templates: docker's, and those of Go that do not print with a pattern.

use std::cmp::Ordering;

use serde_json::Value;

use super::printf::printf;

/// All there are.
pub(super) const NAMES: [&str; 23] = [
    "json", "index", "slice", "len", "join", "split", "upper", "lower", "title", "pad", "truncate",
    "print", "printf", "println", "not", "and", "or", "eq", "ne", "lt", "le", "gt", "ge",
];

/// Those that leave the heads of tables as they are.
pub(super) const LEAVE_HEADS: [&str; 7] = [
    "json", "join", "split", "upper", "lower", "title", "truncate",
];

/// Calls a function; `and` and `or` are no such.
pub(super) fn call(name: &str, values: &[Value]) -> Result<Option<Value>, String> {
    let text = |at: usize| values.get(at).map(shown).unwrap_or_default();
    let count = |at: usize| {
        let count = values[at].as_u64().and_then(|n| usize::try_from(n).ok());
        count.ok_or_else(|| format!("`{name}` takes no {}", values[at]))
    };
    Ok(Some(match (name, values) {
        ("json", [one]) => one.to_string().into(),
        ("len", [one]) => len(one)?.into(),
        ("upper", [_]) => text(0).to_uppercase().into(),
        ("lower", [_]) => text(0).to_lowercase().into(),
        ("title", [_]) => title(&text(0)).into(),
        ("pad", [_, _, _]) => match text(0) {
            empty if empty.is_empty() => empty.into(),
            text => format!("{}{text}{}", " ".repeat(count(1)?), " ".repeat(count(2)?)).into(),
        },
        ("truncate", [_, _]) => text(0).chars().take(count(1)?).collect::<String>().into(),
        ("not", [one]) => Value::Bool(!truth(one)),
        ("eq", [one, others @ ..]) if !others.is_empty() => {
            let mut same = false;
            for other in others {
                same |= order(name, one, other)? == Some(Ordering::Equal);
            }
            same.into()
        }
        ("ne", [one, other]) => (order(name, one, other)? != Some(Ordering::Equal)).into(),
        ("lt", [one, other]) => order(name, one, other)?.is_some_and(Ordering::is_lt).into(),
        ("le", [one, other]) => order(name, one, other)?.is_some_and(Ordering::is_le).into(),
        ("gt", [one, other]) => order(name, one, other)?.is_some_and(Ordering::is_gt).into(),
        ("ge", [one, other]) => order(name, one, other)?.is_some_and(Ordering::is_ge).into(),
        ("join", [one, _]) => match one {
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(shown).collect();
                items.join(&text(1)).into()
            }
            _ => "".into(),
        },
        ("split", [_, _]) => text(0).split(&text(1)).collect::<Vec<_>>().into(),
        ("print", values) => print(values).into(),
        ("println", values) => {
            let all: Vec<String> = values.iter().map(shown).collect();
            (all.join(" ") + "\n").into()
        }
        ("printf", [Value::String(pattern), values @ ..]) => printf(pattern, values).into(),
        ("slice", [of, from @ ..]) if from.len() <= 2 => slice(of, from)?,
        ("index", [_, ..]) => return index(values),
        _ => return Err(format!("`{name}` does not take {} values", values.len())),
    }))
}

fn len(value: &Value) -> Result<usize, String> {
    match value {
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        Value::String(text) => Ok(text.len()),
        Value::Null => Ok(0),
        other => Err(format!("{other} has no length")),
    }
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut out = String::new();
    let mut within = false;
    for c in text.chars() {
        match within {
            true => out.push(c),
            false => out.extend(c.to_uppercase()),
        }
        within = c.is_alphanumeric() || matches!(c, '_' | '\'');
    }
    out
}

/// Go puts a blank between values unless one of them is a text.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&shown(value));
    }
    out
}

/// Compares two values of a kind; values of different kinds are a mistake, as in Go, but nothing
/// differs from everything.
fn order(name: &str, one: &Value, other: &Value) -> Result<Option<Ordering>, String> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Ok(Some(one.cmp(&other))),
            _ => Ok(one.as_f64().partial_cmp(&other.as_f64())),
        },
        (Value::String(one), Value::String(other)) => Ok(Some(one.cmp(other))),
        (Value::Bool(one), Value::Bool(other)) => Ok(Some(one.cmp(other))),
        (one, other) if one == other => Ok(Some(Ordering::Equal)),
        (Value::Null, _) | (_, Value::Null) => Ok(None),
        _ => Err(format!("`{name}` can't compare {one} with {other}")),
    }
}

fn slice(of: &Value, ends: &[Value]) -> Result<Value, String> {
    let place = |at: usize| match ends.get(at) {
        None => Ok(None),
        Some(end) => match end.as_u64().and_then(|end| usize::try_from(end).ok()) {
            Some(end) => Ok(Some(end)),
            None => Err(format!("{end} is no index")),
        },
    };
    let (from, to) = (place(0)?.unwrap_or(0), place(1)?);
    let range = |len: usize| from..to.unwrap_or(len);
    let sliced = match of {
        Value::String(text) => text.get(range(text.len())).map(Value::from),
        Value::Array(items) => items.get(range(items.len())).map(Value::from),
        other => return Err(format!("{other} can't be sliced")),
    };
    sliced.ok_or_else(|| format!("slice {from} is out of range"))
}

fn index(values: &[Value]) -> Result<Option<Value>, String> {
    let mut value = &values[0];
    for key in &values[1..] {
        let inner = match key {
            Value::String(name) => value.get(name.as_str()),
            Value::Number(number) => number
                .as_u64()
                .and_then(|at| value.get(usize::try_from(at).ok()?)),
            other => return Err(format!("{other} is no index")),
        };
        match (inner, key) {
            (Some(inner), _) => value = inner,
            // A map answers for a missing key with nothing, a list does not.
            (None, Value::String(_)) => return Ok(Some(Value::from(""))),
            (None, _) => return Err(format!("index {key} is out of range")),
        }
    }
    Ok(Some(value.clone()))
}

/// Whether `if` takes it for true.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Prints a value as Go's `fmt` does.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(k, v)| format!("{k}:{}", shown(v)));
            let mut pairs: Vec<String> = pairs.collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}
