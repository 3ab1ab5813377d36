//! A file system that can be read without mounting it.
//!
//! [`Tree`] is what COPY, name lookup, WORKDIR and the encoders see: one directory
//! ([`super::Dir`]) or a stack of layers ([`super::Stack`]). Symbolic links are resolved here, in
//! user space and against the tree's own root, so a link in an image never leads out of it: the
//! kernel is only ever asked for names that are known to be real.
//!
//! A tree is read while nothing writes to it. A name that changes under a reader gives an error or
//! the old or new entry, never one outside the tree.

use super::changes::Node;
use super::content::read_all;
use super::entry::{Kind, Time};
use super::error::Error;
use super::path::TreePath;

/// How many symbolic links one path may cross, as the kernel's `MAXSYMLINKS` (path_resolution(7)).
pub(super) const MAX_LINKS: usize = 40;

/// Which inode an entry is, to recognise hard links and unchanged files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Index of the tree in its stack, bottom 0; 0 in a [`super::Dir`].
    pub tree: usize,
    /// Device number of the file system, as `makedev` packs it.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Names the inode has, seen here or not.
    pub links: u64,
    /// Time of the last change of the inode.
    pub ctime: Time,
    /// Time at which the inode was made, where the file system knows: a number that is used again
    /// is another inode.
    pub born: Option<Time>,
}

impl Inode {
    /// Returns what is equal for two names of one file and for nothing else.
    pub fn identity(&self) -> (usize, u64, u64) {
        (self.tree, self.dev, self.ino)
    }
}

/// An entry as a tree shows it, with the inode behind it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The entry.
    pub node: Node,
    /// The inode.
    pub inode: Inode,
}

/// Whether the last part of a path is followed when it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Yes, as `stat` does.
    Last,
    /// No, as `lstat` does.
    Parents,
}

/// Where a path really leads.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The path without symbolic links. Parts that do not exist stand at its end as given.
    pub path: TreePath,
    /// What is there.
    pub exists: Option<Node>,
    /// How many parts at the end of `path` do not exist.
    pub missing: usize,
}

/// A file system below one root, read entry by entry.
pub trait Tree: Send + Sync {
    /// Returns the entry at `path` without following a link in its last part, or `None` when there
    /// is none or a parent is no directory.
    ///
    /// Symbolic links in the parents are not followed either: such a path has no entry.
    /// [`Tree::resolve`] gives paths that have.
    fn find(&self, path: &TreePath) -> Result<Option<Found>, Error>;

    /// Returns the entries of the directory at `path`, sorted by name.
    ///
    /// [`Error::Missing`] or [`Error::NotDirectory`] if there is no directory at that path.
    fn scan(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, Error>;

    /// As [`Tree::find`], without the inode.
    fn node(&self, path: &TreePath) -> Result<Option<Node>, Error> {
        Ok(self.find(path)?.map(|found| found.node))
    }

    /// As [`Tree::scan`], without the inodes.
    fn list(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Node)>, Error> {
        let entries = self.scan(path)?;
        Ok(entries
            .into_iter()
            .map(|(name, found)| (name, found.node))
            .collect())
    }

    /// Follows the symbolic links of `path` within the root: an absolute link starts at the root
    /// again, `..` stops there.
    ///
    /// A part that does not exist is kept, and so is what follows it.
    /// [`Error::NotDirectory`] if a part other than the last is a file, [`Error::LinkLoop`] after
    /// 40 links.
    fn resolve(&self, path: &TreePath, last: Follow) -> Result<Resolved, Error> {
        resolve(path, last, |part| self.node(part))
    }

    /// Returns the contents of the regular file that `path` leads to, links followed; `None` if
    /// there is nothing.
    ///
    /// [`Error::NotRegular`] for anything but a regular file, [`Error::TooBig`] above `cap` bytes.
    fn read_small(&self, path: &TreePath, cap: u64) -> Result<Option<Vec<u8>>, Error> {
        let Resolved { path, exists, .. } = self.resolve(path, Follow::Last)?;
        let Some(node) = exists else { return Ok(None) };
        match node.kind {
            Kind::File { size } if size > cap => Err(Error::TooBig { path, size, cap }),
            Kind::File { size } => read_all(node.content.as_ref(), size, &path).map(Some),
            _ => Err(Error::NotRegular { path }),
        }
    }
}

/// Walks `path` part by part; `look` answers for paths without links in their parents.
pub(super) fn resolve(
    path: &TreePath,
    last: Follow,
    look: impl Fn(&TreePath) -> Result<Option<Node>, Error>,
) -> Result<Resolved, Error> {
    let mut todo: Vec<Vec<u8>> = path.parts().rev().map(<[u8]>::to_vec).collect();
    let mut real = TreePath::ROOT;
    let mut here = look(&real)?;
    let mut missing = 0;
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if here.as_ref().is_some_and(|node| !node.kind.is_dir()) {
            return Err(Error::NotDirectory { path: real });
        }
        if part == b".." {
            real = real.parent().unwrap_or_default();
            missing = usize::saturating_sub(missing, 1);
            here = look(&real)?;
            continue;
        }
        if here.is_none() {
            real = real.child(&part);
            missing += 1;
            continue;
        }
        let next = real.child(&part);
        let found = look(&next)?;
        let target = found.as_ref().and_then(|node| node.kind.symlink_target());
        if let Some(target) = target
            && (last == Follow::Last || !todo.is_empty())
        {
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::LinkLoop { path: path.clone() });
            }
            if target.starts_with(b"/") {
                real = TreePath::ROOT;
                here = look(&real)?;
            }
            push_target(&mut todo, target);
            continue;
        }
        missing = usize::from(found.is_none());
        real = next;
        here = found;
    }
    Ok(Resolved {
        path: real,
        exists: here,
        missing,
    })
}

