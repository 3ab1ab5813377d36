//! RUN by chroot: for root where no namespace can be had, and inside a container.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::TestEnv;

const COOPER: &str = env!("CARGO_BIN_EXE_cooper");

/// The kernel takes its time on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn env(dockerfile: &str) -> TestEnv {
    let env = TestEnv::new().var("COOPER_ISOLATION", "chroot");
    env.busybox("busybox");
    env.write("Dockerfile", dockerfile);
    env
}

/// Waits until there is a process with `argument` among its arguments, or none any more.
fn wait_for(argument: &str, there: bool) {
    let is = |dir: &Path| {
        let arguments = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        arguments.any(|other| other == argument.as_bytes())
    };
    let found = || {
        let mut all = std::fs::read_dir("/proc").unwrap();
        all.any(|entry| is(&entry.unwrap().path()))
    };
    let began = Instant::now();
    while found() != there {
        let state = if there { "not there" } else { "still there" };
        assert!(began.elapsed() < LIMIT, "{argument} is {state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const CHANGES: &str = "FROM scratch
ADD rootfs.tar /
ENV PATH=/bin
RUN mkdir -p /d/sub && echo 1 > /d/a && echo 2 > /d/b && chown 33:34 /d/a && chmod 4755 /d/a
USER app
RUN id -u > /tmp/id && echo hidden > /dev/null
USER root
WORKDIR /made
RUN rm /d/b && mv /d/sub /sub && ln -s /d/a l && cat /etc/hosts > /dev/null
RUN <<end
test \"$(cat /tmp/id)\" = 1000 && echo heredoc > /heredoc
end
";

#[test]
fn a_step_by_chroot_makes_the_image_that_it_makes_with_namespaces() {
    let id = |rung: &str| {
        let env = TestEnv::new().var("COOPER_ISOLATION", rung);
        env.busybox("busybox");
        std::fs::copy(env.beside("busybox/rootfs.tar"), env.path("rootfs.tar")).unwrap();
        env.write("Dockerfile", CHANGES);
        let built = env.cooper(&["build", "-q", "--timestamp=1700000000", "."]);
        built.ok().stdout()
    };
    assert_eq!(id("chroot"), id("root"));
}

#[test]
fn what_it_lacks_is_told() {
    let env = env("FROM busybox\nRUN true\n");
    let _ = env
        .build()
        .ok()
        .says(
            "isolation: chroot, with the processes, network and name of this machine, nothing \
             mounted and no setuid programs: `chroot` isolation was asked for",
        )
        .says("snapshotter: copy, because nothing can be mounted");
}

#[test]
fn mounts_that_copying_can_do_are_done_and_leave_no_trace() {
    let env = env("FROM busybox AS tools
RUN mkdir /t && echo tool > /t/tool && chown 7:8 /t/tool
FROM busybox
RUN --mount=type=bind,from=tools,source=/t,target=/mnt/t --mount=type=bind,target=/mnt/c \\
    --mount=type=tmpfs,target=/etc --mount=type=secret,id=s,env=SECRET \\
    cat /mnt/t/tool /mnt/c/from-context && stat -c %u:%g /mnt/t/tool && echo lost > /mnt/t/tool \\
    && echo lost > /etc/lost && test ! -e /etc/passwd && test \"$SECRET\" = hunter2
RUN test ! -e /mnt && test -e /etc/passwd && test ! -e /etc/lost && ls / > /seen && cat /seen
")
    .file("from-context", "context\n")
    .var("TOKEN", "hunter2");
    let built = env.build_with(&["--secret=id=s,env=TOKEN", "-o", "type=tar,dest=-"]);
    let built = built.ok();
    let said = built.stderr();
    for line in ["tool", "7:8", "context", "seen"] {
        assert!(said.contains(&format!(" {line}\n")), "no {line}:\n{said}");
    }
    let mut archive = tar::Archive::new(built.bytes());
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        entry.path().unwrap().display().to_string()
    });
    let names: Vec<String> = names.filter(|name| !name.starts_with("bin/")).collect();
    for absent in ["mnt/", "dev/", "proc/", "sys/", "etc/hosts", "etc/lost"] {
        assert!(!names.contains(&absent.to_owned()), "{absent}: {names:?}");
    }
    assert!(names.contains(&"etc/passwd".to_owned()), "{names:?}");
}

#[test]
fn mounts_and_networks_that_take_a_namespace_are_refused_with_line_and_fix() {
    for (flag, options, what) in [
        (
            "--mount=type=cache,target=/c",
            &[][..],
            "a mount of type cache",
        ),
        (
            "--mount=type=secret,id=s",
            &["--secret=id=s,env=HOME"],
            "a mount of type secret",
        ),
        ("--network=none", &[], "a network of its own"),
        ("", &["--network=none"], "a network of its own"),
        ("", &["--device=/dev/null"], "a mount of type device"),
    ] {
        let env = env(&format!("FROM busybox\nRUN {flag} true\n"));
        let _ = env
            .build_with(options)
            .fails(1)
            .says(what)
            .says("can't be had here")
            .says("--> Dockerfile:2:1")
            .says("leave `--isolation=chroot` out");
    }
    let env = env("FROM busybox\nRUN --mount=type=secret,id=s true\n");
    let _ = env
        .build_with(&["--secret=id=s,env=HOME"])
        .fails(1)
        .says("`--mount=type=secret,id=…,env=VARIABLE` hands it over without a file");
}

/// T-RT-7 and T-MNT-6 on this rung.
#[test]
fn t_rt_7_t_mnt_6_a_step_by_chroot_can_not_get_out_and_sees_nothing_of_the_caller() {
    let env = env("FROM busybox
RUN mkdir /x && ! chroot /x /bin/true && ! mknod /x/disk b 8 0 && ! mount -t tmpfs none /x
RUN test -z \"$(ls /proc /sys | grep -v :)\" && test -z \"$SENTINEL\" && env
RUN for i in 3 4 5 6 7 8 9 10 20 50; do if (true >&$i) 2> /dev/null; then echo open $i; exit 1; fi; done
RUN cd /../.. && ls / && test -e /bin/busybox && test ! -e /home/app/../../etc/shadow
WORKDIR /proc/self/fd/7
")
    .var("SENTINEL", "from outside");
    let said = env.build().ok().stderr();
    assert!(!said.contains("from outside"), "{said}");
}

#[test]
fn the_processes_of_a_step_end_with_it() {
    let env = env("FROM busybox
RUN (setsid sleep 5551001 &) ; (trap '' TERM HUP; sleep 5551001) & sleep 0.1; echo done
");
    let _ = env.build().ok().says(" done\n");
    wait_for("5551001", false);
}

#[test]
fn the_processes_of_a_step_end_with_the_build() {
    for signal in ["INT", "KILL"] {
        let argument = format!("55510{}", if signal == "INT" { 2 } else { 3 });
        let env = env(&format!(
            "FROM busybox\nRUN setsid sleep {argument} & (sleep {argument} & sleep {argument}) & wait\n"
        ));
        let mut command = env.command(COOPER);
        command.args(["build", "--progress=plain", "."]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut build = command.spawn().unwrap();
        wait_for(&argument, true);
        let kill = env
            .command("kill")
            .args(["-s", signal, &build.id().to_string()])
            .status();
        let ended = build.wait().unwrap();
        assert!(kill.unwrap().success() && !ended.success());
        wait_for(&argument, false);
    }
}

/// Signals stay inside where the kernel can do that (Linux 6.12); elsewhere a warning says so.
#[test]
fn a_step_can_not_end_what_is_outside() {
    let env = env("FROM busybox\nRUN kill -9 -1; kill -9 $PPID; echo survived\n");
    let mut bystander = env.command("sleep").arg("5551004").spawn().unwrap();
    let warned = "lets the step signal all processes";
    let probe = TestEnv::new().var("COOPER_ISOLATION", "chroot");
    probe.busybox("busybox");
    probe.write("Dockerfile", "FROM busybox\nRUN true\n");
    if !probe.build().ok().stderr().contains(warned) {
        let _ = env.build().any();
        assert!(bystander.try_wait().unwrap().is_none());
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

const WITHOUT_RUN: &str = "FROM scratch AS first
ADD rootfs.tar /
COPY --chown=33:34 Dockerfile /d/
FROM scratch
COPY --from=first / /
ENV PATH=/bin
";

/// What `docker run` gives a container by default: no CAP_SYS_ADMIN, no user namespaces.
#[test]
fn inside_a_container_a_build_works_on_the_rung_that_is_left() {
    for user in [None, Some("sub")] {
        let env = match user {
            Some(user) => TestEnv::as_user(user),
            None => TestEnv::new(),
        };
        env.busybox("busybox");
        std::fs::copy(env.beside("busybox/rootfs.tar"), env.path("rootfs.tar")).unwrap();
        let context = format!("{}:/context:ro", env.path("").display());
        let program = format!("{COOPER}:/bin/cooper:ro");
        let inside = |dockerfile: &str| {
            env.write("Dockerfile", dockerfile);
            env.cask(&[
                "run",
                "--rm",
                "--network=none",
                "-v",
                &context,
                "-v",
                &program,
                "busybox",
                "cooper",
                "--root=/store",
                "build",
                "--progress=plain",
                "/context",
            ])
        };
        let said = inside(WITHOUT_RUN).ok().stderr();
        assert!(said.contains("isolation: chroot"), "{said}");
        let run = "RUN id -u && chown app /d/Dockerfile && echo x > /dev/null && echo y > /new
RUN test $(stat -c %u /d/Dockerfile) = 1000 && cat /new
USER app
RUN id -u && ! touch /new
";
        let said = inside(&format!("{WITHOUT_RUN}{run}")).ok().stderr();
        for part in [
            "user namespaces are forbidden here",
            "snapshotter: copy",
            " y\n",
            " 1000\n",
        ] {
            assert!(said.contains(part), "no `{part}` as {user:?} in\n{said}");
        }
    }
}
