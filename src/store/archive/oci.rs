//! Reads OCI layouts (image-spec, image-layout.md), also those that `docker save` writes now.
//!
//! Names come from `io.containerd.image.name`, which BuildKit and docker write, or from
//! `org.opencontainers.image.ref.name` where that is a full name.

use serde::Deserialize;

use crate::event::Sink;
use crate::image::{
    Descriptor, Document, Index, Kind, MAX_CONFIG, MAX_MANIFEST, Manifest, Raw, Reference,
};

use super::super::Store;
use super::super::error::{ArchiveFlaw, Error};
use super::super::images::Image;
use super::source::Source;
use super::take;
use super::{Loaded, Pick};

/// Tag or name of an entry (image-spec, annotations.md).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Full name of an entry, as containerd, BuildKit and docker write it.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// How deep indexes may lie in indexes.
const MAX_NESTING: u32 = 4;

#[derive(Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// Reads the images that `pick` means.
pub(super) fn read(
    store: &Store,
    source: &dyn Source,
    pick: Pick<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Loaded>, Error> {
    let layout: Layout = source.json("oci-layout", 1 << 10)?;
    if layout.version != "1.0.0" {
        return Err(source.flaw(ArchiveFlaw::Version(layout.version)));
    }
    let index: Index = source.json("index.json", MAX_MANIFEST)?;
    let entries = group(index.manifests);
    let mut loaded = Vec::new();
    for entry in choose(source, entries, pick)? {
        take_target(store, source, &entry.target, sink, MAX_NESTING)?;
        loaded.push(entry);
    }
    Ok(loaded)
}

/// Puts entries with one target together: an image has an entry for each of its names.
pub(super) fn group(manifests: Vec<Descriptor>) -> Vec<Loaded> {
    let mut entries: Vec<Loaded> = Vec::new();
    for mut descriptor in manifests {
        let ref_name = descriptor.annotations.remove(REF_NAME);
        let full = descriptor.annotations.remove(IMAGE_NAME);
        let text = full.or_else(|| ref_name.clone().filter(|name| name.contains('/')));
        // A name that is none is somebody's free text.
        let name = text.and_then(|text| text.parse::<Reference>().ok());
        let same = entries.iter_mut().find(|entry| {
            entry.target.digest == descriptor.digest
                && (entry.ref_name == ref_name || name.is_some())
        });
        match same {
            Some(entry) => entry.names.extend(name),
            None => entries.push(Loaded {
                target: bare(&descriptor),
                names: name.into_iter().collect(),
                ref_name,
            }),
        }
    }
    entries
}

/// A descriptor for use as what a name points to: without what belongs to the layout.
fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(
        &descriptor.media_type,
        descriptor.digest.clone(),
        descriptor.size,
    )
}

/// Chooses what is wanted. Shared with docker's older form.
pub(super) fn choose(
    source: &dyn Source,
    mut entries: Vec<Loaded>,
    pick: Pick<'_>,
) -> Result<Vec<Loaded>, Error> {
    let wanted = match pick {
        Pick::All => return Ok(entries),
        Pick::Only => {
            let mut digests: Vec<_> = entries.iter().map(|entry| &entry.target.digest).collect();
            digests.dedup();
            if digests.len() == 1 {
                return Ok(entries);
            }
            return Err(source.flaw(ArchiveFlaw::NotOne {
                has: describe(&entries),
            }));
        }
        Pick::Named(name) => name.to_owned(),
        Pick::Digest(digest) => digest.to_string(),
    };
    let has = describe(&entries);
    let name = wanted.parse::<Reference>().ok();
    entries.retain(|entry| {
        let by_name = name.as_ref().is_some_and(|name| entry.names.contains(name));
        entry.ref_name.as_ref() == Some(&wanted)
            || (by_name && !matches!(pick, Pick::Digest(_)))
            || entry.target.digest.as_str() == wanted
    });
    if entries.is_empty() {
        return Err(source.flaw(ArchiveFlaw::NoImage { wanted, has }));
    }
    Ok(entries)
}

fn describe(entries: &[Loaded]) -> Vec<String> {
    let describe = |entry: &Loaded| match (&entry.ref_name, entry.names.first()) {
        (_, Some(name)) => name.familiar(),
        (Some(tag), None) => tag.clone(),
        (None, None) => entry.target.digest.to_string(),
    };
    entries.iter().map(describe).collect()
}

/// Takes a manifest or index with all below it that the layout has.
pub(super) fn take_target(
    store: &Store,
    source: &dyn Source,
    target: &Descriptor,
    sink: &dyn Sink,
    depth: u32,
) -> Result<(), Error> {
    match target.kind() {
        Some(Kind::Manifest | Kind::Index) => {}
        _ => {
            return Err(Error::Document(crate::image::DocumentError::MediaType {
                digest: target.digest.clone(),
                got: target.media_type.clone(),
            }));
        }
    }
    if target.size > MAX_MANIFEST {
        return Err(source.flaw(ArchiveFlaw::TooLarge {
            file: take::path_of(&target.digest),
            size: target.size,
            limit: MAX_MANIFEST,
        }));
    }
    take::blob(store, source, target)?;
    let bytes = store.read_blob("document", &target.digest, MAX_MANIFEST)?;
    match Document::parse(Some(&target.media_type), bytes)? {
        Document::Manifest(manifest) => take_manifest(store, source, &manifest, sink),
        Document::Index(index) => {
            for child in &index.value().manifests {
                // Layouts often hold some platforms of an index only.
                let there = source.find(&take::path_of(&child.digest))?.is_some();
                if there && depth > 0 {
                    take_target(store, source, child, sink, depth - 1)?;
                }
            }
            Ok(())
        }
    }
}

fn take_manifest(
    store: &Store,
    source: &dyn Source,
    manifest: &Raw<Manifest>,
    sink: &dyn Sink,
) -> Result<(), Error> {
    let value = manifest.value();
    if !value.is_image() {
        // An attestation or other artifact beside the image: its blobs are all there is to it.
        for blob in value.layers.iter().chain([&value.config]) {
            take::blob(store, source, blob)?;
        }
        return Ok(());
    }
    if value.config.size > MAX_CONFIG {
        return Err(source.flaw(ArchiveFlaw::TooLarge {
            file: take::path_of(&value.config.digest),
            size: value.config.size,
            limit: MAX_CONFIG,
        }));
    }
    take::blob(store, source, &value.config)?;
    let bytes = store.read_blob("config", &value.config.digest, MAX_CONFIG)?;
    let config = Raw::parse("config", bytes)?;
    let image = Image::new(manifest.clone(), config)?;
    for layer in image.layers() {
        take::layer(store, source, &layer, sink)?;
    }
    store.put_image(&image.manifest, &image.config)?;
    Ok(())
}
