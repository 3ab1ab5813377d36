//! The directories of a tree that is being made, opened once and kept while they are in use.
//!
//! Promise: nothing outside the root is reached. Every step is one `openat` of one name that does
//! not follow links; a symbolic link that the layer itself made is read and followed here, with
//! the root as its root, as a chroot would. A directory that is removed is forgotten with all
//! below it, so a kept descriptor is always what its path says.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::content::{DIRECTORY, names};
use super::entry::{Meta, Time};
use super::error::Error;
use super::metadata::{self, Made};
use super::node::Marks;
use super::path::TreePath;
use super::stack::Stack;
use super::tree::{MAX_LINKS, Tree};
use super::tree_write::TreeForm;
use super::whiteout;

/// Directories kept open.
const MAX_OPEN: usize = 64;
/// The longest path of a directory, as the kernel's `PATH_MAX` without its NUL.
const MAX_PATH: usize = 4095;
/// Attribute that changes what is made in a directory, and so waits until all is made.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// The directories of a tree.
pub(super) struct Dirs<'a> {
    root: Rc<OwnedFd>,
    below: Option<&'a Stack>,
    marks: Marks,
    open: HashMap<TreePath, Kept>,
    clock: u64,
    /// What directories get when everything is made.
    unfinished: BTreeMap<TreePath, Finish>,
    /// Directories that were made because something is in them.
    implied: BTreeMap<TreePath, ()>,
}

struct Kept {
    dir: Rc<OwnedFd>,
    used: u64,
}

struct Finish {
    mtime: Time,
    default_acl: Option<Box<[u8]>>,
}

/// What to do about parents that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make them.
    Make,
    /// Say that there is nothing.
    Leave,
}

/// A directory and where it really is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub path: TreePath,
    pub dir: Rc<OwnedFd>,
}

impl<'a> Dirs<'a> {
    pub(super) fn new(
        into: BorrowedFd<'_>,
        below: Option<&'a Stack>,
        marks: Marks,
    ) -> Result<Self, Error> {
        let root = fs::openat(into, c".", DIRECTORY, Mode::empty());
        let root = root.map_err(|errno| Error::io("open", &TreePath::ROOT, errno))?;
        Ok(Self {
            root: Rc::new(root),
            below,
            marks,
            open: HashMap::new(),
            clock: 0,
            unfinished: BTreeMap::new(),
            implied: BTreeMap::new(),
        })
    }

    /// Returns whether a directory was made that the layer does not name.
    pub(super) fn has_implied(&self) -> bool {
        !self.implied.is_empty()
    }

