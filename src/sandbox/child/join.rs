//! A program more in a sandbox that runs: `cask exec`, health checks.
//!
//! This process enters the namespaces of the sandbox's init and splits. One half stays in the
//! caller's pid namespace, passes signals on and tells the end ([`super::init::serve`]); the
//! other is born inside, becomes the user with the plan's capabilities and executes the
//! program. It dies with the first half, and with the sandbox.
//!
//! Unlike at the start of a sandbox, programs of the image run meanwhile: whatever is looked up
//! by name is opened below the root and checked on the descriptor that is used.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::thread::ThreadNameSpaceType;

use crate::sys;

use super::super::error::{Failure, Stage};
use super::super::plan::{Network, WindowSize};
use super::super::report::{Envelope, Message, send};
use super::super::stubs::Stubs;
use super::super::tty::set_window_size;
use super::system::Terminal;
use super::{
    At, FIRST_MOUNT_FD, Session, exec, identity, init, isolate, offer_sockets, place, read_plan,
    set_oom_score,
};

/// `DEVPTS_SUPER_MAGIC` of statfs(2).
const DEVPTS: rustix::fs::FsWord = 0x1cd1;

pub(super) fn run(session: &mut Session) -> Result<Infallible, Failure> {
    isolate(&session.lifeline, c"cooper-init").at(Stage::Plan, "the parent")?;
    let Envelope {
        plan,
        filters,
        socketcall,
        group_fds,
        ids_fd,
        ..
    } = read_plan().at(Stage::Plan, "memfd")?;
    for door in group_fds {
        let door = sys::fd::inherited(door).at(Stage::Limits, "the program")?;
        rustix::io::write(&door, b"0").at(Stage::Limits, "the program")?;
    }
    set_oom_score(&plan)?;
    let ids = ids_fd.map(sys::fd::inherited).transpose();
    let ids = ids.at(Stage::Ids, "the program")?;
    let inside = sys::fd::inherited(FIRST_MOUNT_FD).at(Stage::Join, "the sandbox")?;
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    // The host's is ours already, and entering it again takes power over the host.
    if plan.network != Network::Host {
        namespaces |= ThreadNameSpaceType::NETWORK;
    }
    rustix::thread::move_into_thread_name_spaces(inside.as_fd(), namespaces)
        .at(Stage::Join, "the sandbox")?;
    drop(inside);
    let who = identity::find(&plan)?;
    let cwd = place::working_directory(&plan.cwd)?;
    let tty = plan.tty.map(terminal).transpose();
    let tty = tty.at(Stage::Terminal, "/dev/pts")?;
    if let Some(report) = &session.report {
        let ready = Message::Ready {
            notes: Vec::new(),
            stubs: Stubs::default(),
        };
        let master = tty.as_ref().map(|tty| tty.master.as_fd());
        send(report, &ready, master).at(Stage::Plan, "the parent")?;
    }
    let slave = tty.map(|tty| tty.slave);
    let maker = offer_sockets(session, socketcall)?;
    if let init::Side::Init(program) = init::split()? {
        drop((session.report.take(), slave, cwd, ids));
        init::serve(program, &session.lifeline, None, maker)
    }
    drop(maker);
    // With the other half the program loses whoever waits for it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(Stage::Join, "the sandbox")?;
    rustix::process::setsid().at(Stage::Terminal, "an own session")?;
    let plan = super::super::plan::Plan {
        init: false,
        ..plan
    };
    let confine = exec::Confine {
        filters,
        socketcall,
        scope: None,
        ids,
    };
    exec::become_program(&plan, &confine, &who, &cwd, slave, session.report.as_ref())
}

/// A terminal of the sandbox's devpts, and of nothing that lies there instead.
fn terminal(size: WindowSize) -> Result<Terminal, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let master = rustix::fs::openat2(CWD, "/dev/pts/ptmx", flags, Mode::empty(), resolve)?;
    if rustix::fs::fstatfs(&master)?.f_type != DEVPTS {
        return Err(Errno::NOTTY);
    }
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave: OwnedFd = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    set_window_size(&slave, size).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(Terminal { master, slave })
}
