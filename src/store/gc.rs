//! What may be deleted, and deleting it.
//!
//! Deciding is apart from doing: a [`Catalog`] of names and images is read, what goes is chosen
//! ([`Doomed`]), what is left is marked (`mark`), and the rest is swept (`sweep`). The exclusive
//! `use` lock is held from the marking to the end of the sweep, so nothing becomes needed in
//! between; while somebody works in the store, names and images go and bytes stay for the next
//! prune. What a name was moved to is made permanent before what it meant is deleted.
//!
//! Cached results go least recently used first and, of those that one build used, the latest
//! made first: a result on top of another never outlives it. When a record was last used is its
//! file's mtime, which a build sets to its own start.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::SystemTime;

use super::Store;
use super::disk;
use super::error::Error;
use super::images::{self, Catalog};
use super::mark::Live;
use super::records;
use super::usage::Holdings;
use crate::image::{Descriptor, Digest, ImageId, Reference};

/// What a prune takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prune {
    /// Images without a tag, unless a container uses them.
    pub images: bool,
    /// Images with a tag too.
    pub all: bool,
    /// Cached results too, with the layers that only they keep, and without `until` and `keep`
    /// the directories of cache mounts.
    pub cache: bool,
    /// Only images made, and cached results last used, before this.
    pub until: Option<SystemTime>,
    /// Cached results only as far as needed for the store to hold no more bytes of disk than
    /// this.
    pub keep: Option<u64>,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for Prune {
    /// Images without a tag, and what nothing leads to.
    fn default() -> Self {
        Self {
            images: true,
            all: false,
            cache: false,
            until: None,
            keep: None,
            dry_run: false,
        }
    }
}

/// What went, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names.
    pub untagged: Vec<Reference>,
    /// Images.
    pub deleted: Vec<ImageId>,
    /// Cached results.
    pub cached: usize,
    /// Bytes of disk.
    pub freed: u64,
    /// Whether bytes stayed because another process works in the store.
    pub deferred: bool,
}

/// What was chosen to go.
#[derive(Debug, Default)]
pub(super) struct Doomed {
    /// Names.
    pub(super) untagged: Vec<Reference>,
    /// Images.
    pub(super) deleted: Vec<ImageId>,
    /// Files of records of cached results.
    pub(super) cached: HashSet<PathBuf>,
}

/// A cached result that may go.
struct Cached {
    path: PathBuf,
    keeps: Vec<Digest>,
    used: SystemTime,
    made: SystemTime,
}

impl Store {
    /// Removes cached results, least recently used first, when the store holds more than `most`
    /// bytes. Images stay. The sizes that were noted when layers were made are added up first, so
    /// a store within its bounds costs a few reads.
    pub fn cap(&self, most: u64) -> Result<Removed, Error> {
        if self.noted_bytes()? <= most {
            return Ok(Removed::default());
        }
        self.prune(Prune {
            images: false,
            keep: Some(most),
            ..Prune::default()
        })
    }

    /// Removes what nothing needs: images without a tag, and all blobs, trees and records that no
    /// name, image, container or cached result leads to.
    pub fn prune(&self, what: Prune) -> Result<Removed, Error> {
        let lock = match what.dry_run {
            true => None,
            false => self.sweep()?,
        };
        self.settle_names()?;
        if lock.is_some() {
            self.sync_moved()?;
        }
        let catalog = self.catalog()?;
        let mut doomed = self.choose_images(&catalog, &what)?;
        if what.dry_run || lock.is_some() {
            doomed.cached = self.choose_cached(&catalog, &doomed, &what)?;
        }
        let mut removed = Removed {
            untagged: doomed.untagged.clone(),
            deleted: doomed.deleted.clone(),
            cached: doomed.cached.len(),
            ..Removed::default()
        };
        // The directories of cache mounts have no age, so they go when all of the cache does.
        let takes_caches = what.cache && what.until.is_none() && what.keep.is_none();
        if what.dry_run {
            let live = self.mark_live(&catalog, &doomed)?;
            removed.freed = self.sweep_dead(&live, None, true)?;
            if takes_caches {
                removed.freed += self.drop_caches(true)?;
            }
            return Ok(removed);
        }
        self.forget(&doomed.untagged, &doomed.deleted)?;
        if lock.is_none() {
            removed.deferred = true;
            return Ok(removed);
        }
        // Marked before any record goes, and from the same list, so that a dry run is exact.
        let live = self.mark_live(&catalog, &doomed)?;
        for path in &doomed.cached {
            disk::remove_file(path)?;
        }
        removed.freed = self.sweep_dead(&live, None, false)?;
        if takes_caches {
            removed.freed += self.drop_caches(false)?;
        }
        self.drop_stale_marks()?;
        Ok(removed)
    }

