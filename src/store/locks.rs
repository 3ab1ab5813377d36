//! Locks between processes, all of them `flock` on files below `locks/`.
//!
//! - `use`: shared by whoever relies on what lies in the store ([`Store::work`]), exclusive for
//!   whoever deletes from it. A deletion never waits: what it may not touch now stays for the
//!   next prune.
//! - `name-xx`, `tree-xx`, `blob-xx`, `image-xx`, `facts-xx`: one holder gives a name, makes a tree,
//!   judges a damaged blob, rewrites the record of an image or layer. `xx` is the start of the digest, so there are few
//!   files, none is ever removed, and strangers that share one only wait for each other. A thread
//!   takes them in this order and at most one of each, so nobody waits in a circle.

use std::fs::{File, TryLockError};
use std::sync::Arc;

use super::Store;
use super::disk;
use super::error::Error;
use crate::image::Digest;

/// Keeps everything that is in the store from deletion while it lives.
#[derive(Debug)]
pub struct Work {
    _lock: File,
}

/// The right to delete.
#[derive(Debug)]
pub(super) struct Sweep {
    _lock: File,
}

/// What one process does at a time for a digest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Name,
    Tree,
    Blob,
    Image,
    Facts,
}

impl Store {
    /// Announces that this process uses the store: until the returned value and its copies are
    /// dropped, no process deletes a blob, tree or record. A pull or build holds one from its
    /// start; what this room does in one call takes its own.
    pub fn work(&self) -> Result<Arc<Work>, Error> {
        if let Some(work) = self.held().work.upgrade() {
            return Ok(work);
        }
        // Not while `held` is locked: a deletion in another thread may need that to come to its end.
        let path = self.path("locks/use");
        let lock = disk::lock_file(&path)?;
        lock.lock_shared()
            .map_err(|e| Error::io("lock", &path, e))?;
        let work = Arc::new(Work { _lock: lock });
        self.held().work = Arc::downgrade(&work);
        Ok(work)
    }

    /// Takes the right to delete, or `None` while anybody uses the store.
    pub(super) fn sweep(&self) -> Result<Option<Sweep>, Error> {
        let path = self.path("locks/use");
        let lock = disk::lock_file(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Sweep { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }

    /// Waits until no other thread or process does `act` for `digest`.
    pub(super) fn lock(&self, act: Act, digest: &Digest) -> Result<File, Error> {
        let family = match act {
            Act::Name => "name",
            Act::Tree => "tree",
            Act::Blob => "blob",
            Act::Image => "image",
            Act::Facts => "facts",
        };
        let path = self.path(&format!("locks/{family}-{}", &digest.hex()[..2]));
        let lock = disk::lock_file(&path)?;
        lock.lock().map_err(|e| Error::io("lock", &path, e))?;
        Ok(lock)
    }
}
