//! Runs a plan: each stage on a thread of its own, as soon as the stages it needs are done.
//!
//! The first stage that fails stops the others: running programs are killed, waiting stages
//! give up. `--jobs` bounds how many stages work at the same time; a stage that waits for another
//! does not count.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::sandbox::{Child, Stopper};

use super::commit::Built;
use super::error::Error;
use super::stage::{self, World};
use super::step::{Base, Plan};

/// Tells a build to stop, from any thread.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    inner: Arc<Mutex<Stopping>>,
}

#[derive(Debug, Default)]
struct Stopping {
    stopped: bool,
    running: Vec<Stopper>,
}

impl Cancel {
    /// Stops the build: programs of RUN steps are killed, no further step begins.
    pub fn cancel(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        for child in inner.running.drain(..) {
            child.stop();
        }
    }

    /// Returns whether the build was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.lock().stopped
    }

    /// Kills the sandbox when the build is told to stop, or now if it was.
    pub(super) fn watch(&self, child: &Child) {
        let mut inner = self.lock();
        // A descriptor that can't be duplicated can't be watched: then the end of the build is
        // what ends the sandbox.
        let Ok(stopper) = child.stopper() else {
            return;
        };
        if inner.stopped {
            stopper.stop();
        } else {
            inner.running.push(stopper);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stopping> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where every stage stands.
struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    done: BTreeMap<usize, Arc<Built>>,
    failed: bool,
    free: usize,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all of `needs` are built and a place to work is free. `None` when a stage failed.
    fn enter(&self, needs: &[usize]) -> Option<BTreeMap<usize, Arc<Built>>> {
        let mut state = self.lock();
        loop {
            if state.failed {
                return None;
            }
            if state.free > 0 && needs.iter().all(|need| state.done.contains_key(need)) {
                state.free -= 1;
                let built = |need: &usize| (*need, Arc::clone(&state.done[need]));
                return Some(needs.iter().map(built).collect());
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, stage: usize, result: Option<Built>) {
        let mut state = self.lock();
        state.free += 1;
        match result {
            Some(built) => drop(state.done.insert(stage, Arc::new(built))),
            None => state.failed = true,
        }
        self.changed.notify_all();
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Absent { .. })
}

/// Runs every stage of `plan` and returns what each gave, by its place in the plan.
pub(super) fn run(plan: &Plan, world: &World<'_>) -> Result<BTreeMap<usize, Arc<Built>>, Error> {
    let jobs = world
        .request
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let state = State {
        done: BTreeMap::new(),
        failed: false,
        free: jobs.unwrap_or(1).max(1),
    };
    let board = Board {
        state: Mutex::new(state),
        changed: Condvar::new(),
    };
    let first_error = Mutex::new(None);
    std::thread::scope(|scope| {
        for (index, stage) in plan.stages.iter().enumerate() {
            let (board, first_error) = (&board, &first_error);
            scope.spawn(move || {
                let mut needs = stage.needs.clone();
                if let Base::Stage(base) = stage.base {
                    needs.push(base);
                }
                let Some(done) = board.enter(&needs) else {
                    return;
                };
                let result = stage::run(plan, index, &done, world);
                // The plan runs again when a layer is absent: what runs now serves it.
                if result.as_ref().is_err_and(|error| !is_absent(error)) {
                    world.cancel.cancel();
                }
                let built = result
                    .map_err(|error| {
                        let mut first = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                        match &*first {
                            Some(told) if !is_absent(told) || is_absent(&error) => {}
                            _ => *first = Some(error),
                        }
                    })
                    .ok();
                board.leave(index, built);
            });
        }
    });
    match first_error
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => Ok(board
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .done),
    }
}
