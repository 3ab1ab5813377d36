//! Layers stacked into the file system they make, computed in user space.
//!
//! The view is the one overlayfs gives of the same lower directories (kernel
//! `Documentation/filesystems/overlayfs.rst`), without a mount and so without any privilege:
//!
//! - a character device 0/0 hides the name in every tree below it;
//! - a directory marked opaque (`y`) hides all entries of the directories below it;
//! - a directory marked `x` may hold empty files with a `whiteout` attribute, which hide likewise;
//! - directories of one name merge, with the metadata of the topmost; anything else hides what is
//!   below it, and is hidden whole by what is above it;
//! - `redirect` and `metacopy` are never written by us: meeting one is an error.
//!
//! One difference is on purpose: the root of a tree may be opaque (a layer can say so), which a
//! mount ignores. [`Stack::trees`] leaves such trees out, so mounting what it gives is right.
//!
//! Directories that were looked at last stay open, so neighbours cost one `statx` each and not a
//! walk from the root. The trees must not change while a stack of them is used.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, Mode};
use rustix::io::Errno;

use super::changes::Node;
use super::content::{self, DIRECTORY};
use super::entry::{Kind, Meta, Time};
use super::error::Error;
use super::node::{Marks, OverlayMeaning, Place, Xattrs, node_at};
use super::path::TreePath;
use super::tree::{Found, Inode, Tree};

/// Most descriptors that one stack keeps open beside its trees' own.
const MAX_OPEN: usize = 192;

/// Trees of layers, seen as one file system.
#[derive(Clone)]
pub struct Stack {
    inner: Arc<Inner>,
}

struct Inner {
    trees: Vec<Arc<OwnedFd>>,
    marks: Marks,
    recent: Mutex<VecDeque<(TreePath, Arc<Merged>)>>,
}

/// The directories that one directory of the view is made of, topmost first.
struct Merged {
    parts: Vec<Part>,
}

struct Part {
    tree: usize,
    dir: Arc<OwnedFd>,
    meaning: OverlayMeaning,
}

/// What a stack has at a path, if that is to be a directory.
enum Directory {
    Is(Arc<Merged>),
    Other,
}

