//! `key=value,…`: the CSV in which docker takes options of options.
//!
//! A field may be quoted as in RFC 4180 when it holds a comma: `"name=a,b"`.

use crate::dockerfile::go_bool;
use crate::image::Compression;

/// Reads pairs of keys and values.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err(format!("`{field}` is no `key=value`")),
    };
    csv(text)?.into_iter().map(pair).collect()
}

/// The same where keys and passwords may be among the values: what is said of a mistake shows none.
pub(super) fn private_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for field in csv(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(match pairs.last() {
                None => "it does not begin with `key=value`".to_owned(),
                Some((key, _)) => format!(
                    "behind the comma after `{key}=…` stands no `key=value`: a value with a comma \
                     is quoted, `\"{key}=…\"`"
                ),
            });
        };
        pairs.push((key.trim().to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

/// Reads a truth value, in all spellings that docker takes.
pub(super) fn flag(key: &str, value: &str) -> Result<bool, String> {
    go_bool(value).ok_or_else(|| format!("`{key}={value}`: expected `true` or `false`"))
}

/// Reads a number.
pub(super) fn number(key: &str, value: &str) -> Result<i32, String> {
    let number = value.parse();
    number.map_err(|_| format!("`{key}={value}`: expected a number"))
}

/// Reads how layers are compressed.
pub(super) fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "estargz" => Ok(Compression::Estargz),
        "uncompressed" => Ok(Compression::None),
        _ => Err(format!(
            "`compression={text}`: expected `gzip`, `zstd`, `estargz` or `uncompressed`"
        )),
    }
}

/// Splits one line of CSV.
pub(crate) fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, after) = quoted_field(quoted).ok_or("a quote is not closed")?;
                match after.strip_prefix(',') {
                    Some(after) => (field, Some(after)),
                    None if after.is_empty() => (field, None),
                    None => return Err("behind a closing quote stands a comma".to_owned()),
                }
            }
            None => match rest.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (rest.to_owned(), None),
            },
        };
        out.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(out),
        }
    }
}

/// Reads up to the closing quote; a doubled quote stands for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Some((field, after)),
        }
    }
}
