//! Looks at a Dockerfile without building: the linter's findings, and what the file offers.
//!
//! [`check`] evaluates every stage, or what `--target` needs, with the code that a build uses,
//! and runs nothing. No image is fetched: one that the store has answers for its variables and
//! its platform, any other is taken as unknown.

use std::sync::Arc;

use crate::dockerfile::{self, CheckOptions, Dockerfile, Source, Warning};
use crate::event::{Event, Sink};
use crate::image::{Config, Platform};
use crate::store::{Found, Store};

use super::error::{Error, StepError};
use super::eval::{Evaluator, Input};
use super::request::Request;
use super::scope::BuildArgs;
use super::sources::{self, Sources};
use super::step::ImageNeed;

mod linter;
mod outline;
mod report;
pub(super) mod rules;

pub(super) use linter::{Linter, options};
pub use outline::{Named, Outline, OutlineArg, Target, outline, targets};

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// The Dockerfile.
    pub file: Arc<Source>,
    /// The findings, in the order of the file.
    pub warnings: Vec<Warning>,
    /// Why the file can't be built, if it can't; with `error=true` also the findings themselves.
    pub error: Option<Error>,
}

/// Checks a Dockerfile.
pub fn check(store: &Store, request: &Request) -> Result<Checked, Error> {
    let sources = sources::open(store, request)?;
    let file = Arc::clone(&sources.file);
    let options = options(&BuildArgs::new(&request.build_args), &file)?;
    let mut found = Vec::new();
    let parsed = dockerfile::parse_reporting(&file, &mut found);
    let linter = Linter::new(found);
    let (warnings, error) = match &parsed {
        Ok(parsed) => {
            let error = evaluate_all(store, request, &sources, parsed, &linter).err();
            (linter.findings(&options, Some(parsed)), error)
        }
        Err(error) => {
            let error = Error::Dockerfile {
                file: Arc::clone(&file),
                error: error.clone(),
            };
            (linter.findings(&options, None), Some(error))
        }
    };
    Ok(Checked {
        file,
        error: error.or_else(|| violation(&options, &warnings)),
        warnings,
    })
}

fn evaluate_all(
    store: &Store,
    request: &Request,
    sources: &Sources,
    parsed: &Dockerfile,
    lint: &Linter,
) -> Result<(), Error> {
    let platform = request.platforms.first().cloned();
    let input = Input {
        dockerfile: parsed,
        file: &sources.file,
        request,
        platform: &platform.unwrap_or_else(Platform::host),
        ignore: sources.files.context.ignore(),
        lint,
    };
    let mut resolve = |need: &ImageNeed| local_config(store, need);
    let mut evaluator = Evaluator::new(&input, &mut resolve);
    let target = evaluator.prepare()?;
    if request.target.is_some() {
        return evaluator.stage(target);
    }
    (0..parsed.stages.len()).try_for_each(|stage| evaluator.stage(stage))
}

/// Returns the config of an image that the store has, also of one for another platform.
fn local_config(store: &Store, need: &ImageNeed) -> Result<Option<Config>, StepError> {
    if need.layout.is_some() {
        return Ok(None);
    }
    Ok(match store.find(&need.reference.full(), &need.platform)? {
        Found::Image(image) | Found::OtherPlatform(image) => Some(image.config.value().clone()),
        Found::Nothing { .. } => None,
    })
}

/// Returns the error that findings are where the Dockerfile asks for that.
pub(super) fn violation(options: &CheckOptions, warnings: &[Warning]) -> Option<Error> {
    if !options.error || warnings.is_empty() {
        return None;
    }
    let mut rules = Vec::new();
    for warning in warnings {
        if !rules.contains(&warning.rule.name()) {
            rules.push(warning.rule.name());
        }
    }
    Some(Error::Lint { rules })
}

/// Returns a finding in one line, as BuildKit shows it: `RuleName: text (line N)`.
pub fn line_of(warning: &Warning) -> String {
    let Warning {
        rule, text, line, ..
    } = warning;
    format!("{}: {text} (line {line})", rule.name())
}

/// Tells findings to `sink`.
pub(super) fn report(warnings: &[Warning], sink: &dyn Sink) {
    for warning in warnings {
        sink.emit(Event::Warning {
            text: &line_of(warning),
        });
    }
}
