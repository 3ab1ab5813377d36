//! What differs between two trees, such as the file systems of two images.

use std::cmp::Ordering;
use std::io::Read;

use super::changes::Node;
use super::entry::Kind;
use super::error::Error;
use super::path::TreePath;
use super::tree::{Found, Tree};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Only the second tree has it.
    Added,
    /// Both have it, and it is another.
    Changed,
    /// Only the first tree has it.
    Deleted,
}

/// Compares two trees entry by entry: kind, owner, mode, attributes, target and contents, times
/// excepted. A directory that only one of them has stands for all that is in it. Of files with
/// one inode, as those of shared layers are, nothing is read.
///
/// `tell` gets the differences in the order of their paths.
pub fn compare(
    before: &dyn Tree,
    after: &dyn Tree,
    tell: &mut dyn FnMut(Difference, &TreePath),
) -> Result<(), Error> {
    walk(before, after, &TreePath::ROOT, tell)
}

fn walk(
    before: &dyn Tree,
    after: &dyn Tree,
    dir: &TreePath,
    tell: &mut dyn FnMut(Difference, &TreePath),
) -> Result<(), Error> {
    let mut old = before.scan(dir)?.into_iter().peekable();
    let mut new = after.scan(dir)?.into_iter().peekable();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let only_old = (order != Ordering::Greater).then(|| old.next()).flatten();
        let only_new = (order != Ordering::Less).then(|| new.next()).flatten();
        match (only_old, only_new) {
            (Some((name, _)), None) => tell(Difference::Deleted, &dir.child(&name)),
            (None, Some((name, _))) => tell(Difference::Added, &dir.child(&name)),
            (Some((name, a)), Some((_, b))) => {
                let path = dir.child(&name);
                if !equal(&a, &b)? {
                    tell(Difference::Changed, &path);
                }
                if a.node.kind.is_dir() && b.node.kind.is_dir() {
                    walk(before, after, &path, tell)?;
                }
            }
            (None, None) => {}
        }
    }
}

fn equal(a: &Found, b: &Found) -> Result<bool, Error> {
    let (x, y) = (&a.node.meta, &b.node.meta);
    let looks = |node: &Node| (node.kind.clone(), node.meta.mode & 0o7777);
    if looks(&a.node) != looks(&b.node) || (x.uid, x.gid) != (y.uid, y.gid) || x.xattrs != y.xattrs
    {
        return Ok(false);
    }
    let place = |found: &Found| (found.inode.dev, found.inode.ino);
    match a.node.kind {
        Kind::File { size } if place(a) != place(b) => same_bytes(&a.node, &b.node, size),
        _ => Ok(true),
    }
}

fn same_bytes(a: &Node, b: &Node, size: u64) -> Result<bool, Error> {
    let (Some(a), Some(b)) = (&a.content, &b.content) else {
        return Ok(a.content.is_none() && b.content.is_none());
    };
    let (mut a, mut b) = (a.open(size)?, b.open(size)?);
    let (mut x, mut y) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left.min(64 << 10)).unwrap_or(64 << 10);
        let read = a
            .read_exact(&mut x[..part])
            .and_then(|()| b.read_exact(&mut y[..part]));
        read.map_err(|source| Error::Io {
            doing: "compare",
            path: TreePath::ROOT,
            source,
        })?;
        if x[..part] != y[..part] {
            return Ok(false);
        }
        left -= part as u64;
    }
    Ok(true)
}
