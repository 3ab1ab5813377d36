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

use std::time::{Duration, SystemTime};

use crate::layer::{Inode, Kind, Node, Time};

const MAGIC: &[u8] = b"cooper stat index 2\n";
/// Stamps younger than this are not trusted (a tick of the slowest clock a kernel uses, ten-fold).
const SETTLED: Duration = Duration::from_millis(100);
/// At this age a file that nobody asks for is forgotten.
const OLD: u8 = u8::MAX;

/// Bytes of a file's record.
const RECORD: usize = 81;
/// Where its age is.
const AGE: usize = 48;
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
///
/// Half a million files are held as they are written, 81 bytes each.
#[derive(Debug, Default)]
pub(super) struct StatIndex {
    /// What was read: an index as it is on the disk, or nothing.
    read: Vec<u8>,
    /// Which of its records this build asked for.
    asked: Vec<bool>,
    /// What this build learned; in order but for what came after `in_order`.
    learned: Vec<Record>,
    in_order: usize,
}

impl StatIndex {
    /// Takes an index as it was written; anything malformed gives an empty one.
    pub(super) fn read(bytes: Vec<u8>) -> Self {
        let records = bytes.strip_prefix(MAGIC).map(<[u8]>::as_chunks::<RECORD>);
        let Some((known, [])) = records else {
            return Self::default();
        };
        Self {
            asked: vec![false; known.len()],
            read: bytes,
            ..Self::default()
        }
    }

    /// The records that were read, in order.
    fn known(&self) -> &[Record] {
        let records = self.read.get(MAGIC.len()..).unwrap_or_default();
        records.as_chunks().0
    }

    /// Returns the hash of the file if its stamp is the known one.
    pub(super) fn get(&mut self, stamp: &Stamp) -> Option<Hash> {
        self.put_in_order();
        let (stamp_then, hash) = match find(&self.learned, stamp.file) {
            Some(at) => parse(&self.learned[at]),
            None => {
                let at = find(self.known(), stamp.file)?;
                self.asked[at] = true;
                parse(&self.known()[at])
            }
        };
        (stamp_then == *stamp).then_some(hash)
    }

    /// Remembers a file.
    pub(super) fn put(&mut self, stamp: Stamp, hash: Hash) {
        self.learned.push(record(&stamp, &hash));
    }

    /// Sorts what was learned by file, of each the last.
    fn put_in_order(&mut self) {
        if self.in_order < self.learned.len() {
            self.learned.reverse();
            self.learned.sort_by_key(file);
            self.learned.dedup_by_key(|record| file(record));
            self.in_order = self.learned.len();
        }
    }

    /// Returns the index to write, or `None` when nothing was learned.
    pub(super) fn changed(&mut self) -> Option<Vec<u8>> {
        (!self.learned.is_empty()).then(|| self.write(SystemTime::now()))
    }

    fn write(&mut self, now: SystemTime) -> Vec<u8> {
        self.put_in_order();
        let mut known = self.known().iter().zip(&self.asked).peekable();
        let mut learned = self.learned.iter().peekable();
        let mut bytes =
            Vec::with_capacity(self.read.len() + MAGIC.len() + size_of_val(&*self.learned));
        bytes.extend_from_slice(MAGIC);
        loop {
            let next = (
                known.peek().map(|(record, _)| file(record)),
                learned.peek().map(|record| file(record)),
            );
            match next {
                (Some(old), new) if new.is_none_or(|new| old < new) => {
                    let (record, asked) = known.next().expect("it was peeked at");
                    let age = if *asked {
                        0
                    } else {
                        record[AGE].saturating_add(1)
                    };
                    if age < OLD {
                        let at = bytes.len();
                        bytes.extend_from_slice(record);
                        bytes[at + AGE] = age;
                    }
                }
                (old, Some(new)) => {
                    known.next_if(|_| old == Some(new));
                    let record = learned.next().expect("it was peeked at");
                    if parse(record).0.settled(now) {
                        bytes.extend_from_slice(record);
                    }
                }
                _ => return bytes,
            }
        }
    }
}

/// Returns where the record of a file is.
fn find(records: &[Record], wanted: (u64, u64)) -> Option<usize> {
    records.binary_search_by_key(&wanted, file).ok()
}

/// Device and inode of a record.
fn file(record: &Record) -> (u64, u64) {
    let [device, inode] = [0, 8].map(|at| {
        let bytes = record[at..].first_chunk().expect("records have one size");
        u64::from_le_bytes(*bytes)
    });
    (device, inode)
}

/// Writes a record of age 0.
fn record(stamp: &Stamp, hash: &Hash) -> Record {
    let mut record = [0; RECORD];
    let mut rest = &mut record[..];
    let mut add = |bytes: &[u8]| {
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        rest = tail;
    };
    for number in [stamp.file.0, stamp.file.1, stamp.size] {
        add(&number.to_le_bytes());
    }
    for time in [stamp.mtime, stamp.ctime] {
        add(&time.secs.to_le_bytes());
        add(&time.nanos.to_le_bytes());
    }
    add(&[0]);
    add(hash);
    record
}

/// Reads a record: stamp and hash.
fn parse(record: &Record) -> (Stamp, Hash) {
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
    let [_age] = take(rest);
    let stamp = Stamp {
        file,
        size,
        mtime,
        ctime,
    };
    (stamp, take(rest))
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
        let mut again = StatIndex::read(index.changed().unwrap());
        for inode in [1, 20, 300] {
            assert_eq!(again.get(&stamp(inode, 5)), Some([inode as u8; 32]));
        }
        assert_eq!(again.get(&stamp(1, 7)), None, "it changed");
        assert_eq!(again.get(&stamp(2, 5)), None, "it is another file");
        assert_eq!(again.changed(), None);
        again.put(stamp(1, 7), HASH);
        let mut third = StatIndex::read(again.changed().unwrap());
        assert_eq!(third.get(&stamp(1, 7)), Some(HASH));
        assert_eq!(third.get(&stamp(20, 5)), Some([20; 32]));
    }

    #[test]
    fn what_was_learned_last_counts_at_once() {
        let mut index = StatIndex::default();
        for (ctime, hash) in [(5, 1), (7, 2), (6, 3)] {
            index.put(stamp(9, ctime), [hash; 32]);
            index.put(stamp(ctime.cast_unsigned(), 5), HASH);
        }
        assert_eq!(index.get(&stamp(9, 6)), Some([3; 32]));
        assert_eq!(index.get(&stamp(9, 5)), None);
        assert_eq!(index.get(&stamp(7, 5)), Some(HASH));
        assert_eq!(StatIndex::read(index.changed().unwrap()).known().len(), 4);
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
            index = StatIndex::read(index.write(SystemTime::now()));
            assert_eq!(index.known().len(), 2, "{round}");
            assert_eq!(index.get(&stamp(1, 5)), Some(HASH));
        }
        index = StatIndex::read(index.write(SystemTime::now()));
        assert_eq!(index.get(&stamp(1, 5)), Some(HASH));
        assert_eq!(index.get(&stamp(2, 5)), None);
    }

    #[test]
    fn a_damaged_index_is_an_empty_one() {
        let mut index = StatIndex::default();
        index.put(stamp(1, 5), HASH);
        let mut bytes = index.changed().unwrap();
        bytes.truncate(bytes.len() - 1);
        assert_eq!(StatIndex::read(bytes).known().len(), 0);
        assert_eq!(StatIndex::read(b"junk".to_vec()).known().len(), 0);
    }
}
