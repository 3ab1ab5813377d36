//! The files of an archive by name, whether it is a directory or a tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use crate::layer::{self, Change, Content, Kind, TreePath};

use super::super::Store;
use super::super::disk;
use super::super::error::{ArchiveFlaw, Error};
use super::super::import::peek;

/// A regular file of an archive.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Where its bytes are; `None` when there are none.
    content: Option<Content>,
    /// Its bytes.
    pub(super) size: u64,
}

impl Member {
    /// Opens it for one pass. A file that cannot be read says so at the first read.
    pub(super) fn open(&self) -> Box<dyn Read + Send> {
        match self.content.as_ref().map(|content| content.open(self.size)) {
            None => Box::new(io::empty()),
            Some(Ok(reader)) => Box::new(reader),
            Some(Err(error)) => Box::new(Unreadable(Some(error))),
        }
    }
}

struct Unreadable(Option<layer::Error>);

impl Read for Unreadable {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), |e| Err(io::Error::other(e)))
    }
}

/// Files by the names an archive uses.
pub(super) trait Source {
    /// Returns the regular file `name`, links of the archive followed inside it.
    fn find(&self, name: &str) -> Result<Option<Member>, Error>;

    /// Returns where the archive is, for errors.
    fn path(&self) -> &Path;
}

impl dyn Source + '_ {
    /// Returns the error for a flaw of this archive.
    pub(super) fn flaw(&self, flaw: ArchiveFlaw) -> Error {
        Error::Archive {
            path: self.path().to_owned(),
            flaw,
        }
    }

    /// Returns the file `name`, or the error that it is missing.
    pub(super) fn need(&self, name: &str) -> Result<Member, Error> {
        self.find(name)?
            .ok_or_else(|| self.flaw(ArchiveFlaw::Missing(name.to_owned())))
    }

    /// Reads a small file of at most `limit` bytes.
    pub(super) fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let member = self.need(name)?;
        if member.size > limit {
            return Err(self.flaw(ArchiveFlaw::TooLarge {
                file: name.to_owned(),
                size: member.size,
                limit,
            }));
        }
        let mut bytes = Vec::new();
        let read = member.open().read_to_end(&mut bytes);
        read.map_err(|e| Error::io("read", self.path(), e))?;
        Ok(bytes)
    }

    /// Reads a small JSON file.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str, limit: u64) -> Result<T, Error> {
        let bytes = self.bytes(name, limit)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            self.flaw(ArchiveFlaw::Json {
                file: name.to_owned(),
                why: e.to_string(),
            })
        })
    }
}

/// An archive that is a directory.
#[derive(Debug)]
pub(super) struct DirSource {
    path: PathBuf,
    dir: OwnedFd,
}

impl DirSource {
    /// Opens the directory.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            dir: disk::open_dir(path)?,
        })
    }
}

