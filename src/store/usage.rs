//! What the store holds and how much disk it takes, by what it belongs to.
//!
//! [`Store::usage`] answers `df`: every image with what it shares with others, the cached results
//! with what goes when they go. Bytes are those of the disk (blocks), so what several layers or
//! images share is counted once. Nothing is changed and nothing waits: what comes or goes
//! meanwhile may be missing.

use std::collections::HashMap;

use super::Store;
use super::disk;
use super::error::Error;
use super::gc::Doomed;
use super::images::Listed;
use super::layers::{self, Facts};
use super::mark::Live;
use super::records;
use super::sweep::held;
use super::trees;
use crate::image::{Descriptor, DiffId, Digest, ImageId};

/// What the disk is used for.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Images, newest first.
    pub images: Vec<ImageUsage>,
    /// Bytes that images hold, each counted once.
    pub image_bytes: u64,
    /// Bytes of those that go with the images that no container uses.
    pub image_reclaimable: u64,
    /// Containers.
    pub containers: Vec<ContainerUsage>,
    /// Number of cached results and of cache mounts' directories.
    pub cached: usize,
    /// Bytes that only those hold, and what nothing holds.
    pub cache_bytes: u64,
    /// Bytes of blobs, trees and containers' writable layers in all.
    pub total: u64,
}

/// What an image takes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub image: Listed,
    /// Bytes it shares with other images.
    pub shared: u64,
    /// Bytes that no other image has.
    pub unique: u64,
    /// Containers made from it.
    pub containers: usize,
}

/// What a container takes.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// Its id.
    pub id: String,
    /// Whether it runs.
    pub running: bool,
    /// Bytes of its writable layer.
    pub bytes: u64,
}

/// An unpacked layer.
struct TreeHeld {
    owner: Option<DiffId>,
    bytes: u64,
}

/// Everything with bytes, read once.
pub(super) struct Holdings {
    blobs: HashMap<Digest, u64>,
    trees: Vec<TreeHeld>,
    facts: HashMap<DiffId, Facts>,
    packed: Vec<(Vec<Digest>, Digest)>,
}

impl Holdings {
    /// Reads what `store` holds.
    pub(super) fn read(store: &Store) -> Result<Self, Error> {
        let mut facts = HashMap::new();
        for (_, record) in records::walk(store, layers::KIND)? {
            if let Some(record) = record?
                && let Ok(diff_id) = record.key.parse().map(DiffId)
                && let Ok(known) = serde_json::from_slice::<Facts>(&record.value)
            {
                facts.insert(diff_id, known);
            }
        }
        let mut packed = Vec::new();
        for (_, record) in records::walk(store, layers::PACKED)? {
            if let Some(record) = record?
                && let Ok(blob) = serde_json::from_slice::<Descriptor>(&record.value)
            {
                packed.push((record.keeps, blob.digest));
            }
        }
        let mut blobs = HashMap::new();
        let dir = store.path("blobs/sha256");
        for name in disk::names(&dir)? {
            if let Ok(digest) = format!("sha256:{name}").parse::<Digest>() {
                blobs.insert(digest, held(&dir.join(name))?);
            }
        }
        let trees = read_trees(store, &facts)?;
        Ok(Self {
            blobs,
            trees,
            facts,
            packed,
        })
    }

    /// Adds the blobs behind the layers of `live`, as `mark_origins` does.
    pub(super) fn complete(&self, mut live: Live) -> Live {
        for diff_id in &live.layers {
            live.blobs.insert(diff_id.0.clone());
            let origin = self
                .facts
                .get(diff_id)
                .and_then(|facts| facts.origin.as_ref());
            live.blobs
                .extend(origin.map(|origin| origin.digest.clone()));
        }
        for (keeps, blob) in &self.packed {
            if keeps
                .iter()
                .any(|layer| live.layers.contains(&DiffId(layer.clone())))
            {
                live.blobs.insert(blob.clone());
            }
        }
        live
    }

    /// Returns the bytes of disk of all that is in `live`.
    pub(super) fn bytes(&self, live: Live) -> u64 {
        let blobs = live
            .blobs
            .iter()
            .filter_map(|digest| self.blobs.get(digest));
        let trees = self.trees.iter().filter(|tree| {
            tree.owner
                .as_ref()
                .is_some_and(|owner| live.layers.contains(owner))
        });
        blobs.sum::<u64>() + trees.map(|tree| tree.bytes).sum::<u64>()
    }

    /// Returns the bytes of disk of everything.
    fn total(&self) -> u64 {
        self.blobs.values().sum::<u64>() + self.trees.iter().map(|tree| tree.bytes).sum::<u64>()
    }
}

