//! Kills, full disks and bad disks at every point where the store is changed.
//!
//! A store is prepared once and copied for every fault. One operation then runs into the fault;
//! afterwards `fsck` finds nothing damaged, the earlier image still runs, and the operation
//! succeeds when it is asked for again. The default tier takes a spread of points;
//! `COOPER_TEST_LONG=1` takes every point and far more random kills. How many faults were met is
//! printed. Power cuts are in `power`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

mod power;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Server, TestEnv};

const COOPER: &str = env!("CARGO_BIN_EXE_cooper");

/// Whether every point is tried.
#[expect(
    clippy::disallowed_methods,
    reason = "a test may ask how long it may take"
)]
fn long() -> bool {
    std::env::var_os("COOPER_TEST_LONG").is_some()
}

/// Says how much was tried, also where the output of tests that pass is kept back: the counts are
/// part of the result.
fn tell(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "crash: {text}");
}

/// A store that is as it was before every fault.
struct Ground {
    env: TestEnv,
    registry: Server,
}

/// What is interrupted, as words after `cooper`; `{}` stands for the registry's name.
const OPERATIONS: &[(&str, &[&str])] = &[
    ("build", &["build", "-q", "-t", "new", "."]),
    ("pull", &["pull", "-q", "{}/crash/remote:1"]),
    ("push", &["push", "-q", "base", "{}/crash/pushed:1"]),
    ("tag", &["tag", "base", "victim"]),
    ("rmi", &["rmi", "-f", "victim"]),
    ("prune", &["prune", "--cache"]),
    ("load", &["load", "-q", "-i", "victim.tar"]),
];

impl Ground {
    fn new() -> Self {
        let registry = Server::http();
        let env = TestEnv::new()
            .file("f", "f".repeat(5000))
            .dockerfile("FROM base AS one\nCOPY f /f\nRUN echo 1 > /one\nFROM base\nCOPY --from=one /one /f /to/\n");
        env.busybox("base");
        env.write("victim/Dockerfile", "FROM base\nCOPY v /v\n");
        env.write("victim/v", "v");
        let remote = registry.name("crash/remote:1").full();
        env.cooper(&["build", "-q", "-t", "victim", "-t", &remote, "victim"])
            .ok();
        env.cooper(&["push", "-q", &remote]).ok();
        env.cooper(&["save", "-o", "victim.tar", "victim"]).ok();
        env.cooper(&["rmi", &remote]).ok();
        // Unpacked, so that running it afterwards asks nothing of the disk.
        env.cask(&["run", "--rm", "--network=none", "base", "true"])
            .ok();
        let ground = Self { env, registry };
        ground.copy(&ground.env.root(), &ground.env.beside("prepared"));
        ground
    }

    fn copy(&self, from: &std::path::Path, to: &std::path::Path) {
        let copied = Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status()
            .unwrap();
        assert!(copied.success());
    }

    /// Takes the store back to what was prepared.
    fn reset(&self) {
        std::fs::remove_dir_all(self.env.root()).unwrap();
        self.copy(&self.env.beside("prepared"), &self.env.root());
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let host = self.registry.name("x").full();
        let host = host.split('/').next().unwrap();
        words.iter().map(|word| word.replace("{}", host)).collect()
    }

