//! The upper directory of an overlay as a layer: what a RUN step changed.
//!
//! - whiteouts become [`Change::Whiteout`], opaque directories [`Change::Opaque`];
//! - a directory that was only copied up stands as itself and merges with what is below;
//! - names of one inode become hard links. A file whose other names are only in lower layers has
//!   one name here: copying up broke the link, for the step as well;
//! - sockets are left out, overlayfs' own attributes dropped;
//! - the root directory is not in the result, as it is not in BuildKit's layers: a step that
//!   changes owner or mode of `/` keeps that to itself.
//!
//! Overlayfs marks every new directory opaque, to save itself a look-up. With the layers below at
//! hand, a mark or a whiteout that hides nothing is left out, so the layer says only what counts.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::vec::IntoIter;

use super::changes::{Change, Changes};
use super::content::{self, DIRECTORY};
use super::entry::Kind;
use super::error::Error;
use super::flatten::Names;
use super::node::{Marks, OverlayMeaning, Place, Raw, Xattrs, list_at, node_at};
use super::path::TreePath;
use super::tree::Tree;

/// Returns what `upper` does to the file system `below`; without `below`, every mark is kept.
///
/// `upper` must be at rest: its overlay unmounted, or nothing running in it.
pub fn diff(
    upper: &Arc<OwnedFd>,
    below: Option<&dyn Tree>,
    marks: Marks,
) -> Result<Changes, Error> {
    let below = below.map_or(Below::Unknown, Below::Tree);
    let upper = Upper { upper, marks };
    let mut names = Names::default();
    let mut entries = Vec::new();
    let mut open = vec![upper.open(TreePath::ROOT, below)?];
    while let Some(level) = open.last_mut() {
        let Some((name, raw)) = level.entries.next() else {
            open.pop();
            continue;
        };
        let (path, below) = (level.path.child(&name), level.below);
        if raw.is_whiteout(level.meaning) {
            if below.has(&path)? {
                entries.push((path, Change::Whiteout));
            }
            continue;
        }
        if raw.found.node.kind == Kind::Socket {
            continue;
        }
        let opaque = raw.overlay.opaque;
        let change = match names.change(&path, raw.found) {
            Change::Node(node) if node.kind.is_dir() => {
                let inside = below.inside(&path, opaque)?;
                open.push(upper.open(path.clone(), inside.below)?);
                if inside.opaque {
                    Change::Opaque(node)
                } else {
                    Change::Node(node)
                }
            }
            change => change,
        };
        entries.push((path, change));
    }
    // Sorted already, so the map is built in one go.
    Ok(Changes {
        entries: entries.into_iter().collect(),
    })
}

/// What lies below a directory of the upper one.
#[derive(Clone, Copy)]
enum Below<'a> {
    /// Not known: every mark counts.
    Unknown,
    /// The layers below.
    Tree(&'a dyn Tree),
    /// Nothing: the directory is new, or hides what was there.
    Nothing,
}

/// A directory of the upper one, and what still shows through it.
struct Inside<'a> {
    opaque: bool,
    below: Below<'a>,
}

impl<'a> Below<'a> {
    fn has(self, path: &TreePath) -> Result<bool, Error> {
        match self {
            Self::Unknown => Ok(true),
            Self::Tree(tree) => Ok(tree.find(path)?.is_some()),
            Self::Nothing => Ok(false),
        }
    }

    /// Decides for the directory at `path`, marked `opaque` or not, whether the mark counts.
    fn inside(self, path: &TreePath, opaque: bool) -> Result<Inside<'a>, Error> {
        let here = match self {
            Self::Tree(tree) => tree.node(path)?.is_some_and(|node| node.kind.is_dir()),
            Self::Unknown => true,
            Self::Nothing => false,
        };
        Ok(match self {
            _ if !here => Inside {
                opaque: false,
                below: Self::Nothing,
            },
            Self::Tree(tree) if opaque => Inside {
                opaque: !tree.scan(path)?.is_empty(),
                below: Self::Nothing,
            },
            _ if opaque => Inside {
                opaque: true,
                below: Self::Nothing,
            },
            below => Inside {
                opaque: false,
                below,
            },
        })
    }
}

struct Upper<'a> {
    upper: &'a Arc<OwnedFd>,
    marks: Marks,
}

/// A directory that is being walked.
struct Level<'a> {
    path: TreePath,
    entries: IntoIter<(Vec<u8>, Raw)>,
    meaning: OverlayMeaning,
    below: Below<'a>,
}

impl Upper<'_> {
    fn open<'b>(&self, path: TreePath, below: Below<'b>) -> Result<Level<'b>, Error> {
        let dir = content::open_below(self.upper.as_fd(), &path, DIRECTORY)
            .map_err(|errno| Error::io("open", &path, errno))?;
        let place = Place {
            root: self.upper,
            tree: 0,
            dir: dir.as_fd(),
            path: &path,
            xattrs: Xattrs::Overlay(self.marks),
            ids: self.marks.ownership(),
        };
        let meaning = node_at(&place, b"")?.map_or_else(OverlayMeaning::default, |raw| raw.overlay);
        let mut entries = list_at(&place)?;
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Level {
            entries: entries.into_iter(),
            path,
            meaning,
            below,
        })
    }
}
