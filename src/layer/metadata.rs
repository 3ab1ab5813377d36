//! Gives an entry that was just made its owner, attributes, mode and times, in that order: a new
//! owner takes away set-uid bits and capabilities, an attribute may need the right to write that
//! the mode takes away, an ACL may clear set-gid, and every change moves the times.
//!
//! In a tree whose owners are remembered ([`crate::owners`]) nothing is given away: what was asked
//! for goes into attributes, before the mode that may forbid to write them.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::owners::{self, Device, Record};

use super::entry::{Kind, Meta, Time};
use super::error::Error;
use super::node::{Marks, Ownership, belongs_to_image, read_links};
use super::path::TreePath;
use super::tree_write::TreeForm;

/// How a new entry is reached.
#[derive(Debug)]
pub(super) enum Made<'a> {
    /// A regular file or a directory, open.
    Open(BorrowedFd<'a>),
    /// Anything else, by its name in an open directory.
    Named {
        dir: BorrowedFd<'a>,
        name: &'a [u8],
        /// It is a symbolic link, which has no mode of its own.
        link: bool,
    },
}

/// Applies `meta`. Outside of an overlay, what the kernel reserves for root is left undone; a file
/// that is not given to its owner is then not set-uid or set-gid either.
pub(super) fn apply(
    form: TreeForm,
    made: &Made<'_>,
    meta: &Meta,
    path: &TreePath,
) -> Result<(), Error> {
    if let TreeForm::Overlay(marks) = form
        && let Ownership::Remembered { modes } = marks.ownership()
    {
        return remember(made, meta, None, modes, path);
    }
    let lenient = !matches!(form, TreeForm::Overlay(_));
    let (uid, gid) = match form {
        TreeForm::Callers => caller(),
        _ => (meta.uid, meta.gid),
    };
    let kept = match chown(made, uid, gid) {
        Ok(()) => (uid, gid) == (meta.uid, meta.gid),
        Err(Errno::PERM | Errno::INVAL) if lenient => false,
        Err(errno) => return Err(Error::io("set the owner of", path, errno)),
    };
    for (name, value) in &meta.xattrs {
        if !belongs_to_image(name) {
            continue; // A layer from elsewhere may name what only the host gives.
        }
        match set_xattr(made, name, value) {
            Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) if lenient => {}
            set => set.map_err(|errno| Error::io("set an attribute of", path, errno))?,
        }
    }
    let mode = if kept { meta.mode } else { meta.mode & 0o1777 };
    chmod(made, mode).map_err(|errno| Error::io("set the mode of", path, errno))?;
    set_time(made, meta.mtime).map_err(|errno| Error::io("set the time of", path, errno))
}

/// Who writes.
fn caller() -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    (uid.as_raw(), gid.as_raw())
}

/// Makes an entry of `root`, an open directory that becomes the top of a tree, look like `meta`:
/// owner, mode and time, and the attributes of an image.
pub fn dress(root: BorrowedFd<'_>, meta: &Meta, marks: Marks) -> Result<(), Error> {
    let form = TreeForm::Overlay(marks);
    apply(form, &Made::Open(root), meta, &TreePath::ROOT)
}

/// Makes the file that stands for a device in a tree whose owners are remembered; `None` in
/// any other, and for the device that overlayfs takes for a removal.
pub(super) fn stand_in(form: TreeForm, kind: &Kind) -> Option<Device> {
    let TreeForm::Overlay(marks) = form else {
        return None;
    };
    let (block, major, minor) = match *kind {
        Kind::Char { major: 0, minor: 0 } => return None,
        Kind::Char { major, minor } => (false, major, minor),
        Kind::Block { major, minor } => (true, major, minor),
        _ => return None,
    };
    (marks.ownership() != Ownership::Inode).then_some(Device {
        block,
        major,
        minor,
    })
}

/// Applies `meta` to a new empty file that stands for `device`.
pub(super) fn apply_stand_in(
    form: TreeForm,
    file: &OwnedFd,
    device: Device,
    meta: &Meta,
    path: &TreePath,
) -> Result<(), Error> {
    use std::os::fd::AsFd;
    let modes = form == TreeForm::Overlay(Marks::OwnersAndModes);
    remember(&Made::Open(file.as_fd()), meta, Some(device), modes, path)
}

/// Writes down that an entry of a tree that remembers owners is whose `meta` says.
pub(super) fn give(made: &Made<'_>, meta: &Meta) -> Result<(), Errno> {
    match made {
        Made::Open(fd) => {
            let record = Record {
                uid: meta.uid,
                gid: meta.gid,
                ..Record::default()
            };
            set_record(*fd, record)
        }
        Made::Named { .. } => remember_link(made, meta),
    }
}

