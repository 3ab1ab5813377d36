//! The root file system and the plan's mounts, put together beside the host's tree.
//!
//! Everything is made as a detached tree and moved by descriptor. The root stands on a scratch
//! tmpfs in a corner of the host's tree; absolute paths still mean the host, until
//! [`Root::enter`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, move_mount, open_tree,
};

use crate::sys::mount::{Attributes, NODEV, NOEXEC, NOSUID, RDONLY, set_attributes};

use super::super::error::{Failure, Stage};
use super::super::plan::{
    Access, Content, Mount, MountKind, Overlay, Plan, Propagation, Rootfs, Source,
};
use super::At;
use super::overlay::Dirs;
use super::place::{Places, Want, open_inside, stands_inside};

/// The mounted root and the tmpfs it stands on.
pub(super) struct Root {
    pub(super) fd: OwnedFd,
    /// Holds `empty` (a directory to mask others with), `root`, and the file mounts.
    pub(super) scratch: OwnedFd,
    /// Mounts of the plan that are shared with the host, by their place in it.
    shared: BTreeMap<usize, OwnedFd>,
}

/// A detached tree on `fs`, with `options` (a `None` value is a flag).
pub(super) fn make(
    fs: &str,
    options: &[(&str, Option<&str>)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What /proc/mounts shows in the first column.
    fsconfig_set_string(&context, "source", fs)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, *key, *value)?,
            None => fsconfig_set_flag(&context, *key)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached copy of what is mounted at `path` below `dir`.
pub(super) fn copy(
    dir: impl AsFd,
    path: impl rustix::path::Arg,
    recursive: bool,
) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags | OpenTreeFlags::AT_EMPTY_PATH)
}

/// Puts the detached `tree` on top of `target`.
pub(super) fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// Steps 2 and 3 of the order.
pub(super) fn mount(plan: &Plan) -> Result<Root, Failure> {
    // Copies stay what they are when the rest is cut off.
    let mut shared = BTreeMap::new();
    for (index, mount) in plan.mounts.iter().enumerate() {
        if let (Propagation::Shared, MountKind::Bind { source, recursive }) =
            (mount.propagation, &mount.kind)
        {
            let tree = bind_source(source, *recursive, None, &mount.target)?;
            shared.insert(index, tree);
        }
    }
    let follows = |mount: &Mount| mount.propagation == Propagation::Follows;
    let how = match plan.mounts.iter().any(follows) {
        true => MountPropagationFlags::DOWNSTREAM,
        false => MountPropagationFlags::PRIVATE,
    };
    rustix::mount::mount_change("/", how | MountPropagationFlags::REC).at(Stage::Private, "/")?;
    // Opened before the scratch tmpfs covers one of them.
    let dirs = match &plan.rootfs {
        Rootfs::Overlay(overlay) if !overlay.lowers.is_empty() => Some(Dirs::open(overlay)?),
        _ => None,
    };
    let covered = match &plan.rootfs {
        Rootfs::Overlay(overlay) => overlay.work.as_path(),
        Rootfs::Directory { .. } => Path::new("/"),
    };
    let scratch = make_scratch(covered).at(Stage::Root, "a tmpfs")?;
    let place = rustix::fs::openat(&scratch, "root", dir_flags(), Mode::empty());
    let place = place.at(Stage::Root, "a tmpfs")?;
    match (&plan.rootfs, dirs) {
        (Rootfs::Overlay(overlay), Some(dirs)) => dirs.mount(overlay, &scratch, "root")?,
        (Rootfs::Overlay(overlay), None) => bind_root(&overlay.upper, &place)?,
        (Rootfs::Directory { path }, _) => bind_root(path, &place)?,
    }
    let fd = rustix::fs::openat(&scratch, "root", dir_flags(), Mode::empty());
    Ok(Root {
        fd: fd.at(Stage::Root, "a tmpfs")?,
        scratch,
        shared,
    })
}

pub(super) fn dir_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The scratch tmpfs covers the overlay's `work` directory, where nobody else has business, so
/// that it goes away together with the host's tree. A plain root directory has no such place;
/// then it covers `/` and takes an unmount of its own.
pub(super) fn make_scratch(covered: &Path) -> Result<OwnedFd, Errno> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let scratch = make("tmpfs", &[("mode", Some("0755"))], attributes)?;
    rustix::fs::mkdirat(&scratch, "empty", Mode::from_raw_mode(0o755))?;
    rustix::fs::mkdirat(&scratch, "root", Mode::from_raw_mode(0o755))?;
    move_mount(
        &scratch,
        "",
        CWD,
        covered,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(scratch)
}

fn bind_root(path: &Path, place: &OwnedFd) -> Result<(), Failure> {
    let tree = copy(CWD, path, true).at(Stage::Source, path)?;
    attach(&tree, place).at(Stage::Root, path)
}

