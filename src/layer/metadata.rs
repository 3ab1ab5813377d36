//! Gives an entry that was just made its owner, attributes, mode and times, in that order: a new
//! owner takes away set-uid bits and capabilities, an attribute may need the right to write that
//! the mode takes away, an ACL may clear set-gid, and every change moves the times.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::entry::{Meta, Time};
use super::error::Error;
use super::node::belongs_to_image;
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

/// Applies `meta`. In [`TreeForm::Plain`], what the kernel reserves for root is left undone; a file
/// that could not be given away is then not set-uid or set-gid either.
pub(super) fn apply(
    form: TreeForm,
    made: &Made<'_>,
    meta: &Meta,
    path: &TreePath,
) -> Result<(), Error> {
    let lenient = form == TreeForm::Plain;
    let kept = match chown(made, meta.uid, meta.gid) {
        Ok(()) => true,
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
