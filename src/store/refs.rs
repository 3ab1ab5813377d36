//! Names: one small file a name, pointing to a manifest or index.
//!
//! A file is called as its name in full with `/` written as `+` (no name holds a `+`); one too
//! long for a file name is called by its hash. The name itself stands inside. `repo@sha256:…`
//! names record what a repository calls an image; they are names like others, only shown apart.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use super::Store;
use super::blobs::Temp;
use super::disk;
use super::error::Error;
use super::fault;
use super::frame::{self, Head};
use crate::image::{Descriptor, Digest, Reference};

impl Store {
    /// Gives `target`, a manifest or index in the store, the name `name`, which it is taken from
    /// whatever had it. A power cut leaves the old target or the new one.
    pub fn tag(&self, name: &Reference, target: &Descriptor) -> Result<(), Error> {
        let _work = self.work()?;
        self.need_blob(&target.digest)?;
        let path = self.ref_path(name);
        let before = read_ref(&path)?;
        if before.as_ref().is_some_and(|(_, old)| old == target) {
            return Ok(());
        }
        let head = Head {
            key: name.full(),
            keeps: Vec::new(),
        };
        let value = serde_json::to_vec(target).expect("a descriptor is JSON");
        self.write_file(&path, &frame::frame(&head, &value), before.is_some())
    }

    /// Removes a name; returns whether it existed. What it pointed to stays.
    pub fn untag(&self, name: &Reference) -> Result<bool, Error> {
        disk::remove_file(&self.ref_path(name))
    }

    /// Returns what a name points to.
    pub fn reference(&self, name: &Reference) -> Result<Option<Descriptor>, Error> {
        let found = read_ref(&self.ref_path(name))?;
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

    fn ref_path(&self, name: &Reference) -> PathBuf {
        let full = name.full();
        let mut file = full.replace('/', "+");
        if file.len() > 255 {
            file = format!("+{}", Digest::of(full.as_bytes()).hex());
        }
        self.path("refs").join(file)
    }

    /// Writes a small file through the lease. `settle` syncs it first, so that a power cut never
    /// leaves less than what the file held before.
    pub(super) fn write_file(
        &self,
        path: &std::path::Path,
        bytes: &[u8],
        settle: bool,
    ) -> Result<(), Error> {
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

/// Reads a ref file. One that a power cut tore, or that is no ref, counts as absent.
fn read_ref(path: &std::path::Path) -> Result<Option<(Reference, Descriptor)>, Error> {
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
