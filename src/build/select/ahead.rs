//! Lists the directories below one on all processors, ahead of the walk that goes through them.
//!
//! It only ever saves time: a directory that could not be listed here is listed by the walk, which
//! says what is wrong with it, and always with the same one first.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::dockerfile::ignore::Ignore;
use crate::layer::{Found, Tree, TreePath};

/// Directories that wait before another thread is worth starting.
const WORTH_A_THREAD: usize = 8;
/// More threads than this wait for each other.
const MAX_THREADS: usize = 8;

/// What directories hold, by their path.
pub(super) type Listed = HashMap<TreePath, Vec<(Vec<u8>, Found)>>;

/// Returns the entries of the directory `dir` and of those below it, but for what is excluded as a
/// whole; `rel` is what the directory is called for that.
pub(super) fn list_below(
    tree: &dyn Tree,
    dir: &TreePath,
    rel: &TreePath,
    exclude: &Ignore,
) -> Listed {
    let work = Work {
        tree,
        exclude,
        state: Mutex::new(State {
            waiting: vec![(dir.clone(), rel.clone())],
            ..State::default()
        }),
        changed: Condvar::new(),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        if work.run(|waiting| waiting >= WORTH_A_THREAD && processors > 1) {
            for _ in 1..processors.min(MAX_THREADS) {
                scope.spawn(|| work.run(|_| false));
            }
            work.run(|_| false);
        }
    });
    work.state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .listed
}

struct Work<'a> {
    tree: &'a dyn Tree,
    exclude: &'a Ignore,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories to list, and what they are called for the exclusion.
    waiting: Vec<(TreePath, TreePath)>,
    /// Threads that are listing directories, which may bring more.
    busy: usize,
    listed: Listed,
}

impl Work<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists until nothing is left, or until so many directories wait that `enough` says so;
    /// returns whether it did.
    fn run(&self, enough: impl Fn(usize) -> bool) -> bool {
        while let Some(dirs) = self.next() {
            let mut below = Vec::new();
            let mut listed = Vec::with_capacity(dirs.len());
            for (dir, rel) in dirs {
                let Ok(entries) = self.tree.scan(&dir) else {
                    continue;
                };
                for (name, found) in &entries {
                    let rel = rel.child(name);
                    if found.node.kind.is_dir() && !self.exclude.can_prune(rel.as_bytes()) {
                        below.push((dir.child(name), rel));
                    }
                }
                listed.push((dir, entries));
            }
            let mut state = self.state();
            state.busy -= 1;
            state.waiting.append(&mut below);
            state.listed.extend(listed);
            if !state.waiting.is_empty() || state.busy == 0 {
                self.changed.notify_all();
            }
            if enough(state.waiting.len()) {
                return true;
            }
        }
        false
    }

    /// Returns the next directories, a part of those that wait; `None` when all are listed.
    fn next(&self) -> Option<Vec<(TreePath, TreePath)>> {
        let mut state = self.state();
        loop {
            let waiting = state.waiting.len();
            if waiting > 0 {
                state.busy += 1;
                let part = (waiting / (2 * MAX_THREADS)).max(1);
                return Some(state.waiting.split_off(waiting - part));
            }
            if state.busy == 0 {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
