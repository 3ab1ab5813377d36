//! Finds what a build could not run, before it fetches or runs anything.
//!
//! The stages of a target are judged by their texts. What only an image reveals, a trigger that
//! runs something, fails when its step begins.

use crate::dockerfile::Kind;

use super::emulation::{self, Answer};
use super::error::{Error, StepError};
use super::eval::Evaluator;

impl Evaluator<'_, '_> {
    /// Refuses a RUN for a platform whose programs do not run here, in the stages that `target`
    /// needs.
    pub(super) fn check_programs(&self, target: usize) -> Result<(), Error> {
        for index in self.needed(target) {
            let platform = self.platform_of(index);
            let instructions = &self.dockerfile.stages[index].instructions;
            let mut runs = instructions
                .iter()
                .filter(|instruction| matches!(instruction.kind, Kind::Run(_)));
            let Some(run) = runs.next() else {
                continue;
            };
            let stage = self.stage_label(index);
            let error = match emulation::ask(&platform) {
                Answer::Runs => continue,
                Answer::Unfixed(handler) => StepError::UnfixedHandler {
                    stage,
                    platform: Box::new(platform),
                    handler,
                },
                Answer::Nothing => StepError::NoEmulation {
                    stage,
                    platform: Box::new(platform),
                },
            };
            return Err(self.at(&run.origin.original, run.origin.span, error));
        }
        Ok(())
    }
}
