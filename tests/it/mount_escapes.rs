//! T-MNT: what a Dockerfile, an image or a running step may try through mounts, with a canary
//! outside that must come out as it went in.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use crate::support::canary::{Canary, Racer, SONG, racing_time};
use crate::support::held::Swapper;
use crate::support::{TestEnv, everybody};

fn canary(t: &TestEnv) -> Canary {
    Canary::at(t.beside("canary"))
}

/// Builds `dockerfile`, whatever comes of it, and returns all that was said.
fn said(t: &TestEnv, dockerfile: &str) -> String {
    t.write("Dockerfile", dockerfile);
    let out = t.build();
    out.any().stderr()
}

#[test]
fn t_mnt_1_a_link_in_an_image_leads_no_bind_to_the_host() {
    everybody(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        t.write(
            "Dockerfile",
            format!(
                "FROM busybox\nRUN ln -s / /x && ln -s {outside} /c && ln -s ../../../.. /up\n"
            ),
        );
        t.build_with(&["-t", "evil"]).ok();
        for (source, target) in [
            ("/x", "/m"),
            ("/up", "/m"),
            ("/c", "/m"),
            ("/x/../..", "/m"),
        ] {
            let text = said(
                &t,
                &format!(
                    "FROM busybox\nRUN --mount=type=bind,from=evil,source={source},target={target},rw \
                     ls -a {target} {target}/..; cat {target}{outside}/secret {target}/secret; \
                     touch {target}/new; rm -rf {target}{outside}; true\n"
                ),
            );
            assert!(!text.contains(SONG), "{source}: {text}");
        }
        // A link in the context is no way out either.
        symlink(canary.root(), t.path("link")).unwrap();
        for source in ["link", "link/secret"] {
            let text = said(
                &t,
                &format!(
                    "FROM busybox\nRUN --mount=source={source},target=/m,rw cat /m /m/secret; touch /m/new; true\n"
                ),
            );
            assert!(!text.contains(SONG), "{source}: {text}");
        }
        canary.unchanged();
    });
}

#[test]
fn t_mnt_2_propagation_and_labels_are_refused_and_no_mount_reaches_the_host() {
    everybody(|t| {
        for kind in ["bind", "cache", "tmpfs", "secret,id=a", "ssh"] {
            for option in [
                "bind-propagation=shared",
                "propagation=rshared",
                "z",
                "Z",
                "U",
                "suid",
                "exec=true",
            ] {
                let text =
                    format!("FROM busybox\nRUN --mount=type={kind},target=/m,{option} true\n");
                t.write("Dockerfile", text);
                t.build().fails(1).says("dockerfile parse error");
            }
        }
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        t.write(
            "Dockerfile",
            concat!(
                "FROM busybox\n",
                "RUN --mount=type=tmpfs,target=/m --mount=target=/c --mount=type=cache,target=/k sleep 0.2; mount -t tmpfs x /tmp; mount --make-rshared /; true\n",
            ),
        );
        t.build().ok();
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!after.contains(t.root().to_str().unwrap()), "{after}");
        assert_eq!(before.lines().count(), after.lines().count());
    });
}

