//! Behaviours that buildah's own tests insist on, as far as no other file here has them. The table
//! in tests/README.md says which file has the rest.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::TestEnv;

fn with(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

fn field(t: &TestEnv, image: &str, template: &str) -> String {
    t.cooper(&["inspect", "--format", template, image])
        .ok()
        .stdout()
}

/// Steps of a build that ran.
fn ran(t: &TestEnv, options: &[&str]) -> usize {
    let steps = t.build_with(options).ok().steps();
    steps.iter().filter(|step| step.ends_with("ran")).count()
}

/// How many seconds the programs of a test sleep: no other test's do as long.
fn long(number: u32) -> String {
    format!("{}{:06}", 1000 + number, std::process::id())
}

/// Whether a process with this argument exists.
fn runs(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut arguments = processes.map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).into_owned()
    });
    arguments.any(|line| line.split('\0').any(|word| word == argument))
}

/// Waits until something is so.
#[track_caller]
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a build that is over may not have left: mounts of the store, and scratch space.
#[track_caller]
fn left_nothing(t: &TestEnv) {
    let root = t.root().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&root), "{mounts}");
    let scratch = fs::read_dir(t.root().join("tmp")).unwrap().flatten();
    let scratch: Vec<_> = scratch.map(|entry| entry.path()).collect();
    assert!(scratch.is_empty(), "{scratch:?}");
    assert_eq!(t.cooper(&["containers", "-q"]).ok().stdout(), "");
}

#[test]
fn a_failed_build_leaves_no_process_mount_or_container() {
    let time = long(1);
    let script = format!("(sleep {time} &) ; sleep 0; exit 3");
    let t = with(&format!("FROM busybox\nRUN {script}\n"));
    t.build_with(&["--force-rm"]).fails(1);
    assert!(!runs(&time), "a stray process is still there");
    left_nothing(&t);
}

#[test]
fn a_stray_process_does_not_keep_a_step_from_ending() {
    let time = long(2);
    let t = with(&format!(
        "FROM busybox\nRUN sleep {time} & echo begun > /begun\nRUN cat /begun\n"
    ));
    t.build().ok();
    assert!(!runs(&time));
    left_nothing(&t);
}

/// A build whose step has begun.
fn begun(t: &TestEnv) -> Child {
    let mut child = t
        .command(env!("CARGO_BIN_EXE_cooper"))
        .args(["build", "--progress=plain", "."])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap());
    let mut seen = String::new();
    while !seen.contains("begun\n") {
        seen.clear();
        assert_ne!(lines.read_line(&mut seen).unwrap(), 0, "the build ended");
    }
    child
}

#[test]
fn a_killed_build_leaves_no_process_and_the_next_one_cleans_up() {
    let time = long(3);
    let t = with(&format!("FROM busybox\nRUN echo begun; sleep {time}\n"));
    let mut child = begun(&t);
    child.kill().unwrap();
    child.wait().unwrap();
    soon("the step lives on", || !runs(&time));
    t.write("Dockerfile", "FROM busybox\nRUN true\n");
    t.build().ok();
    left_nothing(&t);
}

#[test]
fn builds_at_one_time_may_give_one_name() {
    let t = with("FROM busybox\nARG N\nRUN echo $N > /n\nLABEL n=$N\n");
    std::thread::scope(|scope| {
        for number in 0..4 {
            let t = &t;
            scope.spawn(move || {
                let argument = format!("--build-arg=N={number}");
                t.build_with(&["-q", "-t", "same", &argument]).ok();
            });
        }
    });
    let label = field(&t, "same", "{{.Config.Labels.n}}");
    assert!(["0", "1", "2", "3"].contains(&label.as_str()), "{label}");
    let file = t.cask(&["run", "--rm", "same", "cat", "/n"]).ok().stdout();
    assert_eq!(file, label, "one build's image, whole");
}

