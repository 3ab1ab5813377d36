//! The executable that children run: ourselves, in a form that nobody inside can write to.
//!
//! The init of a sandbox stays visible inside as `/proc/1/exe`, which is a door to the file
//! (CVE-2019-5736). So children are never executed from the file's own mount but from a
//! detached read-only bind mount of it, or, where the kernel won't give one, from a sealed
//! copy in memory. Made once a process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::sys::mount::{Attributes, NODEV, NOSUID, RDONLY, set_attributes};

static NAMED: OnceLock<PathBuf> = OnceLock::new();
static SEALED: OnceLock<OwnedFd> = OnceLock::new();

/// Names the binary that children re-execute instead of this process's own.
///
/// For test programs, whose `main` does not begin with [`super::child::run_if_child`]: they
/// name one of the real binaries. Counts before the first spawn of a process; the first name
/// given stays.
pub fn set_executable(path: impl Into<PathBuf>) {
    // A second name is ignored, as documented.
    let _ = NAMED.set(path.into());
}

/// Takes the executable over from the process that started this one
/// ([`respawn`](super::respawn)): it may have been replaced on the disk since, and a copy in
/// memory need not be made twice. What was there first stays.
pub fn adopt_executable(fd: OwnedFd) {
    // A second one is ignored, as documented.
    let _ = SEALED.set(fd);
}

/// Gives back the memory that this process's executable takes, which is most of what a process
/// that only waits holds. What is needed again comes back by itself.
pub fn give_back_executable() -> io::Result<()> {
    crate::sys::memory::give_back_files()
}

/// A descriptor of the executable that can be executed and never written through.
pub(super) fn sealed() -> io::Result<&'static OwnedFd> {
    if let Some(fd) = SEALED.get() {
        return Ok(fd);
    }
    let fd = match NAMED.get() {
        Some(path) => read_only_mount(path).or_else(|_| copy(path))?,
        None => ourselves()?,
    };
    Ok(SEALED.get_or_init(|| fd))
}

/// `/proc/self/exe` belongs to the mount namespace we were executed in, which is not ours any
/// more after entering a user namespace; so its path is opened again and compared.
fn ourselves() -> io::Result<OwnedFd> {
    let link = Path::new("/proc/self/exe");
    let opened = std::fs::read_link(link).and_then(|path| read_only_mount(&path));
    if let Ok(fd) = opened {
        let (there, here) = (fstat(&fd)?, rustix::fs::stat(link)?);
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino) {
            return Ok(fd);
        }
    }
    // Replaced, deleted, or no bind mount to be had: the bytes are still there.
    copy(link)
}

fn read_only_mount(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let fd = open_tree(CWD, path, flags)?;
    let what = Attributes {
        set: RDONLY | NOSUID | NODEV,
        ..Attributes::default()
    };
    set_attributes(&fd, what)?;
    Ok(fd)
}

fn copy(path: &Path) -> io::Result<OwnedFd> {
    let mut from = std::fs::File::open(path)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 don't know EXEC, which is their default.
    let memfd = memfd_create("cooper", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("cooper", flags))?;
    let mut file = std::fs::File::from(memfd);
    io::copy(&mut from, &mut file)?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
    )?;
    // A descriptor open for writing can't be executed (ETXTBSY).
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let read_only = rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(read_only)
}
