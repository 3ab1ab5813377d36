//! Trees: layers unpacked as overlay lower dirs.
//!
//! A tree is called `layer-<diff id>` when the layer alone says all of it, so that every stack
//! with the layer shares it and layers unpack in parallel; `chain-<chain id>` when it took
//! something from the layers below (the metadata of a parent it only implies, the file behind a
//! hard link). A tree is made in a lease, verified while it is made, and renamed into place: what
//! stands under a final name is whole. It is never changed afterwards.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Store;
use super::disk;
use super::error::Error;
use super::fault;
use super::images::LayerRef;
use super::lease::Scratch;
use super::locks::Act;
use super::plain::PlainReader;
use crate::event::{Event, Motion, Sink};
use crate::image::{ChainId, DiffId, Digest};
use crate::layer::{self, Change, Changes, Marks, Stack};

/// Bytes of a blob between two events.
const STRIDE: u64 = 1 << 20;
/// Threads that unpack beyond the number of cores gain nothing.
const MAX_THREADS: usize = 16;

/// A layer as a directory that overlayfs can take as a lower dir.
#[derive(Debug, Clone)]
pub struct Tree {
    path: PathBuf,
    fd: Arc<OwnedFd>,
}

impl Tree {
    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns it opened for reading.
    pub fn fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// Returns it opened for reading.
    pub(super) fn fd_arc(&self) -> &Arc<OwnedFd> {
        &self.fd
    }
}

/// Name of the tree of a layer that says all of it.
pub(super) fn layer_key(diff_id: &DiffId) -> String {
    format!("layer-{}", diff_id.digest().hex())
}

/// Returns the layer of a tree that says all of it, by the tree's name.
pub(super) fn layer_of(name: &str) -> Option<DiffId> {
    let hex = name.strip_prefix("layer-")?;
    format!("sha256:{hex}").parse().ok().map(DiffId)
}

/// Name of the tree of a layer that depends on those below.
pub(super) fn chain_key(chain: &ChainId) -> String {
    format!("chain-{}", chain.digest().hex())
}

impl Store {
    /// Returns the trees of a stack of layers, bottom first, and makes those that are missing:
    /// unpacked from their blobs in parallel, each blob and diff id verified on the way.
    ///
    /// A layer that occurs twice is given once, at its topmost place, where it hides the other.
    /// `NoBlob` when a layer must be fetched first.
    pub fn trees(&self, layers: &[LayerRef], sink: &dyn Sink) -> Result<Vec<Tree>, Error> {
        let _work = self.work()?;
        let own = |layer: &LayerRef| self.layer_tree(&layer.diff_id);
        let mut trees = layers.iter().map(own).collect::<Result<Vec<_>, _>>()?;
        if trees.iter().any(Option::is_none) {
            self.complete_trees(layers, &mut trees, sink)?;
        }
        let mut given = std::collections::HashSet::new();
        let mut topmost: Vec<Tree> = trees.into_iter().flatten().rev().collect();
        topmost.retain(|tree| given.insert(tree.path.clone()));
        topmost.reverse();
        Ok(topmost)
    }

    /// Finds or makes the trees that are not there under their layer's own name. Chain ids are
    /// worked out here, since most stacks never need them.
    fn complete_trees(
        &self,
        layers: &[LayerRef],
        trees: &mut [Option<Tree>],
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        let chains = chains(layers);
        for (index, layer) in layers.iter().enumerate() {
            if trees[index].is_none() {
                trees[index] = self.tree(&chain_key(&chains[index]), &layer.diff_id)?;
            }
        }
        if trees.iter().any(Option::is_none) {
            self.unpack_missing(layers, &chains, trees, sink)?;
        }
        // What the parallel pass left needs the trees below it.
        for index in 0..layers.len() {
            if trees[index].is_none() {
                let below = Stack::new(fds(&trees[..index]), self.marks());
                let made = self.unpack(&layers[index], &chains[index], Some(&below), true, sink)?;
                trees[index] = made;
            }
        }
        Ok(())
    }

