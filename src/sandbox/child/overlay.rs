//! Mounts overlays of any number of layers.
//!
//! Overlayfs stacks 500 directories at most, and may itself stand on overlays once (kernel
//! `FILESYSTEM_MAX_STACK_DEPTH`). More layers than that are bundled: the lowest are mounted, read
//! only, in bundles of 500, and the bundles are lower directories in their place.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::super::error::{Failure, Stage};
use super::super::plan::{MAX_LOWERS, Overlay};
use super::At;
use super::root::{attach, copy, dir_flags, make_scratch};

/// The directories of an overlay, opened. They are mounted by descriptor, so no length or
/// spelling of their paths matters, and `/proc/mounts` inside tells nothing about the host.
pub(super) struct Dirs {
    /// The top one first.
    lowers: Vec<OwnedFd>,
    /// What is written to, and the kernel's scratch directory; a bundle has neither.
    top: Option<(OwnedFd, OwnedFd)>,
}

/// Options that keep the upper directory a plain diff. `redirect_dir` can't be named together
/// with `userxattr`, which switches it off by itself.
fn plain_options(overlay: &Overlay) -> Vec<(&'static str, Option<&'static str>)> {
    let mut options = vec![("metacopy", Some("off")), ("index", Some("off"))];
    if overlay.userxattr {
        options.push(("userxattr", None));
    } else {
        options.push(("redirect_dir", Some("off")));
    }
    options
}

