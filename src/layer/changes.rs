//! A layer before it is written: every path it changes, and where the bytes are.
//!
//! COPY, ADD, WORKDIR and the diff of an upper dir all make [`Changes`]; one encoder turns them
//! into a tar, one writer into a tree. Sorted by path, so the order of a layer never depends on
//! the order of a directory or of threads.
//!
//! Of the names of one file the first in that order is the [`Change::Node`] and the others are
//! [`Change::HardLink`]s to it, so a reader meets the file before its links.
//! [`Changes::order_links`] brings changes from elsewhere into that form; the rest keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::entry::{Kind, Meta};
use super::error::Error;
use super::path::TreePath;
use super::tree::Tree;
use crate::sys::memory;

/// Where the bytes of a regular file are.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A whole regular file below a directory.
    Below {
        /// The directory.
        root: Arc<OwnedFd>,
        /// The file below it; opened without following any link.
        path: TreePath,
    },
    /// Part of an open file, such as a member of a tar archive.
    Slice {
        /// The file.
        file: Arc<File>,
        /// Offset of the first byte.
        offset: u64,
    },
    /// Runs of bytes of an open file with holes between them: a sparse member of a tar archive.
    Sparse {
        /// The file that the runs are in.
        file: Arc<File>,
        /// The runs, in order and apart from each other; the rest is zeros.
        extents: Arc<[Extent]>,
    },
}

/// A run of bytes of a sparse file that is no hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it is in the sparse file.
    pub at: u64,
    /// Where its bytes are stored: an offset in the archive.
    pub from: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// One entry that a layer adds or replaces.
#[derive(Debug, Clone)]
pub struct Node {
    /// Owner, mode, time and attributes.
    pub meta: Meta,
    /// Type.
    pub kind: Kind,
    /// The bytes of a regular file with a size above zero; `None` for all else.
    pub content: Option<Content>,
}

/// What a layer does to one path.
#[derive(Debug, Clone)]
pub enum Change {
    /// Adds or replaces the entry. A directory that exists below stays and is merged.
    Node(Node),
    /// Another name for the regular file or other non-directory at this path of the same layer.
    HardLink(TreePath),
    /// Removes what lower layers have at this path (`.wh.` in a tar).
    Whiteout,
    /// A directory that hides everything lower layers have in it.
    Opaque(Node),
}

/// A layer as a sorted list of changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The changes by path. The root may be among them.
    pub entries: BTreeMap<TreePath, Change>,
}

impl Node {
    /// Returns a directory.
    pub fn dir(meta: Meta) -> Self {
        Self {
            meta,
            kind: Kind::Dir,
            content: None,
        }
    }

    /// Returns a regular file with these bytes.
    pub fn file(meta: Meta, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        Self {
            meta,
            kind: Kind::File {
                size: bytes.len() as u64,
            },
            content: (!bytes.is_empty()).then_some(Content::Bytes(bytes)),
        }
    }
}

impl Change {
    /// Returns the entry that is added, unless this removes something or names another entry.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) | Self::Opaque(node) => Some(node),
            Self::HardLink(_) | Self::Whiteout => None,
        }
    }

    /// Returns whether a directory is there afterwards.
    pub fn is_dir(&self) -> bool {
        self.node().is_some_and(|node| node.kind.is_dir())
    }
}

impl Changes {
    /// Lets go of the changes, and where they were many of the memory that they took.
    pub fn let_go(self) {
        const MANY: usize = 100_000;
        let many = self.len() > MANY;
        drop(self);
        if many {
            memory::give_back_heap();
        }
    }

    /// Returns how many paths change.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes of all regular files, each file counted once.
    pub fn size(&self) -> u64 {
        let sizes = self.entries.values().map(|change| match change.node() {
            Some(Node {
                kind: Kind::File { size },
                ..
            }) => *size,
            _ => 0,
        });
        sizes.sum()
    }

    /// Adds the directories above every entry that are not among the changes: with the metadata
    /// they have in `below`, else as `new`. A layer that names its parents needs no other layer to
    /// be unpacked. The root stays out, as it does of BuildKit's layers.
    ///
    /// [`Error::NotDirectory`] where `below` has something else than a directory.
    pub fn insert_parents(&mut self, below: &dyn Tree, new: &Meta) -> Result<(), Error> {
        let mut wanted = BTreeSet::new();
        for path in self.entries.keys() {
            let mut parent = path.parent();
            while let Some(dir) = parent.filter(|dir| !dir.is_root()) {
                if self.entries.contains_key(&dir) || !wanted.insert(dir.clone()) {
                    break; // What is above it is dealt with.
                }
                parent = dir.parent();
            }
        }
        for path in wanted {
            let node = match below.node(&path)? {
                Some(node) if node.kind.is_dir() => node,
                Some(_) => return Err(Error::NotDirectory { path }),
                None => Node::dir(new.clone()),
            };
            self.entries.insert(path, Change::Node(node));
        }
        Ok(())
    }

