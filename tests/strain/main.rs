//! Containers under strain: killed at random, many at once, started over and over, and logs that
//! are read while all of that happens.
//!
//! The tests take turns. Each adopts the orphans of what it starts, as a monitor is one by
//! design, so that whatever process is left can be found. The default tier asks for a part of the
//! numbers, `COOPER_TEST_LONG=1` for all; how many there were is printed.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]
#![expect(clippy::print_stdout, reason = "the counts are part of the result")]

#[path = "../support/mod.rs"]
mod support;

mod kills;
mod logs;
mod many;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};
use support::TestEnv;

const CASK: &str = env!("CARGO_BIN_EXE_cask");

/// How long anything may take that is sure to come.
const PATIENCE: Duration = Duration::from_secs(300);

/// `all` in the long tier, a `part` of it in the default one.
#[expect(
    clippy::disallowed_methods,
    reason = "a test may ask how long it may take"
)]
fn asked_for<T>(part: T, all: T) -> T {
    match std::env::var_os("COOPER_TEST_LONG") {
        Some(_) => all,
        None => part,
    }
}

/// Waits for something that another process is about to do.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Chance that is the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(u64::try_from(from.len()).unwrap());
        &from[usize::try_from(at).unwrap()]
    }
}

/// A process that descends from this one and has not ended.
#[derive(Debug)]
struct Process {
    pid: i32,
    /// The letter of proc_pid_stat(5).
    state: String,
    command: String,
}

/// What could be left behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    processes: Vec<String>,
    /// Mounts anywhere in or of the test's directory, and of namespaces.
    mounts: usize,
    /// Network namespaces of this process and of those that descend from it.
    networks: BTreeSet<PathBuf>,
    /// Control groups whose maker is gone.
    groups: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

/// A store with a busybox, and the turn.
struct Ground {
    t: TestEnv,
    _turn: MutexGuard<'static, ()>,
}

impl Ground {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let t = TestEnv::new();
        t.busybox("busybox");
        Self { t, _turn: turn }
    }

    /// Starts `cask` and does not wait for it.
    fn begin(&self, words: &[&str]) -> Child {
        let mut command = self.t.command(CASK);
        command.args(words).stdin(Stdio::null());
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The states of all containers by name.
    fn states(&self) -> BTreeMap<String, String> {
        let format = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
        let all = self.t.cask(&format).ok().stdout();
        let pairs = all.lines().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(name, state)| (name.to_owned(), state.to_owned()))
            .collect()
    }

    /// A number that a container's state holds, such as the pid of its monitor.
    fn number(&self, name: &str, key: &str) -> Option<i32> {
        let id = self.t.cask(&["inspect", "-f", "{{.Id}}", name]).any();
        let dir = self.t.root().join("containers").join(id.stdout());
        let state = fs::read(dir.join("state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        i32::try_from(state[key].as_i64()?).ok()
    }

    /// What is there now.
    fn traces(&self) -> Traces {
        let alive = processes();
        let own = [rustix::process::getpid().as_raw_nonzero().get()];
        let pids = alive.iter().map(|process| process.pid).chain(own);
        let networks = pids.filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok());
        let networks = networks.collect();
        let processes = alive.into_iter().map(|process| process.command);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.t.beside("").to_string_lossy().into_owned();
        let mut files = BTreeSet::new();
        list(&self.t.beside(""), &mut files);
        Traces {
            processes: processes.collect(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(&here) || line.contains(" - nsfs "))
                .count(),
            networks,
            groups: abandoned_groups(),
            files,
        }
    }

    /// All containers can be removed, and nothing of them is left.
    #[track_caller]
    fn clear(&self) {
        let states = self.states();
        let names: Vec<&str> = states.keys().map(String::as_str).collect();
        if !names.is_empty() {
            self.t
                .cask(&[&["rm", "-f", "-v"], &names[..]].concat())
                .ok();
        }
        assert_eq!(self.states(), BTreeMap::new());
        until("every process has ended", || processes().is_empty());
        let dirs = fs::read_dir(self.t.root().join("containers")).unwrap();
        let dirs: Vec<PathBuf> = dirs.map(|dir| dir.unwrap().path()).collect();
        assert_eq!(dirs, [] as [PathBuf; 0], "containers that are none");
        let left = self.traces();
        assert_eq!(left.mounts, 0, "mounts are left");
        assert_eq!(left.networks.len(), 1, "network namespaces are left");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed leaves containers.
        for name in self.states().into_keys() {
            drop(self.t.cask(&["rm", "-f", &name]).any());
        }
    }
}

/// Paths of everything below `dir` but the journals of a store, which come and grow.
fn list(dir: &Path, to: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, to);
        }
        to.insert(path);
    }
}

/// Groups named `cooper-<pid>-<n>` whose process is gone.
fn abandoned_groups() -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    let mut ahead = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ahead.push(entry.path());
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut parts = name.split('-');
            if parts.next() == Some("cooper")
                && let Some(pid) = parts.next()
                && !Path::new("/proc").join(pid).exists()
            {
                all.insert(entry.path());
            }
        }
    }
    all
}

/// The processes that descend from this one, orphans among them. Those that have ended and wait
/// for us are let go; no test runs a command meanwhile.
fn processes() -> Vec<Process> {
    let mut all: BTreeMap<i32, Vec<(i32, String)>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat
            .rsplit_once(')')
            .unwrap_or_default()
            .1
            .split_whitespace();
        if let (Some(state), Some(Ok(parent))) = (fields.next(), fields.next().map(str::parse)) {
            all.entry(parent).or_default().push((pid, state.to_owned()));
        }
    }
    let mut found = Vec::new();
    let mut ahead = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = ahead.pop() {
        for (pid, state) in all.remove(&parent).into_iter().flatten() {
            ahead.push(pid);
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if state != "Z" {
                found.push(Process {
                    pid,
                    state,
                    command,
                });
            }
        }
    }
    found
}

/// Lets go of orphans that have ended. No command of a test may be running.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may just have ended by itself.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Waits for a command, which must not hang.
#[track_caller]
fn end_of(mut child: Child, what: &str) -> ExitStatus {
    let mut status = None;
    until(what, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
