//! The one thread of this process that starts children.
//!
//! The kernel's parent-death signal follows the *thread* that made a process. A thread that
//! lives as long as the process makes it follow the process, whichever thread called. It also
//! keeps all signals blocked, as [`crate::sys::process::spawn`] asks.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{OnceLock, mpsc};

use rustix::process::Pid;

use crate::sys::process::Spawn;

use super::child::SANDBOX_ARGV0;

/// One request to the spawning thread.
struct Birth {
    namespaces: i32,
    fds: Vec<OwnedFd>,
    answer: mpsc::SyncSender<io::Result<(i32, OwnedFd)>>,
}

/// Starts a sandbox's child in `namespaces` with `fds` as its only descriptors.
pub(super) fn start(namespaces: i32, fds: Vec<OwnedFd>) -> io::Result<(Pid, OwnedFd)> {
    static SPAWNER: OnceLock<mpsc::Sender<Birth>> = OnceLock::new();
    let spawner = match SPAWNER.get() {
        Some(spawner) => spawner,
        None => {
            let (send, receive) = mpsc::channel();
            std::thread::Builder::new()
                .name("spawner".into())
                .spawn(move || serve(&receive))?;
            // If two threads came here at once, the one too many ends with its channel.
            SPAWNER.get_or_init(|| send)
        }
    };
    let (answer, answered) = mpsc::sync_channel(1);
    let gone = || io::Error::from_raw_os_error(libc::ESRCH);
    spawner
        .send(Birth {
            namespaces,
            fds,
            answer,
        })
        .map_err(|_| gone())?;
    let (pid, pidfd) = answered.recv().map_err(|_| gone())??;
    Ok((Pid::from_raw(pid).ok_or_else(gone)?, pidfd))
}

fn serve(requests: &mpsc::Receiver<Birth>) {
    let blocked = crate::sys::signal::block_all();
    while let Ok(Birth {
        namespaces,
        fds,
        answer,
    }) = requests.recv()
    {
        let born = match &blocked {
            Ok(()) => give_birth(namespaces, &fds),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        // The child must be the only holder of its ends before the caller listens.
        drop(fds);
        // A caller that went away has dropped its child's lifeline too.
        let _ = answer.send(born);
    }
}

fn give_birth(namespaces: i32, fds: &[OwnedFd]) -> io::Result<(i32, OwnedFd)> {
    let exe = super::exe::sealed()?;
    let argv = [CString::from(SANDBOX_ARGV0)];
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    crate::sys::process::spawn(&Spawn {
        exe: exe.as_fd(),
        argv: &argv,
        fds: &fds,
        namespaces,
    })
}