    /// Unpacks the layers without a tree on as many threads as there are cores. One that turns out
    /// to need the layers below stays `None`.
    fn unpack_missing(
        &self,
        layers: &[LayerRef],
        chains: &[ChainId],
        trees: &mut [Option<Tree>],
        sink: &dyn Sink,
    ) -> Result<(), Error> {
        let missing: Vec<usize> = (0..layers.len()).filter(|&i| trees[i].is_none()).collect();
        let lowest = missing.first().copied().unwrap_or(0);
        let below_lowest = Stack::new(fds(&trees[..lowest]), self.marks());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let made = Mutex::new(Vec::new());
        let work = || {
            while let Some(&index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                // All below the lowest is there already, so it is done for good.
                let last = index == lowest;
                let below = last.then_some(&below_lowest);
                let tree = self.unpack(&layers[index], &chains[index], below, last, sink);
                let failed = tree.is_err();
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                made.push((index, tree));
                if failed {
                    next.store(missing.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..cores.min(missing.len()).min(MAX_THREADS) {
                scope.spawn(work);
            }
            work();
        });
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Of several errors the lowest layer's is shown, whichever thread was first.
        made.sort_by_key(|(index, _)| *index);
        for (index, tree) in made {
            trees[index] = tree?;
        }
        Ok(())
    }

    /// Makes the tree of one layer unless another thread or process does or did. `None` when the
    /// layer needs those below and this is not the `last` try, which has them.
    fn unpack(
        &self,
        layer: &LayerRef,
        chain: &ChainId,
        below: Option<&Stack>,
        last: bool,
        sink: &dyn Sink,
    ) -> Result<Option<Tree>, Error> {
        let _lock = self.lock(Act::Tree, layer.diff_id.digest())?;
        if let Some(tree) = self.tree_of(&layer.diff_id, chain)? {
            return Ok(Some(tree));
        }
        let Some(blob) = self.layer_source(layer)? else {
            return Err(Error::NoBlob {
                digest: layer.descriptor.digest.clone(),
            });
        };
        let scratch = self.scratch()?;
        let into = scratch.dir("tree")?;
        let mut reader = Telling {
            inner: self.plain_reader(&blob)?,
            sink,
            blob: blob.digest().clone(),
            said: 0,
            total: blob.size(),
        };
        let options = layer::UnpackOptions {
            marks: self.marks(),
        };
        let outcome = layer::unpack(&mut reader, into.as_fd(), below, &options);
        let needs_below = outcome.as_ref().is_ok_and(|done| !done.self_contained);
        if needs_below && !last {
            return Ok(None);
        }
        let (unpacked, _) = reader.inner.end(self, layer, outcome)?;
        if let Some(first) = unpacked.left_out.first() {
            let count = unpacked.left_out.len();
            let digest = layer.diff_id.digest().short();
            let text = format!(
                "{count} devices of layer {digest} cannot be made here and are left out, such as `{first}`"
            );
            sink.emit(Event::Warning { text: &text });
        }
        let from = scratch.path().join("tree");
        let key = if needs_below {
            self.amend(&layer.diff_id, |facts| {
                if !facts.chains.contains(chain) {
                    facts.chains.push(chain.clone());
                }
            })?;
            chain_key(chain)
        } else {
            layer_key(&layer.diff_id)
        };
        let tree = self.place_tree(&from, &key, &layer.diff_id)?;
        sink.emit(Event::BlobDone {
            motion: Motion::Unpack,
            blob: blob.digest(),
        });
        Ok(Some(tree))
    }

    /// Returns the tree of a layer in a stack, if there is one.
    pub(super) fn tree_of(&self, diff_id: &DiffId, chain: &ChainId) -> Result<Option<Tree>, Error> {
        match self.layer_tree(diff_id)? {
            Some(tree) => Ok(Some(tree)),
            None => self.tree(&chain_key(chain), diff_id),
        }
    }

    /// Returns the tree of a layer that says all of it, if there is one.
    pub(super) fn layer_tree(&self, diff_id: &DiffId) -> Result<Option<Tree>, Error> {
        self.tree(&layer_key(diff_id), diff_id)
    }

    fn tree(&self, key: &str, diff_id: &DiffId) -> Result<Option<Tree>, Error> {
        let path = self.path("trees").join(key);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Arc::new(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::os("open", &path, e)),
        };
        let tree = Tree { path, fd };
        let item = format!("tree-{key}");
        let marks = self.suspicions(&item)?;
        if marks.is_empty() {
            return Ok(Some(tree));
        }
        let whole = self.is_whole(&tree, diff_id)?;
        if !whole {
            self.drop_tree(&tree.path)?;
        }
        self.acquit(&marks)?;
        Ok(whole.then_some(tree))
    }

    /// Judges a tree that a power cut may have torn. Only one that our own encoder made into its
    /// layer can be proved whole; any other is made again from its blob.
    fn is_whole(&self, tree: &Tree, diff_id: &DiffId) -> Result<bool, Error> {
        let Ok(changes) = layer::diff(&tree.fd, None, self.marks()) else {
            return Ok(false);
        };
        let mut hasher = crate::image::Hasher::new();
        // Whatever keeps it from being read keeps it from being served.
        let encoded = layer::encode(&changes, &layer::EncodeOptions::default(), &mut hasher);
        Ok(encoded.is_ok() && hasher.finish() == diff_id.0)
    }

    /// Takes a tree out of sight, then from the disk. Returns the bytes of disk it held.
    pub(super) fn drop_tree(&self, path: &Path) -> Result<u64, Error> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{GONE}{}-{number}", std::process::id());
        let gone = self.path("trees").join(name);
        fault::point("remove", path)?;
        match std::fs::rename(path, &gone) {
            Ok(()) => disk::remove_tree(&gone),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(Error::io("remove", path, e)),
        }
    }

