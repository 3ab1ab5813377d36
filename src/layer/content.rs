//! Opens names below a directory, and reads the bytes of files.
//!
//! Promise: no symbolic link is followed, nothing above the directory is reached, no fifo or device
//! is waited on, and a reader gives exactly the bytes that were listed or an error.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{self, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::changes::{Content, Extent};
use super::error::Error;
use super::path::TreePath;

/// Flags for a directory that will be listed or searched.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Flags for a file whose bytes are read. A fifo does not block and is then refused.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens `path` below `root`. No part of it may be a symbolic link.
///
/// One `openat2` where the kernel has it and the path fits, else part by part; openat2(2).
pub(super) fn open_below(
    root: BorrowedFd<'_>,
    path: &TreePath,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match fs::openat2(root, path.as_os(), flags, Mode::empty(), resolve) {
        // A seccomp filter older than the call answers EPERM; a rename elsewhere gives EAGAIN.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::NAMETOOLONG) => {
            open_parts(root, path, flags)
        }
        opened => opened,
    }
}

/// Opens `path` below `root` one part at a time.
fn open_parts(root: BorrowedFd<'_>, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir: Option<OwnedFd> = None;
    let mut parts = path.parts().peekable();
    if parts.peek().is_none() {
        return fs::openat(root, c".", flags, Mode::empty());
    }
    while let Some(part) = parts.next() {
        let at = dir.as_ref().map_or(root, AsFd::as_fd);
        let flags = if parts.peek().is_some() {
            through
        } else {
            flags | OFlags::NOFOLLOW
        };
        dir = Some(fs::openat(at, part, flags, Mode::empty())?);
    }
    dir.ok_or(Errno::NOENT)
}

/// Returns the names in an open directory, in no order. The descriptor must be at its start.
pub(super) fn names(dir: BorrowedFd<'_>, path: &TreePath) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |errno| Error::io("list", path, errno);
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

impl Content {
    /// Opens the bytes. The reader gives exactly `size` of them, or fails; [`Error::NotRegular`]
    /// or [`Error::Changed`] when the file is no longer what was listed.
    pub fn open(&self, size: u64) -> Result<Reader, Error> {
        match self {
            Self::Bytes(bytes) => Ok(Reader::Bytes {
                bytes: Arc::clone(bytes),
                at: 0,
            }),
            Self::Slice { file, offset } => Ok(Reader::File {
                file: Arc::clone(file),
                at: *offset,
                left: size,
            }),
            Self::Sparse { file, extents } => Ok(Reader::Sparse {
                file: Arc::clone(file),
                extents: Arc::clone(extents),
                at: 0,
                size,
            }),
            Self::Below { root, path } => Ok(Reader::File {
                file: Arc::new(open_regular(root.as_fd(), path, size)?),
                at: 0,
                left: size,
            }),
        }
    }
}

/// Opens a regular file of `size` bytes below `root`.
pub(super) fn open_regular(
    root: BorrowedFd<'_>,
    path: &TreePath,
    size: u64,
) -> Result<File, Error> {
    let failed = |errno| match errno {
        Errno::NOENT => Error::Missing { path: path.clone() },
        // A link, or a socket or a device without a driver.
        Errno::LOOP | Errno::NXIO => Error::NotRegular { path: path.clone() },
        _ => Error::io("open", path, errno),
    };
    let fd = open_below(root, path, FILE).map_err(failed)?;
    let stat = fs::fstat(&fd).map_err(|errno| Error::io("look at", path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotRegular { path: path.clone() });
    }
    // The kernel never gives a negative size.
    let got = u64::try_from(stat.st_size).unwrap_or(0);
    if got != size {
        let path = path.clone();
        return Err(Error::Changed {
            path,
            want: size,
            got,
        });
    }
    Ok(File::from(fd))
}

/// The bytes of one file, read from start to end. Many can read one open file at a time.
#[derive(Debug)]
pub enum Reader {
    /// Bytes in memory.
    Bytes {
        /// All of them.
        bytes: Arc<[u8]>,
        /// How many were read.
        at: usize,
    },
    /// Part of a file, read by position.
    File {
        /// The file.
        file: Arc<File>,
        /// Offset of the next byte.
        at: u64,
        /// Bytes still to come.
        left: u64,
    },
    /// Runs of bytes in a file, and zeros.
    Sparse {
        /// The file.
        file: Arc<File>,
        /// The runs.
        extents: Arc<[Extent]>,
        /// How many bytes were read.
        at: u64,
        /// How many there are.
        size: u64,
    },
}

impl Read for Reader {
    /// Reads on; a file that ends too early is [`io::ErrorKind::UnexpectedEof`].
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bytes { bytes, at } => {
                let got = (&bytes[*at..]).read(buf)?;
                *at += got;
                Ok(got)
            }
            Self::File { file, at, left } => {
                let most = buf.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if most == 0 {
                    return Ok(0);
                }
                let got = file.read_at(&mut buf[..most], *at)?;
                if got == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *at += got as u64;
                *left -= got as u64;
                Ok(got)
            }
            Self::Sparse {
                file,
                extents,
                at,
                size,
            } => {
                let next = extents.partition_point(|run| run.at + run.len <= *at);
                let run = extents.get(next).filter(|run| run.at < *size);
                let hole = run.map_or(*size, |run| run.at).saturating_sub(*at);
                let most = if hole > 0 {
                    hole
                } else {
                    run.map_or(0, |run| run.at + run.len - *at)
                };
                let most = buf.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                let got = match run {
                    _ if most == 0 => return Ok(0),
                    Some(run) if hole == 0 => {
                        file.read_at(&mut buf[..most], run.from + (*at - run.at))?
                    }
                    _ => {
                        buf[..most].fill(0);
                        most
                    }
                };
                if got == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *at += got as u64;
                Ok(got)
            }
        }
    }
}

