//! The files of a container, whether it runs or not.
//!
//! They are computed from the image's layers, the writable layer and the volumes below
//! descriptors, so nothing is mounted and nothing of the container is asked. Its programs may
//! run meanwhile: a name that changes under the reader gives an error or the old or new entry,
//! never one outside.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::event::{Silent, Sink};
use crate::layer::{
    Change, Changes, Dir, EncodeOptions, Error as LayerError, Found, Stack, Tree, TreePath, diff,
    encode, flatten,
};
use crate::store::Store;

use super::container::Container;
use super::error::Error;
use super::ids;
use super::start::stacked;
use super::volumes::{self, Volume};

/// What lies below one directory of a tree, as a tree.
pub(super) struct Subtree<'t> {
    tree: &'t dyn Tree,
    at: TreePath,
}

impl<'t> Subtree<'t> {
    /// `at` is a directory of `tree`, without links on the way.
    pub(super) fn new(tree: &'t dyn Tree, at: TreePath) -> Self {
        Self { tree, at }
    }
}

impl Tree for Subtree<'_> {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, LayerError> {
        self.tree.find(&self.at.join(path))
    }

    fn scan(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, LayerError> {
        self.tree.scan(&self.at.join(path))
    }
}

/// The file system of a container, its volumes in their places.
pub(super) struct World {
    root: Stack,
    mounts: Vec<(TreePath, Dir)>,
}

impl World {
    pub(super) fn of(store: &Store, container: &Container, sink: &dyn Sink) -> Result<Self, Error> {
        let mut mounts = Vec::new();
        for mount in &container.config.mounts {
            let target = TreePath::clean(mount.target.as_os_str().as_bytes());
            // A file that is mounted, or a directory that has gone, shows what lies below it.
            if let (Some(target), Some(fd)) = (target, volumes::open_source(store, mount)) {
                mounts.push((target, Dir::new(Arc::new(fd))));
            }
        }
        // The innermost mount answers.
        mounts.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(Self {
            root: whole(store, container, sink)?,
            mounts,
        })
    }

    fn mount_of(&self, path: &TreePath) -> Option<(&Dir, TreePath)> {
        let (target, dir) = self
            .mounts
            .iter()
            .find(|(target, _)| path.starts_with(target))?;
        let inside = path.parts().skip(target.parts().count());
        Some((
            dir,
            inside.fold(TreePath::ROOT, |path, part| path.child(part)),
        ))
    }
}

impl Tree for World {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, LayerError> {
        match self.mount_of(path) {
            Some((dir, inside)) => dir.find(&inside),
            None => self.root.find(path),
        }
    }

    fn scan(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, LayerError> {
        match self.mount_of(path) {
            Some((dir, inside)) => dir.scan(&inside),
            None => self.root.scan(path),
        }
    }
}

pub(super) fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

pub(super) fn io_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(rustix::io::Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Io {
        doing,
        path,
        source: errno.into(),
    }
}

fn upper(container: &Container) -> Result<Arc<OwnedFd>, Error> {
    let path = container.dir.join("upper");
    let upper = open_dir(&path).map_err(io_error("open", &path))?;
    Ok(Arc::new(upper))
}

/// The image's layers with the writable one on top.
fn whole(store: &Store, container: &Container, sink: &dyn Sink) -> Result<Stack, Error> {
    let lowers = ids::lowers(store, container, sink)?;
    let mut fds: Vec<Arc<OwnedFd>> = lowers.into_iter().map(|lower| lower.fd).collect();
    fds.push(upper(container)?);
    Ok(Stack::new(fds, store.marks()))
}

/// What a container has changed in its image's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is new.
    Added,
    /// It was there, and is another.
    Modified,
    /// It is gone.
    Deleted,
}

/// Mount points that are made for a program and vanish after it.
const OURS: [&str; 6] = [
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "dev",
    "proc",
    "sys",
];

