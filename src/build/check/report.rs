//! Findings of instructions: what each rule sees while its instruction is evaluated.

use crate::dockerfile::{Names, Rule};

use super::super::eval::Evaluator;
use super::super::instruct::StageState;
use super::super::scope::Scope;
use super::super::step::{Action, CopyFrom, CopySource};
use super::rules;

impl Evaluator<'_, '_> {
    /// Reports the variables of a word that nobody sets.
    pub(in super::super) fn check_variables(&self, names: &Names, scope: &Scope) {
        for name in &names.unset {
            if let Some(text) = rules::undefined(name, scope) {
                self.lint.report(Rule::UndefinedVar, text);
            }
        }
    }

    /// Reports a relative WORKDIR that nothing but the base image decides about.
    pub(in super::super) fn check_workdir(&self, state: &StageState, path: &str) {
        if state.workdir_set || path.starts_with('/') {
            return;
        }
        self.lint.report(
            Rule::WorkdirRelativePath,
            format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            ),
        );
    }

    /// Reports the sources of the COPY or ADD just evaluated that the context leaves out.
    pub(in super::super) fn check_sources(&self, state: &StageState, instruction: &str) {
        let Some(Action::Copy(step)) = state.steps.last().map(|step| &step.action) else {
            return;
        };
        if step.from != CopyFrom::Context {
            return;
        }
        for source in &step.sources {
            let CopySource::Path(path) = source else {
                continue;
            };
            if let Some(path) = rules::ignored_source(self.ignore, path) {
                self.lint.report(
                    Rule::CopyIgnoredFile,
                    format!(
                        "Attempting to {instruction} file {path:?} that is excluded by .dockerignore"
                    ),
                );
            }
        }
    }

    /// Reports a name that promises a secret.
    pub(in super::super) fn check_secret(&self, instruction: &str, name: &str) {
        if rules::names_a_secret(name) {
            self.lint.report(
                Rule::SecretsUsedInArgOrEnv,
                format!(
                    "Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})"
                ),
            );
        }
    }

    /// Reports what EXPOSE takes and should not be given.
    pub(in super::super) fn check_port(&self, text: &str) {
        let (port, proto) = text.split_once('/').unwrap_or((text, ""));
        if proto != proto.to_lowercase() {
            self.lint.report(
                Rule::ExposeProtoCasing,
                format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase"),
            );
        }
        if port.contains(':') {
            self.lint.report(
                Rule::ExposeInvalidFormat,
                format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, \
                     found '{text}'"
                ),
            );
        }
    }
}
