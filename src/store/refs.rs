//! Names: one small file a name, pointing to a manifest or index.
//!
//! A file is called as its name in full with `/` written as `+` (no name holds a `+`); one too
//! long for a file name is called by its hash. The name itself stands inside. `repo@sha256:…`
//! names record what a repository calls an image; they are names like others, only shown apart.
//!
//! A name is not synced when it is given. Until it is permanent a mark says what it meant before
//! (`durable`), and after a power cut it means one or the other.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::Store;
use super::blobs::Temp;
use super::disk;
use super::error::Error;
use super::fault;
use super::frame::{self, Head};
use super::locks::Act;
use crate::image::{Descriptor, Digest, Reference};

impl Store {
    /// Gives `target`, a manifest or index in the store, the name `name`, which it is taken from
    /// whatever had it. A power cut leaves the old target or the new one.
    pub fn tag(&self, name: &Reference, target: &Descriptor) -> Result<(), Error> {
        let _work = self.work()?;
        self.need_blob(&target.digest)?;
        let item = file_of(name);
        self.settle_name(&item)?;
        let _lock = self.lock_name(&item)?;
        let path = self.path("refs").join(&item);
        match read_ref(&path)? {
            Some((_, before)) if before == *target => return Ok(()),
            Some(_) => self.mark_moved(&item)?,
            None => self.mark(&item)?,
        }
        let head = Head {
            key: name.full(),
            keeps: Vec::new(),
        };
        let value = serde_json::to_vec(target).expect("a descriptor is JSON");
        self.write_file(&path, &frame::frame(&head, &value), false)
    }

    /// Removes a name; returns whether it existed. What it pointed to stays.
    pub fn untag(&self, name: &Reference) -> Result<bool, Error> {
        let item = file_of(name);
        // First, or another boot would take it for a name that a power cut took.
        self.unmark(&item)?;
        disk::remove_file(&self.path("refs").join(item))
    }

    /// Returns what a name points to.
    pub fn reference(&self, name: &Reference) -> Result<Option<Descriptor>, Error> {
        let item = file_of(name);
        self.settle_name(&item)?;
        let found = read_ref(&self.path("refs").join(item))?;
        Ok(found.map(|(_, target)| target))
    }

    /// Returns all names, sorted, with what they point to.
    pub fn references(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
        let dir = self.path("refs");
        let mut all = Vec::new();
        for file in disk::names(&dir)? {
            all.extend(read_ref(&dir.join(file))?);
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Waits until no other thread or process gives the name in the file `item`.
    pub(super) fn lock_name(&self, item: &str) -> Result<File, Error> {
        self.lock(Act::Name, &Digest::of(item.as_bytes()))
    }

    /// Decides on a name that another boot left doubted: it means what it was moved to if that is
    /// whole, else what it meant before, if that is.
    pub(super) fn settle_name(&self, item: &str) -> Result<(), Error> {
        let marks = self.suspicions(item)?;
        if marks.is_empty() {
            return Ok(());
        }
        let _lock = self.lock_name(item)?;
        let path = self.path("refs").join(item);
        if !self.means_whole(&path)? {
            for mark in &marks {
                if self.means_whole(mark)? {
                    disk::rename(mark, &path)?;
                    break;
                }
            }
        }
        self.acquit(&marks)
    }

    /// Whether the file of a name leads to something whole.
    fn means_whole(&self, path: &Path) -> Result<bool, Error> {
        match read_ref(path)? {
            Some((_, target)) => self.is_served(&target.digest),
            None => Ok(false),
        }
    }

    /// Writes a small file through the lease. `settle` syncs it first, so that a power cut never
    /// leaves less than what the file held before.
    pub(super) fn write_file(&self, path: &Path, bytes: &[u8], settle: bool) -> Result<(), Error> {
        let lease = self.lease()?;
        let temp = Temp(lease.fresh("file"));
        let mut file: File = disk::new_file(&temp.0)?;
        fault::point("write", &temp.0)?;
        file.write_all(bytes)
            .map_err(|e| Error::io("write", &temp.0, e))?;
        if settle {
            file.sync_data()
                .map_err(|e| Error::io("sync", &temp.0, e))?;
        }
        disk::rename(&temp.0, path)
    }
}

/// Returns what the file of a name is called. It holds a `+`, which nothing else does that is
/// marked.
fn file_of(name: &Reference) -> String {
    let full = name.full();
    let file = full.replace('/', "+");
    match file.len() > 255 {
        true => format!("+{}", Digest::of(full.as_bytes()).hex()),
        false => file,
    }
}

/// Whether this is the file of a name, among what is marked.
pub(super) fn is_file(item: &str) -> bool {
    item.contains('+')
}

/// Reads a ref file. One that a power cut tore, or that is no ref, counts as absent.
fn read_ref(path: &Path) -> Result<Option<(Reference, Descriptor)>, Error> {
    let Some((head, value)) = frame::read(path)? else {
        return Ok(None);
    };
    let parsed = head
        .key
        .parse()
        .ok()
        .zip(serde_json::from_slice(&value).ok());
    Ok(parsed)
}