    /// Adds what a later source does on top. Directories merge and take the later metadata;
    /// anything else replaces what was there, with all below it.
    pub fn merge(&mut self, later: Self) {
        let mut links = self.links();
        for (path, change) in later.entries {
            let change = match (self.entries.get(&path), change) {
                (Some(Change::Node(old)), Change::Node(new))
                    if old.kind.is_dir() && new.kind.is_dir() =>
                {
                    self.entries.insert(path, Change::Node(new));
                    continue;
                }
                (Some(Change::Opaque(_)), Change::Node(new)) if new.kind.is_dir() => {
                    self.entries.insert(path, Change::Opaque(new));
                    continue;
                }
                // What hid the lower layers is gone; they stay hidden.
                (Some(_), Change::Node(new)) if new.kind.is_dir() => Change::Opaque(new),
                (_, change) => change,
            };
            self.remove_all(&path, &mut links);
            self.entries.insert(path, change);
        }
    }

    /// Returns the hard links by what they name.
    fn links(&self) -> BTreeMap<TreePath, BTreeSet<TreePath>> {
        let mut links: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (path, change) in &self.entries {
            if let Change::HardLink(target) = change {
                links
                    .entry(target.clone())
                    .or_default()
                    .insert(path.clone());
            }
        }
        links
    }

    /// Takes out `path` and what is below it. A file with another name keeps its other names.
    fn remove_all(&mut self, path: &TreePath, links: &mut BTreeMap<TreePath, BTreeSet<TreePath>>) {
        let gone: Vec<TreePath> = self
            .entries
            .range(path.clone()..)
            .map(|(below, _)| below)
            .take_while(|below| below.starts_with(path))
            .cloned()
            .collect();
        let mut orphans = Vec::new();
        for path in gone {
            let change = self.entries.remove(&path);
            if let Some(Change::HardLink(target)) = &change
                && let Some(names) = links.get_mut(target)
            {
                names.remove(&path);
            }
            if let (Some(names), Some(change)) = (links.remove(&path), change) {
                orphans.push((names, change));
            }
        }
        for (names, change) in orphans {
            let mut names = names
                .into_iter()
                .filter(|name| self.entries.contains_key(name));
            let Some(first) = names.next() else { continue };
            let rest: BTreeSet<TreePath> = names.collect();
            for name in &rest {
                self.entries
                    .insert(name.clone(), Change::HardLink(first.clone()));
            }
            links.insert(first.clone(), rest);
            self.entries.insert(first, change);
        }
    }

    /// Makes the first name of every file its node and the others links to it, whatever named
    /// which before. [`Error::BadHardLink`] for a link to a directory, to nothing, or to itself.
    pub fn order_links(&mut self) -> Result<(), Error> {
        let mut groups: BTreeMap<TreePath, Vec<TreePath>> = BTreeMap::new();
        for (path, change) in &self.entries {
            if matches!(change, Change::HardLink(_)) {
                let target = self.target(path)?;
                groups.entry(target).or_default().push(path.clone());
            }
        }
        for (target, names) in groups {
            let mut first = target.clone();
            if names[0] < target
                && let Some(node) = self.entries.remove(&target)
            {
                first = names[0].clone();
                self.entries.insert(first.clone(), node);
                self.entries.insert(target, Change::HardLink(first.clone()));
            }
            for name in names.into_iter().filter(|name| *name != first) {
                self.entries.insert(name, Change::HardLink(first.clone()));
            }
        }
        Ok(())
    }