impl Stack {
    /// Stacks `trees`, open directories, bottom first. Without any, it is an empty root directory
    /// of mode 0755 that belongs to 0:0.
    pub fn new(trees: Vec<Arc<OwnedFd>>, marks: Marks) -> Self {
        let inner = Inner {
            trees,
            marks,
            recent: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the trees that show, bottom first: those from the topmost with an opaque root up.
    pub fn trees(&self) -> Result<&[Arc<OwnedFd>], Error> {
        let trees = &self.inner.trees;
        match self.inner.directory(&TreePath::ROOT)? {
            Directory::Is(root) => Ok(&trees[trees.len() - root.parts.len()..]),
            Directory::Other => Ok(&[]),
        }
    }

    /// Returns which attributes mark the trees.
    pub fn marks(&self) -> Marks {
        self.inner.marks
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("trees", &self.inner.trees)
            .field("marks", &self.inner.marks)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn place<'a>(&'a self, part: &'a Part, path: &'a TreePath) -> Place<'a> {
        Place {
            root: &self.trees[part.tree],
            tree: part.tree,
            dir: part.dir.as_fd(),
            path,
            xattrs: Xattrs::Overlay(self.marks),
            ids: self.marks.ownership(),
        }
    }

    /// Opens the directories behind `path`, from the nearest parent that is open.
    fn directory(&self, path: &TreePath) -> Result<Directory, Error> {
        let mut below = Vec::new();
        let mut known = path.clone();
        let mut merged = loop {
            if let Some(merged) = self.recall(&known) {
                break merged;
            }
            match known.parent() {
                Some(parent) => {
                    below.push(known);
                    known = parent;
                }
                None => break self.open_root()?,
            }
        };
        while let Some(next) = below.pop() {
            merged = Arc::new(self.open_child(&merged, &next)?);
            if merged.parts.is_empty() {
                return Ok(Directory::Other);
            }
            self.keep(next, Arc::clone(&merged));
        }
        Ok(Directory::Is(merged))
    }

    fn open_root(&self) -> Result<Arc<Merged>, Error> {
        let mut parts = Vec::new();
        for (tree, root) in self.trees.iter().enumerate().rev() {
            let part = self.with_meaning(tree, Arc::clone(root), &TreePath::ROOT)?;
            let opaque = part.meaning.opaque;
            parts.push(part);
            if opaque {
                break;
            }
        }
        let merged = Arc::new(Merged { parts });
        self.keep(TreePath::ROOT, Arc::clone(&merged));
        Ok(merged)
    }

    /// Opens the directory at `path` in each part of its parent down to where the name is hidden.
    fn open_child(&self, parent: &Merged, path: &TreePath) -> Result<Merged, Error> {
        let mut parts = Vec::new();
        for part in &parent.parts {
            let dir = match fs::openat(&part.dir, path.name(), DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => continue,
                // A whiteout or a file: either way nothing below it shows as a directory.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => return Err(Error::io("open", path, errno)),
            };
            let part = self.with_meaning(part.tree, Arc::new(dir), path)?;
            let opaque = part.meaning.opaque;
            parts.push(part);
            if opaque {
                break;
            }
        }
        Ok(Merged { parts })
    }

    fn with_meaning(&self, tree: usize, dir: Arc<OwnedFd>, path: &TreePath) -> Result<Part, Error> {
        let mut part = Part {
            tree,
            dir,
            meaning: OverlayMeaning::default(),
        };
        if let Some(raw) = node_at(&self.place(&part, path), b"")? {
            part.meaning = raw.overlay;
        }
        Ok(part)
    }

    fn recall(&self, path: &TreePath) -> Option<Arc<Merged>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|(known, _)| known == path)?;
        let entry = recent.remove(at)?;
        let merged = Arc::clone(&entry.1);
        recent.push_front(entry);
        Some(merged)
    }

    /// Keeps a directory open, and closes those that were used longest ago.
    fn keep(&self, path: TreePath, merged: Arc<Merged>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.iter().any(|(known, _)| *known == path) {
            return; // Another thread was faster.
        }
        recent.push_front((path, merged));
        let mut open = 0;
        let fits = recent.iter().take_while(|(path, merged)| {
            // The root's descriptors are the trees' own.
            open += if path.is_root() {
                0
            } else {
                merged.parts.len()
            };
            open <= MAX_OPEN
        });
        // The newest stays even if it alone is above the limit.
        let fits = fits.count().max(1);
        recent.truncate(fits);
    }
}

