//! How containers end: programs that do not hear their stop signal.

use std::time::{Duration, Instant};

use crate::support::TestEnv;

/// Checks as root and as an ordinary user.
fn both(check: impl Fn(&TestEnv)) {
    for t in [TestEnv::new(), TestEnv::as_user("sub")] {
        t.busybox("busybox");
        check(&t);
        assert_eq!(
            t.cask(&["ps", "-aq"]).ok().stdout(),
            "",
            "the check cleans up"
        );
    }
}

/// Waits for something that another process is about to do.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is said when `box` is started.
fn said(t: &TestEnv, options: &[&str], program: &[&str]) -> String {
    let run = ["run", "-d", "--name", "box"];
    let started = t.cask(&[&run[..], options, &["busybox"], program].concat());
    started.ok().stderr()
}

#[test]
fn a_program_that_is_about_to_ignore_its_stop_signal_is_warned_of() {
    both(|t| {
        // For a moment the signal would end it.
        let script = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; trap '' TERM; sleep 1000";
        // On a machine that is busy it may take longer than it is watched.
        until("a start warns", || {
            let said = said(t, &[], &["sh", "-c", script]);
            t.cask(&["rm", "-f", "box"]).ok();
            said.contains("`box` does not stop by signal 15: its program ignores it so far")
        });
    });
}

#[test]
fn a_signal_that_does_nothing_by_itself_stops_nobody() {
    both(|t| {
        let said = said(t, &["--stop-signal=WINCH"], &["sleep", "1000"]);
        assert!(said.contains("does not stop by signal 28"), "{said}");
        // A minute is longer than the test may take.
        t.cask(&["stop", "-t", "60", "box"])
            .ok()
            .says("ignores signal 28");
        t.cask(&["rm", "box"]).ok();
    });
}

#[test]
fn nobody_is_warned_of_programs_that_stop() {
    both(|t| {
        let handler = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
        for (options, program) in [
            (&[][..], &["sleep", "1000"][..]),
            (&["--init=false"], &["sh", "-c", handler]),
            // Not even pid 1 escapes it.
            (&["--init=false", "--stop-signal=KILL"], &["sleep", "1000"]),
        ] {
            let said = said(t, options, program);
            assert!(!said.contains("does not stop"), "{program:?}: {said}");
            let stopped = t.cask(&["stop", "-t", "60", "box"]).ok();
            assert_eq!(stopped.stderr(), "", "{options:?} {program:?}");
            t.cask(&["rm", "box"]).ok();
        }
    });
}
