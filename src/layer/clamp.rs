//! Makes a tree's times what its clamped tar says.
//!
//! A layer that is hashed with a latest time must encode to the same bytes again from its tree, so
//! the tree takes the times too.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT};

use super::changes::{Change, Changes};
use super::content::{DIRECTORY, open_below};
use super::entry::Time;
use super::error::Error;
use super::path::TreePath;

/// Sets the time of every entry of `changes` that is later than `latest` to it, in the tree `root`
/// that the changes were read from. Links themselves are set, never what they point to.
pub fn clamp_times(root: BorrowedFd<'_>, changes: &Changes, latest: Time) -> Result<(), Error> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: latest.secs,
            tv_nsec: i64::from(latest.nanos),
        },
    };
    // Directories last and from the bottom up, though setting a time changes no parent's.
    for (path, change) in changes.entries.iter().rev() {
        let (Change::Node(node) | Change::Opaque(node)) = change else {
            continue;
        };
        if node.meta.mtime <= latest {
            continue;
        }
        let parent = path.parent().unwrap_or(TreePath::ROOT);
        let failed = |errno| Error::io("set the time of", path, errno);
        let name = if path.is_root() {
            b".".as_slice()
        } else {
            path.name()
        };
        if parent.is_root() {
            rustix::fs::utimensat(root, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        } else {
            let dir = open_below(root, &parent, DIRECTORY).map_err(failed)?;
            rustix::fs::utimensat(dir.as_fd(), name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed)?;
        }
    }
    Ok(())
}
