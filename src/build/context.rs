//! The build context: a directory seen through its ignore file, hashed once.
//!
//! A [`Context`] is a tree in which ignored files do not exist. Directories that are ignored as
//! a whole are never opened; one that a later `!` line reaches into shows only what comes back.
//! Contents are hashed through a [`StatIndex`], so an unchanged context costs one stat a file.
//!
//! Owners and extended attributes of the caller's files are left out: an image built from a
//! checkout must not depend on who checked it out.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::dockerfile::ignore::Ignore;
use crate::image::{Digest, Hasher};
use crate::layer::{self, Dir, Follow, Found, Kind, Resolved, Tree, TreePath};

use super::contents;
use super::error::{IgnoredBy, StepError};
use super::select::{Pick, Picked};
use super::stat_index::{Hash, Stamp, StatIndex};

/// A build context.
#[derive(Debug)]
pub(super) struct Context {
    dir: Dir,
    root: Arc<OwnedFd>,
    ignore: Ignore,
    /// The ignore file's name.
    ignore_name: String,
    index: Mutex<StatIndex>,
}

impl Context {
    /// Sees the directory `root` through an ignore file of this name, with what an earlier build
    /// knew of it.
    pub(super) fn new(
        root: Arc<OwnedFd>,
        (ignore_name, ignore): (String, Ignore),
        index: StatIndex,
    ) -> Self {
        Self {
            dir: Dir::new(Arc::clone(&root)).without_xattrs(),
            root,
            ignore,
            ignore_name,
            index: Mutex::new(index),
        }
    }

    /// Returns what this build learned of the context, for the next one; `None` when it learned
    /// nothing new.
    pub(super) fn learned(&self) -> Option<Vec<u8>> {
        self.index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .changed()
    }

    /// Returns what is left out.
    pub(super) fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// Returns the line of the ignore file that leaves `path` out.
    pub(super) fn ignored_by(&self, path: &TreePath) -> Option<IgnoredBy> {
        let verdict = self.ignore.matches(path.as_bytes());
        let reason = verdict.by.filter(|_| verdict.ignored)?;
        Some(IgnoredBy {
            file: self.ignore_name.clone(),
            line: reason.line,
            pattern: reason.pattern.to_owned(),
        })
    }

    /// Returns a digest of what counts of the picked entries. Contents are hashed where nobody has
    /// hashed them yet.
    pub(super) fn fingerprint(&self, picks: &[Pick]) -> Result<Digest, StepError> {
        let index = || self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = |file: &Picked| Stamp::of(&file.inode, &file.node);
        let known = |file: &Picked| index().get(&stamp(file));
        let read = |file: &Picked| {
            let failed = |source| StepError::ReadContext {
                path: file.path.clone(),
                source,
            };
            let hash = hash_below(&self.root, &file.path).map_err(failed)?;
            index().put(stamp(file), hash);
            Ok(hash)
        };
        contents::fingerprint(picks, known, read)
    }

    /// Returns the directory behind this.
    pub(super) fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Follows `path` and returns where it leads, if a program that is shown the files there
    /// themselves sees what this context shows: nothing ignored, all of it root's, and nothing
    /// that leads out of the files, such as a socket.
    pub(super) fn as_it_is(&self, path: &TreePath) -> Result<Option<TreePath>, layer::Error> {
        let path = self.resolve(path, Follow::Last)?.path;
        let Some(found) = self.dir.find(&path)? else {
            return Ok(None);
        };
        let shown = !self.hides(&path, found.node.kind.is_dir())?;
        Ok((shown && self.is_plain(&path, &found)?).then_some(path))
    }

    fn is_plain(&self, path: &TreePath, found: &Found) -> Result<bool, layer::Error> {
        let meta = &found.node.meta;
        match found.node.kind {
            _ if (meta.uid, meta.gid) != (0, 0) => return Ok(false),
            Kind::File { .. } | Kind::Symlink { .. } => return Ok(true),
            Kind::Dir => {}
            _ => return Ok(false),
        }
        for (name, found) in self.dir.scan(path)? {
            let path = path.child(&name);
            if self.hides(&path, found.node.kind.is_dir())? || !self.is_plain(&path, &found)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a directory that is ignored itself still shows something that came back.
    fn shows_through(&self, path: &TreePath) -> Result<bool, layer::Error> {
        if self.ignore.can_prune(path.as_bytes()) {
            return Ok(false);
        }
        Ok(!self.scan(path)?.is_empty())
    }

    fn hides(&self, path: &TreePath, is_dir: bool) -> Result<bool, layer::Error> {
        if path.is_root() || !self.ignore.matches(path.as_bytes()).ignored {
            return Ok(false);
        }
        Ok(!(is_dir && self.shows_through(path)?))
    }
}

/// Takes the caller's ids away: whoever checks the files out, they are root's in the image.
fn nobodys(mut found: Found) -> Found {
    (found.node.meta.uid, found.node.meta.gid) = (0, 0);
    found
}

fn hash_below(root: impl AsFd, path: &TreePath) -> std::io::Result<Hash> {
    let fd = rustix::fs::openat2(
        root,
        path.as_os(),
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    let mut file = File::from(fd);
    let mut hasher = Hasher::new();
    // On the stack: most files are small, and fresh memory for each would cost more than reading it.
    let mut buffer = [0; 32 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish_raw()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

impl Tree for Context {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, layer::Error> {
        match self.dir.find(path)? {
            Some(found) if self.hides(path, found.node.kind.is_dir())? => Ok(None),
            found => Ok(found.map(nobodys)),
        }
    }

    fn scan(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, layer::Error> {
        let mut shown = Vec::new();
        for (name, found) in self.dir.scan(path)? {
            if !self.hides(&path.child(&name), found.node.kind.is_dir())? {
                shown.push((name, nobodys(found)));
            }
        }
        Ok(shown)
    }

    /// Links lead through ignored directories too: what counts is whether the end is ignored.
    fn resolve(&self, path: &TreePath, last: Follow) -> Result<Resolved, layer::Error> {
        let mut resolved = self.dir.resolve(path, last)?;
        if let Some(node) = &resolved.exists
            && self.hides(&resolved.path, node.kind.is_dir())?
        {
            resolved.exists = None;
        }
        Ok(resolved)
    }
}
