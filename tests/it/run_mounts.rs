//! RUN --mount: bind, cache and tmpfs, and what is left of them in the image.

use crate::support::TestEnv;

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

/// Builds and takes success when every RUN of the Dockerfile did.
fn builds(dockerfile: &str) {
    env(dockerfile).build().ok();
}

#[test]
fn a_bind_shows_the_context_read_only() {
    let t = env(concat!(
        "FROM busybox\nWORKDIR /w\n",
        "RUN --mount=target=/src,source=dir cat /src/f && test ! -e /src/g && ! touch /src/x\n",
        "RUN --mount=type=bind,target=. test -e Dockerfile && test -e dir/f && ! touch x\n",
        "RUN --mount=type=bind,src=dir/f,dst=one grep -q hello one\n",
        "RUN test ! -e /src && test -d /w && test -z \"$(ls -A /w)\"\n",
    ))
    .file("dir/f", "hello\n")
    .file("g", "");
    t.build().ok().says("hello");
}

#[test]
fn a_bind_belongs_to_root_whoever_owns_the_context() {
    let t = env("FROM busybox\nRUN --mount=target=/c stat -c '%n %u:%g' /c/f /c/d/x\n")
        .file("f", "")
        .file("d/x", "");
    std::os::unix::fs::chown(t.path("f"), Some(1234), Some(1234)).unwrap();
    let err = t.build().ok().stderr();
    assert!(
        err.contains("/c/f 0:0") && err.contains("/c/d/x 0:0"),
        "{err}"
    );
}

#[test]
fn a_bind_hides_what_the_ignore_file_leaves_out() {
    let t = env(
        "FROM busybox\nRUN --mount=target=/c test -e /c/kept && test ! -e /c/gone && test -e /c/d/back && test ! -e /c/d/f\n",
    )
    .file(".dockerignore", "gone\nd\n!d/back\n")
    .file("kept", "")
    .file("gone", "")
    .file("d/f", "")
    .file("d/back", "");
    t.build().ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=source=gone,target=/c true\n",
    );
    t.build().fails(1).says("leaves it out");
}

#[test]
fn writes_to_a_bind_are_thrown_away() {
    let t = env(concat!(
        "FROM busybox AS a\nRUN mkdir /d && echo a > /d/f\n",
        "FROM busybox\n",
        "RUN --mount=target=/c,rw echo new > /c/f && echo more > /c/g && rm /c/h\n",
        "RUN --mount=from=a,source=/d,target=/c,rw echo new > /c/f && echo more > /c/g\n",
        "RUN --mount=from=a,source=/d,target=/c test \"$(cat /c/f)\" = a && test ! -e /c/g\n",
    ))
    .file("f", "old\n")
    .file("h", "");
    t.build().ok();
    assert_eq!(std::fs::read_to_string(t.path("f")).unwrap(), "old\n");
    assert!(t.path("h").exists() && !t.path("g").exists());
}

#[test]
fn a_bind_takes_stages_by_name_and_number_and_images() {
    builds(concat!(
        "FROM busybox AS Base\nRUN mkdir /d && echo base > /d/f && ln -s /d/f /link\n",
        "FROM base AS over\nRUN echo over > /d/f && rm /link && ln -s d/f /link && rm -r /home\n",
        "FROM busybox\n",
        "RUN --mount=from=base,target=/m grep -q base /m/d/f && test -d /m/home\n",
        "RUN --mount=from=1,target=/m grep -q over /m/d/f && test ! -e /m/home\n",
        "RUN --mount=from=0,source=link,target=/m/f grep -q base /m/f\n",
        "RUN --mount=from=busybox,source=/etc,target=/m grep -q app /m/passwd && ! touch /m/x\n",
        "RUN test ! -e /m\n",
    ));
}

#[test]
fn a_bind_of_a_later_stage_or_of_nothing_is_refused() {
    let t = env("FROM busybox\nRUN --mount=from=late,target=/m true\nFROM busybox AS late\n");
    let later =
        "cannot copy from stage \"late\", it needs to be defined before current stage \"stage-0\"";
    t.build_with(&["--target", "0"]).fails(1).says(later);
    t.write(
        "Dockerfile",
        "FROM busybox AS a\nFROM busybox\nRUN --mount=from=a,source=/none,target=/m true\n",
    );
    t.build().fails(1).says("/none").says("stage `a`");
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=source=none,target=/m true\n",
    );
    t.build().fails(1).says("/none");
}

