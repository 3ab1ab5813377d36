//! What a power cut may have damaged, and what it cannot have.
//!
//! Nothing is synced while a build or pull goes on. Before a blob or tree gets its final name,
//! an empty file `unsynced/<boot id>/<item>` is made; one [`Store::sync`] at the end makes all of
//! it permanent and takes the marks away. A mark of *another* boot therefore means: the item may
//! be torn. It is then verified before its first use (a blob by its hash) or dropped (a tree,
//! which is made again from its blob), and its mark goes: what was read back from the disk after
//! a boot is on the disk. Refs and records carry their own hash (`frame`) and need no mark.
//!
//! This relies on the file system keeping the order of names made in one mount, as the journals
//! of ext4, XFS and btrfs do.

use std::path::PathBuf;

use super::Store;
use super::disk;
use super::error::Error;
use super::fault;

impl Store {
    /// Marks `item` as not yet permanent. Called before its final name is made.
    pub(super) fn mark(&self, item: &str) -> Result<(), Error> {
        let dir = self.path("unsynced").join(self.boot_id()?);
        let path = dir.join(item);
        match disk::lock_file(&path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                disk::make_dir(&dir)?;
                disk::lock_file(&path).map(drop)
            }
            other => other.map(drop),
        }
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
    /// the end of a pull or build, before a name is given; costs what the disk needs to write it
    /// all, and nothing when there is nothing.
    pub fn sync(&self) -> Result<(), Error> {
        let dir = self.path("unsynced").join(self.boot_id()?);
        let mut done = Vec::new();
        for item in disk::names(&dir)? {
            // One that has no final name yet may get it after the sync.
            if self.item_path(&item).is_some_and(|path| path.exists()) {
                done.push(dir.join(item));
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        let root = disk::open_dir(&self.shared.root)?;
        fault::point("sync", &self.shared.root)?;
        rustix::fs::syncfs(&root).map_err(|e| Error::os("sync", &self.shared.root, e))?;
        for mark in done {
            disk::remove_file(&mark)?;
        }
        Ok(())
    }

    /// Returns where the item of a mark lies: `blob-sha256-<hex>` or `tree-<key>`.
    fn item_path(&self, item: &str) -> Option<PathBuf> {
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
