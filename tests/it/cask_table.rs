//! The life-cycle table: every verb from every state, with docker's exit code and the state after.
//!
//! The table was written down from docker 28.5 over the same containers, but for `dead`, which
//! docker can't be brought to from outside: that column is what its daemon's sources refuse.
//! `removing` is not in it: a container goes from sight at once. A state is made once for all
//! verbs that leave it as it is.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::TestEnv;

const CASK: &str = env!("CARGO_BIN_EXE_cask");

/// A program that ends when it is asked to.
const SLEEPER: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";

/// The exit code of a verb and the state after it.
type Result = (i32, &'static str);

/// A verb that would stay until the container's end: it is there until the container is killed,
/// and then ends with this code.
const STAYS: i32 = 1000;

const STATES: [&str; 7] = [
    "none",
    "created",
    "running",
    "paused",
    "exited",
    "restarting",
    "dead",
];

/// The verb's words, and what it gives from each of [`STATES`]. The name of a container that was
/// renamed stands before its state.
#[rustfmt::skip]
const TABLE: &[(&[&str], [Result; 7])] = &[
    // What only looks, or fails.
    (&["ps", "-a"], [(0, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["inspect", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["top", "box"], [(1, "none"), (1, "created"), (0, "running"), (0, "paused"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    (&["stats", "--no-stream", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["port", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["diff", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["commit", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (1, "dead")]),
    (&["export", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (1, "dead")]),
    (&["logs", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (1, "dead")]),
    (&["exec", "box", "true"], [(1, "none"), (1, "created"), (0, "running"), (1, "paused"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    (&["cp", "box:/etc/passwd", "-"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["cp", "given", "box:/tmp/given"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["rename", "box", "box"], [(1, "none"), (1, "created"), (1, "running"), (1, "paused"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    (&["wait", "box"], [(1, "none"), (0, "created"), (STAYS, "exited"), (STAYS, "exited"), (0, "exited"), (0, "restarting"), (0, "dead")]),
    (&["attach", "--no-stdin", "box"], [(1, "none"), (1, "created"), (STAYS + 137, "exited"), (1, "paused"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    // What changes it.
    (&["create", "--name", "box", "busybox", "true"], [(0, "created"), (1, "created"), (1, "running"), (1, "paused"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    (&["run", "--name", "box", "busybox", "true"], [(0, "exited"), (125, "created"), (125, "running"), (125, "paused"), (125, "exited"), (125, "restarting"), (125, "dead")]),
    (&["start", "box"], [(1, "none"), (0, "running"), (0, "running"), (1, "paused"), (0, "running"), (0, "restarting"), (1, "dead")]),
    (&["start", "-a", "box"], [(1, "none"), (STAYS + 137, "exited"), (STAYS + 137, "exited"), (1, "paused"), (STAYS + 137, "exited"), (1, "restarting"), (1, "dead")]),
    (&["stop", "box"], [(1, "none"), (0, "created"), (0, "exited"), (0, "exited"), (0, "exited"), (0, "exited"), (0, "dead")]),
    (&["kill", "box"], [(1, "none"), (1, "created"), (0, "exited"), (0, "exited"), (1, "exited"), (0, "exited"), (1, "dead")]),
    (&["pause", "box"], [(1, "none"), (1, "created"), (0, "paused"), (1, "paused"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    (&["unpause", "box"], [(1, "none"), (1, "created"), (1, "running"), (0, "running"), (1, "exited"), (1, "restarting"), (1, "dead")]),
    (&["restart", "box"], [(1, "none"), (0, "running"), (0, "running"), (0, "running"), (0, "running"), (0, "running"), (1, "dead")]),
    (&["rename", "box", "other"], [(1, "none"), (0, "other created"), (0, "other running"), (0, "other paused"), (0, "other exited"), (0, "other restarting"), (0, "other dead")]),
    (&["update", "--restart=no", "box"], [(1, "none"), (0, "created"), (0, "running"), (0, "paused"), (0, "exited"), (0, "restarting"), (1, "dead")]),
    (&["rm", "box"], [(1, "none"), (0, "none"), (1, "running"), (1, "paused"), (0, "none"), (1, "restarting"), (0, "none")]),
    (&["rm", "-f", "box"], [(0, "none"), (0, "none"), (0, "none"), (0, "none"), (0, "none"), (0, "none"), (0, "none")]),
];

fn env() -> TestEnv {
    let t = TestEnv::new().file("given", "from outside");
    t.busybox("busybox");
    t
}

/// The states of all containers, names before them unless they are `box`.
fn states(t: &TestEnv) -> String {
    let format = ["ps", "-a", "--format", "{{.Names}} {{.State}}"];
    let all = t.cask(&format).ok().stdout();
    match all.as_str() {
        "" => "none".to_owned(),
        text => text.strip_prefix("box ").unwrap_or(text).to_owned(),
    }
}

/// Waits for something that another process is about to do.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes `box` be in a state, and nothing else be there.
fn bring_to(t: &TestEnv, state: &str) {
    t.cask(&["rm", "-f", "-v", "box", "other"]).ok();
    let create = ["create", "--network=none", "--name", "box"];
    match state {
        "none" => return,
        // The delay has become long by then.
        "restarting" => {
            let again = ["--restart=always", "busybox", "sh", "-c", "exit 3"];
            t.cask(&[&create[..], &again].concat()).ok();
            t.cask(&["start", "box"]).ok();
            return until("it waits to be started again", || {
                let format = [
                    "inspect",
                    "-f",
                    "{{.State.Status}} {{.RestartCount}}",
                    "box",
                ];
                t.cask(&format).ok().stdout() == "restarting 5"
            });
        }
        _ => drop(
            t.cask(&[&create[..], &["busybox", "sh", "-c", SLEEPER]].concat())
                .ok(),
        ),
    }
    match state {
        "created" => return,
        // As a monitor leaves one that it can't remove.
        "dead" => return write_dead(t),
        _ => {}
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

fn write_dead(t: &TestEnv) {
    let id = t.cask(&["inspect", "-f", "{{.Id}}", "box"]).ok().stdout();
    let path = t.root().join("containers").join(id).join("state.json");
    let state = std::fs::read(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    state["status"] = "dead".into();
    std::fs::write(&path, state.to_string()).unwrap();
}

fn begin(t: &TestEnv, verb: &[&str]) -> Child {
    let mut command = t.command(CASK);
    let streams = command.args(verb).stdin(Stdio::null());
    streams.stdout(Stdio::null()).spawn().unwrap()
}

/// Does what a row says, and returns what came of it. A verb that stays is left `patience` to
/// come to where it does.
fn result(t: &TestEnv, verb: &[&str], patience: Option<Duration>) -> (Option<i32>, String) {
    let mut child = begin(t, verb);
    if let Some(patience) = patience {
        until("it is up, whoever starts it", || {
            !matches!(states(t).as_str(), "created" | "exited")
        });
        std::thread::sleep(patience);
        assert!(child.try_wait().unwrap().is_none(), "{verb:?} stays");
        t.cask(&["kill", "box"]).ok();
    }
    let code = child.wait().unwrap().code();
    (code, states(t))
}

fn check(from: &str) {
    let t = env();
    let column = STATES.iter().position(|state| *state == from).unwrap();
    for (verb, results) in TABLE {
        let (code, after) = results[column];
        let stays = code >= STAYS;
        let want = (Some(code % STAYS), after.to_owned());
        // What waits to be started again may just have been, and what stays may not have come
        // that far when the container was killed.
        let may_miss = stays || from == "restarting";
        for patience in [300, 3_000, 15_000].map(Duration::from_millis) {
            if states(&t) != from {
                bring_to(&t, from);
            }
            let mut got = result(&t, verb, stays.then_some(patience));
            if from == "restarting" && after == "running" && got.1 == "restarting" {
                // Its program ends at once.
                got.1 = after.to_owned();
            }
            if got == want {
                break;
            }
            let last = !may_miss || patience.as_secs() > 10;
            assert!(!last, "{verb:?} from {from}: {got:?}, not {want:?}");
        }
        // A renamed, updated or overwritten one is not what it was.
        if verb[0] == "update" || verb[0] == "rename" {
            t.cask(&["rm", "-f", "-v", "box", "other"]).ok();
        }
    }
    t.cask(&["rm", "-f", "box", "other"]).ok();
}

#[test]
fn every_verb_from_no_container_gives_dockers_result() {
    check("none");
}

#[test]
fn every_verb_from_created_gives_dockers_result() {
    check("created");
}

#[test]
fn every_verb_from_running_gives_dockers_result() {
    check("running");
}

#[test]
fn every_verb_from_paused_gives_dockers_result() {
    check("paused");
}

#[test]
fn every_verb_from_exited_gives_dockers_result() {
    check("exited");
}

#[test]
fn every_verb_from_dead_gives_dockers_result() {
    check("dead");
}

#[test]
fn every_verb_from_restarting_gives_dockers_result() {
    check("restarting");
}

/// Words, what they print on standard output, and the exit code, one after the other: what goes
/// wrong with one thing does not keep the others.
#[rustfmt::skip]
const SEVERAL: &[(&[&str], &str, i32)] = &[
    (&["wait", "three", "nope", "four"], "3\n4", 1),
    (&["kill", "up", "three", "nope"], "up", 1),
    (&["start", "up", "nope"], "up", 1),
    (&["pause", "up", "three"], "up", 1),
    (&["unpause", "up", "nope"], "up", 1),
    (&["stop", "-t", "0", "up", "nope", "three"], "up\nthree", 1),
    (&["restart", "-t", "0", "up", "nope"], "up", 1),
    (&["update", "--restart=no", "up", "nope", "three"], "up\nthree", 1),
    (&["inspect", "-f", "{{.Name}}", "up", "nope", "four"], "/up\n/four", 1),
    (&["rename", "three", "four"], "", 1),
    (&["rm", "three", "up", "nope", "four"], "three\nfour", 1),
    (&["rm", "-f", "nope", "up"], "up", 0),
    (&["rm", "-f", "nope"], "", 0),
    (&["volume", "inspect", "-f", "{{.Name}}", "nope", "vol"], "vol", 1),
    (&["volume", "inspect", "nope"], "[]", 1),
    (&["volume", "rm", "vol", "nope"], "vol", 1),
    (&["network", "inspect", "-f", "{{.Name}}", "nope", "lan"], "lan", 1),
    (&["network", "rm", "nope", "lan"], "lan", 1),
    (&["rmi", "nope", "other"], "Untagged: other:latest", 1),
];

#[test]
fn several_things_at_once_give_dockers_words_and_code() {
    let t = env();
    t.cask(&["volume", "create", "vol"]).ok();
    t.cask(&["network", "create", "lan"]).ok();
    t.cask(&["tag", "busybox", "other"]).ok();
    for (name, program) in [("three", "exit 3"), ("four", "exit 4"), ("up", SLEEPER)] {
        let words = [
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
        ];
        t.cask(&[&words[..], &[program]].concat()).ok();
    }
    for (words, out, code) in SEVERAL {
        let output = t.cask(words).exits(*code);
        assert_eq!(output.stdout(), *out, "{words:?}");
    }
}

#[test]
fn errors_of_several_things_are_told_in_their_order() {
    let t = env();
    let told = t.cask(&["rm", "one", "two", "three"]).fails(1).stderr();
    let errors: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    let want = ["one", "two", "three"].map(|name| format!("error: no container `{name}`"));
    assert_eq!(errors, want);
}
