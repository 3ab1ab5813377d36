//! What a program in a sandbox sees, and how its end is told.

#![allow(clippy::unwrap_used, reason = "a test that can't go on must stop")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use cooper::sandbox::{
    Access, Content, Error, Exit, Input, Mount, MountKind, Network, Output, PlanError, Propagation,
    Resource, Rlimit, Rootfs, Source, Stdio, WindowSize, set_executable, spawn, userns,
};
use rustix::process::Signal;

use crate::support::{Fixture, finish, pipes, run, try_run};

/// A fixture, after making sure that this process can run the tests at all.
pub(crate) fn fixture() -> Fixture {
    let host = userns::HostInfo::detect().unwrap();
    assert_eq!(
        host.rung(),
        Ok(userns::Rung::Root),
        "these tests need root with CAP_SYS_ADMIN"
    );
    set_executable(env!("CARGO_BIN_EXE_cooper"));
    Fixture::new()
}

#[test]
fn exit_codes_pass() {
    let t = fixture();
    for init in [true, false] {
        for code in [0, 1, 42, 130, 255] {
            let mut plan = t.sh(&format!("exit {code}"));
            plan.init = init;
            assert_eq!(run(&plan).exit, Exit::Code(code), "init {init}");
        }
    }
}

#[test]
fn the_signal_that_ended_the_program_is_told_apart_from_128_and_more() {
    let t = fixture();
    assert_eq!(run(&t.sh("kill -TERM $$")).exit, Exit::Signal(15));
    assert_eq!(run(&t.sh("exit 143")).exit, Exit::Code(143));
    let mut plan = t.sh("sleep 100");
    plan.init = false;
    let child = spawn(&plan, Stdio::default()).unwrap();
    child.signal(Signal::KILL).unwrap();
    assert_eq!(finish(child).exit, Exit::Signal(9));
}

#[test]
fn signals_reach_the_program_through_the_init() {
    let t = fixture();
    let script = "trap 'echo caught; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let mut child = spawn(&t.sh(script), pipes()).unwrap();
    let mut up = [0; 3];
    fs::File::from(child.stdout.as_ref().unwrap().try_clone().unwrap())
        .read_exact(&mut up)
        .unwrap();
    child.signal(Signal::TERM).unwrap();
    let mut rest = String::new();
    fs::File::from(child.stdout.take().unwrap())
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(
        (rest.as_str(), child.wait().unwrap()),
        ("caught\n", Exit::Code(7))
    );
    child.signal(Signal::TERM).unwrap();
}

#[test]
fn the_program_is_pid_1_or_has_an_init() {
    let t = fixture();
    let mut plan = t.sh("echo $$");
    assert_eq!(run(&plan).ok(), "2\n");
    plan.init = false;
    assert_eq!(run(&plan).ok(), "1\n");
}

#[test]
fn zombies_are_collected() {
    let t = fixture();
    let script = "for i in 1 2 3 4 5; do (sleep 0.01 & ) ; done; sleep 0.3; \
        cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z ' ; true";
    assert_eq!(run(&t.sh(script)).ok(), "0\n");
}

#[test]
fn the_environment_is_exactly_the_plans() {
    let t = fixture();
    let mut plan = t.plan(&["env"]);
    plan.env = vec![
        ("Z".into(), "1".into()),
        ("PATH".into(), "/bin".into()),
        ("A".into(), "two words".into()),
        ("HOME".into(), "/elsewhere".into()),
    ];
    assert_eq!(
        run(&plan).ok(),
        "Z=1\nPATH=/bin\nA=two words\nHOME=/elsewhere\n"
    );
    plan.env.pop();
    assert_eq!(run(&plan).ok(), "Z=1\nPATH=/bin\nA=two words\nHOME=/root\n");
}

#[test]
fn arguments_and_paths_may_be_any_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let t = fixture();
    let odd = std::ffi::OsString::from_vec(b"a\xff\xfeb".to_vec());
    let mut plan = t.plan(&["sh", "-c", "echo \"$1\" > \"/$1\"; echo \"$V\"", "sh"]);
    plan.argv.push(odd.clone());
    plan.env.push(("V".into(), odd.clone()));
    let mut child = spawn(&plan, pipes()).unwrap();
    let mut out = Vec::new();
    fs::File::from(child.stdout.take().unwrap())
        .read_to_end(&mut out)
        .unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    assert_eq!(out, b"a\xff\xfeb\n");
    assert_eq!(
        fs::read(t.dir.join("upper").join(odd)).unwrap(),
        b"a\xff\xfeb\n"
    );
}