/// Step 5 of the order.
pub(super) fn mount_all(
    plan: &Plan,
    mount_fds: &[Option<i32>],
    root: &mut Root,
    places: &mut Places,
) -> Result<(), Failure> {
    let mut order: Vec<usize> = (0..plan.mounts.len()).collect();
    order.sort_by_key(|&index| plan.mounts[index].target.components().count());
    for index in order {
        let mount = &plan.mounts[index];
        let target = mount.target.as_path();
        let inherited = mount_fds.get(index).copied().flatten();
        let (tree, want, recursive) = match &mount.kind {
            MountKind::Bind { source, recursive } => {
                let tree = match root.shared.remove(&index) {
                    Some(tree) => tree,
                    None => bind_source(source, *recursive, inherited, target)?,
                };
                let stat = rustix::fs::fstat(&tree).at(Stage::Source, target)?;
                (tree, Want::like(&stat), *recursive)
            }
            MountKind::Layers { overlay, path } => {
                let tree = root.layers(index, overlay, path)?;
                let stat = rustix::fs::fstat(&tree).at(Stage::Source, target)?;
                (tree, Want::like(&stat), false)
            }
            MountKind::Tmpfs {
                size,
                inodes,
                mode,
                owner,
            } => {
                let owner = (!plan.remember_owners).then_some(*owner);
                let tree = tmpfs(*size, *inodes, *mode, owner).at(Stage::Mount, target)?;
                (tree, Want::Directory, false)
            }
            MountKind::File {
                content,
                mode,
                uid,
                gid,
            } => {
                let tree = root.file(index, content, *mode, (*uid, *gid));
                (tree.at(Stage::Mount, target)?, Want::File, false)
            }
        };
        let attributes = Attributes {
            set: bits(mount.access),
            private: mount.propagation == Propagation::Private,
            recursive,
        };
        set_attributes(&tree, attributes).at(Stage::Mount, target)?;
        let place = places.find_or_make(target, want)?;
        attach(&tree, &place).at(Stage::Mount, target)?;
    }
    Ok(())
}

fn bits(access: Access) -> u64 {
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    bit(access.read_only, RDONLY)
        | bit(access.nosuid, NOSUID)
        | bit(access.nodev, NODEV)
        | bit(access.noexec, NOEXEC)
}

fn bind_source(
    source: &Source,
    recursive: bool,
    inherited: Option<i32>,
    target: &Path,
) -> Result<OwnedFd, Failure> {
    match (source, inherited) {
        (Source::Path(path), _) => copy(CWD, path, recursive).at(Stage::Source, path),
        (Source::Below { dir, path }, _) => {
            let top = rustix::fs::open(dir, dir_flags() - OFlags::NOFOLLOW, Mode::empty());
            let top = top.at(Stage::Source, dir)?;
            let found = open_inside(&top, path, OFlags::PATH).at(Stage::Source, path)?;
            copy(&found, "", recursive).at(Stage::Source, path)
        }
        (Source::Fd(_), Some(fd)) => crate::sys::fd::inherited(fd).at(Stage::Source, target),
        (Source::Fd(_), None) => Err(Failure::setup(Stage::Source, target, Errno::BADF)),
    }
}

/// A tmpfs of `size` bytes and `inodes` files whose root has `mode` and `owner`.
fn tmpfs(
    size: Option<u64>,
    inodes: Option<u64>,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<OwnedFd, Errno> {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let given = [
        ("mode", Some(format!("{mode:o}"))),
        ("size", number(size)),
        ("nr_inodes", number(inodes)),
        ("uid", number(owner.map(|(uid, _)| uid.into()))),
        ("gid", number(owner.map(|(_, gid)| gid.into()))),
    ];
    let given = given.iter().filter(|(_, value)| value.is_some());
    let options: Vec<_> = given.map(|(key, value)| (*key, value.as_deref())).collect();
    make("tmpfs", &options, MountAttrFlags::empty())
}

impl Root {
    /// A detached mount of what `path` leads to inside the stack of `overlay`.
    fn layers(&self, index: usize, overlay: &Overlay, path: &Path) -> Result<OwnedFd, Failure> {
        let name = format!("layers{index}");
        let made = rustix::fs::mkdirat(&self.scratch, &name, Mode::from_raw_mode(0o755));
        made.at(Stage::Source, path)?;
        let open = || rustix::fs::openat(&self.scratch, &name, dir_flags(), Mode::empty());
        if overlay.lowers.is_empty() {
            bind_root(&overlay.upper, &open().at(Stage::Source, path)?)?;
        } else {
            Dirs::open(overlay)?.mount(overlay, &self.scratch, &name)?;
        }
        // Opened again, this is the top of what was mounted.
        let top = open().at(Stage::Source, path)?;
        let found = open_inside(&top, path, OFlags::PATH).at(Stage::Source, path)?;
        copy(&found, "", false).at(Stage::Source, path)
    }

    /// A detached mount of a new file on the scratch tmpfs.
    fn file(
        &self,
        index: usize,
        content: &Content,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> std::io::Result<OwnedFd> {
        use rustix::process::{Gid, Uid};
        let name = format!("file{index}");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.scratch, &name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        file.write_all(&content.0)?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(copy(&self.scratch, name, false)?)
    }

    /// Makes this `/` and lets go of the host's tree.
    pub(super) fn enter(self, read_only: bool) -> Result<(), Failure> {
        if read_only {
            let what = Attributes {
                set: RDONLY,
                ..Attributes::default()
            };
            set_attributes(&self.fd, what).at(Stage::ReadOnly, "/")?;
        }
        let pivot = || {
            let old = rustix::fs::open("/", dir_flags(), Mode::empty())?;
            rustix::process::fchdir(&self.fd)?;
            // Both on one place: the old root then covers the new one (pivot_root(2), notes).
            // More may stand on its `/`, the scratch tmpfs for one; each call takes away what is
            // topmost, until the old root can't be reached.
            rustix::process::pivot_root(".", ".")?;
            rustix::process::fchdir(&old)?;
            while stands_inside()? {
                rustix::mount::unmount(".", UnmountFlags::DETACH)?;
            }
            rustix::process::chdir("/")
        };
        pivot().at(Stage::Pivot, "/")
    }
}
