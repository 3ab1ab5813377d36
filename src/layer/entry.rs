//! What an entry of a tree is, apart from where its bytes lie.

use std::collections::BTreeMap;

/// A point in time: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub secs: i64,
    /// Nanoseconds, below 10⁹.
    pub nanos: u32,
}

impl Time {
    /// Returns the time `secs` seconds after 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }
}

/// Owner, mode, time and extended attributes: what every kind of entry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits with set-uid, set-gid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner as the image means it, not as an id map shows it.
    pub uid: u32,
    /// Group as the image means it.
    pub gid: u32,
    /// Time of the last change of the contents.
    pub mtime: Time,
    /// Extended attributes that belong to an image: `security.capability`, `user.*` and
    /// `system.posix_acl_*`; never overlayfs' own.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The type of an entry with what belongs to the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of this many bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points, as stored.
        target: Vec<u8>,
    },
    /// A character device.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket. It has no place in a tar; writers leave it out or make it an empty file.
    Socket,
}

impl Kind {
    /// Returns whether this is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self, Self::Dir)
    }

    /// Returns where a symbolic link points.
    pub fn symlink_target(&self) -> Option<&[u8]> {
        match self {
            Self::Symlink { target } => Some(target),
            _ => None,
        }
    }
}
