//! The small init: pid 1 of a sandbox whose program should not have to be one.
//!
//! It forwards every signal to the program, collects whatever dies, and ends with the program;
//! the kernel then ends all that is left in the pid namespace. It also ends when the other end
//! of its lifeline closes, which happens when the calling process dies in whatever way. Without
//! a pid namespace ([`super::chroot`]) it first ends everybody itself.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::sys::process::{Ended, Fork, exit_now, fork, reap};
use crate::sys::signal;

use super::super::error::{Failure, Stage};
use super::super::sockets::Maker;
use super::At;
use super::chroot::Outside;

/// Exit code of an init whose caller is gone; nobody is left to read it.
const ORPHANED: i32 = 125;

/// Exit code of an init that was told to kill everybody, as a shell has it.
const KILLED: i32 = 128 + libc::SIGKILL;

/// Which of the two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// pid 1, with the pid of the program.
    Init(i32),
    Program,
}

/// Becomes two processes.
pub(super) fn split() -> Result<Side, Failure> {
    match fork().at(Stage::Fork, "the program")? {
        Fork::Child => Ok(Side::Program),
        Fork::Parent(pid) => Ok(Side::Init(pid)),
    }
}

/// Serves as pid 1 until `program` has ended. Without a pid namespace, where the kernel does not,
/// it ends all that is left by way of `outside`. `maker` asks for sockets.
pub(super) fn serve(
    program: i32,
    lifeline: &OwnedFd,
    mut outside: Option<Outside>,
    mut maker: Option<Maker>,
) -> ! {
    // Each of these only narrows what an init could be abused for; it serves without as well.
    let _ = let_go_of_streams(outside.as_ref());
    let kill_only = CapabilitySets {
        effective: CapabilitySet::KILL,
        permitted: CapabilitySet::KILL,
        inheritable: CapabilitySet::empty(),
    };
    let _ = set_capabilities(None, kill_only);
    let Ok(signals) = signal::signalfd_all() else {
        exit_now(ORPHANED)
    };
    // The program may have ended before the descriptor existed.
    collect(program, lifeline, &mut outside);
    loop {
        let mut fds = vec![
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(lifeline, PollFlags::IN),
        ];
        fds.extend(maker.iter().map(|maker| PollFd::new(maker, PollFlags::IN)));
        // Interrupted or not, what is readable is looked at again.
        let _ = poll(&mut fds, None);
        let asked = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        if fds[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            end(&mut outside);
            exit_now(if outside.is_some() { KILLED } else { ORPHANED });
        }
        if asked {
            maker = maker.filter(Maker::serve);
        }
        while let Ok(Some(number)) = signal::next_signal(&signals) {
            if number == libc::SIGCHLD {
                collect(program, lifeline, &mut outside);
            } else {
                // It may be gone already; its SIGCHLD is then on the way.
                let _ = signal::send(program, number);
            }
        }
    }
}

/// Buries the dead; if the program is among them, passes its end on and ends as well.
fn collect(program: i32, lifeline: &OwnedFd, outside: &mut Option<Outside>) {
    while let Ok(Some((pid, ended))) = reap() {
        if pid != program {
            continue;
        }
        let (told, code) = match ended {
            Ended::Exited(code) => (code, code),
            Ended::Signaled(number) => (-number, 128 + number),
        };
        end(outside);
        // A caller that can't be told has our exit code.
        let _ = rustix::io::write(lifeline, &told.to_ne_bytes());
        exit_now(code);
    }
}

/// Ends what the kernel does not end with us.
fn end(outside: &mut Option<Outside>) {
    if let Some(outside) = outside {
        outside.end_all();
    }
}

/// Pipes must end when the program closes them, not when we do.
fn let_go_of_streams(outside: Option<&Outside>) -> std::io::Result<()> {
    let onto =
        |null: &OwnedFd| (0..=2).try_for_each(|number| crate::sys::fd::become_stdio(null, number));
    if let Some(outside) = outside {
        return onto(&outside.null);
    }
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOFOLLOW,
        rustix::fs::Mode::empty(),
    )?;
    onto(&null)
}
