//! The files of a working container as a file system: mounted for a moment, or to stay.
//!
//! A mount that stays belongs to the mount namespace of who made it: the machine's for root, that
//! of `unshare` for others. Where there is one, every verb writes through it, since two overlays
//! over one upper dir do not see each other. A copy is there without being mounted; that it was
//! asked for is noted, so that `umount` and lists know of it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::mount::UnmountFlags;

use crate::event::Sink;
use crate::layer::Stack;
use crate::sandbox::{self, Overlay, Rootfs};

use super::super::error::{Error, StepError};
use super::super::request::{Request, Snapshotter};
use super::container::{Container, io_error, open_dir};

impl Container {
    fn merged(&self) -> PathBuf {
        self.dir.join("merged")
    }

    fn shown(&self) -> PathBuf {
        self.dir.join("shown")
    }

    /// Returns where its files are mounted, if they are here.
    pub fn mount_point(&self) -> Option<PathBuf> {
        let path = self.merged();
        if is_mount(&path) {
            return Some(path);
        }
        self.shown().exists().then(|| self.copy())
    }

    /// Mounts its files and returns where; once is enough.
    pub fn mount(&self, request: &Request, sink: &dyn Sink) -> Result<PathBuf, Error> {
        let _lock = self.hold()?;
        let _work = self.store.work()?;
        if let Some(path) = self.mount_point() {
            return Ok(path);
        }
        let path = self.merged();
        let below = self.below(sink)?;
        if self.prepare(&below, request, sink)? == Snapshotter::Copy {
            let shown = self.shown();
            fs::write(&shown, "").map_err(io_error("create", &shown))?;
            return Ok(self.copy());
        }
        let mount = self.overlay_fd(&below, sink)?;
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &path)(error));
            }
            _ => {}
        }
        let attached = sandbox::attach_mount(&mount, &path);
        attached.map_err(io_error("mount the files at", &path))?;
        Ok(path)
    }

    /// Takes the mount away; says whether there was one.
    pub fn unmount(&self) -> Result<bool, Error> {
        let _lock = self.hold()?;
        self.unmount_held()
    }

    /// The same for who holds the lock.
    pub(super) fn unmount_held(&self) -> Result<bool, Error> {
        let path = self.merged();
        if !is_mount(&path) {
            let shown = self.shown();
            return match fs::remove_file(&shown) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(io_error("remove", &shown)(error)),
            };
        }
        let gone = rustix::mount::unmount(&path, UnmountFlags::DETACH);
        gone.map_err(|errno| io_error("unmount", &path)(errno.into()))?;
        Ok(true)
    }

    /// Its files for a program to run in. The caller holds the lock.
    pub(super) fn rootfs(&self, request: &Request, sink: &dyn Sink) -> Result<Rootfs, Error> {
        if let Some(path) = self.mount_point() {
            return Ok(Rootfs::Directory { path });
        }
        let below = self.below(sink)?;
        Ok(match self.prepare(&below, request, sink)? {
            Snapshotter::Copy => Rootfs::Directory { path: self.copy() },
            Snapshotter::Overlay => Rootfs::Overlay(self.overlay(&below, sink)?),
        })
    }

    /// Its files, open to be written. The caller holds the lock.
    pub(super) fn root(
        &self,
        below: &Stack,
        request: &Request,
        sink: &dyn Sink,
    ) -> Result<OwnedFd, Error> {
        let path = match self.mount_point() {
            Some(path) => path,
            None => match self.prepare(below, request, sink)? {
                Snapshotter::Copy => self.copy(),
                Snapshotter::Overlay => return self.overlay_fd(below, sink),
            },
        };
        open_dir(&path).map_err(io_error("open", &path))
    }

    fn overlay_fd(&self, below: &Stack, sink: &dyn Sink) -> Result<OwnedFd, Error> {
        let overlay = self.overlay(below, sink)?;
        let failed = self.failed("mount the files of");
        sandbox::mount_overlay(&overlay).map_err(|source| failed(StepError::Mount { source }))
    }

    /// The overlay over its upper directory, which is there.
    fn overlay(&self, below: &Stack, sink: &dyn Sink) -> Result<Overlay, Error> {
        let trees = self.store.trees(&self.config.layers, sink)?;
        // Trees below one whose root is opaque are not part of the file system, and overlayfs
        // does not see that mark.
        let seen = below.trees()?.len();
        let shown = trees[trees.len() - seen..].iter().rev();
        Ok(Overlay {
            lowers: shown.map(|tree| tree.path().to_owned()).collect(),
            upper: self.upper(),
            work: self.work(),
            userxattr: self.store.user_xattr(),
            volatile: false,
            old_mount_api: false,
        })
    }
}

/// Whether something is mounted at `path`, as this process sees it (statx(2), since Linux 5.8).
fn is_mount(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
