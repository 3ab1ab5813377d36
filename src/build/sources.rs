//! Opens what a build reads from the caller: the Dockerfile, the context and its ignore file.
//!
//! A context is a directory, an archive, or what a URL gives; named contexts have ignore files of
//! their own and are opened when an instruction reads them. `FILE.dockerignore` beside the Dockerfile replaces `.dockerignore` at the root of the context.
//! In a context that came as an archive every name is opened below its root: a link to the
//! host's `/etc/passwd` is a link to nothing (CVE-2026-44517).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::dockerfile::{Source, ignore::Ignore};
use crate::event::{Silent, Sink};
use crate::image::Digest;
use crate::layer::{Change, Format, TreeForm, decompress, index_tar, is_tar, sniff, write_tree};
use crate::store::{Scratch, Store};
use crate::transfer;

use super::context::Context;
use super::error::Error;
use super::exec::Cancel;
use super::git::{self, GitError, GitUrl};
use super::named::NamedSource;
use super::request::{ContextSource, DockerfileSource, Request};
use super::stat_index::StatIndex;
use super::steps::remote;

/// Records of what is known of contexts.
const KIND: &str = "context";
/// Greatest size of a Dockerfile or ignore file, in bytes.
const CAP: u64 = 16 << 20;
/// Names looked for when none was given.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Names of a context's own ignore file, the first that is there counts.
const IGNORE_NAMES: [&str; 2] = [".dockerignore", ".containerignore"];

/// What a build reads from the caller.
pub(super) struct Sources {
    /// The Dockerfile's text.
    pub(super) file: Arc<Source>,
    /// The files of COPY and ADD.
    pub(super) files: Files,
}

/// A context, opened.
pub(super) struct Files {
    /// Its files.
    pub(super) context: Context,
    /// Where what is known of the context is kept; none for one that is gone after the build.
    index: Option<String>,
    /// An unpacked archive, which goes when the build ends.
    _scratch: Option<Scratch>,
    /// Where it came from; none for what is the caller's own.
    pub(super) origin: Option<Origin>,
}

/// Something from elsewhere that has a name and a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Its address, without a login.
    pub(super) uri: String,
    /// Name and value of its digest: `sha1` of a commit, `sha256` of bytes.
    digest: (&'static str, String),
    /// When it was made, in seconds since 1970, where that is known.
    pub(super) time: Option<i64>,
}

impl Origin {
    /// Names a commit of a repository.
    pub(super) fn commit(url: &GitUrl, id: &str, time: Option<i64>) -> Self {
        let algorithm = if id.len() == 64 { "sha256" } else { "sha1" };
        Self {
            uri: url.shown_whole(),
            digest: (algorithm, id.to_owned()),
            time,
        }
    }

    /// Names a download.
    pub(super) fn download(url: &str, digest: &Digest, time: Option<i64>) -> Self {
        Self {
            uri: without_login(url),
            digest: ("sha256", digest.hex().to_owned()),
            time,
        }
    }

    /// Returns the digest as in-toto writes it.
    pub(super) fn digest_set(&self) -> serde_json::Value {
        let (algorithm, value) = &self.digest;
        serde_json::json!({ *algorithm: value })
    }
}

fn without_login(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

impl Files {
    /// Keeps what this build learned of its context.
    pub(super) fn remember(&self, store: &Store) -> Result<(), Error> {
        match (&self.index, self.context.learned()) {
            (Some(name), Some(bytes)) => Ok(store.records(KIND).put(name.as_str(), &bytes)?),
            _ => Ok(()),
        }
    }
}

/// Opens contexts and what lies in them.
pub(super) struct Opener<'a> {
    pub(super) store: &'a Store,
    pub(super) request: &'a Request,
    pub(super) sink: &'a dyn Sink,
    pub(super) cancel: &'a Cancel,
}

/// Opens the Dockerfile and the build context for somebody who only looks at them.
pub(super) fn open(store: &Store, request: &Request) -> Result<Sources, Error> {
    let opener = Opener {
        store,
        request,
        sink: &Silent,
        cancel: &Cancel::default(),
    };
    opener.open()
}

