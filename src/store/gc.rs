//! What may be deleted, and deleting it.
//!
//! Deciding is apart from doing: a [`Catalog`] of names and images is read, what goes is chosen,
//! what is left is marked ([`Live`]), and the rest is swept. Roots are names, images, pins of
//! containers and what records keep. The exclusive `use` lock is held from the marking to the end
//! of the sweep, so nothing becomes needed in between; while somebody works in the store, names
//! and images go and bytes stay for the next prune.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Store;
use super::disk;
use super::error::Error;
use super::images::{self, Catalog};
use super::layers;
use super::records;
use super::trees;
use crate::image::{Config, Descriptor, DiffId, Digest, ImageId, MAX_CONFIG, Raw, Reference};

/// What a prune takes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prune {
    /// Named images too, unless a container uses them; otherwise only those without a tag.
    pub all: bool,
    /// Cached results too, with the layers that only they keep.
    pub cache: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names.
    pub untagged: Vec<Reference>,
    /// Images.
    pub deleted: Vec<ImageId>,
    /// Bytes of disk.
    pub freed: u64,
    /// Whether bytes stayed because another process works in the store.
    pub deferred: bool,
}

/// What is still needed.
#[derive(Debug, Default)]
struct Live {
    blobs: HashSet<Digest>,
    layers: HashSet<DiffId>,
}

impl Live {
    /// Adds all that `records` said a record keeps: each may be a layer, a blob or both.
    fn keep(&mut self, keeps: &[Digest]) {
        for digest in keeps {
            self.layers.insert(DiffId(digest.clone()));
            self.blobs.insert(digest.clone());
        }
    }
}

impl Store {
    /// Removes what nothing needs: images without a tag, and all blobs, trees and records that no
    /// name, image, container or cached result leads to.
    pub fn prune(&self, what: Prune) -> Result<Removed, Error> {
        let lock = match what.dry_run {
            true => None,
            false => self.sweep()?,
        };
        let catalog = self.catalog()?;
        let mut removed = self.choose_doomed(&catalog, what.all)?;
        if what.dry_run {
            let live = self.mark_live(&catalog, &removed, what.cache)?;
            removed.freed = self.sweep_dead(&live, None, true)?;
            return Ok(removed);
        }
        self.forget(&removed)?;
        if lock.is_none() {
            removed.deferred = true;
            return Ok(removed);
        }
        if what.cache {
            self.drop_cache()?;
        }
        let live = self.mark_live(&catalog, &removed, what.cache)?;
        removed.freed = self.sweep_dead(&live, None, false)?;
        self.drop_stale_marks()?;
        Ok(removed)
    }

    /// Chooses the images that a prune takes: dangling ones, or all that no container uses.
    fn choose_doomed(&self, catalog: &Catalog, all: bool) -> Result<Removed, Error> {
        let mut used = HashSet::new();
        for id in self.containers()? {
            used.extend(self.container_pins(&id)?.image);
        }
        let tagged: HashSet<&ImageId> = catalog
            .names
            .iter()
            .filter(|name| name.name.digest().is_none())
            .flat_map(|name| &name.images)
            .collect();
        let mut removed = Removed::default();
        for (id, _) in &catalog.images {
            if !used.contains(id) && (all || !tagged.contains(id)) {
                removed.deleted.push(id.clone());
            }
        }
        let doomed: BTreeSet<&ImageId> = removed.deleted.iter().collect();
        for name in &catalog.names {
            // A name that leads to nothing any more goes as well, when all go.
            let leads_nowhere = name.images.is_empty() && all;
            let all_doomed =
                !name.images.is_empty() && name.images.iter().all(|id| doomed.contains(id));
            if leads_nowhere || all_doomed {
                removed.untagged.push(name.name.clone());
            }
        }
        Ok(removed)
    }

    /// Removes names and records of images.
    pub(super) fn forget(&self, removed: &Removed) -> Result<(), Error> {
        for name in &removed.untagged {
            self.untag(name)?;
        }
        for id in &removed.deleted {
            self.records(images::KIND).remove(id.digest())?;
        }
        Ok(())
    }

    /// Removes the bytes of deleted images that nothing else needs, if nobody works in the store.
    pub(super) fn sweep_images(
        &self,
        removed: &mut Removed,
        manifests: &[Descriptor],
    ) -> Result<(), Error> {
        let Some(_lock) = self.sweep()? else {
            removed.deferred = true;
            return Ok(());
        };
        let mut theirs = Live::default();
        for manifest in manifests {
            self.mark_document(&manifest.digest, &mut theirs)?;
        }
        self.mark_origins(&mut theirs)?;
        let catalog = self.catalog()?;
        let live = self.mark_live(&catalog, &Removed::default(), false)?;
        removed.freed = self.sweep_dead(&live, Some(&theirs), false)?;
        Ok(())
    }

