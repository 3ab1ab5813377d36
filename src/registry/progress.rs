//! Reports how far one blob has come, often enough for an eye and no more.

use std::time::{Duration, Instant};

use crate::event::{Event, Motion, Sink};
use crate::image::Digest;

/// At most ten reports a second for each blob.
const EVERY: Duration = Duration::from_millis(100);

/// The progress of one blob.
pub struct Progress<'a> {
    sink: &'a dyn Sink,
    motion: Motion,
    blob: &'a Digest,
    total: Option<u64>,
    last: Option<Instant>,
}

impl std::fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("motion", &self.motion)
            .field("blob", &self.blob)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl<'a> Progress<'a> {
    /// Begins to report on `blob`.
    pub fn new(sink: &'a dyn Sink, motion: Motion, blob: &'a Digest, total: Option<u64>) -> Self {
        Self {
            sink,
            motion,
            blob,
            total,
            last: None,
        }
    }

    /// Tells that `done` bytes have moved in all. Most calls report nothing.
    pub fn moved(&mut self, done: u64) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < EVERY) {
            return;
        }
        self.last = Some(now);
        self.sink.emit(Event::BlobMoved {
            motion: self.motion,
            blob: self.blob,
            done,
            total: self.total,
        });
    }

    /// Tells that the blob is where it should be.
    pub fn done(self) {
        self.sink.emit(Event::BlobDone {
            motion: self.motion,
            blob: self.blob,
        });
    }

    /// Tells that the blob was there already.
    pub fn known(self) {
        self.sink.emit(Event::BlobKnown {
            motion: self.motion,
            blob: self.blob,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Count(Mutex<u32>);

    impl Sink for Count {
        fn emit(&self, _: Event<'_>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn many_small_steps_make_few_reports() {
        let (count, blob) = (Count::default(), Digest::of(b""));
        let begun = Instant::now();
        let mut progress = Progress::new(&count, Motion::Pull, &blob, Some(100_000));
        for done in 0..100_000 {
            progress.moved(done);
        }
        let allowed = 1 + begun.elapsed().as_millis() / EVERY.as_millis();
        assert!(u128::from(*count.0.lock().unwrap()) <= allowed);
    }
}
