//! The life of a container under `cask`: every verb from every state, and what survives.

use std::time::{Duration, Instant};

use crate::support::TestEnv;

/// A program that ends when it is asked to.
const SLEEPER: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

fn field(t: &TestEnv, name: &str, template: &str) -> String {
    t.cask(&["inspect", "-f", template, name]).ok().stdout()
}

fn status(t: &TestEnv, name: &str) -> String {
    let filter = format!("name={name}");
    let format = ["ps", "-a", "--filter", &filter, "--format", "{{.State}}"];
    t.cask(&format).ok().stdout()
}

/// Waits for something that another process is about to do.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes the container `box` be in a state.
fn bring_to(t: &TestEnv, state: &str) {
    t.cask(&["rm", "-f", "-v", "box"]).ok();
    t.cask(&["create", "--name", "box", "busybox", "sh", "-c", SLEEPER])
        .ok();
    if state == "created" {
        return;
    }
    t.cask(&["start", "box"]).ok();
    until("the program is up", || {
        t.cask(&["logs", "box"]).ok().stdout() == "up"
    });
    match state {
        "paused" => drop(t.cask(&["pause", "box"]).ok()),
        "exited" => drop(t.cask(&["stop", "box"]).ok()),
        _ => {}
    }
}

#[test]
fn verbs_that_need_a_running_program_say_so() {
    let t = env();
    for (state, exec, attach) in [
        ("created", "is not running", "is not running"),
        ("paused", "is paused", "is paused"),
        ("exited", "is not running", "is not running"),
    ] {
        bring_to(&t, state);
        t.cask(&["exec", "box", "true"]).fails(1).says(exec);
        t.cask(&["attach", "box"]).fails(1).says(attach);
    }
    assert_eq!(t.cask(&["wait", "box"]).ok().stdout(), "0");
    t.cask(&["rename", "box", "other"]).ok();
    assert_eq!(field(&t, "other", "{{.Name}}"), "/other");
    t.cask(&["start", "bix"])
        .fails(1)
        .says("no container `bix`");
    t.cask(&["rm", "-f", "other"]).ok();
}

