//! A whole file system as one layer, for `-o type=local|tar` and `--squash`.
//!
//! Hard links are kept where two names are one inode of one tree. The root directory itself is not
//! in the result: where the files go has metadata of its own. Sockets are left out.

use std::collections::HashMap;

use super::changes::{Change, Changes};
use super::entry::Kind;
use super::error::Error;
use super::path::TreePath;
use super::tree::{Found, Tree};

/// Returns everything below the root of `tree`.
pub fn flatten(tree: &dyn Tree) -> Result<Changes, Error> {
    let mut entries = Vec::new();
    let mut names = Names::default();
    let mut open = vec![(TreePath::ROOT, tree.scan(&TreePath::ROOT)?.into_iter())];
    while let Some((dir, left)) = open.last_mut() {
        let Some((name, found)) = left.next() else {
            open.pop();
            continue;
        };
        let path = dir.child(&name);
        if found.node.kind == Kind::Socket {
            continue;
        }
        if found.node.kind.is_dir() {
            open.push((path.clone(), tree.scan(&path)?.into_iter()));
        }
        let change = names.change(&path, found);
        entries.push((path, change));
    }
    // Sorted already, so the map is built in one go.
    Ok(Changes {
        entries: entries.into_iter().collect(),
    })
}

/// The files with several names that were met so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    first: HashMap<(usize, u64, u64), TreePath>,
}

impl Names {
    /// Returns the entry, or a hard link if its file was met before. Must be asked in the order of
    /// paths, so that the first name is the node.
    pub(super) fn change(&mut self, path: &TreePath, found: Found) -> Change {
        if found.node.kind.is_dir() || found.inode.links < 2 {
            return Change::Node(found.node);
        }
        match self.first.get(&found.inode.identity()) {
            Some(first) => Change::HardLink(first.clone()),
            None => {
                self.first.insert(found.inode.identity(), path.clone());
                Change::Node(found.node)
            }
        }
    }
}
