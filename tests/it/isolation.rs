//! Options that open or close the walls around RUN steps and containers.

use std::path::Path;

use crate::support::held::Container;
use crate::support::{TestEnv, everybody};

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

const STATUS: &str = "FROM busybox\nRUN grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\n\\t' '; '\n";

#[test]
fn t_rt_7_steps_containers_and_execs_have_dockers_capabilities_and_filter() {
    everybody(|t| {
        let look = "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\n\\t' '; '";
        let (docker, none) = ("00000000a80425fb", "0000000000000000");
        let want = format!(
            "CapInh: {none};CapPrm: {docker};CapEff: {docker};CapBnd: {docker};CapAmb: {none};\
             NoNewPrivs: 0;Seccomp: 2;"
        );
        t.write("Dockerfile", format!("FROM busybox\nRUN {look}\n"));
        let err = t.build_with(&["--network=none"]).ok().stderr();
        assert!(err.contains(&want), "{err}");
        let container = Container::start(&t, "shut", &["busybox", "sleep", "1000"]);
        assert_eq!(container.sh(look), want);
        let run = ["run", "--rm", "--network=none", "busybox", "sh", "-c", look];
        assert_eq!(t.cask(&run).ok().stdout(), want);
    });
}

#[test]
fn capabilities_and_filters_of_steps_can_be_chosen_and_are_in_the_key() {
    let t = env(STATUS);
    let built = |args: &[&str]| t.build_with(args).ok().stderr();
    let less = ["--cap-drop", "ALL", "--cap-add", "CAP_CHOWN"];
    let want = "CapBnd: 0000000000000001;NoNewPrivs: 0;Seccomp: 2;";
    assert!(built(&less).contains(want));
    assert!(
        !built(&less).contains("CapBnd: 0"),
        "the same again is cached"
    );
    let err = built(&["--security-opt", "no-new-privileges"]);
    assert!(err.contains("NoNewPrivs: 1"), "{err}");
    let err = built(&["--security-opt", "seccomp=unconfined"]);
    assert!(err.contains("Seccomp: 0"), "{err}");
}

#[test]
fn a_seccomp_profile_is_read_from_a_file() {
    let t = env("FROM busybox\nRUN mkdir /d; test ! -d /d && echo refused\n");
    let profile = t.beside("profile.json");
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, json).unwrap();
    let option = format!("seccomp={}", profile.display());
    let err = t.build_with(&["--security-opt", &option]).ok().stderr();
    assert!(err.contains("refused"), "{err}");
    std::fs::write(&profile, "{").unwrap();
    t.build_with(&["--security-opt", &option])
        .fails(2)
        .says("no seccomp profile in docker's format");
}

#[test]
fn masks_limits_devices_and_shared_memory_reach_the_step() {
    let t = env(concat!(
        "FROM busybox\n",
        "RUN wc -c < /proc/cpuinfo; ulimit -n; ulimit -Hn; df -k /dev/shm | tail -n 1\n",
        "RUN stat -c '%t:%T' /dev/nothing\n",
    ));
    let args = [
        "--security-opt",
        "mask=/proc/cpuinfo",
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "1m",
        "--device",
        "/dev/null:/dev/nothing:rw",
    ];
    let err = t.build_with(&args).ok().stderr();
    let lines: Vec<&str> = err
        .lines()
        .filter_map(|line| {
            line.split_once(' ')?
                .1
                .split_once(' ')
                .map(|(_, text)| text)
        })
        .collect();
    for want in ["0", "100", "200", "1:3"] {
        assert!(lines.contains(&want), "{want}: {err}");
    }
    assert!(err.contains(" 1024 "), "{err}");
}

#[test]
fn a_limit_that_can_not_be_raised_is_an_error_for_those_who_asked() {
    let t = TestEnv::as_user("sub").dockerfile("FROM busybox\nRUN ulimit -n\n");
    t.busybox("busybox");
    t.build().ok();
    t.build_with(&["--ulimit", "nofile=900000000"])
        .fails(1)
        .says("cannot set the resource limit nofile");
}