#[test]
fn what_was_written_stays_over_stop_and_start_and_goes_with_rm() {
    let t = env();
    let script = "test -e /kept && cat /kept; echo again > /kept";
    t.cask(&["run", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    t.cask(&["start", "-a", "box"]).ok();
    assert_eq!(t.cask(&["logs", "box"]).ok().stdout(), "again");
    t.cask(&["rm", "box"]).ok();
    t.cask(&["run", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(t.cask(&["logs", "box"]).ok().stdout(), "");
}

#[test]
fn exit_codes_and_ends_are_told_by_wait_and_inspect() {
    let t = env();
    t.cask(&[
        "run",
        "-d",
        "--name",
        "box",
        "busybox",
        "sh",
        "-c",
        "sleep 0.3; exit 7",
    ])
    .ok();
    assert_eq!(t.cask(&["wait", "box"]).ok().stdout(), "7");
    assert_eq!(
        field(&t, "box", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 7"
    );
    t.cask(&["create", "--name", "bad", "busybox", "/no/such"])
        .ok();
    t.cask(&["start", "-a", "bad"])
        .fails(127)
        .says("`/no/such`");
    assert_eq!(
        field(&t, "bad", "{{.State.Status}} {{.State.ExitCode}}"),
        "created 127"
    );
    assert!(field(&t, "bad", "{{.State.Error}}").contains("/no/such"));
}

#[test]
fn nothing_half_made_stays_of_a_run_that_fails() {
    let t = env();
    let id = t.path("id");
    let cidfile = format!("--cidfile={}", id.display());
    for options in [&["--rm"][..], &["-d"], &["-v", "/data", &cidfile]] {
        let run = [
            &["run", "--name", "gone"],
            options,
            &["busybox", "/no/such"],
        ]
        .concat();
        t.cask(&run).fails(127).says("`/no/such`");
        assert_eq!(status(&t, "gone"), "", "{options:?}");
    }
    assert!(!id.exists());
    assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
    // One whose program did run stays, whatever came of it.
    t.cask(&["run", "--name", "ran", "busybox", "false"])
        .fails(1);
    assert_eq!(status(&t, "ran"), "exited");
}

#[test]
fn a_detached_container_removes_itself_and_its_volumes() {
    let t = env();
    t.cask(&[
        "run", "-d", "--rm", "--name", "box", "-v", "/data", "busybox", "true",
    ])
    .ok();
    until("it is gone", || status(&t, "box").is_empty());
    until("its volume is gone", || {
        t.cask(&["volume", "ls", "-q"]).ok().stdout().is_empty()
    });
}

#[test]
fn a_restart_kills_the_old_program_and_never_the_new_one() {
    let t = env();
    // It ends at once, so the kill that follows finds the next program in its place.
    t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    for _ in 0..20 {
        t.cask(&["restart", "-t", "0", "box"]).ok();
        assert_eq!(status(&t, "box"), "running");
    }
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn containers_are_stopped_at_the_same_time() {
    let t = env();
    // Each ends only when the other has been asked to.
    for (own, others) in [("one", "two"), ("two", "one")] {
        let asked = format!("touch /v/{own}; while [ ! -e /v/{others} ]; do sleep 0.05; done");
        let script = format!("trap '{asked}; exit 0' TERM; echo up; while :; do sleep 0.05; done");
        let run = ["run", "-d", "--name", own, "-v", "shared:/v", "busybox"];
        t.cask(&[&run[..], &["sh", "-c", &script]].concat()).ok();
        until("the program is up", || {
            t.cask(&["logs", own]).ok().stdout() == "up"
        });
    }
    let stopped = t.cask(&["stop", "-t", "120", "one", "two"]).ok();
    assert_eq!(stopped.stdout(), "one\ntwo");
    for name in ["one", "two"] {
        assert_eq!(field(&t, name, "{{.State.ExitCode}}"), "0");
    }
    t.cask(&["rm", "-v", "one", "two"]).ok();
}

#[test]
fn a_restart_that_was_interrupted_does_not_undo_the_next_kill() {
    let t = env();
    let script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done";
    t.cask(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    let says = |what: &str| t.cask(&["logs", "box"]).ok().stdout().ends_with(what);
    until("the program is up", || says("up"));
    let mut restart = t.command(env!("CARGO_BIN_EXE_cask"));
    let restart = restart.args(["restart", "-t", "1000", "box"]);
    let mut restart = restart.spawn().unwrap();
    until("the restart is under way", || says("asked"));
    restart.kill().unwrap();
    restart.wait().unwrap();
    t.cask(&["kill", "box"]).ok();
    assert_eq!(status(&t, "box"), "exited");
    t.cask(&["rm", "box"]).ok();
}

#[test]
fn a_program_that_ignores_its_stop_signal_is_killed_at_once() {
    for t in [TestEnv::new(), TestEnv::as_user("sub")] {
        t.busybox("busybox");
        stop_those_that_ignore_it(&t);
    }
}

fn stop_those_that_ignore_it(t: &TestEnv) {
    let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    t.cask(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    until("the program is up", || {
        t.cask(&["logs", "box"]).ok().stdout() == "up"
    });
    // A minute is longer than the test may take.
    t.cask(&["stop", "-t", "60", "box"])
        .ok()
        .says("ignores signal 15");
    assert_eq!(field(t, "box", "{{.State.ExitCode}}"), "137");
    // A pid 1 without a handler does nothing about signals.
    t.cask(&[
        "run",
        "-d",
        "--name",
        "bare",
        "--init=false",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok()
    .says("`bare` does not stop by signal 15");
    t.cask(&["stop", "-t", "60", "bare"])
        .ok()
        .says("ignores signal 15");
}

#[test]
fn signals_have_names_and_a_stop_signal_is_obeyed() {
    let t = env();
    let script = "trap 'exit 5' USR1; trap 'exit 6' QUIT; echo up; while :; do sleep 0.05; done";
    for (verb, code) in [(&["kill", "-s", "USR1"][..], "5"), (&["stop"][..], "6")] {
        let run = [
            "run",
            "-d",
            "--name",
            "box",
            "--stop-signal",
            "QUIT",
            "busybox",
            "sh",
            "-c",
        ];
        t.cask(&[&run[..], &[script]].concat()).ok();
        until("the program is up", || {
            t.cask(&["logs", "box"]).ok().stdout() == "up"
        });
        t.cask(&[verb, &["box"]].concat()).ok();
        assert_eq!(t.cask(&["wait", "box"]).ok().stdout(), code);
        t.cask(&["rm", "box"]).ok();
    }
    t.cask(&["kill", "-s", "NOPE", "box"])
        .fails(2)
        .says("no signal");
}

#[test]
fn policies_start_a_program_again() {
    let t = env();
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "--restart",
        "on-failure:2",
        "busybox",
    ];
    t.cask(&[&run[..], &["sh", "-c", "echo once; exit 3"]].concat())
        .ok();
    assert_eq!(
        t.cask(&["wait", "box"]).ok().stdout(),
        "3",
        "the next end of its program"
    );
    until("it is not started again", || {
        field(&t, "box", "{{.State.Status}} {{.RestartCount}}") == "exited 2"
    });
    assert_eq!(t.cask(&["logs", "box"]).ok().stdout(), "once\nonce\nonce");
    let run = [
        "run",
        "-d",
        "--name",
        "always",
        "--restart",
        "always",
        "busybox",
    ];
    t.cask(&[&run[..], &["sleep", "1000"]].concat()).ok();
    t.cask(&["exec", "always", "sh", "-c", "kill -9 2; sleep 1000"])
        .fails(137);
    until("it runs again", || {
        field(&t, "always", "{{.RestartCount}} {{.State.Status}}") == "1 running"
    });
    t.cask(&["stop", "-t", "0", "always"]).ok();
    assert_eq!(status(&t, "always"), "exited", "who was stopped stays down");
    t.cask(&["system", "boot"]).ok();
    assert_eq!(status(&t, "always"), "running", "until the machine starts");
    t.cask(&["update", "--restart", "no", "always"]).ok();
    t.cask(&["rm", "-f", "always"]).ok();
    t.cask(&["run", "--rm", "--restart", "always", "busybox", "true"])
        .fails(125)
        .says("contradict");
}

#[test]
fn health_is_what_the_checks_find() {
    let t = env();
    let checked = [
        "--health-interval=100ms",
        "--health-retries=2",
        "--health-timeout=5s",
    ];
    let run = [
        "run",
        "-d",
        "--name",
        "box",
        "--health-cmd",
        "test -e /well",
    ];
    let rest = ["busybox", "sleep", "1000"];
    t.cask(&[&run[..], &checked, &rest].concat()).ok();
    until("two checks fail", || {
        field(&t, "box", "{{.State.Health.Status}}") == "unhealthy"
    });
    let shown = t.cask(&["ps", "--format", "{{.Status}}"]).ok().stdout();
    assert!(shown.ends_with("(unhealthy)"), "{shown}");
    t.cask(&["exec", "box", "touch", "/well"]).ok();
    t.cask(&["wait", "--condition=healthy", "box"]).ok();
    assert_eq!(field(&t, "box", "{{.State.Health.FailingStreak}}"), "0");
    t.cask(&["rm", "-f", "box"]).ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nHEALTHCHECK --interval=100ms CMD [\"true\"]\nCMD [\"sleep\", \"1000\"]\n",
    );
    t.build_with(&["-t", "checked"]).ok();
    t.cask(&["run", "-d", "--name", "box", "checked"]).ok();
    t.cask(&["wait", "--condition=healthy", "box"]).ok();
    t.cask(&["rm", "-f", "box"]).ok();
    t.cask(&["run", "-d", "--name", "box", "--no-healthcheck", "checked"])
        .ok();
    t.cask(&["wait", "--condition=healthy", "box"])
        .fails(1)
        .says("no health check");
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn events_tell_the_whole_life() {
    let t = env();
    let run = [
        "run", "--name", "box", "-l", "team=a", "busybox", "sh", "-c", "exit 3",
    ];
    t.cask(&run).fails(3);
    t.cask(&["rm", "box"]).ok();
    let ask = ["events", "--since", "1h", "--until", "0s"];
    let format = ["--format", "{{.Action}} {{.Actor.Attributes.name}}"];
    let told = t.cask(&[&ask[..], &format].concat()).ok().stdout();
    assert_eq!(told, "create box\nstart box\ndie box\ndestroy box");
    let died = ["--filter", "event=die", "--filter", "label=team=a"];
    let line = t.cask(&[&ask[..], &died].concat()).ok().stdout();
    assert!(
        line.contains(" container die ") && line.contains("exitCode=3"),
        "{line}"
    );
    let none = t.cask(&[&ask[..], &["--filter", "container=other"]].concat());
    assert_eq!(none.ok().stdout(), "");
}

#[test]
fn use_is_shown_once_or_for_ever() {
    let t = env();
    t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let format = [
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}} {{.PIDs}} {{.MemUsage}}",
    ];
    let shown = t.cask(&format).ok().stdout();
    assert!(
        shown.starts_with("box 2 ") && shown.contains(" / "),
        "{shown}"
    );
    let heads = t.cask(&["stats", "--no-stream"]).ok().stdout();
    assert!(
        heads.contains("NET I/O") && heads.contains("BLOCK I/O"),
        "{heads}"
    );
    // Root may know what anybody reads and writes.
    let format = ["stats", "--no-stream", "--format", "{{.BlockIO}}"];
    let shown = t.cask(&format).ok().stdout();
    assert!(shown.contains(" / ") && !shown.contains("--"), "{shown}");
    t.cask(&["rm", "-f", "box"]).ok();
    t.cask(&["stats", "--no-stream", "box"])
        .fails(1)
        .says("no container `box`");
}

#[test]
fn the_size_of_containers_is_shown_when_asked_for() {
    let t = env();
    let script = "head -c 3000000 /dev/zero > /a; ln /a /b";
    t.cask(&["run", "--name", "box", "busybox", "sh", "-c", script])
        .ok();
    let shown = t.cask(&["ps", "-a", "--format", "{{.Size}}"]).ok().stdout();
    assert!(shown.starts_with("3MB (virtual "), "{shown}");
    let table = t.cask(&["ps", "-as"]).ok().stdout();
    assert!(table.lines().next().unwrap().ends_with("SIZE"), "{table}");
    assert!(table.contains("3MB (virtual "), "{table}");
    let plain = t.cask(&["ps", "-a"]).ok().stdout();
    assert!(!plain.contains("SIZE"), "{plain}");
}

#[test]
fn pruning_takes_what_does_not_run() {
    let t = env();
    t.cask(&["run", "--name", "done", "-v", "/data", "busybox", "true"])
        .ok();
    t.cask(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"])
        .ok();
    t.cask(&["system", "prune", "--volumes"]).ok();
    let left = t
        .cask(&["ps", "-a", "--format", "{{.Names}}"])
        .ok()
        .stdout();
    assert_eq!(left, "up");
    assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "");
    t.cask(&["rm", "-f", "up"]).ok();
    t.cask(&["system", "df"]).ok();
}

/// The pids of a container's monitor and of its pid 1.
fn pids(t: &TestEnv, name: &str) -> (i32, i32) {
    let id = field(t, name, "{{.Id}}");
    let state = std::fs::read(t.root().join("containers").join(id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let number = |key: &str| i32::try_from(state[key].as_i64().unwrap()).unwrap();
    (number("monitor"), number("pid"))
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_killed_monitor_is_noticed_and_loses_nothing() {
    let t = env();
    for round in 0..5 {
        bring_to(&t, "running");
        t.cask(&["exec", "box", "sh", "-c", "echo data > /data"])
            .ok();
        let (monitor, init) = pids(&t, "box");
        if round % 2 == 0 {
            kill(monitor);
            until("the kernel ends the container", || {
                !std::path::Path::new(&format!("/proc/{init}/root/bin")).exists()
            });
            assert_eq!(
                field(&t, "box", "{{.State.Status}} {{.State.ExitCode}}"),
                "exited 137"
            );
        } else {
            kill(init);
            assert_eq!(t.cask(&["wait", "box"]).ok().stdout(), "137");
        }
        assert_eq!(t.cask(&["logs", "box"]).ok().stdout(), "up");
        t.cask(&["start", "box"]).ok();
        let read = t.cask(&["exec", "box", "cat", "/data"]).ok().stdout();
        assert_eq!(read, "data");
        kill(pids(&t, "box").0);
        t.cask(&["rm", "-f", "box"]).ok();
        assert_eq!(status(&t, "box"), "");
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(t.root().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_container_that_was_to_go_goes_when_its_monitor_was_killed() {
    let t = env();
    for verb in [&["ps", "-a"][..], &["inspect", "other"], &["volume", "ls"]] {
        t.cask(&["create", "--name", "other", "busybox", "true"])
            .ok();
        t.cask(&["create", "--rm", "--name", "unstarted", "busybox", "true"])
            .ok();
        let run = [
            "run",
            "-d",
            "--rm",
            "--name",
            "box",
            "-v",
            "/data",
            "-v",
            "kept:/kept",
        ];
        t.cask(&[&run[..], &["busybox", "sh", "-c", SLEEPER]].concat())
            .ok();
        let containers = t.root().join("containers");
        let dir = containers.join(field(&t, "box", "{{.Id}}"));
        kill(pids(&t, "box").0);
        // What is asked may be about something else.
        until("the next command removes it", || {
            t.cask(verb).ok();
            !dir.exists()
        });
        assert_eq!(t.cask(&["volume", "ls", "-q"]).ok().stdout(), "kept");
        let left = t.cask(&["ps", "-a", "--format", "{{.Names}}"]).ok();
        assert_eq!(left.stdout(), "unstarted\nother");
        t.cask(&["rm", "unstarted", "other"]).ok();
    }
}
