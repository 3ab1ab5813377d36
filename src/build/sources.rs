//! Opens what a build reads from the caller: the Dockerfile, the context and its ignore file.
//!
//! `FILE.dockerignore` beside the Dockerfile replaces `.dockerignore` at the root of the context.
//! In a context that came as an archive every name is opened below its root: a link to the
//! host's `/etc/passwd` is a link to nothing (CVE-2026-44517).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::dockerfile::{Source, ignore::Ignore};
use crate::image::Digest;
use crate::layer::{TreeForm, decompress, index_tar, sniff, write_tree};
use crate::store::{Scratch, Store};

use super::context::Context;
use super::error::Error;
use super::exec::Cancel;
use super::git::{self, GitError};
use super::request::{ContextSource, DockerfileSource, Request};
use super::stat_index::StatIndex;

/// Records of what is known of contexts.
const KIND: &str = "context";
/// Greatest size of a Dockerfile or ignore file, in bytes.
const CAP: u64 = 16 << 20;
/// Names looked for when none was given.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// What a build reads from the caller.
pub(super) struct Sources {
    /// The Dockerfile's text.
    pub(super) file: Arc<Source>,
    /// The files of COPY and ADD.
    pub(super) context: Context,
    /// Where what is known of the context is kept; none for one that is gone after the build.
    index: Option<String>,
    /// An unpacked archive, which goes when the build ends.
    _scratch: Option<Scratch>,
}

impl Sources {
    /// Keeps what this build learned of its context.
    pub(super) fn remember(&self, store: &Store) -> Result<(), Error> {
        match (&self.index, self.context.learned()) {
            (Some(name), Some(bytes)) => Ok(store.records(KIND).put(name.as_str(), &bytes)?),
            _ => Ok(()),
        }
    }
}

/// Opens everything that `request` names.
pub(super) fn open(store: &Store, request: &Request, cancel: &Cancel) -> Result<Sources, Error> {
    let (root, index, scratch) = open_context(store, request, cancel)?;
    let trusted = scratch.is_none();
    let (file, ignore) = read_dockerfile(&root, request, trusted)?;
    let ignore = match ignore {
        Some(found) => parse_ignore(found)?,
        None => {
            let name = PathBuf::from(".dockerignore");
            let bytes = read_below(&root, &name, trusted)?.unwrap_or_default();
            parse_ignore((name, bytes))?
        }
    };
    let known = match &index {
        Some(name) => store.records(KIND).get(name.as_str())?.unwrap_or_default(),
        None => Vec::new(),
    };
    let context = Context::new(root, ignore, StatIndex::read(&known));
    Ok(Sources {
        file: Arc::new(file),
        context,
        index,
        _scratch: scratch,
    })
}

type Opened = (Arc<OwnedFd>, Option<String>, Option<Scratch>);

