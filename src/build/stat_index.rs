//! What earlier builds learned of a context's files: stamps and digests.
//!
//! ```text
//! "cooper stat index 2\n"
//! per file, 81 bytes:  u64 device, u64 inode, u64 size, i64 s and u32 ns of mtime,
//!                      i64 s and u32 ns of ctime, u8 age, 32 bytes of sha256
//! ```
//!
//! Integers are little-endian; files are in the order of device and inode, so one is found in the
//! bytes as they were read and nothing is unpacked for it. A file is its inode: what it is called
//! says nothing about its bytes. Its age is how many indexes were written since a build last asked
//! for it, and at [`OLD`] it goes.
//!
//! A file whose stamp is as young as the index itself could change again within the same tick of
//! the clock, so it is left out and hashed once more next time. An index that can't be read counts
//! as empty: it only ever saves work.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::layer::{Inode, Kind, Node, Time};

const MAGIC: &[u8] = b"cooper stat index 2\n";
/// Stamps younger than this are not trusted (a tick of the slowest clock a kernel uses, ten-fold).
const SETTLED: Duration = Duration::from_millis(100);
/// At this age a file that nobody asks for is forgotten.
const OLD: u8 = u8::MAX;

/// Bytes of a file's record.
const RECORD: usize = 81;
type Record = [u8; RECORD];

/// SHA-256 of a file's bytes.
pub(super) type Hash = [u8; 32];

/// What a change of a file's bytes can't leave as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Device and inode.
    file: (u64, u64),
    size: u64,
    mtime: Time,
    ctime: Time,
}

impl Stamp {
    /// Takes the stamp of an entry.
    pub(super) fn of(inode: &Inode, node: &Node) -> Self {
        let size = if let Kind::File { size } = node.kind {
            size
        } else {
            0
        };
        Self {
            file: (inode.dev, inode.ino),
            size,
            mtime: node.meta.mtime,
            ctime: inode.ctime,
        }
    }

    fn settled(&self, now: SystemTime) -> bool {
        let since_1970 = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let limit = since_1970.saturating_sub(SETTLED);
        let limit = Time {
            secs: limit.as_secs().cast_signed(),
            nanos: limit.subsec_nanos(),
        };
        self.ctime < limit && self.mtime < limit
    }
}

/// Hashes of a context's files by stamp.
#[derive(Debug, Default)]
pub(super) struct StatIndex {
    /// What was read, in order.
    known: Vec<Record>,
    /// Which of those this build asked for.
    asked: Vec<bool>,
    /// What this build learned, by device and inode.
    learned: BTreeMap<(u64, u64), (Stamp, Hash)>,
}

impl StatIndex {
    /// Reads an index; anything malformed gives an empty one.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let records = bytes.strip_prefix(MAGIC).unwrap_or_default().as_chunks();
        let known = match records {
            (known, []) => known.to_vec(),
            _ => Vec::new(),
        };
        Self {
            asked: vec![false; known.len()],
            known,
            learned: BTreeMap::new(),
        }
    }

    /// Returns the hash of the file if its stamp is the known one.
    pub(super) fn get(&mut self, stamp: &Stamp) -> Option<Hash> {
        if let Some((known, hash)) = self.learned.get(&stamp.file) {
            return (known == stamp).then_some(*hash);
        }
        let found = self
            .known
            .binary_search_by_key(&stamp.file, |record| parse(record).0.file);
        let at = found.ok()?;
        self.asked[at] = true;
        let (known, _, hash) = parse(&self.known[at]);
        (known == *stamp).then_some(hash)
    }

    /// Remembers a file.
    pub(super) fn put(&mut self, stamp: Stamp, hash: Hash) {
        self.learned.insert(stamp.file, (stamp, hash));
    }

    /// Returns the index to write, or `None` when nothing was learned.
    pub(super) fn changed(&self) -> Option<Vec<u8>> {
        (!self.learned.is_empty()).then(|| self.write(SystemTime::now()))
    }

    fn write(&self, now: SystemTime) -> Vec<u8> {
        let kept = self.known.iter().zip(&self.asked).map(|(record, asked)| {
            let (stamp, age, hash) = parse(record);
            let age = if *asked { 0 } else { age.saturating_add(1) };
            (stamp, age, hash)
        });
        let kept =
            kept.filter(|(stamp, age, _)| *age < OLD && !self.learned.contains_key(&stamp.file));
        let learned = self
            .learned
            .values()
            .map(|(stamp, hash)| (*stamp, 0, *hash));
        let learned = learned.filter(|(stamp, ..)| stamp.settled(now));
        let mut records: Vec<_> = kept.chain(learned).collect();
        records.sort_unstable_by_key(|(stamp, ..)| stamp.file);
        let mut bytes = Vec::with_capacity(MAGIC.len() + records.len() * RECORD);
        bytes.extend_from_slice(MAGIC);
        for (stamp, age, hash) in records {
            for number in [stamp.file.0, stamp.file.1, stamp.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for time in [stamp.mtime, stamp.ctime] {
                bytes.extend_from_slice(&time.secs.to_le_bytes());
                bytes.extend_from_slice(&time.nanos.to_le_bytes());
            }
            bytes.push(age);
            bytes.extend_from_slice(&hash);
        }
        bytes
    }
}

