//! The instructions that only describe: ARG, ENV, LABEL, EXPOSE, VOLUME, SHELL, ONBUILD.

use super::super::error::{Error, ErrorKind};
use super::super::heredoc;
use super::super::instruction::{Arg, ArgPair, Onbuild, Pairs};
use super::super::span::Word;
use super::super::{flags, words};
use super::{Parsed, Request};

/// Reads ARG. Flags are ignored, as BuildKit ignores them.
pub(super) fn parse_arg(request: &Request<'_, '_>) -> Result<Arg, Error> {
    let words = words::quoted(request.line, request.split.rest.clone());
    if words.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne { instruction: "ARG" }));
    }
    let mut pairs = Vec::new();
    for word in words {
        let pair = match word.text.find('=') {
            None => ArgPair {
                name: word,
                default: None,
            },
            Some(0) => {
                let kind = ErrorKind::BlankName { instruction: "ARG" };
                return Err(request.error_at(kind, word.span));
            }
            Some(at) => {
                let default = Some(word.part(at + 1..word.text.len()));
                ArgPair {
                    name: word.part(0..at),
                    default,
                }
            }
        };
        pairs.push(pair);
    }
    Ok(Arg { pairs })
}

pub(super) fn parse_pairs(
    request: &Request<'_, '_>,
    instruction: &'static str,
) -> Result<Pairs, Error> {
    if request.split.rest.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne { instruction }));
    }
    let (pairs, legacy) = words::pairs(request.line, request.split.rest.clone(), instruction)?;
    request.flags(&[])?;
    Ok(Pairs { pairs, legacy })
}

/// Reads EXPOSE; the words come sorted, as BuildKit sorts them before it expands them.
pub(super) fn parse_expose(request: &Request<'_, '_>) -> Result<Vec<Word>, Error> {
    let mut words = words::at_blanks(request.line, request.split.rest.clone());
    if words.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne {
            instruction: "EXPOSE",
        }));
    }
    request.flags(&[])?;
    words.sort_by(|a, b| a.text.cmp(&b.text));
    Ok(words)
}

pub(super) fn parse_volume(request: &Request<'_, '_>) -> Result<Vec<Word>, Error> {
    let range = request.split.rest.clone();
    let words = match words::json(request.line, range.clone())? {
        Some(words) => words,
        None => words::at_blanks(request.line, range),
    };
    if words.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne {
            instruction: "VOLUME",
        }));
    }
    request.flags(&[])?;
    let mut paths = Vec::new();
    for word in words {
        let path = word.text.trim();
        if path.is_empty() {
            return Err(request.error_at(ErrorKind::EmptyVolume, word.span));
        }
        paths.push(Word::new(path, word.span));
    }
    Ok(paths)
}

pub(super) fn parse_shell(request: &Request<'_, '_>) -> Result<Vec<String>, Error> {
    request.flags(&[])?;
    if request.split.rest.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne {
            instruction: "SHELL",
        }));
    }
    match words::json(request.line, request.split.rest.clone())? {
        None => Err(request.error(ErrorKind::ShellNotJson)),
        Some(words) if words.is_empty() => Err(request.error(ErrorKind::AtLeastOne {
            instruction: "SHELL",
        })),
        Some(words) => Ok(words.into_iter().map(|word| word.text).collect()),
    }
}

/// Reads ONBUILD and, at once, its trigger.
pub(super) fn parse_onbuild(request: Request<'_, '_>) -> Result<Onbuild, Error> {
    let line = request.line;
    if request.split.rest.is_empty() {
        return Err(request.error(ErrorKind::AtLeastOne {
            instruction: "ONBUILD",
        }));
    }
    request.flags(&[])?;
    let text = &line.text[request.split.rest.clone()];
    let text = heredoc::rejoin(text, &request.heredocs);
    let inner = Request {
        line,
        split: flags::split(line, request.split.rest.clone()),
        ranges: request.ranges,
        heredocs: request.heredocs,
    };
    let word = inner.split.keyword.clone();
    let instruction = word.text.to_uppercase();
    let refused = match instruction.as_str() {
        "ONBUILD" => ErrorKind::OnbuildChain,
        "FROM" | "MAINTAINER" => ErrorKind::OnbuildTrigger { instruction },
        _ => {
            let trigger = match inner.parse() {
                Ok(Parsed::Kind(kind)) => Ok(Box::new(kind)),
                // FROM was refused above, so this is the error of another instruction.
                Ok(Parsed::From(_)) => Err(inner_from(line, word)),
                Err(e) => Err(super::within(e, line.source, line.span)),
            };
            return Ok(Onbuild { text, trigger });
        }
    };
    Err(super::Error::new(line.source, refused, word.span))
}

fn inner_from(line: &super::Logical<'_>, word: Word) -> Error {
    let kind = ErrorKind::OnbuildTrigger {
        instruction: word.text.to_uppercase(),
    };
    Error::new(line.source, kind, word.span)
}