/// Opens a directory again: a descriptor of its own to list it with.
fn reopen(dir: &OwnedFd, path: &TreePath) -> Result<OwnedFd, Error> {
    fs::openat(dir, c".", DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", path, errno))
}

/// Returns the root of a stack without trees.
fn empty_root() -> Found {
    let meta = Meta {
        mode: 0o755,
        ..Meta::default()
    };
    Found {
        node: Node {
            meta,
            kind: Kind::Dir,
            content: None,
        },
        inode: Inode {
            tree: 0,
            dev: 0,
            ino: 0,
            links: 1,
            ctime: Time::default(),
            born: None,
        },
    }
}

impl Tree for Stack {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, Error> {
        let inner = &*self.inner;
        let (dir, name) = match path.parent() {
            Some(parent) => (parent, path.name()),
            None => (TreePath::ROOT, &b""[..]),
        };
        let Directory::Is(merged) = inner.directory(&dir)? else {
            return Ok(None);
        };
        if name.is_empty() && merged.parts.is_empty() {
            return Ok(Some(empty_root()));
        }
        for part in &merged.parts {
            if let Some(raw) = node_at(&inner.place(part, &dir), name)? {
                return Ok((!raw.is_whiteout(part.meaning)).then_some(raw.found));
            }
        }
        Ok(None)
    }

    fn scan(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Found)>, Error> {
        let inner = &*self.inner;
        let Directory::Is(merged) = inner.directory(path)? else {
            return Err(match self.find(path)? {
                Some(_) => Error::NotDirectory { path: path.clone() },
                None => Error::Missing { path: path.clone() },
            });
        };
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        for part in &merged.parts {
            let place = inner.place(part, path);
            for name in content::names(reopen(&part.dir, path)?.as_fd(), path)? {
                if merged.parts.len() > 1 && !seen.insert(name.clone()) {
                    continue;
                }
                if let Some(raw) = node_at(&place, &name)?
                    && !raw.is_whiteout(part.meaning)
                {
                    entries.push((name, raw.found));
                }
            }
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, changes, is_root, open_dir, path, trees};
    use super::*;

    const fn marks(root: bool) -> Marks {
        if root { Marks::Trusted } else { Marks::User }
    }

    fn stack(scratch: &Scratch, layers: &[&str]) -> Stack {
        let layers: Vec<_> = layers.iter().map(|layer| changes(layer)).collect();
        let trees = trees(scratch, marks(is_root()), &layers);
        let open = trees.iter().map(|tree| open_dir(tree)).collect();
        Stack::new(open, marks(is_root()))
    }

    fn names(stack: &Stack, at: &str) -> Vec<String> {
        let entries = stack.list(&path(at)).unwrap().into_iter();
        entries
            .map(|(name, _)| String::from_utf8(name).unwrap())
            .collect()
    }

    #[test]
    fn an_opaque_root_hides_the_trees_below_it() {
        let scratch = Scratch::new();
        let stack = stack(&scratch, &["file a 1", "opaque /\nfile b 2", "file c 3"]);
        assert_eq!(names(&stack, ""), ["b", "c"]);
        assert!(stack.node(&path("a")).unwrap().is_none());
        assert_eq!(stack.trees().unwrap().len(), 2);
        assert_eq!(
            stack.node(&TreePath::ROOT).unwrap().unwrap().kind,
            Kind::Dir
        );
    }

    #[test]
    fn a_stack_of_nothing_is_an_empty_root() {
        let stack = Stack::new(Vec::new(), Marks::User);
        let root = stack.node(&TreePath::ROOT).unwrap().unwrap();
        assert_eq!((root.meta.mode, root.kind), (0o755, Kind::Dir));
        assert!(names(&stack, "").is_empty());
        assert!(stack.node(&path("etc/passwd")).unwrap().is_none());
        assert_eq!(stack.read_small(&path("etc/passwd"), 1).unwrap(), None);
        assert!(stack.trees().unwrap().is_empty());
    }

    #[test]
    fn only_directories_can_be_listed() {
        let scratch = Scratch::new();
        let stack = stack(&scratch, &["file f 1\ndir d\nlink l d", "gone d"]);
        let list = |raw: &str| stack.list(&path(raw)).unwrap_err();
        for raw in ["f", "l"] {
            assert!(matches!(list(raw), Error::NotDirectory { path: at } if at == path(raw)));
        }
        for raw in ["d", "none", "f/x", "l/x"] {
            assert!(
                matches!(list(raw), Error::Missing { path: at } if at == path(raw)),
                "{raw}"
            );
        }
    }

    #[test]
    fn directories_stay_open_up_to_a_limit() {
        let scratch = Scratch::new();
        let layer: String = (0..300).map(|n| format!("file d{n}/f {n}\n")).collect();
        let stack = stack(&scratch, &[&layer, &layer]);
        for n in (0..300).chain(0..300) {
            assert_eq!(names(&stack, &format!("d{n}")), ["f"]);
        }
        let recent = stack.inner.recent.lock().unwrap();
        let kept = recent.iter().filter(|(path, _)| !path.is_root());
        let open: usize = kept.map(|(_, merged)| merged.parts.len()).sum();
        assert!((MAX_OPEN - 2..=MAX_OPEN).contains(&open), "{open}");
    }

    #[test]
    fn threads_share_a_stack() {
        let scratch = Scratch::new();
        let layer: String = (0..200)
            .map(|n| format!("file d{}/f{n} {n}\n", n % 20))
            .collect();
        let stack = stack(&scratch, &[&layer, "file d0/top 1\ngone d0/f0"]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        for n in 0..20 {
                            assert_eq!(names(&stack, &format!("d{n}")).len(), 10);
                        }
                    }
                });
            }
        });
    }
}
