//! Mount points that had to be made are taken away again, and nothing else is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use cooper::sandbox::{Access, Content, Mount, MountKind, Plan, Propagation, Rootfs};

use crate::sandbox::fixture;
use crate::support::{Fixture, run};

fn file(target: &str) -> Mount {
    let content = Content(b"content\n".to_vec());
    Mount {
        target: target.into(),
        kind: MountKind::File {
            content,
            mode: 0o644,
            uid: 0,
            gid: 0,
        },
        access: Access::default(),
        propagation: Propagation::Private,
        give: false,
    }
}

fn tmpfs(target: &str) -> Mount {
    Mount {
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
    }
}

fn with(t: &Fixture, script: &str, mounts: Vec<Mount>) -> Plan {
    let mut plan = t.sh(script);
    plan.mounts = mounts;
    plan
}

const NOTHING: [&str; 0] = [];

#[test]
fn hosts_and_resolv_conf_leave_no_trace() {
    let t = fixture();
    let before = fs::metadata(t.upper("")).unwrap().mtime_nsec();
    let mounts = vec![file("/etc/hosts"), file("/etc/resolv.conf")];
    let plan = with(
        &t,
        "cat /etc/hosts /etc/resolv.conf; echo more >> /etc/hosts",
        mounts,
    );
    assert_eq!(run(&plan).ok(), "content\ncontent\n");
    // Not even /etc, which was copied up to hold them, nor the time of the root.
    assert_eq!(t.changes(), NOTHING);
    assert_eq!(fs::metadata(t.upper("")).unwrap().mtime_nsec(), before);
}

#[test]
fn deep_mount_points_and_their_made_parents_vanish() {
    let t = fixture();
    let plan = with(
        &t,
        "ls /mnt/x/y",
        vec![tmpfs("/mnt/x/y/z"), file("/mnt/x/y/f")],
    );
    assert_eq!(run(&plan).ok(), "f\nz\n");
    assert_eq!(t.changes(), NOTHING);
}

#[test]
fn what_the_program_put_beside_a_mount_stays() {
    let t = fixture();
    let script = "touch /mnt/x/mine /etc/mine; chmod 700 /opt/a";
    let mounts = vec![tmpfs("/mnt/x/y"), file("/etc/hosts"), tmpfs("/opt/a/b")];
    let _ = run(&with(&t, script, mounts)).ok();
    assert_eq!(
        t.changes(),
        [
            "etc",
            "etc/mine",
            "mnt",
            "mnt/x",
            "mnt/x/mine",
            "opt",
            "opt/a"
        ]
    );
    assert_eq!(
        fs::metadata(t.upper("opt/a")).unwrap().mode() & 0o777,
        0o700
    );
}

#[test]
fn existing_mount_points_are_left_as_they_are() {
    let t = fixture();
    fs::write(t.base("etc/hosts"), "the image's\n").unwrap();
    assert_eq!(
        run(&with(&t, "cat /etc/hosts", vec![file("/etc/hosts")])).ok(),
        "content\n"
    );
    assert_eq!(t.changes(), NOTHING);
    assert_eq!(
        fs::read_to_string(t.base("etc/hosts")).unwrap(),
        "the image's\n"
    );
}

#[test]
fn targets_behind_links_and_whiteouts_are_made_where_they_lead() {
    let t = fixture();
    fs::create_dir_all(t.base("run")).unwrap();
    fs::create_dir_all(t.base("var")).unwrap();
    symlink("/run", t.base("var/run")).unwrap();
    symlink(
        "../run/systemd/resolve/stub-resolv.conf",
        t.base("etc/resolv.conf"),
    )
    .unwrap();
    let mounts = vec![file("/etc/resolv.conf"), file("/var/run/secrets/key")];
    let script = "cat /run/systemd/resolve/stub-resolv.conf /run/secrets/key";
    assert_eq!(run(&with(&t, script, mounts)).ok(), "content\ncontent\n");
    assert_eq!(t.changes(), NOTHING);
    // A layer that deleted the place: the mount point is made on top of the whiteout.
    let layer = t.dir.join("layer");
    fs::create_dir(&layer).unwrap();
    let whiteout = rustix::fs::makedev(0, 0);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, layer.join("run"), kind, 0.into(), whiteout).unwrap();
    let mut plan = with(&t, "cat /run/secrets/key", vec![file("/run/secrets/key")]);
    plan.rootfs = t.overlay(vec![layer, t.dir.join("base")]);
    assert_eq!(run(&plan).ok(), "content\n");
}

#[test]
fn t_mnt_5_cleaning_up_follows_no_link_of_the_program() {
    let t = fixture();
    let canary = t.dir.join("canary");
    for dir in ["y", "x/y"] {
        fs::create_dir_all(canary.join(dir)).unwrap();
    }
    fs::write(canary.join("hosts"), "").unwrap();
    let before = fs::metadata(&canary).unwrap();
    // The mount stands on /mnt/x/y; the program can't unmount, but it can move the parents.
    let script = format!(
        "mv /mnt/x /mnt/away 2>/dev/null; mv /mnt /gone 2>/dev/null; ln -s {0} /mnt/x; \
         ln -s {0} /mnt; mv /etc /etc2 2>/dev/null; ln -s {0} /etc; true",
        canary.display()
    );
    let mut plan = with(&t, &script, vec![tmpfs("/mnt/x/y"), file("/etc/hosts")]);
    let _ = run(&plan);
    plan.rootfs = Rootfs::Directory {
        path: t.dir.join("base"),
    };
    let _ = run(&plan);
    let after = fs::metadata(&canary).unwrap();
    assert!(canary.join("hosts").exists() && canary.join("x/y").exists());
    assert!(canary.join("y").exists());
    assert_eq!(
        (before.mtime_nsec(), before.ino()),
        (after.mtime_nsec(), after.ino())
    );
}

#[test]
fn a_plain_directory_is_cleaned_up_too() {
    let t = fixture();
    let mut plan = with(
        &t,
        "cat /etc/hosts",
        vec![file("/etc/hosts"), tmpfs("/a/b")],
    );
    plan.rootfs = Rootfs::Directory {
        path: t.dir.join("base"),
    };
    let before = fs::metadata(t.base("etc")).unwrap().mtime_nsec();
    assert_eq!(run(&plan).ok(), "content\n");
    for made in ["etc/hosts", "a", "proc", "dev", "sys"] {
        assert!(!t.base(made).exists(), "{made}");
    }
    assert_eq!(fs::metadata(t.base("etc")).unwrap().mtime_nsec(), before);
}

#[test]
fn a_copied_up_parent_with_a_changed_mode_stays() {
    let t = fixture();
    fs::set_permissions(t.base("etc"), fs::Permissions::from_mode(0o755)).unwrap();
    let _ = run(&with(&t, "chmod 711 /etc", vec![file("/etc/hosts")])).ok();
    assert_eq!(t.changes(), ["etc"]);
    assert_eq!(fs::metadata(t.upper("etc")).unwrap().mode() & 0o777, 0o711);
}
