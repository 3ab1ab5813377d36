//! What earlier builds learned of a context's files: stamps and digests.
//!
//! ```text
//! "cooper stat index 1\n"
//! per file:  u32 length of the path, path, u64 inode, u64 size,
//!            i64 s and u32 ns of mtime, i64 s and u32 ns of ctime, 32 bytes of sha256
//! ```
//!
//! Integers are little-endian. A file whose stamp is as young as the index itself could change
//! again within the same tick of the clock, so it is left out and hashed once more next time.
//! An index that can't be read counts as empty: it only ever saves work.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::image::Digest;
use crate::layer::{Inode, Kind, Node, TreePath};

const MAGIC: &[u8] = b"cooper stat index 1\n";
/// Stamps younger than this are not trusted (a tick of the slowest clock a kernel uses, ten-fold).
const SETTLED: Duration = Duration::from_millis(100);

/// What a change of a file's bytes can't leave as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Stamp {
    /// Takes the stamp of an entry.
    pub(super) fn of(inode: &Inode, node: &Node) -> Self {
        let size = if let Kind::File { size } = node.kind {
            size
        } else {
            0
        };
        let time = |time: crate::layer::Time| (time.secs, time.nanos);
        Self {
            inode: inode.ino,
            size,
            mtime: time(node.meta.mtime),
            ctime: time(inode.ctime),
        }
    }

    fn settled(&self, now: SystemTime) -> bool {
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let limit = since_1970.saturating_sub(SETTLED);
        let limit = (limit.as_secs().cast_signed(), limit.subsec_nanos());
        self.ctime < limit && self.mtime < limit
    }
}

/// Digests of a context's files by path and stamp.
#[derive(Debug, Default)]
pub(super) struct StatIndex {
    files: HashMap<TreePath, (Stamp, [u8; 32])>,
    changed: bool,
}

impl StatIndex {
    /// Reads an index; anything malformed gives an empty one.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let files = Self::parse(bytes).unwrap_or_default();
        Self {
            files,
            changed: false,
        }
    }

    fn parse(bytes: &[u8]) -> Option<HashMap<TreePath, (Stamp, [u8; 32])>> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let mut files = HashMap::with_capacity(rest.len() / 100);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(take(&mut rest)?) as usize;
            let (path, after) = rest.split_at_checked(length)?;
            rest = after;
            let mut number = || take(&mut rest).map(u64::from_le_bytes);
            let (inode, size) = (number()?, number()?);
            let mut time = || -> Option<(i64, u32)> {
                Some((
                    i64::from_le_bytes(take(&mut rest)?),
                    u32::from_le_bytes(take(&mut rest)?),
                ))
            };
            let (mtime, ctime) = (time()?, time()?);
            let hash: [u8; 32] = take(&mut rest)?;
            files.insert(
                TreePath::clean(path)?,
                (
                    Stamp {
                        inode,
                        size,
                        mtime,
                        ctime,
                    },
                    hash,
                ),
            );
        }
        Some(files)
    }

    /// Returns the digest of the file if its stamp is the known one.
    pub(super) fn get(&self, path: &TreePath, stamp: &Stamp) -> Option<Digest> {
        let (known, hash) = self.files.get(path)?;
        (known == stamp).then(|| Digest::from_sha256(hash))
    }

    /// Remembers a file.
    pub(super) fn put(&mut self, path: &TreePath, stamp: Stamp, digest: &Digest) {
        if let Some(hash) = digest.sha256() {
            self.files.insert(path.clone(), (stamp, hash));
            self.changed = true;
        }
    }

    /// Returns the index to write, or `None` when nothing was learned.
    pub(super) fn changed(&self) -> Option<Vec<u8>> {
        self.changed.then(|| self.write(SystemTime::now()))
    }

    fn write(&self, now: SystemTime) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (path, (stamp, hash)) in &self.files {
            if !stamp.settled(now) {
                continue;
            }
            let length = u32::try_from(path.as_bytes().len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(path.as_bytes());
            bytes.extend_from_slice(&stamp.inode.to_le_bytes());
            bytes.extend_from_slice(&stamp.size.to_le_bytes());
            for (secs, nanos) in [stamp.mtime, stamp.ctime] {
                bytes.extend_from_slice(&secs.to_le_bytes());
                bytes.extend_from_slice(&nanos.to_le_bytes());
            }
            bytes.extend_from_slice(hash);
        }
        bytes
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::clean(text.as_bytes()).unwrap()
    }

    fn stamp(ctime: i64) -> Stamp {
        Stamp {
            inode: 1,
            size: 2,
            mtime: (3, 4),
            ctime: (ctime, 6),
        }
    }

    #[test]
    fn what_was_learned_is_known_next_time() {
        let mut index = StatIndex::default();
        assert_eq!(index.changed(), None);
        index.put(&path("a/b"), stamp(5), &Digest::of(b"x"));
        let again = StatIndex::read(&index.changed().unwrap());
        assert_eq!(again.get(&path("a/b"), &stamp(5)), Some(Digest::of(b"x")));
        assert_eq!(again.get(&path("a/b"), &stamp(7)), None);
        assert_eq!(again.get(&path("a"), &stamp(5)), None);
        assert_eq!(again.changed(), None);
    }

    #[test]
    fn a_file_that_changed_just_now_is_hashed_again() {
        let now = SystemTime::now();
        let secs = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut index = StatIndex::default();
        index.put(
            &path("young"),
            stamp(secs.cast_signed() + 1),
            &Digest::of(b"x"),
        );
        assert_eq!(index.write(now), MAGIC);
    }

    #[test]
    fn a_damaged_index_is_an_empty_one() {
        let mut index = StatIndex::default();
        index.put(&path("a"), stamp(5), &Digest::of(b"x"));
        let mut bytes = index.changed().unwrap();
        bytes.truncate(bytes.len() - 1);
        assert_eq!(StatIndex::read(&bytes).files.len(), 0);
        assert_eq!(StatIndex::read(b"junk").files.len(), 0);
    }
}
