//! Directories as `dir:` has them (containers-transports(5)): one image in files that are named by
//! their digests, beside its `manifest.json` and a `version`.
//!
//! Reading maps the names of a layout onto such a directory, so that all else is as for layouts.
//! An index among them has its images' manifests in `DIGEST.manifest.json`. Signatures are neither
//! read nor written.

use std::path::Path;

use crate::event::Sink;
use crate::image::{Descriptor, Digest, Document, MAX_MANIFEST};

use super::super::Store;
use super::super::disk;
use super::super::error::{ArchiveFlaw, Error};
use super::super::images::Image;
use super::source::{DirSource, Member, Source};
use super::write::{self, DirFiles};
use super::{Loaded, oci};

/// The file with the image's own manifest or index.
const TOP: &str = "manifest.json";
/// The file that tells such a directory from others, and what it says.
const VERSION: &str = "version";
const TEXT: &str = "Directory Transport Version: 1.1\n";
/// How deep indexes may lie in indexes.
const MAX_NESTING: u32 = 4;

/// A directory, under the names of a layout.
struct Bare {
    inner: DirSource,
    top: Digest,
}

impl Source for Bare {
    fn find(&self, name: &str) -> Result<Option<Member>, Error> {
        let Some(hex) = name.strip_prefix("blobs/sha256/") else {
            return Ok(None);
        };
        if hex == self.top.hex() {
            return self.inner.find(TOP);
        }
        match self.inner.find(hex)? {
            Some(blob) => Ok(Some(blob)),
            None => self.inner.find(&format!("{hex}.{TOP}")),
        }
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

/// Reads the image, or the index with the images that are there.
pub(super) fn read(store: &Store, dir: &Path, sink: &dyn Sink) -> Result<Loaded, Error> {
    let inner = DirSource::open(dir)?;
    let source: &dyn Source = &inner;
    let bytes = source.bytes(TOP, MAX_MANIFEST)?;
    let (size, top) = (bytes.len() as u64, Digest::of(&bytes));
    let document = Document::parse(None, bytes)?;
    let target = Descriptor {
        size,
        ..document.descriptor()
    };
    let bare = Bare { inner, top };
    oci::take_target(store, &bare, &target, sink, MAX_NESTING)?;
    Ok(Loaded {
        target,
        names: Vec::new(),
        ref_name: None,
    })
}

/// Writes one image, in place of the one that the directory holds.
pub(super) fn write(store: &Store, image: &Image, dir: &Path) -> Result<(), Error> {
    let _work = store.work()?;
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make", dir, e))?;
    let old = held(dir)?;
    let mut files = DirFiles::new(dir, |name| match name.rsplit_once('/') {
        Some((_, hex)) => hex.to_owned(),
        None => name.to_owned(),
    });
    write::put_layers(&mut files, store, &image.layers())?;
    write::put_bytes(
        &mut files,
        image.config.digest().hex(),
        image.config.bytes(),
    )?;
    write::put_bytes(&mut files, VERSION, TEXT.as_bytes())?;
    // Last, so that whoever reads meanwhile sees only what is complete.
    write::put_bytes(&mut files, TOP, image.manifest.bytes())?;
    let manifest = image.manifest.value();
    let kept = |name: &str| {
        let named = |blob: &Descriptor| blob.digest.hex() == name;
        named(&manifest.config) || manifest.layers.iter().any(named)
    };
    for name in old.iter().filter(|name| !kept(name)) {
        disk::remove_file(&dir.join(name))?;
    }
    Ok(())
}

/// What the directory holds of an image that was written before; an error where it holds anything
/// else, which is nobody's to write among.
fn held(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |e| Error::io("read", dir, e);
    let mut blobs = Vec::new();
    let (mut any, mut marked) = (false, false);
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        any = true;
        marked |= name == VERSION;
        let hex = name.strip_suffix(&format!(".{TOP}")).unwrap_or(&name);
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            blobs.push(name.into_owned());
        }
    }
    match any && !marked {
        true => Err(Error::Archive {
            path: dir.to_owned(),
            flaw: ArchiveFlaw::Missing(VERSION.to_owned()),
        }),
        false => Ok(blobs),
    }
}
