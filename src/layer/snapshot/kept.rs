//! A snapshot as a file, for a directory that is changed by one process after the other.
//!
//! ```text
//! "cooper snapshot 1\n"
//! number of directories, then each of them, sorted:
//!     path, number of entries, then each of them, sorted:
//!         name, inode, whether its birth is known, birth, change, names, owner, group
//! ```
//!
//! Numbers are u64 or i64 in little endian, times two of them, names and paths their length and
//! their bytes. What ends early or goes on is an error: nothing is known then of what changed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::entry::Time;
use super::super::node::Marks;
use super::super::path::TreePath;
use super::{Listing, Snapshot, Stamp};

const HEAD: &[u8] = b"cooper snapshot 1\n";

/// Names are 255 bytes at most, paths as long as their directories are deep.
const LONGEST: u64 = 1 << 20;

impl Snapshot {
    /// Writes down what was seen.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(HEAD)?;
        number(to, self.dirs.len() as u64)?;
        for (path, listing) in &self.dirs {
            bytes(to, path.as_bytes())?;
            number(to, listing.len() as u64)?;
            for (name, stamp) in listing {
                bytes(to, name)?;
                write_stamp(to, stamp)?;
            }
        }
        Ok(())
    }

    /// Reads what was seen of `root` and written down, all of `from`.
    pub fn read(root: &Arc<OwnedFd>, marks: Marks, from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; HEAD.len()];
        from.read_exact(&mut head)?;
        if head != *HEAD {
            return Err(broken());
        }
        let mut dirs = BTreeMap::new();
        for _ in 0..read_number(from)? {
            let path = TreePath::clean(&read_bytes(from)?).ok_or_else(broken)?;
            let mut listing = Listing::new();
            for _ in 0..read_number(from)? {
                let name = read_bytes(from)?;
                listing.insert(name, read_stamp(from)?);
            }
            dirs.insert(path, listing);
        }
        match from.read(&mut [0])? {
            0 => Ok(Self {
                root: Arc::clone(root),
                marks,
                dirs,
            }),
            _ => Err(broken()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no snapshot")
}

fn write_stamp(to: &mut impl Write, stamp: &Stamp) -> io::Result<()> {
    let born = stamp.born.unwrap_or_default();
    number(to, stamp.ino)?;
    number(to, stamp.born.is_some().into())?;
    for time in [born, stamp.ctime] {
        to.write_all(&time.secs.to_le_bytes())?;
        number(to, time.nanos.into())?;
    }
    number(to, stamp.links)?;
    number(to, stamp.owner.0.into())?;
    number(to, stamp.owner.1.into())
}

fn read_stamp(from: &mut impl Read) -> io::Result<Stamp> {
    let ino = read_number(from)?;
    let known = read_number(from)? != 0;
    let (born, ctime) = (read_time(from)?, read_time(from)?);
    Ok(Stamp {
        ino,
        born: known.then_some(born),
        ctime,
        links: read_number(from)?,
        owner: (read_small(from)?, read_small(from)?),
    })
}

fn read_time(from: &mut impl Read) -> io::Result<Time> {
    let mut secs = [0; 8];
    from.read_exact(&mut secs)?;
    Ok(Time {
        secs: i64::from_le_bytes(secs),
        nanos: read_small(from)?,
    })
}

fn number(to: &mut impl Write, number: u64) -> io::Result<()> {
    to.write_all(&number.to_le_bytes())
}

fn read_number(from: &mut impl Read) -> io::Result<u64> {
    let mut number = [0; 8];
    from.read_exact(&mut number)?;
    Ok(u64::from_le_bytes(number))
}

fn read_small(from: &mut impl Read) -> io::Result<u32> {
    u32::try_from(read_number(from)?).map_err(|_| broken())
}

fn bytes(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    number(to, bytes.len() as u64)?;
    to.write_all(bytes)
}

fn read_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let len = read_number(from)?;
    if len > LONGEST {
        return Err(broken());
    }
    let mut bytes = Vec::new();
    match from.take(len).read_to_end(&mut bytes)? as u64 == len {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::super::super::stack::Stack;
    use super::super::super::testing::{Scratch, open_dir, path};
    use super::*;

    #[test]
    fn a_snapshot_says_the_same_from_its_file() {
        let scratch = Scratch::new();
        let at = scratch.dir("root");
        fs::create_dir(at.join("d")).unwrap();
        fs::write(at.join("d/kept"), "1").unwrap();
        fs::write(at.join("d/written"), "2").unwrap();
        let root = open_dir(&at);
        let mut file = Vec::new();
        let taken = Snapshot::take(&root, Marks::User).unwrap();
        taken.write(&mut file).unwrap();
        let read = Snapshot::read(&root, Marks::User, &mut &file[..]).unwrap();
        assert_eq!(read.dirs, taken.dirs);
        fs::write(at.join("d/written"), "3").unwrap();
        let below = Stack::new(vec![open_dir(&scratch.dir("below"))], Marks::User);
        let changes = read.changes(&below, &BTreeSet::new()).unwrap();
        let changed: Vec<_> = changes.entries.keys().cloned().collect();
        assert_eq!(changed, [path("d"), path("d/written")]);
        for wrong in [&file[..file.len() - 1], &[&file[..], b"x"].concat(), b""] {
            Snapshot::read(&root, Marks::User, &mut &wrong[..]).unwrap_err();
        }
    }
}