impl Source for DirSource {
    fn find(&self, name: &str) -> Result<Option<Member>, Error> {
        let path = self.path.as_path();
        let Some(clean) = TreePath::clean(name.as_bytes()) else {
            return Ok(None);
        };
        // A pipe or device must not make us wait, so it is opened without blocking and refused.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.dir, clean.as_os(), flags, Mode::empty(), inside);
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(Error::os("read", path, e)),
        };
        let meta = file
            .metadata()
            .map_err(|e| Error::io("look into", path, e))?;
        Ok(meta.is_file().then(|| Member {
            size: meta.len(),
            content: Some(Content::Slice {
                file: Arc::new(file),
                offset: 0,
            }),
        }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// What stands under a name in a tar.
#[derive(Debug)]
enum Entry {
    File(Member),
    Symlink(Vec<u8>),
    HardLink(TreePath),
}

/// An archive that is a tar.
#[derive(Debug)]
pub(super) struct TarSource {
    path: PathBuf,
    entries: HashMap<Vec<u8>, Entry>,
}

/// Links of an archive that lead on to further links, at most.
const MAX_LINKS: u32 = 16;

impl TarSource {
    /// Reads the index of a tar in a file. One that is compressed, or no regular file, is spooled.
    pub(super) fn of_file(store: &Store, mut file: File, path: &Path) -> Result<Self, Error> {
        let failed = |e| Error::io("read", path, e);
        let is_file = file.metadata().map_err(failed)?.is_file();
        if !is_file {
            return Self::of_stream(store, file, path);
        }
        let mut prefix = Vec::new();
        let want = u64::try_from(layer::PREFIX).unwrap_or(u64::MAX);
        Read::by_ref(&mut file)
            .take(want)
            .read_to_end(&mut prefix)
            .map_err(failed)?;
        file.rewind().map_err(failed)?;
        if layer::sniff(&prefix) != layer::Format::Plain {
            return Self::of_stream(store, file, path);
        }
        Self::index(file, &prefix, path)
    }

    /// Spools a stream, unpacked when it is compressed, and reads its index.
    pub(super) fn of_stream(
        store: &Store,
        from: impl Read + Send + 'static,
        path: &Path,
    ) -> Result<Self, Error> {
        let failed = |e| Error::io("read", path, e);
        let (prefix, from) = peek(from).map_err(failed)?;
        let mut plain = layer::decompress(layer::sniff(&prefix), from);
        let scratch = store.scratch()?;
        let spool = || Error::io("spool", path, io::ErrorKind::StorageFull.into());
        let mut file = scratch.file().map_err(|e| Error::io("spool", path, e))?;
        io::copy(&mut plain, &mut file).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => spool(),
            _ => Error::io("read", path, e),
        })?;
        file.rewind().map_err(failed)?;
        let mut prefix = vec![0; layer::PREFIX];
        let n = file.read_at(&mut prefix, 0).map_err(failed)?;
        Self::index(file, &prefix[..n], path)
    }

    fn index(file: File, prefix: &[u8], path: &Path) -> Result<Self, Error> {
        let flaw = |flaw| Error::Archive {
            path: path.to_owned(),
            flaw,
        };
        if !layer::is_tar(prefix) {
            return Err(flaw(ArchiveFlaw::NotTar));
        }
        let changes = layer::index_tar(Arc::new(file)).map_err(|source| Error::ArchiveTar {
            path: path.to_owned(),
            source,
        })?;
        let mut entries = HashMap::new();
        for (name, change) in changes.entries {
            let entry = match change {
                Change::Node(node) => match (node.kind, node.content) {
                    (Kind::File { size }, content) => Entry::File(Member { content, size }),
                    (Kind::Symlink { target }, _) => Entry::Symlink(target),
                    _ => continue,
                },
                Change::HardLink(target) => Entry::HardLink(target),
                Change::Whiteout | Change::Opaque(_) => continue,
            };
            entries.insert(name.as_bytes().to_vec(), entry);
        }
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }
}

impl Source for TarSource {
    fn find(&self, name: &str) -> Result<Option<Member>, Error> {
        let Some(mut at) = TreePath::clean(name.as_bytes()) else {
            return Ok(None);
        };
        for _ in 0..MAX_LINKS {
            at = match self.entries.get(at.as_bytes()) {
                Some(Entry::File(member)) => return Ok(Some(member.clone())),
                Some(Entry::HardLink(target)) => target.clone(),
                // Older docker archives link equal layers to each other.
                Some(Entry::Symlink(target)) => {
                    let mut joined = match target.starts_with(b"/") {
                        true => Vec::new(),
                        false => at.parent().unwrap_or_default().as_bytes().to_vec(),
                    };
                    joined.push(b'/');
                    joined.extend_from_slice(target);
                    match TreePath::clean(&joined) {
                        Some(path) => path,
                        None => return Ok(None),
                    }
                }
                None => return Ok(None),
            };
        }
        Ok(None)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