impl Dirs {
    /// Opens the directories of `overlay`.
    pub(super) fn open(overlay: &Overlay) -> Result<Self, Failure> {
        let open = |path: &Path| {
            rustix::fs::open(path, dir_flags() - OFlags::NOFOLLOW, Mode::empty())
                .at(Stage::Source, path)
        };
        let lowers = overlay
            .lowers
            .iter()
            .map(|path| open(path))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            lowers,
            top: Some((open(&overlay.upper)?, open(&overlay.work)?)),
        })
    }

    /// Mounts them on the directory `name` of the scratch tmpfs.
    pub(super) fn mount(
        mut self,
        overlay: &Overlay,
        scratch: &OwnedFd,
        name: &str,
    ) -> Result<(), Failure> {
        self.bundle(overlay, scratch, name)?;
        let place = rustix::fs::openat(scratch, name, dir_flags(), Mode::empty());
        let place = place.at(Stage::Root, "a tmpfs")?;
        let new = match overlay.old_mount_api {
            true => Err(Errno::INVAL),
            false => self.mount_new(overlay),
        };
        let done = match new {
            Ok(tree) => attach(&tree, &place),
            // No `lowerdir+` before Linux 6.7.
            Err(Errno::INVAL) => self.mount_old(overlay, scratch, name),
            Err(errno) => Err(errno),
        };
        done.at(Stage::Root, &overlay.upper)
    }

    /// Mounts the lowest directories in bundles, where there are too many for one mount.
    fn bundle(&mut self, overlay: &Overlay, scratch: &OwnedFd, name: &str) -> Result<(), Failure> {
        let count = self.lowers.len();
        // Each bundle takes one of the places it frees.
        let bundles = count.saturating_sub(MAX_LOWERS).div_ceil(MAX_LOWERS - 1);
        let kept = count.saturating_sub(bundles * MAX_LOWERS);
        let mut lowest = self.lowers.split_off(kept).into_iter().peekable();
        for number in 0..bundles {
            let name = format!("{name}-{number}");
            let made = rustix::fs::mkdirat(scratch, &name, Mode::from_raw_mode(0o755));
            made.at(Stage::Root, "a tmpfs")?;
            let bundle = Self {
                lowers: lowest.by_ref().take(MAX_LOWERS).collect(),
                top: None,
            };
            bundle.mount(overlay, scratch, &name)?;
            let mounted = rustix::fs::openat(scratch, &name, dir_flags(), Mode::empty());
            self.lowers.push(mounted.at(Stage::Root, "a tmpfs")?);
        }
        self.lowers.extend(lowest);
        Ok(())
    }

    fn mount_new(&self, overlay: &Overlay) -> Result<OwnedFd, Errno> {
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in &self.lowers {
            fsconfig_set_string(&context, "lowerdir+", name(lower))?;
        }
        if let Some((upper, work)) = &self.top {
            fsconfig_set_string(&context, "upperdir", name(upper))?;
            fsconfig_set_string(&context, "workdir", name(work))?;
            if overlay.volatile {
                fsconfig_set_flag(&context, "volatile")?;
            }
        }
        fsconfig_set_string(&context, "source", "overlay")?;
        for (key, value) in plain_options(overlay) {
            match value {
                Some(value) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, key)?,
            }
        }
        fsconfig_create(&context)?;
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
    }

    /// Mounts them for [`mount_overlay`]; `scratch` is where that may have to happen.
    fn mount_aside(&self, overlay: &Overlay, scratch: &OwnedFd) -> Result<OwnedFd, Errno> {
        let new = match overlay.old_mount_api {
            true => Err(Errno::INVAL),
            false => self.mount_new(overlay),
        };
        if !matches!(new, Err(Errno::INVAL)) {
            return new;
        }
        // The caller's paths are relative to where it is.
        let here = rustix::fs::open(".", dir_flags(), Mode::empty())?;
        let mounted = self.mount_old(overlay, scratch, "root");
        rustix::process::fchdir(&here)?;
        mounted?;
        copy(scratch, "root", false)
    }

    /// mount(2) takes one page of options, so the directories are named by descriptor number,
    /// relative to `/proc/self/fd`.
    fn mount_old(&self, overlay: &Overlay, scratch: &OwnedFd, name: &str) -> Result<(), Errno> {
        let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
        let lowers: Vec<String> = self.lowers.iter().map(number).collect();
        let mut data = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = &self.top {
            data += &format!(",upperdir={},workdir={}", number(upper), number(work));
            if overlay.volatile {
                data += ",volatile";
            }
        }
        for (key, value) in plain_options(overlay) {
            data.push(',');
            data.push_str(key);
            if let Some(value) = value {
                data.push('=');
                data.push_str(value);
            }
        }
        rustix::process::chdir("/proc/self/fd")?;
        let target = format!("{}/{name}", scratch.as_raw_fd());
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        let flags = MountFlags::empty();
        rustix::mount::mount("overlay", target, "overlay", flags, data.as_c_str())
    }
}

/// Mounts an overlay that is attached nowhere: it is there while the descriptor is open.
pub(in crate::sandbox) fn mount_overlay(overlay: &Overlay) -> Result<OwnedFd, Failure> {
    let mut dirs = Dirs::open(overlay)?;
    if let ([], Some((upper, _))) = (&dirs.lowers[..], &dirs.top) {
        // No overlay is without a lower directory. The upper one alone shows the same.
        return copy(upper, "", false).at(Stage::Root, &overlay.upper);
    }
    if dirs.lowers.len() <= MAX_LOWERS && !overlay.old_mount_api {
        match dirs.mount_new(overlay) {
            // No `lowerdir+` before Linux 6.7.
            Err(Errno::INVAL) => {}
            done => return done.at(Stage::Root, &overlay.upper),
        }
    }
    // Bundles, and what mount(2) makes, have to stand somewhere until there is a descriptor.
    let scratch = make_scratch(&overlay.work).at(Stage::Root, "a tmpfs")?;
    let mounted = dirs.bundle(overlay, &scratch, "bundle");
    let mounted = mounted.and_then(|()| {
        dirs.mount_aside(overlay, &scratch)
            .at(Stage::Root, &overlay.upper)
    });
    drop(dirs);
    let gone = rustix::mount::unmount(&overlay.work, UnmountFlags::DETACH);
    gone.at(Stage::Root, "a tmpfs")?;
    mounted
}