#[test]
fn contents_and_modes_of_a_bind_are_in_the_key_and_times_are_not() {
    let t = env(concat!(
        "FROM busybox AS a\nCOPY f /f\n",
        "FROM busybox\nRUN --mount=target=/c,source=d true\nRUN --mount=from=a,source=/f,target=/f true\n",
    ))
    .file("f", "1")
    .file("d/f", "1")
    .file("elsewhere", "1");
    let ran = |t: &TestEnv| {
        let steps = t.build().ok().steps();
        let runs = steps.iter().filter(|step| step.contains("RUN"));
        runs.filter(|step| !step.ends_with("cached")).count()
    };
    assert_eq!(ran(&t), 2);
    assert_eq!(ran(&t), 0);
    t.write("elsewhere", "2");
    t.write("d/f", "1");
    assert_eq!(ran(&t), 0);
    // What the first step leaves is the same, so the second need not run.
    t.write("d/f", "2");
    assert_eq!(ran(&t), 1);
    t.chmod("d/f", 0o755);
    assert_eq!(ran(&t), 1);
    t.write("f", "2");
    assert_eq!(ran(&t), 1);
}

#[test]
fn a_cache_survives_builds_and_is_in_no_image() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN --mount=type=cache,target=/var/cache/x echo one > /var/cache/x/f\n",
        "RUN test ! -e /var/cache\n",
        "RUN --mount=type=cache,target=/var/cache/x/ grep -q one /var/cache/x/f\n",
    ));
    t.build_with(&["-t", "x"]).ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=/var/cache/x,target=/c cat /c/f\n",
    );
    t.build().ok().says("one");
    let out = t.beside("out");
    t.build_with(&["-o", out.to_str().unwrap()]).ok();
    assert!(!out.join("c").exists());
}

#[test]
fn a_cache_is_told_apart_by_id_and_name_space() {
    let t = env("FROM busybox\nRUN --mount=type=cache,id=a,target=/c echo a > /c/f\n");
    t.build().ok();
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=b,target=/c test ! -e /c/f\n",
    );
    t.build().ok();
    let text = "FROM busybox\nRUN --mount=type=cache,id=a,target=/c test ! -e /c/f\n";
    t.write("Dockerfile", text);
    t.build().fails(1);
    t.build_with(&["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=other"])
        .ok();
}

#[test]
fn a_new_cache_has_the_mode_and_owner_that_were_asked_for() {
    builds(concat!(
        "FROM busybox\n",
        "RUN --mount=type=cache,target=/a test \"$(stat -c %a:%u:%g /a)\" = 755:0:0\n",
        "RUN --mount=type=cache,target=/a,mode=0700,uid=1000,gid=7 test \"$(stat -c %a:%u:%g /a)\" = 700:1000:7\n",
        "RUN --mount=type=cache,target=/b,uid=3 test \"$(stat -c %a:%u:%g /b)\" = 755:3:0\n",
        "USER app\nRUN --mount=type=cache,target=/home/app/.cache,uid=1000 touch /home/app/.cache/f\n",
    ));
}

#[test]
fn a_seeded_cache_keeps_what_was_written_and_a_read_only_one_refuses_writes() {
    builds(concat!(
        "FROM busybox AS seed\nRUN mkdir -p /s && echo seed > /s/f\n",
        "FROM busybox\n",
        "RUN --mount=type=cache,from=seed,source=/s,target=/c grep -q seed /c/f && echo own > /c/f\n",
        "RUN --mount=type=cache,from=seed,source=/s,target=/c,ro grep -q own /c/f && ! touch /c/x\n",
    ));
}

#[test]
fn caches_may_be_nested_and_mounted_in_part() {
    builds(concat!(
        "FROM busybox\n",
        "RUN --mount=type=cache,id=o,target=/o --mount=type=cache,id=i,target=/o/i echo 1 > /o/i/f && mkdir /o/sub && echo 2 > /o/sub/g\n",
        "RUN --mount=type=cache,id=i,target=/i grep -q 1 /i/f\n",
        "RUN --mount=type=cache,id=o,source=sub,target=/p grep -q 2 /p/g && test ! -e /p/sub\n",
    ));
}

#[test]
fn a_locked_cache_has_one_user_at_a_time() {
    // Both steps fail if they ever meet.
    let stage = |name: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id=l,target=/l,sharing=locked mkdir /l/busy && sleep 0.5 && rmdir /l/busy\n"
        )
    };
    builds(&format!(
        "{}{}FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n",
        stage("a"),
        stage("b")
    ));
}

#[test]
fn users_of_a_private_cache_do_not_meet() {
    // Each waits for what the other would write, so that both are there at once.
    let stage = |name: &str, other: &str| {
        format!(
            "FROM busybox AS {name}\nRUN --mount=type=cache,id=p,target=/p,sharing=private --mount=type=cache,id=s,target=/s touch /p/{name} /s/{name}; for i in $(seq 100); do test -e /s/{other} && break; sleep 0.1; done; test -e /s/{other} && test ! -e /p/{other}\n"
        )
    };
    builds(&format!(
        "{}{}FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n",
        stage("a", "b"),
        stage("b", "a")
    ));
}