    /// Returns the directory at `path`, links followed within the root; `None` only if there
    /// is none and it is not to be made.
    ///
    /// [`Error::NotDirectory`] if something else stands there or on the way.
    pub(super) fn get(
        &mut self,
        path: &TreePath,
        missing: Missing,
    ) -> Result<Option<Place>, Error> {
        if let Some(dir) = self.recall(path) {
            return Ok(Some(Place {
                path: path.clone(),
                dir,
            }));
        }
        let mut todo: Vec<Vec<u8>> = Vec::new();
        let mut known = path.clone();
        let mut here = loop {
            let (Some(parent), name) = (known.parent(), known.name().to_vec()) else {
                break self.root();
            };
            todo.push(name);
            if let Some(dir) = self.recall(&parent) {
                break Place { path: parent, dir };
            }
            known = parent;
        };
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                let up = here.path.parent().unwrap_or_default();
                let Some(place) = self.get(&up, missing)? else {
                    return Ok(None);
                };
                here = place;
                continue;
            }
            let next = here.path.child(&part);
            match fs::openat(&here.dir, part.as_slice(), DIRECTORY, Mode::empty()) {
                Ok(dir) => here = self.keep(next, dir),
                Err(Errno::NOENT) if missing == Missing::Leave => return Ok(None),
                Err(Errno::NOENT) => here = self.imply(&here, next, false)?,
                Err(Errno::NOTDIR | Errno::LOOP) => match self.link_target(&here, &next)? {
                    Some(target) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Error::LinkLoop { path: path.clone() });
                        }
                        if target.starts_with(b"/") {
                            here = self.root();
                        }
                        let parts = target.split(|&b| b == b'/').rev();
                        let parts = parts.filter(|part| !part.is_empty() && *part != b".");
                        todo.extend(parts.map(<[u8]>::to_vec));
                    }
                    // A whiteout gives way to a directory that hides what is below.
                    None if missing == Missing::Make && self.is_whiteout(&here, &next)? => {
                        here = self.imply(&here, next, true)?;
                    }
                    None => return Err(Error::NotDirectory { path: next }),
                },
                Err(errno) => return Err(Error::io("open", &next, errno)),
            }
        }
        Ok(Some(here))
    }

    /// Makes or updates the directory at `path` in its parent. Anything else there is replaced.
    pub(super) fn make(
        &mut self,
        parent: &Place,
        path: &TreePath,
        meta: Meta,
    ) -> Result<(), Error> {
        let dir = match self.mkdir(parent, path) {
            Ok(()) => self.open_new(parent, path, false)?,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                if kind_at(parent, path)?.0 == FileType::Directory {
                    let dir = self.get(path, Missing::Leave)?;
                    dir.ok_or_else(|| Error::Missing { path: path.clone() })?
                } else {
                    // What stood there hid the lower layers, so they stay hidden.
                    unlink(parent, path)?;
                    self.mkdir(parent, path)?;
                    self.open_new(parent, path, true)?
                }
            }
            Err(error) => return Err(error),
        };
        self.implied.remove(path);
        self.dress(&dir, meta)
    }

    /// Gives the root its metadata.
    pub(super) fn dress_root(&mut self, meta: Meta) -> Result<(), Error> {
        self.dress(&self.root(), meta)
    }

    /// Marks a directory: nothing of it in lower layers shows.
    pub(super) fn make_opaque(&self, place: &Place) -> Result<(), Error> {
        fs::fsetxattr(&*place.dir, self.marks.opaque(), b"y", XattrFlags::empty())
            .map_err(|errno| Error::io("mark as opaque", &place.path, errno))
    }

    /// Makes a whiteout where nothing is.
    pub(super) fn make_whiteout(&self, parent: &Place, path: &TreePath) -> rustix::io::Result<()> {
        whiteout::make(parent.dir.as_fd(), path.name(), self.marks)
    }

    /// Returns whether overlayfs takes what is at `path` for a removal.
    pub(super) fn is_whiteout(&self, parent: &Place, path: &TreePath) -> Result<bool, Error> {
        let found = whiteout::is_at(parent.dir.as_fd(), path.name(), self.marks);
        found.map_err(|errno| Error::io("look at", path, errno))
    }

    /// Removes whatever is at `path`, a directory with all that is in it.
    pub(super) fn remove(&mut self, parent: &Place, path: &TreePath) -> Result<(), Error> {
        match fs::unlinkat(&*parent.dir, path.name(), AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            removed => return removed.map_err(|errno| Error::io("replace", path, errno)),
        }
        self.open.retain(|kept, _| !kept.starts_with(path));
        forget(&mut self.unfinished, path);
        forget(&mut self.implied, path);
        remove_dir(parent, path)
    }

    /// Gives directories what had to wait, the times last of all.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        if !self.unfinished.contains_key(&TreePath::ROOT) {
            let meta = self.meta_below(&TreePath::ROOT)?;
            self.dress_root(meta)?;
        }
        for (path, finish) in std::mem::take(&mut self.unfinished) {
            let Some(parent) = path.parent() else {
                set_finish(&self.root, &path, &finish)?;
                continue;
            };
            let parent = self.get(&parent, Missing::Leave)?;
            let parent = parent.ok_or_else(|| Error::Missing { path: path.clone() })?;
            if finish.default_acl.is_none() {
                let times = times(finish.mtime);
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                fs::utimensat(&*parent.dir, path.name(), &times, flags)
                    .map_err(|errno| Error::io("set the time of", &path, errno))?;
            } else {
                let dir = open_dir(&parent, &path)?;
                set_finish(&dir, &path, &finish)?;
            }
        }
        Ok(())
    }

    fn root(&self) -> Place {
        Place {
            path: TreePath::ROOT,
            dir: Rc::clone(&self.root),
        }
    }

    fn recall(&mut self, path: &TreePath) -> Option<Rc<OwnedFd>> {
        if path.is_root() {
            return Some(Rc::clone(&self.root));
        }
        let kept = self.open.get_mut(path)?;
        self.clock += 1;
        kept.used = self.clock;
        Some(Rc::clone(&kept.dir))
    }

    /// Keeps a directory open in place of the one that was used longest ago.
    fn keep(&mut self, path: TreePath, dir: OwnedFd) -> Place {
        if self.open.len() >= MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                self.open.remove(&oldest);
            }
        }
        self.clock += 1;
        let dir = Rc::new(dir);
        self.open.insert(
            path.clone(),
            Kept {
                dir: Rc::clone(&dir),
                used: self.clock,
            },
        );
        Place { path, dir }
    }

    /// Makes a directory that the layer only implies, as it is in lower layers.
    fn imply(&mut self, parent: &Place, path: TreePath, hidden: bool) -> Result<Place, Error> {
        if hidden {
            unlink(parent, &path)?;
        }
        self.mkdir(parent, &path)?;
        let place = self.open_new(parent, &path, hidden)?;
        let meta = self.meta_below(&path)?;
        self.implied.insert(path, ());
        self.dress(&place, meta)?;
        Ok(place)
    }

    fn meta_below(&self, path: &TreePath) -> Result<Meta, Error> {
        let known = match self.below {
            Some(below) => below.node(path)?.filter(|node| node.kind.is_dir()),
            None => None,
        };
        Ok(known.map_or_else(
            || Meta {
                mode: 0o755,
                ..Meta::default()
            },
            |node| node.meta,
        ))
    }

    fn mkdir(&self, parent: &Place, path: &TreePath) -> Result<(), Error> {
        // Links of the layer could make paths that grow without end.
        if path.as_bytes().len() > MAX_PATH {
            return Err(Error::io("make the directory", path, Errno::NAMETOOLONG));
        }
        fs::mkdirat(&*parent.dir, path.name(), Mode::RWXU)
            .map_err(|errno| Error::io("make the directory", path, errno))
    }

    fn open_new(&mut self, parent: &Place, path: &TreePath, opaque: bool) -> Result<Place, Error> {
        let dir = open_dir(parent, path)?;
        let place = self.keep(path.clone(), dir);
        if opaque {
            self.make_opaque(&place)?;
        }
        Ok(place)
    }

    /// Applies what does not have to wait.
    fn dress(&mut self, place: &Place, mut meta: Meta) -> Result<(), Error> {
        let default_acl = meta.xattrs.remove(DEFAULT_ACL).map(Vec::into_boxed_slice);
        let form = TreeForm::Overlay(self.marks);
        metadata::apply(form, &Made::Open(place.dir.as_fd()), &meta, &place.path)?;
        let finish = Finish {
            mtime: meta.mtime,
            default_acl,
        };
        self.unfinished.insert(place.path.clone(), finish);
        Ok(())
    }

    /// Returns where the symbolic link at `path` points, or `None` if it is something else.
    fn link_target(&self, parent: &Place, path: &TreePath) -> Result<Option<Vec<u8>>, Error> {
        match fs::readlinkat(&*parent.dir, path.name(), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(Error::io("read the link", path, errno)),
        }
    }
}

