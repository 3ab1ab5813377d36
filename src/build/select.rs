//! Finds what a COPY or ADD names in a tree: patterns in, picked entries out.
//!
//! A tree is a build context or the file system of a stage or image; both look the same here.
//! Literal sources must exist; patterns may match nothing. A link named as a source, or on the way
//! to it, is followed inside the tree; links found inside a copied directory stay links.
//!
//! `--exclude` is asked about paths below the source, and with `--parents` below the pivot. A file
//! that is itself the source is copied even if a pattern names it (as BuildKit does), but not with
//! `--parents`, where the pattern and the source begin at the same place.

mod ahead;
mod expand;

use crate::dockerfile::glob::{Component, PathGlob, has_wildcard};
use crate::dockerfile::ignore::Ignore;
use crate::layer::{Content, Follow, Found, Inode, Kind, Node, Tree, TreePath};

use super::error::StepError;
use ahead::Ahead;
use expand::{Match, expand};

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
            born: None,
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

/// How sources are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice<'a> {
    /// `--parents`: the path below the pivot is kept.
    pub(super) parents: bool,
    /// `--exclude`: what is left out of directories.
    pub(super) exclude: &'a Ignore,
}

/// Finds everything that `source` names in `tree`. A literal that is missing is an error; the
/// caller turns it into one that knows the instruction.
pub(super) fn select(
    tree: &dyn Tree,
    source: &str,
    choice: Choice<'_>,
) -> Result<Vec<Pick>, StepError> {
    if source.contains('\0') {
        let path = source.to_owned();
        return Err(StepError::NulInPath { path });
    }
    if choice.parents {
        return select_parents(tree, source, choice);
    }
    let begin = Match::begin(TreePath::ROOT);
    let mut picks = Vec::new();
    for found in expand(tree, &components(source, false)?, begin)? {
        // A dangling link that matches names nothing.
        picks.extend(pick_without(tree, &found.path, choice.exclude)?);
    }
    present(picks, source)
}

/// As [`select`] where the path below the pivot `/./`, or below the root, is kept.
fn select_parents(
    tree: &dyn Tree,
    source: &str,
    choice: Choice<'_>,
) -> Result<Vec<Pick>, StepError> {
    let (base, kept) = source.split_once("/./").unwrap_or(("", source));
    let kept = components(kept, true)?;
    let begin = Match::begin(TreePath::ROOT);
    let mut picks = Vec::new();
    for base in expand(tree, &components(base, true)?, begin)? {
        for found in expand(tree, &kept, Match::begin(base.path.clone()))? {
            picks.push(pick_below(tree, &base.path, &found, choice)?);
        }
    }
    present(picks, source)
}

fn components(pattern: &str, any_depth: bool) -> Result<Vec<Component>, StepError> {
    let parsed = PathGlob::parse(pattern, any_depth).map_err(|_| StepError::BadPattern {
        pattern: pattern.to_owned(),
    })?;
    Ok(parsed.components)
}

/// Patterns may match nothing; a path may not.
fn present(picks: Vec<Pick>, source: &str) -> Result<Vec<Pick>, StepError> {
    if picks.is_empty() && !has_wildcard(source) {
        return Err(StepError::NoSource {
            source_path: source.to_owned(),
            ignored_by: None,
        });
    }
    Ok(picks)
}

/// Picks all that is at `path`, a link followed; `None` when there is nothing.
pub(super) fn pick(tree: &dyn Tree, path: &TreePath) -> Result<Option<Pick>, StepError> {
    pick_without(tree, path, &Ignore::default())
}

/// As [`pick`], but for what is excluded.
fn pick_without(
    tree: &dyn Tree,
    path: &TreePath,
    exclude: &Ignore,
) -> Result<Option<Pick>, StepError> {
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
    walk_from(tree, &resolved.path, &TreePath::ROOT, exclude, &mut entries)?;
    Ok(Some(Pick {
        shape: Shape::Dir,
        entries,
    }))
}

/// Picks a match with the directories that lead to it from `base`. A link stays a link.
fn pick_below(
    tree: &dyn Tree,
    base: &TreePath,
    found: &Match,
    choice: Choice<'_>,
) -> Result<Pick, StepError> {
    let mut entries = Vec::new();
    let mut rel = TreePath::ROOT;
    for part in found.rel.parent().unwrap_or_default().parts() {
        rel = rel.child(part);
        let real = tree.resolve(&base.join(&rel), Follow::Last)?.path;
        entries.extend(tree.find(&real)?.map(|dir| picked(rel.clone(), real, dir)));
    }
    if let Some(last) = tree.find(&found.path)? {
        let is_dir = last.node.kind.is_dir();
        let hidden = choice.exclude.matches(found.rel.as_bytes()).ignored;
        if is_dir || !hidden {
            entries.push(picked(found.rel.clone(), found.path.clone(), last));
        }
        if is_dir {
            let before = entries.len();
            walk_from(tree, &found.path, &found.rel, choice.exclude, &mut entries)?;
            if hidden && entries.len() == before {
                entries.clear();
            }
        }
    }
    Ok(Pick {
        shape: Shape::Dir,
        entries,
    })
}

fn picked(rel: TreePath, path: TreePath, found: Found) -> Picked {
    Picked {
        rel,
        path,
        node: storable(found.node),
        inode: found.inode,
    }
}

/// Adds what is below a directory. One that is left out still comes when something in it does.
fn walk_from(
    tree: &dyn Tree,
    dir: &TreePath,
    rel: &TreePath,
    exclude: &Ignore,
    into: &mut Vec<Picked>,
) -> Result<(), StepError> {
    let mut walk = Walk {
        tree,
        exclude,
        ahead: Ahead::new(tree, dir, rel, exclude),
        into,
    };
    walk.below(dir, rel)
}

struct Walk<'a> {
    tree: &'a dyn Tree,
    exclude: &'a Ignore,
    ahead: Ahead<'a>,
    into: &'a mut Vec<Picked>,
}

impl Walk<'_> {
    fn below(&mut self, dir: &TreePath, rel: &TreePath) -> Result<(), StepError> {
        let entries = match self.ahead.take(dir) {
            Some(entries) => entries,
            None => self.tree.scan(dir)?,
        };
        for (name, found) in entries {
            let is_dir = found.node.kind.is_dir();
            let path = path_of(dir, &name, &found.node);
            let rel = match rel == dir {
                true => path.clone(),
                false => rel.child(&name),
            };
            let hidden = self.exclude.matches(rel.as_bytes()).ignored;
            if hidden && (!is_dir || self.exclude.can_prune(rel.as_bytes())) {
                continue;
            }
            if !is_dir {
                self.into.push(picked(rel, path, found));
                continue;
            }
            self.into.push(picked(rel.clone(), path.clone(), found));
            let before = self.into.len();
            self.below(&path, &rel)?;
            if hidden && self.into.len() == before {
                self.into.pop();
            }
        }
        Ok(())
    }
}

/// The path of an entry. The one that its bytes are read by is the same, and shared: there may be
/// half a million.
fn path_of(dir: &TreePath, name: &[u8], node: &Node) -> TreePath {
    match &node.content {
        Some(Content::Below { path, .. }) => path.clone(),
        _ => dir.child(name),
    }
}

/// A socket has no place in an image; BuildKit copies it as an empty file.
fn storable(mut node: Node) -> Node {
    if matches!(node.kind, Kind::Socket) {
        node.kind = Kind::File { size: 0 };
    }
    node
}
