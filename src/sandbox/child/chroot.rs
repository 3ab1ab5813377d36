//! A root without namespaces: chroot(2), for root of a container that may do nothing more.
//!
//! Nothing can be mounted, so the root must hold all that the program needs. Its processes are
//! those of the machine: they are kept track of by the init, which takes in every orphan among
//! them (`PR_SET_CHILD_SUBREAPER`) and kills until none is left. Where the kernel can (Linux
//! 6.12), signals and abstract sockets of the program stay among themselves; elsewhere a note says
//! that they don't, and then a program that kills the init leaves processes behind.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys;
use crate::sys::process::reap;

use super::super::error::{Failure, Stage};
use super::super::plan::{Plan, Rootfs};
use super::super::report::Note;
use super::At;

/// What is left of the world outside once the root was changed.
pub(super) struct Outside {
    /// The kernel's list of this process's children.
    children: File,
    /// The machine's `/dev/null`.
    pub(super) null: OwnedFd,
    /// The rules that the program is put under, where there are any.
    pub(super) scope: Option<OwnedFd>,
}

/// Makes the plan's root directory `/`.
pub(super) fn enter(plan: &Plan, notes: &mut Vec<Note>) -> Result<Outside, Failure> {
    let Rootfs::Directory { path } = &plan.rootfs else {
        return Err(Failure::setup(Stage::Pivot, "/", Errno::INVAL));
    };
    // An init that is killed with its parent could not kill anybody: its lifeline tells it.
    rustix::process::set_parent_process_death_signal(None).at(Stage::Family, "the program")?;
    let own = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(own).at(Stage::Family, "the program")?;
    let children = File::open("/proc/thread-self/children").at(Stage::Family, "the program")?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, Mode::empty());
    let null = null.at(Stage::Source, "/dev/null")?;
    let scope = sys::landlock::scope().ok();
    if scope.is_none() {
        notes.push(Note::OpenSignals);
    }
    let change = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        rustix::process::fchdir(&root)?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    change().at(Stage::Pivot, path)?;
    Ok(Outside {
        children,
        null,
        scope,
    })
}

impl Outside {
    /// Kills all children and what becomes one by that, until there is none.
    pub(super) fn end_all(&mut self) {
        loop {
            for pid in self.children() {
                // Gone is as good as killed.
                let _ = sys::signal::send(pid, libc::SIGKILL);
            }
            match reap() {
                Ok(Some(_)) => {}
                // They are dying, or somebody became one meanwhile.
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                // ECHILD: nobody is left.
                Err(_) => return,
            }
        }
    }

    fn children(&mut self) -> Vec<i32> {
        let mut text = String::new();
        // What can't be read now is read in the next round.
        let _ = self.children.rewind();
        let _ = self.children.read_to_string(&mut text);
        text.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}
