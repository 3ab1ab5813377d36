//! Facts that a build, pull, push or container reports while it works.
//!
//! The library emits [`Event`]s into a [`Sink`]; `cli` alone chooses the words. Each event
//! carries the identity of what it is about, so a plain, a terminal and a JSON renderer stay
//! small, and tests read a `Vec`.

use std::time::Duration;

use crate::image::Digest;

/// Identity of one step within one build: its place in the order of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// Which output stream of a step or container some bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What is done to a blob that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Motion {
    /// From a registry or archive into the store.
    Pull,
    /// From the store to a registry or archive.
    Push,
    /// From a blob into a tree.
    Unpack,
    /// From a plain layer to a compressed one.
    Compress,
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The plan is made: this many steps will be looked at.
    Planned {
        /// Number of steps in the build.
        steps: u32,
    },
    /// A step begins. `name` is as BuildKit shows it: `[stage 2/5] RUN make`.
    StepStarted {
        /// Which step.
        step: StepId,
        /// Its shown name.
        name: &'a str,
    },
    /// The step was not run: an earlier result answered for it.
    StepCached {
        /// Which step.
        step: StepId,
        /// Its shown name.
        name: &'a str,
    },
    /// Bytes that the step's process wrote.
    StepOutput {
        /// Which step.
        step: StepId,
        /// Which of its streams.
        stream: Stream,
        /// The bytes, not cut at line ends.
        bytes: &'a [u8],
    },
    /// The step ended well.
    StepDone {
        /// Which step.
        step: StepId,
        /// How long it took.
        took: Duration,
    },
    /// The step ended badly; the error is returned by whoever ran the build.
    StepFailed {
        /// Which step.
        step: StepId,
    },
    /// Progress of a blob.
    BlobMoved {
        /// What is done to it.
        motion: Motion,
        /// Which blob.
        blob: &'a Digest,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, or `None` when nobody has said.
        total: Option<u64>,
    },
    /// The blob needs no transfer: the other side has it.
    BlobKnown {
        /// What would have been done.
        motion: Motion,
        /// Which blob.
        blob: &'a Digest,
    },
    /// The blob is where it should be.
    BlobDone {
        /// What was done to it.
        motion: Motion,
        /// Which blob.
        blob: &'a Digest,
    },
    /// Something the user should know that stops nothing.
    Warning {
        /// One sentence, lower case, no full stop.
        text: &'a str,
    },
    /// A choice that was made, once for a run: rung, snapshotter, network.
    Chosen {
        /// What was chosen about, such as `isolation`.
        what: &'a str,
        /// What was chosen and why.
        text: &'a str,
    },
}

/// Where events go.
pub trait Sink: Sync {
    /// Takes one event. Returns quickly and cannot fail: a broken terminal never fails a build.
    fn emit(&self, event: Event<'_>);
}

/// A sink that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _event: Event<'_>) {}
}