/// Puts the parts of a link's target in front of what is still to be walked.
fn push_target(todo: &mut Vec<Vec<u8>>, target: &[u8]) {
    let parts = target.split(|&b| b == b'/').rev();
    todo.extend(
        parts
            .filter(|part| !part.is_empty() && *part != b".")
            .map(<[u8]>::to_vec),
    );
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::dir::Dir;
    use super::super::testing::{Scratch, changes, open_dir, path};
    use super::super::tree_write::{TreeForm, write_tree};
    use super::*;

    fn tree(text: &str) -> (Scratch, Dir) {
        let scratch = Scratch::new();
        let root = open_dir(scratch.path());
        write_tree(&changes(text), root.as_fd(), TreeForm::Plain, None).unwrap();
        (scratch, Dir::new(root))
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let (_scratch, tree) = tree(
            "dir etc\nfile etc/passwd x\nlink abs /etc\nlink rel ./etc/../etc//passwd
             link up ../../../../etc/passwd\nlink etc/self ../abs/passwd\nlink chain rel
             link dangling /none/such\nlink root /\ndir a\nlink a/back ..\nlink odd none/../etc",
        );
        for (asked, real, missing) in [
            ("etc/passwd", "/etc/passwd", 0),
            ("abs/passwd", "/etc/passwd", 0),
            ("rel", "/etc/passwd", 0),
            ("up", "/etc/passwd", 0),
            ("abs/self", "/etc/passwd", 0),
            ("chain", "/etc/passwd", 0),
            ("root/abs/passwd", "/etc/passwd", 0),
            ("root", "/", 0),
            ("a/back/abs", "/etc", 0),
            ("odd/passwd", "/etc/passwd", 0),
            ("", "/", 0),
            ("dangling", "/none/such", 2),
            ("dangling/x", "/none/such/x", 3),
            ("abs/new/deep", "/etc/new/deep", 2),
            ("none", "/none", 1),
        ] {
            let got = tree.resolve(&path(asked), Follow::Last).unwrap();
            let shown = (got.path.to_string(), got.missing, got.exists.is_some());
            assert_eq!(shown, (real.to_owned(), missing, missing == 0), "{asked}");
        }
    }

    #[test]
    fn the_last_link_is_followed_only_on_request() {
        let (_scratch, tree) = tree("dir d\nfile d/f x\nlink l d\nlink d/m f");
        let got = tree.resolve(&path("l/m"), Follow::Parents).unwrap();
        assert_eq!(got.path, path("d/m"));
        assert!(got.exists.unwrap().kind.symlink_target().is_some());
        assert!(
            tree.find(&path("l/f")).unwrap().is_none(),
            "find follows nothing"
        );
    }

    #[test]
    fn loops_and_files_in_the_way_are_errors() {
        let mut text = String::from("link a b\nlink b a\nfile f x\nlink g f/../f\n");
        for n in 0..41 {
            text += &format!("link n{n} n{}\n", n + 1);
        }
        let (_scratch, tree) = tree(&text);
        let resolve = |raw: &str| tree.resolve(&path(raw), Follow::Last);
        assert!(matches!(resolve("a/x"), Err(Error::LinkLoop { path: at }) if at == path("a/x")));
        assert!(matches!(resolve("n0"), Err(Error::LinkLoop { .. })));
        assert_eq!(resolve("n1").unwrap().path, path("n41"));
        for raw in ["f/x", "g"] {
            assert!(
                matches!(resolve(raw), Err(Error::NotDirectory { path: at }) if at == path("f"))
            );
        }
    }

    /// T-DOS-4 for whoever looks up names: a bounded read of a regular file inside the root.
    #[test]
    fn small_files_are_read_and_nothing_else_is() {
        let (scratch, tree) = tree(
            "dir etc\nfile etc/passwd root:x:0:0\nlink passwd /etc/passwd\nfifo fifo
             link to-fifo fifo\nfile empty\nlink host /proc/self/mountinfo",
        );
        let read = |raw: &str, cap| tree.read_small(&path(raw), cap);
        assert_eq!(read("passwd", 10).unwrap().unwrap(), b"root:x:0:0");
        assert_eq!(read("empty", 0).unwrap().unwrap(), b"");
        assert_eq!(read("host", 10).unwrap(), None);
        for raw in ["fifo", "to-fifo", "etc"] {
            assert!(
                matches!(read(raw, 10), Err(Error::NotRegular { .. })),
                "{raw}"
            );
        }
        let sparse = std::fs::File::create(scratch.path().join("sparse")).unwrap();
        sparse.set_len(10 << 30).unwrap();
        for (raw, size) in [("passwd", 10), ("sparse", 10 << 30)] {
            let error = read(raw, 9).unwrap_err();
            assert!(matches!(error, Error::TooBig { size: got, cap: 9, .. } if got == size));
        }
    }
}
