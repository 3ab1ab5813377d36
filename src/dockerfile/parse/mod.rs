//! From text to a [`Dockerfile`].
//!
//! One pass: the [`Reader`] joins lines, [`flags`] cuts the instruction word and its flags off,
//! and one function an instruction reads the rest. The first error ends the pass; it names
//! the line on which its instruction starts. Errors in instructions that no target needs are
//! reported too, where the text alone shows them.

mod copy;
mod from;
mod health;
mod meta;
mod run;

use super::directive::Directives;
use super::error::{Error, ErrorKind};
use super::flags::{self, Flags, Holds, Split};
use super::heredoc::{self, Heredoc};
use super::instruction::{Command, Dockerfile, From, GlobalArg, Instruction, Kind, Origin, Stage};
use super::lines::{Logical, Reader};
use super::lint::{self, Warning};
use super::span::{Source, Span, Word};
use super::{suggest, words};
use std::ops::Range;

/// Every instruction, in the order suggestions are tried.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses a Dockerfile.
pub fn parse(source: &Source) -> Result<Dockerfile, Error> {
    let mut warnings = Vec::new();
    let mut file = parse_reporting(source, &mut warnings)?;
    file.warnings = warnings;
    Ok(file)
}

/// Parses a Dockerfile and puts what the lint rules found into `warnings`, also when it fails.
///
/// The result's own list of warnings stays empty.
pub fn parse_reporting(source: &Source, warnings: &mut Vec<Warning>) -> Result<Dockerfile, Error> {
    let mut file = Dockerfile {
        directives: Directives::default(),
        args: Vec::new(),
        stages: Vec::new(),
        warnings: Vec::new(),
    };
    let mut reader = Reader::new(source);
    let outcome = read_all(&mut reader, &mut file, warnings);
    file.directives.clone_from(reader.directives());
    lint::check(&file, warnings);
    outcome.map(|()| file)
}

/// Reads the directives alone, whatever is wrong with the rest.
pub fn directives(source: &Source) -> Directives {
    let mut reader = Reader::new(source);
    // They are read with the first instruction; an error there leaves those before it.
    let _ = reader.next();
    reader.directives().clone()
}

fn read_all(
    reader: &mut Reader<'_>,
    file: &mut Dockerfile,
    warnings: &mut Vec<Warning>,
) -> Result<(), Error> {
    let source = reader.source();
    let whole = Span::new(0, 0);
    while let Some(line) = reader.next()? {
        let (parsed, origin) = statement(reader, line, warnings)?;
        place(source, file, parsed, origin)?;
    }
    if source.text().is_empty() {
        return Err(Error::new(source, ErrorKind::Empty, whole));
    }
    if !file.stages.is_empty() {
        return Ok(());
    }
    match file.args.last() {
        None => Err(Error::new(source, ErrorKind::NoInstructions, whole)),
        Some(last) => Err(Error::new(source, ErrorKind::NoStages, last.origin.span)),
    }
}

/// Puts an instruction where it belongs.
fn place(
    source: &Source,
    file: &mut Dockerfile,
    parsed: Parsed,
    origin: Origin,
) -> Result<(), Error> {
    match (parsed, file.stages.last_mut()) {
        (Parsed::From(from), _) => {
            file.stages.push(Stage {
                from,
                origin,
                instructions: Vec::new(),
            });
        }
        (Parsed::Kind(kind), Some(stage)) => stage.instructions.push(Instruction { kind, origin }),
        (Parsed::Kind(Kind::Arg(arg)), None) => file.args.push(GlobalArg { arg, origin }),
        (Parsed::Kind(_), None) => {
            let kind = ErrorKind::BeforeFrom {
                instruction: origin.keyword.text.clone(),
            };
            return Err(within(
                Error::new(source, kind, origin.keyword.span),
                source,
                origin.span,
            ));
        }
    }
    Ok(())
}

