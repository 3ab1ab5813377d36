//! Reads the user database of the root that is mounted, and nothing else.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::error::{Failure, Stage};
use super::super::plan::Plan;
use super::super::user::{Identity, join, resolve};
use super::At;
use super::place::open_inside;

/// More than any honest database has; a longer file is refused, not read (T-DOS-4).
const LIMIT: u64 = 16 << 20;

/// Who the plan's user is in the root that is `/` by now.
pub(super) fn find(plan: &Plan) -> Result<Identity, Failure> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    let mut who = resolve(&plan.user, &passwd, &group).map_err(Failure::User)?;
    join(&mut who, &plan.groups.extra, &group).map_err(Failure::User)?;
    Ok(who)
}

/// A regular file inside the root; empty if there is none.
fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let opened = open(Path::new(path)).at(Stage::UserDatabase, path)?;
    let Some(file) = opened else {
        return Ok(Vec::new());
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file)
        .take(LIMIT + 1)
        .read_to_end(&mut bytes);
    let read = read.at(Stage::UserDatabase, path)?;
    match read as u64 > LIMIT {
        true => Err(Failure::setup(Stage::UserDatabase, path, Errno::FBIG)),
        false => Ok(bytes),
    }
}

fn open(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let open = |flags| open_inside(&root, path, flags);
    // Opening a FIFO would wait and opening a device would act, so look first. Programs of the
    // image run only when a sandbox is joined; what they put there in between is looked at again.
    let seen = match open(OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        seen => rustix::fs::fstat(seen?)?,
    };
    if FileType::from_raw_mode(seen.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    if seen.st_size as u64 > LIMIT {
        return Err(Errno::FBIG);
    }
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(Some(file)),
        _ => Err(Errno::INVAL),
    }
}
