//! Gathers what the lint rules find, and decides what of it is reported.
//!
//! Evaluation says where it stands ([`Linter::enter`]) and reports from there. A finding counts
//! unless the `check` directive, the build argument that replaces it, or a `# check=skip=…`
//! comment right above the instruction leaves its rule out. Rules about instructions count only
//! in stages that were looked at.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::dockerfile::{
    CheckOptions, Dockerfile, Instruction, Origin, Rule, Source, Span, Warning,
};

use super::super::error::{Error, OptionsError};
use super::super::scope::BuildArgs;

/// The build argument that stands in for the `check` directive.
const OPTIONS_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The findings of one build.
#[derive(Debug, Default)]
pub(in super::super) struct Linter(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    found: Vec<Warning>,
    /// Where evaluation stands.
    here: Place,
    /// Stages that were looked at.
    reached: BTreeSet<usize>,
    /// Stages whose image sets a shell, for which the shell form is no slip.
    with_shell: BTreeSet<usize>,
}

#[derive(Debug, Clone, Default)]
struct Place {
    span: Span,
    line: usize,
    last_line: usize,
    stage: Option<usize>,
}

impl Linter {
    /// Starts with what the text alone showed.
    pub(in super::super) fn new(found: Vec<Warning>) -> Self {
        Self(RefCell::new(State {
            found,
            ..State::default()
        }))
    }

    /// Reports the following findings at this instruction.
    pub(in super::super) fn enter(&self, origin: &Origin, stage: Option<usize>) {
        self.0.borrow_mut().here = Place {
            span: origin.span,
            line: origin.line,
            last_line: origin.last_line,
            stage,
        };
    }

    /// Notes that a stage is evaluated; `with_shell` where its base names a shell.
    pub(in super::super) fn reach(&self, stage: usize, with_shell: bool) {
        let mut state = self.0.borrow_mut();
        state.reached.insert(stage);
        if with_shell {
            state.with_shell.insert(stage);
        }
    }

    /// Reports a finding where evaluation stands.
    pub(in super::super) fn report(&self, rule: Rule, text: String) {
        let mut state = self.0.borrow_mut();
        let here = state.here.clone();
        state.found.push(Warning {
            rule,
            text,
            span: here.span,
            line: here.line,
            last_line: here.last_line,
            stage: here.stage,
        });
    }

    /// Returns what is to be reported, in the order of the file.
    pub(in super::super) fn findings(
        &self,
        options: &CheckOptions,
        dockerfile: Option<&Dockerfile>,
    ) -> Vec<Warning> {
        let state = self.0.borrow();
        let comments = dockerfile.map(comments).unwrap_or_default();
        let counts = |warning: &&Warning| {
            let name = warning.rule.name();
            let in_stage = |stages: &BTreeSet<usize>| {
                warning.stage.is_some_and(|stage| stages.contains(&stage))
            };
            let above = comments.iter().any(|(span, options)| {
                (span.start..=span.end).contains(&warning.span.start) && options.skip.contains(name)
            });
            !(options.skip.contains(name)
                || above
                || warning.rule.is_experimental() && !options.experimental.contains(name)
                || warning.rule.needs_the_stage() && !in_stage(&state.reached)
                || warning.rule == Rule::JsonArgsRecommended && in_stage(&state.with_shell))
        };
        let mut findings: Vec<Warning> = state.found.iter().filter(counts).cloned().collect();
        findings.sort_by_key(|warning| warning.line);
        findings
    }
}

/// Returns the options in comments right above an instruction, with where it stands. A comment
/// that can't be read is a comment.
fn comments(dockerfile: &Dockerfile) -> Vec<(Span, CheckOptions)> {
    let globals = dockerfile.args.iter().map(|global| &global.origin);
    let stages = dockerfile.stages.iter().flat_map(|stage| {
        let instructions = stage.instructions.iter();
        std::iter::once(&stage.origin).chain(instructions.map(|Instruction { origin, .. }| origin))
    });
    let options = |origin: &Origin| {
        let texts = origin.comments.iter();
        let options = texts.filter_map(|text| text.strip_prefix("check="));
        options
            .filter_map(|text| CheckOptions::parse(text).ok())
            .map(|options| (origin.span, options))
            .collect::<Vec<_>>()
    };
    globals.chain(stages).flat_map(options).collect()
}

/// Returns the options in force: those of the build argument, else those of the file.
pub(in super::super) fn options(
    build_args: &BuildArgs,
    file: &Source,
) -> Result<CheckOptions, Error> {
    match build_args.get(OPTIONS_ARG) {
        Some(text) => CheckOptions::parse(text).map_err(|error| {
            Error::Options(OptionsError::Check {
                name: OPTIONS_ARG,
                error: Box::new(error),
            })
        }),
        None => Ok(crate::dockerfile::directives(file).check),
    }
}
