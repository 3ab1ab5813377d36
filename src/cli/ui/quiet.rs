//! No progress at all: warnings, and the last output of a step that failed.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::clean::{Colours, clean};
use super::steps::Steps;
use super::{Level, Renderer, TAIL, words};
use crate::event::{Event, Sink, StepId};

/// Says nothing until something goes wrong.
pub(crate) struct Quiet {
    level: Level,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    steps: Steps,
    tails: HashMap<StepId, VecDeque<String>>,
}

impl Quiet {
    /// Prints to `out` what `level` lets through, choices never.
    pub(crate) fn new(out: Box<dyn Write + Send>, level: Level) -> Self {
        let state = State {
            out,
            steps: Steps::default(),
            tails: HashMap::new(),
        };
        Self {
            level: level.min(Level::Warn),
            state: Mutex::new(state),
        }
    }
}

impl Sink for Quiet {
    fn emit(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { out, steps, tails } = &mut *state;
        match event {
            Event::StepStarted { step, name } => {
                steps.start(step, name);
            }
            Event::StepOutput {
                step,
                stream,
                bytes,
            } => {
                let Some(running) = steps.get(step) else {
                    return;
                };
                let tail = tails.entry(step).or_default();
                running.push(stream, bytes, |text| keep(tail, text));
            }
            Event::StepDone { step, .. } => {
                steps.end(step);
                tails.remove(&step);
            }
            Event::StepFailed { step } => {
                let Some(mut running) = steps.end(step) else {
                    return;
                };
                let mut tail = tails.remove(&step).unwrap_or_default();
                running.flush(|_, text| keep(&mut tail, text));
                // Nothing can be done about a standard error that is gone.
                let _ = writeln!(out, "{}", running.name);
                for line in tail {
                    let _ = writeln!(out, "  {line}");
                }
            }
            other => {
                if let Some(note) = words::note(&other, self.level) {
                    let _ = writeln!(out, "{note}");
                }
            }
        }
    }
}

impl Renderer for Quiet {
    fn close(&self) {}
}

fn keep(tail: &mut VecDeque<String>, text: &str) {
    if tail.len() == TAIL {
        tail.pop_front();
    }
    tail.push_back(clean(text, Colours::Drop).into_owned());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::ui::testing::Shared;
    use crate::event::Stream;

    #[test]
    fn only_the_failed_step_speaks() {
        let out = Shared::default();
        let quiet = Quiet::new(Box::new(out.clone()), Level::Info);
        for (step, name) in [(StepId(0), "RUN good"), (StepId(1), "RUN bad")] {
            quiet.emit(Event::StepStarted { step, name });
            let bytes = format!("{name} says\nbye").into_bytes();
            quiet.emit(Event::StepOutput {
                step,
                stream: Stream::Stdout,
                bytes: &bytes,
            });
        }
        quiet.emit(Event::Chosen {
            what: "isolation",
            text: "root",
        });
        quiet.emit(Event::Warning { text: "odd" });
        quiet.emit(Event::StepDone {
            step: StepId(0),
            took: Duration::ZERO,
        });
        quiet.emit(Event::StepFailed { step: StepId(1) });
        assert_eq!(out.text(), "warning: odd\nRUN bad\n  RUN bad says\n  bye\n");
    }
}
