//! The ownership table of a tree whose inodes can't carry the image's ids: what it looks like.
//!
//! Where a process has one id, or no user namespace at all, every file belongs to its user.
//! What was asked for is remembered beside the inode, in attributes, so that it moves with a
//! rename, is copied up by overlayfs, and needs no file that could be lost or torn:
//!
//! ```text
//! user.cooper.node     of a file or directory: `uid gid`, then ` m MODE`, ` c MAJOR MINOR` or
//!                      ` b MAJOR MINOR` where the inode can't have that mode or be that device
//! user.cooper.x.NAME   of a file or directory: the attribute NAME, which could not be set
//! user.cooper.links    of a directory, about its entries that can have no such attribute
//!                      (links, fifos, sockets): inode number, uid, gid, three LEB128 numbers each
//! ```
//!
//! An inode without a record belongs to 0:0. Inode numbers say more than names here: a record
//! that overlayfs copied up with its directory matches nothing there, instead of the wrong thing.
//! This room only knows the form. `layer` writes it when it unpacks and reads it always;
//! `sandbox` writes it while a step runs.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Start of the names of all these attributes. None of them is part of an image.
pub const PREFIX: &[u8] = b"user.cooper.";
/// Attribute with an entry's own record.
pub const NODE: &str = "user.cooper.node";
/// Attribute of a directory with the records of entries that can have none.
pub const LINKS: &str = "user.cooper.links";
/// Start of the names of attributes that could not be set under their own name.
pub const KEPT: &[u8] = b"user.cooper.x.";

/// A device node that an ordinary file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// A block device, else a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// What is remembered of one inode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode, where the inode's is not the one that was asked for.
    pub mode: Option<u32>,
    /// The device that the file stands for.
    pub device: Option<Device>,
}

impl Record {
    /// Returns whether this says what no record says, too.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the attribute's value.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut text = format!("{} {}", self.uid, self.gid);
        let mut add = |part: std::fmt::Arguments<'_>| {
            text.write_fmt(part).expect("a string takes all");
        };
        if let Some(mode) = self.mode {
            add(format_args!(" m {mode:o}"));
        }
        if let Some(device) = self.device {
            let kind = if device.block { 'b' } else { 'c' };
            add(format_args!(" {kind} {} {}", device.major, device.minor));
        }
        text.into_bytes()
    }

    /// Reads a value; `None` for one that is not ours.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let number = |word: Option<&str>| word?.parse::<u32>().ok();
        let mut record = Self {
            uid: number(words.next())?,
            gid: number(words.next())?,
            ..Self::default()
        };
        while let Some(word) = words.next() {
            match word {
                "m" => record.mode = Some(u32::from_str_radix(words.next()?, 8).ok()? & 0o7777),
                "b" | "c" => {
                    let device = Device {
                        block: word == "b",
                        major: number(words.next())?,
                        minor: number(words.next())?,
                    };
                    // 0/0 would be a whiteout to whoever reads the layer.
                    record.device =
                        Some(device).filter(|device| (device.major, device.minor) != (0, 0));
                }
                _ => return None,
            }
        }
        Some(record)
    }
}

/// Owners of a directory's entries, by inode number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(BTreeMap<u64, (u32, u32)>);

impl Links {
    /// Returns owner and group of an inode; 0:0 when nothing is known.
    pub fn get(&self, ino: u64) -> (u32, u32) {
        self.0.get(&ino).copied().unwrap_or_default()
    }

    /// Remembers owner and group of an inode.
    pub fn set(&mut self, ino: u64, owner: (u32, u32)) {
        match owner {
            (0, 0) => drop(self.0.remove(&ino)),
            owner => drop(self.0.insert(ino, owner)),
        }
    }

    /// Returns whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the attribute's value. Inode numbers are written as what they are more than the one
    /// before, so that hundreds fit where a file system has 4 KiB for attributes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut before = 0;
        for (&ino, &(uid, gid)) in &self.0 {
            for number in [ino - before, uid.into(), gid.into()] {
                push(&mut bytes, number);
            }
            before = ino;
        }
        bytes
    }

    /// Reads a value. What is malformed ends it.
    pub fn parse(mut value: &[u8]) -> Self {
        let mut links = Self::default();
        let mut ino = 0_u64;
        while let (Some(more), Some(uid), Some(gid)) =
            (pop(&mut value), pop(&mut value), pop(&mut value))
        {
            let (Ok(uid), Ok(gid)) = (u32::try_from(uid), u32::try_from(gid)) else {
                break;
            };
            ino = ino.wrapping_add(more);
            links.set(ino, (uid, gid));
        }
        links
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn pop(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_attribute() {
        let device = Some(Device {
            block: true,
            major: 8,
            minor: 1,
        });
        for (record, text) in [
            (Record::default(), "0 0"),
            (
                Record {
                    uid: 33,
                    gid: 4_294_967_294,
                    mode: Some(0o4000),
                    device,
                },
                "33 4294967294 m 4000 b 8 1",
            ),
        ] {
            assert_eq!(record.to_bytes(), text.as_bytes());
            assert_eq!(Record::parse(text.as_bytes()), Some(record));
        }
        assert!(Record::default().is_plain());
    }

    #[test]
    fn what_is_no_record_is_not_taken_for_one() {
        for text in [
            "",
            "1",
            "1 2 3",
            "1 2 m",
            "1 2 m 9",
            "-1 0",
            "1 2 c 1",
            "4294967296 0",
        ] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
        }
        let whiteout = Record::parse(b"1 2 c 0 0").unwrap();
        assert_eq!(whiteout.device, None);
    }

    #[test]
    fn links_survive_their_attribute_and_are_small() {
        let mut links = Links::default();
        for ino in 0..500 {
            links.set(7_000_000 + ino * 3, (1000, 1000));
        }
        links.set(u64::MAX, (1, u32::MAX));
        links.set(5, (0, 0));
        let bytes = links.to_bytes();
        assert!(bytes.len() < 3000, "{}", bytes.len());
        assert_eq!(Links::parse(&bytes), links);
        assert_eq!(links.get(7_000_003), (1000, 1000));
        assert_eq!(links.get(5), (0, 0));
        assert_eq!(Links::parse(&bytes[..bytes.len() - 1]).0.len(), 500);
        links.set(u64::MAX, (0, 0));
        assert!(!links.is_empty());
    }
}
