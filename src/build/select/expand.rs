//! Path patterns in a tree: which paths match.

use crate::dockerfile::glob::Component;
use crate::layer::{Follow, Kind, Tree, TreePath};

use super::super::error::StepError;

/// A path that a pattern has reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Match {
    /// The path as the pattern spells it, from where it began.
    pub(super) rel: TreePath,
    /// The path in the tree, links on the way to it followed.
    pub(super) path: TreePath,
}

impl Match {
    /// The place where a pattern begins.
    pub(super) fn begin(path: TreePath) -> Self {
        let rel = TreePath::ROOT;
        Self { rel, path }
    }

    fn child(&self, real: &TreePath, name: &[u8]) -> Self {
        Self {
            rel: self.rel.child(name),
            path: real.child(name),
        }
    }
}

/// Returns the paths that match, sorted.
pub(super) fn expand(
    tree: &dyn Tree,
    components: &[Component],
    from: Match,
) -> Result<Vec<Match>, StepError> {
    let mut found = vec![from];
    for (index, component) in components.iter().enumerate() {
        let last = index + 1 == components.len();
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
    dir: &Match,
    component: &Component,
    last: bool,
    into: &mut Vec<Match>,
) -> Result<(), StepError> {
    let real = tree.resolve(&dir.path, Follow::Last)?;
    if !real.exists.is_some_and(|node| node.kind.is_dir()) {
        return Ok(());
    }
    let real = real.path;
    let glob = match component {
        Component::Name(name) => {
            let found = dir.child(&real, name.as_bytes());
            if tree.node(&found.path)?.is_some() {
                into.push(found);
            }
            return Ok(());
        }
        Component::Glob(glob) => glob,
        Component::AnyDepth => {
            let dir = Match {
                rel: dir.rel.clone(),
                path: real,
            };
            return descend(tree, &dir, last, into);
        }
    };
    for (name, node) in tree.list(&real)? {
        let leads_on = last || node.kind.is_dir() || node.kind.symlink_target().is_some();
        if leads_on && glob.matches(&name) {
            into.push(dir.child(&real, &name));
        }
    }
    Ok(())
}

/// `**`: this directory and all below it, or everything in it where the pattern ends.
fn descend(
    tree: &dyn Tree,
    dir: &Match,
    last: bool,
    into: &mut Vec<Match>,
) -> Result<(), StepError> {
    if !last {
        into.push(dir.clone());
    }
    for (name, node) in tree.list(&dir.path)? {
        let below = dir.child(&dir.path, &name);
        if last {
            into.push(below);
        } else if matches!(node.kind, Kind::Dir) {
            descend(tree, &below, last, into)?;
        }
    }
    Ok(())
}
