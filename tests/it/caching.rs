//! What runs again and what does not.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::{Server, TestEnv};

fn age(t: &TestEnv, name: &str) {
    let then = SystemTime::now() - Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(t.path(name)).unwrap();
    file.set_modified(then).unwrap();
}

/// Steps that ran, without the ones that stand for FROM.
fn ran(steps: &[String]) -> Vec<&str> {
    steps
        .iter()
        .filter(|step| step.ends_with("ran"))
        .map(String::as_str)
        .collect()
}

#[test]
fn an_unchanged_build_runs_nothing_and_gives_the_same_image() {
    let t = TestEnv::new()
        .file("a", "1")
        .dockerfile("FROM busybox\nCOPY a /a\nRUN cat /a > /b\nWORKDIR /w\nENV X=1\n");
    t.busybox("busybox");
    let first = t.build_with(&["-t", "x", "--timestamp", "5"]).ok();
    assert_eq!(ran(&first.steps()).len(), 3, "{:?}", first.steps());
    let second = t.build_with(&["-t", "x", "--timestamp", "5"]).ok();
    assert_eq!(ran(&second.steps()), Vec::<&str>::new());
    let id = |args: &[&str]| t.cooper(args).ok().stdout();
    let quiet = ["build", "-q", "--timestamp", "5", "."];
    assert_eq!(id(&quiet), id(&quiet));
}

#[test]
fn copy_is_rerun_when_only_a_file_mode_changes() {
    let t = TestEnv::new()
        .file("tool", "#!/bin/sh\n")
        .dockerfile("FROM scratch\nCOPY tool /tool\n");
    t.build().ok();
    t.chmod("tool", 0o755);
    assert_eq!(ran(&t.build().ok().steps()).len(), 1);
    assert_eq!(ran(&t.build().ok().steps()).len(), 0);
}

#[test]
fn a_touched_file_does_not_run_anything() {
    let t = TestEnv::new()
        .file("a", "1")
        .dockerfile("FROM scratch\nCOPY a /a\n");
    t.build().ok();
    age(&t, "a");
    assert_eq!(ran(&t.build().ok().steps()).len(), 0);
}

#[test]
fn changed_bytes_of_the_same_length_run_the_copy() {
    let t = TestEnv::new()
        .file("a", "1")
        .dockerfile("FROM scratch\nCOPY a /a\n");
    t.build().ok();
    t.write("a", "2");
    assert_eq!(ran(&t.build().ok().steps()).len(), 1);
}

#[test]
fn metadata_above_a_run_does_not_run_it_again() {
    let t = TestEnv::new().dockerfile("FROM busybox\nLABEL v=1\nEXPOSE 80\nRUN echo x > /x\n");
    t.busybox("busybox");
    t.build().ok();
    t.write(
        "Dockerfile",
        "# comment\nFROM busybox\nLABEL v=2\nEXPOSE 81\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nVOLUME /v\n\
         STOPSIGNAL 9\nHEALTHCHECK CMD x\nMAINTAINER me\nONBUILD RUN x\nrun echo x > /x\n",
    );
    assert_eq!(ran(&t.build().ok().steps()).len(), 0);
    t.write("Dockerfile", "FROM busybox\nENV v=2\nRUN echo x > /x\n");
    assert_eq!(ran(&t.build().ok().steps()).len(), 1);
}

#[test]
fn a_build_arg_counts_where_it_is_declared() {
    let t = TestEnv::new().dockerfile("FROM busybox\nRUN echo a > /a\nARG V=1\nRUN echo $V > /b\n");
    t.busybox("busybox");
    t.build().ok();
    assert_eq!(
        ran(&t.build_with(&["--build-arg", "V=2"]).ok().steps()).len(),
        1
    );
    assert_eq!(
        ran(&t.build_with(&["--build-arg", "OTHER=2"]).ok().steps()).len(),
        0
    );
}

#[test]
fn a_parent_that_gives_the_same_files_leaves_copies_from_it_cached() {
    let text = |extra: &str| {
        format!(
            "FROM busybox AS make\nRUN {extra}echo same > /out\nFROM scratch\nCOPY --from=make /out /out\n"
        )
    };
    let t = TestEnv::new().dockerfile(&text(""));
    t.busybox("busybox");
    t.build().ok();
    t.write("Dockerfile", text("true; "));
    let steps = t.build().ok().steps();
    assert_eq!(ran(&steps).len(), 1, "{steps:?}");
    assert!(ran(&steps)[0].contains("RUN"), "{steps:?}");
}