fn open_context(store: &Store, request: &Request, cancel: &Cancel) -> Result<Opened, Error> {
    match &request.context {
        ContextSource::Dir(dir) => {
            let failed = |errno: Errno| Error::Io {
                doing: "open the build context",
                path: dir.clone(),
                source: errno.into(),
            };
            let root = open_dir(dir).map_err(failed)?;
            let stat = rustix::fs::fstat(&root).map_err(failed)?;
            let place = format!("{}:{}:{}", stat.st_dev, stat.st_ino, dir.display());
            let name = Digest::of(place.as_bytes()).hex().to_owned();
            Ok((Arc::new(root), Some(name), None))
        }
        ContextSource::Empty => {
            let scratch = store.scratch()?;
            let root = scratch.dir("context")?;
            Ok((Arc::new(root), None, Some(scratch)))
        }
        ContextSource::Archive(archive) => {
            let failed = |source| Error::Io {
                doing: "read the build context",
                path: archive.clone(),
                source,
            };
            let scratch = store.scratch()?;
            let root = scratch.dir("context")?;
            let mut packed = File::open(archive).map_err(failed)?;
            let mut head = Vec::new();
            Read::by_ref(&mut packed)
                .take(1 << 10)
                .read_to_end(&mut head)
                .map_err(failed)?;
            let packed = io::Cursor::new(head.clone()).chain(packed);
            let mut plain = scratch.file().map_err(failed)?;
            let mut stream = decompress(sniff(&head), Box::new(packed));
            io::copy(&mut stream, &mut plain).map_err(failed)?;
            let changes = index_tar(Arc::new(plain))?;
            write_tree(&changes, root.as_fd(), TreeForm::Plain, None)?;
            Ok((Arc::new(root), None, Some(scratch)))
        }
        ContextSource::Git(url) => {
            let failed = |error| match error {
                GitError::Cancelled => Error::Cancelled,
                source => Error::Git {
                    url: url.shown().to_owned(),
                    source: Box::new(source),
                },
            };
            let url = url.clone().authorize(&request.secrets);
            let checkout = git::open(store, &request.git, &url, cancel).map_err(failed)?;
            Ok((checkout.root, None, Some(checkout.scratch)))
        }
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

type IgnoreText = Option<(PathBuf, Vec<u8>)>;

fn read_dockerfile(
    root: &OwnedFd,
    request: &Request,
    trusted: bool,
) -> Result<(Source, IgnoreText), Error> {
    match &request.dockerfile {
        DockerfileSource::Text(bytes) => Ok((Source::new("-", bytes.clone()), None)),
        DockerfileSource::File(path) if trusted => {
            let bytes = read_host(path)?.ok_or_else(|| missing(path))?;
            let mut ignore = path.clone().into_os_string();
            ignore.push(".dockerignore");
            let ignore = PathBuf::from(ignore);
            let ignored = read_host(&ignore)?.map(|bytes| (ignore, bytes));
            Ok((Source::new(path.display().to_string(), bytes), ignored))
        }
        DockerfileSource::File(path) => below(root, path, trusted)?.ok_or_else(|| missing(path)),
        DockerfileSource::Default => {
            for name in NAMES {
                if let Some(found) = below(root, Path::new(name), trusted)? {
                    return Ok(found);
                }
            }
            let dir = match &request.context {
                ContextSource::Dir(dir) => dir.join(NAMES[0]),
                _ => PathBuf::from(NAMES[0]),
            };
            Err(missing(&dir))
        }
    }
}

fn missing(path: &Path) -> Error {
    Error::NoDockerfile {
        path: path.to_owned(),
    }
}

fn below(
    root: &OwnedFd,
    name: &Path,
    trusted: bool,
) -> Result<Option<(Source, IgnoreText)>, Error> {
    let Some(bytes) = read_below(root, name, trusted)? else {
        return Ok(None);
    };
    let mut ignore = name.as_os_str().to_owned();
    ignore.push(".dockerignore");
    let ignore = PathBuf::from(ignore);
    let ignored = read_below(root, &ignore, trusted)?.map(|bytes| (ignore, bytes));
    Ok(Some((
        Source::new(name.display().to_string(), bytes),
        ignored,
    )))
}

/// Reads a small file of the caller's own.
fn read_host(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    match File::open(path) {
        Ok(file) => read_capped(file).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Reads a small file of the context. In the caller's own directory links may lead anywhere, as
/// docker allows for the Dockerfile; in an archive they stay inside.
fn read_below(root: &OwnedFd, name: &Path, trusted: bool) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::Io {
        doing: "read",
        path: name.to_owned(),
        source,
    };
    let resolve = if trusted {
        ResolveFlags::NO_MAGICLINKS
    } else {
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
            Ok(fd) => return read_capped(File::from(fd)).map(Some).map_err(failed),
            Err(Errno::NOENT) => return Ok(None),
            // Something was mounted or renamed while a `..` was walked (openat2(2), EAGAIN).
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

fn read_capped(file: File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    file.take(CAP + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CAP {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "more than 16 MiB",
        ));
    }
    Ok(bytes)
}

/// Reads an ignore file; answers its name, for messages, and its patterns.
fn parse_ignore((path, bytes): (PathBuf, Vec<u8>)) -> Result<(String, Ignore), Error> {
    let text = String::from_utf8_lossy(&bytes);
    match Ignore::parse(&text) {
        Ok(ignore) => Ok((path.display().to_string(), ignore)),
        Err(source) => Err(Error::Ignore { path, source }),
    }
}