/// Applies `meta` where the inode belongs to us whatever it says.
fn remember(
    made: &Made<'_>,
    meta: &Meta,
    device: Option<Device>,
    modes: bool,
    path: &TreePath,
) -> Result<(), Error> {
    let failed = |doing| move |errno| Error::io(doing, path, errno);
    let mode = meta.mode & 0o7777;
    let Made::Open(fd) = made else {
        remember_link(made, meta).map_err(failed("remember the owner of"))?;
        chmod(made, mode).map_err(failed("set the mode of"))?;
        return set_time(made, meta.mtime).map_err(failed("set the time of"));
    };
    for (name, value) in &meta.xattrs {
        if !belongs_to_image(name) {
            continue;
        }
        let set = match set_xattr(made, name, value) {
            // Capabilities are root's to give, and an ACL may name ids that are not mapped.
            Err(Errno::PERM | Errno::INVAL) => {
                set_xattr(made, &[owners::KEPT, name].concat(), value)
            }
            set => set,
        };
        set.map_err(failed("set an attribute of"))?;
    }
    let is_dir = fs::fstat(fd).map(|stat| fs::FileType::from_raw_mode(stat.st_mode).is_dir());
    let ours = match is_dir.map_err(failed("look at"))? {
        true => 0o700,
        false => 0o600,
    };
    let shut_out = modes && mode & ours != ours;
    let record = Record {
        uid: meta.uid,
        gid: meta.gid,
        mode: shut_out.then_some(mode),
        device,
    };
    set_record(*fd, record).map_err(failed("remember the owner of"))?;
    let mode = if shut_out { mode | ours } else { mode };
    chmod(made, mode).map_err(failed("set the mode of"))?;
    set_time(made, meta.mtime).map_err(failed("set the time of"))
}

/// Writes the record of an open file or directory, or takes it away if it says nothing.
fn set_record(fd: BorrowedFd<'_>, record: Record) -> rustix::io::Result<()> {
    if !record.is_plain() {
        return fs::fsetxattr(fd, owners::NODE, &record.to_bytes(), XattrFlags::empty());
    }
    match fs::fremovexattr(fd, owners::NODE) {
        // No record, or no attributes at all: both say the same.
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        removed => removed,
    }
}

/// Remembers the owner of a link or special file in its directory.
fn remember_link(made: &Made<'_>, meta: &Meta) -> rustix::io::Result<()> {
    let Made::Named { dir, name, .. } = made else {
        return Ok(());
    };
    set_link(*dir, name, (meta.uid, meta.gid))
}

/// Remembers the owner of `name`, a link or special file in `dir`.
pub(super) fn set_link(
    dir: BorrowedFd<'_>,
    name: &[u8],
    owner: (u32, u32),
) -> rustix::io::Result<()> {
    let mut links = read_links(dir)?;
    if owner == (0, 0) && links.is_empty() {
        return Ok(());
    }
    let ino = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
    links.set(ino, owner);
    fs::fsetxattr(dir, owners::LINKS, &links.to_bytes(), XattrFlags::empty())
}

/// Remembers in `dir` the owner of `path`, a second name of an entry of `from`, if that is
/// where such an entry's owner is remembered.
pub(super) fn linked(
    form: TreeForm,
    from: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    path: &TreePath,
) -> Result<(), Error> {
    let TreeForm::Overlay(Marks::Owners | Marks::OwnersAndModes) = form else {
        return Ok(());
    };
    let copy = || {
        let known = read_links(from)?;
        if known.is_empty() {
            return Ok(());
        }
        let ino = fs::statat(dir, path.name(), AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
        set_link(dir, path.name(), known.get(ino))
    };
    copy().map_err(|errno| Error::io("remember the owner of", path, errno))
}

fn chown(made: &Made<'_>, uid: u32, gid: u32) -> rustix::io::Result<()> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL); // The kernel would read it as "leave as it is".
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match made {
        Made::Open(fd) => fs::fchown(fd, uid, gid),
        Made::Named { dir, name, .. } => {
            fs::chownat(dir, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

fn chmod(made: &Made<'_>, mode: u32) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    match made {
        Made::Open(fd) => fs::fchmod(fd, mode),
        Made::Named { link: true, .. } => Ok(()),
        Made::Named { dir, name, .. } => pinned(*dir, name, |path| {
            fs::chmodat(CWD, path, mode, AtFlags::empty())
        }),
    }
}

fn set_xattr(made: &Made<'_>, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    match made {
        Made::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        Made::Named { dir, name: at, .. } => pinned(*dir, at, |path| {
            fs::setxattr(path, name, value, XattrFlags::empty())
        }),
    }
}

fn set_time(made: &Made<'_>, time: Time) -> rustix::io::Result<()> {
    let time = Timespec {
        tv_sec: time.secs,
        tv_nsec: time.nanos.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    match made {
        Made::Open(fd) => fs::futimens(fd, &times),
        Made::Named { dir, name, .. } => {
            fs::utimensat(dir, *name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

/// Calls `act` with a path that is this very inode, whatever happens to its name: for calls that
/// Linux has neither for O_PATH descriptors nor without following links.
fn pinned(
    dir: BorrowedFd<'_>,
    name: &[u8],
    act: impl Fn(&CString) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inode = fs::openat(dir, name, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", inode.as_raw_fd());
    act(&CString::new(path).map_err(|_| Errno::INVAL)?)
}
