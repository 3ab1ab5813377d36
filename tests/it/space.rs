//! What the store takes, and taking it back: df, prune, the cap, fsck.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use crate::support::{Output, TestEnv};

/// An image of one layer and the cached result of a step that no image has.
fn with_cache() -> TestEnv {
    let t = TestEnv::new()
        .file("kept", "k".repeat(50_000))
        .file("old", "o".repeat(90_000))
        .dockerfile("FROM scratch\nCOPY kept /kept\n");
    t.build_with(&["-q", "-t", "app"]).ok();
    t.write("Dockerfile", "FROM scratch\nCOPY old /old\n");
    t.build_with(&["-q", "-o", "out"]).ok();
    t.write("Dockerfile", "FROM scratch\nCOPY kept /kept\n");
    t.cooper(&["prune"]).ok();
    t
}

/// What the last step of a build did.
fn last_step(out: Output) -> String {
    out.ok().steps().pop().unwrap()
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap()
}

#[test]
fn a_dry_run_of_prune_names_what_the_real_one_frees() {
    let t = with_cache();
    let dry = t
        .cooper(&["prune", "--keep-storage", "0", "--dry-run"])
        .ok()
        .stdout();
    let real = t.cooper(&["prune", "--keep-storage", "0"]).ok().stdout();
    let freed = last_line(&real)
        .strip_prefix("Total reclaimed space: ")
        .unwrap();
    assert_eq!(
        last_line(&dry).strip_prefix("Would reclaim: ").unwrap(),
        freed
    );
    assert!(freed.ends_with("kB"), "{freed}");
    // What an image has stays, and is still known to the cache of nobody.
    assert_eq!(last_step(t.build()), "[1/1] COPY kept /kept  ran");
}

#[test]
fn prune_leaves_what_was_used_of_late() {
    let t = with_cache();
    let out = t
        .cooper(&["prune", "--cache", "--filter", "until=1h"])
        .ok()
        .stdout();
    assert_eq!(out, "Total reclaimed space: 0B");
    assert_eq!(last_step(t.build()), "[1/1] COPY kept /kept  cached");
    t.cooper(&["prune", "--filter", "label=x"])
        .fails(2)
        .says("until=TIME");
    t.cooper(&["prune", "--keep-storage", "much"])
        .fails(2)
        .says("10GB");
}

#[test]
fn a_build_with_a_cap_drops_the_results_used_longest_ago() {
    let t = with_cache();
    let out = t.build_with(&["--max-store", "100k"]).ok();
    assert!(
        out.stderr().contains("the store held more than 102kB"),
        "{}",
        out.stderr()
    );
    assert_eq!(last_step(t.build()), "[1/1] COPY kept /kept  cached");
    t.write("Dockerfile", "FROM scratch\nCOPY old /old\n");
    assert_eq!(
        last_step(t.build_with(&["-o", "out"])),
        "[1/1] COPY old /old  ran"
    );
}

#[test]
fn a_cap_may_come_from_the_environment() {
    let t = with_cache().var("COOPER_MAX_STORE", "100k");
    t.build().ok().says("the store held more than 102kB");
    let options = ["--max-store", "1g"];
    let out = t.build_with(&options).ok();
    assert!(!out.stderr().contains("held more"), "{}", out.stderr());
}

#[test]
fn df_tells_images_from_what_only_the_cache_holds() {
    let t = with_cache();
    let rows = t
        .cooper(&["df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"])
        .ok();
    assert_eq!(
        rows.stdout(),
        "Images 1 0\nContainers 0 0\nLocal Volumes 0 0\nBuild Cache 2 0"
    );
    let table = t.cooper(&["df"]).ok().stdout();
    assert!(table.starts_with("TYPE"), "{table}");
    assert!(
        table.lines().next().unwrap().ends_with("RECLAIMABLE"),
        "{table}"
    );
    let image = t
        .cooper(&[
            "df",
            "-v",
            "--format",
            "{{range .Images}}{{.Repository}}:{{.Tag}} {{.SharedSize}}{{end}}",
        ])
        .ok();
    assert_eq!(image.stdout(), "app:latest 0B");
}

#[test]
fn fsck_names_a_spoilt_blob_and_a_repair_lets_the_build_heal_it() {
    let t = with_cache();
    t.cooper(&["fsck"]).ok().says(" 0 damaged");
    let blobs = t.root().join("blobs/sha256");
    let largest = fs::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap())
        .max_by_key(|entry| entry.metadata().unwrap().len())
        .unwrap();
    let mut bytes = fs::read(largest.path()).unwrap();
    bytes[600] ^= 1;
    fs::write(largest.path(), bytes).unwrap();
    let name = largest.file_name().into_string().unwrap();
    let found = t.cooper(&["fsck"]).fails(1).stdout();
    assert_eq!(found, format!("blob sha256:{name} is corrupt"));
    let mended = t.cooper(&["fsck", "--repair"]).ok().stdout();
    assert_eq!(mended, format!("blob sha256:{name} is corrupt: repaired"));
    t.cooper(&["fsck"]).ok();
    t.write("Dockerfile", "FROM scratch\nCOPY old /old\n");
    t.build_with(&["-o", "again"]).ok();
    assert_eq!(fs::read(t.path("again/old")).unwrap(), [b'o'; 90_000]);
}

#[test]
fn prune_and_fsck_beside_a_build_do_it_no_harm() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = door.local_addr().unwrap().port();
    t.write(
        "Dockerfile",
        format!("FROM busybox\nRUN echo 1 > /one\nRUN nc 127.0.0.1 {port} && cat /one\nRUN cat /one > /two\n"),
    );
    std::thread::scope(|scope| {
        let build = scope.spawn(|| t.build_with(&["--network=host", "-t", "x"]));
        // The second step is there when it knocks, and goes on when it is hung up on.
        door.set_nonblocking(true).unwrap();
        let knock = std::iter::repeat_with(|| door.accept())
            .take(1200)
            .find_map(|knock| {
                std::thread::sleep(Duration::from_millis(100));
                knock.ok()
            });
        let (step, _) = knock.expect("the step came");
        t.cooper(&["prune", "--all", "--cache"])
            .ok()
            .says("another process works in the store");
        t.cooper(&["fsck"]).ok();
        drop(step);
        build.join().unwrap().ok();
    });
    // Nor does what was put off harm what was built meanwhile.
    t.cooper(&["prune"]).ok();
    let two = t.cask(&["run", "--rm", "--network=none", "x", "cat", "/two"]);
    assert_eq!(two.ok().stdout(), "1");
    t.cooper(&["fsck"]).ok();
}
