//! A plain tar in a file as [`Changes`] whose contents stay in the file.
//!
//! This is how ADD takes an archive: nothing is written and no privilege is needed. Names never
//! leave the archive's root: `..` and a leading slash are cleaned away, and where a parent is a
//! symbolic link that the archive itself made, it is followed inside that root, as a chroot would.
//! Later entries replace earlier ones; directories merge. A `.wh.` name is an ordinary name here:
//! an archive that is added is no layer.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::changes::{Change, Changes, Content, Node};
use super::entry::{Kind, Meta};
use super::error::Error;
use super::path::TreePath;
use super::tar_header::TarFlaw;
use super::tar_read::{TarBody, TarEntry, TarReader, flawed};
use super::tree::{Follow, resolve};

/// Reads the archive in `file`, from its first byte, into changes that point into it.
///
/// [`Error::Tar`] for a malformed archive, [`Error::NotDirectory`] for an entry below a file,
/// [`Error::BadHardLink`] for a link to something that the archive does not hold before it.
pub fn index_tar(file: Arc<File>) -> Result<Changes, Error> {
    let len = file
        .metadata()
        .map_err(|source| Error::Stream { source })?
        .len();
    let mut reader = TarReader::new(Positioned { file: &file, at: 0 });
    let mut index = Index::default();
    while let Some(entry) = reader.next_entry()? {
        let end = reader.skip_with(|file, count| file.at += count);
        if end > len {
            return Err(flawed(entry.offset, TarFlaw::Truncated));
        }
        if !entry.is_nothing() {
            index.add(entry, &file)?;
        }
    }
    Ok(index.finish())
}

/// A file read by position, so that payloads need not be read to be passed over and the
/// descriptor can be shared.
pub(super) struct Positioned<'a> {
    pub(super) file: &'a File,
    pub(super) at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buf, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// The file system that the entries make.
#[derive(Default)]
struct Index {
    nodes: Vec<Node>,
    names: BTreeMap<TreePath, Name>,
    /// The parent of the last entry, as written and as it really is.
    last: Option<(TreePath, TreePath)>,
}

/// A name of a node. A file may have several.
#[derive(Clone, Copy)]
struct Name {
    node: usize,
    /// A directory in the place of something else, which had hidden what was below.
    opaque: bool,
}

impl Index {
    fn add(&mut self, entry: TarEntry, file: &Arc<File>) -> Result<(), Error> {
        let path = self.real(&entry.path)?;
        match entry.body {
            TarBody::HardLink { target } => self.link(path, &target),
            TarBody::Node(Kind::Dir) => {
                self.dir(path, Node::dir(entry.meta));
                Ok(())
            }
            TarBody::Node(_) if path.is_root() => Err(Error::NotDirectory { path }),
            TarBody::Node(kind) => {
                let file = Arc::clone(file);
                let content = match (&kind, entry.extents) {
                    (Kind::File { size: 1.. }, Some(extents)) => Some(Content::Sparse {
                        file,
                        extents: extents.into(),
                    }),
                    (Kind::File { size: 1.. }, None) => Some(Content::Slice {
                        file,
                        offset: entry.offset,
                    }),
                    _ => None,
                };
                self.nodes.push(Node {
                    meta: entry.meta,
                    kind,
                    content,
                });
                let name = Name {
                    node: self.nodes.len() - 1,
                    opaque: false,
                };
                self.replace(path, name);
                Ok(())
            }
        }
    }

    /// Returns where `path` really is: symbolic links among its parents followed.
    fn real(&mut self, path: &TreePath) -> Result<TreePath, Error> {
        let Some(parent) = path.parent() else {
            return Ok(TreePath::ROOT);
        };
        if let Some((written, real)) = &self.last
            && *written == parent
        {
            return Ok(real.child(path.name()));
        }
        let look = |path: &TreePath| {
            let found = self.names.get(path).map(|name| &self.nodes[name.node]);
            // A directory may be implied by what is in it, and so is the root.
            let mut below = self.names.range(path..).map(|(below, _)| below);
            let is_implied =
                path.is_root() || below.next().is_some_and(|below| below.starts_with(path));
            let implied = || is_implied.then(|| Node::dir(Meta::default()));
            Ok(found.cloned().or_else(implied))
        };
        let found = resolve(&parent, Follow::Last, look)?;
        if found.exists.is_some_and(|node| !node.kind.is_dir()) {
            return Err(Error::NotDirectory { path: found.path });
        }
        let real = found.path.child(path.name());
        self.last = Some((parent, found.path));
        Ok(real)
    }

    fn dir(&mut self, path: TreePath, dir: Node) {
        if let Entry::Occupied(name) = self.names.entry(path.clone()) {
            let node = &mut self.nodes[name.get().node];
            if node.kind.is_dir() {
                *node = dir;
                return;
            }
        }
        self.nodes.push(dir);
        let opaque = self.names.contains_key(&path);
        self.replace(
            path,
            Name {
                node: self.nodes.len() - 1,
                opaque,
            },
        );
    }

    /// Gives a name to a node; what had the name goes, with all below it if it was a directory.
    fn replace(&mut self, path: TreePath, name: Name) {
        let is_dir = self.nodes[name.node].kind.is_dir();
        if !is_dir || self.names.contains_key(&path) {
            self.last = None;
            let below = self.names.range(&path..).map(|(below, _)| below);
            let gone: Vec<TreePath> = below
                .take_while(|below| below.starts_with(&path))
                .cloned()
                .collect();
            // A directory that was only implied keeps what it holds when it is named at last.
            for path in gone {
                self.names.remove(&path);
            }
        }
        self.names.insert(path, name);
    }

    fn link(&mut self, path: TreePath, target: &TreePath) -> Result<(), Error> {
        let real = self.real(target)?;
        match self.names.get(&real).copied() {
            Some(name) if !self.nodes[name.node].kind.is_dir() => {
                if real != path {
                    self.replace(path, name);
                }
                Ok(())
            }
            _ => Err(Error::BadHardLink { path, target: real }),
        }
    }

    /// Makes the first name of every node its own and the others links to it.
    fn finish(self) -> Changes {
        let mut nodes: Vec<Result<Node, TreePath>> = self.nodes.into_iter().map(Ok).collect();
        let mut changes = Changes::default();
        for (path, name) in self.names {
            let change = match std::mem::replace(&mut nodes[name.node], Err(path.clone())) {
                Ok(node) if name.opaque => Change::Opaque(node),
                Ok(node) => Change::Node(node),
                Err(first) => {
                    nodes[name.node] = Err(first.clone());
                    Change::HardLink(first)
                }
            };
            changes.entries.insert(path, change);
        }
        changes
    }
}
