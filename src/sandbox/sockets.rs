//! Sockets for 32-bit programs: the answers to socketcall(2) under docker's profile.
//!
//! glibc for i386 makes its sockets by `socketcall`, whose arguments are in memory, where no
//! filter can see which family is wanted. So the calling process is asked: it copies the
//! arguments once, refuses the families that socket(2) refuses (AF_ALG first of all), has the
//! socket made by the sandbox's init, which is in the right network, and hands it over. All other
//! uses of `socketcall` take a descriptor and pass the filter.
//!
//! Promise: what was looked at is what is made; nothing is read again from the program's memory.
//! Limits: the init has no capability for it, so raw and packet sockets are refused this way; and
//! without an init (`--init=false`) the call is as good as absent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::sys;
use crate::sys::notify::{self, Call, Reply};

use super::plan::Plan;
use super::report::{receive, send};
use super::seccomp::abi::Abi;
use super::seccomp::docker::has_family;
use super::seccomp::{Seccomp, Socketcall};

/// What becomes of such calls in a sandbox of `plan`.
pub(super) fn decide(plan: &Plan) -> Socketcall {
    let possible = Abi::with_socketcall().is_some();
    match (possible && plan.init, &plan.seccomp, plan.remember_owners) {
        (true, Seccomp::Docker, false) => Socketcall::Asked,
        (true, Seccomp::Docker, true) => Socketcall::Passed,
        _ => Socketcall::Absent,
    }
}

/// The three arguments of socket(2).
type Arguments = [i32; 3];

/// The init's end: where it is asked for sockets.
#[derive(Debug)]
pub(super) struct Maker(OwnedFd);

/// The calling process's end.
#[derive(Debug)]
pub(super) struct Requests(OwnedFd);

/// Makes the two ends.
pub(super) fn ends() -> io::Result<(Maker, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    let (maker, requests) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok((Maker(maker), requests))
}

impl Maker {
    /// Makes one socket that is asked for; false when nobody will ask any more.
    pub(super) fn serve(&self) -> bool {
        let Ok(Some(([family, kind, protocol], _))) = receive::<Arguments>(&self.0) else {
            return false;
        };
        let made = sys::net::socket(family, kind, protocol);
        let errno = made.as_ref().err().map_or(0, number);
        send(&self.0, &errno, made.as_ref().ok().map(AsFd::as_fd)).is_ok()
    }
}

impl AsFd for Maker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Requests {
    /// Takes over what [`ends`] made for the calling process.
    pub(super) fn new(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Answers a `socketcall` that asks for a socket.
    pub(super) fn answer(&self, listener: BorrowedFd<'_>, call: &Call) {
        let done = self.make(listener, call).and_then(|(socket, closes)| {
            notify::reply_descriptor(listener, call.id, socket.as_fd(), closes)
        });
        if let Err(error) = done {
            // A caller that died meanwhile needs no answer.
            let _ = notify::reply(listener, call.id, Reply::Error(number(&error)));
        }
    }

    fn make(&self, listener: BorrowedFd<'_>, call: &Call) -> io::Result<(OwnedFd, bool)> {
        let mut bytes = [0; size_of::<Arguments>()];
        // A pointer of 32 bits.
        let address = u64::from(call.args[1] as u32);
        if notify::read_memory(call.pid, address, &mut bytes)? < bytes.len() {
            return Err(Errno::FAULT.into());
        }
        if !notify::waits(listener, call.id) {
            // It may have been another process's memory.
            return Err(Errno::SRCH.into());
        }
        let word = |at: usize| {
            i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let arguments: Arguments = [word(0), word(4), word(8)];
        if !has_family(arguments[0] as u32) {
            return Err(Errno::PERM.into());
        }
        // Without anybody to make it, the call is as good as absent.
        send(&self.0, &arguments, None).map_err(|_| Errno::NOSYS)?;
        match receive::<i32>(&self.0)? {
            Some((0, Some(socket))) => Ok((socket, arguments[1] & libc::SOCK_CLOEXEC != 0)),
            Some((errno @ 1.., _)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(Errno::NOSYS.into()),
        }
    }
}

/// Answers all such calls on a thread of its own, until nobody is left who could call.
pub(super) fn answer_all(listener: OwnedFd, requests: Requests) -> io::Result<()> {
    let serve = move || {
        while notify::wait(listener.as_fd()) {
            if let Ok(call) = notify::receive(listener.as_fd()) {
                requests.answer(listener.as_fd(), &call);
            }
        }
    };
    let thread = std::thread::Builder::new().name("sockets".to_owned());
    thread.stack_size(STACK).spawn(serve).map(drop)
}

/// Bytes of the thread's stack: messages are read into the heap.
const STACK: usize = 128 << 10;

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