/// The root of a context: a directory, its place among the records, what it was unpacked to.
struct Opened {
    root: Arc<OwnedFd>,
    index: Option<String>,
    scratch: Option<Scratch>,
    origin: Option<Origin>,
}

impl Opened {
    fn below(root: OwnedFd, scratch: Scratch) -> Self {
        Self {
            root: Arc::new(root),
            index: None,
            scratch: Some(scratch),
            origin: None,
        }
    }

    /// Whether it is the caller's own directory, in which links may lead anywhere.
    fn is_own(&self) -> bool {
        self.scratch.is_none()
    }
}

impl Opener<'_> {
    /// Opens the Dockerfile and the build context.
    pub(super) fn open(&self) -> Result<Sources, Error> {
        let opened = self.context(&self.request.context, NAMES[0])?;
        let (file, own) = read_dockerfile(&opened.root, self.request, opened.is_own())?;
        let ignore = match &self.request.ignore_file {
            Some(path) => Some(read_ignore(path)?),
            None => own,
        };
        Ok(Sources {
            file: Arc::new(file),
            files: self.files(opened, ignore)?,
        })
    }

    /// Opens the context for who has no Dockerfile: seen through `ignore`, a file of the caller's,
    /// and not through one of its own.
    pub(super) fn plain_context(&self, ignore: Option<&Path>) -> Result<Files, Error> {
        let opened = self.context(&self.request.context, "context")?;
        let found = match ignore {
            None => (PathBuf::from(".dockerignore"), Vec::new()),
            Some(path) => read_ignore(path)?,
        };
        self.files(opened, Some(found))
    }

    /// Opens those of the named contexts that are read.
    pub(super) fn named(&self, used: &BTreeSet<usize>) -> Result<BTreeMap<usize, Files>, Error> {
        let mut named = BTreeMap::new();
        for at in used {
            if let NamedSource::Files(source) = &self.request.contexts[*at].source {
                let opened = self.context(source, "context")?;
                named.insert(*at, self.files(opened, None)?);
            }
        }
        Ok(named)
    }

    /// Returns when what lies elsewhere was made, as far as that is known.
    pub(super) fn time(&self, source: &ContextSource) -> Result<Option<i64>, Error> {
        let opened = self.context(source, "context")?;
        Ok(opened.origin.and_then(|origin| origin.time))
    }

    /// Sees a context through `ignore`, or the ignore file at its root.
    fn files(&self, opened: Opened, ignore: IgnoreText) -> Result<Files, Error> {
        let mut ignore = ignore;
        for own in IGNORE_NAMES.map(Path::new) {
            if ignore.is_none() {
                let found = read_below(&opened.root, own, opened.is_own())?;
                ignore = found.map(|bytes| (own.to_owned(), bytes));
            }
        }
        let ignore = ignore.map(parse_ignore).transpose()?.unwrap_or_default();
        let known = match &opened.index {
            Some(name) => self
                .store
                .records(KIND)
                .get(name.as_str())?
                .unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Files {
            context: Context::new(opened.root, ignore, StatIndex::read(known)),
            index: opened.index,
            _scratch: opened.scratch,
            origin: opened.origin,
        })
    }

    /// Opens a context. What a URL gives that is no archive becomes a file of the name `lone`.
    fn context(&self, context: &ContextSource, lone: &str) -> Result<Opened, Error> {
        match context {
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
                Ok(Opened {
                    root: Arc::new(root),
                    index: Some(name),
                    scratch: None,
                    origin: None,
                })
            }
            ContextSource::Empty => {
                let (root, scratch) = self.fresh()?;
                Ok(Opened::below(root, scratch))
            }
            ContextSource::Archive(archive) => {
                let failed = |source| Error::Io {
                    doing: "read the build context",
                    path: archive.clone(),
                    source,
                };
                let (root, scratch) = self.fresh()?;
                let packed = File::open(archive).map_err(failed)?;
                let mut plain = scratch.file().map_err(failed)?;
                let (head, packed) = peek(packed).map_err(failed)?;
                let mut stream = decompress(sniff(&head), Box::new(packed));
                io::copy(&mut stream, &mut plain).map_err(failed)?;
                unpack(plain, &root)?;
                Ok(Opened::below(root, scratch))
            }
            ContextSource::Url(url) => self.fetched(url, lone),
            ContextSource::Git(url) => self.cloned(url),
        }
    }

    fn cloned(&self, url: &GitUrl) -> Result<Opened, Error> {
        let failed = |error| match error {
            GitError::Cancelled => Error::Cancelled,
            source => Error::Git {
                url: url.shown().to_owned(),
                source: Box::new(source),
            },
        };
        let url = url.clone().authorize(&self.request.secrets);
        let (store, tools, cancel) = (self.store, &self.request.git, self.cancel);
        let commit = git::resolve(store, tools, &url, cancel).map_err(failed)?;
        let checkout = git::check_out(store, tools, &url, &commit, cancel).map_err(failed)?;
        Ok(Opened {
            root: checkout.root,
            index: None,
            scratch: Some(checkout.scratch),
            origin: Some(Origin::commit(&url, commit.id(), checkout.committed)),
        })
    }

    /// Makes an empty directory that goes when the build ends.
    fn fresh(&self) -> Result<(OwnedFd, Scratch), Error> {
        let scratch = self.store.scratch()?;
        let root = scratch.dir("context")?;
        Ok((root, scratch))
    }

    fn fetched(&self, url: &str, lone: &str) -> Result<Opened, Error> {
        let failed = |source| Error::Io {
            doing: "read the build context",
            path: PathBuf::from(url),
            source,
        };
        let authorization = remote::authorization(&self.request.secrets, url);
        let options = &self.request.transfer;
        let authorization = authorization.as_ref();
        let got = transfer::download(self.store, url, authorization, options, self.sink)?;
        let (root, scratch) = self.fresh()?;
        let file = self.store.open_blob(&got.blob)?;
        let (head, packed) = peek(file).map_err(failed)?;
        let format = sniff(&head);
        let mut time = got.last_modified;
        if format != Format::Plain || is_tar(&head) {
            let mut plain = scratch.file().map_err(failed)?;
            let mut stream = decompress(format, Box::new(packed));
            io::copy(&mut stream, &mut plain).map_err(failed)?;
            let newest = unpack(plain, &root)?;
            time = time.or(newest);
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&root, lone, flags, Mode::from_raw_mode(0o600));
            let mut file = File::from(file.map_err(|errno| failed(errno.into()))?);
            io::copy(&mut { packed }, &mut file).map_err(failed)?;
        }
        Ok(Opened {
            origin: Some(Origin::download(url, got.blob.digest(), time)),
            ..Opened::below(root, scratch)
        })
    }
}

