//! Progress as plain lines, for pipes and logs. It looks like BuildKit's:
//!
//! ```text
//! #5 [stage 2/3] RUN make
//! #5 0.123 gcc -c a.c
//! #5 DONE 0.3s
//!
//! #6 [stage 3/3] COPY a /a
//! #6 CACHED
//! ```
//!
//! Lines of steps that run at the same time are mixed, each whole. Blobs get a line when they
//! are done and one every five seconds on the way.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::clean::{Colours, clean};
use super::steps::Steps;
use super::{Level, Renderer, human, words};
use crate::event::{Event, Motion, Sink, StepId};
use crate::image::Digest;

const BETWEEN_BLOB_LINES: Duration = Duration::from_secs(5);

/// Prints events as lines.
pub(crate) struct Plain {
    level: Level,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    steps: Steps,
    blobs: HashMap<(Motion, Digest), Blob>,
}

struct Blob {
    began: Instant,
    shown: Instant,
    done: u64,
}

impl Plain {
    /// Prints to `out` what `level` lets through.
    pub(crate) fn new(out: Box<dyn Write + Send>, level: Level) -> Self {
        let state = State {
            out,
            steps: Steps::default(),
            blobs: HashMap::new(),
        };
        Self {
            level,
            state: Mutex::new(state),
        }
    }
}

impl Sink for Plain {
    fn emit(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = words::note(&event, self.level) {
            state.line(&note);
        } else {
            state.event(&event);
        }
    }
}

impl Renderer for Plain {
    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, mut running) in state.steps.drain() {
            let (number, began) = (running.number, running.began);
            running.flush(|_, text| state.output(number, began, text));
        }
    }
}

