//! `FROM [--platform=p] base [AS name]`.

use super::super::error::{Error, ErrorKind};
use super::super::flags::Holds;
use super::super::instruction::{From, StageName};
use super::super::words;
use super::Request;

pub(super) fn parse(request: &Request<'_, '_>) -> Result<From, Error> {
    let mut args = words::at_blanks(request.line, request.split.rest.clone()).into_iter();
    let arguments = || request.error(ErrorKind::FromArguments);
    let base = args.next().ok_or_else(arguments)?;
    let (as_word, name) = match (args.next(), args.next(), args.next()) {
        (None, _, _) => (None, None),
        (Some(as_word), Some(name), None) if as_word.text.eq_ignore_ascii_case("as") => {
            (Some(as_word), Some(name))
        }
        _ => return Err(arguments()),
    };
    let name = match name {
        None => None,
        Some(word) => {
            let name = word.text.to_lowercase();
            if !is_stage_name(&name) {
                let kind = ErrorKind::StageName { name: word.text };
                return Err(request.error_at(kind, word.span));
            }
            Some(StageName { name, word })
        }
    };
    let flags = request.flags(&[("platform", Holds::Text)])?;
    Ok(From {
        platform: flags.filled("platform"),
        base,
        name,
        as_word,
    })
}

/// Returns whether a lower-cased name may name a stage: `[a-z][a-z0-9-_.]*`.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        })
}
