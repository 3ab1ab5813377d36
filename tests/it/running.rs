//! RUN steps: what a program in one sees, and what becomes of it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::TestEnv;

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

#[test]
fn env_args_workdir_user_and_shell_are_the_images() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN mkdir -p /etc && echo 'app:x:1000:1001::/home/app:/bin/sh' > /etc/passwd\n",
        "ENV A=1\nARG B=2\nARG UNSET\nWORKDIR /work\nUSER app\n",
        "RUN echo \"$A $B ${UNSET-none} $(pwd) $(id -u):$(id -g) $HOME\"\n",
        "SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo \"flags $-\"\n",
        "RUN [\"/bin/echo\", \"exec $A\"]\n",
    ));
    let err = t.build().ok().stderr();
    assert!(err.contains("1 2 none /work 1000:1001 /home/app"), "{err}");
    assert!(err.contains("flags ce"), "{err}");
    assert!(err.contains("exec $A"), "{err}");
}

#[test]
fn nothing_of_the_callers_environment_is_visible() {
    let t = env("FROM busybox\nRUN env | sort\n")
        .var("SENTINEL", "leak")
        .var("USER", "leak");
    let err = t.build().ok().stderr();
    assert!(!err.contains("leak"), "{err}");
}

#[test]
fn proxies_reach_run_and_leave_no_trace() {
    let t = env("FROM busybox\nRUN echo \"proxy $http_proxy $HTTP_PROXY\"\n")
        .var("http_proxy", "http://127.0.0.1:9");
    let err = t.build_with(&["-t", "x"]).ok().stderr();
    assert!(
        err.contains("proxy http://127.0.0.1:9 http://127.0.0.1:9"),
        "{err}"
    );
    let history = t.cooper(&["history", "--no-trunc", "x"]).ok().stdout();
    let inspect = t.cooper(&["inspect", "x"]).ok().stdout();
    assert!(!history.contains("127.0.0.1:9") && !inspect.contains("127.0.0.1:9"));
}

#[test]
fn a_failing_step_shows_its_line_and_exit_code() {
    let t = env("FROM busybox\nRUN echo fine\nRUN echo broken >&2; exit 7\n");
    t.build()
        .fails(1)
        .says("broken")
        .says("process \"/bin/sh -c echo broken >&2; exit 7\" did not complete successfully")
        .says("exit code: 7")
        .says("Dockerfile:3");
    assert_eq!(
        t.cooper(&["images", "-q"]).ok().stdout().lines().count(),
        1,
        "only busybox"
    );
}

#[test]
fn a_missing_program_is_named() {
    let t = env("FROM busybox\nRUN [\"/no/such\"]\n");
    t.build().fails(1).says("`/no/such`").says("Dockerfile:2");
    t.write("Dockerfile", "FROM scratch\nRUN echo hi\n");
    t.build().fails(1).says("`/bin/sh`");
}

#[test]
fn deletions_replacements_and_modes_are_in_the_layer() {
    let t = env(concat!(
        "FROM busybox\nRUN mkdir -p /d/sub && echo 1 > /d/a && echo 2 > /d/sub/b && echo 3 > /f\n",
        "RUN rm /d/a && rm -r /d/sub && mkdir /d/sub && echo new > /d/sub/c && rm /f && mkdir /f && chmod 700 /d\n",
        "RUN test ! -e /d/a && test ! -e /d/sub/b && test -e /d/sub/c && test -d /f && test \"$(stat -c %a /d)\" = 700\n",
    ));
    t.build_with(&["-t", "x"]).ok();
    let out = t.beside("out");
    t.build_with(&["-o", out.to_str().unwrap()]).ok();
    assert!(!out.join("d/a").exists() && !out.join("d/sub/b").exists());
    assert_eq!(
        std::fs::read_to_string(out.join("d/sub/c")).unwrap(),
        "new\n"
    );
}

