//! Many containers at once, and one many times.

use std::fs;
use std::time::Instant;

use super::{Ground, asked_for, end_of, processes, reap};

/// A field of `/proc/<pid>/smaps_rollup` in KiB.
fn memory(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// KiB that a monitor at rest has to be below. A program without optimisation has twice the pointers
/// to relocate, 1.4 MiB of them, which no monitor can give back.
const LARGEST: u64 = if cfg!(debug_assertions) { 4 } else { 3 } << 10;

/// The mean and the largest.
fn spread(sizes: &[u64]) -> (u64, u64) {
    let count = u64::try_from(sizes.len()).unwrap();
    (
        sizes.iter().sum::<u64>() / count,
        *sizes.iter().max().unwrap(),
    )
}

#[test]
fn many_at_once_are_started_checked_and_stopped() {
    let ground = Ground::new();
    let count = asked_for(20, 200);
    let names: Vec<String> = (0..count).map(|number| format!("box-{number}")).collect();
    let all = |words: &[&str], rest: &[&str]| {
        let begin = |name: &String| ground.begin(&[words, &[name], rest].concat());
        let begun: Vec<_> = names.iter().map(begin).collect();
        for child in begun {
            let status = end_of(child, "each command ends");
            assert!(status.success(), "{words:?}: {status}");
        }
    };
    let begun = Instant::now();
    // As many checks a second, however many containers there are.
    let interval = format!("--health-interval={}s", count / 10);
    let run = ["run", "-d", "--health-cmd=true", &interval, "--name"];
    all(&run, &["busybox", "sleep", "1000"]);
    let started = begun.elapsed();
    all(&["wait", "--condition=healthy"], &[]);
    let healthy = begun.elapsed();
    let monitors: Vec<i32> = names
        .iter()
        .map(|name| ground.number(name, "monitor").unwrap())
        .collect();
    // A check takes more for a moment.
    let at_rest = |pid: &i32| {
        let mut sizes = (0, 0);
        super::until("a monitor that waits is small", || {
            sizes = (memory(*pid, "Rss:"), memory(*pid, "Pss:"));
            sizes.0 < LARGEST
        });
        sizes
    };
    let (resident, proportional): (Vec<u64>, Vec<u64>) = monitors.iter().map(at_rest).unzip();
    let (resident, proportional) = (spread(&resident), spread(&proportional));
    let begun = Instant::now();
    all(&["stop"], &[]);
    let stopped = begun.elapsed();
    assert!(ground.states().values().all(|state| state == "exited"));
    println!(
        "{count} containers: started in {started:.1?}, healthy after {healthy:.1?}, stopped in {stopped:.1?}; \
         their monitors at rest: resident {} KiB (at most {}), their share {} KiB (at most {})",
        resident.0, resident.1, proportional.0, proportional.1
    );
    reap();
    ground.clear();
}

#[test]
fn a_container_that_is_started_over_and_over_leaves_nothing() {
    let ground = Ground::new();
    let count = asked_for(30, 1000);
    let t = &ground.t;
    let create = [
        "create",
        "--name=box",
        "-v",
        "data:/data",
        "--tmpfs=/t",
        "-p",
        "127.0.0.1::80",
    ];
    t.cask(&[&create[..], &["busybox", "sh", "-c", "echo up; sleep 1000"]].concat())
        .ok();
    let cycle = || {
        t.cask(&["start", "box"]).ok();
        t.cask(&["exec", "box", "true"]).ok();
        t.cask(&["stop", "-t", "0", "box"]).ok();
    };
    cycle();
    let settled = || {
        super::until("the monitor has ended", || processes().is_empty());
        reap();
        ground.traces()
    };
    let before = settled();
    let begun = Instant::now();
    for _ in 0..count {
        cycle();
    }
    let took = begun.elapsed();
    let after = settled();
    assert_eq!(before, after);
    println!(
        "{count} cycles of start, exec and stop in {took:.1?}; before and after: {} mounts, {} network namespaces, {} processes, {} groups, {} files",
        after.mounts,
        after.networks.len(),
        after.processes.len(),
        after.groups.len(),
        after.files.len()
    );
    ground.clear();
}