#[test]
fn no_cache_runs_everything() {
    let t = TestEnv::new().dockerfile("FROM busybox\nRUN echo x > /x\nRUN echo y > /y\n");
    t.busybox("busybox");
    t.build().ok();
    assert_eq!(ran(&t.build_with(&["--no-cache"]).ok().steps()).len(), 2);
}

#[test]
fn steps_before_a_failure_are_kept() {
    let t = TestEnv::new().dockerfile("FROM busybox\nRUN echo x > /x\nRUN exit 3\n");
    t.busybox("busybox");
    t.build().fails(1).says("exit code: 3");
    t.write("Dockerfile", "FROM busybox\nRUN echo x > /x\nRUN exit 0\n");
    let steps = t.build().ok().steps();
    assert_eq!(ran(&steps).len(), 1, "{steps:?}");
}

#[test]
fn a_copy_is_keyed_by_its_files_and_by_args_only_where_it_uses_them() {
    let text = "FROM scratch\nARG used=x\nARG unused\nCOPY a* /\nCOPY b /$used\n";
    let t = TestEnv::new().file("a1", "1").file("b", "2").file("c", "3");
    t.write("Dockerfile", text);
    let steps = |options: &[&str]| t.build_with(options).ok().steps();
    steps(&[]);
    assert_eq!(ran(&steps(&["--build-arg=unused=1"])), Vec::<&str>::new());
    let again = steps(&["--build-arg=used=y"]);
    assert_eq!(ran(&again), ["[2/2] COPY b /y  ran"]);
    t.write("c", "nobody copies it");
    assert_eq!(ran(&steps(&[])), Vec::<&str>::new());
    fs::rename(t.path("a1"), t.path("a2")).unwrap();
    assert!(ran(&steps(&[]))[0].starts_with("[1/2] COPY a* /"));
}

#[test]
fn what_a_run_can_notice_is_in_its_key_and_how_it_is_written_is_not() {
    let t = TestEnv::new().dockerfile("FROM busybox\nRUN echo a && \\\n  echo b\n");
    t.busybox("busybox");
    let runs = |text: &str, options: &[&str]| {
        t.write("Dockerfile", text);
        ran(&t.build_with(options).ok().steps()).len()
    };
    assert_eq!(runs("FROM busybox\nRUN echo a && \\\n  echo b\n", &[]), 1);
    assert_eq!(
        runs(
            "from busybox\n# why\nrun   echo a && \\\n# how\n  echo b\n",
            &[]
        ),
        0
    );
    assert_eq!(runs("FROM busybox\nRUN echo a &&   echo b\n", &[]), 0);
    for other in [
        "FROM busybox\nUSER 1\nRUN echo a &&   echo b\n",
        "FROM busybox\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo a &&   echo b\n",
        "FROM busybox\nENV X=\nRUN echo a &&   echo b\n",
        "FROM busybox\nRUN --network=none echo a &&   echo b\n",
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t echo a &&   echo b\n",
    ] {
        assert_eq!(runs(other, &[]), 1, "{other}");
    }
    let text = "FROM busybox\nRUN echo a &&   echo b\n";
    assert_eq!(runs(text, &["--add-host=h:10.0.0.1"]), 1);
    assert_eq!(runs(text, &["--add-host=h:10.0.0.2"]), 1);
    assert_eq!(runs(text, &[]), 0);
}

/// Builds `text` and returns how many of its RUN steps ran.
fn runs(t: &TestEnv, text: &str, options: &[&str]) -> usize {
    t.write("Dockerfile", text);
    let steps = t.build_with(options).ok().steps();
    ran(&steps)
        .iter()
        .filter(|step| step.contains("RUN"))
        .count()
}

