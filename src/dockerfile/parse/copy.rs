//! `COPY` and `ADD`.

use super::super::error::{Error, ErrorKind};
use super::super::flags::Holds;
use super::super::instruction::{Add, Copy, CopySource};
use super::super::remote::{SourceKind, source_kind};
use super::super::span::Word;
use super::super::words;
use super::Request;
use super::run::has_variable;
use std::ops::Range;

pub(super) fn parse_copy(request: &Request<'_, '_>) -> Result<Copy, Error> {
    let (sources, dest) = arguments(request, "COPY")?;
    let flags = request.flags(&[
        ("from", Holds::Text),
        ("chown", Holds::Text),
        ("chmod", Holds::Text),
        ("link", Holds::Bool),
        ("parents", Holds::Bool),
        ("exclude", Holds::List),
    ])?;
    let from = flags.filled("from");
    if let Some(from) = from.as_ref().filter(|from| has_variable(&from.text)) {
        return Err(request.error_at(ErrorKind::NoExpansion { key: "from" }, from.span));
    }
    if from.is_none() {
        for source in paths(&sources) {
            let kind = match source_kind(&source.text) {
                SourceKind::Url => ErrorKind::CopyUrl,
                SourceKind::Git => ErrorKind::CopyGit,
                SourceKind::Path => continue,
            };
            return Err(request.error_at(kind, source.span));
        }
    }
    Ok(Copy {
        sources,
        dest,
        from,
        chown: flags.filled("chown"),
        chmod: flags.filled("chmod"),
        link: flags.truth("link").unwrap_or(false),
        parents: flags.truth("parents").unwrap_or(false),
        exclude: flags.all("exclude").cloned().collect(),
    })
}

pub(super) fn parse_add(request: &Request<'_, '_>) -> Result<Add, Error> {
    let (sources, dest) = arguments(request, "ADD")?;
    let flags = request.flags(&[
        ("chown", Holds::Text),
        ("chmod", Holds::Text),
        ("link", Holds::Bool),
        ("exclude", Holds::List),
        ("checksum", Holds::Text),
        ("keep-git-dir", Holds::Bool),
        ("unpack", Holds::Bool),
    ])?;
    let checksum = flags.filled("checksum");
    if let Some(checksum) = &checksum {
        check_checksum(request, &sources, checksum)?;
    }
    Ok(Add {
        sources,
        dest,
        chown: flags.filled("chown"),
        chmod: flags.filled("chmod"),
        link: flags.truth("link").unwrap_or(false),
        exclude: flags.all("exclude").cloned().collect(),
        checksum,
        keep_git_dir: flags.truth("keep-git-dir"),
        unpack: flags.truth("unpack"),
    })
}

fn paths(sources: &[CopySource]) -> impl Iterator<Item = &Word> {
    sources.iter().filter_map(|source| match source {
        CopySource::Path(word) => Some(word),
        CopySource::Heredoc(_) => None,
    })
}

/// Refuses `--checksum` where it cannot apply, unless a variable decides whether there is one.
fn check_checksum(
    request: &Request<'_, '_>,
    sources: &[CopySource],
    checksum: &Word,
) -> Result<(), Error> {
    if checksum.text.is_empty() || has_variable(&checksum.text) {
        return Ok(());
    }
    if sources.len() > 1 {
        return Err(request.error_at(ErrorKind::ChecksumSources, checksum.span));
    }
    let local = match sources {
        [CopySource::Path(word)] => {
            !has_variable(&word.text) && source_kind(&word.text) == SourceKind::Path
        }
        _ => true,
    };
    if local {
        return Err(request.error_at(ErrorKind::ChecksumLocal, checksum.span));
    }
    Ok(())
}

/// Reads sources and destination: JSON, or words at blanks, heredocs among them.
fn arguments(
    request: &Request<'_, '_>,
    instruction: &'static str,
) -> Result<(Vec<CopySource>, Word), Error> {
    let line = request.line;
    let mut sources: Vec<CopySource> = match words::json(line, request.split.rest.clone())? {
        Some(words) => words.into_iter().map(CopySource::Path).collect(),
        None => shell_arguments(request),
    };
    if sources.len() < 2 {
        return Err(request.error(ErrorKind::NoDestination { instruction }));
    }
    match sources.pop() {
        Some(CopySource::Path(dest)) => Ok((sources, dest)),
        Some(CopySource::Heredoc(heredoc)) => {
            Err(request.error_at(ErrorKind::HeredocDestination { instruction }, heredoc.span))
        }
        None => Err(request.error(ErrorKind::NoDestination { instruction })),
    }
}

/// Cuts at blanks, but keeps every heredoc operator whole.
fn shell_arguments(request: &Request<'_, '_>) -> Vec<CopySource> {
    let line = request.line;
    let rest = request.split.rest.clone();
    let mut sources = Vec::new();
    let mut at = rest.start;
    let take = |range: Range<usize>, sources: &mut Vec<CopySource>| {
        let ranges = words::ranges_at_blanks(&line.text, range);
        sources.extend(
            ranges
                .into_iter()
                .map(|range| CopySource::Path(line.word(range))),
        );
    };
    for (range, heredoc) in request.ranges.iter().zip(&request.heredocs) {
        // An operator in front of the arguments stands in a flag.
        if range.start < at {
            continue;
        }
        take(at..range.start, &mut sources);
        sources.push(CopySource::Heredoc(heredoc.clone()));
        at = range.end.min(rest.end);
    }
    take(at..rest.end, &mut sources);
    sources
}