    /// Marks all that is needed once `removed` is gone.
    fn mark_live(
        &self,
        catalog: &Catalog,
        removed: &Removed,
        without_cache: bool,
    ) -> Result<Live, Error> {
        let mut live = Live::default();
        for name in &catalog.names {
            if !removed.untagged.contains(&name.name) {
                self.mark_document(&name.target.digest, &mut live)?;
            }
        }
        let doomed: HashSet<&ImageId> = removed.deleted.iter().collect();
        for (id, manifests) in &catalog.images {
            if !doomed.contains(id) {
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
        if !without_cache {
            for kind in self.record_kinds()? {
                if OWN_KINDS.contains(&kind.as_str()) {
                    continue;
                }
                for (_, record) in records::walk(self, &kind)? {
                    if let Some(record) = record? {
                        live.keep(&record.keeps);
                    }
                }
            }
        }
        self.mark_origins(&mut live)?;
        Ok(live)
    }

    /// Marks the blobs behind the layers that are needed: plain, as they came, and as compressed.
    fn mark_origins(&self, live: &mut Live) -> Result<(), Error> {
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
    fn mark_document(&self, digest: &Digest, live: &mut Live) -> Result<(), Error> {
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

    /// Deletes every blob, tree and own record that is not `live`, only those of `within` when it
    /// is given. Returns the bytes of disk.
    fn sweep_dead(&self, live: &Live, within: Option<&Live>, dry: bool) -> Result<u64, Error> {
        let mut freed = self.sweep_blobs(live, within, dry)?;
        freed += self.sweep_trees(live, within, dry)?;
        if !dry {
            self.sweep_records(live, within)?;
        }
        Ok(freed)
    }

    fn sweep_blobs(&self, live: &Live, within: Option<&Live>, dry: bool) -> Result<u64, Error> {
        let dir = self.path("blobs/sha256");
        let mut freed = 0;
        for name in disk::names(&dir)? {
            let path = dir.join(&name);
            // A file that is no blob came from nobody here; it is left alone.
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else {
                continue;
            };
            let ours = within.is_none_or(|within| {
                within.blobs.contains(&digest) || within.layers.contains(&DiffId(digest.clone()))
            });
            if ours && !live.blobs.contains(&digest) {
                freed += held(&path)?;
                if !dry {
                    disk::remove_file(&path)?;
                }
            }
        }
        Ok(freed)
    }

    fn sweep_trees(&self, live: &Live, within: Option<&Live>, dry: bool) -> Result<u64, Error> {
        let mut owners: HashMap<String, DiffId> = HashMap::new();
        for (_, record) in records::walk(self, layers::KIND)? {
            let Some(record) = record? else { continue };
            let Ok(diff_id) = record.key.parse().map(DiffId) else {
                continue;
            };
            let facts = serde_json::from_slice::<layers::Facts>(&record.value);
            for chain in facts.unwrap_or_default().chains {
                owners.insert(trees::chain_key(&chain), diff_id.clone());
            }
        }
        let dir = self.path("trees");
        let mut freed = 0;
        for name in disk::names(&dir)? {
            let path = dir.join(&name);
            let owner = match name.strip_prefix("layer-") {
                Some(hex) => format!("sha256:{hex}").parse().ok().map(DiffId),
                None => owners.get(&name).cloned(),
            };
            let dead = match &owner {
                Some(owner) => {
                    !live.layers.contains(owner)
                        && within.is_none_or(|within| within.layers.contains(owner))
                }
                // A tree on its way out, or one that no layer claims.
                None => within.is_none() || name.starts_with(trees::GONE),
            };
            if dead {
                freed += match dry {
                    true => disk::usage(&path)?,
                    false => self.drop_tree(&path)?,
                };
            }
        }
        Ok(freed)
    }

    fn sweep_records(&self, live: &Live, within: Option<&Live>) -> Result<(), Error> {
        for kind in [layers::KIND, layers::PACKED] {
            for (path, record) in records::walk(self, kind)? {
                let keep = record?.is_some_and(|record| {
                    let text = record.key.split(' ').next().unwrap_or("");
                    let diff_id = text.parse().map(DiffId);
                    diff_id.is_ok_and(|id| {
                        live.layers.contains(&id)
                            || within.is_some_and(|within| !within.layers.contains(&id))
                    })
                });
                if !keep {
                    disk::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Removes every record that keeps something: cached results.
    fn drop_cache(&self) -> Result<(), Error> {
        for kind in self.record_kinds()? {
            if OWN_KINDS.contains(&kind.as_str()) {
                continue;
            }
            for (path, record) in records::walk(self, &kind)? {
                if record?.is_some_and(|record| !record.keeps.is_empty()) {
                    disk::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// Kinds of records that say what is, and keep nothing by themselves.
const OWN_KINDS: &[&str] = &[images::KIND, layers::KIND, layers::PACKED];

/// Returns the bytes of disk that a file holds.
fn held(path: &Path) -> Result<u64, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.blocks() * 512),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}