#[test]
fn users_are_those_of_the_image() {
    let t = fixture();
    let id = |user: &str| {
        let mut plan = t.sh("id -u; id -g; id -G; echo $HOME");
        plan.user = user.into();
        run(&plan).ok().replace('\n', " ")
    };
    assert_eq!(id(""), "0 0 0 /root ");
    assert_eq!(id("www-data"), "33 33 33 4 /var/www ");
    assert_eq!(id("33:0"), "33 0 0 /var/www ");
    assert_eq!(id("1234:77"), "1234 77 77 / ");
    let mut plan = t.sh("true");
    plan.user = "nobody".into();
    let error = try_run(&plan, pipes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "user `nobody` is not in the image's /etc/passwd"
    );
}

#[test]
fn what_a_user_writes_belongs_to_it() {
    let t = fixture();
    fs::set_permissions(t.base("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let mut plan = t.sh("umask; echo x > /tmp/f; echo y > /dev/stdout");
    plan.user = "www-data".into();
    assert_eq!(run(&plan).ok(), "0022\ny\n");
    let meta = fs::metadata(t.upper("tmp/f")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (33, 33, 0o644)
    );
}

#[test]
fn a_missing_program_says_what_is_missing() {
    let t = fixture();
    fs::write(t.base("bin/script"), "#!/usr/bin/perl -w\n").unwrap();
    fs::write(t.base("bin/garbage"), "\0\x01\x02").unwrap();
    fs::write(t.base("bin/plain"), "not executable").unwrap();
    for name in ["script", "garbage"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(t.base("bin").join(name), mode).unwrap();
    }
    let text = |argv: &[&str]| try_run(&t.plan(argv), pipes()).unwrap_err().to_string();
    assert_eq!(
        text(&["nope"]),
        "program `nope` is not in the image (PATH is `/usr/bin:/bin`)"
    );
    assert_eq!(
        text(&["/bin/nope"]),
        "program `/bin/nope` is not in the image"
    );
    assert_eq!(text(&["plain"]), "program `/bin/plain` can't be executed");
    assert_eq!(text(&["/etc"]), "program `/etc` can't be executed");
    assert_eq!(
        text(&["script"]),
        "program `/bin/script` needs `/usr/bin/perl`, which is not in the image"
    );
    assert_eq!(
        text(&["garbage"]),
        "`/bin/garbage` is not a program that this machine can run"
    );
    let mut plan = t.plan(&["true"]);
    plan.env.clear();
    let error = try_run(&plan, pipes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "program `true` is not in the image (PATH is ``)"
    );
}

#[test]
fn a_missing_dynamic_loader_is_named() {
    let t = fixture();
    // `true` of the host is dynamic, and this root has no libraries.
    fs::copy("/usr/bin/true", t.base("bin/dynamic")).unwrap();
    match try_run(&t.plan(&["dynamic"]), pipes()).unwrap_err() {
        Error::InterpreterMissing {
            program,
            interpreter,
        } => {
            assert_eq!(program.to_str(), Some("/bin/dynamic"));
            assert!(
                interpreter.to_string_lossy().contains("ld-linux"),
                "{interpreter:?}"
            );
        }
        other => panic!("{other}"),
    }
}

#[test]
fn contradictory_plans_start_nothing() {
    let t = fixture();
    let refuse = |plan, stdio| match try_run(&plan, stdio).unwrap_err() {
        Error::Plan(error) => error,
        other => panic!("{other}"),
    };
    let mut plan = t.plan(&[]);
    assert_eq!(refuse(plan, pipes()), PlanError::NoProgram);
    plan = t.plan(&["true"]);
    plan.env.push(("A=B".into(), "".into()));
    assert_eq!(refuse(plan, pipes()), PlanError::Variable("A=B".into()));
    plan = t.plan(&["true"]);
    plan.tty = Some(WindowSize { rows: 1, cols: 1 });
    assert_eq!(
        refuse(plan, pipes()),
        PlanError::TerminalAndStream("stdout")
    );
    plan = t.plan(&["true"]);
    plan.cwd.path = "relative".into();
    assert!(matches!(refuse(plan, pipes()), PlanError::Relative { .. }));
    plan = t.plan(&["true"]);
    let dir = fs::File::open("/").unwrap().into();
    let stdio = Stdio {
        stdin: Input::Fd(dir),
        ..Stdio::default()
    };
    assert_eq!(
        refuse(plan, stdio),
        PlanError::DirectoryAsStdio("standard input")
    );
}

#[test]
fn setup_errors_name_stage_and_path() {
    let t = fixture();
    let plan = {
        let mut plan = t.plan(&["true"]);
        plan.rootfs = t.overlay(vec!["/does/not/exist".into()]);
        plan
    };
    let error = try_run(&plan, pipes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open the mount source /does/not/exist"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "No such file or directory (os error 2)");
}

#[test]
fn working_directories_are_entered_and_made() {
    let t = fixture();
    std::os::unix::fs::symlink("/tmp", t.base("link")).unwrap();
    let pwd = |path: &str, create| {
        let mut plan = t.plan(&["sh", "-c", "pwd -P"]);
        plan.cwd.path = path.into();
        plan.cwd.create = create;
        try_run(&plan, pipes()).map(|ran| ran.ok())
    };
    assert_eq!(pwd("/tmp", false).unwrap(), "/tmp\n");
    assert_eq!(pwd("/link", false).unwrap(), "/tmp\n");
    assert_eq!(pwd("/../../tmp", false).unwrap(), "/tmp\n");
    assert_eq!(pwd("/link/a/b", true).unwrap(), "/tmp/a/b\n");
    assert_eq!(
        pwd("/n", false).unwrap_err().to_string(),
        "cannot enter the working directory /n"
    );
    assert!(t.changes().contains(&"tmp/a/b".to_owned()));
}

#[test]
fn input_and_output_go_through_pipes() {
    let t = fixture();
    let stdio = Stdio {
        stdin: Input::Pipe,
        ..pipes()
    };
    let mut child = spawn(&t.sh("cat; echo err >&2"), stdio).unwrap();
    fs::File::from(child.stdin.take().unwrap())
        .write_all(b"in")
        .unwrap();
    let ran = finish(child);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("in", "err\n"));
}

#[test]
fn a_background_process_does_not_outlive_the_program() {
    let t = fixture();
    let started = Instant::now();
    let mut child = spawn(&t.sh("sleep 1000 & sleep 1000 & exit 3"), pipes()).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(3));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn dropping_a_child_ends_it() {
    let t = fixture();
    let child = spawn(&t.sh("sleep 1000"), Stdio::default()).unwrap();
    let pid = child.pid();
    drop(child);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    let t = fixture();
    for init in [true, false] {
        let mut plan = t.sh("sleep 0.3; exit 5");
        plan.init = init;
        let child = std::thread::spawn(move || spawn(&plan, Stdio::default()).unwrap()).join();
        assert_eq!(child.unwrap().wait().unwrap(), Exit::Code(5), "init {init}");
    }
}

#[test]
fn many_threads_may_spawn_at_once() {
    let t = fixture();
    let plan = {
        let mut plan = t.sh("echo $N");
        plan.rootfs = Rootfs::Directory {
            path: t.dir.join("base"),
        };
        plan
    };
    std::thread::scope(|scope| {
        for number in 0..16 {
            let mut plan = plan.clone();
            scope.spawn(move || {
                plan.env.push(("N".into(), number.to_string().into()));
                assert_eq!(run(&plan).ok(), format!("{number}\n"));
            });
        }
    });
}

#[test]
fn network_none_has_a_loopback_and_nothing_else() {
    let t = fixture();
    let plan = t.sh("cat /proc/net/dev | grep -c :; cat /sys/class/net/lo/flags");
    assert_eq!(run(&plan).ok(), "1\n0x9\n");
    let mut plan = t.sh("readlink /proc/self/ns/net");
    plan.network = Network::Host;
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(run(&plan).ok().trim(), ours.to_str().unwrap());
}

#[test]
fn host_names_are_set_inside_only() {
    let t = fixture();
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut plan = t.sh("hostname; cat /proc/sys/kernel/domainname");
    plan.hostname = Some("step".into());
    plan.domainname = Some("example".into());
    assert_eq!(run(&plan).ok(), "step\nexample\n");
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        before
    );
}

#[test]
fn limits_are_set_and_impossible_ones_are_errors() {
    let t = fixture();
    let mut plan = t.sh("ulimit -n; ulimit -Hn");
    plan.rlimits = vec![Rlimit {
        resource: Resource::Nofile,
        soft: Some(100),
        hard: Some(200),
    }];
    assert_eq!(run(&plan).ok(), "100\n200\n");
    plan.rlimits = vec![Rlimit {
        resource: Resource::Nofile,
        soft: Some(9),
        hard: Some(8),
    }];
    let error = try_run(&plan, pipes()).unwrap_err();
    assert_eq!(error.to_string(), "cannot set the resource limit nofile");
}

#[test]
fn devices_are_the_usual_ones() {
    let t = fixture();
    let script = "cd /dev; ls; stat -c '%n %t:%T %a' null zero full random urandom tty; \
        echo x > /dev/null; head -c 3 /dev/zero | wc -c; : > /dev/shm/f; ls /dev/pts; \
        for l in fd stdin ptmx; do readlink $l; done; grep -c mqueue /proc/mounts";
    insta::assert_snapshot!(run(&t.sh(script)).ok(), @r"
    core
    fd
    full
    mqueue
    null
    ptmx
    pts
    random
    shm
    stderr
    stdin
    stdout
    tty
    urandom
    zero
    null 1:3 666
    zero 1:5 666
    full 1:7 666
    random 1:8 666
    urandom 1:9 666
    tty 5:0 666
    3
    ptmx
    /proc/self/fd
    /proc/self/fd/0
    pts/ptmx
    1
    ");
}

#[test]
fn three_hundred_layers_stack_by_either_mount_call() {
    let t = fixture();
    let mut lowers = vec![t.dir.join("base")];
    for number in 0..300 {
        // Long names on purpose, with the characters that option strings give a meaning.
        let layer = t.dir.join(format!("layer:{number},{}", "x".repeat(150)));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("f{number}")), "").unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        lowers.insert(0, layer);
    }
    for old in [false, true] {
        let mut plan = t.sh("ls / | grep -c ^f[0-9]; cat /top; echo > /new; rm /f7");
        plan.rootfs = t.overlay(lowers.clone());
        let Rootfs::Overlay(overlay) = &mut plan.rootfs else {
            unreachable!()
        };
        overlay.old_mount_api = old;
        assert_eq!(run(&plan).ok(), "300\n299", "old {old}");
        assert_eq!(t.changes(), ["f7", "new"]);
        let whiteout = fs::symlink_metadata(t.upper("f7")).unwrap();
        assert_eq!(
            (whiteout.mode() & 0o170_000, whiteout.rdev()),
            (0o20_000, 0)
        );
        fs::remove_file(t.upper("f7")).unwrap();
        fs::remove_file(t.upper("new")).unwrap();
    }
}

