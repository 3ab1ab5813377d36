//! What is still needed: the roots and all they lead to.
//!
//! Roots are names, images, pins of containers and what records keep. Marking reads and changes
//! nothing; [`sweep`](super::sweep) deletes what was not marked.

use std::collections::HashSet;

use super::Store;
use super::error::Error;
use super::gc::Doomed;
use super::images::{self, Catalog};
use super::layers;
use super::records;
use crate::image::{Config, Descriptor, DiffId, Digest, ImageId, MAX_CONFIG, Raw};

/// Kinds of records that say what is, and keep nothing by themselves.
const OWN_KINDS: &[&str] = &[images::KIND, layers::KIND, layers::PACKED];

/// What is still needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    pub(super) blobs: HashSet<Digest>,
    pub(super) layers: HashSet<DiffId>,
}

impl Live {
    /// Adds all that `records` said a record keeps: each may be a layer, a blob or both.
    pub(super) fn keep(&mut self, keeps: &[Digest]) {
        for digest in keeps {
            self.layers.insert(DiffId(digest.clone()));
            self.blobs.insert(digest.clone());
        }
    }
}

impl Store {
    /// Marks all that is needed once `doomed` is gone.
    pub(super) fn mark_live(&self, catalog: &Catalog, doomed: &Doomed) -> Result<Live, Error> {
        let mut live = self.mark_roots(catalog, doomed)?;
        for kind in self.cache_kinds()? {
            for (path, record) in records::walk(self, &kind)? {
                if let Some(record) = record?
                    && !doomed.cached.contains(&path)
                {
                    live.keep(&record.keeps);
                }
            }
        }
        self.mark_origins(&mut live)?;
        Ok(live)
    }

    /// Marks what names, images and containers lead to.
    pub(super) fn mark_roots(&self, catalog: &Catalog, doomed: &Doomed) -> Result<Live, Error> {
        let mut live = Live::default();
        for name in &catalog.names {
            if !doomed.untagged.contains(&name.name) {
                self.mark_document(&name.target.digest, &mut live)?;
            }
        }
        let deleted: HashSet<&ImageId> = doomed.deleted.iter().collect();
        for (id, manifests) in &catalog.images {
            if !deleted.contains(id) {
                for manifest in manifests {
                    self.mark_document(&manifest.digest, &mut live)?;
                }
            }
        }
        for id in self.containers()? {
            let pins = self.container_pins(&id)?;
            live.layers.extend(pins.layers);
            live.blobs.extend(pins.image.map(|image| image.0));
        }
        Ok(live)
    }

    /// Returns the kinds of records that keep what they name: cached results.
    pub(super) fn cache_kinds(&self) -> Result<Vec<String>, Error> {
        let mut kinds = self.record_kinds()?;
        kinds.retain(|kind| !OWN_KINDS.contains(&kind.as_str()));
        Ok(kinds)
    }

    /// Marks the blobs behind the layers that are needed: plain, as they came, and as compressed.
    pub(super) fn mark_origins(&self, live: &mut Live) -> Result<(), Error> {
        for diff_id in &live.layers {
            live.blobs.insert(diff_id.0.clone());
            live.blobs
                .extend(self.facts(diff_id)?.origin.map(|origin| origin.digest));
        }
        for (_, record) in records::walk(self, layers::PACKED)? {
            let Some(record) = record? else { continue };
            let of_live = |layer: &Digest| live.layers.contains(&DiffId(layer.clone()));
            if record.keeps.iter().any(of_live)
                && let Ok(packed) = serde_json::from_slice::<Descriptor>(&record.value)
            {
                live.blobs.insert(packed.digest);
            }
        }
        Ok(())
    }

    /// Marks a manifest or index and all below it.
    pub(super) fn mark_document(&self, digest: &Digest, live: &mut Live) -> Result<(), Error> {
        live.blobs.insert(digest.clone());
        for manifest in self.manifests_below(digest)? {
            live.blobs.insert(manifest.digest().clone());
            let config = &manifest.value().config.digest;
            live.blobs.insert(config.clone());
            let layers = manifest.value().layers.iter();
            live.blobs.extend(layers.map(|layer| layer.digest.clone()));
            match self.read_blob("config", config, MAX_CONFIG) {
                Ok(bytes) => {
                    // A config that is none has no layers to keep.
                    if let Ok(config) = Raw::<Config>::parse("config", bytes) {
                        let diff_ids = &config.value().rootfs.diff_ids;
                        live.layers.extend(diff_ids.iter().cloned());
                    }
                }
                Err(Error::NoBlob { .. } | Error::Corrupt(_) | Error::Document(_)) => {}
                Err(e) => return Err(e),
            }
        }
        self.mark_indexes(digest, live)
    }

    /// Marks the indexes below an index, which lead to manifests and hold none themselves.
    fn mark_indexes(&self, digest: &Digest, live: &mut Live) -> Result<(), Error> {
        let Ok(crate::image::Document::Index(index)) = self.document(digest) else {
            return Ok(());
        };
        for child in &index.value().manifests {
            // What is not there costs nothing to keep.
            if live.blobs.insert(child.digest.clone()) {
                self.mark_indexes(&child.digest, live)?;
            }
        }
        Ok(())
    }
}