impl State {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::StepStarted { step, name } => {
                let running = self.steps.start(step, name);
                let text = format!("#{} {}", running.number, running.name);
                self.line(&text);
            }
            Event::StepCached { name, .. } => {
                let number = self.steps.number();
                let name = clean(name, Colours::Drop);
                self.line(&format!("#{number} {name}\n#{number} CACHED\n"));
            }
            Event::StepOutput {
                step,
                stream,
                bytes,
            } => {
                let Some(running) = self.steps.get(step) else {
                    return;
                };
                let (number, began) = (running.number, running.began);
                let mut lines = Vec::new();
                running.push(stream, bytes, |text| lines.push(text.to_owned()));
                for text in lines {
                    self.output(number, began, &text);
                }
            }
            Event::StepDone { step, took } => self.end(step, |number| {
                format!("#{number} DONE {}\n", human::elapsed(took))
            }),
            Event::StepFailed { step } => self.end(step, |number| format!("#{number} ERROR\n")),
            Event::BlobMoved {
                motion,
                blob,
                done,
                total,
            } => {
                self.moved(motion, blob, done, total);
            }
            Event::BlobKnown { motion, blob } => {
                self.line(&format!(
                    "{} {} already there",
                    words::motion(motion),
                    blob.short()
                ));
            }
            Event::BlobDone { motion, blob } => {
                let known = self.blobs.remove(&(motion, blob.clone()));
                let tail = known.map_or_else(String::new, |blob| {
                    let took = human::elapsed(blob.began.elapsed());
                    format!(" {} {took}", human::size(blob.done))
                });
                self.line(&format!(
                    "{} {}{tail} done",
                    words::motion(motion),
                    blob.short()
                ));
            }
            _ => {}
        }
    }

    fn end(&mut self, step: StepId, text: impl FnOnce(usize) -> String) {
        let Some(mut running) = self.steps.end(step) else {
            return;
        };
        let (number, began) = (running.number, running.began);
        running.flush(|_, text| self.output(number, began, text));
        self.line(&text(number));
    }

    fn output(&mut self, number: usize, began: Instant, text: &str) {
        let text = clean(text, Colours::Drop);
        let at = began.elapsed();
        self.line(&format!(
            "#{number} {}.{:03} {text}",
            at.as_secs(),
            at.subsec_millis()
        ));
    }

    fn moved(&mut self, motion: Motion, digest: &Digest, done: u64, total: Option<u64>) {
        let now = Instant::now();
        let new = || Blob {
            began: now,
            shown: now,
            done,
        };
        let blob = self
            .blobs
            .entry((motion, digest.clone()))
            .or_insert_with(new);
        blob.done = done;
        if now.duration_since(blob.shown) >= BETWEEN_BLOB_LINES {
            blob.shown = now;
            let of = total.map_or_else(String::new, |total| format!(" / {}", human::size(total)));
            let so_far = human::size(done);
            self.line(&format!(
                "{} {} {so_far}{of}",
                words::motion(motion),
                digest.short()
            ));
        }
    }

    /// A terminal or pipe that is gone never fails the work, so write errors are dropped.
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::testing::{Shared, timeless};
    use crate::event::Stream;

    fn run(level: Level, events: Vec<Event<'_>>) -> String {
        let out = Shared::default();
        let plain = Plain::new(Box::new(out.clone()), level);
        events.into_iter().for_each(|event| plain.emit(event));
        plain.close();
        timeless(&out.text())
    }

    #[test]
    fn steps_look_like_buildkits() {
        let step = StepId(4);
        let output = |stream, bytes| Event::StepOutput {
            step,
            stream,
            bytes,
        };
        let text = run(
            Level::Info,
            vec![
                Event::Planned { steps: 2 },
                Event::StepStarted {
                    step,
                    name: "[1/2] RUN m\x1b[2Jake",
                },
                output(Stream::Stdout, b"gcc -c a.c\nlink"),
                output(Stream::Stderr, b"\x1b]52;c;x\x07warn\n"),
                output(Stream::Stdout, b"ing"),
                Event::StepDone {
                    step,
                    took: Duration::from_millis(312),
                },
                Event::StepCached {
                    step: StepId(5),
                    name: "[2/2] COPY a /a",
                },
            ],
        );
        insta::assert_snapshot!(text, @r"
        #1 [1/2] RUN make
        #1 T gcc -c a.c
        #1 T warn
        #1 T linking
        #1 DONE 0.3s

        #2 [2/2] COPY a /a
        #2 CACHED
        ");
    }

    #[test]
    fn a_failed_step_shows_its_last_words() {
        let step = StepId(0);
        let bytes = b"no such file";
        let text = run(
            Level::Info,
            vec![
                Event::StepStarted {
                    step,
                    name: "RUN x",
                },
                Event::StepOutput {
                    step,
                    stream: Stream::Stderr,
                    bytes,
                },
                Event::StepFailed { step },
            ],
        );
        insta::assert_snapshot!(text, @r"
        #1 RUN x
        #1 T no such file
        #1 ERROR
        ");
    }

    #[test]
    fn blobs_and_notes_take_a_line_each() {
        let blob = &Digest::of(b"x");
        let motion = Motion::Pull;
        let chosen = Event::Chosen {
            what: "isolation",
            text: "root",
        };
        let events = |chosen| {
            vec![
                chosen,
                Event::Warning {
                    text: "the tag moved",
                },
                Event::BlobMoved {
                    motion,
                    blob,
                    done: 10,
                    total: Some(20),
                },
                Event::BlobDone { motion, blob },
                Event::BlobKnown {
                    motion: Motion::Push,
                    blob,
                },
            ]
        };
        let text = run(Level::Info, events(chosen));
        insta::assert_snapshot!(text, @r"
        isolation: root
        warning: the tag moved
        pull 2d711642b726 10B 0.0s done
        push 2d711642b726 already there
        ");
        let chosen = Event::Chosen {
            what: "isolation",
            text: "root",
        };
        assert!(!run(Level::Warn, events(chosen)).contains("isolation"));
    }
}
