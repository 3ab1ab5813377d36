//! Unpacks a layer tar into a directory that overlayfs takes as a lower dir.
//!
//! Removals become what overlayfs reads as such: a character device 0/0, and a mark on an opaque
//! directory (kernel `Documentation/filesystems/overlayfs.rst`). As the image specification says,
//! a removal only applies to lower layers (layer.md, section "Whiteouts"): what the same layer puts
//! there stays, before or behind it in the tar. Otherwise later entries replace earlier ones and
//! directories merge.
//!
//! Everything is made below one descriptor; no link is followed out of it. Owner, then
//! mode, then attributes, then time, because each takes away the next; times and default ACLs of
//! directories when all is made. Attributes that belong to the host are left out. Nothing is
//! synced: the store does that once. A failed unpack leaves what it made, for the caller to remove.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::changes::Node;
use super::entry::{Kind, Meta};
use super::error::Error;
use super::metadata::{self, Made};
use super::node::Marks;
use super::path::TreePath;
use super::stack::Stack;
use super::tar_header::TarFlaw;
use super::tar_read::{TarBody, TarEntry, TarReader, flawed};
use super::tar_write::{OPAQUE, WHITEOUT};
use super::tree::{Follow, Tree};
use super::tree_write::TreeForm;
use super::unpack_dirs::{Dirs, Missing, Place, kind_at};

/// How a layer is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Which attributes mark an opaque directory.
    pub marks: Marks,
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Whether the tree is the same on top of any layers. It is not if a parent directory was only
    /// implied or a hard link names a file of a lower layer; unpacked without knowing
    /// what is below, such a tree is then of no use.
    pub self_contained: bool,
    /// Entries of the tar that were applied.
    pub entries: u64,
    /// Bytes of regular files that were written.
    pub bytes: u64,
    /// Devices that the kernel did not let us make, as in a user namespace, and their hard links.
    pub left_out: Vec<TreePath>,
}

/// Unpacks the plain layer `tar` into the empty directory `into`, and reads the stream to its end.
///
/// An implied parent gets the metadata it has in `below`, else mode 0755, 0:0 and the time 0. A hard
/// link to a file that only `below` has gets a copy of it. Without `below` such a link is left
/// out and [`Unpacked::self_contained`] is false; with it, it is [`Error::BadHardLink`].
///
/// A device that the kernel refuses is noted in [`Unpacked::left_out`]. Every other refusal is an
/// error, as are a malformed tar ([`Error::Tar`]) and an entry below something that is no directory.
pub fn unpack(
    tar: &mut dyn Read,
    into: BorrowedFd<'_>,
    below: Option<&Stack>,
    options: &UnpackOptions,
) -> Result<Unpacked, Error> {
    let mut reader = TarReader::new(tar);
    let mut unpacker = Unpacker {
        dirs: Dirs::new(into, below, options.marks)?,
        below,
        form: TreeForm::Overlay(options.marks),
        buffer: vec![0; 128 * 1024],
        done: Unpacked {
            self_contained: true,
            ..Unpacked::default()
        },
    };
    while let Some(entry) = reader.next_entry()? {
        unpacker.entry(entry, &mut reader)?;
    }
    reader.drain()?;
    let Unpacker { dirs, mut done, .. } = unpacker;
    done.self_contained &= !dirs.has_implied();
    dirs.finish()?;
    Ok(done)
}

struct Unpacker<'a> {
    dirs: Dirs<'a>,
    below: Option<&'a Stack>,
    form: TreeForm,
    buffer: Vec<u8>,
    done: Unpacked,
}

/// What the name of an entry means in a layer.
enum Meaning {
    Entry,
    /// Removes this.
    Whiteout(TreePath),
    /// Hides the lower layers in this directory.
    Opaque(TreePath),
    /// Left over from AUFS, or an empty file for the root.
    Nothing,
}

