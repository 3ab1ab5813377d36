//! From an inode to a [`Node`](super::Node): the one place where owner, mode, device and capability
//! of an entry are learned (the store's ownership rule).
//!
//! Everyone who reads a tree passes its [`Marks`], so that a tree whose inodes can't carry the
//! image's ids is read from its table here and by no second code path. Extended attributes are reduced to those
//! an image has; overlayfs' own are read as [`Marks`] say and never leave this room.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::owners::{self, Device, Links, Record};

use super::changes::{Content, Node};
use super::content::names;
use super::entry::{Kind, Meta, Time};
use super::error::Error;
use super::path::TreePath;
use super::tree::{Found, Inode};

/// Where the owners of a tree's entries are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// On the inodes: the id map of this process covers the image's ids.
    #[default]
    Inode,
    /// In attributes beside the inodes ([`crate::owners`]), which all belong to one user.
    Remembered {
        /// Modes too, where the inode's would shut out the process itself: one that has no
        /// CAP_DAC_OVERRIDE can't fill a directory that nobody may write.
        modes: bool,
    },
}

/// In which attributes a tree says what its inodes can't.
///
/// Overlayfs has marks of its own (kernel `Documentation/filesystems/overlayfs.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`: mounted with the real CAP_SYS_ADMIN.
    Trusted,
    /// `user.overlay.*`: mounted with `userxattr`, as in a user namespace.
    User,
    /// As `User`, and owners as [`Ownership::Remembered`] without modes.
    Owners,
    /// As `User`, and owners as [`Ownership::Remembered`] with modes.
    OwnersAndModes,
}

impl Marks {
    /// Returns the marks of a tree with `user.overlay.*` attributes.
    pub fn user(ids: Ownership) -> Self {
        match ids {
            Ownership::Inode => Self::User,
            Ownership::Remembered { modes: false } => Self::Owners,
            Ownership::Remembered { modes: true } => Self::OwnersAndModes,
        }
    }

    /// Returns where owners are written.
    pub fn ownership(self) -> Ownership {
        match self {
            Self::Trusted | Self::User => Ownership::Inode,
            Self::Owners => Ownership::Remembered { modes: false },
            Self::OwnersAndModes => Ownership::Remembered { modes: true },
        }
    }

    /// Returns the start of the names of overlayfs' attributes.
    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User | Self::Owners | Self::OwnersAndModes => b"user.overlay.",
        }
    }

    /// Returns the attribute of an opaque directory.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User | Self::Owners | Self::OwnersAndModes => "user.overlay.opaque",
        }
    }

    /// Returns the attribute of an empty file that is a whiteout.
    pub(super) fn whiteout(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.whiteout",
            Self::User | Self::Owners | Self::OwnersAndModes => "user.overlay.whiteout",
        }
    }
}

/// What overlayfs itself wrote on an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OverlayMeaning {
    /// A directory that hides what is below it (`opaque` = `y`).
    pub opaque: bool,
    /// A directory whose empty files may be whiteouts (`opaque` = `x`).
    pub has_marked_whiteouts: bool,
    /// An empty file that is a whiteout if its directory says so (`whiteout`).
    pub marked_whiteout: bool,
}

/// An entry as its own directory shows it.
#[derive(Debug)]
pub(super) struct Raw {
    pub found: Found,
    pub overlay: OverlayMeaning,
}

impl Raw {
    /// Returns whether overlayfs shows nothing for this entry. In an opaque directory a marked
    /// one counts too: the directory may have become opaque after it was made.
    pub(super) fn is_whiteout(&self, dir: OverlayMeaning) -> bool {
        match self.found.node.kind {
            Kind::Char { major: 0, minor: 0 } => true,
            Kind::File { size: 0 } => {
                (dir.has_marked_whiteouts || dir.opaque) && self.overlay.marked_whiteout
            }
            _ => false,
        }
    }
}

/// Which attributes of an entry are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Xattrs {
    /// None: saves two system calls an entry.
    Skip,
    /// Those of an image.
    Image,
    /// Those of an image, and overlayfs' own.
    Overlay(Marks),
}

/// One open directory of one tree, to look at its entries.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The tree, for the contents of its files.
    pub root: &'a Arc<OwnedFd>,
    /// Index of the tree in its stack.
    pub tree: usize,
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// Where the directory is in the tree.
    pub path: &'a TreePath,
    /// Which attributes to read.
    pub xattrs: Xattrs,
    /// Where owners are.
    pub ids: Ownership,
}