#[test]
fn a_build_without_cache_makes_an_owned_cache_anew() {
    let t = env(concat!(
        "FROM busybox\nARG WANT\n",
        "RUN --mount=type=cache,id=k,target=/k --mount=type=cache,id=o,target=/o,uid=0 test -e /k/f = -e /o/f; ls /k /o; touch /k/f /o/f\n",
    ));
    let lines = |options: &[&str]| t.build_with(options).ok().stderr();
    lines(&[]);
    let again = lines(&["--build-arg", "WANT=1"]);
    assert_eq!(again.matches(" f\n").count(), 2, "{again}");
    let fresh = lines(&["--no-cache"]);
    assert_eq!(fresh.matches(" f\n").count(), 1, "{fresh}");
}

#[test]
fn prune_removes_caches_when_the_cache_goes() {
    let t = env("FROM busybox\nRUN --mount=type=cache,target=/c touch /c/f\n");
    t.build().ok();
    let caches = || std::fs::read_dir(t.root().join("caches")).unwrap().count();
    t.cooper(&["prune"]).ok();
    assert_eq!(caches(), 1);
    t.cooper(&["prune", "--cache", "--dry-run"]).ok();
    assert_eq!(caches(), 1);
    t.cooper(&["prune", "--cache"]).ok();
    assert_eq!(caches(), 0);
}

#[test]
fn a_tmpfs_is_empty_hides_what_is_below_and_has_the_size_asked_for() {
    builds(concat!(
        "FROM busybox\nRUN mkdir /t && touch /t/below\n",
        "RUN --mount=type=tmpfs,target=/t test -z \"$(ls -A /t)\" && touch /t/f\n",
        "RUN test -e /t/below && test ! -e /t/f\n",
        "RUN --mount=type=tmpfs,target=/t,size=64k dd if=/dev/zero of=/t/f bs=1k count=60 && ! dd if=/dev/zero of=/t/g bs=1k count=60\n",
        "RUN --mount=type=tmpfs,target=/t test \"$(stat -c %a:%u:%g /t)\" = 1777:0:0 && grep -q ' /t tmpfs rw,nosuid,relatime' /proc/mounts\n",
        "RUN --mount=type=bind,from=scratch,target=/e,rw touch /e/f\n",
    ));
}

#[test]
fn mount_points_and_their_parents_leave_no_trace() {
    let t = env(concat!(
        "FROM busybox\nRUN mkdir -p /have/this\n",
        "RUN --mount=type=tmpfs,target=/new/deep/point --mount=type=cache,target=/have/this --mount=target=/have/file,source=Dockerfile true\n",
    ));
    let out = t.beside("out");
    t.build_with(&["-o", out.to_str().unwrap()]).ok();
    assert!(!out.join("new").exists() && out.join("have/this").is_dir());
    assert!(!out.join("have/file").exists());
}

#[test]
fn values_may_use_variables_and_targets_start_at_the_workdir() {
    let t = env(concat!(
        "FROM busybox\nARG D=dir\nENV T=here\nWORKDIR /w\n",
        "RUN --mount=type=bind,source=$D,target=${T}/x test -e /w/here/x/f\n",
        "RUN --mount=TYPE=bind,Source=${D}/f,TARGET=y test -e /w/y\n",
    ))
    .file("dir/f", "");
    t.build().ok();
}

#[test]
fn wrong_mounts_are_named() {
    let t = env("FROM scratch\n");
    for (mount, want) in [
        ("type=bind,target=/", "invalid mount target"),
        ("type=tmpfs,target=..", "invalid mount target"),
        ("type=bnd,target=/x", "unsupported mount type"),
        (
            "type=cache,target=/x,sharing=share",
            "unsupported sharing value",
        ),
        (
            "type=bind,target=/x,size=1",
            "unexpected key 'size' for mount type 'bind'",
        ),
        (
            "type=bind,target=/x,mode=0755",
            "mode not allowed for \"bind\" type mounts",
        ),
        (
            "type=bind,target=/x,sharing=locked",
            "invalid cache sharing set for bind mount",
        ),
        ("type=cache,target=/x,mode=rw", "invalid value rw for mode"),
        (
            "type=bind,from=$X,target=/x",
            "'from' doesn't support variable expansion",
        ),
        (
            "type=bind,target=/x,propagation=shared",
            "unexpected key 'propagation'",
        ),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        ("type=secret,id=a,source=b", "both source and id"),
    ] {
        t.write(
            "Dockerfile",
            format!("FROM busybox\nRUN --mount={mount} true\n"),
        );
        t.build().fails(1).says(want);
    }
}

#[test]
fn read_only_and_writable_have_two_names_and_a_value() {
    builds(concat!(
        "FROM busybox\n",
        "RUN --mount=target=/a,readwrite touch /a/f\n",
        "RUN --mount=target=/a,readwrite=true --mount=target=/b,readwrite=false touch /a/f && ! touch /b/f\n",
        "RUN --mount=target=/a,ro=false --mount=target=/b,readonly=true touch /a/f && ! touch /b/f\n",
        "RUN --mount=target=/a,rw=1 --mount=type=cache,target=/b,readonly touch /a/f && ! touch /b/f\n",
    ));
}
