//! Finds what a COPY or ADD names in a tree: patterns in, picked entries out.
//!
//! A tree is a build context or the file system of a stage or image; both look the same here.
//! Literal sources must exist; patterns may match nothing. A link named as a source, or on the way
//! to it, is followed inside the tree; links found inside a copied directory stay links.

use crate::dockerfile::glob::{Component, PathGlob, has_wildcard};
use crate::image::Hasher;
use crate::layer::{Follow, Found, Inode, Kind, Node, Tree, TreePath};

use super::error::StepError;

/// What a source turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// A directory, whose contents are copied.
    Dir,
    /// Anything else, under its own name.
    File {
        /// Last part of the path as it was written or matched.
        name: Vec<u8>,
    },
}

/// One entry below a source. `rel` is the root for the source itself.
#[derive(Debug, Clone)]
pub(super) struct Picked {
    /// Path below the source.
    pub(super) rel: TreePath,
    /// Path in the tree, for reading.
    pub(super) path: TreePath,
    /// The entry.
    pub(super) node: Node,
    /// The inode behind it.
    pub(super) inode: Inode,
}

/// One source with all that is below it, sorted.
#[derive(Debug, Clone)]
pub(super) struct Pick {
    /// What it is.
    pub(super) shape: Shape,
    /// Itself and what is below it.
    pub(super) entries: Vec<Picked>,
}

impl Pick {
    /// Returns a pick of one file that comes from no tree.
    pub(super) fn file(name: &[u8], node: Node) -> Self {
        let inode = Inode {
            tree: 0,
            dev: 0,
            ino: 0,
            links: 1,
            ctime: node.meta.mtime,
        };
        let entry = Picked {
            rel: TreePath::ROOT,
            path: TreePath::ROOT,
            node,
            inode,
        };
        Self {
            shape: Shape::File {
                name: name.to_vec(),
            },
            entries: vec![entry],
        }
    }
}

/// Finds everything that `source` names in `tree`. A literal that is missing is an error; the
/// caller turns it into one that knows the instruction.
pub(super) fn select(tree: &dyn Tree, source: &str) -> Result<Vec<Pick>, StepError> {
    let missing = || StepError::NoSource {
        source_path: source.to_owned(),
        ignored_by: None,
    };
    let pattern = PathGlob::parse(source, false).map_err(|_| StepError::BadPattern {
        pattern: source.to_owned(),
    })?;
    if !has_wildcard(source) {
        let mut path = TreePath::ROOT;
        for component in &pattern.components {
            let Component::Name(name) = component else {
                return Err(missing());
            };
            if name.contains('\0') {
                return Err(StepError::NulInPath {
                    path: source.to_owned(),
                });
            }
            path = path.child(name.as_bytes());
        }
        let pick = pick(tree, &path)?.ok_or_else(missing)?;
        return Ok(vec![pick]);
    }
    let mut picks = Vec::new();
    for path in expand(tree, &pattern)? {
        // A dangling link that matches names nothing.
        picks.extend(pick(tree, &path)?);
    }
    Ok(picks)
}

/// Picks what is at `path`, a link followed; `None` when there is nothing.
pub(super) fn pick(tree: &dyn Tree, path: &TreePath) -> Result<Option<Pick>, StepError> {
    let resolved = tree.resolve(path, Follow::Last)?;
    let Some(found) = tree.find(&resolved.path)? else {
        return Ok(None);
    };
    let is_dir = found.node.kind.is_dir();
    let mut entries = vec![picked(TreePath::ROOT, resolved.path.clone(), found)];
    if !is_dir {
        let name = if path.is_root() {
            resolved.path.name()
        } else {
            path.name()
        }
        .to_vec();
        return Ok(Some(Pick {
            shape: Shape::File { name },
            entries,
        }));
    }
    walk(tree, &resolved.path, &TreePath::ROOT, &mut entries)?;
    Ok(Some(Pick {
        shape: Shape::Dir,
        entries,
    }))
}