/// Returns the entry `name` of a directory, or `None` if there is none. An empty name is the
/// directory itself.
pub(super) fn node_at(place: &Place<'_>, name: &[u8]) -> Result<Option<Raw>, Error> {
    let path = if name.is_empty() {
        place.path.clone()
    } else {
        place.path.child(name)
    };
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let stat = match fs::statx(
        place.dir,
        name,
        flags,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    ) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::io("look at", &path, errno)),
    };
    let Some(mut kind) = kind_of(place, name, &path, &stat)? else {
        return Ok(None);
    };
    let Attributes {
        image: xattrs,
        overlay,
        record,
    } = attributes(place, name, &path, &kind)?;
    let mut meta = Meta {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: time(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        xattrs,
    };
    if let Ownership::Remembered { .. } = place.ids {
        let record = match &kind {
            Kind::File { .. } | Kind::Dir => record.unwrap_or_default(),
            _ => linked(place, stat.stx_ino, &path)?,
        };
        (meta.uid, meta.gid) = (record.uid, record.gid);
        meta.mode = record.mode.unwrap_or(meta.mode);
        if let (Kind::File { .. }, Some(device)) = (&kind, record.device) {
            kind = node_of(device);
        }
    }
    let inode = Inode {
        tree: place.tree,
        dev: fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        links: stat.stx_nlink.into(),
        ctime: time(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        born: StatxFlags::from_bits_retain(stat.stx_mask)
            .contains(StatxFlags::BTIME)
            .then(|| time(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
    };
    let content = match kind {
        Kind::File { size } if size > 0 => Some(Content::Below {
            root: Arc::clone(place.root),
            path,
        }),
        _ => None,
    };
    let node = Node {
        meta,
        kind,
        content,
    };
    let found = Found { node, inode };
    Ok(Some(Raw { found, overlay }))
}

/// Returns the entries of a directory, in no order. The descriptor must be at its start, so it is
/// one that nobody else lists with. What is removed meanwhile is left out.
pub(super) fn list_at(place: &Place<'_>) -> Result<Vec<(Vec<u8>, Raw)>, Error> {
    let names = names(place.dir, place.path)?;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        if let Some(raw) = node_at(place, &name)? {
            entries.push((name, raw));
        }
    }
    Ok(entries)
}

const fn time(secs: i64, nanos: u32) -> Time {
    Time { secs, nanos }
}

/// Returns the type of an entry, or `None` if the entry went away meanwhile.
fn kind_of(
    place: &Place<'_>,
    name: &[u8],
    path: &TreePath,
    stat: &Statx,
) -> Result<Option<Kind>, Error> {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    Ok(Some(match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File {
            size: stat.stx_size,
        },
        FileType::Directory => Kind::Dir,
        FileType::Symlink => match fs::readlinkat(place.dir, name, Vec::new()) {
            Ok(target) => Kind::Symlink {
                target: target.into_bytes(),
            },
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::io("read the link", path, errno)),
        },
        FileType::CharacterDevice => Kind::Char { major, minor },
        FileType::BlockDevice => Kind::Block { major, minor },
        FileType::Fifo => Kind::Fifo,
        // Linux has no seventh type.
        FileType::Socket | FileType::Unknown => Kind::Socket,
    }))
}

/// The device that a remembered one is.
fn node_of(
    Device {
        block,
        major,
        minor,
    }: Device,
) -> Kind {
    match block {
        true => Kind::Block { major, minor },
        false => Kind::Char { major, minor },
    }
}

/// Returns what a directory remembers of an entry that can have no attributes itself.
fn linked(place: &Place<'_>, ino: u64, path: &TreePath) -> Result<Record, Error> {
    let links =
        read_links(place.dir).map_err(|errno| Error::io("read the attributes of", path, errno))?;
    let (uid, gid) = links.get(ino);
    Ok(Record {
        uid,
        gid,
        ..Record::default()
    })
}

/// Reads what a directory remembers of its links and special files.
pub(super) fn read_links(dir: BorrowedFd<'_>) -> rustix::io::Result<Links> {
    match Attributed::Own(dir).value(owners::LINKS.as_bytes()) {
        Ok(value) => Ok(Links::parse(&value.unwrap_or_default())),
        // A file system without attributes remembers nothing.
        Err(Errno::NOTSUP) => Ok(Links::default()),
        Err(errno) => Err(errno),
    }
}

/// What the attributes of an entry say.
#[derive(Default)]
struct Attributes {
    /// Those of an image.
    image: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What overlayfs' own mean.
    overlay: OverlayMeaning,
    /// Who the owner is, where owners are remembered.
    record: Option<Record>,
}