/// Parses one instruction that stands outside a Dockerfile: an ONBUILD trigger of an image.
///
/// The escape character is the backslash. Spans point into `source`. FROM, MAINTAINER and
/// ONBUILD are refused as triggers.
pub fn parse_instruction(source: &Source) -> Result<Instruction, Error> {
    let whole = Span::new(0, source.text().len());
    let single = || {
        let text = source.text().to_owned();
        Error::new(source, ErrorKind::OnbuildNotSingle { text }, whole)
    };
    let mut reader = Reader::new(source);
    let line = reader.next()?.ok_or_else(single)?;
    let (parsed, origin) = statement(&mut reader, line, &mut Vec::new())?;
    if reader.next()?.is_some() {
        return Err(single());
    }
    let instruction = origin.keyword.text.to_uppercase();
    match parsed {
        Parsed::Kind(Kind::Onbuild(_)) => Err(Error::new(
            source,
            ErrorKind::OnbuildChain,
            origin.keyword.span,
        )),
        Parsed::From(_) | Parsed::Kind(Kind::Maintainer(_)) => {
            let kind = ErrorKind::OnbuildTrigger { instruction };
            Err(Error::new(source, kind, origin.keyword.span))
        }
        Parsed::Kind(kind) => Ok(Instruction { kind, origin }),
    }
}

/// What one logical line says.
enum Parsed {
    From(From),
    Kind(Kind),
}

/// Reads the heredocs of a line and then the instruction itself.
fn statement<'s>(
    reader: &mut Reader<'s>,
    mut line: Logical<'s>,
    warnings: &mut Vec<Warning>,
) -> Result<(Parsed, Origin), Error> {
    let source = line.source;
    let whole = 0..line.text.len();
    let split = flags::split(&line, whole.clone());
    let ready = takes_heredocs(&line, &split).and_then(|takes| {
        if takes {
            operators(reader, &mut line)
        } else {
            Ok((vec![], vec![]))
        }
    });
    let (ranges, heredocs) = ready.map_err(|e| within(e, source, line.span))?;
    let (first, last) = source.lines(line.span);
    let origin = Origin {
        span: line.span,
        line: first,
        last_line: last,
        keyword: split.keyword.clone(),
        original: line.text.trim().to_owned(),
        comments: std::mem::take(&mut line.comments),
    };
    if line.empty_continuation {
        warnings.push(lint::empty_continuation(&origin));
    }
    let request = Request {
        line: &line,
        split,
        ranges,
        heredocs,
    };
    match request.parse() {
        Ok(parsed) => Ok((parsed, origin)),
        Err(e) => Err(within(e, source, line.span)),
    }
}

/// Lets an error name the lines of its whole instruction.
fn within(mut error: Error, source: &Source, span: Span) -> Error {
    let (line, last_line) = source.lines(span);
    error.line = line;
    error.last_line = last_line.max(error.last_line);
    error
}

/// Returns whether `<<` means a heredoc in this instruction.
fn takes_heredocs(line: &Logical<'_>, split: &Split) -> Result<bool, Error> {
    let inner;
    let mut split = split;
    if split.keyword.text.eq_ignore_ascii_case("onbuild") {
        inner = flags::split(line, split.rest.clone());
        split = &inner;
    }
    let is = |name: &&str| split.keyword.text.eq_ignore_ascii_case(name);
    if !["ADD", "COPY", "RUN"].iter().any(is) {
        return Ok(false);
    }
    Ok(words::json(line, split.rest.clone())?.is_none())
}

type Operators = (Vec<Range<usize>>, Vec<Heredoc>);

fn operators<'s>(reader: &mut Reader<'s>, line: &mut Logical<'s>) -> Result<Operators, Error> {
    let found = heredoc::find(&line.text);
    let ranges = found
        .iter()
        .map(|operator| operator.range.clone())
        .collect();
    Ok((ranges, reader.heredocs(line, found)?))
}

/// One instruction about to be read.
struct Request<'a, 's> {
    line: &'a Logical<'s>,
    split: Split,
    /// Where the heredoc operators stand in the line.
    ranges: Vec<Range<usize>>,
    heredocs: Vec<Heredoc>,
}