/// Reads the first bytes, and returns them with a stream that begins with them all the same.
fn peek(mut file: File) -> io::Result<(Vec<u8>, impl Read + Send)> {
    let mut head = Vec::new();
    Read::by_ref(&mut file)
        .take(1 << 10)
        .read_to_end(&mut head)?;
    Ok((head.clone(), io::Cursor::new(head).chain(file)))
}

/// Unpacks a tar, and returns the time of its newest entry.
fn unpack(plain: File, root: &OwnedFd) -> Result<Option<i64>, Error> {
    let changes = index_tar(Arc::new(plain))?;
    write_tree(&changes, root.as_fd(), TreeForm::Plain, None)?;
    let times = changes.entries.values().filter_map(|change| match change {
        Change::Node(node) => Some(node.meta.mtime.secs),
        _ => None,
    });
    Ok(times.max())
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

/// Reads an ignore file that the caller named.
fn read_ignore(path: &Path) -> Result<(PathBuf, Vec<u8>), Error> {
    let gone = || Error::Io {
        doing: "read",
        path: path.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    };
    Ok((path.to_owned(), read_host(path)?.ok_or_else(gone)?))
}

/// Takes an ignore file apart; answers its name, for messages, and its patterns.
fn parse_ignore((path, bytes): (PathBuf, Vec<u8>)) -> Result<(String, Ignore), Error> {
    let text = String::from_utf8_lossy(&bytes);
    match Ignore::parse(&text) {
        Ok(ignore) => Ok((path.display().to_string(), ignore)),
        Err(source) => Err(Error::Ignore { path, source }),
    }
}
