//! Deletes what was not marked.
//!
//! The caller holds the exclusive `use` lock from the marking to the end of the sweep, so nothing
//! becomes needed in between. Within a layer the tree goes from sight in one rename.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Store;
use super::disk;
use super::error::Error;
use super::layers;
use super::mark::Live;
use super::records;
use super::trees;
use crate::image::{DiffId, Digest};

impl Store {
    /// Deletes every blob, tree and own record that is not `live`, only those of `within` when it
    /// is given. Returns the bytes of disk.
    pub(super) fn sweep_dead(
        &self,
        live: &Live,
        within: Option<&Live>,
        dry: bool,
    ) -> Result<u64, Error> {
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
            let owner = trees::layer_of(&name).or_else(|| owners.get(&name).cloned());
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
}

/// Returns the bytes of disk that a file holds.
pub(super) fn held(path: &Path) -> Result<u64, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.blocks() * 512),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}
