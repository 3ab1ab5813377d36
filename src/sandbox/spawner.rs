//! The one thread of this process that starts children.
//!
//! The kernel's parent-death signal follows the *thread* that made a process. A thread that
//! lives as long as the process makes it follow the process, whichever thread called. It also
//! keeps all signals blocked, as [`crate::sys::process::spawn`] asks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{OnceLock, mpsc};

use rustix::process::Pid;

use crate::sys::process::{Fork, Spawn};

/// One request to the spawning thread.
struct Birth {
    argv0: &'static CStr,
    namespaces: i32,
    fds: Vec<OwnedFd>,
    answer: mpsc::SyncSender<io::Result<(i32, OwnedFd)>>,
}

/// Starts this program again in another [`Role`](super::child::Role), with `fds` as its only
/// descriptors from 0 up and all signals blocked; returns a pidfd. The new process outlives the
/// caller unless it sees to that itself.
///
/// Behind the caller's descriptors comes one of the executable, for
/// [`adopt_executable`](super::adopt_executable).
pub fn respawn(argv0: &'static CStr, mut fds: Vec<OwnedFd>) -> io::Result<OwnedFd> {
    fds.push(super::exe::sealed()?.try_clone()?);
    start(argv0, 0, fds).map(|(_, pidfd)| pidfd)
}

/// Goes on as another process, which is nobody's child: this one ends, so whoever started it need
/// not wait. It must have one thread.
pub fn go_on_alone() -> io::Result<()> {
    match crate::sys::process::fork()? {
        Fork::Child => Ok(()),
        Fork::Parent(_) => crate::sys::process::exit_now(0),
    }
}

/// Takes descriptor `number` of those that [`respawn`] was given; each can be taken once.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    crate::sys::fd::inherited(number)
}

/// Starts our child `argv0` in `namespaces` with `fds` as its only descriptors.
pub(super) fn start(
    argv0: &'static CStr,
    namespaces: i32,
    fds: Vec<OwnedFd>,
) -> io::Result<(Pid, OwnedFd)> {
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
            argv0,
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
        argv0,
        namespaces,
        fds,
        answer,
    }) = requests.recv()
    {
        let born = match &blocked {
            Ok(()) => give_birth(argv0, namespaces, &fds),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        // The child must be the only holder of its ends before the caller listens.
        drop(fds);
        // A caller that went away has dropped its child's lifeline too.
        let _ = answer.send(born);
    }
}

fn give_birth(argv0: &CStr, namespaces: i32, fds: &[OwnedFd]) -> io::Result<(i32, OwnedFd)> {
    let exe = super::exe::sealed()?;
    let argv = [argv0.to_owned()];
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    crate::sys::process::spawn(&Spawn {
        exe: exe.as_fd(),
        argv: &argv,
        fds: &fds,
        namespaces,
    })
}
