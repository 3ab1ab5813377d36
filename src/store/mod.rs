//! The disk: blobs, names, images, trees, records, containers, archives.
//!
//! ```text
//! $ROOT/                            0700
//!   format                          version, owner and id map; written last, so its owner is whole
//!   blobs/sha256/<hex>              manifests, configs and layers, as pulled, pushed or written
//!   refs/<name>                     name → descriptor, `/` written as `+`; `repo@sha256:…` too
//!   trees/layer-<diff id>/          an unpacked layer: an overlay lower dir
//!   trees/chain-<chain id>/         the same, for a layer whose tree depends on those below
//!   records/<kind>/<xx>/<key>       small facts; `image`, `layer`, `packed` are this room's own
//!   containers/<id>/{lock,pins,…}   working containers and running ones
//!   volumes/  networks/             the runner's
//!   caches/<hex>/                   directories of `RUN --mount=type=cache`
//!   locks/{use,name-xx,tree-xx,blob-xx,image-xx,facts-xx}
//!   unsynced/<boot id>/<item>       marks of what a power cut may damage (`durable`)
//!   tmp/<lease>/                    work in progress of one process (`lease`)
//! ```
//!
//! Promises:
//! - **Whole or absent.** Everything is made in a lease and renamed into place, so a kill or a
//!   full disk leaves nothing half-written under a final name. After a power cut, what was not
//!   synced is verified before it is used (`durable`).
//! - **Many processes at once.** Content-addressed names make most races harmless: the loser
//!   drops its copy. What is costly to do twice (unpacking) is locked by digest (`locks`).
//! - **Deletion is safe.** Whoever relies on things holds the `use` lock shared ([`Store::work`],
//!   [`Scratch`]); whoever deletes takes it exclusive *without waiting*, marks from refs, images,
//!   containers and records, then deletes the rest (`gc`). While a build runs, `rmi` and `prune`
//!   take names away and leave the bytes to the next prune.
//! - **Reading is cheap.** Opening the store reads one file and lists two directories that are
//!   nearly always empty; a name or a record is one file; nothing is synced.
//!
//! Limits: only sha256 content is kept (nothing else can be verified here). A store belongs to
//! one user and one id map (`format`).

pub mod archive;
mod attestations;
mod blobs;
mod cache_usage;
mod caches;
mod containers;
mod disk;
mod durable;
mod error;
mod estargz;
pub mod fault;
mod find;
mod format;
mod frame;
mod fsck;
mod gc;
mod images;
mod import;
mod layers;
mod lease;
mod locks;
mod mark;
mod plain;
mod records;
mod refs;
mod remove;
mod sweep;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trees;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

pub use attestations::index_over;
pub use blobs::{Blob, BlobWriter};
pub use cache_usage::CacheUsage;
pub use caches::{Cache, CacheRequest, CacheUse};
pub use containers::{ContainerLock, ContainerNames, Pins, is_container_name, random_id};
pub use error::{ArchiveFlaw, Error};
pub use find::{Found, Target, nearest_names};
pub use fsck::{Checked, Damage};
pub use gc::{Prune, Removed};
pub use images::{Image, LayerRef, Listed};
pub use lease::{Rubbish, Scratch};
pub use locks::Work;
pub use records::{Record, RecordKey, Records};
pub use trees::Tree;
pub use usage::{ContainerUsage, ImageUsage, Usage};

use crate::layer::{Marks, Ownership};

/// How to open a store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether overlayfs' marks must be `user.overlay.` attributes, as in a user namespace,
    /// where `trusted.` ones cannot be set.
    pub user_xattr: bool,
    /// Where the owners of files are written.
    pub owners: Ownership,
}

/// An open store. Cheap to clone; clones share one lease.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    marks: Marks,
    /// Boots that left marks of unsynced items. Nearly always none.
    other_boots: Vec<String>,
    boot: OnceLock<String>,
    held: Mutex<Held>,
}

/// What this handle holds of the store while it works.
#[derive(Debug, Default)]
struct Held {
    lease: Option<Arc<lease::Lease>>,
    work: Weak<Work>,
}

impl Store {
    /// Opens the store at `root`, which is laid out when it is missing or empty.
    pub fn open(root: &Path, options: Options) -> Result<Self, Error> {
        let marks = format::open(root, options)?;
        lease::reap(&root.join("tmp"))?;
        let mut other_boots = disk::names(&root.join("unsynced"))?;
        if !other_boots.is_empty() {
            let current = durable::current_boot()?;
            other_boots.retain(|boot| *boot != current);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                root: root.to_owned(),
                marks,
                other_boots,
                boot: OnceLock::new(),
                held: Mutex::default(),
            }),
        })
    }

    /// Returns where the store is.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Returns whether trees carry `user.overlay.` attributes rather than `trusted.overlay.`.
    pub fn user_xattr(&self) -> bool {
        self.shared.marks != Marks::Trusted
    }

    /// Returns whether owners are remembered, because inodes can't have them.
    pub fn remembers_owners(&self) -> bool {
        self.shared.marks.ownership() != Ownership::Inode
    }

    /// Returns which attributes mark this store's trees.
    pub fn marks(&self) -> Marks {
        self.shared.marks
    }

    /// Returns a path of the store's own.
    fn path(&self, below: &str) -> PathBuf {
        self.shared.root.join(below)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What is inside stays sound when a thread panics: both fields are set in one step.
        let held = self.shared.held.lock();
        held.unwrap_or_else(PoisonError::into_inner)
    }
}