fn forget<T>(map: &mut BTreeMap<TreePath, T>, path: &TreePath) {
    let below = map.range(path..).map(|(below, _)| below);
    let gone: Vec<TreePath> = below
        .take_while(|below| below.starts_with(path))
        .cloned()
        .collect();
    for path in gone {
        map.remove(&path);
    }
}

/// Returns type and device number of what is at `path`.
pub(super) fn kind_at(parent: &Place, path: &TreePath) -> Result<(FileType, u64), Error> {
    let stat = fs::statat(&*parent.dir, path.name(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| Error::io("look at", path, errno))?;
    Ok((FileType::from_raw_mode(stat.st_mode), stat.st_rdev))
}

fn unlink(parent: &Place, path: &TreePath) -> Result<(), Error> {
    fs::unlinkat(&*parent.dir, path.name(), AtFlags::empty())
        .map_err(|errno| Error::io("replace", path, errno))
}

fn open_dir(parent: &Place, path: &TreePath) -> Result<OwnedFd, Error> {
    fs::openat(&*parent.dir, path.name(), DIRECTORY, Mode::empty())
        .map_err(|errno| Error::io("open", path, errno))
}

fn times(time: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: time.secs,
        tv_nsec: time.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn set_finish(dir: &OwnedFd, path: &TreePath, finish: &Finish) -> Result<(), Error> {
    if let Some(acl) = &finish.default_acl {
        let set = fs::fsetxattr(dir, DEFAULT_ACL, acl, XattrFlags::empty());
        set.map_err(|errno| Error::io("set an attribute of", path, errno))?;
    }
    fs::futimens(dir, &times(finish.mtime))
        .map_err(|errno| Error::io("set the time of", path, errno))
}

/// Removes a directory and all in it. Few descriptors are held, however deep it is: what lies
/// deeper is moved up first.
fn remove_dir(parent: &Place, path: &TreePath) -> Result<(), Error> {
    let failed = |errno| Error::io("replace", path, errno);
    let mut top = open_dir(parent, path)?;
    let mut moved = 0;
    loop {
        let names = names(top.as_fd(), path)?;
        if names.is_empty() {
            break;
        }
        empty(&top, &top, &names, 0, &mut moved).map_err(failed)?;
        // A descriptor lists a directory once.
        top = open_dir(parent, path)?;
    }
    fs::unlinkat(&*parent.dir, path.name(), AtFlags::REMOVEDIR).map_err(failed)
}

/// Removes `entries` of `dir`, which is `depth` levels below `top`.
fn empty(
    top: &OwnedFd,
    dir: &OwnedFd,
    entries: &[Vec<u8>],
    depth: usize,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    for name in entries {
        match fs::unlinkat(dir, name.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(errno),
        }
        if depth == MAX_OPEN {
            loop {
                let up = format!(".removed-{moved}");
                *moved += 1;
                match fs::renameat_with(dir, name.as_slice(), top, up, RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => {}
                    renamed => break renamed?,
                }
            }
            continue;
        }
        let child = fs::openat(dir, name.as_slice(), DIRECTORY, Mode::empty())?;
        let inside = names(child.as_fd(), &TreePath::ROOT).map_err(|error| match error {
            Error::Io { source, .. } => Errno::from_io_error(&source).unwrap_or(Errno::IO),
            _ => Errno::IO,
        })?;
        empty(top, &child, &inside, depth + 1, moved)?;
        fs::unlinkat(dir, name.as_slice(), AtFlags::REMOVEDIR)?;
    }
    Ok(())
}
