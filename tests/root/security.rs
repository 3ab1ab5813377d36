//! Known ways out of a container, each tried (the ids are those of the list of known flaws).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

use cooper::sandbox::{Access, Caps, Error, Exit, Mount, MountKind, Propagation, Seccomp, Source};

use crate::canary::racing_time;
use crate::sandbox::fixture;
use crate::support::{pipes, run, try_run};

const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Groups)' /proc/self/status";

#[test]
fn t_rt_7_capabilities_are_dockers_and_none_is_inheritable() {
    let t = fixture();
    let mut plan = t.sh(STATUS);
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    let status = |prm: &str, bnd: &str, nnp: u8, groups: &str| {
        format!(
            "Groups:\t{groups} \nCapInh:\t{none}\nCapPrm:\t{prm}\nCapEff:\t{prm}\n\
             CapBnd:\t{bnd}\nCapAmb:\t{none}\nNoNewPrivs:\t{nnp}\n"
        )
    };
    assert_eq!(run(&plan).ok(), status(docker, docker, 0, "0"));
    plan.user = "www-data".into();
    plan.no_new_privs = true;
    assert_eq!(run(&plan).ok(), status(none, docker, 1, "4 33"));
    plan.user = "".into();
    plan.caps = Caps::NONE;
    assert_eq!(run(&plan).ok(), status(none, none, 1, "0"));
}

#[test]
fn t_mnt_6_nothing_of_the_caller_is_inherited() {
    let t = fixture();
    // Descriptors without close-on-exec, as a careless library would leave them.
    let leaks: Vec<OwnedFd> = (0..20)
        .map(|_| {
            let fd: OwnedFd = fs::File::open("/").unwrap().into();
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
            fd
        })
        .collect();
    assert!(leaks.iter().any(|fd| fd.as_raw_fd() > 3));
    for init in [true, false] {
        let mut plan = t.sh("for f in /proc/self/fd/*; do echo ${f##*/}; done; env | sort");
        plan.init = init;
        // The shell itself opens one to read the directory.
        let want = "0\n1\n2\n3\nHOME=/root\nPATH=/usr/bin:/bin\nPWD=/\nSHLVL=1\n";
        assert_eq!(run(&plan).ok(), want);
    }
}

#[test]
fn the_hosts_tree_is_gone_from_the_mount_namespace() {
    let t = fixture();
    let mounts = run(&t.sh("cat /proc/self/mountinfo")).ok();
    let points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    assert_eq!(points[..4], ["/", "/proc", "/dev", "/dev/pts"], "{mounts}");
    let own = |point: &&str| {
        *point == "/"
            || ["/proc", "/dev", "/sys"]
                .iter()
                .any(|top| point.starts_with(top))
    };
    assert!(points.iter().all(own), "{mounts}");
    assert_eq!(
        points.iter().filter(|point| **point == "/").count(),
        1,
        "{mounts}"
    );
    assert!(!mounts.contains(t.dir.to_str().unwrap()), "{mounts}");
    // A process that is chrooted, and not at the root of its namespace, may not do this.
    let mut plan = t.sh("busybox unshare -U true");
    plan.seccomp = Seccomp::Unconfined;
    assert_eq!(run(&plan).exit, Exit::Code(0));
}

#[test]
fn t_rt_1_a_working_directory_can_not_be_a_descriptor() {
    let t = fixture();
    for path in (0..64).map(|fd| format!("/proc/self/fd/{fd}")).chain([
        "/proc/self/cwd/../..".into(),
        "/proc/1/root/proc/1/cwd".into(),
        "/proc/self/root".into(),
    ]) {
        for create in [false, true] {
            let mut plan = t.sh("ls -d /proc/self/cwd/*");
            plan.cwd.path = path.clone().into();
            plan.cwd.create = create;
            match try_run(&plan, pipes()) {
                Err(Error::Setup { stage, .. }) => {
                    assert_eq!(stage.to_string(), "enter the working directory", "{path}");
                }
                other => panic!("{path}: {other:?}"),
            }
        }
    }
}