#[test]
fn t_mnt_3_ids_sources_and_targets_stay_inside() {
    everybody(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        for id in ["../../canary", "/", "..", "a/../../../x", "x%00y", "."] {
            let text = said(
                &t,
                &format!(
                    "FROM busybox\nRUN --mount=type=cache,id={id},target=/c ls -a /c; touch /c/new; cat /c/secret; true\n"
                ),
            );
            assert!(!text.contains(SONG), "{id}: {text}");
        }
        for source in ["../canary", "../../../../../../..", "/../x"] {
            let text = said(
                &t,
                &format!(
                    "FROM busybox\nRUN --mount=source={source},target=/c cat /c/secret /c{outside}/secret; true\n"
                ),
            );
            assert!(!text.contains(SONG), "{source}: {text}");
        }
        // Links that a step left in its cache.
        said(
            &t,
            &format!(
                "FROM busybox\nRUN --mount=type=cache,id=l,target=/c ln -s {outside} /c/abs; ln -s ../../../../canary /c/rel; ln -s / /c/root\n"
            ),
        );
        for source in ["abs", "rel", "root", "abs/secret", "root/etc"] {
            t.write(
                "Dockerfile",
                format!("FROM busybox\nRUN --mount=type=cache,id=l,source={source},target=/m cat /m/secret /m; touch /m/new; true\n"),
            );
            t.build().fails(1).says("of cache");
        }
        let text = said(
            &t,
            "FROM busybox\nRUN --mount=type=tmpfs,target=../../../t/../../m test -d /m && touch /m/x\n",
        );
        assert!(!text.contains("error: "), "{text}");
        canary.unchanged();
        let names = std::fs::read_dir(t.root().join("caches")).unwrap();
        for name in names.map(|entry| entry.unwrap().file_name()) {
            assert!(name.len() == 64, "{name:?}");
        }
    });
}

#[test]
fn t_mnt_4_racing_for_a_part_of_a_shared_cache_reaches_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        // One step swaps a directory and a link inside the cache for as long as the other builds
        // mount that part of it.
        let racer = Swapper::start(&t, canary.root());
        let until = Instant::now() + racing_time();
        let attempt = t.beside("attempt");
        let mut tries = 0;
        while Instant::now() < until {
            tries += 1;
            std::fs::write(
                &attempt,
                format!("FROM busybox\nENV N={tries}\nRUN --mount=type=cache,id=r,source=part,target=/m cat /m/secret; touch /m/new; true\n"),
            )
            .unwrap();
            let out = t.build_with(&["-f", attempt.to_str().unwrap()]).any();
            assert!(!out.stderr().contains(SONG), "{}", out.stderr());
        }
        assert!(tries > 0);
        racer.stop();
        canary.unchanged();
    });
}

#[test]
fn t_mnt_4_racing_for_the_source_of_a_bind_reaches_nothing() {
    everybody(|t| {
        let canary = canary(&t);
        std::fs::create_dir(t.path("part")).unwrap();
        std::fs::write(t.path("part/f"), "inside\n").unwrap();
        symlink(canary.root(), t.path("link")).unwrap();
        let racer = Racer::between(t.path("part"), t.path("link"));
        let until = Instant::now() + racing_time();
        let mut tries = 0;
        while Instant::now() < until {
            tries += 1;
            let access = if tries % 2 == 0 { ",rw" } else { "" };
            let text = format!(
                "FROM busybox\nENV N={tries}\nRUN --mount=source=part,target=/m{access} cat /m/secret /m/f; touch /m/new; true\n"
            );
            let text = said(&t, &text);
            assert!(!text.contains(SONG), "{text}");
        }
        assert!(racer.swaps() > 100, "{} swaps", racer.swaps());
        drop(racer);
        canary.unchanged();
    });
}

#[test]
fn t_mnt_5_cleaning_up_mount_points_removes_nothing_outside() {
    everybody(|t| {
        let canary = canary(&t);
        let outside = canary.root().display();
        t.write(
            "Dockerfile",
            format!(
                "FROM busybox\n\
                 RUN --mount=type=tmpfs,target=/p/dir/sub mv /p /q; ln -s {outside} /p; true\n\
                 RUN --mount=type=tmpfs,target=/r/dir/sub rm -rf /r; mv /r/dir /r/away; ln -s {outside}/dir /r/dir; true\n\
                 RUN --mount=type=secret,id=k,target={outside}/f true\n"
            ),
        );
        t.build_with(&["--secret", "id=k,src=/etc/hostname"]).ok();
        canary.unchanged();
    });
}