#[test]
fn an_earlier_image_of_another_platform_or_form_is_not_taken() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /f\n")
        .file("arm64", "arm")
        .file("riscv64", "risc");
    let built = |options: &[&str]| {
        t.build_with(&[&["-q", "-t", "x"], options].concat()).ok();
        field(&t, "x", "{{.Architecture}} {{.Descriptor.mediaType}}")
    };
    let (oci, docker) = (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    );
    let arm = "--platform=linux/arm64";
    assert_eq!(built(&[arm]), format!("arm64 {oci}"));
    assert_eq!(
        built(&["--platform=linux/riscv64"]),
        format!("riscv64 {oci}")
    );
    assert_eq!(built(&[arm, "--format=docker"]), format!("arm64 {docker}"));
    assert_eq!(built(&[arm, "--format=oci"]), format!("arm64 {oci}"));
    // A base of the name that is here is of no use to another platform.
    t.write("Dockerfile", "FROM x\nCOPY riscv64 /g\n");
    t.build_with(&["--pull=never", "--platform=linux/riscv64"])
        .fails(1);
    t.build_with(&["-q", "--pull=never", arm]).ok();
}

#[test]
fn changed_heredocs_run_again() {
    let t = with("FROM busybox\nRUN <<end\necho one > /f\nend\nCOPY <<end /g\none\nend\n");
    assert_eq!(ran(&t, &[]), 2);
    assert_eq!(ran(&t, &[]), 0);
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN <<end\necho one > /f\nend\nCOPY <<end /g\ntwo\nend\n",
    );
    assert_eq!(ran(&t, &[]), 1);
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN <<end\necho two > /f\nend\nCOPY <<end /g\ntwo\nend\n",
    );
    assert_eq!(ran(&t, &["-t", "x"]), 2);
    let files = t.cask(&["run", "--rm", "x", "cat", "/f", "/g"]);
    assert_eq!(files.ok().stdout(), "two\ntwo");
}

#[test]
fn a_symlink_that_leads_elsewhere_is_copied_again() {
    let t = TestEnv::new()
        .dockerfile("FROM scratch\nCOPY d /d\n")
        .file("d/a", "same")
        .file("d/b", "same");
    t.symlink("a", "d/link");
    assert_eq!(ran(&t, &[]), 1);
    assert_eq!(ran(&t, &[]), 0);
    t.remove("d/link");
    t.symlink("b", "d/link");
    assert_eq!(ran(&t, &[]), 1);
    t.remove("d/link");
    t.symlink("a", "d/link");
    assert_eq!(ran(&t, &[]), 0, "as it was");
}

#[test]
fn times_labels_and_annotations_are_those_of_this_build_however_much_is_cached() {
    let t = with("FROM busybox\nRUN touch /x\n");
    let id = |options: &[&str]| {
        let args = [&["-q", "-t", "x", "--timestamp=5"], options].concat();
        t.build_with(&args).ok().stdout()
    };
    let plain = id(&[]);
    let labelled = id(&["--label=a=1"]);
    assert_ne!(plain, labelled);
    assert_eq!(field(&t, "x", "{{.Config.Labels.a}}"), "1");
    let (digest, _) = (
        field(&t, "x", "{{.Digest}}"),
        id(&["--label=a=1", "--annotation=k=v"]),
    );
    assert_ne!(field(&t, "x", "{{.Digest}}"), digest);
    assert_eq!(field(&t, "x", "{{.Annotations.k}}"), "v");
    assert_eq!(id(&[]), plain);
    assert_eq!(field(&t, "x", "{{json .Annotations}}"), "{}");
    assert_eq!(ran(&t, &["--timestamp=5"]), 0);
    // Times are given when the image is put together, so the step need not run for them.
    assert_eq!(ran(&t, &["--timestamp=6"]), 0);
    let later = t.build_with(&["-q", "-t", "x", "--timestamp=6"]).ok();
    assert_ne!(later.stdout(), plain);
    assert_eq!(field(&t, "x", "{{.Created}}"), "1970-01-01T00:00:06Z");
}