    /// Makes a finished directory of `scratch` the tree of a layer. `size` is the bytes of the
    /// plain tar, which is not kept: encoding the tree gives it again, so the tree must say just
    /// what the tar says. For the upper dir of an overlay use [`adopt_upper`](Self::adopt_upper).
    pub fn adopt_tree(
        &self,
        scratch: &Scratch,
        dir: &str,
        diff_id: &DiffId,
        size: u64,
    ) -> Result<Tree, Error> {
        self.amend(diff_id, |facts| facts.size = Some(size))?;
        self.place_tree(&scratch.path().join(dir), &layer_key(diff_id), diff_id)
    }

    /// Makes the upper dir of an unmounted overlay the tree of the layer that `changes`, its
    /// [`diff`](layer::diff), was encoded to. Marks that `changes` leaves out, because they hide
    /// nothing in this stack, are taken off, so that the tree is the layer in any stack.
    pub fn adopt_upper(
        &self,
        scratch: &Scratch,
        dir: &str,
        diff_id: &DiffId,
        size: u64,
        changes: &Changes,
    ) -> Result<Tree, Error> {
        let path = scratch.path().join(dir);
        let upper = disk::open_dir(&path)?;
        take_off_marks(upper.as_fd(), changes, self.marks())
            .map_err(|e| Error::os("take marks off", &path, e))?;
        self.adopt_tree(scratch, dir, diff_id, size)
    }

    /// Writes `changes` into a directory as the tree of a layer on top of `below`.
    pub fn write_tree(
        &self,
        changes: &Changes,
        into: BorrowedFd<'_>,
        below: &Stack,
    ) -> Result<(), layer::Error> {
        let form = layer::TreeForm::Overlay(self.marks());
        layer::write_tree(changes, into, form, Some(below)).map(drop)
    }