#[test]
fn an_overlay_is_mounted_aside_by_either_mount_call() {
    let t = fixture();
    for old in [false, true] {
        let Rootfs::Overlay(mut overlay) = t.overlay(vec![t.dir.join("base")]) else {
            unreachable!()
        };
        overlay.old_mount_api = old;
        let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
        let (here, before) = (std::env::current_dir().unwrap(), mounts());
        let mount = cooper::sandbox::mount_overlay(&overlay).unwrap();
        let root = std::path::PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        assert!(root.join("bin").exists(), "old {old}");
        fs::write(root.join("new"), "").unwrap();
        assert_eq!(t.changes(), ["new"]);
        fs::remove_file(root.join("new")).unwrap();
        let own = |mounts: String| {
            mounts
                .lines()
                .filter(|m| m.contains(t.dir.to_str().unwrap()))
                .count()
        };
        assert_eq!(own(mounts()), own(before), "nothing stays in sight");
        assert_eq!(std::env::current_dir().unwrap(), here);
    }
}

#[test]
fn a_volatile_overlay_mounts_once() {
    let t = fixture();
    let mut plan = t.sh("echo > /new");
    let Rootfs::Overlay(overlay) = &mut plan.rootfs else {
        unreachable!()
    };
    overlay.volatile = true;
    let _ = run(&plan).ok();
    assert_eq!(t.changes(), ["new"]);
    assert!(matches!(try_run(&plan, pipes()), Err(Error::Setup { .. })));
}

