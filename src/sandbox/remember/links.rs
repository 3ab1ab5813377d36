//! Owners of links and special files, which can have no attributes, until the sandbox has ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use crate::owners::{LINKS, Links};

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What is remembered, by inode of the directory that takes the writes.
#[derive(Debug)]
pub(in crate::sandbox) struct LinkOwners {
    base: Option<OwnedFd>,
    by_inode: Mutex<BTreeMap<u64, (u32, u32)>>,
}

impl LinkOwners {
    pub(super) fn new(base: Option<OwnedFd>) -> Self {
        Self {
            base,
            by_inode: Mutex::default(),
        }
    }

    /// Remembers the owner of what is at `path` in the sandbox's root by now, if it is kept there.
    pub(super) fn set(&self, path: &Path, owner: (Option<u32>, Option<u32>)) -> Result<(), Errno> {
        let (Some(base), Ok(path)) = (&self.base, path.strip_prefix("/")) else {
            return Ok(());
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat2(base, path, flags, Mode::empty(), INSIDE) {
            Ok(found) => rustix::fs::fstat(&found)?,
            // On another mount, or removed meanwhile.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let mut known = self.by_inode.lock().unwrap_or_else(PoisonError::into_inner);
        let old = known.get(&found.st_ino).copied().unwrap_or_default();
        let new = (owner.0.unwrap_or(old.0), owner.1.unwrap_or(old.1));
        known.insert(found.st_ino, new);
        Ok(())
    }

    /// Writes what is remembered to the directories in which it is now. Called when nothing runs.
    pub(super) fn write_down(&self) -> io::Result<()> {
        let known = self.by_inode.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(base), false) = (&self.base, known.is_empty()) else {
            return Ok(());
        };
        let mut left = vec![PathBuf::from(".")];
        while let Some(path) = left.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::openat2(base, &path, flags, Mode::empty(), INSIDE)?;
            let mut here = Vec::new();
            for entry in Dir::read_from(&dir)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                match entry.file_type() {
                    FileType::Directory if name != b"." && name != b".." => {
                        left.push(path.join(OsString::from_vec(name.to_vec())));
                    }
                    FileType::Directory | FileType::RegularFile => {}
                    _ => here.extend(known.get(&entry.ino()).map(|owner| (entry.ino(), *owner))),
                }
            }
            if !here.is_empty() {
                add(&dir, &here)?;
            }
        }
        Ok(())
    }
}

fn add(dir: &OwnedFd, owners: &[(u64, (u32, u32))]) -> Result<(), Errno> {
    let mut value = vec![0; 1 << 16];
    let len = match rustix::fs::fgetxattr(dir.as_fd(), LINKS, &mut value) {
        Err(Errno::NODATA) => 0,
        len => len?,
    };
    let mut links = Links::parse(&value[..len]);
    for (ino, owner) in owners {
        links.set(*ino, *owner);
    }
    rustix::fs::fsetxattr(dir, LINKS, &links.to_bytes(), XattrFlags::empty())
}
