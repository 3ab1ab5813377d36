//! What a power cut may have damaged, and what it cannot have.
//!
//! Nothing is synced while a build or pull goes on. Before a blob or tree gets its final name,
//! an empty file `unsynced/<boot id>/<item>` is made; a [`Store::sync`] makes all of it permanent
//! and takes the marks away. A mark of *another* boot therefore means: the item may be torn. It is
//! then verified before its first use (a blob by its hash) or dropped (a tree, which is made again
//! from its blob), and its mark goes: what was read back from the disk after a boot is on the
//! disk. Records carry their own hash (`frame`) and need no mark.
//!
//! A name that is moved to another image is marked by a second link to its old file: what it meant
//! when it was last permanent, or long enough for the kernel to have written it. After another boot
//! it means that again, unless what it was moved to is whole. So a power cut leaves a name its old
//! image or its new one.
//!
//! This relies on the file system keeping the order of names made in one mount, as the journals
//! of ext4, XFS and btrfs do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Store;
use super::disk;
use super::error::Error;
use super::fault;
use super::refs;

/// After this time the kernel has written what was not synced: twice its own half a minute.
const WRITTEN: Duration = Duration::from_secs(60);

/// A marked item that a sync makes permanent.
struct Waiting {
    item: String,
    mark: PathBuf,
    path: PathBuf,
    inode: u64,
}

impl Store {
    /// Marks `item` as not yet permanent. Called before its final name is made.
    pub(super) fn mark(&self, item: &str) -> Result<(), Error> {
        self.mark_by(item, |mark| disk::lock_file(mark).map(drop))
    }

    /// Marks a name that will be moved. Where it has not meant for long what it does, a mark that is
    /// there stays.
    pub(super) fn mark_moved(&self, item: &str) -> Result<(), Error> {
        let file = self.path("refs").join(item);
        let given = disk::times(&file)?.map(|(written, _)| written);
        let age = given.and_then(|given| given.elapsed().ok());
        self.mark_by(item, |mark| {
            if age.is_some_and(|age| age > WRITTEN) {
                disk::remove_file(mark)?;
            }
            disk::link(&file, mark)
        })
    }

    fn mark_by(&self, item: &str, make: impl Fn(&Path) -> Result<(), Error>) -> Result<(), Error> {
        let dir = self.path("unsynced").join(self.boot_id()?);
        let mark = dir.join(item);
        match make(&mark) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                disk::make_dir(&dir)?;
                make(&mark)
            }
            other => other,
        }
    }

    /// Takes away all marks of an item that will be removed.
    pub(super) fn unmark(&self, item: &str) -> Result<(), Error> {
        disk::remove_file(&self.path("unsynced").join(self.boot_id()?).join(item))?;
        self.acquit(&self.suspicions(item)?)
    }

    /// Returns the marks that other boots left on `item`; nearly always none, at no cost.
    pub(super) fn suspicions(&self, item: &str) -> Result<Vec<PathBuf>, Error> {
        let mut marks = Vec::new();
        for boot in &self.shared.other_boots {
            let mark = self.path("unsynced").join(boot).join(item);
            if disk::exists(&mark)? {
                marks.push(mark);
            }
        }
        Ok(marks)
    }

    /// Takes away the marks of an item that was verified or dropped.
    pub(super) fn acquit(&self, marks: &[PathBuf]) -> Result<(), Error> {
        for mark in marks {
            disk::remove_file(mark)?;
            if let Some(dir) = mark.parent() {
                // Goes with its last mark; until then it is not empty, which is fine.
                let _ = std::fs::remove_dir(dir);
            }
        }
        Ok(())
    }

    /// Makes everything permanent that was put into the store so far, by whomever. One call at
    /// the end of a pull, after the names are given; costs what the disk needs to write it all,
    /// and nothing when there is nothing.
    pub fn sync(&self) -> Result<(), Error> {
        let waiting = self.waiting()?;
        if waiting.is_empty() {
            return Ok(());
        }
        let root = disk::open_dir(&self.shared.root)?;
        fault::point("sync", &self.shared.root)?;
        rustix::fs::syncfs(&root).map_err(|e| Error::os("sync", &self.shared.root, e))?;
        for Waiting {
            item,
            mark,
            path,
            inode,
        } in waiting
        {
            let _lock = match refs::is_file(&item) {
                true => Some(self.lock_name(&item)?),
                false => None,
            };
            // A name that was moved again meanwhile needs its mark.
            if disk::inode(&path)?.is_none_or(|now| now == inode) {
                disk::remove_file(&mark)?;
            }
        }
        Ok(())
    }

    /// Makes permanent what names were moved to, if any were, so that what they meant before can be
    /// deleted.
    pub(super) fn sync_moved(&self) -> Result<(), Error> {
        let dir = self.path("unsynced").join(self.boot_id()?);
        for item in disk::names(&dir)? {
            let held = disk::size(&dir.join(&item))?;
            if refs::is_file(&item) && held.is_some_and(|bytes| bytes > 0) {
                return self.sync();
            }
        }
        Ok(())
    }

    /// Returns the marked items of this boot. One that has no final name yet may get it after a
    /// sync, so it is left out.
    fn waiting(&self) -> Result<Vec<Waiting>, Error> {
        let dir = self.path("unsynced").join(self.boot_id()?);
        let mut waiting = Vec::new();
        for item in disk::names(&dir)? {
            if let Some(path) = self.item_path(&item)
                && let Some(inode) = disk::inode(&path)?
            {
                waiting.push(Waiting {
                    mark: dir.join(&item),
                    item,
                    path,
                    inode,
                });
            }
        }
        Ok(waiting)
    }

    /// Returns where the item of a mark lies: `blob-sha256-<hex>`, `tree-<key>` or the file of a
    /// name.
    fn item_path(&self, item: &str) -> Option<PathBuf> {
        if refs::is_file(item) {
            return Some(self.path("refs").join(item));
        }
        let (kind, name) = item.split_once('-')?;
        match kind {
            "blob" => Some(self.path("blobs").join(name.replacen('-', "/", 1))),
            "tree" => Some(self.path("trees").join(name)),
            _ => None,
        }
    }

    fn boot_id(&self) -> Result<&str, Error> {
        if let Some(id) = self.shared.boot.get() {
            return Ok(id);
        }
        let id = current_boot()?;
        Ok(self.shared.boot.get_or_init(|| id))
    }
}

/// Returns the id of this boot (proc(5), `random/boot_id`).
pub(super) fn current_boot() -> Result<String, Error> {
    let path = std::path::Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    Ok(text.trim().to_owned())
}

impl Store {
    /// Decides on every name that another boot left doubted.
    pub(super) fn settle_names(&self) -> Result<(), Error> {
        for boot in &self.shared.other_boots {
            let mut items = disk::names(&self.path("unsynced").join(boot))?;
            items.retain(|item| refs::is_file(item));
            for item in items {
                self.settle_name(&item)?;
            }
        }
        Ok(())
    }

    /// Takes away marks of other boots whose items are gone, so that they do not pile up.
    pub(super) fn drop_stale_marks(&self) -> Result<(), Error> {
        for boot in &self.shared.other_boots {
            let dir = self.path("unsynced").join(boot);
            for item in disk::names(&dir)? {
                if !self.item_path(&item).is_some_and(|path| path.exists()) {
                    self.acquit(&[dir.join(item)])?;
                }
            }
            // Not empty while an item is still doubted.
            let _ = std::fs::remove_dir(&dir);
        }
        Ok(())
    }
}
