//! Gives what a step made to whom it ran as, where the kernel could not.
//!
//! With one id every file is made by the same owner, whoever a program believes to be. A step
//! that ran as somebody else than root can have made nothing for root, so what is new and has no
//! owner is that user's.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, openat};

use super::changes::{Change, Changes};
use super::content::{DIRECTORY, open_below};
use super::entry::Kind;
use super::error::Error;
use super::metadata::{self, Made};
use super::path::TreePath;
use super::tree::Tree;

/// Gives those entries of `changes` that `below` has not got and that are root's to `owner`, in the
/// tree `root` that the changes were read from, too. For trees that remember owners only.
pub fn give_new(
    root: BorrowedFd<'_>,
    changes: &mut Changes,
    below: &dyn Tree,
    owner: (u32, u32),
) -> Result<(), Error> {
    for (path, change) in &mut changes.entries {
        let (Change::Node(node) | Change::Opaque(node)) = change else {
            continue;
        };
        let is_roots = (node.meta.uid, node.meta.gid) == (0, 0);
        if path.is_root() || !is_roots || below.find(path)?.is_some() {
            continue;
        }
        (node.meta.uid, node.meta.gid) = owner;
        let failed = |errno| Error::io("remember the owner of", path, errno);
        let parent = path.parent().unwrap_or(TreePath::ROOT);
        let dir = open_below(root, &parent, DIRECTORY).map_err(failed)?;
        let given = match node.kind {
            Kind::File { .. } | Kind::Dir => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&dir, path.name(), flags, Mode::empty())
                    .and_then(|fd| metadata::give(&Made::Open(fd.as_fd()), &node.meta))
            }
            _ => {
                let link = Made::Named {
                    dir: dir.as_fd(),
                    name: path.name(),
                    link: true,
                };
                metadata::give(&link, &node.meta)
            }
        };
        given.map_err(failed)?;
    }
    Ok(())
}