#[test]
fn a_root_from_nothing_runs_a_static_program() {
    let t = fixture();
    fs::create_dir(t.upper("bin")).unwrap();
    fs::copy("/bin/busybox", t.upper("bin/busybox")).unwrap();
    let mut plan = t.plan(&["/bin/busybox", "ls", "/"]);
    plan.rootfs = t.overlay(vec![]);
    assert_eq!(run(&plan).ok(), "bin\ndev\nproc\nsys\n");
    assert_eq!(t.changes(), ["bin", "bin/busybox"]);
}

#[test]
fn directories_and_renames_stay_a_plain_diff() {
    let t = fixture();
    fs::create_dir_all(t.base("d/e")).unwrap();
    fs::write(t.base("d/e/f"), "f").unwrap();
    let plan = t.sh("mv /d /moved; chmod 700 /etc; rm -r /root; mkdir /root");
    let _ = run(&plan).ok();
    let changes = t.changes();
    assert_eq!(
        changes,
        ["d", "etc", "moved", "moved/e", "moved/e/f", "root"]
    );
    for path in ["moved", "moved/e", "etc"] {
        let mut buffer = [0_u8; 256];
        for name in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
            let got = rustix::fs::lgetxattr(t.upper(path), name, &mut buffer);
            assert_eq!(got, Err(rustix::io::Errno::NODATA), "{name} on {path}");
        }
    }
}

