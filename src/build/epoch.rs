//! The time to build with, where it is not given as a number.
//!
//! `SOURCE_DATE_EPOCH` is a build argument, or the default of the Dockerfile's global ARG of that
//! name where the caller names none. Instead of seconds it may name what has a time of its own:
//! `context`, a named context, or a stage that is nothing but `FROM scratch` and one remote ADD. A
//! repository has the time of its commit, a download that of Last-Modified or of the newest entry
//! of the archive that it is. The caller's own directory has none, and names no epoch.

use std::borrow::Cow;
use std::sync::Arc;

use crate::dockerfile::{
    CopySource, Dockerfile, Kind, Source, SourceKind, Span, Stage, source_kind,
};
use crate::image::Platform;

use super::error::{Error, OptionsError, StepError, ValueError};
use super::eval::expand;
use super::git::GitUrl;
use super::named::{self, NamedSource};
use super::request::{ContextSource, Request};
use super::sources::{Opener, Sources};

/// The argument of reproducible-builds.org.
const NAME: &str = "SOURCE_DATE_EPOCH";
/// Stands for the time of the build context.
const CONTEXT: &str = "context";

/// Returns the request with the epoch that is named, if one is.
pub(super) fn settle<'a>(
    opener: &Opener<'a>,
    parsed: &Dockerfile,
    sources: &Sources,
) -> Result<Cow<'a, Request>, Error> {
    let request = opener.request;
    let named = match &request.epoch_name {
        Some(name) => Some((name.clone(), None)),
        None => of_file(request, parsed, &sources.file)?,
    };
    let Some((text, span)) = named else {
        return Ok(Cow::Borrowed(request));
    };
    let naming = Naming {
        opener,
        parsed,
        sources,
    };
    let epoch = match text.parse() {
        Ok(seconds) => Some(seconds),
        Err(_) => naming.time(&text).transpose().unwrap_or_else(|| {
            Err(match span {
                None => Error::Options(OptionsError::Epoch(text.clone())),
                Some(span) => Error::Step {
                    name: format!("ARG {NAME}"),
                    file: Arc::clone(&sources.file),
                    span,
                    error: Box::new(StepError::Value(text.clone(), ValueError::Epoch)),
                },
            })
        })?,
    };
    Ok(match epoch {
        None => Cow::Borrowed(request),
        epoch => Cow::Owned(Request {
            source_date_epoch: epoch,
            ..request.clone()
        }),
    })
}

/// The default of the global ARG, where it counts and is not empty.
fn of_file(
    request: &Request,
    parsed: &Dockerfile,
    file: &Arc<Source>,
) -> Result<Option<(String, Option<Span>)>, Error> {
    if !request.epoch_from_file || given(request, NAME).is_some() {
        return Ok(None);
    }
    let mut pairs = parsed.args.iter().flat_map(|global| &global.arg.pairs);
    let asked = pairs.rfind(|pair| pair.name.text == NAME);
    let Some(word) = asked.and_then(|pair| pair.default.as_ref()) else {
        return Ok(None);
    };
    let look_up = |name: &str| given(request, name);
    let (text, _) = expand(parsed.directives.escape, &look_up, file, word).map_err(|error| {
        Error::Dockerfile {
            file: Arc::clone(file),
            error,
        }
    })?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| (text.to_owned(), Some(word.span))))
}

fn given(request: &Request, name: &str) -> Option<String> {
    let given = request.build_args.iter().rfind(|(key, _)| key == name);
    given.map(|(_, value)| value.clone())
}

/// Finds what a name stands for.
struct Naming<'a> {
    opener: &'a Opener<'a>,
    parsed: &'a Dockerfile,
    sources: &'a Sources,
}

impl Naming<'_> {
    /// Returns the time of what `name` stands for, `None` inside where that has none; `None` when
    /// it stands for nothing that could have one.
    fn time(&self, name: &str) -> Result<Option<Option<i64>>, Error> {
        if name == CONTEXT {
            let origin = self.sources.files.origin.as_ref();
            return Ok(Some(origin.and_then(|origin| origin.time)));
        }
        let contexts = &self.opener.request.contexts;
        if let Some(at) = named::find(contexts, name, &Platform::host()) {
            return match &contexts[at].source {
                NamedSource::Files(source) => self.opener.time(source).map(Some),
                _ => Ok(None),
            };
        }
        let wanted = name.to_lowercase();
        let mut stages = self.parsed.stages.iter();
        let stage = stages.rfind(|stage| stage.name() == Some(&wanted));
        match stage.and_then(|stage| self.remote(stage)) {
            Some(source) => self.opener.time(&source).map(Some),
            None => Ok(None),
        }
    }

    /// What a stage adds, if that is all it does.
    fn remote(&self, stage: &Stage) -> Option<ContextSource> {
        let [instruction] = stage.instructions.as_slice() else {
            return None;
        };
        let Kind::Add(add) = &instruction.kind else {
            return None;
        };
        let [CopySource::Path(word)] = add.sources.as_slice() else {
            return None;
        };
        if stage.from.base.text != "scratch" {
            return None;
        }
        let look_up = |name: &str| given(self.opener.request, name);
        let escape = self.parsed.directives.escape;
        let (url, _) = expand(escape, &look_up, &self.sources.file, word).ok()?;
        match source_kind(&url) {
            SourceKind::Url => Some(ContextSource::Url(url)),
            SourceKind::Git => GitUrl::parse(&url).ok().map(ContextSource::Git),
            SourceKind::Path => None,
        }
    }
}