    /// Renames a finished tree into place. One that is there already stays, ours goes, unless a
    /// power cut tore it.
    fn place_tree(&self, from: &Path, key: &str, diff_id: &DiffId) -> Result<Tree, Error> {
        if let Some(there) = self.tree(key, diff_id)? {
            return Ok(there);
        }
        let path = self.path("trees").join(key);
        let at = rustix::fs::CWD;
        self.mark(&format!("tree-{key}"))?;
        fault::point("rename into place", &path)?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(at, from, at, &path, flags) {
            Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(e) => return Err(Error::os("rename into place", &path, e)),
        }
        Ok(Tree {
            fd: Arc::new(disk::open_dir(&path)?),
            path,
        })
    }
}

/// Start of the names of trees on their way out.
pub(super) const GONE: &str = ".gone-";

fn fds(trees: &[Option<Tree>]) -> Vec<Arc<OwnedFd>> {
    trees.iter().flatten().map(Tree::fd).collect()
}

/// Returns the chain id at each layer.
pub(super) fn chains(layers: &[LayerRef]) -> Vec<ChainId> {
    let mut chains: Vec<ChainId> = Vec::with_capacity(layers.len());
    for layer in layers {
        chains.push(match chains.last() {
            Some(below) => below.and(&layer.diff_id),
            None => ChainId(layer.diff_id.0.clone()),
        });
    }
    chains
}

/// Removes from `upper` the whiteouts and opaque marks that `changes` does not have. Only
/// directories are looked into, and only devices in them looked at.
fn take_off_marks(upper: BorrowedFd<'_>, changes: &Changes, marks: Marks) -> Result<(), Errno> {
    let opaque = marks.opaque();
    let root = layer::TreePath::ROOT;
    let dirs = changes.entries.iter().filter_map(|(path, change)| {
        let (Change::Node(node) | Change::Opaque(node)) = change else {
            return None;
        };
        node.kind.is_dir().then_some((path, change))
    });
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut at = vec![(&root, None)];
    at.extend(dirs.map(|(path, change)| (path, Some(change))));
    for (path, change) in at {
        let dir = rustix::fs::openat2(upper, path.as_os(), flags, Mode::empty(), inside)?;
        if !matches!(change, Some(Change::Opaque(_))) {
            match rustix::fs::fremovexattr(&dir, opaque) {
                Ok(()) | Err(Errno::NODATA) => {}
                // A file system without such attributes carries no mark.
                Err(Errno::OPNOTSUPP) => {}
                Err(e) => return Err(e),
            }
        }
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let kind = entry.file_type();
            if !matches!(kind, FileType::CharacterDevice | FileType::Unknown) {
                continue;
            }
            let name = entry.file_name();
            let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_whiteout =
                FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0;
            if is_whiteout && !changes.entries.contains_key(&path.child(name.to_bytes())) {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            }
        }
    }
    Ok(())
}

/// Reads a plain tar and says how far its blob was read.
struct Telling<'a> {
    inner: PlainReader,
    sink: &'a dyn Sink,
    blob: Digest,
    said: u64,
    total: u64,
}

impl Read for Telling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let done = self.inner.packed_size();
        if done - self.said >= STRIDE {
            self.said = done;
            self.sink.emit(Event::BlobMoved {
                motion: Motion::Unpack,
                blob: &self.blob,
                done,
                total: Some(self.total),
            });
        }
        Ok(n)
    }
}

impl Scratch {
    /// Makes a directory in it, mode 0755 whatever the umask, and opens it.
    pub fn dir(&self, name: &str) -> Result<OwnedFd, Error> {
        let path = self.path().join(name);
        disk::make_dir(&path)?;
        let open = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        rustix::fs::chmod(&path, open).map_err(|e| Error::os("make", &path, e))?;
        disk::open_dir(&path)
    }

    /// Returns a new file without a name, open for reading and writing.
    pub fn file(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::open(self.path(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(File::from(file)),
            // Not every file system has nameless files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let path = self.path().join(".file");
                let named = disk::new_file(&path).map_err(Error::into_io)?;
                disk::remove_file(&path).map_err(Error::into_io)?;
                Ok(named)
            }
            Err(e) => Err(e.into()),
        }
    }
}