/// The kernel of this machine may keep limits or not; either way nothing is silent.
#[test]
fn a_memory_limit_is_kept_or_refused_by_name() {
    let t = env("FROM busybox\nRUN echo ran\n");
    let strict = t.build_with(&["--memory", "512m"]);
    let files = ["cgroup.subtree_control", "memory/cgroup.procs"];
    let able = files
        .iter()
        .any(|file| Path::new("/sys/fs/cgroup").join(file).exists());
    if able {
        strict.ok();
    } else {
        strict
            .fails(1)
            .says("cannot limit memory: /sys/fs/cgroup has neither cgroup v2")
            .says("--limits=best-effort");
    }
    let err = t
        .build_with(&["--no-cache", "--memory", "512m", "--limits=best-effort"])
        .ok()
        .stderr();
    assert!(err.contains("ran"), "{err}");
    assert_eq!(err.contains("not kept"), !able, "{err}");
}

#[test]
fn a_container_can_be_opened_and_closed() {
    let t = env("FROM busybox\n");
    let status = "grep -E '^(CapBnd|Seccomp):' /proc/self/status";
    let run = |args: &[&str], script: &str| {
        let args = [&["run", "--rm"], args, &["busybox", "sh", "-c", script]].concat();
        t.cask(&args).ok().stdout()
    };
    assert_eq!(run(&[], status), "CapBnd:\t00000000a80425fb\nSeccomp:\t2");
    let privileged = run(&["--privileged"], status);
    assert!(privileged.contains("Seccomp:\t0"), "{privileged}");
    assert!(!privileged.contains("a80425fb"), "{privileged}");
    let own = run(&["--cap-add", "SYS_ADMIN"], "unshare -U true 2>&1; echo $?");
    assert_eq!(own, "0");
    let shut = run(&[], "unshare -U true 2>/dev/null; echo $?");
    assert_eq!(shut, "1");
    t.cask(&["run", "--rm", "--memory-swap", "1g", "busybox", "true"])
        .fails(125)
        .says("`--memory-swap` goes with `--memory`");
}

#[test]
fn doctor_tries_each_gate_and_names_the_way_that_is_taken() {
    let out = TestEnv::new().cooper(&["doctor"]).ok().stdout();
    assert!(out.starts_with("rung:           root"), "{out}");
    for gate in [
        "overlay",
        "fresh /proc",
        "pivot_root",
        "seccomp",
        "seccomp notify",
    ] {
        assert!(
            out.lines().any(|line| line == format!("ok   {gate}")),
            "{out}"
        );
    }
    let rung = |user: &str| {
        let args = ["doctor", "--format", "{{.Rung}}"];
        TestEnv::as_user(user).cooper(&args).ok().stdout()
    };
    assert_eq!(
        (rung("sub").as_str(), rung("nosub").as_str()),
        ("subid", "single-id")
    );
    let out = TestEnv::as_user("nosub").cooper(&["doctor"]).ok().stdout();
    assert!(
        out.contains("no   id maps: /etc/subuid has no range for `nosub`"),
        "{out}"
    );
    assert!(out.contains("fix: usermod --add-subuids"), "{out}");
    let args = ["doctor", "--format", "json"];
    let json = TestEnv::as_user("nosub").cooper(&args).ok().stdout();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Rung"], "single-id");
    let gates = json["Gates"].as_array().unwrap();
    assert_eq!(gates.len(), 10, "{json}");
    for gate in gates {
        let open = gate["Open"].as_bool().unwrap();
        assert!(gate["Name"].is_string(), "{gate}");
        assert_eq!(
            (gate["Cause"].is_null(), gate["Fix"].is_null()),
            (open, open),
            "{gate}"
        );
    }
}

#[test]
fn t_rt_15_the_store_is_for_its_owner_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    everybody(|t| {
        // Another one than that in which the test's image is.
        let root = t.beside("other");
        let script = "umask 0; exec \"$0\" --root \"$1\" images";
        let ran = t
            .command("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_cooper")])
            .arg(&root)
            .status()
            .unwrap();
        assert!(ran.success());
        let mode = std::fs::metadata(root).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
    });
}
