//! Directories that outlive builds: what `RUN --mount=type=cache` mounts.
//!
//! ```text
//! caches/<hex>/id           what the cache is called, for people
//! caches/<hex>/<n>/         the directory; 0, and more where several wanted one to themselves
//! caches/<hex>/<n>.lock     shared by those that use it together, exclusive for one alone
//! ```
//!
//! `<hex>` is a digest over everything that makes two caches one, so no name that a Dockerfile
//! chose is ever part of a path. A directory is made in a lease and renamed into place, so it is
//! whole or absent. Nothing in it is part of any image; `prune` with `cache` removes them all.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::Store;
use super::disk;
use super::error::Error;
use super::lease::Scratch;
use super::locks::Work;
use crate::image::Digest;

/// How often somebody who waits for a cache looks again.
const PATIENCE: Duration = Duration::from_millis(10);

/// How a cache is used while others want it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheUse {
    /// Together with the others.
    Shared,
    /// One of its own: the first that nobody uses, or a new one.
    Private,
    /// Alone, after the others.
    Locked,
}

/// Which cache, and how.
#[derive(Debug, Clone, Copy)]
pub struct CacheRequest<'a> {
    /// Digest over all that tells it from other caches.
    pub key: &'a Digest,
    /// What people call it.
    pub id: &'a str,
    /// How it is used.
    pub share: CacheUse,
    /// Whether one that is there, and that nobody uses, makes way for a new one.
    pub fresh: bool,
}

/// A cache in use. Dropping it lets others have it.
#[derive(Debug)]
pub struct Cache {
    fd: OwnedFd,
    _lock: File,
    _work: Arc<Work>,
}

impl Cache {
    /// Returns its directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Store {
    /// Opens a cache; `seed` fills a new one, whose directory is mode 0755 and the caller's.
    ///
    /// While others keep it, `stop` is asked now and then; `None` once it says so.
    pub fn cache<E: From<Error>>(
        &self,
        request: &CacheRequest<'_>,
        stop: &dyn Fn() -> bool,
        seed: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<Option<Cache>, E> {
        let work = self.work()?;
        let home = self.cache_home(request)?;
        let Some((lock, path)) = claim(&home, request.share, stop)? else {
            return Ok(None);
        };
        if request.fresh && alone(&lock, request.share)? {
            let scratch = self.scratch()?;
            // Goes with the scratch directory; there may be none yet.
            match std::fs::rename(&path, scratch.path().join("old")) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path, e).into());
                }
                _ => {}
            }
            if request.share == CacheUse::Shared {
                lock.lock_shared()
                    .map_err(|e| Error::io("lock", &path, e))?;
            }
        }
        if !disk::exists(&path)? {
            let scratch: Scratch = self.scratch()?;
            let made = scratch.dir("cache")?;
            seed(made.as_fd())?;
            let (at, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
            match rustix::fs::renameat_with(at, scratch.path().join("cache"), at, &path, flags) {
                // Somebody who shares it was faster.
                Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(e) => return Err(Error::os("rename into place", &path, e).into()),
            }
        }
        Ok(Some(Cache {
            fd: disk::open_dir(&path)?,
            _lock: lock,
            _work: work,
        }))
    }

    /// Makes the place of a cache.
    fn cache_home(&self, request: &CacheRequest<'_>) -> Result<PathBuf, Error> {
        let top = self.path("caches");
        disk::make_dir(&top)?;
        let home = top.join(request.key.hex());
        disk::make_dir(&home)?;
        let name = home.join("id");
        if !disk::exists(&name)? {
            self.write_file(&name, request.id.as_bytes(), false)?;
        }
        Ok(home)
    }

    /// Returns how many caches there are, and the bytes of disk that they hold.
    pub(super) fn caches_usage(&self) -> Result<(usize, u64), Error> {
        let homes = disk::names(&self.path("caches"))?;
        Ok((homes.len(), self.drop_caches(true)?))
    }

    /// Removes every cache; returns the bytes of disk that they hold or, in a `dry` run, would free.
    /// The caller holds the `use` lock exclusively, so nobody uses one.
    pub(super) fn drop_caches(&self, dry: bool) -> Result<u64, Error> {
        let top = self.path("caches");
        let mut freed = 0;
        for name in disk::names(&top)? {
            let path = top.join(name);
            freed += match dry {
                true => disk::usage(&path)?,
                false => self.drop_tree(&path)?,
            };
        }
        Ok(freed)
    }
}

