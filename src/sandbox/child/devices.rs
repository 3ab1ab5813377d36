//! `/dev`: a small tmpfs with the nodes, links and mounts that every program may expect.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::super::error::{Failure, Stage};
use super::At;
use super::root::{attach, copy, make};

/// Name, major, minor; Documentation/admin-guide/devices.txt.
const NODES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

const QUIET: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const INERT: MountAttrFlags = QUIET.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Our own `/dev`.
pub(super) struct Devices {
    pub(super) fd: OwnedFd,
    /// The devpts instance on `pts`.
    pub(super) terminals: OwnedFd,
}

/// Mounts and fills `/dev` on `place`.
pub(super) fn mount(place: &OwnedFd, shm_size: u64) -> Result<Devices, Failure> {
    let options = [("mode", Some("0755")), ("size", Some("65536k"))];
    let dev =
        make("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID).at(Stage::Mount, "/dev")?;
    attach(&dev, place).at(Stage::Mount, "/dev")?;
    for &(name, major, minor) in NODES {
        node(&dev, name, major, minor).at(Stage::Device, name)?;
    }
    for (text, name) in LINKS {
        rustix::fs::symlinkat(*text, &dev, *name).at(Stage::Device, *name)?;
    }
    let terminals = devpts().at(Stage::Mount, "/dev/pts")?;
    below(&dev, "pts", &terminals)?;
    let shm = shm(shm_size).at(Stage::Mount, "/dev/shm")?;
    below(&dev, "shm", &shm)?;
    match make("mqueue", &[], INERT) {
        Ok(queues) => below(&dev, "mqueue", &queues)?,
        // A kernel without POSIX message queues.
        Err(Errno::NODEV) => (),
        Err(errno) => return Err(Failure::setup(Stage::Mount, "/dev/mqueue", errno)),
    }
    Ok(Devices { fd: dev, terminals })
}

fn below(dev: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<(), Failure> {
    let path = format!("/dev/{name}");
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)).at(Stage::Device, &path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::openat(dev, name, flags, Mode::empty()).at(Stage::Device, &path)?;
    attach(tree, &place).at(Stage::Mount, path)
}

/// Makes a node or, where that is not allowed (user namespaces), binds the host's.
fn node(dev: &OwnedFd, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
    let number = makedev(major, minor);
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number) {
        Err(Errno::PERM) => (),
        done => return done,
    }
    let tree = copy(CWD, format!("/dev/{name}"), false)?;
    if !is_device(&tree, number)? {
        return Err(Errno::NXIO);
    }
    let place = new_file(dev, name)?;
    attach(&tree, &place)
}

/// An empty file to mount on.
pub(super) fn new_file(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))
}

/// Whether `fd` is the character device with this number.
fn is_device(fd: impl AsFd, number: u64) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(fd)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(kind == FileType::CharacterDevice && stat.st_rdev == number)
}

/// A detached mount of `/dev/null`, checked by its device number (CVE-2025-31133).
pub(super) fn null(dev: &OwnedFd) -> Result<OwnedFd, Errno> {
    let tree = copy(dev, "null", false)?;
    if is_device(&tree, makedev(1, 3))? {
        Ok(tree)
    } else {
        Err(Errno::NXIO)
    }
}

fn devpts() -> Result<OwnedFd, Errno> {
    let options = [
        ("newinstance", None),
        ("ptmxmode", Some("0666")),
        ("mode", Some("0620")),
    ];
    let with_group: Vec<_> = options
        .iter()
        .copied()
        .chain([("gid", Some("5"))])
        .collect();
    // Group 5 is `tty` everywhere, but a small id map may not have it.
    match make("devpts", &with_group, QUIET) {
        Err(Errno::INVAL) => make("devpts", &options, QUIET),
        done => done,
    }
}

fn shm(size: u64) -> Result<OwnedFd, Errno> {
    let size = size.to_string();
    make(
        "tmpfs",
        &[("mode", Some("1777")), ("size", Some(&size))],
        INERT,
    )
}