/// Reads a record: stamp, age and hash.
fn parse(record: &Record) -> (Stamp, u8, Hash) {
    fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
        let (head, after) = rest.split_first_chunk().expect("records have one size");
        *rest = after;
        *head
    }
    let rest = &mut &record[..];
    let file = (
        u64::from_le_bytes(take(rest)),
        u64::from_le_bytes(take(rest)),
    );
    let size = u64::from_le_bytes(take(rest));
    let [mtime, ctime] = [(); 2].map(|()| Time {
        secs: i64::from_le_bytes(take(rest)),
        nanos: u32::from_le_bytes(take(rest)),
    });
    let [age] = take(rest);
    let stamp = Stamp {
        file,
        size,
        mtime,
        ctime,
    };
    (stamp, age, take(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64, ctime: i64) -> Stamp {
        Stamp {
            file: (7, inode),
            size: 2,
            mtime: Time { secs: 3, nanos: 4 },
            ctime: Time {
                secs: ctime,
                nanos: 6,
            },
        }
    }

    const HASH: Hash = [9; 32];

    #[test]
    fn what_was_learned_is_known_next_time() {
        let mut index = StatIndex::default();
        assert_eq!(index.changed(), None);
        for inode in [300, 1, 20] {
            index.put(stamp(inode, 5), [inode as u8; 32]);
        }
        let mut again = StatIndex::read(&index.changed().unwrap());
        for inode in [1, 20, 300] {
            assert_eq!(again.get(&stamp(inode, 5)), Some([inode as u8; 32]));
        }
        assert_eq!(again.get(&stamp(1, 7)), None, "it changed");
        assert_eq!(again.get(&stamp(2, 5)), None, "it is another file");
        assert_eq!(again.changed(), None);
        again.put(stamp(1, 7), HASH);
        let mut third = StatIndex::read(&again.changed().unwrap());
        assert_eq!(third.get(&stamp(1, 7)), Some(HASH));
        assert_eq!(third.get(&stamp(20, 5)), Some([20; 32]));
    }

    #[test]
    fn a_file_that_changed_just_now_is_hashed_again() {
        let now = SystemTime::now();
        let secs = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut index = StatIndex::default();
        index.put(stamp(1, secs.cast_signed() + 1), HASH);
        assert_eq!(index.write(now), MAGIC);
    }

    #[test]
    fn a_file_that_nobody_asks_for_is_forgotten_in_the_end() {
        let mut index = StatIndex::default();
        index.put(stamp(1, 5), HASH);
        index.put(stamp(2, 5), HASH);
        for round in 0..u64::from(OLD) {
            index = StatIndex::read(&index.write(SystemTime::now()));
            assert_eq!(index.known.len(), 2, "{round}");
            assert_eq!(index.get(&stamp(1, 5)), Some(HASH));
        }
        index = StatIndex::read(&index.write(SystemTime::now()));
        assert_eq!(index.get(&stamp(1, 5)), Some(HASH));
        assert_eq!(index.get(&stamp(2, 5)), None);
    }

    #[test]
    fn a_damaged_index_is_an_empty_one() {
        let mut index = StatIndex::default();
        index.put(stamp(1, 5), HASH);
        let mut bytes = index.changed().unwrap();
        bytes.truncate(bytes.len() - 1);
        assert_eq!(StatIndex::read(&bytes).known.len(), 0);
        assert_eq!(StatIndex::read(b"junk").known.len(), 0);
    }
}
