//! Mount points that were missing, and how they vanish again.
//!
//! A mount needs something to cover. What is missing is created by the child below a
//! descriptor of the root, one component at a time, before any of the image's code runs, and
//! each thing created is noted with its change time. Creating in an overlay also copies up the
//! parent, which is noted too. After the program has ended and its mounts are gone, the parent
//! process looks at the same names below a descriptor of the upper directory, never following
//! a link, and takes away what nobody has touched: same kind, same change time, empty. What the
//! program did touch stays, whatever it is by then (CVE-2024-23652).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use super::wire;

/// What a child created, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stubs(pub(super) Vec<Stub>);

/// One directory or file that is there because of us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stub {
    /// Its names from the root down; none is `.`, `..` or a symbolic link.
    #[serde(with = "wire::names")]
    pub(super) names: Vec<OsString>,
    pub(super) kind: Kind,
    /// Change time (seconds, nanoseconds) when the child was done with it.
    pub(super) changed: (i64, i64),
}

/// How a stub came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A directory of ours.
    Directory,
    /// An empty file of ours.
    File,
    /// A directory of the image in which something was created. Its times before that are
    /// kept; `copied_up` says that the upper directory did not have it before.
    Parent {
        accessed: (i64, i64),
        modified: (i64, i64),
        copied_up: bool,
    },
}

/// Opens the directory that stubs are made in, and says to other sandboxes that it is in use.
pub(super) fn open_base(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::fs::flock(&base, FlockOperation::LockShared)?;
    Ok(base)
}

/// The change time of `stat`.
pub(super) fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime, stat.st_ctime_nsec as i64)
}

impl Stubs {
    /// Removes from below `base` (the upper or root directory) what nobody touched.
    ///
    /// Only unexpected answers are errors; a stub that is gone or changed is left as it is.
    pub(super) fn remove(&self, base: &OwnedFd) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        // Removing a directory unmounts what other mount namespaces have on it. If another
        // sandbox runs on the same directory (it holds the shared lock that we held so far),
        // what was made stays for it.
        match rustix::fs::flock(base, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        // Judge all before removing any: a removal changes the parent's change time.
        let untouched: Vec<bool> = self
            .0
            .iter()
            .map(|stub| stub.is_untouched(base))
            .collect::<io::Result<_>>()?;
        let untouched = self
            .0
            .iter()
            .zip(untouched)
            .filter(|(_, untouched)| *untouched);
        for (stub, _) in untouched.rev() {
            stub.remove(base)?;
        }
        Ok(())
    }
}

impl Stub {
    /// The directory this stub is in, reached without following a link.
    fn parent(&self, base: &OwnedFd) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = rustix::io::fcntl_dupfd_cloexec(base, 3)?;
        for name in self
            .names
            .split_last()
            .map_or(&[][..], |(_, parents)| parents)
        {
            match rustix::fs::openat(&at, name, flags, Mode::empty()) {
                Ok(fd) => at = fd,
                // The program removed or replaced it: nothing of ours is left there.
                Err(error) if is_gone(error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(at))
    }

    /// Whether it is still what the child left. The root directory itself has no name and
    /// counts by its own times.
    fn is_untouched(&self, base: &OwnedFd) -> io::Result<bool> {
        let Some(parent) = self.parent(base)? else {
            return Ok(false);
        };
        let stat = match self.names.last() {
            Some(name) => rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW),
            None => rustix::fs::statat(&parent, "", AtFlags::EMPTY_PATH),
        };
        match stat {
            Ok(stat) => Ok(changed(&stat) == self.changed),
            Err(error) if is_gone(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, base: &OwnedFd) -> io::Result<()> {
        let Some(parent) = self.parent(base)? else {
            return Ok(());
        };
        let Some(name) = self.names.last() else {
            return self.restore_times(&parent, None);
        };
        let flags = match self.kind {
            Kind::File => AtFlags::empty(),
            Kind::Directory
            | Kind::Parent {
                copied_up: true, ..
            } => AtFlags::REMOVEDIR,
            Kind::Parent {
                copied_up: false, ..
            } => {
                return self.restore_times(&parent, Some(name));
            }
        };
        match rustix::fs::unlinkat(&parent, name, flags) {
            Ok(()) => Ok(()),
            // Something else is in there, so it is needed; but its times can be put back.
            Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {
                self.restore_times(&parent, Some(name))
            }
            Err(error) if is_gone(error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn restore_times(&self, parent: impl AsFd, name: Option<&OsString>) -> io::Result<()> {
        let Kind::Parent {
            accessed, modified, ..
        } = self.kind
        else {
            return Ok(());
        };
        let times = timestamps(accessed, modified);
        match name {
            Some(name) => {
                rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            // O_PATH descriptors can't take futimens; "." names the same directory.
            None => rustix::fs::utimensat(parent, ".", &times, AtFlags::empty())?,
        }
        Ok(())
    }
}

/// Both times in the kernel's form.
pub(super) fn timestamps(accessed: (i64, i64), modified: (i64, i64)) -> Timestamps {
    let time = |(sec, nsec): (i64, i64)| Timespec {
        tv_sec: sec,
        tv_nsec: nsec as _,
    };
    Timestamps {
        last_access: time(accessed),
        last_modification: time(modified),
    }
}

fn is_gone(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Whether the directory `names` exists below `base` itself, not counting any link.
pub(super) fn exists_below(base: &Path, names: &[OsString]) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, base, flags - OFlags::NOFOLLOW, Mode::empty())?;
    for name in names {
        match rustix::fs::openat(&at, name, flags, Mode::empty()) {
            Ok(fd) => at = fd,
            Err(error) if is_gone(error) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}