/// What the writable layer does to the image, with owners as the container has them; the image's
/// files are as they are on disk.
pub(super) fn written(
    store: &Store,
    container: &Container,
    sink: &dyn Sink,
) -> Result<(Changes, Stack), Error> {
    let below = stacked(store, &ids::lowers(store, container, sink)?);
    let upper = upper(container)?;
    let mut changes = diff(&upper, Some(&below), store.marks())?;
    let mounts = container.config.mounts.iter();
    let mut made: Vec<TreePath> = mounts
        .filter_map(|mount| TreePath::clean(mount.target.as_os_str().as_bytes()))
        .collect();
    made.extend(
        OURS.iter()
            .filter_map(|path| TreePath::clean(path.as_bytes())),
    );
    for path in made {
        // Only what the image lacks was made for the mount.
        if below.find(&path)?.is_none() && is_bare(&changes, &path) {
            changes.entries.remove(&path);
            forget_parent(&mut changes, &below, &path)?;
        }
    }
    ids::translate(container.config.ids, &mut changes);
    Ok((changes, below))
}

/// Takes out the directory above a mount point that was made, if nothing but its time was changed
/// by that.
fn forget_parent(changes: &mut Changes, below: &Stack, path: &TreePath) -> Result<(), Error> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let (Some(Change::Node(now)), Some(before)) =
        (changes.entries.get(&parent), below.node(&parent)?)
    else {
        return Ok(());
    };
    let mut meta = now.meta.clone();
    meta.mtime = before.meta.mtime;
    let mut after = changes.entries.range(parent.clone()..).skip(1);
    let holds = after
        .next()
        .is_some_and(|(next, _)| next.starts_with(&parent));
    if !holds && now.kind == before.kind && meta == before.meta {
        changes.entries.remove(&parent);
    }
    Ok(())
}

/// How large the files of a container are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What it wrote.
    pub written: u64,
    /// The layers of its image, unpacked.
    pub image: u64,
}

/// Adds up the files of a container. One that is linked several times counts once.
pub fn size(store: &Store, container: &Container) -> Result<Size, Error> {
    let lowers = ids::lowers(store, container, &Silent)?;
    let image = lowers.iter().map(|lower| below(&lower.path));
    Ok(Size {
        written: written_size(container)?,
        image: image.sum::<Result<_, _>>()?,
    })
}

/// The same of what it wrote alone.
pub fn written_size(container: &Container) -> Result<u64, Error> {
    below(&container.dir.join("upper"))
}

fn below(path: &Path) -> Result<u64, Error> {
    let dir = open_dir(path).map_err(io_error("measure", path))?;
    sum(&dir, &mut BTreeSet::new()).map_err(io_error("measure", path))
}

/// Adds up the files of a volume; one that is a directory of the machine takes nothing.
pub fn volume_size(store: &Store, volume: &Volume) -> Result<u64, Error> {
    if !volume.options.is_empty() {
        return Ok(0);
    }
    below(&volumes::data_dir(store, &volume.name))
}

/// Bytes of the regular files below a directory that `seen` does not know.
fn sum(dir: &OwnedFd, seen: &mut BTreeSet<(u64, u64)>) -> rustix::io::Result<u64> {
    let mut total = 0;
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            // The container has just removed it.
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty());
                match inner {
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    inner => total += sum(&inner?, seen)?,
                }
            }
            FileType::RegularFile
                if stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino)) =>
            {
                total += u64::try_from(stat.st_size).unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(total)
}

/// Whether nothing was put where a mount point was made.
fn is_bare(changes: &Changes, path: &TreePath) -> bool {
    let node = changes.entries.get(path).and_then(Change::node);
    let empty = node.is_some_and(|node| node.content.is_none());
    let mut after = changes.entries.range(path.clone()..).skip(1);
    empty && after.next().is_none_or(|(next, _)| !next.starts_with(path))
}

/// Lists what a container has changed, by path.
pub fn changed(
    store: &Store,
    container: &Container,
    sink: &dyn Sink,
) -> Result<Vec<(Changed, Vec<u8>)>, Error> {
    let (changes, below) = written(store, container, sink)?;
    let mut list = Vec::new();
    for (path, change) in &changes.entries {
        let what = match change {
            Change::Whiteout => Changed::Deleted,
            _ if below.find(path)?.is_some() => Changed::Modified,
            _ => Changed::Added,
        };
        list.push((what, path.as_bytes().to_vec()));
    }
    Ok(list)
}

/// Writes all files of a container as a tar, volumes left out as with docker.
pub fn export(
    store: &Store,
    container: &Container,
    out: &mut dyn Write,
    sink: &dyn Sink,
) -> Result<(), Error> {
    container.refuse_dead()?;
    let mut files = flatten(&whole(store, container, sink)?)?;
    ids::translate(container.config.ids, &mut files);
    encode(&files, &EncodeOptions::default(), out)?;
    Ok(())
}
