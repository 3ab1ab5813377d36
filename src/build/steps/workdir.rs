//! WORKDIR: makes the directory where it is missing.

use crate::layer::{Changes, Tree};

use super::super::commit::Built;
use super::super::error::StepError;
use super::super::key::Inputs;
use super::super::place::{Placer, Rules};
use super::super::stage::{Runner, files};
use super::super::step::WorkdirStep;
use super::owner;

/// Adds to the key what the directory depends on; the layers below decide the rest.
pub(in crate::build) fn inputs(step: &WorkdirStep) -> Inputs {
    let mut inputs = Inputs::new("workdir", 1);
    inputs
        .add("path", step.path.as_bytes())
        .add("user", &step.user);
    inputs
}

/// Returns the directory and its parents as changes.
///
/// It belongs to the USER in force. A user that the image does not know counts as root here, as
/// in BuildKit: a later RUN is what reports the name.
pub(in crate::build) fn changes(
    runner: &Runner<'_>,
    step: &WorkdirStep,
    built: &Built,
) -> Result<Changes, StepError> {
    let below = files(runner.world, built)?;
    let owner = match owner::look_up(&below, &step.user) {
        Ok(owner) => owner,
        Err(StepError::Owner { .. }) => (0, 0),
        Err(error) => return Err(error),
    };
    let created = runner.world.file_time();
    make(
        &below,
        step,
        Rules {
            owner: Some(owner),
            created,
            ..Rules::default()
        },
    )
}

fn make(below: &dyn Tree, step: &WorkdirStep, rules: Rules) -> Result<Changes, StepError> {
    let mut placer = Placer::new(below, rules);
    let (path, _) = placer.resolve(&step.path)?;
    placer.make_dirs(&path)?;
    placer.finish()
}