#[test]
fn a_read_only_root_takes_no_writes_but_its_mounts_do() {
    let t = fixture();
    let mut plan = t.sh("touch /x 2>/dev/null && echo bad; touch /mnt/x && echo good");
    plan.read_only_root = true;
    plan.mounts = vec![Mount {
        target: "/mnt".into(),
        kind: MountKind::Tmpfs {
            size: Some(1 << 20),
            inodes: None,
            mode: 0o755,
            owner: (0, 0),
        },
        access: Access::default(),
        propagation: Propagation::Private,
        give: false,
    }];
    assert_eq!(run(&plan).ok(), "good\n");
    assert_eq!(t.changes(), [] as [&str; 0]);
}

#[test]
fn mounts_of_every_kind_are_there() {
    let t = fixture();
    let host = t.dir.join("host");
    fs::create_dir_all(host.join("sub")).unwrap();
    fs::write(host.join("file"), "from the host\n").unwrap();
    let bind = |source, target: &str, read_only| Mount {
        target: target.into(),
        kind: MountKind::Bind {
            source,
            recursive: true,
        },
        access: Access {
            read_only,
            ..Access::default()
        },
        propagation: Propagation::Private,
        give: false,
    };
    let mut plan = t.sh(
        "cat /a/file /b /by/fd/file /etc/made; stat -c '%a %u:%g' /etc/made; \
         touch /a/new 2>/dev/null || echo ro; touch /w/written; \
         touch /t/x; stat -c %a /t; /t/x 2>/dev/null || echo noexec",
    );
    plan.mounts = vec![
        bind(Source::Path(host.clone()), "/a", true),
        bind(Source::Path(host.join("file")), "/b", true),
        bind(Source::Fd(0), "/by/fd", true),
        bind(Source::Path(host.join("sub")), "/w", false),
        Mount {
            target: "/etc/made".into(),
            kind: MountKind::File {
                content: Content(b"made\n".to_vec()),
                mode: 0o400,
                uid: 33,
                gid: 4,
            },
            access: Access::default(),
            propagation: Propagation::Private,
            give: false,
        },
        Mount {
            target: "/t".into(),
            kind: MountKind::Tmpfs {
                size: Some(4096),
                inodes: None,
                mode: 0o1777,
                owner: (0, 0),
            },
            access: Access {
                noexec: true,
                ..Access::default()
            },
            propagation: Propagation::Private,
            give: false,
        },
    ];
    let fds = vec![fs::File::open(&host).unwrap().into()];
    let ran = try_run(&plan, Stdio { fds, ..pipes() }).unwrap();
    let host_line = "from the host\n";
    assert_eq!(
        ran.ok(),
        format!("{}made\n400 33:4\nro\n1777\nnoexec\n", host_line.repeat(3))
    );
    assert!(host.join("sub/written").exists());
    assert_eq!(t.changes(), [] as [&str; 0]);
    plan.mounts.truncate(3);
    assert!(matches!(
        try_run(&plan, pipes()).unwrap_err(),
        Error::Plan(PlanError::Descriptor { index: 0, given: 0 })
    ));
}

