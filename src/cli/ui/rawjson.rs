//! Progress for programs: one JSON object a line, in the order of events.
//!
//! Every object has `event` and `at`, the seconds since the command began. Besides these:
//!
//! | `event` | fields |
//! |---|---|
//! | `planned` | `steps`: how many will be looked at |
//! | `started`, `cached` | `step`: its number in the plan, `name` |
//! | `output` | `step`, `stream`: `stdout` or `stderr`, `line`: one line without its end; bytes that are no UTF-8 are replaced |
//! | `done` | `step`, `took`: seconds |
//! | `failed` | `step`; the error itself is on standard error at the end, as text |
//! | `moved` | `motion`: `pull`, `push`, `unpack` or `compress`; `digest`, `done`: bytes, `total`: bytes or `null` |
//! | `known`, `moved-all` | `motion`, `digest` |
//! | `warning` | `text` |
//! | `chosen` | `what`, `text` |
//!
//! Fields may be added; a reader skips what it does not know. Nothing is held back by `--log`.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::steps::Steps;
use super::{Renderer, words};
use crate::event::{Event, Motion, Sink, StepId, Stream};
use crate::image::Digest;

/// Prints events as JSON.
pub(crate) struct RawJson {
    began: Instant,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    steps: Steps,
}

impl RawJson {
    /// Prints to `out`.
    pub(crate) fn new(out: Box<dyn Write + Send>) -> Self {
        let state = State {
            out,
            steps: Steps::default(),
        };
        Self {
            began: Instant::now(),
            state: Mutex::new(state),
        }
    }

    fn event(&self, state: &mut State, event: &Event<'_>) {
        match *event {
            Event::Planned { steps } => self.line(state, "planned", json!({ "steps": steps })),
            Event::StepStarted { step, name } => {
                state.steps.start(step, name);
                self.line(state, "started", json!({ "step": step.0, "name": name }));
            }
            Event::StepCached { step, name } => {
                self.line(state, "cached", json!({ "step": step.0, "name": name }));
            }
            Event::StepOutput {
                step,
                stream,
                bytes,
            } => {
                let Some(running) = state.steps.get(step) else {
                    return;
                };
                let mut lines = Vec::new();
                running.push(stream, bytes, |line| lines.push(line.to_owned()));
                for line in lines {
                    self.output(state, step, stream, &line);
                }
            }
            Event::StepDone { step, took } => {
                self.flush(state, step);
                self.line(
                    state,
                    "done",
                    json!({ "step": step.0, "took": took.as_secs_f64() }),
                );
            }
            Event::StepFailed { step } => {
                self.flush(state, step);
                self.line(state, "failed", json!({ "step": step.0 }));
            }
            Event::BlobMoved {
                motion,
                blob,
                done,
                total,
            } => {
                let mut fields = blob_fields(motion, blob);
                fields["done"] = done.into();
                fields["total"] = total.into();
                self.line(state, "moved", fields);
            }
            Event::BlobKnown { motion, blob } => {
                self.line(state, "known", blob_fields(motion, blob));
            }
            Event::BlobDone { motion, blob } => {
                self.line(state, "moved-all", blob_fields(motion, blob));
            }
            Event::Warning { text } => self.line(state, "warning", json!({ "text": text })),
            Event::Chosen { what, text } => {
                self.line(state, "chosen", json!({ "what": what, "text": text }));
            }
        }
    }

    fn flush(&self, state: &mut State, step: StepId) {
        if let Some(mut running) = state.steps.end(step) {
            running.flush(|stream, line| self.output(state, step, stream, line));
        }
    }

    fn output(&self, state: &mut State, step: StepId, stream: Stream, line: &str) {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.line(
            state,
            "output",
            json!({ "step": step.0, "stream": stream, "line": line }),
        );
    }

    fn line(&self, state: &mut State, event: &str, fields: Value) {
        let at = (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let mut all = json!({ "event": event, "at": at });
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
            all.extend(fields);
        }
        // A reader that went away never fails the work.
        let _ = writeln!(state.out, "{all}");
    }
}

fn blob_fields(motion: Motion, blob: &Digest) -> Value {
    json!({ "motion": words::motion(motion), "digest": blob.as_str() })
}

impl Sink for RawJson {
    fn emit(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.event(&mut state, &event);
    }
}

impl Renderer for RawJson {
    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (step, mut running) in state.steps.drain() {
            running.flush(|stream, line| self.output(&mut state, step, stream, line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::ui::testing::Shared;

    #[test]
    fn every_line_is_one_object() {
        let out = Shared::default();
        let raw = RawJson::new(Box::new(out.clone()));
        let step = StepId(2);
        raw.emit(Event::Planned { steps: 3 });
        raw.emit(Event::StepStarted {
            step,
            name: "[1/1] RUN \x1b[31mx",
        });
        raw.emit(Event::StepOutput {
            step,
            stream: Stream::Stderr,
            bytes: b"a\xff\nb",
        });
        raw.emit(Event::StepDone {
            step,
            took: Duration::from_millis(250),
        });
        let blob = Digest::of(b"x");
        let motion = Motion::Push;
        raw.emit(Event::BlobMoved {
            motion,
            blob: &blob,
            done: 1,
            total: None,
        });
        let lines: Vec<Value> = out
            .text()
            .lines()
            .map(|line| {
                let mut value: Value = serde_json::from_str(line).unwrap();
                assert!(value["at"].take().is_f64());
                value.as_object_mut().unwrap().remove("at");
                value
            })
            .collect();
        let want = json!([
            { "event": "planned", "steps": 3 },
            { "event": "started", "step": 2, "name": "[1/1] RUN \x1b[31mx" },
            { "event": "output", "step": 2, "stream": "stderr", "line": "a\u{fffd}" },
            { "event": "output", "step": 2, "stream": "stderr", "line": "b" },
            { "event": "done", "step": 2, "took": 0.25 },
            { "event": "moved", "motion": "push", "digest": blob.as_str(), "done": 1, "total": null },
        ]);
        assert_eq!(Value::from(lines), want);
        assert!(
            !out.text().contains('\x1b'),
            "JSON escapes what a terminal would obey"
        );
    }
}