fn picked(rel: TreePath, path: TreePath, found: Found) -> Picked {
    Picked {
        rel,
        path,
        node: storable(found.node),
        inode: found.inode,
    }
}

fn walk(
    tree: &dyn Tree,
    dir: &TreePath,
    rel: &TreePath,
    into: &mut Vec<Picked>,
) -> Result<(), StepError> {
    for (name, found) in tree.scan(dir)? {
        let is_dir = found.node.kind.is_dir();
        let (path, rel) = (dir.child(&name), rel.child(&name));
        into.push(picked(rel.clone(), path.clone(), found));
        if is_dir {
            walk(tree, &path, &rel, into)?;
        }
    }
    Ok(())
}

/// A socket has no place in an image; BuildKit copies it as an empty file.
fn storable(mut node: Node) -> Node {
    if matches!(node.kind, Kind::Socket) {
        node.kind = Kind::File { size: 0 };
    }
    node
}

/// Returns the paths that match `pattern`, sorted.
fn expand(tree: &dyn Tree, pattern: &PathGlob) -> Result<Vec<TreePath>, StepError> {
    let mut found = vec![TreePath::ROOT];
    for (index, component) in pattern.components.iter().enumerate() {
        let last = index + 1 == pattern.components.len();
        let mut next = Vec::new();
        for dir in found {
            expand_component(tree, &dir, component, last, &mut next)?;
        }
        next.sort();
        next.dedup();
        found = next;
    }
    Ok(found)
}

fn expand_component(
    tree: &dyn Tree,
    dir: &TreePath,
    component: &Component,
    last: bool,
    into: &mut Vec<TreePath>,
) -> Result<(), StepError> {
    let real = tree.resolve(dir, Follow::Last)?;
    if !real.exists.is_some_and(|node| node.kind.is_dir()) {
        return Ok(());
    }
    let glob = match component {
        Component::Name(name) => {
            let path = real.path.child(name.as_bytes());
            if tree.node(&path)?.is_some() {
                into.push(path);
            }
            return Ok(());
        }
        Component::Glob(glob) => glob,
        // Only `--parents` reads patterns that have it.
        Component::AnyDepth => return Ok(()),
    };
    for (name, node) in tree.list(&real.path)? {
        let leads_on = last || node.kind.is_dir() || node.kind.symlink_target().is_some();
        if leads_on && glob.matches(&name) {
            into.push(real.path.child(&name));
        }
    }
    Ok(())
}

/// Adds what counts of the picked entries to a hash: names, types, modes, owners, link targets and
/// contents, never times. `content` gives the digest of a file's bytes.
pub(super) fn fingerprint(
    picks: &[Pick],
    content: &mut dyn FnMut(&Picked) -> Result<crate::image::Digest, StepError>,
) -> Result<crate::image::Digest, StepError> {
    let mut hasher = Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for pick in picks {
        match &pick.shape {
            Shape::Dir => add(b"dir"),
            Shape::File { name } => {
                add(b"file");
                add(name);
            }
        }
        for entry in &pick.entries {
            add(entry.rel.as_bytes());
            let meta = &entry.node.meta;
            for number in [meta.mode, meta.uid, meta.gid] {
                add(&number.to_le_bytes());
            }
            for (name, value) in &meta.xattrs {
                add(name);
                add(value);
            }
            match &entry.node.kind {
                Kind::File { .. } => {
                    add(b"f");
                    add(content(entry)?.as_str().as_bytes());
                }
                Kind::Symlink { target } => {
                    add(b"l");
                    add(target);
                }
                Kind::Char { major, minor } => add(format!("c{major}:{minor}").as_bytes()),
                Kind::Block { major, minor } => add(format!("b{major}:{minor}").as_bytes()),
                kind => add(format!("{kind:?}").as_bytes()),
            }
        }
        add(b"end");
    }
    Ok(hasher.finish())
}
