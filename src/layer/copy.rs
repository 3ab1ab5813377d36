//! Copies the bytes of one file into another the cheapest way there is.
//!
//! A clone that shares blocks where the file system can, else a copy inside the kernel, else
//! through a buffer. What one file system refused is not tried again. Holes stay holes.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use super::changes::Content;
use super::content::open_regular;
use super::error::Error;
use super::path::TreePath;

/// Up to here a read and a write are cheaper than asking for more.
const SMALL: u64 = 32 * 1024;

/// Copies contents of files, and remembers what works.
#[derive(Debug)]
pub(super) struct Copier {
    /// FICLONE, ioctl_ficlone(2).
    clone: bool,
    /// copy_file_range(2).
    range: bool,
    buffer: Vec<u8>,
}

/// The part of a file that is copied, and for errors the file it becomes.
struct Piece<'a> {
    from: &'a File,
    start: u64,
    to: &'a File,
    at: u64,
    len: u64,
    path: &'a TreePath,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self {
            clone: true,
            range: true,
            buffer: vec![0; 64 * 1024],
        }
    }

    /// Fills `to`, new and empty, with the `size` bytes of `content`; `path` names it in errors.
    pub(super) fn copy(
        &mut self,
        content: &Content,
        size: u64,
        to: &File,
        path: &TreePath,
    ) -> Result<(), Error> {
        let changed = |got| Error::Changed {
            path: path.clone(),
            want: size,
            got,
        };
        match content {
            Content::Bytes(bytes) if bytes.len() as u64 != size => Err(changed(bytes.len() as u64)),
            Content::Bytes(bytes) => {
                let mut to = to;
                to.write_all(bytes).map_err(|source| Error::Io {
                    doing: "write",
                    path: path.clone(),
                    source,
                })
            }
            Content::Slice { file, offset } => self.piece(&Piece {
                from: file,
                start: *offset,
                to,
                at: 0,
                len: size,
                path,
            }),
            Content::Sparse { file, extents } => {
                for run in extents.iter() {
                    self.piece(&Piece {
                        from: file,
                        start: run.from,
                        to,
                        at: run.at,
                        len: run.len,
                        path,
                    })?;
                }
                fs::ftruncate(to, size).map_err(|errno| Error::io("copy", path, errno))
            }
            Content::Below { root, path: from } => {
                let from = open_regular(root.as_fd(), from, size)?;
                self.whole(&from, size, to, path)
            }
        }
    }

    fn whole(&mut self, from: &File, size: u64, to: &File, path: &TreePath) -> Result<(), Error> {
        let failed = |errno| Error::io("copy", path, errno);
        if size > SMALL && self.clone {
            match fs::ioctl_ficlone(to, from) {
                Ok(()) => return check_size(to, size, path),
                Err(Errno::NOSPC | Errno::DQUOT | Errno::IO) => {}
                Err(_) => self.clone = false,
            }
        }
        let mut piece = Piece {
            from,
            start: 0,
            to,
            at: 0,
            len: size,
            path,
        };
        let blocks = fs::fstat(from).map_err(failed)?.st_blocks;
        if size <= SMALL || u64::try_from(blocks).unwrap_or(0) >= size / 512 {
            return self.piece(&piece);
        }
        while let Some((start, end)) = data_after(from, piece.start).map_err(failed)? {
            (piece.start, piece.at) = (start, start);
            piece.len = end.min(size).saturating_sub(start);
            self.piece(&piece)?;
            if end >= size {
                break;
            }
            piece.start = end;
        }
        fs::ftruncate(to, size).map_err(failed)
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Result<(), Error> {
        let mut done = 0;
        while piece.len > SMALL && self.range && done < piece.len {
            let (mut start, mut at) = (piece.start + done, piece.at + done);
            let most = usize::try_from(piece.len - done).unwrap_or(usize::MAX);
            match fs::copy_file_range(piece.from, Some(&mut start), piece.to, Some(&mut at), most) {
                // Some file systems say this of files they can't copy; reading tells the truth.
                Ok(0) => break,
                Ok(got) => done += got as u64,
                Err(Errno::INTR) => {}
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::FBIG)) => {
                    return Err(Error::io("copy", piece.path, errno));
                }
                Err(_) => self.range = false,
            }
        }
        self.through_buffer(piece, done)
    }

    fn through_buffer(&mut self, piece: &Piece<'_>, mut done: u64) -> Result<(), Error> {
        let failed = |doing| {
            move |source| Error::Io {
                doing,
                path: piece.path.clone(),
                source,
            }
        };
        while done < piece.len {
            let left = usize::try_from(piece.len - done).unwrap_or(usize::MAX);
            let most = left.min(self.buffer.len());
            let buffer = &mut self.buffer[..most];
            let got = match piece.from.read_at(buffer, piece.start + done) {
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => continue,
                got => got.map_err(failed("read"))?,
            };
            if got == 0 {
                return Err(Error::Changed {
                    path: piece.path.clone(),
                    want: piece.len,
                    got: done,
                });
            }
            let write = piece.to.write_all_at(&buffer[..got], piece.at + done);
            write.map_err(failed("write"))?;
            done += got as u64;
        }
        Ok(())
    }
}

fn check_size(file: &File, want: u64, path: &TreePath) -> Result<(), Error> {
    let stat = fs::fstat(file).map_err(|errno| Error::io("look at", path, errno))?;
    let got = u64::try_from(stat.st_size).unwrap_or(0);
    if got == want {
        return Ok(());
    }
    let path = path.clone();
    Err(Error::Changed { path, want, got })
}

/// Returns the next range of a file that is no hole, from `at` on.
fn data_after(file: &File, at: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    match fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, fs::seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}
