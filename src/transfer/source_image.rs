//! Source images as buildah has them: the sources of an image as gzipped tars, in a layout and in
//! registries.
//!
//! ```text
//! DIR             an OCI layout with one manifest
//!     config      `application/vnd.oci.source.image.config.v1+json`: who made it, and when
//!     layers      one tar for each artifact, in the order in which they were added
//! ```
//!
//! Nothing is unpacked and no engine runs it. Blobs pass through the store, where they stay until
//! the next prune.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::event::Sink;
use crate::image::{Digest, Document, MAX_CONFIG, Manifest, Raw, Reference, media};
use crate::registry::Version;
use crate::store::Store;
use crate::store::archive::{Artifact, Layout};

use super::error::Error;
use super::network::Network;

/// The config of a source image.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceConfig {
    /// When it was made, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

/// Makes a source image without artifacts at `dir`, where nothing may be yet.
pub fn create_source(store: &Store, dir: &Path, config: &SourceConfig) -> Result<(), Error> {
    refuse_existing(dir)?;
    let config = Raw::of(config);
    let descriptor = config.descriptor(media::SOURCE_CONFIG);
    let artifact = Artifact {
        manifest: Raw::of(Manifest::oci(descriptor, Vec::new())),
        config: config.bytes().to_vec(),
    };
    Ok(artifact.write(store, dir)?)
}

/// Adds a file, or what is in a directory, to the source image at `dir`. The annotations are
/// those of its layer.
pub fn add_source(
    store: &Store,
    dir: &Path,
    what: &Path,
    annotations: BTreeMap<String, String>,
    sink: &dyn Sink,
) -> Result<(), Error> {
    // Nothing of it is deleted before it is written.
    let _work = store.work()?;
    let mut artifact = read(&Layout::open(dir)?, dir)?;
    let mut layer = store.pack(what, sink)?;
    layer.annotations = annotations;
    let mut manifest = artifact.manifest.value().clone();
    manifest.layers.push(layer);
    artifact.manifest = Raw::of(manifest);
    Ok(artifact.write(store, dir)?)
}

/// Sends the source image at `dir` to a registry, and returns the digest of its manifest.
pub fn push_source(
    store: &Store,
    dir: &Path,
    to: &Reference,
    network: &Network,
    sink: &dyn Sink,
) -> Result<Digest, Error> {
    let _work = store.work()?;
    let layout = Layout::open(dir)?;
    let artifact = read(&layout, dir)?;
    store.put(&artifact.config)?;
    let manifest = artifact.manifest.value();
    for layer in &manifest.layers {
        layout.take_blob(store, layer)?;
    }
    let blobs: Vec<_> = manifest.layers.iter().chain([&manifest.config]).collect();
    let blobs: Vec<_> = blobs.into_iter().cloned().collect();
    let repository = network.writer(to, &[])?;
    network.wait(repository.send_all(&blobs, store, sink))?;
    let document = Document::Manifest(artifact.manifest);
    network.wait(repository.put_document(Version::of(to), &document))
}

/// Brings a source image from a registry to `dir`, where nothing may be yet.
pub fn pull_source(
    store: &Store,
    from: &Reference,
    dir: &Path,
    network: &Network,
    sink: &dyn Sink,
) -> Result<(), Error> {
    refuse_existing(dir)?;
    let _work = store.work()?;
    let reader = network.reader(from)?;
    let Document::Manifest(manifest) = network.wait(reader.document(Version::of(from)))? else {
        return Err(Error::NotSource {
            place: from.familiar(),
        });
    };
    check(&manifest, &from.familiar())?;
    let value = manifest.value();
    let config = reader.small_blob("config", &value.config, MAX_CONFIG);
    let config = network.wait(config)?;
    network.wait(reader.fetch_all(&value.layers, store, sink))?;
    Ok(Artifact { manifest, config }.write(store, dir)?)
}

fn read(layout: &Layout, dir: &Path) -> Result<Artifact, Error> {
    let artifact = Artifact::read(layout)?;
    check(&artifact.manifest, &dir.display().to_string())?;
    Ok(artifact)
}

fn check(manifest: &Raw<Manifest>, place: &str) -> Result<(), Error> {
    match manifest.value().config.media_type == media::SOURCE_CONFIG {
        true => Ok(()),
        false => Err(Error::NotSource {
            place: place.to_owned(),
        }),
    }
}

fn refuse_existing(dir: &Path) -> Result<(), Error> {
    match dir.exists() {
        true => Err(Error::File {
            doing: "make a source image at",
            path: dir.to_owned(),
            source: io::ErrorKind::AlreadyExists.into(),
        }),
        false => Ok(()),
    }
}
