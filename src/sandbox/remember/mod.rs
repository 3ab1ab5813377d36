//! One id, and yet owners: answers the calls that need more than the user namespace has.
//!
//! Where only one id is mapped the kernel refuses chown(2) to any other, device nodes, and
//! setuid(2) with its family. A seccomp filter on the program hands these calls to a thread of the
//! calling process, which does what can be done, remembers what was asked for
//! ([`crate::owners`]) and answers that it was done:
//!
//! - an owner goes into an attribute of the very file, opened as the program would have opened it;
//!   one of a link or special file is kept here and written to its directory at the end;
//! - a device node is an empty file with an attribute;
//! - ids of processes are kept here, and which of them are a process's rides in a limit of the
//!   process that nobody uses (the soft RLIMIT_RTTIME): fork and exec hand it on, and no pid has
//!   to be believed.
//!
//! Promise: paths of the program are resolved by a thread whose root directory is the program's,
//! without magic links, so nothing outside is reached whatever they hold, and arguments are
//! copied once before they are looked at. Limits: stat(2) shows owners as the kernel has them,
//! since answering what programs call most would make each of them several times as slow; what
//! looks for an owner other than root's right after giving a file away does not find it, and what
//! insists on root's, as sshd and sudo do, does;
//! what another user than root creates is root's until it is given away; a program that sets
//! RLIMIT_RTTIME itself is root again.

mod calls;
mod filter;
mod identity;
mod links;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::process::Pid;

use crate::sys::notify;

use super::caps::Caps;
use super::sockets::Requests;

pub(super) use filter::program;
pub(super) use links::LinkOwners;

/// The thread that answers, and what it remembers.
#[derive(Debug)]
pub(super) struct Supervisor {
    thread: JoinHandle<()>,
    links: Arc<LinkOwners>,
}

impl Supervisor {
    /// Starts answering. `init` is a process of the sandbox that has entered its root; `base` is
    /// the directory that takes the root's writes, if owners of links are to be kept; `sockets`
    /// answers for 32-bit programs, if they are asked about.
    pub(super) fn start(
        listener: OwnedFd,
        init: Pid,
        base: Option<OwnedFd>,
        caps: Caps,
        sockets: Option<Requests>,
    ) -> io::Result<Self> {
        // Only faster with it.
        let _ = notify::prefer_one_processor(listener.as_fd());
        let links = Arc::new(LinkOwners::new(base));
        let mut server = calls::Server::new(listener, init, Arc::clone(&links), caps, sockets)?;
        let thread = std::thread::Builder::new()
            .name("owners".to_owned())
            .spawn(move || {
                // Whoever calls after this gets ENOSYS from the kernel, so it is noticed.
                if notify::unshare_directories().is_ok() {
                    while notify::wait(server.listener()) {
                        server.serve();
                    }
                }
            })?;
        Ok(Self { thread, links })
    }

    /// Waits for the last answer, once every process of the sandbox has ended, and writes down
    /// what is only remembered here.
    pub(super) fn finish(self) -> io::Result<()> {
        // A panic of the thread has been printed; what it remembered is still right.
        let _ = self.thread.join();
        self.links.write_down()
    }
}