fn read_trees(store: &Store, facts: &HashMap<DiffId, Facts>) -> Result<Vec<TreeHeld>, Error> {
    let chains = facts.iter().flat_map(|(diff_id, facts)| {
        let of = move |chain| (trees::chain_key(chain), diff_id.clone());
        facts.chains.iter().map(of)
    });
    let owners: HashMap<String, DiffId> = chains.collect();
    let dir = store.path("trees");
    let mut held = Vec::new();
    for name in disk::names(&dir)? {
        let owner = trees::layer_of(&name).or_else(|| owners.get(&name).cloned());
        let bytes = match disk::usage(&dir.join(&name)) {
            Ok(bytes) => bytes,
            // It went while we looked.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        held.push(TreeHeld { owner, bytes });
    }
    Ok(held)
}

impl Store {
    /// Returns the bytes that blobs have and trees were noted to have, without looking into trees.
    pub(super) fn noted_bytes(&self) -> Result<u64, Error> {
        let dir = self.path("blobs/sha256");
        let mut bytes = 0;
        for name in disk::names(&dir)? {
            bytes += held(&dir.join(name))?;
        }
        for name in disk::names(&self.path("trees"))? {
            if let Some(layer) = trees::layer_of(&name) {
                bytes += self.facts(&layer)?.size.unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    /// Returns what takes how much of the disk.
    pub fn usage(&self) -> Result<Usage, Error> {
        let _work = self.work()?;
        let holdings = Holdings::read(self)?;
        let containers = self.container_usage()?;
        let listed = self.images()?;
        let mut used: HashMap<ImageId, usize> = HashMap::new();
        for (_, image) in &containers {
            if let Some(image) = image {
                *used.entry(image.clone()).or_default() += 1;
            }
        }
        let lives = self.live_by_image(&listed, &holdings)?;
        let (blob_users, layer_users) = count_users(&lives);
        let mut usage = Usage::default();
        for (image, live) in listed.into_iter().zip(&lives) {
            let mut alone = live.clone();
            alone.blobs.retain(|digest| blob_users[digest] == 1);
            alone.layers.retain(|layer| layer_users[layer] == 1);
            let (all, unique) = (holdings.bytes(live.clone()), holdings.bytes(alone));
            usage.images.push(ImageUsage {
                shared: all - unique,
                unique,
                containers: used.get(&image.id).copied().unwrap_or(0),
                image,
            });
        }
        usage.image_bytes = holdings.bytes(union(&lives, |_| true));
        let in_use = union(&lives, |at| usage.images[at].containers > 0);
        usage.image_reclaimable = usage.image_bytes - holdings.bytes(in_use);
        let roots = self.mark_roots(&self.catalog()?, &Doomed::default())?;
        let by_roots = holdings.bytes(holdings.complete(roots));
        usage.cache_bytes = holdings.total().saturating_sub(by_roots);
        usage.cached = self.cached_count()?;
        let (mounts, mount_bytes) = self.caches_usage()?;
        usage.cached += mounts;
        usage.cache_bytes += mount_bytes;
        usage.containers = containers.into_iter().map(|(usage, _)| usage).collect();
        let writable = usage.containers.iter().map(|container| container.bytes);
        usage.total = holdings.total() + writable.sum::<u64>() + mount_bytes;
        Ok(usage)
    }

    pub(super) fn live_by_image(
        &self,
        listed: &[Listed],
        holdings: &Holdings,
    ) -> Result<Vec<Live>, Error> {
        let mut lives = Vec::new();
        for image in listed {
            let mut live = Live::default();
            for manifest in self.manifests_of(&image.id)? {
                self.mark_document(&manifest.digest, &mut live)?;
            }
            lives.push(holdings.complete(live));
        }
        Ok(lives)
    }

    fn container_usage(&self) -> Result<Vec<(ContainerUsage, Option<ImageId>)>, Error> {
        let mut all = Vec::new();
        for id in self.containers()? {
            let dir = self.container_dir(&id)?;
            let bytes = match disk::usage(&dir) {
                Ok(bytes) => bytes,
                // Removed while we looked.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let running = match self.lock_container(&id) {
                Ok(lock) => lock.is_none(),
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error),
            };
            let image = self.container_pins(&id)?.image;
            all.push((ContainerUsage { id, running, bytes }, image));
        }
        Ok(all)
    }

    fn cached_count(&self) -> Result<usize, Error> {
        let mut count = 0;
        for kind in self.cache_kinds()? {
            for (_, record) in records::walk(self, &kind)? {
                count += usize::from(record?.is_some_and(|record| !record.keeps.is_empty()));
            }
        }
        Ok(count)
    }
}

type Users<T> = HashMap<T, usize>;

fn count_users(lives: &[Live]) -> (Users<Digest>, Users<DiffId>) {
    let (mut blobs, mut layers) = (HashMap::new(), HashMap::new());
    for live in lives {
        for digest in &live.blobs {
            *blobs.entry(digest.clone()).or_default() += 1;
        }
        for layer in &live.layers {
            *layers.entry(layer.clone()).or_default() += 1;
        }
    }
    (blobs, layers)
}

pub(super) fn union(lives: &[Live], which: impl Fn(usize) -> bool) -> Live {
    let mut all = Live::default();
    for (_, live) in lives.iter().enumerate().filter(|(at, _)| which(*at)) {
        all.blobs.extend(live.blobs.iter().cloned());
        all.layers.extend(live.layers.iter().cloned());
    }
    all
}