fn meaning(entry: &TarEntry) -> Result<Meaning, Error> {
    let path = &entry.path;
    if entry.is_nothing() {
        return Ok(Meaning::Nothing);
    }
    if !path.parts().any(|part| part.starts_with(WHITEOUT)) {
        return Ok(Meaning::Entry);
    }
    let parent = path.parent().unwrap_or_default();
    let is_aufs = |part: &[u8]| part.starts_with(b".wh..wh.");
    if path.name() == OPAQUE && !parent.parts().any(is_aufs) {
        return Ok(Meaning::Opaque(parent));
    }
    if path.parts().any(is_aufs) {
        return Ok(Meaning::Nothing);
    }
    if parent.parts().any(|part| part.starts_with(WHITEOUT)) {
        return Err(Error::Reserved { path: path.clone() });
    }
    match path.name().strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") | None => Err(flawed(
            entry.offset,
            TarFlaw::Name {
                len: path.name().len(),
            },
        )),
        Some(name) => Ok(Meaning::Whiteout(parent.child(name))),
    }
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: TarEntry, data: &mut impl Read) -> Result<(), Error> {
        match meaning(&entry)? {
            Meaning::Nothing => return Ok(()),
            Meaning::Whiteout(path) => self.whiteout(&path)?,
            Meaning::Opaque(path) => {
                let place = self.dir(&path)?;
                self.dirs.make_opaque(&place)?;
            }
            Meaning::Entry => match entry.body {
                TarBody::Node(Kind::Dir) if entry.path.is_root() => {
                    self.dirs.dress_root(entry.meta)?;
                }
                _ if entry.path.is_root() => {
                    return Err(Error::NotDirectory { path: entry.path });
                }
                _ => self.named(entry, data)?,
            },
        }
        self.done.entries += 1;
        Ok(())
    }

    /// An entry with a name.
    fn named(&mut self, entry: TarEntry, data: &mut impl Read) -> Result<(), Error> {
        let parent = self.dir(&entry.path.parent().unwrap_or_default())?;
        let path = parent.path.child(entry.path.name());
        match &entry.body {
            TarBody::HardLink { target } => self.link(&parent, &path, target),
            TarBody::Node(Kind::Dir) => self.dirs.make(&parent, &path, entry.meta),
            TarBody::Node(Kind::File { size }) => {
                let file = self.create(&parent, &path)?;
                match &entry.extents {
                    None => self.fill(&file, data, *size, None, &path)?,
                    Some(extents) => {
                        for extent in extents {
                            self.fill(&file, data, extent.len, Some(extent.at), &path)?;
                        }
                        fs::ftruncate(&file, *size)
                            .map_err(|errno| Error::io("write", &path, errno))?;
                    }
                }
                metadata::apply(self.form, &Made::Open(file.as_fd()), &entry.meta, &path)
            }
            TarBody::Node(kind) => self.special(&parent, &path, kind, &entry.meta),
        }
    }

    fn dir(&mut self, path: &TreePath) -> Result<Place, Error> {
        let place = self.dirs.get(path, Missing::Make)?;
        place.ok_or_else(|| Error::Missing { path: path.clone() })
    }

    /// Makes a new entry in place of whatever has the name.
    fn replace<T>(
        &mut self,
        parent: &Place,
        path: &TreePath,
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<rustix::io::Result<T>, Error> {
        match make(parent.dir.as_fd()) {
            Err(Errno::EXIST) => {
                self.dirs.remove(parent, path)?;
                Ok(make(parent.dir.as_fd()))
            }
            made => Ok(made),
        }
    }

    fn create(&mut self, parent: &Place, path: &TreePath) -> Result<File, Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let made = self.replace(parent, path, |dir| {
            fs::openat(dir, path.name(), flags, mode)
        })?;
        Ok(made
            .map_err(|errno| Error::io("make the file", path, errno))?
            .into())
    }

    /// Copies `len` bytes, to `at` or to where the file stands.
    fn fill(
        &mut self,
        mut file: &File,
        data: &mut impl Read,
        len: u64,
        at: Option<u64>,
        path: &TreePath,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < len {
            let most = usize::try_from(len - done)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let got = match data.read(&mut self.buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                got => got.map_err(|source| Error::Stream { source })?,
            };
            if got == 0 {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Stream { source });
            }
            let bytes = &self.buffer[..got];
            let written = match at {
                Some(at) => file.write_all_at(bytes, at + done),
                None => file.write_all(bytes),
            };
            written.map_err(|source| Error::Io {
                doing: "write",
                path: path.clone(),
                source,
            })?;
            done += got as u64;
        }
        self.done.bytes += len;
        Ok(())
    }

    /// Makes what is neither a file nor a directory.
    fn special(
        &mut self,
        parent: &Place,
        path: &TreePath,
        kind: &Kind,
        meta: &Meta,
    ) -> Result<(), Error> {
        if let Some(device) = metadata::stand_in(self.form, kind) {
            let file = self.create(parent, path)?.into();
            return metadata::apply_stand_in(self.form, &file, device, meta, path);
        }
        let mode = Mode::RUSR | Mode::WUSR;
        let name = path.name();
        let (doing, made) = match kind {
            Kind::Symlink { target } => {
                let make = |dir: BorrowedFd<'_>| fs::symlinkat(target.as_slice(), dir, name);
                ("make the link", self.replace(parent, path, make)?)
            }
            Kind::Fifo => {
                let make = |dir: BorrowedFd<'_>| fs::mkfifoat(dir, name, mode);
                ("make the fifo", self.replace(parent, path, make)?)
            }
            // This device means a removal to overlayfs, and no image can mean it otherwise.
            Kind::Char { major: 0, minor: 0 } => ("make the device", Err(Errno::PERM)),
            Kind::Char { major, minor } | Kind::Block { major, minor } => {
                let is_char = matches!(kind, Kind::Char { .. });
                let kind = if is_char {
                    FileType::CharacterDevice
                } else {
                    FileType::BlockDevice
                };
                let device = fs::makedev(*major, *minor);
                let make = |dir: BorrowedFd<'_>| fs::mknodat(dir, name, kind, mode, device);
                ("make the device", self.replace(parent, path, make)?)
            }
            Kind::File { .. } | Kind::Dir | Kind::Socket => return Ok(()),
        };
        match made {
            Err(Errno::PERM) if doing == "make the device" => {
                self.done.left_out.push(path.clone());
                return Ok(());
            }
            made => made.map_err(|errno| Error::io(doing, path, errno))?,
        }
        let link = matches!(kind, Kind::Symlink { .. });
        let mut meta = meta.clone();
        if link {
            meta.xattrs.clear(); // xattr(7): the kinds that images carry are not for links.
        }
        let made = Made::Named {
            dir: parent.dir.as_fd(),
            name,
            link,
        };
        metadata::apply(self.form, &made, &meta, path)
    }

    fn whiteout(&mut self, path: &TreePath) -> Result<(), Error> {
        let parent = self.dir(&path.parent().unwrap_or_default())?;
        let path = parent.path.child(path.name());
        match self.dirs.make_whiteout(&parent, &path) {
            Ok(()) => Ok(()),
            // What this layer has put there stays, and already hides what is below unless it
            // is a directory.
            Err(Errno::EXIST) if kind_at(&parent, &path)?.0 == FileType::Directory => {
                let dir = self.dir(&path)?;
                self.dirs.make_opaque(&dir)
            }
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::io("make a whiteout at", &path, errno)),
        }
    }

    fn link(&mut self, parent: &Place, path: &TreePath, target: &TreePath) -> Result<(), Error> {
        let bad = || Error::BadHardLink {
            path: path.clone(),
            target: target.clone(),
        };
        if target.is_root() {
            return Err(bad());
        }
        let found = match self
            .dirs
            .get(&target.parent().unwrap_or_default(), Missing::Leave)
        {
            Err(Error::NotDirectory { .. }) => None,
            found => found?,
        };
        let real = found.as_ref().map(|place| place.path.child(target.name()));
        if real.as_ref() == Some(path) {
            // A link to itself is nothing, if there is something.
            return kind_at(parent, path).map(drop).map_err(|_| bad());
        }
        if let (Some(from), Some(real)) = (&found, &real) {
            match self.link_to(parent, path, from, real)? {
                Ok(()) if self.dirs.is_whiteout(parent, path)? => return Err(bad()),
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                // The kernel's word for a directory.
                Err(Errno::PERM) => return Err(bad()),
                Err(errno) => return Err(Error::io("link", path, errno)),
            }
            if self.done.left_out.contains(real) {
                self.done.left_out.push(path.clone());
                return Ok(());
            }
        }
        self.done.self_contained = false;
        let Some(below) = self.below else {
            return Ok(());
        };
        let lower = below.resolve(target, Follow::Parents)?;
        let node = lower
            .exists
            .filter(|node| !node.kind.is_dir())
            .ok_or_else(bad)?;
        self.copy_up(&lower.path, &node)?;
        let from = self.dir(&lower.path.parent().unwrap_or_default())?;
        let linked = self.link_to(parent, path, &from, &lower.path)?;
        linked.map_err(|errno| Error::io("link", path, errno))
    }

    fn link_to(
        &mut self,
        parent: &Place,
        path: &TreePath,
        from: &Place,
        target: &TreePath,
    ) -> Result<rustix::io::Result<()>, Error> {
        let from = from.dir.as_fd();
        let linked = self.replace(parent, path, |dir| {
            fs::linkat(from, target.name(), dir, path.name(), AtFlags::empty())
        })?;
        if linked.is_ok() {
            metadata::linked(self.form, from, parent.dir.as_fd(), path)?;
        }
        Ok(linked)
    }

    /// Copies an entry of the lower layers to the same place in this one.
    fn copy_up(&mut self, path: &TreePath, node: &Node) -> Result<(), Error> {
        let parent = self.dir(&path.parent().unwrap_or_default())?;
        if let Kind::File { size } = node.kind {
            let file = self.create(&parent, path)?;
            if let Some(content) = &node.content {
                self.fill(&file, &mut content.open(size)?, size, None, path)?;
            }
            return metadata::apply(self.form, &Made::Open(file.as_fd()), &node.meta, path);
        }
        self.special(&parent, path, &node.kind, &node.meta)
    }
}
