//! Containers whose user is the caller, `--user-map=keep`.
//!
//! The trees of a store have one id map, in which the caller is root. In such a container the
//! caller changes places with the user that the program runs as: what the program makes in a
//! mount is the caller's, and what the caller has there is the program's. The image's files must
//! change with them, so the container has a copy of its own below its writable layer, its
//! [`IMAGE`]; a file system that shares blocks makes that cheap. On disk all owners are those of
//! the store's map, and what is read for people, images and archives, or comes from them, is
//! [`translate`]d.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::Mode;

use crate::event::Sink;
use crate::layer::{Change, Changes, Stack, Tree, TreeForm, TreePath, dress, flatten, write_tree};
use crate::sandbox::IdSwap;
use crate::sandbox::user::{self, UserSpec};
use crate::store::{self, LayerRef, Scratch, Store};

use super::container::Container;
use super::error::Error;
use super::files::{io_error, open_dir};

/// Name of a container's own copy of its image, in its directory.
pub(super) const IMAGE: &str = "image";

/// How much of a user database is read, in bytes.
const DATABASE: u64 = 1 << 20;

/// An unpacked layer of a container.
#[derive(Debug, Clone)]
pub(super) struct Lower {
    /// Where it is.
    pub(super) path: PathBuf,
    /// It, opened for reading.
    pub(super) fd: Arc<OwnedFd>,
}

/// A copy of an image that no container has yet, and the ids that are others in it.
#[derive(Debug)]
pub(super) struct Copied {
    scratch: Scratch,
    pub(super) ids: IdSwap,
}

impl Copied {
    /// Where it is. It may be moved away.
    pub(super) fn path(&self) -> PathBuf {
        self.scratch.path().join(IMAGE)
    }
}

/// Copies `image` for a container in which `ids` have changed places.
pub(super) fn copy(store: &Store, image: &Stack, ids: IdSwap) -> Result<Copied, Error> {
    let copied = Copied {
        scratch: store.scratch()?,
        ids,
    };
    let path = copied.path();
    rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)).map_err(io_error("create", &path))?;
    let into = open_dir(&path).map_err(io_error("open", &path))?;
    let mut changes = flatten(image)?;
    translate(Some(ids), &mut changes);
    write_tree(
        &changes,
        into.as_fd(),
        TreeForm::Overlay(store.marks()),
        None,
    )?;
    if let Some(mut root) = image.node(&TreePath::ROOT)?.map(|node| node.meta) {
        (root.uid, root.gid) = ids.owner((root.uid, root.gid));
        dress(into.as_fd(), &root, store.marks())?;
    }
    Ok(copied)
}

/// The ids that change places for a program that runs as `wanted`, by the image's own files; `None`
/// if that is root, as whom the caller is seen anyway.
pub(super) fn ids_of(image: &Stack, wanted: &str) -> Result<Option<IdSwap>, Error> {
    let database = |path: &[u8]| -> Result<Vec<u8>, Error> {
        let path = TreePath::clean(path).unwrap_or_default();
        Ok(image.read_small(&path, DATABASE)?.unwrap_or_default())
    };
    let (passwd, group) = (database(b"etc/passwd")?, database(b"etc/group")?);
    let who = user::resolve(&UserSpec::from(wanted), &passwd, &group);
    let who = who.map_err(crate::sandbox::Error::User)?;
    let ids = IdSwap {
        uid: who.uid,
        gid: who.gid,
    };
    if who.uid == 0 && who.gid == 0 {
        return Ok(None);
    }
    let possible = ids.is_possible().map_err(|source| Error::Io {
        doing: "read the map of",
        path: "/proc/self".into(),
        source,
    })?;
    match possible {
        true => Ok(Some(ids)),
        false => Err(Error::BeyondIds { ids }),
    }
}

/// Turns owners as they are on disk into those that the program sees, or back.
pub(super) fn translate(ids: Option<IdSwap>, changes: &mut Changes) {
    let Some(ids) = ids else { return };
    for change in changes.entries.values_mut() {
        if let Change::Node(node) | Change::Opaque(node) = change {
            let meta = &mut node.meta;
            (meta.uid, meta.gid) = ids.owner((meta.uid, meta.gid));
        }
    }
}

/// The unpacked layers below what a container writes, bottom first.
pub(super) fn lowers(
    store: &Store,
    container: &Container,
    sink: &dyn Sink,
) -> Result<Vec<Lower>, Error> {
    if container.config.ids.is_none() {
        return unpacked(store, &container.config.layers, sink);
    }
    let path = container.dir.join(IMAGE);
    let fd = Arc::new(open_dir(&path).map_err(io_error("open", &path))?);
    Ok(vec![Lower { path, fd }])
}

/// The unpacked layers that all share, bottom first.
pub(super) fn unpacked(
    store: &Store,
    layers: &[LayerRef],
    sink: &dyn Sink,
) -> Result<Vec<Lower>, Error> {
    let trees = store.trees(layers, sink)?;
    let lower = |tree: &store::Tree| Lower {
        path: tree.path().to_owned(),
        fd: tree.fd(),
    };
    Ok(trees.iter().map(lower).collect())
}
