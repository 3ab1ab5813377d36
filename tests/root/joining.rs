//! Programs that enter a sandbox which runs already.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

use std::io::Read;

use cooper::sandbox::{Child, Error, Exit, Plan, Stdio, WindowSize, join, spawn};
use rustix::process::Signal;

use crate::sandbox::fixture;
use crate::support::{Fixture, finish, pipes};

/// A sandbox that has said that it is up.
fn sleeper(t: &Fixture) -> Child {
    let script = "hostname inside; echo 5 > /tmp/left; echo up; exec sleep 1000";
    let mut child = spawn(&t.sh(script), pipes()).unwrap();
    let mut up = [0; 3];
    let stdout = child.stdout.take().unwrap();
    let mut stdout = std::fs::File::from(stdout);
    stdout.read_exact(&mut up).unwrap();
    child.stdout = Some(stdout.into());
    child
}

fn joined(plan: &Plan, child: &Child) -> (Exit, String) {
    let ran = finish(join(plan, child.pidfd(), pipes()).unwrap());
    (ran.exit, ran.stdout)
}

#[test]
fn a_joining_program_sees_what_the_first_one_sees() {
    let t = fixture();
    let child = sleeper(&t);
    let script = "cat /tmp/left; test $$ -gt 1; ps -o comm | grep -c sleep; grep CapEff /proc/self/status; exit 3";
    let (exit, out) = joined(&t.sh(script), &child);
    assert_eq!(exit, Exit::Code(3));
    assert_eq!(out, "5\n1\nCapEff:\t00000000a80425fb\n");
    let mut plan = t.sh("id -u; grep CapEff /proc/self/status; pwd");
    plan.user.0 = "www-data".into();
    plan.cwd.path = "/tmp".into();
    let (exit, out) = joined(&plan, &child);
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(out, "33\nCapEff:\t0000000000000000\n/tmp\n");
}

#[test]
fn a_joining_program_that_is_missing_is_named() {
    let t = fixture();
    let child = sleeper(&t);
    let error = join(&t.plan(&["/no/such"]), child.pidfd(), pipes()).unwrap_err();
    assert!(matches!(error, Error::ProgramNotFound { .. }), "{error:?}");
}

#[test]
fn a_joining_program_has_a_terminal_of_the_sandbox() {
    let t = fixture();
    let child = sleeper(&t);
    let mut plan = t.sh("tty; stty size; sleep 0.1");
    plan.tty = Some(WindowSize { rows: 12, cols: 34 });
    let mut inside = join(&plan, child.pidfd(), Stdio::default()).unwrap();
    let mut master = std::fs::File::from(inside.pty().unwrap().try_clone().unwrap());
    let mut said = String::new();
    // EIO is how a terminal ends.
    while !said.contains("12 34") {
        let mut buffer = [0; 256];
        let n = master.read(&mut buffer).unwrap();
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(said.contains("/dev/pts/"), "{said}");
    assert_eq!(inside.wait().unwrap(), Exit::Code(0));
}

#[test]
fn a_joining_program_ends_with_its_handle_and_with_the_sandbox() {
    let t = fixture();
    let child = sleeper(&t);
    let count = |child: &Child| joined(&t.sh("ps -o args | grep -c '[s]leep 77'"), child).1;
    let inside = join(&t.plan(&["sleep", "77"]), child.pidfd(), pipes()).unwrap();
    assert_eq!(count(&child), "1\n");
    drop(inside);
    assert_eq!(count(&child), "0\n");
    let mut inside = join(&t.plan(&["sleep", "77"]), child.pidfd(), pipes()).unwrap();
    child.signal(Signal::KILL).unwrap();
    assert_eq!(inside.wait().unwrap(), Exit::Signal(9));
}