    /// Follows a chain of hard links to the file.
    fn target(&self, link: &TreePath) -> Result<TreePath, Error> {
        let mut at = link;
        // No chain is longer than there are entries.
        for _ in 0..self.entries.len() {
            match self.entries.get(at) {
                Some(Change::HardLink(next)) => at = next,
                Some(Change::Node(node)) if !node.kind.is_dir() => return Ok(at.clone()),
                _ => break,
            }
        }
        Err(Error::BadHardLink {
            path: link.clone(),
            target: at.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Marks;
    use super::super::stack::Stack;
    use super::super::testing::{Scratch, changes, meta, open_dir, path, show, trees};
    use super::*;

    /// Shows changes by path, what is there, and the first word of a file.
    fn short(changes: &Changes) -> Vec<String> {
        let lines = show(changes).into_iter();
        let cut = |line: String| line.split(" 6").next().unwrap_or_default().to_owned();
        lines
            .map(cut)
            .map(|line| line.split(" 7").next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn a_later_source_replaces_what_it_names_and_merges_directories() {
        let cases: &[(&str, &str, &[&str])] = &[
            (
                "file a 1\nfile b 1",
                "file a 2",
                &["/a file \"2\"", "/b file \"1\""],
            ),
            (
                "dir d\nfile d/a 1",
                "dir d\nfile d/b 2",
                &["/d Dir", "/d/a file \"1\"", "/d/b file \"2\""],
            ),
            (
                "dir d\nfile d/a 1\nfile d-x 1",
                "file d 2",
                &["/d file \"2\"", "/d-x file \"1\""],
            ),
            (
                "file d 1",
                "dir d\nfile d/a 2",
                &["/d opaque Dir", "/d/a file \"2\""],
            ),
            ("gone d", "dir d", &["/d opaque Dir"]),
            (
                "opaque d\nfile d/a 1",
                "dir d",
                &["/d opaque Dir", "/d/a file \"1\""],
            ),
            ("dir d\nfile d/a 1", "opaque d", &["/d opaque Dir"]),
            ("dir d\nfile d/a 1", "gone d", &["/d whiteout"]),
        ];
        for (first, later, want) in cases {
            let mut got = changes(first);
            got.merge(changes(later));
            assert_eq!(short(&got), *want, "{first:?} then {later:?}");
        }
    }

    #[test]
    fn a_file_that_loses_its_first_name_keeps_the_others() {
        let mut got = changes("file a 1\nhard b a\nhard c a\ndir d\nfile d/e 2\nhard f d/e");
        got.merge(changes("file a 3\nfile d 4"));
        let want = [
            "/a file \"3\"",
            "/b file \"1\"",
            "/c hard link to /b",
            "/d file \"4\"",
            "/f file \"2\"",
        ];
        assert_eq!(short(&got), want);
        got.merge(changes("file c 5\nfile b 6\nhard z b"));
        let want = ["/b file \"6\"", "/c file \"5\"", "/z hard link to /b"];
        assert_eq!(short(&got)[1..3], want[..2]);
        assert_eq!(short(&got).last().unwrap(), want[2]);
    }

    #[test]
    fn links_are_ordered_so_that_a_file_comes_before_its_names() {
        let mut got = changes("hard a m\nhard b z\nhard m z\nfile z 1\nhard zz z\nfile y 2");
        got.order_links().unwrap();
        let want = [
            "/a file \"1\"",
            "/b hard link to /a",
            "/m hard link to /a",
            "/y file \"2\"",
            "/z hard link to /a",
            "/zz hard link to /a",
        ];
        assert_eq!(short(&got), want);
        for bad in [
            "hard a b\nhard b a",
            "hard a a",
            "hard a b",
            "hard a d\ndir d",
            "hard a b\ngone b",
        ] {
            let error = changes(bad).order_links().unwrap_err();
            assert!(matches!(error, Error::BadHardLink { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn parents_come_from_below_or_are_new() {
        let scratch = Scratch::new();
        let marks = if super::super::testing::is_root() {
            Marks::Trusted
        } else {
            Marks::User
        };
        let lower = trees(
            &scratch,
            marks,
            &[changes("dir usr\nfile usr/f 1\nfile file 1")],
        );
        let below = Stack::new(vec![open_dir(&lower[0])], marks);
        let mut got = changes("file usr/lib/x 1\nfile opt/y 2\ngone usr/f");
        got.insert_parents(&below, &meta(0o755)).unwrap();
        let modes: Vec<_> = got
            .entries
            .iter()
            .filter_map(|(at, change)| Some(format!("{at} {:o}", change.node()?.meta.mode)))
            .collect();
        assert_eq!(
            modes,
            [
                "/opt 755",
                "/opt/y 640",
                "/usr 750",
                "/usr/lib 755",
                "/usr/lib/x 640"
            ]
        );
        assert_eq!((got.len(), got.size()), (6, 2));
        let error = changes("file file/x 1")
            .insert_parents(&below, &meta(0o755))
            .unwrap_err();
        assert!(matches!(error, Error::NotDirectory { path: at } if at == path("file")));
    }
}
