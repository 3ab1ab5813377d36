//! Whiteouts in trees: what says that a name of the trees below is gone.
//!
//! Overlayfs has two forms. A device 0/0 is the usual one. On a file system that is an overlay
//! itself, as a container's root is, the kernel keeps such devices for itself; there it is an empty
//! file with a mark, in a directory whose own mark says that it has some (Linux 6.7). No overlay is
//! mounted over such trees, so it is enough that [`Stack`](super::Stack) reads both. No image can
//! hold a mark: overlayfs' attributes are dropped on the way in.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::{Errno, Result};

use super::node::Marks;

/// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
const OVERLAYFS: u64 = 0x794c_7630;

/// Makes a whiteout of this name; EEXIST if there is something.
pub(super) fn make(dir: BorrowedFd<'_>, name: &[u8], marks: Marks) -> Result<()> {
    let kind = FileType::CharacterDevice;
    match fs::mknodat(dir, name, kind, Mode::empty(), 0) {
        Err(Errno::PERM) if is_overlay(dir)? => make_marked(dir, name, marks),
        made => made,
    }
}

fn is_overlay(dir: BorrowedFd<'_>) -> Result<bool> {
    Ok(u64::try_from(fs::fstatfs(dir)?.f_type) == Ok(OVERLAYFS))
}

fn make_marked(dir: BorrowedFd<'_>, name: &[u8], marks: Marks) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(dir, name, flags, Mode::RUSR)?;
    fs::fsetxattr(&file, marks.whiteout(), b"y", XattrFlags::empty())?;
    // An opaque directory keeps its mark: what is gone below it is gone anyway.
    match fs::fsetxattr(dir, marks.opaque(), b"x", XattrFlags::CREATE) {
        Err(Errno::EXIST) => Ok(()),
        marked => marked,
    }
}

/// Returns whether what has this name is a whiteout.
pub(super) fn is_at(dir: BorrowedFd<'_>, name: &[u8], marks: Marks) -> Result<bool> {
    let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 && is_overlay(dir)? => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = fs::openat(dir, name, flags, Mode::empty())?;
            match fs::fgetxattr(&file, marks.whiteout(), &mut [0; 1]) {
                Err(Errno::NODATA) => Ok(false),
                found => found.map(|_| true),
            }
        }
        _ => Ok(false),
    }
}
