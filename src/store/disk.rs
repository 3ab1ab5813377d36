//! Small acts on the disk, each with the error that names the act and the path.
//!
//! Paths here are the store's own, made from digests and fixed names; nothing that an image or
//! archive names comes this way. What is below a tree is only ever reached through a directory
//! descriptor, and no link is followed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::Error;
use super::fault;

/// Makes a directory that only its owner may enter; one that exists is fine.
pub(super) fn make_dir(path: &Path) -> Result<(), Error> {
    fault::point("make", path)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("make", path, e)),
        _ => Ok(()),
    }
}

/// Asks for the directories made in this one to lie apart from each other on the disk, as chattr's
/// `T` does on ext4, which otherwise fills one region of inodes first. Without a journal it takes
/// an inode again only minutes after its file went, and passes over those one by one, so that
/// whoever has removed a large tree waits whenever he makes a file. Other file systems do not know
/// the hint.
pub(super) fn spread(path: &Path) -> Result<(), Error> {
    let dir = open_dir(path)?;
    if let Ok(flags) = rustix::fs::ioctl_getflags(&dir) {
        // Nothing depends on it.
        let _ = rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR);
    }
    Ok(())
}

/// Opens a directory to work below it.
pub(super) fn open_dir(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::os("open", path, e))
}

/// Makes a new file for reading and writing that only its owner may open.
pub(super) fn new_file(path: &Path) -> Result<File, Error> {
    fault::point("make", path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io("make", path, e))
}

/// Opens a lock file, made when it is missing.
pub(super) fn lock_file(path: &Path) -> Result<File, Error> {
    fault::point("open", path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io("open", path, e))
}

/// Reads a whole small file, or `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Returns the length of a regular file, or `None` when there is none.
pub(super) fn size(path: &Path) -> Result<Option<u64>, Error> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}

/// Returns when a file was last written and when it was made, or `None` when there is none. A
/// file system that does not know the second answers with the first.
pub(super) fn times(path: &Path) -> Result<Option<(SystemTime, SystemTime)>, Error> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("look at", path, e)),
    };
    let written = meta.modified().map_err(|e| Error::io("look at", path, e))?;
    Ok(Some((written, meta.created().unwrap_or(written))))
}

/// Sets when a file was last written; a file that is gone is fine.
pub(super) fn touch(path: &Path, time: SystemTime) -> Result<(), Error> {
    fault::point("set the time of", path)?;
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.set_modified(time),
        Err(e) => Err(e),
    }
    .or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(Error::io("set the time of", path, e)),
    })
}

/// Returns whether there is anything at `path`.
pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    Ok(size(path)?.is_some())
}

/// Returns the number of the inode at `path`, or `None` when there is none.
pub(super) fn inode(path: &Path) -> Result<Option<u64>, Error> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}

/// Gives a file another name; one that is taken stays what it is.
pub(super) fn link(file: &Path, name: &Path) -> Result<(), Error> {
    fault::point("link", name)?;
    match fs::hard_link(file, name) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("link", name, e)),
        _ => Ok(()),
    }
}

/// Renames, over whatever file is there.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fault::point("rename into place", to)?;
    fs::rename(from, to).map_err(|e| Error::io("rename into place", to, e))
}

/// Removes a file; returns whether there was one.
pub(super) fn remove_file(path: &Path) -> Result<bool, Error> {
    fault::point("remove", path)?;
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("remove", path, e)),
    }
}

/// Returns the names in a directory, sorted; none when there is no such directory. Names that
/// are not UTF-8 are none of the store's and are left out.
pub(super) fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", path, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("list", path, e))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Copies all of `from` into `to` through a buffer; returns the number of bytes.
pub(super) fn drain(from: &mut dyn Read) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => total += n as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// How deep a removal goes with one descriptor a level; deeper directories are moved up first.
const MAX_DEPTH: u32 = 64;

/// Removes a directory with all that is in it and returns the bytes of disk that it held. No link
/// is followed, directories without permissions are opened up, and depth costs no descriptors.
/// What vanishes meanwhile is fine.
pub(super) fn remove_tree(path: &Path) -> Result<u64, Error> {
    fault::point("remove", path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let top = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(0),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let held = size(path)?.unwrap_or(0);
            remove_file(path)?;
            return Ok(held);
        }
        Err(Errno::ACCESS) => {
            rustix::fs::chmod(path, Mode::RWXU).map_err(|e| Error::os("remove", path, e))?;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::os("open", path, e))?
        }
        Err(e) => return Err(Error::os("open", path, e)),
    };
    let mut removal = Removal {
        top: &top,
        moved: 0,
        held: 0,
    };
    // Every pass empties the directory down to what was moved up from too deep.
    loop {
        let before = removal.moved;
        removal
            .empty(top.as_fd(), 0)
            .map_err(|e| Error::os("remove", path, e))?;
        if removal.moved == before {
            break;
        }
    }
    fault::point("remove", path)?;
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(removal.held),
        Err(e) => Err(Error::os("remove", path, e)),
    }
}

struct Removal<'a> {
    top: &'a OwnedFd,
    moved: u64,
    held: u64,
}

impl Removal<'_> {
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: u32) -> rustix::io::Result<()> {
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(e),
            };
            if stat.st_nlink <= 1 || FileType::from_raw_mode(stat.st_mode).is_dir() {
                self.held += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            if !FileType::from_raw_mode(stat.st_mode).is_dir() {
                gone(rustix::fs::unlinkat(dir, name, AtFlags::empty()))?;
                continue;
            }
            if depth >= MAX_DEPTH {
                let flat = format!(".moved-{}", self.moved);
                match rustix::fs::renameat(dir, name, self.top, &flat) {
                    Ok(()) => self.moved += 1,
                    // A name of an earlier, broken-off removal: try the next number.
                    Err(Errno::NOTEMPTY | Errno::EXIST) => self.moved += 1,
                    Err(e) => return Err(e),
                }
                continue;
            }
            let below = match open_below(dir, name) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            self.empty(below.as_fd(), depth + 1)?;
            // Closed first: taking away what is still open costs the file system its orphan list.
            drop(below);
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                // Directories moved up, or a second remover: the next pass sees.
                Err(Errno::NOTEMPTY | Errno::EXIST) => self.moved += 1,
                other => gone(other)?,
            }
        }
        Ok(())
    }
}

fn gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn open_below(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(dir, name, flags, Mode::empty())
        }
        other => other,
    }
}

/// Returns the bytes of disk that a directory holds, as [`remove_tree`] would count them: blocks
/// of a file with several names are shared out over its names.
pub(super) fn usage(path: &Path) -> Result<u64, Error> {
    let measure = |e| Error::os("measure", path, e);
    let top = open_dir(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut held = 0;
    let mut todo = vec![b".".to_vec()];
    while let Some(at) = todo.pop() {
        let dir = match rustix::fs::openat2(&top, at.as_slice(), flags, Mode::empty(), inside) {
            Ok(dir) => dir,
            // Not ours to look into (a removal would open it up first), or gone.
            Err(Errno::ACCESS | Errno::NOENT) => continue,
            Err(e) => return Err(measure(e)),
        };
        for entry in Dir::read_from(&dir).map_err(measure)? {
            let entry = entry.map_err(measure)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(measure(e)),
            };
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                held += bytes;
                todo.push([at.as_slice(), b"/", name.to_bytes()].concat());
            } else {
                held += bytes / u64::from(stat.st_nlink as u32).max(1);
            }
        }
    }
    Ok(held)
}
