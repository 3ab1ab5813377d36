//! The tries themselves: each runs in a process that ends afterwards.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount,
};

use crate::sys;

use super::super::userns::{HostInfo, Rung};

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A user namespace of our own.
pub(super) fn user_namespace() -> Result<(), Errno> {
    sys::process::unshare_user_and_mounts().map_err(|error| errno(&error))
}

/// Power over mounts, as root of the machine or of a namespace with one id, and a mount and pid
/// namespace for the next child.
pub(super) fn enter(host: &HostInfo) -> Result<(), Errno> {
    if host.rung() != Ok(Rung::Root) {
        user_namespace()?;
        let write = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| errno(&error))
        };
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("0 {} 1", host.uid))?;
        write("gid_map", format!("0 {} 1", host.gid))?;
    }
    sys::process::unshare_mounts_and_pids().map_err(|error| errno(&error))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)
}

fn made(name: &str, options: &[(&str, &str)], flags: &[&str]) -> Result<OwnedFd, Errno> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    for flag in flags {
        fsconfig_set_flag(&context, *flag)?;
    }
    fsconfig_create(&context)?;
    let none = MountAttrFlags::empty();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none)
}

/// How a directory is opened to make others in it.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The directory at `path`, if there is one.
pub(super) fn directory(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

/// An empty file system in memory.
pub(super) fn tmpfs() -> Result<OwnedFd, Errno> {
    made("tmpfs", &[], &[])
}

/// Three directories in `place` become an overlay, and go again.
pub(super) fn overlay(place: &OwnedFd, userxattr: bool) -> Result<(), Errno> {
    let own = format!(".overlay-{}", rustix::process::getpid());
    rustix::fs::mkdirat(place, &own, Mode::RWXU)?;
    let own_fd = rustix::fs::openat(place, &own, DIRECTORY, Mode::empty())?;
    let tried = try_overlay(&own_fd, userxattr);
    // The kernel makes the inner `work`. What can't be removed is an empty directory.
    for name in ["lower", "upper", "work/work", "work"] {
        let _ = rustix::fs::unlinkat(&own_fd, name, AtFlags::REMOVEDIR);
    }
    let _ = rustix::fs::unlinkat(place, &own, AtFlags::REMOVEDIR);
    tried
}

fn try_overlay(dir: &OwnedFd, userxattr: bool) -> Result<(), Errno> {
    let place = |name: &str| format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    for name in ["lower", "upper", "work"] {
        rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    }
    let (lower, upper, work) = (place("lower"), place("upper"), place("work"));
    let options = [
        ("lowerdir", lower.as_str()),
        ("upperdir", upper.as_str()),
        ("workdir", work.as_str()),
    ];
    let flags: &[&str] = if userxattr { &["userxattr"] } else { &[] };
    made("overlay", &options, flags).map(drop)
}

/// A `/proc` of the new pid namespace.
pub(super) fn proc() -> Result<(), Errno> {
    made("proc", &[], &[]).map(drop)
}

/// A tmpfs becomes `/`.
pub(super) fn pivot_root() -> Result<(), Errno> {
    let tmpfs = made("tmpfs", &[], &[])?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tmpfs, "", CWD, "/proc", flags)?;
    rustix::process::fchdir(&tmpfs)?;
    rustix::process::pivot_root(".", ".")
}

/// A filter that allows everything.
pub(super) fn seccomp() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    let allow = sys::seccomp::Instruction {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    sys::seccomp::install(&[allow]).map_err(|error| errno(&error))
}

/// The device behind user-space networks.
pub(super) fn tun() -> std::io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    Ok(())
}
