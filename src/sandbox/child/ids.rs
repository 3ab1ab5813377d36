//! The user namespace of a program whose ids are others than those around it.
//!
//! Everything that is mounted belongs to our namespace; only programs live in this one. So they
//! have no power over mounts and network, capabilities or not, and an id of theirs is in files
//! what [`IdSwap`] makes of it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys::process::{Fork, exit_now, fork, unshare_user};

use super::super::error::{Failure, Stage};
use super::super::ids::IdSwap;
use super::super::report::{Message, send};
use super::{At, Session};

/// Makes the namespace that `ids` asks for, and tells the parent of it, so that others can
/// [`enter`] it later. `/proc` shows this process by now.
pub(super) fn make(session: &Session, ids: Option<IdSwap>) -> Result<Option<OwnedFd>, Failure> {
    let Some(ids) = ids else { return Ok(None) };
    let made = namespace(ids).at(Stage::Ids, "the program")?;
    if let Some(report) = &session.report {
        send(report, &Message::Ids, Some(made.as_fd())).at(Stage::Plan, "the parent")?;
    }
    Ok(Some(made))
}

/// Becomes a process of the namespace.
pub(super) fn enter(namespace: &OwnedFd) -> Result<(), Failure> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))
        .at(Stage::Ids, "the program")
}

/// Makes a namespace by way of a process that lives as long as it takes to write its maps and to
/// open it.
fn namespace(ids: IdSwap) -> io::Result<OwnedFd> {
    let maps = ids.maps()?;
    let (ready, readies) = pipe_with(PipeFlags::CLOEXEC)?;
    let (end, ends) = pipe_with(PipeFlags::CLOEXEC)?;
    let pid = match fork()? {
        Fork::Child => {
            drop(ends);
            if unshare_user().is_ok() && rustix::io::write(&readies, b"0").is_ok() {
                // The end of the other pipe, and of this process.
                let _ = rustix::io::read(&end, &mut [0; 1]);
            }
            exit_now(0)
        }
        Fork::Parent(pid) => pid,
    };
    drop(readies);
    let opened = match rustix::io::read(&ready, &mut [0; 1]) {
        Ok(1) => open(pid, &maps),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EPERM)),
        Err(errno) => Err(errno.into()),
    };
    drop(ends);
    waitpid(Pid::from_raw(pid), WaitOptions::empty())?;
    opened
}

fn open(pid: i32, [uids, gids]: &[String; 2]) -> io::Result<OwnedFd> {
    let place = PathBuf::from(format!("/proc/{pid}"));
    fs::write(place.join("uid_map"), uids)?;
    fs::write(place.join("gid_map"), gids)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        place.join("ns/user"),
        flags,
        Mode::empty(),
    )?)
}
