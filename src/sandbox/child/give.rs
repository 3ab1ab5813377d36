//! Gives what is mounted to the program's user, as `U` of a volume asks for.
//!
//! It is walked below the mount's own descriptor, after the root has been entered: no link is
//! followed, and what is mounted further below is left alone. What already belongs to the user
//! is not touched, so the second start costs a look.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

use super::super::error::{Failure, Stage};
use super::super::plan::Plan;
use super::super::user::Identity;
use super::At;

/// Gives each mount of `plan` that is to be given to `who`. With one id there is nobody else.
pub(super) fn give(plan: &Plan, who: &Identity) -> Result<(), Failure> {
    if plan.remember_owners {
        return Ok(());
    }
    for mount in plan.mounts.iter().filter(|mount| mount.give) {
        let target = mount.target.as_path();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let top = rustix::fs::openat2(CWD, target, flags, Mode::empty(), resolve)
            .at(Stage::Owner, target)?;
        let (uid, gid) = plan.ids.unwrap_or_default().owner((who.uid, who.gid));
        let to = (Uid::from_raw(uid), Gid::from_raw(gid));
        let stat = rustix::fs::fstat(&top).at(Stage::Owner, target)?;
        hand_over(top.as_fd(), "", &stat, to).at(Stage::Owner, target)?;
        if is_directory(&stat) {
            below(&top, to).at(Stage::Owner, target)?;
        }
    }
    Ok(())
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Gives what `name` is in `dir`; `dir` itself if it is empty.
fn hand_over(
    dir: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    stat: &Stat,
    (uid, gid): (Uid, Gid),
) -> Result<(), Errno> {
    if (stat.st_uid, stat.st_gid) == (uid.as_raw(), gid.as_raw()) {
        return Ok(());
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)
}

/// Gives all that is below a directory.
fn below(dir: &OwnedFd, to: (Uid, Gid)) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let list = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&list)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // What another container removes meanwhile needs no owner.
        let stat = match rustix::fs::statat(&list, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if is_directory(&stat) {
            match rustix::fs::openat2(&list, name, flags, Mode::empty(), resolve) {
                // Another mount.
                Err(Errno::XDEV) => continue,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                inner => below(&inner?, to)?,
            }
        }
        match hand_over(list.as_fd(), name, &stat, to) {
            Err(Errno::NOENT) => {}
            done => done?,
        }
    }
    Ok(())
}
