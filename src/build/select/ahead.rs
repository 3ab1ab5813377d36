//! Lists the directories below one on all processors, ahead of the walk that goes through them.
//!
//! It only ever saves time: a directory that could not be listed here is listed by the walk, which
//! says what is wrong with it, and always with the same one first. The order is about that of the
//! walk, and so many entries are held at once that half a million files don't take the memory twice.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::dockerfile::ignore::Ignore;
use crate::layer::{Found, Tree, TreePath};

/// Directories that wait before another thread is worth starting.
const WORTH_A_THREAD: usize = 8;
/// More threads than this wait for each other.
const MAX_THREADS: usize = 8;
/// Entries that may wait for the walk: about 20 MB.
const ENOUGH: usize = 1 << 16;

/// A directory's path, and what it is called for the exclusion.
type Place = (TreePath, TreePath);
/// What a directory holds: names and entries, sorted.
pub(super) type Entries = Vec<(Vec<u8>, Found)>;

/// Directories that are listed, and those that will be.
pub(super) struct Ahead<'a> {
    tree: &'a dyn Tree,
    exclude: &'a Ignore,
    /// So many entries may wait for the walk before no other directory is listed.
    enough: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories to list, the next one last.
    waiting: Vec<Place>,
    /// Threads that are listing directories, which may bring more.
    busy: usize,
    /// What directories hold, by their path.
    listed: HashMap<TreePath, Entries>,
    /// How many entries that are.
    held: usize,
}

impl<'a> Ahead<'a> {
    /// Begins at the directory `dir`; `rel` is what it is called for the exclusion. Directories
    /// that are excluded as a whole are not listed.
    pub(super) fn new(
        tree: &'a dyn Tree,
        dir: &TreePath,
        rel: &TreePath,
        exclude: &'a Ignore,
    ) -> Self {
        let waiting = vec![(dir.clone(), rel.clone())];
        Self {
            tree,
            exclude,
            enough: ENOUGH,
            state: Mutex::new(State {
                waiting,
                ..State::default()
            }),
            changed: Condvar::new(),
        }
    }

    /// Returns what a directory holds, once; `None` where the walk has to look itself.
    pub(super) fn take(&self, dir: &TreePath) -> Option<Entries> {
        let mut state = self.state();
        let mut waiting = state.waiting.iter();
        if let Some(at) = waiting.rposition(|(path, _)| path == dir) {
            let wanted = state.waiting.remove(at);
            state.busy += 1;
            drop(state);
            self.list(wanted);
            state = self.state();
        }
        let entries = state.listed.remove(dir)?;
        state.held -= entries.len();
        Some(entries)
    }

    /// Lists a directory and the next ones, until enough entries are held.
    fn list(&self, wanted: Place) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            if self.run(Some(vec![wanted]), |waiting| {
                waiting >= WORTH_A_THREAD && processors > 1
            }) {
                for _ in 1..processors.min(MAX_THREADS) {
                    scope.spawn(|| self.run(None, |_| false));
                }
                self.run(None, |_| false);
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists `first` and then others, until nothing is left or enough is held, or until so many
    /// directories wait that `many` says so; returns whether it did.
    fn run(&self, mut first: Option<Vec<Place>>, many: impl Fn(usize) -> bool) -> bool {
        while let Some(dirs) = first.take().or_else(|| self.next()) {
            let mut below = Vec::new();
            let mut listed = Vec::with_capacity(dirs.len());
            for (dir, rel) in dirs.into_iter().rev() {
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
            state.waiting.extend(below.into_iter().rev());
            state.held += listed
                .iter()
                .map(|(_, entries)| entries.len())
                .sum::<usize>();
            state.listed.extend(listed);
            if !state.waiting.is_empty() || state.busy == 0 {
                self.changed.notify_all();
            }
            if many(state.waiting.len()) {
                return true;
            }
        }
        false
    }

    /// Returns the next directories, a part of those that wait; `None` when all are listed or
    /// enough is held.
    fn next(&self) -> Option<Vec<Place>> {
        let mut state = self.state();
        loop {
            let waiting = state.waiting.len();
            if state.held >= self.enough {
                return None;
            }
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::Arc;

    use super::*;
    use crate::layer::Dir;

    /// Walks as `select` does and returns what it met.
    fn walk(ahead: &Ahead<'_>, dir: &TreePath, most: &mut usize) -> Vec<String> {
        let entries = ahead.take(dir).unwrap();
        *most = ahead.state().held.max(*most);
        let mut met = Vec::new();
        for (name, found) in entries {
            let path = dir.child(&name);
            met.push(path.to_string());
            if found.node.kind.is_dir() {
                met.extend(walk(ahead, &path, most));
            }
        }
        met
    }

    #[test]
    fn every_directory_is_listed_and_few_entries_are_held() {
        let root = std::env::temp_dir().join(format!("cooper-ahead-{}", std::process::id()));
        for dir in 0..40 {
            for below in 0..5 {
                let path = root.join(format!("{dir:02}/{below}"));
                fs::create_dir_all(&path).unwrap();
                File::create(path.join("file")).unwrap();
            }
        }
        let dir = Dir::new(Arc::new(File::open(&root).unwrap().into()));
        let exclude = Ignore::default();
        let meet = |enough| {
            let mut ahead = Ahead::new(&dir, &TreePath::ROOT, &TreePath::ROOT, &exclude);
            ahead.enough = enough;
            let mut most = 0;
            let met = walk(&ahead, &TreePath::ROOT, &mut most);
            let state = ahead.state();
            assert_eq!(
                (state.held, state.listed.len(), state.waiting.len()),
                (0, 0, 0)
            );
            (met, most)
        };
        let (all, most) = meet(usize::MAX);
        assert_eq!((all.len(), most), (40 + 2 * 40 * 5, 2 * 40 * 5));
        let (met, most) = meet(10);
        assert_eq!(met, all);
        assert!(most < 200, "{most}");
        fs::remove_dir_all(root).unwrap();
    }
}
