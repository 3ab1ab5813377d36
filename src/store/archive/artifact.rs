//! Layouts of one artifact each: no image, but a manifest of the same form, whose layers nobody
//! unpacks here.
//!
//! What is written takes the place of what the layout held. Blobs that stay are not written again.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::event::Sink;
use crate::image::{Compression, Descriptor, DiffId, Document, MAX_CONFIG, Manifest, Raw};
use crate::layer::{self, Change, Changes, Dir, EncodeOptions, Tree, TreePath};

use super::super::Store;
use super::super::error::{ArchiveFlaw, Error};
use super::super::images::LayerRef;
use super::layout::{Layout, drop_unreferenced};
use super::{Pick, write};

/// An artifact, without its layers.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What names the config and the layers.
    pub manifest: Raw<Manifest>,
    /// The config, whatever it is.
    pub config: Vec<u8>,
}

impl Artifact {
    /// Reads the one that the layout holds.
    pub fn read(layout: &Layout) -> Result<Self, Error> {
        let Document::Manifest(manifest) = layout.document(Pick::Only)? else {
            return Err(layout.flaw(ArchiveFlaw::NotOne { has: Vec::new() }));
        };
        let config = layout.small_blob(&manifest.value().config, MAX_CONFIG)?;
        Ok(Self { manifest, config })
    }

    /// Writes it into the layout at `dir`, which is made when it is missing. Layers that are not
    /// there come from the store.
    pub fn write(&self, store: &Store, dir: &Path) -> Result<(), Error> {
        let layer = |descriptor: &Descriptor| LayerRef {
            // Never looked at: the blob is there as its descriptor says.
            diff_id: DiffId(descriptor.digest.clone()),
            descriptor: descriptor.clone(),
        };
        let manifest = self.manifest.value();
        let layers: Vec<LayerRef> = manifest.layers.iter().map(layer).collect();
        let top = self.manifest.descriptor(manifest.media_type());
        let documents = [&self.config[..], self.manifest.bytes()];
        write::lone_dir(store, &write::lone(layers, &documents, top), dir)?;
        drop_unreferenced(dir)
    }
}

impl Store {
    /// Makes a gzipped tar of a file, or of what is in a directory.
    pub fn pack(&self, path: &Path, sink: &dyn Sink) -> Result<Descriptor, Error> {
        let _work = self.work()?;
        let failed = |source| Error::Pack {
            path: path.to_owned(),
            source,
        };
        let changes = files_at(path)?.map_err(failed)?;
        let mut blob = self.blob_writer()?;
        layer::encode(&changes, &EncodeOptions::default(), &mut blob).map_err(failed)?;
        let blob = blob.finish()?;
        self.layer_blob(
            &DiffId(blob.digest().clone()),
            Compression::Gzip,
            None,
            sink,
        )
    }
}

/// What is in the directory `path`, or the file itself, under its own name.
fn files_at(path: &Path) -> Result<Result<Changes, layer::Error>, Error> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let failed = |path: &Path, errno: Errno| Error::os("open", path, errno);
    match open(path) {
        Ok(dir) => Ok(layer::flatten(&Dir::new(Arc::new(dir)))),
        Err(Errno::NOTDIR) => {
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            let dir = open(parent).map_err(|errno| failed(parent, errno))?;
            let name = path.file_name().unwrap_or_default();
            Ok(lone(&Dir::new(Arc::new(dir)), name.as_bytes()))
        }
        Err(errno) => Err(failed(path, errno)),
    }
}

fn lone(dir: &Dir, name: &[u8]) -> Result<Changes, layer::Error> {
    let path = TreePath::ROOT.child(name);
    let node = dir.node(&path)?;
    let missing = layer::Error::Missing { path: path.clone() };
    let change = Change::Node(node.ok_or(missing)?);
    Ok(Changes {
        entries: [(path, change)].into(),
    })
}