impl Request<'_, '_> {
    fn parse(self) -> Result<Parsed, Error> {
        let keyword = self.split.keyword.text.as_str();
        let is = |name: &&str| keyword.eq_ignore_ascii_case(name);
        let kind = match INSTRUCTIONS.into_iter().find(is).unwrap_or_default() {
            "FROM" => return from::parse(&self).map(Parsed::From),
            "ADD" => Kind::Add(copy::parse_add(&self)?),
            "ARG" => Kind::Arg(meta::parse_arg(&self)?),
            "CMD" => Kind::Cmd(self.command_without_flags()?),
            "COPY" => Kind::Copy(copy::parse_copy(&self)?),
            "ENTRYPOINT" => Kind::Entrypoint(self.command_without_flags()?),
            "ENV" => Kind::Env(meta::parse_pairs(&self, "ENV")?),
            "EXPOSE" => Kind::Expose(meta::parse_expose(&self)?),
            "HEALTHCHECK" => Kind::Healthcheck(health::parse(&self)?),
            "LABEL" => Kind::Label(meta::parse_pairs(&self, "LABEL")?),
            "MAINTAINER" => Kind::Maintainer(self.one_argument("MAINTAINER")?),
            "ONBUILD" => Kind::Onbuild(meta::parse_onbuild(self)?),
            "RUN" => Kind::Run(run::parse(&self)?),
            "SHELL" => Kind::Shell(meta::parse_shell(&self)?),
            "STOPSIGNAL" => Kind::StopSignal(self.argument("STOPSIGNAL")?),
            "USER" => Kind::User(self.one_argument("USER")?),
            "VOLUME" => Kind::Volume(meta::parse_volume(&self)?),
            "WORKDIR" => Kind::Workdir(self.one_argument("WORKDIR")?),
            _ => return Err(self.unknown()),
        };
        Ok(Parsed::Kind(kind))
    }

    fn unknown(&self) -> Error {
        let word = &self.split.keyword;
        let near = suggest::nearest(&word.text, INSTRUCTIONS).map(|near| {
            if word.text.chars().any(char::is_uppercase) {
                near.to_owned()
            } else {
                near.to_lowercase()
            }
        });
        let kind = ErrorKind::UnknownInstruction {
            word: word.text.clone(),
        };
        Error::new(self.line.source, kind, word.span).suggest(near)
    }

    /// Makes an error at the arguments, or at the instruction word where there are none.
    fn error(&self, kind: ErrorKind) -> Error {
        if self.split.rest.is_empty() {
            return Error::new(self.line.source, kind, self.split.keyword.span);
        }
        self.line.error(kind, self.split.rest.clone())
    }

    fn error_at(&self, kind: ErrorKind, span: Span) -> Error {
        Error::new(self.line.source, kind, span)
    }

    fn flags(&self, known: &[(&'static str, Holds)]) -> Result<Flags, Error> {
        Flags::check(self.line, &self.split.flags, known)
    }

    /// Returns the arguments as one word.
    fn rest(&self) -> Word {
        self.line.word(self.split.rest.clone())
    }

    /// Returns the one argument an instruction needs: everything up to the end.
    fn argument(&self, instruction: &'static str) -> Result<Word, Error> {
        if self.split.rest.is_empty() {
            return Err(self.error(ErrorKind::ExactlyOne { instruction }));
        }
        Ok(self.rest())
    }

    fn one_argument(&self, instruction: &'static str) -> Result<Word, Error> {
        let word = self.argument(instruction)?;
        self.flags(&[])?;
        Ok(word)
    }

    /// Reads a command in JSON or shell form.
    fn command(&self, range: Range<usize>) -> Result<Command, Error> {
        Ok(match words::json(self.line, range.clone())? {
            Some(args) => Command::Exec(args.into_iter().map(|word| word.text).collect()),
            None => Command::Shell(self.line.word(range)),
        })
    }

    fn command_without_flags(&self) -> Result<Command, Error> {
        self.flags(&[])?;
        self.command(self.split.rest.clone())
    }
}

#[cfg(test)]
mod battery;
#[cfg(test)]
mod tests;