/// Reads the attributes of an entry: those of an image, and what overlayfs' own and ours mean.
///
/// Symbolic links have none that an image carries (xattr(7): `user.*` and ACLs are for files and
/// directories), whiteouts none that matter.
fn attributes(
    place: &Place<'_>,
    name: &[u8],
    path: &TreePath,
    kind: &Kind,
) -> Result<Attributes, Error> {
    let mut read = Attributes::default();
    let remembered = place.ids != Ownership::Inode;
    let skipped = matches!(
        kind,
        Kind::Symlink { .. } | Kind::Char { major: 0, minor: 0 } | Kind::Socket
    );
    if place.xattrs == Xattrs::Skip || skipped {
        return Ok(read);
    }
    let failed = |errno| Error::io("read the attributes of", path, errno);
    let Some((at, names)) = Attributed::new(place.dir, name, kind).map_err(failed)? else {
        return Ok(read);
    };
    let value = |name: &[u8]| at.value(name).map_err(failed);
    for attribute in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if let Xattrs::Overlay(marks) = place.xattrs
            && let Some(mark) = attribute.strip_prefix(marks.prefix())
        {
            read_mark(&at, attribute, mark, path, &mut read.overlay)?;
        } else if belongs_to_image(attribute)
            && let Some(value) = value(attribute)?
        {
            let value = if attribute == CAPABILITY {
                portable_capability(value)
            } else {
                value
            };
            // One that is remembered besides was set later than this one.
            read.image.entry(attribute.to_vec()).or_insert(value);
        } else if remembered && attribute == owners::NODE.as_bytes() {
            read.record = value(attribute)?.and_then(|value| Record::parse(&value));
        } else if remembered
            && let Some(kept) = attribute.strip_prefix(owners::KEPT)
            && belongs_to_image(kept)
            && let Some(value) = value(attribute)?
        {
            read.image.insert(kept.to_vec(), value);
        }
    }
    Ok(read)
}

const CAPABILITY: &[u8] = b"security.capability";

/// Returns whether an attribute is part of an image. Labels of the host's security modules and
/// whatever belongs to its file systems are not.
pub(super) fn belongs_to_image(attribute: &[u8]) -> bool {
    attribute == CAPABILITY
        || attribute == b"system.posix_acl_access"
        || attribute == b"system.posix_acl_default"
        || (attribute.starts_with(b"user.")
            && !attribute.starts_with(b"user.overlay.")
            && !attribute.starts_with(owners::PREFIX))
}

/// Notes what one of overlayfs' attributes means; refuses what would make a tree unreadable alone.
fn read_mark(
    at: &Attributed<'_>,
    attribute: &[u8],
    mark: &[u8],
    path: &TreePath,
    overlay: &mut OverlayMeaning,
) -> Result<(), Error> {
    match mark {
        b"opaque" => {
            let value = at
                .value(attribute)
                .map_err(|errno| Error::io("read the attributes of", path, errno))?;
            overlay.opaque = value.as_deref() == Some(b"y");
            overlay.has_marked_whiteouts = value.as_deref() == Some(b"x");
        }
        b"whiteout" => overlay.marked_whiteout = true,
        b"redirect" | b"metacopy" => {
            let attribute = String::from_utf8_lossy(attribute).into_owned();
            let path = path.clone();
            return Err(Error::Overlay { path, attribute });
        }
        // `origin`, `impure`, `nlink`, `upper`, `uuid`, `protattr`: for a mounted overlay only.
        _ => {}
    }
    Ok(())
}

/// Turns a capability that holds in one user namespace (revision 3) into the form that holds
/// everywhere (revision 2): the same sets, without the namespace's root id. capabilities(7).
fn portable_capability(mut value: Vec<u8>) -> Vec<u8> {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    if value.len() == 24 && value[3] == REVISION_3 {
        value[3] = REVISION_2;
        value.truncate(20);
    }
    value
}

/// How the attributes of an entry are reached. Linux before 6.13 has no `listxattrat`.
enum Attributed<'a> {
    /// An open directory, asked for its own.
    Own(BorrowedFd<'a>),
    /// By name through `/proc/self/fd`: one call, and nothing is opened.
    Named(CString),
    /// Where `/proc` is not mounted.
    Opened(OwnedFd),
}

impl<'a> Attributed<'a> {
    /// Returns the entry with its attributes' names, each ending in a NUL; `None` where they can't
    /// be reached without opening a device.
    fn new(
        dir: BorrowedFd<'a>,
        name: &[u8],
        kind: &Kind,
    ) -> rustix::io::Result<Option<(Self, Vec<u8>)>> {
        if name.is_empty() {
            let at = Self::Own(dir);
            let names = at.names()?;
            return Ok(Some((at, names)));
        }
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let at = Self::Named(CString::new(path).map_err(|_| Errno::INVAL)?);
        match at.names() {
            Err(Errno::NOENT) if matches!(kind, Kind::File { .. } | Kind::Dir) => {
                let flags = OFlags::RDONLY
                    | OFlags::NONBLOCK
                    | OFlags::NOCTTY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let at = Self::Opened(fs::openat(dir, name, flags, Mode::empty())?);
                let names = at.names()?;
                Ok(Some((at, names)))
            }
            Err(Errno::NOENT) => Ok(None),
            names => Ok(Some((at, names?))),
        }
    }

