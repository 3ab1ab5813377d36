//! Puts a checkout in order: modes that do not depend on the caller's umask, no `.git`.
//!
//! Works below descriptors and follows no link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, fchmod, openat, statat, unlinkat,
    utimensat,
};
use rustix::io::Result;

/// What is done to a checkout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Whether everything named `.git` stays. Git tracks nothing of that name.
    pub(super) keep_git: bool,
    /// Time for everything that is tracked, in seconds since 1970.
    pub(super) mtime: Option<i64>,
}

/// Orders everything below `dir`, and `dir` itself.
pub(super) fn tidy(dir: BorrowedFd<'_>, order: Order) -> Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_bytes() {
            b"." | b".." => continue,
            b".git" if order.keep_git => continue,
            _ => {}
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if name.to_bytes() == b".git" {
            remove(dir, name, kind)?;
            continue;
        }
        match kind {
            FileType::Directory => tidy(open(dir, name, OFlags::DIRECTORY)?.as_fd(), order)?,
            FileType::RegularFile => {
                let runs = stat.st_mode & 0o111 != 0;
                let mode = if runs { 0o755 } else { 0o644 };
                fchmod(
                    open(dir, name, OFlags::NONBLOCK)?,
                    Mode::from_raw_mode(mode),
                )?;
            }
            _ => {}
        }
        if let Some(times) = order.mtime.map(both) {
            utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    fchmod(dir, Mode::from_raw_mode(0o755))
}

fn both(secs: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn open(dir: BorrowedFd<'_>, name: &std::ffi::CStr, also: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | also;
    openat(dir, name, flags, Mode::empty())
}

/// Removes a name and all below it.
fn remove(dir: BorrowedFd<'_>, name: &std::ffi::CStr, kind: FileType) -> Result<()> {
    if kind != FileType::Directory {
        return unlinkat(dir, name, AtFlags::empty());
    }
    let below = open(dir, name, OFlags::DIRECTORY)?;
    for entry in Dir::read_from(&below)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            let stat = statat(&below, name, AtFlags::SYMLINK_NOFOLLOW)?;
            remove(below.as_fd(), name, FileType::from_raw_mode(stat.st_mode))?;
        }
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}
