//! What a bare step costs: `/bin/true` of busybox over an overlay, spawn to wait.
//!
//! `cargo bench --bench sandbox` as root. Prints the least and the median of 200 runs for
//! plans that differ in one thing, beside a plain fork and exec of the same program.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::{Duration, Instant};

use cooper::sandbox::{Exit, Network, Plan, Rootfs, Stdio, child, spawn};

#[path = "../tests/root/support.rs"]
mod support;

fn main() {
    child::run_if_child(&[]);
    let t = support::Fixture::new();
    // As images have them; a missing one costs a copy-up and a clean-up.
    for dir in ["proc", "sys", "dev"] {
        std::fs::create_dir(t.base(dir)).unwrap();
    }
    let mut plan = t.plan(&["/bin/true"]);
    if let Rootfs::Overlay(overlay) = &mut plan.rootfs {
        overlay.volatile = true;
    }
    time("plain spawn of busybox true", || {
        let status = std::process::Command::new(t.base("bin/true"))
            .status()
            .unwrap();
        assert!(status.success());
    });
    let no_init = Plan {
        init: false,
        ..plan.clone()
    };
    let host = Plan {
        network: Network::Host,
        ..plan.clone()
    };
    let bare = Plan {
        masked_paths: vec![],
        read_only_paths: vec![],
        ..host.clone()
    };
    for (name, plan) in [
        ("network none", &plan),
        ("network none, program is pid 1", &no_init),
        ("network host", &host),
        ("network host, nothing masked", &bare),
    ] {
        let mut started = Vec::new();
        time(name, || {
            // A used work directory can't be mounted volatile again.
            let _ = std::fs::remove_dir_all(t.dir.join("work/work"));
            let start = Instant::now();
            let mut child = spawn(plan, Stdio::default()).unwrap();
            started.push(start.elapsed());
            assert_eq!(child.wait().unwrap(), Exit::Code(0));
        });
        started.sort();
        println!(
            "{:34} median {:7.2?}",
            "  of that until it runs",
            started[started.len() / 2]
        );
    }
}

fn time(name: &str, mut run: impl FnMut()) {
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    took.sort();
    println!(
        "{name:34} min {:7.2?}  median {:7.2?}",
        took[0],
        took[took.len() / 2]
    );
}
