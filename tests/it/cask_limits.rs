//! What the processes of a container may use together, changed while it runs and while it does
//! not; and halting them all.
//!
//! Where the control groups of this machine are of cgroup v1, root has limits and ordinary users
//! have not; with cgroup v2 that depends on the session, which `scripts/vm-guest` tries.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Output, TestEnv, everybody};

/// The old hierarchies, where root can limit everything that is tried here.
fn is_old() -> bool {
    Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists()
}

fn env() -> TestEnv {
    let t = TestEnv::new();
    t.busybox("busybox");
    t
}

fn field(t: &TestEnv, name: &str, template: &str) -> String {
    t.cask(&["inspect", "--format", template, name])
        .ok()
        .stdout()
}

const LIMITS: &str = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.MemoryReservation}} {{.HostConfig.NanoCpus}} \
    {{.HostConfig.CpuShares}} {{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}} \
    {{.HostConfig.CpusetCpus}} {{.HostConfig.CpusetMems}} {{.HostConfig.PidsLimit}} {{.HostConfig.BlkioWeight}} {{.HostConfig.RestartPolicy.Name}}";

/// With cgroup v2 it depends on what is delegated here whether a limit is kept, and
/// `scripts/vm-guest` tries that it is. Where it is not that is said; then the container `box` is
/// removed.
fn kept_or_refused(t: &TestEnv, done: Output, template: &str, kept: &str) {
    let said = done.any().stderr();
    if !said.contains("cannot limit ") {
        assert_eq!(field(t, "box", template), kept, "{said}");
    }
    t.cask(&["rm", "-f", "box"]).any();
}

/// All that can be changed.
const UPDATE: &[&str] = &[
    "update",
    "--memory=64m",
    "--memory-swap=128m",
    "--memory-reservation=32m",
    "--cpus=0.5",
    "--cpu-shares=512",
    "--cpuset-cpus=0",
    "--cpuset-mems=0",
    "--pids-limit=77",
    "--blkio-weight=500",
    "--restart=on-failure:3",
];

const UPDATED: &str = "67108864 134217728 33554432 500000000 512 0 0 0 0 77 500 on-failure";

/// The file of the container's group in an old hierarchy.
fn old_file(t: &TestEnv, name: &str, controller: &str, file: &str) -> Option<String> {
    let pid = field(t, name, "{{.State.Pid}}");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        (controllers == controller).then(|| path.to_owned())
    })?;
    let dir = format!("/sys/fs/cgroup/{controller}{path}");
    let text = fs::read_to_string(Path::new(&dir).join(file)).ok()?;
    Some(text.trim().to_owned())
}

#[test]
fn update_changes_limits_of_those_that_do_not_run() {
    everybody(|t| {
        let t = &t;
        for name in ["one", "two"] {
            t.cask(&["create", "--name", name, "busybox", "true"]).ok();
        }
        let out = t.cask(&[UPDATE, &["one", "two"]].concat()).ok().stdout();
        assert_eq!(out, "one\ntwo");
        assert_eq!(field(t, "one", LIMITS), UPDATED);
        assert_eq!(field(t, "two", LIMITS), UPDATED);
        t.cask(&[
            "update",
            "--pids-limit=-1",
            "--memory-swap=-1",
            "--cpus=1",
            "one",
        ])
        .ok();
        let want = "67108864 -1 33554432 1000000000 512 0 0 0 0 <nil> 500 on-failure";
        assert_eq!(field(t, "one", LIMITS), want);
        t.cask(&["rm", "one", "two"]).ok();
    });
}