    /// Chooses the images that a prune takes: dangling ones, or all that no container uses.
    fn choose_images(&self, catalog: &Catalog, what: &Prune) -> Result<Doomed, Error> {
        if !what.images {
            return Ok(Doomed::default());
        }
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
        let mut doomed = Doomed::default();
        for (id, _) in &catalog.images {
            if !used.contains(id)
                && (what.all || !tagged.contains(id))
                && self.is_older(id, what.until)?
            {
                doomed.deleted.push(id.clone());
            }
        }
        let gone: BTreeSet<&ImageId> = doomed.deleted.iter().collect();
        for name in &catalog.names {
            // A name that leads to nothing any more goes as well, when all go.
            let leads_nowhere = name.images.is_empty() && what.all;
            let all_gone =
                !name.images.is_empty() && name.images.iter().all(|id| gone.contains(id));
            if leads_nowhere || all_gone {
                doomed.untagged.push(name.name.clone());
            }
        }
        Ok(doomed)
    }

    /// Whether an image says it was made before `until`; one that does not say counts as old.
    fn is_older(&self, id: &ImageId, until: Option<SystemTime>) -> Result<bool, Error> {
        let Some(until) = until else {
            return Ok(true);
        };
        let created = self.created(id)?;
        Ok(created.is_none_or(|created| created < until))
    }

    /// Chooses the cached results that go: all of them, or as many as bring the store down to
    /// what it may hold.
    fn choose_cached(
        &self,
        catalog: &Catalog,
        doomed: &Doomed,
        what: &Prune,
    ) -> Result<HashSet<PathBuf>, Error> {
        if !what.cache && what.keep.is_none() {
            return Ok(HashSet::new());
        }
        let (mut old, fresh): (Vec<Cached>, Vec<Cached>) = self
            .cached()?
            .into_iter()
            .partition(|cached| what.until.is_none_or(|until| cached.used < until));
        if let Some(most) = what.keep {
            old.sort_by(|a, b| a.used.cmp(&b.used).then(b.made.cmp(&a.made)));
            let holdings = Holdings::read(self)?;
            let mut roots = self.mark_roots(catalog, doomed)?;
            fresh.iter().for_each(|cached| roots.keep(&cached.keeps));
            let holds = |gone: usize| {
                let mut live = roots.clone();
                let left = old.iter().skip(gone);
                left.for_each(|cached| live.keep(&cached.keeps));
                holdings.bytes(holdings.complete(live))
            };
            let gone = least(old.len(), |gone| holds(gone) <= most);
            old.truncate(gone);
        }
        Ok(old.into_iter().map(|cached| cached.path).collect())
    }

    /// Returns every cached result.
    fn cached(&self) -> Result<Vec<Cached>, Error> {
        let mut all = Vec::new();
        for kind in self.cache_kinds()? {
            for (path, record) in records::walk(self, &kind)? {
                let Some(record) = record?.filter(|record| !record.keeps.is_empty()) else {
                    continue;
                };
                let Some((used, made)) = disk::times(&path)? else {
                    continue;
                };
                all.push(Cached {
                    path,
                    keeps: record.keeps,
                    used,
                    made,
                });
            }
        }
        Ok(all)
    }

    /// Removes names and records of images.
    pub(super) fn forget(&self, untagged: &[Reference], deleted: &[ImageId]) -> Result<(), Error> {
        for name in untagged {
            self.untag(name)?;
        }
        for id in deleted {
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
        let live = self.mark_live(&catalog, &Doomed::default())?;
        removed.freed = self.sweep_dead(&live, Some(&theirs), false)?;
        Ok(())
    }
}

/// Returns the least number up to `most` that is enough, where more than enough is enough too;
/// `most` when none is.
fn least(most: usize, enough: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}
