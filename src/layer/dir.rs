//! One plain directory as a [`Tree`]: a build context, a volume, an unpacked file system.
//!
//! Nothing in it has overlayfs' meaning: a character device 0/0 is a device. No descriptor is kept,
//! so entries that come and go are seen as they are at each call.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::content::{self, DIRECTORY};
use super::error::Error;
use super::node::{Ownership, Place, Xattrs, list_at, node_at};
use super::path::TreePath;
use super::tree::{Found, Tree};

/// One plain directory.
#[derive(Debug, Clone)]
pub struct Dir {
    root: Arc<OwnedFd>,
    xattrs: Xattrs,
}

impl Dir {
    /// Returns the tree below `root`, an open directory.
    pub fn new(root: Arc<OwnedFd>) -> Self {
        Self {
            root,
            xattrs: Xattrs::Image,
        }
    }

    /// Leaves extended attributes out, as a build context does: one system call less an entry.
    pub fn without_xattrs(mut self) -> Self {
        self.xattrs = Xattrs::Skip;
        self
    }

    /// Returns the root.
    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Opens a directory; `None` when there is no directory at `path`.
    fn open(&self, path: &TreePath) -> Result<Option<OwnedFd>, Error> {
        match content::open_below(self.root.as_fd(), path, DIRECTORY) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::io("open", path, errno)),
        }
    }

    fn place<'a>(&'a self, dir: &'a OwnedFd, path: &'a TreePath) -> Place<'a> {
        Place {
            root: &self.root,
            tree: 0,
            dir: dir.as_fd(),
            path,
            xattrs: self.xattrs,
            ids: Ownership::Inode,
        }
    }
}

impl Tree for Dir {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, Error> {
        let Some(parent) = path.parent() else {
            let raw = node_at(&self.place(&self.root, path), b"")?;
            return Ok(raw.map(|raw| raw.found));
        };
        let Some(dir) = self.open(&parent)? else {
            return Ok(None);
        };
        let raw = node_at(&self.place(&dir, &parent), path.name())?;
        Ok(raw.map(|raw| raw.found))
    }

    fn scan(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, Error> {
        let Some(dir) = self.open(path)? else {
            return Err(match self.find(path)? {
                Some(_) => Error::NotDirectory { path: path.clone() },
                None => Error::Missing { path: path.clone() },
            });
        };
        let entries = list_at(&self.place(&dir, path))?;
        let found = entries.into_iter().map(|(name, raw)| (name, raw.found));
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}