#[test]
fn update_changes_limits_of_those_that_run_and_keeps_them() {
    let t = env();
    t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let update = t.cask(&[UPDATE, &["box"]].concat());
    if !is_old() {
        kept_or_refused(&t, update, LIMITS, UPDATED);
        return;
    }
    update.ok();
    assert_eq!(field(&t, "box", LIMITS), UPDATED);
    let check = || {
        for (controller, file, want) in [
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.shares", "512"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "77"),
        ] {
            let found = old_file(&t, "box", controller, file);
            // A kernel that does not account for swap has no such file.
            if found.is_some() || !file.contains("memsw") {
                assert_eq!(found.as_deref(), Some(want), "{file}");
            }
        }
    };
    check();
    // Down, beyond what was with swap, and one taken away.
    t.cask(&["update", "--memory=32m", "--memory-swap=32m", "box"])
        .ok();
    let memory = || old_file(&t, "box", "memory", "memory.limit_in_bytes");
    assert_eq!(memory().as_deref(), Some("33554432"));
    let used = t.cask(&["stats", "--no-stream", "--format={{.MemUsage}}", "box"]);
    let used = used.ok().stdout();
    assert!(used.ends_with("iB / 32MiB"), "{used}");
    t.cask(&["update", "--memory=64m", "--memory-swap=128m", "box"])
        .ok();
    t.cask(&["update", "--pids-limit=-1", "box"]).ok();
    let pids = old_file(&t, "box", "pids", "pids.max");
    assert_eq!(pids.as_deref(), Some("max"));
    t.cask(&["update", "--pids-limit=77", "box"]).ok();
    check();
    // What is executed is in the same groups, and so is the next run.
    let own = "grep -o ':pids:.*' /proc/self/cgroup";
    let shown = t.cask(&["exec", "box", "sh", "-c", own]).ok().stdout();
    assert!(shown.contains(":pids:/cooper-"), "{shown}");
    t.cask(&["restart", "-t", "0", "box"]).ok();
    check();
    let group = field(&t, "box", "{{.State.Pid}}");
    let group = fs::read_to_string(format!("/proc/{group}/cgroup")).unwrap();
    t.cask(&["rm", "-f", "box"]).ok();
    let left = group.lines().filter_map(|line| {
        let (controller, path) = line.split_once(':')?.1.split_once(':')?;
        let dir = Path::new("/sys/fs/cgroup")
            .join(controller)
            .join(&path[1..]);
        (path.contains("/cooper-") && dir.exists()).then_some(dir)
    });
    assert_eq!(left.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_program_over_its_memory_limit_is_killed_and_inspect_says_so() {
    let t = env();
    let run = [
        "run",
        "--name",
        "box",
        "-m",
        "32m",
        "--memory-swap=32m",
        "busybox",
    ];
    let fill = ["dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=60"];
    let filled = t.cask(&[&run[..], &fill].concat());
    if !is_old() {
        kept_or_refused(&t, filled, "{{.State.OOMKilled}}", "true");
        return;
    }
    filled.fails(137);
    assert_eq!(field(&t, "box", "{{.State.OOMKilled}}"), "true");
    t.cask(&["rm", "box"]).ok();
    // Less than is in use can't be had.
    let hold = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 && echo full && exec sleep 1000";
    t.cask(
        &[
            "run",
            "-d",
            "--name",
            "box",
            "-m",
            "100m",
            "--memory-swap=100m",
        ]
        .iter()
        .chain(&["busybox", "sh", "-c", hold])
        .copied()
        .collect::<Vec<_>>(),
    )
    .ok();
    until("memory is in use", || {
        t.cask(&["logs", "box"]).ok().stdout().contains("full")
    });
    t.cask(&["update", "--memory=16m", "--memory-swap=16m", "box"])
        .fails(1)
        .says("cannot limit memory to 16777216 bytes: ")
        .says("are in use")
        .says("free some of its memory");
    assert_eq!(field(&t, "box", "{{.HostConfig.Memory}}"), "104857600");
    let memory = old_file(&t, "box", "memory", "memory.limit_in_bytes");
    assert_eq!(memory.as_deref(), Some("104857600"), "nothing is changed");
    t.cask(&["rm", "-f", "box"]).ok();
}

#[test]
fn a_user_without_control_groups_is_told_why_and_nothing_changes() {
    for user in ["sub", "nosub"] {
        let t = TestEnv::as_user(user);
        t.busybox("busybox");
        t.cask(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
            .ok();
        let update = t.cask(&["update", "--pids-limit=50", "--restart=always", "box"]);
        let kept = "{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
        if !is_old() {
            kept_or_refused(&t, update, kept, "50 always");
            continue;
        }
        update
            .fails(1)
            .says("cannot limit the number of processes")
            .says("cgroup v1, which only root can use")
            .says("systemd.unified_cgroup_hierarchy=1");
        assert_eq!(field(&t, "box", kept), "<nil> no");
        t.cask(&["update", "--restart=on-failure", "box"]).ok();
        t.cask(&["rm", "-f", "box"]).ok();
        t.cask(&["run", "--rm", "--pids-limit=50", "busybox", "true"])
            .fails(125)
            .says("only root can use")
            .says("--limits=best-effort");
        let run = ["run", "--rm", "--pids-limit=50", "--limits=best-effort"];
        t.cask(&[&run[..], &["busybox", "true"]].concat()).ok();
    }
}

#[test]
fn limits_that_contradict_each_other_or_what_is_set_are_refused() {
    let t = env();
    t.cask(&["create", "--name", "box", "busybox", "true"]).ok();
    for (words, why) in [
        (&["update", "box"][..], "no option says what to change"),
        (
            &["update", "--memory-swap=1g", "box"],
            "`--memory-swap` goes with `--memory`",
        ),
        (
            &["update", "--memory=5m", "box"],
            "`--memory` is 6 MiB at least",
        ),
        (
            &["create", "--memory=5m", "busybox"],
            "`--memory` is 6 MiB at least",
        ),
        (
            &["update", "--cpus=99999", "box"],
            "range of CPUs is from 0.01 to ",
        ),
        (
            &["create", "--cpus=99999", "busybox"],
            "range of CPUs is from 0.01 to ",
        ),
        (
            &["update", "--cpus=1", "--cpu-quota=5000", "box"],
            "cannot be used with",
        ),
        (&["update", "--blkio-weight=5", "box"], "10 to 1000"),
        (&["update", "--cpuset-cpus=x", "box"], "numbers and ranges"),
        (&["update", "--cpuset-cpus=9999", "box"], "is not available"),
    ] {
        t.cask(words).fails(2).says(why);
    }
    t.cask(&["update", "--memory=8m", "--cpus=1", "box"]).ok();
    for (words, why) in [
        (
            &["update", "--memory=64m", "box"][..],
            "give `--memory-swap` as well",
        ),
        (
            &["update", "--memory-reservation=64m", "box"],
            "a part of `--memory`",
        ),
        (&["update", "--cpu-quota=5000", "box"], "say the same"),
    ] {
        t.cask(words).fails(2).says(why);
    }
    t.cask(&["rm", "box"]).ok();
    t.cask(&["create", "--rm", "--name", "box", "busybox", "true"])
        .ok();
    t.cask(&["update", "--restart=always", "box"])
        .fails(1)
        .says("is removed when its program ends");
    t.cask(&["rm", "box"]).ok();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes a line all the time, from a process that it starts anew each time.
const TICKER: &str = "while :; do sh -c 'echo tick'; done";

#[test]
fn a_halted_container_does_nothing_until_it_goes_on() {
    everybody(|t| {
        let t = &t;
        let lines = || t.cask(&["logs", "box"]).ok().stdout().lines().count();
        t.cask(&["run", "-d", "--name", "box", "busybox", "sh", "-c", TICKER])
            .ok();
        until("it writes", || lines() > 0);
        for _ in 0..2 {
            t.cask(&["pause", "box"]).ok();
            assert_eq!(field(t, "box", "{{.State.Status}}"), "paused");
            t.cask(&["exec", "box", "true"]).fails(1).says("is paused");
            t.cask(&["pause", "box"]).fails(1).says("is paused");
            let halted = lines();
            t.cask(&["top", "box"]).ok();
            assert_eq!(lines(), halted);
            t.cask(&["unpause", "box"]).ok();
            until("it goes on", || lines() > halted);
        }
        t.cask(&["unpause", "box"]).fails(1).says("is not paused");
        t.cask(&["rm", "-f", "box"]).ok();
    });
}

#[test]
fn a_halted_container_can_be_stopped_killed_and_removed() {
    everybody(|t| {
        let t = &t;
        let script = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done";
        let halt = || {
            t.cask(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script])
                .ok();
            until("it is up", || {
                t.cask(&["logs", "box"]).ok().stdout() == "up"
            });
            t.cask(&["pause", "box"]).ok();
        };
        let end = "{{.State.Status}} {{.State.Paused}} {{.State.ExitCode}}";
        halt();
        t.cask(&["stop", "box"]).ok();
        assert_eq!(
            field(t, "box", end),
            "exited false 7",
            "it could take the signal"
        );
        t.cask(&["rm", "box"]).ok();
        halt();
        t.cask(&["kill", "box"]).ok();
        assert_eq!(field(t, "box", end), "exited false 137");
        t.cask(&["rm", "box"]).ok();
        halt();
        t.cask(&["restart", "box"]).ok();
        assert_eq!(field(t, "box", end), "running false 0");
        t.cask(&["pause", "box"]).ok();
        t.cask(&["rm", "box"]).fails(1);
        t.cask(&["rm", "-f", "box"]).ok();
        // Whoever halted it is gone, and it with him.
        halt();
        let monitor = format!("/proc/{}/stat", field(t, "box", "{{.State.Pid}}"));
        let stat = fs::read_to_string(monitor).unwrap();
        let parent = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned();
        let pid: i32 = parent.parse().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        until("the end is seen", || {
            field(t, "box", end) == "exited false 137"
        });
        t.cask(&["start", "box"]).ok();
        assert_eq!(field(t, "box", "{{.State.Status}}"), "running");
        t.cask(&["rm", "-f", "box"]).ok();
    });
}

/// Root has the freezer of cgroup v2, even where that is beside the old hierarchies; a program
/// can't see then that it was halted.
#[test]
fn root_halts_by_the_freezer() {
    let t = env();
    let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let unified = unified
        .into_iter()
        .find(|dir| Path::new(dir).join("cgroup.controllers").exists());
    t.cask(&["run", "-d", "--name", "box", "busybox", "sh", "-c", TICKER])
        .ok();
    t.cask(&["pause", "box"]).ok();
    let init = field(&t, "box", "{{.State.Pid}}");
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
    let program = children.split_whitespace().next().unwrap();
    let stat = fs::read_to_string(format!("/proc/{program}/stat")).unwrap();
    let stopped = stat.rsplit_once(')').unwrap().1.trim().starts_with('T');
    assert_eq!(stopped, unified.is_none(), "{stat}");
    t.cask(&["rm", "-f", "box"]).ok();
}