    /// Runs `words` with a fault; returns the exit code, `None` for a signal, and what was said.
    fn fail_at(&self, words: &[&str], fault: &str, number: u64) -> (Option<i32>, String) {
        let out = self
            .env
            .command(COOPER)
            .args(self.words(words))
            .env("COOPER_FAULT", format!("{fault}:{number}"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    }

    /// Nothing is damaged, what was there runs, and `words` succeed now.
    #[track_caller]
    fn is_sound_and_can(&self, words: &[&str], what: &str) {
        let checked = self.env.cooper(&["fsck"]);
        let judged = checked.ok();
        assert_eq!(judged.stdout(), "", "after {what}");
        self.env
            .cask(&["run", "--rm", "--network=none", "base", "true"])
            .ok();
        let words = self.words(words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.env.cooper(&words).ok();
    }
}

/// The points that are tried: all of them, or ever fewer the further out.
fn points() -> impl Iterator<Item = u64> {
    let step = |n: &u64| Some(if long() { n + 1 } else { n * 2 + 1 });
    std::iter::successors(Some(1), step)
}

/// Meets `fault` at one point after the other until the operation gets through without.
fn at_every_point(fault: &str, met: impl Fn(Option<i32>, &str) -> bool) {
    let ground = Ground::new();
    let mut count = 0;
    for (name, words) in OPERATIONS {
        let before = count;
        for number in points() {
            ground.reset();
            let (code, said) = ground.fail_at(words, fault, number);
            if !met(code, &said) {
                assert_eq!(code, Some(0), "{name}, {fault} at {number}: {said}");
                break;
            }
            count += 1;
            ground.is_sound_and_can(words, &format!("{fault} at point {number} of {name}"));
        }
        assert!(count > before, "{name} never met a fault");
    }
    tell(&format!("{count} faults of the kind {fault}"));
}

#[test]
fn a_kill_at_any_point_leaves_a_sound_store() {
    at_every_point("kill", |code, _| code.is_none());
}

#[test]
fn a_disk_that_fills_up_at_any_point_leaves_a_sound_store() {
    at_every_point("full", |code, said| {
        let full = said.contains("the disk is full") || said.contains("No space left");
        assert_eq!(code == Some(0), !full, "{said}");
        full
    });
}

#[test]
fn an_error_of_the_disk_at_any_point_leaves_a_sound_store() {
    // An error that only concerns tidying up is no failure, so a success may have met it as well:
    // the points end where none is left to pass.
    let ground = Ground::new();
    let mut count = 0;
    for (name, words) in OPERATIONS {
        for number in points().take_while(|number| *number < 64) {
            ground.reset();
            let (code, said) = ground.fail_at(words, "broken", number);
            assert!(
                matches!(code, Some(0 | 1)),
                "{name}, broken at {number}: {said}"
            );
            if code == Some(1) {
                assert!(said.contains("Input/output error"), "{said}");
                count += 1;
                ground
                    .is_sound_and_can(words, &format!("an I/O error at point {number} of {name}"));
            }
        }
    }
    assert!(count > 10, "only {count} I/O errors were met");
    tell(&format!("{count} faults of the kind broken"));
}

#[test]
fn two_processes_killed_at_any_moment_leave_a_sound_store() {
    let ground = Ground::new();
    ground.env.write(
        "other/Dockerfile",
        "FROM base\nCOPY o /o\nRUN echo 2 > /two\n",
    );
    ground.env.write("other/o", "o");
    let second: &[&str] = &["build", "-q", "-t", "second", "other"];
    let start = |words: &[&str]| {
        let mut command = ground.env.command(COOPER);
        command.args(ground.words(words)).stdin(Stdio::null());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let rounds = if long() { 200 } else { 7 };
    for round in 0..rounds {
        if round % 10 == 0 {
            ground.reset();
        }
        // Every operation beside a build, the builds more often.
        let (name, first) = match round % 2 {
            0 => OPERATIONS[0],
            _ => OPERATIONS[round / 2 % OPERATIONS.len()],
        };
        let mut children = [start(first), start(second)];
        // Spread over the whole build, another moment in every round.
        std::thread::sleep(Duration::from_millis(round as u64 * 37 % 400));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let what = format!("a {name} and a build were killed in round {round}");
        ground.is_sound_and_can(&["images"], &what);
    }
    ground.is_sound_and_can(OPERATIONS[0].1, "all kills");
    ground.env.cooper(second).ok();
    tell(&format!("{} random kills", 2 * rounds));
}