#[test]
fn mounts_leave_no_trace_in_the_image() {
    let t = env("FROM busybox\nRUN rm -rf /etc /proc /sys /dev; true\nFROM busybox\nRUN true\n");
    let tar = t.beside("x.tar");
    t.build_with(&["-o", &format!("type=tar,dest={}", tar.display())])
        .ok();
    let listed = std::process::Command::new("tar")
        .arg("-tf")
        .arg(&tar)
        .output()
        .unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    for leaked in [
        "etc/resolv.conf",
        "etc/hosts",
        "dev/null",
        "dev/pts",
        "proc/self",
    ] {
        assert!(
            !names.lines().any(|name| name == leaked),
            "{leaked} in {names}"
        );
    }
}

/// The root was once reachable as `/..`: the scratch mount lay on the old root, and taking one
/// mount away left the other.
#[test]
fn nothing_lies_above_the_root() {
    let t = env(
        "FROM busybox\nRUN test \"$(stat -c %d:%i /)\" = \"$(stat -c %d:%i /..)\" && test \"$(ls /)\" = \"$(ls /..)\"\n",
    );
    t.build().ok();
}

#[test]
fn heredocs_run_by_the_shell_or_as_a_program() {
    let t = env(concat!(
        "FROM busybox\nRUN <<EOF\necho one\necho two $((1+1))\nEOF\n",
        "RUN <<'EOF'\n#!/bin/sh\necho \"program $0\"\nEOF\n",
        "RUN cat <<A > /a; cat <<B > /b\nfirst\nA\nsecond\nB\nRUN cat /a /b\n",
    ));
    let err = t.build().ok().stderr();
    for want in ["one", "two 2", "program /dev/pipes/EOF", "first", "second"] {
        assert!(err.contains(want), "{want} is not in {err}");
    }
}

#[test]
fn a_program_of_a_heredoc_is_started_by_the_stages_shell() {
    let t = env(concat!(
        "FROM busybox\nSHELL [\"/bin/sh\", \"-c\", \"echo before; exec $0\"]\n",
        "RUN <<EOF\n#!/bin/sh\necho \"program $0\"\nEOF\n",
    ));
    let err = t.build().ok().stderr();
    assert!(err.contains("before"), "{err}");
    assert!(err.contains("program /dev/pipes/EOF"), "{err}");
}

/// Word for word what docker shows.
#[test]
fn names_of_run_steps_show_what_the_builder_knows() {
    let t = env(concat!(
        "FROM busybox\nARG FOO=bar\nENV LONG=\"two words\"\n",
        "run : \"$FOO\" '$FOO' $UNSET ${UNSET:-x} ${FOO#b} \\$FOO\n",
        "RUN --mount=type=secret,id=no,env=TOK : $TOK $LONG \"${TOK}\"\n",
        "RUN <<EOF\n\n: $FOO\n: more\nEOF\nRUN <<EOF\n:\nEOF\nRUN cat <<A >/x\nA\n",
    ));
    let err = t.build().ok().stderr();
    for want in [
        "2/6] RUN : \"bar\" '$FOO' $UNSET ${UNSET:-x} ar $FOO\n",
        "3/6] RUN --mount=type=secret,id=no,env=TOK : **** two words \"****\"\n",
        "4/6] RUN <<EOF (: bar...)\n",
        "5/6] RUN <<EOF (:)\n",
        "6/6] RUN cat <<A >/x\n",
    ] {
        assert!(err.contains(want), "{want} is not in {err}");
    }
}

#[test]
fn network_none_has_only_loopback() {
    let t = env("FROM busybox\nRUN --network=none ls /sys/class/net | tr '\\n' ' '\n");
    let err = t.build().ok().stderr();
    assert!(
        err.lines().any(|line| line.trim_end().ends_with(" lo")),
        "{err}"
    );
}

#[test]
fn a_dockerfile_cannot_widen_the_network() {
    let t = env("FROM busybox\nRUN --network=host true\n");
    t.build_with(&["--network=none"])
        .fails(1)
        .says("network.host is not allowed");
    t.build_with(&["--network=host"]).ok();
}