#[test]
fn t_rt_2_our_own_binary_can_not_be_reached_for_writing() {
    let t = fixture();
    let binary = env!("CARGO_BIN_EXE_cooper");
    let before = fs::metadata(binary).unwrap();
    let error = try_run(&t.plan(&["/proc/self/exe"]), pipes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "program `/proc/self/exe` can't be executed"
    );
    fs::write(t.base("bin/script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(
        t.base("bin/script"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let _ = try_run(&t.plan(&["/bin/script"]), pipes());
    // With all powers of root, as `--privileged` would have it, the file is still read-only.
    for caps in [Caps::DOCKER, Caps::ALL] {
        let mut plan = t.sh("readlink /proc/1/exe; for n in 1 2 3 4 5; do \
             echo x 2>/dev/null >> /proc/1/exe && echo written; done; \
             cat /proc/1/environ; cat /proc/1/mem >/dev/null; true");
        plan.caps = caps;
        let ran = run(&plan);
        assert!(!ran.stdout.contains("written"), "{ran:?}");
        if caps == Caps::DOCKER {
            assert_eq!(ran.stdout, "", "{ran:?}");
        }
    }
    let after = fs::metadata(binary).unwrap();
    assert_eq!(
        (before.mtime_nsec(), before.len()),
        (after.mtime_nsec(), after.len())
    );
}

#[test]
fn t_rt_3_system_directories_that_are_links_are_refused() {
    let t = fixture();
    let canary = t.dir.join("canary");
    fs::create_dir(&canary).unwrap();
    for name in ["proc", "sys", "dev"] {
        symlink(&canary, t.base(name)).unwrap();
        let error = try_run(&t.plan(&["true"]), pipes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot create the mount point /{name}")
        );
        fs::remove_file(t.base(name)).unwrap();
    }
    assert_eq!(fs::read_dir(canary).unwrap().count(), 0);
}

#[test]
fn t_rt_3_links_inside_the_images_dev_are_covered() {
    let t = fixture();
    fs::create_dir_all(t.base("dev")).unwrap();
    for name in ["null", "pts", "console", "ptmx"] {
        symlink("/etc/passwd", t.base("dev").join(name)).unwrap();
    }
    let plan = t.sh("stat -c %t:%T /dev/null; echo x > /dev/null; wc -l < /etc/passwd");
    assert_eq!(run(&plan).ok(), "1:3\n2\n");
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_refuse_writes() {
    let t = fixture();
    let script = "for f in kcore keys timer_list interrupts; do \
            test -e /proc/$f && stat -c %t:%T /proc/$f; done | sort -u; \
        ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : | grep -c .; \
        for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/x /sys/x; do \
            (echo x > $f) 2>/dev/null && echo wrote $f; done; \
        touch /sys/firmware/x 2>/dev/null && echo wrote; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; true";
    assert_eq!(run(&t.sh(script)).ok(), "1:3\n0\n");
    fs::write(t.base("etc/secret"), "secret").unwrap();
    let mut plan = t.sh("cat /etc/secret; echo x > /tmp/f || echo ro");
    plan.masked_paths = vec!["/etc/secret".into(), "/absent".into()];
    plan.read_only_paths = vec!["/tmp".into(), "/absent".into()];
    plan.user = "0".into();
    let ran = run(&plan);
    assert_eq!(
        (ran.exit, ran.stdout.as_str()),
        (Exit::Code(0), "ro\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn t_rt_4_nothing_can_be_mounted_over_or_into_proc() {
    let t = fixture();
    for target in ["/proc", "/proc/self", "/proc/sys/kernel"] {
        let mut plan = t.plan(&["true"]);
        plan.mounts = vec![Mount {
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
        }];
        let error = try_run(&plan, pipes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot create the mount point {target}")
        );
    }
}

#[test]
fn t_mnt_1_a_mount_target_can_not_leave_the_root() {
    let t = fixture();
    let canary = t.dir.join("canary");
    fs::create_dir(&canary).unwrap();
    symlink(&canary, t.base("out")).unwrap();
    symlink("../../../../..", t.base("up")).unwrap();
    let mut plan = t.sh("grep -c 'tmpfs.* /[^ ]*sub ' /proc/mounts");
    let tmpfs = |target: String| Mount {
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
    plan.mounts = vec![
        tmpfs("/out/sub".into()),
        tmpfs(format!("/up{}/up-sub", canary.display())),
    ];
    assert_eq!(run(&plan).ok(), "2\n");
    assert_eq!(fs::read_dir(canary).unwrap().count(), 0);
    assert_eq!(t.changes(), [] as [&str; 0]);
}

#[test]
fn t_dos_4_a_user_database_that_is_no_file_is_refused() {
    let t = fixture();
    let passwd = t.base("etc/passwd");
    let try_it = || {
        let started = Instant::now();
        let result = try_run(&t.sh("true"), pipes());
        assert!(started.elapsed() < Duration::from_secs(10));
        result.map(|ran| ran.exit)
    };
    let refused = "cannot read the user database /etc/passwd";
    fs::remove_file(&passwd).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, fifo, 0o644.into(), 0).unwrap();
    assert_eq!(try_it().unwrap_err().to_string(), refused);
    fs::remove_file(&passwd).unwrap();
    symlink("/dev/zero", &passwd).unwrap();
    assert_eq!(try_it().unwrap_err().to_string(), refused);
    fs::remove_file(&passwd).unwrap();
    fs::File::create(&passwd)
        .unwrap()
        .set_len(10 << 30)
        .unwrap();
    assert_eq!(try_it().unwrap_err().to_string(), refused);
    fs::remove_file(&passwd).unwrap();
    // A link to a file of the host leads to the image's own, which isn't there.
    symlink(t.base("etc/group"), &passwd).unwrap();
    assert_eq!(try_it().unwrap(), Exit::Code(0));
}

#[test]
fn t_rt_5_a_racing_link_on_a_shared_volume_leads_nowhere_outside() {
    let t = fixture();
    let canary = t.dir.join("canary");
    let volume = t.dir.join("volume");
    fs::create_dir(&canary).unwrap();
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&canary, volume.join("b")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = fs::File::open(&volume).unwrap();
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::fs::renameat_with(&dir, "a", &dir, "b", flags).unwrap();
            }
        });
        let mut plan = t.sh("true");
        plan.mounts = vec![
            Mount {
                target: "/v".into(),
                kind: MountKind::Bind {
                    source: Source::Path(volume.clone()),
                    recursive: false,
                },
                access: Access::default(),
                propagation: Propagation::Private,
                give: false,
            },
            Mount {
                target: "/v/a/made/here".into(),
                kind: MountKind::Tmpfs {
                    size: None,
                    inodes: None,
                    mode: 0o755,
                    owner: (0, 0),
                },
                access: Access::default(),
                propagation: Propagation::Private,
                give: false,
            },
        ];
        let started = Instant::now();
        let mut ran = 0;
        let enough = |ran| ran > 0 || started.elapsed() > Duration::from_secs(60);
        while started.elapsed() < racing_time() || !enough(ran) {
            // Either it got there or it was refused; outside nothing may happen.
            if try_run(&plan, pipes()).is_ok() {
                ran += 1;
            }
            assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(ran > 0, "no run ever succeeded");
    });
}

#[test]
fn t_rt_9_control_groups_can_not_be_changed_from_inside() {
    let t = fixture();
    let script = "cd /sys/fs/cgroup && for d in . *; do \
            mkdir $d/x 2>/dev/null && echo made $d/x; \
            (echo $$ > $d/cgroup.procs) 2>/dev/null && echo entered $d; \
        done; true";
    assert_eq!(run(&t.sh(script)).ok(), "");
}
