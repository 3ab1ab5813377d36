//! `cask cp`: files into and out of containers.
//!
//! What is copied is gathered as a [`Bundle`] and written below one directory. The container's
//! side is hostile: it is read as [`super::files`] says, and written through the real root, be
//! it that of the running program, which its monitor hands out, or an overlay that is mounted
//! for the moment and nowhere attached. There every name is resolved by the kernel inside that
//! root (openat2(2), RESOLVE_IN_ROOT), and what is written lies below the directory that was
//! opened, links never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::event::Sink;
use crate::layer::{
    Change, Changes, Dir, EncodeOptions, Follow, Tree, TreeForm, TreePath, encode, flatten,
    index_tar, write_tree,
};
use crate::sandbox::{self, IdSwap, Overlay};
use crate::store::{ContainerLock, Store};

use super::container::Container;
use super::control::{self, Link};
use super::error::Error;
use super::files::{Subtree, World, io_error, open_dir};
use super::ids;
use super::volumes;

/// Something to be copied: a file, or a directory with all in it.
#[derive(Debug)]
pub struct Bundle {
    /// Its last name; empty for the contents of a directory.
    name: Vec<u8>,
    is_dir: bool,
    /// The thing itself at the root, and what is in it.
    changes: Changes,
}

/// Gathers what lies at `path` of a container; `follow` takes the end of a symbolic link.
pub fn take_out(
    store: &Store,
    container: &Container,
    path: &OsStr,
    follow: bool,
    sink: &dyn Sink,
) -> Result<Bundle, Error> {
    let world = World::of(store, container, sink)?;
    let found = bundle(&world, path.as_bytes(), follow)?;
    let mut found = found.ok_or_else(|| Error::NoFile {
        name: container.config.name.clone(),
        path: path.into(),
    })?;
    ids::translate(container.config.ids, &mut found.changes);
    Ok(found)
}

/// Gathers what lies at a path of the caller's.
pub fn take_in(path: &Path, follow: bool) -> Result<Bundle, Error> {
    let missing = || io_error("open", path)(Errno::NOENT);
    let bytes = path.as_os_str().as_bytes();
    let whole = path.is_dir() && (follow || !path.is_symlink() || bytes.ends_with(b"/"));
    let (dir, inside) = match whole || is_contents(bytes) {
        true => (path, &b"."[..]),
        false => {
            let name = path.file_name().ok_or_else(missing)?;
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")), name.as_bytes())
        }
    };
    let fd = open_dir(dir).map_err(io_error("open", dir))?;
    let tree = Dir::new(Arc::new(fd)).without_xattrs();
    let mut found = bundle(&tree, inside, follow)?.ok_or_else(missing)?;
    if whole && !is_contents(bytes) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        found.name = absolute.file_name().unwrap_or_default().as_bytes().to_vec();
    }
    Ok(found)
}

/// Takes a tar from a stream; it is kept in `scratch` meanwhile. It has no name of its own.
pub fn take_tar(from: &mut dyn Read, store: &Store) -> Result<Bundle, Error> {
    let scratch = store.scratch()?;
    let path = scratch.path().join("tar");
    let failed = |source| Error::Io {
        doing: "keep",
        path: path.clone(),
        source,
    };
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(failed)?;
    std::io::copy(from, &mut file)
        .and_then(|_| file.rewind())
        .map_err(failed)?;
    Ok(Bundle {
        name: Vec::new(),
        is_dir: true,
        changes: index_tar(Arc::new(file))?,
    })
}

/// Whether a path means what is in a directory: `dir/.`.
fn is_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

fn bundle(tree: &dyn Tree, path: &[u8], follow: bool) -> Result<Option<Bundle>, Error> {
    let Some(clean) = TreePath::clean(path) else {
        return Ok(None);
    };
    let last = match is_contents(path) || path.ends_with(b"/") || follow {
        true => Follow::Last,
        false => Follow::Parents,
    };
    let resolved = tree.resolve(&clean, last)?;
    let Some(node) = resolved.exists else {
        return Ok(None);
    };
    let is_dir = node.kind.is_dir();
    let mut changes = match is_dir {
        true => flatten(&Subtree::new(tree, resolved.path))?,
        false => Changes::default(),
    };
    changes.entries.insert(TreePath::ROOT, Change::Node(node));
    let name = match is_contents(path) {
        true => Vec::new(),
        false => clean.name().to_vec(),
    };
    Ok(Some(Bundle {
        name,
        is_dir,
        changes,
    }))
}

impl Bundle {
    /// Makes root the owner of everything.
    pub fn own(&mut self) {
        for change in self.changes.entries.values_mut() {
            if let Change::Node(node) | Change::Opaque(node) = change {
                (node.meta.uid, node.meta.gid) = (0, 0);
            }
        }
    }

    /// The entries below the directory that holds the thing, under the name it is to have; those
    /// of the contents alone without one.
    fn named(&self, name: &[u8]) -> Changes {
        let top = match name {
            b"" => TreePath::ROOT,
            name => TreePath::ROOT.child(name),
        };
        let below = |(path, change): (&TreePath, &Change)| {
            let change = match change {
                Change::HardLink(to) => Change::HardLink(top.join(to)),
                change => change.clone(),
            };
            (top.join(path), change)
        };
        let mut entries: std::collections::BTreeMap<_, _> =
            self.changes.entries.iter().map(below).collect();
        entries.remove(&TreePath::ROOT);
        Changes { entries }
    }

