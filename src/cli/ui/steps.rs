//! What every renderer keeps about the steps that run: number, name, start, unfinished lines.

use std::collections::HashMap;
use std::time::Instant;

use super::clean::{Colours, clean};
use super::lines::Lines;
use crate::event::{StepId, Stream};

/// A step that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// Its number in the order of appearance, from 1.
    pub(super) number: usize,
    /// Its name, safe to print.
    pub(super) name: String,
    /// When it began.
    pub(super) began: Instant,
    streams: [Lines; 2],
}

impl Running {
    /// Hands each line that `bytes` complete to `line`.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], line: impl FnMut(&str)) {
        self.streams[slot(stream)].push(bytes, line);
    }

    /// Hands out what both streams left without a line end.
    pub(super) fn flush(&mut self, mut line: impl FnMut(Stream, &str)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.streams[slot(stream)].finish(|text| line(stream, text));
        }
    }

    /// Returns a line that has begun and not ended, such as a progress meter.
    pub(super) fn pending(&self) -> Option<String> {
        self.streams.iter().find_map(Lines::pending)
    }
}

fn slot(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// The steps seen so far.
#[derive(Debug, Default)]
pub(super) struct Steps {
    seen: usize,
    running: HashMap<StepId, Running>,
}

impl Steps {
    /// Takes in a step that begins.
    pub(super) fn start(&mut self, step: StepId, name: &str) -> &Running {
        let running = Running {
            number: self.number(),
            name: clean(name, Colours::Drop).into_owned(),
            began: Instant::now(),
            streams: Default::default(),
        };
        self.running.insert(step, running);
        &self.running[&step]
    }

    /// Gives a number to a step that does not run.
    pub(super) fn number(&mut self) -> usize {
        self.seen += 1;
        self.seen
    }

    /// Returns a running step. Events of a step that never began are dropped by the callers.
    pub(super) fn get(&mut self, step: StepId) -> Option<&mut Running> {
        self.running.get_mut(&step)
    }

    /// Takes out a step that ended.
    pub(super) fn end(&mut self, step: StepId) -> Option<Running> {
        self.running.remove(&step)
    }

    /// Takes out all that still run, as when an error ends everything.
    pub(super) fn drain(&mut self) -> Vec<(StepId, Running)> {
        let mut all: Vec<_> = self.running.drain().collect();
        all.sort_by_key(|(_, running)| running.number);
        all
    }
}