#[test]
fn files_places_args_and_mounts_of_a_run_are_in_its_key() {
    let t = TestEnv::new().file("f", "1").file("token", "secret-1");
    t.busybox("busybox");
    let mounted = |mount: &str| format!("FROM busybox\nRUN --mount={mount} echo a\n");
    let plain = "FROM busybox\nRUN echo a\n";
    assert_eq!(runs(&t, plain, &[]), 1);
    let below = "FROM busybox\nCOPY f /f\nRUN echo a\n";
    assert_eq!(runs(&t, below, &[]), 1);
    t.write("f", "2");
    assert_eq!(runs(&t, below, &[]), 1, "files below it");
    let insecure = "FROM busybox\nRUN --security=insecure echo a\n";
    let secret = "--secret=id=s,src=token";
    for (text, options) in [
        ("FROM busybox\nWORKDIR /w\nRUN echo a\n".to_owned(), &[][..]),
        ("FROM busybox\nARG V=1\nRUN echo a\n".to_owned(), &[]),
        ("FROM busybox\nARG V=2\nRUN echo a\n".to_owned(), &[]),
        (insecure.to_owned(), &["--allow=security.insecure"]),
        (mounted("type=cache,target=/c"), &[]),
        (mounted("type=cache,target=/d"), &[]),
        (mounted("type=cache,target=/c,id=other"), &[]),
        (mounted("type=secret,id=s"), &[secret]),
        (mounted("type=secret,id=s,target=/s"), &[secret]),
        (mounted("type=secret,id=none"), &[]),
        (mounted("type=ssh"), &[]),
        (mounted("type=ssh,id=other"), &[]),
    ] {
        assert_eq!(runs(&t, &text, options), 1, "{text}");
        assert_eq!(runs(&t, &text, options), 0, "{text}");
    }
    assert_eq!(runs(&t, "FROM busybox\nARG V\nRUN echo a\n", &[]), 0);
    t.write("token", "secret-2");
    assert_eq!(runs(&t, &mounted("type=secret,id=s"), &[secret]), 0);
    assert_eq!(runs(&t, plain, &[]), 0);
}

#[test]
fn what_a_cache_mount_holds_is_in_no_key() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let step = |script: &str| {
        format!("FROM busybox\nRUN --mount=type=cache,target=/c,id=shared {script}\n")
    };
    let reads = step("ls /c > /seen");
    assert_eq!(runs(&t, &reads, &[]), 1);
    assert_eq!(runs(&t, &step("echo x > /c/new"), &[]), 1);
    assert_eq!(runs(&t, &reads, &[]), 0);
}

#[test]
fn a_parent_that_gives_the_same_files_leaves_mounts_of_it_cached() {
    let t = TestEnv::new();
    t.busybox("busybox");
    let text = |extra: &str| {
        format!(
            "FROM busybox AS make\nRUN {extra}echo same > /out\nFROM busybox\n\
             RUN --mount=from=make,source=/out,target=/m cat /m > /x\n"
        )
    };
    assert_eq!(runs(&t, &text(""), &[]), 2);
    assert_eq!(
        runs(&t, &text("true; "), &[]),
        1,
        "only what makes the file"
    );
}

#[test]
fn a_copy_is_keyed_by_its_destination_and_flags_and_not_by_the_machines_owners() {
    let t = TestEnv::new().file("d/f", "1");
    let copied = |line: &str| {
        t.write("Dockerfile", format!("FROM scratch\n{line}\n"));
        ran(&t.build().ok().steps()).len()
    };
    for line in [
        "COPY d /d",
        "COPY d /e",
        "COPY --chown=1 d /d",
        "COPY --chmod=700 d /d",
        "COPY --link d /d",
        "COPY --parents d /d",
        "COPY --exclude=f d /d",
    ] {
        assert_eq!((copied(line), copied(line)), (1, 0), "{line}");
    }
    for path in ["d", "d/f"] {
        std::os::unix::fs::chown(t.path(path), Some(1234), Some(1234)).unwrap();
    }
    assert_eq!(copied("COPY d /d"), 0);
    assert_eq!(copied("copy   d   /d"), 0);
}

#[test]
fn a_base_that_moved_is_taken_when_it_is_asked_for() {
    let registry = Server::http();
    let base = registry.name("base:1").full();
    let maker = TestEnv::new();
    let push = |text: &str| {
        maker.write("who", text);
        maker.write("Dockerfile", "FROM scratch\nCOPY who /who\n");
        maker.build_with(&["-t", &base, "--push"]).ok();
    };
    let t = TestEnv::new().dockerfile(&format!("FROM {base}\nCOPY Dockerfile /\n"));
    let who = |options: &[&str]| {
        t.build_with(&[options, &["-o", "out"]].concat()).ok();
        fs::read_to_string(t.path("out/who")).unwrap()
    };
    t.build_with(&["--pull=never"]).fails(1).says(&base);
    push("one");
    assert_eq!(who(&[]), "one");
    push("two");
    assert_eq!(who(&[]), "one", "it is here");
    assert_eq!(who(&["--pull=missing"]), "one");
    assert_eq!(who(&["--pull"]), "two");
    push("three");
    assert_eq!(who(&["--pull=newer"]), "three");
    push("four");
    assert_eq!(who(&["--pull=never"]), "three");
    assert_eq!(who(&["--pull=always"]), "four");
    drop(registry);
    assert_eq!(who(&["--pull=newer"]), "four", "what is here will do");
    t.build_with(&["--pull"]).fails(1).says(&base);
}
