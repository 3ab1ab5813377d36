//! Leases: a process's own corner of `tmp/`, gone when the process is.
//!
//! A lease is a directory that its process holds an exclusive `flock` on. Everything half-made
//! lies in one, so a crash leaves nothing anywhere else. Who opens the store or makes a lease
//! tries the lock of every lease that is there; one that can be locked has no process any more
//! and is removed. A lease is made when something is first written, never by reading.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use super::Store;
use super::disk;
use super::error::Error;
use super::fault;
use super::locks::Work;

/// A locked directory below `tmp/`. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    next: AtomicU64,
    _lock: File,
}

impl Lease {
    /// Makes a lease below `tmp`.
    pub(super) fn new(tmp: &Path) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = tmp.join(format!("{}-{number}", std::process::id()));
            fault::point("make", &path)?;
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // Left by a dead process of the same number, or one of another pid namespace.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io("make", &path, e)),
            }
            if let Some(lock) = claim(&path)? {
                return Ok(Self {
                    path,
                    next: AtomicU64::new(0),
                    _lock: lock,
                });
            }
            // A reaper was faster than our lock: the directory is gone, take another.
        }
    }

    /// Returns a path below the lease that nothing has.
    pub(super) fn fresh(&self, what: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{what}-{number}"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What cannot be removed now is reaped by the next opener.
        let _ = disk::remove_tree(&self.path);
    }
}

/// Locks a directory; `None` when somebody else has the lock or the directory is gone.
fn claim(path: &Path) -> Result<Option<File>, Error> {
    let dir = match File::open(path) {
        Ok(dir) => dir,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    match dir.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(e)) => return Err(Error::io("lock", path, e)),
    }
    let held = dir.metadata().map_err(|e| Error::io("look at", path, e))?;
    match fs::symlink_metadata(path) {
        Ok(named) if named.ino() == held.ino() => Ok(Some(dir)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}

/// Removes the leases below `tmp` whose process is gone.
pub(super) fn reap(tmp: &Path) -> Result<(), Error> {
    for name in disk::names(tmp)? {
        let path = tmp.join(name);
        if let Some(_lock) = claim(&path)? {
            disk::remove_tree(&path)?;
        }
    }
    Ok(())
}

/// A directory for work in progress, on the file system of the store, mode 0700. Dropping it
/// removes it; a crash leaves it to the next opener.
#[derive(Debug)]
pub struct Scratch {
    rubbish: Rubbish,
    fd: OwnedFd,
    _work: Arc<Work>,
}

/// What nobody works with any more. It keeps nothing in the store from deletion, and is gone
/// from the disk once it is dropped.
#[derive(Debug)]
#[must_use = "whoever drops it waits for the disk"]
pub struct Rubbish {
    path: PathBuf,
    _lease: Arc<Lease>,
}

impl Scratch {
    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.rubbish.path
    }

    /// Ends the work; what lies in it goes later.
    pub(super) fn into_rubbish(self) -> Rubbish {
        self.rubbish
    }

    /// Returns it opened.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Rubbish {
    fn drop(&mut self) {
        // What cannot be removed now goes with the lease.
        let _ = disk::remove_tree(&self.path);
    }
}

impl Store {
    /// Returns the lease of this handle, made at the first call.
    pub(super) fn lease(&self) -> Result<Arc<Lease>, Error> {
        let mut held = self.held();
        if let Some(lease) = &held.lease {
            return Ok(lease.clone());
        }
        let tmp = self.path("tmp");
        reap(&tmp)?;
        let lease = Arc::new(Lease::new(&tmp)?);
        held.lease = Some(lease.clone());
        Ok(lease)
    }

    /// Makes a directory for work in progress. While it lives, nothing that lay in the store
    /// when it was made is deleted.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        let work = self.work()?;
        let lease = self.lease()?;
        let path = lease.fresh("scratch");
        disk::make_dir(&path)?;
        Ok(Scratch {
            fd: disk::open_dir(&path)?,
            rubbish: Rubbish {
                path,
                _lease: lease,
            },
            _work: work,
        })
    }
}