    /// Writes it as a tar.
    pub fn write_tar(&self, out: &mut dyn Write) -> Result<(), Error> {
        encode(&self.named(&self.name), &EncodeOptions::default(), out)?;
        Ok(())
    }

    /// Writes it to `place`, by docker's rules: into a directory that is there, else under the
    /// name that is not.
    pub fn put(&self, place: &Place, path: &Path) -> Result<(), Error> {
        if let Some(dir) = place.dir(path)? {
            return place.write(self.named(&self.name), &dir);
        }
        let wrong = |errno| io_error("copy to", path)(errno);
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => return Err(wrong(Errno::NOENT)),
        };
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        let dir = place.dir(parent)?.ok_or_else(|| wrong(Errno::NOENT))?;
        let there = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let there = there.map(|stat| FileType::from_raw_mode(stat.st_mode));
        if self.is_dir && there.is_ok_and(|kind| kind != FileType::Symlink) {
            return Err(wrong(Errno::NOTDIR));
        }
        // A name that says it is a directory must be one.
        if !self.is_dir && path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(wrong(Errno::NOTDIR));
        }
        place.write(self.named(name.as_bytes()), &dir)
    }

    /// Writes what is in it into the directory `path`, which is there.
    pub fn put_contents(&self, place: &Place, path: &Path) -> Result<(), Error> {
        match place.dir(path)? {
            Some(dir) => place.write(self.named(b""), &dir),
            None => Err(io_error("copy to", path)(Errno::NOTDIR)),
        }
    }
}

/// Where something is copied to.
#[derive(Debug)]
pub struct Place {
    /// What stands for `/`; the caller's own when `None`.
    root: Option<OwnedFd>,
    /// Volumes that are not mounted there, by their places.
    volumes: Vec<(PathBuf, OwnedFd)>,
    /// The ids that are others on disk.
    ids: Option<IdSwap>,
    /// Keeps a container that does not run from being started meanwhile.
    _keep: Option<Keep>,
}

/// What keeps a container from being started.
#[derive(Debug)]
enum Keep {
    Lock {
        _lock: ContainerLock,
    },
    /// Its monitor knows.
    Monitor {
        _link: Link,
    },
}

impl Keep {
    fn of(container: &Container) -> Result<Self, Error> {
        match control::hold(container) {
            Err(Error::NotRunning { .. }) => Ok(Self::Lock {
                _lock: container.claim()?,
            }),
            held => Ok(Self::Monitor { _link: held? }),
        }
    }
}

impl Place {
    /// The caller's own file system.
    pub fn here() -> Self {
        Self {
            root: None,
            volumes: Vec::new(),
            ids: None,
            _keep: None,
        }
    }

    /// The root of a container.
    pub fn of(store: &Store, container: &Container, sink: &dyn Sink) -> Result<Self, Error> {
        match control::root(container) {
            Err(Error::NotRunning { .. }) => {}
            root => {
                return Ok(Self {
                    root: Some(root?),
                    ids: container.config.ids,
                    ..Self::here()
                });
            }
        }
        let keep = Keep::of(container)?;
        let lowers = ids::lowers(store, container, sink)?;
        let overlay = Overlay {
            lowers: lowers.into_iter().rev().map(|lower| lower.path).collect(),
            upper: container.dir.join("upper"),
            work: container.dir.join("work"),
            userxattr: store.user_xattr(),
            volatile: false,
            old_mount_api: false,
        };
        let mounts = container.config.mounts.iter().filter_map(|mount| {
            let source = volumes::open_source(store, mount)?;
            Some((mount.target.clone(), source))
        });
        let mut volumes: Vec<(PathBuf, OwnedFd)> = mounts.collect();
        // The innermost counts.
        volumes.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(Self {
            root: Some(sandbox::mount_overlay(&overlay)?),
            volumes,
            ids: container.config.ids,
            _keep: Some(keep),
        })
    }

    /// Writes below a directory of it.
    fn write(&self, mut changes: Changes, into: &OwnedFd) -> Result<(), Error> {
        ids::translate(self.ids, &mut changes);
        write_tree(&changes, into.as_fd(), TreeForm::Plain, None)?;
        Ok(())
    }

    /// Opens the directory at `path`; `None` if there is something else or nothing.
    fn dir(&self, path: &Path) -> Result<Option<OwnedFd>, Error> {
        let Some(root) = &self.root else {
            return directory(open_dir(path), path);
        };
        let below = self
            .volumes
            .iter()
            .find_map(|(target, source)| path.strip_prefix(target).ok().map(|rest| (source, rest)));
        let (root, inside) = below.unwrap_or((root, path));
        let inside = match inside.as_os_str().is_empty() {
            true => Path::new("/"),
            false => inside,
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        directory(
            rustix::fs::openat2(root, inside, flags, Mode::empty(), resolve),
            path,
        )
    }
}

fn directory(opened: Result<OwnedFd, Errno>, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(io_error("open", path)(errno)),
    }
}