/// Takes a lock as `share` wants it, and says which directory it is for. `None` when `stop` says
/// so first.
fn claim(
    home: &std::path::Path,
    share: CacheUse,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(File, PathBuf)>, Error> {
    let mut number = 0_u32;
    while !stop() {
        let path = home.join(format!("{number}.lock"));
        let lock = disk::lock_file(&path)?;
        let locked = match share {
            CacheUse::Shared => lock.try_lock_shared(),
            CacheUse::Private | CacheUse::Locked => lock.try_lock(),
        };
        match (locked, share) {
            (Ok(()), _) => return Ok(Some((lock, home.join(number.to_string())))),
            (Err(TryLockError::WouldBlock), CacheUse::Private) => number += 1,
            (Err(TryLockError::WouldBlock), _) => std::thread::sleep(PATIENCE),
            (Err(TryLockError::Error(e)), _) => return Err(Error::io("lock", &path, e)),
        }
    }
    Ok(None)
}

/// Whether nobody else uses the directory behind a lock that is held. A shared lock becomes
/// exclusive for a moment to find out.
fn alone(lock: &File, share: CacheUse) -> Result<bool, Error> {
    if share != CacheUse::Shared {
        return Ok(true);
    }
    let failed = |e| Error::io("lock", std::path::Path::new("a cache"), e);
    match lock.try_lock() {
        Ok(()) => Ok(true),
        // flock(2): the conversion may have lost the shared lock.
        Err(TryLockError::WouldBlock) => lock.lock_shared().map(|()| false).map_err(failed),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::store::testing::Temp;

    fn open(store: &Store, id: &str, share: CacheUse, fresh: bool) -> Option<Cache> {
        let request = CacheRequest {
            key: &Digest::of(id.as_bytes()),
            id,
            share,
            fresh,
        };
        let tries = std::cell::Cell::new(0);
        let stop = || tries.replace(tries.get() + 1) > 2;
        let mut seed = |_: BorrowedFd<'_>| Ok::<(), Error>(());
        store.cache(&request, &stop, &mut seed).unwrap()
    }

    fn put(cache: &Cache, name: &str) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(cache.fd(), name, flags, Mode::RUSR).unwrap();
    }

    fn has(cache: &Cache, name: &str) -> bool {
        rustix::fs::statat(cache.fd(), name, rustix::fs::AtFlags::empty()).is_ok()
    }

    #[test]
    fn a_cache_keeps_what_was_put_in_it_and_its_name_is_no_path() {
        let temp = Temp::new();
        let store = temp.store();
        let id = "../../../../etc/\u{0}x";
        put(&open(&store, id, CacheUse::Shared, false).unwrap(), "f");
        assert!(has(
            &open(&store, id, CacheUse::Locked, false).unwrap(),
            "f"
        ));
        assert!(!has(
            &open(&store, "other", CacheUse::Shared, false).unwrap(),
            "f"
        ));
        let homes = disk::names(&store.root().join("caches")).unwrap();
        assert!(homes.iter().all(|home| home.len() == 64), "{homes:?}");
    }

    #[test]
    fn users_share_wait_or_get_their_own() {
        let temp = Temp::new();
        let store = temp.store();
        let one = open(&store, "a", CacheUse::Shared, false).unwrap();
        let two = open(&store, "a", CacheUse::Shared, false).unwrap();
        put(&one, "f");
        assert!(has(&two, "f"));
        assert!(open(&store, "a", CacheUse::Locked, false).is_none());
        let own = open(&store, "a", CacheUse::Private, false).unwrap();
        assert!(!has(&own, "f"));
        drop((one, two));
        let alone = open(&store, "a", CacheUse::Locked, false).unwrap();
        assert!(has(&alone, "f"));
        assert!(open(&store, "a", CacheUse::Shared, false).is_none());
    }

    #[test]
    fn a_fresh_one_is_empty_unless_somebody_uses_the_old() {
        let temp = Temp::new();
        let store = temp.store();
        let old = open(&store, "a", CacheUse::Shared, false).unwrap();
        put(&old, "f");
        assert!(has(
            &open(&store, "a", CacheUse::Shared, true).unwrap(),
            "f"
        ));
        drop(old);
        let new = open(&store, "a", CacheUse::Shared, true).unwrap();
        assert!(!has(&new, "f"));
        assert!(open(&store, "a", CacheUse::Shared, false).is_some());
    }

    #[test]
    fn prune_takes_them_only_when_the_cache_goes() {
        let temp = Temp::new();
        let store = temp.store();
        put(&open(&store, "a", CacheUse::Shared, false).unwrap(), "f");
        let prune = |cache| {
            let what = crate::store::Prune {
                cache,
                ..crate::store::Prune::default()
            };
            temp.store().prune(what).unwrap();
        };
        prune(false);
        assert!(has(
            &open(&store, "a", CacheUse::Shared, false).unwrap(),
            "f"
        ));
        drop(store);
        prune(true);
        let store = temp.store();
        assert!(!has(
            &open(&store, "a", CacheUse::Shared, false).unwrap(),
            "f"
        ));
    }
}