#[test]
fn a_mount_inside_another_comes_after_it_whatever_the_order() {
    let t = fixture();
    let tmpfs = |target: &str| Mount {
        target: target.into(),
        kind: MountKind::Tmpfs {
            size: None,
            inodes: None,
            mode: 0o755,
            owner: (0, 0),
        },
        access: Access::default(),
        propagation: Propagation::Private,
        give: false,
    };
    let mut plan = t.sh("grep -c ' /a' /proc/mounts; ls /a");
    plan.mounts = vec![tmpfs("/a/b"), tmpfs("/a")];
    assert_eq!(run(&plan).ok(), "2\nb\n");
    assert_eq!(t.changes(), [] as [&str; 0]);
}

#[test]
fn a_terminal_is_one() {
    let t = fixture();
    let mut plan =
        t.sh("tty; stty size; test -c /dev/console && echo console; read x; echo got $x");
    plan.tty = Some(WindowSize { rows: 12, cols: 34 });
    let mut child = spawn(&plan, Stdio::default()).unwrap();
    let mut pty = fs::File::from(child.pty().unwrap().try_clone().unwrap());
    pty.write_all(b"typed\n").unwrap();
    let mut out = Vec::new();
    // The end of a terminal is EIO once nobody has the other side open.
    let _ = pty.read_to_end(&mut out);
    let out = String::from_utf8(out).unwrap().replace("typed\r\n", "");
    assert_eq!(child.wait().unwrap(), Exit::Code(0), "{out}");
    assert_eq!(
        out,
        "/dev/pts/0\r\n12 34\r\nconsole\r\ngot typed\r\n".replace("got typed\r\n", "got ")
    );
}

#[test]
fn ctrl_c_typed_into_the_terminal_interrupts_the_program() {
    let t = fixture();
    let mut plan = t.plan(&["sh", "-c", "echo up; exec sleep 1000"]);
    plan.tty = Some(WindowSize { rows: 24, cols: 80 });
    plan.user = "www-data".into();
    let mut child = spawn(&plan, Stdio::default()).unwrap();
    let mut pty = fs::File::from(child.pty().unwrap().try_clone().unwrap());
    pty.read_exact(&mut [0; 2]).unwrap();
    cooper::sandbox::tty::set_window_size(&pty, WindowSize { rows: 5, cols: 6 }).unwrap();
    assert_eq!(cooper::sandbox::tty::window_size(&pty).unwrap().cols, 6);
    pty.write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(2));
}

#[test]
fn no_mount_is_left_on_the_host() {
    let t = fixture();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut child = spawn(&t.sh("sleep 1000"), Stdio::default()).unwrap();
    let during = fs::read_to_string("/proc/self/mountinfo").unwrap();
    child.signal(Signal::KILL).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    assert_eq!(before, during);
    // The overlay is gone, so its directories can be renamed and removed.
    fs::rename(t.upper(""), t.dir.join("layer")).unwrap();
}

#[test]
fn output_can_be_a_file() {
    let t = fixture();
    let path = t.dir.join("log");
    let stdio = Stdio {
        stdout: Output::Fd(fs::File::create(&path).unwrap().into()),
        ..Stdio::default()
    };
    assert!(stdio.fds.iter().all(|fd| fd.as_raw_fd() > 2));
    let ran = try_run(&t.sh("echo logged"), stdio).unwrap();
    assert_eq!(ran.exit, Exit::Code(0));
    assert_eq!(fs::read_to_string(path).unwrap(), "logged\n");
}