#[test]
fn independent_stages_run_at_the_same_time() {
    // Each stage waits for the other through nothing but time; one after the other takes twice.
    let stage = |name: &str| format!("FROM busybox AS {name}\nRUN sleep 2\n");
    let last = "FROM scratch\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n";
    let t = env(&format!("{}{}{last}", stage("a"), stage("b")));
    let err = t.build().ok().stderr();
    let place = |part: &str| {
        err.find(part)
            .unwrap_or_else(|| panic!("{part} is not in {err}"))
    };
    let begun = place("[a 2/2] RUN sleep 2").max(place("[b 2/2] RUN sleep 2"));
    let done = err
        .match_indices("DONE")
        .map(|(at, _)| at)
        .find(|at| *at > begun);
    assert!(done.is_some(), "both began before either was done:\n{err}");
}

#[test]
fn stages_nobody_needs_are_not_built() {
    let t = env("FROM nowhere.invalid/x AS broken\nRUN false\nFROM busybox\nRUN true\n");
    t.build().ok();
}

#[test]
fn an_interrupted_build_leaves_nothing_behind() {
    let t = env("FROM busybox\nRUN echo started; sleep 1000\n");
    let marker = format!("{}", std::process::id());
    t.write(
        "Dockerfile",
        format!(
            "FROM busybox\nENV M={marker}\nRUN echo started; sleep 1000{}\n",
            std::process::id() % 997
        ),
    );
    let mut child = t
        .command(env!("CARGO_BIN_EXE_cooper"))
        .args(["build", "--progress=plain", "."])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("started\n") {
        seen.clear();
        assert_ne!(
            std::io::BufRead::read_line(&mut lines, &mut seen).unwrap(),
            0
        );
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let begun = Instant::now();
    let status = child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!status.success());
    let sleeping = format!("sleep\u{0}1000{}", std::process::id() % 997);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&cmdline).contains(&sleeping),
            "{:?}",
            entry.path()
        );
    }
    let left: Vec<_> = std::fs::read_dir(t.root().join("tmp"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(t.root().to_str().unwrap()), "{mounts}");
}

#[test]
fn run_has_the_args_in_force_and_none_that_is_unset() {
    let t = env(concat!(
        "FROM busybox\nARG EMPTY=\nARG UNSET\nENV hidden=env\nARG hidden=arg\nARG hides=arg\n",
        "ENV hides=env\nRUN echo \"[${EMPTY-unset}] [${UNSET-unset}] $hidden $hides\" && ! env | grep UNSET\n",
        "FROM busybox\nRUN test -z \"$hides\"\n",
    ));
    t.build_with(&["--target=0"])
        .ok()
        .says("[] [unset] arg env");
    t.build().ok();
}

#[test]
fn proxies_are_not_in_the_key_until_they_are_declared() {
    let text = "RUN echo \"all $ALL_PROXY ftp $ftp_proxy no $NO_PROXY\"\n";
    let t = env(&format!("FROM busybox\n{text}"));
    let with = |value: &str| {
        let args = ["all_proxy", "FTP_PROXY", "no_proxy"]
            .map(|name| format!("--build-arg={name}={value}"));
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["-t", "x"]).collect();
        t.build_with(&args).ok()
    };
    let history = || t.cooper(&["history", "--no-trunc", "x"]).ok().stdout();
    with("one").says("all one ftp one no one");
    let again = with("two").steps();
    assert!(again.last().unwrap().ends_with("cached"), "{again:?}");
    assert!(!history().contains("one"), "{}", history());
    t.write("Dockerfile", format!("FROM busybox\nARG all_proxy\n{text}"));
    with("one");
    let again = with("two").steps();
    assert!(again.last().unwrap().ends_with("ran"), "{again:?}");
    assert!(history().contains("RUN |1 all_proxy=two "), "{}", history());
}
