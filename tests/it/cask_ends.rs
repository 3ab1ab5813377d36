//! How containers end: programs that do not hear their stop signal, and exit codes that were known
//! when the monitor was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::TestEnv;

const CASK: &str = env!("CARGO_BIN_EXE_cask");

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

/// Where the monitor of a container writes its state.
fn state_file(t: &TestEnv, name: &str) -> PathBuf {
    let id = t.cask(&["inspect", "-f", "{{.Id}}", name]).ok().stdout();
    t.root().join("containers").join(id).join("state.json")
}

fn written(file: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

fn kill_monitor(file: &Path) {
    let monitor = written(file)["monitor"].as_i64().unwrap();
    let monitor = Pid::from_raw(i32::try_from(monitor).unwrap()).unwrap();
    kill_process(monitor, Signal::KILL).unwrap();
}

/// Waits until `box` has said that it is up.
fn until_up(t: &TestEnv) {
    until("the program is up", || {
        let logs = t.cask(&["logs", "box"]).exits_any(&[0, 1]);
        logs.stdout() == "up"
    });
}

#[test]
fn an_exit_code_that_was_known_outlives_the_monitor() {
    both(|t| {
        for removed in [true, false] {
            let shared = t.beside("shared");
            fs::create_dir_all(&shared).unwrap();
            let bind = format!("{}:/v:ro", shared.display());
            let mut run = vec!["run", "--name", "box", "-v", &bind];
            run.extend(removed.then_some("--rm"));
            let script = "echo up; until [ -e /v/go ]; do sleep 0.05; done; exit 3";
            run.extend(["busybox", "sh", "-c", script]);
            let mut caller = t.command(CASK);
            let mut caller = caller
                .args(run)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            until_up(t);
            let state = state_file(t, "box");
            // The monitor tells of the end before it does more, and gets stuck there.
            let (events, aside) = (t.root().join("events"), t.root().join("aside"));
            fs::rename(&events, &aside).unwrap();
            rustix::fs::mknodat(CWD, &events, FileType::Fifo, Mode::empty(), 0).unwrap();
            rustix::fs::chmod(&events, Mode::from_raw_mode(0o666)).unwrap();
            fs::write(shared.join("go"), "").unwrap();
            until("the end is written down", || {
                written(&state)["exit_code"] == 3
            });
            kill_monitor(&state);
            assert_eq!(caller.wait().unwrap().code(), Some(3), "rm: {removed}");
            fs::rename(&aside, &events).unwrap();
            fs::remove_file(shared.join("go")).unwrap();
            if removed {
                assert_eq!(t.cask(&["ps", "-aq"]).ok().stdout(), "");
                continue;
            }
            let told = ["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}"];
            let told = t.cask(&[&told[..], &["box"]].concat()).ok().stdout();
            assert_eq!(told, "exited 3");
            assert_eq!(t.cask(&["wait", "box"]).ok().stdout(), "3");
            t.cask(&["rm", "box"]).ok();
        }
    });
}

#[test]
fn who_waits_for_the_removal_of_a_container_hears_how_it_ended() {
    both(|t| {
        let script = "trap 'exit 4' USR1; echo up; while :; do sleep 0.05; done";
        for (options, verb) in [
            (&["--rm"][..], &["kill", "-s", "USR1"][..]),
            (&[], &["rm", "-f"]),
        ] {
            said(t, options, &["sh", "-c", script]);
            until_up(t);
            let mut waits = t.command(CASK);
            let waits = waits.args(["wait", "--condition=removed", "box"]);
            let waits = waits.stdout(Stdio::piped()).spawn().unwrap();
            until("it waits", || waits_for_an_answer(waits.id()));
            t.cask(&[verb, &["box"]].concat()).ok();
            let out = waits.wait_with_output().unwrap();
            let code = if options.is_empty() { "137\n" } else { "4\n" };
            assert_eq!(String::from_utf8_lossy(&out.stdout), code);
            assert!(out.status.success());
        }
    });
}

#[test]
fn what_was_up_when_its_monitor_was_killed_is_started_at_boot_and_nothing_else() {
    both(|t| {
        let run = |name: &str, policy: &str, script: &str| {
            let run = ["run", "-d", "--name", name, policy, "busybox", "sh", "-c"];
            t.cask(&[&run[..], &[script]].concat()).ok();
        };
        let state = |name: &str| {
            let format = "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}";
            t.cask(&["inspect", "-f", format, name]).ok().stdout()
        };
        // It ends as one does whose monitor is killed.
        run("killed", "--restart=on-failure:1", "kill -9 $$");
        until("it is started no more", || {
            state("killed") == "exited 137 1"
        });
        // The delay has become long by then.
        run("again", "--restart=on-failure", "exit 3");
        until("it waits", || state("again") == "restarting 3 5");
        kill_monitor(&state_file(t, "again"));
        until("that is seen", || state("again").starts_with("exited"));
        assert_eq!(t.cask(&["system", "boot"]).ok().stdout(), "again");
        t.cask(&["rm", "-f", "killed", "again"]).ok();
    });
}

/// Whether a process has asked something and sleeps until it is answered.
fn waits_for_an_answer(pid: u32) -> bool {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut to = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let connected = to.any(|to| to.to_string_lossy().starts_with("socket:"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    connected
        && stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('S'))
}