/// Reads a file of `size` bytes into memory. The caller has checked that this is little.
pub(super) fn read_all(
    content: Option<&Content>,
    size: u64,
    path: &TreePath,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let Some(content) = content else {
        return Ok(bytes);
    };
    let mut reader = content.open(size)?;
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(source) => Err(Error::Io {
            doing: "read",
            path: path.clone(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, open_dir, path};
    use super::*;

    #[test]
    fn only_the_regular_file_that_was_listed_is_opened() {
        let scratch = Scratch::new();
        let root = open_dir(scratch.path());
        std::fs::create_dir(scratch.path().join("d")).unwrap();
        std::fs::write(scratch.path().join("d/f"), "four").unwrap();
        std::os::unix::fs::symlink("d", scratch.path().join("l")).unwrap();
        std::os::unix::fs::symlink("d/f", scratch.path().join("m")).unwrap();
        fs::mknodat(&root, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        let read = |raw: &str, size| {
            let content = Content::Below {
                root: Arc::clone(&root),
                path: path(raw),
            };
            let mut bytes = Vec::new();
            content.open(size)?.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        };
        assert_eq!(read("d/f", 4).unwrap(), b"four");
        for raw in ["l/f", "m", "fifo", "d"] {
            let error: Error = read(raw, 4).unwrap_err();
            assert!(matches!(error, Error::NotRegular { .. }), "{raw}: {error}");
        }
        assert!(matches!(read("d/none", 4), Err(Error::Missing { .. })));
        assert!(matches!(
            read("d/f", 3),
            Err(Error::Changed {
                want: 3,
                got: 4,
                ..
            })
        ));
    }

    #[test]
    fn a_slice_gives_its_bytes_and_no_other() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("f"), "0123456789").unwrap();
        let file = Arc::new(File::open(scratch.path().join("f")).unwrap());
        let slice = |offset| Content::Slice {
            file: Arc::clone(&file),
            offset,
        };
        let mut text = String::new();
        slice(3).open(4).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "3456");
        let error = slice(8)
            .open(4)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn both_ways_of_opening_stop_at_links() {
        let scratch = Scratch::new();
        let root = open_dir(scratch.path());
        std::fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("/", scratch.path().join("a/up")).unwrap();
        for open in [open_below, open_parts] {
            for raw in ["", "a", "a/b"] {
                assert!(open(root.as_fd(), &path(raw), DIRECTORY).is_ok(), "{raw}");
            }
            for raw in ["a/up", "a/up/etc"] {
                let errno = open(root.as_fd(), &path(raw), DIRECTORY).unwrap_err();
                assert!(
                    matches!(errno, Errno::LOOP | Errno::NOTDIR),
                    "{raw}: {errno}"
                );
            }
        }
    }
}