#[test]
fn t_mnt_6_nothing_of_the_caller_is_seen_inside() {
    everybody(|mut t| {
        for n in 0..50 {
            t = t.var(&format!("SENTINEL_{n}"), format!("caller-{n}"));
        }
        t = t
            .var("CONTAINERS_CONF", "/caller")
            .var("LD_PRELOAD_NOT", "caller");
        t.write(
            "Dockerfile",
            concat!(
                "FROM busybox\n",
                "RUN env | sort | sed 's/=.*//' | tr '\\n' ' '; echo; echo fds $(ls /proc/self/fd | tr '\\n' ' ')\n",
                "RUN ! tr '\\0' '\\n' < /proc/1/environ 2>/dev/null | grep -i sentinel; ! grep -ra caller- /proc/*/environ 2>/dev/null\n",
            ),
        );
        // Descriptors 3 to 50 are open and inherited.
        let script = "for i in $(seq 3 50); do eval \"exec $i</etc/hostname\"; done; \
                      exec \"$0\" build --progress=plain .";
        let out = t
            .command("/bin/bash")
            .args(["-c", script, env!("CARGO_BIN_EXE_cooper")])
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{err}");
        assert!(
            !err.contains("SENTINEL") && !err.contains("CONTAINERS_CONF"),
            "{err}"
        );
        assert!(err.contains("HOME PATH PWD"), "{err}");
        // 0 to 2 and the one that `ls` itself has open.
        assert!(err.contains("fds 0 1 2 3\n"), "{err}");
    });
}

#[test]
fn t_mnt_7_a_damaged_result_is_not_served_from_the_cache() {
    let t = TestEnv::new()
        .dockerfile("FROM busybox\nRUN --mount=type=cache,target=/c echo made > /f\n");
    t.busybox("busybox");
    t.build().ok();
    // Another key, another result: a build with other inputs never meets this record.
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=x,target=/c echo made > /f\n",
    );
    let steps = t.build().ok().steps();
    assert!(steps.iter().any(|step| step.ends_with("ran")), "{steps:?}");
    t.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c,ro echo made > /f\n",
    );
    let steps = t.build().ok().steps();
    assert!(steps.iter().any(|step| step.ends_with("ran")), "{steps:?}");
}

#[test]
fn t_mnt_9_nothing_predictable_is_made_in_tmp() {
    everybody(|t| {
        let canary = canary(&t);
        // Everything is made below the store, which is the caller's alone whatever the umask.
        let tmp = t.beside("tmp");
        std::fs::create_dir(&tmp).unwrap();
        std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o555)).unwrap();
        let t = t.var("TMPDIR", &tmp);
        t.write(
            "Dockerfile",
            "FROM busybox\nRUN --mount=type=cache,target=/c --mount=target=/s,rw --mount=type=secret,id=k touch /c/f\n",
        );
        let before = names("/tmp", &t);
        t.build_with(&["--secret", "id=k,src=/etc/hostname"]).ok();
        assert_eq!(names("/tmp", &t), before);
        assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 0);
        let mode = std::fs::metadata(t.root()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        for link in ["caches", "tmp"] {
            let mode = std::fs::metadata(t.root().join(link))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0, "{link}");
        }
        canary.unchanged();
    });
}

/// Names in a directory that any program of ours could have made.
fn names(dir: &str, t: &TestEnv) -> Vec<String> {
    let own = t.beside("").display().to_string();
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().path().display().to_string());
    // Other tests have directories of their own there.
    let mut names: Vec<String> = names
        .filter(|name| !own.starts_with(name.as_str()) && name.contains("scratch"))
        .collect();
    names.sort();
    names
}

/// Opening a FIFO of the context waits for nobody.
#[test]
fn t_mnt_4_a_fifo_as_source_blocks_nothing() {
    everybody(|t| {
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, t.path("pipe"), fifo, mode, 0).unwrap();
        t.write(
            "Dockerfile",
            "FROM busybox\nRUN --mount=source=pipe,target=/p test -p /p\nRUN --mount=target=/c test -p /c/pipe\n",
        );
        crate::support::canary::within(Duration::from_secs(60), move || drop(t.build().ok()));
    });
}
