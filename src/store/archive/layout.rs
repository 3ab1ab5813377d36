//! OCI layout directories that hold other things than images: build caches.
//!
//! A [`Layout`] is read piece by piece, so that a layer that nobody wants stays where it is. What
//! is written beside it is whole: blobs first, the entry of `index.json` last. Layouts without
//! `oci-layout`, which older builders wrote, are read too.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use crate::event::Sink;
use crate::image::{Descriptor, Digest, Document, Index, Kind, MAX_MANIFEST, Mismatch, kind_of};

use super::super::Store;
use super::super::disk;
use super::super::error::{ArchiveFlaw, Error};
use super::super::images::LayerRef;
use super::Pick;
use super::oci::{self, REF_NAME};
use super::source::{DirSource, Source};
use super::take;
use super::write;

/// How deep indexes may lie in indexes.
const MAX_NESTING: u32 = 4;

/// A layout directory, open for reading.
#[derive(Debug)]
pub struct Layout {
    source: DirSource,
}

/// What is written into a layout beside what it holds.
#[derive(Debug, Clone, Copy)]
pub struct Loose<'a> {
    /// Layers, each in the form of its descriptor. One that the layout has need not be in the
    /// store.
    pub layers: &'a [LayerRef],
    /// Documents, the one that the tag leads to last.
    pub documents: &'a [&'a [u8]],
    /// What the tag leads to.
    pub top: &'a Descriptor,
    /// The tag, which its former bearer loses.
    pub tag: &'a str,
}

impl Layout {
    /// Opens the directory.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let source = DirSource::open(dir)?;
        Ok(Self { source })
    }

    fn source(&self) -> &dyn Source {
        &self.source
    }

    /// Reads the document that `pick` means; by its digest it need not be in the index.
    pub fn document(&self, pick: Pick<'_>) -> Result<Document, Error> {
        let source = self.source();
        let digest = match pick {
            Pick::Digest(digest) => digest.clone(),
            pick => {
                let index: Index = source.json("index.json", MAX_MANIFEST)?;
                let chosen = oci::choose(source, oci::group(index.manifests), pick)?;
                match chosen.into_iter().next() {
                    Some(entry) => entry.target.digest,
                    None => return Err(source.flaw(ArchiveFlaw::NotOne { has: Vec::new() })),
                }
            }
        };
        let bytes = self.verified(&digest, MAX_MANIFEST)?;
        Ok(Document::parse(None, bytes)?)
    }

    /// Reads a small blob of at most `limit` bytes.
    pub fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        self.verified(&blob.digest, limit)
    }

    /// Returns whether it has the blob.
    pub fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.source().find(&take::path_of(digest))?.is_some())
    }

    /// Takes a blob into the store as it is, its digest verified.
    pub fn take_blob(&self, store: &Store, blob: &Descriptor) -> Result<(), Error> {
        if store.blob(&blob.digest)?.is_some() {
            return Ok(());
        }
        let path = take::path_of(&blob.digest);
        let mut from = self.source().need(&path)?.open();
        let mut writer = store.blob_writer()?;
        let copied = io::copy(&mut from, &mut writer);
        copied.map_err(|e| Error::from_io("read", self.source().path(), e))?;
        writer.finish_as(&blob.digest, blob.size).map(drop)
    }

    /// Returns the error for a flaw of the layout.
    pub(super) fn flaw(&self, flaw: ArchiveFlaw) -> Error {
        self.source().flaw(flaw)
    }

    /// Takes a layer into the store, its digest and diff id verified.
    pub fn take(&self, store: &Store, layer: &LayerRef, sink: &dyn Sink) -> Result<(), Error> {
        let _work = store.work()?;
        take::layer(store, self.source(), layer, sink)
    }

    fn verified(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.source().bytes(&take::path_of(digest), limit)?;
        let got = Digest::of(&bytes);
        if got == *digest {
            return Ok(bytes);
        }
        Err(Error::Corrupt(Mismatch {
            want: digest.clone(),
            got,
            size: bytes.len() as u64,
        }))
    }

    /// Returns the digests of all that the index leads to, itself or through other documents.
    fn referenced(&self) -> Result<HashSet<Digest>, Error> {
        let index: Index = self.source().json("index.json", MAX_MANIFEST)?;
        let mut found = HashSet::new();
        let mut todo: Vec<(Descriptor, u32)> = Vec::new();
        let entries = |all: Vec<Descriptor>, depth| all.into_iter().map(move |d| (d, depth));
        todo.extend(entries(index.manifests, MAX_NESTING));
        while let Some((blob, depth)) = todo.pop() {
            let new = found.insert(blob.digest.clone());
            let is_document = matches!(
                kind_of(&blob.media_type),
                Some(Kind::Manifest | Kind::Index)
            );
            if !new || !is_document || depth == 0 || !self.has(&blob.digest)? {
                continue;
            }
            match self.document(Pick::Digest(&blob.digest))? {
                Document::Index(index) => {
                    todo.extend(entries(index.value().manifests.clone(), depth - 1));
                }
                Document::Manifest(manifest) => {
                    let value = manifest.value();
                    let blobs = value.layers.iter().chain([&value.config]);
                    found.extend(blobs.map(|blob| blob.digest.clone()));
                }
            }
        }
        Ok(found)
    }
}

/// Writes `loose` into the layout at `dir`, which is made when it is missing.
pub fn write_loose(store: &Store, loose: &Loose<'_>, dir: &Path) -> Result<(), Error> {
    let mut entry = loose.top.clone();
    entry
        .annotations
        .insert(REF_NAME.to_owned(), loose.tag.to_owned());
    write::layout_dir(store, &[write::loose(loose, entry)], dir)
}

/// Removes the blobs of the layout at `dir` that its index does not lead to.
pub fn drop_unreferenced(dir: &Path) -> Result<(), Error> {
    let kept = Layout::open(dir)?.referenced()?;
    let blobs = dir.join("blobs/sha256");
    for name in disk::names(&blobs)? {
        // What is not named as a blob is somebody else's.
        let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
            continue;
        };
        if !kept.contains(&digest) {
            disk::remove_file(&blobs.join(name))?;
        }
    }
    Ok(())
}