    fn names(&self) -> rustix::io::Result<Vec<u8>> {
        match read_growing(|buffer| match self {
            Self::Own(dir) => fs::flistxattr(dir, buffer),
            Self::Named(path) => fs::llistxattr(path, buffer),
            Self::Opened(fd) => fs::flistxattr(fd, buffer),
        }) {
            // A file system without attributes.
            Err(Errno::NOTSUP) => Ok(Vec::new()),
            names => names,
        }
    }

    /// Returns a value, or `None` if the attribute went away meanwhile.
    fn value(&self, name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        match read_growing(|buffer| match self {
            Self::Own(dir) => fs::fgetxattr(dir, name, buffer),
            Self::Named(path) => fs::lgetxattr(path, name, buffer),
            Self::Opened(fd) => fs::fgetxattr(fd, name, buffer),
        }) {
            Err(Errno::NODATA) => Ok(None),
            value => value.map(Some),
        }
    }
}

/// Calls `read` with a larger buffer until the answer fits; the kernel's limit is 64 KiB.
fn read_growing(
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0_u8; 512];
    match read(&mut small) {
        Err(Errno::RANGE) => {}
        got => return got.map(|len| small[..len].to_vec()),
    }
    let mut large = vec![0_u8; 1 << 16];
    let len = read(&mut large)?;
    large.truncate(len);
    Ok(large)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{XattrFlags, lsetxattr};

    use super::super::dir::Dir;
    use super::super::stack::Stack;
    use super::super::testing::{Scratch, changes, is_root, open_dir, path, trees};
    use super::super::tree::Tree;
    use super::*;

    /// cap_net_bind_service, permitted and effective, as a namespace whose root is 100000 writes it.
    const REVISION_3: [u8; 24] = [
        1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0,
    ];

    #[test]
    fn a_capability_of_a_namespace_becomes_one_of_the_image() {
        let portable = portable_capability(REVISION_3.to_vec());
        assert_eq!(portable[..4], [1, 0, 0, 2]);
        assert_eq!(portable[4..], REVISION_3[4..20]);
        assert_eq!(portable_capability(portable.clone()), portable);
        if !is_root() {
            return; // Only the right to set one is missing.
        }
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("f"), "x").unwrap();
        let flags = XattrFlags::empty();
        lsetxattr(scratch.path().join("f"), CAPABILITY, &REVISION_3, flags).unwrap();
        let found = Dir::new(open_dir(scratch.path()))
            .node(&path("f"))
            .unwrap()
            .unwrap();
        assert_eq!(
            found.meta.xattrs,
            BTreeMap::from([(CAPABILITY.to_vec(), portable)])
        );
    }

    #[test]
    fn only_the_attributes_of_an_image_are_read() {
        let scratch = Scratch::new();
        let file = scratch.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let long = vec![7; 2000];
        for (name, value) in [
            ("user.kept", long.as_slice()),
            ("user.overlay.opaque", b"y"),
            ("user.overlayish", b""),
        ] {
            lsetxattr(&file, name, value, XattrFlags::empty()).unwrap();
        }
        if is_root() {
            lsetxattr(&file, "trusted.other", b"1", XattrFlags::empty()).unwrap();
        }
        let dir = Dir::new(open_dir(scratch.path()));
        let got = dir.node(&path("f")).unwrap().unwrap().meta.xattrs;
        let want = [
            (b"user.kept".to_vec(), long),
            (b"user.overlayish".to_vec(), Vec::new()),
        ];
        assert_eq!(got, BTreeMap::from(want));
        let without = dir.without_xattrs().node(&path("f")).unwrap().unwrap();
        assert!(without.meta.xattrs.is_empty());
    }

    #[test]
    fn redirects_and_split_metadata_are_refused_by_name() {
        for mark in ["redirect", "metacopy"] {
            let scratch = Scratch::new();
            let tree = &trees(&scratch, Marks::User, &[changes("dir d\nfile d/f 1")])[0];
            let name = format!("user.overlay.{mark}");
            lsetxattr(tree.join("d/f"), &*name, b"", XattrFlags::empty()).unwrap();
            let stack = Stack::new(vec![open_dir(tree)], Marks::User);
            let error = stack.list(&path("d")).unwrap_err().to_string();
            let want =
                format!("`/d/f` carries the overlayfs attribute `{name}`, which is not supported");
            assert_eq!(error, want);
        }
    }
}
