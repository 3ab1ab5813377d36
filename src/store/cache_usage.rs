//! What each cached result takes, for `df -v`.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

use super::Store;
use super::disk;
use super::error::Error;
use super::mark::Live;
use super::records;
use super::usage::{Holdings, union};
use crate::image::DiffId;

/// A cached result, or the directory of a cache mount.
#[derive(Debug, Clone)]
pub struct CacheUsage {
    /// 64 hex digits.
    pub id: String,
    /// Whether it is a cache mount's.
    pub is_mount: bool,
    /// Bytes of disk of what it needs.
    pub bytes: u64,
    /// When it was made.
    pub made: SystemTime,
    /// When it was used last.
    pub used: SystemTime,
    /// Whether images have all of it, too.
    pub shared: bool,
}

impl Store {
    /// Lists cached results that need something and the directories of cache mounts, those that
    /// were used least recently first.
    pub fn cache_usage(&self) -> Result<Vec<CacheUsage>, Error> {
        let _work = self.work()?;
        let holdings = Holdings::read(self)?;
        let images = union(&self.live_by_image(&self.images()?, &holdings)?, |_| true);
        let mut all = self.cache_mounts()?;
        for kind in self.cache_kinds()? {
            for (path, record) in records::walk(self, &kind)? {
                let Some(record) = record?.filter(|record| !record.keeps.is_empty()) else {
                    continue;
                };
                let mut live = Live::default();
                live.keep(&record.keeps);
                let shared = record.keeps.iter().all(|digest| {
                    let layer = DiffId(digest.clone());
                    images.layers.contains(&layer) || images.blobs.contains(digest)
                });
                let bytes = holdings.bytes(holdings.complete(live));
                let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
                let id = path.parent().and_then(name).zip(name(&path));
                all.extend(
                    entry(&path)?
                        .zip(id)
                        .map(|((made, used), (shard, rest))| CacheUsage {
                            id: shard + &rest,
                            is_mount: false,
                            bytes,
                            made,
                            used,
                            shared,
                        }),
                );
            }
        }
        all.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
        Ok(all)
    }

    fn cache_mounts(&self) -> Result<Vec<CacheUsage>, Error> {
        let top = self.path("caches");
        let mut all = Vec::new();
        for id in disk::names(&top)? {
            let path = top.join(&id);
            let Some((made, used)) = entry(&path)? else {
                continue;
            };
            all.push(CacheUsage {
                id,
                is_mount: true,
                bytes: disk::usage(&path)?,
                made,
                used,
                shared: false,
            });
        }
        Ok(all)
    }
}

/// When a file was made and changed last; `None` if it went meanwhile.
fn entry(path: &Path) -> Result<Option<(SystemTime, SystemTime)>, Error> {
    let times = |found: &Metadata| {
        let used = found.modified()?;
        // Not every file system knows when it made a file.
        Ok((found.created().unwrap_or(used).min(used), used))
    };
    match path.symlink_metadata().and_then(|found| times(&found)) {
        Ok(times) => Ok(Some(times)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}
